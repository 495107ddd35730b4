#include "kernel/sched.h"

/* Shortest job first: of one that was put aside counts what is left. */
static int64_t sjf_key(const struct syscall *sc, const struct sched_tuning *tuning)
{
    (void)tuning;
    return MAX(sc->expected_ns - sc->served_ns, 0);
}

const struct sched_policy sched_sjf = { .name = "sjf", .key = sjf_key };
