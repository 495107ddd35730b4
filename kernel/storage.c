#include "kernel/storage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/sha256.h"
#include "kernel/event.h"
#include "kernel/storage_core.h"

#define CHECKED_BYTES     (64u << 10) /* up to here a value that was read is compared to its digest */
#define HASH_BESIDE_BYTES (128u << 10) /* from here on another thread is worth its making */

/* ---- what became of a call ---- */

/* Every call of the back end passes here: @ok is returned, @why (set when not) goes to @err. */
static bool settle(struct storage *s, bool ok, const struct error *why, struct error *err)
{
    bool lost = !ok && why->code == ERR_LOST;

    if (!ok)
        atomic_fetch_add_explicit(&s->failures, 1, memory_order_relaxed);
    /* An answer of any kind, refusals too, says that the back end is there. */
    if (lost != atomic_load_explicit(&s->down, memory_order_relaxed) &&
        (lost || ok || why->code == ERR_NOT_FOUND || why->code == ERR_EXISTS) &&
        atomic_exchange(&s->down, lost) != lost && s->bus)
        event_publish(s->bus, lost ? "storage.down" : "storage.up", "", s->backend->name, "%s",
                      lost ? why->text : "");
    if (!ok && err)
        *err = *why;
    return ok;
}

static bool secret_ready(struct storage *s, struct error *err)
{
    char path[4200];
    bool ok = true;

    if (atomic_load_explicit(&s->secret_known, memory_order_acquire))
        return true;
    (void)snprintf(path, sizeof path, "%s/key", s->dir);
    pthread_mutex_lock(&s->secret_lock);
    if (!atomic_load(&s->secret_known)) {
        ok = storage_secret_load(path, s->secret, err);
        atomic_store_explicit(&s->secret_known, ok, memory_order_release);
    }
    pthread_mutex_unlock(&s->secret_lock);
    return ok;
}

static bool check_names(const char *space, const char *key, const struct wait *w, struct error *err)
{
    return storage_check_space(space, err) && storage_check_key(key, err) && wait_check(w, err);
}

