#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/id.h"
#include "kernel/computer/guest_internal.h"

#define RESULT_MAX_BYTES 64u /* the longest result of a one-shot request */

/* A request with one answer.  Its channel outlives a caller that gave up: the reply ends it. */
struct call {
    struct chan chan;
    uint32_t status;
    uint8_t result[RESULT_MAX_BYTES];
    size_t result_len;
};

static const char *on_reply(struct chan *ch, uint32_t status, struct wire_in *in)
{
    struct call *call = CONTAINER_OF(ch, struct call, chan);
    size_t len = in->len - in->at;

    if (len > sizeof call->result)
        return "a result longer than any";
    call->status = status;
    memcpy(call->result, in->data + in->at, len);
    call->result_len = len;
    return NULL;
}

static void on_lost(struct chan *ch)
{
    (void)ch; /* the waiters are woken, which is enough */
}

static void release(struct chan *ch)
{
    free(CONTAINER_OF(ch, struct call, chan));
}

static const struct chan_type call_type = {
    .one_shot = true,
    .on_reply = on_reply,
    .on_lost = on_lost,
    .release = release,
};

static struct call *call_new(struct guest *g, struct error *err)
{
    struct call *call = calloc(1, sizeof *call);

    if (!call) {
        error_set(err, ERR_NOMEM, "a request to the guest");
        return NULL;
    }
    chan_init(&call->chan, g, &call_type, 0, 0);
    return call;
}

/* What a request is about, for its errors, and where its result goes. */
struct request {
    enum wire_type type;
    const char *verb;
    const char *path;       /* or NULL */
    struct wire_in *result; /* or NULL: none is expected, whatever comes is ignored */
    uint8_t *storage;       /* RESULT_MAX_BYTES for `result` */
    bool hold;              /* nothing follows it */
};

static bool call_locked(struct call *call, const struct request *rq, const struct wire_out *o,
                        struct waiter *wt, struct error *err)
{
    struct guest *g = call->chan.g;
    bool ok = true;

    if (!guest_wait_room_locked(g, wt, o->len + WIRE_HEADER_BYTES, err) ||
        !chan_open_locked(&call->chan, err))
        return false;
    guest_send_locked(g, &call->chan, rq->type, 0, o->data, o->len);
    if (rq->hold) {
        g->held = true;
        g->held_after = g->out.len;
    }
    while (!call->chan.replied && !g->lost && ok)
        ok = waiter_wait_locked(wt, &call->chan.waiters, WAKE_REPLY);
    if (call->chan.replied)
        return true;
    return g->lost ? guest_lost_error_locked(g, err) : waiter_error(wt, err);
}

static bool request(struct guest *g, const struct request *rq, const struct wire_out *o,
                    const struct wait *w, struct error *err)
{
    struct call *call = call_new(g, err);
    struct waiter wt;
    bool ok;

    if (!call)
        return false;
    waiter_begin(&wt, g, w);
    pthread_mutex_lock(&g->lock);
    ok = call_locked(call, rq, o, &wt, err);
    pthread_mutex_unlock(&g->lock);
    waiter_end(&wt);
    if (ok && call->status != 0)
        ok = call_error(err, call->status, rq->verb, rq->path);
    if (ok && rq->result) {
        memcpy(rq->storage, call->result, call->result_len);
        *rq->result = (struct wire_in){ .data = rq->storage, .len = call->result_len };
    }
    chan_unref(&call->chan);
    return ok;
}

bool call_error(struct error *err, uint32_t status, const char *verb, const char *path)
{
    int os_errno = status < 4096 ? (int)status : EIO; /* Linux has none above */

    if (path)
        return error_set_errno(err, os_errno, "cannot %s \"%s\"", verb, path);
    return error_set_errno(err, os_errno, "cannot %s", verb);
}

