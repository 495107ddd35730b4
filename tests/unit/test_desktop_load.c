#include "tools/desktop_load.h"

#include "tests/support/check.h"

static void what_linux_counts_is_read(void **state)
{
    static const struct {
        const char *text;
        struct desktop_load load;
    } rows[] = {
        { "cpu  10 1 5 100 20 2 3 4 0 0\ncpu0 10 1 5 100 20 2 3 4 0 0\nintr 7 0",
          { .busy = 25, .all = 145, .processors = 1 } },
        { "cpu  1 1 1 1 1 1 1 1\ncpu0 1\ncpu1 1\ncp", { .busy = 6, .all = 8, .processors = 2 } },
        /* Whatever a stranger writes there is only added up. */
        { "cpu  99999999999999999999999999 0 0 2 0 0 0 0\ncpu0",
          { .busy = UINT64_MAX, .all = 1, .processors = 1 } },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct desktop_load load;

        assert_true(desktop_load_read(rows[i].text, &load));
        assert_int_equal(load.busy, rows[i].load.busy);
        assert_int_equal(load.all, rows[i].load.all);
        assert_int_equal(load.processors, rows[i].load.processors);
    }
}

static void what_it_does_not_count_is_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "cpu",
        "cpu ",
        "cpu 1 2 3 4 5 6 7\n",
        "cpu a b c d e f g h\ncpu0",
        "cpu0 1 2 3",
        "intr 1\ncpu  1",
        "cpu  1 2 3 4 5 6 7 8 9\n",
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct desktop_load load = { .processors = 99 };

        assert_false(desktop_load_read(rows[i], &load));
        assert_int_equal(load.processors, 99);
    }
}

static void a_third_of_one_processor_is_busy(void **state)
{
    static const struct {
        struct desktop_load to;
        bool busy;
    } rows[] = {
        { { .busy = 100, .all = 1010, .processors = 1 }, false },
        { { .busy = 103, .all = 1010, .processors = 1 }, false },
        { { .busy = 104, .all = 1010, .processors = 1 }, true },
        { { .busy = 110, .all = 1010, .processors = 1 }, true },
        { { .busy = 103, .all = 1040, .processors = 4 }, false },
        { { .busy = 110, .all = 1040, .processors = 4 }, true },
        { { .busy = 100, .all = 1004, .processors = 1 }, true }, /* too soon to tell */
        { { .busy = 100, .all = 1000, .processors = 1 }, true },
    };
    const struct desktop_load from = { .busy = 100, .all = 1000, .processors = 1 };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(desktop_load_busy(&from, &rows[i].to), rows[i].busy);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_linux_counts_is_read),
        cmocka_unit_test(what_it_does_not_count_is_refused),
        cmocka_unit_test(a_third_of_one_processor_is_busy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
