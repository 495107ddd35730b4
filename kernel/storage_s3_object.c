/* Objects of an S3 server: whole and in parts, ranges, lists. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/storage_s3_request.h"
#include "kernel/storage_s3_xml.h"

#define CLEANUP_NS (5 * CLOCK_NS_PER_S)
#define MAX_PARTS  10000u
#define PAGE_KEYS  1000u

/* ---- putting ---- */

static bool put_once(struct s3_server *s, const char *name, const void *data, size_t len,
                     const char *if_match, bool if_none_match, const struct wait *w,
                     enum s3_doubt *ret_doubt, struct error *err)
{
    struct s3_call c = {
        .method = "PUT", .name = name, .query = "", .body = data, .body_len = len
    };
    struct http_reply reply;
    char match[200];
    bool ok;

    if (if_none_match) {
        c.extra[0] = "If-None-Match: *";
    } else if (if_match && *if_match) {
        (void)snprintf(match, sizeof match, "If-Match: %s", if_match);
        c.extra[0] = match;
    }
    ok = s3_call(s, &c, w, &reply, ret_doubt, err);
    if (ok)
        http_reply_fini(&reply);
    return ok;
}

struct upload {
    char *id;
};

static bool read_upload_id(void *arg, const char *path, const char *text)
{
    struct upload *u = arg;

    if (!strcmp(path, "UploadId") && !u->id)
        u->id = strdup(text);
    return true;
}

/* An upload's id comes from the server and goes into a query: encoded, whatever it holds. */
static char *start_upload(struct s3_server *s, const char *name, const struct wait *w,
                          struct error *err)
{
    const struct s3_call c = { .method = "POST", .name = name, .query = "uploads=" };
    struct upload u = { .id = NULL };
    struct buf id = BUF_INIT;
    struct http_reply reply;
    char root[64], *encoded = NULL;

    if (!s3_call_plain(s, &c, w, &reply, err))
        return NULL;
    if (s3_xml_read(buf_str(&reply.body), reply.body.len, read_upload_id, &u, root, err)) {
        if (!u.id || !*u.id || strlen(u.id) > 1024)
            error_set(err, ERR_PROTOCOL, "the S3 server %s began an upload without an id", s->host);
        else if (!s3_encode(&id, u.id, false) || !(encoded = buf_take(&id, NULL)))
            error_set(err, ERR_NOMEM, "an upload to S3");
    }
    free(u.id);
    buf_fini(&id);
    http_reply_fini(&reply);
    return encoded;
}

static bool put_part(struct s3_server *s, const char *name, const char *id, unsigned number,
                     const char *data, size_t len, struct buf *list, const struct wait *w,
                     struct error *err)
{
    struct buf query = BUF_INIT;
    struct s3_call c = { .method = "PUT", .name = name, .body = data, .body_len = len };
    struct http_reply reply;
    bool ok = buf_printf(&query, "partNumber=%u&uploadId=%s", number, id);

    if (!ok)
        return error_set(err, ERR_NOMEM, "an upload to S3");
    c.query = buf_str(&query);
    ok = s3_call_plain(s, &c, w, &reply, err);
    if (ok) {
        if (!*reply.etag || strpbrk(reply.etag, "<>&"))
            ok = error_set(err, ERR_PROTOCOL, "the S3 server %s named no ETag for a part", s->host);
        else if (!buf_printf(list, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>",
                             number, reply.etag))
            ok = error_set(err, ERR_NOMEM, "an upload to S3");
        http_reply_fini(&reply);
    }
    buf_fini(&query);
    return ok;
}

static bool read_nothing(void *arg, const char *path, const char *text)
{
    (void)arg, (void)path, (void)text;
    return true;
}

/* Completion answers 200 before it is done, so that only the body tells whether it is. */
static bool finish_upload(struct s3_server *s, const char *name, const char *query,
                          const struct buf *list, const struct wait *w, enum s3_doubt *ret_doubt,
                          struct error *err)
{
    const struct s3_call c = { .method = "POST",
                               .name = name,
                               .query = query,
                               .body = list->data,
                               .body_len = list->len,
                               .extra = { "Content-Type: application/xml" } };
    struct http_reply reply;
    struct s3_trouble t;
    char root[64];
    bool ok;

