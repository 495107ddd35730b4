#include "vmctl/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/buf.h"
#include "kernel/base/fd.h"
#include "sandbox/landlock.h"
#include "vmctl/cage.h"

#define HIGH_FD 64 /* above every number that the child puts a descriptor on */
#define SIGNALS 65

static_assert(PROCESS_FIRST_FD + PROCESS_FDS_MAX < HIGH_FD, "copies would be overwritten");

struct message {
    const char *what; /* a string of this program, which the child shares */
    int os_errno;
};

/* All that the child needs, ready before it is made: it makes async-signal-safe calls only. */
struct child {
    const struct process_plan *plan;
    int fds[PROCESS_FDS_MAX];
    int null_fd, words_fd, report_fd;
    pid_t parent;
    bool root;
    int landlock_abi;
};

static _Noreturn void fail(const struct child *c, const char *what)
{
    struct message m = { .what = what, .os_errno = errno };

    while (write(c->report_fd, &m, sizeof m) < 0 && errno == EINTR)
        continue;
    _exit(127);
}

static void become(const struct child *c)
{
    const struct process_plan *plan = c->plan;
    gid_t groups[1] = { plan->extra_gid };

    if (!plan->uid)
        return;
    /* The bare calls: those of the C library would tell threads that the child does not have. */
    if (syscall(SYS_setgroups, plan->extra_gid ? 1 : 0, groups) != 0)
        fail(c, "drop groups");
    if (syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid) != 0)
        fail(c, "change the group");
    if (syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid) != 0)
        fail(c, "change the user");
}

static void place_descriptors(const struct child *c)
{
    if (dup3(c->null_fd, 0, 0) < 0 || dup3(c->words_fd, 1, 0) < 0 || dup3(c->words_fd, 2, 0) < 0)
        fail(c, "set up descriptors");
    for (size_t i = 0; i < c->plan->fd_count; i++) {
        if (dup3(c->fds[i], PROCESS_FIRST_FD + (int)i, 0) < 0)
            fail(c, "set up descriptors");
    }
    if (syscall(SYS_close_range, PROCESS_FIRST_FD + (unsigned)c->plan->fd_count, ~0u,
                CLOSE_RANGE_CLOEXEC) != 0)
        fail(c, "close descriptors");
}

/* No network, no queues or names of the host, and no file but its own.  Where the server
 * is not root the namespaces are left out, as they would need one of users. */
static void confine(const struct child *c)
{
    if (c->root && unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0)
        fail(c, "leave the host's network");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        fail(c, "give up privileges");
    if (!cage_close(c->landlock_abi, c->fds, c->plan->fd_count))
        fail(c, "give up the right to open files");
}

static _Noreturn void run_child(const struct child *c)
{
    static char *const no_env[] = { NULL };
    const struct rlimit no_core = { 0, 0 };
    struct sigaction action = { .sa_handler = SIG_DFL };
    sigset_t none;

    for (int s = 1; s < SIGNALS; s++)
        (void)sigaction(s, &action, NULL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    (void)umask(077);
    if (chdir("/") != 0)
        fail(c, "enter /");
    if (setrlimit(RLIMIT_CORE, &no_core) != 0)
        fail(c, "set limits");
    place_descriptors(c);
    confine(c);
    become(c);
    /* After the change of user, which resets it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        fail(c, "follow the server");
    if (getppid() != c->parent) {
        errno = ESRCH;
        fail(c, "follow the server");
    }
    (void)execve(c->plan->program, c->plan->argv, no_env);
    fail(c, "run it");
}

static bool copy_high(int fd, int *ret, struct error *err)
{
    *ret = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    return *ret >= 0 || error_set_errno(err, errno, "copy a descriptor");
}

/* End of file is what a successful exec is. */
static bool await_exec(int report, const char *program, struct error *err)
{
    struct message m;
    ssize_t n = fd_read_full(report, &m, sizeof m, err);

    if (n < 0)
        return false;
    if (n == (ssize_t)sizeof m)
        return error_set_errno(err, m.os_errno, "start %s: %s", program, m.what);
    return true;
}

static bool start(struct child *c, int report[2], struct process *ret, struct error *err)
{
    int pidfd = -1;
    long pid;
    bool ok;

    c->parent = getpid();
    c->root = geteuid() == 0;
    c->landlock_abi = landlock_abi();
    pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, &pidfd, NULL, NULL);
    if (pid == 0)
        run_child(c);
    if (pid < 0)
        return error_set_errno(err, errno, "start %s", c->plan->program);
    fd_close(fd_steal(&c->report_fd));
    ok = await_exec(report[0], c->plan->program, err);
    if (!ok) {
        siginfo_t info;

        while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR)
            continue;
        fd_close(pidfd);
        return false;
    }
    ret->pid = (pid_t)pid;
    ret->pidfd = pidfd;
    return true;
}

bool process_start(const struct process_plan *plan, struct process *ret, struct error *err)
{
    struct child c = { .plan = plan, .null_fd = -1, .words_fd = -1, .report_fd = -1 };
    int report[2] = { -1, -1 }, words[2] = { -1, -1 };
    struct process made = { .pidfd = -1 };
    size_t copied = 0;
    int null_fd = -1;
    bool ok;

    assert(plan->fd_count <= PROCESS_FDS_MAX);
    /* What QEMU says beyond a pipe full is lost, rather than that it waits or memory is used. */
    ok = pipe2(report, O_CLOEXEC) == 0 && pipe2(words, O_CLOEXEC | O_NONBLOCK) == 0;
    if (!ok)
        error_set_errno(err, errno, "a pipe");
    if (ok) {
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        ok = null_fd >= 0 || error_set_errno(err, errno, "open /dev/null");
    }
    ok = ok && copy_high(null_fd, &c.null_fd, err) && copy_high(words[1], &c.words_fd, err) &&
         copy_high(report[1], &c.report_fd, err);
    fd_close(fd_steal(&report[1]));
    for (; ok && copied < plan->fd_count; copied += ok)
        ok = copy_high(plan->fds[copied], &c.fds[copied], err);
    ok = ok && start(&c, report, &made, err);
    while (copied)
        fd_close(c.fds[--copied]);
    fd_close(c.null_fd);
    fd_close(c.words_fd);
    fd_close(c.report_fd);
    fd_close(null_fd);
    fd_close(report[0]);
    fd_close(words[1]);
    if (!ok) {
        fd_close(words[0]);
        return false;
    }
    made.words_fd = words[0];
    *ret = made;
    return true;
}

char *process_find(const char *name, struct error *err)
{
    static const char *const folders[] = { "/usr/local/bin", "/usr/bin", "/usr/libexec",
                                           "/opt/qemu/bin" };
    char *found = NULL;

    if (strchr(name, '/')) {
        found = strdup(name);
        if (!found)
            error_set(err, ERR_NOMEM, "the path of %s", name);
        return found;
    }
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        CLEANUP(buf_fini) struct buf path = BUF_INIT;

        if (!buf_printf(&path, "%s/%s", folders[i], name)) {
            error_set(err, ERR_NOMEM, "the path of %s", name);
            return NULL;
        }
        if (access(path.data, X_OK) == 0)
            return buf_take(&path, NULL);
    }
    error_set(err, ERR_UNSUPPORTED, "%s is not installed; a virtual machine needs it", name);
    return NULL;
}
