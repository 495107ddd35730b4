/* A unified diff of one file in which byte ranges were replaced. */
#include <string.h>

#include "tools/file_internal.h"

#define CONTEXT_LINES 3

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

/* The replacements, in order; `next` is the first that no hunk has shown yet. */
struct edits {
    const struct buf *before;
    const size_t *at;
    size_t count, next;
    size_t old_len;
    const char *with;
    size_t with_len;
};

/* One change: the lines [from, to) of `before` become `after`. */
struct change {
    size_t from, to;
    struct buf after;
};

/* Take one replacement into @c; @done: up to where `after` has its text already. */
static size_t take_edit(struct edits *e, struct change *c, size_t done)
{
    size_t at = e->at[e->next++];
    size_t end = at + e->old_len;

    buf_append(&c->after, e->before->data + done, at - done);
    buf_append(&c->after, e->with, e->with_len);
    c->to = MAX(c->to, line_end(e->before, e->old_len > 0 ? end - 1 : end));
    return end;
}

/* The next change, with every replacement in lines that touch.  False: out of memory. */
static bool next_change(struct edits *e, struct change *c)
{
    const struct buf *b = e->before;
    size_t done;

    c->from = done = line_start(b, e->at[e->next]);
    c->to = line_end(b, e->at[e->next]);
    do {
        while (e->next < e->count && e->at[e->next] <= c->to)
            done = take_edit(e, c, done);
        buf_append(&c->after, b->data + done, c->to - done);
        done = c->to;
        if (c->after.len == 0 || c->after.data[c->after.len - 1] == '\n' || c->to == b->len)
            break;
        /* A newline went away, so the line after it has become part of this one. */
        c->to = line_end(b, c->to);
    } while (!c->after.failed);
    return !c->after.failed;
}

/* A run of changes that share their context, as it is being written. */
struct hunk {
    struct buf body;
    size_t old_lines, new_lines;
};

static void put_context(struct hunk *h, const struct buf *before, size_t from, size_t to)
{
    size_t lines = count_lines(before->data + from, to - from);

    put_lines(&h->body, ' ', before->data + from, to - from);
    h->old_lines += lines;
    h->new_lines += lines;
}

/* The next hunk, whose context begins at @from at the earliest; [*ret_head, *ret_tail) is what it
 * covers.  Changes whose contexts would meet are one hunk, as patch(1) wants them. */
static bool next_hunk(struct edits *e, struct hunk *h, size_t from, size_t *ret_head,
                      size_t *ret_tail)
{
    const struct buf *b = e->before;
    size_t at = from;
    bool first = true;
    bool ok = true;

    while (ok && e->next < e->count) {
        struct change c = { .after = BUF_INIT };
        size_t line = line_start(b, e->at[e->next]);

        if (!first && line > forth_lines(b, at, 2 * CONTEXT_LINES))
            break;
        if (first)
            *ret_head = at = MAX(back_lines(b, line, CONTEXT_LINES), from);
        first = false;
        put_context(h, b, at, line);
        ok = next_change(e, &c);
        put_lines(&h->body, '-', b->data + c.from, c.to - c.from);
        put_lines(&h->body, '+', c.after.data, c.after.len);
        h->old_lines += count_lines(b->data + c.from, c.to - c.from);
        h->new_lines += count_lines(c.after.data, c.after.len);
        at = c.to;
        buf_fini(&c.after);
    }
    *ret_tail = forth_lines(b, at, CONTEXT_LINES);
    put_context(h, b, at, *ret_tail);
    return ok && !h->body.failed;
}

bool file_diff(struct buf *out, const char *path, const struct buf *before, const size_t *at,
               size_t count, size_t old_len, const char *with, size_t with_len)
{
    struct edits edits = { .before = before,
                           .at = at,
                           .count = count,
                           .old_len = old_len,
                           .with = with,
                           .with_len = with_len };
    size_t told = 0;  /* bytes of @before that lie before what comes next */
    size_t lines = 0; /* the lines in them */
    long shift = 0;   /* lines that the new text is ahead of the old one by then */
    bool ok = true;

    buf_printf(out, "--- %s\n+++ %s\n", path, path);
    while (ok && edits.next < count) {
        struct hunk h = { .body = BUF_INIT };
        size_t head = told;
        size_t tail = told;

        ok = next_hunk(&edits, &h, told, &head, &tail);
        lines += count_lines(before->data + told, head - told);
        buf_printf(out, "@@ -%zu,%zu +%ld,%zu @@\n", lines + (h.old_lines > 0), h.old_lines,
                   (long)lines + shift + (h.new_lines > 0), h.new_lines);
        buf_append(out, buf_str(&h.body), h.body.len);
        lines += h.old_lines;
        told = tail;
        shift += (long)h.new_lines - (long)h.old_lines;
        buf_fini(&h.body);
    }
    return ok && !out->failed;
}
