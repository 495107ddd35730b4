#include "kernel/base/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "kernel/base/clock.h"
#include "tests/support/check.h"

#define THREADS          4
#define POSTS_PER_THREAD 5000

int __real_uv_async_send(uv_async_t *async);
int __wrap_uv_async_send(uv_async_t *async);

static atomic_int wakes;

int __wrap_uv_async_send(uv_async_t *async)
{
    atomic_fetch_add(&wakes, 1);
    return __real_uv_async_send(async);
}

static struct loop *new_loop(void)
{
    struct error err = ERROR_INIT;
    struct loop *loop = loop_new(&err);

    assert_ok(loop != NULL, err);
    return loop;
}

struct note {
    struct loop_post post;
    struct loop *loop;
    int *log;
    size_t *count;
    int value;
};

static void write_note(struct loop_post *post)
{
    struct note *note = CONTAINER_OF(post, struct note, post);

    note->log[(*note->count)++] = note->value;
    if (note->value < 0)
        loop_stop(note->loop);
}

static void posts_run_in_order_and_wake_once(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    struct note notes[100];
    int log[100];
    size_t count = 0;

    (void)state;
    atomic_store(&wakes, 0);
    for (int i = 0; i < 100; i++) {
        notes[i] =
            (struct note){ .loop = loop, .log = log, .count = &count, .value = i == 99 ? -1 : i };
        loop_post(loop, &notes[i].post, write_note);
    }
    assert_int_equal(atomic_load(&wakes), 1);
    loop_run(loop);
    assert_int_equal(count, 100);
    for (int i = 0; i < 99; i++)
        assert_int_equal(log[i], i);
}

struct sender {
    struct loop *loop;
    pthread_t thread;
    int next_expected;
    bool in_order;
    bool on_owner;
    struct parcel {
        struct loop_post post;
        struct sender *sender;
        int number;
    } parcels[POSTS_PER_THREAD];
};

static unsigned parcels_left;

static void take_parcel(struct loop_post *post)
{
    struct parcel *parcel = CONTAINER_OF(post, struct parcel, post);
    struct sender *sender = parcel->sender;

    sender->in_order = sender->in_order && parcel->number == sender->next_expected;
    sender->on_owner = sender->on_owner && loop_is_owner(sender->loop);
    sender->next_expected++;
    if (--parcels_left == 0)
        loop_stop(sender->loop);
}

static void *send_parcels(void *arg)
{
    struct sender *sender = arg;

    for (int i = 0; i < POSTS_PER_THREAD; i++) {
        sender->parcels[i].sender = sender;
        sender->parcels[i].number = i;
        loop_post(sender->loop, &sender->parcels[i].post, take_parcel);
    }
    return NULL;
}

static void posts_of_many_threads_all_arrive_each_in_its_order(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    struct sender *senders = calloc(THREADS, sizeof *senders);

    (void)state;
    assert_non_null(senders);
    parcels_left = THREADS * POSTS_PER_THREAD;
    for (size_t i = 0; i < THREADS; i++) {
        senders[i].loop = loop;
        senders[i].in_order = senders[i].on_owner = true;
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_parcels, &senders[i]), 0);
    }
    loop_run(loop);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
        assert_true(senders[i].in_order);
        assert_true(senders[i].on_owner);
        assert_int_equal(senders[i].next_expected, POSTS_PER_THREAD);
    }
    free(senders);
}

static void free_post(struct loop_post *post)
{
    free(post);
}

static void a_post_may_be_freed_by_its_function(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct loop_post *post = malloc(sizeof *post);

        assert_non_null(post);
        loop_post(loop, post, free_post);
    }
    loop_turn(loop, 0);
}

struct repeater {
    struct loop_post post;
    struct loop_timer timer;
    struct loop *loop;
    int rounds;
};

static void post_again(struct loop_post *post)
{
    struct repeater *repeater = CONTAINER_OF(post, struct repeater, post);

    repeater->rounds++;
    loop_post(repeater->loop, post, post_again);
}

static void stop_repeater(struct loop_timer *timer)
{
    loop_stop(CONTAINER_OF(timer, struct repeater, timer)->loop);
}

