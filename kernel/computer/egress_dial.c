#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/computer/egress_internal.h"

/* Outlives the connection that asked, and the broker too, because a resolver always answers. */
struct egress_lookup {
    struct list link;
    struct egress *egress;    /* NULL once the broker is gone */
    struct egress_conn *conn; /* NULL once nobody waits any more */
    uv_getaddrinfo_t req;
    bool uses_req;
};

/* ---- names ---- */

static void start_lookup(struct egress_conn *c);

static void start_waiting(struct egress *e)
{
    while (e->lookup_count < EGRESS_LOOKUPS && !list_empty(&e->lookup_queue)) {
        struct egress_conn *c = LIST_ENTRY(e->lookup_queue.next, struct egress_conn, wait_link);

        list_remove(&c->wait_link);
        start_lookup(c);
    }
}

static void on_resolved(void *arg, const struct sockaddr_storage *addresses, size_t count)
{
    struct egress_lookup *lookup = arg;
    struct egress_conn *c = lookup->conn;
    struct egress *e = lookup->egress;

    list_remove(&lookup->link);
    free(lookup);
    if (!e)
        return;
    e->lookup_count--;
    if (c) {
        c->lookup = NULL;
        egress_resolved(c, addresses, count);
    }
    start_waiting(e);
}

static void on_getaddrinfo(uv_getaddrinfo_t *req, int status, struct addrinfo *result)
{
    struct sockaddr_storage addresses[EGRESS_CANDIDATES];
    size_t count = 0;

    for (struct addrinfo *ai = status ? NULL : result; ai && count < EGRESS_CANDIDATES;
         ai = ai->ai_next) {
        if (ai->ai_addrlen > sizeof addresses[0])
            continue;
        memset(&addresses[count], 0, sizeof addresses[0]);
        memcpy(&addresses[count++], ai->ai_addr, ai->ai_addrlen);
    }
    uv_freeaddrinfo(result);
    on_resolved(CONTAINER_OF(req, struct egress_lookup, req), addresses, count);
}

static void start_lookup(struct egress_conn *c)
{
    static const struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_ADDRCONFIG,
    };
    const struct egress_config *config = &c->egress->config;
    struct egress_lookup *lookup = calloc(1, sizeof *lookup);

    if (!lookup) {
        egress_end(c, "out of memory");
        return;
    }
    lookup->egress = c->egress;
    lookup->conn = c;
    list_append(&c->egress->lookups, &lookup->link);
    c->egress->lookup_count++;
    c->lookup = lookup;
    if (config->resolve) {
        config->resolve(config->resolve_arg, c->host.name, c->port, on_resolved, lookup);
        return;
    }
    lookup->uses_req = true;
    if (uv_getaddrinfo(loop_uv(c->loop), &lookup->req, on_getaddrinfo, c->host.name, NULL,
                       &hints)) {
        c->lookup = NULL;
        c->egress->lookup_count--;
        list_remove(&lookup->link);
        free(lookup);
        egress_refuse(c, 502, "the name could not be looked up");
    }
}

void egress_lookup(struct egress_conn *c)
{
    if (c->egress->lookup_count < EGRESS_LOOKUPS)
        start_lookup(c);
    else
        list_append(&c->egress->lookup_queue, &c->wait_link);
}

static void cancel(struct egress_lookup *lookup)
{
    lookup->conn = NULL;
    if (lookup->uses_req)
        (void)uv_cancel((uv_req_t *)&lookup->req); /* one that runs already ends by itself */
}

void egress_lookup_drop(struct egress_conn *c)
{
    list_remove(&c->wait_link);
    if (c->lookup)
        cancel(STEAL(c->lookup));
}

void egress_lookups_orphan(struct egress *e)
{
    LIST_FOR_EACH_SAFE (node, &e->lookups) {
        struct egress_lookup *lookup = LIST_ENTRY(node, struct egress_lookup, link);

        list_remove(&lookup->link);
        lookup->egress = NULL;
        cancel(lookup);
    }
}

/* ---- connecting ---- */

static void on_closed(uv_handle_t *handle)
{
    struct egress_sock *sock = CONTAINER_OF(handle, struct egress_sock, tcp);
    struct egress_conn *c = sock->conn;

    free(sock);
    c->socks_open--;
    if (c->ended && !c->socks_open)
        egress_conn_free(c);
}

void egress_sock_close(struct egress_conn *c)
{
    struct egress_sock *sock = STEAL(c->sock);

    c->connected = false;
    c->reading = false;
    uv_close((uv_handle_t *)&sock->tcp, on_closed);
}

static void on_connect(uv_connect_t *req, int status)
{
    struct egress_sock *sock = CONTAINER_OF(req, struct egress_sock, connect);
    struct egress_conn *c = sock->conn;

    if (c->ended || c->sock != sock) /* given up meanwhile */
        return;
    if (status) {
        c->dial_error = status;
        egress_sock_close(c);
        egress_dial(c);
        return;
    }
    c->connected = true;
    egress_relay_begin(c);
}

/* Begin to connect to @address; false when that failed at once. */
static bool attempt(struct egress_conn *c, const struct egress_address *address)
{
    struct egress_sock *sock = calloc(1, sizeof *sock);
    struct sockaddr_storage to;

    c->dial_error = UV_ENOMEM;
    if (!sock)
        return false;
    c->dial_error = uv_tcp_init(loop_uv(c->loop), &sock->tcp);
    if (c->dial_error) {
        free(sock);
        return false;
    }
    sock->conn = c;
    c->sock = sock;
    c->socks_open++;
    (void)uv_tcp_nodelay(&sock->tcp, 1);
    egress_address_to(address, c->port, &to);
    c->dial_error =
        uv_tcp_connect(&sock->connect, &sock->tcp, (const struct sockaddr *)&to, on_connect);
    if (c->dial_error)
        egress_sock_close(c);
    return !c->dial_error;
}

void egress_dial(struct egress_conn *c)
{
    int64_t now_ns = clock_now_ns();
    char why[160];

    while (c->candidate_next < c->candidate_count) {
        const struct egress_address *address = &c->candidates[c->candidate_next];
        int64_t share = (int64_t)(c->candidate_count - c->candidate_next++);

        (void)egress_address_text(address, c->address);
        if (attempt(c, address)) {
            /* One address that swallows packets leaves time for the others. */
            (void)egress_arm(c, now_ns + (c->dial_deadline_ns - now_ns) / share);
            return;
        }
    }
    snprintf(why, sizeof why, "cannot connect to %s: %s", c->address, uv_strerror(c->dial_error));
    egress_fail(c, c->dial_error == UV_ETIMEDOUT ? 504 : 502, why);
}

void egress_dial_timeout(struct egress_conn *c)
{
    if (c->state == EGRESS_LOOKUP) {
        egress_refuse(c, 504, "the name was not resolved in time");
        return;
    }
    c->dial_error = UV_ETIMEDOUT;
    if (c->sock)
        egress_sock_close(c);
    if (clock_now_ns() >= c->dial_deadline_ns)
        c->candidate_next = c->candidate_count;
    egress_dial(c);
}
