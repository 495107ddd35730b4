/*
 * Vectors of notes: made when a note is saved, made up for when the provider was away, compared.
 *
 * Which notes still want a vector is in the database (notes.model), so nothing is forgotten by a
 * restart, and a change of the model makes all of them wanted again.
 */
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"
#include "kernel/llm.h"
#include "kernel/memory_internal.h"

#define TEXT_BYTES    8000u /* of a note that the model is given: what models take is bounded */
#define SOON_NS       (2 * CLOCK_NS_PER_S)
#define PAUSE_NS      CLOCK_NS_PER_S
#define PAUSE_MOST_NS (60 * CLOCK_NS_PER_S)

static void provider_answered(struct memory *m, bool ok)
{
    pthread_mutex_lock(&m->lock);
    m->embed_pause_ns = ok ? 0 : MIN(MAX(2 * m->embed_pause_ns, PAUSE_NS), PAUSE_MOST_NS);
    m->embed_again_ns = ok ? 0 : clock_add_ns(clock_now_ns(), m->embed_pause_ns);
    pthread_mutex_unlock(&m->lock);
}

/* ---- one batch ---- */

/* Where the vector of one note goes: its own set, and that of whom it is shared with. */
struct vector {
    struct memory_row row;
    struct memory_set *sets[2];
    int64_t slots[2];
    unsigned count;
    bool refused; /* the model makes no vector of it */
    bool stored;
    struct memory_freed freed;
};

struct batch {
    struct memory *m;
    const char *agent, *name;
    const struct wait *w;
    struct memory_making making;
    struct memory_model model;
    struct vector at[MEMORY_EMBED_BATCH];
    const char *texts[MEMORY_EMBED_BATCH]; /* theirs, as the model gets them */
    size_t count;
    bool done;
};

static void batch_fini(struct batch *b)
{
    struct memory_making **at;

    for (size_t i = 0; i < b->count; i++) {
        struct vector *v = &b->at[i];

        for (unsigned k = 0; k < v->count; k++) {
            if (!v->stored)
                memory_set_free(v->sets[k], v->slots[k]);
            memory_set_put(v->sets[k]);
        }
        memory_row_fini(&v->row);
    }
    pthread_mutex_lock(&b->m->lock);
    for (at = &b->m->making; *at; at = &(*at)->next) {
        if (*at == &b->making) {
            *at = b->making.next;
            break;
        }
    }
    pthread_mutex_unlock(&b->m->lock);
}

static bool is_being_made(const struct memory *m, int64_t n)
{
    for (const struct memory_making *at = m->making; at; at = at->next)
        for (size_t i = 0; i < at->count; i++)
            if (at->n[i] == n)
                return true;
    return false;
}

/* Numbers of notes without a vector, which nobody else is making. */
static bool pick(struct batch *b, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(b->m->db, b->w, err);
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = NULL;
    char name[MEMORY_SCOPE_BYTES];
    struct memory_scope own;
    bool row, ok = true;

    if (!c || !memory_model_newest(c, b->name, &b->model, err) ||
        !memory_scope(c, memory_scope_name('a', b->agent, name), false, &own, err))
        return false;
    stmt = memory_stmt(c, MEMORY_BACKLOG, err);
    if (!stmt)
        return false;
    (void)sqlite3_bind_int64(stmt, 1, own.s);
    (void)sqlite3_bind_int64(stmt, 2, b->model.m ? b->model.m : -1);
    (void)sqlite3_bind_int64(stmt, 3, 8 * MEMORY_EMBED_BATCH);
    pthread_mutex_lock(&b->m->lock);
    while (ok && b->making.count < MEMORY_EMBED_BATCH) {
        ok = memory_step(c, stmt, &row, err);
        if (!ok || !row)
            break;
        if (!is_being_made(b->m, sqlite3_column_int64(stmt, 0)))
            b->making.n[b->making.count++] = sqlite3_column_int64(stmt, 0);
    }
    b->making.next = b->m->making;
    b->m->making = &b->making;
    pthread_mutex_unlock(&b->m->lock);
    return ok;
}

