/*
 * http_place - an HTTP client and a scripted server, for the tests of http.
 *
 * What the server answers is said by the path.  Threads: the test's own.
 */
#pragma once

#include "kernel/base/clock.h"
#include "kernel/http.h"
#include "tests/support/check.h"
#include "tests/support/http_script.h"

static struct http *http;
static struct http_script *server;

static inline struct wait soon(void)
{
    return (struct wait){ .deadline_ns = clock_add_ns(clock_now_ns(), 30 * CLOCK_NS_PER_S) };
}

/* ---- the server: what it answers is said by the path ---- */

static const char *const cut[][2] = {
    { "/cut-body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this" },
    { "/cut-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel" },
    { "/cut-head", "HTTP/1.1 200 OK\r\nContent-Le" },
    { "/cut-at-once", "" },
    { "/bad-chunk",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n" },
    { "/not-http", "SSH-2.0-OpenSSH_9.2\r\n" },
    { "/no-length", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end" },
    { "/bad-length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\nConnection: close\r\n\r\nhello" },
};

static inline void huge(struct http_script_conn *c, bool body)
{
    static const char block[4096] = { [0 ... 4094] = 'x' };

    if (body && !http_script_chunked(c, 200, ""))
        return;
    if (!body && !http_script_text(c, "HTTP/1.1 200 OK\r\n"))
        return;
    for (unsigned i = 0; i < 1024; i++) {
        bool ok = body ? http_script_chunk(c, block, 4095)
                       : http_script_printf(c, "X-%u: %.1000s\r\n", i, block);

        if (!ok)
            return;
    }
    (void)(body ? http_script_chunk(c, "", 0) : http_script_text(c, "\r\n"));
}

static inline void answer(struct http_script_conn *c, const struct http_script_request *r,
                          void *arg)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(cut); i++) {
        if (strcmp(r->target, cut[i][0]) != 0)
            continue;
        (void)http_script_text(c, cut[i][1]);
        http_script_close(c);
        return;
    }
    if (!strcmp(r->target, "/echo")) {
        (void)http_script_reply(c, 200, "Content-Type: text/plain\r\n", r->body);
    } else if (!strcmp(r->target, "/headers")) {
        (void)http_script_reply(c, 200,
                                "ETag: \"abc\"\r\nLast-Modified: Sat, 21 Nov 2026 20:00:00 GMT\r\n"
                                "Content-Range: bytes 0-4/12345\r\nX-Amz-Request-Id:  r-1 \r\n"
                                "Date: Sat, 21 Nov 2026 20:00:01 GMT\r\nretry-after: 7\r\n",
                                "hello");
    } else if (!strcmp(r->target, "/busy")) {
        (void)http_script_reply(c, 429, "Retry-After: 3\r\n", "{\"error\":\"slow down\"}");
    } else if (!strcmp(r->target, "/busy-until")) {
        (void)http_script_reply(c, 503, "Retry-After: Fri, 01 Jan 2100 00:00:00 GMT\r\n", "");
    } else if (!strcmp(r->target, "/busy-past")) {
        (void)http_script_reply(c, 503, "Retry-After: Sat, 01 Jan 2000 00:00:00 GMT\r\n", "");
    } else if (!strcmp(r->target, "/busy-odd")) {
        (void)http_script_reply(c, 503, "Retry-After: soon\r\n", "");
    } else if (!strcmp(r->target, "/moved")) {
        (void)http_script_reply(c, 302, "Location: http://127.0.0.1:1/elsewhere\r\n", "");
    } else if (!strcmp(r->target, "/continue")) {
        (void)http_script_text(c, "HTTP/1.1 100 Continue\r\nETag: \"no\"\r\n\r\n");
        (void)http_script_reply(c, 201, "", "made");
    } else if (!strcmp(r->target, "/huge")) {
        huge(c, true);
    } else if (!strcmp(r->target, "/huge-head")) {
        huge(c, false);
    } else if (!strcmp(r->target, "/huge-error")) {
        if (http_script_text(c, "HTTP/1.1 500 No\r\nConnection: close\r\n\r\n"))
            huge(c, true);
        http_script_close(c);
    } else if (!strcmp(r->target, "/drip")) {
        bool ok = http_script_chunked(c, 200, "");

        for (int i = 0; ok && i < 10; i++)
            ok = http_script_pause(c, 30) && http_script_chunk(c, "drip", 4);
        (void)(ok && http_script_chunk(c, "", 0));
    } else if (!strcmp(r->target, "/stall")) {
        (void)http_script_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst");
        http_script_hold(c);
    } else if (!strcmp(r->target, "/silent")) {
        http_script_hold(c);
    } else if (!strcmp(r->target, "/reset")) {
        http_script_reset(c);
    } else {
        (void)http_script_reply(c, 404, "", "nothing here");
    }
}

static inline int set_up(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    http = http_new(&err);
    server = http_script_start(answer, NULL);
    return http && server ? 0 : -1;
}

static inline int tear_down(void **state)
{
    (void)state;
    http_free(http);
    http_script_stop(server);
    clock_real();
    return 0;
}

static inline bool get(const char *path, struct http_reply *reply, struct error *err)
{
    const struct http_request request = { .method = "GET", .url = http_script_url(server, path) };
    struct wait w = soon();

    return http_send(http, &request, &w, reply, err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
