/*
 * kernel - everything an agent's syscall passes through, held together.
 *
 * Way of a syscall: kernel_submit() asks access, writes the decision to the audit, puts it into the
 * queue of its class and wakes a worker (a TOOL_INLINE one runs at once on the loop when
 * nothing waits before it); the handler runs; the result is audited, published and handed back
 * through `done` on the loop thread, exactly once.
 *
 * Threads: the loop thread owns it; accessors may be used by handlers on workers.
 */
#pragma once

#include "kernel/access.h"
#include "kernel/agent.h"
#include "kernel/audit.h"
#include "kernel/base/loop.h"
#include "kernel/computers.h"
#include "kernel/config.h"
#include "kernel/event.h"
#include "kernel/histogram.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"
#include "kernel/toolmgr.h"
#include "kernel/workers.h"

#define KERNEL_AGENTS_MAX 16384u

struct kernel;
struct llm;
struct memory;
struct storage;

/** @config is borrowed and outlives the kernel.  Starts no worker, and touches no disk but the
 * audit's folder.  When the audit cannot be opened the kernel is made all the same and refuses
 * every syscall with the reason. */
NODISCARD struct kernel *kernel_new(struct loop *loop, const struct config *config,
                                    struct error *err);

/** Refuse new syscalls, cancel all, turn the loop until every `done` has been called, destroy the
 *  computers, flush the audit.  A handler that its cancel token does not end within 1 s is
 *  logged and waited for.  Loop, and not from one of its callbacks. */
void kernel_free(struct kernel *k);
DEFINE_CLEANUP(struct kernel, kernel_free)

struct toolmgr *kernel_tools(struct kernel *k);
struct computers *kernel_computers(struct kernel *k);
struct event_bus *kernel_events(struct kernel *k);
const struct config *kernel_config(struct kernel *k);
struct loop *kernel_loop(struct kernel *k);

/** The kernel's services, each opened at its first use and then borrowed until kernel_free().
 *  NULL with @err when one cannot be opened; the next call tries again.  Any thread. */
NODISCARD struct storage *kernel_storage(struct kernel *k, struct error *err);
NODISCARD struct memory *kernel_memory(struct kernel *k, struct error *err);
NODISCARD struct llm *kernel_llm(struct kernel *k, struct error *err);

/** The agent of this name, made at its first use; a reference.  ERR_EXISTS when it is known with
 * another group, ERR_LIMIT beyond KERNEL_AGENTS_MAX.  Any thread. */
NODISCARD struct agent *kernel_agent(struct kernel *k, const char *name, const char *group,
                                     struct error *err);

/** The same with what the configuration says about @name (access.agents); without an entry its
 * group is agent.group. */
NODISCARD struct agent *kernel_agent_known(struct kernel *k, const char *name, struct error *err);

/** @a will not come back: its state is ENDED, its computers go in the background, and its name is
 *  free for another.  The caller keeps its reference.  Loop. */
void kernel_end_agent(struct kernel *k, struct agent *a);

/** Loop.  True: it completes through sc->done, later, or for TOOL_INLINE perhaps during this call.
 *  False: @err is ERR_BUSY (queue full, or stopping), ERR_DENIED (the rule is named), ERR_NOMEM,
 *  or a failure to record; @sc is still the caller's, FAILED, to be freed and not to be
 *  submitted again. */
NODISCARD bool kernel_submit(struct kernel *k, struct syscall *sc, struct error *err);

/** The same with all that @spec says; what an agent that is known already has, stands. */
NODISCARD struct agent *kernel_agent_with(struct kernel *k, const struct agent_spec *spec,
                                          struct error *err);

struct kernel_stats {
    struct sched_stats classes[SYSCALL_CLASS_COUNT];
    struct workers_stats workers[SYSCALL_CLASS_COUNT];
    uint64_t submitted, done, failed, cancelled, timed_out, denied, busy;
};
void kernel_stats(struct kernel *k, struct kernel_stats *ret);

/** Another policy for the queue of @class from now on, for those that wait as well.  ERR_INVALID:
 *  there is none of this name.  Any thread. */
NODISCARD bool kernel_set_policy(struct kernel *k, enum syscall_class class, const char *policy,
                                 struct error *err);

struct kernel_times {
    struct histogram_summary wait;    /* in the queue, all turns of a call together */
    struct histogram_summary service; /* in its handler */
};

/** Times of the completed calls of @class under @policy (NULL: all).  False when there are none, or
 *  no such policy.  Any thread. */
bool kernel_times(struct kernel *k, enum syscall_class class, const char *policy,
                  struct kernel_times *ret);

/** The same of one agent's calls.  Kept for the first KERNEL_AGENTS_WATCHED agents that call. */
bool kernel_agent_times(const struct agent *agent, struct kernel_times *ret);
#define KERNEL_AGENTS_WATCHED 128u
