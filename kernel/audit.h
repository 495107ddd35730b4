/*
 * audit - who asked, what was decided, by which rule, with what result; hash-chained.
 *
 * audit_append() writes the record into a shared memory-mapped journal before it returns: it then
 * survives `kill -9` of the server.  A writer thread moves records from the journal into the SQLite
 * database in group commits, where each row carries the SHA-256 of its own fields and the hash of
 * the row before it.  A database that has grown to max_bytes is closed and another begun, in which
 * the chain goes on.  Records that a killed server left in its journal are moved by the next
 * server, or by `aios audit`.  Several servers may share one database.
 *
 * Ownership: audit_close() flushes.  Threads: any.
 * Blocking: audit_append() only when the journal is full (the writer is behind by megabytes), until
 *   there is room or 2 s have passed; otherwise under two microseconds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/error.h"

struct audit;

enum audit_kind {
    AUDIT_DECISION, /* a syscall was allowed or denied */
    AUDIT_RESULT,   /* how it ended */
    AUDIT_COMPUTER, /* made, destroyed, lost, saved, restored */
    AUDIT_REFUSED,  /* a system call inside a computer that the policy does not allow */
    AUDIT_EGRESS,   /* a connection allowed, denied or ended */
    AUDIT_SERVER,   /* start and stop of a server, changes of configuration */
    AUDIT_KIND_COUNT
};

/** Strings are borrowed, may be NULL, and are cut at their limits on a character boundary. */
struct audit_entry {
    enum audit_kind kind;
    uint64_t syscall;     /* 0: none */
    const char *agent;    /* 64 */
    const char *subject;  /* tool, computer or host:port; 128 */
    const char *decision; /* "allow", "deny", "done", "failed", …; 32 */
    const char *rule;     /* 96 */
    const char *detail;   /* LIMIT_AUDIT_DETAIL; never a secret's value */
};

struct audit_config {
    const char *dir;   /* audit.db and journals; made, mode 0700 */
    bool power_safe;   /* also survive a power cut: fsync before audit_append() returns */
    int64_t max_bytes; /* of one file; beyond it a new one is begun; 0: never */
    unsigned keep;     /* files beside the newest that are not removed; 0: all are kept */
};

NODISCARD struct audit *audit_open(const struct audit_config *config, struct error *err);
void audit_close(struct audit *a);
DEFINE_CLEANUP(struct audit, audit_close)

/** If this fails, what was to be recorded must not happen. */
NODISCARD bool audit_append(struct audit *a, const struct audit_entry *entry, struct error *err);

/** Wait until all that was appended is in the database. */
NODISCARD bool audit_flush(struct audit *a, int64_t deadline_ns, struct error *err);

struct audit_report {
    uint64_t rows;    /* that are kept */
    uint64_t removed; /* rows before those, in files that were to be removed */
    unsigned files;
    uint64_t first_bad; /* row number; 0: none */
    char problem[256];  /* "" or "row 17: its hash does not match its fields" */
    char head[65];      /* hash of the last row */
};

/**
 * Go through the whole chain, file by file.  Found are a changed, removed, inserted or moved row, a
 * file removed, exchanged or moved, and rows removed or added at the end, because the end is noted
 * in the same transaction and once more in the file `head`. Not found is the work of somebody who
 * may write all three and computes every hash anew from some row on: for that a person keeps `head`
 * of the report elsewhere, and compares.
 *
 * Orphaned journals are moved first.  False when the database cannot be read (ERR_NOT_FOUND: there
 * is none); a broken chain is true with ret->problem.  Without power_safe a power cut may take the
 * last rows, which looks like their removal.
 */
NODISCARD bool audit_verify(const char *dir, struct audit_report *ret, struct error *err);

struct audit_row {
    uint64_t seq;
    int64_t wall_ns;
    enum audit_kind kind;
    uint64_t syscall;
    const char *server, *agent, *subject, *decision, *rule, *detail;
};

/** Rows in order, the last @last of them (0: all), those whose agent, subject or kind name is
 * @match (NULL: all).  @fn returns false to stop. */
NODISCARD bool audit_list(const char *dir, uint64_t last, const char *match,
                          bool (*fn)(void *arg, const struct audit_row *row), void *arg,
                          struct error *err);
const char *audit_kind_name(enum audit_kind kind);
