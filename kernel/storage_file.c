/* The file back end: opening, reading, lists. */
#include "kernel/storage_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/storage_internal.h"

#define TRIES 64 /* of opening a version whose file goes away: another write drops it */

/* ---- finding ---- */

static void fill_stat(const struct file_key *k, const struct file_version *v,
                      struct storage_stat *ret)
{
    (void)snprintf(ret->key, sizeof ret->key, "%s", k->key);
    ret->version = v->version;
    ret->bytes = v->bytes;
    ret->wall_ns = v->wall_ns;
    ret->deleted = v->deleted;
    ret->sha256[0] = '\0';
    if (!v->deleted)
        sha256_hex(v->sha256, ret->sha256);
}

static const struct file_version *pick(const struct file_key *k, uint64_t version,
                                       int64_t at_wall_ns)
{
    for (size_t i = k->count; i > 0; i--) {
        const struct file_version *v = &k->versions[i - 1];

        if (version ? v->version == version : at_wall_ns == 0 || v->wall_ns <= at_wall_ns)
            return v;
    }
    return NULL;
}

/* Nothing older may be passed off for a version that cannot be read. */
static bool check_damage(const struct file_space *s, const char *key, uint64_t version,
                         const struct file_version *v, struct error *err)
{
    uint8_t hash[FILE_HASH_BYTES];
    uint64_t damaged;

    if (s->damage_count == 0)
        return true;
    file_hash(key, hash);
    damaged = file_damaged(s, hash);
    if (version ? v != NULL || version > damaged : damaged < (v ? v->version : 1))
        return true;
    return error_set(err, ERR_IO, "the file of \"%s\" is damaged (version %llu)", key,
                     (unsigned long long)(version ? version : damaged));
}

static bool find_locked(const struct file_space *s, const char *key, uint64_t version,
                        int64_t at_wall_ns, struct storage_stat *ret,
                        uint8_t ret_hash[FILE_HASH_BYTES], struct error *err)
{
    bool found;
    size_t at = file_find(s, key, &found);
    const struct file_version *v = found ? pick(s->keys[at], version, at_wall_ns) : NULL;

    if (!check_damage(s, key, version, v, err))
        return false;
    if (!v && version)
        return error_set(err, ERR_NOT_FOUND,
                         "no version %llu of \"%s\" is kept; storage_versions lists those that are",
                         (unsigned long long)version, key);
    if (!v)
        return error_set(err, ERR_NOT_FOUND, "there is no \"%s\"%s", key,
                         at_wall_ns ? " that is so old" : "");
    fill_stat(s->keys[at], v, ret);
    memcpy(ret_hash, s->keys[at]->hash, FILE_HASH_BYTES);
    return true;
}

static bool file_stat(struct storage_backend *base, const char *space, const char *key,
                      uint64_t version, int64_t at_wall_ns, const struct wait *w,
                      struct storage_stat *ret, struct error *err)
{
    struct file_space *s = file_lock(CONTAINER_OF(base, struct file_backend, base), space, err);
    uint8_t hash[FILE_HASH_BYTES];
    bool ok;

    (void)w;
    if (!s)
        return false;
    ok = find_locked(s, key, version, at_wall_ns, ret, hash, err);
    file_unlock(s);
    return ok;
}

/* ---- reading ---- */

static bool read_range(int fd, const struct storage_stat *stat, uint64_t offset, size_t max,
                       struct buf *out, struct error *err)
{
    size_t from = (size_t)MIN(offset, stat->bytes);
    size_t len = MIN(max, (size_t)stat->bytes - from);
    off_t at = (off_t)(file_header_bytes(strlen(stat->key)) + from);

    if (!buf_reserve(out, len))
        return error_set(err, ERR_NOMEM, "%zu bytes of \"%s\"", len, stat->key);
    while (len > 0) {
        ssize_t n = pread(fd, out->data + out->len, len, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "read \"%s\"", stat->key);
        if (n == 0)
            return error_set(err, ERR_IO, "the file of \"%s\" is damaged: it was cut", stat->key);
        out->len += (size_t)n;
        at += n;
        len -= (size_t)n;
    }
    out->data[out->len] = '\0';
    return true;
}

/* The file of what was found; -1 with *ret_gone when it was dropped in between. */
static int open_version(struct file_backend *b, struct file_space *s,
                        const struct storage_stat *stat, const uint8_t hash[FILE_HASH_BYTES],
                        bool *ret_gone, struct error *err)
{
    char name[FILE_NAME_BYTES];
    int dirfd = file_open_dir(b, s, false, ret_gone, err);
    int fd;

    if (dirfd < 0)
        return -1;
    (void)file_name(name, hash, stat->version, stat->wall_ns);
    fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    *ret_gone = fd < 0 && errno == ENOENT;
    if (fd < 0 && !*ret_gone)
        error_set_errno(err, errno, "open the file of \"%s\"", stat->key);
    file_close_dir(s, dirfd);
    return fd;
}

static bool file_read(struct storage_backend *base, const char *space, const char *key,
                      uint64_t version, uint64_t offset, size_t max, struct buf *out,
                      const struct wait *w, struct storage_stat *ret, struct error *err)
{
    struct file_backend *b = CONTAINER_OF(base, struct file_backend, base);

    (void)w;
    for (int i = 0; i < TRIES; i++) {
        CLEANUP(fd_closep) int fd = -1;
        struct file_space *s = file_lock(b, space, err);
        uint8_t hash[FILE_HASH_BYTES];
        bool ok, gone = false;

        if (!s)
            return false;
        ok = find_locked(s, key, version, 0, ret, hash, err);
        file_unlock(s);
        if (!ok)
            return false;
        if (ret->deleted)
            return error_set(err, ERR_NOT_FOUND, "there is no \"%s\": version %llu deleted it", key,
                             (unsigned long long)ret->version);
        fd = open_version(b, s, ret, hash, &gone, err);
        if (fd >= 0)
            return read_range(fd, ret, offset, max, out, err);
        if (!gone)
            return false;
    }
    return error_set(err, ERR_IO, "the file of \"%s\" is gone", key);
}

