#include "tests/unit/kernel_place.h"

#include "kernel/access_ask.h"

/* A person who answers as the test says. */
struct person {
    enum error_code code; /* ERR_NONE: yes */
    bool remember;
    bool slow; /* until the call is cancelled */
    int asked;
    char message[6000];
    int64_t waits_ns; /* how long there was for an answer */
    json_t *schema;
};

static bool person_asked(void *arg, const char *message, const json_t *schema, json_t **ret_content,
                         const struct wait *w, struct error *err)
{
    struct person *person = arg;

    person->asked++;
    (void)snprintf(person->message, sizeof person->message, "%s", message);
    person->waits_ns = w->deadline_ns - clock_now_ns();
    json_decref(person->schema);
    person->schema = json_deep_copy(schema);
    if (person->slow)
        return wait_out(w, err);
    if (person->code != ERR_NONE)
        return error_set(err, person->code, "so it is");
    *ret_content = json_pack("{s:b}", "remember", person->remember);
    return true;
}

static const struct tool_peer peer = { .elicit = person_asked };
static const struct tool_peer mute; /* a front end that can ask nothing */

static json_t *rules_of(const char *text)
{
    struct error err = ERROR_INIT;
    json_t *rules = json_parse(text, strlen(text), &err);

    assert_ok(rules, err);
    return rules;
}

static const char ask_all[] = "[{\"tool\":\"*\",\"decision\":\"ask\"}]";

static struct syscall *submit_for(struct place *p, struct person *person, const struct tool *tool,
                                  const char *text)
{
    struct syscall *sc = call_of(p, tool, text);
    struct error err = ERROR_INIT;

    sc->peer = person ? &peer : NULL;
    sc->peer_arg = person;
    assert_ok(kernel_submit(p->k, sc, &err), err);
    return sc;
}

static void begin(struct place *p, json_t **rules, const char *text)
{
    *rules = rules_of(text);
    (void)place_new(p, 2, 16, *rules);
}

static void finish(struct place *p, json_t *rules, struct person *person)
{
    place_free(p);
    json_decref(rules);
    if (person)
        json_decref(person->schema);
}

static void runs_when_the_person_says_yes(void **state)
{
    static const struct tool *const tools[] = { &t_echo, &t_inline };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
        struct person person = { .code = ERR_NONE };
        struct place p;
        json_t *rules;

        begin(&p, &rules, ask_all);
        submit_for(&p, &person, tools[i], "hello");
        turn_until(&p, 1);
        assert_int_equal(p.last_state, SYSCALL_DONE);
        assert_string_equal(p.last_text, "hello");
        assert_int_equal(person.asked, 1);
        assert_seen(0, AUDIT_DECISION, tools[i]->name, "ask");
        assert_string_equal(seen[0].rule, "rule 1: ask *");
        assert_contains(seen[0].detail, "hello");
        assert_seen(1, AUDIT_DECISION, tools[i]->name, "allow");
        assert_string_equal(seen[1].rule, "rule 1: ask *");
        assert_string_equal(seen[1].detail, "the person said yes");
        assert_int_equal(seen[0].syscall, seen[1].syscall);
        assert_seen(2, AUDIT_KIND_COUNT, "handler", ""); /* and not before */
        assert_seen(3, AUDIT_RESULT, tools[i]->name, "done");
        assert_true(handler_thread != pthread_self());
        finish(&p, rules, &person);
    }
}

