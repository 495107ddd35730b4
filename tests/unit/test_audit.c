#include "tests/unit/audit_place.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"

static int fallocate_answer;

int __real_posix_fallocate(int fd, off_t offset, off_t len);
int __wrap_posix_fallocate(int fd, off_t offset, off_t len);

int __wrap_posix_fallocate(int fd, off_t offset, off_t len)
{
    return fallocate_answer ? fallocate_answer : __real_posix_fallocate(fd, offset, len);
}

/* ---- what is recorded ---- */

static void keeps_every_field_in_order(void **state)
{
    static const struct audit_entry entries[] = {
        { AUDIT_SERVER, 0, NULL, "server", "start", NULL, NULL },
        { AUDIT_DECISION, 7, "alice", "terminal_run", "deny", "rule 2: deny terminal_*", "{}" },
        { AUDIT_REFUSED, UINT64_MAX, "alice", "c_1", "deny", "policy", "mount /proc" },
        { AUDIT_EGRESS, 0, "bob", "pypi.org:443", "allow", "pypi.org:443", "151.101.0.223" },
    };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    struct audit *a = open_audit();
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(entries); i++)
        assert_ok(audit_append(a, &entries[i], &err), err);
    audit_close(a);
    list(0, NULL, &out);
    assert_string_equal(buf_str(&out),
                        "1 server 0  server start  \n"
                        "2 decision 7 alice terminal_run deny rule 2: deny terminal_* {}\n"
                        "3 refused 18446744073709551615 alice c_1 deny policy mount /proc\n"
                        "4 egress 0 bob pypi.org:443 allow pypi.org:443 151.101.0.223\n");
    assert_sound(4);
    assert_int_equal(count_files("journal-"), 0);
}

static bool keep_detail(void *arg, const struct audit_row *row)
{
    (void)snprintf(arg, LIMIT_AUDIT_DETAIL + 1, "%s", row->detail);
    return true;
}

static void stores_valid_text_within_its_limit(void **state)
{
    static char longest[LIMIT_AUDIT_DETAIL + 1], longer[LIMIT_AUDIT_DETAIL + 100],
        wide[LIMIT_AUDIT_DETAIL + 100], broken[LIMIT_AUDIT_DETAIL + 100];
    const struct {
        const char *label, *given;
        const char *want; /* NULL: only valid and short enough */
    } rows[] = {
        { "none", NULL, "" },
        { "plain", "a b", "a b" },
        { "invalid bytes", "a\xff\xfe b\xc3", "a\xef\xbf\xbd\xef\xbf\xbd b\xef\xbf\xbd" },
        { "the most", longest, longest },
        { "one too many", longer, longest },
        { "cut inside a character", wide, NULL },
        { "all of it invalid", broken, NULL },
    };
    (void)state;

    memset(longest, 'x', sizeof longest - 1);
    memset(longer, 'x', LIMIT_AUDIT_DETAIL + 1);
    memset(broken, 0xff, sizeof broken - 1);
    for (size_t i = 0; i + 3 < sizeof wide; i += 3)
        memcpy(wide + i, "\xe2\x82\xac", 3);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct audit_entry entry = { .kind = AUDIT_RESULT, .detail = rows[i].given };
        char detail[LIMIT_AUDIT_DETAIL + 1];
        struct error err = ERROR_INIT;
        struct audit *a = open_audit();

        assert_ok(audit_append(a, &entry, &err), err);
        audit_close(a);
        assert_ok(audit_list(dir, 1, NULL, keep_detail, detail, &err), err);
        if (!utf8_valid(detail, strlen(detail)) ||
            (rows[i].want && strcmp(detail, rows[i].want) != 0))
            fail_msg("%s: \"%s\"", rows[i].label, detail);
    }
    assert_sound(ARRAY_LEN(rows));
}

static bool stop_at_once(void *arg, const struct audit_row *row)
{
    (void)row;
    ++*(int *)arg;
    return false;
}

static void lists_the_last_that_match(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    struct audit *a = open_audit();
    struct audit_entry lost = { .kind = AUDIT_COMPUTER, .agent = "bob", .subject = "c_1" };
    int seen = 0;
    (void)state;

    for (unsigned n = 1; n <= 6; n++)
        assert_true(append(a, n % 2 ? "alice" : "bob", n));
    assert_ok(audit_append(a, &lost, &err), err);
    audit_close(a);
    list(2, "alice", &out);
    assert_string_equal(buf_str(&out),
                        "3 decision 3 alice tool_3 allow no rule {\"command\":\"true\"}\n"
                        "5 decision 5 alice tool_5 allow no rule {\"command\":\"true\"}\n");
    list(0, "computer", &out);
    assert_string_equal(buf_str(&out), "7 computer 0 bob c_1   \n");
    list(1, "tool_2", &out);
    assert_contains(buf_str(&out), "2 decision 2 bob tool_2");
    list(0, "nobody", &out);
    assert_string_equal(buf_str(&out), "");
    assert_ok(audit_list(dir, 0, NULL, stop_at_once, &seen, &err), err);
    assert_int_equal(seen, 1);
}

static void a_switched_off_audit_takes_everything(void **state)
{
    struct error err = ERROR_INIT;
    (void)state;

    assert_true(append(NULL, "default", 1));
    assert_ok(audit_flush(NULL, 0, &err), err);
    audit_close(NULL);
}

