#include "kernel/llm_account.h"

#include <pthread.h>
#include <stdio.h>

#include "tests/support/check.h"

static void counts_each_agent_apart(void **state)
{
    struct error err = ERROR_INIT;
    struct llm_accounts *a = llm_accounts_new(0, &err);
    struct llm_usage usage;
    uint64_t reserved;
    int64_t output = 0;
    (void)state;

    assert_ok(a, err);
    for (int i = 0; i < 3; i++) {
        assert_ok(llm_account_reserve(a, "one", 10, &output, &reserved, &err), err);
        assert_false(llm_account_settle(a, "one", reserved, 10, 5, 0.25, i == 1));
    }
    assert_int_equal(output, 0); /* no budget, no bound */
    llm_account_usage(a, "one", &usage);
    assert_int_equal(usage.calls, 3);
    assert_int_equal(usage.failures, 1);
    assert_int_equal(usage.input_tokens, 30);
    assert_int_equal(usage.output_tokens, 15);
    assert_true(usage.cost > 0.74 && usage.cost < 0.76);
    llm_account_usage(a, "two", &usage);
    assert_int_equal(usage.calls, 0);
    llm_accounts_free(a);
}

static void says_what_is_left_of_a_budget(void **state)
{
    struct error err = ERROR_INIT;
    struct llm_accounts *a = llm_accounts_new(1000, &err);
    uint64_t reserved, other;
    int64_t output = 2000;
    (void)state;

    assert_ok(a, err);
    assert_ok(llm_account_reserve(a, "x", 100, &output, &reserved, &err), err);
    assert_int_equal(output, 900); /* an answer may be no longer */
    output = 10;
    assert_false(llm_account_reserve(a, "x", 1, &output, &other, &err));
    assert_code(err, ERR_LIMIT);
    assert_contains(err.text, "agent x has 0 of its 1000 tokens left beside its questions under");
    assert_contains(err.text, "llm.budget_tokens");
    error_clear(&err);
    assert_false(llm_account_settle(a, "x", reserved, 100, 300, 0, false));
    output = 0;
    assert_ok(llm_account_reserve(a, "x", 200, &output, &reserved, &err), err);
    assert_int_equal(output, 400);
    assert_true(llm_account_settle(a, "x", reserved, 200, 450, 0, false)); /* it took more */
    assert_false(llm_account_reserve(a, "x", 1, &output, &reserved, &err));
    assert_contains(err.text, "has 0 of its 1000");
    error_clear(&err);
    output = 0;
    assert_ok(llm_account_reserve(a, "y", 1, &output, &reserved, &err), err);
    llm_account_settle(a, "y", reserved, 0, 0, 0, true);
    llm_accounts_free(a);
}

static void bounds_how_many_agents_it_knows(void **state)
{
    struct error err = ERROR_INIT;
    struct llm_accounts *a = llm_accounts_new(0, &err);
    uint64_t reserved;
    int64_t output = 0;
    char name[32];
    (void)state;

    assert_ok(a, err);
    for (unsigned i = 0; i < LLM_AGENTS_MAX; i++) {
        (void)snprintf(name, sizeof name, "agent%u", i);
        assert_ok(llm_account_reserve(a, name, 1, &output, &reserved, &err), err);
    }
    assert_false(llm_account_reserve(a, "one more", 1, &output, &reserved, &err));
    assert_code(err, ERR_LIMIT);
    llm_accounts_free(a);
}

#define THREADS 8
#define ROUNDS  500
#define BUDGET  4000u

static void *spend(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t reserved;
        int64_t output = 10;

        if (llm_account_reserve(arg, "x", 5, &output, &reserved, NULL))
            llm_account_settle(arg, "x", reserved, 5, (uint64_t)output, 0.5, false);
    }
    return NULL;
}

static void keeps_the_budget_with_many_at_once(void **state)
{
    struct error err = ERROR_INIT;
    struct llm_accounts *a = llm_accounts_new(BUDGET, &err);
    struct llm_usage usage;
    pthread_t threads[THREADS];
    (void)state;

    assert_ok(a, err);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, spend, a), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    llm_account_usage(a, "x", &usage);
    assert_true(usage.input_tokens + usage.output_tokens <= BUDGET);
    assert_true(usage.input_tokens + usage.output_tokens > BUDGET - 20);
    llm_accounts_free(a);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_each_agent_apart),
        cmocka_unit_test(says_what_is_left_of_a_budget),
        cmocka_unit_test(bounds_how_many_agents_it_knows),
        cmocka_unit_test(keeps_the_budget_with_many_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
