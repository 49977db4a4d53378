/* Hooks and authenticators: every hook is called, every answer counts, from any thread, once. */
#include "check.h"

#define HOOKS 25

typedef struct host {
    pthread_mutex_t mutex;
    int calls[HOOKS];
    fidibus_hub *hub;
    int in_callback;
    atomic_int contexts_freed;
    int (*answer)(struct host *, uint32_t hook, const fidibus_event *, fidibus_reply *);
    fidibus_reply *kept;
} host;

static int calls(host *this, uint32_t hook) {
    pthread_mutex_lock(&this->mutex);
    int count = this->calls[hook];
    pthread_mutex_unlock(&this->mutex);
    return count;
}

static void on_hook(void *env, const fidibus_event *event, fidibus_reply *reply) {
    host *this = env;
    uint32_t hook = 99;
    OK(fidibus_event_kind(event, &hook));
    CHECK(hook < HOOKS);
    int answered = reply == NULL || (this->answer && this->answer(this, hook, event, reply));
    pthread_mutex_lock(&this->mutex);
    this->calls[hook]++;
    pthread_mutex_unlock(&this->mutex);
    if (!answered) {
        OK(fidibus_reply_accept(reply));
    }
}

static fidibus_extension *extension_of(host *this) {
    fidibus_extension *extension = NULL;
    OK(fidibus_extension_new("test", this, NULL, &extension));
    for (uint32_t hook = 0; hook < HOOKS; hook++) {
        OK(fidibus_extension_on(extension, hook, on_hook));
    }
    return extension;
}

static fidibus_hub *hub_with(host *this) {
    fidibus_config *config = small_config();
    fidibus_extension *extension = extension_of(this);
    OK(fidibus_config_add_extension(config, extension));
    fidibus_extension_free(extension);
    return hub_of(config);
}

static void free_context(void *env) { atomic_fetch_add(&((host *)env)->contexts_freed, 1); }

