/*
 * The guest's stream to the host: frames however they are cut, bytes that are none, credit that is
 * not there; and sockets inside, dialled by the host or connecting to the proxy port.
 */
#include "tests/unit/test_inside_host.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "images/guest/egress.h"
#include "images/guest/inside.h"

static const char *program;

static int start(void **state)
{
    struct host *h = calloc(1, sizeof *h);

    assert_non_null(h);
    host_start(h, program);
    *state = h;
    return 0;
}

/* A guest in a child of this process, with a proxy port that is free. */
static uint16_t listening_port;

static int start_listening(void **state)
{
    struct host *h = calloc(1, sizeof *h);
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    int listener = egress_listen(0);
    int fds[2];
    pid_t pid;

    assert_non_null(h);
    assert_true(listener >= 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    listening_port = ntohs(address.sin_port);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static struct inside in;
        const struct inside_options opt = { .stream = fds[1], .listen_fd = listener, .root = "/" };

        close(fds[0]);
        if (!inside_init(&in, &opt))
            _exit(1);
        while (inside_turn(&in, -1))
            continue;
        inside_fini(&in);
        _exit(0);
    }
    close(fds[1]);
    close(listener);
    host_init(h, fds[0], pid);
    *state = h;
    return 0;
}

static int stop(void **state)
{
    (void)host_stop(*state);
    free(*state);
    return 0;
}

/* ---- frames ---- */

static void says_hello_first(void **state)
{
    struct host *h = *state;

    HOST_UNTIL(h, h->hello);
}

static void gives_pings_back(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_ask(h, WIRE_PING, "payload", 7);
    static uint8_t large[WIRE_PAYLOAD_MAX];

    HOST_UNTIL(h, ch->replied);
    assert_int_equal(ch->result_len, 7);
    assert_memory_equal(ch->result, "payload", 7);
    ch->closed = true;
    ch = host_ask(h, WIRE_PING, large, sizeof large - 4);
    HOST_UNTIL(h, ch->replied);
    assert_int_equal(ch->status, 0);
    ch->closed = true;
    ch = host_ask(h, WIRE_PING, large, sizeof large);
    HOST_UNTIL(h, ch->replied);
    assert_int_equal(ch->status, EMSGSIZE);
    ch->closed = true;
}

static void takes_frames_however_they_are_cut(void **state)
{
    struct host *h = *state;
    uint8_t frames[2 * (WIRE_HEADER_BYTES + 5)];

    for (size_t cut = 1; cut < sizeof frames; cut++) {
        struct host_channel *one = host_add(h, h->next), *two = host_add(h, h->next + 2);
        struct wire_header head = { .length = 5, .type = WIRE_PING };

        for (size_t i = 0; i < 2; i++) {
            head.channel = h->next;
            wire_header_put(frames + i * (WIRE_HEADER_BYTES + 5), &head);
            memcpy(frames + i * (WIRE_HEADER_BYTES + 5) + WIRE_HEADER_BYTES, "hello", 5);
            h->next += 2;
        }
        assert_true(host_write(h, frames, cut));
        (void)host_pump(h, 1);
        assert_true(host_write(h, frames + cut, sizeof frames - cut));
        HOST_UNTIL(h, one->replied && two->replied);
        assert_int_equal(one->result_len, 5);
        assert_int_equal(two->result_len, 5);
        one->closed = two->closed = true;
    }
}

static void takes_many_requests_at_once(void **state)
{
    struct host *h = *state;
    enum { PINGS = 20000 };
    size_t replies = 0;
    uint32_t first = h->next;

    /* More answers than fit anywhere on the way, before any is read. */
    for (int round = 0; round < PINGS / 50; round++) {
        struct host_channel *ch[50];

        for (size_t i = 0; i < ARRAY_LEN(ch); i++)
            ch[i] = host_ask(h, WIRE_PING, "0123456789abcdef", 16);
        for (size_t i = 0; i < ARRAY_LEN(ch); i++) {
            HOST_UNTIL(h, ch[i]->replied);
            ch[i]->closed = true;
            replies++;
        }
    }
    assert_int_equal(replies, PINGS);
    assert_int_equal(h->next, first + 2 * PINGS);
}

