/* Connections: made, pooled, found dead; statements that end in time. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/utf8.h"
#include "kernel/config.h"
#include "kernel/storage_postgres_internal.h"

#define CONNECT_NS    (10 * CLOCK_NS_PER_S)
#define POLL_MS       100 /* longest wait without a look at the clock, which a test may turn */
#define MESSAGE_BYTES 300u

#define OID_BYTEA 17
#define OID_INT8  20

/* ---- arguments and results ---- */

static void add(struct pg_args *a, Oid type, const void *value, size_t len)
{
    assert(a->count < PG_ARGS);
    a->types[a->count] = type;
    a->values[a->count] = value;
    a->lengths[a->count] = (int)len;
    a->formats[a->count] = 1;
    a->count++;
}

void pg_int(struct pg_args *a, int64_t value)
{
    unsigned char *at;

    assert(a->count < PG_ARGS);
    at = a->numbers[a->count];
    for (int i = 0; i < 8; i++)
        at[i] = (unsigned char)((uint64_t)value >> (56 - 8 * i));
    add(a, OID_INT8, at, 8);
}

void pg_bytes(struct pg_args *a, const void *data, size_t len)
{
    add(a, OID_BYTEA, len ? data : "", len);
}

void pg_text(struct pg_args *a, const char *text)
{
    pg_bytes(a, text, strlen(text));
}

int64_t pg_get_int(const struct pg_conn *c, const PGresult *r, int row, int column)
{
    const unsigned char *at = (const unsigned char *)c->pq->getvalue(r, row, column);
    uint64_t value = 0;

    if (c->pq->getlength(r, row, column) != 8)
        return 0; /* null */
    for (int i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return (int64_t)value;
}

void pg_get_text(const struct pg_conn *c, const PGresult *r, int row, int column, char *to,
                 size_t size)
{
    (void)snprintf(to, size, "%.*s", c->pq->getlength(r, row, column),
                   c->pq->getvalue(r, row, column));
}

/* ---- what a server says, as a text of ours ---- */

/* One line, valid UTF-8, without the password even if a server should repeat it. */
static void tidy_message(const char *said, const char *password, char text[MESSAGE_BYTES])
{
    struct buf clean = BUF_INIT;
    size_t len = 0;

    if (password && *password && strstr(said, password))
        said = "it said something that holds the password";
    if (utf8_append_valid(&clean, said, strnlen(said, MESSAGE_BYTES * 2)) < 0) {
        (void)snprintf(text, MESSAGE_BYTES, "out of memory");
        buf_fini(&clean);
        return;
    }
    len = utf8_cut(buf_str(&clean), clean.len, MIN(clean.len, (size_t)MESSAGE_BYTES - 1));
    memcpy(text, buf_str(&clean), len);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    text[len] = '\0';
    for (char *at = text; *at; at++) {
        if ((unsigned char)*at < 0x20)
            *at = ' ';
    }
    buf_fini(&clean);
}

static bool lost(struct pg_conn *c, const char *password, struct error *err)
{
    char text[MESSAGE_BYTES];

    c->dead = true;
    tidy_message(c->pq->error_message(c->pg), password, text);
    return error_set(err, ERR_LOST, "the PostgreSQL server is gone: %s",
                     *text ? text : "the connection was closed");
}

static enum pg_outcome refused(struct pg_conn *c, const PGresult *r, struct error *err)
{
    static const struct {
        const char *state; /* the beginning of SQLSTATE */
        enum error_code code;
        enum pg_outcome outcome;
    } known[] = {
        { "40001", ERR_BUSY, PG_AGAIN },    { "40P01", ERR_BUSY, PG_AGAIN },
        { "55P03", ERR_BUSY, PG_AGAIN },    { "57P", ERR_LOST, PG_AGAIN },
        { "08", ERR_LOST, PG_AGAIN },       { "57014", ERR_TIMEOUT, PG_FAILED },
        { "42501", ERR_DENIED, PG_FAILED }, { "28", ERR_DENIED, PG_FAILED },
        { "54", ERR_LIMIT, PG_FAILED },     { "53200", ERR_LIMIT, PG_FAILED },
    };
    const char *state = c->pq->result_error_field(r, PG_DIAG_SQLSTATE);
    const char *said = c->pq->result_error_field(r, PG_DIAG_MESSAGE_PRIMARY);
    enum pg_outcome outcome = PG_FAILED;
    enum error_code code = ERR_IO;
    char text[MESSAGE_BYTES];

    state = state ? state : "";
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (!strncmp(state, known[i].state, strlen(known[i].state))) {
            code = known[i].code;
            outcome = known[i].outcome;
            break;
        }
    }
    if (code == ERR_LOST)
        c->dead = true;
    tidy_message(said ? said : "no reason given", NULL, text);
    error_set(err, code, "the PostgreSQL server refused: %s%s%s%s", text, *state ? " (" : "", state,
              *state ? ")" : "");
    return outcome;
}

