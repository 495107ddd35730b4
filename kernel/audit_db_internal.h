/*
 * audit_db_internal - what the halves of the audit's database share: audit_db.c has the rows,
 * audit_rotate.c the change from one file to the next.  Nobody else includes this.
 *
 * Threads: one at a time.
 */
#pragma once

#include "kernel/audit_db.h"
#include "kernel/audit_files.h"

struct sqlite3;
struct sqlite3_stmt;

struct audit_db {
    char dir[PATH_MAX];
    bool power_safe;
    int64_t max_bytes; /* 0: never begin another file */
    unsigned keep;     /* 0: all */
    const atomic_bool *give_up;
    int head_fd;

    /* the file that is open, always the newest at the time */
    unsigned number;
    struct sqlite3 *sql;
    struct sqlite3_stmt *get_head, *set_head, *get_drained, *set_drained, *drop_drained, *insert,
        *get_closed, *set_closed, *get_bytes;
    bool started; /* the running transaction is the first of this file */
};

/* The end of the chain, as the running transaction sees it. */
struct audit_chain {
    uint64_t rows;
    uint8_t hash[SHA256_BYTES];
};

/* audit_db.c */
bool audit_db_failed(struct audit_db *db, const char *what, struct error *err);
bool audit_db_run(struct audit_db *db, const char *text, struct error *err);
/* One step; the statement is left ready for its next use. */
bool audit_db_finish(struct audit_db *db, struct sqlite3_stmt *stmt, const char *what,
                     struct error *err);
bool audit_db_append(struct audit_db *db, struct audit_chain *chain, const char *server,
                     const struct audit_record *record, struct error *err);
bool audit_db_open_number(struct audit_db *db, unsigned number, struct error *err);
void audit_db_close(struct audit_db *db);

/* audit_rotate.c */
bool audit_rotate_is_closed(struct audit_db *db, bool *ret, struct error *err);
/* Open the file after the one that is open and closed. */
bool audit_rotate_next(struct audit_db *db, struct error *err);
/* In the first transaction of a file that follows another: where its chain begins. */
bool audit_rotate_start(struct audit_db *db, struct audit_chain *chain, struct error *err);
/* At the end of each transaction: close the file if it has grown too big. */
bool audit_rotate_end(struct audit_db *db, const struct audit_chain *chain, struct error *err);
/* After its commit. */
void audit_rotate_committed(struct audit_db *db);
