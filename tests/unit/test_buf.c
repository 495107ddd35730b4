#include "kernel/base/buf.h"

#include "tests/support/check.h"

static void composes_text(void **state)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;

    (void)state;
    assert_string_equal(buf_str(&b), "");
    assert_true(buf_append_str(&b, "one"));
    assert_true(buf_append_char(&b, ' '));
    assert_true(buf_append(&b, "two\0", 4));
    assert_true(buf_printf(&b, "%d-%s", 3, "three"));
    assert_int_equal(b.len, 15);
    assert_memory_equal(b.data,
                        "one two\0"
                        "3-three",
                        16);
    assert_false(b.failed);
}

static void grows_through_long_prints(void **state)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    char expected[1001];

    (void)state;
    memset(expected, 'x', 1000);
    expected[1000] = '\0';
    for (int i = 0; i < 20; i++)
        assert_true(buf_printf(&b, "%s", expected));
    assert_int_equal(b.len, 20000);
    assert_int_equal(strlen(b.data), 20000);
}

static void appending_nothing_succeeds(void **state)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;

    (void)state;
    assert_true(buf_append(&b, NULL, 0));
    assert_true(buf_printf(&b, "%s", ""));
    assert_int_equal(b.len, 0);
    assert_string_equal(buf_str(&b), "");
}

static void keeps_its_limit(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 8);
    assert_true(buf_append_str(&b, "12345678"));
    assert_false(b.failed);
    assert_false(buf_append_char(&b, '9'));
    assert_true(b.failed);
    assert_string_equal(b.data, "12345678");
    buf_clear(&b);
    assert_false(b.failed);
    assert_true(buf_append_str(&b, "123456"));
    assert_false(buf_printf(&b, "%s", "789"));
    assert_string_equal(b.data, "123456");
    assert_true(buf_printf(&b, "%s", "78"));
    assert_string_equal(b.data, "12345678");
    assert_true(b.failed); /* until cleared or taken */
    buf_fini(&b);
    assert_int_equal(b.max, 8);
}

static void refuses_lengths_that_overflow(void **state)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;

    (void)state;
    assert_true(buf_append_str(&b, "x"));
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_false(buf_reserve(&b, SIZE_MAX - 1));
    assert_false(buf_reserve(&b, SIZE_MAX / 2));
    assert_string_equal(b.data, "x");
}

static void consumes_from_the_front(void **state)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;

    (void)state;
    buf_consume(&b, 5);
    assert_true(buf_append_str(&b, "abcdef"));
    buf_consume(&b, 2);
    assert_string_equal(b.data, "cdef");
    buf_consume(&b, 100);
    assert_int_equal(b.len, 0);
    assert_string_equal(buf_str(&b), "");
}

static void take_hands_the_bytes_over(void **state)
{
    struct buf b = BUF_INIT;
    size_t len = 77;
    char *text;

    (void)state;
    assert_true(buf_append_str(&b, "mine"));
    text = buf_take(&b, &len);
    assert_string_equal(text, "mine");
    assert_int_equal(len, 4);
    assert_null(b.data);
    assert_int_equal(b.len, 0);
    free(text);
    text = buf_take(&b, NULL); /* of an empty one: an empty string */
    assert_string_equal(text, "");
    free(text);
}

static void take_of_a_failed_one_is_null_and_clears_it(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 4);
    assert_true(buf_append_str(&b, "1234"));
    assert_false(buf_append_str(&b, "5"));
    assert_null(buf_take(&b, NULL));
    assert_false(b.failed);
    assert_null(b.data);
    assert_true(buf_append_str(&b, "1234"));
    buf_fini(&b);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    FAULT_EACH(n)
    {
        struct buf b = BUF_INIT;
        char *text;
        bool ok;

        for (int i = 0; i < 40; i++)
            (void)buf_printf(&b, "%s", "ten chars.");
        ok = !b.failed;
        text = buf_take(&b, NULL);
        FAULT_DONE(n);
        assert_true(n_last ? text != NULL : text == NULL && !ok);
        free(text);
        buf_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(composes_text),
        cmocka_unit_test(grows_through_long_prints),
        cmocka_unit_test(appending_nothing_succeeds),
        cmocka_unit_test(keeps_its_limit),
        cmocka_unit_test(refuses_lengths_that_overflow),
        cmocka_unit_test(consumes_from_the_front),
        cmocka_unit_test(take_hands_the_bytes_over),
        cmocka_unit_test(take_of_a_failed_one_is_null_and_clears_it),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
