/* Following a cell: what its driver says, when it has to end, and how it is made to. */
#include "tools/code_internal.h"

#include <signal.h>

#include "kernel/base/clock.h"

#define REACT_NS (2 * CLOCK_NS_PER_S) /* from an interrupt to something harder */
#define TURNS    8                    /* pieces of the control stream that are read at once */

/* ---- what the driver says ---- */

static void set_text(struct buf *to, const struct code_frame *frame)
{
    buf_clear(to);
    (void)buf_append(to, frame->data, frame->len); /* `failed` is looked at when it is taken */
}

static void finish_locked(struct code_context *ctx)
{
    struct guest_run_info info;

    ctx->push_ns = CLOCK_NEVER;
    ctx->state = CODE_FINISHED;
    if (ctx->outcome.stop != CODE_STOP_CANCEL || ctx->outcome.ended)
        return;
    /* Nobody wants to know what a cancelled cell came to. */
    guest_run_info(run_guest(ctx->run), &info);
    ctx->told = info.total[WIRE_STREAM_OUT];
    code_outcome_fini(&ctx->outcome);
    ctx->state = CODE_IDLE;
}

static void take_frame_locked(struct code_context *ctx, const struct code_frame *frame)
{
    struct code_outcome *o = &ctx->outcome;

    if (frame->cell != ctx->cell)
        return;
    if (frame->kind == CODE_FRAME_IMAGE) {
        if (ctx->image && frame->number == ctx->image_at) {
            (void)buf_append(ctx->image, frame->data, frame->len);
            ctx->image_at += frame->len;
            ctx->image_answered = true;
        }
        return;
    }
    if (ctx->state != CODE_RUNNING)
        return;
    switch (frame->kind) {
    case CODE_FRAME_VALUE:
        set_text(&o->value, frame);
        break;
    case CODE_FRAME_ERROR:
        set_text(&o->error, frame);
        break;
    case CODE_FRAME_NOTE:
        set_text(&o->note, frame);
        break;
    case CODE_FRAME_STATUS:
        o->status = frame->number;
        o->has_status = true;
        break;
    case CODE_FRAME_IMAGES:
        o->images = (unsigned)MIN(frame->number, LIMIT_IMAGES);
        break;
    case CODE_FRAME_DONE:
        o->took_ns = (int64_t)MIN(frame->number, (uint64_t)INT64_MAX / 1000) * CLOCK_NS_PER_US;
        if (!o->took_ns || o->took_ns > clock_now_ns() - ctx->begun_ns)
            o->took_ns = clock_now_ns() - ctx->begun_ns;
        finish_locked(ctx);
        break;
    case CODE_FRAME_IMAGE:
        break;
    }
}

/* It lied, or cannot be understood any more: better none than a wrong one. */
static void broken_locked(struct code_context *ctx)
{
    ctx->outcome.broken = true;
    buf_clear(&ctx->control);
    run_kill(ctx->run, SIGKILL, true);
}

/* Reads what has come.  True: and it was not the end of it. */
static bool read_control_locked(struct code_context *ctx)
{
    uint64_t before = ctx->control_at;
    long n = guest_run_read(run_guest(ctx->run), WIRE_STREAM_CONTROL, &ctx->control_at,
                            CODE_CONTROL_BYTES, &ctx->control);

    if (n < 0 || ctx->control_at - before != (uint64_t)n) {
        broken_locked(ctx); /* or out of memory, or it wrote faster than an honest one does */
        return false;
    }
    for (size_t at = 0;;) {
        struct code_frame frame;
        size_t used;

        switch (
            code_frame_read(buf_str(&ctx->control) + at, ctx->control.len - at, &frame, &used)) {
        case CODE_FRAME_OK:
            take_frame_locked(ctx, &frame);
            at += used;
            continue;
        case CODE_FRAME_BROKEN:
            broken_locked(ctx);
            return false;
        case CODE_FRAME_MORE:
            buf_consume(&ctx->control, at);
            return n > 0;
        }
    }
}

void code_look_locked(struct code_context *ctx)
{
    struct run_info info;

    if (!ctx->run)
        return;
    run_info(ctx->run, &info); /* before reading: what came before the end is then there */
    for (int turn = 0; turn < TURNS && !ctx->outcome.broken && read_control_locked(ctx); turn++)
        continue;
    if ((info.reason == RUN_LIVE && !ctx->outcome.broken) || ctx->state != CODE_RUNNING)
        return;
    run_info(ctx->run, &ctx->outcome.end);
    ctx->outcome.ended = true;
    ctx->outcome.took_ns = clock_now_ns() - ctx->begun_ns;
    finish_locked(ctx);
}

