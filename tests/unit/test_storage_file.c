/* The file back end: what every back end does, and what only files can suffer. */
#include "tests/unit/storage_suite.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/storage_file.h"

/* ---- what is wrapped: the disk ---- */

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to);

static long fail_at = -1; /* the n-th call from now on fails, and all after it */
static long kill_at = -1; /* at the n-th call the process is killed */
static long calls;

static bool disk_fails(void)
{
    if (kill_at >= 0 && calls++ == kill_at)
        (void)raise(SIGKILL);
    errno = EIO;
    return fail_at >= 0 && calls++ >= fail_at;
}

int __wrap_fsync(int fd)
{
    return disk_fails() ? -1 : __real_fsync(fd);
}

int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return disk_fails() ? -1 : __real_renameat(from_dir, from, to_dir, to);
}

/* ---- the folder ---- */

static void space_path(char path[160])
{
    (void)snprintf(path, 160, "%s/files/s-%s", place.dir, place.space);
}

/* The files of the space, but for "." and ".."; the last one's path goes to @ret (may be NULL). */
static unsigned count_files(char ret[512])
{
    char path[160];
    struct dirent *entry;
    unsigned count = 0;
    DIR *dir;

    space_path(path);
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        if (ret)
            (void)snprintf(ret, 512, "%s/%s", path, entry->d_name);
    }
    (void)closedir(dir);
    return count;
}

static void close_place(void)
{
    storage_close(place.s);
    place.s = NULL;
}

static int space_fd(void)
{
    char path[160];
    int fd;

    space_path(path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void no_key_and_no_space_leaves_the_folder(void **state)
{
    static const char *const spaces[] = { "..", ".", "...", "~x", "lock" };
    char before[64], path[160];
    struct stat st;
    (void)state;

    (void)snprintf(before, sizeof before, "%s", place.space);
    for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
        (void)snprintf(place.space, sizeof place.space, "%s", spaces[i]);
        (void)put("k", spaces[i]);
        assert_int_equal(count_files(NULL), 1);
        space_path(path);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
    }
    for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
        (void)snprintf(place.space, sizeof place.space, "%s", spaces[i]);
        assert_value("k", spaces[i]);
    }
    (void)snprintf(place.space, sizeof place.space, "%s", before);
}

static void a_dropped_version_takes_its_file_with_it(void **state)
{
    (void)state;

    suite_open("{\"versions\":2}");
    for (int i = 0; i < 6; i++)
        (void)put("k", "x");
    assert_int_equal(count_files(NULL), 2);
}

static void what_was_half_written_is_removed(void **state)
{
    char path[160], temp[200];
    int fd;
    (void)state;

    (void)put("k", "x");
    close_place();
    space_path(path);
    (void)snprintf(temp, sizeof temp, "%s/t-f_half", path);
    fd = open(temp, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    fd_close(fd);
    suite_open(NULL);
    assert_value("k", "x");
    assert_int_equal(count_files(NULL), 1);
}

/* ---- damage ---- */

static enum error_code why_not(const char *key, uint64_t version, char text[512])
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    bool ok = storage_get(place.s, place.space, key, version, 0, SIZE_MAX, &out, &w, NULL, &err);

    (void)snprintf(text, 512, "%s", err.text);
    return ok ? ERR_NONE : err.code;
}

static void newest_file(char path[512])
{
    char folder[160];
    struct dirent *entry;
    char best[256] = "";
    DIR *dir;

    space_path(folder);
    dir = opendir(folder);
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        if (strlen(entry->d_name) > 60 && strcmp(entry->d_name + 41, best[0] ? best + 41 : "") > 0)
            (void)snprintf(best, sizeof best, "%s", entry->d_name);
    (void)closedir(dir);
    (void)snprintf(path, 512, "%s/%s", folder, best);
}

static void a_damaged_file_is_not_passed_over(void **state)
{
    char path[512], text[512];
    (void)state;

    (void)put("k", "one");
    (void)put("k", "two");
    close_place();
    newest_file(path);
    assert_int_equal(truncate(path, 70), 0);
    suite_open(NULL);
    assert_int_equal(why_not("k", 0, text), ERR_IO);
    assert_contains(text, "damaged (version 2)");
    assert_int_equal(why_not("k", 2, text), ERR_IO);
    assert_value_at("k", 1, "one", 3);
    assert_int_equal(put("k", "three").version, 3);
    assert_value("k", "three");
    suite_open(NULL);
    assert_value("k", "three");
    assert_int_equal(why_not("k", 2, text), ERR_IO);
}

