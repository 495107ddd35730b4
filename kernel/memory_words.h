/*
 * memory_words - how text becomes words of the index, and a person's question becomes a query.
 *
 * Every word in the index begins with the number of the scope it belongs to (an agent, a group, or
 * everybody), so a search touches nothing but what its scopes hold, and what it finds, and how it
 * is ranked, says nothing about anybody else's notes.  Words are folded and stemmed as by FTS5's
 * porter and unicode61; each Chinese, Japanese or Korean character is a word of its own.
 * Threads: one at a time for each struct memory_words.
 */
#pragma once

#include <jansson.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

#define MEMORY_SCOPES_MAX 3u    /* of one search: one's own, the group's, everybody's */
#define MEMORY_TERMS_MAX  64u   /* of one search; what comes after them is not looked for */
#define MEMORY_QUERY_MAX  8192u /* bytes of a question that are looked at */

/** One for each connection, registered there as tokenizer "notes" and function "note_rank". */
struct memory_words {
    fts5_tokenizer inner;
    void *inner_arg;
    Fts5Tokenizer *own;    /* for questions */
    unsigned long counted; /* words of text that were added or removed since it was set to 0 */
};

NODISCARD bool memory_words_register(struct memory_words *words, sqlite3 *sql, struct error *err);
void memory_words_fini(struct memory_words *words);

/** What stands in the three columns of the index.  @scope2 0: none. */
NODISCARD bool memory_words_text(struct buf *out, int64_t scope, const char *text, size_t len);
NODISCARD bool memory_words_tags(struct buf *out, int64_t scope, int64_t scope2,
                                 const json_t *tags);

/** What note_rank() needs, bound as a pointer named MEMORY_RANK. */
#define MEMORY_RANK "memory_rank"
struct memory_rank {
    unsigned terms, tags; /* phrases of each scope */
    unsigned scopes;
    double notes[MEMORY_SCOPES_MAX];
    double length[MEMORY_SCOPES_MAX]; /* average, in words */
};

/** A query for FTS5 that cannot be wrong whatever @text is.  Any of its words is enough; between
 *  quotes they must follow each other; every tag must be there.  rank->terms 0 afterwards: there
 *  was no word in it. */
NODISCARD bool memory_words_query(struct memory_words *words, const char *text, const json_t *tags,
                                  const int64_t *scopes, unsigned scope_count, struct buf *out,
                                  struct memory_rank *rank, struct error *err);
