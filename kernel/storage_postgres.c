/* The PostgreSQL back end: what storage asks, as transactions. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/storage_postgres_internal.h"

#define TRIES         4
#define FATE_TRIES    10 /* ten seconds together, each pause twice the one before */
#define FATE_PAUSE_MS 10
#define VALUE_MOST    (1000u << 20) /* what a field can hold, less the way there */

struct postgres_backend {
    struct storage_backend base;
    struct pg_pool pool;
};

/* The columns of a stat, in this order. */
#define STAT "v.key, v.version, v.wall_ns, v.bytes, v.sha256"
enum { AT_KEY, AT_VERSION, AT_WALL, AT_BYTES, AT_SHA, AT_VALUE };

static void get_text(const struct pg_conn *c, const PGresult *r, int row, int column, char *to,
                     size_t size)
{
    (void)snprintf(to, size, "%.*s", c->pq->getlength(r, row, column),
                   c->pq->getvalue(r, row, column));
}

static void get_stat(const struct pg_conn *c, const PGresult *r, int row, struct storage_stat *ret)
{
    *ret = (struct storage_stat){ .version = (uint64_t)pg_get_int(c, r, row, AT_VERSION),
                                  .wall_ns = pg_get_int(c, r, row, AT_WALL),
                                  .bytes = (uint64_t)pg_get_int(c, r, row, AT_BYTES) };
    get_text(c, r, row, AT_KEY, ret->key, sizeof ret->key);
    get_text(c, r, row, AT_SHA, ret->sha256, sizeof ret->sha256);
    ret->deleted = !*ret->sha256;
}

/* Runs @sql for reading, again on another connection where the first one was lost.  *ret_conn is to
 * be given back after the result was cleared. */
static PGresult *ask(struct postgres_backend *b, const char *sql, const struct pg_args *args,
                     const struct wait *w, struct pg_conn **ret_conn, struct error *err)
{
    for (unsigned attempt = 1;; attempt++) {
        struct error fault = ERROR_INIT;
        struct pg_conn *c = pg_pool_take(&b->pool, w, err);
        PGresult *r = NULL;
        enum pg_outcome outcome;

        if (!c)
            return NULL;
        outcome = pg_run(c, sql, args, w, &r, &fault);
        if (outcome == PG_DONE) {
            *ret_conn = c;
            return r;
        }
        pg_pool_give(&b->pool, c);
        if (outcome == PG_FAILED || attempt == TRIES) {
            error_set(err, fault.code, "%s", fault.text);
            return NULL;
        }
    }
}

static void answered(struct postgres_backend *b, struct pg_conn *c, PGresult *r)
{
    c->pq->clear(r);
    pg_pool_give(&b->pool, c);
}

/* ---- writing ---- */

struct transaction {
    const char *space;
    struct storage_op *ops;
    size_t count;
    const struct storage_limits *limits;
    const struct wait *w;
    size_t failed;

    int64_t space_id, xid;
    struct storage_tally tally;
    bool refused; /* by a rule: the connection is well, the transaction is not */
};

static enum pg_outcome lock_space(struct pg_conn *c, struct transaction *t, struct error *err)
{
    struct pg_args args = { .count = 0 };
    enum pg_outcome outcome;
    PGresult *r = NULL;

    pg_text(&args, t->space);
    for (int attempt = 0; attempt < 2; attempt++) {
        /* Its row is the lock on the space: one transaction at a time counts what it holds. */
        outcome = pg_run(c,
                         "SELECT id, bytes, keys, versions, txid_current() FROM aios_spaces"
                         " WHERE name = $1 FOR UPDATE",
                         &args, t->w, &r, err);
        if (outcome != PG_DONE)
            return outcome;
        if (c->pq->ntuples(r) == 1) {
            t->space_id = pg_get_int(c, r, 0, 0);
            t->tally = (struct storage_tally){ .bytes = (uint64_t)pg_get_int(c, r, 0, 1),
                                               .keys = (uint64_t)pg_get_int(c, r, 0, 2),
                                               .versions = (uint64_t)pg_get_int(c, r, 0, 3) };
            t->xid = pg_get_int(c, r, 0, 4);
            c->pq->clear(r);
            return PG_DONE;
        }
        c->pq->clear(r);
        outcome = pg_run(c,
                         "INSERT INTO aios_spaces (name, bytes, keys, versions)"
                         " VALUES ($1, 0, 0, 0) ON CONFLICT (name) DO NOTHING",
                         &args, t->w, NULL, err);
        if (outcome != PG_DONE)
            return outcome;
    }
    error_set(err, ERR_BUSY, "the space %s appears and disappears in the database", t->space);
    return PG_AGAIN;
}