/* ---- waiting ---- */

static void wake(void *arg)
{
    struct pg_conn *c = arg;

    (void)eventfd_write(c->wake_fd, 1);
}

/* Until the socket is ready; false with @err when there is no time left. */
static bool wait_socket(struct pg_conn *c, short events, const struct wait *w, struct error *err)
{
    struct pollfd fds[] = { { .fd = c->pq->socket(c->pg), .events = events },
                            { .fd = c->wake_fd, .events = POLLIN } };
    struct cancel_hook hook;
    bool ok, ready = false;

    cancel_attach(w->cancel, &hook, wake, c);
    while ((ok = wait_check(w, err)) && !ready)
        ready = poll(fds, 2, clock_left_ms(w->deadline_ns, POLL_MS)) > 0 && fds[0].revents;
    cancel_detach(w->cancel, &hook);
    return ok;
}

static bool send_all(struct pg_conn *c, const struct wait *w, struct error *err)
{
    int left;

    while ((left = c->pq->flush(c->pg)) == 1) {
        if (!wait_socket(c, POLLIN | POLLOUT, w, err))
            return false;
        if (!c->pq->consume_input(c->pg))
            return lost(c, NULL, err);
    }
    return left == 0 || lost(c, NULL, err);
}

/* What comes next; false when the connection is of no more use. */
static bool receive(struct pg_conn *c, const struct wait *w, PGresult **ret, struct error *err)
{
    while (c->pq->is_busy(c->pg)) {
        if (!wait_socket(c, POLLIN, w, err) ||
            (!c->pq->consume_input(c->pg) && !lost(c, NULL, err)))
            return false;
    }
    *ret = c->pq->get_result(c->pg);
    return true;
}

/* The result of the next statement, and behind the last one the end of all; NULL when the
 * connection is of no more use. */
static PGresult *receive_one(struct pg_conn *c, const struct wait *w, struct error *err)
{
    PGresult *first = NULL, *next = NULL;
    bool ok = receive(c, w, &first, err) && (first || lost(c, NULL, err));

    /* What ends the connection ends the statements, too. */
    while (ok && c->pq->status(c->pg) != CONNECTION_BAD && (ok = receive(c, w, &next, err)) && next)
        c->pq->clear(next);
    if (ok && --c->pending == 0 && c->pq->status(c->pg) != CONNECTION_BAD) {
        ok = receive(c, w, &next, err);
        c->pq->clear(next);
    }
    if (ok)
        return first;
    c->pq->clear(first);
    return NULL;
}

static enum pg_outcome judge(struct pg_conn *c, PGresult *r, PGresult **ret_result,
                             struct error *err)
{
    ExecStatusType status = c->pq->result_status(r);
    enum pg_outcome outcome = PG_DONE;

    if (c->pq->status(c->pg) == CONNECTION_BAD) {
        const char *state = c->pq->result_error_field(r, PG_DIAG_SQLSTATE);

        c->dead = true;
        if (!state || strncmp(state, "57P", 3) != 0) {
            (void)lost(c, NULL, err);
            outcome = PG_AGAIN;
        } else {
            outcome = refused(c, r, err);
        }
    } else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        outcome = refused(c, r, err);
    }
    if (outcome == PG_DONE && ret_result)
        *ret_result = r;
    else
        c->pq->clear(r);
    return outcome;
}

/* Also when the time was over: the server ends the statement when it sees us gone. */
static enum pg_outcome give_up(struct pg_conn *c)
{
    bool gone = c->dead;

    c->dead = true;
    return gone ? PG_AGAIN : PG_FAILED;
}

void pg_send(struct pg_conn *c, const char *sql, const struct pg_args *args)
{
    static const struct pg_args none = { .count = 0 };

    if (!args)
        args = &none;
    c->pending++;
    c->unsent |= !c->pq->send_query_params(c->pg, sql, args->count, args->types, args->values,
                                           args->lengths, args->formats, 1);
}

void pg_prepare(struct pg_conn *c, const char *name, const char *types, const char *sql)
{
    Oid oids[PG_ARGS] = { 0 };
    int count = 0;

    for (; types[count]; count++)
        oids[count] = types[count] == 'i' ? OID_INT8 : OID_BYTEA;
    c->pending++;
    c->unsent |= !c->pq->send_prepare(c->pg, name, sql, count, oids);
}

