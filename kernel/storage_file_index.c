/* What the file back end remembers of each space: its keys and their versions. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/log.h"
#include "kernel/storage_file.h"
#include "kernel/storage_internal.h"

#define KEPT_OPEN_MAX 64u /* folders of spaces */

void file_hash(const char *key, uint8_t ret[FILE_HASH_BYTES])
{
    uint8_t digest[SHA256_BYTES];

    sha256_of(key, strlen(key), digest);
    memcpy(ret, digest, FILE_HASH_BYTES);
}

const struct file_version *file_newest(const struct file_key *k)
{
    return &k->versions[k->count - 1];
}

/* ---- folders ---- */

/* "s-": a space may be called "..". */
static void folder_name(char buf[STORAGE_SPACE_BYTES + 3], const char *space)
{
    (void)snprintf(buf, STORAGE_SPACE_BYTES + 3, "s-%s", space);
}

int file_open_dir(struct file_backend *b, struct file_space *s, bool make, bool *ret_none,
                  struct error *err)
{
    char name[STORAGE_SPACE_BYTES + 3];
    int fd;

    *ret_none = false;
    fd = atomic_load(&s->dirfd);
    if (fd >= 0)
        return fd;
    folder_name(name, s->name);
    if (make && mkdirat(b->dirfd, name, 0700) < 0 && errno != EEXIST) {
        error_set_errno(err, errno, "make the folder of a space: nothing was changed");
        return -1;
    }
    fd = openat(b->dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        *ret_none = errno == ENOENT;
        if (!*ret_none)
            error_set_errno(err, errno, "open the folder of the space %s", s->name);
        return -1;
    }
    return fd;
}

void file_close_dir(const struct file_space *s, int fd)
{
    if (fd != s->dirfd)
        fd_close(fd);
}

/* ---- loading ---- */

/* What one file says, before the files are put in order. */
struct found {
    struct file_version version;
    char *key;
};

struct finding {
    struct found *items;
    size_t count, cap;
};

static int by_key_and_version(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int order = strcmp(x->key, y->key);

    if (order != 0)
        return order;
    return (x->version.version > y->version.version) - (x->version.version < y->version.version);
}

static bool note_damage(struct file_space *s, const char *name, struct error *err)
{
    struct file_damage *more = reallocarray(s->damage, s->damage_count + 1, sizeof *more);
    struct file_damage *d;
    int64_t wall_ns;

    if (!more)
        return error_set(err, ERR_NOMEM, "space %s", s->name);
    s->damage = more;
    d = &more[s->damage_count];
    if (file_parse_name(name, d->hash, &d->version, &wall_ns)) {
        s->damage_count++;
        log_line(LOG_WARN, "storage_damaged", "space=%s file=%s", s->name, name);
    }
    return true;
}

static bool find_one(struct file_space *s, int dirfd, const char *name, struct finding *f,
                     struct error *err)
{
    char key[STORAGE_KEY_BYTES + 1];
    struct file_version version;
    uint8_t hash[FILE_HASH_BYTES];
    bool whole;

    if (strncmp(name, FILE_TEMP_PREFIX, strlen(FILE_TEMP_PREFIX)) == 0) {
        if (!s->cleaned)
            (void)unlinkat(dirfd, name, 0); /* of a write that was never answered */
        return true;
    }
    if (!file_parse_name(name, hash, &version.version, &version.wall_ns))
        return true;
    if (!file_read_header(dirfd, name, &version, key, &whole, err))
        return false;
    if (!whole)
        return note_damage(s, name, err);
    if (f->count == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 64;
        struct found *items = reallocarray(f->items, cap, sizeof *items);

        if (!items)
            return error_set(err, ERR_NOMEM, "space %s", s->name);
        f->items = items;
        f->cap = cap;
    }
    f->items[f->count] = (struct found){ .version = version, .key = strdup(key) };
    if (!f->items[f->count].key)
        return error_set(err, ERR_NOMEM, "space %s", s->name);
    f->count++;
    return true;
}

static bool find_all(struct file_space *s, int dirfd, struct finding *f, struct error *err)
{
    int again = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again >= 0 ? fdopendir(again) : NULL;
    struct dirent *entry;
    bool ok = true;

    if (!dir) {
        error_set_errno(err, errno, "read the folder of the space %s", s->name);
        fd_close(again);
        return false;
    }
    while (ok && (errno = 0, entry = readdir(dir)))
        ok = find_one(s, dirfd, entry->d_name, f, err);
    if (ok && errno)
        ok = error_set_errno(err, errno, "read the folder of the space %s", s->name);
    (void)closedir(dir);
    return ok;
}

static bool put_in_order(struct file_space *s, struct finding *f, struct error *err)
{
    if (f->count > 1)
        qsort(f->items, f->count, sizeof *f->items, by_key_and_version);
    for (size_t i = 0; i < f->count; i++) {
        const struct found *it = &f->items[i];
        bool last = i + 1 == f->count || strcmp(it->key, it[1].key) != 0;

        if (!file_reserve(s, it->key, err))
            return false;
        file_add(s, it->key, &it->version);
        s->tally.bytes += it->version.bytes;
        s->tally.versions++;
        s->tally.keys += last && !it->version.deleted;
    }
    return true;
}

void file_forget_locked(struct file_space *s)
{
    s->loaded = false;
    for (size_t i = 0; i < s->count; i++) {
        free(s->keys[i]->versions);
        free(s->keys[i]);
    }
    free(s->keys);
    free(s->damage);
    s->keys = NULL;
    s->damage = NULL;
    s->count = s->cap = s->damage_count = 0;
    s->tally = (struct storage_tally){ .bytes = 0 };
}

