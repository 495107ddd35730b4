/* The family terminal, in a real computer. */
#include "tests/unit/code_place.h"

static struct place place;
static struct answer got;

static int make_place(void **state)
{
    (void)state;
    place_new(&place, 60000);
    return 0;
}

static int drop_place(void **state)
{
    (void)state;
    place_free(&place);
    return 0;
}

static const char *run(json_t *args)
{
    return call(&place, &got, "terminal_run", args);
}

static const char *shell(const char *command)
{
    return run(json_pack("{s:s}", "command", command));
}

/* The handle that an answer names. */
static const char *handle(const char *said)
{
    static char id[64];
    const char *at = strstr(said, "run r_");

    if (!at || sscanf(at, "run %63[a-zA-Z0-9_]", id) != 1)
        fail_msg("no handle in %s", said);
    return id;
}

/* Look again until it says this. */
static const char *read_until(const char *id, const char *part)
{
    struct timespec start, now;
    const char *said;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        said = call(&place, &got, "terminal_read",
                    json_pack("{s:s,s:i,s:i}", "run", id, "offset", 0, "wait_ms", 100));
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec - start.tv_sec > 60)
            fail_msg("no \"%s\" in %s", part, said);
    } while (!strstr(said, part));
    return said;
}

static void runs_commands_and_programs(void **state)
{
    const char *said;
    (void)state;

    said = shell("echo out; echo err >&2; exit 3");
    assert_contains(said, "out\nerr\n");
    assert_contains(said, "[exit code 3, ");
    assert_false(got.is_error); /* a program that failed is an answer */
    said = run(json_pack("{s:[s,s,s]}", "argv", "printf", "%s|", "a b  c"));
    assert_contains(said, "a b  c|\n");
    said = run(json_pack("{s:s,s:s,s:{s:s}}", "command", "pwd; echo $GREETING", "cwd", "/tmp",
                         "env", "GREETING", "hello \xc3\xbc"));
    assert_contains(said, "/tmp\nhello \xc3\xbc\n");
    said = run(json_pack("{s:s,s:s}", "command", "tr a-z A-Z", "stdin", "typed"));
    assert_contains(said, "TYPED\n\n[exit code 0");
    said = shell("kill -SEGV $$");
    assert_contains(said, "[ended by signal 11, ");
    said = run(json_pack("{s:s,s:i}", "command", "sleep 60", "timeout_ms", 50));
    assert_contains(said, "[timeout: killed");
}

