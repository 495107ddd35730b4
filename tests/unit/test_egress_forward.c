/* Requests for http:// URLs, which the broker passes on one at a time. */
#include "tests/unit/egress_world.h"

static const struct world_name names[] = {
    { "a.test", { "127.0.0.1" }, { NULL } },
    { NULL },
};

static void forward(struct world *w, struct server *s, struct peer *p, const char *fields,
                    const char *body)
{
    static const char *const everything[] = { "a.test:*", "127.0.0.0/8:*" };
    char request[1000];

    world_init(w, everything, ARRAY_LEN(everything), names);
    server_start(s, w);
    snprintf(request, sizeof request,
             "POST http://a.test:%u/x HTTP/1.1\r\nHost: a.test:%u\r\n%s"
             "\r\n%s",
             s->port, s->port, fields, body);
    peer_open(p, w->egress);
    peer_say(p, request);
}

static void what_follows_a_request_never_reaches_the_server(void **state)
{
    static const struct {
        const char *fields;
        const char *body;
        const char *want;
    } rows[] = {
        { "Content-Length: 4\r\n", "bodyGET /evil HTTP/1.1\r\n\r\n", "\r\n\r\nbody" },
        { "", "GET /evil HTTP/1.1\r\n\r\n", "Connection: close\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\nT: x\r\n\r\nGET /evil HTTP/1.1\r\n",
          "\r\n\r\n4\r\nbody\r\n0\r\n\r\n" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct server s = { .await = rows[i].want,
                            .reply = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nok",
                            .close = true };
        struct world w;
        struct peer p;

        forward(&w, &s, &p, rows[i].fields, rows[i].body);
        peer_say(&p, "GET /evil HTTP/1.1\r\n\r\n"); /* later as well as at once */
        WORLD_UNTIL(&w, p.eof);
        assert_string_equal(p.got.data, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok");
        assert_null(strstr(s.got.data, "evil"));
        assert_string_equal(s.got.data + s.got.len - strlen(rows[i].want), rows[i].want);
        assert_int_equal(p.consumed, p.fed);
        peer_fini(&p);
        world_fini(&w);
        server_fini(&s);
    }
}

static void an_interim_answer_is_passed_on_before_the_body(void **state)
{
    struct server s = { .await = "Expect: 100-continue\r\n",
                        .reply = "HTTP/1.1 100 Continue\r\n\r\n" };
    struct world w;
    struct peer p;
    (void)state;

    forward(&w, &s, &p, "Expect: 100-continue\r\nContent-Length: 4\r\n", "");
    WORLD_UNTIL(&w, p.got.len);
    assert_string_equal(p.got.data, "HTTP/1.1 100 Continue\r\n\r\n");
    s.await = "\r\n\r\nbody";
    s.reply = "HTTP/1.1 201 Created\r\n\r\n";
    s.close = true;
    s.conns->replied = false;
    peer_say(&p, "body");
    WORLD_UNTIL(&w, p.eof);
    assert_string_equal(p.got.data, "HTTP/1.1 100 Continue\r\n\r\n"
                                    "HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n");
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);
}

static void a_server_that_misbehaves_becomes_a_502(void **state)
{
    static const char start[] = {
        'H', 'T', 'T', 'P', '/', '1', '.', '1', ' ', '2', '0', '0', '\n'
    };
    static char huge[80000];
    static const struct {
        const char *label;
        const char *reply;
        bool reset;
    } rows[] = {
        { "not HTTP", "SSH-2.0-OpenSSH\r\n", false },
        { "silence", "", false },
        { "half a head", "HTTP/1.1 200 OK\r\nA: b\r\n", false },
        { "an upgrade nobody asked for", "HTTP/1.1 101 Switching\r\n\r\n", false },
        { "a head without end", huge, false },
        { "a broken connection", "", true },
    };
    (void)state;

    memset(huge, 'x', sizeof huge - 1);
    memcpy(huge, start, sizeof start);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct server s = {
            .await = "\r\n\r\n", .reply = rows[i].reply, .close = true, .reset = rows[i].reset
        };
        struct world w;
        struct peer p;

        forward(&w, &s, &p, "", "");
        WORLD_UNTIL(&w, p.eof);
        if (strncmp(p.got.data, "HTTP/1.1 502 ", 13) != 0)
            fail_msg("%s: %s", rows[i].label, p.got.data);
        peer_fini(&p);
        world_fini(&w);
        server_fini(&s);
    }
}

static void a_malformed_body_stops_the_request(void **state)
{
    struct server s = { 0 };
    struct world w;
    struct peer p;
    (void)state;

    forward(&w, &s, &p, "Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n");
    WORLD_UNTIL(&w, s.got.len && strstr(s.got.data, "body\r\n"));
    peer_say(&p, "5\nhello");
    WORLD_UNTIL(&w, p.eof && s.ended);
    assert_contains(p.got.data, "HTTP/1.1 400 the request's chunked body is malformed");
    assert_null(strstr(s.got.data, "hello"));
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);

    s = (struct server){ 0 };
    forward(&w, &s, &p, "Content-Length: 9\r\n", "half");
    WORLD_UNTIL(&w, s.got.len && strstr(s.got.data, "half"));
    peer_hang_up(&p);
    WORLD_UNTIL(&w, p.closed && s.ended);
    assert_contains(w.events.data, "cut short");
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_follows_a_request_never_reaches_the_server),
        cmocka_unit_test(an_interim_answer_is_passed_on_before_the_body),
        cmocka_unit_test(a_server_that_misbehaves_becomes_a_502),
        cmocka_unit_test(a_malformed_body_stops_the_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