/* ---- writing ---- */

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool check_twice(const struct storage_write *write, struct error *err)
{
    const char *keys[STORAGE_BATCH_MAX] = { NULL };

    for (size_t i = 0; i < write->count; i++)
        keys[i] = write->ops[i].key;
    qsort(keys, write->count, sizeof *keys, by_key);
    for (size_t i = 1; i < write->count; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            return error_set(err, ERR_INVALID, "the key \"%s\" stands in the batch twice", keys[i]);
    return true;
}

static bool check_op(const struct storage *s, const struct storage_op *op, struct error *err)
{
    if (!storage_check_key(op->key, err))
        return false;
    if (op->kind == STORAGE_PUT && op->len > s->max_value)
        return error_set(err, ERR_LIMIT, "a value of %zu bytes is more than the %zu MiB allowed",
                         op->len, s->max_value >> 20);
    return true;
}

static bool check_write(const struct storage *s, struct storage_write *write, struct error *err)
{
    write->failed = write->count;
    if (write->count < 1 || write->count > STORAGE_BATCH_MAX)
        return error_set(err, ERR_INVALID, "a batch holds 1 to %u operations", STORAGE_BATCH_MAX);
    if (!storage_check_space(write->space, err) || !wait_check(write->wait, err))
        return false;
    for (size_t i = 0; i < write->count; i++) {
        if (!check_op(s, &write->ops[i], err)) {
            write->failed = i;
            return false;
        }
    }
    return write->count == 1 || check_twice(write, err);
}

static void digest_op(struct storage_op *op)
{
    uint8_t digest[SHA256_BYTES];

    op->hashing = NULL;
    op->stat.sha256[0] = '\0';
    if (op->kind != STORAGE_PUT)
        return;
    sha256_of(op->data, op->len, digest);
    sha256_hex(digest, op->stat.sha256);
}

/* The digest of one large value is computed while the back end writes it. */
static void begin_digests(const struct storage *s, struct storage_write *write,
                          struct storage_hashing *hashing)
{
    struct storage_op *op = &write->ops[0];

    if (hashing && s->backend->late_digest && write->count == 1 && op->kind == STORAGE_PUT &&
        op->len >= HASH_BESIDE_BYTES && storage_hashing_begin(hashing, op->data, op->len)) {
        op->hashing = hashing;
        return;
    }
    for (size_t i = 0; i < write->count; i++)
        digest_op(&write->ops[i]);
}

static void end_digests(struct storage_write *write)
{
    for (size_t i = 0; i < write->count; i++)
        storage_rule_digest(&write->ops[i]);
}

/* While a key is written nothing of it is cached. */
static void tell_cache(struct storage *s, const struct storage_write *writes, size_t count,
                       void (*tell)(struct storage_cache *, const char *, const char *))
{
    for (size_t i = 0; i < count && s->cache; i++)
        for (size_t k = 0; k < writes[i].count && writes[i].sent; k++)
            tell(s->cache, writes[i].space, writes[i].ops[k].key);
}

static void call_backend(struct storage *s, struct storage_write *writes, size_t count,
                         const struct storage_limits *limits)
{
    struct storage_backend *b = s->backend;

    if (b->write_many && count > 1) {
        b->write_many(b, writes, count, limits);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct storage_write *w = &writes[i];

        if (w->sent)
            w->ok = b->write(b, w->space, w->ops, w->count, limits, w->wait, &w->failed, &w->err);
    }
}

static void write_all(struct storage *s, struct storage_write *writes, size_t count,
                      const struct storage_limits *limits)
{
    struct storage_hashing hashing;

    for (size_t i = 0; i < count; i++) {
        writes[i].ok = false;
        writes[i].err = (struct error)ERROR_INIT;
        writes[i].sent = check_write(s, &writes[i], &writes[i].err);
        if (writes[i].sent)
            begin_digests(s, &writes[i], count == 1 ? &hashing : NULL);
    }
    tell_cache(s, writes, count, storage_cache_write_begin);
    call_backend(s, writes, count, limits);
    tell_cache(s, writes, count, storage_cache_write_end);
    for (size_t i = 0; i < count; i++) {
        struct storage_write *w = &writes[i];

        if (!w->sent)
            continue;
        end_digests(w);
        (void)settle(s, w->ok, &w->err, NULL);
        if (w->ok)
            atomic_fetch_add_explicit(&s->puts, w->count, memory_order_relaxed);
        else if (w->err.code == ERR_LIMIT && s->bus)
            event_publish(s->bus, "storage.quota", w->space, w->ops[0].key, "%s", w->err.text);
    }
}

void storage_write_many(struct storage *s, struct storage_write *writes, size_t count)
{
    write_all(s, writes, count, &s->limits);
}

static bool write_limited(struct storage *s, const char *space, struct storage_op *ops,
                          size_t count, const struct storage_limits *limits, const struct wait *w,
                          size_t *ret_failed, struct error *err)
{
    struct storage_write write = { .space = space, .ops = ops, .count = count, .wait = w };

    write_all(s, &write, 1, limits);
    if (write.ok)
        return true;
    if (ret_failed)
        *ret_failed = write.failed;
    if (err)
        *err = write.err;
    return false;
}

static bool write_one(struct storage *s, const char *space, struct storage_op *op,
                      const struct wait *w, struct storage_stat *ret, struct error *err)
{
    if (!write_limited(s, space, op, 1, &s->limits, w, NULL, err))
        return false;
    if (ret)
        *ret = op->stat;
    return true;
}

bool storage_batch(struct storage *s, const char *space, struct storage_op *ops, size_t count,
                   const struct wait *w, size_t *ret_failed, struct error *err)
{
    return write_limited(s, space, ops, count, &s->limits, w, ret_failed, err);
}

bool storage_put(struct storage *s, const char *space, const char *key, const void *data,
                 size_t len, uint64_t if_version, const struct wait *w, struct storage_stat *ret,
                 struct error *err)
{
    struct storage_op op = {
        .kind = STORAGE_PUT, .key = key, .data = data, .len = len, .if_version = if_version
    };

    return write_one(s, space, &op, w, ret, err);
}

bool storage_delete(struct storage *s, const char *space, const char *key, uint64_t if_version,
                    const struct wait *w, struct storage_stat *ret, struct error *err)
{
    struct storage_op op = { .kind = STORAGE_DELETE, .key = key, .if_version = if_version };

    return write_one(s, space, &op, w, ret, err);
}

/* A delete that leaves one version, itself.  What is deleted already cannot be deleted, so it
 * becomes an empty value first. */
bool storage_purge(struct storage *s, const char *space, const char *key, const struct wait *w,
                   struct storage_stat *ret, struct error *err)
{
    struct storage_limits one = { .versions = 1 };
    struct storage_op put = {
        .kind = STORAGE_PUT, .key = key, .data = "", .if_version = STORAGE_ANY
    };
    struct storage_op drop = { .kind = STORAGE_DELETE, .key = key, .if_version = STORAGE_ANY };
    struct error why = ERROR_INIT;
    struct storage_stat stat;
    bool ok = write_limited(s, space, &drop, 1, &one, w, NULL, &why);

    if (!ok && why.code == ERR_NOT_FOUND &&
        s->backend->stat(s->backend, space, key, 0, 0, w, &stat, NULL)) {
        error_clear(&why);
        ok = write_limited(s, space, &put, 1, &one, w, NULL, &why) &&
             write_limited(s, space, &drop, 1, &one, w, NULL, &why);
    }
    if (ok && ret)
        *ret = drop.stat;
    if (!ok && err)
        *err = why;
    return ok;
}

/* ---- reading ---- */

static bool copy_out(const struct storage_value *v, uint64_t offset, size_t max, struct buf *out,
                     struct storage_stat *ret, struct error *err)
{
    size_t from = (size_t)MIN(offset, v->len);

    if (!buf_append(out, v->data + from, MIN(max, v->len - from)))
        return error_set(err, ERR_NOMEM, "%zu bytes of %s", MIN(max, v->len - from), v->stat.key);
    if (ret)
        *ret = v->stat;
    return true;
}

/* From the cache, where that is known to be right; *ret_ticket else. */
static struct storage_value *cached(struct storage *s, const char *space, const char *key,
                                    uint64_t version, const struct wait *w, uint64_t *ret_ticket)
{
    CLEANUP(storage_value_unrefp) struct storage_value *v = NULL;
    struct storage_backend *b = s->backend;
    struct storage_stat now;

    *ret_ticket = 0;
    if (!s->cache)
        return NULL;
    v = storage_cache_get(s->cache, space, key, ret_ticket);
    if (!v || (version != 0 && version != v->stat.version))
        return NULL;
    if (!b->shared)
        return STEAL(v);
    if (b->stat(b, space, key, 0, 0, w, &now, NULL) && now.version == v->stat.version &&
        strcmp(now.sha256, v->stat.sha256) == 0)
        return STEAL(v);
    storage_cache_drop(s->cache, space, key);
    return NULL;
}

/* A whole value that was read must be what was put: disks and servers change bytes, too.  That is
 * looked at on the way into the cache and of older versions, and not of large values, where it
 * would cost more than reading them. */
static bool check_value(const struct storage_stat *stat, const char *value, struct error *err)
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];
    struct sha256 h;

    if (stat->bytes > CHECKED_BYTES)
        return true;
    sha256_init(&h);
    sha256_add(&h, value, (size_t)stat->bytes);
    sha256_end(&h, digest);
    sha256_hex(digest, hex);
    return strcmp(hex, stat->sha256) == 0 ||
           error_set(err, ERR_IO,
                     "version %" PRIu64 " of \"%s\" is damaged where it is stored (its digest is "
                     "another); storage_versions lists older ones, and a rollback to one brings it "
                     "back",
                     stat->version, stat->key);
}

