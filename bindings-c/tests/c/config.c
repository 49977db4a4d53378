/* Configuration, errors, texts and lists: everything that needs no client. */
#include "check.h"

static void version_and_status(void) {
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", FIDIBUS_VERSION_MAJOR, FIDIBUS_VERSION_MINOR,
             FIDIBUS_VERSION_PATCH);
    CHECK(strcmp(fidibus_version(), version) == 0);
    CHECK(strcmp(fidibus_status_name(FIDIBUS_STATUS_NULL_POINTER), "NULL_POINTER") == 0);
    CHECK(strcmp(fidibus_status_name(12345), "?") == 0);
    CHECK(strcmp(fidibus_status_text(FIDIBUS_STATUS_OK), "it worked") == 0);
    CHECK(strcmp(fidibus_status_text(12345), "?") == 0);
}

static void errors_tell_the_story(void) {
    CHECK(fidibus_error_take() == NULL);
    fidibus_config *config = small_config();
    STATUS(UNKNOWN_KEY, fidibus_config_set_integer(config, "no_such_key", 1));
    fidibus_error *error = fidibus_error_take();
    CHECK(error != NULL && fidibus_error_take() == NULL);
    CHECK(fidibus_error_status(error) == FIDIBUS_STATUS_UNKNOWN_KEY);
    CHECK(strstr(fidibus_error_message(error), "no_such_key") != NULL);
    fidibus_error_free(error);
    fidibus_error_free(NULL);
    CHECK(fidibus_error_status(NULL) == FIDIBUS_STATUS_NULL_POINTER);
    CHECK(strcmp(fidibus_error_message(NULL), "") == 0);
    fidibus_config_free(config);
    fidibus_config_free(NULL);
}

static void keys_have_types_and_bounds(void) {
    fidibus_config *config = small_config();
    fidibus_buffer json;
    OK(fidibus_config_set_integer(config, "debounce_ms", 123));
    OK(fidibus_config_set_boolean(config, "gc", false));
    OK(fidibus_config_set_text(config, "dialect", "y-websocket"));
    OK(fidibus_config_set_json(config, "{\"updates_per_second_max\":50,\"name\":\"a\"}"));
    OK(fidibus_config_set_text(config, "store", "postgres://me:secret@host/db"));
    OK(fidibus_config_json(config, &json));
    const char *text = (const char *)json.bytes;
    CHECK(strstr(text, "\"debounce_ms\":123") && strstr(text, "\"gc\":false"));
    CHECK(strstr(text, "\"dialect\":\"y-websocket\"") && strstr(text, "\"updates_per_second_max\":50"));
    CHECK(strstr(text, "me:***@host") && !strstr(text, "secret"));
    fidibus_buffer_free(&json);
    fidibus_buffer_free(&json);

    STATUS(WRONG_TYPE, fidibus_config_set_integer(config, "gc", 1));
    STATUS(WRONG_TYPE, fidibus_config_set_boolean(config, "debounce_ms", true));
    STATUS(WRONG_TYPE, fidibus_config_set_text(config, "debounce_ms", "1"));
    STATUS(OUT_OF_RANGE, fidibus_config_set_integer(config, "outbox_bytes_max", 0));
    STATUS(OUT_OF_RANGE, fidibus_config_set_integer(config, "updates_per_second_max", 0));
    STATUS(INVALID_ARGUMENT, fidibus_config_set_text(config, "dialect", "morse"));
    STATUS(INVALID_JSON, fidibus_config_set_json(config, "{"));
    STATUS(INVALID_JSON, fidibus_config_set_json(config, "[]"));
    STATUS(NOT_UTF8, fidibus_config_set_text(config, "name", "\xff"));
    /* All or nothing. */
    STATUS(UNKNOWN_KEY, fidibus_config_set_json(config, "{\"debounce_ms\":7,\"zzz\":1}"));
    OK(fidibus_config_set_json(config, "{\"updates_per_second_max\":null}"));
    OK(fidibus_config_json(config, &json));
    CHECK(strstr((const char *)json.bytes, "\"debounce_ms\":123"));
    CHECK(strstr((const char *)json.bytes, "\"updates_per_second_max\":null"));
    fidibus_buffer_free(&json);
    fidibus_config_free(config);
}

static void nothing(void *env, const fidibus_event *event, fidibus_reply *reply) {
    (void)env;
    (void)event;
    fidibus_reply_free(reply);
}

