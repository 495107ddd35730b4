#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/limits.h"
#include "kernel/computer/guest_internal.h"

#define MAIN ((uint8_t)(1u << WIRE_STREAM_MAIN))

/* A byte stream to a socket inside, as a struct channel.  What happens before somebody listens is
 * kept and told later, by a post, so that channel_listen() never calls back by itself. */
struct socket {
    struct chan chan;
    struct channel channel; /* its user's reference is one of the chan's */

    /* loop only */
    const struct channel_events *events; /* NULL before channel_listen() */
    void *arg;
    guest_dial_fn *dial_fn; /* until it has been called */
    void *dial_arg;
    bool closed; /* by its user */
    bool told_eof;
    bool told_close;

    /* lock */
    struct ring early; /* what has come and could not be told yet */
    bool eof;          /* the guest's */
    bool gone;         /* its CLOSE has come, or it is lost */
    bool want_room;    /* channel_send() took less than it was given */
    bool posted;
    uint32_t status; /* of a dial */
    struct loop_post post;
    struct list link; /* in guest.sockets */
};

static struct socket *socket_of(struct chan *ch)
{
    return CONTAINER_OF(ch, struct socket, chan);
}

static struct socket *socket_of_channel(struct channel *ch)
{
    return CONTAINER_OF(ch, struct socket, channel);
}

/* ---- telling the user, on the loop ---- */

static bool can_send_locked(const struct socket *s)
{
    return s->chan.out_credit[WIRE_STREAM_MAIN] > 0 && guest_data_room_locked(s->chan.g);
}

static void tell_dialled(struct socket *s, bool ok, uint32_t status)
{
    guest_dial_fn *fn = STEAL(s->dial_fn);
    void *arg = s->dial_arg;

    if (ok) {
        fn(arg, &s->channel, 0);
        return;
    }
    s->closed = true;
    fn(arg, NULL, status > 0 && status < 4096 ? (int)status : ECONNRESET);
    chan_unref(&s->chan); /* what would have been the user's */
}

/* One thing that has been kept; false when there is nothing more.  The caller holds a reference. */
static bool tell_one(struct socket *s)
{
    struct guest *g = s->chan.g;
    struct buf data = BUF_INIT;
    bool eof, gone, room, replied, no_memory = false;
    uint64_t offset;
    uint32_t status;

    pthread_mutex_lock(&g->lock);
    offset = ring_start(&s->early);
    if (s->events && !s->closed && s->early.len > 0) {
        no_memory = ring_read(&s->early, &offset, s->early.len, &data) < 0;
        ring_fini(&s->early);
        ring_init(&s->early, WIRE_WINDOW);
    }
    eof = s->eof;
    gone = s->gone || no_memory;
    replied = s->chan.replied;
    status = s->status;
    room = s->want_room && can_send_locked(s);
    if (room && s->events)
        s->want_room = false;
    pthread_mutex_unlock(&g->lock);

    if (s->dial_fn && (replied || gone)) {
        tell_dialled(s, replied && status == 0 && !gone, status);
        return true;
    }
    if (s->closed || !s->events || s->told_close) {
        buf_fini(&data);
        return false;
    }
    if (data.len > 0) {
        s->events->on_data(s->arg, (const uint8_t *)data.data, data.len);
        buf_fini(&data);
        return true;
    }
    if (eof && !s->told_eof) {
        s->told_eof = true;
        s->events->on_data(s->arg, NULL, 0);
        return true;
    }
    if (gone) {
        s->told_close = true;
        s->events->on_close(s->arg);
        return false;
    }
    if (room)
        s->events->on_writable(s->arg);
    return false;
}

static void on_post(struct loop_post *post)
{
    struct socket *s = CONTAINER_OF(post, struct socket, post);
    struct guest *g = s->chan.g;

    pthread_mutex_lock(&g->lock);
    s->posted = false;
    pthread_mutex_unlock(&g->lock);
    while (tell_one(s))
        continue;
    chan_unref(&s->chan);
}

