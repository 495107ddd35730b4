#include "sandbox/box.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/limits.h"
#include "kernel/base/log.h"
#include "kernel/base/pages.h"

#define END_NS          (1500 * CLOCK_NS_PER_MS)
#define FREEZE_NS       (2 * CLOCK_NS_PER_S)
#define FULL_BYTES      (64u << 10) /* a disk with less than this free is full */
#define FULL_INODES     8u
#define BYTES_PER_INODE 4096u
#define INODES_MIN      4096u

struct box {
    struct computer base; /* first: computer.c frees it */
    struct backend *b;
    struct cgroup *group;
    struct notify_watch *watch;
    struct checkpoint_hold hold;
    char *root; /* of its image; NULL: the host's system */
    char *usr;  /* below that */
    struct launch_result run;
    uint64_t disk_bytes;
    bool launched;
    bool paused_by_group, paused_by_guest;
};

static struct box *box_of(struct computer *c)
{
    return CONTAINER_OF(c, struct box, base);
}

/* ---- the end ---- */

static bool has_ended(const struct box *box, int wait_ms)
{
    struct pollfd p = { .fd = box->run.pidfd, .events = POLLIN };

    return poll(&p, 1, wait_ms) > 0;
}

void box_kill(struct computer *c)
{
    struct box *box = box_of(c);

    if (box->launched)
        (void)syscall(SYS_pidfd_send_signal, box->run.pidfd, SIGKILL, NULL, 0);
}

bool box_alive(struct computer *c)
{
    struct box *box = box_of(c);
    struct guest *guest = computer_guest(c);

    return guest && !guest_lost(guest) && !has_ended(box, 0);
}

/** Wait for the kernel to have ended every process inside: PID 1 goes last. */
static void await_end(struct box *box)
{
    int64_t deadline_ns = clock_add_ns(clock_now_ns(), END_NS);
    bool ended = false;

    while (!ended) {
        int left_ms = clock_left_ms(deadline_ns, (int)(END_NS / CLOCK_NS_PER_MS));

        ended = has_ended(box, left_ms);
        if (!left_ms)
            break;
    }
    if (!ended)
        log_line(LOG_WARN, "sandbox", "event=still_ending pid=%d", (int)box->run.pid);
}

/** While we have them, the mounts do not go with the last process but with us, after it. */
static void close_namespaces(struct box *box)
{
    fd_close(box->run.mntns_fd);
    fd_close(box->run.userns_fd);
    box->run.mntns_fd = box->run.userns_fd = -1;
}

/** End it and release all but the struct itself and the common part. */
static void release(struct box *box)
{
    struct backend *b = box->b;
    siginfo_t info;

    if (box->launched) {
        fd_close(box->run.layer_fd);
        close_namespaces(box);
        box_kill(&box->base);
    }
    /* While it ends. */
    notify_remove(box->watch);
    fd_close(box->run.notify_fd);
    fd_close(box->run.stream);
    if (box->launched) {
        if (computer_spec(&box->base)->brief)
            pages_let_go(); /* whoever made it may well end with it */
        await_end(box);
    }
    /* Before the process is reaped: its number stays taken while the watcher may look at it. */
    cgroup_free(box->group);
    if (box->launched) {
        (void)waitid((idtype_t)P_PIDFD, (id_t)box->run.pidfd, &info, WEXITED | WNOHANG);
        fd_close(box->run.pidfd);
        box->launched = false;
    }
    if (box->hold.count)
        checkpoint_release(b->checkpoints, &box->hold);
    free(box->root);
    free(box->usr);
    atomic_fetch_sub(&b->live, 1);
}

static void box_destroy(struct computer *c)
{
    release(box_of(c));
}

/* ---- standing still ---- */

static int64_t freeze_deadline(const struct wait *w)
{
    return MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), FREEZE_NS));
}

/** @brief: for moments; a freezer of version 1 would keep even SIGKILL from working. */
static bool stand_still(struct box *box, bool brief, const struct wait *w, struct error *err)
{
    bool freezer = brief || cgroup_host_mode(box->b->groups) == SANDBOX_CGROUP_V2;

    if (freezer && cgroup_freeze(box->group, true, freeze_deadline(w))) {
        box->paused_by_group = true;
        return true;
    }
    if (!guest_freeze(computer_guest(&box->base), w, err))
        return false;
    box->paused_by_guest = true;
    return true;
}

