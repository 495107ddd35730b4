#include "tests/unit/fake_guest.h"

#include "kernel/base/limits.h"

/* Somebody who uses a channel; everything but the marks belongs to the loop. */
struct user {
    struct rig *rig;
    struct channel *ch;
    struct mark data, eof, writable, closed, dialled;
    char text[64];
    size_t came; /* bytes */
    int os_errno;
    bool close_in_data;
    const void *send; /* for the functions below that run on the loop */
    size_t len;
    size_t taken;
};

static struct user user_of(struct rig *rig)
{
    return (struct user){ .rig = rig,
                          .data = MARK_INIT,
                          .eof = MARK_INIT,
                          .writable = MARK_INIT,
                          .closed = MARK_INIT,
                          .dialled = MARK_INIT };
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct user *u = arg;

    if (len == 0) {
        mark_hit(&u->eof);
        return;
    }
    for (size_t i = 0; i < len && u->came + i + 1 < sizeof u->text; i++)
        u->text[u->came + i] = (char)data[i];
    u->came += len;
    if (u->close_in_data)
        channel_close(STEAL(u->ch));
    mark_hit(&u->data);
}

static void on_writable(void *arg)
{
    struct user *u = arg;

    mark_hit(&u->writable);
}

static void on_close(void *arg)
{
    struct user *u = arg;

    mark_hit(&u->closed);
}

static const struct channel_events user_events = { .on_data = on_data,
                                                   .on_writable = on_writable,
                                                   .on_close = on_close };

static void listen_on_loop(void *arg)
{
    struct user *u = arg;

    channel_listen(u->ch, &user_events, u);
}

static void send_on_loop(void *arg)
{
    struct user *u = arg;

    u->taken = channel_send(u->ch, u->send, u->len);
}

static void eof_on_loop(void *arg)
{
    struct user *u = arg;

    channel_send_eof(u->ch);
}

static void consume_on_loop(void *arg)
{
    struct user *u = arg;

    channel_consume(u->ch, u->len);
}

static void close_on_loop(void *arg)
{
    struct user *u = arg;

    channel_close(STEAL(u->ch));
}

static void opened(struct rig *rig, struct user *u, uint32_t id)
{
    unsigned before = rig->opened.count;

    (void)fake_send(&rig->f, id, WIRE_OPEN, 0, "\1", 1);
    mark_wait(&rig->opened, before + 1);
    u->ch = rig->channel;
}

static void carries_bytes_both_ways(void **state)
{
    struct rig rig;
    struct user u = user_of(&rig);
    (void)state;

    rig_start(&rig);
    opened(&rig, &u, 2);
    on_loop(rig.lt.loop, listen_on_loop, &u);
    (void)fake_send(&rig.f, 2, WIRE_DATA, 0, "hello", 5);
    mark_wait(&u.data, 1);
    assert_string_equal(u.text, "hello");
    u.send = "world";
    u.len = 5;
    on_loop(rig.lt.loop, send_on_loop, &u);
    assert_int_equal(u.taken, 5);
    assert_int_equal(fake_expect(&rig.f, WIRE_DATA), 2);
    assert_memory_equal(rig.f.payload, "world", 5);
    (void)fake_send(&rig.f, 2, WIRE_EOF, 0, NULL, 0);
    mark_wait(&u.eof, 1);
    on_loop(rig.lt.loop, eof_on_loop, &u);
    assert_int_equal(fake_expect(&rig.f, WIRE_EOF), 2);
    on_loop(rig.lt.loop, send_on_loop, &u);
    assert_int_equal(u.taken, 0); /* after its end */
    on_loop(rig.lt.loop, close_on_loop, &u);
    assert_int_equal(fake_expect(&rig.f, WIRE_CLOSE), 2);
    (void)fake_send(&rig.f, 2, WIRE_CLOSE, 0, NULL, 0);

    opened(&rig, &u, 2); /* the number is free again */
    on_loop(rig.lt.loop, close_on_loop, &u);
    rig_stop(&rig);
}

static void what_comes_before_somebody_listens_is_kept(void **state)
{
    struct rig rig;
    struct user u = user_of(&rig);
    (void)state;

    rig_start(&rig);
    opened(&rig, &u, 2);
    (void)fake_send(&rig.f, 2, WIRE_DATA, 0, "he", 2);
    (void)fake_send(&rig.f, 2, WIRE_DATA, 0, "llo", 3);
    (void)fake_send(&rig.f, 2, WIRE_EOF, 0, NULL, 0);
    (void)fake_send(&rig.f, 2, WIRE_CLOSE, 0, NULL, 0);
    assert_int_equal(fake_expect(&rig.f, WIRE_CLOSE), 2); /* all has arrived */
    on_loop(rig.lt.loop, listen_on_loop, &u);
    mark_wait(&u.closed, 1);
    assert_string_equal(u.text, "hello");
    assert_int_equal(u.eof.count, 1);
    on_loop(rig.lt.loop, close_on_loop, &u);
    rig_stop(&rig);
}

