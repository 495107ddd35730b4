#include "kernel/audit_db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/audit_db_internal.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define BATCH_RECORDS   4096u
#define BUSY_MS         10000
#define BUSY_STEP_MS    3
#define BUSY_GIVE_UP_MS 300
#define FOLLOW_TRIES    1000
#define HEAD_FILE_BYTES 86 /* 20 digits, a space, 64 hexadecimal digits, a newline */
#define CACHE_KIBIBYTES "-512"
#define WAL_LIMIT_BYTES "4194304"

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS audit ("
    " seq INTEGER PRIMARY KEY, server TEXT NOT NULL, record INTEGER NOT NULL,"
    " wall_ns INTEGER NOT NULL, kind INTEGER NOT NULL, syscall INTEGER NOT NULL,"
    " agent TEXT NOT NULL, subject TEXT NOT NULL, decision TEXT NOT NULL, rule TEXT NOT NULL,"
    " detail TEXT NOT NULL, prev BLOB NOT NULL, hash BLOB NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS head ("
    " one INTEGER PRIMARY KEY CHECK (one = 1), rows INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS journals ("
    " server TEXT PRIMARY KEY, drained INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS origin ("
    " one INTEGER PRIMARY KEY CHECK (one = 1), rows INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS closed ("
    " one INTEGER PRIMARY KEY CHECK (one = 1), rows INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;";

bool audit_db_failed(struct audit_db *db, const char *what, struct error *err)
{
    int rc = db->sql ? sqlite3_errcode(db->sql) : SQLITE_NOMEM;
    enum error_code code = ERR_IO;

    if (rc == SQLITE_NOMEM)
        code = ERR_NOMEM;
    else if (rc == SQLITE_BUSY)
        code = ERR_BUSY;
    return error_set(err, code, "audit database: %s: %s", what,
                     db->sql ? sqlite3_errmsg(db->sql) : "out of memory");
}

static int on_busy(void *arg, int count)
{
    struct audit_db *db = arg;
    bool hurry = db->give_up && atomic_load(db->give_up);

    if (count * BUSY_STEP_MS > (hurry ? BUSY_GIVE_UP_MS : BUSY_MS))
        return 0;
    (void)poll(NULL, 0, BUSY_STEP_MS);
    return 1;
}

bool audit_db_run(struct audit_db *db, const char *text, struct error *err)
{
    if (sqlite3_exec(db->sql, text, NULL, NULL, NULL) != SQLITE_OK)
        return audit_db_failed(db, text, err);
    return true;
}

/* While two servers make one database, this answers busy without asking the busy handler. */
static bool use_wal(struct audit_db *db, struct error *err)
{
    for (int count = 0;; count++) {
        int rc = sqlite3_exec(db->sql, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);

        if (rc == SQLITE_OK)
            return true;
        if (rc != SQLITE_BUSY || !on_busy(db, count))
            return audit_db_failed(db, "journal_mode", err);
    }
}

static bool make_tables(struct audit_db *db, struct error *err)
{
    if (!audit_db_run(db, "BEGIN IMMEDIATE", err))
        return false;
    if (audit_db_run(db, schema, err) && audit_db_run(db, "COMMIT", err))
        return true;
    (void)sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

static bool prepare(struct audit_db *db, sqlite3_stmt **ret, const char *text, struct error *err)
{
    if (sqlite3_prepare_v3(db->sql, text, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL) != SQLITE_OK)
        return audit_db_failed(db, "prepare", err);
    return true;
}

static bool prepare_all(struct audit_db *db, struct error *err)
{
    return prepare(db, &db->get_head, "SELECT rows, hash FROM head WHERE one = 1", err) &&
           prepare(db, &db->set_head, "INSERT OR REPLACE INTO head VALUES (1, ?, ?)", err) &&
           prepare(db, &db->get_drained, "SELECT drained FROM journals WHERE server = ?", err) &&
           prepare(db, &db->set_drained, "INSERT OR REPLACE INTO journals VALUES (?, ?)", err) &&
           prepare(db, &db->drop_drained, "DELETE FROM journals WHERE server = ?", err) &&
           prepare(db, &db->insert, "INSERT INTO audit VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", err) &&
           prepare(db, &db->get_closed, "SELECT 1 FROM closed WHERE one = 1", err) &&
           prepare(db, &db->set_closed, "INSERT INTO closed VALUES (1, ?, ?)", err) &&
           prepare(db, &db->get_bytes,
                   "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", err);
}

static bool open_file(struct audit_db *db, struct error *err)
{
    CLEANUP(fd_closep) int made = -1;
    char path[PATH_MAX];

    if (!audit_files_path(db->dir, db->number, path, err))
        return false;
    /* SQLite would make it readable for others. */
    made = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (made < 0)
        return error_set_errno(err, errno, "open %s", path);
    if (sqlite3_open_v2(path, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        return audit_db_failed(db, path, err);
    return true;
}

bool audit_db_open_number(struct audit_db *db, unsigned number, struct error *err)
{
    db->number = number;
    if (!open_file(db, err))
        return false;
    (void)sqlite3_busy_handler(db->sql, on_busy, db);
    /* Folding the log back costs a sync of the disk: whoever opens the database next can do it. */
    (void)sqlite3_db_config(db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return use_wal(db, err) &&
           audit_db_run(
               db, db->power_safe ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", err) &&
           audit_db_run(db,
                        "PRAGMA cache_size=" CACHE_KIBIBYTES ";"
                        "PRAGMA journal_size_limit=" WAL_LIMIT_BYTES,
                        err) &&
           make_tables(db, err) && prepare_all(db, err);
}

static bool open_all(struct audit_db *db, struct error *err)
{
    struct audit_files files;
    char path[PATH_MAX];
    unsigned newest;

    if (snprintf(path, sizeof path, "%s/" AUDIT_HEAD_NAME, db->dir) >= (int)sizeof path)
        return error_set_errno(err, ENAMETOOLONG, "audit folder");
    if (!audit_files_list(db->dir, &files, err))
        return false;
    newest = files.count ? files.numbers[files.count - 1] : 0;
    audit_files_fini(&files);
    if (!audit_db_open_number(db, newest, err))
        return false;
    db->head_fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return db->head_fd >= 0 || error_set_errno(err, errno, "open %s", path);
}

struct audit_db *audit_db_open(const char *dir, bool power_safe, const atomic_bool *give_up,
                               struct error *err)
{
    struct audit_db *db = calloc(1, sizeof *db);

    if (!db) {
        error_set(err, ERR_NOMEM, "audit database");
        return NULL;
    }
    db->head_fd = -1;
    db->power_safe = power_safe;
    db->give_up = give_up;
    if (snprintf(db->dir, sizeof db->dir, "%s", dir) >= (int)sizeof db->dir)
        error_set_errno(err, ENAMETOOLONG, "audit folder");
    else if (open_all(db, err))
        return db;
    audit_db_free(db);
    return NULL;
}

void audit_db_set_rotation(struct audit_db *db, int64_t max_bytes, unsigned keep)
{
    db->max_bytes = max_bytes;
    db->keep = keep;
}

void audit_db_close(struct audit_db *db)
{
    sqlite3_stmt **const all[] = { &db->get_head,    &db->set_head,     &db->get_drained,
                                   &db->set_drained, &db->drop_drained, &db->insert,
                                   &db->get_closed,  &db->set_closed,   &db->get_bytes };

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        (void)sqlite3_finalize(STEAL(*all[i]));
    (void)sqlite3_close(STEAL(db->sql));
}

void audit_db_free(struct audit_db *db)
{
    if (!db)
        return;
    audit_db_close(db);
    fd_close(db->head_fd);
    free(db);
}

/* ---- the chain ---- */

static void add_number(struct sha256 *h, uint64_t number, size_t bytes)
{
    uint8_t little[8];

    for (size_t i = 0; i < bytes; i++)
        little[i] = (uint8_t)(number >> 8 * i);
    sha256_add(h, little, bytes);
}

static void add_text(struct sha256 *h, const struct audit_text *text)
{
    add_number(h, text->len, 4);
    sha256_add(h, text->data, text->len);
}

void audit_db_hash(const uint8_t prev[SHA256_BYTES], const struct audit_stored *row,
                   uint8_t ret[SHA256_BYTES])
{
    static const char domain[] = "AIOS audit row 1\n";
    struct sha256 h;

    sha256_init(&h);
    sha256_add(&h, domain, sizeof domain - 1);
    sha256_add(&h, prev, SHA256_BYTES);
    add_number(&h, row->seq, 8);
    add_number(&h, row->record.sequence, 8);
    add_number(&h, (uint64_t)row->record.wall_ns, 8);
    add_number(&h, row->record.kind, 8);
    add_number(&h, row->record.syscall, 8);
    add_text(&h, &row->server);
    for (size_t i = 0; i < AUDIT_FIELD_COUNT; i++)
        add_text(&h, &row->record.text[i]);
    sha256_end(&h, ret);
}

bool audit_db_finish(struct audit_db *db, sqlite3_stmt *stmt, const char *what, struct error *err)
{
    bool ok = sqlite3_step(stmt) == SQLITE_DONE || audit_db_failed(db, what, err);

    (void)sqlite3_reset(stmt);
    (void)sqlite3_clear_bindings(stmt);
    return ok;
}

static bool read_chain(struct audit_db *db, struct audit_chain *ret, bool *ret_found,
                       struct error *err)
{
    int rc = sqlite3_step(db->get_head);
    bool ok = true;

    *ret = (struct audit_chain){ .rows = 0 };
    *ret_found = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW && sqlite3_column_bytes(db->get_head, 1) == SHA256_BYTES) {
        ret->rows = (uint64_t)sqlite3_column_int64(db->get_head, 0);
        memcpy(ret->hash, sqlite3_column_blob(db->get_head, 1), SHA256_BYTES);
    } else if (rc == SQLITE_ROW) {
        ok = error_set(err, ERR_IO, "audit database: the head is damaged");
    } else if (rc != SQLITE_DONE) {
        ok = audit_db_failed(db, "read the head", err);
    }
    (void)sqlite3_reset(db->get_head);
    return ok;
}

static bool write_chain(struct audit_db *db, const struct audit_chain *chain, struct error *err)
{
    (void)sqlite3_bind_int64(db->set_head, 1, (sqlite3_int64)chain->rows);
    (void)sqlite3_bind_blob(db->set_head, 2, chain->hash, SHA256_BYTES, SQLITE_STATIC);
    return audit_db_finish(db, db->set_head, "write the head", err);
}

static bool read_drained(struct audit_db *db, const char *server, uint64_t *ret, struct error *err)
{
    bool ok = true;
    int rc;

    *ret = 0;
    (void)sqlite3_bind_text(db->get_drained, 1, server, -1, SQLITE_STATIC);
    rc = sqlite3_step(db->get_drained);
    if (rc == SQLITE_ROW)
        *ret = (uint64_t)sqlite3_column_int64(db->get_drained, 0);
    else if (rc != SQLITE_DONE)
        ok = audit_db_failed(db, "read what was moved", err);
    (void)sqlite3_reset(db->get_drained);
    return ok;
}

static bool write_drained(struct audit_db *db, const char *server, uint64_t last, struct error *err)
{
    (void)sqlite3_bind_text(db->set_drained, 1, server, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(db->set_drained, 2, (sqlite3_int64)last);
    return audit_db_finish(db, db->set_drained, "write what was moved", err);
}

static void bind_text(sqlite3_stmt *stmt, int at, const struct audit_text *text)
{
    (void)sqlite3_bind_text(stmt, at, text->data ? text->data : "", (int)text->len, SQLITE_STATIC);
}

bool audit_db_append(struct audit_db *db, struct audit_chain *chain, const char *server,
                     const struct audit_record *record, struct error *err)
{
    struct audit_stored row = { chain->rows + 1, { server, strlen(server) }, *record };
    uint8_t hash[SHA256_BYTES];
    sqlite3_stmt *stmt = db->insert;

    audit_db_hash(chain->hash, &row, hash);
    (void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)row.seq);
    bind_text(stmt, 2, &row.server);
    (void)sqlite3_bind_int64(stmt, 3, (sqlite3_int64)record->sequence);
    (void)sqlite3_bind_int64(stmt, 4, record->wall_ns);
    (void)sqlite3_bind_int64(stmt, 5, (sqlite3_int64)record->kind);
    (void)sqlite3_bind_int64(stmt, 6, (sqlite3_int64)record->syscall);
    for (int i = 0; i < AUDIT_FIELD_COUNT; i++)
        bind_text(stmt, 7 + i, &record->text[i]);
    (void)sqlite3_bind_blob(stmt, 12, chain->hash, SHA256_BYTES, SQLITE_STATIC);
    (void)sqlite3_bind_blob(stmt, 13, hash, SHA256_BYTES, SQLITE_STATIC);
    if (!audit_db_finish(db, stmt, "add a row", err))
        return false;
    chain->rows = row.seq;
    memcpy(chain->hash, hash, SHA256_BYTES);
    return true;
}

/* ---- the file `head` ---- */

static bool head_parse(int fd, uint64_t *ret_rows, char ret_hash[SHA256_HEX])
{
    char text[HEAD_FILE_BYTES + 1], *end;
    ssize_t n = pread(fd, text, HEAD_FILE_BYTES, 0);

    if (n != HEAD_FILE_BYTES || text[HEAD_FILE_BYTES - 1] != '\n')
        return false;
    text[HEAD_FILE_BYTES - 1] = '\0';
    *ret_rows = strtoull(text, &end, 10);
    if (*end != ' ' || strspn(end + 1, "0123456789abcdef") != SHA256_HEX - 1)
        return false;
    memcpy(ret_hash, end + 1, SHA256_HEX);
    return true;
}

/* In place and in one small write: no other way costs as little, and it is whole or not there
 * unless the power fails.  Never backwards: another server may have been faster. */
static void head_publish(struct audit_db *db, const struct audit_chain *chain)
{
    char hex[SHA256_HEX], text[HEAD_FILE_BYTES + 1];
    uint64_t rows;

    if (head_parse(db->head_fd, &rows, hex) && rows > chain->rows)
        return;
    sha256_hex(chain->hash, hex);
    (void)snprintf(text, sizeof text, "%020llu %s\n", (unsigned long long)chain->rows, hex);
    (void)!pwrite(db->head_fd, text, HEAD_FILE_BYTES, 0); /* an older head says less, not wrong */
}

bool audit_db_read_head(const char *dir, uint64_t *ret_rows, char ret_hash[SHA256_HEX])
{
    CLEANUP(fd_closep) int fd = -1;
    char path[PATH_MAX], again[SHA256_HEX];
    uint64_t rows_again;

    if (snprintf(path, sizeof path, "%s/" AUDIT_HEAD_NAME, dir) >= (int)sizeof path)
        return false;
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || lseek(fd, 0, SEEK_END) == 0)
        return false;
    /* A reader may meet a writer in the middle: two equal reads are a whole one. */
    for (int i = 0; i < 8; i++) {
        if (head_parse(fd, ret_rows, ret_hash) && head_parse(fd, &rows_again, again) &&
            *ret_rows == rows_again && !strcmp(ret_hash, again))
            return true;
    }
    *ret_rows = 0;
    ret_hash[0] = '\0';
    return true;
}

/* ---- moving ---- */

static bool move_records(struct audit_db *db, struct audit_chain *chain,
                         const struct audit_journal *j, struct audit_cursor *cursor, uint64_t *last,
                         bool *torn, struct error *err)
{
    const char *server = audit_journal_server(j);
    uint8_t scratch[AUDIT_RECORD_BYTES];
    struct audit_record record;
    uint64_t drained;

    if (!read_drained(db, server, &drained, err))
        return false;
    *last = drained;
    for (unsigned n = 0; n < BATCH_RECORDS; n++) {
        enum audit_next next = audit_journal_next(j, cursor, scratch, &record);

        *torn = next == AUDIT_TORN;
        if (next != AUDIT_NEXT)
            break;
        if (record.sequence <= drained)
            continue;
        if (!audit_db_append(db, chain, server, &record, err))
            return false;
        *last = record.sequence;
    }
    return *last == drained || write_drained(db, server, *last, err);
}

/* A row of our own making about the journal @name. */
static bool append_loss(struct audit_db *db, struct audit_chain *chain, const char *name,
                        const char *detail, struct error *err)
{
    struct audit_record record = { .kind = AUDIT_SERVER, .wall_ns = clock_wall_ns() };

    record.text[AUDIT_FIELD_SUBJECT] = (struct audit_text){ name, strlen(name) };
    record.text[AUDIT_FIELD_DECISION] = (struct audit_text){ "failed", 6 };
    record.text[AUDIT_FIELD_DETAIL] = (struct audit_text){ detail, strlen(detail) };
    return audit_db_append(db, chain, "", &record, err);
}

static void roll_back(struct audit_db *db)
{
    if (db->sql)
        (void)sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
}

/* A transaction on the file that is open, unless it has been closed for good. */
static bool try_begin(struct audit_db *db, struct audit_chain *chain, bool *ret_closed,
                      struct error *err)
{
    bool found;

    db->started = false;
    if (!audit_db_run(db, "BEGIN IMMEDIATE", err))
        return false;
    if (!audit_rotate_is_closed(db, ret_closed, err))
        goto fail;
    if (*ret_closed) {
        roll_back(db);
        return true;
    }
    if (read_chain(db, chain, &found, err) &&
        (found || !db->number || audit_rotate_start(db, chain, err)))
        return true;
fail:
    roll_back(db);
    return false;
}

static bool begin(struct audit_db *db, struct audit_chain *chain, struct error *err)
{
    bool closed = true;

    /* After a failure between two files none is open. */
    if (!db->sql && !audit_rotate_next(db, err))
        return false;
    for (int tries = 0; tries < FOLLOW_TRIES; tries++) {
        if (!try_begin(db, chain, &closed, err))
            return false;
        if (!closed)
            return true;
        if (!audit_rotate_next(db, err))
            return false;
    }
    return error_set(err, ERR_BUSY, "audit database: its files fill faster than they are followed");
}

/* Ends the transaction: commits when @ok. */
static bool end(struct audit_db *db, const struct audit_chain *chain, bool ok, struct error *err)
{
    /* As long as there is no row there is no end to note. */
    if (ok && (!chain->rows || write_chain(db, chain, err)) && audit_rotate_end(db, chain, err) &&
        audit_db_run(db, "COMMIT", err)) {
        if (chain->rows)
            head_publish(db, chain);
        audit_rotate_committed(db);
        return true;
    }
    roll_back(db);
    return false;
}

bool audit_db_move(struct audit_db *db, const struct audit_journal *j, struct audit_cursor *cursor,
                   uint64_t *ret_last, bool *ret_torn, struct error *err)
{
    struct audit_cursor work = *cursor;
    bool torn = false, ok;
    struct audit_chain chain;
    uint64_t last;

    if (!begin(db, &chain, err))
        return false;
    ok = move_records(db, &chain, j, &work, &last, &torn, err);
    if (!end(db, &chain, ok, err))
        return false;
    *cursor = work;
    *ret_torn = torn;
    if (ret_last)
        *ret_last = last;
    return true;
}

void audit_db_forget(struct audit_db *db, const char *server)
{
    struct audit_chain chain;
    bool ok;

    if (!begin(db, &chain, NULL))
        return;
    (void)sqlite3_bind_text(db->drop_drained, 1, server, -1, SQLITE_STATIC);
    ok = audit_db_finish(db, db->drop_drained, "forget a server", NULL);
    (void)end(db, &chain, ok, NULL);
}

bool audit_db_note_loss(struct audit_db *db, const char *name, const char *detail,
                        struct error *err)
{
    struct audit_chain chain;

    return begin(db, &chain, err) &&
           end(db, &chain, append_loss(db, &chain, name, detail, err), err);
}
