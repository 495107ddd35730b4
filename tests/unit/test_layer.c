#include "sandbox/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "tests/support/check.h"

/* Below $TMPDIR or /tmp: folders old/, new/ (layers) and to/ (what is made of them). */
static char dir[64];

static void path_of(char *buf, size_t size, const char *name)
{
    (void)snprintf(buf, size, "%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
    char path[300];
    int fd;

    path_of(path, sizeof path, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    close(fd);
}

static void put_dir(const char *name)
{
    char path[300];

    path_of(path, sizeof path, name);
    if (!fd_mkdirs(path, 0755, NULL))
        abort();
}

static void put_whiteout(const char *name)
{
    char path[300];

    path_of(path, sizeof path, name);
    if (mknod(path, S_IFCHR, makedev(0, 0)) != 0)
        abort();
}

static void put_opaque(const char *name)
{
    char path[300];

    path_of(path, sizeof path, name);
    if (setxattr(path, "user.overlay.opaque", "y", 1, 0) != 0)
        abort();
}

static struct stat stat_of(const char *name)
{
    struct stat st = { .st_mode = 0 };
    char path[300];

    path_of(path, sizeof path, name);
    (void)lstat(path, &st);
    return st;
}

static bool is_opaque(const char *name)
{
    char path[300], value[4];

    path_of(path, sizeof path, name);
    return getxattr(path, "user.overlay.opaque", value, sizeof value) == 1 && *value == 'y';
}

static void assert_text(const char *name, const char *want)
{
    char path[300];
    char *text;

    path_of(path, sizeof path, name);
    text = fd_read_file(AT_FDCWD, path, 1 << 20, NULL, NULL);
    if (!text)
        fail_msg("%s is not there", name);
    assert_string_equal(text, want);
    free(text);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/test_layer.XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    put_dir("old");
    put_dir("new");
    put_dir("to");
    put_dir("none");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return fd_remove_tree(AT_FDCWD, dir, NULL) ? 0 : 1;
}

static int open_at(const char *name)
{
    char path[300];

    path_of(path, sizeof path, name);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/** Copy `old` and, if @both, `new` over it into `to`.  0, or the error number. */
static int run(bool both, uint64_t max_bytes)
{
    struct layer_tree tree = {
        .from = { open_at("old"), open_at("new") },
        .from_count = both ? 2 : 1,
        .to = open_at("to"),
    };
    struct error err = ERROR_INIT;
    CLEANUP(layer_copy_freep) struct layer_copy *copy = layer_copy_new(&tree, max_bytes, &err);
    int code, os_errno;

    assert_ok(copy, err);
    code = layer_copy_run(copy);
    os_errno = layer_copy_result(copy)->os_errno;
    assert_int_equal(code != 0, os_errno != 0);
    close(tree.from[0]);
    close(tree.from[1]);
    close(tree.to);
    return os_errno;
}

static bool have_xattrs(void)
{
    char path[300];

    path_of(path, sizeof path, "none");
    return setxattr(path, "user.overlay.origin", "x", 1, 0) == 0;
}

static void keeps_files_links_modes_and_times(void **state)
{
    const struct timespec times[2] = { { 100, 5 }, { 200, 7 } };
    char path[300], target[16];
    struct stat st;

    (void)state;
    put("old/file", "text");
    put_dir("old/a/b");
    put("old/a/b/deep", "deep");
    path_of(path, sizeof path, "old/file");
    assert_int_equal(chmod(path, 04755), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    path_of(path, sizeof path, "old/link");
    assert_int_equal(symlink("file", path), 0);
    path_of(path, sizeof path, "old/fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    path_of(path, sizeof path, "old/a");
    assert_int_equal(chmod(path, 01711), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(run(false, 1 << 20), 0);
    assert_text("to/file", "text");
    assert_text("to/a/b/deep", "deep");
    st = stat_of("to/file");
    assert_int_equal(st.st_mode, S_IFREG | 0755); /* no set-id bit */
    assert_int_equal(st.st_mtim.tv_sec, 200);
    assert_int_equal(st.st_mtim.tv_nsec, 7);
    st = stat_of("to/a");
    assert_int_equal(st.st_mode, S_IFDIR | 01711);
    assert_int_equal(st.st_mtim.tv_sec, 200);
    path_of(path, sizeof path, "to/link");
    assert_int_equal(readlink(path, target, sizeof target), 4);
    assert_true(S_ISFIFO(stat_of("to/fifo").st_mode));
}

static void keeps_whiteouts_and_opaque_folders(void **state)
{
    (void)state;
    if (!have_xattrs())
        skip_because("%s has no user attributes", dir);
    put_whiteout("old/gone");
    put_dir("old/fresh");
    put_opaque("old/fresh");
    assert_int_equal(run(false, 1 << 20), 0);
    assert_true(S_ISCHR(stat_of("to/gone").st_mode));
    assert_int_equal(stat_of("to/gone").st_rdev, makedev(0, 0));
    assert_true(is_opaque("to/fresh"));
}

static void keeps_holes(void **state)
{
    char path[300];
    struct stat st;
    int fd;

    (void)state;
    path_of(path, sizeof path, "old/sparse");
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(pwrite(fd, "x", 1, 64 << 20), 1);
    assert_int_equal(ftruncate(fd, 128 << 20), 0);
    close(fd);
    assert_int_equal(run(false, 1 << 20), 0);
    st = stat_of("to/sparse");
    assert_int_equal(st.st_size, 128 << 20);
    assert_true(st.st_blocks * 512 < 1 << 20);
}

static void keeps_hard_links_or_counts_their_bytes(void **state)
{
    char path[300], name[300], big[4096];

    (void)state;
    memset(big, 'b', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    put("old/one", big);
    path_of(path, sizeof path, "old/one");
    for (int i = 0; i < 10; i++) {
        char link_name[32];

        (void)snprintf(link_name, sizeof link_name, "old/link%d", i);
        path_of(name, sizeof name, link_name);
        assert_int_equal(link(path, name), 0);
    }
    assert_int_equal(run(false, 1 << 20), 0);
    assert_text("to/link7", big);
    assert_true(stat_of("to/one").st_nlink == 11 || stat_of("to/one").st_nlink == 1);
}

static void stops_at_the_limit(void **state)
{
    char text[5000];

    (void)state;
    memset(text, 't', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    put("old/a", text);
    put("old/b", text);
    assert_int_equal(run(false, 6000), EDQUOT);
}

static void a_newer_layer_wins(void **state)
{
    char path[300];

    (void)state;
    if (!have_xattrs())
        skip_because("%s has no user attributes", dir);
    put("old/changed", "old");
    put("old/kept", "kept");
    put("old/removed", "removed");
    put_dir("old/dir/sub");
    put("old/dir/sub/file", "old");
    put_dir("old/replaced");
    put("old/replaced/file", "old");
    put("old/becomes-dir", "old");
    put_dir("old/becomes-file/x/y");
    put_whiteout("old/comes-back");
    put("new/changed", "new");
    put_whiteout("new/removed");
    put_dir("new/dir/sub");
    put("new/dir/sub/other", "new");
    put_dir("new/replaced");
    put_opaque("new/replaced");
    put_dir("new/becomes-dir");
    put("new/becomes-file", "new");
    put_dir("new/comes-back");
    put("new/comes-back/file", "new");
    assert_int_equal(run(true, 1 << 20), 0);
    assert_text("to/changed", "new");
    assert_text("to/kept", "kept");
    assert_true(S_ISCHR(stat_of("to/removed").st_mode));
    assert_text("to/dir/sub/file", "old");
    assert_text("to/dir/sub/other", "new");
    assert_int_equal(stat_of("to/replaced/file").st_mode, 0);
    assert_true(is_opaque("to/replaced"));
    assert_true(S_ISDIR(stat_of("to/becomes-dir").st_mode));
    assert_text("to/becomes-file", "new");
    assert_text("to/comes-back/file", "new");
    assert_true(is_opaque("to/comes-back")); /* what the whiteout hid stays hidden */
    path_of(path, sizeof path, "to");
    assert_int_equal(stat_of("to").st_mode, S_IFDIR | 0755);
}

static void copies_trees_deeper_than_descriptors_or_paths_allow(void **state)
{
    int fd = open_at("old");
    unsigned depth = 0;

    (void)state;
    for (int i = 0; i < 3000; i++) {
        int next;

        assert_int_equal(mkdirat(fd, "d", 0755), 0);
        next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(fd);
        fd = next;
    }
    close(fd);
    assert_int_equal(run(true, 1 << 20), 0);
    fd = open_at("to");
    while (fd >= 0) {
        int next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        close(fd);
        fd = next;
        depth += next >= 0;
    }
    assert_int_equal(depth, 3000);
}

static void leaves_out_sockets(void **state)
{
    char path[300];

    (void)state;
    path_of(path, sizeof path, "old/socket");
    assert_int_equal(mknod(path, S_IFSOCK | 0600, 0), 0);
    put("old/file", "x");
    assert_int_equal(run(false, 1 << 20), 0);
    assert_int_equal(stat_of("to/socket").st_mode, 0);
    assert_text("to/file", "x");
}

static void survives_every_allocation_failure(void **state)
{
    const struct layer_tree tree = { .to = -1 };

    (void)state;
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct layer_copy *copy = layer_copy_new(&tree, 1, &err);

        FAULT_DONE(n);
        if (!copy)
            assert_code(err, ERR_NOMEM);
        layer_copy_free(copy);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keeps_files_links_modes_and_times),
        TEST(keeps_whiteouts_and_opaque_folders),
        TEST(keeps_holes),
        TEST(keeps_hard_links_or_counts_their_bytes),
        TEST(stops_at_the_limit),
        TEST(a_newer_layer_wins),
        TEST(copies_trees_deeper_than_descriptors_or_paths_allow),
        TEST(leaves_out_sockets),
        TEST(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
