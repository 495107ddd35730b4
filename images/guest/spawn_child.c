/*
 * What runs in the child between clone and exec.  Memory, errno and thread-local storage are the
 * guest's, which goes on at the same time: raw system calls and this function's own stack only.
 */
#include "images/guest/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "images/guest/raw.h"

#define PATH_BYTES    4096u
#define SIGNAL_BYTES  8u /* of a kernel signal set */
#define CLOSE_ON_EXEC 4u

/* Sanitizers would keep their books in the guest's thread. */
#define ALONE __attribute__((no_sanitize("address"), no_sanitize("undefined")))

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

ALONE static void report(const struct spawn_plan *plan, long error, enum spawn_stage stage)
{
    int message[2] = { (int)-error, (int)stage };

    (void)RAW3(SYS_write, plan->report, message, sizeof message);
    for (;;)
        (void)RAW1(SYS_exit_group, 127);
}

/* Puts DIR/NAME together; false when it is too long. */
ALONE static bool join(char *buf, const char *dir, size_t dir_len, const char *name)
{
    size_t at = 0;

    if (dir_len + 2 > PATH_BYTES)
        return false;
    for (size_t i = 0; i < dir_len; i++)
        buf[at++] = dir[i];
    if (dir_len > 0)
        buf[at++] = '/';
    while (*name && at + 1 < PATH_BYTES)
        buf[at++] = *name++;
    buf[at] = '\0';
    return *name == '\0';
}

/* Returns the negative error of the program that came closest to being run. */
ALONE static long execute(const struct spawn_plan *plan)
{
    const char *name = plan->argv[0];
    const char *dir = plan->path;
    char buf[PATH_BYTES];
    long error = -ENOENT;

    if (name[0] == '\0')
        return -ENOENT;
    for (const char *c = name; *c; c++) {
        if (*c == '/')
            return RAW3(SYS_execve, name, plan->argv, plan->env);
    }
    for (;;) {
        size_t len = 0;

        while (dir[len] && dir[len] != ':')
            len++;
        if (join(buf, dir, len, name)) {
            /* Looking first costs a fraction of an exec that fails. */
            long r = RAW3(SYS_faccessat, AT_FDCWD, buf, X_OK);

            if (r != -ENOENT && r != -ENOTDIR) {
                r = RAW3(SYS_execve, buf, plan->argv, plan->env);
                if (r != -ENOENT && r != -ENOTDIR && r != -EACCES)
                    return r;
                if (r == -EACCES)
                    error = r;
            }
        }
        if (!dir[len])
            return error;
        dir += len + 1;
    }
}

/* No way back: what is left of the guest's powers goes with its user. */
ALONE static long become(const struct spawn_plan *plan)
{
    const gid_t groups[1] = { plan->user };
    const struct rlimit64 limit = { plan->processes, plan->processes };
    long r = RAW2(SYS_setgroups, 1, groups);

    if (r == 0)
        r = RAW3(SYS_setresgid, plan->user, plan->user, plan->user);
    if (r == 0 && plan->processes)
        r = RAW4(SYS_prlimit64, 0, RLIMIT_NPROC, &limit, 0);
    return r == 0 ? RAW3(SYS_setresuid, plan->user, plan->user, plan->user) : r;
}

ALONE int spawn_child(void *arg)
{
    const struct spawn_plan *plan = arg;
    const unsigned long no_signals = 0;
    long r;

    (void)RAW0(SYS_setsid);
    if (plan->terminal) {
        r = RAW3(SYS_ioctl, plan->fds[0], TIOCSCTTY, 0);
        if (r < 0)
            report(plan, r, SPAWN_STAGE_RESOURCES);
    }
    for (int i = 0; i < SPAWN_FDS; i++) {
        if (plan->fds[i] < 0)
            continue;
        r = RAW3(SYS_dup3, plan->fds[i], i, 0);
        if (r < 0)
            report(plan, r, SPAWN_STAGE_RESOURCES);
    }
    /* Everything of ours is close-on-exec already; this is for what is not ours. */
    (void)RAW3(SYS_close_range, SPAWN_FDS, ~0u, CLOSE_ON_EXEC);
    r = plan->user ? become(plan) : 0;
    if (r < 0)
        report(plan, r, SPAWN_STAGE_RESOURCES);
    r = RAW1(SYS_chdir, plan->cwd);
    if (r < 0)
        report(plan, r, SPAWN_STAGE_CWD);
    (void)RAW4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &no_signals, 0, SIGNAL_BYTES);
    r = execute(plan);
    report(plan, r, SPAWN_STAGE_EXEC);
    return 127;
}
