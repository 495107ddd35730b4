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

/* ---- notes ---- */

static void keeps_a_note_with_its_tags_and_times(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    int64_t before = clock_wall_ns();
    struct id_of id = save_as(&place, &alice, "the gate code is 4711",
                              "[\"Door\",\"a b\",\"Door\"]", MEMORY_PRIVATE);
    struct memory_note note;
    (void)state;

    assert_ok(memory_get(place.m, &alice, id.text, &w, &note, &err), err);
    assert_string_equal(note.text, "the gate code is 4711");
    assert_string_equal(note.owner, "alice");
    assert_int_equal(json_array_size(note.tags), 2);
    assert_string_equal(json_string_value(json_array_get(note.tags, 1)), "a b");
    assert_int_equal(note.version, 1);
    assert_false(note.shared);
    assert_true(note.created_wall_ns >= before && note.updated_wall_ns == note.created_wall_ns);
    memory_note_fini(&note);
}

static void keeps_notes_over_a_restart(void **state)
{
    struct id_of id = save(&place, "lasting");
    (void)state;

    place_close(&place);
    place_open(&place);
    assert_text(&place, id.text, "lasting");
    assert_string_equal(FOUND(&place, &alice, .text = "lasting"), "lasting");
}

static void replaces_a_note_and_counts_its_versions(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of id = save_as(&place, &alice, "old words", "[\"kept\"]", MEMORY_PRIVATE);
    struct memory_note note;
    (void)state;

    assert_ok(
        memory_save(place.m, &alice, id.text, "new text", 8, NULL, MEMORY_KEEP, 1, &w, &note, &err),
        err);
    assert_string_equal(note.id, id.text);
    assert_int_equal(note.version, 2);
    assert_string_equal(json_string_value(json_array_get(note.tags, 0)), "kept");
    memory_note_fini(&note);
    assert_string_equal(FOUND(&place, &alice, .text = "words"), "");
    assert_string_equal(FOUND(&place, &alice, .text = "text"), "new text");

    assert_false(memory_save(place.m, &alice, id.text, "lost update", 11, NULL, MEMORY_KEEP, 1, &w,
                             &note, &err));
    assert_code(err, ERR_EXISTS);
    assert_contains(err.text, "version 2");
    assert_text(&place, id.text, "new text");
    assert_int_equal(usage().notes, 1);
    assert_int_equal(usage().resident_bytes, 8 + 4);
}

