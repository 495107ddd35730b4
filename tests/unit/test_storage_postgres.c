/* The PostgreSQL back end against a real server: the suite of all back ends, and what is its own.
 */
#include "tests/unit/storage_suite.h"

#include <sys/socket.h>

#include "kernel/storage_postgres_internal.h"
#include "tests/support/postgres_server.h"
#include "tests/unit/storage_group.h"
#include "tests/unit/storage_killed.h"

#define VARIABLE "AIOS_TEST_POSTGRES"

static struct postgres_server server;

/* ---- libpq, with a statement at which something happens ---- */

static enum { NOTHING, LOST_BEFORE, LOST_AFTER, SERVER_GOES, CALLER_GOES } event;
static const char *event_at = "COMMIT"; /* the statement */
static struct cancel event_token;
static struct postgres_libpq faulty;
static int (*real_send)(PGconn *, const char *, int, const Oid *, const char *const *, const int *,
                        const int *, int);

const void *__real_plugin_open(const char *name, const char *symbol, size_t size,
                               struct error *err);
const void *__wrap_plugin_open(const char *name, const char *symbol, size_t size,
                               struct error *err);

static int send_or_lose(PGconn *pg, const char *sql, int count, const Oid *types,
                        const char *const *values, const int *lengths, const int *formats,
                        int format)
{
    if (event != NOTHING && strcmp(sql, event_at) == 0) {
        /* Nothing that the server says from now on arrives: shut before anything is asked, since an
         * answer that was there already could be read even after. */
        if (event == LOST_BEFORE || event == LOST_AFTER)
            (void)shutdown(faulty.socket(pg), SHUT_RD);
        if (event == LOST_BEFORE)
            sql = "SELECT 1";
        if (event == SERVER_GOES)
            postgres_crash(&server);
        if (event == CALLER_GOES)
            cancel_raise(&event_token);
        event = NOTHING;
    }
    return real_send(pg, sql, count, types, values, lengths, formats, format);
}

const void *__wrap_plugin_open(const char *name, const char *symbol, size_t size, struct error *err)
{
    const struct postgres_libpq *pq = __real_plugin_open(name, symbol, size, err);

    if (!pq || strcmp(name, "postgres") != 0)
        return pq;
    faulty = *pq;
    real_send = pq->send_query_params;
    faulty.send_query_params = send_or_lose;
    return &faulty;
}

/* ---- what is its own ---- */

static void comes_back_with_the_server(void **state)
{
    (void)state;

    (void)put("k", "before");
    postgres_crash(&server);
    assert_int_equal(try_put("k", "while it is down", STORAGE_ANY), ERR_LOST);
    assert_int_equal(try_put("k", "while it is down", STORAGE_ANY), ERR_LOST);
    assert_true(postgres_begin(&server));
    assert_value("k", "before");
    assert_int_equal(put("k", "after").version, 2);
    assert_value("k", "after");
}

static void notices_connections_that_died_while_idle(void **state)
{
    (void)state;

    (void)put("k", "1");
    postgres_crash(&server);
    assert_true(postgres_begin(&server));
    assert_int_equal(put("k", "2").version, 2);
    assert_value("k", "2");
}

static void a_lost_commit_that_was_done_is_not_done_twice(void **state)
{
    (void)state;

    (void)put("k", "1");
    event = LOST_AFTER;
    assert_int_equal(put("k", "2").version, 2);
    assert_int_equal(event, NOTHING);
    assert_versions("k", 10, "2,1,");
}

static void a_lost_commit_that_never_came_is_done_again(void **state)
{
    (void)state;

    (void)put("k", "1");
    event = LOST_BEFORE;
    assert_int_equal(put("k", "2").version, 2);
    assert_int_equal(event, NOTHING);
    assert_versions("k", 10, "2,1,");
}

static struct config *config_for(const char *variable)
{
    struct error err = ERROR_INIT;
    json_t *over = json_pack("{s:{s:s,s:i}}", "postgres", "dsn_env", variable, "connections", 1);
    struct config *config = config_parse(NULL, 0, "", over, &err);

    json_decref(over);
    assert_ok(config, err);
    return config;
}

/* A connection of the test's own. */
struct visitor {
    struct config *config;
    struct pg_pool pool;
    struct pg_conn *c;
};

static void visit(struct visitor *v)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;

    v->config = config_for(VARIABLE);
    assert_ok(pg_pool_init(&v->pool, v->config, &err), err);
    v->c = pg_pool_take(&v->pool, &w, &err);
    assert_ok(v->c, err);
}

