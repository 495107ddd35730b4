#include <assert.h>
#include <stdio.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/base/log.h"
#include "kernel/kernel_state.h"
#include "kernel/redact.h"

/* How a syscall ends: concluded by whoever has it, recorded, and completed on the loop. */

/* ---- the audit ---- */

/* @detail NULL: what is asked. */
bool kernel_record_decision(struct kernel *k, const struct syscall *sc,
                            enum access_decision decision, const char *rule, const char *detail,
                            struct error *err)
{
    char asked[LIMIT_AUDIT_DETAIL + 1];

    if (!k->audit) {
        if (k->audit_error.code == ERR_NONE)
            return true; /* switched off */
        return error_set(err, k->audit_error.code, "%s", k->audit_error.text);
    }
    if (!detail) {
        (void)redact_json(sc->json, asked, sizeof asked);
        detail = asked;
    }
    if (audit_append(k->audit,
                     &(struct audit_entry){ .kind = AUDIT_DECISION,
                                            .syscall = sc->id,
                                            .agent = agent_name(sc->agent),
                                            .subject = sc->tool->name,
                                            .decision = access_decision_name(decision),
                                            .rule = rule,
                                            .detail = detail },
                     err))
        return true;
    return error_prefix(err, "the call cannot be recorded, so it is not made");
}

/* It has happened, recorded or not: a failure here can only be told to the operator. */
void kernel_record_outcome(struct kernel *k, const struct syscall *sc, const char *outcome,
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

void kernel_count(_Atomic uint64_t *counter)
{
    /* The loop is the only writer. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Its state is final now, and written down; what is left is kernel_complete(), on the loop. */
void kernel_conclude(struct kernel *k, struct syscall *sc, enum syscall_state state)
{
    sc->ended_ns = clock_now_ns();
    sc->state = state;
    syscall_drop_aside(sc);
    if (state == SYSCALL_DONE) {
        kernel_record_outcome(k, sc, "done", sc->result.is_error ? "is_error" : "ok");
        return;
    }
    result_fail(&sc->result, &sc->error);
    kernel_record_outcome(k, sc, syscall_state_name(state), sc->error.text);
}

/* What its agent has used, and what there is to learn from it. */
static void account(struct kernel *k, struct syscall *sc)
{
    struct agent *a = sc->agent;

    agent_call_done(a, sc->ended_ns);
    agent_add_use(a, AGENT_CALLS, 1);
    agent_add_use(a, AGENT_WAITED_NS, sc->waited_ns);
    agent_add_use(a, AGENT_SERVED_NS, sc->served_ns);
    if (sc->state != SYSCALL_DONE)
        agent_add_use(a, AGENT_CALLS_FAILED, 1);
    kernel_note_times(k, sc);
    /* How long a person took to answer says nothing about the next call. */
    if (sc->slices && sc->state != SYSCALL_CANCELLED && sc->verdict.decision == ACCESS_ALLOW)
        history_learn(k->history, sc->tool, a, sc->served_ns);
}

void kernel_complete(struct kernel *k, struct syscall *sc)
{
    bool completed = atomic_exchange(&sc->completed, true);

    assert(!completed && sc->state > SYSCALL_RUNNING);
    loop_timer_stop(k->loop, &sc->timer);
    list_remove(&sc->flight);
    access_end(k->access, sc->agent);
    account(k, sc);
    switch (sc->state) {
    case SYSCALL_DONE:
        kernel_count(&k->counts.done);
        break;
    case SYSCALL_CANCELLED:
        kernel_count(&k->counts.cancelled);
        break;
    case SYSCALL_TIMED_OUT:
        kernel_count(&k->counts.timed_out);
        break;
    default:
        if (sc->verdict.decision == ACCESS_ASK && !sc->accepted)
            kernel_count(&k->counts.denied);
        kernel_count(&k->counts.failed);
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

    kernel_complete(sc->kernel, sc);
}

/* It leaves the queue for good, or does not get back into it. */
void kernel_waited_until(struct syscall *sc, int64_t now_ns)
{
    sc->waited_ns += MAX(now_ns - sc->queued_ns, 0);
    sc->queued_ns = now_ns;
}

void kernel_conclude_cancelled(struct kernel *k, struct syscall *sc)
{
    kernel_waited_until(sc, clock_now_ns());
    error_clear(&sc->error);
    error_set(&sc->error, ERR_CANCELLED,
              sc->slices ? "cancelled while it was put aside" : "cancelled before it was started");
    kernel_conclude(k, sc, SYSCALL_CANCELLED);
}

void kernel_conclude_late(struct kernel *k, struct syscall *sc)
{
    kernel_waited_until(sc, clock_now_ns());
    error_clear(&sc->error);
    if (sc->slices)
        error_set(&sc->error, ERR_TIMEOUT, "its time was up while it was put aside for others");
    else
        error_set(&sc->error, ERR_TIMEOUT,
                  "its time was up after %lld ms of waiting for a free worker; nothing was done",
                  (long long)(sc->waited_ns / CLOCK_NS_PER_MS));
    kernel_conclude(k, sc, SYSCALL_TIMED_OUT);
}

void kernel_post_back(struct kernel *k, struct syscall *sc)
{
    loop_post(k->loop, &sc->post, on_posted);
}
