#include <math.h>

#include "kernel/memory_dot.h"
#include "kernel/memory_vectors.h"
#include "tests/unit/memory_place.h"

static struct place place;

static int make(void **state)
{
    if (folder_make(state))
        return -1;
    place_new(&place);
    atomic_store(&place.llm.configured, true);
    return 0;
}

static int drop(void **state)
{
    place_free(&place);
    return folder_remove(state);
}

#define TEST(name)     cmocka_unit_test_setup_teardown(name, make, drop)
#define NEAR(who, ...) found_as(&place, who, (struct memory_query){ .semantic = true, __VA_ARGS__ })

/* ---- the sums ---- */

static void every_width_agrees_with_plain_sums(void **state)
{
    static const size_t strides[] = { 16, 32, 48, 64, 80, 384, 400, 1536 };
    enum { ROWS = 7 };
    unsigned widths = 0;
    uint64_t seed = 1;
    (void)state;

    for (size_t s = 0; s < ARRAY_LEN(strides); s++) {
        size_t stride = strides[s];
        float *rows = aligned_alloc(64, ROWS * stride * sizeof *rows);
        float *query = aligned_alloc(64, stride * sizeof *query);
        float want[ROWS], got[ROWS];

        assert_true(rows && query);
        for (size_t i = 0; i < (ROWS + 1) * stride; i++) {
            float *at = i < stride ? &query[i] : &rows[i - stride];

            seed = seed * 6364136223846793005u + 1442695040888963407u;
            *at = (float)(int32_t)(seed >> 32) / 2147483648.0f;
        }
        memory_dot_scalar(query, rows, stride, ROWS, want);
        for (unsigned width = 4; width <= 16; width *= 2) {
            if (!memory_dot_set_width(width))
                continue;
            widths |= width;
            assert_int_equal(memory_dot_width(), width);
            memory_dot_rows(query, rows, stride, ROWS, got);
            for (int i = 0; i < ROWS; i++)
                if (fabsf(got[i] - want[i]) > 1e-4f * (float)stride)
                    fail_msg("width %u, stride %zu, row %d: %g and not %g", width, stride, i,
                             (double)got[i], (double)want[i]);
        }
        free(rows);
        free(query);
    }
    print_message("widths tried: %s%s%s\n", widths & 4 ? "4 " : "", widths & 8 ? "8 " : "",
                  widths & 16 ? "16" : "");
    assert_true(widths & 4);
}

static bool fill_nothing(struct memory_set *set, const struct memory_set_key *key, void *arg,
                         struct error *err)
{
    (void)set;
    (void)key;
    (void)arg;
    (void)err;
    return true;
}

static void finds_exactly_the_nearest_of_many(void **state)
{
    enum { COUNT = 5000, DIMS = 40, BEST = 20 };
    struct memory_set_key key = { .scope = 900, .model = 1, .dims = DIMS };
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct memory_vectors *v = memory_vectors_new(folder_base, &err);
    struct memory_set *set = memory_set_get(v, &key, true, fill_nothing, NULL, &err);
    struct memory_best best;
    static float all[COUNT][DIMS];
    float *query = NULL;
    uint64_t seed = 7;
    (void)state;

    assert_ok(set, err);
    for (int i = 0; i < COUNT; i++) {
        float *unit = NULL;
        int64_t slot;

        for (int k = 0; k < DIMS; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            all[i][k] = (float)(int32_t)(seed >> 32) / 2147483648.0f;
        }
        assert_ok(memory_unit_vector(all[i], DIMS, &unit, &err) && unit, err);
        assert_ok(memory_set_write(set, unit, &slot, &err), err);
        assert_int_equal(slot, i);
        assert_true(memory_set_place(set, slot, i + 1));
        free(unit);
    }
    memory_set_free(set, 17);
    assert_ok(memory_unit_vector(all[17], DIMS, &query, &err), err);
    assert_ok(memory_best_init(&best, BEST, &err), err);
    assert_ok(memory_set_scan(set, query, NULL, 0, &w, &best, &err), err);
    assert_ok(memory_set_scan(set, query, NULL, 0, &w, &best, &err), err); /* nothing twice */
    memory_best_sort(&best);
    assert_int_equal(best.count, BEST);
    for (int i = 0; i < BEST; i++) {
        int better = 0;

        assert_int_not_equal(best.n[i], 18);
        for (int j = 0; j < COUNT; j++) {
            float *unit = NULL;
            float score;

            assert_ok(memory_unit_vector(all[j], DIMS, &unit, &err), err);
            memory_dot_scalar(query, unit, 48, 1, &score);
            better += j != 17 && score > best.score[i] + 1e-5f;
            free(unit);
        }
        assert_int_equal(better, i);
    }
    memory_best_fini(&best);
    free(query);
    memory_set_put(set);
    memory_vectors_free(v);
}