static bool go_on(struct box *box, const struct wait *w, struct error *err)
{
    if (box->paused_by_group) {
        if (!cgroup_freeze(box->group, false, freeze_deadline(w)))
            return error_set(err, ERR_TIMEOUT, "the sandbox does not thaw");
        box->paused_by_group = false;
    }
    if (box->paused_by_guest) {
        if (!guest_thaw(computer_guest(&box->base), w, err))
            return false;
        box->paused_by_guest = false;
    }
    return true;
}

static bool box_pause(struct computer *c, const struct wait *w, struct error *err)
{
    struct box *box = box_of(c);

    return box->paused_by_group || box->paused_by_guest || stand_still(box, false, w, err);
}

static bool box_resume(struct computer *c, const struct wait *w, struct error *err)
{
    return go_on(box_of(c), w, err);
}

static bool box_checkpoint(struct computer *c, const char *id, const struct wait *w,
                           struct error *err)
{
    struct box *box = box_of(c);
    struct checkpoint_source source = {
        .layer_fd = box->run.layer_fd,
        .userns_fd = box->run.userns_fd,
        .mntns_fd = box->run.mntns_fd,
        .hold = &box->hold,
        .max_bytes = box->disk_bytes * (box->hold.count >= MOUNTS_LOWERS_MAX ? 2 : 1),
    };
    bool was_paused = box->paused_by_group || box->paused_by_guest;
    bool ok;

    if (!was_paused && !stand_still(box, true, w, err))
        return error_prefix(err, "hold the programs");
    ok = checkpoint_save(box->b->checkpoints, id, &source, w, err);
    if (!was_paused) {
        /* Whatever became of the copy, and however late it is, the programs go on. */
        const struct wait again = { .deadline_ns = clock_add_ns(clock_now_ns(), FREEZE_NS) };
        struct error thaw = ERROR_INIT;

        if (!go_on(box, &again, &thaw)) {
            if (ok)
                (void)!checkpoint_remove(box->b->checkpoints, id, NULL);
            return ok ? error_set(err, thaw.code, "let the programs go on: %s", thaw.text) : false;
        }
    }
    return ok;
}

/* ---- figures ---- */

static bool box_usage(struct computer *c, struct computer_usage *ret, struct error *err)
{
    struct box *box = box_of(c);
    struct computer_usage usage = { .pids = 0 };
    struct statvfs disk;

    cgroup_usage(box->group, box->run.pid, &usage);
    if (fstatvfs(box->run.layer_fd, &disk) != 0)
        return error_set_errno(err, errno, "look at the sandbox's disk");
    usage.disk_bytes = (uint64_t)(disk.f_blocks - disk.f_bfree) * disk.f_frsize;
    *ret = usage;
    return true;
}

static void box_strikes(struct computer *c, struct computer_strikes *ret)
{
    struct box *box = box_of(c);
    struct statvfs disk;

    *ret = (struct computer_strikes){ .oom = 0 };
    cgroup_strikes(box->group, ret);
    ret->disk_full =
        fstatvfs(box->run.layer_fd, &disk) == 0 &&
        ((uint64_t)disk.f_bfree * disk.f_frsize < FULL_BYTES || disk.f_ffree < FULL_INODES);
}

static const struct computer_ops ops = {
    .kind = "sandbox",
    .pause = box_pause,
    .resume = box_resume,
    .checkpoint = box_checkpoint,
    .usage = box_usage,
    .strikes = box_strikes,
    .destroy = box_destroy,
};

/* ---- the beginning ---- */

static void on_refused(void *arg, const char *name, const char *text, uint32_t pid)
{
    struct box *box = arg;

    computer_report_refusal(&box->base, name, text, pid);
}

static void close_dirs(struct mounts_plan *plan)
{
    for (size_t i = 0; i < plan->dir_count; i++)
        fd_close(plan->dirs[i].idmap_fd);
}

