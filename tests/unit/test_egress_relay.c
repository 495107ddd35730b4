#include "tests/unit/egress_world.h"

#include "tests/unit/egress_hello.h"

#define MIB (1u << 20)

static const struct world_name names[] = {
    { "a.test", { "127.0.0.1" }, { NULL } },
    { "tls.test", { "127.0.0.77" }, { NULL } },
    { NULL },
};

static void open_world(struct world *w, struct server *s)
{
    static const char *const everything[] = { "*:*", "127.0.0.0/8:*" };

    world_init(w, everything, ARRAY_LEN(everything), names);
    server_start(s, w);
}

/* The head of an established tunnel is taken off. */
static void tunnel(struct world *w, struct peer *p, const char *host, uint16_t port)
{
    char request[200];

    snprintf(request, sizeof request, "CONNECT %s:%u HTTP/1.1\r\n\r\n", host, port);
    peer_open(p, w->egress);
    peer_say(p, request);
    WORLD_UNTIL(w, p->got.len >= 4);
    assert_string_equal(p->got.data, "HTTP/1.1 200 Connection established\r\n\r\n");
    buf_clear(&p->got);
}

static void a_tunnel_carries_bytes_and_each_end_of_file(void **state)
{
    struct server s = { .echo = true };
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &s);
    tunnel(&w, &p, "a.test", s.port);
    peer_feed(&p, "\0binary\xff", 8);
    WORLD_UNTIL(&w, p.got.len == 8);
    assert_memory_equal(p.got.data, "\0binary\xff", 8);
    assert_int_equal(p.consumed, p.fed);
    peer_hang_up(&p);
    WORLD_UNTIL(&w, p.closed); /* the server saw it and hung up too */
    assert_int_equal(s.ended, 1);
    assert_true(p.eof);
    assert_contains(w.events.data, "ended a.test");
    assert_contains(w.events.data, "out=8 in=8");
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);
}

static void a_server_that_is_done_can_still_be_written_to(void **state)
{
    struct server s = { .mute = false };
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &s);
    tunnel(&w, &p, "a.test", s.port);
    WORLD_UNTIL(&w, s.accepted);
    {
        uv_shutdown_t shutdown;

        uv_shutdown(&shutdown, (uv_stream_t *)&s.conns->tcp, NULL);
        WORLD_UNTIL(&w, p.eof);
    }
    assert_false(p.closed);
    peer_say(&p, "and there is more");
    WORLD_UNTIL(&w, s.got.len == strlen("and there is more"));
    peer_hang_up(&p);
    WORLD_UNTIL(&w, s.ended && p.closed);
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);
}

enum first { PASSES, CUT };

