/*
 * Programs in the guest: how they start, what comes from them and in what order, how they end.
 * Every test drives the real program over a stream, the static one and one built with the test's
 * own flags.
 */
#include "tests/unit/test_inside_host.h"

#include <dirent.h>

static const char *program;

static int start(void **state)
{
    struct host *h = calloc(1, sizeof *h);

    assert_non_null(h);
    host_start(h, program);
    *state = h;
    return 0;
}

static int stop(void **state)
{
    (void)host_stop(*state);
    free(*state);
    return 0;
}

static void reports_exit_codes_and_signals(void **state)
{
    static const struct {
        const char *command;
        bool signalled;
        uint32_t value;
    } rows[] = {
        { "exit 0", false, 0 },
        { "exit 7", false, 7 },
        { "exit 255", false, 255 },
        { "kill -KILL $$", true, SIGKILL },
        { "kill -TERM $$", true, SIGTERM },
        { "kill -SEGV $$", true, SIGSEGV },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct host_channel *ch = host_run(*state, 0, rows[i].command);

        if (!ch->exited || ch->end.signalled != rows[i].signalled || ch->end.value != rows[i].value)
            fail_msg("%s: %d %u", rows[i].command, ch->end.signalled, ch->end.value);
        assert_true(host_pid(ch) > 0);
        assert_true(ch->end.maxrss_bytes > 0);
    }
}

static void carries_both_output_streams(void **state)
{
    struct host_channel *ch = host_run(*state, 0, "echo out; echo err >&2");

    assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "out\n");
    assert_string_equal(host_text(&ch->out[WIRE_STREAM_ERR]), "err\n");
    assert_int_equal(ch->eof, 1u << WIRE_STREAM_OUT | 1u << WIRE_STREAM_ERR);
}

static void merges_in_true_order(void **state)
{
    struct host_channel *ch =
        host_run(*state, WIRE_SPAWN_MERGE, "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done");

    assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]),
                        "o1\ne1\no2\ne2\no3\ne3\no4\ne4\no5\ne5\n");
    assert_int_equal(ch->out[WIRE_STREAM_ERR].len, 0);
}

static void reads_dev_null_without_stdin(void **state)
{
    struct host_channel *ch = host_run(*state, 0, "cat; echo end");

    assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "end\n");
}

static void feeds_stdin_beyond_the_window_with_credit(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(h, WIRE_SPAWN_STDIN, "wc -c");
    static uint8_t block[32768];
    size_t sent = 0, total = 4 * WIRE_WINDOW;

    while (sent < total) {
        HOST_UNTIL(h, sent + sizeof block <= WIRE_WINDOW + ch->credit[WIRE_STREAM_MAIN]);
        assert_true(host_send(h, ch->number, WIRE_DATA, 0, block, sizeof block));
        sent += sizeof block;
    }
    host_send(h, ch->number, WIRE_EOF, 0, NULL, 0);
    HOST_UNTIL(h, ch->closed);
    assert_int_equal(strtol(host_text(&ch->out[WIRE_STREAM_OUT]), NULL, 10), (long)total);
}

static void drops_stdin_that_nobody_reads(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(
        h, WIRE_SPAWN_STDIN, "exec 0<&-; echo shut; read x < /proc/self/stat; kill -STOP $$");
    static uint8_t block[WIRE_PAYLOAD_MAX];

    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len == 5);
    for (int i = 0; i < 4; i++)
        assert_true(host_send(h, ch->number, WIRE_DATA, 0, block, sizeof block));
    HOST_UNTIL(h, ch->credit[WIRE_STREAM_MAIN] == WIRE_WINDOW);
    host_signal(h, ch, SIGKILL, false);
    HOST_UNTIL(h, ch->closed);
    assert_true(ch->end.signalled);
}

