/* The SQLite back end: opening, connections, what its errors mean. */
#include "kernel/storage_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define DB_NAME         "storage.db"
#define SCHEMA_VERSION  1
#define BUSY_NS         (5 * CLOCK_NS_PER_S)
#define BUSY_STEP_MS    3
#define WAL_LIMIT_BYTES "16777216"

/* A value's row is found by its number, so that rows of `versions` are short and close together. */
static const char schema[] =
    "CREATE TABLE spaces ("
    " id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " bytes INTEGER NOT NULL, keys INTEGER NOT NULL, versions INTEGER NOT NULL) STRICT;"
    "CREATE TABLE vals (id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;"
    "CREATE TABLE versions ("
    " space INTEGER NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,"
    " wall_ns INTEGER NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,"
    " value INTEGER," /* NULL: a deletion */
    " PRIMARY KEY (space, key, version)) STRICT, WITHOUT ROWID;"
    "PRAGMA user_version=1;";

/* Columns 0 to 5; the value itself when it has at most ?4 bytes.  Column 6 where the key is asked
 * for: each text costs an allocation. */
#define COLUMNS_AND(more)                                                   \
    "SELECT v.version, v.wall_ns, v.bytes, v.sha256, v.value, x.value" more \
    " FROM versions v LEFT JOIN vals x ON v.bytes <= ?4 AND x.id = v.value "
#define COLUMNS COLUMNS_AND("")

static const struct {
    size_t offset;
    bool writes;
    const char *text;
} statements[] = {
#define STMT(name, writes, text)                         \
    {                                                    \
        offsetof(struct sqlite_conn, name), writes, text \
    }
    STMT(begin, false, "BEGIN"),
    STMT(commit, false, "COMMIT"),
    STMT(newest, false,
         COLUMNS "WHERE v.space = ?1 AND v.key = ?2 ORDER BY v.version DESC LIMIT 1"),
    STMT(exact, false, COLUMNS "WHERE v.space = ?1 AND v.key = ?2 AND v.version = ?3"),
    STMT(at_time, false,
         COLUMNS
         "WHERE v.space = ?1 AND v.key = ?2 AND v.wall_ns <= ?3 ORDER BY v.version DESC LIMIT 1"),
    STMT(next_key, false,
         COLUMNS_AND(", v.key") "WHERE v.space = ?1 AND v.key = (SELECT w.key FROM versions w "
                                "WHERE w.space = ?1"
                                " AND w.key >= ?2 ORDER BY w.key LIMIT 1)"
                                " ORDER BY v.version DESC LIMIT 1"),
    STMT(versions, false,
         COLUMNS "WHERE v.space = ?1 AND v.key = ?2 AND v.version < ?3 ORDER BY v.version DESC"),
    STMT(space_id, false, "SELECT id FROM spaces WHERE name = ?1"),
    STMT(usage, false, "SELECT bytes, keys, versions FROM spaces WHERE name = ?1"),
    STMT(begin_now, true, "BEGIN IMMEDIATE"),
    STMT(rollback, true, "ROLLBACK"),
    STMT(space_get, true, "SELECT id, bytes, keys, versions FROM spaces WHERE name = ?1"),
    STMT(space_add, true, "INSERT INTO spaces VALUES (NULL, ?1, 0, 0, 0)"),
    STMT(space_set, true, "UPDATE spaces SET bytes = ?2, keys = ?3, versions = ?4 WHERE id = ?1"),
    STMT(ends, true,
         "SELECT version, wall_ns, value IS NULL,"
         " (SELECT min(version) FROM versions WHERE space = ?1 AND key = ?2) FROM versions"
         " WHERE space = ?1 AND key = ?2 ORDER BY version DESC LIMIT 1"),
    STMT(old_sum, true,
         "SELECT count(*), sum(bytes) FROM versions"
         " WHERE space = ?1 AND key = ?2 AND version <= ?3"),
    STMT(old_values, true,
         "DELETE FROM vals WHERE id IN (SELECT value FROM versions"
         " WHERE space = ?1 AND key = ?2 AND version <= ?3)"),
    STMT(old_versions, true,
         "DELETE FROM versions WHERE space = ?1 AND key = ?2 AND version <= ?3"),
    STMT(add_value, true, "INSERT INTO vals VALUES (?1, ?2)"),
    STMT(add_version, true, "INSERT INTO versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
};

/* ---- errors ---- */

/* Why the system said no; a commit does not pass on what the log's file knows. */
static int system_errno(struct sqlite_conn *c, int rc)
{
    int os_errno = c->db ? sqlite3_system_errno(c->db) : 0;
    sqlite3_file *file = NULL;

    if (c->db && os_errno == 0 && (rc & 0xff) == SQLITE_IOERR &&
        sqlite3_file_control(c->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file) == SQLITE_OK &&
        file && file->pMethods)
        (void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &os_errno);
    return os_errno;
}

bool sqlite_failed(struct sqlite_conn *c, int rc, const char *what, struct error *err)
{
    int os_errno = system_errno(c, rc);

    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return error_set(err, ERR_NOMEM, "storage database: %s", what);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, ERR_BUSY,
                         "the storage database is locked by another program: nothing was changed; "
                         "try again");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
        return error_set(
            err, ERR_IO,
            "the storage database %s is damaged (%s: %s); nothing was changed. Put a copy "
            "of it back, or move it away to begin with an empty one",
            c->path, what, sqlite3_errstr(rc));
    case SQLITE_FULL:
        return error_set_errno(err, ENOSPC, "storage database: nothing was changed");
    case SQLITE_TOOBIG:
        return error_set(err, ERR_LIMIT, "the value is larger than a database holds");
    case SQLITE_IOERR:
        if (rc == SQLITE_IOERR_NOMEM)
            return error_set(err, ERR_NOMEM, "storage database: %s", what);
        /* Short writes are told as these two. */
        if (os_errno == ENOSPC || os_errno == EDQUOT || os_errno == EFBIG)
            return error_set_errno(err, os_errno, "storage database: nothing was changed");
        break;
    default:
        break;
    }
    if (os_errno != 0 && (rc & 0xff) != SQLITE_ERROR)
        return error_set_errno(err, os_errno, "storage database %s: %s: %s", c->path, what,
                               sqlite3_errstr(rc));
    return error_set(err, ERR_IO, "storage database %s: %s: %s", c->path, what,
                     c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc));
}

