#include "tests/unit/peer_place.h"

static void a_client_without_roots_is_not_asked(void **state)
{
    struct place p;
    struct asker a;
    (void)state;

    place_new(&p, false);
    asker_start(&a, &p, PATIENCE_NS);
    asker_join(&a);
    assert_null(a.roots);
    assert_code(a.err, ERR_UNSUPPORTED);
    assert_int_equal(p.sent, 0);
    place_free(&p);
}

static void the_answer_reaches_who_asked(void **state)
{
    struct place p;
    struct asker a;
    (void)state;

    place_new(&p, true);
    asker_start(&a, &p, PATIENCE_NS);
    await_question(&p, 1);
    assert_string_equal(p.last,
                        "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"method\":\"roots/list\"}\n");
    answer(&p,
           "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":{\"roots\":["
           "{\"uri\":\"file:///a\",\"name\":\"A\"},{\"uri\":7},{},3,{\"uri\":\"file:///b\"}]}}");
    asker_join(&a);
    assert_ok(a.roots, a.err);
    assert_int_equal(json_array_size(a.roots), 2);
    assert_string_equal(json_string_value(json_array_get(a.roots, 1)), "file:///b");
    json_decref(a.roots);
    place_free(&p);
}

static void an_odd_answer_is_no_roots(void **state)
{
    static const char *const results[] = {
        "null", "{}", "[]", "7", "{\"roots\":{}}", "{\"roots\":\"x\"}"
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        struct place p;
        struct asker a;
        char line[120];

        place_new(&p, true);
        asker_start(&a, &p, PATIENCE_NS);
        await_question(&p, 1);
        (void)snprintf(line, sizeof line, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":%s}",
                       results[i]);
        answer(&p, line);
        asker_join(&a);
        assert_ok(a.roots, a.err);
        assert_int_equal(json_array_size(a.roots), 0);
        json_decref(a.roots);
        place_free(&p);
    }
}

static void an_error_is_passed_on(void **state)
{
    static const struct {
        const char *error, *want;
        enum error_code code;
    } rows[] = {
        { "{\"code\":-32601,\"message\":\"no roots today\"}", "roots/list: no roots today",
          ERR_UNSUPPORTED },
        { "{\"code\":-1,\"message\":\"not for you\"}", "not for you", ERR_DENIED },
        { "{\"code\":-32603}", "answered with an error", ERR_LOST },
        { "7", "answered with an error", ERR_LOST },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct place p;
        struct asker a;
        char line[160];

        place_new(&p, true);
        asker_start(&a, &p, PATIENCE_NS);
        await_question(&p, 1);
        (void)snprintf(line, sizeof line, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"error\":%s}",
                       rows[i].error);
        answer(&p, line);
        asker_join(&a);
        assert_null(a.roots);
        assert_code(a.err, rows[i].code);
        assert_contains(a.err.text, rows[i].want);
        place_free(&p);
    }
}

static void answers_to_what_was_not_asked_are_ignored(void **state)
{
    static const char *const lines[] = {
        "{\"jsonrpc\":\"2.0\",\"id\":\"aios-2\",\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":\"aios-01\",\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":\"aios-\",\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{}}",
        "{\"jsonrpc\":\"2.0\",\"error\":{}}",
    };
    struct place p;
    struct asker a;
    (void)state;

    place_new(&p, true);
    answer(&p, lines[0]); /* before anything was asked, too */
    asker_start(&a, &p, PATIENCE_NS);
    await_question(&p, 1);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        answer(&p, lines[i]);
    loop_turn(p.loop, 0);
    assert_false(atomic_load(&a.done));
    answer(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":{}}");
    asker_join(&a);
    assert_ok(a.roots, a.err);
    json_decref(a.roots);
    answer(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":{}}"); /* once more */
    place_free(&p);
}

static void silence_ends_with_the_deadline(void **state)
{
    static const int64_t timeouts[] = { -1, 0, 20 * CLOCK_NS_PER_MS };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(timeouts); i++) {
        struct place p;
        struct asker a;

        place_new(&p, true);
        asker_start(&a, &p, timeouts[i]);
        asker_join(&a);
        assert_null(a.roots);
        assert_code(a.err, ERR_TIMEOUT);
        assert_contains(a.err.text, "did not answer roots/list");
        answer(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":{}}"); /* too late */
        place_free(&p);
    }
}

