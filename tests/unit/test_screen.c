#include "tools/screen.h"

#include <stdio.h>

#include "kernel/base/utf8.h"
#include "tests/support/check.h"

static struct screen *make(int rows, int cols)
{
    struct error err = ERROR_INIT;
    struct screen *s = screen_new(rows, cols, &err);

    assert_ok(s, err);
    return s;
}

static void feed(struct screen *s, const char *text)
{
    screen_feed(s, text, strlen(text));
}

static const struct {
    const char *label, *bytes, *want; /* of a screen of 20 by 5, without its last line */
    int row, col;
} rows[] = {
    { "nothing", "", "\n", 1, 1 },
    { "a line", "hello", "hello\n", 1, 6 },
    { "lines", "one\r\ntwo\r\n", "one\ntwo\n", 3, 1 },
    { "a newline alone only goes down", "one\ntwo", "one\n   two\n", 2, 7 },
    { "trailing blanks go", "one   \r\n\r\n  two  \r\n", "one\n\n  two\n", 4, 1 },
    { "colours are not shown", "\x1b[1;31mred\x1b[0m", "red\n", 1, 4 },
    { "a return overwrites", "12345\rab", "ab345\n", 1, 3 },
    { "backspace overwrites", "abc\b\bX", "aXc\n", 1, 3 },
    { "tabs", "a\tb", "a       b\n", 1, 10 },
    { "moving the cursor", "\x1b[3;5Hx\x1b[1;1Hy", "y\n\n    x\n", 1, 2 },
    { "clearing", "one\r\ntwo\x1b[2J\x1b[H", "\n", 1, 1 },
    { "erasing a line", "one two\x1b[4D\x1b[K", "one\n", 1, 4 },
    { "long lines wrap", "0123456789012345678901234", "01234567890123456789\n01234\n", 2, 6 },
    { "scrolling", "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7", "3\n4\n5\n6\n7\n", 5, 2 },
    { "wide characters", "\xe4\xb8\x96\xe7\x95\x8c|", "\xe4\xb8\x96\xe7\x95\x8c|\n", 1, 6 },
    { "emoji", "\xf0\x9f\x99\x82!", "\xf0\x9f\x99\x82!\n", 1, 4 },
    { "combining marks", "e\xcc\x81x", "e\xcc\x81x\n", 1, 3 },
    { "half a wide character overwritten", "\xe4\xb8\x96\x1b[1;2Hx", " x\n", 1, 3 },
    { "the other half", "\xe4\xb8\x96y\x1b[1;1Hx", "x y\n", 1, 2 },
    { "the alternate screen", "before\x1b[?1049h\x1b[Hinside", "inside\n", 1, 7 },
    { "and back", "before\x1b[?1049h\x1b[Hinside\x1b[?1049l", "before\n", 1, 7 },
    { "titles are not shown", "\x1b]0;a title\x07shell$ ", "shell$\n", 1, 8 },
    { "links show their text", "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\", "text\n", 1, 5 },
    { "line drawing", "\x1b(0lqk\x1b(B", "\xe2\x94\x8c\xe2\x94\x80\xe2\x94\x90\n", 1, 4 },
    { "invalid bytes are replaced",
      "a\xff\xfe"
      "b",
      "a\xef\xbf\xbd\xef\xbf\xbd"
      "b\n",
      1, 5 },
    { "lines come in", "1\r\n2\r\n3\r\n4\x1b[2;3H\x1b[2L", "1\n\n\n2\n3\n", 2, 1 },
    { "lines go", "1\r\n2\r\n3\r\n4\x1b[2;3H\x1b[2M", "1\n4\n", 2, 1 },
    { "more lines go than there are", "1\r\n2\r\n3\x1b[2;1H\x1b[99M", "1\n", 2, 1 },
    { "characters come in", "abcdef\x1b[1;3H\x1b[2@", "ab  cdef\n", 1, 3 },
    { "over the edge", "01234567890123456789\x1b[1;1H\x1b[18@", "                  01\n", 1, 1 },
    { "characters go", "abcdef\x1b[1;3H\x1b[2P", "abef\n", 1, 3 },
    { "characters are erased", "abcdef\x1b[1;3H\x1b[2X", "ab  ef\n", 1, 3 },
    { "a character is repeated", "a\x1b[4b|", "aaaaa|\n", 1, 7 },
    { "nothing is repeated", "\x1b[4b|", "|\n", 1, 2 },
    { "some lines scroll", "1\r\n2\r\n3\r\n4\r\n5\x1b[2;4r\x1b[4;1H\n\nx", "1\n4\n\nx\n5\n", 4, 2 },
    { "and scroll back", "1\r\n2\r\n3\r\n4\r\n5\x1b[2;4r\x1b[2;1H\x1bMx", "1\nx\n2\n3\n5\n", 2, 2 },
    { "scrolling by number", "1\r\n2\r\n3\x1b[2S\x1b[T", "\n3\n", 3, 2 },
    { "lines outside of them do not move", "1\r\n2\r\n3\x1b[1;2r\x1b[3;1H\x1b[L", "1\n2\n3\n", 3,
      1 },
    { "a region that is none", "1\r\n2\x1b[4;2r\x1b[5;1H\nx", "2\n\n\n\nx\n", 5, 2 },
    { "places within the region", "\x1b[2;4r\x1b[?6hx\x1b[9;1Hy", "\nx\n\ny\n", 4, 2 },
    { "the cursor stops at its edge", "\x1b[2;4r\x1b[3;1H\x1b[9Ax\x1b[9By", "\nx\n\n y\n", 4, 3 },
    { "and at the screen's", "\x1b[9A\x1b[9Dx\x1b[9B\x1b[99Cy", "x\n\n\n\n                   y\n",
      5, 20 },
    { "by lines", "abc\x1b[2Ex\x1b[Fy", "abc\ny\nx\n", 2, 2 },
    { "by column and row", "\x1b[5Ga\x1b[3db\x1b[2`c", "    a\n\n c   b\n", 3, 3 },
    { "tab stops", "\x1b[3g\x1b[5G\x1bH\ra\tb\x1b[Zc", "a   c\n", 1, 6 },
    { "tabs at the edge", "\x1b[99Ix\x1b[99Zy", "y                  x\n", 1, 2 },
    { "a place is kept",
      "ab\x1b"
      "7\x1b[4;4Hx\x1b"
      "8c",
      "abc\n\n\n   x\n", 1, 4 },
    { "and by the other name", "ab\x1b[s\x1b[4;4Hx\x1b[uc", "abc\n\n\n   x\n", 1, 4 },
    { "putting in", "abc\x1b[1;2H\x1b[4hxy\x1b[4lz", "axyzc\n", 1, 5 },
    { "no wrapping", "\x1b[?7l0123456789012345678901234", "01234567890123456784\n", 1, 20 },
    { "wrapping waits for the next character", "01234567890123456789\rx", "x1234567890123456789\n",
      1, 2 },
    { "a wide character does not fit at the edge", "0123456789012345678\xe4\xb8\x96",
      "0123456789012345678\n\xe4\xb8\x96\n", 2, 3 },
    { "a mark on a wide one", "\xe4\xb8\x96\xcc\x81x", "\xe4\xb8\x96\xcc\x81x\n", 1, 4 },
    { "a mark at the edge", "01234567890123456789\xcc\x81x", "01234567890123456789\xcc\x81\nx\n", 2,
      2 },
    { "marks without end", "e\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81", "e\xcc\x81\xcc\x81\n", 1,
      2 },
    { "a mark on nothing", "\xcc\x81x", "x\n", 1, 2 },
    { "erasing half a wide character", "\xe4\xb8\x96\xe4\xb8\x96\x1b[1;2H\x1b[K", "\n", 1, 2 },
    { "moving half of one",
      "\xe4\xb8\x96"
      "bc\x1b[1;2H\x1b[P",
      " bc\n", 1, 2 },
    { "erasing to the left", "one two\r\nthree\x1b[1;4H\x1b[1K", "    two\nthree\n", 1, 4 },
    { "erasing above", "one\r\ntwo\r\nthree\x1b[2;2H\x1b[1J", "\n  o\nthree\n", 2, 2 },
    { "erasing below", "one\r\ntwo\r\nthree\x1b[2;2H\x1b[J", "one\nt\n", 2, 2 },
    { "an old control character is none",
      "a\xc2\x85\xc2\x9b"
      "b",
      "ab\n", 1, 3 },
    { "a sequence that is broken off", "\x1b[12\x18x\x1b[3\x1b[1my", "xy\n", 1, 3 },
    { "control characters within one", "ab\x1b[\b1Gx", "xb\n", 1, 2 },
    { "too many numbers", "\x1b[1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1mx", "x\n", 1, 2 },
    { "numbers too large", "\x1b[99999999999999999999;4294967297Hx",
      "\n\n\n\n                   x\n", 5, 20 },
    { "a string that never ends", "a\x1b]0;title\r\nmore", "a\n", 1, 2 },
    { "a string that is broken off",
      "a\x1bPxyz\x18"
      "b\x1b_q\x1b[1Gc",
      "cb\n", 1, 2 },
    { "a soft reset", "ab\x1b[4h\x1b[2;3r\x1b[1;2H\x1b[!pc", "ac\n", 1, 3 },
    { "a reset",
      "one\r\ntwo\x1b"
      "c",
      "\n", 1, 1 },
};

static void shows_what_a_terminal_would(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int cut = 0; cut < 2; cut++) {
            CLEANUP(screen_freep) struct screen *s = make(5, 20);
            CLEANUP(buf_fini) struct buf out = BUF_INIT;
            char want[300];

            if (cut)
                for (const char *at = rows[i].bytes; *at; at++)
                    screen_feed(s, at, 1);
            else
                feed(s, rows[i].bytes);
            assert_true(screen_text(s, &out));
            (void)snprintf(want, sizeof want, "%s[screen 20x5, cursor at row %d, column %d]\n",
                           rows[i].want, rows[i].row, rows[i].col);
            if (strcmp(out.data, want) != 0)
                fail_msg("%s: %s", rows[i].label, out.data);
        }
    }
}

