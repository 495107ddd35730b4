/* Policies, times, workers and agents as the kernel uses them. */
#include "kernel/kernel.h"

#include "tests/unit/kernel_place.h"

static void refuses_a_policy_that_there_is_not(void **state)
{
    struct error err = ERROR_INIT;
    struct place p;
    (void)state;

    place_new(&p, 1, 8, NULL);
    assert_false(kernel_set_policy(p.k, SYSCALL_LLM, "tea leaves", &err));
    assert_code(err, ERR_INVALID);
    assert_contains(err.text, "sjf");
    place_free(&p);
}

static void each_class_has_a_queue_of_its_own(void **state)
{
    struct kernel_stats stats;
    struct error err = ERROR_INIT;
    struct place p;
    (void)state;

    place_new(&p, 3, 8, NULL);
    assert_ok(kernel_set_policy(p.k, SYSCALL_LLM, "rr", &err), err);
    assert_ok(kernel_set_policy(p.k, SYSCALL_STORAGE, "edf", &err), err);
    kernel_stats(p.k, &stats);
    assert_string_equal(stats.classes[SYSCALL_TOOL].policy, "fifo");
    assert_string_equal(stats.classes[SYSCALL_LLM].policy, "rr");
    assert_string_equal(stats.classes[SYSCALL_MEMORY].policy, "fifo");
    assert_string_equal(stats.classes[SYSCALL_STORAGE].policy, "edf");
    assert_int_equal(stats.workers[SYSCALL_TOOL].most, 3);
    assert_int_equal(stats.workers[SYSCALL_TOOL].count, 0);
    place_free(&p);
}

/* ---- order ---- */

static char order[64];
static atomic_int order_len;

static bool put_down(struct tool_call *call, const void *arguments, struct error *err)
{
    const struct args *args = arguments;

    (void)err;
    order[atomic_fetch_add(&order_len, 1)] = args->text[0];
    clock_fake(clock_now_ns() + args->n * CLOCK_NS_PER_MS);
    return !cancel_raised(call->wait.cancel);
}

static const struct tool t_first = TOOL("first", put_down, 0);
static const struct tool t_second = TOOL("second", put_down, 0);

struct wish {
    const struct tool *tool;
    const char *text;
    int priority;
    int64_t cost_ms, deadline_ms, takes_ms;
};

static void submit_wish(struct place *p, const struct wish *w)
{
    struct error err = ERROR_INIT;
    json_t *json = json_pack("{s:s,s:I}", "command", w->text, "n", (json_int_t)w->takes_ms);
    struct syscall *sc = syscall_new(SYSCALL_TOOL, p->agent, w->tool, json, &err);

    json_decref(json);
    assert_ok(sc, err);
    sc->done = on_done;
    sc->done_arg = p;
    sc->priority = w->priority;
    sc->cost_ns = w->cost_ms * CLOCK_NS_PER_MS;
    if (w->deadline_ms)
        sc->deadline_ns = clock_now_ns() + w->deadline_ms * CLOCK_NS_PER_MS;
    assert_ok(kernel_submit(p->k, sc, &err), err);
}

