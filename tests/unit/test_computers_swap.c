/* Virtual machines that nobody uses are put on disk. */
#include "kernel/base/fd.h"
#include "tests/unit/computers_world.h"

/* What /proc/meminfo says, unless it is NULL. */
static _Atomic(const char *) meminfo;
static atomic_uint meminfo_read;

char *__real_fd_read_file(int dirfd, const char *path, size_t max, size_t *ret_len,
                          struct error *err);
char *__wrap_fd_read_file(int dirfd, const char *path, size_t max, size_t *ret_len,
                          struct error *err);

char *__wrap_fd_read_file(int dirfd, const char *path, size_t max, size_t *ret_len,
                          struct error *err)
{
    const char *text = atomic_load(&meminfo);

    if (!text || strcmp(path, "/proc/meminfo") != 0)
        return __real_fd_read_file(dirfd, path, max, ret_len, err);
    atomic_fetch_add(&meminfo_read, 1);
    return strdup(text);
}
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
/* The clock that was turned wakes nobody. */
static void look_again(void)
{
    pthread_mutex_lock(&world.cs->lock);
    assert_true(computers_reaper_by_locked(world.cs, 0, NULL));
    pthread_mutex_unlock(&world.cs->lock);
}

static void use(const struct computer *c)
{
    struct error err = ERROR_INIT;
    struct computer *found = get(world.alice, computer_id(c), &err);

    assert_ok(found == c, err);
    computer_unref(found);
}

static json_t *first_row(void)
{
    struct error err = ERROR_INIT;
    json_t *list = computers_list(world.cs, world.alice, &err), *row;

    assert_ok(list != NULL, err);
    row = json_incref(json_array_get(list, 0));
    json_decref(list);
    return row;
}

static void an_idle_vm_is_put_aside_until_it_is_used(void **state)
{
    struct computers_request request = { .idle_ns = CLOCK_NEVER };
    struct computer *busy, *idle;
    int64_t now_ns = clock_now_ns();
    struct error err = ERROR_INIT;
    struct event event;
    struct run *run;
    json_t *row;
    struct ear ear;
    (void)state;

    clock_fake(now_ns);
    world_registry_end();
    world_registry_vm("{\"computer\":{\"kind\":\"vm\"},\"vm\":{\"swap_after_s\":60}}");
    ear_open(&ear, "computer.swapped");
    idle = make_with(world.alice, &request);
    busy = make_with(world.alice, &request);
    run = start(busy, "hang");
    assert_ok(computers_run_add(world.cs, world.alice, run, &err), err);
    computer_unref(busy);
    computer_unref(idle);
    row = first_row();
    assert_string_equal(json_string_value(json_object_get(row, "state")), "idle");
    json_decref(row);
    for (unsigned times = 1; times <= 2; times++) {
        now_ns += 61 * CLOCK_NS_PER_S;
        clock_fake(now_ns);
        look_again();
        event = ear_next(&ear);
        assert_string_equal(event.subject, computer_id(idle));
        row = first_row();
        assert_string_equal(json_string_value(json_object_get(row, "state")), "swapped");
        json_decref(row);
        use(idle);
    }
    assert_int_equal(atomic_load(&world.swapped), 2); /* and not the one in which a program runs */

    event_unsubscribe(ear.sub);
    clock_real();
    run_unref(run);
}

