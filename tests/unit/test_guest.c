#include "tests/unit/fake_puppet.h"

#include "kernel/base/limits.h"

/* ---- beginning and end ---- */

static bool do_ready(void *arg, struct error *err)
{
    struct rig *rig = arg;
    const struct wait w = patience(NULL);

    return guest_ready(rig->g, &w, err);
}

static void is_ready_when_hello_has_come(void **state)
{
    struct rig rig;
    (void)state;

    rig_start_silent(&rig);
    async_start(&rig.call, do_ready, &rig);
    fake_hello(&rig.f);
    assert_ok(async_join(&rig.call), rig.call.err);
    assert_false(guest_lost(rig.g));
    rig_stop(&rig);
}

static void waiting_ends_with_the_deadline(void **state)
{
    const struct wait over = { .deadline_ns = clock_now_ns() + CLOCK_NS_PER_MS };
    struct error err = ERROR_INIT;
    struct rig rig;
    (void)state;

    rig_start_silent(&rig);
    assert_false(guest_ready(rig.g, &over, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    assert_false(guest_ping(rig.g, &over, &err));
    assert_code(err, ERR_TIMEOUT);
    rig_stop(&rig);
}

struct cancelled_call {
    struct rig *rig;
    struct cancel token;
};

static bool do_cancelled_ping(void *arg, struct error *err)
{
    struct cancelled_call *cc = arg;
    const struct wait w = patience(&cc->token);

    return guest_ping(cc->rig->g, &w, err);
}

static void waiting_ends_with_the_token_and_the_late_reply_is_dropped(void **state)
{
    struct cancelled_call cc;
    struct error err = ERROR_INIT;
    const struct wait w = patience(NULL);
    struct rig rig;
    uint32_t channel;
    (void)state;

    rig_start(&rig);
    cc.rig = &rig;
    cancel_init(&cc.token);
    async_start(&rig.call, do_cancelled_ping, &cc);
    channel = fake_expect(&rig.f, WIRE_PING);
    cancel_raise(&cc.token);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_CANCELLED);
    cancel_fini(&cc.token);

    (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, 0);
    async_start(&rig.call, do_ready, &rig); /* the connection is none the worse */
    assert_true(async_join(&rig.call));
    assert_false(guest_lost(rig.g));
    (void)w;
    (void)err;
    rig_stop(&rig);
}

static bool do_ping(void *arg, struct error *err)
{
    struct rig *rig = arg;
    const struct wait w = patience(NULL);

    return guest_ping(rig->g, &w, err);
}

static void the_end_of_the_stream_ends_every_wait(void **state)
{
    struct rig rig;
    (void)state;

    rig_start(&rig);
    async_start(&rig.call, do_ping, &rig);
    (void)fake_expect(&rig.f, WIRE_PING);
    shutdown(rig.f.fd, SHUT_RDWR);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_LOST);
    mark_wait(&rig.lost, 1);
    assert_string_equal(rig.why, "the guest ended the connection");
    assert_false(do_ping(&rig, NULL));
    assert_true(guest_lost(rig.g));
    rig_stop(&rig);
    assert_int_equal(rig.lost.count, 1);
}

static void closing_it_ends_every_wait_with_the_reason(void **state)
{
    struct rig rig;
    (void)state;

    rig_start(&rig);
    async_start(&rig.call, do_ping, &rig);
    (void)fake_expect(&rig.f, WIRE_PING);
    guest_close(rig.g, "enough");
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_LOST);
    assert_contains(rig.call.err.text, "enough");
    mark_wait(&rig.lost, 1);
    assert_false(fake_recv(&rig.f)); /* the stream is really closed */
    rig_stop(&rig);
}

static void freed_at_once_nothing_is_told(void **state)
{
    struct rig rig;
    (void)state;

    for (int i = 0; i < 50; i++) {
        rig_start_silent(&rig);
        if (i % 2)
            fake_hello(&rig.f);
        if (i % 3 == 0)
            fake_hello(&rig.f); /* a second one breaks the protocol, while it is freed */
        guest_free(rig.g);
        rig.g = NULL;
        unsigned told = rig.lost.count;
        rig_stop(&rig);
        assert_int_equal(rig.lost.count, told);
    }
}

static void a_stream_that_cannot_be_watched_is_lost(void **state)
{
    struct rig rig = { .lost = MARK_INIT };
    struct error err = ERROR_INIT;
    FILE *file = tmpfile(); /* epoll takes no regular files */
    (void)state;

    assert_non_null(file);
    loop_thread_start(&rig.lt);
    rig.g = guest_new(rig.lt.loop, dup(fileno(file)), &rig_events, &rig, &err);
    assert_ok(rig.g != NULL, err);
    mark_wait(&rig.lost, 1);
    assert_contains(rig.why, "watching the guest's stream");
    guest_free(rig.g);
    loop_thread_stop(&rig.lt);
    (void)fclose(file);
}

/* ---- one-shot requests ---- */

