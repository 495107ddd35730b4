#include "sandbox/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/list.h"
#include "sandbox/landlock.h"
#include "sandbox/launch_child.h"

/* The child makes the others itself, while we go on. */
#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID)

/* One clone to be made; lives on the asking thread's stack. */
struct launch_job {
    struct list link;
    const struct launch_child *child;
    pid_t pid;
    int pidfd;
    struct error error;
    bool ok, finished;
};

struct launcher {
    struct loop *loop; /* constant, as are the two below */
    int landlock_abi;
    bool root;   /* the server is root */
    bool bare;   /* the loop's thread has no supplementary groups any more */
    int life[2]; /* constant: a pipe whose end of file tells children that this process has died */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t work;  /* for the thread: a job, or the end */
    pthread_cond_t done;  /* for the askers */
    struct list jobs;
    bool running, stopping;
    pthread_t thread;
};

/* ---- the launcher thread ---- */

static long clone_child(const struct launch_plan *plan, int *ret_pidfd)
{
    int cgroup_fd = plan->cgroup ? cgroup_clone_fd(plan->cgroup) : -1;
    struct clone_args args;

    if (cgroup_fd < 0)
        return syscall(SYS_clone, NAMESPACES | CLONE_PIDFD | SIGCHLD, NULL, ret_pidfd, NULL, NULL);
    memset(&args, 0, sizeof args);
    args.flags = NAMESPACES | CLONE_PIDFD | CLONE_INTO_CGROUP;
    args.pidfd = (uint64_t)(uintptr_t)ret_pidfd;
    args.exit_signal = SIGCHLD;
    args.cgroup = (uint64_t)cgroup_fd;
    return syscall(SYS_clone3, &args, sizeof args);
}

/* All signals are blocked: the child must run none of our handlers, and the guest blocks them, too.
 */
static void run_job(struct launch_job *job)
{
    long pid = clone_child(job->child->plan, &job->pidfd);

    if (pid == 0)
        launch_child(job->child);
    if (pid < 0) {
        int saved = errno;

        if (saved == EPERM || saved == ENOSPC || saved == EUSERS)
            error_set(
                &job->error, ERR_UNSUPPORTED,
                "clone with new namespaces: %s; user namespaces are switched off or used up: see "
                "/proc/sys/user/max_user_namespaces and kernel.unprivileged_userns_clone",
                strerror(saved));
        else
            error_set_errno(&job->error, saved, "clone with new namespaces");
        return;
    }
    job->pid = (pid_t)pid;
    job->ok = true;
}

/* Groups are a thread's own below the C library, and a child's for ever once it is in its user
 * namespace: none are handed on. */
static void drop_groups(const struct launcher *l)
{
    if (l->root)
        (void)syscall(SYS_setgroups, 0, NULL);
}

static void *launcher_main(void *arg)
{
    struct launcher *l = arg;

    (void)prctl(PR_SET_NAME, "aios-launcher");
    drop_groups(l);
    pthread_mutex_lock(&l->lock);
    for (;;) {
        struct launch_job *job;

        while (list_empty(&l->jobs) && !l->stopping)
            pthread_cond_wait(&l->work, &l->lock);
        if (list_empty(&l->jobs))
            break;
        job = LIST_ENTRY(l->jobs.next, struct launch_job, link);
        list_remove(&job->link);
        pthread_mutex_unlock(&l->lock);
        run_job(job);
        pthread_mutex_lock(&l->lock);
        job->finished = true;
        pthread_cond_broadcast(&l->done);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static bool launcher_start_locked(struct launcher *l, struct error *err)
{
    sigset_t all;
    sigset_t old;
    int rc;

    if (l->running)
        return true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&l->thread, NULL, launcher_main, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return error_set_errno(err, rc, "start the launcher thread");
    l->running = true;
    return true;
}

struct launcher *launcher_new(struct loop *loop, struct error *err)
{
    struct launcher *l = calloc(1, sizeof *l);

    if (!l) {
        error_set(err, ERR_NOMEM, "a launcher");
        return NULL;
    }
    if (pipe2(l->life, O_CLOEXEC) < 0) {
        error_set_errno(err, errno, "a pipe");
        free(l);
        return NULL;
    }
    l->loop = loop;
    l->landlock_abi = landlock_abi();
    l->root = geteuid() == 0;
    pthread_mutex_init(&l->lock, NULL);
    cond_init(&l->work);
    cond_init(&l->done);
    list_init(&l->jobs);
    return l;
}

void launcher_free(struct launcher *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->lock);
    if (l->running)
        pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->done);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    fd_close(l->life[0]);
    fd_close(l->life[1]);
    free(l);
}

