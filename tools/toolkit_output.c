/* The output of a run as an answer shows it: cleaned, and cut so that the gap is known to the byte.
 */
#include <inttypes.h>

#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "tools/toolkit.h"

/* Text of one answer; what is left of LIMIT_RESULT_TEXT_BYTES is for the lines below it. */
#define SHOWN_BYTES (27u << 10)
#define TAIL_BYTES  (9u << 10)

/* ---- cleaning terminal output ---- */

/* From @i on past bytes in [@low, @high]. */
static size_t pass(const char *text, size_t i, size_t len, unsigned char low, unsigned char high)
{
    while (i < len && (unsigned char)text[i] >= low && (unsigned char)text[i] <= high)
        i++;
    return i;
}

/* One byte more, if it may end a sequence; a byte that may not is none of it. */
static size_t pass_final(const char *text, size_t i, size_t len, unsigned char low)
{
    return i < len && (unsigned char)text[i] >= low && (unsigned char)text[i] < 0x7f ? i + 1 : i;
}

/* The length of the escape sequence at @text (which begins with ESC), or of what there is of it. */
static size_t escape_length(const char *text, size_t len)
{
    size_t i = 2;

    if (len < 2)
        return len;
    switch (text[1]) {
    case '[': /* CSI: parameters, intermediates, one final byte */
        i = pass(text, i, len, 0x20, 0x3f);
        return pass_final(text, i, len, 0x40);
    case ']': /* OSC and the other strings end with BEL or ESC \ */
    case 'P':
    case 'X':
    case '^':
    case '_':
        /* None of them spans lines, and one that never ends shall not take the rest with it. */
        while (i < len && text[i] != '\n') {
            if (text[i] == '\a')
                return i + 1;
            if (text[i] == 0x1b)
                return i + 1 < len && text[i + 1] == '\\' ? i + 2 : i;
            i++;
        }
        return i;
    default: /* intermediates and a final byte */
        i = pass(text, 1, len, 0x20, 0x2f);
        return pass_final(text, i, len, 0x30);
    }
}

/* Whether the sequence takes the cursor back to the first column (CHA). */
static bool is_return(const char *sequence, size_t len)
{
    return (len == 3 || (len == 4 && (sequence[2] == '0' || sequence[2] == '1'))) &&
           sequence[1] == '[' && sequence[len - 1] == 'G';
}

/* Whether it erases what is right of the cursor (EL, ED). */
static bool is_erase(const char *sequence, size_t len)
{
    return len >= 3 && sequence[1] == '[' &&
           (sequence[len - 1] == 'K' || sequence[len - 1] == 'J') && sequence[2] != '1';
}

bool toolkit_clean(struct buf *out, const char *text, size_t len)
{
    size_t line = out->len; /* where the current line begins in @out */
    bool returned = false;  /* the cursor is at its first column: what comes starts it over */

    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];

        if (c == 0x1b) {
            size_t n = escape_length(text + i, len - i);

            if (is_return(text + i, n))
                returned = true;
            else if (returned && is_erase(text + i, n))
                out->len = line;
            i += n;
        } else if (c == '\r') {
            returned = true;
            i++;
        } else if (c == '\b') {
            while (out->len > line && ((unsigned char)out->data[--out->len] & 0xc0) == 0x80)
                ; /* a whole character, not one byte of it */
            i++;
        } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
            i++;
        } else {
            size_t run = 1; /* as many plain bytes as there are, in one append */

            while (i + run < len && (unsigned char)text[i + run] >= 0x20 && text[i + run] != 0x7f)
                run++;
            if (returned && c != '\n')
                out->len = line;
            returned = false;
            if (!buf_append(out, text + i, run))
                return false;
            if (c == '\n')
                line = out->len - (run - 1);
            i += run;
        }
    }
    if (out->data)
        out->data[out->len] = '\0';
    return true;
}

/* ---- cutting ---- */

