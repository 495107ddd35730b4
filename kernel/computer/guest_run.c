#include <assert.h>
#include <signal.h>
#include <stdlib.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/computer/guest_internal.h"

#define OUTPUT_MASK \
    ((1u << WIRE_STREAM_OUT) | (1u << WIRE_STREAM_ERR) | (1u << WIRE_STREAM_CONTROL))

#define PACE_FREE (4u << 20)
#define PACE_NS   (5 * CLOCK_NS_PER_MS)

static const struct chan_type run_type;

static struct guest_run *run_of(struct chan *ch)
{
    return CONTAINER_OF(ch, struct guest_run, chan);
}

static void tell_end(struct guest_run *run)
{
    run->notify_fn(run->notify_arg, run); /* both are fixed once `told` is set */
}

static void on_post(struct loop_post *post)
{
    struct guest_run *run = CONTAINER_OF(post, struct guest_run, post);

    tell_end(run);
    chan_unref(&run->chan);
}

static void after_exit(struct chan *ch, const struct guest_after *after)
{
    (void)after;
    tell_end(run_of(ch));
}

/* From any thread: the loop tells it. */
static void post_end_locked(struct guest_run *run)
{
    if (run->told || !run->notify_fn)
        return;
    run->told = true;
    chan_ref_locked(&run->chan);
    loop_post(run->chan.g->loop, &run->post, on_post);
}

/* ---- what the guest says ---- */

static const char *on_reply(struct chan *ch, uint32_t status, struct wire_in *in)
{
    struct guest_run *run = run_of(ch);

    run->status = status;
    if (status != 0) {
        if (in->at < in->len)
            run->stage = wire_get_u8(in);
        return NULL;
    }
    run->pid = wire_get_u32(in);
    if (!wire_in_done(in))
        return "a malformed reply to SPAWN";
    if (run->abandoned)
        guest_run_signal_locked(run, SIGKILL, true);
    return NULL;
}

/* What a run writes beyond PACE_FREE bytes is taken at a window each PACE_NS, 50 MiB/s: one that
 * floods would otherwise keep the loop from everybody else just to fill a ring that forgets. */
static void on_pace(struct loop_timer *timer)
{
    struct guest *g = CONTAINER_OF(timer, struct guest, pace);

    pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < CHAN_BUCKETS; i++) {
        for (struct chan *ch = g->buckets[i]; ch; ch = ch->next) {
            struct guest_run *run = run_of(ch);

            if (ch->type != &run_type)
                continue;
            for (unsigned stream = 0; stream < WIRE_STREAM_COUNT; stream++) {
                if (run->held[stream] > 0)
                    chan_consumed_locked(ch, stream, run->held[stream]);
                run->held[stream] = 0;
            }
        }
    }
    pthread_mutex_unlock(&g->lock);
}

static void take_slowly(struct chan *ch, unsigned stream, size_t len)
{
    struct guest_run *run = run_of(ch);
    struct guest *g = ch->g;

    run->held[stream] += (uint32_t)len;
    if (g->pace.slot == 0 &&
        !loop_timer_start(g->loop, &g->pace, clock_add_ns(clock_now_ns(), PACE_NS), on_pace)) {
        /* No memory to wait with: then at once. */
        chan_consumed_locked(ch, stream, run->held[stream]);
        run->held[stream] = 0;
    }
}

static const char *on_data(struct chan *ch, unsigned stream, const uint8_t *data, size_t len)
{
    struct guest_run *run = run_of(ch);

    ring_write(&run->rings[stream], data, len);
    run->output += len;
    if (!run->lossless && run->output > PACE_FREE)
        take_slowly(ch, stream, len);
    else if (!run->lossless)
        chan_consumed_locked(ch, stream, len);
    if (run->output > run->max_output && !run->output_over) {
        run->output_over = true;
        guest_run_signal_locked(run, SIGKILL, true);
    }
    waiters_wake_locked(&ch->waiters, 1u << stream);
    return NULL;
}

static void on_eof(struct chan *ch, unsigned stream)
{
    (void)ch; /* chan.in_eof has it */
    (void)stream;
}