static void keeps_no_more_files_open_than_needed(void **state)
{
    struct error err = ERROR_INIT;
    struct memory_vectors *v = memory_vectors_new(folder_base, &err);
    struct memory_set *held[100];
    int before = folder_open_fds(), open;
    (void)state;

    assert_ok(v, err);
    for (int i = 0; i < 100; i++) {
        struct memory_set_key key = { .scope = i + 1, .model = 1, .dims = 16 };

        held[i] = memory_set_get(v, &key, true, fill_nothing, NULL, &err);
        assert_ok(held[i], err);
    }
    assert_int_equal(folder_open_fds() - before, 100); /* all are in use */
    for (int i = 0; i < 100; i++)
        memory_set_put(held[i]);
    for (int i = 99; i >= 0; i--) {
        struct memory_set_key key = { .scope = i + 1, .model = 1, .dims = 16 };
        struct memory_set *set = memory_set_get(v, &key, false, fill_nothing, NULL, &err);

        assert_ok(set, err);
        memory_set_put(set);
    }
    open = folder_open_fds() - before;
    assert_true(open > 0 && open <= 70);
    memory_vectors_free(v);
}

static void a_vector_without_direction_is_none(void **state)
{
    static const float zeros[4] = { 0 };
    const float odd[4] = { INFINITY, 1, 1, 1 }, none[4] = { NAN, 1, 1, 1 };
    const float *const rows[] = { zeros, odd, none };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        float *unit = NULL;

        assert_ok(memory_unit_vector(rows[i], 4, &unit, &err), err);
        assert_null(unit);
    }
}

/* ---- searching by meaning ---- */

static void finds_by_meaning(void **state)
{
    struct memory_found found;
    (void)state;

    save(&place, "the automobile is in the garage");
    save(&place, "a kitten sleeps");
    save(&place, "bread from the bakery");
    assert_string_equal(NEAR(&alice, .text = "car", .limit = 1), "the automobile is in the garage");
    assert_string_equal(NEAR(&alice, .text = "feline", .limit = 1), "a kitten sleeps");
    found = find_as(&place, &alice,
                    (struct memory_query){ .semantic = true, .text = "a kitten sleeps" });
    assert_int_equal(found.count, 3);
    assert_true(found.notes[0].score > 0.999 && found.notes[0].score < 1.001);
    assert_false(found.more);
    memory_found_fini(&found);
    found = find_as(&place, &alice,
                    (struct memory_query){ .semantic = true, .text = "cat", .limit = 2 });
    assert_true(found.count == 2 && found.more);
    memory_found_fini(&found);
    assert_string_equal(NEAR(&alice, .text = "car", .limit = 2, .offset = 3), "");
}

static void says_what_to_configure_without_a_provider(void **state)
{
    struct memory_query q = { .text = "x", .semantic = true, .limit = 1 };
    struct error err = ERROR_INIT;
    struct memory_found found;
    struct wait w = soon();
    (void)state;

    for (int i = 0; i < 2; i++) {
        atomic_store(&place.llm.configured, i == 1);
        place_close(&place);
        place.config.memory.embed = i == 0;
        place_open(&place);
        save(&place, "x");
        assert_false(memory_search(place.m, &alice, &q, &w, &found, &err));
        assert_code(err, ERR_UNSUPPORTED);
        assert_contains(err.text, "embed_model");
        error_clear(&err);
    }
    q.text = "";
    assert_false(memory_search(place.m, &alice, &q, &w, &found, &err));
    assert_code(err, ERR_INVALID);
    assert_int_equal(atomic_load(&place.llm.calls), 0);
}

