/*
 * storage_postgres_internal - connections to a PostgreSQL server, statements with a deadline, and
 * what the files of the back end share.
 *
 * Threads: the pool is any thread's; a connection belongs to whoever took it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/base/cancel.h"
#include "kernel/base/list.h"
#include "kernel/storage_postgres_libpq.h"
#include "kernel/storage_queue.h"

#define PG_ARGS       10
#define PG_TRIES      4             /* of what a lost connection undid */
#define PG_VALUE_MOST (1000u << 20) /* what a field can hold, less the way there */

struct pg_pool {
    const char *variable; /* of the environment: all that is ever said of where the server is */
    char *dsn, *password; /* never in a text; password may be NULL */
    _Atomic(const struct postgres_libpq *) pq;
    unsigned most;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t given; /* one came back, or one may be made */
    struct list idle;
    unsigned open;
    bool schema_ready;
};

struct pg_conn {
    struct list link;
    const struct postgres_libpq *pq;
    PGconn *pg;
    int wake_fd;      /* an eventfd that a raised token writes to */
    unsigned pending; /* statements whose results were not taken yet */
    bool unsent;      /* one of them could not be sent */
    bool prepared;    /* whoever writes has its statements here */
    bool dead;        /* to be closed, not given back */
};

/** What became of a statement or a connection. */
enum pg_outcome {
    PG_DONE,
    PG_AGAIN,  /* the server gave up on it, or is not there any more: nothing of it holds */
    PG_FAILED, /* it would fail again */
};

NODISCARD bool pg_pool_init(struct pg_pool *p, const struct config *config, struct error *err);
void pg_pool_fini(struct pg_pool *p);

/** A live connection, with the schema there.  NULL: ERR_LOST when no server answers. */
NODISCARD struct pg_conn *pg_pool_take(struct pg_pool *p, const struct wait *w, struct error *err);
void pg_pool_give(struct pg_pool *p, struct pg_conn *c);

/* Of the pool: a new connection, ready for statements, and the end of one (NULL is allowed). */
NODISCARD struct pg_conn *pg_conn_new(struct pg_pool *p, const struct wait *w, struct error *err);
void pg_conn_free(struct pg_conn *c);

struct pg_args {
    int count;
    Oid types[PG_ARGS];
    const char *values[PG_ARGS];
    int lengths[PG_ARGS];
    int formats[PG_ARGS];
    unsigned char numbers[PG_ARGS][8];
};

void pg_int(struct pg_args *a, int64_t value);
void pg_bytes(struct pg_args *a, const void *data, size_t len);
void pg_text(struct pg_args *a, const char *text); /* as bytes */

/** One statement; *ret_result (may be NULL) is for pq->clear().  On anything but PG_DONE @err is
 *  set; after PG_AGAIN by a lost connection, a passed deadline or a raised token, c->dead. */
NODISCARD enum pg_outcome pg_run(struct pg_conn *c, const char *sql, const struct pg_args *args,
                                 const struct wait *w, PGresult **ret_result, struct error *err);

/* Several statements in one round trip: each pg_send(), pg_flush() once, and pg_next() for the
 * result of each.  All of them end as pg_run() does; a failure of pg_send() is told by pg_flush().
 * When one was refused those behind it are not done, and the last result ends that. */
void pg_send(struct pg_conn *c, const char *sql, const struct pg_args *args);
void pg_send_prepared(struct pg_conn *c, const char *name, const struct pg_args *args);
NODISCARD enum pg_outcome pg_flush(struct pg_conn *c, const struct wait *w, struct error *err);
NODISCARD enum pg_outcome pg_next(struct pg_conn *c, const struct wait *w, PGresult **ret_result,
                                  struct error *err);

/** As pg_send(): a statement for pg_send_prepared(), which the server then plans once.  @types: for
 *  each argument 'i' (pg_int) or 'b' (pg_bytes, pg_text). */
void pg_prepare(struct pg_conn *c, const char *name, const char *types, const char *sql);

/** Waits @ms, less when the token of @w is raised. */
void pg_pause(struct pg_conn *c, int ms, const struct wait *w);

int64_t pg_get_int(const struct pg_conn *c, const PGresult *r, int row, int column);
void pg_get_text(const struct pg_conn *c, const PGresult *r, int row, int column, char *to,
                 size_t size);

/* ---- storage_postgres.c ---- */

struct postgres_backend {
    struct storage_backend base;
    struct pg_pool pool;
    struct storage_queue queue;
};

/** Runs @sql for reading, again on another connection where the first one was lost. */
NODISCARD PGresult *postgres_ask(struct postgres_backend *b, const char *sql,
                                 const struct pg_args *args, const struct wait *w,
                                 struct pg_conn **ret_conn, struct error *err);

/** @r of postgres_ask() was read: clears it, and gives the connection back. */
void postgres_answered(struct postgres_backend *b, struct pg_conn *c, PGresult *r);

/* ---- storage_postgres_write.c ---- */

storage_run_fn postgres_write_group;
