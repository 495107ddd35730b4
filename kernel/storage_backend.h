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
};

struct storage_backend {
    const char *name;

    /** All of @ops or none; conditions, versions and the quota in one transaction.  Fills each
     *  op's stat (wall_ns: clock_wall_ns(), but never before the key's last). */
    bool (*write)(struct storage_backend *b, const char *space, struct storage_op *ops,
                  size_t count, const struct storage_limits *limits, const struct wait *w,
                  size_t *ret_failed, struct error *err);

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

    void (*free)(struct storage_backend *b);
};

/** Each takes what it needs of the configuration's "storage" section.  @state_dir: a folder that
 *  exists and is this kernel's alone. */
typedef struct storage_backend *storage_backend_fn(const struct config *config,
                                                   const char *state_dir, struct error *err);

storage_backend_fn storage_file_new;
storage_backend_fn storage_sqlite_new;
storage_backend_fn storage_s3_new;       /* speaks through http.h */
storage_backend_fn storage_postgres_new; /* opens the module "postgres" (plugin.h) */
