/*
 * audit_db - the database of the audit: a chain of rows, each with the hash of the one before it.
 *
 * A row's hash is the SHA-256 of "AIOS audit row 1\n", the hash before it (32 zero bytes for row
 * 1), its numbers (seq, record, wall_ns, kind, syscall: 8 bytes each, little-endian) and its
 * strings (server, agent, subject, decision, rule, detail: a length of 4 bytes, little-endian, then
 * the bytes).  Row and hash of the end of the chain stand in the table `head`, written by the same
 * transaction, and in the file `head` beside the database, written right after it; without them
 * nobody would miss the last rows.
 *
 * The rows lie in one file after another (audit_files.h, audit_rotate.c); numbers and hashes go on
 * from file to file.  A file's `origin` is where its chain begins, `closed` where it has ended.
 *
 * `journals` says up to which record each server's journal is in the rows, in the same
 * transaction again: a server that is killed between commit and release leaves records that are
 * there already, and they are passed over.
 *
 * Ownership: audit_db_free().  Threads: one at a time.
 * Blocking: on the disk, and on other servers' transactions (up to 10 s; @give_up shortens it).
 */
#pragma once

#include <stdatomic.h>

#include "kernel/audit_journal.h"
#include "kernel/base/sha256.h"

#define AUDIT_DB_NAME   "audit.db"
#define AUDIT_HEAD_NAME "head"

/* Rows of our own about files: kind AUDIT_SERVER, no server, details that begin with the name. */
#define AUDIT_ROTATE_SUBJECT "audit"
#define AUDIT_ROTATE_BEGUN   "begun"   /* this file follows that one */
#define AUDIT_ROTATE_REMOVED "removed" /* that one is to be removed */

struct audit_db;

/** Makes the database if there is none.  @give_up (may be NULL): once true, waiting for others
 *  ends soon. */
NODISCARD struct audit_db *audit_db_open(const char *dir, bool power_safe,
                                         const atomic_bool *give_up, struct error *err);
void audit_db_free(struct audit_db *db);

/** From now on a file that has grown to @max_bytes is the last but one, and of older ones @keep
 *  stay.  0: never, and all of them.  Without this no file is ever closed. */
void audit_db_set_rotation(struct audit_db *db, int64_t max_bytes, unsigned keep);
DEFINE_CLEANUP(struct audit_db, audit_db_free)

/** Put what @cursor still has of @j, or a good part of it, into one transaction.  On success
 *  cursor->passed has been moved and *ret_last (may be NULL) is the last record's number, if there
 *  was one.  *ret_torn: the rest cannot be read. */
NODISCARD bool audit_db_move(struct audit_db *db, const struct audit_journal *j,
                             struct audit_cursor *cursor, uint64_t *ret_last, bool *ret_torn,
                             struct error *err);

/** Add a row of our own: records of the journal @name are lost. */
NODISCARD bool audit_db_note_loss(struct audit_db *db, const char *name, const char *detail,
                                  struct error *err);

/** The journal of @server is gone: nobody will ask what was moved of it.  A failure does no harm.
 */
void audit_db_forget(struct audit_db *db, const char *server);

struct audit_stored {
    uint64_t seq;
    struct audit_text server;
    struct audit_record record;
};

void audit_db_hash(const uint8_t prev[SHA256_BYTES], const struct audit_stored *row,
                   uint8_t ret[SHA256_BYTES]);

/** What the file `head` in @dir says.  False: it is missing; *ret_rows is 0 when it is unreadable.
 */
bool audit_db_read_head(const char *dir, uint64_t *ret_rows, char ret_hash[SHA256_HEX]);
