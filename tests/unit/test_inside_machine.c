/*
 * The guest and the computer as a whole: as an ordinary process, and as process 1 of namespaces of
 * its own, where this machine lets a test make some.
 */
#include "tests/unit/test_inside_host.h"

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>

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
    if (!*state)
        return 0;
    (void)host_stop(*state);
    free(*state);
    return 0;
}

/* ---- process 1 ---- */

static bool put_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return ok;
}

static void bring_loopback_up(void)
{
    struct ifreq request = { .ifr_name = "lo" };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return;
    if (ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags |= IFF_UP;
        (void)ioctl(fd, SIOCSIFFLAGS, &request);
    }
    close(fd);
}

/* Namespaces of its own, and the guest as their first process.  77: not on this machine. */
static int run_as_first(int stream, uid_t outside)
{
    char map[64];

    (void)snprintf(map, sizeof map, "1000 %u 1", (unsigned)outside);
    if (!put_file("/proc/self/setgroups", "deny") || !put_file("/proc/self/uid_map", map) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("proc", "/proc", "proc", 0, NULL) != 0)
        return 77;
    bring_loopback_up();
    (void)dup2(stream, 3);
    (void)fcntl(3, F_SETFD, 0);
    execl(program, program, "--sandbox", (char *)NULL);
    return 127;
}

static int start_first(void **state)
{
    const unsigned long flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | SIGCHLD;
    struct host *h = calloc(1, sizeof *h);
    uid_t uid = getuid();
    int fds[2];
    pid_t pid;

    assert_non_null(h);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pid = (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (pid == 0) {
        close(fds[0]);
        _exit(run_as_first(fds[1], uid));
    }
    close(fds[1]);
    host_init(h, fds[0], pid);
    while (!h->hello && !h->over)
        (void)host_pump(h, 100);
    *state = h;
    return 0;
}

/* Skips where there is no process 1 to be had. */
static bool have_first(struct host *h)
{
    if (h->over)
        skip_because("no namespaces can be made on this machine");
    return !h->over;
}

static uint32_t bare(struct host *h, uint8_t type)
{
    const struct wire_out o = { .data = NULL };

    return host_call(h, type, &o);
}

/* ---- tests ---- */

static void freezes_and_thaws_what_it_started(void **state)
{
    struct host *h = *state;
    struct host_channel *ch, *froze;
    struct wire_in in;
    size_t before;

    if (!have_first(h))
        return;
    ch = host_shell(h, 0, "yes & yes & wait");
    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len > WIRE_WINDOW);
    froze = host_ask(h, WIRE_FREEZE, NULL, 0);
    HOST_UNTIL(h, froze->replied);
    in = (struct wire_in){ .data = froze->result, .len = froze->result_len };
    assert_int_equal(froze->status, 0);
    assert_int_equal(wire_get_u32(&in), 3);
    froze->closed = true;
    /* What was on the way still comes. */
    do {
        before = ch->out[WIRE_STREAM_OUT].len;
        for (int i = 0; i < 20; i++)
            host_sync(h);
    } while (ch->out[WIRE_STREAM_OUT].len != before);
    assert_int_equal(bare(h, WIRE_THAW), 0);
    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len > before + WIRE_WINDOW);
    host_signal(h, ch, SIGKILL, true);
    HOST_UNTIL(h, ch->closed);
}

static void thawing_leaves_alone_who_had_stopped_before(void **state)
{
    struct host *h = *state;
    struct host_channel *stopped, *other;

    if (!have_first(h))
        return;
    stopped = host_shell(h, 0, "echo ready; kill -STOP $$; echo went on");
    HOST_UNTIL(h, stopped->out[WIRE_STREAM_OUT].len == 6);
    /* It is stopped once its state says so. */
    for (;;) {
        char command[128];
        struct host_channel *ch;

        (void)snprintf(command, sizeof command, "cut -d' ' -f3 /proc/%d/stat",
                       (int)host_pid(stopped));
        ch = host_run(h, 0, command);
        if (host_text(&ch->out[WIRE_STREAM_OUT])[0] == 'T')
            break;
    }
    assert_int_equal(bare(h, WIRE_FREEZE), 0);
    assert_int_equal(bare(h, WIRE_THAW), 0);
    other = host_run(h, 0, "echo lively");
    assert_string_equal(host_text(&other->out[WIRE_STREAM_OUT]), "lively\n");
    assert_string_equal(host_text(&stopped->out[WIRE_STREAM_OUT]), "ready\n");
    host_signal(h, stopped, SIGCONT, false);
    HOST_UNTIL(h, stopped->closed);
    assert_string_equal(host_text(&stopped->out[WIRE_STREAM_OUT]), "ready\nwent on\n");
}

static void syncs_without_stopping(void **state)
{
    struct host *h = *state;

    if (!have_first(h))
        return;
    assert_int_equal(bare(h, WIRE_SYNC), 0);
}

#define NATTER "while :; do echo x; sleep 0.01; done"