static void runs_nothing_without_a_yes(void **state)
{
    static const struct {
        const char *label;
        enum error_code code;
        const char *text, *how;
    } rows[] = {
        { "no", ERR_DENIED, "the person said no", "the person said no" },
        { "no answer", ERR_TIMEOUT, "no answer within 7 s", "no answer within 7 s" },
        { "cannot ask", ERR_UNSUPPORTED, "cannot ask one", "this client cannot ask a person" },
        { "gone", ERR_LOST, "asking failed: so it is", "asking failed: so it is" },
        { "too many", ERR_LIMIT, "asking failed: so it is", "asking failed: so it is" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct person person = { .code = rows[i].code };
        struct kernel_stats stats;
        struct place p;
        json_t *rules;

        begin(&p, &rules, ask_all);
        p.config.access.ask_timeout_s = 7;
        submit_for(&p, &person, &t_echo, "hello");
        turn_until(&p, 1);
        assert_int_equal(p.last_state, SYSCALL_FAILED);
        assert_int_equal(p.last_code, ERR_DENIED);
        assert_contains(p.last_text, "echo was not called");
        assert_contains(p.last_text, "rule 1: ask *");
        assert_contains(p.last_text, rows[i].text);
        assert_int_equal(atomic_load(&handled), 0);
        assert_seen(0, AUDIT_DECISION, "echo", "ask");
        assert_seen(1, AUDIT_DECISION, "echo", "deny");
        assert_string_equal(seen[1].detail, rows[i].how);
        assert_seen(2, AUDIT_RESULT, "echo", "failed");
        assert_true(person.waits_ns > 5 * CLOCK_NS_PER_S && person.waits_ns <= 7 * CLOCK_NS_PER_S);
        kernel_stats(p.k, &stats);
        assert_int_equal(stats.denied, 1);
        finish(&p, rules, &person);
    }
}

static void without_anybody_to_ask_it_is_denied(void **state)
{
    struct error err = ERROR_INIT;
    struct syscall *sc;
    struct place p;
    json_t *rules;
    (void)state;

    begin(&p, &rules, ask_all);
    submit_for(&p, NULL, &t_inline, "x");
    turn_until(&p, 1);
    assert_int_equal(p.last_code, ERR_DENIED);
    sc = call_of(&p, &t_echo, "x");
    sc->peer = &mute;
    assert_ok(kernel_submit(p.k, sc, &err), err);
    turn_until(&p, 2);
    assert_int_equal(p.last_code, ERR_DENIED);
    assert_int_equal(atomic_load(&handled), 0);
    finish(&p, rules, NULL);
}

static void a_cancel_ends_the_question(void **state)
{
    struct person person = { .slow = true };
    struct syscall *sc;
    struct place p;
    json_t *rules;
    (void)state;

    begin(&p, &rules, ask_all);
    sc = submit_for(&p, &person, &t_echo, "x");
    assert_true(sem_get(&arrived));
    syscall_cancel(sc);
    turn_until(&p, 1);
    assert_int_equal(p.last_state, SYSCALL_CANCELLED);
    assert_int_equal(atomic_load(&handled), 0);
    assert_seen(1, AUDIT_DECISION, "echo", "deny");
    assert_contains(seen[1].detail, "cancelled");
    assert_seen(2, AUDIT_RESULT, "echo", "cancelled");
    finish(&p, rules, &person);
}

static bool deadline(struct tool_call *call, const void *args, struct error *err)
{
    (void)args;
    return result_printf(call->result, err, "%lld",
                         (long long)((call->wait.deadline_ns - clock_now_ns()) / CLOCK_NS_PER_S));
}

static const struct tool t_deadline = TOOL("deadline", deadline, 0);

static void the_persons_time_is_not_the_calls(void **state)
{
    struct person person = { .code = ERR_NONE };
    struct syscall *sc;
    struct place p;
    json_t *rules;
    (void)state;

    begin(&p, &rules, ask_all);
    p.config.access.ask_timeout_s = 1000;
    sc = submit_for(&p, &person, &t_deadline, NULL);
    assert_true(sc->deadline_ns - sc->submitted_ns == 1060 * CLOCK_NS_PER_S);
    turn_until(&p, 1);
    assert_int_equal(p.last_state, SYSCALL_DONE);
    assert_in_range(strtoul(p.last_text, NULL, 10), 30, 60);
    finish(&p, rules, &person);
}

static void what_cannot_be_recorded_is_not_done_whatever_the_person_says(void **state)
{
    struct person person = { .slow = true };
    struct syscall *sc;
    struct place p;
    json_t *rules;
    (void)state;

    begin(&p, &rules, ask_all);
    sc = submit_for(&p, &person, &t_echo, "x");
    assert_true(sem_get(&arrived)); /* the question is recorded; the answer cannot be */
    atomic_store(&audit_refuses, true);
    syscall_cancel(sc);
    turn_until(&p, 1);
    assert_int_equal(atomic_load(&handled), 0);
    atomic_store(&audit_refuses, false);
    finish(&p, rules, &person);
}

static bool yes_but_no_audit(void *arg, const char *message, const json_t *schema,
                             json_t **ret_content, const struct wait *w, struct error *err)
{
    (void)message;
    (void)schema;
    (void)w;
    (void)err;
    *ret_content = NULL;
    atomic_store(&audit_refuses, true);
    ((struct person *)arg)->asked++;
    return true;
}

static void a_yes_that_cannot_be_recorded_is_none(void **state)
{
    static const struct tool_peer forgetful = { .elicit = yes_but_no_audit };
    struct person person = { .code = ERR_NONE };
    struct error err = ERROR_INIT;
    struct syscall *sc;
    struct place p;
    json_t *rules;
    (void)state;

    begin(&p, &rules, ask_all);
    sc = call_of(&p, &t_echo, "x");
    sc->peer = &forgetful;
    sc->peer_arg = &person;
    assert_ok(kernel_submit(p.k, sc, &err), err);
    turn_until(&p, 1);
    atomic_store(&audit_refuses, false);
    assert_int_equal(person.asked, 1);
    assert_int_equal(p.last_state, SYSCALL_FAILED);
    assert_contains(p.last_text, "cannot be recorded");
    assert_int_equal(atomic_load(&handled), 0);
    finish(&p, rules, &person);
}

static void an_answer_can_hold_for_later_calls(void **state)
{
    struct person person = { .code = ERR_NONE, .remember = true };
    struct place p;
    json_t *rules;
    (void)state;

    begin(&p, &rules, ask_all);
    submit_for(&p, &person, &t_echo, "one");
    turn_until(&p, 1);
    assert_string_equal(seen[1].detail, "the person said yes, also to later calls");
    submit_for(&p, &person, &t_echo, "two");
    turn_until(&p, 2);
    assert_int_equal(person.asked, 1);
    assert_seen(4, AUDIT_DECISION, "echo", "allow");
    assert_string_equal(seen[4].rule, "rule 1, allowed before: ask *");
    submit_for(&p, &person, &t_inline, "three"); /* another tool */
    turn_until(&p, 3);
    assert_int_equal(person.asked, 2);
    finish(&p, rules, &person);
}

static void the_question_shows_the_call_and_not_what_it_carries(void **state)
{
    static char longest[10000];
    struct person person = { .code = ERR_DENIED };
    struct error err = ERROR_INIT;
    struct access_verdict verdict = { ACCESS_ASK, "rule 1: ask *", 1 };
    struct agent *agent = agent_new("default", NULL, &err);
    struct access *access = access_new(NULL, NULL, &err);
    struct syscall sc = { .tool = &t_echo, .agent = agent, .peer = &peer, .peer_arg = &person };
    struct access_question question = { .verdict = &verdict, .call = &sc, .timeout_ns = 1 };
    char how[ACCESS_ASK_HOW_BYTES];
    (void)state;

    assert_ok(agent && access, err);
    sc.json =
        json_pack("{s:s,s:{s:s}}", "command", "rm -rf \xe2\x80\xae/\n", "env", "KEY", "hunter2");
    assert_false(access_ask(access, &question, how, NULL));
    assert_contains(person.message, "Agent default wants to call the tool echo");
    assert_contains(person.message, "{\"command\":\"rm -rf \\u202e/\\n\",\"env\":\"<10 bytes>\"}");
    assert_contains(person.message, "(rule 1: ask *)");
    assert_null(strstr(person.message, "hunter2"));
    assert_null(strstr(person.message, "ATTENTION"));
    assert_string_equal(
        json_string_value(json_object_get(
            json_object_get(json_object_get(person.schema, "properties"), "remember"), "type")),
        "boolean");
    json_decref(sc.json);
    memset(longest, 'x', sizeof longest - 1);
    sc.json = json_pack("{s:s}", "command", longest);
    assert_false(access_ask(access, &question, how, NULL));
    assert_contains(person.message, "ATTENTION: it is too long to be shown");
    assert_true(strlen(person.message) < 4500);
    json_decref(sc.json);
    json_decref(person.schema);
    access_free(access);
    agent_unref(agent);
}

static void a_quota_is_held_at_the_door(void **state)
{
    json_t *quotas = rules_of("[{\"agent\":\"default\",\"max_in_flight\":1}]");
    struct error err = ERROR_INIT;
    struct kernel_stats stats;
    struct syscall *sc;
    struct place p = { .config = config_of(NULL) };
    (void)state;

    p.config.access.quotas = quotas;
    p.loop = loop_new(&err);
    assert_ok(p.loop, err);
    p.k = kernel_new(p.loop, &p.config, &err);
    assert_ok(p.k, err);
    p.agent = kernel_agent(p.k, "default", NULL, &err);
    sem_init(&arrived, 0, 0);
    sem_init(&gate, 0, 0);
    submit(&p, &t_gated, NULL);
    for (int i = 0; i < 3; i++) {
        sc = call_of(&p, &t_echo, "x");
        error_clear(&err);
        assert_false(kernel_submit(p.k, sc, &err));
        assert_code(err, ERR_LIMIT);
        assert_contains(err.text, "quota 1: 1 calls at once");
        syscall_free(sc);
    }
    sem_post(&gate);
    turn_until(&p, 1);
    submit(&p, &t_inline, NULL); /* there is room again, each time */
    submit(&p, &t_inline, NULL);
    turn_until(&p, 3);
    kernel_stats(p.k, &stats);
    assert_int_equal(stats.denied, 3);
    agent_unref(p.agent);
    kernel_free(p.k);
    loop_free(p.loop);
    sem_destroy(&arrived);
    sem_destroy(&gate);
    json_decref(quotas);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_when_the_person_says_yes),
        cmocka_unit_test(runs_nothing_without_a_yes),
        cmocka_unit_test(without_anybody_to_ask_it_is_denied),
        cmocka_unit_test(a_cancel_ends_the_question),
        cmocka_unit_test(the_persons_time_is_not_the_calls),
        cmocka_unit_test(what_cannot_be_recorded_is_not_done_whatever_the_person_says),
        cmocka_unit_test(a_yes_that_cannot_be_recorded_is_none),
        cmocka_unit_test(an_answer_can_hold_for_later_calls),
        cmocka_unit_test(the_question_shows_the_call_and_not_what_it_carries),
        cmocka_unit_test(a_quota_is_held_at_the_door),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
