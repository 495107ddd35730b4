/*
 * sched_lane - the waiting calls of one agent in one class, where agents are served in turn.
 *
 * It lies inside the agent, so that a queue allocates nothing and looks nothing up; an agent
 * therefore belongs to one kernel.  Threads: the lock of the class's queue guards it.
 */
#pragma once

#include "kernel/sched_heap.h"

/** Calls that may run while the slow ones are at their most, and those that may not. */
enum sched_speed { SCHED_SLOW, SCHED_QUICK, SCHED_SPEEDS };

/** Zero-initialise. */
struct sched_lane {
    struct sched_heap calls[SCHED_SPEEDS];
    struct sched_node places[SCHED_SPEEDS]; /* among the lanes that have such calls */
    int64_t used_ns;                        /* fair share: what the agent has used, by its weight */
    uint64_t turn;                          /* when it came to the end of the line */
};
