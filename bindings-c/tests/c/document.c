/* Documents of the host's own: reading, editing, observing, and every way in which that can fail. */
#include "check.h"

static void write_text(fidibus_document *document, uint32_t index, const char *text) {
    fidibus_transaction *transaction = NULL;
    uint32_t verdict = 99;
    OK(fidibus_transaction_new(&transaction));
    OK(fidibus_transaction_text_insert(transaction, "t", index, text));
    OK(fidibus_transaction_commit(transaction, document, &verdict));
    CHECK(verdict == FIDIBUS_VERDICT_NEW);
    fidibus_transaction_free(transaction);
}

static void edits_are_read_back(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_document *document = NULL;
    fidibus_transaction *transaction = NULL;
    fidibus_buffer buffer;
    OK(fidibus_document_open(hub, "doc", &document));
    OK(fidibus_transaction_new(&transaction));
    OK(fidibus_transaction_text_insert(transaction, "t", 0, "a\xF0\x9F\x98\x80"
                                                            "c"));
    OK(fidibus_transaction_text_insert(transaction, "t", UINT32_MAX, "d"));
    OK(fidibus_transaction_text_remove(transaction, "t", 3, 1));
    OK(fidibus_transaction_map_set(transaction, "m", "k", "{\"x\":[1,null]}"));
    OK(fidibus_transaction_map_set(transaction, "m", "gone", "1"));
    OK(fidibus_transaction_map_remove(transaction, "m", "gone"));
    OK(fidibus_transaction_commit(transaction, document, NULL));
    OK(fidibus_document_text(document, "t", &buffer));
    CHECK(took_text(&buffer, "a\xF0\x9F\x98\x80"
                             "d"));
    OK(fidibus_document_json(document, "m", FIDIBUS_ROOT_AUTO, &buffer));
    CHECK(took_text(&buffer, "{\"k\":{\"x\":[1,null]}}"));
    OK(fidibus_document_json(document, "m", FIDIBUS_ROOT_MAP, &buffer));
    CHECK(took_text(&buffer, "{\"k\":{\"x\":[1,null]}}"));
    OK(fidibus_document_json(document, "none", FIDIBUS_ROOT_ARRAY, &buffer));
    CHECK(took_text(&buffer, "null"));
    OK(fidibus_document_json(document, NULL, FIDIBUS_ROOT_AUTO, &buffer));
    CHECK(strstr((const char *)buffer.bytes, "\"m\":{") && strstr((const char *)buffer.bytes, "\"t\":\"a"));
    fidibus_buffer_free(&buffer);
    STATUS(INVALID_ARGUMENT, fidibus_document_json(document, "m", 5, &buffer));

    /* A commit that fails changes nothing, and keeps the list. */
    OK(fidibus_transaction_text_insert(transaction, "t", 0, "never"));
    OK(fidibus_transaction_text_insert(transaction, "t", 100, "x"));
    STATUS(OUT_OF_RANGE, fidibus_transaction_commit(transaction, document, NULL));
    STATUS(OUT_OF_RANGE, fidibus_transaction_commit(transaction, document, NULL));
    fidibus_transaction_free(transaction);
    OK(fidibus_transaction_new(&transaction));
    OK(fidibus_transaction_map_set(transaction, "m", "k", "{"));
    STATUS(INVALID_JSON, fidibus_transaction_commit(transaction, document, NULL));
    OK(fidibus_document_text(document, "t", &buffer));
    CHECK(took_text(&buffer, "a\xF0\x9F\x98\x80"
                             "d"));
    fidibus_transaction_free(transaction);
    fidibus_transaction_free(NULL);
    fidibus_document_free(document);
    fidibus_document_free(NULL);
    fidibus_hub_free(hub);
}

static void updates_travel(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_document *a = NULL;
    fidibus_document *b = NULL;
    fidibus_buffer update, vector, rest, text;
    uint32_t verdict = 99;
    OK(fidibus_document_open(hub, "a", &a));
    OK(fidibus_document_open(hub, "b", &b));
    write_text(a, 0, "one");
    OK(fidibus_document_update(a, &update));
    OK(fidibus_document_apply_update(b, update.bytes, update.len, &verdict));
    CHECK(verdict == FIDIBUS_VERDICT_NEW);
    OK(fidibus_document_apply_update(b, update.bytes, update.len, &verdict));
    CHECK(verdict == FIDIBUS_VERDICT_KNOWN);
    OK(fidibus_document_state_vector(b, &vector));
    write_text(a, 3, " two");
    OK(fidibus_document_diff(a, vector.bytes, vector.len, &rest));
    fidibus_document *c = NULL;
    OK(fidibus_document_open(hub, "c", &c));
    OK(fidibus_document_apply_update(c, rest.bytes, rest.len, &verdict));
    CHECK(verdict == FIDIBUS_VERDICT_PENDING);
    OK(fidibus_document_apply_update(c, update.bytes, update.len, NULL));
    OK(fidibus_document_text(c, "t", &text));
    CHECK(took_text(&text, "one two"));
    STATUS(MALFORMED, fidibus_document_apply_update(b, (const uint8_t *)"\xff\xff\xff", 3, NULL));
    STATUS(MALFORMED, fidibus_document_diff(a, (const uint8_t *)"\xff", 1, &rest));
    fidibus_buffer_free(&rest);
    fidibus_buffer_free(&vector);
    fidibus_buffer_free(&update);
    fidibus_document_free(a);
    fidibus_document_free(b);
    fidibus_document_free(c);
    fidibus_hub_free(hub);
}

