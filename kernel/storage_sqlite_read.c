/* Reading from the SQLite back end: values, stats, lists. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/storage_sqlite.h"

#define INLINE_BYTES 16384 /* larger values are read where they lie, without a copy between */
#define CHECK_EVERY  256u  /* keys of a list between two looks at the deadline */

/* The columns of COLUMNS. */
enum { AT_VERSION, AT_WALL, AT_BYTES, AT_SHA, AT_VALUE_ID, AT_VALUE, AT_KEY };

static void put_text(const void *text, size_t len, char *to, size_t size)
{
    len = text ? MIN(len, size - 1) : 0;
    if (len > 0)
        memcpy(to, text, len);
    to[len] = '\0';
}

static void copy_text(sqlite3_stmt *row, int at, char *to, size_t size)
{
    const void *text = sqlite3_column_text(row, at);

    put_text(text, (size_t)sqlite3_column_bytes(row, at), to, size);
}

/* @key NULL: it is a column. */
static void read_stat(sqlite3_stmt *row, const char *key, struct storage_stat *ret)
{
    ret->version = (uint64_t)sqlite3_column_int64(row, AT_VERSION);
    ret->bytes = (uint64_t)sqlite3_column_int64(row, AT_BYTES);
    ret->wall_ns = sqlite3_column_int64(row, AT_WALL);
    ret->deleted = sqlite3_column_type(row, AT_VALUE_ID) == SQLITE_NULL;
    if (key)
        put_text(key, strlen(key), ret->key, sizeof ret->key);
    else
        copy_text(row, AT_KEY, ret->key, sizeof ret->key);
    copy_text(row, AT_SHA, ret->sha256, sizeof ret->sha256);
}

/* 0, which no space has, when it is not there. */
static bool bind_space(struct sqlite_conn *c, sqlite3_stmt *stmt, const char *space,
                       struct error *err)
{
    int rc = SQLITE_ROW;

    if (c->id == 0 || strcmp(c->space, space) != 0) {
        c->id = 0;
        sqlite_bind_text(c->space_id, 1, space);
        rc = sqlite3_step(c->space_id);
        if (rc == SQLITE_ROW) {
            c->id = sqlite3_column_int64(c->space_id, 0);
            (void)snprintf(c->space, sizeof c->space, "%s", space);
        }
        (void)sqlite3_reset(c->space_id);
    }
    (void)sqlite3_bind_int64(stmt, 1, c->id);
    return rc == SQLITE_ROW || rc == SQLITE_DONE || sqlite_failed(c, rc, "read a space", err);
}

/* The row of @version, of the newest at @at_wall_ns, or of the newest; ERR_NOT_FOUND.  The
 * statement stays at it, to be reset. */
static sqlite3_stmt *find(struct sqlite_conn *c, const char *space, const char *key,
                          uint64_t version, int64_t at_wall_ns, int inline_bytes, struct error *err)
{
    sqlite3_stmt *stmt = version ? c->exact : at_wall_ns ? c->at_time : c->newest;
    int rc;

    if (!bind_space(c, stmt, space, err))
        return NULL;
    sqlite_bind_text(stmt, 2, key);
    if (stmt != c->newest)
        (void)sqlite3_bind_int64(stmt, 3, version ? (sqlite3_int64)version : at_wall_ns);
    (void)sqlite3_bind_int(stmt, 4, inline_bytes);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        return stmt;
    (void)sqlite3_reset(stmt);
    if (rc != SQLITE_DONE)
        sqlite_failed(c, rc, "read", err);
    else if (version)
        error_set(err, ERR_NOT_FOUND,
                  "no version %llu of \"%s\" is kept; storage_versions lists those that are",
                  (unsigned long long)version, key);
    else
        error_set(err, ERR_NOT_FOUND, "there is no \"%s\"%s", key,
                  at_wall_ns ? " that is so old" : "");
    return NULL;
}

bool sqlite_stat(struct storage_backend *base, const char *space, const char *key, uint64_t version,
                 int64_t at_wall_ns, const struct wait *w, struct storage_stat *ret,
                 struct error *err)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);
    struct sqlite_conn *c = sqlite_take(b, w, err);
    sqlite3_stmt *row = c ? find(c, space, key, version, at_wall_ns, -1, err) : NULL;

    if (row) {
        read_stat(row, key, ret);
        (void)sqlite3_reset(row);
    }
    if (c)
        sqlite_give(b, c);
    return row != NULL;
}

