#include "tests/unit/audit_place.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "kernel/audit_files.h"

#define SMALL_BYTES 65536 /* a file holds some 150 rows then */

static struct audit *open_rotating(int64_t max_bytes, unsigned keep)
{
    struct audit_config config = { .dir = dir, .max_bytes = max_bytes, .keep = keep };

    return audit_open(&config, NULL);
}

/* @count rows, some of them in files of their own. */
static void fill_rotating(unsigned count, int64_t max_bytes, unsigned keep)
{
    struct audit *a = open_rotating(max_bytes, keep);
    struct error err = ERROR_INIT;

    assert_non_null(a);
    for (unsigned n = 1; n <= count; n++) {
        assert_true(append(a, "default", n));
        if (n % 10 == 0)
            assert_ok(audit_flush(a, soon(), &err), err);
    }
    assert_ok(audit_flush(a, soon(), &err), err);
    audit_close(a);
}

/* A file for each transaction of ten rows: tool_1 to tool_10 in the first, and so on. */
static void fill_files(unsigned files, unsigned keep)
{
    struct error err = ERROR_INIT;
    struct audit_journal *j = audit_journal_create(dir, &err);
    struct audit_db *db = audit_db_open(dir, false, NULL, &err);
    struct audit_record record = { .sequence = 1, .kind = AUDIT_DECISION };

    assert_ok(j && db, err);
    audit_db_set_rotation(db, 1, keep);
    record.text[AUDIT_FIELD_AGENT] = (struct audit_text){ "default", 7 };
    for (unsigned i = 0; i < files; i++) {
        struct audit_cursor cursor;
        char subject[32];
        bool torn;

        for (unsigned n = 0; n < 10; n++, record.sequence++) {
            int len = snprintf(subject, sizeof subject, "tool_%u", (unsigned)record.sequence);

            record.text[AUDIT_FIELD_SUBJECT] = (struct audit_text){ subject, (size_t)len };
            assert_true(audit_journal_put(j, &record));
        }
        audit_journal_begin(j, &cursor);
        assert_ok(audit_db_move(db, j, &cursor, NULL, &torn, &err), err);
        audit_journal_release(j, cursor.passed);
    }
    audit_db_free(db);
    audit_journal_close(j, true);
}

static void path_of(unsigned number, char path[PATH_MAX])
{
    struct error err = ERROR_INIT;

    assert_ok(audit_files_path(dir, number, path, &err), err);
}

static bool there(unsigned number)
{
    char path[PATH_MAX];

    path_of(number, path);
    return access(path, F_OK) == 0;
}

static void sql_in(unsigned number, const char *text)
{
    char path[PATH_MAX];
    sqlite3 *db;

    path_of(number, path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    (void)sqlite3_close(db);
}

static void move(unsigned from, unsigned to)
{
    static const char *const ends[] = { "", "-wal", "-shm" };
    char a[PATH_MAX], b[PATH_MAX], x[PATH_MAX + 8], y[PATH_MAX + 8];

    path_of(from, a);
    path_of(to, b);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        (void)snprintf(x, sizeof x, "%s%s", a, ends[i]);
        (void)snprintf(y, sizeof y, "%s%s", b, ends[i]);
        (void)rename(x, y);
    }
}

static void exchange(unsigned a, unsigned b)
{
    move(a, 999);
    move(b, a);
    move(999, b);
}

static bool count_tool(void *arg, const struct audit_row *row)
{
    unsigned *seen = arg;

    if (!strncmp(row->subject, "tool_", 5))
        seen[strtoul(row->subject + 5, NULL, 10)]++;
    return true;
}

/* ---- the change of files ---- */

