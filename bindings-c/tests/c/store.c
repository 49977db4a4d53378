/* A store made of callbacks: every operation, failures, and that acks wait for the log. */
#include "check.h"

typedef struct memory {
    pthread_mutex_t mutex;
    uint8_t snapshot[4096];
    size_t len;
    int64_t row_id;
    uint8_t row[4096];
    size_t row_len;
    int calls[8];
    int fail_loads;
    int fail_stores;
    int hold_appends;
    int fail_pings;
    int deletable;
    uint64_t pruned_age_ms;
    fidibus_reply *held;
    int64_t folded;
    counter freed;
} memory;

static int count(memory *this, uint32_t operation) {
    pthread_mutex_lock(&this->mutex);
    int calls = this->calls[operation - 100];
    pthread_mutex_unlock(&this->mutex);
    return calls;
}

static void load(memory *this, const fidibus_event *event, fidibus_reply *reply) {
    fidibus_text name;
    OK(fidibus_event_document(event, &name));
    CHECK(is_text(&name, "doc") || is_text(&name, "other"));
    if (this->fail_loads) {
        OK(fidibus_reply_fail(reply, "the disk is gone", true));
        return;
    }
    if (is_text(&name, "doc")) {
        if (this->len > 0) {
            OK(fidibus_reply_set_snapshot(reply, this->snapshot, this->len));
        }
        if (this->row_len > 0) {
            OK(fidibus_reply_add_row(reply, this->row_id, this->row, this->row_len));
        }
    }
    STATUS(NOT_FOR_THIS, fidibus_reply_add_id(reply, 1));
    OK(fidibus_reply_accept(reply));
}

static void store(memory *this, const fidibus_event *event, fidibus_reply *reply) {
    fidibus_bytes payload;
    const int64_t *rows = NULL;
    size_t folded = 99;
    OK(fidibus_event_payload(event, &payload));
    OK(fidibus_event_folded(event, &rows, &folded));
    if (this->fail_stores > 0) {
        this->fail_stores--;
        OK(fidibus_reply_fail(reply, "busy", true));
        return;
    }
    CHECK(payload.len <= sizeof this->snapshot);
    memcpy(this->snapshot, payload.bytes, payload.len);
    this->len = payload.len;
    if (folded > 0) {
        this->folded = rows[folded - 1];
        this->row_len = 0;
    }
    OK(fidibus_reply_accept(reply));
}

static void append(memory *this, const fidibus_event *event, fidibus_reply *reply) {
    size_t batches = 0;
    fidibus_text document, user;
    fidibus_bytes update;
    OK(fidibus_event_batch_count(event, &batches));
    CHECK(batches >= 1);
    STATUS(OUT_OF_RANGE, fidibus_event_batch(event, batches, &document, &update, &user));
    for (size_t i = 0; i < batches; i++) {
        OK(fidibus_event_batch(event, i, &document, &update, &user));
        CHECK(is_text(&document, "doc") && update.len <= sizeof this->row && user.len == 0);
        memcpy(this->row, update.bytes, update.len);
        this->row_len = update.len;
        OK(fidibus_reply_add_id(reply, ++this->row_id));
    }
    if (this->hold_appends) {
        this->held = reply;
    } else {
        OK(fidibus_reply_accept(reply));
    }
}

/* Stores "a", "b" and "c" by name. */
static void list(const fidibus_event *event, fidibus_reply *reply) {
    fidibus_text after = {"", 0};
    uint64_t limit = 0;
    fidibus_status status = fidibus_event_after(event, &after);
    CHECK(status == FIDIBUS_STATUS_OK || status == FIDIBUS_STATUS_EMPTY);
    OK(fidibus_event_limit(event, &limit));
    STATUS(INVALID_NAME, fidibus_reply_add_name(reply, ""));
    STATUS(NOT_FOR_THIS, fidibus_reply_set_count(reply, 1));
    for (const char *name = "a\0b\0c\0"; *name && limit > 0; name += 2) {
        if (after.len == 0 || *name > *after.text) {
            OK(fidibus_reply_add_name(reply, name));
            limit--;
        }
    }
    OK(fidibus_reply_accept(reply));
}

