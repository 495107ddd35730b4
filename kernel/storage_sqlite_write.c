/*
 * Writing to the SQLite back end: what waited in the queue goes into one transaction, and is
 * committed with one sync of the disk.
 */
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/storage_sqlite.h"

#define BUSY_NS (5 * CLOCK_NS_PER_S)

/* A space as the running transaction sees it. */
struct space {
    const char *name;
    sqlite3_int64 id; /* 0: not in the database */
    struct storage_tally tally;
    bool changed;
};

struct group {
    struct sqlite_conn *c;
    struct storage_request *requests[STORAGE_GROUP];
    size_t count;
    struct space spaces[STORAGE_GROUP];
    size_t space_count;
};

/* What one operation will do. */
struct plan {
    uint64_t newest, drop_to; /* versions up to drop_to go; 0: none */
    int64_t last_wall_ns;
};

/* What became of a request inside the transaction. */
enum outcome {
    APPLIED,
    REFUSED, /* nothing was written for it */
    BROKEN   /* the transaction is spoilt */
};

/* ---- one request ---- */

static struct space *space_find(struct group *g, const char *name, struct error *err)
{
    sqlite3_stmt *stmt = g->c->space_get;
    struct space *s = g->spaces;
    int rc;

    for (; s < g->spaces + g->space_count; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    *s = (struct space){ .name = name };
    sqlite_bind_text(stmt, 1, name);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        s->id = sqlite3_column_int64(stmt, 0);
        s->tally.bytes = (uint64_t)sqlite3_column_int64(stmt, 1);
        s->tally.keys = (uint64_t)sqlite3_column_int64(stmt, 2);
        s->tally.versions = (uint64_t)sqlite3_column_int64(stmt, 3);
    }
    (void)sqlite3_reset(stmt);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        sqlite_failed(g->c, rc, "read a space", err);
        return NULL;
    }
    g->space_count++;
    return s;
}

static void bind_key(sqlite3_stmt *stmt, const struct space *space, const char *key)
{
    (void)sqlite3_bind_int64(stmt, 1, space->id);
    sqlite_bind_text(stmt, 2, key);
}

/* Versions of a key are numbered without gaps, so two of them tell how many there are. */
static enum outcome plan_op(struct sqlite_conn *c, const struct space *space,
                            const struct storage_op *op, const struct storage_limits *limits,
                            struct storage_tally *tally, struct plan *plan, struct error *err)
{
    uint64_t oldest = 0, dropped = 0, dropped_bytes = 0;
    bool live = false;
    int rc = SQLITE_DONE;

    *plan = (struct plan){ .newest = 0 };
    if (space->id) {
        bind_key(c->ends, space, op->key);
        rc = sqlite3_step(c->ends);
        if (rc == SQLITE_ROW) {
            plan->newest = (uint64_t)sqlite3_column_int64(c->ends, 0);
            plan->last_wall_ns = sqlite3_column_int64(c->ends, 1);
            live = !sqlite3_column_int(c->ends, 2);
            oldest = (uint64_t)sqlite3_column_int64(c->ends, 3);
        }
        (void)sqlite3_reset(c->ends);
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        sqlite_failed(c, rc, "read versions", err);
        return BROKEN;
    }
    if (!storage_rule_condition(op, plan->newest, live, err))
        return REFUSED;
    if (oldest > 0 && oldest + limits->versions <= plan->newest + 1) {
        plan->drop_to = plan->newest + 1 - limits->versions;
        bind_key(c->old_sum, space, op->key);
        (void)sqlite3_bind_int64(c->old_sum, 3, (sqlite3_int64)plan->drop_to);
        rc = sqlite3_step(c->old_sum);
        dropped = (uint64_t)sqlite3_column_int64(c->old_sum, 0);
        dropped_bytes = (uint64_t)sqlite3_column_int64(c->old_sum, 1);
        (void)sqlite3_reset(c->old_sum);
        if (rc != SQLITE_ROW) {
            sqlite_failed(c, rc, "weigh old versions", err);
            return BROKEN;
        }
    }
    return storage_rule_count(tally, op, live, dropped, dropped_bytes, limits, err) ? APPLIED
                                                                                    : REFUSED;
}

