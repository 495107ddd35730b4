/*
 * Moving notes between the database and storage.
 *
 * Out: the row says that storage may have something (copy = -1), storage answers that it has it,
 * then in one transaction the text leaves the database and the row says so.  A crash in between
 * leaves the text in the database, and a copy that the next move overwrites or a deletion removes.
 * Back: one transaction; the copy stays, so that the note can leave again without being written.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/event.h"
#include "kernel/memory_internal.h"
#include "kernel/storage.h"

#define LIST_MAX    4096u /* notes that are chosen at a time */
#define BATCH_NOTES 128u  /* and written to storage at a time */
#define BATCH_BYTES (4u << 20)

static const char *space_of(const char *agent, char buf[MEMORY_SPACE_BYTES])
{
    (void)snprintf(buf, MEMORY_SPACE_BYTES, "~memory.%s", agent);
    return buf;
}

static void hash(const char *text, size_t len, uint8_t ret[SHA256_BYTES])
{
    struct sha256 h;

    sha256_init(&h);
    sha256_add(&h, text, len);
    sha256_end(&h, ret);
}

/* ---- out ---- */

struct batch {
    struct memory_row rows[BATCH_NOTES];
    struct storage_op ops[BATCH_NOTES];
    size_t count, op_count;
};

static void batch_clear(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++)
        memory_row_fini(&b->rows[i]);
    b->count = b->op_count = 0;
}

/* The notes to be moved, in the order in which they go. */
struct victims {
    int64_t n[LIST_MAX];
    size_t count, next;
};

static bool choose(struct memory *m, int64_t owner, int64_t keep, int64_t bytes,
                   struct victims *ret, const struct wait *w, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(m->db, w, err);
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = c ? memory_stmt(c, MEMORY_VICTIMS, err) : NULL;
    bool row = true;

    ret->count = ret->next = 0;
    if (!stmt)
        return false;
    (void)sqlite3_bind_int64(stmt, 1, owner);
    (void)sqlite3_bind_int64(stmt, 2, keep);
    (void)sqlite3_bind_int64(stmt, 3, 8 * (int64_t)(m->k - 1) + 1);
    (void)sqlite3_bind_int64(stmt, 4, LIST_MAX);
    while (bytes > 0 && ret->count < LIST_MAX) {
        if (!memory_step(c, stmt, &row, err))
            return false;
        if (!row)
            break;
        ret->n[ret->count++] = sqlite3_column_int64(stmt, 0);
        bytes -= sqlite3_column_int64(stmt, 1);
    }
    return true;
}

/* Reads the next ones, and notes in the database which of them storage is about to be given. */
static bool take_batch(struct memory *m, struct victims *v, struct batch *b, const struct wait *w,
                       struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_begin(m->db, w, err);
    size_t bytes = 0;

    if (!c)
        return false;
    while (v->next < v->count && b->count < BATCH_NOTES && bytes < BATCH_BYTES) {
        struct memory_row *row = &b->rows[b->count];

        if (!memory_row_get(c, v->n[v->next++], NULL, row, err))
            return false;
        if (!row->text) {
            memory_row_fini(row); /* deleted meanwhile */
            continue;
        }
        b->count++;
        bytes += row->len;
        hash(row->text, row->len, row->sha);
        if (row->copy == (int64_t)row->version)
            continue;
        if (!MEMORY_DO(c, MEMORY_NOTE_COPIED, NULL, err, row->n, (int64_t)row->version))
            return false;
        b->ops[b->op_count++] = (struct storage_op){ .kind = STORAGE_PUT,
                                                     .key = row->id,
                                                     .data = row->text,
                                                     .len = row->len,
                                                     .if_version = STORAGE_ANY };
    }
    return memory_db_commit(STEAL(c), err);
}

static bool leave(struct memory_conn *c, const struct memory_row *row, struct memory_change *change,
                  struct error *err)
{
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = memory_stmt(c, MEMORY_NOTE_LEAVES, err);

    if (!stmt)
        return false;
    (void)sqlite3_bind_int64(stmt, 1, row->n);
    (void)sqlite3_bind_int64(stmt, 2, (int64_t)row->version);
    (void)sqlite3_bind_blob(stmt, 3, row->sha, SHA256_BYTES, SQLITE_STATIC);
    if (!memory_run(c, stmt, err))
        return false;
    if (sqlite3_changes(c->sql) == 0)
        return true; /* it was changed or deleted meanwhile: what storage has is an old copy */
    change->resident--;
    change->resident_bytes -= row->bytes;
    change->stored_bytes += row->bytes;
    change->evictions++;
    return MEMORY_DO(c, MEMORY_TEXT_DROP, NULL, err, row->n);
}

