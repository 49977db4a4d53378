/* The HTTP side of a WebSocket: reads a request, answers it. */
#ifndef HANDSHAKE_H
#define HANDSHAKE_H

#include <stddef.h>

#include "fidibus.h"

/* The longest request head that is read, in bytes. */
#define HEAD_BYTES_MAX 8192

/* Where the head of a request ends in what was read; 0: it does not yet. */
size_t head_length(const char *bytes, size_t len);

/* Answers a request for a WebSocket. Writes the answer, a 101 or a refusal, which ends with a NUL, and gives the
 * handshake for fidibus_hub_connect; NULL: the request is refused. `head` is changed. */
fidibus_handshake *answer_upgrade(char *head, const char *client_ip, char *answer, size_t answer_size);

#endif
