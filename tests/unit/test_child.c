#include "tools/cli/child.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "tests/support/check.h"

#define LONG_NS (60 * CLOCK_NS_PER_S)

static void captures_output_and_status(void **state)
{
    static const char *const argv[] = { "sh", "-c", "echo out; echo err >&2; exit 3", NULL };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    int status;
    (void)state;

    assert_ok(child_capture(argv, clock_now_ns() + LONG_NS, 100, &out, &status, &err), err);
    assert_string_equal(buf_str(&out), "out\nerr\n");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 3);
}

static void keeps_no_more_than_it_is_asked_to(void **state)
{
    static const char *const argv[] = { "sh", "-c", "head -c 300000 /dev/zero; exit 4", NULL };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    int status;
    (void)state;

    assert_ok(child_capture(argv, clock_now_ns() + LONG_NS, 1000, &out, &status, &err), err);
    assert_int_equal(out.len, 1000);
    assert_int_equal(WEXITSTATUS(status), 4);
}

static void ends_what_takes_too_long(void **state)
{
    static const char *const argv[] = { "sh", "-c", "trap '' TERM; while :; do sleep 60; done",
                                        NULL };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    int status;
    (void)state;

    assert_false(child_capture(argv, clock_now_ns() + CLOCK_NS_PER_MS, 100, &out, &status, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_true(WIFSIGNALED(status));
}

static void says_what_cannot_be_started(void **state)
{
    static const char *const argv[] = { "/no/such/program", NULL };
    struct child c = { .pid = 0 };
    struct error err = ERROR_INIT;
    (void)state;

    assert_false(child_start(&c, argv, true, false, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "/no/such/program");
    assert_int_equal(child_stop(&c, 0), 0);
}

static void closes_its_input_and_waits(void **state)
{
    static const char *const argv[] = { "sh", "-c", "cat; exit 5", NULL };
    struct child c = { .pid = 0 };
    struct error err = ERROR_INIT;
    struct pollfd p;
    char got[16];
    int status;
    (void)state;

    assert_ok(child_start(&c, argv, true, false, &err), err);
    assert_int_equal(write(c.in, "hello", 5), 5);
    p = (struct pollfd){ .fd = c.out, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 60000), 1);
    assert_int_equal(read(c.out, got, sizeof got), 5);
    status = child_stop(&c, LONG_NS);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 5);
}

static void gives_the_child_the_usual_signals(void **state)
{
    static const char *const argv[] = { "sh", "-c", "kill -PIPE $$; exit 1", NULL };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    int status;
    (void)state;

    (void)signal(SIGPIPE, SIG_IGN);
    assert_ok(child_capture(argv, clock_now_ns() + LONG_NS, 100, &out, &status, &err), err);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGPIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captures_output_and_status),
        cmocka_unit_test(keeps_no_more_than_it_is_asked_to),
        cmocka_unit_test(ends_what_takes_too_long),
        cmocka_unit_test(says_what_cannot_be_started),
        cmocka_unit_test(closes_its_input_and_waits),
        cmocka_unit_test(gives_the_child_the_usual_signals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
