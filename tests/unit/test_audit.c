#include "kernel/audit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/audit_db.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "tests/support/check.h"

static char dir[64];
static int fallocate_answer;

int __real_posix_fallocate(int fd, off_t offset, off_t len);
int __wrap_posix_fallocate(int fd, off_t offset, off_t len);

int __wrap_posix_fallocate(int fd, off_t offset, off_t len)
{
    return fallocate_answer ? fallocate_answer : __real_posix_fallocate(fd, offset, len);
}

static int make_dir(void **state)
{
    (void)state;
    fallocate_answer = 0;
    (void)snprintf(dir, sizeof dir, "/tmp/aios-audit-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    return fd_remove_tree(AT_FDCWD, dir, NULL) ? 0 : -1;
}

static int64_t soon(void)
{
    return clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S);
}

static struct audit *open_audit(void)
{
    struct audit_config config = { .dir = dir };
    struct error err = ERROR_INIT;
    struct audit *a = audit_open(&config, &err);

    assert_ok(a != NULL, err);
    return a;
}

static bool append(struct audit *a, const char *agent, unsigned n)
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

static void fill(unsigned count)
{
    struct audit *a = open_audit();
    struct error err = ERROR_INIT;

    for (unsigned n = 1; n <= count; n++)
        assert_true(append(a, "default", n));
    assert_ok(audit_flush(a, soon(), &err), err);
    audit_close(a);
}

static struct audit_report verify(void)
{
    struct audit_report report;
    struct error err = ERROR_INIT;

    assert_ok(audit_verify(dir, &report, &err), err);
    return report;
}

static void assert_sound(uint64_t rows)
{
    struct audit_report report = verify();

    if (report.problem[0] || report.first_bad || report.rows != rows)
        fail_msg("%llu rows, wanted %llu, problem: %s", (unsigned long long)report.rows,
                 (unsigned long long)rows, report.problem);
}

/* Rows as text, one a line. */
static bool note_row(void *arg, const struct audit_row *row)
{
    return buf_printf(arg, "%llu %s %llu %s %s %s %s %s\n", (unsigned long long)row->seq,
                      audit_kind_name(row->kind), (unsigned long long)row->syscall, row->agent,
                      row->subject, row->decision, row->rule, row->detail);
}

static void list(uint64_t last, const char *match, struct buf *out)
{
    struct error err = ERROR_INIT;

    buf_clear(out);
    assert_ok(audit_list(dir, last, match, note_row, out, &err), err);
}

static void sql(const char *text)
{
    char path[128];
    sqlite3 *db;

    (void)snprintf(path, sizeof path, "%s/audit.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    (void)sqlite3_close(db);
}

static unsigned count_files(const char *prefix)
{
    DIR *stream = opendir(dir);
    unsigned count = 0;

    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream));)
        count += !strncmp(entry->d_name, prefix, strlen(prefix));
    (void)closedir(stream);
    return count;
}

static void find_file(const char *prefix, char path[PATH_MAX])
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

/* ---- ends of servers ---- */

/* A server that appends @count records, tells of each through @report, and then waits for its end.
 */
static pid_t start_server(unsigned count, int report)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct audit_config config = { .dir = dir };
        struct audit *a = audit_open(&config, NULL);

        for (unsigned n = 1; a && n <= count; n++) {
            if (!append(a, "victim", n) || write(report, "r", 1) != 1)
                _exit(1);
        }
        (void)pause();
        _exit(1);
    }
    return pid;
}

static unsigned read_reports(int fd, unsigned most)
{
    unsigned count = 0;
    char c;

    while (count < most && read(fd, &c, 1) == 1)
        count++;
    return count;
}

/* Kill it after @after reports; how many there were in the end. */
static unsigned kill_server_after(unsigned after, unsigned count)
{
    int status, ends[2];
    unsigned reports;
    pid_t pid;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = start_server(count, ends[1]);
    assert_true(pid > 0);
    (void)close(ends[1]);
    reports = read_reports(ends[0], after);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    reports += read_reports(ends[0], UINT_MAX);
    (void)close(ends[0]);
    return reports;
}

static bool count_row(void *arg, const struct audit_row *row)
{
    (void)row;
    ++*(unsigned *)arg;
    return true;
}

static void no_record_is_lost_by_kill_9(void **state)
{
    static const unsigned points[] = { 1, 0, 2, 100, 999, 5000, 20000 };
    unsigned reported = 0;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        struct error err = ERROR_INIT;
        unsigned rows = 0;

        reported += kill_server_after(points[i], points[i] + 5000);
        assert_string_equal(verify().problem, "");
        assert_ok(audit_list(dir, 0, "victim", count_row, &rows, &err), err);
        /* The last one may have been recorded and not yet reported. */
        assert_in_range(rows, reported, reported + i + 1);
    }
    assert_int_equal(count_files("journal-"), 0);
}

