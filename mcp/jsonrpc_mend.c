#include "mcp/jsonrpc_mend.h"

#include <string.h>

#define ID_MAX 256

/* ---- surrogates ---- */

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The four digits of the escape that begins at @at, or -1. */
static long escape_at(const char *line, size_t len, size_t at)
{
    long value = 0;

    if (at + 6 > len || line[at] != '\\' || line[at + 1] != 'u')
        return -1;
    for (size_t i = at + 2; i < at + 6; i++) {
        if (digit(line[i]) < 0)
            return -1;
        value = value * 16 + digit(line[i]);
    }
    return value;
}

bool jsonrpc_mend_surrogates(char *line, size_t len)
{
    bool mended = false;

    for (size_t i = 0; i < len; i++) {
        long value;

        if (line[i] != '\\')
            continue;
        value = escape_at(line, len, i);
        if (value >= 0xd800 && value < 0xdc00) {
            long low = escape_at(line, len, i + 6);

            if (low >= 0xdc00 && low < 0xe000) {
                i += 11;
                continue;
            }
        }
        if (value >= 0xd800 && value < 0xe000) {
            for (size_t k = 0; k < 6; k++)
                line[i + k] = "\\ufffd"[k];
            mended = true;
        }
        i += value >= 0 ? 5 : 1; /* over what is escaped, a backslash perhaps */
    }
    return mended;
}

/* ---- the id ---- */

struct scan {
    const char *at, *end;
};

static void skip_space(struct scan *s)
{
    while (s->at < s->end && strchr(" \t\r\n", *s->at))
        s->at++;
}

/* Over a string whose first quote has been passed; its length without the quotes, or -1. */
static long skip_string(struct scan *s)
{
    const char *from = s->at;

    for (; s->at < s->end; s->at++) {
        if (*s->at == '\\')
            s->at++;
        else if (*s->at == '"')
            return s->at++ - from;
    }
    return -1;
}

static json_t *read_id(struct scan *s)
{
    const char *from = s->at;
    json_t *id;

    if (s->at < s->end && *s->at == '"') {
        s->at++;
        if (skip_string(s) < 0)
            return NULL;
    } else {
        while (s->at < s->end && strchr("-0123456789", *s->at))
            s->at++;
    }
    if (s->at == from || s->at - from > ID_MAX)
        return NULL;
    id = json_loadb(from, (size_t)(s->at - from), JSON_DECODE_ANY, NULL);
    if (json_is_string(id) || json_is_integer(id))
        return id;
    json_decref(id);
    return NULL;
}

json_t *jsonrpc_find_id(const char *line, size_t len)
{
    struct scan s = { .at = line, .end = line + len };
    int depth = 0;

    while (s.at < s.end) {
        const char *from = s.at++;
        long n;

        if (*from == '{' || *from == '[')
            depth++;
        else if (*from == '}' || *from == ']')
            depth--;
        if (*from != '"')
            continue;
        n = skip_string(&s);
        if (n < 0)
            return NULL;
        skip_space(&s);
        if (depth == 1 && n == 2 && memcmp(from + 1, "id", 2) == 0 && s.at < s.end &&
            *s.at == ':') {
            s.at++;
            skip_space(&s);
            return read_id(&s);
        }
    }
    return NULL;
}
