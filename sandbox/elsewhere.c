#include "sandbox/elsewhere.h"

void elsewhere_look(struct elsewhere *e)
{
    e->known = sched_getaffinity(0, sizeof e->usual, &e->usual) == 0 && CPU_COUNT(&e->usual) > 1;
}

void elsewhere_put(const struct elsewhere *e, pid_t pid)
{
    cpu_set_t others = e->usual;
    int here = sched_getcpu();

    if (!e->known || here < 0 || here >= CPU_SETSIZE)
        return;
    CPU_CLR((size_t)here, &others);
    if (CPU_COUNT(&others) > 0)
        (void)sched_setaffinity(pid, sizeof others, &others);
}

void elsewhere_end(const struct elsewhere *e, pid_t pid)
{
    if (e->known)
        (void)sched_setaffinity(pid, sizeof e->usual, &e->usual);
}
