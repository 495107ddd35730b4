/*
 * The same messages come out however the stream is cut, none is longer than the limit, and none
 * holds a newline.  The first byte says how the second reading is cut.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MOST 100u

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* Everything that comes out, one after the other, with what is left at the end. */
static void read_all(const uint8_t *data, size_t size, size_t first_piece, struct buf *out)
{
    struct frame f;
    enum frame_status status = FRAME_MORE;
    size_t piece = first_piece, len;
    char *line;

    frame_init(&f, MOST);
    for (size_t at = 0; at < size; at += piece) {
        char *space;

        piece = MIN(1 + (piece * 7 + 3) % (first_piece + 1), size - at);
        space = frame_space(&f, piece);
        check(space != NULL);
        memcpy(space, data + at, piece);
        frame_filled(&f, piece);
        while ((status = frame_next(&f, &line, &len)) != FRAME_MORE) {
            if (status == FRAME_TOO_LONG) {
                check(buf_append_str(out, "!\n"));
                continue;
            }
            check(len > 0 && len <= MOST && !memchr(line, '\n', len));
            check(buf_append(out, line, len) && buf_append_char(out, '\n'));
        }
        check(f.buf.len - f.start <= MOST);
    }
    if (frame_end(&f, &line, &len) == FRAME_LINE) {
        check(len > 0 && len <= MOST && !memchr(line, '\n', len));
        check(buf_append(out, line, len) && buf_append_char(out, '\n'));
    }
    frame_fini(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = BUF_INIT, cut = BUF_INIT;

    if (size == 0)
        return 0;
    read_all(data + 1, size - 1, size, &whole);
    read_all(data + 1, size - 1, data[0], &cut);
    check(whole.len == cut.len && memcmp(buf_str(&whole), buf_str(&cut), cut.len) == 0);
    buf_fini(&whole);
    buf_fini(&cut);
    return 0;
}