static void filters_and_shares_by_meaning_too(void **state)
{
    json_t *tags = json_loads("[\"blue\"]", 0, NULL);
    int64_t middle;
    (void)state;

    save_as(&place, &alice, "vehicle one", "[\"blue\"]", MEMORY_PRIVATE);
    save_as(&place, &alice, "vehicle two", NULL, MEMORY_GROUP);
    middle = clock_wall_ns();
    save_as(&place, &alice, "vehicle three", "[\"blue\"]", MEMORY_ALL);
    assert_string_equal(NEAR(&alice, .text = "car three", .tags = tags),
                        "vehicle three,vehicle one");
    assert_string_equal(NEAR(&alice, .text = "car", .until_wall_ns = middle, .tags = tags),
                        "vehicle one");
    assert_string_equal(NEAR(&alice, .text = "car", .since_wall_ns = middle), "vehicle three");
    assert_string_equal(NEAR(&bob, .text = "car"), "");
    assert_string_equal(NEAR(&bob, .text = "car two", .shared = true), "vehicle two,vehicle three");
    assert_string_equal(NEAR(&eve, .text = "car", .shared = true), "vehicle three");
    assert_string_equal(NEAR(&eve, .text = "car", .shared = true, .tags = tags), "vehicle three");
    assert_string_equal(NEAR(&alice, .text = "vehicle three", .shared = true, .limit = 1),
                        "vehicle three");
    {
        struct memory_found found =
            find_as(&place, &alice,
                    (struct memory_query){ .semantic = true, .text = "car", .shared = true });

        assert_int_equal(found.count, 3); /* each once, though two are in several sets */
        memory_found_fini(&found);
    }
    json_decref(tags);
}

static void follows_changes_and_deletions(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct id_of id = save(&place, "a car");
    struct id_of other = save(&place, "a loaf");
    int texts = atomic_load(&place.llm.texts);
    (void)state;

    assert_ok(
        memory_save(place.m, &alice, id.text, "a car", 5, NULL, MEMORY_KEEP, 0, &w, NULL, &err),
        err);
    assert_int_equal(atomic_load(&place.llm.texts), texts); /* the same text is not asked for */
    assert_ok(
        memory_save(place.m, &alice, id.text, "a kitten", 8, NULL, MEMORY_KEEP, 0, &w, NULL, &err),
        err);
    assert_string_equal(NEAR(&alice, .text = "cat", .limit = 1), "a kitten");
    assert_ok(memory_delete(place.m, &alice, other.text, &w, &err), err);
    assert_string_equal(NEAR(&alice, .text = "bread"), "a kitten");
    save(&place, "a bakery"); /* into the slot that is free */
    place_close(&place);
    place_open(&place);
    assert_string_equal(NEAR(&alice, .text = "bread"), "a bakery,a kitten");
}

static void a_provider_that_is_down_fails_no_save_and_is_made_up_for(void **state)
{
    struct memory_query q = { .text = "car", .semantic = true, .limit = 1 };
    struct error err = ERROR_INIT;
    struct memory_found found;
    struct wait w = soon();
    int calls;
    (void)state;

    atomic_store(&place.llm.down, true);
    save(&place, "the automobile");
    calls = atomic_load(&place.llm.calls);
    for (int i = 0; i < 80; i++)
        save(&place, "a loaf");
    assert_int_equal(atomic_load(&place.llm.calls), calls); /* it is left alone for a while */
    assert_false(memory_search(place.m, &alice, &q, &w, &found, &err));
    assert_code(err, ERR_LOST);
    atomic_store(&place.llm.down, false);
    assert_string_equal(NEAR(&alice, .text = "car", .limit = 1), "the automobile");
    assert_int_equal(atomic_load(&place.llm.texts), 81 + 1);
}

