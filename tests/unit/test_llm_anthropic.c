#include "tests/unit/llm_fake.h"

static void asks_as_the_interface_wants(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("anthropic", ""));
    fake_step((struct fake_step){ .status = 200,
                                  .body = CLAUDE_START CLAUDE_TEXT("Hel") CLAUDE_TEXT("lo")
                                      CLAUDE_END("end_turn") });
    assert_ok(
        fake_ask("{\"system\": \"Be brief.\", \"temperature\": 0.5, \"stop\": [\"END\"], "
                 "\"messages\": [{\"role\": \"system\", \"content\": \"Be kind.\"},"
                 "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"Look\"},"
                 "{\"type\": \"image\", \"mime_type\": \"image/png\", \"data\": \"AAAA\"}]},"
                 "{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{\"id\": "
                 "\"c1\", \"name\": \"look\", \"arguments\": {\"x\": 1}}, {\"id\": "
                 "\"c2\", \"name\": \"look\", \"arguments\": {}}]},"
                 "{\"role\": \"tool\", \"tool_call_id\": \"c1\", \"content\": \"a cat\"},"
                 "{\"role\": \"tool\", \"tool_call_id\": \"c2\", \"content\": \"a dog\"},"
                 "{\"role\": \"user\", \"content\": \"And?\"}],"
                 "\"tools\": [{\"name\": \"look\", \"description\": \"Looks\"}], "
                 "\"tool_choice\": \"required\"}",
                 &reply, &err),
        err);
    assert_string_equal(fake.urls[0], "POST https://api.example/v1/messages");
    assert_contains(fake.headers[0], "x-api-key: " FAKE_KEY "\n");
    assert_contains(fake.headers[0], "anthropic-version: 2023-06-01\n");
    assert_null(strstr(fake.headers[0], "Authorization"));
    assert_string_equal(fake_sent(0, "system"), "\"Be brief.\\n\\nBe kind.\"");
    assert_string_equal(fake_sent(0, "max_tokens"), "4096");
    assert_string_equal(fake_sent(0, "stop_sequences"), "[\"END\"]");
    assert_string_equal(fake_sent(0, "messages/0/content/1"),
                        "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":"
                        "\"image/png\",\"data\":\"AAAA\"}}");
    assert_string_equal(
        fake_sent(0, "messages/1/content"),
        "[{\"type\":\"tool_use\",\"id\":\"c1\",\"name\":\"look\",\"input\":{\"x\":1}},"
        "{\"type\":\"tool_use\",\"id\":\"c2\",\"name\":\"look\",\"input\":{}}]");
    assert_string_equal(fake_sent(0, "messages/2"),
                        "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":"
                        "\"c1\",\"content\":[{\"type\":\"text\",\"text\":\"a cat\"}]},{\"type\":"
                        "\"tool_result\",\"tool_use_id\":\"c2\",\"content\":[{\"type\":\"text\","
                        "\"text\":\"a dog\"}]}]}");
    assert_string_equal(fake_sent(0, "messages/3/role"), "\"user\"");
    assert_string_equal(fake_sent(0, "tools/0"),
                        "{\"name\":\"look\",\"input_schema\":{\"type\":\"object\"},\"description\":"
                        "\"Looks\"}");
    assert_string_equal(fake_sent(0, "tool_choice"), "{\"type\":\"any\"}");
    assert_string_equal(buf_str(&reply.text), "Hello");
    assert_string_equal(buf_str(&fake.heard), "Hello");
    assert_string_equal(reply.finish, "stop");
    assert_string_equal(reply.model, "claude-x-1");
    assert_int_equal(reply.input_tokens, 11); /* what came from its cache, too */
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

    fake_start(FAKE_ONE("anthropic", ""));
    fake_step((struct fake_step){
        .status = 200,
        .body = CLAUDE_START
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
        "\"thinking_delta\",\"thinking\":\"hm\"}}\n\n"
        "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":"
        "\"tool_use\",\"id\":\"a\",\"name\":\"read\",\"input\":{}}}\n\n"
        "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":"
        "\"input_json_delta\",\"partial_json\":\"{\\\"path\\\":\"}}\n\n"
        "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":"
        "\"input_json_delta\",\"partial_json\":\"\\\"/x\\\"}\"}}\n\n"
        "data: {\"type\":\"content_block_stop\",\"index\":1}\n\n"
        "data: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":"
        "\"tool_use\",\"id\":\"b\",\"name\":\"stop\",\"input\":{}}}\n\n"
        "data: {\"type\":\"a_later_invention\"}\n\n" CLAUDE_END("tool_use") });
    assert_ok(fake_ask(FAKE_HI, &reply, &err), err);
    calls = json_dumps(reply.tool_calls, JSON_COMPACT);
    assert_string_equal(calls, "[{\"id\":\"a\",\"name\":\"read\",\"arguments\":{\"path\":\"/x\"}},"
                               "{\"id\":\"b\",\"name\":\"stop\",\"arguments\":{}}]");
    assert_string_equal(reply.finish, "tool_calls");
    assert_string_equal(buf_str(&reply.text), "");
    free(calls);
    llm_reply_fini(&reply);
}

