#include "tests/unit/computers_world.h"

static int begin(void **state)
{
    (void)state;
    world_start("{}");
    world.bare = true;
    return 0;
}

static int end(void **state)
{
    (void)state;
    world_end();
    return 0;
}

static struct computer *make_special(void)
{
    static const char *const allow[] = { "a.org:443", NULL };
    static const char *const env[] = { "KEY=value", NULL };
    json_t *labels = json_pack("{s:s}", "role", "first");
    const struct computers_request request = { .allow = allow,
                                               .env = env,
                                               .memory_bytes = 77u << 20,
                                               .disk_bytes = 33u << 20,
                                               .cpu_milli = 700,
                                               .pids = 55,
                                               .labels = labels };
    struct computer *c = make_with(world.alice, &request);

    json_decref(labels);
    return c;
}

static const char special[] = "77 MiB, 33 MiB, 700, 55; a.org:443 KEY=value";

static struct id save(struct agent *agent, struct computer *c, const char *label)
{
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct id id = { "" };

    assert_ok(computers_save(world.cs, agent, computer_id(c), label, &id, &w, &err), err);
    assert_true(id_is(id.text, "s"));
    return id;
}

static struct computer *restore(struct agent *agent, const char *id, struct error *err)
{
    const struct wait w = patience(NULL);

    return computers_restore(world.cs, agent, id, NULL, &w, err);
}

/* The value of @key in the agent's computer @c as the list has it, as JSON text. */
static char *listed(struct agent *agent, const struct computer *c, const char *key)
{
    json_t *list = computers_list(world.cs, agent, NULL);
    char *text = NULL;

    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *row = json_array_get(list, i);

        if (!strcmp(json_string_value(json_object_get(row, "computer")), computer_id(c)))
            text = json_dumps(json_object_get(row, key), JSON_COMPACT | JSON_ENCODE_ANY);
    }
    json_decref(list);
    assert_non_null(text);
    return text;
}

static size_t count_saved(struct agent *agent)
{
    struct error err = ERROR_INIT;
    json_t *list = computers_checkpoints(world.cs, agent, &err);
    size_t count = json_array_size(list);

    assert_ok(list != NULL, err);
    json_decref(list);
    return count;
}

/* ---- fork ---- */

static void find_thing(void *arg, void *thing)
{
    (void)arg;
    (void)thing;
}

static void drop_thing(void *thing)
{
    (void)thing;
}

static void a_fork_is_what_its_source_is(void **state)
{
    struct computer *source = make_special(), *copy;
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    char *labels;
    (void)state;

    world.spec[0] = '\0';
    copy = computers_fork(world.cs, world.alice, computer_id(source), NULL, &w, &err);
    assert_ok(copy != NULL, err);
    assert_string_not_equal(computer_id(copy), computer_id(source));
    assert_string_equal(world.spec, special);
    assert_true(id_is(world.checkpoint, "tmp"));
    assert_int_equal(world.saved_count, 0); /* what it was made through is gone */
    labels = listed(world.alice, copy, "labels");
    assert_string_equal(labels, "{\"role\":\"first\"}");
    free(labels);
    assert_int_equal(noted(computer_id(copy), "forked kind=sandbox from=c_"), 1);
    computer_unref(source);
    computer_unref(copy);
}

static void a_fork_may_have_labels_of_its_own(void **state)
{
    json_t *labels = json_pack("{s:s}", "role", "second");
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct computer *source = get(world.alice, NULL, &err), *copy;
    char *text;
    (void)state;

    copy = computers_fork(world.cs, world.alice, NULL, labels, &w, &err);
    assert_ok(copy != NULL, err);
    text = listed(world.alice, copy, "labels");
    assert_string_equal(text, "{\"role\":\"second\"}");
    free(text);
    text = listed(world.alice, copy, "default");
    assert_string_equal(text, "false");
    free(text);
    json_decref(labels);
    computer_unref(source);
    computer_unref(copy);
}

static unsigned told;

static void count_saving(struct computers *cs, struct computer *c, const struct wait *w)
{
    assert_ptr_equal(cs, world.cs);
    assert_true(computers_attached(cs, c, "kept", find_thing, NULL)); /* no lock is held */
    assert_non_null(w);
    told += world.saved_count == 0;
}