/* Cleaned and valid: *ret_len bytes more in @out. */
static bool put_valid(struct buf *out, const char *raw, size_t len, size_t *ret_len)
{
    CLEANUP(buf_fini) struct buf clean = BUF_INIT;
    size_t before = out->len;

    if (!toolkit_clean(&clean, raw, len) || utf8_append_valid(out, buf_str(&clean), clean.len) < 0)
        return false;
    *ret_len = out->len - before;
    return true;
}

/* Where the front of @raw that is at most @most bytes ends: after a line if one ends in its second
 * half, else between two characters. */
static size_t front(const char *raw, size_t len, size_t most)
{
    size_t at = MIN(len, most);

    if (at == len)
        return len;
    while (at > most / 2 && raw[at - 1] != '\n')
        at--;
    return at > most / 2 ? at : MAX(utf8_cut(raw, len, most), 1u);
}

/* Where the last @most bytes begin, likewise. */
static size_t back(const char *raw, size_t len, size_t most)
{
    size_t least = len - MIN(len, most);
    size_t at = least;

    while (at > 0 && at < len - most / 2 && raw[at - 1] != '\n')
        at++;
    if (at < len - most / 2)
        return at;
    for (at = least; at < len && ((unsigned char)raw[at] & 0xc0) == 0x80; at++)
        ;
    return at;
}

/* The front of @raw that fits in @most bytes when cleaned; *ret_used bytes of it. */
static bool put_front(struct buf *out, const char *raw, size_t len, size_t most, size_t *ret_used)
{
    size_t before = out->len;
    size_t shown;

    *ret_used = front(raw, len, most);
    if (!put_valid(out, raw, *ret_used, &shown))
        return false;
    if (shown <= most)
        return true;
    /* A bad byte becomes three. */
    out->len = before;
    *ret_used = front(raw, len, most / 3);
    return put_valid(out, raw, *ret_used, &shown);
}

bool toolkit_output(struct buf *out, struct run *run, enum wire_stream stream, bool page,
                    struct toolkit_span *span)
{
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    CLEANUP(buf_fini) struct buf last = BUF_INIT;
    uint64_t wanted = span->begin;
    uint64_t end = wanted;
    size_t before;
    size_t head;
    size_t tail;
    size_t shown;

    if (guest_run_read(run_guest(run), stream, &end, LIMIT_RING_BYTES, &raw) < 0)
        return false;
    *span = (struct toolkit_span){ .begin = end - raw.len, .end = end, .total = end };
    if (raw.len == 0) { /* perhaps asked for beyond the end */
        struct run_info info;

        run_info(run, &info);
        span->total = MIN(end, info.guest.total[stream]);
    }
    if (span->begin > wanted)
        buf_printf(out, "[the oldest %" PRIu64 " bytes of output are no longer kept]\n",
                   span->begin - wanted);
    before = out->len;
    if (!put_valid(out, buf_str(&raw), raw.len, &shown))
        return false;
    if (shown <= SHOWN_BYTES)
        return !out->failed;
    out->len = before;
    if (!put_front(out, raw.data, raw.len, page ? SHOWN_BYTES : SHOWN_BYTES - TAIL_BYTES, &head))
        return false;
    if (page) {
        span->end = span->begin + head;
        return !out->failed;
    }
    tail = MAX(back(raw.data, raw.len, TAIL_BYTES), head);
    if (!put_valid(&last, raw.data + tail, raw.len - tail, &shown))
        return false;
    if (shown > TAIL_BYTES) {
        buf_clear(&last);
        tail = MAX(back(raw.data, raw.len, TAIL_BYTES / 3), head);
        if (!put_valid(&last, raw.data + tail, raw.len - tail, &shown))
            return false;
    }
    if (out->len > 0 && out->data[out->len - 1] != '\n')
        buf_append_char(out, '\n');
    buf_printf(out, "[… %zu bytes left out: ", tail - head);
    if (stream == WIRE_STREAM_OUT)
        buf_printf(out,
                   "terminal_read {\"run\":\"%s\",\"offset\":%" PRIu64 "} goes on here, \"grep\" "
                   "finds lines]\n",
                   run_id(run), span->begin + head);
    else
        buf_append_str(out, "send standard error to a file to read all of it]\n");
    return buf_append(out, buf_str(&last), last.len) && !out->failed;
}