typedef struct watcher {
    pthread_mutex_t mutex;
    size_t updates;
    size_t awareness;
    int ended;
    int refused;
    fidibus_document *document;
    fidibus_document *copy;
} watcher;

static void watch(void *env, const fidibus_event *event, fidibus_reply *reply) {
    watcher *this = env;
    fidibus_bytes payload;
    fidibus_text name;
    uint32_t message = 99;
    fidibus_buffer buffer;
    CHECK(reply == NULL);
    OK(fidibus_event_payload(event, &payload));
    OK(fidibus_event_message(event, &message));
    OK(fidibus_event_document(event, &name));
    CHECK(is_text(&name, "watched") && payload.len > 0);
    pthread_mutex_lock(&this->mutex);
    if (message == FIDIBUS_MESSAGE_UPDATE) {
        this->updates++;
    } else {
        CHECK(message == FIDIBUS_MESSAGE_AWARENESS);
        this->awareness++;
    }
    /* What blocks refuses here, whatever it is. */
    this->refused += fidibus_document_text(this->document, "t", &buffer) == FIDIBUS_STATUS_IN_CALLBACK;
    pthread_mutex_unlock(&this->mutex);
}

static void end_watch(void *env) {
    watcher *this = env;
    pthread_mutex_lock(&this->mutex);
    this->ended++;
    pthread_mutex_unlock(&this->mutex);
}

static size_t seen(watcher *this, size_t *field) {
    pthread_mutex_lock(&this->mutex);
    size_t count = *field;
    pthread_mutex_unlock(&this->mutex);
    return count;
}

static int ended(watcher *this) {
    pthread_mutex_lock(&this->mutex);
    int count = this->ended;
    pthread_mutex_unlock(&this->mutex);
    return count;
}

static void observers_see_changes(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_document *document = NULL;
    fidibus_observer *observer = NULL;
    OK(fidibus_document_open(hub, "watched", &document));
    watcher watcher = {PTHREAD_MUTEX_INITIALIZER, 0, 0, 0, 0, document, NULL};
    STATUS(NULL_POINTER, fidibus_document_observe(document, NULL, &watcher, end_watch, &observer));
    OK(fidibus_document_observe(document, watch, &watcher, end_watch, &observer));
    write_text(document, 0, "x");
    EVENTUALLY(seen(&watcher, &watcher.updates) == 1);
    fidibus_connection *client = connect_to(hub, "/watched");
    OK(fidibus_connection_receive(client, STEP1, sizeof STEP1));
    const uint8_t awareness[] = {1, 7, 1, 42, 1, 3, '{', ' ', '}'};
    OK(fidibus_connection_receive(client, awareness, sizeof awareness));
    EVENTUALLY(seen(&watcher, &watcher.awareness) >= 1);
    fidibus_buffer json;
    OK(fidibus_document_awareness(document, &json));
    CHECK(took_text(&json, "[{\"client\":42,\"state\":{}}]"));
    fidibus_connection_free(client);
    CHECK(watcher.refused >= 2);
    fidibus_observer_free(observer);
    fidibus_observer_free(NULL);
    EVENTUALLY(ended(&watcher) == 1);
    /* One that ends with its document, whose handle is freed later. */
    OK(fidibus_document_observe(document, watch, &watcher, end_watch, &observer));
    fidibus_document_free(document);
    EVENTUALLY(ended(&watcher) == 2);
    fidibus_observer_free(observer);
    fidibus_hub_free(hub);
}

static void documents_unload_when_nobody_uses_them(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_document *document = NULL;
    OK(fidibus_document_open(hub, "doc", &document));
    write_text(document, 0, "x");
    fidibus_document_free(document);
    fidibus_names *names = NULL;
    for (int tries = 0; tries < 1000; tries++) {
        OK(fidibus_hub_documents(hub, &names));
        size_t count = fidibus_names_count(names);
        fidibus_names_free(names);
        if (count == 0) {
            fidibus_hub_free(hub);
            return;
        }
        sleep_ms(5);
    }
    CHECK(!"unloaded within 5 s");
}

static void opening_can_fail(void) {
    fidibus_config *config = small_config();
    OK(fidibus_config_set_integer(config, "documents_max", 1));
    fidibus_hub *hub = hub_of(config);
    fidibus_document *document = NULL;
    fidibus_document *second = NULL;
    char name[1100];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    STATUS(INVALID_NAME, fidibus_document_open(hub, "", &document));
    STATUS(INVALID_NAME, fidibus_document_open(hub, name, &document));
    STATUS(NOT_UTF8, fidibus_document_open(hub, "\xff", &document));
    OK(fidibus_document_open(hub, "one", &document));
    STATUS(LIMIT, fidibus_document_open(hub, "two", &second));
    CHECK(second == NULL);
    /* A shutdown closes documents; their handles say so until they are freed. */
    OK(fidibus_hub_shutdown(hub, 3000, 0, NULL));
    fidibus_buffer buffer;
    STATUS(CLOSED, fidibus_document_text(document, "t", &buffer));
    STATUS(CLOSED, fidibus_document_update(document, &buffer));
    fidibus_hub_free(hub);
    STATUS(CLOSED, fidibus_document_state_vector(document, &buffer));
    fidibus_observer *observer = NULL;
    counter freed = {0};
    STATUS(CLOSED, fidibus_document_observe(document, watch, &freed, count_up, &observer));
    CHECK(freed.count == 0 && observer == NULL);
    fidibus_document_free(document);
}

int main(void) {
    RUN(edits_are_read_back);
    RUN(updates_travel);
    RUN(observers_see_changes);
    RUN(documents_unload_when_nobody_uses_them);
    RUN(opening_can_fail);
    return 0;
}
