#include "kernel/memory_db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/memory_sql.h"

#define APPLICATION  0x4e4f5445 /* "NOTE" */
#define LAYOUT       1          /* of the tables; a later one is refused */
#define BUSY_MS      5000       /* at most, whatever the deadline */
#define BUSY_STEP_MS 3
#define CHECK_EVERY  5000 /* steps of SQLite's machine between two looks at the deadline */
#define WAL_LIMIT    "16777216"
#define CACHE_KIB    "-8192"

struct memory_db {
    struct memory_lane writers, readers;
    struct memory_conn *writer;

    pthread_mutex_t lock; /* guards what is below */
    struct memory_conn *idle[MEMORY_READERS];
    unsigned idle_count;
    char path[];
};

/* ---- lanes ---- */

void memory_lane_init(struct memory_lane *lane, unsigned count)
{
    pthread_mutex_init(&lane->lock, NULL);
    cond_init(&lane->freed);
    lane->left = count;
}

void memory_lane_fini(struct memory_lane *lane)
{
    pthread_cond_destroy(&lane->freed);
    pthread_mutex_destroy(&lane->lock);
}

static void wake(void *arg)
{
    struct memory_lane *lane = arg;

    pthread_mutex_lock(&lane->lock);
    pthread_cond_broadcast(&lane->freed);
    pthread_mutex_unlock(&lane->lock);
}

static bool take_now(struct memory_lane *lane)
{
    if (lane->left == 0)
        return false;
    lane->left--;
    return true;
}

bool memory_lane_take(struct memory_lane *lane, const struct wait *w, struct error *err)
{
    struct cancel_hook hook;
    bool taken;

    if (!wait_check(w, err))
        return false;
    pthread_mutex_lock(&lane->lock);
    taken = take_now(lane);
    pthread_mutex_unlock(&lane->lock);
    if (taken)
        return true;
    cancel_attach(w->cancel, &hook, wake, lane);
    pthread_mutex_lock(&lane->lock);
    while (!(taken = take_now(lane)) && wait_cond(w, &lane->freed, &lane->lock))
        continue;
    taken = taken || take_now(lane);
    pthread_mutex_unlock(&lane->lock);
    cancel_detach(w->cancel, &hook);
    if (taken)
        return true;
    return wait_check(w, err) && error_set(err, ERR_TIMEOUT, "the deadline passed");
}

void memory_lane_give(struct memory_lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    lane->left++;
    pthread_cond_signal(&lane->freed);
    pthread_mutex_unlock(&lane->lock);
}

/* ---- errors ---- */

bool memory_db_failed(struct memory_conn *c, const char *what, struct error *err)
{
    int rc = c->sql ? sqlite3_errcode(c->sql) : SQLITE_NOMEM;
    const char *path = c->db->path;

    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return error_set(err, ERR_NOMEM, "memory: %s", what);
    case SQLITE_INTERRUPT:
        if (!wait_check(c->wait, err))
            return false;
        return error_set(err, ERR_TIMEOUT, "memory: %s: interrupted", what);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        if (!wait_check(c->wait, err))
            return error_prefix(err, "memory: another program holds %s", path);
        return error_set(err, ERR_BUSY,
                         "memory: another program holds %s; nothing was changed, try again", path);
    case SQLITE_FULL:
        return error_set(err, ERR_IO,
                         "memory: there is no room on the disk of %s; nothing was changed", path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(err, ERR_IO,
                         "memory: %s is damaged (%s); nothing was changed. Put a copy of it back, "
                         "or move it away to begin anew",
                         path, sqlite3_errmsg(c->sql));
    default:
        return error_set(err, ERR_IO, "memory: %s: %s (%s)", what,
                         c->sql ? sqlite3_errmsg(c->sql) : "no connection", path);
    }
}

static int on_busy(void *arg, int count)
{
    struct memory_conn *c = arg;

    if (count * BUSY_STEP_MS > BUSY_MS || !c->wait || !wait_check(c->wait, NULL))
        return 0;
    (void)poll(NULL, 0, BUSY_STEP_MS);
    return 1;
}

