#include "tests/unit/llm_fake.h"

#define TWO                                                                                    \
    "{\"retries\": 1, \"providers\": [{\"name\": \"first\", \"kind\": \"openai\", \"model\": " \
    "\"m1\", \"base_url\": \"https://one.example/v1\"}, {\"name\": \"second\", \"kind\": "     \
    "\"anthropic\", \"model\": \"m2\", \"base_url\": \"https://two.example/v1\"}]}"

static void ask_ok(const char *json, const char *want)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;

    assert_ok(fake_ask(json, &reply, &err), err);
    assert_string_equal(buf_str(&reply.text), want);
    llm_reply_fini(&reply);
}

/* The error's text, valid until the next call. */
static const char *ask_fails(const char *json, enum error_code want)
{
    static struct error err;
    struct llm_reply reply;

    err = (struct error)ERROR_INIT;
    assert_false(fake_ask(json, &reply, &err));
    assert_code(err, want);
    llm_reply_fini(&reply);
    return err.text;
}

static void says_how_to_configure_a_provider(void **state)
{
    const char *text;
    (void)state;

    fake_start("{}");
    text = ask_fails(FAKE_HI, ERR_UNSUPPORTED);
    assert_contains(text, "llm.providers");
    assert_contains(text, "ANTHROPIC_API_KEY");
    assert_int_equal(fake.sent, 0);
}

static void refuses_what_no_provider_could_understand(void **state)
{
    static const struct {
        const char *json, *words;
    } rows[] = {
        { "{}", "messages must be" },
        { "{\"messages\":[]}", "messages must be" },
        { "{\"messages\":[7]}", "messages[0].role" },
        { "{\"messages\":[{\"role\":\"robot\",\"content\":\"x\"}]}", "messages[0].role" },
        { "{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "messages[0].content" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"x\"}]}]}", "block" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":[7]}]}", "block" },
        { "{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "tool_call_id" },
        { "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":7}]}", "tool_calls" },
        { "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"a\"}]}]}",
          "tool_calls[0]" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":{}}", "tools must" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"name\":\"a b\"}]}",
          "tools[0]" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tool_choice\":\"x\"}",
          "tool_choice" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"schema\":7}", "schema" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stop\":[\"\"]}", "stop[0]" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"max_tokens\":-1}",
          "max_tokens" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"schema\":{},\"so_far\":\"a\"}",
          "continued" },
    };
    (void)state;

    fake_start(FAKE_ONE("openai", ""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_contains(ask_fails(rows[i].json, ERR_INVALID), rows[i].words);
    assert_contains(ask_fails("{\"provider\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":"
                              "\"x\"}]}",
                              ERR_NOT_FOUND),
                    "main");
    assert_int_equal(fake.sent, 0);
}

static void asks_again_only_when_it_may_help(void **state)
{
    static const struct {
        struct fake_step step;
        bool again;
        enum error_code code;
    } rows[] = {
        { { .status = 408 }, true, ERR_LOST },
        { { .status = 409 }, true, ERR_LOST },
        { { .status = 429 }, true, ERR_LOST },
        { { .status = 500 }, true, ERR_LOST },
        { { .status = 503 }, true, ERR_LOST },
        { { .status = 529 }, true, ERR_LOST },
        { { .status = 0, .broken = ERR_LOST }, true, ERR_LOST },
        { { .status = 0, .broken = ERR_TIMEOUT }, true, ERR_LOST },
        { { .status = 200, .body = "", .broken = ERR_LOST }, true, ERR_LOST },
        { { .status = 200, .body = "" }, true, ERR_LOST },
        { { .status = 200, .body = "data: {\"choices\"\n\n" }, true, ERR_LOST },
        { { .status = 200, .body = "data: []\n\n" }, true, ERR_LOST },
        { { .status = 200, .body = "data: {\"error\":{\"message\":\"oh\"}}\n\n" }, true, ERR_LOST },
        { { .status = 200, .body = OPENAI_END("stop") }, true, ERR_LOST },
        { { .status = 200, .body = "{\"choices\":" }, true, ERR_LOST },
        { { .status = 400, .body = "{\"error\":{\"message\":\"bad\"}}" }, false, ERR_INVALID },
        { { .status = 413 }, false, ERR_INVALID },
        { { .status = 401 }, false, ERR_LOST },
        { { .status = 404 }, false, ERR_LOST },
        { { .status = 302 }, false, ERR_LOST },
        { { .status = 429, .body = "{\"error\":{\"code\":\"insufficient_quota\"}}" },
          false,
          ERR_LOST },
        { { .status = 200, .body = "<html>", .content_type = "text/html" }, false, ERR_LOST },
        { { .status = 200, .body = OPENAI_END("length") }, false, ERR_INVALID },
        { { .status = 0, .broken = ERR_LIMIT }, false, ERR_LOST },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct llm_reply reply;
        struct error err = ERROR_INIT;
        bool ok;

        fake_start(FAKE_ONE("openai", ""));
        fake_step(rows[i].step);
        if (rows[i].again)
            fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("ok") });
        ok = fake_ask(FAKE_HI, &reply, &err);
        if (ok != rows[i].again || fake.sent != (rows[i].again ? 2 : 1) ||
            (!ok && err.code != rows[i].code))
            fail_msg("row %zu: %u sent, %s", i, fake.sent, err.text);
        llm_reply_fini(&reply);
        fake_end(NULL);
    }
}

