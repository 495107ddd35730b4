#include "kernel/sched_heap.h"

#include "kernel/base/attr.h"
#include "tests/support/check.h"

#define NODES 2000

static uint32_t seed;

static uint32_t any(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

/* The number of nodes, and everything a leftist heap promises. */
static size_t check(const struct sched_node *node, const struct sched_node *up)
{
    unsigned left, right;

    if (!node)
        return 0;
    left = node->left ? node->left->rank : 0;
    right = node->right ? node->right->rank : 0;
    assert_ptr_equal(node->up, up);
    assert_true(!up || !sched_node_before(node, up));
    assert_true(left >= right);
    assert_int_equal(node->rank, right + 1);
    return 1 + check(node->left, node) + check(node->right, node);
}

static void gives_the_smallest_and_equal_ones_by_ticket(void **state)
{
    static struct sched_node nodes[NODES];
    struct sched_heap heap = { NULL };
    const struct sched_node *before = NULL;
    (void)state;

    seed = 1;
    for (size_t i = 0; i < NODES; i++) {
        nodes[i].key = (int64_t)any(50) - 25;
        nodes[i].ticket = i;
        sched_heap_add(&heap, &nodes[i]);
    }
    for (size_t i = 0; i < NODES; i++) {
        struct sched_node *first = heap.first;

        assert_non_null(first);
        sched_heap_remove(&heap, first);
        assert_true(!before || sched_node_before(before, first));
        assert_false(sched_heap_holds(first));
        before = first;
    }
    assert_null(heap.first);
}

static void keeps_its_shape_whatever_is_added_and_removed(void **state)
{
    static struct sched_node nodes[NODES];
    struct sched_heap heap = { NULL };
    size_t inside = 0;
    (void)state;

    seed = 7;
    for (int round = 0; round < 20000; round++) {
        struct sched_node *node = &nodes[any(NODES)];

        if (sched_heap_holds(node)) {
            sched_heap_remove(&heap, node);
            inside--;
        } else {
            node->key = any(100);
            node->ticket = (uint64_t)round;
            sched_heap_add(&heap, node);
            inside++;
        }
        if (round % 500 == 0)
            assert_int_equal(check(heap.first, NULL), inside);
    }
    assert_int_equal(check(heap.first, NULL), inside);
}

static void no_order_of_adding_makes_it_deep(void **state)
{
    static struct sched_node nodes[NODES];
    (void)state;

    for (int way = 0; way < 2; way++) {
        struct sched_heap heap = { NULL };
        unsigned steps = 0;

        for (size_t i = 0; i < NODES; i++) {
            nodes[i] = (struct sched_node){ .key = way ? (int64_t)i : -(int64_t)i, .ticket = i };
            sched_heap_add(&heap, &nodes[i]);
        }
        for (const struct sched_node *at = heap.first; at; at = at->right)
            steps++;
        assert_in_range(steps, 1, 11); /* log2(2001) */
        while (heap.first)
            sched_heap_remove(&heap, heap.first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_smallest_and_equal_ones_by_ticket),
        cmocka_unit_test(keeps_its_shape_whatever_is_added_and_removed),
        cmocka_unit_test(no_order_of_adding_makes_it_deep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