    if (!s3_call(s, &c, w, &reply, ret_doubt, err))
        return false;
    ok = s3_xml_read(buf_str(&reply.body), reply.body.len, read_nothing, NULL, root, err);
    if (!ok) {
        *ret_doubt = S3_UNKNOWN;
    } else if (!strcmp(root, "Error")) {
        t = s3_trouble_of(&reply.body);
        *ret_doubt = S3_UNKNOWN;
        ok = s3_explain(s, &reply, &t, err);
    }
    http_reply_fini(&reply);
    return ok;
}

static void abort_upload(struct s3_server *s, const char *name, const char *query)
{
    const struct s3_call c = { .method = "DELETE", .name = name, .query = query };
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), CLEANUP_NS) };
    struct http_reply reply;

    /* Past the caller's time: a part that is left behind costs money until somebody finds it. */
    if (s3_call_plain(s, &c, &w, &reply, NULL))
        http_reply_fini(&reply);
}

static bool put_parts(struct s3_server *s, const char *name, const char *data, size_t len,
                      const struct wait *w, enum s3_doubt *ret_doubt, struct error *err)
{
    size_t part = MAX(s->part_bytes, (len + MAX_PARTS - 1) / MAX_PARTS);
    struct buf list = BUF_INIT, query = BUF_INIT;
    char *id = start_upload(s, name, w, err);
    bool ok;

    *ret_doubt = S3_UNCHANGED;
    if (!id)
        return false;
    ok = (buf_printf(&query, "uploadId=%s", id) &&
          buf_append_str(&list, "<CompleteMultipartUpload>")) ||
         error_set(err, ERR_NOMEM, "an upload to S3");
    for (size_t at = 0, number = 1; ok && at < len; at += part, number++)
        ok = put_part(s, name, id, (unsigned)number, data + at, MIN(part, len - at), &list, w, err);
    if (ok)
        ok = (buf_append_str(&list, "</CompleteMultipartUpload>") ||
              error_set(err, ERR_NOMEM, "an upload to S3")) &&
             finish_upload(s, name, buf_str(&query), &list, w, ret_doubt, err);
    if (!ok)
        abort_upload(s, name, buf_str(&query));
    buf_fini(&list);
    buf_fini(&query);
    free(id);
    return ok;
}

bool s3_put(struct s3_server *s, const char *name, const void *data, size_t len,
            const char *if_match, bool if_none_match, const struct wait *w,
            enum s3_doubt *ret_doubt, struct error *err)
{
    enum s3_doubt doubt = S3_UNCHANGED;
    bool ok = len > s->part_bytes
                  ? put_parts(s, name, data, len, w, &doubt, err)
                  : put_once(s, name, data, len, if_match, if_none_match, w, &doubt, err);

    if (ret_doubt)
        *ret_doubt = doubt;
    return ok;
}

struct taker {
    struct buf *out;
    size_t start, max; /* out->len before; bytes wanted */
    bool no_memory;
};

static bool take(void *arg, const char *data, size_t len)
{
    struct taker *t = arg;

    if (!buf_append(t->out, data, MIN(len, t->max - (t->out->len - t->start))))
        t->no_memory = true;
    return !t->no_memory;
}

static void cut_back(void *arg)
{
    struct taker *t = arg;

    t->out->len = t->start;
    if (t->out->data)
        t->out->data[t->start] = '\0';
}

