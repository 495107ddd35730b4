#include "tests/unit/computers_world.h"

static int begin(void **state)
{
    (void)state;
    world_start("{}");
    return 0;
}

static int end(void **state)
{
    (void)state;
    clock_real();
    world_end();
    return 0;
}

/* As if its guest had died. */
static void lose(struct computer *c)
{
    (void)shutdown(((struct toy *)c)->hand, SHUT_RDWR);
}

/* ---- lost ---- */

static void a_lost_computer_is_gone_and_says_why(void **state)
{
    struct error err = ERROR_INIT;
    struct computer *c = get(world.alice, NULL, &err), *again;
    struct event event;
    struct ear ear;
    (void)state;

    assert_ok(c != NULL, err);
    ear_open(&ear, "computer.*");
    lose(c);
    event = ear_next(&ear);
    assert_string_equal(event.topic, "computer.lost");
    assert_string_equal(event.agent, "alice");
    assert_string_equal(event.subject, computer_id(c));
    assert_null(get(world.alice, computer_id(c), &err));
    assert_code(err, ERR_LOST);
    assert_contains(err.text, "is gone: ");
    assert_contains(err.text, event.text);
    assert_int_equal(noted(computer_id(c), " lost "), 1);
    assert_int_equal(computers_count(world.cs), 0);
    error_clear(&err);
    again = get(world.alice, NULL, &err);
    assert_ok(again != NULL, err);
    assert_ptr_not_equal(again, c);
    event_unsubscribe(ear.sub);
    computer_unref(c);
    computer_unref(again);
}

static void runs_of_a_lost_computer_can_still_be_read(void **state)
{
    struct computer *c = make(world.alice), *kept = NULL;
    struct run *run = start(c, "hang"), *found;
    struct error err = ERROR_INIT;
    struct run_info info;
    struct ear ear;
    (void)state;

    ear_open(&ear, "computer.lost");
    assert_ok(computers_run_add(world.cs, world.alice, run, &err), err);
    lose(c);
    (void)ear_next(&ear);
    found = computers_run_get(world.cs, world.alice, run_id(run), &err);
    assert_ok(found == run, err);
    run_info(found, &info);
    assert_int_equal(info.reason, RUN_LOST);
    run_unref(found);
    /* Of the last few only. */
    for (unsigned i = 0; i < COMPUTERS_ENDED_RUNS; i++) {
        struct run *other;

        kept = make(world.alice);
        other = start(kept, "hang");
        assert_ok(computers_run_add(world.cs, world.alice, other, &err), err);
        lose(kept);
        (void)ear_next(&ear);
        run_unref(other);
        computer_unref(kept);
    }
    computers_free(STEAL(world.cs)); /* waits for the one that tidies up */
    event_unsubscribe(ear.sub);
    run_unref(run);
    computer_unref(c);
    event_bus_free(world.bus);
    config_free(world.config);
    world_registry("{}");
}

/* ---- idle ---- */

/* The clock that was turned wakes nobody. */
static void look_again(void)
{
    pthread_mutex_lock(&world.cs->lock);
    assert_true(computers_reaper_by_locked(world.cs, 0, NULL));
    pthread_mutex_unlock(&world.cs->lock);
}

static void an_idle_computer_ends_and_a_busy_one_does_not(void **state)
{
    const struct computers_request request = { .idle_ns = 20 * CLOCK_NS_PER_S };
    const struct computers_request never = { .idle_ns = CLOCK_NEVER };
    int64_t now_ns = clock_now_ns();
    struct computer *busy, *eternal, *idle, *found;
    struct error err = ERROR_INIT;
    struct event event;
    struct run *run;
    struct ear ear;
    (void)state;

    /* Time stands still until all is in place. */
    clock_fake(now_ns);
    busy = make_with(world.alice, &request);
    eternal = make_with(world.alice, &never);
    run = start(busy, "hang");
    assert_ok(computers_run_add(world.cs, world.alice, run, &err), err);
    ear_open(&ear, "computer.destroyed");
    clock_fake(now_ns + 3600 * CLOCK_NS_PER_S);
    idle = make_with(world.alice, &request);
    clock_fake(now_ns + 7200 * CLOCK_NS_PER_S);
    look_again();

    event = ear_next(&ear); /* the busy one, which is older, was looked at before */
    assert_string_equal(event.subject, computer_id(idle));
    assert_string_equal(event.text, "it was idle for 20 s");
    assert_int_equal(noted(computer_id(idle), "destroyed it was idle for 20 s"), 1);
    assert_null(get(world.alice, computer_id(idle), &err));
    assert_code(err, ERR_LOST);
    assert_contains(err.text, "is gone: it was idle for 20 s;");
    error_clear(&err);
    found = get(world.alice, computer_id(busy), &err);
    assert_ok(found == busy, err);
    computer_unref(found);
    found = get(world.alice, computer_id(eternal), &err);
    assert_ok(found == eternal, err);
    computer_unref(found);

    event_unsubscribe(ear.sub);
    clock_real();
    run_unref(run);
    computer_unref(busy);
    computer_unref(eternal);
    computer_unref(idle);
}

