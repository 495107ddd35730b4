#include "kernel/computer/wire.h"

#include <assert.h>
#include <string.h>

#define EXIT_SIGNALLED 1
#define EXIT_DISK_FULL 2

static void store(uint8_t *out, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t load(const uint8_t *in, size_t bytes)
{
    uint64_t v = 0;

    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)in[i] << (8 * i);
    return v;
}

void wire_header_put(uint8_t out[WIRE_HEADER_BYTES], const struct wire_header *h)
{
    store(out, h->length, 4);
    store(out + 4, h->channel, 4);
    out[8] = h->type;
    out[9] = h->stream;
    out[10] = 0;
    out[11] = 0;
}

bool wire_header_get(const uint8_t in[WIRE_HEADER_BYTES], struct wire_header *ret)
{
    struct wire_header h = {
        .length = (uint32_t)load(in, 4),
        .channel = (uint32_t)load(in + 4, 4),
        .type = in[8],
        .stream = in[9],
    };

    if (h.length > WIRE_PAYLOAD_MAX || h.type < WIRE_HELLO || h.type >= WIRE_TYPE_COUNT ||
        h.stream >= WIRE_STREAM_COUNT || in[10] != 0 || in[11] != 0)
        return false;
    *ret = h;
    return true;
}

/* ---- composing ---- */

static uint8_t *out_room(struct wire_out *o, size_t len)
{
    uint8_t *at;

    if (o->failed || len > o->cap - o->len) {
        o->failed = true;
        return NULL;
    }
    at = o->data + o->len;
    o->len += len;
    return at;
}

static void put_number(struct wire_out *o, uint64_t v, size_t bytes)
{
    uint8_t *at = out_room(o, bytes);

    if (at)
        store(at, v, bytes);
}

void wire_put_u8(struct wire_out *o, uint8_t v)
{
    put_number(o, v, 1);
}

void wire_put_u16(struct wire_out *o, uint16_t v)
{
    put_number(o, v, 2);
}

void wire_put_u32(struct wire_out *o, uint32_t v)
{
    put_number(o, v, 4);
}

void wire_put_u64(struct wire_out *o, uint64_t v)
{
    put_number(o, v, 8);
}

void wire_put_bytes(struct wire_out *o, const void *data, size_t len)
{
    uint8_t *at = out_room(o, len);

    if (at && len > 0)
        memcpy(at, data, len);
}

void wire_put_str(struct wire_out *o, const char *text)
{
    size_t len = strlen(text);

    if (len > UINT32_MAX) {
        o->failed = true;
        return;
    }
    wire_put_u32(o, (uint32_t)len);
    wire_put_bytes(o, text, len);
}

void wire_put_stat(struct wire_out *o, const struct wire_stat *st)
{
    wire_put_u32(o, st->mode);
    wire_put_u32(o, st->uid);
    wire_put_u32(o, st->gid);
    wire_put_u64(o, st->size);
    wire_put_u64(o, st->mtime_ns);
}

void wire_put_exit(struct wire_out *o, const struct wire_exit *e)
{
    wire_put_u8(
        o, (uint8_t)((e->signalled ? EXIT_SIGNALLED : 0) | (e->disk_full ? EXIT_DISK_FULL : 0)));
    wire_put_u32(o, e->value);
    wire_put_u64(o, e->user_us);
    wire_put_u64(o, e->sys_us);
    wire_put_u64(o, e->maxrss_bytes);
}

/* ---- taking apart ---- */

static const uint8_t *in_take(struct wire_in *in, size_t len)
{
    const uint8_t *at;

    if (in->failed || len > in->len - in->at) {
        in->failed = true;
        return NULL;
    }
    at = in->data + in->at;
    in->at += len;
    return at;
}

static uint64_t get_number(struct wire_in *in, size_t bytes)
{
    const uint8_t *at = in_take(in, bytes);

    return at ? load(at, bytes) : 0;
}

uint8_t wire_get_u8(struct wire_in *in)
{
    return (uint8_t)get_number(in, 1);
}

uint16_t wire_get_u16(struct wire_in *in)
{
    return (uint16_t)get_number(in, 2);
}

uint32_t wire_get_u32(struct wire_in *in)
{
    return (uint32_t)get_number(in, 4);
}

uint64_t wire_get_u64(struct wire_in *in)
{
    return get_number(in, 8);
}

const char *wire_get_str(struct wire_in *in, size_t max, size_t *ret_len)
{
    uint32_t len = wire_get_u32(in);
    const uint8_t *at = NULL;

    *ret_len = 0;
    if (!in->failed && len <= max)
        at = in_take(in, len);
    if (!at || (len > 0 && memchr(at, 0, len))) {
        in->failed = true;
        return "";
    }
    *ret_len = len;
    return (const char *)at;
}

bool wire_get_str_into(struct wire_in *in, char *buf, size_t size)
{
    size_t len;
    const char *text;

    assert(size > 0);
    text = wire_get_str(in, size - 1, &len);
    if (len > 0)
        memcpy(buf, text, len);
    buf[len] = '\0';
    return !in->failed;
}

void wire_get_stat(struct wire_in *in, struct wire_stat *ret)
{
    ret->mode = wire_get_u32(in);
    ret->uid = wire_get_u32(in);
    ret->gid = wire_get_u32(in);
    ret->size = wire_get_u64(in);
    ret->mtime_ns = wire_get_u64(in);
}

void wire_get_exit(struct wire_in *in, struct wire_exit *ret)
{
    uint8_t flags = wire_get_u8(in);

    if (flags & ~(EXIT_SIGNALLED | EXIT_DISK_FULL))
        in->failed = true;
    ret->signalled = flags & EXIT_SIGNALLED;
    ret->disk_full = flags & EXIT_DISK_FULL;
    ret->value = wire_get_u32(in);
    ret->user_us = wire_get_u64(in);
    ret->sys_us = wire_get_u64(in);
    ret->maxrss_bytes = wire_get_u64(in);
}

bool wire_in_done(const struct wire_in *in)
{
    return !in->failed && in->at == in->len;
}

/* ---- cutting frames ---- */

uint8_t *wire_reader_space(struct wire_reader *r, size_t *ret_room)
{
    assert(r->cap >= WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX);
    if (r->start == r->end) {
        r->start = 0;
        r->end = 0;
    } else if (r->start > 0 && r->cap - r->end < r->cap / 2) {
        /* Only when the room gets scarce, so that what is moved is small beside what is read. */
        memmove(r->data, r->data + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
    }
    *ret_room = r->cap - r->end;
    return r->data + r->end;
}

void wire_reader_filled(struct wire_reader *r, size_t n)
{
    assert(n <= r->cap - r->end);
    r->end += n;
}

enum wire_status wire_reader_next(struct wire_reader *r, struct wire_header *ret,
                                  const uint8_t **ret_payload)
{
    const uint8_t *at = r->data + r->start;
    size_t have = r->end - r->start;
    struct wire_header h;

    if (have < WIRE_HEADER_BYTES)
        return WIRE_MORE;
    if (!wire_header_get(at, &h))
        return WIRE_BAD;
    if (have - WIRE_HEADER_BYTES < h.length)
        return WIRE_MORE;
    r->start += WIRE_HEADER_BYTES + h.length;
    *ret = h;
    *ret_payload = at + WIRE_HEADER_BYTES;
    return WIRE_OK;
}
