#include "tests/support/check.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "vmctl/qmp.h"
#include "vmctl/qmp_message.h"

#define PATIENCE_MS 20000 /* nothing takes that long; it only ends what hangs */
#define SHORT_MS    300   /* in which what is asked has been sent */
#define STEPS       24

#define GREETING                                                                       \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, " \
    "\"package\": "                                                                    \
    "\"\"}, \"capabilities\": [\"oob\"]}}\r\n"
#define AGREED "{\"return\": {}, \"id\": 0}\r\n"

/* ---- a QEMU that plays a script on a thread of its own ---- */

struct step {
    const char *expect; /* a line that holds this is read first; NULL: none is awaited */
    const char *reply;  /* "$" stands for the id of the line that came last */
    size_t piece;       /* bytes sent at a time; 0: all at once */
    int times;          /* 0: once */
    bool hold;          /* says nothing more, and stays */
};

struct fake {
    int fd;
    pthread_t thread;
    const struct step *steps;
    char in[8192];
    size_t len;
    int got_fd; /* the descriptor that came with a line */
    char wrong[512];
};

static bool fake_line(struct fake *f, char *line, size_t size)
{
    for (;;) {
        char *end = memchr(f->in, '\n', f->len);
        struct pollfd p = { .fd = f->fd, .events = POLLIN };
        size_t fds = 0;
        int fd = -1;
        ssize_t n;

        if (end) {
            size_t len = (size_t)(end - f->in);

            snprintf(line, size, "%.*s", (int)len, f->in);
            memmove(f->in, end + 1, f->len - len - 1);
            f->len -= len + 1;
            return true;
        }
        if (poll(&p, 1, PATIENCE_MS) <= 0)
            return false;
        n = fd_recv(f->fd, f->in + f->len, sizeof f->in - f->len, &fd, 1, &fds, NULL);
        if (n <= 0)
            return false;
        if (fds)
            f->got_fd = fd;
        f->len += (size_t)n;
    }
}

static bool fake_send(struct fake *f, const char *text, const char *id, size_t piece)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    size_t at = 0;

    for (; *text; text++)
        (void)(*text == '$' ? buf_append_str(&out, id) : buf_append_char(&out, *text));
    while (at < out.len) {
        size_t n = piece ? MIN(piece, out.len - at) : out.len - at;

        if (!fd_send(f->fd, out.data + at, n, NULL, 0, NULL))
            return false;
        at += n;
    }
    return true;
}

static void *fake_main(void *arg)
{
    struct fake *f = arg;
    char line[8192], id[24] = "0";

    for (const struct step *s = f->steps; s->expect || s->reply || s->hold; s++) {
        while (s->hold && fake_line(f, line, sizeof line))
            continue;
        if (s->expect) {
            const char *found;

            if (!fake_line(f, line, sizeof line)) {
                snprintf(f->wrong, sizeof f->wrong, "no line with %s", s->expect);
                break;
            }
            if (!strstr(line, s->expect)) {
                snprintf(f->wrong, sizeof f->wrong, "wanted %s, got %.300s", s->expect, line);
                break;
            }
            found = strstr(line, "\"id\":");
            if (found)
                snprintf(id, sizeof id, "%.*s", (int)strspn(found + 5, "0123456789"), found + 5);
        }
        for (int i = 0; s->reply && i < MAX(s->times, 1); i++) {
            if (!fake_send(f, s->reply, id, s->piece))
                return NULL; /* we were hung up on */
        }
    }
    (void)shutdown(f->fd, SHUT_WR);
    return NULL;
}

struct world {
    struct loop *loop;
    struct qmp *q;
    struct fake fake;
    unsigned lost, events;
    char why[200];
};

static void on_event(void *arg, const char *name, const json_t *data)
{
    struct world *w = arg;

    (void)name;
    (void)data;
    w->events++;
}

static void on_lost(void *arg, const char *why)
{
    struct world *w = arg;

    w->lost++;
    snprintf(w->why, sizeof w->why, "%s", why);
}

static const struct qmp_hooks hooks = { .on_event = on_event, .on_lost = on_lost };

static struct wait within_ms(int ms)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + ms * CLOCK_NS_PER_MS };
}

