/* Queries to tools and to models. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/sdk/sdk.h"

#define PAGES_MAX    1000
#define ALL_TOOLS    "aios/all" /* in _meta: those too that a server does not show to models */
#define HANDLE_BYTES 65

/* ---- JSON ---- */

char *sdk_dump(const json_t *value)
{
    char *text;

    errno = 0;
    text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (errno != ENOMEM)
        return text;
    free(text);
    return NULL;
}

bool sdk_set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

bool sdk_set_text(json_t *object, const char *key, const char *text)
{
    errno = 0;
    return !text || sdk_set(object, key, json_string(text));
}

bool sdk_set_number(json_t *object, const char *key, int64_t number)
{
    return number <= 0 || sdk_set(object, key, json_integer(number));
}

bool sdk_set_flag(json_t *object, const char *key, bool yes)
{
    return !yes || sdk_set(object, key, json_true());
}

json_t *sdk_parse(const char *text, json_type type, const char *what, struct aios_error *err)
{
    json_error_t why;
    json_t *value;

    errno = 0; /* without memory jansson may fail for another reason, or leave something out */
    value = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (errno == ENOMEM)
        sdk_fail(err, AIOS_NOMEM, "out of memory for a question");
    else if (!value)
        sdk_fail(err, AIOS_INVALID, "%s is no JSON: %s (line %d)", what, why.text, why.line);
    else if (json_typeof(value) != type)
        sdk_fail(err, AIOS_INVALID, "%s must be a JSON %s", what,
                 type == JSON_ARRAY ? "array" : "object");
    else
        return value;
    json_decref(value);
    return NULL;
}

struct aios_reply *sdk_ask(struct aios *a, const char *tool, json_t *arguments, bool ok,
                           int64_t timeout_ms, struct aios_error *err)
{
    json_t *result;

    if (!ok) {
        if (!arguments || errno == ENOMEM)
            sdk_fail(err, AIOS_NOMEM, "out of memory for a question");
        else
            sdk_fail(err, AIOS_INVALID, "a text is not UTF-8");
        json_decref(arguments);
        return NULL;
    }
    result = sdk_call_tool(a, tool, arguments, timeout_ms, err);
    return result ? sdk_reply(result, err) : NULL;
}

char *aios_quote(const char *text, struct aios_error *err)
{
    json_t *string;
    char *quoted;

    errno = 0;
    string = json_string(text);
    quoted = string ? sdk_dump(string) : NULL;
    json_decref(string);
    if (!string && errno != ENOMEM)
        sdk_fail(err, AIOS_INVALID, "the text is not UTF-8");
    else if (!quoted)
        sdk_fail(err, AIOS_NOMEM, "out of memory for a text");
    return quoted;
}

/* ---- tools ---- */

struct aios_reply *aios_tool(struct aios *a, const struct aios_tool_query *query,
                             struct aios_error *err)
{
    json_t *arguments;

    if (!query->tool) {
        sdk_fail(err, AIOS_INVALID, "name the tool");
        return NULL;
    }
    arguments =
        sdk_parse(query->arguments ? query->arguments : "{}", JSON_OBJECT, "arguments", err);
    return arguments ? sdk_ask(a, query->tool, arguments, true, query->timeout_ms, err) : NULL;
}

/* In the form in which models are given tools. */
static bool add_tools(json_t *list, const json_t *page, const char *prefix, struct aios_error *err)
{
    json_t *tool;
    size_t i;

    json_array_foreach (json_object_get(page, "tools"), i, tool) {
        const char *name = json_string_value(json_object_get(tool, "name"));

        if (!name || (prefix && strncmp(name, prefix, strlen(prefix)) != 0))
            continue;
        if (json_array_append_new(list,
                                  json_pack("{s:s, s:O*, s:O*}", "name", name, "description",
                                            json_object_get(tool, "description"), "parameters",
                                            json_object_get(tool, "inputSchema"))) < 0)
            return sdk_fail(err, AIOS_NOMEM, "out of memory for the list of tools");
    }
    return true;
}

/* Adds the page at *cursor, which becomes that of the next page, or NULL. */
static bool add_page(struct aios *a, json_t *list, const char *prefix, json_t **cursor,
                     struct aios_error *err)
{
    json_t *params = json_pack("{s:{s:b}}", "_meta", ALL_TOOLS, 1), *page;
    bool ok;

