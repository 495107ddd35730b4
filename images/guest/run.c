#include "images/guest/run.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "images/guest/inside.h"
#include "images/guest/run_state.h"
#include "images/guest/tree.h"

#define TURN_BYTES (64u << 10) /* of one stream in one turn */

static struct run *run_of(struct lane *lane)
{
    return CONTAINER_OF(lane, struct run, lane);
}

/* ---- streams ---- */

static bool all_owed_sent(const struct run *r)
{
    return r->out.owed == 0 && r->err.owed == 0;
}

/* What is on the control pipe now may go once everything that was printed before it has gone. */
static void mark(struct run *r)
{
    r->control_pass = tap_available(&r->control_out);
    if (r->control_pass == 0 && r->state != RUN_OVER)
        return;
    tap_mark(&r->out);
    tap_mark(&r->err);
}

static void forward_control(struct run *r)
{
    struct tap *t = &r->control_out;

    if (!t->open)
        return;
    if (r->control_pass == 0 && t->ready && !r->marked)
        mark(r);
    if (!all_owed_sent(r))
        return;
    if (r->control_pass > 0) {
        t->ready = true;
        r->control_pass -= tap_forward(t, r->control_pass);
    } else if (t->ready && tap_available(t) == 0) {
        /* Whoever still can write causes a new event; if nobody can, this finds the end. */
        if (t->hung_up)
            (void)tap_forward(t, 1);
        else
            t->ready = false;
    }
}

static bool control_can_go_on(const struct run *r)
{
    const struct tap *t = &r->control_out;

    return all_owed_sent(r) && tap_can_go_on(t);
}

static void send_exit(struct run *r)
{
    uint8_t bytes[64];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    wire_put_exit(&o, &r->end);
    lane_send(&r->lane, WIRE_EXIT, 0, bytes, o.len);
    r->exit_sent = true;
    r->marked = false;
}

static void pump(struct lane *lane)
{
    struct run *r = run_of(lane);

    if (r->state < RUN_LIVE)
        return;
    if (r->state == RUN_OVER && !r->exit_sent && !r->marked) {
        mark(r);
        r->marked = true;
    }
    (void)tap_forward(&r->out, TURN_BYTES);
    (void)tap_forward(&r->err, TURN_BYTES);
    forward_control(r);
    if (r->marked && all_owed_sent(r) && (r->control_pass == 0 || !r->control_out.open))
        send_exit(r);
    if (r->exit_sent && !r->out.open && !r->err.open && !r->control_out.open) {
        if (r->last)
            lane->in->leaving = true;
        lane_finish(lane);
        return;
    }
    if (tap_can_go_on(&r->out) || tap_can_go_on(&r->err) || control_can_go_on(r))
        lane_wake(lane);
}

static void on_data(struct lane *lane, uint8_t stream, const uint8_t *data, size_t len)
{
    struct run *r = run_of(lane);

    if (stream == WIRE_STREAM_MAIN)
        sink_data(&r->input, data, len);
    else if (stream == WIRE_STREAM_CONTROL)
        sink_data(&r->control_in, data, len);
    else
        lane_consumed(lane, stream, len);
}

static void on_eof(struct lane *lane, uint8_t stream)
{
    struct run *r = run_of(lane);

    if (stream == WIRE_STREAM_MAIN)
        sink_eof(&r->input);
    else if (stream == WIRE_STREAM_CONTROL)
        sink_eof(&r->control_in);
}

/* ---- messages ---- */

static void signal_run(struct run *r, int signal, bool tree)
{
    if (r->lane.in->inert || r->pid <= 1)
        return;
    if (tree) {
        tree_signal(signal, r->state == RUN_OVER ? tree_choose_left : tree_choose_run, r->pid);
    } else if (kill(-r->pid, signal) != 0 && errno == ESRCH && r->state == RUN_STARTING) {
        (void)kill(r->pid, signal); /* has no group of its own yet */
    }
}

