#include "tools/cli/serve_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/log.h"
#include "mcp/server.h"

#define GREETING       "{\"aios\":"
#define GREETING_MAX   4096u
#define GREETING_NS    (10 * CLOCK_NS_PER_S)
#define LOOK_AGAIN_NS  (10 * CLOCK_NS_PER_MS)
#define AGENT_NAME_MAX 64

struct serve_host {
    struct loop *loop;
    const struct serve_options *options;
    int fd; /* until the server has taken it */
    uint32_t uid;
    uint64_t number;
    uv_poll_t poll;
    bool closing, closed;
    bool posted; /* its end is on the way to the loop */
    int64_t deadline_ns;
    struct loop_timer timer;
    struct buf greeting; /* what has been taken of it */
    struct agent *agent;
    bool passing; /* the agent has no name by which it could come back */
    struct mcp_server *server;
    struct loop_post post;
};

/* ---- the end ---- */

static void release(struct serve_host *h)
{
    loop_timer_stop(h->loop, &h->timer);
    mcp_server_free(h->server);
    fd_close(h->fd);
    if (h->agent && h->passing)
        kernel_end_agent(h->options->kernel, h->agent);
    agent_unref(h->agent);
    buf_fini(&h->greeting);
}

/* The memory is nobody's once libuv and the loop have let go of it. */
static void forget(struct serve_host *h)
{
    if (h->closed && !h->posted)
        free(h);
}

static void on_closed(uv_handle_t *handle)
{
    struct serve_host *h = handle->data;

    h->closed = true;
    forget(h);
}

static void end(struct serve_host *h)
{
    if (h->closing)
        return;
    h->closing = true;
    if (h->options->on_end)
        h->options->on_end(h->options->arg, h);
    release(h);
    /* Without a descriptor of its own by now, but libuv still knows the handle. */
    uv_close((uv_handle_t *)&h->poll, on_closed);
}

void serve_host_free(struct serve_host *h)
{
    if (h)
        end(h);
}

static void on_end_posted(struct loop_post *post)
{
    struct serve_host *h = CONTAINER_OF(post, struct serve_host, post);

    end(h);
    h->posted = false;
    forget(h);
}

/* Within a call of the server's, which must not be freed there. */
static void on_server_end(void *arg)
{
    struct serve_host *h = arg;

    h->posted = true;
    loop_post(h->loop, &h->post, on_end_posted);
}

/* ---- who it is ---- */

/* @name NULL: none was given. */
static bool name_agent(struct serve_host *h, const char *name, struct error *err)
{
    char full[AGENT_NAME_MAX + 1];
    bool other = h->uid != geteuid();
    int len;

    h->passing = !name;
    if (!name)
        len = snprintf(full, sizeof full, "u%u.host-%llu", h->uid, (unsigned long long)h->number);
    else if (other)
        len = snprintf(full, sizeof full, "u%u.%s", h->uid, name);
    else
        len = snprintf(full, sizeof full, "%s", name);
    if (len < 0 || (size_t)len >= sizeof full)
        return error_set(err, ERR_INVALID, "an agent's name is at most %d characters long",
                         AGENT_NAME_MAX - (other ? 12 : 0));
    h->agent = kernel_agent_known(h->options->kernel, full, err);
    return h->agent != NULL;
}

static bool reply(struct serve_host *h, const struct error *why)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;
    json_t *inner =
        why ? json_pack("{s:s}", "error", why->text)
            : json_pack("{s:s,s:s}", "agent", agent_name(h->agent), "version", AIOS_VERSION);
    json_t *outer = json_pack("{s:o}", "aios", inner);
    bool ok = outer && json_write(outer, &line) && buf_append_char(&line, '\n');

    json_decref(outer);
    /* Nothing else is in the socket yet: it fits, or the other side is gone. */
    return ok && send(h->fd, line.data, line.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)line.len;
}

static bool read_greeting(struct serve_host *h, struct error *err)
{
    static const struct json_field fields[] = {
        { .name = "agent", .kind = JSON_KIND_STRING, .max = AGENT_NAME_MAX },
        { .name = NULL },
    };
    static const struct json_field top[] = {
        { .name = "aios", .kind = JSON_KIND_OBJECT, .required = true, .fields = fields },
        { .name = NULL },
    };
    struct {
        const char *agent;
    } read = { .agent = NULL };
    json_t *json = json_parse(h->greeting.data, h->greeting.len, err);
    bool ok = json && json_fields_read(top, json, &read, err) &&
              name_agent(h, read.agent && *read.agent ? read.agent : NULL, err);

    json_decref(json);
    return ok || error_prefix(err, "the greeting");
}

/* ---- MCP ---- */