/* What the key is now, and what goes when a version is added. */
static enum pg_outcome weigh(struct pg_conn *c, struct transaction *t, struct storage_op *op,
                             uint64_t *ret_newest, int64_t *ret_wall_ns, struct error *err)
{
    struct pg_args args = { .count = 0 };
    uint64_t newest = 0, gone = 0, gone_bytes = 0;
    enum pg_outcome outcome;
    PGresult *r = NULL;
    bool live = false;

    pg_int(&args, t->space_id);
    pg_text(&args, op->key);
    pg_int(&args, (int64_t)MIN(t->limits->versions, (uint64_t)INT64_MAX / 2));
    outcome = pg_run(c,
                     "SELECT h.newest, h.live, v.wall_ns, o.count, o.bytes FROM aios_heads h"
                     " JOIN aios_versions v ON v.space = h.space AND v.key = h.key"
                     "  AND v.version = h.newest"
                     " CROSS JOIN LATERAL (SELECT count(*), coalesce(sum(o.bytes), 0)::bigint"
                     "  AS bytes FROM aios_versions o WHERE o.space = h.space AND o.key = h.key"
                     "  AND o.version < h.newest + 2 - $3) o"
                     " WHERE h.space = $1 AND h.key = $2",
                     &args, t->w, &r, err);
    if (outcome != PG_DONE)
        return outcome;
    *ret_wall_ns = 0;
    if (c->pq->ntuples(r) == 1) {
        newest = (uint64_t)pg_get_int(c, r, 0, 0);
        live = pg_get_int(c, r, 0, 1) != 0;
        *ret_wall_ns = pg_get_int(c, r, 0, 2);
        gone = (uint64_t)pg_get_int(c, r, 0, 3);
        gone_bytes = (uint64_t)pg_get_int(c, r, 0, 4);
    }
    c->pq->clear(r);
    *ret_newest = newest;
    t->refused = !storage_rule_condition(op, newest, live, err) ||
                 !storage_rule_count(&t->tally, op, live, gone, gone_bytes, t->limits, err);
    return t->refused ? PG_FAILED : PG_DONE;
}

static enum pg_outcome write_op(struct pg_conn *c, struct transaction *t, struct storage_op *op,
                                struct error *err)
{
    struct pg_args args = { .count = 0 };
    uint64_t newest;
    int64_t wall_ns;
    enum pg_outcome outcome = weigh(c, t, op, &newest, &wall_ns, err);
    bool put = op->kind == STORAGE_PUT;

    if (outcome != PG_DONE)
        return outcome;
    if (put && op->len > VALUE_MOST) {
        t->refused = true;
        error_set(err, ERR_LIMIT, "\"%s\" is larger than PostgreSQL can hold", op->key);
        return PG_FAILED;
    }
    storage_rule_stamp(op, newest + 1, wall_ns);
    pg_int(&args, t->space_id);
    pg_text(&args, op->key);
    pg_int(&args, (int64_t)op->stat.version);
    pg_int(&args, op->stat.wall_ns);
    pg_int(&args, (int64_t)op->stat.bytes);
    pg_text(&args, op->stat.sha256);
    pg_int(&args, put ? 1 : 0);
    pg_int(&args, (int64_t)MIN(t->limits->versions, (uint64_t)INT64_MAX / 2));
    pg_bytes(&args, put ? op->data : NULL, put ? op->len : 0);
    return pg_run(c,
                  "WITH gone AS (DELETE FROM aios_versions WHERE space = $1 AND key = $2"
                  "  AND version <= $3 - $8),"
                  " head AS (INSERT INTO aios_heads VALUES ($1, $2, $3, $7)"
                  "  ON CONFLICT (space, key) DO UPDATE SET newest = $3, live = $7)"
                  " INSERT INTO aios_versions VALUES ($1, $2, $3, $4, $5, $6,"
                  "  CASE WHEN $7 = 1 THEN $9 END)",
                  &args, t->w, NULL, err);
}

static enum pg_outcome write_space(struct pg_conn *c, struct transaction *t, struct error *err)
{
    struct pg_args args = { .count = 0 };