/* While the statement stands at its row, the value cannot go away under us. */
static bool read_blob(struct sqlite_conn *c, sqlite3_int64 id, int offset, size_t len,
                      struct buf *out, struct error *err)
{
    sqlite3_blob *blob = NULL;
    int rc = sqlite3_blob_open(c->db, "main", "vals", "value", id, 0, &blob);

    if (rc == SQLITE_OK)
        rc = sqlite3_blob_read(blob, out->data + out->len, (int)len, offset);
    (void)sqlite3_blob_close(blob);
    if (rc != SQLITE_OK)
        return sqlite_failed(c, rc, "read a value", err);
    out->len += len;
    out->data[out->len] = '\0';
    return true;
}

static bool read_value(struct sqlite_conn *c, sqlite3_stmt *row, const struct storage_stat *stat,
                       uint64_t offset, size_t max, struct buf *out, struct error *err)
{
    size_t from = (size_t)MIN(offset, stat->bytes);
    size_t len = MIN(max, (size_t)stat->bytes - from);

    if (stat->deleted)
        return error_set(err, ERR_NOT_FOUND, "there is no \"%s\": version %llu deleted it",
                         stat->key, (unsigned long long)stat->version);
    if (!buf_reserve(out, len))
        return error_set(err, ERR_NOMEM, "%zu bytes of \"%s\"", len, stat->key);
    if (len == 0)
        return true;
    if (stat->bytes > INLINE_BYTES)
        return read_blob(c, sqlite3_column_int64(row, AT_VALUE_ID), (int)from, len, out, err);
    if ((size_t)sqlite3_column_bytes(row, AT_VALUE) != stat->bytes)
        return sqlite_failed(c, SQLITE_CORRUPT, "a value is missing", err);
    return buf_append(out, (const char *)sqlite3_column_blob(row, AT_VALUE) + from, len) ||
           error_set(err, ERR_NOMEM, "%zu bytes of \"%s\"", len, stat->key);
}

bool sqlite_read(struct storage_backend *base, const char *space, const char *key, uint64_t version,
                 uint64_t offset, size_t max, struct buf *out, const struct wait *w,
                 struct storage_stat *ret, struct error *err)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);
    struct sqlite_conn *c = sqlite_take(b, w, err);
    sqlite3_stmt *row = c ? find(c, space, key, version, 0, INLINE_BYTES, err) : NULL;
    bool ok = false;

    if (row) {
        read_stat(row, key, ret);
        ok = read_value(c, row, ret, offset, max, out, err);
        (void)sqlite3_reset(row);
    }
    if (c)
        sqlite_give(b, c);
    return ok;
}

/* ---- lists ---- */

/* Pages are rarely full: they grow as they need. */
static struct storage_stat *page_add(struct storage_page *page, size_t *cap, struct error *err)
{
    if (page->count == *cap) {
        size_t more = *cap ? *cap * 2 : 16;
        struct storage_stat *items = reallocarray(page->items, more, sizeof *items);

        if (!items) {
            error_set(err, ERR_NOMEM, "a page of %zu", more);
            return NULL;
        }
        page->items = items;
        *cap = more;
    }
    return &page->items[page->count++];
}

/* The first key at or after @from, its newest version: true with *ret_found false when there is
 * none. */
static bool next_key(struct sqlite_conn *c, const char *space, const char *from,
                     struct storage_stat *ret, bool *ret_found, struct error *err)
{
    int rc;

    if (!bind_space(c, c->next_key, space, err))
        return false;
    sqlite_bind_text(c->next_key, 2, from);
    (void)sqlite3_bind_int(c->next_key, 4, -1);
    rc = sqlite3_step(c->next_key);
    *ret_found = rc == SQLITE_ROW;
    if (*ret_found)
        read_stat(c->next_key, NULL, ret);
    (void)sqlite3_reset(c->next_key);
    return rc == SQLITE_ROW || rc == SQLITE_DONE || sqlite_failed(c, rc, "list", err);
}

static bool list_keys(struct sqlite_conn *c, const char *space, const char *prefix,
                      const char *after, size_t limit, const struct wait *w,
                      struct storage_page *page, bool *ret_more, struct error *err)
{
    char from[STORAGE_KEY_BYTES + 2];
    size_t prefix_len = strlen(prefix), cap = 0;
    bool found = true;

