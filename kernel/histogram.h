/*
 * histogram - how often a duration was about how long, in 248 buckets from half a microsecond to 18
 * minutes, each at most an eighth wider than it is long.
 *
 * Threads: one writer at a time; any may read meanwhile, and then sees some of the latest.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 248

/** Zero-initialise. */
struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS];
    _Atomic uint64_t count;
    _Atomic int64_t sum_ns, max_ns;
};

struct histogram_summary {
    uint64_t count;
    int64_t mean_ns, max_ns;
    int64_t p50_ns, p90_ns, p99_ns; /* within a sixteenth; 0 without any */
};

void histogram_add(struct histogram *h, int64_t ns);

/** Adds all that is in @from. */
void histogram_merge(struct histogram *to, const struct histogram *from);
void histogram_sum_up(const struct histogram *h, struct histogram_summary *ret);

/** The duration that @q (0 to 1) of all do not pass. */
int64_t histogram_quantile(const struct histogram *h, double q);