bool storage_get(struct storage *s, const char *space, const char *key, uint64_t version,
                 uint64_t offset, size_t max, struct buf *out, const struct wait *w,
                 struct storage_stat *ret, struct error *err)
{
    CLEANUP(storage_value_unrefp) struct storage_value *v = NULL;
    struct storage_backend *b = s->backend;
    struct error why = ERROR_INIT;
    struct storage_stat stat;
    size_t before = out->len;
    bool ok, whole;
    uint64_t ticket;

    if (!check_names(space, key, w, err))
        return false;
    v = cached(s, space, key, version, w, &ticket);
    if (v) {
        atomic_fetch_add_explicit(&s->gets, 1, memory_order_relaxed);
        return copy_out(v, offset, max, out, ret, err);
    }
    ok = settle(s, b->read(b, space, key, version, offset, max, out, w, &stat, &why), &why, err);
    whole = ok && offset == 0 && out->len - before == stat.bytes;
    if (!ok || (whole && (ticket != 0 || version != 0) &&
                !check_value(&stat, out->data ? out->data + before : "", err))) {
        out->len = before;
        if (out->data)
            out->data[before] = '\0';
        return false;
    }
    atomic_fetch_add_explicit(&s->gets, 1, memory_order_relaxed);
    if (version == 0 && ticket != 0 && whole)
        storage_cache_fill(s->cache, space, ticket, &stat, out->data ? out->data + before : "");
    if (ret)
        *ret = stat;
    return true;
}

