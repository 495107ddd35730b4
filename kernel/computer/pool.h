/*
 * pool - things made ahead of need by one thread of low priority.
 *
 * Making waits while somebody else is making one for immediate use (pool_busy()), and for a moment
 * after that and after each take, so that it does not get in the way of what that one is for; and
 * while there is too little memory for one more.  Each that cannot be made or dies waiting makes it
 * wait longer, until one is taken.
 * Ownership: an item is the pool's until pool_take() gives it away; pool_free() destroys the rest.
 * Threads: any; the functions of struct pool_config are called without a lock.
 * Blocking: pool_free() waits for an item being made (its wait is cancelled, by pool_stop() at the
 *   latest).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/cancel.h"
#include "kernel/base/clock.h"
#include "kernel/base/error.h"

#define POOL_MAKE_NS      (10 * CLOCK_NS_PER_S)
#define POOL_SETTLE_NS    (20 * CLOCK_NS_PER_MS)
#define POOL_SIZE_MAX     64
#define POOL_MEMORY_SHARE 8 /* one part in so many of the machine's memory stays free */

struct pool;

struct pool_config {
    size_t size; /* 1 to POOL_SIZE_MAX */
    void *(*make)(void *arg, const struct wait *w, struct error *err);
    bool (*alive)(void *arg, void *item);
    void (*kill)(void *arg, void *item);    /* begin its end; does not wait */
    void (*destroy)(void *arg, void *item); /* after kill, or alone */
    void *arg;
    int64_t make_ns;      /* how long one may take to make; 0: POOL_MAKE_NS */
    int64_t settle_ns;    /* the moment after a take; 0: POOL_SETTLE_NS */
    uint64_t memory_each; /* bytes that one takes; 0: memory does not count */
};

/** Nothing is made before pool_start(). */
NODISCARD struct pool *pool_new(const struct pool_config *config, struct error *err);
void pool_free(struct pool *p);

/** Make no more, and cancel what is being made; pool_free() has to follow. */
void pool_stop(struct pool *p);
DEFINE_CLEANUP(struct pool, pool_free)

/** Begin to fill it; further calls change nothing.  False when there can be no thread. */
bool pool_start(struct pool *p);

/** A live item, or NULL.  Never waits for one. */
void *pool_take(struct pool *p);

/** +1 and -1 around making one outside the pool. */
void pool_busy(struct pool *p, int change);

/** One may have died: soon those that have are replaced.  Does not block. */
void pool_check(struct pool *p);

size_t pool_ready(struct pool *p);