static void world_open(struct world *w, const struct step *steps)
{
    struct error err = ERROR_INIT;
    int pair[2];

    *w = (struct world){ .fake = { .steps = steps, .got_fd = -1 } };
    w->loop = loop_new(&err);
    assert_ok(w->loop, err);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    w->fake.fd = pair[1];
    assert_int_equal(pthread_create(&w->fake.thread, NULL, fake_main, &w->fake), 0);
    w->q = qmp_new(w->loop, pair[0], &hooks, w, &err);
    assert_ok(w->q, err);
}

static void world_close(struct world *w)
{
    qmp_free(w->q);
    w->q = NULL;
    while (loop_turn(w->loop, 0), false)
        continue;
    loop_free(w->loop);
    (void)shutdown(w->fake.fd, SHUT_RD); /* the script need not have been played to its end */
    pthread_join(w->fake.thread, NULL);
    fd_close(w->fake.fd);
    fd_close(w->fake.got_fd);
}

static void world_done(struct world *w)
{
    world_close(w);
    if (w->fake.wrong[0])
        fail_msg("the script: %s", w->fake.wrong);
}

#define HANDSHAKE                                     \
    { .reply = GREETING },                            \
    {                                                 \
        .expect = "qmp_capabilities", .reply = AGREED \
    }

/* ---- what goes well ---- */

static void agrees_on_capabilities_and_tells_the_version(void **state)
{
    static const struct step steps[] = {
        { .reply = GREETING },
        { .expect =
              "{\"execute\":\"qmp_capabilities\",\"id\":0,\"arguments\":{\"enable\":[\"oob\"]}}",
          .reply = AGREED },
        { 0 },
    };
    struct error err = ERROR_INIT;
    struct world w;
    struct wait wait = within_ms(PATIENCE_MS);
    (void)state;

    world_open(&w, steps);
    assert_ok(qmp_ready(w.q, &wait, &err), err);
    assert_string_equal(qmp_version(w.q), "7.2.22");
    world_done(&w);
}

static void commands_get_their_answers_however_these_are_cut(void **state)
{
    for (size_t piece = 0; piece < 4; piece++) {
        const struct step steps[] = {
            { .reply = GREETING, .piece = piece },
            { .expect = "qmp_capabilities", .reply = AGREED, .piece = piece },
            { .expect = "{\"execute\":\"query-status\",\"id\":1}",
              .reply = "{\"event\": \"STOP\", \"timestamp\": {}}\r\n"
                       "{\"return\": {\"running\": true}, \"id\": $}\r\n",
              .piece = piece },
            { .expect = "\"arguments\":{\"device\":\"x\"}",
              .reply =
                  "{\"id\": $, \"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no x\"}}\n",
              .piece = piece },
            { 0 },
        };
        struct wait wait = within_ms(PATIENCE_MS);
        struct error err = ERROR_INIT;
        json_t *data = NULL;
        struct world w;

        (void)state;
        world_open(&w, steps);
        assert_ok(qmp_call(w.q, "query-status", NULL, &data, &wait, &err), err);
        assert_true(json_is_true(json_object_get(data, "running")));
        json_decref(data);
        assert_int_equal(w.events, 1);
        assert_false(qmp_call(w.q, "eject", json_pack("{s:s}", "device", "x"), NULL, &wait, &err));
        assert_code(err, ERR_NOT_FOUND);
        assert_contains(err.text, "eject: no x");
        world_done(&w);
    }
}

static void out_of_band_where_it_is_offered(void **state)
{
    static const struct step with[] = {
        HANDSHAKE,
        { .expect = "{\"exec-oob\":\"migrate-pause\"", .reply = "{\"return\": {}, \"id\": $}\n" },
        { 0 },
    };
    static const struct step without[] = {
        { .reply =
              "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 0, \"major\": 8}}, "
              "\"capabilities\": []}}\n" },
        { .expect = "{\"execute\":\"qmp_capabilities\",\"id\":0}", .reply = AGREED },
        { .expect = "{\"execute\":\"migrate-pause\"", .reply = "{\"return\": {}, \"id\": $}\n" },
        { 0 },
    };
    const struct step *const scripts[] = { with, without };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        struct wait wait = within_ms(PATIENCE_MS);
        struct error err = ERROR_INIT;
        struct world w;

        world_open(&w, scripts[i]);
        assert_ok(qmp_call_oob(w.q, "migrate-pause", NULL, NULL, &wait, &err), err);
        world_done(&w);
    }
}