static void appends_to_what_is_there(void **state)
{
    CLEANUP(screen_freep) struct screen *s = make(2, 10);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    (void)state;

    assert_true(buf_append_str(&out, "above\n\n"));
    assert_true(screen_text(s, &out));
    assert_string_equal(out.data, "above\n\n\n[screen 10x2, cursor at row 1, column 1]\n");
}

static void keeps_its_text_when_the_size_changes(void **state)
{
    CLEANUP(screen_freep) struct screen *s = make(5, 20);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    (void)state;

    feed(s, "one\r\ntwo");
    screen_resize(s, 10, 40);
    assert_true(screen_text(s, &out));
    assert_string_equal(out.data, "one\ntwo\n[screen 40x10, cursor at row 2, column 4]\n");
    buf_clear(&out);
    screen_resize(s, 1, 1);
    assert_true(screen_text(s, &out));
    assert_contains(out.data, "[screen 2x1, cursor at row 1, column 2]");
}

static void every_size_can_be_shown(void **state)
{
    static const int sizes[][2] = { { 1, 1 },
                                    { 1, SCREEN_COLS_MAX },
                                    { SCREEN_ROWS_MAX, 1 },
                                    { 2, 10 },
                                    { SCREEN_ROWS_MAX, SCREEN_COLS_MAX } };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        CLEANUP(screen_freep) struct screen *s = make(sizes[i][0], sizes[i][1]);
        CLEANUP(buf_fini) struct buf out = BUF_INIT;

        feed(s, "\x1b[999;999Hx\xe4\xb8\x96\r\n");
        for (int n = 0; n < sizes[i][0] * MAX(sizes[i][1], SCREEN_COLS_MIN); n++)
            feed(s, "E");
        assert_true(screen_text(s, &out));
        assert_true(out.len > (size_t)sizes[i][0] * (size_t)sizes[i][1]);
    }
}

