/* What the back ends on this machine's disk keep when the process is killed, and when the disk is
 * full.  Children do the work: nothing here has threads before them. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/config.h"
#include "kernel/storage_backend.h"
#include "tests/support/folder.h"

#define ROUNDS   8
#define THREADS  3
#define KEYS     5
#define MOST     (96u << 10) /* bytes of a value */
#define PATIENCE 100         /* seconds, that only a bug uses up */

/* ---- what is written ---- */

static storage_backend_fn *make_backend;

static struct storage *open_at(const char *dir, struct config **ret_config, struct error *err)
{
    json_t *over =
        json_pack("{s:{s:s,s:i,s:i}}", "storage", "dir", dir, "versions", 10000, "cache_mb", 0);

    *ret_config = config_parse(NULL, 0, "", over, err);
    json_decref(over);
    return *ret_config ? storage_open_with(make_backend, *ret_config, NULL, err) : NULL;
}

static struct wait soon(void)
{
    return (struct wait){ .deadline_ns = clock_add_ns(clock_now_ns(), PATIENCE * CLOCK_NS_PER_S) };
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 31) * 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

/* A value says its number in its first bytes, and all the others follow from it. */
static size_t value_of(uint64_t number, unsigned char *data)
{
    size_t len = sizeof number + (size_t)(mix(number) % (number % 4 ? 3000 : MOST));

    memcpy(data, &number, sizeof number);
    for (size_t i = sizeof number; i < len; i++)
        data[i] = (unsigned char)(mix(number + i / 64) >> i % 57);
    return len;
}

/* ---- the child ---- */

/* What is told through the pipe for each answered write. */
struct told {
    uint64_t number;
    uint32_t thread, is_batch;
};

struct worker {
    pthread_t thread;
    struct storage *s;
    uint64_t seed;
    unsigned id;
    int pipe;
};

static void key_of(char key[32], unsigned thread, uint64_t number, bool second)
{
    (void)snprintf(key, 32, "t%u/%s%llu", thread, second ? "b" : "k",
                   (unsigned long long)(mix(number) % KEYS));
}

static bool write_number(struct worker *me, uint64_t number, unsigned char *data)
{
    size_t len = value_of(number, data);
    struct wait w = soon();
    char a[32], b[32];
    struct storage_op ops[] = {
        { .kind = STORAGE_PUT, .key = a, .data = data, .len = len, .if_version = STORAGE_ANY },
        { .kind = STORAGE_PUT, .key = b, .data = data, .len = len, .if_version = STORAGE_ANY },
    };

    key_of(a, me->id, number, false);
    key_of(b, me->id, number, true);
    return storage_batch(me->s, "crash", ops, number % 3 == 0 ? 2 : 1, &w, NULL, NULL);
}

static void *write_until_killed(void *arg)
{
    struct worker *me = arg;
    unsigned char *data = malloc(MOST + 64);

    for (uint64_t i = 1; data; i++) {
        uint64_t number = me->seed << 24 | (uint64_t)me->id << 20 | i;
        struct told told = { number, me->id, number % 3 == 0 };

        if (!write_number(me, number, data) ||
            write(me->pipe, &told, sizeof told) != (ssize_t)sizeof told)
            break;
    }
    free(data);
    return NULL;
}

static void be_the_child(const char *dir, uint64_t seed, int pipe)
{
    struct worker workers[THREADS];
    struct error err = ERROR_INIT;
    struct config *config;
    struct storage *s = open_at(dir, &config, &err);

    for (unsigned i = 0; s && i < THREADS; i++) {
        workers[i] = (struct worker){ .s = s, .seed = seed, .id = i, .pipe = pipe };
        if (pthread_create(&workers[i].thread, NULL, write_until_killed, &workers[i]) != 0)
            _exit(2);
    }
    for (unsigned i = 0; s && i < THREADS; i++)
        (void)pthread_join(workers[i].thread, NULL);
    (void)fprintf(stderr, "the child failed: %s\n", err.text);
    _exit(1);
}

/* ---- the check ---- */

static void assert_whole(const struct storage_stat *stat, const struct buf *value,
                         unsigned char *scratch, uint64_t *ret_number)
{
    assert_int_equal(value->len, stat->bytes);
    assert_true(value->len >= sizeof *ret_number);
    memcpy(ret_number, value->data, sizeof *ret_number);
    if (value_of(*ret_number, scratch) != value->len ||
        memcmp(scratch, value->data, value->len) != 0)
        fail_msg("version %llu of %s is not whole", (unsigned long long)stat->version, stat->key);
}

/* Every kept version is whole; the numbers found go to @found by thread, key and kind, newest. */
struct found {
    uint64_t newest[THREADS][2][KEYS];
    size_t versions;
};

