/*
 * When notes were used, for LRU-K.
 *
 * Uses are numbered, not timed: a clock that jumps changes no order.  They are kept in memory and
 * written down a thousand at a time; those of the last moments before a crash are forgotten, which
 * costs a worse choice of what is evicted and nothing else.
 */
#include <stdlib.h>
#include <string.h>

#include "kernel/memory_internal.h"

#define COUNTER  "uses"
#define USES_MAX 8u /* of memory.lru_k */

static void put_number(uint8_t *at, int64_t number)
{
    for (int i = 7; i >= 0; i--, number >>= 8)
        at[i] = (uint8_t)number;
}

bool memory_uses_open(struct memory *m, const struct wait *w, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(m->db, w, err);
    CLEANUP(memory_stmt_donep)
    sqlite3_stmt *stmt = c ? memory_stmt(c, MEMORY_COUNTER_GET, err) : NULL;
    bool row;

    if (!stmt)
        return false;
    (void)sqlite3_bind_text(stmt, 1, COUNTER, -1, SQLITE_STATIC);
    if (!memory_step(c, stmt, &row, err))
        return false;
    m->last_use = row ? sqlite3_column_int64(stmt, 0) : 0;
    return true;
}

static int by_note(const void *a, const void *b)
{
    const struct memory_use *x = a, *y = b;

    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The @count uses at @uses, oldest first, are all of one note. */
static bool write_note(struct memory *m, struct memory_conn *c, const struct memory_use *uses,
                       size_t count, struct error *err)
{
    CLEANUP(memory_stmt_donep) sqlite3_stmt *get = memory_stmt(c, MEMORY_USES_GET, err);
    CLEANUP(memory_stmt_donep) sqlite3_stmt *set = memory_stmt(c, MEMORY_USES_SET, err);
    uint8_t list[USES_MAX * 8];
    size_t kept = 0, old;
    bool row;

    if (!get || !set)
        return false;
    (void)sqlite3_bind_int64(get, 1, uses->n);
    if (!memory_step(c, get, &row, err))
        return false;
    if (!row)
        return true; /* deleted meanwhile */
    while (count > 0 && kept < m->k)
        put_number(list + 8 * kept++, uses[--count].at);
    old = (size_t)sqlite3_column_bytes(get, 0) / 8;
    old = MIN(old, m->k - kept);
    if (old > 0)
        memcpy(list + 8 * kept, sqlite3_column_blob(get, 0), 8 * old);
    (void)sqlite3_bind_int64(set, 1, uses->n);
    (void)sqlite3_bind_blob(set, 2, list, (int)(8 * (kept + old)), SQLITE_TRANSIENT);
    return memory_run(c, set, err);
}

static bool write_uses(struct memory *m, struct memory_use *uses, size_t count,
                       const struct wait *w, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_begin(m->db, w, err);
    CLEANUP(memory_stmt_donep)
    sqlite3_stmt *last = c ? memory_stmt(c, MEMORY_COUNTER_SET, err) : NULL;
    int64_t newest = 0;

    if (!last)
        return false;
    for (size_t i = 0; i < count; i++)
        newest = uses[i].at > newest ? uses[i].at : newest;
    qsort(uses, count, sizeof *uses, by_note);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && uses[end].n == uses[i].n; end++)
            continue;
        if (!write_note(m, c, uses + i, end - i, err))
            return false;
    }
    (void)sqlite3_bind_text(last, 1, COUNTER, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(last, 2, newest);
    if (!memory_run(c, last, err))
        return false;
    memory_stmt_donep(&last);
    last = NULL;
    return memory_db_commit(STEAL(c), err);
}

void memory_uses_flush(struct memory *m, const struct wait *w)
{
    struct memory_use *uses = malloc(sizeof m->uses);
    size_t count;

    if (!uses)
        return;
    pthread_mutex_lock(&m->lock);
    count = m->use_count;
    memcpy(uses, m->uses, count * sizeof *uses);
    m->use_count = 0;
    pthread_mutex_unlock(&m->lock);
    /* They only advise. */
    if (count > 0)
        UNCHECKED(write_uses(m, uses, count, w, NULL));
    free(uses);
}

void memory_used(struct memory *m, int64_t n, const struct wait *w)
{
    bool full;

    pthread_mutex_lock(&m->lock);
    if (m->use_count < ARRAY_LEN(m->uses))
        m->uses[m->use_count++] = (struct memory_use){ .n = n, .at = ++m->last_use };
    full = m->use_count == ARRAY_LEN(m->uses);
    pthread_mutex_unlock(&m->lock);
    if (full)
        memory_uses_flush(m, w);
}