static void start_server(struct serve_host *h)
{
    struct mcp_options options = { .kernel = h->options->kernel,
                                   .agent = h->agent,
                                   .in_fd = h->fd,
                                   .out_fd = h->fd,
                                   .instructions = h->options->instructions,
                                   .on_end = on_server_end,
                                   .arg = h };
    struct error err = ERROR_INIT;

    loop_timer_stop(h->loop, &h->timer);
    (void)uv_poll_stop(&h->poll);
    h->server = mcp_server_new(h->loop, &options, &err);
    if (h->server) {
        h->fd = -1;
        return;
    }
    log_line(LOG_ERROR, "host_refused", "agent=%s why=%s", agent_name(h->agent), LOG_ESC(err.text));
    end(h);
}

static void greeted(struct serve_host *h)
{
    struct error err = ERROR_INIT;

    if (read_greeting(h, &err)) {
        if (reply(h, NULL))
            start_server(h);
        else
            end(h);
        return;
    }
    log_line(LOG_WARN, "host_refused", "uid=%u why=%s", h->uid, LOG_ESC(err.text));
    (void)reply(h, &err);
    end(h);
}

/* ---- the first line ---- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_time(struct loop_timer *timer)
{
    struct serve_host *h = CONTAINER_OF(timer, struct serve_host, timer);

    if (clock_now_ns() >= h->deadline_ns) {
        log_line(LOG_WARN, "host_silent", "uid=%u", h->uid);
        end(h);
    } else if (uv_poll_start(&h->poll, UV_READABLE, on_readable) != 0 ||
               !loop_timer_start(h->loop, &h->timer, h->deadline_ns, on_time)) {
        end(h);
    }
}

/* A few bytes are there that may yet become a greeting.  They cannot be taken, since they may be
 * MCP, and as long as they lie there the socket is readable. */
static void look_again(struct serve_host *h)
{
    (void)uv_poll_stop(&h->poll);
    if (!loop_timer_start(h->loop, &h->timer, clock_add_ns(clock_now_ns(), LOOK_AGAIN_NS), on_time))
        end(h);
}

static void take(struct serve_host *h, const char *bytes, size_t len)
{
    const char *newline = memchr(bytes, '\n', len);
    size_t n = newline ? (size_t)(newline - bytes) : len;
    char scratch[GREETING_MAX];

    if (h->greeting.len + n > GREETING_MAX || !buf_append(&h->greeting, bytes, n) ||
        recv(h->fd, scratch, n + (newline != NULL), MSG_DONTWAIT) < 0) {
        end(h);
        return;
    }
    if (newline)
        greeted(h);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct serve_host *h = poll->data;
    const size_t magic = sizeof GREETING - 1;
    struct error err = ERROR_INIT;
    char bytes[GREETING_MAX];
    ssize_t n = status < 0 ? 0 : recv(h->fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end(h);
    } else if (h->greeting.len || ((size_t)n >= magic && !memcmp(bytes, GREETING, magic))) {
        take(h, bytes, (size_t)n);
    } else if ((size_t)n < magic && !memcmp(bytes, GREETING, (size_t)n)) {
        look_again(h);
    } else if (name_agent(h, NULL, &err)) {
        start_server(h);
    } else {
        log_line(LOG_WARN, "host_refused", "uid=%u why=%s", h->uid, LOG_ESC(err.text));
        end(h);
    }
}

struct serve_host *serve_host_new(struct loop *loop, const struct serve_options *options, int fd,
                                  uint32_t uid, uint64_t number, struct error *err)
{
    struct serve_host *h = calloc(1, sizeof *h);
    int rc;

    if (!h) {
        error_set(err, ERR_NOMEM, "a host");
        return NULL;
    }
    h->loop = loop;
    h->options = options;
    h->fd = -1;
    h->uid = uid;
    h->number = number;
    h->deadline_ns = clock_add_ns(clock_now_ns(), GREETING_NS);
    buf_init(&h->greeting, GREETING_MAX);
    rc = uv_poll_init(loop_uv(loop), &h->poll, fd);
    if (rc != 0) {
        error_set_errno(err, -rc, "watch a connection");
        free(h);
        return NULL;
    }
    h->poll.data = h;
    rc = uv_poll_start(&h->poll, UV_READABLE, on_readable);
    if (rc != 0 || !loop_timer_start(loop, &h->timer, h->deadline_ns, on_time)) {
        error_set(err, ERR_NOMEM, "watch a connection");
        buf_fini(&h->greeting);
        h->closing = true;
        uv_close((uv_handle_t *)&h->poll, on_closed);
        return NULL;
    }
    h->fd = fd;
    return h;
}
