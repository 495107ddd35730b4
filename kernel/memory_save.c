/* Saving: checks, the index, quota. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/id.h"
#include "kernel/base/utf8.h"
#include "kernel/event.h"
#include "kernel/memory_internal.h"

/* One save, as it is tried again and again until nobody was in between. */
struct save {
    struct memory *m;
    const struct memory_who *who;
    const char *id, *text;
    size_t len;
    json_t *tags; /* NULL: as they are */
    enum memory_sharing sharing;
    uint64_t if_version;
    const struct wait *w;

    struct memory_row old; /* as it was when its text was fetched from storage */
    int64_t need, own_n;   /* room that was missing, and who must not make it */
    struct memory_freed freed;
    int64_t before, after; /* resident bytes */
    struct memory_note note;
    int64_t n;
};

enum outcome { FAILED, SAVED, NO_ROOM, TEXT_IS_AWAY };

/* ---- checks ---- */

static bool check_text(const struct save *s, struct error *err)
{
    if (s->len == 0)
        return error_set(err, ERR_INVALID, "the text of a note must not be empty");
    if (s->len > MEMORY_NOTE_BYTES)
        return error_set(err, ERR_LIMIT,
                         "a note may have %u bytes, this one has %zu; save it in parts, or as a "
                         "file",
                         MEMORY_NOTE_BYTES, s->len);
    if (memchr(s->text, '\0', s->len) || !utf8_valid(s->text, s->len))
        return error_set(err, ERR_INVALID, "the text of a note must be UTF-8 without NUL");
    if (s->sharing == MEMORY_GROUP && (!s->who->group || !*s->who->group))
        return error_set(err, ERR_INVALID, "agent %s is in no group to share with", s->who->agent);
    return true;
}

static bool check_tag(const char *tag, size_t len, struct error *err)
{
    if (len == 0 || len > MEMORY_TAG_BYTES || memchr(tag, '\0', len) || !utf8_valid(tag, len))
        return error_set(err, ERR_INVALID, "a tag must be 1 to %u bytes of UTF-8",
                         MEMORY_TAG_BYTES);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)tag[i] < 0x20 || tag[i] == 0x7f)
            return error_set(err, ERR_INVALID, "a tag must have no control characters");
    return true;
}

bool memory_tags(const json_t *tags, json_t **ret, struct error *err)
{
    json_t *list = json_array();
    size_t i;
    json_t *tag;

    *ret = list;
    if (!list)
        return error_set(err, ERR_NOMEM, "tags");
    if (tags && !json_is_array(tags))
        return error_set(err, ERR_INVALID, "tags must be a list of words");
    json_array_foreach (tags, i, tag) {
        bool known = false;

        if (!json_is_string(tag))
            return error_set(err, ERR_INVALID, "tags must be a list of words");
        if (!check_tag(json_string_value(tag), json_string_length(tag), err))
            return false;
        for (size_t k = 0; k < json_array_size(list); k++)
            known = known || json_equal(json_array_get(list, k), tag);
        if (!known && json_array_append_new(list, json_copy(tag)))
            return error_set(err, ERR_NOMEM, "tags");
    }
    if (json_array_size(list) > MEMORY_TAGS)
        return error_set(err, ERR_LIMIT, "a note may have %u tags, these are %zu", MEMORY_TAGS,
                         json_array_size(list));
    return true;
}

/* ---- the index ---- */

static void bind_column(sqlite3_stmt *stmt, int at, const struct buf *b)
{
    if (b->len > 0)
        (void)sqlite3_bind_text(stmt, at, b->data, (int)b->len, SQLITE_STATIC);
    else
        (void)sqlite3_bind_null(stmt, at);
}

static bool count_words(struct memory_conn *c, const struct memory_row *row, int64_t docs,
                        int64_t words, struct error *err)
{
    return MEMORY_DO(c, MEMORY_SCOPE_WORDS, NULL, err, row->owner, docs, words) &&
           (row->pub == 0 || MEMORY_DO(c, MEMORY_SCOPE_WORDS, NULL, err, row->pub, docs, words));
}