static void stores_by_url(void) {
    fidibus_hub *hub = NULL;
    const char *bad[] = {"", "redis://x", "sqlite:", "postgres://host:port/x", "memory"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fidibus_config *config = small_config();
        OK(fidibus_config_set_text(config, "store", bad[i]));
        STATUS(INVALID_URL, fidibus_hub_new(config, &hub));
        CHECK(hub == NULL);
        fidibus_config_free(config);
    }
    fidibus_config *config = small_config();
    OK(fidibus_config_set_text(config, "store", "sqlite:/proc/nowhere/x.db"));
    STATUS(STORE, fidibus_hub_new(config, &hub));
    fidibus_config_free(config);

    char path[] = "/tmp/fidibus-test-XXXXXX";
    CHECK(mkdtemp(path) != NULL);
    char url[64];
    snprintf(url, sizeof url, "sqlite:%s/a.db", path);
    for (int round = 0; round < 2; round++) {
        config = small_config();
        OK(fidibus_config_set_text(config, "store", url));
        hub = hub_of(config);
        fidibus_document *document = NULL;
        fidibus_buffer text;
        OK(fidibus_document_open(hub, "kept", &document));
        OK(fidibus_document_text(document, "t", &text));
        CHECK(took_text(&text, round == 0 ? "" : "kept"));
        if (round == 0) {
            fidibus_transaction *transaction = NULL;
            OK(fidibus_transaction_new(&transaction));
            OK(fidibus_transaction_text_insert(transaction, "t", UINT32_MAX, "kept"));
            OK(fidibus_transaction_commit(transaction, document, NULL));
            fidibus_transaction_free(transaction);
        }
        fidibus_names *unsaved = NULL;
        OK(fidibus_hub_shutdown(hub, 5000u * (unsigned)patience(), 0, &unsaved));
        CHECK(fidibus_names_count(unsaved) == 0);
        fidibus_names_free(unsaved);
        fidibus_document_free(document);
        fidibus_hub_free(hub);
    }
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", path);
    CHECK(system(command) == 0);
}

static void figures_and_health(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_metrics metrics;
    memset(&metrics, 7, sizeof metrics);
    OK(fidibus_hub_metrics(hub, &metrics, sizeof metrics));
    CHECK(metrics.connections_open == 0 && metrics.room_panics_total == 0);
    memset(&metrics, 7, sizeof metrics);
    OK(fidibus_hub_metrics(hub, &metrics, sizeof(uint64_t)));
    CHECK(metrics.connections_open == 0 && metrics.connections_total == 0x0707070707070707u);
    fidibus_buffer json;
    OK(fidibus_hub_metrics_json(hub, &json));
    CHECK(strstr((const char *)json.bytes, "\"documents_loaded\":0"));
    fidibus_buffer_free(&json);
    OK(fidibus_hub_health_json(hub, &json));
    CHECK(strstr((const char *)json.bytes, "\"status\":\"ok\"") && strstr((const char *)json.bytes, "memory"));
    fidibus_buffer_free(&json);
    OK(fidibus_hub_shutdown(hub, 1000, 0, NULL));
    STATUS(SHUTTING_DOWN, fidibus_hub_shutdown(hub, 1000, 0, NULL));
    OK(fidibus_hub_health_json(hub, &json));
    CHECK(strstr((const char *)json.bytes, "shutting-down"));
    fidibus_buffer_free(&json);
    fidibus_document *document = NULL;
    STATUS(SHUTTING_DOWN, fidibus_document_open(hub, "x", &document));
    STATUS(SHUTTING_DOWN, fidibus_hub_close_connections(hub, NULL));
    fidibus_hub_free(hub);
    fidibus_hub_free(NULL);
}

static void lists_of_names(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_document *document = NULL;
    fidibus_names *names = NULL;
    fidibus_text name;
    OK(fidibus_document_open(hub, "one", &document));
    OK(fidibus_hub_documents(hub, &names));
    CHECK(fidibus_names_count(names) == 1 && fidibus_names_count(NULL) == 0);
    OK(fidibus_names_at(names, 0, &name));
    CHECK(is_text(&name, "one"));
    STATUS(OUT_OF_RANGE, fidibus_names_at(names, 1, &name));
    fidibus_names_free(names);
    fidibus_names_free(NULL);
    fidibus_document_free(document);
    fidibus_hub_free(hub);
}

static void handshakes_are_checked(void) {
    fidibus_handshake *handshake = NULL;
    OK(fidibus_handshake_new(&handshake));
    OK(fidibus_handshake_set_uri(handshake, "/a%20b?token=x"));
    STATUS(INVALID_URL, fidibus_handshake_set_uri(handshake, "not a uri"));
    OK(fidibus_handshake_set_document(handshake, "name"));
    OK(fidibus_handshake_set_document(handshake, NULL));
    STATUS(INVALID_NAME, fidibus_handshake_set_document(handshake, " "));
    OK(fidibus_handshake_add_header(handshake, "X-One", "1"));
    STATUS(INVALID_ARGUMENT, fidibus_handshake_add_header(handshake, "bad name", "1"));
    STATUS(INVALID_ARGUMENT, fidibus_handshake_add_header(handshake, "X-One", "a\nb"));
    OK(fidibus_handshake_set_client_ip(handshake, "::1"));
    STATUS(INVALID_ARGUMENT, fidibus_handshake_set_client_ip(handshake, "here"));
    fidibus_handshake_free(handshake);
    fidibus_handshake_free(NULL);
}

