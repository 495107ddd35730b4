/*
 * computer_internal - what computer.c, computer_ops.c, computer_spec.c, display.c and run.c share.
 *
 * A computer is counted twice.  References (computer_ref) keep the machine: the last one destroys
 * it.  Holds keep the object only: all references together are one, each run is another.
 */
#pragma once

#include "kernel/computer/computer.h"

#include <pthread.h>

#include "kernel/base/limits.h"

struct egress;
struct egress_rules;

struct computer_state {
    struct id id;
    int64_t created_ns;
    struct loop *loop;
    char **base_env;
    pthread_mutex_t hook_lock; /* held while a hook is called; before `lock` */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* an operation has ended */

    /* hook_lock */
    struct computer *c; /* NULL once nobody is told any more */
    struct computer_hooks hooks;

    /* lock */
    unsigned refs;
    unsigned holds;
    unsigned runs;
    struct computer_spec *spec;
    struct egress_rules *rules;
    struct guest *guest; /* set once */
    char lost[200];      /* "" while it lives */
    bool destroy_asked;
    bool on_request; /* and that is why it is gone */
    bool destroying; /* by one thread, for all */
    bool destroyed;
    bool exclusive;  /* an operation that no other may accompany is going on */
    unsigned inside; /* operations going on */
    uint64_t refusal_seq;
    struct computer_refusal refusals[LIMIT_REFUSALS]; /* seq at (seq - 1) % LIMIT_REFUSALS */

    /* loop only */
    struct egress *egress;
    struct loop_post end;
};

void computer_hold(struct computer *c);
void computer_release(struct computer *c);

/** A hold for one more run; ERR_LIMIT when there are LIMIT_RUNS. */
NODISCARD bool computer_run_begin(struct computer *c, struct error *err);
void computer_run_end(struct computer *c);

/** True when computer_destroy() was called before it was lost otherwise. */
bool computer_was_destroyed(struct computer *c);

/** Around an operation of the back end that no other may accompany.  ERR_LOST when the computer is
 *  gone; also when it is being destroyed. */
NODISCARD bool computer_enter(struct computer *c, const struct wait *w, struct error *err);
void computer_leave(struct computer *c);

/** A copy in one allocation for free(). */
NODISCARD struct computer_spec *computer_spec_copy(const struct computer_spec *spec,
                                                   struct error *err);

/** The strings of up to three NULL-terminated arrays (NULL: none), of entries with the same name
 * the last, in one allocation for free().  ERR_INVALID names an entry that is not NAME=VALUE. */
NODISCARD char **computer_env_merge(const char *const *base, const char *const *spec,
                                    const char *const *extra, struct error *err);