static void a_descriptor_goes_with_its_command(void **state)
{
    static const struct step steps[] = {
        HANDSHAKE,
        { .expect = "{\"execute\":\"getfd\",\"id\":1,\"arguments\":{\"fdname\":\"state\"}}",
          .reply = "{\"return\": {}, \"id\": $}\n" },
        { 0 },
    };
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    char text[8] = "";
    struct world w;
    int fd = memfd_create("test", MFD_CLOEXEC);
    (void)state;

    assert_int_equal(write(fd, "state", 5), 5);
    world_open(&w, steps);
    assert_ok(qmp_pass_fd(w.q, "state", fd, &wait, &err), err);
    assert_true(w.fake.got_fd >= 0);
    assert_int_equal(pread(w.fake.got_fd, text, sizeof text, 0), 5);
    assert_string_equal(text, "state");
    fd_close(fd);
    world_done(&w);
}

static void events_are_kept_for_who_asks_later(void **state)
{
    static const struct step steps[] = {
        HANDSHAKE,
        { .reply =
              "{\"event\": \"STOP\"}\n{\"event\": \"MIGRATION\", \"data\": {\"status\": "
              "\"setup\"}}\n{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\n" },
        { 0 },
    };
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    uint64_t mark;
    json_t *data = NULL;
    struct world w;
    (void)state;

    world_open(&w, steps);
    mark = qmp_event_mark(w.q);
    assert_ok(qmp_await(w.q, &mark, "MIGRATION", &data, &wait, &err), err);
    assert_string_equal(json_string_value(json_object_get(data, "status")), "setup");
    json_decref(data);
    assert_ok(qmp_await(w.q, &mark, "MIGRATION", &data, &wait, &err), err);
    assert_string_equal(json_string_value(json_object_get(data, "status")), "completed");
    json_decref(data);
    assert_false(qmp_await(w.q, &mark, "MIGRATION", NULL, &wait, &err));
    assert_code(err, ERR_LOST);
    world_done(&w);
}

/* ---- what goes wrong ---- */

