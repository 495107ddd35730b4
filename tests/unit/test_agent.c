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

static struct agent *agent_in(enum agent_state state)
{
    struct error err = ERROR_INIT;
    struct agent *a = agent_new("a", NULL, &err);

    assert_ok(a, err);
    if (state != AGENT_CREATED)
        assert_true(agent_change(a, AGENT_READY));
    if (state == AGENT_RUNNING || state == AGENT_WAITING)
        agent_call_begun(a, 1);
    if (state == AGENT_RUNNING)
        agent_call_taken(a);
    if (state == AGENT_SUSPENDED || state == AGENT_ENDED || state == AGENT_FAILED)
        assert_true(agent_change(a, state));
    assert_int_equal(agent_state(a), state);
    return a;
}

/* Every pair of states: what is not here is refused, and changes nothing. */
static void changes_only_along_its_steps(void **state)
{
    static const bool steps[AGENT_STATE_COUNT][AGENT_STATE_COUNT] = {
        [AGENT_CREATED] = { [AGENT_READY] = true, [AGENT_ENDED] = true, [AGENT_FAILED] = true },
        [AGENT_READY] = { [AGENT_SUSPENDED] = true, [AGENT_ENDED] = true, [AGENT_FAILED] = true },
        [AGENT_RUNNING] = { [AGENT_SUSPENDED] = true, [AGENT_ENDED] = true, [AGENT_FAILED] = true },
        [AGENT_WAITING] = { [AGENT_SUSPENDED] = true, [AGENT_ENDED] = true, [AGENT_FAILED] = true },
        [AGENT_SUSPENDED] = { [AGENT_READY] = true, [AGENT_ENDED] = true, [AGENT_FAILED] = true },
    };
    (void)state;

    for (int from = 0; from < AGENT_STATE_COUNT; from++) {
        for (int to = 0; to <= AGENT_STATE_COUNT; to++) {
            CLEANUP(agent_unrefp) struct agent *a = agent_in((enum agent_state)from);
            bool want = to < AGENT_STATE_COUNT && steps[from][to];

            if (agent_change(a, (enum agent_state)to) != want ||
                agent_state(a) != (enum agent_state)(want ? to : from))
                fail_msg("%s to %s", agent_state_name((enum agent_state)from),
                         agent_state_name((enum agent_state)to));
        }
    }
}

static void its_calls_make_it_wait_and_run(void **state)
{
    CLEANUP(agent_unrefp) struct agent *a = agent_in(AGENT_READY);
    (void)state;

    assert_int_equal(agent_active_ns(a), 0);
    agent_call_begun(a, 100);
    assert_int_equal(agent_state(a), AGENT_WAITING);
    agent_call_begun(a, 200);
    assert_int_equal(agent_calls_under_way(a), 2);
    agent_call_taken(a);
    assert_int_equal(agent_state(a), AGENT_RUNNING);
    agent_call_put(a);
    assert_int_equal(agent_state(a), AGENT_WAITING);
    agent_call_done(a, 300);
    assert_int_equal(agent_state(a), AGENT_WAITING);
    /* suspended, and what is under way goes on to its end */
    assert_true(agent_change(a, AGENT_SUSPENDED));
    agent_call_taken(a);
    assert_int_equal(agent_state(a), AGENT_SUSPENDED);
    agent_call_put(a);
    agent_call_done(a, 400);
    assert_true(agent_change(a, AGENT_READY));
    assert_int_equal(agent_state(a), AGENT_READY);
    assert_int_equal(agent_active_ns(a), 400);
}

