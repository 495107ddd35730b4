#include "kernel/sched.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/sched_order.h"

/* How often a popper looks for more before it sleeps: about as long as being woken would take. */
#define SPIN_ROUNDS 400

#define TINY_NS 5000 /* a call that takes less is over before another thread would have it */

/* Counts are written under the lock unless it says otherwise, and read anywhere. */
typedef _Atomic size_t count_t;

struct sched {
    size_t capacity; /* constant */
    size_t slow_max; /* constant */
    long processors; /* constant */

    pthread_mutex_t lock; /* guards all that follows */
    pthread_cond_t more;  /* something can be popped that could not before, or closed */
    struct sched_order order;
    uint64_t next_ticket, next_turn;
    int64_t backlog_ns; /* what those that wait are expected to take */
    size_t waking;      /* sleepers that were signalled and have not come yet */
    uint64_t pushed, popped, refused, put_aside;
    uint64_t popped_before; /* at the last sched_look_again() */
    bool closed;

    count_t waiting[SCHED_SPEEDS];
    count_t running[SCHED_SPEEDS]; /* popped, not yet finished; counted down without the lock */
    count_t workers;               /* sched_attach(); changed without the lock */
    count_t sleepers;              /* poppers on the condition */
    count_t spinners;              /* and those that look for a little while */
    atomic_bool put_off;
    _Atomic int64_t quantum_ns; /* 0: the policy has none */
};

static const struct sched_policy *const policies[] = { &sched_fifo, &sched_priority, &sched_sjf,
                                                       &sched_rr, &sched_edf };

const struct sched_policy *sched_policy_at(size_t number)
{
    return number < ARRAY_LEN(policies) ? policies[number] : NULL;
}

const struct sched_policy *sched_policy_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        if (!strcmp(policies[i]->name, name))
            return policies[i];
    }
    return NULL;
}

/* ---- counting ---- */

