#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/kernel_state.h"

/* How soon somebody looks whether those that were put off are being handled after all. */
#define LOOK_NS CLOCK_NS_PER_MS

/* Where a configuration made by hand says nothing. */
#define WORKERS_LEFT_OUT 4
#define QUEUE_LEFT_OUT   1024

/* ---- making ---- */

static const struct config_queue *config_of(const struct config *config, enum syscall_class class)
{
    switch (class) {
    case SYSCALL_LLM:
        return &config->llm.calls;
    case SYSCALL_MEMORY:
        return &config->memory.calls;
    case SYSCALL_STORAGE:
        return &config->storage.calls;
    default:
        return &config->tool.calls;
    }
}

/* Some workers are kept for what is short, or sixteen long runs would make a list of computers
 * wait. */
static size_t slow_max(enum syscall_class class, size_t workers)
{
    if (class != SYSCALL_TOOL)
        return workers;
    if (workers < 4)
        return MAX(workers - 1, 1u);
    return workers - MAX(workers / 8, 2u);
}

static struct sched_tuning tuning_of(const struct config_queue *q)
{
    return (struct sched_tuning){ .ageing_ns = q->ageing_ms * CLOCK_NS_PER_MS,
                                  .quantum_ns = q->quantum_ms * CLOCK_NS_PER_MS,
                                  .fair = q->fair };
}

static const struct sched_policy *policy_of(const char *name, struct error *err)
{
    const struct sched_policy *policy = sched_policy_find(name);

    if (!policy)
        error_set(err, ERR_INVALID,
                  "there is no scheduling policy \"%.40s\"; there are fifo, priority, sjf, rr, edf",
                  name);
    return policy;
}

static bool make_class(struct kernel *k, enum syscall_class class, struct error *err)
{
    const struct config_queue *q = config_of(k->config, class);
    const struct sched_policy *policy = policy_of(q->policy ? q->policy : "fifo", err);
    struct sched_tuning tuning = tuning_of(q);
    size_t workers = (size_t)MIN(q->workers > 0 ? q->workers : WORKERS_LEFT_OUT, LIMIT_WORKERS);
    size_t capacity = (size_t)MIN(q->queue > 0 ? q->queue : QUEUE_LEFT_OUT, LIMIT_QUEUE);
    const struct workers_spec spec = { .name = syscall_class_name(class),
                                       .least = MIN((size_t)MAX(q->workers_min, 0), workers),
                                       .most = workers,
                                       .cpus = q->cpus };

    if (!policy)
        return false;
    k->looks[class].kernel = k;
    k->looks[class].class = class;
    k->scheds[class] = sched_new(policy, &tuning, capacity, slow_max(class, workers), err);
    if (!k->scheds[class])
        return false;
    k->workers[class] = workers_new(&spec, k->scheds[class], kernel_work, k, err);
    return k->workers[class] != NULL;
}

bool kernel_make_queues(struct kernel *k, struct error *err)
{
    k->history = history_new(err);
    if (!k->history)
        return false;
    for (int class = 0; class < SYSCALL_CLASS_COUNT; class ++) {
        if (!make_class(k, (enum syscall_class) class, err))
            return false;
    }
    return true;
}

void kernel_quiet_queues(struct kernel *k)
{
    for (int class = 0; class < SYSCALL_CLASS_COUNT; class ++)
        loop_timer_stop(k->loop, &k->looks[class].timer);
}

void kernel_free_queues(struct kernel *k)
{
    for (int class = 0; class < SYSCALL_CLASS_COUNT; class ++)
        sched_free(k->scheds[class]);
    history_free(k->history);
    kernel_free_times(k);
}

/* ---- using ---- */

static void look_later(struct kernel *k, enum syscall_class class);

static void on_look(struct loop_timer *timer)
{
    struct kernel_look *look = CONTAINER_OF(timer, struct kernel_look, timer);
    struct kernel *k = look->kernel;
    size_t missing = sched_look_again(k->scheds[look->class]);

    /* Where no thread can be made there is one at least: nothing is put off without any. */
    while (missing-- && workers_kick(k->workers[look->class], NULL))
        continue;
    look_later(k, look->class);
}

static void look_later(struct kernel *k, enum syscall_class class)
{
    struct loop_timer *timer = &k->looks[class].timer;

    if (timer->slot || !sched_put_off(k->scheds[class]))
        return;
    /* Without memory for the timer nothing is put off. */
    if (!loop_timer_start(k->loop, timer, clock_add_ns(clock_now_ns(), LOOK_NS), on_look))
        on_look(timer);
}

enum sched_status kernel_push(struct kernel *k, struct syscall *sc)
{
    enum sched_status status;

    sc->expected_ns =
        sc->cost_ns > 0 ? sc->cost_ns : history_expect(k->history, sc->tool, sc->agent);
    sc->queued_ns = sc->submitted_ns;
    status = sched_push(k->scheds[sc->class], sc);
    if (status == SCHED_OK)
        look_later(k, sc->class);
    return status;
}

bool kernel_set_policy(struct kernel *k, enum syscall_class class, const char *name,
                       struct error *err)
{
    const struct sched_policy *policy = policy_of(name, err);
    struct sched_tuning tuning = tuning_of(config_of(k->config, class));

    if (policy)
        sched_change(k->scheds[class], policy, &tuning);
    return policy != NULL;
}

void kernel_stats(struct kernel *k, struct kernel_stats *ret)
{
    struct kernel_counts *c = &k->counts;

    *ret = (struct kernel_stats){ .submitted = atomic_load(&c->submitted),
                                  .done = atomic_load(&c->done),
                                  .failed = atomic_load(&c->failed),
                                  .cancelled = atomic_load(&c->cancelled),
                                  .timed_out = atomic_load(&c->timed_out),
                                  .denied = atomic_load(&c->denied),
                                  .busy = atomic_load(&c->busy) };
    for (int class = 0; class < SYSCALL_CLASS_COUNT; class ++) {
        sched_stats(k->scheds[class], &ret->classes[class]);
        workers_stats(k->workers[class], &ret->workers[class]);
    }
}
