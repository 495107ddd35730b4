/* Vectors of texts: many in one request, also of several calls, which is where providers gain. */
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/llm_vectors.h"

#define TEXTS_MAX 1000000u

/* How far one call is. */
struct rider {
    struct llm_embed_call *call;
    struct wait wait;
    bool over;  /* answered */
    bool alone; /* a request that it shared was refused */
    uint64_t reserved, used;
    size_t done; /* texts */

    /* its part of the request at hand */
    size_t first, count, bytes;
    struct cancel_hook hook;
};

struct batch {
    struct llm *llm;
    struct llm_provider *provider;
    struct rider *riders;
    size_t rider_count;

    /* the request at hand */
    struct llm_vectors v;
    struct wait wait;
    struct rider *lead; /* the first of its riders */
    size_t parts, bytes;
    atomic_size_t staying; /* riders that have not been cancelled */
    struct cancel cancel;  /* raised when none stays */
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

/* ---- the beginning and the end of a call ---- */

static void end_rider(const struct batch *b, struct rider *r, bool ok)
{
    double cost = (double)r->used * b->provider->input_price / 1e6;

    if (llm_account_settle(b->llm->accounts, r->call->agent, r->reserved, r->used, 0, cost, !ok))
        event_publish(b->llm->bus, "llm.budget", r->call->agent, "used up",
                      "llm.budget_tokens is used up");
    if (!ok)
        free(STEAL(r->call->rows));
    r->call->ok = ok;
    r->over = true;
}

static void fail_rider(const struct batch *b, struct rider *r, enum error_code code,
                       const struct error *why)
{
    error_set(&r->call->err, code, "%s: %s", b->provider->name, why->text);
    end_rider(b, r, false);
}

static void begin_rider(const struct batch *b, struct rider *r)
{
    struct llm_embed_call *c = r->call;
    int64_t output = 1;
    uint64_t guess = 0;

    r->over = true; /* unless all is well */
    r->wait = llm_wait(b->llm, c->wait);
    c->ok = false;
    c->rows = NULL;
    if (c->count < 1 || c->count > TEXTS_MAX) {
        error_set(&c->err, ERR_INVALID, "1 to %u texts at once", TEXTS_MAX);
        return;
    }
    for (size_t i = 0; i < c->count; i++)
        guess += llm_tokens_of(strlen(c->texts[i]));
    r->over =
        !llm_account_reserve(b->llm->accounts, c->agent, guess, &output, &r->reserved, &c->err);
    if (r->over)
        event_publish(b->llm->bus, "llm.budget", c->agent, "refused", "llm.budget_tokens is used");
}

/* ---- one request ---- */

/* As many of the next texts of @r as still go into the request. */
static void add_part(struct batch *b, struct rider *r)
{
    struct llm_vectors *v = &b->v;

    r->first = v->count;
    r->count = r->bytes = 0;
    while (r->done + r->count < r->call->count && v->count < LLM_VECTORS_TEXTS) {
        const char *text = r->call->texts[r->done + r->count];
        size_t len = strlen(text);

        if (v->count > 0 && b->bytes + len > LLM_VECTORS_BYTES)
            break;
        v->texts[v->count++] = text;
        b->bytes += len;
        r->bytes += len;
        r->count++;
    }
    if (r->count == 0)
        return;
    b->parts++;
    b->wait.deadline_ns = MIN(b->wait.deadline_ns, r->wait.deadline_ns);
    if (!b->lead)
        b->lead = r;
}

/* The next texts of those that are not over; false when there is nothing more to ask. */
static bool next_request(struct batch *b)
{
    b->v = (struct llm_vectors){ .llm = b->llm, .provider = b->provider, .wait = &b->wait };
    b->wait = (struct wait){ .deadline_ns = CLOCK_NEVER };
    b->lead = NULL;
    b->parts = b->bytes = 0;
    for (size_t i = 0; i < b->rider_count; i++)
        b->riders[i].count = 0;
    for (size_t i = 0; i < b->rider_count; i++) {
        struct rider *r = &b->riders[i];
        struct error why = ERROR_INIT;

        if (r->over || (r->alone && b->lead))
            continue;
        if (!wait_check(&r->wait, &why)) {
            error_set(&r->call->err, why.code, "%s", why.text);
            end_rider(b, r, false);
            continue;
        }
        add_part(b, r);
        if (r->alone)
            break;
    }
    return b->lead != NULL;
}

/* cancel_fn: a request goes on as long as one of its riders wants it. */
static void leave(void *arg)
{
    struct batch *b = arg;

    if (atomic_fetch_sub(&b->staying, 1) == 1)
        cancel_raise(&b->cancel);
}

static enum llm_verdict send_request(struct batch *b, struct error *why)
{
    enum llm_verdict verdict;

