#include "kernel/access_quota.h"

#include <stdio.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "tests/support/check.h"

static void decrefp(json_t **json)
{
    json_decref(*json);
}

static struct access_quota *quota_of(const char *text)
{
    struct error err = ERROR_INIT;
    json_t *json = json_parse(text, strlen(text), &err);
    struct access_quota *q;

    assert_ok(json, err);
    q = access_quota_new(json, &err);
    assert_ok(q, err);
    json_decref(json);
    return q;
}

static struct agent *agent_of(const char *name, const char *group)
{
    struct error err = ERROR_INIT;
    struct agent *a = agent_new(name, group, &err);

    assert_ok(a, err);
    return a;
}

/* Takes one at @now_ns; "" or the text of the refusal. */
static const char *take(struct access_quota *q, struct agent *a, int64_t now_ns)
{
    static struct error err;
    const char *rule = "";

    err = (struct error)ERROR_INIT;
    if (access_quota_take(q, a, now_ns, &rule, &err))
        return "";
    assert_code(err, ERR_LIMIT);
    assert_contains(err.text, rule);
    return err.text;
}

static void bounds_calls_in_flight(void **state)
{
    CLEANUP(access_quota_freep)
    struct access_quota *q = quota_of("[{\"agent\":\"a*\",\"max_in_flight\":2}]");
    CLEANUP(agent_unrefp) struct agent *a = agent_of("a1", NULL), *b = agent_of("a2", NULL);
    CLEANUP(agent_unrefp) struct agent *free_one = agent_of("b", NULL);
    (void)state;

    assert_string_equal(take(q, a, 0), "");
    assert_string_equal(take(q, a, 0), "");
    assert_contains(take(q, a, 0), "agent a1 has 2 calls in flight");
    assert_contains(take(q, a, 0), "(quota 1: 2 calls at once); call again when one");
    assert_string_equal(take(q, b, 0), ""); /* each has its own */
    for (int i = 0; i < 100; i++)
        assert_string_equal(take(q, free_one, 0), "");
    access_quota_give(q, a);
    assert_string_equal(take(q, a, 0), "");
    assert_contains(take(q, a, 0), "in flight");
}

static void bounds_calls_per_minute_and_says_when_to_come_again(void **state)
{
    CLEANUP(access_quota_freep) struct access_quota *q = quota_of("[{\"calls_per_minute\":6}]");
    CLEANUP(agent_unrefp) struct agent *a = agent_of("a", NULL);
    int64_t now = 1000 * CLOCK_NS_PER_S;
    (void)state;

    for (int i = 0; i < 6; i++)
        assert_string_equal(take(q, a, now), "");
    assert_contains(take(q, a, now), "(quota 1: 6 calls a minute); call again in 10000 ms");
    now += 4 * CLOCK_NS_PER_S;
    assert_contains(take(q, a, now), "in 6000 ms");
    now += 6 * CLOCK_NS_PER_S;
    assert_string_equal(take(q, a, now), "");
    assert_contains(take(q, a, now), "in 10000 ms");
    now += 3600 * CLOCK_NS_PER_S; /* what is not used is not saved up */
    for (int i = 0; i < 6; i++)
        assert_string_equal(take(q, a, now), "");
    assert_contains(take(q, a, now), "in 10000 ms");
}

static void the_first_that_matches_holds(void **state)
{
    CLEANUP(access_quota_freep)
    struct access_quota *q = quota_of("[{\"agent\":\"boss\"},"
                                      " {\"group\":\"ops\",\"max_in_flight\":3},"
                                      " {\"max_in_flight\":1}]");
    CLEANUP(agent_unrefp) struct agent *boss = agent_of("boss", "ops"), *op = agent_of("x", "ops");
    CLEANUP(agent_unrefp) struct agent *other = agent_of("y", NULL);
    (void)state;

    for (int i = 0; i < 50; i++)
        assert_string_equal(take(q, boss, 0), "");
    for (int i = 0; i < 3; i++)
        assert_string_equal(take(q, op, 0), "");
    assert_contains(take(q, op, 0), "quota 2");
    assert_string_equal(take(q, other, 0), "");
    assert_contains(take(q, other, 0), "quota 3");
}

