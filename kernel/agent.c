#include "kernel/agent.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/sched_lane.h"
#include "kernel/tool.h"

#define WORD_BYTES  65
#define CACHE_BYTES 64

struct agent {
    /* constant */
    char name[WORD_BYTES];
    char group[WORD_BYTES];
    struct agent *parent;
    struct agent_quota quota;
    int weight;
    size_t role_count;

    atomic_uint refs;
    atomic_int state; /* CREATED, READY (for RUNNING and WAITING too), SUSPENDED, ENDED, FAILED */
    _Atomic(struct agent_watch *) watch; /* set once */

    atomic_uint under_way; /* the loop's; read by anyone */
    _Atomic int64_t active_ns;
    _Atomic int64_t used[AGENT_USE_COUNT];

    /* The workers', on a line of the cache by itself, or they and the loop would slow each other
     * down when most calls are one agent's. */
    char before[CACHE_BYTES];
    atomic_uint running;
    char behind[CACHE_BYTES];

    struct sched_lane lanes[SYSCALL_CLASS_COUNT];

    char roles[][WORD_BYTES];
};

static bool word_fits(const char *word)
{
    size_t len = strlen(word);

    return len >= 1 && len < WORD_BYTES &&
           strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == len;
}

static bool spec_fits(const struct agent_spec *spec, size_t *ret_roles, struct error *err)
{
    size_t roles = 0;

    if (!word_fits(spec->name) || (spec->group && *spec->group && !word_fits(spec->group)))
        return error_set(
            err, ERR_INVALID,
            "an agent's name and group are 1 to 64 of the characters A-Z a-z 0-9 _ . -");
    if (spec->weight < 0 || spec->weight > AGENT_WEIGHT_MAX)
        return error_set(err, ERR_INVALID, "the weight of agent %s is %d, not 1 to %d", spec->name,
                         spec->weight, AGENT_WEIGHT_MAX);
    for (; spec->roles && spec->roles[roles]; roles++) {
        if (roles == AGENT_ROLES_MAX)
            return error_set(err, ERR_LIMIT, "agent %s has more than %d roles", spec->name,
                             AGENT_ROLES_MAX);
        if (!word_fits(spec->roles[roles]))
            return error_set(err, ERR_INVALID,
                             "a role is 1 to 64 of the characters A-Z a-z 0-9 _ . -");
    }
    *ret_roles = roles;
    return true;
}

struct agent *agent_new_with(const struct agent_spec *spec, struct error *err)
{
    size_t roles = 0;
    struct agent *a;

    if (!spec_fits(spec, &roles, err))
        return NULL;
    a = calloc(1, sizeof *a + roles * WORD_BYTES);
    if (!a) {
        error_set(err, ERR_NOMEM, "agent %s", spec->name);
        return NULL;
    }
    memcpy(a->name, spec->name, strlen(spec->name) + 1);
    if (spec->group)
        memcpy(a->group, spec->group, strlen(spec->group) + 1);
    for (; a->role_count < roles; a->role_count++)
        memcpy(a->roles[a->role_count], spec->roles[a->role_count],
               strlen(spec->roles[a->role_count]) + 1);
    a->parent = spec->parent ? agent_ref(spec->parent) : NULL;
    a->quota = spec->quota;
    a->weight = spec->weight ? spec->weight : 1;
    atomic_init(&a->refs, 1);
    atomic_init(&a->state, AGENT_CREATED);
    return a;
}

struct agent *agent_new(const char *name, const char *group, struct error *err)
{
    const struct agent_spec spec = { .name = name, .group = group };

    return agent_new_with(&spec, err);
}

struct agent *agent_ref(struct agent *a)
{
    unsigned before = atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);

    assert(before > 0);
    (void)before;
    return a;
}

void agent_unref(struct agent *a)
{
    /* Not by recursion: a line of ancestors may be long. */
    while (a && atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) == 1) {
        struct agent *parent = a->parent;

        free(atomic_load(&a->watch));
        free(a);
        a = parent;
    }
}

/* ---- identity ---- */

const char *agent_name(const struct agent *a)
{
    return a->name;
}

const char *agent_group(const struct agent *a)
{
    return a->group;
}

struct agent *agent_parent(const struct agent *a)
{
    return a->parent;
}

size_t agent_role_count(const struct agent *a)
{
    return a->role_count;
}

const char *agent_role(const struct agent *a, size_t number)
{
    assert(number < a->role_count);
    return a->roles[number];
}

bool agent_has_role(const struct agent *a, const char *role)
{
    for (size_t i = 0; i < a->role_count; i++) {
        if (!strcmp(a->roles[i], role))
            return true;
    }
    return false;
}

const struct agent_quota *agent_quota(const struct agent *a)
{
    return &a->quota;
}

int agent_weight(const struct agent *a)
{
    return a->weight;
}

/* ---- state ---- */

enum agent_state agent_state(const struct agent *a)
{
    int state = atomic_load_explicit(&a->state, memory_order_acquire);

    if (state != AGENT_READY)
        return (enum agent_state)state;
    if (atomic_load_explicit(&a->running, memory_order_relaxed))
        return AGENT_RUNNING;
    return atomic_load_explicit(&a->under_way, memory_order_relaxed) ? AGENT_WAITING : AGENT_READY;
}