    pg_int(&args, t->space_id);
    pg_int(&args, (int64_t)t->tally.bytes);
    pg_int(&args, (int64_t)t->tally.keys);
    pg_int(&args, (int64_t)t->tally.versions);
    return pg_run(c, "UPDATE aios_spaces SET bytes = $2, keys = $3, versions = $4 WHERE id = $1",
                  &args, t->w, NULL, err);
}

/* All but the commit: whatever fails here has changed nothing. */
static enum pg_outcome prepare(struct pg_conn *c, struct transaction *t, struct error *err)
{
    enum pg_outcome outcome = pg_run(c, "BEGIN", NULL, t->w, NULL, err);

    if (outcome == PG_DONE)
        outcome = lock_space(c, t, err);
    for (size_t i = 0; outcome == PG_DONE && i < t->count; i++) {
        outcome = write_op(c, t, &t->ops[i], err);
        if (outcome == PG_FAILED && t->refused)
            t->failed = i;
    }
    return outcome == PG_DONE ? write_space(c, t, err) : outcome;
}

/* The answer to COMMIT did not come: the server knows what became of it, once it is back. */
static enum pg_outcome ask_fate(struct postgres_backend *b, const struct transaction *t,
                                struct error *err)
{
    struct pg_args args = { .count = 0 };
    enum { UNKNOWN, COMMITTED, ABORTED } fate = UNKNOWN;

    pg_int(&args, t->xid);
    for (unsigned attempt = 0; fate == UNKNOWN && attempt < FATE_TRIES; attempt++) {
        struct pg_conn *c = NULL;
        char status[16];
        PGresult *r = ask(b, "SELECT txid_status($1)", &args, t->w, &c, NULL);

        if (!r)
            break;
        if (c->pq->ntuples(r) == 1 && !c->pq->getisnull(r, 0, 0)) {
            get_text(c, r, 0, 0, status, sizeof status);
            fate = !strcmp(status, "committed") ? COMMITTED
                   : !strcmp(status, "aborted") ? ABORTED
                                                : UNKNOWN;
        }
        if (fate == UNKNOWN) /* in progress: the server has not yet seen that we are gone */
            pg_pause(c, FATE_PAUSE_MS << attempt, t->w);
        answered(b, c, r);
    }
    if (fate == COMMITTED)
        return PG_DONE;
    if (fate == ABORTED)
        return PG_AGAIN;
    error_set(err, ERR_LOST,
              "the connection to the PostgreSQL server was lost while it was committing: it is not "
              "known whether this was written");
    return PG_FAILED;
}

static enum pg_outcome write_once(struct postgres_backend *b, struct transaction *t,
                                  struct error *err)
{
    struct pg_conn *c = pg_pool_take(&b->pool, t->w, err);
    struct error fault = ERROR_INIT, ignored = ERROR_INIT;
    enum pg_outcome outcome;
    bool gone = false;

    if (!c)
        return PG_FAILED;
    t->refused = false;
    t->failed = t->count;
    outcome = prepare(c, t, err);
    if (outcome == PG_DONE) {
        outcome = pg_run(c, "COMMIT", NULL, t->w, NULL, &fault);
        gone = outcome != PG_DONE && c->dead;
        if (outcome != PG_DONE && !gone)
            error_set(err, fault.code, "%s", fault.text);
    } else if (!c->dead) {
        /* The caller's time may be over, the connection is not. */
        struct wait soon = { .deadline_ns = clock_add_ns(clock_now_ns(), CLOCK_NS_PER_S) };

        if (pg_run(c, "ROLLBACK", NULL, &soon, NULL, &ignored) != PG_DONE)
            c->dead = true;
    }
    pg_pool_give(&b->pool, c);
    return gone ? ask_fate(b, t, err) : outcome;
}

static bool postgres_write(struct storage_backend *base, const char *space, struct storage_op *ops,
                           size_t count, const struct storage_limits *limits, const struct wait *w,
                           size_t *ret_failed, struct error *err)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);
    struct transaction t = {
        .space = space, .ops = ops, .count = count, .limits = limits, .w = w, .failed = count
    };
    struct error fault = ERROR_INIT;
    enum pg_outcome outcome;

    for (unsigned attempt = 1;; attempt++) {
        error_clear(&fault);
        outcome = write_once(b, &t, &fault);
        if (outcome == PG_DONE)
            return true;
        if (outcome == PG_FAILED || attempt == TRIES)
            break;
    }
    if (ret_failed)
        *ret_failed = t.failed;
    if (fault.code == ERR_NONE)
        return error_set(err, ERR_LOST, "the PostgreSQL server took nothing of this");
    return error_set(err, fault.code, "%s", fault.text);
}