static bool drop_old(struct sqlite_conn *c, const struct space *space, const char *key,
                     uint64_t drop_to, struct error *err)
{
    bind_key(c->old_values, space, key);
    (void)sqlite3_bind_int64(c->old_values, 3, (sqlite3_int64)drop_to);
    bind_key(c->old_versions, space, key);
    (void)sqlite3_bind_int64(c->old_versions, 3, (sqlite3_int64)drop_to);
    return sqlite_run(c, c->old_values, "drop old values", err) &&
           sqlite_run(c, c->old_versions, "drop old versions", err);
}

static bool apply_op(struct sqlite_backend *b, struct sqlite_conn *c, const struct space *space,
                     struct storage_op *op, const struct plan *plan, struct error *err)
{
    sqlite3_stmt *row = c->add_version;
    int64_t id = b->next_value;

    if (plan->drop_to && !drop_old(c, space, op->key, plan->drop_to, err))
        return false;
    if (op->kind == STORAGE_PUT) {
        int rc =
            sqlite3_bind_blob64(c->add_value, 2, op->len ? op->data : "", op->len, SQLITE_STATIC);

        if (rc != SQLITE_OK)
            return sqlite_failed(c, rc, "add a value", err);
        (void)sqlite3_bind_int64(c->add_value, 1, id);
        b->next_value++;
        if (!sqlite_run(c, c->add_value, "add a value", err))
            return false;
        storage_rule_digest(op);
        (void)sqlite3_bind_int64(row, 7, id);
    } else {
        (void)sqlite3_bind_null(row, 7);
    }
    storage_rule_stamp(op, plan->newest + 1, plan->last_wall_ns);
    bind_key(row, space, op->key);
    (void)sqlite3_bind_int64(row, 3, (sqlite3_int64)op->stat.version);
    (void)sqlite3_bind_int64(row, 4, op->stat.wall_ns);
    (void)sqlite3_bind_int64(row, 5, (sqlite3_int64)op->stat.bytes);
    sqlite_bind_text(row, 6, op->stat.sha256);
    return sqlite_run(c, row, "add a version", err);
}

/* All checks come before the first change, so that a refused request leaves no trace in the
 * transaction that it shares. */
static enum outcome apply(struct sqlite_backend *b, struct group *g, struct storage_request *r)
{
    struct storage_write *w = r->write;
    struct plan plans[STORAGE_BATCH_MAX];
    struct storage_tally tally;
    const size_t count = w->count;
    struct space *space = space_find(g, w->space, &w->err);

    if (!space)
        return BROKEN;
    tally = space->tally;
    for (size_t i = 0; i < count; i++) {
        enum outcome outcome =
            plan_op(g->c, space, &w->ops[i], r->limits, &tally, &plans[i], &w->err);

        if (outcome == REFUSED)
            w->failed = i;
        if (outcome != APPLIED)
            return outcome;
    }
    if (space->id == 0) {
        sqlite_bind_text(g->c->space_add, 1, space->name);
        if (!sqlite_run(g->c, g->c->space_add, "add a space", &w->err))
            return BROKEN;
        space->id = sqlite3_last_insert_rowid(g->c->db);
    }
    for (size_t i = 0; i < count; i++)
        if (!apply_op(b, g->c, space, &w->ops[i], &plans[i], &w->err))
            return BROKEN;
    space->tally = tally;
    space->changed = true;
    return APPLIED;
}

/* ---- one transaction ---- */

static bool write_spaces(struct group *g, struct error *err)
{
    sqlite3_stmt *stmt = g->c->space_set;

    for (size_t i = 0; i < g->space_count; i++) {
        const struct space *s = &g->spaces[i];

        if (!s->changed)
            continue;
        (void)sqlite3_bind_int64(stmt, 1, s->id);
        (void)sqlite3_bind_int64(stmt, 2, (sqlite3_int64)s->tally.bytes);
        (void)sqlite3_bind_int64(stmt, 3, (sqlite3_int64)s->tally.keys);
        (void)sqlite3_bind_int64(stmt, 4, (sqlite3_int64)s->tally.versions);
        if (!sqlite_run(g->c, stmt, "write a space", err))
            return false;
    }
    return true;
}

