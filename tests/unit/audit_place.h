/*
 * audit_place - a folder for an audit, and what tests of it have in common.
 */
#pragma once

#include "tests/support/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "kernel/audit_orphan.h"
#include "kernel/base/buf.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define UNUSED __attribute__((unused))

static char dir[64];

UNUSED static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/aios-audit-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

UNUSED static int drop_dir(void **state)
{
    (void)state;
    return fd_remove_tree(AT_FDCWD, dir, NULL) ? 0 : -1;
}

UNUSED static int64_t soon(void)
{
    return clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S);
}

UNUSED static struct audit *open_audit(void)
{
    struct audit_config config = { .dir = dir };
    struct error err = ERROR_INIT;
    struct audit *a = audit_open(&config, &err);

    assert_ok(a != NULL, err);
    return a;
}

UNUSED static bool append(struct audit *a, const char *agent, unsigned n)
{
    char subject[32];
    struct audit_entry entry = { .kind = AUDIT_DECISION,
                                 .syscall = n,
                                 .agent = agent,
                                 .subject = subject,
                                 .decision = "allow",
                                 .rule = "no rule",
                                 .detail = "{\"command\":\"true\"}" };

    (void)snprintf(subject, sizeof subject, "tool_%u", n);
    return audit_append(a, &entry, NULL);
}

UNUSED static void fill(unsigned count)
{
    struct audit *a = open_audit();
    struct error err = ERROR_INIT;

    for (unsigned n = 1; n <= count; n++)
        assert_true(append(a, "default", n));
    assert_ok(audit_flush(a, soon(), &err), err);
    audit_close(a);
}

UNUSED static struct audit_report verify(void)
{
    struct audit_report report;
    struct error err = ERROR_INIT;

    assert_ok(audit_verify(dir, &report, &err), err);
    return report;
}

UNUSED static void assert_sound(uint64_t rows)
{
    struct audit_report report = verify();

    if (report.problem[0] || report.first_bad || report.rows != rows)
        fail_msg("%llu rows, wanted %llu, problem: %s", (unsigned long long)report.rows,
                 (unsigned long long)rows, report.problem);
}

/* Rows as text, one a line. */
UNUSED static bool note_row(void *arg, const struct audit_row *row)
{
    return buf_printf(arg, "%llu %s %llu %s %s %s %s %s\n", (unsigned long long)row->seq,
                      audit_kind_name(row->kind), (unsigned long long)row->syscall, row->agent,
                      row->subject, row->decision, row->rule, row->detail);
}

UNUSED static void list(uint64_t last, const char *match, struct buf *out)
{
    struct error err = ERROR_INIT;

    buf_clear(out);
    assert_ok(audit_list(dir, last, match, note_row, out, &err), err);
}

UNUSED static void sql(const char *text)
{
    char path[128];
    sqlite3 *db;

    (void)snprintf(path, sizeof path, "%s/audit.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    (void)sqlite3_close(db);
}

UNUSED static unsigned count_files(const char *prefix)
{
    DIR *stream = opendir(dir);
    unsigned count = 0;

    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream));)
        count += !strncmp(entry->d_name, prefix, strlen(prefix));
    (void)closedir(stream);
    return count;
}

UNUSED static void find_file(const char *prefix, char path[PATH_MAX])
{
    DIR *stream = opendir(dir);

    assert_non_null(stream);
    path[0] = '\0';
    for (struct dirent *entry; (entry = readdir(stream));) {
        if (!strncmp(entry->d_name, prefix, strlen(prefix)))
            (void)snprintf(path, PATH_MAX, "%s/%s", dir, entry->d_name);
    }
    (void)closedir(stream);
    assert_true(path[0]);
}

#define audit_test(fn) cmocka_unit_test_setup_teardown(fn, make_dir, drop_dir)
