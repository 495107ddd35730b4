#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/loop.h"
#include "sandbox/cgroup.h"
#include "sandbox/landlock.h"
#include "sandbox/mounts.h"
#include "sandbox/seccomp.h"

#define PROBE_UID 1879048192u
#define START_NS  (10 * CLOCK_NS_PER_S)

struct doctor {
    const struct sandbox_config *config;
    void (*fn)(void *arg, const struct sandbox_check *check);
    void *arg;
};

static void tell(const struct doctor *d, const char *name, bool ok, bool required,
                 const char *detail, const char *remedy)
{
    struct sandbox_check check = { .name = name, .ok = ok, .required = required };

    (void)snprintf(check.detail, sizeof check.detail, "%s", detail);
    if (!ok)
        (void)snprintf(check.remedy, sizeof check.remedy, "%s", remedy);
    d->fn(d->arg, &check);
}

/* ---- what a child finds out in namespaces of its own ---- */

struct probe {
    int step_of_failure; /* index into probe_steps, or -1 */
    int os_errno;
};

enum probe_step { STEP_NAMESPACE, STEP_TMPFS, STEP_OVERLAY, STEP_WHITEOUT, STEP_COUNT };

/** Async-signal-safe: in a clone of a threaded program. */
static enum probe_step probe_overlay(void)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0 ||
        mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m") != 0 ||
        chdir("/tmp") != 0 || mkdir("lower", 0755) != 0 || mkdir("upper", 0755) != 0 ||
        mkdir("work", 0755) != 0 || mkdir("top", 0755) != 0 || mkdir("lower/gone", 0755) != 0)
        return STEP_TMPFS;
    if (mount("overlay", "top", "overlay", MS_NOSUID | MS_NODEV,
              "lowerdir=lower,upperdir=upper,workdir=work,userxattr") != 0)
        return STEP_OVERLAY;
    if (rmdir("top/gone") != 0 || mkdir("top/gone", 0755) != 0)
        return STEP_WHITEOUT;
    return STEP_COUNT;
}

static _Noreturn void probe_child(int go_fd, int report_fd, bool root)
{
    struct probe probe = { .step_of_failure = STEP_NAMESPACE };
    char byte;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(go_fd, &byte, 1) == 1 && (!root || (syscall(SYS_setresgid, 1000, 1000, 1000) == 0 &&
                                                 syscall(SYS_setresuid, 1000, 1000, 1000) == 0))) {
        errno = 0;
        probe.step_of_failure = (int)probe_overlay();
    }
    probe.os_errno = errno;
    (void)!write(report_fd, &probe, sizeof probe);
    _exit(0);
}

static bool write_maps(pid_t pid, const struct sandbox_config *config)
{
    bool root = geteuid() == 0;
    unsigned uid = root ? (config->host_uid ? config->host_uid : PROBE_UID) : geteuid();
    unsigned gid = root ? uid : getegid();
    char path[64], line[64];

    (void)snprintf(path, sizeof path, "/proc/%d/setgroups", (int)pid);
    if (!fd_write_file(AT_FDCWD, path, "deny", NULL))
        return false;
    (void)snprintf(path, sizeof path, "/proc/%d/gid_map", (int)pid);
    (void)snprintf(line, sizeof line, "1000 %u 1\n", gid);
    if (!fd_write_file(AT_FDCWD, path, line, NULL))
        return false;
    (void)snprintf(path, sizeof path, "/proc/%d/uid_map", (int)pid);
    (void)snprintf(line, sizeof line, "1000 %u 1\n", uid);
    return fd_write_file(AT_FDCWD, path, line, NULL);
}

/** How far a child gets in new user and mount namespaces; step STEP_COUNT: all the way. */
static struct probe probe_namespaces(const struct sandbox_config *config)
{
    struct probe probe = { .step_of_failure = STEP_NAMESPACE, .os_errno = EPERM };
    int go[2] = { -1, -1 }, report[2] = { -1, -1 };
    bool root = geteuid() == 0; /* the child cannot tell any more */
    long pid = -1;

