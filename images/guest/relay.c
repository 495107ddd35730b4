#include "images/guest/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "images/guest/inside.h"

#define TURN_BYTES (64u << 10)

static struct relay *relay_of(struct lane *lane)
{
    return CONTAINER_OF(lane, struct relay, lane);
}

static void on_data(struct lane *lane, uint8_t stream, const uint8_t *data, size_t len)
{
    if (stream == WIRE_STREAM_MAIN)
        sink_data(&relay_of(lane)->sink, data, len);
    else
        lane_consumed(lane, stream, len);
}

static void on_eof(struct lane *lane, uint8_t stream)
{
    if (stream == WIRE_STREAM_MAIN)
        sink_eof(&relay_of(lane)->sink);
}

static void answer(struct relay *r)
{
    int fd = r->connecting.fd;
    int error = r->connect_error;

    evloop_unwatch(&r->lane.in->loop, &r->connecting);
    if (!error && !relay_start(r, fd))
        error = ENFILE;
    if (error)
        close(fd);
    lane_reply(&r->lane, error, NULL, 0);
    if (error)
        lane_finish(&r->lane);
}

static void pump(struct lane *lane)
{
    struct relay *r = relay_of(lane);

    if (!r->started) {
        if (r->connect_done)
            answer(r);
        return; /* events of what has started wake the lane again */
    }
    (void)tap_forward(&r->tap, TURN_BYTES);
    if (r->tap.broken || (!r->tap.open && r->sink.ended)) {
        lane_finish(lane);
        return;
    }
    if (tap_can_go_on(&r->tap))
        lane_wake(lane);
}

static void drop(struct lane *lane, bool by_host)
{
    struct relay *r = relay_of(lane);
    int fd = r->connecting.fd;

    (void)by_host;
    if (fd >= 0) {
        evloop_unwatch(&lane->in->loop, &r->connecting);
        close(fd);
    }
    sink_close(&r->sink);
    tap_close(&r->tap);
    if (r->gone)
        r->gone(lane->in);
}

static void on_connected(struct evloop_source *s, uint32_t events)
{
    struct relay *r = CONTAINER_OF(s, struct relay, connecting);
    socklen_t len = sizeof r->connect_error;

    (void)events;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &r->connect_error, &len) != 0)
        r->connect_error = errno;
    r->connect_done = true;
    lane_wake(&r->lane);
}

struct relay *relay_open(struct inside *in, uint32_t number, void (*gone)(struct inside *in))
{
    static const struct lane_ops ops = {
        .on_data = on_data, .on_eof = on_eof, .pump = pump, .drop = drop
    };
    struct relay *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->gone = gone;
    lane_open(in, &r->lane, number, &ops);
    sink_init(&r->sink, &r->lane, WIRE_STREAM_MAIN);
    tap_init(&r->tap, &r->lane, WIRE_STREAM_MAIN);
    r->connecting.fd = -1;
    r->connecting.ready = on_connected;
    return r;
}

bool relay_start(struct relay *r, int fd)
{
    /* The two directions are watched apart and end apart, which takes a descriptor each. */
    int other = fcntl(fd, F_DUPFD_CLOEXEC, SPAWN_FDS);

    if (other < 0)
        return false;
    if (!sink_open(&r->sink, other, SINK_SOCKET)) {
        close(other);
        return false;
    }
    r->started = tap_open(&r->tap, fd, false);
    return r->started;
}

void relay_connect(struct relay *r, int fd, bool pending)
{
    if (!evloop_watch(&r->lane.in->loop, &r->connecting, fd, EPOLLOUT, false)) {
        close(fd);
        lane_reply(&r->lane, ENOMEM, NULL, 0);
        lane_finish(&r->lane);
    } else if (!pending) {
        r->connect_done = true;
        answer(r);
    }
}
