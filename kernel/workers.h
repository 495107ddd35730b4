/*
 * workers - the threads of one class: they pop syscalls and run their handlers.
 *
 * Starts without a thread.  Grows by one whenever something waits and nobody is about to come for
 * it, up to its most; the first call brings its least.  A thread beyond the least that was idle for
 * 10 s ends.
 * Threads: workers_kick() and the looking ones any; the rest loop.  Blocking: workers_free() joins.
 */
#pragma once

#include "kernel/sched.h"

struct workers;

/** Runs @count popped syscalls to their end, or puts them aside; on a worker thread.  More than one
 *  only when their tools name the same batch function. */
typedef void workers_fn(void *arg, struct syscall **calls, size_t count);

struct workers_spec {
    const char *name;  /* at most 11 characters; threads are NAME-0, NAME-1 … */
    size_t least;      /* 0 to most */
    size_t most;       /* 1 to LIMIT_WORKERS */
    const char *cpus;  /* cpus.h; NULL is "" */
    const char *sysfs; /* NULL: "/sys" */
};

/** Strings are copied, but sysfs.  ERR_INVALID, ERR_NOMEM. */
NODISCARD struct workers *workers_new(const struct workers_spec *spec, struct sched *sched,
                                      workers_fn *fn, void *arg, struct error *err);

/** Something was pushed: make sure that somebody will come.  False (ERR_NOMEM, ERR_LIMIT by the
 *  system) only when there is no thread at all and none could be made. */
NODISCARD bool workers_kick(struct workers *w, struct error *err);

/** After sched_close(): wait for all threads to end. */
void workers_free(struct workers *w);
DEFINE_CLEANUP(struct workers, workers_free)

/** How long a thread waits for work before it ends, instead of 10 s.  Before the first kick. */
void workers_set_idle(struct workers *w, int64_t idle_ns);

size_t workers_count(struct workers *w);

struct workers_stats {
    size_t count, least, most;
    uint64_t started, ended;
    char cpus[64];
    /* Threads that could not be bound to them and run anywhere; the first is in the log. */
    uint64_t unbound;
    char unbound_why[128];
};
void workers_stats(struct workers *w, struct workers_stats *ret);