static void only_a_live_one_may_call(void **state)
{
    static const struct {
        enum agent_state state;
        enum error_code want;
        const char *part;
    } rows[] = {
        { AGENT_CREATED, ERR_DENIED, "not been started" },
        { AGENT_READY, ERR_NONE, "" },
        { AGENT_RUNNING, ERR_NONE, "" },
        { AGENT_WAITING, ERR_NONE, "" },
        { AGENT_SUSPENDED, ERR_BUSY, "suspended" },
        { AGENT_ENDED, ERR_DENIED, "ended" },
        { AGENT_FAILED, ERR_DENIED, "failed" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(agent_unrefp) struct agent *a = agent_in(rows[i].state);
        struct error err = ERROR_INIT;

        if (agent_may_call(a, &err) != (rows[i].want == ERR_NONE) || err.code != rows[i].want ||
            !strstr(err.text, rows[i].part))
            fail_msg("%s: %s", agent_state_name(rows[i].state), err.text);
    }
}

static void keeps_what_it_was_made_with(void **state)
{
    static const char *const roles[] = { "reader", "writer", NULL };
    struct agent *parent = agent_in(AGENT_READY);
    const struct agent_spec spec = { .name = "child",
                                     .group = "team",
                                     .parent = parent,
                                     .roles = roles,
                                     .quota = { .computers = 2, .tokens = 1000 },
                                     .weight = 5 };
    struct error err = ERROR_INIT;
    CLEANUP(agent_unrefp) struct agent *a = agent_new_with(&spec, &err);
    (void)state;

    assert_ok(a, err);
    agent_unref(parent); /* the child holds it */
    assert_string_equal(agent_name(agent_parent(a)), "a");
    assert_null(agent_parent(agent_parent(a)));
    assert_string_equal(agent_group(a), "team");
    assert_int_equal(agent_role_count(a), 2);
    assert_string_equal(agent_role(a, 1), "writer");
    assert_true(agent_has_role(a, "reader"));
    assert_false(agent_has_role(a, "read"));
    assert_int_equal(agent_quota(a)->computers, 2);
    assert_int_equal(agent_quota(a)->tokens, 1000);
    assert_int_equal(agent_quota(a)->storage_bytes, 0);
    assert_int_equal(agent_weight(a), 5);
    assert_int_equal(agent_weight(agent_parent(a)), 1);
}

static void refuses_what_it_cannot_be(void **state)
{
    static const char *const bad_role[] = { "a b", NULL };
    static const char *many[AGENT_ROLES_MAX + 2];
    static const struct {
        const char *label;
        struct agent_spec spec;
        enum error_code want;
    } rows[] = {
        { "weight too large", { .name = "a", .weight = AGENT_WEIGHT_MAX + 1 }, ERR_INVALID },
        { "weight below", { .name = "a", .weight = -1 }, ERR_INVALID },
        { "a role that is no word", { .name = "a", .roles = bad_role }, ERR_INVALID },
        { "too many roles", { .name = "a", .roles = many }, ERR_LIMIT },
    };
    (void)state;

    for (size_t i = 0; i <= AGENT_ROLES_MAX; i++)
        many[i] = "role";
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        if (agent_new_with(&rows[i].spec, &err) || err.code != rows[i].want)
            fail_msg("%s: %s", rows[i].label, err.text);
    }
}

static void a_long_line_of_ancestors_goes_with_the_last(void **state)
{
    struct agent *a = NULL;
    (void)state;

    for (int i = 0; i < 100000; i++) {
        const struct agent_spec spec = { .name = "a", .parent = a };
        struct agent *next = agent_new_with(&spec, NULL);

        assert_non_null(next);
        agent_unref(a);
        a = next;
    }
    agent_unref(a);
}

static void counts_what_it_used(void **state)
{
    CLEANUP(agent_unrefp) struct agent *a = agent_in(AGENT_READY);
    (void)state;

    for (int i = 0; i < AGENT_USE_COUNT; i++) {
        assert_int_equal(agent_used(a, (enum agent_use)i), 0);
        agent_add_use(a, (enum agent_use)i, i + 1);
        agent_add_use(a, (enum agent_use)i, 10);
        assert_int_equal(agent_used(a, (enum agent_use)i), i + 11);
        assert_true(strlen(agent_use_name((enum agent_use)i)) > 4);
    }
    assert_string_equal(agent_use_name(AGENT_USE_COUNT), "unknown");
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
        cmocka_unit_test(its_calls_make_it_wait_and_run),
        cmocka_unit_test(only_a_live_one_may_call),
        cmocka_unit_test(keeps_what_it_was_made_with),
        cmocka_unit_test(refuses_what_it_cannot_be),
        cmocka_unit_test(a_long_line_of_ancestors_goes_with_the_last),
        cmocka_unit_test(counts_what_it_used),
        cmocka_unit_test(names_every_state),
        cmocka_unit_test(lives_as_long_as_its_last_reference),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
