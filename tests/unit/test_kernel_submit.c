#include "kernel/kernel.h"

#include "tests/unit/kernel_place.h"

/* ---- stopping one ---- */

static void cancelling_a_queued_one_completes_it_soon(void **state)
{
    struct place p;
    struct syscall *sc;
    (void)state;

    place_new(&p, 1, 8, NULL);
    submit(&p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    sc = submit(&p, &t_echo, NULL);
    syscall_cancel(sc);
    assert_int_equal(p.done, 0); /* never inside the call, so a caller may walk its own list */
    syscall_cancel(sc);
    turn_until(&p, 1);
    assert_int_equal(p.last_state, SYSCALL_CANCELLED);
    assert_int_equal(atomic_load(&handled), 0);
    sem_post(&gate);
    turn_until(&p, 2);
    assert_int_equal(p.last_state, SYSCALL_DONE);
    place_free(&p);
}

static void cancelling_a_running_one_raises_its_token(void **state)
{
    struct place p;
    struct syscall *sc;
    (void)state;

    place_new(&p, 1, 8, NULL);
    sc = submit(&p, &t_patient, NULL);
    assert_true(sem_get(&arrived));
    syscall_cancel(sc);
    syscall_cancel(sc);
    turn_until(&p, 1);
    assert_int_equal(p.last_state, SYSCALL_CANCELLED);
    assert_int_equal(p.last_code, ERR_CANCELLED);
    assert_seen(1, AUDIT_RESULT, "patient", "cancelled");
    place_free(&p);
}

static void a_deadline_in_the_queue_completes_at_once(void **state)
{
    struct place p;
    struct syscall *sc;
    struct error err = ERROR_INIT;
    (void)state;

    place_new(&p, 1, 8, NULL);
    submit(&p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    sc = call_of(&p, &t_echo, NULL);
    sc->deadline_ns = clock_now_ns() + CLOCK_NS_PER_MS;
    assert_ok(kernel_submit(p.k, sc, &err), err);
    turn_until(&p, 1);
    assert_int_equal(p.last_state, SYSCALL_TIMED_OUT);
    assert_int_equal(p.last_code, ERR_TIMEOUT);
    assert_contains(p.last_text, "waiting for a free worker");
    sem_post(&gate);
    turn_until(&p, 2);
    assert_int_equal(atomic_load(&handled), 0);
    place_free(&p);
}

static void a_deadline_while_running_ends_the_handlers_wait(void **state)
{
    struct place p;
    struct syscall *sc;
    struct error err = ERROR_INIT;
    (void)state;

    place_new(&p, 1, 8, NULL);
    sc = call_of(&p, &t_patient, NULL);
    sc->deadline_ns = clock_now_ns() + 5 * CLOCK_NS_PER_MS;
    assert_ok(kernel_submit(p.k, sc, &err), err);
    turn_until(&p, 1);
    assert_int_equal(p.last_state, SYSCALL_TIMED_OUT);
    place_free(&p);
}

static void an_answer_at_the_deadline_is_an_answer(void **state)
{
    struct place p;
    struct syscall *sc;
    struct error err = ERROR_INIT;
    (void)state;

    place_new(&p, 1, 8, NULL);
    sc = call_of(&p, &t_still, NULL);
    sc->deadline_ns = clock_now_ns() + 2 * CLOCK_NS_PER_S; /* a worker is there long before */
    assert_ok(kernel_submit(p.k, sc, &err), err);
    turn_until(&p, 1);
    assert_int_equal(p.last_state, SYSCALL_DONE);
    assert_string_equal(p.last_text, "still running");
    place_free(&p);
}

static void a_handler_deaf_to_its_deadline_is_cancelled_after_the_grace(void **state)
{
    struct place p;
    struct syscall *sc;
    struct error err = ERROR_INIT;
    int64_t now_ns = clock_now_ns();
    (void)state;

    clock_fake(now_ns);
    place_new(&p, 1, 8, NULL);
    sc = call_of(&p, &t_deaf, NULL);
    sc->deadline_ns = now_ns + CLOCK_NS_PER_S;
    assert_ok(kernel_submit(p.k, sc, &err), err);
    assert_true(sem_get(&arrived));
    clock_fake(now_ns + CLOCK_NS_PER_S);
    loop_turn(p.loop, 0);
    assert_false(cancel_raised(&sc->cancel)); /* it may still answer "still running" */
    clock_fake(now_ns + CLOCK_NS_PER_S + SYSCALL_GRACE_NS);
    while (!p.done)
        loop_turn(p.loop, 1);
    assert_int_equal(p.done, 1);
    assert_int_equal(p.last_state, SYSCALL_TIMED_OUT);
    clock_real();
    place_free(&p);
}

static void a_stuck_handler_completes_once_when_it_returns_at_last(void **state)
{
    struct place p;
    struct syscall *sc;
    struct error err = ERROR_INIT;
    int64_t now_ns = clock_now_ns();
    (void)state;

    clock_fake(now_ns);
    place_new(&p, 1, 8, NULL);
    sc = call_of(&p, &t_gated, NULL);
    sc->deadline_ns = now_ns + CLOCK_NS_PER_S;
    assert_ok(kernel_submit(p.k, sc, &err), err);
    assert_true(sem_get(&arrived));
    for (int i = 0; i < 10; i++) {
        clock_fake(now_ns + i * CLOCK_NS_PER_S);
        loop_turn(p.loop, 0);
        assert_int_equal(p.done, 0); /* the struct is still in its hands */
    }
    sem_post(&gate);
    while (!p.done)
        loop_turn(p.loop, 1);
    assert_int_equal(p.done, 1);
    clock_real();
    place_free(&p);
}

/* ---- all of them ---- */

static void resubmit_on_done(struct syscall *sc)
{
    struct place *p = sc->done_arg;
    struct syscall *next = call_of(p, &t_inline, NULL);
    struct error err = ERROR_INIT;

    assert_false(kernel_submit(p->k, next, &err));
    assert_code(err, ERR_BUSY);
    syscall_free(next);
    on_done(sc);
}

static void freeing_completes_everything_first(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2, 64, NULL);
    for (int i = 0; i < 10; i++)
        submit(&p, i % 2 ? &t_deaf : &t_patient, NULL)->done = resubmit_on_done;
    assert_true(sem_get(&arrived));
    agent_unref(STEAL(p.agent));
    p.agent = kernel_agent(p.k, "other", NULL, NULL);
    kernel_free(p.k);
    p.k = NULL;
    assert_int_equal(p.done, 10);
    assert_int_equal(p.last_state, SYSCALL_CANCELLED);
    assert_int_equal(agent_state(p.agent), AGENT_ENDED);
    place_free(&p);
}

enum { MANY = 2000, AGENTS = 50 };

struct many {
    struct place *p;
    int done[MANY];
    int states[SYSCALL_TIMED_OUT + 1];
    int total;
};

static struct many *many_of;

static void on_done_of_many(struct syscall *sc)
{
    struct many *m = many_of;

    m->done[(uintptr_t)sc->done_arg]++;
    m->states[sc->state]++;
    m->total++;
    syscall_free(sc);
}

static void many_syscalls_complete_exactly_once(void **state)
{
    static const struct tool *const tools[] = { &t_inline, &t_echo, &t_patient, &t_echo,
                                                &t_no_way };
    struct syscall **running = calloc(MANY, sizeof *running);
    struct many *m = calloc(1, sizeof *m);
    struct agent *agents[AGENTS];
    struct error err = ERROR_INIT;
    struct kernel_stats stats;
    struct place p;
    unsigned busy = 0;
    (void)state;

    assert_true(running && m);
    place_new(&p, 8, 256, NULL);
    m->p = &p;
    many_of = m;
    for (int i = 0; i < AGENTS; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "agent-%d", i);
        agents[i] = kernel_agent(p.k, name, NULL, &err);
        assert_ok(agents[i], err);
    }
    for (size_t i = 0; i < MANY; i++) {
        const struct tool *tool = tools[i % ARRAY_LEN(tools)];
        struct syscall *sc = syscall_new(SYSCALL_TOOL, agents[i % AGENTS], tool, NULL, &err);

        assert_ok(sc, err);
        sc->done = on_done_of_many;
        sc->done_arg = (void *)i;
        if (tool == &t_patient)
            sc->deadline_ns = clock_now_ns() + (int64_t)(i % 4) * CLOCK_NS_PER_MS;
        else if (i % 13 == 0)
            sc->deadline_ns = clock_now_ns() + 1;
        while (!kernel_submit(p.k, sc, &err)) {
            struct syscall *again;

            assert_code(err, ERR_BUSY);
            error_clear(&err);
            busy++;
            loop_turn(p.loop, 1);
            again = syscall_new(SYSCALL_TOOL, agents[i % AGENTS], tool, NULL, &err);
            assert_ok(again, err);
            again->done = sc->done;
            again->done_arg = sc->done_arg;
            again->deadline_ns = sc->deadline_ns;
            syscall_free(sc);
            sc = again;
        }
        running[i] = m->done[i] ? NULL : sc;
        if (i % 3 == 0 && i >= 7 && !m->done[i - 7] && running[i - 7])
            syscall_cancel(running[i - 7]);
        if (i % 50 == 0)
            loop_turn(p.loop, 0);
    }
    while (m->total < MANY)
        loop_turn(p.loop, 100);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(m->done[i], 1);
    kernel_stats(p.k, &stats);
    assert_int_equal(stats.submitted, MANY);
    assert_int_equal(stats.busy, busy);
    assert_int_equal(stats.done, m->states[SYSCALL_DONE]);
    assert_int_equal(stats.failed, m->states[SYSCALL_FAILED]);
    assert_int_equal(stats.cancelled, m->states[SYSCALL_CANCELLED]);
    assert_int_equal(stats.timed_out, m->states[SYSCALL_TIMED_OUT]);
    assert_int_equal(stats.done + stats.failed + stats.cancelled + stats.timed_out, MANY);
    assert_int_equal(stats.classes[SYSCALL_TOOL].waiting, 0);
    assert_int_equal(stats.classes[SYSCALL_TOOL].running, 0);
    for (int i = 0; i < AGENTS; i++)
        agent_unref(agents[i]);
    place_free(&p);
    free(running);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancelling_a_queued_one_completes_it_soon),
        cmocka_unit_test(cancelling_a_running_one_raises_its_token),
        cmocka_unit_test(a_deadline_in_the_queue_completes_at_once),
        cmocka_unit_test(a_deadline_while_running_ends_the_handlers_wait),
        cmocka_unit_test(an_answer_at_the_deadline_is_an_answer),
        cmocka_unit_test(a_handler_deaf_to_its_deadline_is_cancelled_after_the_grace),
        cmocka_unit_test(a_stuck_handler_completes_once_when_it_returns_at_last),
        cmocka_unit_test(freeing_completes_everything_first),
        cmocka_unit_test(many_syscalls_complete_exactly_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