static void on_operation(void *env, const fidibus_event *event, fidibus_reply *reply) {
    memory *this = env;
    uint32_t operation = 0;
    OK(fidibus_event_kind(event, &operation));
    CHECK(operation >= 100 && operation < 108 && reply != NULL);
    pthread_mutex_lock(&this->mutex);
    this->calls[operation - 100]++;
    switch (operation) {
    case FIDIBUS_STORE_OPERATION_LOAD: load(this, event, reply); break;
    case FIDIBUS_STORE_OPERATION_STORE: store(this, event, reply); break;
    case FIDIBUS_STORE_OPERATION_APPEND: append(this, event, reply); break;
    case FIDIBUS_STORE_OPERATION_LIST: list(event, reply); break;
    case FIDIBUS_STORE_OPERATION_DELETE:
        OK(fidibus_reply_set_count(reply, (uint64_t)this->deletable));
        this->deletable = 0;
        OK(fidibus_reply_accept(reply));
        break;
    case FIDIBUS_STORE_OPERATION_PRUNE:
        OK(fidibus_event_age_ms(event, &this->pruned_age_ms));
        OK(fidibus_reply_set_count(reply, 3));
        OK(fidibus_reply_accept(reply));
        break;
    case FIDIBUS_STORE_OPERATION_PING:
        OK(this->fail_pings ? fidibus_reply_fail(reply, "unplugged", true) : fidibus_reply_accept(reply));
        break;
    default: OK(fidibus_reply_accept(reply)); break;
    }
    pthread_mutex_unlock(&this->mutex);
}

static fidibus_hub *hub_on(memory *this, int with_log) {
    fidibus_store *store = NULL;
    OK(fidibus_store_new(this, NULL, &store));
    for (uint32_t operation = 100; operation < 108; operation++) {
        if (operation != FIDIBUS_STORE_OPERATION_APPEND || with_log) {
            OK(fidibus_store_on(store, operation, on_operation));
        }
    }
    fidibus_config *config = small_config();
    OK(fidibus_config_set_store(config, store));
    fidibus_store_free(store);
    return hub_of(config);
}

static void documents_come_back(void) {
    memory memory = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    for (int round = 0; round < 2; round++) {
        fidibus_hub *hub = hub_on(&memory, round == 0);
        fidibus_document *document = NULL;
        fidibus_buffer text;
        OK(fidibus_document_open(hub, "doc", &document));
        OK(fidibus_document_text(document, "t", &text));
        CHECK(took_text(&text, round == 0 ? "" : "kept"));
        if (round == 0) {
            fidibus_buffer update = typed("kept");
            OK(fidibus_document_apply_update(document, update.bytes, update.len, NULL));
            fidibus_buffer_free(&update);
            EVENTUALLY(count(&memory, FIDIBUS_STORE_OPERATION_APPEND) == 1);
        }
        fidibus_buffer health;
        OK(fidibus_hub_health_json(hub, &health));
        CHECK(strstr((const char *)health.bytes, round == 0 ? "\"ack\":\"commit\"" : "\"ack\":\"memory\""));
        CHECK(strstr((const char *)health.bytes, "\"store\":\"callbacks\""));
        fidibus_buffer_free(&health);
        fidibus_document_free(document);
        fidibus_hub_free(hub);
        CHECK(memory.calls[FIDIBUS_STORE_OPERATION_CLOSE - 100] == round + 1);
        CHECK(memory.calls[FIDIBUS_STORE_OPERATION_PING - 100] == round + 1);
    }
    CHECK(memory.calls[FIDIBUS_STORE_OPERATION_STORE - 100] >= 1 && memory.folded == 1);
}

