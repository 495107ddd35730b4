#include "tests/unit/egress_world.h"

#include <sys/socket.h>

#define HTTP_OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

static const struct world_name names[] = {
    { "public.test", { "192.0.2.1" }, { NULL } },
    { "local.test", { "127.0.0.1" }, { NULL } },
    { "localhost", { "127.0.0.1", "::1" }, { NULL } },
    { "metadata.test", { "169.254.169.254" }, { NULL } },
    { "mixed.test", { "10.9.9.9", "fe80::1", "127.0.0.1" }, { NULL } },
    { "rebind.test", { "127.0.0.1" }, { "127.0.0.2" } },
    { "mapped.test", { "::ffff:127.0.0.1" }, { NULL } },
    { "two.test", { "127.0.0.9", "127.0.0.1" }, { NULL } },
    { NULL },
};

/* A world whose rules allow every name, and one port of 127.0.0.1. */
static void open_world(struct world *w, struct server *s)
{
    static const char *const everything[] = { "*:*", "127.0.0.0/8:*" };

    world_init(w, everything, ARRAY_LEN(everything), names);
    if (s)
        server_start(s, w);
}

static void ask(struct world *w, struct peer *p, const char *request)
{
    peer_open(p, w->egress);
    peer_say(p, request);
}

/* Sends @request and waits for the broker's last word. */
static void ask_and_wait(struct world *w, struct peer *p, const char *request)
{
    ask(w, p, request);
    WORLD_UNTIL(w, p->eof || p->closed);
}

static void denies_what_no_rule_allows_and_says_how_to_allow_it(void **state)
{
    static const char *const rules[] = { "pypi.org:443", "*.pythonhosted.org:443" };
    static const char *const requests[] = {
        "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
        "CONNECT pypi.org:80 HTTP/1.1\r\n\r\n",
        "CONNECT pythonhosted.org:443 HTTP/1.1\r\n\r\n",
        "CONNECT pypi.org.evil.test:443 HTTP/1.1\r\n\r\n",
        "GET http://example.org/secret HTTP/1.1\r\nHost: example.org\r\n\r\n",
        "CONNECT 127.0.0.1:443 HTTP/1.1\r\n\r\n",
        "CONNECT [::1]:443 HTTP/1.1\r\n\r\n",
    };
    struct world w;
    (void)state;

    world_init(&w, rules, ARRAY_LEN(rules), names);
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct peer p;

        ask_and_wait(&w, &p, requests[i]);
        assert_contains(p.got.data, "HTTP/1.1 403 no network rule allows ");
        assert_contains(p.got.data, "computer_create {\"allow\": [\"HOST:PORT\", ...]}");
        assert_contains(p.got.data, "Content-Type: text/plain");
        assert_int_equal(p.consumed, p.fed);
        peer_hang_up(&p);
        assert_true(p.closed);
        if (!i) {
            assert_contains(p.got.data, "Allowing this takes {\"allow\": [\"example.org:443\"]}");
            assert_string_equal(w.events.data, "denied example.org:443 [] () no network rule "
                                               "allows example.org:443 out=0 in=0\n");
        }
        peer_fini(&p);
    }
    assert_int_equal(w.asked, 0); /* not one query for a name that is not listed */
    world_fini(&w);
}

static void an_address_in_disguise_is_never_looked_up(void **state)
{
    static const struct {
        const char *target;
        const char *status;
    } rows[] = {
        { "127.1:80", "403" },
        { "127.0.1:80", "403" },
        { "2130706433:80", "403" },
        { "0x7f000001:80", "403" },
        { "0x7f.0.0.1:80", "403" },
        { "0177.0.0.1:80", "403" },
        { "127.0.0.1.:80", "403" },
        { "127.0.0.01:80", "403" },
        { "169.254.169.254:80", "403" },
        { "0:80", "403" },
        { "[::ffff:169.254.169.254]:80", "403" },
        { "[::ffff:a9fe:a9fe]:80", "403" },
        { "[64:ff9b::a9fe:a9fe]:80", "403" },
        { "[fe80::1%25eth0]:80", "403" },
        { "[::]:80", "403" },
        { "%31%32%37.0.0.1:80", "403" },
        { "10.0.0.1%00.example.org:80", "403" },
        { "user@127.0.0.1:80", "400" },
        { "example.org:80@127.0.0.1:80", "400" },
        { "::1:80", "400" },
    };
    static const char *const rules[] = { "*:*" };
    struct world w;
    (void)state;

    world_init(&w, rules, ARRAY_LEN(rules), names);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char request[200];
        struct peer p;

        snprintf(request, sizeof request, "CONNECT %s HTTP/1.1\r\n\r\n", rows[i].target);
        ask_and_wait(&w, &p, request);
        if (strncmp(p.got.data + 9, rows[i].status, 3) != 0 || w.asked)
            fail_msg("%s: %s", rows[i].target, p.got.data);
        assert_contains(w.events.data, "denied ");
        buf_clear(&w.events);
        peer_fini(&p);
    }
    world_fini(&w);
}

