/*
 * cancel - a token that one thread raises and another notices, also while it waits.
 *
 * A waiter attaches a hook whose function wakes it (signals its condition).  The hook runs on the
 * thread that raises the token, at once if the token is raised already, and never after
 * cancel_detach() has returned.
 * Threads: any.  A hook's function takes its own lock, and must not call back into the token;
 *   so whoever attaches or detaches must not hold that lock.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/error.h"
#include "kernel/base/list.h"

typedef void cancel_fn(void *arg);

struct cancel {
    atomic_bool raised;
    pthread_mutex_t lock; /* guards hooks */
    struct list hooks;
};

struct cancel_hook {
    struct list link;
    cancel_fn *fn;
    void *arg;
};

void cancel_init(struct cancel *token);
void cancel_fini(struct cancel *token);

/** Raise it; a second time changes nothing. */
void cancel_raise(struct cancel *token);

bool cancel_raised(const struct cancel *token);

/** @token may be NULL: nothing then ever fires. */
void cancel_attach(struct cancel *token, struct cancel_hook *hook, cancel_fn *fn, void *arg);
void cancel_detach(struct cancel *token, struct cancel_hook *hook);

/** How long a blocking call may take: handed down to everything that waits.  A plain value. */
struct wait {
    int64_t deadline_ns;   /* monotonic; CLOCK_NEVER is not allowed for what a client asked */
    struct cancel *cancel; /* may be NULL */
};

/** False with ERR_CANCELLED or ERR_TIMEOUT in @err when there is no time left. */
NODISCARD bool wait_check(const struct wait *w, struct error *err);

/** pthread_cond_timedwait() until @w's deadline (conditions use CLOCK_MONOTONIC: cond_init()).
 *  False once the deadline has passed or the token is raised; the caller re-checks its
 *  condition first.  The caller attaches a hook that signals @cond. */
bool wait_cond(const struct wait *w, pthread_cond_t *cond, pthread_mutex_t *lock);

/** Let @ns pass.  False when @w's end comes first. */
NODISCARD bool wait_pause(const struct wait *w, int64_t ns, struct error *err);

/** A condition on the monotonic clock. */
void cond_init(pthread_cond_t *cond);