/* Any thread: the loop will tell what there is to tell. */
static void post_locked(struct socket *s)
{
    if (s->posted)
        return;
    s->posted = true;
    chan_ref_locked(&s->chan);
    loop_post(s->chan.g->loop, &s->post, on_post);
}

static void after_data(struct chan *ch, const struct guest_after *after)
{
    struct socket *s = socket_of(ch);

    s->events->on_data(s->arg, after->data, after->len);
}

static void after_change(struct chan *ch, const struct guest_after *after)
{
    (void)after;
    while (tell_one(socket_of(ch)))
        continue;
}

static void after_opened(struct chan *ch, const struct guest_after *after)
{
    struct socket *s = socket_of(ch);
    struct guest *g = ch->g;
    bool tell;

    (void)after;
    guest_call_begin(g);
    pthread_mutex_lock(&g->lock);
    tell = !g->freed && g->events.on_egress;
    pthread_mutex_unlock(&g->lock);
    if (tell)
        g->events.on_egress(g->arg, &s->channel);
    guest_call_end(g);
    if (!tell)
        channel_close(&s->channel);
}

/* ---- what the guest says ---- */

static const char *on_reply(struct chan *ch, uint32_t status, struct wire_in *in)
{
    socket_of(ch)->status = status;
    if (status == 0 && !wire_in_done(in))
        return "a malformed reply to DIAL";
    ch->g->after.fn = after_change;
    return NULL;
}

static const char *on_data(struct chan *ch, unsigned stream, const uint8_t *data, size_t len)
{
    struct socket *s = socket_of(ch);

    (void)stream;
    if (s->events && s->early.len == 0) {
        ch->g->after = (struct guest_after){ .fn = after_data, .data = data, .len = len };
    } else if (ring_reserve(&s->early, len)) {
        ring_write(&s->early, data, len);
    } else {
        s->gone = true; /* a gap in the stream would be worse than its end */
        chan_close_locked(ch);
        post_locked(s);
    }
    return NULL;
}

static void on_eof(struct chan *ch, unsigned stream)
{
    (void)stream;
    socket_of(ch)->eof = true;
    ch->g->after.fn = after_change;
}

static void on_credit(struct chan *ch, unsigned stream)
{
    (void)stream;
    if (socket_of(ch)->want_room)
        ch->g->after.fn = after_change;
}

static const char *on_close(struct chan *ch)
{
    socket_of(ch)->gone = true;
    ch->g->after.fn = after_change;
    return NULL;
}

static void on_lost(struct chan *ch)
{
    socket_of(ch)->gone = true;
    post_locked(socket_of(ch));
}

static void release(struct chan *ch)
{
    struct socket *s = socket_of(ch);

    list_remove(&s->link);
    ring_fini(&s->early);
    free(s);
}

static const struct chan_type socket_type = {
    .on_reply = on_reply,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_credit = on_credit,
    .on_close = on_close,
    .on_lost = on_lost,
    .release = release,
};

/* ---- struct channel ---- */

static void channel_listen_op(struct channel *ch, const struct channel_events *events, void *arg)
{
    struct socket *s = socket_of_channel(ch);
    struct guest *g = s->chan.g;

    loop_assert_owner(g->loop);
    s->events = events;
    s->arg = arg;
    pthread_mutex_lock(&g->lock);
    if (s->early.len > 0 || s->eof || s->gone)
        post_locked(s);
    pthread_mutex_unlock(&g->lock);
}

static size_t channel_send_op(struct channel *ch, const void *data, size_t len)
{
    struct socket *s = socket_of_channel(ch);
    struct guest *g = s->chan.g;
    size_t n;

    loop_assert_owner(g->loop);
    pthread_mutex_lock(&g->lock);
    n = chan_send_data_locked(&s->chan, WIRE_STREAM_MAIN, data, len);
    s->want_room = n < len;
    pthread_mutex_unlock(&g->lock);
    return n;
}