static void the_chain_goes_on_in_the_next_file(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct audit_report report;
    struct stat st;
    char path[PATH_MAX];
    (void)state;

    fill_rotating(600, SMALL_BYTES, 0);
    assert_int_equal(count_files("audit.db"), 1); /* with nothing left in a log beside it */
    report = verify();
    assert_string_equal(report.problem, "");
    assert_true(report.files >= 3);
    assert_int_equal(report.rows,
                     600 + report.files - 1); /* each but the first begins with a row */
    assert_int_equal(report.removed, 0);
    for (unsigned i = 0; i < report.files; i++) {
        path_of(i, path);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_true(st.st_size < 2 * SMALL_BYTES);
    }
    list(0, "audit", &out);
    assert_contains(buf_str(&out), "server 0  audit begun  audit.db, after row ");
    assert_contains(buf_str(&out), "audit begun  audit-000001.db, after row ");
    fill_rotating(5, SMALL_BYTES, 0); /* another server goes on where the first has ended */
    assert_true(verify().rows >= 605 + report.files - 1);
    assert_string_equal(verify().problem, "");
}

static void listing_reads_over_files(void **state)
{
    static unsigned seen[61];
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    (void)state;

    memset(seen, 0, sizeof seen);
    fill_files(6, 0);
    assert_int_equal(verify().files, 6);
    assert_ok(audit_list(dir, 0, NULL, count_tool, seen, &err), err);
    for (unsigned n = 1; n <= 60; n++)
        assert_int_equal(seen[n], 1);
    memset(seen, 0, sizeof seen);
    assert_ok(audit_list(dir, 25, "decision", count_tool, seen, &err), err);
    for (unsigned n = 1; n <= 60; n++)
        assert_int_equal(seen[n], n > 35);
    list(1, "tool_7", &out);
    assert_contains(buf_str(&out), "decision 0 default tool_7");
}

static void only_so_many_are_kept(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct audit_report report;
    (void)state;

    fill_files(8, 2);
    report = verify();
    assert_string_equal(report.problem, "");
    assert_int_equal(report.files, 3);
    assert_true(report.removed >= 40);
    assert_false(there(0));
    assert_int_equal(count_files("audit.db"), 0); /* nor what lay beside it */
    list(0, "audit", &out);
    assert_contains(buf_str(&out), "audit removed  audit-00000");
    assert_contains(buf_str(&out), ".db, up to row ");
    fill(1); /* a server that does not rotate writes to the newest */
    assert_string_equal(verify().problem, "");
    assert_int_equal(verify().rows,
                     report.rows + 2); /* the newest was full, so there is one more */
}

static void without_a_bound_there_is_one_file(void **state)
{
    (void)state;

    fill_rotating(400, 0, 1);
    assert_int_equal(verify().files, 1);
    assert_sound(400);
}

/* ---- tampering ---- */

static void verify_finds_what_was_done_to_files(void **state)
{
    enum what { NOTHING, REMOVE, EXCHANGE, SQL };
    static const struct {
        const char *label;
        enum what what;
        unsigned file, other;
        const char *sql, *problem;
    } rows[] = {
        { "nothing", NOTHING, 0, 0, NULL, "" },
        { "the oldest removed", REMOVE, 2, 0, NULL, "no row says that it was to be removed" },
        { "one in the middle removed", REMOVE, 4, 0, NULL, "the file audit-000004.db is missing" },
        { "the newest removed", REMOVE, 6, 0, NULL, "the file \"head\" counts" },
        { "two exchanged", EXCHANGE, 3, 4, NULL, "is missing" },
        { "an old row changed", SQL, 3, 0,
          "UPDATE audit SET detail = 'x' WHERE seq = (SELECT min(seq) + 3 FROM audit)",
          "does not match its fields" },
        { "an old row removed", SQL, 3, 0,
          "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
          "the last ones were removed" },
        { "an old row removed, and its marks moved", SQL, 3, 0,
          "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit);"
          "UPDATE head SET rows = rows - 1, hash = (SELECT hash FROM audit ORDER BY seq DESC);"
          "UPDATE closed SET rows = rows - 1, hash = (SELECT hash FROM audit ORDER BY seq DESC)",
          "is missing" },
        { "the row of the removal removed", SQL, 6, 0,
          "DELETE FROM audit WHERE decision = 'removed'", "is missing" },
        { "opened again", SQL, 3, 0, "DELETE FROM closed", "is not closed, but" },
        { "its end moved", SQL, 3, 0, "UPDATE closed SET hash = randomblob(32)",
          "not the one that the table closed has noted" },
        { "the origin of the oldest", SQL, 2, 0, "UPDATE origin SET rows = rows + 1",
          "is missing" },
        { "the tables of an old file dropped", SQL, 3, 0, "DROP TABLE audit", "is not closed" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct audit_report report;

        fill_files(7, 4);
        assert_true(there(2) && there(6) && !there(1) && !there(7));
        if (rows[i].what == REMOVE)
            audit_files_remove(dir, rows[i].file);
        else if (rows[i].what == EXCHANGE)
            exchange(rows[i].file, rows[i].other);
        else if (rows[i].what == SQL)
            sql_in(rows[i].file, rows[i].sql);
        report = verify();
        if (!strstr(report.problem, rows[i].problem) || !report.problem[0] != !rows[i].problem[0])
            fail_msg("%s: row %llu: %s", rows[i].label, (unsigned long long)report.first_bad,
                     report.problem);
        assert_int_equal(drop_dir(NULL), 0);
        assert_int_equal(make_dir(NULL), 0);
    }
}

/* ---- ends of servers ---- */

/* A server that appends and tells of each record, until it is killed. */
static pid_t start_server(unsigned first, unsigned keep, int report)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct audit *a = open_rotating(1, keep);

        for (unsigned n = first; a && n < first + 1000; n++) {
            if (!append(a, "victim", n) || write(report, "r", 1) != 1)
                _exit(1);
            if (n % 3 == 0 && !audit_flush(a, soon(), NULL))
                _exit(1);
        }
        _exit(1);
    }
    return pid;
}

