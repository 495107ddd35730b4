/* The PostgreSQL back end against a real server: the suite of all back ends, and what is its own.
 */
#include "tests/unit/storage_suite.h"

#include <sys/socket.h>

#include "kernel/storage_postgres_internal.h"
#include "tests/support/postgres_server.h"
#include "tests/unit/storage_killed.h"

#define VARIABLE "AIOS_TEST_POSTGRES"

static struct postgres_server server;

/* ---- libpq, with a COMMIT that can be lost ---- */

static enum { COMMIT_PASSES, COMMIT_LOST_BEFORE, COMMIT_LOST_AFTER } commit_fate;
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
    bool arrives = commit_fate == COMMIT_LOST_AFTER;

    if (strcmp(sql, "COMMIT") != 0 || commit_fate == COMMIT_PASSES)
        return real_send(pg, sql, count, types, values, lengths, formats, format);
    commit_fate = COMMIT_PASSES;
    /* Nothing that the server says from now on arrives: shut before anything is asked, since an
     * answer that was there already could be read even after. */
    (void)shutdown(faulty.socket(pg), SHUT_RD);
    return real_send(pg, arrives ? sql : "SELECT 1", count, types, values, lengths, formats,
                     format);
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
    commit_fate = COMMIT_LOST_AFTER;
    assert_int_equal(put("k", "2").version, 2);
    assert_int_equal(commit_fate, COMMIT_PASSES);
    assert_versions("k", 10, "2,1,");
}

static void a_lost_commit_that_never_came_is_done_again(void **state)
{
    (void)state;

    (void)put("k", "1");
    commit_fate = COMMIT_LOST_BEFORE;
    assert_int_equal(put("k", "2").version, 2);
    assert_int_equal(commit_fate, COMMIT_PASSES);
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

static void a_call_that_waits_for_a_lock_ends_in_time(void **state)
{
    struct config *config = config_for(VARIABLE);
    struct wait w = suite_wait(), short_wait;
    struct error err = ERROR_INIT;
    struct cancel token;
    struct pg_pool pool;
    struct pg_conn *c;

    (void)state;
    (void)put("k", "1");
    assert_ok(pg_pool_init(&pool, config, &err), err);
    c = pg_pool_take(&pool, &w, &err);
    assert_ok(c, err);
    assert_int_equal(pg_run(c, "BEGIN", NULL, &w, NULL, &err), PG_DONE);
    assert_int_equal(pg_run(c, "SELECT 1 FROM aios_spaces FOR UPDATE", NULL, &w, NULL, &err),
                     PG_DONE);
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
    error_clear(&err);
    assert_int_equal(pg_run(c, "COMMIT", NULL, &w, NULL, &err), PG_DONE);
    pg_pool_give(&pool, c);
    pg_pool_fini(&pool);
    config_free(config);
    assert_int_equal(put("k", "3").version, 2); /* nothing of the two came through */
}

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
