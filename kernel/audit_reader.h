/*
 * audit_reader - one file of the audit, to be read.
 *
 * Ownership: audit_reader_fini().  Threads: one at a time.
 */
#pragma once

#include "kernel/audit_db.h"
#include "kernel/audit_files.h"

struct sqlite3;
struct sqlite3_stmt;

#define AUDIT_READER_COLUMNS                                                                      \
    "seq, record, wall_ns, kind, syscall, server, agent, subject, decision, rule, detail, prev, " \
    "hash"

enum {
    AUDIT_READER_SEQ,
    AUDIT_READER_RECORD,
    AUDIT_READER_WALL,
    AUDIT_READER_KIND,
    AUDIT_READER_SYSCALL,
    AUDIT_READER_SERVER,
    AUDIT_READER_FIELDS,
    AUDIT_READER_PREV = AUDIT_READER_FIELDS + AUDIT_FIELD_COUNT,
    AUDIT_READER_HASH,
};

struct audit_reader {
    char name[AUDIT_FILES_NAME_BYTES];
    struct sqlite3 *sql;
    struct sqlite3_stmt *stmt;
};

/** @ret zeroed.  *ret_missing: there is no such file, and nothing has been opened. */
NODISCARD bool audit_reader_open(struct audit_reader *ret, const char *dir, unsigned number,
                                 bool *ret_missing, struct error *err);
void audit_reader_fini(struct audit_reader *r);
NODISCARD bool audit_reader_prepare(struct audit_reader *r, const char *text, struct error *err);

/** What the prepared statement for AUDIT_READER_COLUMNS stands at; borrowed until its next step. */
void audit_reader_row(const struct audit_reader *r, struct audit_stored *ret);

/** Whether the table is there; older programs made fewer. */
NODISCARD bool audit_reader_has(struct audit_reader *r, const char *table, bool *ret,
                                struct error *err);
bool audit_reader_failed(const struct audit_reader *r, struct error *err);

/** What servers that are gone have left in their journals goes into the log, to which it belongs.
 */
NODISCARD bool audit_reader_move_orphans(const char *dir, struct error *err);
