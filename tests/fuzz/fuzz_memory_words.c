/* Any text is a question: the query that is made of it compiles, runs, and finds nothing of others.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/memory_words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sqlite3 *sql;
static struct memory_words words;
static sqlite3_stmt *add, *find;

static void must(int ok)
{
    if (!ok)
        abort();
}

static void set_up(void)
{
    must(sqlite3_open(":memory:", &sql) == SQLITE_OK);
    must(memory_words_register(&words, sql, NULL));
    must(sqlite3_exec(sql,
                      "CREATE VIRTUAL TABLE words USING fts5 (own, pub, tags, content='',"
                      " tokenize='notes')",
                      NULL, NULL, NULL) == SQLITE_OK);
    must(sqlite3_prepare_v2(sql,
                            "INSERT INTO words (rowid, own, pub, tags) VALUES (?1, ?2, '', '')", -1,
                            &add, NULL) == SQLITE_OK);
    must(sqlite3_prepare_v2(sql,
                            "SELECT rowid, note_rank(words, ?2) FROM words WHERE words MATCH ?1",
                            -1, &find, NULL) == SQLITE_OK);
}

static void put(int64_t row, int64_t scope, const char *text, size_t len)
{
    struct buf column = BUF_INIT;

    must(memory_words_text(&column, scope, text, len));
    (void)sqlite3_bind_int64(add, 1, row);
    (void)sqlite3_bind_text(add, 2, column.data, (int)column.len, SQLITE_STATIC);
    must(sqlite3_step(add) == SQLITE_DONE);
    (void)sqlite3_reset(add);
    (void)sqlite3_clear_bindings(add);
    buf_fini(&column);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int64_t scopes[] = { 17, 3 };
    struct memory_rank rank = { .notes = { 1, 1 }, .length = { 1, 1 } };
    struct buf match = BUF_INIT;
    char *text;
    int rc, found = 0;

    if (!sql)
        set_up();
    if (size > 20000 || !(text = malloc(size + 1)))
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    must(sqlite3_exec(sql, "BEGIN", NULL, NULL, NULL) == SQLITE_OK);
    put(1, 17, text, strlen(text));
    put(2, 4, text, strlen(text)); /* somebody else's */
    must(memory_words_query(&words, text, NULL, scopes, 2, &match, &rank, NULL));
    if (rank.terms > 0) {
        (void)sqlite3_bind_text(find, 1, match.data, (int)match.len, SQLITE_STATIC);
        (void)sqlite3_bind_pointer(find, 2, &rank, MEMORY_RANK, NULL);
        while ((rc = sqlite3_step(find)) == SQLITE_ROW) {
            must(sqlite3_column_int64(find, 0) == 1);
            must(sqlite3_column_double(find, 1) <= 0);
            found++;
        }
        must(rc == SQLITE_DONE);
        must(found == 1); /* a text is found by its own words */
        (void)sqlite3_reset(find);
        (void)sqlite3_clear_bindings(find);
    }
    must(sqlite3_exec(sql, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK);
    buf_fini(&match);
    free(text);
    return 0;
}
