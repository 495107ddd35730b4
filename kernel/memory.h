/*
 * memory - notes of agents: kept, found again by words, tags, time or meaning, and shared.
 *
 * Each agent has a quota in bytes for what is resident; what is used least (LRU-K) moves to storage
 * and comes back when it is read or found.  Search finds both kinds.  The index is SQLite's FTS5;
 * with a provider of embeddings every note has a vector too, compared exactly.
 * A note that was answered survives `kill -9`.
 * Threads: any.  Blocking: within the struct wait.
 * Errors: ERR_NOT_FOUND (no such note, or not this agent's to see), ERR_DENIED (to change what
 *   somebody else shares), ERR_EXISTS (if_version did not hold; the text says which is there),
 *   ERR_INVALID, ERR_LIMIT, ERR_LOST (storage, which has the text, is down), ERR_BUSY, ERR_IO (the
 *   database is held by another program, full or damaged: nothing was changed), ERR_UNSUPPORTED,
 *   ERR_TIMEOUT, ERR_CANCELLED.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/cancel.h"
#include "kernel/base/error.h"

#define MEMORY_NOTE_BYTES (256u << 10) /* text of one note */
#define MEMORY_TAGS       32u
#define MEMORY_TOGETHER   32u /* agents of several saves whose vectors are asked for at once */
#define MEMORY_TAG_BYTES  64u
#define MEMORY_PAGE_MAX   100u
#define MEMORY_OFFSET_MAX 10000u

struct config;
struct event_bus;
struct llm;
struct memory;
struct storage;

struct memory_note {
    char id[40]; /* "note_…" */
    char owner[65];
    char *text; /* for free(), as is tags */
    json_t *tags;
    int64_t created_wall_ns, updated_wall_ns;
    uint64_t version; /* 1, 2, 3 … */
    double score;     /* of a search: larger is better */
    bool shared;      /* readable by the owner's group, or by all */
    bool away;        /* found, but storage, which has its text, did not answer: text is "" */
};
void memory_note_fini(struct memory_note *note);

enum memory_sharing {
    MEMORY_PRIVATE,
    MEMORY_GROUP,
    MEMORY_ALL,
    MEMORY_KEEP, /* as it is; private for a new note */
};

/** @storage, @llm and @bus are borrowed; @llm and @bus may be NULL.  Events: "memory.pressure"
 * (over 80 % of a quota), "memory.evicted", "memory.faulted".  ERR_BUSY: another kernel uses the
 * folder. */
NODISCARD struct memory *memory_open(const struct config *config, struct storage *storage,
                                     struct llm *llm, struct event_bus *bus, struct error *err);
void memory_close(struct memory *m);
DEFINE_CLEANUP(struct memory, memory_close)

/** Who asks: name and group (NULL or "": none). */
struct memory_who {
    const char *agent, *group;
};

/** Whether notes get vectors as it is configured, so that saves and searches that wait gain from
 *  being done together. */
bool memory_asks_model(const struct config *config);

/** @id NULL: a new note; else that note of one's own is replaced (@if_version 0: whatever it is).
 *  @tags NULL: none, or those that it has.  ERR_LIMIT: a size, the count, or the quota when storage
 *  does not take what would have to leave; the note is then not saved.  A provider of embeddings
 *  that is down fails no save, and a slow one delays it by two seconds at most. */
NODISCARD bool memory_save(struct memory *m, const struct memory_who *who, const char *id,
                           const char *text, size_t len, const json_t *tags,
                           enum memory_sharing sharing, uint64_t if_version, const struct wait *w,
                           struct memory_note *ret, struct error *err);

/** One of several saves; what memory_save() is given and answers. */
struct memory_saving {
    struct memory_who who;
    const char *id, *text;
    size_t len;
    const json_t *tags;
    enum memory_sharing sharing;
    uint64_t if_version;
    const struct wait *wait;

    struct memory_note note; /* afterwards, where `ok` */
    bool ok;
    struct error err; /* ERR_NONE before */
};

/** The same for several: each is saved by itself, and their vectors are asked for together. */
void memory_save_many(struct memory *m, struct memory_saving *saves, size_t count);
NODISCARD bool memory_get(struct memory *m, const struct memory_who *who, const char *id,
                          const struct wait *w, struct memory_note *ret, struct error *err);
NODISCARD bool memory_delete(struct memory *m, const struct memory_who *who, const char *id,
                             const struct wait *w, struct error *err);

struct memory_query {
    const char *text;   /* words, or a question; NULL or "": by time, newest first */
    bool semantic;      /* by meaning: ERR_UNSUPPORTED without embeddings */
    const json_t *tags; /* all of these; NULL: any */
    int64_t since_wall_ns, until_wall_ns; /* of the last change; 0: no bound */
    bool shared;                          /* also what others share with this agent */
    size_t offset, limit;
    const struct memory_question *question; /* `text` as a vector; NULL: the model is asked */
};

/** A question of a search by meaning, which the model may be asked together with others. */
struct memory_question {
    const char *agent, *text;
    const struct wait *wait;

    float *vector; /* afterwards, where `ok`: for free(); NULL when no model can be asked */
    size_t dims;
    bool ok;
    struct error err; /* ERR_NONE before */
};
void memory_questions(struct memory *m, struct memory_question *questions, size_t count);

struct memory_found {
    struct memory_note *notes; /* for memory_found_fini() */
    size_t count;
    bool more;
};
void memory_found_fini(struct memory_found *found);
NODISCARD bool memory_search(struct memory *m, const struct memory_who *who,
                             const struct memory_query *query, const struct wait *w,
                             struct memory_found *ret, struct error *err);

struct memory_usage {
    uint64_t notes, resident_notes, resident_bytes, stored_bytes, quota_bytes, evictions, faults;
};
NODISCARD bool memory_usage(struct memory *m, const char *agent, struct memory_usage *ret,
                            struct error *err);