static void a_name_does_not_open_what_only_an_address_rule_opens(void **state)
{
    static const char *const hosts[] = { "local.test",    "localhost",   "localhost.",
                                         "metadata.test", "public.test", "mapped.test" };
    static const char *const rules[] = { "*:*", "10.0.0.0/8:*", "127.0.0.1:1" };
    struct world w;
    (void)state;

    world_init(&w, rules, ARRAY_LEN(rules), names);
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        char request[200];
        struct peer p;

        snprintf(request, sizeof request, "CONNECT %s:8080 HTTP/1.1\r\n\r\n", hosts[i]);
        ask_and_wait(&w, &p, request);
        assert_contains(p.got.data, "HTTP/1.1 403 it resolves to ");
        assert_contains(p.got.data, "which a rule for a name does not open");
        assert_contains(w.events.data, "denied ");
        buf_clear(&w.events);
        if (!i)
            assert_contains(p.got.data, "{\"allow\": [\"local.test:8080\", \"127.0.0.1:8080\"]}");
        peer_fini(&p);
    }
    world_fini(&w);
}

static void an_address_rule_opens_a_private_server_to_a_name(void **state)
{
    struct server s = { .await = "\r\n\r\n", .reply = HTTP_OK, .close = true };
    char request[200], event[300];
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &s);
    snprintf(request, sizeof request,
             "GET http://Local.Test:%u/x HTTP/1.1\r\nHost: local.test:%u\r\n\r\n", s.port, s.port);
    ask_and_wait(&w, &p, request);
    assert_string_equal(p.got.data, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
                                    "Connection: close\r\n\r\nhi");
    assert_contains(s.got.data, "GET /x HTTP/1.1\r\nHost: local.test:");
    peer_hang_up(&p);
    assert_true(p.closed);
    snprintf(event, sizeof event,
             "allowed Local.Test:%u [127.0.0.1] (127.0.0.0/8:*)  out=0 in=0\n"
             "ended Local.Test:%u [127.0.0.1] (127.0.0.0/8:*)  out=%zu in=%zu\n",
             s.port, s.port, s.got.len, strlen(HTTP_OK));
    assert_string_equal(w.events.data, event);
    assert_int_equal(p.consumed, p.fed);
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);
}

static void only_addresses_that_were_checked_are_connected_to(void **state)
{
    struct server good = { .greeting = "good" }, bad = { .greeting = "bad" };
    const char *rules[] = { "*:*", "127.0.0.1:*" };
    char request[200];
    struct world w;
    struct peer p;
    (void)state;

    world_init(&w, rules, ARRAY_LEN(rules), names);
    server_start(&good, &w);
    assert_true(server_listen(&bad, &w, "127.0.0.2", good.port));
    /* One question for one connection: what a second answer says cannot matter to it. */
    snprintf(request, sizeof request, "CONNECT rebind.test:%u HTTP/1.1\r\n\r\n", good.port);
    ask(&w, &p, request);
    WORLD_UNTIL(&w, strstr(buf_str(&p.got), "good"));
    assert_int_equal(w.asked, 1);
    peer_fini(&p);
    /* The next connection is judged anew. */
    ask_and_wait(&w, &p, request);
    assert_contains(p.got.data, "403 it resolves to 127.0.0.2, a loopback address");
    peer_fini(&p);
    /* Refused addresses of a name are passed over. */
    snprintf(request, sizeof request, "CONNECT mixed.test:%u HTTP/1.1\r\n\r\n", good.port);
    ask(&w, &p, request);
    WORLD_UNTIL(&w, strstr(buf_str(&p.got), "good"));
    peer_fini(&p);
    assert_int_equal(good.accepted, 2);
    assert_int_equal(bad.accepted, 0);
    world_fini(&w);
    server_fini(&good);
    server_fini(&bad);
}

