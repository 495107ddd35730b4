/*
 * egress_http - the parts of HTTP/1.x that a proxy reads and writes (RFC 9110, RFC 9112).
 *
 * Requests are read strictly: what two parsers could understand differently is refused.  Answers
 * of servers are read leniently, since nothing follows them on a connection.
 * Threads: any; no state but what the caller holds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/computer/egress_host.h"

enum egress_http {
    EGRESS_HTTP_MORE,
    EGRESS_HTTP_DONE,
    EGRESS_HTTP_BAD,
    EGRESS_HTTP_LARGE, /* no end within the limit */
};

/** Find the end of a request's head (at most LIMIT_EGRESS_HEADER).  *@pos is where to go on, 0 at
 *  first.  DONE: *@ret_len bytes are the head, its empty line included.  BAD: a control character
 *  or a line end that is not CR LF. */
enum egress_http egress_http_scan(const char *data, size_t len, size_t *pos, size_t *ret_len);

enum egress_framing { EGRESS_NO_BODY, EGRESS_LENGTH, EGRESS_CHUNKED };

/** Spans point into the head that was parsed. */
struct egress_span {
    const char *at;
    size_t len;
};

struct egress_request {
    bool tunnel;  /* CONNECT */
    bool no_body; /* HEAD: its answer has no body */
    struct egress_span method;
    struct egress_span path; /* origin-form; may be empty, or begin with '?' */
    unsigned minor;          /* of HTTP/1.x */
    struct egress_host host;
    uint16_t port;
    char shown[EGRESS_HOST_MAX + 1]; /* the host as it came, clean; "" when it never came */
    enum egress_framing framing;
    uint64_t length;
    int status;      /* when parsing failed: 400, 403 (a host that no rule can allow), 431, 505 */
    const char *why; /* likewise */
};

/** Parse a whole head.  False: status, why. */
NODISCARD bool egress_http_parse(const char *head, size_t len, struct egress_request *ret);

/** Write the head that goes to the server: origin-form, one Host, no hop-by-hop field, and
 *  "Connection: close".  False when memory ran out. */
NODISCARD bool egress_http_forward(const char *head, size_t len, const struct egress_request *req,
                                   struct buf *out);

/** Follows a request's body, so that nothing behind its end reaches the server. */
struct egress_http_body {
    enum egress_framing framing;
    int state; /* of chunked framing */
    uint64_t left;
    unsigned digits;
    size_t overhead; /* bytes of the current size line, or of all trailers */
    bool done;
};

void egress_http_body_init(struct egress_http_body *body, enum egress_framing framing,
                           uint64_t length);

/** Judge the next bytes, at least one: how many of @len belong together, and whether they go to
 *  the server (chunk extensions and trailers do not).  False: the framing is malformed.
 *  Once `done`, what follows is not part of the request. */
NODISCARD bool egress_http_body_step(struct egress_http_body *body, const char *data, size_t len,
                                     size_t *ret_used, bool *ret_forward);

/** Read the head of a server's answer from @data.  DONE: *@ret_used bytes were it; what goes to
 *  the program is in @out, with "Connection: close" when it is the final answer (*@ret_final)
 *  rather than an interim one.  BAD: not an answer to what was asked.  MORE may also mean that
 *  memory ran out: @out->failed. */
enum egress_http egress_http_response(const char *data, size_t len, struct buf *out,
                                      size_t *ret_used, bool *ret_final);

/** Our own answer, with @why, one line, as its reason phrase and @text as its body. */
NODISCARD bool egress_http_answer(struct buf *out, int status, const char *why, const char *text,
                                  bool no_body);