    if (pipe2(go, O_CLOEXEC) == 0 && pipe2(report, O_CLOEXEC) == 0)
        pid = syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        probe_child(go[0], report[1], root);
    if (pid < 0) {
        probe.os_errno = errno;
    } else {
        if (write_maps((pid_t)pid, config) && write(go[1], "g", 1) == 1 &&
            read(report[0], &probe, sizeof probe) != (ssize_t)sizeof probe)
            probe = (struct probe){ STEP_NAMESPACE, EIO };
        (void)kill((pid_t)pid, SIGKILL);
        while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    for (size_t i = 0; i < 2; i++) {
        fd_close(go[i]);
        fd_close(report[i]);
    }
    return probe;
}

static void check_namespaces(const struct doctor *d)
{
    static const char *const steps[STEP_COUNT] = {
        [STEP_NAMESPACE] = "make a user namespace",
        [STEP_TMPFS] = "mount a tmpfs in it",
        [STEP_OVERLAY] = "mount an overlay in it",
        [STEP_WHITEOUT] = "replace a folder in the overlay",
    };
    struct probe probe = probe_namespaces(d->config);
    char detail[160] = "usable";
    bool userns = probe.step_of_failure > STEP_NAMESPACE;
    bool overlay = probe.step_of_failure > STEP_OVERLAY;
    bool whole = probe.step_of_failure == STEP_COUNT;

    if (!whole)
        (void)snprintf(detail, sizeof detail, "%s: %s", steps[probe.step_of_failure],
                       strerror(probe.os_errno));
    tell(d, "user namespaces", userns, true, userns ? "usable" : detail,
         "sysctl kernel.unprivileged_userns_clone=1 (Debian), "
         "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces above "
         "0; in Docker: --security-opt seccomp=unconfined");
    if (!userns)
        (void)snprintf(detail, sizeof detail, "not tried without user namespaces");
    tell(d, "overlay in a user namespace", overlay, true, overlay ? "usable" : detail,
         "a kernel of 5.13 or newer, with the overlay module loaded (modprobe overlay)");
    if (userns && !overlay)
        (void)snprintf(detail, sizeof detail, "not tried without an overlay");
    tell(d, "replacing folders in an overlay", whole, false, detail,
         "a kernel of 6.6 or newer (Debian 12: linux-image-amd64 from bookworm-backports); without "
         "it, folders of the system cannot be renamed or removed, and a snapshot is copied when it "
         "is restored or forked");
}

/* ---- single features ---- */

static void check_kernel(const struct doctor *d)
{
    struct utsname name;
    char detail[160];
    unsigned long major;
    char *rest;
    bool ok;

    (void)uname(&name);
    major = strtoul(name.release, &rest, 10);
    ok = major > 5 || (major == 5 && *rest == '.' && strtoul(rest + 1, NULL, 10) >= 13);
    (void)snprintf(detail, sizeof detail, "Linux %.100s", name.release);
    tell(d, "kernel", ok, true, detail, "5.13 or newer is needed");
}

static void check_limit(const struct doctor *d)
{
    char *text = fd_read_file(AT_FDCWD, "/proc/sys/user/max_user_namespaces", 64, NULL, NULL);
    long most = text ? strtol(text, NULL, 10) : -1;
    char detail[160];

    (void)snprintf(detail, sizeof detail, most < 0 ? "unknown" : "%ld", most);
    tell(d, "max_user_namespaces", most != 0, true, detail,
         "sysctl user.max_user_namespaces=10000");
    free(text);
}

static void check_calls(const struct doctor *d)
{
    struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                            .resolve = RESOLVE_NO_MAGICLINKS };
    int opened = (int)syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof how);
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    bool range = syscall(SYS_close_range, ~0u, ~0u, 0) == 0;
    int tree = (int)syscall(SYS_mount_setattr, -1, "", 0, NULL, (size_t)0);
    bool attributes = tree == 0 || errno != ENOSYS;
    char detail[160];

    (void)snprintf(detail, sizeof detail, "openat2 %s, pidfd %s, close_range %s, mount_setattr %s",
                   opened >= 0 ? "yes" : "no", pidfd >= 0 ? "yes" : "no", range ? "yes" : "no",
                   attributes ? "yes" : "no");
    tell(d, "system calls", opened >= 0 && pidfd >= 0 && range && attributes, true, detail,
         "a kernel of 5.13 or newer; in a container, a seccomp profile that allows them");
    fd_close(opened);
    fd_close(pidfd);
}

/** Runs on a thread of its own: a filter stays for ever. */
static void *install_filter(void *arg)
{
    int *ret = arg;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        *ret = errno;
    else {
        int fd =
            (int)syscall(SYS_seccomp, 1 /* SECCOMP_SET_MODE_FILTER */,
                         1u << 3 /* SECCOMP_FILTER_FLAG_NEW_LISTENER */,
                         &(struct sock_fprog){
                             .len = 1,
                             .filter = &(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0x7fff0000u),
                         });

        *ret = fd < 0 ? errno : 0;
        fd_close(fd);
    }
    return NULL;
}

static void check_seccomp(const struct doctor *d)
{
    pthread_t thread;
    int os_errno = EAGAIN;

    if (pthread_create(&thread, NULL, install_filter, &os_errno) == 0)
        (void)pthread_join(thread, NULL);
    tell(d, "seccomp user notification", os_errno == 0, true,
         os_errno ? strerror(os_errno) : "usable",
         "a kernel with CONFIG_SECCOMP_FILTER, 5.0 or newer");
}

static void check_landlock(const struct doctor *d)
{
    int abi = landlock_abi();
    char detail[160];

    (void)snprintf(detail, sizeof detail, abi > 0 ? "Landlock ABI %d" : "not there", abi);
    tell(d, "Landlock", abi > 0, false, detail,
         "add landlock to the kernel's lsm= parameter; mounts and the system call filter hold "
         "without it");
}

