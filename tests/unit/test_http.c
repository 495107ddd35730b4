#include "kernel/http.h"

#include <stdio.h>

#include "tests/unit/http_place.h"

/* ---- an answer ---- */

static void sends_a_body_and_reads_the_answer(void **state)
{
    static const char *const headers[] = { "Authorization: Bearer secret",
                                           "Content-Type: application/json", NULL };
    const struct http_request request = { .method = "POST",
                                          .url = http_script_url(server, "/echo"),
                                          .headers = headers,
                                          .body = "{\"a\":1}",
                                          .body_len = 7 };
    const struct http_script_request *seen;
    struct error err = ERROR_INIT;
    struct http_reply reply;
    struct wait w = soon();
    char value[64];

    (void)state;
    assert_ok(http_send(http, &request, &w, &reply, &err), err);
    assert_int_equal(reply.status, 200);
    assert_string_equal(buf_str(&reply.body), "{\"a\":1}");
    assert_string_equal(reply.content_type, "text/plain");
    assert_true(reply.content_length == 7);
    http_reply_fini(&reply);

    seen = http_script_request(server, 0);
    assert_non_null(seen);
    assert_string_equal(seen->method, "POST");
    assert_true(http_script_header(seen, "authorization", value, sizeof value));
    assert_string_equal(value, "Bearer secret");
    assert_true(http_script_header(seen, "content-type", value, sizeof value));
    assert_string_equal(value, "application/json");
    assert_false(http_script_header(seen, "expect", value, sizeof value));
}

static void every_method_goes_out_as_named(void **state)
{
    static const struct {
        const char *method, *body;
        const char *length; /* NULL: none is sent */
    } rows[] = {
        { "GET", NULL, NULL }, { "HEAD", NULL, NULL },    { "DELETE", NULL, NULL },
        { "PUT", "", "0" },    { "PUT", "content", "7" }, { "POST", "", "0" },
        { "GET", "x", "1" },   { "PATCH", "abc", "3" },
    };
    (void)state;

    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        const struct http_request request = { .method = rows[i].method,
                                              .url = http_script_url(server, "/echo"),
                                              .body = rows[i].body,
                                              .body_len = rows[i].body ? strlen(rows[i].body) : 0 };
        const struct http_script_request *seen;
        struct error err = ERROR_INIT;
        struct http_reply reply;
        struct wait w = soon();
        char value[64] = "";

        if (!http_send(http, &request, &w, &reply, &err))
            fail_msg("%u: %s", i, err.text);
        http_reply_fini(&reply);
        seen = http_script_request(server, i);
        assert_non_null(seen);
        assert_string_equal(seen->method, rows[i].method);
        assert_int_equal(http_script_header(seen, "content-length", value, sizeof value),
                         rows[i].length != NULL);
        assert_string_equal(value, rows[i].length ? rows[i].length : "");
        assert_false(http_script_header(seen, "content-type", value, sizeof value));
    }
}

static void the_head_is_read(void **state)
{
    struct error err = ERROR_INIT;
    struct http_reply reply;

    (void)state;
    assert_ok(get("/headers", &reply, &err), err);
    assert_string_equal(reply.etag, "\"abc\"");
    assert_string_equal(reply.last_modified, "Sat, 21 Nov 2026 20:00:00 GMT");
    assert_string_equal(reply.request_id, "r-1");
    assert_true(reply.range_total == 12345);
    assert_true(reply.date_wall_ns == 1795291201 * CLOCK_NS_PER_S);
    assert_true(reply.retry_after_ns == 7 * CLOCK_NS_PER_S);
    http_reply_fini(&reply);
    assert_ok(get("/continue", &reply, &err), err);
    assert_int_equal(reply.status, 201);
    assert_string_equal(reply.etag, "");
    assert_string_equal(buf_str(&reply.body), "made");
    assert_true(reply.retry_after_ns == -1);
    assert_true(reply.range_total == UINT64_MAX);
    assert_true(reply.date_wall_ns == -1);
    http_reply_fini(&reply);
}

static void a_refusal_is_an_answer_with_its_text(void **state)
{
    struct error err = ERROR_INIT;
    struct http_reply reply;

    (void)state;
    assert_ok(get("/busy", &reply, &err), err);
    assert_int_equal(reply.status, 429);
    assert_string_equal(buf_str(&reply.body), "{\"error\":\"slow down\"}");
    assert_true(reply.retry_after_ns == 3 * CLOCK_NS_PER_S);
    http_reply_fini(&reply);
}

static void retry_after_may_be_a_date(void **state)
{
    struct error err = ERROR_INIT;
    struct http_reply reply;

    (void)state;
    assert_ok(get("/busy-until", &reply, &err), err);
    assert_true(reply.retry_after_ns == 86400 * CLOCK_NS_PER_S);
    http_reply_fini(&reply);
    assert_ok(get("/busy-past", &reply, &err), err);
    assert_true(reply.retry_after_ns == 0);
    http_reply_fini(&reply);
    assert_ok(get("/busy-odd", &reply, &err), err);
    assert_true(reply.retry_after_ns == -1);
    http_reply_fini(&reply);
}

static void a_redirection_is_not_followed(void **state)
{
    struct error err = ERROR_INIT;
    struct http_reply reply;

    (void)state;
    assert_ok(get("/moved", &reply, &err), err);
    assert_int_equal(reply.status, 302);
    http_reply_fini(&reply);
}

static void the_body_of_an_error_is_kept_up_to_a_bound(void **state)
{
    struct error err = ERROR_INIT;
    struct http_reply reply;

    (void)state;
    assert_ok(get("/huge-error", &reply, &err), err);
    assert_int_equal(reply.status, 500);
    assert_true(reply.body.len == 64u << 10);
    http_reply_fini(&reply);
    assert_ok(get("/echo", &reply, &err), err); /* and the next request is not disturbed */
    http_reply_fini(&reply);
}

