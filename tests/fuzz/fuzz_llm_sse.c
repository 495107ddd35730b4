/*
 * The same events come out however the stream is cut, none is over the limit, and none comes from a
 * line that has not ended.  The first byte says how the second reading is cut.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/llm_sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MOST 64u

static void check(bool holds)
{
    if (!holds)
        abort();
}

static bool note(void *arg, const char *event, const char *data, size_t len, struct error *err)
{
    struct buf *out = arg;

    (void)err;
    check(len <= MOST && data[len] == '\0' && strlen(event) < 64);
    check(buf_printf(out, "%s %zu ", event, len) && buf_append(out, data, len) &&
          buf_append_char(out, '\n'));
    return true;
}

static void read_all(const uint8_t *data, size_t size, size_t first_piece, struct buf *out)
{
    struct llm_sse s;
    struct error err = ERROR_INIT;
    size_t piece;

    llm_sse_init(&s, MOST);
    for (size_t at = 0; at < size; at += piece) {
        piece = MIN(1 + (at * 7 + 3) % (first_piece + 1), size - at);
        if (!llm_sse_feed(&s, (const char *)data + at, piece, note, out, &err)) {
            check(err.code == ERR_LIMIT);
            break;
        }
    }
    llm_sse_fini(&s);
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