static void ends_when_the_protocol_is_broken(void **state)
{
    static const struct {
        const char *label;
        uint8_t bytes[40];
        size_t len;
    } rows[] = {
        { "a payload too long", { 1, 0, 1, 0, 1, 0, 0, 0, WIRE_PING }, 12 },
        { "an unknown type", { 0, 0, 0, 0, 1, 0, 0, 0, WIRE_TYPE_COUNT }, 12 },
        { "type 0", { 0, 0, 0, 0, 1, 0, 0, 0, 0 }, 12 },
        { "a stream out of range", { 0, 0, 0, 0, 1, 0, 0, 0, WIRE_PING, 4 }, 12 },
        { "reserved bits", { 0, 0, 0, 0, 1, 0, 0, 0, WIRE_PING, 0, 1 }, 12 },
        { "channel 0", { 0, 0, 0, 0, 0, 0, 0, 0, WIRE_PING }, 12 },
        { "an even channel", { 0, 0, 0, 0, 2, 0, 0, 0, WIRE_PING }, 12 },
        { "a request on a stream", { 0, 0, 0, 0, 1, 0, 0, 0, WIRE_PING, 1 }, 12 },
        { "data on no channel", { 1, 0, 0, 0, 1, 0, 0, 0, WIRE_DATA, 0, 0, 0, 'x' }, 13 },
        { "a reply from the host", { 4, 0, 0, 0, 1, 0, 0, 0, WIRE_REPLY }, 16 },
        { "HELLO from the host", { 8, 0, 0, 0, 0, 0, 0, 0, WIRE_HELLO }, 20 },
        { "CLOSE of no channel", { 0, 0, 0, 0, 1, 0, 0, 0, WIRE_CLOSE }, 12 },
        { "a spawn on stream 2", { 0, 0, 0, 0, 1, 0, 0, 0, WIRE_SPAWN, 2 }, 12 },
        { "a signal while the request is not complete",
          { 0, 0, 0, 0, 1, 0, 0, 0, WIRE_SPAWN, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, WIRE_SIGNAL },
          24 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct host h;
        int status;

        host_start(&h, program);
        HOST_UNTIL(&h, h.hello);
        assert_true(host_write(&h, rows[i].bytes, rows[i].len));
        host_until_over(&h);
        status = host_stop(&h);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("%s: it ended with %x", rows[i].label, status);
    }
}

static void ends_when_credit_is_overdrawn(void **state)
{
    static const uint8_t streams[] = { WIRE_STREAM_MAIN, WIRE_STREAM_CONTROL };
    static uint8_t block[WIRE_PAYLOAD_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        struct host h;
        struct host_channel *ch;

        host_start(&h, program);
        ch = host_shell(&h, WIRE_SPAWN_STDIN | WIRE_SPAWN_CONTROL, "exec sleep 300");
        for (size_t n = 0; n < WIRE_WINDOW / sizeof block; n++)
            (void)host_send(&h, ch->number, WIRE_DATA, streams[i], block, sizeof block);
        host_sync(&h); /* a window full is no offence */
        /* The pipe took one block, which has been granted again. */
        for (int n = 0; n < 2; n++)
            (void)host_send(&h, ch->number, WIRE_DATA, streams[i], block, sizeof block);
        host_until_over(&h);
        (void)host_stop(&h);
    }
}

static void ends_when_more_credit_is_given_than_used(void **state)
{
    struct host *h = *state;
    struct host_channel *ch = host_shell(h, 0, "exec sleep 300");

    host_grant(h, ch, WIRE_STREAM_OUT, 1);
    host_until_over(h);
}

static void survives_noise(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 40; seed++) {
        struct host h;
        uint8_t noise[4096];
        unsigned v = seed * 2654435761u;

        for (size_t i = 0; i < sizeof noise; i++) {
            v = v * 1664525u + 1013904223u;
            noise[i] = (uint8_t)(v >> 24);
        }
        host_start(&h, program);
        (void)host_write(&h, noise, sizeof noise);
        host_until_over(&h);
        assert_int_equal(host_stop(&h), 0);
    }
}