static bool plan_dirs(const struct backend *b, const struct computer_spec *spec,
                      struct mounts_plan *plan, struct error *err)
{
    bool root = geteuid() == 0;

    for (size_t i = 0; i < spec->dir_count; i++) {
        struct mounts_dir *dir = &plan->dirs[i];

        dir->path = spec->dirs[i].path;
        dir->writable = spec->dirs[i].writable;
        dir->idmap_fd = root ? mounts_idmap(dir->path, b->host_uid, b->host_gid, err) : -1;
        if (root && dir->idmap_fd < 0)
            return error_prefix(err, "share %s", dir->path);
        plan->dir_count++;
    }
    return true;
}

static struct mounts_plan *make_plan(const struct backend *b, const struct box *box,
                                     const struct computer_spec *spec, struct error *err)
{
    struct mounts_plan *plan = calloc(1, sizeof *plan);

    if (!plan) {
        error_set(err, ERR_NOMEM, "mount plan");
        return NULL;
    }
    plan->stage = b->stage;
    plan->usr = box->usr ? box->usr : "/usr";
    plan->disk_bytes = spec->disk_bytes;
    plan->inodes = MAX(spec->disk_bytes / BYTES_PER_INODE, INODES_MIN);
    plan->alone = !mounts_opaque();
    for (size_t i = 0; !plan->alone && i < box->hold.count; i++) {
        plan->lower[plan->lower_count++] = box->hold.layers[i].path;
    }
    if (!plan_dirs(b, spec, plan, err)) {
        close_dirs(plan);
        free(plan);
        return NULL;
    }
    return plan;
}

/** The computer's groups, if they are not there yet; @plan tells the child of them. */
static bool make_group(struct box *box, const struct cgroup_limits *limits,
                       struct launch_plan *plan, struct error *err)
{
    struct backend *b = box->b;

    if (!box->group && backend_join(b, err))
        box->group = cgroup_begin(b->groups, limits, err);
    if (!box->group)
        return false;
    plan->cgroup = box->group;
    plan->resource_limits = cgroup_host_mode(b->groups) == SANDBOX_CGROUP_NONE;
    (void)sched_yield(); /* the child's helper may be there by now, see launch_go() */
    return true;
}

static bool is_right(struct box *box, const struct skeleton *recalled, struct error *err)
{
    const char *now = backend_skeleton(box->b, "/", err);

    return now && strcmp(now, skeleton_path(recalled)) == 0;
}

/** What the child waits for is made while it makes its namespaces; what need not be done before it
 *  goes on is done while it mounts.  @recalled may be NULL. */
static bool launch_with(struct box *box, struct launch_plan *plan,
                        const struct cgroup_limits *limits, const struct skeleton *recalled,
                        const struct wait *w, struct error *err)
{
    struct backend *b = box->b;
    struct launch launch;
    const char *skeleton;

    if (!cgroup_may_come_late(b->cgroup_mode) && !make_group(box, limits, plan, err))
        return false;
    if (!launch_begin(&launch, b->launcher, plan, err))
        return false;
    skeleton =
        recalled ? skeleton_path(recalled) : backend_skeleton(b, box->root ? box->root : "/", err);
    if (skeleton && launch_go(&launch, skeleton, err) && make_group(box, limits, plan, err) &&
        cgroup_complete(box->group, limits, err) && launch_enter(&launch, err) &&
        backend_complete(b, err) && launch_guest(&launch, b->guest_fd, err) &&
        (!recalled || is_right(box, recalled, err))) {
        backend_sweep(b);
        if (launch_end(&launch, &box->run, w, err))
            return true;
    }
    launch_cancel(&launch);
    return false;
}

/** A computer for one program is in a hurry: it mounts what was right the last time, and whether
 *  that is right is looked at meanwhile.  If not, it begins anew. */
