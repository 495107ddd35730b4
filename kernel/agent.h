/*
 * agent - who asks: identity, rights, bounds, what it is doing and what it has used.
 *
 * Ownership: counted; an agent holds its parent.  An agent belongs to one kernel.
 * Threads: any.  Identity, roles and quota are constant; state and figures are atomic.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/error.h"

#define AGENT_ROLES_MAX  16
#define AGENT_WEIGHT_MAX 100

struct agent;
struct agent_watch;
struct sched_lane;

/*
 *   created ──► ready ◄──► suspended          by agent_change()
 *                │ ▲           │
 *                ▼ │           ▼
 *     waiting ◄► running     (ended, failed: from every state, and final)
 *
 * ready, waiting and running are one state to agent_change(): which of them it is follows from the
 * calls under way.  Waiting: all of them wait in queues; running: one is being handled at least.
 */
enum agent_state {
    AGENT_CREATED,
    AGENT_READY,
    AGENT_RUNNING,
    AGENT_WAITING,
    AGENT_SUSPENDED, /* asks for nothing new; what is under way goes on */
    AGENT_ENDED,
    AGENT_FAILED,
    AGENT_STATE_COUNT
};

/** 0: no bound of its own, the configuration's holds. */
struct agent_quota {
    int64_t computers;
    int64_t memory_bytes;  /* of notes */
    int64_t storage_bytes; /* of stored values */
    int64_t tokens;        /* of models, both ways */
};

struct agent_spec {
    const char *name;         /* [A-Za-z0-9_.-], 1 to 64 characters */
    const char *group;        /* the same; NULL or "": none */
    struct agent *parent;     /* who made it; NULL: nobody.  A reference is taken */
    const char *const *roles; /* words like the name, NULL at the end; NULL: none */
    struct agent_quota quota;
    int weight; /* its part where queues share fairly: 1 to AGENT_WEIGHT_MAX; 0 is 1 */
};

/** ERR_INVALID, ERR_LIMIT (roles), ERR_NOMEM. */
NODISCARD struct agent *agent_new_with(const struct agent_spec *spec, struct error *err);

/** The same with name and group (may be NULL) alone. */
NODISCARD struct agent *agent_new(const char *name, const char *group, struct error *err);
struct agent *agent_ref(struct agent *a);
void agent_unref(struct agent *a);
DEFINE_CLEANUP(struct agent, agent_unref)

const char *agent_name(const struct agent *a);
const char *agent_group(const struct agent *a);    /* "" for none */
struct agent *agent_parent(const struct agent *a); /* borrowed; NULL for none */
size_t agent_role_count(const struct agent *a);
const char *agent_role(const struct agent *a, size_t number);
bool agent_has_role(const struct agent *a, const char *role);
const struct agent_quota *agent_quota(const struct agent *a);
int agent_weight(const struct agent *a);

/* ---- state ---- */

enum agent_state agent_state(const struct agent *a);

/** False, and nothing changes, when the state machine has no such step. */
NODISCARD bool agent_change(struct agent *a, enum agent_state to);
const char *agent_state_name(enum agent_state state);

/** May it ask for something now?  ERR_BUSY: it is suspended; ERR_DENIED: it has not begun or is
 *  over. */
NODISCARD bool agent_may_call(const struct agent *a, struct error *err);

/* The kernel tells of each call under way: begun or done on its loop thread, and in between taken
 * up and put down by a worker. */
void agent_call_begun(struct agent *a, int64_t now_ns);
void agent_call_done(struct agent *a, int64_t now_ns);
void agent_call_taken(struct agent *a);
void agent_call_put(struct agent *a);

/** When it last began or finished a call, monotonic; 0: never.  This is its heartbeat: no timer,
 *  one store a call. */
int64_t agent_active_ns(const struct agent *a);
unsigned agent_calls_under_way(const struct agent *a);

/* ---- usage ---- */

enum agent_use {
    AGENT_CALLS, /* completed, however */
    AGENT_CALLS_FAILED,
    AGENT_WAITED_NS,
    AGENT_SERVED_NS,
    AGENT_TOKENS_IN,
    AGENT_TOKENS_OUT,
    AGENT_COST_MICRO, /* millionths of the currency that the configuration's prices are in */
    AGENT_BYTES_IN,   /* through the egress */
    AGENT_BYTES_OUT,
    AGENT_USE_COUNT
};

void agent_add_use(struct agent *a, enum agent_use what, int64_t amount);
int64_t agent_used(const struct agent *a, enum agent_use what);
const char *agent_use_name(enum agent_use what);

/* ---- what others keep of it ---- */

/** What the queue of @class (enum syscall_class) keeps of it; that queue's lock guards it. */
struct sched_lane *agent_lane(struct agent *a, unsigned class);

/** How long its calls waited and took, once kernel_times.c keeps that: an allocation of the loop's,
 *  released by free() with the agent.  NULL before. */
struct agent_watch *agent_watch(const struct agent *a);
void agent_set_watch(struct agent *a, struct agent_watch *watch);