static void do_nothing(struct loop_post *post)
{
    (void)post;
}

static void a_post_that_posts_itself_starves_nobody(void **state)
{
    struct repeater repeater = { .rounds = 0 }; /* before the loop, as the loop ends first */
    CLEANUP(loop_freep) struct loop *loop = new_loop();

    (void)state;
    repeater.loop = loop;
    assert_true(loop_timer_start(loop, &repeater.timer,
                                 clock_add_ns(clock_now_ns(), CLOCK_NS_PER_MS), stop_repeater));
    loop_post(loop, &repeater.post, post_again);
    loop_run(loop);
    assert_true(repeater.rounds > 0);
    repeater.post.fn = do_nothing; /* it is still posted, and freeing the loop runs it */
}

static void stopping_before_running_returns_at_once_and_only_once(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    struct note note;
    size_t count = 0;
    int log[1];

    (void)state;
    loop_stop(loop);
    loop_run(loop);
    note = (struct note){ .loop = loop, .log = log, .count = &count, .value = -1 };
    loop_post(loop, &note.post, write_note);
    loop_run(loop);
    assert_int_equal(count, 1);
    loop_post(loop, &note.post, write_note);
    count = 0;
    loop_turn(loop, 0); /* stops within a turn: the next run returns at once */
    loop_run(loop);
    assert_int_equal(count, 1);
    loop_turn(loop, 0);
}

static void a_turn_waits_no_longer_than_it_is_told(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    int64_t start = clock_now_ns();

    (void)state;
    loop_turn(loop, 0);
    loop_turn(loop, 3);
    assert_true(clock_now_ns() - start >= 3 * CLOCK_NS_PER_MS);
}

struct alarm {
    struct loop_timer timer;
    struct loop *loop;
    struct firing *firing;
};

struct firing {
    int64_t last_ns;
    int count;
    bool in_order;
};

static void record_firing(struct loop_timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);

    alarm->firing->in_order =
        alarm->firing->in_order && timer->deadline_ns >= alarm->firing->last_ns;
    alarm->firing->last_ns = timer->deadline_ns;
    alarm->firing->count++;
}

static void timers_fire_in_order_of_their_deadlines(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    struct firing firing = { .in_order = true };
    struct alarm alarms[500] = { 0 };
    unsigned seed = 12345;

    (void)state;
    clock_fake(1000);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(alarms); i++) {
            seed = seed * 1103515245u + 12345u;
            alarms[i].loop = loop;
            alarms[i].firing = &firing;
            if (round && seed % 5 == 0)
                loop_timer_stop(loop, &alarms[i].timer);
            else if (!round || seed % 3 == 0)
                assert_true(loop_timer_start(loop, &alarms[i].timer, 2000 + (int64_t)(seed >> 16),
                                             record_firing));
        }
    }
    loop_turn(loop, 0);
    assert_int_equal(firing.count, 0);
    for (int64_t now = 2000; now < 2000 + 70000; now += 1000) {
        clock_fake(now);
        loop_turn(loop, 0);
        assert_true(firing.last_ns <= now);
    }
    assert_true(firing.in_order);
    assert_in_range(firing.count, 100, 499);
    for (size_t i = 0; i < ARRAY_LEN(alarms); i++)
        assert_int_equal(alarms[i].timer.slot, 0);
    clock_real();
}

static void stop_loop(struct loop_timer *timer)
{
    loop_stop(CONTAINER_OF(timer, struct alarm, timer)->loop);
}

static void a_timer_never_fires_early(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();

    (void)state;
    for (int64_t us = 100; us < 4000; us += 700) {
        struct alarm alarm = { .loop = loop };
        int64_t deadline = clock_add_ns(clock_now_ns(), us * CLOCK_NS_PER_US);

        assert_true(loop_timer_start(loop, &alarm.timer, deadline, stop_loop));
        loop_run(loop);
        assert_true(clock_now_ns() >= deadline);
    }
}

