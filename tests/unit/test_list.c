#include "kernel/base/list.h"

#include "tests/support/check.h"

struct item {
    int value;
    struct list link;
};

static void keeps_the_order_of_appending(void **state)
{
    struct item items[3] = { { .value = 1 }, { .value = 2 }, { .value = 0 } };
    struct list head;
    int expected = 0;

    (void)state;
    list_init(&head);
    assert_true(list_empty(&head));
    list_append(&head, &items[0].link);
    list_append(&head, &items[1].link);
    list_prepend(&head, &items[2].link);
    LIST_FOR_EACH (node, &head)
        assert_int_equal(LIST_ENTRY(node, struct item, link)->value, expected++);
    assert_int_equal(expected, 3);
}

static void removes_while_walking(void **state)
{
    struct item items[4] = { { .value = 0 }, { .value = 1 }, { .value = 2 }, { .value = 3 } };
    struct list head;
    int left = 0;

    (void)state;
    list_init(&head);
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        list_append(&head, &items[i].link);
    LIST_FOR_EACH_SAFE (node, &head)
        if (LIST_ENTRY(node, struct item, link)->value % 2 == 0)
            list_remove(node);
    LIST_FOR_EACH (node, &head)
        left += LIST_ENTRY(node, struct item, link)->value;
    assert_int_equal(left, 1 + 3);
    assert_false(list_linked(&items[0].link));
    assert_true(list_linked(&items[1].link));
}

static void removing_twice_is_harmless(void **state)
{
    struct item never = { .value = 0 }, once = { .value = 1 };
    struct list head;

    (void)state;
    list_init(&head);
    list_remove(&never.link);
    assert_false(list_linked(&never.link));
    list_append(&head, &once.link);
    list_remove(&once.link);
    list_remove(&once.link);
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_order_of_appending),
        cmocka_unit_test(removes_while_walking),
        cmocka_unit_test(removing_twice_is_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
