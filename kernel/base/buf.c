#include "kernel/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST_BYTES 64u

static bool fail(struct buf *b)
{
    b->failed = true;
    return false;
}

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){ .max = max };
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){ .max = b->max };
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

bool buf_reserve(struct buf *b, size_t more)
{
    size_t need, cap;
    char *data;

    if (more > SIZE_MAX / 4 - b->len)
        return fail(b);
    need = b->len + more;
    if (b->max && need > b->max)
        return fail(b);
    if (need < b->cap)
        return true;
    cap = MAX(b->cap * 2, BUF_FIRST_BYTES);
    if (b->max)
        cap = MIN(cap, b->max + 1);
    cap = MAX(cap, need + 1);
    data = realloc(b->data, cap);
    if (!data)
        return fail(b);
    data[b->len] = '\0';
    b->data = data;
    b->cap = cap;
    return true;
}

bool buf_append(struct buf *b, const void *data, size_t len)
{
    if (!buf_reserve(b, len))
        return false;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
    return true;
}

bool buf_append_str(struct buf *b, const char *text)
{
    return buf_append(b, text, strlen(text));
}

bool buf_append_char(struct buf *b, char c)
{
    return buf_append(b, &c, 1);
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    bool ok;

    va_start(ap, fmt);
    ok = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return ok;
}

bool buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    size_t room = b->cap - b->len;
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(room ? b->data + b->len : NULL, room, fmt, again);
    va_end(again);
    if (n < 0)
        return fail(b);
    if ((size_t)n >= room || (b->max && b->len + (size_t)n > b->max)) {
        if (room)
            b->data[b->len] = '\0';
        if (!buf_reserve(b, (size_t)n))
            return false;
        n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
        if (n < 0) {
            b->data[b->len] = '\0';
            return fail(b);
        }
    }
    b->len += (size_t)n;
    return true;
}

void buf_consume(struct buf *b, size_t len)
{
    if (len >= b->len) {
        b->len = 0;
    } else {
        memmove(b->data, b->data + len, b->len - len);
        b->len -= len;
    }
    if (b->data)
        b->data[b->len] = '\0';
}

char *buf_take(struct buf *b, size_t *ret_len)
{
    char *data = NULL;
    size_t len = b->len;

    if (!b->failed && buf_reserve(b, 0))
        data = STEAL(b->data);
    buf_fini(b);
    if (data && ret_len)
        *ret_len = len;
    return data;
}

const char *buf_str(const struct buf *b)
{
    return b->data ? b->data : "";
}