static void what_runs_is_told_in_the_list(void **state)
{
    struct computer *c = make(world.alice);
    struct run *live = start(c, "hang"), *done = start(c, "true");
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    json_t *list, *row;
    (void)state;

    assert_ok(run_wait(done, 0, NULL, &w, &err), err);
    assert_ok(computers_run_add(world.cs, world.alice, live, &err), err);
    assert_ok(computers_run_add(world.cs, world.alice, done, &err), err);
    list = computers_list(world.cs, world.alice, &err);
    assert_ok(list != NULL, err);
    row = json_array_get(list, 0);
    assert_int_equal(json_integer_value(json_object_get(row, "runs_live")), 1);
    assert_string_equal(json_string_value(json_object_get(row, "state")), "running");
    json_decref(list);
    run_unref(live);
    run_unref(done);
    computer_unref(c);
}

/* ---- runs ---- */

static void a_run_works_for_its_agent_alone(void **state)
{
    struct computer *c = make(world.alice);
    struct run *run = start(c, "true"), *found;
    struct error err = ERROR_INIT;
    (void)state;

    assert_false(computers_run_add(world.cs, world.bob, run, &err));
    assert_code(err, ERR_LOST);
    error_clear(&err);
    assert_ok(computers_run_add(world.cs, world.alice, run, &err), err);
    found = computers_run_get(world.cs, world.alice, run_id(run), &err);
    assert_ok(found == run, err);
    run_unref(found);
    assert_null(computers_run_get(world.cs, world.bob, run_id(run), &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "call terminal_run");
    error_clear(&err);
    assert_ok(computers_destroy(world.cs, world.alice, computer_id(c), &err), err);
    assert_null(computers_run_get(world.cs, world.alice, run_id(run), &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    assert_false(computers_run_add(world.cs, world.alice, run, &err));
    assert_code(err, ERR_LOST);
    run_unref(run);
    computer_unref(c);
}

static void count_free(void *thing)
{
    ++*(unsigned *)thing;
}

static void the_oldest_ended_run_is_forgotten(void **state)
{
    struct computer *c = make(world.alice);
    const struct wait w = patience(NULL);
    struct id hanging, first = { "" }, second = { "" };
    struct error err = ERROR_INIT;
    struct run *run = start(c, "hang"), *found;
    unsigned freed = 0;
    (void)state;

    (void)snprintf(hanging.text, sizeof hanging.text, "%s", run_id(run));
    assert_ok(computers_run_add(world.cs, world.alice, run, &err), err);
    run_unref(run);
    for (unsigned i = 1; i <= COMPUTERS_RUNS_KEPT; i++) {
        run = start(c, "true");
        assert_ok(run_wait(run, 0, NULL, &w, &err), err);
        assert_ok(computers_run_add(world.cs, world.alice, run, &err), err);
        if (i == 1) {
            first = (struct id){ "" };
            (void)snprintf(first.text, sizeof first.text, "%s", run_id(run));
            assert_ok(computers_attach(world.cs, c, first.text, &freed, count_free, &err), err);
        } else if (i == 2) {
            (void)snprintf(second.text, sizeof second.text, "%s", run_id(run));
        }
        run_unref(run);
    }
    assert_null(computers_run_get(world.cs, world.alice, first.text, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_int_equal(freed, 1); /* what was attached under its name went with it */
    error_clear(&err);
    found = computers_run_get(world.cs, world.alice, second.text, &err);
    assert_ok(found != NULL, err);
    run_unref(found);
    found = computers_run_get(world.cs, world.alice, hanging.text, &err);
    assert_ok(found != NULL, err);
    run_unref(found);
    computer_unref(c);
}

/* ---- events ---- */

static void tell(struct computer *c, const struct computer_event *event)
{
    struct computers_entry *e;

    pthread_mutex_lock(&world.cs->lock);
    e = computers_entry_of_locked(world.cs, c);
    pthread_mutex_unlock(&world.cs->lock);
    computers_hook(e, c, event);
}

static void connections_are_recorded_and_published(void **state)
{
    static const struct {
        struct egress_event event;
        const char *topic, *note;
    } rows[] = {
        { { EGRESS_ALLOWED, "pypi.org", 443, "151.101.0.223", "pypi.org:443", "", 0, 0 },
          "egress.allowed",
          "egress alice pypi.org:443 allow " },
        { { EGRESS_DENIED, "10.0.0.7", 22, "", "", "no rule allows it", 0, 0 },
          "egress.denied",
          "egress alice 10.0.0.7:22 deny " },
        { { EGRESS_ENDED, "::1", 80, "::1", "[::1]:80", "closed", 12, 34 },
          "egress.ended",
          "egress alice [::1]:80 done " },
    };
    struct computer *c = make(world.alice);
    struct ear ear;
    (void)state;

    ear_open(&ear, "egress.*");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct computer_event event = { .kind = COMPUTER_EVENT_EGRESS,
                                              .egress = &rows[i].event };
        struct event told;

        tell(c, &event);
        told = ear_next(&ear);
        assert_string_equal(told.topic, rows[i].topic);
        assert_contains(told.text, computer_id(c));
        if (noted(rows[i].note, computer_id(c)) != 1)
            fail_msg("%s: %s", rows[i].note, world.notes[world.note_count - 1]);
    }
    assert_int_equal(noted("[::1]:80 done", "address=::1 closed out=12 in=34"), 1);
    event_unsubscribe(ear.sub);
    computer_unref(c);
}

static void refused_system_calls_are_recorded_and_published(void **state)
{
    struct computer *c = make(world.alice);
    struct event told;
    struct ear ear;
    (void)state;

    ear_open(&ear, "computer.refused");
    computer_report_refusal(c, "mount", "/proc", 77);
    told = ear_next(&ear);
    assert_string_equal(told.subject, computer_id(c));
    assert_string_equal(told.text, "mount /proc (process 77)");
    assert_int_equal(noted("refused alice c_", "deny mount /proc (process 77)"), 1);
    event_unsubscribe(ear.sub);
    computer_unref(c);
}

static void what_comes_after_the_end_finds_nobody(void **state)
{
    struct computer *c = make(world.alice);
    struct error err = ERROR_INIT;
    unsigned before;
    (void)state;

    computers_free(STEAL(world.cs));
    before = world.note_count;
    computer_report_refusal(c, "mount", "/proc", 77);
    assert_int_equal(world.note_count, before);
    computer_unref(c);
    event_bus_free(world.bus);
    config_free(world.config);
    world_registry("{}");
    (void)err;
}

/* ---- the end of all ---- */

#define MANY 12u

static void all_end_at_once(void **state)
{
    pthread_barrier_t together;
    (void)state;

    for (unsigned i = 0; i < MANY; i++)
        computer_unref(make(i % 2 ? world.alice : world.bob));
    /* Each ends only when all are ending. */
    assert_int_equal(pthread_barrier_init(&together, NULL, MANY), 0);
    world.together = &together;
    computers_free(STEAL(world.cs));
    world.together = NULL;
    pthread_barrier_destroy(&together);
    assert_int_equal(atomic_load(&world.destroyed), MANY);
    assert_int_equal(noted("destroyed", "the server ended"), MANY);
    event_bus_free(world.bus);
    config_free(world.config);
    world_registry("{}");
}

static bool get_home(void *arg, struct error *err)
{
    struct computer *c = get(arg, NULL, err);

    computer_unref(c);
    return c != NULL;
}

static bool free_all(void *arg, struct error *err)
{
    (void)err;
    computers_free(arg);
    return true;
}

static void a_computer_that_is_being_made_ends_too(void **state)
{
    struct async maker, waiter, stopper;
    (void)state;

    world.gated = true;
    async_start(&maker, get_home, world.alice);
    mark_wait(&world.waiting, 1);
    async_start(&waiter, get_home, world.alice);
    async_start(&stopper, free_all, world.cs);
    assert_false(async_join(&waiter)); /* whether it came before or after the end began */
    assert_code(waiter.err, ERR_CANCELLED);
    mark_hit(&world.gate);
    assert_false(async_join(&maker));
    assert_code(maker.err, ERR_CANCELLED);
    assert_true(async_join(&stopper));
    assert_int_equal(atomic_load(&world.alive), 0);
    world.gated = false;
    event_bus_free(world.bus);
    config_free(world.config);
    world_registry("{}");
}

#define world_test(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(a_lost_computer_is_gone_and_says_why),
        world_test(runs_of_a_lost_computer_can_still_be_read),
        world_test(an_idle_computer_ends_and_a_busy_one_does_not),
        world_test(what_runs_is_told_in_the_list),
        world_test(a_run_works_for_its_agent_alone),
        world_test(the_oldest_ended_run_is_forgotten),
        world_test(connections_are_recorded_and_published),
        world_test(refused_system_calls_are_recorded_and_published),
        world_test(what_comes_after_the_end_finds_nobody),
        world_test(all_end_at_once),
        world_test(a_computer_that_is_being_made_ends_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
