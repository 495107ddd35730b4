#include "mcp/frame.h"

#include <string.h>

/* Room kept between messages; what one long message needed beyond it is given back. */
#define FRAME_KEEP_BYTES (1u << 20)

void frame_init(struct frame *f, size_t max_line)
{
    memset(f, 0, sizeof *f);
    buf_init(&f->buf, 0);
    f->max_line = max_line;
}

void frame_fini(struct frame *f)
{
    buf_fini(&f->buf);
}

/* Drop consumed bytes before the buffer would have to grow for them. */
static void frame_compact(struct frame *f)
{
    if (f->start == 0)
        return;
    buf_consume(&f->buf, f->start);
    f->start = 0;
}

char *frame_space(struct frame *f, size_t want)
{
    if (f->start == f->buf.len) {
        if (f->buf.cap > FRAME_KEEP_BYTES)
            buf_fini(&f->buf);
        buf_clear(&f->buf);
        f->start = 0;
        f->scanned = 0;
    }
    if (f->buf.cap - f->buf.len <= want)
        frame_compact(f);
    if (!buf_reserve(&f->buf, want)) {
        f->buf.failed = false;
        return NULL;
    }
    return f->buf.data + f->buf.len;
}

void frame_filled(struct frame *f, size_t n)
{
    f->buf.len += n;
}

bool frame_skip(struct frame *f)
{
    bool held = f->buf.len > f->start;

    buf_fini(&f->buf);
    f->start = 0;
    f->scanned = 0;
    f->skipping = f->skipping || held;
    return held;
}

/* One line of @len bytes (without its newline) begins at start; @used bytes go with it. */
static void frame_take(struct frame *f, size_t len, size_t used, char **ret_line, size_t *ret_len)
{
    char *line = f->buf.data + f->start;

    if (len > 0 && line[len - 1] == '\r')
        len--;
    f->start += used;
    f->scanned = 0;
    *ret_line = line;
    *ret_len = len;
}

enum frame_status frame_next(struct frame *f, char **ret_line, size_t *ret_len)
{
    for (;;) {
        size_t have = f->buf.len - f->start;
        const char *from;
        const char *newline;
        size_t len;

        if (have == f->scanned)
            return FRAME_MORE;
        from = f->buf.data + f->start;
        newline = memchr(from + f->scanned, '\n', have - f->scanned);
        if (!newline) {
            f->scanned = have;
            if (have <= f->max_line && !f->skipping)
                return FRAME_MORE;
            /* Too long already: forget it now, skip the rest when it comes. */
            f->start = f->buf.len;
            f->scanned = 0;
            if (f->skipping)
                return FRAME_MORE;
            f->skipping = true;
            return FRAME_TOO_LONG;
        }
        len = (size_t)(newline - from);
        if (f->skipping) {
            f->skipping = false;
            f->start += len + 1;
            f->scanned = 0;
            continue;
        }
        if (len > f->max_line) {
            f->start += len + 1;
            f->scanned = 0;
            return FRAME_TOO_LONG;
        }
        frame_take(f, len, len + 1, ret_line, ret_len);
        if (*ret_len > 0)
            return FRAME_LINE;
    }
}

enum frame_status frame_end(struct frame *f, char **ret_line, size_t *ret_len)
{
    size_t have = f->buf.len - f->start;

    if (have == 0 || f->skipping)
        return FRAME_MORE;
    frame_take(f, have, have, ret_line, ret_len);
    return *ret_len > 0 ? FRAME_LINE : FRAME_MORE;
}
