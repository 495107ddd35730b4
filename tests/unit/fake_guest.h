/*
 * fake_guest - the other end of a guest's stream, for tests: the test's own thread reads and sends
 * frames while an `async` makes the blocking call.
 *
 * Threads: the functions that assert run on the test's own thread.
 */
#pragma once

#include "tests/support/check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/computer/guest.h"
#include "kernel/computer/wire.h"

#define FAKE_PATIENCE_MS 20000 /* nothing takes that long; it only ends what hangs */
#define UNUSED           __attribute__((unused))

static inline struct wait patience(struct cancel *cancel)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + FAKE_PATIENCE_MS * CLOCK_NS_PER_MS,
                          .cancel = cancel };
}

/* ---- a loop on its own thread ---- */

struct loop_thread {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ready;
    struct loop *loop;
    struct loop_post stop;
};

static void *loop_thread_main(void *arg)
{
    struct loop_thread *lt = arg;
    struct loop *loop = loop_new(NULL);

    pthread_mutex_lock(&lt->lock);
    lt->loop = loop;
    pthread_cond_signal(&lt->ready);
    pthread_mutex_unlock(&lt->lock);
    loop_run(loop);
    loop_free(loop);
    return NULL;
}

UNUSED static void loop_thread_start(struct loop_thread *lt)
{
    memset(lt, 0, sizeof *lt);
    pthread_mutex_init(&lt->lock, NULL);
    pthread_cond_init(&lt->ready, NULL);
    assert_int_equal(pthread_create(&lt->thread, NULL, loop_thread_main, lt), 0);
    pthread_mutex_lock(&lt->lock);
    while (!lt->loop)
        pthread_cond_wait(&lt->ready, &lt->lock);
    pthread_mutex_unlock(&lt->lock);
}

static void loop_thread_on_stop(struct loop_post *post)
{
    loop_stop(CONTAINER_OF(post, struct loop_thread, stop)->loop);
}

UNUSED static void loop_thread_stop(struct loop_thread *lt)
{
    loop_post(lt->loop, &lt->stop, loop_thread_on_stop);
    pthread_join(lt->thread, NULL);
    pthread_mutex_destroy(&lt->lock);
    pthread_cond_destroy(&lt->ready);
}

