#include "kernel/kernel.h"

#include "kernel/base/log.h"
#include "tests/unit/kernel_place.h"

/* ---- the way of a syscall ---- */

static void inline_tools_run_during_submission(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2, 8, NULL);
    submit(&p, &t_inline, "hello");
    assert_int_equal(p.done, 1);
    assert_int_equal(p.last_state, SYSCALL_DONE);
    assert_string_equal(p.last_text, "hello");
    assert_seen(0, AUDIT_DECISION, "inline", "allow");
    assert_string_equal(seen[0].rule, "no rule");
    assert_string_equal(seen[0].detail, "{\"command\":\"hello\"}");
    assert_int_equal(seen[0].syscall, 1);
    assert_seen(1, AUDIT_KIND_COUNT, "handler", "");
    assert_seen(2, AUDIT_RESULT, "inline", "done");
    assert_string_equal(seen[2].detail, "ok");
    loop_turn(p.loop, 0);
    assert_int_equal(p.done, 1);
    place_free(&p);
}

static void others_run_on_a_worker_and_complete_on_the_loop(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2, 8, NULL);
    submit(&p, &t_echo, "hello");
    assert_int_equal(p.done, 0);
    turn_until(&p, 1);
    assert_true(p.on_loop);
    assert_false(pthread_equal(handler_thread, pthread_self()));
    assert_int_equal(p.last_state, SYSCALL_DONE);
    assert_string_equal(p.last_text, "hello");
    assert_seen(0, AUDIT_DECISION, "echo", "allow");
    assert_seen(1, AUDIT_KIND_COUNT, "handler", "");
    assert_seen(2, AUDIT_RESULT, "echo", "done");
    place_free(&p);
}

static void a_failed_handler_becomes_an_error_with_its_text(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2, 8, NULL);
    submit(&p, &t_no_way, NULL);
    turn_until(&p, 1);
    assert_int_equal(p.last_state, SYSCALL_FAILED);
    assert_int_equal(p.last_code, ERR_NOT_FOUND);
    assert_string_equal(p.last_text, "no such run; terminal_run makes one");
    assert_seen(1, AUDIT_RESULT, "no_way", "failed");
    assert_string_equal(seen[1].detail, "no such run; terminal_run makes one");
    submit(&p, &t_speechless, NULL);
    assert_int_equal(p.last_code, ERR_INTERNAL);
    assert_contains(p.last_text, "speechless failed");
    place_free(&p);
}

static void a_rule_that_denies_is_named(void **state)
{
    struct place p;
    json_t *rules = json_pack("[{s:s,s:s}]", "tool", "ec*", "decision", "deny");
    struct error err = ERROR_INIT;
    struct kernel_stats stats;
    struct syscall *sc;
    (void)state;

    place_new(&p, 2, 8, rules);
    sc = call_of(&p, &t_echo, NULL);
    assert_false(kernel_submit(p.k, sc, &err));
    assert_code(err, ERR_DENIED);
    assert_contains(err.text, "rule 1: deny ec*");
    assert_int_equal(sc->state, SYSCALL_FAILED);
    syscall_free(sc);
    assert_int_equal(atomic_load(&handled), 0);
    assert_seen(0, AUDIT_DECISION, "echo", "deny");
    kernel_stats(p.k, &stats);
    assert_int_equal(stats.denied, 1);
    assert_int_equal(stats.submitted, 0);
    place_free(&p);
    json_decref(rules);
}

static void what_cannot_be_recorded_is_not_done(void **state)
{
    struct place p;
    struct error err = ERROR_INIT;
    struct syscall *sc;
    (void)state;

    place_new(&p, 2, 8, NULL);
    sc = call_of(&p, &t_inline, NULL);
    atomic_store(&audit_refuses, true);
    assert_false(kernel_submit(p.k, sc, &err));
    atomic_store(&audit_refuses, false);
    assert_code(err, ERR_IO);
    assert_contains(err.text, "the disk is gone");
    assert_int_equal(atomic_load(&handled), 0);
    syscall_free(sc);
    /* and the next one is */
    submit(&p, &t_inline, NULL);
    assert_int_equal(p.done, 1);
    place_free(&p);
}

static void without_its_audit_a_kernel_stays_up_and_says_why(void **state)
{
    struct config config = config_of("/proc/self/no/such/folder");
    struct place p = { .config = config };
    struct error err = ERROR_INIT;
    struct syscall *sc;
    (void)state;

    p.loop = loop_new(&err);
    assert_ok(p.loop, err);
    log_set_level(LOG_ERROR);
    p.k = kernel_new(p.loop, &p.config, &err);
    assert_ok(p.k, err);
    p.agent = kernel_agent(p.k, "default", NULL, &err);
    for (int i = 0; i < 2; i++) {
        sc = call_of(&p, &t_inline, NULL);
        assert_false(kernel_submit(p.k, sc, &err));
        assert_contains(err.text, "audit.dir");
        error_clear(&err);
        syscall_free(sc);
    }
    agent_unref(p.agent);
    kernel_free(p.k);
    loop_free(p.loop);
}

