/* OpenAI's chat completions, as many servers speak them. */
#include <stdio.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/llm_provider.h"

static const char *string_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* ---- the request ---- */

static json_t *image_block(const json_t *block)
{
    CLEANUP(buf_fini) struct buf url = BUF_INIT;

    buf_printf(&url, "data:%s;base64,", string_at(block, "mime_type"));
    buf_append_str(&url, string_at(block, "data"));
    return url.failed ? NULL
                      : json_pack("{s:s, s:{s:s}}", "type", "image_url", "image_url", "url",
                                  buf_str(&url));
}

static json_t *content(json_t *from)
{
    json_t *list, *block;
    size_t i;

    if (!json_is_array(from))
        return from ? json_incref(from) : json_null();
    list = json_array();
    json_array_foreach (from, i, block) {
        bool image = strcmp(string_at(block, "type"), "image") == 0;

        if (json_array_append_new(list, image ? image_block(block)
                                              : json_pack("{s:s, s:s}", "type", "text", "text",
                                                          string_at(block, "text"))) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *tool_calls(const json_t *from)
{
    json_t *list = json_array(), *call;
    size_t i;

    json_array_foreach (from, i, call) {
        CLEANUP(buf_fini) struct buf arguments = BUF_INIT;

        if (!json_write(json_object_get(call, "arguments"), &arguments) ||
            json_array_append_new(list, json_pack("{s:s, s:s, s:{s:s, s:s}}", "id",
                                                  string_at(call, "id"), "type", "function",
                                                  "function", "name", string_at(call, "name"),
                                                  "arguments", buf_str(&arguments))) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *one_message(const json_t *from)
{
    json_t *to = json_object();
    const json_t *calls = json_object_get(from, "tool_calls");
    bool ok = to && llm_put_str(to, "role", string_at(from, "role")) &&
              llm_put(to, "content", content(json_object_get(from, "content")));

    if (ok && json_array_size(calls) > 0)
        ok = llm_put(to, "tool_calls", tool_calls(calls));
    if (ok && string_at(from, "tool_call_id"))
        ok = llm_put_str(to, "tool_call_id", string_at(from, "tool_call_id"));
    if (ok)
        return to;
    json_decref(to);
    return NULL;
}

static json_t *plain_message(const char *role, const char *text)
{
    return json_pack("{s:s, s:s}", "role", role, "content", text);
}

static json_t *messages(const struct llm_prompt *p)
{
    json_t *list = json_array(), *message;
    size_t i;
    bool ok = list != NULL;

    if (p->request->system && *p->request->system)
        ok = ok && json_array_append_new(list, plain_message("system", p->request->system)) == 0;
    json_array_foreach (p->request->messages, i, message)
        ok = ok && json_array_append_new(list, one_message(message)) == 0;
    if (*p->so_far) {
        message = plain_message("assistant", p->so_far);
        if (p->continuation == LLM_PREFIX)
            ok = ok && message && llm_put(message, "prefix", json_true());
        ok = json_array_append_new(list, message) == 0 && ok;
        if (p->continuation == LLM_INSTRUCT)
            ok = ok && json_array_append_new(list, plain_message("user", llm_instruction)) == 0;
    }
    if (ok)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *tools(const json_t *from)
{
    json_t *list = json_array(), *tool;
    size_t i;

    json_array_foreach (from, i, tool) {
        json_t *function = json_copy(tool); /* name, description, parameters: the same names */

        if (json_array_append_new(
                list, json_pack("{s:s, s:o}", "type", "function", "function", function)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* Whether the schema is one that can be enforced to the letter: every object closed, every property
 * required. */
static bool strict_schema(const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties"), *child;
    const char *type = string_at(schema, "type");
    const char *key;
    size_t i, n;
    json_t *each, *word;

    if (!json_is_object(schema))
        return true;
    if (properties || (type && strcmp(type, "object") == 0)) {
        const json_t *required = json_object_get(schema, "required");

        if (!json_is_false(json_object_get(schema, "additionalProperties")) ||
            json_array_size(required) != json_object_size(properties))
            return false;
        json_array_foreach (required, n, word)
            if (!json_is_string(word) || !json_object_get(properties, json_string_value(word)))
                return false;
    }
    json_object_foreach (unconst(properties), key, each)
        if (!strict_schema(each))
            return false;
    child = json_object_get(schema, "items");
    if (child && !strict_schema(child))
        return false;
    json_array_foreach (json_object_get(schema, "anyOf"), i, each)
        if (!strict_schema(each))
            return false;
    json_object_foreach (json_object_get(schema, "$defs"), key, each)
        if (!strict_schema(each))
            return false;
    return true;
}

static bool put_tools(json_t *body, const struct llm_request *r)
{
    const char *name = string_at(r->tool_choice, "name");

    if (json_array_size(r->tools) == 0)
        return true;
    if (!llm_put(body, "tools", tools(r->tools)))
        return false;
    if (!r->tool_choice)
        return true;
    return llm_put(body, "tool_choice",
                   name ? json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", name)
                        : json_incref(r->tool_choice));
}

static bool put_options(json_t *body, const struct llm_prompt *p)
{
    const struct llm_request *r = p->request;
    const char *most =
        p->quirks & LLM_QUIRK_COMPLETION_TOKENS ? "max_completion_tokens" : "max_tokens";

    if (!llm_put(body, "stream", json_true()) ||
        (!(p->quirks & LLM_QUIRK_NO_STREAM_OPTIONS) &&
         !llm_put(body, "stream_options", json_pack("{s:b}", "include_usage", 1))))
        return false;
    if (p->max_tokens > 0 && !llm_put(body, most, json_integer(p->max_tokens)))
        return false;
    if (r->temperature >= 0 && !(p->quirks & LLM_QUIRK_NO_TEMPERATURE) &&
        !llm_put(body, "temperature", json_real(r->temperature)))
        return false;
    if (json_array_size(r->stop) > 0 && !llm_put(body, "stop", json_incref(r->stop)))
        return false;
    if (*p->so_far && p->continuation == LLM_FINAL_MESSAGE &&
        (!llm_put(body, "continue_final_message", json_true()) ||
         !llm_put(body, "add_generation_prompt", json_false())))
        return false;
    return !r->schema || llm_put(body, "response_format",
                                 json_pack("{s:s, s:{s:s, s:b, s:O}}", "type", "json_schema",
                                           "json_schema", "name", "answer", "strict",
                                           (int)strict_schema(r->schema), "schema", r->schema));
}

static json_t *body(const struct llm_prompt *p, struct error *err)
{
    json_t *to = json_object();

    if (to && llm_put_str(to, "model", p->model) && llm_put(to, "messages", messages(p)) &&
        put_tools(to, p->request) && put_options(to, p))
        return to;
    json_decref(to);
    error_set(err, ERR_NOMEM, "a question");
    return NULL;
}

static void headers(struct llm_headers *h, const char *key)
{
    if (!key)
        return;
    (void)snprintf(h->secret, sizeof h->secret, "Authorization: Bearer %s", key);
    h->list[h->count++] = h->secret;
}

static unsigned quirk(const struct llm_prompt *p, const char *words)
{
    if (strstr(words, "max_completion_tokens") && p->max_tokens > 0)
        return LLM_QUIRK_COMPLETION_TOKENS;
    if (strstr(words, "stream_options"))
        return LLM_QUIRK_NO_STREAM_OPTIONS;
    if (strstr(words, "temperature") && strstr(words, "upported") && p->request->temperature >= 0)
        return LLM_QUIRK_NO_TEMPERATURE;
    return 0;
}

/* ---- the answer ---- */

/* An error in the middle of a stream: a fault of the server unless it says otherwise. */
static bool broken(struct llm_answer *a, const json_t *error, struct error *err)
{
    const char *words =
        json_is_string(error) ? json_string_value(error) : string_at(error, "message");
    const char *type = string_at(error, "type");
    bool refused = type && strcmp(type, "invalid_request_error") == 0;

    return llm_answer_fail(a, refused ? LLM_REFUSED : LLM_AGAIN, ERR_LOST, err,
                           "it broke off with an error: %.300s", words ? words : "no reason given");
}

static bool take_calls(struct llm_answer *a, const json_t *calls, struct error *err)
{
    size_t i;
    json_t *call;

    json_array_foreach (calls, i, call) {
        const json_t *index = json_object_get(call, "index");
        const json_t *function = json_object_get(call, "function");

        if (!llm_answer_call(a, json_is_integer(index) ? json_integer_value(index) : (int64_t)i,
                             string_at(call, "id"), string_at(function, "name"),
                             string_at(function, "arguments"), err))
            return false;
    }
    return true;
}

static bool take_text(struct llm_answer *a, const json_t *text, struct error *err)
{
    return !json_is_string(text) ||
           llm_answer_text(a, json_string_value(text), json_string_length(text), err);
}

/* @part: the delta of a chunk, or the message of a whole answer.  A refusal is the model's text. */
static bool take_part(struct llm_answer *a, const json_t *part, struct error *err)
{
    return take_text(a, json_object_get(part, "content"), err) &&
           take_text(a, json_object_get(part, "refusal"), err) &&
           take_calls(a, json_object_get(part, "tool_calls"), err);
}

static void take_usage(struct llm_answer *a, const json_t *usage)
{
    const json_t *in = json_object_get(usage, "prompt_tokens");
    const json_t *out = json_object_get(usage, "completion_tokens");

    if (!json_is_integer(in) || !json_is_integer(out))
        return;
    a->input_tokens = (uint64_t)MAX(json_integer_value(in), 0);
    a->output_tokens = (uint64_t)MAX(json_integer_value(out), 0);
    a->counted = true;
}

static bool take(struct llm_answer *a, const json_t *chunk, const char *part, struct error *err)
{
    const json_t *choices = json_object_get(chunk, "choices");
    const json_t *error = json_object_get(chunk, "error");
    const json_t *choice = json_array_get(choices, 0);
    const char *finish = string_at(choice, "finish_reason");

    if (error && !json_is_null(error))
        return broken(a, error, err);
    if (!json_is_object(chunk) || (choices && !json_is_array(choices)))
        return llm_answer_fail(a, LLM_AGAIN, ERR_PROTOCOL, err,
                               "it sent something else than a piece of an answer");
    llm_answer_model(a, string_at(chunk, "model"));
    take_usage(a, json_object_get(chunk, "usage"));
    if (!take_part(a, json_object_get(choice, part), err))
        return false;
    if (finish) {
        llm_answer_finish(a, finish);
        a->ended = true;
    }
    return true;
}

static bool event(void *arg, const char *name, const char *data, size_t len, struct error *err)
{
    struct llm_answer *a = arg;
    struct error bad = ERROR_INIT;
    json_t *chunk;
    bool ok;

    (void)name;
    if (strcmp(data, "[DONE]") == 0) {
        a->ended = true;
        return true;
    }
    chunk = json_parse(data, len, &bad);
    if (!chunk)
        return bad.code == ERR_NOMEM
                   ? llm_answer_fail(a, LLM_STOP, ERR_NOMEM, err, "an answer")
                   : llm_answer_fail(a, LLM_AGAIN, ERR_PROTOCOL, err,
                                     "it sent an event that is not JSON: %.200s", bad.text);
    ok = take(a, chunk, "delta", err);
    json_decref(chunk);
    return ok;
}

static bool whole(struct llm_answer *a, json_t *from, struct error *err)
{
    return take(a, from, "message", err);
}

const struct llm_dialect llm_openai = { .kind = "openai",
                                        .base_url = "https://api.openai.com/v1",
                                        .key_env = "OPENAI_API_KEY",
                                        .path = "/chat/completions",
                                        .continuation = LLM_INSTRUCT,
                                        .body = body,
                                        .headers = headers,
                                        .event = event,
                                        .whole = whole,
                                        .quirk = quirk };
