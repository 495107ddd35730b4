/*
 * What the egress broker decides does not depend on how the stream was cut, a request that it
 * passes on says one thing only, and a host reads the same after it was written.
 *
 * The first byte picks the parser, the second how large the pieces are.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kernel/base/limits.h"
#include "kernel/computer/egress.h"
#include "kernel/computer/egress_host.h"
#include "kernel/computer/egress_http.h"
#include "kernel/computer/egress_socks.h"
#include "kernel/computer/egress_tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* A copy that ends where it says, for the sanitizer to see what is read behind. */
static uint8_t *exact(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    must(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

/* ---- HTTP requests ---- */

static unsigned count_fields(const struct buf *head, const char *name)
{
    const char *at = head->data, *end = at + head->len;
    size_t len = strlen(name);
    unsigned count = 0;

    while ((at = memmem(at, (size_t)(end - at), "\r\n", 2))) { /* an answer may contain NUL */
        at += 2;
        count += (size_t)(end - at) >= len && !strncasecmp(at, name, len);
    }
    return count;
}

static void check_forwarded(const char *head, size_t len, const struct egress_request *req)
{
    struct buf out = BUF_INIT;
    size_t pos = 0, end = 0;

    must(egress_http_forward(head, len, req, &out));
    if (out.len <= LIMIT_EGRESS_HEADER) {
        must(egress_http_scan(out.data, out.len, &pos, &end) == EGRESS_HTTP_DONE);
        must(end == out.len);
    }
    must(count_fields(&out, "Host:") == 1);
    must(count_fields(&out, "Connection:") == 1);
    must(count_fields(&out, "Proxy-") == 0);
    must(count_fields(&out, "Content-Length:") == (req->framing == EGRESS_LENGTH));
    must(count_fields(&out, "Transfer-Encoding:") == (req->framing == EGRESS_CHUNKED));
    buf_fini(&out);
}

/* False when the framing is malformed. */
static bool run_body(struct egress_http_body *body, const char *data, size_t len, size_t piece,
                     struct buf *out, size_t *ret_used)
{
    size_t at = 0;

    while (at < len && !body->done) {
        bool forward;
        size_t used;

        if (!egress_http_body_step(body, data + at, len - at < piece ? len - at : piece, &used,
                                   &forward))
            return false;
        must(used > 0 && used <= len - at);
        if (forward)
            must(buf_append(out, data + at, used));
        at += used;
    }
    *ret_used = at;
    return true;
}

static void check_body(enum egress_framing framing, uint64_t length, const char *data, size_t len,
                       size_t piece)
{
    struct egress_http_body whole, cut, again;
    struct buf whole_out = BUF_INIT, cut_out = BUF_INIT, again_out = BUF_INIT;
    size_t whole_used = 0, cut_used = 0, again_used = 0;
    bool whole_ok, cut_ok;

    egress_http_body_init(&whole, framing, length);
    egress_http_body_init(&cut, framing, length);
    whole_ok = run_body(&whole, data, len, len, &whole_out, &whole_used);
    cut_ok = run_body(&cut, data, len, piece, &cut_out, &cut_used);
    must(whole_ok == cut_ok);
    if (whole_ok) {
        must(whole.done == cut.done && whole_used == cut_used && whole_out.len == cut_out.len);
        must(!whole_out.len || !memcmp(whole_out.data, cut_out.data, whole_out.len));
        /* What was passed on is a body of its own, the same one. */
        egress_http_body_init(&again, framing, length);
        must(run_body(&again, buf_str(&whole_out), whole_out.len, piece, &again_out, &again_used));
        must(again.done == whole.done && again_out.len == whole_out.len);
    }
    buf_fini(&whole_out);
    buf_fini(&cut_out);
    buf_fini(&again_out);
}

static void check_request(const uint8_t *data, size_t size, size_t piece)
{
    char *text = (char *)exact(data, size);
    size_t whole_pos = 0, cut_pos = 0, whole_len = 0, cut_len = 0, at = 0;
    enum egress_http whole = egress_http_scan(text, size, &whole_pos, &whole_len), cut;
    struct egress_request req;

    do {
        at = size - at < piece ? size : at + piece;
        cut = egress_http_scan(text, at, &cut_pos, &cut_len);
    } while (cut == EGRESS_HTTP_MORE && at < size);
    must(whole == cut);
    if (whole == EGRESS_HTTP_DONE) {
        must(whole_len == cut_len && whole_len <= size);
        if (egress_http_parse(text, whole_len, &req)) {
            must(req.port != 0);
            if (!req.tunnel) {
                check_forwarded(text, whole_len, &req);
                check_body(req.framing, req.length, text + whole_len, size - whole_len, piece);
            }
        } else {
            must(req.status >= 400 && req.why != NULL);
        }
    }
    free(text);
}

static void check_response(const uint8_t *data, size_t size, size_t piece)
{
    enum egress_http before = EGRESS_HTTP_MORE;
    size_t before_used = 0, before_len = 0;

    for (size_t at = piece < size ? piece : size;; at = size - at < piece ? size : at + piece) {
        char *text = (char *)exact(data, at);
        struct buf out = BUF_INIT;
        enum egress_http now;
        bool final = false;
        size_t used = 0;

        now = egress_http_response(text, at, &out, &used, &final);
        must(!out.failed);
        if (before != EGRESS_HTTP_MORE)
            must(now == before && used == before_used && out.len == before_len);
        if (now == EGRESS_HTTP_DONE)
            must(used <= at && count_fields(&out, "Connection:") == (final ? 1 : 0));
        before = now;
        before_used = used;
        before_len = out.len;
        buf_fini(&out);
        free(text);
        if (at == size)
            break;
    }
}

/* ---- SOCKS and TLS ---- */

static void check_socks(const uint8_t *data, size_t size, size_t piece)
{
    struct egress_socks_request first, now;
    enum egress_socks before = EGRESS_SOCKS_MORE, verdict;
    size_t before_used = 0;

    memset(&first, 0, sizeof first);
    for (size_t at = piece < size ? piece : size;; at = size - at < piece ? size : at + piece) {
        uint8_t *copy = exact(data, at);
        size_t used = 0;

        (void)egress_socks_greeting(copy, at, &used);
        must(used <= at);
        used = 0;
        verdict = egress_socks_request(copy, at, &used, &now);
        free(copy);
        must(used <= at && (verdict == EGRESS_SOCKS_BAD) == (now.why != NULL));
        if (before != EGRESS_SOCKS_MORE) {
            must(verdict == before && used == before_used && now.port == first.port);
            must(!strcmp(now.host.name, first.host.name) && now.why == first.why);
        }
        before = verdict;
        before_used = used;
        first = now;
        if (at == size)
            break;
    }
}

static void check_tls(const uint8_t *data, size_t size, size_t piece)
{
    enum egress_tls before = EGRESS_TLS_MORE, verdict;
    struct egress_hello first, now;

    memset(&first, 0, sizeof first);
    for (size_t at = piece < size ? piece : size;; at = size - at < piece ? size : at + piece) {
        uint8_t *copy = exact(data, at);

        verdict = egress_tls_read(copy, at, &now);
        free(copy);
        must((verdict == EGRESS_TLS_BAD) == (now.why != NULL));
        if (before != EGRESS_TLS_MORE)
            must(verdict == before && now.why == first.why);
        if (verdict == EGRESS_TLS_HELLO && before == EGRESS_TLS_HELLO)
            must(!strcmp(now.name, first.name));
        before = verdict;
        first = now;
        if (at == size)
            break;
    }
}

/* ---- hosts and rules ---- */

static void check_host(const uint8_t *data, size_t size)
{
    char *text = (char *)exact(data, size);
    char authority[EGRESS_AUTHORITY_MAX];
    struct egress_host host, again;

    if (!egress_host_parse(text, size, &host)) {
        must(!egress_host_parse(host.name, strlen(host.name), &again));
        must(!strcmp(host.name, again.name) && host.is_address == again.is_address);
        (void)egress_authority(&host, 65535, authority);
        *strrchr(authority, ':') = '\0';
        must(!egress_host_parse(authority, strlen(authority), &again));
        must(!strcmp(host.name, again.name));
    }
    free(text);
}

static void check_rule(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    const char *const texts[] = { text };
    struct error err = ERROR_INIT;
    struct egress_rules *rules;
    const char *rule = NULL;

    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    rules = egress_rules_new(texts, 1, &err);
    must((rules != NULL) == (err.code == ERR_NONE));
    /* Whatever the rule, a name does not reach the metadata service without an address. */
    if (rules && strspn(text, "0123456789./:[]abcdefABCDEF-*") != strlen(text)) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xa9fea9feu) };
        struct sockaddr_storage ss;

        memset(&ss, 0, sizeof ss);
        memcpy(&ss, &in, sizeof in);
        must(!egress_rules_address(rules, "example.org", 80, &ss, &rule));
    }
    egress_rules_free(rules);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t piece;

    if (size < 2)
        return 0;
    piece = data[1] ? data[1] : 1;
    switch (data[0]) {
    case 'h':
        check_request(data + 2, size - 2, piece);
        break;
    case 'r':
        check_response(data + 2, size - 2, piece);
        break;
    case 'b':
        check_body(EGRESS_CHUNKED, 0, (const char *)data + 2, size - 2, piece);
        break;
    case 's':
        check_socks(data + 2, size - 2, piece);
        break;
    case 't':
        check_tls(data + 2, size - 2, piece);
        break;
    case 'n':
        check_host(data + 2, size - 2);
        break;
    case 'u':
        check_rule(data + 2, size - 2);
        break;
    default:
        break;
    }
    return 0;
}
