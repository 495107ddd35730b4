#include "kernel/base/base64.h"

#include <limits.h>
#include <stdint.h>

static const char alphabet[64] = {
    'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P',
    'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'a', 'b', 'c', 'd', 'e', 'f',
    'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v',
    'w', 'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '/',
};

bool base64_encode(struct buf *out, const void *data, size_t len)
{
    const unsigned char *in = data;
    char *to;

    if (len > SIZE_MAX / 8 || !buf_reserve(out, (len + 2) / 3 * 4)) {
        out->failed = true;
        return false;
    }
    to = out->data + out->len;
    for (; len >= 3; in += 3, len -= 3) {
        uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];

        *to++ = alphabet[v >> 18];
        *to++ = alphabet[v >> 12 & 63];
        *to++ = alphabet[v >> 6 & 63];
        *to++ = alphabet[v & 63];
    }
    if (len) {
        uint32_t v = (uint32_t)in[0] << 16 | (len == 2 ? (uint32_t)in[1] << 8 : 0);

        *to++ = alphabet[v >> 18];
        *to++ = alphabet[v >> 12 & 63];
        *to++ = len == 2 ? alphabet[v >> 6 & 63] : '=';
        *to++ = '=';
    }
    *to = '\0';
    out->len = (size_t)(to - out->data);
    return true;
}

/* -1 outside the alphabet.  Six compares beat a table that has to be brought into the cache. */
static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

bool base64_decode(struct buf *out, const char *text, size_t len, struct error *err)
{
    size_t digits = len;
    uint32_t bits = 0;
    char *to;

    if (len % 4)
        return error_set(err, ERR_INVALID,
                         "base64 text must be a multiple of 4 characters long, with its \"=\" "
                         "padding and without white space, but has %zu",
                         len);
    while (digits > 0 && len - digits < 2 && text[digits - 1] == '=')
        digits--;
    if (!buf_reserve(out, len / 4 * 3))
        return error_set(err, ERR_NOMEM, "no room for %zu decoded bytes", len / 4 * 3);
    to = out->data + out->len;
    for (size_t i = 0; i < digits; i++) {
        int value = value_of(text[i]);

        if (value < 0) {
            out->data[out->len] = '\0';
            return error_set(err, ERR_INVALID, "character %zu of the base64 text is not allowed",
                             i + 1);
        }
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 0)
            *to++ = (char)(bits >> (6 - 2 * (i % 4)) & 0xff);
    }
    /* Bits that stand for nothing must be zero, or one value would have many spellings. */
    if (bits & (digits % 4 == 2 ? 0xfu : digits % 4 == 3 ? 0x3u : 0)) {
        out->data[out->len] = '\0';
        return error_set(err, ERR_INVALID,
                         "the last character before the padding of the base64 "
                         "text stands for bits that are not used");
    }
    out->len = (size_t)(to - out->data);
    out->data[out->len] = '\0';
    return true;
}