/* It needs a millisecond at most, so this is not interrupted. */
static bool hand_to_launcher(struct launcher *l, struct launch_job *job, struct error *err)
{
    pthread_mutex_lock(&l->lock);
    if (!launcher_start_locked(l, err)) {
        pthread_mutex_unlock(&l->lock);
        return false;
    }
    list_append(&l->jobs, &job->link);
    pthread_cond_signal(&l->work);
    while (!job->finished)
        pthread_cond_wait(&l->done, &l->lock);
    pthread_mutex_unlock(&l->lock);
    return true;
}

static bool clone_somewhere(struct launcher *l, struct launch_job *job, struct error *err)
{
    if (loop_is_owner(l->loop)) {
        sigset_t all, old;

        if (!l->bare)
            drop_groups(l);
        l->bare = true;
        sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &old);
        run_job(job);
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    } else if (!hand_to_launcher(l, job, err)) {
        return false;
    }
    if (job->ok) {
        elsewhere_put(&job->child->elsewhere, job->pid);
        return true;
    }
    if (err)
        *err = job->error;
    return false;
}

/* ---- the asking thread ---- */

static bool write_maps(pid_t pid, const struct launch_plan *plan, struct error *err)
{
    char path[64];
    char line[64];

    snprintf(path, sizeof path, "/proc/%d/setgroups", pid);
    if (!fd_write_file(AT_FDCWD, path, "deny", err))
        return false;
    snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
    snprintf(line, sizeof line, "1000 %u 1\n", plan->host_gid);
    if (!fd_write_file(AT_FDCWD, path, line, err))
        return false;
    snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
    snprintf(line, sizeof line, "1000 %u 1\n", plan->host_uid);
    return fd_write_file(AT_FDCWD, path, line, err);
}

/* Wait until the child says something.  Cancelling is looked at every 50 ms; a launch takes two.
 * On the loop's thread it is the loop that hears of it. */
static bool wait_readable(const struct launch *launch, const struct wait *w, struct error *err)
{
    struct loop *loop = launch->launcher->loop;

    for (;;) {
        struct pollfd p = { .fd = launch->control, .events = POLLIN };
        int rc;

        if (!wait_check(w, err))
            return false;
        rc = poll(&p, 1, clock_left_ms(w->deadline_ns, 50));
        if (rc > 0)
            return true;
        if (rc < 0 && errno != EINTR)
            return error_set_errno(err, errno, "wait for the sandbox");
        if (loop_is_owner(loop))
            loop_turn(loop, 0);
    }
}

static bool child_fault(const struct launch_message *message, struct error *err)
{
    const char *advice = "";

    if (message->os_errno == EPERM || message->os_errno == EACCES)
        advice = "; the kernel or an outer container does not allow it: see `aios doctor`";
    else if (message->os_errno == ENOSYS || message->os_errno == ENODEV ||
             message->os_errno == EINVAL)
        advice = "; this kernel may lack the feature: see `aios doctor`";
    else if (message->os_errno == ENOSPC)
        advice = "; no more namespaces are to be had: see the limits in /proc/sys/user";
    return error_set(err, ERR_UNSUPPORTED, "%s: %s%s", message->what, strerror(message->os_errno),
                     advice);
}

/* What the child says, with room for its descriptors (@fds may be NULL).  One that ends with
 * something of ours unread leaves an error to be read before what it said last. */
static ssize_t hear(const struct launch *launch, struct launch_message *ret, int *fds,
                    size_t *ret_count, struct error *err)
{
    struct error why = ERROR_INIT;
    size_t most = fds ? LAUNCH_FD_COUNT : 0;
    ssize_t n = fd_recv(launch->control, ret, sizeof *ret, fds, most, ret_count, &why);

    if (n < 0 && why.os_errno == ECONNRESET) {
        error_clear(&why);
        n = fd_recv(launch->control, ret, sizeof *ret, fds, most, ret_count, &why);
    }
    if (n < 0 && err)
        *err = why;
    return n;
}

/* The child's report with its descriptors, then the end of file that a successful exec is. */
static bool await_guest(const struct launch *launch, int fds[LAUNCH_FD_COUNT], const struct wait *w,
                        struct error *err)
{
    struct launch_message message;
    size_t fd_count = 0;
    ssize_t n;

    if (!wait_readable(launch, w, err))
        return false;
    n = hear(launch, &message, fds, &fd_count, err);
    if (n < 0)
        return false;
    if (n != (ssize_t)sizeof message)
        return error_set(err, ERR_LOST, "the sandbox died while it was set up (out of memory?)");
    if (message.what)
        return child_fault(&message, err);
    if (fd_count != LAUNCH_FD_COUNT) {
        for (size_t i = 0; i < fd_count; i++)
            fd_close(fds[i]);
        return error_set(err, ERR_LIMIT, "too many open files to set up a sandbox");
    }
    if (wait_readable(launch, w, err)) {
        n = hear(launch, &message, NULL, NULL, err);
        if (n == 0)
            return true;
        if (n == (ssize_t)sizeof message)
            (void)child_fault(&message, err);
    }
    for (size_t i = 0; i < LAUNCH_FD_COUNT; i++)
        fd_close(fds[i]);
    return false;
}

