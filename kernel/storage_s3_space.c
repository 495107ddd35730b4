/* A space in a bucket: who holds it, what was committed, and what may be removed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/storage_s3_internal.h"

#define MARGIN_NS     (5 * CLOCK_NS_PER_S)
#define PEEK_BYTES    (64u << 10) /* the header of most commits */
#define SNAP_BYTES    (1ull << 30)
#define SNAP_COMMITS  64u
#define CLEAN_A_TIME  2u
#define COMMITS_DIR   "c/"
#define BLOBS_DIR     "b/"
#define SNAPSHOTS_DIR "s/"

void s3_space_plain_name(const struct s3_space *space, const char *what, char name[S3_NAME_BYTES])
{
    (void)snprintf(name, S3_NAME_BYTES, "%s%s", space->dir, what);
}

void s3_space_name(const struct s3_space *space, struct s3_ref ref, char name[S3_NAME_BYTES])
{
    if (ref.part == S3_IN_COMMIT || ref.part == S3_SNAPSHOT)
        (void)snprintf(name, S3_NAME_BYTES, "%s%s%016llx-%08x", space->dir,
                       ref.part == S3_SNAPSHOT ? SNAPSHOTS_DIR : COMMITS_DIR,
                       (unsigned long long)ref.seq, ref.epoch);
    else
        (void)snprintf(name, S3_NAME_BYTES, "%s%s%016llx-%08x-%04x", space->dir, BLOBS_DIR,
                       (unsigned long long)ref.seq, ref.epoch, ref.part);
}

/* ---- reading what is there ---- */

struct object {
    struct s3_ref ref; /* first: it is what they are ordered by */
    uint64_t size;
};

struct found {
    struct object *objects;
    size_t count, cap;
};

static bool read_hex(const char **at, size_t digits, uint64_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < digits; i++, (*at)++) {
        char c = **at;
        int nibble = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (nibble < 0)
            return false;
        *ret = *ret << 4 | (unsigned)nibble;
    }
    return true;
}

static bool found_add(struct found *f, struct object object, struct error *err)
{
    if (f->count == f->cap) {
        size_t more = f->cap ? f->cap * 2 : 16;
        struct object *bigger = reallocarray(f->objects, more, sizeof *bigger);

        if (!bigger)
            return error_set(err, ERR_NOMEM, "a list from S3");
        f->objects = bigger;
        f->cap = more;
    }
    f->objects[f->count++] = object;
    return true;
}

/* Names that are not ours are passed over: they may be somebody's notes. */
static bool on_found(void *arg, const char *name, uint64_t size, struct error *err)
{
    const char *at = strrchr(name, '/');
    uint64_t seq, epoch, part = S3_IN_COMMIT;

    if (!at++ || !read_hex(&at, 16, &seq) || *at++ != '-' || !read_hex(&at, 8, &epoch))
        return true;
    if (*at == '-') {
        at++;
        if (!read_hex(&at, 4, &part))
            return true;
    }
    if (*at)
        return true;
    return found_add(arg, (struct object){ { seq, (uint32_t)epoch, (uint32_t)part }, size }, err);
}

static int by_number(const void *a, const void *b)
{
    const struct s3_ref *x = a, *y = b;

    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return x->epoch < y->epoch ? -1 : x->epoch > y->epoch;
}

static bool load_snapshot(struct s3_backend *b, struct s3_space *space, const struct wait *w,
                          struct error *err)
{
    char name[S3_NAME_BYTES];
    struct buf text = BUF_INIT;
    bool ok;

    if (space->snap_seq == 0)
        return true;
    s3_space_name(space, (struct s3_ref){ space->snap_seq, space->snap_epoch, S3_SNAPSHOT }, name);
    ok = s3_get(&b->server, name, 0, SNAP_BYTES, &text, NULL, w, err) &&
         s3_index_read(&space->index, buf_str(&text), text.len, err);
    space->snap_bytes = text.len;
    buf_fini(&text);
    return ok || error_prefix(err, "space %s", space->name);
}

enum loaded { LOADED, TORN, NOT_LOADED };