static const char *on_exit_frame(struct guest_run *run, struct wire_in *in)
{
    struct wire_exit e;

    wire_get_exit(in, &e);
    if (!wire_in_done(in) || e.value > (e.signalled ? 64u : 255u) || (e.signalled && !e.value))
        return "a malformed EXIT";
    if (run->end != GUEST_RUN_LIVE || run->status != 0)
        return "an EXIT of what does not run";
    run->end = e.signalled ? GUEST_RUN_SIGNAL : GUEST_RUN_EXIT;
    run->value = (int)e.value;
    run->disk_full = e.disk_full;
    run->usage.wall_ns = clock_now_ns() - run->started_ns;
    /* Halved, so that no two numbers of a liar can overflow when added. */
    run->usage.cpu_ns = (int64_t)(MIN(e.user_us, (uint64_t)INT64_MAX / 2000) +
                                  MIN(e.sys_us, (uint64_t)INT64_MAX / 2000)) *
                        CLOCK_NS_PER_US;
    run->usage.peak_bytes = e.maxrss_bytes;
    waiters_wake_locked(&run->chan.waiters, WAKE_ALL);
    return NULL;
}

static const char *on_other(struct chan *ch, const struct wire_header *h, struct wire_in *in)
{
    struct guest_run *run = run_of(ch);
    const char *why;

    if (h->type != WIRE_EXIT)
        return "an EVENT of a run";
    why = on_exit_frame(run, in);
    if (!why && run->notify_fn && !run->told) {
        run->told = true;
        ch->g->after.fn = after_exit;
    }
    return why;
}

static const char *on_close(struct chan *ch)
{
    struct guest_run *run = run_of(ch);

    if (run->status == 0 && run->end == GUEST_RUN_LIVE)
        return "a CLOSE of what still runs";
    return NULL;
}

static void on_lost(struct chan *ch)
{
    struct guest_run *run = run_of(ch);

    ch->in_eof |= ch->in_mask;
    if (run->status != 0 || run->end != GUEST_RUN_LIVE)
        return;
    run->end = GUEST_RUN_LOST;
    run->usage.wall_ns = clock_now_ns() - run->started_ns;
    post_end_locked(run);
}

static void release(struct chan *ch)
{
    struct guest_run *run = run_of(ch);

    for (unsigned i = 0; i < WIRE_STREAM_COUNT; i++)
        ring_fini(&run->rings[i]);
    free(run);
}

static const struct chan_type run_type = {
    .on_reply = on_reply,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_other = on_other,
    .on_close = on_close,
    .on_lost = on_lost,
    .release = release,
};

/* ---- for guest_spawn.c ---- */

struct guest_run *guest_run_new(struct guest *g, const struct guest_run_spec *spec,
                                struct error *err)
{
    struct guest_run *run = calloc(1, sizeof *run);
    size_t ring_bytes = spec->ring_bytes ? spec->ring_bytes : LIMIT_RING_BYTES;
    unsigned in = 1u << WIRE_STREAM_OUT, out = 0;

    if (!run) {
        error_set(err, ERR_NOMEM, "a run");
        return NULL;
    }
    if (spec->lossless)
        ring_bytes = MAX(ring_bytes, WIRE_WINDOW); /* what is not read yet always fits */
    if (!spec->merge && !spec->pty)
        in |= 1u << WIRE_STREAM_ERR;
    if (spec->stdin_open || spec->pty)
        out |= 1u << WIRE_STREAM_MAIN;
    if (spec->control) {
        in |= 1u << WIRE_STREAM_CONTROL;
        out |= 1u << WIRE_STREAM_CONTROL;
    }
    for (unsigned i = 0; i < WIRE_STREAM_COUNT; i++)
        ring_init(&run->rings[i], ring_bytes);
    run->lossless = spec->lossless;
    run->max_output = spec->max_output ? spec->max_output : LIMIT_RUN_OUTPUT;
    run->started_ns = clock_now_ns();
    run->users = 1;
    chan_init(&run->chan, g, &run_type, (uint8_t)in, (uint8_t)out);
    return run;
}

