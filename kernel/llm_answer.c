#include "kernel/llm_answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"

void llm_answer_init(struct llm_answer *a, const struct llm_request *request, struct buf *text,
                     enum llm_join_mode mode, const char *so_far)
{
    *a = (struct llm_answer){ .request = request,
                              .text = text,
                              .text_before = text->len,
                              .to_schema = request->schema != NULL,
                              .schema_index = -1,
                              .verdict = LLM_AGAIN };
    llm_join_init(&a->join, mode, so_far, strlen(so_far));
}

void llm_answer_fini(struct llm_answer *a)
{
    for (size_t i = 0; i < a->call_count; i++) {
        buf_fini(&a->calls[i].id);
        buf_fini(&a->calls[i].name);
        buf_fini(&a->calls[i].arguments);
    }
    free(a->calls);
    a->calls = NULL;
    a->call_count = 0;
    llm_join_fini(&a->join);
}

bool llm_answer_fail(struct llm_answer *a, enum llm_verdict verdict, enum error_code code,
                     struct error *err, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    a->verdict = verdict;
    return error_set(err, code, "%s", text);
}

static bool no_memory(struct llm_answer *a, struct error *err)
{
    return llm_answer_fail(a, LLM_STOP, ERR_NOMEM, err, "an answer");
}

static bool too_long(struct llm_answer *a, struct error *err)
{
    return llm_answer_fail(a, LLM_NEXT, ERR_LIMIT, err, "its answer is longer than %u MiB",
                           LLM_ANSWER_BYTES >> 20);
}

/* @fresh, which is certain now, to the reply and to who listens. */
static bool pass_on(struct llm_answer *a, const struct buf *fresh, struct error *err)
{
    const struct llm_request *request = a->request;

    if (fresh->len == 0)
        return true;
    if (fresh->len > LLM_ANSWER_BYTES || a->text->len > LLM_ANSWER_BYTES - fresh->len)
        return too_long(a, err);
    if (!buf_append(a->text, fresh->data, fresh->len))
        return no_memory(a, err);
    if (a->to_schema)
        return true;
    if (request->on_text)
        request->on_text(request->arg, fresh->data, fresh->len);
    /* A tool call that has begun is let finish: it could not be continued. */
    if (!a->ended && !*a->finish && a->call_count == 0 && request->preempt &&
        request->preempt(request->arg))
        a->preempted = true;
    return true;
}

bool llm_answer_text(struct llm_answer *a, const char *text, size_t len, struct error *err)
{
    CLEANUP(buf_fini) struct buf fresh = BUF_INIT;

    while (len > 0) { /* a text that is handed on as a string has no NUL in it */
        size_t piece = strnlen(text, len);

        if (piece > LLM_ANSWER_BYTES - MIN(a->join.held.len, LLM_ANSWER_BYTES))
            return too_long(a, err);
        if (piece > 0 && !llm_join_push(&a->join, text, piece, &fresh))
            return no_memory(a, err);
        piece += piece < len;
        text += piece;
        len -= piece;
    }
    return pass_on(a, &fresh, err);
}

static struct llm_fragment *call_of(struct llm_answer *a, int64_t index, struct error *err)
{
    struct llm_fragment *more;

    for (size_t i = a->call_count; i > 0; i--)
        if (a->calls[i - 1].index == index)
            return &a->calls[i - 1];
    if (a->call_count == LLM_CALLS_MAX) {
        llm_answer_fail(a, LLM_NEXT, ERR_LIMIT, err, "its answer has more than %u tool calls",
                        LLM_CALLS_MAX);
        return NULL;
    }
    more = reallocarray(a->calls, a->call_count + 1, sizeof *more);
    if (!more) {
        no_memory(a, err);
        return NULL;
    }
    a->calls = more;
    more += a->call_count++;
    *more = (struct llm_fragment){ .index = index };
    return more;
}

static bool grow(struct llm_answer *a, struct buf *to, const char *text, struct error *err)
{
    size_t len = text ? strlen(text) : 0;

    if (len > LLM_ANSWER_BYTES || a->call_bytes > LLM_ANSWER_BYTES - len)
        return too_long(a, err);
    a->call_bytes += len;
    return len == 0 || buf_append(to, text, len) || no_memory(a, err);
}

bool llm_answer_call(struct llm_answer *a, int64_t index, const char *id, const char *name,
                     const char *arguments, struct error *err)
{
    struct llm_fragment *call = call_of(a, index, err);

    /* Some servers send id and name with every fragment. */
    return call && (call->id.len > 0 || grow(a, &call->id, id, err)) &&
           (call->name.len > 0 || grow(a, &call->name, name, err)) &&
           grow(a, &call->arguments, arguments, err);
}

