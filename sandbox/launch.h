/*
 * launch - from a complete plan to a running guest: clone, namespaces, mounts, filters, exec.
 *
 * A launch has five steps, so that what the caller must do besides happens while the child works:
 * launch_begin() clones, and the child makes its namespaces; launch_go() tells it that its skeleton
 * is there, and it mounts; launch_enter() has it enter its groups, once it has mounted (before that
 * when it copies saved files); launch_guest() gives it the guest to become; launch_end() waits for
 * the exec.  Everything else that needs memory or names is prepared before the clone; the child
 * makes async-signal-safe calls only and reports {stage, errno} when it cannot go on.
 *
 * The parent-death signal of a child follows the thread that cloned it, which must therefore live
 * as long as the back end: that of the loop when it is the one that asks, otherwise the launcher,
 * a thread made at the first launch.  When the process dies, by whatever means, the kernel kills
 * every guest, and with it (PID 1) all that ran inside.
 *
 * Threads: any, one launch by one at a time.
 * Blocking: launch_end() until exec has happened or the deadline passed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"
#include "kernel/base/loop.h"
#include "sandbox/cgroup.h"
#include "sandbox/mounts.h"

struct launcher;

struct launch_plan {
    /* Borrowed; complete by launch_enter(), and NULL until then where cgroup_may_come_late(). */
    struct cgroup *cgroup;
    bool resource_limits; /* there is no cgroup to keep memory and pids; by launch_enter() */
    const struct mounts_plan *mounts;
    uint32_t host_uid, host_gid; /* what the agent is outside; the inside is 1000:1000 */
    uint64_t memory_bytes;
    uint32_t pids;
    const char *host_name; /* inside: "computer" */
};

struct launch_result {
    pid_t pid; /* PID 1 of the sandbox, as the host sees it */
    int pidfd;
    int stream;    /* the host's end of the guest's stream, non-blocking */
    int notify_fd; /* seccomp listener */
    int layer_fd;  /* O_PATH|O_DIRECTORY of the writable layer's tmpfs, see mounts.h */
    int userns_fd; /* the sandbox's user namespace, to enter it again for a checkpoint */
    int mntns_fd;
};

/** One under way; its own. */
struct launch {
    struct launcher *launcher;
    const struct launch_plan *plan;
    bool grouped; /* it was cloned with its group known */
    pid_t pid;
    int pidfd;
    int control, stream; /* our ends */
};

NODISCARD struct launcher *launcher_new(struct loop *loop, struct error *err);
void launcher_free(struct launcher *l);
DEFINE_CLEANUP(struct launcher, launcher_free)

/** @plan is borrowed until the end.  Nothing is left behind on failure. */
NODISCARD bool launch_begin(struct launch *launch, struct launcher *l,
                            const struct launch_plan *plan, struct error *err);

/** @skeleton: the lowest layer of the file system, an absolute path. */
NODISCARD bool launch_go(struct launch *launch, const char *skeleton, struct error *err);

/** The plan's groups are complete. */
NODISCARD bool launch_enter(struct launch *launch, struct error *err);

/** @guest_fd: the guest's program, a sealed memory file; borrowed. */
NODISCARD bool launch_guest(struct launch *launch, int guest_fd, struct error *err);

/** ERR_UNSUPPORTED with the stage and the kernel's answer ("mount overlay on /usr: EPERM; …what to
 * do"), ERR_TIMEOUT; then launch_cancel() is still to be called. */
NODISCARD bool launch_end(struct launch *launch, struct launch_result *ret, const struct wait *w,
                          struct error *err);

/** Instead of a launch_end() that succeeds: nothing is left behind. */
void launch_cancel(struct launch *launch);

/** Run @fn(@arg) in a forked child that has entered the user and mount namespaces (all
 *  capabilities there, uid 1000), and wait for its exit code: for copying layers.  The
 *  child may make async-signal-safe calls only and is killed at the deadline. */
NODISCARD bool launch_inside(int userns_fd, int mntns_fd, int (*fn)(void *arg), void *arg,
                             int *ret_exit, const struct wait *w, struct error *err);
