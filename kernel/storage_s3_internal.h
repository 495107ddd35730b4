/*
 * storage_s3_internal - what the files of the S3 back end share.
 *
 * A space is a log of commits in the bucket.  Each write is one object, PREFIX SPACE/c/SEQ-EPOCH: a
 * header that says what each key became, and the small values behind it; so that a batch is there
 * whole or not at all.  Large values go before it into objects of their own,
 * SPACE/b/SEQ-EPOCH-PART. From time to time the whole index is written as SPACE/s/SEQ-EPOCH, and
 * the commits up to SEQ then only matter for the values in them.  SPACE/root says who holds the
 * space (a lease), its epoch, and which index is the latest.  docs/decisions/storage-s3.md has the
 * reasons.
 *
 * Threads: struct s3_server is constant but for its clock and the HTTP client; struct s3_index is
 *   guarded by its space.
 */
#pragma once

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "kernel/base/clock.h"
#include "kernel/base/list.h"
#include "kernel/base/sha256.h"
#include "kernel/http.h"
#include "kernel/storage_backend.h"
#include "kernel/storage_s3_sign.h"

/* ---- the server: storage_s3_server.c, storage_s3_object.c ---- */

#define S3_NAME_BYTES 1024u

struct s3_server {
    struct http *http;
    char *base;   /* "http://host:port" or with the bucket before the host */
    char *host;   /* as the header Host says it */
    char *path;   /* "/" or "/bucket/", encoded */
    char *prefix; /* of every object's name */
    char *bucket;
    char *access, *secret, *region, *ca_file;
    size_t part_bytes;
    _Atomic int64_t skew_s; /* what the server's clock is ahead of ours */
};

/** From the configuration's section s3; the keys from the environment. */
NODISCARD bool s3_server_init(struct s3_server *s, const struct config *config, struct error *err);
void s3_server_fini(struct s3_server *s);

/** How a request that changes something ended, when it did not end well. */
enum s3_doubt {
    S3_UNCHANGED, /* the server said no, or was never reached */
    S3_UNKNOWN,   /* it may have been carried out */
};

/** A whole object, in parts when it is large.  @if_none_match: only if it is not there (servers
 *  that do not know conditions ignore it).  @if_match: only if its ETag is that; may be NULL. */
NODISCARD bool s3_put(struct s3_server *s, const char *name, const void *data, size_t len,
                      const char *if_match, bool if_none_match, const struct wait *w,
                      enum s3_doubt *ret_doubt, struct error *err);

struct s3_found {
    char etag[160];
    int64_t age_ns; /* since it was last written, by the server's clock; -1: not said */
};

/** Bytes [@offset, @offset + @max) appended to @out.  ERR_NOT_FOUND.  @ret may be NULL. */
NODISCARD bool s3_get(struct s3_server *s, const char *name, uint64_t offset, size_t max,
                      struct buf *out, struct s3_found *ret, const struct wait *w,
                      struct error *err);

/** One that is not there is success. */
NODISCARD bool s3_delete(struct s3_server *s, const char *name, const struct wait *w,
                         struct error *err);

/** Called with each name, without the configured prefix; false (with @err set) ends it. */
typedef bool s3_list_fn(void *arg, const char *name, uint64_t size, struct error *err);
NODISCARD bool s3_list(struct s3_server *s, const char *prefix, const char *start_after,
                       s3_list_fn *fn, void *arg, const struct wait *w, struct error *err);

/* ---- the index of a space: storage_s3_index.c ---- */

#define S3_IN_COMMIT UINT32_MAX       /* part: behind the commit's header */
#define S3_SNAPSHOT  (UINT32_MAX - 1) /* part, in garbage only: an index object */

struct s3_ref {
    uint64_t seq;
    uint32_t epoch;
    uint32_t part;
};

struct s3_version {
    uint64_t version, bytes;
    int64_t wall_ns;
    uint8_t sha256[SHA256_BYTES];
    bool deleted;
    struct s3_ref ref;
    uint64_t offset; /* in the object */
};

struct s3_entry {
    struct s3_version *versions; /* oldest first */
    size_t count, cap;
    char key[];
};

struct s3_object {
    uint64_t seq;
    uint32_t epoch, live; /* versions whose value is in it */
};

struct s3_index {
    struct s3_entry **entries; /* by key */
    size_t count, cap;
    struct s3_object *objects; /* commits, by seq */
    size_t object_count, object_cap;
    struct s3_ref *garbage; /* objects that nothing needs any more */
    size_t garbage_count, garbage_cap;
    uint64_t bytes, versions, live_keys;
};

void s3_index_fini(struct s3_index *x);
struct s3_entry *s3_index_find(const struct s3_index *x, const char *key);

/** Where the first entry that is not before @key stands. */
size_t s3_index_at(const struct s3_index *x, const char *key);

/** A commit of which values may be live; in the order of their numbers.  Each of the next three:
 *  false when memory is out, after which the index is of no use. */
NODISCARD bool s3_index_commit(struct s3_index *x, uint64_t seq, uint32_t epoch);
NODISCARD bool s3_index_add(struct s3_index *x, const char *key, const struct s3_version *v,
                            uint64_t keep_from);
NODISCARD bool s3_index_waste(struct s3_index *x, struct s3_ref ref);

/** Commits up to @seq of which nothing is live become garbage. */
NODISCARD bool s3_index_sweep(struct s3_index *x, uint64_t seq);