static void a_switched_off_audit_is_no_hindrance(void **state)
{
    struct place p = { .config = config_of(NULL) };
    struct error err = ERROR_INIT;
    (void)state;

    p.loop = loop_new(&err);
    assert_ok(p.loop, err);
    p.k = kernel_new(p.loop, &p.config, &err);
    assert_ok(p.k, err);
    p.agent = kernel_agent(p.k, "default", NULL, &err);
    submit(&p, &t_inline, NULL);
    assert_int_equal(p.done, 1);
    agent_unref(p.agent);
    kernel_free(p.k);
    loop_free(p.loop);
}

/* ---- the queue ---- */

static void a_full_queue_answers_busy_at_once(void **state)
{
    struct place p;
    struct error err = ERROR_INIT;
    struct kernel_stats stats;
    struct syscall *sc;
    (void)state;

    place_new(&p, 1, 1, NULL);
    submit(&p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    submit(&p, &t_gated, NULL);
    sc = call_of(&p, &t_gated, NULL);
    assert_false(kernel_submit(p.k, sc, &err));
    assert_code(err, ERR_BUSY);
    syscall_free(sc);
    assert_seen(3, AUDIT_RESULT, "gated", "busy");
    kernel_stats(p.k, &stats);
    assert_int_equal(stats.busy, 1);
    assert_int_equal(stats.submitted, 2);
    assert_int_equal(stats.classes[SYSCALL_TOOL].waiting, 1);
    assert_int_equal(stats.classes[SYSCALL_TOOL].running, 1);
    sem_post(&gate);
    sem_post(&gate);
    turn_until(&p, 2);
    kernel_stats(p.k, &stats);
    assert_int_equal(stats.done, 2);
    place_free(&p);
}

static void an_inline_tool_overtakes_nothing_that_could_run(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 1, 8, NULL);
    submit(&p, &t_gated_quick, NULL); /* has the only worker */
    assert_true(sem_get(&arrived));
    submit(&p, &t_echo, "first");
    submit(&p, &t_inline, "second");
    assert_int_equal(p.done, 0);
    sem_post(&gate);
    turn_until(&p, 3);
    assert_string_equal(p.last_text, "second");
    place_free(&p);
}

static void an_inline_tool_does_not_wait_behind_what_cannot_run(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 1, 8, NULL);
    submit(&p, &t_gated, NULL);
    assert_true(sem_get(&arrived));
    submit(&p, &t_gated, NULL); /* as many slow ones as may be are running */
    submit(&p, &t_inline, "at once");
    assert_int_equal(p.done, 1);
    assert_string_equal(p.last_text, "at once");
    sem_post(&gate);
    sem_post(&gate);
    turn_until(&p, 3);
    place_free(&p);
}

static void without_a_thread_the_call_is_handed_back(void **state)
{
    struct place p;
    struct error err = ERROR_INIT;
    struct syscall *sc;
    (void)state;

    place_new(&p, 2, 8, NULL);
    sc = call_of(&p, &t_echo, NULL);
    atomic_store(&no_threads, true);
    assert_false(kernel_submit(p.k, sc, &err));
    atomic_store(&no_threads, false);
    assert_contains(err.text, "worker thread");
    assert_int_equal(sc->state, SYSCALL_FAILED);
    syscall_free(sc);
    submit(&p, &t_echo, NULL);
    turn_until(&p, 1);
    assert_int_equal(atomic_load(&handled), 1);
    place_free(&p);
}

/* ---- what it holds ---- */

static void publishes_how_each_one_ended(void **state)
{
    struct place p;
    struct error err = ERROR_INIT;
    struct event_sub *sub;
    struct event event;
    uint64_t dropped;
    (void)state;

    place_new(&p, 1, 8, NULL);
    sub = event_subscribe(kernel_events(p.k), "syscall.*", NULL, NULL, &err);
    assert_ok(sub, err);
    submit(&p, &t_inline, NULL);
    submit(&p, &t_speechless, NULL);
    assert_true(event_next(sub, &event, &dropped));
    assert_string_equal(event.topic, "syscall.done");
    assert_string_equal(event.agent, "default");
    assert_string_equal(event.subject, "inline");
    assert_string_equal(event.text, "ok");
    assert_true(event_next(sub, &event, &dropped));
    assert_string_equal(event.topic, "syscall.failed");
    assert_contains(event.text, "without a reason");
    event_unsubscribe(sub);
    place_free(&p);
}

