#include "tests/unit/memory_place.h"

static struct place place;

static int make(void **state)
{
    if (folder_make(state))
        return -1;
    place_new(&place);
    return 0;
}

static int drop(void **state)
{
    place_free(&place);
    return folder_remove(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)

static struct memory_usage usage(void)
{
    struct error err = ERROR_INIT;
    struct memory_usage u;

    assert_ok(memory_usage(place.m, "alice", &u, &err), err);
    return u;
}

/* A text of @size bytes that begins with @word and a number. */
static char *large(const char *word, int number, size_t size)
{
    char *text = malloc(size + 1);

    assert_non_null(text);
    memset(text, 'x', size);
    text[size] = '\0';
    memcpy(text + snprintf(text, size, "%s%d", word, number), " ", 1);
    return text;
}

static struct id_of save_large(int number, size_t size)
{
    char *text = large("large", number, size);
    struct id_of id = save(&place, text);

    free(text);
    return id;
}

static void assert_large(const struct id_of *id, int number, size_t size)
{
    char *text = large("large", number, size);

    assert_text(&place, id->text, text);
    free(text);
}

/* ---- quota ---- */

static void moves_the_least_used_to_storage_and_brings_them_back(void **state)
{
    enum { NOTES = 24, SIZE = 60000 };
    struct id_of ids[NOTES];
    struct memory_usage u;
    (void)state;

    for (int i = 0; i < NOTES; i++)
        ids[i] = save_large(i, SIZE);
    u = usage();
    assert_int_equal(u.notes, NOTES);
    assert_true(u.resident_notes < NOTES && u.evictions > 0);
    assert_true(u.resident_bytes <= u.quota_bytes);
    assert_int_equal(u.resident_bytes + u.stored_bytes, NOTES * SIZE);
    assert_true(events(&place, "memory.evicted") > 0);
    assert_true(storage_has(&place.storage, "alice", ids[0].text));
    assert_false(storage_has(&place.storage, "alice", ids[NOTES - 1].text));

    for (int i = 0; i < NOTES; i++)
        assert_large(&ids[i], i, SIZE);
    u = usage();
    assert_true(u.faults > 0 && u.resident_bytes <= u.quota_bytes);
    assert_int_equal(u.resident_bytes + u.stored_bytes, NOTES * SIZE);
    assert_true(events(&place, "memory.faulted") > 0);
    for (int i = 0; i < NOTES; i++) {
        char word[32];
        struct memory_found found;

        (void)snprintf(word, sizeof word, "large%d", i);
        found = find_as(&place, &alice, (struct memory_query){ .text = word });
        assert_int_equal(found.count, 1);
        assert_int_equal(strlen(found.notes[0].text), SIZE);
        assert_string_equal(found.notes[0].id, ids[i].text);
        memory_found_fini(&found);
    }
}

static void keeps_what_is_used_twice_before_what_was_used_once(void **state)
{
    struct id_of twice[2], once[10];
    (void)state;

    for (int i = 0; i < 2; i++)
        twice[i] = save_large(i, 100000);
    for (int i = 0; i < 2; i++)
        assert_large(&twice[i], i, 100000); /* its second use */
    for (int i = 0; i < 10; i++)
        once[i] = save_large(10 + i, 100000);
    for (int i = 0; i < 2; i++)
        assert_false(storage_has(&place.storage, "alice", twice[i].text));
    assert_true(storage_has(&place.storage, "alice", once[0].text));
    assert_false(storage_has(&place.storage, "alice", once[9].text));
}

static void goes_by_the_last_use_with_k_of_one(void **state)
{
    struct id_of first, id;
    (void)state;

    place_close(&place);
    place.config.memory.lru_k = 1;
    place_open(&place);
    first = save_large(0, 100000);
    id = save_large(1, 100000);
    for (int i = 2; i < 10; i++)
        save_large(i, 100000);
    assert_large(&first, 0, 100000);
    save_large(10, 100000);
    save_large(11, 100000);
    assert_false(storage_has(&place.storage, "alice", first.text));
    assert_true(storage_has(&place.storage, "alice", id.text));
}

static void writes_a_note_that_did_not_change_to_storage_once(void **state)
{
    enum { NOTES = 40, SIZE = 60000 };
    struct id_of ids[NOTES];
    int puts;
    (void)state;

    for (int i = 0; i < NOTES; i++)
        ids[i] = save_large(i, SIZE);
    for (int i = 0; i < NOTES; i++)
        assert_large(&ids[i], i, SIZE);
    puts = atomic_load(&place.storage.puts);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < NOTES; i++)
            assert_large(&ids[i], i, SIZE);
    assert_true(atomic_load(&place.storage.puts) <= NOTES && puts <= NOTES);
}

