#include "tests/unit/mcp_place.h"

#define ELICITS META_OF("\"elicitation\":{}")
#define SAMPLES META_OF("\"sampling\":{}")

static void cancel(struct place *p, const char *id)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;

    assert_true(buf_printf(&line,
                           "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\","
                           "\"params\":{\"requestId\":%s}}",
                           id));
    put(p, buf_str(&line));
}

/* The answer to @question, in the legacy form. */
static void reply(struct place *p, const json_t *question, const char *result)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;

    assert_true(buf_printf(&line, "{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"result\":%s}",
                           text_at(question, "id"), result));
    put(p, buf_str(&line));
}

/* The call @id again, with the state of @asked and an answer (NULL: none), in the modern form. */
static void retry(struct place *p, const char *id, const char *tool, const json_t *asked,
                  const char *answer, const char *more)
{
    CLEANUP(buf_fini) struct buf params = BUF_INIT;

    assert_true(buf_printf(&params, "\"requestState\":\"%s\"%s%s%s%s%s",
                           text_at(asked, "result.requestState"),
                           answer ? ",\"inputResponses\":{\"question\":" : "", answer ? answer : "",
                           answer ? "}" : "", more[0] ? "," : "", more));
    call(p, id, tool, buf_str(&params));
}

static json_t *take_question(struct place *p, int id, const char *method)
{
    json_t *m = take_answer(p, id, 0);

    assert_string_equal(text_at(m, "result.resultType"), "input_required");
    assert_string_equal(text_at(m, "result.inputRequests.question.method"), method);
    return m;
}

static void assert_text(const json_t *m, const char *part)
{
    assert_contains(text_at(m, "result.content.0.text"), part);
}

/* ---- the legacy era ---- */

static void asks_a_legacy_person(void **state)
{
    MESSAGE first = NULL;
    MESSAGE second = NULL;
    MESSAGE m = NULL;
    struct place p;
    (void)state;

    place_new(&p, 2);
    initialize(&p, "2025-06-18", "\"elicitation\":{}");
    call(&p, "2", "confirm", "");
    first = take(&p);
    assert_string_equal(text_at(first, "method"), "elicitation/create");
    assert_string_equal(text_at(first, "params.message"), "One?");
    assert_string_equal(text_at(first, "params.requestedSchema.properties.name.type"), "string");
    reply(&p, first, "{\"action\":\"accept\",\"content\":{\"name\":\"n\"}}");
    second = take(&p);
    assert_string_equal(text_at(second, "params.message"), "Two?");
    reply(&p, second, "{\"action\":\"accept\"}");
    m = take_answer(&p, 2, 0);
    assert_string_equal(text_at(m, "result.content.0.text"),
                        "{\"first\":{\"name\":\"n\"},\"second\":{}}");
    place_free(&p);
}

static void takes_a_legacy_no(void **state)
{
    static const char *const rows[][2] = { { "{\"action\":\"decline\"}", "declined" },
                                           { "{\"action\":\"cancel\"}", "dismissed" } };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        MESSAGE question = NULL;
        MESSAGE m = NULL;
        struct place p;

        place_new(&p, 2);
        initialize(&p, "2025-11-25", "\"elicitation\":{\"form\":{}}");
        call(&p, "2", "confirm", "");
        question = take(&p);
        reply(&p, question, rows[i][0]);
        m = take_answer(&p, 2, 0);
        assert_true(json_is_true(at(m, "result.isError")));
        assert_text(m, rows[i][1]);
        place_free(&p);
    }
}

static void asks_only_clients_that_offer_it(void **state)
{
    static const char *const offers[] = { "", "\"roots\":{}", "\"elicitation\":{\"url\":{}}",
                                          "\"elicitation\":true" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(offers); i++) {
        MESSAGE confirm = NULL;
        MESSAGE sample = NULL;
        struct place p;

        place_new(&p, 2);
        initialize(&p, "2025-11-25", offers[i]);
        call(&p, "2", "confirm", "");
        confirm = take_answer(&p, 2, 0);
        assert_text(confirm, "cannot ask a person");
        call(&p, "3", "sample", "");
        sample = take_answer(&p, 3, 0);
        assert_text(sample, "does not lend its model");
        place_free(&p);
    }
}