static void closed_channels_can_be_used_again(void **state)
{
    struct host *h = *state;

    for (int i = 0; i < 50; i++) {
        struct host_channel *ch;

        h->next = 7;
        ch = host_run(h, 0, "echo again");
        assert_string_equal(host_text(&ch->out[WIRE_STREAM_OUT]), "again\n");
        ch->number = 0; /* not to be found in the place of the next one */
    }
}

static void refuses_more_runs_than_its_limit(void **state)
{
    struct host *h = *state;
    uint8_t part[8] = { 0 };
    uint32_t number = 101;

    /* Requests that are not complete count too, and cost no process. */
    for (uint32_t i = 0; i < 1024; i++, number += 2)
        host_send(h, number, WIRE_SPAWN, 1, part, sizeof part);
    host_sync(h);
    {
        struct host_channel *ch = host_add(h, number);

        host_send(h, number, WIRE_SPAWN, 1, part, sizeof part);
        HOST_UNTIL(h, ch->closed);
        assert_int_equal(ch->status, EAGAIN);
    }
    assert_false(h->over);
}

/* ---- sockets that the host dials ---- */

static struct host_channel *dial(struct host *h, uint8_t family, const char *host, uint16_t port)
{
    uint8_t bytes[512];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    wire_put_u8(&o, family);
    wire_put_str(&o, host);
    wire_put_u16(&o, port);
    assert_false(o.failed);
    return host_ask(h, WIRE_DIAL, o.data, o.len);
}

static int listen_on(const struct sockaddr *address, socklen_t len)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (bind(fd, address, len) != 0 || listen(fd, 8) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int take_connection(int listener)
{
    struct pollfd p = { .fd = listener, .events = POLLIN };
    int fd;

    assert_int_equal(poll(&p, 1, HOST_DEADLINE_MS), 1);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Echoes between a dialled channel and @peer, then ends both directions. */
static void talk(struct host *h, struct host_channel *ch, int peer)
{
    char buf[64];

    HOST_UNTIL(h, ch->replied);
    assert_int_equal(ch->status, 0);
    host_send(h, ch->number, WIRE_DATA, 0, "to inside", 9);
    assert_int_equal(recv(peer, buf, 9, MSG_WAITALL), 9);
    assert_memory_equal(buf, "to inside", 9);
    assert_int_equal(send(peer, "to host", 7, 0), 7);
    HOST_UNTIL(h, ch->out[0].len == 7);
    host_send(h, ch->number, WIRE_EOF, 0, NULL, 0);
    assert_int_equal(recv(peer, buf, sizeof buf, 0), 0);
    /* Half closed: the other direction goes on. */
    assert_int_equal(send(peer, ", still", 7, 0), 7);
    HOST_UNTIL(h, ch->out[0].len == 14);
    close(peer);
    HOST_UNTIL(h, ch->closed);
    assert_string_equal(ch->log, "R0EC");
}

static void dials_loopback_and_unix_sockets(void **state)
{
    struct host *h = *state;
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    socklen_t len = sizeof v4;
    char dir[64];
    struct host_channel *ch;
    int listener, peer;

    listener = listen_on((struct sockaddr *)&v4, sizeof v4);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&v4, &len), 0);
    ch = dial(h, 4, "127.0.0.1", ntohs(v4.sin_port));
    talk(h, ch, take_connection(listener));
    ch = dial(h, 4, "localhost", ntohs(v4.sin_port));
    talk(h, ch, take_connection(listener));
    close(listener);

    listener = listen_on((struct sockaddr *)&v6, sizeof v6);
    if (listener >= 0) {
        len = sizeof v6;
        assert_int_equal(getsockname(listener, (struct sockaddr *)&v6, &len), 0);
        ch = dial(h, 6, "::1", ntohs(v6.sin6_port));
        talk(h, ch, take_connection(listener));
        close(listener);
    }

    host_mktree(dir, sizeof dir);
    (void)snprintf(local.sun_path, sizeof local.sun_path, "%s/socket", dir);
    listener = listen_on((struct sockaddr *)&local, sizeof local);
    assert_true(listener >= 0);
    ch = dial(h, 1, local.sun_path, 0);
    peer = take_connection(listener);
    talk(h, ch, peer);
    close(listener);
    host_rmtree(dir);
}