static void an_agent_is_made_once_and_keeps_its_group(void **state)
{
    struct place p;
    struct error err = ERROR_INIT;
    struct agent *first, *again;
    (void)state;

    place_new(&p, 1, 8, NULL);
    first = kernel_agent(p.k, "ada", "ops", &err);
    assert_ok(first, err);
    assert_int_equal(agent_state(first), AGENT_READY);
    for (int i = 0; i < 300; i++) { /* others around it, before and after in order */
        char name[16];

        (void)snprintf(name, sizeof name, "%c%d", i % 2 ? 'A' : 'z', i);
        agent_unref(kernel_agent(p.k, name, NULL, &err));
    }
    again = kernel_agent(p.k, "ada", "ops", &err);
    assert_ptr_equal(again, first);
    agent_unref(again);
    agent_unref(first);
    assert_null(kernel_agent(p.k, "ada", NULL, &err));
    assert_code(err, ERR_EXISTS);
    error_clear(&err);
    assert_null(kernel_agent(p.k, "not a name", NULL, &err));
    assert_code(err, ERR_INVALID);
    place_free(&p);
}

static void hands_out_its_parts(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 1, 8, NULL);
    assert_non_null(kernel_tools(p.k));
    assert_non_null(kernel_computers(p.k));
    assert_ptr_equal(kernel_config(p.k), &p.config);
    assert_ptr_equal(kernel_loop(p.k), p.loop);
    place_free(&p);
}

static void refuses_a_policy_that_is_not_there(void **state)
{
    struct config config = config_of(NULL);
    struct error err = ERROR_INIT;
    CLEANUP(loop_freep) struct loop *loop = loop_new(&err);
    (void)state;

    config.tool.calls.policy = "tea leaves";
    assert_null(kernel_new(loop, &config, &err));
    assert_code(err, ERR_INVALID);
    assert_contains(err.text, "tea leaves");
}

static void making_one_survives_every_allocation_failure(void **state)
{
    struct config config = config_of(NULL);
    struct error loop_err = ERROR_INIT;
    CLEANUP(loop_freep) struct loop *loop = loop_new(&loop_err);
    (void)state;

    assert_ok(loop, loop_err);
    config.access.rules = json_pack("[{s:s,s:s}]", "tool", "x", "decision", "deny");
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(kernel_freep) struct kernel *k = kernel_new(loop, &config, &err);
        CLEANUP(agent_unrefp) struct agent *a = k ? kernel_agent(k, "a", NULL, &err) : NULL;

        FAULT_DONE(n);
        if (!a)
            assert_code(err, ERR_NOMEM);
    }
    json_decref(config.access.rules);
}

static void submitting_survives_every_allocation_failure(void **state)
{
    static const struct tool *const tools[] = { &t_inline, &t_echo, &t_no_way };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
        FAULT_EACH(n)
        {
            struct error err = ERROR_INIT;
            struct syscall *sc;
            struct place p;
            bool ok;

            fault_disarm();
            place_new(&p, 1, 8, NULL); /* a new one each time, so that its timers' heap is new */
            sc = call_of(&p, tools[i], "text");
            fault_arm(n);
            ok = kernel_submit(p.k, sc, &err);
            while (ok && !p.done)
                loop_turn(p.loop, 100);
            FAULT_DONE(n);
            if (!ok) {
                assert_code(err, ERR_NOMEM);
                syscall_free(sc);
            }
            assert_int_equal(p.done, ok);
            place_free(&p);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inline_tools_run_during_submission),
        cmocka_unit_test(others_run_on_a_worker_and_complete_on_the_loop),
        cmocka_unit_test(a_failed_handler_becomes_an_error_with_its_text),
        cmocka_unit_test(a_rule_that_denies_is_named),
        cmocka_unit_test(what_cannot_be_recorded_is_not_done),
        cmocka_unit_test(without_its_audit_a_kernel_stays_up_and_says_why),
        cmocka_unit_test(a_switched_off_audit_is_no_hindrance),
        cmocka_unit_test(a_full_queue_answers_busy_at_once),
        cmocka_unit_test(an_inline_tool_overtakes_nothing_that_could_run),
        cmocka_unit_test(an_inline_tool_does_not_wait_behind_what_cannot_run),
        cmocka_unit_test(without_a_thread_the_call_is_handed_back),
        cmocka_unit_test(publishes_how_each_one_ended),
        cmocka_unit_test(an_agent_is_made_once_and_keeps_its_group),
        cmocka_unit_test(hands_out_its_parts),
        cmocka_unit_test(refuses_a_policy_that_is_not_there),
        cmocka_unit_test(making_one_survives_every_allocation_failure),
        cmocka_unit_test(submitting_survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
