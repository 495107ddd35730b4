#include "kernel/computer/egress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/limits.h"
#include "kernel/computer/egress_internal.h"
#include "kernel/computer/egress_socks.h"

#define CONNECT_NS    (15 * CLOCK_NS_PER_S)
#define IDLE_NS       (300 * CLOCK_NS_PER_S)
#define ANSWER_NS     (5 * CLOCK_NS_PER_S) /* for our last words to be read */
#define SOCKS4        4
#define SOCKS4_REFUSE 91

/* ---- the broker ---- */

struct egress *egress_new(const struct egress_config *config, struct error *err)
{
    struct egress *e = calloc(1, sizeof *e);

    loop_assert_owner(config->loop);
    if (!e) {
        error_set(err, ERR_NOMEM, "egress broker");
        return NULL;
    }
    e->config = *config;
    if (!e->config.connect_timeout_ns)
        e->config.connect_timeout_ns = CONNECT_NS;
    if (!e->config.idle_timeout_ns)
        e->config.idle_timeout_ns = IDLE_NS;
    list_init(&e->conns);
    list_init(&e->lookups);
    list_init(&e->lookup_queue);
    return e;
}

void egress_free(struct egress *e)
{
    if (!e)
        return;
    loop_assert_owner(e->config.loop);
    LIST_FOR_EACH_SAFE (node, &e->conns)
        egress_end(LIST_ENTRY(node, struct egress_conn, link), "the broker was closed");
    egress_lookups_orphan(e);
    free(e->scratch);
    free(e);
}

/* ---- the life of a connection ---- */

void egress_report(struct egress_conn *c, int what, const char *reason)
{
    const struct egress_config *config = &c->egress->config;
    struct egress_event event = {
        .host = c->shown,
        .port = c->port,
        .address = c->address,
        .rule = c->rule,
        .reason = reason,
        .bytes_out = c->bytes_out,
        .bytes_in = c->bytes_in,
    };

    event.what = (__typeof__(event.what))what;
    if (config->on_event)
        config->on_event(config->event_arg, &event);
}

void egress_conn_free(struct egress_conn *c)
{
    buf_fini(&c->flight);
    free(c);
}

static void on_release(struct loop_post *post)
{
    egress_conn_free(CONTAINER_OF(post, struct egress_conn, release));
}

static void keep_reason(struct egress_conn *c, const char *reason)
{
    if (!c->reason[0])
        snprintf(c->reason, sizeof c->reason, "%s", reason);
}

void egress_end(struct egress_conn *c, const char *reason)
{
    if (c->ended)
        return;
    c->ended = true;
    keep_reason(c, reason);
    loop_timer_stop(c->loop, &c->timer);
    egress_lookup_drop(c);
    if (c->sock)
        egress_sock_close(c);
    channel_close(c->ch);
    if (c->allowed)
        egress_report(c, EGRESS_ENDED, c->reason);
    list_remove(&c->link);
    c->egress->count--;
    c->egress->held -= c->owed;
    buf_fini(&c->in);
    buf_fini(&c->up);
    buf_fini(&c->down);
    buf_fini(&c->response);
    /* Callers up the stack still look at `ended`, so the memory goes later. */
    if (!c->socks_open)
        loop_post(c->loop, &c->release, on_release);
}

static void on_timer(struct loop_timer *timer)
{
    struct egress_conn *c = CONTAINER_OF(timer, struct egress_conn, timer);

    switch (c->state) {
    case EGRESS_REQUEST:
        if (c->in.len)
            egress_refuse(c, 408, "the request did not arrive in time");
        else
            egress_end(c, "");
        break;
    case EGRESS_LOOKUP:
    case EGRESS_DIAL:
        egress_dial_timeout(c);
        break;
    case EGRESS_HELLO:
    case EGRESS_RELAY:
        egress_relay_timeout(c);
        break;
    case EGRESS_ANSWER:
        egress_end(c, "");
        break;
    }
}

bool egress_arm(struct egress_conn *c, int64_t deadline_ns)
{
    if (loop_timer_start(c->loop, &c->timer, deadline_ns, on_timer))
        return true;
    egress_end(c, "out of memory");
    return false;
}

/* ---- last words ---- */

void egress_finish(struct egress_conn *c)
{
    c->state = EGRESS_ANSWER;
    egress_lookup_drop(c);
    if (c->sock)
        egress_sock_close(c);
    buf_fini(&c->in);
    buf_fini(&c->up);
    c->up_free = 0;
    if (!egress_arm(
            c, clock_add_ns(clock_now_ns(), MIN(c->egress->config.idle_timeout_ns, ANSWER_NS))))
        return;
    egress_consume(c, c->owed);
    if (!c->ended)
        egress_flush_down(c);
}

