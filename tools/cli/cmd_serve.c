/*
 * aios serve: one kernel for many hosts, on a Unix socket.
 *
 * Each connection is an MCP server of its own on the same kernel: their calls share its queues and
 * policies, and each sees only what its agent has.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/log.h"
#include "tools/cli/cli.h"
#include "tools/cli/serve_host.h"
#include "tools/cli/serve_socket.h"

#define ACCEPT_BURST 16

struct serve_command {
    const char *config_path, *socket;
    struct cli_engine engine;
    struct serve_options options;
    struct serve_socket listener;
    uv_poll_t poll;
    struct serve_host **hosts;
    size_t count, max;
    uint64_t number;
    uv_signal_t signals[3];
};

static const struct cli_option options[] = {
    { "config", "FILE", "use this configuration file instead of the user's own" },
    { "socket", "PATH", "listen there instead of where serve.socket says" },
    { "log", "LEVEL", "error, warn, info or debug, on standard error" },
    { NULL },
};

static const struct cli_command command = {
    .name = "serve",
    .synopsis = "[OPTIONS]",
    .about =
        "Runs one kernel that many hosts share: each connects with `aios mcp --connect SOCKET`,\n"
        "programs with libaios.  Their calls share queues and policies; none sees what another "
        "has.\n"
        "Connects only who is the same user, root, or named in serve.users.  SIGHUP takes the\n"
        "queues' policies from the configuration anew.  Ends with SIGTERM or SIGINT; nothing that\n"
        "it started outlives it.\n"
        "\n"
        "Exit codes: 0 it was ended; 1 it could not start (standard error says why); 2 wrong "
        "usage.",
    .options = options,
};

/* ---- hosts ---- */

static void on_host_end(void *arg, struct serve_host *h)
{
    struct serve_command *c = arg;

    for (size_t i = 0; i < c->count; i++) {
        if (c->hosts[i] == h) {
            c->hosts[i] = c->hosts[--c->count];
            return;
        }
    }
}

static bool may_connect(const struct serve_command *c, uint32_t uid)
{
    const json_t *users = c->engine.config->serve.users;
    char text[16];

    if (uid == geteuid() || uid == 0)
        return true;
    (void)snprintf(text, sizeof text, "%u", uid);
    for (size_t i = 0; i < json_array_size(users); i++)
        if (strcmp(json_string_value(json_array_get(users, i)), text) == 0)
            return true;
    return false;
}

/* A refusal in the words of the greeting, which every client of ours understands. */
static void refuse(int fd, const char *why)
{
    char line[256];
    int len = snprintf(line, sizeof line, "{\"aios\":{\"error\":\"%s\"}}\n", why);

    (void)!send(fd, line, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    fd_close(fd);
}

static void welcome(struct serve_command *c, int fd)
{
    struct error err = ERROR_INIT;
    struct serve_host *h;
    uint32_t uid;

    if (!serve_socket_peer(fd, &uid, &err) || !may_connect(c, uid)) {
        log_line(LOG_WARN, "host_refused", "uid=%u why=user", uid);
        refuse(fd, "this user may not connect (configuration key serve.users)");
    } else if (c->count == c->max) {
        log_line(LOG_WARN, "host_refused", "uid=%u why=full", uid);
        refuse(fd, "too many hosts are connected (configuration key serve.max_hosts)");
    } else {
        h = serve_host_new(c->engine.loop, &c->options, fd, uid, ++c->number, &err);
        if (h)
            c->hosts[c->count++] = h;
        else
            refuse(fd, "the server is out of memory");
    }
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct serve_command *c = poll->data;

    (void)events;
    for (int i = 0; status == 0 && i < ACCEPT_BURST; i++) {
        int fd = accept4(c->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                log_line(LOG_ERROR, "accept_failed", "why=%s", strerror(errno));
            return;
        }
        welcome(c, fd);
    }
}

/* ---- life ---- */

/* The policies of the queues as the file has them now: what waits is taken along.  All else that
 * the file says holds from the next start. */
static void reload(struct serve_command *c)
{
    struct error err = ERROR_INIT;
    struct config *fresh = config_load(c->config_path, NULL, &err);
    const char *policies[SYSCALL_CLASS_COUNT] = { NULL };

    if (!fresh) {
        log_line(LOG_ERROR, "reload_failed", "why=%s", LOG_ESC(err.text));
        return;
    }
    policies[SYSCALL_TOOL] = fresh->tool.calls.policy;
    policies[SYSCALL_LLM] = fresh->llm.calls.policy;
    policies[SYSCALL_MEMORY] = fresh->memory.calls.policy;
    policies[SYSCALL_STORAGE] = fresh->storage.calls.policy;
    for (int class = 0; class < SYSCALL_CLASS_COUNT; class ++) {
        struct error why = ERROR_INIT;

        if (!kernel_set_policy(c->engine.kernel, (enum syscall_class) class, policies[class], &why))
            log_line(LOG_ERROR, "reload_failed", "why=%s", LOG_ESC(why.text));
    }
    log_line(LOG_WARN, "reloaded", "tool=%s llm=%s memory=%s storage=%s", policies[SYSCALL_TOOL],
             policies[SYSCALL_LLM], policies[SYSCALL_MEMORY], policies[SYSCALL_STORAGE]);
    config_free(fresh);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct serve_command *c = handle->data;

    if (signum == SIGHUP)
        reload(c);
    else
        loop_stop(c->engine.loop);
}

static void watch_signals(struct serve_command *c)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (uv_signal_init(loop_uv(c->engine.loop), &c->signals[i]) != 0)
            continue;
        c->signals[i].data = c;
        (void)uv_signal_start(&c->signals[i], on_signal, numbers[i]);
    }
}

