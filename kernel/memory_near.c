/* Searching by meaning: the question as a vector, and the notes whose vectors are the nearest. */
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/llm.h"
#include "kernel/memory_internal.h"

#define MAKE_UP 32u /* batches of vectors before one search */

/* The slots of notes that have the tags and the time that are asked for, as bits. */
static bool allow(struct memory *m, const struct memory_query *q, const int64_t key[2],
                  uint8_t *bits, size_t slots, const struct wait *w, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(m->db, w, err);
    CLEANUP(buf_fini) struct buf match = BUF_INIT;
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = NULL;
    bool by_tags = json_array_size(q->tags) > 0, row;
    struct memory_rank rank;

    if (!c)
        return false;
    if (by_tags && !memory_words_query(&c->words, NULL, q->tags, key, 1, &match, &rank, err))
        return false;
    stmt = memory_stmt(c, by_tags ? MEMORY_VECTOR_SLOTS_BY_TAGS : MEMORY_VECTOR_SLOTS, err);
    if (!stmt)
        return false;
    (void)sqlite3_bind_int64(stmt, 1, key[0]);
    (void)sqlite3_bind_int64(stmt, 2, key[1]);
    (void)sqlite3_bind_int64(stmt, 3, q->since_wall_ns);
    (void)sqlite3_bind_int64(stmt, 4, q->until_wall_ns ? q->until_wall_ns : INT64_MAX);
    if (by_tags)
        (void)sqlite3_bind_text(stmt, 5, match.data, (int)match.len, SQLITE_STATIC);
    for (;;) {
        size_t slot;

        if (!memory_step(c, stmt, &row, err))
            return false;
        if (!row)
            return true;
        slot = (size_t)sqlite3_column_int64(stmt, 0);
        if (slot < slots)
            bits[slot / 8] |= (uint8_t)(1u << slot % 8);
    }
}

static bool scan_scope(struct memory *m, const struct memory_query *q, int64_t scope,
                       const struct memory_model *model, const float *unit, const struct wait *w,
                       struct memory_best *best, bool *ret_lost, struct error *err)
{
    struct error why = ERROR_INIT;
    CLEANUP(memory_set_putp)
    struct memory_set *set = memory_model_set(m, scope, model, false, w, ret_lost, &why);
    size_t slots = set ? memory_set_slots(set) : 0;
    const int64_t key[2] = { scope, model->m };
    uint8_t *bits = NULL;
    bool ok = true;

    if (!set) {
        if (why.code != ERR_NONE && err)
            *err = why;
        return why.code == ERR_NONE;
    }
    if (json_array_size(q->tags) > 0 || q->since_wall_ns || q->until_wall_ns) {
        bits = calloc(slots / 8 + 1, 1);
        ok = bits ? allow(m, q, key, bits, slots, w, err) : error_set(err, ERR_NOMEM, "the search");
    }
    ok = ok && memory_set_scan(set, unit, bits, slots, w, best, err);
    free(bits);
    return ok;
}

void memory_questions(struct memory *m, struct memory_question *questions, size_t count)
{
    struct llm_embed_call *calls = calloc(count, sizeof *calls);
    char name[MEMORY_MODEL_BYTES];
    bool can = memory_can_embed(m, name);

    for (size_t i = 0; i < count; i++) {
        struct memory_question *q = &questions[i];

        q->vector = NULL;
        q->ok = calls || error_set(&q->err, ERR_NOMEM, "the search");
        if (calls)
            calls[i] = (struct llm_embed_call){
                .agent = q->agent, .texts = &q->text, .count = 1, .wait = q->wait
            };
    }
    if (can && calls)
        llm_embed_many(m->llm, calls, count);
    for (size_t i = 0; can && calls && i < count; i++) {
        questions[i].ok = calls[i].ok;
        questions[i].err = calls[i].err;
        questions[i].vector = calls[i].rows;
        questions[i].dims = calls[i].dims;
    }
    free(calls);
}

/* Its vector, which may have been asked for already. */
static bool vector_of(struct memory *m, const char *agent, const struct memory_query *q, bool anew,
                      float **ret, size_t *ret_dims, const struct wait *w, struct error *err)
{
    const struct memory_question *known = q->question;

    if (anew || !known || !known->vector)
        return llm_embed(m->llm, agent, &q->text, 1, w, ret, ret_dims, err);
    *ret_dims = known->dims;
    *ret = calloc(known->dims, sizeof **ret);
    if (!*ret)
        return error_set(err, ERR_NOMEM, "the search");
    memcpy(*ret, known->vector, known->dims * sizeof **ret);
    return true;
}

/* The question as a vector, after what was missed has been made up for, as far as time allows. */
static bool ask_question(struct memory *m, const char *agent, const struct memory_query *q,
                         const char *name, struct memory_model *model, float **ret_unit,
                         const struct wait *w, struct error *err)
{
    for (int attempt = 0;; attempt++) {
        int64_t now = clock_now_ns();
        struct wait half = memory_sooner(w, clock_add_ns(now, (w->deadline_ns - now) / 2));
        struct memory_model before;
        float *floats = NULL;
        size_t dims = 0;
        bool ok;

        UNCHECKED(memory_embed_notes(m, agent, MAKE_UP, &half, NULL));
        if (!vector_of(m, agent, q, attempt > 0, &floats, &dims, w, err))
            return false;
        {
            CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(m->db, w, err);

            ok = c && memory_model_newest(c, name, &before, err);
        }
        if (ok && (dims < 1 || dims > MEMORY_DIMS_MAX))
            ok = error_set(err, ERR_PROTOCOL, "the provider sent a vector of %zu numbers", dims);
        ok = ok && memory_model_of(m, name, dims, model, w, err) &&
             memory_unit_vector(floats, dims, ret_unit, err);
        free(floats);
        if (!ok || before.m == model->m || attempt > 0)
            return ok;
        free(*ret_unit); /* its vectors have another length since today: all anew */
        *ret_unit = NULL;
    }
}

bool memory_nearest(struct memory *m, const struct memory_who *who,
                    const struct memory_asker *asker, const struct memory_query *q, size_t count,
                    const struct wait *w, struct memory_near *ret, struct error *err)
{
    struct memory_best best = { .max = 0 };
    struct memory_model model = { .m = 0 };
    char name[MEMORY_MODEL_BYTES];
    int64_t scopes[MEMORY_SCOPES_MAX];
    unsigned scope_count = memory_query_scopes(asker, q->shared, scopes);
    float *unit = NULL;
    bool ok, lost = false;

    if (!memory_can_embed(m, name))
        return error_set(err, ERR_UNSUPPORTED,
                         "a search by meaning needs a model that makes vectors: set embed_model of "
                         "a provider in llm.providers, and memory.embed; or search by words");
    ok = ask_question(m, who->agent, q, name, &model, &unit, w, err) &&
         memory_best_init(&best, count, err);
    for (unsigned i = 0; ok && unit && i < scope_count; i++)
        ok = scan_scope(m, q, scopes[i], &model, unit, w, &best, &lost, err);
    if (ok && lost) {
        UNCHECKED(memory_embed_notes(m, who->agent, MAKE_UP, w, NULL));
        best.count = 0;
        for (unsigned i = 0; ok && i < scope_count; i++)
            ok = scan_scope(m, q, scopes[i], &model, unit, w, &best, NULL, err);
    }
    free(unit);
    if (!ok) {
        memory_best_fini(&best);
        return false;
    }
    memory_best_sort(&best);
    *ret = (struct memory_near){ .n = best.n, .score = best.score, .count = best.count };
    return true;
}
