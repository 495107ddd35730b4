#include "tests/unit/fake_puppet.h"

#include <signal.h>

#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "kernel/computer/run.h"

/* ---- a computer of a puppet, whose limits strike when the test says so ---- */

struct fixture {
    struct loop_thread lt;
    struct puppet puppet;
    struct computer *c;
};

static struct {
    pthread_mutex_t lock;
    struct computer_strikes strikes;
} limits = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void set_strikes(const struct computer_strikes *strikes)
{
    static const struct computer_strikes none;

    pthread_mutex_lock(&limits.lock);
    limits.strikes = strikes ? *strikes : none;
    pthread_mutex_unlock(&limits.lock);
}

static void fake_strikes(struct computer *c, struct computer_strikes *ret)
{
    (void)c;
    pthread_mutex_lock(&limits.lock);
    *ret = limits.strikes;
    pthread_mutex_unlock(&limits.lock);
}

static const struct computer_ops fake_ops = { .kind = "fake", .strikes = fake_strikes };

static int start(void **state)
{
    static const char *const env[] = { "PATH=/bin", NULL };
    const struct computer_spec spec = { .pids = 1 };
    const struct wait w = patience(NULL);
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = ERROR_INIT;
    struct computer_hooks hooks;

    assert_non_null(f);
    set_strikes(NULL);
    loop_thread_start(&f->lt);
    hooks = (struct computer_hooks){ .loop = f->lt.loop };
    f->c = calloc(1, sizeof *f->c);
    assert_non_null(f->c);
    assert_ok(computer_init(f->c, &fake_ops, &spec, env, &hooks, &err), err);
    assert_ok(computer_attach(f->c, puppet_start(&f->puppet), &w, &err), err);
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;

    computer_unref(f->c);
    puppet_join(&f->puppet);
    loop_thread_stop(&f->lt);
    free(f);
    return 0;
}

static struct run *begin(struct fixture *f, const struct run_spec *spec)
{
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct run *r = run_start(f->c, spec, &w, &err);

    assert_ok(r != NULL, err);
    return r;
}

static struct run_info finish(struct run *r)
{
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct run_info info;

    assert_ok(run_wait(r, 0, NULL, &w, &err), err);
    run_info(r, &info);
    return info;
}

/* ---- why it ended ---- */

static void the_reason_is_judged_from_the_end_and_the_limits(void **state)
{
    static const struct {
        const char *label, *command;
        struct computer_strikes strikes; /* while it runs */
        enum run_reason reason;
        int value;
    } rows[] = {
        { "success", "exit-at-eof 0", { 0, 0, false }, RUN_EXIT, 0 },
        { "a code", "exit-at-eof 3", { 0, 0, false }, RUN_EXIT, 3 },
        { "a signal", "die-at-eof 15", { 0, 0, false }, RUN_SIGNAL, 15 },
        { "killed, by nobody known", "die-at-eof 9", { 0, 0, false }, RUN_SIGNAL, 9 },
        { "killed for memory", "die-at-eof 9", { 1, 0, false }, RUN_OOM, 9 },
        { "a shell's child killed for memory", "exit-at-eof 137", { 1, 0, false }, RUN_OOM, 137 },
        { "another code while memory struck", "exit-at-eof 1", { 1, 0, false }, RUN_EXIT, 1 },
        { "success while everything struck", "exit-at-eof 0", { 1, 1, true }, RUN_EXIT, 0 },
        { "no more processes", "exit-at-eof 2", { 0, 1, false }, RUN_PIDS, 2 },
        { "a signal, no more processes", "die-at-eof 6", { 0, 7, false }, RUN_PIDS, 6 },
        { "the disk full", "exit-at-eof 1", { 0, 0, true }, RUN_DISK, 1 },
        { "the disk full, says the guest", "full-at-eof 1", { 0, 0, false }, RUN_DISK, 1 },
        { "success on a full disk", "full-at-eof 0", { 0, 0, false }, RUN_EXIT, 0 },
        { "processes before the disk", "exit-at-eof 1", { 0, 1, true }, RUN_PIDS, 1 },
    };
    static const struct computer_strikes later = { 9, 9, true };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct run_info info;
        struct run *r;

        set_strikes(NULL);
        r = begin(f, &(struct run_spec){ .command = rows[i].command, .stdin_open = true });
        run_info(r, &info);
        assert_int_equal(info.reason, RUN_LIVE);
        set_strikes(&rows[i].strikes);
        guest_run_close_stdin(run_guest(r));
        info = finish(r);
        if (info.reason != rows[i].reason || info.value != rows[i].value)
            fail_msg("%s: %s %d", rows[i].label, run_reason_name(info.reason), info.value);
        set_strikes(&later);
        run_info(r, &info); /* what happens to others later changes nothing */
        assert_int_equal(info.reason, rows[i].reason);
        run_unref(r);
    }
}