static void asks_a_legacy_model(void **state)
{
    MESSAGE question = NULL;
    MESSAGE m = NULL;
    struct place p;
    (void)state;

    place_new(&p, 2);
    initialize(&p, "2024-11-05", "\"sampling\":{}");
    call(&p, "2", "sample", "");
    question = take(&p);
    assert_string_equal(text_at(question, "method"), "sampling/createMessage");
    assert_int_equal(int_at(question, "params.maxTokens"), 10);
    reply(
        &p, question,
        "{\"role\":\"assistant\",\"model\":\"m\",\"content\":{\"type\":\"text\",\"text\":\"4\"}}");
    m = take_answer(&p, 2, 0);
    assert_text(m, "\"text\":\"4\"");
    place_free(&p);
}

/* ---- the modern era ---- */

static void asks_a_modern_person_by_its_answers(void **state)
{
    MESSAGE first = NULL;
    MESSAGE second = NULL;
    MESSAGE m = NULL;
    struct place p;
    (void)state;

    place_new(&p, 2);
    call(&p, "2", "confirm", ELICITS);
    first = take_question(&p, 2, "elicitation/create");
    assert_string_equal(text_at(first, "result.inputRequests.question.params.message"), "One?");
    assert_non_null(at(first, "result._meta"));
    assert_silence(&p); /* the call is answered, and its id free */
    retry(&p, "2", "confirm", first, "{\"action\":\"accept\",\"content\":{\"name\":\"n\"}}",
          "\"arguments\":{}," ELICITS);
    second = take_question(&p, 2, "elicitation/create");
    assert_string_equal(text_at(second, "result.inputRequests.question.params.message"), "Two?");
    assert_string_not_equal(text_at(first, "result.requestState"),
                            text_at(second, "result.requestState"));
    retry(&p, "4", "confirm", second, "{\"action\":\"accept\"}", ELICITS);
    m = take_answer(&p, 4, 0);
    assert_string_equal(text_at(m, "result.resultType"), "complete");
    assert_string_equal(text_at(m, "result.content.0.text"),
                        "{\"first\":{\"name\":\"n\"},\"second\":{}}");
    place_free(&p);
}

static void asks_a_modern_model(void **state)
{
    MESSAGE sample = NULL;
    MESSAGE roots = NULL;
    MESSAGE m = NULL;
    struct place p;
    (void)state;

    place_new(&p, 4);
    call(&p, "2", "sample", SAMPLES);
    sample = take_question(&p, 2, "sampling/createMessage");
    assert_int_equal(int_at(sample, "result.inputRequests.question.params.maxTokens"), 10);
    call(&p, "3", "roots", META_OF("\"roots\":{}")); /* asked for in the legacy era only */
    roots = take_answer(&p, 3, 0);
    assert_text(roots, "has no roots");
    retry(&p, "5", "sample", sample, "{\"role\":\"assistant\",\"model\":\"m\",\"content\":[]}",
          META);
    m = take_answer(&p, 5, 0);
    assert_text(m, "\"model\":\"m\"");
    place_free(&p);
}

static void a_state_is_good_for_one_answer_to_its_own_call(void **state)
{
    MESSAGE asked = NULL;
    MESSAGE m = NULL;
    MESSAGE second = NULL;
    struct place p;
    (void)state;

    place_new(&p, 2);
    call(&p, "2", "confirm", ELICITS);
    asked = take_question(&p, 2, "elicitation/create");
    /* What comes wrong changes nothing. */
    call(&p, "3", "confirm", "\"requestState\":\"q_00000000000000000000000000\"," ELICITS);
    m = take_answer(&p, 3, -32602);
    assert_contains(text_at(m, "error.message"), "requestState is none that is waited for");
    call(&p, "4", "confirm", "\"requestState\":7," ELICITS);
    assert_answer(&p, 4, -32602);
    call(&p, "5", "confirm", "\"requestState\":\"\"," ELICITS);
    assert_answer(&p, 5, -32602);
    retry(&p, "6", "sample", asked, "{\"action\":\"accept\"}", ELICITS);
    assert_answer(&p, 6, -32602);
    retry(&p, "7", "confirm", asked, "{\"action\":\"accept\"}", "\"arguments\":{\"x\":1}," ELICITS);
    assert_answer(&p, 7, -32602);
    retry(&p, "8", "confirm", asked, "[]", ELICITS);
    assert_answer(&p, 8, -32602);
    retry(&p, "9", "confirm", asked, "{\"action\":\"accept\"}", ELICITS);
    second = take_question(&p, 9, "elicitation/create");
    /* Once is enough. */
    retry(&p, "10", "confirm", asked, "{\"action\":\"accept\"}", ELICITS);
    assert_answer(&p, 10, -32602);
    place_free(&p);
}