static enum egress_socks_code socks_code(const struct egress_conn *c, int status)
{
    if (status == 403)
        return EGRESS_SOCKS_NOT_ALLOWED;
    if (c->dial_error == UV_ECONNREFUSED)
        return EGRESS_SOCKS_REFUSED;
    if (c->dial_error == UV_ENETUNREACH)
        return EGRESS_SOCKS_NETWORK;
    return status == 502 || status == 504 ? EGRESS_SOCKS_HOST : EGRESS_SOCKS_FAILURE;
}

/* @text is the body for a program that speaks HTTP; SOCKS has a code only. */
static void answer(struct egress_conn *c, int status, enum egress_socks_code code, const char *why,
                   const char *text)
{
    uint8_t reply[EGRESS_SOCKS_REPLY_BYTES];

    keep_reason(c, why);
    if (c->socks) {
        egress_socks_reply(code, reply);
        buf_append(&c->down, reply, sizeof reply);
    } else if (!egress_http_answer(&c->down, status, why, text, c->no_body)) {
        buf_clear(&c->down); /* end of file says enough when memory is gone */
    }
    egress_finish(c);
}

static void answer_plainly(struct egress_conn *c, int status, const char *why)
{
    char authority[EGRESS_AUTHORITY_MAX], text[640];

    if (c->known)
        snprintf(text, sizeof text, "The connection to %s failed: %s.\n",
                 egress_authority(&c->host, c->port, authority), why);
    else
        snprintf(text, sizeof text, "The request was refused: %s.\n", why);
    answer(c, status, socks_code(c, status), why, text);
}

void egress_refuse(struct egress_conn *c, int status, const char *why)
{
    egress_report(c, EGRESS_DENIED, why);
    answer_plainly(c, status, why);
}

void egress_fail(struct egress_conn *c, int status, const char *why)
{
    keep_reason(c, why);
    if (c->response_done || (c->tunnel && c->connected))
        egress_finish(c); /* words of ours would be taken for the server's */
    else
        answer_plainly(c, status, why);
}

/* What the rules deny, with the rule that would change it. */
static void deny(struct egress_conn *c, const char *why, const char *rule)
{
    char authority[EGRESS_AUTHORITY_MAX], text[1600];

    egress_report(c, EGRESS_DENIED, why);
    snprintf(text, sizeof text,
             "The connection to %s was refused: %s.\n"
             "This computer reaches only what its network rules allow, and trying again will not "
             "change that.\nThe rules are given when a computer is made: computer_create "
             "{\"allow\": [\"HOST:PORT\", ...]}. Allowing this takes {\"allow\": [%s]}.\n",
             egress_authority(&c->host, c->port, authority), why, rule);
    answer(c, 403, EGRESS_SOCKS_NOT_ALLOWED, why, text);
}

void egress_cut(struct egress_conn *c, bool tls, const char *why)
{
    static const uint8_t access_denied[] = { 21, 3, 3, 0, 2, 2, 49 };

    egress_report(c, EGRESS_DENIED, why);
    keep_reason(c, why);
    if (tls)
        buf_append(&c->down, access_denied, sizeof access_denied);
    egress_finish(c);
}

/* ---- the decision ---- */

static void deny_address(struct egress_conn *c, const struct egress_address *address)
{
    const char *special = egress_address_special(address);
    char why[200], rule[2 * EGRESS_AUTHORITY_MAX + 16], text[INET6_ADDRSTRLEN];
    char authority[EGRESS_AUTHORITY_MAX], by_address[EGRESS_AUTHORITY_MAX];
    struct egress_host host = { .is_address = true, .address = *address };

    (void)egress_address_text(address, text);
    snprintf(host.name, sizeof host.name, "%s", text);
    snprintf(c->address, sizeof c->address, "%s", text);
    snprintf(why, sizeof why, "it resolves to %s, %s, which a rule for a name does not open", text,
             special ? special : "an address");
    snprintf(rule, sizeof rule, "\"%s\", \"%s\"", egress_authority(&c->host, c->port, authority),
             egress_authority(&host, c->port, by_address));
    deny(c, why, rule);
}

