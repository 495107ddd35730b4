/* Anthropic's messages. */
#include <stdio.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/llm_provider.h"

#define VERSION    "anthropic-version: 2023-06-01"
#define MAX_TOKENS 4096 /* must be said; what every model allows */

/* A structured answer is the input of a tool of this name that the model must call: every model can
 * do that. */
#define STRUCTURED "structured_answer"

static const char *string_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* ---- the request ---- */

static json_t *block_of(const json_t *from)
{
    if (strcmp(string_at(from, "type"), "image") == 0)
        return json_pack("{s:s, s:{s:s, s:s, s:O}}", "type", "image", "source", "type", "base64",
                         "media_type", string_at(from, "mime_type"), "data",
                         json_object_get(from, "data"));
    return json_pack("{s:s, s:O}", "type", "text", "text", json_object_get(from, "text"));
}

/* Appends a message's content as blocks; an empty text would be refused, and is left out. */
static bool append_blocks(json_t *to, json_t *content)
{
    json_t *block;
    size_t i;

    if (json_string_length(content) > 0)
        return json_array_append_new(to,
                                     json_pack("{s:s, s:O}", "type", "text", "text", content)) == 0;
    json_array_foreach (content, i, block)
        if (json_array_append_new(to, block_of(block)) != 0)
            return false;
    return true;
}

static bool append_calls(json_t *to, const json_t *calls)
{
    json_t *call;
    size_t i;

    json_array_foreach (calls, i, call)
        if (json_array_append_new(to, json_pack("{s:s, s:O, s:O, s:O}", "type", "tool_use", "id",
                                                json_object_get(call, "id"), "name",
                                                json_object_get(call, "name"), "input",
                                                json_object_get(call, "arguments"))) != 0)
            return false;
    return true;
}

static bool append_result(json_t *to, const json_t *message)
{
    json_t *content = json_array();

    if (!content || !append_blocks(content, json_object_get(message, "content"))) {
        json_decref(content);
        return false;
    }
    return json_array_append_new(
               to, json_pack("{s:s, s:O, s:o}", "type", "tool_result", "tool_use_id",
                             json_object_get(message, "tool_call_id"), "content", content)) == 0;
}

/* The content of a new last message, borrowed. */
static json_t *new_message(json_t *list, const char *role)
{
    json_t *content = json_array();

    if (json_array_append_new(list, json_pack("{s:s, s:o}", "role", role, "content", content)) != 0)
        return NULL;
    return content;
}

static bool append_message(json_t *list, const json_t *message, json_t **results)
{
    const char *role = string_at(message, "role");
    json_t *content;

    if (strcmp(role, "system") == 0)
        return true;
    if (strcmp(role, "tool") == 0) { /* the results of one turn belong into one message */
        if (!*results)
            *results = new_message(list, "user");
        return *results && append_result(*results, message);
    }
    *results = NULL;
    content = new_message(list, role);
    return content && append_blocks(content, json_object_get(message, "content")) &&
           append_calls(content, json_object_get(message, "tool_calls"));
}

static json_t *text_message(const char *role, const char *text, size_t len)
{
    return json_pack("{s:s, s:[{s:s, s:s%}]}", "role", role, "content", "type", "text", "text",
                     text, len);
}

/* White space at the end of the last message would be refused; the join knows about it. */
static size_t trimmed(const char *text)
{
    size_t len = strlen(text);

    while (len > 0 && strchr(" \t\r\n", text[len - 1]))
        len--;
    return len;
}

