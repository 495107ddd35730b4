/* Connections for whoever needs one, and the tables that they meet. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "kernel/base/clock.h"
#include "kernel/config.h"
#include "kernel/storage_postgres_internal.h"

#define SCHEMA_VERSION 1
#define SCHEMA_LOCK    "4702111234474983745" /* an advisory lock while the tables are made */

/* ---- the schema ---- */

/* The tables, once: whoever comes first makes them, under a lock that other kernels wait for. */
static const char *const schema[] = {
    "SELECT pg_advisory_xact_lock(" SCHEMA_LOCK ")",
    "CREATE TABLE IF NOT EXISTS aios_schema (version bigint NOT NULL)",
    "INSERT INTO aios_schema SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM aios_schema)",
    "CREATE TABLE IF NOT EXISTS aios_spaces (id bigserial PRIMARY KEY, name bytea UNIQUE NOT NULL,"
    " bytes bigint NOT NULL, keys bigint NOT NULL, versions bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS aios_heads (space bigint NOT NULL REFERENCES aios_spaces,"
    " key bytea NOT NULL, newest bigint NOT NULL, live bigint NOT NULL, PRIMARY KEY (space, key))",
    "CREATE TABLE IF NOT EXISTS aios_versions (space bigint NOT NULL REFERENCES aios_spaces,"
    " key bytea NOT NULL, version bigint NOT NULL, wall_ns bigint NOT NULL, bytes bigint NOT NULL,"
    " sha256 bytea NOT NULL, value bytea, PRIMARY KEY (space, key, version))",
    /* Neither compressed nor read whole for a part of it. */
    "ALTER TABLE aios_versions ALTER COLUMN value SET STORAGE EXTERNAL",
};

static bool check_version(struct pg_conn *c, const struct wait *w, struct error *err)
{
    PGresult *r = NULL;
    int64_t version;

    if (pg_run(c, "SELECT max(version) FROM aios_schema", NULL, w, &r, err) != PG_DONE)
        return false;
    version = c->pq->ntuples(r) == 1 ? pg_get_int(c, r, 0, 0) : 0;
    c->pq->clear(r);
    return version == SCHEMA_VERSION ||
           error_set(err, ERR_UNSUPPORTED,
                     "the tables in the PostgreSQL database are of version %lld, and this program "
                     "knows version %d",
                     (long long)version, SCHEMA_VERSION);
}

static bool tables_are_there(struct pg_conn *c, const struct wait *w, bool *ret, struct error *err)
{
    PGresult *r = NULL;

    if (pg_run(c, "SELECT 1 WHERE to_regclass('aios_versions') IS NOT NULL", NULL, w, &r, err) !=
        PG_DONE)
        return false;
    *ret = c->pq->ntuples(r) == 1;
    c->pq->clear(r);
    return true;
}

static bool make_schema(struct pg_conn *c, const struct wait *w, struct error *err)
{
    bool there;

    if (!tables_are_there(c, w, &there, err))
        return false;
    if (!there) {
        if (pg_run(c, "BEGIN", NULL, w, NULL, err) != PG_DONE)
            return false;
        for (size_t i = 0; i < ARRAY_LEN(schema); i++) {
            if (pg_run(c, schema[i], NULL, w, NULL, err) != PG_DONE)
                return error_prefix(err, "make the tables of storage");
        }
        if (pg_run(c, "COMMIT", NULL, w, NULL, err) != PG_DONE)
            return false;
    }
    return check_version(c, w, err);
}

/* ---- the pool ---- */

/* Something to read on an idle connection is its end, or a notice that the end is near. */
static bool is_stale(struct pg_conn *c)
{
    struct pollfd fd = { .fd = c->pq->socket(c->pg), .events = POLLIN };
    eventfd_t woken;

    (void)!eventfd_read(c->wake_fd, &woken); /* what woke an earlier call is over */
    if (poll(&fd, 1, 0) == 0)
        return false;
    return !c->pq->consume_input(c->pg) || c->pq->status(c->pg) == CONNECTION_BAD;
}

static void wake_pool(void *arg)
{
    struct pg_pool *p = arg;

    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->given);
    pthread_mutex_unlock(&p->lock);
}

/* An idle connection; NULL without an error: make one, it is counted already. */
static struct pg_conn *find_idle(struct pg_pool *p, const struct wait *w, bool *ret_ok,
                                 struct error *err)
{
    struct cancel_hook hook;
    struct pg_conn *c = NULL;
    bool in_time = true;

