/* Questions of running calls: out to the client, and in the modern era its answers back in.  A
 * modern call is answered with the question and parked; the call that brings the answer is the same
 * one again, takes its place and gets its result. */
#include "mcp/server_internal.h"

#include <string.h>

static void wire_send(void *arg, const struct buf *message)
{
    server_send(arg, message);
}

static bool wire_put(void *arg, void *call, const struct peer_question *question)
{
    struct mcp_server *s = arg;
    struct request *r = call;
    size_t from = server_compose(s);

    /* Cancelled, or its client has stopped reading: there is nobody to answer. */
    if (r->silent || !r->id || s->out_broken || server_unsent(s) > LIMIT_MCP_OUT_BYTES)
        return false;
    jsonrpc_begin_result(&s->out, r->id);
    revision_put_input(question->method, question->params, question->state, &s->out);
    jsonrpc_end(&s->out);
    if (!server_commit(s, from, true))
        return false;
    server_request_park(r);
    server_flush(s);
    return true;
}

const struct peer_wire server_wire = { .send = wire_send, .put = wire_put };

/* {} and nothing are the same arguments. */
static bool same_arguments(const json_t *a, const json_t *b)
{
    if (!json_object_size(a) || !json_object_size(b))
        return json_object_size(a) == json_object_size(b);
    return json_equal(a, b);
}

static bool same_call(const struct syscall *sc, const json_t *params)
{
    const char *name = json_string_value(json_object_get(params, "name"));

    return strcmp(name, sc->tool->name) == 0 &&
           same_arguments(json_object_get(params, "arguments"), sc->json);
}

static void refuse_state(struct mcp_server *s, const json_t *id)
{
    server_refuse(s, id, JSONRPC_INVALID_PARAMS,
                  "params.requestState is none that is waited for here: it was never given on this "
                  "connection, has been used, or its time is up; make the call without it to be "
                  "asked again");
}

bool server_answered_question(struct mcp_server *s, const struct jsonrpc *m,
                              const struct revision *revision)
{
    const char *state, *text;
    const json_t *answer;
    struct request *r;

    if (revision->era != REVISION_MODERN)
        return false;
    if (!revision_get_input(m->params, &state, &answer, &text)) {
        server_refuse(s, m->id, JSONRPC_INVALID_PARAMS, text);
        return true;
    }
    if (!state)
        return false;
    r = peer_waiting(s->peer, state);
    if (!r || r->silent || r->id) {
        refuse_state(s, m->id);
        return true;
    }
    if (!same_call(r->syscall, m->params)) {
        server_refuse(s, m->id, JSONRPC_INVALID_PARAMS,
                      "params.requestState belongs to another call: name and arguments must be the "
                      "same as in the one that was answered with it");
        return true;
    }
    /* First its name, since what follows may answer it. */
    server_request_name(r, m->id, revision);
    if (answer ? peer_reply(s->peer, state, answer) : peer_repeat(s->peer, state))
        return true;
    server_request_park(r);
    refuse_state(s, m->id);
    return true;
}