/* Only another program can hold a lock that lasts. */
static int on_busy(void *arg, int count)
{
    struct sqlite_conn *c = arg;

    if (count == 0 && c->busy_until_ns == 0)
        c->busy_until_ns = clock_add_ns(clock_now_ns(), BUSY_NS);
    if (clock_now_ns() >= c->busy_until_ns || (c->wait && !wait_check(c->wait, NULL)))
        return 0;
    (void)poll(NULL, 0, BUSY_STEP_MS);
    return 1;
}

bool sqlite_run(struct sqlite_conn *c, sqlite3_stmt *stmt, const char *what, struct error *err)
{
    int rc = sqlite3_step(stmt);
    bool ok = rc == SQLITE_DONE || rc == SQLITE_ROW || sqlite_failed(c, rc, what, err);

    (void)sqlite3_reset(stmt);
    return ok;
}

void sqlite_bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
    (void)sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC);
}

/* ---- connections ---- */

static void conn_close(struct sqlite_conn *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < ARRAY_LEN(statements); i++)
        (void)sqlite3_finalize(*(sqlite3_stmt **)(void *)((char *)c + statements[i].offset));
    (void)sqlite3_close(c->db);
    free(c);
}
DEFINE_CLEANUP(struct sqlite_conn, conn_close)

