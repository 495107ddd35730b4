/*
 * memory_internal - what the parts of memory share: the object, rows, scopes, moving, vectors.
 *
 * Locks: `mover` is taken first, then one connection; nobody who has a connection takes another or
 *   waits for storage or a provider.  The mutexes are held for a few lines and taken last.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/base/sha256.h"
#include "kernel/memory.h"
#include "kernel/memory_db.h"
#include "kernel/memory_vectors.h"

#define MEMORY_SPACE_BYTES 80 /* "~memory." and a name */
#define MEMORY_SCOPE_BYTES 80 /* "a:" and a name */
#define MEMORY_USES_KEPT   1024u
#define MEMORY_EMBED_BATCH 32u
#define MEMORY_TRIES       16 /* when others change the same note in between */

struct memory_use {
    int64_t n, at;
};

/** Notes whose vectors are being made. */
struct memory_making {
    struct memory_making *next;
    int64_t n[MEMORY_EMBED_BATCH];
    size_t count;
};

struct memory {
    struct storage *storage; /* immutable, as all down to the blank line */
    struct llm *llm;
    struct event_bus *bus;
    struct memory_db *db;
    struct memory_vectors *vectors;
    char *dir;
    int lock_fd;
    int64_t quota, max_notes;
    unsigned k;
    bool embed;

    struct memory_lane mover; /* whoever has it may write to storage */
    atomic_bool gone;         /* something may be left to remove from storage */

    pthread_mutex_t lock; /* guards what is below */
    struct memory_use uses[MEMORY_USES_KEPT];
    size_t use_count;
    int64_t last_use;
    struct memory_making *making;
    int64_t embed_again_ns; /* not before, since the provider failed */
    int64_t embed_pause_ns;
};

/* ---- rows: memory_note.c ---- */

struct memory_scope {
    int64_t s; /* 0: there is none */
    int64_t docs, words, notes, resident, resident_bytes, stored_bytes, evictions, faults;
};

/** A note as it stands in the database. */
struct memory_row {
    int64_t n, owner, pub, created, updated, bytes, length, copy, model;
    uint64_t version;
    char id[40], owner_name[65];
    bool resident;
    uint8_t sha[SHA256_BYTES];
    bool has_sha;
    json_t *tags;
    char *text; /* NULL: in storage */
    size_t len;
};
void memory_row_fini(struct memory_row *row);
/** row->text is a copy of @text. */
NODISCARD bool memory_row_text(struct memory_row *row, const char *text, size_t len,
                               struct error *err);

/** What an agent may see. */
struct memory_asker {
    struct memory_scope own;
    int64_t group, all; /* 0: nobody has shared anything there */
};

NODISCARD bool memory_scope(struct memory_conn *c, const char *name, bool make,
                            struct memory_scope *ret, struct error *err);
NODISCARD bool memory_asker(struct memory_conn *c, const struct memory_who *who, bool make,
                            struct memory_asker *ret, struct error *err);
bool memory_may_read(const struct memory_asker *asker, const struct memory_row *row);
/** "a:NAME", "g:NAME". */
const char *memory_scope_name(char kind, const char *name, char buf[MEMORY_SCOPE_BYTES]);

/** The first columns of @stmt. */
NODISCARD bool memory_row_read(sqlite3_stmt *stmt, struct memory_row *ret, struct error *err);
/** By number or (@id not NULL) by id.  ret->n 0: there is none. */
NODISCARD bool memory_row_get(struct memory_conn *c, int64_t n, const char *id,
                              struct memory_row *ret, struct error *err);
/** Hands over what the row owns. */
void memory_row_to_note(struct memory_row *row, struct memory_note *ret);

/** What is added to what a scope counts. */
struct memory_change {
    int64_t notes, resident, resident_bytes, stored_bytes, evictions, faults;
};
NODISCARD bool memory_count(struct memory_conn *c, int64_t scope,
                            const struct memory_change *change, int64_t *ret_resident_bytes,
                            struct error *err);

/** A statement with numbers bound from the first parameter on, run to its end.  *ret_changed (may
 *  be NULL): rows that it changed. */
NODISCARD bool memory_do(struct memory_conn *c, enum memory_stmt which, const int64_t *numbers,
                         size_t count, int *ret_changed, struct error *err);