static int64_t age(const char *last_modified, const struct http_reply *reply)
{
    struct tm tm = { .tm_year = 0 };

    if (reply->date_wall_ns < 0 || !strptime(last_modified, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        return -1;
    return reply->date_wall_ns - (int64_t)timegm(&tm) * CLOCK_NS_PER_S;
}

bool s3_get(struct s3_server *s, const char *name, uint64_t offset, size_t max, struct buf *out,
            struct s3_found *ret, const struct wait *w, struct error *err)
{
    struct taker taker = { .out = out, .start = out->len, .max = max };
    struct s3_call c = { .method = "GET",
                         .name = name,
                         .query = "",
                         .on_data = take,
                         .arg = &taker,
                         .restart = cut_back,
                         .max_bytes = max };
    struct http_reply reply;
    char range[80];
    bool ok;

    (void)snprintf(range, sizeof range, "Range: bytes=%llu-%llu", (unsigned long long)offset,
                   (unsigned long long)(offset + max - 1));
    c.extra[0] = range;
    ok = s3_call_plain(s, &c, w, &reply, err);
    if (ok && reply.status == 200 && offset > 0)
        ok = error_set(err, ERR_PROTOCOL, "the S3 server %s does not read ranges", s->host);
    if (ok && taker.no_memory)
        ok = error_set(err, ERR_NOMEM, "a value from S3");
    if (ok && ret) {
        memcpy(ret->etag, reply.etag, sizeof ret->etag);
        ret->age_ns = age(reply.last_modified, &reply);
    }
    http_reply_fini(&reply);
    if (!ok)
        cut_back(&taker);
    return ok;
}

bool s3_delete(struct s3_server *s, const char *name, const struct wait *w, struct error *err)
{
    const struct s3_call c = { .method = "DELETE", .name = name, .query = "" };
    struct error fault = ERROR_INIT;
    struct http_reply reply;

    if (s3_call_plain(s, &c, w, &reply, &fault)) {
        http_reply_fini(&reply);
        return true;
    }
    return fault.code == ERR_NOT_FOUND || error_set(err, fault.code, "%s", fault.text);
}

/* ---- lists ---- */

struct page {
    const struct s3_server *s;
    s3_list_fn *fn;
    void *arg;
    struct error *err;
    bool failed, more;
    char *next;
    char *key; /* of the entry that is being read */
    uint64_t size;
};

static bool end_of_entry(struct page *p)
{
    size_t skip = strlen(p->s->prefix);

    if (!p->key)
        return true;
    /* What does not begin with the prefix was not asked for. */
    p->failed =
        strncmp(p->key, p->s->prefix, skip) == 0 && !p->fn(p->arg, p->key + skip, p->size, p->err);
    free(p->key);
    p->key = NULL;
    return !p->failed;
}

static bool keep_text(struct page *p, char **to, const char *text)
{
    free(*to);
    *to = strdup(text);
    if (!*to)
        p->failed = !error_set(p->err, ERR_NOMEM, "a list from S3");
    return *to != NULL;
}

static bool read_page(void *arg, const char *path, const char *text)
{
    struct page *p = arg;

    if (!strcmp(path, "Contents/Key"))
        return keep_text(p, &p->key, text);
    if (!strcmp(path, "Contents/Size"))
        p->size = strtoull(text, NULL, 10);
    else if (!strcmp(path, "/") && !strcmp(text, "Contents"))
        return end_of_entry(p);
    else if (!strcmp(path, "IsTruncated"))
        p->more = !strcmp(text, "true");
    else if (!strcmp(path, "NextContinuationToken"))
        return keep_text(p, &p->next, text);
    return true;
}

static bool list_query(const struct s3_server *s, const char *prefix, const char *start_after,
                       const char *token, struct buf *q)
{
    bool ok = true;

    buf_clear(q);
    if (token) /* sorted, as the signature wants it */
        ok = buf_append_str(q, "continuation-token=") && s3_encode(q, token, false) &&
             buf_append_char(q, '&');
    ok = ok && buf_printf(q, "list-type=2&max-keys=%u&prefix=", PAGE_KEYS) &&
         s3_encode(q, s->prefix, false) && s3_encode(q, prefix, false);
    if (ok && start_after && !token)
        ok = buf_append_str(q, "&start-after=") && s3_encode(q, s->prefix, false) &&
             s3_encode(q, start_after, false);
    return ok;
}

bool s3_list(struct s3_server *s, const char *prefix, const char *start_after, s3_list_fn *fn,
             void *arg, const struct wait *w, struct error *err)
{
    struct page page = { .s = s, .fn = fn, .arg = arg, .err = err, .more = true };
    struct buf query = BUF_INIT;
    struct http_reply reply;
    char root[64];
    bool ok = true;

    while (ok && page.more) {
        struct s3_call c = { .method = "GET" };
        struct error fault = ERROR_INIT;

        if (!list_query(s, prefix, start_after, page.next, &query)) {
            ok = error_set(err, ERR_NOMEM, "a list from S3");
            break;
        }
        c.query = buf_str(&query);
        ok = s3_call_plain(s, &c, w, &reply, err);
        if (!ok)
            break;
        page.more = false;
        ok = s3_xml_read(buf_str(&reply.body), reply.body.len, read_page, &page, root, &fault) ||
             error_set(err, fault.code, "%s", fault.text);
        http_reply_fini(&reply);
        if (page.failed)
            ok = false;
        else if (ok && page.more && !page.next)
            ok = error_set(err, ERR_PROTOCOL, "the S3 server %s cut a list without saying where",
                           s->host);
    }
    free(page.next);
    free(page.key);
    buf_fini(&query);
    return ok;
}
