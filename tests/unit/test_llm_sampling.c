/* The model of the MCP host, through a peer of the test's own. */
#include "tests/unit/llm_fake.h"

#include "kernel/tool.h"

#define TWO                                                                                    \
    "{\"retries\": 1, \"providers\": [{\"name\": \"first\", \"kind\": \"openai\", \"model\": " \
    "\"m1\", \"base_url\": \"https://one.example/v1\"}, {\"name\": \"second\", \"kind\": "     \
    "\"anthropic\", \"model\": \"m2\", \"base_url\": \"https://two.example/v1\"}]}"

struct host {
    const char *result; /* NULL: `code` */
    enum error_code code;
    json_t *params;
};

static json_t *sample(void *arg, const json_t *params, const struct wait *w, struct error *err)
{
    struct host *h = arg;

    (void)w;
    json_decref(h->params);
    h->params = json_deep_copy(params);
    if (h->result)
        return json_loads(h->result, 0, NULL);
    error_set(err, h->code, "the host said no");
    return NULL;
}

static const struct tool_peer peer = { .sample = sample };

static bool ask_peer(struct host *host, const char *json, struct llm_reply *reply,
                     struct error *err)
{
    struct llm_request request;
    json_t *all = fake_request(&request, json);
    struct wait w = fake_wait(100);
    bool ok;

    request.peer = &peer;
    request.peer_arg = host;
    llm_reply_init(reply);
    ok = llm_query(fake.llm, &request, &w, reply, err);
    json_decref(all);
    return ok;
}

static void asks_the_host_when_nobody_else_is_left(void **state)
{
    struct host host = { .result = "{\"role\":\"assistant\",\"content\":{\"type\":\"text\","
                                   "\"text\":\"from the host\"},\"model\":\"h1\",\"stopReason\":"
                                   "\"endTurn\"}" };
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    char *params;
    (void)state;

    fake_start(TWO);
    fake_step((struct fake_step){ .status = 404 });
    fake_step((struct fake_step){ .status = 404 });
    assert_ok(ask_peer(&host,
                       "{\"system\":\"Be brief.\",\"max_tokens\":50,\"temperature\":0,"
                       "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}",
                       &reply, &err),
              err);
    assert_string_equal(buf_str(&reply.text), "from the host");
    assert_string_equal(buf_str(&fake.heard), "from the host");
    assert_string_equal(reply.provider, "sampling");
    assert_string_equal(reply.model, "h1");
    assert_string_equal(reply.finish, "stop");
    assert_true(reply.estimated);
    params = json_dumps(host.params, JSON_COMPACT);
    assert_string_equal(params, "{\"messages\":[{\"role\":\"user\",\"content\":{\"type\":\"text\","
                                "\"text\":\"Hi\"}}],\"maxTokens\":50,\"systemPrompt\":\"Be "
                                "brief.\",\"temperature\":0.0}");
    free(params);
    json_decref(host.params);
    llm_reply_fini(&reply);
}

static void asks_the_host_alone_where_it_is_named(void **state)
{
    struct host host = { .result = "{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
                                   "\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}],"
                                   "\"stopReason\":\"toolUse\"}" };
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(TWO);
    assert_ok(ask_peer(&host,
                       "{\"provider\":\"sampling\",\"tools\":[{\"name\":\"f\"}],"
                       "\"tool_choice\":\"auto\",\"messages\":[{\"role\":\"user\",\"content\":"
                       "\"Hi\"}]}",
                       &reply, &err),
              err);
    assert_int_equal(fake.sent, 0);
    assert_int_equal(json_array_size(reply.tool_calls), 1);
    assert_string_equal(reply.finish, "tool_calls");
    llm_reply_fini(&reply);
    host.result = NULL;
    host.code = ERR_DENIED;
    assert_false(ask_peer(&host,
                          "{\"provider\":\"sampling\",\"messages\":[{\"role\":\"user\","
                          "\"content\":\"Hi\"}]}",
                          &reply, &err));
    assert_code(err, ERR_LOST);
    assert_contains(err.text, "sampling: the host said no");
    json_decref(host.params);
    llm_reply_fini(&reply);
}

