/*
 * kernel_state - what the parts of the kernel share: kernel.c makes and ends it, kernel_submit.c,
 * kernel_work.c and kernel_end.c are the way of a syscall, kernel_queues.c and kernel_times.c its
 * queues and what is measured.  Nobody else includes this but syscall.c.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/history.h"
#include "kernel/kernel.h"
#include "kernel/workers.h"

#define KERNEL_POLICIES_MAX 8

/* Written by the loop alone, read by anyone. */
struct kernel_counts {
    _Atomic uint64_t submitted, done, failed, cancelled, timed_out, denied, busy;
};

/* Looks after calls for which nobody was woken (sched_put_off()). */
struct kernel_look {
    struct loop_timer timer;
    struct kernel *kernel;
    enum syscall_class class;
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
    struct history *history;
    struct kernel_look looks[SYSCALL_CLASS_COUNT];
    unsigned agents_watched;

    /* kernel_times.c: made by the loop at the first call, read by anyone */
    _Atomic(struct agent_watch *) watches[SYSCALL_CLASS_COUNT][KERNEL_POLICIES_MAX];

    struct kernel_counts counts;

    pthread_mutex_t services_lock; /* guards these three */
    struct storage *storage;
    struct memory *memory;
    struct llm *llm;

    pthread_mutex_t agents_lock; /* guards what follows */
    struct agent **agents;       /* sorted by name; one reference each */
    size_t agent_count;
    size_t agent_cap;
};

/** Open the audit if it is on and nobody has tried yet.  Loop. */
void kernel_open_audit(struct kernel *k);

/** kernel_services.c: those that were opened, in the order in which they lean on each other. */
void kernel_close_services(struct kernel *k);

/* kernel_end.c */

/** The loop is the only writer. */
void kernel_count(_Atomic uint64_t *counter);

/** @detail NULL: what is asked.  False: what was decided must not happen. */
NODISCARD bool kernel_record_decision(struct kernel *k, const struct syscall *sc,
                                      enum access_decision decision, const char *rule,
                                      const char *detail, struct error *err);
void kernel_record_outcome(struct kernel *k, const struct syscall *sc, const char *outcome,
                           const char *detail);

/** It leaves the queue, or does not get back into it. */
void kernel_waited_until(struct syscall *sc, int64_t now_ns);

/** Its state is final now, and written down; what is left is kernel_complete(), on the loop, or
 *  kernel_post_back() from anywhere, which leads there.  Whoever has it. */
void kernel_conclude(struct kernel *k, struct syscall *sc, enum syscall_state state);
void kernel_conclude_cancelled(struct kernel *k, struct syscall *sc);
void kernel_conclude_late(struct kernel *k, struct syscall *sc);
void kernel_complete(struct kernel *k, struct syscall *sc);
void kernel_post_back(struct kernel *k, struct syscall *sc);

/* kernel_work.c */

/** How long a person may take to answer. */
int64_t kernel_ask_limit_ns(const struct kernel *k);

/** True when it has been concluded, false when its handler put it aside and it is the queue's. */
NODISCARD bool kernel_run(struct kernel *k, struct syscall *sc, int64_t now_ns);

/** workers_fn: popped syscalls, to their end and on their way back to the loop. */
void kernel_work(void *kernel, struct syscall **calls, size_t count);

/* kernel_queues.c */
NODISCARD bool kernel_make_queues(struct kernel *k, struct error *err);
void kernel_quiet_queues(struct kernel *k); /* no timer of theirs any more */
void kernel_free_queues(struct kernel *k);  /* after the workers */
NODISCARD enum sched_status kernel_push(struct kernel *k, struct syscall *sc);

/** Waited and served times of one that is done.  Loop. */
void kernel_note_times(struct kernel *k, struct syscall *sc);
void kernel_free_times(struct kernel *k);

/** syscall_cancel() of one in flight. */
void kernel_cancel(struct kernel *k, struct syscall *sc);