bool memory_index(struct memory_conn *c, const struct memory_row *row, bool add,
                  int64_t *ret_length, struct error *err)
{
    CLEANUP(buf_fini) struct buf own = BUF_INIT;
    CLEANUP(buf_fini) struct buf pub = BUF_INIT;
    CLEANUP(buf_fini) struct buf tags = BUF_INIT;
    CLEANUP(memory_stmt_donep)
    sqlite3_stmt *stmt = memory_stmt(c, add ? MEMORY_WORDS_ADD : MEMORY_WORDS_DROP, err);
    int64_t length;

    if (!stmt)
        return false;
    if (!memory_words_text(&own, row->owner, row->text, row->len) ||
        !memory_words_text(&pub, row->pub, row->text, row->len) ||
        !memory_words_tags(&tags, row->owner, row->pub, row->tags))
        return error_set(err, ERR_NOMEM, "the words of a note");
    (void)sqlite3_bind_int64(stmt, 1, row->n);
    bind_column(stmt, 2, &own);
    bind_column(stmt, 3, &pub);
    bind_column(stmt, 4, &tags);
    c->words.counted = 0;
    if (!memory_run(c, stmt, err))
        return false;
    length = (int64_t)(c->words.counted / (row->pub ? 2 : 1));
    if (ret_length)
        *ret_length = length;
    return count_words(c, row, add ? 1 : -1, add ? length : -length, err);
}

/* ---- one attempt ---- */

static bool pub_scope(struct save *s, struct memory_conn *c, const struct memory_row *old,
                      int64_t *ret, struct error *err)
{
    char name[MEMORY_SCOPE_BYTES];
    struct memory_scope scope = { .s = 0 };

    *ret = s->sharing == MEMORY_KEEP ? old->pub : 0;
    if (s->sharing == MEMORY_GROUP || s->sharing == MEMORY_ALL) {
        if (!memory_scope(
                c, s->sharing == MEMORY_ALL ? "*" : memory_scope_name('g', s->who->group, name),
                true, &scope, err))
            return false;
        *ret = scope.s;
    }
    return true;
}

/* The row that is replaced; old->n 0 for a new note. */
static enum outcome find_old(struct save *s, struct memory_conn *c, struct memory_row *old,
                             struct error *err)
{
    struct memory_asker asker;

    if (!s->id)
        return SAVED;
    if (!memory_asker(c, s->who, false, &asker, err) || !memory_row_get(c, 0, s->id, old, err))
        return FAILED;
    if (!memory_may_read(&asker, old)) {
        error_set(err, ERR_NOT_FOUND,
                  "no note %.39s to replace; leave out the id to save a new one", s->id);
        return FAILED;
    }
    if (old->owner != asker.own.s) {
        error_set(err, ERR_DENIED, "note %s belongs to %s, who alone may change it", old->id,
                  old->owner_name);
        return FAILED;
    }
    if (s->if_version && s->if_version != old->version) {
        error_set(err, ERR_EXISTS, "note %s is at version %llu, not %llu", old->id,
                  (unsigned long long)old->version, (unsigned long long)s->if_version);
        return FAILED;
    }
    if (old->resident)
        return SAVED;
    if (s->old.n != old->n || s->old.version != old->version || !s->old.text) {
        memory_row_fini(&s->old);
        s->old = *old;
        *old = (struct memory_row){ .n = 0 };
        return TEXT_IS_AWAY;
    }
    return memory_row_text(old, s->old.text, s->old.len, err) ? SAVED : FAILED;
}

static enum outcome check_room(struct save *s, const struct memory_scope *own,
                               const struct memory_row *old, int64_t bytes, struct error *err)
{
    int64_t freed = old->resident ? old->bytes : 0;

    if (old->n == 0 && own->notes >= s->m->max_notes) {
        error_set(err, ERR_LIMIT,
                  "agent %s has %lld notes, which is the most (memory.max_notes); delete some with "
                  "memory_delete",
                  s->who->agent, (long long)own->notes);
        return FAILED;
    }
    s->need = bytes - freed;
    s->own_n = old->n;
    if (s->need > 0 && own->resident_bytes + s->need > s->m->quota)
        return NO_ROOM;
    s->before = own->resident_bytes;
    return SAVED;
}

