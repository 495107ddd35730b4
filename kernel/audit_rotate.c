/* From one file of the audit to the next.
 *
 * The transaction that finds its file too big writes, beside its rows, the end of the chain into
 * the table `closed`: nobody adds a row to that file any more.  Whoever wants to add one next makes
 * the file with the next number, or finds it made.  Its first transaction takes over, from the
 * closed file, the end of the chain and what was moved of which journal, and adds the first row,
 * which says so.  Every step is one transaction and any server can take the next, so it does not
 * matter when one is killed.
 *
 * Files beyond those to be kept are removed after a row has said that they are: a file that is gone
 * without such a row was taken away by somebody else. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "kernel/audit_db_internal.h"
#include "kernel/base/clock.h"

#define BUSY_MS 2000

bool audit_rotate_is_closed(struct audit_db *db, bool *ret, struct error *err)
{
    int rc = sqlite3_step(db->get_closed);

    *ret = rc == SQLITE_ROW;
    (void)sqlite3_reset(db->get_closed);
    return rc == SQLITE_ROW || rc == SQLITE_DONE || audit_db_failed(db, "read the end", err);
}

bool audit_rotate_next(struct audit_db *db, struct error *err)
{
    unsigned next = db->number + 1;
    struct audit_files files;

    if (!audit_files_list(db->dir, &files, err))
        return false;
    if (files.count)
        next = MAX(next, files.numbers[files.count - 1]);
    audit_files_fini(&files);
    /* Whoever is the last to leave a file folds its write-ahead log back into it. */
    if (db->sql)
        (void)sqlite3_db_config(db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    audit_db_close(db);
    if (audit_db_open_number(db, next, err))
        return true;
    /* None is open now; the next attempt looks again. */
    audit_db_close(db);
    db->number = next - 1;
    return false;
}

/* ---- the file before ---- */

static bool older_failed(sqlite3 *sql, const char *name, struct error *err)
{
    return error_set(err, ERR_IO, "audit database %s: %s", name,
                     sql ? sqlite3_errmsg(sql) : "out of memory");
}