static void the_next_address_is_tried_when_one_does_not_answer(void **state)
{
    struct server s = { .greeting = "good" };
    char request[200];
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &s); /* two.test is 127.0.0.9, where nobody listens, and 127.0.0.1 */
    snprintf(request, sizeof request, "CONNECT two.test:%u HTTP/1.1\r\n\r\n", s.port);
    ask(&w, &p, request);
    WORLD_UNTIL(&w, strstr(buf_str(&p.got), "good"));
    peer_vanish(&p);
    assert_contains(w.events.data, "allowed two.test");
    assert_contains(w.events.data, "ended two.test");
    assert_contains(w.events.data, "[127.0.0.1] (127.0.0.0/8:*) closed by the computer");
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);
}

/* A port of 127.0.0.1 where nobody listens: ours is closed again. */
static uint16_t dead_port(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    close(fd);
    return ntohs(in.sin_port);
}

static void a_failure_behind_the_rules_is_told_apart(void **state)
{
    char request[200];
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, NULL);
    ask_and_wait(&w, &p, "CONNECT nowhere.test:443 HTTP/1.1\r\n\r\n");
    assert_contains(p.got.data, "HTTP/1.1 502 the name does not resolve");
    assert_contains(p.got.data, "The connection to nowhere.test:443 failed");
    peer_fini(&p);
    snprintf(request, sizeof request, "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n", dead_port());
    ask_and_wait(&w, &p, request);
    assert_contains(p.got.data, "HTTP/1.1 502 cannot connect to 127.0.0.1: connection refused");
    peer_hang_up(&p);
    assert_contains(w.events.data, "allowed 127.0.0.1");
    assert_contains(w.events.data, "ended 127.0.0.1");
    peer_fini(&p);
    world_fini(&w);

    open_world(&w, NULL);
    world_times(&w, 20 * CLOCK_NS_PER_MS, 0);
    w.hold = true;
    ask_and_wait(&w, &p, "GET http://slow.test/ HTTP/1.1\r\nHost: slow.test\r\n\r\n");
    assert_contains(p.got.data, "HTTP/1.1 504 the name was not resolved in time");
    peer_fini(&p);
    world_fini(&w);
}

static void the_answer_to_head_has_no_body(void **state)
{
    struct world w;
    struct peer p;
    (void)state;

    world_init(&w, NULL, 0, names);
    ask_and_wait(&w, &p, "HEAD http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_contains(p.got.data, "403");
    assert_string_equal(p.got.data + p.got.len - 4, "\r\n\r\n");
    peer_fini(&p);
    world_fini(&w);
}

static void malformed_requests_are_refused_however_they_arrive(void **state)
{
    static const struct {
        const char *request;
        const char *status;
    } rows[] = {
        { "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 this is the computer's egress proxy" },
        { "GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", "400" },
        { "GET http://a.test/ HTTP/3.0\r\nHost: a.test\r\n\r\n", "505" },
        { "\x16\x03\x01\x02\x01", "400 that is not an HTTP request" },
        { "GET http://a.test/ HTTP/1.1\nHost: a.test\n\n", "400 that is not" },
        { "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n"
          "Transfer-Encoding: chunked\r\n\r\n",
          "400" },
        { "GET http://a.test:443/ HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "403 port 443" },
    };
    struct world w;
    (void)state;

    open_world(&w, NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t piece = 1; piece < 80; piece += 13) {
            size_t len = strlen(rows[i].request);
            struct peer p;

            peer_open(&p, w.egress);
            for (size_t at = 0; at < len; at += piece)
                peer_feed(&p, rows[i].request + at, MIN(piece, len - at));
            WORLD_UNTIL(&w, p.eof);
            if (strncmp(p.got.data + 9, rows[i].status, strlen(rows[i].status)) != 0)
                fail_msg("%s: %s", rows[i].request, p.got.data);
            assert_int_equal(p.consumed, p.fed);
            peer_fini(&p);
        }
    }
    assert_int_equal(w.asked, 0);
    world_fini(&w);
}

static void a_head_without_end_is_refused_at_the_limit(void **state)
{
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, NULL);
    ask(&w, &p, "GET http://a.test/");
    while (p.fed < LIMIT_EGRESS_HEADER && !p.eof)
        peer_say(&p, "x");
    assert_true(p.eof);
    assert_contains(p.got.data, "HTTP/1.1 431");
    assert_int_equal(p.fed, LIMIT_EGRESS_HEADER);
    peer_fini(&p);
    world_fini(&w);
}