static void gives_up_after_the_configured_retries(void **state)
{
    const char *text;
    (void)state;

    fake_start("{\"retries\": 2, \"providers\": [{\"name\": \"main\", \"kind\": \"openai\", "
               "\"model\": \"m\", \"base_url\": \"https://api.example\"}]}");
    for (int i = 0; i < 5; i++)
        fake_step((struct fake_step){ .status = 500, .body = "out of order" });
    text = ask_fails(FAKE_HI, ERR_LOST);
    assert_int_equal(fake.sent, 3);
    assert_int_equal(fake.pause_count, 2);
    assert_contains(text, "main: it answered 500: out of order");
    assert_in_range(fake.pauses[0], 0, 500 * CLOCK_NS_PER_MS);
    assert_in_range(fake.pauses[1], 0, 1000 * CLOCK_NS_PER_MS);
}

static void waits_as_long_as_it_is_told(void **state)
{
    (void)state;

    fake_start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){ .status = 429, .retry_after_ns = 20 * CLOCK_NS_PER_S });
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("ok") });
    ask_ok(FAKE_HI, "ok");
    assert_in_range(fake.pauses[0], 20 * CLOCK_NS_PER_S, 21 * CLOCK_NS_PER_S);
    fake_rewind();
    fake_step((struct fake_step){ .status = 429, .retry_after_ns = 500 * CLOCK_NS_PER_S });
    assert_contains(ask_fails(FAKE_HI, ERR_LOST), "429"); /* longer than there is time */
    assert_int_equal(fake.pause_count, 0);
}

static void falls_back_in_the_order_of_the_configuration(void **state)
{
    struct event event;
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(TWO);
    fake_step((struct fake_step){ .status = 500, .body = "one is down" });
    fake_step((struct fake_step){ .status = 500, .body = "one is down" });
    fake_step((struct fake_step){ .status = 200,
                                  .body = CLAUDE_START CLAUDE_TEXT("two") CLAUDE_END("end_turn") });
    assert_ok(fake_ask(FAKE_HI, &reply, &err), err);
    assert_string_equal(reply.provider, "second");
    assert_int_equal(reply.attempts, 3);
    assert_contains(fake.urls[1], "one.example");
    assert_contains(fake.urls[2], "two.example");
    assert_string_equal(fake_sent(2, "model"), "\"m2\"");
    assert_true(fake_event("llm.fallback", &event));
    assert_string_equal(event.subject, "second");
    assert_string_equal(event.agent, "tester");
    assert_contains(event.text, "one is down");
    llm_reply_fini(&reply);
}