bool call_put_path(struct wire_out *o, const char *path, struct error *err)
{
    size_t len = strlen(path);

    if (len == 0)
        return error_set(err, ERR_INVALID, "a path is empty; send an absolute path");
    if (len > WIRE_PATH_MAX)
        return error_set(err, ERR_INVALID, "a path of %zu bytes is longer than %u", len,
                         WIRE_PATH_MAX);
    wire_put_str(o, path);
    return true;
}

/* ---- the requests ---- */

bool guest_ping(struct guest *g, const struct wait *w, struct error *err)
{
    uint8_t sent[8], storage[RESULT_MAX_BYTES];
    struct wire_out o = { .data = sent, .cap = sizeof sent, .len = sizeof sent };
    struct wire_in in = { .len = 0 };
    const struct request rq = {
        .type = WIRE_PING, .verb = "ping the guest", .result = &in, .storage = storage
    };

    id_random(sent, sizeof sent);
    if (!request(g, &rq, &o, w, err))
        return false;
    if (in.len != sizeof sent || memcmp(storage, sent, sizeof sent) != 0)
        return error_set(err, ERR_PROTOCOL, "the guest answered another ping");
    return true;
}

/* One with a root and a path, then what the caller puts. */
struct path_call {
    struct wire_out o;
    uint8_t payload[CALL_BYTES];
};

static bool path_call_begin(struct path_call *pc, const char *root, const char *path,
                            struct error *err)
{
    pc->o = (struct wire_out){ .data = pc->payload, .cap = sizeof pc->payload };
    return call_put_path(&pc->o, root, err) && call_put_path(&pc->o, path, err);
}

bool guest_stat(struct guest *g, const char *root, const char *path, bool follow,
                struct wire_stat *ret, const struct wait *w, struct error *err)
{
    struct path_call pc;
    uint8_t storage[RESULT_MAX_BYTES];
    struct wire_in in = { .len = 0 };
    struct wire_stat st;
    const struct request rq = {
        .type = WIRE_STAT, .verb = "look at", .path = path, .result = &in, .storage = storage
    };

    if (!path_call_begin(&pc, root, path, err))
        return false;
    wire_put_u8(&pc.o, follow);
    if (!request(g, &rq, &pc.o, w, err))
        return false;
    wire_get_stat(&in, &st);
    if (!wire_in_done(&in))
        return error_set(err, ERR_PROTOCOL, "the guest's answer about \"%s\" makes no sense", path);
    *ret = st;
    return true;
}

bool guest_make_dir(struct guest *g, const char *root, const char *path, uint32_t mode,
                    bool parents, const struct wait *w, struct error *err)
{
    struct path_call pc;
    const struct request rq = { .type = WIRE_MAKE, .verb = "make the folder", .path = path };

    if (!path_call_begin(&pc, root, path, err))
        return false;
    wire_put_u32(&pc.o, mode);
    wire_put_u8(&pc.o, parents);
    return request(g, &rq, &pc.o, w, err);
}

bool guest_move(struct guest *g, const char *root, const char *from, const char *to, bool replace,
                const struct wait *w, struct error *err)
{
    struct path_call pc;
    const struct request rq = { .type = WIRE_MOVE, .verb = "move", .path = from };

    if (!path_call_begin(&pc, root, from, err) || !call_put_path(&pc.o, to, err))
        return false;
    wire_put_u8(&pc.o, replace);
    return request(g, &rq, &pc.o, w, err);
}

bool guest_remove(struct guest *g, const char *root, const char *path, bool recursive,
                  const struct wait *w, struct error *err)
{
    struct path_call pc;
    const struct request rq = { .type = WIRE_REMOVE, .verb = "remove", .path = path };

    if (!path_call_begin(&pc, root, path, err))
        return false;
    wire_put_u8(&pc.o, recursive);
    return request(g, &rq, &pc.o, w, err);
}

