#include "tests/unit/fake_run.h"

#include <signal.h>

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

int main(void)
{
    static const struct CMUnitTest tests[] = {
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
