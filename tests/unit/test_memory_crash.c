#include <malloc.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>

#include "kernel/memory_internal.h"
#include "tests/unit/memory_place.h"

static struct place place;

static int make(void **state)
{
    if (folder_make(state))
        return -1;
    place_new(&place);
    return 0;
}

static int drop(void **state)
{
    place_free(&place);
    return folder_remove(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)

/* ---- SQLite's memory, from where faults come too ---- */

static void *sql_malloc(int size)
{
    return malloc((size_t)size);
}

static void *sql_realloc(void *old, int size)
{
    return realloc(old, (size_t)size);
}

static int sql_size(void *block)
{
    return (int)malloc_usable_size(block);
}

static int sql_roundup(int size)
{
    return (size + 7) & ~7;
}

static int sql_init(void *arg)
{
    (void)arg;
    return SQLITE_OK;
}

static void sql_shutdown(void *arg)
{
    (void)arg;
}

static const sqlite3_mem_methods sql_memory = { sql_malloc,  free,     sql_realloc,  sql_size,
                                                sql_roundup, sql_init, sql_shutdown, NULL };

/* ---- kill -9 ---- */

#define KILLS      12
#define NOTE_BYTES 20000

struct answered {
    char id[40];
    int number;
};

static char *numbered(int number)
{
    char *text = malloc(NOTE_BYTES + 1);

    if (!text)
        return NULL;
    memset(text, '.', NOTE_BYTES);
    text[NOTE_BYTES] = '\0';
    memcpy(text, "unique", 6);
    text[snprintf(text, 32, "unique%d", number)] = ' ';
    return text;
}

/* Saves, deletes, and reports each answer, until it is killed. */
static void child(int fd, int first)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();

    place.m = memory_open(&place.config, &place.storage, &place.llm, NULL, &err);
    for (int i = first; place.m; i++) {
        struct answered a = { .number = i };
        char *text = numbered(i);
        struct memory_note note;

        if (!text || !memory_save(place.m, &alice, NULL, text, NOTE_BYTES, NULL, MEMORY_PRIVATE, 0,
                                  &w, &note, &err))
            break;
        memcpy(a.id, note.id, sizeof a.id);
        memory_note_fini(&note);
        free(text);
        if (write(fd, &a, sizeof a) != sizeof a)
            break;
    }
    _exit(1);
}

static void check_answered(const struct answered *a, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *text = numbered(a[i].number), word[32];
        struct memory_found found;

        assert_non_null(text);
        assert_text(&place, a[i].id, text);
        free(text);
        (void)snprintf(word, sizeof word, "unique%d", a[i].number);
        found = find_as(&place, &alice, (struct memory_query){ .text = word });
        if (found.count != 1 || strcmp(found.notes[0].id, a[i].id) != 0)
            fail_msg("%s: %zu found", word, found.count);
        memory_found_fini(&found);
    }
}

static void what_was_answered_survives_a_kill(void **state)
{
    static struct answered a[KILLS * 200];
    size_t count = 0;
    struct memory_usage u;
    struct error err = ERROR_INIT;
    (void)state;

    place_close(&place);
    for (int round = 0; round < KILLS; round++) {
        int pipe_fds[2], status;
        /* Before, in and after the moves that begin at some fifty notes. */
        size_t until = count + 3 + (size_t)(round * 13 % 67);
        pid_t pid;

        assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            child(pipe_fds[1], (int)count + 1000 * round);
        fd_close(pipe_fds[1]);
        while (count < until && read(pipe_fds[0], &a[count], sizeof a[0]) == sizeof a[0])
            count++;
        assert_int_equal(count, until);
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (read(pipe_fds[0], &a[count], sizeof a[0]) == sizeof a[0])
            count++; /* answered before the end */
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && count < ARRAY_LEN(a));
        fd_close(pipe_fds[0]);
    }
    place_open(&place);
    check_answered(a, count);
    assert_ok(memory_usage(place.m, "alice", &u, &err), err);
    assert_true(u.notes >= count &&
                u.notes <= count + KILLS); /* the last may be there unanswered */
    assert_true(u.evictions > 0 && u.resident_bytes <= u.quota_bytes);
    assert_int_equal(u.resident_bytes + u.stored_bytes, u.notes * NOTE_BYTES);
}

