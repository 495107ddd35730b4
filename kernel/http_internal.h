/*
 * http_internal - what the files of the HTTP client share: a kept session, and a reply in the
 * making.
 *
 * Threads: a session belongs to the request that took it; the pool in between is guarded by
 *   struct http's lock.
 */
#pragma once

#include "kernel/http.h"
#include "kernel/http_curl.h"

#define HTTP_ORIGIN_BYTES     280u        /* "host:port" */
#define HTTP_HEAD_BYTES       (64u << 10) /* most of the heads of one answer */
#define HTTP_ERROR_BODY_BYTES (64u << 10) /* most that is kept of the body of an error */
#define HTTP_BODY_BYTES       (64ull << 20)
#define HTTP_CONNECT_NS       (10 * CLOCK_NS_PER_S)
#define HTTP_IDLE_SESSIONS    16u /* kept for later requests */
#define HTTP_SESSION_CONNS    2   /* connections that each keeps */

/** A multi handle with its connections, and the one easy handle that is used in it.  libcurl's
 *  connection caches cannot be shared by threads, so a whole session goes from one to the other. */
struct http_session {
    struct http_session *next;
    CURLM *multi;
    CURL *easy;
    char origin[HTTP_ORIGIN_BYTES]; /* of its last request */
};

/** The table of libcurl, opened at the first call. */
NODISCARD const struct http_curl *http_pool_curl(struct http *h, struct error *err);

/** One that was last used with @origin if there is one, else a new one. */
NODISCARD struct http_session *http_pool_take(struct http *h, const char *origin,
                                              struct error *err);
void http_pool_give(struct http *h, struct http_session *session);
void http_session_free(const struct http_curl *curl, struct http_session *session);

/** An answer as it arrives; its address is the argument of curl's callbacks. */
struct http_transfer {
    const struct http_curl *curl;
    const struct http_request *request;
    struct http_reply *reply;
    const struct wait *wait;
    int64_t active_ns; /* of the last sign of life; 0 before the connection stands */
    uint64_t max_bytes, got_bytes;
    size_t head_bytes;
    curl_off_t sent; /* of the body, as far as curl tells */
    bool cut;        /* enough of an error's body */
    bool too_long, no_memory;
};

/** Sets the callbacks of @easy that fill t->reply. */
void http_reply_attach(struct http_transfer *t, CURL *easy);
