/* The whole server in one call: it listens, answers, and stops. */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static int dial(uint16_t port) {
    int socket_fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK(inet_pton(AF_INET, "127.0.0.1", &address.sin_addr) == 1);
    if (connect(socket_fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(socket_fd);
        return -1;
    }
    return socket_fd;
}

/* Sends a request and reads the answer's beginning. */
static void ask(uint16_t port, const char *request, char *answer, size_t size) {
    int fd = dial(port);
    CHECK(fd >= 0);
    CHECK(write(fd, request, strlen(request)) == (ssize_t)strlen(request));
    ssize_t got = read(fd, answer, size - 1);
    CHECK(got > 0);
    answer[got] = 0;
    close(fd);
}

static void listening(void *env, const fidibus_event *event, fidibus_reply *reply) {
    uint16_t port = 0;
    CHECK(reply == NULL);
    OK(fidibus_event_port(event, &port));
    atomic_store(&((counter *)env)->count, port);
}

static const char UPGRADE[] = "GET /ws/notes HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static void a_server_of_its_own(void) {
    fidibus_server *server = NULL;
    uint16_t port = 0;
    char answer[4096];
    OK(fidibus_server_start(NULL, "127.0.0.1", 0, "{\"DATABASE_URL\":\"memory:\",\"WS_STATE_DIR\":\"/tmp\"}", &server));
    OK(fidibus_server_port(server, &port));
    CHECK(port > 0);
    ask(port, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", answer, sizeof answer);
    CHECK(strstr(answer, "200 OK") && strstr(answer, "status"));
    ask(port, UPGRADE, answer, sizeof answer);
    CHECK(strstr(answer, "101 Switching Protocols"));
    fidibus_server *second = NULL;
    STATUS(LISTEN, fidibus_server_start(NULL, "127.0.0.1", port, NULL, &second));
    CHECK(second == NULL);
    fidibus_names *unsaved = NULL;
    OK(fidibus_server_stop(server, &unsaved));
    CHECK(fidibus_names_count(unsaved) == 0);
    fidibus_names_free(unsaved);
    STATUS(CLOSED, fidibus_server_stop(server, NULL));
    CHECK(dial(port) < 0);
    fidibus_server_free(server);
    fidibus_server_free(NULL);
}

static void a_server_with_the_hosts_hub(void) {
    counter heard = {0};
    fidibus_config *config = small_config();
    fidibus_extension *extension = NULL;
    OK(fidibus_extension_new("listener", &heard, NULL, &extension));
    OK(fidibus_extension_on(extension, FIDIBUS_HOOK_ON_LISTEN, listening));
    OK(fidibus_config_add_extension(config, extension));
    fidibus_extension_free(extension);
    fidibus_hub *hub = hub_of(config);
    fidibus_server *server = NULL;
    uint16_t port = 0;
    OK(fidibus_server_start(hub, "127.0.0.1", 0, "{\"WS_PING_INTERVAL_MS\":10000}", &server));
    OK(fidibus_server_port(server, &port));
    EVENTUALLY(heard.count == port);
    char answer[4096];
    ask(port, UPGRADE, answer, sizeof answer);
    CHECK(strstr(answer, "101 Switching Protocols"));
    fidibus_metrics metrics;
    EVENTUALLY(fidibus_hub_metrics(hub, &metrics, sizeof metrics) == FIDIBUS_STATUS_OK && metrics.connections_total == 1);
    fidibus_server_free(server);
    STATUS(SHUTTING_DOWN, fidibus_hub_shutdown(hub, 100, 0, NULL));
    STATUS(SHUTTING_DOWN, fidibus_server_start(hub, "127.0.0.1", 0, NULL, &server));
    fidibus_hub_free(hub);
}

/* What the hooks of an HTTP request were asked, and what they say by the query. */
typedef struct gate {
    atomic_int upgrades;
    atomic_int requests;
} gate;

static void judge(void *env, const fidibus_event *event, fidibus_reply *reply) {
    gate *this = env;
    uint32_t hook = 99;
    fidibus_buffer ip, word;
    fidibus_text host;
    CHECK(reply != NULL);
    OK(fidibus_event_kind(event, &hook));
    atomic_fetch_add(hook == FIDIBUS_HOOK_ON_UPGRADE ? &this->upgrades : &this->requests, 1);
    OK(fidibus_event_header(event, "host", &host));
    CHECK(is_text(&host, "x"));
    OK(fidibus_event_client_ip(event, &ip));
    CHECK(took_text(&ip, "127.0.0.1"));
    STATUS(NOT_FOR_THIS, fidibus_event_document(event, &host));
    STATUS(NOT_FOR_THIS, fidibus_reply_set_user(reply, "ada"));
    if (fidibus_event_query(event, "say", &word) == FIDIBUS_STATUS_EMPTY) {
        OK(fidibus_reply_accept(reply));
        return;
    }
    if (strcmp((const char *)word.bytes, "who") == 0) {
        OK(fidibus_reply_reject(reply, 4401, "who are you"));
    } else if (strcmp((const char *)word.bytes, "later") == 0) {
        OK(fidibus_reply_reject(reply, 1013, NULL));
    } else {
        fidibus_reply_free(reply);
    }
    fidibus_buffer_free(&word);
}

static const char *answered(uint16_t port, const char *target, int upgrade) {
    static char answer[4096];
    char request[512];
    const char *wish = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", target,
             upgrade ? wish : "Connection: close\r\n");
    ask(port, request, answer, sizeof answer);
    return answer;
}

