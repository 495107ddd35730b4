#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "kernel/computer/guest_internal.h"

#define MAIN             ((uint8_t)(1u << WIRE_STREAM_MAIN))
#define ONE_FLIGHT_BYTES (32u << 10)       /* a file this small is sent in one go */
#define WAKE_BYTES       (WIRE_WINDOW / 2) /* a reader is woken for that much, or for the end */
#define ENTRY_MAX_BYTES  (2 * (4 + WIRE_PATH_MAX) + 28)

/* A file on its way, or a listing. */
struct transfer {
    struct chan chan; /* its waiters wait for bytes, the end, credit, the reply */

    /* lock */
    struct ring ring; /* what has come and is not taken yet: at most the window */
    uint64_t most;    /* bytes that may come at all */
    uint64_t came;
    uint32_t status;
    struct wire_stat stat;
    uint64_t written;
    bool no_memory;
    bool cut; /* closed before its end */
};

static struct transfer *transfer_of(struct chan *ch)
{
    return CONTAINER_OF(ch, struct transfer, chan);
}

/* ---- what the guest says ---- */

static const char *on_read_reply(struct chan *ch, uint32_t status, struct wire_in *in)
{
    struct transfer *t = transfer_of(ch);

    t->status = status;
    if (status != 0)
        return NULL;
    wire_get_stat(in, &t->stat);
    return wire_in_done(in) ? NULL : "a malformed reply to READ";
}

static const char *on_list_reply(struct chan *ch, uint32_t status, struct wire_in *in)
{
    transfer_of(ch)->status = status;
    return status != 0 || wire_in_done(in) ? NULL : "a malformed reply to LIST";
}

static const char *on_write_reply(struct chan *ch, uint32_t status, struct wire_in *in)
{
    struct transfer *t = transfer_of(ch);

    t->status = status;
    if (status != 0)
        return NULL;
    t->written = wire_get_u64(in);
    return wire_in_done(in) ? NULL : "a malformed reply to WRITE";
}

static const char *on_data(struct chan *ch, unsigned stream, const uint8_t *data, size_t len)
{
    struct transfer *t = transfer_of(ch);

    t->came += len;
    if (t->came > t->most)
        return "more of a file than was asked for";
    if (t->no_memory)
        return NULL;
    if (!ring_reserve(&t->ring, len)) {
        t->no_memory = true;
        waiters_wake_locked(&ch->waiters, MAIN);
        return NULL;
    }
    ring_write(&t->ring, data, len);
    if (t->ring.len >= WAKE_BYTES)
        waiters_wake_locked(&ch->waiters, 1u << stream);
    return NULL;
}

static void on_eof(struct chan *ch, unsigned stream)
{
    (void)ch; /* chan.in_eof has it */
    (void)stream;
}

static const char *on_close(struct chan *ch)
{
    transfer_of(ch)->cut = !(ch->in_eof & MAIN);
    return NULL;
}

static void on_lost(struct chan *ch)
{
    (void)ch;
}

static void release(struct chan *ch)
{
    struct transfer *t = transfer_of(ch);

    ring_fini(&t->ring);
    free(t);
}

static const struct chan_type read_type = {
    .close_on_eof = true,
    .on_reply = on_read_reply,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_close = on_close,
    .on_lost = on_lost,
    .release = release,
};

static const struct chan_type list_type = {
    .close_on_eof = true,
    .on_reply = on_list_reply,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_close = on_close,
    .on_lost = on_lost,
    .release = release,
};

static const struct chan_type write_type = {
    .close_on_reply = true,
    .on_reply = on_write_reply,
    .on_lost = on_lost,
    .release = release,
};

static struct transfer *transfer_new(struct guest *g, const struct chan_type *type,
                                     struct error *err)
{
    struct transfer *t = calloc(1, sizeof *t);
    uint8_t in = type == &write_type ? 0 : MAIN, out = type == &write_type ? MAIN : 0;