static void does_not_wait_long_while_another_can_be_asked(void **state)
{
    (void)state;

    fake_start(TWO);
    fake_step((struct fake_step){ .status = 429, .retry_after_ns = 20 * CLOCK_NS_PER_S });
    fake_step((struct fake_step){ .status = 200,
                                  .body = CLAUDE_START CLAUDE_TEXT("two") CLAUDE_END("end_turn") });
    ask_ok(FAKE_HI, "two");
    assert_int_equal(fake.pause_count, 0);
    fake_rewind();
    fake_step((struct fake_step){ .broken = ERR_TIMEOUT }); /* nor for one that hangs */
    fake_step((struct fake_step){ .status = 200,
                                  .body = CLAUDE_START CLAUDE_TEXT("two") CLAUDE_END("end_turn") });
    ask_ok(FAKE_HI, "two");
    assert_int_equal(fake.sent, 2);
}

static void names_each_reason_when_nobody_answers(void **state)
{
    const char *text;
    (void)state;

    fake_start(TWO);
    fake_step((struct fake_step){ .status = 401, .body = "{\"error\":{\"message\":\"no\"}}" });
    fake_step((struct fake_step){ .status = 404, .body = "{\"error\":{\"message\":\"gone\"}}" });
    text = ask_fails(FAKE_HI, ERR_LOST);
    assert_contains(text, "first: it answered 401: no");
    assert_contains(text, "second: it answered 404: gone");
    fake_rewind();
    fake_step((struct fake_step){ .status = 400, .body = "{\"error\":{\"message\":\"long\"}}" });
    fake_step((struct fake_step){ .status = 404 });
    assert_contains(ask_fails(FAKE_HI, ERR_INVALID), "first: it answered 400: long");
}

static void asks_only_the_provider_that_is_named(void **state)
{
    (void)state;

    fake_start(TWO);
    fake_step((struct fake_step){ .status = 404 });
    ask_fails("{\"provider\":\"first\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}",
              ERR_LOST);
    assert_int_equal(fake.sent, 1);
}

static void leaves_a_failing_provider_alone_and_comes_back(void **state)
{
    struct event event;
    json_t *status;
    const char *text;
    (void)state;

    fake_start("{\"retries\": 0, \"breaker_failures\": 2, \"providers\": [{\"name\": \"main\", "
               "\"kind\": \"openai\", \"model\": \"m\", \"base_url\": \"https://api.example\"}]}");
    for (int i = 0; i < 2; i++) {
        fake_step((struct fake_step){ .status = 502 });
        ask_fails(FAKE_HI, ERR_LOST);
    }
    assert_true(fake_event("llm.breaker", &event));
    assert_string_equal(event.subject, "main");
    assert_contains(event.text, "open");
    text = ask_fails(FAKE_HI, ERR_LOST);
    assert_contains(text, "left alone for 15.0 s");
    assert_contains(text, "502");
    assert_int_equal(fake.sent, 2);
    status = llm_status(fake.llm);
    assert_string_equal(json_string_value(json_object_get(json_array_get(status, 0), "state")),
                        "open");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(status, 0), "retry_in_ms")),
                     15000);
    json_decref(status);
    clock_fake(clock_now_ns() + 15 * CLOCK_NS_PER_S);
    fake_step((struct fake_step){ .status = 502 }); /* the probe fails */
    ask_fails(FAKE_HI, ERR_LOST);
    ask_fails(FAKE_HI, ERR_LOST);
    assert_int_equal(fake.sent, 3);
    clock_fake(clock_now_ns() + 15 * CLOCK_NS_PER_S);
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("back") });
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("again") });
    ask_ok(FAKE_HI, "back");
    ask_ok(FAKE_HI, "again");
    status = llm_status(fake.llm);
    assert_string_equal(json_string_value(json_object_get(json_array_get(status, 0), "state")),
                        "closed");
    json_decref(status);
}

