#include "tools/code_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"

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
    buf_init(&ctx->control, 2 * CODE_CONTROL_BYTES);
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

void code_context_retire(struct code_context *ctx)
{
    pthread_mutex_lock(&ctx->lock);
    ctx->retired = true;
    code_kick_locked(ctx);
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
    code_look_locked(ctx);
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
        code_look_locked(ctx);
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
        code_kick_locked(ctx);
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

bool code_context_wait(struct code_context *ctx, const struct wait *w, struct error *err)
{
    for (;;) {
        CLEANUP(run_unrefp) struct run *run = NULL;
        uint64_t at = 0;
        bool over;

        pthread_mutex_lock(&ctx->lock);
        code_look_locked(ctx);
        over = ctx->state != CODE_RUNNING;
        if (!over) {
            run = run_ref(ctx->run);
            at = ctx->control_at;
        }
        pthread_mutex_unlock(&ctx->lock);
        if (over)
            return true;
        if (!wait_check(w, err) || !code_await_control(ctx, run, at, w, err))
            return false;
    }
}

void code_context_interrupt(struct code_context *ctx, enum code_stop stop)
{
    pthread_mutex_lock(&ctx->lock);
    code_look_locked(ctx);
    if (ctx->state == CODE_RUNNING) {
        ctx->outcome.stop = stop;
        if (ctx->pushes == 0)
            code_push_locked(ctx);
        code_kick_locked(ctx);
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
        code_look_locked(ctx);
        answered = ctx->image_answered;
        ended = ctx->outcome.broken || info.reason != RUN_LIVE;
        seen = ctx->control_at;
        pthread_mutex_unlock(&ctx->lock);
        if (answered)
            return true;
        if (ended)
            return error_set(err, ERR_LOST, "the interpreter ended");
        if (!wait_check(w, err) || !code_await_control(ctx, run, seen, w, err))
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
