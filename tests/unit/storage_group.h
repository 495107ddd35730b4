/*
 * storage_group - what back ends do that put requests of several callers into one transaction.
 *
 * Threads: none.
 */
#pragma once

#include "tests/unit/storage_place.h"

/** A put of @key, which is its value, into @space, as one request of several. */
#define GROUP_PUT(key_)                                                                          \
    {                                                                                            \
        .kind = STORAGE_PUT, .key = (key_), .data = (key_), .len = strlen(key_), .if_version = 0 \
    }

static inline void group_of(struct storage_write *writes, struct storage_op *ops, size_t count,
                            const struct wait *w)
{
    for (size_t i = 0; i < count; i++)
        writes[i] =
            (struct storage_write){ .space = place.space, .ops = &ops[i], .count = 1, .wait = w };
}

static inline void assert_batches(uint64_t batches, uint64_t requests)
{
    struct storage_stats stats;

    storage_stats(place.s, &stats);
    assert_int_equal(stats.batches, batches);
    assert_int_equal(stats.batched_ops, requests);
}

static inline void requests_share_a_transaction_and_fail_alone(void **state)
{
    struct storage_op ops[] = {
        { .kind = STORAGE_PUT, .key = "a", .data = "1", .len = 1, .if_version = 0 },
        { .kind = STORAGE_PUT, .key = "a", .data = "2", .len = 1, .if_version = 0 },
        { .kind = STORAGE_PUT, .key = "a", .data = "3", .len = 1, .if_version = 1 },
        { .kind = STORAGE_PUT, .key = "a", .data = "4", .len = 1, .if_version = STORAGE_ANY },
        { .kind = STORAGE_DELETE, .key = "none", .if_version = STORAGE_ANY },
        { .kind = STORAGE_PUT, .key = "a", .data = "5", .len = 1, .if_version = 0 },
    };
    struct wait w = suite_wait(), late = { .deadline_ns = 1 };
    struct storage_write writes[ARRAY_LEN(ops)];
    char other[80];
    (void)state;

    (void)snprintf(other, sizeof other, "%s.other", place.space);
    group_of(writes, ops, ARRAY_LEN(ops), &w);
    writes[3].wait = &late;
    writes[5].space = other;
    storage_write_many(place.s, writes, ARRAY_LEN(ops));
    assert_true(writes[0].ok && writes[2].ok && writes[5].ok);
    assert_int_equal(writes[1].err.code, ERR_EXISTS);
    assert_int_equal(writes[3].err.code, ERR_TIMEOUT);
    assert_int_equal(writes[4].err.code, ERR_NOT_FOUND);
    assert_value_at("a", 2, "3", 1);
    assert_int_equal(usage_now().keys, 1);
    assert_int_equal(usage_now().bytes, 2);
    assert_batches(1, 3);
}
