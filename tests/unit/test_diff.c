/* The diff is applied by a patcher that believes nothing but the hunks, and must give the edited
 * text. */
#include <stdio.h>

#include "tests/support/check.h"
#include "tools/file_internal.h"

#define PLACES_MAX 64

/* ---- a tiny patcher ---- */

struct patcher {
    const char *whole, *diff; /* and what is left of it */
    const char *old;          /* what is left of the text */
    size_t old_line;          /* the next one, from 1 */
    size_t new_line;
    struct buf out;
};

static size_t line_length(const char *text)
{
    const char *newline = strchr(text, '\n');

    return newline ? (size_t)(newline - text) + 1 : strlen(text);
}

/* The line of the diff without its mark; without its newline, too, if a note says so. */
static size_t body_of(struct patcher *p, const char **ret_body)
{
    size_t n = line_length(p->diff);

    *ret_body = p->diff + 1;
    p->diff += n;
    n--;
    if (strncmp(p->diff, "\\ ", 2) == 0) {
        assert_true(strncmp(p->diff, "\\ No newline at end of file\n", 28) == 0);
        p->diff += 28;
        n--;
    }
    return n;
}

/* Copy @lines lines of the text, or skip them. */
static void pass_old(struct patcher *p, size_t to_line)
{
    while (p->old_line < to_line) {
        size_t n = line_length(p->old);

        assert_true(n > 0);
        assert_true(buf_append(&p->out, p->old, n));
        p->old += n;
        p->old_line++;
        p->new_line++;
    }
}

static void take_old(struct patcher *p, const char *body, size_t n, bool keep)
{
    /* The whole line, not a beginning of it. */
    if (line_length(p->old) != n || memcmp(p->old, body, n) != 0)
        fail_msg("line %zu is %.40s, not %.*s", p->old_line, p->old, (int)n, body);
    p->old += n;
    p->old_line++;
    if (keep) {
        assert_true(buf_append(&p->out, body, n));
        p->new_line++;
    }
}

static void apply_hunk(struct patcher *p)
{
    size_t old_at, old_count, new_at, new_count, seen_old = 0, seen_new = 0;
    unsigned context = 0;
    bool changed = false;

    assert_int_equal(
        sscanf(p->diff, "@@ -%zu,%zu +%zu,%zu @@", &old_at, &old_count, &new_at, &new_count), 4);
    p->diff += line_length(p->diff);
    /* An empty side is counted from the line before it. */
    pass_old(p, old_at + (old_count == 0));
    assert_int_equal(p->old_line, old_at + (old_count == 0));
    assert_int_equal(p->new_line, new_at + (new_count == 0));
    while (seen_old < old_count || seen_new < new_count) {
        char mark = p->diff[0];
        const char *body;
        size_t n = body_of(p, &body);

        assert_true(mark == ' ' || mark == '-' || mark == '+');
        seen_old += mark != '+';
        seen_new += mark != '-';
        context = mark == ' ' ? context + 1 : 0;
        changed = changed || mark != ' ';
        /* Three lines before the first change and after the last, up to six between two. */
        if (context > (changed ? 6 : 3))
            fail_msg("too many lines around a change, before %.40s: %s", p->diff, p->whole);
        if (mark == '+') {
            assert_true(buf_append(&p->out, body, n));
            p->new_line++;
        } else {
            take_old(p, body, n, mark == ' ');
        }
    }
    assert_int_equal(seen_old, old_count);
    assert_int_equal(seen_new, new_count);
    assert_true(changed);
    assert_true(context <= 3);
}

static void apply(struct patcher *p, const char *diff, const char *text)
{
    *p = (struct patcher){ .whole = diff, .diff = diff, .old = text, .old_line = 1, .new_line = 1 };
    assert_true(strncmp(p->diff, "--- ", 4) == 0);
    p->diff += line_length(p->diff);
    assert_true(strncmp(p->diff, "+++ ", 4) == 0);
    p->diff += line_length(p->diff);
    while (*p->diff)
        apply_hunk(p);
    assert_true(buf_append(&p->out, p->old, strlen(p->old)));
}

/* ---- edits ---- */

static size_t find(const char *text, const char *old, size_t *places)
{
    size_t count = 0;

    for (const char *at = text; (at = strstr(at, old)); at += strlen(old)) {
        assert_true(count < PLACES_MAX);
        places[count++] = (size_t)(at - text);
    }
    return count;
}

static char *edited(const char *text, const size_t *places, size_t count, size_t old_len,
                    const char *with)
{
    struct buf out = BUF_INIT;
    size_t from = 0;

    for (size_t i = 0; i < count; i++) {
        assert_true(buf_append(&out, text + from, places[i] - from) && buf_append_str(&out, with));
        from = places[i] + old_len;
    }
    assert_true(buf_append_str(&out, text + from));
    return buf_take(&out, NULL);
}

