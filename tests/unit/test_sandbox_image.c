/* Sandboxes whose system is an image's. */
#include "tests/unit/sandbox_world.h"

#include <dirent.h>

static void make_tree(void)
{
    static const char *const folders[] = { "tree", "tree/etc", "tree/usr", "tree/usr/bin" };
    size_t len;
    char *program = fd_read_file(AT_FDCWD, "/bin/busybox", 16 << 20, &len, NULL);
    int fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char path[128];

    assert_non_null(program);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        assert_int_equal(mkdirat(fd, folders[i], 0755), 0);
    (void)snprintf(path, sizeof path, "%s/tree/usr/bin/busybox", home);
    assert_true(fd_replace_file(path, program, len, 0755, NULL));
    (void)snprintf(path, sizeof path, "%s/tree/etc/services", home);
    assert_true(fd_replace_file(path, "ours\n", 5, 0644, NULL));
    assert_int_equal(symlinkat("busybox", fd, "tree/usr/bin/sh"), 0);
    assert_int_equal(symlinkat("usr/bin", fd, "tree/bin"), 0);
    free(program);
    fd_close(fd);
}

/* A system of one program. */
static void an_image_is_the_system_inside(void **state)
{
    struct computer_spec spec = { .image = "none" };
    struct error err = ERROR_INIT;
    struct computer *c, *copy;
    const struct wait w = in_seconds(20);
    (void)state;

    assert_null(try_make(world.b, &spec, NULL, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "\"none\"");
    make_tree();
    spec = (struct computer_spec){ .image = "tiny" };
    c = make(&spec, NULL);
    assert_string_equal(computer_spec(c)->image, "tiny");
    assert_sh(c, "busybox ls /usr/bin", "busybox\nsh\n");
    assert_sh(c, "busybox id -un; busybox cat /etc/services; busybox touch /usr/bin/new",
              "agent\nours\n");
    error_clear(&err);
    assert_ok(computer_checkpoint(c, "s_image", &w, &err), err);
    copy = make(&spec, "s_image");
    assert_sh(copy, "busybox ls /usr/bin", "busybox\nnew\nsh\n");
    computer_unref(copy);
    computer_unref(c);
    assert_ok(world.b->checkpoint_remove(world.b, "s_image", &err), err);
}

/* / lies in a folder of that name, where what an image has would be merged with it. */
static void an_image_with_the_folder_of_our_root_is_refused(void **state)
{
    const struct computer_spec spec = { .image = "tiny" };
    struct error err = ERROR_INIT;
    char path[128];
    (void)state;

    (void)snprintf(path, sizeof path, "%s/tree/usr/.aios", home);
    assert_int_equal(mkdir(path, 0755), 0);
    /* Whether the child says so before it has been told all or after that. */
    for (int i = 0; i < 50; i++) {
        assert_null(try_make(world.b, &spec, NULL, &err));
        assert_contains(err.text, "/usr/.aios; give that another name");
        error_clear(&err);
    }
    assert_int_equal(rmdir(path), 0);
    computer_unref(make(&spec, NULL));
}

struct link {
    char path[200], target[200];
};

/* The links to what was right most recently, but for @other. */
static struct link find_link(const struct link *other)
{
    struct link found = { .path = "" };
    DIR *dir = opendir(cache_dir);

    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        struct link l;
        ssize_t n;

        if (strncmp(e->d_name, "recent-", 7) != 0)
            continue;
        (void)snprintf(l.path, sizeof l.path, "%s/%.60s", cache_dir, e->d_name);
        n = readlink(l.path, l.target, sizeof l.target - 1);
        assert_true(n > 0);
        l.target[n] = '\0';
        if (!other || strcmp(other->path, l.path) != 0)
            found = l;
    }
    closedir(dir);
    assert_true(found.path[0]);
    return found;
}

/* One for one program mounts what was right the last time before it looks; and then begins anew. */
static void what_the_system_was_is_not_taken_for_what_it_is(void **state)
{
    const struct computer_spec image = { .image = "tiny" }, brief = { .brief = true };
    struct link images, system;
    (void)state;

    computer_unref(make(&image, NULL));
    images = find_link(NULL);
    computer_unref(make(&brief, NULL));
    system = find_link(&images);
    assert_string_not_equal(system.target, images.target);
    for (int i = 0; i < 3; i++) {
        struct computer *c;

        assert_int_equal(unlink(system.path), 0);
        assert_int_equal(symlink(i == 2 ? "skeleton-gone" : images.target, system.path), 0);
        c = make(&brief, NULL);
        assert_sh(c, "grep -c ours /etc/services || true; id -un", "0\nagent\n");
        computer_unref(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_is_the_system_inside),
        cmocka_unit_test(what_the_system_was_is_not_taken_for_what_it_is),
        cmocka_unit_test(an_image_with_the_folder_of_our_root_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
