/*
 * http_script - a small HTTP server on loopback that answers as a test tells it, faults included.
 *
 * Each connection has a thread, which reads a request whole (Content-Length bodies) and calls the
 * test's function; that one sends what it likes, whole or broken, by the functions below.  When it
 * returns, the connection waits for its next request.  Nothing here sleeps: a pause ends at once
 * when the client goes away or the server is stopped.
 * Threads: the function runs on the connection's thread, several at once; no CMocka assertions
 * there. Everything else: the test's thread.  Memory is mapped, not allocated, so that a fault of
 *   fault.h meets the code under test.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/attr.h"

#define HTTP_SCRIPT_CONNECTIONS 256u        /* of one server's life */
#define HTTP_SCRIPT_REQUESTS    4096u       /* that are remembered */
#define HTTP_SCRIPT_BYTES       (32u << 20) /* of one request */

struct http_script;
struct http_script_conn;

/** Valid until the server is stopped. */
struct http_script_request {
    unsigned connection; /* counted from 0 in the order of accepting */
    unsigned number;     /* counted from 0 over all connections */
    const char *method, *target;
    const char *head; /* from the request line to the empty line, NUL-terminated */
    const char *body; /* NUL-terminated */
    size_t body_len;
};

typedef void http_script_fn(struct http_script_conn *c, const struct http_script_request *r,
                            void *arg);

/** Listens on 127.0.0.1, on a free port.  NULL: it could not (errno). */
struct http_script *http_script_start(http_script_fn *fn, void *arg);

/** The same on the @port that an earlier server had: one that comes back. */
struct http_script *http_script_start_on(unsigned port, http_script_fn *fn, void *arg);

/** Ends all connections, waits for their threads, frees. */
void http_script_stop(struct http_script *s);

unsigned http_script_port(const struct http_script *s);

/** "http://127.0.0.1:PORT" + @path, valid until the next call on this server. */
const char *http_script_url(struct http_script *s, const char *path);

/** Requests that came whole, and the @i-th of them; NULL when there is none. */
unsigned http_script_count(struct http_script *s);
const struct http_script_request *http_script_request(struct http_script *s, unsigned i);
unsigned http_script_connections(struct http_script *s);

/** Waits up to ten seconds until @count requests have come. */
bool http_script_wait(struct http_script *s, unsigned count);

/** The value of the header @name of a request, copied into @value (cut); false: it has none. */
bool http_script_header(const struct http_script_request *r, const char *name, char *value,
                        size_t size);

/* ---- for the function: each returns false when the client is gone or the server stops ---- */

bool http_script_send(struct http_script_conn *c, const void *data, size_t len);
bool http_script_text(struct http_script_conn *c, const char *text);
bool http_script_printf(struct http_script_conn *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/** A whole answer.  @headers: "Name: value\r\n" lines or "". */
bool http_script_reply(struct http_script_conn *c, int status, const char *headers,
                       const char *body);

/** A head that announces chunks, a chunk, and (@len 0) the last one. */
bool http_script_chunked(struct http_script_conn *c, int status, const char *headers);
bool http_script_chunk(struct http_script_conn *c, const void *data, size_t len);

/** Waits @ms, less when the client goes away. */
bool http_script_pause(struct http_script_conn *c, int ms);

/** Waits until the client goes away or the server is stopped. */
void http_script_hold(struct http_script_conn *c);

/** Ends the connection in order, or with a reset that loses what is on the way. */
void http_script_close(struct http_script_conn *c);
void http_script_reset(struct http_script_conn *c);
