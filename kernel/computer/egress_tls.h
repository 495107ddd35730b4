/*
 * egress_tls - the server name in the first bytes of a TLS connection (RFC 8446, RFC 6066).
 *
 * What TLS servers might accept as a beginning and is not one whole, well-formed ClientHello is
 * EGRESS_TLS_BAD, so that a strange framing cannot carry a name past the check.  The name is the
 * outer one where Encrypted ClientHello is used.
 * Threads: any; no state.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EGRESS_TLS_MAX      (16u << 10) /* bytes within which the ClientHello must be complete */
#define EGRESS_TLS_NAME_MAX 255u

enum egress_tls {
    EGRESS_TLS_MORE,  /* no verdict on these bytes yet */
    EGRESS_TLS_PLAIN, /* not TLS */
    EGRESS_TLS_HELLO, /* a ClientHello: `name` holds its server name, "" without one */
    EGRESS_TLS_BAD,   /* TLS, but not an acceptable beginning: `why` */
};

struct egress_hello {
    char name[EGRESS_TLS_NAME_MAX + 1]; /* printable ASCII */
    const char *why;
};

/** Judge the first @len bytes that a client sent.  A verdict once reached does not change when
 *  more bytes are given. */
enum egress_tls egress_tls_read(const uint8_t *data, size_t len, struct egress_hello *ret);