static void a_cancel_ends_the_wait(void **state)
{
    struct place p;
    struct asker a;
    (void)state;

    place_new(&p, true);
    asker_start(&a, &p, PATIENCE_NS);
    await_question(&p, 1);
    cancel_raise(&a.cancel);
    asker_join(&a);
    assert_null(a.roots);
    assert_code(a.err, ERR_CANCELLED);
    assert_int_equal(p.sent, 2); /* the client is told that nobody waits any more */
    assert_string_equal(p.last, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\","
                                "\"params\":{\"requestId\":\"aios-1\"}}\n");
    place_free(&p);
}

static void what_is_cancelled_already_does_not_wait(void **state)
{
    struct place p;
    struct asker a;
    (void)state;

    place_new(&p, true);
    memset(&a, 0, sizeof a);
    a.place = &p;
    cancel_init(&a.cancel);
    cancel_raise(&a.cancel);
    a.wait = (struct wait){ .deadline_ns = clock_now_ns() + PATIENCE_NS, .cancel = &a.cancel };
    assert_int_equal(pthread_create(&a.thread, NULL, asker_main, &a), 0);
    asker_join(&a);
    assert_null(a.roots);
    assert_code(a.err, ERR_CANCELLED);
    place_free(&p);
}

static void closing_ends_every_wait_and_later_ones_at_once(void **state)
{
    struct place p;
    struct asker before, after;
    (void)state;

    place_new(&p, true);
    asker_start(&before, &p, PATIENCE_NS);
    await_question(&p, 1);
    peer_close(p.peer);
    asker_join(&before);
    assert_null(before.roots);
    assert_code(before.err, ERR_LOST);
    assert_contains(before.err.text, "has gone");
    asker_start(&after, &p, PATIENCE_NS);
    asker_join(&after);
    assert_null(after.roots);
    assert_code(after.err, ERR_LOST);
    assert_int_equal(p.sent, 1);
    peer_close(p.peer); /* a second time changes nothing */
    place_free(&p);
}

static void each_of_many_gets_its_own_answer(void **state)
{
    static struct asker askers[ASKERS];
    struct place p;
    bool seen[ASKERS] = { false };
    (void)state;

    place_new(&p, true);
    for (int i = 0; i < ASKERS; i++)
        asker_start(&askers[i], &p, PATIENCE_NS);
    await_question(&p, ASKERS);
    for (int i = ASKERS; i > 0; i--) {
        char line[160];

        (void)snprintf(
            line, sizeof line,
            "{\"jsonrpc\":\"2.0\",\"id\":\"aios-%d\",\"result\":{\"roots\":[{\"uri\":\"%d\"}]}}", i,
            i - 1);
        answer(&p, line);
    }
    for (int i = 0; i < ASKERS; i++) {
        unsigned long which;

        asker_join(&askers[i]);
        assert_ok(askers[i].roots, askers[i].err);
        which = strtoul(json_string_value(json_array_get(askers[i].roots, 0)), NULL, 10);
        assert_true(which < ASKERS && !seen[which]);
        seen[which] = true;
        json_decref(askers[i].roots);
    }
    place_free(&p);
}

