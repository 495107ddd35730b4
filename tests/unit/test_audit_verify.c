#include "tests/unit/audit_place.h"

#include <signal.h>
#include <sys/wait.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        audit_test(no_record_is_lost_by_kill_9),
        audit_test(the_next_server_moves_what_a_killed_one_left),
        audit_test(a_record_that_was_moved_is_not_moved_again),
        audit_test(several_servers_share_a_database),
        audit_test(a_damaged_journal_is_kept_and_noted),
        audit_test(a_torn_record_ends_a_journal),
        audit_test(verify_finds_what_was_changed),
        audit_test(verify_finds_a_whole_log_exchanged),
        audit_test(leftovers_of_half_made_journals_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