static void refuses_to_dial_elsewhere(void **state)
{
    struct host *h = *state;
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof v4;
    int taken = listen_on((struct sockaddr *)&v4, sizeof v4);
    uint16_t port;
    static const struct {
        uint8_t family;
        const char *host;
        int status;
    } rows[] = {
        { 4, "192.0.2.1", EACCES },       { 4, "0.0.0.0", EACCES }, { 4, "nonsense", EINVAL },
        { 6, "2001:db8::1", EACCES },     { 6, "::", EACCES },      { 6, "127.0.0.1", EINVAL },
        { 1, "/no/such/socket", ENOENT }, { 9, "x", EAFNOSUPPORT },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct host_channel *ch = dial(h, rows[i].family, rows[i].host, 9);

        HOST_UNTIL(h, ch->closed);
        if (ch->status != (uint32_t)rows[i].status)
            fail_msg("%s: %u", rows[i].host, ch->status);
    }
    /* A port that was free a moment ago. */
    assert_int_equal(getsockname(taken, (struct sockaddr *)&v4, &len), 0);
    port = ntohs(v4.sin_port);
    close(taken);
    {
        struct host_channel *ch = dial(h, 4, "127.0.0.1", port);

        HOST_UNTIL(h, ch->closed);
        assert_int_equal(ch->status, ECONNREFUSED);
    }
}