static size_t get(const count_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

static void set(count_t *count, size_t value)
{
    atomic_store_explicit(count, value, memory_order_relaxed);
}

static size_t waiting_of(const struct sched *s)
{
    return get(&s->waiting[SCHED_QUICK]) + get(&s->waiting[SCHED_SLOW]);
}

/* How many could be popped right now. */
static size_t ready_of(struct sched *s)
{
    size_t running = atomic_load(&s->running[SCHED_SLOW]);
    size_t room = running < s->slow_max ? s->slow_max - running : 0;

    return get(&s->waiting[SCHED_QUICK]) + MIN(get(&s->waiting[SCHED_SLOW]), room);
}

static enum sched_speed speed_of(const struct syscall *sc)
{
    return sched_is_quick(sc) ? SCHED_QUICK : SCHED_SLOW;
}

/* Nobody knows how long a tool takes that was never seen. */
static int64_t backlog_of(const struct syscall *sc)
{
    int64_t ns = sc->expected_ns ? sc->expected_ns : CLOCK_NS_PER_S;

    return MIN(ns, CLOCK_NS_PER_S);
}

static void enter_locked(struct sched *s, struct syscall *sc)
{
    count_t *waiting = &s->waiting[speed_of(sc)];

    sched_order_add(&s->order, sc);
    sc->queued = true;
    s->backlog_ns += backlog_of(sc);
    set(waiting, get(waiting) + 1);
}

static void left_locked(struct sched *s, struct syscall *sc)
{
    count_t *waiting = &s->waiting[speed_of(sc)];

    sc->queued = false;
    s->backlog_ns -= backlog_of(sc);
    set(waiting, get(waiting) - 1);
    if (s->closed && !waiting_of(s))
        pthread_cond_broadcast(&s->more); /* the others need not wait any more */
}

static void popped_locked(struct sched *s, struct syscall *sc, enum sched_speed speed)
{
    s->popped++;
    sc->speed = speed;
    sc->policy = s->order.policy;
    atomic_fetch_add(&s->running[speed], 1);
}

/* ---- waking ---- */

static void wake_locked(struct sched *s, size_t count)
{
    size_t asleep = get(&s->sleepers) - s->waking;

    for (count = MIN(count, asleep); count; count--) {
        s->waking++;
        pthread_cond_signal(&s->more);
    }
}

/* How many more threads could find something to do. */
static size_t wanted_locked(struct sched *s)
{
    size_t ready = ready_of(s), coming = s->waking + get(&s->spinners);

    return ready > coming ? ready - coming : 0;
}

/* True when those that are up and about will have done it before a sleeper would have come, or when
 * each is so short that more threads than processors would only stand in each other's way. */
static bool soon_done_locked(struct sched *s)
{
    size_t workers = get(&s->workers), asleep = get(&s->sleepers) - s->waking;
    int64_t awake = workers > asleep ? (int64_t)(workers - asleep) : 0;

    return awake && (s->backlog_ns < awake * SCHED_PUT_OFF_NS ||
                     (awake >= s->processors && s->backlog_ns < (int64_t)waiting_of(s) * TINY_NS));
}

static void set_put_off(struct sched *s, bool put_off)
{
    atomic_store_explicit(&s->put_off, put_off, memory_order_relaxed);
}

/* ---- making ---- */

static void use_policy_locked(struct sched *s, const struct sched_policy *policy,
                              const struct sched_tuning *tuning)
{
    static const struct sched_tuning plain = { .ageing_ns = 0 };

    sched_order_init(&s->order, policy, tuning ? tuning : &plain, s->order.clock_ns);
    atomic_store(&s->quantum_ns, policy->preempts && tuning ? tuning->quantum_ns : 0);
}

struct sched *sched_new(const struct sched_policy *policy, const struct sched_tuning *tuning,
                        size_t capacity, size_t slow_max, struct error *err)
{
    pthread_mutexattr_t attr;
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
    s->capacity = capacity;
    s->slow_max = slow_max;
    s->processors = sysconf(_SC_NPROCESSORS_ONLN);
    use_policy_locked(s, policy, tuning);
    /* Held for tens of nanoseconds: better looked at again than slept on. */
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&s->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    cond_init(&s->more);
    return s;
}

void sched_free(struct sched *s)
{
    if (!s)
        return;
    assert(waiting_of(s) == 0 && get(&s->sleepers) == 0);
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- in ---- */

enum sched_status sched_push(struct sched *s, struct syscall *sc)
{
    enum sched_status status = SCHED_OK;

    pthread_mutex_lock(&s->lock);
    assert(!sc->queued);
    if (s->closed) {
        status = SCHED_CLOSED;
    } else if (waiting_of(s) >= s->capacity) {
        status = SCHED_FULL;
    } else {
        sc->ticket = s->next_ticket++;
        sc->turn = s->next_turn++;
        enter_locked(s, sc);
        s->pushed++;
        if (wanted_locked(s)) {
            set_put_off(s, soon_done_locked(s));
            wake_locked(s, sched_put_off(s) ? 0 : 1);
        }
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
    } else if (ready_of(s) ||
               (!sched_is_quick(sc) && get(&s->running[SCHED_SLOW]) >= s->slow_max)) {
        status = SCHED_FULL;
    } else {
        s->pushed++;
        popped_locked(s, sc, speed_of(sc));
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* ---- out ---- */

static struct syscall *take_locked(struct sched *s)
{
    bool quick_only = atomic_load(&s->running[SCHED_SLOW]) >= s->slow_max;
    struct syscall *sc;

    if (!waiting_of(s))
        return NULL;
    sc = sched_order_first(&s->order, quick_only);
    if (!sc)
        return NULL;
    sched_order_take(&s->order, sc);
    left_locked(s, sc);
    popped_locked(s, sc, speed_of(sc));
    return sc;
}

/* With whom it may be handled; NULL: with nobody. */
static tool_batch_fn *batch_of(const struct syscall *sc)
{
    return sc->apart ? NULL : sc->tool->batch;
}

/* The next one if it may ride with those of @batch. */
static struct syscall *take_rider_locked(struct sched *s, tool_batch_fn *batch)
{
    struct syscall *sc = sched_order_first(&s->order, false);

    if (!sc || batch_of(sc) != batch)
        return NULL;
    sched_order_take(&s->order, sc);
    left_locked(s, sc);
    popped_locked(s, sc, SCHED_QUICK); /* it needs no worker of its own */
    return sc;
}

static size_t take_batch_locked(struct sched *s, struct syscall **ret, size_t max)
{
    struct syscall *sc = take_locked(s);
    size_t count = 0;

    while (sc) {
        ret[count++] = sc;
        if (count == max || !batch_of(ret[0]))
            break;
        sc = take_rider_locked(s, batch_of(ret[0]));
    }
    return count;
}

static void pause_a_moment(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Look for a little while, with the lock let go: being woken takes longer than most gaps between
 * calls.  One thread does so at a time. */
static void spin_locked(struct sched *s)
{
    size_t none = 0;

    if (s->processors < 2 || !atomic_compare_exchange_strong(&s->spinners, &none, 1))
        return;
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < SPIN_ROUNDS && !ready_of(s); i++)
        pause_a_moment();
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->spinners, 0); /* who pushes from now on wakes somebody */
}

static bool sleep_locked(struct sched *s, const struct wait *w)
{
    bool in_time;

    /* Before looking once more at what runs: sched_finished() counts down first and then looks for
     * sleepers, without the lock. */
    atomic_fetch_add(&s->sleepers, 1);
    if (ready_of(s)) {
        atomic_fetch_sub(&s->sleepers, 1);
        return true;
    }
    in_time = wait_cond(w, &s->more, &s->lock);
    if (s->waking)
        s->waking--;
    atomic_fetch_sub(&s->sleepers, 1);
    return in_time;
}

enum sched_status sched_pop_batch(struct sched *s, int64_t timeout_ns, struct syscall **ret,
                                  size_t max, size_t *ret_count)
{
    struct wait w = { .deadline_ns = CLOCK_NEVER };
    enum sched_status status = SCHED_OK;
    bool in_time = timeout_ns > 0;
    size_t count;

    pthread_mutex_lock(&s->lock);
    while (!(count = take_batch_locked(s, ret, max))) {
        if (s->closed && !waiting_of(s)) {
            status = SCHED_CLOSED;
            break;
        }
        if (!in_time) {
            status = SCHED_TIMEOUT;
            break;
        }
        if (w.deadline_ns != CLOCK_NEVER) {
            in_time = sleep_locked(s, &w);
            continue;
        }
        spin_locked(s);
        w.deadline_ns = clock_add_ns(clock_now_ns(), timeout_ns);
    }
    pthread_mutex_unlock(&s->lock);
    if (count)
        *ret_count = count;
    return status;
}

enum sched_status sched_pop(struct sched *s, int64_t timeout_ns, struct syscall **ret)
{
    size_t count;

    return sched_pop_batch(s, timeout_ns, ret, 1, &count);
}

bool sched_remove(struct sched *s, struct syscall *sc)
{
    bool queued;

    pthread_mutex_lock(&s->lock);
    queued = sc->queued;
    if (queued) {
        sched_order_remove(&s->order, sc);
        left_locked(s, sc);
    }
    pthread_mutex_unlock(&s->lock);
    return queued;
}

/* ---- after the handler ---- */

/* True when one more slow one may run now than before. */
static bool uncount(struct sched *s, const struct syscall *sc)
{
    size_t before = atomic_fetch_sub(&s->running[sc->speed], 1);

    assert(before > 0);
    return sc->speed == SCHED_SLOW && before >= s->slow_max;
}

static void wake_wanted_locked(struct sched *s)
{
    if (wanted_locked(s))
        wake_locked(s, 1);
}

void sched_finished(struct sched *s, struct syscall *sc)
{
    bool room = uncount(s, sc);

    if (!sc->charged_ns && (!room || !atomic_load(&s->sleepers)))
        return;
    pthread_mutex_lock(&s->lock);
    sched_order_settle(&s->order, sc, sc->slice_ns);
    /* Who finished this one may never come back for the one that has room now. */
    wake_wanted_locked(s);
    pthread_mutex_unlock(&s->lock);
}

enum sched_status sched_requeue(struct sched *s, struct syscall *sc)
{
    enum sched_status status = SCHED_OK;

    pthread_mutex_lock(&s->lock);
    (void)uncount(s, sc);
    sched_order_settle(&s->order, sc, sc->slice_ns);
    if (s->closed) {
        status = SCHED_CLOSED;
    } else if (atomic_load(&sc->stop) != SYSCALL_STOP_NONE) {
        status = SCHED_STOPPED;
    } else {
        sc->turn = s->next_turn++;
        s->put_aside++;
        enter_locked(s, sc);
        wake_wanted_locked(s);
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

bool sched_quantum_is_up(struct sched *s, int64_t since_ns)
{
    int64_t quantum_ns = atomic_load_explicit(&s->quantum_ns, memory_order_relaxed);

    return quantum_ns && waiting_of(s) > get(&s->sleepers) + get(&s->spinners) &&
           clock_now_ns() - since_ns >= quantum_ns;
}

/* ---- the policy ---- */

void sched_change(struct sched *s, const struct sched_policy *policy,
                  const struct sched_tuning *tuning)
{
    struct list waiting;
    struct syscall *sc;

    list_init(&waiting);
    pthread_mutex_lock(&s->lock);
    while ((sc = sched_order_first(&s->order, false))) {
        sched_order_remove(&s->order, sc);
        list_append(&waiting, &sc->link);
    }
    use_policy_locked(s, policy, tuning);
    while (!list_empty(&waiting)) {
        sc = LIST_ENTRY(waiting.next, struct syscall, link);
        list_remove(&sc->link);
        sched_order_add(&s->order, sc);
    }
    pthread_mutex_unlock(&s->lock);
}

const char *sched_policy_name(struct sched *s)
{
    const char *name;

    pthread_mutex_lock(&s->lock);
    name = s->order.policy->name;
    pthread_mutex_unlock(&s->lock);
    return name;
}

/* ---- looking ---- */

void sched_stats(struct sched *s, struct sched_stats *ret)
{
    pthread_mutex_lock(&s->lock);
    *ret = (struct sched_stats){
        .waiting = waiting_of(s),
        .running = get(&s->running[SCHED_QUICK]) + get(&s->running[SCHED_SLOW]),
        .idle_poppers = get(&s->sleepers),
        .pushed = s->pushed,
        .popped = s->popped,
        .refused = s->refused,
        .put_aside = s->put_aside,
        .policy = s->order.policy->name,
        .fair = s->order.tuning.fair,
    };
    pthread_mutex_unlock(&s->lock);
}

bool sched_starved(struct sched *s)
{
    return !sched_put_off(s) && ready_of(s) > get(&s->sleepers) + get(&s->spinners);
}

bool sched_put_off(struct sched *s)
{
    return atomic_load_explicit(&s->put_off, memory_order_relaxed);
}

size_t sched_look_again(struct sched *s)
{
    size_t wanted, asleep;
    bool progress;

    pthread_mutex_lock(&s->lock);
    progress = s->popped != s->popped_before;
    s->popped_before = s->popped;
    wanted = wanted_locked(s);
    asleep = get(&s->sleepers) - s->waking;
    set_put_off(s, wanted && progress && soon_done_locked(s));
    if (sched_put_off(s))
        wanted = 0;
    wake_locked(s, wanted);
    pthread_mutex_unlock(&s->lock);
    return wanted > asleep ? wanted - asleep : 0;
}

void sched_attach(struct sched *s)
{
    atomic_fetch_add(&s->workers, 1);
}

void sched_detach(struct sched *s)
{
    atomic_fetch_sub(&s->workers, 1);
}

void sched_close(struct sched *s)
{
    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->lock);
}
