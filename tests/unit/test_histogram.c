#include "kernel/histogram.h"

#include "tests/support/check.h"

static bool near(int64_t got, int64_t want)
{
    return got >= want - want / 8 && got <= want + want / 8;
}

static void an_empty_one_is_all_zero(void **state)
{
    static struct histogram h;
    struct histogram_summary s;
    (void)state;

    histogram_sum_up(&h, &s);
    assert_int_equal(s.count, 0);
    assert_int_equal(s.mean_ns, 0);
    assert_int_equal(s.p99_ns, 0);
}

static void quantiles_are_within_their_buckets(void **state)
{
    static struct histogram h;
    struct histogram_summary s;
    (void)state;

    for (int64_t i = 1; i <= 10000; i++)
        histogram_add(&h, i * 1000); /* 1 us to 10 ms, evenly */
    histogram_sum_up(&h, &s);
    assert_int_equal(s.count, 10000);
    assert_int_equal(s.max_ns, 10000000);
    assert_int_equal(s.mean_ns, 5000500);
    if (!near(s.p50_ns, 5000000) || !near(s.p90_ns, 9000000) || !near(s.p99_ns, 9900000))
        fail_msg("%lld %lld %lld", (long long)s.p50_ns, (long long)s.p90_ns, (long long)s.p99_ns);
    assert_true(histogram_quantile(&h, 1.0) <= s.max_ns);
}

static void each_duration_lies_near_where_it_was(void **state)
{
    (void)state;

    for (int64_t ns = 600; ns < INT64_C(1) << 40; ns = ns * 5 / 4) {
        struct histogram h = { .count = 0 };

        histogram_add(&h, ns);
        if (!near(histogram_quantile(&h, 0.5), ns))
            fail_msg("%lld is told as %lld", (long long)ns, (long long)histogram_quantile(&h, 0.5));
    }
}

static void takes_what_is_out_of_range(void **state)
{
    static struct histogram h;
    struct histogram_summary s;
    (void)state;

    histogram_add(&h, -5);
    histogram_add(&h, 0);
    histogram_add(&h, INT64_MAX);
    histogram_add(&h, INT64_MAX);
    histogram_sum_up(&h, &s);
    assert_int_equal(s.count, 4);
    assert_int_equal(s.max_ns, INT64_MAX);
    assert_true(s.p50_ns < 1000 && s.p99_ns > INT64_C(1) << 39);
}

static void merges(void **state)
{
    static struct histogram a, b, both;
    struct histogram_summary s;
    (void)state;

    for (int i = 0; i < 100; i++) {
        histogram_add(&a, 1000);
        histogram_add(&b, 1000000);
    }
    histogram_merge(&both, &a);
    histogram_merge(&both, &b);
    histogram_sum_up(&both, &s);
    assert_int_equal(s.count, 200);
    assert_int_equal(s.max_ns, 1000000);
    assert_int_equal(s.mean_ns, 500500);
    assert_true(near(s.p50_ns, 1000) && near(s.p90_ns, 1000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_is_all_zero),
        cmocka_unit_test(quantiles_are_within_their_buckets),
        cmocka_unit_test(each_duration_lies_near_where_it_was),
        cmocka_unit_test(takes_what_is_out_of_range),
        cmocka_unit_test(merges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
