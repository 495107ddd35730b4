#include "kernel/base/utf8.h"

#include "tests/support/check.h"

#define FFFD "\xef\xbf\xbd"

static void knows_valid_from_invalid(void **state)
{
    static const struct {
        const char *label, *text;
        bool valid;
    } rows[] = {
        { "empty", "", true },
        { "ascii over one word", "0123456789abcdef0123", true },
        { "two bytes", "\xc2\x80", true },
        { "three bytes", "\xe0\xa0\x80", true },
        { "four bytes", "\xf0\x90\x80\x80", true },
        { "the last one", "\xf4\x8f\xbf\xbf", true },
        { "around surrogates", "\xed\x9f\xbf\xee\x80\x80", true },
        { "after eight", "12345678\xc3\xa9", true },
        { "noncharacter", "\xef\xbf\xbf", true },
        { "lone continuation", "\x80", false },
        { "overlong slash", "\xc0\xaf", false },
        { "overlong two", "\xc1\xbf", false },
        { "overlong three", "\xe0\x9f\xbf", false },
        { "overlong four", "\xf0\x8f\xbf\xbf", false },
        { "surrogate", "\xed\xa0\x80", false },
        { "too large", "\xf4\x90\x80\x80", false },
        { "lead beyond", "\xf5\x80\x80\x80", false },
        { "cut short", "ab\xe2\x82", false },
        { "lead then ascii", "\xe2(\xa1", false },
        { "late in a word", "1234567\xff", false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (utf8_valid(rows[i].text, strlen(rows[i].text)) != rows[i].valid)
            fail_msg("%s", rows[i].label);
    assert_true(utf8_valid("a\0b", 3));
}

static void cuts_where_a_character_ends(void **state)
{
    static const struct {
        const char *text;
        size_t max, want;
    } rows[] = {
        { "abc", 2, 2 },
        { "abc", 9, 3 },
        { "a\xc3\xa9", 2, 1 },
        { "a\xc3\xa9", 3, 3 },
        { "\xf0\x9f\x98\x80", 0, 0 },
        { "\xf0\x9f\x98\x80", 1, 0 },
        { "\xf0\x9f\x98\x80", 2, 0 },
        { "\xf0\x9f\x98\x80", 3, 0 },
        { "\xf0\x9f\x98\x80", 4, 4 },
        { "x\xe2\x82", 3, 1 },         /* ends inside a character by itself */
        { "x\xe2\x82\xac\x80", 5, 5 }, /* a stray byte is no character to be cut */
        { "\x80\x80\x80\x80\x80", 4, 4 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t got = utf8_cut(rows[i].text, strlen(rows[i].text), rows[i].max);

        if (got != rows[i].want)
            fail_msg("row %zu: %zu", i, got);
    }
}

static void repairs_each_maximal_run_once(void **state)
{
    static const struct {
        const char *in, *out;
        long replaced;
    } rows[] = {
        { "fine \xe2\x82\xac", "fine \xe2\x82\xac", 0 },
        { "\xff", FFFD, 1 },
        { "a\xff\xfe"
          "b",
          "a" FFFD FFFD "b", 2 },
        { "\xe2\x82", FFFD, 1 },
        { "\xe2\x82x", FFFD "x", 1 },
        { "\xf0\x9f\x98", FFFD, 1 },
        { "\xed\xa0\x80", FFFD FFFD FFFD, 3 },
        { "\xc0\xaf", FFFD FFFD, 2 },
        /* the example of the Unicode standard, section 3.9 */
        { "\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64",
          "a" FFFD FFFD FFFD "b" FFFD "c" FFFD FFFD "d", 6 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        long replaced = utf8_append_valid(&out, rows[i].in, strlen(rows[i].in));

        assert_string_equal(buf_str(&out), rows[i].out);
        assert_int_equal(replaced, rows[i].replaced);
    }
}

static void failure_leaves_the_buffer_as_it_was(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 10);
    assert_true(buf_append_str(&out, "1234"));
    assert_int_equal(utf8_append_valid(&out, "ab\xff\xff", 4), -1);
    assert_string_equal(buf_str(&out), "1234");
    assert_true(out.failed);
    buf_fini(&out);
}

static void counts_characters(void **state)
{
    (void)state;
    assert_int_equal(utf8_length("", 0), 0);
    assert_int_equal(utf8_length("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_valid_from_invalid),
        cmocka_unit_test(cuts_where_a_character_ends),
        cmocka_unit_test(repairs_each_maximal_run_once),
        cmocka_unit_test(failure_leaves_the_buffer_as_it_was),
        cmocka_unit_test(counts_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