/* TORN: shorter than it says it is, as when a server keeps what came of a put that broke off. */
static enum loaded load_commit(struct s3_backend *b, struct s3_space *space,
                               const struct object *object, const struct wait *w, struct error *err)
{
    char name[S3_NAME_BYTES];
    struct buf text = BUF_INIT;
    uint64_t whole = 0;
    size_t head = 0;
    bool ok;

    if (object->size < S3_COMMIT_HEAD)
        return TORN;
    s3_space_name(space, object->ref, name);
    ok = s3_get(&b->server, name, 0, (size_t)MIN(object->size, (uint64_t)PEEK_BYTES), &text, NULL,
                w, err) &&
         s3_commit_length(buf_str(&text), text.len, &head, &whole, err);
    if (ok && object->size < whole) {
        buf_fini(&text);
        return TORN;
    }
    if (ok && head > text.len)
        ok = s3_get(&b->server, name, text.len, head - text.len, &text, NULL, w, err);
    ok = ok && s3_commit_replay(&space->index, object->ref.seq, object->ref.epoch, buf_str(&text),
                                text.len, err);
    buf_fini(&text);
    if (ok)
        return LOADED;
    error_prefix(err, "space %s", space->name);
    return NOT_LOADED;
}

static bool missing(const struct s3_backend *b, const struct s3_space *space, struct error *err)
{
    return error_set(err, ERR_IO, "commit %llu of the space %s is missing in the bucket %s",
                     (unsigned long long)space->next_seq, space->name, b->server.bucket);
}

/* Commits in the order of their numbers.  Of two with one number the later epoch holds, and after
 * an epoch has begun no earlier one adds anything: such a commit came late, when it was told that
 * nobody knew what became of it.  The last one may be torn: then it was never answered. */
static bool load_commits(struct s3_backend *b, struct s3_space *space, const struct found *commits,
                         const struct wait *w, struct error *err)
{
    uint32_t epoch = space->snap_epoch;
    bool torn = false;

    for (size_t i = 0; i < commits->count; i++) {
        const struct object *o = &commits->objects[i];
        bool superseded =
            o->ref.epoch < epoch || (i + 1 < commits->count && o[1].ref.seq == o->ref.seq);
        enum loaded result = TORN;

        if (!superseded) {
            if (torn || o->ref.seq != space->next_seq)
                return missing(b, space, err);
            result = load_commit(b, space, o, w, err);
            if (result == NOT_LOADED)
                return false;
            torn = result == TORN;
        }
        if (result == TORN && !s3_index_waste(&space->index, o->ref))
            return error_set(err, ERR_NOMEM, "the index of a space");
        if (result == LOADED) {
            epoch = o->ref.epoch;
            space->next_seq++;
        }
    }
    return true;
}

static int by_part(const void *a, const void *b)
{
    const struct s3_ref *x = a, *y = b;
    int order = by_number(a, b);

    return order ? order : x->part < y->part ? -1 : x->part > y->part;
}

static void mark(const struct found *blobs, const struct s3_ref *ref, bool *used)
{
    const struct object wanted = { .ref = *ref }, *found = NULL;

    if (ref->part != S3_IN_COMMIT && blobs->count > 0)
        found = bsearch(&wanted, blobs->objects, blobs->count, sizeof wanted, by_part);
    if (found)
        used[found - blobs->objects] = true;
}

/* Large values that went up before a commit that never came. */
static bool waste_orphans(struct s3_space *space, const struct found *blobs, struct error *err)
{
    struct s3_index *x = &space->index;
    bool *used, ok = true;

    if (blobs->count == 0)
        return true;
    used = calloc(blobs->count, sizeof *used);
    if (!used)
        return error_set(err, ERR_NOMEM, "the index of a space");
    qsort(blobs->objects, blobs->count, sizeof *blobs->objects, by_part);
    for (size_t e = 0; e < x->count; e++) {
        for (size_t v = 0; v < x->entries[e]->count; v++)
            mark(blobs, &x->entries[e]->versions[v].ref, used);
    }
    for (size_t g = 0; g < x->garbage_count; g++)
        mark(blobs, &x->garbage[g], used);
    for (size_t i = 0; ok && i < blobs->count; i++)
        ok = used[i] || s3_index_waste(x, blobs->objects[i].ref);
    free(used);
    return ok || error_set(err, ERR_NOMEM, "the index of a space");
}