static void check_cgroups(const struct doctor *d)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep)
    struct cgroup_host *host = cgroup_host_new(d->config->cgroup, "doctor", &err);
    bool real = host && cgroup_host_mode(host) != SANDBOX_CGROUP_NONE;

    tell(d, "cgroups", real, d->config->cgroup != SANDBOX_CGROUP_AUTO && !host,
         host ? cgroup_host_describe(host) : err.text,
         "limits of memory and processes are kept by resource limits and watching, CPU limits not "
         "at all; run as root, or with systemd-run --user --scope -p Delegate=yes");
}

static void check_idmap(const struct doctor *d)
{
    struct error err = ERROR_INIT;
    const char *state = d->config->state_dir;
    int fd;

    if (geteuid() != 0) {
        tell(d, "id-mapped mounts", true, false, "not needed: the server is not root", "");
        return;
    }
    fd = mounts_idmap(access(state, X_OK) == 0 ? state : "/",
                      d->config->host_uid ? d->config->host_uid : PROBE_UID,
                      d->config->host_uid ? d->config->host_uid : PROBE_UID, &err);
    tell(d, "id-mapped mounts", fd >= 0, false, fd >= 0 ? "usable" : err.text,
         "folders of the host can be shared only from file systems that have them (ext4, xfs, "
         "btrfs, tmpfs on a kernel of 6.3)");
    fd_close(fd);
}

/* ---- the whole thing ---- */

struct loop_runner {
    struct loop *loop;
    pthread_barrier_t made;
    struct error err;
};

/** The loop's owner is whoever made it. */
static void *run_loop(void *arg)
{
    struct loop_runner *runner = arg;
    struct loop *loop = loop_new(&runner->err);

    runner->loop = loop;
    (void)pthread_barrier_wait(&runner->made);
    if (loop) {
        loop_run(loop);
        loop_free(loop);
    }
    return NULL;
}

static void stop_loop(struct loop_post *post)
{
    struct loop_runner *runner = *(struct loop_runner **)(void *)(post + 1);

    loop_stop(runner->loop);
}

static bool start_one(const struct sandbox_config *config, struct loop *loop, int64_t *ret_ns,
                      struct error *err)
{
    struct sandbox_config own = *config;
    const struct computer_spec spec = { .pids = 0 };
    const struct computer_hooks hooks = { .loop = loop };
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), START_NS) };
    int64_t begun_ns;
    struct computer_backend *b;
    struct computer *c;

    own.loop = loop;
    own.pool_size = 0;
    b = sandbox_backend_new(&own, err);
    if (!b)
        return false;
    begun_ns = clock_now_ns();
    c = b->create(b, &spec, NULL, &hooks, &w, err);
    *ret_ns = clock_now_ns() - begun_ns;
    computer_unref(c);
    b->free(b);
    return c != NULL;
}

static void check_start(const struct doctor *d)
{
    struct loop_runner runner = { .loop = NULL, .err = ERROR_INIT };
    struct {
        struct loop_post post;
        struct loop_runner *runner;
    } stop = { .runner = &runner };
    struct error err = ERROR_INIT;
    int64_t took_ns = 0;
    pthread_t thread;
    char detail[160];
    bool ok = false;

    if (!d->config->guest_image) {
        tell(d, "a sandbox", false, true, "no guest program", "rebuild the program");
        return;
    }
    if (pthread_barrier_init(&runner.made, NULL, 2) != 0 ||
        pthread_create(&thread, NULL, run_loop, &runner) != 0) {
        tell(d, "a sandbox", false, true, "no thread can be made", "raise the limit of processes");
        return;
    }
    (void)pthread_barrier_wait(&runner.made);
    if (runner.loop) {
        ok = start_one(d->config, runner.loop, &took_ns, &err);
        loop_post(runner.loop, &stop.post, stop_loop);
    }
    (void)pthread_join(thread, NULL);
    (void)pthread_barrier_destroy(&runner.made);
    if (ok)
        (void)snprintf(detail, sizeof detail, "starts in %.1f ms", (double)took_ns / 1e6);
    else
        (void)snprintf(detail, sizeof detail, "%.159s", runner.loop ? err.text : runner.err.text);
    tell(d, "a sandbox", ok, true, detail, "see the checks above");
}

void sandbox_probe(const struct sandbox_config *config,
                   void (*fn)(void *arg, const struct sandbox_check *check), void *arg)
{
    const struct doctor d = { .config = config, .fn = fn, .arg = arg };

    check_kernel(&d);
    check_namespaces(&d);
    check_limit(&d);
    check_calls(&d);
    check_seccomp(&d);
    check_landlock(&d);
    check_cgroups(&d);
    check_idmap(&d);
    check_start(&d);
}