static void says_that_there_is_no_log(void **state)
{
    struct audit_report report;
    struct error err = ERROR_INIT;
    int seen = 0;
    (void)state;

    assert_false(audit_verify(dir, &report, &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    assert_false(audit_list("/nonexistent/audit", 0, NULL, stop_at_once, &seen, &err));
    assert_code(err, ERR_NOT_FOUND);
}

static void records_synced_to_the_disk_too(void **state)
{
    struct audit_config config = { .dir = dir, .power_safe = true };
    struct error err = ERROR_INIT;
    struct audit *a = audit_open(&config, &err);
    (void)state;

    assert_ok(a != NULL, err);
    for (unsigned n = 1; n <= 5; n++)
        assert_true(append(a, "default", n));
    assert_ok(audit_flush(a, soon(), &err), err);
    audit_close(a);
    assert_sound(5);
}

static void wraps_its_journal_many_times(void **state)
{
    static char detail[LIMIT_AUDIT_DETAIL + 1];
    struct audit_entry entry = { .kind = AUDIT_RESULT, .agent = "default", .detail = detail };
    unsigned count = 2 * AUDIT_JOURNAL_BYTES / LIMIT_AUDIT_DETAIL + 17;
    struct error err = ERROR_INIT;
    struct audit *a = open_audit();
    (void)state;

    memset(detail, 'd', sizeof detail - 1);
    for (unsigned n = 0; n < count; n++)
        assert_ok(audit_append(a, &entry, &err), err);
    audit_close(a);
    assert_sound(count);
}

#define THREADS     4u
#define EACH_THREAD 300u

static void *append_many(void *arg)
{
    for (unsigned n = 1; n <= EACH_THREAD; n++) {
        if (!append(arg, "thread", n) || (n % 100 == 0 && !audit_flush(arg, soon(), NULL)))
            return arg;
    }
    return NULL;
}

static void any_thread_may_append(void **state)
{
    struct audit *a = open_audit();
    pthread_t threads[THREADS];
    unsigned failed = 0;
    (void)state;

    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, append_many, a), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        void *result;

        pthread_join(threads[i], &result);
        failed += result != NULL;
    }
    audit_close(a);
    assert_int_equal(failed, 0);
    assert_sound(THREADS * EACH_THREAD);
}

/* ---- trouble ---- */

static void a_full_disk_is_an_error_at_the_start(void **state)
{
    struct audit_config config = { .dir = dir };
    struct error err = ERROR_INIT;
    (void)state;

    fallocate_answer = ENOSPC;
    assert_null(audit_open(&config, &err));
    fallocate_answer = 0;
    assert_code(err, ERR_IO);
    assert_int_equal(err.os_errno, ENOSPC);
    assert_int_equal(count_files("journal-") + count_files("new-"), 0);
}

static void a_full_journal_refuses_until_the_database_can_be_written(void **state)
{
    static char detail[LIMIT_AUDIT_DETAIL + 1];
    struct audit_entry entry = { .kind = AUDIT_RESULT, .agent = "default", .detail = detail };
    struct error err = ERROR_INIT;
    struct audit *a = open_audit();
    char path[128];
    unsigned taken = 0;
    (void)state;

    memset(detail, 'd', sizeof detail - 1);
    (void)snprintf(path, sizeof path, "%s/audit.db", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(append(a, "default", ++taken));
    assert_false(audit_flush(a, soon(), &err)); /* from here on it knows */
    while (audit_append(a, &entry, NULL))
        assert_in_range(++taken, 1, AUDIT_JOURNAL_BYTES / LIMIT_AUDIT_DETAIL);
    error_clear(&err);
    assert_false(audit_append(a, &entry, &err));
    assert_contains(err.text, "the audit journal is full: ");
    assert_int_equal(rmdir(path), 0);
    error_clear(&err);
    assert_ok(audit_flush(a, soon(), &err), err);
    assert_ok(audit_append(a, &entry, &err), err);
    audit_close(a);
    assert_sound(taken + 1);
}

static void what_cannot_be_moved_at_the_end_stays_for_the_next(void **state)
{
    struct audit *a = open_audit();
    char path[128];
    (void)state;

    (void)snprintf(path, sizeof path, "%s/audit.db", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(append(a, "default", 1));
    audit_close(a);
    assert_int_equal(count_files("journal-"), 1);
    assert_int_equal(rmdir(path), 0);
    assert_sound(1);
}

static void survives_every_allocation_failure(void **state)
{
    struct audit_config config = { .dir = dir };
    struct audit_entry entry = { .kind = AUDIT_RESULT, .agent = "bad \xff", .detail = "\xfe" };
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct audit_report report;
        struct audit *a = audit_open(&config, &err);
        bool ok = a && audit_append(a, &entry, &err) && audit_flush(a, soon(), &err);

        audit_close(a);
        ok = ok && audit_verify(dir, &report, &err);
        FAULT_DONE(n);
        if (!n_last && !ok)
            assert_code(err, ERR_NOMEM);
        if (n_last)
            assert_ok(ok, err);
    }
    assert_string_equal(verify().problem, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        audit_test(keeps_every_field_in_order),
        audit_test(stores_valid_text_within_its_limit),
        audit_test(lists_the_last_that_match),
        audit_test(a_switched_off_audit_takes_everything),
        audit_test(says_that_there_is_no_log),
        audit_test(records_synced_to_the_disk_too),
        audit_test(wraps_its_journal_many_times),
        audit_test(any_thread_may_append),
        audit_test(a_full_disk_is_an_error_at_the_start),
        audit_test(a_full_journal_refuses_until_the_database_can_be_written),
        audit_test(what_cannot_be_moved_at_the_end_stays_for_the_next),
        audit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