static void deletes_a_note(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of id = save(&place, "short lived");
    enum error_code code = ERR_NONE;
    (void)state;

    assert_ok(memory_delete(place.m, &alice, id.text, &w, &err), err);
    assert_null(text_of(&place, &alice, id.text, &code));
    assert_int_equal(code, ERR_NOT_FOUND);
    assert_string_equal(FOUND(&place, &alice, .text = "lived"), "");
    assert_false(memory_delete(place.m, &alice, id.text, &w, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_int_equal(usage().notes, 0);
    assert_int_equal(usage().resident_bytes, 0);
}

static void refuses_what_is_no_note(void **state)
{
    static char big[MEMORY_NOTE_BYTES + 1];
    static const struct {
        const char *label, *text;
        size_t len;
        const char *tags;
        enum memory_sharing sharing;
        enum error_code want;
    } rows[] = {
        { "empty", "", 0, NULL, MEMORY_PRIVATE, ERR_INVALID },
        { "NUL", "a\0b", 3, NULL, MEMORY_PRIVATE, ERR_INVALID },
        { "no UTF-8", "\xff\xfe", 2, NULL, MEMORY_PRIVATE, ERR_INVALID },
        { "too long", big, sizeof big, NULL, MEMORY_PRIVATE, ERR_LIMIT },
        { "empty tag", "a", 1, "[\"\"]", MEMORY_PRIVATE, ERR_INVALID },
        { "tag with a newline", "a", 1, "[\"a\\nb\"]", MEMORY_PRIVATE, ERR_INVALID },
        { "tag that is a number", "a", 1, "[1]", MEMORY_PRIVATE, ERR_INVALID },
        { "tags that are no list", "a", 1, "{}", MEMORY_PRIVATE, ERR_INVALID },
        { "long tag", "a", 1,
          "[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]", MEMORY_PRIVATE,
          ERR_INVALID },
        { "no group", "a", 1, NULL, MEMORY_GROUP, ERR_INVALID },
    };
    (void)state;

    memset(big, 'a', sizeof big);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct wait w = soon();
        json_t *tags = rows[i].tags ? json_loads(rows[i].tags, 0, NULL) : NULL;
        struct memory_note note;

        if (memory_save(place.m, &eve, NULL, rows[i].text, rows[i].len, tags, rows[i].sharing, 0,
                        &w, &note, &err) ||
            err.code != rows[i].want)
            fail_msg("%s: %s: %s", rows[i].label, error_code_name(err.code), err.text);
        if (rows[i].text == big)
            assert_contains(err.text, "may have 262144 bytes, this one has 262145;");
        json_decref(tags);
    }
}

static void takes_no_more_tags_and_notes_than_allowed(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    json_t *tags = json_array();
    struct memory_note note;
    (void)state;

    for (unsigned i = 0; i <= MEMORY_TAGS; i++)
        json_array_append_new(tags, json_sprintf("t%u", i));
    assert_false(
        memory_save(place.m, &alice, NULL, "a", 1, tags, MEMORY_PRIVATE, 0, &w, &note, &err));
    assert_code(err, ERR_LIMIT);
    json_decref(tags);

    place_close(&place);
    place.config.memory.max_notes = 2;
    place_open(&place);
    save(&place, "one");
    save(&place, "two");
    error_clear(&err);
    assert_false(
        memory_save(place.m, &alice, NULL, "three", 5, NULL, MEMORY_PRIVATE, 0, &w, &note, &err));
    assert_code(err, ERR_LIMIT);
    assert_contains(err.text, "memory.max_notes");
    save_as(&place, &bob, "bob has his own count", NULL, MEMORY_PRIVATE);
}

static void a_note_never_becomes_older(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of id = save(&place, "first");
    struct memory_note before, note;
    (void)state;

    assert_ok(memory_get(place.m, &alice, id.text, &w, &before, &err), err);
    for (int i = 0; i < 5; i++) {
        assert_ok(memory_save(place.m, &alice, id.text, "again", 5, NULL, MEMORY_KEEP, 0, &w, &note,
                              &err),
                  err);
        assert_true(note.updated_wall_ns >= before.updated_wall_ns);
        assert_true(note.created_wall_ns == before.created_wall_ns);
        memory_note_fini(&note);
    }
    memory_note_fini(&before);
}

/* ---- sharing ---- */

static void shows_others_what_is_shared_and_nothing_else(void **state)
{
    static const struct {
        const char *label;
        enum memory_sharing sharing;
        bool bob_reads, eve_reads;
    } rows[] = {
        { "private", MEMORY_PRIVATE, false, false },
        { "group", MEMORY_GROUP, true, false },
        { "all", MEMORY_ALL, true, true },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[64];
        struct id_of id;

        (void)snprintf(text, sizeof text, "topic %s", rows[i].label);
        id = save_as(&place, &alice, text, "[\"t\"]", rows[i].sharing);
        for (int who = 0; who < 2; who++) {
            const struct memory_who *reader = who ? &eve : &bob;
            bool reads = who ? rows[i].eve_reads : rows[i].bob_reads;
            enum error_code code = ERR_NONE;
            struct error err = ERROR_INIT;
            struct memory_note note;
            struct wait w = soon();
            char *got = text_of(&place, reader, id.text, &code);

            if ((got != NULL) != reads || (!reads && code != ERR_NOT_FOUND))
                fail_msg("%s: %s reads it: %d", rows[i].label, reader->agent, got != NULL);
            free(got);
            assert_false(memory_delete(place.m, reader, id.text, &w, &err));
            assert_code(err, reads ? ERR_DENIED : ERR_NOT_FOUND);
            error_clear(&err);
            assert_false(memory_save(place.m, reader, id.text, "mine now", 8, NULL, MEMORY_KEEP, 0,
                                     &w, &note, &err));
            assert_code(err, reads ? ERR_DENIED : ERR_NOT_FOUND);
        }
    }
    assert_string_equal(FOUND(&place, &bob, .text = "topic"), "");
    assert_string_equal(FOUND(&place, &bob, .text = "topic", .shared = true),
                        "topic all,topic group");
    assert_string_equal(FOUND(&place, &eve, .text = "topic", .shared = true), "topic all");
    assert_string_equal(FOUND(&place, &eve, .shared = true), "topic all");
    assert_string_equal(FOUND(&place, &bob, .shared = true), "topic all,topic group");
    assert_string_equal(FOUND(&place, &alice, .text = "topic", .shared = true, .limit = 2),
                        FOUND(&place, &alice, .text = "topic", .shared = true, .limit = 2));
}

static void finds_what_one_shares_oneself_only_once(void **state)
{
    (void)state;
    save_as(&place, &alice, "mine and everybody's", "[\"x\"]", MEMORY_ALL);
    save_as(&place, &alice, "mine and the group's", "[\"x\"]", MEMORY_GROUP);
    for (int i = 0; i < 2; i++) {
        json_t *tags = i ? json_loads("[\"x\"]", 0, NULL) : NULL;
        struct memory_found found = find_as(
            &place, &alice, (struct memory_query){ .text = "mine", .tags = tags, .shared = true });

        assert_int_equal(found.count, 2);
        memory_found_fini(&found);
        json_decref(tags);
    }
    assert_string_equal(FOUND(&place, &alice, .shared = true),
                        "mine and the group's,mine and everybody's");
}

static void stops_sharing(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of id = save_as(&place, &alice, "open secret", NULL, MEMORY_ALL);
    (void)state;

    assert_string_equal(FOUND(&place, &eve, .text = "secret", .shared = true), "open secret");
    assert_ok(memory_save(place.m, &alice, id.text, "open secret", 11, NULL, MEMORY_PRIVATE, 0, &w,
                          NULL, &err),
              err);
    assert_string_equal(FOUND(&place, &eve, .text = "secret", .shared = true), "");
    assert_string_equal(FOUND(&place, &alice, .text = "secret"), "open secret");
}

static void ranks_without_a_trace_of_the_notes_of_others(void **state)
{
    double before, after;
    struct memory_found found;
    (void)state;

    save(&place, "alpha beta");
    save(&place, "alpha gamma delta");
    save(&place, "epsilon");
    found = find_as(&place, &alice, (struct memory_query){ .text = "alpha beta" });
    before = found.notes[0].score;
    memory_found_fini(&found);
    for (int i = 0; i < 20; i++)
        save_as(&place, &eve, "beta beta and many other words about beta", NULL, MEMORY_PRIVATE);
    found = find_as(&place, &alice, (struct memory_query){ .text = "alpha beta" });
    after = found.notes[0].score;
    memory_found_fini(&found);
    assert_true(before > 0 && before == after);
}

/* ---- two kernels ---- */

static void refuses_a_folder_that_another_kernel_uses(void **state)
{
    struct error err = ERROR_INIT;
    char pid[32];
    (void)state;

    assert_null(memory_open(&place.config, &place.storage, NULL, NULL, &err));
    assert_code(err, ERR_BUSY);
    (void)snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_contains(err.text, pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keeps_a_note_with_its_tags_and_times),
        TEST(keeps_notes_over_a_restart),
        TEST(replaces_a_note_and_counts_its_versions),
        TEST(deletes_a_note),
        TEST(refuses_what_is_no_note),
        TEST(takes_no_more_tags_and_notes_than_allowed),
        TEST(a_note_never_becomes_older),
        TEST(shows_others_what_is_shared_and_nothing_else),
        TEST(finds_what_one_shares_oneself_only_once),
        TEST(stops_sharing),
        TEST(ranks_without_a_trace_of_the_notes_of_others),
        TEST(refuses_a_folder_that_another_kernel_uses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