static void what_is_attached_is_told_before_files_are_copied(void **state)
{
    struct computer *source = make_special(), *copy;
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct id saved;
    int thing;
    (void)state;

    told = 0;
    computers_on_save(world.cs, source, "kept", count_saving); /* nothing is called so */
    assert_ok(computers_attach(world.cs, source, "other", &thing, drop_thing, &err), err);
    assert_ok(computers_attach(world.cs, source, "kept", &thing, drop_thing, &err), err);
    computers_on_save(world.cs, source, "kept", count_saving);
    copy = computers_fork(world.cs, world.alice, computer_id(source), NULL, &w, &err);
    assert_ok(copy != NULL, err);
    assert_int_equal(told, 1);
    assert_ok(computers_save(world.cs, world.alice, computer_id(source), NULL, &saved, &w, &err),
              err);
    assert_int_equal(told, 2);
    computers_detach(world.cs, source, "kept");
    computer_unref(copy);
    copy = computers_fork(world.cs, world.alice, computer_id(source), NULL, &w, &err);
    assert_ok(copy != NULL, err);
    assert_int_equal(told, 2);
    computer_unref(copy);
    computer_unref(source);
}

static void a_fork_that_fails_leaves_nothing(void **state)
{
    struct computer *source = make_special();
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    (void)state;

    atomic_store(&world.fail_creates, 1);
    assert_null(computers_fork(world.cs, world.alice, computer_id(source), NULL, &w, &err));
    assert_string_equal(err.text, "no machine today");
    error_clear(&err);
    assert_null(computers_fork(world.cs, world.bob, computer_id(source), NULL, &w, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_int_equal(world.saved_count, 0);
    assert_int_equal(computers_count(world.cs), 1);
    computer_unref(source);
}

/* ---- save and restore ---- */

static void a_saved_computer_comes_back_after_a_restart(void **state)
{
    struct computer *c = make_special(), *again;
    struct id id = save(world.alice, c, "before the change");
    struct error err = ERROR_INIT;
    char from[ID_SIZE], *labels;
    json_t *list, *row;
    (void)state;

    (void)snprintf(from, sizeof from, "%s", computer_id(c));
    computer_unref(c);
    world_registry_end();
    world_registry("{}");
    list = computers_checkpoints(world.cs, world.alice, &err);
    assert_ok(list != NULL, err);
    assert_int_equal(json_array_size(list), 1);
    row = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(row, "snapshot")), id.text);
    assert_string_equal(json_string_value(json_object_get(row, "label")), "before the change");
    assert_string_equal(json_string_value(json_object_get(row, "from_computer")), from);
    assert_string_equal(json_string_value(json_object_get(row, "kind")), "sandbox");
    assert_contains(json_string_value(json_object_get(row, "created")), "T");
    json_decref(list);

    world.spec[0] = '\0';
    again = restore(world.alice, id.text, &err);
    assert_ok(again != NULL, err);
    assert_string_equal(world.spec, special);
    assert_string_equal(world.checkpoint, id.text);
    labels = listed(world.alice, again, "labels");
    assert_string_equal(labels, "{\"role\":\"first\"}");
    free(labels);
    assert_int_equal(noted(from, id.text), 1);
    assert_int_equal(noted(computer_id(again), "restored kind=sandbox from=s_"), 1);
    computer_unref(again);
}

static void a_restored_vm_has_its_image(void **state)
{
    const struct computers_request request = { .image = "mine" };
    struct error err = ERROR_INIT;
    struct computer *c, *again;
    struct id id;
    json_t *list;
    (void)state;

    world_registry_end();
    world_registry_vm("{\"computer\":{\"kind\":\"vm\",\"image\":\"usual\"}}");
    c = make_with(world.alice, &request);
    id = save(world.alice, c, "x");
    computer_unref(c);
    world.spec[0] = '\0';
    again = restore(world.alice, id.text, &err);
    assert_ok(again != NULL, err);
    assert_string_equal(world.spec, "0 MiB, 0 MiB, 0, 0; image=mine");
    assert_int_equal(noted(computer_id(again), "restored kind=vm image=mine from=s_"), 1);
    computer_unref(again);
    list = computers_checkpoints(world.cs, world.alice, &err);
    assert_ok(list != NULL, err);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "image")),
                        "mine");
    json_decref(list);
}