static void an_earlier_timer_armed_later_fires_first(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    struct alarm far = { .loop = loop }, near = { .loop = loop };

    (void)state;
    assert_true(loop_timer_start(loop, &far.timer,
                                 clock_add_ns(clock_now_ns(), 1000 * CLOCK_NS_PER_S), stop_loop));
    loop_turn(loop, 0);
    assert_true(loop_timer_start(loop, &near.timer,
                                 clock_add_ns(clock_now_ns(), 2 * CLOCK_NS_PER_MS), stop_loop));
    loop_run(loop);
    assert_int_equal(near.timer.slot, 0);
    assert_int_not_equal(far.timer.slot, 0);
    /* and moving the far one to the past makes it due */
    assert_true(loop_timer_start(loop, &far.timer, 1, stop_loop));
    loop_run(loop);
    assert_int_equal(far.timer.slot, 0);
}

static void free_timer(struct loop_timer *timer)
{
    free(timer);
}

static void a_timer_may_be_freed_by_its_function(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct loop_timer *timer = calloc(1, sizeof *timer);

        assert_non_null(timer);
        assert_true(loop_timer_start(loop, timer, i, free_timer));
    }
    loop_turn(loop, 0);
}

struct rearming {
    struct loop_timer timer;
    struct loop *loop;
    int count;
};

static void arm_for_the_past(struct loop_timer *timer)
{
    struct rearming *rearming = CONTAINER_OF(timer, struct rearming, timer);

    rearming->count++;
    assert_true(loop_timer_start(rearming->loop, timer, 0, arm_for_the_past));
}

static void a_timer_re_armed_for_the_past_fires_once_in_a_turn(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    struct rearming rearming = { .loop = loop };

    (void)state;
    assert_true(loop_timer_start(loop, &rearming.timer, 0, arm_for_the_past));
    loop_turn(loop, 0);
    assert_int_equal(rearming.count, 1);
    loop_turn(loop, 0);
    assert_int_equal(rearming.count, 2);
    loop_timer_stop(loop, &rearming.timer);
    loop_timer_stop(loop, &rearming.timer);
    loop_turn(loop, 0);
    assert_int_equal(rearming.count, 2);
}

static int closed_handles;

static void count_close(uv_handle_t *handle)
{
    (void)handle;
    closed_handles++;
}

static void freeing_runs_posts_closes_handles_and_disarms_timers(void **state)
{
    struct loop *loop = new_loop();
    struct alarm left = { .loop = loop };
    uv_timer_t closing, open;
    struct note note;
    size_t count = 0;
    int log[1];

    (void)state;
    note = (struct note){ .loop = loop, .log = log, .count = &count, .value = 5 };
    loop_post(loop, &note.post, write_note);
    assert_true(loop_timer_start(loop, &left.timer, CLOCK_NEVER, stop_loop));
    assert_int_equal(uv_timer_init(loop_uv(loop), &closing), 0);
    assert_int_equal(uv_timer_init(loop_uv(loop), &open), 0);
    assert_int_equal(uv_timer_start(&open, NULL, 1, 0), UV_EINVAL);
    closed_handles = 0;
    uv_close((uv_handle_t *)&closing, count_close);
    loop_free(loop);
    assert_int_equal(count, 1);
    assert_int_equal(closed_handles, 1);
    assert_int_equal(left.timer.slot, 0);
    loop_free(NULL);
}

static void *ask_owner(void *arg)
{
    return loop_is_owner(arg) ? arg : NULL;
}

static void only_its_thread_is_the_owner(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    void *answer = loop;
    pthread_t thread;

    (void)state;
    assert_true(loop_is_owner(loop));
    loop_assert_owner(loop);
    assert_int_equal(pthread_create(&thread, NULL, ask_owner, loop), 0);
    assert_int_equal(pthread_join(thread, &answer), 0);
    assert_null(answer);
}

/* ---- waiting on the loop's own thread ---- */

struct shared {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct loop *loop;
    struct loop_post post;
    bool there;
    bool callback_may_wait;
};