void guest_run_signal_locked(struct guest_run *run, int signal, bool tree)
{
    uint8_t payload[5];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    struct chan *ch = &run->chan;

    if (!ch->listed || !ch->replied || run->status != 0 || ch->sent_close)
        return;
    wire_put_u32(&o, (uint32_t)signal);
    wire_put_u8(&o, tree);
    guest_send_locked(ch->g, ch, WIRE_SIGNAL, 0, o.data, o.len);
}

/* ---- for everybody ---- */

struct guest_run *guest_run_ref(struct guest_run *run)
{
    struct guest *g = run->chan.g;

    pthread_mutex_lock(&g->lock);
    run->users++;
    chan_ref_locked(&run->chan);
    pthread_mutex_unlock(&g->lock);
    return run;
}

static void drain_locked(struct guest_run *run)
{
    if (!run->lossless)
        return;
    run->lossless = false;
    for (unsigned i = 0; i < WIRE_STREAM_COUNT; i++)
        chan_consumed_locked(&run->chan, i, run->rings[i].len);
}

void guest_run_drain(struct guest_run *run)
{
    struct guest *g = run->chan.g;

    pthread_mutex_lock(&g->lock);
    drain_locked(run);
    pthread_mutex_unlock(&g->lock);
}

void guest_run_unref(struct guest_run *run)
{
    struct guest *g;

    if (!run)
        return;
    g = run->chan.g;
    pthread_mutex_lock(&g->lock);
    if (--run->users == 0)
        drain_locked(run); /* or it would wait for ever for a reader */
    pthread_mutex_unlock(&g->lock);
    chan_unref(&run->chan);
}

void guest_run_notify(struct guest_run *run, guest_run_ended_fn *fn, void *arg)
{
    struct guest *g = run->chan.g;

    pthread_mutex_lock(&g->lock);
    assert(!run->notify_fn);
    run->notify_fn = fn;
    run->notify_arg = arg;
    if (run->end != GUEST_RUN_LIVE)
        post_end_locked(run);
    pthread_mutex_unlock(&g->lock);
}

void guest_run_info(struct guest_run *run, struct guest_run_info *ret)
{
    struct guest *g = run->chan.g;

    pthread_mutex_lock(&g->lock);
    *ret = (struct guest_run_info){
        .end = run->end,
        .value = run->value,
        .pid = run->pid,
        .output_over = run->output_over,
        .disk_full = run->disk_full,
        .streams_ended = (run->chan.in_mask & ~run->chan.in_eof) == 0,
        .usage = run->usage,
    };
    for (unsigned i = 0; i < WIRE_STREAM_COUNT; i++) {
        ret->total[i] = ring_end(&run->rings[i]);
        ret->dropped[i] = ring_start(&run->rings[i]);
    }
    pthread_mutex_unlock(&g->lock);
    if (ret->end == GUEST_RUN_LIVE)
        ret->usage.wall_ns = clock_now_ns() - run->started_ns;
}

long guest_run_read(struct guest_run *run, enum wire_stream stream, uint64_t *offset, size_t max,
                    struct buf *out)
{
    struct guest *g = run->chan.g;
    struct ring *ring = &run->rings[stream];
    long n;

    pthread_mutex_lock(&g->lock);
    n = ring_read(ring, offset, max, out);
    if (n > 0 && run->lossless) {
        size_t used = (size_t)(*offset - ring_start(ring));

        ring_consume(ring, used);
        chan_consumed_locked(&run->chan, stream, used);
    }
    pthread_mutex_unlock(&g->lock);
    return n;
}

static bool ready_locked(const struct guest_run *run, unsigned streams, const uint64_t *beyond)
{
    unsigned live = run->chan.in_mask & ~(unsigned)run->chan.in_eof;

    if (run->end != GUEST_RUN_LIVE || (streams & ~live))
        return true;
    for (unsigned i = 0; i < WIRE_STREAM_COUNT; i++)
        if ((streams & (1u << i)) && ring_end(&run->rings[i]) > beyond[i])
            return true;
    return false;
}

