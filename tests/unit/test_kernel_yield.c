/* Handlers that put their work aside, and calls that are handled together. */
#include "kernel/kernel.h"

#include "tests/unit/kernel_place.h"

#define QUANTUM_NS (10 * CLOCK_NS_PER_MS)

/* ---- a handler in steps ---- */

struct steps {
    int done;
};

static atomic_int steps_alive;
static char trace[256]; /* who made a step; one worker at a time writes it */
static atomic_int trace_len;

static void steps_free(void *state)
{
    atomic_fetch_sub(&steps_alive, 1);
    free(state);
}

static struct steps *steps_begin(struct tool_call *call, struct error *err)
{
    struct steps *s = tool_call_resume(call);

    if (s)
        return s;
    s = calloc(1, sizeof *s);
    if (s)
        atomic_fetch_add(&steps_alive, 1);
    else
        error_set(err, ERR_NOMEM, "steps");
    return s;
}

/* Each step takes one quantum of a clock that only this turns. */
static bool in_steps(struct tool_call *call, const void *arguments, struct error *err)
{
    const struct args *args = arguments;
    struct steps *s = steps_begin(call, err);

    if (!s)
        return false;
    while (s->done < args->n) {
        int at = atomic_fetch_add(&trace_len, 1);

        if (at < (int)sizeof trace - 1)
            trace[at] = args->text[0];
        s->done++;
        clock_fake(clock_now_ns() + QUANTUM_NS);
        if (s->done < args->n && tool_call_preempted(call))
            return tool_call_yield(call, s, steps_free);
    }
    steps_free(s);
    return result_printf(call->result, err, "%s made %lld", args->text, (long long)args->n);
}

/* Puts itself aside unasked, and on its way tells what it is told to. */
static bool unasked(struct tool_call *call, const void *arguments, struct error *err)
{
    const struct args *args = arguments;
    struct steps *s = steps_begin(call, err);

    if (!s)
        return false;
    if (s->done++ < args->n) {
        bool ok = tool_call_yield(call, s, steps_free);

        return args->text[0] == '!' ? error_set(err, ERR_IO, "broke down") : ok;
    }
    steps_free(s);
    return wait_check(&call->wait, err);
}

static const struct tool t_steps = TOOL("steps", in_steps, 0);
static const struct tool t_unasked = TOOL("unasked", unasked, 0);

static struct syscall *call_with(struct place *p, const struct tool *tool, const char *text,
                                 int64_t n)
{
    struct error err = ERROR_INIT;
    json_t *json = json_pack("{s:s,s:I}", "command", text, "n", (json_int_t)n);
    struct syscall *sc = syscall_new(SYSCALL_TOOL, p->agent, tool, json, &err);

    json_decref(json);
    assert_ok(sc, err);
    sc->done = on_done;
    sc->done_arg = p;
    return sc;
}

static struct syscall *submit_with(struct place *p, const char *agent, const struct tool *tool,
                                   const char *text, int64_t n)
{
    struct error err = ERROR_INIT;
    struct syscall *sc = call_with(p, tool, text, n);

    agent_unref(sc->agent);
    sc->agent = kernel_agent(p->k, agent, NULL, &err);
    assert_ok(sc->agent, err);
    assert_ok(kernel_submit(p->k, sc, &err), err);
    return sc;
}

static void place_under(struct place *p, const char *policy, int64_t workers)
{
    struct error err = ERROR_INIT;

    atomic_store(&trace_len, 0);
    memset(trace, 0, sizeof trace);
    clock_fake(clock_now_ns());
    place_new(p, workers, 512, NULL);
    p->config.tool.calls.quantum_ms = QUANTUM_NS / CLOCK_NS_PER_MS;
    assert_ok(kernel_set_policy(p->k, SYSCALL_TOOL, policy, &err), err);
}

static void place_end(struct place *p)
{
    clock_real();
    place_free(p);
    assert_int_equal(atomic_load(&steps_alive), 0);
}