static bool move_batch(struct memory *m, const char *agent, int64_t owner, struct batch *b,
                       const struct wait *w, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = NULL;
    struct memory_change change = { .notes = 0 };
    char space[MEMORY_SPACE_BYTES];

    if (b->op_count > 0 &&
        !storage_batch(m->storage, space_of(agent, space), b->ops, b->op_count, w, NULL, err))
        return false;
    c = memory_db_begin(m->db, w, err);
    if (!c)
        return false;
    for (size_t i = 0; i < b->count; i++)
        if (!leave(c, &b->rows[i], &change, err))
            return false;
    if (!memory_count(c, owner, &change, NULL, err) || !memory_db_commit(STEAL(c), err))
        return false;
    if (change.evictions > 0)
        event_publish(m->bus, "memory.evicted", agent, "", "%lld notes, %lld bytes to storage",
                      (long long)change.evictions, (long long)change.stored_bytes);
    return true;
}

static bool resident_bytes(struct memory *m, const char *agent, struct memory_scope *ret,
                           const struct wait *w, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(m->db, w, err);
    char name[MEMORY_SCOPE_BYTES];

    return c && memory_scope(c, memory_scope_name('a', agent, name), false, ret, err);
}

static bool refuse_full(struct memory *m, const char *agent, struct error *err)
{
    return error_set(err, ERR_LIMIT,
                     "the notes of agent %s take all of their %lld MiB "
                     "(memory.quota_mb) and none of them can move",
                     agent, (long long)(m->quota >> 20));
}

/* Notes leave until @bytes more fit, and an eighth beyond, so that not every save has to. */
static bool evict(struct memory *m, const char *agent, int64_t bytes, int64_t keep,
                  struct victims *v, struct batch *b, const struct wait *w, struct error *err)
{
    int64_t goal = MIN(m->quota - bytes, m->quota / 8 * 7);
    struct memory_scope scope;

    for (;;) {
        if (!resident_bytes(m, agent, &scope, w, err))
            return false;
        if (scope.resident_bytes + bytes <= m->quota)
            return true;
        if (!choose(m, scope.s, keep, scope.resident_bytes - goal, v, w, err))
            return false;
        if (v->count == 0)
            return refuse_full(m, agent, err);
        while (v->next < v->count) {
            bool ok = take_batch(m, v, b, w, err) && move_batch(m, agent, scope.s, b, w, err);

            batch_clear(b);
            if (!ok)
                return error_prefix(err,
                                    "the notes of agent %s take all of their %lld MiB, and "
                                    "moving some to storage failed",
                                    agent, (long long)(m->quota >> 20));
        }
    }
}

/* ---- what deletions left ---- */

struct gone {
    int64_t n;
    char agent[65], id[40];
};

static bool next_gone(struct memory *m, struct gone *list, size_t *ret_count, const struct wait *w)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(m->db, w, NULL);
    CLEANUP(memory_stmt_donep)
    sqlite3_stmt *stmt = c ? memory_stmt(c, MEMORY_GONE_LIST, NULL) : NULL;
    bool row;

    *ret_count = 0;
    if (!stmt)
        return false;
    while (*ret_count < 64) {
        struct gone *g = &list[*ret_count];

        if (!memory_step(c, stmt, &row, NULL))
            return false;
        if (!row)
            break;
        g->n = sqlite3_column_int64(stmt, 0);
        (void)snprintf(g->agent, sizeof g->agent, "%s", (const char *)sqlite3_column_text(stmt, 1));
        (void)snprintf(g->id, sizeof g->id, "%s", (const char *)sqlite3_column_text(stmt, 2));
        ++*ret_count;
    }
    return true;
}

static bool forget(struct memory *m, int64_t n, const struct wait *w)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_begin(m->db, w, NULL);

    return c && MEMORY_DO(c, MEMORY_GONE_DROP, NULL, NULL, n) && memory_db_commit(STEAL(c), NULL);
}

/* With the mover taken: a move that is under way cannot put back what is removed here. */
static void sweep(struct memory *m, const struct wait *w)
{
    struct gone list[64];
    char space[MEMORY_SPACE_BYTES];
    size_t count = 0;

    while (atomic_exchange(&m->gone, false)) {
        bool ok = next_gone(m, list, &count, w);

        for (size_t i = 0; ok && i < count; i++) {
            struct error why = ERROR_INIT;

            ok = storage_delete(m->storage, space_of(list[i].agent, space), list[i].id, STORAGE_ANY,
                                w, NULL, &why) ||
                 why.code == ERR_NOT_FOUND;
            ok = ok && forget(m, list[i].n, w);
        }
        if (!ok) {
            atomic_store(&m->gone, true); /* at the next occasion */
            return;
        }
        if (count == ARRAY_LEN(list))
            atomic_store(&m->gone, true);
    }
}

