/*
 * egress_hello - makes the first bytes of a TLS client, right or wrong, for tests.
 */
#pragma once

#include <string.h>

#include "kernel/base/buf.h"

static inline void put_number(struct buf *out, size_t value, unsigned bytes)
{
    while (bytes--)
        buf_append_char(out, (char)(value >> bytes * 8));
}

/** A handshake message with one server name (NULL: no extension at all), @padding bytes of
 *  another extension before it. */
static inline void put_hello(struct buf *out, const char *name, size_t padding)
{
    size_t len = name ? strlen(name) : 0, extensions = (name ? len + 9 : 0) + padding + 4;

    put_number(out, 1, 1);
    put_number(out, 2 + 32 + 1 + 4 + 2 + 2 + extensions, 3);
    put_number(out, 0x0303, 2);
    for (size_t i = 0; i < 32; i++)
        put_number(out, i, 1);
    put_number(out, 0, 1);          /* session */
    put_number(out, 0x00021301, 4); /* ciphers */
    put_number(out, 0x0100, 2);     /* compressions */
    put_number(out, extensions, 2);
    put_number(out, 21, 2);
    put_number(out, padding, 2);
    for (size_t i = 0; i < padding; i++)
        put_number(out, 0, 1);
    if (!name)
        return;
    put_number(out, 0, 2);
    put_number(out, len + 5, 2);
    put_number(out, len + 3, 2);
    put_number(out, 0, 1);
    put_number(out, len, 2);
    buf_append(out, name, len);
}

/** Records of at most @size bytes each around @message. */
static inline void put_records(struct buf *out, const struct buf *message, size_t size)
{
    for (size_t at = 0; at < message->len; at += size) {
        size_t len = MIN(size, message->len - at);

        put_number(out, 0x160301, 3);
        put_number(out, len, 2);
        buf_append(out, message->data + at, len);
    }
}
