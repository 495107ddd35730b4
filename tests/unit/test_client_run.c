#include "tests/unit/fake_guest.h"

#include <signal.h>

#include "kernel/base/limits.h"

static const char *const hang_argv[] = { "hang", NULL };

/* A run started by an `async`, whose peer is played by hand. */
struct started {
    struct rig *rig;
    struct guest_run_spec spec;
    struct guest_run *run;
    uint32_t channel;
};

static bool do_spawn(void *arg, struct error *err)
{
    struct started *st = arg;
    const struct wait w = patience(NULL);

    st->run = guest_spawn(st->rig->g, &st->spec, &w, err);
    return st->run != NULL;
}

static void start(struct rig *rig, struct started *st)
{
    st->rig = rig;
    if (!st->spec.argv)
        st->spec.argv = hang_argv;
    if (!st->spec.cwd)
        st->spec.cwd = "/";
    async_start(&rig->call, do_spawn, st);
    st->channel = fake_expect(&rig->f, WIRE_SPAWN);
    (void)fake_reply_pid(&rig->f, st->channel, 77);
    assert_ok(async_join(&rig->call), rig->call.err);
}

static void data(struct started *st, unsigned stream, const char *text)
{
    assert_true(fake_send(&st->rig->f, st->channel, WIRE_DATA, stream, text, strlen(text)));
}

/* Everything of @stream from *@offset on, once it is longer than that. */
static char *output(struct started *st, unsigned stream, uint64_t *offset)
{
    const struct wait w = patience(NULL);
    uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
    struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;

    beyond[stream] = *offset;
    assert_ok(guest_run_wait(st->run, 1u << stream, beyond, &w, &err), err);
    assert_true(guest_run_read(st->run, (enum wire_stream)stream, offset, 1u << 20, &out) >= 0);
    assert_true(buf_append_str(&out, ""));
    return buf_take(&out, NULL);
}

static void wait_end(struct started *st, struct guest_run_info *ret)
{
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;

    assert_ok(guest_run_wait(st->run, 0, NULL, &w, &err), err);
    guest_run_info(st->run, ret);
}

/* What the guest has said before this has been dealt with. */
static void sync_up(struct rig *rig)
{
    struct guest_run_info info;
    struct started st = { .rig = rig };

    start(rig, &st);
    (void)fake_exit(&rig->f, st.channel, false, 0);
    wait_end(&st, &info);
    guest_run_unref(st.run);
}

/* ---- starting ---- */

static void a_spawn_says_what_is_asked(void **state)
{
    static const char *const argv[] = { "a", "b", NULL };
    static const char *const env[] = { "X=1", NULL };
    static const struct {
        const char *label;
        struct guest_run_spec spec;
        const char *want;
        size_t want_len;
    } rows[] = {
        { "plain",
          { .argv = argv, .env = env, .cwd = "/w" },
          "\0\0\0\0\30\0\120\0\2\0\0\0/w\2\0\0\0\1\0\0\0a\1\0\0\0b\1\0\0\0\3\0\0\0X=1",
          39 },
        { "merged, with input and control",
          { .argv = argv, .cwd = "/", .merge = true, .stdin_open = true, .control = true },
          "\16\0\0\0\30\0\120\0\1\0\0\0/\2\0\0\0\1\0\0\0a\1\0\0\0b\0\0\0\0",
          31 },
        { "a terminal",
          { .argv = argv,
            .cwd = "/",
            .pty = true,
            .merge = true,
            .stdin_open = true,
            .rows = 5,
            .cols = 6 },
          "\1\0\0\0\5\0\6\0\1\0\0\0/\2\0\0\0\1\0\0\0a\1\0\0\0b\0\0\0\0",
          31 },
    };
    struct rig rig;
    (void)state;

    rig_start(&rig);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct started st = { .rig = &rig, .spec = rows[i].spec };

        async_start(&rig.call, do_spawn, &st);
        st.channel = fake_expect(&rig.f, WIRE_SPAWN);
        if (rig.f.h.length != rows[i].want_len || rig.f.h.stream != 0 ||
            memcmp(rig.f.payload, rows[i].want, rows[i].want_len) != 0)
            fail_msg("%s: another payload (%u bytes)", rows[i].label, rig.f.h.length);
        (void)fake_reply_pid(&rig.f, st.channel, 1);
        assert_ok(async_join(&rig.call), rig.call.err);
        guest_run_unref(st.run);
    }
    rig_stop(&rig);
}