static void tells_when_four_fifths_are_taken(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++)
        save_large(i, 100000);
    assert_int_equal(events(&place, "memory.pressure"), 0);
    save_large(8, 100000);
    assert_int_equal(events(&place, "memory.pressure"), 1);
    save(&place, "a little more");
    assert_int_equal(events(&place, "memory.pressure"), 0);
}

static void changes_and_deletes_what_has_moved(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of first = save_large(0, 100000), second = save_large(1, 100000);
    struct memory_usage u;
    (void)state;

    for (int i = 2; i < 14; i++)
        save_large(i, 100000);
    assert_true(storage_has(&place.storage, "alice", first.text));
    assert_true(storage_has(&place.storage, "alice", second.text));
    assert_ok(
        memory_save(place.m, &alice, first.text, "small", 5, NULL, MEMORY_KEEP, 1, &w, NULL, &err),
        err);
    assert_text(&place, first.text, "small");
    assert_string_equal(FOUND(&place, &alice, .text = "large0"), "");
    assert_ok(memory_delete(place.m, &alice, second.text, &w, &err), err);
    assert_false(storage_has(&place.storage, "alice", second.text));
    assert_string_equal(FOUND(&place, &alice, .text = "large1"), "");
    assert_ok(memory_delete(place.m, &alice, first.text, &w, &err), err);
    assert_false(storage_has(&place.storage, "alice", first.text));
    u = usage();
    assert_int_equal(u.notes, 12);
    assert_int_equal(u.resident_bytes + u.stored_bytes, 12 * 100000);
}

/* ---- storage that is down ---- */

static void says_so_when_storage_is_down_and_loses_nothing(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of first = save_large(0, 100000), last;
    enum error_code code = ERR_NONE;
    char *big = large("large", 99, 100000);
    struct memory_found found;
    struct memory_note note;
    uint64_t notes;
    (void)state;

    for (int i = 1; i < 12; i++)
        last = save_large(i, 100000);
    atomic_store(&place.storage.down, true);
    notes = usage().notes;

    assert_null(text_of(&place, &alice, first.text, &code));
    assert_int_equal(code, ERR_LOST);
    assert_large(&last, 11, 100000);
    assert_false(memory_delete(place.m, &alice, first.text, &w, &err));
    assert_code(err, ERR_LOST);
    error_clear(&err);
    found = find_as(&place, &alice, (struct memory_query){ .text = "large0" });
    assert_int_equal(found.count, 1);
    assert_true(found.notes[0].away);
    assert_string_equal(found.notes[0].text, "");
    memory_found_fini(&found);
    for (int i = 0; i < 3 && err.code == ERR_NONE; i++) {
        if (memory_save(place.m, &alice, NULL, big, 100000, NULL, MEMORY_PRIVATE, 0, &w, &note,
                        &err)) {
            memory_note_fini(&note);
            notes++;
        }
    }
    assert_code(err, ERR_LOST);
    assert_contains(err.text, "moving some to storage failed");
    assert_int_equal(usage().notes, notes);

    atomic_store(&place.storage.down, false);
    assert_large(&first, 0, 100000);
    save(&place, big);
    free(big);
}

