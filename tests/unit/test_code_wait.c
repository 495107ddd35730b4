#include "tests/unit/code_place.h"

static struct place place;
static struct answer got;

static int make_place(void **state)
{
    (void)state;
    place_new(&place, 90000);
    return 0;
}

static int drop_place(void **state)
{
    (void)state;
    place_free(&place);
    return 0;
}

/* Each test has a computer of its own. */
static int drop_computers(void **state)
{
    static struct answer list;
    const char *at = call(&place, &list, "computer_list", json_object());
    char id[64];
    (void)state;

    while ((at = strstr(at, "\"computer\":\"")) != NULL) {
        if (sscanf(at, "\"computer\":\"%63[^\"]", id) != 1)
            return -1;
        call(&place, &got, "computer_destroy", json_pack("{s:s}", "computer", id));
        at++;
    }
    return 0;
}

/* A cell that says that it runs and goes on until the file FILE is there. */
#define UNTIL(file) \
    "touch " file ".begun; x=1; while [ ! -e " file " ]; do sleep 0.02; done; echo over"

static void await_file(const char *file)
{
    char command[128];

    (void)snprintf(command, sizeof command, "while [ ! -e %s ]; do sleep 0.02; done", file);
    call(&place, &got, "terminal_run", json_pack("{s:s}", "command", command));
    assert_contains(got.text, "exit code 0");
}

static void what_does_not_react_is_killed_and_that_is_said(void **state)
{
    (void)state;
    assert_contains(
        cell_limited(&place, &got, "python", "deaf",
                     "import signal\nx = 1\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                     "print('deaf')\nwhile True: pass",
                     5000), /* long enough for a slow machine to come to the loop */
        "did not react to the interrupt and was killed");
    assert_contains(got.text, "deaf");
    assert_contains(got.text, "state is lost");
    assert_contains(cell(&place, &got, "python", "deaf", "x"), "NameError");
}

static void two_calls_at_once_run_one_after_the_other(void **state)
{
    static struct answer first, second;
    (void)state;

    (void)cell(&place, &got, "bash", "pair", "n=0");
    call_begin(&place, &first, "code_run",
               json_pack("{s:s,s:s,s:s}", "language", "bash", "context", "pair", "code",
                         "n=$((n + 1)); sleep 0.2; echo n=$n"));
    call_begin(&place, &second, "code_run",
               json_pack("{s:s,s:s,s:s}", "language", "bash", "context", "pair", "code",
                         "n=$((n + 1)); sleep 0.2; echo n=$n"));
    call_end(&first);
    call_end(&second);
    assert_false(first.is_error || second.is_error);
    assert_true((strstr(first.text, "n=1") && strstr(second.text, "n=2")) ||
                (strstr(first.text, "n=2") && strstr(second.text, "n=1")));
}

static void cancelling_interrupts_the_cell(void **state)
{
    static struct answer a;
    (void)state;

    call_begin(&place, &a, "code_run",
               json_pack("{s:s,s:s,s:s}", "language", "bash", "context", "cancel", "code",
                         UNTIL("/workspace/cancel")));
    await_file("/workspace/cancel.begun");
    assert_false(a.done);
    syscall_cancel(a.sc);
    call_end(&a);
    assert_contains(cell(&place, &got, "bash", "cancel", "echo x=$x"), "x=1\n[ok");
    assert_null(strstr(got.text, "over"));
}

static void a_restart_ends_a_cell_that_another_call_waits_for(void **state)
{
    static struct answer a;
    (void)state;

    call_begin(&place, &a, "code_run",
               json_pack("{s:s,s:s,s:s}", "language", "bash", "context", "held", "code",
                         UNTIL("/workspace/held")));
    await_file("/workspace/held.begun");
    call(&place, &got, "code_run",
         json_pack("{s:s,s:s,s:s,s:b}", "language", "bash", "context", "held", "code", "echo x=$x.",
                   "restart", 1));
    assert_contains(got.text, "x=.");
    call_end(&a);
    assert_contains(a.text, "ended by restart");
}

static void a_long_cell_goes_on_and_its_result_is_kept(void **state)
{
    static struct place quick;
    static struct answer a;
    (void)state;

    place_new(&quick, 4000); /* a sandbox and a shell are made in it, too */
    call(&quick, &a, "code_run",
         json_pack("{s:s,s:s}", "language", "bash", "code", "echo early; " UNTIL("/workspace/go")));
    assert_contains(a.text, "early");
    assert_contains(a.text, "[still running after ");
    call(&quick, &a, "code_run", json_pack("{s:s,s:s}", "language", "bash", "code", "echo other"));
    assert_true(a.is_error);
    assert_contains(a.text, "still running an earlier cell");
    call(&quick, &a, "code_run", json_pack("{s:s,s:s}", "language", "bash", "code", ""));
    assert_contains(a.text, "[still running after ");
    assert_null(strstr(a.text, "early"));
    call(&quick, &a, "terminal_run", json_pack("{s:s}", "command", "touch /workspace/go"));
    do {
        call(&quick, &a, "code_run", json_pack("{s:s,s:s}", "language", "bash", "code", ""));
    } while (strstr(a.text, "still running"));
    assert_contains(a.text, "over\n[ok, ");

    /* Finished, and nobody asked: told before the next one. */
    call(&quick, &a, "terminal_run", json_pack("{s:s}", "command", "rm /workspace/go*"));
    call(&quick, &a, "code_run",
         json_pack("{s:s,s:s}", "language", "bash", "code", UNTIL("/workspace/go")));
    assert_contains(a.text, "[still running after ");
    call(&quick, &a, "terminal_run", json_pack("{s:s}", "command", "touch /workspace/go"));
    do {
        call(&quick, &a, "code_run",
             json_pack("{s:s,s:s}", "language", "bash", "code", "echo next"));
    } while (a.is_error);
    assert_contains(a.text, "the cell that ran before came to this");
    assert_contains(a.text, "over\n[ok");
    assert_contains(a.text, "next\n[ok");
    place_free(&quick);
}

#define IN_A_COMPUTER(test) cmocka_unit_test_teardown(test, drop_computers)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_COMPUTER(what_does_not_react_is_killed_and_that_is_said),
        IN_A_COMPUTER(two_calls_at_once_run_one_after_the_other),
        IN_A_COMPUTER(cancelling_interrupts_the_cell),
        IN_A_COMPUTER(a_restart_ends_a_cell_that_another_call_waits_for),
        IN_A_COMPUTER(a_long_cell_goes_on_and_its_result_is_kept),
    };

    return cmocka_run_group_tests(tests, make_place, drop_place);
}