static void a_long_spawn_is_cut_and_one_too_long_refused(void **state)
{
    static char text[WIRE_SPAWN_MAX];
    static const char *const argv[] = { "a", text, NULL };
    struct started st = { .spec = { .argv = argv, .cwd = "/" } };
    struct rig rig;
    size_t total = 0;
    (void)state;

    rig_start(&rig);
    memset(text, 'x', sizeof text - 1);
    st.rig = &rig;
    async_start(&rig.call, do_spawn, &st);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_LIMIT);

    text[sizeof text - 100] = '\0';
    async_start(&rig.call, do_spawn, &st);
    do {
        st.channel = fake_expect(&rig.f, WIRE_SPAWN);
        total += rig.f.h.length;
    } while (rig.f.h.stream == 1);
    assert_true(total > sizeof text - 100 && total <= WIRE_SPAWN_MAX);
    (void)fake_reply_pid(&rig.f, st.channel, 1);
    assert_ok(async_join(&rig.call), rig.call.err);
    guest_run_unref(st.run);
    rig_stop(&rig);
}

static void a_failed_spawn_says_what_to_do(void **state)
{
    static const char *const name[] = { "foo", NULL };
    static const char *const path[] = { "/x/foo", NULL };
    static const char *const env[] = { "A=B", "PATH=/usr/bin:/bin", NULL };
    static const struct {
        const char *const *argv;
        uint32_t status;
        int stage; /* -1: not said */
        enum error_code code;
        const char *text;
    } rows[] = {
        { name, ENOENT, 2, ERR_NOT_FOUND,
          "no program \"foo\" in the computer's PATH (/usr/bin:/bin); install it" },
        { name, ENOENT, -1, ERR_NOT_FOUND, "no program \"foo\"" },
        { path, ENOENT, 2, ERR_NOT_FOUND, "no program \"/x/foo\" in the computer" },
        { path, EACCES, 2, ERR_DENIED, "chmod" },
        { path, ENOEXEC, 2, ERR_INVALID, "#!/bin/sh" },
        { path, E2BIG, 2, ERR_LIMIT, "128 KiB" },
        { path, EIO, 2, ERR_IO, "cannot execute" },
        { path, 0xfffffff0, 2, ERR_IO, "cannot execute" },
        { path, ENOENT, 1, ERR_NOT_FOUND, "working folder \"/w\" does not exist" },
        { path, ENOTDIR, 1, ERR_INVALID, "not a folder" },
        { path, EACCES, 1, ERR_DENIED, "cannot enter" },
        { path, EAGAIN, 3, ERR_LIMIT, "processes" },
        { path, ENOMEM, 3, ERR_LIMIT, "memory" },
        { path, EMFILE, 3, ERR_LIMIT, "open files" },
        { path, EPERM, 3, ERR_DENIED, "cannot start" },
    };
    struct rig rig;
    (void)state;

    rig_start(&rig);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct started st = { .rig = &rig,
                              .spec = { .argv = rows[i].argv, .env = env, .cwd = "/w" } };
        uint8_t payload[8];
        struct wire_out o = { .data = payload, .cap = sizeof payload };

        async_start(&rig.call, do_spawn, &st);
        st.channel = fake_expect(&rig.f, WIRE_SPAWN);
        wire_put_u32(&o, rows[i].status);
        if (rows[i].stage >= 0)
            wire_put_u8(&o, (uint8_t)rows[i].stage);
        (void)fake_send(&rig.f, st.channel, WIRE_REPLY, 0, payload, o.len);
        assert_false(async_join(&rig.call));
        if (rig.call.err.code != rows[i].code || !strstr(rig.call.err.text, rows[i].text))
            fail_msg("row %zu: %s: %s", i, error_code_name(rig.call.err.code), rig.call.err.text);
        assert_int_equal(fake_expect(&rig.f, WIRE_CLOSE), st.channel);
        (void)fake_send(&rig.f, st.channel, WIRE_CLOSE, 0, NULL, 0);
    }
    rig_stop(&rig);
}

