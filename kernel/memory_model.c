/* Models that make vectors, as the database knows them, and the sets of vectors that each made. */
#include <stdio.h>
#include <stdlib.h>

#include "kernel/config.h"
#include "kernel/llm.h"
#include "kernel/memory_internal.h"

bool memory_asks_model(const struct config *config)
{
    size_t i;
    json_t *provider;

    if (!config->memory.embed)
        return false;
    json_array_foreach (config->llm.providers, i, provider) {
        const char *model = json_string_value(json_object_get(provider, "embed_model"));

        if (model && *model)
            return true;
    }
    return false;
}

bool memory_can_embed(struct memory *m, char name[MEMORY_MODEL_BYTES])
{
    char provider[65], model[129];

    if (!m->embed || !m->llm || !llm_can_embed(m->llm, provider, model))
        return false;
    (void)snprintf(name, MEMORY_MODEL_BYTES, "%s/%s", provider, model);
    return true;
}

struct wait memory_sooner(const struct wait *w, int64_t by_ns)
{
    return (struct wait){ .deadline_ns = MIN(w->deadline_ns, by_ns), .cancel = w->cancel };
}

bool memory_model_newest(struct memory_conn *c, const char *name, struct memory_model *ret,
                         struct error *err)
{
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = memory_stmt(c, MEMORY_MODEL_NEWEST, err);
    bool row;

    *ret = (struct memory_model){ .m = 0 };
    if (!stmt)
        return false;
    (void)sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    if (!memory_step(c, stmt, &row, err))
        return false;
    if (row) {
        ret->m = sqlite3_column_int64(stmt, 0);
        ret->dims = (size_t)sqlite3_column_int64(stmt, 1);
    }
    return true;
}

static bool add_model(struct memory *m, const char *name, size_t dims, struct memory_model *ret,
                      const struct wait *w, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_begin(m->db, w, err);
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = NULL;
    bool row;

    if (!c || !memory_model_newest(c, name, ret, err))
        return false;
    if (ret->m && ret->dims == dims)
        return true;
    stmt = memory_stmt(c, MEMORY_MODEL_ADD, err);
    if (!stmt)
        return false;
    (void)sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(stmt, 2, (int64_t)dims);
    if (!memory_step(c, stmt, &row, err))
        return false;
    *ret = (struct memory_model){ .m = sqlite3_column_int64(stmt, 0), .dims = dims };
    if (row && !memory_run(c, stmt, err))
        return false;
    memory_stmt_donep(&stmt);
    stmt = NULL;
    return memory_db_commit(STEAL(c), err);
}

/* The model of this name whose vectors are @dims long, which is then the newest. */
bool memory_model_of(struct memory *m, const char *name, size_t dims, struct memory_model *ret,
                     const struct wait *w, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(m->db, w, err);

    if (!c || !memory_model_newest(c, name, ret, err))
        return false;
    memory_db_release(STEAL(c));
    return (ret->m && ret->dims == dims) || add_model(m, name, dims, ret, w, err);
}

/* ---- sets ---- */

struct fill {
    struct memory *m;
    const struct wait *w;
    bool lost; /* the file is shorter than the database says */
};

static bool fill_set(struct memory_set *set, const struct memory_set_key *key, void *arg,
                     struct error *err)
{
    struct fill *f = arg;
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(f->m->db, f->w, err);
    CLEANUP(memory_stmt_donep)
    sqlite3_stmt *stmt = c ? memory_stmt(c, MEMORY_VECTOR_LIST, err) : NULL;
    bool row;

    if (!stmt)
        return false;
    (void)sqlite3_bind_int64(stmt, 1, key->scope);
    (void)sqlite3_bind_int64(stmt, 2, key->model);
    for (;;) {
        if (!memory_step(c, stmt, &row, err))
            return false;
        if (!row)
            return true;
        if (!memory_set_place(set, sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1)))
            f->lost = true;
    }
}

/* Those notes want a vector again. */
static void cut_off(struct memory *m, const struct memory_set_key *key, size_t slots,
                    const struct wait *w)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_begin(m->db, w, NULL);

    if (c &&
        MEMORY_DO(c, MEMORY_VECTOR_UNMODEL, NULL, NULL, key->scope, key->model, (int64_t)slots) &&
        MEMORY_DO(c, MEMORY_VECTOR_CUT, NULL, NULL, key->scope, key->model, (int64_t)slots))
        UNCHECKED(memory_db_commit(STEAL(c), NULL));
}

/* *ret_lost (may be NULL): some of its notes want a vector again. */
struct memory_set *memory_model_set(struct memory *m, int64_t scope,
                                    const struct memory_model *model, bool make,
                                    const struct wait *w, bool *ret_lost, struct error *err)
{
    struct memory_set_key key = { .scope = scope, .model = model->m, .dims = model->dims };
    struct fill f = { .m = m, .w = w };
    struct memory_set *set = memory_set_get(m->vectors, &key, make, fill_set, &f, err);

    if (set && f.lost) {
        cut_off(m, &key, memory_set_slots(set), w);
        if (ret_lost)
            *ret_lost = true;
    }
    return set;
}

bool memory_vector_drop(struct memory_conn *c, int64_t n, struct memory_freed *ret,
                        struct error *err)
{
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = memory_stmt(c, MEMORY_VECTOR_DROP, err);
    bool row;

    if (!stmt)
        return false;
    (void)sqlite3_bind_int64(stmt, 1, n);
    for (;;) {
        if (!memory_step(c, stmt, &row, err))
            return false;
        if (!row)
            return true;
        if (ret->count < ARRAY_LEN(ret->at) && sqlite3_column_int64(stmt, 2) >= 0) {
            ret->at[ret->count].scope = sqlite3_column_int64(stmt, 0);
            ret->at[ret->count].model = sqlite3_column_int64(stmt, 1);
            ret->at[ret->count++].slot = sqlite3_column_int64(stmt, 2);
        }
    }
}

void memory_vector_freed(struct memory *m, const struct memory_freed *freed)
{
    for (size_t i = 0; i < freed->count; i++)
        memory_vectors_free_slot(m->vectors, freed->at[i].scope, freed->at[i].model,
                                 freed->at[i].slot);
}