static void calls_are_done_in_the_policys_order(void **state)
{
    static const struct wish wishes[] = {
        { &t_first, "a", 0, 30, 9000, 0 },  { &t_first, "b", 2, 10, 5000, 0 },
        { &t_first, "c", -1, 20, 7000, 0 }, { &t_first, "d", 2, 40, 1000, 0 },
        { &t_first, "e", 1, 5, 8000, 0 },
    };
    static const struct {
        const char *policy, *want;
    } rows[] = {
        { "fifo", "abcde" }, { "priority", "bdeac" }, { "sjf", "ebcad" },
        { "edf", "dbcea" },  { "rr", "abcde" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct place p;

        clock_fake(clock_now_ns());
        place_new(&p, 1, 64, NULL);
        p.config.tool.calls.ageing_ms = 100;
        submit(&p, &t_gated, NULL);
        assert_true(sem_get(&arrived));
        atomic_store(&order_len, 0);
        memset(order, 0, sizeof order);
        /* chosen while some wait already, and nothing is lost */
        for (size_t j = 0; j < ARRAY_LEN(wishes); j++) {
            if (j == 3)
                assert_ok(kernel_set_policy(p.k, SYSCALL_TOOL, rows[i].policy, &err), err);
            submit_wish(&p, &wishes[j]);
        }
        sem_post(&gate);
        turn_until(&p, 6);
        if (strcmp(order, rows[i].want))
            fail_msg("%s: %s", rows[i].policy, order);
        clock_real();
        place_free(&p);
    }
}

/* Nobody says what it costs: the kernel has seen it. */
static void shortest_first_goes_by_what_was_learned(void **state)
{
    static const struct wish teach[] = {
        { &t_first, "x", 0, 0, 0, 50 },
        { &t_second, "x", 0, 0, 0, 3 },
    };
    struct error err = ERROR_INIT;
    struct place p;
    (void)state;

    clock_fake(clock_now_ns());
    place_new(&p, 1, 64, NULL);
    assert_ok(kernel_set_policy(p.k, SYSCALL_TOOL, "sjf", &err), err);
    for (int i = 0; i < 4; i++) {
        submit_wish(&p, &teach[i % 2]);
        turn_until(&p, i + 1);
    }
    submit(&p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    atomic_store(&order_len, 0);
    memset(order, 0, sizeof order);
    submit_wish(&p, &(struct wish){ &t_first, "1", 0, 0, 0, 50 });
    submit_wish(&p, &(struct wish){ &t_second, "2", 0, 0, 0, 3 });
    submit_wish(&p, &(struct wish){ &t_first, "3", 0, 1, 0, 50 }); /* the caller knows better */
    submit_wish(&p, &(struct wish){ &t_second, "4", 0, 20, 0, 3 });
    sem_post(&gate);
    turn_until(&p, 9);
    assert_string_equal(order, "3241");
    clock_real();
    place_free(&p);
}

/* ---- short calls ---- */

static bool waits_when_told(struct tool_call *call, const void *arguments, struct error *err)
{
    const struct args *args = arguments;

    return args->text ? gated(call, arguments, err) : result_printf(call->result, err, "short");
}

/* The tool was always short, so nobody is woken for its calls while a worker is busy; but the
 * worker is stuck this time. */
static void a_long_call_of_a_short_tool_holds_up_nobody(void **state)
{
    static const struct tool t_short = TOOL("short", waits_when_told, 0);
    struct place p;
    (void)state;

    place_new(&p, 8, 64, NULL);
    for (int i = 0; i < 200; i++) {
        submit(&p, &t_short, NULL);
        turn_until(&p, i + 1);
    }
    for (int i = 0; i < 4; i++)
        submit(&p, &t_short, "wait");
    for (int i = 0; i < 4; i++)
        submit(&p, &t_short, NULL);
    turn_until(&p, 204); /* the short ones, with four workers stuck */
    for (int i = 0; i < 4; i++)
        sem_post(&gate);
    turn_until(&p, 208);
    place_free(&p);
}

/* ---- an open loop ---- */

enum { ARRIVALS = 150 };
struct arrivals {
    struct place *p;
    struct loop_timer timer;
    int64_t next_ns, every_ns;
    int submitted, done, in_order;
};

static void on_arrival_done(struct syscall *sc)
{
    struct arrivals *a = sc->done_arg;

    assert_int_equal(sc->state, SYSCALL_DONE);
    a->in_order += (int)sc->priority == a->done;
    a->done++;
    syscall_free(sc);
}

static void on_arrival(struct loop_timer *timer)
{
    struct arrivals *a = CONTAINER_OF(timer, struct arrivals, timer);

    while (a->submitted < ARRIVALS && a->next_ns <= clock_now_ns()) {
        struct error err = ERROR_INIT;
        struct syscall *sc = syscall_new(SYSCALL_LLM, a->p->agent, &t_echo, NULL, &err);

        assert_ok(sc, err);
        sc->done = on_arrival_done;
        sc->done_arg = a;
        sc->priority = a->submitted++; /* fifo: only to know it again */
        assert_ok(kernel_submit(a->p->k, sc, &err), err);
        a->next_ns += a->every_ns;
    }
    if (a->submitted < ARRIVALS)
        assert_true(loop_timer_start(a->p->loop, timer, a->next_ns, on_arrival));
}

static void calls_that_keep_arriving_are_all_done_in_order(void **state)
{
    static const int64_t rates[] = { 500, 5000, 1000000 };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        struct place p;
        struct arrivals a = { .p = &p, .every_ns = CLOCK_NS_PER_S / rates[i] };
        struct kernel_times times;

        place_new(&p, 1, 2 * ARRIVALS, NULL); /* one worker: done in the order of arrival */
        a.next_ns = clock_now_ns();
        on_arrival(&a.timer);
        while (a.done < ARRIVALS)
            loop_turn(p.loop, 100);
        assert_true(kernel_times(p.k, SYSCALL_LLM, NULL, &times));
        assert_int_equal(times.wait.count, ARRIVALS);
        assert_int_equal(a.in_order, ARRIVALS);
        assert_int_equal(times.service.count, ARRIVALS);
        assert_false(kernel_times(p.k, SYSCALL_TOOL, NULL, &times));
        place_free(&p);
    }
}

/* ---- times ---- */

static void times_are_kept_by_class_policy_and_agent(void **state)
{
    struct error err = ERROR_INIT;
    struct kernel_times t;
    struct place p;
    (void)state;

    clock_fake(clock_now_ns());
    place_new(&p, 1, 64, NULL);
    assert_false(kernel_times(p.k, SYSCALL_TOOL, NULL, &t));
    assert_false(kernel_agent_times(p.agent, &t));
    for (int i = 0; i < 10; i++) {
        submit_wish(&p, &(struct wish){ &t_first, "x", 0, 0, 0, 100 });
        turn_until(&p, i + 1);
        atomic_store(&order_len, 0);
    }
    assert_ok(kernel_set_policy(p.k, SYSCALL_TOOL, "edf", &err), err);
    submit_wish(&p, &(struct wish){ &t_first, "x", 0, 0, 0, 1000 });
    turn_until(&p, 11);
    assert_true(kernel_times(p.k, SYSCALL_TOOL, "fifo", &t));
    assert_int_equal(t.service.count, 10);
    assert_in_range(t.service.p50_ns, 90 * CLOCK_NS_PER_MS, 110 * CLOCK_NS_PER_MS);
    assert_int_equal(t.wait.max_ns, 0);
    assert_true(kernel_times(p.k, SYSCALL_TOOL, "edf", &t));
    assert_int_equal(t.service.count, 1);
    assert_int_equal(t.service.max_ns, CLOCK_NS_PER_S);
    assert_true(kernel_times(p.k, SYSCALL_TOOL, NULL, &t));
    assert_int_equal(t.service.count, 11);
    assert_int_equal(t.service.max_ns, CLOCK_NS_PER_S);
    assert_false(kernel_times(p.k, SYSCALL_TOOL, "rr", &t));
    assert_false(kernel_times(p.k, SYSCALL_TOOL, "no such", &t));
    assert_true(kernel_agent_times(p.agent, &t));
    assert_int_equal(t.service.count, 11);
    clock_real();
    place_free(&p);
}

static void times_are_kept_of_so_many_agents(void **state)
{
    struct error err = ERROR_INIT;
    unsigned watched = 0;
    struct place p;
    (void)state;

    place_new(&p, 1, 64, NULL);
    for (unsigned i = 0; i < KERNEL_AGENTS_WATCHED + 20; i++) {
        struct kernel_times t;
        struct syscall *sc = call_of(&p, &t_inline, NULL);
        char name[16];

        (void)snprintf(name, sizeof name, "agent-%u", i);
        agent_unref(sc->agent);
        sc->agent = kernel_agent(p.k, name, NULL, &err);
        assert_ok(sc->agent, err);
        agent_unref(p.agent);
        p.agent = agent_ref(sc->agent);
        assert_ok(kernel_submit(p.k, sc, &err), err);
        watched += kernel_agent_times(p.agent, &t);
    }
    assert_int_equal(watched, KERNEL_AGENTS_WATCHED);
    place_free(&p);
}

/* ---- agents ---- */

static void an_agent_waits_runs_and_is_ready_again(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 1, 8, NULL);
    assert_int_equal(agent_state(p.agent), AGENT_READY);
    submit(&p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    assert_int_equal(agent_state(p.agent), AGENT_RUNNING);
    submit(&p, &t_no_way, NULL);
    assert_int_equal(agent_calls_under_way(p.agent), 2);
    assert_true(agent_active_ns(p.agent) > 0);
    sem_post(&gate);
    turn_until(&p, 2);
    assert_int_equal(agent_state(p.agent), AGENT_READY);
    assert_int_equal(agent_used(p.agent, AGENT_CALLS), 2);
    assert_int_equal(agent_used(p.agent, AGENT_CALLS_FAILED), 1);
    assert_true(agent_used(p.agent, AGENT_SERVED_NS) > 0);
    place_free(&p);
}

static void a_suspended_agent_asks_for_nothing_new(void **state)
{
    static const struct {
        enum agent_state state;
        enum error_code want;
        const char *part;
    } rows[] = {
        { AGENT_SUSPENDED, ERR_BUSY, "suspended" },
        { AGENT_ENDED, ERR_DENIED, "over" },
        { AGENT_FAILED, ERR_DENIED, "over" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct place p;
        struct syscall *sc;

        place_new(&p, 1, 8, NULL);
        submit(&p, &t_gated, NULL);
        assert_true(sem_get(&arrived));
        assert_true(agent_change(p.agent, rows[i].state));
        sc = call_of(&p, &t_echo, NULL);
        assert_false(kernel_submit(p.k, sc, &err));
        assert_code(err, rows[i].want);
        assert_contains(err.text, rows[i].part);
        syscall_free(sc);
        assert_int_equal(atomic_load(&handled), 0);
        /* what was under way goes on */
        sem_post(&gate);
        turn_until(&p, 1);
        assert_int_equal(p.last_state, SYSCALL_DONE);
        if (rows[i].state == AGENT_SUSPENDED) {
            assert_true(agent_change(p.agent, AGENT_READY));
            submit(&p, &t_echo, NULL);
            turn_until(&p, 2);
            assert_int_equal(p.last_state, SYSCALL_DONE);
        }
        place_free(&p);
    }
}

static void makes_agents_with_all_that_they_have(void **state)
{
    static const char *const roles[] = { "reader", NULL };
    struct error err = ERROR_INIT;
    struct place p;
    (void)state;

    place_new(&p, 1, 8, NULL);
    {
        const struct agent_spec spec = {
            .name = "child", .group = "team", .parent = p.agent, .roles = roles, .weight = 3
        };
        CLEANUP(agent_unrefp) struct agent *a = kernel_agent_with(p.k, &spec, &err);
        CLEANUP(agent_unrefp) struct agent *same = kernel_agent(p.k, "child", "team", &err);

        assert_ok(a && same, err);
        assert_ptr_equal(a, same);
        assert_true(agent_has_role(a, "reader"));
        assert_ptr_equal(agent_parent(a), p.agent);
        assert_int_equal(agent_state(a), AGENT_READY);
    }
    place_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_a_policy_that_there_is_not),
        cmocka_unit_test(each_class_has_a_queue_of_its_own),
        cmocka_unit_test(calls_are_done_in_the_policys_order),
        cmocka_unit_test(shortest_first_goes_by_what_was_learned),
        cmocka_unit_test(a_long_call_of_a_short_tool_holds_up_nobody),
        cmocka_unit_test(calls_that_keep_arriving_are_all_done_in_order),
        cmocka_unit_test(times_are_kept_by_class_policy_and_agent),
        cmocka_unit_test(times_are_kept_of_so_many_agents),
        cmocka_unit_test(an_agent_waits_runs_and_is_ready_again),
        cmocka_unit_test(a_suspended_agent_asks_for_nothing_new),
        cmocka_unit_test(makes_agents_with_all_that_they_have),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
