#include <string.h>
#include <strings.h>

#include "kernel/base/limits.h"
#include "kernel/computer/egress_internal.h"
#include "kernel/computer/egress_socks.h"
#include "kernel/computer/egress_tls.h"

static uv_stream_t *stream(struct egress_conn *c)
{
    return (uv_stream_t *)&c->sock->tcp;
}

void egress_consume(struct egress_conn *c, size_t len)
{
    if (!len)
        return;
    c->owed -= len;
    c->egress->held -= len;
    channel_consume(c->ch, len);
}

static void maybe_done(struct egress_conn *c)
{
    if (c->tunnel && c->shut && c->server_eof && c->eof_sent)
        egress_end(c, "");
}

/* ---- to the server ---- */

/* @len bytes went out, the oldest of flight and up. */
static void went_out(struct egress_conn *c, size_t len)
{
    size_t ours = MIN(len, c->up_free);

    c->up_free -= ours;
    c->bytes_out += len;
    c->last_ns = clock_now_ns();
    egress_consume(c, len - ours);
}

/* The server takes no more, but may have answered before it closed: go on reading. */
static void up_died(struct egress_conn *c)
{
    c->up_dead = true;
    c->shut = true;
    c->up_free = 0;
    buf_fini(&c->up);
    egress_consume(c, c->owed);
    if (!c->ended)
        maybe_done(c);
}

/* Bytes written without waiting; the connection may have ended when it returns 0. */
static size_t write_now(struct egress_conn *c, const void *data, size_t len)
{
    uv_buf_t buf = { .len = len };
    int n;

    memcpy(&buf.base, &data, sizeof data); /* libuv takes no const, though it only reads */
    n = uv_try_write(stream(c), &buf, 1);
    if (n >= 0) {
        went_out(c, (size_t)n);
        return (size_t)n;
    }
    if (n != UV_EAGAIN)
        up_died(c);
    return 0;
}

static void flush_up(struct egress_conn *c);

static void on_written(uv_write_t *req, int status)
{
    struct egress_sock *sock = CONTAINER_OF(req, struct egress_sock, write);
    struct egress_conn *c = sock->conn;

    if (c->ended || c->sock != sock)
        return;
    c->writing = false;
    if (status) {
        up_died(c);
        return;
    }
    went_out(c, c->flight.len);
    buf_fini(&c->flight);
    if (!c->ended)
        flush_up(c);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status; /* a connection that is gone already shows itself when read */
}

static void flush_up(struct egress_conn *c)
{
    uv_buf_t buf;

    if (c->writing || c->up_dead)
        return;
    if (c->up.len) {
        /* What libuv holds must stay where it is while more gathers. */
        c->flight = c->up;
        c->up = (struct buf)BUF_INIT;
        buf = uv_buf_init(c->flight.data, (unsigned)c->flight.len);
        c->writing = true;
        if (uv_write(&c->sock->write, stream(c), &buf, 1, on_written)) {
            c->writing = false;
            up_died(c);
        }
        return;
    }
    if (c->tunnel && c->client_eof && c->state == EGRESS_RELAY && !c->shut) {
        c->shut = true;
        (void)uv_shutdown(&c->sock->shutdown, stream(c), on_shutdown);
        maybe_done(c);
    }
}

static void push(struct egress_conn *c, const uint8_t *data, size_t len)
{
    if (!c->writing && !c->up.len) {
        size_t n = write_now(c, data, len);

        data += n;
        len -= n;
    }
    if (c->ended || c->up_dead || !len)
        return;
    if (!buf_append(&c->up, data, len))
        egress_end(c, "out of memory");
    else
        flush_up(c);
}

/* The body of a forwarded request, and nothing that comes after it. */
static void push_body(struct egress_conn *c, const uint8_t *data, size_t len)
{
    while (len && !c->ended) {
        bool forward;
        size_t used;

        if (c->up_dead || c->body.done) {
            egress_consume(c, len);
            return;
        }
        if (!egress_http_body_step(&c->body, (const char *)data, len, &used, &forward)) {
            egress_fail(c, 400, "the request's chunked body is malformed");
            return;
        }
        if (forward)
            push(c, data, used);
        else
            egress_consume(c, used);
        if (c->state != EGRESS_RELAY || c->up_dead) /* all of it is given back already */
            return;
        data += used;
        len -= used;
    }
}

/* ---- the first bytes ---- */