static void an_empty_command_line_is_refused(void **state)
{
    static const char *const none[] = { NULL };
    static const char *const empty[] = { "", NULL };
    struct rig rig;
    struct started st = { .rig = &rig, .spec = { .argv = none, .cwd = "/" } };
    struct error err = ERROR_INIT;
    (void)state;

    rig_start(&rig);
    assert_false(do_spawn(&st, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    st.spec.argv = empty;
    assert_false(do_spawn(&st, &err));
    assert_code(err, ERR_INVALID);
    rig_stop(&rig);
}

struct given_up {
    struct started st;
    struct cancel token;
};

static bool do_given_up(void *arg, struct error *err)
{
    struct given_up *gu = arg;
    const struct wait w = patience(&gu->token);

    gu->st.run = guest_spawn(gu->st.rig->g, &gu->st.spec, &w, err);
    return gu->st.run != NULL;
}

static void a_spawn_that_was_given_up_is_killed_when_it_starts(void **state)
{
    struct rig rig;
    struct given_up gu = { .st = { .rig = &rig, .spec = { .argv = hang_argv, .cwd = "/" } } };
    (void)state;

    rig_start(&rig);
    cancel_init(&gu.token);
    async_start(&rig.call, do_given_up, &gu);
    gu.st.channel = fake_expect(&rig.f, WIRE_SPAWN);
    cancel_raise(&gu.token);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_CANCELLED);
    (void)fake_reply_pid(&rig.f, gu.st.channel, 1);
    assert_int_equal(fake_expect(&rig.f, WIRE_SIGNAL), gu.st.channel);
    assert_memory_equal(rig.f.payload, "\11\0\0\0\1", 5);
    (void)fake_exit(&rig.f, gu.st.channel, true, SIGKILL);
    (void)fake_send(&rig.f, gu.st.channel, WIRE_CLOSE, 0, NULL, 0);
    assert_int_equal(fake_expect(&rig.f, WIRE_CLOSE), gu.st.channel);
    cancel_fini(&gu.token);
    rig_stop(&rig);
}

/* ---- output ---- */

static void output_is_kept_by_stream_and_offset(void **state)
{
    struct rig rig;
    struct started st = { .spec = { .control = true, .ring_bytes = 8 } };
    struct guest_run_info info;
    struct buf out = BUF_INIT;
    uint64_t offset = 0, err_offset = 0, control_offset = 0;
    char *text;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    data(&st, WIRE_STREAM_OUT, "hello");
    text = output(&st, WIRE_STREAM_OUT, &offset);
    assert_string_equal(text, "hello");
    free(text);
    data(&st, WIRE_STREAM_ERR, "oops");
    data(&st, WIRE_STREAM_CONTROL, "{}");
    data(&st, WIRE_STREAM_OUT, ", wide world");
    sync_up(&rig);
    text = output(&st, WIRE_STREAM_ERR, &err_offset);
    assert_string_equal(text, "oops");
    free(text);
    text = output(&st, WIRE_STREAM_CONTROL, &control_offset);
    assert_string_equal(text, "{}");
    free(text);

    guest_run_info(st.run, &info);
    assert_int_equal(info.total[WIRE_STREAM_OUT], 17);
    assert_int_equal(info.dropped[WIRE_STREAM_OUT], 9);
    assert_int_equal(info.pid, 77);
    assert_int_equal(info.end, GUEST_RUN_LIVE);
    assert_false(info.streams_ended);
    assert_true(info.usage.wall_ns > 0);
    assert_int_equal(guest_run_read(st.run, WIRE_STREAM_OUT, &offset, 3, &out), 3);
    assert_string_equal(buf_str(&out), "de "); /* from 9 on: what came before is gone */
    assert_int_equal(offset, 12);
    buf_fini(&out);
    guest_run_unref(st.run);
    rig_stop(&rig);
}

static void an_end_is_an_end_though_the_streams_go_on(void **state)
{
    struct rig rig;
    struct started st = { .spec = { .merge = true } };
    struct guest_run_info info;
    uint64_t offset = 0;
    char *text;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    (void)fake_exit(&rig.f, st.channel, false, 3);
    wait_end(&st, &info);
    assert_int_equal(info.end, GUEST_RUN_EXIT);
    assert_int_equal(info.value, 3);
    assert_int_equal(info.usage.cpu_ns, 1500000);
    assert_int_equal(info.usage.peak_bytes, 4096);
    assert_false(info.streams_ended);

    data(&st, WIRE_STREAM_OUT, "late");
    sync_up(&rig);
    text = output(&st, WIRE_STREAM_OUT, &offset);
    assert_string_equal(text, "late");
    free(text);
    (void)fake_send(&rig.f, st.channel, WIRE_EOF, WIRE_STREAM_OUT, NULL, 0);
    (void)fake_send(&rig.f, st.channel, WIRE_CLOSE, 0, NULL, 0);
    assert_int_equal(fake_expect(&rig.f, WIRE_CLOSE), st.channel);
    guest_run_info(st.run, &info);
    assert_true(info.streams_ended);
    guest_run_unref(st.run);
    rig_stop(&rig);
}

static void a_stream_at_its_end_ends_the_wait_for_it(void **state)
{
    struct rig rig;
    struct started st = { .rig = &rig };
    struct guest_run_info info;
    uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
    const struct wait w = patience(NULL), now = { .deadline_ns = clock_now_ns() };
    struct error err = ERROR_INIT;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    assert_false(guest_run_wait(st.run, 1u << WIRE_STREAM_OUT, beyond, &now, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    (void)fake_send(&rig.f, st.channel, WIRE_EOF, WIRE_STREAM_OUT, NULL, 0);
    assert_ok(guest_run_wait(st.run, 1u << WIRE_STREAM_OUT, beyond, &w, &err), err);
    assert_true(guest_run_wait(st.run, 1u << WIRE_STREAM_CONTROL, beyond, &now, &err));
    assert_false(guest_run_wait(st.run, 1u << WIRE_STREAM_ERR, beyond, &now, &err));
    (void)fake_send(&rig.f, st.channel, WIRE_EOF, WIRE_STREAM_ERR, NULL, 0);
    sync_up(&rig);
    guest_run_info(st.run, &info);
    assert_true(info.streams_ended);
    assert_int_equal(info.end, GUEST_RUN_LIVE);
    guest_run_unref(st.run);
    rig_stop(&rig);
}

static void credit_comes_back_as_output_lands(void **state)
{
    static const uint8_t block[WIRE_PAYLOAD_MAX];
    struct rig rig;
    struct started st = { .rig = &rig };
    struct wire_in in;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    for (int round = 0; round < 10; round++) {
        for (size_t n = 0; n < WIRE_WINDOW / 2; n += sizeof block)
            (void)fake_send(&rig.f, st.channel, WIRE_DATA, WIRE_STREAM_OUT, block, sizeof block);
        assert_int_equal(fake_expect(&rig.f, WIRE_CREDIT), st.channel);
        assert_int_equal(rig.f.h.stream, WIRE_STREAM_OUT);
        in = (struct wire_in){ .data = rig.f.payload, .len = rig.f.h.length };
        assert_int_equal(wire_get_u32(&in), WIRE_WINDOW / 2);
    }
    guest_run_unref(st.run);
    rig_stop(&rig);
}

static void a_lossless_run_gets_credit_only_for_what_was_read(void **state)
{
    static const uint8_t block[WIRE_PAYLOAD_MAX];
    struct rig rig;
    struct started st = { .rig = &rig, .spec = { .lossless = true, .ring_bytes = 10 } };
    struct guest_run_info info;
    struct buf out = BUF_INIT;
    uint64_t offset = 0;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    for (size_t n = 0; n < WIRE_WINDOW; n += sizeof block)
        (void)fake_send(&rig.f, st.channel, WIRE_DATA, WIRE_STREAM_OUT, block, sizeof block);
    sync_up(&rig); /* and no CREDIT among it */
    guest_run_info(st.run, &info);
    assert_int_equal(info.total[WIRE_STREAM_OUT], WIRE_WINDOW);
    assert_int_equal(info.dropped[WIRE_STREAM_OUT], 0);
    assert_int_equal(guest_run_read(st.run, WIRE_STREAM_OUT, &offset, WIRE_WINDOW / 2, &out),
                     WIRE_WINDOW / 2);
    assert_int_equal(fake_expect(&rig.f, WIRE_CREDIT), st.channel);
    buf_fini(&out);

    guest_run_unref(st.run); /* nobody will read: the rest is granted, so that it can end */
    assert_int_equal(fake_expect(&rig.f, WIRE_CREDIT), st.channel);
    rig_stop(&rig);
}

static void too_much_output_kills_the_run(void **state)
{
    struct rig rig;
    struct started st = { .rig = &rig, .spec = { .max_output = 10 } };
    struct guest_run_info info;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    data(&st, WIRE_STREAM_OUT, "0123456789");
    data(&st, WIRE_STREAM_ERR, "x");
    data(&st, WIRE_STREAM_ERR, "y");
    assert_int_equal(fake_expect(&rig.f, WIRE_SIGNAL), st.channel);
    assert_memory_equal(rig.f.payload, "\11\0\0\0\1", 5);
    (void)fake_exit(&rig.f, st.channel, true, SIGKILL);
    wait_end(&st, &info);
    assert_true(info.output_over);
    assert_int_equal(info.end, GUEST_RUN_SIGNAL);
    guest_run_unref(st.run);
    rig_stop(&rig);
}

static void a_lost_computer_ends_the_run(void **state)
{
    struct rig rig;
    struct started st = { .rig = &rig, .spec = { .stdin_open = true } };
    struct guest_run_info info;
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    data(&st, WIRE_STREAM_OUT, "last words");
    shutdown(rig.f.fd, SHUT_RDWR);
    wait_end(&st, &info);
    assert_int_equal(info.end, GUEST_RUN_LOST);
    assert_true(info.streams_ended);
    assert_int_equal(info.total[WIRE_STREAM_OUT], 10);
    assert_false(guest_run_write(st.run, WIRE_STREAM_MAIN, "x", 1, &w, &err));
    assert_code(err, ERR_LOST);
    guest_run_signal(st.run, SIGTERM, false);
    guest_run_resize(st.run, 1, 1);
    guest_run_close_stdin(st.run);
    mark_wait(&rig.lost, 1);
    guest_free(STEAL(rig.g)); /* the run outlives it */
    guest_run_info(st.run, &info);
    assert_int_equal(info.end, GUEST_RUN_LOST);
    guest_run_unref(st.run);
    rig_stop(&rig);
}

/* ---- input and signals ---- */

struct writing {
    struct started *st;
    size_t len;
};

static bool do_write(void *arg, struct error *err)
{
    static const char block[2 * WIRE_WINDOW];
    struct writing *wr = arg;
    const struct wait w = patience(NULL);

    return guest_run_write(wr->st->run, WIRE_STREAM_MAIN, block, wr->len, &w, err);
}

static void writing_waits_for_credit(void **state)
{
    struct rig rig;
    struct started st = { .rig = &rig, .spec = { .stdin_open = true } };
    struct writing wr = { .st = &st, .len = 2 * WIRE_WINDOW };
    const struct wait now = { .deadline_ns = clock_now_ns() };
    struct error err = ERROR_INIT;
    size_t came = 0;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    async_start(&rig.call, do_write, &wr);
    while (came < WIRE_WINDOW) {
        (void)fake_expect(&rig.f, WIRE_DATA);
        came += rig.f.h.length;
    }
    assert_int_equal(came, WIRE_WINDOW);
    assert_false(guest_run_write(st.run, WIRE_STREAM_MAIN, "x", 1, &now, &err));
    assert_code(err, ERR_TIMEOUT);
    (void)fake_send_u32(&rig.f, st.channel, WIRE_CREDIT, 0, WIRE_WINDOW);
    while (came < 2 * WIRE_WINDOW) {
        (void)fake_expect(&rig.f, WIRE_DATA);
        came += rig.f.h.length;
    }
    assert_ok(async_join(&rig.call), rig.call.err);

    /* More credit than was used is not believed. */
    (void)fake_send_u32(&rig.f, st.channel, WIRE_CREDIT, 0, WIRE_WINDOW + 1);
    mark_wait(&rig.lost, 1);
    assert_contains(rig.why, "more credit");
    guest_run_unref(st.run);
    rig_stop(&rig);
}

static void a_blocked_write_ends_with_the_program(void **state)
{
    struct rig rig;
    struct started st = { .rig = &rig, .spec = { .stdin_open = true } };
    struct writing wr = { .st = &st, .len = 2 * WIRE_WINDOW };
    size_t came = 0;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    async_start(&rig.call, do_write, &wr);
    while (came < WIRE_WINDOW) {
        (void)fake_expect(&rig.f, WIRE_DATA);
        came += rig.f.h.length;
    }
    (void)fake_exit(&rig.f, st.channel, false, 0);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_IO);
    guest_run_unref(st.run);
    rig_stop(&rig);
}

static void input_can_be_closed_once(void **state)
{
    const struct wait w = patience(NULL);
    struct rig rig;
    struct started st = { .rig = &rig, .spec = { .stdin_open = true } };
    struct started none = { .rig = &rig };
    struct error err = ERROR_INIT;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    assert_true(guest_run_write(st.run, WIRE_STREAM_MAIN, "x", 1, &w, &err));
    guest_run_close_stdin(st.run);
    guest_run_close_stdin(st.run);
    assert_false(guest_run_write(st.run, WIRE_STREAM_MAIN, "y", 1, &w, &err));
    assert_code(err, ERR_INVALID);
    (void)fake_expect(&rig.f, WIRE_DATA);
    (void)fake_expect(&rig.f, WIRE_EOF);
    guest_run_signal(st.run, SIGTERM, false);
    (void)fake_expect(&rig.f, WIRE_SIGNAL);
    assert_memory_equal(rig.f.payload, "\17\0\0\0\0", 5);
    guest_run_resize(st.run, 50, 132);
    (void)fake_expect(&rig.f, WIRE_RESIZE);
    assert_memory_equal(rig.f.payload, "\62\0\204\0", 4);

    start(&rig, &none);
    error_clear(&err);
    assert_false(guest_run_write(none.run, WIRE_STREAM_MAIN, "y", 1, &w, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    assert_false(guest_run_write(none.run, WIRE_STREAM_CONTROL, "y", 1, &w, &err));
    assert_code(err, ERR_INVALID);
    guest_run_unref(none.run);
    guest_run_unref(guest_run_ref(st.run));
    guest_run_unref(st.run);
    rig_stop(&rig);
}

/* ---- being told ---- */

static void on_run_ended(void *arg, struct guest_run *run)
{
    (void)run;
    mark_hit(arg);
}

static void the_end_is_told_once_on_the_loop(void **state)
{
    struct rig rig;
    struct started st = { .rig = &rig }, late = { .rig = &rig }, lost = { .rig = &rig };
    struct mark early_mark = MARK_INIT, late_mark = MARK_INIT, lost_mark = MARK_INIT;
    struct guest_run_info info;
    (void)state;

    rig_start(&rig);
    start(&rig, &st);
    guest_run_notify(st.run, on_run_ended, &early_mark);
    guest_run_unref(st.run); /* not even a reference is needed */
    (void)fake_exit(&rig.f, st.channel, false, 0);
    mark_wait(&early_mark, 1);

    start(&rig, &late);
    (void)fake_exit(&rig.f, late.channel, false, 0);
    wait_end(&late, &info);
    guest_run_notify(late.run, on_run_ended, &late_mark);
    mark_wait(&late_mark, 1);
    guest_run_unref(late.run);

    start(&rig, &lost);
    guest_run_notify(lost.run, on_run_ended, &lost_mark);
    guest_run_unref(lost.run);
    guest_close(rig.g, "gone");
    mark_wait(&lost_mark, 1);
    rig_stop(&rig);
    assert_int_equal(early_mark.count, 1);
    assert_int_equal(late_mark.count, 1);
    assert_int_equal(lost_mark.count, 1);
}

/* ---- the puppet's programs, many at once ---- */

struct crowd {
    struct guest *g;
    int rounds;
};

static bool do_crowd(void *arg, struct error *err)
{
    static const char *const echo_argv[] = { "echo", NULL };
    struct crowd *cr = arg;
    const struct guest_run_spec spec = { .argv = echo_argv, .cwd = "/", .stdin_open = true };

    for (int i = 0; i < cr->rounds; i++) {
        const struct wait w = patience(NULL);
        struct guest_run *run = guest_spawn(cr->g, &spec, &w, err);
        struct guest_run_info info;
        uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
        bool ok = run && guest_run_write(run, WIRE_STREAM_MAIN, "hello", 5, &w, err) &&
                  guest_run_wait(run, 1u << WIRE_STREAM_OUT, beyond, &w, err);

        if (ok) {
            guest_run_close_stdin(run);
            ok = guest_run_wait(run, 0, NULL, &w, err);
            guest_run_info(run, &info);
            ok = ok && info.end == GUEST_RUN_EXIT && info.total[WIRE_STREAM_OUT] == 5;
        }
        guest_run_unref(run);
        if (!ok || !guest_ping(cr->g, &w, err))
            return false;
    }
    return true;
}

static void many_threads_use_one_guest(void **state)
{
    struct loop_thread lt;
    struct puppet puppet;
    struct async threads[8];
    struct crowd crowd = { .rounds = 40 };
    (void)state;

    loop_thread_start(&lt);
    crowd.g = guest_new(lt.loop, puppet_start(&puppet), &(struct guest_events){ .on_lost = NULL },
                        NULL, NULL);
    assert_non_null(crowd.g);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        async_start(&threads[i], do_crowd, &crowd);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_ok(async_join(&threads[i]), threads[i].err);
    guest_free(crowd.g);
    puppet_join(&puppet);
    loop_thread_stop(&lt);
}

static void survives_every_allocation_failure(void **state)
{
    static const char *const argv[] = { "say", "hello", NULL };
    const struct guest_run_spec spec = { .argv = argv, .cwd = "/" };
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct loop_thread lt;
        struct puppet puppet;
        const struct wait w = patience(NULL);
        struct guest *g;
        struct guest_run *run;
        bool ok;

        fault_disarm();
        loop_thread_start(&lt);
        g = guest_new(lt.loop, puppet_start(&puppet), &(struct guest_events){ .on_lost = NULL },
                      NULL, &err);
        assert_true(g && guest_ready(g, &w, &err));
        fault_arm(n);
        run = guest_spawn(g, &spec, &w, &err);
        ok = run && guest_run_wait(run, 0, NULL, &w, &err);
        FAULT_DONE(n);
        if (!ok && err.code != ERR_NOMEM)
            fail_msg("allocation %u: %s", n, err.text);
        guest_run_unref(run);
        guest_free(g);
        puppet_join(&puppet);
        loop_thread_stop(&lt);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spawn_says_what_is_asked),
        cmocka_unit_test(a_long_spawn_is_cut_and_one_too_long_refused),
        cmocka_unit_test(a_failed_spawn_says_what_to_do),
        cmocka_unit_test(an_empty_command_line_is_refused),
        cmocka_unit_test(a_spawn_that_was_given_up_is_killed_when_it_starts),
        cmocka_unit_test(output_is_kept_by_stream_and_offset),
        cmocka_unit_test(an_end_is_an_end_though_the_streams_go_on),
        cmocka_unit_test(a_stream_at_its_end_ends_the_wait_for_it),
        cmocka_unit_test(credit_comes_back_as_output_lands),
        cmocka_unit_test(a_lossless_run_gets_credit_only_for_what_was_read),
        cmocka_unit_test(too_much_output_kills_the_run),
        cmocka_unit_test(a_lost_computer_ends_the_run),
        cmocka_unit_test(writing_waits_for_credit),
        cmocka_unit_test(a_blocked_write_ends_with_the_program),
        cmocka_unit_test(input_can_be_closed_once),
        cmocka_unit_test(the_end_is_told_once_on_the_loop),
        cmocka_unit_test(many_threads_use_one_guest),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
