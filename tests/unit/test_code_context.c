#include "tools/code_context.h"

#include "kernel/base/clock.h"
#include "tests/support/check.h"

static struct loop *loop;

static int make_loop(void **state)
{
    (void)state;
    loop = loop_new(NULL);
    return loop ? 0 : -1;
}

static int drop_loop(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static struct code_context *context(void)
{
    struct error err = ERROR_INIT;
    struct code_context *ctx = code_context_new(loop, CODE_BASH, "name", &err);

    assert_ok(ctx, err);
    return ctx;
}

static void a_new_one_is_idle_and_unused(void **state)
{
    CLEANUP(code_context_unrefp) struct code_context *ctx = context();
    enum code_stop stop;
    (void)state;

    assert_int_equal(code_context_state(ctx, &stop), CODE_IDLE);
    assert_int_equal(stop, CODE_STOP_NONE);
    assert_false(code_context_used(ctx));
    assert_int_equal(code_context_language(ctx), CODE_BASH);
    assert_string_equal(code_context_name(ctx), "name");
}

static void one_caller_is_inside_at_a_time(void **state)
{
    CLEANUP(code_context_unrefp) struct code_context *ctx = context();
    struct wait now = { .deadline_ns = clock_now_ns() };
    struct error err = ERROR_INIT;
    (void)state;

    assert_ok(code_context_enter(ctx, &now, &err), err);
    assert_true(code_context_used(ctx));
    assert_false(code_context_enter(ctx, &now, &err));
    assert_code(err, ERR_BUSY);
    code_context_leave(ctx);
    error_clear(&err);
    assert_ok(code_context_enter(ctx, &now, &err), err);
    code_context_leave(ctx);
}

static void a_cancelled_caller_does_not_wait_for_its_turn(void **state)
{
    CLEANUP(code_context_unrefp) struct code_context *ctx = context();
    struct cancel cancel;
    struct wait first = { .deadline_ns = clock_now_ns() };
    struct wait w = { .deadline_ns = clock_now_ns() + 60 * CLOCK_NS_PER_S, .cancel = &cancel };
    struct error err = ERROR_INIT;
    (void)state;

    cancel_init(&cancel);
    cancel_raise(&cancel);
    assert_ok(code_context_enter(ctx, &first, &err), err);
    assert_false(code_context_enter(ctx, &w, &err));
    assert_code(err, ERR_CANCELLED);
    code_context_leave(ctx);
    cancel_fini(&cancel);
}

static void what_is_asked_of_an_idle_one_changes_nothing(void **state)
{
    CLEANUP(code_context_unrefp) struct code_context *ctx = context();
    CLEANUP(buf_fini) struct buf image = BUF_INIT;
    struct wait now = { .deadline_ns = clock_now_ns() };
    struct error err = ERROR_INIT;
    (void)state;

    code_context_interrupt(ctx, CODE_STOP_CANCEL);
    code_context_kill(ctx);
    code_context_reset(ctx);
    assert_ok(code_context_wait(ctx, &now, &err), err);
    assert_int_equal(code_context_state(ctx, NULL), CODE_IDLE);
    assert_false(code_context_image(ctx, 1, 0, &image, &now, &err));
    assert_code(err, ERR_LOST);
}

static void a_retired_one_is_let_go_by_the_loop(void **state)
{
    struct code_context *ctx = context();
    (void)state;

    code_context_retire(ctx);
    code_context_retire(ctx);
    code_context_unref(ctx); /* the loop has the last reference */
    loop_turn(loop, 0);
}

static void making_one_survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct code_context *ctx = code_context_new(loop, CODE_C, "c", &err);

        FAULT_DONE(n);
        assert_true((ctx != NULL) == n_last);
        if (!ctx)
            assert_code(err, ERR_NOMEM);
        code_context_unref(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_one_is_idle_and_unused),
        cmocka_unit_test(one_caller_is_inside_at_a_time),
        cmocka_unit_test(a_cancelled_caller_does_not_wait_for_its_turn),
        cmocka_unit_test(what_is_asked_of_an_idle_one_changes_nothing),
        cmocka_unit_test(a_retired_one_is_let_go_by_the_loop),
        cmocka_unit_test(making_one_survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, make_loop, drop_loop);
}
