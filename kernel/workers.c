#include "kernel/workers.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/base/log.h"
#include "kernel/cpus.h"

#define IDLE_NS (10 * CLOCK_NS_PER_S)

/* Handlers keep what is large on the heap; the sanitizers' frames need more room. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (1u << 20)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define STACK_BYTES (1u << 20)
#endif
#endif
#ifndef STACK_BYTES
#define STACK_BYTES (256u << 10)
#endif

enum slot_state { SLOT_FREE, SLOT_LIVE, SLOT_ENDED /* to be joined */ };

struct slot {
    struct workers *workers;
    pthread_t thread;
    enum slot_state state; /* guarded by workers->lock, like the thread */
};

struct workers {
    char name[12]; /* constant, like what follows */
    char cpus[64];
    const char *sysfs;
    struct sched *sched;
    workers_fn *fn;
    void *arg;
    size_t least, most;
    int64_t idle_ns;

    pthread_mutex_t lock; /* guards all that follows */
    size_t count;
    uint64_t started, ended, unbound;
    struct error unbound_why;
    /* A kick came while no thread could be made: the next one that would end for idleness looks
     * once more.  Without it a syscall pushed in that moment would wait for the next push. */
    bool pending;
    struct slot slots[];
};

static bool spec_fits(const struct workers_spec *spec, struct error *err)
{
    if (spec->most < 1 || spec->most > LIMIT_WORKERS || spec->least > spec->most)
        return error_set(err, ERR_INVALID, "%zu to %zu workers; there may be 0 or more to 1 to %u",
                         spec->least, spec->most, LIMIT_WORKERS);
    if (spec->cpus && strlen(spec->cpus) >= sizeof((struct workers *)NULL)->cpus)
        return error_set(err, ERR_INVALID, "the list of processors is too long");
    return !spec->cpus || cpus_check(spec->cpus, err);
}

struct workers *workers_new(const struct workers_spec *spec, struct sched *sched, workers_fn *fn,
                            void *arg, struct error *err)
{
    struct workers *w;

    if (!spec_fits(spec, err))
        return NULL;
    w = calloc(1, sizeof *w + spec->most * sizeof w->slots[0]);
    if (!w) {
        error_set(err, ERR_NOMEM, "%zu workers", spec->most);
        return NULL;
    }
    (void)snprintf(w->name, sizeof w->name, "%s", spec->name);
    (void)snprintf(w->cpus, sizeof w->cpus, "%s", spec->cpus ? spec->cpus : "");
    w->sysfs = spec->sysfs ? spec->sysfs : "/sys";
    w->sched = sched;
    w->fn = fn;
    w->arg = arg;
    w->least = spec->least;
    w->most = spec->most;
    w->idle_ns = IDLE_NS;
    pthread_mutex_init(&w->lock, NULL);
    return w;
}

void workers_set_idle(struct workers *w, int64_t idle_ns)
{
    assert(!w->count);
    w->idle_ns = idle_ns;
}

/* True when the thread of @slot is to end now. */
static bool leave(struct workers *w, struct slot *slot, bool closed)
{
    bool stay;

    pthread_mutex_lock(&w->lock);
    stay = !closed && (w->pending || w->count <= w->least);
    w->pending = false;
    if (!stay) {
        slot->state = SLOT_ENDED;
        w->count--;
        w->ended++;
        sched_detach(w->sched);
    }
    pthread_mutex_unlock(&w->lock);
    return !stay;
}

/* To the processors that it is to use.  A thread that cannot be bound works all the same, and says
 * so. */
static void bind(struct workers *w, size_t number)
{
    struct error err = ERROR_INIT;
    cpu_set_t set;
    bool any, first;

    if (cpus_of_thread(w->cpus, number, w->sysfs, &set, &any, &err)) {
        int rc = any ? 0 : pthread_setaffinity_np(pthread_self(), sizeof set, &set);

        if (!rc)
            return;
        error_set_errno(&err, rc, "the system refuses these processors");
    }
    pthread_mutex_lock(&w->lock);
    first = w->unbound++ == 0;
    if (first)
        w->unbound_why = err;
    pthread_mutex_unlock(&w->lock);
    if (first)
        log_line(LOG_WARN, "workers_unbound", "class=%s cpus=%s why=%s", w->name, LOG_ESC(w->cpus),
                 LOG_ESC(err.text));
}

