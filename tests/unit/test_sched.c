#include "kernel/sched.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "kernel/agent.h"
#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "tests/support/check.h"

#define LONG_NS (60 * CLOCK_NS_PER_S)

static const struct tool slow_tool = { .name = "slow" };
static const struct tool quick_tool = { .name = "quick", .flags = TOOL_QUICK };
static const struct tool inline_tool = { .name = "inline", .flags = TOOL_INLINE };

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

/* Last in, first out: a second policy, so that a change is seen. */
static int64_t lifo_key(const struct syscall *sc, const struct sched_tuning *tuning)
{
    (void)tuning;
    return -(int64_t)sc->ticket;
}

static const struct sched_policy lifo = { .name = "lifo", .key = lifo_key };

static void refuses_sizes_out_of_range(void **state)
{
    static const struct {
        const char *label;
        size_t capacity, slow_max;
        enum error_code want;
    } rows[] = {
        { "zero", 0, 1, ERR_INVALID },
        { "least", 1, 1, ERR_NONE },
        { "most", LIMIT_QUEUE, 1, ERR_NONE },
        { "too many", LIMIT_QUEUE + 1, 1, ERR_INVALID },
        { "no slow one at all", 1, 0, ERR_INVALID },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        CLEANUP(sched_freep)
        struct sched *s = sched_new(&sched_fifo, NULL, rows[i].capacity, rows[i].slow_max, &err);

        if ((s != NULL) != (rows[i].want == ERR_NONE) || err.code != rows[i].want)
            fail_msg("%s: %s", rows[i].label, err.text);
    }
}

static void gives_the_oldest_first(void **state)
{
    CLEANUP(freep) struct syscall *slow = calls(3, &slow_tool);
    CLEANUP(freep) struct syscall *quick = calls(3, &quick_tool);
    CLEANUP(sched_freep) struct sched *s = queue(10, 10);
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        slow[i].id = 10 + i * 2;
        quick[i].id = 11 + i * 2;
        assert_int_equal(sched_push(s, &slow[i]), SCHED_OK);
        assert_int_equal(sched_push(s, &quick[i]), SCHED_OK);
    }
    for (uint64_t want = 10; want < 16; want++)
        assert_int_equal(pop_id(s), want);
    assert_int_equal(pop_id(s), 0);
}

