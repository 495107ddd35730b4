#include "kernel/history.h"

#include "tests/support/check.h"

static char tools[10], agents[5000];

static struct history *history(void)
{
    struct error err = ERROR_INIT;
    struct history *h = history_new(&err);

    assert_ok(h, err);
    return h;
}

static void expects_nothing_of_what_it_never_saw(void **state)
{
    CLEANUP(history_freep) struct history *h = history();
    (void)state;

    assert_int_equal(history_expect(h, &tools[0], &agents[0]), 0);
    history_learn(h, &tools[0], &agents[0], 500);
    assert_int_equal(history_expect(h, &tools[1], &agents[0]), 0);
}

static void prefers_the_agents_own_and_falls_back_to_the_tools(void **state)
{
    CLEANUP(history_freep) struct history *h = history();
    (void)state;

    for (int i = 0; i < 100; i++) {
        history_learn(h, &tools[0], &agents[0], 1000);
        history_learn(h, &tools[0], &agents[1], 3000);
    }
    assert_int_equal(history_expect(h, &tools[0], &agents[0]), 1000);
    assert_int_equal(history_expect(h, &tools[0], &agents[1]), 3000);
    assert_in_range(history_expect(h, &tools[0], &agents[2]), 1800, 2200);
}

static void the_first_counts_whole_and_later_ones_for_an_eighth(void **state)
{
    CLEANUP(history_freep) struct history *h = history();
    (void)state;

    history_learn(h, &tools[0], &agents[0], 8000);
    assert_int_equal(history_expect(h, &tools[0], &agents[0]), 8000);
    history_learn(h, &tools[0], &agents[0], 16000);
    assert_int_equal(history_expect(h, &tools[0], &agents[0]), 9000);
    for (int i = 0; i < 100; i++)
        history_learn(h, &tools[0], &agents[0], 500);
    assert_in_range(history_expect(h, &tools[0], &agents[0]), 500, 520);
}

static void an_outlier_moves_it_little_and_a_change_moves_it_soon(void **state)
{
    CLEANUP(history_freep) struct history *h = history();
    int rounds = 0;
    (void)state;

    for (int i = 0; i < 10; i++)
        history_learn(h, &tools[0], &agents[0], 1000);
    history_learn(h, &tools[0], &agents[0], 1000000000);
    assert_in_range(history_expect(h, &tools[0], &agents[0]), 1000, 1600);
    while (history_expect(h, &tools[0], &agents[0]) < 900000000 && rounds < 1000) {
        history_learn(h, &tools[0], &agents[0], 1000000000);
        rounds++;
    }
    assert_in_range(rounds, 10, 80);
}

static void is_never_less_than_something(void **state)
{
    CLEANUP(history_freep) struct history *h = history();
    (void)state;

    history_learn(h, &tools[0], &agents[0], 0);
    history_learn(h, &tools[1], &agents[0], -7);
    history_learn(h, &tools[2], &agents[0], INT64_MAX);
    history_learn(h, &tools[2], &agents[0], INT64_MAX);
    assert_int_equal(history_expect(h, &tools[0], &agents[0]), 1);
    assert_int_equal(history_expect(h, &tools[1], &agents[0]), 1);
    assert_true(history_expect(h, &tools[2], &agents[0]) > 0);
}

/* More pairs than there is room for: of a tool something is known still. */
static void stays_bounded_and_keeps_what_all_agents_taught(void **state)
{
    CLEANUP(history_freep) struct history *h = history();
    (void)state;

    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof agents; i++) {
            for (size_t t = 0; t < sizeof tools; t++)
                history_learn(h, &tools[t], &agents[i], 1000 * (int64_t)(t + 1));
        }
    }
    for (size_t i = 0; i < sizeof agents; i += 7) {
        for (size_t t = 0; t < sizeof tools; t++)
            assert_int_equal(history_expect(h, &tools[t], &agents[i]), 1000 * (int64_t)(t + 1));
    }
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(history_freep) struct history *h = history_new(&err);

        FAULT_DONE(n);
        if (!h)
            assert_code(err, ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expects_nothing_of_what_it_never_saw),
        cmocka_unit_test(prefers_the_agents_own_and_falls_back_to_the_tools),
        cmocka_unit_test(the_first_counts_whole_and_later_ones_for_an_eighth),
        cmocka_unit_test(an_outlier_moves_it_little_and_a_change_moves_it_soon),
        cmocka_unit_test(is_never_less_than_something),
        cmocka_unit_test(stays_bounded_and_keeps_what_all_agents_taught),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
