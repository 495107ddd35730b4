#include "mcp/frame.h"

#include <stdio.h>

#include "tests/support/check.h"

#define LINE_MAX_BYTES 16

static void feed(struct frame *f, const char *data, size_t len)
{
    char *space = frame_space(f, len ? len : 1);

    assert_non_null(space);
    memcpy(space, data, len);
    frame_filled(f, len);
}

/* What comes out now, written down: "(line)" for each, "!" for one that was too long. */
static void drain(struct frame *f, struct buf *said)
{
    for (;;) {
        char *line;
        size_t len;

        switch (frame_next(f, &line, &len)) {
        case FRAME_LINE:
            buf_append_char(said, '(');
            buf_append(said, line, len);
            buf_append_char(said, ')');
            break;
        case FRAME_TOO_LONG:
            buf_append_char(said, '!');
            break;
        case FRAME_MORE:
            return;
        }
    }
}

static void finish(struct frame *f, struct buf *said)
{
    char *line;
    size_t len;

    if (frame_end(f, &line, &len) == FRAME_LINE) {
        buf_append_str(said, "end(");
        buf_append(said, line, len);
        buf_append_char(said, ')');
    }
    assert_int_equal(frame_end(f, &line, &len), FRAME_MORE); /* said once */
}

#define ROW(label, text, want)                                \
    {                                                         \
        label, text, sizeof(text) - 1, want, sizeof(want) - 1 \
    }

static const struct {
    const char *label, *text;
    size_t len;
    const char *want;
    size_t want_len;
} rows[] = {
    ROW("nothing", "", ""),
    ROW("one line", "one\n", "(one)"),
    ROW("two lines", "one\ntwo\n", "(one)(two)"),
    ROW("carriage returns before newlines", "one\r\ntwo\r\n", "(one)(two)"),
    ROW("other carriage returns stay", "a\rb\r\r\n", "(a\rb\r)"),
    ROW("empty lines are skipped", "\n\r\n\none\n\n", "(one)"),
    ROW("NUL bytes are bytes", "a\0b\n\0\n", "(a\0b)(\0)"),
    ROW("bytes that are no UTF-8", "\xff\xfe\n", "(\xff\xfe)"),
    ROW("the end of the input ends a line", "one\ntwo", "(one)end(two)"),
    ROW("which may end with a carriage return", "two\r", "end(two)"),
    ROW("or be nothing but that", "one\n\r", "(one)"),
    ROW("as long as can be", "0123456789abcdef\n", "(0123456789abcdef)"),
    ROW("one too long", "0123456789abcdefg\nx\n", "!(x)"),
    ROW("a carriage return counts", "0123456789abcdef\r\nx\n", "!(x)"),
    ROW("much too long", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789\nx\n", "!(x)"),
    ROW("two too long", "0123456789abcdef0\n0123456789abcdef0\nx\n", "!!(x)"),
    ROW("too long at the end", "x\n0123456789abcdef0123456789", "(x)!"),
};

static void cuts_lines_the_same_however_they_arrive(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t step = 1; step <= rows[i].len + 1; step++) {
            CLEANUP(frame_fini) struct frame f;
            CLEANUP(buf_fini) struct buf said = BUF_INIT;

            frame_init(&f, LINE_MAX_BYTES);
            for (size_t at = 0; at < rows[i].len; at += step) {
                feed(&f, rows[i].text + at, MIN(step, rows[i].len - at));
                drain(&f, &said);
            }
            finish(&f, &said);
            if (said.len != rows[i].want_len || memcmp(buf_str(&said), rows[i].want, said.len) != 0)
                fail_msg("%s, %zu at a time: %s", rows[i].label, step, buf_str(&said));
        }
    }
}

static void keeps_nothing_of_what_is_too_long(void **state)
{
    static char block[4096];
    CLEANUP(frame_fini) struct frame f;
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    (void)state;

    memset(block, 'y', sizeof block);
    frame_init(&f, 8192);
    for (int i = 0; i < 1000; i++) {
        feed(&f, block, sizeof block);
        drain(&f, &said);
        assert_true(f.buf.cap <= 65536);
    }
    feed(&f, "\nx\n", 3);
    drain(&f, &said);
    assert_string_equal(buf_str(&said), "!(x)");
}

static void gives_back_the_room_of_a_long_line(void **state)
{
    CLEANUP(frame_fini) struct frame f;
    char *space, *line;
    size_t len;
    (void)state;

    frame_init(&f, 8u << 20);
    space = frame_space(&f, 6u << 20);
    assert_non_null(space);
    memset(space, 'y', 6u << 20);
    space[(6u << 20) - 1] = '\n';
    frame_filled(&f, 6u << 20);
    assert_int_equal(frame_next(&f, &line, &len), FRAME_LINE);
    assert_int_equal(len, (6u << 20) - 1);
    assert_int_equal(frame_next(&f, &line, &len), FRAME_MORE);
    feed(&f, "x\n", 2);
    assert_true(f.buf.cap <= 65536);
    assert_int_equal(frame_next(&f, &line, &len), FRAME_LINE);
    assert_int_equal(len, 1);
}

static void does_not_move_what_it_need_not(void **state)
{
    CLEANUP(frame_fini) struct frame f;
    char *line;
    size_t len;
    (void)state;

    frame_init(&f, 64);
    feed(&f, "one\ntwo\nthr", 11);
    assert_int_equal(frame_next(&f, &line, &len), FRAME_LINE);
    assert_memory_equal(line, "one", 3); /* and stays until the next call */
    feed(&f, "ee\n", 3);
    assert_int_equal(frame_next(&f, &line, &len), FRAME_LINE);
    assert_memory_equal(line, "two", 3);
    assert_int_equal(frame_next(&f, &line, &len), FRAME_LINE);
    assert_int_equal(len, 5);
    assert_memory_equal(line, "three", 5);
}

static void gives_up_a_line_and_goes_on_behind_it(void **state)
{
    CLEANUP(frame_fini) struct frame f;
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    (void)state;

    frame_init(&f, 64);
    assert_false(frame_skip(&f)); /* there is none */
    feed(&f, "one\nhalf of", 11);
    drain(&f, &said);
    assert_true(frame_skip(&f));
    assert_null(f.buf.data);
    assert_false(frame_skip(&f)); /* it has gone */
    feed(&f, " a line\ntwo\n", 12);
    drain(&f, &said);
    finish(&f, &said);
    assert_string_equal(buf_str(&said), "(one)(two)");
}

static void is_whole_after_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        CLEANUP(frame_fini) struct frame f;
        CLEANUP(buf_fini) struct buf said = BUF_INIT;
        bool had_room = true;

        frame_init(&f, 1u << 20);
        for (int i = 0; i < 40 && had_room; i++) {
            char *space = frame_space(&f, 1000);

            had_room = space != NULL;
            if (had_room) {
                memset(space, 'y', 1000);
                frame_filled(&f, 1000);
            }
        }
        FAULT_DONE(n);
        assert_int_equal(had_room, n_last);
        /* The buffer is as it was: the caller can give the line up and go on. */
        drain(&f, &said);
        (void)frame_skip(&f);
        feed(&f, "y\nx\n", 4);
        drain(&f, &said);
        assert_contains(buf_str(&said), "(x)");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_lines_the_same_however_they_arrive),
        cmocka_unit_test(keeps_nothing_of_what_is_too_long),
        cmocka_unit_test(gives_back_the_room_of_a_long_line),
        cmocka_unit_test(does_not_move_what_it_need_not),
        cmocka_unit_test(gives_up_a_line_and_goes_on_behind_it),
        cmocka_unit_test(is_whole_after_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
