#include "tests/unit/fake_guest.h"

#include "kernel/base/limits.h"

static void what_does_not_begin_with_hello_is_lost(void **state)
{
    static const struct {
        const char *label;
        int type;
        uint32_t channel;
        const char *payload;
        size_t len;
        const char *why;
    } rows[] = {
        { "no frame of ours", 0xee, 0, "", 0, "malformed" },
        { "another type", WIRE_REPLY, 0, "AIOS\1\0\0\0", 8, "HELLO" },
        { "on a channel", WIRE_HELLO, 1, "AIOS\1\0\0\0", 8, "HELLO" },
        { "another magic", WIRE_HELLO, 0, "BIOS\1\0\0\0", 8, "HELLO" },
        { "too short", WIRE_HELLO, 0, "AIOS\1\0\0", 7, "HELLO" },
        { "too long", WIRE_HELLO, 0, "AIOS\1\0\0\0!", 9, "HELLO" },
        { "another version", WIRE_HELLO, 0, "AIOS\2\0\0\0", 8, "version" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig rig;

        rig_start_silent(&rig);
        (void)fake_send(&rig.f, rows[i].channel, rows[i].type, 0, rows[i].payload, rows[i].len);
        mark_wait(&rig.lost, 1);
        if (!strstr(rig.why, rows[i].why))
            fail_msg("%s: %s", rows[i].label, rig.why);
        rig_stop(&rig);
    }
}

static bool do_hold(void *arg, struct error *err)
{
    const struct wait w = patience(NULL);

    return guest_hold(((struct rig *)arg)->g, &w, err);
}

static bool do_ping(void *arg, struct error *err)
{
    const struct wait w = patience(NULL);

    return guest_ping(((struct rig *)arg)->g, &w, err);
}

static bool is_silent(const struct rig *rig)
{
    struct pollfd p = { .fd = rig->f.fd, .events = POLLIN };

    return poll(&p, 1, 50) == 0;
}

static void while_it_is_held_what_is_sent_waits(void **state)
{
    struct async hold = { .ok = false }, ping = { .ok = false };
    struct rig rig;
    uint32_t channel;
    (void)state;

    rig_start(&rig);
    async_start(&hold, do_hold, &rig);
    fake_expect(&rig.f, WIRE_HOLD);
    channel = rig.f.h.channel;
    async_start(&ping, do_ping, &rig);
    assert_true(is_silent(&rig));
    (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, 0);
    assert_true(async_join(&hold));
    assert_true(is_silent(&rig));
    guest_release(rig.g);
    fake_expect(&rig.f, WIRE_PING);
    {
        uint8_t answer[12] = { 0 };

        memcpy(answer + 4, rig.f.payload, 8);
        (void)fake_send(&rig.f, rig.f.h.channel, WIRE_REPLY, 0, answer, sizeof answer);
    }
    assert_true(async_join(&ping));
    rig_stop(&rig);
}

static struct mark standing, go;

static void stand_still(void *arg)
{
    (void)arg;
    mark_hit(&standing);
    mark_wait(&go, 1);
}

static bool do_stand_still(void *arg, struct error *err)
{
    (void)err;
    on_loop(((struct rig *)arg)->lt.loop, stand_still, NULL);
    return true;
}

/* The socket has an error then, which must not hide what is still to be read from it. */
static void what_was_said_before_an_end_with_something_unread_is_heard(void **state)
{
    struct async first = { .ok = false }, second = { .ok = false }, still = { .ok = false };
    struct pollfd unread = { .events = POLLIN };
    struct rig rig;
    uint8_t answer[12] = { 0 };
    (void)state;

    standing = go = (struct mark)MARK_INIT;
    rig_start(&rig);
    unread.fd = rig.f.fd;
    async_start(&first, do_ping, &rig);
    fake_expect(&rig.f, WIRE_PING);
    memcpy(answer + 4, rig.f.payload, 8);
    async_start(&second, do_ping, &rig);
    assert_int_equal(poll(&unread, 1, FAKE_PATIENCE_MS), 1);
    async_start(&still, do_stand_still, &rig);
    mark_wait(&standing, 1);
    assert_true(fake_send(&rig.f, rig.f.h.channel, WIRE_REPLY, 0, answer, sizeof answer));
    fd_close(fd_steal(&rig.f.fd));
    mark_hit(&go);
    assert_true(async_join(&still));
    assert_ok(async_join(&first), first.err);
    assert_false(async_join(&second));
    assert_code(second.err, ERR_LOST);
    assert_contains(second.err.text, "the guest ended the connection");
    rig_stop(&rig);
}

/* Else nobody would ever be heard again. */
static void a_hold_that_is_refused_holds_nothing(void **state)
{
    struct async hold = { .ok = false };
    struct rig rig;
    (void)state;

    rig_start(&rig);
    async_start(&hold, do_hold, &rig);
    fake_expect(&rig.f, WIRE_HOLD);
    (void)fake_send_u32(&rig.f, rig.f.h.channel, WIRE_REPLY, 0, EPERM);
    assert_false(async_join(&hold));
    guest_shutdown(rig.g);
    fake_expect(&rig.f, WIRE_SHUTDOWN);
    rig_stop(&rig);
}

static bool do_spawn_hang(void *arg, struct error *err)
{
    struct rig *rig = arg;
    static const char *const argv[] = { "hang", NULL };
    const struct guest_run_spec spec = { .argv = argv, .cwd = "/" };
    const struct wait w = patience(NULL);
    struct guest_run *run = guest_spawn(rig->g, &spec, &w, err);
    bool ended;

    if (!run)
        return false;
    ended = guest_run_wait(run, 0, NULL, &w, err);
    guest_run_unref(run);
    return ended;
}

/* With run 1 alive and without standard input, each of these ends the connection. */
static void what_breaks_the_protocol_is_lost(void **state)
{
    static const struct {
        const char *label;
        int type;
        uint32_t channel;
        unsigned stream;
        const char *payload;
        size_t len;
        const char *why;
    } rows[] = {
        { "a second HELLO", WIRE_HELLO, 0, 0, "AIOS\1\0\0\0", 8, "channel 0" },
        { "an unknown channel", WIRE_DATA, 99, 1, "x", 1, "not open" },
        { "a second reply", WIRE_REPLY, 1, 0, "\0\0\0\0\1\0\0\0", 8, "second reply" },
        { "a request", WIRE_SPAWN, 1, 0, "", 0, "only the host" },
        { "a signal", WIRE_SIGNAL, 1, 0, "", 0, "only the host" },
        { "data on stdin", WIRE_DATA, 1, 0, "x", 1, "not there" },
        { "data on no control stream", WIRE_DATA, 1, 3, "x", 1, "not there" },
        { "an EOF with a payload", WIRE_EOF, 1, 1, "x", 1, "EOF" },
        { "credit for no stream", WIRE_CREDIT, 1, 0, "\1\0\0\0", 4, "does not belong" },
        { "a short EXIT", WIRE_EXIT, 1, 0, "\0", 1, "EXIT" },
        { "an exit code of 256", WIRE_EXIT, 1, 0,
          "\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
          "\0\0\0\0\0\0\0\0\0",
          29, "EXIT" },
        { "a signal of 0", WIRE_EXIT, 1, 0,
          "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
          "\0\0\0",
          29, "EXIT" },
        { "an EXIT of no known kind", WIRE_EXIT, 1, 0,
          "\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
          "\0\0\0",
          29, "EXIT" },
        { "an event", WIRE_EVENT, 1, 0, "\1\0\0\0\1\0\0\0x", 9, "EVENT" },
        { "a CLOSE before the end", WIRE_CLOSE, 1, 0, "", 0, "still runs" },
        { "a CLOSE with a payload", WIRE_CLOSE, 1, 0, "x", 1, "CLOSE" },
        { "an OPEN of an odd channel", WIRE_OPEN, 3, 0, "\1", 1, "OPEN" },
        { "an OPEN of a strange kind", WIRE_OPEN, 2, 0, "\2", 1, "OPEN" },
        { "an OPEN without kind", WIRE_OPEN, 2, 0, "", 0, "OPEN" },
        { "no frame of ours", 0xff, 1, 0, "", 0, "malformed" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig rig;

        rig_start(&rig);
        async_start(&rig.call, do_spawn_hang, &rig);
        (void)fake_reply_pid(&rig.f, fake_expect(&rig.f, WIRE_SPAWN), 1);
        (void)fake_send(&rig.f, rows[i].channel, rows[i].type, rows[i].stream, rows[i].payload,
                        rows[i].len);
        mark_wait(&rig.lost, 1);
        (void)async_join(&rig.call); /* either before its reply was seen, or as the end of a run */
        if (!strstr(rig.why, rows[i].why))
            fail_msg("%s: %s", rows[i].label, rig.why);
        rig_stop(&rig);
    }
}

struct keeper {
    struct channel *channels[LIMIT_GUEST_CHANNELS + 1];
    size_t count;
    struct mark lost;
    struct mark opened;
    char why[256];
};

static void keep_channel(void *arg, struct channel *ch)
{
    struct keeper *k = arg;

    k->channels[k->count++] = ch;
    mark_hit(&k->opened);
}

static void keeper_lost(void *arg, const char *why)
{
    struct keeper *k = arg;

    (void)snprintf(k->why, sizeof k->why, "%s", why);
    mark_hit(&k->lost);
}

static const struct guest_events keeper_events = { .on_egress = keep_channel,
                                                   .on_lost = keeper_lost };

static void close_kept(void *arg)
{
    struct keeper *k = arg;

    while (k->count > 0)
        channel_close(k->channels[--k->count]);
}

/* A connection whose guest opens @channels, then sends more on the first than it may. */
static void overdo(uint32_t channels, size_t bytes, const char *why)
{
    static const uint8_t block[WIRE_PAYLOAD_MAX];
    static struct keeper k;
    struct error err = ERROR_INIT;
    struct rig rig = { .g = NULL };
    int pair[2];

    k = (struct keeper){ .lost = MARK_INIT, .opened = MARK_INIT };
    loop_thread_start(&rig.lt);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fake_init(&rig.f, pair[1]);
    rig.g = guest_new(rig.lt.loop, pair[0], &keeper_events, &k, &err);
    assert_ok(rig.g != NULL, err);
    fake_hello(&rig.f);
    for (uint32_t i = 0; i < channels; i++)
        (void)fake_send(&rig.f, 2 + 2 * i, WIRE_OPEN, 0, "\1", 1);
    for (size_t sent = 0; sent < bytes; sent += sizeof block)
        (void)fake_send(&rig.f, 2, WIRE_DATA, 0, block, MIN(bytes - sent, sizeof block));
    mark_wait(&k.lost, 1);
    assert_contains(k.why, why);
    on_loop(rig.lt.loop, close_kept, &k);
    rig_stop(&rig);
}

static void more_data_than_credit_is_lost(void **state)
{
    (void)state;
    overdo(2, WIRE_WINDOW + 1, "credit");
}

static void a_flood_of_channels_is_lost(void **state)
{
    (void)state;
    overdo(LIMIT_GUEST_CHANNELS + 1, 0, "too many channels");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_it_is_held_what_is_sent_waits),
        cmocka_unit_test(what_was_said_before_an_end_with_something_unread_is_heard),
        cmocka_unit_test(a_hold_that_is_refused_holds_nothing),
        cmocka_unit_test(what_does_not_begin_with_hello_is_lost),
        cmocka_unit_test(what_breaks_the_protocol_is_lost),
        cmocka_unit_test(more_data_than_credit_is_lost),
        cmocka_unit_test(a_flood_of_channels_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
