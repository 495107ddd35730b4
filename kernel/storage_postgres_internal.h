/*
 * storage_postgres_internal - connections to a PostgreSQL server, and statements with a deadline.
 *
 * Threads: the pool is any thread's; a connection belongs to whoever took it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/base/cancel.h"
#include "kernel/base/list.h"
#include "kernel/storage_backend.h"
#include "kernel/storage_postgres_libpq.h"

#define PG_ARGS 10

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
    int wake_fd; /* an eventfd that a raised token writes to */
    bool dead;   /* to be closed, not given back */
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

/** Waits @ms, less when the token of @w is raised. */
void pg_pause(struct pg_conn *c, int ms, const struct wait *w);

int64_t pg_get_int(const struct pg_conn *c, const PGresult *r, int row, int column);
