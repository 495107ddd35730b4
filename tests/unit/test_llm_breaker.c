#include "kernel/llm_breaker.h"

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/base/clock.h"
#include "tests/support/check.h"

#define OPEN_NS (15 * CLOCK_NS_PER_S)

static bool enter(struct llm_breaker *b, int64_t now_ns, bool *ret_probe)
{
    int64_t left_ns;

    return llm_breaker_enter(b, now_ns, ret_probe, &left_ns);
}

static enum llm_breaker_state state_of(struct llm_breaker *b, int64_t now_ns)
{
    struct llm_breaker_info info;

    llm_breaker_info(b, now_ns, &info);
    return info.state;
}

static void opens_after_failures_in_a_row(void **state)
{
    struct llm_breaker b;
    bool probe;
    int64_t left_ns = -1;
    (void)state;

    llm_breaker_init(&b, 3, OPEN_NS);
    for (int i = 0; i < 2; i++) {
        assert_true(enter(&b, 0, &probe));
        assert_false(probe);
        assert_false(llm_breaker_failed(&b, probe, 0));
    }
    assert_true(enter(&b, 0, &probe));
    assert_false(llm_breaker_succeeded(&b, probe)); /* begins to count anew */
    for (int i = 0; i < 2; i++)
        assert_false(llm_breaker_failed(&b, false, 0));
    assert_true(llm_breaker_failed(&b, false, 100));
    assert_int_equal(state_of(&b, 100), LLM_BREAKER_OPEN);
    assert_false(llm_breaker_enter(&b, 100, &probe, &left_ns));
    assert_int_equal(left_ns, OPEN_NS);
    assert_false(llm_breaker_failed(&b, false, 200)); /* one that was on its way */
    assert_false(enter(&b, 99 + OPEN_NS, &probe));
    llm_breaker_fini(&b);
}

static void lets_one_probe_decide(void **state)
{
    struct llm_breaker b;
    bool probe = false, other = false;
    int64_t left_ns = -1;
    (void)state;

    llm_breaker_init(&b, 1, OPEN_NS);
    assert_true(llm_breaker_failed(&b, false, 0));
    assert_int_equal(state_of(&b, OPEN_NS), LLM_BREAKER_HALF_OPEN);
    assert_true(enter(&b, OPEN_NS, &probe));
    assert_true(probe);
    assert_false(llm_breaker_enter(&b, OPEN_NS, &other, &left_ns));
    assert_int_equal(left_ns, 0);
    assert_true(llm_breaker_failed(&b, probe, OPEN_NS)); /* open again, as long as before */
    assert_false(enter(&b, 2 * OPEN_NS - 1, &probe));
    assert_true(enter(&b, 2 * OPEN_NS, &probe));
    assert_false(llm_breaker_succeeded(&b, false)); /* an old one's success closes nothing */
    assert_false(enter(&b, 2 * OPEN_NS, &other));
    llm_breaker_unknown(&b, probe); /* cancelled: the next one is the probe */
    assert_true(enter(&b, 2 * OPEN_NS, &probe));
    assert_true(probe);
    assert_true(llm_breaker_succeeded(&b, probe));
    assert_int_equal(state_of(&b, 2 * OPEN_NS), LLM_BREAKER_CLOSED);
    assert_true(enter(&b, 2 * OPEN_NS, &probe));
    assert_false(probe);
    llm_breaker_fini(&b);
}

struct race {
    struct llm_breaker *b;
    pthread_barrier_t *start;
    atomic_int entered;
};

static void *race(void *arg)
{
    struct race *r = arg;
    bool probe;

    pthread_barrier_wait(r->start);
    if (enter(r->b, OPEN_NS, &probe))
        r->entered++;
    return NULL;
}

static void lets_one_of_many_threads_probe(void **state)
{
    struct llm_breaker b;
    pthread_barrier_t start;
    struct race r = { .b = &b, .start = &start };
    pthread_t threads[8];
    (void)state;

    llm_breaker_init(&b, 1, OPEN_NS);
    assert_true(llm_breaker_failed(&b, false, 0));
    pthread_barrier_init(&start, NULL, ARRAY_LEN(threads));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &r), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(r.entered, 1);
    pthread_barrier_destroy(&start);
    llm_breaker_fini(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_after_failures_in_a_row),
        cmocka_unit_test(lets_one_probe_decide),
        cmocka_unit_test(lets_one_of_many_threads_probe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
