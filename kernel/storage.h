/*
 * storage - each agent's own space of keys and values: versioned, bounded, on one of four back
 * ends.
 *
 * A space belongs to one agent and is named like it; spaces that begin with '~' are the kernel's
 * own
 * ("~memory.alice") and cannot be named by an agent.  A key is 1 to STORAGE_KEY_BYTES of valid
 * UTF-8 without control characters, with '/' between parts, none of them empty, "." or "..".  Every
 * put makes a version: 1, 2, 3 … of its key; a delete makes one too, which says that the key is
 * gone, so that a rollback can bring it back.  The oldest versions go when more than
 * storage.versions are kept; all that are kept count towards the quota.
 *
 * What was answered survives `kill -9`; what was not is there whole or not at all.
 * Threads: any.  Blocking: within the struct wait.
 * Errors: ERR_NOT_FOUND, ERR_EXISTS (a condition did not hold; the text says which version is
 * there), ERR_LIMIT (quota, size, count), ERR_INVALID (key, cursor, token), ERR_DENIED (token of
 * somebody else's key, or expired), ERR_BUSY (another process holds the state folder; it is named:
 * or locks the database), ERR_IO (the disk is full or fails, a file or the database is damaged:
 * nothing was changed), ERR_LOST (the back end is down: nothing was changed, or it is not known
 * whether it was and the text says so), ERR_TIMEOUT, ERR_CANCELLED.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/cancel.h"
#include "kernel/base/error.h"

#define STORAGE_KEY_BYTES   512u
#define STORAGE_BATCH_MAX   256u
#define STORAGE_PAGE_MAX    1000u
#define STORAGE_TOKEN_BYTES 1024u
#define STORAGE_VERSIONS    1000000u   /* kept in one space, of all its keys */
#define STORAGE_ANY         UINT64_MAX /* if_version: whatever is there */

struct config;
struct event_bus;
struct storage;

/** One version of one key. */
struct storage_stat {
    char key[STORAGE_KEY_BYTES + 1];
    uint64_t version;
    uint64_t bytes;
    int64_t wall_ns; /* when it was written; never before that of the version before it */
    char sha256[65]; /* of the value; "" for a deletion */
    bool deleted;
};

/** Opens the back end that the configuration names.  ERR_BUSY: another kernel uses this state
 *  folder.  A server (PostgreSQL, S3) that is down is no failure here: calls fail until it is back.
 *  @bus (may be NULL): "storage.down", "storage.up", "storage.quota". */
NODISCARD struct storage *storage_open(const struct config *config, struct event_bus *bus,
                                       struct error *err);
void storage_close(struct storage *s);
DEFINE_CLEANUP(struct storage, storage_close)

/** @if_version: STORAGE_ANY, 0 (it must not be there), or the version that must be the newest. */
NODISCARD bool storage_put(struct storage *s, const char *space, const char *key, const void *data,
                           size_t len, uint64_t if_version, const struct wait *w,
                           struct storage_stat *ret, struct error *err);

/** @version 0: the newest.  Appends bytes [@offset, @offset + @max) of the value to @out (fewer at
 *  its end); ret->bytes is the whole length.  @ret may be NULL. */
NODISCARD bool storage_get(struct storage *s, const char *space, const char *key, uint64_t version,
                           uint64_t offset, size_t max, struct buf *out, const struct wait *w,
                           struct storage_stat *ret, struct error *err);

NODISCARD bool storage_delete(struct storage *s, const char *space, const char *key,
                              uint64_t if_version, const struct wait *w, struct storage_stat *ret,
                              struct error *err);

/** A delete after which no older version is kept: their bytes no longer count, and no rollback
 *  brings them back.  Also of a key that is deleted already.  The mark of the delete stays, with
 * its number: versions of a key go on counting, so that no number ever stands for two values, and a
 *  put on a condition that was read before cannot meet another value of that number. */
