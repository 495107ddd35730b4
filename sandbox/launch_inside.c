/* Work inside a sandbox's user and mount namespaces, with all capabilities there. */
#include "sandbox/launch.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define INSIDE_ID  1000
#define EXIT_SETUP 126 /* the namespaces could not be entered */

static _Noreturn void inside_child(int userns_fd, int mntns_fd, int (*fn)(void *arg), void *arg)
{
    bool root = geteuid() == 0;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (root && syscall(SYS_setgroups, 0, NULL) < 0)
        _exit(EXIT_SETUP);
    if (setns(userns_fd, CLONE_NEWUSER) < 0 || setns(mntns_fd, CLONE_NEWNS) < 0)
        _exit(EXIT_SETUP);
    if (root && (syscall(SYS_setresgid, INSIDE_ID, INSIDE_ID, INSIDE_ID) < 0 ||
                 syscall(SYS_setresuid, INSIDE_ID, INSIDE_ID, INSIDE_ID) < 0))
        _exit(EXIT_SETUP);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(fn(arg));
}

/* Wait for the end of @pidfd; kills it when the time is up. */
static bool await_end(int pidfd, int *ret_exit, const struct wait *w, struct error *err)
{
    siginfo_t info = { 0 };
    bool in_time;

    for (;;) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        in_time = wait_check(w, err);
        if (!in_time || poll(&p, 1, clock_left_ms(w->deadline_ns, 50)) > 0)
            break;
    }
    if (!in_time)
        (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0)
        if (errno != EINTR)
            return in_time ? error_set_errno(err, errno, "wait for the helper process") : false;
    if (!in_time)
        return false;
    if (info.si_code != CLD_EXITED)
        return error_set(err, ERR_LOST, "the helper process was ended by signal %d",
                         info.si_status);
    if (info.si_status == EXIT_SETUP)
        return error_set(err, ERR_LOST, "the sandbox's namespaces cannot be entered any more");
    *ret_exit = info.si_status;
    return true;
}

bool launch_inside(int userns_fd, int mntns_fd, int (*fn)(void *arg), void *arg, int *ret_exit,
                   const struct wait *w, struct error *err)
{
    pid_t pid = fork();
    int pidfd;
    bool ok;

    if (pid < 0)
        return error_set_errno(err, errno, "start a helper process");
    if (pid == 0)
        inside_child(userns_fd, mntns_fd, fn, arg);
    /* Not reaped yet, so the number is still its own. */
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        int saved = errno;

        (void)kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return error_set_errno(err, saved, "watch a helper process");
    }
    ok = await_end(pidfd, ret_exit, w, err);
    fd_close(pidfd);
    return ok;
}
