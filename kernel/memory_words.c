#include "kernel/memory_words.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/utf8.h"

#define HEAD_BYTES  48 /* of a column, before its first newline */
#define TOKEN_BYTES 1024
#define WORD_SIGN   '\x1f' /* between a scope and a word */
#define TAG_SIGN    '\x1e'
#define BM25_K1     1.2
#define BM25_B      0.75
#define IDF_LEAST   1e-6
#define STOP_LENGTH 5 /* of the longest in the list below */
#define TERMS_FOUND (4 * MEMORY_TERMS_MAX)

/* ---- what is written into the columns ----
 *
 * "T<scope>\n<text>" or "G<scope>,<scope>\n<tag>\n<tag>": the tokenizer is told no more than the
 * text, so what it must know stands at its head. */

bool memory_words_text(struct buf *out, int64_t scope, const char *text, size_t len)
{
    return scope == 0 ||
           (buf_printf(out, "T%lld\n", (long long)scope) && buf_append(out, text, len));
}

bool memory_words_tags(struct buf *out, int64_t scope, int64_t scope2, const json_t *tags)
{
    size_t i;
    json_t *tag;

    if (json_array_size(tags) == 0)
        return true;
    if (!(scope2 ? buf_printf(out, "G%lld,%lld", (long long)scope, (long long)scope2)
                 : buf_printf(out, "G%lld", (long long)scope)))
        return false;
    json_array_foreach (tags, i, tag)
        if (!buf_append_char(out, '\n') || !buf_append_str(out, json_string_value(tag)))
            return false;
    return true;
}

/* ---- the tokenizer ---- */

typedef int emit_fn(void *arg, int flags, const char *token, int len, int start, int end);

struct tokenizer {
    struct memory_words *words;
    Fts5Tokenizer *inner;
};

/* Puts the scope before each word and hands it on. */
struct emit {
    emit_fn *fn;
    void *arg;
    char token[HEAD_BYTES + TOKEN_BYTES];
    int head; /* bytes of token that are the scope */
    int base; /* where in the whole text the piece begins that is being cut */
    unsigned long count;
};

static int emit_word(void *arg, int flags, const char *word, int len, int start, int end)
{
    struct emit *e = arg;
    int kept = len > TOKEN_BYTES ? TOKEN_BYTES : len;

    memcpy(e->token + e->head, word, (size_t)kept);
    e->count++;
    return e->fn(e->arg, flags, e->token, e->head + kept, e->base + start, e->base + end);
}

/* Characters of scripts that are written without spaces: kana, Han, Hangul, Thai and kin. */
static bool stands_alone(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        { 0x0e00, 0x0eff }, { 0x1000, 0x109f }, { 0x1100, 0x11ff },   { 0x1780, 0x17ff },
        { 0x2e80, 0x2fdf }, { 0x3005, 0x3007 }, { 0x3041, 0x30ff },   { 0x3105, 0x318e },
        { 0x31a0, 0x31ff }, { 0x3400, 0x4dbf }, { 0x4e00, 0x9fff },   { 0xac00, 0xd7af },
        { 0xf900, 0xfaff }, { 0xff66, 0xffdc }, { 0x20000, 0x323af },
    };

    if (c < ranges[0].first)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return c != 0x30fb; /* the dot between names */
    return false;
}

/* The character at @at and its length.  The text need not be valid: an odd byte is one. */
static uint32_t character(const char *at, const char *end, int *ret_len)
{
    const unsigned char *p = (const unsigned char *)at;
    int len = *p < 0x80 ? 1 : *p < 0xc2 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    uint32_t c = *p;

    *ret_len = 1;
    if (len == 1 || end - at < len)
        return c;
    c &= 0x7fu >> len;
    for (int i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return *p;
        c = c << 6 | (p[i] & 0x3fu);
    }
    *ret_len = len;
    return c;
}