struct request_row {
    const char *label;
    int type;
    bool (*call)(struct guest *g, const struct wait *w, struct error *err);
    const char *want; /* the payload */
    size_t want_len;
};

static bool call_make(struct guest *g, const struct wait *w, struct error *err)
{
    return guest_make_dir(g, "/", "/a", 0755, true, w, err);
}

static bool call_move(struct guest *g, const struct wait *w, struct error *err)
{
    return guest_move(g, "/r", "/a", "/b", false, w, err);
}

static bool call_remove(struct guest *g, const struct wait *w, struct error *err)
{
    return guest_remove(g, "/", "/a", true, w, err);
}

static bool call_time(struct guest *g, const struct wait *w, struct error *err)
{
    return guest_set_time(g, 0x0102030405060708, w, err);
}

static bool call_reseed(struct guest *g, const struct wait *w, struct error *err)
{
    return guest_reseed(g, "dice", 4, w, err);
}

static bool call_name(struct guest *g, const struct wait *w, struct error *err)
{
    return guest_set_name(g, "box", "id", w, err);
}

static bool call_limit(struct guest *g, const struct wait *w, struct error *err)
{
    return guest_limit(g, 0x01020304, w, err);
}

static bool call_limit_disk(struct guest *g, const struct wait *w, struct error *err)
{
    return guest_limit_disk(g, 0x0102030405060708, w, err);
}

static const struct request_row requests[] = {
    { "make", WIRE_MAKE, call_make, "\1\0\0\0/\2\0\0\0/a\355\1\0\0\1", 16 },
    { "move", WIRE_MOVE, call_move, "\2\0\0\0/r\2\0\0\0/a\2\0\0\0/b\0", 19 },
    { "remove", WIRE_REMOVE, call_remove, "\1\0\0\0/\2\0\0\0/a\1", 12 },
    { "freeze", WIRE_FREEZE, guest_freeze, "", 0 },
    { "thaw", WIRE_THAW, guest_thaw, "", 0 },
    { "sync", WIRE_SYNC, guest_sync, "", 0 },
    { "set time", WIRE_SET_TIME, call_time, "\10\7\6\5\4\3\2\1", 8 },
    { "reseed", WIRE_RESEED, call_reseed, "dice", 4 },
    { "set name", WIRE_SET_NAME, call_name, "\3\0\0\0box\2\0\0\0id", 13 },
    { "limit", WIRE_LIMIT, call_limit, "\4\3\2\1", 4 },
    { "limit the disk", WIRE_LIMIT_DISK, call_limit_disk, "\10\7\6\5\4\3\2\1", 8 },
};

struct request_call {
    struct rig *rig;
    const struct request_row *row;
};

static bool do_request(void *arg, struct error *err)
{
    struct request_call *rc = arg;
    const struct wait w = patience(NULL);

    return rc->row->call(rc->rig->g, &w, err);
}

static void requests_say_what_is_asked_and_understand_both_answers(void **state)
{
    struct rig rig;
    (void)state;

    rig_start(&rig);
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct request_call rc = { .rig = &rig, .row = &requests[i] };

        for (uint32_t status = 0; status <= EROFS; status += EROFS) {
            uint32_t channel;
            bool ok;

            async_start(&rig.call, do_request, &rc);
            channel = fake_expect(&rig.f, requests[i].type);
            if (rig.f.h.length != requests[i].want_len ||
                memcmp(rig.f.payload, requests[i].want, requests[i].want_len) != 0)
                fail_msg("%s: another payload", requests[i].label);
            (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, status);
            ok = async_join(&rig.call);
            if (ok != (status == 0))
                fail_msg("%s: %d for status %u", requests[i].label, ok, status);
            if (!ok)
                assert_code(rig.call.err, ERR_DENIED);
        }
    }
    rig_stop(&rig);
}

struct stat_call {
    struct rig *rig;
    struct wire_stat st;
};

static bool do_stat(void *arg, struct error *err)
{
    struct stat_call *sc = arg;
    const struct wait w = patience(NULL);

    return guest_stat(sc->rig->g, "/", "/etc/hosts", true, &sc->st, &w, err);
}