static void visitor_run(struct visitor *v, const char *sql)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;

    assert_ok(pg_run(v->c, sql, NULL, &w, NULL, &err) == PG_DONE, err);
}

static void visitor_leave(struct visitor *v)
{
    pg_pool_give(&v->pool, v->c);
    pg_pool_fini(&v->pool);
    config_free(v->config);
}

static void a_call_that_waits_for_a_lock_ends_in_time(void **state)
{
    struct wait w = suite_wait(), short_wait;
    struct error err = ERROR_INIT;
    struct cancel token;
    struct visitor v;

    (void)state;
    (void)put("k", "1");
    visit(&v);
    visitor_run(&v, "BEGIN");
    visitor_run(&v, "SELECT 1 FROM aios_spaces FOR UPDATE");
    short_wait = (struct wait){ .deadline_ns = clock_now_ns() + 100 * CLOCK_NS_PER_MS };
    assert_false(
        storage_put(place.s, place.space, "k", "2", 1, STORAGE_ANY, &short_wait, NULL, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    cancel_init(&token);
    cancel_raise(&token);
    short_wait = (struct wait){ .deadline_ns = w.deadline_ns, .cancel = &token };
    assert_false(
        storage_put(place.s, place.space, "k", "2", 1, STORAGE_ANY, &short_wait, NULL, &err));
    assert_code(err, ERR_CANCELLED);
    cancel_fini(&token);
    visitor_run(&v, "COMMIT");
    visitor_leave(&v);
    assert_int_equal(put("k", "3").version, 2); /* nothing of the two came through */
}

/* ---- groups ---- */

static void what_the_server_refuses_fails_alone(void **state)
{
    struct storage_op ops[] = { GROUP_PUT("a"), GROUP_PUT("bad"), GROUP_PUT("b") };
    struct storage_write writes[ARRAY_LEN(ops)];
    struct wait w = suite_wait();
    struct visitor v;
    (void)state;

    visit(&v);
    visitor_run(&v, "ALTER TABLE aios_versions ADD CONSTRAINT good CHECK (key <> 'bad')");
    group_of(writes, ops, ARRAY_LEN(ops), &w);
    storage_write_many(place.s, writes, ARRAY_LEN(ops));
    visitor_run(&v, "ALTER TABLE aios_versions DROP CONSTRAINT good");
    visitor_leave(&v);
    assert_true(writes[0].ok && writes[2].ok);
    assert_int_equal(writes[1].err.code, ERR_IO);
    assert_contains(writes[1].err.text, "23514");
    assert_int_equal(usage_now().keys, 2);
    assert_value_at("b", 1, "b", 1);
    assert_batches(1, 2);
}

/* The key of the last one is that of the first, so that there is more than one wave. */
static void a_group_whose_commit_is_lost_is_written_once(void **state)
{
    (void)state;

    for (int lost = LOST_BEFORE; lost <= LOST_AFTER; lost++) {
        struct storage_op ops[] = { GROUP_PUT("a"), GROUP_PUT("b"), GROUP_PUT("a") };
        struct storage_write writes[ARRAY_LEN(ops)];
        struct wait w = suite_wait();

        for (size_t i = 0; i < ARRAY_LEN(ops); i++)
            ops[i].if_version = STORAGE_ANY;
        group_of(writes, ops, ARRAY_LEN(ops), &w);
        event = lost == LOST_BEFORE ? LOST_BEFORE : LOST_AFTER;
        storage_write_many(place.s, writes, ARRAY_LEN(ops));
        assert_int_equal(event, NOTHING);
        assert_true(writes[0].ok && writes[1].ok && writes[2].ok);
    }
    assert_versions("a", 10, "4,3,2,1,");
    assert_versions("b", 10, "2,1,");
    assert_batches(2, 6);
}

static void a_server_that_goes_takes_nothing_of_a_group(void **state)
{
    static const struct {
        const char *at, *text;
    } rows[] = { { "BEGIN", "PostgreSQL server" }, { "COMMIT", "not known whether" } };
    (void)state;

    (void)put("old", "old");
    for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
        struct storage_op ops[] = { GROUP_PUT("a"), GROUP_PUT("b"), GROUP_PUT("a") };
        struct storage_write writes[ARRAY_LEN(ops)];
        struct wait w = suite_wait();

        group_of(writes, ops, ARRAY_LEN(ops), &w);
        event_at = rows[row].at;
        event = SERVER_GOES;
        storage_write_many(place.s, writes, ARRAY_LEN(ops));
        event_at = "COMMIT";
        for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
            if (writes[i].ok || writes[i].err.code != ERR_LOST ||
                !strstr(writes[i].err.text, rows[row].text))
                fail_msg("%s: code %d (%s)", rows[row].at, writes[i].err.code, writes[i].err.text);
        }
        assert_true(postgres_begin(&server));
        assert_int_equal(usage_now().keys, 1);
        assert_value("old", "old");
    }
}