/* Their texts; one whose text cannot be had waits for another time. */
static bool read_texts(struct batch *b, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(b->m->db, b->w, err);
    size_t kept = 0;

    if (!c)
        return false;
    for (size_t i = 0; i < b->making.count; i++) {
        if (!memory_row_get(c, b->making.n[i], NULL, &b->at[b->count].row, err))
            return false;
        b->count += b->at[b->count].row.n != 0;
    }
    memory_db_release(STEAL(c));
    for (size_t i = 0; i < b->count; i++) {
        struct memory_row *row = &b->at[i].row;

        if (row->text || memory_load(b->m, row, NULL, b->w, NULL)) {
            struct memory_row moved = *row;

            *row = (struct memory_row){ .n = 0 };
            b->at[kept++].row = moved;
        } else {
            memory_row_fini(row);
        }
    }
    b->count = kept;
    return true;
}

/* @count vectors, written into their sets.  Nothing points to them yet. */
static bool write_vectors(struct batch *b, struct vector *at, size_t count, const float *floats,
                          size_t dims, struct error *err)
{
    if (!memory_model_of(b->m, b->name, dims, &b->model, b->w, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct vector *v = &at[i];
        int64_t scopes[2] = { v->row.owner, v->row.pub };
        float *unit = NULL;
        bool ok = memory_unit_vector(floats + i * dims, dims, &unit, err);

        v->refused = ok && !unit;
        while (ok && unit && v->count < 2 && scopes[v->count]) {
            struct memory_set *set =
                memory_model_set(b->m, scopes[v->count], &b->model, true, b->w, NULL, err);

            ok = set && memory_set_write(set, unit, &v->slots[v->count], err);
            if (ok)
                v->sets[v->count++] = set;
            else
                memory_set_put(set);
        }
        free(unit);
        if (!ok)
            return false;
    }
    return true;
}

static struct llm_embed_call call_of(struct batch *b, size_t begin, size_t count)
{
    for (size_t i = begin; i < begin + count; i++) {
        struct memory_row *row = &b->at[i].row;

        if (row->len > TEXT_BYTES)
            row->text[utf8_cut(row->text, row->len, TEXT_BYTES)] = '\0';
        b->texts[i] = row->text;
    }
    return (struct llm_embed_call){
        .agent = b->agent, .texts = b->texts + begin, .count = count, .wait = b->w
    };
}

/* What came of @call; texts that are refused are asked for one by one. */
static bool take(struct batch *b, size_t begin, struct llm_embed_call *call, struct error *err)
{
    bool ok;

    if (call->ok) {
        if (call->dims < 1 || call->dims > MEMORY_DIMS_MAX)
            ok = error_set(err, ERR_PROTOCOL, "the provider sent vectors of %zu numbers",
                           call->dims);
        else
            ok = write_vectors(b, b->at + begin, call->count, call->rows, call->dims, err);
        free(STEAL(call->rows));
        return ok;
    }
    if (call->err.code == ERR_INVALID && call->count > 1) {
        for (size_t i = 0; i < call->count; i++) {
            struct llm_embed_call one = call_of(b, begin + i, 1);

            llm_embed_many(b->m->llm, &one, 1);
            if (!take(b, begin + i, &one, err))
                return false;
        }
        return true;
    }
    if (call->err.code == ERR_INVALID && b->model.m) {
        b->at[begin].refused = true;
        return true;
    }
    return error_set(err, call->err.code, "%s", call->err.text);
}

static bool point(struct memory_conn *c, const struct batch *b, struct vector *v, bool *ret_ours,
                  struct error *err)
{
    int changed = 0;

    *ret_ours = false;
    if (v->count == 0 && !v->refused)
        return true;
    if (!MEMORY_DO(c, MEMORY_NOTE_MODEL, &changed, err, v->row.n, (int64_t)v->row.version,
                   b->model.m))
        return false;
    if (changed == 0)
        return true;
    if (!memory_vector_drop(c, v->row.n, &v->freed, err))
        return false;
    for (unsigned i = 0; i < v->count; i++)
        if (!MEMORY_DO(c, MEMORY_VECTOR_ADD, NULL, err, v->row.n, i ? v->row.pub : v->row.owner,
                       b->model.m, v->slots[i]))
            return false;
    *ret_ours = true;
    return true;
}

/* In one transaction; a note that was changed meanwhile wants another vector. */
static bool store(struct batch *b, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_begin(b->m->db, b->w, err);
    bool ours[MEMORY_EMBED_BATCH] = { false };

    if (!c)
        return false;
    for (size_t i = 0; i < b->count; i++)
        if (!point(c, b, &b->at[i], &ours[i], err))
            return false;
    if (!memory_db_commit(STEAL(c), err))
        return false;
    for (size_t i = 0; i < b->count; i++) {
        struct vector *v = &b->at[i];

        v->stored = ours[i];
        for (unsigned k = 0; ours[i] && k < v->count; k++)
            UNCHECKED(memory_set_place(v->sets[k], v->slots[k], v->row.n));
        if (ours[i])
            memory_vector_freed(b->m, &v->freed);
    }
    return true;
}

static struct batch *batch_new(struct memory *m, const char *agent, const char *name,
                               const struct wait *w)
{
    struct batch *b = calloc(1, sizeof *b);

    if (!b)
        return NULL;
    b->m = m;
    b->agent = agent;
    b->name = name;
    b->w = w;
    return b;
}

static void batch_free(struct batch *b)
{
    if (!b)
        return;
    batch_fini(b);
    free(b);
}

/* The texts of all in as few requests as hold them.  @err: of the last that failed. */
static bool run_batches(struct memory *m, struct batch **batches, size_t count, struct error *err)
{
    struct llm_embed_call calls[MEMORY_TOGETHER];
    struct batch *asked[MEMORY_TOGETHER];
    size_t n = 0, done = 0;
    bool ok = true;

    for (size_t i = 0; i < count; i++) {
        struct batch *b = batches[i];

        if (!pick(b, err) || (b->making.count > 0 && !read_texts(b, err))) {
            ok = false;
        } else if (b->count > 0) {
            asked[n] = b;
            calls[n++] = call_of(b, 0, b->count);
        }
    }
    if (n > 0)
        llm_embed_many(m->llm, calls, n);
    for (size_t i = 0; i < n; i++) {
        asked[i]->done = take(asked[i], 0, &calls[i], err) && store(asked[i], err);
        done += asked[i]->done;
    }
    if (n > 0)
        provider_answered(m, done > 0);
    return ok && done == n;
}

bool memory_embed_notes(struct memory *m, const char *agent, unsigned batches, const struct wait *w,
                        struct error *err)
{
    char name[MEMORY_MODEL_BYTES];
    bool more = true, ok = true;

    if (!memory_can_embed(m, name))
        return true;
    for (unsigned i = 0; ok && more && i < batches; i++) {
        struct batch *b = batch_new(m, agent, name, w);

        ok = b ? run_batches(m, &b, 1, err) : error_set(err, ERR_NOMEM, "vectors");
        more = ok && b->count == MEMORY_EMBED_BATCH;
        batch_free(b);
    }
    return ok;
}

/* The batch of @agent, if it has one already. */
static struct batch *batch_of(struct batch **batches, size_t count, const char *agent)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(batches[i]->agent, agent) == 0)
            return batches[i];
    return NULL;
}

void memory_embed_soon(struct memory *m, const struct memory_saving *saves, size_t count)
{
    struct batch *batches[MEMORY_TOGETHER];
    struct wait soon[MEMORY_TOGETHER];
    char name[MEMORY_MODEL_BYTES];
    int64_t now = clock_now_ns();
    size_t n = 0;
    bool paused;

    pthread_mutex_lock(&m->lock);
    paused = now < m->embed_again_ns;
    pthread_mutex_unlock(&m->lock);
    if (paused || !memory_can_embed(m, name))
        return;
    for (size_t i = 0; i < count && n < MEMORY_TOGETHER; i++) {
        const char *agent = saves[i].who.agent;

        if (!saves[i].ok || batch_of(batches, n, agent))
            continue;
        soon[n] = memory_sooner(saves[i].wait, clock_add_ns(now, SOON_NS));
        batches[n] = batch_new(m, agent, name, &soon[n]);
        n += batches[n] != NULL;
    }
    UNCHECKED(run_batches(m, batches, n, NULL)); /* what fails stays wanted */
    for (size_t i = 0; i < n; i++)
        batch_free(batches[i]);
}
