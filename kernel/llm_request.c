/* What is asked: checked once, before any provider sees it, and the pieces that all kinds need. */
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"
#include "kernel/llm_provider.h"

const char llm_instruction[] =
    "Your answer above was cut off. Go on from exactly where it stops, in the middle of a word if "
    "need be: write only what is missing, repeat nothing, and add no remark.";

bool llm_put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

bool llm_put_str(json_t *object, const char *key, const char *text)
{
    return llm_put(object, key, json_string(text));
}

static const char *string_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static bool check_block(const json_t *block, size_t at, struct error *err)
{
    const char *type = string_at(block, "type");

    if (type && strcmp(type, "text") == 0 && string_at(block, "text"))
        return true;
    if (type && strcmp(type, "image") == 0 && string_at(block, "mime_type") &&
        string_at(block, "data"))
        return true;
    return error_set(err, ERR_INVALID,
                     "messages[%zu]: a block of content is {\"type\": \"text\", \"text\"} or "
                     "{\"type\": \"image\", \"mime_type\", \"data\" (base64)}",
                     at);
}

static bool check_calls(const json_t *calls, size_t at, struct error *err)
{
    size_t i;
    json_t *call;

    if (calls && !json_is_array(calls))
        return error_set(err, ERR_INVALID, "messages[%zu].tool_calls must be an array", at);
    json_array_foreach (calls, i, call)
        if (!string_at(call, "id") || !string_at(call, "name") ||
            !json_is_object(json_object_get(call, "arguments")))
            return error_set(err, ERR_INVALID,
                             "messages[%zu].tool_calls[%zu] must have \"id\", \"name\" and the "
                             "object \"arguments\"",
                             at, i);
    return true;
}

static bool check_message(const json_t *message, size_t at, struct error *err)
{
    const char *role = string_at(message, "role");
    const json_t *content = json_object_get(message, "content");
    const json_t *calls = json_object_get(message, "tool_calls");
    size_t i;
    json_t *block;

    if (!role || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0 &&
                  strcmp(role, "tool") != 0 && strcmp(role, "system") != 0))
        return error_set(err, ERR_INVALID,
                         "messages[%zu].role must be user, assistant, tool or system", at);
    if (strcmp(role, "tool") == 0 && !string_at(message, "tool_call_id"))
        return error_set(err, ERR_INVALID, "messages[%zu]: a tool's answer needs tool_call_id", at);
    if (!check_calls(calls, at, err))
        return false;
    if (json_is_string(content))
        return true;
    if ((!content || json_is_null(content)) && json_array_size(calls) > 0)
        return true;
    if (!json_is_array(content) || json_array_size(content) == 0)
        return error_set(err, ERR_INVALID,
                         "messages[%zu].content must be a string or a list of blocks", at);
    json_array_foreach (content, i, block)
        if (!check_block(block, at, err))
            return false;
    return true;
}

static bool tool_name_ok(const char *name)
{
    size_t len = name ? strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789_-")
                      : 0;

    return len >= 1 && len <= 128 && name[len] == '\0';
}

static bool check_tools(const struct llm_request *r, struct error *err)
{
    const char *word = json_string_value(r->tool_choice);
    size_t i;
    json_t *tool;

    if (r->tools && (!json_is_array(r->tools) || json_array_size(r->tools) > LLM_TOOLS_MAX))
        return error_set(err, ERR_INVALID, "tools must be an array of at most %u", LLM_TOOLS_MAX);
    json_array_foreach (r->tools, i, tool) {
        const json_t *parameters = json_object_get(tool, "parameters");

        if (!tool_name_ok(string_at(tool, "name")) || (parameters && !json_is_object(parameters)))
            return error_set(err, ERR_INVALID,
                             "tools[%zu] must have a \"name\" of up to 128 letters, digits, _ and "
                             "-, and \"parameters\" as a JSON Schema object",
                             i);
    }
    if (!r->tool_choice || string_at(r->tool_choice, "name") ||
        (word &&
         (strcmp(word, "auto") == 0 || strcmp(word, "none") == 0 || strcmp(word, "required") == 0)))
        return true;
    return error_set(err, ERR_INVALID,
                     "tool_choice must be \"auto\", \"none\", \"required\" or {\"name\"}");
}

static bool check_rest(const struct llm_request *r, struct error *err)
{
    size_t i;
    json_t *stop;

    if (r->schema && !json_is_object(r->schema))
        return error_set(err, ERR_INVALID, "schema must be a JSON Schema object");
    if (r->stop && (!json_is_array(r->stop) || json_array_size(r->stop) > LLM_STOPS_MAX))
        return error_set(err, ERR_INVALID, "stop must be a list of at most %u strings",
                         LLM_STOPS_MAX);
    json_array_foreach (r->stop, i, stop)
        if (json_string_length(stop) == 0)
            return error_set(err, ERR_INVALID, "stop[%zu] must be a string with something in it",
                             i);
    if (r->max_tokens < 0)
        return error_set(err, ERR_INVALID, "max_tokens must not be negative");
    if (r->so_far && *r->so_far && r->schema)
        return error_set(err, ERR_INVALID,
                         "a structured answer cannot be continued; ask for it again");
    if (r->so_far &&
        (strlen(r->so_far) > LLM_ANSWER_BYTES || !utf8_valid(r->so_far, strlen(r->so_far))))
        return error_set(err, ERR_INVALID,
                         "the text to be continued must be UTF-8 of at most %u MiB",
                         LLM_ANSWER_BYTES >> 20);
    return true;
}

bool llm_request_check(const struct llm_request *r, struct error *err)
{
    size_t i;
    json_t *message;

    if (!json_is_array(r->messages) || json_array_size(r->messages) == 0 ||
        json_array_size(r->messages) > LLM_MESSAGES_MAX)
        return error_set(err, ERR_INVALID, "messages must be a list of 1 to %u", LLM_MESSAGES_MAX);
    json_array_foreach (r->messages, i, message)
        if (!check_message(message, i, err))
            return false;
    return check_tools(r, err) && check_rest(r, err);
}

uint64_t llm_request_tokens(const struct llm_request *r)
{
    size_t bytes = json_dumpb(r->messages, NULL, 0, JSON_COMPACT);

    bytes += r->system ? strlen(r->system) : 0;
    bytes += r->tools ? json_dumpb(r->tools, NULL, 0, JSON_COMPACT) : 0;
    bytes += r->schema ? json_dumpb(r->schema, NULL, 0, JSON_COMPACT) : 0;
    bytes += r->so_far ? strlen(r->so_far) : 0;
    return llm_tokens_of(bytes);
}

static bool add_text(struct buf *out, const char *text)
{
    return !text || !*text ||
           ((out->len == 0 || buf_append_str(out, "\n\n")) && buf_append_str(out, text));
}

bool llm_system_text(const struct llm_request *r, struct buf *out)
{
    size_t i, n;
    json_t *message, *block;
    bool ok = add_text(out, r->system);

    json_array_foreach (r->messages, i, message) {
        const json_t *content = json_object_get(message, "content");

        if (strcmp(string_at(message, "role"), "system") != 0)
            continue;
        ok = ok && add_text(out, json_string_value(content));
        json_array_foreach (content, n, block)
            ok = ok && add_text(out, string_at(block, "text"));
    }
    return ok;
}