static void carries_much_both_ways_with_credit(void **state)
{
    struct host *h = *state;
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof v4;
    int listener = listen_on((struct sockaddr *)&v4, sizeof v4);
    static uint8_t block[WIRE_PAYLOAD_MAX];
    enum { TOTAL = 16 * WIRE_WINDOW };
    struct host_channel *ch;
    size_t sent = 0, back = 0, pushed = 0;
    int peer;

    assert_int_equal(getsockname(listener, (struct sockaddr *)&v4, &len), 0);
    ch = dial(h, 4, "127.0.0.1", ntohs(v4.sin_port));
    peer = take_connection(listener);
    HOST_UNTIL(h, ch->replied);
    while (back < TOTAL || ch->out[0].len < TOTAL) {
        struct pollfd p[2] = { { .fd = h->fd, .events = POLLIN },
                               { .fd = peer, .events = POLLIN | (pushed < TOTAL ? POLLOUT : 0) } };
        ssize_t n;

        if (sent < TOTAL && sent + sizeof block <= WIRE_WINDOW + ch->credit[0]) {
            host_send(h, ch->number, WIRE_DATA, 0, block, sizeof block);
            sent += sizeof block;
        }
        assert_true(poll(p, 2, HOST_DEADLINE_MS) > 0);
        (void)host_pump(h, 0);
        n = recv(peer, block, sizeof block, MSG_DONTWAIT);
        back += n > 0 ? (size_t)n : 0;
        n = pushed < TOTAL ? send(peer, block, MIN(sizeof block, TOTAL - pushed), MSG_DONTWAIT) : 0;
        pushed += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(back, TOTAL);
    assert_int_equal(ch->out[0].len, TOTAL);
    close(peer);
    close(listener);
    HOST_UNTIL(h, ch->eof == 1);
    host_close(h, ch);
    HOST_UNTIL(h, ch->closed);
}

/* ---- the proxy port ---- */

static int connect_inside(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(listening_port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static size_t opened(struct host *h)
{
    size_t n = 0;

    for (size_t i = 0; i < HOST_CHANNELS; i++)
        n += h->channels[i].opened;
    return n;
}

static void connections_become_channels(void **state)
{
    struct host *h = *state;
    int fd = connect_inside();
    struct host_channel *ch;
    char buf[64];

    HOST_UNTIL(h, host_find(h, 2) != NULL);
    ch = host_find(h, 2);
    assert_int_equal(send(fd, "GET /", 5, 0), 5);
    HOST_UNTIL(h, ch->out[0].len == 5);
    host_send(h, 2, WIRE_DATA, 0, "answer", 6);
    host_send(h, 2, WIRE_EOF, 0, NULL, 0);
    assert_int_equal(recv(fd, buf, sizeof buf, MSG_WAITALL), 6);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    HOST_UNTIL(h, ch->closed);
    close(fd);

    /* The host may hang up first. */
    fd = connect_inside();
    HOST_UNTIL(h, host_find(h, 4) != NULL);
    host_close(h, host_find(h, 4));
    HOST_UNTIL(h, host_find(h, 4)->closed);
    assert_int_equal(recv(fd, buf, sizeof buf, 0), 0);
    close(fd);
}

static void a_reset_connection_closes_its_channel(void **state)
{
    struct host *h = *state;
    int fd = connect_inside();
    const struct linger now = { .l_onoff = 1 };

    HOST_UNTIL(h, host_find(h, 2) != NULL);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(fd);
    HOST_UNTIL(h, host_find(h, 2)->closed);
    assert_int_equal(host_find(h, 2)->eof, 0);
}

static void takes_a_bounded_number_of_connections(void **state)
{
    struct host *h = *state;
    int fds[EGRESS_CONNECTIONS_MAX + 20];

    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = connect_inside();
    HOST_UNTIL(h, opened(h) == EGRESS_CONNECTIONS_MAX);
    for (int i = 0; i < 50; i++)
        host_sync(h);
    assert_int_equal(opened(h), EGRESS_CONNECTIONS_MAX);
    /* One ends, another is let in. */
    host_close(h, host_find(h, 2));
    HOST_UNTIL(h, opened(h) == EGRESS_CONNECTIONS_MAX + 1);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
#define L(name) cmocka_unit_test_setup_teardown(name, start_listening, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(says_hello_first),
        T(gives_pings_back),
        T(takes_frames_however_they_are_cut),
        T(takes_many_requests_at_once),
        T(ends_when_the_protocol_is_broken),
        T(ends_when_credit_is_overdrawn),
        T(ends_when_more_credit_is_given_than_used),
        T(survives_noise),
        T(closed_channels_can_be_used_again),
        T(refuses_more_runs_than_its_limit),
        T(dials_loopback_and_unix_sockets),
        T(refuses_to_dial_elsewhere),
        T(carries_much_both_ways_with_credit),
    };
    const struct CMUnitTest listening[] = {
        L(connections_become_channels),
        L(a_reset_connection_closes_its_channel),
        L(takes_a_bounded_number_of_connections),
    };
    int failed;

    program = GUEST_PROGRAM;
    failed = cmocka_run_group_tests_name("inside_stream, static", tests, NULL, NULL);
#ifdef GUEST_NATIVE
    program = GUEST_NATIVE;
    failed += cmocka_run_group_tests_name("inside_stream, native", tests, NULL, NULL);
#endif
    return failed + cmocka_run_group_tests_name("inside_stream, proxy port", listening, NULL, NULL);
}