static int on_progress(void *arg)
{
    struct memory_conn *c = arg;

    return c->wait && !wait_check(c->wait, NULL);
}

/* ---- statements ---- */

sqlite3_stmt *memory_stmt(struct memory_conn *c, enum memory_stmt which, struct error *err)
{
    sqlite3_stmt **stmt = &c->stmts[which];

    if (!*stmt && sqlite3_prepare_v3(c->sql, memory_sql[which], -1, SQLITE_PREPARE_PERSISTENT, stmt,
                                     NULL) != SQLITE_OK) {
        memory_db_failed(c, "prepare", err);
        return NULL;
    }
    return *stmt;
}

void memory_stmt_donep(sqlite3_stmt **stmt)
{
    if (!*stmt)
        return;
    (void)sqlite3_reset(*stmt);
    (void)sqlite3_clear_bindings(*stmt);
}

bool memory_step(struct memory_conn *c, sqlite3_stmt *stmt, bool *ret_row, struct error *err)
{
    int rc = sqlite3_step(stmt);

    *ret_row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return true;
    return memory_db_failed(c, "the database", err);
}

bool memory_run(struct memory_conn *c, sqlite3_stmt *stmt, struct error *err)
{
    bool row;

    return memory_step(c, stmt, &row, err);
}

static bool run_one(struct memory_conn *c, enum memory_stmt which, struct error *err)
{
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = memory_stmt(c, which, err);

    return stmt && memory_run(c, stmt, err);
}

/* ---- connections ---- */

static void conn_free(struct memory_conn *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < ARRAY_LEN(c->stmts); i++)
        (void)sqlite3_finalize(c->stmts[i]);
    c->wait = NULL;
    memory_words_fini(&c->words);
    (void)sqlite3_close(c->sql);
    free(c);
}
DEFINE_CLEANUP(struct memory_conn, conn_free)

static bool run_text(struct memory_conn *c, const char *text, struct error *err)
{
    return sqlite3_exec(c->sql, text, NULL, NULL, NULL) == SQLITE_OK ||
           memory_db_failed(c, "set up the database", err);
}

static struct memory_conn *conn_new(struct memory_db *db, bool writes, const struct wait *w,
                                    struct error *err)
{
    CLEANUP(conn_freep) struct memory_conn *c = calloc(1, sizeof *c);

    if (!c) {
        error_set(err, ERR_NOMEM, "a connection to the notes");
        return NULL;
    }
    c->db = db;
    c->wait = w;
    c->writes = writes;
    if (sqlite3_open_v2(db->path, &c->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK) {
        memory_db_failed(c, "open", err);
        return NULL;
    }
    (void)sqlite3_extended_result_codes(c->sql, 0);
    (void)sqlite3_busy_handler(c->sql, on_busy, c);
    sqlite3_progress_handler(c->sql, CHECK_EVERY, on_progress, c);
    if (!memory_words_register(&c->words, c->sql, err) ||
        !run_text(c,
                  "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
                  "PRAGMA cache_size=" CACHE_KIB,
                  err) ||
        (!writes && !run_text(c, "PRAGMA query_only=ON", err)))
        return NULL;
    return STEAL(c);
}

static bool read_number(struct memory_conn *c, const char *text, int64_t *ret, struct error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool ok = sqlite3_prepare_v2(c->sql, text, -1, &stmt, NULL) == SQLITE_OK &&
              sqlite3_step(stmt) == SQLITE_ROW;

    *ret = ok ? sqlite3_column_int64(stmt, 0) : 0;
    if (!ok)
        memory_db_failed(c, "open", err);
    (void)sqlite3_finalize(stmt);
    return ok;
}

/* Ours, empty, or refused: nothing of anybody else is written into. */
static bool set_up(struct memory_conn *c, struct error *err)
{
    int64_t application, layout, tables;

    if (!read_number(c, "PRAGMA application_id", &application, err) ||
        !read_number(c, "PRAGMA user_version", &layout, err) ||
        !read_number(c, "SELECT count(*) FROM sqlite_schema", &tables, err))
        return false;
    if (tables > 0 && application != APPLICATION)
        return error_set(err, ERR_IO, "memory: %s is a database of something else; move it away",
                         c->db->path);
    if (layout > LAYOUT)
        return error_set(err, ERR_UNSUPPORTED,
                         "memory: %s was made by a newer version of aios (layout %lld, known is "
                         "%d)",
                         c->db->path, (long long)layout, LAYOUT);
    if (!run_text(c,
                  "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                  "PRAGMA journal_size_limit=" WAL_LIMIT,
                  err))
        return false;
    if (layout == LAYOUT)
        return true;
    if (!run_text(c, "BEGIN IMMEDIATE", err))
        return false;
    return run_text(c, memory_sql_schema, err) && run_text(c, "COMMIT", err);
}

struct memory_db *memory_db_open(const char *dir, const struct wait *w, struct error *err)
{
    size_t size = strlen(dir) + sizeof "/" MEMORY_DB_NAME;
    CLEANUP(memory_db_freep) struct memory_db *db = calloc(1, sizeof *db + size);
    int made;

