/* Planning and action of libaios: a conversation with a model that is played. */
#include "tests/unit/sdk_fake.h"

#define TOOLS        "[{\"name\":\"t\",\"description\":\"d\",\"parameters\":{}},{\"name\":\"u\"}]"
#define CALLS(calls) DATA("{\"text\":\"\",\"tool_calls\":[" calls "]}")
#define ONE_CALL     "{\"id\":\"c1\",\"name\":\"t\",\"arguments\":{\"x\":1}}"
#define SAID(text)   DATA("{\"text\":\"" text "\",\"finish\":\"stop\"}")

static struct aios_error err;
static const struct aios_plan_options options = { .system = "s", .tools = TOOLS, .model = "m" };

/* What it ends with, after the messages of the plan. */
static void assert_ends(const struct aios_plan *p, const char *end)
{
    char *messages = aios_plan_messages(p, &err);

    assert_sdk(messages, err);
    if (strlen(messages) < strlen(end) ||
        strcmp(messages + strlen(messages) - strlen(end), end) != 0)
        fail_msg("\"%s\" does not end with \"%s\"", messages, end);
    free(messages);
}

static void a_goal_is_pursued_until_nothing_is_wanted(void **state)
{
    struct aios *a = CONNECT({ CALLS(ONE_CALL) }, { TEXT("told") }, { SAID("done") });
    struct aios_plan *p = aios_plan_new(&options, &err);
    char *said;

    (void)state;
    assert_sdk(a && p, err);
    said = aios_pursue(a, p, "the goal", 5, NULL, NULL, &err);
    assert_sdk(said, err);
    assert_string_equal(said, "done");
    free(said);
    assert_ends(p, "[{\"role\":\"user\",\"content\":\"the goal\"},"
                   "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[" ONE_CALL "]},"
                   "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"told\"},"
                   "{\"role\":\"assistant\",\"content\":\"done\"}]");
    aios_plan_free(p);
    DISCONNECT(a);
    assert_contains(fake.lines[1], "\"system\":\"s\",\"model\":\"m\",\"data\":true");
    assert_contains(fake.lines[1], "\"tools\":" TOOLS);
    assert_contains(fake.lines[2], "\"name\":\"t\",\"arguments\":{\"x\":1}");
}

static bool never(void *arg, const char *tool, const char *arguments)
{
    *(int *)arg += strcmp(tool, "t") == 0 && strcmp(arguments, "{\"x\":1}") == 0;
    return false;
}

static void a_call_that_is_not_made_is_told_to_the_model(void **state)
{
    static const struct {
        const char *label, *calls;
        bool allow;
        const char *say; /* of the tool; NULL: it is not called */
        const char *end;
    } rows[] = {
        { "not allowed", CALLS(ONE_CALL), false, NULL,
          "\"content\":\"This call was not allowed. Do without it.\"}]" },
        { "not offered", CALLS("{\"id\":\"c\",\"name\":\"computer_destroy\",\"arguments\":{}}"),
          true, NULL, "\"content\":\"Error: there is no such tool here.\"}]" },
        { "refused", CALLS(ONE_CALL), true, ERROR("no such file"),
          "\"content\":\"Error: no such file\"}]" },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        struct aios_plan *p = aios_plan_new(&options, &err);
        struct aios *a = CONNECT({ rows[i].calls }, { rows[i].say });
        struct aios_step step;
        int asked = 0;

        assert_sdk(a && p, err);
        assert_sdk(aios_plan_say(p, "user", "go", &err), err);
        assert_sdk(aios_plan_next(a, p, &step, &err), err);
        assert_int_equal(step.call_count, 1);
        assert_sdk(aios_act(a, p, rows[i].allow ? NULL : never, &asked, &err), err);
        assert_int_equal(asked, !rows[i].allow);
        assert_ends(p, rows[i].end);
        aios_plan_free(p);
        DISCONNECT(a);
        assert_int_equal(fake.heard, rows[i].say ? 3 : 2);
    }
}

static void without_tools_none_is_called(void **state)
{
    struct aios *a = CONNECT({ CALLS(ONE_CALL) }, { SAID("so be it") });
    struct aios_plan *p = aios_plan_new(NULL, &err);
    char *said;

    (void)state;
    assert_sdk(a && p, err);
    said = aios_pursue(a, p, "g", 3, NULL, NULL, &err);
    assert_sdk(said, err);
    free(said);
    aios_plan_free(p);
    DISCONNECT(a);
    assert_int_equal(fake.heard, 3);
}

