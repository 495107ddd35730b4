/*
 * Writing to the PostgreSQL back end: what waited in the queue goes into one transaction, in two
 * round trips where no two requests are about one key: everything is locked and weighed, and then
 * written and committed.
 *
 * Nothing is written for what a rule refuses.  What the server refuses, or who has no time left,
 * spoils the transaction: that one is answered, and the others are written again without it.
 */
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/storage_postgres_internal.h"

#define FATE_TRIES    10 /* ten seconds together, each pause twice the one before */
#define FATE_PAUSE_MS 10

/* What each transaction says; the server plans it once for each connection. */
static const struct {
    const char *name, *types, *sql;
} statements[] = {
    /* The row of a space is the lock on it: one transaction at a time counts what it holds. */
    { "lock", "b",
      "SELECT id, bytes, keys, versions, txid_current() FROM aios_spaces"
      " WHERE name = $1 FOR UPDATE" },
    { "weigh", "bbi",
      "SELECT h.newest, h.live, v.wall_ns, o.count, o.bytes FROM aios_spaces s"
      " JOIN aios_heads h ON h.space = s.id"
      " JOIN aios_versions v ON v.space = h.space AND v.key = h.key AND v.version = h.newest"
      " CROSS JOIN LATERAL (SELECT count(*), coalesce(sum(o.bytes), 0)::bigint AS bytes"
      "  FROM aios_versions o WHERE o.space = h.space AND o.key = h.key"
      "  AND o.version < h.newest + 2 - $3) o"
      " WHERE s.name = $1 AND h.key = $2" },
    { "write", "ibiiibiib",
      "WITH gone AS (DELETE FROM aios_versions WHERE space = $1 AND key = $2"
      "  AND version <= $3 - $8),"
      " head AS (INSERT INTO aios_heads VALUES ($1, $2, $3, $7)"
      "  ON CONFLICT (space, key) DO UPDATE SET newest = $3, live = $7)"
      " INSERT INTO aios_versions VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $7 = 1 THEN $9 END)" },
    { "count", "iiii",
      "UPDATE aios_spaces SET bytes = $2, keys = $3, versions = $4 WHERE id = $1" },
};

struct space {
    const char *name;
    int64_t id;
    struct storage_tally tally;
    bool changed;
};

struct group {
    struct postgres_backend *b;
    struct storage_request *requests[STORAGE_GROUP]; /* not answered yet */
    size_t count;
    bool add_spaces; /* not all of them are in the database */

    /* until the first of the requests must end */
    struct wait w;
    struct cancel cancel;
    struct cancel_hook hooks[STORAGE_GROUP];

    /* one attempt */
    struct pg_conn *c;
    struct space spaces[STORAGE_GROUP]; /* by name: each transaction locks in this order */
    size_t space_count;
    size_t applied;                        /* requests that no rule refuses */
    const struct storage_request *refused; /* whose statement the server refused, or NULL */
    bool committing;
    int64_t xid;
};

/* ---- how long ---- */

static void pass_on(void *arg)
{
    cancel_raise(arg);
}

static void watch(struct group *g)
{
    cancel_init(&g->cancel);
    g->w = (struct wait){ .deadline_ns = CLOCK_NEVER, .cancel = &g->cancel };
    for (size_t i = 0; i < g->count; i++) {
        const struct wait *w = g->requests[i]->write->wait;

        g->w.deadline_ns = MIN(g->w.deadline_ns, w->deadline_ns);
        cancel_attach(w->cancel, &g->hooks[i], pass_on, &g->cancel);
    }
}

static void unwatch(struct group *g)
{
    for (size_t i = 0; i < g->count; i++)
        cancel_detach(g->requests[i]->write->wait->cancel, &g->hooks[i]);
    cancel_fini(&g->cancel);
}

static void answer(struct storage_request *r, const struct error *why)
{
    r->write->ok = false;
    r->write->failed = r->write->count;
    r->write->err = *why;
}

/* Answers @refused (may be NULL) with @why, and with @late (NULL: with that) those whose time is
 * over.  False: nobody was answered. */
static bool leave(struct group *g, const struct storage_request *refused, const struct error *why,
                  const struct error *late)
{
    const size_t count = g->count;
    size_t kept = 0;

    unwatch(g);
    for (size_t i = 0; i < count; i++) {
        struct storage_request *r = g->requests[i];
        struct error over = ERROR_INIT;

        if (refused && r == refused)
            answer(r, why);
        else if (!wait_check(r->write->wait, &over))
            answer(r, late ? late : &over);
        else
            g->requests[kept++] = r;
    }
    g->count = kept;
    watch(g);
    return kept < count;
}

