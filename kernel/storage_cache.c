#include "kernel/storage_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/id.h"
#include "kernel/base/list.h"

#define SLOTS         1024u /* of write counters: two keys may share one, which costs a miss */
#define FIRST_BUCKETS 64u
#define AT_ONCE_BYTES (64u << 10) /* larger values are kept when they are asked for again */

struct entry {
    struct list lru;
    struct entry *next; /* in its bucket */
    uint64_t hash;
    size_t cost;
    struct storage_value *value;
    char space[];
};

struct slot {
    unsigned writers;
    uint64_t sequence; /* of beginnings and ends of writes; never 0 */
    uint64_t missed;   /* hash of the key that was missed last */
};

struct storage_cache {
    uint64_t seed;    /* constant */
    size_t max_bytes; /* constant */

    pthread_mutex_t lock; /* guards all below */
    struct list lru;      /* the last used first */
    struct entry **buckets;
    size_t bucket_count, count, bytes;
    uint64_t hits, misses;
    struct slot slots[SLOTS];
};

void storage_value_unref(struct storage_value *v)
{
    if (v && atomic_fetch_sub(&v->refs, 1) == 1)
        free(v);
}

struct storage_cache *storage_cache_new(size_t max_bytes, struct error *err)
{
    struct storage_cache *c = calloc(1, sizeof *c);

    if (!c || !(c->buckets = calloc(FIRST_BUCKETS, sizeof(void *)))) {
        free(c);
        error_set(err, ERR_NOMEM, "cache of storage");
        return NULL;
    }
    c->max_bytes = max_bytes;
    c->bucket_count = FIRST_BUCKETS;
    for (size_t i = 0; i < SLOTS; i++)
        c->slots[i].sequence = 1;
    id_random(&c->seed, sizeof c->seed);
    list_init(&c->lru);
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

/* Agents choose keys, so the seed is secret. */
static uint64_t hash_of(const struct storage_cache *c, const char *space, const char *key)
{
    uint64_t h = c->seed;

    for (const char *s = space;; s = key) {
        for (const char *p = s; *p; p++) {
            h = (h ^ (unsigned char)*p) * 0x9e3779b97f4a7c15u;
            h ^= h >> 29;
        }
        h = (h ^ 0x100) * 0xbf58476d1ce4e5b9u;
        h ^= h >> 32;
        if (s == key)
            return h;
    }
}

static struct slot *slot_of(struct storage_cache *c, uint64_t hash)
{
    return &c->slots[(hash >> 40) % SLOTS];
}

static struct entry **find_locked(struct storage_cache *c, uint64_t hash, const char *space,
                                  const char *key)
{
    struct entry **at = &c->buckets[hash & (c->bucket_count - 1)];

    while (*at && ((*at)->hash != hash || strcmp((*at)->value->stat.key, key) != 0 ||
                   strcmp((*at)->space, space) != 0))
        at = &(*at)->next;
    return at;
}

static void remove_locked(struct storage_cache *c, struct entry **at)
{
    struct entry *e = *at;

    *at = e->next;
    list_remove(&e->lru);
    c->bytes -= e->cost;
    c->count--;
    storage_value_unref(e->value);
    free(e);
}

static void drop_locked(struct storage_cache *c, uint64_t hash, const char *space, const char *key)
{
    struct entry **at = find_locked(c, hash, space, key);

    if (*at)
        remove_locked(c, at);
}

void storage_cache_free(struct storage_cache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->bucket_count; i++)
        while (c->buckets[i])
            remove_locked(c, &c->buckets[i]);
    free(c->buckets);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

struct storage_value *storage_cache_get(struct storage_cache *c, const char *space, const char *key,
                                        uint64_t *ret_ticket)
{
    uint64_t hash = hash_of(c, space, key);
    struct slot *slot = slot_of(c, hash);
    struct storage_value *v = NULL;
    struct entry *e;

    pthread_mutex_lock(&c->lock);
    e = *find_locked(c, hash, space, key);
    if (e) {
        v = e->value;
        atomic_fetch_add(&v->refs, 1);
        list_remove(&e->lru);
        list_prepend(&c->lru, &e->lru);
        c->hits++;
    } else {
        c->misses++;
    }
    *ret_ticket = slot->writers ? 0 : slot->sequence;
    pthread_mutex_unlock(&c->lock);
    return v;
}

static struct entry *entry_new(const char *space, const struct storage_stat *stat, const void *data)
{
    size_t space_bytes = strlen(space) + 1;
    struct entry *e = malloc(sizeof *e + space_bytes);
    struct storage_value *v = malloc(sizeof *v + stat->bytes);

