#include "tests/support/check.h"

#include "kernel/base/limits.h"
#include "kernel/computer/egress_http.h"
#include "kernel/computer/egress_socks.h"

static bool parse(const char *head, struct egress_request *req)
{
    size_t pos = 0, len = 0;

    if (egress_http_scan(head, strlen(head), &pos, &len) != EGRESS_HTTP_DONE || len != strlen(head))
        fail_msg("not one head: %s", head);
    return egress_http_parse(head, len, req);
}

static void reads_the_target(void **state)
{
    static const struct {
        const char *head;
        const char *authority;
        bool tunnel;
        const char *path;
    } rows[] = {
        { "CONNECT pypi.org:443 HTTP/1.1\r\nHost: pypi.org:443\r\n\r\n", "pypi.org:443", true, "" },
        { "CONNECT PyPI.org.:443 HTTP/1.0\r\n\r\n", "pypi.org:443", true, "" },
        { "CONNECT [::1]:8443 HTTP/1.1\r\nHost: x\r\n\r\n", "[::1]:8443", true, "" },
        { "CONNECT 10.0.0.7:1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "10.0.0.7:1", true, "" },
        { "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example:80", false,
          "/x?y" },
        { "GET HTTP://A.example:8080 HTTP/1.1\r\nHost: a.EXAMPLE.:8080\r\n\r\n", "a.example:8080",
          false, "" },
        { "GET http://a.example?q HTTP/1.1\r\nHost: a.example:80\r\n\r\n", "a.example:80", false,
          "?q" },
        { "GET http://[::1]:80/ HTTP/1.1\r\nhost:[::1]\r\n\r\n", "[::1]:80", false, "/" },
        { "POST http://a.example/@:x HTTP/1.0\r\n\r\n", "a.example:80", false, "/@:x" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char authority[EGRESS_AUTHORITY_MAX];
        struct egress_request req;

        if (!parse(rows[i].head, &req))
            fail_msg("%s: %s", rows[i].head, req.why);
        assert_string_equal(egress_authority(&req.host, req.port, authority), rows[i].authority);
        assert_int_equal(req.tunnel, rows[i].tunnel);
        assert_int_equal(req.path.len, strlen(rows[i].path));
        assert_memory_equal(req.path.at, rows[i].path, req.path.len);
    }
}

static void refuses_what_could_be_read_in_two_ways(void **state)
{
#define HEAD "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\n"
    static const struct {
        const char *head;
        int status;
        const char *part;
    } rows[] = {
        { "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "egress proxy" },
        { "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "egress proxy" },
        { "GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "CONNECT" },
        { "GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "egress proxy" },
        { "GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n", 400, "Host" },
        { "GET http://a.example/ HTTP/1.1\r\nHost: a.example:81\r\n\r\n", 400, "Host" },
        { "GET http://a.example/ HTTP/1.1\r\nHost: \r\n\r\n", 400, "Host" },
        { "GET http://a.example/ HTTP/1.1\r\nHost: a.example, b\r\n\r\n", 400, "Host" },
        { "GET http://a.example/ HTTP/1.1\r\n\r\n", 400, "no Host" },
        { "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", 400,
          "several" },
        { "GET http://u:p@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "user" },
        { "CONNECT u@a.example:443 HTTP/1.1\r\n\r\n", 400, "user" },
        { "CONNECT a.example HTTP/1.1\r\n\r\n", 400, "host:port" },
        { "CONNECT a.example: HTTP/1.1\r\n\r\n", 400, "port" },
        { "CONNECT a.example:0 HTTP/1.1\r\n\r\n", 400, "port" },
        { "CONNECT a.example:65536 HTTP/1.1\r\n\r\n", 400, "port" },
        { "CONNECT a.example:44 3 HTTP/1.1\r\n\r\n", 400, "spoken" },
        { "CONNECT ::1:443 HTTP/1.1\r\n\r\n", 400, "port" },
        { "CONNECT 127.1:443 HTTP/1.1\r\n\r\n", 403, "four decimal" },
        { "CONNECT 2130706433:443 HTTP/1.1\r\n\r\n", 403, "four decimal" },
        { "CONNECT ex%61mple.org:443 HTTP/1.1\r\n\r\n", 403, "letters" },
        { "CONNECT [fe80::1%25lo]:443 HTTP/1.1\r\n\r\n", 403, "zone" },
        { "CONNECT b\xc3\xbc.de:443 HTTP/1.1\r\n\r\n", 400, "encoded" },
        { "CONNECT a.example:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 400, "no body" },
        { "CONNECT a.example:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "no body" },
        { "GET http://a.example\\@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "user" },
        { "GET http://a.example\\b/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 403, "letters" },
        { "GET http://a.example/#x HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "fragment" },
        { "GET http:///x HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "empty" },
        { "GET http://a.example/ HTTP/2.0\r\nHost: a.example\r\n\r\n", 505, "HTTP/1" },
        { "GET http://a.example/ HTTP/1.2\r\nHost: a.example\r\n\r\n", 505, "HTTP/1" },
        { "GET http://a.example/\r\nHost: a.example\r\n\r\n", 400, "request line" },
        { "GET  http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "request line" },
        { "GET http://a.example/ HTTP/1.1 \r\nHost: a.example\r\n\r\n", 505, "spoken" },
        { "G(T http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "request line" },
        { "\r\n\r\n", 400, "request line" },
        { HEAD "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "both" },
        { HEAD "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400, "repeated" },
        { HEAD "Content-Length: 1, 1\r\n\r\n", 400, "malformed" },
        { HEAD "Content-Length: +1\r\n\r\n", 400, "malformed" },
        { HEAD "Content-Length: 0x1\r\n\r\n", 400, "malformed" },
        { HEAD "Content-Length:\r\n\r\n", 400, "malformed" },
        { HEAD "Content-Length: 99999999999999999999\r\n\r\n", 400, "malformed" },
        { HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n", 400, "chunked" },
        { HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "chunked" },
        { HEAD "Transfer-Encoding: \vchunked\r\n\r\n", 0, "" },
        { HEAD "Transfer-Encoding : chunked\r\n\r\n", 400, "malformed" },
        { HEAD " folded: x\r\n\r\n", 400, "malformed" },
        { HEAD "X: y\r\n folded\r\n\r\n", 400, "malformed" },
        { HEAD "NoColon\r\n\r\n", 400, "malformed" },
        { HEAD ": empty\r\n\r\n", 400, "malformed" },
        { HEAD "Connection: close, Content-Length\r\n\r\n", 400, "must stay" },
        { HEAD "Connection: host\r\n\r\n", 400, "must stay" },
        { "GET http://a.example/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "chunked" },
    };
#undef HEAD
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct egress_request req;
        size_t pos = 0, len;

        if (!rows[i].status) { /* a control character is not even a head */
            assert_int_equal(egress_http_scan(rows[i].head, strlen(rows[i].head), &pos, &len),
                             EGRESS_HTTP_BAD);
            continue;
        }
        if (parse(rows[i].head, &req))
            fail_msg("accepted: %s", rows[i].head);
        if (req.status != rows[i].status || !strstr(req.why, rows[i].part))
            fail_msg("%s: %d %s", rows[i].head, req.status, req.why);
    }
}

static void a_head_ends_at_its_empty_line_and_has_only_whole_line_ends(void **state)
{
    static const struct {
        const char *text;
        enum egress_http want;
    } rows[] = {
        { "", EGRESS_HTTP_MORE },
        { "GET / HTTP/1.1\r\n\r", EGRESS_HTTP_MORE },
        { "GET / HTTP/1.1\r\n\r\nrest \x01", EGRESS_HTTP_DONE },
        { "GET / HTTP/1.1\n\n", EGRESS_HTTP_BAD },
        { "GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n", EGRESS_HTTP_BAD },
        { "GET / HTTP/1.1\r\nA: b\n\r\n", EGRESS_HTTP_BAD },
        { "GET / HTTP/1.1\r\r\n", EGRESS_HTTP_BAD },
        { "\x16\x03\x01", EGRESS_HTTP_BAD },
        { "GET \x7f", EGRESS_HTTP_BAD },
        { "\n", EGRESS_HTTP_BAD },
    };
    static const char end[4] = { '\r', '\n', '\r', '\n' };
    static char large[LIMIT_EGRESS_HEADER + 10];
    size_t pos = 0, len = 0;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        pos = 0;
        if (egress_http_scan(rows[i].text, strlen(rows[i].text), &pos, &len) != rows[i].want)
            fail_msg("%s", rows[i].text);
    }
    pos = 0;
    assert_int_equal(egress_http_scan("a\0b", 3, &pos, &len), EGRESS_HTTP_BAD);

    memset(large, 'x', sizeof large);
    pos = 0;
    assert_int_equal(egress_http_scan(large, LIMIT_EGRESS_HEADER - 1, &pos, &len),
                     EGRESS_HTTP_MORE);
    assert_int_equal(egress_http_scan(large, LIMIT_EGRESS_HEADER, &pos, &len), EGRESS_HTTP_LARGE);
    memcpy(large + LIMIT_EGRESS_HEADER - 3, end, sizeof end); /* ends one byte too late */
    pos = 0;
    assert_int_equal(egress_http_scan(large, sizeof large, &pos, &len), EGRESS_HTTP_LARGE);
    memcpy(large + LIMIT_EGRESS_HEADER - 4, end, sizeof end);
    pos = 0;
    assert_int_equal(egress_http_scan(large, sizeof large, &pos, &len), EGRESS_HTTP_DONE);
    assert_int_equal(len, LIMIT_EGRESS_HEADER);
}

static void too_many_fields_are_refused(void **state)
{
    CLEANUP(buf_fini) struct buf head = BUF_INIT;
    struct egress_request req;
    (void)state;

    buf_append_str(&head, "GET http://a/ HTTP/1.1\r\nHost: a\r\n");
    for (size_t i = 0; i < 300; i++)
        buf_append_str(&head, "a: b\r\n");
    buf_append_str(&head, "\r\n");
    assert_false(parse(head.data, &req));
    assert_int_equal(req.status, 431);
}

static void forwards_in_origin_form_without_hop_by_hop_fields(void **state)
{
    static const struct {
        const char *head;
        const char *want;
    } rows[] = {
        { "GET http://A.example:80/x?y HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n"
          "Proxy-Connection: keep-alive\r\nProxy-Authorization: secret\r\nTE: trailers\r\n"
          "Connection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nx-hop: 1\r\nUpgrade: websocket\r\n"
          "Trailer: X\r\nX-Stay:  a b \r\n\r\n",
          "GET /x?y HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nX-Stay: a b\r\n"
          "Via: 1.1 aios\r\nConnection: close\r\n\r\n" },
        { "POST http://a.example:81?q HTTP/1.0\r\nContent-Length: 3\r\n\r\n",
          "POST /?q HTTP/1.0\r\nHost: a.example:81\r\nContent-Length: 3\r\nVia: 1.0 aios\r\n"
          "Connection: close\r\n\r\n" },
        { "OPTIONS http://[::1] HTTP/1.1\r\nHost: [::1]\r\n\r\n",
          "OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nVia: 1.1 aios\r\nConnection: close\r\n\r\n" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct egress_request req;

        assert_true(parse(rows[i].head, &req));
        assert_true(egress_http_forward(rows[i].head, strlen(rows[i].head), &req, &out));
        assert_string_equal(buf_str(&out), rows[i].want);
    }
}

/* Feeds @text in pieces of @piece; what is forwarded goes to @out.  The bytes used, or -1. */
static long feed(struct egress_http_body *body, const char *text, size_t piece, struct buf *out)
{
    size_t len = strlen(text), at = 0;

    while (at < len && !body->done) {
        bool forward;
        size_t used;

        if (!egress_http_body_step(body, text + at, MIN(piece, len - at), &used, &forward))
            return -1;
        assert_true(used > 0);
        if (forward)
            buf_append(out, text + at, used);
        at += used;
    }
    return (long)at;
}

static void a_chunked_body_ends_where_it_ends(void **state)
{
    static const struct {
        const char *text;
        const char *want; /* NULL: malformed */
        bool done;
    } rows[] = {
        { "5\r\nhello\r\n0\r\n\r\nGET", "5\r\nhello\r\n0\r\n\r\n", true },
        { "5;a=\"b c\"\r\nhello\r\n0;x\r\n\r\nGET", "5\r\nhello\r\n0\r\n\r\n", true },
        { "A\r\n0123456789\r\n00\r\nT: x\r\nU: y\r\n\r\nz", "A\r\n0123456789\r\n00\r\n\r\n", true },
        { "5\r\nhel", "5\r\nhel", false },
        { "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\n", false },
        { "5\r\nhelloX", NULL, false },
        { "5\nhello", NULL, false },
        { "\r\n", NULL, false },
        { "x\r\n", NULL, false },
        { "-5\r\n", NULL, false },
        { "0x5\r\n", NULL, false },
        { " 5\r\n", NULL, false },
        { "5 \r\n", NULL, false },
        { "5;a\nb\r\n", NULL, false },
        { "5;a\rb\r\n", NULL, false },
        { "5\r\nhello\n", NULL, false },
        { "0\r\nT: x\n\r\n", NULL, false },
        { "0\r\n\rX", NULL, false },
        { "1000000000000000\r\n", NULL, false },
        { "0\r\n\x01\r\n", NULL, false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t piece = 1; piece < 40; piece++) {
            CLEANUP(buf_fini) struct buf out = BUF_INIT;
            struct egress_http_body body;
            long used;

            egress_http_body_init(&body, EGRESS_CHUNKED, 0);
            used = feed(&body, rows[i].text, piece, &out);
            if ((used < 0) != !rows[i].want || (rows[i].want && body.done != rows[i].done))
                fail_msg("%s in pieces of %zu: %ld", rows[i].text, piece, used);
            if (rows[i].want)
                assert_string_equal(buf_str(&out), rows[i].want);
        }
    }
}

static void a_body_by_length_ends_at_its_length(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct egress_http_body body;
    (void)state;

    egress_http_body_init(&body, EGRESS_LENGTH, 5);
    assert_int_equal(feed(&body, "hello and more", 3, &out), 5);
    assert_true(body.done);
    assert_string_equal(out.data, "hello");
    egress_http_body_init(&body, EGRESS_LENGTH, 0);
    assert_true(body.done);
    egress_http_body_init(&body, EGRESS_NO_BODY, 0);
    assert_true(body.done);
}

static void chunk_overhead_is_bounded(void **state)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct egress_http_body body;
    (void)state;

    buf_append_str(&text, "1;");
    for (size_t i = 0; i < 300; i++)
        buf_append_char(&text, 'x');
    egress_http_body_init(&body, EGRESS_CHUNKED, 0);
    assert_int_equal(feed(&body, text.data, 7, &out), -1);
    buf_clear(&text);
    buf_append_str(&text, "0\r\n");
    for (size_t i = 0; i < 9000; i++)
        buf_append_str(&text, "a: b\r\n");
    egress_http_body_init(&body, EGRESS_CHUNKED, 0);
    assert_int_equal(feed(&body, text.data, 100, &out), -1);
}

static void an_answer_is_made_to_close_the_connection(void **state)
{
    static const struct {
        const char *text;
        enum egress_http want;
        bool final;
        const char *out;
    } rows[] = {
        { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, x\r\nX: 1\r\n"
          "Keep-Alive: 5\r\n\r\nhi",
          EGRESS_HTTP_DONE, true,
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n" },
        { "HTTP/1.1 100 Continue\r\n\r\n", EGRESS_HTTP_DONE, false,
          "HTTP/1.1 100 Continue\r\n\r\n" },
        { "HTTP/1.0 404\nA: b\n c\n\n", EGRESS_HTTP_DONE, true,
          "HTTP/1.0 404\r\nA: b c\r\nConnection: close\r\n\r\n" },
        { "HTTP/1.1 200 OK\r\nConnection: x\r\n y\r\nB: c\r\n\r\n", EGRESS_HTTP_DONE, true,
          "HTTP/1.1 200 OK\r\nB: c\r\nConnection: close\r\n\r\n" },
        { "HT", EGRESS_HTTP_MORE, false, "" },
        { "HTTP/1.1 200 OK\r\nA: b\r\n", EGRESS_HTTP_MORE, false, "" },
        { "SSH-2.0", EGRESS_HTTP_BAD, false, "" },
        { "HTTP/2 200 OK\r\n\r\n", EGRESS_HTTP_BAD, false, "" },
        { "HTTP/1.1 101 Switching\r\n\r\n", EGRESS_HTTP_BAD, false, "" },
        { "HTTP/1.1 999\r\n\r\n", EGRESS_HTTP_BAD, false, "" },
        { "HTTP/1.1\r\n\r\n", EGRESS_HTTP_BAD, false, "" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        bool final = false;
        size_t used = 0;

        if (egress_http_response(rows[i].text, strlen(rows[i].text), &out, &used, &final) !=
                rows[i].want ||
            final != rows[i].final || strcmp(buf_str(&out), rows[i].out) != 0)
            fail_msg("%s: %s", rows[i].text, buf_str(&out));
    }
}

static void reads_socks_requests(void **state)
{
    static const struct {
        const char *label;
        const char *bytes;
        size_t len;
        enum egress_socks want;
        int code;
        const char *authority;
    } rows[] = {
        { "name", "\5\1\0\3\x07pi.ORG.\x01\xbb", 14, EGRESS_SOCKS_DONE, 0, "pi.org:443" },
        { "IPv4", "\5\1\0\1\x0a\0\0\7\0\x50", 10, EGRESS_SOCKS_DONE, 0, "10.0.0.7:80" },
        { "IPv6", "\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\x50", 22, EGRESS_SOCKS_DONE, 0,
          "[::1]:80" },
        { "an address as a name",
          "\5\1\0\3\x08"
          "10.0.0.7\0\x50",
          15, EGRESS_SOCKS_DONE, 0, "10.0.0.7:80" },
        { "bind", "\5\2", 2, EGRESS_SOCKS_BAD, EGRESS_SOCKS_COMMAND, NULL },
        { "reserved", "\5\1\1", 3, EGRESS_SOCKS_BAD, EGRESS_SOCKS_FAILURE, NULL },
        { "type", "\5\1\0\2", 4, EGRESS_SOCKS_BAD, EGRESS_SOCKS_ADDRESS, NULL },
        { "version", "\4", 1, EGRESS_SOCKS_BAD, EGRESS_SOCKS_FAILURE, NULL },
        { "empty name", "\5\1\0\3\0\0\x50", 7, EGRESS_SOCKS_BAD, EGRESS_SOCKS_NOT_ALLOWED, NULL },
        { "NUL in a name", "\5\1\0\3\3a\0b\0\x50", 10, EGRESS_SOCKS_BAD, EGRESS_SOCKS_NOT_ALLOWED,
          NULL },
        { "short address",
          "\5\1\0\3\5"
          "127.1\0\x50",
          12, EGRESS_SOCKS_BAD, EGRESS_SOCKS_NOT_ALLOWED, NULL },
        { "port 0", "\5\1\0\1\x0a\0\0\7\0\0", 10, EGRESS_SOCKS_BAD, EGRESS_SOCKS_NOT_ALLOWED,
          NULL },
    };
    size_t used = 0;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const uint8_t *bytes = (const uint8_t *)rows[i].bytes;
        char authority[EGRESS_AUTHORITY_MAX];
        struct egress_socks_request req;

        for (size_t len = 0; len < rows[i].len; len++) {
            enum egress_socks got = egress_socks_request(bytes, len, &used, &req);

            if (got != EGRESS_SOCKS_MORE)
                fail_msg("%s: a verdict after %zu bytes", rows[i].label, len);
        }
        if (egress_socks_request(bytes, rows[i].len, &used, &req) != rows[i].want ||
            (int)req.code != rows[i].code)
            fail_msg("%s: code %d", rows[i].label, (int)req.code);
        if (!rows[i].authority)
            continue;
        assert_int_equal(used, rows[i].len);
        assert_string_equal(egress_authority(&req.host, req.port, authority), rows[i].authority);
    }
    assert_int_equal(egress_socks_greeting((const uint8_t *)"\5\2\1\0x", 5, &used),
                     EGRESS_SOCKS_DONE);
    assert_int_equal(used, 4);
    assert_int_equal(egress_socks_greeting((const uint8_t *)"\5\2\1", 3, &used), EGRESS_SOCKS_MORE);
    assert_int_equal(egress_socks_greeting((const uint8_t *)"\5\1\2", 3, &used), EGRESS_SOCKS_BAD);
    assert_int_equal(egress_socks_greeting((const uint8_t *)"\5\0", 2, &used), EGRESS_SOCKS_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_target),
        cmocka_unit_test(refuses_what_could_be_read_in_two_ways),
        cmocka_unit_test(a_head_ends_at_its_empty_line_and_has_only_whole_line_ends),
        cmocka_unit_test(too_many_fields_are_refused),
        cmocka_unit_test(forwards_in_origin_form_without_hop_by_hop_fields),
        cmocka_unit_test(a_chunked_body_ends_where_it_ends),
        cmocka_unit_test(a_body_by_length_ends_at_its_length),
        cmocka_unit_test(chunk_overhead_is_bounded),
        cmocka_unit_test(an_answer_is_made_to_close_the_connection),
        cmocka_unit_test(reads_socks_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