/* ---- answers that break off ---- */

static void a_broken_answer_is_an_error_that_names_the_server(void **state)
{
    static const struct {
        const char *path;
        enum error_code want;
        int status;
    } rows[] = {
        { "/cut-body", ERR_LOST, 200 },       { "/cut-chunk", ERR_LOST, 200 },
        { "/cut-at-once", ERR_LOST, 0 },      { "/reset", ERR_LOST, 0 },
        { "/bad-chunk", ERR_PROTOCOL, 200 },  { "/not-http", ERR_PROTOCOL, 0 },
        { "/bad-length", ERR_PROTOCOL, 200 },
    };
    char origin[64];

    (void)state;
    (void)snprintf(origin, sizeof origin, "127.0.0.1:%u: ", http_script_port(server));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct http_reply reply;

        if (get(rows[i].path, &reply, &err) || err.code != rows[i].want ||
            reply.status != rows[i].status || reply.body.len != 0)
            fail_msg("%s: code %d status %d (%s)", rows[i].path, err.code, reply.status, err.text);
        assert_ptr_equal(strstr(err.text, origin), err.text);
        http_reply_fini(&reply);
    }
}

static void an_answer_without_a_length_ends_with_the_connection(void **state)
{
    struct error err = ERROR_INIT;
    struct http_reply reply;

    (void)state;
    assert_ok(get("/no-length", &reply, &err), err);
    assert_string_equal(buf_str(&reply.body), "until the end");
    assert_true(reply.content_length == UINT64_MAX);
    http_reply_fini(&reply);
}

static void a_server_that_is_not_there_is_lost(void **state)
{
    struct http_request request = { .method = "GET" };
    struct error err = ERROR_INIT;
    struct http_reply reply;
    struct wait w = soon();
    unsigned port = http_script_port(server);
    char url[64];

    (void)state;
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/x?key=secret", port);
    http_script_stop(server);
    server = NULL;
    request.url = url;
    assert_false(http_send(http, &request, &w, &reply, &err));
    assert_code(err, ERR_LOST);
    (void)snprintf(url, sizeof url, "127.0.0.1:%u: no connection: Connection refused", port);
    assert_string_equal(err.text, url); /* said once, and nothing of the query */
    http_reply_fini(&reply);
}

/* ---- bounds ---- */

static void an_answer_over_the_bound_is_refused(void **state)
{
    struct http_request request = { .method = "GET", .max_bytes = 100000 };
    struct error err = ERROR_INIT;
    struct http_reply reply;
    struct wait w = soon();

    (void)state;
    request.url = http_script_url(server, "/huge");
    assert_false(http_send(http, &request, &w, &reply, &err));
    assert_code(err, ERR_LIMIT);
    assert_contains(err.text, "100000");
    http_reply_fini(&reply);
    error_clear(&err);
    assert_false(get("/huge-head", &reply, &err));
    assert_code(err, ERR_LIMIT);
    http_reply_fini(&reply);
}

static void bad_requests_never_leave(void **state)
{
    static const char *const smuggled[] = { "X: a\r\nY: b", NULL };
    static const char *const no_colon[] = { "nonsense", NULL };
    static const struct {
        const char *method, *url;
        const char *const *headers;
    } rows[] = {
        { "GET", "ftp://127.0.0.1/x", NULL },
        { "GET", "file:///etc/passwd", NULL },
        { "GET", "nonsense", NULL },
        { "GET", "http://", NULL },
        { "GET", "http://user:secret@127.0.0.1/", NULL },
        { "GET", "http://127.0.0.1/\r\nX: y", NULL },
        { "GET /", "http://127.0.0.1/", NULL },
        { "", "http://127.0.0.1/", NULL },
        { "GET", "http://127.0.0.1/", smuggled },
        { "GET", "http://127.0.0.1/", no_colon },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct http_request request = { .method = rows[i].method,
                                              .url = rows[i].url,
                                              .headers = rows[i].headers };
        struct error err = ERROR_INIT;
        struct http_reply reply;
        struct wait w = soon();

        if (http_send(http, &request, &w, &reply, &err) || err.code != ERR_INVALID ||
            strstr(err.text, "secret"))
            fail_msg("row %zu: code %d (%s)", i, err.code, err.text);
        http_reply_fini(&reply);
    }
}

static void survives_every_allocation_failure(void **state)
{
    const char *url = http_script_url(server, "/echo");
    (void)state;

    FAULT_EACH(n)
    {
        const struct http_request request = {
            .method = "PUT", .url = url, .body = "x", .body_len = 1
        };
        struct error err = ERROR_INIT;
        struct http *h = http_new(&err);
        struct http_reply reply = { .status = 0 };
        struct wait w = soon();
        bool ok = h && http_send(h, &request, &w, &reply, &err);

        FAULT_DONE(n);
        if (!ok)
            assert_code(err, ERR_NOMEM);
        http_reply_fini(&reply);
        http_free(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sends_a_body_and_reads_the_answer),
        TEST(every_method_goes_out_as_named),
        TEST(the_head_is_read),
        TEST(a_refusal_is_an_answer_with_its_text),
        TEST(retry_after_may_be_a_date),
        TEST(a_redirection_is_not_followed),
        TEST(the_body_of_an_error_is_kept_up_to_a_bound),
        TEST(a_broken_answer_is_an_error_that_names_the_server),
        TEST(an_answer_without_a_length_ends_with_the_connection),
        TEST(a_server_that_is_not_there_is_lost),
        TEST(an_answer_over_the_bound_is_refused),
        TEST(bad_requests_never_leave),
        TEST(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
