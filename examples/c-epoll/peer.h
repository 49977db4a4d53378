/* One client: its TCP socket, its WebSocket framing (wslay), and its connection in the hub. */
#ifndef PEER_H
#define PEER_H

#include <pthread.h>
#include <stdbool.h>

#include "fidibus.h"

struct peer;

/* The loop that peers belong to. The hub's threads only touch what the mutex guards. */
struct loop {
    int epoll;
    /* An eventfd: a peer was woken. */
    int bell;
    fidibus_hub *hub;
    pthread_mutex_t mutex;
    struct wake *woken;
    struct peer *peers;
};

/* Takes on an accepted socket. */
struct peer *peer_open(struct loop *loop, int fd, const char *client_ip);

/* The socket is readable or writable. The peer may be gone afterwards. */
void peer_ready(struct peer *peer, bool readable, bool writable);

/* The bell rang: serves all peers that were woken. */
void peers_woken(struct loop *loop);

/* Ends a peer without a word. */
void peer_free(struct peer *peer);

#endif