static bool on_message(struct lane *lane, const struct wire_header *h, const uint8_t *payload)
{
    struct run *r = run_of(lane);
    struct wire_in in = { .data = payload, .len = h->length };

    if (h->type == WIRE_SPAWN) {
        int error;

        if (r->state != RUN_ASSEMBLING || h->stream > 1)
            return false;
        error = run_assemble(r, payload, h->length);
        if (error) {
            run_fail(r, error, SPAWN_STAGE_RESOURCES);
        } else if (h->stream == 0) {
            run_start(r, r->assembled, r->assembled_len);
            if (lane->ops) /* else it failed, and was dropped */
                run_forget_assembled(r);
        }
        return true;
    }
    if (r->state == RUN_ASSEMBLING)
        return false;
    if (h->type == WIRE_SIGNAL) {
        uint32_t signal = wire_get_u32(&in);
        uint8_t scope = wire_get_u8(&in);

        if (!wire_in_done(&in) || scope > 1)
            return false;
        if (signal >= 1 && signal <= 64)
            signal_run(r, (int)signal, scope == 1);
        return true;
    }
    if (h->type == WIRE_RESIZE) {
        uint16_t rows = wire_get_u16(&in);
        uint16_t cols = wire_get_u16(&in);

        if (!wire_in_done(&in))
            return false;
        if (r->out.open && r->out.terminal)
            (void)run_set_size(r->out.source.fd, rows, cols);
        return true;
    }
    return false;
}

static void drop(struct lane *lane, bool by_host)
{
    struct run *r = run_of(lane);

    /* Nobody is left to hear of it: a program that goes on would do so unseen. */
    if (by_host && (r->state == RUN_STARTING || r->state == RUN_LIVE))
        signal_run(r, SIGKILL, true);
    if (r->spawn)
        spawn_forget(r->spawn);
    r->spawn = NULL;
    run_forget_assembled(r);
    sink_close(&r->input);
    sink_close(&r->control_in);
    tap_close(&r->out);
    tap_close(&r->err);
    tap_close(&r->control_out);
    list_remove(&r->link);
    lane->in->run_count--;
}

bool run_request(struct inside *in, const struct wire_header *h, const uint8_t *payload)
{
    static const struct lane_ops ops = {
        .on_data = on_data, .on_eof = on_eof, .on_message = on_message, .pump = pump, .drop = drop
    };
    struct run *r;

    if (h->stream > 1)
        return false;
    r = in->run_count < INSIDE_RUNS_MAX ? calloc(1, sizeof *r) : NULL;
    if (!r) {
        lane_refuse(in, h->channel, in->run_count < INSIDE_RUNS_MAX ? ENOMEM : EAGAIN, false);
        return true;
    }
    lane_open(in, &r->lane, h->channel, &ops);
    in->run_count++;
    sink_init(&r->input, &r->lane, WIRE_STREAM_MAIN);
    sink_init(&r->control_in, &r->lane, WIRE_STREAM_CONTROL);
    tap_init(&r->out, &r->lane, WIRE_STREAM_OUT);
    tap_init(&r->err, &r->lane, WIRE_STREAM_ERR);
    tap_init(&r->control_out, &r->lane, WIRE_STREAM_CONTROL);
    if (h->stream == 0) {
        run_start(r, payload, h->length);
    } else {
        int error = run_assemble(r, payload, h->length);

        if (error)
            run_fail(r, error, SPAWN_STAGE_RESOURCES);
    }
    return true;
}

static void finished(struct run *r, int status, const struct rusage *usage)
{
    r->state = RUN_OVER;
    r->end.signalled = WIFSIGNALED(status);
    r->end.value = (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    r->end.user_us =
        (uint64_t)usage->ru_utime.tv_sec * 1000000u + (uint64_t)usage->ru_utime.tv_usec;
    r->end.sys_us = (uint64_t)usage->ru_stime.tv_sec * 1000000u + (uint64_t)usage->ru_stime.tv_usec;
    r->end.maxrss_bytes = (uint64_t)usage->ru_maxrss * 1024u;
    r->end.disk_full = r->end.value != 0 && machine_disk_full(r->lane.in);
    lane_wake(&r->lane);
}

void run_reaped(struct inside *in, pid_t pid, int status, const struct rusage *usage)
{
    LIST_FOR_EACH (node, &in->runs) {
        struct run *r = LIST_ENTRY(node, struct run, link);

        if (r->pid != pid || r->state == RUN_OVER)
            continue;
        if (r->spawn)
            spawn_poll(r->spawn); /* may say that it never started, which ends the lane */
        if (r->lane.ops)
            finished(r, status, usage);
        return;
    }
}