/* One caller's time ends while the other's space is free: or would be, were they not in one group.
 */
static void who_has_no_time_left_does_not_hold_up_the_others(void **state)
{
    struct storage_op ops[] = { GROUP_PUT("a"), GROUP_PUT("b") };
    struct storage_write writes[ARRAY_LEN(ops)];
    struct wait w = suite_wait(), soon;
    struct visitor v;
    char sql[200], other[80];
    (void)state;

    (void)snprintf(other, sizeof other, "%s.other", place.space);
    (void)put("k", "1");
    visit(&v);
    visitor_run(&v, "BEGIN");
    (void)snprintf(sql, sizeof sql, "SELECT 1 FROM aios_spaces WHERE name = '%s' FOR UPDATE",
                   place.space);
    visitor_run(&v, sql);
    soon = (struct wait){ .deadline_ns = clock_now_ns() + 100 * CLOCK_NS_PER_MS };
    group_of(writes, ops, ARRAY_LEN(ops), &w);
    writes[0].wait = &soon;
    writes[1].space = other;
    storage_write_many(place.s, writes, ARRAY_LEN(ops));
    visitor_run(&v, "COMMIT");
    visitor_leave(&v);
    assert_int_equal(writes[0].err.code, ERR_TIMEOUT);
    assert_ok(writes[1].ok, writes[1].err);
    assert_int_equal(usage_now().keys, 1);
}

static void who_is_cancelled_leaves_the_group(void **state)
{
    struct storage_op ops[] = { GROUP_PUT("a"), GROUP_PUT("b"), GROUP_PUT("c") };
    struct storage_write writes[ARRAY_LEN(ops)];
    struct wait w = suite_wait(),
                cancelled = { .deadline_ns = w.deadline_ns, .cancel = &event_token };
    (void)state;

    cancel_init(&event_token);
    group_of(writes, ops, ARRAY_LEN(ops), &w);
    writes[1].wait = &cancelled;
    event_at = "BEGIN";
    event = CALLER_GOES;
    storage_write_many(place.s, writes, ARRAY_LEN(ops));
    event_at = "COMMIT";
    cancel_fini(&event_token);
    assert_true(writes[0].ok && writes[2].ok);
    assert_int_equal(writes[1].err.code, ERR_CANCELLED);
    assert_int_equal(usage_now().keys, 2);
    assert_batches(1, 2);
}

/* ---- connections ---- */

