/*
 * sched_order - the waiting calls of one queue in the order that a policy gives.
 *
 * A policy says what a call's key is, and the smallest goes first; that is all it says, unless it
 * serves agents in turn.  Then each agent's calls are a lane of their own (sched_lane.h), and the
 * lane whose turn it is gives its first: the one that has waited longest for its turn, or with fair
 * share the one whose agent has used least.
 * Every operation is O(log n), and nothing is allocated.  Threads: sched's lock guards it.
 */
#pragma once

#include "kernel/sched.h"
#include "kernel/sched_lane.h"

struct sched_order {
    const struct sched_policy *policy;
    struct sched_tuning tuning;
    struct sched_heap lanes[SCHED_SPEEDS]; /* by turn */
    struct sched_lane only;                /* all calls, where there are no turns */
    uint64_t next_turn;
    int64_t clock_ns; /* fair share: what the agent served last had used; who comes new is given
                         that much, or it would have the queue to itself */
};

/** @clock_ns: where fair share stood under the policy before; 0 at first. */
void sched_order_init(struct sched_order *o, const struct sched_policy *policy,
                      const struct sched_tuning *tuning, int64_t clock_ns);

/** Uses sc->ticket and sc->turn. */
void sched_order_add(struct sched_order *o, struct syscall *sc);

/** Who is next, still inside, or NULL.  @quick_only: of those that are sched_is_quick(). */
struct syscall *sched_order_first(const struct sched_order *o, bool quick_only);

/** Take out what sched_order_first() said: its agent has had a turn, and is charged for it. */
void sched_order_take(struct sched_order *o, struct syscall *sc);

/** Take out any one; nobody is charged. */
void sched_order_remove(struct sched_order *o, struct syscall *sc);

/** @sc was taken and has run for @served_ns: what it was charged is put right. */
void sched_order_settle(struct sched_order *o, struct syscall *sc, int64_t served_ns);
