/*
 * storage_internal - what the files of storage's core share: checks of names, the digest, signed
 * cursors and tokens.
 *
 * Threads: any.
 */
#pragma once

#include <pthread.h>

#include "kernel/base/sha256.h"
#include "kernel/storage_backend.h"

#define STORAGE_SPACE_BYTES  128u
#define STORAGE_SECRET_BYTES 32u

/* ---- names ---- */

/** ERR_INVALID, with what is wrong and what is right. */
NODISCARD bool storage_check_space(const char *space, struct error *err);
NODISCARD bool storage_check_key(const char *key, struct error *err);
NODISCARD bool storage_check_prefix(const char *prefix, struct error *err);

/* ---- digest ---- */

/** A digest that another thread computes. */
struct storage_hashing {
    const void *data;
    size_t len;
    pthread_t thread;
    uint8_t digest[SHA256_BYTES];
};

/** False: no thread could be had. */
NODISCARD bool storage_hashing_begin(struct storage_hashing *h, const void *data, size_t len);
void storage_hashing_end(struct storage_hashing *h, uint8_t ret[SHA256_BYTES]);

struct storage_part {
    const void *data;
    size_t len;
};

/** HMAC-SHA256 of the parts, each preceded by its length, so that no two lists of parts are one. */
void storage_mac(const uint8_t secret[STORAGE_SECRET_BYTES], const struct storage_part *parts,
                 size_t count, uint8_t ret[SHA256_BYTES]);

/* ---- cursors ---- */

enum storage_cursor_kind { STORAGE_CURSOR_LIST, STORAGE_CURSOR_VERSIONS };

/** What comes after @position in the list of @bound (a prefix or a key) of @space, for free(). */
NODISCARD char *storage_cursor_make(const uint8_t secret[STORAGE_SECRET_BYTES],
                                    enum storage_cursor_kind kind, const char *space,
                                    const char *bound, const char *position, struct error *err);

/** ERR_INVALID when it was not made with the same secret, kind, space and bound. */
NODISCARD bool storage_cursor_read(const uint8_t secret[STORAGE_SECRET_BYTES],
                                   enum storage_cursor_kind kind, const char *space,
                                   const char *bound, const char *cursor,
                                   char ret_position[STORAGE_KEY_BYTES + 1], struct error *err);

/* ---- tokens ---- */

struct storage_grant {
    char space[STORAGE_SPACE_BYTES + 1];
    char key[STORAGE_KEY_BYTES + 1];
    uint64_t version;
    int64_t expires_wall_ns;
};

NODISCARD bool storage_token_make(const uint8_t secret[STORAGE_SECRET_BYTES],
                                  const struct storage_grant *grant,
                                  char ret_token[STORAGE_TOKEN_BYTES], struct error *err);

/** ERR_INVALID: no token at all; ERR_DENIED: changed, or of another kernel.  Whether it has expired
 *  is the caller's to see. */
NODISCARD bool storage_token_read(const uint8_t secret[STORAGE_SECRET_BYTES], const char *token,
                                  struct storage_grant *ret, struct error *err);

/** The secret in the file @path, made there when there is none. */
NODISCARD bool storage_secret_load(const char *path, uint8_t ret[STORAGE_SECRET_BYTES],
                                   struct error *err);
