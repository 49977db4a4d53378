/* A hub on PostgreSQL, by URL: FIDIBUS_TEST_POSTGRES names a server, which test.sh starts. */
#include <unistd.h>

#include "check.h"

static const char *url(void) {
    const char *url = getenv("FIDIBUS_TEST_POSTGRES");
    CHECK(url != NULL && strncmp(url, "postgres:", 9) == 0);
    return url;
}

/* A name that no other run of this program has. */
static const char *unique(void) {
    static char name[64];
    snprintf(name, sizeof name, "document of %d", (int)getpid());
    return name;
}

static fidibus_hub *hub_on_postgres(void) {
    fidibus_config *config = small_config();
    OK(fidibus_config_set_text(config, "store", url()));
    return hub_of(config);
}

static int is_stored(fidibus_hub *hub, const char *name) {
    fidibus_names *names = NULL;
    int found = 0;
    OK(fidibus_hub_stored_documents(hub, NULL, 10000, &names));
    for (size_t at = 0; at < fidibus_names_count(names); at++) {
        fidibus_text stored;
        OK(fidibus_names_at(names, at, &stored));
        found |= is_text(&stored, name);
    }
    fidibus_names_free(names);
    return found;
}

/* Goal: what was acknowledged is in the database. Method: a client types and gets its ack; the next hub reads it. */
static void acknowledged_updates_survive(void) {
    fidibus_hub *hub = hub_on_postgres();
    fidibus_buffer health, text;
    OK(fidibus_hub_health_json(hub, &health));
    CHECK(strstr((const char *)health.bytes, "\"store\":\"postgres\""));
    CHECK(strstr((const char *)health.bytes, "\"store_reachable\":true"));
    CHECK(strstr((const char *)health.bytes, "\"ack\":\"commit\""));
    fidibus_buffer_free(&health);
    CHECK(!is_stored(hub, unique()));

    fidibus_connection *a = connect_to(hub, "/");
    uint8_t message[256], inner[256];
    char acknowledged[80];
    OK(fidibus_connection_receive(a, message, token_frame(message, unique(), "")));
    CHECK(sees(a, "read-write"));
    fidibus_buffer update = typed("kept");
    size_t len = update_frame(inner, update.bytes, update.len);
    fidibus_buffer_free(&update);
    OK(fidibus_connection_receive(a, message, named_frame(message, unique(), inner, len)));
    snprintf(acknowledged, sizeof acknowledged, "%s\x08\x01", unique());
    CHECK(sees(a, acknowledged));
    CHECK(is_stored(hub, unique()));
    fidibus_connection_free(a);
    fidibus_names *unsaved = NULL;
    OK(fidibus_hub_shutdown(hub, 10000u * (unsigned)patience(), 0, &unsaved));
    CHECK(fidibus_names_count(unsaved) == 0);
    fidibus_names_free(unsaved);
    fidibus_hub_free(hub);

    hub = hub_on_postgres();
    fidibus_document *document = NULL;
    OK(fidibus_document_open(hub, unique(), &document));
    OK(fidibus_document_text(document, "t", &text));
    CHECK(took_text(&text, "kept"));
    fidibus_document_free(document);
    fidibus_metrics metrics;
    EVENTUALLY(fidibus_hub_metrics(hub, &metrics, sizeof metrics) == FIDIBUS_STATUS_OK &&
               metrics.documents_loaded == 0);
    OK(fidibus_hub_prune_log(hub, 0, NULL));
    OK(fidibus_hub_delete_stored(hub, unique()));
    STATUS(EMPTY, fidibus_hub_delete_stored(hub, unique()));
    CHECK(!is_stored(hub, unique()));
    fidibus_hub_free(hub);
}

/* What cannot be reached is told, without the password. */
static void a_wrong_url_is_told(void) {
    char wrong[256];
    const char *place = strstr(url(), ":secret@");
    CHECK(place != NULL);
    snprintf(wrong, sizeof wrong, "%.*s:pa55word@%s", (int)(place - url()), url(), place + strlen(":secret@"));
    const char *urls[] = {wrong, "postgres://fidibus:pa55word@127.0.0.1:1/postgres"};
    for (size_t at = 0; at < sizeof urls / sizeof *urls; at++) {
        fidibus_config *config = small_config();
        fidibus_hub *hub = NULL;
        OK(fidibus_config_set_text(config, "store", urls[at]));
        STATUS(STORE, fidibus_hub_new(config, &hub));
        CHECK(hub == NULL);
        fidibus_error *error = fidibus_error_take();
        CHECK(strlen(fidibus_error_message(error)) > 0);
        CHECK(strstr(fidibus_error_message(error), "pa55word") == NULL);
        fidibus_error_free(error);
        fidibus_config_free(config);
    }
}

/* The whole server on it, in one call. */
static void a_server_on_postgres(void) {
    char directory[] = "/tmp/fidibus-test-XXXXXX";
    char settings[512];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(settings, sizeof settings, "{\"DATABASE_URL\":\"%s\",\"WS_STATE_DIR\":\"%s\"}", url(), directory);
    fidibus_server *server = NULL;
    fidibus_names *unsaved = NULL;
    OK(fidibus_server_start(NULL, "127.0.0.1", 0, settings, &server));
    OK(fidibus_server_stop(server, &unsaved));
    CHECK(fidibus_names_count(unsaved) == 0);
    fidibus_names_free(unsaved);
    fidibus_server_free(server);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK(system(command) == 0);
}

int main(void) {
    RUN(acknowledged_updates_survive);
    RUN(a_wrong_url_is_told);
    RUN(a_server_on_postgres);
    return 0;
}