bool code_await_control(struct code_context *ctx, struct run *run, uint64_t at,
                        const struct wait *w, struct error *err)
{
    struct wait soon = { .cancel = w->cancel };
    uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
    struct error late = ERROR_INIT;
    struct run_info info;

    beyond[WIRE_STREAM_CONTROL] = at;
    if (!run_wait(run, 1u << WIRE_STREAM_CONTROL, beyond, w, err))
        return false;
    run_info(run, &info);
    if (info.reason != RUN_LIVE || info.guest.total[WIRE_STREAM_CONTROL] > at)
        return true;
    /* It closed its way to us: it is ending, or of no use any more. */
    soon.deadline_ns = MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), REACT_NS));
    if (run_wait(run, 0, NULL, &soon, &late))
        return true;
    if (late.code != ERR_TIMEOUT) {
        if (err)
            *err = late;
        return false;
    }
    if (!wait_check(w, err))
        return false;
    pthread_mutex_lock(&ctx->lock);
    if (ctx->run == run)
        broken_locked(ctx);
    pthread_mutex_unlock(&ctx->lock);
    return true;
}

/* ---- pushing for an end ---- */

void code_push_locked(struct code_context *ctx)
{
    int64_t now_ns = clock_now_ns();
    unsigned push = ctx->pushes++;

    if (push == 0) {
        run_kill(ctx->run, SIGINT, false);
        ctx->push_ns = clock_add_ns(now_ns, REACT_NS);
    } else if (ctx->language == CODE_BASH && push == 1) {
        /* A shell takes no notice of this, but what it waits for does; the rest of the cell, to
         * which it then comes, is interrupted once more. */
        run_kill(ctx->run, SIGTERM, false);
        ctx->push_ns = clock_add_ns(now_ns, REACT_NS / 20);
    } else if (ctx->language == CODE_BASH && push == 2) {
        run_kill(ctx->run, SIGINT, false);
        ctx->push_ns = clock_add_ns(now_ns, REACT_NS / 2);
    } else {
        run_kill(ctx->run, SIGKILL, true);
        ctx->push_ns = CLOCK_NEVER;
    }
}

static void on_due(struct loop_timer *timer);

/* Loop: arm the timer for push_ns, or stop it.  Gives the reference of a timer that is not armed
 * any more back to the caller, as a count. */
static unsigned arm(struct code_context *ctx, int64_t due_ns)
{
    bool armed = ctx->timer.slot != 0;

    if (due_ns == CLOCK_NEVER) {
        loop_timer_stop(ctx->loop, &ctx->timer);
        return armed;
    }
    if (!loop_timer_start(ctx->loop, &ctx->timer, due_ns, on_due)) {
        /* Without memory for its timer it must not run on without a limit. */
        pthread_mutex_lock(&ctx->lock);
        if (ctx->run)
            run_kill(ctx->run, SIGKILL, true);
        pthread_mutex_unlock(&ctx->lock);
        return 0;
    }
    if (!armed)
        (void)code_context_ref(ctx);
    return 0;
}

static int64_t due_locked(const struct code_context *ctx)
{
    return ctx->state == CODE_RUNNING && !ctx->retired ? ctx->push_ns : CLOCK_NEVER;
}

static void on_due(struct loop_timer *timer)
{
    struct code_context *ctx = CONTAINER_OF(timer, struct code_context, timer);
    int64_t due_ns;

    pthread_mutex_lock(&ctx->lock);
    code_look_locked(ctx);
    if (due_locked(ctx) <= clock_now_ns()) {
        if (ctx->outcome.stop == CODE_STOP_NONE)
            ctx->outcome.stop = CODE_STOP_TIMEOUT;
        code_push_locked(ctx);
    }
    due_ns = due_locked(ctx);
    pthread_mutex_unlock(&ctx->lock);
    (void)arm(ctx, due_ns); /* takes a reference of its own if it goes on */
    code_context_unref(ctx);
}

static void on_post(struct loop_post *post)
{
    struct code_context *ctx = CONTAINER_OF(post, struct code_context, post);
    unsigned refs = 1;
    int64_t due_ns;

    pthread_mutex_lock(&ctx->lock);
    ctx->posted = false;
    due_ns = due_locked(ctx);
    pthread_mutex_unlock(&ctx->lock);
    for (refs += arm(ctx, due_ns); refs > 0; refs--)
        code_context_unref(ctx);
}

void code_kick_locked(struct code_context *ctx)
{
    if (ctx->posted)
        return;
    ctx->posted = true;
    (void)code_context_ref(ctx);
    loop_post(ctx->loop, &ctx->post, on_post);
}
