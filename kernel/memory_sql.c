#include "kernel/memory_sql.h"

/*
 * scopes   agents ("a:alice"), groups ("g:team") and everybody ("*"); what ranking and quotas count
 * notes    one row for each note.  pub: the scope it is shared with, 0 for none.  resident: its
 * text is in texts, else in storage.  copy: 0 when storage was never given it, -1 when it may have
 * been given something, else the version that it surely has.  uses: the last times it was used,
 * newest first.  model: of its vector; 0 for none words    FTS5 without content: the text of a note
 * that has left need not be kept for it counters "uses": the last number that was given to a use
 * gone     what is still to be removed from storage
 * vectors  in which slot of which file the vector is; -1 when the model refused the text
 */
const char memory_sql_schema[] =
    "CREATE TABLE scopes (s INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " docs INTEGER NOT NULL DEFAULT 0, words INTEGER NOT NULL DEFAULT 0,"
    " notes INTEGER NOT NULL DEFAULT 0, resident INTEGER NOT NULL DEFAULT 0,"
    " resident_bytes INTEGER NOT NULL DEFAULT 0, stored_bytes INTEGER NOT NULL DEFAULT 0,"
    " evictions INTEGER NOT NULL DEFAULT 0, faults INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE TABLE notes (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " owner INTEGER NOT NULL, pub INTEGER NOT NULL, version INTEGER NOT NULL,"
    " created INTEGER NOT NULL, updated INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    " length INTEGER NOT NULL, resident INTEGER NOT NULL, copy INTEGER NOT NULL,"
    " model INTEGER NOT NULL, tags TEXT NOT NULL, sha BLOB, uses BLOB) STRICT;"
    "CREATE INDEX notes_time ON notes (owner, updated);"
    "CREATE INDEX notes_pub ON notes (pub, updated) WHERE pub <> 0;"
    "CREATE INDEX notes_model ON notes (owner, model);"
    "CREATE TABLE texts (n INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;"
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
    "CREATE TABLE gone (n INTEGER PRIMARY KEY, agent TEXT NOT NULL, id TEXT NOT NULL) STRICT;"
    "CREATE VIRTUAL TABLE words USING fts5 (own, pub, tags, content='', tokenize='notes');"
    "CREATE TABLE models (m INTEGER PRIMARY KEY, name TEXT NOT NULL, dims INTEGER NOT NULL,"
    " UNIQUE (name, dims)) STRICT;"
    "CREATE TABLE vectors (n INTEGER NOT NULL, scope INTEGER NOT NULL, model INTEGER NOT NULL,"
    " slot INTEGER NOT NULL, PRIMARY KEY (n, scope)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX vectors_set ON vectors (scope, model, slot);"
    "PRAGMA application_id=1313821765; PRAGMA user_version=1;";

/* The columns that memory_note.c reads, in its order. */
#define NOTE                                                                                  \
    "n.n, n.id, n.owner, o.name, n.pub, n.version, n.created, n.updated, n.bytes, n.length, " \
    "n.resident, n.copy, n.tags, n.sha, t.text, n.model"
#define NOTE_FROM " JOIN scopes o ON o.s = n.owner LEFT JOIN texts t ON t.n = n.n"

/* First the rows that are wanted, by number alone, so that nothing else is read or sorted of those
 * that are not; then what they hold. */
#define FOUND(key, inner, order)                                                             \
    "SELECT " NOTE ", h." key ", h.n FROM (" inner                                           \
    ") h LEFT JOIN notes n ON n.n = h.n LEFT JOIN scopes o ON o.s = n.owner LEFT JOIN texts" \
    " t ON t.n = n.n ORDER BY " order

