/* Hosts that break their promises: in debug builds they are told and stopped. Each runs in a child process. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* Runs a defect in a child; what it said. It has to end by abort. */
static void aborts_with(void (*defect)(void), const char *expected) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        defect();
        _exit(0);
    }
    close(ends[1]);
    char said[4096];
    size_t len = 0;
    ssize_t got;
    while (len < sizeof said - 1 && (got = read(ends[0], said + len, sizeof said - 1 - len)) > 0) {
        len += (size_t)got;
    }
    said[len] = 0;
    close(ends[0]);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || strstr(said, expected) == NULL) {
        fprintf(stderr, "status %d, said: %s\n", status, said);
        abort();
    }
}

static void free_config_twice(void) {
    fidibus_config *config = small_config();
    fidibus_config_free(config);
    fidibus_config_free(config);
}

static void use_after_free(void) {
    fidibus_config *config = small_config();
    fidibus_config_free(config);
    fidibus_config_set_boolean(config, "gc", true);
}

static void free_as_another(void) {
    fidibus_config *config = small_config();
    fidibus_handshake_free((fidibus_handshake *)(void *)config);
}

static void free_copied_buffer_twice(void) {
    fidibus_config *config = small_config();
    fidibus_buffer json;
    OK(fidibus_config_json(config, &json));
    fidibus_buffer copy = json;
    fidibus_buffer_free(&json);
    fidibus_buffer_free(&copy);
}

static void debug_builds_find_handles_freed_twice(void) {
    aborts_with(free_config_twice, "is freed as a fidibus_config, but is no live handle");
    aborts_with(use_after_free, "is used as a fidibus_config, but is no live handle");
    aborts_with(free_as_another, "is freed as a fidibus_handshake, but is a live fidibus_config");
    aborts_with(free_copied_buffer_twice, "is freed as a fidibus_buffer, but is no live handle");
}

/* Without descriptors there is no hub, and no crash. */
static void short_resources_are_told(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        fidibus_config *config = small_config();
        fidibus_hub *hub = NULL;
        struct rlimit few = {3, 3};
        CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
        STATUS(RESOURCES, fidibus_hub_new(config, &hub));
        CHECK(hub == NULL);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void) {
    RUN(debug_builds_find_handles_freed_twice);
    RUN(short_resources_are_told);
    return 0;
}