static void end_child(int pidfd)
{
    siginfo_t info;

    (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    fd_close(pidfd);
}

bool launch_begin(struct launch *launch, struct launcher *l, const struct launch_plan *plan,
                  struct error *err)
{
    struct launch_child child = { .plan = plan };
    struct launch_job job = { .child = &child, .pidfd = -1 };
    int control[2];
    int stream[2];
    bool ok;

    if (plan->host_uid == 0 || plan->host_gid == 0)
        return error_set(err, ERR_INVALID,
                         "a sandbox is never mapped to the host's root; set sandbox.host_uid to an "
                         "unused uid");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
        return error_set_errno(err, errno, "a socket pair");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, stream) < 0) {
        fd_close(control[0]);
        fd_close(control[1]);
        return error_set_errno(err, errno, "a socket pair");
    }
    list_init(&job.link);
    child.control = control[1];
    child.stream = stream[1];
    child.parent_ends[0] = control[0];
    child.parent_ends[1] = stream[0];
    child.life[0] = l->life[0];
    child.life[1] = l->life[1];
    child.root_server = l->root;
    child.landlock_abi = l->landlock_abi;
    elsewhere_look(&child.elsewhere);
    ok = clone_somewhere(l, &job, err);
    fd_close(control[1]);
    fd_close(stream[1]);
    if (!ok) {
        fd_close(control[0]);
        fd_close(stream[0]);
        return false;
    }
    *launch = (struct launch){
        .launcher = l,
        .plan = plan,
        .grouped = plan->cgroup != NULL,
        .pid = job.pid,
        .pidfd = job.pidfd,
        .control = control[0],
        .stream = stream[0],
    };
    return true;
}

/* The child does not listen: it may have said why. */
static bool why_gone(const struct launch *launch, const struct error *why, struct error *err)
{
    struct launch_message message;

    for (int i = 0; i < 2; i++) /* the error, and then what it said: see hear() */
        if (recv(launch->control, &message, sizeof message, MSG_DONTWAIT) ==
                (ssize_t)sizeof message &&
            message.what)
            return child_fault(&message, err);
    if (err)
        *err = *why;
    return false;
}

bool launch_go(struct launch *launch, const char *skeleton, struct error *err)
{
    size_t len = strlen(skeleton) + 1;
    struct error why = ERROR_INIT;
    bool ok;

    if (len > LAUNCH_PATH_MAX)
        return error_set(err, ERR_INVALID, "the path of the cache folder is too long");
    ok = write_maps(launch->pid, launch->plan, &why);
    if (ok && send(launch->control, skeleton, len, MSG_NOSIGNAL) != (ssize_t)len)
        ok = error_set_errno(&why, errno, "start the sandbox's setup");
    (void)sched_yield(); /* to the child's helper: what else is to be done here has time */
    return ok || why_gone(launch, &why, err);
}

bool launch_enter(struct launch *launch, struct error *err)
{
    const char how = launch->plan->resource_limits ? LAUNCH_LIMITED : LAUNCH_GROUPED;
    struct error why = ERROR_INIT;
    int fds[CGROUP_DOORS];
    size_t count;
    bool ok;

    if (!launch->grouped && cgroup_clone_fd(launch->plan->cgroup) >= 0)
        return error_set(err, ERR_UNSUPPORTED,
                         "the sandbox was cloned before its group was there; set sandbox.cgroup to "
                         "\"v2\"");
    if (!cgroup_open_doors(launch->plan->cgroup, fds, &count, err))
        return false;
    ok = fd_send(launch->control, &how, 1, fds, count, &why);
    (void)sched_yield(); /* to the helper, if it was not there yet */
    for (size_t i = 0; i < count; i++)
        fd_close(fds[i]);
    return ok || why_gone(launch, &why, err);
}

bool launch_guest(struct launch *launch, int guest_fd, struct error *err)
{
    struct error why = ERROR_INIT;

    return fd_send(launch->control, "", 1, &guest_fd, 1, &why) || why_gone(launch, &why, err);
}

bool launch_end(struct launch *launch, struct launch_result *ret, const struct wait *w,
                struct error *err)
{
    int fds[LAUNCH_FD_COUNT];

    if (!await_guest(launch, fds, w, err))
        return false;
    fd_close(launch->control);
    *ret = (struct launch_result){
        .pid = launch->pid,
        .pidfd = launch->pidfd,
        .stream = launch->stream,
        .notify_fd = fds[LAUNCH_FD_NOTIFY],
        .layer_fd = fds[LAUNCH_FD_LAYER],
        .userns_fd = fds[LAUNCH_FD_USERNS],
        .mntns_fd = fds[LAUNCH_FD_MNTNS],
    };
    return true;
}

void launch_cancel(struct launch *launch)
{
    end_child(launch->pidfd);
    fd_close(launch->control);
    fd_close(launch->stream);
}