static void says_what_to_send_instead(void **state)
{
    static const struct {
        const char *args, *says;
    } rows[] = {
        { "{}", "neither" },
        { "{\"command\":\"ls\",\"argv\":[\"ls\"]}", "both" },
        { "{\"command\":\"ls\",\"cwd\":\"tmp\"}", "absolute" },
        { "{\"command\":\"ls\",\"stdin\":\"x\",\"pty\":true}", "terminal_write" },
        { "{\"command\":\"ls\",\"stdin\":\"x\",\"background\":true}", "terminal_write" },
        { "{\"command\":\"ls\",\"env\":{\"A=B\":\"x\"}}", "A=B" },
        { "{\"command\":\"ls\",\"cwd\":\"/absent\"}", "/absent" },
        { "{\"argv\":[\"no-such-program\"]}", "no-such-program" },
        { "{\"command\":\"ls\",\"computer\":\"c_absent\"}", "computer_create" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *said = run(json_loads(rows[i].args, 0, NULL));

        if (!got.is_error || !strstr(said, rows[i].says))
            fail_msg("%s: %s", rows[i].args, said);
    }
}

static void long_output_can_be_read_on(void **state)
{
    const char *said = shell("seq 1 100000");
    char id[64];
    unsigned long offset;
    (void)state;

    assert_contains(said, "1\n2\n3\n");
    assert_contains(said, "\n100000\n");
    said = strstr(said, "terminal_read {\"run\":\"");
    assert_non_null(said);
    assert_int_equal(
        sscanf(said, "terminal_read {\"run\":\"%63[^\"]\",\"offset\":%lu}", id, &offset), 2);
    said = call(&place, &got, "terminal_read",
                json_pack("{s:s,s:i}", "run", id, "offset", (int)offset));
    assert_contains(said, "go on with terminal_read");
    said = call(&place, &got, "terminal_read", json_pack("{s:s,s:i}", "run", id, "tail", 2));
    assert_int_equal(strncmp(said, "99999\n100000\n", 13), 0);
    said =
        call(&place, &got, "terminal_read", json_pack("{s:s,s:s}", "run", id, "grep", "^5555.$"));
    assert_int_equal(strncmp(said, "55550:55550\n55551:55551\n", 24), 0);
    said = call(&place, &got, "terminal_read",
                json_pack("{s:s,s:s,s:i}", "run", id, "grep", "7$", "tail", 1));
    assert_contains(said, "99997:99997\n");
    said = call(&place, &got, "terminal_read", json_pack("{s:s,s:s}", "run", id, "grep", "absent"));
    assert_contains(said, "(no line matches)");
    (void)call(&place, &got, "terminal_read", json_pack("{s:s,s:s}", "run", id, "grep", "("));
    assert_true(got.is_error);
}

/* Every line matches, and comes back longer than it went in. */
static void searching_does_not_wait_for_itself(void **state)
{
    struct timespec start, now;
    const char *said;
    char id[64];
    (void)state;

    said = shell("yes '' | head -n 900000");
    said = strstr(said, "{\"run\":\"");
    assert_non_null(said);
    assert_int_equal(sscanf(said, "{\"run\":\"%63[^\"]\"", id), 1);
    clock_gettime(CLOCK_MONOTONIC, &start);
    said = call(&place, &got, "terminal_read",
                json_pack("{s:s,s:s,s:i}", "run", id, "grep", "^", "tail", 1));
    clock_gettime(CLOCK_MONOTONIC, &now);
    assert_contains(said, "900000:\n");
    assert_true(now.tv_sec - start.tv_sec < 9);
}

static void goes_on_in_the_background(void **state)
{
    const char *said;
    char id[64];
    (void)state;

    said = run(json_pack("{s:s,s:b}", "command", "while read x; do echo got $x; done; echo end",
                         "background", 1));
    assert_contains(said, "[still running after");
    (void)snprintf(id, sizeof id, "%s", handle(said));
    said = call(&place, &got, "terminal_write", json_pack("{s:s,s:s}", "run", id, "text", "one\n"));
    assert_contains(said, "got one\n");
    /* What was shown is not shown again. */
    said = call(&place, &got, "terminal_write",
                json_pack("{s:s,s:s,s:b}", "run", id, "text", "two\n", "close", 1));
    assert_null(strstr(said, "got one"));
    said = read_until(id, "[exit code 0");
    assert_contains(said, "got one\ngot two\nend\n");
    (void)call(&place, &got, "terminal_write", json_pack("{s:s,s:s}", "run", id, "text", "x"));
    assert_true(got.is_error);
    assert_contains(got.text, "has ended (exit)");
}

static void a_wait_ends_and_the_program_does_not(void **state)
{
    const char *said =
        run(json_pack("{s:s,s:i}", "command", "echo here; sleep 60", "wait_ms", 300));
    char id[64];
    (void)state;

    assert_contains(said, "here\n\n[still running after");
    (void)snprintf(id, sizeof id, "%s", handle(said));
    said = call(&place, &got, "terminal_kill", json_pack("{s:s}", "run", id));
    assert_contains(said, "[killed by signal 15 on request");
    said =
        call(&place, &got, "terminal_kill", json_pack("{s:s,s:s}", "run", id, "signal", "SIGKILL"));
    assert_false(got.is_error); /* once more is no mistake */
    (void)call(&place, &got, "terminal_kill", json_pack("{s:s,s:s}", "run", id, "signal", "NONE"));
    assert_true(got.is_error);
    (void)call(&place, &got, "terminal_kill", json_pack("{s:s,s:s}", "run", id, "signal", "99"));
    assert_true(got.is_error);
    (void)call(&place, &got, "terminal_kill", json_pack("{s:s}", "run", "r_absent"));
    assert_contains(got.text, "terminal_run");
}

static void shows_the_screen_of_a_terminal(void **state)
{
    const char *said;
    char id[64];
    (void)state;

    said = run(json_pack(
        "{s:s,s:b,s:i,s:i}", "command",
        "stty -echo; printf '\\033[2J\\033[3;5Hhello\\033[6n'; head -c 6 | od -An -c; cat", "pty",
        1, "rows", 10, "cols", 40));
    assert_contains(said, "[screen 40x10, cursor at");
    (void)snprintf(id, sizeof id, "%s", handle(said));
    said =
        call(&place, &got, "terminal_write", json_pack("{s:s,s:[s]}", "run", id, "keys", "Enter"));
    /* The program asked for the cursor's place and was told. */
    assert_contains(said, "033   [   3   ;   1   0");
    assert_contains(said, "    hello");
    said = call(&place, &got, "terminal_write", json_pack("{s:s,s:[s]}", "run", id, "keys", "C-c"));
    assert_contains(said, "[ended by signal 2");
    (void)call(&place, &got, "terminal_write", json_pack("{s:s,s:[s]}", "run", id, "keys", "Entr"));
    assert_true(got.is_error);
}

static void a_cancelled_call_leaves_nothing_behind(void **state)
{
    (void)state;

    for (int pty = 0; pty < 2; pty++) {
        struct answer cancelled;
        struct timespec start, now;
        bool begun = false, gone = false;

        (void)shell("rm -f begun");
        call_begin(&place, &cancelled, "terminal_run",
                   json_pack("{s:s,s:b}", "command",
                             "touch begun; while :; do echo x; sleep 0.1; done", "pty", pty));
        clock_gettime(CLOCK_MONOTONIC, &start);
        while (!begun)
            begun = strstr(shell("ls"), "begun") != NULL;
        assert_false(cancelled.done);
        syscall_cancel(cancelled.sc);
        call_end(&cancelled);
        assert_true(cancelled.is_error);
        while (!gone) {
            gone = strstr(shell("grep -lx sleep /proc/[0-9]*/comm | wc -l"), "0\n\n[exit") != NULL;
            clock_gettime(CLOCK_MONOTONIC, &now);
            assert_true(now.tv_sec - start.tv_sec < 60);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_commands_and_programs),
        cmocka_unit_test(says_what_to_send_instead),
        cmocka_unit_test(long_output_can_be_read_on),
        cmocka_unit_test(searching_does_not_wait_for_itself),
        cmocka_unit_test(goes_on_in_the_background),
        cmocka_unit_test(a_wait_ends_and_the_program_does_not),
        cmocka_unit_test(shows_the_screen_of_a_terminal),
        cmocka_unit_test(a_cancelled_call_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, make_place, drop_place);
}