static void what_is_answered_without_an_answer_is_asked_again(void **state)
{
    MESSAGE asked = NULL;
    MESSAGE again = NULL;
    MESSAGE m = NULL;
    struct place p;
    (void)state;

    place_new(&p, 2);
    call(&p, "2", "confirm", ELICITS);
    asked = take_question(&p, 2, "elicitation/create");
    retry(&p, "3", "confirm", asked, NULL, ELICITS);
    again = take_question(&p, 3, "elicitation/create");
    assert_string_not_equal(text_at(asked, "result.requestState"),
                            text_at(again, "result.requestState"));
    retry(&p, "4", "confirm", asked, "{\"action\":\"decline\"}", ELICITS);
    assert_answer(&p, 4, -32602);
    retry(&p, "5", "confirm", again, "{\"action\":\"decline\"}", ELICITS);
    m = take_answer(&p, 5, 0);
    assert_text(m, "declined");
    place_free(&p);
}

static void a_state_of_another_connection_is_unknown(void **state)
{
    MESSAGE asked = NULL;
    struct place p, other;
    (void)state;

    place_new(&p, 2);
    call(&p, "2", "confirm", ELICITS);
    asked = take_question(&p, 2, "elicitation/create");
    place_new(&other, 2);
    retry(&other, "2", "confirm", asked, "{\"action\":\"accept\"}", ELICITS);
    assert_answer(&other, 2, -32602);
    place_free(&other);
    place_free(&p);
}

static void a_call_with_an_answer_can_be_cancelled(void **state)
{
    MESSAGE asked = NULL;
    MESSAGE second = NULL;
    struct place p;
    (void)state;

    place_new(&p, 1);
    call(&p, "2", "confirm", ELICITS);
    asked = take_question(&p, 2, "elicitation/create");
    cancel(&p, "2"); /* it has been answered: there is nothing to cancel */
    retry(&p, "3", "confirm", asked, "{\"action\":\"accept\"}", ELICITS);
    second = take_question(&p, 3, "elicitation/create");
    retry(&p, "4", "confirm", second, NULL, ELICITS);
    assert_answer(&p, 4, 0);
    place_free(&p); /* with a question open */
}

static void questions_end_with_the_input(void **state)
{
    MESSAGE asked = NULL;
    struct place p;
    (void)state;

    place_new(&p, 2);
    call(&p, "2", "confirm", ELICITS);
    asked = take_question(&p, 2, "elicitation/create");
    assert_int_equal(shutdown(p.out, SHUT_WR), 0);
    TURN_UNTIL(&p, p.ends == 1);
    place_free(&p);
}

static void a_legacy_call_knows_no_states(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2);
    initialize(&p, "2025-11-25", "");
    call(&p, "2", "data", "\"requestState\":\"x\",\"inputResponses\":7");
    assert_answer(&p, 2, 0);
    place_free(&p);
}

/* ---- rules that ask ---- */

static json_t *ask_rule(void)
{
    return json_pack("[{s:s, s:s}]", "tool", "echo", "decision", "ask");
}