static void check(const char *label, const char *text, const size_t *places, size_t count,
                  size_t old_len, const char *with)
{
    CLEANUP(buf_fini) struct buf before = BUF_INIT;
    CLEANUP(buf_fini) struct buf diff = BUF_INIT;
    struct patcher p;
    char *want = edited(text, places, count, old_len, with);

    assert_true(buf_append_str(&before, text));
    assert_true(file_diff(&diff, "/f", &before, places, count, old_len, with, strlen(with)));
    apply(&p, buf_str(&diff), text);
    if (strcmp(buf_str(&p.out), want) != 0)
        fail_msg("%s: wanted %s, got %s by\n%s", label, want, buf_str(&p.out), buf_str(&diff));
    buf_fini(&p.out);
    free(want);
}

static const struct {
    const char *label, *text, *old, *with;
} rows[] = {
    { "one line", "a\nb\nc\n", "b", "B" },
    { "the first", "a\nb\nc\n", "a", "A" },
    { "the last", "a\nb\nc\n", "c", "C" },
    { "the last without a newline", "a\nb\nc", "c", "C" },
    { "a newline at the end is added", "a\nb", "b", "b\n" },
    { "a newline at the end goes", "a\nb\n", "b\n", "b" },
    { "only the end changes", "a\nb", "a", "A" },
    { "context to the end without a newline", "a\nb\nc\nd", "a", "A" },
    { "the whole text", "a\nb\n", "a\nb\n", "c\n" },
    { "the whole text goes", "a\nb\n", "a\nb\n", "" },
    { "the whole text without a newline goes", "ab", "ab", "" },
    { "a line goes", "a\nb\nc\n", "b\n", "" },
    { "the first line goes", "a\nb\nc\n", "a\n", "" },
    { "the last line goes", "a\nb\nc\n", "c\n", "" },
    { "a line comes", "a\nb\nc\n", "b\n", "b\nB\n" },
    { "lines come before the first", "a\nb\nc\n", "a\n", "1\n2\n3\na\n" },
    { "lines come after the last", "a\nb\nc\n", "c\n", "c\n1\n2\n" },
    { "two lines become one", "a\nb\nc\nd\n", "b\nc", "bc" },
    { "a newline goes", "a\nb\nc\n", "\nb", "b" },
    { "a newline goes, and the next line is another", "ab\ncd\nef\ngh\n", "b\n", "b" },
    { "every newline goes", "a\nb\nc\nd\n", "\n", "" },
    { "every newline is doubled", "a\nb\nc\nd\n", "\n", "\n\n" },
    { "newlines go in every other line", "ax\nb\ncx\nd\nex\nf\n", "x\n", "" },
    { "a newline goes where the next line changes", "ax\nx\nb\nx\nc\nd\ne\nf\ng\nx\n", "x\n", "y" },
    { "many in one line", "aXbXcX\nd\n", "X", "-" },
    { "in lines next to each other", "X\nX\nX\n", "X", "Y" },
    { "in every other line", "X\na\nX\nb\nX\n", "X", "Y" },
    { "three lines apart", "X\n1\n2\n3\nX\n", "X", "Y" },
    { "four lines apart", "X\n1\n2\n3\n4\nX\n", "X", "Y" },
    { "six lines apart", "X\n1\n2\n3\n4\n5\n6\nX\n", "X", "Y" },
    { "far apart", "X\n1\n2\n3\n4\n5\n6\n7\n8\n9\nX\n", "X", "Y\nZ" },
    { "over two lines, twice", "a\nb\n1\n2\n3\n4\n5\na\nb\n", "a\nb", "c" },
    { "nothing really changes", "a\nb\nc\n", "b", "b" },
    { "empty lines", "\n\n\nX\n\n\n", "X", "Y" },
    { "only a newline", "\n", "\n", "x" },
    { "carriage returns", "a\r\nb\r\n", "\r\n", "\n" },
};

static void applied_it_gives_the_edited_text(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t places[PLACES_MAX];
        size_t count = find(rows[i].text, rows[i].old, places);

        assert_true(count > 0);
        check(rows[i].label, rows[i].text, places, count, strlen(rows[i].old), rows[i].with);
        check(rows[i].label, rows[i].text, places, 1, strlen(rows[i].old), rows[i].with);
        check(rows[i].label, rows[i].text, places + count - 1, 1, strlen(rows[i].old),
              rows[i].with);
    }
}

