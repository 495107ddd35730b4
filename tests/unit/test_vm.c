#include "tests/support/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "tests/support/folder.h"
#include "vmctl/vm.h"

#define PATIENCE_MS 20000
#define SHORT_MS    2000 /* in which a process has started */

#define GREETING                                                                       \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, " \
    "\"package\": \"\"}, \"capabilities\": []}}\n{\"return\": {}, \"id\": 0}\n"

/* ---- a QEMU that does as it is told: a child that only writes, waits and ends ---- */

enum manner {
    GREETS,   /* and lives */
    SILENT,   /* lives without a word */
    GRUMBLES, /* says why on standard error and ends with status 1 */
    LEAVES,   /* greets, writes to its console and ends when it is told anything more */
    OBEYS,    /* greets, and answers every command */
    GARBLES,  /* greets with what is no JSON */
};

static enum manner manner;
static int qemu_argc;
static char qemu_last[200];

static void say(int fd, const char *text)
{
    (void)!write(fd, text, strlen(text));
}

/* One line; false at the end of the stream. */
static bool hear(int fd, char *line, size_t size)
{
    size_t len = 0;

    while (len < size - 1 && read(fd, line + len, 1) == 1) {
        if (line[len++] == '\n') {
            line[len] = '\0';
            return true;
        }
    }
    return false;
}

static _Noreturn void play(const int *fds, int words)
{
    char in[4096];
    int qmp = fds[0], console = fds[2];

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)fcntl(qmp, F_SETFL, 0);
    if (manner == GRUMBLES) {
        say(words, "qemu: -machine x:\n no such \x01 machine\n");
        _exit(1);
    }
    if (manner == GARBLES)
        say(qmp, "hello\n");
    else if (manner != SILENT)
        say(qmp, GREETING);
    (void)hear(qmp, in, sizeof in); /* the capabilities */
    for (int id = 1; manner == OBEYS; id++) {
        char answer[64];

        if (!hear(qmp, in, sizeof in))
            _exit(0);
        (void)snprintf(answer, sizeof answer, "{\"return\": {}, \"id\": %d}\n", id);
        say(qmp, answer);
        if (strstr(in, "\"quit\""))
            _exit(0);
    }
    if (manner == LEAVES) {
        (void)hear(qmp, in, sizeof in);
        say(console, "[0.1] first\r\n[0.2] \x1b[1mKernel panic\r\n[0.3] \xff end\r\n");
        _exit(0);
    }
    for (;;)
        (void)pause();
}

static bool play_start(const struct process_plan *plan, struct process *ret, struct error *err)
{
    int words[2], pidfd = -1;
    pid_t pid;

    for (qemu_argc = 0; plan->argv[qemu_argc]; qemu_argc++)
        (void)snprintf(qemu_last, sizeof qemu_last, "%s", plan->argv[qemu_argc]);
    if (pipe2(words, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set_errno(err, errno, "a pipe");
    pid = fork();
    if (pid == 0) {
        /* The ends of the host are not ours to hold open: only what the plan names is. */
        for (int fd = 3; fd < 200; fd++) {
            bool named = fd == words[1];

            for (size_t i = 0; i < plan->fd_count; i++)
                named = named || plan->fds[i] == fd;
            if (!named)
                (void)close(fd);
        }
        play(plan->fds, words[1]);
    }
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    (void)fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    fd_close(words[1]);
    *ret = (struct process){ .pid = pid, .pidfd = pidfd, .words_fd = words[0] };
    return true;
}

/* ---- a world ---- */

struct world {
    struct loop *loop;
    unsigned ended;
    char why[400];
};

static void on_ended(void *arg, struct vm *vm, const char *why)
{
    struct world *w = arg;

    assert_int_equal(vm_state(vm), VM_ENDED);
    w->ended++;
    (void)snprintf(w->why, sizeof w->why, "%s", why);
}

static struct wait within_ms(int ms)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + ms * CLOCK_NS_PER_MS };
}

static struct vm_spec spec_of(struct world *w, enum manner how)
{
    manner = how;
    return (struct vm_spec){ .loop = w->loop,
                             .program = "/usr/bin/qemu",
                             .argv = { .machine = ARGV_Q35,
                                       .memory_mib = 128,
                                       .cpus = 1,
                                       .kernel_fd = 0,
                                       .initrd_fd = 0,
                                       .ram_fd = -1,
                                       .disk_fd = -1,
                                       .disk_frozen_fd = -1,
                                       .disk_base_fd = -1 },
                             .start = play_start };
}