static void says_full_at_once(void **state)
{
    CLEANUP(freep) struct syscall *sc = calls(4, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(2, 8);
    struct sched_stats stats;
    (void)state;

    assert_int_equal(sched_push(s, &sc[0]), SCHED_OK);
    assert_int_equal(sched_push(s, &sc[1]), SCHED_OK);
    assert_int_equal(sched_push(s, &sc[2]), SCHED_FULL);
    assert_int_equal(pop_id(s), 1);
    assert_int_equal(sched_push(s, &sc[3]), SCHED_OK);
    sched_stats(s, &stats);
    assert_int_equal(stats.waiting, 2);
    assert_int_equal(stats.running, 1);
    assert_int_equal(stats.pushed, 3);
    assert_int_equal(stats.popped, 1);
    assert_int_equal(stats.refused, 1);
    assert_int_equal(pop_id(s), 2);
    assert_int_equal(pop_id(s), 4);
}

static void times_out_when_nothing_comes(void **state)
{
    CLEANUP(sched_freep) struct sched *s = queue(2, 1);
    struct syscall *got = NULL;
    (void)state;

    assert_int_equal(sched_pop(s, 0, &got), SCHED_TIMEOUT);
    assert_int_equal(sched_pop(s, CLOCK_NS_PER_MS, &got), SCHED_TIMEOUT);
    assert_null(got);
}

static void drains_after_close(void **state)
{
    CLEANUP(freep) struct syscall *sc = calls(3, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(4, 4);
    struct syscall *got;
    (void)state;

    assert_int_equal(sched_push(s, &sc[0]), SCHED_OK);
    sched_close(s);
    assert_int_equal(sched_push(s, &sc[1]), SCHED_CLOSED);
    sc[2].tool = &inline_tool;
    assert_int_equal(sched_bypass(s, &sc[2]), SCHED_CLOSED);
    assert_int_equal(sched_pop(s, LONG_NS, &got), SCHED_OK);
    assert_ptr_equal(got, &sc[0]);
    assert_int_equal(sched_pop(s, LONG_NS, &got), SCHED_CLOSED);
}

static void removes_only_what_is_queued(void **state)
{
    CLEANUP(freep) struct syscall *sc = calls(3, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(4, 4);
    (void)state;

    for (size_t i = 0; i < 3; i++)
        assert_int_equal(sched_push(s, &sc[i]), SCHED_OK);
    assert_true(sched_remove(s, &sc[1]));
    assert_false(sched_remove(s, &sc[1]));
    assert_int_equal(pop_id(s), 1);
    assert_false(sched_remove(s, &sc[0]));
    assert_int_equal(pop_id(s), 3);
    assert_int_equal(pop_id(s), 0);
}

static void keeps_a_lane_for_quick_ones(void **state)
{
    CLEANUP(freep) struct syscall *slow = calls(4, &slow_tool);
    CLEANUP(freep) struct syscall *quick = calls(2, &quick_tool);
    CLEANUP(sched_freep) struct sched *s = queue(10, 2);
    (void)state;

    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sched_push(s, &slow[i]), SCHED_OK);
    quick[0].id = 101;
    quick[1].id = 102;
    assert_int_equal(pop_id(s), 1);
    assert_int_equal(pop_id(s), 2);
    assert_int_equal(pop_id(s), 0); /* two slow ones run, and only slow ones wait */
    assert_int_equal(sched_push(s, &quick[0]), SCHED_OK);
    assert_int_equal(sched_push(s, &quick[1]), SCHED_OK);
    assert_int_equal(pop_id(s), 101);
    sched_finished(s, &quick[0]);
    sched_finished(s, &slow[0]);
    assert_int_equal(pop_id(s), 3); /* older than the second quick one */
    assert_int_equal(pop_id(s), 102);
    assert_int_equal(pop_id(s), 0);
    sched_finished(s, &slow[1]);
    assert_int_equal(pop_id(s), 4);
}

static void bypass_overtakes_nothing_that_could_run(void **state)
{
    CLEANUP(freep) struct syscall *slow = calls(3, &slow_tool);
    CLEANUP(freep) struct syscall *in = calls(3, &inline_tool);
    CLEANUP(sched_freep) struct sched *s = queue(10, 1);
    struct sched_stats stats;
    (void)state;

    assert_int_equal(sched_bypass(s, &in[0]), SCHED_OK);
    sched_stats(s, &stats);
    assert_int_equal(stats.running, 1);
    sched_finished(s, &in[0]);
    assert_int_equal(sched_push(s, &slow[0]), SCHED_OK);
    assert_int_equal(sched_bypass(s, &in[1]), SCHED_FULL);
    assert_int_equal(pop_id(s), 1);
    assert_int_equal(sched_push(s, &slow[1]), SCHED_OK);
    /* what waits now cannot run before the first slow one is finished */
    assert_int_equal(sched_bypass(s, &in[1]), SCHED_OK);
    assert_int_equal(sched_bypass(s, &slow[2]), SCHED_FULL);
    assert_true(sched_remove(s, &slow[1]));
    assert_int_equal(sched_bypass(s, &slow[2]), SCHED_FULL);
}

static void tells_when_more_could_run_than_wait_for_it(void **state)
{
    CLEANUP(freep) struct syscall *sc = calls(2, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(10, 1);
    (void)state;

    assert_false(sched_starved(s));
    assert_int_equal(sched_push(s, &sc[0]), SCHED_OK);
    assert_true(sched_starved(s));
    assert_int_equal(pop_id(s), 1);
    assert_int_equal(sched_push(s, &sc[1]), SCHED_OK);
    assert_false(sched_starved(s));
    sched_finished(s, &sc[0]);
    assert_true(sched_starved(s));
    assert_true(sched_remove(s, &sc[1]));
}

/* ---- threads ---- */

struct popper {
    pthread_t thread;
    struct sched *s;
    enum sched_status status;
    struct syscall *got;
};

static void *pop_once(void *arg)
{
    struct popper *p = arg;

    p->status = sched_pop(p->s, LONG_NS, &p->got);
    return NULL;
}

static void start_popper(struct popper *p, struct sched *s, size_t idle)
{
    struct sched_stats stats;

    *p = (struct popper){ .s = s };
    assert_int_equal(pthread_create(&p->thread, NULL, pop_once, p), 0);
    do {
        sched_yield();
        sched_stats(s, &stats);
    } while (stats.idle_poppers < idle);
}

static void wakes_a_waiting_popper(void **state)
{
    CLEANUP(freep) struct syscall *slow = calls(3, &slow_tool);
    CLEANUP(freep) struct syscall *quick = calls(1, &quick_tool);
    CLEANUP(sched_freep) struct sched *s = queue(10, 1);
    struct popper p;
    (void)state;

    start_popper(&p, s, 1);
    assert_int_equal(sched_push(s, &slow[0]), SCHED_OK);
    pthread_join(p.thread, NULL);
    assert_ptr_equal(p.got, &slow[0]);

    /* no slow one may be popped: a quick one wakes it */
    assert_int_equal(sched_push(s, &slow[1]), SCHED_OK);
    start_popper(&p, s, 1);
    assert_int_equal(sched_push(s, &quick[0]), SCHED_OK);
    pthread_join(p.thread, NULL);
    assert_ptr_equal(p.got, &quick[0]);

    /* and so does the end of a slow one, by whomever */
    start_popper(&p, s, 1);
    sched_finished(s, &slow[0]);
    pthread_join(p.thread, NULL);
    assert_ptr_equal(p.got, &slow[1]);
}

static void close_wakes_everybody(void **state)
{
    CLEANUP(freep) struct syscall *slow = calls(2, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(10, 1);
    struct popper a, b;
    struct syscall *got;
    (void)state;

    assert_int_equal(sched_push(s, &slow[0]), SCHED_OK);
    assert_int_equal(sched_pop(s, 0, &got), SCHED_OK);
    assert_int_equal(sched_push(s, &slow[1]), SCHED_OK);
    start_popper(&a, s, 1);
    start_popper(&b, s, 2);
    sched_close(s);
    sched_finished(s,
                   &slow[0]); /* one of them gets the last, the other learns that it was the last */
    pthread_join(a.thread, NULL);
    pthread_join(b.thread, NULL);
    assert_int_equal((a.status == SCHED_OK) + (b.status == SCHED_OK), 1);
    assert_int_equal((a.status == SCHED_CLOSED) + (b.status == SCHED_CLOSED), 1);
}

/* ---- another policy while it runs ---- */

static void change_orders_what_waits_as_if_it_had_always_been(void **state)
{
    CLEANUP(freep) struct syscall *sc = calls(5, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(10, 10);
    (void)state;

    assert_string_equal(sched_policy_name(s), "fifo");
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sched_push(s, &sc[i]), SCHED_OK);
    sched_change(s, &lifo, NULL);
    assert_string_equal(sched_policy_name(s), "lifo");
    assert_int_equal(pop_id(s), 4);
    sched_change(s, &sched_fifo, NULL);
    assert_int_equal(sched_push(s, &sc[4]), SCHED_OK);
    assert_int_equal(pop_id(s), 1);
    assert_true(sched_remove(s, &sc[1]));
    assert_int_equal(pop_id(s), 3);
    assert_int_equal(pop_id(s), 5);
    assert_int_equal(pop_id(s), 0);
}

enum { PUSHERS = 2, POPPERS = 3, EACH = 1500 };

struct crowd {
    struct sched *s;
    struct syscall *sc; /* EACH of this pusher */
    atomic_int *times;  /* by id */
    int bad;
};

static void *push_each(void *arg)
{
    struct crowd *c = arg;

    for (size_t i = 0; i < EACH; i++) {
        enum sched_status status;

        while ((status = sched_push(c->s, &c->sc[i])) == SCHED_FULL)
            sched_yield();
        c->bad += status != SCHED_OK;
        if (i % 7 == 0 && sched_remove(c->s, &c->sc[i]))
            atomic_fetch_add(&c->times[c->sc[i].id], 1);
    }
    return NULL;
}

static void *pop_all(void *arg)
{
    struct crowd *c = arg;
    struct syscall *sc;

    while (sched_pop(c->s, LONG_NS, &sc) == SCHED_OK) {
        atomic_fetch_add(&c->times[sc->id], 1);
        sched_finished(c->s, sc);
    }
    return NULL;
}

static void change_loses_and_doubles_nothing(void **state)
{
    CLEANUP(freep) struct syscall *sc = calls(PUSHERS * EACH, &slow_tool);
    CLEANUP(sched_freep) struct sched *s = queue(64, 2);
    atomic_int *times = calloc(PUSHERS * EACH + 1, sizeof *times);
    struct crowd push[PUSHERS], pop[POPPERS];
    pthread_t pushers[PUSHERS], poppers[POPPERS];
    struct sched_stats stats;
    (void)state;

    assert_non_null(times);
    for (size_t i = 0; i < PUSHERS * EACH; i += 3)
        sc[i].tool = &quick_tool;
    for (int i = 0; i < PUSHERS; i++) {
        push[i] = (struct crowd){ s, sc + i * EACH, times, 0 };
        assert_int_equal(pthread_create(&pushers[i], NULL, push_each, &push[i]), 0);
    }
    for (int i = 0; i < POPPERS; i++) {
        pop[i] = (struct crowd){ s, NULL, times, 0 };
        assert_int_equal(pthread_create(&poppers[i], NULL, pop_all, &pop[i]), 0);
    }
    for (size_t i = 0; i < 200; i++) {
        const struct sched_policy *policy = sched_policy_at(i % 6);
        struct sched_tuning tuning = { .fair = i % 4 == 0, .quantum_ns = 1 };

        sched_change(s, policy ? policy : &lifo, &tuning);
        sched_yield();
    }
    for (int i = 0; i < PUSHERS; i++)
        pthread_join(pushers[i], NULL);
    sched_close(s);
    for (int i = 0; i < POPPERS; i++)
        pthread_join(poppers[i], NULL);
    for (int i = 0; i < PUSHERS; i++)
        assert_int_equal(push[i].bad, 0);
    for (size_t i = 1; i <= PUSHERS * EACH; i++)
        assert_int_equal(atomic_load(&times[i]), 1);
    sched_stats(s, &stats);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.idle_poppers, 0);
    free(times);
}

static void knows_its_policies_by_name(void **state)
{
    (void)state;

    assert_ptr_equal(sched_policy_find("fifo"), &sched_fifo);
    assert_ptr_equal(sched_policy_find("priority"), &sched_priority);
    assert_ptr_equal(sched_policy_find("sjf"), &sched_sjf);
    assert_ptr_equal(sched_policy_find("rr"), &sched_rr);
    assert_ptr_equal(sched_policy_find("edf"), &sched_edf);
    assert_null(sched_policy_find("first come"));
    for (size_t i = 0; i < 5; i++)
        assert_ptr_equal(sched_policy_find(sched_policy_at(i)->name), sched_policy_at(i));
    assert_null(sched_policy_at(5));
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(sched_freep) struct sched *s = sched_new(&sched_fifo, NULL, 4, 4, &err);

        FAULT_DONE(n);
        if (!s)
            assert_code(err, ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_sizes_out_of_range),
        cmocka_unit_test(gives_the_oldest_first),
        cmocka_unit_test(says_full_at_once),
        cmocka_unit_test(times_out_when_nothing_comes),
        cmocka_unit_test(drains_after_close),
        cmocka_unit_test(removes_only_what_is_queued),
        cmocka_unit_test(keeps_a_lane_for_quick_ones),
        cmocka_unit_test(bypass_overtakes_nothing_that_could_run),
        cmocka_unit_test(tells_when_more_could_run_than_wait_for_it),
        cmocka_unit_test(wakes_a_waiting_popper),
        cmocka_unit_test(close_wakes_everybody),
        cmocka_unit_test(change_orders_what_waits_as_if_it_had_always_been),
        cmocka_unit_test(change_loses_and_doubles_nothing),
        cmocka_unit_test(knows_its_policies_by_name),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, make_agents, drop_agents);
}