static void stat_and_ping_check_their_answers(void **state)
{
    const struct wire_stat st = { 0100644, 1, 2, 3, 4 };
    uint8_t payload[40];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    struct rig rig;
    struct stat_call sc = { .rig = &rig };
    (void)state;

    rig_start(&rig);
    wire_put_u32(&o, 0);
    wire_put_stat(&o, &st);
    async_start(&rig.call, do_stat, &sc);
    (void)fake_send(&rig.f, fake_expect(&rig.f, WIRE_STAT), WIRE_REPLY, 0, payload, o.len);
    assert_ok(async_join(&rig.call), rig.call.err);
    assert_int_equal(sc.st.size, 3);

    async_start(&rig.call, do_stat, &sc);
    (void)fake_send(&rig.f, fake_expect(&rig.f, WIRE_STAT), WIRE_REPLY, 0, payload, o.len - 1);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_PROTOCOL);

    async_start(&rig.call, do_stat, &sc);
    (void)fake_send_u32(&rig.f, fake_expect(&rig.f, WIRE_STAT), WIRE_REPLY, 0, ENOENT);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_NOT_FOUND);
    assert_contains(rig.call.err.text, "/etc/hosts");

    async_start(&rig.call, do_stat, &sc);
    (void)fake_send_u32(&rig.f, fake_expect(&rig.f, WIRE_STAT), WIRE_REPLY, 0, 0xffffffff);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_IO);

    async_start(&rig.call, do_ping, &rig);
    (void)fake_send_u32(&rig.f, fake_expect(&rig.f, WIRE_PING), WIRE_REPLY, 0, 0);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_PROTOCOL);
    rig_stop(&rig);
}

static void paths_are_checked_before_they_are_sent(void **state)
{
    char path[WIRE_PATH_MAX + 2];
    const struct wait w = patience(NULL);
    struct wire_stat st;
    struct rig rig;
    (void)state;

    rig_start(&rig);
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = '\0';
    for (int i = 0; i < 2; i++) {
        struct error err = ERROR_INIT;

        assert_false(guest_stat(rig.g, "/", i ? path : "", false, &st, &w, &err));
        assert_code(err, ERR_INVALID);
    }
    rig_stop(&rig);
}

static void shutdown_is_asked_for_without_waiting(void **state)
{
    struct rig rig;
    (void)state;

    rig_start(&rig);
    guest_shutdown(rig.g);
    (void)fake_send_u32(&rig.f, fake_expect(&rig.f, WIRE_SHUTDOWN), WIRE_REPLY, 0, 0);
    shutdown(rig.f.fd, SHUT_RDWR);
    mark_wait(&rig.lost, 1);
    guest_shutdown(rig.g);
    rig_stop(&rig);
}

/* ---- a guest that does not read ---- */

static void a_guest_that_does_not_read_is_not_queued_for_without_end(void **state)
{
    static char path[4000];
    const int asked = 1000;
    int came = 0;
    struct rig rig;
    (void)state;

    rig_start(&rig);
    memset(path, 'x', sizeof path - 1);
    for (int i = 0; i < asked; i++) {
        const struct wait now = { .deadline_ns = clock_now_ns() + CLOCK_NS_PER_MS / 10 };
        struct error err = ERROR_INIT;
        struct wire_stat st;

        assert_false(guest_stat(rig.g, "/", path, false, &st, &now, &err));
        assert_code(err, ERR_TIMEOUT);
    }
    /* What was taken arrives when it reads at last, and what did not fit was never queued. */
    async_start(&rig.call, do_ping, &rig);
    while (fake_recv(&rig.f) && rig.f.h.type == WIRE_STAT)
        came++;
    assert_int_equal(rig.f.h.type, WIRE_PING);
    if (came < 200 || came > asked / 2)
        fail_msg("%d of %d were queued", came, asked);
    guest_close(rig.g, "enough");
    assert_false(async_join(&rig.call));
    rig_stop(&rig);
}

/* ---- without memory ---- */

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct loop_thread lt;
        struct puppet puppet;
        const struct wait w = patience(NULL);
        struct guest *g = NULL;
        bool ok;
        int fd;

        fault_disarm();
        loop_thread_start(&lt);
        fd = puppet_start(&puppet);
        fault_arm(n);
        g = guest_new(lt.loop, fd, &(struct guest_events){ .on_lost = NULL }, NULL, &err);
        ok = g && guest_ready(g, &w, &err) && guest_ping(g, &w, &err);
        FAULT_DONE(n);
        if (!ok && err.code != ERR_NOMEM && err.code != ERR_LOST)
            fail_msg("allocation %u: %s", n, err.text);
        if (ok != n_last)
            fail_msg("allocation %u: succeeded without it", n);
        if (g)
            guest_free(g);
        else
            fd_close(fd);
        puppet_join(&puppet);
        loop_thread_stop(&lt);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_ready_when_hello_has_come),
        cmocka_unit_test(waiting_ends_with_the_deadline),
        cmocka_unit_test(waiting_ends_with_the_token_and_the_late_reply_is_dropped),
        cmocka_unit_test(the_end_of_the_stream_ends_every_wait),
        cmocka_unit_test(closing_it_ends_every_wait_with_the_reason),
        cmocka_unit_test(freed_at_once_nothing_is_told),
        cmocka_unit_test(a_stream_that_cannot_be_watched_is_lost),
        cmocka_unit_test(requests_say_what_is_asked_and_understand_both_answers),
        cmocka_unit_test(stat_and_ping_check_their_answers),
        cmocka_unit_test(paths_are_checked_before_they_are_sent),
        cmocka_unit_test(shutdown_is_asked_for_without_waiting),
        cmocka_unit_test(a_guest_that_does_not_read_is_not_queued_for_without_end),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
