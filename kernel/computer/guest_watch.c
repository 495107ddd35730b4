#include <stdlib.h>

#include "kernel/base/utf8.h"
#include "kernel/computer/guest_internal.h"

struct guest_watch {
    struct chan chan;
    guest_watch_fn *fn;
    void *arg;

    /* lock */
    uint32_t status;
    bool freed;

    struct buf path; /* loop only: the path of an event, made valid text */
};

static struct guest_watch *watch_of(struct chan *ch)
{
    return CONTAINER_OF(ch, struct guest_watch, chan);
}

static void after_event(struct chan *ch, const struct guest_after *after)
{
    struct guest_watch *watch = watch_of(ch);
    struct guest *g = ch->g;
    uint32_t events = after->events;
    const char *path;
    bool tell;

    buf_clear(&watch->path);
    if (utf8_append_valid(&watch->path, (const char *)after->data, after->len) < 0) {
        buf_clear(&watch->path);
        events = WIRE_EVENT_LOST; /* the watcher is to look for itself */
    }
    path = buf_str(&watch->path);
    guest_call_begin(g);
    pthread_mutex_lock(&g->lock);
    tell = !watch->freed;
    pthread_mutex_unlock(&g->lock);
    if (tell)
        watch->fn(watch->arg, events, path);
    guest_call_end(g);
}

static const char *on_reply(struct chan *ch, uint32_t status, struct wire_in *in)
{
    watch_of(ch)->status = status;
    return status != 0 || wire_in_done(in) ? NULL : "a malformed reply to WATCH";
}

static const char *on_other(struct chan *ch, const struct wire_header *h, struct wire_in *in)
{
    uint32_t events = wire_get_u32(in);
    size_t len;
    const char *path = wire_get_str(in, WIRE_PATH_MAX, &len);

    if (h->type != WIRE_EVENT || !wire_in_done(in) || watch_of(ch)->status != 0)
        return "a malformed EVENT";
    ch->g->after = (struct guest_after){
        .fn = after_event,
        .data = (const uint8_t *)path,
        .len = len,
        .events = events,
    };
    return NULL;
}

static void on_lost(struct chan *ch)
{
    (void)ch; /* guest_events.on_lost says it for all */
}

static void release(struct chan *ch)
{
    struct guest_watch *watch = watch_of(ch);

    buf_fini(&watch->path);
    free(watch);
}

static const struct chan_type watch_type = {
    .on_reply = on_reply,
    .on_other = on_other,
    .on_lost = on_lost,
    .release = release,
};

static bool watch_locked(struct guest_watch *watch, const struct wire_out *o, struct waiter *wt,
                         struct error *err)
{
    struct chan *ch = &watch->chan;
    struct guest *g = ch->g;
    bool time_left = true;

    if (!guest_wait_room_locked(g, wt, o->len + WIRE_HEADER_BYTES, err) ||
        !chan_open_locked(ch, err))
        return false;
    guest_send_locked(g, ch, WIRE_WATCH, 0, o->data, o->len);
    while (!ch->replied && !g->lost && time_left)
        time_left = waiter_wait_locked(wt, &ch->waiters, WAKE_REPLY);
    if (ch->replied)
        return true;
    return g->lost ? guest_lost_error_locked(g, err) : waiter_error(wt, err);
}

struct guest_watch *guest_watch(struct guest *g, const char *root, const char *path, bool recursive,
                                guest_watch_fn *fn, void *arg, const struct wait *w,
                                struct error *err)
{
    uint8_t payload[CALL_BYTES];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    struct guest_watch *watch;
    struct waiter wt;
    bool ok;

    if (!call_put_path(&o, root, err) || !call_put_path(&o, path, err))
        return NULL;
    wire_put_u8(&o, recursive);
    watch = calloc(1, sizeof *watch);
    if (!watch) {
        error_set(err, ERR_NOMEM, "a watch");
        return NULL;
    }
    chan_init(&watch->chan, g, &watch_type, 0, 0);
    watch->fn = fn;
    watch->arg = arg;
    waiter_begin(&wt, g, w);
    pthread_mutex_lock(&g->lock);
    ok = watch_locked(watch, &o, &wt, err);
    pthread_mutex_unlock(&g->lock);
    waiter_end(&wt);
    if (ok && watch->status != 0)
        ok = call_error(err, watch->status, "watch", path);
    if (ok)
        return watch;
    guest_watch_free(watch);
    return NULL;
}

void guest_watch_free(struct guest_watch *watch)
{
    struct guest *g;

    if (!watch)
        return;
    g = watch->chan.g;
    guest_calls_stop(g);
    pthread_mutex_lock(&g->lock);
    watch->freed = true;
    if (watch->chan.listed)
        chan_close_locked(&watch->chan);
    pthread_mutex_unlock(&g->lock);
    guest_calls_resume(g);
    chan_unref(&watch->chan);
}
