#include "kernel/sched_heap.h"

#include <assert.h>

static unsigned rank_of(const struct sched_node *node)
{
    return node ? node->rank : 0;
}

/* The shorter way down is on the right, so that it has at most log2(n + 1) steps.  True when the
 * node's rank has changed. */
static bool settle(struct sched_node *node)
{
    unsigned before = node->rank;

    if (rank_of(node->left) < rank_of(node->right)) {
        struct sched_node *shorter = node->left;

        node->left = node->right;
        node->right = shorter;
    }
    node->rank = rank_of(node->right) + 1;
    return node->rank != before;
}

/* Down the right sides of both, then up again. */
static struct sched_node *merge(struct sched_node *a, struct sched_node *b)
{
    struct sched_node *top = NULL, *last = NULL;

    while (a && b) {
        struct sched_node *first = sched_node_before(b, a) ? b : a;

        if (first == a)
            a = a->right;
        else
            b = b->right;
        first->up = last;
        if (last)
            last->right = first;
        else
            top = first;
        last = first;
    }
    if (!a)
        a = b;
    if (a)
        a->up = last;
    if (!last)
        return a;
    last->right = a;
    for (; last; last = last->up)
        (void)settle(last);
    return top;
}

void sched_heap_add(struct sched_heap *heap, struct sched_node *node)
{
    assert(!sched_heap_holds(node));
    node->up = node->left = node->right = NULL;
    node->rank = 1;
    heap->first = merge(heap->first, node);
}

void sched_heap_remove(struct sched_heap *heap, struct sched_node *node)
{
    struct sched_node *up = node->up, *rest = merge(node->left, node->right);

    assert(sched_heap_holds(node));
    if (rest)
        rest->up = up;
    if (!up)
        heap->first = rest;
    else if (up->left == node)
        up->left = rest;
    else
        up->right = rest;
    while (up && settle(up))
        up = up->up;
    node->up = node->left = node->right = NULL;
    node->rank = 0;
}