static bool pragma(struct sqlite_conn *c, const char *text, struct error *err)
{
    int rc = sqlite3_exec(c->db, text, NULL, NULL, NULL);

    return rc == SQLITE_OK || sqlite_failed(c, rc, text, err);
}

static bool prepare(struct sqlite_conn *c, bool writer, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        sqlite3_stmt **at = (sqlite3_stmt **)(void *)((char *)c + statements[i].offset);
        int rc;

        if (statements[i].writes && !writer)
            continue;
        rc = sqlite3_prepare_v3(c->db, statements[i].text, -1, SQLITE_PREPARE_PERSISTENT, at, NULL);
        if (rc != SQLITE_OK)
            return sqlite_failed(c, rc, "prepare", err);
    }
    return true;
}

static struct sqlite_conn *conn_open(const char *path, const struct wait *w, struct error *err)
{
    CLEANUP(conn_closep) struct sqlite_conn *c = calloc(1, sizeof *c);
    int rc;

    if (!c) {
        error_set(err, ERR_NOMEM, "storage database");
        return NULL;
    }
    c->path = path;
    c->wait = w;
    c->busy_until_ns = clock_add_ns(clock_now_ns(), BUSY_NS);
    rc = sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        sqlite_failed(c, rc, "open", err);
        return NULL;
    }
    (void)sqlite3_extended_result_codes(c->db, 1);
    (void)sqlite3_busy_handler(c->db, on_busy, c);
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    return STEAL(c);
}

static bool read_number(struct sqlite_conn *c, const char *text, int64_t *ret, struct error *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(c->db, text, -1, &stmt, NULL);
    bool ok;

    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    ok = rc == SQLITE_ROW || sqlite_failed(c, rc, text, err);
    if (ok)
        *ret = sqlite3_column_int64(stmt, 0);
    (void)sqlite3_finalize(stmt);
    return ok;
}

static bool make_tables(struct sqlite_conn *c, struct error *err)
{
    int64_t version = 0;

    if (!read_number(c, "PRAGMA user_version", &version, err))
        return false;
    if (version > SCHEMA_VERSION)
        return error_set(err, ERR_UNSUPPORTED, "%s was made by a newer version (%lld)", c->path,
                         (long long)version);
    if (version == SCHEMA_VERSION)
        return true;
    if (!pragma(c, "BEGIN IMMEDIATE", err))
        return false;
    if (pragma(c, schema, err) && pragma(c, "COMMIT", err))
        return true;
    (void)sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

static bool open_writer(struct sqlite_backend *b, struct error *err)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), BUSY_NS) };
    struct sqlite_conn *c = b->writer = conn_open(b->path, &w, err);
    bool ok =
        c && pragma(c, "PRAGMA journal_mode=WAL", err) &&
        pragma(c, "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=" WAL_LIMIT_BYTES, err) &&
        make_tables(c, err) && prepare(c, true, err) &&
        read_number(c, "SELECT ifnull(max(id), 0) + 1 FROM vals", &b->next_value, err);

    if (c)
        c->wait = NULL;
    return ok;
}

/* ---- the pool of readers ---- */

static struct sqlite_conn *reader_open(struct sqlite_backend *b, const struct wait *w,
                                       struct error *err)
{
    CLEANUP(conn_closep) struct sqlite_conn *c = conn_open(b->path, w, err);

    if (!c || !prepare(c, false, err))
        return NULL;
    return STEAL(c);
}

static void wake_pool(void *arg)
{
    struct sqlite_backend *b = arg;

    pthread_mutex_lock(&b->pool_lock);
    pthread_cond_broadcast(&b->pool_freed);
    pthread_mutex_unlock(&b->pool_lock);
}

/* *ret_open: there is none, but one more may be opened. */
static struct sqlite_conn *pool_pop(struct sqlite_backend *b, const struct wait *w, bool *ret_open)
{
    struct sqlite_conn *c = NULL;
    struct cancel_hook hook;
    bool waits = true;