static void *worker_main(void *arg)
{
    struct slot *slot = arg;
    struct workers *w = slot->workers;
    size_t number = (size_t)(slot - w->slots);
    struct syscall *calls[TOOL_BATCH_MAX];
    char name[16];

    (void)snprintf(name, sizeof name, "%s-%u", w->name, (unsigned)number % 1000u);
    (void)pthread_setname_np(pthread_self(), name);
    bind(w, number);
    for (;;) {
        size_t count = 0;
        enum sched_status status =
            sched_pop_batch(w->sched, w->idle_ns, calls, TOOL_BATCH_MAX, &count);

        if (status == SCHED_OK)
            w->fn(w->arg, calls, count);
        else if (leave(w, slot, status == SCHED_CLOSED))
            return NULL;
    }
}

static int start(struct slot *slot)
{
    sigset_t all, before;
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);

    if (rc)
        return rc;
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    /* The new thread inherits the mask, so no signal ever meets it. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&slot->thread, &attr, worker_main, slot);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

static int add_worker_locked(struct workers *w)
{
    struct slot *slot = w->slots;
    int rc;

    while (slot->state == SLOT_LIVE)
        slot++; /* count < most: there is one */
    /* An ended thread has nothing left to do but to return, so this does not wait. */
    if (slot->state == SLOT_ENDED)
        pthread_join(slot->thread, NULL);
    slot->state = SLOT_FREE;
    slot->workers = w;
    /* Before it can be there, so that it is never idle without being counted. */
    sched_attach(w->sched);
    rc = start(slot);
    if (rc) {
        sched_detach(w->sched);
        return rc;
    }
    slot->state = SLOT_LIVE;
    w->count++;
    w->started++;
    return 0;
}

bool workers_kick(struct workers *w, struct error *err)
{
    int rc = 0;
    bool none;

    if (!sched_starved(w->sched))
        return true;
    pthread_mutex_lock(&w->lock);
    do {
        if (w->count < w->most)
            rc = add_worker_locked(w);
        else
            w->pending = true;
    } while (!rc && w->count < w->least);
    if (rc)
        w->pending = true;
    none = w->count == 0;
    pthread_mutex_unlock(&w->lock);
    return !none || error_set_errno(err, rc, "start a worker thread");
}

void workers_free(struct workers *w)
{
    if (!w)
        return;
    /* Nobody kicks any more, so slots only go from live to ended, which the join waits for. */
    for (size_t i = 0; i < w->most; i++) {
        bool used;

        pthread_mutex_lock(&w->lock);
        used = w->slots[i].state != SLOT_FREE;
        pthread_mutex_unlock(&w->lock);
        if (used)
            pthread_join(w->slots[i].thread, NULL);
    }
    pthread_mutex_destroy(&w->lock);
    free(w);
}

size_t workers_count(struct workers *w)
{
    size_t count;

    pthread_mutex_lock(&w->lock);
    count = w->count;
    pthread_mutex_unlock(&w->lock);
    return count;
}

void workers_stats(struct workers *w, struct workers_stats *ret)
{
    *ret = (struct workers_stats){ .least = w->least, .most = w->most };
    (void)snprintf(ret->cpus, sizeof ret->cpus, "%s", w->cpus);
    pthread_mutex_lock(&w->lock);
    ret->count = w->count;
    ret->started = w->started;
    ret->ended = w->ended;
    ret->unbound = w->unbound;
    (void)snprintf(ret->unbound_why, sizeof ret->unbound_why, "%.127s", w->unbound_why.text);
    pthread_mutex_unlock(&w->lock);
}
