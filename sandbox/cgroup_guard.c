#include "sandbox/cgroup_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "sandbox/cgroup_kind.h"

/* Async-signal-safe calls only: the other threads' locks are as they were. */
static _Noreturn void guard_main(int pipe_fd, int state_fd)
{
    sigset_t all;
    ssize_t n;
    char byte;

    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    (void)setsid(); /* what ends the server's process group leaves us */
    (void)prctl(PR_SET_NAME, "aios-guard");
    /* Nothing of the server's stays open here, its side of the pipe least of all. */
    if (dup2(state_fd, 0) < 0 || dup2(pipe_fd, 1) < 0 || syscall(SYS_close_range, 2u, ~0u, 0) < 0)
        _exit(1);
    do
        n = read(1, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        (void)!write(0, "THAWED", 6);
    _exit(0);
}

bool cgroup_guard_start(struct cgroup_guard *guard, int base_fd, const char *group)
{
    char path[CGROUP_NAME_SIZE + 16];
    CLEANUP(fd_closep) int state_fd = -1;
    int ends[2];
    pid_t pid;

    (void)snprintf(path, sizeof path, "%s/freezer.state", group);
    state_fd = openat(base_fd, path, O_WRONLY | O_CLOEXEC);
    if (state_fd < 3 || pipe2(ends, O_CLOEXEC) != 0)
        return false;
    pid = ends[0] < 3 ? -1 : _Fork();
    if (pid == 0)
        guard_main(ends[0], state_fd);
    fd_close(ends[0]);
    if (pid < 0) {
        fd_close(ends[1]);
        return false;
    }
    *guard = (struct cgroup_guard){ .pid = pid, .fd = ends[1] };
    return true;
}

void cgroup_guard_end(struct cgroup_guard *guard)
{
    if (!guard->pid)
        return;
    (void)!write(guard->fd, "", 1);
    fd_close(guard->fd);
    while (waitpid(guard->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    guard->pid = 0;
}
