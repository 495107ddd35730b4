#include "images/guest/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/place.h"

#define TURN_BYTES (128u << 10)

struct reading {
    struct lane lane;
    int fd;
    uint64_t offset;
    uint64_t left; /* of what was asked for */
};

static void drop(struct lane *lane, bool by_host)
{
    struct reading *r = CONTAINER_OF(lane, struct reading, lane);

    (void)by_host;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

/* Bytes sent, 0 when it cannot go on now, -1 at the end of the file or range. */
static ssize_t send_some(struct reading *r)
{
    uint32_t *credit = &r->lane.credit[WIRE_STREAM_MAIN];
    size_t room;
    uint8_t *at;
    ssize_t n;

    if (r->left == 0)
        return -1;
    if (*credit == 0)
        return 0;
    at = uplink_data_begin(&r->lane.in->up, &room);
    if (!at)
        return 0;
    room = MIN(room, *credit);
    room = (size_t)MIN((uint64_t)room, r->left);
    n = pread(r->fd, at, room, (off_t)r->offset);
    if (n <= 0) {
        errno = n == 0 ? 0 : errno;
        return -1;
    }
    uplink_data_end(&r->lane.in->up, r->lane.number, WIRE_STREAM_MAIN, (size_t)n);
    *credit -= (uint32_t)n;
    r->offset += (uint64_t)n;
    r->left -= (uint64_t)n;
    return n;
}

static void pump(struct lane *lane)
{
    struct reading *r = CONTAINER_OF(lane, struct reading, lane);
    size_t sent = 0;

    while (sent < TURN_BYTES) {
        ssize_t n;

        errno = 0;
        n = send_some(r);
        if (n < 0) {
            if (errno == 0) /* without EOF, CLOSE says that something went wrong */
                lane_send(lane, WIRE_EOF, WIRE_STREAM_MAIN, NULL, 0);
            lane_finish(lane);
            return;
        }
        if (n == 0) {
            /* Credit wakes the lane; for room in the queue it waits in its turn. */
            if (lane->credit[WIRE_STREAM_MAIN] > 0)
                lane_wake(lane);
            return;
        }
        sent += (size_t)n;
    }
    lane_wake(lane);
}

static int begin(struct inside *in, uint32_t channel, struct wire_in *args)
{
    static const struct lane_ops ops = { .pump = pump, .drop = drop };
    uint8_t bytes[64];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };
    struct wire_stat ws;
    struct place place;
    struct reading *r;
    struct stat st;
    uint64_t offset, most;
    int error = place_get(&place, in->root_fd, args);
    int fd = -1;

    if (error)
        return error;
    offset = wire_get_u64(args);
    most = wire_get_u64(args);
    if (!wire_in_done(args))
        error = EBADMSG;
    else if (offset > INT64_MAX - WIRE_WINDOW)
        error = EINVAL;
    else if ((fd = place_open_regular(&place, O_RDONLY, &st)) < 0)
        error = errno;
    place_fini(&place);
    if (error)
        return error;
    r = calloc(1, sizeof *r);
    if (!r) {
        close(fd);
        return ENOMEM;
    }
    r->fd = fd;
    r->offset = offset;
    r->left = MIN(most, (uint64_t)INT64_MAX - WIRE_WINDOW - offset);
    lane_open(in, &r->lane, channel, &ops);
    place_fill_stat(&st, &ws);
    wire_put_stat(&o, &ws);
    lane_reply(&r->lane, 0, bytes, o.len);
    lane_wake(&r->lane);
    return 0;
}

void file_read(struct inside *in, uint32_t channel, struct wire_in *args)
{
    int error = begin(in, channel, args);

    if (error)
        lane_refuse(in, channel, error, false);
}
