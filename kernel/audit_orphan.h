/*
 * audit_orphan - the journals of servers that are gone: moved into the database, and removed.
 *
 * Threads: any, with a database of one's own.  Blocking: on the disk.
 */
#pragma once

#include "kernel/audit_db.h"

/** Move and unlink one orphaned journal in @dir.  *ret_found: there was one.  One that cannot be
 *  read is renamed to damaged-…, and a row says so. */
NODISCARD bool audit_orphan_move(struct audit_db *db, const char *dir, bool *ret_found,
                                 struct error *err);

/** Whether @dir has any journal, in use or not. */
bool audit_orphan_any(const char *dir);