void pg_send_prepared(struct pg_conn *c, const char *name, const struct pg_args *args)
{
    c->pending++;
    c->unsent |= !c->pq->send_query_prepared(c->pg, name, args->count, args->values, args->lengths,
                                             args->formats, 1);
}

enum pg_outcome pg_flush(struct pg_conn *c, const struct wait *w, struct error *err)
{
    if (!wait_check(w, err))
        return give_up(c); /* in the middle of a transaction, perhaps */
    if (c->unsent || !c->pq->pipeline_sync(c->pg))
        (void)lost(c, NULL, err);
    else if (send_all(c, w, err))
        return PG_DONE;
    return give_up(c);
}

enum pg_outcome pg_next(struct pg_conn *c, const struct wait *w, PGresult **ret_result,
                        struct error *err)
{
    PGresult *r = receive_one(c, w, err);

    return r ? judge(c, r, ret_result, err) : give_up(c);
}

enum pg_outcome pg_run(struct pg_conn *c, const char *sql, const struct pg_args *args,
                       const struct wait *w, PGresult **ret_result, struct error *err)
{
    enum pg_outcome outcome;

    pg_send(c, sql, args);
    outcome = pg_flush(c, w, err);
    return outcome == PG_DONE ? pg_next(c, w, ret_result, err) : outcome;
}

void pg_pause(struct pg_conn *c, int ms, const struct wait *w)
{
    struct pollfd fd = { .fd = c->wake_fd, .events = POLLIN };
    struct cancel_hook hook;

    cancel_attach(w->cancel, &hook, wake, c);
    (void)poll(&fd, 1, clock_left_ms(w->deadline_ns, ms));
    cancel_detach(w->cancel, &hook);
}

/* ---- a connection ---- */

static void no_notice(void *arg, const PGresult *r)
{
    (void)arg, (void)r; /* libpq would print them */
}

void pg_conn_free(struct pg_conn *c)
{
    if (!c)
        return;
    if (c->pg)
        c->pq->finish(c->pg);
    fd_close(c->wake_fd);
    free(c);
}

static bool establish(struct pg_conn *c, const struct pg_pool *p, const struct wait *w,
                      struct error *err)
{
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    char text[MESSAGE_BYTES];
    bool ok = true;

    while (ok && c->pq->status(c->pg) != CONNECTION_BAD && state != PGRES_POLLING_OK &&
           state != PGRES_POLLING_FAILED) {
        ok = wait_socket(c, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, w, err);
        if (ok)
            state = c->pq->connect_poll(c->pg);
    }
    if (!ok)
        return false;
    if (c->pq->status(c->pg) == CONNECTION_OK && c->pq->setnonblocking(c->pg, 1) == 0 &&
        c->pq->enter_pipeline(c->pg))
        return true;
    tidy_message(c->pq->error_message(c->pg), p->password, text);
    return error_set(err, ERR_LOST, "the PostgreSQL server of %s does not let us in: %s",
                     p->variable, text);
}

/* What each session needs: commits that are on the disk when they are answered, a server that does
 * not let a kernel that hangs hold a space for ever, plans that stay good while tables grow, and a
 * server that drops the statements of a client that went away (where it can). */
static bool prepare_session(struct pg_conn *c, const struct wait *w, struct error *err)
{
    struct error ignored = ERROR_INIT;

    if (pg_run(c,
               "SELECT set_config('idle_in_transaction_session_timeout', '30000', false),"
               " set_config('enable_seqscan', 'off', false),"
               " CASE current_setting('synchronous_commit') WHEN 'off'"
               " THEN set_config('synchronous_commit', 'on', false) END",
               NULL, w, NULL, err) != PG_DONE)
        return false;
    if (pg_run(c, "SELECT set_config('client_connection_check_interval', '1000', false)", NULL, w,
               NULL, &ignored) != PG_DONE &&
        c->dead)
        return error_set(err, ignored.code, "%s", ignored.text);
    return true;
}

struct pg_conn *pg_conn_new(struct pg_pool *p, const struct wait *w, struct error *err)
{
    struct wait till = *w;
    struct pg_conn *c = calloc(1, sizeof *c);

    if (!c) {
        error_set(err, ERR_NOMEM, "a connection to PostgreSQL");
        return NULL;
    }
    c->pq = p->pq;
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->pg = c->wake_fd < 0 ? NULL : c->pq->connect_start(p->dsn);
    if (!c->pg) {
        error_set(err, ERR_NOMEM, "a connection to PostgreSQL");
        pg_conn_free(c);
        return NULL;
    }
    (void)c->pq->set_notice_receiver(c->pg, no_notice, NULL);
    till.deadline_ns = MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), CONNECT_NS));
    if (establish(c, p, &till, err) && prepare_session(c, &till, err))
        return c;
    pg_conn_free(c);
    return NULL;
}
