/*
 * storage_sqlite - the parts of the SQLite back end: connections, reading, writing.
 *
 * One connection writes, for whoever leads the queue; up to READERS others read, each in the hands
 * of one thread at a time.  The write-ahead log lets them read while it writes. Threads: any.
 */
#pragma once

#include <pthread.h>
#include <sqlite3.h>

#include "kernel/storage_internal.h"
#include "kernel/storage_queue.h"

#define STORAGE_SQLITE_READERS 8u

struct config;

/** One connection with what is prepared on it. */
struct sqlite_conn {
    struct list link;        /* in the list of idle ones */
    const struct wait *wait; /* of the call that uses it */
    int64_t busy_until_ns; /* when a lock of another program is given up on; 0: BUSY_NS after it is
                              met */
    const char *path;      /* borrowed */
    sqlite3 *db;

    /* Spaces keep their ids for ever, so that of the last one is remembered. */
    char space[STORAGE_SPACE_BYTES + 1];
    sqlite3_int64 id;

    /* reading */
    sqlite3_stmt *begin, *commit, *newest, *exact, *at_time, *next_key, *versions, *usage,
        *space_id;
    /* writing */
    sqlite3_stmt *begin_now, *rollback, *space_get, *space_add, *space_set, *ends, *old_sum,
        *old_values, *old_versions, *add_value, *add_version;
};

struct sqlite_backend {
    struct storage_backend base;
    char *path;

    pthread_mutex_t pool_lock; /* guards idle and open */
    pthread_cond_t pool_freed;
    struct list idle;
    unsigned open;

    struct storage_queue queue;
    struct sqlite_conn *writer; /* whoever leads */
    int64_t next_value;         /* whoever leads */
};

/* ---- storage_sqlite.c ---- */

/** Sets what SQLite's result of the last call on @c means.  Returns false. */
bool sqlite_failed(struct sqlite_conn *c, int rc, const char *what, struct error *err);

/** One step of a statement that returns no rows; it is left ready for the next use. */
NODISCARD bool sqlite_run(struct sqlite_conn *c, sqlite3_stmt *stmt, const char *what,
                          struct error *err);
void sqlite_bind_text(sqlite3_stmt *stmt, int at, const char *text);

/* ---- storage_sqlite_write.c ---- */

storage_run_fn sqlite_write_group;
bool sqlite_write(struct storage_backend *base, const char *space, struct storage_op *ops,
                  size_t count, const struct storage_limits *limits, const struct wait *w,
                  size_t *ret_failed, struct error *err);
void sqlite_write_many(struct storage_backend *base, struct storage_write *writes, size_t count,
                       const struct storage_limits *limits);

/* ---- storage_sqlite_read.c ---- */

bool sqlite_read(struct storage_backend *base, const char *space, const char *key, uint64_t version,
                 uint64_t offset, size_t max, struct buf *out, const struct wait *w,
                 struct storage_stat *ret, struct error *err);
bool sqlite_stat(struct storage_backend *base, const char *space, const char *key, uint64_t version,
                 int64_t at_wall_ns, const struct wait *w, struct storage_stat *ret,
                 struct error *err);
bool sqlite_list(struct storage_backend *base, const char *space, const char *prefix,
                 const char *after, size_t limit, const struct wait *w, struct storage_page *ret,
                 bool *ret_more, struct error *err);
bool sqlite_versions(struct storage_backend *base, const char *space, const char *key,
                     uint64_t before, size_t limit, const struct wait *w, struct storage_page *ret,
                     bool *ret_more, struct error *err);
bool sqlite_usage(struct storage_backend *base, const char *space, const struct wait *w,
                  struct storage_usage *ret, struct error *err);

/** A connection for reading, for sqlite_give(); opened when none is idle, waited for when there are
 *  as many as may be. */
NODISCARD struct sqlite_conn *sqlite_take(struct sqlite_backend *b, const struct wait *w,
                                          struct error *err);
void sqlite_give(struct sqlite_backend *b, struct sqlite_conn *c);
