#include "kernel/storage_s3_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/base/id.h"
#include "kernel/base/utf8.h"
#include "kernel/storage_internal.h"
#include "kernel/storage_s3_xml.h"

#define TRIES        5
#define BACKOFF_NS   (50 * CLOCK_NS_PER_MS)
#define BACKOFF_MAX  (2 * CLOCK_NS_PER_S)
#define IDLE_NS      (30 * CLOCK_NS_PER_S)
#define ANSWER_BYTES (4u << 20) /* of an answer in XML */

static bool read_trouble(void *arg, const char *path, const char *text)
{
    struct s3_trouble *t = arg;

    if (!strcmp(path, "Code"))
        (void)snprintf(t->code, sizeof t->code, "%s", text);
    else if (!strcmp(path, "Message"))
        (void)snprintf(t->message, sizeof t->message, "%.*s",
                       (int)utf8_cut(text, strlen(text), MIN(strlen(text), S3_MESSAGE_BYTES - 1)),
                       text);
    return true;
}

struct s3_trouble s3_trouble_of(const struct buf *body)
{
    struct s3_trouble t = { .code = "" };
    char root[64];

    if (body->len == 0 || !s3_xml_read(body->data, body->len, read_trouble, &t, root, NULL) ||
        strcmp(root, "Error") != 0)
        return (struct s3_trouble){ .code = "" };
    return t;
}

static bool build_url(const struct s3_server *s, const struct s3_call *c, struct buf *path,
                      struct buf *url)
{
    size_t len = strlen(s->path);
    bool ok;

    /* The bucket itself goes without the last slash, which some servers do not sign. */
    if (!c->name && len > 1)
        len--;
    ok = buf_append(path, s->path, len);
    if (ok && c->name)
        ok = s3_encode(path, s->prefix, true) && s3_encode(path, c->name, true);
    return ok &&
           buf_printf(url, "%s%s%s%s", s->base, buf_str(path), *c->query ? "?" : "", c->query);
}

static bool build_headers(const struct s3_server *s, const struct s3_call *c, const char *path,
                          const char *hash, struct buf lines[5])
{
    const struct s3_key key = {
        .access = s->access, .secret = s->secret, .region = s->region, .service = "s3"
    };
    char date[S3_DATE_BYTES];
    const struct s3_header headers[] = { { "host", s->host },
                                         { "x-amz-content-sha256", hash },
                                         { "x-amz-date", date } };
    const struct s3_signed request = { .method = c->method,
                                       .path = path,
                                       .query = c->query,
                                       .headers = headers,
                                       .header_count = ARRAY_LEN(headers),
                                       .payload_hash = hash,
                                       .date = date };

    s3_date(time(NULL) + (time_t)atomic_load(&s->skew_s), date);
    return buf_printf(&lines[0], "Host: %s", s->host) &&
           buf_printf(&lines[1], "x-amz-content-sha256: %s", hash) &&
           buf_printf(&lines[2], "x-amz-date: %s", date) &&
           buf_append_str(&lines[3], "Authorization: ") && s3_sign(&key, &request, &lines[3]);
}

static bool send_once(struct s3_server *s, const struct s3_call *c, const char *hash,
                      const struct wait *w, struct http_reply *reply, struct error *err)
{
    struct buf path = BUF_INIT, url = BUF_INIT, lines[5];
    const char *headers[10];
    size_t n = 0;
    bool ok;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        buf_init(&lines[i], 0);
    *reply = (struct http_reply){ .retry_after_ns = -1 };
    ok = build_url(s, c, &path, &url) && build_headers(s, c, buf_str(&path), hash, lines);
    if (!ok) {
        error_set(err, ERR_NOMEM, "a request to S3");
    } else {
        struct http_request request = { .method = c->method,
                                        .url = buf_str(&url),
                                        .headers = headers,
                                        .body = c->body,
                                        .body_len = c->body_len,
                                        .ca_file = *s->ca_file ? s->ca_file : NULL,
                                        .idle_ns = IDLE_NS,
                                        .max_bytes = c->max_bytes ? c->max_bytes : ANSWER_BYTES,
                                        .on_data = c->on_data,
                                        .arg = c->arg };

        for (; n < 4; n++)
            headers[n] = buf_str(&lines[n]);
        for (size_t i = 0; i < ARRAY_LEN(c->extra) && c->extra[i]; i++)
            headers[n++] = c->extra[i];
        headers[n] = NULL;
        ok = http_send(s->http, &request, w, reply, err);
    }
    buf_fini(&path);
    buf_fini(&url);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        buf_fini(&lines[i]);
    return ok;
}

