#include "kernel/computer/ring.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void ring_init(struct ring *r, size_t max_bytes)
{
    *r = (struct ring){ .max = max_bytes };
}

void ring_fini(struct ring *r)
{
    free(r->data);
    *r = (struct ring){ .max = 0 };
}

/* The bytes [from, from + len) of what is held, which may wrap around, in one piece at @to. */
static void copy_out(const struct ring *r, size_t from, size_t len, uint8_t *to)
{
    size_t at = r->head + from, first;

    if (len == 0)
        return;
    if (at >= r->cap)
        at -= r->cap;
    first = MIN(len, r->cap - at);
    memcpy(to, r->data + at, first);
    memcpy(to + first, r->data, len - first);
}

static bool grow(struct ring *r, size_t want)
{
    size_t cap = MAX(r->cap, RING_FIRST_BYTES);
    uint8_t *data;

    while (cap < want)
        cap *= 2; /* want <= max, which is far from overflowing */
    cap = MIN(cap, r->max);
    data = malloc(cap);
    if (!data)
        return false;
    copy_out(r, 0, r->len, data);
    free(r->data);
    r->data = data;
    r->cap = cap;
    r->head = 0;
    return true;
}

bool ring_reserve(struct ring *r, size_t len)
{
    if (len <= r->cap - r->len)
        return true;
    if (len > r->max - r->len)
        return false;
    return grow(r, r->len + len);
}

void ring_consume(struct ring *r, size_t len)
{
    assert(len <= r->len);
    r->head += len;
    if (r->head >= r->cap)
        r->head -= r->cap;
    r->len -= len;
    r->start += len;
    if (r->len == 0)
        r->head = 0;
}

void ring_write(struct ring *r, const void *data, size_t len)
{
    const uint8_t *from = data;
    size_t at, first;

    if (len > r->cap - r->len)
        (void)ring_reserve(r, MIN(len, r->max - r->len));
    if (len > r->cap - r->len) {
        size_t keep = MIN(len, r->cap), lost = r->len - MIN(r->len, r->cap - keep);

        ring_consume(r, lost);
        /* What never had room counts as written and dropped at once. */
        if (len > keep) {
            assert(r->len == 0);
            r->start += len - keep;
            from += len - keep;
            len = keep;
        }
    }
    if (len == 0)
        return;
    at = r->head + r->len;
    if (at >= r->cap)
        at -= r->cap;
    first = MIN(len, r->cap - at);
    memcpy(r->data + at, from, first);
    memcpy(r->data, from + first, len - first);
    r->len += len;
}

long ring_read(const struct ring *r, uint64_t *offset, size_t max, struct buf *out)
{
    uint64_t at = MAX(*offset, r->start);
    size_t from, len;

    if (at > ring_end(r))
        return 0;
    from = (size_t)(at - r->start);
    len = MIN(r->len - from, max);
    if (len > 0) {
        if (!buf_reserve(out, len))
            return -1;
        copy_out(r, from, len, (uint8_t *)out->data + out->len);
        out->len += len;
        out->data[out->len] = '\0';
    }
    *offset = at + len;
    return (long)len;
}

const uint8_t *ring_front(const struct ring *r, size_t *ret_len)
{
    *ret_len = MIN(r->len, r->cap - r->head);
    return r->data ? r->data + r->head : NULL;
}

void ring_trim(struct ring *r, size_t keep_bytes)
{
    if (r->len > 0 || r->cap <= keep_bytes)
        return;
    free(r->data);
    r->data = NULL;
    r->cap = 0;
    r->head = 0;
}
