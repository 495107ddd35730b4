#include "kernel/computer/pool.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/check.h"

/** A maker that says when it has made something, so that a test can wait for it. */
struct maker {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int made, destroyed, killed, failures;
    bool dead[64];
    int items[64];
};

static void maker_init(struct maker *m)
{
    memset(m, 0, sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    cond_init(&m->changed);
}

static void *make(void *arg, const struct wait *w, struct error *err)
{
    struct maker *m = arg;
    void *item = NULL;

    (void)w;
    pthread_mutex_lock(&m->lock);
    if (m->failures > 0)
        m->failures--;
    else
        item = &m->items[m->made++];
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    if (!item)
        error_set(err, ERR_BUSY, "not now");
    return item;
}

static bool alive(void *arg, void *item)
{
    struct maker *m = arg;

    bool dead;

    pthread_mutex_lock(&m->lock);
    dead = m->dead[(int *)item - m->items];
    pthread_mutex_unlock(&m->lock);
    return !dead;
}

static void kill_item(void *arg, void *item)
{
    (void)item;
    ((struct maker *)arg)->killed++;
}

static void destroy(void *arg, void *item)
{
    (void)item;
    ((struct maker *)arg)->destroyed++;
}

static struct pool *new_pool(struct maker *m, size_t size, struct error *err)
{
    const struct pool_config config = {
        .size = size, .make = make, .alive = alive, .kill = kill_item, .destroy = destroy, .arg = m
    };

    return pool_new(&config, err);
}

static void await_made(struct maker *m, int count)
{
    const struct wait w = { .deadline_ns = clock_now_ns() + 30 * CLOCK_NS_PER_S };

    pthread_mutex_lock(&m->lock);
    while (m->made < count && wait_cond(&w, &m->changed, &m->lock))
        continue;
    count -= m->made;
    pthread_mutex_unlock(&m->lock);
    assert_true(count <= 0);
}

/** What was made is in the pool a moment later: taking needs no such luck. */
static void *take_one(struct pool *p)
{
    int64_t deadline_ns = clock_now_ns() + 30 * CLOCK_NS_PER_S;
    void *item = NULL;

    while (!item && clock_now_ns() < deadline_ns)
        item = pool_take(p);
    return item;
}

static void is_empty_until_it_is_started(void **state)
{
    struct error err = ERROR_INIT;
    struct maker m;
    struct pool *p;

    (void)state;
    maker_init(&m);
    p = new_pool(&m, 2, &err);
    assert_ok(p, err);
    assert_null(pool_take(p));
    assert_int_equal(pool_ready(p), 0);
    pool_free(p);
    assert_int_equal(m.made, 0);
}

static void fills_up_and_refills_after_a_take(void **state)
{
    struct error err = ERROR_INIT;
    struct maker m;
    struct pool *p;

    (void)state;
    maker_init(&m);
    p = new_pool(&m, 3, &err);
    assert_ok(p, err);
    assert_true(pool_start(p));
    assert_true(pool_start(p));
    await_made(&m, 3);
    assert_non_null(take_one(p));
    await_made(&m, 4);
    pool_free(p);
    assert_int_equal(m.made, 4);
    assert_int_equal(m.killed, 3);
    assert_int_equal(m.destroyed, 3);
}

static void the_dead_are_never_given_out(void **state)
{
    struct error err = ERROR_INIT;
    struct maker m;
    struct pool *p;

    (void)state;
    maker_init(&m);
    p = new_pool(&m, 2, &err);
    assert_ok(p, err);
    m.dead[0] = m.dead[1] = true;
    assert_true(pool_start(p));
    await_made(&m, 2);
    assert_true((int *)take_one(p) >= &m.items[2]);
    pool_free(p);
    assert_true(m.destroyed >= 2);
}

/* Which takes no taking. */
static void the_dead_are_replaced_as_soon_as_it_is_told(void **state)
{
    struct error err = ERROR_INIT;
    struct maker m;
    struct pool *p;
    int64_t deadline_ns;

    (void)state;
    maker_init(&m);
    p = new_pool(&m, 2, &err);
    assert_ok(p, err);
    assert_true(pool_start(p));
    await_made(&m, 2);
    pool_check(p); /* nothing was wrong */
    pthread_mutex_lock(&m.lock);
    m.dead[0] = true;
    pthread_mutex_unlock(&m.lock);
    pool_check(p);
    await_made(&m, 3);
    deadline_ns = clock_now_ns() + 30 * CLOCK_NS_PER_S;
    while (pool_ready(p) < 2 && clock_now_ns() < deadline_ns)
        (void)poll(NULL, 0, 1);
    assert_int_equal(pool_ready(p), 2);
    assert_true((int *)take_one(p) > &m.items[0]);
    pool_free(p);
    assert_int_equal(m.made - m.destroyed, 1);
}

static void makes_no_more_once_it_is_stopped(void **state)
{
    struct error err = ERROR_INIT;
    struct maker m;
    struct pool *p;

    (void)state;
    maker_init(&m);
    p = new_pool(&m, 1, &err);
    assert_ok(p, err);
    pool_stop(p);
    assert_false(pool_start(p));
    pool_free(p);
    assert_int_equal(m.made, 0);
}

static void waits_while_somebody_makes_one_elsewhere(void **state)
{
    struct error err = ERROR_INIT;
    struct maker m;
    struct pool *p;

    (void)state;
    maker_init(&m);
    p = new_pool(&m, 1, &err);
    assert_ok(p, err);
    pool_busy(p, 1);
    assert_true(pool_start(p));
    assert_null(pool_take(p));
    assert_int_equal(m.made, 0);
    pool_busy(p, -1);
    await_made(&m, 1);
    pool_free(p);
}

static void makes_none_without_the_memory_for_it(void **state)
{
    static const uint64_t rows[] = { 1, UINT64_MAX }; /* what one takes */

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct maker m;
        struct pool *p;

        maker_init(&m);
        p = pool_new(&(struct pool_config){ .size = 1,
                                            .make = make,
                                            .alive = alive,
                                            .kill = kill_item,
                                            .destroy = destroy,
                                            .arg = &m,
                                            .memory_each = rows[i] },
                     &err);
        assert_ok(p, err);
        assert_true(pool_start(p));
        if (!i)
            await_made(&m, 1);
        pool_free(p);
        assert_int_equal(m.made, i ? 0 : 1);
    }
}

