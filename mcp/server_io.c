/* The server's two descriptors: reading with pressure, writing with a bounded queue. */
#include "mcp/server_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/limits.h"

static void read_some(struct mcp_server *s);

static void on_closed(uv_handle_t *handle)
{
    server_unref_handle(handle->data);
}

static void on_drain(struct loop_timer *timer)
{
    server_cancel_all(CONTAINER_OF(timer, struct mcp_server, drain));
}

static void input_ended(struct mcp_server *s)
{
    char *line;
    size_t len;

    if (s->in_ended)
        return;
    s->in_ended = true;
    server_io_read(s, false);
    if (frame_end(&s->frame, &line, &len) == FRAME_LINE)
        server_handle(s, line, len);
    server_flush(s);
    /* Whoever pipes a few requests in and closes still gets answers, but not for long. */
    if (s->request_count > 0 &&
        !loop_timer_start(s->loop, &s->drain, clock_add_ns(clock_now_ns(), SERVER_DRAIN_NS), on_drain))
        server_cancel_all(s);
    server_check_end(s);
}

/* Handle whole lines, at most a burst of them.  True when there may be more. */
static bool handle_lines(struct mcp_server *s)
{
    char *line;
    size_t len;

    for (unsigned n = 0; n < SERVER_BURST; n++) {
        switch (frame_next(&s->frame, &line, &len)) {
        case FRAME_LINE:
            server_handle(s, line, len);
            break;
        case FRAME_TOO_LONG:
            server_refuse(s, NULL, JSONRPC_INVALID_REQUEST,
                          "this message is longer than 8 MiB; send large content in parts");
            break;
        case FRAME_NOMEM:
        case FRAME_MORE:
            return false;
        }
        if (s->out_broken)
            return false;
    }
    return true;
}

static void on_resume(struct loop_post *post)
{
    struct mcp_server *s = CONTAINER_OF(post, struct mcp_server, resume);

    s->resume_posted = false;
    if (!s->freed)
        read_some(s);
    server_unref_handle(s);
}

/* Come back to what is buffered, or to a descriptor that cannot be polled. */
static void post_resume(struct mcp_server *s)
{
    if (s->resume_posted)
        return;
    s->resume_posted = true;
    s->handles++;
    loop_post(s->loop, &s->resume, on_resume);
}

static bool backed_up(const struct mcp_server *s)
{
    return s->out.len > LIMIT_MCP_OUT_BYTES || s->request_count >= LIMIT_INFLIGHT;
}

static void read_some(struct mcp_server *s)
{
    bool more;
    ssize_t n = -1;

    if (s->in_ended || s->out_broken || s->ended)
        return;
    s->corked = true;
    more = handle_lines(s);
    if (!more && !backed_up(s)) {
        char *space = frame_space(&s->frame, SERVER_READ_BYTES);

        if (!space) {
            s->corked = false;
            server_refuse(s, NULL, JSONRPC_INTERNAL_ERROR, "out of memory for this message");
            input_ended(s);
            return;
        }
        do {
            n = read(s->in_fd, space, SERVER_READ_BYTES);
        } while (n < 0 && errno == EINTR);
        if (n > 0) {
            frame_filled(&s->frame, (size_t)n);
            more = handle_lines(s);
        }
    }
    s->corked = false;
    server_flush(s);
    if (n == 0 || (n < 0 && errno != EAGAIN && !more && !backed_up(s))) {
        input_ended(s);
        return;
    }
    server_io_read(s, !backed_up(s));
    if (more || (!s->in_pollable && !backed_up(s)))
        post_resume(s);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct mcp_server *s = poll->data;

    (void)events;
    if (status < 0)
        input_ended(s);
    else if (!s->resume_posted)
        read_some(s);
}

static void on_writable(uv_poll_t *poll, int status, int events)
{
    struct mcp_server *s = poll->data;

    (void)status;
    (void)events;
    server_flush(s);
}

void server_io_read(struct mcp_server *s, bool on)
{
    if (s->freed)
        return;
    if (s->in_ended)
        on = false;
    if (on == s->in_reading)
        return;
    s->in_reading = on;
    if (!s->in_pollable) {
        if (on)
            post_resume(s);
        return;
    }
    if (on)
        uv_poll_start(&s->in_poll, UV_READABLE, on_readable);
    else
        uv_poll_stop(&s->in_poll);
}

/* The output is gone: nobody will read an answer any more. */
static void output_broke(struct mcp_server *s)
{
    s->out_broken = true;
    buf_clear(&s->out);
    if (s->out_waiting)
        uv_poll_stop(&s->out_poll);
    s->out_waiting = false;
    server_io_read(s, false);
    server_cancel_all(s);
    server_check_end(s);
}

void server_flush(struct mcp_server *s)
{
    if (s->corked || s->out_broken)
        return;
    while (s->out.len > 0) {
        ssize_t n = write(s->out_fd, s->out.data, s->out.len);

        if (n > 0) {
            buf_consume(&s->out, (size_t)n);
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN && s->out_pollable) {
            if (!s->out_waiting)
                uv_poll_start(&s->out_poll, UV_WRITABLE, on_writable);
            s->out_waiting = true;
            return;
        } else {
            output_broke(s);
            return;
        }
    }
    if (s->out_waiting)
        uv_poll_stop(&s->out_poll);
    s->out_waiting = false;
    if (s->out.failed) {
        /* An answer could not be composed whole for lack of memory: the stream is not to be trusted. */
        output_broke(s);
        return;
    }
    if (!s->in_ended && !s->ended && !backed_up(s))
        server_io_read(s, true);
    server_check_end(s);
}

/* A regular file cannot be polled, and never blocks for long. */
static bool poll_init(struct mcp_server *s, uv_poll_t *poll, int fd, bool *ret_pollable)
{
    struct error ignored = ERROR_INIT;

    *ret_pollable = fd_set_nonblock(fd, true, &ignored) &&
                    uv_poll_init(loop_uv(s->loop), poll, fd) == 0;
    if (*ret_pollable) {
        poll->data = s;
        s->handles++;
    } else {
        struct error again = ERROR_INIT;

        UNCHECKED(fd_set_nonblock(fd, false, &again));
    }
    return true;
}

bool server_io_start(struct mcp_server *s, struct error *err)
{
    (void)err;
    poll_init(s, &s->in_poll, s->in_fd, &s->in_pollable);
    if (s->out_fd == s->in_fd) {
        /* One socket for both: libuv wants one handle per descriptor. */
        s->out_fd = dup(s->in_fd);
        if (s->out_fd < 0) {
            s->out_fd = s->in_fd;
            return error_set_errno(err, errno, "duplicate the connection");
        }
    }
    poll_init(s, &s->out_poll, s->out_fd, &s->out_pollable);
    server_io_read(s, true);
    return true;
}

void server_io_stop(struct mcp_server *s)
{
    if (s->in_pollable)
        uv_close((uv_handle_t *)&s->in_poll, on_closed);
    if (s->out_pollable)
        uv_close((uv_handle_t *)&s->out_poll, on_closed);
}