    cancel_init(&b->cancel);
    b->wait.cancel = &b->cancel;
    atomic_store(&b->staying, b->parts);
    for (size_t i = 0; i < b->rider_count; i++)
        if (b->riders[i].count > 0)
            cancel_attach(b->riders[i].wait.cancel, &b->riders[i].hook, leave, b);
    verdict = llm_persist(b->llm, b->provider, b->lead->call->agent, &b->wait, true,
                          llm_vectors_once, &b->v, why);
    for (size_t i = 0; i < b->rider_count; i++)
        if (b->riders[i].count > 0)
            cancel_detach(b->riders[i].wait.cancel, &b->riders[i].hook);
    cancel_fini(&b->cancel);
    return verdict;
}

/* ---- what came of it ---- */

/* The rows of one part. */
static bool take_part(const struct batch *b, struct rider *r, struct error *err)
{
    struct llm_embed_call *c = r->call;
    size_t dims = b->v.dims;

    if (c->rows && c->dims != dims)
        return error_set(err, ERR_LOST, "%s: its vectors are malformed: they are not of one length",
                         b->provider->name);
    if (!c->rows)
        c->rows = calloc(c->count, dims * sizeof *c->rows);
    if (!c->rows)
        return error_set(err, ERR_NOMEM, "%zu vectors", c->count);
    c->dims = dims;
    memcpy(c->rows + r->done * dims, b->v.rows + r->first * dims,
           r->count * dims * sizeof *c->rows);
    r->done += r->count;
    return true;
}

/* Each has used its share, by bytes: the shares together are what was counted. */
static void take_answer(struct batch *b)
{
    uint64_t all = b->bytes + b->v.count, before = 0, share_before = 0;

    for (size_t i = 0; i < b->rider_count; i++) {
        struct rider *r = &b->riders[i];
        uint64_t share;
        bool ok;

        if (r->count == 0)
            continue;
        before += r->bytes + r->count;
        share = b->v.tokens / all * before + b->v.tokens % all * before / all;
        r->used += b->v.counted ? share - share_before : llm_tokens_of(r->bytes);
        share_before = share;
        ok = take_part(b, r, &r->call->err);
        if (!ok || r->done == r->call->count)
            end_rider(b, r, ok);
    }
    free(STEAL(b->v.rows));
}

/* Refused, perhaps for one text: each is asked for alone.  Some servers call that an error of their
 * own. */
static bool was_shared(const struct batch *b, enum llm_verdict verdict)
{
    return b->parts > 1 && (verdict == LLM_REFUSED || b->v.status == 500);
}

/* It ended for those whose time is up, or who were cancelled; the others are asked for again. */
static bool drop_leavers(struct batch *b, const struct error *why)
{
    bool any = false;

    for (size_t i = 0; i < b->rider_count; i++) {
        struct rider *r = &b->riders[i];
        struct error own = ERROR_INIT;

        if (r->count == 0 || wait_check(&r->wait, &own))
            continue;
        fail_rider(b, r, own.code, own.code == why->code ? why : &own);
        any = true;
    }
    return any;
}

/* Those whose time does not suffice for another attempt; the others' may. */
static void drop_hurried(struct batch *b, const struct error *why)
{
    for (size_t i = 0; i < b->rider_count; i++) {
        struct rider *r = &b->riders[i];

        if (r->count > 0 && r->wait.deadline_ns == b->wait.deadline_ns)
            fail_rider(b, r, ERR_LOST, why);
    }
}

static void take_failure(struct batch *b, enum llm_verdict verdict, const struct error *why)
{
    enum error_code code = verdict == LLM_STOP      ? why->code
                           : verdict == LLM_REFUSED ? ERR_INVALID
                                                    : ERR_LOST;
    bool apart = was_shared(b, verdict);

    if (verdict == LLM_STOP && drop_leavers(b, why))
        return;
    if (verdict == LLM_AGAIN && b->v.attempts <= b->llm->retries) {
        drop_hurried(b, why);
        return;
    }
    for (size_t i = 0; i < b->rider_count; i++) {
        struct rider *r = &b->riders[i];

        if (r->count > 0 && apart)
            r->alone = true;
        else if (r->count > 0)
            fail_rider(b, r, code, why);
    }
}

static void run(struct batch *b)
{
    for (size_t i = 0; i < b->rider_count; i++)
        begin_rider(b, &b->riders[i]);
    while (next_request(b)) {
        struct error why = ERROR_INIT;
        enum llm_verdict verdict = send_request(b, &why);

        if (verdict == LLM_OK)
            take_answer(b);
        else
            take_failure(b, verdict, &why);
    }
}

void llm_embed_many(struct llm *l, struct llm_embed_call *calls, size_t count)
{
    struct batch *b = calloc(1, sizeof *b);
    struct rider *riders = calloc(count, sizeof *riders);
    struct llm_provider *p = provider_of(l);

    for (size_t i = 0; i < count; i++) {
        calls[i].ok = false;
        if (!p)
            error_set(&calls[i].err, ERR_UNSUPPORTED,
                      "no provider of the configuration has an embed_model (llm.providers)");
        else if (!b || !riders)
            error_set(&calls[i].err, ERR_NOMEM, "vectors");
        else
            riders[i].call = &calls[i];
    }
    if (p && b && riders) {
        b->llm = l;
        b->provider = p;
        b->riders = riders;
        b->rider_count = count;
        run(b);
    }
    free(riders);
    free(b);
}

bool llm_embed(struct llm *l, const char *agent, const char *const *texts, size_t count,
               const struct wait *w, float **ret, size_t *ret_dims, struct error *err)
{
    struct llm_embed_call call = { .agent = agent, .texts = texts, .count = count, .wait = w };

    llm_embed_many(l, &call, 1);
    if (!call.ok)
        return error_set(err, call.err.code, "%s", call.err.text);
    *ret = call.rows;
    *ret_dims = call.dims;
    return true;
}
