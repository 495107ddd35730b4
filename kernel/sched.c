#include "kernel/sched.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"

/* Quick and slow syscalls are counted apart. */
struct tally {
    size_t quick;
    size_t slow;
};

struct sched {
    size_t capacity; /* constant */
    size_t slow_max; /* constant */

    pthread_mutex_t lock; /* guards all that follows */
    pthread_cond_t more;  /* something can be popped that could not before, or closed */
    const struct sched_policy *policy;
    void *state;
    struct tally waiting;
    struct tally running; /* popped, not yet finished */
    size_t idle_poppers;
    uint64_t pushed, popped, refused;
    bool closed;
};

static const struct sched_policy *const policies[] = { &sched_fifo };

const struct sched_policy *sched_policy_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        if (!strcmp(policies[i]->name, name))
            return policies[i];
    }
    return NULL;
}

struct sched *sched_new(const struct sched_policy *policy, size_t capacity, size_t slow_max,
                        struct error *err)
{
    struct sched *s;

    if (capacity < 1 || capacity > LIMIT_QUEUE || slow_max < 1) {
        error_set(err, ERR_INVALID, "a queue holds 1 to %u, not %zu, and runs at least 1, not %zu",
                  LIMIT_QUEUE, capacity, slow_max);
        return NULL;
    }
    s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NOMEM, "queue of %zu", capacity);
        return NULL;
    }
    s->state = policy->make(err);
    if (!s->state) {
        free(s);
        return NULL;
    }
    s->policy = policy;
    s->capacity = capacity;
    s->slow_max = slow_max;
    pthread_mutex_init(&s->lock, NULL);
    cond_init(&s->more);
    return s;
}

