/*
 * The guest when memory is short: every allocation that a request makes fails once, in a guest that
 * runs in this process and starts nothing.
 */
#include "tests/unit/test_inside_host.h"

#include <limits.h>

#include "images/guest/inside.h"

struct script {
    uint8_t bytes[8192];
    size_t len;
};

static void add(struct script *s, uint32_t channel, uint8_t type, uint8_t stream,
                const void *payload, size_t len)
{
    struct wire_header h = {
        .length = (uint32_t)len, .channel = channel, .type = type, .stream = stream
    };

    assert_true(s->len + WIRE_HEADER_BYTES + len <= sizeof s->bytes);
    wire_header_put(s->bytes + s->len, &h);
    if (len > 0)
        memcpy(s->bytes + s->len + WIRE_HEADER_BYTES, payload, len);
    s->len += WIRE_HEADER_BYTES + len;
}

static size_t put_spawn(uint8_t *buf, size_t size, uint32_t flags)
{
    static const char *const argv[] = { "true", "argument", NULL };
    static const char *const env[] = { "PATH=/bin", NULL };

    return host_put_spawn(buf, size, flags, "/", argv, env);
}

static void spawn_script(struct script *s)
{
    uint8_t buf[256];
    size_t len = put_spawn(buf, sizeof buf, WIRE_SPAWN_STDIN | WIRE_SPAWN_CONTROL);

    add(s, 1, WIRE_SPAWN, 0, buf, len);
    add(s, 1, WIRE_DATA, WIRE_STREAM_MAIN, "stdin", 5);
}

static void parts_script(struct script *s)
{
    uint8_t buf[256];
    size_t len = put_spawn(buf, sizeof buf, 0);

    add(s, 1, WIRE_SPAWN, 1, buf, 10);
    add(s, 1, WIRE_SPAWN, 1, buf + 10, 3);
    add(s, 1, WIRE_SPAWN, 0, buf + 13, len - 13);
}

static void path_script(struct script *s, uint8_t type, const char *path, const char *extra,
                        size_t extra_len)
{
    uint8_t buf[512];
    struct wire_out o = host_path(buf, sizeof buf, "/", path);

    wire_put_bytes(&o, extra, extra_len);
    add(s, 1, type, 0, o.data, o.len);
}

static void list_script(struct script *s)
{
    path_script(s, WIRE_LIST, "/", "\x09\0\0\0\xff\0\0\0\1", 9);
}

static void watch_script(struct script *s)
{
    path_script(s, WIRE_WATCH, "/", "\1", 1);
}

static void read_script(struct script *s)
{
    path_script(s, WIRE_READ, "/file", "\0\0\0\0\0\0\0\0\xff\0\0\0\0\0\0\0", 16);
}

static void write_script(struct script *s)
{
    path_script(s, WIRE_WRITE, "/new", "\xa4\1\0\0\x09\0\0\0", 8); /* create, atomic */
    add(s, 1, WIRE_DATA, 0, "text", 4);
    add(s, 1, WIRE_EOF, 0, NULL, 0);
}

static void remove_script(struct script *s)
{
    path_script(s, WIRE_REMOVE, "/folder", "\1", 1);
}

static void refused_script(struct script *s)
{
    path_script(s, WIRE_READ, "/none", "\0\0\0\0\0\0\0\0\xff\0\0\0\0\0\0\0", 16);
}

/* What the guest said: the status of the reply, or -1 when there was none. */
static int reply_of(int fd)
{
    static uint8_t storage[4 * WIRE_PAYLOAD_MAX];
    struct wire_reader r = { .data = storage, .cap = sizeof storage };
    struct wire_header h;
    const uint8_t *payload;
    ssize_t n;
    int status = -1;

    do {
        size_t room;
        uint8_t *at = wire_reader_space(&r, &room);

        n = recv(fd, at, room, MSG_DONTWAIT);
        if (n > 0)
            wire_reader_filled(&r, (size_t)n);
        while (wire_reader_next(&r, &h, &payload) == WIRE_OK) {
            struct wire_in in = { .data = payload, .len = h.length };

            if (h.type == WIRE_REPLY)
                status = (int)wire_get_u32(&in);
        }
    } while (n > 0);
    return status;
}