/* An empty commit: one of an earlier epoch that still comes in finds its number taken. */
static bool put_fence(struct s3_backend *b, struct s3_space *space, const struct wait *w,
                      struct error *err)
{
    char name[S3_NAME_BYTES];
    struct buf head = BUF_INIT;
    bool ok;

    s3_space_name(space, (struct s3_ref){ space->next_seq, space->epoch, S3_IN_COMMIT }, name);
    ok = (s3_commit_head(NULL, 0, &head) || error_set(err, ERR_NOMEM, "a commit")) &&
         s3_put(&b->server, name, head.data, head.len, NULL, false, w, NULL, err) &&
         (s3_index_commit(&space->index, space->next_seq, space->epoch) ||
          error_set(err, ERR_NOMEM, "the index of a space"));
    if (ok)
        space->next_seq++;
    buf_fini(&head);
    return ok;
}

static bool load(struct s3_backend *b, struct s3_space *space, const struct wait *w,
                 struct error *err)
{
    struct found commits = { .count = 0 }, blobs = { .count = 0 };
    char dir[S3_NAME_BYTES], after[S3_NAME_BYTES];
    bool ok;

    s3_index_fini(&space->index);
    if (!s3_lease_take(b, space, w, err))
        return false;
    space->next_seq = space->snap_seq + 1;
    s3_space_name(space, (struct s3_ref){ space->snap_seq, UINT32_MAX, S3_IN_COMMIT }, after);
    s3_space_plain_name(space, COMMITS_DIR, dir);
    ok = load_snapshot(b, space, w, err) &&
         s3_list(&b->server, dir, after, on_found, &commits, w, err);
    if (ok && commits.count > 1)
        qsort(commits.objects, commits.count, sizeof *commits.objects, by_number);
    ok = ok && load_commits(b, space, &commits, w, err);
    s3_space_plain_name(space, BLOBS_DIR, dir);
    ok = ok && s3_list(&b->server, dir, NULL, on_found, &blobs, w, err) &&
         waste_orphans(space, &blobs, err) && put_fence(b, space, w, err);
    free(commits.objects);
    free(blobs.objects);
    pthread_mutex_lock(&space->lock);
    space->loaded = ok;
    pthread_mutex_unlock(&space->lock);
    return ok;
}

/* ---- taking turns ---- */

static void wake(void *arg)
{
    struct s3_space *space = arg;

    pthread_mutex_lock(&space->lock);
    pthread_cond_broadcast(&space->idle);
    pthread_mutex_unlock(&space->lock);
}

static bool take_turn(struct s3_space *space, const struct wait *w, struct error *err)
{
    struct cancel_hook hook;
    bool ok = true;

    cancel_attach(w->cancel, &hook, wake, space);
    pthread_mutex_lock(&space->lock);
    while (ok && space->busy)
        ok = wait_cond(w, &space->idle, &space->lock) || !space->busy;
    if (ok)
        space->busy = true;
    pthread_mutex_unlock(&space->lock);
    cancel_detach(w->cancel, &hook);
    if (ok && wait_check(w, err))
        return true;
    if (ok)
        s3_space_leave(space);
    else if (wait_check(w, err))
        error_set(err, ERR_TIMEOUT, "the deadline passed");
    return false;
}

void s3_space_leave(struct s3_space *space)
{
    pthread_mutex_lock(&space->lock);
    space->busy = false;
    pthread_cond_broadcast(&space->idle);
    pthread_mutex_unlock(&space->lock);
}

void s3_space_forget(struct s3_space *space)
{
    pthread_mutex_lock(&space->lock);
    space->loaded = false;
    pthread_mutex_unlock(&space->lock);
}

bool s3_space_enter(struct s3_backend *b, struct s3_space *space, const struct wait *w,
                    struct error *err)
{
    bool ok = true, lost = false;