static void sending_stops_without_credit_and_goes_on_with_it(void **state)
{
    static const uint8_t block[WIRE_WINDOW + 1000];
    struct rig rig;
    struct user u = user_of(&rig);
    size_t came = 0;
    (void)state;

    rig_start(&rig);
    opened(&rig, &u, 2);
    on_loop(rig.lt.loop, listen_on_loop, &u);
    u.send = block;
    u.len = sizeof block;
    on_loop(rig.lt.loop, send_on_loop, &u);
    assert_int_equal(u.taken, WIRE_WINDOW);
    while (came < WIRE_WINDOW) {
        (void)fake_expect(&rig.f, WIRE_DATA);
        came += rig.f.h.length;
    }
    (void)fake_send_u32(&rig.f, 2, WIRE_CREDIT, 0, 100000);
    mark_wait(&u.writable, 1);
    u.len = 1000;
    on_loop(rig.lt.loop, send_on_loop, &u);
    assert_int_equal(u.taken, 1000);
    on_loop(rig.lt.loop, close_on_loop, &u);
    rig_stop(&rig);
}

static void sending_stops_without_room_and_goes_on_with_it(void **state)
{
    static const uint8_t block[WIRE_WINDOW];
    enum { USERS = 12 };
    struct user users[USERS];
    struct rig rig;
    size_t taken = 0, came = 0;
    unsigned stopped = 0;
    (void)state;

    rig_start(&rig);
    for (unsigned i = 0; i < USERS; i++) {
        users[i] = user_of(&rig);
        opened(&rig, &users[i], 2 + 2 * i);
        on_loop(rig.lt.loop, listen_on_loop, &users[i]);
        users[i].send = block;
        users[i].len = sizeof block;
        on_loop(rig.lt.loop, send_on_loop, &users[i]);
        taken += users[i].taken;
        stopped += users[i].taken < sizeof block;
    }
    assert_true(stopped > 0); /* the queue is bounded, whatever the credit */
    while (came < taken) {
        (void)fake_expect(&rig.f, WIRE_DATA);
        came += rig.f.h.length;
    }
    for (unsigned i = 0; i < USERS; i++)
        if (users[i].taken < sizeof block)
            mark_wait(&users[i].writable, 1);
    for (unsigned i = 0; i < USERS; i++)
        on_loop(rig.lt.loop, close_on_loop, &users[i]);
    rig_stop(&rig);
}

static void credit_comes_back_for_what_was_consumed(void **state)
{
    static const uint8_t block[WIRE_PAYLOAD_MAX];
    struct rig rig;
    struct user u = user_of(&rig);
    struct wire_in in;
    (void)state;

    rig_start(&rig);
    opened(&rig, &u, 2);
    on_loop(rig.lt.loop, listen_on_loop, &u);
    (void)fake_send(&rig.f, 2, WIRE_DATA, 0, block, sizeof block);
    (void)fake_send(&rig.f, 2, WIRE_DATA, 0, block, sizeof block);
    mark_wait(&u.data, 2);
    u.len = sizeof block;
    on_loop(rig.lt.loop, consume_on_loop, &u);
    on_loop(rig.lt.loop, consume_on_loop, &u);
    assert_int_equal(fake_expect(&rig.f, WIRE_CREDIT), 2);
    in = (struct wire_in){ .data = rig.f.payload, .len = rig.f.h.length };
    assert_int_equal(wire_get_u32(&in), 2 * sizeof block);
    on_loop(rig.lt.loop, close_on_loop, &u);
    rig_stop(&rig);
}

static void a_channel_may_be_closed_while_it_tells(void **state)
{
    struct rig rig;
    struct user u = user_of(&rig);
    (void)state;

    rig_start(&rig);
    opened(&rig, &u, 2);
    u.close_in_data = true;
    on_loop(rig.lt.loop, listen_on_loop, &u);
    (void)fake_send(&rig.f, 2, WIRE_DATA, 0, "a", 1);
    (void)fake_send(&rig.f, 2, WIRE_DATA, 0, "b", 1);
    (void)fake_send(&rig.f, 2, WIRE_EOF, 0, NULL, 0);
    mark_wait(&u.data, 1);
    assert_int_equal(fake_expect(&rig.f, WIRE_CLOSE), 2);
    (void)fake_send(&rig.f, 2, WIRE_CLOSE, 0, NULL, 0);
    rig_stop(&rig);
    assert_int_equal(u.data.count, 1);
    assert_int_equal(u.eof.count, 0);
    assert_int_equal(u.closed.count, 0);
}

