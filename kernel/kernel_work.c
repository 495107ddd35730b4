#include <assert.h>

#include "kernel/access_ask.h"
#include "kernel/base/clock.h"
#include "kernel/base/log.h"
#include "kernel/kernel_state.h"

/* What happens to a syscall on a worker, or for TOOL_INLINE on the loop. */

/* Where the configuration says nothing, as in tests. */
#define ASK_TIMEOUT_S 60

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

int64_t kernel_ask_limit_ns(const struct kernel *k)
{
    int64_t seconds = k->config->access.ask_timeout_s;

    return (seconds ? seconds : ASK_TIMEOUT_S) * CLOCK_NS_PER_S;
}

/* The person decides, and that stands in the audit before anything happens.  The time that it took
 * is not the call's. */
static bool ask_person(struct kernel *k, struct syscall *sc, struct tool_call *call,
                       struct error *err)
{
    int64_t limit_ns = kernel_ask_limit_ns(k), before_ns = clock_now_ns();
    const struct access_question question = {
        .verdict = &sc->verdict, .call = sc, .cancel = &sc->cancel, .timeout_ns = limit_ns
    };
    struct error lost = ERROR_INIT;
    char how[ACCESS_ASK_HOW_BYTES];
    bool yes;

    tool_call_note(call, "waiting for a person to allow it");
    yes = access_ask(k->access, &question, how, err);
    if (!kernel_record_decision(k, sc, yes ? ACCESS_ALLOW : ACCESS_DENY, sc->verdict.rule, how,
                                &lost)) {
        log_line(LOG_ERROR, "audit_lost_decision", "syscall=%llu tool=%s why=%s",
                 (unsigned long long)sc->id, sc->tool->name, LOG_ESC(lost.text));
        return yes ? error_set(err, lost.code, "%s", lost.text) : false;
    }
    if (!yes) {
        event_publish(k->bus, "syscall.denied", agent_name(sc->agent), sc->tool->name, "%s: %s",
                      sc->verdict.rule, how);
        return false;
    }
    sc->accepted = true;
    if (call->wait.deadline_ns != CLOCK_NEVER)
        call->wait.deadline_ns -= MAX(before_ns + limit_ns - clock_now_ns(), 0);
    return true;
}

static struct tool_call call_of(struct kernel *k, struct syscall *sc)
{
    return (struct tool_call){ .kernel = k,
                               .agent = sc->agent,
                               .wait = { .deadline_ns = sc->deadline_ns, .cancel = &sc->cancel },
                               .result = &sc->result,
                               .tool = sc->tool,
                               .syscall = sc,
                               .peer = sc->peer,
                               .peer_arg = sc->peer_arg };
}

/* A handler gets it. */
static void take_up(struct syscall *sc, int64_t now_ns)
{
    if (!sc->slices++)
        sc->started_ns = now_ns;
    kernel_waited_until(sc, now_ns);
    sc->slice_started_ns = now_ns;
    sc->state = SYSCALL_RUNNING;
    agent_call_taken(sc->agent);
}

static void put_down(struct syscall *sc, int64_t took_ns)
{
    sc->slice_ns = took_ns;
    sc->served_ns += took_ns;
    agent_call_put(sc->agent);
}

/* What the handler of @sc said becomes its state. */
static void conclude_said(struct kernel *k, struct syscall *sc, bool ok)
{
    if (ok) {
        error_clear(&sc->error);
        kernel_conclude(k, sc, SYSCALL_DONE);
        return;
    }
    if (sc->error.code == ERR_NONE)
        error_set(&sc->error, ERR_INTERNAL, "%s failed without a reason", sc->tool->name);
    kernel_conclude(k, sc, failure_state(sc));
}

/* True when it waits again: then it is the queue's.  Otherwise it has been concluded. */
static bool put_aside(struct kernel *k, struct syscall *sc)
{
    sc->yielded = false;
    sc->apart = true;
    sc->queued_ns = clock_now_ns();
    sc->state = SYSCALL_QUEUED;
    if (sched_requeue(k->scheds[sc->class], sc) == SCHED_OK)
        return true;
    if (atomic_load(&sc->stop) == SYSCALL_STOP_TIMEOUT)
        kernel_conclude_late(k, sc);
    else
        kernel_conclude_cancelled(k, sc);
    return false;
}

