/* Vectors of texts: many in one request, which is where providers gain. */
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/llm_service.h"

#define BATCH_TEXTS 128u
#define BATCH_BYTES (256u << 10)
#define DIMS_MAX    65536u
#define TEXTS_MAX   1000000u

struct batch {
    struct llm *llm;
    struct llm_provider *provider;
    struct wait wait;
    const char *const *texts; /* of this batch */
    size_t count;
    size_t *dims; /* 0 until the first batch has come */
    float **block;
    size_t total, done; /* rows of the block, and those of earlier batches */
    uint64_t tokens;
    bool counted;
};

/* Models differ in what their vectors mean, so there is no falling back: it is the first one. */
static struct llm_provider *provider_of(struct llm *l)
{
    for (size_t i = 0; i < l->provider_count; i++)
        if (*l->providers[i].embed_model && l->providers[i].misconfigured.code == ERR_NONE)
            return &l->providers[i];
    return NULL;
}

bool llm_can_embed(struct llm *l, char ret_provider[65], char ret_model[129])
{
    const struct llm_provider *p = provider_of(l);

    if (!p)
        return false;
    memcpy(ret_provider, p->name, sizeof p->name);
    memcpy(ret_model, p->embed_model, sizeof p->embed_model);
    return true;
}

static bool compose(const struct batch *b, struct buf *out)
{
    json_t *input = json_array();
    json_t *body;
    bool ok = input != NULL;

    for (size_t i = 0; ok && i < b->count; i++)
        ok = json_array_append_new(input, json_string_lossy(b->texts[i], strlen(b->texts[i]))) == 0;
    body = json_pack("{s:s, s:o, s:s}", "model", b->provider->embed_model, "input", input,
                     "encoding_format", "float");
    ok = ok && body && json_write(body, out);
    json_decref(body);
    return ok;
}

static bool malformed(struct error *err, const char *what)
{
    return error_set(err, ERR_PROTOCOL, "its vectors are malformed: %s", what);
}

static bool take_row(struct batch *b, const json_t *vector, float *row, struct error *err)
{
    size_t i;
    json_t *number;

    if (json_array_size(vector) != *b->dims)
        return malformed(err, "they are not of one length");
    json_array_foreach (unconst(vector), i, number) {
        if (!json_is_number(number))
            return malformed(err, "something in one is no number");
        row[i] = (float)json_number_value(number);
    }
    return true;
}

static bool make_block(struct batch *b, const json_t *first, struct error *err)
{
    size_t dims = json_array_size(json_object_get(first, "embedding"));

    if (*b->dims != 0)
        return true;
    if (dims < 1 || dims > DIMS_MAX)
        return malformed(err, "there are no numbers, or too many");
    *b->block = calloc(b->total, dims * sizeof **b->block);
    if (!*b->block)
        return error_set(err, ERR_NOMEM, "%zu vectors", b->total);
    *b->dims = dims;
    return true;
}

static bool take_rows(struct batch *b, const json_t *data, float *rows, struct error *err)
{
    bool seen[BATCH_TEXTS] = { false };
    size_t i;
    json_t *entry;

    json_array_foreach (unconst(data), i, entry) {
        const json_t *index = json_object_get(entry, "index");
        json_int_t at = json_is_integer(index) ? json_integer_value(index) : (json_int_t)i;

        if (at < 0 || at >= (json_int_t)b->count || seen[at])
            return malformed(err, "one belongs to no text");
        seen[at] = true;
        if (!take_row(b, json_object_get(entry, "embedding"), rows + (size_t)at * *b->dims, err))
            return false;
    }
    return true;
}

