/* Planning and action: a conversation in which the model says what it wants, and gets it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/sdk/sdk.h"

struct aios_plan {
    char *system, *tools, *provider, *model; /* NULL: not given */
    int max_tokens;
    json_t *offered; /* tools, read; NULL: none */
    json_t *messages;
    json_t *calls;    /* of the last step, borrowed from messages; NULL: none */
    char **arguments; /* of each of them, as text */
};

static bool copy(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

/* The calls have been made, or are not wanted any more. */
static void forget_calls(struct aios_plan *p)
{
    for (size_t i = 0; p->arguments && i < json_array_size(p->calls); i++)
        free(p->arguments[i]);
    free(p->arguments);
    p->arguments = NULL;
    p->calls = NULL;
}

void aios_plan_free(struct aios_plan *p)
{
    if (!p)
        return;
    forget_calls(p);
    free(p->system);
    free(p->tools);
    free(p->provider);
    free(p->model);
    json_decref(p->offered);
    json_decref(p->messages);
    free(p);
}

struct aios_plan *aios_plan_new(const struct aios_plan_options *options, struct aios_error *err)
{
    const struct aios_plan_options none = { .system = NULL };
    struct aios_plan *p = calloc(1, sizeof *p);

    options = options ? options : &none;
    if (p && options->tools) {
        p->offered = sdk_parse(options->tools, JSON_ARRAY, "tools", err);
        if (!p->offered) {
            aios_plan_free(p);
            return NULL;
        }
    }
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
    errno = 0;
    message = json_pack("{s:s, s:s}", "role", role, "content", text);
    if (!message && errno != ENOMEM)
        return sdk_fail(err, AIOS_INVALID, "the text is not UTF-8");
    return add_message(p, message, err);
}

char *aios_plan_messages(const struct aios_plan *p, struct aios_error *err)
{
    char *text = sdk_dump(p->messages);

    if (!text)
        sdk_fail(err, AIOS_NOMEM, "out of memory for a conversation");
    return text;
}

/* ---- planning ---- */

static bool is_call(const json_t *call)
{
    return json_is_string(json_object_get(call, "id")) &&
           json_is_string(json_object_get(call, "name")) &&
           json_is_object(json_object_get(call, "arguments"));
}

/* Reads p->calls. */
static bool take_calls(struct aios_plan *p, struct aios_error *err)
{
    size_t count = json_array_size(p->calls);

    for (size_t i = 0; i < count; i++)
        if (!is_call(json_array_get(p->calls, i)))
            return sdk_fail(err, AIOS_PROTOCOL,
                            "a call that the model wants lacks id, name or arguments");
    p->arguments = calloc(count + 1, sizeof *p->arguments);
    for (size_t i = 0; p->arguments && i < count; i++) {
        p->arguments[i] = sdk_dump(json_object_get(json_array_get(p->calls, i), "arguments"));
        if (!p->arguments[i])
            return sdk_fail(err, AIOS_NOMEM, "out of memory for a step");
    }
    return p->arguments || sdk_fail(err, AIOS_NOMEM, "out of memory for a step");
}

static bool take_step(struct aios_plan *p, const json_t *data, struct aios_step *ret,
                      struct aios_error *err)
{
    const char *text = json_string_value(json_object_get(data, "text"));
    json_t *calls = json_object_get(data, "tool_calls");
    json_t *message = json_pack("{s:s, s:s}", "role", "assistant", "content", text ? text : "");

    if (message && json_array_size(calls) > 0) {
        p->calls = calls;
        if (!take_calls(p, err)) {
            forget_calls(p);
            json_decref(message);
            return false;
        }
        if (json_object_set(message, "tool_calls", calls) < 0) {
            json_decref(message);
            message = NULL;
        }
    }
    if (!add_message(p, message, err)) {
        forget_calls(p);
        return false;
    }
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
    forget_calls(p);
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
    if (!p->arguments || index >= json_array_size(p->calls))
        return false;
    *ret_tool = json_string_value(json_object_get(json_array_get(p->calls, index), "name"));
    *ret_arguments = p->arguments[index];
    return true;
}

/* ---- action ---- */

/* A model may name a tool that it was not given. */
static bool is_offered(const struct aios_plan *p, const char *tool)
{
    json_t *offer;
    size_t i;

    json_array_foreach (p->offered, i, offer) {
        const char *name = json_string_value(json_object_get(offer, "name"));

        if (name && strcmp(name, tool) == 0)
            return true;
    }
    return false;
}

/* What came of one call, in words that the model understands; for free().  NULL: the connection is
 * gone, or memory. */
static char *perform(struct aios *a, const char *tool, const char *arguments,
                     struct aios_error *err)
{
    struct aios_tool_query query = { .tool = tool, .arguments = arguments };
    struct aios_error why = { .code = AIOS_OK };
    struct aios_reply *reply = aios_tool(a, &query, &why);
    char *text = NULL;

    if (reply) {
        text = sdk_copy(aios_reply_text(reply), err);
        aios_reply_free(reply);
    } else if (why.code != AIOS_REFUSED && why.code != AIOS_INVALID && why.code != AIOS_TIMEOUT) {
        sdk_fail(err, why.code, "%s", why.text);
    } else if (asprintf(&text, "Error: %s", why.text) < 0) {
        sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
        text = NULL;
    }
    return text;
}

/* Makes call @index, if it may be made. */
static char *try_call(struct aios *a, const struct aios_plan *p, size_t index, aios_allow_fn *allow,
                      void *arg, struct aios_error *err)
{
    const char *tool, *arguments;

    if (!aios_plan_call(p, index, &tool, &arguments) || !is_offered(p, tool))
        return sdk_copy("Error: there is no such tool here.", err);
    if (allow && !allow(arg, tool, arguments))
        return sdk_copy("This call was not allowed. Do without it.", err);
    return perform(a, tool, arguments, err);
}

bool aios_act(struct aios *a, struct aios_plan *p, aios_allow_fn *allow, void *arg,
              struct aios_error *err)
{
    for (size_t i = 0; i < json_array_size(p->calls); i++) {
        json_t *id = json_object_get(json_array_get(p->calls, i), "id");
        char *text = try_call(a, p, i, allow, arg, err);
        bool ok = text && add_message(p,
                                      json_pack("{s:s, s:O, s:s}", "role", "tool", "tool_call_id",
                                                id, "content", text),
                                      err);

        free(text);
        if (!ok)
            return false;
    }
    forget_calls(p);
    return true;
}

char *aios_pursue(struct aios *a, struct aios_plan *p, const char *goal, unsigned max_steps,
                  aios_allow_fn *allow, void *arg, struct aios_error *err)
{
    struct aios_step step;

    if (!aios_plan_say(p, "user", goal, err))
        return NULL;
    for (unsigned i = 0; i < max_steps; i++) {
        if (!aios_plan_next(a, p, &step, err))
            return NULL;
        if (step.call_count == 0)
            return sdk_copy(step.text, err);
        if (!aios_act(a, p, allow, arg, err))
            return NULL;
    }
    sdk_fail(err, AIOS_REFUSED, "the goal was not reached in %u steps", max_steps);
    return NULL;
}