static void a_request_that_does_not_come_to_its_end_is_given_up(void **state)
{
    struct peer silent, slow;
    struct world w;
    (void)state;

    open_world(&w, NULL);
    world_times(&w, 0, 30 * CLOCK_NS_PER_MS);
    peer_open(&silent, w.egress);
    ask(&w, &slow, "GET http://a.test/ HT");
    WORLD_UNTIL(&w, slow.eof && silent.closed);
    assert_contains(slow.got.data, "HTTP/1.1 408");
    assert_int_equal(silent.got.len, 0);
    WORLD_UNTIL(&w, slow.closed); /* though it never hangs up */
    peer_fini(&silent);
    peer_fini(&slow);
    world_fini(&w);
}

static void socks_gets_its_reply_codes(void **state)
{
    static const struct {
        const char *label;
        const char *bytes;
        size_t len;
        const char *reply;
        size_t reply_len;
    } rows[] = {
        { "no method", "\5\1\2", 3, "\5\xff", 2 },
        { "SOCKS4", "\4\1\0\x50\1\1\1\1\0", 9, "\0\x5b\0\0\0\0\0\0", 8 },
        { "not allowed", "\5\1\0\5\1\0\3\6a.test\0\x50", 16, "\5\0\5\2\0\1\0\0\0\0\0\0", 12 },
        { "metadata", "\5\1\0\5\1\0\1\xa9\xfe\xa9\xfe\0\x50", 13, "\5\0\5\2\0\1\0\0\0\0\0\0", 12 },
        { "resolves to metadata", "\5\1\0\5\1\0\3\x0dmetadata.test\0\x51", 23,
          "\5\0\5\2\0\1\0\0\0\0\0\0", 12 },
        { "no such name", "\5\1\0\5\1\0\3\6b.test\0\x51", 16, "\5\0\5\4\0\1\0\0\0\0\0\0", 12 },
        { "bind", "\5\1\0\5\2\0\1\1\1\1\1\0\x50", 13, "\5\0\5\7\0\1\0\0\0\0\0\0", 12 },
        { "address type", "\5\1\0\5\1\0\x09", 7, "\5\0\5\x08\0\1\0\0\0\0\0\0", 12 },
        { "disguise",
          "\5\1\0\5\1\0\3\5"
          "127.1\0\x51",
          15, "\5\0\5\2\0\1\0\0\0\0\0\0", 12 },
    };
    static const char *const rules[] = { "*:81" };
    struct world w;
    (void)state;

    world_init(&w, rules, ARRAY_LEN(rules), names);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t piece = 1; piece <= rows[i].len; piece++) {
            struct peer p;

            peer_open(&p, w.egress);
            for (size_t at = 0; at < rows[i].len; at += piece)
                peer_feed(&p, rows[i].bytes + at, MIN(piece, rows[i].len - at));
            WORLD_UNTIL(&w, p.eof);
            if (p.got.len != rows[i].reply_len || memcmp(p.got.data, rows[i].reply, p.got.len) != 0)
                fail_msg("%s in pieces of %zu", rows[i].label, piece);
            assert_contains(w.events.data, "denied ");
            buf_clear(&w.events);
            peer_fini(&p);
        }
    }
    world_fini(&w);
}

static void socks_connects(void **state)
{
    struct server s = { .await = "ping", .reply = "pong" };
    char request[64] = "\5\1\0\5\1\0\3\x0alocal.test";
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &s);
    request[18] = (char)(s.port >> 8);
    request[19] = (char)(s.port & 0xff);
    peer_open(&p, w.egress);
    peer_feed(&p, request, 20);
    peer_say(&p, "ping"); /* eager, before the reply */
    WORLD_UNTIL(&w, p.got.len >= 16);
    assert_memory_equal(p.got.data, "\5\0\5\0\0\1\0\0\0\0\0\0pong", 16);
    peer_vanish(&p);
    assert_true(p.closed);
    peer_fini(&p);

    request[18] = (char)(dead_port() >> 8);
    request[19] = (char)(dead_port() & 0xff);
    world_fini(&w);
    server_fini(&s);
}