/* Looks at everything that an event of this hook has, and at some that it has not. */
static int look(host *this, uint32_t hook, const fidibus_event *event, fidibus_reply *reply) {
    fidibus_text text, user;
    fidibus_bytes bytes;
    fidibus_buffer buffer;
    uint64_t connection;
    uint32_t number;
    uint16_t port;
    size_t count;
    void *context;
    const int64_t *rows;
    const uint64_t *clients;
    STATUS(NOT_FOR_THIS, fidibus_event_folded(event, &rows, &count));
    STATUS(NOT_FOR_THIS, fidibus_event_batch_count(event, &count));
    STATUS(NOT_FOR_THIS, fidibus_event_batch(event, 0, &text, &bytes, &user));
    STATUS(NOT_FOR_THIS, fidibus_event_after(event, &text));
    STATUS(NOT_FOR_THIS, fidibus_event_limit(event, &connection));
    STATUS(NOT_FOR_THIS, fidibus_event_age_ms(event, &connection));
    STATUS(NOT_FOR_THIS, fidibus_event_port(event, &port));
    if (hook == FIDIBUS_HOOK_ON_AUTHENTICATE) {
        OK(fidibus_event_token(event, &text));
        CHECK(is_text(&text, "secret"));
        OK(fidibus_event_provider_version(event, &text));
        CHECK(is_text(&text, "4.0.0"));
        OK(fidibus_event_session(event, &connection, &number));
        STATUS(EMPTY, fidibus_event_session_id(event, &text));
        STATUS(EMPTY, fidibus_event_user(event, &text));
        STATUS(EMPTY, fidibus_event_context(event, &context));
        OK(fidibus_event_access(event, &number));
        CHECK(number == FIDIBUS_ACCESS_READ_WRITE);
        OK(fidibus_event_header(event, "x-test", &text));
        CHECK(is_text(&text, "yes"));
        STATUS(EMPTY, fidibus_event_header(event, "x-none", &text));
        OK(fidibus_event_query(event, "room", &buffer));
        CHECK(took_text(&buffer, "a b"));
        STATUS(EMPTY, fidibus_event_query(event, "none", &buffer));
        OK(fidibus_event_uri(event, &buffer));
        CHECK(took_text(&buffer, "/path?room=a%20b"));
        OK(fidibus_event_client_ip(event, &buffer));
        CHECK(took_text(&buffer, "10.0.0.1"));
        STATUS(NOT_FOR_THIS, fidibus_event_payload(event, &bytes));
        STATUS(NOT_FOR_THIS, fidibus_event_message(event, &number));
        STATUS(NOT_FOR_THIS, fidibus_event_origin(event, &number));
        STATUS(NOT_FOR_THIS, fidibus_event_states(event, &buffer));
        STATUS(NOT_FOR_THIS, fidibus_event_clients(event, 0, &clients, &count));
        OK(fidibus_reply_set_user(reply, "ada"));
        OK(fidibus_reply_set_context(reply, this, free_context));
        OK(fidibus_reply_set_access(reply, FIDIBUS_ACCESS_READ_WRITE));
        OK(fidibus_reply_set_expires(reply, 32503680000000u));
        STATUS(INVALID_ARGUMENT, fidibus_reply_set_access(reply, 7));
        STATUS(OUT_OF_RANGE, fidibus_reply_set_expires(reply, UINT64_MAX));
        STATUS(NOT_FOR_THIS, fidibus_reply_set_gc(reply, true));
        STATUS(NOT_FOR_THIS, fidibus_reply_add_update(reply, NULL, 0));
        STATUS(NOT_FOR_THIS, fidibus_reply_set_states(reply, "[]"));
        STATUS(NOT_FOR_THIS, fidibus_reply_set_snapshot(reply, NULL, 0));
        STATUS(NOT_FOR_THIS, fidibus_reply_add_row(reply, 1, NULL, 0));
        STATUS(NOT_FOR_THIS, fidibus_reply_add_id(reply, 1));
        STATUS(NOT_FOR_THIS, fidibus_reply_add_name(reply, "x"));
        STATUS(NOT_FOR_THIS, fidibus_reply_set_count(reply, 1));
        fidibus_hub *hub = NULL;
        fidibus_config *config = small_config();
        STATUS(IN_CALLBACK, fidibus_hub_new(config, &hub));
        fidibus_config_free(config);
    }
    if (hook == FIDIBUS_HOOK_ON_CREATE_DOCUMENT) {
        OK(fidibus_reply_set_gc(reply, false));
        STATUS(NOT_FOR_THIS, fidibus_reply_set_access(reply, 1));
        STATUS(NOT_FOR_THIS, fidibus_event_session(event, &connection, &number));
        STATUS(NOT_FOR_THIS, fidibus_event_token(event, &text));
    }
    if (hook == FIDIBUS_HOOK_ON_LOAD_DOCUMENT) {
        /* The empty update. */
        OK(fidibus_reply_add_update(reply, (const uint8_t *)"\0\0", 2));
        STATUS(NULL_POINTER, fidibus_reply_add_update(reply, NULL, 2));
    }
    if (hook == FIDIBUS_HOOK_BEFORE_HANDLE_AWARENESS) {
        OK(fidibus_event_states(event, &buffer));
        CHECK(took_text(&buffer, "[{\"client\":42,\"clock\":1,\"state\":{\"name\":\"eve\"}}]"));
        STATUS(INVALID_JSON, fidibus_reply_set_states(reply, "{"));
        STATUS(INVALID_JSON, fidibus_reply_set_states(reply, "[{\"client\":1}]"));
        OK(fidibus_reply_set_states(reply, "[{\"client\":42,\"clock\":1,\"state\":{\"name\":\"bob\"}}]"));
    }
    if (hook == FIDIBUS_HOOK_BEFORE_HANDLE_MESSAGE) {
        OK(fidibus_event_message(event, &number));
        OK(fidibus_event_payload(event, &bytes));
        OK(fidibus_event_user(event, &text));
        CHECK(is_text(&text, "ada"));
        OK(fidibus_event_context(event, &context));
        CHECK(context == this);
    }
    if (hook == FIDIBUS_HOOK_BEFORE_BROADCAST_STATELESS) {
        OK(fidibus_event_payload(event, &bytes));
        if (bytes.len == 4 && memcmp(bytes.bytes, "stop", 4) == 0) {
            OK(fidibus_reply_reject(reply, 4000, "no"));
            return 1;
        }
    }
    return 0;
}

static fidibus_connection *join(fidibus_hub *hub, const char *name, const char *token) {
    fidibus_handshake *handshake = NULL;
    fidibus_connection *connection = NULL;
    uint8_t message[256];
    OK(fidibus_handshake_new(&handshake));
    OK(fidibus_handshake_set_uri(handshake, "/path?room=a%20b"));
    OK(fidibus_handshake_add_header(handshake, "X-Test", "yes"));
    OK(fidibus_handshake_set_client_ip(handshake, "10.0.0.1"));
    OK(fidibus_hub_connect(hub, handshake, &connection));
    fidibus_handshake_free(handshake);
    OK(fidibus_connection_receive(connection, message, token_frame(message, name, token)));
    return connection;
}