    if (!take_turn(space, w, err))
        return false;
    if (space->loaded && !s3_lease_is_fresh(space)) {
        ok = s3_lease_renew(b, space, &lost, w, err);
        if (lost)
            s3_space_forget(space);
    }
    if ((ok || lost) && !space->loaded)
        ok = load(b, space, w, err);
    if (!ok)
        s3_space_leave(space);
    return ok;
}

bool s3_space_hold(struct s3_backend *b, struct s3_space *space, struct wait *ret_wait,
                   const struct wait *w, struct error *err)
{
    bool lost = false;

    if (!s3_lease_is_fresh(space) && !s3_lease_renew(b, space, &lost, w, err)) {
        if (!lost)
            return false;
        s3_space_forget(space);
        return error_set(err, ERR_BUSY,
                         "another kernel took the space %s while this value was on its way: "
                         "nothing was changed",
                         space->name);
    }
    *ret_wait = *w;
    ret_wait->deadline_ns =
        MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), S3_LEASE_NS - S3_RENEW_NS - MARGIN_NS));
    return true;
}

bool s3_space_view(struct s3_backend *b, struct s3_space *space, const struct wait *w,
                   struct error *err)
{
    for (;;) {
        pthread_mutex_lock(&space->lock);
        if (s3_lease_is_fresh(space))
            return true;
        pthread_mutex_unlock(&space->lock);
        if (!s3_space_enter(b, space, w, err))
            return false;
        s3_space_leave(space);
    }
}

/* ---- tidying up ---- */

/* The whole index as one object, and the root that names it; the one before becomes garbage. */
static bool snapshot(struct s3_backend *b, struct s3_space *space, const struct wait *w)
{
    struct s3_ref old = { space->snap_seq, space->snap_epoch, S3_SNAPSHOT };
    struct s3_ref new = { space->next_seq - 1, space->epoch, S3_SNAPSHOT };
    char name[S3_NAME_BYTES];
    struct buf text = BUF_INIT;
    bool ok;

    pthread_mutex_lock(&space->lock);
    ok = s3_index_sweep(&space->index, new.seq) && s3_index_write(&space->index, &text);
    pthread_mutex_unlock(&space->lock);
    s3_space_name(space, new, name);
    ok = ok &&
         s3_put(&b->server, name, text.data ? text.data : "", text.len, NULL, false, w, NULL, NULL);
    if (ok) {
        space->snap_bytes = text.len;
        space->snap_seq = new.seq;
        space->snap_epoch = new.epoch;
        ok = s3_lease_rewrite(b, space, b->owner, w);
    }
    buf_fini(&text);
    if (!ok) {
        /* Which index the root names is not known: the next use finds out. */
        s3_space_forget(space);
        return false;
    }
    pthread_mutex_lock(&space->lock);
    if (old.seq > 0 && !s3_index_waste(&space->index, old))
        space->loaded = false;
    pthread_mutex_unlock(&space->lock);
    return true;
}

void s3_space_tidy(struct s3_backend *b, struct s3_space *space, const struct wait *w)
{
    uint64_t since = space->next_seq - 1 - space->snap_seq;

    /* A large index is written less often: what a commit pays for it stays about the same. */
    if (since >= MAX(SNAP_COMMITS, space->snap_bytes / 16384) && !snapshot(b, space, w))
        return;
    for (unsigned i = 0; i < CLEAN_A_TIME && space->index.garbage_count > 0; i++) {
        struct s3_ref ref = space->index.garbage[space->index.garbage_count - 1];
        char name[S3_NAME_BYTES];

        s3_space_name(space, ref, name);
        if (!s3_delete(&b->server, name, w, NULL))
            return;
        pthread_mutex_lock(&space->lock);
        space->index.garbage_count--;
        pthread_mutex_unlock(&space->lock);
    }
}

void s3_space_release(struct s3_backend *b, struct s3_space *space, const struct wait *w)
{
    if (space->loaded)
        UNCHECKED(s3_lease_rewrite(b, space, "", w));
}

void s3_space_free(struct s3_space *space)
{
    if (!space)
        return;
    s3_index_fini(&space->index);
    pthread_cond_destroy(&space->idle);
    pthread_mutex_destroy(&space->lock);
    free(space->dir);
    free(space);
}