    if (!t) {
        error_set(err, ERR_NOMEM, "a file transfer");
        return NULL;
    }
    chan_init(&t->chan, g, type, in, out);
    ring_init(&t->ring, WIRE_WINDOW);
    t->most = UINT64_MAX;
    return t;
}

/* ---- reading ---- */

static bool begin(struct transfer *t, enum wire_type type, const struct wire_out *o,
                  struct waiter *wt, struct error *err)
{
    struct guest *g = t->chan.g;
    bool ok;

    pthread_mutex_lock(&g->lock);
    ok = guest_wait_room_locked(g, wt, o->len + WIRE_HEADER_BYTES, err) &&
         chan_open_locked(&t->chan, err);
    if (ok)
        guest_send_locked(g, &t->chan, type, 0, o->data, o->len);
    pthread_mutex_unlock(&g->lock);
    return ok;
}

/* Whatever became of it, the guest is to stop. */
static void end(struct transfer *t, struct waiter *wt)
{
    struct guest *g = t->chan.g;

    pthread_mutex_lock(&g->lock);
    if (t->chan.listed)
        chan_close_locked(&t->chan);
    pthread_mutex_unlock(&g->lock);
    waiter_end(wt);
    chan_unref(&t->chan);
}

static bool pull_locked(struct transfer *t, struct buf *out, struct waiter *wt, bool *ret_end,
                        struct error *err)
{
    struct chan *ch = &t->chan;
    bool time_left = true;

    for (;;) {
        bool at_end = (ch->in_eof & MAIN) != 0;

        if (t->status != 0)
            return true; /* the caller knows the words for it */
        if (t->no_memory)
            return error_set(err, ERR_NOMEM, "a file transfer");
        if (t->cut)
            return error_set(err, ERR_IO, "the guest met an error before its end");
        if (at_end || t->ring.len >= WAKE_BYTES) {
            uint64_t offset = ring_start(&t->ring);
            size_t len = t->ring.len;

            if (ring_read(&t->ring, &offset, len, out) < 0)
                return error_set(err, out->max && out->max < out->len + len ? ERR_LIMIT : ERR_NOMEM,
                                 "there is no room for what was read");
            ring_consume(&t->ring, len);
            chan_consumed_locked(ch, WIRE_STREAM_MAIN, len);
            *ret_end = at_end;
            return true;
        }
        if (ch->g->lost)
            return guest_lost_error_locked(ch->g, err);
        if (!time_left)
            return waiter_error(wt, err);
        time_left = waiter_wait_locked(wt, &ch->waiters, MAIN);
    }
}

/* More bytes at the end of @out; *ret_end when there will be no others. */
static bool pull(struct transfer *t, struct buf *out, struct waiter *wt, bool *ret_end,
                 struct error *err)
{
    struct guest *g = t->chan.g;
    bool ok;

    pthread_mutex_lock(&g->lock);
    ok = pull_locked(t, out, wt, ret_end, err);
    pthread_mutex_unlock(&g->lock);
    return ok;
}

static bool read_all(struct transfer *t, const char *path, uint64_t offset, uint64_t max,
                     struct buf *out, struct waiter *wt, struct error *err)
{
    bool at_end = false;

    while (!at_end) {
        if (!pull(t, out, wt, &at_end, err))
            return error_prefix(err, "read \"%s\"", path);
        if (t->status != 0)
            return call_error(err, t->status, "read", path);
        if (max > LIMIT_FILE_TRANSFER && t->stat.size > offset &&
            t->stat.size - offset > LIMIT_FILE_TRANSFER)
            return error_set(
                err, ERR_LIMIT,
                "\"%s\" has %llu bytes; at most %u are read at once, so ask for a part", path,
                (unsigned long long)t->stat.size, LIMIT_FILE_TRANSFER);
    }
    return true;
}

