#include "sandbox/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "tests/support/check.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/test_sweep.XXXXXX");
    return mkdtemp(dir) ? 0 : 1;
}

static int remove_dir(void **state)
{
    (void)state;
    return fd_remove_tree(AT_FDCWD, dir, NULL) ? 0 : 1;
}

static bool has_file(const char *name)
{
    char path[200];

    (void)snprintf(path, sizeof path, "%s/servers/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void a_name_is_plain_and_different_each_time(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(server_lock_freep) struct server_lock *a = server_lock_new(dir, &err);
    CLEANUP(server_lock_freep) struct server_lock *b = server_lock_new(dir, &err);
    const char *name;

    (void)state;
    assert_ok(a && b, err);
    name = server_lock_name(a);
    assert_string_not_equal(name, server_lock_name(b));
    assert_true(strlen(name) > 24);
    assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789"), strlen(name));
}

static void the_living_are_alive_and_the_released_are_not(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(server_lock_freep) struct server_lock *a = server_lock_new(dir, &err);
    struct server_lock *b = server_lock_new(dir, &err);
    char name[SERVER_NAME_SIZE];

    (void)state;
    assert_ok(a && b, err);
    (void)snprintf(name, sizeof name, "%s", server_lock_name(b));
    assert_true(server_alive(a, server_lock_name(a)));
    assert_true(server_alive(a, name));
    assert_true(has_file(name));
    server_lock_free(b);
    assert_false(server_alive(a, name));
    assert_false(has_file(name));
}

static void a_killed_server_is_dead_and_its_lock_file_is_swept(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(server_lock_freep) struct server_lock *a = NULL;
    char name[SERVER_NAME_SIZE] = "";
    int ends[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        struct server_lock *own = server_lock_new(dir, NULL);

        (void)!write(ends[1], server_lock_name(own), SERVER_NAME_SIZE);
        for (;;)
            pause();
    }
    assert_int_equal(read(ends[0], name, sizeof name), sizeof name);
    a = server_lock_new(dir, &err);
    assert_ok(a, err);
    assert_true(server_alive(a, name));
    server_sweep(a);
    assert_true(has_file(name));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    server_sweep(a);
    assert_false(has_file(name));
    assert_false(server_alive(a, name));
    assert_true(has_file(server_lock_name(a)));
    close(ends[0]);
    close(ends[1]);
}

static void strangers_are_left_alone(void **state)
{
    static const char *const names[] = { "0000000000000000000000", "../../etc/passwd", "", "x" };
    struct error err = ERROR_INIT;
    CLEANUP(server_lock_freep) struct server_lock *a = server_lock_new(dir, &err);

    (void)state;
    assert_ok(a, err);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!server_alive(a, names[i]))
            fail_msg("\"%s\" counts as dead", names[i]);
    }
}

static void a_file_without_its_name_is_swept_after_an_hour(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(server_lock_freep) struct server_lock *a = server_lock_new(dir, &err);
    const struct timespec old[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };
    char path[200];

    (void)state;
    assert_ok(a, err);
    (void)snprintf(path, sizeof path, "%s/servers/.new-fresh", dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    (void)snprintf(path, sizeof path, "%s/servers/.new-stale", dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    server_sweep(a);
    assert_true(has_file(".new-fresh"));
    assert_false(has_file(".new-stale"));
}

static void the_folder_is_private_and_must_be_one(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(server_lock_freep) struct server_lock *a = NULL;
    char path[200];
    struct stat st;

    (void)state;
    (void)snprintf(path, sizeof path, "%s/deep/er", dir);
    a = server_lock_new(path, &err);
    assert_ok(a, err);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_null(server_lock_new("/dev/null", &err));
    assert_contains(err.text, "/dev/null");
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct server_lock *lock = server_lock_new(dir, &err);

        FAULT_DONE(n);
        if (!lock)
            assert_code(err, ERR_NOMEM);
        server_lock_free(lock);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_plain_and_different_each_time),
        cmocka_unit_test(the_living_are_alive_and_the_released_are_not),
        cmocka_unit_test(a_killed_server_is_dead_and_its_lock_file_is_swept),
        cmocka_unit_test(strangers_are_left_alone),
        cmocka_unit_test(a_file_without_its_name_is_swept_after_an_hour),
        cmocka_unit_test(the_folder_is_private_and_must_be_one),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
