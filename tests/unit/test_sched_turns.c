/* Batches, calls that are put aside, and calls for which nobody is woken. */
#include "kernel/sched.h"

#include <stdatomic.h>

#include "kernel/agent.h"
#include "kernel/base/clock.h"
#include "tests/support/check.h"

static const struct tool slow_tool = { .name = "slow" };

#define AGENTS 3
static struct agent *agents[AGENTS];

static int make_agents(void **state)
{
    (void)state;
    for (size_t i = 0; i < AGENTS; i++) {
        agents[i] = agent_new("a", NULL, NULL);
        if (!agents[i])
            return -1;
    }
    return 0;
}

static int drop_agents(void **state)
{
    (void)state;
    for (size_t i = 0; i < AGENTS; i++)
        agent_unref(agents[i]);
    return 0;
}

/* Only what a queue looks at. */
static struct syscall *calls(size_t count, const struct tool *tool)
{
    struct syscall *sc = calloc(count, sizeof *sc);

    assert_non_null(sc);
    for (size_t i = 0; i < count; i++) {
        sc[i].tool = tool;
        sc[i].agent = agents[i % AGENTS];
        sc[i].id = i + 1;
        list_init(&sc[i].link);
    }
    return sc;
}

static void freep(struct syscall **sc)
{
    free(*sc);
}

static struct sched *queue(size_t capacity, size_t slow_max)
{
    struct error err = ERROR_INIT;
    struct sched *s = sched_new(&sched_fifo, NULL, capacity, slow_max, &err);

    assert_ok(s, err);
    return s;
}

static uint64_t pop_id(struct sched *s)
{
    struct syscall *sc = NULL;

    return sched_pop(s, 0, &sc) == SCHED_OK ? sc->id : 0;
}

/* ---- several at once ---- */

static void batch_a(struct tool_batched *batch, size_t count)
{
    (void)batch;
    (void)count;
}

static void batch_b(struct tool_batched *batch, size_t count)
{
    (void)batch;
    (void)count;
}

static void a_batch_is_a_run_of_compatible_ones_in_order(void **state)
{
    static const struct tool put = { .name = "put", .batch = batch_a };
    static const struct tool get = { .name = "get", .batch = batch_a };
    static const struct tool other = { .name = "other", .batch = batch_b };
    static const struct tool *const order[] = { &put, &get,       &put,      &other,
                                                &put, &slow_tool, &slow_tool };
    static const size_t want[] = { 3, 1, 1, 1, 1 };
    CLEANUP(freep) struct syscall *sc = calls(ARRAY_LEN(order), &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(10, 9);
    struct syscall *got[8];
    size_t count, next = 0;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        sc[i].tool = order[i];
        assert_int_equal(sched_push(s, &sc[i]), SCHED_OK);
    }
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_int_equal(sched_pop_batch(s, 0, got, 8, &count), SCHED_OK);
        assert_int_equal(count, want[i]);
        for (size_t j = 0; j < count; j++)
            assert_ptr_equal(got[j], &sc[next++]);
    }
    assert_int_equal(sched_pop_batch(s, 0, got, 8, &count), SCHED_TIMEOUT);
}

static void who_stands_apart_is_in_no_batch(void **state)
{
    static const struct tool put = { .name = "put", .batch = batch_a };
    static const bool apart[] = { false, false, true, true, false };
    static const size_t want[] = { 2, 1, 1, 1 };
    CLEANUP(freep) struct syscall *sc = calls(ARRAY_LEN(apart), &put);
    CLEANUP(sched_freep) struct sched *s = queue(10, 9);
    struct syscall *got[8];
    size_t count, next = 0;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(apart); i++) {
        sc[i].apart = apart[i];
        assert_int_equal(sched_push(s, &sc[i]), SCHED_OK);
    }
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_int_equal(sched_pop_batch(s, 0, got, 8, &count), SCHED_OK);
        assert_int_equal(count, want[i]);
        for (size_t j = 0; j < count; j++)
            assert_ptr_equal(got[j], &sc[next++]);
    }
}

static void a_batch_keeps_its_bound_and_takes_one_place_among_the_slow(void **state)
{
    static const struct tool put = { .name = "put", .batch = batch_a };
    CLEANUP(freep) struct syscall *sc = calls(9, &put);
    CLEANUP(sched_freep) struct sched *s = queue(10, 2);
    struct syscall *got[4];
    struct sched_stats stats;
    size_t count;
    (void)state;

    for (size_t i = 0; i < 9; i++)
        assert_int_equal(sched_push(s, &sc[i]), SCHED_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sched_pop_batch(s, 0, got, 4, &count), SCHED_OK);
        assert_int_equal(count, 4);
    }
    assert_int_equal(sched_pop_batch(s, 0, got, 4, &count), SCHED_TIMEOUT); /* two are running */
    for (size_t i = 0; i < 8; i++)
        sched_finished(s, &sc[i]);
    assert_int_equal(sched_pop_batch(s, 0, got, 4, &count), SCHED_OK);
    assert_int_equal(count, 1);
    sched_finished(s, &sc[8]);
    sched_stats(s, &stats);
    assert_int_equal(stats.running, 0);
}

/* ---- put aside ---- */

