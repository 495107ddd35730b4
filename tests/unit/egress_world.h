/*
 * egress_world - what surrounds an egress broker in tests: a loop, scripted channels, a resolver
 * that knows a few names, and servers on loopback.
 *
 * Everything runs on the test's own thread; world_init() and world_fini() enclose each test.
 */
#pragma once

#include "tests/support/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <unistd.h>
#include <uv.h>

#include "kernel/base/buf.h"
#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/base/list.h"
#include "kernel/base/loop.h"
#include "kernel/computer/egress.h"

#define WORLD_PATIENCE (30 * CLOCK_NS_PER_S)

/* The surroundings go on when an allocation was made to fail: a second attempt succeeds. */
static inline void sure_append(struct buf *b, const void *data, size_t len)
{
    if (!buf_append(b, data, len))
        assert_true(buf_append(b, data, len));
}

static inline void *sure_calloc(size_t size)
{
    void *memory = calloc(1, size);

    if (!memory)
        memory = calloc(1, size);
    assert_non_null(memory);
    return memory;
}

/* ---- the program inside: a channel whose far end the test plays ---- */

struct peer {
    struct channel ch;
    const struct channel_events *events;
    void *arg;
    struct buf got; /* what the broker sent */
    size_t credit;  /* how much more it may send */
    size_t fed, consumed;
    bool eof, closed;
};

static inline struct peer *peer_of(struct channel *ch)
{
    return CONTAINER_OF(ch, struct peer, ch);
}

static inline void peer_listen(struct channel *ch, const struct channel_events *events, void *arg)
{
    peer_of(ch)->events = events;
    peer_of(ch)->arg = arg;
}

static inline size_t peer_send(struct channel *ch, const void *data, size_t len)
{
    struct peer *p = peer_of(ch);
    size_t n = MIN(len, p->credit);

    assert_false(p->closed);
    assert_false(p->eof);
    sure_append(&p->got, data, n);
    p->credit -= n;
    return n;
}

static inline void peer_send_eof(struct channel *ch)
{
    assert_false(peer_of(ch)->closed);
    assert_false(peer_of(ch)->eof);
    peer_of(ch)->eof = true;
}

static inline void peer_consume(struct channel *ch, size_t len)
{
    struct peer *p = peer_of(ch);

    assert_false(p->closed);
    p->consumed += len;
    assert_true(p->consumed <= p->fed);
}

static inline void peer_close(struct channel *ch)
{
    assert_false(peer_of(ch)->closed);
    peer_of(ch)->closed = true;
}

static inline void peer_open(struct peer *p, struct egress *e)
{
    static const struct channel_ops ops = { peer_listen, peer_send, peer_send_eof, peer_consume,
                                            peer_close };

    *p = (struct peer){ .ch = { &ops }, .credit = SIZE_MAX };
    egress_accept(e, &p->ch);
}

static inline void peer_feed(struct peer *p, const void *data, size_t len)
{
    p->fed += len;
    if (!p->closed)
        p->events->on_data(p->arg, data, len);
}

static inline void peer_say(struct peer *p, const char *text)
{
    peer_feed(p, text, strlen(text));
}

static inline void peer_hang_up(struct peer *p)
{
    if (!p->closed)
        p->events->on_data(p->arg, NULL, 0);
}

static inline void peer_vanish(struct peer *p)
{
    if (!p->closed)
        p->events->on_close(p->arg);
}

static inline void peer_fini(struct peer *p)
{
    peer_vanish(p);
    buf_fini(&p->got);
}

/* ---- names, and the world ---- */

struct world_name {
    const char *name;
    const char *addresses[4]; /* of the first question */
    const char *later[4];     /* of the others; empty: as the first */
};

struct world_question {
    struct loop_post post; /* first */
    struct list link;
    const struct world_name *answer;
    bool again;
    egress_resolved_fn *done;
    void *done_arg;
    struct world *world;
};

struct world {
    struct loop *loop;
    struct egress_rules *rules;
    struct egress *egress;
    struct egress_config config;
    const struct world_name *names;
    bool hold;           /* do not answer questions before world_answer() */
    struct list pending; /* questions held */
    size_t asked;
    struct buf questions; /* names asked for, each with a space behind it */
    struct buf events;    /* one line each */
};