static bool name_fits(const struct egress_conn *c, const char *name)
{
    size_t len = strlen(name);

    if (!len)
        return c->host.is_address;
    if (name[len - 1] == '.')
        len--;
    return strlen(c->host.name) == len && !strncasecmp(c->host.name, name, len);
}

static void pass_first_bytes(struct egress_conn *c)
{
    struct buf first = c->in;

    c->in = (struct buf)BUF_INIT;
    c->state = EGRESS_RELAY;
    if (egress_arm(c, clock_add_ns(c->last_ns, c->egress->config.idle_timeout_ns))) {
        if (first.len)
            push(c, (const uint8_t *)first.data, first.len);
        if (!c->ended && c->state == EGRESS_RELAY)
            flush_up(c);
    }
    buf_fini(&first);
}

static void judge_first_bytes(struct egress_conn *c)
{
    struct egress_hello hello;

    switch (egress_tls_read((const uint8_t *)c->in.data, c->in.len, &hello)) {
    case EGRESS_TLS_MORE:
        if (!c->in.len && c->client_eof)
            pass_first_bytes(c);
        else if (c->client_eof)
            egress_cut(c, false, "its first bytes are a TLS ClientHello cut short");
        else if (c->in.len && !c->hello_timed)
            c->hello_timed =
                egress_arm(c, clock_add_ns(c->last_ns,
                                           MIN(c->egress->config.idle_timeout_ns, EGRESS_HEAD_NS)));
        return;
    case EGRESS_TLS_PLAIN:
        if (c->port == 443)
            egress_cut(c, false, "what was sent to port 443 is not TLS");
        else
            pass_first_bytes(c);
        return;
    case EGRESS_TLS_HELLO:
        if (name_fits(c, hello.name))
            pass_first_bytes(c);
        else if (!hello.name[0])
            egress_cut(c, true, "its TLS ClientHello has no server name");
        else
            egress_cut(c, true, "its TLS server name is not the host that was asked for");
        return;
    case EGRESS_TLS_BAD:
        egress_cut(c, true, hello.why);
        return;
    }
}

void egress_relay_input(struct egress_conn *c, const uint8_t *data, size_t len)
{
    if (c->state == EGRESS_HELLO) {
        if (!buf_append(&c->in, data, len))
            egress_end(c, "out of memory");
        else
            judge_first_bytes(c);
    } else if (!c->tunnel) {
        push_body(c, data, len);
    } else if (c->up_dead) {
        egress_consume(c, len);
    } else {
        push(c, data, len);
    }
}

void egress_relay_eof(struct egress_conn *c)
{
    if (c->state == EGRESS_HELLO)
        judge_first_bytes(c);
    else if (!c->tunnel && !c->body.done)
        egress_end(c, "the request's body was cut short");
    else
        flush_up(c);
}

/* ---- to the program ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct egress_conn *c = CONTAINER_OF(handle, struct egress_sock, tcp)->conn;

    (void)suggested;
    /* One buffer serves all: libuv fills it and calls on_read() before anything else runs. */
    *buf = uv_buf_init(c->egress->scratch, EGRESS_SCRATCH);
}

static void pass_down(struct egress_conn *c, const char *data, size_t len)
{
    size_t taken = 0;

    if (!c->down.len)
        taken = channel_send(c->ch, data, len);
    if (c->ended || taken == len)
        return;
    if (!buf_append(&c->down, data + taken, len - taken)) {
        egress_end(c, "out of memory");
        return;
    }
    if (c->reading) {
        (void)uv_read_stop(stream(c));
        c->reading = false;
    }
}

static void read_response(struct egress_conn *c, const char *data, size_t len)
{
    struct buf head = BUF_INIT;
    bool final = false;
    size_t used;

    if (!buf_append(&c->response, data, len)) {
        egress_end(c, "out of memory");
        return;
    }
    while (!final && c->response.len) {
        enum egress_http verdict =
            egress_http_response(c->response.data, c->response.len, &head, &used, &final);

        if (verdict == EGRESS_HTTP_BAD ||
            (verdict == EGRESS_HTTP_MORE && c->response.len > EGRESS_RESPONSE)) {
            egress_fail(c, 502, "the server's answer is not HTTP/1.x");
            break;
        }
        if (head.failed)
            egress_end(c, "out of memory");
        if (verdict == EGRESS_HTTP_MORE)
            break;
        pass_down(c, head.data, head.len);
        if (c->ended)
            break;
        buf_clear(&head);
        buf_consume(&c->response, used);
    }
    buf_fini(&head);
    if (!final || c->ended || c->state != EGRESS_RELAY)
        return;
    c->response_done = true;
    if (c->response.len)
        pass_down(c, c->response.data, c->response.len);
    buf_fini(&c->response);
}

