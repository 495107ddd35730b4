#include "tests/unit/computers_world.h"

static int begin(void **state)
{
    (void)state;
    world_start("{\"computer\":{\"allow\":[\"pypi.org:443\"],\"memory_mb\":64,\"disk_mb\":32,"
                "\"cpus_milli\":500,\"pids\":16,\"max_per_agent\":3,"
                "\"allow_ceiling\":[\"*.org:443\",\"10.0.0.0/8:*\"]}}");
    world.bare = true;
    return 0;
}

static int end(void **state)
{
    (void)state;
    world_end();
    return 0;
}

/* ---- making ---- */

static void what_is_not_asked_comes_from_the_configuration(void **state)
{
    (void)state;
    computer_unref(make(world.alice));
    assert_string_equal(world.spec, "64 MiB, 32 MiB, 500, 16; pypi.org:443");
    assert_int_equal(noted("computer alice c_", " made kind=sandbox allow=pypi.org:443"), 1);
}

static void what_is_asked_reaches_the_back_end(void **state)
{
    static const char *const allow[] = { "a.org:443", "10.1.0.0/16:22", NULL };
    static const char *const env[] = { "A=1", "B=2", NULL };
    const struct computers_request request = { .kind = "sandbox",
                                               .allow = allow,
                                               .env = env,
                                               .memory_bytes = 128u << 20,
                                               .disk_bytes = 256u << 20,
                                               .cpu_milli = 2000,
                                               .pids = 99 };
    (void)state;

    computer_unref(make_with(world.alice, &request));
    assert_string_equal(world.spec, "128 MiB, 256 MiB, 2000, 99; a.org:443 10.1.0.0/16:22 A=1 B=2");
}

static void what_is_configured_for_sandboxes_is_not_for_vms(void **state)
{
    const struct computers_request asked = { .image = "mine", .memory_bytes = 128u << 20 };
    struct error err = ERROR_INIT;
    json_t *list, *row;
    (void)state;

    world_registry_end();
    world_registry_vm("{\"computer\":{\"kind\":\"vm\",\"image\":\"usual\",\"memory_mb\":64,"
                      "\"disk_mb\":32,\"cpus_milli\":500,\"pids\":16}}");
    computer_unref(make(world.alice));
    assert_string_equal(world.spec, "0 MiB, 0 MiB, 0, 0; image=usual");
    assert_int_equal(noted("computer alice c_", " made kind=vm image=usual allow="), 1);
    computer_unref(make_with(world.alice, &asked));
    assert_string_equal(world.spec, "128 MiB, 0 MiB, 0, 0; image=mine");

    list = computers_list(world.cs, world.alice, &err);
    assert_ok(list != NULL, err);
    row = json_array_get(list, 1);
    assert_string_equal(json_string_value(json_object_get(row, "image")), "mine");
    assert_string_equal(json_string_value(json_object_get(row, "kind")), "vm");
    json_decref(list);
}