/* Killed after @after reports; how many there were in the end. */
static unsigned kill_server_after(unsigned after, unsigned first, unsigned keep)
{
    unsigned reports = 0;
    int ends[2], status;
    pid_t pid;
    char c;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = start_server(first, keep, ends[1]);
    assert_true(pid > 0);
    (void)close(ends[1]);
    while (reports < after && read(ends[0], &c, 1) == 1)
        reports++;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    while (read(ends[0], &c, 1) == 1)
        reports++;
    (void)close(ends[0]);
    return reports;
}

/* Each is killed in another moment of making, closing and removing files. */
static void no_record_is_lost_whenever_a_server_is_killed(void **state)
{
    static unsigned seen[1000], wanted[1000];
    struct error err = ERROR_INIT;
    (void)state;

    for (unsigned keep = 0; keep <= 3; keep += 3) {
        unsigned first = 1;

        memset(seen, 0, sizeof seen);
        memset(wanted, 0, sizeof wanted);
        for (unsigned round = 0; round < 10; round++) {
            unsigned reports = kill_server_after(5 + round * 2, first, keep);

            assert_true(first + reports + 1 < ARRAY_LEN(seen));
            for (unsigned n = first; n < first + reports; n++)
                wanted[n] = 1;
            /* One may have been appended that was not told of: the next begins behind it. */
            first += reports + 1;
            if (round % 4 == 3)
                assert_string_equal(verify().problem, "");
        }
        assert_string_equal(verify().problem, "");
        assert_ok(audit_list(dir, 0, "victim", count_tool, seen, &err), err);
        for (unsigned n = 1; n < ARRAY_LEN(seen); n++) {
            if (seen[n] > 1 || (!keep && seen[n] < wanted[n]))
                fail_msg("record %u is there %u times", n, seen[n]);
        }
        assert_int_equal(drop_dir(NULL), 0);
        assert_int_equal(make_dir(NULL), 0);
    }
}

