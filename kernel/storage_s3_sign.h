/*
 * storage_s3_sign - signature version 4 of a request, as S3 and its like check it.
 *
 * Threads: any.  The secret is read and never copied into anything that leaves.
 */
#pragma once

#include <time.h>

#include "kernel/base/buf.h"
#include "kernel/base/sha256.h"

#define S3_DATE_BYTES 17 /* "20130524T000000Z" */

struct s3_key {
    const char *access, *secret, *region;
    const char *service; /* "s3" */
};

struct s3_header {
    const char *name; /* lower case */
    const char *value;
};

struct s3_signed {
    const char *method;
    const char *path;                /* as it goes out: encoded once, with its slashes */
    const char *query;               /* canonical: encoded, sorted, each with '=' */
    const struct s3_header *headers; /* sorted by name, with host and x-amz-date */
    size_t header_count;
    const char *payload_hash;
    const char *date; /* s3_date() */
};

void s3_date(time_t when, char ret_date[S3_DATE_BYTES]);

/** The value of the header Authorization.  False: out of memory. */
NODISCARD bool s3_sign(const struct s3_key *key, const struct s3_signed *request, struct buf *ret);

/** @text with everything but letters, digits, '-', '.', '_', '~' (and '/' where @slash) as %XX. */
NODISCARD bool s3_encode(struct buf *ret, const char *text, bool slash);

void s3_hmac(const void *key, size_t key_len, const void *data, size_t len,
             uint8_t ret_mac[SHA256_BYTES]);