static void channel_eof_op(struct channel *ch)
{
    struct socket *s = socket_of_channel(ch);
    struct guest *g = s->chan.g;

    loop_assert_owner(g->loop);
    pthread_mutex_lock(&g->lock);
    chan_send_eof_locked(&s->chan, WIRE_STREAM_MAIN);
    pthread_mutex_unlock(&g->lock);
}

static void channel_consume_op(struct channel *ch, size_t len)
{
    struct socket *s = socket_of_channel(ch);
    struct guest *g = s->chan.g;

    loop_assert_owner(g->loop);
    pthread_mutex_lock(&g->lock);
    chan_consumed_locked(&s->chan, WIRE_STREAM_MAIN, len);
    pthread_mutex_unlock(&g->lock);
}

static void channel_close_op(struct channel *ch)
{
    struct socket *s = socket_of_channel(ch);
    struct guest *g = s->chan.g;

    loop_assert_owner(g->loop);
    assert(!s->closed);
    s->closed = true;
    pthread_mutex_lock(&g->lock);
    if (s->chan.listed)
        chan_close_locked(&s->chan);
    pthread_mutex_unlock(&g->lock);
    chan_unref(&s->chan);
}

static const struct channel_ops socket_ops = {
    .listen = channel_listen_op,
    .send = channel_send_op,
    .send_eof = channel_eof_op,
    .consume = channel_consume_op,
    .close = channel_close_op,
};

static struct socket *socket_new(struct guest *g)
{
    struct socket *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    chan_init(&s->chan, g, &socket_type, MAIN, MAIN);
    s->channel.ops = &socket_ops;
    ring_init(&s->early, WIRE_WINDOW);
    list_init(&s->link);
    return s;
}

/* ---- for guest.c ---- */

const char *guest_opened_locked(struct guest *g, uint32_t id, struct wire_in *in,
                                struct chan **ret_ch)
{
    uint8_t kind = wire_get_u8(in);
    struct socket *s;

    if (!wire_in_done(in) || kind != WIRE_OPEN_EGRESS || (id & 1) || id == 0)
        return "a malformed OPEN";
    if (chan_find_locked(g, id))
        return "an OPEN of a channel that is in use";
    if (g->chan_count >= LIMIT_GUEST_CHANNELS)
        return "too many channels";
    s = socket_new(g);
    if (!s)
        return "memory for a channel is short";
    s->chan.replied = true; /* there is nothing to reply to */
    chan_list_locked(&s->chan, id);
    list_append(&g->sockets, &s->link);
    chan_ref_locked(&s->chan);
    *ret_ch = &s->chan;
    g->after.fn = after_opened;
    return NULL;
}

void guest_sockets_wake_locked(struct guest *g)
{
    LIST_FOR_EACH (node, &g->sockets) {
        struct socket *s = LIST_ENTRY(node, struct socket, link);

        if (s->want_room)
            post_locked(s);
    }
}

/* ---- for everybody ---- */

void guest_dial(struct guest *g, int family, const char *host, uint16_t port, guest_dial_fn *done,
                void *arg)
{
    uint8_t payload[WIRE_PATH_MAX + 16];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    struct socket *s;
    bool sent = false;

    loop_assert_owner(g->loop);
    wire_put_u8(&o, (uint8_t)family);
    wire_put_str(&o, host);
    wire_put_u16(&o, port);
    if (o.failed || (family != 4 && family != 6 && family != 1)) {
        done(arg, NULL, EINVAL);
        return;
    }
    s = socket_new(g);
    if (!s) {
        done(arg, NULL, ENOMEM);
        return;
    }
    s->dial_fn = done;
    s->dial_arg = arg;
    pthread_mutex_lock(&g->lock);
    if (!g->lost && guest_room_locked(g, o.len + WIRE_HEADER_BYTES)) {
        sent = chan_open_locked(&s->chan, NULL);
        if (sent) {
            list_append(&g->sockets, &s->link);
            guest_send_locked(g, &s->chan, WIRE_DIAL, 0, o.data, o.len);
        }
    }
    pthread_mutex_unlock(&g->lock);
    if (!sent)
        tell_dialled(s, false, EAGAIN);
}
