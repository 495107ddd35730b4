#include "tests/unit/peer_place.h"

/* ---- the model and the person ---- */

static void asks_the_model_with_what_it_was_given(void **state)
{
    struct place p;
    struct asker a;
    (void)state;

    place_new(&p, true);
    asker_begin(&a, &p, SAMPLE, json_pack("{s:i, s:[]}", "maxTokens", 5, "messages"), PATIENCE_NS);
    await_question(&p, 1);
    assert_string_equal(p.last, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"method\":"
                                "\"sampling/createMessage\",\"params\":{\"maxTokens\":5,"
                                "\"messages\":[]}}\n");
    answer(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":{\"role\":\"assistant\","
               "\"content\":{\"type\":\"text\",\"text\":\"four\"},\"model\":\"m\"}}");
    asker_join(&a);
    assert_ok(a.roots, a.err);
    assert_string_equal(json_string_value(json_object_get(a.roots, "model")), "m");
    json_decref(a.roots);
    place_free(&p);
}

static void asks_no_model_for_what_it_does_not_do(void **state)
{
    static const struct {
        bool offers;
        const char *params, *part;
    } rows[] = {
        { false, "{}", "does not lend" },
        { true, "{\"tools\":[]}", "takes no tools" },
        { true, "{\"toolChoice\":{}}", "takes no tools" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct place p;
        struct asker a;

        place_new(&p, rows[i].offers);
        asker_begin(&a, &p, SAMPLE, json_parse(rows[i].params, strlen(rows[i].params), NULL),
                    PATIENCE_NS);
        asker_join(&a);
        assert_null(a.roots);
        assert_code(a.err, ERR_UNSUPPORTED);
        assert_contains(a.err.text, rows[i].part);
        assert_int_equal(p.sent, 0);
        place_free(&p);
    }
}

static void what_is_no_message_of_a_model_is_refused(void **state)
{
    static const char *const results[] = { "{}",
                                           "null",
                                           "[]",
                                           "{\"role\":\"assistant\"}",
                                           "{\"content\":{}}",
                                           "{\"role\":3,\"content\":{}}" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        struct place p;
        struct asker a;
        char line[120];

        place_new(&p, true);
        asker_begin(&a, &p, SAMPLE, json_object(), PATIENCE_NS);
        await_question(&p, 1);
        (void)snprintf(line, sizeof line, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":%s}",
                       results[i]);
        answer(&p, line);
        asker_join(&a);
        assert_null(a.roots);
        assert_code(a.err, ERR_PROTOCOL);
        place_free(&p);
    }
}

static void the_person_says_yes_or_no(void **state)
{
    static const struct {
        const char *result;
        enum error_code code;
        const char *content;
    } rows[] = {
        { "{\"action\":\"accept\",\"content\":{\"remember\":true}}", ERR_NONE,
          "{\"remember\":true}" },
        { "{\"action\":\"accept\"}", ERR_NONE, "{}" },
        { "{\"action\":\"accept\",\"content\":7}", ERR_NONE, "{}" },
        { "{\"action\":\"decline\"}", ERR_DENIED, NULL },
        { "{\"action\":\"cancel\"}", ERR_DENIED, NULL },
        { "{\"action\":\"Accept\"}", ERR_PROTOCOL, NULL },
        { "{\"action\":true}", ERR_PROTOCOL, NULL },
        { "{}", ERR_PROTOCOL, NULL },
        { "null", ERR_PROTOCOL, NULL },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_fini) struct buf content = BUF_INIT;
        struct place p;
        struct asker a;
        char line[160];

        place_new(&p, true);
        asker_begin(&a, &p, ELICIT, json_pack("{s:s}", "type", "object"), PATIENCE_NS);
        await_question(&p, 1);
        assert_contains(p.last,
                        "\"elicitation/create\",\"params\":{\"message\":\"May \\\"it\\\"?\","
                        "\"requestedSchema\":{\"type\":\"object\"}}}\n");
        (void)snprintf(line, sizeof line, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":%s}",
                       rows[i].result);
        answer(&p, line);
        asker_join(&a);
        assert_int_equal(a.yes, rows[i].code == ERR_NONE);
        assert_code(a.err, rows[i].code);
        if (a.yes) {
            assert_true(json_write(a.roots, &content));
            assert_string_equal(buf_str(&content), rows[i].content);
            json_decref(a.roots);
        }
        place_free(&p);
    }
}

static void a_client_that_cannot_ask_is_not_asked(void **state)
{
    struct place p;
    struct asker a;
    (void)state;

    place_new(&p, false);
    asker_begin(&a, &p, ELICIT, json_object(), PATIENCE_NS);
    asker_join(&a);
    assert_false(a.yes);
    assert_code(a.err, ERR_UNSUPPORTED);
    place_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_the_model_with_what_it_was_given),
        cmocka_unit_test(asks_no_model_for_what_it_does_not_do),
        cmocka_unit_test(what_is_no_message_of_a_model_is_refused),
        cmocka_unit_test(the_person_says_yes_or_no),
        cmocka_unit_test(a_client_that_cannot_ask_is_not_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
