#include "kernel/sched.h"

/* Round robin: agents in turn, and of one agent's calls the one that came to the end of its line
 * first.  One whose quantum was up goes there again. */
static int64_t rr_key(const struct syscall *sc, const struct sched_tuning *tuning)
{
    (void)tuning;
    return (int64_t)sc->turn;
}

const struct sched_policy sched_rr = {
    .name = "rr", .key = rr_key, .in_turn = true, .preempts = true
};
