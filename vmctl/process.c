#include "vmctl/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
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

#define APART (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

/* Beside the guest's memory: translated code (64 MiB), QEMU itself and its libraries, page tables,
 * and what it keeps of disks. */
#define OWN_BYTES (192ull << 20)
#define OWN_TASKS 96u /* threads: its disks may have 64 */

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

static_assert(PROCESS_FIRST_FD + PROCESS_FDS_MAX < HIGH_FD, "copies would be overwritten");

struct message {
    const char *what; /* a string of this program, which the child shares */
    int os_errno;
    bool apart; /* it was about namespaces */
};

/* All that the child needs, ready before it is made: it makes async-signal-safe calls only. */
struct child {
    const struct process_plan *plan;
    int fds[PROCESS_FDS_MAX];
    int null_fd, words_fd, report_fd;
    int server_fd; /* the thread that makes the child, whose end would end it */
    bool root;
    bool apart; /* in namespaces of its own */
    char uid_map[32], gid_map[32];
    int landlock_abi;
};

static _Noreturn void tell(const struct child *c, const struct message *said)
{
    struct message m = *said;

    while (write(c->report_fd, &m, sizeof m) < 0 && errno == EINTR)
        continue;
    _exit(127);
}

static _Noreturn void fail(const struct child *c, const char *what)
{
    tell(c, &(struct message){ .what = what, .os_errno = errno });
}

static _Noreturn void fail_apart(const struct child *c, const char *what)
{
    tell(c, &(struct message){ .what = what, .os_errno = errno, .apart = true });
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

static bool put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    fd_close(fd);
    return ok;
}

/* Who is not root is himself in a user namespace, which allows him the others. */
static void part(const struct child *c)
{
    const char *what;

    if (!c->apart)
        return;
    if (!c->root) {
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* so that its own /proc files are its own */
        if (!put("/proc/self/setgroups", "deny") || !put("/proc/self/gid_map", c->gid_map) ||
            !put("/proc/self/uid_map", c->uid_map))
            fail_apart(c, "be somebody in a user namespace");
    }
    what = cage_root();
    if (what)
        fail_apart(c, what);
}

static void confine(const struct child *c)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        fail(c, "give up privileges");
    if (!cage_close(c->landlock_abi, c->fds, c->plan->fd_count))
        fail(c, "give up the right to open files");
}

/* If the thread had ended by then, the signal has been sent already. */
static void follow_server(const struct child *c)
{
    struct pollfd ended = { .fd = c->server_fd, .events = POLLIN };

    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        fail(c, "follow the server");
    if (poll(&ended, 1, 0) != 0) {
        errno = ESRCH;
        fail(c, "follow the server");
    }
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
    (void)umask(0);
    if (c->plan->group && !cgroup_enter(c->plan->group))
        fail(c, "enter its control group");
    part(c);
    (void)umask(077);
    if (chdir("/") != 0)
        fail(c, "enter /");
    if (setrlimit(RLIMIT_CORE, &no_core) != 0)
        fail(c, "set limits");
    place_descriptors(c);
    confine(c);
    become(c);
    follow_server(c); /* after the change of user, which resets it */
    if (!cage_filter())
        fail(c, "give up system calls");
    (void)execve(c->plan->program, c->plan->argv, no_env);
    fail(c, "run it");
}

static bool copy_high(int fd, int *ret, struct error *err)
{
    *ret = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    return *ret >= 0 || error_set_errno(err, errno, "copy a descriptor");
}

/* End of file is what a successful exec is. */
static bool await_exec(const struct child *c, int report, bool *ret_apart, struct error *err)
{
    const char *program = c->plan->program;
    struct message m;
    ssize_t n = fd_read_full(report, &m, sizeof m, err);

    *ret_apart = false;
    if (n < 0)
        return false;
    if (n != (ssize_t)sizeof m)
        return true;
    *ret_apart = m.apart;
    return error_set_errno(err, m.os_errno, "start %s: %s", program, m.what);
}

static long clone_child(const struct child *c, int *ret_pidfd)
{
    uint64_t apart = c->apart ? (uint64_t)APART | (c->root ? 0 : CLONE_NEWUSER) : 0;
    int group_fd = cgroup_clone_fd(c->plan->group);
    struct clone_args args;

    if (group_fd < 0)
        return syscall(SYS_clone, apart | CLONE_PIDFD | SIGCHLD, NULL, ret_pidfd, NULL, NULL);
    memset(&args, 0, sizeof args);
    args.flags = apart | CLONE_PIDFD | CLONE_INTO_CGROUP;
    args.pidfd = (uint64_t)(uintptr_t)ret_pidfd;
    args.exit_signal = SIGCHLD;
    args.cgroup = (uint64_t)group_fd;
    return syscall(SYS_clone3, &args, sizeof args);
}