static void inserts_where_nothing_was(void **state)
{
    static const struct {
        const char *label, *text, *with;
        size_t at;
    } inserts[] = {
        { "into an empty file", "", "a\nb\n", 0 },
        { "a line without its end into an empty file", "", "a", 0 },
        { "at the beginning", "a\nb\n", "0\n", 0 },
        { "between lines", "a\nb\n", "1\n", 2 },
        { "at the end", "a\nb\n", "c\n", 4 },
        { "at the end without a newline", "a\nb", "c\n", 3 },
        { "within a line", "abc\n", "-", 1 },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(inserts); i++)
        check(inserts[i].label, inserts[i].text, &inserts[i].at, 1, 0, inserts[i].with);
}

static void looks_as_diff_writes_it(void **state)
{
    static const char text[] = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine";
    CLEANUP(buf_fini) struct buf before = BUF_INIT;
    CLEANUP(buf_fini) struct buf diff = BUF_INIT;
    size_t places[PLACES_MAX];
    (void)state;

    assert_true(buf_append_str(&before, text));
    (void)find(text, "five", places);
    assert_true(file_diff(&diff, "/work/a b", &before, places, 1, 4, "5\n5a", 4));
    assert_string_equal(diff.data, "--- /work/a b\n+++ /work/a b\n"
                                   "@@ -2,7 +2,8 @@\n two\n three\n four\n-five\n+5\n+5a\n six\n"
                                   " seven\n eight\n");
    buf_clear(&diff);
    (void)find(text, "nine", places);
    assert_true(file_diff(&diff, "f", &before, places, 1, 4, "9\n", 2));
    assert_string_equal(diff.data, "--- f\n+++ f\n@@ -6,4 +6,4 @@\n six\n seven\n eight\n-nine\n"
                                   "\\ No newline at end of file\n+9\n");
}

static unsigned seed = 4711;

static unsigned dice(unsigned sides)
{
    seed = seed * 1103515245u + 12345u;
    return seed / 65536u % sides;
}

static void random_edits_apply(void **state)
{
    static const char letters[] = "ab\n\nX";
    (void)state;

    for (int round = 0; round < 20000; round++) {
        char text[60], old[6], with[8];
        size_t places[PLACES_MAX], count;
        size_t text_len = 1 + dice(sizeof text - 1), old_len = 1 + dice(3), with_len = dice(5);

        for (size_t i = 0; i < text_len; i++)
            text[i] = letters[dice(sizeof letters - 1)];
        text[text_len - (text_len == sizeof text)] = '\0';
        for (size_t i = 0; i < old_len; i++)
            old[i] = letters[dice(sizeof letters - 1)];
        old[old_len] = '\0';
        for (size_t i = 0; i < with_len; i++)
            with[i] = letters[dice(sizeof letters - 1)];
        with[with_len] = '\0';
        count = find(text, old, places);
        if (count > 0)
            check("random", text, places, 1 + dice((unsigned)count), old_len, with);
    }
}

static void takes_time_that_grows_with_the_text_alone(void **state)
{
    CLEANUP(buf_fini) struct buf before = BUF_INIT;
    CLEANUP(buf_fini) struct buf diff = BUF_INIT;
    size_t *places = calloc(10000, sizeof *places);
    (void)state;

    /* Ten thousand newlines of four megabytes go, each making the line longer. */
    assert_non_null(places);
    for (size_t i = 0; i < 10000; i++) {
        for (int n = 0; n < 10; n++)
            assert_true(buf_append_str(&before, "0123456789012345678901234567890123456789"));
        places[i] = before.len;
        assert_true(buf_append_char(&before, '\n'));
    }
    assert_true(file_diff(&diff, "f", &before, places, 10000, 1, "", 0));
    assert_true(diff.len > 2 * before.len - 20000);
    free(places);
}

static void survives_every_allocation_failure(void **state)
{
    CLEANUP(buf_fini) struct buf before = BUF_INIT;
    size_t places[PLACES_MAX];
    size_t count;
    (void)state;

    assert_true(buf_append_str(&before, "X\n1\n2\n3\n4\n5\n6\n7\n8\nX\n"));
    count = find(before.data, "X", places);
    FAULT_EACH(n)
    {
        CLEANUP(buf_fini) struct buf diff = BUF_INIT;
        bool ok = file_diff(&diff, "f", &before, places, count, 1, "a longer text\nof lines\n", 23);

        FAULT_DONE(n);
        assert_int_equal(ok, n_last);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(applied_it_gives_the_edited_text),
        cmocka_unit_test(inserts_where_nothing_was),
        cmocka_unit_test(looks_as_diff_writes_it),
        cmocka_unit_test(random_edits_apply),
        cmocka_unit_test(takes_time_that_grows_with_the_text_alone),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
