#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "kernel/base/limits.h"
#include "kernel/computer/guest_internal.h"

#define OUT_KEEP_BYTES  (64u << 10)              /* storage that an empty queue keeps */
#define DATA_QUEUED_MAX (LIMIT_GUEST_QUEUED / 4) /* a request never waits behind more data */

/* sendmsg() changes nothing, but struct iovec cannot say so. */
static struct iovec piece(const void *data, size_t len)
{
    struct iovec v = { .iov_len = len };

    memcpy(&v.iov_base, &data, sizeof data);
    return v;
}

/* Bytes that the stream took; the others are to be queued. */
static size_t transmit(struct guest *g, struct iovec *iov, size_t count)
{
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = count };
    ssize_t n;

    do {
        n = sendmsg(g->stream, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return (size_t)n;
    if (errno != EAGAIN) {
        g->broken = true;
        guest_kick_locked(g);
    }
    return 0;
}

void guest_send_locked(struct guest *g, const struct chan *ch, enum wire_type type, unsigned stream,
                       const void *payload, size_t len)
{
    struct wire_header h = {
        .length = (uint32_t)len,
        .channel = ch->id,
        .type = (uint8_t)type,
        .stream = (uint8_t)stream,
    };
    uint8_t head[WIRE_HEADER_BYTES];
    const uint8_t *body = payload;
    size_t sent = 0, skip;

    assert(len <= WIRE_PAYLOAD_MAX);
    if (g->lost || g->broken)
        return;
    wire_header_put(head, &h);
    if (!g->corked && !g->held && g->out.len == 0) {
        struct iovec iov[2] = { piece(head, sizeof head), piece(payload, len) };

        sent = transmit(g, iov, len ? 2 : 1);
        if (g->broken || sent == sizeof head + len)
            return;
    }
    if (!ring_reserve(&g->out, sizeof head + len - sent)) {
        guest_lose_locked(g, "what is to be sent to the guest cannot be kept: it does not read, or "
                             "memory is short");
        return;
    }
    if (sent < sizeof head)
        ring_write(&g->out, head + sent, sizeof head - sent);
    skip = sent > sizeof head ? sent - sizeof head : 0;
    if (len > skip)
        ring_write(&g->out, body + skip, len - skip);
    if (!g->corked)
        guest_kick_locked(g);
}

size_t guest_sendable_locked(const struct guest *g)
{
    return g->held ? MIN(g->held_after, g->out.len) : g->out.len;
}

void guest_flush_locked(struct guest *g)
{
    size_t before = g->out.len;

    while (guest_sendable_locked(g) > 0 && !g->lost && !g->broken) {
        size_t len, n;
        const uint8_t *front = ring_front(&g->out, &len);
        struct iovec iov = piece(front, MIN(len, guest_sendable_locked(g)));

        n = transmit(g, &iov, 1);
        if (n == 0)
            break;
        ring_consume(&g->out, n);
        g->held_after -= MIN(g->held_after, n);
    }
    if (g->broken)
        ring_consume(&g->out, g->out.len);
    if (g->out.len < before && g->out.len <= DATA_QUEUED_MAX / 2) {
        waiters_wake_locked(&g->waiters, WAKE_ROOM);
        guest_sockets_wake_locked(g);
    }
    ring_trim(&g->out, OUT_KEEP_BYTES);
}

void guest_cork_locked(struct guest *g)
{
    assert(!g->corked);
    g->corked = true;
}

void guest_uncork_locked(struct guest *g)
{
    g->corked = false;
    guest_flush_locked(g);
    if (g->out.len > 0)
        guest_kick_locked(g);
}

bool guest_room_locked(const struct guest *g, size_t len)
{
    return g->out.len == 0 || g->out.len + len <= LIMIT_GUEST_QUEUED;
}

bool guest_data_room_locked(const struct guest *g)
{
    return g->out.len <= DATA_QUEUED_MAX;
}

bool guest_wait_room_locked(struct guest *g, struct waiter *wt, size_t len, struct error *err)
{
    bool ok = true;

    while (!g->lost && !guest_room_locked(g, len) && ok)
        ok = waiter_wait_locked(wt, &g->waiters, WAKE_ROOM);
    if (g->lost)
        return guest_lost_error_locked(g, err);
    return guest_room_locked(g, len) || waiter_error(wt, err);
}

size_t chan_send_data_locked(struct chan *ch, unsigned stream, const uint8_t *data, size_t len)
{
    struct guest *g = ch->g;
    size_t done = 0;

    if (ch->sent_close || ch->got_close || !(ch->out_mask & (1u << stream)) ||
        (ch->out_eof & (1u << stream)))
        return 0;
    while (done < len && !g->lost && !g->broken && guest_data_room_locked(g)) {
        size_t n = MIN(len - done, MIN(ch->out_credit[stream], WIRE_PAYLOAD_MAX));

        if (n == 0)
            break;
        guest_send_locked(g, ch, WIRE_DATA, stream, data + done, n);
        ch->out_credit[stream] -= (uint32_t)n;
        done += n;
    }
    return done;
}

void chan_send_eof_locked(struct chan *ch, unsigned stream)
{
    if (ch->sent_close || ch->got_close || !(ch->out_mask & (1u << stream)) ||
        (ch->out_eof & (1u << stream)))
        return;
    ch->out_eof |= (uint8_t)(1u << stream);
    guest_send_locked(ch->g, ch, WIRE_EOF, stream, NULL, 0);
}

void chan_close_locked(struct chan *ch)
{
    if (!ch->sent_close) {
        ch->sent_close = true;
        guest_send_locked(ch->g, ch, WIRE_CLOSE, 0, NULL, 0);
    }
    if (ch->got_close)
        chan_unlist_locked(ch);
}

void chan_consumed_locked(struct chan *ch, unsigned stream, size_t len)
{
    uint8_t more[4];
    struct wire_out o = { .data = more, .cap = sizeof more };

    ch->consumed[stream] += (uint32_t)len;
    if (ch->consumed[stream] < WIRE_WINDOW / 2 || ch->sent_close || ch->got_close ||
        (ch->in_eof & (1u << stream)))
        return;
    wire_put_u32(&o, ch->consumed[stream]);
    ch->in_credit[stream] += ch->consumed[stream];
    ch->consumed[stream] = 0;
    guest_send_locked(ch->g, ch, WIRE_CREDIT, stream, o.data, o.len);
}
