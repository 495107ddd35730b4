/* Attempts against other processes, namespaces and the way into the kernel. */
#include "tests/hostile/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define X32_BIT         0x40000000L
#define I386_GETPID     20
#define PR_SCHED_CORE_  62
#define PR_SCHED_CREATE 1
#define PR_SET_MM_ARG   8

/* ---- namespaces ---- */

static int clone_with(unsigned long flags)
{
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);

    if (pid == 0)
        _exit(0);
    if (pid < 0)
        return errno;
    (void)waitpid((pid_t)pid, NULL, 0);
    return 0;
}

#define CLONE_TRY(name, flag)    \
    static int name(void)        \
    {                            \
        return clone_with(flag); \
    }

CLONE_TRY(clone_plain, 0)
CLONE_TRY(clone_user, CLONE_NEWUSER)
CLONE_TRY(clone_mount, CLONE_NEWNS)
CLONE_TRY(clone_pid, CLONE_NEWPID)
CLONE_TRY(clone_net, CLONE_NEWNET)
CLONE_TRY(clone_ipc, CLONE_NEWIPC)
CLONE_TRY(clone_uts, CLONE_NEWUTS)
CLONE_TRY(clone_cgroup, CLONE_NEWCGROUP)
CLONE_TRY(clone_user_high, CLONE_NEWUSER | (1UL << 40))

static int enter(const char *path, int kind)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd < 0 ? errno : probe_result(setns(fd, kind));
}

static int setns_own_user(void)
{
    return enter("/proc/self/ns/user", CLONE_NEWUSER);
}

static int setns_init_mount(void)
{
    return enter("/proc/1/ns/mnt", CLONE_NEWNS);
}

static int setns_pidfd(void)
{
    int fd = (int)syscall(SYS_pidfd_open, 1, 0);

    return fd < 0 ? errno : probe_result(setns(fd, CLONE_NEWNS | CLONE_NEWNET));
}

static int write_to(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 ? errno : probe_result(write(fd, text, strlen(text)));
}

static int uid_map(void)
{
    return write_to("/proc/self/uid_map", "0 0 1\n");
}

static int gid_map(void)
{
    return write_to("/proc/self/gid_map", "0 0 1\n");
}

static int setgroups_allow(void)
{
    return write_to("/proc/self/setgroups", "allow");
}

static int timens_offsets(void)
{
    return write_to("/proc/self/timens_offsets", "monotonic 1000 0\n");
}

/* ---- other processes ---- */

static int ptrace_parent(void)
{
    return probe_result(ptrace(PTRACE_SEIZE, getppid(), 0, 0));
}

static int ptrace_init(void)
{
    return probe_result(ptrace(PTRACE_SEIZE, 1, 0, 0));
}

static int vm_copy(long number, pid_t pid)
{
    char byte = 0;
    struct iovec local = { &byte, 1 };
    struct iovec remote = { &byte, 1 };

    return probe_result(syscall(number, pid, &local, 1, &remote, 1, 0));
}

static int vm_readv_parent(void)
{
    return vm_copy(SYS_process_vm_readv, getppid());
}

static int vm_writev_parent(void)
{
    return vm_copy(SYS_process_vm_writev, getppid());
}

static int vm_readv_self(void)
{
    return vm_copy(SYS_process_vm_readv, getpid());
}

static int getfd_of(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd < 0 ? errno : probe_result(syscall(SYS_pidfd_getfd, fd, 0, 0));
}

static int getfd_parent(void)
{
    return getfd_of(getppid());
}

static int getfd_init(void)
{
    return getfd_of(1);
}

static int kcmp_parent(void)
{
    return probe_result(syscall(SYS_kcmp, getpid(), getppid(), KCMP_VM, 0, 0));
}

static int pidfd_of_host_pid(void)
{
    /* No sandbox has as many processes as this number says. */
    return probe_result(syscall(SYS_pidfd_open, 4000000, 0));
}

static int kill_host_pid(void)
{
    return probe_result(kill(4000000, 0));
}

static int tgkill_host_pid(void)
{
    return probe_result(syscall(SYS_tgkill, 4000000, 4000000, 0));
}