/* ---- the database in trouble ---- */

static sqlite3 *open_beside(void)
{
    sqlite3 *sql = NULL;

    assert_int_equal(sqlite3_open(folder_path("memory/memory.db"), &sql), SQLITE_OK);
    return sql;
}

static void waits_for_another_program_no_longer_than_it_may(void **state)
{
    struct id_of id = save(&place, "before");
    struct error err = ERROR_INIT;
    struct wait w = { .cancel = NULL };
    sqlite3 *sql = open_beside();
    (void)state;

    assert_int_equal(sqlite3_exec(sql, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    w.deadline_ns = clock_add_ns(clock_now_ns(), SECOND / 2);
    assert_false(
        memory_save(place.m, &alice, NULL, "x", 1, NULL, MEMORY_PRIVATE, 0, &w, NULL, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_contains(err.text, "another program holds");
    assert_text(&place, id.text, "before");
    assert_int_equal(sqlite3_exec(sql, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(sql);
    save(&place, "after");
    assert_string_equal(FOUND(&place, &alice, .limit = 5), "after,before");
}

static void limit_pages(int64_t pages)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct memory_conn *c = memory_db_begin(place.m->db, &w, &err);
    char text[64];

    assert_ok(c, err);
    memory_db_release(c);
    (void)snprintf(text, sizeof text, "PRAGMA max_page_count=%lld", (long long)pages);
    assert_int_equal(sqlite3_exec(c->sql, text, NULL, NULL, NULL), SQLITE_OK);
}

static void a_full_disk_changes_nothing(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of last = { "" };
    struct memory_note note;
    struct memory_usage u;
    uint64_t count = 0;
    char *text = numbered(1);
    (void)state;

    assert_non_null(text);
    limit_pages(100);
    while (memory_save(place.m, &alice, NULL, text, NOTE_BYTES, NULL, MEMORY_PRIVATE, 0, &w, &note,
                       &err)) {
        memcpy(last.text, note.id, sizeof last.text);
        memory_note_fini(&note);
        assert_true(++count < 100);
    }
    assert_code(err, ERR_IO);
    assert_contains(err.text, "no room on the disk");
    error_clear(&err);
    assert_ok(memory_usage(place.m, "alice", &u, &err), err);
    assert_int_equal(u.notes, count);
    assert_int_equal(u.resident_bytes, count * NOTE_BYTES);
    assert_text(&place, last.text, text);
    free(text);
    limit_pages(1 << 20);
    save(&place, "room again");
    assert_string_equal(FOUND(&place, &alice, .text = "room"), "room again");
}

static void says_that_the_database_is_damaged(void **state)
{
    static char junk[64 << 10];
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of ids[60];
    struct stat st;
    int fd, failures = 0;
    (void)state;

    for (int i = 0; i < 60; i++) {
        char text[4000];

        memset(text, 'a' + i % 26, sizeof text);
        text[sizeof text - 1] = '\0';
        text[7] = ' ';
        ids[i] = save(&place, text);
    }
    place_close(&place);
    memset(junk, 0x5a, sizeof junk);
    fd = open(folder_path("memory/memory.db"), O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 5 * (off_t)sizeof junk / 2);
    assert_int_equal(pwrite(fd, junk, sizeof junk, st.st_size / 2 / 4096 * 4096), sizeof junk);
    fd_close(fd);
    place.m = memory_open(&place.config, &place.storage, &place.llm, NULL, &err);
    for (int i = 0; place.m && i < 60; i++) {
        struct memory_note note;

        error_clear(&err);
        if (memory_get(place.m, &alice, ids[i].text, &w, &note, &err)) {
            memory_note_fini(&note);
            continue;
        }
        assert_code(err, ERR_IO);
        assert_contains(err.text, "is damaged");
        failures++;
    }
    assert_true(!place.m || failures > 0);
    assert_int_equal(stat(folder_path("memory/memory.db"), &st), 0); /* nobody removed it */
}

static void leaves_files_of_others_alone(void **state)
{
    struct error err = ERROR_INIT;
    sqlite3 *sql;
    (void)state;

    place_close(&place);
    assert_int_equal(unlink(folder_path("memory/memory.db")), 0);
    folder_put("memory/memory.db", "this is a letter and no database, however long it may become, "
                                   "so that it has a whole header's length of a hundred bytes");
    assert_null(memory_open(&place.config, &place.storage, NULL, NULL, &err));
    assert_code(err, ERR_IO);
    assert_contains(err.text, "memory.db is damaged");
    error_clear(&err);
    assert_int_equal(unlink(folder_path("memory/memory.db")), 0);
    sql = open_beside();
    assert_int_equal(sqlite3_exec(sql, "CREATE TABLE theirs (x)", NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(sql);
    assert_null(memory_open(&place.config, &place.storage, NULL, NULL, &err));
    assert_code(err, ERR_IO);
    assert_contains(err.text, "something else");
}

/* ---- memory that runs out ---- */

static void open_survives_every_allocation_failure(void **state)
{
    unsigned failed = 0;
    (void)state;

    place_close(&place);
    for (unsigned n = 0;; n += n < 60 ? 1 : 11) {
        struct error err = ERROR_INIT;
        bool met;

        fault_arm(n);
        place.m = memory_open(&place.config, &place.storage, &place.llm, place.bus, &err);
        met = fault_disarm();
        if (place.m) {
            place_close(&place);
            if (!met)
                break;
        } else {
            assert_code(err, ERR_NOMEM);
            failed++;
        }
    }
    assert_true(failed > 20);
}

struct counts {
    int ok, failed;
};

/* One save, one search, one replacement, one deletion with the @n-th allocation failing. */
static bool try_all(unsigned n, int which, struct id_of *id, struct counts *counts)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct memory_query q = { .text = "\"some words\" of it", .limit = 5, .semantic = which == 4 };
    struct memory_found found = { .count = 0 };
    struct memory_note note;
    bool ok = false, met;

    fault_arm(n);
    switch (which) {
    case 0:
        ok = memory_save(place.m, &alice, NULL, "some words in it", 16, NULL, MEMORY_GROUP, 0, &w,
                         &note, &err);
        break;
    case 1:
    case 4:
        ok = memory_search(place.m, &alice, &q, &w, &found, &err);
        break;
    case 2:
        ok = memory_save(place.m, &alice, id->text, "other words in it", 17, NULL, MEMORY_ALL, 0,
                         &w, &note, &err);
        break;
    case 3:
        ok = memory_get(place.m, &alice, id->text, &w, &note, &err);
        break;
    default:
        ok = memory_delete(place.m, &alice, id->text, &w, &err);
        break;
    }
    met = fault_disarm();
    if (!ok)
        assert_code(err, ERR_NOMEM);
    counts->ok += ok;
    counts->failed += !ok;
    if (ok && which == 0)
        memcpy(id->text, note.id, sizeof id->text);
    if (ok && (which == 0 || which == 2 || which == 3))
        memory_note_fini(&note);
    memory_found_fini(&found);
    return met;
}

static void every_call_survives_every_allocation_failure(void **state)
{
    (void)state;
    atomic_store(&place.llm.configured, true);
    for (int which = 0; which <= 5; which++) {
        struct counts counts = { .ok = 0 };
        struct id_of id = save(&place, "a note to begin with");
        bool met = true;

        for (unsigned n = 0; met && n < 4000; n += n < 100 ? 1 : 7) {
            uint64_t before, after;
            struct error err = ERROR_INIT;
            struct memory_usage u;
            struct counts now = { .ok = 0 };

            if (which == 5)
                id = save(&place, "about to go");
            assert_ok(memory_usage(place.m, "alice", &u, &err), err);
            before = u.notes;
            met = try_all(n, which, &id, &now);
            assert_ok(memory_usage(place.m, "alice", &u, &err), err);
            after = u.notes;
            assert_int_equal(after - before, which == 0   ? (uint64_t)now.ok
                                             : which == 5 ? (uint64_t)-now.ok
                                                          : 0);
            counts.ok += now.ok;
            counts.failed += now.failed;
        }
        assert_false(met);
        if (counts.ok == 0 || counts.failed == 0)
            fail_msg("call %d: %d done, %d failed", which, counts.ok, counts.failed);
    }
    save(&place, "finally");
    assert_string_equal(FOUND(&place, &alice, .text = "finally"), "finally");
}

static void moving_survives_every_allocation_failure(void **state)
{
    char *big = numbered(7);
    struct id_of first = save(&place, "the first of all");
    (void)state;

    assert_non_null(big);
    for (unsigned n = 0; n < 900; n += n < 150 ? 1 : 13) {
        struct error err = ERROR_INIT;
        struct wait w = soon();
        struct memory_note note;
        struct memory_usage u;

        fault_arm(n);
        if (memory_save(place.m, &alice, NULL, big, NOTE_BYTES, NULL, MEMORY_PRIVATE, 0, &w, &note,
                        &err)) {
            (void)fault_disarm();
            memory_note_fini(&note);
        } else {
            (void)fault_disarm();
            assert_code(err, ERR_NOMEM);
        }
        assert_ok(memory_usage(place.m, "alice", &u, &err) || err.code == ERR_NOMEM, err);
        assert_true(u.resident_bytes <= u.quota_bytes);
        assert_int_equal(u.resident_bytes + u.stored_bytes,
                         (u.notes - 1) * NOTE_BYTES + strlen("the first of all"));
        if (n % 10 == 0)
            assert_text(&place, first.text, "the first of all");
    }
    free(big);
}

/* ---- threads ---- */

#define THREADS 4
#define ROUNDS  60

struct worker {
    pthread_t thread;
    int number;
    const char *failed; /* what did, for the thread that started it */
};

static void *work(void *arg)
{
    struct worker *me = arg;
    struct memory_who who = { .agent = me->number % 2 ? "alice" : "bob", .group = "team" };
    char *text = malloc(30001);
    char last[40] = "";

    me->failed = text ? NULL : "malloc";
    for (int i = 0; !me->failed && i < ROUNDS; i++) {
        struct wait w = soon();
        struct memory_query q = {
            .text = "common words", .shared = true, .limit = 3, .semantic = i % 3 == 0
        };
        struct memory_found found = { .count = 0 };
        struct memory_note note;
        struct error err = ERROR_INIT;

        memset(text, 'y', 30000);
        text[30000] = '\0';
        memcpy(text, "common words ", 13);
        if (!memory_save(place.m, &who, NULL, text, 30000, NULL, i % 2 ? MEMORY_GROUP : MEMORY_ALL,
                         0, &w, &note, &err)) {
            me->failed = "save";
        } else {
            memcpy(last, note.id, sizeof last);
            memory_note_fini(&note);
        }
        if (!me->failed && !memory_search(place.m, &who, &q, &w, &found, &err))
            me->failed = "search";
        memory_found_fini(&found);
        if (!me->failed && i % 5 == 4 && !memory_delete(place.m, &who, last, &w, &err))
            me->failed = "delete";
        else if (!me->failed && i % 5 == 3) {
            if (memory_get(place.m, &who, last, &w, &note, &err))
                memory_note_fini(&note);
            else
                me->failed = "get";
        }
        if (me->failed)
            print_message("thread %d, round %d: %s: %s\n", me->number, i, me->failed, err.text);
    }
    free(text);
    return NULL;
}

static void serves_several_threads(void **state)
{
    struct worker workers[THREADS];
    struct error err = ERROR_INIT;
    (void)state;

    atomic_store(&place.llm.configured, true);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){ .number = i };
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_null(workers[i].failed);
    for (int i = 0; i < 2; i++) {
        struct memory_usage u;

        assert_ok(memory_usage(place.m, i ? "bob" : "alice", &u, &err), err);
        assert_int_equal(u.notes, THREADS / 2 * ROUNDS / 5 * 4);
        assert_int_equal(u.resident_bytes + u.stored_bytes, u.notes * 30000);
        assert_true(u.resident_bytes <= u.quota_bytes && u.evictions > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_answered_survives_a_kill),
        TEST(waits_for_another_program_no_longer_than_it_may),
        TEST(a_full_disk_changes_nothing),
        TEST(says_that_the_database_is_damaged),
        TEST(leaves_files_of_others_alone),
        TEST(open_survives_every_allocation_failure),
        TEST(every_call_survives_every_allocation_failure),
        TEST(moving_survives_every_allocation_failure),
        TEST(serves_several_threads),
    };

    (void)sqlite3_config(SQLITE_CONFIG_MALLOC, &sql_memory);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
