#include "kernel/computer/guest.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/base/fd.h"
#include "kernel/base/limits.h"
#include "kernel/computer/guest_internal.h"

#define READS_PER_TURN    4  /* then the others have their turn */
#define READS_OF_A_BROKEN 64 /* what is still read from a stream that takes nothing more */

/* Requests may fill LIMIT_GUEST_QUEUED; what is above is for control frames and one large spawn. */
#define OUT_MAX_BYTES (LIMIT_GUEST_QUEUED + WIRE_SPAWN_MAX + (256u << 10))

void guest_call_begin(struct guest *g)
{
    loop_assert_owner(g->loop);
    pthread_mutex_lock(&g->call_lock);
}

void guest_call_end(struct guest *g)
{
    pthread_mutex_unlock(&g->call_lock);
}

/* On the loop itself no other call can be going on, and the one that is may be who asks. */
void guest_calls_stop(struct guest *g)
{
    if (!loop_is_owner(g->loop))
        pthread_mutex_lock(&g->call_lock);
}

void guest_calls_resume(struct guest *g)
{
    if (!loop_is_owner(g->loop))
        pthread_mutex_unlock(&g->call_lock);
}

/* ---- the end of the connection ---- */

void guest_lose_locked(struct guest *g, const char *why)
{
    if (g->lost)
        return;
    g->lost = true;
    (void)snprintf(g->why, sizeof g->why, "%s", why);
    ring_fini(&g->out);
    for (size_t i = 0; i < CHAN_BUCKETS; i++) {
        while (g->buckets[i]) {
            struct chan *ch = g->buckets[i];

            chan_ref_locked(ch);
            chan_unlist_locked(ch);
            ch->type->on_lost(ch);
            waiters_wake_locked(&ch->waiters, WAKE_ALL);
            chan_unref_locked(ch);
        }
    }
    waiters_wake_locked(&g->waiters, WAKE_ALL);
    guest_kick_locked(g);
}

bool guest_lost_error_locked(struct guest *g, struct error *err)
{
    return error_set(err, ERR_LOST, "the computer is gone: %s", g->why);
}

static void lose(struct guest *g, const char *why)
{
    pthread_mutex_lock(&g->lock);
    guest_lose_locked(g, why);
    pthread_mutex_unlock(&g->lock);
}

static void lose_errno(struct guest *g, const char *what, int os_errno)
{
    char why[160], reason[96];

    (void)snprintf(why, sizeof why, "%s: %s", what, strerror_r(os_errno, reason, sizeof reason));
    lose(g, why);
}

static void tell_lost(struct guest *g)
{
    bool tell;

    guest_call_begin(g);
    pthread_mutex_lock(&g->lock);
    tell = !g->freed && g->events.on_lost;
    pthread_mutex_unlock(&g->lock);
    if (tell)
        g->events.on_lost(g->arg, g->why); /* `why` does not change any more */
    guest_call_end(g);
}

static void on_closed(uv_handle_t *handle)
{
    guest_unref(handle->data);
}

/* The stream is over: stop watching it, close it, tell the owner. */
static void let_go(struct guest *g)
{
    int stream;

    pthread_mutex_lock(&g->lock);
    if (g->let_go) {
        pthread_mutex_unlock(&g->lock);
        return;
    }
    g->let_go = true;
    stream = g->stream;
    g->stream = -1;
    pthread_mutex_unlock(&g->lock);

    guest_ref(g);
    loop_timer_stop(g->loop, &g->pace);
    if (g->polling)
        uv_close((uv_handle_t *)&g->poll, on_closed);
    else
        guest_unref(g); /* the loop's own reference, which on_closed() would have dropped */
    fd_close(stream);
    tell_lost(g);
    guest_unref(g);
}

/* ---- reading ---- */

static bool take_frame(struct guest *g, const struct wire_header *h, const uint8_t *payload)
{
    struct chan *ch = NULL;
    struct guest_after after;
    const char *why;
    bool lost;

    pthread_mutex_lock(&g->lock);
    if (g->lost) {
        pthread_mutex_unlock(&g->lock);
        return false;
    }
    g->after.fn = NULL;
    why = guest_dispatch_locked(g, h, payload, &ch);
    after = g->after;
    if (why) {
        char text[160];

        (void)snprintf(text, sizeof text, "the guest broke the protocol: %s", why);
        guest_lose_locked(g, text);
    }
    lost = g->lost;
    pthread_mutex_unlock(&g->lock);
    if (!why && after.fn)
        after.fn(ch, &after);
    if (ch)
        chan_unref(ch);
    return !lost;
}

static bool take_frames(struct guest *g)
{
    struct wire_header h;
    const uint8_t *payload;

    for (;;) {
        switch (wire_reader_next(&g->reader, &h, &payload)) {
        case WIRE_MORE:
            return true;
        case WIRE_BAD:
            lose(g, "the guest broke the protocol: a malformed frame");
            return false;
        case WIRE_OK:
            break;
        }
        if (!take_frame(g, &h, payload))
            return false;
    }
}

