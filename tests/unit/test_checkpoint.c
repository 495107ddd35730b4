#include "sandbox/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "sandbox/launch.h"
#include "tests/support/check.h"

/* In place of a child in the sandbox's namespaces: this process, or what a test wants to happen. */
static enum { COPY, TIME_OUT, CODE_7, FULL } inside;

bool __wrap_launch_inside(int userns_fd, int mntns_fd, int (*fn)(void *arg), void *arg,
                          int *ret_exit, const struct wait *w, struct error *err);

bool __wrap_launch_inside(int userns_fd, int mntns_fd, int (*fn)(void *arg), void *arg,
                          int *ret_exit, const struct wait *w, struct error *err)
{
    (void)userns_fd;
    (void)mntns_fd;
    (void)w;
    if (inside == TIME_OUT)
        return error_set(err, ERR_TIMEOUT, "too late");
    *ret_exit = inside == CODE_7 ? 7 : fn(arg);
    return true;
}

static char dir[64];
static struct checkpoints *all;
static int layer_fd;
static const struct wait soon = { .deadline_ns = CLOCK_NEVER };
static const struct checkpoint_hold nothing = { .count = 0 };

static bool exists(const char *name)
{
    char path[300];

    (void)snprintf(path, sizeof path, "%s/checkpoints/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void put(const char *name, const char *text)
{
    char path[300];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    close(fd);
}

static void put_dir(const char *name)
{
    char path[300];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!fd_mkdirs(path, 0755, NULL))
        abort();
}

static int set_up(void **state)
{
    char path[100];

    (void)state;
    inside = COPY;
    (void)snprintf(dir, sizeof dir, "/tmp/test_checkpoint.XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    put_dir("layer/layer/home");
    put("layer/layer/home/note", "first");
    (void)snprintf(path, sizeof path, "%s/layer", dir);
    layer_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    all = checkpoints_new(dir, "me", geteuid() ? geteuid() : 4711, geteuid() ? getegid() : 4711,
                          NULL);
    return all && layer_fd >= 0 ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    checkpoints_free(all);
    close(layer_fd);
    return fd_remove_tree(AT_FDCWD, dir, NULL) ? 0 : 1;
}

static bool save_on(const char *id, const struct checkpoint_hold *hold, struct error *err)
{
    const struct checkpoint_source source = {
        .layer_fd = layer_fd, .userns_fd = -1, .mntns_fd = -1, .hold = hold, .max_bytes = 4096
    };

    return checkpoint_save(all, id, &source, &soon, err);
}

static void assert_file(const char *path, const char *want)
{
    char *text = fd_read_file(AT_FDCWD, path, 4096, NULL, NULL);

    if (!text)
        fail_msg("%s is not there", path);
    assert_string_equal(text, want);
    free(text);
}

static void saves_what_can_be_held_and_read(void **state)
{
    struct error err = ERROR_INIT;
    struct checkpoint_hold hold;
    char path[300];

    (void)state;
    assert_ok(save_on("k_1", &nothing, &err), err);
    assert_ok(checkpoint_hold(all, "k_1", &hold, &err), err);
    assert_int_equal(hold.count, 1);
    assert_string_equal(hold.layers[0].id.text, "k_1");
    (void)snprintf(path, sizeof path, "%s/home/note", hold.layers[0].path);
    assert_file(path, "first");
    checkpoint_release(all, &hold);
    assert_true(exists("k_1"));
}

static void names_must_be_new_and_plain(void **state)
{
    static const char *const bad[] = { "",    "../x",
                                       "a/b", ".new",
                                       "a-b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
    struct error err = ERROR_INIT;
    struct checkpoint_hold hold;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(save_on(bad[i], &nothing, &err));
        assert_code(err, ERR_INVALID);
        error_clear(&err);
        assert_false(checkpoint_hold(all, bad[i], &hold, &err));
        assert_code(err, ERR_NOT_FOUND);
        error_clear(&err);
        assert_false(checkpoint_remove(all, bad[i], &err));
        assert_code(err, ERR_NOT_FOUND);
        error_clear(&err);
    }
    assert_ok(save_on("k_1", &nothing, &err), err);
    assert_false(save_on("k_1", &nothing, &err));
    assert_code(err, ERR_EXISTS);
}

static void a_failed_save_leaves_nothing(void **state)
{
    static const struct {
        int inside;
        enum error_code want;
    } rows[] = { { TIME_OUT, ERR_TIMEOUT }, { CODE_7, ERR_INTERNAL }, { FULL, ERR_LIMIT } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        inside = rows[i].inside;
        if (inside == FULL) {
            char text[5001];

            memset(text, 'x', sizeof text - 1);
            text[sizeof text - 1] = '\0';
            put("layer/layer/large", text);
        }
        assert_false(save_on("k_1", &nothing, &err));
        assert_code(err, rows[i].want);
        assert_false(exists("k_1"));
        assert_false(exists(".new-me-k_1"));
    }
}

static void a_removed_one_goes_with_its_last_user(void **state)
{
    struct error err = ERROR_INIT;
    struct checkpoint_hold first, second;

    (void)state;
    assert_ok(save_on("k_1", &nothing, &err), err);
    assert_ok(checkpoint_hold(all, "k_1", &first, &err), err);
    assert_ok(checkpoint_hold(all, "k_1", &second, &err), err);
    assert_ok(checkpoint_remove(all, "k_1", &err), err);
    assert_true(exists("k_1"));
    assert_false(checkpoint_remove(all, "k_1", &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    checkpoint_release(all, &first);
    assert_true(exists("k_1"));
    assert_false(checkpoint_hold(all, "k_1", &first, &err));
    assert_code(err, ERR_NOT_FOUND);
    checkpoint_release(all, &second);
    assert_false(exists("k_1"));
    assert_false(exists(".removed/k_1"));
}

static void a_lower_layer_stays_until_nothing_lies_on_it(void **state)
{
    struct error err = ERROR_INIT;
    struct checkpoint_hold hold;

    (void)state;
    assert_ok(save_on("k_1", &nothing, &err), err);
    assert_ok(checkpoint_hold(all, "k_1", &hold, &err), err);
    assert_ok(save_on("k_2", &hold, &err), err);
    checkpoint_release(all, &hold);
    assert_ok(checkpoint_remove(all, "k_1", &err), err);
    assert_true(exists("k_1"));
    assert_ok(checkpoint_hold(all, "k_2", &hold, &err), err);
    assert_int_equal(hold.count, 2);
    assert_string_equal(hold.layers[0].id.text, "k_2");
    assert_string_equal(hold.layers[1].id.text, "k_1");
    checkpoint_release(all, &hold);
    assert_true(exists("k_1"));
    assert_ok(checkpoint_remove(all, "k_2", &err), err);
    assert_false(exists("k_2"));
    assert_false(exists("k_1"));
}

static void *let_go_soon(void *arg)
{
    const struct wait w = { .deadline_ns = CLOCK_NEVER };
    const int *fd = arg;

    assert_true(wait_pause(&w, 30 * CLOCK_NS_PER_MS, NULL));
    assert_int_equal(flock(*fd, LOCK_UN), 0);
    return NULL;
}

/* As a sweep does that asks itself whether the lower one can go. */
static void a_look_at_a_layer_does_not_hide_it(void **state)
{
    struct error err = ERROR_INIT;
    struct checkpoint_hold hold;
    char path[300];
    pthread_t other;
    int fd;

    (void)state;
    assert_ok(save_on("k_1", &nothing, &err), err);
    (void)snprintf(path, sizeof path, "%s/checkpoints/k_1/complete", dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(pthread_create(&other, NULL, let_go_soon, &fd), 0);
    assert_ok(checkpoint_hold(all, "k_1", &hold, &err), err);
    assert_int_equal(pthread_join(other, NULL), 0);
    checkpoint_release(all, &hold);
    close(fd);
}

static void the_chain_is_flattened_at_its_longest(void **state)
{
    struct error err = ERROR_INIT;
    struct checkpoint_hold hold = { .count = 0 };
    char id[ID_SIZE], name[128];
    size_t longest = 0;

    (void)state;
    for (int i = 0; i < 2 * MOUNTS_LOWERS_MAX; i++) {
        (void)snprintf(name, sizeof name, "layer/layer/home/file%d", i);
        put(name, "x");
        (void)snprintf(id, sizeof id, "k_%d", i);
        assert_ok(save_on(id, &hold, &err), err);
        (void)snprintf(name, sizeof name, "%s/layer/layer/home/file%d", dir, i);
        assert_int_equal(unlink(name), 0);
        checkpoint_release(all, &hold);
        assert_ok(checkpoint_hold(all, id, &hold, &err), err);
        longest = MAX(longest, hold.count);
    }
    assert_int_equal(longest, MOUNTS_LOWERS_MAX);
    assert_int_equal(hold.count, MOUNTS_LOWERS_MAX);
    /* The oldest layer of the second chain has all of the first. */
    for (int i = 0; i <= MOUNTS_LOWERS_MAX; i++) {
        char path[300];

        (void)snprintf(path, sizeof path, "%s/home/file%d", hold.layers[MOUNTS_LOWERS_MAX - 1].path,
                       i);
        assert_file(path, "x");
    }
    checkpoint_release(all, &hold);
}

static bool only_dead_is_dead(void *arg, const char *server)
{
    (void)arg;
    return strcmp(server, "dead") != 0;
}

static void sweeps_what_dead_servers_left(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    put_dir("checkpoints/.new-dead-k_1/layer/deep");
    put_dir("checkpoints/.new-alive-k_2/layer");
    put_dir("checkpoints/.del-dead-k_3/layer");
    put_dir("checkpoints/tmp_old/layer");
    put("checkpoints/tmp_old/complete", "checkpoint 1\nserver dead\n");
    put_dir("checkpoints/tmp_new/layer");
    put("checkpoints/tmp_new/complete", "checkpoint 1\nserver alive\n");
    put_dir("checkpoints/k_gone/layer");
    put("checkpoints/k_gone/complete", "checkpoint 1\nserver dead\n");
    put("checkpoints/.removed/k_gone", "");
    put("checkpoints/.removed/k_nowhere", "");
    assert_ok(save_on("k_mine", &nothing, &err), err);
    checkpoint_sweep(all, only_dead_is_dead, NULL);
    /* What is large is deleted beside; this waits for it. */
    checkpoints_free(all);
    all = checkpoints_new(dir, "me", geteuid() ? geteuid() : 4711, geteuid() ? getegid() : 4711,
                          &err);
    assert_ok(all, err);
    assert_false(exists(".new-dead-k_1"));
    assert_true(exists(".new-alive-k_2"));
    assert_false(exists(".del-dead-k_3"));
    assert_false(exists("tmp_old"));
    assert_true(exists("tmp_new"));
    assert_false(exists("k_gone"));
    assert_false(exists(".removed/k_nowhere"));
    assert_true(exists("k_mine"));
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct checkpoint_hold hold = { .count = 0 };
        bool ok = save_on("k_1", &nothing, &err) && checkpoint_hold(all, "k_1", &hold, &err);

        FAULT_DONE(n);
        if (!ok)
            assert_true(err.code == ERR_NOMEM || err.code == ERR_IO);
        checkpoint_release(all, &hold);
        if (exists("k_1"))
            assert_true(checkpoint_remove(all, "k_1", NULL));
        assert_false(exists(".new-me-k_1"));
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(saves_what_can_be_held_and_read),
        TEST(names_must_be_new_and_plain),
        TEST(a_failed_save_leaves_nothing),
        TEST(a_removed_one_goes_with_its_last_user),
        TEST(a_lower_layer_stays_until_nothing_lies_on_it),
        TEST(a_look_at_a_layer_does_not_hide_it),
        TEST(the_chain_is_flattened_at_its_longest),
        TEST(sweeps_what_dead_servers_left),
        TEST(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