static void refuses_what_it_cannot_make(void **state)
{
    static const char *const beyond[] = { "a.org:443", "a.com:443", NULL };
    static const char *const bad_rule[] = { "https://a.org", NULL };
    static const char *const bad_env[] = { "NOVALUE", NULL };
    json_t *numbers = json_pack("{s:i}", "n", 1), *list = json_array();
    const struct {
        const char *label;
        struct computers_request request;
        enum error_code code;
        const char *text;
    } rows[] = {
        { "kind", { .kind = "vm" }, ERR_INVALID, "\"vm\" here; there are: \"sandbox\"" },
        { "rule", { .allow = beyond }, ERR_DENIED, "\"a.com:443\" goes beyond" },
        { "syntax", { .allow = bad_rule }, ERR_INVALID, "give HOST:PORT, not a URL" },
        { "env", { .env = bad_env }, ERR_INVALID, "NOVALUE" },
        { "label", { .labels = numbers }, ERR_INVALID, "the label \"n\" must be a string" },
        { "labels", { .labels = list }, ERR_INVALID, "labels must be an object" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct wait w = patience(NULL);
        struct error err = ERROR_INIT;

        if (computers_create(world.cs, world.alice, &rows[i].request, &w, &err) ||
            err.code != rows[i].code || !strstr(err.text, rows[i].text))
            fail_msg("%s: %s", rows[i].label, err.text);
    }
    assert_int_equal(computers_count(world.cs), 0);
    json_decref(numbers);
    json_decref(list);
}

static void a_failed_making_gives_its_place_back(void **state)
{
    const struct computers_request usual = { .kind = NULL };
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    (void)state;

    atomic_store(&world.fail_creates, 1);
    assert_null(computers_create(world.cs, world.alice, &usual, &w, &err));
    assert_string_equal(err.text, "no machine today");
    assert_int_equal(computers_count(world.cs), 0);
    for (int i = 0; i < 3; i++)
        computer_unref(make(world.alice));
    assert_int_equal(computers_count(world.cs), 3);
}

static void what_cannot_be_recorded_is_not_made(void **state)
{
    const struct computers_request usual = { .kind = NULL };
    const struct wait w = patience(NULL);
    struct computer *c = make(world.alice);
    struct error err = ERROR_INIT;
    (void)state;

    world.refuse_notes = true;
    assert_null(computers_create(world.cs, world.alice, &usual, &w, &err));
    assert_string_equal(err.text, "the audit is full");
    error_clear(&err);
    assert_false(computers_destroy(world.cs, world.alice, computer_id(c), &err));
    assert_int_equal(computers_count(world.cs), 1);
    world.refuse_notes = false;
    error_clear(&err);
    assert_ok(computers_destroy(world.cs, world.alice, computer_id(c), &err), err);
    computer_unref(c);
}

static void an_agent_has_so_many_and_no_more(void **state)
{
    const struct computers_request usual = { .kind = NULL };
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct computer *c = NULL;
    (void)state;

    for (int i = 0; i < 3; i++) {
        computer_unref(c);
        c = make(world.alice);
    }
    assert_null(computers_create(world.cs, world.alice, &usual, &w, &err));
    assert_code(err, ERR_LIMIT);
    assert_contains(err.text, "you have 3 computers");
    assert_contains(err.text, "computer_destroy");
    error_clear(&err);
    assert_null(get(world.alice, NULL, &err)); /* the default one is one too */
    assert_code(err, ERR_LIMIT);
    error_clear(&err);
    computer_unref(make(world.bob));
    assert_ok(computers_destroy(world.cs, world.alice, computer_id(c), &err), err);
    computer_unref(c);
    computer_unref(make(world.alice));
}

static void the_server_has_so_many_and_no_more(void **state)
{
    const struct computers_request usual = { .kind = NULL };
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    (void)state;

    world_registry_end();
    world_registry("{\"computer\":{\"max_per_agent\":512}}");
    for (unsigned i = 0; i < LIMIT_COMPUTERS; i++)
        computer_unref(make(world.alice));
    assert_null(computers_create(world.cs, world.bob, &usual, &w, &err));
    assert_code(err, ERR_LIMIT);
    assert_contains(err.text, "this server has 512 computers");
}

/* ---- finding ---- */

static void a_handle_works_for_its_agent_alone(void **state)
{
    struct computer *c = make(world.alice), *found;
    struct error err = ERROR_INIT;
    char own[512];
    (void)state;

    found = get(world.alice, computer_id(c), &err);
    assert_ptr_equal(found, c);
    computer_unref(found);
    assert_null(get(world.bob, computer_id(c), &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "(unknown, ended or another agent's); call computer_create");
    (void)snprintf(own, sizeof own, "%s",
                   err.text + strlen("no computer \"c_12345678901234567890123456"));
    error_clear(&err);
    /* Nobody learns from the answer that it exists. */
    assert_null(get(world.bob, "c_00000000000000000000000000", &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, own);
    error_clear(&err);
    assert_false(computers_destroy(world.cs, world.bob, computer_id(c), &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    assert_null(get(world.alice, "", &err));
    assert_code(err, ERR_NOT_FOUND);
    computer_unref(c);
}

static void a_handle_that_has_ended_says_why(void **state)
{
    struct computer *c = make(world.alice);
    struct error err = ERROR_INIT;
    (void)state;

    assert_ok(computers_destroy(world.cs, world.alice, computer_id(c), &err), err);
    assert_null(get(world.alice, computer_id(c), &err));
    assert_code(err, ERR_LOST);
    assert_contains(err.text, "is gone: it was destroyed; call computer_create");
    error_clear(&err);
    assert_false(computers_destroy(world.cs, world.alice, computer_id(c), &err));
    assert_code(err, ERR_LOST);
    error_clear(&err);
    assert_null(get(world.bob, computer_id(c), &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_int_equal(noted(computer_id(c), "destroyed on request"), 1);
    computer_unref(c);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void only_so_many_ends_are_remembered(void **state)
{
    struct computer *first = make(world.alice);
    struct error err = ERROR_INIT;
    (void)state;

    assert_ok(computers_destroy(world.cs, world.alice, computer_id(first), &err), err);
    for (unsigned i = 0; i < COMPUTERS_ENDED_KEPT; i++) {
        struct computer *c = make(world.alice);

        assert_ok(computers_destroy(world.cs, world.alice, computer_id(c), &err), err);
        computer_unref(c);
    }
    on_loop(world.lt.loop, nothing, NULL); /* where they are forgotten */
    assert_null(get(world.alice, computer_id(first), &err));
    assert_code(err, ERR_NOT_FOUND);
    computer_unref(first);
}

static bool get_home(void *arg, struct error *err)
{
    struct computer *c = get(world.alice, NULL, err);

    if (c)
        (void)snprintf(arg, ID_SIZE, "%s", computer_id(c));
    computer_unref(c);
    return c != NULL;
}

#define CALLERS 8u

static void the_default_computer_is_made_once(void **state)
{
    struct async calls[CALLERS];
    char ids[CALLERS][ID_SIZE] = { "" };
    (void)state;

    world.gated = true;
    for (unsigned i = 0; i < CALLERS; i++)
        async_start(&calls[i], get_home, ids[i]);
    mark_wait(&world.waiting, 1);
    mark_hit(&world.gate);
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_ok(async_join(&calls[i]), calls[i].err);
        assert_string_equal(ids[i], ids[0]);
    }
    assert_int_equal(atomic_load(&world.created), 1);
    assert_int_equal(world.waiting.count, 1);
}

static void when_the_default_computer_fails_the_next_caller_tries(void **state)
{
    struct async calls[CALLERS];
    char ids[CALLERS][ID_SIZE] = { "" };
    unsigned failed = 0;
    (void)state;

    world.gated = true;
    atomic_store(&world.fail_creates, 1);
    for (unsigned i = 0; i < CALLERS; i++)
        async_start(&calls[i], get_home, ids[i]);
    mark_wait(&world.waiting, 1);
    mark_hit(&world.gate);
    for (unsigned i = 0; i < CALLERS; i++)
        failed += !async_join(&calls[i]);
    assert_int_equal(failed, 1);
    assert_int_equal(atomic_load(&world.created), 1);
    assert_int_equal(computers_count(world.cs), 1);
}

static void waiting_for_the_default_computer_ends_in_time(void **state)
{
    struct error err = ERROR_INIT;
    struct cancel cancel;
    struct wait w = { .deadline_ns = clock_now_ns() + CLOCK_NS_PER_MS };
    struct async call;
    char id[ID_SIZE];
    (void)state;

    world.gated = true;
    async_start(&call, get_home, id);
    mark_wait(&world.waiting, 1);
    assert_null(computers_get(world.cs, world.alice, NULL, &w, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    cancel_init(&cancel);
    cancel_raise(&cancel);
    w = patience(&cancel);
    assert_null(computers_get(world.cs, world.alice, NULL, &w, &err));
    assert_code(err, ERR_CANCELLED);
    cancel_fini(&cancel);
    mark_hit(&world.gate);
    assert_ok(async_join(&call), call.err);
}

static void a_destroyed_default_computer_is_made_anew(void **state)
{
    struct error err = ERROR_INIT;
    struct computer *c = get(world.alice, NULL, &err), *again;
    (void)state;

    assert_ok(c != NULL, err);
    assert_ok(computers_destroy(world.cs, world.alice, NULL, &err), err);
    assert_false(computers_destroy(world.cs, world.alice, NULL, &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    again = get(world.alice, NULL, &err);
    assert_ok(again != NULL, err);
    assert_string_not_equal(computer_id(again), computer_id(c));
    computer_unref(c);
    computer_unref(again);
}

/* ---- the list ---- */

static void the_list_tells_of_ones_own(void **state)
{
    static const char *const none[] = { NULL };
    json_t *labels = json_pack("{s:s}", "for", "tests"), *list, *row;
    const struct computers_request request = { .allow = none, .labels = labels };
    struct error err = ERROR_INIT;
    struct computer *home = get(world.alice, NULL, &err);
    struct computer *other = make_with(world.alice, &request);
    (void)state;

    assert_ok(home != NULL, err);
    computer_unref(make(world.bob));
    json_object_set_new(labels, "for", json_string("something else")); /* ours is a copy */
    list = computers_list(world.cs, world.alice, &err);
    assert_ok(list != NULL, err);
    assert_int_equal(json_array_size(list), 2);
    row = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(row, "computer")), computer_id(home));
    assert_string_equal(json_string_value(json_object_get(row, "kind")), "sandbox");
    assert_string_equal(json_string_value(json_object_get(row, "state")), "idle");
    assert_true(json_is_true(json_object_get(row, "default")));
    assert_int_equal(json_object_size(json_object_get(row, "labels")), 0);
    assert_int_equal(json_array_size(json_object_get(row, "allow")), 1);
    assert_int_equal(json_integer_value(json_object_get(row, "memory_mb")), 64);
    assert_int_equal(json_integer_value(json_object_get(row, "disk_mb")), 32);
    assert_int_equal(json_integer_value(json_object_get(row, "pids")), 16);
    assert_int_equal(json_integer_value(json_object_get(row, "runs_live")), 0);
    assert_true(json_is_integer(json_object_get(row, "created_ms_ago")));
    assert_true(json_is_integer(json_object_get(row, "idle_ms")));
    row = json_array_get(list, 1);
    assert_true(json_is_false(json_object_get(row, "default")));
    assert_int_equal(json_array_size(json_object_get(row, "allow")), 0);
    assert_string_equal(json_string_value(json_object_get(json_object_get(row, "labels"), "for")),
                        "tests");
    json_decref(list);
    json_decref(labels);
    computer_unref(home);
    computer_unref(other);
}

static void the_operator_sees_everybodys(void **state)
{
    struct computer *hers = make(world.alice), *his = make(world.bob), *found;
    struct error err = ERROR_INIT;
    json_t *list = computers_list(world.cs, NULL, &err), *row;
    (void)state;

    assert_ok(list != NULL, err);
    assert_int_equal(json_array_size(list), 2);
    row = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(row, "agent")), "alice");
    row = json_array_get(list, 1);
    assert_string_equal(json_string_value(json_object_get(row, "computer")), computer_id(his));
    assert_string_equal(json_string_value(json_object_get(row, "agent")), "bob");
    json_decref(list);
    found = computers_any(world.cs, computer_id(hers));
    assert_ptr_equal(found, hers);
    computer_unref(found);
    assert_null(computers_any(world.cs, "c_none"));
    computer_unref(hers);
    computer_unref(his);
}

/* ---- what hangs on a computer ---- */

static void count_free(void *thing)
{
    ++*(unsigned *)thing;
}

static void copy_out(void *arg, void *thing)
{
    *(void **)arg = thing;
}

static void what_is_attached_goes_with_the_computer(void **state)
{
    struct computer *c = make(world.alice);
    unsigned first = 0, second = 0;
    struct error err = ERROR_INIT;
    void *found = NULL;
    (void)state;

    assert_ok(computers_attach(world.cs, c, "one", &first, count_free, &err), err);
    assert_ok(computers_attach(world.cs, c, "two", &second, count_free, &err), err);
    assert_false(computers_attach(world.cs, c, "one", &second, count_free, &err));
    assert_code(err, ERR_EXISTS);
    error_clear(&err);
    assert_true(computers_attached(world.cs, c, "one", copy_out, &found));
    assert_ptr_equal(found, &first);
    assert_false(computers_attached(world.cs, c, "three", copy_out, &found));
    computers_detach(world.cs, c, "one");
    computers_detach(world.cs, c, "one");
    assert_int_equal(first, 1);
    assert_int_equal(second, 0);
    assert_ok(computers_destroy(world.cs, world.alice, computer_id(c), &err), err);
    assert_int_equal(first, 1);
    assert_int_equal(second, 1);
    assert_false(computers_attached(world.cs, c, "two", copy_out, &found));
    assert_false(computers_attach(world.cs, c, "two", &second, count_free, &err));
    assert_code(err, ERR_LOST);
    assert_int_equal(second, 1); /* still the caller's */
    computer_unref(c);
}

static void two_back_ends_of_one_kind_are_refused(void **state)
{
    struct error err = ERROR_INIT;
    (void)state;

    assert_false(computers_add_backend(world.cs, &world.backend, &err));
    assert_code(err, ERR_EXISTS);
    computers_warm(world.cs); /* a back end need not know how */
}

static void survives_every_allocation_failure(void **state)
{
    json_t *labels = json_pack("{s:s}", "a", "b");
    const struct computers_request request = { .labels = labels };
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        const struct wait w = patience(NULL);
        struct computer *c = computers_create(world.cs, world.alice, &request, &w, &err);
        unsigned freed = 0;
        bool ok = c && computers_attach(world.cs, c, "k", &freed, count_free, &err);
        json_t *list = ok ? computers_list(world.cs, world.alice, &err) : NULL;

        FAULT_DONE(n);
        if (n_last)
            assert_ok(list != NULL, err);
        else if (!list)
            assert_code(err, ERR_NOMEM);
        json_decref(list);
        if (c) {
            error_clear(&err);
            assert_ok(computers_destroy(world.cs, world.alice, computer_id(c), &err), err);
        }
        assert_int_equal(freed, ok);
        computer_unref(c);
        assert_int_equal(computers_count(world.cs), 0);
    }
    json_decref(labels);
}

static bool make_use_and_end(void *arg, struct error *err)
{
    static const struct computers_request usual = { .idle_ns = CLOCK_NS_PER_MS };
    bool ok = true;

    for (unsigned i = 0; ok && i < 30; i++) {
        const struct wait w = patience(NULL);
        struct computer *c = computers_create(world.cs, arg, &usual, &w, err);
        json_t *list;

        if (!c)
            return false;
        list = computers_list(world.cs, arg, err);
        ok = list != NULL;
        json_decref(list);
        /* The thread that ends idle ones may be faster. */
        (void)!computers_destroy(world.cs, arg, computer_id(c), NULL);
        computer_unref(c);
    }
    return ok;
}

static void any_thread_may_use_it(void **state)
{
    struct async calls[4];
    (void)state;

    for (unsigned i = 0; i < ARRAY_LEN(calls); i++)
        async_start(&calls[i], make_use_and_end, i % 2 ? world.alice : world.bob);
    for (unsigned i = 0; i < ARRAY_LEN(calls); i++)
        assert_ok(async_join(&calls[i]), calls[i].err);
}

#define world_test(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(what_is_not_asked_comes_from_the_configuration),
        world_test(what_is_asked_reaches_the_back_end),
        world_test(what_is_configured_for_sandboxes_is_not_for_vms),
        world_test(refuses_what_it_cannot_make),
        world_test(a_failed_making_gives_its_place_back),
        world_test(what_cannot_be_recorded_is_not_made),
        world_test(an_agent_has_so_many_and_no_more),
        world_test(the_server_has_so_many_and_no_more),
        world_test(a_handle_works_for_its_agent_alone),
        world_test(a_handle_that_has_ended_says_why),
        world_test(only_so_many_ends_are_remembered),
        world_test(the_default_computer_is_made_once),
        world_test(when_the_default_computer_fails_the_next_caller_tries),
        world_test(waiting_for_the_default_computer_ends_in_time),
        world_test(a_destroyed_default_computer_is_made_anew),
        world_test(the_list_tells_of_ones_own),
        world_test(the_operator_sees_everybodys),
        world_test(what_is_attached_goes_with_the_computer),
        world_test(two_back_ends_of_one_kind_are_refused),
        world_test(survives_every_allocation_failure),
        world_test(any_thread_may_use_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
