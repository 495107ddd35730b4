/*
 * Watching files through the guest.
 */
#include "tests/unit/test_inside_host.h"

static const char *program;

struct fixture {
    struct host h;
    char dir[64];
};

static int start(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    host_mktree(f->dir, sizeof f->dir);
    host_start(&f->h, program);
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;

    (void)host_stop(&f->h);
    host_rmtree(f->dir);
    free(f);
    return 0;
}

static const char *at(struct fixture *f, const char *name)
{
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    (void)snprintf(path, sizeof paths[0], "%s/%s", f->dir, name);
    return path;
}

static void make_dir(struct fixture *f, const char *name)
{
    assert_int_equal(mkdir(at(f, name), 0700), 0);
}

static void touch(struct fixture *f, const char *name)
{
    int fd = open(at(f, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static struct host_channel *watch(struct fixture *f, const char *root, const char *path,
                                  bool recursive)
{
    uint8_t bytes[1024];
    struct wire_out o = host_path(bytes, sizeof bytes, root, path);
    struct host_channel *ch;

    wire_put_u8(&o, recursive);
    ch = host_ask(&f->h, WIRE_WATCH, o.data, o.len);
    HOST_UNTIL(&f->h, ch->replied);
    return ch;
}

/* An event of @path with all of @kinds has come. */
static bool has(const struct host_channel *ch, uint32_t kinds, const char *path)
{
    const char *line = host_text(&ch->events);

    while (*line) {
        char *rest;
        unsigned long got = strtoul(line, &rest, 10);
        const char *end = strchr(line, '\n');
        size_t len = (size_t)(end - rest) - 1;

        if ((got & kinds) == kinds && len == strlen(path) && !strncmp(rest + 1, path, len))
            return true;
        line = end + 1;
    }
    return false;
}

static void tells_what_happens_in_a_folder(void **state)
{
    struct fixture *f = *state;
    struct host_channel *ch;
    int fd;

    touch(f, "old");
    make_dir(f, "sub");
    ch = watch(f, "/", f->dir, false);
    assert_int_equal(ch->status, 0);
    touch(f, "new");
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_CREATED, "new"));
    fd = open(at(f, "old"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_CHANGED, "old"));
    assert_int_equal(rename(at(f, "old"), at(f, "moved")), 0);
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_MOVED | WIRE_EVENT_REMOVED, "old"));
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_MOVED | WIRE_EVENT_CREATED, "moved"));
    assert_int_equal(unlink(at(f, "new")), 0);
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_REMOVED, "new"));
    /* What is below is nobody's business. */
    touch(f, "sub/x");
    touch(f, "last");
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_CREATED, "last"));
    assert_false(has(ch, WIRE_EVENT_CREATED, "sub/x"));
    host_close(&f->h, ch);
    HOST_UNTIL(&f->h, ch->closed);
}

static void follows_folders_as_they_come_and_go(void **state)
{
    struct fixture *f = *state;
    struct host_channel *ch;

    make_dir(f, "a");
    make_dir(f, "a/b");
    ch = watch(f, f->dir, ".", true);
    assert_int_equal(ch->status, 0);
    touch(f, "a/b/deep");
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_CREATED, "a/b/deep"));
    make_dir(f, "c");
    make_dir(f, "c/d");
    touch(f, "c/d/quick"); /* perhaps before c/d was watched */
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_CREATED, "c/d/quick"));
    assert_true(has(ch, WIRE_EVENT_CREATED, "c"));
    assert_int_equal(rename(at(f, "c"), at(f, "a/e")), 0);
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_CREATED, "a/e/d/quick"));
    touch(f, "a/e/d/after");
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_CREATED, "a/e/d/after"));
    assert_int_equal(unlink(at(f, "a/e/d/after")), 0);
    assert_int_equal(unlink(at(f, "a/e/d/quick")), 0);
    assert_int_equal(rmdir(at(f, "a/e/d")), 0);
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_REMOVED, "a/e/d"));
}

static void ends_with_what_it_watches(void **state)
{
    struct fixture *f = *state;
    struct host_channel *ch;

    touch(f, "file");
    ch = watch(f, "/", at(f, "file"), true);
    assert_int_equal(ch->status, 0);
    assert_int_equal(unlink(at(f, "file")), 0);
    HOST_UNTIL(&f->h, ch->closed);
    assert_true(has(ch, WIRE_EVENT_REMOVED, ""));
    make_dir(f, "folder");
    ch = watch(f, at(f, "folder"), ".", true);
    make_dir(f, "folder/sub");
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_CREATED, "sub"));
    assert_int_equal(rmdir(at(f, "folder/sub")), 0);
    assert_int_equal(rmdir(at(f, "folder")), 0);
    HOST_UNTIL(&f->h, ch->closed);
    assert_true(has(ch, WIRE_EVENT_REMOVED, ""));
    make_dir(f, "folder");
    ch = watch(f, "/", at(f, "folder"), true);
    assert_int_equal(rename(at(f, "folder"), at(f, "elsewhere")), 0);
    HOST_UNTIL(&f->h, ch->closed);
    assert_true(has(ch, WIRE_EVENT_MOVED, ""));
}

static void stays_below_its_root(void **state)
{
    struct fixture *f = *state;

    make_dir(f, "root");
    make_dir(f, "secret");
    assert_int_equal(symlink("../secret", at(f, "root/link")), 0);
    assert_int_equal(watch(f, at(f, "root"), "..", true)->status, EXDEV);
    assert_int_equal(watch(f, at(f, "root"), "link", true)->status, EXDEV);
    assert_int_equal(watch(f, "/", at(f, "none"), true)->status, ENOENT);
    {
        struct host_channel *ch = watch(f, at(f, "root"), ".", true);

        touch(f, "secret/x");
        touch(f, "root/y");
        HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_CREATED, "y"));
        assert_int_equal(ch->events.len, strlen(host_text(&ch->events)));
        assert_null(strstr(host_text(&ch->events), "x"));
    }
}

static void says_when_events_were_lost(void **state)
{
    struct fixture *f = *state;
    struct host_channel *ch = watch(f, "/", f->dir, false);
    pid_t pid = f->h.pid;

    /* While the guest is stopped the kernel's queue overflows. */
    assert_int_equal(kill(pid, SIGSTOP), 0);
    for (int i = 0; i < 8000; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "f%d", i % 2);
        touch(f, name);
        assert_int_equal(unlink(at(f, name)), 0);
    }
    assert_int_equal(kill(pid, SIGCONT), 0);
    HOST_UNTIL(&f->h, has(ch, WIRE_EVENT_LOST, ""));
    host_sync(&f->h);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(tells_what_happens_in_a_folder), T(follows_folders_as_they_come_and_go),
        T(ends_with_what_it_watches),      T(stays_below_its_root),
        T(says_when_events_were_lost),
    };
    int failed;

    program = GUEST_PROGRAM;
    failed = cmocka_run_group_tests_name("inside_watch, static", tests, NULL, NULL);
#ifdef GUEST_NATIVE
    program = GUEST_NATIVE;
    failed += cmocka_run_group_tests_name("inside_watch, native", tests, NULL, NULL);
#endif
    return failed;
}
