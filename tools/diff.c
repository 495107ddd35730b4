/* A unified diff of one file in which byte ranges were replaced. */
#include <string.h>

#include "tools/file_internal.h"

#define CONTEXT_LINES 3

/* A change in lines: before has [old_from, old_to), after has `text` there. */
struct cursor {
    const struct buf *text;
    size_t at;   /* byte */
    size_t line; /* number of the line that begins at `at`, from 0 */
};

static size_t line_start(const struct buf *b, size_t at)
{
    while (at > 0 && b->data[at - 1] != '\n')
        at--;
    return at;
}

static size_t line_end(const struct buf *b, size_t at)
{
    const char *newline = at < b->len ? memchr(b->data + at, '\n', b->len - at) : NULL;

    return newline ? (size_t)(newline - b->data) + 1 : b->len;
}

static size_t count_lines(const char *text, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += text[i] == '\n';
    return n + (len > 0 && text[len - 1] != '\n');
}

/* Each line of @text with @mark before it. */
static void put_lines(struct buf *out, char mark, const char *text, size_t len)
{
    while (len > 0) {
        const char *newline = memchr(text, '\n', len);
        size_t n = newline ? (size_t)(newline - text) + 1 : len;

        buf_append_char(out, mark);
        buf_append(out, text, n);
        if (!newline)
            buf_append_str(out, "\n\\ No newline at end of file\n");
        text += n;
        len -= n;
    }
}

/* Go @lines lines back from the line start @at. */
static size_t back_lines(const struct buf *b, size_t at, int lines)
{
    while (lines-- > 0 && at > 0)
        at = line_start(b, at - 1);
    return at;
}

static size_t forth_lines(const struct buf *b, size_t at, int lines)
{
    while (lines-- > 0 && at < b->len)
        at = line_end(b, at);
    return at;
}

/* The replaced lines [from, to) of @before with the replacements @first..@last in them, as text. */
static bool put_after(struct buf *after, const struct buf *before, size_t from, size_t to,
                      const size_t *at, size_t first, size_t last, size_t old_len, const char *with,
                      size_t with_len)
{
    for (size_t i = first; i < last; i++) {
        buf_append(after, before->data + from, at[i] - from);
        buf_append(after, with, with_len);
        from = at[i] + old_len;
    }
    return buf_append(after, before->data + from, to - from);
}

bool file_diff(struct buf *out, const char *path, const struct buf *before, const size_t *at,
               size_t count, size_t old_len, const char *with, size_t with_len)
{
    struct cursor cursor = { .text = before };
    long shift = 0; /* lines that after is ahead of before */

    buf_printf(out, "--- %s\n+++ %s\n", path, path);
    for (size_t first = 0; first < count;) {
        CLEANUP(buf_fini) struct buf after = BUF_INIT;
        size_t from = line_start(before, at[first]);
        size_t to = line_end(before, at[first] + old_len > at[first] ? at[first] + old_len - 1 : at[first]);
        size_t last = first + 1;
        size_t head;
        size_t tail;
        size_t old_lines;
        size_t new_lines;
        size_t around;

        /* Changes whose lines touch are one change; the hunk is kept simple: one change each. */
        while (last < count && at[last] < to + 1 && line_start(before, at[last]) <= to) {
            to = MAX(to, line_end(before, at[last] + (old_len > 0 ? old_len - 1 : 0)));
            last++;
        }
        if (!put_after(&after, before, from, to, at, first, last, old_len, with, with_len))
            return false;
        /* When the replacement swallowed the newline, the next line has become part of it. */
        if (after.len > 0 && after.data[after.len - 1] != '\n' && to < before->len) {
            size_t next = line_end(before, to);

            buf_append(&after, before->data + to, next - to);
            to = next;
        }
        head = MAX(back_lines(before, from, CONTEXT_LINES), cursor.at);
        tail = forth_lines(before, to, CONTEXT_LINES);
        if (last < count)
            tail = MIN(tail, line_start(before, at[last]));
        tail = MAX(tail, to);
        cursor.line += count_lines(before->data + cursor.at, head - cursor.at);
        around = count_lines(before->data + head, from - head) +
                 count_lines(before->data + to, tail - to);
        old_lines = around + count_lines(before->data + from, to - from);
        new_lines = around + count_lines(after.data, after.len);
        buf_printf(out, "@@ -%zu,%zu +%ld,%zu @@\n", cursor.line + (old_lines > 0), old_lines,
                   (long)cursor.line + shift + (new_lines > 0), new_lines);
        put_lines(out, ' ', before->data + head, from - head);
        put_lines(out, '-', before->data + from, to - from);
        put_lines(out, '+', after.data, after.len);
        put_lines(out, ' ', before->data + to, tail - to);
        cursor.line += old_lines;
        cursor.at = tail;
        shift += (long)new_lines - (long)old_lines;
        first = last;
    }
    return !out->failed;
}
