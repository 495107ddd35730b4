#include "kernel/agent.h"

#include "tests/support/check.h"

static void checks_names(void **state)
{
    static const char long_name[] =
        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz123456789012"; /* 64 */
    static const char too_long[] =
        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz1234567890123";
    static const struct {
        const char *label, *name, *group;
        bool ok;
    } rows[] = {
        { "plain", "default", NULL, true },
        { "every kind of character", "aZ09_.-", "team-1", true },
        { "empty group is none", "a", "", true },
        { "the longest", long_name, long_name, true },
        { "too long", too_long, NULL, false },
        { "empty", "", NULL, false },
        { "space", "a b", NULL, false },
        { "slash", "a/b", NULL, false },
        { "not ASCII", "\xc3\xa4", NULL, false },
        { "newline", "a\n", NULL, false },
        { "bad group", "a", "*", false },
        { "group too long", "a", too_long, false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        CLEANUP(agent_unrefp) struct agent *a = agent_new(rows[i].name, rows[i].group, &err);

        if ((a != NULL) != rows[i].ok || (!a && err.code != ERR_INVALID))
            fail_msg("%s: %s", rows[i].label, err.text);
        if (a) {
            assert_string_equal(agent_name(a), rows[i].name);
            assert_string_equal(agent_group(a), rows[i].group ? rows[i].group : "");
            assert_int_equal(agent_state(a), AGENT_CREATED);
        }
    }
}

static void changes_only_along_its_steps(void **state)
{
    static const struct {
        enum agent_state way[4]; /* from AGENT_CREATED; ends at the first AGENT_CREATED */
        enum agent_state to;
        bool ok;
    } rows[] = {
        { { AGENT_CREATED }, AGENT_READY, true },
        { { AGENT_CREATED }, AGENT_RUNNING, false },
        { { AGENT_CREATED }, AGENT_CREATED, false },
        { { AGENT_CREATED }, AGENT_ENDED, true },
        { { AGENT_READY }, AGENT_RUNNING, true },
        { { AGENT_READY }, AGENT_WAITING, false },
        { { AGENT_READY }, AGENT_CREATED, false },
        { { AGENT_READY, AGENT_RUNNING }, AGENT_WAITING, true },
        { { AGENT_READY, AGENT_RUNNING, AGENT_WAITING }, AGENT_RUNNING, true },
        { { AGENT_READY, AGENT_SUSPENDED }, AGENT_READY, true },
        { { AGENT_READY, AGENT_SUSPENDED }, AGENT_RUNNING, false },
        { { AGENT_READY, AGENT_ENDED }, AGENT_READY, false },
        { { AGENT_READY, AGENT_ENDED }, AGENT_FAILED, false },
        { { AGENT_FAILED }, AGENT_READY, false },
        { { AGENT_CREATED }, AGENT_STATE_COUNT, false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        CLEANUP(agent_unrefp) struct agent *a = agent_new("a", NULL, &err);
        enum agent_state before;

        assert_ok(a, err);
        for (size_t j = 0; j < 4 && rows[i].way[j] != AGENT_CREATED; j++)
            assert_true(agent_change(a, rows[i].way[j]));
        before = agent_state(a);
        if (agent_change(a, rows[i].to) != rows[i].ok ||
            agent_state(a) != (rows[i].ok ? rows[i].to : before))
            fail_msg("row %zu: %s to %s", i, agent_state_name(before),
                     agent_state_name(rows[i].to));
    }
}

static void names_every_state(void **state)
{
    (void)state;

    for (int i = 0; i < AGENT_STATE_COUNT; i++)
        assert_true(strlen(agent_state_name((enum agent_state)i)) > 4);
    assert_string_equal(agent_state_name(AGENT_STATE_COUNT), "unknown");
}

static void lives_as_long_as_its_last_reference(void **state)
{
    struct error err = ERROR_INIT;
    struct agent *a = agent_new("a", "g", &err);
    (void)state;

    assert_ok(a, err);
    assert_ptr_equal(agent_ref(a), a);
    agent_unref(a);
    assert_string_equal(agent_group(a), "g");
    agent_unref(a);
    agent_unref(NULL);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(agent_unrefp) struct agent *a = agent_new("a", NULL, &err);

        FAULT_DONE(n);
        if (!a)
            assert_code(err, ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_names),
        cmocka_unit_test(changes_only_along_its_steps),
        cmocka_unit_test(names_every_state),
        cmocka_unit_test(lives_as_long_as_its_last_reference),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