static bool bind_note(sqlite3_stmt *stmt, const int64_t *numbers, int count, const char *tags)
{
    for (int i = 0; i < count; i++)
        (void)sqlite3_bind_int64(stmt, i + 2, numbers[i]);
    return sqlite3_bind_text(stmt, count + 2, tags, -1, SQLITE_STATIC) == SQLITE_OK;
}

static bool put_row(struct memory_conn *c, struct memory_row *row, bool is_new, struct error *err)
{
    CLEANUP(memory_stmt_donep)
    sqlite3_stmt *stmt = memory_stmt(c, is_new ? MEMORY_NOTE_ADD : MEMORY_NOTE_CHANGE, err);
    char *tags = stmt ? json_dumps(row->tags, JSON_COMPACT) : NULL;
    bool ok;

    if (!tags)
        return stmt && error_set(err, ERR_NOMEM, "tags");
    if (is_new) {
        const int64_t numbers[] = { row->owner,   row->pub,     (int64_t)row->version,
                                    row->created, row->updated, row->bytes,
                                    row->length };

        (void)sqlite3_bind_text(stmt, 1, row->id, -1, SQLITE_STATIC);
        ok = bind_note(stmt, numbers, ARRAY_LEN(numbers), tags);
    } else {
        const int64_t numbers[] = { row->pub, (int64_t)row->version, row->updated, row->bytes,
                                    row->length };

        (void)sqlite3_bind_int64(stmt, 1, row->n);
        (void)sqlite3_bind_int64(stmt, 8, row->model);
        ok = bind_note(stmt, numbers, ARRAY_LEN(numbers), tags);
    }
    ok = ok && memory_run(c, stmt, err);
    memory_stmt_donep(&stmt); /* it borrowed the tags */
    stmt = NULL;
    free(tags);
    if (ok && is_new)
        row->n = sqlite3_last_insert_rowid(c->sql);
    return ok;
}

static bool put_text(struct memory_conn *c, int64_t n, const char *text, size_t len,
                     struct error *err)
{
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = memory_stmt(c, MEMORY_TEXT_SET, err);

    if (!stmt)
        return false;
    (void)sqlite3_bind_int64(stmt, 1, n);
    (void)sqlite3_bind_text(stmt, 2, text, (int)len, SQLITE_STATIC);
    return memory_run(c, stmt, err);
}

bool memory_text_set(struct memory_conn *c, const struct memory_row *row, struct error *err)
{
    return put_text(c, row->n, row->text, row->len, err);
}

static void count_change(const struct memory_row *old, const struct memory_row *row,
                         struct memory_change *ret)
{
    *ret = (struct memory_change){ .notes = old->n == 0,
                                   .resident = !old->resident,
                                   .resident_bytes = row->bytes };
    if (old->resident)
        ret->resident_bytes -= old->bytes;
    else if (old->n != 0)
        ret->stored_bytes = -old->bytes;
}

/* The row as it is to be; what it owns is its own. */
static bool new_row(struct save *s, const struct memory_row *old, int64_t owner, int64_t pub,
                    struct memory_row *ret, struct error *err)
{
    int64_t now = clock_wall_ns();
    json_t *tags = s->tags ? s->tags : old->tags;
    bool same = old->n != 0 && old->pub == pub && old->len == s->len &&
                memcmp(old->text, s->text, s->len) == 0;
    size_t i;
    json_t *tag;

    *ret = (struct memory_row){
        .n = old->n,
        .owner = owner,
        .pub = pub,
        .version = old->version + 1,
        .created = old->n ? old->created : now,
        .updated = old->n && old->updated > now ? old->updated : now,
        .model = same ? old->model : 0, /* the same text has the same vector */
        .resident = true,
        .tags = tags ? json_deep_copy(tags) : json_array(),
    };
    if (!ret->tags)
        return error_set(err, ERR_NOMEM, "a note");
    if (!memory_row_text(ret, s->text, s->len, err))
        return false;
    (void)snprintf(ret->id, sizeof ret->id, "%s", old->n ? old->id : id_make("note").text);
    (void)snprintf(ret->owner_name, sizeof ret->owner_name, "%s", s->who->agent);
    ret->bytes = (int64_t)s->len;
    json_array_foreach (ret->tags, i, tag)
        ret->bytes += (int64_t)json_string_length(tag);
    return true;
}

