#include "kernel/sched.h"

#include <stdlib.h>

/* Two lanes, so that the oldest quick one is found at once behind any number of slow ones; the
 * ticket tells which lane's first is the older. */
struct fifo {
    uint64_t next_ticket;
    struct list quick;
    struct list slow;
};

static void *fifo_make(struct error *err)
{
    struct fifo *f = calloc(1, sizeof *f);

    if (!f) {
        error_set(err, ERR_NOMEM, "fifo queue");
        return NULL;
    }
    list_init(&f->quick);
    list_init(&f->slow);
    return f;
}

static void fifo_push(void *state, struct syscall *sc, int64_t now_ns)
{
    struct fifo *f = state;

    (void)now_ns;
    sc->ticket = f->next_ticket++;
    list_append(sched_is_quick(sc) ? &f->quick : &f->slow, &sc->link);
}

static struct syscall *first_of(const struct list *lane)
{
    return list_empty(lane) ? NULL : LIST_ENTRY(lane->next, struct syscall, link);
}

static struct syscall *fifo_pop(void *state, int64_t now_ns, bool quick_only)
{
    struct fifo *f = state;
    struct syscall *quick = first_of(&f->quick), *slow = quick_only ? NULL : first_of(&f->slow);
    struct syscall *sc = quick;

    (void)now_ns;
    if (slow && (!quick || slow->ticket < quick->ticket))
        sc = slow;
    if (sc)
        list_remove(&sc->link);
    return sc;
}

static void fifo_remove(void *state, struct syscall *sc)
{
    (void)state;
    list_remove(&sc->link);
}

const struct sched_policy sched_fifo = {
    .name = "fifo",
    .make = fifo_make,
    .free = free,
    .push = fifo_push,
    .pop = fifo_pop,
    .remove = fifo_remove,
};