void egress_resolved(struct egress_conn *c, const struct sockaddr_storage *addresses, size_t count)
{
    const struct egress_rules *rules = c->egress->config.rules;
    struct egress_address address, refused;
    bool any_refused = false;
    const char *rule;

    for (size_t i = 0; i < count && c->candidate_count < EGRESS_CANDIDATES; i++) {
        if (!egress_address_from(&addresses[i], &address))
            continue;
        if (egress_rules_match_address(rules, &c->host, c->port, &address, &rule)) {
            if (!c->candidate_count)
                c->rule = rule;
            c->candidates[c->candidate_count++] = address;
        } else if (!any_refused) {
            any_refused = true;
            refused = address;
        }
    }
    if (!c->candidate_count) {
        if (any_refused)
            deny_address(c, &refused);
        else
            egress_refuse(c, 502, "the name does not resolve to an address");
        return;
    }
    (void)egress_address_text(&c->candidates[0], c->address);
    c->allowed = true;
    egress_report(c, EGRESS_ALLOWED, "");
    c->state = EGRESS_DIAL;
    egress_dial(c);
}

static void decide(struct egress_conn *c)
{
    char authority[EGRESS_AUTHORITY_MAX], why[EGRESS_AUTHORITY_MAX + 64];
    char rule[EGRESS_AUTHORITY_MAX + 2];
    struct sockaddr_storage address;

    c->known = true;
    (void)egress_authority(&c->host, c->port, authority);
    if (!egress_rules_match_host(c->egress->config.rules, &c->host, c->port, &c->rule)) {
        snprintf(why, sizeof why, "no network rule allows %s", authority);
        snprintf(rule, sizeof rule, "\"%s\"", authority);
        deny(c, why, rule);
        return;
    }
    if (!c->tunnel && c->port == 443) {
        egress_refuse(c, 403, "port 443 is only for TLS: use https://");
        return;
    }
    c->state = EGRESS_LOOKUP;
    c->dial_deadline_ns = clock_add_ns(clock_now_ns(), c->egress->config.connect_timeout_ns);
    if (!egress_arm(c, c->dial_deadline_ns))
        return;
    if (c->host.is_address) {
        egress_address_to(&c->host.address, c->port, &address);
        egress_resolved(c, &address, 1);
    } else {
        egress_lookup(c);
    }
}

/* ---- the request ---- */

static void taken(struct egress_conn *c, size_t len)
{
    buf_consume(&c->in, len);
    egress_consume(c, len);
}

static void read_http(struct egress_conn *c, size_t *pos)
{
    struct egress_request req;
    size_t len;

    switch (egress_http_scan(c->in.data, c->in.len, pos, &len)) {
    case EGRESS_HTTP_MORE:
        return;
    case EGRESS_HTTP_BAD:
        egress_refuse(c, 400, "that is not an HTTP request");
        return;
    case EGRESS_HTTP_LARGE:
        egress_refuse(c, 431, "the request's head is too large");
        return;
    case EGRESS_HTTP_DONE:
        break;
    }
    if (!egress_http_parse(c->in.data, len, &req)) {
        memcpy(c->shown, req.shown, sizeof c->shown);
        c->port = req.port;
        egress_refuse(c, req.status, req.why);
        return;
    }
    memcpy(c->shown, req.shown, sizeof c->shown);
    c->host = req.host;
    c->port = req.port;
    c->tunnel = req.tunnel;
    c->no_body = req.no_body;
    if (!c->tunnel) {
        egress_http_body_init(&c->body, req.framing, req.length);
        if (!egress_http_forward(c->in.data, len, &req, &c->up)) {
            egress_end(c, "out of memory");
            return;
        }
        c->up_free = c->up.len;
    }
    taken(c, len);
    if (!c->ended)
        decide(c);
}

static void refuse_socks(struct egress_conn *c, const void *reply, size_t len, const char *why)
{
    egress_report(c, EGRESS_DENIED, why);
    keep_reason(c, why);
    buf_append(&c->down, reply, len);
    egress_finish(c);
}

static bool greet(struct egress_conn *c)
{
    static const uint8_t no_method[] = { EGRESS_SOCKS_VERSION, 0xff };
    static const uint8_t no_authentication[] = { EGRESS_SOCKS_VERSION, 0 };
    size_t used = 0;

    switch (egress_socks_greeting((const uint8_t *)c->in.data, c->in.len, &used)) {
    case EGRESS_SOCKS_MORE:
        return false;
    case EGRESS_SOCKS_BAD:
        refuse_socks(c, no_method, sizeof no_method, "SOCKS5 without \"no authentication\"");
        return false;
    case EGRESS_SOCKS_DONE:
        break;
    }
    c->greeted = true;
    taken(c, used);
    if (c->ended)
        return false;
    if (!buf_append(&c->down, no_authentication, sizeof no_authentication)) {
        egress_end(c, "out of memory");
        return false;
    }
    egress_flush_down(c);
    return !c->ended;
}