#define MEMORY_DO(c, which, changed, err, ...)            \
    memory_do(c, which, (const int64_t[]){ __VA_ARGS__ }, \
              sizeof((const int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t), changed, err)

/* ---- saving: memory_save.c ---- */

/** A checked copy of @tags without doubles; *ret is the caller's in either case. */
NODISCARD bool memory_tags(const json_t *tags, json_t **ret, struct error *err);
/** The words of row->text, into the index or out of it. */
NODISCARD bool memory_index(struct memory_conn *c, const struct memory_row *row, bool add,
                            int64_t *ret_length, struct error *err);
NODISCARD bool memory_text_set(struct memory_conn *c, const struct memory_row *row,
                               struct error *err);

/** "memory.pressure" when @before was under 80 % of the quota and @after is not. */
void memory_tell_pressure(struct memory *m, const char *agent, int64_t before, int64_t after);

/* ---- moving: memory_move.c, memory_uses.c ---- */

NODISCARD bool memory_uses_open(struct memory *m, const struct wait *w, struct error *err);
void memory_used(struct memory *m, int64_t n, const struct wait *w);
void memory_uses_flush(struct memory *m, const struct wait *w);

/** Until @agent's resident notes leave room for @bytes; the note @keep (0: none) stays. */
NODISCARD bool memory_make_room(struct memory *m, const char *agent, int64_t bytes, int64_t keep,
                                const struct wait *w, struct error *err);

/** row->text from storage.  *ret_missing (may be NULL): storage answered, and has it no more. */
NODISCARD bool memory_load(struct memory *m, struct memory_row *row, bool *ret_missing,
                           const struct wait *w, struct error *err);

/** Make what was loaded resident again as far as there is room; failures change nothing. */
void memory_bring_back(struct memory *m, struct memory_row *rows, size_t count,
                       const struct wait *w);

/** Remove from storage what deletions left there, as far as it answers. */
void memory_sweep(struct memory *m, const struct wait *w);

/** The scopes that a search looks into. */
unsigned memory_query_scopes(const struct memory_asker *asker, bool shared,
                             int64_t ret[MEMORY_SCOPES_MAX]);

/* ---- vectors: memory_model.c ---- */

#define MEMORY_MODEL_BYTES 200 /* "provider/model" */

struct memory_model {
    int64_t m; /* 0: none of this name yet */
    size_t dims;
};

/** Its name, when there is one and the configuration wants vectors. */
bool memory_can_embed(struct memory *m, char name[MEMORY_MODEL_BYTES]);
NODISCARD bool memory_model_newest(struct memory_conn *c, const char *name,
                                   struct memory_model *ret, struct error *err);
/** The model of this name whose vectors are @dims long, which is then the newest. */
NODISCARD bool memory_model_of(struct memory *m, const char *name, size_t dims,
                               struct memory_model *ret, const struct wait *w, struct error *err);
/** memory_set_get().  *ret_lost (may be NULL): some of its notes want a vector again. */
NODISCARD struct memory_set *memory_model_set(struct memory *m, int64_t scope,
                                              const struct memory_model *model, bool make,
                                              const struct wait *w, bool *ret_lost,
                                              struct error *err);
struct wait memory_sooner(const struct wait *w, int64_t by_ns);

/* ---- making them: memory_embed.c; comparing them: memory_near.c ---- */

/** Make vectors for up to @batches batches of notes of @agent that have none; the newest first. */
NODISCARD bool memory_embed_notes(struct memory *m, const char *agent, unsigned batches,
                                  const struct wait *w, struct error *err);
/** One batch of each agent that has saved something, all in one go: in a short while or not at all.
 */
void memory_embed_soon(struct memory *m, const struct memory_saving *saves, size_t count);

/** Slots that a transaction took from notes; given back once it is committed. */
struct memory_freed {
    struct {
        int64_t scope, model, slot;
    } at[4];
    size_t count;
};
NODISCARD bool memory_vector_drop(struct memory_conn *c, int64_t n, struct memory_freed *ret,
                                  struct error *err);
void memory_vector_freed(struct memory *m, const struct memory_freed *freed);

/** The notes whose vectors are the nearest to @text's, best first: numbers and scores for free().
 */
struct memory_near {
    int64_t *n;
    float *score;
    size_t count;
};
NODISCARD bool memory_nearest(struct memory *m, const struct memory_who *who,
                              const struct memory_asker *asker, const struct memory_query *q,
                              size_t count, const struct wait *w, struct memory_near *ret,
                              struct error *err);