static bool listen_for_hosts(struct serve_command *c, struct error *err)
{
    const struct config *config = c->engine.config;
    const char *path = c->socket ? c->socket : *config->serve.socket ? config->serve.socket : NULL;
    /* Who is let in is decided by credentials; the mode keeps out those who never are. */
    mode_t mode = json_array_size(config->serve.users) ? 0666 : 0600;
    int rc;

    c->max = (size_t)config->serve.max_hosts;
    c->hosts = calloc(c->max, sizeof(struct serve_host *));
    if (!c->hosts)
        return error_set(err, ERR_NOMEM, "%zu hosts", c->max);
    if (!serve_socket_open(&c->listener, path, mode, err))
        return false;
    c->poll.data = c;
    rc = uv_poll_init(loop_uv(c->engine.loop), &c->poll, c->listener.fd);
    if (rc == 0)
        rc = uv_poll_start(&c->poll, UV_READABLE, on_connection);
    return rc == 0 || error_set_errno(err, -rc, "watch the socket");
}

static bool serve(struct serve_command *c, struct error *err)
{
    c->options = (struct serve_options){ .kernel = c->engine.kernel,
                                         .instructions = cli_instructions,
                                         .on_end = on_host_end,
                                         .arg = c };
    if (!listen_for_hosts(c, err))
        return false;
    watch_signals(c);
    fprintf(stderr, "aios serve: listening at %s\n", c->listener.path);
    computers_warm(kernel_computers(c->engine.kernel));
    loop_run(c->engine.loop);
    (void)uv_poll_stop(&c->poll);
    while (c->count > 0)
        serve_host_free(c->hosts[c->count - 1]);
    return true;
}

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    struct serve_command *c = arg;
    enum log_level level = LOG_WARN;

    if (strcmp(name, "config") == 0)
        c->config_path = value;
    else if (strcmp(name, "socket") == 0)
        c->socket = value;
    else if (strcmp(name, "log") == 0 && !log_level_parse(value, &level))
        return error_set(err, ERR_INVALID, "--log is error, warn, info or debug");
    else if (strcmp(name, "log") == 0)
        log_set_level(level);
    return true;
}

int cli_serve(int argc, char **argv)
{
    struct serve_command c = { .listener = { .fd = -1, .lock_fd = -1 } };
    struct error err = ERROR_INIT;
    bool helped;
    int next;
    bool ok;

    if (!cli_parse(&command, argc, argv, on_option, &c, &next, &helped, &err))
        return cli_fail("serve", CLI_USAGE, &err);
    if (helped)
        return CLI_OK;
    if (next < argc) {
        error_set(&err, ERR_INVALID,
                  "\"%s\" is not expected; `aios serve --help` lists the options", argv[next]);
        return cli_fail("serve", CLI_USAGE, &err);
    }
    ok = cli_engine_start(&c.engine, c.config_path, NULL, &err) && serve(&c, &err);
    serve_socket_close(&c.listener);
    cli_engine_stop(&c.engine);
    free(c.hosts);
    return ok ? CLI_OK : cli_fail("serve", CLI_FAILED, &err);
}
