/* fd_remove_tree(): what hostile programs leave behind. */
#include "kernel/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/check.h"
#include "tests/support/folder.h"

static void removes_a_tree_and_nothing_beside_it(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(fd_mkdirs(folder_path("keep/inside"), 0700, &err), err);
    folder_put("keep/inside/file", "kept");
    assert_ok(fd_mkdirs(folder_path("tree/a/b/c"), 0700, &err), err);
    folder_put("tree/a/file", "x");
    folder_put("tree/a/.hidden", "x");
    assert_int_equal(symlinkat("../../keep", folder_fd, "tree/a/to_folder"), 0);
    assert_int_equal(symlinkat("/", folder_fd, "tree/a/to_root"), 0);
    assert_int_equal(mkfifoat(folder_fd, "tree/a/b/fifo", 0600), 0);
    assert_ok(fd_remove_tree(folder_fd, "tree", &err), err);
    assert_false(folder_has("tree"));
    assert_true(folder_has("keep/inside/file"));
    assert_ok(fd_remove_tree(folder_fd, "tree", &err), err); /* missing is fine */
    assert_int_equal(symlinkat("keep", folder_fd, "link"), 0);
    assert_ok(fd_remove_tree(folder_fd, "link", &err), err);
    assert_false(folder_has("link"));
    assert_true(folder_has("keep/inside/file"));
    assert_ok(fd_remove_tree(AT_FDCWD, folder_path("keep/inside"), &err), err);
    assert_true(folder_has("keep"));
    assert_ok(fd_remove_tree(folder_fd, "nowhere/at/all", &err), err);
}

static void refuses_names_that_are_no_tree(void **state)
{
    static const char *const rows[] = { "", ".", "..", "a/..", "a/", "/" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        assert_false(fd_remove_tree(folder_fd, rows[i], &err));
        assert_code(err, ERR_INVALID);
    }
}

static void dig(const char *top, int depth, const char *name)
{
    int fd = openat(folder_fd, top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    for (int i = 0; i < depth; i++) {
        int below;

        assert_int_equal(mkdirat(fd, name, 0700), 0);
        below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(below >= 0);
        if (i == 1)
            assert_int_equal(symlinkat("x", fd, "link"), 0);
        fd_close(fd);
        fd = below;
    }
    fd_close(fd);
}

static void removes_trees_deeper_than_any_path(void **state)
{
    char longest[256];
    struct error err = ERROR_INIT;

    (void)state;
    memset(longest, 'n', 255);
    longest[255] = '\0';
    assert_int_equal(mkdirat(folder_fd, "deep", 0700), 0);
    dig("deep", 5000, "d");
    dig("deep", 200, longest);
    assert_ok(fd_remove_tree(folder_fd, "deep", &err), err);
    assert_false(folder_has("deep"));
}

static void removes_wide_trees(void **state)
{
    struct error err = ERROR_INIT;
    char name[32];

    (void)state;
    assert_int_equal(mkdirat(folder_fd, "wide", 0700), 0);
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(name, sizeof name, "wide/%d", i);
        assert_int_equal(mkdirat(folder_fd, name, 0700), 0);
        (void)snprintf(name, sizeof name, "wide/%d/x", i);
        assert_int_equal(mkdirat(folder_fd, name, 0700), 0);
    }
    assert_ok(fd_remove_tree(folder_fd, "wide", &err), err);
    assert_false(folder_has("wide"));
}

/* In a child, as an ordinary user even where the tests run as root. */
static int remove_without_permissions(void)
{
    if (geteuid() == 0 &&
        (fchown(folder_fd, 65534, 65534) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
        return 10;
    if (!fd_mkdirs(folder_path("shut/inner/more"), 0700, NULL))
        return 11;
    (void)chmod(folder_path("shut/inner/more"), 0);
    (void)chmod(folder_path("shut/inner"), 0500);
    (void)chmod(folder_path("shut"), 0);
    return fd_remove_tree(folder_fd, "shut", NULL) && !folder_has("shut") ? 0 : 12;
}

static int status_of_child(int (*body)(void))
{
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void folders_without_permissions_yield_to_their_owner(void **state)
{
    (void)state;
    assert_int_equal(status_of_child(remove_without_permissions), 0);
}

static int remove_over_a_mount(void)
{
    struct error err = ERROR_INIT;
    char from[256];

    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return 77;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return 77;
    if (!fd_mkdirs(folder_path("tree/mounted"), 0700, NULL) ||
        !fd_mkdirs(folder_path("tree/z"), 0700, NULL))
        return 10;
    /* a bind mount of the same file system: device numbers do not tell */
    (void)snprintf(from, sizeof from, "%s", folder_path("other"));
    if (mount(from, folder_path("tree/mounted"), NULL, MS_BIND, NULL) < 0)
        return 77;
    if (fd_remove_tree(folder_fd, "tree", &err))
        return 12;
    if (!strstr(err.text, "mounted") || !folder_has("other/precious"))
        return 13;
    return folder_has("tree/z") ? 14 : 0; /* the rest is gone */
}

static void stops_at_another_mount(void **state)
{
    struct error err = ERROR_INIT;
    int status;

    (void)state;
    assert_ok(fd_mkdirs(folder_path("other"), 0700, &err), err);
    folder_put("other/precious", "x");
    status = status_of_child(remove_over_a_mount);
    if (status == 77)
        skip_because("no mount namespace here");
    assert_int_equal(status, 0);
    assert_true(folder_has("other/precious"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(removes_a_tree_and_nothing_beside_it),
        WITH_FOLDER(refuses_names_that_are_no_tree),
        WITH_FOLDER(removes_trees_deeper_than_any_path),
        WITH_FOLDER(removes_wide_trees),
        WITH_FOLDER(folders_without_permissions_yield_to_their_owner),
        WITH_FOLDER(stops_at_another_mount),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