    if (!e || !v) {
        free(e);
        free(v);
        return NULL;
    }
    v->stat = *stat;
    v->len = stat->bytes;
    memcpy(v->data, data, v->len);
    atomic_init(&v->refs, 1);
    e->value = v;
    e->cost = sizeof *e + space_bytes + sizeof *v + v->len;
    memcpy(e->space, space, space_bytes);
    return e;
}

/* More buckets as there are more entries; when there is no memory the chains grow instead. */
static void grow_locked(struct storage_cache *c)
{
    size_t count = c->bucket_count * 2;
    struct entry **buckets = calloc(count, sizeof(void *));

    if (!buckets)
        return;
    for (size_t i = 0; i < c->bucket_count; i++) {
        while (c->buckets[i]) {
            struct entry *e = c->buckets[i];

            c->buckets[i] = e->next;
            e->next = buckets[e->hash & (count - 1)];
            buckets[e->hash & (count - 1)] = e;
        }
    }
    free(c->buckets);
    c->buckets = buckets;
    c->bucket_count = count;
}

static void insert_locked(struct storage_cache *c, struct entry *e)
{
    struct entry **bucket;

    if (c->count >= c->bucket_count)
        grow_locked(c);
    bucket = &c->buckets[e->hash & (c->bucket_count - 1)];
    e->next = *bucket;
    *bucket = e;
    list_prepend(&c->lru, &e->lru);
    c->count++;
    c->bytes += e->cost;
    while (c->bytes > c->max_bytes) {
        struct entry *last = LIST_ENTRY(c->lru.prev, struct entry, lru);
        struct entry **at = &c->buckets[last->hash & (c->bucket_count - 1)];

        while (*at != last)
            at = &(*at)->next;
        remove_locked(c, at);
    }
}

/* Whether it is worth its room.  One large value that is read once must not push out a thousand
 * small ones, nor cost a copy. */
static bool admit(struct storage_cache *c, uint64_t hash, uint64_t ticket, size_t len)
{
    struct slot *slot = slot_of(c, hash);
    bool yes;

    if (ticket == 0 || len > c->max_bytes / 4)
        return false;
    pthread_mutex_lock(&c->lock);
    yes = slot->sequence == ticket && (len <= AT_ONCE_BYTES || slot->missed == hash);
    slot->missed = hash;
    pthread_mutex_unlock(&c->lock);
    return yes;
}

void storage_cache_fill(struct storage_cache *c, const char *space, uint64_t ticket,
                        const struct storage_stat *stat, const void *data)
{
    uint64_t hash = hash_of(c, space, stat->key);
    struct entry *e;

    if (!admit(c, hash, ticket, stat->bytes))
        return;
    e = entry_new(space, stat, data);
    if (!e)
        return;
    e->hash = hash;
    pthread_mutex_lock(&c->lock);
    if (slot_of(c, hash)->sequence == ticket) {
        drop_locked(c, hash, space, stat->key); /* another reader's */
        insert_locked(c, e);
        e = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    if (e) {
        storage_value_unref(e->value);
        free(e);
    }
}

void storage_cache_write_begin(struct storage_cache *c, const char *space, const char *key)
{
    uint64_t hash = hash_of(c, space, key);

    pthread_mutex_lock(&c->lock);
    slot_of(c, hash)->writers++;
    slot_of(c, hash)->sequence++;
    drop_locked(c, hash, space, key);
    pthread_mutex_unlock(&c->lock);
}

void storage_cache_write_end(struct storage_cache *c, const char *space, const char *key)
{
    uint64_t hash = hash_of(c, space, key);

    pthread_mutex_lock(&c->lock);
    slot_of(c, hash)->writers--;
    slot_of(c, hash)->sequence++;
    pthread_mutex_unlock(&c->lock);
}

void storage_cache_drop(struct storage_cache *c, const char *space, const char *key)
{
    uint64_t hash = hash_of(c, space, key);

    pthread_mutex_lock(&c->lock);
    drop_locked(c, hash, space, key);
    pthread_mutex_unlock(&c->lock);
}

void storage_cache_figures(struct storage_cache *c, struct storage_stats *ret)
{
    pthread_mutex_lock(&c->lock);
    ret->cache_hits = c->hits;
    ret->cache_misses = c->misses;
    ret->cache_bytes = c->bytes;
    pthread_mutex_unlock(&c->lock);
}
