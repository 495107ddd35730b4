#include "tests/unit/llm_fake.h"

static void asks_as_the_interface_wants(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("Hello") });
    assert_ok(
        fake_ask("{\"system\": \"Be brief.\", \"max_tokens\": 100, \"temperature\": 0.5, "
                 "\"stop\": [\"END\"], \"messages\": ["
                 "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"Look\"},"
                 "{\"type\": \"image\", \"mime_type\": \"image/png\", \"data\": \"AAAA\"}]},"
                 "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": "
                 "\"c1\", \"name\": \"look\", \"arguments\": {\"x\": 1}}]},"
                 "{\"role\": \"tool\", \"tool_call_id\": \"c1\", \"content\": \"a cat\"}],"
                 "\"tools\": [{\"name\": \"look\", \"description\": \"Looks\", "
                 "\"parameters\": {\"type\": \"object\"}}], \"tool_choice\": {\"name\": "
                 "\"look\"}}",
                 &reply, &err),
        err);
    assert_string_equal(fake.urls[0], "POST https://api.example/v1/chat/completions");
    assert_contains(fake.headers[0], "Authorization: Bearer " FAKE_KEY "\n");
    assert_contains(fake.headers[0], "Content-Type: application/json\n");
    assert_string_equal(fake_sent(0, "model"), "\"m1\"");
    assert_string_equal(fake_sent(0, "stream"), "true");
    assert_string_equal(fake_sent(0, "stream_options"), "{\"include_usage\":true}");
    assert_string_equal(fake_sent(0, "max_tokens"), "100");
    assert_string_equal(fake_sent(0, "temperature"), "0.5");
    assert_string_equal(fake_sent(0, "stop"), "[\"END\"]");
    assert_string_equal(fake_sent(0, "messages/0"),
                        "{\"role\":\"system\",\"content\":\"Be brief.\"}");
    assert_string_equal(fake_sent(0, "messages/1/content/1"),
                        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,"
                        "AAAA\"}}");
    assert_string_equal(fake_sent(0, "messages/2/tool_calls/0"),
                        "{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"look\","
                        "\"arguments\":\"{\\\"x\\\":1}\"}}");
    assert_string_equal(fake_sent(0, "messages/3"), "{\"role\":\"tool\",\"content\":\"a cat\","
                                                    "\"tool_call_id\":\"c1\"}");
    assert_string_equal(fake_sent(0, "tools/0/function/name"), "\"look\"");
    assert_string_equal(fake_sent(0, "tool_choice"),
                        "{\"type\":\"function\",\"function\":{\"name\":\"look\"}}");
    assert_string_equal(buf_str(&reply.text), "Hello");
    assert_string_equal(buf_str(&fake.heard), "Hello");
    assert_string_equal(reply.finish, "stop");
    assert_string_equal(reply.provider, "main");
    assert_string_equal(reply.model, "m1-2026");
    assert_int_equal(reply.input_tokens, 11);
    assert_int_equal(reply.output_tokens, 7);
    assert_false(reply.estimated);
    llm_reply_fini(&reply);
}

static void puts_tool_calls_together_from_fragments(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    char *calls;
    (void)state;

    fake_start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){
        .status = 200,
        .body = OPENAI_TEXT(
            "Let me see.") "data: "
                           "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\","
                           "\"type\":"
                           "\"function\",\"function\":{\"name\":\"read\",\"arguments\":\"\"}}]}}]}"
                           "\n\n"
                           "data: "
                           "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
                           "\"arguments\":\"{\\\"pa\"}}]}}]}\n\n"
                           "data: "
                           "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\","
                           "\"function\":"
                           "{\"name\":\"stop\"}}]}}]}\n\n"
                           "data: "
                           "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
                           "\"arguments\":\"th\\\":\\\"/x\\\"}\"}}]}}]}\n\n" OPENAI_END(
                               "tool_calls") OPENAI_USAGE });
    assert_ok(fake_ask(FAKE_HI, &reply, &err), err);
    calls = json_dumps(reply.tool_calls, JSON_COMPACT);
    assert_string_equal(calls, "[{\"id\":\"a\",\"name\":\"read\",\"arguments\":{\"path\":\"/x\"}},"
                               "{\"id\":\"b\",\"name\":\"stop\",\"arguments\":{}}]");
    assert_string_equal(reply.finish, "tool_calls");
    assert_string_equal(buf_str(&reply.text), "Let me see.");
    free(calls);
    llm_reply_fini(&reply);
}

static void asks_for_a_structured_answer(void **state)
{
    static const struct {
        const char *schema, *strict;
    } rows[] = {
        { "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"],"
          "\"additionalProperties\":false}",
          "true" },
        { "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}}}", "false" },
        { "{\"type\":\"object\",\"properties\":{\"l\":{\"type\":\"array\",\"items\":{\"type\":"
          "\"object\",\"properties\":{\"a\":{}}}}},\"required\":[\"l\"],\"additionalProperties\":"
          "false}",
          "false" },
    };
    (void)state;

    fake_start(FAKE_ONE("openai", ""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct llm_reply reply;
        struct error err = ERROR_INIT;
        char text[600];

        fake_rewind();
        fake_step((struct fake_step){ .status = 200,
                                      .body = OPENAI_TEXT("{\\\"n\\\":") OPENAI_ALL("1}") });
        (void)snprintf(text, sizeof text,
                       "{\"messages\":[{\"role\":\"user\",\"content\":\"n?\"}],\"schema\":%s}",
                       rows[i].schema);
        assert_ok(fake_ask(text, &reply, &err), err);
        assert_string_equal(fake_sent(0, "response_format/type"), "\"json_schema\"");
        assert_string_equal(fake_sent(0, "response_format/json_schema/schema"), rows[i].schema);
        assert_string_equal(fake_sent(0, "response_format/json_schema/strict"), rows[i].strict);
        assert_string_equal(buf_str(&reply.text), "{\"n\":1}");
        assert_string_equal(buf_str(&fake.heard), "{\"n\":1}");
        llm_reply_fini(&reply);
    }
}

