/* The PostgreSQL back end: what storage asks, as transactions. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/storage_postgres_internal.h"

/* The columns of a stat, in this order. */
#define STAT "v.key, v.version, v.wall_ns, v.bytes, v.sha256"
enum { AT_KEY, AT_VERSION, AT_WALL, AT_BYTES, AT_SHA, AT_VALUE };

static void get_stat(const struct pg_conn *c, const PGresult *r, int row, struct storage_stat *ret)
{
    *ret = (struct storage_stat){ .version = (uint64_t)pg_get_int(c, r, row, AT_VERSION),
                                  .wall_ns = pg_get_int(c, r, row, AT_WALL),
                                  .bytes = (uint64_t)pg_get_int(c, r, row, AT_BYTES) };
    pg_get_text(c, r, row, AT_KEY, ret->key, sizeof ret->key);
    pg_get_text(c, r, row, AT_SHA, ret->sha256, sizeof ret->sha256);
    ret->deleted = !*ret->sha256;
}

PGresult *postgres_ask(struct postgres_backend *b, const char *sql, const struct pg_args *args,
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
        if (outcome == PG_FAILED || attempt == PG_TRIES) {
            error_set(err, fault.code, "%s", fault.text);
            return NULL;
        }
    }
}

void postgres_answered(struct postgres_backend *b, struct pg_conn *c, PGresult *r)
{
    c->pq->clear(r);
    pg_pool_give(&b->pool, c);
}

/* ---- writing ---- */

static bool postgres_write(struct storage_backend *base, const char *space, struct storage_op *ops,
                           size_t count, const struct storage_limits *limits, const struct wait *w,
                           size_t *ret_failed, struct error *err)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);

    return storage_queue_write(&b->queue, space, ops, count, limits, w, ret_failed, err);
}

static void postgres_write_many(struct storage_backend *base, struct storage_write *writes,
                                size_t count, const struct storage_limits *limits)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);

    storage_queue_write_many(&b->queue, writes, count, limits);
}

static void postgres_stats(struct storage_backend *base, struct storage_stats *ret)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);

    storage_queue_stats(&b->queue, ret);
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
    pg_int(&args, (int64_t)MIN(max, (size_t)PG_VALUE_MOST));
    r = postgres_ask(b, version ? exact : at_wall_ns ? at_time : newest, &args, w, ret_conn, err);
    if (r && (*ret_conn)->pq->ntuples(r) == 0) {
        postgres_answered(b, *ret_conn, r);
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
    postgres_answered(b, c, r);
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
    postgres_answered(b, c, r);
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
    postgres_answered(b, c, r);
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
    r = postgres_ask(
        b,
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
    r = postgres_ask(b,
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
    r = postgres_ask(b, "SELECT bytes, keys, versions FROM aios_spaces WHERE name = $1", &args, w,
                     &c, err);
    if (!r)
        return false;
    *ret = (struct storage_usage){ .bytes = 0 };
    if (c->pq->ntuples(r) == 1) {
        ret->bytes = (uint64_t)pg_get_int(c, r, 0, 0);
        ret->keys = (uint64_t)pg_get_int(c, r, 0, 1);
        ret->versions = (uint64_t)pg_get_int(c, r, 0, 2);
    }
    postgres_answered(b, c, r);
    return true;
}

static void postgres_free(struct storage_backend *base)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);

    storage_queue_fini(&b->queue);
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
                                        .write_many = postgres_write_many,
                                        .read = postgres_read,
                                        .stat = postgres_stat,
                                        .list = postgres_list,
                                        .versions = postgres_versions,
                                        .usage = postgres_usage,
                                        .stats = postgres_stats,
                                        .free = postgres_free };
    storage_queue_init(&b->queue, &b->base, postgres_write_group);
    if (pg_pool_init(&b->pool, config, err))
        return &b->base;
    postgres_free(&b->base);
    return NULL;
}
