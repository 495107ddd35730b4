#include "kernel/access.h"

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"
#include "tests/support/check.h"

static void decrefp(json_t **json)
{
    json_decref(*json);
}

static json_t *parsed(const char *text)
{
    struct error err = ERROR_INIT;
    json_t *json = json_parse(text, strlen(text), &err);

    assert_ok(json, err);
    return json;
}

static const char rules_text[] =
    "[{\"agent\":\"guest\",\"tool\":\"terminal_*\",\"decision\":\"deny\"},"
    " {\"agent\":\"ci-*\",\"tool\":\"file_write\",\"decision\":\"deny\"},"
    " {\"group\":\"ops\",\"tool\":\"*\",\"decision\":\"allow\"},"
    " {\"tool\":\"computer_destroy\",\"decision\":\"deny\"},"
    " {\"agent\":\"nobody\",\"decision\":\"deny\"}]";

static void first_match_decides(void **state)
{
    static const struct {
        const char *agent, *group, *tool;
        enum access_decision want;
        const char *rule;
    } rows[] = {
        { "guest", NULL, "terminal_run", ACCESS_DENY, "rule 1: deny terminal_* for agent guest" },
        { "guest", "ops", "terminal_run", ACCESS_DENY, "rule 1: deny terminal_* for agent guest" },
        { "guest", NULL, "terminal_", ACCESS_DENY, "rule 1: deny terminal_* for agent guest" },
        { "guest", NULL, "terminal", ACCESS_ALLOW, "no rule" },
        { "guest2", NULL, "terminal_run", ACCESS_ALLOW, "no rule" },
        { "gues", NULL, "terminal_run", ACCESS_ALLOW, "no rule" },
        { "ci-7", NULL, "file_write", ACCESS_DENY, "rule 2: deny file_write for agent ci-*" },
        { "ci-7", NULL, "file_writer", ACCESS_ALLOW, "no rule" },
        { "ci", NULL, "file_write", ACCESS_ALLOW, "no rule" },
        { "a", "ops", "computer_destroy", ACCESS_ALLOW, "rule 3: allow * in group ops" },
        { "a", "op", "computer_destroy", ACCESS_DENY, "rule 4: deny computer_destroy" },
        { "a", NULL, "computer_destroy", ACCESS_DENY, "rule 4: deny computer_destroy" },
        { "nobody", NULL, "file_read", ACCESS_DENY, "rule 5: deny * for agent nobody" },
        { "a", NULL, "file_read", ACCESS_ALLOW, "no rule" },
    };
    CLEANUP(decrefp) json_t *json = parsed(rules_text);
    struct error err = ERROR_INIT;
    CLEANUP(access_freep) struct access *a = access_new(json, &err);
    (void)state;

    assert_ok(a, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(agent_unrefp) struct agent *agent = agent_new(rows[i].agent, rows[i].group, &err);
        struct access_verdict verdict;

        assert_ok(agent, err);
        access_check(a, agent, rows[i].tool, &verdict);
        if (verdict.decision != rows[i].want || strcmp(verdict.rule, rows[i].rule))
            fail_msg("%s uses %s: %s", rows[i].agent, rows[i].tool, verdict.rule);
    }
}

static void allows_without_rules(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(decrefp) json_t *empty = json_array();
    CLEANUP(agent_unrefp) struct agent *agent = agent_new("a", NULL, &err);
    json_t *rows[] = { NULL, empty };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(access_freep) struct access *a = access_new(rows[i], &err);
        struct access_verdict verdict;

        assert_ok(a, err);
        access_check(a, agent, "terminal_run", &verdict);
        assert_int_equal(verdict.decision, ACCESS_ALLOW);
        assert_string_equal(verdict.rule, "no rule");
    }
}

static void refuses_bad_rules_by_number(void **state)
{
    static const struct {
        const char *label, *text, *part;
    } rows[] = {
        { "not a list", "{}", "list" },
        { "no decision", "[{}]", "rule 1" },
        { "unknown decision", "[{\"decision\":\"allow\"},{\"decision\":\"maybe\"}]", "rule 2" },
        { "not an object", "[3]", "rule 1" },
        { "star in the middle", "[{\"tool\":\"a*b\",\"decision\":\"deny\"}]", "not at the end" },
        { "two stars", "[{\"tool\":\"a**\",\"decision\":\"deny\"}]", "not at the end" },
        { "empty pattern", "[{\"agent\":\"\",\"decision\":\"deny\"}]", "agent is not" },
        { "number as pattern", "[{\"group\":1,\"decision\":\"deny\"}]", "group is not" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(decrefp) json_t *json = parsed(rows[i].text);
        struct error err = ERROR_INIT;
        CLEANUP(access_freep) struct access *a = access_new(json, &err);

        if (a || err.code != ERR_INVALID || !strstr(err.text, rows[i].part))
            fail_msg("%s: %s", rows[i].label, err.text);
    }
}

static void describes_long_patterns_within_its_bound(void **state)
{
    char name[200];
    struct error err = ERROR_INIT;
    struct access_verdict verdict;
    (void)state;

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    {
        CLEANUP(decrefp)
        json_t *json = json_pack("[{s:s,s:s}]", "tool", name, "decision", "deny");
        CLEANUP(access_freep) struct access *a = access_new(json, &err);
        CLEANUP(agent_unrefp) struct agent *agent = agent_new("a", NULL, &err);

        assert_ok(a, err);
        access_check(a, agent, name, &verdict);
        assert_int_equal(verdict.decision, ACCESS_DENY);
        assert_true(strlen(verdict.rule) < sizeof verdict.rule);
    }
}

static void survives_every_allocation_failure(void **state)
{
    CLEANUP(decrefp) json_t *json = parsed(rules_text);
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(access_freep) struct access *a = access_new(json, &err);

        FAULT_DONE(n);
        if (!a)
            assert_code(err, ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_match_decides),
        cmocka_unit_test(allows_without_rules),
        cmocka_unit_test(refuses_bad_rules_by_number),
        cmocka_unit_test(describes_long_patterns_within_its_bound),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
