#include "kernel/memory_vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/memory_dot.h"

#define FOLDER      "vectors"
#define OPEN_MAX    64u /* sets that stay open though nobody uses them */
#define GROW_LEAST  64u /* slots */
#define GROW_MOST   65536u
#define BLOCK_SLOTS 2048u /* compared between two looks at the deadline */
#define ALIGNMENT   64u

struct memory_set {
    struct memory_vectors *all;
    struct memory_set *next; /* guarded by all->lock, as is users */
    unsigned users;
    struct memory_set_key key;
    size_t stride; /* floats of a row */
    int fd;

    pthread_rwlock_t lock; /* guards what is below; to read while comparing */
    int64_t *notes;        /* of each slot: a note, FREE or TAKEN */
    size_t slots;          /* that the file has */
    size_t lowest_free;    /* no slot below is free */
    float *map;
    size_t map_bytes;
};

enum { FREE = 0, TAKEN = -1 };

struct memory_vectors {
    char *dir;

    pthread_mutex_t lock; /* also held while a set is opened: see memory_vectors_free_slot() */
    struct memory_set *sets;
    unsigned open;
};

/* ---- the object ---- */

struct memory_vectors *memory_vectors_new(const char *dir, struct error *err)
{
    struct memory_vectors *v = calloc(1, sizeof *v);
    size_t size = strlen(dir) + sizeof "/" FOLDER;

    if (!v || !(v->dir = malloc(size))) {
        free(v);
        error_set(err, ERR_NOMEM, "vectors");
        return NULL;
    }
    (void)snprintf(v->dir, size, "%s/" FOLDER, dir);
    pthread_mutex_init(&v->lock, NULL);
    return v;
}

static void set_free(struct memory_set *s)
{
    if (!s)
        return;
    if (s->map)
        (void)munmap(s->map, s->map_bytes);
    fd_close(s->fd);
    free(s->notes);
    pthread_rwlock_destroy(&s->lock);
    free(s);
}
DEFINE_CLEANUP(struct memory_set, set_free)

void memory_vectors_free(struct memory_vectors *v)
{
    if (!v)
        return;
    while (v->sets) {
        struct memory_set *s = v->sets;

        v->sets = s->next;
        set_free(s);
    }
    pthread_mutex_destroy(&v->lock);
    free(v->dir);
    free(v);
}

/* ---- opening ---- */

/* Maps as many whole rows as the file has. */
static bool map_file(struct memory_set *s, size_t slots, struct error *err)
{
    size_t bytes = slots * s->stride * sizeof(float);
    int64_t *notes;
    void *map;

    notes = reallocarray(s->notes, slots ? slots : 1, sizeof *notes);
    if (!notes)
        return error_set(err, ERR_NOMEM, "vectors");
    s->notes = notes;
    map = bytes ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, s->fd, 0) : NULL;
    if (map == MAP_FAILED)
        return error_set_errno(err, errno, "map vectors");
    if (s->map)
        (void)munmap(s->map, s->map_bytes);
    s->map = map;
    s->map_bytes = bytes;
    for (size_t i = s->slots; i < slots; i++)
        notes[i] = FREE;
    s->slots = slots;
    return true;
}

static struct memory_set *open_set(struct memory_vectors *v, const struct memory_set_key *key,
                                   bool make, memory_set_fill_fn *fill, void *arg,
                                   struct error *err)
{
    CLEANUP(set_freep) struct memory_set *s = calloc(1, sizeof *s);
    char path[PATH_MAX];
    struct stat st;

    if (!s) {
        error_set(err, ERR_NOMEM, "vectors");
        return NULL;
    }
    s->all = v;
    s->key = *key;
    s->fd = -1;
    s->stride = (key->dims + MEMORY_DOT_LANES - 1) / MEMORY_DOT_LANES * MEMORY_DOT_LANES;
    pthread_rwlock_init(&s->lock, NULL);
    if (make && !fd_mkdirs(v->dir, 0700, err))
        return NULL;
    if (snprintf(path, sizeof path, "%s/%lld-%lld.f32", v->dir, (long long)key->scope,
                 (long long)key->model) >= (int)sizeof path) {
        error_set_errno(err, ENAMETOOLONG, "vectors");
        return NULL;
    }
    s->fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | (make ? O_CREAT : 0), 0600);
    if (s->fd < 0 && errno == ENOENT && !make)
        return NULL;
    if (s->fd < 0 || fstat(s->fd, &st)) {
        error_set_errno(err, errno, "open %s", path);
        return NULL;
    }
    if (!map_file(s, (size_t)st.st_size / (s->stride * sizeof(float)), err) ||
        !fill(s, key, arg, err))
        return NULL;
    return STEAL(s);
}