static void a_changed_value_is_not_given_out(void **state)
{
    char path[512], text[512];
    struct stat st;
    int fd;
    (void)state;

    (void)put("k", "one");
    (void)put("k", "two");
    close_place();
    newest_file(path);
    assert_int_equal(stat(path, &st), 0);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, st.st_size - 1), 1);
    fd_close(fd);
    suite_open(NULL);
    assert_int_equal(why_not("k", 0, text), ERR_IO);
    assert_contains(text, "version 2 of \"k\" is damaged");
    assert_contains(text, "storage_versions");
    assert_value_at("k", 1, "one", 3);
}

static void a_changed_header_is_noticed(void **state)
{
    char path[512], text[512];
    int fd;
    (void)state;

    (void)put("k", "one");
    close_place();
    newest_file(path);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, 56), 1); /* another key */
    fd_close(fd);
    suite_open(NULL);
    assert_int_equal(why_not("k", 0, text), ERR_IO);
    assert_int_equal(try_get("x", 0), ERR_NOT_FOUND);
    assert_keys("", 10, "");
}

static void a_link_is_not_followed(void **state)
{
    char path[512], text[512];
    (void)state;

    (void)put("k", "one");
    close_place();
    newest_file(path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    suite_open(NULL);
    assert_int_equal(why_not("k", 0, text), ERR_IO);
    assert_contains(text, "damaged");
}

static void a_file_that_is_cut_while_open_is_told(void **state)
{
    char path[512], text[512];
    (void)state;

    suite_open("{\"cache_mb\":0}");
    (void)put("k", "0123456789");
    newest_file(path);
    assert_int_equal(truncate(path, 76), 0);
    assert_int_equal(why_not("k", 0, text), ERR_IO);
    assert_contains(text, "cut");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(why_not("k", 0, text), ERR_IO);
    assert_contains(text, "gone");
}

/* ---- the journal ---- */

static void a_batch_with_a_journal_is_finished(void **state)
{
    struct storage_op ops[] = { { .kind = STORAGE_PUT, .key = "a", .data = "A", .len = 1 },
                                { .kind = STORAGE_PUT, .key = "b", .data = "B", .len = 1 } };
    struct error err = ERROR_INIT;
    struct file_move moves[2];
    uint8_t hash[FILE_HASH_BYTES];
    int fd;
    (void)state;

    (void)put("k", "x");
    close_place();
    fd = space_fd();
    for (size_t i = 0; i < 2; i++) {
        digest_of(ops[i].data, ops[i].len, ops[i].stat.sha256);
        file_hash(ops[i].key, hash);
        assert_ok(file_write_temp(fd, &ops[i], moves[i].from, &err), err);
        (void)file_name(moves[i].to, hash, 1, 1000);
    }
    assert_ok(file_journal_write(fd, moves, 2, &err), err);
    assert_int_equal(renameat(fd, moves[0].from, fd, moves[0].to), 0); /* and then it was killed */
    suite_open(NULL);
    assert_value("a", "A");
    assert_value("b", "B");
    assert_int_equal(faccessat(fd, FILE_JOURNAL, F_OK, 0), -1);
    fd_close(fd);
}

static void a_journal_that_is_none_is_told(void **state)
{
    static const char *const texts[] = {
        "",
        "t-f_x ../../lock\n0000000000000000000000000000000000000000000000000000000000000000",
    };
    char text[512], path[200], folder[160];
    struct error err = ERROR_INIT;
    (void)state;

    (void)put("k", "x");
    space_path(folder);
    (void)snprintf(path, sizeof path, "%s/batch", folder);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        close_place();
        assert_ok(fd_replace_file(path, texts[i], strlen(texts[i]), 0600, &err), err);
        suite_open(NULL);
        assert_int_equal(why_not("k", 0, text), ERR_IO);
        assert_contains(text, "journal");
    }
    assert_int_equal(unlink(path), 0);
    assert_value("k", "x"); /* as soon as somebody has looked after it */
}

/* Whatever call to the disk fails, the values are the old ones or the new ones, and never both
 * kinds; what was answered stays. */
static void a_failing_disk_leaves_old_or_new(void **state)
{
    (void)state;

    for (long n = 0;; n++) {
        struct storage_op ops[] = {
            { .kind = STORAGE_PUT, .key = "a", .data = "new", .len = 3, .if_version = STORAGE_ANY },
            { .kind = STORAGE_PUT, .key = "b", .data = "new", .len = 3, .if_version = STORAGE_ANY },
        };
        CLEANUP(buf_fini) struct buf a = BUF_INIT, b = BUF_INIT;
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        size_t count = n % 2 ? 2 : 1;
        bool ok;

        (void)put("a", "old");
        (void)put("b", "old");
        calls = 0;
        fail_at = n / 2;
        ok = storage_batch(place.s, place.space, ops, count, &w, NULL, &err);
        fail_at = -1;
        for (int again = 0; again < 2; again++) {
            buf_clear(&a);
            buf_clear(&b);
            assert_ok(storage_get(place.s, place.space, "a", 0, 0, 9, &a, &w, NULL, NULL), err);
            assert_ok(storage_get(place.s, place.space, "b", 0, 0, 9, &b, &w, NULL, NULL), err);
            assert_true(strcmp(a.data, "old") == 0 || strcmp(a.data, "new") == 0);
            if (ok)
                assert_string_equal(a.data, "new");
            if (!ok && err.code == ERR_IO)
                assert_string_equal(a.data, "old"); /* "nothing was changed" */
            if (count == 2)
                assert_string_equal(a.data, b.data);
            suite_open(NULL);
        }
        if (!ok)
            assert_true(err.code == ERR_IO || err.code == ERR_LOST);
        if (ok && count == 2)
            break;
    }
}