static bool launch(struct box *box, struct launch_plan *plan, const struct cgroup_limits *limits,
                   const struct wait *w, struct error *err)
{
    struct backend *b = box->b;
    CLEANUP(skeleton_freep) struct skeleton *recalled = NULL;

    if (limits->brief && !box->root)
        recalled = skeleton_recall(b->cache_dir, "/", b->host_uid, b->host_gid);
    if (launch_with(box, plan, limits, recalled, w, err))
        return true;
    if (!recalled || is_right(box, recalled, NULL))
        return false;
    cgroup_free(box->group);
    box->group = plan->cgroup = NULL;
    error_clear(err);
    return launch_with(box, plan, limits, NULL, w, err);
}

static bool start(struct box *box, const struct computer_spec *spec, const struct wait *w,
                  struct error *err)
{
    struct backend *b = box->b;
    const struct cgroup_limits limits = { .memory_bytes = spec->memory_bytes,
                                          .pids = spec->pids,
                                          .cpu_milli = spec->cpu_milli,
                                          .brief = spec->brief };
    struct mounts_plan *mounts = make_plan(b, box, spec, err);
    struct layer_tree tree;
    struct launch_plan plan = {
        .mounts = mounts,
        .host_uid = b->host_uid,
        .host_gid = b->host_gid,
        .memory_bytes = spec->memory_bytes,
        .pids = spec->pids,
        .host_name = "computer",
    };

    if (!mounts)
        return false;
    if (mounts->alone && box->hold.count)
        mounts->saved = checkpoint_open(&box->hold, &tree, spec->disk_bytes, err);
    if (!mounts->alone || !box->hold.count || mounts->saved)
        box->launched = launch(box, &plan, &limits, w, err);
    checkpoint_close(mounts->saved, &tree);
    /* What was copied is the computer's own. */
    if (mounts->saved)
        checkpoint_release(b->checkpoints, &box->hold);
    close_dirs(mounts);
    free(mounts);
    if (!box->launched)
        return false;
    if (spec->brief)
        close_namespaces(box);
    cgroup_started(box->group, box->run.pid);
    box->watch = notify_add(b->notify, box->run.notify_fd, on_refused, box, err);
    if (!box->watch)
        return false;
    box->run.notify_fd = -1;
    /* Its HELLO is not waited for: what is asked of it until then waits in its stream. */
    if (!computer_attach(&box->base, box->run.stream, NULL, err))
        return false;
    box->run.stream = -1;
    return true;
}

/** Keep what it begins with from being removed. */
static bool hold(struct box *box, const char *checkpoint, struct error *err)
{
    return !checkpoint || (backend_join(box->b, err) &&
                           checkpoint_hold(box->b->checkpoints, checkpoint, &box->hold, err));
}

static bool find_image(struct box *box, const char *image, struct error *err)
{
    struct backend *b = box->b;

    if (!image)
        return true;
    if (!b->image)
        return error_set(err, ERR_UNSUPPORTED, "sandboxes have no images here");
    box->root = b->image(b->image_arg, image, err);
    if (!box->root)
        return false;
    return asprintf(&box->usr, "%s/usr", box->root) >= 0 || error_set(err, ERR_NOMEM, "an image");
}

struct computer *box_make(struct backend *b, const struct computer_spec *spec,
                          const char *checkpoint, const struct computer_hooks *hooks,
                          const struct wait *w, struct error *err)
{
    struct box *box;

    if (atomic_fetch_add(&b->live, 1) >= LIMIT_COMPUTERS) {
        atomic_fetch_sub(&b->live, 1);
        error_set(err, ERR_LIMIT, "%u computers are there already; destroy one first",
                  LIMIT_COMPUTERS);
        return NULL;
    }
    box = calloc(1, sizeof *box);
    if (!box) {
        atomic_fetch_sub(&b->live, 1);
        error_set(err, ERR_NOMEM, "sandbox");
        return NULL;
    }
    box->b = b;
    box->disk_bytes = spec->disk_bytes;
    box->run.notify_fd = box->run.stream = -1;
    if (!computer_init(&box->base, &ops, spec, spec_env(), hooks, err)) {
        release(box);
        free(box);
        return NULL;
    }
    if (!find_image(box, spec->image, err) || !hold(box, checkpoint, err) ||
        !start(box, spec, w, err)) {
        release(box);
        computer_fini(&box->base);
        free(box);
        return NULL;
    }
    return &box->base;
}
