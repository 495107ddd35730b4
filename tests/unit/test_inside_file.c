/*
 * Files through the guest: what the requests do, and what no path can reach.
 */
#include "tests/unit/test_inside_files.h"

#include <sys/resource.h>

/* ---- requests ---- */

static struct host_channel *ask_read(struct fixture *f, const char *root, const char *path,
                                     uint64_t offset, uint64_t most)
{
    uint8_t bytes[3 * WIRE_PATH_MAX];
    struct wire_out o = host_path(bytes, sizeof bytes, root, path);
    struct host_channel *ch;

    wire_put_u64(&o, offset);
    wire_put_u64(&o, most);
    ch = host_ask(&f->h, WIRE_READ, o.data, o.len);
    HOST_UNTIL(&f->h, ch->closed);
    return ch;
}

static struct host_channel *begin_write(struct fixture *f, const char *root, const char *path,
                                        uint32_t mode, uint32_t flags)
{
    uint8_t bytes[3 * WIRE_PATH_MAX];
    struct wire_out o = host_path(bytes, sizeof bytes, root, path);

    wire_put_u32(&o, mode);
    wire_put_u32(&o, flags);
    return host_ask(&f->h, WIRE_WRITE, o.data, o.len);
}

static uint32_t write_text(struct fixture *f, const char *root, const char *path, uint32_t mode,
                           uint32_t flags, const char *text)
{
    struct host_channel *ch = begin_write(f, root, path, mode, flags);

    host_send(&f->h, ch->number, WIRE_DATA, 0, text, strlen(text));
    host_send(&f->h, ch->number, WIRE_EOF, 0, NULL, 0);
    HOST_UNTIL(&f->h, ch->closed);
    if (ch->status == 0) {
        struct wire_in in = { .data = ch->result, .len = ch->result_len };

        assert_int_equal(wire_get_u64(&in), strlen(text));
    }
    return ch->status;
}

static uint32_t call(struct fixture *f, uint8_t type, const char *root, const char *path,
                     const char *fmt, uint32_t a, uint32_t b)
{
    uint8_t bytes[3 * WIRE_PATH_MAX];
    struct wire_out o = host_path(bytes, sizeof bytes, root, path);

    for (uint32_t v = a; *fmt; fmt++, v = b) {
        if (*fmt == '1')
            wire_put_u8(&o, (uint8_t)v);
        else
            wire_put_u32(&o, v);
    }
    return host_call(&f->h, type, &o);
}

static uint32_t remove_path(struct fixture *f, const char *root, const char *path, bool recursive)
{
    return call(f, WIRE_REMOVE, root, path, "1", recursive, 0);
}

static uint32_t move_path(struct fixture *f, const char *root, const char *from, const char *to,
                          bool replace)
{
    uint8_t bytes[3 * WIRE_PATH_MAX];
    struct wire_out o = host_path(bytes, sizeof bytes, root, from);

    wire_put_str(&o, to);
    wire_put_u8(&o, replace);
    return host_call(&f->h, WIRE_MOVE, &o);
}

/* ---- tests ---- */

static void reads_a_part_of_a_file(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint64_t offset, most;
        const char *want;
    } rows[] = {
        { 0, 100, "0123456789" },
        { 3, 4, "3456" },
        { 8, 100, "89" },
        { 10, 5, "" },
        { 500, 5, "" },
        { 0, 0, "" },
        { 0, UINT64_MAX, "0123456789" },
    };

    put_file(f, "digits", "0123456789", 0640);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct host_channel *ch = ask_read(f, "/", at(f, "digits"), rows[i].offset, rows[i].most);
        struct wire_in in = { .data = ch->result, .len = ch->result_len };
        struct wire_stat st;

        assert_int_equal(ch->status, 0);
        wire_get_stat(&in, &st);
        assert_true(wire_in_done(&in));
        assert_int_equal(st.mode, S_IFREG | 0640);
        assert_int_equal(st.size, 10);
        assert_int_equal(st.uid, getuid());
        assert_true(st.mtime_ns > 0);
        assert_string_equal(host_text(&ch->out[0]), rows[i].want);
        assert_int_equal(ch->eof, 1);
    }
}