static void the_next_server_moves_what_a_killed_one_left(void **state)
{
    unsigned reports = kill_server_after(10, 10);
    struct error err = ERROR_INIT;
    struct audit *a;
    (void)state;

    assert_int_equal(reports, 10);
    assert_int_equal(count_files("journal-"), 1);
    a = open_audit();
    assert_true(append(a, "default", 1));
    assert_ok(audit_flush(a, soon(), &err), err);
    /* Orphans come after the server's own records: at the latest with the next ones. */
    for (unsigned n = 2; count_files("journal-") > 1; n++) {
        assert_in_range(n, 2, 1000);
        assert_true(append(a, "default", n));
        assert_ok(audit_flush(a, soon(), &err), err);
    }
    audit_close(a);
    assert_string_equal(verify().problem, "");
}

/* A journal of @count records that no server holds. */
static size_t leave_journal(unsigned count)
{
    struct error err = ERROR_INIT;
    struct audit_journal *j = audit_journal_create(dir, &err);
    size_t used;

    assert_ok(j != NULL, err);
    for (unsigned n = 1; n <= count; n++) {
        struct audit_record record = { .sequence = n, .text = { { "victim", 6 } } };

        assert_true(audit_journal_put(j, &record));
    }
    used = audit_journal_used(j);
    audit_journal_close(j, false);
    return used;
}

static void a_record_that_was_moved_is_not_moved_again(void **state)
{
    struct error err = ERROR_INIT;
    struct audit_journal *j = NULL;
    struct audit_cursor cursor;
    char path[PATH_MAX];
    struct audit_db *db;
    uint64_t last = 0;
    bool torn;
    (void)state;

    (void)leave_journal(20);
    find_file("journal-", path);
    /* As if whoever moves them had died right after its commit. */
    db = audit_db_open(dir, false, NULL, &err);
    assert_ok(db != NULL, err);
    assert_int_equal(audit_journal_adopt(dir, strrchr(path, '/') + 1, &j), AUDIT_ADOPTED);
    audit_journal_begin(j, &cursor);
    assert_ok(audit_db_move(db, j, &cursor, &last, &torn, &err), err);
    assert_int_equal(last, 20);
    audit_journal_close(j, false);
    audit_db_free(db);
    assert_sound(20);
    assert_int_equal(count_files("journal-"), 0);
}

static void several_servers_share_a_database(void **state)
{
    enum { SERVERS = 3, RECORDS = 400 };
    pid_t pids[SERVERS];
    (void)state;

    for (unsigned i = 0; i < SERVERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct audit_config config = { .dir = dir };
            struct audit *a = audit_open(&config, NULL);
            bool ok = a != NULL;

            for (unsigned n = 1; ok && n <= RECORDS; n++)
                ok = append(a, "server", n) && (n % 20 || audit_flush(a, soon(), NULL));
            audit_close(a);
            _exit(ok ? 0 : 1);
        }
        assert_true(pids[i] > 0);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        int status;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_sound(SERVERS * RECORDS);
    assert_int_equal(count_files("journal-"), 0);
}

static void a_damaged_journal_is_kept_and_noted(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    char path[128];
    int fd;
    (void)state;

    fill(1);
    (void)snprintf(path, sizeof path, "%s/journal-garbage", dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_ok(fd_write_all(fd, path, sizeof path, &err), err);
    (void)close(fd);
    assert_sound(2);
    list(0, "journal-garbage", &out);
    assert_contains(buf_str(&out), "2 server 0  journal-garbage failed  the journal could not");
    assert_int_equal(count_files("damaged-journal-garbage"), 1);
}

static void a_torn_record_ends_a_journal(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    off_t last_byte = 4096 + (off_t)leave_journal(2) - 1;
    char path[PATH_MAX];
    int fd;
    (void)state;

    find_file("journal-", path);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "X", 1, last_byte), 1);
    (void)close(fd);
    assert_sound(2);
    list(0, NULL, &out);
    assert_contains(buf_str(&out), "1 decision 0 victim");
    assert_contains(buf_str(&out), "the end of the journal could not be read");
    assert_int_equal(count_files("damaged-journal-"), 1);
}

/* ---- tampering ---- */

