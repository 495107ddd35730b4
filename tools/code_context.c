#include "tools/code_context.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "tools/code_frame.h"

#define REACT_NS      (2 * CLOCK_NS_PER_S) /* from an interrupt to something harder */
#define TURNS         8                    /* pieces of the control stream that are read at once */
#define CONTROL_BYTES (CODE_FRAME_HEAD_MAX + CODE_FRAME_DATA_MAX)

struct code_context {
    /* never change */
    atomic_uint refs;
    enum code_language language;
    char name[CODE_NAME_MAX + 1];
    struct loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* somebody left */

    /* lock */
    bool held;
    bool retired;
    struct run *run; /* NULL: no interpreter */
    enum code_state state;
    uint64_t cell; /* the number of the last one */
    int64_t begun_ns;
    int64_t push_ns; /* when to push (harder) for its end; CLOCK_NEVER */
    unsigned pushes;
    struct code_outcome outcome; /* `output` is read when it is taken */
    uint64_t refusal_seq;        /* computer_refusal_seq() when the cell began */
    uint64_t told;               /* offset of the output that an answer has shown */
    uint64_t control_at;         /* offset of the control stream up to which it was read */
    struct buf control;          /* what was read and is no whole frame yet */
    struct buf *image;           /* being fetched; NULL: none */
    uint64_t image_at;
    bool image_answered;
    bool posted;

    /* loop */
    struct loop_post post;
    struct loop_timer timer; /* holds a reference while it is armed */
};

void code_outcome_fini(struct code_outcome *outcome)
{
    buf_fini(&outcome->output);
    buf_fini(&outcome->value);
    buf_fini(&outcome->error);
    buf_fini(&outcome->note);
    *outcome = (struct code_outcome){ .cell = 0 };
}

struct code_context *code_context_new(struct loop *loop, enum code_language language,
                                      const char *name, struct error *err)
{
    struct code_context *ctx = calloc(1, sizeof *ctx);

    assert(strlen(name) <= CODE_NAME_MAX);
    if (!ctx) {
        error_set(err, ERR_NOMEM, "a context");
        return NULL;
    }
    atomic_init(&ctx->refs, 1);
    ctx->language = language;
    memcpy(ctx->name, name, strlen(name) + 1);
    ctx->loop = loop;
    ctx->push_ns = CLOCK_NEVER;
    buf_init(&ctx->control, 2 * CONTROL_BYTES);
    pthread_mutex_init(&ctx->lock, NULL);
    cond_init(&ctx->changed);
    return ctx;
}

struct code_context *code_context_ref(struct code_context *ctx)
{
    atomic_fetch_add(&ctx->refs, 1);
    return ctx;
}

void code_context_unref(struct code_context *ctx)
{
    if (!ctx || atomic_fetch_sub(&ctx->refs, 1) > 1)
        return;
    if (ctx->run)
        run_kill(ctx->run, SIGKILL, true);
    run_unref(ctx->run);
    code_outcome_fini(&ctx->outcome);
    buf_fini(&ctx->control);
    pthread_cond_destroy(&ctx->changed);
    pthread_mutex_destroy(&ctx->lock);
    free(ctx);
}

enum code_language code_context_language(const struct code_context *ctx)
{
    return ctx->language;
}

const char *code_context_name(const struct code_context *ctx)
{
    return ctx->name;
}

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
                            CONTROL_BYTES, &ctx->control);

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

/* Brings `state` up to date. */
static void look_locked(struct code_context *ctx)
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

/* ---- pushing for an end ---- */

