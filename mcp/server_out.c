/* The server's way out: messages composed whole or not at all, and written as far as the client
 * reads. */
#include "mcp/server_internal.h"

#include <errno.h>
#include <unistd.h>

/* Room kept for output between messages; what a backlog needed beyond it is given back. */
#define OUT_KEEP_BYTES (1u << 20)
/* Below this moving unsent bytes to the front costs less than keeping what has been sent. */
#define OUT_MOVE_BYTES (64u << 10)

size_t server_unsent(const struct mcp_server *s)
{
    return s->out.len - s->out_sent;
}

/* ---- composing ---- */

size_t server_compose(const struct mcp_server *s)
{
    return s->out.len;
}

bool server_commit(struct mcp_server *s, size_t from, bool answer)
{
    if (s->out.failed) {
        s->out.failed = false;
        s->out.len = from;
        return false;
    }
    if (answer && !s->answered) {
        s->answered = true;
        s->first_due = true;
    }
    return true;
}

void server_refuse(struct mcp_server *s, const json_t *id, int code, const char *text)
{
    size_t from = server_compose(s);

    jsonrpc_put_error(&s->out, id, code, text, NULL);
    /* With no memory even for this the client would wait for ever: it shall see the end instead. */
    if (!server_commit(s, from, id != NULL))
        s->out_lost = true;
    server_flush(s);
}

void server_commit_answer(struct mcp_server *s, size_t from, const json_t *id)
{
    if (server_commit(s, from, true))
        server_flush(s);
    else
        server_refuse(s, id, JSONRPC_INTERNAL_ERROR, "out of memory for this answer; try again");
}

void server_send(struct mcp_server *s, const struct buf *message)
{
    size_t from = server_compose(s);

    buf_append(&s->out, message->data, message->len);
    if (!server_commit(s, from, false))
        s->out_lost = true;
    server_flush(s);
}

/* ---- writing ---- */

static void on_writable(uv_poll_t *poll, int status, int events)
{
    struct mcp_server *s = poll->data;

    (void)events;
    if (status < 0)
        s->out_waiting = false; /* libuv has stopped it; write() says what the matter is */
    server_flush(s);
}

void server_out_start(struct mcp_server *s)
{
    s->out_pollable = server_poll_init(s, &s->out_poll, s->out_fd);
}

void server_out_broke(struct mcp_server *s)
{
    s->out_broken = true;
    s->first_due = false;
    buf_fini(&s->out);
    s->out_sent = 0;
    if (s->out_waiting)
        uv_poll_stop(&s->out_poll);
    s->out_waiting = false;
    server_io_read(s, false);
    server_cancel_all(s);
    server_check_end(s);
}

/* Write until nothing is left or the client has to read first.  False: it never will. */
static bool write_some(struct mcp_server *s)
{
    while (server_unsent(s) > 0) {
        ssize_t n = write(s->out_fd, s->out.data + s->out_sent, server_unsent(s));

        if (n > 0) {
            s->out_sent += (size_t)n;
            s->out_written += (uint64_t)n;
        } else if (n < 0 && errno == EAGAIN && s->out_pollable) {
            return true;
        } else if (n == 0 || errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* What has been sent goes when that is cheap. */
static void forget_sent(struct mcp_server *s)
{
    if (s->out_sent == 0)
        return;
    if (server_unsent(s) == 0 && s->out.cap > OUT_KEEP_BYTES)
        buf_fini(&s->out);
    else if (server_unsent(s) <= OUT_MOVE_BYTES || s->out_sent >= s->out.len / 2)
        buf_consume(&s->out, s->out_sent);
    else
        return;
    s->out_sent = 0;
}

static void watch_output(struct mcp_server *s, bool on)
{
    if (on == s->out_waiting)
        return;
    s->out_waiting = on;
    if (on)
        uv_poll_start(&s->out_poll, UV_WRITABLE, on_writable);
    else
        uv_poll_stop(&s->out_poll);
}

void server_flush(struct mcp_server *s)
{
    bool all;

    if (s->corked || s->out_broken)
        return;
    if (!write_some(s)) {
        server_out_broke(s);
        return;
    }
    all = server_unsent(s) == 0;
    forget_sent(s);
    watch_output(s, !all);
    if (all && s->out_lost) {
        server_out_broke(s);
        return;
    }
    if (all && s->first_due) {
        s->first_due = false;
        if (s->options.on_first_answer)
            s->options.on_first_answer(s->options.arg);
    }
    server_io_resume(s);
    server_check_end(s);
}