    cancel_attach(w->cancel, &hook, wake_pool, p);
    pthread_mutex_lock(&p->lock);
    while (in_time && list_empty(&p->idle) && p->open >= p->most)
        in_time = wait_cond(w, &p->given, &p->lock);
    *ret_ok = !list_empty(&p->idle) || p->open < p->most;
    if (!list_empty(&p->idle)) {
        c = LIST_ENTRY(p->idle.next, struct pg_conn, link);
        list_remove(&c->link);
    } else if (*ret_ok) {
        p->open++;
    }
    pthread_mutex_unlock(&p->lock);
    cancel_detach(w->cancel, &hook);
    if (!*ret_ok && wait_check(w, err))
        error_set(err, ERR_TIMEOUT, "the deadline passed");
    return c;
}

static void one_less(struct pg_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->open--;
    pthread_cond_signal(&p->given);
    pthread_mutex_unlock(&p->lock);
}

static bool load_module(struct pg_pool *p, struct error *err)
{
    const struct postgres_libpq *pq = p->pq;

    if (!pq)
        pq = plugin_open("postgres", POSTGRES_LIBPQ_SYMBOL, sizeof *pq, err);
    p->pq = pq;
    return pq != NULL;
}

static bool schema_is_ready(struct pg_pool *p, bool set)
{
    bool ready;

    pthread_mutex_lock(&p->lock);
    p->schema_ready |= set;
    ready = p->schema_ready;
    pthread_mutex_unlock(&p->lock);
    return ready;
}

struct pg_conn *pg_pool_take(struct pg_pool *p, const struct wait *w, struct error *err)
{
    struct pg_conn *c;
    bool ok;

    if (!wait_check(w, err))
        return NULL;
    for (;;) {
        c = find_idle(p, w, &ok, err);
        if (!ok)
            return NULL;
        if (c && !is_stale(c))
            return c;
        if (!c)
            break;
        pg_conn_free(c);
        one_less(p);
    }
    c = pg_conn_new(p, w, err);
    if (c && !schema_is_ready(p, false)) {
        if (make_schema(c, w, err)) {
            (void)schema_is_ready(p, true);
        } else {
            pg_conn_free(c);
            c = NULL;
        }
    }
    if (!c)
        one_less(p);
    return c;
}

void pg_pool_give(struct pg_pool *p, struct pg_conn *c)
{
    if (c->dead) {
        pg_conn_free(c);
        one_less(p);
        return;
    }
    pthread_mutex_lock(&p->lock);
    list_prepend(&p->idle, &c->link);
    pthread_cond_signal(&p->given);
    pthread_mutex_unlock(&p->lock);
}

/* A connection string that libpq does not understand is not repeated: it may hold the password. */
static bool read_dsn(struct pg_pool *p, struct error *err)
{
    const struct postgres_libpq *pq = p->pq;
    PQconninfoOption *options = pq->conninfo_parse(p->dsn, NULL);
    bool ok = true;

    if (!options)
        return error_set(err, ERR_INVALID,
                         "the connection string in the environment variable %s is not one that "
                         "libpq understands",
                         p->variable);
    for (const PQconninfoOption *o = options; ok && o->keyword; o++) {
        if (!strcmp(o->keyword, "password") && o->val && *o->val)
            ok = (p->password = strdup(o->val)) != NULL;
    }
    pq->conninfo_free(options);
    return ok || error_set(err, ERR_NOMEM, "the connection string of PostgreSQL");
}

bool pg_pool_init(struct pg_pool *p, const struct config *config, struct error *err)
{
    const char *dsn = *config->postgres.dsn_env ? getenv(config->postgres.dsn_env) : NULL;

    *p = (struct pg_pool){ .variable = config->postgres.dsn_env,
                           .most = (unsigned)config->postgres.connections };
    pthread_mutex_init(&p->lock, NULL);
    cond_init(&p->given);
    list_init(&p->idle);
    if (!dsn || !*dsn)
        return error_set(err, ERR_INVALID,
                         "the environment variable %s, which holds the connection string of "
                         "PostgreSQL, is not set",
                         p->variable);
    p->dsn = strdup(dsn);
    if (!p->dsn)
        return error_set(err, ERR_NOMEM, "the connection string of PostgreSQL");
    return load_module(p, err) && read_dsn(p, err);
}

void pg_pool_fini(struct pg_pool *p)
{
    LIST_FOR_EACH_SAFE (node, &p->idle)
        pg_conn_free(LIST_ENTRY(node, struct pg_conn, link));
    if (p->password)
        explicit_bzero(p->password, strlen(p->password));
    if (p->dsn)
        explicit_bzero(p->dsn, strlen(p->dsn));
    free(p->password);
    free(p->dsn);
    pthread_cond_destroy(&p->given);
    pthread_mutex_destroy(&p->lock);
}