static int raise_priority(void)
{
    return probe_result(setpriority(PRIO_PROCESS, 0, -5));
}

static int realtime(void)
{
    const struct sched_param param = { .sched_priority = 1 };

    return probe_result(sched_setscheduler(0, SCHED_FIFO, &param));
}

static int raise_core_limit(void)
{
    const struct rlimit limit = { 1, 1 };

    return probe_result(setrlimit(RLIMIT_CORE, &limit));
}

static int become_root(void)
{
    return probe_result(setresuid(0, 0, 0));
}

static int drop_groups(void)
{
    return probe_result(syscall(SYS_setgroups, 0, NULL));
}

static int set_mm(void)
{
    return probe_result(prctl(PR_SET_MM, PR_SET_MM_ARG, 0x10000, 0, 0));
}

static int core_cookie(void)
{
    return probe_result(prctl(PR_SCHED_CORE_, PR_SCHED_CREATE, 0, 0, 0));
}

static int seccomp_listener(void)
{
    return probe_result(
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, NULL));
}

static int no_new_privs_off(void)
{
    return probe_result(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

/* ---- ways into the kernel that no filter for x86-64 would see ---- */

static int int80(void)
{
    long rc;

    __asm__ volatile("int $0x80"
                     : "=a"(rc)
                     : "a"((long)I386_GETPID)
                     : "memory", "r8", "r9", "r10", "r11");
    probe_detail("%ld", rc);
    return 0;
}

static int x32(void)
{
    return probe_result(syscall(X32_BIT | SYS_getpid));
}

static int x32_mount(void)
{
    return probe_result(syscall(X32_BIT | SYS_mount, 0, 0, 0, 0, 0));
}

/* Allowed: who may write a file and run it gains nothing from a file without a name. */
static int memfd_exec(void)
{
    static const char script[] = "#!/bin/sh\nexit 7\n";
    char *argv[] = { (char *)(uintptr_t) "x", NULL };
    char *envp[] = { NULL };
    int fd = memfd_create("probe", 0);
    int status = 0;
    pid_t pid;

    if (fd < 0 || write(fd, script, sizeof script - 1) < 0)
        return errno;
    pid = fork();
    if (pid == 0) {
        (void)syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
        _exit(errno == 0 ? 1 : 2);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return errno;
    probe_detail("exit %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return 0;
}

const struct probe_try probe_tries_process[] = {
    { "clone-plain", clone_plain },
    { "clone-user", clone_user },
    { "clone-mount", clone_mount },
    { "clone-pid", clone_pid },
    { "clone-net", clone_net },
    { "clone-ipc", clone_ipc },
    { "clone-uts", clone_uts },
    { "clone-cgroup", clone_cgroup },
    { "clone-user-high", clone_user_high },
    { "setns-own-user", setns_own_user },
    { "setns-init-mount", setns_init_mount },
    { "setns-pidfd", setns_pidfd },
    { "uid_map", uid_map },
    { "gid_map", gid_map },
    { "setgroups-allow", setgroups_allow },
    { "timens_offsets", timens_offsets },
    { "ptrace-parent", ptrace_parent },
    { "ptrace-init", ptrace_init },
    { "vm-readv-parent", vm_readv_parent },
    { "vm-writev-parent", vm_writev_parent },
    { "vm-readv-self", vm_readv_self },
    { "pidfd_getfd-parent", getfd_parent },
    { "pidfd_getfd-init", getfd_init },
    { "kcmp-parent", kcmp_parent },
    { "pidfd-host-pid", pidfd_of_host_pid },
    { "kill-host-pid", kill_host_pid },
    { "tgkill-host-pid", tgkill_host_pid },
    { "raise-priority", raise_priority },
    { "realtime", realtime },
    { "raise-core-limit", raise_core_limit },
    { "become-root", become_root },
    { "drop-groups", drop_groups },
    { "prctl-set-mm", set_mm },
    { "prctl-core-cookie", core_cookie },
    { "seccomp-listener", seccomp_listener },
    { "no_new_privs-off", no_new_privs_off },
    { "int80", int80 },
    { "x32-getpid", x32 },
    { "x32-mount", x32_mount },
    { "memfd-exec", memfd_exec },
    { NULL },
};
