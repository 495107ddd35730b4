#include "kernel/access.h"

#include <stdio.h>

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
    CLEANUP(access_freep) struct access *a = access_new(json, NULL, &err);
    (void)state;

    assert_ok(a, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(agent_unrefp) struct agent *agent = agent_new(rows[i].agent, rows[i].group, &err);
        struct access_verdict verdict;

        assert_ok(agent, err);
        access_check(a, agent, rows[i].tool, NULL, &verdict);
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
        CLEANUP(access_freep) struct access *a = access_new(rows[i], NULL, &err);
        struct access_verdict verdict;

        assert_ok(a, err);
        access_check(a, agent, "terminal_run", NULL, &verdict);
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
        { "a lone backslash", "[{\"tool\":\"a\\\\b\",\"decision\":\"deny\"}]", "rule 1: tool" },
        { "arguments", "[{\"decision\":\"ask\"},{\"args\":{\"path\":7},\"decision\":\"deny\"}]",
          "rule 2: args.path is not" },
        { "arguments in a list", "[{\"args\":[],\"decision\":\"deny\"}]", "rule 1: args" },
        { "empty pattern", "[{\"agent\":\"\",\"decision\":\"deny\"}]", "agent is not" },
        { "number as pattern", "[{\"group\":1,\"decision\":\"deny\"}]", "group is not" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(decrefp) json_t *json = parsed(rows[i].text);
        struct error err = ERROR_INIT;
        CLEANUP(access_freep) struct access *a = access_new(json, NULL, &err);

        if (a || err.code != ERR_INVALID || !strstr(err.text, rows[i].part))
            fail_msg("%s: %s", rows[i].label, err.text);
    }
}

static void rules_look_at_arguments(void **state)
{
    static const char text[] =
        "[{\"tool\":\"terminal_run\",\"args\":{\"command\":\"*rm -rf*\"},\"decision\":\"deny\"},"
        " {\"tool\":\"file_*\",\"args\":{\"path\":\"/workspace/*\"},\"decision\":\"allow\"},"
        " {\"tool\":\"file_*\",\"args\":{\"path\":\"/etc/*\"},\"decision\":\"ask\"},"
        " {\"tool\":\"file_*\",\"decision\":\"deny\"}]";
    static const struct {
        const char *tool, *args;
        enum access_decision want;
        const char *rule;
    } rows[] = {
        { "terminal_run", "{\"command\":\"rm -rf /\"}", ACCESS_DENY,
          "rule 1: deny terminal_run with command=*rm -rf*" },
        { "terminal_run", "{\"command\":\"ls\"}", ACCESS_ALLOW, "no rule" },
        { "file_read", "{\"path\":\"a\"}", ACCESS_ALLOW,
          "rule 2: allow file_* with path=/workspace/*" },
        { "file_read", "{\"path\":\"../etc/passwd\"}", ACCESS_ASK,
          "rule 3: ask file_* with path=/etc/*" },
        { "file_read", "{\"path\":\"/usr\"}", ACCESS_DENY, "rule 4: deny file_*" },
        { "file_list", "{}", ACCESS_DENY, "rule 4: deny file_*" },
    };
    CLEANUP(decrefp) json_t *json = parsed(text);
    struct error err = ERROR_INIT;
    CLEANUP(access_freep) struct access *a = access_new(json, NULL, &err);
    CLEANUP(agent_unrefp) struct agent *agent = agent_new("a", NULL, &err);
    (void)state;

    assert_ok(a, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(decrefp) json_t *args = parsed(rows[i].args);
        struct access_verdict verdict;

        access_check(a, agent, rows[i].tool, args, &verdict);
        if (verdict.decision != rows[i].want || strcmp(verdict.rule, rows[i].rule))
            fail_msg("%s %s: %s", rows[i].tool, rows[i].args, verdict.rule);
    }
}

/* What cannot be judged must not be let through by it. */
static void what_is_unsure_is_not_allowed(void **state)
{
    static char path[5000];
    CLEANUP(decrefp)
    json_t *json = parsed("[{\"args\":{\"path\":\"/work/*\"},\"decision\":\"allow\"},"
                          " {\"args\":{\"path\":\"/etc/*\"},\"decision\":\"deny\"}]");
    CLEANUP(decrefp) json_t *args = NULL;
    struct error err = ERROR_INIT;
    CLEANUP(access_freep) struct access *a = access_new(json, NULL, &err);
    CLEANUP(agent_unrefp) struct agent *agent = agent_new("a", NULL, &err);
    struct access_verdict verdict;
    (void)state;

    memset(path, 'x', sizeof path - 1);
    args = json_pack("{s:s}", "path", path);
    access_check(a, agent, "file_read", args, &verdict);
    assert_int_equal(verdict.decision, ACCESS_DENY);
    assert_int_equal(verdict.number, 2);
}

