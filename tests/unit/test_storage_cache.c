/* The cache by itself: what it keeps, what it may not. */
#include "kernel/storage_cache.h"

#include <pthread.h>
#include <stdio.h>

#include "tests/support/check.h"

static struct storage_stat stat_of(const char *key, uint64_t version, size_t bytes)
{
    struct storage_stat stat = { .version = version, .bytes = bytes };

    (void)snprintf(stat.key, sizeof stat.key, "%s", key);
    return stat;
}

/* Miss, then fill. */
static void fill(struct storage_cache *c, const char *space, const char *key, const char *value,
                 size_t len)
{
    struct storage_stat stat = stat_of(key, 1, len);
    uint64_t ticket;

    storage_value_unref(storage_cache_get(c, space, key, &ticket));
    storage_cache_fill(c, space, ticket, &stat, value);
}

static bool holds(struct storage_cache *c, const char *space, const char *key)
{
    uint64_t ticket;
    struct storage_value *v = storage_cache_get(c, space, key, &ticket);

    storage_value_unref(v);
    return v != NULL;
}

static struct storage_cache *make(size_t bytes)
{
    struct error err = ERROR_INIT;
    struct storage_cache *c = storage_cache_new(bytes, &err);

    assert_ok(c, err);
    return c;
}

static void gives_back_what_was_filled(void **state)
{
    struct storage_cache *c = make(1 << 20);
    struct storage_value *v;
    uint64_t ticket;
    (void)state;

    assert_false(holds(c, "a", "k"));
    fill(c, "a", "k", "value", 5);
    v = storage_cache_get(c, "a", "k", &ticket);
    assert_non_null(v);
    assert_int_equal(v->len, 5);
    assert_memory_equal(v->data, "value", 5);
    assert_string_equal(v->stat.key, "k");
    assert_false(holds(c, "b", "k"));
    assert_false(holds(c, "a", "kk"));
    assert_false(holds(c, "ak", ""));
    storage_cache_drop(c, "a", "k");
    assert_memory_equal(v->data, "value", 5); /* as long as it is held */
    assert_false(holds(c, "a", "k"));
    storage_value_unref(v);
    storage_cache_free(c);
}

static void nothing_is_filled_across_a_write(void **state)
{
    struct storage_cache *c = make(1 << 20);
    struct storage_stat stat = stat_of("k", 1, 3);
    uint64_t before, during, after;
    (void)state;

    assert_null(storage_cache_get(c, "a", "k", &before));
    storage_cache_write_begin(c, "a", "k");
    storage_cache_fill(c, "a", before, &stat, "old");
    assert_false(holds(c, "a", "k"));
    assert_null(storage_cache_get(c, "a", "k", &during));
    storage_cache_fill(c, "a", during, &stat, "old");
    assert_false(holds(c, "a", "k"));
    storage_cache_write_end(c, "a", "k");
    storage_cache_fill(c, "a", before, &stat, "old");
    storage_cache_fill(c, "a", during, &stat, "old");
    assert_false(holds(c, "a", "k"));
    assert_null(storage_cache_get(c, "a", "k", &after));
    storage_cache_fill(c, "a", after, &stat, "new");
    assert_true(holds(c, "a", "k"));
    storage_cache_write_begin(c, "a", "k"); /* and takes it out */
    assert_false(holds(c, "a", "k"));
    storage_cache_write_end(c, "a", "k");
    storage_cache_free(c);
}

static void stays_within_its_bound(void **state)
{
    static char value[2000];
    struct storage_cache *c = make(64 << 10);
    struct storage_stats stats = { .backend = "" };
    char key[16];
    (void)state;

    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof key, "%d", i);
        fill(c, "a", key, value, sizeof value);
        assert_true(holds(c, "a", "0")); /* used all the time, so it is not the oldest */
        storage_cache_figures(c, &stats);
        assert_true(stats.cache_bytes <= 64 << 10);
    }
    assert_true(holds(c, "a", "999"));
    assert_false(holds(c, "a", "500"));
    storage_cache_free(c);
}