    /* No key holds a control character, so nothing lies between K and K with a \1 behind. */
    if (strcmp(after, prefix) >= 0 && after[0] != '\0')
        (void)snprintf(from, sizeof from, "%s\1", after);
    else
        (void)snprintf(from, sizeof from, "%s", prefix);
    for (unsigned n = 1; found; n++) {
        struct storage_stat stat, *item;

        if ((n % CHECK_EVERY == 0 && !wait_check(w, err)) ||
            !next_key(c, space, from, &stat, &found, err))
            return false;
        if (!found || strncmp(stat.key, prefix, prefix_len) != 0)
            return true;
        (void)snprintf(from, sizeof from, "%s\1", stat.key);
        if (stat.deleted)
            continue;
        if (page->count == limit) {
            *ret_more = true;
            return true;
        }
        item = page_add(page, &cap, err);
        if (!item)
            return false;
        *item = stat;
    }
    return true;
}

/* In one transaction, so that a page shows one moment. */
static struct sqlite_conn *list_begin(struct sqlite_backend *b, const struct wait *w,
                                      struct storage_page *ret, bool *ret_more, struct error *err)
{
    struct sqlite_conn *c = sqlite_take(b, w, err);

    *ret = (struct storage_page){ .items = NULL };
    *ret_more = false;
    if (c && !sqlite_run(c, c->begin, "begin", err)) {
        sqlite_give(b, c);
        return NULL;
    }
    return c;
}

static bool list_end(struct sqlite_backend *b, struct sqlite_conn *c, bool ok,
                     struct storage_page *ret)
{
    UNCHECKED(sqlite_run(c, c->commit, "end", NULL)); /* it only read */
    sqlite_give(b, c);
    if (!ok)
        storage_page_fini(ret);
    return ok;
}

bool sqlite_list(struct storage_backend *base, const char *space, const char *prefix,
                 const char *after, size_t limit, const struct wait *w, struct storage_page *ret,
                 bool *ret_more, struct error *err)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);
    struct sqlite_conn *c = list_begin(b, w, ret, ret_more, err);

    return c &&
           list_end(b, c, list_keys(c, space, prefix, after, limit, w, ret, ret_more, err), ret);
}

static bool list_versions(struct sqlite_conn *c, const char *space, const char *key,
                          uint64_t before, size_t limit, struct storage_page *page, bool *ret_more,
                          struct error *err)
{
    size_t cap = 0;
    int rc;

    if (!bind_space(c, c->versions, space, err))
        return false;
    sqlite_bind_text(c->versions, 2, key);
    (void)sqlite3_bind_int64(c->versions, 3, before ? (sqlite3_int64)before : INT64_MAX);
    (void)sqlite3_bind_int(c->versions, 4, -1);
    while ((rc = sqlite3_step(c->versions)) == SQLITE_ROW) {
        struct storage_stat *item;

        *ret_more = page->count == limit;
        if (*ret_more)
            return true;
        item = page_add(page, &cap, err);
        if (!item)
            return false;
        read_stat(c->versions, key, item);
    }
    return rc == SQLITE_DONE || sqlite_failed(c, rc, "versions", err);
}

bool sqlite_versions(struct storage_backend *base, const char *space, const char *key,
                     uint64_t before, size_t limit, const struct wait *w, struct storage_page *ret,
                     bool *ret_more, struct error *err)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);
    struct sqlite_conn *c = list_begin(b, w, ret, ret_more, err);
    bool ok;

    if (!c)
        return false;
    ok = list_versions(c, space, key, before, limit, ret, ret_more, err);
    (void)sqlite3_reset(c->versions);
    return list_end(b, c, ok, ret);
}

bool sqlite_usage(struct storage_backend *base, const char *space, const struct wait *w,
                  struct storage_usage *ret, struct error *err)
{
    struct sqlite_backend *b = CONTAINER_OF(base, struct sqlite_backend, base);
    struct sqlite_conn *c = sqlite_take(b, w, err);
    int rc;

    if (!c)
        return false;
    sqlite_bind_text(c->usage, 1, space);
    rc = sqlite3_step(c->usage);
    if (rc == SQLITE_ROW) {
        ret->bytes = (uint64_t)sqlite3_column_int64(c->usage, 0);
        ret->keys = (uint64_t)sqlite3_column_int64(c->usage, 1);
        ret->versions = (uint64_t)sqlite3_column_int64(c->usage, 2);
    }
    (void)sqlite3_reset(c->usage);
    sqlite_give(b, c);
    return rc == SQLITE_ROW || rc == SQLITE_DONE || sqlite_failed(c, rc, "usage", err);
}
