#include "kernel/syscall.h"

#include "kernel/agent.h"
#include "kernel/base/json.h"
#include "kernel/base/utf8.h"
#include "tests/support/check.h"

struct greet_args {
    const char *name;
    int64_t times;
};

static const struct json_field greet_fields[] = {
    { "name", "Whom", JSON_KIND_STRING, true, offsetof(struct greet_args, name), 1, 20 },
    { "times", "How often", JSON_KIND_INT, false, offsetof(struct greet_args, times), 1, 9, 3 },
    { .name = NULL },
};

static bool nothing(struct tool_call *call, const void *args, struct error *err)
{
    (void)call;
    (void)args;
    (void)err;
    return true;
}

static const struct tool greet = { .name = "greet",
                                   .title = "Greet",
                                   .description = "Greets.",
                                   .fields = greet_fields,
                                   .args_size = sizeof(struct greet_args),
                                   .handler = nothing };
static const struct tool plain = {
    .name = "plain", .title = "Plain", .description = "Does nothing.", .handler = nothing
};

static struct agent *agent_of(const char *name)
{
    struct error err = ERROR_INIT;
    struct agent *a = agent_new(name, NULL, &err);

    assert_ok(a, err);
    return a;
}

static void reads_arguments_into_the_tools_struct(void **state)
{
    CLEANUP(agent_unrefp) struct agent *agent = agent_of("a");
    struct error err = ERROR_INIT;
    json_t *json = json_pack("{s:s}", "name", "Ada");
    CLEANUP(syscall_freep)
    struct syscall *sc = syscall_new(SYSCALL_TOOL, agent, &greet, json, &err);
    const struct greet_args *args;
    (void)state;

    json_decref(json); /* it keeps its own reference */
    assert_ok(sc, err);
    args = sc->args;
    assert_string_equal(args->name, "Ada");
    assert_int_equal(args->times, 3);
    assert_int_equal((uintptr_t)args % _Alignof(max_align_t), 0);
    assert_int_equal(sc->state, SYSCALL_CREATED);
    assert_int_equal(sc->result.count, 0);
    syscall_cancel(sc); /* not submitted: nothing happens */
    assert_false(cancel_raised(&sc->cancel));
}

static void says_what_to_send_instead(void **state)
{
    static const struct {
        const char *label, *json, *part;
    } rows[] = {
        { "missing", "{}", "name" },
        { "unknown", "{\"name\":\"x\",\"nmae\":1}", "nmae" },
        { "wrong type", "{\"name\":1}", "name" },
        { "out of range", "{\"name\":\"x\",\"times\":10}", "times" },
    };
    CLEANUP(agent_unrefp) struct agent *agent = agent_of("a");
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        json_t *json = json_parse(rows[i].json, strlen(rows[i].json), &err);
        struct syscall *sc = syscall_new(SYSCALL_TOOL, agent, &greet, json, &err);

        json_decref(json);
        if (sc || err.code != ERR_INVALID || !strstr(err.text, rows[i].part) ||
            strncmp(err.text, "greet: ", 7))
            fail_msg("%s: %s", rows[i].label, err.text);
    }
}

static void takes_no_arguments_where_there_are_none(void **state)
{
    CLEANUP(agent_unrefp) struct agent *agent = agent_of("a");
    struct error err = ERROR_INIT;
    CLEANUP(syscall_freep)
    struct syscall *sc = syscall_new(SYSCALL_TOOL, agent, &plain, NULL, &err);
    json_t *json = json_pack("{s:i}", "x", 1);
    (void)state;

    assert_ok(sc, err);
    assert_null(syscall_new(SYSCALL_TOOL, agent, &plain, json, &err));
    assert_code(err, ERR_INVALID);
    json_decref(json);
    syscall_free(NULL);
}

static void keeps_the_latest_note_cut_between_characters(void **state)
{
    CLEANUP(agent_unrefp) struct agent *agent = agent_of("a");
    struct error err = ERROR_INIT;
    CLEANUP(syscall_freep)
    struct syscall *sc = syscall_new(SYSCALL_TOOL, agent, &plain, NULL, &err);
    struct tool_call call = { .syscall = sc }, none = { .syscall = NULL };
    char text[301];
    (void)state;

    assert_ok(sc, err);
    tool_call_note(&none, "nobody listens");
    tool_call_note(&call, "%d of %d", 1, 2);
    tool_call_note(&call, "%d of %d", 2, 2);
    assert_string_equal(sc->note, "2 of 2");
    for (size_t i = 0; i < 300; i++)
        text[i] = "\xe2\x82\xac"[i % 3];
    text[300] = '\0';
    tool_call_note(&call, "%s", text);
    assert_true(strlen(sc->note) > 150 && utf8_valid(sc->note, strlen(sc->note)));
}

static void names_everything(void **state)
{
    (void)state;

    assert_string_equal(syscall_class_name(SYSCALL_TOOL), "tool");
    assert_string_equal(syscall_class_name(SYSCALL_LLM), "llm");
    assert_string_equal(syscall_class_name(SYSCALL_CLASS_COUNT), "unknown");
    assert_string_equal(syscall_state_name(SYSCALL_TIMED_OUT), "timed_out");
    assert_string_equal(syscall_state_name((enum syscall_state)99), "unknown");
}

static void survives_every_allocation_failure(void **state)
{
    CLEANUP(agent_unrefp) struct agent *agent = agent_of("a");
    json_t *json = json_pack("{s:s}", "name", "Ada");
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(syscall_freep)
        struct syscall *sc = syscall_new(SYSCALL_TOOL, agent, &greet, json, &err);

        FAULT_DONE(n);
        if (!sc)
            assert_code(err, ERR_NOMEM);
    }
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_arguments_into_the_tools_struct),
        cmocka_unit_test(says_what_to_send_instead),
        cmocka_unit_test(takes_no_arguments_where_there_are_none),
        cmocka_unit_test(keeps_the_latest_note_cut_between_characters),
        cmocka_unit_test(names_everything),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