static int cut_words(struct tokenizer *t, struct emit *e, int flags, const char *text, int len)
{
    const char *end = text + len, *piece = text, *at = text;
    int base = e->base, rc = SQLITE_OK;

    while (rc == SQLITE_OK && at < end) {
        int n = 1;
        bool alone = (unsigned char)*at >= 0xe0 && stands_alone(character(at, end, &n));

        if (alone) {
            e->base = base + (int)(piece - text);
            if (at > piece)
                rc = t->words->inner.xTokenize(t->inner, e, flags, piece, (int)(at - piece),
                                               emit_word);
            e->base = base + (int)(at - text);
            if (rc == SQLITE_OK)
                rc = emit_word(e, 0, at, n, 0, n);
            piece = at + n;
        }
        at += n;
    }
    e->base = base + (int)(piece - text);
    if (rc == SQLITE_OK && end > piece)
        rc = t->words->inner.xTokenize(t->inner, e, flags, piece, (int)(end - piece), emit_word);
    return rc;
}

static int cut_tags(struct emit *e, const char *text, int len)
{
    const char *end = text + len;
    int rc = SQLITE_OK;

    while (rc == SQLITE_OK && text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        char folded[TOKEN_BYTES];
        int n = (int)((stop ? stop : end) - text);

        n = n > TOKEN_BYTES ? TOKEN_BYTES : n;
        for (int i = 0; i < n; i++)
            folded[i] = (char)(text[i] & 0x80 ? text[i] : tolower((unsigned char)text[i]));
        if (n > 0)
            rc = emit_word(e, 0, folded, n, 0, n);
        text = stop ? stop + 1 : end;
    }
    return rc;
}

static int cut(Fts5Tokenizer *tokenizer, void *arg, int flags, const char *text, int len,
               emit_fn *fn)
{
    struct tokenizer *t = (struct tokenizer *)(void *)tokenizer;
    const char *body = len > 0 ? memchr(text, '\n', (size_t)MIN(len, HEAD_BYTES)) : NULL;
    struct emit e = { .fn = fn, .arg = arg };
    const char *at = text + 1;
    int rc = SQLITE_OK;

    if (!body)
        return SQLITE_OK;
    body++;
    while (rc == SQLITE_OK && at < body) {
        size_t digits = strspn(at, "0123456789");

        if (digits == 0 || digits > 20)
            return SQLITE_ERROR;
        memcpy(e.token, at, digits);
        e.token[digits] = *text == 'T' ? WORD_SIGN : TAG_SIGN;
        e.head = (int)digits + 1;
        e.base = (int)(body - text);
        rc = *text == 'T' ? cut_words(t, &e, flags, body, len - e.base)
                          : cut_tags(&e, body, len - e.base);
        at += digits + 1;
    }
    if (*text == 'T' && (flags & FTS5_TOKENIZE_DOCUMENT))
        t->words->counted += e.count;
    return rc;
}

static int make(void *arg, const char **args, int count, Fts5Tokenizer **ret)
{
    static const char *const inner_args[] = { "unicode61", "remove_diacritics", "2" };
    struct memory_words *words = arg;
    struct tokenizer *t = calloc(1, sizeof *t);
    const char *copy[ARRAY_LEN(inner_args)];
    int rc;

    (void)args;
    (void)count;
    if (!t)
        return SQLITE_NOMEM;
    memcpy(copy, inner_args, sizeof copy);
    t->words = words;
    rc = words->inner.xCreate(words->inner_arg, copy, ARRAY_LEN(copy), &t->inner);
    if (rc == SQLITE_OK)
        *ret = (Fts5Tokenizer *)(void *)t;
    else
        free(t);
    return rc;
}

static void unmake(Fts5Tokenizer *tokenizer)
{
    struct tokenizer *t = (struct tokenizer *)(void *)tokenizer;

    if (!t)
        return;
    t->words->inner.xDelete(t->inner);
    free(t);
}

/* ---- ranking ---- */

/* BM25 as FTS5's own, within each scope; the best of them counts. */
struct weights {
    double idf[MEMORY_SCOPES_MAX][MEMORY_TERMS_MAX];
};