static void a_provider_that_is_not_set_up_is_passed_over(void **state)
{
    const char *text;
    (void)state;

    fake_start("{\"breaker_failures\": 1, \"providers\": ["
               "{\"name\": \"readable\", \"kind\": \"openai\", \"model\": \"m\", \"base_url\": "
               "\"http://api.example/v1\"},"
               "{\"name\": \"keyless\", \"kind\": \"anthropic\", \"model\": \"m\", \"key_env\": "
               "\"AIOS_NO_SUCH_KEY\"},"
               "{\"name\": \"modelless\", \"kind\": \"openai\", \"base_url\": "
               "\"https://api.example\"}]}");
    for (int i = 0; i < 2; i++) { /* which is no failure that opens a breaker */
        text = ask_fails(FAKE_HI, ERR_LOST);
        assert_contains(text, "readable: base_url has no TLS");
        assert_contains(text, "keyless: its key is missing: set the environment variable "
                              "AIOS_NO_SUCH_KEY");
        assert_contains(text, "modelless: it has no \"model\"");
    }
    assert_int_equal(fake.sent, 0);
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("ok") });
    ask_ok("{\"model\":\"named\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}", "ok");
}

static void goes_on_from_the_text_after_a_cut(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(TWO);
    fake_step((struct fake_step){
        .status = 200, .body = OPENAI_TEXT("One two") OPENAI_TEXT(" three"), .broken = ERR_LOST });
    fake_step((struct fake_step){ .status = 200, /* says the last words again, and breaks, too */
                                  .body = OPENAI_TEXT("two three") OPENAI_TEXT(" four "),
                                  .broken = ERR_LOST });
    fake_step((struct fake_step){
        .status = 200, .body = CLAUDE_START CLAUDE_TEXT(" five.") CLAUDE_END("end_turn") });
    assert_ok(fake_ask(FAKE_HI, &reply, &err), err);
    assert_string_equal(buf_str(&reply.text), "One two three four five.");
    assert_string_equal(buf_str(&fake.heard), "One two three four five.");
    assert_string_equal(fake_sent(1, "messages/1/content"), "\"One two three\"");
    assert_string_equal(fake_sent(2, "messages/1/content/0/text"), "\"One two three four\"");
    assert_true(reply.estimated); /* what was cut has cost something, too */
    assert_true(reply.input_tokens > 11);
    llm_reply_fini(&reply);
}

static void what_was_said_before_a_failure_is_kept(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){ .status = 200,
                                  .body = OPENAI_TEXT("Half an ans"),
                                  .broken = ERR_TIMEOUT,
                                  .takes_ns = 200 * CLOCK_NS_PER_S });
    assert_false(fake_ask(FAKE_HI, &reply, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_string_equal(buf_str(&reply.text), "Half an ans");
    llm_reply_fini(&reply);
}

static void a_structured_answer_begins_anew_after_a_cut(void **state)
{
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){
        .status = 200, .body = OPENAI_TEXT("{\\\"n\\\":"), .broken = ERR_LOST });
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("not JSON") });
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("{\\\"n\\\":2}") });
    assert_ok(fake_ask("{\"schema\":{},\"messages\":[{\"role\":\"user\",\"content\":\"n?\"}]}",
                       &reply, &err),
              err);
    assert_string_equal(buf_str(&reply.text), "{\"n\":2}");
    assert_string_equal(buf_str(&fake.heard), "{\"n\":2}");
    assert_string_equal(fake_sent(2, "messages/1"), "");
    llm_reply_fini(&reply);
}

