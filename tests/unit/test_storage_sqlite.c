/* The SQLite back end: what every back end does, and what only a database can suffer. */
#include "tests/unit/storage_suite.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/storage_group.h"

static char *db_path(void)
{
    static char path[96];

    (void)snprintf(path, sizeof path, "%s/storage.db", place.dir);
    return path;
}

static struct storage *open_again(struct error *err)
{
    return storage_open_with(storage_sqlite_new, place.config, NULL, err);
}

static sqlite3 *other_program(void)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(db_path(), &db), SQLITE_OK);
    return db;
}

static void run_sql(sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
}

/* ---- damage ---- */

static void overwrite(long from, const char *with, size_t len)
{
    int fd = open(db_path(), O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, with, len, from), len);
    fd_close(fd);
}

static void its_file_is_for_nobody_else(void **state)
{
    struct stat st;
    char path[128];
    (void)state;

    (void)put("a", "x");
    assert_int_equal(stat(db_path(), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    (void)snprintf(path, sizeof path, "%s-wal", db_path());
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void a_damaged_head_is_told_when_it_is_opened(void **state)
{
    struct error err = ERROR_INIT;
    (void)state;

    (void)put("a", "x");
    storage_close(place.s);
    place.s = NULL;
    overwrite(0, "this was a database until now...", 32);
    assert_null(open_again(&err));
    assert_code(err, ERR_IO);
    assert_contains(err.text, "storage.db is damaged");
    assert_contains(err.text, "Put a copy of it back");
}

static void a_changed_value_is_not_given_out(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = suite_wait();
    struct storage_stat stat;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    sqlite3 *db;
    (void)state;

    (void)put("a", "one");
    (void)put("a", "two");
    (void)put("a", "three");
    storage_close(place.s);
    place.s = NULL;
    db = other_program();
    run_sql(db, "UPDATE vals SET value = CAST('tww' AS BLOB) WHERE value = CAST('two' AS BLOB)");
    run_sql(db, "UPDATE vals SET value = CAST('threw' AS BLOB)"
                " WHERE value = CAST('three' AS BLOB)");
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    suite_open(NULL);
    for (uint64_t version = 0; version <= 3; version++) {
        bool good = version == 1;

        assert_int_equal(
            storage_get(place.s, place.space, "a", version, 0, SIZE_MAX, &out, &w, &stat, &err),
            good);
        assert_string_equal(buf_str(&out), good ? "one" : "");
        if (!good) {
            assert_code(err, ERR_IO);
            assert_contains(err.text, version == 2 ? "version 2 of \"a\" is damaged"
                                                   : "version 3 of \"a\" is damaged");
            assert_contains(err.text, "rollback");
        }
        error_clear(&err);
        buf_clear(&out);
    }
    assert_false(storage_rollback(place.s, place.space, "a", 2, 0, &w, &stat, &err));
    assert_code(err, ERR_IO);
    error_clear(&err);
    assert_ok(storage_rollback(place.s, place.space, "a", 1, 0, &w, &stat, &err), err);
    assert_value("a", "one");
}

static void a_damaged_page_is_told_when_it_is_read(void **state)
{
    static char zeros[4096];
    struct error err = ERROR_INIT;
    struct wait w = suite_wait();
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct stat st;
    char key[16];
    (void)state;

    for (int i = 0; i < 200; i++) {
        (void)snprintf(key, sizeof key, "%d", i);
        (void)put(key, "a value of some length, so that there are pages enough to damage");
    }
    storage_close(place.s);
    place.s = NULL;
    assert_int_equal(stat(db_path(), &st), 0);
    memset(zeros, 0xee, sizeof zeros);
    for (long at = 6 * 4096; at + 4096 <= st.st_size; at += 4096)
        overwrite(at, zeros, sizeof zeros);
    place.s = open_again(&err);
    if (!place.s) { /* it may need one of these pages to open */
        assert_code(err, ERR_IO);
        return;
    }
    for (int i = 0; i < 200; i++) {
        (void)snprintf(key, sizeof key, "%d", i);
        error_clear(&err);
        if (!storage_get(place.s, place.space, key, 0, 0, 100, &out, &w, NULL, &err) &&
            err.code != ERR_NOT_FOUND) {
            assert_code(err, ERR_IO);
            assert_contains(err.text, "damaged");
            return;
        }
    }
    fail_msg("no damage was told");
}

static void one_of_a_newer_version_is_left_alone(void **state)
{
    struct error err = ERROR_INIT;
    sqlite3 *db;
    (void)state;

    storage_close(place.s);
    place.s = NULL;
    db = other_program();
    run_sql(db, "PRAGMA user_version=99");
    sqlite3_close(db);
    assert_null(open_again(&err));
    assert_code(err, ERR_UNSUPPORTED);
}

static void a_link_in_its_place_is_not_followed(void **state)
{
    struct error err = ERROR_INIT;
    (void)state;

    storage_close(place.s);
    place.s = NULL;
    assert_int_equal(unlink(db_path()), 0);
    assert_int_equal(symlink("/tmp/elsewhere.db", db_path()), 0);
    assert_null(open_again(&err));
    assert_int_not_equal(access("/tmp/elsewhere.db", F_OK), 0);
}

/* ---- locks ---- */

static void a_lock_of_another_program_is_told(void **state)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 50 * CLOCK_NS_PER_MS) };
    struct error err = ERROR_INIT;
    sqlite3 *db;
    (void)state;

    (void)put("a", "one");
    db = other_program();
    run_sql(db, "BEGIN IMMEDIATE");
    assert_value("a", "one"); /* reading goes on */
    assert_false(storage_put(place.s, place.space, "a", "x", 1, STORAGE_ANY, &w, NULL, &err));
    assert_code(err, ERR_TIMEOUT);
    run_sql(db, "COMMIT");
    assert_int_equal(put("a", "two").version, 2);
    sqlite3_close(db);
}