static int count_row(const Fts5ExtensionApi *api, Fts5Context *fts, void *arg)
{
    int64_t *rows = arg;

    (void)api;
    (void)fts;
    (*rows)++;
    return SQLITE_OK;
}

static int weigh(const Fts5ExtensionApi *api, Fts5Context *fts, const struct memory_rank *rank,
                 struct weights **ret)
{
    struct weights *w = calloc(1, sizeof *w);
    int rc = SQLITE_OK;

    if (!w)
        return SQLITE_NOMEM;
    for (unsigned s = 0; rc == SQLITE_OK && s < rank->scopes; s++) {
        for (unsigned i = 0; rc == SQLITE_OK && i < rank->terms; i++) {
            int64_t rows = 0;

            rc =
                api->xQueryPhrase(fts, (int)(s * (rank->terms + rank->tags) + i), &rows, count_row);
            w->idf[s][i] = log((rank->notes[s] - (double)rows + 0.5) / ((double)rows + 0.5));
            if (!(w->idf[s][i] > IDF_LEAST))
                w->idf[s][i] = IDF_LEAST;
        }
    }
    if (rc == SQLITE_OK)
        rc = api->xSetAuxdata(fts, w, free); /* frees it, too, when it fails */
    else
        free(w);
    *ret = w;
    return rc;
}

static int hits(const Fts5ExtensionApi *api, Fts5Context *fts, unsigned phrase, double *ret)
{
    Fts5PhraseIter it;
    int column, offset, count = 0;
    int rc = api->xPhraseFirst(fts, (int)phrase, &it, &column, &offset);

    for (; rc == SQLITE_OK && column >= 0; api->xPhraseNext(fts, &it, &column, &offset))
        count++;
    *ret = count;
    return rc;
}

static void note_rank(const Fts5ExtensionApi *api, Fts5Context *fts, sqlite3_context *ret,
                      int count, sqlite3_value **args)
{
    const struct memory_rank *rank =
        count == 1 ? sqlite3_value_pointer(args[0], MEMORY_RANK) : NULL;
    struct weights *w = rank ? api->xGetAuxdata(fts, 0) : NULL;
    double best = 0;
    int length = 0, rc = SQLITE_OK;

    if (!rank) {
        sqlite3_result_error(ret, "note_rank() wants to know what to rank", -1);
        return;
    }
    if (!w)
        rc = weigh(api, fts, rank, &w);
    if (rc == SQLITE_OK)
        rc = api->xColumnSize(fts, 0, &length);
    for (unsigned s = 0; rc == SQLITE_OK && s < rank->scopes; s++) {
        double k = BM25_K1 * (1 - BM25_B + BM25_B * length / rank->length[s]), score = 0;

        for (unsigned i = 0; rc == SQLITE_OK && i < rank->terms; i++) {
            double tf = 0;

            rc = hits(api, fts, s * (rank->terms + rank->tags) + i, &tf);
            score += w->idf[s][i] * tf * (BM25_K1 + 1) / (tf + k);
        }
        best = score > best ? score : best;
    }
    if (rc == SQLITE_OK)
        sqlite3_result_double(ret, -best); /* the best comes first, as with FTS5's own */
    else
        sqlite3_result_error_code(ret, rc);
}

/* ---- registering ---- */

static fts5_api *api_of(sqlite3 *sql)
{
    sqlite3_stmt *stmt = NULL;
    fts5_api *api = NULL;

    if (sqlite3_prepare_v2(sql, "SELECT fts5(?1)", -1, &stmt, NULL) == SQLITE_OK) {
        (void)sqlite3_bind_pointer(stmt, 1, (void *)&api, "fts5_api_ptr", NULL);
        (void)sqlite3_step(stmt);
    }
    (void)sqlite3_finalize(stmt);
    return api;
}