bool guest_run_wait(struct guest_run *run, unsigned streams, const uint64_t *beyond,
                    const struct wait *w, struct error *err)
{
    struct guest *g = run->chan.g;
    struct waiter wt;
    bool ready, time_left = true;

    assert(beyond || streams == 0);
    waiter_begin(&wt, g, w);
    pthread_mutex_lock(&g->lock);
    /* A bit that no output has matches only what wakes everybody. */
    while (!(ready = ready_locked(run, streams, beyond)) && time_left)
        time_left =
            waiter_wait_locked(&wt, &run->chan.waiters, (streams & OUTPUT_MASK) | WAKE_REPLY);
    pthread_mutex_unlock(&g->lock);
    waiter_end(&wt);
    return ready || waiter_error(&wt, err);
}

/* True when there is no sense in waiting to write. */
static bool write_refused_locked(const struct guest_run *run, unsigned stream, struct error *err)
{
    const struct chan *ch = &run->chan;

    if (ch->g->lost && run->end == GUEST_RUN_LOST)
        return !guest_lost_error_locked(ch->g, err);
    if (run->end != GUEST_RUN_LIVE || ch->got_close || ch->sent_close)
        return !error_set(err, ERR_IO, "the program has ended; it reads nothing more");
    if (ch->out_eof & (1u << stream))
        return !error_set(err, ERR_INVALID, "its standard input has been closed already");
    return false;
}

bool guest_run_write(struct guest_run *run, enum wire_stream stream, const void *data, size_t len,
                     const struct wait *w, struct error *err)
{
    struct guest *g = run->chan.g;
    struct chan *ch = &run->chan;
    const uint8_t *from = data;
    struct waiter wt;
    bool refused = false, time_left = true;
    size_t done = 0;

    if (!(ch->out_mask & (1u << stream)))
        return error_set(err, ERR_INVALID, "this run was started without %s",
                         stream == WIRE_STREAM_MAIN ? "an open standard input"
                                                    : "a control stream");
    waiter_begin(&wt, g, w);
    pthread_mutex_lock(&g->lock);
    for (;;) {
        refused = write_refused_locked(run, stream, err);
        if (refused)
            break;
        done += chan_send_data_locked(ch, stream, from + done, len - done);
        if (done == len || !time_left)
            break;
        time_left = ch->out_credit[stream] == 0
                        ? waiter_wait_locked(&wt, &ch->waiters, WAKE_CREDIT(stream))
                        : waiter_wait_locked(&wt, &g->waiters, WAKE_ROOM);
    }
    pthread_mutex_unlock(&g->lock);
    waiter_end(&wt);
    return !refused && (done == len || waiter_error(&wt, err));
}

void guest_run_close_stdin(struct guest_run *run)
{
    struct guest *g = run->chan.g;

    pthread_mutex_lock(&g->lock);
    chan_send_eof_locked(&run->chan, WIRE_STREAM_MAIN);
    waiters_wake_locked(&run->chan.waiters, WAKE_CREDIT(WIRE_STREAM_MAIN));
    pthread_mutex_unlock(&g->lock);
}

void guest_run_signal(struct guest_run *run, int signal, bool tree)
{
    struct guest *g = run->chan.g;

    pthread_mutex_lock(&g->lock);
    guest_run_signal_locked(run, signal, tree);
    pthread_mutex_unlock(&g->lock);
}

void guest_run_resize(struct guest_run *run, uint16_t rows, uint16_t cols)
{
    struct guest *g = run->chan.g;
    struct chan *ch = &run->chan;
    uint8_t payload[4];
    struct wire_out o = { .data = payload, .cap = sizeof payload };

    wire_put_u16(&o, rows);
    wire_put_u16(&o, cols);
    pthread_mutex_lock(&g->lock);
    if (ch->listed && ch->replied && !ch->sent_close && run->end == GUEST_RUN_LIVE)
        guest_send_locked(g, ch, WIRE_RESIZE, 0, o.data, o.len);
    pthread_mutex_unlock(&g->lock);
}