    if (!db) {
        error_set(err, ERR_NOMEM, "the notes");
        return NULL;
    }
    memory_lane_init(&db->writers, 1);
    memory_lane_init(&db->readers, MEMORY_READERS);
    pthread_mutex_init(&db->lock, NULL);
    (void)snprintf(db->path, size, "%s/" MEMORY_DB_NAME, dir);
    /* SQLite would make it readable for others. */
    made = open(db->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (made < 0) {
        error_set_errno(err, errno, "open %s", db->path);
        return NULL;
    }
    fd_close(made);
    db->writer = conn_new(db, true, w, err);
    if (!db->writer || !set_up(db->writer, err))
        return NULL;
    db->writer->wait = NULL;
    return STEAL(db);
}

void memory_db_free(struct memory_db *db)
{
    if (!db)
        return;
    for (unsigned i = 0; i < db->idle_count; i++)
        conn_free(db->idle[i]);
    conn_free(db->writer);
    memory_lane_fini(&db->writers);
    memory_lane_fini(&db->readers);
    pthread_mutex_destroy(&db->lock);
    free(db);
}

struct memory_conn *memory_db_reader(struct memory_db *db, const struct wait *w, struct error *err)
{
    struct memory_conn *c = NULL;

    if (!memory_lane_take(&db->readers, w, err))
        return NULL;
    pthread_mutex_lock(&db->lock);
    if (db->idle_count > 0)
        c = db->idle[--db->idle_count];
    pthread_mutex_unlock(&db->lock);
    if (!c)
        c = conn_new(db, false, w, err);
    if (!c) {
        memory_lane_give(&db->readers);
        return NULL;
    }
    c->wait = w;
    return c;
}

struct memory_conn *memory_db_begin(struct memory_db *db, const struct wait *w, struct error *err)
{
    if (!memory_lane_take(&db->writers, w, err))
        return NULL;
    db->writer->wait = w;
    if (run_one(db->writer, MEMORY_BEGIN, err))
        return db->writer;
    memory_db_release(db->writer);
    return NULL;
}

void memory_db_release(struct memory_conn *c)
{
    static const struct wait for_ever = { .deadline_ns = CLOCK_NEVER };
    struct memory_db *db;

    if (!c)
        return;
    db = c->db;
    if (c->writes) {
        c->wait = &for_ever; /* undoing is not to be interrupted; it waits for nobody */
        if (!sqlite3_get_autocommit(c->sql) && !run_one(c, MEMORY_ROLLBACK, NULL))
            (void)sqlite3_exec(c->sql, "ROLLBACK", NULL, NULL, NULL);
        c->wait = NULL;
        memory_lane_give(&db->writers);
        return;
    }
    c->wait = NULL;
    pthread_mutex_lock(&db->lock);
    db->idle[db->idle_count++] = c;
    pthread_mutex_unlock(&db->lock);
    memory_lane_give(&db->readers);
}

bool memory_db_commit(struct memory_conn *c, struct error *err)
{
    bool ok = run_one(c, MEMORY_COMMIT, err);

    memory_db_release(c);
    return ok;
}