static void says_what_failed_and_at_which_stage(void **state)
{
    static const struct {
        const char *cwd, *name;
        int status;
        uint8_t stage;
    } rows[] = {
        { "/", "no-such-program-anywhere", ENOENT, 2 },
        { "/", "/no/such/program", ENOENT, 2 },
        { "/", "/etc/passwd", EACCES, 2 },
        { "/", "/", EACCES, 2 },
        { "/", "", ENOENT, 2 },
        { "/no/such/folder", "true", ENOENT, 1 },
        { "/etc/passwd", "true", ENOTDIR, 1 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct host *h = *state;
        const char *argv[] = { rows[i].name, NULL };
        struct host_channel *ch = host_spawn(h, WIRE_SPAWN_STDIN, rows[i].cwd, argv);

        HOST_UNTIL(h, ch->closed);
        if (ch->status != (uint32_t)rows[i].status || ch->result_len != 1 ||
            ch->result[0] != rows[i].stage)
            fail_msg("%s in %s: %u, stage %u", rows[i].name, rows[i].cwd, ch->status,
                     ch->result[0]);
        assert_string_equal(ch->log, "RC");
    }
}

static void starts_in_the_folder_with_the_environment_given(void **state)
{
    static const char *const argv[] = { "/bin/sh", "-c", "pwd; env | sort", NULL };
    static const char *const env[] = { "B=2", "A=1 x", NULL };
    uint8_t buf[1024];
    size_t len = host_put_spawn(buf, sizeof buf, 0, "/usr", argv, env);
    struct host *h = *state;
    struct host_channel *ch = host_ask(h, WIRE_SPAWN, buf, len);

    HOST_UNTIL(h, ch->closed);
    assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "/usr\nA=1 x\nB=2\nPWD=/usr\n");
}

static void leaves_no_descriptor_signal_or_group_of_its_own(void **state)
{
    struct host_channel *ch =
        host_run(*state, 0,
                 "ls /proc/self/fd | tr '\\n' ' '; grep -E '^Sig(Blk|Ign|Cgt)' /proc/$$/status | "
                 "tr -s '\\t' ' ';"
                 " set -- $(cat /proc/$$/stat); [ $5 = $$ ] && [ $6 = $$ ] && echo own; ulimit -c");

    assert_contains(host_text(&ch->out[WIRE_STREAM_OUT]), "0 1 2 3 SigBlk: 0000000000000000");
    assert_contains(host_text(&ch->out[WIRE_STREAM_OUT]), "SigIgn: 0000000000000000");
    assert_contains(host_text(&ch->out[WIRE_STREAM_OUT]), "own\n0\n");
}

static void sends_everything_before_the_exit(void **state)
{
    struct host *h = *state;
    struct host_channel *ch;

    h->no_credit = true;
    ch = host_shell(h, 0, "head -c 300000 /dev/zero; echo last >&2");
    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len == WIRE_WINDOW);
    host_sync(h);
    assert_false(ch->exited);
    host_grant(h, ch, WIRE_STREAM_OUT, WIRE_WINDOW);
    HOST_UNTIL(h, ch->closed);
    assert_int_equal(ch->out[WIRE_STREAM_OUT].len, 300000);
    assert_string_equal(host_text(&ch->out[WIRE_STREAM_ERR]), "last\n");
    /* Nothing but ends of streams may come after. */
    assert_null(strpbrk(strchr(ch->log, 'X'), "123"));
}

static void does_not_hold_back_the_exit_for_who_is_left_behind(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(
        h, 0, "(trap '' HUP; echo $$ >&2; read x < /proc/self/stat; exec sleep 300) & echo first");

    HOST_UNTIL(h, ch->exited);
    host_sync(h);
    assert_false(ch->closed);
    assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "first\n");
    host_signal(h, ch, SIGKILL, true);
    HOST_UNTIL(h, ch->closed);
}

