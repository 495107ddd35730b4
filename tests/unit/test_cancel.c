#include "kernel/base/cancel.h"

#include <sched.h>

#include "kernel/base/clock.h"
#include "tests/support/check.h"

struct trace {
    char text[16];
    size_t len;
};

struct mark {
    struct trace *trace;
    char letter;
};

static void leave_mark(void *arg)
{
    struct mark *mark = arg;

    mark->trace->text[mark->trace->len++] = mark->letter;
}

static void raising_runs_each_hook_once_in_order(void **state)
{
    struct trace trace = { .len = 0 };
    struct mark a = { &trace, 'a' }, b = { &trace, 'b' };
    struct cancel_hook first, second;
    struct cancel token;

    (void)state;
    cancel_init(&token);
    assert_false(cancel_raised(&token));
    cancel_attach(&token, &first, leave_mark, &a);
    cancel_attach(&token, &second, leave_mark, &b);
    assert_string_equal(trace.text, "");
    cancel_raise(&token);
    assert_true(cancel_raised(&token));
    cancel_raise(&token);
    assert_string_equal(trace.text, "ab");
    cancel_detach(&token, &first);
    cancel_detach(&token, &second);
    cancel_fini(&token);
}

static void attaching_to_a_raised_token_runs_at_once(void **state)
{
    struct trace trace = { .len = 0 };
    struct mark a = { &trace, 'a' };
    struct cancel_hook hook;
    struct cancel token;

    (void)state;
    cancel_init(&token);
    cancel_raise(&token);
    cancel_attach(&token, &hook, leave_mark, &a);
    assert_string_equal(trace.text, "a");
    cancel_detach(&token, &hook);
    cancel_fini(&token);
}

static void a_detached_hook_stays_silent(void **state)
{
    struct trace trace = { .len = 0 };
    struct mark a = { &trace, 'a' };
    struct cancel_hook hook;
    struct cancel token;

    (void)state;
    cancel_init(&token);
    cancel_attach(&token, &hook, leave_mark, &a);
    cancel_detach(&token, &hook);
    cancel_detach(&token, &hook);
    cancel_raise(&token);
    assert_string_equal(trace.text, "");
    cancel_fini(&token);
}

static void without_a_token_nothing_fires(void **state)
{
    struct trace trace = { .len = 0 };
    struct mark a = { &trace, 'a' };
    struct cancel_hook hook;

    (void)state;
    cancel_attach(NULL, &hook, leave_mark, &a);
    cancel_detach(NULL, &hook);
    assert_string_equal(trace.text, "");
}

struct slow_hook {
    pthread_barrier_t started;
    struct cancel token;
    int done; /* not atomic on purpose: detaching must order it */
};

static void be_slow(void *arg)
{
    struct slow_hook *slow = arg;

    (void)pthread_barrier_wait(&slow->started);
    for (int i = 0; i < 200; i++)
        (void)sched_yield();
    slow->done = 1;
}

static void *raise_it(void *arg)
{
    struct slow_hook *slow = arg;

    cancel_raise(&slow->token);
    return NULL;
}