/* Round robin: as often as it likes, and the whole is what one turn would have given. */
static void is_preempted_and_continued(void **state)
{
    static const char *const slices[] = {
        OPENAI_TEXT("One ") OPENAI_TEXT("two ") OPENAI_ALL("lost"),
        OPENAI_TEXT("three ") OPENAI_TEXT("four ") OPENAI_ALL("lost"), OPENAI_ALL("five")
    };
    struct buf text = BUF_INIT;
    struct llm_request request;
    json_t *all;
    (void)state;

    fake_start(FAKE_ONE("openai", ", \"max_tokens\": 10"));
    for (size_t i = 0; i < ARRAY_LEN(slices); i++)
        fake_step((struct fake_step){ .status = 200, .body = slices[i] });
    all = fake_request(&request, FAKE_HI);
    fake.preempt_after = 8;
    for (size_t i = 0; i < ARRAY_LEN(slices); i++) {
        struct wait w = fake_wait(100);
        struct llm_reply reply;
        struct error err = ERROR_INIT;

        llm_reply_init(&reply);
        request.so_far = buf_str(&text);
        fake.preempt_from = fake.heard.len;
        assert_ok(llm_query(fake.llm, &request, &w, &reply, &err), err);
        assert_int_equal(reply.preempted, i < 2);
        assert_string_equal(reply.finish, i < 2 ? "preempted" : "stop");
        buf_append(&text, reply.text.data, reply.text.len);
        llm_reply_fini(&reply);
    }
    assert_string_equal(buf_str(&text), "One two three four five");
    assert_string_equal(buf_str(&fake.heard), "One two three four five");
    assert_int_equal(fake.sent, 3);
    assert_string_equal(fake_sent(0, "max_tokens"), "10"); /* all turns write one answer */
    assert_string_equal(fake_sent(2, "max_tokens"), "5");
    json_decref(all);
    buf_fini(&text);
}

static void never_shows_a_key(void **state)
{
    static const struct fake_step rows[] = {
        { .status = 401,
          .body = "{\"error\":{\"message\":\"Incorrect API key provided: " FAKE_KEY "\"}}" },
        { .status = 500, .body = "Authorization: Bearer " FAKE_KEY },
        { .status = 400, .body = "{\"error\":{\"message\":\"" FAKE_KEY " is bad\"}}" },
        { .status = 200, .body = "data: {\"error\":{\"message\":\"key " FAKE_KEY "\"}}\n\n" },
        { .status = 200, .body = "x", .content_type = "text/" FAKE_KEY },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct event event;
        uint64_t dropped;
        json_t *status;
        char *shown;

        fake_start("{\"retries\": 0, \"breaker_failures\": 1, \"providers\": [{\"name\": \"a\", "
                   "\"kind\": \"openai\", \"model\": \"m\", \"base_url\": \"https://api.example\", "
                   "\"key_env\": \"AIOS_TEST_KEY\"}, {\"name\": \"b\", \"kind\": \"openai\", "
                   "\"model\": \"m\", \"base_url\": \"https://b.example\"}]}");
        fake_step(rows[i]);
        fake_step((struct fake_step){ .status = 404 });
        assert_null(
            strstr(ask_fails(FAKE_HI, rows[i].status == 400 ? ERR_INVALID : ERR_LOST), "secret"));
        assert_null(strstr(ask_fails(FAKE_HI, ERR_LOST), "secret")); /* the breaker's words */
        while (event_next(fake.sub, &event, &dropped))
            assert_null(strstr(event.text, "secret"));
        status = llm_status(fake.llm);
        shown = json_dumps(status, 0);
        assert_null(strstr(shown, "secret"));
        free(shown);
        json_decref(status);
        fake_end(NULL);
    }
}

static void bounds_an_answer(void **state)
{
    static char huge[LLM_EVENT_BYTES + 100];
    (void)state;

    fake_start(TWO);
    memset(huge, 'x', sizeof huge - 1);
    memcpy(huge, "data: ", 6);
    fake_step((struct fake_step){ .status = 200, .body = huge });
    fake_step((struct fake_step){ .status = 200,
                                  .body = CLAUDE_START CLAUDE_TEXT("two") CLAUDE_END("end_turn") });
    ask_ok(FAKE_HI, "two");
    assert_int_equal(fake.sent, 2); /* it would say the same again */
}

