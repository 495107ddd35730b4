/*
 * kernel_state - what the two halves of the kernel share: kernel.c makes and ends it,
 * kernel_submit.c is the way of a syscall.  Nobody else includes this but syscall.c.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/kernel.h"
#include "kernel/workers.h"

/* Written by the loop alone, read by anyone. */
struct kernel_counts {
    _Atomic uint64_t submitted, done, failed, cancelled, timed_out, denied, busy;
};

struct kernel {
    /* constant once kernel_new() has returned */
    struct loop *loop;
    const struct config *config;
    struct access *access;
    struct event_bus *bus;
    struct toolmgr *tools;
    struct computers *computers;
    struct sched *scheds[SYSCALL_CLASS_COUNT];
    struct workers *workers[SYSCALL_CLASS_COUNT];

    /* constant once the first syscall has been submitted */
    bool audit_tried;
    struct audit *audit;      /* NULL: switched off, or see audit_error */
    struct error audit_error; /* why the audit could not be opened: every syscall is refused */

    /* the loop's */
    uint64_t next_id;
    struct list flight; /* every syscall between submission and `done` */
    bool closing;

    struct kernel_counts counts;

    pthread_mutex_t agents_lock; /* guards what follows */
    struct agent **agents;       /* sorted by name; one reference each */
    size_t agent_count;
    size_t agent_cap;
};

/** Open the audit if it is on and nobody has tried yet.  Loop. */
void kernel_open_audit(struct kernel *k);

/** workers_fn: one popped syscall, to its end and on its way back to the loop. */
void kernel_work(void *kernel, struct syscall *sc);

/** syscall_cancel() of one in flight. */
void kernel_cancel(struct kernel *k, struct syscall *sc);
