/* A write: weighed against the index, its values placed, its commit put. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/storage_s3_internal.h"

#define INLINE_BYTES (1u << 20)

/* What one operation makes of its key; checks come before the first byte goes out. */
static bool plan_op(const struct s3_space *space, struct storage_op *op, size_t number,
                    const struct storage_limits *limits, struct storage_tally *tally,
                    struct s3_change *ret, struct error *err)
{
    const struct s3_entry *e = s3_index_find(&space->index, op->key);
    const struct s3_version *all = e ? e->versions : NULL;
    const struct s3_version *last = all ? &all[e->count - 1] : NULL;
    uint64_t newest = last ? last->version : 0, gone = 0, gone_bytes = 0, keep_from = 0;
    bool live = last && !last->deleted;

    if (!storage_rule_condition(op, newest, live, err))
        return false;
    if (newest + 1 > limits->versions)
        keep_from = newest + 2 - limits->versions;
    for (; all && gone < e->count && all[gone].version < keep_from; gone++)
        gone_bytes += all[gone].bytes;
    if (!storage_rule_count(tally, op, live, gone, gone_bytes, limits, err))
        return false;
    storage_rule_stamp(op, newest + 1, last ? last->wall_ns : 0);
    *ret = (struct s3_change){
        .key = op->key,
        .keep_from = keep_from,
        .v = { .version = op->stat.version,
               .bytes = op->stat.bytes,
               .wall_ns = op->stat.wall_ns,
               .deleted = op->stat.deleted,
               .ref = { .seq = space->next_seq, .epoch = space->epoch, .part = (uint32_t)number } }
    };
    return op->stat.deleted || s3_digest_read(op->stat.sha256, ret->v.sha256) ||
           error_set(err, ERR_INTERNAL, "a value without its digest");
}

static bool plan(const struct s3_space *space, struct storage_op *ops, size_t count,
                 const struct storage_limits *limits, struct s3_change *changes, size_t *ret_failed,
                 struct error *err)
{
    struct storage_tally tally = { .bytes = space->index.bytes,
                                   .keys = space->index.live_keys,
                                   .versions = space->index.versions };

    for (size_t i = 0; i < count; i++) {
        if (!plan_op(space, &ops[i], i, limits, &tally, &changes[i], err)) {
            *ret_failed = i;
            return false;
        }
    }
    return true;
}

/* Small values ride behind the commit's header; the others go first, as objects of their own. */
static bool place_values(struct s3_backend *b, const struct s3_space *space,
                         const struct storage_op *ops, size_t count, struct s3_change *changes,
                         bool *ret_sent, const struct wait *w, struct error *err)
{
    uint64_t room = b->server.part_bytes / 2, offset = 0;
    char name[S3_NAME_BYTES];

    for (size_t i = 0; i < count; i++) {
        struct s3_version *v = &changes[i].v;

        if (v->bytes <= INLINE_BYTES && v->bytes <= room - offset) {
            v->ref.part = S3_IN_COMMIT;
            v->offset = offset;
            offset += v->bytes;
            continue;
        }
        s3_space_name(space, v->ref, name);
        *ret_sent = true;
        if (!s3_put(&b->server, name, ops[i].data, ops[i].len, NULL, false, w, NULL, err))
            return false;
    }
    return true;
}

static bool build_commit(const struct storage_op *ops, size_t count,
                         const struct s3_change *changes, struct buf *out, struct error *err)
{
    bool ok = s3_commit_head(changes, count, out);

    for (size_t i = 0; ok && i < count; i++) {
        if (changes[i].v.ref.part == S3_IN_COMMIT && ops[i].len > 0 && !changes[i].v.deleted)
            ok = buf_append(out, ops[i].data, ops[i].len);
    }
    return ok || error_set(err, ERR_NOMEM, "a commit");
}

static enum error_code unknown_code(enum error_code code)
{
    return code == ERR_TIMEOUT || code == ERR_CANCELLED ? code : ERR_LOST;
}

static bool put_commit(struct s3_backend *b, struct s3_space *space, const struct buf *text,
                       const struct wait *w, bool *ret_unknown, struct error *err)
{
    const struct s3_ref ref = { space->next_seq, space->epoch, S3_IN_COMMIT };
    enum s3_doubt doubt = S3_UNCHANGED;
    struct error fault = ERROR_INIT;
    char name[S3_NAME_BYTES];
    struct wait leased;

    *ret_unknown = false;
    if (!s3_space_hold(b, space, &leased, w, err))
        return false;
    s3_space_name(space, ref, name);
    if (s3_put(&b->server, name, text->data, text->len, NULL, false, &leased, &doubt, &fault))
        return true;
    if (doubt == S3_UNCHANGED)
        return error_set(err, fault.code, "%s", fault.text);
    *ret_unknown = true;
    return error_set(err, unknown_code(fault.code), "%s; it is not known whether this was written",
                     fault.text);
}

bool s3_write_entered(struct s3_backend *b, struct s3_space *space, struct storage_op *ops,
                      size_t count, const struct storage_limits *limits, const struct wait *w,
                      size_t *ret_failed, struct error *err)
{
    struct s3_change *changes = calloc(count, sizeof *changes);
    struct buf text = BUF_INIT;
    bool ok, unknown = false, sent = false;

    if (!changes)
        return error_set(err, ERR_NOMEM, "a commit");
    ok = plan(space, ops, count, limits, changes, ret_failed, err) &&
         place_values(b, space, ops, count, changes, &sent, w, err) &&
         build_commit(ops, count, changes, &text, err) &&
         put_commit(b, space, &text, w, &unknown, err);
    if (ok) {
        pthread_mutex_lock(&space->lock);
        /* What was committed is read again from the bucket when there is no memory for it here. */
        if (!s3_commit_replay(&space->index, space->next_seq, space->epoch, text.data, text.len,
                              NULL))
            space->loaded = false;
        space->next_seq++;
        pthread_mutex_unlock(&space->lock);
    } else if (unknown || sent) {
        /* The numbers of this try are used up, as it may still come in; what of it is in the
         * bucket is found when the space is read again. */
        s3_space_forget(space);
    }
    buf_fini(&text);
    free(changes);
    return ok;
}
