/*
 * ring - the newest bytes of a stream, addressed by their place in the whole stream.
 *
 * Storage grows on demand up to a limit; past it, and when memory runs out, the oldest bytes go.
 * Offsets count from the first byte ever written: the ring holds [ring_start(), ring_end()).
 * Ownership: ring_init()/ring_fini() for storage the caller holds.
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"

#define RING_FIRST_BYTES 4096u

struct ring {
    uint8_t *data;
    size_t cap;
    size_t max;
    size_t head; /* place of the oldest byte in data */
    size_t len;
    uint64_t start; /* its offset in the stream */
};

void ring_init(struct ring *r, size_t max_bytes);
void ring_fini(struct ring *r);

static inline uint64_t ring_start(const struct ring *r)
{
    return r->start;
}

static inline uint64_t ring_end(const struct ring *r)
{
    return r->start + r->len;
}

/** Append; never fails, see above. */
void ring_write(struct ring *r, const void *data, size_t len);

/** Make sure that @len more bytes fit without loss; false: out of memory or over the limit. */
bool ring_reserve(struct ring *r, size_t len);

/** Copy at most @max bytes from *@offset on to @out, and move *@offset: forward over what is gone,
 *  then past what was copied.  The count, 0 beyond the end, or -1 when memory ran out. */
long ring_read(const struct ring *r, uint64_t *offset, size_t max, struct buf *out);

/** The oldest bytes that lie in one piece; borrowed until the next change. */
const uint8_t *ring_front(const struct ring *r, size_t *ret_len);

/** Forget the oldest @len bytes. */
void ring_consume(struct ring *r, size_t len);

/** Give the storage back when it is empty and larger than @keep_bytes. */
void ring_trim(struct ring *r, size_t keep_bytes);