static void a_strike_of_before_is_not_held_against_it(void **state)
{
    static const struct computer_strikes before = { 4, 4, false };
    struct fixture *f = *state;
    struct run *r;

    set_strikes(&before);
    r = begin(f, &(struct run_spec){ .command = "die 9" });
    assert_int_equal(finish(r).reason, RUN_SIGNAL);
    run_unref(r);
}

static void a_kill_of_ours_is_told_from_others(void **state)
{
    struct fixture *f = *state;
    struct run *r = begin(f, &(struct run_spec){ .command = "hang" });
    struct run_info info;

    run_kill(r, SIGTERM, false);
    info = finish(r);
    assert_int_equal(info.reason, RUN_KILLED);
    assert_int_equal(info.value, SIGTERM);
    run_kill(r, SIGKILL, true); /* too late, and harmless */
    run_info(r, &info);
    assert_int_equal(info.reason, RUN_KILLED);
    run_unref(r);
}

static void too_much_output_is_its_own_reason(void **state)
{
    struct fixture *f = *state;
    struct run *r =
        begin(f, &(struct run_spec){ .command = "flood 100000000", .max_output = 1000000 });
    struct run_info info = finish(r);

    assert_int_equal(info.reason, RUN_OUTPUT);
    assert_true(info.guest.total[WIRE_STREAM_OUT] > 1000000);
    assert_true(info.guest.total[WIRE_STREAM_OUT] - info.guest.dropped[WIRE_STREAM_OUT] <=
                LIMIT_RING_BYTES);
    run_unref(r);
}

static void the_end_of_the_computer_is_told_apart(void **state)
{
    struct fixture *f = *state;
    struct run *r = begin(f, &(struct run_spec){ .command = "hang" });

    computer_destroy(f->c);
    assert_int_equal(finish(r).reason, RUN_KILLED);
    run_unref(r);
}

static void the_loss_of_the_computer_is_told_apart(void **state)
{
    struct fixture *f = *state;
    struct run *r = begin(f, &(struct run_spec){ .command = "hang" });
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;

    computer_report_lost(f->c, "it broke");
    assert_int_equal(finish(r).reason, RUN_LOST);
    assert_null(run_start(f->c, &(struct run_spec){ .command = "true" }, &w, &err));
    assert_code(err, ERR_LOST);
    assert_contains(err.text, "it broke");
    run_unref(r);
}

/* ---- the deadline ---- */