/* ---- reading ---- */

static bool not_found(const char *key, uint64_t version, int64_t at_wall_ns, struct error *err)
{
    if (version)
        return error_set(err, ERR_NOT_FOUND,
                         "no version %llu of \"%s\" is kept; storage_versions lists those that are",
                         (unsigned long long)version, key);
    return error_set(err, ERR_NOT_FOUND, "there is no \"%s\"%s", key,
                     at_wall_ns ? " that is so old" : "");
}

/* The row of @version, of the newest at @at_wall_ns, or of the newest; with the bytes of the value
 * in [@offset, @offset + @max). */
static PGresult *find(struct postgres_backend *b, const char *space, const char *key,
                      uint64_t version, int64_t at_wall_ns, uint64_t offset, size_t max,
                      const struct wait *w, struct pg_conn **ret_conn, struct error *err)
{
#define FROM                                                                                       \
    "SELECT " STAT ", CASE WHEN $5 > 0 AND v.bytes > $4 THEN substring(v.value FROM ($4 + 1)::int" \
    " FOR $5::int) END FROM aios_versions v JOIN aios_spaces s ON s.id = v.space"                  \
    " WHERE s.name = $1 AND v.key = $2"
    static const char *const exact = FROM " AND v.version = $3";
    static const char *const at_time = FROM " AND v.wall_ns <= $3 ORDER BY v.version DESC LIMIT 1";
    static const char *const newest = FROM " AND $3 = 0::bigint ORDER BY v.version DESC LIMIT 1";
#undef FROM
    struct pg_args args = { .count = 0 };
    PGresult *r;

    pg_text(&args, space);
    pg_text(&args, key);
    pg_int(&args, version ? (int64_t)MIN(version, (uint64_t)INT64_MAX) : at_wall_ns);
    pg_int(&args, (int64_t)MIN(offset, (uint64_t)INT_MAX - 1));
    pg_int(&args, (int64_t)MIN(max, (size_t)VALUE_MOST));
    r = ask(b, version ? exact : at_wall_ns ? at_time : newest, &args, w, ret_conn, err);
    if (r && (*ret_conn)->pq->ntuples(r) == 0) {
        answered(b, *ret_conn, r);
        not_found(key, version, at_wall_ns, err);
        return NULL;
    }
    return r;
}

static bool postgres_read(struct storage_backend *base, const char *space, const char *key,
                          uint64_t version, uint64_t offset, size_t max, struct buf *out,
                          const struct wait *w, struct storage_stat *ret, struct error *err)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);
    struct pg_conn *c = NULL;
    PGresult *r = find(b, space, key, version, 0, offset, max, w, &c, err);
    size_t len;
    bool ok;

    if (!r)
        return false;
    get_stat(c, r, 0, ret);
    len = offset >= ret->bytes ? 0 : (size_t)MIN(ret->bytes - offset, (uint64_t)max);
    if (ret->deleted)
        ok = error_set(err, ERR_NOT_FOUND, "there is no \"%s\": version %llu deleted it", key,
                       (unsigned long long)ret->version);
    else if ((size_t)c->pq->getlength(r, 0, AT_VALUE) != len)
        ok = error_set(err, ERR_IO, "the value of \"%s\" in the database is damaged", key);
    else
        ok = buf_append(out, c->pq->getvalue(r, 0, AT_VALUE), len) ||
             error_set(err, ERR_NOMEM, "%zu bytes of \"%s\"", len, key);
    answered(b, c, r);
    return ok;
}

static bool postgres_stat(struct storage_backend *base, const char *space, const char *key,
                          uint64_t version, int64_t at_wall_ns, const struct wait *w,
                          struct storage_stat *ret, struct error *err)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);
    struct pg_conn *c = NULL;
    PGresult *r = find(b, space, key, version, at_wall_ns, 0, 0, w, &c, err);

    if (!r)
        return false;
    get_stat(c, r, 0, ret);
    answered(b, c, r);
    return true;
}

/* One row more than @limit was asked for, to know whether there are others. */
static bool fill_page(struct postgres_backend *b, struct pg_conn *c, PGresult *r, size_t limit,
                      struct storage_page *ret, bool *ret_more, struct error *err)
{
    size_t rows = (size_t)c->pq->ntuples(r), count = MIN(rows, limit);
    struct storage_stat *items = count ? calloc(count, sizeof *items) : NULL;
    bool ok = count == 0 || items;