bool guest_read_file(struct guest *g, const char *root, const char *path, uint64_t offset,
                     uint64_t max, struct buf *out, struct wire_stat *ret_stat,
                     const struct wait *w, struct error *err)
{
    uint8_t payload[CALL_BYTES];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    struct transfer *t;
    struct waiter wt;
    size_t before = out->len;
    bool ok;

    if (!call_put_path(&o, root, err) || !call_put_path(&o, path, err))
        return false;
    t = transfer_new(g, &read_type, err);
    if (!t)
        return false;
    t->most = MIN(max, LIMIT_FILE_TRANSFER);
    wire_put_u64(&o, offset);
    wire_put_u64(&o, t->most);
    waiter_begin(&wt, g, w);
    ok = begin(t, WIRE_READ, &o, &wt, err) && read_all(t, path, offset, max, out, &wt, err);
    if (ok && ret_stat)
        *ret_stat = t->stat;
    if (!ok && out->len > before) {
        out->len = before;
        out->data[before] = '\0';
    }
    end(t, &wt);
    return ok;
}

/* ---- listing ---- */

struct listing {
    struct buf in; /* what has come of entries */
    struct buf path, target;
    uint32_t most, count;
    bool truncated;
    guest_entry_fn *fn;
    void *arg;
};

/* Text for people of bytes from the guest; a NUL in it was refused before. */
static const char *clean(struct buf *to, const char *text, size_t len)
{
    buf_clear(to);
    return utf8_append_valid(to, text, len) < 0 ? NULL : buf_str(to);
}

/* Hand on the entries that are whole, and keep the rest. */
static bool take_entries(struct listing *ls, struct error *err)
{
    struct wire_in in = { .data = (const uint8_t *)ls->in.data, .len = ls->in.len };
    size_t taken = 0;

    while (in.at < in.len) {
        struct guest_entry entry;
        size_t path_len, target_len;
        const char *path = wire_get_str(&in, WIRE_PATH_MAX, &path_len);
        const char *target = wire_get_str(&in, WIRE_PATH_MAX, &target_len);

        wire_get_stat(&in, &entry.stat);
        if (in.failed && in.len - taken < ENTRY_MAX_BYTES)
            break; /* not whole yet, or it will be found out later */
        if (in.failed || path_len == 0)
            return error_set(err, ERR_PROTOCOL, "the guest sent a malformed entry");
        taken = in.at;
        if (ls->count == ls->most) {
            ls->truncated = true;
            continue;
        }
        entry.path = clean(&ls->path, path, path_len);
        entry.target = clean(&ls->target, target, target_len);
        if (!entry.path || !entry.target)
            return error_set(err, ERR_NOMEM, "a listing");
        ls->count++;
        ls->fn(ls->arg, &entry);
    }
    buf_consume(&ls->in, taken);
    return true;
}

static bool list_all(struct transfer *t, const char *path, struct listing *ls, struct waiter *wt,
                     struct error *err)
{
    bool at_end = false;

    while (!at_end && !ls->truncated) {
        if (!pull(t, &ls->in, wt, &at_end, err) || (t->status == 0 && !take_entries(ls, err)))
            return error_prefix(err, "list \"%s\"", path);
        if (t->status != 0)
            return call_error(err, t->status, "list", path);
    }
    if (at_end && ls->in.len > 0)
        return error_set(err, ERR_PROTOCOL, "list \"%s\": the guest sent a malformed entry", path);
    return true;
}

