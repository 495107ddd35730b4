/*
 * memory_db - the database of notes: its connections, statements and transactions.
 *
 * One connection writes, a few read; each keeps its statements prepared.  Whoever has one has it
 * alone until it is given back.
 * Threads: any.  Blocking: taking a connection, and every step, within the struct wait.
 * Errors: ERR_BUSY (another program holds the database), ERR_IO (full, damaged, unreadable; the
 *   text says what to do), ERR_NOMEM, ERR_TIMEOUT, ERR_CANCELLED.  After each of them the database
 *   is as it was.
 */
#pragma once

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"
#include "kernel/memory_words.h"

#define MEMORY_DB_NAME "memory.db"
#define MEMORY_READERS 4u

/** A number of things, one for each who takes one. */
struct memory_lane {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    unsigned left;
};
void memory_lane_init(struct memory_lane *lane, unsigned count);
void memory_lane_fini(struct memory_lane *lane);
NODISCARD bool memory_lane_take(struct memory_lane *lane, const struct wait *w, struct error *err);
void memory_lane_give(struct memory_lane *lane);

enum memory_stmt {
    MEMORY_BEGIN,
    MEMORY_COMMIT,
    MEMORY_ROLLBACK,
    MEMORY_SCOPE_ADD,
    MEMORY_SCOPE_GET,
    MEMORY_SCOPE_COUNT,
    MEMORY_SCOPE_WORDS,
    MEMORY_NOTE_BY_ID,
    MEMORY_NOTE_BY_N,
    MEMORY_NOTE_ADD,
    MEMORY_NOTE_CHANGE,
    MEMORY_NOTE_DROP,
    MEMORY_NOTE_LEAVES,
    MEMORY_NOTE_RETURNS,
    MEMORY_NOTE_COPIED,
    MEMORY_NOTE_MODEL,
    MEMORY_TEXT_SET,
    MEMORY_TEXT_DROP,
    MEMORY_WORDS_ADD,
    MEMORY_WORDS_DROP,
    MEMORY_GONE_ADD,
    MEMORY_GONE_LIST,
    MEMORY_GONE_DROP,
    MEMORY_COUNTER_GET,
    MEMORY_COUNTER_SET,
    MEMORY_USES_GET,
    MEMORY_USES_SET,
    MEMORY_VICTIMS,
    MEMORY_FIND_WORDS,
    MEMORY_FIND_WORDS_IN_TIME,
    MEMORY_FIND_BY_TAGS,
    MEMORY_FIND_OWN,
    MEMORY_FIND_ALL,
    MEMORY_MODEL_NEWEST,
    MEMORY_MODEL_ADD,
    MEMORY_BACKLOG,
    MEMORY_VECTOR_ADD,
    MEMORY_VECTOR_DROP,
    MEMORY_VECTOR_UNMODEL,
    MEMORY_VECTOR_CUT,
    MEMORY_VECTOR_LIST,
    MEMORY_VECTOR_SLOTS,
    MEMORY_VECTOR_SLOTS_BY_TAGS,
    MEMORY_STMT_COUNT
};

struct memory_db;

struct memory_conn {
    sqlite3 *sql;
    struct memory_words words;
    struct memory_db *db;
    const struct wait *wait; /* of whoever has it */
    sqlite3_stmt *stmts[MEMORY_STMT_COUNT];
    bool writes;
};

/** Opens @dir's database, and makes it when it is not there.  A file that is no such database is
 *  left as it is. */
NODISCARD struct memory_db *memory_db_open(const char *dir, const struct wait *w,
                                           struct error *err);
void memory_db_free(struct memory_db *db);
DEFINE_CLEANUP(struct memory_db, memory_db_free)

/** To read: until memory_db_release(). */
NODISCARD struct memory_conn *memory_db_reader(struct memory_db *db, const struct wait *w,
                                               struct error *err);
void memory_db_release(struct memory_conn *c);
DEFINE_CLEANUP(struct memory_conn, memory_db_release)

/** To write: a transaction, until memory_db_commit() or memory_db_release(), which undoes it. */
NODISCARD struct memory_conn *memory_db_begin(struct memory_db *db, const struct wait *w,
                                              struct error *err);
/** Gives the connection back in either case. */
NODISCARD bool memory_db_commit(struct memory_conn *c, struct error *err);

/** The statement, ready to be bound; CLEANUP(memory_stmt_donep) makes it ready for its next use. */
NODISCARD sqlite3_stmt *memory_stmt(struct memory_conn *c, enum memory_stmt which,
                                    struct error *err);
void memory_stmt_donep(sqlite3_stmt **stmt);

/** A row?  False with @err set when the step failed. */
NODISCARD bool memory_step(struct memory_conn *c, sqlite3_stmt *stmt, bool *ret_row,
                           struct error *err);
/** The same for a statement without rows. */
NODISCARD bool memory_run(struct memory_conn *c, sqlite3_stmt *stmt, struct error *err);

/** ERR_NOMEM, ERR_IO …, from what SQLite said last. */
bool memory_db_failed(struct memory_conn *c, const char *what, struct error *err);