/* At most @times buffers full; false when there is nothing more for now. */
static bool read_some(struct guest *g, int times)
{
    while (times-- > 0) {
        size_t room;
        uint8_t *at = wire_reader_space(&g->reader, &room);
        ssize_t n = recv(g->stream, at, room, MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0) {
            if (n == 0)
                lose(g, "the guest ended the connection");
            else
                lose_errno(g, "reading from the guest", errno);
            return false;
        }
        wire_reader_filled(&g->reader, (size_t)n);
        if (!take_frames(g) || (size_t)n < room)
            return false;
    }
    return true;
}

/* It takes nothing more, but may have said how things ended before. */
static void end(struct guest *g)
{
    (void)read_some(g, READS_OF_A_BROKEN);
    lose(g, "the guest ended the connection");
}

/* ---- on the loop ---- */

static void on_poll(uv_poll_t *handle, int status, int events);

/* Bring what is watched for in line with what there is to do. */
static void settle(struct guest *g)
{
    bool lost;
    int want = UV_READABLE, rc;

    pthread_mutex_lock(&g->lock);
    lost = g->lost;
    if (guest_sendable_locked(g) > 0)
        want |= UV_WRITABLE;
    pthread_mutex_unlock(&g->lock);
    if (!lost && want != g->polled) {
        rc = uv_poll_start(&g->poll, want, on_poll);
        if (rc == 0) {
            g->polled = want;
            return;
        }
        lose_errno(g, "watching the guest's stream", -rc);
        lost = true;
    }
    if (lost)
        let_go(g);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct guest *g = handle->data;

    guest_ref(g);
    if (status < 0) {
        end(g); /* the socket has an error: what we sent last was not read */
    } else {
        if (events & UV_WRITABLE) {
            pthread_mutex_lock(&g->lock);
            guest_flush_locked(g);
            pthread_mutex_unlock(&g->lock);
        }
        if (events & UV_READABLE)
            (void)read_some(g, READS_PER_TURN);
    }
    settle(g);
    guest_unref(g);
}

static void on_post(struct loop_post *post)
{
    struct guest *g = CONTAINER_OF(post, struct guest, post);
    bool lost, broken, gone;
    int rc;

    pthread_mutex_lock(&g->lock);
    g->posted = false;
    lost = g->lost;
    broken = g->broken;
    gone = g->let_go;
    pthread_mutex_unlock(&g->lock);

    if (!gone) {
        if (!lost && !g->polling) {
            rc = uv_poll_init(loop_uv(g->loop), &g->poll, g->stream);
            g->poll.data = g;
            g->polling = rc == 0;
            if (rc)
                lose_errno(g, "watching the guest's stream", -rc);
        }
        if (!lost && broken)
            end(g);
        settle(g);
    }
    guest_unref(g);
}

void guest_kick_locked(struct guest *g)
{
    if (g->posted || g->let_go)
        return;
    g->posted = true;
    guest_ref(g);
    loop_post(g->loop, &g->post, on_post);
}

/* ---- for everybody ---- */

struct guest *guest_new(struct loop *loop, int stream, const struct guest_events *events, void *arg,
                        struct error *err)
{
    struct guest *g = calloc(1, sizeof *g);
    uint8_t *data = malloc(GUEST_READ_BYTES);

    if (!g || !data) {
        free(g);
        free(data);
        error_set(err, ERR_NOMEM, "the client of a guest");
        return NULL;
    }
    g->loop = loop;
    g->stream = stream;
    g->events = *events;
    g->arg = arg;
    g->next_id = 1;
    g->reader = (struct wire_reader){ .data = data, .cap = GUEST_READ_BYTES };
    atomic_init(&g->refs, 2); /* the owner and the loop */
    pthread_mutex_init(&g->lock, NULL);
    pthread_mutex_init(&g->call_lock, NULL);
    ring_init(&g->out, OUT_MAX_BYTES);
    list_init(&g->waiters);
    list_init(&g->sockets);
    pthread_mutex_lock(&g->lock);
    guest_kick_locked(g);
    pthread_mutex_unlock(&g->lock);
    return g;
}

void guest_close(struct guest *g, const char *why)
{
    lose(g, why);
}

void guest_free(struct guest *g)
{
    if (!g)
        return;
    guest_calls_stop(g);
    pthread_mutex_lock(&g->lock);
    g->freed = true;
    guest_lose_locked(g, "let go by its owner");
    pthread_mutex_unlock(&g->lock);
    guest_calls_resume(g);
    guest_unref(g);
}

bool guest_lost(struct guest *g)
{
    bool lost;

    pthread_mutex_lock(&g->lock);
    lost = g->lost;
    pthread_mutex_unlock(&g->lock);
    return lost;
}

bool guest_ready(struct guest *g, const struct wait *w, struct error *err)
{
    struct waiter wt;
    bool ok = true;

    waiter_begin(&wt, g, w);
    pthread_mutex_lock(&g->lock);
    while (!g->hello && !g->lost && ok)
        ok = waiter_wait_locked(&wt, &g->waiters, WAKE_HELLO);
    if (g->lost)
        ok = guest_lost_error_locked(g, err);
    else if (g->hello)
        ok = true;
    else
        ok = waiter_error(&wt, err);
    pthread_mutex_unlock(&g->lock);
    waiter_end(&wt);
    return ok;
}
