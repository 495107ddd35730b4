#include <stdio.h>

#include "kernel/base/clock.h"
#include "kernel/computer/computer_internal.h"

#define DESTROY_WAIT_NS (2 * CLOCK_NS_PER_S)

/*
 * The operations of the back end.  Those that change the machine happen one at a time; asking for
 * figures may accompany them.  The machine is destroyed when nobody is inside: at once, or by
 * whoever leaves last.
 */

static void destroy_if_due_locked(struct computer *c)
{
    struct computer_state *st = c->state;

    if (!st->destroy_asked || st->destroying || st->inside > 0)
        return;
    st->destroying = true;
    pthread_mutex_unlock(&st->lock);
    if (c->ops->destroy)
        c->ops->destroy(c);
    pthread_mutex_lock(&st->lock);
    st->destroyed = true;
    pthread_cond_broadcast(&st->changed);
}

static void on_cancel(void *arg)
{
    struct computer_state *st = arg;

    pthread_mutex_lock(&st->lock);
    pthread_cond_broadcast(&st->changed);
    pthread_mutex_unlock(&st->lock);
}

static bool enter_exclusive(struct computer *c, const struct wait *w, struct error *err)
{
    struct computer_state *st = c->state;
    struct cancel_hook hook;
    bool ok = true;

    cancel_attach(w->cancel, &hook, on_cancel, st);
    pthread_mutex_lock(&st->lock);
    while (st->exclusive && !st->lost[0] && ok)
        ok = wait_cond(w, &st->changed, &st->lock);
    if (st->lost[0]) {
        ok = error_set(err, ERR_LOST, "the computer is gone: %s", st->lost);
    } else if (st->exclusive) {
        ok = wait_check(w, err) && error_set(err, ERR_TIMEOUT, "the deadline passed");
    } else {
        st->exclusive = true;
        st->inside++;
        ok = true;
    }
    pthread_mutex_unlock(&st->lock);
    cancel_detach(w->cancel, &hook);
    return ok;
}

static void leave(struct computer *c, bool exclusive)
{
    struct computer_state *st = c->state;

    pthread_mutex_lock(&st->lock);
    st->inside--;
    if (exclusive)
        st->exclusive = false;
    pthread_cond_broadcast(&st->changed);
    destroy_if_due_locked(c);
    pthread_mutex_unlock(&st->lock);
}

/* For figures, which are there until the machine is being destroyed. */
static bool enter_shared(struct computer *c, struct error *err)
{
    struct computer_state *st = c->state;
    bool ok = true;

    pthread_mutex_lock(&st->lock);
    if (st->destroy_asked)
        ok = error_set(err, ERR_LOST, "the computer is gone: %s", st->lost);
    else
        st->inside++;
    pthread_mutex_unlock(&st->lock);
    return ok;
}

bool computer_enter(struct computer *c, const struct wait *w, struct error *err)
{
    return enter_exclusive(c, w, err);
}

void computer_leave(struct computer *c)
{
    leave(c, true);
}

static bool unsupported(const struct computer *c, const char *what, struct error *err)
{
    return error_set(err, ERR_UNSUPPORTED, "a computer of the kind \"%s\" cannot be %s",
                     c->ops->kind, what);
}

bool computer_pause(struct computer *c, const struct wait *w, struct error *err)
{
    bool ok;

    if (!c->ops->pause)
        return unsupported(c, "paused", err);
    if (!enter_exclusive(c, w, err))
        return false;
    ok = c->ops->pause(c, w, err);
    leave(c, true);
    return ok;
}

bool computer_resume(struct computer *c, const struct wait *w, struct error *err)
{
    bool ok;

    if (!c->ops->resume)
        return unsupported(c, "resumed", err);
    if (!enter_exclusive(c, w, err))
        return false;
    ok = c->ops->resume(c, w, err);
    leave(c, true);
    return ok;
}

bool computer_checkpoint(struct computer *c, const char *id, const struct wait *w,
                         struct error *err)
{
    bool ok;

    if (!c->ops->checkpoint)
        return unsupported(c, "saved", err);
    if (!enter_exclusive(c, w, err))
        return false;
    ok = c->ops->checkpoint(c, id, w, err);
    leave(c, true);
    return ok;
}

bool computer_swap_out(struct computer *c, const struct wait *w, struct error *err)
{
    bool ok;

    if (!c->ops->swap_out)
        return unsupported(c, "put on disk", err);
    if (!enter_exclusive(c, w, err))
        return false;
    ok = c->ops->swap_out(c, w, err);
    leave(c, true);
    return ok;
}

bool computer_in_use(struct computer *c)
{
    bool in_use;

    pthread_mutex_lock(&c->state->lock);
    in_use = c->state->refs > 2;
    pthread_mutex_unlock(&c->state->lock);
    return in_use;
}

bool computer_is_swapped(struct computer *c)
{
    bool swapped;

    if (!c->ops->is_swapped || !enter_shared(c, NULL))
        return false;
    swapped = c->ops->is_swapped(c);
    leave(c, false);
    return swapped;
}

bool computer_usage(struct computer *c, struct computer_usage *ret, struct error *err)
{
    bool ok;

    if (!c->ops->usage)
        return unsupported(c, "measured", err);
    if (!enter_shared(c, err))
        return false;
    ok = c->ops->usage(c, ret, err);
    leave(c, false);
    return ok;
}

void computer_strikes(struct computer *c, struct computer_strikes *ret)
{
    *ret = (struct computer_strikes){ .oom = 0 };
    if (!c->ops->strikes || !enter_shared(c, NULL))
        return;
    c->ops->strikes(c, ret);
    leave(c, false);
}

void computer_destroy(struct computer *c)
{
    struct computer_state *st = c->state;
    const struct wait limit = { .deadline_ns = clock_now_ns() + DESTROY_WAIT_NS };
    struct guest *guest;

    pthread_mutex_lock(&st->lock);
    if (!st->lost[0]) {
        (void)snprintf(st->lost, sizeof st->lost, "destroyed");
        st->on_request = true;
    }
    st->destroy_asked = true;
    guest = st->guest;
    pthread_cond_broadcast(&st->changed);
    pthread_mutex_unlock(&st->lock);
    if (guest)
        guest_close(guest, "destroyed"); /* what goes on inside ends with ERR_LOST, and soon */

    pthread_mutex_lock(&st->lock);
    destroy_if_due_locked(c);
    while (!st->destroyed && wait_cond(&limit, &st->changed, &st->lock))
        continue;
    pthread_mutex_unlock(&st->lock);
}
