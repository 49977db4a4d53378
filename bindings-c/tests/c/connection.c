/* Connections: frames in and out, wakes, limits, and hosts that misbehave. */
#include "check.h"

static void two_connections_share_a_document(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_connection *a = connect_to(hub, "/notes");
    fidibus_connection *b = connect_to(hub, "/notes");
    OK(fidibus_connection_receive(a, STEP1, sizeof STEP1));
    OK(fidibus_connection_receive(b, STEP1, sizeof STEP1));
    fidibus_buffer frame;
    CHECK(take_frame(b, &frame) && frame.len > 0);
    fidibus_buffer_free(&frame);
    fidibus_buffer update = typed("hello");
    uint8_t message[256];
    size_t len = update_frame(message, update.bytes, update.len);
    fidibus_buffer_free(&update);
    OK(fidibus_connection_receive(a, message, len));
    CHECK(sees(b, "hello"));
    fidibus_metrics metrics;
    OK(fidibus_hub_metrics(hub, &metrics, sizeof metrics));
    CHECK(metrics.connections_open == 2 && metrics.sessions_open == 2 && metrics.documents_loaded == 1);
    uint16_t code;
    STATUS(EMPTY, fidibus_connection_close_reason(a, &code, NULL));
    OK(fidibus_hub_close_connections(hub, "notes"));
    CHECK(closed_with(a) == 4205 && closed_with(b) == 4205);
    fidibus_buffer reason;
    OK(fidibus_connection_close_reason(a, &code, &reason));
    CHECK(took_text(&reason, "Reset Connection"));
    drain(a);
    STATUS(CLOSED, fidibus_connection_poll_frame(a, &frame));
    STATUS(CLOSED, fidibus_connection_receive(a, STEP1, sizeof STEP1));
    STATUS(CLOSED, fidibus_connection_receive_text(a));
    fidibus_connection_free(a);
    fidibus_connection_free(b);
    fidibus_connection_free(NULL);
    fidibus_hub_free(hub);
}

typedef struct bell {
    pthread_mutex_t mutex;
    int rung;
    int freed;
    fidibus_connection *connection;
    int frames;
} bell;

static void ring(void *env) {
    bell *this = env;
    pthread_mutex_lock(&this->mutex);
    this->rung++;
    pthread_mutex_unlock(&this->mutex);
}

static void free_bell(void *env) {
    bell *this = env;
    pthread_mutex_lock(&this->mutex);
    this->freed++;
    pthread_mutex_unlock(&this->mutex);
}

static int rung(bell *this) {
    pthread_mutex_lock(&this->mutex);
    int count = this->rung;
    pthread_mutex_unlock(&this->mutex);
    return count;
}

static int freed(bell *this) {
    pthread_mutex_lock(&this->mutex);
    int count = this->freed;
    pthread_mutex_unlock(&this->mutex);
    return count;
}

/* Goal: no frame without a wake. Method: take frames only when woken, and count that each batch came. */
static void every_batch_wakes(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_connection *a = connect_to(hub, "/notes");
    fidibus_connection *b = connect_to(hub, "/notes");
    bell first = {PTHREAD_MUTEX_INITIALIZER, 0, 0, NULL, 0};
    bell second = {PTHREAD_MUTEX_INITIALIZER, 0, 0, NULL, 0};
    OK(fidibus_connection_set_wake(b, ring, &first, free_bell));
    CHECK(rung(&first) == 1);
    OK(fidibus_connection_set_wake(b, ring, &second, free_bell));
    CHECK(freed(&first) == 1);
    int seen = rung(&second);
    OK(fidibus_connection_receive(a, STEP1, sizeof STEP1));
    OK(fidibus_connection_receive(b, STEP1, sizeof STEP1));
    EVENTUALLY(rung(&second) > seen);
    for (int round = 0; round < 50; round++) {
        EVENTUALLY(rung(&second) > seen);
        seen = rung(&second);
        drain(b);
        /* Awareness of client 1, clock `round`: goes to all. */
        uint8_t awareness[] = {1, 7, 1, 1, (uint8_t)round, 3, '{', ' ', '}'};
        OK(fidibus_connection_receive(a, awareness, sizeof awareness));
    }
    OK(fidibus_connection_set_wake(b, NULL, NULL, NULL));
    EVENTUALLY(freed(&second) == 1);
    fidibus_connection_free(a);
    fidibus_connection_free(b);
    fidibus_hub_free(hub);
}

static void read_inside(void *env) {
    bell *this = env;
    pthread_mutex_lock(&this->mutex);
    fidibus_connection *connection = this->connection;
    fidibus_buffer frame;
    while (connection && fidibus_connection_poll_frame(connection, &frame) == FIDIBUS_STATUS_OK) {
        this->frames++;
        fidibus_buffer_free(&frame);
    }
    pthread_mutex_unlock(&this->mutex);
}

