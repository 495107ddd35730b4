/*
 * The host's client against a hostile guest: whatever arrives while programs, files, a listing, a
 * watch and sockets are under way, every call returns, the connection ends once, and what is kept
 * stays within its bounds.
 *
 * Input: a byte whose lowest bit leaves out HELLO, then the guest's bytes.  The requests are, in
 * this order: SPAWN on channel 1, READ on 3, WRITE on 5, LIST on 7, WATCH on 9, DIAL on 11.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/computer/guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond)  \
    do {             \
        if (!(cond)) \
            abort(); \
    } while (0)
#define CALLS 5

struct state {
    struct loop *loop;
    struct guest *g;
    int peer;
    atomic_uint finished;
    unsigned lost, dialled;
};

static struct wait patience(void)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + 30 * CLOCK_NS_PER_S };
}

/* ---- the calls ---- */

static void call_spawn(struct guest *g)
{
    static const char *const argv[] = { "x", NULL };
    const struct guest_run_spec spec = {
        .argv = argv, .cwd = "/", .control = true, .stdin_open = true, .ring_bytes = 5000
    };
    const struct wait w = patience();
    struct guest_run *run = guest_spawn(g, &spec, &w, NULL);
    struct guest_run_info info;
    struct buf out = BUF_INIT;
    uint64_t offset = 0;

    if (!run)
        return;
    (void)!guest_run_write(run, WIRE_STREAM_MAIN, "input", 5, &w, NULL);
    CHECK(guest_run_wait(run, 0, NULL, &w, NULL));
    (void)guest_run_read(run, WIRE_STREAM_OUT, &offset, SIZE_MAX, &out);
    guest_run_info(run, &info);
    CHECK(info.end != GUEST_RUN_LIVE && out.len <= 5000);
    for (unsigned i = 0; i < WIRE_STREAM_COUNT; i++)
        CHECK(info.total[i] - info.dropped[i] <= 5000);
    buf_fini(&out);
    guest_run_unref(run);
}

static void call_read(struct guest *g)
{
    const struct wait w = patience();
    struct buf out = BUF_INIT;

    (void)!guest_read_file(g, "/", "/f", 0, 100000, &out, NULL, &w, NULL);
    CHECK(out.len <= 100000);
    buf_fini(&out);
}

static void call_write(struct guest *g)
{
    const struct wait w = patience();

    (void)!guest_write_file(g, "/", "/f", "hello", 5, 0644, WIRE_WRITE_CREATE, &w, NULL);
}

static void on_entry(void *arg, const struct guest_entry *entry)
{
    unsigned *count = arg;

    CHECK(entry->path[0] && ++*count <= 10);
}

static void call_list(struct guest *g)
{
    const struct wait w = patience();
    unsigned count = 0;
    bool truncated;

    (void)!guest_list(g, "/", "/", 1, 10, true, on_entry, &count, &truncated, &w, NULL);
}

static void on_event(void *arg, uint32_t events, const char *path)
{
    (void)arg;
    (void)events;
    CHECK(path);
}

static void call_watch(struct guest *g)
{
    const struct wait w = patience();
    struct guest_watch *watch = guest_watch(g, "/", "/", true, on_event, NULL, &w, NULL);

    if (!watch)
        return;
    (void)!guest_ping(g, &w, NULL); /* until the connection has ended */
    guest_watch_free(watch);
}

static void (*const calls[CALLS])(struct guest *g) = { call_spawn, call_read, call_write, call_list,
                                                       call_watch };

struct caller {
    pthread_t thread;
    struct state *st;
    void (*call)(struct guest *g);
};

static void *caller_main(void *arg)
{
    struct caller *c = arg;

    c->call(c->st->g);
    atomic_fetch_add(&c->st->finished, 1);
    return NULL;
}

/* ---- sockets: what comes goes back ---- */

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct channel *ch = arg;

    if (len == 0) {
        channel_send_eof(ch);
        return;
    }
    (void)channel_send(ch, data, len);
    channel_consume(ch, len);
}

static void on_writable(void *arg)
{
    (void)arg;
}

static void on_close(void *arg)
{
    channel_close(arg);
}

static const struct channel_events socket_events = { .on_data = on_data,
                                                     .on_writable = on_writable,
                                                     .on_close = on_close };

static void on_egress(void *arg, struct channel *ch)
{
    (void)arg;
    channel_listen(ch, &socket_events, ch);
}

static void on_dialled(void *arg, struct channel *ch, int os_errno)
{
    struct state *st = arg;

    CHECK(++st->dialled == 1);
    CHECK(ch || os_errno != 0);
    if (ch)
        channel_listen(ch, &socket_events, ch);
}

static void on_lost(void *arg, const char *why)
{
    struct state *st = arg;

    CHECK(why[0] && ++st->lost == 1);
}

static const struct guest_events events = { .on_egress = on_egress, .on_lost = on_lost };

/* ---- one input ---- */

/* Read the peer until one more request is there, so that channels get their numbers in order. */
static void await_request(struct state *st, struct wire_reader *r)
{
    for (;;) {
        struct wire_header h;
        const uint8_t *payload;
        struct pollfd p = { .fd = st->peer, .events = POLLIN };
        size_t room;
        uint8_t *space;
        ssize_t n;

        while (wire_reader_next(r, &h, &payload) == WIRE_OK)
            if (h.type != WIRE_DATA && h.type != WIRE_EOF)
                return;
        if (poll(&p, 1, 30000) < 0 && errno == EINTR)
            continue; /* libFuzzer's alarm */
        space = wire_reader_space(r, &room);
        n = recv(st->peer, space, room, MSG_DONTWAIT);
        CHECK(n > 0);
        wire_reader_filled(r, (size_t)n);
    }
}

static void send_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        CHECK(n > 0);
        data += n;
        len -= (size_t)n;
    }
}

static void say_hello(int fd)
{
    uint8_t frame[WIRE_HEADER_BYTES + 8];
    struct wire_out o = { .data = frame, .cap = sizeof frame, .len = WIRE_HEADER_BYTES };

    wire_header_put(frame, &(struct wire_header){ .length = 8, .type = WIRE_HELLO });
    wire_put_u32(&o, WIRE_MAGIC);
    wire_put_u32(&o, WIRE_VERSION);
    send_all(fd, frame, o.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t storage[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
    struct wire_reader reader = { .data = storage, .cap = sizeof storage };
    struct state st = { .lost = 0 };
    struct caller callers[CALLS];
    int pair[2];

    if (size == 0 || size > 100000) /* what the socket takes without anybody reading */
        return 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    st.peer = pair[1];
    st.loop = loop_new(NULL);
    CHECK(st.loop);
    st.g = guest_new(st.loop, pair[0], &events, &st, NULL);
    CHECK(st.g);
    for (size_t i = 0; i < CALLS; i++) {
        callers[i] = (struct caller){ .st = &st, .call = calls[i] };
        CHECK(pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]) == 0);
        await_request(&st, &reader);
    }
    guest_dial(st.g, 4, "127.0.0.1", 80, on_dialled, &st);

    if (!(data[0] & 1))
        say_hello(st.peer);
    send_all(st.peer, data + 1, size - 1);
    CHECK(shutdown(st.peer, SHUT_WR) == 0);
    while (atomic_load(&st.finished) < CALLS || st.lost == 0)
        loop_turn(st.loop, 1);
    for (size_t i = 0; i < CALLS; i++)
        pthread_join(callers[i].thread, NULL);
    CHECK(guest_lost(st.g));
    guest_free(st.g);
    loop_free(st.loop);
    CHECK(st.dialled == 1);
    (void)close(st.peer);
    return 0;
}