static void goes_while_making_fails(void **state)
{
    struct error err = ERROR_INIT;
    struct maker m;
    struct pool *p;

    (void)state;
    maker_init(&m);
    m.failures = 1 << 20;
    p = new_pool(&m, 1, &err);
    assert_ok(p, err);
    assert_true(pool_start(p));
    assert_null(pool_take(p));
    pool_free(p);
    assert_int_equal(m.destroyed, 0);
}

static void refuses_sizes_out_of_range(void **state)
{
    static const struct {
        size_t size;
        bool ok;
    } rows[] = { { 0, false }, { 1, true }, { POOL_SIZE_MAX, true }, { POOL_SIZE_MAX + 1, false } };
    struct maker m;

    (void)state;
    maker_init(&m);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        CLEANUP(pool_freep) struct pool *p = new_pool(&m, rows[i].size, &err);

        if ((p != NULL) != rows[i].ok)
            fail_msg("size %zu: %s", rows[i].size, err.text);
    }
}

static void survives_every_allocation_failure(void **state)
{
    struct maker m;

    (void)state;
    maker_init(&m);
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct pool *p = new_pool(&m, 1, &err);

        FAULT_DONE(n);
        if (!p)
            assert_code(err, ERR_NOMEM);
        pool_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_empty_until_it_is_started),
        cmocka_unit_test(fills_up_and_refills_after_a_take),
        cmocka_unit_test(the_dead_are_never_given_out),
        cmocka_unit_test(the_dead_are_replaced_as_soon_as_it_is_told),
        cmocka_unit_test(makes_no_more_once_it_is_stopped),
        cmocka_unit_test(waits_while_somebody_makes_one_elsewhere),
        cmocka_unit_test(makes_none_without_the_memory_for_it),
        cmocka_unit_test(goes_while_making_fails),
        cmocka_unit_test(refuses_sizes_out_of_range),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