static void verify_finds_what_was_changed(void **state)
{
    static const struct {
        const char *label, *sql;
        uint64_t first_bad;
        const char *problem;
    } rows[] = {
        { "nothing", "SELECT 1", 0, "" },
        { "a field", "UPDATE audit SET detail = 'x' WHERE seq = 4", 4,
          "does not match its fields" },
        { "a number", "UPDATE audit SET wall_ns = wall_ns + 1 WHERE seq = 1", 1, "does not match" },
        { "a wide number", "UPDATE audit SET kind = kind + 4294967296 WHERE seq = 3", 3,
          "does not match" },
        { "the server", "UPDATE audit SET server = 'server_x' WHERE seq = 10", 10,
          "does not match" },
        { "text moved between fields",
          "UPDATE audit SET agent = agent || subject, subject = '' WHERE seq = 2", 2,
          "does not match" },
        { "a hash", "UPDATE audit SET hash = randomblob(32) WHERE seq = 6", 6, "does not match" },
        { "a short hash", "UPDATE audit SET hash = x'00' WHERE seq = 6", 6, "does not match" },
        { "removed inside", "DELETE FROM audit WHERE seq = 5", 5, "row 5 is missing" },
        { "removed first", "DELETE FROM audit WHERE seq = 1", 1, "row 1 is missing" },
        { "removed inside and closed up",
          "DELETE FROM audit WHERE seq = 5;"
          "UPDATE audit SET seq = seq - 1 WHERE seq > 5;"
          "UPDATE head SET rows = 9",
          5, "does not follow" },
        { "exchanged",
          "UPDATE audit SET seq = 100 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 4;"
          "UPDATE audit SET seq = 4 WHERE seq = 100",
          3, "does not follow" },
        { "inserted",
          "UPDATE audit SET seq = seq + 101 WHERE seq > 7; UPDATE audit SET seq = seq - 100 WHERE "
          "seq > 100;"
          "INSERT INTO audit SELECT 8, server, record, wall_ns, kind, syscall, agent, subject,"
          " decision, rule, detail, prev, hash FROM audit WHERE seq = 7",
          8, "does not follow" },
        { "removed at the end", "DELETE FROM audit WHERE seq > 8", 9, "the table head counts 10" },
        { "removed at the end, head too",
          "DELETE FROM audit WHERE seq > 8;"
          "UPDATE head SET rows = 8, hash = (SELECT hash FROM audit WHERE seq = 8)",
          9, "the file \"head\" counts 10" },
        { "all removed", "DELETE FROM audit; DELETE FROM head", 1, "the file \"head\" counts 10" },
        { "tables dropped", "DROP TABLE audit; DROP TABLE head", 1, "the file \"head\" counts 10" },
        { "the head forgotten", "DELETE FROM head", 10, "not noted in the table head" },
        { "the head's hash", "UPDATE head SET hash = randomblob(32)", 10, "not the one" },
        { "one added at the end",
          "INSERT INTO audit SELECT 11, server, record + 1, wall_ns, kind, syscall, agent, subject,"
          " decision, rule, detail, hash, randomblob(32) FROM audit WHERE seq = 10",
          11, "row 11" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct audit_report report;

        fill(10);
        sql(rows[i].sql);
        report = verify();
        if (report.first_bad != rows[i].first_bad || !strstr(report.problem, rows[i].problem))
            fail_msg("%s: row %llu: %s", rows[i].label, (unsigned long long)report.first_bad,
                     report.problem);
        assert_int_equal(drop_dir(NULL), 0);
        assert_int_equal(make_dir(NULL), 0);
    }
}

static void verify_finds_a_whole_log_exchanged(void **state)
{
    char from[128], to[128];
    struct audit_report before, after;
    (void)state;

    fill(4);
    before = verify();
    assert_int_equal(strlen(before.head), 64);
    (void)snprintf(from, sizeof from, "%s/head", dir);
    (void)snprintf(to, sizeof to, "%s/kept", dir);
    assert_int_equal(rename(from, to), 0);
    sql("DELETE FROM audit; DELETE FROM head; DELETE FROM journals");
    fill(4);
    assert_string_equal(verify().problem, "");
    assert_int_equal(rename(to, from), 0);
    after = verify();
    assert_contains(after.problem, "the chain was written anew");
    assert_string_not_equal(before.head, after.head);
    assert_int_equal(unlink(from), 0);
    assert_contains(verify().problem, "the file \"head\" is missing");
}

/* ---- trouble ---- */

static void a_full_disk_is_an_error_at_the_start(void **state)
{
    struct audit_config config = { .dir = dir };
    struct error err = ERROR_INIT;
    (void)state;

    fallocate_answer = ENOSPC;
    assert_null(audit_open(&config, &err));
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

static void leftovers_of_half_made_journals_go(void **state)
{
    char path[PATH_MAX], fresh[PATH_MAX];
    (void)state;

    (void)leave_journal(1);
    find_file("journal-", path);
    (void)snprintf(fresh, sizeof fresh, "%s/new-server", dir);
    assert_int_equal(rename(path, fresh), 0);
    fill(1);
    (void)kill_server_after(1, 1);
    (void)verify();
    assert_int_equal(count_files("new-"), 0);
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

#define audit_test(fn) cmocka_unit_test_setup_teardown(fn, make_dir, drop_dir)

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
        audit_test(no_record_is_lost_by_kill_9),
        audit_test(the_next_server_moves_what_a_killed_one_left),
        audit_test(a_record_that_was_moved_is_not_moved_again),
        audit_test(several_servers_share_a_database),
        audit_test(a_damaged_journal_is_kept_and_noted),
        audit_test(a_torn_record_ends_a_journal),
        audit_test(verify_finds_what_was_changed),
        audit_test(verify_finds_a_whole_log_exchanged),
        audit_test(a_full_disk_is_an_error_at_the_start),
        audit_test(a_full_journal_refuses_until_the_database_can_be_written),
        audit_test(what_cannot_be_moved_at_the_end_stays_for_the_next),
        audit_test(leftovers_of_half_made_journals_go),
        audit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