static void a_row_is_loaded_without_a_snapshot(void) {
    memory memory = {.mutex = PTHREAD_MUTEX_INITIALIZER, .row_id = 7};
    fidibus_buffer update = typed("row");
    memcpy(memory.row, update.bytes, update.len);
    memory.row_len = update.len;
    fidibus_buffer_free(&update);
    fidibus_hub *hub = hub_on(&memory, 1);
    fidibus_document *document = NULL;
    fidibus_buffer text;
    OK(fidibus_document_open(hub, "doc", &document));
    OK(fidibus_document_text(document, "t", &text));
    CHECK(took_text(&text, "row"));
    fidibus_document_free(document);
    fidibus_hub_free(hub);
    CHECK(memory.folded == 7);
}

static void failures_are_told_and_tried_again(void) {
    memory memory = {.mutex = PTHREAD_MUTEX_INITIALIZER, .fail_loads = 1, .fail_stores = 2};
    fidibus_hub *hub = hub_on(&memory, 0);
    fidibus_document *document = NULL;
    STATUS(LOAD, fidibus_document_open(hub, "doc", &document));
    fidibus_error *error = fidibus_error_take();
    CHECK(strstr(fidibus_error_message(error), "the disk is gone"));
    fidibus_error_free(error);
    pthread_mutex_lock(&memory.mutex);
    memory.fail_loads = 0;
    pthread_mutex_unlock(&memory.mutex);
    EVENTUALLY(fidibus_document_open(hub, "doc", &document) == FIDIBUS_STATUS_OK);
    fidibus_buffer update = typed("again");
    OK(fidibus_document_apply_update(document, update.bytes, update.len, NULL));
    fidibus_buffer_free(&update);
    EVENTUALLY(count(&memory, FIDIBUS_STORE_OPERATION_STORE) >= 3);
    fidibus_document_free(document);
    fidibus_hub_free(hub);
    CHECK(memory.len > 0);
}

/* Goal: an ack means stored. Method: hold the append's reply; the provider gets its ack only after it. */
static void acks_wait_for_the_log(void) {
    memory memory = {.mutex = PTHREAD_MUTEX_INITIALIZER, .hold_appends = 1};
    fidibus_hub *hub = hub_on(&memory, 1);
    fidibus_connection *a = connect_to(hub, "/");
    uint8_t message[256], inner[256];
    OK(fidibus_connection_receive(a, message, token_frame(message, "doc", "")));
    CHECK(sees(a, "read-write"));
    fidibus_buffer update = typed("ack");
    size_t len = update_frame(inner, update.bytes, update.len);
    fidibus_buffer_free(&update);
    OK(fidibus_connection_receive(a, message, named_frame(message, "doc", inner, len)));
    EVENTUALLY(count(&memory, FIDIBUS_STORE_OPERATION_APPEND) == 1);
    sleep_ms(100);
    fidibus_buffer frame;
    while (fidibus_connection_poll_frame(a, &frame) == FIDIBUS_STATUS_OK) {
        CHECK(!holds(frame.bytes, frame.len, "doc\x08\x01"));
        fidibus_buffer_free(&frame);
    }
    pthread_mutex_lock(&memory.mutex);
    fidibus_reply *held = memory.held;
    memory.hold_appends = 0;
    pthread_mutex_unlock(&memory.mutex);
    OK(fidibus_reply_accept(held));
    CHECK(sees(a, "doc\x08\x01"));
    fidibus_connection_free(a);
    fidibus_hub_free(hub);
}

