/* The chain of the audit, from the first row that is kept to the last, over all files. */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/audit.h"
#include "kernel/audit_reader.h"

/* A file that goes while it is waited for has been removed by a server: then from the start. */
#define TRIES 3

/* How far the walk along the chain has come. */
struct walk {
    const char *dir;
    struct audit_report *report;
    uint64_t seq;               /* of the last row seen */
    uint8_t hash[SHA256_BYTES]; /* its hash */
    uint64_t mark_rows;         /* what the file `head` says; 0 rows: nothing */
    char mark_hash[SHA256_HEX];
    unsigned oldest;      /* number of the first file that there is */
    bool removal_noted;   /* a row says that the file before that one was to go */
    bool closed, changed; /* the latest file has ended; a file has gone while we looked */
};

static void PRINTF_LIKE(3, 4)
    find_fault(struct audit_report *report, uint64_t row, const char *fmt, ...)
{
    va_list ap;

    if (report->problem[0])
        return; /* what follows a broken row proves nothing */
    report->first_bad = row;
    va_start(ap, fmt);
    (void)vsnprintf(report->problem, sizeof report->problem, fmt, ap);
    va_end(ap);
}

static bool is_hash(sqlite3_stmt *stmt, int at, const uint8_t hash[SHA256_BYTES])
{
    const void *blob = sqlite3_column_blob(stmt, at);

    return blob && sqlite3_column_bytes(stmt, at) == SHA256_BYTES &&
           !memcmp(blob, hash, SHA256_BYTES);
}

/* ---- rows ---- */

static void check_mark(struct walk *walk, uint64_t seq)
{
    char hex[SHA256_HEX];

    if (!walk->mark_rows || walk->mark_rows != seq)
        return;
    sha256_hex(walk->hash, hex);
    if (strcmp(hex, walk->mark_hash) != 0)
        find_fault(walk->report, seq,
                   "row %" PRIu64 ": it is not the one that the file \"head\" has noted: the chain "
                   "was written anew",
                   seq);
}

static bool is(const struct audit_text *text, const char *want)
{
    return text->len == strlen(want) && !memcmp(text->data, want, text->len);
}

/* "audit.db, up to row 17 …" about the file before the oldest. */
static void look_for_removal(struct walk *walk, const struct audit_stored *row)
{
    const struct audit_text *detail = &row->record.text[AUDIT_FIELD_DETAIL];
    char name[AUDIT_FILES_NAME_BYTES];
    size_t len;

    if (!walk->oldest || row->record.kind != AUDIT_SERVER || row->server.len ||
        !is(&row->record.text[AUDIT_FIELD_SUBJECT], AUDIT_ROTATE_SUBJECT) ||
        !is(&row->record.text[AUDIT_FIELD_DECISION], AUDIT_ROTATE_REMOVED))
        return;
    len = strlen(audit_files_name(walk->oldest - 1, name));
    if (detail->len > len && !memcmp(detail->data, name, len) && detail->data[len] == ',')
        walk->removal_noted = true;
}

static void check_row(struct walk *walk, const struct audit_reader *r)
{
    struct audit_report *report = walk->report;
    uint64_t want = walk->seq + 1;
    uint8_t hash[SHA256_BYTES];
    struct audit_stored row;

    audit_reader_row(r, &row);
    if (row.seq != want)
        find_fault(report, want, "row %" PRIu64 " is missing: row %" PRId64 " comes next", want,
                   (int64_t)row.seq);
    audit_db_hash(walk->hash, &row, hash);
    if (!is_hash(r->stmt, AUDIT_READER_PREV, walk->hash))
        find_fault(report, row.seq,
                   "row %" PRIu64 ": it does not follow the row before it: one was changed, "
                   "removed, inserted or moved",
                   row.seq);
    else if (!is_hash(r->stmt, AUDIT_READER_HASH, hash))
        find_fault(report, row.seq, "row %" PRIu64 ": its hash does not match its fields", row.seq);
    report->rows++;
    walk->seq = want;
    memcpy(walk->hash, hash, sizeof hash);
    check_mark(walk, row.seq);
    look_for_removal(walk, &row);
}

static bool walk_rows(struct audit_reader *r, struct walk *walk, struct error *err)
{
    int rc;

    if (!audit_reader_prepare(r, "SELECT " AUDIT_READER_COLUMNS " FROM audit ORDER BY seq", err))
        return false;
    while ((rc = sqlite3_step(r->stmt)) == SQLITE_ROW)
        check_row(walk, r);
    return rc == SQLITE_DONE || audit_reader_failed(r, err);
}

/* ---- ends ---- */

static void check_ends(struct walk *walk, uint64_t head_rows, const char *where)
{
    if (head_rows > walk->seq)
        find_fault(walk->report, walk->seq + 1,
                   "row %" PRIu64 " is missing: %s counts %" PRIu64 " rows, so the last ones were "
                   "removed, or a power cut took them",
                   walk->seq + 1, where, head_rows);
}

/* The one row of @table, {rows, hash}, must be where the walk has come to. */
static bool check_noted(struct audit_reader *r, struct walk *walk, const char *select,
                        const char *where, bool *ret_there, struct error *err)
{
    struct audit_report *report = walk->report;
    uint64_t rows;
    int rc;

    if (!audit_reader_prepare(r, select, err))
        return false;
    rc = sqlite3_step(r->stmt);
    *ret_there = rc == SQLITE_ROW;
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE || audit_reader_failed(r, err);
    rows = (uint64_t)sqlite3_column_int64(r->stmt, 0);
    check_ends(walk, rows, where);
    if (rows < walk->seq)
        find_fault(report, rows + 1, "row %" PRIu64 ": %s counts only %" PRIu64 " rows", rows + 1,
                   where, rows);
    if (!is_hash(r->stmt, 1, walk->hash))
        find_fault(report, walk->seq, "the last row is not the one that %s has noted", where);
    return true;
}

