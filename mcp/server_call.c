/* tools/call: a syscall for the kernel, progress on the way, one answer, or silence after a cancel.
 */
#include "mcp/server_internal.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/base/base64.h"
#include "kernel/base/clock.h"

struct request *server_request(struct mcp_server *s, const json_t *id)
{
    LIST_FOR_EACH (node, &s->requests) {
        struct request *r = LIST_ENTRY(node, struct request, link);

        if (!r->silent && r->id && json_equal(r->id, id))
            return r;
    }
    return NULL;
}

static void on_progress(struct loop_timer *timer);

void server_request_name(struct request *r, const json_t *id, const struct revision *revision)
{
    r->id = json_incref(unconst(id));
    r->revision = *revision;
    r->revision.token = NULL; /* borrowed from a message that is about to go */
    r->token = revision->token ? json_incref(unconst(revision->token)) : NULL;
    r->started_ns = clock_now_ns();
    /* Without memory for the timer there is no progress to hear of; all else goes on. */
    if (r->token && !(r->syscall->tool->flags & TOOL_INLINE))
        UNCHECKED(loop_timer_start(r->server->loop, &r->progress,
                                   clock_add_ns(r->started_ns, SERVER_PROGRESS_NS), on_progress));
}

void server_request_park(struct request *r)
{
    loop_timer_stop(r->server->loop, &r->progress);
    json_decref(r->id);
    r->id = NULL;
    json_decref(r->token);
    r->token = NULL;
}

static void request_free(struct request *r)
{
    loop_timer_stop(r->server->loop, &r->progress);
    list_remove(&r->link);
    r->server->request_count--;
    json_decref(r->id);
    json_decref(r->token);
    free(r);
}

/* ---- progress ---- */

static void put_progress(struct mcp_server *s, struct request *r, int64_t now)
{
    size_t from = server_compose(s);
    char note[sizeof r->syscall->note];

    pthread_mutex_lock(&r->syscall->note_lock);
    memcpy(note, r->syscall->note, sizeof note);
    pthread_mutex_unlock(&r->syscall->note_lock);
    buf_append_str(&s->out,
                   "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
                   "\"progressToken\":");
    if (json_is_integer(r->token))
        buf_printf(&s->out, "%" JSON_INTEGER_FORMAT, json_integer_value(r->token));
    else
        jsonrpc_put_string(&s->out, json_string_value(r->token), json_string_length(r->token));
    buf_printf(&s->out, ",\"progress\":%.3f", (double)(now - r->started_ns) / 1e9);
    if (note[0] && revision_has_annotations(&r->revision)) {
        buf_append_str(&s->out, ",\"message\":");
        jsonrpc_put_string(&s->out, note, strlen(note));
    }
    buf_append_char(&s->out, '}');
    jsonrpc_end(&s->out);
    if (server_commit(s, from, false))
        server_flush(s);
}

static void on_progress(struct loop_timer *timer)
{
    struct request *r = CONTAINER_OF(timer, struct request, progress);
    struct mcp_server *s = r->server;
    int64_t now = clock_now_ns();

    /* Armed first: when flushing finds the client gone, the request is cancelled, and this with it.
     */
    UNCHECKED(loop_timer_start(s->loop, timer, clock_add_ns(now, SERVER_PROGRESS_NS), on_progress));
    if (server_unsent(s) <= LIMIT_MCP_OUT_BYTES)
        put_progress(s, r, now);
}

/* ---- the answer ---- */

static bool put_block(struct buf *out, const struct result_block *block)
{
    if (block->kind == RESULT_TEXT)
        return buf_append_str(out, "{\"type\":\"text\",\"text\":") &&
               jsonrpc_put_string(out, buf_str(&block->data), block->data.len) &&
               buf_append_char(out, '}');
    return buf_append_str(out, "{\"type\":\"image\",\"data\":\"") &&
           base64_encode(out, block->data.data, block->data.len) &&
           buf_printf(out, "\",\"mimeType\":\"%s\"}", block->mime_type);
}

static void answer_result(struct mcp_server *s, const json_t *id, const struct revision *revision,
                          const struct result *result)
{
    size_t from = server_compose(s);

    jsonrpc_begin_result(&s->out, id);
    revision_open_result(revision, &s->out);
    buf_append_str(&s->out, "\"content\":[");
    for (size_t i = 0; i < result->count; i++) {
        if (i > 0)
            buf_append_char(&s->out, ',');
        put_block(&s->out, &result->blocks[i]);
    }
    buf_append_str(&s->out, "],");
    if (result->structured && !result->is_error && revision_has_structured(revision)) {
        buf_append_str(&s->out, "\"structuredContent\":");
        if (!json_write(result->structured, &s->out))
            s->out.failed = true;
        buf_append_char(&s->out, ',');
    }
    if (result->is_error)
        revision_close_error(revision, error_code_name(result->code), &s->out);
    else
        revision_close_result(revision, false, &s->out);
    jsonrpc_end(&s->out);
    server_commit_answer(s, from, id);
}

