#include "kernel/redact.h"

#include <stdio.h>
#include <string.h>

#include "kernel/base/attr.h"
#include "kernel/base/utf8.h"

#define STRING_MAX_BYTES 400u
#define DEPTH_MAX        6

struct out {
    char *data;
    size_t len;
    size_t room; /* without the NUL */
    size_t string_max;
    bool full;
    bool cut; /* something was left out that is not hidden for what it is */
};

static void put(struct out *o, const char *text, size_t len)
{
    size_t fits = MIN(len, o->room - o->len);

    if (fits < len) {
        fits = utf8_cut(text, len, fits);
        o->full = true;
    }
    memcpy(o->data + o->len, text, fits);
    o->len += fits;
}

static void put_str(struct out *o, const char *text)
{
    put(o, text, strlen(text));
}

/* How many bytes the character at @text has that must not be shown as it is, and which it is; 0 for
 * any other.  Beside what JSON escapes: controls, characters without width, and those that turn the
 * direction of writing, by which a text can be made to look like another. */
static size_t unseen(const unsigned char *text, size_t len, unsigned *ret)
{
    unsigned c = text[0];

    if (c < 0x20 || c == 0x7f) {
        *ret = c;
        return 1;
    }
    if (c == 0xc2 && len >= 2 && text[1] < 0xa0) {
        *ret = text[1];
        return 2;
    }
    if (len < 3 || (c != 0xe2 && c != 0xef))
        return 0;
    *ret = (c & 0xfu) << 12 | (text[1] & 0x3fu) << 6 | (text[2] & 0x3fu);
    if ((*ret >= 0x200b && *ret <= 0x200f) || (*ret >= 0x2028 && *ret <= 0x202e) ||
        (*ret >= 0x2060 && *ret <= 0x206f) || *ret == 0xfeff)
        return 3;
    return 0;
}

/* jansson's strings are valid UTF-8; quotes, backslashes and what is unseen are escaped. */
static void put_quoted(struct out *o, const char *text, size_t len)
{
    size_t shown = len > o->string_max ? utf8_cut(text, len, o->string_max) : len;

    put_str(o, "\"");
    for (size_t i = 0, plain, odd = 0; i < shown && !o->full; i += plain + odd) {
        unsigned c = 0;
        char escaped[8];

        odd = 0;
        for (plain = 0; i + plain < shown; plain++) {
            const unsigned char *at = (const unsigned char *)text + i + plain;

            if (*at == '"' || *at == '\\') {
                c = *at;
                odd = 1;
            } else {
                odd = unseen(at, shown - i - plain, &c);
            }
            if (odd)
                break;
        }
        put(o, text + i, plain);
        if (!odd)
            break;
        if (c == '\n')
            put_str(o, "\\n");
        else if (c == '"' || c == '\\')
            put(o, (char[]){ '\\', (char)c }, 2);
        else
            put(o, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", c & 0xffffu));
    }
    o->cut |= shown < len;
    put_str(o, shown < len ? "…\"" : "\"");
}

static bool ends_with(const char *key, const char *end)
{
    size_t len = strlen(key), end_len = strlen(end);

    return len >= end_len && !strcmp(key + len - end_len, end);
}

static bool is_hidden(const char *key)
{
    static const char *const names[] = { "env",       "stdin",    "content", "text",
                                         "data",      "value",    "base64",  "prompt",
                                         "messages",  "system",   "answer",  "so_far",
                                         "variables", "password", "secret",  "authorization" };
    static const char *const ends[] = { "_content", "_text", "_data", "token", "api_key" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!strcmp(key, names[i]))
            return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (ends_with(key, ends[i]))
            return true;
    }
    return false;
}

static size_t bytes_in(json_t *value, int depth)
{
    size_t sum = 0, i;
    const char *key;
    json_t *item;

    if (json_is_string(value))
        return json_string_length(value);
    if (depth >= DEPTH_MAX)
        return 0;
    if (json_is_array(value)) {
        json_array_foreach (value, i, item)
            sum += bytes_in(item, depth + 1);
        return sum;
    }
    for (void *at = json_object_iter(value); at; at = json_object_iter_next(value, at)) {
        key = json_object_iter_key(at);
        sum += strlen(key) + bytes_in(json_object_iter_value(at), depth + 1);
    }
    return sum;
}

static void put_value(struct out *o, json_t *value, int depth);

static void put_hidden(struct out *o, json_t *value)
{
    char text[40];

    if (!json_is_string(value) && !json_is_array(value) && !json_is_object(value)) {
        put_value(o, value, 0);
        return;
    }
    put(o, text, (size_t)snprintf(text, sizeof text, "\"<%zu bytes>\"", bytes_in(value, 0)));
}

static void put_object(struct out *o, json_t *object, int depth)
{
    bool first = true;

    put_str(o, "{");
    for (void *at = json_object_iter(object); at && !o->full;
         at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);

        if (!first)
            put_str(o, ",");
        first = false;
        put_quoted(o, key, strlen(key));
        put_str(o, ":");
        if (is_hidden(key))
            put_hidden(o, json_object_iter_value(at));
        else
            put_value(o, json_object_iter_value(at), depth + 1);
    }
    put_str(o, "}");
}

static void put_array(struct out *o, json_t *array, int depth)
{
    put_str(o, "[");
    for (size_t i = 0; i < json_array_size(array) && !o->full; i++) {
        if (i)
            put_str(o, ",");
        put_value(o, json_array_get(array, i), depth + 1);
    }
    put_str(o, "]");
}

static void put_value(struct out *o, json_t *value, int depth)
{
    char number[40];

    if (depth > DEPTH_MAX) {
        o->cut = true;
        put_str(o, "\"…\"");
        return;
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        put_object(o, value, depth);
        return;
    case JSON_ARRAY:
        put_array(o, value, depth);
        return;
    case JSON_STRING:
        put_quoted(o, json_string_value(value), json_string_length(value));
        return;
    case JSON_INTEGER:
        put(o, number,
            (size_t)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT,
                             json_integer_value(value)));
        return;
    case JSON_REAL:
        put(o, number, (size_t)snprintf(number, sizeof number, "%.17g", json_real_value(value)));
        return;
    case JSON_TRUE:
        put_str(o, "true");
        return;
    case JSON_FALSE:
        put_str(o, "false");
        return;
    case JSON_NULL:
        put_str(o, "null");
        return;
    }
}

size_t redact_shown(json_t *value, char *buf, size_t size, size_t string_max, bool *ret_cut)
{
    struct out o = { .data = buf, .room = size - 1, .string_max = string_max };

    if (value)
        put_value(&o, value, 0);
    else
        put_str(&o, "{}");
    buf[o.len] = '\0';
    *ret_cut = o.cut || o.full;
    return o.len;
}

size_t redact_json(json_t *value, char *buf, size_t size)
{
    bool cut;

    return redact_shown(value, buf, size, STRING_MAX_BYTES, &cut);
}