static void requeued_ones_go_to_the_end_whatever_the_capacity(void **state)
{
    CLEANUP(freep) struct syscall *sc = calls(3, &slow_tool);
    CLEANUP(sched_freep)
    struct sched *s = sched_new(&sched_rr, NULL, 2, 1, NULL);
    struct sched_stats stats;
    (void)state;

    assert_non_null(s);
    for (size_t i = 0; i < 3; i++)
        sc[i].agent = agents[0];
    assert_int_equal(sched_push(s, &sc[0]), SCHED_OK);
    assert_int_equal(pop_id(s), 1);
    assert_int_equal(sched_push(s, &sc[1]), SCHED_OK);
    assert_int_equal(sched_push(s, &sc[2]), SCHED_OK);
    assert_int_equal(sched_requeue(s, &sc[0]), SCHED_OK);
    sched_stats(s, &stats);
    assert_int_equal(stats.waiting, 3);
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.put_aside, 1);
    assert_int_equal(pop_id(s), 2);
    sched_finished(s, &sc[1]);
    assert_int_equal(pop_id(s), 3);
    sched_finished(s, &sc[2]);
    /* by arrival it is the oldest still */
    assert_int_equal(sched_push(s, &sc[1]), SCHED_OK);
    sched_change(s, &sched_fifo, NULL);
    assert_int_equal(pop_id(s), 1);
    sched_finished(s, &sc[0]);
    assert_int_equal(pop_id(s), 2);
}

static void requeue_refuses_who_is_to_stop_and_when_closed(void **state)
{
    CLEANUP(freep) struct syscall *sc = calls(2, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(2, 2);
    struct sched_stats stats;
    (void)state;

    for (size_t i = 0; i < 2; i++)
        assert_int_equal(sched_push(s, &sc[i]), SCHED_OK);
    assert_int_equal(pop_id(s), 1);
    assert_int_equal(pop_id(s), 2);
    atomic_store(&sc[0].stop, SYSCALL_STOP_CANCEL);
    assert_int_equal(sched_requeue(s, &sc[0]), SCHED_STOPPED);
    sched_close(s);
    assert_int_equal(sched_requeue(s, &sc[1]), SCHED_CLOSED);
    sched_stats(s, &stats);
    assert_int_equal(stats.running + stats.waiting, 0);
}

static void a_quantum_is_up_only_while_another_waits(void **state)
{
    static const struct sched_tuning tuning = { .quantum_ns = 100 };
    CLEANUP(freep) struct syscall *sc = calls(2, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = sched_new(&sched_rr, &tuning, 4, 1, NULL);
    (void)state;

    assert_non_null(s);
    clock_fake(1000);
    assert_int_equal(sched_push(s, &sc[0]), SCHED_OK);
    assert_int_equal(pop_id(s), 1);
    clock_fake(1100);
    assert_false(sched_quantum_is_up(s, 1000));
    assert_int_equal(sched_push(s, &sc[1]), SCHED_OK);
    assert_true(sched_quantum_is_up(s, 1000));
    assert_false(sched_quantum_is_up(s, 1001));
    sched_change(s, &sched_fifo, &tuning);
    assert_false(sched_quantum_is_up(s, 1000));
    assert_true(sched_remove(s, &sc[1]));
    clock_real();
}

/* ---- nobody woken for what is soon done ---- */

static void short_ones_wait_for_a_busy_worker_but_not_for_ever(void **state)
{
    CLEANUP(freep) struct syscall *sc = calls(4, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(10, 10);
    (void)state;

    sched_attach(s);
    for (size_t i = 0; i < 4; i++)
        sc[i].expected_ns = 1000;
    assert_int_equal(sched_push(s, &sc[0]), SCHED_OK);
    assert_true(sched_put_off(s)); /* a worker is up and about */
    assert_false(sched_starved(s));
    assert_int_equal(pop_id(s), 1);
    assert_int_equal(sched_push(s, &sc[1]), SCHED_OK);
    assert_int_equal(sched_look_again(s), 0); /* one has been popped since */
    assert_true(sched_put_off(s));
    assert_int_equal(sched_look_again(s), 1); /* and none since then */
    assert_false(sched_put_off(s));
    assert_true(sched_starved(s));
    sc[2].expected_ns = CLOCK_NS_PER_S;
    assert_int_equal(sched_push(s, &sc[2]), SCHED_OK);
    assert_false(sched_put_off(s));
    assert_true(sched_remove(s, &sc[2]));
    sc[3].expected_ns = 0; /* nobody knows */
    assert_int_equal(sched_push(s, &sc[3]), SCHED_OK);
    assert_false(sched_put_off(s));
    assert_int_equal(pop_id(s), 2);
    assert_int_equal(pop_id(s), 4);
    sched_detach(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_a_run_of_compatible_ones_in_order),
        cmocka_unit_test(who_stands_apart_is_in_no_batch),
        cmocka_unit_test(a_batch_keeps_its_bound_and_takes_one_place_among_the_slow),
        cmocka_unit_test(requeued_ones_go_to_the_end_whatever_the_capacity),
        cmocka_unit_test(requeue_refuses_who_is_to_stop_and_when_closed),
        cmocka_unit_test(a_quantum_is_up_only_while_another_waits),
        cmocka_unit_test(short_ones_wait_for_a_busy_worker_but_not_for_ever),
    };

    return cmocka_run_group_tests(tests, make_agents, drop_agents);
}