/* *ret_apart: namespaces are why it failed. */
static bool start(struct child *c, struct process *ret, bool *ret_apart, struct error *err)
{
    int report[2], pidfd = -1;
    siginfo_t info;
    long pid;
    bool ok;

    *ret_apart = false;
    if (pipe2(report, O_CLOEXEC) != 0)
        return error_set_errno(err, errno, "a pipe");
    ok = copy_high(report[1], &c->report_fd, err);
    fd_close(report[1]);
    pid = ok ? clone_child(c, &pidfd) : -1;
    if (pid == 0)
        run_child(c);
    if (ok && pid < 0) {
        *ret_apart = c->apart;
        ok = error_set_errno(err, errno, "start %s", c->plan->program);
    }
    fd_close(fd_steal(&c->report_fd));
    ok = ok && await_exec(c, report[0], ret_apart, err);
    fd_close(report[0]);
    if (ok) {
        *ret = (struct process){ .pid = (pid_t)pid, .pidfd = pidfd, .apart = c->apart };
        return true;
    }
    while (pidfd >= 0 && waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 &&
           errno == EINTR)
        continue;
    fd_close(pidfd);
    return false;
}

/* Root has all of it or nothing; others have what their system allows them. */
static bool start_somehow(struct child *c, struct process *ret, struct error *err)
{
    struct error why = ERROR_INIT;
    bool about_apart;

    c->apart = true;
    if (start(c, ret, &about_apart, &why))
        return true;
    if (about_apart && !c->root) {
        c->apart = false;
        return start(c, ret, &about_apart, err);
    }
    return error_set(err, why.code, "%s", why.text);
}

/* Of this thread: while the others of a killed process still end, its own are told already. Kernels
 * before 6.9 have descriptors of whole processes alone. */
static int own_pidfd(void)
{
    int fd = (int)syscall(SYS_pidfd_open, gettid(), PIDFD_THREAD);

    return fd >= 0 ? fd : (int)syscall(SYS_pidfd_open, getpid(), 0);
}

bool process_start(const struct process_plan *plan, struct process *ret, struct error *err)
{
    struct child c = {
        .plan = plan, .null_fd = -1, .words_fd = -1, .report_fd = -1, .server_fd = -1
    };
    int words[2] = { -1, -1 };
    struct process made = { .pidfd = -1 };
    size_t copied = 0;
    int null_fd = -1, server_fd = -1;
    bool ok;

    assert(plan->fd_count <= PROCESS_FDS_MAX);
    /* What QEMU says beyond a pipe full is lost, rather than that it waits or memory is used. */
    ok = pipe2(words, O_CLOEXEC | O_NONBLOCK) == 0;
    if (!ok)
        error_set_errno(err, errno, "a pipe");
    if (ok) {
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        ok = null_fd >= 0 || error_set_errno(err, errno, "open /dev/null");
    }
    if (ok) {
        server_fd = own_pidfd();
        ok = server_fd >= 0 || error_set_errno(err, errno, "open the server's own thread");
    }
    c.root = geteuid() == 0;
    c.landlock_abi = landlock_abi();
    (void)snprintf(c.uid_map, sizeof c.uid_map, "%u %u 1\n", geteuid(), geteuid());
    (void)snprintf(c.gid_map, sizeof c.gid_map, "%u %u 1\n", getegid(), getegid());
    ok = ok && copy_high(null_fd, &c.null_fd, err) && copy_high(words[1], &c.words_fd, err) &&
         copy_high(server_fd, &c.server_fd, err);
    for (; ok && copied < plan->fd_count; copied += ok)
        ok = copy_high(plan->fds[copied], &c.fds[copied], err);
    ok = ok && start_somehow(&c, &made, err);
    while (copied)
        fd_close(c.fds[--copied]);
    fd_close(c.null_fd);
    fd_close(c.words_fd);
    fd_close(c.server_fd);
    fd_close(null_fd);
    fd_close(server_fd);
    fd_close(words[1]);
    if (!ok) {
        fd_close(words[0]);
        return false;
    }
    made.words_fd = words[0];
    if (plan->group)
        cgroup_started(plan->group, made.pid);
    *ret = made;
    return true;
}

bool process_group(struct cgroup_host *host, const struct process_limits *limits,
                   struct cgroup **ret, struct error *err)
{
    struct cgroup_limits of_group = {
        .memory_bytes = ((uint64_t)limits->memory_mib << 20) + limits->disk_bytes + OWN_BYTES,
        .pids = OWN_TASKS + limits->cpus,
        .cpu_milli = (limits->cpus + 1) * 1000,
    };
    struct cgroup *group = NULL;

    if (!cgroup_host_check(host, &of_group, NULL))
        of_group.cpu_milli = 0; /* its processors are threads, and no more than it was given */

    /* Without groups, somebody would have to watch; the guest's memory is the limit then. */
    if (cgroup_host_mode(host) != SANDBOX_CGROUP_NONE) {
        group = cgroup_new(host, &of_group, err);
        if (!group)
            return false;
    }
    *ret = group;
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