static void thousands_of_agents_keep_their_own_accounts(void **state)
{
    enum { AGENTS = 3000 };
    CLEANUP(access_quota_freep) struct access_quota *q = quota_of("[{\"max_in_flight\":1}]");
    struct agent **agents = calloc(AGENTS, sizeof(struct agent *));
    (void)state;

    assert_non_null(agents);
    for (int i = 0; i < AGENTS; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "agent-%d", i);
        agents[i] = agent_of(name, NULL);
        assert_string_equal(take(q, agents[i], 0), "");
    }
    for (int i = 0; i < AGENTS; i++)
        assert_contains(take(q, agents[i], 0), "in flight");
    for (int i = 0; i < AGENTS; i += 2)
        access_quota_give(q, agents[i]);
    for (int i = 0; i < AGENTS; i++)
        assert_int_equal(take(q, agents[i], 0)[0] == '\0', i % 2 == 0);
    for (int i = 0; i < AGENTS; i++)
        agent_unref(agents[i]);
    free(agents);
}

/* Names that are met once and never again must not add up. */
static void forgets_who_has_nothing_to_the_account(void **state)
{
    CLEANUP(access_quota_freep) struct access_quota *q = quota_of("[{\"max_in_flight\":1}]");
    (void)state;

    for (int i = 0; i < 20000; i++) {
        char name[32];
        CLEANUP(agent_unrefp) struct agent *a = NULL;

        (void)snprintf(name, sizeof name, "passer-%d", i);
        a = agent_of(name, NULL);
        assert_string_equal(take(q, a, i), "");
        access_quota_give(q, a);
    }
    assert_true(access_quota_places(q) <= 64);
}

static void without_quotas_nothing_is_counted(void **state)
{
    CLEANUP(agent_unrefp) struct agent *a = agent_of("a", NULL);
    struct error err = ERROR_INIT;
    CLEANUP(access_quota_freep) struct access_quota *q = access_quota_new(NULL, &err);
    const char *rule;
    (void)state;

    assert_ok(q, err);
    fault_arm(0);
    assert_true(access_quota_take(q, a, 0, &rule, &err));
    access_quota_give(q, a);
    assert_false(fault_disarm());
}

static void refuses_bad_quotas_by_number(void **state)
{
    static const struct {
        const char *text, *part;
    } rows[] = {
        { "{}", "are a list" },
        { "[{},7]", "access quota 2: it is not an object" },
        { "[{\"max_in_flight\":-1}]", "access quota 1: a number is out of range" },
        { "[{\"calls_per_minute\":99999999999999}]", "access quota 1" },
        { "[{\"agent\":\"\"}]", "access quota 1: agent is not a pattern" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(decrefp) json_t *json = json_parse(rows[i].text, strlen(rows[i].text), NULL);
        struct error err = ERROR_INIT;

        assert_null(access_quota_new(json, &err));
        assert_code(err, ERR_INVALID);
        assert_contains(err.text, rows[i].part);
    }
}

static void survives_every_allocation_failure(void **state)
{
    CLEANUP(decrefp)
    json_t *json = json_pack("[{s:s,s:i},{s:s}]", "agent", "a*", "max_in_flight", 1, "role", "r");
    CLEANUP(agent_unrefp) struct agent *a = agent_of("a", NULL);
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(access_quota_freep) struct access_quota *q = access_quota_new(json, &err);
        const char *rule;
        bool taken = q && access_quota_take(q, a, 0, &rule, &err);

        FAULT_DONE(n);
        if (!taken)
            assert_code(err, ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_calls_in_flight),
        cmocka_unit_test(bounds_calls_per_minute_and_says_when_to_come_again),
        cmocka_unit_test(the_first_that_matches_holds),
        cmocka_unit_test(thousands_of_agents_keep_their_own_accounts),
        cmocka_unit_test(forgets_who_has_nothing_to_the_account),
        cmocka_unit_test(without_quotas_nothing_is_counted),
        cmocka_unit_test(refuses_bad_quotas_by_number),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