static void put_both(const char *value, bool *ret_ok)
{
    struct storage_op ops[] = {
        { .kind = STORAGE_PUT, .key = "a", .data = value, .len = 3, .if_version = STORAGE_ANY },
        { .kind = STORAGE_PUT, .key = "b", .data = value, .len = 3, .if_version = STORAGE_ANY },
    };
    struct wait w = suite_wait();

    *ret_ok = storage_batch(place.s, place.space, ops, 2, &w, NULL, NULL);
}

static void killed_at_any_call_a_batch_is_there_whole_or_not_at_all(void **state)
{
    bool ended = false, ok;
    (void)state;

    put_both("old", &ok);
    put_both("old", &ok);
    for (long n = 0; ok && !ended; n++) {
        int status;
        pid_t child;

        close_place();
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            suite_open(NULL);
            calls = 0;
            kill_at = n;
            put_both("new", &ok);
            _exit(ok ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        ended = WIFEXITED(status);
        if (ended)
            assert_int_equal(WEXITSTATUS(status), 0);
        suite_open(NULL);
        if (try_get("a", 3) == ERR_NONE || ended) {
            assert_value("a", "new");
            assert_value("b", "new");
        } else {
            assert_value("a", "old");
            assert_value("b", "old");
        }
        assert_int_equal(usage_now().versions, count_files(NULL));
        close_place();
        assert_true(fd_remove_tree(AT_FDCWD, place.dir, NULL) && mkdir(place.dir, 0700) == 0);
        suite_open(NULL);
        put_both("old", &ok);
        put_both("old", &ok);
        assert_true(n < 100);
    }
    assert_true(ended);
}

/* ---- memory ---- */

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    (void)put("m", "one");
    close_place();
    FAULT_EACH(n)
    {
        struct storage_op ops[] = {
            { .kind = STORAGE_PUT, .key = "a", .data = "x", .len = 1, .if_version = STORAGE_ANY },
            { .kind = STORAGE_PUT, .key = "b", .data = "x", .len = 1, .if_version = STORAGE_ANY },
        };
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        struct storage_page page = { .items = NULL }, versions = { .items = NULL };
        struct storage *s = storage_open_with(storage_file_new, place.config, NULL, &err);
        bool ok = s && storage_put(s, place.space, "m", "two", 3, STORAGE_ANY, &w, NULL, &err) &&
                  storage_batch(s, place.space, ops, 2, &w, NULL, &err) &&
                  storage_get(s, place.space, "m", 0, 0, 10, &out, &w, NULL, &err) &&
                  storage_list(s, place.space, "", NULL, 10, &w, &page, &err) &&
                  storage_versions(s, place.space, "m", NULL, 10, &w, &versions, &err);

        FAULT_DONE(n);
        storage_page_fini(&page);
        storage_page_fini(&versions);
        storage_close(s);
        assert_true(ok || !n_last); /* without memory for it the cache just stays empty */
        assert_code(err, ok ? ERR_NONE : ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SUITE_TEST(no_key_and_no_space_leaves_the_folder),
        SUITE_TEST(a_dropped_version_takes_its_file_with_it),
        SUITE_TEST(what_was_half_written_is_removed),
        SUITE_TEST(a_damaged_file_is_not_passed_over),
        SUITE_TEST(a_changed_value_is_not_given_out),
        SUITE_TEST(a_changed_header_is_noticed),
        SUITE_TEST(a_link_is_not_followed),
        SUITE_TEST(a_file_that_is_cut_while_open_is_told),
        SUITE_TEST(a_batch_with_a_journal_is_finished),
        SUITE_TEST(a_journal_that_is_none_is_told),
        SUITE_TEST(a_failing_disk_leaves_old_or_new),
        SUITE_TEST(killed_at_any_call_a_batch_is_there_whole_or_not_at_all),
        SUITE_TEST(survives_every_allocation_failure),
    };
    int failed;

    suite.make = storage_file_new;
    failed = storage_suite_run("storage_file");
    return failed + cmocka_run_group_tests_name("storage_file_own", tests, NULL, NULL);
}
