/* What becomes of a child whose server dies while it is made. */
#include "tests/support/check.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/loop.h"
#include "sandbox/launch.h"

enum { OTHER_UID = 65534, PATIENCE_MS = 60000 };

int __real_pipe2(int fds[2], int flags);
int __wrap_pipe2(int fds[2], int flags);
int __wrap_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int __real_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);

static int last_pipe[2];

int __wrap_pipe2(int fds[2], int flags)
{
    int rc = __real_pipe2(fds, flags);

    last_pipe[0] = fds[0];
    last_pipe[1] = fds[1];
    return rc;
}

/* A child that asks for it too late is as one that never does. */
int __wrap_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
    return option == PR_SET_PDEATHSIG ? 0 : __real_prctl(option, a, b, c, d);
}

/* Keeps all that the server has open, as another child does that was cloned at the same time, but
 * for the one end that children close first. */
static pid_t start_other_child(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        (void)close(last_pipe[1]);
        for (;;)
            pause();
    }
    return pid;
}

static _Noreturn void be_server(int report)
{
    const struct launch_plan plan = {
        .host_uid = geteuid() ? geteuid() : OTHER_UID,
        .host_gid = geteuid() ? getegid() : OTHER_UID,
        .host_name = "computer",
    };
    struct error err = ERROR_INIT;
    struct loop *loop = loop_new(&err);
    struct launcher *launcher = loop ? launcher_new(loop, &err) : NULL;
    struct launch launch;
    pid_t pids[2];

    if (!launcher || !launch_begin(&launch, launcher, &plan, &err)) {
        fprintf(stderr, "%s\n", err.text);
        _exit(1);
    }
    pids[0] = launch.pid;
    pids[1] = start_other_child();
    if (write(report, pids, sizeof pids) != sizeof pids)
        _exit(1);
    (void)raise(SIGKILL);
    _exit(1);
}

static bool ends(pid_t pid)
{
    struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
    bool ended = poll(&p, 1, PATIENCE_MS) == 1;

    (void)close(p.fd);
    return ended && waitpid(pid, NULL, 0) == pid;
}

static void a_child_ends_with_its_server_though_another_holds_its_socket(void **state)
{
    pid_t server, pids[2] = { 0 };
    int report[2];
    bool ended;
    (void)state;

    assert_int_equal(__real_prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    assert_int_equal(__real_pipe2(report, O_CLOEXEC), 0);
    server = fork();
    assert_true(server >= 0);
    if (server == 0)
        be_server(report[1]);
    (void)close(report[1]);
    assert_int_equal(read(report[0], pids, sizeof pids), sizeof pids);
    (void)close(report[0]);
    assert_true(ends(server));
    ended = ends(pids[0]);
    if (!ended)
        (void)kill(pids[0], SIGKILL);
    (void)kill(pids[1], SIGKILL);
    assert_true(ends(pids[1]));
    assert_true(ended);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_ends_with_its_server_though_another_holds_its_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
