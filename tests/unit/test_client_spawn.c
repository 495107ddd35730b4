#include "tests/unit/fake_puppet.h"

#include <signal.h>

#include "tests/unit/fake_run.h"

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
        cmocka_unit_test(many_threads_use_one_guest),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
