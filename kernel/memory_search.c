/* Searching: by words, tags and time; by meaning, where memory_embed.c says what is near. */
#include <stdlib.h>
#include <string.h>

#include "kernel/event.h"
#include "kernel/memory_internal.h"

/* One search: what is asked, and the rows of its page. */
struct search {
    struct memory *m;
    const struct memory_who *who;
    struct memory_query q;
    json_t *tags;
    const struct wait *w;

    struct memory_asker asker;
    struct memory_row rows[MEMORY_PAGE_MAX];
    double scores[MEMORY_PAGE_MAX];
    bool away[MEMORY_PAGE_MAX];
    size_t count; /* of rows that are there */
    size_t seen;  /* with those that are not, and the one beyond the page */
};

static void search_fini(struct search *s)
{
    for (size_t i = 0; i < s->count; i++)
        memory_row_fini(&s->rows[i]);
    json_decref(s->tags);
}

unsigned memory_query_scopes(const struct memory_asker *asker, bool shared,
                             int64_t ret[MEMORY_SCOPES_MAX])
{
    unsigned count = 0;

    if (asker->own.s)
        ret[count++] = asker->own.s;
    if (shared && asker->group)
        ret[count++] = asker->group;
    if (shared && asker->all)
        ret[count++] = asker->all;
    return count;
}

/* Reads the rows of @stmt into the page; what may not be seen, or is gone, leaves no trace. */
static bool collect(struct search *s, struct memory_conn *c, sqlite3_stmt *stmt, struct error *err)
{
    bool row = true;

    for (;;) {
        struct memory_row *at = &s->rows[s->count];

        if (!memory_step(c, stmt, &row, err))
            return false;
        if (!row)
            return true;
        if (s->seen++ == s->q.limit)
            return true;
        if (!memory_row_read(stmt, at, err))
            return false;
        if (!memory_may_read(&s->asker, at)) {
            memory_row_fini(at);
            continue;
        }
        s->scores[s->count++] = s->q.text ? -sqlite3_column_double(stmt, 16) : 0;
    }
}

static void bind_page(const struct search *s, sqlite3_stmt *stmt)
{
    (void)sqlite3_bind_int64(stmt, 3, (int64_t)s->q.limit + 1);
    (void)sqlite3_bind_int64(stmt, 4, (int64_t)s->q.offset);
}

static void bind_time(const struct search *s, sqlite3_stmt *stmt)
{
    (void)sqlite3_bind_int64(stmt, 5, s->q.since_wall_ns);
    (void)sqlite3_bind_int64(stmt, 6, s->q.until_wall_ns ? s->q.until_wall_ns : INT64_MAX);
}

static bool by_time(struct search *s, struct memory_conn *c, struct error *err)
{
    CLEANUP(memory_stmt_donep)
    sqlite3_stmt *stmt = memory_stmt(c, s->q.shared ? MEMORY_FIND_ALL : MEMORY_FIND_OWN, err);

    if (!stmt)
        return false;
    (void)sqlite3_bind_int64(stmt, 1, s->asker.own.s);
    if (s->q.shared) {
        (void)sqlite3_bind_int64(stmt, 2, s->asker.group);
        (void)sqlite3_bind_int64(stmt, 7, s->asker.all);
    }
    bind_page(s, stmt);
    bind_time(s, stmt);
    return collect(s, c, stmt, err);
}

static bool rank_scopes(struct memory_conn *c, const struct search *s, struct memory_rank *rank,
                        struct error *err)
{
    const char *names[MEMORY_SCOPES_MAX];
    char group[MEMORY_SCOPE_BYTES];
    unsigned count = 0;

    rank->notes[0] = (double)s->asker.own.docs;
    rank->length[0] = (double)s->asker.own.words / (double)MAX(s->asker.own.docs, 1);
    count = s->asker.own.s ? 1 : 0;
    names[0] = NULL;
    if (s->q.shared && s->asker.group)
        names[count++] = memory_scope_name('g', s->who->group, group);
    if (s->q.shared && s->asker.all)
        names[count++] = "*";
    for (unsigned i = 0; i < count; i++) {
        struct memory_scope scope;

        if (names[i]) {
            if (!memory_scope(c, names[i], false, &scope, err))
                return false;
            rank->notes[i] = (double)scope.docs;
            rank->length[i] = (double)scope.words / (double)MAX(scope.docs, 1);
        }
        rank->length[i] = rank->length[i] > 1 ? rank->length[i] : 1;
    }
    return true;
}