/* Goal: on_upgrade and on_request decide before anything is answered, each on its own kind of request. */
static void hooks_judge_requests(void) {
    gate asked = {0, 0};
    fidibus_config *config = small_config();
    fidibus_extension *extension = NULL;
    OK(fidibus_extension_new("gate", &asked, NULL, &extension));
    OK(fidibus_extension_on(extension, FIDIBUS_HOOK_ON_UPGRADE, judge));
    OK(fidibus_extension_on(extension, FIDIBUS_HOOK_ON_REQUEST, judge));
    OK(fidibus_config_add_extension(config, extension));
    fidibus_extension_free(extension);
    fidibus_hub *hub = hub_of(config);
    fidibus_server *server = NULL;
    uint16_t port = 0;
    OK(fidibus_server_start(hub, "127.0.0.1", 0, NULL, &server));
    OK(fidibus_server_port(server, &port));
    CHECK(strstr(answered(port, "/notes", 1), " 101 "));
    CHECK(strstr(answered(port, "/notes?say=who", 1), " 401 "));
    CHECK(strstr(answered(port, "/notes?say=later", 1), " 503 "));
    CHECK(strstr(answered(port, "/notes?say=nothing", 1), " 403 "));
    CHECK(asked.upgrades == 4 && asked.requests == 0);
    CHECK(strstr(answered(port, "/health", 0), " 200 "));
    CHECK(strstr(answered(port, "/health?say=nothing", 0), " 403 "));
    CHECK(asked.upgrades == 4 && asked.requests == 2);
    fidibus_metrics metrics;
    EVENTUALLY(fidibus_hub_metrics(hub, &metrics, sizeof metrics) == FIDIBUS_STATUS_OK && metrics.connections_total == 1);
    fidibus_server_free(server);
    fidibus_hub_free(hub);
}

static void settings_are_checked(void) {
    fidibus_server *server = NULL;
    STATUS(INVALID_JSON, fidibus_server_start(NULL, "127.0.0.1", 0, "[", &server));
    STATUS(INVALID_ARGUMENT, fidibus_server_start(NULL, "127.0.0.1", 0, "{\"WS_STALL_MS\":-1}", &server));
    STATUS(INVALID_ARGUMENT, fidibus_server_start(NULL, "not an address", 0, NULL, &server));
    STATUS(LISTEN, fidibus_server_start(NULL, "192.0.2.1", 4711, NULL, &server));
    CHECK(server == NULL);
}

int main(void) {
    RUN(a_server_of_its_own);
    RUN(a_server_with_the_hosts_hub);
    RUN(hooks_judge_requests);
    RUN(settings_are_checked);
    return 0;
}
