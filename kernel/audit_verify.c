#include "kernel/audit.h"

#include <errno.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/audit_orphan.h"

#define BUSY_MS 10000

#define ROW_COLUMNS                                                                               \
    "seq, record, wall_ns, kind, syscall, server, agent, subject, decision, rule, detail, prev, " \
    "hash"

enum {
    COLUMN_SEQ,
    COLUMN_RECORD,
    COLUMN_WALL,
    COLUMN_KIND,
    COLUMN_SYSCALL,
    COLUMN_SERVER,
    COLUMN_FIELDS,
    COLUMN_PREV = COLUMN_FIELDS + AUDIT_FIELD_COUNT,
    COLUMN_HASH,
};

struct reader {
    sqlite3 *sql;
    sqlite3_stmt *stmt;
};

static void reader_fini(struct reader *r)
{
    (void)sqlite3_finalize(r->stmt);
    (void)sqlite3_close(r->sql);
}

static bool sql_failed(struct reader *r, struct error *err)
{
    int rc = r->sql ? sqlite3_errcode(r->sql) : SQLITE_NOMEM;

    return error_set(err, rc == SQLITE_NOMEM ? ERR_NOMEM : ERR_IO, "read the audit database: %s",
                     r->sql ? sqlite3_errmsg(r->sql) : "out of memory");
}

static bool db_path(const char *dir, char path[PATH_MAX], struct error *err)
{
    if (snprintf(path, PATH_MAX, "%s/" AUDIT_DB_NAME, dir) >= PATH_MAX)
        return error_set_errno(err, ENAMETOOLONG, "audit folder");
    return true;
}

/* What servers that are gone have left in their journals belongs to the log. */
static bool move_orphans(const char *dir, struct error *err)
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