static void the_tls_server_name_must_be_the_host(void **state)
{
    static const struct {
        const char *label;
        const char *host;
        const char *name; /* NULL: none */
        enum first want;
        const char *reason;
    } rows[] = {
        { "the same", "a.test", "a.test", PASSES, "" },
        { "another case", "a.test", "A.Test", PASSES, "" },
        { "a trailing dot", "A.test.", "a.test", PASSES, "" },
        { "another name", "a.test", "b.test", CUT, "is not the host" },
        { "a name below", "a.test", "x.a.test", CUT, "is not the host" },
        { "a prefix", "a.test", "a.tes", CUT, "is not the host" },
        { "none", "a.test", NULL, CUT, "has no server name" },
        { "none for an address", "127.0.0.1", NULL, PASSES, "" },
        { "the address itself", "127.0.0.1", "127.0.0.1", PASSES, "" },
        { "a name for an address", "127.0.0.1", "a.test", CUT, "is not the host" },
    };
    static const size_t records[] = { 16384, 20, 1 };
    struct world w;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows) * ARRAY_LEN(records); i++) {
        CLEANUP(buf_fini) struct buf message = BUF_INIT;
        CLEANUP(buf_fini) struct buf wire = BUF_INIT;
        struct server s = { .echo = true };
        size_t row = i / ARRAY_LEN(records), record = records[i % ARRAY_LEN(records)];
        struct peer p;

        put_hello(&message, rows[row].name, 30);
        put_records(&wire, &message, record);
        buf_append_str(&wire, "rest");
        open_world(&w, &s);
        tunnel(&w, &p, rows[row].host, s.port);
        for (size_t at = 0; at < wire.len; at += record / 3 + 1)
            peer_feed(&p, wire.data + at, MIN(record / 3 + 1, wire.len - at));
        if (rows[row].want == PASSES) {
            WORLD_UNTIL(&w, p.got.len == wire.len);
            assert_memory_equal(p.got.data, wire.data, wire.len);
        } else {
            WORLD_UNTIL(&w, p.eof);
            if (p.got.len != 7 || memcmp(p.got.data, "\x15\3\3\0\2\2\x31", 7) != 0)
                fail_msg("%s: no alert", rows[row].label);
            assert_contains(w.events.data, "denied");
            assert_contains(w.events.data, rows[row].reason);
            WORLD_UNTIL(&w, s.ended);
            assert_int_equal(s.got.len, 0); /* not a byte got through */
        }
        assert_int_equal(p.consumed, p.fed);
        peer_fini(&p);
        assert_contains(w.events.data, "ended");
        world_fini(&w);
        server_fini(&s);
    }
}

static void other_protocols_pass_but_not_to_port_443(void **state)
{
    struct server plain = { .echo = true }, web = { .echo = true };
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &plain);
    tunnel(&w, &p, "a.test", plain.port);
    peer_say(&p, "SSH-2.0-x\r\n");
    WORLD_UNTIL(&w, p.got.len == 11);
    peer_fini(&p);

    if (!server_listen(&web, &w, "127.0.0.77", 443)) {
        world_fini(&w);
        server_fini(&plain);
        skip_because("port 443 cannot be bound");
    }
    tunnel(&w, &p, "tls.test", 443);
    peer_say(&p, "SSH-2.0-x\r\n");
    WORLD_UNTIL(&w, p.eof);
    assert_int_equal(p.got.len, 0);
    WORLD_UNTIL(&w, web.ended);
    assert_int_equal(web.got.len, 0);
    assert_contains(w.events.data, "denied tls.test:443 [127.0.0.77] (127.0.0.0/8:*) what was sent "
                                   "to port 443 is not TLS");
    peer_fini(&p);
    world_fini(&w);
    server_fini(&plain);
    server_fini(&web);
}

static void a_hello_that_stays_incomplete_gets_nowhere(void **state)
{
    struct server s = { .echo = true };
    struct peer stopped, waiting;
    struct world w;
    (void)state;

    open_world(&w, &s);
    tunnel(&w, &stopped, "a.test", s.port);
    tunnel(&w, &waiting, "a.test", s.port);
    peer_feed(&stopped, "\x16\x03\x01\x01", 4);
    peer_hang_up(&stopped);
    assert_true(stopped.closed);
    assert_contains(w.events.data, "cut short");
    peer_feed(&waiting, "\x16\x03\x01\x01", 4);
    world_advance(&w, 20 * CLOCK_NS_PER_S);
    peer_feed(&waiting, "x", 1); /* a byte now and then does not help */
    assert_false(waiting.eof);
    world_advance(&w, 31 * CLOCK_NS_PER_S);
    assert_true(waiting.eof);
    assert_contains(w.events.data, "did not arrive in time");
    WORLD_UNTIL(&w, s.ended == 2);
    assert_int_equal(s.got.len, 0);
    peer_fini(&stopped);
    peer_fini(&waiting);
    world_fini(&w);
    server_fini(&s);
}

static char *pattern(size_t len)
{
    char *bytes = malloc(len);

    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    return bytes;
}

