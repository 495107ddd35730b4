/*
 * sched_heap - an ordered set whose links lie inside what is ordered: the smallest key first, equal
 * keys by ticket.
 *
 * A leftist heap: adding, taking the first and removing any are O(log n) even at worst, and nothing
 * is ever allocated.  Threads: whoever guards it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Zero-initialise; key and ticket are constant while it is inside. */
struct sched_node {
    int64_t key;
    uint64_t ticket;
    struct sched_node *up, *left, *right;
    unsigned rank; /* of the shortest way down to a gap; 0: in no heap */
};

/** Zero-initialise. */
struct sched_heap {
    struct sched_node *first;
};

static inline bool sched_heap_holds(const struct sched_node *node)
{
    return node->rank != 0;
}

static inline bool sched_node_before(const struct sched_node *a, const struct sched_node *b)
{
    return a->key != b->key ? a->key < b->key : a->ticket < b->ticket;
}

void sched_heap_add(struct sched_heap *heap, struct sched_node *node);

/** @node is inside. */
void sched_heap_remove(struct sched_heap *heap, struct sched_node *node);