const char *const memory_sql[MEMORY_STMT_COUNT] = {
    [MEMORY_BEGIN] = "BEGIN IMMEDIATE",
    [MEMORY_COMMIT] = "COMMIT",
    [MEMORY_ROLLBACK] = "ROLLBACK",

    [MEMORY_SCOPE_ADD] = "INSERT OR IGNORE INTO scopes (name) VALUES (?1)",
    [MEMORY_SCOPE_GET] = "SELECT s, docs, words, notes, resident, resident_bytes, stored_bytes,"
                         " evictions, faults FROM scopes WHERE name = ?1",
    [MEMORY_SCOPE_COUNT] =
        "UPDATE scopes SET notes = notes + ?2, resident = resident + ?3,"
        " resident_bytes = resident_bytes + ?4, stored_bytes = stored_bytes + ?5,"
        " evictions = evictions + ?6, faults = faults + ?7 WHERE s = ?1 RETURNING resident_bytes",
    [MEMORY_SCOPE_WORDS] = "UPDATE scopes SET docs = docs + ?2, words = words + ?3 WHERE s = ?1",

    [MEMORY_NOTE_BY_ID] = "SELECT " NOTE " FROM notes n" NOTE_FROM " WHERE n.id = ?1",
    [MEMORY_NOTE_BY_N] = "SELECT " NOTE " FROM notes n" NOTE_FROM " WHERE n.n = ?1",
    [MEMORY_NOTE_ADD] =
        "INSERT INTO notes (id, owner, pub, version, created, updated, bytes, length, resident,"
        " copy, model, tags) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, 0, 0, ?9)",
    [MEMORY_NOTE_CHANGE] =
        "UPDATE notes SET pub = ?2, version = ?3, updated = ?4, bytes = ?5, length = ?6,"
        " resident = 1, tags = ?7, model = ?8 WHERE n = ?1",
    [MEMORY_NOTE_DROP] = "DELETE FROM notes WHERE n = ?1",
    [MEMORY_NOTE_LEAVES] = "UPDATE notes SET resident = 0, copy = version, sha = ?3"
                           " WHERE n = ?1 AND version = ?2 AND resident = 1",
    [MEMORY_NOTE_RETURNS] = "UPDATE notes SET resident = 1"
                            " WHERE n = ?1 AND version = ?2 AND resident = 0",
    [MEMORY_NOTE_COPIED] = "UPDATE notes SET copy = -1 WHERE n = ?1 AND version = ?2",
    [MEMORY_NOTE_MODEL] =
        "UPDATE notes SET model = ?3 WHERE n = ?1 AND version = ?2 AND model <> ?3",

    [MEMORY_TEXT_SET] = "INSERT OR REPLACE INTO texts VALUES (?1, ?2)",
    [MEMORY_TEXT_DROP] = "DELETE FROM texts WHERE n = ?1",
    [MEMORY_WORDS_ADD] = "INSERT INTO words (rowid, own, pub, tags) VALUES (?1, ?2, ?3, ?4)",
    [MEMORY_WORDS_DROP] = "INSERT INTO words (words, rowid, own, pub, tags)"
                          " VALUES ('delete', ?1, ?2, ?3, ?4)",

    [MEMORY_GONE_ADD] = "INSERT OR REPLACE INTO gone VALUES (?1, ?2, ?3)",
    [MEMORY_GONE_LIST] = "SELECT n, agent, id FROM gone ORDER BY n LIMIT 64",
    [MEMORY_GONE_DROP] = "DELETE FROM gone WHERE n = ?1",

    [MEMORY_COUNTER_GET] = "SELECT value FROM counters WHERE name = ?1",
    [MEMORY_COUNTER_SET] = "INSERT OR REPLACE INTO counters VALUES (?1, ?2)",
    [MEMORY_USES_GET] = "SELECT uses FROM notes WHERE n = ?1",
    [MEMORY_USES_SET] = "UPDATE notes SET uses = ?2 WHERE n = ?1",
    /* ?3: where in `uses` the k-th last use stands, big-endian; shorter ones compare as less, so
     * what was used less than k times goes first, the longest unused of it before the rest. */
    [MEMORY_VICTIMS] = "SELECT n, bytes FROM notes WHERE owner = ?1 AND resident = 1 AND n <> ?2"
                       " ORDER BY coalesce(substr(uses, ?3, 8), x''), uses, n LIMIT ?4",

    [MEMORY_FIND_WORDS] =
        FOUND("r",
              "SELECT rowid AS n, note_rank(words, ?2) AS r FROM words WHERE words MATCH ?1"
              " ORDER BY r, rowid DESC LIMIT ?3 OFFSET ?4",
              "h.r, h.n DESC"),
    [MEMORY_FIND_WORDS_IN_TIME] =
        FOUND("r",
              "SELECT words.rowid AS n, note_rank(words, ?2) AS r FROM words"
              " CROSS JOIN notes ON notes.n = words.rowid WHERE words MATCH ?1"
              " AND notes.updated >= ?5 AND notes.updated < ?6"
              " ORDER BY r, words.rowid DESC LIMIT ?3 OFFSET ?4",
              "h.r, h.n DESC"),
    [MEMORY_FIND_BY_TAGS] = FOUND("updated",
                                  "SELECT notes.n, notes.updated FROM words"
                                  " CROSS JOIN notes ON notes.n = words.rowid WHERE words MATCH ?1"
                                  " AND notes.updated >= ?5 AND notes.updated < ?6"
                                  " ORDER BY notes.updated DESC, notes.n DESC LIMIT ?3 OFFSET ?4",
                                  "h.updated DESC, h.n DESC"),
    [MEMORY_FIND_OWN] =
        FOUND("updated",
              "SELECT n, updated FROM notes WHERE owner = ?1 AND updated >= ?5 AND updated < ?6"
              " ORDER BY updated DESC, n DESC LIMIT ?3 OFFSET ?4",
              "h.updated DESC, h.n DESC"),
    [MEMORY_FIND_ALL] =
        FOUND("updated",
              "SELECT n, updated FROM notes WHERE owner = ?1 AND updated >= ?5 AND updated < ?6"
              " UNION SELECT n, updated FROM notes WHERE pub = ?2 AND pub <> 0"
              " AND updated >= ?5 AND updated < ?6"
              " UNION SELECT n, updated FROM notes WHERE pub = ?7 AND pub <> 0"
              " AND updated >= ?5 AND updated < ?6"
              " ORDER BY updated DESC, n DESC LIMIT ?3 OFFSET ?4",
              "h.updated DESC, h.n DESC"),

    [MEMORY_MODEL_NEWEST] = "SELECT m, dims FROM models WHERE name = ?1 ORDER BY m DESC LIMIT 1",
    /* Newest once more: a model that was left and is used again. */
    [MEMORY_MODEL_ADD] = "INSERT OR REPLACE INTO models (name, dims) VALUES (?1, ?2) RETURNING m",
    [MEMORY_BACKLOG] =
        "SELECT n FROM (SELECT n FROM notes WHERE owner = ?1 AND model < ?2"
        " UNION ALL SELECT n FROM notes WHERE owner = ?1 AND model > ?2) ORDER BY n DESC LIMIT ?3",
    [MEMORY_VECTOR_ADD] = "INSERT OR REPLACE INTO vectors VALUES (?1, ?2, ?3, ?4)",
    [MEMORY_VECTOR_DROP] = "DELETE FROM vectors WHERE n = ?1 RETURNING scope, model, slot",
    [MEMORY_VECTOR_UNMODEL] =
        "UPDATE notes SET model = 0 WHERE n IN (SELECT n FROM vectors WHERE scope = ?1"
        " AND model = ?2 AND slot >= ?3)",
    [MEMORY_VECTOR_CUT] = "DELETE FROM vectors WHERE scope = ?1 AND model = ?2 AND slot >= ?3",
    [MEMORY_VECTOR_LIST] =
        "SELECT slot, n FROM vectors WHERE scope = ?1 AND model = ?2 AND slot >= 0",
    [MEMORY_VECTOR_SLOTS] =
        "SELECT v.slot FROM vectors v CROSS JOIN notes n ON n.n = v.n WHERE v.scope = ?1"
        " AND v.model = ?2 AND v.slot >= 0 AND n.updated >= ?3 AND n.updated < ?4",
    [MEMORY_VECTOR_SLOTS_BY_TAGS] =
        "SELECT v.slot FROM words CROSS JOIN vectors v ON v.n = words.rowid AND v.scope = ?1"
        " CROSS JOIN notes n ON n.n = words.rowid WHERE words MATCH ?5 AND v.model = ?2"
        " AND v.slot >= 0 AND n.updated >= ?3 AND n.updated < ?4",
};