static void a_program_that_does_not_read_holds_the_server_back(void **state)
{
    char *reply = pattern(8 * MIB);
    struct server s = { .await = "go", .reply = reply, .reply_len = 8 * MIB, .close = true };
    unsigned long long in = 0;
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &s);
    tunnel(&w, &p, "a.test", s.port);
    p.credit = 1000;
    peer_say(&p, "go");
    WORLD_UNTIL(&w, p.got.len == 1000);
    for (int i = 0; i < 100; i++)
        loop_turn(w.loop, 0);
    assert_true(uv_stream_get_write_queue_size((uv_stream_t *)&s.conns->tcp) > 0);
    /* Odd amounts of credit; everything arrives, in order. */
    for (size_t step = 7; p.got.len < 8 * MIB; step = step * 3 % 1000003) {
        size_t had = p.got.len;

        p.credit += step;
        p.events->on_writable(p.arg);
        if (p.got.len == had)
            loop_turn(w.loop, 10);
    }
    assert_memory_equal(p.got.data, reply, 8 * MIB);
    WORLD_UNTIL(&w, p.eof);
    peer_fini(&p);

    tunnel(&w, &p, "a.test", s.port);
    p.credit = 1000;
    peer_say(&p, "go");
    WORLD_UNTIL(&w, p.got.len == 1000);
    for (int i = 0; i < 100; i++)
        loop_turn(w.loop, 0);
    buf_clear(&w.events);
    peer_vanish(&p);
    in = strtoull(strstr(w.events.data, " in=") + 4, NULL, 10);
    assert_true(in <= 1000 + 65536); /* no more was taken than one read */
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);
    free(reply);
}

static void a_server_that_does_not_read_holds_the_program_back(void **state)
{
    struct server s = { .mute = true };
    char *data = pattern(65536);
    size_t head, quiet = 0;
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &s);
    tunnel(&w, &p, "a.test", s.port);
    head = p.fed;
    WORLD_UNTIL(&w, s.accepted);
    while (quiet < 20) { /* until the buffers of the system are full */
        size_t had = p.consumed;

        while (p.fed - p.consumed <= LIMIT_CHANNEL_WINDOW - 65536)
            peer_feed(&p, data, 65536);
        loop_turn(w.loop, 1);
        quiet = p.consumed == had ? quiet + 1 : 0;
    }
    assert_true(p.fed - p.consumed > LIMIT_CHANNEL_WINDOW - 65536);
    assert_false(p.closed);
    /* It reads at last: all goes through, in order. */
    uv_read_start((uv_stream_t *)&s.conns->tcp, server_on_alloc, server_on_read);
    WORLD_UNTIL(&w, s.got.len == p.fed - head);
    assert_int_equal(p.consumed, p.fed);
    for (size_t at = 0; at + 65536 <= s.got.len; at += 65536)
        assert_memory_equal(s.got.data + at, data, 65536);
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);
    free(data);
}

static void credit_that_was_never_given_ends_the_connection(void **state)
{
    struct server s = { 0 };
    char *data = pattern(LIMIT_CHANNEL_WINDOW);
    struct peer peers[70];
    size_t ended = 0;
    struct world w;
    (void)state;

    open_world(&w, &s);
    w.hold = true;
    /* Each within its window, yet together too much. */
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        peer_open(&peers[i], w.egress);
        peer_say(&peers[i], "CONNECT a.test:1 HTTP/1.1\r\n\r\n");
        peer_feed(&peers[i], data, LIMIT_CHANNEL_WINDOW);
    }
    for (size_t i = 0; i < ARRAY_LEN(peers); i++)
        ended += peers[i].closed;
    assert_int_equal(ended, ARRAY_LEN(peers) - 64);
    assert_false(peers[0].closed);
    peer_say(&peers[0], "x"); /* beyond its window */
    assert_true(peers[0].closed);
    world_fini(&w);
    for (size_t i = 0; i < ARRAY_LEN(peers); i++)
        peer_fini(&peers[i]);
    server_fini(&s);
    free(data);
}