/* Sets that nobody uses are closed when there are many, the longest unused first. */
static void close_some(struct memory_vectors *v)
{
    while (v->open > OPEN_MAX) {
        struct memory_set **last = NULL, *gone;

        for (struct memory_set **at = &v->sets; *at; at = &(*at)->next)
            if ((*at)->users == 0)
                last = at;
        if (!last)
            return;
        gone = *last;
        *last = gone->next;
        v->open--;
        set_free(gone);
    }
}

static struct memory_set **find_set(struct memory_vectors *v, int64_t scope, int64_t model)
{
    struct memory_set **at = &v->sets;

    while (*at && ((*at)->key.scope != scope || (*at)->key.model != model))
        at = &(*at)->next;
    return at;
}

struct memory_set *memory_set_get(struct memory_vectors *v, const struct memory_set_key *key,
                                  bool make, memory_set_fill_fn *fill, void *arg, struct error *err)
{
    struct memory_set **at, *s;

    pthread_mutex_lock(&v->lock);
    at = find_set(v, key->scope, key->model);
    s = *at;
    if (s) {
        *at = s->next;
    } else {
        s = open_set(v, key, make, fill, arg, err);
        v->open += s != NULL;
    }
    close_some(v); /* not this one: it is in no list now */
    if (s) {
        s->next = v->sets;
        v->sets = s;
        s->users++;
    }
    pthread_mutex_unlock(&v->lock);
    return s;
}

void memory_set_put(struct memory_set *set)
{
    if (!set)
        return;
    pthread_mutex_lock(&set->all->lock);
    set->users--;
    pthread_mutex_unlock(&set->all->lock);
}

/* ---- slots ---- */

/* The file grows by an eighth, so that a million vectors are not a million mappings. */
static bool grow(struct memory_set *s, struct error *err)
{
    size_t more = MIN(MAX(s->slots / 8, (size_t)GROW_LEAST), (size_t)GROW_MOST);
    size_t slots = s->slots + more;

    if (ftruncate(s->fd, (off_t)(slots * s->stride * sizeof(float))))
        return error_set_errno(err, errno, "enlarge the file of vectors");
    return map_file(s, slots, err);
}

static bool take_slot(struct memory_set *s, size_t *ret, struct error *err)
{
    bool ok = true;

    pthread_rwlock_wrlock(&s->lock);
    while (s->lowest_free < s->slots && s->notes[s->lowest_free] != FREE)
        s->lowest_free++;
    if (s->lowest_free == s->slots)
        ok = grow(s, err);
    if (ok) {
        *ret = s->lowest_free++;
        s->notes[*ret] = TAKEN;
    }
    pthread_rwlock_unlock(&s->lock);
    return ok;
}

bool memory_set_write(struct memory_set *set, const float *vector, int64_t *ret_slot,
                      struct error *err)
{
    size_t slot = 0, bytes = set->stride * sizeof(float), done = 0;

    if (!take_slot(set, &slot, err))
        return false;
    /* Written, not stored through the mapping: a full disk is then an error and no signal. */
    while (done < bytes) {
        ssize_t n = pwrite(set->fd, (const char *)vector + done, bytes - done,
                           (off_t)(slot * bytes + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            error_set_errno(err, n < 0 ? errno : ENOSPC, "write a vector");
            memory_set_free(set, (int64_t)slot);
            return false;
        }
        done += (size_t)n;
    }
    *ret_slot = (int64_t)slot;
    return true;
}

bool memory_set_place(struct memory_set *set, int64_t slot, int64_t n)
{
    bool ok;

    pthread_rwlock_wrlock(&set->lock);
    ok = slot >= 0 && (size_t)slot < set->slots;
    if (ok)
        set->notes[slot] = n;
    pthread_rwlock_unlock(&set->lock);
    return ok;
}

void memory_set_free(struct memory_set *set, int64_t slot)
{
    pthread_rwlock_wrlock(&set->lock);
    if (slot >= 0 && (size_t)slot < set->slots) {
        set->notes[slot] = FREE;
        set->lowest_free = MIN(set->lowest_free, (size_t)slot);
    }
    pthread_rwlock_unlock(&set->lock);
}

/* The caller has committed that the slot is free.  A set that is being opened meanwhile may have
 * read the database before, but then it has the lock, and the slot is freed in it afterwards. */
void memory_vectors_free_slot(struct memory_vectors *v, int64_t scope, int64_t model, int64_t slot)
{
    struct memory_set *s;

    pthread_mutex_lock(&v->lock);
    s = *find_set(v, scope, model);
    if (s)
        memory_set_free(s, slot);
    pthread_mutex_unlock(&v->lock);
}

size_t memory_set_slots(struct memory_set *set)
{
    size_t slots;

    pthread_rwlock_rdlock(&set->lock);
    slots = set->slots;
    pthread_rwlock_unlock(&set->lock);
    return slots;
}

/* ---- the best ---- */

bool memory_best_init(struct memory_best *b, size_t max, struct error *err)
{
    *b = (struct memory_best){ .max = max };
    b->score = calloc(max, sizeof *b->score);
    b->n = calloc(max, sizeof *b->n);
    if (b->score && b->n)
        return true;
    memory_best_fini(b);
    return error_set(err, ERR_NOMEM, "the nearest notes");
}

void memory_best_fini(struct memory_best *b)
{
    free(b->score);
    free(b->n);
    *b = (struct memory_best){ .max = 0 };
}

static void set_at(struct memory_best *b, size_t i, float score, int64_t n)
{
    b->score[i] = score;
    b->n[i] = n;
}

static void sink(struct memory_best *b, size_t i, size_t count, float score, int64_t n)
{
    for (size_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && b->score[child + 1] < b->score[child])
            child++;
        if (b->score[child] >= score)
            break;
        set_at(b, i, b->score[child], b->n[child]);
    }
    set_at(b, i, score, n);
}