/** What the index says of one version, for a caller. */
void s3_index_stat(const struct s3_entry *e, const struct s3_version *v, struct storage_stat *ret);

/** The whole index as text, and back into an empty one. */
NODISCARD bool s3_index_write(const struct s3_index *x, struct buf *out);
NODISCARD bool s3_index_read(struct s3_index *x, const char *text, size_t len, struct error *err);

/** Compact JSON of our own, parsed, and found to be what it was: where memory runs out in a long
 *  token, jansson leaves characters out and says nothing. */
NODISCARD json_t *s3_json(const char *text, size_t len, bool *ret_no_memory);

/** From lower-case hexadecimal; false when it is not that. */
bool s3_digest_read(const char *hex, uint8_t digest[SHA256_BYTES]);

/** One row of it, as the headers of commits have them too. */
NODISCARD bool s3_version_read(json_t *row, struct s3_version *v);

/* ---- a commit: storage_s3_commit.c ---- */

#define S3_COMMIT_HEAD                                                         \
    26u /* "AIOS1 ", lengths of header and values in hexadecimal, a line's end \
         */

struct s3_change {
    const char *key;
    struct s3_version v; /* offset: behind the header */
    uint64_t keep_from;  /* older versions than this go */
};

/** Header of a commit, without the values. */
NODISCARD bool s3_commit_head(const struct s3_change *changes, size_t count, struct buf *out);

/** The length of the header, and of the whole object, from its first S3_COMMIT_HEAD bytes. */
NODISCARD bool s3_commit_length(const char *data, size_t len, size_t *ret_head, uint64_t *ret_whole,
                                struct error *err);

/** Puts what the header @data says into @x, as commit @seq of @epoch. */
NODISCARD bool s3_commit_replay(struct s3_index *x, uint64_t seq, uint32_t epoch, const char *data,
                                size_t len, struct error *err);

/* ---- a space: storage_s3_space.c ---- */

struct s3_space {
    struct list link; /* the back end's lock guards this and users */
    unsigned users;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t idle;
    bool busy; /* somebody writes, loads or renews; only he changes what follows */
    bool loaded;
    int64_t lease_ns; /* monotonic, when the lease was last renewed */
    uint32_t epoch, snap_epoch;
    uint64_t next_seq, snap_seq;
    uint64_t snap_bytes;
    struct s3_index index;
    char *dir; /* "SPACE/", encoded */
    char name[];
};

struct s3_backend {
    struct storage_backend base;
    struct s3_server server;
    char owner[64]; /* whom a lease names: one state folder */
    pthread_mutex_t lock;
    struct list spaces; /* the latest used first */
    size_t space_count;
};

/** The name of an object of @space: kind 'c', or 'b' and 's' by ref.part. */
void s3_space_name(const struct s3_space *space, struct s3_ref ref, char name[S3_NAME_BYTES]);

void s3_space_plain_name(const struct s3_space *space, const char *what, char name[S3_NAME_BYTES]);

/* The lease: storage_s3_lease.c; by whoever entered the space. */

#define S3_LEASE_NS (60 * CLOCK_NS_PER_S) /* unrenewed for so long, it is anybody's */
#define S3_RENEW_NS (15 * CLOCK_NS_PER_S)

bool s3_lease_is_fresh(const struct s3_space *space);

/** Ours from now on, with an epoch of its own.  ERR_BUSY names who holds it. */
NODISCARD bool s3_lease_take(struct s3_backend *b, struct s3_space *space, const struct wait *w,
                             struct error *err);

/** False with *ret_lost and no error set: somebody else had it meanwhile. */
NODISCARD bool s3_lease_renew(struct s3_backend *b, struct s3_space *space, bool *ret_lost,
                              const struct wait *w, struct error *err);

/** Writes the root anew with what @space says, if it is still ours. */
NODISCARD bool s3_lease_rewrite(struct s3_backend *b, struct s3_space *space, const char *owner,
                                const struct wait *w);

/** Take @space for writing, loaded and with a lease that is good for a while. */
NODISCARD bool s3_space_enter(struct s3_backend *b, struct s3_space *space, const struct wait *w,
                              struct error *err);
void s3_space_leave(struct s3_space *space);

/** Before a commit, by whoever entered: the lease is good until *@ret_wait is over.  ERR_BUSY: it
 *  was lost. */
NODISCARD bool s3_space_hold(struct s3_backend *b, struct s3_space *space, struct wait *ret_wait,
                             const struct wait *w, struct error *err);

/** With the lock held on return, for reading: loaded, with a lease. */
NODISCARD bool s3_space_view(struct s3_backend *b, struct s3_space *space, const struct wait *w,
                             struct error *err);

/** What is in the bucket may differ from the index: read it again before the next use. */
void s3_space_forget(struct s3_space *space);

/** After a commit, by whoever entered: a new index now and then, and a little cleaning. */
void s3_space_tidy(struct s3_backend *b, struct s3_space *space, const struct wait *w);

/** Let others have it at once. */
void s3_space_release(struct s3_backend *b, struct s3_space *space, const struct wait *w);
void s3_space_free(struct s3_space *space);

/* ---- a write: storage_s3_write.c ---- */

/** By whoever entered @space; as storage_backend.h's write(). */
NODISCARD bool s3_write_entered(struct s3_backend *b, struct s3_space *space,
                                struct storage_op *ops, size_t count,
                                const struct storage_limits *limits, const struct wait *w,
                                size_t *ret_failed, struct error *err);
