/* What arrives: heads line by line, and the body piece by piece. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kernel/base/clock.h"
#include "kernel/http_internal.h"

#define STATUS_LINE "HTTP/"

static void reply_reset(struct http_reply *r)
{
    struct buf body = r->body;
    bool sent = r->sent;

    *r = (struct http_reply){ .content_length = UINT64_MAX,
                              .range_total = UINT64_MAX,
                              .retry_after_ns = -1,
                              .date_wall_ns = -1,
                              .sent = sent,
                              .body = body };
}

static bool number(const char *text, uint64_t *ret)
{
    unsigned long long n = 0;
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 19)
        return false;
    for (size_t i = 0; i < digits; i++)
        n = n * 10 + (unsigned)(text[i] - '0');
    *ret = n;
    return true;
}

static int64_t wall_of(const struct http_transfer *t, const char *date)
{
    time_t when = t->curl->getdate(date, NULL);

    return when < 0 ? -1 : (int64_t)when * CLOCK_NS_PER_S;
}

static int64_t retry_after(const struct http_transfer *t, const char *text)
{
    const uint64_t most_s = 86400;
    uint64_t seconds;
    int64_t wall;

    if (number(text, &seconds))
        return (int64_t)MIN(seconds, most_s) * CLOCK_NS_PER_S;
    wall = wall_of(t, text);
    if (wall < 0)
        return -1;
    wall -= clock_wall_ns();
    return MIN(MAX(wall, 0), (int64_t)most_s * CLOCK_NS_PER_S);
}

/* Too long a value is left out rather than cut: half an ETag is another ETag. */
static void keep(char *to, size_t size, const char *text)
{
    size_t len = strlen(text);

    if (len < size)
        memcpy(to, text, len + 1);
}

static void header(struct http_transfer *t, const char *name, const char *value)
{
    struct http_reply *r = t->reply;
    const char *slash;

    if (!strcasecmp(name, "content-type")) {
        keep(r->content_type, sizeof r->content_type, value);
    } else if (!strcasecmp(name, "etag")) {
        keep(r->etag, sizeof r->etag, value);
    } else if (!strcasecmp(name, "last-modified")) {
        keep(r->last_modified, sizeof r->last_modified, value);
    } else if (!strcasecmp(name, "content-length")) {
        (void)number(value, &r->content_length);
    } else if (!strcasecmp(name, "content-range")) {
        slash = strchr(value, '/');
        if (slash)
            (void)number(slash + 1, &r->range_total);
    } else if (!strcasecmp(name, "retry-after")) {
        r->retry_after_ns = retry_after(t, value);
    } else if (!strcasecmp(name, "date")) {
        r->date_wall_ns = wall_of(t, value);
    } else if (!strcasecmp(name, "x-request-id") || !strcasecmp(name, "request-id") ||
               !strcasecmp(name, "x-amz-request-id")) {
        keep(r->request_id, sizeof r->request_id, value);
    }
}

static int status_of(const char *line)
{
    const char *space = strchr(line, ' ');

    if (!space || !isdigit((unsigned char)space[1]) || !isdigit((unsigned char)space[2]) ||
        !isdigit((unsigned char)space[3]))
        return 0;
    return (space[1] - '0') * 100 + (space[2] - '0') * 10 + (space[3] - '0');
}

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
    struct http_transfer *t = arg;
    size_t len = size * count;
    char line[1024];
    char *colon, *value;

    t->active_ns = clock_now_ns();
    t->head_bytes += len;
    if (t->head_bytes > HTTP_HEAD_BYTES) {
        t->too_long = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (len >= sizeof line)
        return len; /* none that we read is as long */
    memcpy(line, data, len);
    line[len] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    if (!strncmp(line, STATUS_LINE, strlen(STATUS_LINE))) {
        reply_reset(t->reply); /* each head starts anew: 100 Continue has one of its own */
        t->reply->status = status_of(line);
        return len;
    }
    colon = strchr(line, ':');
    if (!colon)
        return len;
    *colon = '\0';
    value = colon + 1 + strspn(colon + 1, " \t");
    for (size_t n = strlen(value); n > 0 && isspace((unsigned char)value[n - 1]); n--)
        value[n - 1] = '\0';
    header(t, line, value);
    return len;
}

static size_t keep_body(struct http_transfer *t, const char *data, size_t len)
{
    if (buf_append(&t->reply->body, data, len))
        return len;
    t->no_memory = true;
    return CURL_WRITEFUNC_ERROR;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct http_transfer *t = arg;
    struct http_reply *r = t->reply;
    size_t len = size * count;

    t->active_ns = clock_now_ns();
    t->got_bytes += len;
    if (r->status < 200 || r->status > 299) {
        size_t room = HTTP_ERROR_BODY_BYTES - r->body.len;

        if (keep_body(t, data, MIN(room, len)) == CURL_WRITEFUNC_ERROR)
            return CURL_WRITEFUNC_ERROR;
        t->cut = len > room;
        return t->cut ? CURL_WRITEFUNC_ERROR : len;
    }
    if (t->got_bytes > t->max_bytes) {
        t->too_long = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (!t->request->on_data)
        return keep_body(t, data, len);
    if (!t->request->on_data(t->request->arg, data, len)) {
        r->stopped = true;
        return CURL_WRITEFUNC_ERROR;
    }
    t->active_ns = clock_now_ns(); /* what the caller took for it is not the server's idleness */
    return len;
}

static int on_connected(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    struct http_transfer *t = arg;

    (void)ip, (void)local_ip, (void)port, (void)local_port;
    t->reply->sent = true;
    t->active_ns = clock_now_ns();
    return CURL_PREREQFUNC_OK;
}

/* A body that is still going up is no idleness. */
static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    struct http_transfer *t = arg;

    (void)down_total, (void)down, (void)up_total;
    if (up > t->sent) {
        t->sent = up;
        t->active_ns = clock_now_ns();
    }
    return 0;
}

void http_reply_attach(struct http_transfer *t, CURL *easy)
{
    const struct http_curl *curl = t->curl;

    reply_reset(t->reply);
    (void)curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl->easy_setopt(easy, CURLOPT_HEADERDATA, t);
    (void)curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl->easy_setopt(easy, CURLOPT_WRITEDATA, t);
    (void)curl->easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
    (void)curl->easy_setopt(easy, CURLOPT_PREREQDATA, t);
    (void)curl->easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    (void)curl->easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl->easy_setopt(easy, CURLOPT_XFERINFODATA, t);
}

void http_reply_fini(struct http_reply *r)
{
    buf_fini(&r->body);
}