static void prepare(const char *dir)
{
    char path[128];
    int fd;

    for (int i = 0; i < 3; i++) {
        static const char *const folders[] = { "folder", "folder/a", "folder/a/b" };

        (void)snprintf(path, sizeof path, "%s/%s", dir, folders[i]);
        (void)mkdir(path, 0700);
    }
    (void)snprintf(path, sizeof path, "%s/file", dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "text", 4), 4);
    close(fd);
}

static void survives_every_allocation_failure(void **state)
{
    static const struct {
        const char *label;
        void (*make)(struct script *s);
        int want;
        unsigned least; /* allocations that there must be, for the test to be one */
    } rows[] = {
        { "spawn", spawn_script, 0, 2 },   { "spawn in parts", parts_script, 0, 4 },
        { "list", list_script, 0, 5 },     { "watch", watch_script, 0, 5 },
        { "read", read_script, 0, 1 },     { "write", write_script, 0, 1 },
        { "remove", remove_script, 0, 1 }, { "a refusal", refused_script, ENOENT, 1 },
    };
    char dir[64];

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN); /* the guest itself has every signal blocked */
    host_mktree(dir, sizeof dir);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct script s = { .len = 0 };
        unsigned count = 0;
        int status = -1;

        rows[i].make(&s);
        FAULT_EACH(n)
        {
            struct inside in;
            struct inside_options opt = { .listen_fd = -1, .root = dir, .inert = true };
            int fds[2];
            bool ok;

            memset(&in, 0, sizeof in);
            prepare(dir);
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
            assert_int_equal(send(fds[0], s.bytes, s.len, 0), (ssize_t)s.len);
            opt.stream = fds[1];
            ok = inside_init(&in, &opt);
            if (!ok)
                close(fds[1]);
            for (int turn = 0; ok && turn < 30; turn++)
                ok = inside_turn(&in, 0);
            inside_fini(&in);
            count = fault_count();
            FAULT_DONE(n);
            status = reply_of(fds[0]);
            close(fds[0]);
            /* Without memory to remember a refusal by, the connection ends, which is an answer too.
             */
            if (status != rows[i].want && status != ENOMEM && status != -1)
                fail_msg("%s: %d with allocation %u failing", rows[i].label, status, n);
        }
        if (status != rows[i].want)
            fail_msg("%s: %d in the end", rows[i].label, status);
        if (count < rows[i].least)
            fail_msg("%s: only %u allocations", rows[i].label, count);
    }
    host_rmtree(dir);
}

/* KiB that are the guest's own, not shared with a file; 0 when it cannot be found out. */
static unsigned long own_memory(pid_t pid)
{
    unsigned long total, resident, shared;
    char path[64];
    FILE *f;
    int n;

    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    n = fscanf(f, "%lu %lu %lu", &total, &resident, &shared);
    (void)fclose(f);
    return n == 3 ? (resident - shared) * (unsigned long)sysconf(_SC_PAGESIZE) / 1024 : 0;
}

static void gives_memory_back_when_idle(void **state)
{
    struct host h;
    unsigned long kib = ULONG_MAX;

    (void)state;
    host_start(&h, GUEST_PROGRAM);
    for (int i = 0; i < 3; i++) {
        struct host_channel *ch = host_run(&h, 0, "head -c 1000000 /dev/zero");

        assert_int_equal(ch->out[WIRE_STREAM_OUT].len, 1000000);
    }
    for (int tries = 0; tries < 300 && kib > 64; tries++) {
        (void)host_pump(&h, 50);
        kib = own_memory(h.pid);
        assert_true(kib > 0);
    }
    (void)host_stop(&h);
    if (kib > 64)
        fail_msg("an idle guest holds %lu KiB", kib);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_every_allocation_failure),
        cmocka_unit_test(gives_memory_back_when_idle),
    };

    return cmocka_run_group_tests_name("inside_memory", tests, NULL, NULL);
}