static bool load(struct file_backend *b, struct file_space *s, struct error *err)
{
    struct finding f = { .items = NULL };
    bool none, ok;
    int fd = file_open_dir(b, s, false, &none, err);

    if (fd < 0) {
        s->loaded = s->cleaned = none;
        return none;
    }
    ok = file_journal_replay(fd, err) && find_all(s, fd, &f, err) && put_in_order(s, &f, err);
    for (size_t i = 0; i < f.count; i++)
        free(f.items[i].key);
    free(f.items);
    file_close_dir(s, fd);
    s->made = true;
    s->loaded = ok;
    s->cleaned |= ok;
    if (!ok)
        file_forget_locked(s);
    return ok;
}

/* ---- spaces ---- */

static struct file_space *space_new(const char *name)
{
    struct file_space *s = calloc(1, sizeof *s);

    if (!s || !(s->name = strdup(name))) {
        free(s);
        return NULL;
    }
    atomic_init(&s->dirfd, -1);
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

void file_space_free(struct file_space *s)
{
    file_forget_locked(s);
    if (s->dirfd >= 0)
        fd_close(s->dirfd);
    pthread_mutex_destroy(&s->lock);
    free(s->name);
    free(s);
}

static struct file_space *space_get_locked(struct file_backend *b, const char *name)
{
    size_t low = 0, high = b->count;
    struct file_space *s;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(b->spaces[middle]->name, name);

        if (order == 0)
            return b->spaces[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (b->count == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 16;
        struct file_space **more = reallocarray(b->spaces, cap, sizeof(void *));

        if (!more)
            return NULL;
        b->spaces = more;
        b->cap = cap;
    }
    s = space_new(name);
    if (!s)
        return NULL;
    memmove(b->spaces + low + 1, b->spaces + low, (b->count - low) * sizeof(void *));
    b->spaces[low] = s;
    b->count++;
    return s;
}

/* The first folders stay open, which saves a third of the time of reading a small value. */
static void keep_open(struct file_backend *b, struct file_space *s)
{
    bool none;
    int fd;

    if (atomic_fetch_add(&b->kept_open, 1) >= KEPT_OPEN_MAX) {
        atomic_fetch_sub(&b->kept_open, 1);
        return;
    }
    fd = file_open_dir(b, s, false, &none, NULL);
    if (fd >= 0)
        s->dirfd = fd;
}

struct file_space *file_lock(struct file_backend *b, const char *name, struct error *err)
{
    struct file_space *s;

    pthread_mutex_lock(&b->lock);
    s = space_get_locked(b, name);
    pthread_mutex_unlock(&b->lock);
    if (!s) {
        error_set(err, ERR_NOMEM, "space %s", name);
        return NULL;
    }
    pthread_mutex_lock(&s->lock);
    if (!s->loaded && !load(b, s, err)) {
        pthread_mutex_unlock(&s->lock);
        return NULL;
    }
    if (s->made && s->dirfd == -1) {
        s->dirfd = -2; /* tried once */
        keep_open(b, s);
    }
    return s;
}

void file_unlock(struct file_space *s)
{
    pthread_mutex_unlock(&s->lock);
}

/* ---- keys ---- */

size_t file_find(const struct file_space *s, const char *key, bool *ret_found)
{
    size_t low = 0, high = s->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(s->keys[middle]->key, key);

        if (order == 0) {
            *ret_found = s->keys[middle]->count > 0;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = false;
    return low;
}

uint64_t file_damaged(const struct file_space *s, const uint8_t hash[FILE_HASH_BYTES])
{
    uint64_t newest = 0;

    for (size_t i = 0; i < s->damage_count; i++)
        if (memcmp(s->damage[i].hash, hash, FILE_HASH_BYTES) == 0)
            newest = MAX(newest, s->damage[i].version);
    return newest;
}

static struct file_key *key_new(const char *key)
{
    size_t bytes = strlen(key) + 1;
    struct file_key *k = calloc(1, sizeof *k + bytes);

    if (k) {
        memcpy(k->key, key, bytes);
        file_hash(key, k->hash);
    }
    return k;
}

static bool make_room(struct file_space *s)
{
    if (s->count == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 16;
        struct file_key **more = reallocarray(s->keys, cap, sizeof(void *));

        if (!more)
            return false;
        s->keys = more;
        s->cap = cap;
    }
    return true;
}

/* A key without versions may be left behind when the write fails; it counts as not there. */
bool file_reserve(struct file_space *s, const char *key, struct error *err)
{
    bool found;
    size_t at = file_find(s, key, &found);
    struct file_key *k = at < s->count && strcmp(s->keys[at]->key, key) == 0 ? s->keys[at] : NULL;

    if (!k) {
        k = make_room(s) ? key_new(key) : NULL;
        if (!k)
            return error_set(err, ERR_NOMEM, "space %s", s->name);
        memmove(s->keys + at + 1, s->keys + at, (s->count - at) * sizeof(void *));
        s->keys[at] = k;
        s->count++;
    }
    if (k->count == k->cap) {
        uint32_t cap = k->cap ? k->cap * 2 : 1;
        struct file_version *more = reallocarray(k->versions, cap, sizeof *more);

        if (!more)
            return error_set(err, ERR_NOMEM, "space %s", s->name);
        k->versions = more;
        k->cap = cap;
    }
    return true;
}

void file_add(struct file_space *s, const char *key, const struct file_version *v)
{
    bool found;
    struct file_key *k = s->keys[file_find(s, key, &found)];

    assert(k->count < k->cap);
    k->versions[k->count++] = *v;
}
