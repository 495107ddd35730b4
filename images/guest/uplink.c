#include "images/guest/uplink.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/sys.h"

#define PAGE      4096u
#define IN_BYTES  (WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX + PAGE)
#define OUT_SOFT  (128u << 10) /* no data, no requests past this */
#define OUT_BYTES (OUT_SOFT + 2 * (WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX) + (64u << 10))

static size_t pending(const struct uplink *up)
{
    return up->out_end - up->out_start;
}

static size_t sendable(const struct uplink *up)
{
    return up->holding ? up->due : pending(up);
}

bool uplink_has_room(const struct uplink *up)
{
    return !up->dead && pending(up) <= OUT_SOFT;
}

bool uplink_untried(const struct uplink *up)
{
    return sendable(up) > 0 && !(up->interest & EPOLLOUT);
}

bool uplink_idle(const struct uplink *up)
{
    return pending(up) == 0 && up->reader.start == up->reader.end;
}

static void want(struct uplink *up)
{
    uint32_t events = (up->stalled ? 0u : EPOLLIN) | (sendable(up) ? EPOLLOUT : 0u);

    if (events == up->interest || up->dead)
        return;
    up->interest = events;
    evloop_change(up->loop, &up->source, events);
}

/* Where @need bytes can be queued; the callers' rules see to it that there always is room. */
static uint8_t *room_for(struct uplink *up, size_t need)
{
    if (OUT_BYTES - up->out_end < need) {
        memmove(up->out, up->out + up->out_start, pending(up));
        up->out_end -= up->out_start;
        up->out_start = 0;
    }
    assert(OUT_BYTES - up->out_end >= need);
    return up->out + up->out_end;
}

void uplink_send(struct uplink *up, uint32_t channel, uint8_t type, uint8_t stream,
                 const void *payload, size_t len)
{
    struct wire_header h = {
        .length = (uint32_t)len, .channel = channel, .type = type, .stream = stream
    };
    uint8_t *at;

    if (up->dead)
        return;
    at = room_for(up, WIRE_HEADER_BYTES + len);
    wire_header_put(at, &h);
    if (len > 0)
        memcpy(at + WIRE_HEADER_BYTES, payload, len);
    up->out_end += WIRE_HEADER_BYTES + len;
}

uint8_t *uplink_data_begin(struct uplink *up, size_t *ret_room)
{
    if (!uplink_has_room(up))
        return NULL;
    *ret_room = WIRE_PAYLOAD_MAX;
    return room_for(up, WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX) + WIRE_HEADER_BYTES;
}

void uplink_made(struct uplink *up, uint32_t channel, uint8_t type, uint8_t stream, size_t len)
{
    struct wire_header h = {
        .length = (uint32_t)len, .channel = channel, .type = type, .stream = stream
    };

    wire_header_put(up->out + up->out_end, &h);
    up->out_end += WIRE_HEADER_BYTES + len;
}

void uplink_data_end(struct uplink *up, uint32_t channel, uint8_t stream, size_t len)
{
    if (len > 0)
        uplink_made(up, channel, WIRE_DATA, stream, len);
}

static void parse(struct uplink *up)
{
    struct wire_header h;
    const uint8_t *payload;

    up->stalled = false;
    while (!up->dead) {
        /* The silence ends with a frame, which must therefore not wait for room. */
        if (!uplink_has_room(up) && !up->holding) {
            up->stalled = true;
            break;
        }
        switch (wire_reader_next(&up->reader, &h, &payload)) {
        case WIRE_OK:
            up->holding = false;
            if (!up->on_frame(up->arg, &h, payload))
                up->dead = true;
            break;
        case WIRE_MORE:
            return;
        default:
            up->dead = true;
        }
    }
}

void uplink_flush(struct uplink *up)
{
    while (!up->dead && sendable(up) > 0) {
        ssize_t n = write(up->source.fd, up->out + up->out_start, sendable(up));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            up->dead = true;
        } else if (n > 0) {
            up->used = true;
            up->out_start += (size_t)n;
            up->due -= MIN(up->due, (size_t)n);
            if (sendable(up) > 0)
                continue; /* the next one says EAGAIN */
            if (pending(up) == 0) {
                up->out_start = 0;
                up->out_end = 0;
            }
        }
        break;
    }
}

void uplink_resume(struct uplink *up)
{
    if (up->stalled && uplink_has_room(up))
        parse(up);
    want(up);
}

static void on_ready(struct evloop_source *s, uint32_t events)
{
    struct uplink *up = CONTAINER_OF(s, struct uplink, source);

    if (events & EPOLLIN && !up->stalled) {
        size_t room;
        uint8_t *at = wire_reader_space(&up->reader, &room);
        ssize_t n = read(s->fd, at, room);

        if (n > 0) {
            up->used = true;
            wire_reader_filled(&up->reader, (size_t)n);
            parse(up);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            up->dead = true;
        }
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        up->dead = true;
    }
    if (events & EPOLLOUT)
        uplink_flush(up);
}

bool uplink_init(struct uplink *up, struct evloop *loop, int fd, uplink_frame_fn *on_frame,
                 void *arg)
{
    int flags = fcntl(fd, F_GETFL);

    memset(up, 0, sizeof *up);
    up->source.fd = -1;
    up->loop = loop;
    up->on_frame = on_frame;
    up->arg = arg;
    up->interest = EPOLLIN;
    up->source.ready = on_ready;
    up->reader.cap = IN_BYTES;
    up->reader.data = sys_pages(IN_BYTES);
    up->out = sys_pages(OUT_BYTES);
    if (!up->reader.data || !up->out || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
        !evloop_watch(loop, &up->source, fd, EPOLLIN, true)) {
        uplink_fini(up);
        return false;
    }
    return true;
}

void uplink_fini(struct uplink *up)
{
    int fd = up->source.fd;

    if (fd >= 0) {
        evloop_unwatch(up->loop, &up->source);
        close(fd);
    }
    sys_pages_free(up->reader.data, IN_BYTES);
    sys_pages_free(up->out, OUT_BYTES);
    up->reader.data = NULL;
    up->out = NULL;
    up->dead = true;
}

void uplink_hold(struct uplink *up)
{
    up->holding = true;
    up->due = pending(up);
}

void uplink_forget(struct uplink *up)
{
    up->out_start = 0;
    up->out_end = 0;
    up->due = 0;
}

void uplink_tidy(struct uplink *up)
{
    if (!uplink_idle(up))
        return;
    sys_pages_drop(up->reader.data, IN_BYTES);
    sys_pages_drop(up->out, OUT_BYTES);
    up->reader.start = 0;
    up->reader.end = 0;
}
