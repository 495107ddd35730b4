#include "sandbox/launch_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "sandbox/landlock.h"
#include "sandbox/seccomp.h"

#define INSIDE_ID 1000
#define STREAM_FD 3

/* Where the agent may write is the mounts' business, host folders included.  Landlock adds that no
 * device can be made, none but those of /dev be commanded, and nothing outside be signalled. */
static const char *const writable[] = { "/" };

static bool child_send(int control, const struct launch_message *message, const int *fds,
                       size_t fd_count)
{
    char space[CMSG_SPACE(sizeof(int) * LAUNCH_FD_COUNT)] = { 0 };
    struct launch_message copy = *message; /* struct iovec knows no const */
    struct iovec iov = { .iov_base = &copy, .iov_len = sizeof copy };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (fd_count > 0) {
        struct cmsghdr *cmsg = (struct cmsghdr *)(void *)space;

        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * fd_count);
        msg.msg_control = space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    }
    return sendmsg(control, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof *message;
}

static _Noreturn void child_fail(const struct launch_child *child, const char *what, int os_errno)
{
    struct launch_message message = { .what = what, .os_errno = os_errno };

    (void)child_send(child->control, &message, NULL, 0);
    _exit(127);
}

/* ---- the helper ---- */

/* Sanitizers would keep the helper's books in our thread. */
#define ALONE \
    __attribute__((no_sanitize("address"), no_sanitize("undefined"), no_sanitize("thread")))

#define HELPER_STACK (16u << 10)

/* A network namespace takes as long to make as all the mounts, and the host's mounts take a grace
 * period to go, so a helper does both beside us.  It shares our memory, which saves copying it;
 * plain system calls are all that it does.  Should one fail, that may spoil our errno, and then the
 * launch fails in any case. */
struct helper {
    const struct launch_child *child;
    pid_t pid;
    int network;  /* descriptors are shared, too: here it puts the new namespace */
    int settings; /* the host's /proc/sys, which may be written to, whatever is at / by then */
    int made;     /* it counts up: 1 and an errno once it has tried that */
    int pivoted;  /* we count up to a descriptor: of the mounts from which the old root may go */
};

ALONE static bool loopback_up(void)
{
    struct ifreq req = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    int fd = (int)syscall(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool up = fd >= 0 && syscall(SYS_ioctl, fd, SIOCSIFFLAGS, &req) == 0;

    if (fd >= 0)
        (void)syscall(SYS_close, fd);
    return up;
}

ALONE static bool make_network(const struct helper *h)
{
    long made = -1;

    if (syscall(SYS_unshare, CLONE_NEWNET) == 0 && loopback_up())
        made = syscall(SYS_openat, AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (made < 0 || syscall(SYS_dup3, made, h->network, O_CLOEXEC) < 0)
        return false;
    (void)syscall(SYS_close, made);
    return true;
}

/* Best effort: each is a second line behind the filter or the cgroup. */
ALONE static void write_setting(int dirfd, const char *path, const char *value, size_t len)
{
    long fd = syscall(SYS_openat, dirfd, path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)!syscall(SYS_write, fd, value, len);
    (void)syscall(SYS_close, fd);
}

/* What is in SysV segments stays charged when nobody has them attached, and a killed program gives
 * none of it back: half of the memory at most, so that the guest can go on.  Only the machine's
 * root may say so. */
ALONE static void limit_shared_memory(int dirfd, uint64_t memory_bytes)
{
    uint64_t pages = memory_bytes / 2 / 4096;
    char digits[24];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + pages % 10);
        pages /= 10;
    } while (pages > 0);
    write_setting(dirfd, "kernel/shmall", digits + at, sizeof digits - at);
}

ALONE static void lower_limits(const struct helper *h)
{
    if (h->child->root_server)
        limit_shared_memory(h->settings, h->child->plan->memory_bytes);
    write_setting(h->settings, "user/max_inotify_instances", "64", 2);
    write_setting(h->settings, "user/max_inotify_watches", "65536", 5);
}

/* Returns what becomes its exit code: an errno. */
ALONE static int help(void *arg)
{
    const struct helper *h = arg;
    uint64_t count;

    (void)syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    count = make_network(h) ? 1 : 1 + (uint64_t)errno;
    if (syscall(SYS_write, h->made, &count, sizeof count) < 0)
        return errno;
    lower_limits(h);
    if (syscall(SYS_read, h->pivoted, &count, sizeof count) < 0 ||
        syscall(SYS_setns, (int)count, CLONE_NEWNS) < 0 ||
        syscall(SYS_umount2, "/", MNT_DETACH) < 0)
        return errno;
    return 0;
}

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if __has_feature(thread_sanitizer)
/* Which cannot follow a child that shares memory. */
static pid_t start_helper(struct helper *h, char *stack)
{
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);

    (void)stack;
    if (pid == 0)
        (void)syscall(SYS_exit_group, help(h));
    return pid;
}
#else
static pid_t start_helper(struct helper *h, char *stack)
{
    return clone(help, stack, CLONE_VM | CLONE_FILES | SIGCHLD, h);
}
#endif

