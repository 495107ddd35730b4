#include "mcp/server.h"

#include <assert.h>
#include <stdlib.h>

#include "kernel/base/fd.h"
#include "kernel/base/limits.h"
#include "mcp/server_internal.h"

static void server_release(struct mcp_server *s)
{
    for (size_t i = 0; i < ARRAY_LEN(s->tools); i++)
        buf_fini(&s->tools[i]);
    frame_fini(&s->frame);
    buf_fini(&s->out);
    if (s->out_fd != s->in_fd)
        fd_close(s->out_fd);
    fd_close(s->in_fd);
    free(s);
}

/* A handle is closed, or a post has come back: the last one takes the memory with it. */
void server_unref_handle(struct mcp_server *s)
{
    assert(s->handles > 0);
    if (--s->handles == 0 && s->freed)
        server_release(s);
}

struct mcp_server *mcp_server_new(struct loop *loop, const struct mcp_options *options,
                                  struct error *err)
{
    struct mcp_server *s = calloc(1, sizeof *s);

    if (!s) {
        error_set(err, ERR_NOMEM, "an MCP server");
        return NULL;
    }
    s->loop = loop;
    s->options = *options;
    s->in_fd = options->in_fd;
    s->out_fd = options->out_fd;
    s->legacy =
        (struct revision_legacy){ .version = REVISION_LEGACY_LATEST, .level = REVISION_LEVEL_NONE };
    frame_init(&s->frame, LIMIT_MCP_LINE_BYTES);
    buf_init(&s->out, 0);
    for (size_t i = 0; i < ARRAY_LEN(s->tools); i++)
        buf_init(&s->tools[i], 0);
    list_init(&s->requests);
    s->peer = peer_new(loop, &server_wire, s, err);
    if (!s->peer || !server_io_start(s, err)) {
        /* Failure leaves the descriptors with the caller. */
        peer_free(s->peer);
        s->in_fd = s->out_fd = -1;
        s->freed = true;
        server_io_stop(s);
        if (s->handles == 0)
            server_release(s);
        return NULL;
    }
    return s;
}

/* Everything is over once the input has ended (or the output broke), every call has completed and
 * what was answered has been written. */
void server_check_end(struct mcp_server *s)
{
    if (s->end_told || s->freed)
        return;
    if (!s->in_ended && !s->out_broken)
        return;
    if (s->request_count > 0) {
        s->ended = true;
        return;
    }
    if (server_unsent(s) > 0 && !s->out_broken)
        return;
    s->ended = true;
    s->end_told = true;
    loop_timer_stop(s->loop, &s->drain);
    if (s->options.on_end)
        s->options.on_end(s->options.arg);
}

void mcp_server_free(struct mcp_server *s)
{
    if (!s)
        return;
    loop_assert_owner(s->loop);
    s->ended = true;
    s->end_told = true;
    loop_timer_stop(s->loop, &s->drain);
    server_io_read(s, false);
    server_cancel_all(s);
    /* What is in flight completes soon: its tokens are raised, and the peer lets go of its askers.
     * Until then a handler may still turn to the peer. */
    peer_close(s->peer);
    server_log_stop(s);
    while (s->request_count > 0)
        loop_turn(s->loop, 10);
    peer_free(s->peer);
    s->peer = NULL;
    s->freed = true;
    s->handles++;
    server_io_stop(s);
    server_unref_handle(s);
}