static void makes_vectors_anew_for_another_model(void **state)
{
    (void)state;
    save(&place, "the automobile");
    save(&place, "a loaf");
    (void)snprintf(place.llm.model, sizeof place.llm.model, "other");
    assert_string_equal(NEAR(&alice, .text = "car", .limit = 1), "the automobile");
    assert_int_equal(atomic_load(&place.llm.texts), 2 + 2 + 1);
    atomic_store(&place.llm.dims, 48); /* the same name, but longer vectors */
    assert_string_equal(NEAR(&alice, .text = "car", .limit = 1), "the automobile");
    assert_string_equal(NEAR(&alice, .text = "bread", .limit = 1), "a loaf");
    (void)snprintf(place.llm.model, sizeof place.llm.model, "tiny");
    assert_string_equal(NEAR(&alice, .text = "bread", .limit = 1), "a loaf");
    place_close(&place);
    place_open(&place);
    assert_string_equal(NEAR(&alice, .text = "bread", .limit = 1), "a loaf");
}

static void a_text_that_the_model_refuses_does_not_hold_up_the_others(void **state)
{
    (void)state;
    atomic_store(&place.llm.down, true);
    save(&place, "a car");
    save(&place, "poisonous loaf");
    save(&place, "a kitten");
    atomic_store(&place.llm.down, false);
    place.llm.poison = "poisonous";
    assert_string_equal(NEAR(&alice, .text = "car", .limit = 1), "a car");
    assert_string_equal(NEAR(&alice, .text = "cat", .limit = 1), "a kitten");
    {
        struct memory_found found =
            find_as(&place, &alice, (struct memory_query){ .semantic = true, .text = "bread" });
        int calls = atomic_load(&place.llm.calls);

        assert_int_equal(found.count, 2);
        memory_found_fini(&found);
        assert_string_equal(NEAR(&alice, .text = "cat", .limit = 1), "a kitten");
        assert_int_equal(atomic_load(&place.llm.calls), calls + 1); /* it is not asked again */
    }
}

static void makes_vectors_again_when_their_file_is_lost(void **state)
{
    struct error err = ERROR_INIT;
    int texts;
    (void)state;

    for (int i = 0; i < 100; i++)
        save(&place, i == 50 ? "the automobile" : "a loaf");
    texts = atomic_load(&place.llm.texts);
    place_close(&place);
    assert_ok(fd_remove_tree(AT_FDCWD, folder_path("memory/vectors"), &err), err);
    assert_ok(fd_mkdirs(folder_path("memory/vectors"), 0700, &err), err);
    folder_put("memory/vectors/1-1.f32", "short");
    place_open(&place);
    assert_string_equal(NEAR(&alice, .text = "car", .limit = 1), "the automobile");
    assert_int_equal(atomic_load(&place.llm.texts), texts + 100 + 1);
}

static void finds_by_meaning_what_is_in_storage(void **state)
{
    struct id_of id = save(&place, "the automobile");
    char *big = malloc(100001);
    (void)state;

    assert_non_null(big);
    memset(big, 'x', 100000);
    big[100000] = '\0';
    for (int i = 0; i < 12; i++)
        save(&place, big);
    free(big);
    assert_true(storage_has(&place.storage, "alice", id.text));
    assert_string_equal(NEAR(&alice, .text = "car", .limit = 1), "the automobile");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_agrees_with_plain_sums),
        WITH_FOLDER(finds_exactly_the_nearest_of_many),
        WITH_FOLDER(keeps_no_more_files_open_than_needed),
        cmocka_unit_test(a_vector_without_direction_is_none),
        TEST(finds_by_meaning),
        TEST(says_what_to_configure_without_a_provider),
        TEST(filters_and_shares_by_meaning_too),
        TEST(follows_changes_and_deletions),
        TEST(a_provider_that_is_down_fails_no_save_and_is_made_up_for),
        TEST(makes_vectors_anew_for_another_model),
        TEST(a_text_that_the_model_refuses_does_not_hold_up_the_others),
        TEST(makes_vectors_again_when_their_file_is_lost),
        TEST(finds_by_meaning_what_is_in_storage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