static void answer_all(struct group *g, const struct error *why)
{
    unwatch(g);
    for (size_t i = 0; i < g->count; i++)
        answer(g->requests[i], why);
    g->count = 0;
    watch(g);
}

/* ---- spaces ---- */

static struct space *space_of(struct group *g, const struct storage_write *w)
{
    struct space *s = g->spaces;

    while (s < g->spaces + g->space_count && strcmp(s->name, w->space) < 0)
        s++;
    return s;
}

static void list_spaces(struct group *g)
{
    g->space_count = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct storage_write *w = g->requests[i]->write;
        struct space *s = space_of(g, w), *end = g->spaces + g->space_count;

        if (s < end && strcmp(s->name, w->space) == 0)
            continue;
        memmove(s + 1, s, (size_t)(end - s) * sizeof *s);
        *s = (struct space){ .name = w->space };
        g->space_count++;
    }
}

static void send_begin(struct group *g)
{
    pg_send(g->c, "BEGIN", NULL);
    for (size_t i = 0; !g->c->prepared && i < ARRAY_LEN(statements); i++)
        pg_prepare(g->c, statements[i].name, statements[i].types, statements[i].sql);
    for (size_t i = 0; i < g->space_count; i++) {
        struct pg_args args = { .count = 0 };

        pg_text(&args, g->spaces[i].name);
        if (g->add_spaces)
            pg_send(g->c,
                    "INSERT INTO aios_spaces (name, bytes, keys, versions)"
                    " VALUES ($1, 0, 0, 0) ON CONFLICT (name) DO NOTHING",
                    &args);
        pg_send_prepared(g->c, "lock", &args);
    }
}

static enum pg_outcome take_space(struct group *g, struct space *s, struct error *err)
{
    struct pg_conn *c = g->c;
    PGresult *r = NULL;
    enum pg_outcome outcome = pg_next(c, &g->w, &r, err);

    if (outcome != PG_DONE)
        return outcome;
    if (c->pq->ntuples(r) == 1) {
        s->id = pg_get_int(c, r, 0, 0);
        s->tally = (struct storage_tally){ .bytes = (uint64_t)pg_get_int(c, r, 0, 1),
                                           .keys = (uint64_t)pg_get_int(c, r, 0, 2),
                                           .versions = (uint64_t)pg_get_int(c, r, 0, 3) };
        g->xid = pg_get_int(c, r, 0, 4);
    } else {
        error_set(err, ERR_BUSY, "the space %s appears and disappears in the database", s->name);
        g->add_spaces = true;
        outcome = PG_AGAIN;
    }
    c->pq->clear(r);
    return outcome;
}

static enum pg_outcome take_begin(struct group *g, struct error *err)
{
    enum pg_outcome outcome = pg_next(g->c, &g->w, NULL, err);

    if (!g->c->prepared) {
        for (size_t i = 0; outcome == PG_DONE && i < ARRAY_LEN(statements); i++)
            outcome = pg_next(g->c, &g->w, NULL, err);
        g->c->prepared = outcome == PG_DONE;
        g->c->dead |= !g->c->prepared; /* which of them it has is not known */
    }
    for (size_t i = 0; outcome == PG_DONE && i < g->space_count; i++) {
        if (g->add_spaces)
            outcome = pg_next(g->c, &g->w, NULL, err);
        if (outcome == PG_DONE)
            outcome = take_space(g, &g->spaces[i], err);
    }
    return outcome;
}

/* ---- requests ---- */

static bool meet(const struct storage_write *a, const struct storage_write *b)
{
    if (strcmp(a->space, b->space) != 0)
        return false;
    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < b->count; k++)
            if (strcmp(a->ops[i].key, b->ops[k].key) == 0)
                return true;
    return false;
}

/* Those from @from on that can be weighed before any of them is written. */
static size_t wave_end(const struct group *g, size_t from)
{
    size_t to = from + 1, ops = g->requests[from]->write->count;

    for (; to < g->count; to++) {
        const struct storage_write *w = g->requests[to]->write;

        ops += w->count;
        if (ops > STORAGE_BATCH_MAX)
            return to;
        for (size_t i = from; i < to; i++)
            if (meet(g->requests[i]->write, w))
                return to;
    }
    return to;
}

static int64_t versions_of(const struct storage_request *r)
{
    return (int64_t)MIN(r->limits->versions, (uint64_t)INT64_MAX / 2);
}

static void send_weighing(struct group *g, const struct storage_request *r)
{
    for (size_t i = 0; i < r->write->count; i++) {
        struct pg_args args = { .count = 0 };

        pg_text(&args, r->write->space);
        pg_text(&args, r->write->ops[i].key);
        pg_int(&args, versions_of(r));
        pg_send_prepared(g->c, "weigh", &args);
    }
}

