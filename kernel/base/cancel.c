#include "kernel/base/cancel.h"

#include <assert.h>
#include <time.h>

#include "kernel/base/clock.h"

void cancel_init(struct cancel *token)
{
    atomic_init(&token->raised, false);
    pthread_mutex_init(&token->lock, NULL);
    list_init(&token->hooks);
}

void cancel_fini(struct cancel *token)
{
    assert(list_empty(&token->hooks));
    pthread_mutex_destroy(&token->lock);
}

void cancel_raise(struct cancel *token)
{
    /* Hooks run under the lock: that is what makes cancel_detach() wait for one in progress. */
    pthread_mutex_lock(&token->lock);
    if (!atomic_exchange(&token->raised, true)) {
        LIST_FOR_EACH (node, &token->hooks) {
            struct cancel_hook *hook = LIST_ENTRY(node, struct cancel_hook, link);

            hook->fn(hook->arg);
        }
    }
    pthread_mutex_unlock(&token->lock);
}

bool cancel_raised(const struct cancel *token)
{
    return atomic_load_explicit(&token->raised, memory_order_acquire);
}

void cancel_attach(struct cancel *token, struct cancel_hook *hook, cancel_fn *fn, void *arg)
{
    list_init(&hook->link);
    hook->fn = fn;
    hook->arg = arg;
    if (!token)
        return;
    pthread_mutex_lock(&token->lock);
    list_append(&token->hooks, &hook->link);
    if (atomic_load(&token->raised))
        fn(arg);
    pthread_mutex_unlock(&token->lock);
}

void cancel_detach(struct cancel *token, struct cancel_hook *hook)
{
    if (!token)
        return;
    pthread_mutex_lock(&token->lock);
    list_remove(&hook->link);
    pthread_mutex_unlock(&token->lock);
}

static bool cancelled(const struct wait *w)
{
    return w->cancel && cancel_raised(w->cancel);
}

bool wait_check(const struct wait *w, struct error *err)
{
    if (cancelled(w))
        return error_set(err, ERR_CANCELLED, "cancelled");
    if (w->deadline_ns != CLOCK_NEVER && clock_now_ns() >= w->deadline_ns)
        return error_set(err, ERR_TIMEOUT, "the deadline passed");
    return true;
}

bool wait_cond(const struct wait *w, pthread_cond_t *cond, pthread_mutex_t *lock)
{
    struct timespec until;
    int64_t left_ns, until_ns;

    if (cancelled(w))
        return false;
    if (w->deadline_ns == CLOCK_NEVER) {
        pthread_cond_wait(cond, lock);
        return !cancelled(w);
    }
    left_ns = clock_add_ns(w->deadline_ns, -clock_now_ns());
    if (left_ns <= 0)
        return false;
    /* What is left is counted from the system's clock, as a test may have turned ours. */
    clock_gettime(CLOCK_MONOTONIC, &until);
    until_ns = clock_add_ns((int64_t)until.tv_sec * CLOCK_NS_PER_S + until.tv_nsec, left_ns);
    until.tv_sec = (time_t)(until_ns / CLOCK_NS_PER_S);
    until.tv_nsec = (long)(until_ns % CLOCK_NS_PER_S);
    pthread_cond_timedwait(cond, lock, &until);
    return !cancelled(w) && clock_now_ns() < w->deadline_ns;
}

void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    /* None of these can fail on Linux with these arguments. */
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

struct pause {
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static void end_pause(void *arg)
{
    struct pause *p = arg;

    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

bool wait_pause(const struct wait *w, int64_t ns, struct error *err)
{
    struct pause p = { .lock = PTHREAD_MUTEX_INITIALIZER };
    struct wait until = { .deadline_ns = MIN(clock_add_ns(clock_now_ns(), ns), w->deadline_ns),
                          .cancel = w->cancel };
    struct cancel_hook hook;

    cond_init(&p.wake);
    cancel_attach(w->cancel, &hook, end_pause, &p);
    pthread_mutex_lock(&p.lock);
    while (wait_cond(&until, &p.wake, &p.lock))
        continue;
    pthread_mutex_unlock(&p.lock);
    cancel_detach(w->cancel, &hook);
    pthread_cond_destroy(&p.wake);
    pthread_mutex_destroy(&p.lock);
    return wait_check(w, err);
}
