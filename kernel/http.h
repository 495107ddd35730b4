/*
 * http - requests to a server, streamed in both directions; libcurl behind it.
 *
 * libcurl is a module ("http", plugin.h) that is opened at the first request: a kernel that needs
 * no server does not pay for it.  Connections are kept and reused. Threads: any; each request
 * belongs to the thread that makes it. Blocking: http_send(), within the struct wait: cancelling
 * ends it within 100 ms. Secrets: headers are never logged; an error's text names the host and what
 * failed, no header.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/cancel.h"
#include "kernel/base/error.h"

struct http;

NODISCARD struct http *http_new(struct error *err); /* cheap: opens nothing */
void http_free(struct http *h);
DEFINE_CLEANUP(struct http, http_free)

struct http_request {
    const char *method;         /* "GET", "POST", … */
    const char *url;            /* http or https */
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    const void *body;
    size_t body_len;
    const char *ca_file; /* NULL: the system's */
    int64_t connect_ns;  /* most for the connection; 0: 10 s */
    int64_t idle_ns;     /* most between two pieces of the answer, its head included; 0: no bound */
    uint64_t max_bytes;  /* most of the answer's body; 0: 64 MiB */

    /** A piece of the body of a 2xx answer; false ends the request (http_send() then succeeds with
     *  ret->stopped).  NULL: it is collected in ret->body.  The body of any other status is
     *  collected there too, up to 64 KiB. */
    bool (*on_data)(void *arg, const char *data, size_t len);
    void *arg;
};

struct http_reply {
    int status;
    struct buf body;
    char content_type[128];
    char etag[160];
    char last_modified[64];
    uint64_t content_length; /* UINT64_MAX: not said */
    uint64_t range_total;    /* of Content-Range; UINT64_MAX: not said */
    int64_t retry_after_ns;  /* -1: not said; from now, a day at most */
    int64_t date_wall_ns;    /* the server's clock when it answered; -1: not said */
    char request_id[128];    /* x-request-id, request-id or x-amz-request-id */
    bool sent; /* something of the request left: without it the server has changed nothing */
    bool stopped;
};
void http_reply_fini(struct http_reply *r);

/** True: there was an answer, of whatever status; redirections are answers too and are not
 * followed. False: none, or it broke off (ret->status tells how far it came, 0: no head; the body
 * is empty): ERR_LOST (connect, TLS, cut off), ERR_PROTOCOL (what came is not HTTP), ERR_TIMEOUT
 * (of @w, idle or connect), ERR_CANCELLED, ERR_LIMIT, ERR_NOMEM, ERR_INVALID (address, method or
 * header), ERR_UNSUPPORTED (the module is missing: which package has it).  @ret is filled in any
 * case, for http_reply_fini(). */
NODISCARD bool http_send(struct http *h, const struct http_request *request, const struct wait *w,
                         struct http_reply *ret, struct error *err);