static void server_gone(struct egress_conn *c, int status)
{
    if (!c->tunnel && !c->response_done) {
        egress_fail(c, 502, "the server closed the connection without an answer");
        return;
    }
    if (status != UV_EOF) {
        egress_fail(c, 502, "the server broke the connection off");
        return;
    }
    c->server_eof = true;
    egress_flush_down(c);
}

static void on_read(uv_stream_t *from, ssize_t n, const uv_buf_t *buf)
{
    struct egress_sock *sock = CONTAINER_OF(from, struct egress_sock, tcp);
    struct egress_conn *c = sock->conn;

    if (c->ended || c->sock != sock || !n)
        return;
    if (n < 0) {
        (void)uv_read_stop(from);
        c->reading = false;
        server_gone(c, (int)n);
        return;
    }
    c->last_ns = clock_now_ns();
    c->bytes_in += (uint64_t)n;
    if (c->tunnel || c->response_done)
        pass_down(c, buf->base, (size_t)n);
    else
        read_response(c, buf->base, (size_t)n);
}

static void read_on(struct egress_conn *c)
{
    int rc;

    if (c->reading || c->server_eof || !c->sock)
        return;
    rc = uv_read_start(stream(c), on_alloc, on_read);
    c->reading = !rc;
    if (rc)
        server_gone(c, rc);
}

void egress_flush_down(struct egress_conn *c)
{
    while (c->down.len) {
        size_t n = channel_send(c->ch, c->down.data, c->down.len);

        if (c->ended || !n)
            return;
        c->last_ns = clock_now_ns();
        buf_consume(&c->down, n);
    }
    buf_fini(&c->down);
    if (c->state != EGRESS_ANSWER && c->state != EGRESS_HELLO && c->state != EGRESS_RELAY)
        return;
    if (c->state != EGRESS_ANSWER && !c->server_eof) {
        read_on(c);
        return;
    }
    if (c->state != EGRESS_ANSWER && !c->tunnel) {
        egress_finish(c);
        return;
    }
    if (!c->eof_sent) {
        c->eof_sent = true;
        channel_send_eof(c->ch);
    }
    if (c->ended)
        return;
    if (c->state == EGRESS_ANSWER && c->client_eof)
        egress_end(c, "");
    else
        maybe_done(c);
}

/* ---- begin and time ---- */

void egress_relay_begin(struct egress_conn *c)
{
    static const char established[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    uint8_t reply[EGRESS_SOCKS_REPLY_BYTES];
    struct buf first;
    bool ok = true;

    c->state = c->tunnel ? EGRESS_HELLO : EGRESS_RELAY;
    c->last_ns = clock_now_ns();
    if (c->socks) {
        egress_socks_reply(EGRESS_SOCKS_OK, reply);
        ok = buf_append(&c->down, reply, sizeof reply);
    } else if (c->tunnel) {
        ok = buf_append_str(&c->down, established);
    }
    if (!ok) {
        egress_end(c, "out of memory");
        return;
    }
    if (!egress_arm(c, clock_add_ns(c->last_ns, c->egress->config.idle_timeout_ns)))
        return;
    egress_flush_down(c);
    if (c->ended || c->state == EGRESS_ANSWER)
        return;
    if (c->tunnel) {
        judge_first_bytes(c);
        return;
    }
    flush_up(c);
    first = c->in;
    c->in = (struct buf)BUF_INIT;
    if (!c->ended && first.len)
        push_body(c, (const uint8_t *)first.data, first.len);
    buf_fini(&first);
    if (!c->ended && c->state == EGRESS_RELAY && c->client_eof)
        egress_relay_eof(c);
}

void egress_relay_timeout(struct egress_conn *c)
{
    int64_t idle_ns = clock_add_ns(c->last_ns, c->egress->config.idle_timeout_ns);

    if (c->state == EGRESS_HELLO && c->hello_timed)
        egress_cut(c, true, "its TLS ClientHello did not arrive in time");
    else if (clock_now_ns() < idle_ns)
        (void)egress_arm(c, idle_ns);
    else
        egress_end(c, "no byte moved for too long");
}