NODISCARD bool storage_purge(struct storage *s, const char *space, const char *key,
                             const struct wait *w, struct storage_stat *ret, struct error *err);

/** A page of stats, for free(). */
struct storage_page {
    struct storage_stat *items;
    size_t count;
    char *cursor; /* NULL: that was all; else for the next page, for free() */
};
void storage_page_fini(struct storage_page *page);

/** Keys that begin with @prefix ("" for all), by bytes; deleted ones are left out.  @cursor: NULL,
 *  or from the page before: bound to the space and the prefix, refused elsewhere. */
NODISCARD bool storage_list(struct storage *s, const char *space, const char *prefix,
                            const char *cursor, size_t limit, const struct wait *w,
                            struct storage_page *ret, struct error *err);

/** The kept versions of one key, newest first, deletions included. */
NODISCARD bool storage_versions(struct storage *s, const char *space, const char *key,
                                const char *cursor, size_t limit, const struct wait *w,
                                struct storage_page *ret, struct error *err);

/** A new version with the content that the key had: as @version, or (@version 0) at @wall_ns. */
NODISCARD bool storage_rollback(struct storage *s, const char *space, const char *key,
                                uint64_t version, int64_t wall_ns, const struct wait *w,
                                struct storage_stat *ret, struct error *err);

/** @key's newest value as a new version of @to_key in the same space. */
NODISCARD bool storage_copy(struct storage *s, const char *space, const char *key,
                            const char *to_key, uint64_t if_version, const struct wait *w,
                            struct storage_stat *ret, struct error *err);

enum storage_op_kind { STORAGE_PUT, STORAGE_DELETE };

struct storage_op {
    enum storage_op_kind kind;
    const char *key;
    const void *data; /* PUT */
    size_t len;
    uint64_t if_version;
    struct storage_stat stat;        /* set on success */
    struct storage_hashing *hashing; /* the implementation's own; NULL */
};

/** All or none.  A key may stand in it once.  On failure *ret_failed (may be NULL) is the index of
 *  the operation that was refused, or @count when it was none in particular. */
NODISCARD bool storage_batch(struct storage *s, const char *space, struct storage_op *ops,
                             size_t count, const struct wait *w, size_t *ret_failed,
                             struct error *err);

/** One request among several: as storage_batch() would be called. */
struct storage_write {
    const char *space;
    struct storage_op *ops;
    size_t count;
    const struct wait *wait;

    bool ok;          /* what storage_batch() would return, */
    size_t failed;    /* and set */
    struct error err; /* where it is false */
    bool sent;        /* the implementation's own */
};

/** Several requests, in order, each of which succeeds or fails alone; those that the back end can
 *  put into one transaction cost one. */
void storage_write_many(struct storage *s, struct storage_write *writes, size_t count);

/** A signed token with which anybody on this kernel may read that one key (the @version, or 0: the
 *  newest at the time of reading) until @expires_wall_ns. */
NODISCARD bool storage_share(struct storage *s, const char *space, const char *key,
                             uint64_t version, int64_t expires_wall_ns,
                             char ret_token[STORAGE_TOKEN_BYTES], struct error *err);
NODISCARD bool storage_get_shared(struct storage *s, const char *token, uint64_t offset, size_t max,
                                  struct buf *out, const struct wait *w, struct storage_stat *ret,
                                  struct error *err);

struct storage_usage {
    uint64_t bytes, keys, versions, quota_bytes; /* quota 0: none */
};
NODISCARD bool storage_usage(struct storage *s, const char *space, const struct wait *w,
                             struct storage_usage *ret, struct error *err);

struct storage_stats {
    const char *backend;
    uint64_t puts, gets;           /* operations that were answered */
    uint64_t batches, batched_ops; /* transactions that held several requests, and these */
    uint64_t cache_hits, cache_misses, cache_bytes, failures;
};
void storage_stats(struct storage *s, struct storage_stats *ret);