static void send_named(fidibus_connection *connection, const char *name, const void *rest, size_t len) {
    uint8_t message[512];
    OK(fidibus_connection_receive(connection, message, named_frame(message, name, rest, len)));
}

static void every_hook_is_called(void) {
    host host = {.mutex = PTHREAD_MUTEX_INITIALIZER, .answer = look};
    fidibus_hub *hub = hub_with(&host);
    fidibus_connection *a = join(hub, "notes", "secret");
    CHECK(sees(a, "read-write"));
    send_named(a, "notes", STEP1, sizeof STEP1);
    fidibus_buffer update = typed("hello");
    uint8_t message[256];
    send_named(a, "notes", message, update_frame(message, update.bytes, update.len));
    fidibus_buffer_free(&update);
    const char awareness[] = "\x01\x12\x01\x2a\x01\x0e{\"name\":\"eve\"}";
    send_named(a, "notes", awareness, sizeof awareness - 1);
    CHECK(sees(a, "bob"));
    send_named(a, "notes", "\x05\x02hi", 4);
    /* A fresh token on an open session. */
    OK(fidibus_connection_receive(a, message, token_frame(message, "notes", "fresh")));
    EVENTUALLY(fidibus_hub_broadcast_stateless(hub, "notes", (const uint8_t *)"go", 2) == FIDIBUS_STATUS_OK);
    STATUS(REJECTED, fidibus_hub_broadcast_stateless(hub, "notes", (const uint8_t *)"stop", 4));
    EVENTUALLY(calls(&host, FIDIBUS_HOOK_ON_CHANGE) > 0 && calls(&host, FIDIBUS_HOOK_ON_STATELESS) > 0);
    EVENTUALLY(calls(&host, FIDIBUS_HOOK_ON_TOKEN_SYNC) > 0 && calls(&host, FIDIBUS_HOOK_CONNECTED) > 0);
    fidibus_connection_free(a);
    EVENTUALLY(calls(&host, FIDIBUS_HOOK_AFTER_UNLOAD_DOCUMENT) > 0);
    EVENTUALLY(calls(&host, FIDIBUS_HOOK_ON_DISCONNECT) > 0);
    EVENTUALLY(host.contexts_freed == 1);
    fidibus_hub_free(hub);
    for (uint32_t hook = 0; hook < HOOKS; hook++) {
        /* These three need a listener: server.c. */
        int listener = hook == FIDIBUS_HOOK_ON_LISTEN || hook == FIDIBUS_HOOK_ON_UPGRADE || hook == FIDIBUS_HOOK_ON_REQUEST;
        if (!listener && host.calls[hook] == 0) {
            fprintf(stderr, "hook %u was not called\n", hook);
            abort();
        }
    }
}

static int refuse_token(host *this, uint32_t hook, const fidibus_event *event, fidibus_reply *reply) {
    (void)this;
    fidibus_text token;
    if (hook != FIDIBUS_HOOK_ON_AUTHENTICATE) {
        return 0;
    }
    OK(fidibus_event_token(event, &token));
    if (is_text(&token, "good")) {
        return 0;
    }
    if (is_text(&token, "free")) {
        fidibus_reply_free(reply);
        return 1;
    }
    if (is_text(&token, "fail")) {
        STATUS(NOT_UTF8, fidibus_reply_fail(reply, "\xff", false));
        OK(fidibus_reply_fail(reply, NULL, false));
        return 1;
    }
    STATUS(OUT_OF_RANGE, fidibus_reply_reject(reply, 17, NULL));
    STATUS(NOT_UTF8, fidibus_reply_reject(reply, 4403, "\xff"));
    OK(fidibus_reply_reject(reply, 4403, "wrong token"));
    return 1;
}

static void a_hook_refuses_a_token(void) {
    host host = {.mutex = PTHREAD_MUTEX_INITIALIZER, .answer = refuse_token};
    fidibus_hub *hub = hub_with(&host);
    fidibus_connection *bad = join(hub, "notes", "bad");
    CHECK(sees(bad, "wrong token"));
    fidibus_connection *unanswered = join(hub, "notes", "free");
    CHECK(sees(unanswered, "permission-denied"));
    fidibus_connection *failed = join(hub, "notes", "fail");
    CHECK(sees(failed, "permission-denied"));
    fidibus_connection *good = join(hub, "notes", "good");
    CHECK(sees(good, "read-write"));
    fidibus_connection_free(bad);
    fidibus_connection_free(unanswered);
    fidibus_connection_free(failed);
    fidibus_connection_free(good);
    fidibus_hub_free(hub);
}