static void fill_behind_a_gate(struct place *p)
{
    submit(p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    submit_with(p, "a", &t_steps, "A", 3);
    submit_with(p, "b", &t_steps, "B", 2);
    submit_with(p, "b", &t_steps, "b", 1);
    submit_with(p, "c", &t_steps, "C", 4);
    sem_post(&gate);
    turn_until(p, 5);
}

static void round_robin_takes_turns_by_agent_and_quantum(void **state)
{
    struct place p;
    struct kernel_stats stats;
    (void)state;

    place_under(&p, "rr", 1);
    fill_behind_a_gate(&p);
    /* b's second call waits for its turn behind its first, which comes again at the end of b's */
    assert_string_equal(trace, "ABCAbCABCC");
    kernel_stats(p.k, &stats);
    assert_int_equal(stats.done, 5);
    assert_int_equal(stats.classes[SYSCALL_TOOL].put_aside, 5);
    assert_int_equal(stats.classes[SYSCALL_TOOL].running, 0);
    assert_string_equal(p.last_text, "C made 4");
    place_end(&p);
}

static void nobody_is_preempted_without_a_quantum(void **state)
{
    static const char *const policies[] = { "fifo", "priority", "sjf", "edf" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        struct place p;

        place_under(&p, policies[i], 1);
        fill_behind_a_gate(&p);
        if (strcmp(trace, "AAABBbCCCC"))
            fail_msg("%s: %s", policies[i], trace);
        place_end(&p);
    }
}

static void nobody_is_preempted_for_nobody(void **state)
{
    struct place p;
    struct kernel_stats stats;
    (void)state;

    place_under(&p, "rr", 1);
    submit_with(&p, "a", &t_steps, "A", 5);
    turn_until(&p, 1);
    kernel_stats(p.k, &stats);
    assert_int_equal(stats.classes[SYSCALL_TOOL].put_aside, 0);
    place_end(&p);
}

/* A call that has put itself aside once, and waits behind a gated one for its next turn. */
static struct syscall *put_one_aside(struct place *p, int64_t deadline_ns)
{
    struct error err = ERROR_INIT;
    struct syscall *sc = call_with(p, &t_steps, "A", 3);
    struct kernel_stats stats;

    submit(p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    sc->deadline_ns = deadline_ns;
    assert_ok(kernel_submit(p->k, sc, &err), err);
    submit_with(p, "b", &t_gated, "", 0);
    sem_post(&gate);
    assert_true(sem_get(&arrived)); /* b has the worker, so A is aside */
    kernel_stats(p->k, &stats);
    assert_int_equal(stats.classes[SYSCALL_TOOL].put_aside, 1);
    assert_int_equal(atomic_load(&steps_alive), 1);
    return sc;
}

static void what_is_put_aside_can_be_cancelled(void **state)
{
    struct place p;
    struct syscall *sc;
    (void)state;

    place_under(&p, "rr", 1);
    sc = put_one_aside(&p, 0);
    turn_until(&p, 1);
    syscall_cancel(sc);
    turn_until(&p, 2);
    assert_int_equal(p.last_state, SYSCALL_CANCELLED);
    assert_contains(p.last_text, "put aside");
    assert_int_equal(atomic_load(&steps_alive), 0);
    sem_post(&gate);
    turn_until(&p, 3);
    place_end(&p);
}

static void what_is_put_aside_has_its_deadline_still(void **state)
{
    struct place p;
    int64_t deadline_ns;
    (void)state;

    place_under(&p, "rr", 1);
    deadline_ns = clock_now_ns() + CLOCK_NS_PER_S;
    put_one_aside(&p, deadline_ns);
    turn_until(&p, 1);
    clock_fake(deadline_ns);
    turn_until(&p, 2);
    assert_int_equal(p.last_state, SYSCALL_TIMED_OUT);
    assert_contains(p.last_text, "put aside");
    assert_int_equal(atomic_load(&steps_alive), 0);
    sem_post(&gate);
    turn_until(&p, 3);
    place_end(&p);
}

static void what_is_put_aside_ends_with_the_kernel(void **state)
{
    struct place p;
    (void)state;

    place_under(&p, "rr", 1);
    put_one_aside(&p, 0);
    sem_post(&gate);
    place_end(&p);
    assert_int_equal(p.done, 3);
}

static void a_failure_is_a_failure_whatever_was_put_aside(void **state)
{
    struct place p;
    (void)state;

    place_under(&p, "fifo", 1);
    submit_with(&p, "a", &t_unasked, "!", 1);
    turn_until(&p, 1);
    assert_int_equal(p.last_state, SYSCALL_FAILED);
    assert_contains(p.last_text, "broke down");
    submit_with(&p, "a", &t_unasked, "unasked is allowed", 7);
    turn_until(&p, 2);
    assert_int_equal(p.last_state, SYSCALL_DONE);
    place_end(&p);
}

static void hand_made_calls_are_never_preempted(void **state)
{
    struct tool_call call = { .kernel = NULL };
    (void)state;

    assert_false(tool_call_preempted(&call));
    assert_null(tool_call_resume(&call));
}

enum { CROWD = 600, CROWD_AGENTS = 7 };
static int crowd_done[CROWD], crowd_total;

static void on_crowd_done(struct syscall *sc)
{
    crowd_done[(uintptr_t)sc->done_arg]++;
    crowd_total++;
    syscall_free(sc);
}

/* Put aside, cancelled, timed out, and the policy changed, all at once. */
static void a_crowd_completes_exactly_once(void **state)
{
    static const char *const policies[] = { "rr", "fifo", "edf", "sjf", "priority" };
    static struct syscall *sc[CROWD];
    struct agent *agents[CROWD_AGENTS];
    struct error err = ERROR_INIT;
    struct place p;
    (void)state;

    place_under(&p, "rr", 4);
    clock_real();
    crowd_total = 0;
    memset(crowd_done, 0, sizeof crowd_done);
    for (int i = 0; i < CROWD_AGENTS; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "agent-%d", i);
        agents[i] = kernel_agent(p.k, name, NULL, &err);
        assert_ok(agents[i], err);
    }
    for (size_t i = 0; i < CROWD; i++) {
        sc[i] = call_with(&p, &t_unasked, "x", (int64_t)(i % 9));
        agent_unref(sc[i]->agent);
        sc[i]->agent = agent_ref(agents[i % CROWD_AGENTS]);
        sc[i]->done = on_crowd_done;
        sc[i]->done_arg = (void *)i;
        sc[i]->priority = (int)(i % 5);
        if (i % 11 == 0)
            sc[i]->deadline_ns = clock_now_ns() + (int64_t)(i % 7) * 100000;
        while ((int)i - crowd_total > 400)
            loop_turn(p.loop, 10);
        assert_ok(kernel_submit(p.k, sc[i], &err), err);
        if (i >= 5 && i % 3 == 0 && !crowd_done[i - 5])
            syscall_cancel(sc[i - 5]);
        if (i % 20 == 0)
            assert_ok(kernel_set_policy(p.k, SYSCALL_TOOL, policies[i / 20 % 5], &err), err);
        if (i % 4 == 0)
            loop_turn(p.loop, 0);
    }
    while (crowd_total < CROWD)
        loop_turn(p.loop, 100);
    for (size_t i = 0; i < CROWD; i++)
        assert_int_equal(crowd_done[i], 1);
    for (int i = 0; i < CROWD_AGENTS; i++) {
        assert_int_equal(agent_calls_under_way(agents[i]), 0);
        assert_int_equal(agent_state(agents[i]), AGENT_READY);
        agent_unref(agents[i]);
    }
    place_end(&p);
}

/* ---- together ---- */

static atomic_int batches, largest;

static bool put_alone(struct tool_call *call, const void *arguments, struct error *err)
{
    const struct args *args = arguments;

    return result_printf(call->result, err, "%lld alone", (long long)args->n);
}

static void put_together(struct tool_batched *calls, size_t count)
{
    atomic_fetch_add(&batches, 1);
    if ((int)count > atomic_load(&largest))
        atomic_store(&largest, (int)count);
    for (size_t i = 0; i < count; i++) {
        const struct args *args = calls[i].args;

        if (!wait_check(&calls[i].call.wait, &calls[i].err))
            continue;
        calls[i].ok = args->n % 5 ? result_printf(calls[i].call.result, &calls[i].err,
                                                  "%lld together", (long long)args->n)
                                  : error_set(&calls[i].err, ERR_LIMIT, "no fives");
    }
}

static const struct tool t_put = { .name = "put",
                                   .title = "T",
                                   .description = "D",
                                   .fields = fields,
                                   .args_size = sizeof(struct args),
                                   .handler = put_alone,
                                   .batch = put_together };

static char answers[16][64];
static enum syscall_state states[16];

static void on_put(struct syscall *sc)
{
    const struct args *args = sc->args;
    struct place *p = sc->done_arg;

    (void)snprintf(answers[args->n], sizeof answers[0], "%.63s",
                   buf_str(&sc->result.blocks[0].data));
    states[args->n] = sc->state;
    p->done++;
    syscall_free(sc);
}

static void those_that_wait_are_handled_together_and_answered_each(void **state)
{
    struct syscall *puts[12];
    struct place p;
    struct error err = ERROR_INIT;
    (void)state;

    atomic_store(&batches, 0);
    atomic_store(&largest, 0);
    place_new(&p, 1, 64, NULL);
    submit(&p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    for (int i = 0; i < 12; i++) {
        puts[i] = call_with(&p, &t_put, "x", i);
        puts[i]->done = on_put;
        assert_ok(kernel_submit(p.k, puts[i], &err), err);
    }
    syscall_cancel(puts[3]);
    sem_post(&gate);
    turn_until(&p, 13);
    assert_int_equal(atomic_load(&batches), 1);
    assert_int_equal(atomic_load(&largest), 11);
    for (int i = 0; i < 12; i++) {
        enum syscall_state want = i == 3       ? SYSCALL_CANCELLED
                                  : i % 5 == 0 ? SYSCALL_FAILED
                                               : SYSCALL_DONE;
        char text[32];

        (void)snprintf(text, sizeof text, "%d together", i);
        if (states[i] != want || (want == SYSCALL_DONE && strcmp(answers[i], text)) ||
            (want == SYSCALL_FAILED && !strstr(answers[i], "no fives")))
            fail_msg("%d: %s, %s", i, syscall_state_name(states[i]), answers[i]);
    }
    place_free(&p);
}

static void a_single_one_is_handled_alone(void **state)
{
    struct place p;
    struct syscall *sc;
    struct error err = ERROR_INIT;
    (void)state;

    place_new(&p, 1, 64, NULL);
    sc = call_with(&p, &t_put, "x", 5);
    sc->done = on_put;
    assert_ok(kernel_submit(p.k, sc, &err), err);
    turn_until(&p, 1);
    assert_string_equal(answers[5], "5 alone");
    place_free(&p);
}

/* The one whose time is up before the batch begins is not in it. */
static void one_that_is_late_does_not_spoil_the_others(void **state)
{
    struct place p;
    struct error err = ERROR_INIT;
    (void)state;

    atomic_store(&batches, 0);
    clock_fake(clock_now_ns());
    place_new(&p, 1, 64, NULL);
    submit(&p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    for (int i = 1; i < 4; i++) {
        struct syscall *sc = call_with(&p, &t_put, "x", i);

        sc->done = on_put;
        sc->deadline_ns = clock_now_ns() + (i == 2 ? 1 : 60) * CLOCK_NS_PER_S;
        assert_ok(kernel_submit(p.k, sc, &err), err);
    }
    clock_fake(clock_now_ns() + 2 * CLOCK_NS_PER_S);
    sem_post(&gate);
    turn_until(&p, 4);
    assert_int_equal(states[2], SYSCALL_TIMED_OUT);
    assert_string_equal(answers[1], "1 together");
    assert_string_equal(answers[3], "3 together");
    clock_real();
    place_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_robin_takes_turns_by_agent_and_quantum),
        cmocka_unit_test(nobody_is_preempted_without_a_quantum),
        cmocka_unit_test(nobody_is_preempted_for_nobody),
        cmocka_unit_test(what_is_put_aside_can_be_cancelled),
        cmocka_unit_test(what_is_put_aside_has_its_deadline_still),
        cmocka_unit_test(what_is_put_aside_ends_with_the_kernel),
        cmocka_unit_test(a_failure_is_a_failure_whatever_was_put_aside),
        cmocka_unit_test(hand_made_calls_are_never_preempted),
        cmocka_unit_test(a_crowd_completes_exactly_once),
        cmocka_unit_test(those_that_wait_are_handled_together_and_answered_each),
        cmocka_unit_test(a_single_one_is_handled_alone),
        cmocka_unit_test(one_that_is_late_does_not_spoil_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