/* A new note's number is known only once its row is there, and its length once it is indexed. */
static bool write_all(struct save *s, struct memory_conn *c, const struct memory_row *old,
                      struct memory_row *row, struct error *err)
{
    struct memory_change change;

    count_change(old, row, &change);
    if (old->n != 0 && !memory_index(c, old, false, NULL, err))
        return false;
    if (old->n != 0 && row->model == 0 && !memory_vector_drop(c, row->n, &s->freed, err))
        return false;
    if (old->n == 0 && !put_row(c, row, true, err))
        return false;
    if (!memory_index(c, row, true, &row->length, err) || !put_row(c, row, false, err))
        return false;
    return memory_text_set(c, row, err) && memory_count(c, row->owner, &change, &s->after, err);
}

static enum outcome save_once(struct save *s, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_begin(s->m->db, s->w, err);
    CLEANUP(memory_row_fini) struct memory_row old = { .n = 0 };
    CLEANUP(memory_row_fini) struct memory_row row = { .n = 0 };
    char name[MEMORY_SCOPE_BYTES];
    struct memory_scope own;
    enum outcome outcome;
    int64_t pub;

    s->freed.count = 0;
    if (!c || !memory_scope(c, memory_scope_name('a', s->who->agent, name), true, &own, err))
        return FAILED;
    outcome = find_old(s, c, &old, err);
    if (outcome != SAVED)
        return outcome;
    if (!pub_scope(s, c, &old, &pub, err) || !new_row(s, &old, own.s, pub, &row, err))
        return FAILED;
    outcome = check_room(s, &own, &old, row.bytes, err);
    if (outcome != SAVED)
        return outcome;
    if (!write_all(s, c, &old, &row, err) || !memory_db_commit(STEAL(c), err))
        return FAILED;
    s->n = row.n;
    memory_row_to_note(&row, &s->note);
    return SAVED;
}

static bool save(struct save *s, struct error *err)
{
    for (int attempt = 0; attempt < MEMORY_TRIES; attempt++) {
        switch (save_once(s, err)) {
        case FAILED:
            return false;
        case SAVED:
            return true;
        case NO_ROOM:
            if (!memory_make_room(s->m, s->who->agent, s->need, s->own_n, s->w, err))
                return false;
            break;
        case TEXT_IS_AWAY:
            if (!memory_load(s->m, &s->old, NULL, s->w, err))
                return error_prefix(err, "replace a note");
            break;
        }
    }
    return error_set(err, ERR_BUSY, "others change the notes of %s faster than this; try again",
                     s->who->agent);
}

static bool save_one(struct memory *m, struct memory_saving *a, struct error *err)
{
    struct save s = { .m = m,
                      .who = &a->who,
                      .id = a->id,
                      .text = a->text,
                      .len = a->len,
                      .sharing = a->sharing,
                      .if_version = a->if_version,
                      .w = a->wait };
    bool ok =
        check_text(&s, err) && (!a->tags || memory_tags(a->tags, &s.tags, err)) && save(&s, err);

    json_decref(s.tags);
    memory_row_fini(&s.old);
    if (!ok)
        return false;
    memory_vector_freed(m, &s.freed);
    memory_tell_pressure(m, a->who.agent, s.before, s.after);
    memory_used(m, s.n, a->wait);
    a->note = s.note;
    return true;
}

void memory_save_many(struct memory *m, struct memory_saving *saves, size_t count)
{
    for (size_t i = 0; i < count; i++)
        saves[i].ok = save_one(m, &saves[i], &saves[i].err);
    memory_embed_soon(m, saves, count);
}

bool memory_save(struct memory *m, const struct memory_who *who, const char *id, const char *text,
                 size_t len, const json_t *tags, enum memory_sharing sharing, uint64_t if_version,
                 const struct wait *w, struct memory_note *ret, struct error *err)
{
    struct memory_saving a = { .who = *who,
                               .id = id,
                               .text = text,
                               .len = len,
                               .tags = tags,
                               .sharing = sharing,
                               .if_version = if_version,
                               .wait = w };

    memory_save_many(m, &a, 1);
    if (!a.ok)
        return error_set(err, a.err.code, "%s", a.err.text);
    if (ret)
        *ret = a.note;
    else
        memory_note_fini(&a.note);
    return true;
}
