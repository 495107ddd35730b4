/* From one line of input to the thing that was asked for. */
#include "mcp/server_internal.h"

#include <stdio.h>
#include <string.h>

static void answer_empty(struct mcp_server *s, const json_t *id, const struct revision *r)
{
    size_t from = server_compose(s);

    jsonrpc_begin_result(&s->out, id);
    revision_open_result(r, &s->out);
    revision_close_result(r, false, &s->out);
    jsonrpc_end(&s->out);
    server_commit_answer(s, from, id);
}

static void answer_initialize(struct mcp_server *s, const struct jsonrpc *m)
{
    CLEANUP(buf_fini) struct buf result = BUF_INIT;
    const char *text = NULL;
    size_t from;

    if (!revision_initialize(&s->legacy, m->params, s->options.instructions, &result, &text)) {
        server_refuse(s, m->id, JSONRPC_INVALID_PARAMS, text);
        return;
    }
    from = server_compose(s);
    jsonrpc_begin_result(&s->out, m->id);
    if (result.failed || !buf_append(&s->out, result.data, result.len))
        s->out.failed = true;
    jsonrpc_end(&s->out);
    server_commit_answer(s, from, m->id);
}

static void answer_discover(struct mcp_server *s, const struct jsonrpc *m)
{
    size_t from = server_compose(s);

    jsonrpc_begin_result(&s->out, m->id);
    revision_discover(s->options.instructions, &s->out);
    jsonrpc_end(&s->out);
    server_commit_answer(s, from, m->id);
}

static void set_level(struct mcp_server *s, const struct jsonrpc *m, const struct revision *r)
{
    enum revision_level level =
        revision_level_parse(json_string_value(json_object_get(m->params, "level")));

    if (level == REVISION_LEVEL_NONE) {
        server_refuse(s, m->id, JSONRPC_INVALID_PARAMS,
                      "params.level must be one of debug, info, notice, warning, error, critical, "
                      "alert, emergency");
        return;
    }
    s->legacy.level = level;
    server_log_start(s);
    answer_empty(s, m->id, r);
}

static void handle_request(struct mcp_server *s, const struct jsonrpc *m)
{
    struct revision revision;
    enum revision_method method;
    size_t from = server_compose(s);
    char text[320];

    if (server_request(s, m->id)) {
        server_refuse(s, m->id, JSONRPC_INVALID_REQUEST,
                      "a request with this id is still being worked on; use a new id");
        return;
    }
    if (!revision_judge(&s->legacy, m, &revision, &method, &s->out)) {
        server_commit_answer(s, from, m->id);
        return;
    }
    if (revision.level != REVISION_LEVEL_NONE)
        server_log_start(s);
    switch (method) {
    case REVISION_INITIALIZE:
        answer_initialize(s, m);
        break;
    case REVISION_DISCOVER:
        answer_discover(s, m);
        break;
    case REVISION_PING:
        answer_empty(s, m->id, &revision);
        break;
    case REVISION_SET_LEVEL:
        set_level(s, m, &revision);
        break;
    case REVISION_TOOLS_LIST:
        server_list_tools(s, m, &revision);
        break;
    case REVISION_TOOLS_CALL:
        server_call(s, m, &revision);
        break;
    case REVISION_UNKNOWN:
        snprintf(text, sizeof text, "%s has no method \"%s\"", revision.version, m->method);
        server_refuse(s, m->id, JSONRPC_METHOD_NOT_FOUND, text);
        break;
    }
}

void server_handle(struct mcp_server *s, const char *line, size_t len)
{
    struct jsonrpc m;

    jsonrpc_read(line, len, &m);
    switch (m.kind) {
    case JSONRPC_REQUEST:
        handle_request(s, &m);
        if (s->first_due && s->corked) {
            /* The first answer does not wait for those behind it. */
            s->corked = false;
            server_flush(s);
            s->corked = true;
        }
        break;
    case JSONRPC_NOTIFICATION:
        /* Others, notifications/initialized among them, need nothing from us. */
        if (strcmp(m.method, "notifications/cancelled") == 0)
            server_cancel(s, m.params);
        break;
    case JSONRPC_RESPONSE:
        peer_answer(s->peer, &m);
        break;
    case JSONRPC_BAD:
        server_refuse(s, m.id, m.code, m.text);
        break;
    }
    jsonrpc_fini(&m);
}
