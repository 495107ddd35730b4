/* Rows of the database: notes and scopes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/event.h"
#include "kernel/memory_internal.h"

#define PRESSURE_PERCENT 80
#define MIB              (1 << 20)

void memory_note_fini(struct memory_note *note)
{
    free(note->text);
    json_decref(note->tags);
    *note = (struct memory_note){ .text = NULL };
}

void memory_found_fini(struct memory_found *found)
{
    for (size_t i = 0; i < found->count; i++)
        memory_note_fini(&found->notes[i]);
    free(found->notes);
    *found = (struct memory_found){ .notes = NULL };
}

void memory_row_fini(struct memory_row *row)
{
    free(row->text);
    json_decref(row->tags);
    *row = (struct memory_row){ .n = 0 };
}

bool memory_row_text(struct memory_row *row, const char *text, size_t len, struct error *err)
{
    char *copy = malloc(len + 1);

    if (!copy)
        return error_set(err, ERR_NOMEM, "a note");
    memcpy(copy, text, len);
    copy[len] = '\0';
    free(row->text);
    row->text = copy;
    row->len = len;
    return true;
}

/* A whole column as a string of ours; "" for NULL. */
static void copy_column(sqlite3_stmt *stmt, int at, size_t skip, char *ret, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(stmt, at);

    (void)snprintf(ret, size, "%s", text && strlen(text) >= skip ? text + skip : "");
}

bool memory_row_read(sqlite3_stmt *stmt, struct memory_row *ret, struct error *err)
{
    const char *tags = (const char *)sqlite3_column_text(stmt, 12), *text;
    const void *sha = sqlite3_column_blob(stmt, 13);

    *ret = (struct memory_row){
        .n = sqlite3_column_int64(stmt, 0),
        .owner = sqlite3_column_int64(stmt, 2),
        .pub = sqlite3_column_int64(stmt, 4),
        .version = (uint64_t)sqlite3_column_int64(stmt, 5),
        .created = sqlite3_column_int64(stmt, 6),
        .updated = sqlite3_column_int64(stmt, 7),
        .bytes = sqlite3_column_int64(stmt, 8),
        .length = sqlite3_column_int64(stmt, 9),
        .resident = sqlite3_column_int(stmt, 10) != 0,
        .copy = sqlite3_column_int64(stmt, 11),
        .model = sqlite3_column_int64(stmt, 15),
    };
    if (ret->n == 0)
        return true; /* of an outer join: there is none */
    copy_column(stmt, 1, 0, ret->id, sizeof ret->id);
    copy_column(stmt, 3, 2, ret->owner_name, sizeof ret->owner_name);
    if (sha && sqlite3_column_bytes(stmt, 13) == SHA256_BYTES) {
        memcpy(ret->sha, sha, SHA256_BYTES);
        ret->has_sha = true;
    }
    ret->tags = tags ? json_loads(tags, 0, NULL) : NULL;
    text = ret->resident ? (const char *)sqlite3_column_text(stmt, 14) : NULL;
    if (!ret->tags || (ret->resident && !text)) {
        memory_row_fini(ret);
        return error_set(err, ERR_NOMEM, "a note");
    }
    if (!text || memory_row_text(ret, text, (size_t)sqlite3_column_bytes(stmt, 14), err))
        return true;
    memory_row_fini(ret);
    return false;
}

bool memory_row_get(struct memory_conn *c, int64_t n, const char *id, struct memory_row *ret,
                    struct error *err)
{
    CLEANUP(memory_stmt_donep)
    sqlite3_stmt *stmt = memory_stmt(c, id ? MEMORY_NOTE_BY_ID : MEMORY_NOTE_BY_N, err);
    bool row;

    *ret = (struct memory_row){ .n = 0 };
    if (!stmt)
        return false;
    if (id)
        (void)sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    else
        (void)sqlite3_bind_int64(stmt, 1, n);
    return memory_step(c, stmt, &row, err) && (!row || memory_row_read(stmt, ret, err));
}

void memory_row_to_note(struct memory_row *row, struct memory_note *ret)
{
    *ret = (struct memory_note){
        .created_wall_ns = row->created,
        .updated_wall_ns = row->updated,
        .version = row->version,
        .shared = row->pub != 0,
    };
    ret->text = STEAL(row->text);
    ret->tags = STEAL(row->tags);
    memcpy(ret->id, row->id, sizeof ret->id);
    memcpy(ret->owner, row->owner_name, sizeof ret->owner);
}

/* ---- scopes ---- */