static void a_flood_stops_at_the_credit_and_others_go_on(void **state)
{
    struct host *h = *state;
    struct host_channel *flood, *other;

    h->no_credit = true;
    flood = host_shell(h, 0, "yes");
    HOST_UNTIL(h, flood->out[WIRE_STREAM_OUT].len == WIRE_WINDOW);
    for (int i = 0; i < 20; i++)
        host_sync(h);
    other = host_run(h, 0, "echo hello");
    assert_string_equal(host_text(&other->out[WIRE_STREAM_OUT]), "hello\n");
    assert_int_equal(flood->out[WIRE_STREAM_OUT].len, WIRE_WINDOW);
    host_signal(h, flood, SIGKILL, false);
    host_sync(h);
    host_grant(h, flood, WIRE_STREAM_OUT, WIRE_WINDOW);
    HOST_UNTIL(h, flood->closed);
    assert_true(flood->end.signalled);
}

static void floods_do_not_starve_each_other(void **state)
{
    struct host *h = *state;
    struct host_channel *floods[8], *other;

    for (size_t i = 0; i < ARRAY_LEN(floods); i++)
        floods[i] = host_shell(h, 0, "yes");
    for (size_t i = 0; i < ARRAY_LEN(floods); i++)
        HOST_UNTIL(h, floods[i]->out[WIRE_STREAM_OUT].len > 2 * WIRE_WINDOW);
    other = host_run(h, 0, "echo hello");
    assert_string_equal(host_text(&other->out[WIRE_STREAM_OUT]), "hello\n");
    for (size_t i = 0; i < ARRAY_LEN(floods); i++)
        host_signal(h, floods[i], SIGKILL, false);
    for (size_t i = 0; i < ARRAY_LEN(floods); i++)
        HOST_UNTIL(h, floods[i]->closed);
}

static void a_host_that_does_not_read_holds_up_nothing_for_good(void **state)
{
    struct host *h = *state;
    struct host_channel *runs[12];

    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        const char *argv[] = { "head", "-c", "200000", "/dev/zero", NULL };

        runs[i] = host_spawn(h, 0, "/", argv);
    }
    /* 2.4 MB want to come out, and nobody reads until all has been written. */
    for (size_t i = 0; i < ARRAY_LEN(runs); i++)
        HOST_UNTIL(h, runs[i]->closed);
    for (size_t i = 0; i < ARRAY_LEN(runs); i++)
        assert_int_equal(runs[i]->out[WIRE_STREAM_OUT].len, 200000);
}

static void prints_come_before_a_control_message(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(
        h, WIRE_SPAWN_CONTROL,
        "read line <&3; i=0; while [ $i -lt 200 ]; do echo out$i; echo err$i >&2; echo $line$i >&4;"
        " i=$((i+1)); done");

    host_send(h, ch->number, WIRE_DATA, WIRE_STREAM_CONTROL, "c\n", 2);
    for (int i = 0; i < 200; i++) {
        char want[32];

        (void)snprintf(want, sizeof want, "c%d\n", i);
        while (!strstr(host_text(&ch->out[WIRE_STREAM_CONTROL]), want)) {
            assert_false(h->over);
            (void)host_pump(h, HOST_DEADLINE_MS);
        }
        /* Frames that come together are looked at together, so this checks no less than the order.
         */
        (void)snprintf(want, sizeof want, "out%d\n", i);
        assert_contains(host_text(&ch->out[WIRE_STREAM_OUT]), want);
        (void)snprintf(want, sizeof want, "err%d\n", i);
        assert_contains(host_text(&ch->out[WIRE_STREAM_ERR]), want);
    }
    HOST_UNTIL(h, ch->closed);
}

