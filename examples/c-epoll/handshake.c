/* RFC 6455, 4.2, with Nettle's SHA-1 and base64. */
#include "handshake.h"

#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

size_t head_length(const char *bytes, size_t len) {
    for (size_t at = 0; at + 4 <= len; at++) {
        if (memcmp(bytes + at, "\r\n\r\n", 4) == 0) {
            return at + 4;
        }
    }
    return 0;
}

static void accept_key(const char *key, char *out) {
    struct sha1_ctx hash;
    uint8_t digest[SHA1_DIGEST_SIZE];
    sha1_init(&hash);
    sha1_update(&hash, strlen(key), (const uint8_t *)key);
    sha1_update(&hash, sizeof GUID - 1, (const uint8_t *)GUID);
    sha1_digest(&hash, sizeof digest, digest);
    base64_encode_raw(out, sizeof digest, digest);
    out[BASE64_ENCODE_RAW_LENGTH(SHA1_DIGEST_SIZE)] = 0;
}

static char *trim(char *text) {
    while (*text == ' ' || *text == '\t') {
        text++;
    }
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t')) {
        text[--len] = 0;
    }
    return text;
}

/* Reads the header lines into the handshake; the WebSocket key, if it is there. */
static const char *read_headers(char *line, fidibus_handshake *handshake) {
    const char *key = NULL;
    for (char *next; line && *line; line = next) {
        next = strstr(line, "\r\n");
        if (next) {
            *next = 0;
            next += 2;
        }
        char *value = strchr(line, ':');
        if (!value) {
            continue;
        }
        *value++ = 0;
        value = trim(value);
        /* A header that cannot be one is nobody's business: hooks do not see it. */
        fidibus_handshake_add_header(handshake, line, value);
        if (strcasecmp(line, "Sec-WebSocket-Key") == 0) {
            key = value;
        }
    }
    return key;
}

fidibus_handshake *answer_upgrade(char *head, const char *client_ip, char *answer, size_t answer_size) {
    fidibus_handshake *handshake = NULL;
    char *line_end = strstr(head, "\r\n");
    char *uri = strchr(head, ' ');
    if (fidibus_handshake_new(&handshake) != FIDIBUS_STATUS_OK) {
        return NULL;
    }
    if (line_end && uri && uri < line_end && strncmp(head, "GET ", 4) == 0) {
        *line_end = 0;
        uri++;
        char *uri_end = strchr(uri, ' ');
        if (uri_end) {
            *uri_end = 0;
        }
        const char *key = read_headers(line_end + 2, handshake);
        if (uri_end && key && strlen(key) == 24 &&
            fidibus_handshake_set_uri(handshake, uri) == FIDIBUS_STATUS_OK &&
            fidibus_handshake_set_client_ip(handshake, client_ip) == FIDIBUS_STATUS_OK) {
            char accept[BASE64_ENCODE_RAW_LENGTH(SHA1_DIGEST_SIZE) + 1];
            accept_key(key, accept);
            snprintf(answer, answer_size,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\n\r\n",
                     accept);
            return handshake;
        }
    }
    snprintf(answer, answer_size, "HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    fidibus_handshake_free(handshake);
    return NULL;
}
