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
    bool full;
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

/* jansson's strings are valid UTF-8; quotes, backslashes and control characters are escaped. */
static void put_quoted(struct out *o, const char *text, size_t len)
{
    size_t shown = len > STRING_MAX_BYTES ? utf8_cut(text, len, STRING_MAX_BYTES) : len;

    put_str(o, "\"");
    for (size_t i = 0, plain; i < shown && !o->full; i += plain) {
        unsigned char c = (unsigned char)text[i];
        char escaped[8];

        for (plain = 0; i + plain < shown; plain++) {
            c = (unsigned char)text[i + plain];
            if (c < 0x20 || c == '"' || c == '\\')
                break;
        }
        put(o, text + i, plain);
        if (i + plain == shown)
            break;
        if (c == '\n')
            put_str(o, "\\n");
        else if (c < 0x20)
            put(o, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", c));
        else
            put(o, (char[]){ '\\', (char)c }, 2);
        plain++;
    }
    put_str(o, shown < len ? "…\"" : "\"");
}

static bool ends_with(const char *key, const char *end)
{
    size_t len = strlen(key), end_len = strlen(end);

    return len >= end_len && !strcmp(key + len - end_len, end);
}

static bool is_hidden(const char *key)
{
    static const char *const names[] = { "env",  "stdin",    "content", "text",
                                         "data", "password", "secret",  "authorization" };
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

size_t redact_json(json_t *value, char *buf, size_t size)
{
    struct out o = { .data = buf, .room = size - 1 };

    if (value)
        put_value(&o, value, 0);
    else
        put_str(&o, "{}");
    buf[o.len] = '\0';
    return o.len;
}
