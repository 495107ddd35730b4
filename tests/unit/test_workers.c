#include "kernel/workers.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "tests/support/check.h"

#define CALLS 400

static const struct tool tool = { .name = "tool" };

static atomic_bool no_threads;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    return atomic_load(&no_threads) ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

/* A queue with workers, and handlers that wait at a gate. */
struct place {
    struct sched *s;
    struct workers *w;
    struct syscall calls[CALLS];
    sem_t gate;    /* each handler waits for one pass */
    sem_t arrived; /* posted when a handler begins */
    sem_t left;    /* posted when it ends */
    atomic_int ran[CALLS];
    char name[16];
    bool signals_blocked;
};

static bool wait_for(sem_t *sem)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60; /* only a bug makes anyone wait that long */
    while (sem_timedwait(sem, &until)) {
        if (errno != EINTR)
            return false;
    }
    return true;
}

static void handle(void *arg, struct syscall **calls, size_t count)
{
    struct syscall *sc = calls[0];
    struct place *p = arg;
    sigset_t mask;

    assert(count == 1);

    if (sc == &p->calls[0]) {
        pthread_getname_np(pthread_self(), p->name, sizeof p->name);
        pthread_sigmask(SIG_SETMASK, NULL, &mask);
        p->signals_blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1 &&
                             sigismember(&mask, SIGPIPE) == 1;
    }
    sem_post(&p->arrived);
    (void)wait_for(&p->gate);
    atomic_fetch_add(&p->ran[sc - p->calls], 1);
    sched_finished(p->s, sc);
    sem_post(&p->left);
}

static struct workers *workers_of(struct sched *s, size_t most, workers_fn *fn, void *arg,
                                  struct error *err)
{
    const struct workers_spec spec = { .name = "tool", .most = most };

    return workers_new(&spec, s, fn, arg, err);
}

static struct place *place_with(const struct workers_spec *spec)
{
    struct place *p = calloc(1, sizeof *p);
    struct error err = ERROR_INIT;

    assert_non_null(p);
    sem_init(&p->gate, 0, 0);
    sem_init(&p->arrived, 0, 0);
    sem_init(&p->left, 0, 0);
    for (size_t i = 0; i < CALLS; i++) {
        p->calls[i].tool = &tool;
        list_init(&p->calls[i].link);
    }
    p->s = sched_new(&sched_fifo, NULL, CALLS, LIMIT_WORKERS, &err);
    assert_ok(p->s, err);
    p->w = workers_new(spec, p->s, handle, p, &err);
    assert_ok(p->w, err);
    return p;
}

static struct place *place_new(size_t most)
{
    const struct workers_spec spec = { .name = "tool", .most = most };

    return place_with(&spec);
}

static void place_free(struct place *p)
{
    sched_close(p->s);
    workers_free(p->w);
    sched_free(p->s);
    sem_destroy(&p->gate);
    sem_destroy(&p->arrived);
    sem_destroy(&p->left);
    free(p);
}

static void submit(struct place *p, size_t i)
{
    struct error err = ERROR_INIT;

    assert_int_equal(sched_push(p->s, &p->calls[i]), SCHED_OK);
    assert_ok(workers_kick(p->w, &err), err);
}

static void refuses_counts_out_of_range(void **state)
{
    static const size_t rows[] = { 0, LIMIT_WORKERS + 1 };
    struct error err = ERROR_INIT;
    CLEANUP(sched_freep) struct sched *s = sched_new(&sched_fifo, NULL, 1, 1, &err);
    (void)state;

    assert_ok(s, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_null(workers_of(s, rows[i], handle, NULL, &err));
        assert_code(err, ERR_INVALID);
        error_clear(&err);
    }
}

static void starts_without_a_thread(void **state)
{
    struct place *p = place_new(4);
    struct error err = ERROR_INIT;
    (void)state;

    assert_int_equal(workers_count(p->w), 0);
    assert_ok(workers_kick(p->w, &err), err); /* nothing waits: nobody is needed */
    assert_int_equal(workers_count(p->w), 0);
    place_free(p);
}

static void grows_while_something_waits_up_to_its_maximum(void **state)
{
    struct place *p = place_new(3);
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        submit(p, i);
        assert_int_equal(workers_count(p->w), i + 1);
        assert_true(wait_for(&p->arrived));
    }
    submit(p, 3);
    assert_int_equal(workers_count(p->w), 3);
    for (size_t i = 0; i < 4; i++)
        sem_post(&p->gate);
    for (size_t i = 0; i < 4; i++)
        assert_true(wait_for(&p->left));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(atomic_load(&p->ran[i]), 1);
    place_free(p);
}