/* By a call that takes longer than what counts as idle. */
static void one_in_use_is_not_put_aside(void **state)
{
    struct computers_request request = { .idle_ns = CLOCK_NEVER };
    int64_t now_ns = clock_now_ns();
    struct computer *used, *idle;
    struct event event;
    struct ear ear;
    (void)state;

    clock_fake(now_ns);
    world_registry_end();
    world_registry_vm("{\"computer\":{\"kind\":\"vm\"},\"vm\":{\"swap_after_s\":60}}");
    ear_open(&ear, "computer.swapped");
    used = make_with(world.alice, &request);
    clock_fake(now_ns + CLOCK_NS_PER_S);
    idle = make_with(world.alice, &request);
    computer_unref(idle);
    clock_fake(now_ns + 600 * CLOCK_NS_PER_S);
    look_again();
    event = ear_next(&ear); /* though it is not the longest idle one */
    assert_string_equal(event.subject, computer_id(idle));
    computer_unref(used);
    clock_fake(now_ns + 900 * CLOCK_NS_PER_S);
    look_again();
    event = ear_next(&ear);
    assert_string_equal(event.subject, computer_id(used));

    event_unsubscribe(ear.sub);
    clock_real();
}

static void one_that_cannot_be_put_aside_stays_as_it_is(void **state)
{
    struct computers_request request = { .idle_ns = CLOCK_NEVER };
    int64_t now_ns = clock_now_ns();
    struct computer *c, *next;
    struct event event;
    struct ear ear;
    (void)state;

    clock_fake(now_ns);
    world_registry_end();
    world_registry_vm("{\"computer\":{\"kind\":\"vm\"},\"vm\":{\"swap_after_s\":60}}");
    ear_open(&ear, "computer.swapped");
    c = make_with(world.alice, &request);
    clock_fake(now_ns + CLOCK_NS_PER_S);
    next = make_with(world.alice, &request);
    computer_unref(c);
    computer_unref(next);
    atomic_store(&world.fail_swap, 1);
    log_set_level(LOG_ERROR);
    clock_fake(now_ns + 600 * CLOCK_NS_PER_S);
    look_again();
    event = ear_next(&ear); /* the longest idle one was tried before, once */
    assert_string_equal(event.subject, computer_id(next));
    assert_int_equal(atomic_load(&world.swapped), 2);
    use(c);

    log_set_level(LOG_WARN);
    event_unsubscribe(ear.sub);
    clock_real();
}

static void scarce_memory_puts_the_longest_idle_aside_first(void **state)
{
    struct computers_request request = { .idle_ns = CLOCK_NEVER };
    int64_t now_ns = clock_now_ns();
    struct computer *newer, *older;
    struct event event;
    struct ear ear;
    (void)state;

    clock_fake(now_ns);
    world_registry_end();
    world_registry_vm("{\"computer\":{\"kind\":\"vm\"},\"vm\":{\"swap_after_s\":600}}");
    ear_open(&ear, "computer.swapped");
    older = make_with(world.alice, &request);
    clock_fake(now_ns + CLOCK_NS_PER_S);
    newer = make_with(world.alice, &request);
    computer_unref(older);
    computer_unref(newer);

    /* Enough memory: seen more than once before this goes on, and nothing was put aside. */
    atomic_store(&meminfo_read, 0);
    atomic_store(&meminfo, "MemTotal: 1600 kB\nMemFree: 10 kB\nMemAvailable: 100 kB\n");
    clock_fake(now_ns + 30 * CLOCK_NS_PER_S);
    while (atomic_load(&meminfo_read) < 2) {
        look_again();
        (void)sched_yield();
    }
    assert_int_equal(atomic_load(&world.swapped), 0);

    atomic_store(&meminfo, "MemTotal: 1600 kB\nMemFree: 10 kB\nMemAvailable: 99 kB\n");
    look_again();
    event = ear_next(&ear);
    assert_string_equal(event.subject, computer_id(older));
    look_again();
    event = ear_next(&ear);
    assert_string_equal(event.subject, computer_id(newer));

    atomic_store(&meminfo, NULL);
    event_unsubscribe(ear.sub);
    clock_real();
}
#define world_test(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(an_idle_vm_is_put_aside_until_it_is_used),
        world_test(scarce_memory_puts_the_longest_idle_aside_first),
        world_test(one_in_use_is_not_put_aside),
        world_test(one_that_cannot_be_put_aside_stays_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
