#include "images/guest/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/dial.h"
#include "images/guest/file.h"
#include "images/guest/run.h"
#include "images/guest/sys.h"
#include "images/guest/watch.h"

#define TIDY_AFTER_NS 1000000000

static void ping(struct inside *in, uint32_t channel, struct wire_in *args)
{
    uint8_t *out;
    struct wire_out o;
    size_t room;

    /* The payload with a status before it may be more than a frame holds. */
    out = args->len <= WIRE_PAYLOAD_MAX - 4 ? uplink_data_begin(&in->up, &room) : NULL;
    if (!out) {
        lane_reply_to(in, channel, EMSGSIZE, NULL, 0);
        return;
    }
    o = (struct wire_out){ .data = out, .cap = room };
    wire_put_u32(&o, 0);
    wire_put_bytes(&o, args->data, args->len);
    uplink_made(&in->up, channel, WIRE_REPLY, 0, o.len);
}

/* The host saves us, and what it saves must not have half a frame under way. */
static void hold(struct inside *in, uint32_t channel, struct wire_in *args)
{
    lane_reply_to(in, channel, args->len ? EBADMSG : 0, NULL, 0);
    if (args->len == 0)
        uplink_hold(&in->up);
}

/* We have been saved and are somebody else's now.  The order matters: nothing of what ends here is
 * told to the new host. */
static void reset(struct inside *in, uint32_t channel, struct wire_in *args)
{
    if (args->len == 0) {
        machine_kill_all(in);
        lanes_fini(&in->lanes);
        lanes_init(&in->lanes);
        machine_fini(&in->machine);
        machine_init(&in->machine);
        in->processes = 0;
        uplink_forget(&in->up);
    }
    lane_reply_to(in, channel, args->len ? EBADMSG : 0, NULL, 0);
}

typedef void request_fn(struct inside *in, uint32_t channel, struct wire_in *args);

static const struct {
    request_fn *run;
    bool one_shot;
} requests[WIRE_TYPE_COUNT] = {
    [WIRE_PING] = { ping, true },
    [WIRE_STAT] = { file_stat, true },
    [WIRE_MAKE] = { file_make, true },
    [WIRE_MOVE] = { file_move, true },
    [WIRE_REMOVE] = { file_remove, true },
    [WIRE_SET_TIME] = { machine_set_time, true },
    [WIRE_RESEED] = { machine_reseed, true },
    [WIRE_SET_NAME] = { machine_set_name, true },
    [WIRE_FREEZE] = { machine_freeze, true },
    [WIRE_THAW] = { machine_thaw, true },
    [WIRE_SYNC] = { machine_sync, true },
    [WIRE_SHUTDOWN] = { machine_shutdown, true },
    [WIRE_HOLD] = { hold, true },
    [WIRE_LIMIT] = { machine_limit, true },
    [WIRE_LIMIT_DISK] = { machine_limit_disk, true },
    [WIRE_DIAL] = { dial_request, false },
    [WIRE_WATCH] = { watch_request, false },
    [WIRE_READ] = { file_read, false },
    [WIRE_WRITE] = { file_write, false },
    [WIRE_LIST] = { file_list, false },
};

static bool on_frame(void *arg, const struct wire_header *h, const uint8_t *payload)
{
    struct inside *in = arg;
    struct wire_in args = { .data = payload, .len = h->length };
    struct lane *lane;

    if (h->type == WIRE_RESET) { /* its channel means nothing yet: another host may have used it */
        reset(in, h->channel, &args);
        return true;
    }
    lane = lane_find(&in->lanes, h->channel);
    if (lane)
        return lane_frame(lane, h, payload);
    /* New channels of the host have odd numbers and begin with a request. */
    if (h->channel % 2 == 0 || (h->type != WIRE_SPAWN && !requests[h->type].run))
        return false;
    if (h->type == WIRE_SPAWN && in->lanes.live < LANES_MAX)
        return run_request(in, h, payload);
    if (h->stream != 0 && h->type != WIRE_SPAWN)
        return false;
    if (in->lanes.live >= LANES_MAX)
        lane_refuse(in, h->channel, EMFILE, requests[h->type].one_shot);
    else
        requests[h->type].run(in, h->channel, &args);
    return true;
}

static void on_tidy(struct evloop_timer *t)
{
    struct inside *in = CONTAINER_OF(t, struct inside, tidy);

    if (!in->up.used && uplink_idle(&in->up)) {
        inside_tidy(in);
        return;
    }
    in->up.used = false;
    evloop_start(&in->loop, t, TIDY_AFTER_NS);
}

void inside_tidy(struct inside *in)
{
    uplink_tidy(&in->up);
    spawn_stack_free(&in->spare_stack);
}

static void say_hello(struct inside *in)
{
    uint8_t bytes[8];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    wire_put_u32(&o, WIRE_MAGIC);
    wire_put_u32(&o, WIRE_VERSION);
    uplink_send(&in->up, 0, WIRE_HELLO, 0, bytes, o.len);
}

bool inside_init(struct inside *in, const struct inside_options *opt)
{
    in->inert = opt->inert;
    in->user = opt->user;
    in->pid1 = getpid() == 1;
    in->disk_before = in->user ? machine_disk_used() : 0;
    in->tidy.run = on_tidy;
    in->up.source.fd = -1;
    in->reaper.source.fd = -1;
    in->egress.source.fd = -1;
    list_init(&in->runs);
    lanes_init(&in->lanes);
    machine_init(&in->machine);
    in->root_fd = open(opt->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (!evloop_init(&in->loop) || in->root_fd < 0 || !reap_init(&in->reaper, in) ||
        !egress_init(&in->egress, in, opt->listen_fd) ||
        !uplink_init(&in->up, &in->loop, opt->stream, on_frame, in)) {
        evloop_unwatch(&in->loop, &in->egress.source); /* stays the caller's */
        inside_fini(in);
        return false;
    }
    say_hello(in);
    return true;
}

static bool may_run(void *arg)
{
    return uplink_has_room(arg);
}

bool inside_turn(struct inside *in, int max_wait_ms)
{
    /* What was queued outside of a turn, HELLO, goes out with this one.  What the host has asked
     * for by then is begun first. */
    if (uplink_untried(&in->up))
        max_wait_ms = 0;
    evloop_poll(&in->loop, !uplink_has_room(&in->up) || in->up.holding, max_wait_ms);
    if (!in->up.dead && !in->up.holding)
        evloop_run_work(&in->loop, may_run, &in->up);
    uplink_flush(&in->up);
    uplink_resume(&in->up);
    if (in->up.used && !list_linked(&in->tidy.link))
        evloop_start(&in->loop, &in->tidy, TIDY_AFTER_NS);
    return !in->up.dead && !(in->leaving && uplink_idle(&in->up));
}

void inside_fini(struct inside *in)
{
    lanes_fini(&in->lanes);
    egress_fini(&in->egress);
    reap_fini(&in->reaper);
    machine_fini(&in->machine);
    uplink_fini(&in->up);
    evloop_stop(&in->tidy);
    spawn_stack_free(&in->spare_stack);
    if (in->root_fd >= 0)
        close(in->root_fd);
    in->root_fd = -1;
    evloop_fini(&in->loop);
}