static bool helper_begin(struct helper *h)
{
    static char stack[HELPER_STACK] __attribute__((aligned(16)));

    h->network = eventfd(0, EFD_CLOEXEC); /* a place */
    h->settings = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    h->made = eventfd(0, EFD_CLOEXEC);
    h->pivoted = eventfd(0, EFD_CLOEXEC);
    if (h->network < 0 || h->settings < 0 || h->made < 0 || h->pivoted < 0)
        return false;
    h->pid = start_helper(h, stack + sizeof stack);
    if (h->pid <= 0)
        return false;
    elsewhere_put(&h->child->elsewhere, h->pid);
    return true;
}

static bool helper_pivoted(const struct helper *h, int mntns_fd)
{
    const uint64_t mounts = (uint64_t)mntns_fd;

    elsewhere_end(&h->child->elsewhere, h->pid);
    return write(h->pivoted, &mounts, sizeof mounts) == (ssize_t)sizeof mounts;
}

static bool enter_network(const struct helper *h)
{
    uint64_t count;

    if (read(h->made, &count, sizeof count) != (ssize_t)sizeof count)
        return false;
    if (count > 1) {
        errno = (int)(count - 1);
        return false;
    }
    return setns(h->network, CLONE_NEWNET) == 0;
}

static bool helper_end(const struct helper *h)
{
    int status;

    while (waitpid(h->pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    return errno == 0;
}

static void set_limit(int resource, rlim_t soft, rlim_t hard)
{
    struct rlimit now;
    struct rlimit want;

    if (getrlimit((__rlimit_resource_t)resource, &now) < 0)
        return;
    want.rlim_max = MIN(hard, now.rlim_max);
    want.rlim_cur = MIN(soft, want.rlim_max);
    (void)setrlimit((__rlimit_resource_t)resource, &want);
}

static void set_limits(void)
{
    set_limit(RLIMIT_CORE, 0, 0);
    set_limit(RLIMIT_NOFILE, 4096, 65536);
    set_limit(RLIMIT_MSGQUEUE, 819200, 819200);
    set_limit(RLIMIT_SIGPENDING, 4096, 4096);
}

/* None come back at an exec. */
static bool bound_capabilities(void)
{
    int cap = 0;

    if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                     SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                     SECBIT_NO_CAP_AMBIENT_RAISE |
                                     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED) < 0)
        return false;
    while (prctl(PR_CAPBSET_DROP, cap) == 0)
        cap++;
    if (cap == 0 || errno != EINVAL) /* EINVAL: there is no such one any more */
        return false;
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return true;
}

static bool drop_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = { 0 };

    return syscall(SYS_capset, &header, data) == 0;
}

/* 0, 1 and 2 become /dev/null, the stream 3, and everything else closes at exec. */
static bool arrange_descriptors(const struct launch_child *child)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return false;
    for (int fd = 0; fd < STREAM_FD; fd++)
        if (dup2(null, fd) < 0)
            return false;
    if (dup2(child->stream, STREAM_FD) < 0)
        return false;
    return syscall(SYS_close_range, STREAM_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC) == 0;
}

static void become_inside_user(const struct launch_child *child)
{
    if (!child->root_server)
        return;
    /* The mapped identity; capabilities in the new namespace stay, since uid 0 is not mapped. */
    if (syscall(SYS_setresgid, INSIDE_ID, INSIDE_ID, INSIDE_ID) < 0 ||
        syscall(SYS_setresuid, INSIDE_ID, INSIDE_ID, INSIDE_ID) < 0)
        child_fail(child, "become the sandbox's user", errno);
}

/* What needs neither the server nor the helper, which are not done yet. */
static void confine(const struct launch_child *child)
{
    if (!bound_capabilities())
        child_fail(child, "give up all capabilities", errno);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        child_fail(child, "set no_new_privs", errno);
    if (!landlock_apply(child->landlock_abi, writable, ARRAY_LEN(writable)))
        child_fail(child, "restrict files with Landlock", errno);
}

