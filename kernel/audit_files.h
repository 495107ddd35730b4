/*
 * audit_files - the files that hold the audit's rows: audit.db first, then audit-000001.db and so
 * on.  The highest number is the one that is being written.
 *
 * A number is never used again, and no file is ever renamed: another server may have it open.
 * Threads: any.  Blocking: on the disk.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/error.h"

#define AUDIT_FILES_NAME_BYTES 32u

struct audit_files {
    unsigned *numbers; /* ascending; owned */
    size_t count;
};

/** The files in @dir; none is no failure. */
NODISCARD bool audit_files_list(const char *dir, struct audit_files *ret, struct error *err);
void audit_files_fini(struct audit_files *files);

/** "audit-000001.db" for 1, "audit.db" for 0; returns @buf. */
const char *audit_files_name(unsigned number, char buf[AUDIT_FILES_NAME_BYTES]);

NODISCARD bool audit_files_path(const char *dir, unsigned number, char path[PATH_MAX],
                                struct error *err);

/** With what SQLite keeps beside it. */
void audit_files_remove(const char *dir, unsigned number);
