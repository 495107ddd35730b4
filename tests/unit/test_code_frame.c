#include "tools/code_frame.h"

#include <stdio.h>

#include "tests/support/check.h"

static void reads_a_frame_and_says_how_long_it_was(void **state)
{
    static const char bytes[] = "value 7 0 5\nab\n\0cdone 7 12 0\n";
    struct code_frame frame;
    size_t used = 0;
    (void)state;

    assert_int_equal(code_frame_read(bytes, sizeof bytes - 1, &frame, &used), CODE_FRAME_OK);
    assert_int_equal(frame.kind, CODE_FRAME_VALUE);
    assert_int_equal(frame.cell, 7);
    assert_int_equal(frame.len, 5);
    assert_memory_equal(frame.data, "ab\n\0c", 5);
    assert_int_equal(used, 17);
    assert_int_equal(code_frame_read(bytes + used, sizeof bytes - 1 - used, &frame, &used),
                     CODE_FRAME_OK);
    assert_int_equal(frame.kind, CODE_FRAME_DONE);
    assert_int_equal(frame.number, 12);
}

static void asks_for_more_until_a_frame_is_whole(void **state)
{
    static const char bytes[] = "error 1 0 4\nboom";
    struct code_frame frame;
    size_t used;
    (void)state;

    for (size_t len = 0; len + 1 < sizeof bytes; len++)
        assert_int_equal(code_frame_read(bytes, len, &frame, &used), CODE_FRAME_MORE);
    assert_int_equal(code_frame_read(bytes, sizeof bytes - 1, &frame, &used), CODE_FRAME_OK);
}

static void refuses_what_is_no_frame(void **state)
{
    static const struct {
        const char *label, *bytes;
        enum code_frame_read want;
    } rows[] = {
        { "unknown name", "hello 1 0 0\n", CODE_FRAME_BROKEN },
        { "no numbers", "done\n", CODE_FRAME_BROKEN },
        { "a number too few", "done 1 2\n", CODE_FRAME_BROKEN },
        { "a number too many", "done 1 2 0 0\n", CODE_FRAME_BROKEN },
        { "negative", "done 1 -2 0\n", CODE_FRAME_BROKEN },
        { "empty number", "done  2 0\n", CODE_FRAME_BROKEN },
        { "not a number", "done 1 x 0\n", CODE_FRAME_BROKEN },
        { "the largest number", "done 1 18446744073709551615 0\n", CODE_FRAME_OK },
        { "one larger", "done 1 18446744073709551616 0\n", CODE_FRAME_BROKEN },
        { "the longest data", "value 1 0 655360\n", CODE_FRAME_MORE },
        { "one longer", "value 1 0 655361\n", CODE_FRAME_BROKEN },
        { "empty line", "\n", CODE_FRAME_BROKEN },
        { "a line without end",
          "value 1 000000000000000000000000000000000000000000000000000000000000000000000000000000"
          "0 0\n",
          CODE_FRAME_BROKEN },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct code_frame frame;
        size_t used;
        enum code_frame_read got =
            code_frame_read(rows[i].bytes, strlen(rows[i].bytes), &frame, &used);

        if (got != rows[i].want)
            fail_msg("%s: %d rather than %d", rows[i].label, got, rows[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_frame_and_says_how_long_it_was),
        cmocka_unit_test(asks_for_more_until_a_frame_is_whole),
        cmocka_unit_test(refuses_what_is_no_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
