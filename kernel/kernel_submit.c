#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/base/log.h"
#include "kernel/kernel_state.h"
#include "kernel/redact.h"

/* The way of a syscall:
 *
 *   loop    admit() → decision in the audit → queue, or for TOOL_INLINE at once to run()
 *   worker  run() → outcome in the audit → back to the loop
 *   loop    complete() → counted, published, sc->done()
 *
 * Between push and pop the queue owns it, and whoever takes it out, by sched_pop() or by
 * sched_remove(), is the one who concludes it.  That is what makes completion happen once. */

/* ---- the audit ---- */

static bool record_decision(struct kernel *k, const struct syscall *sc,
                            const struct access_verdict *verdict, struct error *err)
{
    char detail[LIMIT_AUDIT_DETAIL + 1];

    if (!k->audit) {
        if (k->audit_error.code == ERR_NONE)
            return true; /* switched off */
        return error_set(err, k->audit_error.code, "%s", k->audit_error.text);
    }
    (void)redact_json(sc->json, detail, sizeof detail);
    if (audit_append(
            k->audit,
            &(struct audit_entry){ .kind = AUDIT_DECISION,
                                   .syscall = sc->id,
                                   .agent = agent_name(sc->agent),
                                   .subject = sc->tool->name,
                                   .decision = verdict->decision == ACCESS_ALLOW ? "allow" : "deny",
                                   .rule = verdict->rule,
                                   .detail = detail },
            err))
        return true;
    return error_prefix(err, "the call cannot be recorded, so it is not made");
}

/* It has happened, recorded or not: a failure here can only be told to the operator. */
static void record_outcome(struct kernel *k, const struct syscall *sc, const char *outcome,
                           const char *detail)
{
    struct error err = ERROR_INIT;

    if (k->audit && !audit_append(k->audit,
                                  &(struct audit_entry){ .kind = AUDIT_RESULT,
                                                         .syscall = sc->id,
                                                         .agent = agent_name(sc->agent),
                                                         .subject = sc->tool->name,
                                                         .decision = outcome,
                                                         .detail = detail },
                                  &err))
        log_line(LOG_ERROR, "audit_lost_outcome", "syscall=%llu tool=%s outcome=%s why=%s",
                 (unsigned long long)sc->id, sc->tool->name, outcome, LOG_ESC(err.text));
}

/* ---- the end ---- */