static bool query_end(sqlite3 *sql, const char *text, struct audit_chain *ret, bool *ret_found)
{
    sqlite3_stmt *stmt = NULL;
    bool ok = sqlite3_prepare_v2(sql, text, -1, &stmt, NULL) == SQLITE_OK;
    int rc = ok ? sqlite3_step(stmt) : SQLITE_ERROR;

    *ret_found = rc == SQLITE_ROW && sqlite3_column_bytes(stmt, 1) == SHA256_BYTES;
    if (*ret_found) {
        ret->rows = (uint64_t)sqlite3_column_int64(stmt, 0);
        memcpy(ret->hash, sqlite3_column_blob(stmt, 1), SHA256_BYTES);
    }
    (void)sqlite3_finalize(stmt);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* Where it ends.  A power cut may have taken the mark, and rows with it: then it ends where it is
 * now, which the check of the chain will tell. */
static bool settle_end(sqlite3 *sql, struct audit_chain *ret)
{
    bool found;

    *ret = (struct audit_chain){ .rows = 0 };
    if (!query_end(sql, "SELECT rows, hash FROM closed WHERE one = 1", ret, &found))
        return false;
    if (found)
        return true;
    if (sqlite3_exec(sql, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return false;
    if (query_end(sql, "SELECT rows, hash FROM head WHERE one = 1", ret, &found) &&
        sqlite3_exec(sql,
                     "INSERT OR IGNORE INTO closed SELECT 1, rows, hash FROM head;"
                     "INSERT OR IGNORE INTO closed VALUES (1, 0, zeroblob(32)); COMMIT",
                     NULL, NULL, NULL) == SQLITE_OK)
        return true;
    (void)sqlite3_exec(sql, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

static bool copy_drained(struct audit_db *db, sqlite3 *sql, const char *name, struct error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool ok = true;
    int rc;

    if (sqlite3_prepare_v2(sql, "SELECT server, drained FROM journals", -1, &stmt, NULL) !=
        SQLITE_OK)
        return older_failed(sql, name, err);
    while (ok && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        (void)sqlite3_bind_value(db->set_drained, 1, sqlite3_column_value(stmt, 0));
        (void)sqlite3_bind_value(db->set_drained, 2, sqlite3_column_value(stmt, 1));
        ok = audit_db_finish(db, db->set_drained, "take over what was moved", err);
    }
    if (ok && rc != SQLITE_DONE)
        ok = older_failed(sql, name, err);
    (void)sqlite3_finalize(stmt);
    return ok;
}

/* The end of the file @number; with @db, what was moved is copied there as well. */
static bool read_older(const char *dir, unsigned number, struct audit_db *db,
                       struct audit_chain *ret, struct error *err)
{
    char path[PATH_MAX], name[AUDIT_FILES_NAME_BYTES];
    sqlite3 *sql = NULL;
    bool ok;

    (void)audit_files_name(number, name);
    if (!audit_files_path(dir, number, path, err))
        return false;
    ok =
        sqlite3_open_v2(path, &sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK;
    if (ok) {
        (void)sqlite3_busy_timeout(sql, BUSY_MS);
        ok = settle_end(sql, ret);
    }
    if (!ok)
        (void)older_failed(sql, name, err);
    else if (db)
        ok = copy_drained(db, sql, name, err);
    (void)sqlite3_close(sql);
    return ok;
}

/* ---- the first rows ---- */

static bool note(struct audit_db *db, struct audit_chain *chain, const char *decision,
                 const char *detail, struct error *err)
{
    struct audit_record record = { .kind = AUDIT_SERVER, .wall_ns = clock_wall_ns() };

    record.text[AUDIT_FIELD_SUBJECT] =
        (struct audit_text){ AUDIT_ROTATE_SUBJECT, sizeof AUDIT_ROTATE_SUBJECT - 1 };
    record.text[AUDIT_FIELD_DECISION] = (struct audit_text){ decision, strlen(decision) };
    record.text[AUDIT_FIELD_DETAIL] = (struct audit_text){ detail, strlen(detail) };
    return audit_db_append(db, chain, "", &record, err);
}

static bool note_begun(struct audit_db *db, struct audit_chain *chain, struct error *err)
{
    char name[AUDIT_FILES_NAME_BYTES], hex[SHA256_HEX], detail[160];

    sha256_hex(chain->hash, hex);
    (void)snprintf(detail, sizeof detail, "%s, after row %llu with hash %s",
                   audit_files_name(db->number - 1, name), (unsigned long long)chain->rows, hex);
    return note(db, chain, AUDIT_ROTATE_BEGUN, detail, err);
}

static bool is_too_old(const struct audit_db *db, unsigned number)
{
    return db->keep && db->number > db->keep && number < db->number - db->keep;
}

static bool note_removed(struct audit_db *db, struct audit_chain *chain, unsigned number,
                         struct error *err)
{
    char name[AUDIT_FILES_NAME_BYTES], hex[SHA256_HEX], detail[160];
    struct audit_chain end;

    (void)audit_files_name(number, name);
    if (read_older(db->dir, number, NULL, &end, NULL)) {
        sha256_hex(end.hash, hex);
        (void)snprintf(detail, sizeof detail, "%s, up to row %llu with hash %s", name,
                       (unsigned long long)end.rows, hex);
    } else {
        (void)snprintf(detail, sizeof detail, "%s, which cannot be read", name);
    }
    return note(db, chain, AUDIT_ROTATE_REMOVED, detail, err);
}

static bool note_all_removed(struct audit_db *db, struct audit_chain *chain, struct error *err)
{
    struct audit_files files;
    bool ok;

    if (!audit_files_list(db->dir, &files, err))
        return false;
    ok = true;
    for (size_t i = 0; ok && i < files.count; i++) {
        if (is_too_old(db, files.numbers[i]))
            ok = note_removed(db, chain, files.numbers[i], err);
    }
    audit_files_fini(&files);
    return ok;
}

static bool write_origin(struct audit_db *db, const struct audit_chain *chain, struct error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool ok;

    if (sqlite3_prepare_v2(db->sql, "INSERT INTO origin VALUES (1, ?, ?)", -1, &stmt, NULL) !=
        SQLITE_OK)
        return audit_db_failed(db, "write the origin", err);
    (void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)chain->rows);
    (void)sqlite3_bind_blob(stmt, 2, chain->hash, SHA256_BYTES, SQLITE_STATIC);
    ok = audit_db_finish(db, stmt, "write the origin", err);
    (void)sqlite3_finalize(stmt);
    return ok;
}

bool audit_rotate_start(struct audit_db *db, struct audit_chain *chain, struct error *err)
{
    db->started = true;
    return read_older(db->dir, db->number - 1, db, chain, err) && write_origin(db, chain, err) &&
           note_begun(db, chain, err) && note_all_removed(db, chain, err);
}

/* ---- the end ---- */

bool audit_rotate_end(struct audit_db *db, const struct audit_chain *chain, struct error *err)
{
    int64_t bytes;
    int rc;

    if (!db->max_bytes)
        return true;
    rc = sqlite3_step(db->get_bytes);
    bytes = rc == SQLITE_ROW ? sqlite3_column_int64(db->get_bytes, 0) : 0;
    (void)sqlite3_reset(db->get_bytes);
    if (rc != SQLITE_ROW)
        return audit_db_failed(db, "measure it", err);
    if (bytes < db->max_bytes)
        return true;
    (void)sqlite3_bind_int64(db->set_closed, 1, (sqlite3_int64)chain->rows);
    (void)sqlite3_bind_blob(db->set_closed, 2, chain->hash, SHA256_BYTES, SQLITE_STATIC);
    return audit_db_finish(db, db->set_closed, "close it", err);
}

void audit_rotate_committed(struct audit_db *db)
{
    struct audit_files files;

    if (!db->started || !audit_files_list(db->dir, &files, NULL))
        return;
    for (size_t i = 0; i < files.count; i++) {
        if (is_too_old(db, files.numbers[i]))
            audit_files_remove(db->dir, files.numbers[i]);
    }
    audit_files_fini(&files);
}
