#include "kernel/base/utf8.h"

#include <stdint.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

enum sequence_state { SEQUENCE_VALID, SEQUENCE_INVALID, SEQUENCE_CUT };

struct sequence {
    size_t len; /* of the character, or of the maximal part to be replaced as one */
    enum sequence_state state;
};

/* The second byte's range is what rules out overlong forms, surrogates and too large values. */
static struct sequence sequence_at(const unsigned char *s, size_t left)
{
    unsigned char lead = s[0], low = 0x80, high = 0xbf;
    size_t want;

    if (lead < 0x80)
        return (struct sequence){ 1, SEQUENCE_VALID };
    if (lead < 0xc2 || lead > 0xf4)
        return (struct sequence){ 1, SEQUENCE_INVALID };
    want = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < want; i++) {
        if (i == left)
            return (struct sequence){ i, SEQUENCE_CUT };
        if (s[i] < low || s[i] > high)
            return (struct sequence){ i, SEQUENCE_INVALID };
        low = 0x80;
        high = 0xbf;
    }
    return (struct sequence){ want, SEQUENCE_VALID };
}

/* Most text is ASCII: eight bytes at a time. */
static size_t ascii_run(const unsigned char *s, size_t len)
{
    size_t i = 0;

    for (; i + 8 <= len; i += 8) {
        uint64_t word;

        memcpy(&word, s + i, 8);
        if (word & 0x8080808080808080u)
            break;
    }
    while (i < len && s[i] < 0x80)
        i++;
    return i;
}

/* Bytes up to the first that is not part of a valid character. */
static size_t valid_run(const unsigned char *s, size_t len)
{
    size_t i = 0;

    while (i < len) {
        struct sequence seq;

        i += ascii_run(s + i, len - i);
        if (i == len)
            break;
        seq = sequence_at(s + i, len - i);
        if (seq.state != SEQUENCE_VALID)
            break;
        i += seq.len;
    }
    return i;
}

bool utf8_valid(const char *text, size_t len)
{
    return valid_run((const unsigned char *)text, len) == len;
}

size_t utf8_cut(const char *text, size_t len, size_t max)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t end = MIN(len, max);

    for (size_t back = 1; back <= 3 && back <= end; back++) {
        unsigned char c = s[end - back];

        if (c < 0x80)
            break;
        if (c >= 0xc0)
            return sequence_at(s + end - back, back).state == SEQUENCE_CUT ? end - back : end;
    }
    return end;
}

long utf8_append_valid(struct buf *out, const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t before = out->len, i = 0;
    long replaced = 0;

    while (i < len) {
        size_t run = valid_run(s + i, len - i);
        bool ok = buf_append(out, text + i, run);

        i += run;
        if (ok && i < len) {
            ok = buf_append(out, REPLACEMENT, sizeof REPLACEMENT - 1);
            i += sequence_at(s + i, len - i).len;
            replaced++;
        }
        if (!ok) {
            out->len = before;
            if (out->data)
                out->data[before] = '\0';
            return -1;
        }
    }
    return replaced;
}

size_t utf8_length(const char *text, size_t len)
{
    size_t count = 0;

    for (size_t i = 0; i < len; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}
