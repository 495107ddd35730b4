/* What a call may ask of its client, and what the answers must look like. */
#include <string.h>

#include "kernel/base/json.h"
#include "mcp/peer_internal.h"

static json_t *peer_roots(void *arg, const struct wait *w, struct error *err)
{
    const struct peer_caller *caller = arg;
    json_t *result, *uris, *root;
    size_t i;

    /* Modern roots are on their way out, and who asks for them goes on without: behind the back of
     * a client that has been answered and takes its time. */
    if (!caller->offers.roots || caller->call) {
        error_set(err, ERR_UNSUPPORTED, "the client has no roots");
        return NULL;
    }
    result = peer_ask(caller, "roots/list", NULL, w, err);
    if (!result)
        return NULL;
    uris = json_array();
    json_array_foreach (json_object_get(result, "roots"), i, root) {
        json_t *uri = json_object_get(root, "uri");

        if (json_is_string(uri) && json_array_append(uris, uri) != 0) {
            json_decref(uris);
            uris = NULL;
            break;
        }
    }
    json_decref(result);
    if (!uris)
        error_set(err, ERR_NOMEM, "the client's roots");
    return uris;
}

static json_t *peer_sample(void *arg, const json_t *params, const struct wait *w, struct error *err)
{
    const struct peer_caller *caller = arg;
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    json_t *result;

    if (!caller->offers.sampling) {
        error_set(err, ERR_UNSUPPORTED, "the client does not lend its model (MCP sampling)");
        return NULL;
    }
    if (!caller->offers.sampling_tools &&
        (json_object_get(params, "tools") || json_object_get(params, "toolChoice"))) {
        error_set(err, ERR_UNSUPPORTED, "the client's model takes no tools");
        return NULL;
    }
    if (!json_write(params, &text)) {
        error_set(err, ERR_NOMEM, "a question to the client's model");
        return NULL;
    }
    result = peer_ask(caller, "sampling/createMessage", buf_str(&text), w, err);
    if (!result)
        return NULL;
    if (json_is_string(json_object_get(result, "role")) && json_object_get(result, "content"))
        return result;
    json_decref(result);
    error_set(err, ERR_PROTOCOL, "the client's model answered without role or content");
    return NULL;
}

static bool elicit_params(struct buf *out, const char *message, const json_t *schema)
{
    return buf_append_str(out, "{\"message\":") &&
           jsonrpc_put_string(out, message, strlen(message)) &&
           buf_append_str(out, ",\"requestedSchema\":") && json_write(schema, out) &&
           buf_append_char(out, '}');
}

static bool accepted(const json_t *result, json_t **ret_content, struct error *err)
{
    const char *action = json_string_value(json_object_get(result, "action"));
    json_t *content = json_object_get(result, "content");

    if (action && (!strcmp(action, "decline") || !strcmp(action, "cancel")))
        return error_set(err, ERR_DENIED, "the person %s",
                         !strcmp(action, "decline") ? "declined" : "dismissed the question");
    if (!action || strcmp(action, "accept") != 0)
        return error_set(err, ERR_PROTOCOL,
                         "the client's answer is neither accept, decline nor cancel");
    if (ret_content) {
        *ret_content = json_is_object(content) ? json_incref(content) : json_object();
        if (!*ret_content)
            return error_set(err, ERR_NOMEM, "an answer");
    }
    return true;
}

static bool peer_elicit(void *arg, const char *message, const json_t *schema, json_t **ret_content,
                        const struct wait *w, struct error *err)
{
    const struct peer_caller *caller = arg;
    CLEANUP(buf_fini) struct buf params = BUF_INIT;
    json_t *result;
    bool yes;

    if (!caller->offers.elicitation)
        return error_set(err, ERR_UNSUPPORTED, "the client cannot ask a person (MCP elicitation)");
    if (!elicit_params(&params, message, schema))
        return error_set(err, ERR_NOMEM, "a question to a person");
    result = peer_ask(caller, "elicitation/create", buf_str(&params), w, err);
    if (!result)
        return false;
    yes = accepted(result, ret_content, err);
    json_decref(result);
    return yes;
}

const struct tool_peer *peer_tool(void)
{
    static const struct tool_peer tool = { .roots = peer_roots,
                                           .sample = peer_sample,
                                           .elicit = peer_elicit };

    return &tool;
}
