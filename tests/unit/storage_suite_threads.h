/*
 * storage_suite_threads - the part of storage_suite with several threads.
 *
 * Threads: each test starts its own and joins them before it asserts.
 */
#pragma once

#include <pthread.h>

#include "tests/unit/storage_place.h"

struct suite_worker {
    pthread_t thread;
    unsigned id, turns, won;
    atomic_bool *stop;
    const char *failed; /* NULL: all went well */
    char why[200];
};

static inline bool suite_failed(struct suite_worker *me, const char *what, const struct error *err)
{
    (void)snprintf(me->why, sizeof me->why, "%s: %.150s", what, err->text);
    me->failed = me->why;
    return false;
}

/* Adds one to the number in "counter", as a client does who must not lose another's step. */
static inline bool suite_step(struct suite_worker *me)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_stat stat = { .version = 0 };
    char next[24];

    if (!storage_get(place.s, place.space, "counter", 0, 0, 100, &out, &w, &stat, &err))
        return suite_failed(me, "get", &err);
    (void)snprintf(next, sizeof next, "%llu", strtoull(buf_str(&out), NULL, 10) + 1);
    if (storage_put(place.s, place.space, "counter", next, strlen(next), stat.version, &w, NULL,
                    &err)) {
        me->won++;
        return true;
    }
    return err.code == ERR_EXISTS || suite_failed(me, "put", &err);
}

static inline void *suite_count(void *arg)
{
    struct suite_worker *me = arg;

    while (me->won < me->turns && suite_step(me))
        continue;
    return NULL;
}

/* Sees "counter" go up and never down. */
static inline void *suite_watch(void *arg)
{
    struct suite_worker *me = arg;
    unsigned long long last = 0;

    while (!atomic_load(me->stop) && !me->failed) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        struct storage_stat stat = { .version = 0 };
        unsigned long long seen;

        if (!storage_get(place.s, place.space, "counter", 0, 0, 100, &out, &w, &stat, &err)) {
            (void)suite_failed(me, "watch", &err);
            break;
        }
        seen = strtoull(buf_str(&out), NULL, 10);
        if (seen < last || seen + 1 != stat.version) {
            (void)snprintf(me->why, sizeof me->why, "saw %llu after %llu in version %llu", seen,
                           last, (unsigned long long)stat.version);
            me->failed = me->why;
        }
        last = seen;
    }
    return NULL;
}

static inline void loses_no_step_between_threads(void **state)
{
    unsigned threads = suite.threads ? suite.threads : 4, turns = suite.turns ? suite.turns : 25;
    struct suite_worker workers[16] = { { .id = 0 } };
    atomic_bool stop = false;
    char want[24];
    (void)state;

    assert_true(threads + 2 <= ARRAY_LEN(workers));
    suite_open("{\"versions\":3}");
    (void)put("counter", "0");
    for (unsigned i = 0; i < threads + 2; i++) {
        workers[i] = (struct suite_worker){ .id = i, .turns = turns, .stop = &stop };
        assert_int_equal(pthread_create(&workers[i].thread, NULL,
                                        i < threads ? suite_count : suite_watch, &workers[i]),
                         0);
    }
    for (unsigned i = 0; i < threads + 2; i++) {
        if (i == threads)
            atomic_store(&stop, true);
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < threads + 2; i++)
        if (workers[i].failed)
            fail_msg("thread %u: %s", i, workers[i].failed);
    (void)snprintf(want, sizeof want, "%u", threads * turns);
    assert_value("counter", want);
}

/* Own keys and batches, all at once. */
static inline void *suite_scatter(void *arg)
{
    struct suite_worker *me = arg;

    for (unsigned i = 0; i < me->turns && !me->failed; i++) {
        char a[32], b[32];
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        struct storage_op ops[] = {
            { .kind = STORAGE_PUT, .key = a, .data = a, .len = 3, .if_version = STORAGE_ANY },
            { .kind = STORAGE_PUT, .key = b, .data = b, .len = 3, .if_version = 0 },
        };

        (void)snprintf(a, sizeof a, "t/%u", me->id);
        (void)snprintf(b, sizeof b, "t/%u/%u", me->id, i);
        if (!storage_batch(place.s, place.space, ops, 2, &w, NULL, &err))
            (void)suite_failed(me, "batch", &err);
        else if (ops[0].stat.version != i + 1)
            me->failed = "a version is out of step";
    }
    return NULL;
}

static inline void writes_from_many_threads(void **state)
{
    unsigned threads = suite.threads ? suite.threads : 4, turns = suite.turns ? suite.turns : 25;
    struct suite_worker workers[16] = { { .id = 0 } };
    (void)state;

    assert_true(threads <= ARRAY_LEN(workers));
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct suite_worker){ .id = i, .turns = turns };
        assert_int_equal(pthread_create(&workers[i].thread, NULL, suite_scatter, &workers[i]), 0);
    }
    for (unsigned i = 0; i < threads; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    for (unsigned i = 0; i < threads; i++)
        if (workers[i].failed)
            fail_msg("thread %u: %s", i, workers[i].failed);
    assert_int_equal(usage_now().keys, (uint64_t)threads * (turns + 1));
    assert_int_equal(usage_now().versions, (uint64_t)threads * (turns + MIN(turns, 16u)));
}