static inline void world_event(void *arg, const struct egress_event *event)
{
    static const char *const what[] = { "allowed", "denied", "ended" };
    struct world *w = arg;
    char line[1000];
    int len =
        snprintf(line, sizeof line, "%s %s:%u [%s] (%s) %s out=%llu in=%llu\n", what[event->what],
                 event->host, event->port, event->address, event->rule, event->reason,
                 (unsigned long long)event->bytes_out, (unsigned long long)event->bytes_in);

    sure_append(&w->events, line, (size_t)len);
}

static inline void world_answer_one(struct loop_post *post)
{
    struct world_question *q = CONTAINER_OF(post, struct world_question, post);
    struct sockaddr_storage ss[4];
    const char *const *texts = NULL;
    size_t count = 0;

    if (q->answer)
        texts = q->again && q->answer->later[0] ? q->answer->later : q->answer->addresses;
    while (texts && count < 4 && texts[count]) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)&ss[count];
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&ss[count];

        memset(&ss[count], 0, sizeof ss[count]);
        if (inet_pton(AF_INET, texts[count], &in->sin_addr) == 1)
            ss[count].ss_family = AF_INET;
        else if (inet_pton(AF_INET6, texts[count], &in6->sin6_addr) == 1)
            ss[count].ss_family = AF_INET6;
        count++;
    }
    list_remove(&q->link);
    q->done(q->done_arg, ss, count);
    free(q);
}

static inline void world_resolve(void *arg, const char *host, uint16_t port,
                                 egress_resolved_fn *done, void *done_arg)
{
    struct world *w = arg;
    struct world_question *q = sure_calloc(sizeof *q);
    char seen[300];
    (void)port;

    snprintf(seen, sizeof seen, "%s ", host);
    q->done = done;
    q->done_arg = done_arg;
    q->world = w;
    q->again = strstr(buf_str(&w->questions), seen) != NULL;
    list_init(&q->link);
    for (const struct world_name *n = w->names; n && n->name; n++) {
        if (!strcmp(n->name, host))
            q->answer = n;
    }
    w->asked++;
    sure_append(&w->questions, seen, strlen(seen));
    if (w->hold)
        list_append(&w->pending, &q->link);
    else
        loop_post(w->loop, &q->post, world_answer_one);
}

/** Answer the questions that were held so far. */
static inline void world_answer(struct world *w)
{
    w->hold = false;
    LIST_FOR_EACH_SAFE (node, &w->pending)
        world_answer_one(&LIST_ENTRY(node, struct world_question, link)->post);
}

static inline void world_init(struct world *w, const char *const *rules, size_t count,
                              const struct world_name *names)
{
    struct error err = ERROR_INIT;

    memset(w, 0, sizeof *w);
    list_init(&w->pending);
    w->names = names;
    w->loop = loop_new(&err);
    assert_ok(w->loop != NULL, err);
    w->rules = egress_rules_new(rules, count, &err);
    assert_ok(w->rules != NULL, err);
    w->config = (struct egress_config){ .loop = w->loop,
                                        .rules = w->rules,
                                        .on_event = world_event,
                                        .event_arg = w,
                                        .resolve = world_resolve,
                                        .resolve_arg = w };
    w->egress = egress_new(&w->config, &err);
    assert_ok(w->egress != NULL, err);
}

/** The same broker with other times. */
static inline void world_times(struct world *w, int64_t connect_ns, int64_t idle_ns)
{
    struct error err = ERROR_INIT;

    egress_free(w->egress);
    w->config.connect_timeout_ns = connect_ns;
    w->config.idle_timeout_ns = idle_ns;
    w->egress = egress_new(&w->config, &err);
    assert_ok(w->egress != NULL, err);
}

static inline void world_fini(struct world *w)
{
    egress_free(w->egress);
    world_answer(w); /* after the broker is gone: nobody must mind */
    loop_free(w->loop);
    egress_rules_free(w->rules);
    buf_fini(&w->questions);
    buf_fini(&w->events);
}

/** Let what is due within @ns happen now. */
static inline void world_advance(struct world *w, int64_t ns)
{
    clock_fake(clock_add_ns(clock_now_ns(), ns));
    loop_turn(w->loop, 0);
    loop_turn(w->loop, 0);
    clock_real();
}