static bool bare_request(struct guest *g, enum wire_type type, const char *verb,
                         const struct wait *w, struct error *err)
{
    const struct request rq = { .type = type, .verb = verb };
    const struct wire_out o = { .data = NULL };

    return request(g, &rq, &o, w, err);
}

bool guest_freeze(struct guest *g, const struct wait *w, struct error *err)
{
    return bare_request(g, WIRE_FREEZE, "freeze the computer's programs", w, err);
}

bool guest_thaw(struct guest *g, const struct wait *w, struct error *err)
{
    return bare_request(g, WIRE_THAW, "let the computer's programs go on", w, err);
}

bool guest_hold(struct guest *g, const struct wait *w, struct error *err)
{
    const struct request rq = { .type = WIRE_HOLD,
                                .verb = "have the guest be silent",
                                .hold = true };
    const struct wire_out o = { .data = NULL };

    if (request(g, &rq, &o, w, err))
        return true;
    guest_release(g);
    return false;
}

void guest_release(struct guest *g)
{
    pthread_mutex_lock(&g->lock);
    g->held = false;
    guest_flush_locked(g);
    if (g->out.len > 0)
        guest_kick_locked(g);
    pthread_mutex_unlock(&g->lock);
}

bool guest_reset(struct guest *g, const struct wait *w, struct error *err)
{
    return bare_request(g, WIRE_RESET, "take over the computer", w, err);
}

bool guest_sync(struct guest *g, const struct wait *w, struct error *err)
{
    return bare_request(g, WIRE_SYNC, "write the computer's files to disk", w, err);
}

bool guest_set_time(struct guest *g, int64_t wall_ns, const struct wait *w, struct error *err)
{
    uint8_t payload[8];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    const struct request rq = { .type = WIRE_SET_TIME, .verb = "set the computer's clock" };

    wire_put_u64(&o, (uint64_t)wall_ns);
    return request(g, &rq, &o, w, err);
}

bool guest_reseed(struct guest *g, const void *entropy, size_t len, const struct wait *w,
                  struct error *err)
{
    uint8_t payload[1024];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    const struct request rq = { .type = WIRE_RESEED, .verb = "reseed the computer" };

    wire_put_bytes(&o, entropy, len);
    if (o.failed)
        return error_set(err, ERR_INVALID, "%zu bytes of entropy are more than %zu", len,
                         sizeof payload);
    return request(g, &rq, &o, w, err);
}

bool guest_set_name(struct guest *g, const char *host_name, const char *machine_id,
                    const struct wait *w, struct error *err)
{
    uint8_t payload[512];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    const struct request rq = { .type = WIRE_SET_NAME, .verb = "name the computer" };

    wire_put_str(&o, host_name);
    wire_put_str(&o, machine_id);
    if (o.failed)
        return error_set(err, ERR_INVALID, "the computer's name is too long");
    return request(g, &rq, &o, w, err);
}

bool guest_limit(struct guest *g, uint32_t processes, const struct wait *w, struct error *err)
{
    uint8_t payload[4];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    const struct request rq = { .type = WIRE_LIMIT, .verb = "limit the computer's processes" };

    wire_put_u32(&o, processes);
    return request(g, &rq, &o, w, err);
}

bool guest_limit_disk(struct guest *g, uint64_t bytes, const struct wait *w, struct error *err)
{
    uint8_t payload[8];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    const struct request rq = { .type = WIRE_LIMIT_DISK, .verb = "limit the computer's disk" };

    wire_put_u64(&o, bytes);
    return request(g, &rq, &o, w, err);
}

void guest_shutdown(struct guest *g)
{
    struct call *call = call_new(g, NULL);

    if (!call)
        return; /* whoever owns the machine ends it in any case */
    pthread_mutex_lock(&g->lock);
    if (chan_open_locked(&call->chan, NULL))
        guest_send_locked(g, &call->chan, WIRE_SHUTDOWN, 0, NULL, 0);
    pthread_mutex_unlock(&g->lock);
    chan_unref(&call->chan);
}