static void a_control_message_waits_for_the_credit_of_prints(void **state)
{
    struct host *h = *state;
    struct host_channel *ch;

    h->no_credit = true;
    ch = host_shell(h, WIRE_SPAWN_CONTROL, "head -c 300000 /dev/zero; echo done >&4; read x <&3");
    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len == WIRE_WINDOW);
    host_sync(h);
    assert_int_equal(ch->out[WIRE_STREAM_CONTROL].len, 0);
    host_grant(h, ch, WIRE_STREAM_OUT, WIRE_WINDOW);
    HOST_UNTIL(h, ch->out[WIRE_STREAM_CONTROL].len == 5);
    assert_int_equal(ch->out[WIRE_STREAM_OUT].len, 300000);
    assert_string_equal(ch->log, "R13");
    host_send(h, ch->number, WIRE_EOF, WIRE_STREAM_CONTROL, NULL, 0);
    HOST_UNTIL(h, ch->closed);
}

static void a_request_may_span_frames(void **state)
{
    struct host *h = *state;
    enum { ARGS = 3000 };
    static char word[64];
    static const char *argv[ARGS + 5];
    static uint8_t buf[512u << 10];
    static const char *const env[] = { "PATH=/bin", NULL };
    struct host_channel *ch = host_add(h, h->next);
    size_t len, at = 0;

    h->next += 2;
    memset(word, 'w', sizeof word - 1);
    argv[0] = "sh";
    argv[1] = "-c";
    argv[2] = "echo $#";
    argv[3] = "sh";
    for (size_t i = 0; i < ARGS; i++)
        argv[4 + i] = word;
    len = host_put_spawn(buf, sizeof buf, 0, "/", argv, env);
    assert_true(len > 3 * WIRE_PAYLOAD_MAX);
    while (at < len) {
        size_t n = MIN(len - at, WIRE_PAYLOAD_MAX - 7);

        host_send(h, ch->number, WIRE_SPAWN, at + n < len, buf + at, n);
        at += n;
    }
    HOST_UNTIL(h, ch->closed);
    assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "3000\n");
}

static void refuses_a_request_that_is_too_long(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_add(h, h->next);
    static uint8_t block[WIRE_PAYLOAD_MAX];

    h->next += 2;
    for (size_t i = 0; i < WIRE_SPAWN_MAX / sizeof block + 2; i++)
        host_send(h, ch->number, WIRE_SPAWN, 1, block, sizeof block);
    HOST_UNTIL(h, ch->closed);
    assert_int_equal(ch->status, E2BIG);
    host_sync(h);
}

static void refuses_malformed_requests(void **state)
{
    struct host *h = *state;
    static const char *const argv[] = { "true", "a", NULL };
    static const char *const env[] = { "A=1", NULL };
    uint8_t good[256];
    size_t len = host_put_spawn(good, sizeof good, 0, "/", argv, env);

    for (size_t cut = 0; cut < len; cut++) {
        struct host_channel *ch = host_ask(h, WIRE_SPAWN, good, cut);

        HOST_UNTIL(h, ch->closed);
        assert_int_equal(ch->status, EBADMSG);
    }
    good[len] = 0;
    for (size_t i = 8; i < len; i++) { /* every length and count in turn is far too much */
        uint8_t bad[256];
        struct host_channel *ch;

        memcpy(bad, good, len);
        bad[i] = 0xff;
        ch = host_ask(h, WIRE_SPAWN, bad, len);
        HOST_UNTIL(h, ch->replied && (ch->status != 0 || ch->exited));
        HOST_UNTIL(h, ch->closed);
    }
}

static void gives_a_terminal(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(h, WIRE_SPAWN_PTY,
                                         "test -t 0 && test -t 1 && test -t 2 && stty size && tty "
                                         ">/dev/tty; read a; echo got $a; stty size");
    uint8_t size[4];
    struct wire_out o = { .data = size, .cap = sizeof size };

    HOST_UNTIL(h, strstr(host_text(&ch->out[WIRE_STREAM_OUT]), "/dev/pts/"));
    assert_contains(host_text(&ch->out[WIRE_STREAM_OUT]), "24 80\r\n");
    wire_put_u16(&o, 50);
    wire_put_u16(&o, 132);
    host_send(h, ch->number, WIRE_RESIZE, 0, size, o.len);
    host_send(h, ch->number, WIRE_DATA, 0, "line\n", 5);
    HOST_UNTIL(h, ch->closed);
    assert_contains(host_text(&ch->out[WIRE_STREAM_OUT]), "got line\r\n50 132\r\n");
    assert_int_equal(ch->end.value, 0);
    assert_true(ch->eof & 1u << WIRE_STREAM_OUT);
}