void memory_sweep(struct memory *m, const struct wait *w)
{
    if (!atomic_load(&m->gone) || !memory_lane_take(&m->mover, w, NULL))
        return;
    sweep(m, w);
    memory_lane_give(&m->mover);
}

bool memory_make_room(struct memory *m, const char *agent, int64_t bytes, int64_t keep,
                      const struct wait *w, struct error *err)
{
    struct memory_scope scope;
    struct victims *v;
    struct batch *b;
    bool ok;

    if (bytes > m->quota)
        return refuse_full(m, agent, err);
    if (!resident_bytes(m, agent, &scope, w, err))
        return false;
    if (scope.resident_bytes + bytes <= m->quota)
        return true;
    if (!memory_lane_take(&m->mover, w, err))
        return false;
    memory_uses_flush(m, w);
    v = malloc(sizeof *v);
    b = calloc(1, sizeof *b);
    ok = v && b ? evict(m, agent, bytes, keep, v, b, w, err)
                : error_set(err, ERR_NOMEM, "moving notes to storage");
    free(v);
    free(b);
    if (ok)
        sweep(m, w);
    memory_lane_give(&m->mover);
    return ok;
}

/* ---- back ---- */

bool memory_load(struct memory *m, struct memory_row *row, bool *ret_missing, const struct wait *w,
                 struct error *err)
{
    CLEANUP(buf_fini) struct buf text = { .max = MEMORY_NOTE_BYTES };
    char space[MEMORY_SPACE_BYTES];
    struct error why = ERROR_INIT;
    uint8_t sha[SHA256_BYTES];

    if (!storage_get(m->storage, space_of(row->owner_name, space), row->id, 0, 0, MEMORY_NOTE_BYTES,
                     &text, w, NULL, &why)) {
        if (why.code != ERR_NOT_FOUND) {
            (void)error_prefix(&why, "the text of note %s is in storage", row->id);
            if (err)
                *err = why;
            return false;
        }
        if (ret_missing)
            *ret_missing = true;
        return error_set(err, ERR_LOST, "the text of note %s is no longer in storage", row->id);
    }
    hash(buf_str(&text), text.len, sha);
    if (row->has_sha && memcmp(sha, row->sha, sizeof sha) != 0) {
        if (ret_missing)
            *ret_missing = true;
        return error_set(err, ERR_LOST, "the text of note %s was damaged in storage", row->id);
    }
    free(row->text);
    row->len = text.len;
    row->text = text.len > 0 ? buf_take(&text, NULL) : strdup("");
    return row->text || error_set(err, ERR_NOMEM, "a note");
}

/* *ret_fits: there is room for it. */
static bool bring_one(struct memory *m, const struct memory_row *row, const struct wait *w)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_begin(m->db, w, NULL);
    struct memory_change change = {
        .resident = 1, .resident_bytes = row->bytes, .stored_bytes = -row->bytes, .faults = 1
    };
    char name[MEMORY_SCOPE_BYTES];
    struct memory_scope scope;
    int64_t after = 0;
    int changed = 0;

    if (!c ||
        !memory_scope(c, memory_scope_name('a', row->owner_name, name), false, &scope, NULL) ||
        scope.resident_bytes + row->bytes > m->quota)
        return false;
    if (!MEMORY_DO(c, MEMORY_NOTE_RETURNS, &changed, NULL, row->n, (int64_t)row->version) ||
        changed == 0)
        return false;
    if (!memory_text_set(c, row, NULL) || !memory_count(c, row->owner, &change, &after, NULL) ||
        !memory_db_commit(STEAL(c), NULL))
        return false;
    event_publish(m->bus, "memory.faulted", row->owner_name, row->id, "%lld bytes from storage",
                  (long long)row->bytes);
    memory_tell_pressure(m, row->owner_name, scope.resident_bytes, after);
    return true;
}

void memory_bring_back(struct memory *m, struct memory_row *rows, size_t count,
                       const struct wait *w)
{
    int64_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        struct memory_row *row = &rows[i];

        if (row->resident || !row->text)
            continue;
        /* A page of large notes must not push out itself. */
        bytes += row->bytes;
        if (bytes > m->quota / 2)
            return;
        if (memory_make_room(m, row->owner_name, row->bytes, row->n, w, NULL))
            (void)bring_one(m, row, w);
    }
}
