#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/limits.h"
#include "kernel/computer/guest_internal.h"

/* ---- counting ---- */

struct guest *guest_ref(struct guest *g)
{
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

void guest_unref(struct guest *g)
{
    if (atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
        return;
    assert(g->chan_count == 0 && list_empty(&g->waiters));
    ring_fini(&g->out);
    free(g->reader.data);
    pthread_mutex_destroy(&g->lock);
    pthread_mutex_destroy(&g->call_lock);
    free(g);
}

/* ---- the table ---- */

static size_t bucket_of(uint32_t id)
{
    return (uint32_t)(id * 2654435761u) >> 24; /* Knuth's multiplier; CHAN_BUCKETS is 1 << 8 */
}

struct chan *chan_find_locked(struct guest *g, uint32_t id)
{
    struct chan *ch = g->buckets[bucket_of(id)];

    while (ch && ch->id != id)
        ch = ch->next;
    return ch;
}

void chan_init(struct chan *ch, struct guest *g, const struct chan_type *type, uint8_t in_mask,
               uint8_t out_mask)
{
    memset(ch, 0, sizeof *ch);
    ch->g = guest_ref(g);
    ch->type = type;
    ch->refs = 1;
    ch->in_mask = in_mask;
    ch->out_mask = out_mask;
    list_init(&ch->waiters);
    for (unsigned i = 0; i < WIRE_STREAM_COUNT; i++) {
        ch->in_credit[i] = WIRE_WINDOW;
        ch->out_credit[i] = WIRE_WINDOW;
    }
}

void chan_list_locked(struct chan *ch, uint32_t id)
{
    struct chan **bucket = &ch->g->buckets[bucket_of(id)];

    ch->id = id;
    ch->next = *bucket;
    ch->listed = true;
    *bucket = ch;
    ch->g->chan_count++;
    chan_ref_locked(ch);
}

void chan_unlist_locked(struct chan *ch)
{
    struct chan **at = &ch->g->buckets[bucket_of(ch->id)];

    if (!ch->listed)
        return;
    while (*at != ch)
        at = &(*at)->next;
    *at = ch->next;
    ch->next = NULL;
    ch->listed = false;
    ch->g->chan_count--;
    chan_unref_locked(ch);
}

bool chan_open_locked(struct chan *ch, struct error *err)
{
    struct guest *g = ch->g;

    if (g->lost)
        return guest_lost_error_locked(g, err);
    if (g->chan_count >= LIMIT_GUEST_CHANNELS)
        return error_set(err, ERR_LIMIT, "%u things are going on in this computer already",
                         LIMIT_GUEST_CHANNELS);
    /* Counting on, rather than reusing the lowest, shows a late frame for what it is. */
    while (chan_find_locked(g, g->next_id))
        g->next_id += 2;
    chan_list_locked(ch, g->next_id);
    g->next_id += 2;
    return true;
}

void chan_ref_locked(struct chan *ch)
{
    ch->refs++;
}

void chan_unref(struct chan *ch)
{
    struct guest *g = ch->g;
    bool last;

    pthread_mutex_lock(&g->lock);
    last = --ch->refs == 0;
    if (last)
        ch->type->release(ch);
    pthread_mutex_unlock(&g->lock);
    if (last)
        guest_unref(g);
}

void chan_unref_locked(struct chan *ch)
{
    struct guest *g = ch->g;
    unsigned before;

    if (--ch->refs > 0)
        return;
    ch->type->release(ch);
    /* Somebody else's reference keeps the lock that is held alive. */
    before = atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel);
    assert(before > 1);
    (void)before;
}

/* ---- frames ---- */

static const char *take_hello(struct guest *g, const struct wire_header *h, struct wire_in *in)
{
    uint32_t magic = wire_get_u32(in), version = wire_get_u32(in);

    if (h->type != WIRE_HELLO || h->channel != 0 || !wire_in_done(in) || magic != WIRE_MAGIC)
        return "it did not begin with HELLO";
    if (version != WIRE_VERSION)
        return "it speaks another version";
    g->hello = true;
    waiters_wake_locked(&g->waiters, WAKE_HELLO);
    return NULL;
}

static const char *take_reply(struct chan *ch, struct wire_in *in)
{
    const struct chan_type *type = ch->type;
    uint32_t status = wire_get_u32(in);
    const char *why = NULL;

    if (ch->replied)
        return "a second reply";
    if (in->failed)
        return "a reply without status";
    ch->replied = true;
    if (!ch->sent_close)
        why = type->on_reply(ch, status, in);
    if (why)
        return why;
    waiters_wake_locked(&ch->waiters, status == 0 ? WAKE_REPLY : WAKE_ALL);
    if (type->one_shot)
        chan_unlist_locked(ch);
    else if (status != 0 || type->close_on_reply)
        chan_close_locked(ch);
    return NULL;
}

static const char *take_data(struct chan *ch, unsigned stream, const uint8_t *data, size_t len)
{
    if (len > ch->in_credit[stream])
        return "more data than it had credit for";
    ch->in_credit[stream] -= (uint32_t)len;
    if (ch->sent_close || len == 0)
        return NULL;
    return ch->type->on_data(ch, stream, data, len);
}

static void take_eof(struct chan *ch, unsigned stream)
{
    ch->in_eof |= (uint8_t)(1u << stream);
    if (ch->sent_close)
        return;
    ch->type->on_eof(ch, stream);
    waiters_wake_locked(&ch->waiters, 1u << stream);
    if (ch->type->close_on_eof)
        chan_close_locked(ch);
}

static const char *take_credit(struct chan *ch, unsigned stream, struct wire_in *in)
{
    uint32_t more = wire_get_u32(in);

    if (!wire_in_done(in) || !(ch->out_mask & (1u << stream)))
        return "a credit that does not belong there";
    if (more > WIRE_WINDOW - ch->out_credit[stream])
        return "more credit than was used";
    ch->out_credit[stream] += more;
    if (ch->sent_close)
        return NULL;
    waiters_wake_locked(&ch->waiters, WAKE_CREDIT(stream));
    if (ch->type->on_credit)
        ch->type->on_credit(ch, stream);
    return NULL;
}

static const char *take_close(struct chan *ch)
{
    const char *why;

    if (ch->type->one_shot || (!ch->replied && !ch->sent_close))
        return "a CLOSE instead of a reply";
    why = ch->type->on_close ? ch->type->on_close(ch) : NULL;
    if (why)
        return why;
    ch->got_close = true;
    ch->in_eof |= ch->in_mask;
    waiters_wake_locked(&ch->waiters, WAKE_ALL);
    chan_close_locked(ch);
    return NULL;
}

static const char *take_stream(struct chan *ch, const struct wire_header *h, const uint8_t *payload)
{
    unsigned bit = 1u << h->stream;

    if (!ch->replied && !ch->sent_close)
        return "a stream before its reply";
    if (!(ch->in_mask & bit))
        return "data on a stream that is not there";
    if (ch->in_eof & bit)
        return "data after the end of its stream";
    if (h->type == WIRE_DATA)
        return take_data(ch, h->stream, payload, h->length);
    if (h->length != 0)
        return "an EOF with a payload";
    take_eof(ch, h->stream);
    return NULL;
}

const char *guest_dispatch_locked(struct guest *g, const struct wire_header *h,
                                  const uint8_t *payload, struct chan **ret_ch)
{
    struct wire_in in = { .data = payload, .len = h->length };
    struct chan *ch;

    if (!g->hello)
        return take_hello(g, h, &in);
    if (h->channel == 0)
        return "a frame on channel 0";
    if (h->type == WIRE_OPEN)
        return guest_opened_locked(g, h->channel, &in, ret_ch);
    ch = chan_find_locked(g, h->channel);
    if (!ch)
        return "a frame on a channel that is not open";
    chan_ref_locked(ch);
    *ret_ch = ch;
    if (ch->got_close)
        return "a frame after its CLOSE";
    switch (h->type) {
    case WIRE_REPLY:
        return take_reply(ch, &in);
    case WIRE_DATA:
    case WIRE_EOF:
        return take_stream(ch, h, payload);
    case WIRE_CREDIT:
        return take_credit(ch, h->stream, &in);
    case WIRE_CLOSE:
        return h->length == 0 ? take_close(ch) : "a CLOSE with a payload";
    case WIRE_EXIT:
    case WIRE_EVENT:
        if (!ch->replied || !ch->type->on_other)
            return "a frame that does not belong there";
        return ch->sent_close ? NULL : ch->type->on_other(ch, h, &in);
    default:
        return "a request, which only the host may send";
    }
}

/* ---- waiting ---- */

static void on_cancel(void *arg)
{
    struct waiter *wt = arg;

    pthread_mutex_lock(&wt->g->lock);
    pthread_cond_signal(&wt->cond);
    pthread_mutex_unlock(&wt->g->lock);
}

void waiter_begin(struct waiter *wt, struct guest *g, const struct wait *w)
{
    assert(loop_may_wait(g->loop)); /* a callback would wait for itself */
    wt->g = g;
    wt->wait = w;
    wt->mask = 0;
    list_init(&wt->link);
    cond_init(&wt->cond);
    cancel_attach(w->cancel, &wt->hook, on_cancel, wt);
}

void waiter_end(struct waiter *wt)
{
    cancel_detach(wt->wait->cancel, &wt->hook);
    pthread_cond_destroy(&wt->cond);
}

bool waiter_wait_locked(struct waiter *wt, struct list *list, uint32_t mask)
{
    bool time_left;

    wt->mask = mask;
    list_append(list, &wt->link);
    time_left = loop_wait_cond(wt->g->loop, wt->wait, &wt->cond, &wt->g->lock);
    list_remove(&wt->link);
    return time_left;
}

bool waiter_error(const struct waiter *wt, struct error *err)
{
    struct error why = ERROR_INIT;

    if (wait_check(wt->wait, &why))
        return error_set(err, ERR_TIMEOUT, "the deadline passed");
    return error_set(err, why.code, "%s", why.text);
}

void waiters_wake_locked(struct list *list, uint32_t mask)
{
    LIST_FOR_EACH (node, list) {
        struct waiter *wt = LIST_ENTRY(node, struct waiter, link);

        if (wt->mask & mask)
            pthread_cond_signal(&wt->cond);
    }
}