static void gets_a_structured_answer_through_a_tool(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("anthropic", ""));
    fake_step((struct fake_step){
        .status = 200,
        .body = CLAUDE_START CLAUDE_TEXT(
            "Here it is:") "data: "
                           "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{"
                           "\"type\":"
                           "\"tool_use\",\"id\":\"a\",\"name\":\"structured_answer\",\"input\":{}}}"
                           "\n\n"
                           "data: "
                           "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":"
                           "\"input_json_delta\",\"partial_json\":\"{\\\"n\\\":\"}}\n\n"
                           "data: "
                           "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":"
                           "\"input_json_delta\",\"partial_json\":\"1}\"}}\n\n"
                           "data: {\"type\":\"content_block_stop\",\"index\":1}\n\n" CLAUDE_END(
                               "tool_use") });
    assert_ok(fake_ask("{\"schema\":{\"type\":\"object\"},\"messages\":[{\"role\":\"user\","
                       "\"content\":\"n?\"}]}",
                       &reply, &err),
              err);
    assert_string_equal(fake_sent(0, "tool_choice"),
                        "{\"type\":\"tool\",\"name\":\"structured_answer\"}");
    assert_string_equal(fake_sent(0, "tools/0/input_schema"), "{\"type\":\"object\"}");
    assert_string_equal(buf_str(&reply.text), "{\"n\":1}");
    assert_string_equal(buf_str(&fake.heard), "{\"n\":1}");
    assert_string_equal(reply.finish, "stop");
    assert_null(reply.tool_calls);
    llm_reply_fini(&reply);
}

static void continues_from_a_prefill(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("anthropic", ""));
    fake_step((struct fake_step){
        .status = 200, .body = CLAUDE_START CLAUDE_TEXT(" brown fox") CLAUDE_END("end_turn") });
    assert_ok(fake_ask("{\"so_far\": \"The quick \", \"messages\": [{\"role\": \"user\", "
                       "\"content\": \"A pangram\"}]}",
                       &reply, &err),
              err);
    assert_string_equal(fake_sent(0, "messages/1"),
                        "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"The "
                        "quick\"}]}");
    assert_string_equal(fake_sent(0, "messages/2"), "");
    assert_string_equal(buf_str(&reply.text), "brown fox"); /* the space was there */
    llm_reply_fini(&reply);
}

static void asks_for_the_rest_where_a_prefill_is_refused(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("anthropic", ""));
    fake_step((struct fake_step){
        .status = 400,
        .body = "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":"
                "\"This model does not support assistant message prefill. The conversation must "
                "end with a user message.\"}}" });
    fake_step((struct fake_step){
        .status = 200, .body = CLAUDE_START CLAUDE_TEXT("quick brown") CLAUDE_END("end_turn") });
    assert_ok(fake_ask("{\"so_far\": \"The quick\", \"messages\": [{\"role\": \"user\", "
                       "\"content\": \"A pangram\"}]}",
                       &reply, &err),
              err);
    assert_string_equal(fake_sent(1, "messages/2/role"), "\"user\"");
    assert_string_equal(buf_str(&reply.text), " brown");
    llm_reply_fini(&reply);
}

static void is_asked_again_when_it_is_overloaded(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("anthropic", ""));
    fake_step((struct fake_step){ .status = 200,
                                  .body = CLAUDE_START
                                  "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
                                  "\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n" });
    fake_step((struct fake_step){ .status = 529, .body = "{}" });
    fake_step((struct fake_step){ .status = 200,
                                  .body = CLAUDE_START CLAUDE_TEXT("ok") CLAUDE_END("end_turn") });
    assert_ok(fake_ask(FAKE_HI, &reply, &err), err);
    assert_int_equal(fake.pause_count, 2);
    assert_int_equal(reply.attempts, 3);
    assert_string_equal(buf_str(&reply.text), "ok");
    llm_reply_fini(&reply);
}

static void takes_an_answer_that_is_not_streamed(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("anthropic", ""));
    fake_step((struct fake_step){
        .status = 200,
        .body = "{\"type\":\"message\",\"model\":\"c\",\"content\":[{\"type\":\"text\",\"text\":"
                "\"whole\"},{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{\"x\":2}"
                "}],\"stop_reason\":\"tool_use\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4"
                "}}" });
    assert_ok(fake_ask(FAKE_HI, &reply, &err), err);
    assert_string_equal(buf_str(&reply.text), "whole");
    assert_int_equal(json_array_size(reply.tool_calls), 1);
    assert_int_equal(reply.output_tokens, 4);
    llm_reply_fini(&reply);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(asks_as_the_interface_wants),
        WITH_FAKE(puts_tool_calls_together_from_fragments),
        WITH_FAKE(gets_a_structured_answer_through_a_tool),
        WITH_FAKE(continues_from_a_prefill),
        WITH_FAKE(asks_for_the_rest_where_a_prefill_is_refused),
        WITH_FAKE(is_asked_again_when_it_is_overloaded),
        WITH_FAKE(takes_an_answer_that_is_not_streamed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