static void check_key(struct storage *s, unsigned thread, bool second, unsigned k,
                      unsigned char *scratch, struct found *found)
{
    struct wait w = soon();
    struct error err = ERROR_INIT;
    struct storage_page page;
    uint64_t above = UINT64_MAX;
    char key[32];

    (void)snprintf(key, sizeof key, "t%u/%s%u", thread, second ? "b" : "k", k);
    assert_ok(storage_versions(s, "crash", key, NULL, STORAGE_PAGE_MAX, &w, &page, &err), err);
    for (size_t i = 0; i < page.count; i++) {
        CLEANUP(buf_fini) struct buf value = BUF_INIT;
        uint64_t number;

        assert_ok(storage_get(s, "crash", key, page.items[i].version, 0, SIZE_MAX, &value, &w, NULL,
                              &err),
                  err);
        assert_int_equal(page.items[i].version, page.count - i); /* none is missing */
        assert_whole(&page.items[i], &value, scratch, &number);
        assert_true(number < above); /* and they are in order */
        above = number;
        if (i == 0)
            found->newest[thread][second][k] = number;
        found->versions++;
    }
    storage_page_fini(&page);
}

static void check_all(const char *dir, const struct told *told, size_t count)
{
    unsigned char *scratch = malloc(MOST + 64);
    struct error err = ERROR_INIT;
    struct config *config;
    struct storage *s = open_at(dir, &config, &err);
    struct found found = { .versions = 0 };
    struct storage_usage usage;
    struct wait w = soon();

    assert_ok(s, err);
    assert_non_null(scratch);
    for (unsigned i = 0; i < THREADS * 2 * KEYS; i++)
        check_key(s, i / 2 / KEYS, i / KEYS % 2, i % KEYS, scratch, &found);
    for (size_t i = 0; i < count; i++) {
        unsigned k = (unsigned)(mix(told[i].number) % KEYS);

        if (found.newest[told[i].thread][0][k] < told[i].number ||
            (told[i].is_batch && found.newest[told[i].thread][1][k] < told[i].number))
            fail_msg("%llx was answered and is lost", (unsigned long long)told[i].number);
    }
    /* A batch is there in both of its keys, or in none: what the second holds the first has too. */
    for (unsigned t = 0; t < THREADS; t++) {
        for (unsigned k = 0; k < KEYS; k++) {
            uint64_t one = found.newest[t][0][k], two = found.newest[t][1][k];

            if (two > one || (one % 3 == 0 && one != two))
                fail_msg("half a batch: %llx, %llx", (unsigned long long)one,
                         (unsigned long long)two);
        }
    }
    assert_ok(storage_usage(s, "crash", &w, &usage, &err), err);
    assert_int_equal(usage.versions, found.versions);
    free(scratch);
    storage_close(s);
    config_free(config);
}

static void keeps_what_was_answered_when_killed(void **state)
{
    char dir[300];
    struct told *told = calloc(100000, sizeof *told);
    size_t count = 0;

    (void)state;
    assert_non_null(told);
    (void)snprintf(dir, sizeof dir, "%s", folder_path("s"));
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        size_t until = count + 1 + mix(round) % 40;
        uint64_t more = mix(round * 7919) % 4000;
        int pipes[2], status;
        pid_t child;

        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0)
            be_the_child(dir, round, pipes[1]);
        fd_close(pipes[1]);
        while (count < until && read(pipes[0], &told[count], sizeof *told) == (ssize_t)sizeof *told)
            count++;
        assert_int_equal(count, until);
        while (more-- > 0) /* somewhere in the middle of a write */
            (void)getppid();
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        while (count < 100000 &&
               read(pipes[0], &told[count], sizeof *told) == (ssize_t)sizeof *told)
            count++; /* what it had told before */
        fd_close(pipes[0]);
        check_all(dir, told, count);
    }
    free(told);
}

/* ---- a full disk ---- */

#define CHECK(cond, err)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            (void)fprintf(stderr, "%d: %s: %s %s\n", __LINE__, #cond, error_code_name((err).code), \
                          (err).text);                                                             \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static bool holds(struct storage *s, unsigned i, const char *data, size_t len)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = soon();
    char key[16];

    (void)snprintf(key, sizeof key, "%u", i);
    return storage_get(s, "full", key, 0, 0, SIZE_MAX, &out, &w, NULL, NULL) && out.len == len &&
           memcmp(out.data, data, len) == 0;
}