static bool by_words(struct search *s, struct memory_conn *c, struct error *err)
{
    CLEANUP(buf_fini) struct buf match = BUF_INIT;
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = NULL;
    bool in_time = s->q.since_wall_ns || s->q.until_wall_ns;
    int64_t scopes[MEMORY_SCOPES_MAX];
    unsigned count = memory_query_scopes(&s->asker, s->q.shared, scopes);
    struct memory_rank rank = { .terms = 0 };

    if (count == 0)
        return true;
    if (!memory_words_query(&c->words, s->q.text, s->tags, scopes, count, &match, &rank, err) ||
        !rank_scopes(c, s, &rank, err))
        return false;
    if (s->q.text && rank.terms == 0)
        return true;
    stmt = memory_stmt(c,
                       !s->q.text ? MEMORY_FIND_BY_TAGS
                       : in_time  ? MEMORY_FIND_WORDS_IN_TIME
                                  : MEMORY_FIND_WORDS,
                       err);
    if (!stmt)
        return false;
    (void)sqlite3_bind_text(stmt, 1, match.data, (int)match.len, SQLITE_STATIC);
    if (s->q.text)
        (void)sqlite3_bind_pointer(stmt, 2, &rank, MEMORY_RANK, NULL);
    bind_page(s, stmt);
    if (!s->q.text || in_time)
        bind_time(s, stmt);
    return collect(s, c, stmt, err);
}

static bool read_near(struct search *s, const struct memory_near *near, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(s->m->db, s->w, err);

    if (!c)
        return false;
    s->seen = near->count > s->q.offset ? near->count - s->q.offset : 0;
    for (size_t i = s->q.offset; i < near->count && i - s->q.offset < s->q.limit; i++) {
        struct memory_row *at = &s->rows[s->count];

        if (!memory_row_get(c, near->n[i], NULL, at, err))
            return false;
        if (memory_may_read(&s->asker, at))
            s->scores[s->count++] = (double)near->score[i];
        else
            memory_row_fini(at);
    }
    return true;
}

static bool by_meaning(struct search *s, struct error *err)
{
    struct memory_near near = { .count = 0 };
    struct memory_query q = s->q;
    bool ok;

    q.tags = s->tags;
    ok = memory_nearest(s->m, s->who, &s->asker, &q, q.offset + q.limit + 1, s->w, &near, err) &&
         read_near(s, &near, err);
    free(near.n);
    free(near.score);
    return ok;
}

static bool look_up(struct search *s, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(s->m->db, s->w, err);

    if (!c || !memory_asker(c, s->who, false, &s->asker, err))
        return false;
    if (s->q.semantic)
        return true;
    return s->q.text || json_array_size(s->tags) > 0 ? by_words(s, c, err) : by_time(s, c, err);
}

/* Texts that are in storage.  When it does not answer, the notes are found without. */
static bool complete(struct search *s, struct error *err)
{
    struct error why = ERROR_INIT;
    bool down = false, any = false;

    for (size_t i = 0; i < s->count; i++) {
        bool missing = false;

        if (s->rows[i].resident)
            continue;
        if (!down && memory_load(s->m, &s->rows[i], &missing, s->w, &why)) {
            any = true;
            continue;
        }
        if (why.code == ERR_CANCELLED || why.code == ERR_NOMEM) {
            if (err)
                *err = why;
            return false;
        }
        down = down || !missing;
        error_clear(&why);
        s->away[i] = true;
    }
    if (any)
        memory_bring_back(s->m, s->rows, s->count, s->w);
    return true;
}

static bool answer(struct search *s, struct memory_found *ret, struct error *err)
{
    struct memory_note *notes = calloc(s->count ? s->count : 1, sizeof *notes);

    if (!notes)
        return error_set(err, ERR_NOMEM, "what was found");
    *ret = (struct memory_found){ .notes = notes, .more = s->seen > s->q.limit };
    for (size_t i = 0; i < s->count; i++) {
        int64_t n = s->rows[i].n;

        if (s->away[i] && !(s->rows[i].text = strdup(""))) {
            memory_found_fini(ret);
            return error_set(err, ERR_NOMEM, "what was found");
        }
        memory_row_to_note(&s->rows[i], &notes[i]);
        notes[i].score = s->scores[i];
        notes[i].away = s->away[i];
        ret->count++;
        if (!s->away[i])
            memory_used(s->m, n, s->w);
    }
    return true;
}

bool memory_search(struct memory *m, const struct memory_who *who, const struct memory_query *query,
                   const struct wait *w, struct memory_found *ret, struct error *err)
{
    struct search *s;
    bool ok;

    if (query->limit < 1 || query->limit > MEMORY_PAGE_MAX || query->offset > MEMORY_OFFSET_MAX)
        return error_set(err, ERR_INVALID,
                         "limit must be 1 to %u and offset at most %u; narrow the search instead",
                         MEMORY_PAGE_MAX, MEMORY_OFFSET_MAX);
    s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, ERR_NOMEM, "the search");
    s->m = m;
    s->who = who;
    s->q = *query;
    s->w = w;
    if (s->q.text && !*s->q.text)
        s->q.text = NULL;
    if (s->q.semantic && !s->q.text)
        ok = error_set(err, ERR_INVALID, "a search by meaning needs a text");
    else
        ok = (!query->tags || memory_tags(query->tags, &s->tags, err)) && look_up(s, err) &&
             (!s->q.semantic || by_meaning(s, err)) && complete(s, err) && answer(s, ret, err);
    search_fini(s);
    free(s);
    return ok;
}