bool guest_list(struct guest *g, const char *root, const char *path, uint32_t depth, uint32_t most,
                bool hidden, guest_entry_fn *fn, void *arg, bool *ret_truncated,
                const struct wait *w, struct error *err)
{
    uint8_t payload[CALL_BYTES];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    struct listing ls = { .most = MIN(most, LIMIT_LIST_ENTRIES), .fn = fn, .arg = arg };
    struct transfer *t;
    struct waiter wt;
    bool ok;

    if (!call_put_path(&o, root, err) || !call_put_path(&o, path, err))
        return false;
    t = transfer_new(g, &list_type, err);
    if (!t)
        return false;
    wire_put_u32(&o, depth);
    wire_put_u32(&o, ls.most + 1); /* one more tells that there are more */
    wire_put_u8(&o, hidden);
    waiter_begin(&wt, g, w);
    ok = begin(t, WIRE_LIST, &o, &wt, err) && list_all(t, path, &ls, &wt, err);
    if (ok && ret_truncated)
        *ret_truncated = ls.truncated;
    end(t, &wt);
    buf_fini(&ls.in);
    buf_fini(&ls.path);
    buf_fini(&ls.target);
    return ok;
}

/* ---- writing ---- */

static bool write_locked(struct transfer *t, const struct wire_out *o, const uint8_t *data,
                         size_t len, struct waiter *wt, struct error *err)
{
    struct chan *ch = &t->chan;
    struct guest *g = ch->g;
    size_t first = len <= ONE_FLIGHT_BYTES ? len : 0, done = 0;
    size_t need = o->len + first + 3 * WIRE_HEADER_BYTES;
    bool time_left = true;

    if (!guest_wait_room_locked(g, wt, need, err))
        return false;
    if (!ring_reserve(&g->out, need)) /* for the cork */
        return error_set(err, ERR_NOMEM, "a file to write");
    if (!chan_open_locked(ch, err))
        return false;
    guest_cork_locked(g);
    guest_send_locked(g, ch, WIRE_WRITE, 0, o->data, o->len);
    done += chan_send_data_locked(ch, WIRE_STREAM_MAIN, data, first);
    if (done == len)
        chan_send_eof_locked(ch, WIRE_STREAM_MAIN);
    guest_uncork_locked(g);

    while (!ch->replied && !g->lost && time_left) {
        done += chan_send_data_locked(ch, WIRE_STREAM_MAIN, data + done, len - done);
        if (done == len)
            chan_send_eof_locked(ch, WIRE_STREAM_MAIN);
        if (done < len && ch->out_credit[WIRE_STREAM_MAIN] > 0 && !guest_data_room_locked(g))
            time_left = waiter_wait_locked(wt, &g->waiters, WAKE_ROOM);
        else
            time_left =
                waiter_wait_locked(wt, &ch->waiters, WAKE_REPLY | WAKE_CREDIT(WIRE_STREAM_MAIN));
    }
    if (ch->replied)
        return true;
    return g->lost ? guest_lost_error_locked(g, err) : waiter_error(wt, err);
}

bool guest_write_file(struct guest *g, const char *root, const char *path, const void *data,
                      size_t len, uint32_t mode, uint32_t flags, const struct wait *w,
                      struct error *err)
{
    uint8_t payload[CALL_BYTES];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    struct transfer *t;
    struct waiter wt;
    bool ok;

    if (len > LIMIT_FILE_TRANSFER)
        return error_set(err, ERR_LIMIT, "%zu bytes for \"%s\" are more than %u at once", len, path,
                         LIMIT_FILE_TRANSFER);
    if (!call_put_path(&o, root, err) || !call_put_path(&o, path, err))
        return false;
    t = transfer_new(g, &write_type, err);
    if (!t)
        return false;
    wire_put_u32(&o, mode);
    wire_put_u32(&o, flags);
    waiter_begin(&wt, g, w);
    pthread_mutex_lock(&g->lock);
    ok = write_locked(t, &o, len ? data : payload, len, &wt, err);
    pthread_mutex_unlock(&g->lock);
    if (ok && t->status != 0)
        ok = call_error(err, t->status, "write", path);
    else if (ok && t->written != len)
        ok = error_set(err, ERR_IO, "only %llu of %zu bytes of \"%s\" were written",
                       (unsigned long long)t->written, len, path);
    end(t, &wt);
    return ok;
}