/* Puts until there is no more room; makes room with @relieve; nothing is lost, and it goes on. */
static void fill_up(const char *dir, void (*relieve)(const char *dir))
{
    static char data[48 << 10];
    struct error err = ERROR_INIT, ignored = ERROR_INIT;
    struct config *config;
    struct storage *s = open_at(dir, &config, &err);
    struct wait w = soon();
    unsigned count = 0;
    bool ok = true;

    CHECK(s, err);
    memset(data, 'x', sizeof data);
    while (ok && count < 1000) {
        char key[16];

        (void)snprintf(key, sizeof key, "%u", count);
        ok = storage_put(s, "full", key, data, sizeof data, 0, &w, NULL, &err);
        count += ok;
    }
    CHECK(!ok && count > 4, err);
    CHECK(err.code == ERR_IO && (err.os_errno == ENOSPC || err.os_errno == EFBIG), err);
    CHECK(strstr(err.text, "nothing was changed"), err);
    for (unsigned i = 0; i < count; i++)
        CHECK(holds(s, i, data, sizeof data), ignored);
    CHECK(!holds(s, count, data, sizeof data), ignored);
    storage_close(s);
    s = open_at(dir, &config, &ignored); /* a full disk is no reason not to read */
    CHECK(s, ignored);
    for (unsigned i = 0; i < count; i++)
        CHECK(holds(s, i, data, sizeof data), ignored);
    relieve(dir);
    error_clear(&err);
    ok = storage_put(s, "full", "after", data, 100, 0, &w, NULL, &err);
    CHECK(ok, err);
    CHECK(holds(s, 0, data, sizeof data), err);
    storage_close(s);
    _exit(0);
}

static void drop_ballast(const char *dir)
{
    char path[320];

    (void)snprintf(path, sizeof path, "%s/../ballast", dir);
    (void)unlink(path);
}

static void lift_limit(const char *dir)
{
    struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };

    (void)dir;
    (void)getrlimit(RLIMIT_FSIZE, &none);
    none.rlim_cur = none.rlim_max;
    (void)setrlimit(RLIMIT_FSIZE, &none);
}

static bool put_ballast(const char *base)
{
    static char block[400 << 10];
    char path[320];
    int fd;
    bool ok;

    (void)snprintf(path, sizeof path, "%s/ballast", base);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ok = fd >= 0 && write(fd, block, sizeof block) == (ssize_t)sizeof block;
    fd_close(fd);
    return ok;
}

/* 77: this machine lets nobody mount. */
static void be_the_child_on_a_small_disk(const char *base, const char *dir)
{
    if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", base, "tmpfs", 0, "size=3m,mode=0777") != 0)
        _exit(77);
    if (!put_ballast(base))
        _exit(3);
    fill_up(dir, drop_ballast);
}

static int run_child(void (*child)(const char *base, const char *dir), const char *dir)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        child(folder_base, dir);
        _exit(9);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_full_disk_loses_nothing(void **state)
{
    char dir[300];
    int code;

    (void)state;
    (void)snprintf(dir, sizeof dir, "%s/s", folder_base);
    code = run_child(be_the_child_on_a_small_disk, dir);
    if (code == 77)
        skip_because("no file system can be mounted here");
    assert_int_equal(code, 0);
}

/* A file that may not grow, which every machine can do: to SQLite it is a full disk. */
static void be_the_child_with_short_files(const char *base, const char *dir)
{
    struct rlimit limit = { 600 << 10, RLIM_INFINITY };

    (void)base;
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 600 << 10;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        _exit(77);
    fill_up(dir, lift_limit);
}

static void a_file_that_may_not_grow_loses_nothing(void **state)
{
    char dir[300];

    (void)state;
    (void)snprintf(dir, sizeof dir, "%s/s", folder_base);
    assert_int_equal(run_child(be_the_child_with_short_files, dir), 0);
}

static int with_sqlite(void **state)
{
    make_backend = storage_sqlite_new;
    return folder_make(state);
}

static int with_files(void **state)
{
    make_backend = storage_file_new;
    return folder_make(state);
}

int main(void)
{
#define SQLITE(test)                                            \
    {                                                           \
        "sqlite_" #test, test, with_sqlite, folder_remove, NULL \
    }
#define FILES(test)                                          \
    {                                                        \
        "file_" #test, test, with_files, folder_remove, NULL \
    }
    const struct CMUnitTest tests[] = {
        SQLITE(keeps_what_was_answered_when_killed),
        FILES(keeps_what_was_answered_when_killed),
        SQLITE(a_full_disk_loses_nothing),
        FILES(a_full_disk_loses_nothing),
        SQLITE(a_file_that_may_not_grow_loses_nothing),
    };

    return cmocka_run_group_tests_name("storage_crash", tests, NULL, NULL);
}