    for (size_t i = 0; ok && i < count; i++)
        get_stat(c, r, (int)i, &items[i]);
    answered(b, c, r);
    if (!ok)
        return error_set(err, ERR_NOMEM, "a page of %zu", count);
    *ret = (struct storage_page){ .items = items, .count = count };
    *ret_more = rows > limit;
    return true;
}

static bool postgres_list(struct storage_backend *base, const char *space, const char *prefix,
                          const char *after, size_t limit, const struct wait *w,
                          struct storage_page *ret, bool *ret_more, struct error *err)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);
    struct pg_args args = { .count = 0 };
    struct pg_conn *c = NULL;
    PGresult *r;

    /* A prefix is a range of bytes: from itself to where its last byte would be one more, and a
     * valid text never ends in 0xff. */
    pg_text(&args, space);
    pg_text(&args, prefix);
    pg_text(&args, after);
    pg_int(&args, (int64_t)limit + 1);
    r = ask(b,
            "SELECT " STAT " FROM aios_spaces s JOIN aios_heads h ON h.space = s.id"
            " JOIN aios_versions v ON v.space = h.space AND v.key = h.key AND v.version = h.newest"
            " WHERE s.name = $1 AND h.key >= $2 AND h.key > $3 AND h.live = 1"
            "  AND substring(h.key FROM 1 FOR length($2)) = $2"
            "  AND (length($2) = 0 OR h.key < set_byte($2, length($2) - 1,"
            "   get_byte($2, length($2) - 1) + 1))"
            " ORDER BY h.key LIMIT $4",
            &args, w, &c, err);
    return r && fill_page(b, c, r, limit, ret, ret_more, err);
}

static bool postgres_versions(struct storage_backend *base, const char *space, const char *key,
                              uint64_t before, size_t limit, const struct wait *w,
                              struct storage_page *ret, bool *ret_more, struct error *err)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);
    struct pg_args args = { .count = 0 };
    struct pg_conn *c = NULL;
    PGresult *r;

    pg_text(&args, space);
    pg_text(&args, key);
    pg_int(&args, before ? (int64_t)MIN(before, (uint64_t)INT64_MAX) : INT64_MAX);
    pg_int(&args, (int64_t)limit + 1);
    r = ask(b,
            "SELECT " STAT " FROM aios_versions v JOIN aios_spaces s ON s.id = v.space"
            " WHERE s.name = $1 AND v.key = $2 AND v.version < $3"
            " ORDER BY v.version DESC LIMIT $4",
            &args, w, &c, err);
    return r && fill_page(b, c, r, limit, ret, ret_more, err);
}

static bool postgres_usage(struct storage_backend *base, const char *space, const struct wait *w,
                           struct storage_usage *ret, struct error *err)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);
    struct pg_args args = { .count = 0 };
    struct pg_conn *c = NULL;
    PGresult *r;

    pg_text(&args, space);
    r = ask(b, "SELECT bytes, keys, versions FROM aios_spaces WHERE name = $1", &args, w, &c, err);
    if (!r)
        return false;
    *ret = (struct storage_usage){ .bytes = 0 };
    if (c->pq->ntuples(r) == 1) {
        ret->bytes = (uint64_t)pg_get_int(c, r, 0, 0);
        ret->keys = (uint64_t)pg_get_int(c, r, 0, 1);
        ret->versions = (uint64_t)pg_get_int(c, r, 0, 2);
    }
    answered(b, c, r);
    return true;
}

static void postgres_free(struct storage_backend *base)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);

    pg_pool_fini(&b->pool);
    free(b);
}

struct storage_backend *storage_postgres_new(const struct config *config, const char *state_dir,
                                             struct error *err)
{
    struct postgres_backend *b = calloc(1, sizeof *b);

    (void)state_dir;
    if (!b) {
        error_set(err, ERR_NOMEM, "the PostgreSQL back end");
        return NULL;
    }
    b->base = (struct storage_backend){ .name = "postgres",
                                        .shared = true,
                                        .write = postgres_write,
                                        .read = postgres_read,
                                        .stat = postgres_stat,
                                        .list = postgres_list,
                                        .versions = postgres_versions,
                                        .usage = postgres_usage,
                                        .free = postgres_free };
    if (pg_pool_init(&b->pool, config, err))
        return &b->base;
    postgres_free(&b->base);
    return NULL;
}