static void calls_are_made_in_order_and_can_be_seen(void **state)
{
    struct aios *a = CONNECT({ CALLS(ONE_CALL ",{\"id\":\"c2\",\"name\":\"u\",\"arguments\":{}}") },
                             { TEXT("1") }, { TEXT("2") });
    struct aios_plan *p = aios_plan_new(&options, &err);
    const char *tool, *arguments;
    struct aios_step step;

    (void)state;
    assert_sdk(a && p, err);
    assert_false(aios_plan_call(p, 0, &tool, &arguments));
    assert_sdk(aios_plan_say(p, "user", "go", &err), err);
    assert_sdk(aios_plan_next(a, p, &step, &err), err);
    assert_string_equal(step.text, "");
    assert_int_equal(step.call_count, 2);
    assert_true(aios_plan_call(p, 0, &tool, &arguments));
    assert_string_equal(tool, "t");
    assert_string_equal(arguments, "{\"x\":1}");
    assert_true(aios_plan_call(p, 1, &tool, &arguments));
    assert_string_equal(tool, "u");
    assert_false(aios_plan_call(p, 2, &tool, &arguments));
    assert_sdk(aios_act(a, p, NULL, NULL, &err), err);
    assert_false(aios_plan_call(p, 0, &tool, &arguments));
    assert_sdk(aios_act(a, p, NULL, NULL, &err), err); /* nothing is left to do */
    assert_ends(p, "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"1\"},"
                   "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"2\"}]");
    aios_plan_free(p);
    DISCONNECT(a);
}

static void steps_are_bounded(void **state)
{
    struct aios *a =
        CONNECT({ CALLS(ONE_CALL) }, { TEXT("1") }, { CALLS(ONE_CALL) }, { TEXT("2") });
    struct aios_plan *p = aios_plan_new(&options, &err);

    (void)state;
    assert_sdk(a && p, err);
    assert_failed(aios_pursue(a, p, "g", 2, NULL, NULL, &err), err, AIOS_REFUSED);
    assert_contains(err.text, "2 steps");
    aios_plan_free(p);
    DISCONNECT(a);
}

static void what_is_no_step_is_an_error(void **state)
{
    static const struct {
        const char *say;
        enum aios_code want;
    } rows[] = {
        { TEXT("words alone"), AIOS_PROTOCOL },
        { CALLS("7"), AIOS_PROTOCOL },
        { CALLS("{\"id\":\"c\",\"name\":\"t\"}"), AIOS_PROTOCOL },
        { CALLS("{\"id\":1,\"name\":\"t\",\"arguments\":{}}"), AIOS_PROTOCOL },
        { CALLS("{\"id\":\"c\",\"name\":\"t\",\"arguments\":\"{}\"}"), AIOS_PROTOCOL },
        { ERROR("no provider"), AIOS_REFUSED },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        struct aios *a = CONNECT({ rows[i].say });
        struct aios_plan *p = aios_plan_new(&options, &err);
        struct aios_step step;

        assert_sdk(a && p, err);
        assert_true(aios_plan_say(p, "user", "go", &err));
        assert_failed(aios_plan_next(a, p, &step, &err), err, rows[i].want);
        assert_ends(p, "[{\"role\":\"user\",\"content\":\"go\"}]");
        aios_plan_free(p);
        DISCONNECT(a);
    }
}

static void a_lost_connection_ends_the_pursuit(void **state)
{
    struct aios *a = CONNECT({ CALLS(ONE_CALL) }, { .hang_up = true });
    struct aios_plan *p = aios_plan_new(&options, &err);

    (void)state;
    assert_sdk(a && p, err);
    assert_failed(aios_pursue(a, p, "g", 5, NULL, NULL, &err), err, AIOS_LOST);
    aios_plan_free(p);
    DISCONNECT(a);
}

static void wrong_words_are_refused(void **state)
{
    const struct aios_plan_options bad = { .tools = "{}" };
    struct aios_plan *p = aios_plan_new(&options, &err);

    (void)state;
    assert_sdk(p, err);
    assert_failed(aios_plan_say(p, "tool", "x", &err), err, AIOS_INVALID);
    assert_failed(aios_plan_say(p, "user", "\xff", &err), err, AIOS_INVALID);
    assert_failed(aios_plan_new(&bad, &err), err, AIOS_INVALID);
    assert_true(aios_plan_say(p, "assistant", "x", &err));
    aios_plan_free(p);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (unsigned n = 0;; n++) {
        struct aios *a = CONNECT({ CALLS(ONE_CALL) }, { TEXT("told") }, { SAID("done") });
        struct aios_plan *p;
        char *said = NULL;
        bool met;

        assert_sdk(a, err);
        err.code = AIOS_OK;
        fault_arm(n);
        p = aios_plan_new(&options, &err);
        if (p)
            said = aios_pursue(a, p, "goal", 3, NULL, NULL, &err);
        met = fault_disarm();
        aios_plan_free(p);
        DISCONNECT(a);
        if (met && (said || !is_nomem(&err)))
            fail_msg("allocation %u: code %d: %s", n, (int)err.code, err.text);
        if (!met) {
            assert_sdk(said, err);
            free(said);
            return;
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_goal_is_pursued_until_nothing_is_wanted),
        cmocka_unit_test(a_call_that_is_not_made_is_told_to_the_model),
        cmocka_unit_test(without_tools_none_is_called),
        cmocka_unit_test(calls_are_made_in_order_and_can_be_seen),
        cmocka_unit_test(steps_are_bounded),
        cmocka_unit_test(what_is_no_step_is_an_error),
        cmocka_unit_test(a_lost_connection_ends_the_pursuit),
        cmocka_unit_test(wrong_words_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests_name("sdk_plan", tests, NULL, NULL);
}