static void what_is_stored_can_be_listed_deleted_and_pruned(void) {
    memory memory = {.mutex = PTHREAD_MUTEX_INITIALIZER, .deletable = 1};
    fidibus_hub *hub = hub_on(&memory, 1);
    fidibus_names *names = NULL;
    fidibus_text name;
    OK(fidibus_hub_stored_documents(hub, NULL, 2, &names));
    CHECK(fidibus_names_count(names) == 2);
    OK(fidibus_names_at(names, 1, &name));
    CHECK(is_text(&name, "b"));
    fidibus_names_free(names);
    OK(fidibus_hub_stored_documents(hub, "b", 10000, &names));
    CHECK(fidibus_names_count(names) == 1);
    fidibus_names_free(names);
    STATUS(OUT_OF_RANGE, fidibus_hub_stored_documents(hub, NULL, 0, &names));
    STATUS(OUT_OF_RANGE, fidibus_hub_stored_documents(hub, NULL, 10001, &names));
    STATUS(INVALID_NAME, fidibus_hub_stored_documents(hub, "", 1, &names));
    OK(fidibus_hub_delete_stored(hub, "a"));
    STATUS(EMPTY, fidibus_hub_delete_stored(hub, "a"));
    STATUS(INVALID_NAME, fidibus_hub_delete_stored(hub, ""));
    uint64_t count = 0;
    OK(fidibus_hub_prune_log(hub, 86400000, &count));
    CHECK(count == 3 && memory.pruned_age_ms == 86400000);
    OK(fidibus_hub_prune_log(hub, 0, NULL));
    STATUS(OUT_OF_RANGE, fidibus_hub_prune_log(hub, UINT64_MAX, &count));
    OK(fidibus_hub_shutdown(hub, 1000, 0, NULL));
    STATUS(SHUTTING_DOWN, fidibus_hub_stored_documents(hub, NULL, 1, &names));
    STATUS(SHUTTING_DOWN, fidibus_hub_delete_stored(hub, "a"));
    STATUS(SHUTTING_DOWN, fidibus_hub_prune_log(hub, 0, NULL));
    fidibus_hub_free(hub);
}

/* A store with nothing but what is needed. */
static void what_a_store_cannot_is_told(void) {
    memory memory = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    fidibus_store *store = NULL;
    OK(fidibus_store_new(&memory, NULL, &store));
    OK(fidibus_store_on(store, FIDIBUS_STORE_OPERATION_LOAD, on_operation));
    OK(fidibus_store_on(store, FIDIBUS_STORE_OPERATION_STORE, on_operation));
    fidibus_config *config = small_config();
    OK(fidibus_config_set_store(config, store));
    fidibus_store_free(store);
    fidibus_hub *hub = hub_of(config);
    fidibus_names *names = NULL;
    uint64_t count = 7;
    OK(fidibus_hub_stored_documents(hub, NULL, 10, &names));
    CHECK(fidibus_names_count(names) == 0);
    fidibus_names_free(names);
    STATUS(STORE, fidibus_hub_delete_stored(hub, "a"));
    OK(fidibus_hub_prune_log(hub, 0, &count));
    CHECK(count == 0);
    fidibus_hub_free(hub);
}

static void health_tells_of_a_store_that_is_away(void) {
    memory memory = {.mutex = PTHREAD_MUTEX_INITIALIZER, .fail_pings = 1};
    fidibus_hub *hub = hub_on(&memory, 0);
    fidibus_buffer health;
    OK(fidibus_hub_health_json(hub, &health));
    CHECK(strstr((const char *)health.bytes, "\"status\":\"degraded\""));
    CHECK(strstr((const char *)health.bytes, "\"store_reachable\":false"));
    fidibus_buffer_free(&health);
    fidibus_hub_free(hub);
}

int main(void) {
    RUN(what_is_stored_can_be_listed_deleted_and_pruned);
    RUN(what_a_store_cannot_is_told);
    RUN(health_tells_of_a_store_that_is_away);
    RUN(documents_come_back);
    RUN(a_row_is_loaded_without_a_snapshot);
    RUN(failures_are_told_and_tried_again);
    RUN(acks_wait_for_the_log);
    return 0;
}