bool agent_change(struct agent *a, enum agent_state to)
{
#define TO(state) (1u << AGENT_##state)
    static const unsigned steps[AGENT_STATE_COUNT] = {
        [AGENT_CREATED] = TO(READY) | TO(ENDED) | TO(FAILED),
        [AGENT_READY] = TO(SUSPENDED) | TO(ENDED) | TO(FAILED),
        [AGENT_SUSPENDED] = TO(READY) | TO(ENDED) | TO(FAILED),
        [AGENT_ENDED] = 0,
        [AGENT_FAILED] = 0,
    };
#undef TO
    int from = atomic_load(&a->state);

    if ((unsigned)to >= AGENT_STATE_COUNT)
        return false;
    do {
        if (!(steps[from] & 1u << to))
            return false;
    } while (!atomic_compare_exchange_weak(&a->state, &from, (int)to));
    return true;
}

const char *agent_state_name(enum agent_state state)
{
    static const char *const names[AGENT_STATE_COUNT] = {
        [AGENT_CREATED] = "created", [AGENT_READY] = "ready",         [AGENT_RUNNING] = "running",
        [AGENT_WAITING] = "waiting", [AGENT_SUSPENDED] = "suspended", [AGENT_ENDED] = "ended",
        [AGENT_FAILED] = "failed",
    };

    return (unsigned)state < AGENT_STATE_COUNT ? names[state] : "unknown";
}

bool agent_may_call(const struct agent *a, struct error *err)
{
    switch (atomic_load_explicit(&a->state, memory_order_acquire)) {
    case AGENT_READY:
        return true;
    case AGENT_SUSPENDED:
        return error_set(err, ERR_BUSY, "agent %s is suspended; it can go on once it is resumed",
                         a->name);
    case AGENT_CREATED:
        return error_set(err, ERR_DENIED, "agent %s has not been started", a->name);
    default:
        return error_set(err, ERR_DENIED, "agent %s is over (%s); ask as another agent", a->name,
                         agent_state_name(agent_state(a)));
    }
}

/* The loop is the only writer, so that this needs no locked instruction. */
static void set_under_way(struct agent *a, int change)
{
    unsigned count = atomic_load_explicit(&a->under_way, memory_order_relaxed);

    assert(change > 0 || count > 0);
    atomic_store_explicit(&a->under_way, count + (unsigned)change, memory_order_relaxed);
}

void agent_call_begun(struct agent *a, int64_t now_ns)
{
    set_under_way(a, 1);
    atomic_store_explicit(&a->active_ns, now_ns, memory_order_relaxed);
}

void agent_call_done(struct agent *a, int64_t now_ns)
{
    set_under_way(a, -1);
    atomic_store_explicit(&a->active_ns, now_ns, memory_order_relaxed);
}

void agent_call_taken(struct agent *a)
{
    atomic_fetch_add_explicit(&a->running, 1, memory_order_relaxed);
}

void agent_call_put(struct agent *a)
{
    unsigned before = atomic_fetch_sub_explicit(&a->running, 1, memory_order_relaxed);

    assert(before > 0);
    (void)before;
}

int64_t agent_active_ns(const struct agent *a)
{
    return atomic_load_explicit(&a->active_ns, memory_order_relaxed);
}

unsigned agent_calls_under_way(const struct agent *a)
{
    return atomic_load_explicit(&a->under_way, memory_order_relaxed);
}

/* ---- usage ---- */

void agent_add_use(struct agent *a, enum agent_use what, int64_t amount)
{
    atomic_fetch_add_explicit(&a->used[what], amount, memory_order_relaxed);
}

int64_t agent_used(const struct agent *a, enum agent_use what)
{
    return atomic_load_explicit(&a->used[what], memory_order_relaxed);
}

const char *agent_use_name(enum agent_use what)
{
    static const char *const names[AGENT_USE_COUNT] = {
        [AGENT_CALLS] = "calls",           [AGENT_CALLS_FAILED] = "calls_failed",
        [AGENT_WAITED_NS] = "waited_ns",   [AGENT_SERVED_NS] = "served_ns",
        [AGENT_TOKENS_IN] = "tokens_in",   [AGENT_TOKENS_OUT] = "tokens_out",
        [AGENT_COST_MICRO] = "cost_micro", [AGENT_BYTES_IN] = "bytes_in",
        [AGENT_BYTES_OUT] = "bytes_out",
    };

    return (unsigned)what < AGENT_USE_COUNT ? names[what] : "unknown";
}

/* ---- what others keep of it ---- */

struct sched_lane *agent_lane(struct agent *a, unsigned class)
{
    assert(class < SYSCALL_CLASS_COUNT);
    return &a->lanes[class];
}

struct agent_watch *agent_watch(const struct agent *a)
{
    return atomic_load_explicit(&a->watch, memory_order_acquire);
}

void agent_set_watch(struct agent *a, struct agent_watch *watch)
{
    assert(!agent_watch(a));
    atomic_store_explicit(&a->watch, watch, memory_order_release);
}