    if (!params || (*cursor && json_object_set(params, "cursor", *cursor) < 0)) {
        json_decref(params);
        return sdk_fail(err, AIOS_NOMEM, "out of memory for a question");
    }
    page = sdk_request(a, "tools/list", params, 0, err);
    ok = page && add_tools(list, page, prefix, err);
    json_decref(*cursor);
    *cursor = json_incref(json_object_get(page, "nextCursor"));
    json_decref(page);
    return ok;
}

char *aios_tools(struct aios *a, const char *prefix, struct aios_error *err)
{
    json_t *list = json_array(), *cursor = NULL;
    char *text = NULL;
    bool ok = list || sdk_fail(err, AIOS_NOMEM, "out of memory for the list of tools");
    int pages = 0;

    while (ok && pages++ < PAGES_MAX) {
        ok = add_page(a, list, prefix, &cursor, err);
        if (!json_is_string(cursor))
            break;
    }
    json_decref(cursor);
    if (ok)
        text = sdk_dump(list);
    json_decref(list);
    if (ok && !text)
        sdk_fail(err, AIOS_NOMEM, "out of memory for the list of tools");
    return text;
}

/* ---- models ---- */

/* object.@key = the JSON @text of @type. */
static bool set_json(json_t *object, const char *key, const char *text, json_type type,
                     struct aios_error *err)
{
    json_t *value = text ? sdk_parse(text, type, key, err) : NULL;

    if (!text)
        return true;
    return value && (sdk_set(object, key, value) ||
                     sdk_fail(err, AIOS_NOMEM, "out of memory for a question"));
}

static bool set_question(json_t *args, const struct aios_llm_query *query)
{
    return sdk_set_text(args, "prompt", query->prompt) &&
           sdk_set_text(args, "system", query->system) &&
           sdk_set_text(args, "provider", query->provider) &&
           sdk_set_text(args, "model", query->model) &&
           sdk_set_number(args, "max_tokens", query->max_tokens) &&
           (!query->temperature_set ||
            sdk_set(args, "temperature", json_real(query->temperature))) &&
           sdk_set_flag(args, "data", true);
}

/* Is the model still writing?  Who asked for data and gets words alone is told how to fetch it. */
static bool unfinished(const struct aios_reply *reply, char handle[HANDLE_BYTES])
{
    static const char how[] = "llm_query {\"answer\": \"";
    const json_t *data = sdk_reply_data(reply);
    const char *is = json_string_value(json_object_get(data, "answer"));
    size_t len = is ? strlen(is) : 0;

    if (data && json_object_get(data, "text"))
        return false;
    if (!data && (is = strstr(aios_reply_text(reply), how))) {
        is += sizeof how - 1;
        len = strcspn(is, "\"");
    }
    if (!is || len == 0 || len >= HANDLE_BYTES)
        return false;
    memcpy(handle, is, len);
    handle[len] = '\0';
    return true;
}

static struct aios_reply *fetch(struct aios *a, const char *handle, int64_t left_ms,
                                struct aios_error *err)
{
    json_t *args;

    if (left_ms <= 0) {
        sdk_fail(err, AIOS_TIMEOUT, "the model has not finished in time");
        return NULL;
    }
    args = json_object();
    return sdk_ask(a, "llm_query", args,
                   args && sdk_set_text(args, "answer", handle) && sdk_set_flag(args, "data", true),
                   left_ms, err);
}

struct aios_reply *aios_llm(struct aios *a, const struct aios_llm_query *query,
                            struct aios_error *err)
{
    int64_t deadline_ms = sdk_deadline_ms(a, query->timeout_ms);
    char handle[HANDLE_BYTES];
    struct aios_reply *reply;
    json_t *args;

    if (!query->prompt == !query->messages) {
        sdk_fail(err, AIOS_INVALID, "give either a prompt or messages");
        return NULL;
    }
    args = json_object();
    if (args && (!set_json(args, "messages", query->messages, JSON_ARRAY, err) ||
                 !set_json(args, "tools", query->tools, JSON_ARRAY, err) ||
                 !set_json(args, "schema", query->schema, JSON_OBJECT, err))) {
        json_decref(args);
        return NULL;
    }
    reply =
        sdk_ask(a, "llm_query", args, args && set_question(args, query), query->timeout_ms, err);
    while (reply && unfinished(reply, handle)) {
        aios_reply_free(reply);
        reply = fetch(a, handle, sdk_left_ms(deadline_ms), err);
    }
    return reply;
}
