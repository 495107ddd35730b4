/*
 * egress - the only way out of a computer: an HTTP and SOCKS5 proxy on the host, default deny.
 *
 * Each connection that a program makes to 127.0.0.1:3128 inside arrives as a channel.  The broker
 * reads a CONNECT, an absolute-form HTTP/1.x request or a SOCKS5 greeting (RFC 9110, RFC 9112,
 * RFC 1928), resolves the name itself, checks name, port and every resolved address against the
 * rules, connects to exactly the address that was checked, and carries bytes both ways.  On port
 * 443, and wherever the first bytes are a TLS ClientHello (RFC 8446, 6066), the server name must be
 * the host that was asked for.
 *
 * Ownership: the broker owns its connections; egress_free() ends them all.
 * Threads: the loop thread, except the rule functions: any.
 * Blocking: never; names are resolved on libuv's thread pool.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/error.h"
#include "kernel/base/loop.h"
#include "kernel/computer/channel.h"

struct egress;
struct egress_rules;

/** What happened to one connection: ALLOWED or DENIED when that was decided, and ENDED once for
 *  each that was allowed (whose first bytes may still have it denied in between).  A connection
 *  that ends before it asked for anything is not reported. */
struct egress_event {
    enum { EGRESS_ALLOWED, EGRESS_DENIED, EGRESS_ENDED } what;
    const char *host; /* as asked for, cleaned for logs; borrowed */
    uint16_t port;
    const char *address; /* "" before resolution */
    const char *rule;    /* the rule that allowed it, or "" */
    const char *reason;  /* why not: "no rule allows …", "resolves to a private address", … */
    uint64_t bytes_out;  /* from the computer */
    uint64_t bytes_in;
};

typedef void egress_event_fn(void *arg, const struct egress_event *event);

/** How names become addresses; tests put their own here.  Calls @done exactly once, on the loop
 *  thread, later, with addresses (count 0: no such name). */
typedef void egress_resolved_fn(void *done_arg, const struct sockaddr_storage *addresses,
                                size_t count);
typedef void egress_resolve_fn(void *arg, const char *host, uint16_t port, egress_resolved_fn *done,
                               void *done_arg);

struct egress_config {
    struct loop *loop;
    const struct egress_rules *rules; /* borrowed, outlives the broker */
    egress_event_fn *on_event;        /* may be NULL */
    void *event_arg;
    egress_resolve_fn *resolve; /* NULL: getaddrinfo on libuv's pool */
    void *resolve_arg;
    int64_t connect_timeout_ns; /* 0: 15 s */
    int64_t idle_timeout_ns;    /* 0: 300 s without a byte */
};

/**
 * Rules, each "HOST:PORT".  HOST is an exact name ("pypi.org"), "*.example.org" (any name below
 * it, not itself), "*" (any name), an address ("10.0.0.7", "[::1]") or a network ("10.0.0.0/8").
 * PORT is a number, a range "8000-8010", or "*"; without ":PORT" it is 80 and 443.  A name rule
 * never opens a private, loopback, link-local, metadata, multicast or otherwise special address:
 * only an address or network rule that covers it does.  What is asked for by address needs such a
 * rule too.  Names are compared in lower case, without a trailing dot, in their ASCII form.
 *
 * @err  ERR_INVALID names the rule and what is wrong with it; ERR_LIMIT; ERR_NOMEM
 */
NODISCARD struct egress_rules *egress_rules_new(const char *const *rules, size_t count,
                                                struct error *err);
void egress_rules_free(struct egress_rules *rules);
DEFINE_CLEANUP(struct egress_rules, egress_rules_free)

/** True when some rule could allow @host at @port (before resolution).  *ret_rule is its text. */
bool egress_rules_host(const struct egress_rules *rules, const char *host, uint16_t port,
                       const char **ret_rule);

/** True when @address may be connected to for a connection asked for as @host. */
bool egress_rules_address(const struct egress_rules *rules, const char *host, uint16_t port,
                          const struct sockaddr_storage *address, const char **ret_rule);

NODISCARD struct egress *egress_new(const struct egress_config *config, struct error *err);
void egress_free(struct egress *egress);
DEFINE_CLEANUP(struct egress, egress_free)

/** Take a new connection from inside; the broker owns @ch from here on. */
void egress_accept(struct egress *egress, struct channel *ch);
