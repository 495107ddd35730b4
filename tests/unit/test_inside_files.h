/*
 * test_inside_files - what the tests of files in the guest share: a guest, a folder of its own,
 * listings.
 */
#pragma once

#include "tests/unit/test_inside_host.h"

static const char *program;

struct fixture {
    struct host h;
    char dir[64];
    char buf[4 * WIRE_PATH_MAX];
};

static inline int start(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    host_mktree(f->dir, sizeof f->dir);
    host_start(&f->h, program);
    *state = f;
    return 0;
}

static inline int stop(void **state)
{
    struct fixture *f = *state;

    (void)host_stop(&f->h);
    host_rmtree(f->dir);
    free(f);
    return 0;
}

static inline const char *at(struct fixture *f, const char *name)
{
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    (void)snprintf(path, sizeof paths[0], "%s/%s", f->dir, name);
    return path;
}

static inline void put_file(struct fixture *f, const char *name, const char *text, mode_t mode)
{
    int fd = open(at(f, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static inline const char *get_file(struct fixture *f, const char *name)
{
    int fd = open(at(f, name), O_RDONLY | O_CLOEXEC);
    ssize_t n;

    assert_true(fd >= 0);
    n = read(fd, f->buf, sizeof f->buf - 1);
    assert_true(n >= 0);
    f->buf[n] = '\0';
    close(fd);
    return f->buf;
}

/* The listing as lines "PATH[ -> TARGET]"; folders have a slash at the end. */
static inline struct host_channel *list(struct fixture *f, const char *root, const char *path,
                                        uint32_t depth, uint32_t most, bool hidden, char *buf,
                                        size_t size)
{
    uint8_t bytes[3 * WIRE_PATH_MAX];
    struct wire_out o = host_path(bytes, sizeof bytes, root, path);
    struct host_channel *ch;
    struct wire_in in;
    size_t len = 0;

    wire_put_u32(&o, depth);
    wire_put_u32(&o, most);
    wire_put_u8(&o, hidden);
    ch = host_ask(&f->h, WIRE_LIST, o.data, o.len);
    HOST_UNTIL(&f->h, ch->closed);
    in = (struct wire_in){ .data = (const uint8_t *)host_text(&ch->out[0]), .len = ch->out[0].len };
    buf[0] = '\0';
    while (in.at < in.len) {
        char name[WIRE_PATH_MAX], target[WIRE_PATH_MAX];
        struct wire_stat st;

        assert_true(wire_get_str_into(&in, name, sizeof name));
        assert_true(wire_get_str_into(&in, target, sizeof target));
        wire_get_stat(&in, &st);
        assert_false(in.failed);
        assert_true(len < size);
        len += (size_t)snprintf(buf + len, size - len, "%s%s%s%s\n", name,
                                S_ISDIR(st.mode) ? "/" : "", target[0] ? " -> " : "", target);
    }
    assert_true(len < size);
    return ch;
}
