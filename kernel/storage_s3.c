/* The S3 back end: what storage asks, answered from the index of a space and its objects. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "kernel/config.h"
#include "kernel/storage_s3_internal.h"

#define SPACES_KEPT 256u /* indexes in memory; those in use are never dropped */
#define RELEASE_NS  (3 * CLOCK_NS_PER_S)
#define READ_AGAIN  4

/* ---- spaces in memory ---- */

static struct s3_space *space_new(const char *name, struct error *err)
{
    size_t len = strlen(name);
    struct s3_space *space = calloc(1, sizeof *space + len + 1);
    struct buf dir = BUF_INIT;

    if (!space)
        goto no_memory;
    pthread_mutex_init(&space->lock, NULL);
    cond_init(&space->idle);
    memcpy(space->name, name, len + 1);
    /* A name of dots alone would be a step in a path to servers that keep files. */
    if (!buf_append_str(&dir, name[0] == '.' ? "%2E" : "") ||
        !s3_encode(&dir, name + (name[0] == '.'), false) || !buf_append_char(&dir, '/') ||
        !(space->dir = buf_take(&dir, NULL)))
        goto no_memory;
    return space;

no_memory:
    buf_fini(&dir);
    s3_space_free(space);
    error_set(err, ERR_NOMEM, "a space in S3");
    return NULL;
}

static struct s3_space *find_locked(struct s3_backend *b, const char *name)
{
    LIST_FOR_EACH (node, &b->spaces) {
        struct s3_space *space = LIST_ENTRY(node, struct s3_space, link);

        if (!strcmp(space->name, name))
            return space;
    }
    return NULL;
}

/* The one that was not used for longest, when there are too many. */
static struct s3_space *surplus_locked(struct s3_backend *b)
{
    if (b->space_count <= SPACES_KEPT)
        return NULL;
    for (struct list *node = b->spaces.prev; node != &b->spaces; node = node->prev) {
        struct s3_space *space = LIST_ENTRY(node, struct s3_space, link);

        if (space->users == 0) {
            list_remove(node);
            b->space_count--;
            return space;
        }
    }
    return NULL;
}

static struct s3_space *space_take(struct s3_backend *b, const char *name, struct error *err)
{
    struct s3_space *space, *surplus, *made = NULL;

    for (;;) {
        pthread_mutex_lock(&b->lock);
        space = find_locked(b, name);
        if (!space && made) {
            space = made;
            b->space_count++;
            made = NULL;
        }
        if (space) {
            list_remove(&space->link);
            list_prepend(&b->spaces, &space->link);
            space->users++;
        }
        surplus = space ? surplus_locked(b) : NULL;
        pthread_mutex_unlock(&b->lock);
        s3_space_free(surplus); /* its lease runs out by itself, and is ours until then */
        if (space) {
            s3_space_free(made);
            return space;
        }
        made = space_new(name, err);
        if (!made)
            return NULL;
    }
}

static void space_give(struct s3_backend *b, struct s3_space *space)
{
    pthread_mutex_lock(&b->lock);
    space->users--;
    pthread_mutex_unlock(&b->lock);
}

static bool s3_write(struct storage_backend *base, const char *name, struct storage_op *ops,
                     size_t count, const struct storage_limits *limits, const struct wait *w,
                     size_t *ret_failed, struct error *err)
{
    struct s3_backend *b = CONTAINER_OF(base, struct s3_backend, base);
    struct s3_space *space;
    size_t failed = count;
    bool ok;

    if (ret_failed)
        *ret_failed = count;
    space = space_take(b, name, err);
    if (!space)
        return false;
    ok = s3_space_enter(b, space, w, err);
    if (ok) {
        ok = s3_write_entered(b, space, ops, count, limits, w, &failed, err);
        if (ok && space->loaded)
            s3_space_tidy(b, space, w);
        s3_space_leave(space);
    }
    space_give(b, space);
    if (!ok && ret_failed)
        *ret_failed = failed;
    return ok;
}

/* ---- reading ---- */

static const struct s3_version *pick(const struct s3_entry *e, uint64_t version, int64_t at_wall_ns)
{
    for (size_t i = e ? e->count : 0; i-- > 0;) {
        const struct s3_version *v = &e->versions[i];

        if (version ? v->version == version : !at_wall_ns || v->wall_ns <= at_wall_ns)
            return v;
    }
    return NULL;
}

static bool not_found(const char *key, uint64_t version, int64_t at_wall_ns, struct error *err)
{
    if (version)
        return error_set(err, ERR_NOT_FOUND,
                         "no version %llu of \"%s\" is kept; storage_versions lists those that are",
                         (unsigned long long)version, key);
    return error_set(err, ERR_NOT_FOUND, "there is no \"%s\"%s", key,
                     at_wall_ns ? " that is so old" : "");
}

