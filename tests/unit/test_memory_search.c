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

static json_t *list_of(const char *text)
{
    return text ? json_loads(text, 0, NULL) : NULL;
}

static void finds_by_words(void **state)
{
    static const char *const notes[] = {
        "Deploying to staging uses make deploy-staging",
        "The database password rotates on Mondays",
        "snake_case_name and kebab-case-name stand in config.yaml",
        "\xe5\x8c\x97\xe4\xba\xac\xe7\x9a\x84\xe5\xa4\xa9\xe6\xb0\x94\xe5\xa5\xbd", /* 北京的天气好
                                                                                     */
        "\xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 \xeb\xac\xb8\xec\x9e\xa5", /* 한국어 문장 */
        "na\xc3\xafve caf\xc3\xa9 r\xc3\xa9sum\xc3\xa9",
        "C++ and C# and .NET",
        "mixed \xe6\x9d\xb1\xe4\xba\xactower", /* 東京tower */
        "Mondays and staging together: staging Mondays",
    };
    static const struct {
        const char *query;
        int first; /* -1: nothing is found */
        size_t count;
    } rows[] = {
        { "deploy", 0, 1 },
        { "DEPLOYED", 0, 1 },
        { "what is the password of the database?", 1, 1 },
        { "snake_case_name", 2, 1 },
        { "case_name snake", 2, 1 },
        { "config.yaml", 2, 1 },
        { "\xe5\xa4\xa9\xe6\xb0\x94", 3, 1 }, /* 天气 */
        { "\xe5\xa4\xa9", 3, 1 },             /* 天 */
        { "\xe5\x8c\x97\xe4\xba\xac\xe5\xa4\xa9\xe6\xb0\x94\xe6\x80\x8e\xe4\xb9\x88\xe6\xa0\xb7", 3,
          1 },                                 /* 北京天气怎么样 */
        { "\xe6\xb0\x94\xe5\xa4\xa9", -1, 0 }, /* 气天: not in this order */
        { "\xea\xb5\xad\xec\x96\xb4", 4, 1 },
        { "naive cafe", 5, 1 },
        { "R\xc3\x89SUM\xc3\x89", 5, 1 },
        { "c++", 6, 1 },
        { "tower", 7, 1 },
        { "\xe6\x9d\xb1\xe4\xba\xac", 7, 1 },
        { "staging mondays", 8, 3 },
        { "\"staging mondays\"", 8, 1 },
        { "\"mondays staging\"", -1, 0 },
        { "\"uses make\" nothing", 0, 1 },
        { "unheard", -1, 0 },
    };
    struct id_of ids[ARRAY_LEN(notes)];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(notes); i++)
        ids[i] = save(&place, notes[i]);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct memory_found found =
            find_as(&place, &alice, (struct memory_query){ .text = rows[i].query });

        if (found.count != rows[i].count ||
            (found.count > 0 && strcmp(found.notes[0].id, ids[rows[i].first].text) != 0))
            fail_msg("%s: %zu found, first \"%s\"", rows[i].query, found.count,
                     found.count ? found.notes[0].text : "");
        memory_found_fini(&found);
    }
}

static void takes_any_text_for_a_question(void **state)
{
    static const char *const texts[] = {
        "\"",
        "\"\"",
        "\"\"\"",
        "'",
        "''",
        "*",
        "a*",
        "AND",
        "OR NOT",
        "NOT",
        "NEAR(a b)",
        "NEAR(",
        "(",
        ")",
        "((((",
        "a AND (b OR",
        "own:a",
        "words:a",
        "{own} : x",
        "-a",
        "+",
        "^a",
        "a ^ b",
        ":",
        "\\",
        "\\\"",
        ";",
        "; DROP TABLE notes; --",
        "%",
        "_",
        "\t\n\r ",
        "???",
        "!!!",
        "...",
        "\xe3\x80\x82\xef\xbc\x8c",
        /* 。， */ "\xf0\x9f\x98\x80", /* an emoji */
        "\xff\xfe",
        "\xc3",
        "\xe5\x8c",
        "a\xffz",
        "\x1f",
        "T1\nfoo",
        "\"T1\nfoo\"",
        "G1\nx",
        "1\x1f",
        "a \"b c",
        "a\"b\"c",
        "\"a\" \"b\"",
        "\"a\"\"b\"",
        "rowid",
        "null",
        "a,b,c",
        "[a]",
        "{a}",
        "the of and",
        "\"\xe5\x8c\x97\xe4\xba\xac\"",
        "\xe3\x83\xbb",
        "\xef\xbd\xb6\xef\xbd\xb7",
    };
    char *many = malloc(200000);
    struct memory_found found;
    size_t len = 0;
    (void)state;

    assert_non_null(many);
    save_as(&place, &bob, "foo x a secret of bob", "[\"x\"]", MEMORY_PRIVATE);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        save(&place, "a note with b and c in it");
        found = find_as(&place, &alice, (struct memory_query){ .text = texts[i], .limit = 1 });
        if (found.count > 0 && strcmp(found.notes[0].owner, "alice") != 0)
            fail_msg("%s: leaks", texts[i]);
        memory_found_fini(&found);
    }
    for (int i = 0; len < 150000; i++)
        len += (size_t)snprintf(many + len, 200000 - len, "\"w%d x\" NEAR ( w%d ", i, i);
    found = find_as(&place, &alice, (struct memory_query){ .text = many });
    memory_found_fini(&found);
    memset(many, '"', 100000);
    found = find_as(&place, &alice, (struct memory_query){ .text = many });
    assert_int_equal(found.count, 0);
    memory_found_fini(&found);
    free(many);
}