static void answers_what_a_program_asks(void **state)
{
    static const struct {
        const char *question, *answer;
    } questions[] = {
        { "", "" },
        { "ab\x1b[6n", "\x1b[1;3R" },
        { "\x1b[5n", "\x1b[0n" },
        { "\x1b[6n\x1b[5n", "\x1b[1;1R\x1b[0n" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
        CLEANUP(screen_freep) struct screen *s = make(5, 20);
        char answer[64];
        size_t n;

        feed(s, questions[i].question);
        n = screen_answers(s, answer, sizeof answer);
        assert_int_equal(n, strlen(questions[i].answer));
        assert_memory_equal(answer, questions[i].answer, n);
        assert_int_equal(screen_answers(s, answer, sizeof answer), 0); /* told once */
    }
}

static void a_flood_of_questions_is_bounded(void **state)
{
    CLEANUP(screen_freep) struct screen *s = make(5, 20);
    char answer[512];
    size_t total = 0, n;
    (void)state;

    for (int i = 0; i < 100000; i++)
        feed(s, "\x1b[6n");
    while ((n = screen_answers(s, answer, sizeof answer)) > 0)
        total += n;
    assert_true(total > 0 && total < 65536);
}

static void survives_hostile_bytes(void **state)
{
    static const char pieces[][12] = { "\x1b[",
                                       "\x1b]",
                                       "\x1bP",
                                       "9999999",
                                       ";",
                                       ":",
                                       "H",
                                       "\x1b\\",
                                       "\xff",
                                       "\xc3",
                                       "\xf0\x9f",
                                       "m",
                                       "r",
                                       "?1049h",
                                       "?1049l",
                                       ("\x1b"
                                        "c"), /* in two, or c would be a digit */
                                       "L",
                                       "@",
                                       "\x0e",
                                       "\0",
                                       "\x9b"
                                       "31m",
                                       "\x1b[?6h",
                                       "J",
                                       "T",
                                       "S",
                                       "\x85",
                                       "h",
                                       "l" };
    unsigned seed = 1;
    (void)state;

    for (int round = 0; round < 200; round++) {
        CLEANUP(screen_freep) struct screen *s = make(1 + round % 24, 1 + round % 80);
        CLEANUP(buf_fini) struct buf out = BUF_INIT;

        for (int i = 0; i < 200; i++) {
            const char *piece;

            seed = seed * 1103515245u + 12345u;
            piece = pieces[seed / 65536 % ARRAY_LEN(pieces)];
            screen_feed(s, piece, MAX(strlen(piece), 1u));
            if (i % 50 == 49)
                screen_resize(s, 1 + (int)(seed / 65536 % 50), 1 + (int)(seed / 131072 % 90));
        }
        assert_true(screen_text(s, &out));
        assert_true(utf8_valid(out.data, out.len));
    }
}

/* A megabyte is what a program may have written between two looks at the largest screen. */
static void a_megabyte_of_anything_takes_little_time(void **state)
{
    static const char *const pieces[] = { "\n",
                                          "\x1b[2J",
                                          "\x1b[9999b",
                                          "\x1b[9999L",
                                          "\x1b[9999@",
                                          "\x1b[9999P",
                                          "\x1b[9999S",
                                          "\x1b[9999T",
                                          "\x1bM",
                                          "\x1b[?47h",
                                          "\x1b[?47l",
                                          "\x1b[99I",
                                          "\x1b[3g\t",
                                          ("\x1b"
                                           "c"), /* in two, or c would be a digit */
                                          "\x1b[4hx",
                                          "\xcc\x81",
                                          "\xe4\xb8\x96",
                                          "\x1b[1;1Hx\x1b[1J" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        CLEANUP(screen_freep) struct screen *s = make(SCREEN_ROWS_MAX, SCREEN_COLS_MAX);
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        size_t len = strlen(pieces[i]);

        feed(s, "x\x1b[999;999Hy");
        for (size_t fed = 0; fed < 1u << 20; fed += len)
            screen_feed(s, pieces[i], len);
        assert_true(screen_text(s, &out));
    }
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(screen_freep) struct screen *s = screen_new(5, 20, &err);
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        bool ok = s != NULL;

        if (s) {
            feed(s, "one \xe4\xb8\x96\r\n\r\ntwo   three");
            ok = screen_text(s, &out);
        }
        FAULT_DONE(n);
        assert_int_equal(ok, n_last);
        if (!s)
            assert_code(err, ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_what_a_terminal_would),
        cmocka_unit_test(appends_to_what_is_there),
        cmocka_unit_test(keeps_its_text_when_the_size_changes),
        cmocka_unit_test(every_size_can_be_shown),
        cmocka_unit_test(answers_what_a_program_asks),
        cmocka_unit_test(a_flood_of_questions_is_bounded),
        cmocka_unit_test(survives_hostile_bytes),
        cmocka_unit_test(a_megabyte_of_anything_takes_little_time),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