bool memory_words_register(struct memory_words *words, sqlite3 *sql, struct error *err)
{
    fts5_tokenizer ours = { make, unmake, cut };
    fts5_api *api = api_of(sql);
    int rc;

    if (!api)
        return sqlite3_errcode(sql) == SQLITE_NOMEM
                   ? error_set(err, ERR_NOMEM, "full-text search")
                   : error_set(err, ERR_UNSUPPORTED,
                               "this SQLite has no full-text search (FTS5): install one that has");
    rc = api->xFindTokenizer(api, "porter", &words->inner_arg, &words->inner);
    if (rc == SQLITE_OK)
        rc = api->xCreateTokenizer(api, "notes", words, &ours, NULL);
    if (rc == SQLITE_OK)
        rc = api->xCreateFunction(api, "note_rank", NULL, note_rank, NULL);
    if (rc == SQLITE_OK)
        rc = make(words, NULL, 0, &words->own);
    if (rc != SQLITE_OK)
        return error_set(err, rc == SQLITE_NOMEM ? ERR_NOMEM : ERR_IO, "full-text search: %s",
                         sqlite3_errstr(rc));
    return true;
}

void memory_words_fini(struct memory_words *words)
{
    unmake(words->own);
    words->own = NULL;
}

/* ---- questions ---- */

/* A piece of the question that is looked for as it stands: a word, or several between quotes. */
struct term {
    const char *text;
    size_t len;
    bool quoted;
};

struct terms {
    struct term at[TERMS_FOUND];
    size_t count;
};

/* Words that say nothing about what is meant, and stand in nearly every note. */
static bool is_stop_word(const struct term *term)
{
    static const char list[] = " a an and are as at be by do does for from has have how i in is it "
                               "me my of on or that the this to was what when where which who why "
                               "will with you your ";
    char padded[STOP_LENGTH + 3];

    if (term->quoted || term->len > STOP_LENGTH)
        return false;
    padded[0] = ' ';
    for (size_t i = 0; i < term->len; i++)
        padded[1 + i] = (char)tolower((unsigned char)term->text[i]);
    memcpy(padded + 1 + term->len, " ", 2);
    return strlen(padded) == term->len + 2 && strstr(list, padded);
}

static int count_token(void *arg, int flags, const char *token, int len, int start, int end)
{
    int *count = arg;

    (void)flags;
    (void)token;
    (void)len;
    (void)start;
    (void)end;
    (*count)++;
    return SQLITE_OK;
}

/* Has it a word at all?  What has none would match nothing, and with it all that it is part of. */
static bool has_words(struct memory_words *words, const char *text, size_t len, bool *ret)
{
    struct tokenizer *t = (struct tokenizer *)(void *)words->own;
    struct emit e = { .fn = count_token };
    int count = 0;

    e.arg = &count;
    if (cut_words(t, &e, FTS5_TOKENIZE_QUERY, text, (int)len) != SQLITE_OK)
        return false;
    *ret = count > 0;
    return true;
}

static bool add_term(struct memory_words *words, struct terms *terms, const char *text, size_t len,
                     bool quoted)
{
    bool worth = false;

    if (terms->count == ARRAY_LEN(terms->at) || len == 0)
        return true;
    if (!has_words(words, text, len, &worth))
        return false;
    for (size_t i = 0; worth && i < terms->count; i++)
        if (terms->at[i].len == len && !memcmp(terms->at[i].text, text, len))
            return true;
    if (worth)
        terms->at[terms->count++] = (struct term){ text, len, quoted };
    return true;
}

/* A run of characters without spaces: each two that follow each other, since nobody knows where
 * its words end. */
static bool add_pairs(struct memory_words *words, struct terms *terms, const char *text, size_t len)
{
    const char *end = text + len;
    int first, second;

    (void)character(text, end, &first);
    if ((size_t)first == len)
        return add_term(words, terms, text, len, false);
    for (const char *at = text; at + first < end; at += first, first = second) {
        (void)character(at + first, end, &second);
        if (!add_term(words, terms, at, (size_t)first + (size_t)second, false))
            return false;
    }
    return true;
}