static void counts_tokens_and_costs(void **state)
{
    struct llm_usage usage;
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(FAKE_ONE("openai", ", \"input_price\": 2.0, \"output_price\": 10"));
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("ok") });
    assert_ok(fake_ask(FAKE_HI, &reply, &err), err);
    assert_true(reply.cost > 0.0000919 && reply.cost < 0.0000921);
    llm_reply_fini(&reply);
    ask_fails(FAKE_HI, ERR_LOST);
    llm_usage(fake.llm, "tester", &usage);
    assert_int_equal(usage.calls, 2);
    assert_int_equal(usage.failures, 1);
    assert_int_equal(usage.input_tokens, 11);
    assert_int_equal(usage.output_tokens, 7);
    assert_true(usage.cost > 0.0000919 && usage.cost < 0.0000921);
}

static void keeps_to_the_budget(void **state)
{
    struct event event;
    const char *text;
    (void)state;

    fake_start("{\"budget_tokens\": 40, \"providers\": [{\"name\": \"main\", \"kind\": \"openai\", "
               "\"model\": \"m\", \"base_url\": \"https://api.example\"}]}");
    for (int i = 0; i < 3; i++)
        fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("ok") });
    ask_ok(FAKE_HI, "ok");
    assert_string_equal(fake_sent(0, "max_tokens"), "32"); /* what is left beside the question */
    ask_ok(FAKE_HI, "ok");
    text = ask_fails(FAKE_HI, ERR_LIMIT);
    assert_contains(text, "4 of its 40 tokens left");
    assert_contains(text, "llm.budget_tokens");
    assert_int_equal(fake.sent, 2);
    assert_true(fake_event("llm.budget", &event));
    assert_string_equal(event.agent, "tester");
}

static void keeps_to_the_deadline(void **state)
{
    struct llm_request request;
    json_t *all;
    struct wait w;
    struct cancel token;
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    (void)state;

    fake_start(TWO);
    all = fake_request(&request, FAKE_HI);
    llm_reply_init(&reply);
    w = fake_wait(0);
    assert_false(llm_query(fake.llm, &request, &w, &reply, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_int_equal(fake.sent, 0);
    error_clear(&err);
    fake_step((struct fake_step){ .broken = ERR_TIMEOUT, .takes_ns = 10 * CLOCK_NS_PER_S });
    w = fake_wait(10);
    assert_false(llm_query(fake.llm, &request, &w, &reply, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_int_equal(fake.sent, 1);
    error_clear(&err);
    cancel_init(&token);
    fake_step((struct fake_step){ .broken = ERR_CANCELLED });
    w = fake_wait(10);
    w.cancel = &token;
    assert_false(llm_query(fake.llm, &request, &w, &reply, &err));
    assert_code(err, ERR_CANCELLED);
    assert_int_equal(fake.sent, 2);
    cancel_fini(&token);
    llm_reply_fini(&reply);
    json_decref(all);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(says_how_to_configure_a_provider),
        WITH_FAKE(refuses_what_no_provider_could_understand),
        WITH_FAKE(asks_again_only_when_it_may_help),
        WITH_FAKE(gives_up_after_the_configured_retries),
        WITH_FAKE(waits_as_long_as_it_is_told),
        WITH_FAKE(falls_back_in_the_order_of_the_configuration),
        WITH_FAKE(does_not_wait_long_while_another_can_be_asked),
        WITH_FAKE(names_each_reason_when_nobody_answers),
        WITH_FAKE(asks_only_the_provider_that_is_named),
        WITH_FAKE(leaves_a_failing_provider_alone_and_comes_back),
        WITH_FAKE(a_provider_that_is_not_set_up_is_passed_over),
        WITH_FAKE(goes_on_from_the_text_after_a_cut),
        WITH_FAKE(what_was_said_before_a_failure_is_kept),
        WITH_FAKE(a_structured_answer_begins_anew_after_a_cut),
        WITH_FAKE(is_preempted_and_continued),
        WITH_FAKE(never_shows_a_key),
        WITH_FAKE(bounds_an_answer),
        WITH_FAKE(counts_tokens_and_costs),
        WITH_FAKE(keeps_to_the_budget),
        WITH_FAKE(keeps_to_the_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