/* Everything at once: some are answered, some cancelled, some time out, and then the peer goes. */
static void freeing_waits_for_those_on_their_way_out(void **state)
{
    static struct asker askers[ASKERS];
    (void)state;

    for (int round = 0; round < 30; round++) {
        struct place p;

        place_new(&p, true);
        for (int i = 0; i < ASKERS; i++)
            asker_start(&askers[i], &p, i % 4 == 0 ? CLOCK_NS_PER_MS : PATIENCE_NS);
        while (p.sent < ASKERS / 2)
            loop_turn(p.loop, 1);
        answer(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-2\",\"result\":{}}");
        for (int i = 0; i < ASKERS; i++)
            if (i % 4 == 1)
                cancel_raise(&askers[i].cancel);
        peer_close(p.peer);
        for (int i = 0; i < ASKERS; i++)
            asker_join(&askers[i]);
        peer_free(p.peer);
        for (int i = 0; i < ASKERS; i++) {
            if (askers[i].roots)
                json_decref(askers[i].roots);
            else
                assert_int_not_equal(askers[i].err.code, ERR_NONE);
        }
        loop_free(p.loop);
    }
}

static void only_so_many_questions_are_open(void **state)
{
    static struct asker askers[PEER_QUESTIONS_MAX];
    struct place p;
    struct asker last;
    (void)state;

    place_new(&p, true);
    for (unsigned i = 0; i < PEER_QUESTIONS_MAX; i++)
        asker_start(&askers[i], &p, PATIENCE_NS);
    await_question(&p, PEER_QUESTIONS_MAX);
    asker_start(&last, &p, PATIENCE_NS);
    asker_join(&last);
    assert_code(last.err, ERR_LIMIT);
    peer_close(p.peer);
    for (unsigned i = 0; i < PEER_QUESTIONS_MAX; i++)
        asker_join(&askers[i]);
    place_free(&p);
}

/* ---- the modern era ---- */

static void a_modern_answer_comes_with_its_state(void **state)
{
    json_t *yes = json_pack("{s:s}", "action", "accept");
    struct place p;
    struct asker a;
    (void)state;

    place_new_modern(&p);
    assert_null(peer_waiting(p.peer, "q_00000000000000000000000000"));
    asker_begin(&a, &p, ELICIT, json_object(), PATIENCE_NS);
    await_question(&p, 1);
    assert_string_equal(p.last, "elicitation/create {\"message\":\"May \\\"it\\\"?\","
                                "\"requestedSchema\":{}}");
    assert_true(id_is(p.state, "q"));
    assert_ptr_equal(peer_waiting(p.peer, p.state), &p.caller);
    assert_null(peer_waiting(p.peer, ""));
    assert_false(peer_reply(p.peer, "q_00000000000000000000000000", yes));
    /* An answer in the legacy form is none to a modern question. */
    answer(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":{\"action\":\"accept\"}}");
    assert_false(atomic_load(&a.done));
    assert_true(peer_reply(p.peer, p.state, yes));
    assert_false(peer_reply(p.peer, p.state, yes)); /* once */
    assert_null(peer_waiting(p.peer, p.state));
    asker_join(&a);
    assert_ok(a.yes, a.err);
    json_decref(a.roots);
    json_decref(yes);
    place_free(&p);
}

static void a_repeated_question_has_a_new_state(void **state)
{
    json_t *no = json_pack("{s:s}", "action", "decline");
    char first[ID_SIZE];
    struct place p;
    struct asker a;
    (void)state;

    place_new_modern(&p);
    asker_begin(&a, &p, ELICIT, json_object(), PATIENCE_NS);
    await_question(&p, 1);
    (void)snprintf(first, sizeof first, "%s", p.state);
    assert_true(peer_repeat(p.peer, first));
    assert_int_equal(p.sent, 2);
    assert_string_not_equal(p.state, first);
    assert_false(peer_repeat(p.peer, first));
    assert_null(peer_waiting(p.peer, first));
    assert_true(peer_reply(p.peer, p.state, no));
    asker_join(&a);
    assert_code(a.err, ERR_DENIED);
    json_decref(no);
    place_free(&p);
}