static void an_idle_connection_ends(void **state)
{
    struct server s = { .echo = true };
    struct world w;
    struct peer p;
    (void)state;

    open_world(&w, &s);
    tunnel(&w, &p, "a.test", s.port);
    peer_say(&p, "x");
    WORLD_UNTIL(&w, p.got.len == 1);
    world_advance(&w, 299 * CLOCK_NS_PER_S);
    assert_false(p.closed);
    world_advance(&w, 301 * CLOCK_NS_PER_S);
    assert_true(p.closed);
    assert_contains(w.events.data, "no byte moved for too long");
    peer_fini(&p);
    world_fini(&w);
    server_fini(&s);
}

static void many_connections_do_not_mix(void **state)
{
    enum { MANY = 200 };
    struct server s = { .echo = true };
    struct peer *peers = calloc(MANY, sizeof *peers);
    char request[200], text[64];
    struct world w;
    (void)state;

    assert_non_null(peers);
    open_world(&w, &s);
    snprintf(request, sizeof request, "CONNECT a.test:%u HTTP/1.1\r\n\r\n", s.port);
    for (size_t i = 0; i < MANY; i++) {
        peer_open(&peers[i], w.egress);
        peer_say(&peers[i], request);
        for (size_t k = 0; k < 100; k++) {
            snprintf(text, sizeof text, "line %zu of %zu\n", k, i);
            peer_say(&peers[i], text);
        }
    }
    for (size_t i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "line 99 of %zu\n", i);
        WORLD_UNTIL(&w, peers[i].got.data && strstr(peers[i].got.data, text));
        peer_hang_up(&peers[i]);
    }
    for (size_t i = 0; i < MANY; i++) {
        const char *at;

        WORLD_UNTIL(&w, peers[i].closed);
        at = strstr(peers[i].got.data, "\r\n\r\n") + 4;
        for (size_t k = 0; k < 100; k++) {
            snprintf(text, sizeof text, "line %zu of %zu\n", k, i);
            assert_memory_equal(at, text, strlen(text));
            at += strlen(text);
        }
        peer_fini(&peers[i]);
    }
    world_fini(&w);
    server_fini(&s);
    free(peers);
}

/* Brings a connection into its @n-th state; false when there is no such state. */
static bool reach(struct world *w, struct server *s, struct peer *p, size_t n)
{
    char request[200];

    snprintf(request, sizeof request, "CONNECT a.test:%u HTTP/1.1\r\n\r\n", s->port);
    switch (n) {
    case 0: /* nothing said */
        peer_open(p, w->egress);
        return true;
    case 1: /* half a request */
        peer_open(p, w->egress);
        peer_say(p, "CONNECT a.te");
        return true;
    case 2: /* half of SOCKS */
        peer_open(p, w->egress);
        peer_feed(p, "\5\1\0\5\1", 5);
        return true;
    case 3: /* the name is being looked up */
        w->hold = true;
        peer_open(p, w->egress);
        peer_say(p, request);
        peer_say(p, "early");
        return true;
    case 4: /* connecting */
        peer_open(p, w->egress);
        snprintf(request, sizeof request, "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n", s->port);
        peer_say(p, request);
        peer_say(p, "early");
        return true;
    case 5: /* connected, nothing sent yet */
        tunnel(w, p, "a.test", s->port);
        return true;
    case 6: /* half a ClientHello */
        tunnel(w, p, "a.test", s->port);
        peer_feed(p, "\x16\x03\x01\x01", 4);
        return true;
    case 7: /* carrying, much of it in libuv's hands */
        tunnel(w, p, "a.test", s->port);
        for (int i = 0; i < 200 && p->fed - p->consumed < 100000; i++) {
            static const char zeros[65536];

            peer_feed(p, zeros, sizeof zeros);
        }
        return true;
    case 8: /* half-closed */
        tunnel(w, p, "a.test", s->port);
        peer_hang_up(p);
        return true;
    case 9: /* answered, not hung up */
        peer_open(p, w->egress);
        peer_say(p, "GET / HTTP/1.1\r\n\r\n");
        return true;
    case 10: /* the answer does not fit */
        peer_open(p, w->egress);
        p->credit = 10;
        peer_say(p, "GET / HTTP/1.1\r\n\r\n");
        return true;
    default:
        return false;
    }
}

