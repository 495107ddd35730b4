/*
 * The service over real connections: an OpenAI-compatible and an Anthropic-compatible server of the
 * test's own, which stream as the real ones do, and fail in every way that a server can.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "kernel/base/clock.h"
#include "kernel/config.h"
#include "kernel/event.h"
#include "kernel/llm.h"
#include "kernel/llm_provider.h"
#include "tests/support/check.h"
#include "tests/support/http_script.h"

#define KEY     "Zx9-secret-Q7w8e9r0t1"
#define IDLE_MS 1000

/* Parts of a stream for either kind: [0] OpenAI, [1] Anthropic. */
static const char *const begins[2] = {
    ": keep-alive\n\n",
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"served\","
    "\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n"
};
static const char *const ends[2] = {
    "data: "
    "{\"model\":\"served\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]"
    "}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n"
    "data: [DONE]\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn"
    "\"},\"usage\":{\"output_tokens\":4}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}"
    "\n\n"
};

enum fault {
    FINE,
    SLOW,
    CUT_AT_ONCE,
    CUT_HEAD,
    CUT_STREAM, /* after the first half of the text */
    RESET_STREAM,
    BUSY_429,
    BROKEN_500,
    OVERLOADED_529,
    BAD_CHUNK,
    BAD_JSON,
    BAD_JSON_LATE, /* after the first half */
    HUGE_TOKEN,
    HTML,
    WRONG_KEY,
    HANGING,
    HANGING_LATE, /* after the first half */
    EMPTY,
    NOTHING, /* a stream without an event */
    REST,    /* answers with the second half */
};

/* What each request is answered with; the last row goes on for ever. */
static struct plan {
    int kind;
    const enum fault *faults;
    size_t count;
    atomic_int gone; /* clients that went away while the server held */
} plan;

/* One piece of text as an event of either kind. */
static const char *event_of(char *buf, size_t size, const char *text)
{
    if (plan.kind == 0)
        (void)snprintf(buf, size,
                       "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"}}]}\n\n",
                       text);
    else
        (void)snprintf(buf, size,
                       "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
                       "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"%s\"}}\n\n",
                       text);
    return buf;
}

static bool chunk(struct http_script_conn *c, const char *text)
{
    return http_script_chunk(c, text, strlen(text));
}

static bool say(struct http_script_conn *c, const char *text)
{
    char event[400];

    return chunk(c, event_of(event, sizeof event, text));
}

static bool begin(struct http_script_conn *c)
{
    return http_script_chunked(c, 200, "Content-Type: text/event-stream; charset=utf-8\r\n") &&
           chunk(c, begins[plan.kind]);
}

static void end(struct http_script_conn *c)
{
    (void)(chunk(c, ends[plan.kind]) && http_script_chunk(c, "", 0));
}

static void whole(struct http_script_conn *c, bool slow)
{
    char stream[2000], one[400], two[400];
    size_t len = (size_t)snprintf(stream, sizeof stream, "%s%s%s%s", begins[plan.kind],
                                  event_of(one, sizeof one, "One two"),
                                  event_of(two, sizeof two, " three"), ends[plan.kind]);

    if (!http_script_chunked(c, 200, "Content-Type: text/event-stream\r\n"))
        return;
    for (size_t i = 0, piece; i < len; i += piece) {
        piece = slow ? 1 : len;
        if (!http_script_chunk(c, stream + i, MIN(piece, len - i)))
            return;
    }
    (void)http_script_chunk(c, "", 0);
}

static void huge(struct http_script_conn *c)
{
    static const char block[4097] = { [0 ... 4095] = 'x' };

    if (!begin(c) || !chunk(c, "data: {\"choices\":[{\"delta\":{\"content\":\""))
        return;
    for (unsigned i = 0; i < 600; i++)
        if (!http_script_chunk(c, block, 4096))
            return;
    (void)(chunk(c, "\"}}]}\n\n") && http_script_chunk(c, "", 0));
}

static void hold(struct http_script_conn *c)
{
    http_script_hold(c);
    plan.gone++;
}