static void free_inside(void *env) {
    bell *this = env;
    pthread_mutex_lock(&this->mutex);
    fidibus_connection *connection = this->connection;
    this->connection = NULL;
    pthread_mutex_unlock(&this->mutex);
    fidibus_connection_free(connection);
}

static void a_wake_may_call_back(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_connection *a = connect_to(hub, "/notes");
    bell reader = {PTHREAD_MUTEX_INITIALIZER, 0, 0, a, 0};
    OK(fidibus_connection_set_wake(a, read_inside, &reader, free_bell));
    OK(fidibus_connection_receive(a, STEP1, sizeof STEP1));
    int frames = 0;
    while (frames == 0) {
        pthread_mutex_lock(&reader.mutex);
        frames = reader.frames;
        pthread_mutex_unlock(&reader.mutex);
        sleep_ms(1);
    }
    fidibus_connection_free(a);
    EVENTUALLY(freed(&reader) == 1);
    /* A connection that its own wake frees. */
    fidibus_connection *b = connect_to(hub, "/notes");
    bell suicide = {PTHREAD_MUTEX_INITIALIZER, 0, 0, b, 0};
    OK(fidibus_connection_receive(b, STEP1, sizeof STEP1));
    OK(fidibus_connection_set_wake(b, free_inside, &suicide, free_bell));
    EVENTUALLY(freed(&suicide) == 1);
    fidibus_metrics metrics;
    EVENTUALLY(fidibus_hub_metrics(hub, &metrics, sizeof metrics) == FIDIBUS_STATUS_OK &&
               metrics.connections_open == 0);
    fidibus_hub_free(hub);
}

static void limits_answer(void) {
    fidibus_config *config = small_config();
    OK(fidibus_config_set_integer(config, "message_bytes_max", 10000));
    fidibus_hub *hub = hub_of(config);
    uint8_t large[10001] = {0};
    fidibus_connection *a = connect_to(hub, "/notes");
    STATUS(TOO_LARGE, fidibus_connection_receive(a, large, sizeof large));
    CHECK(closed_with(a) == 1009);
    fidibus_connection_free(a);
    a = connect_to(hub, "/notes");
    OK(fidibus_connection_receive_text(a));
    CHECK(closed_with(a) == 1003);
    fidibus_connection_free(a);
    a = connect_to(hub, "/notes");
    STATUS(OUT_OF_RANGE, fidibus_connection_close(a, 1006, NULL));
    STATUS(NOT_UTF8, fidibus_connection_close(a, 4000, "\xff"));
    OK(fidibus_connection_close(a, 4000, "done"));
    CHECK(closed_with(a) == 4000);
    OK(fidibus_connection_close(a, 4001, "again"));
    fidibus_connection_free(a);
    fidibus_hub_free(hub);
}

/* Goal: what a host hands in is bounded, and a wake says when there is space. Method: never take frames, so
 * that the outbox fills and the engine stops reading; then hand in until it is full. */
static void a_full_connection_says_so(void) {
    fidibus_config *config = small_config();
    OK(fidibus_config_set_integer(config, "outbox_bytes_max", 64));
    fidibus_hub *hub = hub_of(config);
    fidibus_connection *a = connect_to(hub, "/notes");
    bell bell = {PTHREAD_MUTEX_INITIALIZER, 0, 0, NULL, 0};
    OK(fidibus_connection_set_wake(a, ring, &bell, free_bell));
    fidibus_status status = FIDIBUS_STATUS_OK;
    for (int i = 0; i < 100000 && status == FIDIBUS_STATUS_OK; i++) {
        status = fidibus_connection_receive(a, STEP1, sizeof STEP1);
    }
    STATUS(FULL, status);
    int seen = rung(&bell);
    EVENTUALLY((drain(a), fidibus_connection_receive(a, STEP1, sizeof STEP1)) == FIDIBUS_STATUS_OK);
    EVENTUALLY((drain(a), rung(&bell)) > seen);
    fidibus_connection_free(a);
    fidibus_hub_free(hub);
}

