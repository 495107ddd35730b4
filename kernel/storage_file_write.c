/*
 * Writing to the file back end.  A value is written and synced beside, without a lock; then, under
 * the space's lock, everything is weighed (again) and the file gets its name.  A batch has a
 * journal between the two, so that all of its files get theirs or none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/storage_file.h"

/* ---- weighing ---- */

/* What one operation meets. */
struct seen {
    uint64_t newest;
    int64_t last_wall_ns;
    uint32_t old; /* versions that go */
};

static bool weigh_op(const struct file_space *s, const struct storage_op *op,
                     const struct storage_limits *limits, struct storage_tally *tally,
                     struct seen *seen, struct error *err)
{
    uint64_t old_bytes = 0, damaged;
    uint8_t hash[FILE_HASH_BYTES];
    bool live = false, found;
    size_t at = file_find(s, op->key, &found);

    *seen = (struct seen){ .newest = 0 };
    if (found) {
        const struct file_key *k = s->keys[at];
        const struct file_version *last = file_newest(k);

        *seen = (struct seen){ .newest = last->version, .last_wall_ns = last->wall_ns };
        live = !last->deleted;
    }
    if (s->damage_count > 0) {
        file_hash(op->key, hash);
        damaged = file_damaged(s, hash);
        seen->newest = MAX(seen->newest, damaged);
    }
    /* Numbers may have gaps where files were damaged. */
    while (found && seen->old < s->keys[at]->count &&
           s->keys[at]->versions[seen->old].version + limits->versions <= seen->newest + 1)
        old_bytes += s->keys[at]->versions[seen->old++].bytes;
    return storage_rule_condition(op, seen->newest, live, err) &&
           storage_rule_count(tally, op, live, seen->old, old_bytes, limits, err);
}

static bool weigh(const struct file_space *s, const struct storage_op *ops, size_t count,
                  const struct storage_limits *limits, struct storage_tally *tally,
                  struct seen *seen, size_t *ret_failed, struct error *err)
{
    *tally = s->tally;
    for (size_t i = 0; i < count; i++) {
        if (!weigh_op(s, &ops[i], limits, tally, &seen[i], err)) {
            if (ret_failed)
                *ret_failed = i;
            return false;
        }
    }
    return true;
}

/* ---- the files ---- */

static void remove_temps(int dirfd, const struct file_move *moves, size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)unlinkat(dirfd, moves[i].from, 0);
}

static bool write_temps(int dirfd, struct storage_op *ops, size_t count, struct file_move *moves,
                        struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!file_write_temp(dirfd, &ops[i], moves[i].from, err)) {
            remove_temps(dirfd, moves, i);
            return false;
        }
    }
    return true;
}

/* Gives each operation its number and its time, and each file its name. */
static bool name_files(struct file_space *s, struct storage_op *ops, size_t count,
                       const struct seen *seen, struct file_move *moves, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        bool found;

        if (!file_reserve(s, ops[i].key, err))
            return false;
        storage_rule_stamp(&ops[i], seen[i].newest + 1, seen[i].last_wall_ns);
        (void)file_name(moves[i].to, s->keys[file_find(s, ops[i].key, &found)]->hash,
                        ops[i].stat.version, ops[i].stat.wall_ns);
    }
    return true;
}

/* Takes the oldest versions out of the index; their files' names go to @names. */
static void drop_old(struct file_space *s, const char *key, uint32_t old, struct buf *names)
{
    bool found;
    struct file_key *k;

    if (old == 0)
        return;
    k = s->keys[file_find(s, key, &found)];
    for (uint32_t i = 0; i < old; i++) {
        char name[FILE_NAME_BYTES] = "";

        (void)file_name(name, k->hash, k->versions[i].version, k->versions[i].wall_ns);
        /* A name that is forgotten leaves a file, which is found at the next start. */
        (void)buf_append(names, name, sizeof name);
    }
    k->count -= old;
    memmove(k->versions, k->versions + old, k->count * sizeof *k->versions);
}

static void remove_old(int dirfd, const struct buf *names)
{
    for (size_t at = 0; at < names->len; at += FILE_NAME_BYTES)
        (void)unlinkat(dirfd, names->data + at, 0);
}

static void get_digest(const char *hex, uint8_t ret[32])
{
    for (size_t i = 0; i < 64 && hex[i]; i++) {
        char c = hex[i];

        ret[i / 2] = (uint8_t)(ret[i / 2] << 4 | (c <= '9' ? c - '0' : c - 'a' + 10));
    }
}

static void enter(struct file_space *s, const struct storage_op *ops, size_t count,
                  const struct seen *seen, struct buf *old_names)
{
    for (size_t i = 0; i < count; i++) {
        struct file_version v = { .version = ops[i].stat.version,
                                  .bytes = ops[i].stat.bytes,
                                  .wall_ns = ops[i].stat.wall_ns,
                                  .deleted = ops[i].stat.deleted };

        get_digest(ops[i].stat.sha256, v.sha256);
        file_add(s, ops[i].key, &v);
        drop_old(s, ops[i].key, seen[i].old, old_names);
    }
}

