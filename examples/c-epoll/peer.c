/* The way of a frame: socket → wslay → fidibus_connection_receive, and back: fidibus_connection_poll_frame → wslay
 * → socket. Both directions stop when the other side is full, so nothing piles up in here. */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wslay/wslay.h>

#include "handshake.h"

/* Frames are taken out of the hub only while less than this waits for the socket: the hub bounds the rest. */
#define QUEUED_BYTES_MAX 65536
/* The largest message that is read, in bytes; the hub's own default. */
#define MESSAGE_BYTES_MAX (50u << 20)

/* What the hub's threads know of a peer: it outlives the peer until its finalizer was called. */
struct wake {
    struct loop *loop;
    struct peer *peer;
    bool queued;
    struct wake *next;
};

/* A message that the hub had no space for. */
struct stash {
    struct stash *next;
    size_t len;
    uint8_t bytes[];
};

struct peer {
    struct loop *loop;
    struct peer *previous, *next;
    int fd;
    bool watched;
    uint32_t events;
    char ip[64];
    /* The request, until it is complete; then what came behind it. */
    char head[HEAD_BYTES_MAX + 1];
    size_t head_len;
    wslay_event_context_ptr websocket;
    fidibus_connection *connection;
    struct wake *wake;
    struct stash *stash, **stash_end;
    bool closing;
};

/* Called by the hub's threads: only notes who it is, and rings. */
static void on_wake(void *env) {
    struct wake *wake = env;
    struct loop *loop = wake->loop;
    pthread_mutex_lock(&loop->mutex);
    bool ring = wake->peer && !wake->queued;
    if (ring) {
        wake->queued = true;
        wake->next = loop->woken;
        loop->woken = wake;
    }
    pthread_mutex_unlock(&loop->mutex);
    if (ring) {
        uint64_t one = 1;
        /* Full: it has rung already. */
        ssize_t written = write(loop->bell, &one, sizeof one);
        (void)written;
    }
}

static void watch(struct peer *peer, bool reading, bool writing) {
    uint32_t events = (reading ? (uint32_t)EPOLLIN : 0) | (writing ? (uint32_t)EPOLLOUT : 0);
    if (!peer->watched || events != peer->events) {
        struct epoll_event event = {.events = events, .data.ptr = peer};
        epoll_ctl(peer->loop->epoll, peer->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, peer->fd, &event);
        peer->watched = true;
        peer->events = events;
    }
}

struct peer *peer_open(struct loop *loop, int fd, const char *client_ip) {
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer) {
        close(fd);
        return NULL;
    }
    peer->loop = loop;
    peer->fd = fd;
    peer->stash_end = &peer->stash;
    strncpy(peer->ip, client_ip, sizeof peer->ip - 1);
    peer->next = loop->peers;
    if (peer->next) {
        peer->next->previous = peer;
    }
    loop->peers = peer;
    watch(peer, true, false);
    return peer;
}

static void stop_waking(struct peer *peer) {
    struct loop *loop = peer->loop;
    pthread_mutex_lock(&loop->mutex);
    peer->wake->peer = NULL;
    for (struct wake **at = &loop->woken; *at; at = &(*at)->next) {
        if (*at == peer->wake) {
            *at = peer->wake->next;
            break;
        }
    }
    pthread_mutex_unlock(&loop->mutex);
}

void peer_free(struct peer *peer) {
    if (peer->previous) {
        peer->previous->next = peer->next;
    } else {
        peer->loop->peers = peer->next;
    }
    if (peer->next) {
        peer->next->previous = peer->previous;
    }
    if (peer->connection) {
        stop_waking(peer);
        fidibus_connection_free(peer->connection);
    }
    while (peer->stash) {
        struct stash *first = peer->stash;
        peer->stash = first->next;
        free(first);
    }
    wslay_event_context_free(peer->websocket);
    close(peer->fd);
    free(peer);
}

