/* Calls in flight: their answers, their ids, progress, cancelling, questions back, log messages. */
#include "mcp/revision.h"
#include "tests/unit/mcp_place.h"

/* ---- answers ---- */

static void shows_images(void **state)
{
    struct place p;
    MESSAGE m = NULL;
    (void)state;

    place_new(&p, 2);
    call(&p, "1", "image", "");
    m = take_answer(&p, 1, 0);
    assert_string_equal(text_at(m, "result.content.0.type"), "image");
    assert_string_equal(text_at(m, "result.content.0.data"), "iVBORw==");
    assert_string_equal(text_at(m, "result.content.0.mimeType"), "image/png");
    assert_null(at(m, "result.isError"));
    assert_null(json_object_get(at(m, "result._meta"), REVISION_ERROR_CLASS));
    place_free(&p);
}

static void answers_as_calls_complete_and_not_in_order(void **state)
{
    struct place p;
    MESSAGE m = NULL;
    (void)state;

    place_new(&p, 2);
    call(&p, "1", "wait", "");
    await_handler(&p);
    call(&p, "2", "echo", "\"arguments\":{\"text\":\"quick\"}");
    assert_answer(&p, 2, 0);
    sem_post(&gate);
    m = take_answer(&p, 1, 0);
    assert_string_equal(text_at(m, "result.content.0.text"), "passed");
    place_free(&p);
}

static void refuses_an_id_that_is_in_use(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2);
    call(&p, "1", "wait", "");
    await_handler(&p);
    ask(&p, "1", "ping", "");
    assert_answer(&p, 1, JSONRPC_INVALID_REQUEST);
    call(&p, "1", "echo", "\"arguments\":{\"text\":\"x\"}");
    assert_answer(&p, 1, JSONRPC_INVALID_REQUEST);
    ask(&p, "\"1\"", "ping", ""); /* a text is another id than a number */
    assert_answer(&p, 0, 0);
    sem_post(&gate);
    assert_answer(&p, 1, 0);
    ask(&p, "1", "ping", ""); /* free again */
    assert_answer(&p, 1, 0);
    place_free(&p);
}

static void holds_a_bounded_number_of_calls(void **state)
{
    struct place p;
    MESSAGE busy = NULL;
    MESSAGE after = NULL;
    (void)state;

    place_new(&p, 1);
    for (unsigned i = 0; i < LIMIT_INFLIGHT; i++) {
        char id[16];

        (void)snprintf(id, sizeof id, "%u", i);
        call(&p, id, "wait", "");
    }
    call(&p, "5000", "echo", "\"arguments\":{\"text\":\"x\"}");
    busy = take_answer(&p, 5000, 0);
    assert_true(json_is_true(at(busy, "result.isError")));
    assert_contains(text_at(busy, "result.content.0.text"), "1024 calls are in flight");
    assert_string_equal(
        json_string_value(json_object_get(at(busy, "result._meta"), REVISION_ERROR_CLASS)), "busy");
    /* It still reads, so that one can be cancelled, which makes room. */
    put(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/"
            "cancelled\",\"params\":{\"requestId\":1000}}");
    assert_silence(&p);
    assert_silence(&p);
    call(&p, "5001", "echo", "\"arguments\":{\"text\":\"x\"}");
    for (int i = 0; i < 10; i++)
        loop_turn(p.loop, 0);
    sem_post(&gate);
    sem_post(&gate); /* one at a time, so an inline one may have to wait its turn */
    after = take(&p);
    assert_null(at(after, "error"));
    place_free(&p);
}

/* ---- cancelling ---- */

static void cancel(struct place *p, const char *id)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;

    assert_true(
        buf_printf(&line,
                   "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
                   "\"requestId\":%s,\"reason\":\"enough\"}}",
                   id));
    put(p, buf_str(&line));
}

static void says_nothing_of_a_running_call_that_is_cancelled(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2);
    call(&p, "\"c\"", "wait", "\"_meta\":{\"progressToken\":\"t\"}");
    await_handler(&p);
    cancel(&p, "\"c\"");
    cancel(&p, "\"c\"");
    assert_silence(&p);
    call(&p, "\"c\"", "echo", "\"arguments\":{\"text\":\"the id may be used again\"}");
    {
        MESSAGE m = take(&p);

        assert_string_equal(text_at(m, "id"), "c");
        assert_contains(text_at(m, "result.content.0.text"), "used again");
    }
    assert_silence(&p);
    place_free(&p);
}

static void says_nothing_of_a_queued_call_that_is_cancelled(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 1);
    call(&p, "1", "wait", "");
    await_handler(&p);
    call(&p, "2", "wait", "");
    call(&p, "3", "wait", "");
    cancel(&p, "2");
    assert_silence(&p);
    sem_post(&gate);
    assert_answer(&p, 1, 0);
    sem_post(&gate);
    assert_answer(&p, 3, 0);
    assert_silence(&p);
    place_free(&p);
}