/* A copy of what the index says, and the name of the value's object. */
static bool look_up(struct s3_backend *b, struct s3_space *space, const char *key, uint64_t version,
                    int64_t at_wall_ns, struct s3_version *ret_version, struct storage_stat *ret,
                    const struct wait *w, struct error *err)
{
    const struct s3_entry *e;
    const struct s3_version *v;

    if (!s3_space_view(b, space, w, err))
        return false;
    e = s3_index_find(&space->index, key);
    v = pick(e, version, at_wall_ns);
    if (v) {
        *ret_version = *v;
        s3_index_stat(e, v, ret);
    }
    pthread_mutex_unlock(&space->lock);
    return v || not_found(key, version, at_wall_ns, err);
}

static bool read_value(struct s3_backend *b, struct s3_space *space, const char *key,
                       uint64_t version, uint64_t offset, size_t max, struct buf *out,
                       const struct wait *w, struct storage_stat *ret, struct error *err)
{
    char name[S3_NAME_BYTES];

    for (unsigned attempt = 0;; attempt++) {
        struct error fault = ERROR_INIT;
        struct s3_version v;
        size_t len;

        if (!look_up(b, space, key, version, 0, &v, ret, w, err))
            return false;
        if (v.deleted)
            return error_set(err, ERR_NOT_FOUND, "there is no \"%s\": version %llu deleted it", key,
                             (unsigned long long)v.version);
        len = offset >= v.bytes ? 0 : (size_t)MIN(v.bytes - offset, (uint64_t)max);
        if (len == 0)
            return true;
        s3_space_name(space, v.ref, name);
        if (s3_get(&b->server, name, v.offset + offset, len, out, NULL, w, &fault))
            return true;
        if (fault.code != ERR_NOT_FOUND)
            return error_set(err, fault.code, "%s", fault.text);
        if (attempt == READ_AGAIN)
            return error_set(err, ERR_IO, "the object %s%s is missing in the bucket %s",
                             b->server.prefix, name, b->server.bucket);
        /* It was replaced and removed while we looked: what is there now? */
    }
}

static bool s3_read(struct storage_backend *base, const char *name, const char *key,
                    uint64_t version, uint64_t offset, size_t max, struct buf *out,
                    const struct wait *w, struct storage_stat *ret, struct error *err)
{
    struct s3_backend *b = CONTAINER_OF(base, struct s3_backend, base);
    struct s3_space *space = space_take(b, name, err);
    size_t before = out->len;
    bool ok;

    if (!space)
        return false;
    ok = read_value(b, space, key, version, offset, max, out, w, ret, err);
    if (ok && ret->bytes > offset && out->len - before != MIN(ret->bytes - offset, (uint64_t)max)) {
        out->len = before;
        ok = error_set(err, ERR_IO, "the object of \"%s\" in the bucket %s is cut off", key,
                       b->server.bucket);
    }
    space_give(b, space);
    return ok;
}

static bool s3_stat(struct storage_backend *base, const char *name, const char *key,
                    uint64_t version, int64_t at_wall_ns, const struct wait *w,
                    struct storage_stat *ret, struct error *err)
{
    struct s3_backend *b = CONTAINER_OF(base, struct s3_backend, base);
    struct s3_space *space = space_take(b, name, err);
    struct s3_version v;
    bool ok;

    if (!space)
        return false;
    ok = look_up(b, space, key, version, at_wall_ns, &v, ret, w, err);
    space_give(b, space);
    return ok;
}

/* ---- lists ---- */

static bool page_room(struct storage_page *page, size_t *cap)
{
    size_t more = *cap ? *cap * 2 : 16;
    struct storage_stat *items;

    if (page->count < *cap)
        return true;
    items = reallocarray(page->items, more, sizeof *items);
    if (!items)
        return false;
    page->items = items;
    *cap = more;
    return true;
}

static bool list_locked(const struct s3_index *x, const char *prefix, const char *after,
                        size_t limit, struct storage_page *page, bool *ret_more)
{
    size_t skip = strlen(prefix), cap = 0;
    size_t at = s3_index_at(x, strcmp(after, prefix) > 0 ? after : prefix);

    *ret_more = false;
    for (; at < x->count; at++) {
        const struct s3_entry *e = x->entries[at];
        const struct s3_version *last = &e->versions[e->count - 1];

        if (strncmp(e->key, prefix, skip) != 0)
            return true;
        if (last->deleted || strcmp(e->key, after) <= 0)
            continue;
        if (page->count == limit) {
            *ret_more = true;
            return true;
        }
        if (!page_room(page, &cap))
            return false;
        s3_index_stat(e, last, &page->items[page->count++]);
    }
    return true;
}

static bool versions_locked(const struct s3_index *x, const char *key, uint64_t before,
                            size_t limit, struct storage_page *page, bool *ret_more)
{
    const struct s3_entry *e = s3_index_find(x, key);
    size_t cap = 0;

    *ret_more = false;
    for (size_t i = e ? e->count : 0; i-- > 0;) {
        if (before && e->versions[i].version >= before)
            continue;
        if (page->count == limit) {
            *ret_more = true;
            return true;
        }
        if (!page_room(page, &cap))
            return false;
        s3_index_stat(e, &e->versions[i], &page->items[page->count++]);
    }
    return true;
}