static void serve(struct http_script_conn *c, const struct http_script_request *r, void *arg)
{
    enum fault fault = plan.faults[MIN(r->number, plan.count - 1)];

    (void)arg;
    switch (fault) {
    case FINE:
    case SLOW:
        whole(c, fault == SLOW);
        break;
    case REST:
        (void)(begin(c) && say(c, " three"));
        end(c);
        break;
    case CUT_AT_ONCE:
        http_script_reset(c);
        break;
    case CUT_HEAD:
        (void)http_script_text(c, "HTTP/1.1 200 OK\r\nContent-Ty");
        http_script_close(c);
        break;
    case CUT_STREAM:
    case RESET_STREAM:
        (void)(begin(c) && say(c, "One two"));
        if (fault == CUT_STREAM)
            http_script_close(c);
        else
            http_script_hold(c); /* so that the text arrives before the end does */
        break;
    case BUSY_429:
        (void)http_script_reply(c, 429, "Retry-After: 1\r\nContent-Type: application/json\r\n",
                                "{\"error\":{\"message\":\"slow down\"}}");
        break;
    case BROKEN_500:
        (void)http_script_reply(c, 500, "", "<h1>Internal error</h1>");
        break;
    case OVERLOADED_529:
        (void)http_script_reply(c, 529, "Content-Type: application/json\r\n",
                                "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
                                "\"message\":\"Overloaded\"}}");
        break;
    case BAD_CHUNK:
        (void)http_script_text(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\nzz\r\ndata: x\r\n");
        http_script_close(c);
        break;
    case BAD_JSON:
        (void)(begin(c) && chunk(c, "data: {\"choices\":[{\"delta\":\n\n"));
        end(c);
        break;
    case BAD_JSON_LATE:
        (void)(begin(c) && say(c, "One two") && chunk(c, "data: {\"choices\":[{\"delta\":\n\n"));
        end(c);
        break;
    case HUGE_TOKEN:
        huge(c);
        break;
    case HTML:
        (void)http_script_reply(c, 200, "Content-Type: text/html\r\n", "<html>Log in</html>");
        break;
    case WRONG_KEY:
        (void)http_script_reply(c, 401, "Content-Type: application/json\r\n",
                                "{\"error\":{\"message\":\"Incorrect key: " KEY "\"}}");
        break;
    case HANGING:
        hold(c);
        break;
    case HANGING_LATE:
        if (begin(c) && say(c, "One two"))
            hold(c);
        break;
    case EMPTY:
        (void)http_script_reply(c, 200, "Content-Type: text/event-stream\r\n", "");
        break;
    case NOTHING:
        if (begin(c))
            end(c);
        break;
    }
}

/* ---- the world ---- */

static struct http_script *server;
static struct config *config;
static struct event_bus *bus;
static struct llm *llm;

static void configure(int kind, const char *more)
{
    struct error err = ERROR_INIT;
    char text[1000];

    plan.kind = kind;
    setenv("AIOS_TEST_KEY", KEY, 1);
    (void)snprintf(text, sizeof text,
                   "{\"llm\":{\"idle_ms\":%d,\"timeout_ms\":20000%s,\"providers\":[{\"name\":"
                   "\"main\",\"kind\":\"%s\",\"model\":\"m\",\"key_env\":\"AIOS_TEST_KEY\","
                   "\"base_url\":\"%s\"}]}}",
                   IDLE_MS, more, kind == 0 ? "openai" : "anthropic",
                   http_script_url(server, "/v1"));
    config = config_parse(text, strlen(text), "test", NULL, &err);
    assert_ok(config, err);
    llm = llm_new(config, bus, &err);
    assert_ok(llm, err);
}

static void start(int kind, const enum fault *faults, size_t count, const char *more)
{
    struct error err = ERROR_INIT;

    plan.faults = faults;
    plan.count = count;
    plan.gone = 0;
    server = http_script_start(serve, NULL);
    assert_non_null(server);
    bus = event_bus_new(&err);
    assert_ok(bus, err);
    configure(kind, more);
}

static int stop(void **state)
{
    (void)state;
    llm_free(llm);
    llm = NULL;
    config_free(config);
    config = NULL;
    event_bus_free(bus);
    bus = NULL;
    if (server)
        http_script_stop(server);
    server = NULL;
    return 0;
}

#define WITH_SERVER(test) cmocka_unit_test_teardown(test, stop)

static bool ask(const char *agent, struct llm_reply *reply, const char *so_far,
                bool (*preempt)(void *arg), struct error *err)
{
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", "Count");
    struct llm_request request = { .agent = agent,
                                   .messages = messages,
                                   .temperature = -1,
                                   .so_far = so_far,
                                   .preempt = preempt };
    struct wait w = { .deadline_ns = clock_now_ns() + 30 * CLOCK_NS_PER_S };
    bool ok;

    llm_reply_init(reply);
    ok = llm_query(llm, &request, &w, reply, err);
    json_decref(messages);
    return ok;
}

static void every_fault_is_survived_or_named(void **state)
{
    static const struct {
        const char *label;
        enum fault first, then;
        const char *names; /* NULL: recovers; else what the error says */
        const char *more;
    } rows[] = {
        { "fine", FINE, FINE, NULL, "" },
        { "slow bytes", SLOW, SLOW, NULL, "" },
        { "cut at once", CUT_AT_ONCE, FINE, NULL, "" },
        { "cut in the head", CUT_HEAD, FINE, NULL, "" },
        { "cut in the stream", CUT_STREAM, REST, NULL, "" },
        { "silent in the stream", RESET_STREAM, REST, NULL, "" },
        { "429", BUSY_429, FINE, NULL, "" },
        { "500", BROKEN_500, FINE, NULL, "" },
        { "529", OVERLOADED_529, FINE, NULL, "" },
        { "malformed chunk", BAD_CHUNK, FINE, NULL, "" },
        { "malformed event", BAD_JSON, FINE, NULL, "" },
        { "malformed event after text", BAD_JSON_LATE, REST, NULL, "" },
        { "hanging", HANGING, FINE, NULL, "" },
        { "hanging after text", HANGING_LATE, REST, NULL, "" },
        { "empty", EMPTY, FINE, NULL, "" },
        { "no text", NOTHING, FINE, NULL, "" },
        { "500 for ever", BROKEN_500, BROKEN_500, "answered 500", ",\"retries\":1" },
        { "hanging for ever", HANGING, HANGING, "main: ", ",\"retries\":1" },
        { "malformed for ever", BAD_JSON, BAD_JSON, "not JSON", ",\"retries\":1" },
        { "bad chunks for ever", BAD_CHUNK, BAD_CHUNK, "main: ", ",\"retries\":1" },
        { "nothing for ever", NOTHING, NOTHING, "empty", ",\"retries\":1" },
        { "huge token", HUGE_TOKEN, FINE, "longer than 1024 KiB", "" },
        { "not a stream", HTML, FINE, "text/html", "" },
        { "wrong key", WRONG_KEY, FINE,
          "answered 401: Incorrect key: [key]; its key is from key_env ", "" },
    };
    (void)state;

    for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
        const size_t row = i / 2;
        enum fault faults[2] = { rows[row].first, rows[row].then };
        struct llm_reply reply;
        struct error err = ERROR_INIT;
        char header[100];
        int64_t began_ns = clock_now_ns();
        bool ok;

        start((int)(i % 2), faults, 2, rows[row].more);
        ok = ask("x", &reply, NULL, NULL, &err);
        if (clock_now_ns() - began_ns > 25 * CLOCK_NS_PER_S)
            fail_msg("%s took too long", rows[row].label);
        if (ok != (rows[row].names == NULL))
            fail_msg("%s: %s", rows[row].label, ok ? "no failure" : err.text);
        if (ok && strcmp(buf_str(&reply.text), "One two three") != 0)
            fail_msg("%s: \"%s\"", rows[row].label, buf_str(&reply.text));
        if (!ok)
            assert_contains(err.text, rows[row].names);
        assert_null(strstr(err.text, "secret"));
        assert_true(http_script_header(http_script_request(server, 0),
                                       i % 2 ? "x-api-key" : "Authorization", header,
                                       sizeof header));
        assert_contains(header, KEY);
        llm_reply_fini(&reply);
        stop(NULL);
    }
}