static void bring(struct loop_post *post)
{
    struct shared *s = CONTAINER_OF(post, struct shared, post);

    pthread_mutex_lock(&s->lock); /* the waiter has let go of it */
    s->there = true;
    s->callback_may_wait = loop_may_wait(s->loop);
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static bool await_shared(struct shared *s, const struct wait *w)
{
    bool time_left = true;
    bool there;

    pthread_mutex_lock(&s->lock);
    while (!s->there && time_left)
        time_left = loop_wait_cond(s->loop, w, &s->cond, &s->lock);
    there = s->there;
    pthread_mutex_unlock(&s->lock);
    return there;
}

static void shared_start(struct shared *s, struct loop *loop)
{
    *s = (struct shared){ .lock = PTHREAD_MUTEX_INITIALIZER, .loop = loop };
    cond_init(&s->cond);
}

static void waiting_on_its_own_thread_turns_the_loop(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    const struct wait w = { .deadline_ns = clock_now_ns() + 10 * CLOCK_NS_PER_S };
    struct shared s;

    (void)state;
    shared_start(&s, loop);
    loop_post(loop, &s.post, bring);
    assert_true(loop_may_wait(loop));
    assert_true(await_shared(&s, &w));
    assert_false(s.callback_may_wait);
}

static void waiting_on_its_own_thread_ends_with_deadline_and_token(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    struct wait w = { .deadline_ns = clock_now_ns() + 2 * CLOCK_NS_PER_MS };
    struct cancel token;
    struct shared s;

    (void)state;
    shared_start(&s, loop);
    assert_false(await_shared(&s, &w));
    assert_true(clock_now_ns() >= w.deadline_ns);
    cancel_init(&token);
    cancel_raise(&token);
    w = (struct wait){ .deadline_ns = CLOCK_NEVER, .cancel = &token };
    assert_false(await_shared(&s, &w));
    cancel_fini(&token);
}

static void *await_elsewhere(void *arg)
{
    const struct wait w = { .deadline_ns = clock_now_ns() + 10 * CLOCK_NS_PER_S };

    return await_shared(arg, &w) ? arg : NULL;
}

static void waiting_on_another_thread_leaves_the_loop_alone(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = new_loop();
    pthread_t thread;
    struct shared s;
    void *result;

    (void)state;
    shared_start(&s, loop);
    assert_int_equal(pthread_create(&thread, NULL, await_elsewhere, &s), 0);
    loop_post(loop, &s.post, bring);
    while (!s.there)
        loop_turn(loop, 100);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &s);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct loop_timer timers[40] = { { 0 } };
        struct loop *loop = loop_new(&err);
        bool ok = loop != NULL;

        for (size_t i = 0; ok && i < ARRAY_LEN(timers); i++)
            ok = loop_timer_start(loop, &timers[i], CLOCK_NEVER, stop_loop);
        FAULT_DONE(n);
        assert_int_equal(ok, n_last);
        if (!loop)
            assert_code(err, ERR_NOMEM);
        loop_free(loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_run_in_order_and_wake_once),
        cmocka_unit_test(posts_of_many_threads_all_arrive_each_in_its_order),
        cmocka_unit_test(a_post_may_be_freed_by_its_function),
        cmocka_unit_test(a_post_that_posts_itself_starves_nobody),
        cmocka_unit_test(stopping_before_running_returns_at_once_and_only_once),
        cmocka_unit_test(a_turn_waits_no_longer_than_it_is_told),
        cmocka_unit_test(timers_fire_in_order_of_their_deadlines),
        cmocka_unit_test(a_timer_never_fires_early),
        cmocka_unit_test(an_earlier_timer_armed_later_fires_first),
        cmocka_unit_test(a_timer_may_be_freed_by_its_function),
        cmocka_unit_test(a_timer_re_armed_for_the_past_fires_once_in_a_turn),
        cmocka_unit_test(freeing_runs_posts_closes_handles_and_disarms_timers),
        cmocka_unit_test(only_its_thread_is_the_owner),
        cmocka_unit_test(waiting_on_its_own_thread_turns_the_loop),
        cmocka_unit_test(waiting_on_its_own_thread_ends_with_deadline_and_token),
        cmocka_unit_test(waiting_on_another_thread_leaves_the_loop_alone),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