static void a_structured_answer_of_the_host_must_be_one(void **state)
{
    struct host host = { .result = "{\"content\":{\"type\":\"text\",\"text\":\"{\\\"n\\\":1}\"}}" };
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    static const char ask[] = "{\"schema\":{\"type\":\"object\"},\"messages\":[{\"role\":\"user\","
                              "\"content\":\"Hi\"}]}";
    (void)state;

    fake_start("{}");
    assert_ok(ask_peer(&host, ask, &reply, &err), err);
    assert_contains(json_string_value(json_object_get(host.params, "systemPrompt")),
                    "{\"type\":\"object\"}");
    assert_string_equal(buf_str(&reply.text), "{\"n\":1}");
    llm_reply_fini(&reply);
    host.result = "{\"content\":{\"type\":\"text\",\"text\":\"Sure! 1\"}}";
    assert_false(ask_peer(&host, ask, &reply, &err));
    assert_contains(err.text, "asked for JSON");
    json_decref(host.params);
    llm_reply_fini(&reply);
}

static void the_host_is_not_asked_where_that_is_off(void **state)
{
    struct host host = { .result = "{}" };
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start("{\"sampling\": false}");
    assert_false(ask_peer(&host, FAKE_HI, &reply, &err));
    assert_code(err, ERR_UNSUPPORTED);
    assert_null(host.params);
    llm_reply_fini(&reply);
}

static void says_how_to_configure_another_where_the_host_does_not_offer_it(void **state)
{
    struct host host = { .code = ERR_UNSUPPORTED };
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start("{}");
    assert_false(ask_peer(&host, FAKE_HI, &reply, &err));
    assert_code(err, ERR_UNSUPPORTED);
    assert_contains(err.text, "llm.providers");
    json_decref(host.params);
    llm_reply_fini(&reply);
}

static void what_is_sent_keeps_its_shape(void **state)
{
    struct host host = { .result = "{\"content\":{\"type\":\"text\",\"text\":\"ok\"}}" };
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    char *messages;
    (void)state;

    fake_start("{}");
    assert_ok(ask_peer(&host,
                       "{\"model\":\"fast\",\"stop\":[\"END\"],\"so_far\":\"Half\",\"messages\":["
                       "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Look\"},"
                       "{\"type\":\"image\",\"mime_type\":\"image/png\",\"data\":\"AA==\"}]},"
                       "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"a\","
                       "\"name\":\"f\",\"arguments\":{\"x\":1}}]},"
                       "{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"cat\"}]}",
                       &reply, &err),
              err);
    messages = json_dumps(json_object_get(host.params, "messages"), JSON_COMPACT);
    assert_contains(messages, "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                              "\"Look\"},{\"type\":\"image\",\"data\":\"AA==\",\"mimeType\":"
                              "\"image/png\"}]}");
    assert_contains(messages, "{\"role\":\"assistant\",\"content\":{\"type\":\"tool_use\","
                              "\"id\":\"a\",\"name\":\"f\",\"input\":{\"x\":1}}}");
    assert_contains(messages, "{\"role\":\"user\",\"content\":{\"type\":\"tool_result\","
                              "\"toolUseId\":\"a\",\"content\":[{\"type\":\"text\",\"text\":"
                              "\"cat\"}]}}");
    assert_contains(messages, "{\"role\":\"assistant\",\"content\":{\"type\":\"text\",\"text\":"
                              "\"Half\"}}");
    free(messages);
    messages = json_dumps(json_object_get(host.params, "modelPreferences"), JSON_COMPACT);
    assert_string_equal(messages, "{\"hints\":[{\"name\":\"fast\"}]}");
    free(messages);
    json_decref(host.params);
    llm_reply_fini(&reply);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(asks_the_host_when_nobody_else_is_left),
        WITH_FAKE(asks_the_host_alone_where_it_is_named),
        WITH_FAKE(a_structured_answer_of_the_host_must_be_one),
        WITH_FAKE(the_host_is_not_asked_where_that_is_off),
        WITH_FAKE(says_how_to_configure_another_where_the_host_does_not_offer_it),
        WITH_FAKE(what_is_sent_keeps_its_shape),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