static bool check_end(struct audit_reader *r, struct walk *walk, uint64_t before, struct error *err)
{
    bool there, has;

    if (!check_noted(r, walk, "SELECT rows, hash FROM head WHERE one = 1", "the table head", &there,
                     err))
        return false;
    if (!there && walk->seq > before)
        find_fault(walk->report, walk->seq, "the end of the chain is not noted in the table head");
    walk->closed = false;
    return audit_reader_has(r, "closed", &has, err) &&
           (!has || check_noted(r, walk, "SELECT rows, hash FROM closed WHERE one = 1",
                                "the table closed", &walk->closed, err));
}

/* ---- files ---- */

/* The oldest file that is kept need not be the first that ever was: it says where it begins. */
static bool read_origin(struct audit_reader *r, struct walk *walk, struct error *err)
{
    int rc;

    if (!audit_reader_prepare(r, "SELECT rows, hash FROM origin WHERE one = 1", err))
        return false;
    rc = sqlite3_step(r->stmt);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE || audit_reader_failed(r, err);
    walk->seq = (uint64_t)sqlite3_column_int64(r->stmt, 0);
    if (sqlite3_column_bytes(r->stmt, 1) == SHA256_BYTES)
        memcpy(walk->hash, sqlite3_column_blob(r->stmt, 1), SHA256_BYTES);
    walk->report->removed = walk->seq;
    return true;
}

static bool walk_tables(struct audit_reader *r, struct walk *walk, bool oldest, struct error *err)
{
    bool audit, head;
    uint64_t before;

    /* One snapshot for all that is read. */
    if (sqlite3_exec(r->sql, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        return audit_reader_failed(r, err);
    if (!audit_reader_has(r, "audit", &audit, err) || !audit_reader_has(r, "head", &head, err))
        return false;
    if (!audit || !head) {
        walk->closed = false;
        return true; /* its maker was killed, or they were taken out: then rows are missing */
    }
    if (oldest && walk->oldest && !read_origin(r, walk, err))
        return false;
    before = walk->seq;
    return walk_rows(r, walk, err) && check_end(r, walk, before, err);
}

static bool walk_file(struct walk *walk, unsigned number, bool oldest, struct error *err)
{
    CLEANUP(audit_reader_fini) struct audit_reader r = { .sql = NULL };
    char name[AUDIT_FILES_NAME_BYTES];
    bool missing;

    if (!oldest && !walk->closed)
        find_fault(walk->report, walk->seq, "%s is not closed, but %s follows it",
                   audit_files_name(number - 1, name), audit_files_name(number, r.name));
    if (!audit_reader_open(&r, walk->dir, number, &missing, err))
        return false;
    walk->changed = missing;
    walk->report->files++;
    return missing || walk_tables(&r, walk, oldest, err);
}

static void check_oldest(struct walk *walk)
{
    char name[AUDIT_FILES_NAME_BYTES];

    if (walk->oldest && !walk->removal_noted)
        find_fault(walk->report, walk->report->removed,
                   "the file %s is missing, and no row says that it was to be removed",
                   audit_files_name(walk->oldest - 1, name));
}

static bool walk_files(struct walk *walk, const struct audit_files *files, struct error *err)
{
    char name[AUDIT_FILES_NAME_BYTES];

    walk->oldest = files->count ? files->numbers[0] : 0;
    for (size_t i = 0; i < files->count && !walk->changed; i++) {
        if (i && files->numbers[i] != files->numbers[i - 1] + 1) {
            find_fault(walk->report, walk->seq + 1, "the file %s is missing",
                       audit_files_name(files->numbers[i - 1] + 1, name));
            walk->closed = true; /* said already */
        }
        if (!walk_file(walk, files->numbers[i], i == 0, err))
            return false;
    }
    return true;
}

/* *ret_again: it was not still enough to be judged. */
static bool verify_once(const char *dir, struct audit_report *ret, bool *ret_again,
                        struct error *err)
{
    struct walk walk = { .dir = dir, .report = ret };
    struct audit_files files;
    bool marked, ok;

    memset(ret, 0, sizeof *ret);
    /* Before all snapshots: so the file cannot be ahead of them. */
    marked = audit_db_read_head(dir, &walk.mark_rows, walk.mark_hash);
    if (!audit_files_list(dir, &files, err))
        return false;
    if (!files.count && !marked) {
        audit_files_fini(&files);
        return error_set(err, ERR_NOT_FOUND, "there is no audit log in %s", dir);
    }
    ok = walk_files(&walk, &files, err);
    audit_files_fini(&files);
    if (!ok)
        return false;
    check_ends(&walk, walk.mark_rows, "the file \"head\"");
    check_oldest(&walk);
    if (marked && !walk.mark_rows)
        find_fault(ret, walk.seq, "the file \"head\" cannot be read");
    else if (!marked && ret->rows)
        find_fault(ret, walk.seq, "the file \"head\" is missing");
    sha256_hex(walk.hash, ret->head);
    *ret_again = walk.changed;
    return true;
}

bool audit_verify(const char *dir, struct audit_report *ret, struct error *err)
{
    bool again = true;

    if (!audit_reader_move_orphans(dir, err))
        return false;
    for (int tries = 0; again && tries < TRIES; tries++) {
        if (!verify_once(dir, ret, &again, err))
            return false;
    }
    return true;
}