static void a_run_is_killed_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    struct run *r =
        begin(f, &(struct run_spec){ .command = "hang", .timeout_ns = CLOCK_NS_PER_MS });
    struct run_info info = finish(r);

    assert_int_equal(info.reason, RUN_TIMEOUT);
    assert_int_equal(info.value, SIGKILL);
    run_unref(r);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void a_run_that_nobody_holds_is_killed_at_its_deadline_too(void **state)
{
    struct fixture *f = *state;
    struct run *r =
        begin(f, &(struct run_spec){
                     .command = "hang", .lossless = true, .timeout_ns = 20 * CLOCK_NS_PER_MS });
    struct guest_run *guest = guest_run_ref(run_guest(r));
    const struct wait w = patience(NULL);
    struct guest_run_info info;
    struct error err = ERROR_INIT;

    run_unref(r);
    assert_ok(guest_run_wait(guest, 0, NULL, &w, &err), err);
    guest_run_info(guest, &info);
    assert_int_equal(info.end, GUEST_RUN_SIGNAL);
    guest_run_unref(guest);
}

static void a_run_that_ends_in_time_leaves_no_timer(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 20; i++) {
        struct run *r =
            begin(f, &(struct run_spec){ .command = "true", .timeout_ns = 3600 * CLOCK_NS_PER_S });

        assert_int_equal(finish(r).reason, RUN_EXIT);
        run_unref(r);
    }
    on_loop(f->lt.loop, nothing, NULL); /* what was posted before has been done */
}

/* ---- starting ---- */

static void what_cannot_be_started_says_so(void **state)
{
    static const char *const none[] = { NULL };
    static const char *const missing[] = { "missing", NULL };
    static const char *const bad_env[] = { "nonsense", NULL };
    static const struct {
        struct run_spec spec;
        enum error_code code;
        const char *text;
    } rows[] = {
        { { .command = NULL }, ERR_INVALID, "command" },
        { { .argv = none }, ERR_INVALID, "command" },
        { { .argv = missing },
          ERR_NOT_FOUND,
          "no program \"missing\" in the computer's PATH (/bin)" },
        { { .command = "nowhere" }, ERR_NOT_FOUND, "\"/workspace\" does not exist" },
        { { .command = "true", .env = bad_env }, ERR_INVALID, "nonsense" },
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct wait w = patience(NULL);
        struct error err = ERROR_INIT;

        assert_null(run_start(f->c, &rows[i].spec, &w, &err));
        assert_code(err, rows[i].code);
        assert_contains(err.text, rows[i].text);
    }
}

static void a_title_is_short_and_readable(void **state)
{
    static char longest[600];
    static const char *const simple[] = { "ls", "-l", "/tmp", NULL };
    static const char *const quoted[] = { "echo", "it's", "", "a\nb", NULL };
    static const char *const invalid[] = { "x\xff", NULL };
    static const char *const many[] = { "echo", longest, NULL };
    static const struct {
        struct run_spec spec;
        const char *want; /* NULL: only checked for its form */
    } rows[] = {
        { { .argv = simple }, "ls -l /tmp" },
        { { .argv = quoted }, "echo 'it'\\''s' '' 'a b'" },
        { { .argv = invalid }, "'x\xef\xbf\xbd'" },
        { { .command = "make all" }, "sh -c 'make all'" },
        { { .argv = many }, NULL },
    };
    struct fixture *f = *state;

    for (size_t i = 0; i + 2 < sizeof longest; i += 2) {
        longest[i] = '\xc3';
        longest[i + 1] = '\xa4';
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct run *r = begin(f, &rows[i].spec);
        const char *title = run_title(r);

        if (rows[i].want)
            assert_string_equal(title, rows[i].want);
        assert_true(strlen(title) <= 200 && strlen(title) > 0);
        assert_true(utf8_valid(title, strlen(title)));
        assert_true(id_is(run_id(r), "r"));
        assert_ptr_equal(run_computer(r), f->c);
        run_unref(r);
    }
}

static void a_run_keeps_the_object_but_not_the_machine(void **state)
{
    struct fixture *f = *state;
    struct run *r = begin(f, &(struct run_spec){ .command = "hang" });
    struct computer *c;
    char why[64];

    computer_unref(f->c); /* the last one: the machine is gone */
    assert_int_equal(finish(r).reason, RUN_KILLED);
    c = computer_ref(run_computer(r));
    computer_lost_reason(c, why, sizeof why);
    assert_string_equal(why, "destroyed");
    computer_unref(c);
    run_unref(run_ref(r));
    run_unref(r);
    f->c = NULL;
}