/* *ret_unknown: the log may hold it all the same. */
static bool commit(struct sqlite_conn *c, bool *ret_unknown, struct error *err)
{
    int rc = sqlite3_step(c->commit);

    *ret_unknown = rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC;
    if (*ret_unknown)
        error_set(err, ERR_LOST,
                  "the disk did not confirm the storage database: it is not known whether this was "
                  "kept");
    else if (rc != SQLITE_DONE)
        sqlite_failed(c, rc, "commit", err);
    (void)sqlite3_reset(c->commit);
    return rc == SQLITE_DONE;
}

static void undo(struct sqlite_conn *c)
{
    if (!sqlite3_get_autocommit(c->db))
        UNCHECKED(sqlite_run(c, c->rollback, "undo", NULL)); /* else it is undone already */
}

static void fail_all(struct group *g, const struct error *err)
{
    for (size_t i = 0; i < g->count; i++) {
        struct storage_write *w = g->requests[i]->write;

        if (!w->ok && w->err.code != ERR_NONE)
            continue; /* it was refused, and knows why */
        w->ok = false;
        w->failed = w->count;
        if (err->code != ERR_BUSY || wait_check(w->wait, &w->err))
            w->err = *err;
    }
}

static void set_patience(struct group *g)
{
    int64_t until_ns = clock_add_ns(clock_now_ns(), BUSY_NS);

    for (size_t i = 0; i < g->count; i++)
        until_ns = MIN(until_ns, g->requests[i]->write->wait->deadline_ns);
    g->c->busy_until_ns = until_ns;
    g->c->wait = g->count == 1 ? g->requests[0]->write->wait : NULL;
}

/* False: the transaction failed as a whole, with @err; *ret_again: each may be tried alone. */
static bool run_together(struct sqlite_backend *b, struct group *g, bool *ret_again,
                         struct error *err)
{
    size_t applied = 0;
    bool unknown = false;

    *ret_again = false;
    g->space_count = 0;
    set_patience(g);
    if (!sqlite_run(g->c, g->c->begin_now, "begin", err))
        return false;
    for (size_t i = 0; i < g->count; i++) {
        struct storage_write *w = g->requests[i]->write;
        enum outcome outcome = apply(b, g, g->requests[i]);

        w->ok = outcome == APPLIED;
        applied += w->ok;
        if (outcome == BROKEN) {
            undo(g->c);
            *err = w->err;
            *ret_again = true;
            return false;
        }
    }
    if (applied == 0) {
        undo(g->c);
        return true;
    }
    if (!write_spaces(g, err) || !commit(g->c, &unknown, err)) {
        undo(g->c);
        *ret_again = !unknown;
        return false;
    }
    storage_queue_committed(&b->queue, applied);
    return true;
}

/* What one request breaks (a value for which the disk has no room) is no failure of the others. */
void sqlite_write_group(struct storage_backend *base, struct storage_request **requests,
                        size_t count)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);
    struct group g = { .c = b->writer, .count = count };
    struct error err = ERROR_INIT;
    bool again;

    for (size_t i = 0; i < count; i++)
        g.requests[i] = requests[i];
    if (run_together(b, &g, &again, &err))
        return;
    if (!again || count == 1) {
        fail_all(&g, &err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct group alone = { .c = g.c, .requests = { requests[i] }, .count = 1 };

        error_clear(&err);
        error_clear(&requests[i]->write->err);
        if (!run_together(b, &alone, &again, &err))
            fail_all(&alone, &err);
    }
}

bool sqlite_write(struct storage_backend *base, const char *space, struct storage_op *ops,
                  size_t count, const struct storage_limits *limits, const struct wait *w,
                  size_t *ret_failed, struct error *err)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);

    return storage_queue_write(&b->queue, space, ops, count, limits, w, ret_failed, err);
}

void sqlite_write_many(struct storage_backend *base, struct storage_write *writes, size_t count,
                       const struct storage_limits *limits)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);

    storage_queue_write_many(&b->queue, writes, count, limits);
}
