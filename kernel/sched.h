/*
 * sched - the bounded queue of one class, ordered by a policy that can be changed while it runs.
 *
 * A policy is one file with one struct sched_policy:
 *   fifo      by arrival
 *   priority  the larger first; one step more for each `ageing` waited, so nobody starves: a call
 *             is overtaken only by calls that came less than 2 * SCHED_PRIORITY_MAX * ageing after
 *             it, and so waits no longer than that and the time those ahead of it then take
 *   sjf       shortest job first, by the expected time; a tool never seen before goes first
 *   rr        agents in turn, and a handler that can put its work aside is asked to after a quantum
 *   edf       earliest deadline first: no deadline is missed that a single worker which finishes
 *             what it begins could keep, for calls that wait together
 * Equal ones go by arrival.  With fair share each policy orders the calls of one agent only, and
 * the agent that has used least, by its weight, is served first.
 *
 * Ownership: a queued syscall is the queue's.  Threads: any.  Blocking: sched_pop() only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/error.h"
#include "kernel/syscall.h"

#define SCHED_PRIORITY_MAX 10 /* and the least is its negative; what is beyond counts as that */

struct sched;

struct sched_tuning {
    int64_t ageing_ns;  /* priority */
    int64_t quantum_ns; /* rr */
    bool fair;
};

struct sched_policy {
    const char *name; /* "fifo" */
    /** The smallest goes first.  Constant while the call waits; under sched's lock. */
    int64_t (*key)(const struct syscall *sc, const struct sched_tuning *tuning);
    bool in_turn;  /* agents one after another; the key orders the calls of one */
    bool preempts; /* tuning->quantum_ns counts */
};

extern const struct sched_policy sched_fifo, sched_priority, sched_sjf, sched_rr, sched_edf;

/** The policy called @name, or NULL. */
const struct sched_policy *sched_policy_find(const char *name);

/** The policies by number, 0 and up; NULL behind the last. */
const struct sched_policy *sched_policy_at(size_t number);

/** @capacity: 1 to LIMIT_QUEUE.  @slow_max: most syscalls that are not quick which are popped and
 *  not yet sched_finished(), so that some workers stay free.  @tuning is copied; NULL is all 0. */
NODISCARD struct sched *sched_new(const struct sched_policy *policy,
                                  const struct sched_tuning *tuning, size_t capacity,
                                  size_t slow_max, struct error *err);
void sched_free(struct sched *s); /* empty and closed */
DEFINE_CLEANUP(struct sched, sched_free)

enum sched_status {
    SCHED_OK,
    SCHED_FULL,
    SCHED_CLOSED,
    SCHED_TIMEOUT,
    SCHED_STOPPED, /* requeue: it has been asked to stop */
};

/** SCHED_OK: it is the queue's now.  Never waits. */
NODISCARD enum sched_status sched_push(struct sched *s, struct syscall *sc);

/** True for what may run while the slow ones are at their most: TOOL_QUICK, and TOOL_INLINE, which
 *  takes microseconds. */
static inline bool sched_is_quick(const struct syscall *sc)
{
    return (sc->tool->flags & (TOOL_QUICK | TOOL_INLINE)) != 0 &&
           sc->verdict.decision != ACCESS_ASK; /* a person is not quick */
}

/** Instead of push and pop by the same thread: SCHED_OK when @sc may be handled right now (it
 * counts as popped, and is not cancelled through the queue), SCHED_FULL when something that could
 * run waits before it, SCHED_CLOSED. */
NODISCARD enum sched_status sched_bypass(struct sched *s, struct syscall *sc);

/** Take the next one, waiting up to @timeout_ns (0 only looks). */
NODISCARD enum sched_status sched_pop(struct sched *s, int64_t timeout_ns, struct syscall **ret);

/** The same, and with it those that follow it in the policy's order for as long as their tools name
 *  the same batch function, @max at most: what waits already, nobody waits for more.  One worker
 *  handles them; those that follow count as quick. */
NODISCARD enum sched_status sched_pop_batch(struct sched *s, int64_t timeout_ns,
                                            struct syscall **ret, size_t max, size_t *ret_count);

/** Take @sc out if it is still queued; false when a worker has it. */
bool sched_remove(struct sched *s, struct syscall *sc);

/** A popped syscall has been handled. */
void sched_finished(struct sched *s, struct syscall *sc);

/** A popped syscall has been put aside: it is finished and pushed in one step, at the end of its
 *  agent's line, whatever the capacity.  SCHED_CLOSED and SCHED_STOPPED: it counts as finished and
 *  is still the caller's. */
NODISCARD enum sched_status sched_requeue(struct sched *s, struct syscall *sc);

/** True when a call that has run since @since_ns is to be put aside: the policy has a quantum, it
 *  is over, and more waits than idle workers will take. */
bool sched_quantum_is_up(struct sched *s, int64_t since_ns);

/** Another policy from now on, for those that wait as well: they stand as if it had always been
 *  this one. */
void sched_change(struct sched *s, const struct sched_policy *policy,
                  const struct sched_tuning *tuning);

struct sched_stats {
    size_t waiting, running, idle_poppers;
    uint64_t pushed, popped, refused, put_aside;
    const char *policy;
    bool fair;
};
void sched_stats(struct sched *s, struct sched_stats *ret);

/** A thread begins or ends to pop, handle and pop again. */
void sched_attach(struct sched *s);
void sched_detach(struct sched *s);

/** True when more could be popped right now than threads are about to, not counting what is put
 *  off (sched_put_off()). */
bool sched_starved(struct sched *s);

/**
 * Waking a thread costs more than a handler that takes a microsecond.  So while a worker is up and
 * what waits is expected to take less than SCHED_PUT_OFF_NS of each that is (or a few microseconds
 * each, with as many up as there are processors), sched_push() wakes nobody: they will be back.  In
 * case they are not, whoever pushed calls sched_look_again() within milliseconds for as long as
 * this is true.
 */
bool sched_put_off(struct sched *s);
#define SCHED_PUT_OFF_NS 100000

/** Wakes whoever is needed unless there has been progress since the last time.  Returns how many
 *  more threads would find something to do at once. */
size_t sched_look_again(struct sched *s);

const char *sched_policy_name(struct sched *s);

/** Refuse pushes, wake every popper; what is inside can still be popped. */
void sched_close(struct sched *s);