/* ---- lists ---- */

static bool list_locked(const struct file_space *s, const char *prefix, const char *after,
                        size_t limit, struct storage_page *page, bool *ret_more, struct error *err)
{
    size_t prefix_len = strlen(prefix), cap = 0, at;
    bool found;

    at = file_find(s, strcmp(after, prefix) > 0 ? after : prefix, &found);
    for (; at < s->count && strncmp(s->keys[at]->key, prefix, prefix_len) == 0; at++) {
        const struct file_key *k = s->keys[at];

        if (k->count == 0 || file_newest(k)->deleted ||
            (after[0] != '\0' && strcmp(k->key, after) == 0))
            continue;
        *ret_more = page->count == limit;
        if (*ret_more)
            return true;
        if (page->count == cap) {
            size_t more = cap ? cap * 2 : 16;
            struct storage_stat *items = reallocarray(page->items, more, sizeof *items);

            if (!items)
                return error_set(err, ERR_NOMEM, "a page of %zu", more);
            page->items = items;
            cap = more;
        }
        fill_stat(k, file_newest(k), &page->items[page->count++]);
    }
    return true;
}

static bool file_list(struct storage_backend *base, const char *space, const char *prefix,
                      const char *after, size_t limit, const struct wait *w,
                      struct storage_page *ret, bool *ret_more, struct error *err)
{
    struct file_space *s = file_lock(CONTAINER_OF(base, struct file_backend, base), space, err);
    bool ok;

    (void)w;
    *ret = (struct storage_page){ .items = NULL };
    *ret_more = false;
    if (!s)
        return false;
    ok = list_locked(s, prefix, after, limit, ret, ret_more, err);
    file_unlock(s);
    if (!ok)
        storage_page_fini(ret);
    return ok;
}

static bool file_versions(struct storage_backend *base, const char *space, const char *key,
                          uint64_t before, size_t limit, const struct wait *w,
                          struct storage_page *ret, bool *ret_more, struct error *err)
{
    struct file_space *s = file_lock(CONTAINER_OF(base, struct file_backend, base), space, err);
    const struct file_key *k;
    bool found;
    size_t at, fits;

    (void)w;
    *ret = (struct storage_page){ .items = NULL };
    *ret_more = false;
    if (!s)
        return false;
    at = file_find(s, key, &found);
    k = found ? s->keys[at] : NULL;
    fits = k ? MIN(limit, k->count) : 0;
    ret->items = fits ? calloc(fits, sizeof *ret->items) : NULL;
    for (size_t i = k && ret->items ? k->count : 0; i > 0 && !*ret_more; i--) {
        if (before != 0 && k->versions[i - 1].version >= before)
            continue;
        if (ret->count == limit)
            *ret_more = true;
        else
            fill_stat(k, &k->versions[i - 1], &ret->items[ret->count++]);
    }
    file_unlock(s);
    if (fits && !ret->items)
        return error_set(err, ERR_NOMEM, "a page of %zu", fits);
    return true;
}

static bool file_usage(struct storage_backend *base, const char *space, const struct wait *w,
                       struct storage_usage *ret, struct error *err)
{
    struct file_space *s = file_lock(CONTAINER_OF(base, struct file_backend, base), space, err);

    (void)w;
    if (!s)
        return false;
    ret->bytes = s->tally.bytes;
    ret->keys = s->tally.keys;
    ret->versions = s->tally.versions;
    file_unlock(s);
    return true;
}

/* ---- the back end ---- */

static void file_free(struct storage_backend *base)
{
    struct file_backend *b = CONTAINER_OF(base, struct file_backend, base);

    for (size_t i = 0; i < b->count; i++)
        file_space_free(b->spaces[i]);
    free(b->spaces);
    fd_close(b->dirfd);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static int open_folder(const char *state_dir, struct error *err)
{
    CLEANUP(fd_closep) int dirfd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd;

    if (dirfd < 0) {
        error_set_errno(err, errno, "open %s", state_dir);
        return -1;
    }
    if (mkdirat(dirfd, "files", 0700) < 0 && errno != EEXIST) {
        error_set_errno(err, errno, "make %s/files", state_dir);
        return -1;
    }
    fd = openat(dirfd, "files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        error_set_errno(err, errno, "open %s/files", state_dir);
    else
        (void)fsync(dirfd); /* a power cut then takes nothing but the empty folder */
    return fd;
}

struct storage_backend *storage_file_new(const struct config *config, const char *state_dir,
                                         struct error *err)
{
    struct file_backend *b = calloc(1, sizeof *b);

    (void)config;
    if (!b) {
        error_set(err, ERR_NOMEM, "storage in files");
        return NULL;
    }
    b->base = (struct storage_backend){
        .name = "file",
        .late_digest = true,
        .write = storage_file_write,
        .read = file_read,
        .stat = file_stat,
        .list = file_list,
        .versions = file_versions,
        .usage = file_usage,
        .free = file_free,
    };
    b->dirfd = open_folder(state_dir, err);
    if (b->dirfd < 0) {
        free(b);
        return NULL;
    }
    pthread_mutex_init(&b->lock, NULL);
    return &b->base;
}