static void read_socks(struct egress_conn *c)
{
    struct egress_socks_request req;
    size_t used = 0;

    if (!c->greeted && !greet(c))
        return;
    switch (egress_socks_request((const uint8_t *)c->in.data, c->in.len, &used, &req)) {
    case EGRESS_SOCKS_MORE:
        return;
    case EGRESS_SOCKS_BAD:
    case EGRESS_SOCKS_DONE:
        memcpy(c->shown, req.shown, sizeof c->shown);
        c->port = req.port;
        break;
    }
    if (req.why) {
        egress_report(c, EGRESS_DENIED, req.why);
        answer(c, 0, req.code, req.why, "");
        return;
    }
    c->host = req.host;
    c->tunnel = true;
    taken(c, used);
    if (!c->ended)
        decide(c);
}

static void read_request(struct egress_conn *c, size_t scanned)
{
    static const uint8_t socks4_refusal[8] = { 0, SOCKS4_REFUSE };

    if (c->in.data[0] == EGRESS_SOCKS_VERSION)
        c->socks = true;
    if (c->socks)
        read_socks(c);
    else if (c->in.data[0] == SOCKS4)
        refuse_socks(c, socks4_refusal, sizeof socks4_refusal,
                     "SOCKS4 is not served: use SOCKS5 or HTTP");
    else
        read_http(c, &scanned);
}

/* ---- what the channel tells ---- */

static void on_eof(struct egress_conn *c)
{
    c->client_eof = true;
    if (c->state == EGRESS_REQUEST)
        egress_end(c, "");
    else if (c->state == EGRESS_HELLO || c->state == EGRESS_RELAY)
        egress_relay_eof(c);
    else if (c->state == EGRESS_ANSWER && c->eof_sent)
        egress_end(c, "");
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct egress_conn *c = arg;
    size_t had = c->in.len;

    if (c->ended || c->client_eof)
        return;
    if (!len) {
        on_eof(c);
        return;
    }
    if (len > LIMIT_CHANNEL_WINDOW - c->owed || len > EGRESS_HELD_MAX - c->egress->held) {
        egress_end(c, "too many bytes wait for servers that do not take them");
        return;
    }
    c->owed += len;
    c->egress->held += len;
    c->last_ns = clock_now_ns();
    switch (c->state) {
    case EGRESS_REQUEST:
    case EGRESS_LOOKUP:
    case EGRESS_DIAL:
        if (!buf_append(&c->in, data, len))
            egress_end(c, "out of memory");
        else if (c->state == EGRESS_REQUEST)
            read_request(c, had);
        break;
    case EGRESS_HELLO:
    case EGRESS_RELAY:
        egress_relay_input(c, data, len);
        break;
    case EGRESS_ANSWER:
        egress_consume(c, len);
        break;
    }
}

static void on_writable(void *arg)
{
    struct egress_conn *c = arg;

    if (!c->ended)
        egress_flush_down(c);
}

static void on_close(void *arg)
{
    egress_end(arg, "closed by the computer");
}

void egress_accept(struct egress *e, struct channel *ch)
{
    static const struct channel_events events = { on_data, on_writable, on_close };
    struct egress_conn *c = NULL;

    loop_assert_owner(e->config.loop);
    if (!e->scratch)
        e->scratch = malloc(EGRESS_SCRATCH);
    if (e->scratch && e->count < LIMIT_EGRESS_CONNECTIONS + EGRESS_TURNED)
        c = calloc(1, sizeof *c);
    if (!c) {
        channel_close(ch);
        return;
    }
    c->egress = e;
    c->loop = e->config.loop;
    c->ch = ch;
    c->rule = "";
    c->last_ns = clock_now_ns();
    list_init(&c->wait_link);
    list_append(&e->conns, &c->link);
    e->count++;
    if (!egress_arm(c, clock_add_ns(c->last_ns, MIN(e->config.idle_timeout_ns, EGRESS_HEAD_NS))))
        return;
    if (e->count > LIMIT_EGRESS_CONNECTIONS)
        egress_refuse(c, 503, "this computer has too many connections open");
    if (!c->ended)
        channel_listen(ch, &events, c);
}