static void uses_who_is_idle_before_it_grows(void **state)
{
    struct place *p = place_new(8);
    struct sched_stats stats;
    (void)state;

    for (size_t i = 0; i < 20; i++) {
        submit(p, i);
        sem_post(&p->gate);
        assert_true(wait_for(&p->left));
        do {
            sched_yield();
            sched_stats(p->s, &stats);
        } while (stats.idle_poppers == 0);
    }
    assert_int_equal(workers_count(p->w), 1);
    place_free(p);
}

static void names_its_threads_and_keeps_signals_from_them(void **state)
{
    struct place *p = place_new(1);
    (void)state;

    submit(p, 0);
    sem_post(&p->gate);
    assert_true(wait_for(&p->left));
    assert_string_equal(p->name, "tool-0");
    assert_true(p->signals_blocked);
    place_free(p);
}

static void idle_threads_end_and_new_ones_come(void **state)
{
    struct place *p = place_new(2);
    (void)state;

    workers_set_idle(p->w, CLOCK_NS_PER_MS);
    for (size_t i = 0; i < 5; i++) {
        submit(p, i);
        sem_post(&p->gate);
        assert_true(wait_for(&p->left));
        while (workers_count(p->w))
            sched_yield();
    }
    place_free(p);
}

static void strands_nothing_when_threads_end_while_work_comes(void **state)
{
    struct place *p = place_new(1);
    (void)state;

    /* A thread that never waits for work is always about to end. */
    workers_set_idle(p->w, 0);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < CALLS; i++) {
            sem_post(&p->gate);
            submit(p, i);
            if (!wait_for(&p->left))
                fail_msg("round %d, call %zu was never run", round, i);
            while (sem_trywait(&p->arrived) == 0)
                continue;
        }
    }
    for (size_t i = 0; i < CALLS; i++)
        assert_int_equal(atomic_load(&p->ran[i]), 20);
    place_free(p);
}

static void says_so_when_there_is_nobody_and_nobody_can_come(void **state)
{
    struct place *p = place_new(2);
    struct error err = ERROR_INIT;
    (void)state;

    atomic_store(&no_threads, true);
    assert_int_equal(sched_push(p->s, &p->calls[0]), SCHED_OK);
    assert_false(workers_kick(p->w, &err));
    assert_int_equal(err.os_errno, EAGAIN);
    assert_contains(err.text, "worker thread");
    error_clear(&err);
    atomic_store(&no_threads, false);
    assert_ok(workers_kick(p->w, &err), err);
    assert_true(wait_for(&p->arrived));

    /* the one there is will come */
    atomic_store(&no_threads, true);
    submit(p, 1);
    atomic_store(&no_threads, false);
    sem_post(&p->gate);
    sem_post(&p->gate);
    assert_true(wait_for(&p->left));
    assert_true(wait_for(&p->left));
    place_free(p);
}

static void free_waits_for_what_is_running(void **state)
{
    struct place *p = place_new(2);
    struct error err = ERROR_INIT;
    (void)state;

    submit(p, 0);
    submit(p, 1);
    assert_true(wait_for(&p->arrived));
    assert_true(wait_for(&p->arrived));
    sem_post(&p->gate);
    sem_post(&p->gate);
    sched_close(p->s);
    workers_free(STEAL(p->w));
    assert_int_equal(atomic_load(&p->ran[0]) + atomic_load(&p->ran[1]), 2);
    p->w = workers_of(p->s, 1, handle, p, &err);
    place_free(p);
    workers_free(NULL);
}

/* ---- least, and where they run ---- */

static void the_least_come_with_the_first_call_and_stay(void **state)
{
    const struct workers_spec spec = { .name = "tool", .least = 2, .most = 4 };
    struct place *p = place_with(&spec);
    struct workers_stats stats;
    (void)state;

    workers_set_idle(p->w, CLOCK_NS_PER_MS);
    assert_int_equal(workers_count(p->w), 0);
    for (size_t i = 0; i < 4; i++) {
        submit(p, i);
        assert_true(workers_count(p->w) >= 2);
    }
    for (size_t i = 0; i < 4; i++)
        assert_true(wait_for(&p->arrived));
    assert_int_equal(workers_count(p->w), 4);
    for (size_t i = 0; i < 4; i++)
        sem_post(&p->gate);
    for (size_t i = 0; i < 4; i++)
        assert_true(wait_for(&p->left));
    do {
        sched_yield();
        workers_stats(p->w, &stats);
    } while (stats.count > 2);
    assert_int_equal(stats.least, 2);
    assert_int_equal(stats.most, 4);
    assert_int_equal(stats.started, stats.ended + 2);
    assert_int_equal(stats.unbound, 0);
    place_free(p);
}

