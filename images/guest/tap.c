#include "images/guest/tap.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "images/guest/inside.h"

/* The most that the kernel holds between the two ends of a terminal. */
#define TERMINAL_HOLDS (128u << 10)

static void on_ready(struct evloop_source *s, uint32_t events)
{
    struct tap *t = CONTAINER_OF(s, struct tap, source);

    t->ready = true;
    if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
        t->hung_up = true;
    lane_wake(t->lane);
}

void tap_init(struct tap *t, struct lane *lane, uint8_t stream)
{
    t->source.fd = -1;
    t->source.ready = on_ready;
    t->lane = lane;
    t->stream = stream;
}

bool tap_open(struct tap *t, int fd, bool terminal)
{
    if (!evloop_watch(&t->lane->in->loop, &t->source, fd, EPOLLIN | EPOLLRDHUP, false))
        return false;
    t->terminal = terminal;
    t->open = true;
    return true;
}

void tap_close(struct tap *t)
{
    int fd = t->source.fd;

    t->open = false;
    t->ready = false;
    t->owed = 0;
    if (fd < 0)
        return;
    evloop_unwatch(&t->lane->in->loop, &t->source);
    close(fd);
}

static void at_end(struct tap *t, int error)
{
    /* A terminal without anybody at its other end says EIO: that is how it ends. */
    t->broken = error != 0 && !(t->terminal && error == EIO);
    if (!t->broken)
        lane_send(t->lane, WIRE_EOF, t->stream, NULL, 0);
    tap_close(t);
}

size_t tap_forward(struct tap *t, size_t budget)
{
    uint32_t *credit = &t->lane->credit[t->stream];
    size_t total = 0;

    while (t->open && t->ready && budget > 0) {
        size_t room;
        uint8_t *at = uplink_data_begin(&t->lane->in->up, &room);
        ssize_t n;

        if (!at)
            break;
        room = MIN(room, budget);
        room = MIN(room, *credit);
        /* Without credit one may still look for the end, which needs none. */
        if (room == 0 && (!t->hung_up || tap_available(t) > 0 || t->terminal))
            break;
        do {
            n = read(t->source.fd, at, room > 0 ? room : 1);
        } while (n < 0 && errno == EINTR);
        if (n > 0 && room > 0) {
            uplink_data_end(&t->lane->in->up, t->lane->number, t->stream, (size_t)n);
            *credit -= (uint32_t)n;
            budget -= (size_t)n;
            total += (size_t)n;
            t->owed -= MIN(t->owed, (size_t)n);
            /* A pipe that gave less than was asked for is empty; its end comes as an event. */
            if ((size_t)n < room && !t->hung_up && !t->terminal)
                t->ready = false;
        } else if (n < 0 && errno == EAGAIN) {
            t->ready = false;
            t->owed = 0;
        } else {
            at_end(t, n < 0 ? errno : 0);
        }
    }
    return total;
}

bool tap_can_go_on(const struct tap *t)
{
    if (!t->open || !t->ready)
        return false;
    return t->lane->credit[t->stream] > 0 || (t->hung_up && !t->terminal && tap_available(t) == 0);
}

void tap_mark(struct tap *t)
{
    if (!t->open) {
        t->owed = 0;
    } else if (t->terminal) {
        t->owed = TERMINAL_HOLDS; /* or less: reading until there is nothing settles it */
        t->ready = true;
    } else {
        t->owed = tap_available(t);
        t->ready = t->ready || t->owed > 0;
    }
}

size_t tap_available(const struct tap *t)
{
    int n = 0;

    if (t->source.fd < 0 || t->terminal || ioctl(t->source.fd, FIONREAD, &n) != 0 || n < 0)
        return 0;
    return (size_t)n;
}
