#include "kernel/histogram.h"

#include "kernel/base/attr.h"

#define LEAST_BITS 9 /* all below 2^9 ns is one bucket with what follows it */
#define SUB_BITS   3 /* eight buckets for each doubling */
#define SUB_COUNT  (1 << SUB_BITS)

static unsigned bucket_of(int64_t ns)
{
    uint64_t value = ns < 1 << LEAST_BITS ? 1u << LEAST_BITS : (uint64_t)ns;
    unsigned top = 63u - (unsigned)__builtin_clzll(value);
    unsigned sub = (unsigned)(value >> (top - SUB_BITS)) & (SUB_COUNT - 1);
    unsigned bucket = (top - LEAST_BITS) * SUB_COUNT + sub;

    return MIN(bucket, HISTOGRAM_BUCKETS - 1u);
}

static int64_t middle_of(unsigned bucket)
{
    unsigned top = bucket / SUB_COUNT + LEAST_BITS;
    int64_t width = INT64_C(1) << (top - SUB_BITS);

    return (INT64_C(1) << top) + (int64_t)(bucket % SUB_COUNT) * width + width / 2;
}

/* There is one writer, so that this needs no locked instruction. */
static void add(_Atomic uint64_t *to, uint64_t amount)
{
    atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

void histogram_add(struct histogram *h, int64_t ns)
{
    int64_t sum = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);

    ns = MAX(ns, 0);
    add(&h->counts[bucket_of(ns)], 1);
    add(&h->count, 1);
    if (__builtin_add_overflow(sum, ns, &sum))
        sum = INT64_MAX;
    atomic_store_explicit(&h->sum_ns, sum, memory_order_relaxed);
    if (ns > atomic_load_explicit(&h->max_ns, memory_order_relaxed))
        atomic_store_explicit(&h->max_ns, ns, memory_order_relaxed);
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    int64_t sum_ns = atomic_load_explicit(&from->sum_ns, memory_order_relaxed);
    int64_t max_ns = atomic_load_explicit(&from->max_ns, memory_order_relaxed);

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        add(&to->counts[i], atomic_load_explicit(&from->counts[i], memory_order_relaxed));
    add(&to->count, atomic_load_explicit(&from->count, memory_order_relaxed));
    if (__builtin_add_overflow(to->sum_ns, sum_ns, &sum_ns))
        sum_ns = INT64_MAX;
    atomic_store_explicit(&to->sum_ns, sum_ns, memory_order_relaxed);
    atomic_store_explicit(&to->max_ns, MAX(to->max_ns, max_ns), memory_order_relaxed);
}

int64_t histogram_quantile(const struct histogram *h, double q)
{
    uint64_t total = 0, wanted, seen = 0;
    int64_t max_ns = atomic_load_explicit(&h->max_ns, memory_order_relaxed);

    /* From the buckets, and not from `count`: a writer may be between the two. */
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        total += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
    if (!total)
        return 0;
    wanted = (uint64_t)(q * (double)total);
    wanted = MIN(MAX(wanted, 1u), total);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        if (seen >= wanted)
            return MIN(middle_of(i), max_ns);
    }
    return max_ns;
}

void histogram_sum_up(const struct histogram *h, struct histogram_summary *ret)
{
    uint64_t count = atomic_load_explicit(&h->count, memory_order_relaxed);
    int64_t sum_ns = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);

    *ret = (struct histogram_summary){
        .count = count,
        .mean_ns = count ? sum_ns / (int64_t)count : 0,
        .max_ns = atomic_load_explicit(&h->max_ns, memory_order_relaxed),
        .p50_ns = histogram_quantile(h, 0.5),
        .p90_ns = histogram_quantile(h, 0.9),
        .p99_ns = histogram_quantile(h, 0.99),
    };
}