static void a_provider_that_comes_back_is_used_again(void **state)
{
    static const enum fault fine[] = { FINE };
    struct llm_reply reply;
    struct error err = ERROR_INIT;
    unsigned port;
    bool ok = false;
    int64_t until_ns;
    (void)state;

    start(0, fine, 1, ",\"retries\":0,\"breaker_failures\":1,\"breaker_open_ms\":50");
    assert_ok(ask("x", &reply, NULL, NULL, &err), err);
    llm_reply_fini(&reply);
    port = http_script_port(server);
    http_script_stop(server);
    assert_false(ask("x", &reply, NULL, NULL, &err));
    assert_code(err, ERR_LOST);
    llm_reply_fini(&reply);
    error_clear(&err);
    server = http_script_start_on(port, serve, NULL);
    assert_non_null(server);
    for (until_ns = clock_now_ns() + 20 * CLOCK_NS_PER_S; !ok && clock_now_ns() < until_ns;) {
        error_clear(&err);
        ok = ask("x", &reply, NULL, NULL, &err);
        llm_reply_fini(&reply);
    }
    assert_ok(ok, err);
}

static bool at_once(void *arg)
{
    (void)arg;
    return true;
}

/* The server, which would go on for ever, sees the connection go away. */
static void a_preempted_answer_closes_the_stream_and_goes_on(void **state)
{
    static const enum fault faults[] = { HANGING_LATE, REST };
    struct llm_reply first, second;
    struct error err = ERROR_INIT;
    (void)state;

    for (int kind = 0; kind < 2; kind++) {
        start(kind, faults, 2, "");
        assert_ok(ask("x", &first, NULL, at_once, &err), err);
        assert_true(first.preempted);
        assert_string_equal(buf_str(&first.text), "One two");
        assert_ok(ask("x", &second, buf_str(&first.text), NULL, &err), err);
        assert_string_equal(buf_str(&second.text), " three");
        assert_true(strstr(http_script_request(server, 1)->body, "One two") != NULL);
        llm_reply_fini(&first);
        llm_reply_fini(&second);
        http_script_stop(server); /* joins the thread that held */
        server = NULL;
        assert_int_equal(plan.gone, 1);
        stop(NULL);
    }
}