static void every_record_is_there_when_all_files_are(void **state)
{
    enum { SERVERS = 3, RECORDS = 120 };
    static unsigned seen[RECORDS + 1];
    struct error err = ERROR_INIT;
    pid_t pids[SERVERS];
    (void)state;

    memset(seen, 0, sizeof seen);
    for (unsigned i = 0; i < SERVERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct audit *a = open_rotating(i == 0 ? 0 : 1, 0); /* one of them follows only */
            bool ok = a != NULL;

            for (unsigned n = 1; ok && n <= RECORDS; n++)
                ok = append(a, "server", n) && (n % 10 || audit_flush(a, soon(), NULL));
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
    assert_string_equal(verify().problem, "");
    assert_true(verify().files > 10);
    assert_ok(audit_list(dir, 0, NULL, count_tool, seen, &err), err);
    for (unsigned n = 1; n <= RECORDS; n++)
        assert_int_equal(seen[n], SERVERS);
    assert_int_equal(count_files("journal-"), 0);
}

/* Killed between closing one file and the next one's first transaction. */
static void a_half_made_file_is_gone_on_with(void **state)
{
    char path[PATH_MAX];
    int fd;
    (void)state;

    fill_files(2, 0);
    assert_true(there(1) && !there(2));
    path_of(2, path);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_string_equal(verify().problem, "");
    fill_files(1, 0);
    assert_string_equal(verify().problem, "");
    assert_int_equal(verify().rows, 30 + 2);
    assert_int_equal(verify().files, 3);
}

/* A power cut may take the mark of the end, while the next file is there already. */
static void a_file_without_its_end_is_closed_by_the_next(void **state)
{
    (void)state;

    fill_files(2, 0);
    sql_in(1, "DELETE FROM closed");
    {
        char path[PATH_MAX];
        int fd;

        path_of(2, path);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        (void)close(fd);
    }
    fill_files(1, 0);
    assert_string_equal(verify().problem, "");
}

/* What was moved from a journal into a file that has been closed since is not moved again. */
static void a_record_is_moved_once_over_files(void **state)
{
    struct audit_journal *j;
    struct audit_record record = { .sequence = 1, .wall_ns = 5 };
    struct audit_cursor cursor;
    struct error err = ERROR_INIT;
    struct audit_db *db;
    uint64_t last;
    bool torn;
    (void)state;

    for (size_t i = 0; i < AUDIT_FIELD_COUNT; i++)
        record.text[i] = (struct audit_text){ "x", 1 };
    j = audit_journal_create(dir, &err);
    assert_ok(j, err);
    for (; record.sequence <= 20; record.sequence++)
        assert_true(audit_journal_put(j, &record));
    db = audit_db_open(dir, false, NULL, &err);
    assert_ok(db, err);
    audit_db_set_rotation(db, 1, 0);
    for (int i = 0; i < 3; i++) {
        audit_journal_begin(j, &cursor); /* never released, as when the server is killed */
        assert_ok(audit_db_move(db, j, &cursor, &last, &torn, &err), err);
        assert_int_equal(last, 20);
    }
    audit_db_free(db);
    audit_journal_close(j, false);
    assert_string_equal(verify().problem, "");
    assert_int_equal(verify().rows - (verify().files - 1), 20);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    fill_files(1, 0);

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct audit_db *db;
        bool ok;

        db = audit_db_open(dir, false, NULL, &err);
        if (db)
            audit_db_set_rotation(db, 1, 2);
        ok = db && audit_db_note_loss(db, "one", "x", &err) &&
             audit_db_note_loss(db, "two", "x", &err);
        FAULT_DONE(n);
        if (!ok && err.code != ERR_NOMEM)
            fail_msg("%s: %s", error_code_name(err.code), err.text);
        audit_db_free(db);
        assert_string_equal(verify().problem, "");
    }
    FAULT_EACH(m)
    {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct error err = ERROR_INIT, again = ERROR_INIT;
        struct audit_report report;
        bool listed, verified;

        listed = audit_list(dir, 3, NULL, note_row, &out, &err);
        verified = audit_verify(dir, &report, &again);
        FAULT_DONE(m);
        assert_true(listed || err.code == ERR_NOMEM);
        assert_true(verified || again.code == ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        audit_test(the_chain_goes_on_in_the_next_file),
        audit_test(listing_reads_over_files),
        audit_test(only_so_many_are_kept),
        audit_test(without_a_bound_there_is_one_file),
        audit_test(verify_finds_what_was_done_to_files),
        audit_test(no_record_is_lost_whenever_a_server_is_killed),
        audit_test(every_record_is_there_when_all_files_are),
        audit_test(a_half_made_file_is_gone_on_with),
        audit_test(a_file_without_its_end_is_closed_by_the_next),
        audit_test(a_record_is_moved_once_over_files),
        audit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