/* *ret_missing: there is no database. */
static bool reader_open(struct reader *r, const char *dir, bool *ret_missing, struct error *err)
{
    char path[PATH_MAX];
    struct stat st;

    *ret_missing = false;
    if (!db_path(dir, path, err))
        return false;
    if (stat(path, &st) < 0) {
        *ret_missing = errno == ENOENT;
        return *ret_missing || error_set_errno(err, errno, "open %s", path);
    }
    /* Readable and writable: a reader of a write-ahead log takes part in its locks. */
    if (sqlite3_open_v2(path, &r->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        return sql_failed(r, err);
    (void)sqlite3_busy_timeout(r->sql, BUSY_MS);
    (void)sqlite3_db_config(r->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return true;
}

static bool reader_prepare(struct reader *r, const char *text, struct error *err)
{
    (void)sqlite3_finalize(STEAL(r->stmt));
    return sqlite3_prepare_v2(r->sql, text, -1, &r->stmt, NULL) == SQLITE_OK || sql_failed(r, err);
}

static struct audit_text column_text(sqlite3_stmt *stmt, int at)
{
    const char *data = (const char *)sqlite3_column_text(stmt, at);

    return (struct audit_text){ data ? data : "",
                                data ? (size_t)sqlite3_column_bytes(stmt, at) : 0 };
}

static void read_row(sqlite3_stmt *stmt, struct audit_stored *ret)
{
    *ret = (struct audit_stored){
        .seq = (uint64_t)sqlite3_column_int64(stmt, COLUMN_SEQ),
        .server = column_text(stmt, COLUMN_SERVER),
        .record = { .sequence = (uint64_t)sqlite3_column_int64(stmt, COLUMN_RECORD),
                    .wall_ns = sqlite3_column_int64(stmt, COLUMN_WALL),
                    .kind = (uint64_t)sqlite3_column_int64(stmt, COLUMN_KIND),
                    .syscall = (uint64_t)sqlite3_column_int64(stmt, COLUMN_SYSCALL) },
    };
    for (int i = 0; i < AUDIT_FIELD_COUNT; i++)
        ret->record.text[i] = column_text(stmt, COLUMN_FIELDS + i);
}

/* ---- verify ---- */

/* How far the walk along the chain has come. */
struct walk {
    struct audit_report *report;
    uint8_t hash[SHA256_BYTES]; /* of the last row seen */
    uint64_t mark_rows;         /* what the file `head` says; 0 rows: nothing */
    char mark_hash[SHA256_HEX];
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

static void check_mark(struct walk *walk, uint64_t seq)
{
    char hex[SHA256_HEX];

    if (!walk->mark_rows || walk->mark_rows != seq)
        return;
    sha256_hex(walk->hash, hex);
    if (strcmp(hex, walk->mark_hash) != 0)
        find_fault(walk->report, seq,
                   "row %llu: it is not the one that the file \"head\" has noted: the chain was "
                   "written anew",
                   (unsigned long long)seq);
}

static void check_row(struct walk *walk, sqlite3_stmt *stmt)
{
    struct audit_report *report = walk->report;
    uint64_t want = report->rows + 1;
    uint8_t hash[SHA256_BYTES];
    struct audit_stored row;

    read_row(stmt, &row);
    if (row.seq != want)
        find_fault(report, want, "row %llu is missing: row %lld comes next",
                   (unsigned long long)want, (long long)row.seq);
    audit_db_hash(walk->hash, &row, hash);
    if (!is_hash(stmt, COLUMN_PREV, walk->hash))
        find_fault(report, row.seq,
                   "row %llu: it does not follow the row before it: one was changed, removed, "
                   "inserted or moved",
                   (unsigned long long)row.seq);
    else if (!is_hash(stmt, COLUMN_HASH, hash))
        find_fault(report, row.seq, "row %llu: its hash does not match its fields",
                   (unsigned long long)row.seq);
    report->rows++;
    memcpy(walk->hash, hash, sizeof hash);
    check_mark(walk, row.seq);
}

static bool walk_rows(struct reader *r, struct walk *walk, struct error *err)
{
    int rc;

    if (!reader_prepare(r, "SELECT " ROW_COLUMNS " FROM audit ORDER BY seq", err))
        return false;
    while ((rc = sqlite3_step(r->stmt)) == SQLITE_ROW)
        check_row(walk, r->stmt);
    return rc == SQLITE_DONE || sql_failed(r, err);
}

static void check_ends(struct walk *walk, uint64_t head_rows, const char *where)
{
    struct audit_report *report = walk->report;

    if (head_rows > report->rows)
        find_fault(report, report->rows + 1,
                   "row %llu is missing: %s counts %llu rows, so the last ones were removed, or a "
                   "power cut took them",
                   (unsigned long long)report->rows + 1, where, (unsigned long long)head_rows);
}

static bool check_head(struct reader *r, struct walk *walk, struct error *err)
{
    struct audit_report *report = walk->report;
    uint64_t rows;
    int rc;

    if (!reader_prepare(r, "SELECT rows, hash FROM head WHERE one = 1", err))
        return false;
    rc = sqlite3_step(r->stmt);
    if (rc == SQLITE_DONE) {
        if (report->rows)
            find_fault(report, report->rows, "the end of the chain is not noted in the table head");
        return true;
    }
    if (rc != SQLITE_ROW)
        return sql_failed(r, err);
    rows = (uint64_t)sqlite3_column_int64(r->stmt, 0);
    check_ends(walk, rows, "the table head");
    if (rows < report->rows)
        find_fault(report, rows + 1, "row %llu: the table head counts only %llu rows",
                   (unsigned long long)rows + 1, (unsigned long long)rows);
    if (!is_hash(r->stmt, 1, walk->hash))
        find_fault(report, report->rows,
                   "the last row is not the one that the table head has noted");
    return true;
}

static bool has_tables(struct reader *r, bool *ret, struct error *err)
{
    int rc;

    if (!reader_prepare(r,
                        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN "
                        "('audit', 'head')",
                        err))
        return false;
    rc = sqlite3_step(r->stmt);
    *ret = rc == SQLITE_ROW && sqlite3_column_int(r->stmt, 0) == 2;
    return rc == SQLITE_ROW || sql_failed(r, err);
}

static bool walk_chain(struct reader *r, struct walk *walk, struct error *err)
{
    bool tables;

    /* One snapshot for all that is read. */
    if (sqlite3_exec(r->sql, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        return sql_failed(r, err);
    if (!has_tables(r, &tables, err))
        return false;
    return !tables || (walk_rows(r, walk, err) && check_head(r, walk, err));
}

bool audit_verify(const char *dir, struct audit_report *ret, struct error *err)
{
    CLEANUP(reader_fini) struct reader r = { NULL, NULL };
    struct walk walk = { .report = ret };
    bool missing, marked;

    memset(ret, 0, sizeof *ret);
    if (!move_orphans(dir, err))
        return false;
    /* Before the snapshot: so the file cannot be ahead of it. */
    marked = audit_db_read_head(dir, &walk.mark_rows, walk.mark_hash);
    if (!reader_open(&r, dir, &missing, err))
        return false;
    if (missing && !marked)
        return error_set(err, ERR_NOT_FOUND, "there is no audit log in %s", dir);
    if (!missing && !walk_chain(&r, &walk, err))
        return false;
    check_ends(&walk, walk.mark_rows, "the file \"head\"");
    if (marked && !walk.mark_rows)
        find_fault(ret, ret->rows, "the file \"head\" cannot be read");
    else if (!marked && ret->rows)
        find_fault(ret, ret->rows, "the file \"head\" is missing");
    sha256_hex(walk.hash, ret->head);
    return true;
}

/* ---- list ---- */

static int kind_of(const char *name)
{
    for (int kind = 0; kind < AUDIT_KIND_COUNT; kind++) {
        if (!strcmp(audit_kind_name((enum audit_kind)kind), name))
            return kind;
    }
    return -1;
}

static bool prepare_list(struct reader *r, uint64_t last, const char *match, struct error *err)
{
    if (!reader_prepare(r,
                        "SELECT * FROM (SELECT " ROW_COLUMNS " FROM audit"
                        " WHERE ?1 IS NULL OR agent = ?1 OR subject = ?1 OR kind = ?2"
                        " ORDER BY seq DESC LIMIT ?3) ORDER BY seq",
                        err))
        return false;
    if (match)
        (void)sqlite3_bind_text(r->stmt, 1, match, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int(r->stmt, 2, match ? kind_of(match) : -1);
    (void)sqlite3_bind_int64(r->stmt, 3, last && last < INT64_MAX ? (sqlite3_int64)last : -1);
    return true;
}

bool audit_list(const char *dir, uint64_t last, const char *match,
                bool (*fn)(void *arg, const struct audit_row *row), void *arg, struct error *err)
{
    CLEANUP(reader_fini) struct reader r = { NULL, NULL };
    bool missing;
    int rc;

    if (!move_orphans(dir, err) || !reader_open(&r, dir, &missing, err))
        return false;
    if (missing)
        return error_set(err, ERR_NOT_FOUND, "there is no audit log in %s", dir);
    if (!prepare_list(&r, last, match, err))
        return false;
    while ((rc = sqlite3_step(r.stmt)) == SQLITE_ROW) {
        struct audit_stored stored;
        struct audit_row row;

        read_row(r.stmt, &stored);
        row = (struct audit_row){ .seq = stored.seq,
                                  .wall_ns = stored.record.wall_ns,
                                  .kind = (enum audit_kind)stored.record.kind,
                                  .syscall = stored.record.syscall,
                                  .server = stored.server.data,
                                  .agent = stored.record.text[AUDIT_FIELD_AGENT].data,
                                  .subject = stored.record.text[AUDIT_FIELD_SUBJECT].data,
                                  .decision = stored.record.text[AUDIT_FIELD_DECISION].data,
                                  .rule = stored.record.text[AUDIT_FIELD_RULE].data,
                                  .detail = stored.record.text[AUDIT_FIELD_DETAIL].data };
        if (!fn(arg, &row))
            return true;
    }
    return rc == SQLITE_DONE || sql_failed(&r, err);
}
