#include <assert.h>

#include "kernel/base/clock.h"
#include "kernel/base/log.h"
#include "kernel/kernel_state.h"

/* The way of a syscall:
 *
 *   loop    admit() → decision in the audit → queue, or for TOOL_INLINE at once to kernel_run()
 *   worker  when access said ask: the person's decision in the audit
 *   worker  kernel_run() → outcome in the audit → back to the loop
 *           or put aside by its handler → queue, with what is kept of it
 *   loop    kernel_complete() → counted, published, sc->done()
 *
 * Between push and pop the queue owns it, and whoever takes it out, by sched_pop() or by
 * sched_remove(), is the one who concludes it.  That is what makes completion happen once. */

/* ---- stopping ---- */

static void ask_to_stop(struct syscall *sc, enum syscall_stop why)
{
    int none = SYSCALL_STOP_NONE;

    (void)atomic_compare_exchange_strong(&sc->stop, &none, (int)why);
    cancel_raise(&sc->cancel);
}

/* True when it was waiting and is ours now; otherwise a worker has it, and is asked. */
static bool stop_or_take(struct kernel *k, struct syscall *sc, enum syscall_stop why)
{
    if (sched_remove(k->scheds[sc->class], sc))
        return true;
    ask_to_stop(sc, why);
    /* It may have been put aside meanwhile; if it is yet to be, sched_requeue() sees that it was
     * asked. */
    return sched_remove(k->scheds[sc->class], sc);
}

void kernel_cancel(struct kernel *k, struct syscall *sc)
{
    loop_assert_owner(k->loop);
    if (!stop_or_take(k, sc, SYSCALL_STOP_CANCEL))
        return;
    loop_timer_stop(k->loop, &sc->timer);
    kernel_conclude_cancelled(k, sc);
    kernel_post_back(k, sc);
}

/* Armed three times at most: for the deadline, for the grace after it, for the complaint. */
static void on_deadline(struct loop_timer *timer)
{
    struct syscall *sc = CONTAINER_OF(timer, struct syscall, timer);
    struct kernel *k = sc->kernel;
    int64_t grace_ns = clock_add_ns(sc->deadline_ns, SYSCALL_GRACE_NS);
    int64_t stuck_ns = clock_add_ns(sc->deadline_ns, SYSCALL_STUCK_NS), next_ns;

    if (timer->deadline_ns >= stuck_ns) {
        log_line(LOG_ERROR, "stuck_handler", "syscall=%llu tool=%s agent=%s",
                 (unsigned long long)sc->id, sc->tool->name, agent_name(sc->agent));
        return;
    }
    if (timer->deadline_ns >= grace_ns ? stop_or_take(k, sc, SYSCALL_STOP_TIMEOUT)
                                       : sched_remove(k->scheds[sc->class], sc)) {
        kernel_conclude_late(k, sc);
        kernel_complete(k, sc);
        return;
    }
    next_ns = timer->deadline_ns >= grace_ns ? stuck_ns : grace_ns;
    /* There is room: the timer has just left the heap. */
    if (!loop_timer_start(k->loop, timer, next_ns, on_deadline))
        ask_to_stop(sc, SYSCALL_STOP_TIMEOUT);
}

/* ---- submitting ---- */

/* Identity, time and the agent's right; true when it may go on. */
static bool admit(struct kernel *k, struct syscall *sc, struct error *err)
{
    struct error over = ERROR_INIT;
    const char *rule;

    if (k->closing)
        return error_set(err, ERR_BUSY, "the server is stopping");
    sc->kernel = k;
    sc->id = ++k->next_id;
    sc->submitted_ns = clock_now_ns();
    if (!sc->deadline_ns)
        sc->deadline_ns =
            clock_add_ns(sc->submitted_ns, k->config->tool.call_timeout_ms * CLOCK_NS_PER_MS);
    access_check(k->access, sc->agent, sc->tool->name, sc->json, &sc->verdict);
    rule = sc->verdict.rule;
    if (sc->verdict.decision == ACCESS_ASK)
        sc->deadline_ns = clock_add_ns(sc->deadline_ns, kernel_ask_limit_ns(k));
    if (!agent_may_call(sc->agent, &over)) {
        rule = "state of the agent";
    } else if (sc->verdict.decision != ACCESS_DENY) {
        if (access_begin(k->access, sc->agent, &rule, &over)) {
            if (kernel_record_decision(k, sc, sc->verdict.decision, rule, NULL, err))
                return true;
            access_end(k->access, sc->agent);
            return false;
        }
    } else {
        error_set(&over, ERR_DENIED, "%s is not allowed to agent %s (%s)", sc->tool->name,
                  agent_name(sc->agent), rule);
    }
    if (!kernel_record_decision(k, sc, ACCESS_DENY, rule, NULL, err))
        return false;
    kernel_count(&k->counts.denied);
    event_publish(k->bus, "syscall.denied", agent_name(sc->agent), sc->tool->name, "%s", rule);
    return error_set(err, over.code, "%s", over.text);
}

/* It was allowed and recorded, and will not be done after all. */
static bool turn_away(struct kernel *k, struct syscall *sc, struct error *err)
{
    loop_timer_stop(k->loop, &sc->timer);
    list_remove(&sc->flight);
    access_end(k->access, sc->agent);
    agent_call_done(sc->agent, sc->submitted_ns);
    kernel_record_outcome(k, sc, err->code == ERR_BUSY ? "busy" : "failed", err->text);
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
    sc->apart = sc->tool->rides && !sc->tool->rides(k->config, sc->args);
    if (kernel_push(k, sc) != SCHED_OK) {
        kernel_count(&k->counts.busy);
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
    agent_call_begun(sc->agent, sc->submitted_ns);
    now = (sc->tool->flags & TOOL_INLINE) && sc->verdict.decision != ACCESS_ASK &&
          sched_bypass(k->scheds[sc->class], sc) == SCHED_OK;
    if (!now && !enqueue(k, sc, err))
        return false;
    kernel_count(&k->counts.submitted);
    if (now) {
        sc->on_loop = true;
        sc->queued_ns = sc->submitted_ns;
        UNCHECKED(
            kernel_run(k, sc, sc->submitted_ns)); /* nothing that runs here can be put aside */
        kernel_complete(k, sc);
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