static void ignores_cancels_of_what_is_not_there(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2);
    cancel(&p, "1"); /* before it is sent */
    call(&p, "1", "echo", "\"arguments\":{\"text\":\"x\"}");
    assert_answer(&p, 1, 0);
    cancel(&p, "1"); /* after it was answered */
    cancel(&p, "null");
    cancel(&p, "[1]");
    put(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{}}");
    put(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\"}");
    assert_silence(&p);
    place_free(&p);
}

static void a_cancel_and_its_answer_may_cross(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 4);
    for (int i = 0; i < 200; i++) {
        MESSAGE m = NULL;

        call(&p, "7", "wait", "");
        sem_post(&gate);
        if (i % 3 == 0)
            loop_turn(p.loop, 0);
        cancel(&p, "7");
        ask(&p, "8", "ping", "");
        m = take(&p);
        if (int_at(m, "id") == 7) /* it had been answered already */
            assert_answer(&p, 8, 0);
        else
            assert_int_equal(int_at(m, "id"), 8);
        while (sem_trywait(&gate) == 0 || sem_trywait(&arrived) == 0)
            continue;
    }
    place_free(&p);
}

/* ---- progress ---- */

static void tells_of_progress_to_who_asked_for_it(void **state)
{
    static const struct {
        const char *version, *params, *token;
        bool message;
    } rows[] = {
        { "2025-11-25", "\"_meta\":{\"progressToken\":\"a \\\"b\\\"\"}", "\"a \\\"b\\\"\"", true },
        { "2025-11-25", "\"_meta\":{\"progressToken\":7}", "7", true },
        { "2025-03-26", "\"_meta\":{\"progressToken\":7}", "7", true },
        { "2024-11-05", "\"_meta\":{\"progressToken\":7}", "7", false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t now_ns = clock_now_ns();
        struct place p;

        clock_fake(now_ns);
        place_new(&p, 2);
        initialize(&p, rows[i].version, "");
        call(&p, "2", "wait", rows[i].params);
        await_handler(&p);
        assert_silence(&p);
        for (int note = 1; note <= 3; note++) {
            CLEANUP(buf_fini) struct buf token = BUF_INIT;
            MESSAGE m = NULL;

            clock_fake(now_ns + note * 5 * CLOCK_NS_PER_S - 1);
            assert_silence(&p);
            clock_fake(now_ns + note * 5 * CLOCK_NS_PER_S);
            m = take(&p);
            assert_string_equal(text_at(m, "method"), "notifications/progress");
            assert_true(json_write(at(m, "params.progressToken"), &token));
            assert_string_equal(buf_str(&token), rows[i].token);
            assert_true(json_real_value(at(m, "params.progress")) == 5.0 * note);
            if (rows[i].message)
                assert_string_equal(text_at(m, "params.message"), "at the \"gate\"");
            else
                assert_null(at(m, "params.message"));
            assert_silence(&p);
        }
        sem_post(&gate);
        assert_answer(&p, 2, 0);
        clock_fake(now_ns + 60 * CLOCK_NS_PER_S);
        assert_silence(&p); /* none after the answer */
        place_free(&p);
    }
}

static void is_silent_about_progress_otherwise(void **state)
{
    static const char *const params[] = { "", "\"_meta\":{}", "\"_meta\":{\"progressToken\":1.5}",
                                          "\"_meta\":{\"progressToken\":null}" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(params); i++) {
        int64_t now_ns = clock_now_ns();
        struct place p;

        clock_fake(now_ns);
        place_new(&p, 2);
        call(&p, "2", "wait", params[i]);
        await_handler(&p);
        clock_fake(now_ns + 20 * CLOCK_NS_PER_S);
        assert_silence(&p);
        cancel(&p, "2");
        place_free(&p);
    }
}

static void progress_ends_with_a_cancel(void **state)
{
    int64_t now_ns = clock_now_ns();
    struct place p;
    (void)state;

    clock_fake(now_ns);
    place_new(&p, 1);
    call(&p, "1", "wait", "");
    await_handler(&p);
    call(&p, "2", "wait", "\"_meta\":{\"progressToken\":7}"); /* in the queue */
    assert_silence(&p);
    clock_fake(now_ns + 5 * CLOCK_NS_PER_S);
    {
        MESSAGE m = take(&p);

        assert_int_equal(int_at(m, "params.progressToken"), 7);
        assert_null(at(m, "params.message")); /* nobody has said anything yet */
    }
    cancel(&p, "2");
    assert_silence(&p);
    clock_fake(now_ns + 60 * CLOCK_NS_PER_S);
    assert_silence(&p);
    place_free(&p);
}

/* ---- questions to the client ---- */

static void asks_a_legacy_client_for_its_roots(void **state)
{
    struct place p;
    MESSAGE question = NULL;
    MESSAGE m = NULL;
    char line[200];
    (void)state;

    place_new(&p, 2);
    initialize(&p, "2025-11-25", "\"roots\":{}");
    call(&p, "2", "roots", "");
    question = take(&p);
    assert_string_equal(text_at(question, "method"), "roots/list");
    (void)snprintf(
        line, sizeof line,
        "{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"result\":{\"roots\":[{\"uri\":\"file:///a\"}]}}",
        text_at(question, "id"));
    put(&p, line);
    m = take_answer(&p, 2, 0);
    assert_string_equal(text_at(m, "result.content.0.text"), "{\"roots\":[\"file:///a\"]}");
    put(&p, line); /* once more is nothing */
    assert_silence(&p);
    place_free(&p);
}

static void says_that_the_client_would_not_tell(void **state)
{
    struct place p;
    MESSAGE question = NULL;
    MESSAGE m = NULL;
    char line[200];
    (void)state;

    place_new(&p, 2);
    initialize(&p, "2025-11-25", "\"roots\":{}");
    call(&p, "2", "roots", "");
    question = take(&p);
    (void)snprintf(
        line, sizeof line,
        "{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"error\":{\"code\":-32603,\"message\":\"not now\"}}",
        text_at(question, "id"));
    put(&p, line);
    m = take_answer(&p, 2, 0);
    assert_true(json_is_true(at(m, "result.isError")));
    assert_contains(text_at(m, "result.content.0.text"), "not now");
    place_free(&p);
}

static void a_cancel_ends_the_question(void **state)
{
    struct place p;
    MESSAGE question = NULL;
    MESSAGE withdrawn = NULL;
    (void)state;

    place_new(&p, 1);
    initialize(&p, "2025-11-25", "\"roots\":{}");
    call(&p, "2", "roots", "");
    question = take(&p);
    cancel(&p, "2");
    withdrawn = take(&p);
    assert_string_equal(text_at(withdrawn, "method"), "notifications/cancelled");
    assert_string_equal(text_at(withdrawn, "params.requestId"), text_at(question, "id"));
    assert_silence(&p);
    call(&p, "3", "wait", ""); /* the one worker is free again */
    sem_post(&gate);
    assert_answer(&p, 3, 0);
    place_free(&p);
}

static void asks_no_client_that_offers_no_roots(void **state)
{
    struct place p;
    MESSAGE m = NULL;
    (void)state;

    place_new(&p, 2);
    initialize(&p, "2025-11-25", "\"sampling\":{}");
    call(&p, "2", "roots", "");
    m = take_answer(&p, 2, 0);
    assert_contains(text_at(m, "result.content.0.text"), "has no roots");
    place_free(&p);
}

static void asks_no_modern_client_for_what_its_call_does_not_offer(void **state)
{
    struct place p;
    MESSAGE m = NULL;
    (void)state;

    place_new(&p, 2);
    initialize(&p, "2025-11-25", "\"roots\":{}"); /* somebody's, but not this request's */
    call(&p, "2", "roots", META);
    m = take_answer(&p, 2, 0);
    assert_contains(text_at(m, "result.content.0.text"), "has no roots");
    place_free(&p);
}

/* ---- log messages ---- */

static void assert_event(struct place *p, const char *level, const char *event, const char *text)
{
    MESSAGE m = take(p);

    assert_string_equal(text_at(m, "method"), "notifications/message");
    assert_string_equal(text_at(m, "params.level"), level);
    assert_string_equal(text_at(m, "params.logger"), "aios");
    assert_string_equal(text_at(m, "params.data.event"), event);
    assert_string_equal(text_at(m, "params.data.subject"), "c_1");
    assert_string_equal(text_at(m, "params.data.text"), text);
}

static void logs_to_a_legacy_client_from_the_level_it_set(void **state)
{
    static const struct {
        const char *level;
        bool denied, ended;
    } rows[] = {
        { NULL, false, false },     { "emergency", false, false }, { "error", false, false },
        { "warning", true, false }, { "info", true, false },       { "debug", true, true },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct place p;
        char params[64];

        place_new(&p, 2);
        initialize(&p, "2025-11-25", "");
        if (rows[i].level) {
            (void)snprintf(params, sizeof params, "\"level\":\"%s\"", rows[i].level);
            ask(&p, "2", "logging/setLevel", params);
            assert_answer(&p, 2, 0);
        }
        /* What the kernel says of its own goes by at debug level, too: look at ours alone. */
        event_publish(kernel_events(p.k), "egress.ended", "default", "c_1", "closed");
        event_publish(kernel_events(p.k), "egress.denied", "somebody_else", "c_2", "not yours");
        event_publish(kernel_events(p.k), "egress.denied", "default", "c_1",
                      "to \"example.org\"\n");
        if (rows[i].ended)
            assert_event(&p, "debug", "egress.ended", "closed");
        if (rows[i].denied)
            assert_event(&p, "warning", "egress.denied", "to \"example.org\"\n");
        assert_silence(&p);
        place_free(&p);
    }
}

static void grades_events(void **state)
{
    static const struct {
        const char *topic, *level;
    } rows[] = {
        { "computer.lost", "error" },   { "computer.refused", "warning" },
        { "computer.created", "info" }, { "syscall.denied", "warning" },
        { "egress.allowed", "info" },   { "egress.ended", "debug" },
        { "something.else", "debug" },
    };
    struct place p;
    (void)state;

    place_new(&p, 2);
    ask(&p, "2", "logging/setLevel", "\"level\":\"debug\"");
    assert_answer(&p, 2, 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        event_publish(kernel_events(p.k), rows[i].topic, "default", "c_1", "x");
        assert_event(&p, rows[i].level, rows[i].topic, "x");
    }
    ask(&p, "3", "logging/setLevel", "\"level\":\"emergency\"");
    assert_answer(&p, 3, 0);
    event_publish(kernel_events(p.k), "computer.lost", "default", "c_1", "x");
    assert_silence(&p);
    place_free(&p);
}

static void logs_to_a_modern_request_while_it_runs(void **state)
{
    static const char meta[] =
        "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\","
        "\"io.modelcontextprotocol/clientCapabilities\":{},"
        "\"io.modelcontextprotocol/logLevel\":\"warning\"}";
    struct place p;
    (void)state;

    place_new(&p, 4);
    call(&p, "1", "event", META); /* asked for none */
    await_handler(&p);
    assert_silence(&p);
    call(&p, "2", "event", meta);
    await_handler(&p);
    assert_event(&p, "warning", "egress.denied", "to \"example.org\"");
    sem_post(&gate);
    sem_post(&gate);
    for (int i = 0; i < 2; i++) {
        MESSAGE m = take(&p);

        assert_true(int_at(m, "id") == 1 || int_at(m, "id") == 2);
    }
    event_publish(kernel_events(p.k), "egress.denied", "default", "c_1", "later");
    assert_silence(&p);
    place_free(&p);
}

static void drops_log_messages_that_nobody_reads(void **state)
{
    struct place p;
    size_t bytes = 0;
    char text[200];
    (void)state;

    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    place_new(&p, 2);
    ask(&p, "2", "logging/setLevel", "\"level\":\"warning\"");
    assert_answer(&p, 2, 0);
    for (unsigned i = 0; i < 250; i++) {
        for (unsigned n = 0; n < LIMIT_EVENT_QUEUE; n++)
            event_publish(kernel_events(p.k), "egress.denied", "default", "c_1", "%s", text);
        loop_turn(p.loop, 0);
    }
    ask(&p, "3", "ping", "");
    for (bool answered = false; !answered;) {
        CLEANUP(buf_fini) struct buf line = BUF_INIT;
        MESSAGE m = take(&p);

        assert_true(json_write(m, &line));
        bytes += line.len;
        answered = at(m, "id") != NULL;
    }
    assert_true(bytes > LIMIT_MCP_OUT_BYTES);
    assert_true(bytes < LIMIT_MCP_OUT_BYTES + (4u << 20));
    place_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_images),
        cmocka_unit_test(answers_as_calls_complete_and_not_in_order),
        cmocka_unit_test(refuses_an_id_that_is_in_use),
        cmocka_unit_test(holds_a_bounded_number_of_calls),
        cmocka_unit_test(says_nothing_of_a_running_call_that_is_cancelled),
        cmocka_unit_test(says_nothing_of_a_queued_call_that_is_cancelled),
        cmocka_unit_test(ignores_cancels_of_what_is_not_there),
        cmocka_unit_test(a_cancel_and_its_answer_may_cross),
        cmocka_unit_test(tells_of_progress_to_who_asked_for_it),
        cmocka_unit_test(is_silent_about_progress_otherwise),
        cmocka_unit_test(progress_ends_with_a_cancel),
        cmocka_unit_test(asks_a_legacy_client_for_its_roots),
        cmocka_unit_test(says_that_the_client_would_not_tell),
        cmocka_unit_test(a_cancel_ends_the_question),
        cmocka_unit_test(asks_no_client_that_offers_no_roots),
        cmocka_unit_test(asks_no_modern_client_for_what_its_call_does_not_offer),
        cmocka_unit_test(logs_to_a_legacy_client_from_the_level_it_set),
        cmocka_unit_test(grades_events),
        cmocka_unit_test(logs_to_a_modern_request_while_it_runs),
        cmocka_unit_test(drops_log_messages_that_nobody_reads),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
