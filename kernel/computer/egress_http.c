#include "kernel/computer/egress_http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "kernel/base/limits.h"

#define METHOD_MAX 32u
#define FIELDS_MAX 256u /* each may be compared with each */

/* ---- characters and lines ---- */

static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct egress_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_token_char(s.at[i]))
            return false;
    }
    return s.len > 0;
}

static bool span_is(struct egress_span s, const char *text)
{
    return s.len == strlen(text) && !strncasecmp(s.at, text, s.len);
}

static bool span_begins(struct egress_span s, const char *text)
{
    return s.len >= strlen(text) && !strncasecmp(s.at, text, strlen(text));
}

static struct egress_span trim(struct egress_span s)
{
    while (s.len && (s.at[0] == ' ' || s.at[0] == '\t')) {
        s.at++;
        s.len--;
    }
    while (s.len && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* The next line without its CR LF or LF; false after the last. */
static bool next_line(struct egress_span *rest, struct egress_span *ret)
{
    const char *end = rest->len ? memchr(rest->at, '\n', rest->len) : NULL;

    if (!end)
        return false;
    *ret = (struct egress_span){ rest->at, (size_t)(end - rest->at) };
    rest->len -= ret->len + 1;
    rest->at = end + 1;
    if (ret->len && ret->at[ret->len - 1] == '\r')
        ret->len--;
    return true;
}

/* The next field, nameless where a line has no colon; false at the empty line. */
static bool next_field(struct egress_span *rest, struct egress_span *name,
                       struct egress_span *value)
{
    struct egress_span line;
    const char *colon;

    if (!next_line(rest, &line) || !line.len)
        return false;
    colon = memchr(line.at, ':', line.len);
    *name = *value = (struct egress_span){ line.at, 0 };
    if (colon) {
        name->len = (size_t)(colon - line.at);
        *value = trim((struct egress_span){ colon + 1, line.len - name->len - 1 });
    }
    return true;
}

/* The next element of a comma-separated list; false at its end. */
static bool next_element(struct egress_span *list, struct egress_span *ret)
{
    const char *comma;

    if (!list->len)
        return false;
    comma = memchr(list->at, ',', list->len);
    *ret = (struct egress_span){ list->at, comma ? (size_t)(comma - list->at) : list->len };
    list->at += ret->len + (comma ? 1 : 0);
    list->len -= ret->len + (comma ? 1 : 0);
    *ret = trim(*ret);
    return true;
}

enum egress_http egress_http_scan(const char *data, size_t len, size_t *pos, size_t *ret_len)
{
    size_t end = MIN(len, (size_t)LIMIT_EGRESS_HEADER);

    for (size_t i = *pos; i < end; i++) {
        unsigned char c = (unsigned char)data[i];
        bool after_cr = i && data[i - 1] == '\r';

        if (after_cr != (c == '\n'))
            return EGRESS_HTTP_BAD;
        if ((c < ' ' && c != '\r' && c != '\n' && c != '\t') || c == 0x7f)
            return EGRESS_HTTP_BAD;
        if (c == '\n' && i >= 3 && data[i - 2] == '\n') {
            *ret_len = i + 1;
            return EGRESS_HTTP_DONE;
        }
    }
    *pos = end;
    return len >= LIMIT_EGRESS_HEADER ? EGRESS_HTTP_LARGE : EGRESS_HTTP_MORE;
}

/* ---- the request ---- */

static bool refuse(struct egress_request *ret, int status, const char *why)
{
    ret->status = status;
    ret->why = why;
    return false;
}

/* "host", "host:port"; @port is left alone where none is given.  NULL or what is wrong. */
static const char *parse_authority(struct egress_span text, struct egress_host *host,
                                   uint16_t *port, struct egress_span *ret_host)
{
    const char *end = NULL;
    size_t len;

    if (memchr(text.at, '@', text.len))
        return "user names in a URL's host are not accepted";
    if (text.len && text.at[0] == '[') {
        end = memchr(text.at, ']', text.len);
        if (!end)
            return "that is not an IPv6 address";
        end++;
    } else {
        end = memchr(text.at, ':', text.len);
    }
    len = end ? (size_t)(end - text.at) : text.len;
    *ret_host = (struct egress_span){ text.at, len };
    if (len < text.len) {
        *port = *end == ':' ? egress_port_parse(end + 1, text.len - len - 1) : 0;
        if (!*port)
            return "the port is not a number from 1 to 65535";
    }
    return egress_host_parse(text.at, len, host);
}

static bool parse_target(struct egress_span target, struct egress_request *ret)
{
    static const char origin_form[] =
        "this is the computer's egress proxy, not a web server: send it CONNECT host:port, "
        "a request for http://host/path, or SOCKS5";
    struct egress_span authority = target, host = { target.at, 0 };
    const char *why;

    ret->path = (struct egress_span){ target.at + target.len, 0 };
    if (!ret->tunnel) {
        if (span_begins(target, "https://"))
            return refuse(ret, 400, "an https:// URL needs CONNECT host:443 and TLS inside");
        if (span_begins(target, "http://")) {
            authority.at += strlen("http://");
            authority.len -= strlen("http://");
        } else {
            return refuse(ret, 400, origin_form);
        }
        if (memchr(target.at, '#', target.len))
            return refuse(ret, 400, "the request's URL has a fragment");
        for (size_t i = 0; i < authority.len; i++) {
            if (authority.at[i] == '/' || authority.at[i] == '?') {
                ret->path = (struct egress_span){ authority.at + i, authority.len - i };
                authority.len = i;
                break;
            }
        }
        ret->port = 80;
    }
    why = parse_authority(authority, &ret->host, &ret->port, &host);
    (void)egress_clean(host.at, host.len, ret->shown, sizeof ret->shown);
    if (why)
        return refuse(ret, host.len && ret->port ? 403 : 400, why);
    if (!ret->port)
        return refuse(ret, 400, "CONNECT needs host:port");
    return true;
}

static bool parse_request_line(struct egress_span line, struct egress_request *ret)
{
    const char *first = memchr(line.at, ' ', line.len), *last;
    struct egress_span target, version;

    if (!first)
        return refuse(ret, 400, "the request line is malformed");
    ret->method = (struct egress_span){ line.at, (size_t)(first - line.at) };
    target = (struct egress_span){ first + 1, line.len - ret->method.len - 1 };
    last = memchr(target.at, ' ', target.len);
    if (!last || last == target.at || ret->method.len > METHOD_MAX || !is_token(ret->method))
        return refuse(ret, 400, "the request line is malformed");
    version = (struct egress_span){ last + 1, target.len - (size_t)(last - target.at) - 1 };
    target.len = (size_t)(last - target.at);
    for (size_t i = 0; i < target.len; i++) {
        if (target.at[i] <= ' ' || target.at[i] > '~')
            return refuse(ret, 400, "the request's target has a character that must be encoded");
    }
    if (version.len != 8 || memcmp(version.at, "HTTP/1.", 7) != 0 ||
        (version.at[7] != '0' && version.at[7] != '1')) {
        bool other = version.len > 5 && !memcmp(version.at, "HTTP/", 5);

        return refuse(ret, other ? 505 : 400, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    }
    ret->minor = (unsigned)(version.at[7] - '0');
    ret->tunnel = ret->method.len == 7 && !memcmp(ret->method.at, "CONNECT", 7);
    ret->no_body = ret->method.len == 4 && !memcmp(ret->method.at, "HEAD", 4);
    return parse_target(target, ret);
}

static bool parse_length(struct egress_span value, uint64_t *ret)
{
    if (!value.len || value.len > 18)
        return false;
    *ret = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return false;
        *ret = *ret * 10 + (uint64_t)(value.at[i] - '0');
    }
    return true;
}

static bool check_host_field(struct egress_span value, struct egress_request *ret)
{
    struct egress_host host;
    struct egress_span spelt;
    uint16_t port = 80;

    if (ret->tunnel) /* it goes nowhere, and clients differ about the port */
        return true;
    if (parse_authority(value, &host, &port, &spelt) || port != ret->port ||
        strcmp(host.name, ret->host.name) != 0)
        return refuse(ret, 400, "the Host field does not name the host of the URL");
    return true;
}

static bool check_connection(struct egress_span value, struct egress_request *ret)
{
    static const char *const needed[] = { "host", "content-length", "transfer-encoding" };
    struct egress_span option;

    while (next_element(&value, &option)) {
        for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
            if (span_is(option, needed[i]))
                return refuse(ret, 400, "the Connection field names a field that must stay");
        }
    }
    return true;
}

static bool parse_fields(struct egress_span rest, struct egress_request *ret)
{
    struct egress_span name, value;
    unsigned count = 0, hosts = 0, lengths = 0, codings = 0;

    while (next_field(&rest, &name, &value)) {
        if (++count > FIELDS_MAX)
            return refuse(ret, 431, "the request has too many header fields");
        /* Nor is a token what stands before the colon of a folded line, or with a space there. */
        if (!is_token(name))
            return refuse(ret, 400, "a header field is malformed");
        if (span_is(name, "host")) {
            if (hosts++)
                return refuse(ret, 400, "the request has several Host fields");
            if (!check_host_field(value, ret))
                return false;
        } else if (span_is(name, "content-length")) {
            if (lengths++ || !parse_length(value, &ret->length))
                return refuse(ret, 400, "the Content-Length is malformed or repeated");
            ret->framing = EGRESS_LENGTH;
        } else if (span_is(name, "transfer-encoding")) {
            if (codings++ || !span_is(value, "chunked") || !ret->minor)
                return refuse(ret, 400, "the only Transfer-Encoding served is one \"chunked\"");
        } else if (span_is(name, "connection") && !check_connection(value, ret)) {
            return false;
        }
    }
    if (lengths && codings)
        return refuse(ret, 400, "the request has both Content-Length and Transfer-Encoding");
    if (codings)
        ret->framing = EGRESS_CHUNKED;
    if (!hosts && ret->minor && !ret->tunnel)
        return refuse(ret, 400, "the request has no Host field");
    if (ret->tunnel && (codings || ret->length))
        return refuse(ret, 400, "CONNECT has no body");
    return true;
}

bool egress_http_parse(const char *head, size_t len, struct egress_request *ret)
{
    struct egress_span rest = { head, len }, line;

    *ret = (struct egress_request){ .framing = EGRESS_NO_BODY };
    if (!next_line(&rest, &line))
        return refuse(ret, 400, "the request line is malformed");
    return parse_request_line(line, ret) && parse_fields(rest, ret);
}

/* ---- what is passed on ---- */

/* Is @name named by a Connection field of the head whose fields begin at @fields? */
static bool is_named(struct egress_span fields, struct egress_span name)
{
    struct egress_span other, value, option;

    while (next_field(&fields, &other, &value)) {
        if (!span_is(other, "connection"))
            continue;
        while (next_element(&value, &option)) {
            if (option.len == name.len && !strncasecmp(option.at, name.at, name.len))
                return true;
        }
    }
    return false;
}

static bool is_hop_by_hop(struct egress_span fields, struct egress_span name)
{
    static const char *const hop[] = { "connection", "keep-alive", "te", "trailer", "upgrade" };

    for (size_t i = 0; i < ARRAY_LEN(hop); i++) {
        if (span_is(name, hop[i]))
            return true;
    }
    return span_begins(name, "proxy-") || is_named(fields, name);
}

static void put_field(struct buf *out, struct egress_span name, struct egress_span value)
{
    buf_append(out, name.at, name.len);
    buf_append(out, ": ", 2);
    buf_append(out, value.at, value.len);
    buf_append(out, "\r\n", 2);
}

bool egress_http_forward(const char *head, size_t len, const struct egress_request *req,
                         struct buf *out)
{
    struct egress_span rest = { head, len }, fields, name, value;
    char authority[EGRESS_AUTHORITY_MAX];

