/*
 * storage_cache - the newest values that were read lately, within a bound of bytes.
 *
 * Nothing old is ever served: while a key is being written it is not in the cache, and what a
 * reader fetched is let in only when no write of that key began or ended since the reader looked.
 * Threads: any.  No call waits for anything but a short lock.
 */
#pragma once

#include <stdatomic.h>

#include "kernel/storage.h"

struct storage_cache;

/** A value and its stat; counted, constant. */
struct storage_value {
    atomic_uint refs;
    struct storage_stat stat;
    size_t len;
    char data[];
};
void storage_value_unref(struct storage_value *v);
DEFINE_CLEANUP(struct storage_value, storage_value_unref)

NODISCARD struct storage_cache *storage_cache_new(size_t max_bytes, struct error *err);
void storage_cache_free(struct storage_cache *c);

/** A reference, or NULL.  *ret_ticket is for storage_cache_fill(). */
NODISCARD struct storage_value *storage_cache_get(struct storage_cache *c, const char *space,
                                                  const char *key, uint64_t *ret_ticket);

/** Keep what was read since the ticket was given, if it is still the newest and worth it; without
 *  memory it is not kept. */
void storage_cache_fill(struct storage_cache *c, const char *space, uint64_t ticket,
                        const struct storage_stat *stat, const void *data);

/** Around every write of a key, whether it succeeds or not; the end comes before its answer. */
void storage_cache_write_begin(struct storage_cache *c, const char *space, const char *key);
void storage_cache_write_end(struct storage_cache *c, const char *space, const char *key);

/** Forget one key: it was found to be old. */
void storage_cache_drop(struct storage_cache *c, const char *space, const char *key);

void storage_cache_figures(struct storage_cache *c, struct storage_stats *ret);