void sched_free(struct sched *s)
{
    if (!s)
        return;
    assert(s->waiting.quick + s->waiting.slow == 0 && s->idle_poppers == 0);
    s->policy->free(s->state);
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static size_t waiting_locked(const struct sched *s)
{
    return s->waiting.quick + s->waiting.slow;
}

/* Counts the syscall itself. */
static size_t *lane_of(struct tally *tally, const struct syscall *sc)
{
    return sched_is_quick(sc) ? &tally->quick : &tally->slow;
}

/* How many could be popped right now. */
static size_t ready_locked(const struct sched *s)
{
    size_t room = s->running.slow < s->slow_max ? s->slow_max - s->running.slow : 0;

    return s->waiting.quick + MIN(s->waiting.slow, room);
}

static void count_popped_locked(struct sched *s, const struct syscall *sc)
{
    s->popped++;
    ++*lane_of(&s->running, sc);
}

enum sched_status sched_push(struct sched *s, struct syscall *sc)
{
    int64_t now_ns = sc->submitted_ns ? sc->submitted_ns : clock_now_ns();
    enum sched_status status = SCHED_OK;

    pthread_mutex_lock(&s->lock);
    assert(!sc->queued);
    if (s->closed) {
        status = SCHED_CLOSED;
    } else if (waiting_locked(s) >= s->capacity) {
        status = SCHED_FULL;
    } else {
        s->policy->push(s->state, sc, now_ns);
        sc->queued = true;
        s->pushed++;
        ++*lane_of(&s->waiting, sc);
        if (s->idle_poppers && ready_locked(s))
            pthread_cond_signal(&s->more);
    }
    if (status != SCHED_OK)
        s->refused++;
    pthread_mutex_unlock(&s->lock);
    return status;
}

enum sched_status sched_bypass(struct sched *s, struct syscall *sc)
{
    enum sched_status status = SCHED_OK;

    pthread_mutex_lock(&s->lock);
    if (s->closed) {
        status = SCHED_CLOSED;
        s->refused++;
    } else if (ready_locked(s) || (!sched_is_quick(sc) && s->running.slow >= s->slow_max)) {
        status = SCHED_FULL;
    } else {
        s->pushed++;
        count_popped_locked(s, sc);
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

static struct syscall *take_locked(struct sched *s)
{
    bool quick_only = s->running.slow >= s->slow_max;
    struct syscall *sc;

    if (!ready_locked(s))
        return NULL;
    sc = s->policy->pop(s->state, clock_now_ns(), quick_only);
    assert(sc && sc->queued);
    sc->queued = false;
    --*lane_of(&s->waiting, sc);
    count_popped_locked(s, sc);
    if (s->closed && !waiting_locked(s))
        pthread_cond_broadcast(&s->more); /* the others need not wait any more */
    return sc;
}

enum sched_status sched_pop(struct sched *s, int64_t timeout_ns, struct syscall **ret)
{
    struct wait w = { .deadline_ns = CLOCK_NEVER };
    enum sched_status status = SCHED_OK;
    bool in_time = timeout_ns > 0;
    struct syscall *sc;

    if (in_time)
        w.deadline_ns = clock_add_ns(clock_now_ns(), timeout_ns);
    pthread_mutex_lock(&s->lock);
    while (!(sc = take_locked(s))) {
        if (s->closed && !waiting_locked(s)) {
            status = SCHED_CLOSED;
            break;
        }
        if (!in_time) {
            status = SCHED_TIMEOUT;
            break;
        }
        s->idle_poppers++;
        in_time = wait_cond(&w, &s->more, &s->lock);
        s->idle_poppers--;
    }
    pthread_mutex_unlock(&s->lock);
    if (sc)
        *ret = sc;
    return status;
}

bool sched_remove(struct sched *s, struct syscall *sc)
{
    bool queued;

    pthread_mutex_lock(&s->lock);
    queued = sc->queued;
    if (queued) {
        s->policy->remove(s->state, sc);
        sc->queued = false;
        --*lane_of(&s->waiting, sc);
        if (s->closed && !waiting_locked(s))
            pthread_cond_broadcast(&s->more);
    }
    pthread_mutex_unlock(&s->lock);
    return queued;
}

void sched_finished(struct sched *s, struct syscall *sc)
{
    size_t *running;

    pthread_mutex_lock(&s->lock);
    running = lane_of(&s->running, sc);
    assert(*running > 0);
    --*running;
    /* One more slow one may run now, and who finished this one may never come back for it. */
    if (s->idle_poppers && ready_locked(s))
        pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
}

bool sched_change(struct sched *s, const struct sched_policy *policy, struct error *err)
{
    const struct sched_policy *old_policy;
    void *state = policy->make(err), *old_state;
    int64_t now_ns = clock_now_ns();
    struct syscall *sc;

    if (!state)
        return false;
    pthread_mutex_lock(&s->lock);
    old_policy = s->policy;
    old_state = s->state;
    while ((sc = old_policy->pop(old_state, now_ns, false)))
        policy->push(state, sc, now_ns);
    s->policy = policy;
    s->state = state;
    pthread_mutex_unlock(&s->lock);
    old_policy->free(old_state);
    return true;
}

void sched_stats(struct sched *s, struct sched_stats *ret)
{
    pthread_mutex_lock(&s->lock);
    *ret = (struct sched_stats){
        .waiting = waiting_locked(s),
        .running = s->running.quick + s->running.slow,
        .idle_poppers = s->idle_poppers,
        .pushed = s->pushed,
        .popped = s->popped,
        .refused = s->refused,
    };
    pthread_mutex_unlock(&s->lock);
}

bool sched_starved(struct sched *s)
{
    bool starved;

    pthread_mutex_lock(&s->lock);
    starved = ready_locked(s) > s->idle_poppers;
    pthread_mutex_unlock(&s->lock);
    return starved;
}

const char *sched_policy_name(struct sched *s)
{
    const char *name;

    pthread_mutex_lock(&s->lock);
    name = s->policy->name;
    pthread_mutex_unlock(&s->lock);
    return name;
}

void sched_close(struct sched *s)
{
    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->lock);
}