/* True when it has been concluded, false when its handler put it aside and it is the queue's. */
bool kernel_run(struct kernel *k, struct syscall *sc, int64_t now_ns)
{
    struct tool_call call = call_of(k, sc);
    bool ok = false;

    take_up(sc, now_ns);
    if (sc->verdict.decision != ACCESS_ASK || sc->accepted || ask_person(k, sc, &call, &sc->error))
        ok = sc->tool->handler(&call, sc->args, &sc->error);
    else if (sc->error.code == ERR_NONE)
        error_set(&sc->error, ERR_DENIED, "not allowed");
    put_down(sc, clock_now_ns() - sc->slice_started_ns);
    if (ok && sc->yielded)
        return !put_aside(k, sc);
    conclude_said(k, sc, ok);
    sched_finished(k->scheds[sc->class], sc);
    return true;
}

/* The loop may be too busy to have seen that time is up, or have cancelled it right after it was
 * popped: then it is concluded, and true. */
static bool is_over(struct kernel *k, struct syscall *sc, int64_t now_ns)
{
    if (atomic_load(&sc->stop) == SYSCALL_STOP_CANCEL)
        kernel_conclude_cancelled(k, sc);
    else if (now_ns >= sc->deadline_ns)
        kernel_conclude_late(k, sc);
    else
        return false;
    sc->slice_ns = 0;
    sched_finished(k->scheds[sc->class], sc);
    return true;
}

static void work_one(struct kernel *k, struct syscall *sc, int64_t now_ns)
{
    if (is_over(k, sc, now_ns) || kernel_run(k, sc, now_ns))
        kernel_post_back(k, sc); /* from here on it is the loop's */
}

/* Each is concluded by itself, with what was said of it. */
static void work_batch(struct kernel *k, struct syscall **calls, size_t count, int64_t now_ns)
{
    struct tool_batched batch[TOOL_BATCH_MAX];
    int64_t each_ns;

    for (size_t i = 0; i < count; i++) {
        take_up(calls[i], now_ns);
        batch[i] = (struct tool_batched){ .call = call_of(k, calls[i]), .args = calls[i]->args };
    }
    calls[0]->tool->batch(batch, count);
    each_ns = (clock_now_ns() - now_ns) / (int64_t)count;
    for (size_t i = 0; i < count; i++) {
        struct syscall *sc = calls[i];

        if (!batch[i].ok)
            sc->error = batch[i].err;
        put_down(sc, each_ns);
        if (batch[i].ok && sc->yielded) {
            if (put_aside(k, sc))
                continue;
        } else {
            conclude_said(k, sc, batch[i].ok);
            sched_finished(k->scheds[sc->class], sc);
        }
        kernel_post_back(k, sc);
    }
}

void kernel_work(void *kernel, struct syscall **calls, size_t count)
{
    struct kernel *k = kernel;
    struct syscall *together[TOOL_BATCH_MAX];
    size_t riders = 0;
    int64_t now_ns = clock_now_ns();

    if (count == 1) {
        work_one(k, calls[0], now_ns);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        /* Nobody is made to wait for a person whom another's call has to ask. */
        if (calls[i]->verdict.decision == ACCESS_ASK)
            continue;
        if (is_over(k, calls[i], now_ns))
            kernel_post_back(k, calls[i]);
        else
            together[riders++] = calls[i];
        calls[i] = NULL;
    }
    if (riders == 1)
        work_one(k, together[0], now_ns);
    else if (riders)
        work_batch(k, together, riders, now_ns);
    for (size_t i = 0; i < count; i++) {
        if (calls[i])
            work_one(k, calls[i], clock_now_ns());
    }
}

/* ---- what handlers ask ---- */

bool tool_call_preempted(const struct tool_call *call)
{
    const struct syscall *sc = call->syscall;

    return sc && sc->kernel && sc->policy && !sc->on_loop &&
           sched_quantum_is_up(sc->kernel->scheds[sc->class], sc->slice_started_ns);
}

bool tool_call_yield(struct tool_call *call, void *state, void (*state_free)(void *state))
{
    struct syscall *sc = call->syscall;

    assert(sc && !sc->aside && state && !sc->on_loop);
    sc->aside = state;
    sc->aside_free = state_free;
    sc->yielded = true;
    return true;
}

void *tool_call_resume(struct tool_call *call)
{
    return call->syscall ? STEAL(call->syscall->aside) : NULL;
}