static void connections_over_the_limit_are_told_so(void **state)
{
    enum { MOST = LIMIT_EGRESS_CONNECTIONS };
    struct peer *peers = calloc(MOST + 100, sizeof *peers);
    size_t told = 0;
    struct world w;
    (void)state;

    assert_non_null(peers);
    open_world(&w, NULL);
    for (size_t i = 0; i < MOST + 100; i++)
        peer_open(&peers[i], w.egress);
    for (size_t i = 0; i < MOST; i++)
        assert_false(peers[i].closed);
    for (size_t i = MOST; i < MOST + 100; i++) {
        if (peers[i].got.len) {
            assert_contains(peers[i].got.data, "HTTP/1.1 503");
            told++;
        } else {
            assert_true(peers[i].closed);
        }
    }
    assert_true(told > 0 && told < 100); /* not even the telling grows without limit */
    for (size_t i = MOST; i < MOST + 100; i++)
        peer_vanish(&peers[i]);
    peer_fini(&peers[0]);
    peer_open(&peers[0], w.egress); /* there is room again */
    peer_say(&peers[0], "GET / HTTP/1.1\r\n\r\n");
    assert_contains(peers[0].got.data, "HTTP/1.1 400");
    world_fini(&w);
    for (size_t i = 0; i < MOST + 100; i++) {
        assert_true(peers[i].closed);
        peer_fini(&peers[i]);
    }
    free(peers);
}

static void lookups_wait_their_turn(void **state)
{
    struct peer peers[40];
    struct world w;
    (void)state;

    open_world(&w, NULL);
    w.hold = true;
    for (size_t i = 0; i < ARRAY_LEN(peers); i++)
        ask(&w, &peers[i], "CONNECT nowhere.test:443 HTTP/1.1\r\n\r\n");
    assert_true(w.asked > 0 && w.asked < ARRAY_LEN(peers) / 2);
    peer_vanish(&peers[0]);                    /* its question is under way */
    peer_vanish(&peers[ARRAY_LEN(peers) - 1]); /* its question waits */
    world_answer(&w);
    for (size_t i = 1; i < ARRAY_LEN(peers) - 1; i++) {
        WORLD_UNTIL(&w, peers[i].eof);
        assert_contains(peers[i].got.data, "HTTP/1.1 502");
    }
    assert_int_equal(w.asked, ARRAY_LEN(peers) - 1);
    world_fini(&w);
    for (size_t i = 0; i < ARRAY_LEN(peers); i++)
        peer_fini(&peers[i]);
}

static void names_are_resolved_by_the_system_when_nobody_else_does(void **state)
{
    struct server s = { .greeting = "good" };
    struct error err = ERROR_INIT;
    char request[200];
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &s);
    egress_free(w.egress);
    w.config.resolve = NULL;
    w.egress = egress_new(&w.config, &err);
    assert_ok(w.egress != NULL, err);
    snprintf(request, sizeof request, "CONNECT localhost:%u HTTP/1.1\r\n\r\n", s.port);
    ask(&w, &p, request);
    WORLD_UNTIL(&w, strstr(buf_str(&p.got), "good"));
    assert_int_equal(w.asked, 0);
    peer_fini(&p);
    ask(&w, &p, request); /* and is left alone while the system is still being asked */
    world_fini(&w);
    assert_true(p.closed);
    peer_fini(&p);
    server_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(denies_what_no_rule_allows_and_says_how_to_allow_it),
        cmocka_unit_test(an_address_in_disguise_is_never_looked_up),
        cmocka_unit_test(a_name_does_not_open_what_only_an_address_rule_opens),
        cmocka_unit_test(an_address_rule_opens_a_private_server_to_a_name),
        cmocka_unit_test(only_addresses_that_were_checked_are_connected_to),
        cmocka_unit_test(the_next_address_is_tried_when_one_does_not_answer),
        cmocka_unit_test(a_failure_behind_the_rules_is_told_apart),
        cmocka_unit_test(the_answer_to_head_has_no_body),
        cmocka_unit_test(malformed_requests_are_refused_however_they_arrive),
        cmocka_unit_test(a_head_without_end_is_refused_at_the_limit),
        cmocka_unit_test(a_request_that_does_not_come_to_its_end_is_given_up),
        cmocka_unit_test(socks_gets_its_reply_codes),
        cmocka_unit_test(socks_connects),
        cmocka_unit_test(connections_over_the_limit_are_told_so),
        cmocka_unit_test(lookups_wait_their_turn),
        cmocka_unit_test(names_are_resolved_by_the_system_when_nobody_else_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
