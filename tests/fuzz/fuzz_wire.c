/*
 * The wire's decoder: frames are the same however the stream is cut, what was put comes back, and
 * nothing is read past the end.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/computer/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond)  \
    do {             \
        if (!(cond)) \
            abort(); \
    } while (0)

struct outcome {
    uint64_t sum;
    size_t frames;
    bool bad;
};

static void add(struct outcome *o, const struct wire_header *h, const uint8_t *payload)
{
    uint8_t head[WIRE_HEADER_BYTES];

    wire_header_put(head, h);
    for (size_t i = 0; i < sizeof head; i++)
        o->sum = o->sum * 1099511628211u + head[i];
    for (size_t i = 0; i < h->length; i++)
        o->sum = o->sum * 1099511628211u + payload[i];
    o->frames++;
}

/* Pieces of @step bytes; what follows a malformed header is not looked at. */
static struct outcome read_in_steps(const uint8_t *data, size_t size, size_t step)
{
    static uint8_t storage[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
    struct wire_reader r = { .data = storage, .cap = sizeof storage };
    struct outcome o = { .sum = 0 };

    for (size_t at = 0; at < size && !o.bad;) {
        struct wire_header h;
        const uint8_t *payload;
        enum wire_status status;
        size_t room, n = size - at < step ? size - at : step;
        uint8_t *space = wire_reader_space(&r, &room);

        CHECK(room > 0);
        n = n < room ? n : room;
        memcpy(space, data + at, n);
        wire_reader_filled(&r, n);
        at += n;
        while ((status = wire_reader_next(&r, &h, &payload)) == WIRE_OK)
            add(&o, &h, payload);
        o.bad = status == WIRE_BAD;
    }
    return o;
}

/* Take the bytes apart in the order that they themselves say. */
static void take_apart(const uint8_t *data, size_t size)
{
    struct wire_in in = { .data = data, .len = size };
    uint8_t again[64];
    struct wire_out o = { .data = again, .cap = sizeof again };
    struct wire_stat st;
    struct wire_exit e;
    char text[32];
    size_t at, len;
    const char *str;

    for (size_t i = 0; i < 64 && !in.failed && in.at < in.len; i++) {
        at = in.at;
        o.len = 0;
        switch (data[in.at] % 5) {
        case 0:
            wire_put_u16(&o, wire_get_u16(&in));
            break;
        case 1:
            wire_put_u64(&o, wire_get_u64(&in));
            break;
        case 2:
            wire_get_stat(&in, &st);
            wire_put_stat(&o, &st);
            break;
        case 3:
            str = wire_get_str(&in, 1000, &len);
            CHECK(str && !memchr(str, 0, len));
            break;
        default:
            if (wire_get_str_into(&in, text, sizeof text))
                CHECK(strlen(text) < sizeof text);
            break;
        }
        CHECK(in.at <= in.len);
        if (!in.failed && o.len > 0)
            CHECK(in.at - at == o.len && memcmp(data + at, again, o.len) == 0);
    }
    if (in.failed)
        CHECK(!wire_in_done(&in) && wire_get_u32(&in) == 0);
    in = (struct wire_in){ .data = data, .len = size };
    wire_get_exit(&in, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = { 1, 13, 4097 };
    struct outcome whole;

    if (size > 300000)
        return 0;
    whole = read_in_steps(data, size, size ? size : 1);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct outcome o = read_in_steps(data, size, steps[i]);

        CHECK(o.sum == whole.sum && o.frames == whole.frames && o.bad == whole.bad);
    }
    take_apart(data, size);
    return 0;
}
