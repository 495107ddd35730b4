#include "kernel/base/clock.h"

#include <limits.h>

#include "tests/support/check.h"

static void runs_forward(void **state)
{
    int64_t first = clock_now_ns();

    (void)state;
    assert_true(first > 0);
    assert_true(clock_now_ns() >= first);
    assert_true(clock_wall_ns() > 1500000000 * CLOCK_NS_PER_S);
}

static void tests_can_turn_it(void **state)
{
    (void)state;
    clock_fake(42);
    assert_int_equal(clock_now_ns(), 42);
    clock_fake(7);
    assert_int_equal(clock_now_ns(), 7);
    clock_real();
    assert_true(clock_now_ns() > 42);
}

static void adding_never_overflows(void **state)
{
    (void)state;
    assert_int_equal(clock_add_ns(5, 6), 11);
    assert_int_equal(clock_add_ns(5, -6), -1);
    assert_true(clock_add_ns(CLOCK_NEVER, 1) == CLOCK_NEVER);
    assert_true(clock_add_ns(CLOCK_NEVER, -1) == CLOCK_NEVER);
    assert_true(clock_add_ns(CLOCK_NEVER - 5, 6) == CLOCK_NEVER);
    assert_true(clock_add_ns(INT64_MIN + 5, -6) == INT64_MIN);
}

static void what_is_left_is_rounded_up(void **state)
{
    static const struct {
        int64_t deadline_ns;
        int max_ms, want;
    } rows[] = {
        { 1000, 100, 0 },
        { 999, 100, 0 },
        { INT64_MIN, 100, 0 },
        { 1001, 100, 1 },
        { 1000 + CLOCK_NS_PER_MS, 100, 1 },
        { 1001 + CLOCK_NS_PER_MS, 100, 2 },
        { 1000 + 500 * CLOCK_NS_PER_MS, 100, 100 },
        { CLOCK_NEVER, 100, 100 },
        { CLOCK_NEVER - 1, INT_MAX, INT_MAX },
    };

    (void)state;
    clock_fake(1000);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (clock_left_ms(rows[i].deadline_ns, rows[i].max_ms) != rows[i].want)
            fail_msg("row %zu: %d", i, clock_left_ms(rows[i].deadline_ns, rows[i].max_ms));
    clock_real();
}

static void wall_time_is_written_in_utc(void **state)
{
    char text[32];

    (void)state;
    assert_string_equal(clock_iso8601(0, text, sizeof text), "1970-01-01T00:00:00.000Z");
    assert_string_equal(clock_iso8601(1795292595123999999, text, sizeof text),
                        "2026-11-21T20:23:15.123Z");
    assert_string_equal(clock_iso8601(-1, text, sizeof text), "1969-12-31T23:59:59.999Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_forward),
        cmocka_unit_test(tests_can_turn_it),
        cmocka_unit_test(adding_never_overflows),
        cmocka_unit_test(what_is_left_is_rounded_up),
        cmocka_unit_test(wall_time_is_written_in_utc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