/* What is written meanwhile waits, and comes with the answer to the next request. */
static void asked_to_hold_it_is_silent_until_the_next_frame(void **state)
{
    struct host *h = *state;
    struct host_channel *ch;
    size_t before;

    if (!have_first(h))
        return;
    h->no_credit = true; /* which would be a next frame */
    ch = host_shell(h, 0, NATTER);
    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len > 10);
    assert_int_equal(bare(h, WIRE_HOLD), 0);
    before = ch->out[WIRE_STREAM_OUT].len;
    for (int i = 0; i < 10; i++)
        (void)host_pump(h, 20);
    assert_int_equal(ch->out[WIRE_STREAM_OUT].len, before);
    host_sync(h);
    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len > before + 10);
    host_signal(h, ch, SIGKILL, true);
    HOST_UNTIL(h, ch->closed);
}

/* The numbers of its channels are those that the first has used, and mean other things. */
static void a_second_host_takes_over_after_a_hold(void **state)
{
    struct host *h = *state;
    struct host_channel *ch, *answer;
    struct host *second;

    if (!have_first(h))
        return;
    h->no_credit = true;
    ch = host_shell(h, 0, NATTER);
    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len > 10);
    assert_int_equal(bare(h, WIRE_FREEZE), 0);
    assert_int_equal(bare(h, WIRE_HOLD), 0);
    second = calloc(1, sizeof *second);
    assert_non_null(second);
    host_init(second, h->fd, h->pid);
    second->hello = true;
    answer = host_ask(second, WIRE_RESET, NULL, 0);
    HOST_UNTIL(second, answer->replied);
    assert_int_equal(answer->status, 0);
    answer->closed = true;
    ch = host_run(second, 0, "echo hello; set -- /proc/[0-9]*; echo $#");
    /* The guest and the shell. */
    assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "hello\n2\n");
    for (size_t i = 0; i < HOST_CHANNELS; i++) {
        for (size_t s = 0; s < WIRE_STREAM_COUNT; s++)
            free(second->channels[i].out[s].data);
        free(second->channels[i].events.data);
    }
    free(second->reader.data);
    free(second);
}

static void shuts_down(void **state)
{
    struct host *h = *state;
    struct host_channel *ch;
    pid_t pid;

    if (!have_first(h))
        return;
    ch = host_shell(h, 0, "echo $$; trap '' TERM HUP; (setsid sleep 300 &); exec sleep 200");
    HOST_UNTIL(h, ch->out[WIRE_STREAM_OUT].len > 0);
    pid = (pid_t)strtol(host_text(&ch->out[WIRE_STREAM_OUT]), NULL, 10);
    assert_int_equal(bare(h, WIRE_SHUTDOWN), 0);
    host_until_over(h);
    (void)pid;
}

static void ends_with_its_last_run(void **state)
{
    const char *const absent[] = { "no-such-program-anywhere", NULL };
    struct host *h = *state;
    struct host_channel *ch = host_spawn(h, WIRE_SPAWN_LAST, "/", absent);

    HOST_UNTIL(h, ch->closed);
    host_sync(h); /* that one never was */
    ch = host_shell(h, WIRE_SPAWN_LAST, "(sleep 300 > /dev/null 2>&1 &); echo out; exit 3");
    HOST_UNTIL(h, ch->closed);
    host_until_over(h);
    assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "out\n");
    assert_int_equal(ch->end.value, 3);
}

static void the_first_process_cannot_be_killed_from_inside(void **state)
{
    struct host *h = *state;
    struct host_channel *ch;

    if (!have_first(h))
        return;
    ch = host_run(h, 0, "kill -KILL 1; kill -STOP 1; kill -TERM 1; kill -SEGV 1; echo tried");
    assert_contains(host_text(&ch->out[WIRE_STREAM_OUT]), "tried\n");
    host_sync(h);
    ch = host_run(h, 0, "kill -KILL -1; echo and still");
    HOST_UNTIL(h, ch->closed);
    host_sync(h);
    ch = host_run(h, 0,
                  "cat /proc/1/environ /proc/1/maps > /dev/null && echo readable;"
                  " grep -c . /proc/1/status > /dev/null && echo visible");
    assert_null(strstr(host_text(&ch->out[WIRE_STREAM_OUT]), "readable"));
}

/* A program that stops everything, and with it those that are about to start, stops the guest not.
 */
static void goes_on_while_somebody_stops_everybody(void **state)
{
    struct host *h = *state;
    struct host_channel *bully, *victims[30];
    const char *argv[] = { "true", NULL };

    if (!have_first(h))
        return;
    bully = host_shell(h, 0, "echo ready; while :; do kill -STOP -1; done");
    HOST_UNTIL(h, bully->out[WIRE_STREAM_OUT].len == 6);
    for (size_t i = 0; i < ARRAY_LEN(victims); i++) {
        victims[i] = host_spawn(h, 0, "/", argv);
        host_sync(h);
    }
    for (size_t i = 0; i < ARRAY_LEN(victims); i++)
        host_close(h, victims[i]);
    for (size_t i = 0; i < ARRAY_LEN(victims); i++)
        HOST_UNTIL(h, victims[i]->closed);
    host_signal(h, bully, SIGKILL, true);
    HOST_UNTIL(h, bully->closed);
    victims[0] = host_run(h, 0, "echo free");
    assert_string_equal(host_text(&victims[0]->out[WIRE_STREAM_OUT]), "free\n");
}