/* One file gets its name: that is atomic by itself. */
static bool move_one(int dirfd, const struct file_move *move, struct error *err)
{
    if (renameat(dirfd, move->from, dirfd, move->to) < 0) {
        error_set_errno(err, errno, "name a storage file: nothing was changed");
        (void)unlinkat(dirfd, move->from, 0);
        return false;
    }
    return true;
}

/* After the journal is written a failure leaves the rest to its replay, at the space's next use. */
static bool move_many(struct file_space *s, int dirfd, const struct file_move *moves, size_t count,
                      struct error *err)
{
    if (!file_journal_write(dirfd, moves, count, err)) {
        /* It may be there all the same: whether it is decides. */
        if (faccessat(dirfd, FILE_JOURNAL, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            file_forget_locked(s);
        else
            remove_temps(dirfd, moves, count);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (renameat(dirfd, moves[i].from, dirfd, moves[i].to) < 0) {
            error_set_errno(err, errno, "the batch is not complete yet, and will be");
            if (err)
                err->code = ERR_LOST;
            file_forget_locked(s);
            return false;
        }
    }
    if (!file_sync_dir(dirfd, err)) {
        file_forget_locked(s);
        return false;
    }
    (void)unlinkat(dirfd, FILE_JOURNAL, 0);
    return true;
}

/* ---- a write ---- */

struct work {
    struct file_backend *b;
    const char *space;
    struct storage_op *ops;
    size_t count;
    const struct storage_limits *limits;
    size_t *ret_failed;
    struct file_move *moves;
    struct seen *seen;
};

/* Before anything is written: a refusal costs no disk. */
static struct file_space *admit(struct work *w, struct error *err)
{
    struct file_space *s = file_lock(w->b, w->space, err);
    struct storage_tally tally;
    bool ok;

    if (!s)
        return NULL;
    ok = weigh(s, w->ops, w->count, w->limits, &tally, w->seen, w->ret_failed, err);
    file_unlock(s);
    return ok ? s : NULL;
}

/* The folder of the space, made and synced when it is new. */
static int ready_dir(struct work *w, struct file_space *s, struct error *err)
{
    bool none, made;
    int dirfd;

    pthread_mutex_lock(&s->lock);
    made = s->made;
    pthread_mutex_unlock(&s->lock);
    dirfd = file_open_dir(w->b, s, !made, &none, err);
    if (dirfd < 0) {
        if (none)
            error_set(err, ERR_IO, "the folder of the space %s is gone", w->space);
        return -1;
    }
    if (made)
        return dirfd;
    if (!file_sync_dir(w->b->dirfd, err)) {
        file_close_dir(s, dirfd);
        return -1;
    }
    pthread_mutex_lock(&s->lock);
    s->made = true;
    pthread_mutex_unlock(&s->lock);
    return dirfd;
}

static bool name_all(struct work *w, int dirfd, struct buf *old_names, struct error *err)
{
    struct file_space *s = file_lock(w->b, w->space, err);
    struct storage_tally tally;
    bool ok;

    if (!s || !weigh(s, w->ops, w->count, w->limits, &tally, w->seen, w->ret_failed, err) ||
        !name_files(s, w->ops, w->count, w->seen, w->moves, err)) {
        remove_temps(dirfd, w->moves, w->count);
        if (s)
            file_unlock(s);
        return false;
    }
    ok = w->count == 1 ? move_one(dirfd, w->moves, err)
                       : move_many(s, dirfd, w->moves, w->count, err);
    if (ok) {
        enter(s, w->ops, w->count, w->seen, old_names);
        s->tally = tally;
    }
    file_unlock(s);
    return ok;
}

static bool write_files(struct work *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf old_names = BUF_INIT;
    struct file_space *s = admit(w, err);
    int dirfd = s ? ready_dir(w, s, err) : -1;
    bool ok;

    if (dirfd < 0)
        return false;
    ok = write_temps(dirfd, w->ops, w->count, w->moves, err) &&
         name_all(w, dirfd, &old_names, err) && (w->count > 1 || file_sync_dir(dirfd, err));
    if (ok)
        remove_old(dirfd, &old_names);
    file_close_dir(s, dirfd);
    return ok;
}

bool storage_file_write(struct storage_backend *base, const char *space, struct storage_op *ops,
                        size_t count, const struct storage_limits *limits, const struct wait *w,
                        size_t *ret_failed, struct error *err)
{
    struct file_move one_move;
    struct seen one_seen;
    struct work work = { .b = CONTAINER_OF(base, struct file_backend, base),
                         .space = space,
                         .ops = ops,
                         .count = count,
                         .limits = limits,
                         .ret_failed = ret_failed,
                         .moves = &one_move,
                         .seen = &one_seen };
    bool ok;

    (void)w; /* the disk cannot be hurried */
    if (ret_failed)
        *ret_failed = count;
    if (count == 1)
        return write_files(&work, err);
    work.moves = calloc(count, sizeof *work.moves);
    work.seen = calloc(count, sizeof *work.seen);
    ok = work.moves && work.seen ? write_files(&work, err)
                                 : error_set(err, ERR_NOMEM, "a batch of %zu", count);
    free(work.moves);
    free(work.seen);
    return ok;
}
