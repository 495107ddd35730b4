/* Unit tests for the pure parts of tools/browser_outline. */
#include "tests/support/check.h"
#include "tools/browser_outline.h"

static void reads_the_frame_of_a_reference(void **state)
{
    static const struct {
        const char *ref;
        unsigned number;
        const char *local;
    } rows[] = {
        { "e12", 0, "e12" },
        { "f2e7", 2, "e7" },
        { "f12", 12, "" },
        { "f", 0, "f" },
        { "fe1", 0, "fe1" },
        { "f2x", 0, "f2x" },
        { "f2e", 0, "f2e" },
        { "form > a", 0, "form > a" },
        { "", 0, "" },
        { "f99999e1", 99999, "e1" },
        { "f123456e1", 0, "f123456e1" },
        { "text=f2e7", 0, "text=f2e7" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *local;
        unsigned number = outline_ref_frame(rows[i].ref, &local);

        if (number != rows[i].number || strcmp(local, rows[i].local) != 0)
            fail_msg("%s: %u and \"%s\"", rows[i].ref, number, local);
    }
}

static void pages_are_whole_lines(void **state)
{
    static const char text[] = "one\ntwo\nthree\nf\xc3\xbcnf";
    static const struct {
        const char *label;
        size_t skip, most;
        const char *want;
        size_t count;
    } rows[] = {
        { "all", 0, 100, text, 4 },
        { "what fits", 0, 8, "one\ntwo", 2 },
        { "exactly", 0, 7, "one\ntwo", 2 },
        { "the next", 2, 8, "three", 1 },
        { "the last", 3, 8, "f\xc3\xbcnf", 1 },
        { "behind the end", 4, 8, "", 0 },
        { "far behind it", 400, 8, "", 0 },
        { "at least a line, cut", 2, 3, "thr", 1 },
        { "not within a character", 3, 2, "f", 1 },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *begin;
        size_t len, count;

        outline_page(text, strlen(text), rows[i].skip, rows[i].most, &begin, &len, &count);
        if (count != rows[i].count || len != strlen(rows[i].want) ||
            memcmp(begin, rows[i].want, len) != 0)
            fail_msg("%s: %zu lines, \"%.*s\"", rows[i].label, count, (int)len, begin);
    }
}

static void pages_cover_the_text_without_a_gap(void **state)
{
    static const char text[] = "a\nbb\nccc\ndddd\n\neeeee\nf";
    (void)state;

    for (size_t most = 1; most < 30; most++) {
        size_t skip = 0;
        const char *begin = text;
        size_t len, count;

        for (unsigned round = 0; round < 10; round++) {
            outline_page(text, strlen(text), skip, most, &begin, &len, &count);
            if (!count)
                break;
            skip += count;
        }
        assert_int_equal(skip, outline_lines(text, strlen(text)));
    }
}

static void counts_lines(void **state)
{
    (void)state;
    assert_int_equal(outline_lines("", 0), 0);
    assert_int_equal(outline_lines("a", 1), 1);
    assert_int_equal(outline_lines("a\n", 2), 1);
    assert_int_equal(outline_lines("a\nb", 3), 2);
}

static void indents_below_a_frame_and_keeps_signs_in_front(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    static const char text[] = "main\n link\n+ new\n~x\n-y";
    (void)state;

    assert_true(outline_indent(&out, text, strlen(text), 2));
    assert_string_equal(buf_str(&out), "  main\n   link\n+   new\n~  x\n-  y\n");
}

static void indenting_stops_at_the_limit(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    (void)state;

    out.max = 4;
    assert_false(outline_indent(&out, "12345", 5, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_frame_of_a_reference),
        cmocka_unit_test(pages_are_whole_lines),
        cmocka_unit_test(pages_cover_the_text_without_a_gap),
        cmocka_unit_test(counts_lines),
        cmocka_unit_test(indents_below_a_frame_and_keeps_signs_in_front),
        cmocka_unit_test(indenting_stops_at_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
