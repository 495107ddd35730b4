/*
 * egress_internal - what the files of the egress broker share: rules, the broker, one connection.
 *
 * egress.c keeps the broker and reads requests, egress_dial.c resolves and connects, egress_relay.c
 * carries bytes, egress_host.c reads names and addresses, egress_rules.c judges them.
 * Threads: the loop thread; the rule functions any.
 */
#pragma once

#include <uv.h>

#include "kernel/base/attr.h"
#include "kernel/base/buf.h"
#include "kernel/base/clock.h"
#include "kernel/base/list.h"
#include "kernel/computer/egress.h"
#include "kernel/computer/egress_host.h"
#include "kernel/computer/egress_http.h"

/* ---- rules (egress_rules.c) ---- */

bool egress_rules_match_host(const struct egress_rules *rules, const struct egress_host *host,
                             uint16_t port, const char **ret_rule);
bool egress_rules_match_address(const struct egress_rules *rules, const struct egress_host *host,
                                uint16_t port, const struct egress_address *address,
                                const char **ret_rule);

/* ---- the broker ---- */

#define EGRESS_CANDIDATES 16u         /* addresses of one name that are tried */
#define EGRESS_LOOKUPS    8u          /* of one broker at once; the rest wait their turn */
#define EGRESS_TURNED     32u         /* connections over the limit that are told so */
#define EGRESS_SCRATCH    (64u << 10) /* bytes read from a server at once */
#define EGRESS_HELD_MAX   (16u << 20) /* bytes from inside that no server has taken yet */
#define EGRESS_RESPONSE   (32u << 10) /* head of a server's answer */

struct egress {
    struct egress_config config;
    struct list conns;
    size_t count;
    struct list lookups; /* running; at most EGRESS_LOOKUPS */
    size_t lookup_count;
    struct list lookup_queue; /* connections that wait for a lookup */
    size_t held;              /* bytes received and not consumed yet, of all connections */
    char *scratch;            /* made with the first connection */
};

enum egress_state {
    EGRESS_REQUEST, /* the head, or the SOCKS greeting and request, gathers in `in` */
    EGRESS_LOOKUP,
    EGRESS_DIAL,
    EGRESS_HELLO, /* connected; the program's first bytes are held until they are judged */
    EGRESS_RELAY,
    EGRESS_ANSWER, /* our own last words go out, what still arrives is dropped */
};

struct egress_lookup;

/** One attempt to connect, and the socket once that worked.  Freed when libuv has closed it. */
struct egress_sock {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct egress_conn *conn;
};

struct egress_conn {
    struct list link;
    struct list wait_link; /* in lookup_queue */
    struct egress *egress; /* not to be touched once `ended` */
    struct loop *loop;
    struct channel *ch;
    struct loop_timer timer;
    struct loop_post release;

    enum egress_state state;
    bool socks;   /* SOCKS5; otherwise HTTP */
    bool greeted; /* SOCKS5: the method is agreed */
    bool tunnel;  /* CONNECT or SOCKS5: bytes as they are; otherwise one HTTP exchange */
    bool no_body; /* the answer to HEAD carries none */
    bool known;   /* `host` and `port` are set */
    bool allowed; /* EGRESS_ALLOWED was reported */
    bool ended;   /* only the memory is left, until libuv lets go of it */

    struct egress_host host;
    char shown[EGRESS_HOST_MAX + 1]; /* the host, clean, for events */
    uint16_t port;
    const char *rule; /* of the rules; "" before one was found */
    char address[INET6_ADDRSTRLEN];
    char reason[256];

    struct egress_lookup *lookup;
    struct egress_address candidates[EGRESS_CANDIDATES];
    size_t candidate_count, candidate_next;
    int64_t dial_deadline_ns;
    int dial_error;           /* of the last attempt, a libuv code */
    struct egress_sock *sock; /* the attempt or the connection */
    size_t socks_open;        /* handles that libuv has not closed yet */
    bool connected;

    struct buf in;     /* from inside, not judged yet */
    struct buf up;     /* to the server, waiting */
    struct buf flight; /* to the server, given to libuv */
    bool writing;
    size_t up_free; /* leading bytes of flight and up that are ours, so owe no credit */
    size_t owed;    /* bytes received from the channel and not consumed */
    bool client_eof;
    bool shut;        /* end of file was passed on to the server */
    bool up_dead;     /* the server takes no more; what comes from inside is dropped */
    bool hello_timed; /* the deadline of the ClientHello runs */
    struct egress_http_body body;

    struct buf down;     /* to the program, waiting for credit */
    struct buf response; /* head of the server's answer, gathering */
    bool response_done;  /* from here on bytes go through as they are */
    bool reading;
    bool server_eof;
    bool eof_sent;

    int64_t last_ns; /* when a byte last moved */
    uint64_t bytes_out, bytes_in;
};

/* egress.c */

/** Ends @c: closes both sides and reports; the memory follows when libuv is done with it. */
void egress_end(struct egress_conn *c, const char *reason);

/** The request cannot be served: report it as denied, tell the program in the form of its
 *  protocol, and end.  @why completes "the connection was refused: ". */
void egress_refuse(struct egress_conn *c, int status, const char *why);

/** The same for what failed after it was allowed. */
void egress_fail(struct egress_conn *c, int status, const char *why);

/** Report a refusal after bytes may have flowed: nothing but a TLS alert can be said. */
void egress_cut(struct egress_conn *c, bool tls, const char *why);

/** Let go of the server, flush what is left for the program, and end. */
void egress_finish(struct egress_conn *c);

/** (Re)arm the connection's only timer; false when the connection had to be ended. */
bool egress_arm(struct egress_conn *c, int64_t deadline_ns);

void egress_report(struct egress_conn *c, int what, const char *reason);

/** Called once when everything that libuv holds of an ended connection is closed. */
void egress_conn_free(struct egress_conn *c);

/** @c may be connected to: report, and dial. */
void egress_resolved(struct egress_conn *c, const struct sockaddr_storage *addresses, size_t count);

/* egress_dial.c */
void egress_lookup(struct egress_conn *c);
void egress_lookup_drop(struct egress_conn *c);
void egress_lookups_orphan(struct egress *e);
void egress_dial(struct egress_conn *c);
void egress_dial_timeout(struct egress_conn *c);
void egress_sock_close(struct egress_conn *c);

/* egress_relay.c */

/** Longest time for a request's head, and for a ClientHello from its first byte on. */
#define EGRESS_HEAD_NS (30 * CLOCK_NS_PER_S)

/** The server is there: answer the program and begin to carry. */
void egress_relay_begin(struct egress_conn *c);
void egress_relay_input(struct egress_conn *c, const uint8_t *data, size_t len);
void egress_relay_eof(struct egress_conn *c);
void egress_relay_timeout(struct egress_conn *c);
void egress_flush_down(struct egress_conn *c);
void egress_consume(struct egress_conn *c, size_t len);
