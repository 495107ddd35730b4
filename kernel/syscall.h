/*
 * syscall - one request of one agent, from submission to its one completion.
 *
 * Ownership: syscall_new() returns it to the caller; kernel_submit() takes it on success and gives
 * it back through `done` on the loop thread, exactly once, whatever happens: done, failed,
 *   cancelled or timed out.  The caller frees it there.
 * Threads: made and completed on the loop; in between it belongs to the queue or one worker.
 *   syscall_cancel(): the loop, between kernel_submit() and `done`.
 *
 * Deadline: one that is still queued completes as TIMED_OUT when it passes.  A running handler has
 * the same deadline in its struct wait and returns by itself, with an answer ("still running") or
 *   without; SYSCALL_GRACE_NS later its cancel token is raised, which ends every wait.  The struct
 *   is a worker's until its handler returns, so nothing completes behind a handler's back: one that
 *   honours neither is a bug, and is named in the log SYSCALL_STUCK_NS after the deadline.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "kernel/access.h"
#include "kernel/base/cancel.h"
#include "kernel/base/clock.h"
#include "kernel/base/id.h"
#include "kernel/base/list.h"
#include "kernel/base/loop.h"
#include "kernel/sched_lane.h"
#include "kernel/tool.h"

#define SYSCALL_GRACE_NS CLOCK_NS_PER_S
#define SYSCALL_STUCK_NS (5 * CLOCK_NS_PER_S)

struct sched_policy;

enum syscall_state {
    SYSCALL_CREATED,
    SYSCALL_QUEUED,
    SYSCALL_RUNNING,
    SYSCALL_DONE,      /* the handler returned true */
    SYSCALL_FAILED,    /* it returned false, access said no, or the queue was full */
    SYSCALL_CANCELLED, /* by the caller, queued or running */
    SYSCALL_TIMED_OUT, /* its deadline passed, queued or running */
};

/** Why a running syscall is asked to stop: nobody asked, its caller did, or its time was up. */
enum syscall_stop { SYSCALL_STOP_NONE, SYSCALL_STOP_CANCEL, SYSCALL_STOP_TIMEOUT };

struct syscall;
typedef void syscall_done_fn(struct syscall *sc);

struct syscall {
    /* what is asked; constant once submitted */
    enum syscall_class class;
    struct agent *agent; /* a reference */
    const struct tool *tool;
    void *args;          /* the struct of the tool's fields */
    json_t *json;        /* what `args` borrows from; a reference */
    uint64_t id;         /* 1, 2, 3 … of this kernel; in the audit */
    int64_t cost_ns;     /* expected service time; 0 unknown: as learned from history */
    int priority;        /* larger is sooner; -SCHED_PRIORITY_MAX to SCHED_PRIORITY_MAX */
    int64_t deadline_ns; /* 0: the configured time from submission */
    const struct tool_peer *peer;
    void *peer_arg;
    syscall_done_fn *done;
    void *done_arg;
    struct access_verdict verdict; /* kernel_submit()'s */

    /* how far it is; the owner's */
    enum syscall_state state;
    int64_t submitted_ns, started_ns, ended_ns;
    int64_t waited_ns, served_ns; /* in the queue and in handlers, all its turns together */
    void *aside;                  /* tool_call_yield(): what the handler left for its next turn */
    void (*aside_free)(void *aside);
    bool yielded;
    bool apart;    /* it is in no batch: its tool says so, or its handler goes on with it */
    bool on_loop;  /* it runs there, and is not put aside */
    bool accepted; /* access said ask, and the person yes */

    /* shared */
    struct cancel cancel;
    atomic_int stop; /* enum syscall_stop: the first reason to stop wins */
    pthread_mutex_t note_lock;

    /* plumbing */
    struct kernel *kernel;
    struct sched_node place; /* in the queue; guarded by sched's lock, like what follows */
    struct list link;        /* while the policy changes */
    uint64_t ticket;         /* by arrival */
    uint64_t turn;           /* the same, given anew whenever it is put aside */
    int64_t charged_ns;      /* fair share: what its agent was charged in advance */
    bool queued;             /* sched has it */
    enum sched_speed speed;  /* as what it was popped */
    const struct sched_policy *policy; /* by which it was popped last; NULL before */
    int64_t expected_ns; /* what it is expected to take in all, 0 unknown; constant once queued */
    int64_t queued_ns, slice_started_ns, slice_ns; /* its present or latest turn */
    unsigned slices;                               /* times that a handler had it */
    struct list flight;      /* in the kernel's list of what is submitted; the loop's */
    struct loop_timer timer; /* the deadline, while submitted */
    struct loop_post post;   /* way back to the loop */
    atomic_bool completed;

    /* What is large comes last: a new call clears what lies before it, and no more than the
     * beginning of each of these. */
    char note[160]; /* guarded by note_lock; latest tool_call_note() */
    struct result result;
    struct error error; /* FAILED: why, also in result */
};

/** Reads @arguments (NULL is {}) with the tool's table into a fresh args struct.  ERR_INVALID: what
 *  to send instead. */
NODISCARD struct syscall *syscall_new(enum syscall_class class, struct agent *agent,
                                      const struct tool *tool, json_t *arguments,
                                      struct error *err);
void syscall_free(struct syscall *sc);
DEFINE_CLEANUP(struct syscall, syscall_free)

/** Ask it to stop: a queued one leaves the queue and completes as CANCELLED in the loop's next turn
 *  (never inside this call), a running one when its handler notices.  Loop. */
void syscall_cancel(struct syscall *sc);

/** Release what a handler put aside and will not take back.  Whoever has it. */
void syscall_drop_aside(struct syscall *sc);

const char *syscall_class_name(enum syscall_class class);
const char *syscall_state_name(enum syscall_state state);