/* A call that fails takes nothing over: its finalizer stays uncalled. */
static void builders_own_their_env(void) {
    counter freed = {0};
    fidibus_extension *extension = NULL;
    fidibus_store *store = NULL;
    STATUS(NULL_POINTER, fidibus_extension_new(NULL, &freed, count_up, &extension));
    STATUS(NULL_POINTER, fidibus_extension_new("x", &freed, count_up, NULL));
    STATUS(NULL_POINTER, fidibus_store_new(&freed, count_up, NULL));
    CHECK(freed.count == 0);
    OK(fidibus_extension_new("x", &freed, count_up, &extension));
    STATUS(INVALID_ARGUMENT, fidibus_extension_on(extension, 25, nothing));
    OK(fidibus_extension_on(extension, FIDIBUS_HOOK_ON_CHANGE, nothing));
    OK(fidibus_extension_on(extension, FIDIBUS_HOOK_ON_CHANGE, NULL));
    OK(fidibus_extension_set_priority(extension, 7));
    fidibus_config *config = small_config();
    OK(fidibus_config_add_extension(config, extension));
    fidibus_extension_free(extension);
    CHECK(freed.count == 0);
    OK(fidibus_store_new(&freed, count_up, &store));
    STATUS(INVALID_ARGUMENT, fidibus_store_on(store, 99, nothing));
    STATUS(INVALID_ARGUMENT, fidibus_store_on(store, 108, nothing));
    OK(fidibus_store_on(store, FIDIBUS_STORE_OPERATION_LOAD, nothing));
    STATUS(INVALID_ARGUMENT, fidibus_config_set_store(config, store));
    OK(fidibus_store_on(store, FIDIBUS_STORE_OPERATION_STORE, nothing));
    OK(fidibus_config_set_store(config, store));
    OK(fidibus_config_set_store(config, NULL));
    fidibus_store_free(store);
    CHECK(freed.count == 1);
    STATUS(NULL_POINTER, fidibus_config_set_authenticator(config, NULL, &freed, count_up));
    OK(fidibus_config_set_authenticator(config, nothing, &freed, count_up));
    fidibus_hub *hub = NULL;
    OK(fidibus_hub_new(config, &hub));
    fidibus_config_free(config);
    CHECK(freed.count == 1);
    fidibus_hub_free(hub);
    CHECK(freed.count == 3);
    fidibus_extension_free(NULL);
    fidibus_store_free(NULL);
}

static _Thread_local int lines;
static atomic_int all_lines;
static void log_line(void *env, uint32_t level, const char *target, const char *message) {
    (void)env;
    CHECK(level >= FIDIBUS_LOG_LEVEL_ERROR && level <= FIDIBUS_LOG_LEVEL_TRACE);
    CHECK(strlen(target) > 0 && strlen(message) > 0);
    atomic_fetch_add(&all_lines, 1);
    lines++;
}

static void the_log_is_a_callback(void) {
    counter freed = {0};
    OK(fidibus_log_set(log_line, &freed, count_up));
    OK(fidibus_log_set_level(FIDIBUS_LOG_LEVEL_DEBUG));
    STATUS(INVALID_ARGUMENT, fidibus_log_set_level(0));
    STATUS(INVALID_ARGUMENT, fidibus_log_set_level(6));
    fidibus_hub *hub = hub_of(small_config());
    fidibus_document *document = NULL;
    OK(fidibus_document_open(hub, "x", &document));
    fidibus_document_free(document);
    fidibus_hub_free(hub);
    CHECK(all_lines > 0);
    OK(fidibus_log_set(NULL, NULL, NULL));
    CHECK(freed.count == 1);
    OK(fidibus_log_set_level(FIDIBUS_LOG_LEVEL_INFO));
}

int main(void) {
    RUN(version_and_status);
    RUN(errors_tell_the_story);
    RUN(keys_have_types_and_bounds);
    RUN(stores_by_url);
    RUN(figures_and_health);
    RUN(lists_of_names);
    RUN(handshakes_are_checked);
    RUN(builders_own_their_env);
    RUN(the_log_is_a_callback);
    return 0;
}
