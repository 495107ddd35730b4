#include "images/guest/lane.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "images/guest/inside.h"

#define GRANT_AT (WIRE_WINDOW / 4)

static struct list *bucket_of(struct lanes *lanes, uint32_t number)
{
    return &lanes->buckets[(number >> 1) % LANE_BUCKETS];
}

void lanes_init(struct lanes *lanes)
{
    for (size_t i = 0; i < LANE_BUCKETS; i++)
        list_init(&lanes->buckets[i]);
    lanes->next_even = 2;
}

static void release(struct lane *lane)
{
    evloop_cancel(&lane->work);
    list_remove(&lane->link);
    free(lane);
}

void lanes_fini(struct lanes *lanes)
{
    for (size_t i = 0; i < LANE_BUCKETS; i++) {
        LIST_FOR_EACH_SAFE (node, &lanes->buckets[i]) {
            struct lane *lane = LIST_ENTRY(node, struct lane, link);

            if (lane->ops)
                lane->ops->drop(lane, true);
            release(lane);
        }
    }
    lanes->live = 0;
    lanes->ending = 0;
}

struct lane *lane_find(struct lanes *lanes, uint32_t number)
{
    LIST_FOR_EACH (node, bucket_of(lanes, number)) {
        struct lane *lane = LIST_ENTRY(node, struct lane, link);

        if (lane->number == number)
            return lane;
    }
    return NULL;
}

static void send_grants(struct lane *lane)
{
    for (int s = 0; s < WIRE_STREAM_COUNT; s++) {
        uint8_t amount[4];
        struct wire_out o = { .data = amount, .cap = sizeof amount };

        if (lane->due[s] < GRANT_AT)
            continue;
        wire_put_u32(&o, lane->due[s]);
        lane->allowed[s] += lane->due[s];
        lane->due[s] = 0;
        lane_send(lane, WIRE_CREDIT, (uint8_t)s, amount, o.len);
    }
}

static void run_work(struct evloop_work *w)
{
    struct lane *lane = CONTAINER_OF(w, struct lane, work);

    if (!lane->ops)
        return;
    send_grants(lane);
    if (lane->ops->pump)
        lane->ops->pump(lane);
}

void lane_open(struct inside *in, struct lane *lane, uint32_t number, const struct lane_ops *ops)
{
    assert(ops->drop);
    lane->in = in;
    lane->ops = ops;
    lane->number = number;
    lane->work.run = run_work;
    for (size_t s = 0; s < WIRE_STREAM_COUNT; s++) {
        lane->credit[s] = WIRE_WINDOW;
        lane->allowed[s] = WIRE_WINDOW;
    }
    list_append(bucket_of(&in->lanes, number), &lane->link);
    in->lanes.live++;
}

uint32_t lane_new_number(struct lanes *lanes)
{
    uint32_t number;

    do { /* the table is far smaller than the space of numbers */
        number = lanes->next_even;
        lanes->next_even = number >= UINT32_MAX - 3 ? 2 : number + 2;
    } while (lane_find(lanes, number));
    return number;
}

void lane_wake(struct lane *lane)
{
    if (lane->ops)
        evloop_post(&lane->in->loop, &lane->work);
}

void lane_finish(struct lane *lane)
{
    struct inside *in = lane->in;

    assert(lane->ops);
    lane->ops->drop(lane, false);
    lane->ops = NULL;
    in->lanes.live--;
    if (lane->one_shot) {
        release(lane);
        return;
    }
    evloop_cancel(&lane->work);
    in->lanes.ending++;
    lane_send(lane, WIRE_CLOSE, 0, NULL, 0);
}

static void drop_refused(struct lane *lane, bool by_host)
{
    (void)lane;
    (void)by_host;
}

void lane_refuse(struct inside *in, uint32_t number, int status, bool one_shot)
{
    static const struct lane_ops refused_ops = { .drop = drop_refused };
    struct lane *lane;

    lane_reply_to(in, number, status, NULL, 0);
    if (one_shot)
        return;
    lane = calloc(1, sizeof *lane);
    if (!lane || in->lanes.ending >= LANES_ENDING_MAX) {
        /* The channel could not be remembered until the host's CLOSE, and what follows would be
         * misread: there is no going on. */
        free(lane);
        in->up.dead = true;
        return;
    }
    lane_open(in, lane, number, &refused_ops);
    lane_finish(lane);
}

void lane_consumed(struct lane *lane, uint8_t stream, size_t n)
{
    lane->due[stream] += (uint32_t)n;
    if (lane->due[stream] >= GRANT_AT)
        lane_wake(lane);
}

void lane_send(struct lane *lane, uint8_t type, uint8_t stream, const void *payload, size_t len)
{
    uplink_send(&lane->in->up, lane->number, type, stream, payload, len);
}

void lane_reply_to(struct inside *in, uint32_t number, int status, const void *result, size_t len)
{
    uint8_t small[64];
    struct wire_out o = { .data = small, .cap = sizeof small };

    wire_put_u32(&o, (uint32_t)status);
    wire_put_bytes(&o, result, len);
    assert(!o.failed);
    uplink_send(&in->up, number, WIRE_REPLY, 0, small, o.len);
}

void lane_reply(struct lane *lane, int status, const void *result, size_t len)
{
    lane_reply_to(lane->in, lane->number, status, result, len);
}

static bool get_data(struct lane *lane, const struct wire_header *h, const uint8_t *payload)
{
    if (h->length > lane->allowed[h->stream])
        return false;
    lane->allowed[h->stream] -= h->length;
    if (!lane->ops || h->length == 0)
        return true;
    if (lane->ops->on_data)
        lane->ops->on_data(lane, h->stream, payload, h->length);
    else
        lane_consumed(lane, h->stream, h->length);
    return true;
}

static bool get_credit(struct lane *lane, const struct wire_header *h, const uint8_t *payload)
{
    struct wire_in in = { .data = payload, .len = h->length };
    uint32_t more = wire_get_u32(&in);

    /* Nobody can have received more than was sent: credit never exceeds the window. */
    if (!wire_in_done(&in) || more > WIRE_WINDOW - lane->credit[h->stream])
        return false;
    lane->credit[h->stream] += more;
    lane_wake(lane);
    return true;
}

static bool get_close(struct lane *lane, const struct wire_header *h)
{
    struct lanes *lanes = &lane->in->lanes;

    if (h->length != 0 || lane->one_shot)
        return false;
    if (lane->ops) {
        lane->ops->drop(lane, true);
        lane->ops = NULL;
        lanes->live--;
        lane_send(lane, WIRE_CLOSE, 0, NULL, 0);
    } else {
        lanes->ending--;
    }
    release(lane);
    return true;
}

bool lane_frame(struct lane *lane, const struct wire_header *h, const uint8_t *payload)
{
    switch (h->type) {
    case WIRE_DATA:
        return get_data(lane, h, payload);
    case WIRE_CREDIT:
        return get_credit(lane, h, payload);
    case WIRE_CLOSE:
        return get_close(lane, h);
    case WIRE_EOF:
        if (h->length != 0)
            return false;
        if (lane->ops && lane->ops->on_eof)
            lane->ops->on_eof(lane, h->stream);
        return true;
    default:
        if (!lane->ops) /* what the host sent before it saw our CLOSE */
            return h->type == WIRE_SIGNAL || h->type == WIRE_RESIZE || h->type == WIRE_SPAWN;
        return lane->ops->on_message && lane->ops->on_message(lane, h, payload);
    }
}