static void a_rule_asks_in_both_eras(void **state)
{
    static const char *const answers[][2] = {
        { "{\"action\":\"accept\"}", "hi" }, { "{\"action\":\"decline\"}", "the person said no" }
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        MESSAGE legacy = NULL;
        MESSAGE modern = NULL;
        MESSAGE m = NULL;
        MESSAGE n = NULL;
        struct place p;

        place_rules = ask_rule();
        place_new(&p, 2);
        initialize(&p, "2025-11-25", "\"elicitation\":{}");
        call(&p, "2", "echo", "\"arguments\":{\"text\":\"hi\",\"times\":1}");
        legacy = take(&p);
        assert_contains(text_at(legacy, "params.message"),
                        "Agent default wants to call the tool echo");
        assert_contains(text_at(legacy, "params.message"), "{\"text\":\"<2 bytes>\",\"times\":1}");
        assert_string_equal(text_at(legacy, "params.requestedSchema.properties.remember.type"),
                            "boolean");
        reply(&p, legacy, answers[i][0]);
        m = take_answer(&p, 2, 0);
        assert_text(m, answers[i][1]);
        call(&p, "3", "echo", "\"arguments\":{\"text\":\"hi\"}," ELICITS);
        modern = take_question(&p, 3, "elicitation/create");
        retry(&p, "4", "echo", modern, answers[i][0], "\"arguments\":{\"text\":\"hi\"}," ELICITS);
        n = take_answer(&p, 4, 0);
        assert_text(n, answers[i][1]);
        place_free(&p);
        json_decref(place_rules);
        place_rules = NULL;
    }
}

static void a_rule_that_asks_denies_where_nobody_can_be_asked(void **state)
{
    MESSAGE m = NULL;
    struct place p;
    (void)state;

    place_rules = ask_rule();
    place_new(&p, 2);
    call(&p, "2", "echo", "\"arguments\":{\"text\":\"hi\"}," META);
    m = take_answer(&p, 2, 0);
    assert_true(json_is_true(at(m, "result.isError")));
    assert_text(m, "this client cannot ask one");
    place_free(&p);
    json_decref(place_rules);
    place_rules = NULL;
}

/* The time of a question passes on the worker, by the real clock: one second is the least. */
static void a_question_without_an_answer_is_denied_and_forgotten(void **state)
{
    MESSAGE asked = NULL;
    MESSAGE legacy = NULL;
    MESSAGE withdrawn = NULL;
    MESSAGE m = NULL;
    struct kernel_stats stats;
    struct place p;
    (void)state;

    place_rules = ask_rule();
    place_new(&p, 4);
    p.config.access.ask_timeout_s = 1;
    initialize(&p, "2025-11-25", "\"elicitation\":{}");
    call(&p, "2", "echo", "\"arguments\":{\"text\":\"hi\"}," ELICITS);
    asked = take_question(&p, 2, "elicitation/create");
    call(&p, "3", "echo", "\"arguments\":{\"text\":\"hi\"}");
    legacy = take(&p);
    assert_string_equal(text_at(legacy, "method"), "elicitation/create");
    withdrawn = take(&p);
    assert_string_equal(text_at(withdrawn, "method"), "notifications/cancelled");
    m = take_answer(&p, 3, 0);
    assert_text(m, "there was no answer within 1 s");
    do {
        loop_turn(p.loop, 10);
        kernel_stats(p.k, &stats);
    } while (stats.denied < 2);
    retry(&p, "4", "echo", asked, "{\"action\":\"accept\"}",
          "\"arguments\":{\"text\":\"hi\"}," ELICITS);
    assert_answer(&p, 4, -32602);
    place_free(&p);
    json_decref(place_rules);
    place_rules = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_a_legacy_person),
        cmocka_unit_test(takes_a_legacy_no),
        cmocka_unit_test(asks_only_clients_that_offer_it),
        cmocka_unit_test(asks_a_legacy_model),
        cmocka_unit_test(asks_a_modern_person_by_its_answers),
        cmocka_unit_test(asks_a_modern_model),
        cmocka_unit_test(a_state_is_good_for_one_answer_to_its_own_call),
        cmocka_unit_test(what_is_answered_without_an_answer_is_asked_again),
        cmocka_unit_test(a_state_of_another_connection_is_unknown),
        cmocka_unit_test(a_call_with_an_answer_can_be_cancelled),
        cmocka_unit_test(questions_end_with_the_input),
        cmocka_unit_test(a_legacy_call_knows_no_states),
        cmocka_unit_test(a_rule_asks_in_both_eras),
        cmocka_unit_test(a_rule_that_asks_denies_where_nobody_can_be_asked),
        cmocka_unit_test(a_question_without_an_answer_is_denied_and_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
