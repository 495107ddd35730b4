/* Planning and action: a conversation in which the model says what it wants, and gets it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/sdk/sdk.h"

struct aios_plan {
    char *system, *tools, *provider, *model; /* NULL: not given */
    int max_tokens;
    json_t *messages;
    json_t *calls; /* of the last step, borrowed from messages; NULL: none */
};

static bool copy(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

void aios_plan_free(struct aios_plan *p)
{
    if (!p)
        return;
    free(p->system);
    free(p->tools);
    free(p->provider);
    free(p->model);
    json_decref(p->messages);
    free(p);
}

struct aios_plan *aios_plan_new(const struct aios_plan_options *options, struct aios_error *err)
{
    struct aios_plan *p = calloc(1, sizeof *p);

    if (p && copy(&p->system, options->system) && copy(&p->tools, options->tools) &&
        copy(&p->provider, options->provider) && copy(&p->model, options->model) &&
        (p->messages = json_array())) {
        p->max_tokens = options->max_tokens;
        return p;
    }
    aios_plan_free(p);
    sdk_fail(err, AIOS_NOMEM, "out of memory for a plan");
    return NULL;
}

static bool add_message(struct aios_plan *p, json_t *message, struct aios_error *err)
{
    return json_array_append_new(p->messages, message) == 0 ||
           sdk_fail(err, AIOS_NOMEM, "out of memory for a conversation");
}

bool aios_plan_say(struct aios_plan *p, const char *role, const char *text, struct aios_error *err)
{
    json_t *message;

    if (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)
        return sdk_fail(err, AIOS_INVALID, "the role is \"user\" or \"assistant\"");
    message = json_pack("{s:s, s:s}", "role", role, "content", text);
    if (!message)
        return sdk_fail(err, AIOS_INVALID, "the text must be UTF-8");
    return add_message(p, message, err);
}

char *aios_plan_messages(const struct aios_plan *p, struct aios_error *err)
{
    char *text = json_dumps(p->messages, JSON_COMPACT);

    if (!text)
        sdk_fail(err, AIOS_NOMEM, "out of memory for a conversation");
    return text;
}

/* ---- planning ---- */

static bool take_step(struct aios_plan *p, const json_t *data, struct aios_step *ret,
                      struct aios_error *err)
{
    const char *text = json_string_value(json_object_get(data, "text"));
    json_t *calls = json_object_get(data, "tool_calls"), *message;

    message = json_pack("{s:s, s:s}", "role", "assistant", "content", text ? text : "");
    if (message && json_array_size(calls) > 0 &&
        json_object_set(message, "tool_calls", calls) < 0) {
        json_decref(message);
        message = NULL;
    }
    if (!add_message(p, message, err))
        return false;
    p->calls = json_object_get(message, "tool_calls");
    ret->text = json_string_value(json_object_get(message, "content"));
    ret->call_count = json_array_size(p->calls);
    return true;
}

bool aios_plan_next(struct aios *a, struct aios_plan *p, struct aios_step *ret,
                    struct aios_error *err)
{
    char *messages = aios_plan_messages(p, err);
    struct aios_llm_query query = { .messages = messages,
                                    .system = p->system,
                                    .provider = p->provider,
                                    .model = p->model,
                                    .tools = p->tools,
                                    .max_tokens = p->max_tokens };
    struct aios_reply *reply = messages ? aios_llm(a, &query, err) : NULL;
    bool ok = false;

    free(messages);
    p->calls = NULL;
    if (reply && !sdk_reply_data(reply))
        sdk_fail(err, AIOS_PROTOCOL, "the kernel's answer to a question holds no data");
    else if (reply)
        ok = take_step(p, sdk_reply_data(reply), ret, err);
    aios_reply_free(reply);
    return ok;
}

bool aios_plan_call(const struct aios_plan *p, size_t index, const char **ret_tool,
                    const char **ret_arguments)
{
    json_t *call = json_array_get(p->calls, index);
    json_t *text = json_object_get(call, "arguments_text");

    if (!call)
        return false;
    if (!text) {
        /* Kept in the call, so that it lives as long as that. */
        char *dump = json_dumps(json_object_get(call, "arguments"), JSON_COMPACT | JSON_ENCODE_ANY);

        text = dump ? json_string(dump) : NULL;
        free(dump);
        if (!sdk_set(call, "arguments_text", text))
            return false;
    }
    *ret_tool = json_string_value(json_object_get(call, "name"));
    *ret_arguments = json_string_value(text);
    return *ret_tool != NULL;
}

/* ---- action ---- */

/* What came of one call, in words that the model understands; for free().  NULL: the connection is
 * gone, or memory. */
static char *perform(struct aios *a, const char *tool, const char *arguments, aios_allow_fn *allow,
                     void *arg, struct aios_error *err)
{
    struct aios_tool_query query = { .tool = tool, .arguments = arguments };
    struct aios_error why = { .code = AIOS_OK };
    struct aios_reply *reply;
    char *text = NULL;

    if (allow && !allow(arg, tool, arguments))
        return strdup("This call was not allowed. Do without it.");
    reply = aios_tool(a, &query, &why);
    if (reply)
        text = strdup(aios_reply_text(reply));
    else if ((why.code != AIOS_REFUSED && why.code != AIOS_INVALID && why.code != AIOS_TIMEOUT) ||
             asprintf(&text, "Error: %s", why.text) < 0)
        text = NULL;
    aios_reply_free(reply);
    if (!text && why.code == AIOS_OK)
        sdk_fail(&why, AIOS_NOMEM, "out of memory for an answer");
    if (!text && err)
        *err = why;
    return text;
}

bool aios_act(struct aios *a, struct aios_plan *p, aios_allow_fn *allow, void *arg,
              struct aios_error *err)
{
    const char *tool, *arguments;
    json_t *calls = p->calls;

    for (size_t i = 0; aios_plan_call(p, i, &tool, &arguments); i++) {
        char *text = perform(a, tool, arguments, allow, arg, err);
        bool ok;

        if (!text)
            return false;
        ok =
            add_message(p,
                        json_pack("{s:s, s:O, s:s}", "role", "tool", "tool_call_id",
                                  json_object_get(json_array_get(calls, i), "id"), "content", text),
                        err);
        free(text);
        if (!ok)
            return false;
    }
    /* What was only for us would be refused as unknown in the next question. */
    for (size_t i = 0; i < json_array_size(calls); i++)
        (void)json_object_del(json_array_get(calls, i), "arguments_text");
    p->calls = NULL;
    return true;
}

char *aios_pursue(struct aios *a, struct aios_plan *p, const char *goal, unsigned max_steps,
                  aios_allow_fn *allow, void *arg, struct aios_error *err)
{
    struct aios_step step;
    char *last;

    if (!aios_plan_say(p, "user", goal, err))
        return NULL;
    for (unsigned i = 0; i < max_steps; i++) {
        if (!aios_plan_next(a, p, &step, err))
            return NULL;
        if (step.call_count == 0) {
            last = strdup(step.text);
            if (!last)
                sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
            return last;
        }
        if (!aios_act(a, p, allow, arg, err))
            return NULL;
    }
    sdk_fail(err, AIOS_REFUSED, "the goal was not reached in %u steps", max_steps);
    return NULL;
}
