/*
 * buf - a growable array of bytes with a limit.
 *
 * A failed append leaves the buffer as it was and sets the sticky flag `failed`, so that a long
 * composition is checked once at its end.
 * Ownership: buf_init()/buf_fini() for storage the caller holds; buf_take() hands the bytes over.
 * Threads: one at a time.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/base/attr.h"

struct buf {
    char *data; /* NUL-terminated when not NULL; len does not count the NUL */
    size_t len;
    size_t cap;
    size_t max; /* 0: no limit */
    bool failed;
};

#define BUF_INIT     \
    {                \
        .data = NULL \
    }

void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);
void buf_clear(struct buf *b);

/** Each returns false when memory or the limit does not allow it. */
bool buf_reserve(struct buf *b, size_t more);
bool buf_append(struct buf *b, const void *data, size_t len);
bool buf_append_str(struct buf *b, const char *text);
bool buf_append_char(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);

/** Remove @len bytes at the front. */
void buf_consume(struct buf *b, size_t len);

/** The bytes as a NUL-terminated string to be freed by the caller, or NULL (out of memory or
 *  failed); the buffer is empty afterwards in either case. */
char *buf_take(struct buf *b, size_t *ret_len);

/** "" rather than NULL for an empty buffer.  Borrowed until the next call that changes @b. */
const char *buf_str(const struct buf *b);