static void a_late_answer_is_dropped_and_the_next_is_right(void **state)
{
    static const struct step steps[] = {
        HANDSHAKE,
        { .expect = "\"one\"" },
        { .expect = "\"two\"",
          .reply = "{\"return\": \"late\", \"id\": 1}\n{\"return\": \"twice\", \"id\": 1}\n"
                   "{\"return\": \"right\", \"id\": $}\n" },
        { 0 },
    };
    struct wait wait = within_ms(PATIENCE_MS), brief;
    struct error err = ERROR_INIT;
    json_t *data = NULL;
    struct world w;
    (void)state;

    world_open(&w, steps);
    assert_ok(qmp_ready(w.q, &wait, &err), err);
    brief = within_ms(SHORT_MS);
    assert_false(qmp_call(w.q, "one", NULL, &data, &brief, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_contains(err.text, "one");
    error_clear(&err);
    assert_ok(qmp_call(w.q, "two", NULL, &data, &wait, &err), err);
    assert_string_equal(json_string_value(data), "right");
    json_decref(data);
    world_done(&w);
}

static void what_is_no_protocol_ends_the_connection(void **state)
{
    static const struct {
        const char *label;
        struct step steps[4];
        const char *why;
    } rows[] = {
        { "no greeting", { { .reply = "{\"return\": {}, \"id\": 0}\n" } }, "no greeting" },
        { "not JSON", { { .reply = "QMP 7.2\n" } }, "no message" },
        { "not an object", { { .reply = "[]\n" } }, "no message" },
        { "none of the shapes", { { .reply = "{\"what\": 1}\n" } }, "no message" },
        { "a version of words",
          { { .reply = "{\"QMP\": {\"version\": \"7\"}}\n" } },
          "no message" },
        { "two greetings", { { .reply = GREETING GREETING } }, "a second greeting" },
        { "an answer to nothing",
          { HANDSHAKE, { .reply = "{\"return\": {}, \"id\": 77}\n" } },
          "not given" },
        { "an answer without id", { HANDSHAKE, { .reply = "{\"return\": {}}\n" } }, "no message" },
        { "an id that is no number",
          { HANDSHAKE, { .reply = "{\"return\": {}, \"id\": \"x\"}\n" } },
          "no message" },
        { "an error without id",
          { HANDSHAKE, { .reply = "{\"error\": {\"class\": \"G\", \"desc\": \"x\"}}\n" } },
          "answers no command" },
        { "capabilities refused",
          { { .reply = GREETING },
            { .expect = "qmp_cap",
              .reply = "{\"id\": 0, \"error\": {\"class\": \"G\", \"desc\": \"x\"}}\n" } },
          "refused the capabilities" },
        { "it ends", { HANDSHAKE }, "ended the connection" },
        { "it ends before it began", { { .reply = "" } }, "ended the connection" },
        { "half a line, and the end", { { .reply = "{\"QMP\": {" } }, "ended the connection" },
        { "a line without end",
          { { .reply = "{{{{{{{{{{{{{{{{", .times = 100000 } },
          "without end" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct wait wait = within_ms(PATIENCE_MS);
        struct error err = ERROR_INIT;
        uint64_t mark;
        struct world w;

        world_open(&w, rows[i].steps);
        mark = qmp_event_mark(w.q);
        if (qmp_await(w.q, &mark, "NEVER", NULL, &wait, &err) || err.code != ERR_LOST ||
            !strstr(err.text, rows[i].why))
            fail_msg("%s: %s", rows[i].label, err.text);
        error_clear(&err);
        assert_false(qmp_call(w.q, "query-status", NULL, NULL, &wait, &err));
        assert_code(err, ERR_LOST);
        loop_turn(w.loop, 0);
        if (w.lost != 1 || !strstr(w.why, rows[i].why))
            fail_msg("%s: told %u times: %s", rows[i].label, w.lost, w.why);
        world_done(&w);
    }
}

static void a_qemu_that_never_answers_costs_the_deadline(void **state)
{
    static const struct step steps[] = { { .hold = true }, { 0 } };
    struct wait wait = within_ms(SHORT_MS);
    struct error err = ERROR_INIT;
    struct world w;
    (void)state;

    world_open(&w, steps);
    assert_false(qmp_ready(w.q, &wait, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    wait = within_ms(SHORT_MS);
    assert_false(qmp_call(w.q, "stop", NULL, NULL, &wait, &err));
    assert_code(err, ERR_TIMEOUT);
    world_close(&w);
}

static void a_flood_of_events_keeps_the_youngest(void **state)
{
    static const struct step steps[] = {
        HANDSHAKE,
        { .reply = "{\"event\": \"FIRST\"}\n" },
        { .reply = "{\"event\": \"NOISE\", \"data\": {\"a\": [1, 2, 3]}}\n", .times = 5000 },
        { .reply = "{\"event\": \"LAST\"}\n" },
        { 0 },
    };
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    uint64_t mark, from;
    json_t *data = NULL;
    struct world w;
    (void)state;

    world_open(&w, steps);
    from = mark = qmp_event_mark(w.q);
    assert_ok(qmp_await(w.q, &mark, "LAST", &data, &wait, &err), err);
    assert_true(json_is_null(data));
    assert_int_equal(w.events, 5002);
    assert_false(qmp_await(w.q, &from, "FIRST", NULL, &wait, &err)); /* long forgotten */
    assert_code(err, ERR_LOST);
    world_done(&w);
}

static void a_descriptor_waits_for_the_one_before_it(void **state)
{
    static const struct step steps[] = {
        HANDSHAKE,
        { .expect = "\"a\"" },
        { .expect = "\"look\"",
          .reply = "{\"return\": {}, \"id\": 1}\n{\"return\": {}, \"id\": $}\n" },
        { .expect = "\"c\"", .reply = "{\"return\": {}, \"id\": $}\n" },
        { 0 },
    };
    struct wait wait = within_ms(PATIENCE_MS), brief;
    struct error err = ERROR_INIT;
    struct world w;
    int fd = memfd_create("test", MFD_CLOEXEC);
    (void)state;

    world_open(&w, steps);
    assert_ok(qmp_ready(w.q, &wait, &err), err);
    for (int i = 0; i < 2; i++) { /* the second one is not even sent */
        brief = within_ms(SHORT_MS);
        assert_false(qmp_pass_fd(w.q, i ? "b" : "a", fd, &brief, &err));
        assert_code(err, ERR_TIMEOUT);
        error_clear(&err);
    }
    assert_ok(qmp_call(w.q, "look", NULL, NULL, &wait, &err), err);
    assert_ok(qmp_pass_fd(w.q, "c", fd, &wait, &err), err);
    fd_close(fd);
    world_done(&w);
}

static void *raise_soon(void *arg)
{
    cancel_raise(arg);
    return NULL;
}

static void cancelling_ends_a_wait(void **state)
{
    static const struct step steps[] = { HANDSHAKE, { .hold = true }, { 0 } };
    struct wait wait = within_ms(PATIENCE_MS);
    struct error err = ERROR_INIT;
    struct cancel token;
    pthread_t thread;
    struct world w;
    (void)state;

    cancel_init(&token);
    world_open(&w, steps);
    assert_ok(qmp_ready(w.q, &wait, &err), err);
    wait.cancel = &token;
    assert_int_equal(pthread_create(&thread, NULL, raise_soon, &token), 0);
    assert_false(qmp_call(w.q, "never", NULL, NULL, &wait, &err));
    assert_code(err, ERR_CANCELLED);
    pthread_join(thread, NULL);
    world_close(&w);
    cancel_fini(&token);
}

/* Whatever fails, there is an answer, and nothing is left behind. */
static void survives_every_allocation_failure(void **state)
{
    static const struct step steps[] = {
        HANDSHAKE,
        { .expect = "\"getfd\"",
          .reply = "{\"event\": \"E\", \"data\": {}}\n{\"return\": {}, \"id\": $}\n" },
        { 0 },
    };
    (void)state;

    FAULT_EACH(n)
    {
        struct wait wait = within_ms(PATIENCE_MS);
        struct error err = ERROR_INIT;
        bool ok = false, met;
        int pair[2];
        struct world w = { .fake = { .steps = steps, .got_fd = -1 } };

        /* Everything else is made before, as it allocates, too. */
        fault_disarm();
        w.loop = loop_new(NULL);
        assert_non_null(w.loop);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        w.fake.fd = pair[1];
        fault_arm(n);
        w.q = qmp_new(w.loop, pair[0], &hooks, &w, &err);
        if (w.q) {
            assert_int_equal(pthread_create(&w.fake.thread, NULL, fake_main, &w.fake), 0);
            ok = qmp_pass_fd(w.q, "f", pair[1], &wait, &err);
        }
        met = fault_disarm();
        n_last = !met;
        if (!met)
            assert_ok(ok, err);
        else if (!ok && err.code != ERR_NOMEM && err.code != ERR_LOST)
            fail_msg("allocation %u: %s", n, err.text);
        if (w.q) {
            world_close(&w);
        } else {
            loop_free(w.loop);
            fd_close(pair[0]);
            fd_close(pair[1]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_on_capabilities_and_tells_the_version),
        cmocka_unit_test(commands_get_their_answers_however_these_are_cut),
        cmocka_unit_test(out_of_band_where_it_is_offered),
        cmocka_unit_test(a_descriptor_goes_with_its_command),
        cmocka_unit_test(events_are_kept_for_who_asks_later),
        cmocka_unit_test(a_late_answer_is_dropped_and_the_next_is_right),
        cmocka_unit_test(what_is_no_protocol_ends_the_connection),
        cmocka_unit_test(a_qemu_that_never_answers_costs_the_deadline),
        cmocka_unit_test(a_flood_of_events_keeps_the_youngest),
        cmocka_unit_test(a_descriptor_waits_for_the_one_before_it),
        cmocka_unit_test(cancelling_ends_a_wait),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