static void collects_every_orphan(void **state)
{
    struct host *h = *state;
    struct host_channel *ch;

    if (!have_first(h))
        return;
    ch = host_run(h, 0, "for i in 1 2 3 4 5 6 7 8 9 10; do (sh -c : &); done");
    do /* the last ones may be on their way out */
        ch = host_run(
            h, 0, "for s in /proc/[0-9]*/stat; do cut -d' ' -f3 $s 2>/dev/null; done | grep -c Z");
    while (strcmp(host_text(&ch->out[WIRE_STREAM_OUT]), "0\n") != 0);
}

static void carries_the_proxy_port(void **state)
{
    struct host *h = *state;
    struct host_channel *ch;

    if (!have_first(h))
        return;
    if (access("/bin/bash", X_OK) != 0)
        skip_because("there is no bash, which can connect");
    {
        const char *argv[] = { "bash", "-c",
                               "exec 5<>/dev/tcp/127.0.0.1/3128; echo hello >&5; cat <&5", NULL };
        struct host_channel *proxied;

        ch = host_spawn(h, 0, "/", argv);
        HOST_UNTIL(h, host_find(h, 2));
        proxied = host_find(h, 2);
        HOST_UNTIL(h, proxied->out[0].len == 6);
        host_send(h, 2, WIRE_DATA, 0, "world\n", 6);
        host_send(h, 2, WIRE_EOF, 0, NULL, 0);
        HOST_UNTIL(h, ch->closed && proxied->closed);
        assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "world\n");
    }
}

static void what_a_sandbox_may_not_do_is_refused(void **state)
{
    struct host *h = *state;
    uint8_t bytes[128];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    if (!have_first(h))
        return;
    wire_put_u64(&o, 1000000000);
    assert_int_equal(host_call(h, WIRE_SET_TIME, &o), EPERM);
    assert_int_equal(host_call(h, WIRE_LIMIT_DISK, &o), EPERM);
    assert_int_equal(host_call(h, WIRE_RESEED, &o), EPERM);
    o.len = 0;
    wire_put_str(&o, "name");
    wire_put_str(&o, "0123456789abcdef0123456789abcdef");
    assert_int_equal(host_call(h, WIRE_SET_NAME, &o), EPERM);
    assert_int_equal(bare(h, WIRE_SET_TIME), EBADMSG);
    assert_int_equal(bare(h, WIRE_LIMIT_DISK), EBADMSG);
    assert_int_equal(bare(h, WIRE_RESEED), EBADMSG);
    assert_int_equal(bare(h, WIRE_SET_NAME), EBADMSG);
    assert_int_equal(host_call(h, WIRE_FREEZE, &o), EBADMSG);
    assert_int_equal(host_call(h, WIRE_THAW, &o), EBADMSG);
    assert_int_equal(host_call(h, WIRE_SYNC, &o), EBADMSG);
    assert_int_equal(host_call(h, WIRE_SHUTDOWN, &o), EBADMSG);
}

static void refuses_options_it_does_not_know(void **state)
{
    static const char *const rows[][4] = {
        { "--nonsense", NULL },      { "--port", NULL }, { "--port", "x", NULL },
        { "--port", "65536", NULL }, { "extra", NULL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *argv[5] = { program };
        struct host h;
        int status;

        for (size_t a = 0; a < 4 && rows[i][a]; a++)
            argv[a + 1] = rows[i][a];
        host_exec(&h, argv);
        host_until_over(&h);
        status = host_stop(&h);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 2);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
#define F(name) cmocka_unit_test_setup_teardown(name, start_first, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(freezes_and_thaws_what_it_started),
        T(thawing_leaves_alone_who_had_stopped_before),
        T(syncs_without_stopping),
        T(asked_to_hold_it_is_silent_until_the_next_frame),
        T(shuts_down),
        T(ends_with_its_last_run),
        cmocka_unit_test(refuses_options_it_does_not_know),
    };
    const struct CMUnitTest first[] = {
        F(freezes_and_thaws_what_it_started),
        F(thawing_leaves_alone_who_had_stopped_before),
        F(syncs_without_stopping),
        F(asked_to_hold_it_is_silent_until_the_next_frame),
        F(a_second_host_takes_over_after_a_hold),
        F(shuts_down),
        F(the_first_process_cannot_be_killed_from_inside),
        F(goes_on_while_somebody_stops_everybody),
        F(collects_every_orphan),
        F(carries_the_proxy_port),
        F(what_a_sandbox_may_not_do_is_refused),
    };
    int failed;

    program = GUEST_PROGRAM;
    failed = cmocka_run_group_tests_name("inside_machine, static", tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("inside_machine, static, first", first, NULL, NULL);
#ifdef GUEST_NATIVE
    program = GUEST_NATIVE;
    failed += cmocka_run_group_tests_name("inside_machine, native", tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("inside_machine, native, first", first, NULL, NULL);
#endif
    return failed;
}