static void count(_Atomic uint64_t *counter)
{
    /* The loop is the only writer. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Its state is final now, and written down; what is left is complete(), on the loop. */
static void conclude(struct kernel *k, struct syscall *sc, enum syscall_state state)
{
    sc->ended_ns = clock_now_ns();
    sc->state = state;
    if (state == SYSCALL_DONE) {
        record_outcome(k, sc, "done", sc->result.is_error ? "is_error" : "ok");
        return;
    }
    result_fail(&sc->result, &sc->error);
    record_outcome(k, sc, syscall_state_name(state), sc->error.text);
}

static void complete(struct kernel *k, struct syscall *sc)
{
    bool completed = atomic_exchange(&sc->completed, true);

    assert(!completed && sc->state > SYSCALL_RUNNING);
    loop_timer_stop(k->loop, &sc->timer);
    list_remove(&sc->flight);
    switch (sc->state) {
    case SYSCALL_DONE:
        count(&k->counts.done);
        break;
    case SYSCALL_CANCELLED:
        count(&k->counts.cancelled);
        break;
    case SYSCALL_TIMED_OUT:
        count(&k->counts.timed_out);
        break;
    default:
        count(&k->counts.failed);
        break;
    }
    event_publish(k->bus,
                  sc->state == SYSCALL_DONE        ? "syscall.done"
                  : sc->state == SYSCALL_CANCELLED ? "syscall.cancelled"
                  : sc->state == SYSCALL_TIMED_OUT ? "syscall.timed_out"
                                                   : "syscall.failed",
                  agent_name(sc->agent), sc->tool->name, "%s",
                  sc->state == SYSCALL_DONE ? sc->result.is_error ? "is_error" : "ok"
                                            : sc->error.text);
    sc->done(sc);
}

static void on_posted(struct loop_post *post)
{
    struct syscall *sc = CONTAINER_OF(post, struct syscall, post);

    complete(sc->kernel, sc);
}

static void conclude_cancelled(struct kernel *k, struct syscall *sc)
{
    error_clear(&sc->error);
    error_set(&sc->error, ERR_CANCELLED, "cancelled before it was started");
    conclude(k, sc, SYSCALL_CANCELLED);
}

static void conclude_late(struct kernel *k, struct syscall *sc)
{
    long long waited_ms = (clock_now_ns() - sc->submitted_ns) / CLOCK_NS_PER_MS;

    error_clear(&sc->error);
    error_set(&sc->error, ERR_TIMEOUT,
              "its time was up after %lld ms of waiting for a free worker; nothing was done",
              waited_ms);
    conclude(k, sc, SYSCALL_TIMED_OUT);
}

/* ---- running ---- */

static enum syscall_state failure_state(const struct syscall *sc)
{
    int stop = atomic_load(&sc->stop);

    if (stop == SYSCALL_STOP_CANCEL)
        return SYSCALL_CANCELLED;
    if (stop == SYSCALL_STOP_TIMEOUT ||
        (sc->error.code == ERR_TIMEOUT && clock_now_ns() >= sc->deadline_ns))
        return SYSCALL_TIMED_OUT;
    return SYSCALL_FAILED;
}

static void run(struct kernel *k, struct syscall *sc)
{
    struct tool_call call = { .kernel = k,
                              .agent = sc->agent,
                              .wait = { .deadline_ns = sc->deadline_ns, .cancel = &sc->cancel },
                              .result = &sc->result,
                              .tool = sc->tool,
                              .syscall = sc,
                              .peer = sc->peer,
                              .peer_arg = sc->peer_arg };

    sc->state = SYSCALL_RUNNING;
    if (sc->tool->handler(&call, sc->args, &sc->error)) {
        error_clear(&sc->error);
        conclude(k, sc, SYSCALL_DONE);
        return;
    }
    if (sc->error.code == ERR_NONE)
        error_set(&sc->error, ERR_INTERNAL, "%s failed without a reason", sc->tool->name);
    conclude(k, sc, failure_state(sc));
}

void kernel_work(void *kernel, struct syscall *sc)
{
    struct kernel *k = kernel;
    struct sched *sched = k->scheds[sc->class];

    sc->started_ns = clock_now_ns();
    /* The loop may be too busy to have seen that time is up, or have cancelled it right after it
     * was popped. */
    if (atomic_load(&sc->stop) == SYSCALL_STOP_CANCEL)
        conclude_cancelled(k, sc);
    else if (sc->started_ns >= sc->deadline_ns)
        conclude_late(k, sc);
    else
        run(k, sc);
    sched_finished(sched, sc);
    loop_post(k->loop, &sc->post, on_posted); /* from here on it is the loop's */
}

/* ---- stopping ---- */

static void ask_to_stop(struct syscall *sc, enum syscall_stop why)
{
    int none = SYSCALL_STOP_NONE;

    (void)atomic_compare_exchange_strong(&sc->stop, &none, (int)why);
    cancel_raise(&sc->cancel);
}

void kernel_cancel(struct kernel *k, struct syscall *sc)
{
    loop_assert_owner(k->loop);
    if (!sched_remove(k->scheds[sc->class], sc)) {
        ask_to_stop(sc, SYSCALL_STOP_CANCEL);
        return;
    }
    loop_timer_stop(k->loop, &sc->timer);
    conclude_cancelled(k, sc);
    loop_post(k->loop, &sc->post, on_posted);
}

/* Armed three times at most: for the deadline, for the grace after it, for the complaint. */
static void on_deadline(struct loop_timer *timer)
{
    struct syscall *sc = CONTAINER_OF(timer, struct syscall, timer);
    struct kernel *k = sc->kernel;
    int64_t grace_ns = clock_add_ns(sc->deadline_ns, SYSCALL_GRACE_NS);
    int64_t stuck_ns = clock_add_ns(sc->deadline_ns, SYSCALL_STUCK_NS), next_ns;

    if (sched_remove(k->scheds[sc->class], sc)) {
        conclude_late(k, sc);
        complete(k, sc);
        return;
    }
    if (timer->deadline_ns >= stuck_ns) {
        log_line(LOG_ERROR, "stuck_handler", "syscall=%llu tool=%s agent=%s",
                 (unsigned long long)sc->id, sc->tool->name, agent_name(sc->agent));
        return;
    }
    if (timer->deadline_ns >= grace_ns)
        ask_to_stop(sc, SYSCALL_STOP_TIMEOUT);
    next_ns = timer->deadline_ns >= grace_ns ? stuck_ns : grace_ns;
    /* There is room: the timer has just left the heap. */
    if (!loop_timer_start(k->loop, timer, next_ns, on_deadline))
        ask_to_stop(sc, SYSCALL_STOP_TIMEOUT);
}

/* ---- submitting ---- */

/* Identity, time and the agent's right; true when it may go on. */
static bool admit(struct kernel *k, struct syscall *sc, struct error *err)
{
    struct access_verdict verdict;

    if (k->closing)
        return error_set(err, ERR_BUSY, "the server is stopping");
    sc->kernel = k;
    sc->id = ++k->next_id;
    sc->submitted_ns = clock_now_ns();
    if (!sc->deadline_ns)
        sc->deadline_ns =
            clock_add_ns(sc->submitted_ns, k->config->tool.call_timeout_ms * CLOCK_NS_PER_MS);
    access_check(k->access, sc->agent, sc->tool->name, &verdict);
    if (!record_decision(k, sc, &verdict, err))
        return false;
    if (verdict.decision == ACCESS_ALLOW)
        return true;
    count(&k->counts.denied);
    event_publish(k->bus, "syscall.denied", agent_name(sc->agent), sc->tool->name, "%s",
                  verdict.rule);
    return error_set(err, ERR_DENIED, "%s is not allowed to agent %s (%s)", sc->tool->name,
                     agent_name(sc->agent), verdict.rule);
}

/* It was allowed and recorded, and will not be done after all. */
static bool turn_away(struct kernel *k, struct syscall *sc, struct error *err)
{
    loop_timer_stop(k->loop, &sc->timer);
    list_remove(&sc->flight);
    record_outcome(k, sc, err->code == ERR_BUSY ? "busy" : "failed", err->text);
    return false;
}

static bool enqueue(struct kernel *k, struct syscall *sc, struct error *err)
{
    struct sched *sched = k->scheds[sc->class];

    if (!loop_timer_start(k->loop, &sc->timer, sc->deadline_ns, on_deadline)) {
        error_set(err, ERR_NOMEM, "timer of a call");
        return turn_away(k, sc, err);
    }
    sc->state = SYSCALL_QUEUED;
    if (sched_push(sched, sc) != SCHED_OK) {
        count(&k->counts.busy);
        error_set(err, ERR_BUSY, "the queue is full; try again in a moment");
        return turn_away(k, sc, err);
    }
    if (workers_kick(k->workers[sc->class], err))
        return true;
    /* Without any thread it is still there. */
    if (sched_remove(sched, sc))
        return turn_away(k, sc, err);
    error_clear(err);
    return true;
}

static bool submit(struct kernel *k, struct syscall *sc, struct error *err)
{
    bool now;

    if (!admit(k, sc, err))
        return false;
    list_append(&k->flight, &sc->flight);
    now = (sc->tool->flags & TOOL_INLINE) && sched_bypass(k->scheds[sc->class], sc) == SCHED_OK;
    if (!now && !enqueue(k, sc, err))
        return false;
    count(&k->counts.submitted);
    if (now) {
        sc->started_ns = sc->submitted_ns;
        run(k, sc);
        sched_finished(k->scheds[sc->class], sc);
        complete(k, sc);
    }
    return true;
}

bool kernel_submit(struct kernel *k, struct syscall *sc, struct error *err)
{
    struct error why = ERROR_INIT; /* wanted for the audit also where the caller wants none */

    loop_assert_owner(k->loop);
    assert(sc->state == SYSCALL_CREATED && sc->done);
    kernel_open_audit(k);
    if (submit(k, sc, &why))
        return true;
    sc->state = SYSCALL_FAILED;
    return error_set(err, why.code, "%s", why.text);
}
