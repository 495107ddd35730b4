/*
 * audit_journal - where a record is safe before it is in the database: a ring in a mapped file.
 *
 * One file per server, preallocated, so that a full disk shows at the start and not as SIGBUS.  Its
 * pages belong to the page cache: what was stored survives the end of the process by any signal.
 * A record is there whole or not at all, since the ring's extent is stored after its bytes; a
 * checksum tells what a power cut has torn.  The server holds a lock (flock) on its file for as
 * long as it lives; a journal whose lock is free is an orphan, which whoever comes next moves.
 *
 * Ownership: audit_journal_close().
 * Threads: put, used, begin and release under the caller's lock; next and sync on any thread
 *   beside them.
 * Blocking: audit_journal_sync() only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/audit.h"
#include "kernel/base/error.h"

#define AUDIT_JOURNAL_PREFIX "journal-"
#define AUDIT_JOURNAL_FRESH  "new-"     /* until it is whole */
#define AUDIT_JOURNAL_BYTES  (4u << 20) /* the file, with its head */
#define AUDIT_RECORD_BYTES   2048u      /* room for any record as it lies in the ring */

enum audit_field {
    AUDIT_FIELD_AGENT,
    AUDIT_FIELD_SUBJECT,
    AUDIT_FIELD_DECISION,
    AUDIT_FIELD_RULE,
    AUDIT_FIELD_DETAIL,
    AUDIT_FIELD_COUNT
};

struct audit_text {
    const char *data; /* valid UTF-8, not terminated */
    size_t len;
};

struct audit_record {
    uint64_t sequence; /* 1, 2, 3 … of one server */
    int64_t wall_ns;
    uint64_t kind;
    uint64_t syscall;
    struct audit_text text[AUDIT_FIELD_COUNT];
};

struct audit_journal;

/** A new journal in @dir, locked. */
NODISCARD struct audit_journal *audit_journal_create(const char *dir, struct error *err);

enum audit_adopt { AUDIT_ADOPTED, AUDIT_IN_USE, AUDIT_DAMAGED };

/** Take the journal @name in @dir over from a server that is gone.  Anything but AUDIT_ADOPTED
 *  leaves *ret alone: it is in use, or is gone by now, or is no journal that could be read. */
NODISCARD enum audit_adopt audit_journal_adopt(const char *dir, const char *name,
                                               struct audit_journal **ret);

/** @unlink_file: nothing in it is needed any more.  NULL is allowed. */
void audit_journal_close(struct audit_journal *j, bool unlink_file);

const char *audit_journal_server(const struct audit_journal *j);

/** Bytes that wait in the ring, and how many there can be. */
size_t audit_journal_used(const struct audit_journal *j);
size_t audit_journal_capacity(const struct audit_journal *j);

/** False when there is no room.  Strings must be within their limits. */
NODISCARD bool audit_journal_put(struct audit_journal *j, const struct audit_record *record);

/** Wait until the disk has everything. */
NODISCARD bool audit_journal_sync(struct audit_journal *j, struct error *err);

struct audit_cursor {
    size_t at;
    size_t left;
    size_t passed; /* bytes of the records that were read: what audit_journal_release() takes */
};

void audit_journal_begin(const struct audit_journal *j, struct audit_cursor *ret);

enum audit_next { AUDIT_NEXT, AUDIT_END, AUDIT_TORN };

/** The next record, whose strings point into @scratch of AUDIT_RECORD_BYTES.  AUDIT_TORN: what is
 *  left cannot be read. */
NODISCARD enum audit_next audit_journal_next(const struct audit_journal *j,
                                             struct audit_cursor *cursor, uint8_t *scratch,
                                             struct audit_record *ret);

/** The oldest @bytes are in the database. */
void audit_journal_release(struct audit_journal *j, size_t bytes);