const char *memory_scope_name(char kind, const char *name, char buf[MEMORY_SCOPE_BYTES])
{
    (void)snprintf(buf, MEMORY_SCOPE_BYTES, "%c:%s", kind, name);
    return buf;
}

bool memory_scope(struct memory_conn *c, const char *name, bool make, struct memory_scope *ret,
                  struct error *err)
{
    *ret = (struct memory_scope){ .s = 0 };
    for (int attempt = 0; attempt < 2; attempt++) {
        CLEANUP(memory_stmt_donep) sqlite3_stmt *get = memory_stmt(c, MEMORY_SCOPE_GET, err);
        CLEANUP(memory_stmt_donep) sqlite3_stmt *add = NULL;
        bool row;

        if (!get)
            return false;
        (void)sqlite3_bind_text(get, 1, name, -1, SQLITE_STATIC);
        if (!memory_step(c, get, &row, err))
            return false;
        if (row) {
            *ret = (struct memory_scope){
                .s = sqlite3_column_int64(get, 0),
                .docs = sqlite3_column_int64(get, 1),
                .words = sqlite3_column_int64(get, 2),
                .notes = sqlite3_column_int64(get, 3),
                .resident = sqlite3_column_int64(get, 4),
                .resident_bytes = sqlite3_column_int64(get, 5),
                .stored_bytes = sqlite3_column_int64(get, 6),
                .evictions = sqlite3_column_int64(get, 7),
                .faults = sqlite3_column_int64(get, 8),
            };
            return true;
        }
        if (!make)
            return true;
        add = memory_stmt(c, MEMORY_SCOPE_ADD, err);
        if (!add)
            return false;
        (void)sqlite3_bind_text(add, 1, name, -1, SQLITE_STATIC);
        if (!memory_run(c, add, err))
            return false;
    }
    return error_set(err, ERR_INTERNAL, "memory: no scope %s", name);
}

bool memory_asker(struct memory_conn *c, const struct memory_who *who, bool make,
                  struct memory_asker *ret, struct error *err)
{
    char name[MEMORY_SCOPE_BYTES];
    struct memory_scope scope;

    *ret = (struct memory_asker){ .group = 0 };
    if (!memory_scope(c, memory_scope_name('a', who->agent, name), make, &ret->own, err))
        return false;
    if (who->group && *who->group) {
        if (!memory_scope(c, memory_scope_name('g', who->group, name), make, &scope, err))
            return false;
        ret->group = scope.s;
    }
    if (!memory_scope(c, "*", make, &scope, err))
        return false;
    ret->all = scope.s;
    return true;
}

bool memory_may_read(const struct memory_asker *asker, const struct memory_row *row)
{
    if (row->n == 0)
        return false;
    return row->owner == asker->own.s ||
           (row->pub != 0 && (row->pub == asker->group || row->pub == asker->all));
}

bool memory_do(struct memory_conn *c, enum memory_stmt which, const int64_t *numbers, size_t count,
               int *ret_changed, struct error *err)
{
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = memory_stmt(c, which, err);

    if (!stmt)
        return false;
    for (size_t i = 0; i < count; i++)
        (void)sqlite3_bind_int64(stmt, (int)i + 1, numbers[i]);
    if (!memory_run(c, stmt, err))
        return false;
    if (ret_changed)
        *ret_changed = sqlite3_changes(c->sql);
    return true;
}

bool memory_count(struct memory_conn *c, int64_t scope, const struct memory_change *change,
                  int64_t *ret_resident_bytes, struct error *err)
{
    CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = memory_stmt(c, MEMORY_SCOPE_COUNT, err);
    const int64_t numbers[] = { scope,
                                change->notes,
                                change->resident,
                                change->resident_bytes,
                                change->stored_bytes,
                                change->evictions,
                                change->faults };
    bool row;

    if (!stmt)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        (void)sqlite3_bind_int64(stmt, (int)i + 1, numbers[i]);
    if (!memory_step(c, stmt, &row, err))
        return false;
    if (row && ret_resident_bytes)
        *ret_resident_bytes = sqlite3_column_int64(stmt, 0);
    return !row || memory_run(c, stmt, err);
}

void memory_tell_pressure(struct memory *m, const char *agent, int64_t before, int64_t after)
{
    int64_t mark = m->quota / 100 * PRESSURE_PERCENT;

    if (before < mark && after >= mark)
        event_publish(m->bus, "memory.pressure", agent, "",
                      "resident notes take %lld of %lld MiB; the least used move to storage",
                      (long long)(after / MIB), (long long)(m->quota / MIB));
}