/* A refusal or a failed argument: complete in its text, for the model to read and correct. */
static void answer_failure(struct mcp_server *s, const json_t *id, const struct revision *revision,
                           const struct error *err)
{
    struct result result;

    result_init(&result);
    result_fail(&result, err);
    answer_result(s, id, revision, &result);
    result_fini(&result);
}

static void on_done(struct syscall *sc)
{
    struct request *r = sc->done_arg;
    struct mcp_server *s = r->server;
    bool silent = r->silent || !r->id || s->out_broken;

    r->silent = true; /* it has completed: there is nothing to cancel, whatever answering brings */
    if (!silent && server_unsent(s) > SERVER_OUT_MOST_BYTES) {
        struct error err = ERROR_INIT;

        error_set(&err, ERR_LIMIT,
                  "the answer was dropped, since earlier answers are not being read");
        answer_failure(s, r->id, &r->revision, &err);
    } else if (!silent) {
        answer_result(s, r->id, &r->revision, &sc->result);
    }
    syscall_free(sc);
    request_free(r);
    server_check_end(s);
}

/* ---- the call ---- */

static struct request *request_new(struct mcp_server *s, const struct jsonrpc *m,
                                   const struct revision *revision, struct syscall *sc)
{
    struct request *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->server = s;
    r->syscall = sc;
    r->caller = (struct peer_caller){ .peer = s->peer,
                                      .offers = revision->offers,
                                      .call = revision->era == REVISION_MODERN ? r : NULL };
    server_request_name(r, m->id, revision);
    list_append(&s->requests, &r->link);
    s->request_count++;
    return r;
}

void server_call(struct mcp_server *s, const struct jsonrpc *m, const struct revision *revision)
{
    const json_t *name = json_object_get(m->params, "name");
    json_t *arguments = json_object_get(m->params, "arguments");
    struct kernel *kernel = s->options.kernel;
    struct error err = ERROR_INIT;
    const struct tool *tool;
    struct syscall *sc;
    struct request *r;

    if (!json_is_string(name)) {
        server_refuse(s, m->id, JSONRPC_INVALID_PARAMS, "params.name must be the name of a tool");
        return;
    }
    if (json_is_null(arguments))
        arguments = NULL;
    if (arguments && !json_is_object(arguments)) {
        server_refuse(s, m->id, JSONRPC_INVALID_PARAMS, "params.arguments must be an object");
        return;
    }
    if (server_answered_question(s, m, revision))
        return;
    tool = toolmgr_find(kernel_tools(kernel), json_string_value(name));
    if (!tool) {
        /* The name is cut, and the cut made good. */
        error_set(&err, ERR_NOT_FOUND,
                  "no tool is called \"%.80s\"; tools/list names those there are",
                  json_string_value(name));
        server_refuse(s, m->id, JSONRPC_INVALID_PARAMS, err.text);
        return;
    }
    /* Reading goes on, or nobody could cancel one. */
    if (s->request_count >= LIMIT_INFLIGHT) {
        error_set(&err, ERR_BUSY,
                  "%u calls are in flight already; wait for one of them, or cancel one",
                  LIMIT_INFLIGHT);
        answer_failure(s, m->id, revision, &err);
        return;
    }
    sc = syscall_new(tool->class, s->options.agent, tool, arguments, &err);
    if (!sc) {
        answer_failure(s, m->id, revision, &err);
        return;
    }
    r = request_new(s, m, revision, sc);
    if (!r) {
        syscall_free(sc);
        server_refuse(s, m->id, JSONRPC_INTERNAL_ERROR, "out of memory for this call; try again");
        return;
    }
    sc->done = on_done;
    sc->done_arg = r;
    sc->peer = peer_tool();
    sc->peer_arg = &r->caller;
    sc->deadline_ns =
        clock_add_ns(r->started_ns, kernel_config(kernel)->tool.call_timeout_ms * CLOCK_NS_PER_MS +
                                        SERVER_DEADLINE_SLACK_NS);
    if (!kernel_submit(kernel, sc, &err)) {
        syscall_free(sc);
        request_free(r);
        answer_failure(s, m->id, revision, &err);
    }
}

/* ---- cancelling ---- */

static void request_cancel(struct request *r)
{
    r->silent = true;
    loop_timer_stop(r->server->loop, &r->progress);
    syscall_cancel(r->syscall); /* completes in a later turn of the loop */
}

void server_cancel(struct mcp_server *s, const json_t *params)
{
    const json_t *id = json_object_get(params, "requestId");
    struct request *r = id ? server_request(s, id) : NULL;

    /* Unknown, answered and cancelled ones are nothing to talk about. */
    if (r)
        request_cancel(r);
}

void server_cancel_all(struct mcp_server *s)
{
    LIST_FOR_EACH (node, &s->requests) {
        struct request *r = LIST_ENTRY(node, struct request, link);

        if (!r->silent)
            request_cancel(r);
    }
}

void server_cancel_parked(struct mcp_server *s)
{
    LIST_FOR_EACH (node, &s->requests) {
        struct request *r = LIST_ENTRY(node, struct request, link);

        if (!r->silent && !r->id)
            request_cancel(r);
    }
}
