#include "tests/support/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "tests/support/folder.h"
#include "vmctl/overlay.h"
#include "vmctl/template_internal.h"
#include "vmctl/template_store.h"

#define MIB        64u
#define MEMORY     ((uint64_t)MIB << 20)
#define DISK_BYTES (1u << 20)
#define STATE      "state of devices"
#define KEY        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char store[100];

static struct wait patience(void)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + 60 * CLOCK_NS_PER_S };
}

static int make_folder(void **state)
{
    if (folder_make(state) != 0)
        return -1;
    (void)snprintf(store, sizeof store, "%s/store", folder_base);
    return 0;
}

static struct vm_spec spec_with(int base_fd)
{
    return (struct vm_spec){
        .program = "/bin/true",
        .argv = { .memory_mib = MIB,
                  .cpus = 1,
                  .kernel_fd = -1,
                  .initrd_fd = -1,
                  .ram_fd = -1,
                  .disk_fd = -1,
                  .disk_frozen_fd = -1,
                  .disk_base_fd = base_fd },
    };
}

/* A file without a name of @len bytes that all are @fill. */
static int file_of(size_t len, int fill)
{
    int fd = open(folder_base, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char *bytes = malloc(len);

    assert_true(fd >= 0 && bytes);
    memset(bytes, fill, len);
    assert_int_equal(pwrite(fd, bytes, len, 0), (ssize_t)len);
    free(bytes);
    return fd;
}

/* What a machine would have left: pages here and there, some of them zero again. */
static struct template *freeze(int base_fd, const char *overlay_dir)
{
    static const uint64_t marks[] = { 0, 4096, 5 * 4096 + 17, 300 << 10, 10 << 20, MEMORY - 1 };
    struct vm_spec spec = spec_with(base_fd);
    struct error err = ERROR_INIT;
    struct template *t = template_new(&spec, overlay_dir, &err);
    CLEANUP(fd_closep) int overlay = -1;
    char zero[8192] = { 0 };

    assert_ok(t, err);
    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        assert_int_equal(pwrite(t->memory_fd, "m", 1, (off_t)marks[i]), 1);
    assert_int_equal(pwrite(t->memory_fd, zero, sizeof zero, 20 << 20), sizeof zero);
    assert_int_equal(pwrite(t->state_fd, STATE, sizeof STATE, 0), sizeof STATE);
    if (base_fd >= 0) {
        overlay = overlay_make(overlay_dir, DISK_BYTES, &err);
        assert_ok(overlay >= 0, err);
    }
    assert_ok(template_freeze(t, overlay, &err), err);
    return t;
}

static void assert_same(int a, int b)
{
    struct stat x, y;
    void *p, *q;

    assert_int_equal(fstat(a, &x), 0);
    assert_int_equal(fstat(b, &y), 0);
    assert_int_equal(x.st_size, y.st_size);
    p = mmap(NULL, (size_t)x.st_size, PROT_READ, MAP_PRIVATE, a, 0);
    q = mmap(NULL, (size_t)y.st_size, PROT_READ, MAP_PRIVATE, b, 0);
    assert_true(p != MAP_FAILED && q != MAP_FAILED);
    assert_memory_equal(p, q, (size_t)x.st_size);
    munmap(p, (size_t)x.st_size);
    munmap(q, (size_t)y.st_size);
}

static void keep(const struct template *t, const char *key)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(template_keep(t, store, key, &w, &err), err);
}

static struct template *load(const char *key, int base_fd, struct error *err)
{
    struct vm_spec spec = spec_with(base_fd);
    struct wait w = patience();

    return template_load(store, key, &spec, NULL, &w, err);
}

static const char *path_of(const char *key)
{
    static char path[300];

    (void)snprintf(path, sizeof path, "%s/%s.template", store, key);
    return path;
}