static void offer(struct memory_best *b, float score, int64_t n)
{
    size_t i;

    /* A note that is shared is in two sets, with the same vector. */
    for (i = 0; i < b->count; i++)
        if (b->n[i] == n)
            return;
    if (b->count == b->max) {
        sink(b, 0, b->count, score, n);
        return;
    }
    for (i = b->count++; i > 0 && b->score[(i - 1) / 2] > score; i = (i - 1) / 2)
        set_at(b, i, b->score[(i - 1) / 2], b->n[(i - 1) / 2]);
    set_at(b, i, score, n);
}

void memory_best_sort(struct memory_best *b)
{
    for (size_t last = b->count; last-- > 1;) {
        float score = b->score[last];
        int64_t n = b->n[last];

        set_at(b, last, b->score[0], b->n[0]);
        sink(b, 0, last, score, n);
    }
}

/* ---- comparing ---- */

static void scan_block(struct memory_set *s, const float *query, const uint8_t *allowed,
                       size_t begin, size_t count, struct memory_best *best)
{
    float scores[BLOCK_SLOTS];

    memory_dot_rows(query, s->map + begin * s->stride, s->stride, count, scores);
    for (size_t i = 0; i < count; i++) {
        size_t slot = begin + i;

        if (best->count == best->max && scores[i] <= best->score[0])
            continue;
        if (s->notes[slot] <= 0 || (allowed && !(allowed[slot / 8] >> slot % 8 & 1)))
            continue;
        if (scores[i] == scores[i]) /* a row of a damaged file may be no numbers at all */
            offer(best, scores[i], s->notes[slot]);
    }
}

bool memory_set_scan(struct memory_set *set, const float *query, const uint8_t *allowed,
                     size_t slots, const struct wait *w, struct memory_best *best,
                     struct error *err)
{
    size_t at = 0;

    for (;;) {
        size_t end, count;

        if (!wait_check(w, err))
            return false;
        pthread_rwlock_rdlock(&set->lock);
        end = allowed ? MIN(set->slots, slots) : set->slots;
        count = at < end ? MIN(end - at, (size_t)BLOCK_SLOTS) : 0;
        if (count > 0)
            scan_block(set, query, allowed, at, count, best);
        pthread_rwlock_unlock(&set->lock);
        if (count == 0)
            return true;
        at += count;
    }
}

bool memory_unit_vector(const float *from, size_t dims, float **ret, struct error *err)
{
    size_t stride = (dims + MEMORY_DOT_LANES - 1) / MEMORY_DOT_LANES * MEMORY_DOT_LANES;
    double norm = 0;
    float *unit;

    *ret = NULL;
    for (size_t i = 0; i < dims; i++)
        norm += (double)from[i] * (double)from[i];
    norm = sqrt(norm);
    if (!(norm > 1e-30) || !isfinite(norm))
        return true;
    unit = aligned_alloc(ALIGNMENT, stride * sizeof(float));
    if (!unit)
        return error_set(err, ERR_NOMEM, "a vector");
    memset(unit, 0, stride * sizeof(float));
    for (size_t i = 0; i < dims; i++)
        unit[i] = (float)((double)from[i] / norm);
    *ret = unit;
    return true;
}