static void world_open(struct world *w)
{
    struct error err = ERROR_INIT;

    *w = (struct world){ .ended = 0 };
    w->loop = loop_new(&err);
    assert_ok(w->loop, err);
}

static void world_close(struct world *w)
{
    loop_turn(w->loop, 0);
    loop_free(w->loop);
    /* No child is left, not even a dead one. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static struct vm *start(struct world *w, enum manner how)
{
    struct vm_spec spec = spec_of(w, how);
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    struct vm *vm = vm_start(&spec, on_ended, w, &wait, &err);

    assert_ok(vm, err);
    return vm;
}

/* ---- what goes well ---- */

static void starts_runs_halts_and_quits(void **state)
{
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    struct world w;
    struct vm *vm;
    char why[100];
    (void)state;

    world_open(&w);
    vm = start(&w, OBEYS);
    assert_int_equal(vm_state(vm), VM_RUNNING);
    assert_ok(vm_halt(vm, &wait, &err), err);
    assert_string_equal(vm_state_name(vm_state(vm)), "prepared");
    assert_ok(vm_run(vm, &wait, &err), err);
    assert_int_equal(vm_state(vm), VM_RUNNING);
    vm_why(vm, why, sizeof why);
    assert_string_equal(why, "");
    assert_ok(vm_quit(vm, &wait, &err), err);
    assert_int_equal(vm_state(vm), VM_ENDED);
    assert_int_equal(w.ended, 1);
    vm_free(vm);
    world_close(&w);
}

static void one_that_waits_for_a_state_is_prepared(void **state)
{
    struct world w;
    struct vm_spec spec;
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    struct vm *vm;
    (void)state;

    world_open(&w);
    spec = spec_of(&w, OBEYS);
    spec.argv.incoming = true;
    vm = vm_start(&spec, NULL, NULL, &wait, &err);
    assert_ok(vm, err);
    assert_int_equal(vm_state(vm), VM_PREPARED);
    assert_string_equal(qemu_last, "defer");
    vm_free(vm);
    world_close(&w);
}

static void the_stream_is_taken_once_and_may_begin_with_something(void **state)
{
    struct world w;
    struct vm_spec spec;
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    char text[16] = "";
    struct vm *vm;
    int stream;
    (void)state;

    world_open(&w);
    spec = spec_of(&w, GREETS);
    spec.said = "HELLO";
    spec.said_len = 5;
    vm = vm_start(&spec, NULL, NULL, &wait, &err);
    assert_ok(vm, err);
    stream = vm_take_stream(vm);
    assert_true(stream >= 0);
    assert_int_equal(vm_take_stream(vm), -1);
    assert_int_equal(read(stream, text, sizeof text), 5);
    assert_string_equal(text, "HELLO");
    fd_close(stream);
    vm_free(vm);
    world_close(&w);
}

/* ---- the end ---- */

static void the_end_has_a_reason_and_the_last_lines_of_the_console(void **state)
{
    CLEANUP(buf_fini) struct buf lines = BUF_INIT;
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    struct world w;
    struct vm *vm;
    (void)state;

    world_open(&w);
    vm = start(&w, LEAVES);
    assert_false(vm_halt(vm, &wait, &err));
    assert_code(err, ERR_LOST);
    error_clear(&err);
    assert_ok(vm_await_end(vm, &wait, &err), err);
    loop_turn(w.loop, 0);
    assert_int_equal(w.ended, 1);
    assert_contains(w.why, "reset or was switched off");
    assert_true(vm_console(vm, 2, &lines) > 0);
    assert_string_equal(buf_str(&lines), "[0.2]  [1mKernel panic \n[0.3] \xef\xbf\xbd end ");
    vm_free(vm);
    world_close(&w);
}

static void a_qemu_that_is_killed_is_told(void **state)
{
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    struct world w;
    struct vm *vm;
    (void)state;

    world_open(&w);
    vm = start(&w, GREETS);
    assert_int_equal(kill(vm_pid(vm), SIGKILL), 0);
    assert_ok(vm_await_end(vm, &wait, &err), err);
    assert_string_equal(w.why, "QEMU was killed by signal 9");
    assert_false(vm_run(vm, &wait, &err));
    assert_code(err, ERR_LOST);
    vm_free(vm);
    assert_int_equal(w.ended, 1);
    world_close(&w);
}

static void one_that_stands_still_is_ended_all_the_same(void **state)
{
    struct wait wait;
    struct error err = ERROR_INIT;
    struct world w;
    struct vm *vm;
    (void)state;

    world_open(&w);
    vm = start(&w, OBEYS);
    assert_int_equal(kill(vm_pid(vm), SIGSTOP), 0);
    wait = within_ms(SHORT_MS);
    assert_false(vm_halt(vm, &wait, &err));
    assert_code(err, ERR_TIMEOUT);
    vm_free(vm);
    assert_int_equal(w.ended, 0); /* its owner knows */
    world_close(&w);
}

static void a_start_that_fails_says_why_and_leaves_nothing(void **state)
{
    static const struct {
        const char *label;
        enum manner how;
        int ms;
        enum error_code code;
        const char *text;
    } rows[] = {
        { "it ends", GRUMBLES, PATIENCE_MS, ERR_LOST,
          "QEMU ended with status 1: qemu: -machine x:  no such   machine" },
        { "it never greets", SILENT, SHORT_MS, ERR_TIMEOUT, "greeting" },
        { "it speaks something else", GARBLES, PATIENCE_MS, ERR_LOST, "no message" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct wait wait;
        struct world w;
        struct vm_spec spec;

        world_open(&w);
        spec = spec_of(&w, rows[i].how);
        wait = within_ms(rows[i].ms);
        assert_null(vm_start(&spec, on_ended, &w, &wait, &err));
        if (err.code != rows[i].code || !strstr(err.text, rows[i].text))
            fail_msg("%s: %s: %s", rows[i].label, error_code_name(err.code), err.text);
        world_close(&w);
        assert_int_equal(w.ended, 0);
    }
}

static void a_program_that_is_not_there_is_named(void **state)
{
    struct error err = ERROR_INIT;
    struct wait wait = within_ms(PATIENCE_MS);
    struct world w;
    struct vm_spec spec;
    (void)state;

    assert_null(process_find("no-such-qemu", &err));
    assert_code(err, ERR_UNSUPPORTED);
    assert_contains(err.text, "no-such-qemu");
    error_clear(&err);
    world_open(&w);
    spec = spec_of(&w, GREETS);
    spec.start = NULL;
    spec.program = "/nowhere/qemu";
    assert_null(vm_start(&spec, on_ended, &w, &wait, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "/nowhere/qemu");
    world_close(&w);
}

static void cancelling_ends_a_wait(void **state)
{
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    struct cancel token;
    struct world w;
    struct vm *vm;
    (void)state;

    cancel_init(&token);
    world_open(&w);
    vm = start(&w, GREETS);
    cancel_raise(&token);
    wait.cancel = &token;
    assert_false(vm_await_end(vm, &wait, &err));
    assert_code(err, ERR_CANCELLED);
    vm_free(vm);
    world_close(&w);
    cancel_fini(&token);
}

/* ---- the real way to start a process ---- */

/* What a program says that is started so. */
static void assert_process(const char *script, const int *fds, size_t fd_count, const char *want)
{
    char *const argv[] = { (char *)unconst("sh"), (char *)unconst("-c"), (char *)unconst(script),
                           NULL };
    struct process_plan plan = {
        .program = "/bin/sh", .argv = argv, .fds = fds, .fd_count = fd_count
    };
    struct error err = ERROR_INIT;
    struct process p;
    struct pollfd end;
    char text[400] = "";
    siginfo_t info;

    if (geteuid() == 0)
        plan.uid = plan.gid = 65534;
    assert_ok(process_start(&plan, &p, &err), err);
    end = (struct pollfd){ .fd = p.pidfd, .events = POLLIN };
    assert_int_equal(poll(&end, 1, PATIENCE_MS), 1);
    assert_int_equal(waitid((idtype_t)P_PIDFD, (id_t)p.pidfd, &info, WEXITED), 0);
    (void)!read(p.words_fd, text, sizeof text - 1);
    assert_string_equal(text, want);
    fd_close(p.pidfd);
    fd_close(p.words_fd);
}

static void a_process_has_its_descriptors_and_nothing_else(void **state)
{
    int stray = open("/dev/null", O_RDONLY); /* inherited by whoever does not look */
    int a = memfd_create("a", MFD_CLOEXEC), b = memfd_create("b", MFD_CLOEXEC);
    const int fds[] = { b, a };
    (void)state;

    assert_int_equal(pwrite(a, "A\n", 2, 0), 2);
    assert_int_equal(pwrite(b, "B\n", 2, 0), 2);
    assert_process("for i in 0 1 2 3 4 5 6 7 8 9; do test ! -e /proc/$$/fd/$i || echo -n $i; done; "
                   "echo; read x <&3; read y <&4; echo $x $y",
                   fds, 2, "01234\nB A\n");
    assert_process("unset PWD OLDPWD; export -p; read x; echo \"$x.\"", NULL, 0, ".\n");
    assert_process("while read k v; do case $k in NoNewPrivs:|SigIgn:|SigBlk:) echo $k $v;; esac; "
                   "done </proc/self/status; ulimit -c",
                   NULL, 0,
                   "SigBlk: 0000000000000000\nSigIgn: 0000000000000000\nNoNewPrivs: 1\n0\n");
    if (geteuid() == 0)
        assert_process("while read k v; do case $k in Uid:|Groups:|CapEff:) echo $k $v;; esac; "
                       "done </proc/self/status",
                       NULL, 0,
                       "Uid: 65534 65534 65534 65534\nGroups:\nCapEff: 0000000000000000\n");
    fd_close(a);
    fd_close(b);
    fd_close(stray);
}

/* Killed as nothing can be that gets to say goodbye. */
static void a_process_does_not_outlive_its_server(void **state)
{
    char *const argv[] = { (char *)unconst("sh"), (char *)unconst("-c"),
                           (char *)unconst("echo >&3; read x <&4"), NULL };
    int told[2], held[2];
    struct pollfd end;
    pid_t server;
    char byte;
    (void)state;

    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    assert_int_equal(pipe2(held, O_CLOEXEC), 0);
    server = fork();
    if (server == 0) {
        const int fds[] = { told[1], held[0] };
        struct process_plan plan = {
            .program = "/bin/sh", .argv = argv, .fds = fds, .fd_count = ARRAY_LEN(fds)
        };
        struct process p;

        if (geteuid() == 0)
            plan.uid = plan.gid = 65534;
        if (!process_start(&plan, &p, NULL))
            _exit(1);
        for (;;)
            (void)pause();
    }
    fd_close(told[1]);
    assert_int_equal(read(told[0], &byte, 1), 1);
    assert_int_equal(kill(server, SIGKILL), 0);
    assert_int_equal(waitpid(server, NULL, 0), server);
    end = (struct pollfd){ .fd = told[0], .events = POLLIN };
    assert_int_equal(poll(&end, 1, PATIENCE_MS), 1);
    assert_int_equal(read(told[0], &byte, 1), 0); /* the last holder is gone */
    fd_close(told[0]);
    fd_close(held[0]);
    fd_close(held[1]);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    FAULT_EACH(n)
    {
        struct wait wait = within_ms(PATIENCE_MS);
        struct error err = ERROR_INIT;
        struct vm *vm;
        struct world w;
        struct vm_spec spec;

        fault_disarm();
        world_open(&w);
        spec = spec_of(&w, OBEYS);
        fault_arm(n);
        vm = vm_start(&spec, on_ended, &w, &wait, &err);
        FAULT_DONE(n);
        if (n_last)
            assert_ok(vm, err);
        else if (!vm && err.code != ERR_NOMEM && err.code != ERR_LOST)
            fail_msg("allocation %u: %s", n, err.text);
        vm_free(vm);
        world_close(&w);
    }
}

/* The first loop of a process leaves two descriptors of libuv's open. */
static int warm_up(void **state)
{
    (void)state;
    loop_free(loop_new(NULL));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(starts_runs_halts_and_quits),
        WITH_FOLDER(one_that_waits_for_a_state_is_prepared),
        WITH_FOLDER(the_stream_is_taken_once_and_may_begin_with_something),
        WITH_FOLDER(the_end_has_a_reason_and_the_last_lines_of_the_console),
        WITH_FOLDER(a_qemu_that_is_killed_is_told),
        WITH_FOLDER(one_that_stands_still_is_ended_all_the_same),
        WITH_FOLDER(a_start_that_fails_says_why_and_leaves_nothing),
        WITH_FOLDER(a_program_that_is_not_there_is_named),
        WITH_FOLDER(cancelling_ends_a_wait),
        WITH_FOLDER(a_process_has_its_descriptors_and_nothing_else),
        WITH_FOLDER(a_process_does_not_outlive_its_server),
        WITH_FOLDER(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, warm_up, NULL);
}