static ssize_t on_recv(wslay_event_context_ptr context, uint8_t *buffer, size_t len, int flags, void *user) {
    struct peer *peer = user;
    (void)flags;
    if (peer->head_len > 0) {
        size_t part = peer->head_len < len ? peer->head_len : len;
        memcpy(buffer, peer->head, part);
        peer->head_len -= part;
        memmove(peer->head, peer->head + part, peer->head_len);
        return (ssize_t)part;
    }
    ssize_t got = peer->stash ? -1 : recv(peer->fd, buffer, len, 0);
    if (peer->stash || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))) {
        wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (got <= 0) {
        wslay_event_set_error(context, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return got;
}

static ssize_t on_send(wslay_event_context_ptr context, const uint8_t *bytes, size_t len, int flags, void *user) {
    struct peer *peer = user;
    ssize_t sent = send(peer->fd, bytes, len, MSG_NOSIGNAL | (flags & WSLAY_MSG_MORE ? MSG_MORE : 0));
    if (sent < 0) {
        bool later = errno == EAGAIN || errno == EWOULDBLOCK;
        wslay_event_set_error(context, later ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    }
    return sent;
}

static void keep(struct peer *peer, const uint8_t *bytes, size_t len) {
    struct stash *stash = malloc(sizeof *stash + len);
    if (stash) {
        stash->next = NULL;
        stash->len = len;
        memcpy(stash->bytes, bytes, len);
        *peer->stash_end = stash;
        peer->stash_end = &stash->next;
    }
}

static void on_message(wslay_event_context_ptr context, const struct wslay_event_on_msg_recv_arg *message, void *user) {
    struct peer *peer = user;
    (void)context;
    if (message->opcode == WSLAY_TEXT_FRAME) {
        fidibus_connection_receive_text(peer->connection);
    }
    if (message->opcode != WSLAY_BINARY_FRAME) {
        return;
    }
    /* Behind what waits already, so that the order stays. */
    if (peer->stash ||
        fidibus_connection_receive(peer->connection, message->msg, message->msg_length) == FIDIBUS_STATUS_FULL) {
        keep(peer, message->msg, message->msg_length);
    }
}

/* Hands in what there was no space for before. */
static void unstash(struct peer *peer) {
    while (peer->stash) {
        struct stash *first = peer->stash;
        if (fidibus_connection_receive(peer->connection, first->bytes, first->len) == FIDIBUS_STATUS_FULL) {
            return;
        }
        peer->stash = first->next;
        if (!peer->stash) {
            peer->stash_end = &peer->stash;
        }
        free(first);
    }
}

/* Takes frames out of the hub while the socket keeps up, and its close reason behind the last. Whether some are
 * left in the hub, for which no wake comes. */
static bool take_frames(struct peer *peer) {
    fidibus_buffer frame;
    while (!peer->closing && wslay_event_get_queued_msg_length(peer->websocket) < QUEUED_BYTES_MAX) {
        fidibus_status status = fidibus_connection_poll_frame(peer->connection, &frame);
        if (status == FIDIBUS_STATUS_CLOSED) {
            uint16_t code = 0;
            fidibus_buffer reason = {0};
            fidibus_connection_close_reason(peer->connection, &code, &reason);
            wslay_event_queue_close(peer->websocket, code, reason.bytes, reason.len);
            fidibus_buffer_free(&reason);
            peer->closing = true;
        }
        if (status != FIDIBUS_STATUS_OK) {
            return false;
        }
        struct wslay_event_msg message = {WSLAY_BINARY_FRAME, frame.bytes, frame.len};
        wslay_event_queue_msg(peer->websocket, &message);
        fidibus_buffer_free(&frame);
    }
    return !peer->closing;
}

/* Moves what can be moved in both directions. The peer may be gone afterwards. */
static void pump(struct peer *peer, bool readable) {
    unstash(peer);
    bool alive = true;
    if (readable || peer->head_len > 0) {
        alive = wslay_event_recv(peer->websocket) == 0;
    }
    bool more = true;
    while (alive && more) {
        more = take_frames(peer);
        alive = wslay_event_send(peer->websocket) == 0;
        /* The socket takes no more: the rest follows when it is writable. */
        more = more && !wslay_event_want_write(peer->websocket);
    }
    bool done = wslay_event_get_close_sent(peer->websocket) &&
                (peer->closing || wslay_event_get_close_received(peer->websocket));
    if (!alive || done) {
        peer_free(peer);
        return;
    }
    watch(peer, wslay_event_want_read(peer->websocket) && !peer->stash, wslay_event_want_write(peer->websocket));
}

static bool become_websocket(struct peer *peer, size_t head) {
    char answer[256];
    char rest[HEAD_BYTES_MAX];
    size_t rest_len = peer->head_len - head;
    memcpy(rest, peer->head + head, rest_len);
    peer->head[head] = 0;
    fidibus_handshake *handshake = answer_upgrade(peer->head, peer->ip, answer, sizeof answer);
    ssize_t sent = send(peer->fd, answer, strlen(answer), MSG_NOSIGNAL);
    if (!handshake || sent != (ssize_t)strlen(answer)) {
        fidibus_handshake_free(handshake);
        return false;
    }
    memcpy(peer->head, rest, rest_len);
    peer->head_len = rest_len;
    struct wslay_event_callbacks callbacks = {on_recv, on_send, NULL, NULL, NULL, NULL, on_message};
    struct wake *wake = calloc(1, sizeof *wake);
    fidibus_status status = FIDIBUS_STATUS_RESOURCES;
    if (wake && wslay_event_context_server_init(&peer->websocket, &callbacks, peer) == 0) {
        wslay_event_config_set_max_recv_msg_length(peer->websocket, MESSAGE_BYTES_MAX);
        status = fidibus_hub_connect(peer->loop->hub, handshake, &peer->connection);
    }
    fidibus_handshake_free(handshake);
    if (status != FIDIBUS_STATUS_OK) {
        free(wake);
        return false;
    }
    wake->loop = peer->loop;
    wake->peer = peer;
    peer->wake = wake;
    return fidibus_connection_set_wake(peer->connection, on_wake, wake, free) == FIDIBUS_STATUS_OK;
}

void peer_ready(struct peer *peer, bool readable, bool writable) {
    (void)writable;
    if (peer->connection) {
        pump(peer, readable);
        return;
    }
    ssize_t got = recv(peer->fd, peer->head + peer->head_len, HEAD_BYTES_MAX - peer->head_len, 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return;
    }
    size_t head = 0;
    if (got > 0) {
        peer->head_len += (size_t)got;
        head = head_length(peer->head, peer->head_len);
        if (head == 0 && peer->head_len < HEAD_BYTES_MAX) {
            return;
        }
    }
    if (head == 0 || !become_websocket(peer, head)) {
        peer_free(peer);
        return;
    }
    pump(peer, false);
}

void peers_woken(struct loop *loop) {
    uint64_t count;
    ssize_t got = read(loop->bell, &count, sizeof count);
    (void)got;
    for (;;) {
        /* One at a time: serving one may free another. */
        pthread_mutex_lock(&loop->mutex);
        struct wake *wake = loop->woken;
        struct peer *peer = NULL;
        if (wake) {
            loop->woken = wake->next;
            wake->queued = false;
            peer = wake->peer;
        }
        pthread_mutex_unlock(&loop->mutex);
        if (!wake) {
            return;
        }
        if (peer) {
            pump(peer, true);
        }
    }
}