void llm_answer_finish(struct llm_answer *a, const char *reason)
{
    static const struct {
        const char *theirs, *ours;
    } words[] = {
        { "stop", "stop" },
        { "end_turn", "stop" },
        { "endTurn", "stop" },
        { "stop_sequence", "stop" },
        { "stopSequence", "stop" },
        { "eos", "stop" },
        { "length", "length" },
        { "max_tokens", "length" },
        { "maxTokens", "length" },
        { "model_context_window_exceeded", "length" },
        { "tool_calls", "tool_calls" },
        { "tool_use", "tool_calls" },
        { "toolUse", "tool_calls" },
        { "function_call", "tool_calls" },
        { "content_filter", "refused" },
        { "refusal", "refused" },
    };

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(words[i].theirs, reason) == 0) {
            (void)snprintf(a->finish, sizeof a->finish, "%s", words[i].ours);
            return;
        }
    (void)snprintf(a->finish, sizeof a->finish, "other");
}

void llm_answer_model(struct llm_answer *a, const char *model)
{
    if (!*a->model && model) {
        size_t len = utf8_cut(model, strlen(model), MIN(strlen(model), sizeof a->model - 1));

        memcpy(a->model, model, len);
        a->model[len] = '\0';
    }
}

static json_t *read_call(struct llm_answer *a, const struct llm_fragment *call, struct error *err)
{
    json_t *arguments;

    if (call->arguments.len == 0) {
        arguments = json_object();
    } else {
        struct error bad = ERROR_INIT;

        arguments = json_parse(call->arguments.data, call->arguments.len, &bad);
        if (!arguments && bad.code == ERR_NOMEM) {
            no_memory(a, err);
            return NULL;
        }
        if (!json_is_object(arguments)) {
            json_decref(arguments);
            llm_answer_fail(a, LLM_AGAIN, ERR_PROTOCOL, err,
                            "it called a tool with arguments that are no JSON object");
            return NULL;
        }
    }
    if (call->name.len == 0) {
        json_decref(arguments);
        llm_answer_fail(a, LLM_AGAIN, ERR_PROTOCOL, err, "it called a tool without a name");
        return NULL;
    }
    arguments = json_pack("{s:s, s:s, s:o}", "id", buf_str(&call->id), "name", buf_str(&call->name),
                          "arguments", arguments);
    if (!arguments)
        no_memory(a, err);
    return arguments;
}

static bool read_calls(struct llm_answer *a, json_t **ret, struct error *err)
{
    json_t *list;

    *ret = NULL;
    if (a->call_count == 0)
        return true;
    list = json_array();
    if (!list)
        return no_memory(a, err);
    for (size_t i = 0; i < a->call_count; i++) {
        json_t *call = read_call(a, &a->calls[i], err);

        if (!call || json_array_append_new(list, call) != 0) {
            json_decref(list);
            return call ? no_memory(a, err) : false;
        }
    }
    *ret = list;
    return true;
}

/* A structured answer must at least be JSON; the provider sees to the rest. */
static bool check_structure(struct llm_answer *a, struct error *err)
{
    const char *text = buf_str(a->text) + a->text_before;
    struct error bad = ERROR_INIT;
    json_t *value;

    if (!a->to_schema || a->call_count > 0 || strcmp(a->finish, "length") == 0 ||
        strcmp(a->finish, "refused") == 0)
        return true;
    value = json_parse(text, a->text->len - a->text_before, &bad);
    if (!value)
        return bad.code == ERR_NOMEM
                   ? no_memory(a, err)
                   : llm_answer_fail(a, LLM_AGAIN, ERR_PROTOCOL, err,
                                     "it was asked for JSON and answered something else");
    json_decref(value);
    return true;
}

bool llm_answer_end(struct llm_answer *a, json_t **ret_calls, struct error *err)
{
    CLEANUP(buf_fini) struct buf fresh = BUF_INIT;
    size_t got;

    a->ended = true;
    if (!a->preempted && (!llm_join_end(&a->join, &fresh) || !pass_on(a, &fresh, err)))
        return fresh.failed ? no_memory(a, err) : false;
    got = a->text->len - a->text_before;
    if (got == 0 && a->call_count == 0 && a->join.len == 0 && !a->preempted &&
        strcmp(a->finish, "refused") != 0) {
        if (strcmp(a->finish, "length") == 0)
            return llm_answer_fail(a, LLM_REFUSED, ERR_INVALID, err,
                                   "max_tokens was used up before it wrote anything; raise it");
        return llm_answer_fail(a, LLM_AGAIN, ERR_PROTOCOL, err, "its answer was empty");
    }
    if (!check_structure(a, err) || !read_calls(a, ret_calls, err))
        return false;
    if (a->to_schema && got > 0 && a->request->on_text)
        a->request->on_text(a->request->arg, a->text->data + a->text_before, got);
    return true;
}

void llm_answer_drop(struct llm_answer *a)
{
    if (a->to_schema && a->text->len > a->text_before) {
        a->text->len = a->text_before;
        a->text->data[a->text_before] = '\0';
    }
}
