/* The host's own model, asked through MCP's sampling/createMessage. */
#include <stdio.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/llm_provider.h"
#include "kernel/tool.h"

#define MAX_TOKENS 4096 /* must be said */

static const char *string_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static json_t *text_block(json_t *text)
{
    return json_pack("{s:s, s:O}", "type", "text", "text", text);
}

static json_t *block_of(const json_t *from)
{
    if (strcmp(string_at(from, "type"), "image") == 0)
        return json_pack("{s:s, s:O, s:O}", "type", "image", "data", json_object_get(from, "data"),
                         "mimeType", json_object_get(from, "mime_type"));
    return text_block(json_object_get(from, "text"));
}

static bool append_content(json_t *to, json_t *content)
{
    json_t *block;
    size_t i;

    if (json_is_string(content))
        return json_array_append_new(to, text_block(content)) == 0;
    json_array_foreach (content, i, block)
        if (json_array_append_new(to, block_of(block)) != 0)
            return false;
    return true;
}

static bool append_result(json_t *to, json_t *id, json_t *content)
{
    json_t *blocks = json_array();

    if (!blocks || !append_content(blocks, content)) {
        json_decref(blocks);
        return false;
    }
    return json_array_append_new(to, json_pack("{s:s, s:O, s:o}", "type", "tool_result",
                                               "toolUseId", id, "content", blocks)) == 0;
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

static json_t *content_of(const json_t *message)
{
    json_t *list = json_array(), *only;
    json_t *id = json_object_get(message, "tool_call_id");
    json_t *content = json_object_get(message, "content");
    bool ok = list != NULL;

    if (ok && id)
        ok = append_result(list, id, content);
    else if (ok)
        ok = append_content(list, content) &&
             append_calls(list, json_object_get(message, "tool_calls"));
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    if (json_array_size(list) != 1)
        return list;
    only = json_incref(json_array_get(list, 0)); /* what older revisions understand */
    json_decref(list);
    return only;
}

static bool append(json_t *list, const char *role, json_t *content)
{
    return json_array_append_new(list, json_pack("{s:s, s:o}", "role", role, "content", content)) ==
           0;
}

static json_t *plain(const char *text)
{
    return json_pack("{s:s, s:s}", "type", "text", "text", text);
}

static json_t *messages(const struct llm_prompt *p)
{
    json_t *list = json_array(), *message;
    size_t i;
    bool ok = list != NULL;

    json_array_foreach (p->request->messages, i, message) {
        const char *role = string_at(message, "role");

        if (strcmp(role, "system") != 0)
            ok = ok && append(list, strcmp(role, "assistant") == 0 ? "assistant" : "user",
                              content_of(message));
    }
    if (*p->so_far)
        ok = ok && append(list, "assistant", plain(p->so_far)) &&
             append(list, "user", plain(llm_instruction));
    if (ok)
        return list;
    json_decref(list);
    return NULL;
}

static bool put_system(json_t *params, const struct llm_request *r)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    bool ok = llm_system_text(r, &text);

    if (r->schema) { /* sampling has no place for one */
        ok = ok &&
             buf_append_str(&text, "\n\nAnswer with JSON alone, without any words or marks "
                                   "around it, that fits this JSON Schema:\n") &&
             json_write(r->schema, &text);
    }
    return ok && (text.len == 0 || llm_put_str(params, "systemPrompt", buf_str(&text)));
}

static bool put_tools(json_t *params, const struct llm_request *r)
{
    const char *word = json_string_value(r->tool_choice);
    json_t *list, *tool;
    size_t i;
    bool ok;

    if (json_array_size(r->tools) == 0)
        return true;
    list = json_array();
    ok = list != NULL;
    json_array_foreach (r->tools, i, tool) {
        json_t *schema = json_object_get(tool, "parameters");
        json_t *to = json_pack("{s:O, s:o}", "name", json_object_get(tool, "name"), "inputSchema",
                               schema ? json_incref(schema) : json_pack("{s:s}", "type", "object"));

        if (to && string_at(tool, "description"))
            ok =
                ok && llm_put(to, "description", json_incref(json_object_get(tool, "description")));
        ok = json_array_append_new(list, to) == 0 && ok;
    }
    ok = llm_put(params, "tools", list) && ok;
    if (r->tool_choice)
        ok = ok &&
             llm_put(params, "toolChoice", json_pack("{s:s}", "mode", word ? word : "required"));
    return ok;
}

static json_t *compose(const struct llm_prompt *p)
{
    const struct llm_request *r = p->request;
    json_t *params = json_pack("{s:o, s:I}", "messages", messages(p), "maxTokens",
                               (json_int_t)(p->max_tokens > 0 ? p->max_tokens : MAX_TOKENS));
    bool ok = params && put_system(params, r) && put_tools(params, r);

    if (ok && r->temperature >= 0)
        ok = llm_put(params, "temperature", json_real(r->temperature));
    if (ok && json_array_size(r->stop) > 0)
        ok = llm_put(params, "stopSequences", json_incref(r->stop));
    if (ok && r->model)
        ok = llm_put(params, "modelPreferences",
                     json_pack("{s:[{s:s}]}", "hints", "name", r->model));
    if (ok)
        return params;
    json_decref(params);
    return NULL;
}

static bool take_block(struct llm_answer *a, int64_t index, const json_t *block, struct error *err)
{
    const char *type = string_at(block, "type");
    const json_t *text = json_object_get(block, "text");
    CLEANUP(buf_fini) struct buf input = BUF_INIT;

    if (type && strcmp(type, "text") == 0 && json_is_string(text))
        return llm_answer_text(a, json_string_value(text), json_string_length(text), err);
    if (!type || strcmp(type, "tool_use") != 0)
        return true; /* an image or a sound: nothing that text can carry */
    if (json_object_get(block, "input") && !json_write(json_object_get(block, "input"), &input))
        return llm_answer_fail(a, LLM_STOP, ERR_NOMEM, err, "an answer");
    return llm_answer_call(a, index, string_at(block, "id"), string_at(block, "name"),
                           buf_str(&input), err);
}

static bool take(struct llm_answer *a, const json_t *result, struct error *err)
{
    const json_t *content = json_object_get(result, "content");
    const char *reason = string_at(result, "stopReason");
    json_t *block;
    size_t i;

    a->ended = true;
    llm_answer_model(a, string_at(result, "model"));
    llm_answer_finish(a, reason ? reason : "stop");
    if (json_is_object(content))
        return take_block(a, 0, content, err);
    json_array_foreach (content, i, block)
        if (!take_block(a, (int64_t)i, block, err))
            return false;
    return true;
}

enum llm_verdict llm_sample(const struct llm_prompt *p, const struct wait *w, struct llm_answer *a,
                            struct error *err)
{
    const struct llm_request *r = p->request;
    json_t *params = compose(p), *result;
    struct error why = ERROR_INIT;
    bool ok;

    if (!params) {
        error_set(err, ERR_NOMEM, "a question");
        return LLM_STOP;
    }
    result = r->peer->sample(r->peer_arg, params, w, &why);
    json_decref(params);
    if (!result) {
        error_set(err, why.code, "%s", why.text);
        return why.code == ERR_CANCELLED || why.code == ERR_TIMEOUT || why.code == ERR_NOMEM
                   ? LLM_STOP
                   : LLM_NEXT;
    }
    ok = take(a, result, err);
    json_decref(result);
    return ok ? LLM_OK : a->verdict;
}