static void push_locked(struct code_context *ctx)
{
    int64_t now_ns = clock_now_ns();

    switch (ctx->pushes++) {
    case 0:
        run_kill(ctx->run, SIGINT, false);
        ctx->push_ns = clock_add_ns(now_ns, REACT_NS);
        return;
    case 1:
        if (ctx->language == CODE_BASH) { /* it takes no notice of this, but its children do */
            run_kill(ctx->run, SIGTERM, false);
            ctx->push_ns = clock_add_ns(now_ns, REACT_NS / 2);
            return;
        }
        break;
    default:
        break;
    }
    run_kill(ctx->run, SIGKILL, true);
    ctx->push_ns = CLOCK_NEVER;
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
    look_locked(ctx);
    if (due_locked(ctx) <= clock_now_ns()) {
        if (ctx->outcome.stop == CODE_STOP_NONE)
            ctx->outcome.stop = CODE_STOP_TIMEOUT;
        push_locked(ctx);
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

/* Have the loop look at when the next push is due. */
static void kick_locked(struct code_context *ctx)
{
    if (ctx->posted)
        return;
    ctx->posted = true;
    (void)code_context_ref(ctx);
    loop_post(ctx->loop, &ctx->post, on_post);
}

void code_context_retire(struct code_context *ctx)
{
    pthread_mutex_lock(&ctx->lock);
    ctx->retired = true;
    kick_locked(ctx);
    pthread_mutex_unlock(&ctx->lock);
}

bool code_context_used(struct code_context *ctx)
{
    bool used;

    pthread_mutex_lock(&ctx->lock);
    used = ctx->run || ctx->held || atomic_load(&ctx->refs) > 1;
    pthread_mutex_unlock(&ctx->lock);
    return used;
}

/* ---- one caller at a time ---- */

static void wake(void *arg)
{
    struct code_context *ctx = arg;

    pthread_mutex_lock(&ctx->lock);
    pthread_cond_broadcast(&ctx->changed);
    pthread_mutex_unlock(&ctx->lock);
}

bool code_context_enter(struct code_context *ctx, const struct wait *w, struct error *err)
{
    struct cancel_hook hook;
    struct error late = ERROR_INIT;
    bool entered;

    cancel_attach(w->cancel, &hook, wake, ctx);
    pthread_mutex_lock(&ctx->lock);
    while (ctx->held && wait_cond(w, &ctx->changed, &ctx->lock))
        continue;
    entered = !ctx->held;
    if (entered)
        ctx->held = true;
    pthread_mutex_unlock(&ctx->lock);
    cancel_detach(w->cancel, &hook);
    if (entered)
        return true;
    if (wait_check(w, &late) || late.code == ERR_TIMEOUT)
        return error_set(err, ERR_BUSY,
                         "another call is using context \"%s\" of %s; try again, or use another "
                         "context",
                         ctx->name, code_language_names[ctx->language]);
    if (err)
        *err = late;
    return false;
}

void code_context_leave(struct code_context *ctx)
{
    pthread_mutex_lock(&ctx->lock);
    assert(ctx->held);
    ctx->held = false;
    pthread_cond_broadcast(&ctx->changed);
    pthread_mutex_unlock(&ctx->lock);
}

/* ---- cells ---- */

enum code_state code_context_state(struct code_context *ctx, enum code_stop *ret_stop)
{
    enum code_state state;

    pthread_mutex_lock(&ctx->lock);
    look_locked(ctx);
    state = ctx->state;
    if (ret_stop)
        *ret_stop = ctx->outcome.stop;
    pthread_mutex_unlock(&ctx->lock);
    return state;
}

static void forget_locked(struct code_context *ctx)
{
    run_unref(ctx->run);
    ctx->run = NULL;
    ctx->state = CODE_IDLE;
    ctx->push_ns = CLOCK_NEVER;
    ctx->cell = 0;
    ctx->told = 0;
    ctx->control_at = 0;
    buf_clear(&ctx->control);
    code_outcome_fini(&ctx->outcome);
}

/* *ret_lost: there was one, which ended between two cells, as *ret_end says. */
static bool ready_driver(struct code_context *ctx, struct computer *c, bool *ret_lost,
                         struct run_info *ret_end, const struct wait *w, struct error *err)
{
    struct run *run = NULL;

    *ret_lost = false;
    pthread_mutex_lock(&ctx->lock);
    assert(ctx->held && ctx->state == CODE_IDLE);
    if (ctx->run) {
        look_locked(ctx);
        run_info(ctx->run, ret_end);
        if (ret_end->reason == RUN_LIVE && !ctx->outcome.broken) {
            pthread_mutex_unlock(&ctx->lock);
            return true;
        }
        *ret_lost = true;
        forget_locked(ctx);
    }
    pthread_mutex_unlock(&ctx->lock);
    run = code_driver_start(c, ctx->language, w, err);
    if (!run)
        return false;
    pthread_mutex_lock(&ctx->lock);
    ctx->run = run;
    pthread_mutex_unlock(&ctx->lock);
    return true;
}

bool code_context_begin(struct code_context *ctx, struct computer *c, const char *code,
                        int64_t timeout_ns, const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf command = BUF_INIT;
    CLEANUP(run_unrefp) struct run *run = NULL;
    struct run_info end;
    bool lost;

    if (!ready_driver(ctx, c, &lost, &end, w, err))
        return false;
    pthread_mutex_lock(&ctx->lock);
    code_outcome_fini(&ctx->outcome);
    ctx->outcome.cell = ++ctx->cell;
    ctx->outcome.timeout_ns = timeout_ns;
    ctx->outcome.began_anew = lost;
    if (lost)
        ctx->outcome.end = end;
    ctx->refusal_seq = computer_refusal_seq(c);
    ctx->begun_ns = clock_now_ns();
    ctx->push_ns = timeout_ns ? clock_add_ns(ctx->begun_ns, timeout_ns) : CLOCK_NEVER;
    ctx->pushes = 0;
    ctx->state = CODE_RUNNING;
    run = run_ref(ctx->run);
    if (timeout_ns)
        kick_locked(ctx);
    pthread_mutex_unlock(&ctx->lock);
    if (code_driver_command(&command, ctx->language, ctx->cell, code, strlen(code))) {
        struct error late = ERROR_INIT;

        if (guest_run_write(run_guest(run), WIRE_STREAM_CONTROL, command.data, command.len, w,
                            &late))
            return true;
        /* One that has ended is told as such by code_context_wait(). */
        if (late.code == ERR_IO)
            return true;
        if (err)
            *err = late;
    } else {
        error_set(err, ERR_NOMEM, "a cell of %zu bytes", strlen(code));
    }
    /* Half a command may be out: it cannot be understood any more. */
    code_context_kill(ctx);
    code_context_reset(ctx);
    return false;
}

/* One wait for something new of the driver; *ret_over: nothing more can come. */
static bool await_control(struct code_context *ctx, struct run *run, uint64_t at,
                          const struct wait *w, struct error *err)
{
    uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
    struct run_info info;

    beyond[WIRE_STREAM_CONTROL] = at;
    if (!run_wait(run, 1u << WIRE_STREAM_CONTROL, beyond, w, err))
        return false;
    run_info(run, &info);
    if (info.reason == RUN_LIVE && info.guest.total[WIRE_STREAM_CONTROL] <= at) {
        /* It closed its way to us and lives on. */
        pthread_mutex_lock(&ctx->lock);
        if (ctx->run == run)
            broken_locked(ctx);
        pthread_mutex_unlock(&ctx->lock);
    }
    return true;
}

bool code_context_wait(struct code_context *ctx, const struct wait *w, struct error *err)
{
    for (;;) {
        CLEANUP(run_unrefp) struct run *run = NULL;
        uint64_t at = 0;
        bool over;

        pthread_mutex_lock(&ctx->lock);
        look_locked(ctx);
        over = ctx->state != CODE_RUNNING;
        if (!over) {
            run = run_ref(ctx->run);
            at = ctx->control_at;
        }
        pthread_mutex_unlock(&ctx->lock);
        if (over)
            return true;
        if (!wait_check(w, err) || !await_control(ctx, run, at, w, err))
            return false;
    }
}

void code_context_interrupt(struct code_context *ctx, enum code_stop stop)
{
    pthread_mutex_lock(&ctx->lock);
    look_locked(ctx);
    if (ctx->state == CODE_RUNNING) {
        ctx->outcome.stop = stop;
        if (ctx->pushes == 0)
            push_locked(ctx);
        kick_locked(ctx);
    }
    pthread_mutex_unlock(&ctx->lock);
}

void code_context_kill(struct code_context *ctx)
{
    pthread_mutex_lock(&ctx->lock);
    if (ctx->run) {
        if (ctx->state == CODE_RUNNING)
            ctx->outcome.stop = CODE_STOP_RESTART;
        run_kill(ctx->run, SIGKILL, true);
    }
    pthread_mutex_unlock(&ctx->lock);
}

void code_context_reset(struct code_context *ctx)
{
    pthread_mutex_lock(&ctx->lock);
    if (ctx->run)
        run_kill(ctx->run, SIGKILL, true);
    forget_locked(ctx);
    pthread_mutex_unlock(&ctx->lock);
}

static void take_refusals_locked(struct code_context *ctx, struct code_outcome *o)
{
    struct computer *c = run_computer(ctx->run);
    uint64_t last = computer_refusal_seq(c);

    o->refusal_count =
        computer_refusals(c, ctx->refusal_seq, o->refusals, CODE_REFUSALS_MAX, &o->refusals_missed);
    o->refusals_missed = last - ctx->refusal_seq - MIN(o->refusal_count, last - ctx->refusal_seq);
}

bool code_context_take(struct code_context *ctx, struct code_outcome *ret, struct error *err)
{
    uint64_t from;
    bool ok;

    pthread_mutex_lock(&ctx->lock);
    if (ctx->state == CODE_FINISHED) {
        *ret = ctx->outcome;
        take_refusals_locked(ctx, ret);
        ctx->outcome = (struct code_outcome){ .broken = ret->broken };
        ctx->state = CODE_IDLE;
    } else {
        *ret = (struct code_outcome){ .cell = ctx->cell };
    }
    from = ctx->told;
    ok = ctx->run && guest_run_read(run_guest(ctx->run), WIRE_STREAM_OUT, &ctx->told,
                                    LIMIT_RING_BYTES, &ret->output) >= 0;
    ret->output_lost = ctx->told - from - ret->output.len;
    if (ret->ended)
        forget_locked(ctx);
    pthread_mutex_unlock(&ctx->lock);
    if (!ok || ret->value.failed || ret->error.failed || ret->note.failed)
        return error_set(err, ERR_NOMEM, "what the cell came to");
    return true;
}

/* ---- pictures ---- */

/* Ask for the next piece and wait for it. */
static bool fetch_piece(struct code_context *ctx, struct run *run, uint64_t cell, unsigned index,
                        uint64_t at, const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf command = BUF_INIT;

    buf_printf(&command, "image %" PRIu64 " %u %" PRIu64 "\n", cell, index, at);
    if (command.failed)
        return error_set(err, ERR_NOMEM, "a picture");
    if (!guest_run_write(run_guest(run), WIRE_STREAM_CONTROL, command.data, command.len, w, err))
        return false;
    for (;;) {
        struct run_info info;
        bool answered, ended;
        uint64_t seen;

        run_info(run, &info);
        pthread_mutex_lock(&ctx->lock);
        look_locked(ctx);
        answered = ctx->image_answered;
        ended = ctx->outcome.broken || info.reason != RUN_LIVE;
        seen = ctx->control_at;
        pthread_mutex_unlock(&ctx->lock);
        if (answered)
            return true;
        if (ended)
            return error_set(err, ERR_LOST, "the interpreter ended");
        if (!wait_check(w, err) || !await_control(ctx, run, seen, w, err))
            return false;
    }
}

bool code_context_image(struct code_context *ctx, uint64_t cell, unsigned index, struct buf *out,
                        const struct wait *w, struct error *err)
{
    CLEANUP(run_unrefp) struct run *run = NULL;
    uint64_t piece;
    bool ok;

    pthread_mutex_lock(&ctx->lock);
    run = ctx->run ? run_ref(ctx->run) : NULL;
    ctx->image = out;
    ctx->image_at = 0;
    pthread_mutex_unlock(&ctx->lock);
    if (!run)
        return error_set(err, ERR_LOST, "the interpreter ended");
    do {
        uint64_t at;

        pthread_mutex_lock(&ctx->lock);
        at = ctx->image_at;
        ctx->image_answered = false;
        pthread_mutex_unlock(&ctx->lock);
        ok = fetch_piece(ctx, run, cell, index, at, w, err);
        pthread_mutex_lock(&ctx->lock);
        piece = ctx->image_at - at;
        pthread_mutex_unlock(&ctx->lock);
    } while (ok && piece >= CODE_IMAGE_PIECE && out->len <= LIMIT_IMAGE_BYTES && !out->failed);
    pthread_mutex_lock(&ctx->lock);
    ctx->image = NULL;
    pthread_mutex_unlock(&ctx->lock);
    if (ok && out->failed)
        return error_set(err, ERR_NOMEM, "a picture");
    return ok;
}