bool storage_rollback(struct storage *s, const char *space, const char *key, uint64_t version,
                      int64_t wall_ns, const struct wait *w, struct storage_stat *ret,
                      struct error *err)
{
    CLEANUP(buf_fini) struct buf value = BUF_INIT;
    struct storage_backend *b = s->backend;
    struct error why = ERROR_INIT;
    struct storage_stat then;

    if (!check_names(space, key, w, err))
        return false;
    if (version == 0 && wall_ns <= 0)
        return error_set(err, ERR_INVALID, "a rollback needs a version or a time");
    if (!settle(s, b->stat(b, space, key, version, version ? 0 : wall_ns, w, &then, &why), &why,
                err))
        return false;
    if (then.deleted)
        return storage_delete(s, space, key, STORAGE_ANY, w, ret, err);
    return storage_get(s, space, key, then.version, 0, SIZE_MAX, &value, w, NULL, err) &&
           storage_put(s, space, key, buf_str(&value), value.len, STORAGE_ANY, w, ret, err);
}

bool storage_copy(struct storage *s, const char *space, const char *key, const char *to_key,
                  uint64_t if_version, const struct wait *w, struct storage_stat *ret,
                  struct error *err)
{
    CLEANUP(buf_fini) struct buf value = BUF_INIT;

    return storage_check_key(to_key, err) &&
           storage_get(s, space, key, 0, 0, SIZE_MAX, &value, w, NULL, err) &&
           storage_put(s, space, to_key, buf_str(&value), value.len, if_version, w, ret, err);
}

/* ---- lists ---- */

void storage_page_fini(struct storage_page *page)
{
    free(page->items);
    free(page->cursor);
    *page = (struct storage_page){ .items = NULL };
}

static bool check_limit(size_t limit, struct error *err)
{
    if (limit < 1 || limit > STORAGE_PAGE_MAX)
        return error_set(err, ERR_INVALID, "a page holds 1 to %u", STORAGE_PAGE_MAX);
    return true;
}

/* The cursor behind the last of a page that is not the last page. */
static bool end_page(struct storage *s, enum storage_cursor_kind kind, const char *space,
                     const char *bound, bool more, struct storage_page *page,
                     struct storage_page *ret, struct error *err)
{
    char number[24];

    if (more && page->count > 0) {
        const struct storage_stat *last = page->items + page->count - 1;

        (void)snprintf(number, sizeof number, "%" PRIu64, last->version);
        if (secret_ready(s, err))
            page->cursor =
                storage_cursor_make(s->secret, kind, space, bound,
                                    kind == STORAGE_CURSOR_LIST ? last->key : number, err);
        if (!page->cursor) {
            storage_page_fini(page);
            return false;
        }
    }
    *ret = *page;
    return true;
}