static int reject_update(host *this, uint32_t hook, const fidibus_event *event, fidibus_reply *reply) {
    (void)this;
    fidibus_bytes payload;
    uint32_t message;
    if (hook != FIDIBUS_HOOK_BEFORE_SYNC) {
        return 0;
    }
    OK(fidibus_event_message(event, &message));
    OK(fidibus_event_payload(event, &payload));
    if (message != FIDIBUS_MESSAGE_UPDATE || !holds(payload.bytes, payload.len, "forbidden")) {
        return 0;
    }
    OK(fidibus_reply_reject(reply, 4010, "not in here"));
    return 1;
}

static void a_hook_rejects_an_update(void) {
    host host = {.mutex = PTHREAD_MUTEX_INITIALIZER, .answer = reject_update};
    fidibus_hub *hub = hub_with(&host);
    fidibus_connection *a = connect_to(hub, "/notes");
    fidibus_document *document = NULL;
    fidibus_buffer text;
    uint8_t message[256];
    OK(fidibus_document_open(hub, "notes", &document));
    OK(fidibus_connection_receive(a, STEP1, sizeof STEP1));
    fidibus_buffer good = typed("allowed");
    OK(fidibus_connection_receive(a, message, update_frame(message, good.bytes, good.len)));
    fidibus_buffer_free(&good);
    fidibus_buffer bad = typed("forbidden");
    OK(fidibus_connection_receive(a, message, update_frame(message, bad.bytes, bad.len)));
    fidibus_buffer_free(&bad);
    CHECK(closed_with(a) == 4010);
    OK(fidibus_document_text(document, "t", &text));
    CHECK(took_text(&text, "allowed"));
    fidibus_document_free(document);
    fidibus_connection_free(a);
    fidibus_hub_free(hub);
}

/* Goal: answers come from any thread. Method: an authenticator hands each reply to a thread that answers 50 ms
 * later, and grants by the token. */
typedef struct late {
    fidibus_reply *reply;
    char token[32];
} late;

static void *answer_late(void *argument) {
    late *this = argument;
    sleep_ms(50);
    if (strcmp(this->token, "bad") == 0) {
        OK(fidibus_reply_reject(this->reply, 4401, "who are you"));
    } else if (strcmp(this->token, "down") == 0) {
        OK(fidibus_reply_fail(this->reply, "the directory is away", true));
    } else {
        OK(fidibus_reply_set_user(this->reply, "late"));
        OK(fidibus_reply_set_access(this->reply, FIDIBUS_ACCESS_READ_ONLY));
        OK(fidibus_reply_accept(this->reply));
    }
    free(this);
    return NULL;
}

static void authenticate_later(void *env, const fidibus_event *event, fidibus_reply *reply) {
    fidibus_text token = {"", 0};
    fidibus_status status = fidibus_event_token(event, &token);
    CHECK(status == FIDIBUS_STATUS_OK || status == FIDIBUS_STATUS_EMPTY);
    late *this = calloc(1, sizeof *this);
    this->reply = reply;
    memcpy(this->token, token.text, token.len < 31 ? token.len : 31);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, answer_late, this) == 0);
    pthread_detach(thread);
    atomic_fetch_add(&((counter *)env)->count, 1);
}

static void an_authenticator_answers_from_another_thread(void) {
    counter asked = {0};
    fidibus_config *config = small_config();
    OK(fidibus_config_set_authenticator(config, authenticate_later, &asked, NULL));
    fidibus_hub *hub = hub_of(config);
    fidibus_connection *good = join(hub, "notes", "good");
    fidibus_connection *bad = join(hub, "notes", "bad");
    fidibus_connection *down = join(hub, "notes", "down");
    CHECK(sees(good, "readonly"));
    CHECK(sees(bad, "who are you"));
    /* What may pass is no denial: the socket is closed with an invitation to come back. */
    CHECK(closed_with(down) == 1013);
    fidibus_metrics metrics;
    OK(fidibus_hub_metrics(hub, &metrics, sizeof metrics));
    CHECK(metrics.auth_denied_total == 1 && metrics.auth_unavailable_total == 1 && asked.count == 3);
    fidibus_connection_free(good);
    fidibus_connection_free(bad);
    fidibus_connection_free(down);
    fidibus_hub_free(hub);
}

static int keep_reply(host *this, uint32_t hook, const fidibus_event *event, fidibus_reply *reply) {
    (void)event;
    if (hook != FIDIBUS_HOOK_ON_AUTHENTICATE) {
        return 0;
    }
    pthread_mutex_lock(&this->mutex);
    this->kept = reply;
    pthread_mutex_unlock(&this->mutex);
    return 1;
}

