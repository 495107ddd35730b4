/*
 * storage_backend - what a place for storage implements: storage_file.c, storage_sqlite.c,
 * storage_s3.c, and postgres in a module of its own.
 *
 * storage.c has checked keys, sizes and counts, resolves copies and rollbacks to writes, caches,
 * and signs tokens and cursors.  A back end keeps versions, enforces conditions and the quota
 * inside its own transaction, and answers only when it is safe on its medium. Threads: any function
 * from any thread at once; a back end pools or locks as it needs.
 */
#pragma once

#include "kernel/storage.h"

struct storage_limits {
    uint64_t quota_bytes; /* of a space: the sum of all kept versions; 0: none */
    uint64_t versions;    /* most kept of one key; 1 or more */
    uint64_t total;       /* most versions of all keys of a space together; 0: no bound */
};

struct storage_backend {
    const char *name;

    /** Other kernels may write there too: what is cached is used only after a look at its version
     *  (stat). */
    bool shared;

    /** write() calls storage_rule_digest() before it looks at stat.sha256: the digest of a large
     *  value is computed meanwhile. */
    bool late_digest;

    /** All of @ops or none; conditions, versions and the quota in one transaction.  Fills each
     *  op's stat (wall_ns: clock_wall_ns(), but never before the key's last); stat.sha256 of a PUT
     *  has been set by the caller (but see late_digest).  In order: the condition (ERR_EXISTS, and
     * ERR_NOT_FOUND for a DELETE of what is not there), the version is added, versions beyond
     * limits->versions of that key go; then a PUT is refused (ERR_LIMIT) when the space has more
     * than quota_bytes, and any operation that leaves more than limits->total versions of which it
     * added one. */
    bool (*write)(struct storage_backend *b, const char *space, struct storage_op *ops,
                  size_t count, const struct storage_limits *limits, const struct wait *w,
                  size_t *ret_failed, struct error *err);

    /** May be NULL: then write() is called for each.  Requests that are not `sent` are left alone.
     */
    void (*write_many)(struct storage_backend *b, struct storage_write *writes, size_t count,
                       const struct storage_limits *limits);

    /** As storage_get(); a newest version that is a deletion is ERR_NOT_FOUND. */
    bool (*read)(struct storage_backend *b, const char *space, const char *key, uint64_t version,
                 uint64_t offset, size_t max, struct buf *out, const struct wait *w,
                 struct storage_stat *ret, struct error *err);

    /** The stat of @version (0: newest, deletions included), or of the newest at @at_wall_ns when
     *  that is not 0. */
    bool (*stat)(struct storage_backend *b, const char *space, const char *key, uint64_t version,
                 int64_t at_wall_ns, const struct wait *w, struct storage_stat *ret,
                 struct error *err);

    /** Up to @limit live keys after @after (exclusive, may be "") that begin with @prefix, in order
     *  of bytes, into ret->items; *ret_more: there are others.  The cursor is storage.c's. */
    bool (*list)(struct storage_backend *b, const char *space, const char *prefix,
                 const char *after, size_t limit, const struct wait *w, struct storage_page *ret,
                 bool *ret_more, struct error *err);

    /** Versions of @key below @before (0: from the newest), newest first. */
    bool (*versions)(struct storage_backend *b, const char *space, const char *key, uint64_t before,
                     size_t limit, const struct wait *w, struct storage_page *ret, bool *ret_more,
                     struct error *err);

    bool (*usage)(struct storage_backend *b, const char *space, const struct wait *w,
                  struct storage_usage *ret, struct error *err);

    /** May be NULL.  Adds to batches and batched_ops. */
    void (*stats)(struct storage_backend *b, struct storage_stats *ret);

    void (*free)(struct storage_backend *b);
};

/* The rules that all back ends share; storage_rules.c. */

/** What a space holds, while operations are weighed. */
struct storage_tally {
    uint64_t bytes, keys, versions;
};

/** Whether @op may be done: @newest is the key's newest version (0: it never was there), @live
 *  false when that is a deletion.  ERR_EXISTS, ERR_NOT_FOUND. */
NODISCARD bool storage_rule_condition(const struct storage_op *op, uint64_t newest, bool live,
                                      struct error *err);

/** Counts @op in, and @old_versions with @old_bytes that go with it out.  ERR_LIMIT, and then the
 *  tally is spoilt. */
NODISCARD bool storage_rule_count(struct storage_tally *tally, const struct storage_op *op,
                                  bool was_live, uint64_t old_versions, uint64_t old_bytes,
                                  const struct storage_limits *limits, struct error *err);

/** Waits until the digest is known; op->stat.sha256 is set then. */
void storage_rule_digest(struct storage_op *op);

/** Fills op->stat, but for the digest; @last_wall_ns is the time of the version before, or 0. */
void storage_rule_stamp(struct storage_op *op, uint64_t version, int64_t last_wall_ns);

/** Each takes what it needs of the configuration's "storage" section.  @state_dir: a folder that
 *  exists and is this kernel's alone. */
typedef struct storage_backend *storage_backend_fn(const struct config *config,
                                                   const char *state_dir, struct error *err);

storage_backend_fn storage_file_new;
storage_backend_fn storage_sqlite_new;
storage_backend_fn storage_s3_new;       /* speaks through http.h */
storage_backend_fn storage_postgres_new; /* opens the module "postgres" (plugin.h) */

/** storage_open() with this back end, whatever the configuration's storage.backend says. */
NODISCARD struct storage *storage_open_with(storage_backend_fn *make, const struct config *config,
                                            struct event_bus *bus, struct error *err);
