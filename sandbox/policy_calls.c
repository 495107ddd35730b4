#include "sandbox/policy.h"

#include <errno.h>

#include "kernel/base/attr.h"

/* rules_N[] and calls[], sorted by number: written by seccomp_gen from policy.c. */
#include "sandbox/policy_calls.inc"

const struct policy_call *policy_calls(size_t *ret_count)
{
    *ret_count = ARRAY_LEN(calls);
    return calls;
}

const struct policy_call *policy_find(int number)
{
    size_t low = 0, high = ARRAY_LEN(calls);

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (calls[mid].number == number)
            return &calls[mid];
        if (calls[mid].number < number)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

static bool holds(const struct policy_test *test, const uint64_t *args)
{
    uint32_t value = (uint32_t)args[test->arg];

    switch (test->op) {
    case POLICY_ALWAYS:
        return true;
    case POLICY_EQ:
        return (value & test->a) == test->b;
    case POLICY_NE:
        return (value & test->a) != test->b;
    case POLICY_ANY:
        return (value & test->a) != 0;
    case POLICY_RANGE:
        return value >= test->a && value <= test->b;
    }
    return false;
}

static bool applies(const struct policy_rule *rule, const uint64_t *args)
{
    for (size_t i = 0; i < POLICY_TESTS_MAX; i++)
        if (!holds(&rule->tests[i], args))
            return false;
    return true;
}

struct policy_verdict policy_decide(const struct policy_call *call, const uint64_t *args)
{
    if (!call)
        return (struct policy_verdict){ POLICY_FAIL, ENOSYS };
    for (size_t i = 0; i < call->rule_count; i++)
        if (applies(&call->rules[i], args))
            return (struct policy_verdict){ call->rules[i].action, call->rules[i].error };
    return (struct policy_verdict){ (enum policy_action)call->action, call->error };
}