static void refusals_of_before_are_told_apart(void **state)
{
    struct fixture *f = *state;
    struct run *r;
    struct run_info info;

    computer_report_refusal(f->c, "mount", "", 0);
    r = begin(f, &(struct run_spec){ .command = "true" });
    computer_report_refusal(f->c, "mount", "", 0);
    run_info(r, &info);
    assert_int_equal(info.refusal_seq, 1);
    run_unref(r);
}

static void a_computer_keeps_a_bounded_number_of_runs(void **state)
{
    static struct run *runs[LIMIT_RUNS];
    struct fixture *f = *state;
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < LIMIT_RUNS; i++) {
        runs[i] = begin(f, &(struct run_spec){ .command = "true" });
        (void)finish(runs[i]);
    }
    assert_null(run_start(f->c, &(struct run_spec){ .command = "true" }, &w, &err));
    assert_code(err, ERR_LIMIT);
    on_loop(f->lt.loop, nothing, NULL);
    run_unref(runs[0]);
    runs[0] = begin(f, &(struct run_spec){ .command = "true" });
    for (size_t i = 0; i < LIMIT_RUNS; i++)
        run_unref(runs[i]);
}

static void every_reason_has_its_name(void **state)
{
    static const char *const names[] = {
        "running", "exit",   "signal", "timeout", "oom",
        "pids",    "output", "disk",   "killed",  "computer_lost"
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_string_equal(run_reason_name((enum run_reason)i), names[i]);
    assert_string_equal(run_reason_name((enum run_reason)99), "unknown");
}

static void survives_every_allocation_failure(void **state)
{
    struct fixture *f = *state;

    FAULT_EACH(n)
    {
        const struct wait w = patience(NULL);
        struct error err = ERROR_INIT;
        struct run *r = run_start(
            f->c, &(struct run_spec){ .command = "true", .timeout_ns = CLOCK_NS_PER_S }, &w, &err);

        if (r)
            assert_true(run_wait(r, 0, NULL, &w, &err));
        FAULT_DONE(n);
        if (!r)
            assert_code(err, ERR_NOMEM);
        run_unref(r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_reason_is_judged_from_the_end_and_the_limits, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_strike_of_before_is_not_held_against_it, start, stop),
        cmocka_unit_test_setup_teardown(a_kill_of_ours_is_told_from_others, start, stop),
        cmocka_unit_test_setup_teardown(too_much_output_is_its_own_reason, start, stop),
        cmocka_unit_test_setup_teardown(the_end_of_the_computer_is_told_apart, start, stop),
        cmocka_unit_test_setup_teardown(the_loss_of_the_computer_is_told_apart, start, stop),
        cmocka_unit_test_setup_teardown(a_run_is_killed_at_its_deadline, start, stop),
        cmocka_unit_test_setup_teardown(a_run_that_nobody_holds_is_killed_at_its_deadline_too,
                                        start, stop),
        cmocka_unit_test_setup_teardown(a_run_that_ends_in_time_leaves_no_timer, start, stop),
        cmocka_unit_test_setup_teardown(what_cannot_be_started_says_so, start, stop),
        cmocka_unit_test_setup_teardown(a_title_is_short_and_readable, start, stop),
        cmocka_unit_test_setup_teardown(a_run_keeps_the_object_but_not_the_machine, start, stop),
        cmocka_unit_test_setup_teardown(refusals_of_before_are_told_apart, start, stop),
        cmocka_unit_test_setup_teardown(a_computer_keeps_a_bounded_number_of_runs, start, stop),
        cmocka_unit_test(every_reason_has_its_name),
        cmocka_unit_test_setup_teardown(survives_every_allocation_failure, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
