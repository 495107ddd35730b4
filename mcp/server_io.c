/* The server's way in: reading with pressure, and the end of the input. */
#include "mcp/server_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

static void read_some(struct mcp_server *s);

static void on_closed(uv_handle_t *handle)
{
    server_unref_handle(handle->data);
}

/* ---- the end ---- */

static void on_stall(struct loop_timer *timer)
{
    struct mcp_server *s = CONTAINER_OF(timer, struct mcp_server, drain);

    /* As long as it reads, it gets what there is. */
    if (s->out_written == s->out_mark)
        server_out_broke(s);
    s->out_mark = s->out_written;
    if (!s->end_told &&
        !loop_timer_start(s->loop, timer, clock_add_ns(clock_now_ns(), SERVER_STALL_NS), on_stall))
        server_out_broke(s);
}

static void on_drain(struct loop_timer *timer)
{
    struct mcp_server *s = CONTAINER_OF(timer, struct mcp_server, drain);

    server_cancel_all(s);
    s->out_mark = s->out_written;
    if (!loop_timer_start(s->loop, timer, clock_add_ns(clock_now_ns(), SERVER_STALL_NS), on_stall))
        server_out_broke(s);
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
    server_cancel_parked(s); /* nobody can answer them any more */
    server_flush(s);
    server_check_end(s);
    /* Whoever pipes a few requests in and closes still gets answers, but not for long. */
    if (!s->end_told && !loop_timer_start(s->loop, &s->drain,
                                          clock_add_ns(clock_now_ns(), SERVER_DRAIN_NS), on_drain))
        server_cancel_all(s);
}

/* ---- reading ---- */

static bool backed_up(const struct mcp_server *s)
{
    return server_unsent(s) > LIMIT_MCP_OUT_BYTES || s->out_lost;
}

/* Handle whole lines, at most a burst of them.  True when there may be more. */
static bool handle_lines(struct mcp_server *s)
{
    char *line;
    size_t len;

    for (unsigned n = 0; n < SERVER_BURST && !backed_up(s); n++) {
        switch (frame_next(&s->frame, &line, &len)) {
        case FRAME_LINE:
            server_handle(s, line, len);
            break;
        case FRAME_TOO_LONG:
            server_refuse(s, NULL, JSONRPC_INVALID_REQUEST,
                          "this message is longer than 8 MiB; send large content in parts");
            break;
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

enum reading { READ_SOME, READ_NOTHING, READ_END };

/* One read(2) to the end of the frame. */
static enum reading fill_frame(struct mcp_server *s)
{
    char *space = frame_space(&s->frame, SERVER_READ_BYTES);
    ssize_t n;

    if (!space) {
        if (!frame_skip(&s->frame))
            return READ_END; /* no memory even to read at all */
        server_refuse(s, NULL, JSONRPC_INTERNAL_ERROR, "out of memory for this message");
        return READ_SOME;
    }
    do {
        n = read(s->in_fd, space, SERVER_READ_BYTES);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN && !s->in_failed)
        return READ_NOTHING;
    if (n <= 0)
        return READ_END;
    frame_filled(&s->frame, (size_t)n);
    return READ_SOME;
}

static void read_some(struct mcp_server *s)
{
    enum reading got = READ_NOTHING;
    bool more;

    if (s->in_ended || s->out_broken || s->ended)
        return;
    s->corked = true;
    more = handle_lines(s);
    if (!more && !backed_up(s)) {
        got = fill_frame(s);
        if (got == READ_SOME)
            more = handle_lines(s);
    }
    s->corked = false;
    server_flush(s);
    if (got == READ_END) {
        input_ended(s);
        return;
    }
    server_io_read(s, !backed_up(s));
    if (s->in_reading && (more || !s->in_pollable))
        post_resume(s);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct mcp_server *s = poll->data;

    (void)events;
    if (status < 0) {
        s->in_reading = false; /* libuv has stopped it */
        s->in_failed = true;
    }
    if (!s->resume_posted)
        read_some(s);
}

void server_io_read(struct mcp_server *s, bool on)
{
    if (s->freed)
        return;
    if (s->in_ended || s->out_broken || s->ended)
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

void server_io_resume(struct mcp_server *s)
{
    if (s->in_reading || backed_up(s))
        return;
    server_io_read(s, true);
    if (s->in_reading)
        post_resume(s); /* whole lines may be waiting in the frame */
}

/* ---- beginning and end ---- */

/* False: it cannot be polled, as a regular file, which never blocks for long. */
bool server_poll_init(struct mcp_server *s, uv_poll_t *poll, int fd)
{
    struct error ignored = ERROR_INIT;

    if (!fd_set_nonblock(fd, true, &ignored) || uv_poll_init(loop_uv(s->loop), poll, fd) != 0) {
        error_clear(&ignored);
        UNCHECKED(fd_set_nonblock(fd, false, &ignored));
        return false;
    }
    poll->data = s;
    s->handles++;
    return true;
}

bool server_io_start(struct mcp_server *s, struct error *err)
{
    if (s->out_fd == s->in_fd) {
        /* One socket for both: libuv wants one handle per descriptor. */
        s->out_fd = fcntl(s->in_fd, F_DUPFD_CLOEXEC, 3);
        if (s->out_fd < 0) {
            s->out_fd = s->in_fd;
            return error_set_errno(err, errno, "duplicate the connection");
        }
    }
    s->in_pollable = server_poll_init(s, &s->in_poll, s->in_fd);
    server_out_start(s);
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
