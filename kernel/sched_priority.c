#include "kernel/base/clock.h"
#include "kernel/sched.h"

/* A call gains one step for every `ageing` that it waits.  Two calls age alike, so which of them
 * goes first never changes while they wait, and the key is a constant. */
static int64_t priority_key(const struct syscall *sc, const struct sched_tuning *tuning)
{
    int64_t steps = MIN(MAX(sc->priority, -SCHED_PRIORITY_MAX), SCHED_PRIORITY_MAX);

    return clock_add_ns(sc->submitted_ns, -steps * tuning->ageing_ns);
}

const struct sched_policy sched_priority = { .name = "priority", .key = priority_key };