static void removes_the_copy_later_when_storage_was_down(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of first = save_large(0, 100000), other;
    (void)state;

    for (int i = 1; i < 12; i++)
        save_large(i, 100000);
    assert_large(&first, 0, 100000); /* resident again, with a copy */
    other = save(&place, "other");
    atomic_store(&place.storage.down, true);
    assert_ok(memory_delete(place.m, &alice, first.text, &w, &err), err);
    assert_true(storage_has(&place.storage, "alice", first.text));
    atomic_store(&place.storage.down, false);
    place_close(&place);
    place_open(&place);
    assert_ok(memory_delete(place.m, &alice, other.text, &w, &err), err);
    assert_false(storage_has(&place.storage, "alice", first.text));
}

static void tells_when_storage_has_lost_or_changed_a_text(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of ids[2] = { save_large(0, 100000), save_large(1, 100000) };
    char path[512];
    (void)state;

    for (int i = 2; i < 14; i++)
        save_large(i, 100000);
    storage_file(&place.storage, "~memory.alice", ids[0].text, path);
    assert_int_equal(unlink(path), 0);
    storage_file(&place.storage, "~memory.alice", ids[1].text, path);
    assert_ok(fd_replace_file(path, "something else", 14, 0600, &err), err);
    for (int i = 0; i < 2; i++) {
        enum error_code code = ERR_NONE;

        assert_null(text_of(&place, &alice, ids[i].text, &code));
        assert_int_equal(code, ERR_LOST);
        assert_ok(memory_delete(place.m, &alice, ids[i].text, &w, &err), err);
        assert_false(storage_has(&place.storage, "alice", ids[i].text));
    }
    assert_string_equal(FOUND(&place, &alice, .text = "large0 large1"), "");
}

/* What happens between the answer of storage and the row. */
static struct id_of target;

static void delete_target(void *arg)
{
    struct error err = ERROR_INIT;
    /* The row goes at once; for the copy it waits in vain, since storage is busy with us. */
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 2 * SECOND) };

    (void)arg;
    place.storage.during = NULL;
    if (!memory_delete(place.m, &alice, target.text, &w, &err))
        print_message("%s\n", err.text);
}

static void change_target(void *arg)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();

    (void)arg;
    place.storage.during = NULL;
    if (!memory_save(place.m, &alice, target.text, "changed", 7, NULL, MEMORY_KEEP, 0, &w, NULL,
                     &err))
        print_message("%s\n", err.text);
}

static void a_note_deleted_or_changed_while_it_moves_is_so_afterwards(void **state)
{
    enum error_code code = ERR_NONE;
    (void)state;

    target = save_large(0, 100000);
    place.storage.during = delete_target;
    for (int i = 1; i < 12; i++)
        save_large(i, 100000);
    assert_null(text_of(&place, &alice, target.text, &code));
    assert_int_equal(code, ERR_NOT_FOUND);
    assert_false(storage_has(&place.storage, "alice", target.text));
    assert_int_equal(usage().notes, 11);

    target = save_large(20, 100000);
    for (int i = 21; i < 28; i++)
        save_large(i, 100000);
    place.storage.during = change_target;
    for (int i = 28; i < 40; i++)
        save_large(i, 100000);
    assert_text(&place, target.text, "changed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(moves_the_least_used_to_storage_and_brings_them_back),
        TEST(keeps_what_is_used_twice_before_what_was_used_once),
        TEST(goes_by_the_last_use_with_k_of_one),
        TEST(writes_a_note_that_did_not_change_to_storage_once),
        TEST(tells_when_four_fifths_are_taken),
        TEST(changes_and_deletes_what_has_moved),
        TEST(says_so_when_storage_is_down_and_loses_nothing),
        TEST(removes_the_copy_later_when_storage_was_down),
        TEST(tells_when_storage_has_lost_or_changed_a_text),
        TEST(a_note_deleted_or_changed_while_it_moves_is_so_afterwards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
