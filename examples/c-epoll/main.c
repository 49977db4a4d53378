/* A sync server in C with an epoll loop of its own.
 *
 *   host [--port N] [--token T] [--forbid WORD] [--store URL]
 *
 * --token: only clients with this token get in; each is answered 50 ms later, by another thread.
 * --forbid: an update that holds this word is rejected, and its client closed with 4010.
 * Ends on SIGTERM and SIGINT, after everything is saved. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

#define EVENTS_AT_ONCE 64

struct options {
    uint16_t port;
    const char *token;
    const char *forbid;
    const char *store;
};

static void must(fidibus_status status, const char *what) {
    if (status != FIDIBUS_STATUS_OK) {
        fidibus_error *error = fidibus_error_take();
        fprintf(stderr, "%s: %s\n", what, fidibus_error_message(error));
        exit(1);
    }
}

/* A question that another thread answers. */
struct question {
    fidibus_reply *reply;
    bool welcome;
};

static void *answer_later(void *argument) {
    struct question *question = argument;
    struct timespec pause = {0, 50 * 1000000L};
    nanosleep(&pause, NULL);
    /* Late answers are no error: the client may be gone. */
    if (question->welcome) {
        fidibus_reply_set_user(question->reply, "somebody");
        fidibus_reply_accept(question->reply);
    } else {
        fidibus_reply_reject(question->reply, 4401, "wrong token");
    }
    free(question);
    return NULL;
}

static void on_authenticate(void *env, const fidibus_event *event, fidibus_reply *reply) {
    const struct options *options = env;
    fidibus_text token = {"", 0};
    /* Providers of y-websocket have no token in their frames, but may have one in the URL. */
    fidibus_buffer query = {0};
    if (fidibus_event_token(event, &token) != FIDIBUS_STATUS_OK || token.len == 0) {
        if (fidibus_event_query(event, "token", &query) == FIDIBUS_STATUS_OK) {
            token.text = (const char *)query.bytes;
            token.len = query.len;
        }
    }
    struct question *question = malloc(sizeof *question);
    pthread_t thread;
    if (question) {
        question->reply = reply;
        question->welcome = token.len == strlen(options->token) && memcmp(token.text, options->token, token.len) == 0;
    }
    fidibus_buffer_free(&query);
    if (question && pthread_create(&thread, NULL, answer_later, question) == 0) {
        pthread_detach(thread);
    } else {
        free(question);
        fidibus_reply_fail(reply, "no thread", true);
    }
}

static void before_sync(void *env, const fidibus_event *event, fidibus_reply *reply) {
    const struct options *options = env;
    fidibus_bytes payload = {NULL, 0};
    fidibus_event_payload(event, &payload);
    if (payload.len > 0 && memmem(payload.bytes, payload.len, options->forbid, strlen(options->forbid))) {
        fidibus_reply_reject(reply, 4010, "that word is forbidden");
    } else {
        fidibus_reply_accept(reply);
    }
}

static void on_log(void *env, uint32_t level, const char *target, const char *message) {
    (void)env;
    static const char *names[] = {"?", "error", "warn", "info", "debug", "trace"};
    fprintf(stderr, "%s %s: %s\n", level < 6 ? names[level] : names[0], target, message);
}

static fidibus_hub *make_hub(struct options *options) {
    fidibus_config *config = NULL;
    fidibus_extension *extension = NULL;
    fidibus_hub *hub = NULL;
    must(fidibus_log_set(on_log, NULL, NULL), "log");
    must(fidibus_log_set_level(FIDIBUS_LOG_LEVEL_WARN), "log");
    must(fidibus_config_new(&config), "configuration");
    must(fidibus_config_set_text(config, "store", options->store), "store");
    must(fidibus_extension_new("host", options, NULL, &extension), "extension");
    if (options->token) {
        must(fidibus_extension_on(extension, FIDIBUS_HOOK_ON_AUTHENTICATE, on_authenticate), "hook");
    }
    if (options->forbid) {
        must(fidibus_extension_on(extension, FIDIBUS_HOOK_BEFORE_SYNC, before_sync), "hook");
    }
    must(fidibus_config_add_extension(config, extension), "extension");
    fidibus_extension_free(extension);
    must(fidibus_hub_new(config, &hub), "hub");
    fidibus_config_free(config);
    return hub;
}

static int listen_on(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, SOMAXCONN) != 0) {
        perror("listen");
        exit(1);
    }
    socklen_t len = sizeof address;
    getsockname(fd, (struct sockaddr *)&address, &len);
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_all(struct loop *loop, int listener) {
    for (;;) {
        struct sockaddr_in address;
        socklen_t len = sizeof address;
        char ip[INET_ADDRSTRLEN] = "";
        int fd = accept4(listener, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        inet_ntop(AF_INET, &address.sin_addr, ip, sizeof ip);
        peer_open(loop, fd, ip);
    }
}

static void add(int epoll, int fd, void *mark) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = mark};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static struct options parse(int argc, char **argv) {
    struct options options = {.store = "memory:"};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--port") == 0) {
            options.port = (uint16_t)atoi(argv[i + 1]);
        } else if (strcmp(argv[i], "--token") == 0) {
            options.token = argv[i + 1];
        } else if (strcmp(argv[i], "--forbid") == 0) {
            options.forbid = argv[i + 1];
        } else if (strcmp(argv[i], "--store") == 0) {
            options.store = argv[i + 1];
        }
    }
    return options;
}

int main(int argc, char **argv) {
    struct options options = parse(argc, argv);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    /* Before the hub: its threads inherit the mask, and the signals come through the descriptor. */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    struct loop loop = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    loop.hub = make_hub(&options);
    loop.epoll = epoll_create1(EPOLL_CLOEXEC);
    loop.bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int stop = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    int listener = listen_on(options.port);
    add(loop.epoll, loop.bell, &loop.bell);
    add(loop.epoll, stop, &stop);
    add(loop.epoll, listener, &listener);
    for (bool running = true; running;) {
        struct epoll_event events[EVENTS_AT_ONCE];
        int count = epoll_wait(loop.epoll, events, EVENTS_AT_ONCE, -1);
        bool rung = false;
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &loop.bell) {
                rung = true;
            } else if (events[i].data.ptr == &stop) {
                running = false;
            } else if (events[i].data.ptr == &listener) {
                accept_all(&loop, listener);
            } else {
                bool readable = events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR);
                peer_ready(events[i].data.ptr, readable, events[i].events & EPOLLOUT);
            }
        }
        /* After the others: a woken peer may be one of those, and be freed. */
        if (rung) {
            peers_woken(&loop);
        }
    }
    close(listener);
    fidibus_names *unsaved = NULL;
    must(fidibus_hub_shutdown(loop.hub, 8000, 0, &unsaved), "shutdown");
    int code = fidibus_names_count(unsaved) == 0 ? 0 : 1;
    fidibus_names_free(unsaved);
    while (loop.peers) {
        peer_free(loop.peers);
    }
    fidibus_hub_free(loop.hub);
    close(stop);
    close(loop.bell);
    close(loop.epoll);
    return code;
}