static void rules_look_at_roles(void **state)
{
    static const char *const roles[] = { "reader", "operator", NULL };
    CLEANUP(decrefp)
    json_t *json = parsed("[{\"role\":\"oper*\",\"tool\":\"x\",\"decision\":\"allow\"},"
                          " {\"tool\":\"x\",\"decision\":\"deny\"}]");
    struct error err = ERROR_INIT;
    CLEANUP(access_freep) struct access *a = access_new(json, NULL, &err);
    CLEANUP(agent_unrefp) struct agent *plain = agent_new("plain", NULL, &err);
    CLEANUP(agent_unrefp)
    struct agent *chief =
        agent_new_with(&(struct agent_spec){ .name = "op", .roles = roles }, &err);
    struct access_verdict verdict;
    (void)state;

    assert_ok(a && plain && chief, err);
    access_check(a, chief, "x", NULL, &verdict);
    assert_int_equal(verdict.decision, ACCESS_ALLOW);
    assert_string_equal(verdict.rule, "rule 1: allow x with role oper*");
    access_check(a, plain, "x", NULL, &verdict);
    assert_int_equal(verdict.decision, ACCESS_DENY);
}

static void an_answer_is_remembered_for_its_rule_agent_and_tool(void **state)
{
    CLEANUP(decrefp)
    json_t *json = parsed("[{\"tool\":\"file_*\",\"decision\":\"ask\"},{\"decision\":\"ask\"}]");
    struct error err = ERROR_INIT;
    CLEANUP(access_freep) struct access *a = access_new(json, NULL, &err);
    CLEANUP(agent_unrefp) struct agent *one = agent_new("one", NULL, &err);
    CLEANUP(agent_unrefp) struct agent *two = agent_new("two", NULL, &err);
    struct access_verdict verdict;
    (void)state;

    access_remember(a, 1, one, "file_read");
    access_remember(a, 1, one, "file_read");
    access_check(a, one, "file_read", NULL, &verdict);
    assert_int_equal(verdict.decision, ACCESS_ALLOW);
    assert_string_equal(verdict.rule, "rule 1, allowed before: ask file_*");
    access_check(a, one, "file_write", NULL, &verdict);
    assert_int_equal(verdict.decision, ACCESS_ASK);
    access_check(a, two, "file_read", NULL, &verdict);
    assert_int_equal(verdict.decision, ACCESS_ASK);
    access_check(a, one, "terminal_run", NULL, &verdict);
    assert_int_equal(verdict.number, 2);
    for (size_t i = 0; i < ACCESS_REMEMBER_MAX + 10; i++) {
        char tool[32];

        (void)snprintf(tool, sizeof tool, "file_%zu", i);
        access_remember(a, 1, two, tool);
    }
    access_forget(a, "one");
    access_check(a, one, "file_read", NULL, &verdict);
    assert_int_equal(verdict.decision, ACCESS_ASK);
    access_check(a, two, "file_1030", NULL, &verdict); /* no room for it: asked again */
    assert_int_equal(verdict.decision, ACCESS_ASK);
    access_check(a, two, "file_1000", NULL, &verdict);
    assert_int_equal(verdict.decision, ACCESS_ALLOW);
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
        CLEANUP(access_freep) struct access *a = access_new(json, NULL, &err);
        CLEANUP(agent_unrefp) struct agent *agent = agent_new("a", NULL, &err);

        assert_ok(a, err);
        access_check(a, agent, name, NULL, &verdict);
        assert_int_equal(verdict.decision, ACCESS_DENY);
        assert_true(strlen(verdict.rule) < ACCESS_RULE_BYTES);
    }
}

static void survives_every_allocation_failure(void **state)
{
    CLEANUP(decrefp)
    json_t *json = parsed("[{\"agent\":\"a\",\"group\":\"g\",\"role\":\"r\",\"tool\":\"t\","
                          "\"args\":{\"x\":\"y\",\"path\":\"z\"},\"decision\":\"ask\"}]");
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(access_freep) struct access *a = access_new(json, NULL, &err);

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
        cmocka_unit_test(rules_look_at_arguments),
        cmocka_unit_test(what_is_unsure_is_not_allowed),
        cmocka_unit_test(rules_look_at_roles),
        cmocka_unit_test(an_answer_is_remembered_for_its_rule_agent_and_tool),
        cmocka_unit_test(describes_long_patterns_within_its_bound),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