static bool take(struct batch *b, const json_t *body, struct error *err)
{
    const json_t *data = json_object_get(body, "data");
    const json_t *usage = json_object_get(json_object_get(body, "usage"), "prompt_tokens");

    if (!json_is_array(data) || json_array_size(data) != b->count)
        return malformed(err, "there is not one for each text");
    if (!make_block(b, json_array_get(data, 0), err) ||
        !take_rows(b, data, *b->block + b->done * *b->dims, err))
        return false;
    b->counted = json_is_integer(usage);
    b->tokens = (uint64_t)MAX(json_integer_value(usage), 0);
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

/* llm_once_fn */
static enum llm_verdict ask_once(void *arg, int64_t *ret_retry_after_ns, struct error *err)
{
    struct batch *b = arg;
    CLEANUP(buf_fini) struct buf body = BUF_INIT;
    struct llm_exchange x = { .llm = b->llm,
                              .provider = b->provider,
                              .path = "/embeddings",
                              .body = &body,
                              .wait = &b->wait,
                              .finish = finish,
                              .arg = b };
    enum llm_verdict verdict;

    if (!compose(b, &body)) {
        error_set(err, ERR_NOMEM, "texts for vectors");
        return LLM_STOP;
    }
    verdict = llm_exchange(&x, err);
    *ret_retry_after_ns = x.retry_after_ns;
    return verdict;
}

/* As many of the next texts as go into one request, and their bytes. */
static size_t batch_of(const char *const *texts, size_t left, size_t *ret_bytes)
{
    size_t n = 0, bytes = 0;

    while (n < left && n < BATCH_TEXTS && (n == 0 || bytes + strlen(texts[n]) <= BATCH_BYTES))
        bytes += strlen(texts[n++]);
    *ret_bytes = bytes;
    return n;
}

static bool ask_batch(struct batch *b, const char *agent, size_t bytes, struct error *err)
{
    struct llm *l = b->llm;
    const struct llm_provider *p = b->provider;
    uint64_t guess = llm_tokens_of(bytes), reserved, used;
    int64_t output = 1;
    struct error why = ERROR_INIT;
    enum llm_verdict verdict;

    if (!llm_account_reserve(l->accounts, agent, guess, &output, &reserved, err)) {
        event_publish(l->bus, "llm.budget", agent, "refused", "llm.budget_tokens is used");
        return false;
    }
    b->counted = false;
    verdict = llm_persist(l, b->provider, agent, &b->wait, true, ask_once, b, &why);
    used = verdict != LLM_OK ? 0 : b->counted ? b->tokens : guess;
    if (llm_account_settle(l->accounts, agent, reserved, used, 0,
                           (double)used * p->input_price / 1e6, verdict != LLM_OK))
        event_publish(l->bus, "llm.budget", agent, "used up", "llm.budget_tokens is used up");
    if (verdict == LLM_OK)
        return true;
    return error_set(err,
                     verdict == LLM_STOP      ? why.code
                     : verdict == LLM_REFUSED ? ERR_INVALID
                                              : ERR_LOST,
                     "%s: %s", p->name, why.text);
}

bool llm_embed(struct llm *l, const char *agent, const char *const *texts, size_t count,
               const struct wait *w, float **ret, size_t *ret_dims, struct error *err)
{
    float *block = NULL;
    size_t dims = 0, bytes;
    struct batch b = { .llm = l,
                       .provider = provider_of(l),
                       .wait = llm_wait(l, w),
                       .dims = &dims,
                       .block = &block,
                       .total = count };

    if (!b.provider)
        return error_set(err, ERR_UNSUPPORTED,
                         "no provider of the configuration has an embed_model (llm.providers)");
    if (count < 1 || count > TEXTS_MAX)
        return error_set(err, ERR_INVALID, "1 to %u texts at once", TEXTS_MAX);
    for (; b.done < count; b.done += b.count) {
        b.texts = texts + b.done;
        b.count = batch_of(b.texts, count - b.done, &bytes);
        if (!wait_check(&b.wait, err) || !ask_batch(&b, agent, bytes, err)) {
            free(block);
            return false;
        }
    }
    *ret = block;
    *ret_dims = dims;
    return true;
}