static void can_be_left_in_every_state(void **state)
{
    bool more = true;
    (void)state;

    for (size_t n = 0; more; n++) {
        /* The broker is closed; the program vanishes; it hangs up and then says more. */
        for (int how = 0; how < 3; how++) {
            struct server s = { .mute = true };
            struct world w;
            struct peer p;

            open_world(&w, &s);
            more = reach(&w, &s, &p, n);
            if (more && how == 1)
                peer_vanish(&p);
            if (more && how == 2) {
                peer_hang_up(&p);
                if (!p.closed)
                    peer_say(&p, "more");
            }
            if (more && how)
                loop_turn(w.loop, 0);
            world_fini(&w);
            if (more && !p.closed)
                fail_msg("state %zu, way %d: the channel stays open", n, how);
            if (more)
                peer_fini(&p);
            server_fini(&s);
        }
    }
}

/* The same exchange until no allocation is left to fail: @before, the port, @after. */
static void exchange(const char *before, const char *after, const char *want)
{
    struct server s = { .await = "ping", .reply = "HTTP/1.1 200 OK\r\n\r\npong", .close = true };
    char text[300];
    struct world w;
    struct peer p;

    open_world(&w, &s);
    snprintf(text, sizeof text, "%s%u%s", before, s.port, after);
    for (unsigned n = 0, met = 1; met; n++) {
        buf_clear(&s.got);
        fault_arm(n);
        peer_open(&p, w.egress);
        if (!p.closed)
            peer_say(&p, text);
        if (!p.closed)
            peer_say(&p, "ping");
        WORLD_UNTIL(&w, p.closed || p.eof);
        met = fault_disarm();
        if (!met)
            assert_contains(p.got.data, want);
        peer_fini(&p);
    }
    world_fini(&w);
    server_fini(&s);
}

static void survives_every_allocation_failure(void **state)
{
    struct error err = ERROR_INIT;
    struct egress_config config = { 0 };
    (void)state;

    exchange("CONNECT a.test:", " HTTP/1.1\r\n\r\n", "pong");
    exchange("POST http://a.test:", "/ HTTP/1.0\r\nContent-Length: 4\r\n\r\n", "pong");
    exchange("GET /", " HTTP/1.1\r\n\r\n", "HTTP/1.1 400");

    config.loop = loop_new(&err);
    assert_ok(config.loop != NULL, err);
    fault_arm(0);
    assert_null(egress_new(&config, &err));
    assert_true(fault_disarm());
    assert_code(err, ERR_NOMEM);
    egress_free(NULL);
    loop_free(config.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tunnel_carries_bytes_and_each_end_of_file),
        cmocka_unit_test(a_server_that_is_done_can_still_be_written_to),
        cmocka_unit_test(the_tls_server_name_must_be_the_host),
        cmocka_unit_test(other_protocols_pass_but_not_to_port_443),
        cmocka_unit_test(a_hello_that_stays_incomplete_gets_nowhere),
        cmocka_unit_test(a_program_that_does_not_read_holds_the_server_back),
        cmocka_unit_test(a_server_that_does_not_read_holds_the_program_back),
        cmocka_unit_test(credit_that_was_never_given_ends_the_connection),
        cmocka_unit_test(an_idle_connection_ends),
        cmocka_unit_test(many_connections_do_not_mix),
        cmocka_unit_test(can_be_left_in_every_state),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