bool storage_list(struct storage *s, const char *space, const char *prefix, const char *cursor,
                  size_t limit, const struct wait *w, struct storage_page *ret, struct error *err)
{
    struct storage_backend *b = s->backend;
    struct storage_page page = { .items = NULL };
    char after[STORAGE_KEY_BYTES + 1] = "";
    struct error why = ERROR_INIT;
    bool more = false;

    if (!storage_check_space(space, err) || !storage_check_prefix(prefix, err) ||
        !check_limit(limit, err) || !wait_check(w, err))
        return false;
    if (cursor &&
        (!secret_ready(s, err) ||
         !storage_cursor_read(s->secret, STORAGE_CURSOR_LIST, space, prefix, cursor, after, err)))
        return false;
    if (!settle(s, b->list(b, space, prefix, after, limit, w, &page, &more, &why), &why, err))
        return false;
    return end_page(s, STORAGE_CURSOR_LIST, space, prefix, more, &page, ret, err);
}

bool storage_versions(struct storage *s, const char *space, const char *key, const char *cursor,
                      size_t limit, const struct wait *w, struct storage_page *ret,
                      struct error *err)
{
    struct storage_backend *b = s->backend;
    struct storage_page page = { .items = NULL };
    char before[STORAGE_KEY_BYTES + 1] = "0";
    struct error why = ERROR_INIT;
    bool more = false;

    if (!check_names(space, key, w, err) || !check_limit(limit, err))
        return false;
    if (cursor && (!secret_ready(s, err) || !storage_cursor_read(s->secret, STORAGE_CURSOR_VERSIONS,
                                                                 space, key, cursor, before, err)))
        return false;
    if (!settle(
            s, b->versions(b, space, key, strtoull(before, NULL, 10), limit, w, &page, &more, &why),
            &why, err))
        return false;
    return end_page(s, STORAGE_CURSOR_VERSIONS, space, key, more, &page, ret, err);
}

/* ---- sharing ---- */

bool storage_share(struct storage *s, const char *space, const char *key, uint64_t version,
                   int64_t expires_wall_ns, char ret_token[STORAGE_TOKEN_BYTES], struct error *err)
{
    struct storage_grant grant = { .version = version, .expires_wall_ns = expires_wall_ns };

    if (!storage_check_space(space, err) || !storage_check_key(key, err))
        return false;
    if (expires_wall_ns <= clock_wall_ns())
        return error_set(err, ERR_INVALID, "the token would have expired already");
    (void)snprintf(grant.space, sizeof grant.space, "%s", space);
    (void)snprintf(grant.key, sizeof grant.key, "%s", key);
    return secret_ready(s, err) && storage_token_make(s->secret, &grant, ret_token, err);
}

bool storage_get_shared(struct storage *s, const char *token, uint64_t offset, size_t max,
                        struct buf *out, const struct wait *w, struct storage_stat *ret,
                        struct error *err)
{
    struct storage_grant grant;

    if (!secret_ready(s, err) || !storage_token_read(s->secret, token, &grant, err))
        return false;
    if (grant.expires_wall_ns <= clock_wall_ns())
        return error_set(err, ERR_DENIED, "the token has expired");
    return storage_get(s, grant.space, grant.key, grant.version, offset, max, out, w, ret, err);
}

/* ---- figures ---- */

bool storage_usage(struct storage *s, const char *space, const struct wait *w,
                   struct storage_usage *ret, struct error *err)
{
    struct storage_usage usage = { .bytes = 0 };
    struct error why = ERROR_INIT;

    if (!storage_check_space(space, err) || !wait_check(w, err) ||
        !settle(s, s->backend->usage(s->backend, space, w, &usage, &why), &why, err))
        return false;
    usage.quota_bytes = s->limits.quota_bytes;
    *ret = usage;
    return true;
}

void storage_stats(struct storage *s, struct storage_stats *ret)
{
    *ret = (struct storage_stats){
        .backend = s->backend->name,
        .puts = atomic_load(&s->puts),
        .gets = atomic_load(&s->gets),
        .failures = atomic_load(&s->failures),
    };
    if (s->cache)
        storage_cache_figures(s->cache, ret);
    if (s->backend->stats)
        s->backend->stats(s->backend, ret);
}
