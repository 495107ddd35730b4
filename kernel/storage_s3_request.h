/*
 * storage_s3_request - one request to an S3 server: signed, sent, tried again where that may help.
 *
 * Threads: any.
 */
#pragma once

#include "kernel/storage_s3_internal.h"

#define S3_CODE_BYTES    64u
#define S3_MESSAGE_BYTES 200u

struct s3_call {
    const char *method;
    const char *name;  /* without the prefix; NULL: the bucket itself */
    const char *query; /* canonical; "" for none */
    const void *body;
    size_t body_len;
    const char *extra[4]; /* more headers, not signed */
    bool (*on_data)(void *arg, const char *data, size_t len);
    void *arg;
    void (*restart)(void *arg); /* forget what came: it is asked for once more; may be NULL */
    uint64_t max_bytes;
};

/** What the body of a refusal says. */
struct s3_trouble {
    char code[S3_CODE_BYTES];
    char message[S3_MESSAGE_BYTES];
};

struct s3_trouble s3_trouble_of(const struct buf *body);

/** The error of a refusal; returns false. */
bool s3_explain(const struct s3_server *s, const struct http_reply *reply,
                const struct s3_trouble *t, struct error *err);

/** True: a 2xx answer, in @reply for http_reply_fini().  @ret_doubt: whether a failure may have had
 *  an effect all the same. */
NODISCARD bool s3_call(struct s3_server *s, const struct s3_call *c, const struct wait *w,
                       struct http_reply *reply, enum s3_doubt *ret_doubt, struct error *err);

/** The same where an effect cannot matter or is none. */
NODISCARD bool s3_call_plain(struct s3_server *s, const struct s3_call *c, const struct wait *w,
                             struct http_reply *reply, struct error *err);