/* Run a function on the loop thread and wait for it. */
struct on_loop {
    struct loop_post post;
    void (*fn)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void on_loop_post(struct loop_post *post)
{
    struct on_loop *ol = CONTAINER_OF(post, struct on_loop, post);

    ol->fn(ol->arg);
    pthread_mutex_lock(&ol->lock);
    ol->done = true;
    pthread_cond_signal(&ol->cond);
    pthread_mutex_unlock(&ol->lock);
}

UNUSED static void on_loop(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct on_loop ol = { .fn = fn, .arg = arg };

    pthread_mutex_init(&ol.lock, NULL);
    pthread_cond_init(&ol.cond, NULL);
    loop_post(loop, &ol.post, on_loop_post);
    pthread_mutex_lock(&ol.lock);
    while (!ol.done)
        pthread_cond_wait(&ol.cond, &ol.lock);
    pthread_mutex_unlock(&ol.lock);
    pthread_mutex_destroy(&ol.lock);
    pthread_cond_destroy(&ol.cond);
}

/* ---- a value that one thread sets and another waits for ---- */

struct mark {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned count;
};

#define MARK_INIT                                              \
    {                                                          \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 \
    }

UNUSED static void mark_hit(struct mark *m)
{
    pthread_mutex_lock(&m->lock);
    m->count++;
    pthread_cond_broadcast(&m->cond);
    pthread_mutex_unlock(&m->lock);
}

UNUSED static void mark_wait(struct mark *m, unsigned count)
{
    pthread_mutex_lock(&m->lock);
    while (m->count < count)
        pthread_cond_wait(&m->cond, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

/* ---- a call on another thread ---- */

struct async {
    pthread_t thread;
    bool (*fn)(void *arg, struct error *err);
    void *arg;
    struct error err;
    bool ok;
};

static void *async_main(void *arg)
{
    struct async *a = arg;

    a->ok = a->fn(a->arg, &a->err);
    return NULL;
}

UNUSED static void async_start(struct async *a, bool (*fn)(void *arg, struct error *err), void *arg)
{
    *a = (struct async){ .fn = fn, .arg = arg };
    assert_int_equal(pthread_create(&a->thread, NULL, async_main, a), 0);
}

UNUSED static bool async_join(struct async *a)
{
    pthread_join(a->thread, NULL);
    return a->ok;
}

/* ---- frames ---- */

struct fake {
    int fd;
    struct wire_reader reader;
    uint8_t storage[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
    struct wire_header h;
    const uint8_t *payload; /* until the next fake_recv() */
};

UNUSED static void fake_init(struct fake *f, int fd)
{
    f->fd = fd;
    f->reader = (struct wire_reader){ .data = f->storage, .cap = sizeof f->storage };
}

/* False at the end of the stream. */
UNUSED static bool fake_recv(struct fake *f)
{
    for (;;) {
        size_t room;
        uint8_t *at;
        ssize_t n;
        struct pollfd p = { .fd = f->fd, .events = POLLIN };

        switch (wire_reader_next(&f->reader, &f->h, &f->payload)) {
        case WIRE_OK:
            return true;
        case WIRE_BAD:
            return false;
        case WIRE_MORE:
            break;
        }
        if (poll(&p, 1, FAKE_PATIENCE_MS) <= 0)
            return false;
        at = wire_reader_space(&f->reader, &room);
        n = recv(f->fd, at, room, 0);
        if (n <= 0)
            return false;
        wire_reader_filled(&f->reader, (size_t)n);
    }
}

UNUSED static bool fake_send(struct fake *f, uint32_t channel, int type, unsigned stream,
                             const void *payload, size_t len)
{
    const struct wire_header h = {
        .length = (uint32_t)len,
        .channel = channel,
        .type = (uint8_t)type,
        .stream = (uint8_t)stream,
    };
    uint8_t frame[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
    size_t total = sizeof(uint8_t) * WIRE_HEADER_BYTES + len, done = 0;

    wire_header_put(frame, &h);
    if (len)
        memcpy(frame + WIRE_HEADER_BYTES, payload, len);
    while (done < total) {
        ssize_t n = send(f->fd, frame + done, total - done, MSG_NOSIGNAL);

        if (n < 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

UNUSED static bool fake_send_u32(struct fake *f, uint32_t channel, int type, unsigned stream,
                                 uint32_t value)
{
    uint8_t payload[4];
    struct wire_out o = { .data = payload, .cap = sizeof payload };

    wire_put_u32(&o, value);
    return fake_send(f, channel, type, stream, payload, o.len);
}

UNUSED static void fake_hello(struct fake *f)
{
    uint8_t payload[8];
    struct wire_out o = { .data = payload, .cap = sizeof payload };

    wire_put_u32(&o, WIRE_MAGIC);
    wire_put_u32(&o, WIRE_VERSION);
    (void)fake_send(f, 0, WIRE_HELLO, 0, payload, o.len);
}

/* Reply to a spawn, or to any request whose result is one u32. */
UNUSED static bool fake_reply_pid(struct fake *f, uint32_t channel, uint32_t pid)
{
    uint8_t payload[8];
    struct wire_out o = { .data = payload, .cap = sizeof payload };

    wire_put_u32(&o, 0);
    wire_put_u32(&o, pid);
    return fake_send(f, channel, WIRE_REPLY, 0, payload, o.len);
}

UNUSED static bool fake_exit_as(struct fake *f, uint32_t channel, const struct wire_exit *e)
{
    uint8_t payload[64];
    struct wire_out o = { .data = payload, .cap = sizeof payload };

    wire_put_exit(&o, e);
    return fake_send(f, channel, WIRE_EXIT, 0, payload, o.len);
}

UNUSED static bool fake_exit(struct fake *f, uint32_t channel, bool signalled, uint32_t value)
{
    const struct wire_exit e = { signalled, value, 1000, 500, 4096, false };

    return fake_exit_as(f, channel, &e);
}

/* The next frame is of this type; its channel. */
#define fake_expect(f, want)                                               \
    (__extension__({                                                       \
        if (!fake_recv(f))                                                 \
            fail_msg("wanted a frame of type %d, the stream ended", want); \
        if ((f)->h.type != (want))                                         \
            fail_msg("wanted type %d, got %d", want, (f)->h.type);         \
        (f)->h.channel;                                                    \
    }))

/* ---- a guest's client with a peer that is played by hand ---- */

struct rig {
    struct loop_thread lt;
    struct fake f;
    struct guest *g;
    struct mark lost;
    char why[256]; /* after `lost` was hit */
    struct mark opened;
    struct channel *channel; /* the last one that was opened; closed by whoever uses it */
    struct async call;
};

static void rig_on_lost(void *arg, const char *why)
{
    struct rig *rig = arg;

    (void)snprintf(rig->why, sizeof rig->why, "%s", why);
    mark_hit(&rig->lost);
}

static void rig_on_egress(void *arg, struct channel *ch)
{
    struct rig *rig = arg;

    rig->channel = ch;
    mark_hit(&rig->opened);
}

static const struct guest_events rig_events = { .on_lost = rig_on_lost,
                                                .on_egress = rig_on_egress };

/* Up to before HELLO. */
UNUSED static void rig_start_silent(struct rig *rig)
{
    struct error err = ERROR_INIT;
    int pair[2];

    memset(rig, 0, sizeof *rig);
    rig->lost = rig->opened = (struct mark)MARK_INIT;
    loop_thread_start(&rig->lt);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(fd_set_nonblock(pair[0], true, NULL));
    fake_init(&rig->f, pair[1]);
    rig->g = guest_new(rig->lt.loop, pair[0], &rig_events, rig, &err);
    assert_ok(rig->g != NULL, err);
}

UNUSED static void rig_start(struct rig *rig)
{
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;

    rig_start_silent(rig);
    fake_hello(&rig->f);
    assert_ok(guest_ready(rig->g, &w, &err), err);
}

UNUSED static void rig_stop(struct rig *rig)
{
    guest_free(rig->g);
    fd_close(rig->f.fd);
    loop_thread_stop(&rig->lt);
}