static void a_snapshot_works_for_its_agent_alone(void **state)
{
    struct computer *c = make(world.alice);
    struct id id = save(world.alice, c, NULL);
    struct error err = ERROR_INIT;
    (void)state;

    assert_int_equal(count_saved(world.bob), 0);
    assert_null(restore(world.bob, id.text, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "(unknown, deleted or another agent's); call computer_snapshot");
    error_clear(&err);
    assert_false(computers_checkpoint_delete(world.cs, world.bob, id.text, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_int_equal(count_saved(world.alice), 1);
    computer_unref(c);
}

static void odd_names_of_snapshots_are_unknown(void **state)
{
    static const char *const names[] = { "",
                                         "s_",
                                         "s_../../etc/passwd",
                                         "../../../etc/passwd",
                                         "c_00000000000000000000000000",
                                         "s_00000000000000000000000000" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct error err = ERROR_INIT;

        assert_null(restore(world.alice, names[i], &err));
        assert_code(err, ERR_NOT_FOUND);
        error_clear(&err);
        assert_false(computers_checkpoint_delete(world.cs, world.alice, names[i], &err));
        assert_code(err, ERR_NOT_FOUND);
    }
}

static void a_deleted_snapshot_is_gone(void **state)
{
    struct computer *c = make(world.alice);
    struct id id = save(world.alice, c, NULL);
    struct error err = ERROR_INIT;
    (void)state;

    assert_ok(computers_checkpoint_delete(world.cs, world.alice, id.text, &err), err);
    assert_int_equal(world.saved_count, 0);
    assert_int_equal(count_saved(world.alice), 0);
    assert_null(restore(world.alice, id.text, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_int_equal(noted(computer_id(c), "deleted"), 1);
    computer_unref(c);
}

static void a_snapshot_without_data_can_be_deleted(void **state)
{
    struct computer *c = make(world.alice);
    struct id id = save(world.alice, c, NULL);
    struct error err = ERROR_INIT;
    (void)state;

    world.saved_count = 0; /* as if somebody had tidied up there */
    assert_null(restore(world.alice, id.text, &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    assert_ok(computers_checkpoint_delete(world.cs, world.alice, id.text, &err), err);
    assert_int_equal(count_saved(world.alice), 0);
    computer_unref(c);
}

static void a_stricter_configuration_holds_for_old_snapshots(void **state)
{
    struct computer *c = make_special();
    struct id id = save(world.alice, c, NULL);
    struct error err = ERROR_INIT;
    (void)state;

    computer_unref(c);
    world_registry_end();
    world_registry("{\"computer\":{\"allow_ceiling\":[]}}");
    assert_null(restore(world.alice, id.text, &err));
    assert_code(err, ERR_DENIED);
    assert_contains(err.text, "a.org:443");
}

static void an_agent_saves_so_many_and_no_more(void **state)
{
    struct computer *c = make(world.alice), *other = make(world.bob);
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct id id;
    (void)state;

    for (unsigned i = 0; i < LIMIT_CHECKPOINTS; i++)
        (void)save(world.alice, c, NULL);
    assert_false(computers_save(world.cs, world.alice, NULL, NULL, &id, &w, &err));
    assert_code(err, ERR_LIMIT);
    assert_contains(err.text, "you have 64 snapshots");
    assert_int_equal(world.saved_count, LIMIT_CHECKPOINTS);
    (void)save(world.bob, other, NULL);
    computer_unref(c);
    computer_unref(other);
}

static void what_cannot_be_recorded_is_not_saved(void **state)
{
    struct computer *c = make(world.alice);
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct id id;
    (void)state;

    world.refuse_notes = true;
    assert_false(computers_save(world.cs, world.alice, computer_id(c), NULL, &id, &w, &err));
    assert_string_equal(err.text, "the audit is full");
    world.refuse_notes = false;
    assert_int_equal(world.saved_count, 0);
    assert_int_equal(count_saved(world.alice), 0);
    computer_unref(c);
}

static void a_save_that_a_killed_server_left_is_swept(void **state)
{
    struct computers_record old = { .id = "s_00000000000000000000000000",
                                    .agent = "alice",
                                    .kind = "sandbox",
                                    .created_ms = 1000,
                                    .saving = true };
    struct computers_record fresh = { .id = "s_11111111111111111111111111",
                                      .agent = "alice",
                                      .kind = "sandbox",
                                      .created_ms = clock_wall_ns() / CLOCK_NS_PER_MS,
                                      .saving = true };
    struct computer *c = make(world.alice);
    struct error err = ERROR_INIT;
    struct computers_record r;
    (void)state;

    assert_ok(computers_record_write(&old, &err), err);
    assert_ok(computers_record_write(&fresh, &err), err);
    (void)snprintf(world.saved[world.saved_count++], ID_SIZE, "%s", old.id);
    (void)save(world.alice, c, NULL);
    assert_int_equal(world.saved_count, 1);        /* the new one alone */
    assert_int_equal(count_saved(world.alice), 1); /* what is not whole is not shown */
    assert_false(computers_record_read("alice", fresh.id, &r, &err));
    assert_code(err, ERR_NOT_FOUND);
    computers_record_remove(fresh.id);
    computer_unref(c);
}

static void a_damaged_record_is_passed_over(void **state)
{
    struct computer *c = make(world.alice);
    struct error err = ERROR_INIT;
    char path[160];
    (void)state;

    (void)save(world.alice, c, NULL);
    (void)snprintf(path, sizeof path, "%s/state/saved/s_00000000000000000000000000.json",
                   world.home);
    assert_ok(fd_replace_file(path, "{\"checkpoint\":", 14, 0600, &err), err);
    assert_int_equal(count_saved(world.alice), 1);
    assert_null(restore(world.alice, "s_00000000000000000000000000", &err));
    assert_code(err, ERR_NOT_FOUND);
    computer_unref(c);
}

static void survives_every_allocation_failure(void **state)
{
    struct computer *c = make_special();
    (void)state;

    FAULT_EACH(n)
    {
        const struct wait w = patience(NULL);
        struct error err = ERROR_INIT;
        struct computer *forked = NULL, *restored = NULL;
        json_t *list = NULL;
        struct id id;
        bool saved;

        saved = computers_save(world.cs, world.alice, computer_id(c), "label", &id, &w, &err);
        if (saved)
            list = computers_checkpoints(world.cs, world.alice, &err);
        if (list)
            forked = computers_fork(world.cs, world.alice, computer_id(c), NULL, &w, &err);
        if (forked)
            restored = computers_restore(world.cs, world.alice, id.text, NULL, &w, &err);
        FAULT_DONE(n);
        if (n_last)
            assert_ok(restored != NULL, err);
        else if (!restored) /* jansson may drop a byte of a name rather than fail */
            assert_true(err.code == ERR_NOMEM || err.code == ERR_NOT_FOUND);
        json_decref(list);
        error_clear(&err);
        if (forked)
            assert_ok(computers_destroy(world.cs, world.alice, computer_id(forked), &err), err);
        if (restored)
            assert_ok(computers_destroy(world.cs, world.alice, computer_id(restored), &err), err);
        if (saved)
            assert_ok(computers_checkpoint_delete(world.cs, world.alice, id.text, &err), err);
        computer_unref(forked);
        computer_unref(restored);
        assert_int_equal(computers_count(world.cs), 1);
    }
    computer_unref(c);
}

#define world_test(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(a_fork_is_what_its_source_is),
        world_test(a_fork_may_have_labels_of_its_own),
        world_test(what_is_attached_is_told_before_files_are_copied),
        world_test(a_fork_that_fails_leaves_nothing),
        world_test(a_saved_computer_comes_back_after_a_restart),
        world_test(a_restored_vm_has_its_image),
        world_test(a_snapshot_works_for_its_agent_alone),
        world_test(odd_names_of_snapshots_are_unknown),
        world_test(a_deleted_snapshot_is_gone),
        world_test(a_snapshot_without_data_can_be_deleted),
        world_test(a_stricter_configuration_holds_for_old_snapshots),
        world_test(an_agent_saves_so_many_and_no_more),
        world_test(what_cannot_be_recorded_is_not_saved),
        world_test(a_save_that_a_killed_server_left_is_swept),
        world_test(a_damaged_record_is_passed_over),
        world_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