static void a_lost_computer_closes_its_channels(void **state)
{
    struct rig rig;
    struct user u = user_of(&rig), silent = user_of(&rig);
    (void)state;

    rig_start(&rig);
    opened(&rig, &u, 2);
    opened(&rig, &silent, 4);
    on_loop(rig.lt.loop, listen_on_loop, &u);
    guest_free(STEAL(rig.g));
    mark_wait(&u.closed, 1);
    u.send = "x";
    u.len = 1;
    on_loop(rig.lt.loop, send_on_loop, &u);
    assert_int_equal(u.taken, 0);
    on_loop(rig.lt.loop, eof_on_loop, &u);
    on_loop(rig.lt.loop, consume_on_loop, &u);
    on_loop(rig.lt.loop, close_on_loop, &u);
    on_loop(rig.lt.loop, listen_on_loop, &silent); /* too late, and told so */
    mark_wait(&silent.closed, 1);
    on_loop(rig.lt.loop, close_on_loop, &silent);
    rig_stop(&rig);
    assert_int_equal(u.closed.count, 1);
}

/* ---- dialling ---- */

static void on_dialled(void *arg, struct channel *ch, int os_errno)
{
    struct user *u = arg;

    u->ch = ch;
    u->os_errno = os_errno;
    if (ch)
        channel_listen(ch, &user_events, u);
    mark_hit(&u->dialled);
}

static void dial_on_loop(void *arg)
{
    struct user *u = arg;

    guest_dial(u->rig->g, 4, "127.0.0.1", 8080, on_dialled, u);
}

static void dials_and_is_refused(void **state)
{
    struct rig rig;
    struct user u = user_of(&rig), refused = user_of(&rig), lost = user_of(&rig);
    uint32_t channel;
    (void)state;

    rig_start(&rig);
    on_loop(rig.lt.loop, dial_on_loop, &u);
    channel = fake_expect(&rig.f, WIRE_DIAL);
    assert_int_equal(rig.f.h.length, 16);
    assert_memory_equal(rig.f.payload, "\4\11\0\0\000127.0.0.1\220\37", 16);
    (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, 0);
    (void)fake_send(&rig.f, channel, WIRE_DATA, 0, "hello", 5);
    mark_wait(&u.data, 1);
    assert_string_equal(u.text, "hello");
    on_loop(rig.lt.loop, close_on_loop, &u);
    assert_int_equal(fake_expect(&rig.f, WIRE_CLOSE), channel);

    on_loop(rig.lt.loop, dial_on_loop, &refused);
    channel = fake_expect(&rig.f, WIRE_DIAL);
    (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, ECONNREFUSED);
    (void)fake_send(&rig.f, channel, WIRE_CLOSE, 0, NULL, 0);
    mark_wait(&refused.dialled, 1);
    assert_null(refused.ch);
    assert_int_equal(refused.os_errno, ECONNREFUSED);
    assert_int_equal(fake_expect(&rig.f, WIRE_CLOSE), channel);

    on_loop(rig.lt.loop, dial_on_loop, &lost);
    guest_close(rig.g, "gone");
    mark_wait(&lost.dialled, 1);
    assert_int_equal(lost.os_errno, ECONNRESET);
    on_loop(rig.lt.loop, dial_on_loop, &lost);
    mark_wait(&lost.dialled, 2);
    assert_null(lost.ch);
    rig_stop(&rig);
    assert_int_equal(refused.dialled.count, 1);
    assert_int_equal(lost.dialled.count, 2);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct rig rig;
        struct user u = user_of(&rig), dial = user_of(&rig);
        bool lost;

        fault_disarm();
        rig_start(&rig);
        fault_arm(n);
        on_loop(rig.lt.loop, dial_on_loop, &dial);
        (void)fake_send(&rig.f, 2, WIRE_OPEN, 0, "\1", 1);
        (void)fake_send(&rig.f, 2, WIRE_DATA, 0, "hello", 5);
        (void)fake_send(&rig.f, 2, WIRE_CLOSE, 0, NULL, 0);
        while (fake_recv(&rig.f) && rig.f.h.type != WIRE_CLOSE)
            continue;
        u.ch = rig.opened.count ? rig.channel : NULL;
        if (u.ch) {
            on_loop(rig.lt.loop, listen_on_loop, &u);
            mark_wait(&u.closed, 1);
            on_loop(rig.lt.loop, close_on_loop, &u);
        }
        lost = guest_lost(rig.g);
        FAULT_DONE(n);
        if (lost != (rig.opened.count == 0))
            fail_msg("allocation %u: lost is %d, %s", n, lost, rig.why);
        guest_close(rig.g, "over");
        mark_wait(&dial.dialled, 1);
        assert_null(dial.ch);
        rig_stop(&rig);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_bytes_both_ways),
        cmocka_unit_test(what_comes_before_somebody_listens_is_kept),
        cmocka_unit_test(sending_stops_without_credit_and_goes_on_with_it),
        cmocka_unit_test(sending_stops_without_room_and_goes_on_with_it),
        cmocka_unit_test(credit_comes_back_for_what_was_consumed),
        cmocka_unit_test(a_channel_may_be_closed_while_it_tells),
        cmocka_unit_test(a_lost_computer_closes_its_channels),
        cmocka_unit_test(dials_and_is_refused),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
