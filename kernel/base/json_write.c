/*
 * jansson's own printer decodes each string character by character and hashes each container to
 * find loops; on a result of 32 KiB of text it takes ten times as long as this one.
 */
#include "kernel/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/utf8.h"

#define WRITE_DEPTH_MAX 512u /* a loop in the tree ends here instead of in a stack overflow */

/* For each byte: 0 as it is, 'u' \u00XX, otherwise the letter behind the backslash. */
static const char escapes[256] = {
    [0] = 'u',  [1] = 'u',    [2] = 'u',    [3] = 'u',    [4] = 'u',   [5] = 'u',     [6] = 'u',
    [7] = 'u',  ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [11] = 'u',  ['\f'] = 'f',  ['\r'] = 'r',
    [14] = 'u', [15] = 'u',   [16] = 'u',   [17] = 'u',   [18] = 'u',  [19] = 'u',    [20] = 'u',
    [21] = 'u', [22] = 'u',   [23] = 'u',   [24] = 'u',   [25] = 'u',  [26] = 'u',    [27] = 'u',
    [28] = 'u', [29] = 'u',   [30] = 'u',   [31] = 'u',   ['"'] = '"', ['\\'] = '\\',
};

#define ONES  0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* Has this word a byte below 0x20, a quote or a backslash?  Bytes from 0x80 up never count. */
static bool word_is_plain(uint64_t w)
{
    uint64_t quote = w ^ ONES * '"', slash = w ^ ONES * '\\';

    return (((w - ONES * 0x20) | (quote - ONES) | (slash - ONES)) & ~w & HIGHS) == 0;
}

/* Bytes from @i on that need no escape. */
static size_t plain_run(const char *text, size_t i, size_t len)
{
    size_t start = i;

    for (; i + 8 <= len; i += 8) {
        uint64_t word;

        memcpy(&word, text + i, 8);
        if (!word_is_plain(word))
            break;
    }
    while (i < len && !escapes[(unsigned char)text[i]])
        i++;
    return i - start;
}

static bool write_escape(struct buf *out, unsigned char c)
{
    char kind = escapes[c];

    if (kind == 'u')
        return buf_printf(out, "\\u%04x", c);
    return buf_append(out, (char[2]){ '\\', kind }, 2);
}

static bool write_valid_string(struct buf *out, const char *text, size_t len)
{
    /* Room for all of it where nothing is escaped, so that long text is copied once. */
    if (!buf_reserve(out, len + 2))
        return false;
    out->data[out->len++] = '"';
    for (size_t i = 0; i < len;) {
        size_t run = plain_run(text, i, len);

        if (!buf_append(out, text + i, run))
            return false;
        i += run;
        if (i < len && !write_escape(out, (unsigned char)text[i++]))
            return false;
    }
    return buf_append_char(out, '"');
}

/* jansson checks what it is given unless it is asked not to; then this is the last chance. */
static bool write_string(struct buf *out, const char *text, size_t len)
{
    CLEANUP(buf_fini) struct buf repaired = BUF_INIT;

    if (utf8_valid(text, len))
        return write_valid_string(out, text, len);
    return utf8_append_valid(&repaired, text, len) >= 0 &&
           write_valid_string(out, buf_str(&repaired), repaired.len);
}

static bool write_integer(struct buf *out, long long value)
{
    unsigned long long rest =
        value < 0 ? 0ull - (unsigned long long)value : (unsigned long long)value;
    char digits[24];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0)
        digits[--at] = '-';
    return buf_append(out, digits + at, sizeof digits - at);
}

/* The shortest of the usual lengths that reads back as the same number. */
static bool write_real(struct buf *out, double value)
{
    char digits[40];
    int n = 0;

    for (int precision = 15; precision <= 17; precision++) {
        n = snprintf(digits, sizeof digits - 2, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    for (int i = 0; i < n; i++)
        if (digits[i] == ',') /* some locales */
            digits[i] = '.';
    /* It was a real and shall be read as one. */
    if (!strpbrk(digits, ".e"))
        memcpy(digits + n, ".0", 3);
    return buf_append_str(out, digits);
}

static bool write_value(struct buf *out, const json_t *value, unsigned depth);

static bool write_array(struct buf *out, const json_t *array, unsigned depth)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (!buf_append_char(out, i ? ',' : '[') ||
            !write_value(out, json_array_get(array, i), depth))
            return false;
    }
    return json_array_size(array) ? buf_append_char(out, ']') : buf_append_str(out, "[]");
}

static bool write_object(struct buf *out, const json_t *value, unsigned depth)
{
    json_t *object = unconst(value); /* jansson's iterators are not const */
    char before = '{';
    void *at;

    for (at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        if (!buf_append_char(out, before) ||
            !write_string(out, json_object_iter_key(at), json_object_iter_key_len(at)) ||
            !buf_append_char(out, ':') || !write_value(out, json_object_iter_value(at), depth))
            return false;
        before = ',';
    }
    return before == '{' ? buf_append_str(out, "{}") : buf_append_char(out, '}');
}

static bool write_value(struct buf *out, const json_t *value, unsigned depth)
{
    if (!value || depth == WRITE_DEPTH_MAX)
        return false;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return write_object(out, value, depth + 1);
    case JSON_ARRAY:
        return write_array(out, value, depth + 1);
    case JSON_STRING:
        return write_string(out, json_string_value(value), json_string_length(value));
    case JSON_INTEGER:
        return write_integer(out, json_integer_value(value));
    case JSON_REAL:
        return write_real(out, json_real_value(value));
    case JSON_TRUE:
        return buf_append_str(out, "true");
    case JSON_FALSE:
        return buf_append_str(out, "false");
    case JSON_NULL:
        return buf_append_str(out, "null");
    }
    return false;
}

bool json_write(const json_t *value, struct buf *out)
{
    size_t before = out->len;

    if (write_value(out, value, 0))
        return true;
    out->failed = true;
    out->len = before;
    if (out->data)
        out->data[before] = '\0';
    return false;
}