/* Of the versions of @key, or else of keys. */
static bool page_of(struct storage_backend *base, const char *name, bool of_key, const char *key,
                    const char *prefix, const char *after, uint64_t before, size_t limit,
                    const struct wait *w, struct storage_page *ret, bool *ret_more,
                    struct error *err)
{
    struct s3_backend *b = CONTAINER_OF(base, struct s3_backend, base);
    struct s3_space *space = space_take(b, name, err);
    struct storage_page page = { .items = NULL };
    bool ok;

    if (!space)
        return false;
    ok = s3_space_view(b, space, w, err);
    if (ok) {
        ok = of_key ? versions_locked(&space->index, key, before, limit, &page, ret_more)
                    : list_locked(&space->index, prefix, after, limit, &page, ret_more);
        if (!ok)
            error_set(err, ERR_NOMEM, "a page of %zu", limit);
        pthread_mutex_unlock(&space->lock);
    }
    space_give(b, space);
    if (ok)
        *ret = page;
    else
        free(page.items);
    return ok;
}

static bool s3_list_keys(struct storage_backend *base, const char *name, const char *prefix,
                         const char *after, size_t limit, const struct wait *w,
                         struct storage_page *ret, bool *ret_more, struct error *err)
{
    return page_of(base, name, false, "", prefix, after, 0, limit, w, ret, ret_more, err);
}

static bool s3_versions(struct storage_backend *base, const char *name, const char *key,
                        uint64_t before, size_t limit, const struct wait *w,
                        struct storage_page *ret, bool *ret_more, struct error *err)
{
    return page_of(base, name, true, key, "", "", before, limit, w, ret, ret_more, err);
}

static bool s3_usage(struct storage_backend *base, const char *name, const struct wait *w,
                     struct storage_usage *ret, struct error *err)
{
    struct s3_backend *b = CONTAINER_OF(base, struct s3_backend, base);
    struct s3_space *space = space_take(b, name, err);
    bool ok;

    if (!space)
        return false;
    ok = s3_space_view(b, space, w, err);
    if (ok) {
        *ret = (struct storage_usage){ .bytes = space->index.bytes,
                                       .keys = space->index.live_keys,
                                       .versions = space->index.versions,
                                       .quota_bytes = ret->quota_bytes };
        pthread_mutex_unlock(&space->lock);
    }
    space_give(b, space);
    return ok;
}

/* ---- the back end ---- */

static void s3_free(struct storage_backend *base)
{
    struct s3_backend *b = CONTAINER_OF(base, struct s3_backend, base);
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), RELEASE_NS) };

    while (!list_empty(&b->spaces)) {
        struct s3_space *space = LIST_ENTRY(b->spaces.next, struct s3_space, link);

        list_remove(&space->link);
        s3_space_release(b, space, &w);
        s3_space_free(space);
    }
    s3_server_fini(&b->server);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* Leases name the state folder, which is one kernel's at a time: after a crash, whoever starts in
 * it again holds what was held. */
static bool owner_of(const char *state_dir, char owner[64], struct error *err)
{
    struct buf path = BUF_INIT;
    char *text = NULL;
    struct id id;
    bool ok = buf_printf(&path, "%s/s3-owner", state_dir) || error_set(err, ERR_NOMEM, "a path");

    if (ok)
        text = fd_read_file(AT_FDCWD, buf_str(&path), 63, NULL, NULL);
    if (text && id_is(text, "k")) {
        (void)snprintf(owner, 64, "%s", text);
    } else if (ok) {
        id = id_make("k");
        (void)snprintf(owner, 64, "%s", id.text);
        ok = fd_replace_file(buf_str(&path), owner, strlen(owner), 0600, err);
    }
    free(text);
    buf_fini(&path);
    return ok;
}

struct storage_backend *storage_s3_new(const struct config *config, const char *state_dir,
                                       struct error *err)
{
    struct s3_backend *b = calloc(1, sizeof *b);

    if (!b) {
        error_set(err, ERR_NOMEM, "the S3 back end");
        return NULL;
    }
    b->base = (struct storage_backend){ .name = "s3",
                                        .shared = true,
                                        .write = s3_write,
                                        .read = s3_read,
                                        .stat = s3_stat,
                                        .list = s3_list_keys,
                                        .versions = s3_versions,
                                        .usage = s3_usage,
                                        .free = s3_free };
    pthread_mutex_init(&b->lock, NULL);
    list_init(&b->spaces);
    if (owner_of(state_dir, b->owner, err) && s3_server_init(&b->server, config, err))
        return &b->base;
    s3_free(&b->base);
    return NULL;
}
