#include "kernel/workers.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"

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
    struct sched *sched;
    workers_fn *fn;
    void *arg;
    size_t max;
    int64_t idle_ns;

    pthread_mutex_t lock; /* guards all that follows */
    size_t count;
    /* A kick came while no thread could be made: the next one that would end for idleness looks
     * once more.  Without it a syscall pushed in that moment would wait for the next push. */
    bool pending;
    struct slot slots[];
};

struct workers *workers_new(const char *name, struct sched *sched, size_t max, workers_fn *fn,
                            void *arg, struct error *err)
{
    struct workers *w;

    if (max < 1 || max > LIMIT_WORKERS) {
        error_set(err, ERR_INVALID, "%zu workers; there may be 1 to %u", max, LIMIT_WORKERS);
        return NULL;
    }
    w = calloc(1, sizeof *w + max * sizeof w->slots[0]);
    if (!w) {
        error_set(err, ERR_NOMEM, "%zu workers", max);
        return NULL;
    }
    (void)snprintf(w->name, sizeof w->name, "%s", name);
    w->sched = sched;
    w->fn = fn;
    w->arg = arg;
    w->max = max;
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
    stay = w->pending && !closed;
    w->pending = false;
    if (!stay) {
        slot->state = SLOT_ENDED;
        w->count--;
    }
    pthread_mutex_unlock(&w->lock);
    return !stay;
}

static void *worker_main(void *arg)
{
    struct slot *slot = arg;
    struct workers *w = slot->workers;
    char name[16];

    (void)snprintf(name, sizeof name, "%s-%u", w->name, (unsigned)(slot - w->slots) % 1000u);
    (void)pthread_setname_np(pthread_self(), name);
    for (;;) {
        struct syscall *sc = NULL;
        enum sched_status status = sched_pop(w->sched, w->idle_ns, &sc);

        if (status == SCHED_OK)
            w->fn(w->arg, sc);
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
        slot++; /* count < max: there is one */
    /* An ended thread has nothing left to do but to return, so this does not wait. */
    if (slot->state == SLOT_ENDED)
        pthread_join(slot->thread, NULL);
    slot->state = SLOT_FREE;
    slot->workers = w;
    rc = start(slot);
    if (rc)
        return rc;
    slot->state = SLOT_LIVE;
    w->count++;
    return 0;
}

bool workers_kick(struct workers *w, struct error *err)
{
    int rc = 0;
    bool none;

    if (!sched_starved(w->sched))
        return true;
    pthread_mutex_lock(&w->lock);
    if (w->count < w->max)
        rc = add_worker_locked(w);
    else
        w->pending = true;
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
    for (size_t i = 0; i < w->max; i++) {
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