static void a_text_with_the_marks_of_the_index_stays_ones_own(void **state)
{
    (void)state;
    save_as(&place, &alice, "T2\nintruder 2\x1fintruder", "[\"G2\",\"2\"]", MEMORY_PRIVATE);
    save_as(&place, &bob, "plain", NULL, MEMORY_PRIVATE);
    assert_string_equal(FOUND(&place, &bob, .text = "intruder", .shared = true), "");
    assert_string_equal(FOUND(&place, &bob, .text = "2"), "");
}

static void filters_by_tags(void **state)
{
    static const struct {
        const char *label, *text, *tags, *want;
    } rows[] = {
        { "one", NULL, "[\"red\"]", "apple juice,apple" },
        { "case is nothing", NULL, "[\"RED\"]", "apple juice,apple" },
        { "all of them", NULL, "[\"red\",\"drink\"]", "apple juice" },
        { "with words", "apple", "[\"drink\"]", "apple juice" },
        { "whole tags only", NULL, "[\"re\"]", "" },
        { "with spaces", NULL, "[\"two words\"]", "pear" },
        { "not its parts", NULL, "[\"two\"]", "" },
        { "odd characters", NULL, "[\"a\\\"b:c*\"]", "pear" },
        { "unknown", NULL, "[\"blue\"]", "" },
        { "none", "apple", "[]", "apple,apple juice" },
        { "not the text", NULL, "[\"apple\"]", "" },
    };
    (void)state;

    save_as(&place, &alice, "apple", "[\"red\",\"fruit\"]", MEMORY_PRIVATE);
    save_as(&place, &alice, "pear", "[\"two words\",\"a\\\"b:c*\"]", MEMORY_PRIVATE);
    save_as(&place, &alice, "apple juice", "[\"red\",\"drink\"]", MEMORY_PRIVATE);
    save_as(&place, &bob, "apple of bob", "[\"red\"]", MEMORY_PRIVATE);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *tags = list_of(rows[i].tags);
        const char *got = FOUND(&place, &alice, .text = rows[i].text, .tags = tags);

        if (strcmp(got, rows[i].want))
            fail_msg("%s: \"%s\"", rows[i].label, got);
        json_decref(tags);
    }
}

static void filters_by_time_and_lists_the_newest_first(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    int64_t at[3];
    struct id_of ids[3];
    json_t *tags = list_of("[\"t\"]");
    (void)state;

    for (int i = 0; i < 3; i++) {
        char text[16];
        struct memory_note note;

        (void)snprintf(text, sizeof text, "note %d", i);
        ids[i] = save_as(&place, &alice, text, "[\"t\"]", MEMORY_PRIVATE);
        assert_ok(memory_get(place.m, &alice, ids[i].text, &w, &note, &err), err);
        at[i] = note.updated_wall_ns;
        memory_note_fini(&note);
    }
    assert_true(at[0] < at[1] && at[1] < at[2]);
    for (int by_tag = 0; by_tag < 2; by_tag++) {
        const json_t *t = by_tag ? tags : NULL;

        assert_string_equal(FOUND(&place, &alice, .tags = t), "note 2,note 1,note 0");
        assert_string_equal(FOUND(&place, &alice, .tags = t, .since_wall_ns = at[1]),
                            "note 2,note 1");
        assert_string_equal(FOUND(&place, &alice, .tags = t, .until_wall_ns = at[1]), "note 0");
        assert_string_equal(FOUND(&place, &alice, .tags = t, .shared = true, .since_wall_ns = at[1],
                                  .until_wall_ns = at[2]),
                            "note 1");
        assert_string_equal(
            FOUND(&place, &alice, .text = "note", .tags = t, .since_wall_ns = at[2]), "note 2");
    }
    assert_ok(memory_save(place.m, &alice, ids[0].text, "note 0", 6, NULL, MEMORY_KEEP, 0, &w, NULL,
                          &err),
              err);
    assert_string_equal(FOUND(&place, &alice, .limit = 1), "note 0");
    json_decref(tags);
}