static void it_waits_while_another_program_is_done(void **state)
{
    sqlite3 *db = other_program();
    struct suite_worker worker = { .id = 0, .turns = 1 };
    (void)state;

    (void)put("x", "x");
    run_sql(db, "BEGIN IMMEDIATE");
    assert_int_equal(pthread_create(&worker.thread, NULL, suite_scatter, &worker), 0);
    run_sql(db, "COMMIT");
    assert_int_equal(pthread_join(worker.thread, NULL), 0);
    assert_null(worker.failed);
    assert_value("t/0", "t/0");
    sqlite3_close(db);
}

/* ---- groups ---- */

static void versions_of_a_space_are_bounded(void **state)
{
    struct storage_backend *b;
    struct storage_limits limits = { .versions = 2, .total = 3 };
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_op op = {
        .kind = STORAGE_PUT, .data = "x", .len = 1, .if_version = STORAGE_ANY
    };
    static const struct {
        const char *key;
        bool fits;
    } rows[] = { { "a", true },  { "a", true },  { "a", true }, { "b", true },
                 { "b", false }, { "c", false }, { "a", true } };
    size_t failed;
    (void)state;

    storage_close(place.s);
    place.s = NULL;
    b = storage_sqlite_new(place.config, place.dir, &err);
    assert_ok(b, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        error_clear(&err);
        op.key = rows[i].key;
        if (b->write(b, "s", &op, 1, &limits, &w, &failed, &err) != rows[i].fits)
            fail_msg("row %zu: %s", i, err.text);
        assert_code(err, rows[i].fits ? ERR_NONE : ERR_LIMIT);
    }
    b->free(b);
}

/* ---- memory ---- */

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    (void)put("m", "one");
    storage_close(place.s);
    place.s = NULL;
    FAULT_EACH(n)
    {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        struct storage_page page = { .items = NULL };
        struct storage *s = open_again(&err);
        bool ok = s && storage_put(s, place.space, "m", "two", 3, STORAGE_ANY, &w, NULL, &err) &&
                  storage_get(s, place.space, "m", 0, 0, 10, &out, &w, NULL, &err) &&
                  storage_list(s, place.space, "", NULL, 10, &w, &page, &err);

        FAULT_DONE(n);
        storage_page_fini(&page);
        storage_close(s);
        assert_true(ok || !n_last); /* without memory for it the cache just stays empty */
        assert_code(err, ok ? ERR_NONE : ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SUITE_TEST(its_file_is_for_nobody_else),
        SUITE_TEST(a_damaged_head_is_told_when_it_is_opened),
        SUITE_TEST(a_changed_value_is_not_given_out),
        SUITE_TEST(a_damaged_page_is_told_when_it_is_read),
        SUITE_TEST(one_of_a_newer_version_is_left_alone),
        SUITE_TEST(a_link_in_its_place_is_not_followed),
        SUITE_TEST(a_lock_of_another_program_is_told),
        SUITE_TEST(it_waits_while_another_program_is_done),
        SUITE_TEST(requests_share_a_transaction_and_fail_alone),
        SUITE_TEST(versions_of_a_space_are_bounded),
        SUITE_TEST(survives_every_allocation_failure),
    };
    int failed;

    suite.make = storage_sqlite_new;
    failed = storage_suite_run("storage_sqlite");
    return failed + cmocka_run_group_tests_name("storage_sqlite_own", tests, NULL, NULL);
}