static void continues_a_cut_answer(void **state)
{
    static const struct {
        const char *how, *path, *want, *comes;
    } rows[] = {
        { "", "messages/2/role", "\"user\"", "brown fox" },
        { ",\"continuation\":\"prefill\"", "messages/1",
          "{\"role\":\"assistant\",\"content\":\"The quick bro\"}", "wn fox" },
        { ",\"continuation\":\"prefix\"", "messages/1/prefix", "true", "wn fox" },
        { ",\"continuation\":\"final_message\"", "continue_final_message", "true", "wn fox" },
        { ",\"continuation\":\"final_message\"", "add_generation_prompt", "false", "wn fox" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct llm_reply reply;
        struct error err = ERROR_INIT;
        char llm[600], stream[600];

        (void)snprintf(llm, sizeof llm, FAKE_ONE("openai", "%s"), rows[i].how);
        (void)snprintf(stream, sizeof stream, OPENAI_ALL("%s"), rows[i].comes);
        fake_start(llm);
        fake_step((struct fake_step){ .status = 200, .body = stream });
        assert_ok(fake_ask("{\"so_far\": \"The quick bro\", \"messages\": [{\"role\": \"user\", "
                           "\"content\": \"A pangram\"}]}",
                           &reply, &err),
                  err);
        assert_string_equal(fake_sent(0, rows[i].path), rows[i].want);
        assert_string_equal(buf_str(&reply.text), "wn fox");
        assert_string_equal(buf_str(&fake.heard), "wn fox");
        llm_reply_fini(&reply);
        fake_end(NULL);
    }
}

static void learns_what_a_server_does_not_know(void **state)
{
    static const struct {
        const char *words, *gone, *there;
    } rows[] = {
        { "{\"error\":{\"message\":\"Unsupported parameter: 'max_tokens'. Use "
          "'max_completion_tokens' instead.\"}}",
          "max_tokens", "max_completion_tokens" },
        { "{\"error\":{\"message\":\"stream_options: extra fields not permitted\"}}",
          "stream_options", "stream" },
        { "{\"error\":{\"message\":\"Unsupported value: 'temperature' does not support 0.5\"}}",
          "temperature", "stream" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct llm_reply reply;
        struct error err = ERROR_INIT;
        static const char ask[] = "{\"max_tokens\": 9, \"temperature\": 0.5, \"messages\": "
                                  "[{\"role\": \"user\", \"content\": \"Hi\"}]}";

        fake_start(FAKE_ONE("openai", ""));
        fake_step((struct fake_step){ .status = 400, .body = rows[i].words });
        fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("ok") });
        fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("ok") });
        assert_ok(fake_ask(ask, &reply, &err), err);
        llm_reply_fini(&reply);
        assert_ok(fake_ask(ask, &reply, &err), err);
        llm_reply_fini(&reply);
        assert_int_equal(fake.sent, 3);
        assert_int_equal(fake.pause_count, 0);
        assert_string_not_equal(fake_sent(0, rows[i].gone), "");
        for (unsigned n = 1; n < 3; n++) { /* and it is remembered */
            assert_string_equal(fake_sent(n, rows[i].gone), "");
            assert_string_not_equal(fake_sent(n, rows[i].there), "");
        }
        fake_end(NULL);
    }
}

static void takes_an_answer_that_is_not_streamed(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){
        .status = 200,
        .content_type = "application/json",
        .body = " {\"model\":\"x\",\"choices\":[{\"message\":{\"content\":\"whole\",\"tool_calls\":"
                "[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
                "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":"
                "4}}" });
    assert_ok(fake_ask(FAKE_HI, &reply, &err), err);
    assert_string_equal(buf_str(&reply.text), "whole");
    assert_string_equal(reply.model, "x");
    assert_string_equal(reply.finish, "tool_calls");
    assert_int_equal(reply.output_tokens, 4);
    llm_reply_fini(&reply);
}

static void does_without_a_key_where_none_belongs(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start("{\"providers\":[{\"name\":\"local\",\"kind\":\"openai\",\"model\":\"m\","
               "\"base_url\":\"http://localhost:11434/v1\"}]}");
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_TEXT("a") OPENAI_END("stop") });
    assert_ok(fake_ask(FAKE_HI, &reply, &err), err);
    assert_null(strstr(fake.headers[0], "Authorization"));
    assert_true(reply.estimated); /* this one does not count */
    assert_true(reply.input_tokens > 0 && reply.output_tokens > 0);
    assert_string_equal(reply.model, "m");
    llm_reply_fini(&reply);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(asks_as_the_interface_wants),
        WITH_FAKE(puts_tool_calls_together_from_fragments),
        WITH_FAKE(asks_for_a_structured_answer),
        WITH_FAKE(continues_a_cut_answer),
        WITH_FAKE(learns_what_a_server_does_not_know),
        WITH_FAKE(takes_an_answer_that_is_not_streamed),
        WITH_FAKE(does_without_a_key_where_none_belongs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