static void ends_a_terminals_input_with_its_character(void **state)
{
    struct host *h = *state;
    struct host_channel *ch =
        host_shell(h, WIRE_SPAWN_PTY, "stty -echo; echo ready; cat; echo done");

    HOST_UNTIL(h, strstr(host_text(&ch->out[WIRE_STREAM_OUT]), "ready\r\n"));
    host_send(h, ch->number, WIRE_DATA, 0, "half a line", 11);
    host_send(h, ch->number, WIRE_EOF, 0, NULL, 0);
    HOST_UNTIL(h, ch->closed);
    assert_contains(host_text(&ch->out[WIRE_STREAM_OUT]), "half a linedone\r\n");
}

static void interrupts_through_the_terminal(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(
        h, WIRE_SPAWN_PTY, "trap 'echo caught; exit 3' INT; echo ready; while :; do :; done");

    HOST_UNTIL(h, strstr(host_text(&ch->out[WIRE_STREAM_OUT]), "ready\r\n"));
    host_send(h, ch->number, WIRE_DATA, 0, "\003", 1);
    HOST_UNTIL(h, ch->closed);
    assert_contains(host_text(&ch->out[WIRE_STREAM_OUT]), "caught");
    assert_int_equal(ch->end.value, 3);
}

static void signals_the_group(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(
        h, 0, "trap 'echo term; exit 9' TERM; sh -c 'echo ready; exec sleep 100' & wait");

    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len == 6);
    host_signal(h, ch, SIGTERM, false);
    HOST_UNTIL(h, ch->closed); /* which takes the end of sleep too, that holds the pipes */
    assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "ready\nterm\n");
    assert_int_equal(ch->end.value, 9);
}

static void signals_the_tree_beyond_the_group(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(
        h, 0,
        "setsid sh -c 'echo $$; sleep 200 & sleep 300' & setsid sh -c 'echo $$; sleep 300' & wait");
    char *rest;
    pid_t first, second;

    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len > 0 &&
                      strchr(strchr(host_text(&ch->out[WIRE_STREAM_OUT]), '\n') + 1, '\n'));
    first = (pid_t)strtol(host_text(&ch->out[WIRE_STREAM_OUT]), &rest, 10);
    second = (pid_t)strtol(rest, NULL, 10);
    host_signal(h, ch, SIGKILL, true);
    HOST_UNTIL(h, ch->closed);
    host_until_dead(h, first);
    host_until_dead(h, second);
}

static void a_fork_bomb_does_not_outrun_the_kill(void **state)
{
    struct host *h = *state;
    /* Each one has two children that have none, again and again: some dozens at a time. */
    struct host_channel *ch = host_shell(
        h, 0, "echo go; f() { while :; do (:) & (:) & wait; done; }; f & f & f & f & f & f & wait");

    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len == 3);
    host_signal(h, ch, SIGKILL, true);
    HOST_UNTIL(h, ch->closed);
    assert_true(ch->end.signalled);
}

static void leaves_others_alone(void **state)
{
    struct host *h = *state;
    struct host_channel *keep = host_shell(h, WIRE_SPAWN_STDIN, "cat");
    struct host_channel *ch = host_shell(h, 0, "sleep 100");

    host_signal(h, ch, SIGKILL, true);
    HOST_UNTIL(h, ch->closed);
    host_send(h, keep->number, WIRE_DATA, 0, "still here", 10);
    host_send(h, keep->number, WIRE_EOF, 0, NULL, 0);
    HOST_UNTIL(h, keep->closed);
    assert_string_equal(host_text(&keep->out[WIRE_STREAM_OUT]), "still here");
}