    *ret_open = false;
    pthread_mutex_lock(&b->pool_lock);
    if (list_empty(&b->idle) && b->open >= STORAGE_SQLITE_READERS) {
        pthread_mutex_unlock(&b->pool_lock);
        cancel_attach(w->cancel, &hook, wake_pool, b);
        pthread_mutex_lock(&b->pool_lock);
        while (waits && list_empty(&b->idle) && b->open >= STORAGE_SQLITE_READERS)
            waits = wait_cond(w, &b->pool_freed, &b->pool_lock);
        pthread_mutex_unlock(&b->pool_lock);
        cancel_detach(w->cancel, &hook);
        pthread_mutex_lock(&b->pool_lock);
    }
    if (!list_empty(&b->idle)) {
        c = LIST_ENTRY(b->idle.next, struct sqlite_conn, link);
        list_remove(&c->link);
    } else if (b->open < STORAGE_SQLITE_READERS) {
        b->open++;
        *ret_open = true;
    }
    pthread_mutex_unlock(&b->pool_lock);
    return c;
}

struct sqlite_conn *sqlite_take(struct sqlite_backend *b, const struct wait *w, struct error *err)
{
    struct sqlite_conn *c;
    bool open;

    for (;;) {
        c = pool_pop(b, w, &open);
        if (c || open)
            break;
        if (!wait_check(w, err))
            return NULL;
    }
    if (open) {
        c = reader_open(b, w, err);
        if (!c) {
            pthread_mutex_lock(&b->pool_lock);
            b->open--;
            pthread_cond_signal(&b->pool_freed);
            pthread_mutex_unlock(&b->pool_lock);
            return NULL;
        }
    }
    c->wait = w;
    c->busy_until_ns = 0;
    return c;
}

void sqlite_give(struct sqlite_backend *b, struct sqlite_conn *c)
{
    c->wait = NULL;
    pthread_mutex_lock(&b->pool_lock);
    list_prepend(&b->idle, &c->link);
    pthread_cond_signal(&b->pool_freed);
    pthread_mutex_unlock(&b->pool_lock);
}

/* ---- the back end ---- */

static void backend_free(struct storage_backend *base)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);

    LIST_FOR_EACH_SAFE (node, &b->idle) {
        list_remove(node);
        conn_close(LIST_ENTRY(node, struct sqlite_conn, link));
    }
    conn_close(b->writer); /* the last one folds the log back */
    pthread_cond_destroy(&b->pool_freed);
    pthread_mutex_destroy(&b->pool_lock);
    storage_queue_fini(&b->queue);
    free(b->path);
    free(b);
}

static void backend_stats(struct storage_backend *base, struct storage_stats *ret)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);

    storage_queue_stats(&b->queue, ret);
}

static bool make_file(const char *path, struct error *err)
{
    /* SQLite would make it readable for others. */
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    fd_close(fd);
    return true;
}

struct storage_backend *storage_sqlite_new(const struct config *config, const char *state_dir,
                                           struct error *err)
{
    struct sqlite_backend *b = calloc(1, sizeof *b);

    (void)config;
    if (!b || asprintf(&b->path, "%s/" DB_NAME, state_dir) < 0) {
        free(b);
        error_set(err, ERR_NOMEM, "storage database");
        return NULL;
    }
    b->base = (struct storage_backend){
        .name = "sqlite",
        .late_digest = true,
        .write = sqlite_write,
        .write_many = sqlite_write_many,
        .read = sqlite_read,
        .stat = sqlite_stat,
        .list = sqlite_list,
        .versions = sqlite_versions,
        .usage = sqlite_usage,
        .stats = backend_stats,
        .free = backend_free,
    };
    list_init(&b->idle);
    pthread_mutex_init(&b->pool_lock, NULL);
    storage_queue_init(&b->queue, &b->base, sqlite_write_group);
    cond_init(&b->pool_freed);
    if (make_file(b->path, err) && open_writer(b, err))
        return &b->base;
    backend_free(&b->base);
    return NULL;
}