static void reads_more_than_the_window_and_what_has_no_size(void **state)
{
    struct fixture *f = *state;
    enum { SIZE = 3 * 1024 * 1024 };
    int fd = open(at(f, "big"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct host_channel *ch;

    assert_int_equal(ftruncate(fd, SIZE), 0);
    assert_int_equal(pwrite(fd, "end", 3, SIZE - 3), 3);
    close(fd);
    ch = ask_read(f, "/", at(f, "big"), 0, UINT64_MAX);
    assert_int_equal(ch->out[0].len, SIZE);
    assert_memory_equal(ch->out[0].data + SIZE - 3, "end", 3);
    ch = ask_read(f, "/", "/proc/self/status", 0, 4096);
    assert_int_equal(ch->status, 0);
    assert_contains(host_text(&ch->out[0]), "Name:");
}

static void never_waits_for_what_is_not_a_file(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_storage unused;
    static const struct {
        const char *path;
        int status;
    } devices[] = {
        { "/dev/zero", ENOTSUP }, { "/dev/null", ENOTSUP }, { "/dev/ptmx", ENOTSUP },
        { "/dev/tty", ENOTSUP },  { "/dev", EISDIR },       { "/nothing/there", ENOENT },
    };

    (void)unused;
    assert_int_equal(mkfifo(at(f, "fifo"), 0600), 0);
    assert_int_equal(ask_read(f, "/", at(f, "fifo"), 0, 10)->status, ENOTSUP);
    assert_int_equal(write_text(f, "/", at(f, "fifo"), 0600, WIRE_WRITE_CREATE, "x"), ENOTSUP);
    assert_int_equal(
        write_text(f, "/", at(f, "fifo"), 0600, WIRE_WRITE_CREATE | WIRE_WRITE_ATOMIC, "x"),
        ENOTSUP);
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        uint32_t status = ask_read(f, "/", devices[i].path, 0, 10)->status;

        if (status != (uint32_t)devices[i].status)
            fail_msg("%s: %u", devices[i].path, status);
    }
    assert_int_equal(write_text(f, "/", "/dev/null", 0600, 0, "x"), ENOTSUP);
    /* And through a link to it. */
    assert_int_equal(symlink("fifo", at(f, "link")), 0);
    assert_int_equal(ask_read(f, "/", at(f, "link"), 0, 10)->status, ENOTSUP);
}

static void no_path_leads_out_of_a_root(void **state)
{
    struct fixture *f = *state;
    static const char *const paths[] = {
        "../secret", "a/../../secret", "up/secret", "abs", "a/../..", "up", "up/root/../x", "chain",
    };

    assert_int_equal(mkdir(at(f, "root"), 0700), 0);
    assert_int_equal(mkdir(at(f, "root/a"), 0700), 0);
    put_file(f, "secret", "secret", 0600);
    assert_int_equal(symlink("..", at(f, "root/up")), 0);
    assert_int_equal(symlink(at(f, "secret"), at(f, "root/abs")), 0);
    assert_int_equal(symlink("up", at(f, "root/hop")), 0);
    assert_int_equal(symlink("hop/secret", at(f, "root/chain")), 0);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        const char *root = at(f, "root");

        assert_int_equal(ask_read(f, root, paths[i], 0, 10)->status, EXDEV);
        assert_int_equal(write_text(f, root, paths[i], 0600, WIRE_WRITE_CREATE, "x"), EXDEV);
        assert_int_equal(call(f, WIRE_STAT, root, paths[i], "1", 1, 0), EXDEV);
    }
    assert_int_equal(
        write_text(f, at(f, "root"), "abs", 0600, WIRE_WRITE_CREATE | WIRE_WRITE_ATOMIC, "x"),
        EXDEV);
    assert_int_equal(
        write_text(f, at(f, "root"), "chain", 0600, WIRE_WRITE_CREATE | WIRE_WRITE_ATOMIC, "x"),
        EXDEV);
    assert_int_equal(remove_path(f, at(f, "root"), "up/secret", false), EXDEV);
    assert_int_equal(move_path(f, at(f, "root"), "up/secret", "a/x", true), EXDEV);
    assert_int_equal(move_path(f, at(f, "root"), "a", "../b", true), EXDEV);
    assert_int_equal(call(f, WIRE_MAKE, at(f, "root"), "../new", "41", 0700, 1), EXDEV);
    assert_int_equal(call(f, WIRE_MAKE, at(f, "root"), "up/deep/new", "41", 0700, 1), EXDEV);
    assert_int_equal(ask_read(f, at(f, "root"), at(f, "secret"), 0, 10)->status, EXDEV);
    assert_string_equal(get_file(f, "secret"), "secret");
    assert_int_equal(access(at(f, "new"), F_OK), -1);
    /* What stays inside is fine, relative or absolute. */
    assert_int_equal(write_text(f, at(f, "root"), "a/../in", 0600, WIRE_WRITE_CREATE, "1"), 0);
    assert_int_equal(write_text(f, at(f, "root"), at(f, "root/in"), 0600, 0, "2"), 0);
    assert_string_equal(get_file(f, "root/in"), "2");
}

