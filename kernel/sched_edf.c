#include "kernel/sched.h"

/* Earliest deadline first. */
static int64_t edf_key(const struct syscall *sc, const struct sched_tuning *tuning)
{
    (void)tuning;
    return sc->deadline_ns;
}

const struct sched_policy sched_edf = { .name = "edf", .key = edf_key };
