#include "kernel/agent.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_NAME_BYTES 65

struct agent {
    atomic_uint refs;
    atomic_int state;
    char name[AGENT_NAME_BYTES]; /* constant, like the group */
    char group[AGENT_NAME_BYTES];
};

static bool word_fits(const char *word)
{
    size_t len = strlen(word);

    return len >= 1 && len < AGENT_NAME_BYTES &&
           strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == len;
}

struct agent *agent_new(const char *name, const char *group, struct error *err)
{
    struct agent *a;

    if (!word_fits(name) || (group && *group && !word_fits(group))) {
        error_set(err, ERR_INVALID,
                  "an agent's name and group are 1 to 64 of the characters A-Z a-z 0-9 _ . -");
        return NULL;
    }
    a = calloc(1, sizeof *a);
    if (!a) {
        error_set(err, ERR_NOMEM, "agent %s", name);
        return NULL;
    }
    atomic_init(&a->refs, 1);
    atomic_init(&a->state, AGENT_CREATED);
    memcpy(a->name, name, strlen(name) + 1);
    if (group)
        memcpy(a->group, group, strlen(group) + 1);
    return a;
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
    if (a && atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) == 1)
        free(a);
}

const char *agent_name(const struct agent *a)
{
    return a->name;
}

const char *agent_group(const struct agent *a)
{
    return a->group;
}

enum agent_state agent_state(const struct agent *a)
{
    return (enum agent_state)atomic_load_explicit(&a->state, memory_order_acquire);
}

bool agent_change(struct agent *a, enum agent_state to)
{
#define TO(state) (1u << AGENT_##state)
    static const unsigned steps[AGENT_STATE_COUNT] = {
        [AGENT_CREATED] = TO(READY) | TO(ENDED) | TO(FAILED),
        [AGENT_READY] = TO(RUNNING) | TO(SUSPENDED) | TO(ENDED) | TO(FAILED),
        [AGENT_RUNNING] = TO(READY) | TO(WAITING) | TO(SUSPENDED) | TO(ENDED) | TO(FAILED),
        [AGENT_WAITING] = TO(READY) | TO(RUNNING) | TO(SUSPENDED) | TO(ENDED) | TO(FAILED),
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