static void no_magic_link_is_followed(void **state)
{
    struct fixture *f = *state;
    static const char *const paths[] = {
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd/etc/passwd",
        "/proc/self/exe",
        "/proc/self/fd/0",
    };

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        uint32_t status = ask_read(f, "/", paths[i], 0, 10)->status;

        /* A guest that is not dumpable is refused to itself before. */
        if (status != ELOOP && status != EACCES)
            fail_msg("%s: %u", paths[i], status);
    }
    assert_int_equal(symlink("/proc/self/root", at(f, "magic")), 0);
    assert_int_not_equal(ask_read(f, "/", at(f, "magic/etc/passwd"), 0, 10)->status, 0);
}

static void writes_as_the_flags_say(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    assert_int_equal(write_text(f, "/", at(f, "new"), 0640, 0, "x"), ENOENT);
    assert_int_equal(write_text(f, "/", at(f, "new"), 0666, WIRE_WRITE_CREATE, "one"), 0);
    assert_string_equal(get_file(f, "new"), "one");
    assert_int_equal(stat(at(f, "new"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0666);
    assert_int_equal(write_text(f, "/", at(f, "new"), 0600, WIRE_WRITE_CREATE, "2"), 0);
    assert_string_equal(get_file(f, "new"), "2");
    assert_int_equal(write_text(f, "/", at(f, "new"), 0600, WIRE_WRITE_APPEND, "3"), 0);
    assert_string_equal(get_file(f, "new"), "23");
    assert_int_equal(stat(at(f, "new"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0666);
    assert_int_equal(
        write_text(f, "/", at(f, "new"), 0600, WIRE_WRITE_CREATE | WIRE_WRITE_EXCLUSIVE, "x"),
        EEXIST);
    assert_int_equal(write_text(f, "/", at(f, "a/b/c"), 0600, WIRE_WRITE_CREATE, "x"), ENOENT);
    assert_int_equal(
        write_text(f, "/", at(f, "a/b/c"), 0600, WIRE_WRITE_CREATE | WIRE_WRITE_PARENTS, "deep"),
        0);
    assert_string_equal(get_file(f, "a/b/c"), "deep");
    assert_int_equal(write_text(f, "/", at(f, "a"), 0600, WIRE_WRITE_CREATE, "x"), EISDIR);
    assert_int_equal(
        write_text(f, "/", at(f, "new/x"), 0600, WIRE_WRITE_CREATE | WIRE_WRITE_PARENTS, "x"),
        ENOTDIR);
    /* A link that leads nowhere yet. */
    assert_int_equal(symlink("later", at(f, "ahead")), 0);
    assert_int_equal(write_text(f, "/", at(f, "ahead"), 0600, WIRE_WRITE_CREATE, "there"), 0);
    assert_string_equal(get_file(f, "later"), "there");
}

static void replaces_atomically(void **state)
{
    struct fixture *f = *state;
    struct host_channel *ch;
    struct stat before, after;
    char lines[512];

    put_file(f, "file", "old", 0751);
    assert_int_equal(symlink("file", at(f, "link")), 0);
    assert_int_equal(stat(at(f, "file"), &before), 0);
    ch = begin_write(f, "/", at(f, "link"), 0600, WIRE_WRITE_CREATE | WIRE_WRITE_ATOMIC);
    host_send(&f->h, ch->number, WIRE_DATA, 0, "new", 3);
    host_sync(&f->h);
    assert_string_equal(get_file(f, "file"), "old");
    host_send(&f->h, ch->number, WIRE_EOF, 0, NULL, 0);
    HOST_UNTIL(&f->h, ch->closed);
    assert_int_equal(ch->status, 0);
    assert_string_equal(get_file(f, "file"), "new");
    assert_int_equal(lstat(at(f, "link"), &after), 0);
    assert_true(S_ISLNK(after.st_mode));
    assert_int_equal(stat(at(f, "file"), &after), 0);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_not_equal(after.st_ino, before.st_ino);

    /* One that is given up leaves nothing behind. */
    ch = begin_write(f, "/", at(f, "file"), 0600, WIRE_WRITE_CREATE | WIRE_WRITE_ATOMIC);
    host_send(&f->h, ch->number, WIRE_DATA, 0, "half", 4);
    host_close(&f->h, ch);
    HOST_UNTIL(&f->h, ch->closed);
    assert_string_equal(get_file(f, "file"), "new");
    (void)list(f, "/", f->dir, 1, 100, true, lines, sizeof lines);
    assert_string_equal(lines, "file\nlink -> file\n");
    assert_int_equal(write_text(f, "/", at(f, "none"), 0600, WIRE_WRITE_ATOMIC, "x"), ENOENT);
    assert_int_equal(
        write_text(f, "/", at(f, "file"), 0600, WIRE_WRITE_ATOMIC | WIRE_WRITE_EXCLUSIVE, "x"),
        EEXIST);
    assert_int_equal(
        write_text(f, "/", at(f, "excl"), 0604, WIRE_WRITE_ATOMIC | WIRE_WRITE_EXCLUSIVE, "x"), 0);
    assert_int_equal(stat(at(f, "excl"), &after), 0);
    assert_int_equal(after.st_mode & 07777, 0604);
    assert_int_equal(
        write_text(f, "/", at(f, "file"), 0600, WIRE_WRITE_ATOMIC | WIRE_WRITE_APPEND, "x"),
        EINVAL);
    assert_int_equal(symlink("loop", at(f, "loop")), 0);
    assert_int_equal(
        write_text(f, "/", at(f, "loop"), 0600, WIRE_WRITE_CREATE | WIRE_WRITE_ATOMIC, "x"), ELOOP);
}

static void writes_more_than_the_window(void **state)
{
    struct fixture *f = *state;
    struct host_channel *ch = begin_write(f, "/", at(f, "big"), 0600, WIRE_WRITE_CREATE);
    static uint8_t block[WIRE_PAYLOAD_MAX];
    size_t sent = 0;
    struct stat st;

    while (sent < 8 * WIRE_WINDOW) {
        HOST_UNTIL(&f->h, sent + sizeof block <= WIRE_WINDOW + ch->credit[0]);
        host_send(&f->h, ch->number, WIRE_DATA, 0, block, sizeof block);
        sent += sizeof block;
    }
    assert_false(ch->replied);
    host_send(&f->h, ch->number, WIRE_EOF, 0, NULL, 0);
    HOST_UNTIL(&f->h, ch->closed);
    assert_int_equal(ch->status, 0);
    assert_int_equal(stat(at(f, "big"), &st), 0);
    assert_int_equal(st.st_size, 8 * WIRE_WINDOW);
}

static void a_write_that_fails_says_why(void **state)
{
    struct fixture *f = *state;
    const struct rlimit small = { 1000, 1000 };
    static const char text[2000] = { [0 ... 1998] = 'x' };

    /* Stands for a full disk: no file may grow further than this. */
    assert_int_equal(prlimit(f->h.pid, RLIMIT_FSIZE, &small, NULL), 0);
    assert_int_equal(write_text(f, "/", at(f, "large"), 0600, WIRE_WRITE_CREATE, text), EFBIG);
    assert_int_equal(
        write_text(f, "/", at(f, "atomic"), 0600, WIRE_WRITE_CREATE | WIRE_WRITE_ATOMIC, text),
        EFBIG);
    assert_int_equal(access(at(f, "atomic"), F_OK), -1);
    assert_int_equal(write_text(f, "/", at(f, "small"), 0600, WIRE_WRITE_CREATE, "fits"), 0);
}

static void makes_moves_and_removes(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    assert_int_equal(call(f, WIRE_MAKE, "/", at(f, "d"), "41", 0777, 0), 0);
    assert_int_equal(stat(at(f, "d"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0777);
    assert_int_equal(call(f, WIRE_MAKE, "/", at(f, "d"), "41", 0700, 0), EEXIST);
    assert_int_equal(call(f, WIRE_MAKE, "/", at(f, "d"), "41", 0700, 1), 0);
    assert_int_equal(call(f, WIRE_MAKE, "/", at(f, "x/y/z"), "41", 0700, 0), ENOENT);
    assert_int_equal(call(f, WIRE_MAKE, "/", at(f, "x/y/z/"), "41", 0700, 1), 0);
    assert_int_equal(call(f, WIRE_MAKE, f->dir, "rel//ative", "41", 0700, 1), 0);
    assert_int_equal(call(f, WIRE_MAKE, "/", "/", "41", 0700, 0), EEXIST);
    put_file(f, "one", "1", 0600);
    put_file(f, "two", "2", 0600);
    assert_int_equal(call(f, WIRE_MAKE, "/", at(f, "one"), "41", 0700, 1), ENOTDIR);
    assert_int_equal(move_path(f, "/", at(f, "one"), at(f, "two"), false), EEXIST);
    assert_int_equal(move_path(f, "/", at(f, "one"), at(f, "two"), true), 0);
    assert_string_equal(get_file(f, "two"), "1");
    assert_int_equal(move_path(f, f->dir, "two", "d/three", false), 0);
    assert_string_equal(get_file(f, "d/three"), "1");
    assert_int_equal(move_path(f, f->dir, "none", "d/four", false), ENOENT);
    assert_int_equal(remove_path(f, "/", at(f, "d"), false), ENOTEMPTY);
    assert_int_equal(remove_path(f, "/", at(f, "d/three"), false), 0);
    assert_int_equal(remove_path(f, "/", at(f, "d/three"), false), ENOENT);
    assert_int_equal(remove_path(f, "/", at(f, "d"), false), 0);
    assert_int_equal(remove_path(f, "/", "/", true), EBUSY);
    assert_int_equal(remove_path(f, f->dir, ".", true), EBUSY);
    assert_int_equal(remove_path(f, f->dir, "x/..", true), EINVAL);
    assert_int_equal(remove_path(f, f->dir, "x", true), 0);
    assert_int_equal(access(at(f, "x"), F_OK), -1);
}

static void removes_large_and_deep_trees_and_follows_no_link(void **state)
{
    struct fixture *f = *state;
    int dir;

    assert_int_equal(mkdir(at(f, "keep"), 0700), 0);
    put_file(f, "keep/me", "kept", 0600);
    assert_int_equal(mkdir(at(f, "t"), 0700), 0);
    assert_int_equal(symlink("../keep", at(f, "t/link")), 0);
    for (int i = 0; i < 1500; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "t/%d", i);
        if (i % 3 == 0)
            assert_int_equal(mkdir(at(f, name), 0700), 0);
        else
            put_file(f, name, "", 0600);
    }
    dir = open(at(f, "t"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 300; i++) { /* deeper than any path reaches, with something everywhere */
        static const char name[] = "a-rather-long-name-so-that-the-path-gets-too-long-for-one-call";
        int next;

        assert_int_equal(mkdirat(dir, name, 0700), 0);
        assert_int_equal(mkdirat(dir, "beside", 0700), 0);
        assert_int_equal(symlinkat("/", dir, "root"), 0);
        next = openat(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(dir);
        dir = next;
    }
    close(dir);
    assert_int_equal(remove_path(f, "/", at(f, "t"), true), 0);
    assert_int_equal(access(at(f, "t"), F_OK), -1);
    assert_string_equal(get_file(f, "keep/me"), "kept");
    assert_int_equal(symlink("keep", at(f, "link")), 0);
    assert_int_equal(remove_path(f, "/", at(f, "link"), true), 0);
    assert_string_equal(get_file(f, "keep/me"), "kept");
}

static void stats_with_and_without_following(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[1024];

    put_file(f, "file", "12345", 0604);
    assert_int_equal(symlink("file", at(f, "link")), 0);
    for (int follow = 0; follow < 2; follow++) {
        struct wire_out o = host_path(bytes, sizeof bytes, "/", at(f, "link"));
        struct host_channel *ch;
        struct wire_in in;
        struct wire_stat st;

        wire_put_u8(&o, (uint8_t)follow);
        ch = host_ask(&f->h, WIRE_STAT, o.data, o.len);
        HOST_UNTIL(&f->h, ch->replied);
        in = (struct wire_in){ .data = ch->result, .len = ch->result_len };
        wire_get_stat(&in, &st);
        assert_true(wire_in_done(&in));
        assert_int_equal(st.mode, follow ? (S_IFREG | 0604) : (S_IFLNK | 0777));
        ch->closed = true;
    }
    assert_int_equal(call(f, WIRE_STAT, "/", "/", "1", 1, 0), 0);
    assert_int_equal(call(f, WIRE_STAT, "/", "/dev/null", "1", 1, 0), 0);
    assert_int_equal(call(f, WIRE_STAT, "/", at(f, "file/"), "1", 1, 0), ENOTDIR);
    assert_int_equal(call(f, WIRE_STAT, "relative", "x", "1", 1, 0), EINVAL);
}

static void refuses_malformed_requests(void **state)
{
    struct fixture *f = *state;
    static const uint8_t kinds[] = { WIRE_STAT,  WIRE_MAKE,  WIRE_MOVE, WIRE_REMOVE, WIRE_READ,
                                     WIRE_WRITE, WIRE_WATCH, WIRE_LIST, WIRE_DIAL };
    uint8_t bytes[1024];
    struct wire_out o = host_path(bytes, sizeof bytes, "/", "/tmp");

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        for (size_t len = 0; len <= o.len; len++) {
            struct host_channel *ch = host_ask(&f->h, kinds[i], bytes, len);

            HOST_UNTIL(&f->h, ch->replied);
            if (ch->status != EBADMSG)
                fail_msg("type %u of %zu bytes: %u", kinds[i], len, ch->status);
            if (kinds[i] >= WIRE_SPAWN)
                HOST_UNTIL(&f->h, ch->closed);
            ch->closed = true;
        }
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(reads_a_part_of_a_file),
        T(reads_more_than_the_window_and_what_has_no_size),
        T(never_waits_for_what_is_not_a_file),
        T(no_path_leads_out_of_a_root),
        T(no_magic_link_is_followed),
        T(writes_as_the_flags_say),
        T(replaces_atomically),
        T(writes_more_than_the_window),
        T(a_write_that_fails_says_why),
        T(makes_moves_and_removes),
        T(removes_large_and_deep_trees_and_follows_no_link),
        T(stats_with_and_without_following),
        T(refuses_malformed_requests),
    };
    int failed;

    program = GUEST_PROGRAM;
    failed = cmocka_run_group_tests_name("inside_file, static", tests, NULL, NULL);
#ifdef GUEST_NATIVE
    program = GUEST_NATIVE;
    failed += cmocka_run_group_tests_name("inside_file, native", tests, NULL, NULL);
#endif
    return failed;
}