/* Waits before the next try; false when there is no time for that. */
static bool back_off(unsigned attempt, int64_t asked_ns, const struct wait *w)
{
    int64_t most = MIN(BACKOFF_NS << attempt, BACKOFF_MAX), ns;
    uint32_t random;

    id_random(&random, sizeof random);
    ns = MAX(asked_ns, most / 2 + random % (most / 2));
    return clock_add_ns(clock_now_ns(), ns) < w->deadline_ns && wait_pause(w, ns, NULL);
}

static bool status_may_pass(int status)
{
    return status == 500 || status == 502 || status == 503 || status == 504 || status == 429 ||
           status == 408;
}

bool s3_explain(const struct s3_server *s, const struct http_reply *reply,
                const struct s3_trouble *t, struct error *err)
{
    enum error_code code = ERR_IO;

    if (!strcmp(t->code, "NoSuchBucket"))
        code = ERR_INVALID;
    else if (reply->status == 404)
        code = ERR_NOT_FOUND;
    else if (reply->status == 401 || reply->status == 403)
        code = ERR_DENIED;
    else if (reply->status == 409 || reply->status == 412)
        code = ERR_EXISTS;
    else if (status_may_pass(reply->status))
        code = ERR_LOST;
    return error_set(err, code, "the S3 server %s, bucket %s, answered %d%s%s%s%s%s%s%s", s->host,
                     s->bucket, reply->status, *t->code ? " " : "", t->code,
                     *t->message ? ": " : "", t->message, *reply->request_id ? " (request " : "",
                     reply->request_id, *reply->request_id ? ")" : "");
}

/* What the server says the time is, when it refuses ours. */
static bool adjust_clock(struct s3_server *s, const struct http_reply *reply,
                         const struct s3_trouble *t)
{
    if (strcmp(t->code, "RequestTimeTooSkewed") != 0 || reply->date_wall_ns < 0)
        return false;
    atomic_store(&s->skew_s, reply->date_wall_ns / CLOCK_NS_PER_S - (int64_t)time(NULL));
    return true;
}

bool s3_call(struct s3_server *s, const struct s3_call *c, const struct wait *w,
             struct http_reply *reply, enum s3_doubt *ret_doubt, struct error *err)
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];
    bool skewed = false;

    *ret_doubt = S3_UNCHANGED;
    sha256_of(c->body_len ? c->body : "", c->body_len, digest);
    sha256_hex(digest, hex);
    for (unsigned attempt = 0;; attempt++) {
        struct error fault = ERROR_INIT;
        bool again;

        if (c->restart)
            c->restart(c->arg);
        if (send_once(s, c, hex, w, reply, &fault)) {
            struct s3_trouble t;

            if (reply->status >= 200 && reply->status <= 299)
                return true;
            t = s3_trouble_of(&reply->body);
            if (adjust_clock(s, reply, &t) && !skewed) {
                skewed = true;
                http_reply_fini(reply);
                continue;
            }
            again = status_may_pass(reply->status) || !strcmp(t.code, "SlowDown") ||
                    !strcmp(t.code, "RequestTimeout");
            if (again)
                *ret_doubt = S3_UNKNOWN;
            (void)s3_explain(s, reply, &t, &fault);
        } else {
            again = fault.code == ERR_LOST || fault.code == ERR_PROTOCOL;
            if (reply->sent)
                *ret_doubt = S3_UNKNOWN;
            else if (again && attempt > 0)
                again = attempt < 2; /* nobody listens: soon enough the next call asks again */
        }
        if (!again || attempt + 1 == TRIES || !back_off(attempt, reply->retry_after_ns, w)) {
            http_reply_fini(reply);
            *reply = (struct http_reply){ .status = reply->status };
            return error_set(err, fault.code, "%s", fault.text);
        }
        http_reply_fini(reply);
    }
}

bool s3_call_plain(struct s3_server *s, const struct s3_call *c, const struct wait *w,
                   struct http_reply *reply, struct error *err)
{
    enum s3_doubt doubt;

    return s3_call(s, c, w, reply, &doubt, err);
}