/* @r: what the key is now, and what goes when a version is added. */
static bool weigh_op(const struct pg_conn *c, const PGresult *r, struct storage_op *op,
                     const struct storage_limits *limits, struct storage_tally *tally,
                     struct error *err)
{
    uint64_t newest = 0, gone = 0, gone_bytes = 0;
    int64_t wall_ns = 0;
    bool live = false;

    if (c->pq->ntuples(r) == 1) {
        newest = (uint64_t)pg_get_int(c, r, 0, 0);
        live = pg_get_int(c, r, 0, 1) != 0;
        wall_ns = pg_get_int(c, r, 0, 2);
        gone = (uint64_t)pg_get_int(c, r, 0, 3);
        gone_bytes = (uint64_t)pg_get_int(c, r, 0, 4);
    }
    if (!storage_rule_condition(op, newest, live, err) ||
        !storage_rule_count(tally, op, live, gone, gone_bytes, limits, err))
        return false;
    if (op->kind == STORAGE_PUT && op->len > PG_VALUE_MOST)
        return error_set(err, ERR_LIMIT, "\"%s\" is larger than PostgreSQL can hold", op->key);
    storage_rule_stamp(op, newest + 1, wall_ns);
    return true;
}

static enum pg_outcome take_weighing(struct group *g, const struct storage_request *r,
                                     struct error *err)
{
    struct storage_write *w = r->write;
    struct space *s = space_of(g, w);
    struct storage_tally tally = s->tally;

    w->ok = true;
    w->failed = w->count;
    error_clear(&w->err);
    for (size_t i = 0; i < w->count; i++) {
        PGresult *row = NULL;
        enum pg_outcome outcome = pg_next(g->c, &g->w, &row, err);

        if (outcome != PG_DONE)
            return outcome;
        if (w->ok && !weigh_op(g->c, row, &w->ops[i], r->limits, &tally, &w->err)) {
            w->ok = false;
            w->failed = i;
        }
        g->c->pq->clear(row);
    }
    if (w->ok) {
        s->tally = tally;
        s->changed = true;
        g->applied++;
    }
    return PG_DONE;
}

static void send_writing(struct group *g, const struct storage_request *r)
{
    const struct space *s = space_of(g, r->write);

    for (size_t i = 0; r->write->ok && i < r->write->count; i++) {
        const struct storage_op *op = &r->write->ops[i];
        struct pg_args args = { .count = 0 };
        bool put = op->kind == STORAGE_PUT;

        pg_int(&args, s->id);
        pg_text(&args, op->key);
        pg_int(&args, (int64_t)op->stat.version);
        pg_int(&args, op->stat.wall_ns);
        pg_int(&args, (int64_t)op->stat.bytes);
        pg_text(&args, op->stat.sha256);
        pg_int(&args, put ? 1 : 0);
        pg_int(&args, versions_of(r));
        pg_bytes(&args, put ? op->data : NULL, put ? op->len : 0);
        pg_send_prepared(g->c, "write", &args);
    }
}

static enum pg_outcome take_writing(struct group *g, size_t from, size_t to, struct error *err)
{
    for (size_t i = from; i < to; i++) {
        const struct storage_write *w = g->requests[i]->write;

        for (size_t k = 0; w->ok && k < w->count; k++) {
            enum pg_outcome outcome = pg_next(g->c, &g->w, NULL, err);

            if (outcome == PG_FAILED && !g->c->dead)
                g->refused = g->requests[i];
            if (outcome != PG_DONE)
                return outcome;
        }
    }
    return PG_DONE;
}

/* ---- one transaction ---- */

static enum pg_outcome commit(struct group *g, size_t unread, struct error *err)
{
    enum pg_outcome outcome;
    size_t left = 1;

    for (size_t i = 0; i < g->space_count; i++) {
        const struct space *s = &g->spaces[i];
        struct pg_args args = { .count = 0 };

        if (!s->changed)
            continue;
        pg_int(&args, s->id);
        pg_int(&args, (int64_t)s->tally.bytes);
        pg_int(&args, (int64_t)s->tally.keys);
        pg_int(&args, (int64_t)s->tally.versions);
        pg_send_prepared(g->c, "count", &args);
        left++;
    }
    pg_send(g->c, "COMMIT", NULL);
    g->committing = true;
    outcome = pg_flush(g->c, &g->w, err);
    if (outcome == PG_DONE)
        outcome = take_writing(g, unread, g->count, err);
    for (; outcome == PG_DONE && left > 0; left--)
        outcome = pg_next(g->c, &g->w, NULL, err);
    return outcome;
}