/* What stands between two spaces: split where the kind of script changes. */
static bool add_word(struct memory_words *words, struct terms *terms, const char *text, size_t len)
{
    const char *end = text + len, *begin = text;
    bool was = false;

    for (const char *at = text; at < end;) {
        int n;
        bool is = stands_alone(character(at, end, &n));

        if (at > begin && is != was) {
            if (!(was ? add_pairs(words, terms, begin, (size_t)(at - begin))
                      : add_term(words, terms, begin, (size_t)(at - begin), false)))
                return false;
            begin = at;
        }
        was = is;
        at += n;
    }
    return begin == end || (was ? add_pairs(words, terms, begin, (size_t)(end - begin))
                                : add_term(words, terms, begin, (size_t)(end - begin), false));
}

static bool find_terms(struct memory_words *words, const char *text, struct terms *terms)
{
    size_t len = strnlen(text, MEMORY_QUERY_MAX + 1);
    const char *end;

    if (len > MEMORY_QUERY_MAX)
        len = utf8_cut(text, len, MEMORY_QUERY_MAX);
    end = text + len;

    while (text < end) {
        const char *quote = *text == '"' ? memchr(text + 1, '"', (size_t)(end - text) - 1) : NULL;
        const char *stop = text;

        if (quote) {
            if (!add_term(words, terms, text + 1, (size_t)(quote - text) - 1, true))
                return false;
            text = quote + 1;
            continue;
        }
        while (stop < end && !isspace((unsigned char)*stop) && (*stop != '"' || stop == text))
            stop++;
        if (!add_word(words, terms, text, (size_t)(stop - text)))
            return false;
        text = stop < end && isspace((unsigned char)*stop) ? stop + 1 : stop;
    }
    return true;
}

/* Not without need: a question of nothing but such words is taken as it is. */
static void drop_stop_words(struct terms *terms)
{
    size_t kept = 0;

    for (size_t i = 0; i < terms->count; i++)
        kept += !is_stop_word(&terms->at[i]);
    if (kept > 0) {
        kept = 0;
        for (size_t i = 0; i < terms->count; i++)
            if (!is_stop_word(&terms->at[i]))
                terms->at[kept++] = terms->at[i];
        terms->count = kept;
    }
    terms->count = MIN(terms->count, (size_t)MEMORY_TERMS_MAX);
}

static void put_phrase(struct buf *out, char kind, int64_t scope, const char *text, size_t len)
{
    (void)buf_printf(out, "\"%c%lld\n", kind, (long long)scope);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"')
            (void)buf_append_char(out, '"');
        (void)buf_append_char(out, text[i]);
    }
    (void)buf_append_char(out, '"');
}

static void put_scope(struct buf *out, int64_t scope, const struct terms *terms, const json_t *tags)
{
    size_t i;
    json_t *tag;

    (void)buf_append_char(out, '(');
    for (i = 0; i < terms->count; i++) {
        (void)buf_append_str(out, i ? " OR " : "(");
        put_phrase(out, 'T', scope, terms->at[i].text, terms->at[i].len);
    }
    if (terms->count > 0)
        (void)buf_append_char(out, ')');
    json_array_foreach (tags, i, tag) {
        if (i > 0 || terms->count > 0)
            (void)buf_append_str(out, " AND ");
        put_phrase(out, 'G', scope, json_string_value(tag), json_string_length(tag));
    }
    (void)buf_append_char(out, ')');
}

bool memory_words_query(struct memory_words *words, const char *text, const json_t *tags,
                        const int64_t *scopes, unsigned scope_count, struct buf *out,
                        struct memory_rank *rank, struct error *err)
{
    struct terms *terms = calloc(1, sizeof *terms);

    if (!terms || !find_terms(words, text ? text : "", terms)) {
        free(terms);
        return error_set(err, ERR_NOMEM, "the search");
    }
    drop_stop_words(terms);
    rank->terms = (unsigned)terms->count;
    rank->tags = (unsigned)json_array_size(tags);
    rank->scopes = scope_count;
    for (unsigned s = 0; s < scope_count; s++) {
        if (s > 0)
            (void)buf_append_str(out, " OR ");
        put_scope(out, scopes[s], terms, tags);
    }
    free(terms);
    return !out->failed || error_set(err, ERR_NOMEM, "the search");
}