static fidibus_reply *kept(host *this) {
    pthread_mutex_lock(&this->mutex);
    fidibus_reply *reply = this->kept;
    pthread_mutex_unlock(&this->mutex);
    return reply;
}

static void an_answer_may_come_too_late(void) {
    host host = {.mutex = PTHREAD_MUTEX_INITIALIZER, .answer = keep_reply};
    fidibus_hub *hub = hub_with(&host);
    fidibus_connection *a = join(hub, "notes", "x");
    EVENTUALLY(kept(&host) != NULL);
    fidibus_connection_free(a);
    fidibus_hub_free(hub);
    OK(fidibus_reply_set_user(host.kept, "nobody"));
    OK(fidibus_reply_set_context(host.kept, &host, free_context));
    STATUS(NOT_WAITING, fidibus_reply_accept(host.kept));
    CHECK(host.contexts_freed == 1);
    STATUS(NULL_POINTER, fidibus_reply_accept(NULL));
    STATUS(NULL_POINTER, fidibus_reply_skip(NULL));
    STATUS(NULL_POINTER, fidibus_reply_reject(NULL, 4000, NULL));
    STATUS(NULL_POINTER, fidibus_reply_fail(NULL, NULL, false));
    fidibus_reply_free(NULL);
}

static int skip_rest(host *this, uint32_t hook, const fidibus_event *event, fidibus_reply *reply) {
    (void)this;
    (void)event;
    if (hook != FIDIBUS_HOOK_ON_CONNECT) {
        return 0;
    }
    OK(fidibus_reply_skip(reply));
    return 1;
}

static void priorities_and_skipping(void) {
    host first = {.mutex = PTHREAD_MUTEX_INITIALIZER, .answer = skip_rest};
    host second = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    fidibus_config *config = small_config();
    fidibus_extension *low = extension_of(&second);
    fidibus_extension *high = extension_of(&first);
    OK(fidibus_extension_set_priority(high, 1000));
    OK(fidibus_config_add_extension(config, low));
    OK(fidibus_config_add_extension(config, high));
    fidibus_extension_free(low);
    fidibus_extension_free(high);
    fidibus_hub *hub = hub_of(config);
    fidibus_connection *a = join(hub, "notes", "x");
    CHECK(sees(a, "read-write"));
    CHECK(calls(&first, FIDIBUS_HOOK_ON_CONNECT) == 1 && calls(&second, FIDIBUS_HOOK_ON_CONNECT) == 0);
    CHECK(calls(&second, FIDIBUS_HOOK_ON_AUTHENTICATE) == 1);
    fidibus_connection_free(a);
    fidibus_hub_free(hub);
}

static void free_the_hub(void *env, const fidibus_event *event, fidibus_reply *reply) {
    (void)event;
    fidibus_hub **hub = env;
    fidibus_hub_free(*hub);
    *hub = NULL;
    fidibus_reply_free(reply);
}

static atomic_int hub_gone;
static void note_gone(void *env) {
    (void)env;
    atomic_store(&hub_gone, 1);
}

/* A hub that one of its own hooks frees: it ends on a thread of its own. */
static void a_hook_may_free_its_hub(void) {
    static fidibus_hub *hub;
    fidibus_config *config = small_config();
    fidibus_extension *extension = NULL;
    OK(fidibus_extension_new("suicide", &hub, note_gone, &extension));
    OK(fidibus_extension_on(extension, FIDIBUS_HOOK_ON_CONNECT, free_the_hub));
    OK(fidibus_config_add_extension(config, extension));
    fidibus_extension_free(extension);
    hub = hub_of(config);
    fidibus_connection *a = connect_to(hub, "/a");
    OK(fidibus_connection_receive(a, STEP1, sizeof STEP1));
    EVENTUALLY(atomic_load(&hub_gone) == 1);
    EVENTUALLY((drain(a), fidibus_connection_receive(a, STEP1, sizeof STEP1)) == FIDIBUS_STATUS_CLOSED);
    fidibus_connection_free(a);
}

int main(void) {
    RUN(a_hook_may_free_its_hub);
    RUN(every_hook_is_called);
    RUN(a_hook_refuses_a_token);
    RUN(a_hook_rejects_an_update);
    RUN(an_authenticator_answers_from_another_thread);
    RUN(an_answer_may_come_too_late);
    RUN(priorities_and_skipping);
    return 0;
}