/* What one wave writes goes out with what weighs the next one, or with the commit. */
static enum pg_outcome transact(struct group *g, struct error *err)
{
    size_t unread = 0, to;

    list_spaces(g);
    send_begin(g);
    for (size_t from = 0; from < g->count; unread = from, from = to) {
        enum pg_outcome outcome;

        to = wave_end(g, from);
        for (size_t i = from; i < to; i++)
            send_weighing(g, g->requests[i]);
        outcome = pg_flush(g->c, &g->w, err);
        if (outcome == PG_DONE && from == 0)
            outcome = take_begin(g, err);
        if (outcome == PG_DONE)
            outcome = take_writing(g, unread, from, err);
        for (size_t i = from; outcome == PG_DONE && i < to; i++)
            outcome = take_weighing(g, g->requests[i], err);
        if (outcome != PG_DONE)
            return outcome;
        for (size_t i = from; i < to; i++)
            send_writing(g, g->requests[i]);
    }
    return g->applied > 0 ? commit(g, unread, err) : PG_DONE;
}

static void roll_back(struct pg_conn *c)
{
    /* The callers' time may be over, the connection is not. */
    struct wait soon = { .deadline_ns = clock_add_ns(clock_now_ns(), CLOCK_NS_PER_S) };

    while (c->pending > 0 && !c->dead)
        UNCHECKED(pg_next(c, &soon, NULL, NULL)); /* not done, after the one that was refused */
    if (!c->dead && pg_run(c, "ROLLBACK", NULL, &soon, NULL, NULL) != PG_DONE)
        c->dead = true;
}

/* ---- what became of it ---- */

static enum pg_outcome ask_server(const struct group *g)
{
    struct pg_args args = { .count = 0 };

    pg_int(&args, g->xid);
    for (unsigned attempt = 0; attempt < FATE_TRIES; attempt++) {
        struct pg_conn *c = NULL;
        char status[16] = "";
        PGresult *r = postgres_ask(g->b, "SELECT txid_status($1)", &args, &g->w, &c, NULL);

        if (!r)
            break;
        if (c->pq->ntuples(r) == 1)
            pg_get_text(c, r, 0, 0, status, sizeof status);
        if (!strcmp(status, "in progress")) /* it has not yet seen that we are gone */
            pg_pause(c, FATE_PAUSE_MS << attempt, &g->w);
        postgres_answered(g->b, c, r);
        if (!strcmp(status, "committed"))
            return PG_DONE;
        if (!strcmp(status, "aborted"))
            return PG_AGAIN;
    }
    return PG_FAILED;
}

/* The answer to COMMIT did not come: the server knows what became of it, once it is back.  Nobody
 * is left in the group when that cannot be known. */
static enum pg_outcome ask_fate(struct group *g)
{
    struct error unknown = ERROR_INIT;

    error_set(&unknown, ERR_LOST,
              "the connection to the PostgreSQL server was lost while it was committing: it is not "
              "known whether this was written");
    while (g->count > 0) {
        enum pg_outcome outcome = ask_server(g);

        if (outcome != PG_FAILED)
            return outcome;
        if (leave(g, NULL, &unknown, &unknown))
            continue; /* the others have time to ask again */
        answer_all(g, &unknown);
    }
    return PG_FAILED;
}

static enum pg_outcome write_once(struct group *g, struct error *err)
{
    struct pg_conn *c = g->c = pg_pool_take(&g->b->pool, &g->w, err);
    enum pg_outcome outcome;
    bool gone;

    g->applied = 0;
    g->refused = NULL;
    g->committing = false;
    if (!c)
        return PG_FAILED;
    outcome = transact(g, err);
    gone = outcome != PG_DONE && g->committing && c->dead;
    if (outcome != PG_DONE || g->applied == 0)
        roll_back(c);
    pg_pool_give(&g->b->pool, c);
    return gone ? ask_fate(g) : outcome;
}

void postgres_write_group(struct storage_backend *base, struct storage_request **requests,
                          size_t count)
{
    struct postgres_backend *b = CONTAINER_OF(base, struct postgres_backend, base);
    struct group g = { .b = b, .count = count };

    for (size_t i = 0; i < count; i++)
        g.requests[i] = requests[i];
    watch(&g);
    for (unsigned attempt = 1; g.count > 0; attempt++) {
        struct error fault = ERROR_INIT;
        enum pg_outcome outcome = write_once(&g, &fault);

        if (outcome == PG_DONE) {
            storage_queue_committed(&b->queue, g.applied);
            break;
        }
        if (leave(&g, g.refused, &fault, NULL))
            attempt = 0;
        else if (outcome == PG_FAILED || attempt == PG_TRIES)
            answer_all(&g, &fault);
    }
    unwatch(&g);
}