/** Turn the loop until @cond holds. */
#define WORLD_UNTIL(w, cond)                                                      \
    do {                                                                          \
        int64_t give_up_ns_ = clock_add_ns(clock_now_ns(), WORLD_PATIENCE);       \
        while (!(cond)) {                                                         \
            loop_turn((w)->loop, 50);                                             \
            if (clock_now_ns() > give_up_ns_)                                     \
                fail_msg("never: %s; events:\n%s", #cond, buf_str(&(w)->events)); \
        }                                                                         \
    } while (0)

/* ---- a server on loopback ---- */

struct server;

struct server_conn {
    uv_tcp_t tcp;
    uv_write_t write;
    struct server *server;
    struct server_conn *next;
    bool replied;
};

struct server {
    uv_tcp_t tcp;
    uint16_t port;
    struct world *world;
    const char *greeting; /* sent at once */
    const char *await;    /* once this has arrived, `reply` is sent */
    const char *reply;
    size_t reply_len; /* 0: strlen(reply) */
    bool close;       /* after the reply */
    bool reset;       /* breaks the connection off as soon as something arrives */
    bool mute;        /* never reads */
    bool echo;
    size_t accepted, ended;
    struct buf got;
    struct server_conn *conns;
};

static inline void server_on_written(uv_write_t *req, int status)
{
    struct server_conn *c = CONTAINER_OF(req, struct server_conn, write);

    if (!status && c->replied && c->server->close && !uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, NULL);
}

static inline void server_write(struct server_conn *c, const char *data, size_t len)
{
    uv_buf_t buf = { .len = len };

    memcpy(&buf.base, &data, sizeof data);
    assert_int_equal(uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, server_on_written), 0);
}

static inline void server_on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    static char scratch[65536];
    (void)handle;
    (void)size;

    *buf = uv_buf_init(scratch, sizeof scratch);
}

static inline void server_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct server_conn *c = CONTAINER_OF(stream, struct server_conn, tcp);
    struct server *s = c->server;

    if (n < 0) {
        s->ended++;
        uv_close((uv_handle_t *)stream, NULL);
        return;
    }
    sure_append(&s->got, buf->base, (size_t)n);
    if (s->reset) {
        uv_tcp_close_reset(&c->tcp, NULL);
        return;
    }
    if (s->echo) {
        uv_buf_t back = uv_buf_init(buf->base, (unsigned)n);

        assert_int_equal(uv_try_write(stream, &back, 1), n);
    }
    if (s->await && !c->replied && strstr(s->got.data, s->await)) {
        c->replied = true;
        server_write(c, s->reply, s->reply_len ? s->reply_len : strlen(s->reply));
    }
}

static inline void server_on_accept(uv_stream_t *listener, int status)
{
    struct server *s = CONTAINER_OF(listener, struct server, tcp);
    struct server_conn *c = sure_calloc(sizeof *c);

    assert_int_equal(status, 0);
    c->server = s;
    c->next = s->conns;
    s->conns = c;
    uv_tcp_init(loop_uv(s->world->loop), &c->tcp);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&c->tcp), 0);
    s->accepted++;
    if (s->greeting)
        server_write(c, s->greeting, strlen(s->greeting));
    if (!s->mute)
        uv_read_start((uv_stream_t *)&c->tcp, server_on_alloc, server_on_read);
}

/** Listen on @address, any port when @port is 0.  False when that is not allowed here. */
static inline bool server_listen(struct server *s, struct world *w, const char *address,
                                 uint16_t port)
{
    struct sockaddr_in in;
    int len = sizeof in;

    s->world = w;
    uv_ip4_addr(address, port, &in);
    uv_tcp_init(loop_uv(w->loop), &s->tcp);
    if (uv_tcp_bind(&s->tcp, (struct sockaddr *)&in, 0) ||
        uv_listen((uv_stream_t *)&s->tcp, 300, server_on_accept))
        return false;
    assert_int_equal(uv_tcp_getsockname(&s->tcp, (struct sockaddr *)&in, &len), 0);
    s->port = ntohs(in.sin_port);
    return true;
}

static inline void server_start(struct server *s, struct world *w)
{
    assert_true(server_listen(s, w, "127.0.0.1", 0));
}

/** After world_fini(), which closes what is open. */
static inline void server_fini(struct server *s)
{
    while (s->conns) {
        struct server_conn *c = s->conns;

        s->conns = c->next;
        free(c);
    }
    buf_fini(&s->got);
}
