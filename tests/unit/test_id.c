#include "kernel/base/id.h"

#include "tests/support/check.h"

static void has_its_shape(void **state)
{
    struct id id = id_make("c"), longest = id_make("twelve_chars");

    (void)state;
    assert_int_equal(strlen(id.text), 2 + 26);
    assert_true(id_is(id.text, "c"));
    assert_false(id_is(id.text, "r"));
    assert_int_equal(strlen(longest.text), ID_SIZE - 1);
    assert_true(id_is(longest.text, "twelve_chars"));
}

static void refuses_other_shapes(void **state)
{
    static const char *const rows[] = {
        "",
        "c",
        "c_",
        "c_0123456789abcdefghjkmnpqr",   /* one short of 26 */
        "c_0123456789abcdefghjkmnpqrst", /* one too many */
        "c_0123456789abcdefghjkmnpqrs/",
        "c_0123456789ABCDEFGHJKMNPQRS",
        "cc_0123456789abcdefghjkmnpqrs",
        "c-0123456789abcdefghjkmnpqrs",
        "c_../../../../../etc/passwd0",
    };

    (void)state;
    assert_true(id_is("c_0123456789abcdefghjkmnpqrs", "c"));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (id_is(rows[i], "c"))
            fail_msg("\"%s\" was accepted", rows[i]);
}

static void no_two_are_alike(void **state)
{
    struct id ids[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        ids[i] = id_make("x");
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ids[i].text, ids[j].text);
    }
}

/* Each digit's place takes many values; the last carries three bits. */
static void every_place_varies(void **state)
{
    unsigned seen[26][128] = { { 0 } };

    (void)state;
    for (int i = 0; i < 400; i++) {
        struct id id = id_make("x");

        for (size_t place = 0; place < 26; place++)
            seen[place][(unsigned char)id.text[2 + place]] = 1;
    }
    for (size_t place = 0; place < 26; place++) {
        unsigned values = 0;

        for (size_t c = 0; c < 128; c++)
            values += seen[place][c];
        assert_in_range(values, place == 25 ? 5 : 20, place == 25 ? 8 : 32);
    }
}

static void random_fills_any_length(void **state)
{
    unsigned char bytes[1024] = { 0 };
    size_t zeros = 0;

    (void)state;
    id_random(bytes, 0);
    id_random(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        zeros += bytes[i] == 0;
    assert_true(zeros < 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_its_shape),           cmocka_unit_test(refuses_other_shapes),
        cmocka_unit_test(no_two_are_alike),        cmocka_unit_test(every_place_varies),
        cmocka_unit_test(random_fills_any_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