static void detaching_waits_for_a_hook_in_progress(void **state)
{
    struct slow_hook slow = { .done = 0 };
    struct cancel_hook hook;
    pthread_t thread;

    (void)state;
    cancel_init(&slow.token);
    assert_int_equal(pthread_barrier_init(&slow.started, NULL, 2), 0);
    cancel_attach(&slow.token, &hook, be_slow, &slow);
    assert_int_equal(pthread_create(&thread, NULL, raise_it, &slow), 0);
    (void)pthread_barrier_wait(&slow.started);
    cancel_detach(&slow.token, &hook);
    assert_int_equal(slow.done, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_barrier_destroy(&slow.started);
    cancel_fini(&slow.token);
}

static void checking_says_why_no_time_is_left(void **state)
{
    struct cancel token;
    struct wait with = { .deadline_ns = 1000, .cancel = &token };
    struct wait without = { .deadline_ns = 1000 }, never = { .deadline_ns = CLOCK_NEVER };
    struct error err = ERROR_INIT;

    (void)state;
    cancel_init(&token);
    clock_fake(999);
    assert_ok(wait_check(&with, &err), err);
    assert_ok(wait_check(&without, &err), err);
    clock_fake(1000);
    assert_false(wait_check(&with, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    assert_ok(wait_check(&never, &err), err);
    cancel_raise(&token);
    assert_false(wait_check(&with, &err));
    assert_code(err, ERR_CANCELLED);
    clock_real();
    cancel_fini(&token);
}

/* One thing to wait for, as the callers of wait_cond() build it. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct cancel token;
    bool open;
};

static void gate_init(struct gate *gate)
{
    pthread_mutex_init(&gate->lock, NULL);
    cond_init(&gate->changed);
    cancel_init(&gate->token);
    gate->open = false;
}

static void gate_fini(struct gate *gate)
{
    cancel_fini(&gate->token);
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->lock);
}

static void gate_wake(void *arg)
{
    struct gate *gate = arg;

    pthread_mutex_lock(&gate->lock);
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static bool gate_pass(struct gate *gate, const struct wait *w)
{
    struct cancel_hook hook;
    bool passed;

    cancel_attach(w->cancel, &hook, gate_wake, gate);
    pthread_mutex_lock(&gate->lock);
    while (!gate->open && wait_cond(w, &gate->changed, &gate->lock))
        continue;
    passed = gate->open;
    pthread_mutex_unlock(&gate->lock);
    cancel_detach(w->cancel, &hook);
    return passed;
}

static void *open_gate(void *arg)
{
    struct gate *gate = arg;

    pthread_mutex_lock(&gate->lock);
    gate->open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
    return NULL;
}

static void *raise_gate(void *arg)
{
    struct gate *gate = arg;

    cancel_raise(&gate->token);
    return NULL;
}

static void waiting_ends_when_the_condition_comes(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct gate gate;
        struct wait w = { .deadline_ns = CLOCK_NEVER, .cancel = &gate.token };
        pthread_t thread;

        gate_init(&gate);
        if (i % 2)
            w.deadline_ns = clock_add_ns(clock_now_ns(), 100 * CLOCK_NS_PER_S);
        assert_int_equal(pthread_create(&thread, NULL, open_gate, &gate), 0);
        assert_true(gate_pass(&gate, &w));
        assert_int_equal(pthread_join(thread, NULL), 0);
        gate_fini(&gate);
    }
}

static void waiting_ends_when_the_token_is_raised(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct gate gate;
        struct wait w = { .deadline_ns = CLOCK_NEVER, .cancel = &gate.token };
        pthread_t thread;

        gate_init(&gate);
        if (i % 2)
            w.deadline_ns = clock_add_ns(clock_now_ns(), 100 * CLOCK_NS_PER_S);
        assert_int_equal(pthread_create(&thread, NULL, raise_gate, &gate), 0);
        assert_false(gate_pass(&gate, &w));
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_true(cancel_raised(&gate.token));
        gate_fini(&gate);
    }
}

static void waiting_ends_at_the_deadline(void **state)
{
    struct gate gate;
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 3 * CLOCK_NS_PER_MS) };

    (void)state;
    gate_init(&gate);
    assert_false(gate_pass(&gate, &w));
    assert_true(clock_now_ns() >= w.deadline_ns);
    assert_false(gate_pass(&gate, &w)); /* passed already: at once */
    gate_fini(&gate);
}

static void a_turned_clock_counts_for_waiting(void **state)
{
    struct gate gate;
    struct wait w = { .deadline_ns = 1000 + 2 * CLOCK_NS_PER_MS };

    (void)state;
    gate_init(&gate);
    clock_fake(1000);
    pthread_mutex_lock(&gate.lock);
    /* Two milliseconds later by the system's clock, while ours stands still: not yet over. */
    assert_true(wait_cond(&w, &gate.changed, &gate.lock));
    clock_fake(w.deadline_ns);
    assert_false(wait_cond(&w, &gate.changed, &gate.lock));
    pthread_mutex_unlock(&gate.lock);
    clock_real();
    gate_fini(&gate);
}

static void a_pause_ends_with_its_time_or_its_wait(void **state)
{
    struct wait w = { .deadline_ns = clock_now_ns() + 60 * CLOCK_NS_PER_S };
    struct error err = ERROR_INIT;
    struct cancel token;
    int64_t begun_ns = clock_now_ns();
    (void)state;

    assert_ok(wait_pause(&w, CLOCK_NS_PER_MS, &err), err);
    assert_true(clock_now_ns() - begun_ns >= CLOCK_NS_PER_MS);
    cancel_init(&token);
    cancel_raise(&token);
    w.cancel = &token;
    assert_false(wait_pause(&w, 3600 * CLOCK_NS_PER_S, &err));
    assert_code(err, ERR_CANCELLED);
    w = (struct wait){ .deadline_ns = clock_now_ns() + CLOCK_NS_PER_MS };
    error_clear(&err);
    assert_false(wait_pause(&w, 3600 * CLOCK_NS_PER_S, &err));
    assert_code(err, ERR_TIMEOUT);
    cancel_fini(&token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pause_ends_with_its_time_or_its_wait),
        cmocka_unit_test(raising_runs_each_hook_once_in_order),
        cmocka_unit_test(attaching_to_a_raised_token_runs_at_once),
        cmocka_unit_test(a_detached_hook_stays_silent),
        cmocka_unit_test(without_a_token_nothing_fires),
        cmocka_unit_test(detaching_waits_for_a_hook_in_progress),
        cmocka_unit_test(checking_says_why_no_time_is_left),
        cmocka_unit_test(waiting_ends_when_the_condition_comes),
        cmocka_unit_test(waiting_ends_when_the_token_is_raised),
        cmocka_unit_test(waiting_ends_at_the_deadline),
        cmocka_unit_test(a_turned_clock_counts_for_waiting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