static atomic_bool refuse_affinity;
static atomic_int bound_to; /* the processors of the latest thread that was bound */

int __wrap_pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set);

int __wrap_pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
{
    (void)thread;
    if (atomic_load(&refuse_affinity))
        return EINVAL;
    atomic_store(&bound_to, CPU_COUNT_S(size, set));
    return 0;
}

static void run_one(struct place *p)
{
    submit(p, 0);
    sem_post(&p->gate);
    assert_true(wait_for(&p->left));
}

static void binds_its_threads(void **state)
{
    const struct workers_spec spec = { .name = "tool", .most = 1, .cpus = "0-2" };
    struct place *p = place_with(&spec);
    struct workers_stats stats;
    (void)state;

    atomic_store(&bound_to, 0);
    run_one(p);
    assert_int_equal(atomic_load(&bound_to), 3);
    workers_stats(p->w, &stats);
    assert_string_equal(stats.cpus, "0-2");
    assert_int_equal(stats.unbound, 0);
    place_free(p);
}

static void says_when_threads_cannot_be_bound_and_works_all_the_same(void **state)
{
    static const struct {
        const char *label, *cpus;
        bool refuse;
        const char *part;
    } rows[] = {
        { "refused by the system", "0", true, "refuses" },
        { "no such node", "node77", false, "node 77" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct workers_spec spec = {
            .name = "tool", .most = 1, .cpus = rows[i].cpus, .sysfs = "/nowhere"
        };
        struct place *p = place_with(&spec);
        struct workers_stats stats;

        atomic_store(&refuse_affinity, rows[i].refuse);
        run_one(p);
        atomic_store(&refuse_affinity, false);
        workers_stats(p->w, &stats);
        if (stats.unbound != 1 || !strstr(stats.unbound_why, rows[i].part))
            fail_msg("%s: %llu, %s", rows[i].label, (unsigned long long)stats.unbound,
                     stats.unbound_why);
        place_free(p);
    }
}

static void refuses_bounds_and_processors_that_make_no_sense(void **state)
{
    static const struct workers_spec rows[] = {
        { .name = "x", .least = 3, .most = 2 },
        { .name = "x", .most = 2, .cpus = "three" },
        { .name = "x",
          .most = 2,
          .cpus = "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1" },
    };
    CLEANUP(sched_freep) struct sched *s = sched_new(&sched_fifo, NULL, 1, 1, NULL);
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        assert_null(workers_new(&rows[i], s, handle, NULL, &err));
        assert_code(err, ERR_INVALID);
    }
}

static void survives_every_allocation_failure(void **state)
{
    struct error sched_err = ERROR_INIT;
    CLEANUP(sched_freep) struct sched *s = sched_new(&sched_fifo, NULL, 1, 1, &sched_err);
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(workers_freep) struct workers *w = workers_of(s, 8, handle, NULL, &err);

        FAULT_DONE(n);
        if (!w)
            assert_code(err, ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_counts_out_of_range),
        cmocka_unit_test(starts_without_a_thread),
        cmocka_unit_test(grows_while_something_waits_up_to_its_maximum),
        cmocka_unit_test(uses_who_is_idle_before_it_grows),
        cmocka_unit_test(names_its_threads_and_keeps_signals_from_them),
        cmocka_unit_test(idle_threads_end_and_new_ones_come),
        cmocka_unit_test(strands_nothing_when_threads_end_while_work_comes),
        cmocka_unit_test(says_so_when_there_is_nobody_and_nobody_can_come),
        cmocka_unit_test(free_waits_for_what_is_running),
        cmocka_unit_test(the_least_come_with_the_first_call_and_stay),
        cmocka_unit_test(binds_its_threads),
        cmocka_unit_test(says_when_threads_cannot_be_bound_and_works_all_the_same),
        cmocka_unit_test(refuses_bounds_and_processors_that_make_no_sense),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
