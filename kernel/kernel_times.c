#include <stdlib.h>
#include <string.h>

#include "kernel/kernel_state.h"

/* What is kept of a class under a policy, and of an agent. */
struct agent_watch {
    struct histogram wait, service;
};

static void note(struct agent_watch *watch, const struct syscall *sc)
{
    histogram_add(&watch->wait, sc->waited_ns);
    if (sc->slices)
        histogram_add(&watch->service, sc->served_ns);
}

static size_t number_of(const struct sched_policy *policy)
{
    size_t number = 0;

    while (number < KERNEL_POLICIES_MAX && sched_policy_at(number) != policy)
        number++;
    return number;
}

/* Without memory there are simply no times. */
static struct agent_watch *watch_of_class(struct kernel *k, const struct syscall *sc)
{
    /* One that was never popped waited under the policy of now. */
    size_t number = number_of(
        sc->policy ? sc->policy : sched_policy_find(sched_policy_name(k->scheds[sc->class])));
    struct agent_watch *watch;

    if (number >= KERNEL_POLICIES_MAX)
        return NULL;
    watch = atomic_load_explicit(&k->watches[sc->class][number], memory_order_relaxed);
    if (!watch) {
        watch = calloc(1, sizeof *watch);
        atomic_store_explicit(&k->watches[sc->class][number], watch, memory_order_release);
    }
    return watch;
}

static struct agent_watch *watch_of_agent(struct kernel *k, struct agent *a)
{
    struct agent_watch *watch = agent_watch(a);

    if (watch || k->agents_watched >= KERNEL_AGENTS_WATCHED)
        return watch;
    watch = calloc(1, sizeof *watch);
    if (watch) {
        k->agents_watched++;
        agent_set_watch(a, watch);
    }
    return watch;
}

void kernel_note_times(struct kernel *k, struct syscall *sc)
{
    struct agent_watch *of_class = watch_of_class(k, sc), *of_agent = watch_of_agent(k, sc->agent);

    if (of_class)
        note(of_class, sc);
    if (of_agent)
        note(of_agent, sc);
}

void kernel_free_times(struct kernel *k)
{
    for (int class = 0; class < SYSCALL_CLASS_COUNT; class ++) {
        for (size_t i = 0; i < KERNEL_POLICIES_MAX; i++)
            free(atomic_load(&k->watches[class][i]));
    }
}

/* ---- looking ---- */

static void sum_up(const struct agent_watch *watch, struct kernel_times *ret)
{
    histogram_sum_up(&watch->wait, &ret->wait);
    histogram_sum_up(&watch->service, &ret->service);
}

bool kernel_times(struct kernel *k, enum syscall_class class, const char *policy,
                  struct kernel_times *ret)
{
    const struct sched_policy *wanted = policy ? sched_policy_find(policy) : NULL;
    struct agent_watch all = { .wait = { .count = 0 } };

    if (policy && !wanted)
        return false;
    for (size_t i = 0; i < KERNEL_POLICIES_MAX; i++) {
        const struct agent_watch *watch =
            atomic_load_explicit(&k->watches[class][i], memory_order_acquire);

        if (!watch || (wanted && sched_policy_at(i) != wanted))
            continue;
        histogram_merge(&all.wait, &watch->wait);
        histogram_merge(&all.service, &watch->service);
    }
    sum_up(&all, ret);
    return ret->wait.count > 0;
}

bool kernel_agent_times(const struct agent *agent, struct kernel_times *ret)
{
    const struct agent_watch *watch = agent_watch(agent);

    if (!watch)
        return false;
    sum_up(watch, ret);
    return ret->wait.count > 0;
}
