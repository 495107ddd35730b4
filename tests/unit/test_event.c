#include "kernel/event.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "tests/support/check.h"

static void count_wake(void *arg)
{
    ++*(int *)arg;
}

static void reaches_those_who_asked_for_the_topic(void **state)
{
    static const struct {
        const char *asked;
        bool gets;
    } rows[] = {
        { "*", true },
        { "syscall.*", true },
        { "syscall.done", true },
        { "syscall.don", false },
        { "syscall.done.", false },
        { "computer.*", false },
        { "syscall.done*", true },
    };
    struct error err = ERROR_INIT;
    CLEANUP(event_bus_freep) struct event_bus *bus = event_bus_new(&err);
    (void)state;

    assert_ok(bus, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct event_sub *sub = event_subscribe(bus, rows[i].asked, NULL, NULL, &err);
        struct event event;
        uint64_t dropped = 9;
        bool got;

        assert_ok(sub, err);
        event_publish(bus, "syscall.done", "a", "terminal_run", "took %d ms", 3);
        got = event_next(sub, &event, &dropped);
        if (got != rows[i].gets || dropped != 0)
            fail_msg("%s", rows[i].asked);
        if (got) {
            assert_string_equal(event.topic, "syscall.done");
            assert_string_equal(event.agent, "a");
            assert_string_equal(event.subject, "terminal_run");
            assert_string_equal(event.text, "took 3 ms");
            assert_true(event.wall_ns > 0);
            assert_false(event_next(sub, &event, &dropped));
        }
        event_unsubscribe(sub);
    }
}

static void publishing_to_nobody_is_nothing(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(event_bus_freep) struct event_bus *bus = event_bus_new(&err);
    (void)state;

    assert_ok(bus, err);
    event_publish(bus, "a", NULL, NULL, "x");
    event_publish(NULL, "a", NULL, NULL, "x");
    event_unsubscribe(NULL);
}

static void wakes_only_when_the_queue_was_empty(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(event_bus_freep) struct event_bus *bus = event_bus_new(&err);
    struct event_sub *sub;
    struct event event;
    uint64_t dropped;
    int wakes = 0;
    (void)state;

    assert_ok(bus, err);
    sub = event_subscribe(bus, "t", count_wake, &wakes, &err);
    assert_ok(sub, err);
    for (int i = 0; i < 3; i++)
        event_publish(bus, "t", NULL, NULL, "%d", i);
    assert_int_equal(wakes, 1);
    while (event_next(sub, &event, &dropped))
        continue;
    event_publish(bus, "t", NULL, NULL, "again");
    assert_int_equal(wakes, 2);
    event_unsubscribe(sub);
}

static void drops_the_oldest_of_a_slow_subscriber_and_counts(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(event_bus_freep) struct event_bus *bus = event_bus_new(&err);
    struct event_sub *sub;
    struct event event;
    uint64_t dropped = 0;
    char want[16];
    (void)state;

    assert_ok(bus, err);
    sub = event_subscribe(bus, "*", NULL, NULL, &err);
    assert_ok(sub, err);
    for (unsigned i = 0; i < LIMIT_EVENT_QUEUE + 7; i++)
        event_publish(bus, "t", NULL, NULL, "%u", i);
    for (unsigned i = 7; i < LIMIT_EVENT_QUEUE + 7; i++) {
        assert_true(event_next(sub, &event, &dropped));
        assert_int_equal(dropped, i == 7 ? 7 : 0);
        (void)snprintf(want, sizeof want, "%u", i);
        assert_string_equal(event.text, want);
    }
    assert_false(event_next(sub, &event, &dropped));
    event_unsubscribe(sub);
}

static void cuts_long_text_between_characters(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(event_bus_freep) struct event_bus *bus = event_bus_new(&err);
    struct event_sub *sub;
    struct event event;
    uint64_t dropped;
    char text[600];
    (void)state;

    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = "\xe2\x82\xac"[i % 3];
    text[sizeof text - 3] = '\0';
    assert_ok(bus, err);
    sub = event_subscribe(bus, "*", NULL, NULL, &err);
    assert_ok(sub, err);
    event_publish(bus, "t", text, text, "%s", text);
    assert_true(event_next(sub, &event, &dropped));
    assert_true(utf8_valid(event.text, strlen(event.text)) && strlen(event.text) > 250);
    assert_true(utf8_valid(event.agent, strlen(event.agent)) && strlen(event.agent) > 60);
    assert_true(utf8_valid(event.subject, strlen(event.subject)) && strlen(event.subject) > 120);
    event_unsubscribe(sub);
}

static void refuses_topics_out_of_range(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(event_bus_freep) struct event_bus *bus = event_bus_new(&err);
    (void)state;

    assert_ok(bus, err);
    assert_null(event_subscribe(bus, "", NULL, NULL, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    assert_null(event_subscribe(bus, "a.topic.that.is.longer.than.any.is", NULL, NULL, &err));
    assert_code(err, ERR_INVALID);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(event_bus_freep) struct event_bus *bus = event_bus_new(&err);
        struct event_sub *sub = bus ? event_subscribe(bus, "*", NULL, NULL, &err) : NULL;
        uint64_t dropped = 0, lost = 0;
        struct event event;
        int got = 0;

        if (sub) {
            for (int i = 0; i < 20; i++)
                event_publish(bus, "t", NULL, NULL, "x");
        }
        FAULT_DONE(n);
        if (!sub) {
            assert_code(err, ERR_NOMEM);
            continue;
        }
        while (event_next(sub, &event, &dropped)) {
            lost += dropped;
            got++;
        }
        assert_int_equal(got + (int)lost, 20); /* without memory some are lost, and counted */
        event_unsubscribe(sub);
    }
}

enum { PUBLISHERS = 4, EVENTS = 500 };

static void *publish_many(void *arg)
{
    for (int i = 0; i < EVENTS; i++)
        event_publish(arg, "t.x", "a", "s", "%d", i);
    return NULL;
}

static void every_event_is_got_or_counted(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(event_bus_freep) struct event_bus *bus = event_bus_new(&err);
    struct event_sub *sub, *other;
    pthread_t threads[PUBLISHERS];
    uint64_t seen = 0, dropped;
    struct event event;
    (void)state;

    assert_ok(bus, err);
    sub = event_subscribe(bus, "t.*", NULL, NULL, &err);
    assert_ok(sub, err);
    for (int i = 0; i < PUBLISHERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, publish_many, bus), 0);
    for (int i = 0; i < 50; i++) { /* others come and go meanwhile */
        other = event_subscribe(bus, "*", NULL, NULL, &err);
        assert_ok(other, err);
        if (event_next(sub, &event, &dropped))
            seen++;
        seen += dropped;
        event_unsubscribe(other);
    }
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_join(threads[i], NULL);
    while (event_next(sub, &event, &dropped))
        seen += 1 + dropped;
    assert_int_equal(seen, PUBLISHERS * EVENTS);
    event_unsubscribe(sub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reaches_those_who_asked_for_the_topic),
        cmocka_unit_test(publishing_to_nobody_is_nothing),
        cmocka_unit_test(wakes_only_when_the_queue_was_empty),
        cmocka_unit_test(drops_the_oldest_of_a_slow_subscriber_and_counts),
        cmocka_unit_test(cuts_long_text_between_characters),
        cmocka_unit_test(refuses_topics_out_of_range),
        cmocka_unit_test(survives_every_allocation_failure),
        cmocka_unit_test(every_event_is_got_or_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
