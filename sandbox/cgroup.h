/*
 * cgroup - limits and accounting for one sandbox: v2, v1, or neither.
 *
 * v2: one group per sandbox below a delegated folder; the child is cloned into it
 *   (CLONE_INTO_CGROUP).  v1: one group per hierarchy (memory, pids, cpu, cpuacct, freezer), which
 * the child enters itself: writing "0" to tasks is cheap, where moving another process costs a
 * grace period of milliseconds.  none: nothing is made; limits are resource limits
 * of the child, and a watcher sums up /proc.
 *
 * Groups are named "aios-<server>-<n>", <server> being unguessable and known to a lock file in the
 * runtime folder, so that a later server can tell which groups are orphans.
 * Threads: any; one group by one thread at a time, except counters: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/base/error.h"
#include "kernel/computer/computer.h"
#include "sandbox/sandbox.h"

struct cgroup_host; /* what this machine has, and where */
struct cgroup;      /* the groups of one sandbox */

struct cgroup_limits {
    uint64_t memory_bytes;
    uint32_t pids;
    uint32_t cpu_milli;
    bool brief; /* it lives for one program: it is neither frozen nor asked for its usage */
};

#define CGROUP_DOORS 6 /* more than there are hierarchies */

/** Find out what there is.  @mode AUTO never fails for lack of a kernel feature; a mode asked for
 *  by name that is not usable is ERR_UNSUPPORTED with the reason.  @server: the server's own name
 *  part. */
NODISCARD struct cgroup_host *cgroup_host_new(enum sandbox_cgroup_mode mode, const char *server,
                                              struct error *err);
void cgroup_host_free(struct cgroup_host *host);
DEFINE_CLEANUP(struct cgroup_host, cgroup_host_free)

/** "v1: memory pids cpu freezer", "v2 at /sys/fs/cgroup/…", "none: …why". */
const char *cgroup_host_describe(const struct cgroup_host *host);
enum sandbox_cgroup_mode cgroup_host_mode(const struct cgroup_host *host);

/** True when a process may be cloned before it is known which groups it is to enter, since none of
 *  them is one to be cloned into.  Cheap; false also where that is not sure. */
bool cgroup_may_come_late(enum sandbox_cgroup_mode mode);

/** In two steps: the first makes what a clone needs, the second, while the child is busy with
 *  something else, what it enters.  @limits are the same. */
NODISCARD struct cgroup *cgroup_begin(struct cgroup_host *host, const struct cgroup_limits *limits,
                                      struct error *err);
NODISCARD bool cgroup_complete(struct cgroup *g, const struct cgroup_limits *limits,
                               struct error *err);

/** Both. */
NODISCARD struct cgroup *cgroup_new(struct cgroup_host *host, const struct cgroup_limits *limits,
                                    struct error *err);

/** Why @limits cannot be kept here: ERR_UNSUPPORTED.  True when they can. */
NODISCARD bool cgroup_host_check(const struct cgroup_host *host, const struct cgroup_limits *limits,
                                 struct error *err);

/** Kill what is inside, remove the groups (with retries up to 500 ms), free.  NULL is allowed. */
void cgroup_free(struct cgroup *g);
DEFINE_CLEANUP(struct cgroup, cgroup_free)

/** v2: the folder's descriptor for CLONE_INTO_CGROUP, borrowed; -1 for the others. */
int cgroup_clone_fd(const struct cgroup *g);

/** Where a process that has one thread writes "0" to enter, once the groups are complete: none, or
 *  one descriptor for each hierarchy of v1, which are the caller's.  They open to whoever has them.
 */
NODISCARD bool cgroup_open_doors(const struct cgroup *g, int fds[CGROUP_DOORS], size_t *ret_count,
                                 struct error *err);

/** v1: move the calling process, which has one thread, in; others: nothing.  Async-signal-safe, for
 *  the child of a clone.  False with errno. */
NODISCARD bool cgroup_enter(const struct cgroup *g);

/** The guest runs and is PID @init_pid.  none: the watcher looks after it from now on. */
void cgroup_started(struct cgroup *g, pid_t init_pid);

/** True when done by a freezer; false when this machine has none and the guest must do it.
 *  v1: what is frozen there cannot even be killed, so that it is for moments only. */
bool cgroup_freeze(struct cgroup *g, bool frozen, int64_t deadline_ns);

void cgroup_usage(struct cgroup *g, pid_t init_pid, struct computer_usage *ret);
void cgroup_strikes(struct cgroup *g, struct computer_strikes *ret); /* oom and pids */

/** Remove groups of servers for which @alive(server) is false, and such as have been empty for an
 *  hour. */
void cgroup_sweep(struct cgroup_host *host, bool (*alive)(void *arg, const char *server),
                  void *arg);