    (void)egress_authority(&req->host, req->port, authority);
    if (req->port == 80)
        *strrchr(authority, ':') = '\0';
    (void)next_line(&rest, &name);
    fields = rest;
    buf_append(out, req->method.at, req->method.len);
    if (!req->path.len && span_is(req->method, "OPTIONS"))
        buf_append_str(out, " *");
    else
        buf_append_str(out, req->path.len && req->path.at[0] == '/' ? " " : " /");
    buf_append(out, req->path.at, req->path.len);
    buf_printf(out, " HTTP/1.%u\r\nHost: %s\r\n", req->minor, authority);
    while (next_field(&rest, &name, &value)) {
        if (!span_is(name, "host") && !is_hop_by_hop(fields, name))
            put_field(out, name, value);
    }
    buf_printf(out, "Via: 1.%u aios\r\nConnection: close\r\n\r\n", req->minor);
    return !out->failed;
}

/* ---- the answer ---- */

static size_t find_response_end(const char *data, size_t len)
{
    struct egress_span rest = { data, len }, line;

    while (next_line(&rest, &line)) {
        if (!line.len)
            return len - rest.len;
    }
    return 0;
}

enum egress_http egress_http_response(const char *data, size_t len, struct buf *out,
                                      size_t *ret_used, bool *ret_final)
{
    static const char version[] = "HTTP/1.";
    struct egress_span rest, fields, line, name, value;
    unsigned count = 0;
    bool dropping = false;

    if (memcmp(data, version, MIN(len, strlen(version))) != 0)
        return EGRESS_HTTP_BAD;
    *ret_used = find_response_end(data, len);
    if (!*ret_used)
        return EGRESS_HTTP_MORE;
    rest = (struct egress_span){ data, *ret_used };
    if (!next_line(&rest, &line) || line.len < 12 || line.at[8] != ' ' || line.at[9] < '1' ||
        line.at[9] > '5' || !memcmp(line.at + 9, "101", 3))
        return EGRESS_HTTP_BAD;
    *ret_final = line.at[9] != '1';
    buf_append(out, line.at, line.len);
    fields = rest;
    while (next_line(&rest, &line) && line.len) {
        struct egress_span at = { line.at, (size_t)(rest.at - line.at) };

        if (++count > FIELDS_MAX)
            return EGRESS_HTTP_BAD;
        if (line.at[0] == ' ' || line.at[0] == '\t') { /* a folded line goes on with its field */
            line = trim(line);
            if (!dropping) {
                buf_append(out, " ", 1);
                buf_append(out, line.at, line.len);
            }
            continue;
        }
        if (!next_field(&at, &name, &value))
            return EGRESS_HTTP_BAD;
        dropping = is_hop_by_hop(fields, trim(name));
        if (!dropping) {
            buf_append(out, "\r\n", 2);
            buf_append(out, line.at, line.len);
        }
    }
    buf_append_str(out, *ret_final ? "\r\nConnection: close\r\n\r\n" : "\r\n\r\n");
    return out->failed ? EGRESS_HTTP_MORE : EGRESS_HTTP_DONE;
}

bool egress_http_answer(struct buf *out, int status, const char *why, const char *text,
                        bool no_body)
{
    buf_printf(out,
               "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
               "Content-Length: %zu\r\nConnection: close\r\n\r\n",
               status, why, strlen(text));
    if (!no_body)
        buf_append_str(out, text);
    return !out->failed;
}
