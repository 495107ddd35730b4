#include "kernel/llm_vectors.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"

#define DIMS_MAX 65536u

static bool compose(const struct llm_vectors *v, struct buf *out)
{
    json_t *input = json_array();
    json_t *body;
    bool ok = input != NULL;

    for (size_t i = 0; ok && i < v->count; i++)
        ok = json_array_append_new(input, json_string_lossy(v->texts[i], strlen(v->texts[i]))) == 0;
    body = json_pack("{s:s, s:o, s:s}", "model", v->provider->embed_model, "input", input,
                     "encoding_format", "float");
    ok = ok && body && json_write(body, out);
    json_decref(body);
    return ok;
}

static bool malformed(struct error *err, const char *what)
{
    return error_set(err, ERR_PROTOCOL, "its vectors are malformed: %s", what);
}

static bool take_row(const struct llm_vectors *v, const json_t *vector, float *row,
                     struct error *err)
{
    size_t i;
    json_t *number;

    if (json_array_size(vector) != v->dims)
        return malformed(err, "they are not of one length");
    json_array_foreach (unconst(vector), i, number) {
        if (!json_is_number(number))
            return malformed(err, "something in one is no number");
        row[i] = (float)json_number_value(number);
    }
    return true;
}

static bool make_rows(struct llm_vectors *v, const json_t *first, struct error *err)
{
    v->dims = json_array_size(json_object_get(first, "embedding"));
    if (v->dims < 1 || v->dims > DIMS_MAX)
        return malformed(err, "there are no numbers, or too many");
    v->rows = calloc(v->count, v->dims * sizeof *v->rows);
    return v->rows || error_set(err, ERR_NOMEM, "%zu vectors", v->count);
}

static bool take_rows(const struct llm_vectors *v, const json_t *data, struct error *err)
{
    bool seen[LLM_VECTORS_TEXTS] = { false };
    size_t i;
    json_t *entry;

    json_array_foreach (unconst(data), i, entry) {
        const json_t *index = json_object_get(entry, "index");
        json_int_t at = json_is_integer(index) ? json_integer_value(index) : (json_int_t)i;

        if (at < 0 || at >= (json_int_t)v->count || seen[at])
            return malformed(err, "one belongs to no text");
        seen[at] = true;
        if (!take_row(v, json_object_get(entry, "embedding"), v->rows + (size_t)at * v->dims, err))
            return false;
    }
    return true;
}

static bool take(struct llm_vectors *v, const json_t *body, struct error *err)
{
    const json_t *data = json_object_get(body, "data");
    const json_t *usage = json_object_get(json_object_get(body, "usage"), "prompt_tokens");

    if (!json_is_array(data) || json_array_size(data) != v->count)
        return malformed(err, "there is not one for each text");
    if (!make_rows(v, json_array_get(data, 0), err))
        return false;
    if (!take_rows(v, data, err)) {
        free(STEAL(v->rows));
        return false;
    }
    v->counted = json_is_integer(usage);
    v->tokens = (uint64_t)MAX(json_integer_value(usage), 0);
    return true;
}

static bool finish(void *arg, const struct http_reply *reply, const struct error *broken,
                   enum llm_verdict *verdict, struct error *err)
{
    struct error bad = ERROR_INIT;
    json_t *body;
    bool ok;

    if (broken)
        return false; /* why it broke off says it all */
    body = json_parse(buf_str(&reply->body), reply->body.len, &bad);
    *verdict = bad.code == ERR_NOMEM ? LLM_STOP : LLM_NEXT;
    if (!body)
        return error_set(err, bad.code == ERR_NOMEM ? ERR_NOMEM : ERR_PROTOCOL,
                         "its answer is not JSON: %.200s", bad.text);
    ok = take(arg, body, &bad);
    json_decref(body);
    if (ok)
        return true;
    if (bad.code == ERR_NOMEM)
        *verdict = LLM_STOP;
    return error_set(err, bad.code, "%s", bad.text);
}

enum llm_verdict llm_vectors_once(void *arg, int64_t *ret_retry_after_ns, struct error *err)
{
    struct llm_vectors *v = arg;
    CLEANUP(buf_fini) struct buf body = BUF_INIT;
    struct llm_exchange x = { .llm = v->llm,
                              .provider = v->provider,
                              .path = "/embeddings",
                              .body = &body,
                              .wait = v->wait,
                              .finish = finish,
                              .arg = v };
    enum llm_verdict verdict;

    v->attempts++;
    v->status = 0;
    if (!compose(v, &body)) {
        error_set(err, ERR_NOMEM, "texts for vectors");
        return LLM_STOP;
    }
    verdict = llm_exchange(&x, err);
    v->status = x.status;
    *ret_retry_after_ns = x.retry_after_ns;
    return verdict;
}
