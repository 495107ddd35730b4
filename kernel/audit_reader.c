#include "kernel/audit_reader.h"

#include <errno.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "kernel/audit_orphan.h"

#define BUSY_MS 10000

void audit_reader_fini(struct audit_reader *r)
{
    (void)sqlite3_finalize(STEAL(r->stmt));
    (void)sqlite3_close(STEAL(r->sql));
}

bool audit_reader_failed(const struct audit_reader *r, struct error *err)
{
    int rc = r->sql ? sqlite3_errcode(r->sql) : SQLITE_NOMEM;

    return error_set(err, rc == SQLITE_NOMEM ? ERR_NOMEM : ERR_IO, "read the audit database %s: %s",
                     r->name, r->sql ? sqlite3_errmsg(r->sql) : "out of memory");
}

bool audit_reader_open(struct audit_reader *ret, const char *dir, unsigned number,
                       bool *ret_missing, struct error *err)
{
    char path[PATH_MAX];
    struct stat st;

    *ret_missing = false;
    (void)audit_files_name(number, ret->name);
    if (!audit_files_path(dir, number, path, err))
        return false;
    if (stat(path, &st) < 0) {
        *ret_missing = errno == ENOENT;
        return *ret_missing || error_set_errno(err, errno, "open %s", path);
    }
    /* Readable and writable: a reader of a write-ahead log takes part in its locks. */
    if (sqlite3_open_v2(path, &ret->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        return audit_reader_failed(ret, err);
    (void)sqlite3_busy_timeout(ret->sql, BUSY_MS);
    (void)sqlite3_db_config(ret->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return true;
}

bool audit_reader_prepare(struct audit_reader *r, const char *text, struct error *err)
{
    (void)sqlite3_finalize(STEAL(r->stmt));
    return sqlite3_prepare_v2(r->sql, text, -1, &r->stmt, NULL) == SQLITE_OK ||
           audit_reader_failed(r, err);
}

static struct audit_text column_text(sqlite3_stmt *stmt, int at)
{
    const char *data = (const char *)sqlite3_column_text(stmt, at);

    return (struct audit_text){ data ? data : "",
                                data ? (size_t)sqlite3_column_bytes(stmt, at) : 0 };
}

void audit_reader_row(const struct audit_reader *r, struct audit_stored *ret)
{
    sqlite3_stmt *stmt = r->stmt;

    *ret = (struct audit_stored){
        .seq = (uint64_t)sqlite3_column_int64(stmt, AUDIT_READER_SEQ),
        .server = column_text(stmt, AUDIT_READER_SERVER),
        .record = { .sequence = (uint64_t)sqlite3_column_int64(stmt, AUDIT_READER_RECORD),
                    .wall_ns = sqlite3_column_int64(stmt, AUDIT_READER_WALL),
                    .kind = (uint64_t)sqlite3_column_int64(stmt, AUDIT_READER_KIND),
                    .syscall = (uint64_t)sqlite3_column_int64(stmt, AUDIT_READER_SYSCALL) },
    };
    for (int i = 0; i < AUDIT_FIELD_COUNT; i++)
        ret->record.text[i] = column_text(stmt, AUDIT_READER_FIELDS + i);
}

bool audit_reader_has(struct audit_reader *r, const char *table, bool *ret, struct error *err)
{
    int rc;

    if (!audit_reader_prepare(
            r, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", err))
        return false;
    (void)sqlite3_bind_text(r->stmt, 1, table, -1, SQLITE_STATIC);
    rc = sqlite3_step(r->stmt);
    *ret = rc == SQLITE_ROW && sqlite3_column_int(r->stmt, 0) == 1;
    return rc == SQLITE_ROW || audit_reader_failed(r, err);
}

bool audit_reader_move_orphans(const char *dir, struct error *err)
{
    CLEANUP(audit_db_freep) struct audit_db *db = NULL;
    bool found = true;

    if (!audit_orphan_any(dir))
        return true;
    db = audit_db_open(dir, false, NULL, err);
    if (!db)
        return false;
    while (found) {
        if (!audit_orphan_move(db, dir, &found, err))
            return false;
    }
    return true;
}
