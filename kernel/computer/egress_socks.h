/*
 * egress_socks - what a SOCKS5 client says before its bytes begin (RFC 1928).
 *
 * Only "no authentication" and CONNECT are spoken.  The caller has seen the first byte be 5.
 * Threads: any; no state.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernel/computer/egress_host.h"

#define EGRESS_SOCKS_VERSION     5
#define EGRESS_SOCKS_REPLY_BYTES 10u

enum egress_socks {
    EGRESS_SOCKS_MORE,
    EGRESS_SOCKS_DONE,
    EGRESS_SOCKS_BAD, /* cannot be served */
};

/** The code in a reply. */
enum egress_socks_code {
    EGRESS_SOCKS_OK = 0,
    EGRESS_SOCKS_FAILURE = 1,
    EGRESS_SOCKS_NOT_ALLOWED = 2,
    EGRESS_SOCKS_NETWORK = 3,
    EGRESS_SOCKS_HOST = 4,
    EGRESS_SOCKS_REFUSED = 5,
    EGRESS_SOCKS_EXPIRED = 6,
    EGRESS_SOCKS_COMMAND = 7,
    EGRESS_SOCKS_ADDRESS = 8,
};

struct egress_socks_request {
    struct egress_host host;
    uint16_t port;
    char shown[EGRESS_HOST_MAX + 1]; /* the host as it came, clean; "" when it never came */
    enum egress_socks_code code;     /* of the reply, when it is bad */
    const char *why;
};

/** DONE: *@ret_used bytes were the greeting, and it offers no authentication.  BAD: it does not,
 *  or it is malformed. */
enum egress_socks egress_socks_greeting(const uint8_t *data, size_t len, size_t *ret_used);

enum egress_socks egress_socks_request(const uint8_t *data, size_t len, size_t *ret_used,
                                       struct egress_socks_request *ret);

void egress_socks_reply(enum egress_socks_code code, uint8_t ret[EGRESS_SOCKS_REPLY_BYTES]);
