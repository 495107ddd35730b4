/*
 * sched - the bounded queue of one class, ordered by a policy that can be changed while it runs.
 *
 * A policy is one file with one struct sched_policy (sched_fifo.c).  Its functions are called
 * under sched's lock, never block, and allocate nothing after make().
 * Ownership: a queued syscall is the queue's.  Threads: any.  Blocking: sched_pop() only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/error.h"
#include "kernel/syscall.h"

struct sched;

struct sched_policy {
    const char *name; /* "fifo" */
    void *(*make)(struct error *err);
    void (*free)(void *state); /* the queue is empty by then */
    void (*push)(void *state, struct syscall *sc, int64_t now_ns);
    /** Take out the next one, or NULL.  @quick_only: only those that are sched_is_quick(). */
    struct syscall *(*pop)(void *state, int64_t now_ns, bool quick_only);
    void (*remove)(void *state, struct syscall *sc);
};

extern const struct sched_policy sched_fifo;

/** The policy called @name, or NULL. */
const struct sched_policy *sched_policy_find(const char *name);

/** @capacity: 1 to LIMIT_QUEUE.  @slow_max: most syscalls that are not quick which are popped and
 *  not yet sched_finished(), so that some workers stay free. */
NODISCARD struct sched *sched_new(const struct sched_policy *policy, size_t capacity,
                                  size_t slow_max, struct error *err);
void sched_free(struct sched *s); /* empty and closed */
DEFINE_CLEANUP(struct sched, sched_free)

enum sched_status { SCHED_OK, SCHED_FULL, SCHED_CLOSED, SCHED_TIMEOUT };

/** SCHED_OK: it is the queue's now.  Never waits. */
NODISCARD enum sched_status sched_push(struct sched *s, struct syscall *sc);

/** True for what may run while the slow ones are at their most: TOOL_QUICK, and TOOL_INLINE, which
 *  takes microseconds. */
static inline bool sched_is_quick(const struct syscall *sc)
{
    return (sc->tool->flags & (TOOL_QUICK | TOOL_INLINE)) != 0;
}

/** Instead of push and pop by the same thread: SCHED_OK when @sc may be handled right now (it
 * counts as popped, and is not cancelled through the queue), SCHED_FULL when something that could
 * run waits before it, SCHED_CLOSED. */
NODISCARD enum sched_status sched_bypass(struct sched *s, struct syscall *sc);

/** Take the next one, waiting up to @timeout_ns (0 only looks). */
NODISCARD enum sched_status sched_pop(struct sched *s, int64_t timeout_ns, struct syscall **ret);

/** Take @sc out if it is still queued; false when a worker has it. */
bool sched_remove(struct sched *s, struct syscall *sc);

/** A popped syscall has been handled. */
void sched_finished(struct sched *s, struct syscall *sc);

/** Another policy from now on; what waits is carried over in order. */
NODISCARD bool sched_change(struct sched *s, const struct sched_policy *policy, struct error *err);

struct sched_stats {
    size_t waiting, running, idle_poppers;
    uint64_t pushed, popped, refused;
};
void sched_stats(struct sched *s, struct sched_stats *ret);

/** True when more could be popped right now than threads are waiting in sched_pop(). */
bool sched_starved(struct sched *s);
const char *sched_policy_name(struct sched *s);

/** Refuse pushes, wake every popper; what is inside can still be popped. */
void sched_close(struct sched *s);