static json_t *messages(const struct llm_prompt *p)
{
    json_t *list = json_array(), *results = NULL, *message;
    size_t len = trimmed(p->so_far), i;
    bool ok = list != NULL;

    json_array_foreach (p->request->messages, i, message)
        ok = ok && append_message(list, message, &results);
    if (len > 0) {
        ok = ok && json_array_append_new(list, text_message("assistant", p->so_far, len)) == 0;
        if (p->continuation == LLM_INSTRUCT)
            ok = ok && json_array_append_new(list, text_message("user", llm_instruction,
                                                                strlen(llm_instruction))) == 0;
    }
    if (ok)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *tools(const struct llm_request *r)
{
    json_t *list = json_array(), *tool;
    size_t i;
    bool ok = list != NULL;

    json_array_foreach (r->tools, i, tool) {
        json_t *parameters = json_object_get(tool, "parameters");
        json_t *to =
            json_pack("{s:O, s:o}", "name", json_object_get(tool, "name"), "input_schema",
                      parameters ? json_incref(parameters) : json_pack("{s:s}", "type", "object"));

        if (to && string_at(tool, "description"))
            ok =
                ok && llm_put(to, "description", json_incref(json_object_get(tool, "description")));
        ok = json_array_append_new(list, to) == 0 && ok;
    }
    if (ok && r->schema)
        ok = json_array_append_new(list,
                                   json_pack("{s:s, s:s, s:O}", "name", STRUCTURED, "description",
                                             "Gives the answer in the form that was asked for.",
                                             "input_schema", r->schema)) == 0;
    if (ok)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *choice(const struct llm_request *r)
{
    const char *word = json_string_value(r->tool_choice);
    const char *name = string_at(r->tool_choice, "name");

    if (name)
        return json_pack("{s:s, s:s}", "type", "tool", "name", name);
    if (r->schema && (json_array_size(r->tools) == 0 || (word && strcmp(word, "none") == 0)))
        return json_pack("{s:s, s:s}", "type", "tool", "name", STRUCTURED);
    if (r->schema || strcmp(word, "required") == 0)
        return json_pack("{s:s}", "type", "any");
    return json_pack("{s:s}", "type", word);
}

static bool put_options(json_t *body, const struct llm_prompt *p)
{
    const struct llm_request *r = p->request;
    int64_t most = p->max_tokens > 0 ? p->max_tokens : MAX_TOKENS;

    if (!llm_put(body, "stream", json_true()) || !llm_put(body, "max_tokens", json_integer(most)))
        return false;
    if (r->temperature >= 0 && !(p->quirks & LLM_QUIRK_NO_TEMPERATURE) &&
        !llm_put(body, "temperature", json_real(r->temperature)))
        return false;
    if (json_array_size(r->stop) > 0 && !llm_put(body, "stop_sequences", json_incref(r->stop)))
        return false;
    if (json_array_size(r->tools) == 0 && !r->schema)
        return true;
    return llm_put(body, "tools", tools(r)) &&
           ((!r->tool_choice && !r->schema) || llm_put(body, "tool_choice", choice(r)));
}

static json_t *body(const struct llm_prompt *p, struct error *err)
{
    CLEANUP(buf_fini) struct buf system = BUF_INIT;
    json_t *to = json_object();

    if (to && llm_system_text(p->request, &system) && llm_put_str(to, "model", p->model) &&
        (system.len == 0 || llm_put_str(to, "system", buf_str(&system))) &&
        llm_put(to, "messages", messages(p)) && put_options(to, p))
        return to;
    json_decref(to);
    error_set(err, ERR_NOMEM, "a question");
    return NULL;
}

static void headers(struct llm_headers *h, const char *key)
{
    h->list[h->count++] = VERSION;
    if (!key)
        return;
    (void)snprintf(h->secret, sizeof h->secret, "x-api-key: %s", key);
    h->list[h->count++] = h->secret;
}

static unsigned quirk(const struct llm_prompt *p, const char *words)
{
    if (*p->so_far && p->continuation == LLM_PREFILL &&
        (strstr(words, "prefill") || strstr(words, "must end with a user message")))
        return LLM_QUIRK_NO_PREFILL;
    if (strstr(words, "temperature") &&
        (strstr(words, "upported") || strstr(words, "deprecated")) && p->request->temperature >= 0)
        return LLM_QUIRK_NO_TEMPERATURE;
    return 0;
}

/* ---- the answer ---- */

static bool broken(struct llm_answer *a, const json_t *error, struct error *err)
{
    const char *type = string_at(error, "type"), *words = string_at(error, "message");
    enum llm_verdict verdict = LLM_AGAIN; /* overloaded_error, rate_limit_error, api_error … */

    if (type && strcmp(type, "invalid_request_error") == 0)
        verdict = LLM_REFUSED;
    else if (type &&
             (strcmp(type, "authentication_error") == 0 || strcmp(type, "permission_error") == 0 ||
              strcmp(type, "not_found_error") == 0))
        verdict = LLM_NEXT;
    return llm_answer_fail(a, verdict, ERR_LOST, err, "it broke off with %.60s: %.300s",
                           type ? type : "an error", words ? words : "no reason given");
}

static uint64_t count_at(const json_t *usage, const char *key)
{
    return (uint64_t)MAX(json_integer_value(json_object_get(usage, key)), 0);
}

static void take_usage(struct llm_answer *a, const json_t *usage)
{
    uint64_t input = count_at(usage, "input_tokens") +
                     count_at(usage, "cache_creation_input_tokens") +
                     count_at(usage, "cache_read_input_tokens");

    if (input > 0)
        a->input_tokens = input;
    if (json_is_integer(json_object_get(usage, "output_tokens")))
        a->output_tokens = count_at(usage, "output_tokens"); /* of the whole so far */
}

static void take_end(struct llm_answer *a, const char *reason)
{
    if (!reason)
        return;
    llm_answer_finish(a, reason);
    if (a->schema_index >= 0 && a->call_count == 0 && strcmp(a->finish, "tool_calls") == 0)
        llm_answer_finish(a, "stop");
    a->counted = a->input_tokens > 0;
    a->ended = true;
}

static bool begin_block(struct llm_answer *a, int64_t index, const json_t *block, struct error *err)
{
    const char *type = string_at(block, "type"), *name = string_at(block, "name");

    if (!type || strcmp(type, "tool_use") != 0)
        return true;
    if (a->to_schema && name && strcmp(name, STRUCTURED) == 0) {
        a->schema_index = index;
        return true;
    }
    return llm_answer_call(a, index, string_at(block, "id"), name, NULL, err);
}

static bool take_delta(struct llm_answer *a, int64_t index, const json_t *delta, struct error *err)
{
    const char *type = string_at(delta, "type");
    const json_t *text;

    if (!type)
        return true;
    if (strcmp(type, "input_json_delta") == 0) {
        text = json_object_get(delta, "partial_json");
        if (!json_is_string(text))
            return true;
        if (a->schema_index >= 0 && index == a->schema_index)
            return llm_answer_text(a, json_string_value(text), json_string_length(text), err);
        return llm_answer_call(a, index, NULL, NULL, json_string_value(text), err);
    }
    text = json_object_get(delta, "text");
    if (strcmp(type, "text_delta") != 0 || a->to_schema || !json_is_string(text))
        return true; /* thinking, signatures, and what a later revision adds */
    return llm_answer_text(a, json_string_value(text), json_string_length(text), err);
}

/* A call without arguments sends none. */
static bool end_block(struct llm_answer *a, int64_t index, struct error *err)
{
    if (a->schema_index >= 0 && index == a->schema_index && a->text->len == a->text_before)
        return llm_answer_text(a, "{}", 2, err);
    return true;
}

static bool take(struct llm_answer *a, const char *type, const json_t *e, struct error *err)
{
    int64_t index = json_integer_value(json_object_get(e, "index"));

    if (strcmp(type, "error") == 0)
        return broken(a, json_object_get(e, "error"), err);
    if (strcmp(type, "message_start") == 0) {
        const json_t *message = json_object_get(e, "message");

        llm_answer_model(a, string_at(message, "model"));
        take_usage(a, json_object_get(message, "usage"));
    } else if (strcmp(type, "content_block_start") == 0) {
        return begin_block(a, index, json_object_get(e, "content_block"), err);
    } else if (strcmp(type, "content_block_delta") == 0) {
        return take_delta(a, index, json_object_get(e, "delta"), err);
    } else if (strcmp(type, "content_block_stop") == 0) {
        return end_block(a, index, err);
    } else if (strcmp(type, "message_delta") == 0) {
        take_usage(a, json_object_get(e, "usage"));
        take_end(a, string_at(json_object_get(e, "delta"), "stop_reason"));
    } else if (strcmp(type, "message_stop") == 0) {
        a->ended = true;
    }
    return true; /* a ping, or a later revision's */
}

static bool event(void *arg, const char *name, const char *data, size_t len, struct error *err)
{
    struct llm_answer *a = arg;
    struct error bad = ERROR_INIT;
    json_t *e = json_parse(data, len, &bad);
    const char *type;
    bool ok;

    if (!e)
        return bad.code == ERR_NOMEM
                   ? llm_answer_fail(a, LLM_STOP, ERR_NOMEM, err, "an answer")
                   : llm_answer_fail(a, LLM_AGAIN, ERR_PROTOCOL, err,
                                     "it sent an event that is not JSON: %.200s", bad.text);
    type = string_at(e, "type");
    ok = take(a, type ? type : name, e, err);
    json_decref(e);
    return ok;
}

static bool whole_block(struct llm_answer *a, int64_t index, const json_t *block, struct error *err)
{
    const char *type = string_at(block, "type");
    CLEANUP(buf_fini) struct buf input = BUF_INIT;

    if (type && strcmp(type, "text") == 0 && !a->to_schema) {
        const json_t *text = json_object_get(block, "text");

        return !json_is_string(text) ||
               llm_answer_text(a, json_string_value(text), json_string_length(text), err);
    }
    if (!type || strcmp(type, "tool_use") != 0)
        return true;
    if (!begin_block(a, index, block, err))
        return false;
    if (json_object_get(block, "input") && !json_write(json_object_get(block, "input"), &input))
        return llm_answer_fail(a, LLM_STOP, ERR_NOMEM, err, "an answer");
    if (a->schema_index == index)
        return llm_answer_text(a, buf_str(&input), input.len, err);
    return llm_answer_call(a, index, NULL, NULL, buf_str(&input), err);
}

static bool whole(struct llm_answer *a, json_t *from, struct error *err)
{
    const char *type = string_at(from, "type");
    json_t *block;
    size_t i;

    if (type && strcmp(type, "error") == 0)
        return broken(a, json_object_get(from, "error"), err);
    if (!json_is_array(json_object_get(from, "content")))
        return llm_answer_fail(a, LLM_AGAIN, ERR_PROTOCOL, err,
                               "it sent something else than an answer");
    llm_answer_model(a, string_at(from, "model"));
    take_usage(a, json_object_get(from, "usage"));
    json_array_foreach (json_object_get(from, "content"), i, block)
        if (!whole_block(a, (int64_t)i, block, err))
            return false;
    take_end(a, string_at(from, "stop_reason"));
    return true;
}

const struct llm_dialect llm_anthropic = { .kind = "anthropic",
                                           .base_url = "https://api.anthropic.com/v1",
                                           .key_env = "ANTHROPIC_API_KEY",
                                           .path = "/messages",
                                           .continuation = LLM_PREFILL,
                                           .trims = true,
                                           .body = body,
                                           .headers = headers,
                                           .event = event,
                                           .whole = whole,
                                           .quirk = quirk };
