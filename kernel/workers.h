/*
 * workers - the threads of one class: they pop syscalls and run their handlers.
 *
 * Starts without a thread; grows by one whenever something waits and nobody is idle, up to its
 * maximum; a thread idle for 10 s ends.
 * Threads: workers_kick() any; the rest loop.  Blocking: workers_free() joins.
 */
#pragma once

#include "kernel/sched.h"

struct workers;

/** Runs one popped syscall to its end; on a worker thread. */
typedef void workers_fn(void *arg, struct syscall *sc);

NODISCARD struct workers *workers_new(const char *name, struct sched *sched, size_t max,
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