static unsigned count_files(void)
{
    DIR *dir = opendir(store);
    unsigned count = 0;

    for (struct dirent *e; dir && (e = readdir(dir));)
        count += strstr(e->d_name, ".template") != NULL;
    (void)closedir(dir);
    return count;
}

/* ---- keeping and loading ---- */

static void what_is_loaded_is_what_was_kept(void **state)
{
    const struct {
        bool disk;
        const char *overlay_dir;
    } rows[] = { { false, NULL }, { true, NULL }, { true, folder_base } };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(fd_closep) int base = rows[i].disk ? file_of(DISK_BYTES, 'b') : -1;
        CLEANUP(template_unrefp) struct template *t = freeze(base, rows[i].overlay_dir);
        CLEANUP(template_unrefp) struct template *again = NULL;
        struct vm_spec spec = spec_with(base);
        struct wait w = patience();
        struct error err = ERROR_INIT;
        struct template_size size;
        struct stat st;

        keep(t, KEY);
        assert_int_equal(stat(store, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        assert_int_equal(stat(path_of(KEY), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_true(st.st_size < 1 << 20); /* nothing that is zero */
        again = template_load(store, KEY, &spec, rows[i].overlay_dir, &w, &err);
        assert_ok(again, err);
        template_size(again, &size); /* looking at holes fills them */
        assert_true(size.memory_bytes < 1 << 20);
        assert_same(again->memory_fd, t->memory_fd);
        assert_same(again->state_fd, t->state_fd);
        if (rows[i].disk)
            assert_same(again->frozen_fd, t->frozen_fd);
        /* Ready for clones, and nobody can change it. */
        assert_true(again->spec.argv.incoming);
        assert_int_equal(again->spec.argv.disk_frozen_fd, again->frozen_fd);
        assert_int_equal(pwrite(again->memory_fd, "x", 1, 0), -1);
        assert_int_equal(pwrite(again->state_fd, "x", 1, 0), -1);
        if (rows[i].disk)
            assert_int_equal(pwrite(again->frozen_fd, "x", 1, 0), -1);
    }
}

static void what_is_not_there_is_not_found(void **state)
{
    struct error err = ERROR_INIT;
    (void)state;

    assert_null(load(KEY, -1, &err)); /* not even the folder */
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    assert_int_equal(mkdirat(folder_fd, "store", 0700), 0);
    assert_null(load(KEY, -1, &err));
    assert_code(err, ERR_NOT_FOUND);
}

/* ---- what is not trusted ---- */

enum harm { CUT, FLIP, GROW, OPEN, OTHER_SIZE, OTHER_DISK };

static void hurt(enum harm how, long at)
{
    CLEANUP(fd_closep) int fd = open(path_of(KEY), O_RDWR | O_CLOEXEC);
    struct stat st;
    char byte;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    if (at < 0)
        at += (long)st.st_size;
    switch (how) {
    case CUT:
        assert_int_equal(ftruncate(fd, at), 0);
        break;
    case FLIP:
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        break;
    case GROW:
        assert_int_equal(pwrite(fd, "x", 1, st.st_size), 1);
        break;
    case OPEN:
        assert_int_equal(fchmod(fd, 0644), 0);
        break;
    case OTHER_SIZE:
    case OTHER_DISK:
        break;
    }
}

static void a_file_that_is_not_as_it_was_is_removed(void **state)
{
    static const struct {
        const char *label;
        enum harm how;
        long at;
    } rows[] = {
        { "empty", CUT, 0 },
        { "half a header", CUT, 100 },
        { "only a header", CUT, 256 },
        { "cut in the memory", CUT, 20000 },
        { "the last byte", CUT, -1 },
        { "a flip in the magic", FLIP, 0 },
        { "in the key", FLIP, 20 },
        { "in a size", FLIP, 81 },
        { "in a sum", FLIP, 100 },
        { "in the header's sum", FLIP, 250 },
        { "where a run is", FLIP, 257 },
        { "how long a run is", FLIP, 265 },
        { "how long a run is, far too much", FLIP, 269 },
        { "in the memory", FLIP, 9000 },
        { "in the state", FLIP, -3 },
        { "longer", GROW, 0 },
        { "open to others", OPEN, 0 },
        { "another machine", OTHER_SIZE, 0 },
        { "with a disk", OTHER_DISK, 0 },
    };
    CLEANUP(template_unrefp) struct template *t = freeze(-1, NULL);
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(fd_closep) int base = rows[i].how == OTHER_DISK ? file_of(DISK_BYTES, 'b') : -1;
        struct vm_spec spec = spec_with(base);
        struct wait w = patience();
        struct error err = ERROR_INIT;

        keep(t, KEY);
        hurt(rows[i].how, rows[i].at);
        spec.argv.memory_mib += rows[i].how == OTHER_SIZE;
        if (template_load(store, KEY, &spec, NULL, &w, &err) || err.code != ERR_PROTOCOL)
            fail_msg("%s: code %d (%s)", rows[i].label, err.code, err.text);
        if (access(path_of(KEY), F_OK) == 0)
            fail_msg("%s: is still there", rows[i].label);
    }
}

static void a_file_under_anothers_name_is_removed(void **state)
{
    static const char other[] = "f" KEY;
    CLEANUP(template_unrefp) struct template *t = freeze(-1, NULL);
    struct error err = ERROR_INIT;
    char key[SHA256_HEX], from[300];
    (void)state;

    (void)snprintf(key, sizeof key, "%.64s", other);
    keep(t, KEY);
    (void)snprintf(from, sizeof from, "%s", path_of(KEY));
    assert_int_equal(rename(from, path_of(key)), 0);
    assert_null(load(key, -1, &err));
    assert_code(err, ERR_PROTOCOL);
    assert_int_equal(count_files(), 0);
}

/* ---- the folder ---- */

static void only_those_used_last_are_kept(void **state)
{
    CLEANUP(template_unrefp) struct template *t = freeze(-1, NULL);
    struct error err = ERROR_INIT;
    char key[SHA256_HEX];
    struct template *again;
    (void)state;

    for (int i = 0; i < (int)TEMPLATE_STORE_MAX + 3; i++) {
        const struct timespec then[2] = { { .tv_sec = 1000 + i }, { .tv_sec = 1000 + i } };

        (void)snprintf(key, sizeof key, "%064d", i);
        keep(t, key);
        assert_int_equal(utimensat(AT_FDCWD, path_of(key), then, 0), 0);
        /* The first is used every now and then. */
        (void)snprintf(key, sizeof key, "%064d", 0);
        again = load(key, -1, &err);
        assert_ok(again, err);
        template_unref(again);
    }
    assert_int_equal(count_files(), TEMPLATE_STORE_MAX);
    (void)snprintf(key, sizeof key, "%064d", (int)TEMPLATE_STORE_MAX + 2);
    assert_int_equal(access(path_of(key), F_OK), 0);
}

static void what_a_killed_server_left_is_removed_and_nothing_else(void **state)
{
    CLEANUP(template_unrefp) struct template *t = freeze(-1, NULL);
    (void)state;

    assert_int_equal(mkdirat(folder_fd, "store", 0700), 0);
    fd_close(
        openat(folder_fd, "store/" KEY ".template.tmp-77", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    fd_close(openat(folder_fd, "store/of somebody", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    keep(t, KEY);
    assert_int_equal(count_files(), 1);
    assert_int_equal(faccessat(folder_fd, "store/of somebody", F_OK, 0), 0);
}

static void one_server_writes_at_a_time_and_the_others_go_on(void **state)
{
    CLEANUP(template_unrefp) struct template *t = freeze(-1, NULL);
    CLEANUP(template_unrefp) struct template *again = NULL;
    CLEANUP(fd_closep) int lock = -1;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    (void)state;

    keep(t, KEY);
    lock = openat(folder_fd, "store/lock", O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_false(template_keep(t, store, KEY, &w, &err));
    assert_code(err, ERR_BUSY);
    error_clear(&err);
    again = load(KEY, -1, &err);
    assert_ok(again, err);
}

static _Noreturn void be_a_server(const struct template *t)
{
    for (int i = 0; i < 8; i++) {
        struct wait w = patience();
        struct error err = ERROR_INIT;
        struct template *again;

        if (!template_keep(t, store, KEY, &w, &err) && err.code != ERR_BUSY)
            _exit(1);
        error_clear(&err);
        again = load(KEY, -1, &err);
        if (!again || pread(again->memory_fd, &(char){ 0 }, 1, 4096) != 1)
            _exit(2);
        template_unref(again);
    }
    _exit(0);
}

static void servers_at_the_same_time_do_not_harm_each_other(void **state)
{
    CLEANUP(template_unrefp) struct template *t = freeze(-1, NULL);
    pid_t pids[3];
    (void)state;

    keep(t, KEY);
    for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            be_a_server(t);
    }
    for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
        int status;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(count_files(), 1);
}

/* ---- what goes wrong on the way ---- */

static void a_disk_that_is_full_keeps_what_was_there(void **state)
{
    CLEANUP(template_unrefp) struct template *t = freeze(-1, NULL);
    CLEANUP(template_unrefp) struct template *again = NULL;
    struct rlimit before, little;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    (void)state;

    keep(t, KEY);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    little = before;
    little.rlim_cur = 10000;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    assert_false(template_keep(t, store, KEY, &w, &err));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_code(err, ERR_IO);
    assert_int_equal(count_files(), 1);
    error_clear(&err);
    again = load(KEY, -1, &err);
    assert_ok(again, err);
}

static void a_cancelled_wait_leaves_nothing(void **state)
{
    CLEANUP(template_unrefp) struct template *t = freeze(-1, NULL);
    struct wait w = { .deadline_ns = 0 };
    struct vm_spec spec = spec_with(-1);
    struct error err = ERROR_INIT;
    (void)state;

    assert_false(template_keep(t, store, KEY, &w, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_int_equal(count_files(), 0);
    keep(t, KEY);
    error_clear(&err);
    assert_null(template_load(store, KEY, &spec, NULL, &w, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_int_equal(count_files(), 1); /* that says nothing of the file */
}

static void survives_every_allocation_failure(void **state)
{
    CLEANUP(template_unrefp) struct template *t = freeze(-1, NULL);
    (void)state;

    keep(t, KEY);
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct wait w = patience();
        bool ok = template_keep(t, store, KEY, &w, &err);

        FAULT_DONE(n);
        if (!ok)
            assert_code(err, ERR_NOMEM);
    }
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct template *again = load(KEY, -1, &err);

        FAULT_DONE(n);
        if (!again)
            assert_code(err, ERR_NOMEM);
        template_unref(again);
    }
    assert_int_equal(count_files(), 1);
}

#define IN_A_FOLDER(fact) cmocka_unit_test_setup_teardown(fact, make_folder, folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(what_is_loaded_is_what_was_kept),
        IN_A_FOLDER(what_is_not_there_is_not_found),
        IN_A_FOLDER(a_file_that_is_not_as_it_was_is_removed),
        IN_A_FOLDER(a_file_under_anothers_name_is_removed),
        IN_A_FOLDER(only_those_used_last_are_kept),
        IN_A_FOLDER(what_a_killed_server_left_is_removed_and_nothing_else),
        IN_A_FOLDER(one_server_writes_at_a_time_and_the_others_go_on),
        IN_A_FOLDER(servers_at_the_same_time_do_not_harm_each_other),
        IN_A_FOLDER(a_disk_that_is_full_keeps_what_was_there),
        IN_A_FOLDER(a_cancelled_wait_leaves_nothing),
        IN_A_FOLDER(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