static void who_never_polls_is_closed(void) {
    fidibus_config *config = small_config();
    OK(fidibus_config_set_integer(config, "outbox_bytes_max", 1000));
    OK(fidibus_config_set_integer(config, "stall_max_ms", 300));
    fidibus_hub *hub = hub_of(config);
    fidibus_connection *a = connect_to(hub, "/notes");
    fidibus_connection *never = connect_to(hub, "/notes");
    OK(fidibus_connection_receive(a, STEP1, sizeof STEP1));
    OK(fidibus_connection_receive(never, STEP1, sizeof STEP1));
    for (int round = 0; round < 100; round++) {
        char state[128];
        memset(state, ' ', sizeof state);
        state[0] = '{';
        state[99] = '}';
        uint8_t message[256] = {1, 104, 1, 1, (uint8_t)round, 100};
        memcpy(message + 6, state, 100);
        fidibus_status status = fidibus_connection_receive(a, message, 106);
        CHECK(status == FIDIBUS_STATUS_OK);
        drain(a);
        sleep_ms(2);
    }
    fidibus_metrics metrics;
    OK(fidibus_hub_metrics(hub, &metrics, sizeof metrics));
    CHECK(metrics.conflations_total > 0);
    CHECK(closed_with(never) == 1013);
    fidibus_connection_free(never);
    fidibus_connection_free(a);
    fidibus_hub_free(hub);
}

static void garbage_ends_only_its_connection(void) {
    fidibus_hub *hub = hub_of(small_config());
    unsigned seed = 4711;
    fidibus_connection *good = connect_to(hub, "/notes");
    OK(fidibus_connection_receive(good, STEP1, sizeof STEP1));
    for (int round = 0; round < 200; round++) {
        fidibus_connection *bad = connect_to(hub, "/notes");
        if (round % 2) {
            OK(fidibus_connection_receive(bad, STEP1, sizeof STEP1));
        }
        for (int i = 0; i < 5; i++) {
            uint8_t bytes[64];
            size_t len = (size_t)(rand_r(&seed) % 64);
            for (size_t at = 0; at < len; at++) {
                bytes[at] = (uint8_t)rand_r(&seed);
            }
            if (round % 3 == 0 && len > 2) {
                bytes[0] = 0;
                bytes[1] = (uint8_t)(rand_r(&seed) % 4);
            }
            fidibus_status status = fidibus_connection_receive(bad, bytes, len);
            CHECK(status == FIDIBUS_STATUS_OK || status == FIDIBUS_STATUS_CLOSED);
        }
        drain(bad);
        fidibus_connection_free(bad);
    }
    fidibus_metrics metrics;
    EVENTUALLY(fidibus_hub_metrics(hub, &metrics, sizeof metrics) == FIDIBUS_STATUS_OK &&
               metrics.connections_open == 1);
    uint16_t code;
    STATUS(EMPTY, fidibus_connection_close_reason(good, &code, NULL));
    CHECK(metrics.room_panics_total == 0);
    fidibus_connection_free(good);
    fidibus_hub_free(hub);
}

static void a_hub_may_go_first(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_connection *open[50];
    bell bell = {PTHREAD_MUTEX_INITIALIZER, 0, 0, NULL, 0};
    for (int i = 0; i < 50; i++) {
        open[i] = connect_to(hub, i % 2 ? "/a" : "/b");
        OK(fidibus_connection_set_wake(open[i], ring, &bell, free_bell));
        OK(fidibus_connection_receive(open[i], STEP1, sizeof STEP1));
    }
    fidibus_hub_free(hub);
    for (int i = 0; i < 50; i++) {
        uint16_t code = 0;
        OK(fidibus_connection_close_reason(open[i], &code, NULL));
        CHECK(code == 1012);
        STATUS(CLOSED, fidibus_connection_receive(open[i], STEP1, sizeof STEP1));
        drain(open[i]);
        fidibus_connection_free(open[i]);
    }
    EVENTUALLY(freed(&bell) == 50);
}

static void stateless_messages_reach_hocuspocus(void) {
    fidibus_hub *hub = hub_of(small_config());
    const uint8_t news[] = "news!";
    STATUS(EMPTY, fidibus_hub_broadcast_stateless(hub, "notes", news, 5));
    fidibus_connection *a = connect_to(hub, "/");
    uint8_t message[256];
    size_t len = token_frame(message, "notes", "");
    OK(fidibus_connection_receive(a, message, len));
    CHECK(sees(a, "read-write"));
    EVENTUALLY(fidibus_hub_broadcast_stateless(hub, "notes", news, 5) == FIDIBUS_STATUS_OK);
    CHECK(sees(a, "news!"));
    STATUS(NOT_UTF8, fidibus_hub_broadcast_stateless(hub, "notes", (const uint8_t *)"\xff", 1));
    STATUS(INVALID_NAME, fidibus_hub_broadcast_stateless(hub, "", news, 5));
    fidibus_connection_free(a);
    fidibus_hub_free(hub);
}

int main(void) {
    RUN(two_connections_share_a_document);
    RUN(every_batch_wakes);
    RUN(a_wake_may_call_back);
    RUN(limits_answer);
    RUN(a_full_connection_says_so);
    RUN(who_never_polls_is_closed);
    RUN(garbage_ends_only_its_connection);
    RUN(a_hub_may_go_first);
    RUN(stateless_messages_reach_hocuspocus);
    return 0;
}