static void pages(void **state)
{
    static const struct memory_query queries[] = {
        { .text = NULL },
        { .text = "common" },
        { .shared = true },
        { .text = "common", .shared = true },
    };
    (void)state;

    for (int i = 0; i < 25; i++) {
        char text[64];

        (void)snprintf(text, sizeof text, "common word %d", i);
        save_as(&place, &alice, text, NULL, i % 3 ? MEMORY_PRIVATE : MEMORY_ALL);
    }
    for (size_t k = 0; k < ARRAY_LEN(queries); k++) {
        char ids[25][40];
        size_t count = 0;
        bool more = true;

        for (size_t offset = 0; more; offset += 7) {
            struct memory_query q = queries[k];
            struct memory_found found;

            q.limit = 7;
            q.offset = offset;
            found = find_as(&place, &alice, q);
            more = found.more;
            assert_int_equal(found.count, more ? 7 : 25 % 7);
            for (size_t i = 0; i < found.count; i++, count++) {
                for (size_t j = 0; j < count; j++)
                    assert_string_not_equal(ids[j], found.notes[i].id);
                memcpy(ids[count], found.notes[i].id, 40);
            }
            memory_found_fini(&found);
        }
        assert_int_equal(count, 25);
    }
}

static void refuses_pages_out_of_range(void **state)
{
    static const struct {
        size_t limit, offset;
    } rows[] = {
        { 0, 0 }, { MEMORY_PAGE_MAX + 1, 0 }, { 1, MEMORY_OFFSET_MAX + 1 }, { SIZE_MAX, SIZE_MAX }
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct memory_query q = { .limit = rows[i].limit, .offset = rows[i].offset };
        struct error err = ERROR_INIT;
        struct memory_found found;
        struct wait w = soon();

        assert_false(memory_search(place.m, &alice, &q, &w, &found, &err));
        assert_code(err, ERR_INVALID);
    }
}

static void ranks_what_fits_better_first(void **state)
{
    struct memory_found found;
    (void)state;

    save(&place, "kernel in passing, in a long note about cooking with many other words in it");
    save(&place, "kernel kernel scheduling");
    save(&place, "scheduling of meetings");
    save(&place, "cooking");
    found = find_as(&place, &alice, (struct memory_query){ .text = "kernel scheduling" });
    assert_int_equal(found.count, 3);
    assert_string_equal(found.notes[0].text, "kernel kernel scheduling");
    assert_true(found.notes[0].score > found.notes[1].score);
    assert_true(found.notes[1].score >= found.notes[2].score && found.notes[2].score > 0);
    memory_found_fini(&found);
}

static void stops_at_the_deadline_and_when_cancelled(void **state)
{
    struct memory_query q = { .text = "x", .limit = 1 };
    struct error err = ERROR_INIT;
    struct cancel cancel;
    struct memory_found found;
    struct wait late = { .deadline_ns = clock_now_ns() };
    struct wait cancelled = soon();
    (void)state;

    cancel_init(&cancel);
    cancel_raise(&cancel);
    cancelled.cancel = &cancel;
    assert_false(memory_search(place.m, &alice, &q, &late, &found, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    assert_false(memory_search(place.m, &alice, &q, &cancelled, &found, &err));
    assert_code(err, ERR_CANCELLED);
    error_clear(&err);
    assert_false(memory_save(place.m, &alice, NULL, "x", 1, NULL, MEMORY_PRIVATE, 0, &cancelled,
                             NULL, &err));
    assert_code(err, ERR_CANCELLED);
    cancel_fini(&cancel);
    assert_string_equal(FOUND(&place, &alice, .text = "x"), "");
}

static void finds_nothing_for_whom_it_does_not_know(void **state)
{
    static const struct memory_who nobody = { .agent = "nobody", .group = NULL };
    (void)state;

    assert_string_equal(FOUND(&place, &nobody, .text = "x", .shared = true), "");
    assert_string_equal(FOUND(&place, &nobody, .shared = true), "");
    save_as(&place, &alice, "for all x", NULL, MEMORY_ALL);
    assert_string_equal(FOUND(&place, &nobody, .text = "x", .shared = true), "for all x");
    assert_string_equal(FOUND(&place, &nobody, .text = "x"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(finds_by_words),
        TEST(takes_any_text_for_a_question),
        TEST(a_text_with_the_marks_of_the_index_stays_ones_own),
        TEST(filters_by_tags),
        TEST(filters_by_time_and_lists_the_newest_first),
        TEST(pages),
        TEST(refuses_pages_out_of_range),
        TEST(ranks_what_fits_better_first),
        TEST(stops_at_the_deadline_and_when_cancelled),
        TEST(finds_nothing_for_whom_it_does_not_know),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