static void a_pool_that_is_used_up_waits_in_time(void **state)
{
    struct config *config = config_for(VARIABLE);
    struct wait w = suite_wait(), soon = { .deadline_ns = clock_now_ns() + 50 * CLOCK_NS_PER_MS };
    struct error err = ERROR_INIT;
    struct pg_pool pool;
    struct pg_conn *c;

    (void)state;
    assert_ok(pg_pool_init(&pool, config, &err), err);
    c = pg_pool_take(&pool, &w, &err);
    assert_ok(c, err);
    assert_null(pg_pool_take(&pool, &soon, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    pg_pool_give(&pool, c);
    c = pg_pool_take(&pool, &w, &err);
    assert_ok(c, err);
    pg_pool_give(&pool, c);
    pg_pool_fini(&pool);
    config_free(config);
}

static void refuses_without_showing_the_password(void **state)
{
    static const struct {
        const char *label, *dsn; /* NULL: the variable is not set; "": the server's, wrong */
        enum error_code want;
        const char *text;
    } rows[] = {
        { "not set", NULL, ERR_INVALID, "is not set" },
        { "nonsense", "host=/tmp password hunter2", ERR_INVALID, "not one that libpq" },
        { "nonsense in a URL", "postgres://u:hunter2@[::1", ERR_INVALID, "not one that libpq" },
        { "nobody there", "host=/nowhere password=hunter2", ERR_LOST, "does not let us in" },
        { "wrong password", "", ERR_LOST, "password authentication failed" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config *config = config_for("AIOS_TEST_POSTGRES_OTHER");
        struct storage_backend *b;
        struct storage_usage usage = { .bytes = 0 };
        struct error err = ERROR_INIT;
        struct wait w = suite_wait();
        char dsn[256];
        bool ok = false;

        postgres_dsn(&server, "hunter2", dsn, sizeof dsn);
        if (rows[i].dsn)
            setenv("AIOS_TEST_POSTGRES_OTHER", *rows[i].dsn ? rows[i].dsn : dsn, 1);
        else
            unsetenv("AIOS_TEST_POSTGRES_OTHER");
        b = storage_postgres_new(config, "/nowhere", &err);
        if (b) {
            ok = b->usage(b, "s", &w, &usage, &err);
            b->free(b);
        }
        if (ok || err.code != rows[i].want || !strstr(err.text, rows[i].text) ||
            strstr(err.text, "hunter2"))
            fail_msg("%s: code %d (%s)", rows[i].label, err.code, err.text);
        config_free(config);
    }
}

static void a_newer_schema_is_refused(void **state)
{
    struct config *config = config_for(VARIABLE);
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct pg_pool pool, other;
    struct pg_conn *c;

    (void)state;
    assert_ok(pg_pool_init(&pool, config, &err), err);
    assert_ok(pg_pool_init(&other, config, &err), err);
    c = pg_pool_take(&pool, &w, &err);
    assert_ok(c, err);
    assert_int_equal(pg_run(c, "UPDATE aios_schema SET version = 99", NULL, &w, NULL, &err),
                     PG_DONE);
    assert_null(pg_pool_take(&other, &w, &err));
    assert_code(err, ERR_UNSUPPORTED);
    assert_contains(err.text, "99");
    error_clear(&err);
    assert_int_equal(pg_run(c, "UPDATE aios_schema SET version = 1", NULL, &w, NULL, &err),
                     PG_DONE);
    pg_pool_give(&pool, c);
    c = pg_pool_take(&other, &w, &err);
    assert_ok(c, err);
    pg_pool_give(&other, c);
    pg_pool_fini(&pool);
    pg_pool_fini(&other);
    config_free(config);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        bool ok = storage_put(place.s, place.space, "k", "value", 5, STORAGE_ANY, &w, NULL, &err);

        FAULT_DONE(n);
        if (!ok)
            assert_code(err, ERR_NOMEM);
    }
}

static int own_tests(void)
{
    const struct CMUnitTest tests[] = {
        SUITE_TEST(comes_back_with_the_server),
        SUITE_TEST(loses_nothing_when_it_is_killed),
        SUITE_TEST(notices_connections_that_died_while_idle),
        SUITE_TEST(a_lost_commit_that_was_done_is_not_done_twice),
        SUITE_TEST(a_lost_commit_that_never_came_is_done_again),
        SUITE_TEST(a_call_that_waits_for_a_lock_ends_in_time),
        SUITE_TEST(requests_share_a_transaction_and_fail_alone),
        SUITE_TEST(what_the_server_refuses_fails_alone),
        SUITE_TEST(a_group_whose_commit_is_lost_is_written_once),
        SUITE_TEST(a_server_that_goes_takes_nothing_of_a_group),
        SUITE_TEST(who_has_no_time_left_does_not_hold_up_the_others),
        SUITE_TEST(who_is_cancelled_leaves_the_group),
        SUITE_TEST(a_pool_that_is_used_up_waits_in_time),
        SUITE_TEST(refuses_without_showing_the_password),
        SUITE_TEST(a_newer_schema_is_refused),
        SUITE_TEST(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests_name("storage_postgres_own", tests, NULL, NULL);
}

int main(void)
{
    char dsn[256];
    const char *strict = getenv("AIOS_TEST_STRICT");
    int failed;

    if (!postgres_find(&server)) {
        print_message("skipped: no PostgreSQL server; tools/dev/setup --tests installs it\n");
        return strict && !strcmp(strict, "1") ? 1 : 77;
    }
    if (!postgres_make(&server) || !postgres_begin(&server)) {
        postgres_remove(&server);
        return 1;
    }
    postgres_dsn(&server, POSTGRES_PASSWORD, dsn, sizeof dsn);
    setenv(VARIABLE, dsn, 1);
    suite = (struct storage_suite){ .make = storage_postgres_new,
                                    .config = "{\"postgres\":{\"dsn_env\":\"" VARIABLE
                                              "\",\"connections\":4}}" };
    failed = storage_suite_run("storage_postgres");
    failed += own_tests();
    postgres_remove(&server);
    return failed;
}