static void reaps_orphans(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_run(h, 0, "for i in 1 2 3 4 5; do (sh -c 'echo $$' &) ; done");
    const char *at = host_text(&ch->out[WIRE_STREAM_OUT]);

    for (int i = 0; i < 5; i++) {
        char *rest;
        pid_t pid = (pid_t)strtol(at, &rest, 10);

        assert_true(pid > 0);
        host_until_dead(h, pid);
        at = rest;
    }
}

static void closing_a_live_run_kills_it(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(h, 0, "setsid sleep 100 & sleep 200");
    pid_t pid = host_pid(ch);

    host_close(h, ch);
    HOST_UNTIL(h, ch->closed);
    host_until_dead(h, pid);
}

static void its_end_is_the_end_of_all(void **state)
{
    struct host own = { 0 };
    struct host_channel *ch;
    char *rest;
    pid_t first, second;

    (void)state;
    host_start(&own, program);
    ch = host_shell(&own, 0, "echo $$; (setsid sh -c 'echo $$; exec sleep 100' &); sleep 100");
    HOST_UNTIL(&own, ch->out[WIRE_STREAM_OUT].len > 0 &&
                         strchr(strchr(host_text(&ch->out[WIRE_STREAM_OUT]), '\n') + 1, '\n'));
    first = (pid_t)strtol(host_text(&ch->out[WIRE_STREAM_OUT]), &rest, 10);
    second = (pid_t)strtol(rest, NULL, 10);
    assert_int_equal(host_stop(&own), 0);
    assert_int_equal(kill(first, 0), -1);
    assert_int_equal(kill(second, 0), -1);
}

static void starts_many_at_once(void **state)
{
    struct host *h = *state;
    struct host_channel *runs[40];

    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        const char *argv[] = { "sh", "-c", "echo $0; exit $0", "11", NULL };

        runs[i] = host_spawn(h, 0, "/", argv);
    }
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        HOST_UNTIL(h, runs[i]->closed);
        assert_int_equal(runs[i]->end.value, 11);
        assert_string_equal(host_text(&runs[i]->out[WIRE_STREAM_OUT]), "11\n");
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(reports_exit_codes_and_signals),
        T(carries_both_output_streams),
        T(merges_in_true_order),
        T(reads_dev_null_without_stdin),
        T(feeds_stdin_beyond_the_window_with_credit),
        T(drops_stdin_that_nobody_reads),
        T(says_what_failed_and_at_which_stage),
        T(starts_in_the_folder_with_the_environment_given),
        T(leaves_no_descriptor_signal_or_group_of_its_own),
        T(sends_everything_before_the_exit),
        T(does_not_hold_back_the_exit_for_who_is_left_behind),
        T(a_flood_stops_at_the_credit_and_others_go_on),
        T(floods_do_not_starve_each_other),
        T(a_host_that_does_not_read_holds_up_nothing_for_good),
        T(prints_come_before_a_control_message),
        T(a_control_message_waits_for_the_credit_of_prints),
        T(a_request_may_span_frames),
        T(refuses_a_request_that_is_too_long),
        T(refuses_malformed_requests),
        T(gives_a_terminal),
        T(ends_a_terminals_input_with_its_character),
        T(interrupts_through_the_terminal),
        T(signals_the_group),
        T(signals_the_tree_beyond_the_group),
        T(a_fork_bomb_does_not_outrun_the_kill),
        T(leaves_others_alone),
        T(reaps_orphans),
        T(closing_a_live_run_kills_it),
        T(its_end_is_the_end_of_all),
        T(starts_many_at_once),
    };
    int failed;

    program = GUEST_PROGRAM;
    failed = cmocka_run_group_tests_name("inside_run, static", tests, NULL, NULL);
#ifdef GUEST_NATIVE
    program = GUEST_NATIVE;
    failed += cmocka_run_group_tests_name("inside_run, native", tests, NULL, NULL);
#endif
    return failed;
}