/* The last steps, after which this process is the guest. */
static _Noreturn void become_guest(const struct launch_child *child, const struct helper *h,
                                   int guest_fd, int *fds)
{
    static char name[] = "aios-guest";
    char *argv[] = { name, NULL };
    char *envp[] = { NULL };
    struct launch_message done = { .what = NULL };

    if (!drop_capabilities())
        child_fail(child, "drop all capabilities", errno);
    /* Again: changing credentials forgets it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        child_fail(child, "ask to die with the server", errno);
    fds[LAUNCH_FD_NOTIFY] = seccomp_install(seccomp_filter());
    if (fds[LAUNCH_FD_NOTIFY] < 0)
        child_fail(child, "install the system call filter", errno);
    if (!helper_end(h))
        child_fail(child, "let go of the old root", errno);
    if (!child_send(child->control, &done, fds, LAUNCH_FD_COUNT))
        _exit(127);
    (void)syscall(SYS_execveat, guest_fd, "", argv, envp, AT_EMPTY_PATH);
    child_fail(child, "start the guest", errno);
}

/* Until the server says something, or has died.  That it would then be an end of file at `control`
 * is not so while other children, which were cloned at the same time, have its end open as well;
 * and the signal that we ask for may have been sent before we could. */
static void await_server(const struct launch_child *child)
{
    struct pollfd fds[] = { { .fd = child->control, .events = POLLIN }, { .fd = child->life[0] } };

    while (poll(fds, ARRAY_LEN(fds), -1) < 0)
        if (errno != EINTR)
            _exit(127);
    if (fds[1].revents)
        _exit(127);
}

/* What needs nothing of the parent's, while it writes the maps and makes the groups.  The cgroup
 * namespace comes later: its root is the group that we are in when it is made. */
static void make_namespaces(const struct launch_child *child, struct helper *h)
{
    if (unshare(CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        child_fail(child, "make new namespaces", errno);
    if (!helper_begin(h)) /* in these, of which it limits something */
        child_fail(child, "start a helper", errno);
    if (unshare(CLONE_NEWNS) < 0)
        child_fail(child, "make a namespace for mounts", errno);
    if (sethostname(child->plan->host_name, strlen(child->plan->host_name)) < 0)
        child_fail(child, "set the host name", errno);
}

/* They are made while we mount.  What the guest and its programs use is counted from the exec on;
 * until then only our own code runs, and only copies of saved files may be large. */
static void enter_groups(const struct launch_child *child)
{
    int fds[CGROUP_DOORS];
    size_t count = 0;
    char byte;

    await_server(child);
    if (fd_recv(child->control, &byte, 1, fds, ARRAY_LEN(fds), &count, NULL) <= 0)
        _exit(127);
    for (size_t i = 0; i < count; i++)
        if (write(fds[i], "0", 1) != 1)
            child_fail(child, "enter the cgroup", errno);
    if (byte == LAUNCH_LIMITED) {
        /* Counted per user namespace, so that sandboxes do not count each other. */
        set_limit(RLIMIT_NPROC, child->plan->pids, child->plan->pids);
        set_limit(RLIMIT_DATA, child->plan->memory_bytes, child->plan->memory_bytes);
    }
    if (unshare(CLONE_NEWCGROUP) < 0)
        child_fail(child, "make a cgroup namespace", errno);
}

/* Above what is arranged before the exec. */
static int receive_guest(const struct launch_child *child)
{
    size_t count = 0;
    int fd, high;
    char byte;

    await_server(child);
    if (fd_recv(child->control, &byte, 1, &fd, 1, &count, NULL) <= 0)
        _exit(127);
    high = count ? fcntl(fd, F_DUPFD_CLOEXEC, STREAM_FD + 1) : -1;
    if (high < 0)
        child_fail(child, "receive the guest", errno);
    return high;
}

_Noreturn void launch_child(const struct launch_child *child)
{
    static char skeleton[LAUNCH_PATH_MAX];
    const struct launch_plan *plan = child->plan;
    struct mounts_fault fault = { .what = "mounts" };
    struct mounts_ready ready = { .plan = NULL };
    struct helper helper = { .child = child };
    int fds[LAUNCH_FD_COUNT];
    int guest_fd;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)close(child->parent_ends[0]);
    (void)close(child->parent_ends[1]);
    (void)close(child->life[1]);
    (void)setsid();
    make_namespaces(child, &helper);
    await_server(child); /* the identity maps are written */
    if (recv(child->control, skeleton, sizeof skeleton - 1, 0) <= 0)
        _exit(127);
    elsewhere_end(&child->elsewhere, 0);
    if (!mounts_open(plan->mounts, skeleton, &ready, &fault))
        child_fail(child, fault.what, fault.os_errno);
    become_inside_user(child);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_DUMPABLE, 1); /* so that its own /proc files are its own */
    (void)umask(022);
    fds[LAUNCH_FD_USERNS] = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    fds[LAUNCH_FD_MNTNS] = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (fds[LAUNCH_FD_USERNS] < 0 || fds[LAUNCH_FD_MNTNS] < 0)
        child_fail(child, "open its own namespaces", errno);
    set_limits();
    if (plan->mounts->saved) /* what is copied is the sandbox's */
        enter_groups(child);
    if (!mounts_apply(&ready, &fds[LAUNCH_FD_LAYER], &fault))
        child_fail(child, fault.what, fault.os_errno);
    if (!helper_pivoted(&helper, fds[LAUNCH_FD_MNTNS]))
        child_fail(child, "ask the helper", errno);
    confine(child);
    if (!plan->mounts->saved)
        enter_groups(child);
    if (!enter_network(&helper))
        child_fail(child, "make a network with a loopback interface", errno);
    guest_fd = receive_guest(child);
    if (!arrange_descriptors(child))
        child_fail(child, "arrange the descriptors", errno);
    become_guest(child, &helper, guest_fd, fds);
}