static void a_modern_question_ends_with_its_time(void **state)
{
    json_t *yes = json_pack("{s:s}", "action", "accept");
    struct place p;
    struct asker a;
    (void)state;

    place_new_modern(&p);
    asker_begin(&a, &p, ELICIT, json_object(), PATIENCE_NS);
    await_question(&p, 1);
    cancel_raise(&a.cancel);
    asker_join(&a);
    assert_code(a.err, ERR_CANCELLED);
    assert_int_equal(p.sent, 1); /* nothing is sent after it */
    assert_null(peer_waiting(p.peer, p.state));
    assert_false(peer_reply(p.peer, p.state, yes));
    json_decref(yes);
    place_free(&p);
}

static void a_call_that_cannot_be_answered_is_not_waited_for(void **state)
{
    struct place p;
    struct asker a;
    (void)state;

    place_new_modern(&p);
    p.deaf = true;
    asker_begin(&a, &p, ELICIT, json_object(), PATIENCE_NS);
    asker_join(&a);
    assert_code(a.err, ERR_LOST);
    place_free(&p);
}

static void the_error_may_be_left_out(void **state)
{
    struct place p;
    struct wait w = { .deadline_ns = 1 };
    (void)state;

    place_new(&p, false);
    assert_null(peer_tool()->roots(&p.caller, &w, NULL));
    place_free(&p);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct loop *loop;
        struct peer *peer;
        unsigned armed = n;

        (void)fault_disarm();
        loop = loop_new(NULL);
        assert_non_null(loop);
        fault_arm(armed);
        peer = peer_new(loop, &wire, NULL, &err);
        FAULT_DONE(n);
        assert_int_equal(peer != NULL, n_last);
        if (!peer)
            assert_code(err, ERR_NOMEM);
        peer_free(peer);
        loop_free(loop);
    }
    for (unsigned n = 0, last = 0; !last; n++) {
        struct place p;
        struct asker a;
        int64_t since_ns = clock_now_ns();

        place_new(&p, true);
        asker_start(&a, &p, PATIENCE_NS);
        fault_arm(n);
        while (p.sent == 0 && !atomic_load(&a.done))
            turn(&p, since_ns);
        if (p.sent > 0) {
            struct jsonrpc m;
            const char *line =
                "{\"jsonrpc\":\"2.0\",\"id\":\"aios-1\",\"result\":{\"roots\":[{\"uri\":\"a\"}]}}";

            jsonrpc_read(line, strlen(line), &m);
            if (m.kind == JSONRPC_RESPONSE)
                peer_answer(p.peer, &m);
            else
                cancel_raise(&a.cancel);
            jsonrpc_fini(&m);
        }
        asker_join(&a);
        last = !fault_disarm();
        if (a.roots)
            json_decref(a.roots);
        else
            assert_int_not_equal(a.err.code, ERR_NONE);
        place_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_without_roots_is_not_asked),
        cmocka_unit_test(the_answer_reaches_who_asked),
        cmocka_unit_test(an_odd_answer_is_no_roots),
        cmocka_unit_test(an_error_is_passed_on),
        cmocka_unit_test(answers_to_what_was_not_asked_are_ignored),
        cmocka_unit_test(silence_ends_with_the_deadline),
        cmocka_unit_test(a_cancel_ends_the_wait),
        cmocka_unit_test(what_is_cancelled_already_does_not_wait),
        cmocka_unit_test(closing_ends_every_wait_and_later_ones_at_once),
        cmocka_unit_test(each_of_many_gets_its_own_answer),
        cmocka_unit_test(freeing_waits_for_those_on_their_way_out),
        cmocka_unit_test(only_so_many_questions_are_open),
        cmocka_unit_test(a_modern_answer_comes_with_its_state),
        cmocka_unit_test(a_repeated_question_has_a_new_state),
        cmocka_unit_test(a_modern_question_ends_with_its_time),
        cmocka_unit_test(a_call_that_cannot_be_answered_is_not_waited_for),
        cmocka_unit_test(the_error_may_be_left_out),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
