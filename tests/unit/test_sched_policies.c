/* Each policy beside its definition, written down here in the plainest way, under seeded mixes. */
#include "kernel/sched.h"

#include <stdio.h>

#include "kernel/agent.h"
#include "kernel/base/clock.h"
#include "tests/support/check.h"

#define AGENTS 6
#define CALLS  300
#define MS     CLOCK_NS_PER_MS

static const struct tool slow_tool = { .name = "slow" };
static const struct tool quick_tool = { .name = "quick", .flags = TOOL_QUICK };

static uint32_t seed;

static uint32_t any(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

/* ---- a queue, and the list of what should be in it ---- */

struct world {
    const struct sched_policy *policy;
    struct sched_tuning tuning;
    struct sched *s;
    struct agent *agents[AGENTS];
    struct syscall calls[CALLS];
    size_t next;
    int64_t now_ns;

    struct syscall *model[CALLS]; /* by arrival */
    size_t model_len;
    int line[AGENTS]; /* agents with calls, whose turn it is first */
    size_t line_len;
    int64_t used_ns[AGENTS], clock_ns;
};

static void world_init(struct world *w, const struct sched_policy *policy, bool fair)
{
    struct error err = ERROR_INIT;

    memset(w, 0, sizeof *w);
    w->policy = policy;
    w->tuning = (struct sched_tuning){ .ageing_ns = 10 * MS, .quantum_ns = MS, .fair = fair };
    w->s = sched_new(policy, &w->tuning, CALLS, 2, &err);
    assert_ok(w->s, err);
    w->now_ns = 1000 * MS;
    clock_fake(w->now_ns);
    for (int i = 0; i < AGENTS; i++) {
        const char name[] = { (char)('a' + i), '\0' };
        const struct agent_spec spec = { .name = name, .weight = fair ? 1 + i % 3 : 0 };

        w->agents[i] = agent_new_with(&spec, &err);
        assert_ok(w->agents[i], err);
    }
}

static void world_fini(struct world *w)
{
    clock_real();
    sched_free(w->s);
    for (int i = 0; i < AGENTS; i++)
        agent_unref(w->agents[i]);
}

static int agent_of(const struct world *w, const struct syscall *sc)
{
    int i = 0;

    while (w->agents[i] != sc->agent)
        i++;
    return i;
}

/* True when @a goes before @b at this moment, by the definition; equal ones go by arrival. */
static bool defined_before(const struct world *w, const struct syscall *a, const struct syscall *b)
{
    if (w->policy == &sched_priority) {
        /* with every `ageing` of waiting a step is gained */
        int64_t steps_a = a->priority * w->tuning.ageing_ns + (w->now_ns - a->submitted_ns);
        int64_t steps_b = b->priority * w->tuning.ageing_ns + (w->now_ns - b->submitted_ns);

        return steps_a > steps_b;
    }
    if (w->policy == &sched_sjf)
        return a->expected_ns < b->expected_ns;
    if (w->policy == &sched_edf)
        return a->deadline_ns < b->deadline_ns;
    return false;
}

static bool may_run(const struct syscall *sc, bool quick_only)
{
    return !quick_only || sched_is_quick(sc);
}

/* -1: nobody.  Under round robin and fair share the agent comes first, and then its best call. */
static int agent_next(const struct world *w, bool quick_only)
{
    int best = -1;

    for (size_t i = 0; i < w->line_len; i++) {
        int agent = w->line[i];
        bool can = false;

        for (size_t j = 0; j < w->model_len; j++)
            can |= w->model[j]->agent == w->agents[agent] && may_run(w->model[j], quick_only);
        if (can && (best < 0 || (w->tuning.fair && w->used_ns[agent] < w->used_ns[best])))
            best = agent;
    }
    return best;
}

static bool in_turn(const struct world *w)
{
    return w->policy == &sched_rr || w->tuning.fair;
}

static size_t model_next(const struct world *w, bool quick_only)
{
    size_t best = CALLS;
    int agent = in_turn(w) ? agent_next(w, quick_only) : -1;

    for (size_t i = 0; i < w->model_len; i++) {
        if (!may_run(w->model[i], quick_only) ||
            (in_turn(w) && (agent < 0 || w->model[i]->agent != w->agents[agent])))
            continue;
        if (best == CALLS || defined_before(w, w->model[i], w->model[best]))
            best = i;
    }
    return best;
}

static bool has_calls(const struct world *w, int agent)
{
    for (size_t i = 0; i < w->model_len; i++) {
        if (w->model[i]->agent == w->agents[agent])
            return true;
    }
    return false;
}

static void leave_line(struct world *w, int agent)
{
    size_t kept = 0;

    for (size_t i = 0; i < w->line_len; i++) {
        if (w->line[i] != agent)
            w->line[kept++] = w->line[i];
    }
    w->line_len = kept;
}

static void model_remove(struct world *w, size_t at)
{
    memmove(w->model + at, w->model + at + 1, (w->model_len - at - 1) * sizeof w->model[0]);
    w->model_len--;
}

static void push_any(struct world *w)
{
    struct syscall *sc = &w->calls[w->next++];
    int agent = (int)any(AGENTS);

    w->now_ns += any(5) * MS;
    clock_fake(w->now_ns);
    sc->tool = any(3) ? &slow_tool : &quick_tool;
    sc->agent = w->agents[agent];
    sc->id = w->next;
    sc->submitted_ns = w->now_ns;
    sc->priority = (int)any(21) - 10;
    sc->expected_ns = (1 + any(8)) * MS;
    sc->deadline_ns = w->now_ns + any(40) * MS;
    list_init(&sc->link);
    if (!has_calls(w, agent)) {
        w->line[w->line_len++] = agent;
        w->used_ns[agent] = MAX(w->used_ns[agent], w->clock_ns);
    }
    w->model[w->model_len++] = sc;
    assert_int_equal(sched_push(w->s, sc), SCHED_OK);
}

static bool pop_and_compare(struct world *w, bool quick_only)
{
    size_t at = model_next(w, quick_only);
    struct syscall *want = at < CALLS ? w->model[at] : NULL, *got = NULL;
    int agent;

    if (sched_pop(w->s, 0, &got) != SCHED_OK)
        got = NULL;
    if (got != want)
        fail_msg("%s%s: %d instead of %d", w->policy->name, w->tuning.fair ? ", fair" : "",
                 got ? (int)got->id : 0, want ? (int)want->id : 0);
    if (!want)
        return false;
    agent = agent_of(w, want);
    model_remove(w, at);
    leave_line(w, agent);
    if (has_calls(w, agent))
        w->line[w->line_len++] = agent;
    w->clock_ns = MAX(w->clock_ns, w->used_ns[agent]);
    w->used_ns[agent] += want->expected_ns / agent_weight(want->agent);
    /* The next one may go when this has run: one worker. */
    if (quick_only)
        return true;
    w->now_ns += want->expected_ns;
    clock_fake(w->now_ns);
    want->slice_ns = want->expected_ns;
    sched_finished(w->s, want);
    return true;
}

static void remove_any(struct world *w)
{
    size_t at;
    struct syscall *sc;
    int agent;

    if (!w->model_len)
        return;
    at = any((uint32_t)w->model_len);
    sc = w->model[at];
    agent = agent_of(w, sc);
    model_remove(w, at);
    if (!has_calls(w, agent))
        leave_line(w, agent);
    assert_true(sched_remove(w->s, sc));
}

static void order_is_what_the_definition_gives(void **state)
{
    static struct world w;
    (void)state;

    for (size_t p = 0; sched_policy_at(p); p++) {
        for (int fair = 0; fair < 2; fair++) {
            for (uint32_t mix = 1; mix <= 20; mix++) {
                seed = mix * 77;
                world_init(&w, sched_policy_at(p), fair);
                while (w.next < CALLS) {
                    switch (any(8)) {
                    case 0:
                        remove_any(&w);
                        break;
                    case 1:
                    case 2:
                    case 3:
                        (void)pop_and_compare(&w, false);
                        break;
                    default:
                        push_any(&w);
                        break;
                    }
                }
                while (pop_and_compare(&w, false))
                    continue;
                assert_int_equal(w.model_len, 0);
                world_fini(&w);
            }
        }
    }
}

/* While the slow ones are at their most, the quick ones come in the same order. */
static void the_quick_lane_keeps_the_order(void **state)
{
    static struct world w;
    CLEANUP(agent_unrefp) struct agent *blocker = agent_new("z", NULL, NULL);
    (void)state;

    assert_non_null(blocker);
    for (size_t row = 0; sched_policy_at(row / 2); row++) {
        struct syscall blockers[2];

        memset(blockers, 0, sizeof blockers);
        seed = 5;
        world_init(&w, sched_policy_at(row / 2), row % 2);
        for (int i = 0; i < 2; i++) {
            struct syscall *got;

            blockers[i].tool = &slow_tool;
            blockers[i].agent = blocker;
            assert_int_equal(sched_push(w.s, &blockers[i]), SCHED_OK);
            assert_int_equal(sched_pop(w.s, 0, &got), SCHED_OK);
        }
        while (w.next < CALLS)
            push_any(&w);
        while (pop_and_compare(&w, true))
            continue;
        for (int i = 0; i < 2; i++)
            sched_finished(w.s, &blockers[i]);
        while (pop_and_compare(&w, false))
            continue;
        assert_int_equal(w.model_len, 0);
        world_fini(&w);
    }
}

/* ---- what each policy is for ---- */

static struct syscall *pop(struct sched *s)
{
    struct syscall *sc = NULL;

    return sched_pop(s, 0, &sc) == SCHED_OK ? sc : NULL;
}

static void drain(struct sched *s)
{
    for (struct syscall *sc; (sc = pop(s));)
        sched_finished(s, sc);
}

/* High ones come faster than they can be served, for ever; a low one must still have its turn. */
static void ageing_bounds_the_longest_wait(void **state)
{
    enum { HIGH = 1000, SERVICE_MS = 2 };
    static struct syscall high[HIGH];
    const struct sched_tuning tuning = { .ageing_ns = 10 * MS };
    struct sched *s = sched_new(&sched_priority, &tuning, HIGH, 1, NULL);
    struct syscall low = { .tool = &slow_tool, .priority = -SCHED_PRIORITY_MAX };
    int64_t now_ns = 1000 * MS, start_ns = now_ns, waited_ns = -1;
    size_t came = 0;
    (void)state;

    assert_non_null(s);
    low.submitted_ns = now_ns;
    assert_int_equal(sched_push(s, &low), SCHED_OK);
    for (int64_t ms = 0; ms < HIGH - 1 && waited_ns < 0; ms += SERVICE_MS) {
        struct syscall *sc;

        now_ns = start_ns + ms * MS;
        clock_fake(now_ns);
        /* twice as many as can be served */
        for (int i = 0; i < 2; i++, came++) {
            high[came] = (struct syscall){ .tool = &slow_tool,
                                           .priority = SCHED_PRIORITY_MAX + 5, /* counts as most */
                                           .submitted_ns = now_ns + i };
            assert_int_equal(sched_push(s, &high[came]), SCHED_OK);
        }
        sc = pop(s);
        if (sc == &low)
            waited_ns = now_ns - start_ns;
        sched_finished(s, sc);
    }
    /* Ahead of it go those that came less than 2 * PRIORITY_MAX * ageing after it: 200 of them, of
     * 2 ms each. */
    assert_in_range(waited_ns, 1, (2 * SCHED_PRIORITY_MAX * 10 + 200 * SERVICE_MS) * MS);
    drain(s);
    clock_real();
    sched_free(s);
}

/* Sets that can be done in time, because they are made from a plan that does it. */
static void edf_misses_no_feasible_deadline(void **state)
{
    enum { SIZE = 60 };
    static struct syscall sc[SIZE];
    struct sched *s = sched_new(&sched_edf, NULL, SIZE, 1, NULL);
    (void)state;

    assert_non_null(s);
    for (uint32_t mix = 1; mix <= 200; mix++) {
        int64_t now_ns = 1000 * MS, end_ns = now_ns;
        struct syscall *got;

        seed = mix;
        for (size_t i = 0; i < SIZE; i++) {
            sc[i] = (struct syscall){ .tool = &slow_tool, .submitted_ns = now_ns };
            sc[i].cost_ns = (1 + any(50)) * MS;
            end_ns += sc[i].cost_ns;
            sc[i].deadline_ns = end_ns + (any(2) ? any(30) * MS : 0);
        }
        for (size_t i = SIZE - 1; i > 0; i--) { /* in any order */
            size_t j = any((uint32_t)i + 1);
            struct syscall other = sc[i];

            sc[i] = sc[j];
            sc[j] = other;
        }
        for (size_t i = 0; i < SIZE; i++)
            assert_int_equal(sched_push(s, &sc[i]), SCHED_OK);
        while ((got = pop(s))) {
            now_ns += got->cost_ns;
            if (now_ns > got->deadline_ns)
                fail_msg("mix %u: late by %lld ms", mix,
                         (long long)((now_ns - got->deadline_ns) / MS));
            sched_finished(s, got);
        }
    }
    sched_free(s);
}

static void sjf_counts_what_is_left_of_one_put_aside(void **state)
{
    struct sched *s = sched_new(&sched_sjf, NULL, 4, 4, NULL);
    struct syscall a = { .tool = &slow_tool, .expected_ns = 10 * MS, .served_ns = 8 * MS };
    struct syscall b = { .tool = &slow_tool, .expected_ns = 3 * MS };
    struct syscall unknown = { .tool = &slow_tool };
    (void)state;

    assert_non_null(s);
    assert_int_equal(sched_push(s, &b), SCHED_OK);
    assert_int_equal(sched_push(s, &a), SCHED_OK);
    assert_int_equal(sched_push(s, &unknown), SCHED_OK);
    assert_ptr_equal(pop(s), &unknown);
    assert_ptr_equal(pop(s), &a);
    assert_ptr_equal(pop(s), &b);
    sched_free(s);
}

/* One agent with a hundred calls does not keep another's single one waiting for more than a turn of
 * each agent. */
static void rr_waits_for_one_turn_of_each_other_agent(void **state)
{
    static struct world w;
    struct syscall *last = NULL;
    int turns = 0;
    (void)state;

    world_init(&w, &sched_rr, false);
    for (int i = 0; i < 100; i++) {
        for (int a = 0; a < AGENTS - 1; a++, w.next++) {
            if (w.next >= CALLS - 1)
                break;
            w.calls[w.next].tool = &slow_tool;
            w.calls[w.next].agent = w.agents[a];
            assert_int_equal(sched_push(w.s, &w.calls[w.next]), SCHED_OK);
        }
    }
    last = &w.calls[CALLS - 1];
    last->tool = &slow_tool;
    last->agent = w.agents[AGENTS - 1];
    assert_int_equal(sched_push(w.s, last), SCHED_OK);
    for (struct syscall *sc = NULL; sc != last; turns++) {
        sc = pop(w.s);
        assert_non_null(sc);
        sched_finished(w.s, sc);
    }
    assert_in_range(turns, 1, AGENTS);
    drain(w.s);
    world_fini(&w);
}

/* Agents with long and with short calls, all with more than can be served: time is shared by
 * weight, whatever the calls. */
static void fair_share_is_of_time_and_by_weight(void **state)
{
    static const struct {
        int weight;
        int64_t call_ms;
    } agents[] = { { 1, 1 }, { 1, 7 }, { 2, 3 }, { 4, 10 } };
    enum { EACH = 400 };
    static struct syscall calls[ARRAY_LEN(agents)][EACH];
    int64_t served_ms[ARRAY_LEN(agents)] = { 0 }, total_ms = 0;
    struct agent *made[ARRAY_LEN(agents)];
    size_t next[ARRAY_LEN(agents)] = { 0 };
    const struct sched_tuning tuning = { .fair = true };
    struct sched *s = sched_new(&sched_fifo, &tuning, 64, 1, NULL);
    (void)state;

    assert_non_null(s);
    for (size_t a = 0; a < ARRAY_LEN(agents); a++) {
        const struct agent_spec spec = { .name = "a", .weight = agents[a].weight };

        made[a] = agent_new_with(&spec, NULL);
        assert_non_null(made[a]);
    }
    while (total_ms < 1600) {
        struct syscall *sc;

        for (size_t a = 0; a < ARRAY_LEN(agents); a++) {
            /* always two of each waiting; nobody knew how long they take */
            while (next[a] < EACH && (next[a] < 2 || !calls[a][next[a] - 2].queued)) {
                sc = &calls[a][next[a]++];
                *sc = (struct syscall){ .tool = &slow_tool,
                                        .agent = made[a],
                                        .cost_ns = agents[a].call_ms };
                assert_int_equal(sched_push(s, sc), SCHED_OK);
            }
        }
        sc = pop(s);
        assert_non_null(sc);
        total_ms += sc->cost_ns;
        for (size_t a = 0; a < ARRAY_LEN(agents); a++) {
            if (sc->agent == made[a])
                served_ms[a] += sc->cost_ns;
        }
        sc->slice_ns = sc->cost_ns * MS;
        sched_finished(s, sc);
    }
    for (size_t a = 0; a < ARRAY_LEN(agents); a++) {
        int64_t want_ms = total_ms * agents[a].weight / 8;

        if (served_ms[a] < want_ms - 25 || served_ms[a] > want_ms + 25)
            fail_msg("agent %zu was served %lld of %lld ms", a, (long long)served_ms[a],
                     (long long)want_ms);
    }
    drain(s);
    for (size_t a = 0; a < ARRAY_LEN(agents); a++)
        agent_unref(made[a]);
    sched_free(s);
}

/* Who was away has not saved anything up. */
static void fair_share_gives_no_credit_for_absence(void **state)
{
    enum { MANY = 60 };
    static struct syscall busy[MANY], back[MANY];
    const struct sched_tuning tuning = { .fair = true };
    struct sched *s = sched_new(&sched_fifo, &tuning, 2 * MANY, 1, NULL);
    struct agent *a = agent_new("a", NULL, NULL), *b = agent_new("b", NULL, NULL);
    int of_b = 0;
    (void)state;

    assert_true(s && a && b);
    for (size_t i = 0; i < MANY; i++) {
        busy[i] = (struct syscall){ .tool = &slow_tool, .agent = a, .expected_ns = MS };
        back[i] = (struct syscall){ .tool = &slow_tool, .agent = b, .expected_ns = MS };
        assert_int_equal(sched_push(s, &busy[i]), SCHED_OK);
    }
    for (size_t i = 0; i < MANY / 2; i++) {
        struct syscall *sc = pop(s);

        sc->slice_ns = MS;
        sched_finished(s, sc);
    }
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(sched_push(s, &back[i]), SCHED_OK);
    for (size_t i = 0; i < 20; i++) {
        struct syscall *sc = pop(s);

        of_b += sc->agent == b;
        sc->slice_ns = MS;
        sched_finished(s, sc);
    }
    assert_in_range(of_b, 9, 12);
    drain(s);
    agent_unref(a);
    agent_unref(b);
    sched_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_what_the_definition_gives),
        cmocka_unit_test(the_quick_lane_keeps_the_order),
        cmocka_unit_test(ageing_bounds_the_longest_wait),
        cmocka_unit_test(edf_misses_no_feasible_deadline),
        cmocka_unit_test(sjf_counts_what_is_left_of_one_put_aside),
        cmocka_unit_test(rr_waits_for_one_turn_of_each_other_agent),
        cmocka_unit_test(fair_share_is_of_time_and_by_weight),
        cmocka_unit_test(fair_share_gives_no_credit_for_absence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
