/* What the C tests share: checks, and a peer that speaks both dialects by hand. */
#ifndef CHECK_H
#define CHECK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fidibus.h"

#define CHECK(condition)                                                                            \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #condition);   \
            abort();                                                                                \
        }                                                                                           \
    } while (0)

/* Checks a status, and shows the error where it is another. */
#define STATUS(expected, call)                                                                      \
    do {                                                                                            \
        uint32_t status_ = (uint32_t)(call);                                                        \
        if (status_ != (uint32_t)FIDIBUS_STATUS_##expected) {                                       \
            fidibus_error *error_ = fidibus_error_take();                                           \
            fprintf(stderr, "%s:%d: %s: %s is %s, not " #expected " (%s)\n", __FILE__, __LINE__,    \
                    __func__, #call, fidibus_status_name(status_), fidibus_error_message(error_));  \
            abort();                                                                                \
        }                                                                                           \
    } while (0)

#define OK(call) STATUS(OK, call)

#define RUN(test)                                                                                   \
    do {                                                                                            \
        test();                                                                                     \
        printf("  ok %s\n", #test);                                                                 \
        fflush(stdout);                                                                             \
    } while (0)

/* How much slower than bare metal this run may be (valgrind). */
static inline int patience(void) {
    const char *text = getenv("PATIENCE");
    return text ? atoi(text) : 1;
}

static inline void sleep_ms(int milliseconds) {
    struct timespec time = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
    nanosleep(&time, NULL);
}

/* Waits until a condition holds, for 10 s at most. */
#define EVENTUALLY(condition)                                                                       \
    do {                                                                                            \
        int tries_ = 5000 * patience();                                                             \
        while (!(condition)) {                                                                      \
            if (tries_-- == 0) {                                                                    \
                fprintf(stderr, "%s:%d: %s: not within 10 s: %s\n", __FILE__, __LINE__, __func__,   \
                        #condition);                                                                \
                abort();                                                                            \
            }                                                                                       \
            sleep_ms(2);                                                                            \
        }                                                                                           \
    } while (0)

static inline fidibus_hub *hub_of(fidibus_config *config) {
    fidibus_hub *hub = NULL;
    OK(fidibus_hub_new(config, &hub));
    fidibus_config_free(config);
    return hub;
}

static inline fidibus_config *small_config(void) {
    fidibus_config *config = NULL;
    OK(fidibus_config_new(&config));
    OK(fidibus_config_set_json(config, "{\"worker_threads\":2,\"debounce_ms\":20,\"shutdown_deadline_ms\":20000}"));
    return config;
}

static inline fidibus_connection *connect_to(fidibus_hub *hub, const char *uri) {
    fidibus_handshake *handshake = NULL;
    fidibus_connection *connection = NULL;
    OK(fidibus_handshake_new(&handshake));
    OK(fidibus_handshake_set_uri(handshake, uri));
    OK(fidibus_hub_connect(hub, handshake, &connection));
    fidibus_handshake_free(handshake);
    return connection;
}

/* Sync step 1 of an empty y-websocket client. */
static const uint8_t STEP1[] = {0, 0, 1, 0};

static inline size_t put_bytes(uint8_t *at, const void *bytes, size_t len) {
    size_t used = 0;
    size_t rest = len;
    do {
        at[used++] = (uint8_t)((rest & 127) | (rest > 127 ? 128 : 0));
        rest >>= 7;
    } while (rest > 0);
    memcpy(at + used, bytes, len);
    return used + len;
}

/* A y-websocket frame with an update. */
static inline size_t update_frame(uint8_t *out, const uint8_t *update, size_t len) {
    out[0] = 0;
    out[1] = 2;
    return 2 + put_bytes(out + 2, update, len);
}

/* A Hocuspocus frame: the document, then these bytes. */
static inline size_t named_frame(uint8_t *out, const char *name, const void *rest, size_t len) {
    size_t used = put_bytes(out, name, strlen(name));
    memcpy(out + used, rest, len);
    return used + len;
}

/* A Hocuspocus frame with a token. */
static inline size_t token_frame(uint8_t *out, const char *name, const char *token) {
    size_t used = put_bytes(out, name, strlen(name));
    out[used++] = 2;
    out[used++] = 0;
    used += put_bytes(out + used, token, strlen(token));
    return used + put_bytes(out + used, "4.0.0", 5);
}

/* Takes the next frame, or waits for it. 0: the connection closed. */
static inline int take_frame(fidibus_connection *connection, fidibus_buffer *frame) {
    for (int tries = 0; tries < 5000 * patience(); tries++) {
        fidibus_status status = fidibus_connection_poll_frame(connection, frame);
        if (status == FIDIBUS_STATUS_OK) {
            return 1;
        }
        if (status == FIDIBUS_STATUS_CLOSED) {
            return 0;
        }
        CHECK(status == FIDIBUS_STATUS_EMPTY);
        sleep_ms(2);
    }
    CHECK(!"a frame within 10 s");
    return 0;
}

static inline int holds(const uint8_t *bytes, size_t len, const char *text) {
    size_t wanted = strlen(text);
    for (size_t at = 0; at + wanted <= len; at++) {
        if (memcmp(bytes + at, text, wanted) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Takes frames until one holds this text. 0: the connection closed before. */
static inline int sees(fidibus_connection *connection, const char *text) {
    for (;;) {
        fidibus_buffer frame;
        if (!take_frame(connection, &frame)) {
            return 0;
        }
        int found = holds(frame.bytes, frame.len, text);
        fidibus_buffer_free(&frame);
        if (found) {
            return 1;
        }
    }
}

static inline void drain(fidibus_connection *connection) {
    fidibus_buffer frame;
    while (fidibus_connection_poll_frame(connection, &frame) == FIDIBUS_STATUS_OK) {
        fidibus_buffer_free(&frame);
    }
}

/* Waits for the end; its code. Takes no frames. */
static inline uint16_t closed_with(fidibus_connection *connection) {
    uint16_t code = 0;
    EVENTUALLY(fidibus_connection_close_reason(connection, &code, NULL) == FIDIBUS_STATUS_OK);
    return code;
}

static inline int is_text(const fidibus_text *text, const char *expected) {
    return text->len == strlen(expected) && memcmp(text->text, expected, text->len) == 0;
}

/* Checks and frees a buffer of text. */
static inline int took_text(fidibus_buffer *buffer, const char *expected) {
    CHECK(buffer->bytes[buffer->len] == 0);
    int same = strcmp((const char *)buffer->bytes, expected) == 0;
    if (!same) {
        fprintf(stderr, "got %s\n", (const char *)buffer->bytes);
    }
    fidibus_buffer_free(buffer);
    CHECK(buffer->bytes == NULL && buffer->owner == NULL);
    return same;
}

/* An update that puts this text into "t" of an empty document. The caller frees it. */
static inline fidibus_buffer typed(const char *text) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_document *document = NULL;
    fidibus_transaction *transaction = NULL;
    fidibus_buffer update;
    OK(fidibus_document_open(hub, "scratch", &document));
    OK(fidibus_transaction_new(&transaction));
    OK(fidibus_transaction_text_insert(transaction, "t", 0, text));
    OK(fidibus_transaction_commit(transaction, document, NULL));
    OK(fidibus_document_update(document, &update));
    fidibus_transaction_free(transaction);
    fidibus_document_free(document);
    fidibus_hub_free(hub);
    return update;
}

/* Counts calls of a finalizer; env points to one. */
typedef struct counter {
    atomic_int count;
} counter;

static inline void count_up(void *env) { atomic_fetch_add(&((counter *)env)->count, 1); }

#endif