static void large_values_are_kept_when_asked_for_again(void **state)
{
    static char value[100 << 10];
    struct storage_cache *c = make(1 << 20);
    (void)state;

    fill(c, "a", "large", value, sizeof value);
    assert_false(holds(c, "a", "large"));
    fill(c, "a", "large", value, sizeof value);
    assert_true(holds(c, "a", "large"));
    storage_cache_free(c);
    c = make(200 << 10); /* of which it would be half */
    fill(c, "a", "large", value, sizeof value);
    fill(c, "a", "large", value, sizeof value);
    assert_false(holds(c, "a", "large"));
    storage_cache_free(c);
}

static void counts(void **state)
{
    struct storage_cache *c = make(1 << 20);
    struct storage_stats stats = { .backend = "" };
    (void)state;

    fill(c, "a", "k", "v", 1);
    assert_true(holds(c, "a", "k"));
    assert_true(holds(c, "a", "k"));
    storage_cache_figures(c, &stats);
    assert_int_equal(stats.cache_hits, 2);
    assert_int_equal(stats.cache_misses, 1);
    assert_true(stats.cache_bytes > 0);
    storage_cache_free(c);
}

static void without_memory_nothing_is_kept(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct storage_cache *c = storage_cache_new(1 << 20, &err);

        for (int i = 0; i < 80 && c; i++) { /* past the first growth of the table */
            char key[16];

            (void)snprintf(key, sizeof key, "%d", i);
            fill(c, "a", key, "v", 1);
        }
        FAULT_DONE(n);
        if (!c)
            assert_code(err, ERR_NOMEM);
        else
            assert_true(holds(c, "a", "79") || holds(c, "a", "78"));
        storage_cache_free(c);
    }
}

/* ---- threads ---- */

struct shared {
    struct storage_cache *c;
    atomic_uint_fast64_t truth;    /* the back end: one number */
    atomic_uint_fast64_t answered; /* what the writer has told */
    atomic_bool stop;
};

static void *write_on(void *arg)
{
    struct shared *s = arg;

    for (uint64_t i = 1; i <= 20000; i++) {
        storage_cache_write_begin(s->c, "a", "k");
        atomic_store(&s->truth, i);
        storage_cache_write_end(s->c, "a", "k");
        atomic_store(&s->answered, i);
    }
    atomic_store(&s->stop, true);
    return NULL;
}

/* NULL when nothing was seen that is older than what had been answered. */
static void *read_on(void *arg)
{
    struct shared *s = arg;

    while (!atomic_load(&s->stop)) {
        uint64_t ticket, floor = atomic_load(&s->answered);
        struct storage_value *v = storage_cache_get(s->c, "a", "k", &ticket);
        bool old = v && v->stat.version < floor;

        if (!v) {
            uint64_t seen = atomic_load(&s->truth);
            struct storage_stat stat = stat_of("k", seen, sizeof seen);

            storage_cache_fill(s->c, "a", ticket, &stat, &seen);
        }
        storage_value_unref(v);
        if (old)
            return s;
    }
    return NULL;
}

static void what_was_answered_is_what_is_read(void **state)
{
    struct shared s = { .c = make(1 << 20) };
    struct storage_value *v;
    uint64_t ticket;
    pthread_t threads[4];
    void *bad;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i ? read_on : write_on, &s), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &bad), 0);
        assert_null(bad);
    }
    v = storage_cache_get(s.c, "a", "k", &ticket);
    if (v)
        assert_int_equal(v->stat.version, s.truth);
    storage_value_unref(v);
    storage_cache_free(s.c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_back_what_was_filled),
        cmocka_unit_test(nothing_is_filled_across_a_write),
        cmocka_unit_test(stays_within_its_bound),
        cmocka_unit_test(large_values_are_kept_when_asked_for_again),
        cmocka_unit_test(counts),
        cmocka_unit_test(without_memory_nothing_is_kept),
        cmocka_unit_test(what_was_answered_is_what_is_read),
    };

    return cmocka_run_group_tests_name("storage_cache", tests, NULL, NULL);
}