#define THREADS 6
#define ROUNDS  8

struct asker {
    pthread_t thread;
    char name[8];
    unsigned good;
};

static void *ask_often(void *arg)
{
    struct asker *a = arg;

    for (int i = 0; i < ROUNDS; i++) {
        struct llm_reply reply;
        struct error err = ERROR_INIT;

        a->good += ask(a->name, &reply, NULL, NULL, &err) &&
                   strcmp(buf_str(&reply.text), "One two three") == 0;
        llm_reply_fini(&reply);
        json_decref(llm_status(llm));
    }
    return NULL;
}

static void many_ask_at_once(void **state)
{
    static const enum fault faults[] = { FINE, BROKEN_500, FINE, SLOW, CUT_AT_ONCE, FINE };
    struct asker askers[THREADS];
    (void)state;

    start(0, faults, ARRAY_LEN(faults), "");
    for (size_t i = 0; i < THREADS; i++) {
        askers[i].good = 0;
        (void)snprintf(askers[i].name, sizeof askers[i].name, "a%zu", i);
        assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_often, &askers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        struct llm_usage usage;

        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].good, ROUNDS);
        llm_usage(llm, askers[i].name, &usage);
        assert_int_equal(usage.calls, ROUNDS);
        assert_int_equal(usage.failures, 0);
        assert_true(usage.input_tokens >= 9 * ROUNDS);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_SERVER(every_fault_is_survived_or_named),
        WITH_SERVER(a_provider_that_comes_back_is_used_again),
        WITH_SERVER(a_preempted_answer_closes_the_stream_and_goes_on),
        WITH_SERVER(many_ask_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
