#include "tests/support/check.h"

#include "kernel/computer/ring.h"

/* What the ring gives from @offset on, as text; *ret_offset is where it ended. */
static char *text_from(const struct ring *r, uint64_t offset, size_t max, uint64_t *ret_offset)
{
    struct buf out = BUF_INIT;
    long n = ring_read(r, &offset, max, &out);

    assert_true(n >= 0 && (size_t)n == out.len);
    if (ret_offset)
        *ret_offset = offset;
    if (!out.data)
        assert_true(buf_append_str(&out, ""));
    return buf_take(&out, NULL);
}

#define assert_text(ring, offset, want)                        \
    do {                                                       \
        char *text_ = text_from((ring), (offset), 1000, NULL); \
        assert_string_equal(text_, (want));                    \
        free(text_);                                           \
    } while (0)

static void keeps_the_newest_bytes(void **state)
{
    struct ring r;
    (void)state;

    ring_init(&r, 10);
    ring_write(&r, "abcdef", 6);
    assert_text(&r, 0, "abcdef");
    ring_write(&r, "ghijkl", 6);
    assert_int_equal(ring_start(&r), 2);
    assert_int_equal(ring_end(&r), 12);
    assert_text(&r, 0, "cdefghijkl");
    assert_text(&r, 5, "fghijkl");
    ring_write(&r, "0123456789ABCDEF", 16); /* more than it holds */
    assert_int_equal(ring_start(&r), 18);
    assert_text(&r, 0, "6789ABCDEF");
    ring_fini(&r);
}

static void an_offset_is_moved_over_what_is_gone(void **state)
{
    struct ring r;
    uint64_t end;
    char *text;
    (void)state;

    ring_init(&r, 4);
    ring_write(&r, "abcdefgh", 8);
    text = text_from(&r, 1, 2, &end);
    assert_string_equal(text, "ef");
    assert_int_equal(end, 6);
    free(text);
    text = text_from(&r, 99, 2, &end); /* beyond the end there is nothing yet */
    assert_string_equal(text, "");
    assert_int_equal(end, 99);
    free(text);
    ring_fini(&r);
}

static void storage_grows_with_what_is_in_it(void **state)
{
    static uint8_t block[10000];
    struct ring r;
    (void)state;

    ring_init(&r, 1u << 20);
    assert_int_equal(r.cap, 0);
    ring_write(&r, block, 1);
    assert_int_equal(r.cap, RING_FIRST_BYTES);
    ring_write(&r, block, sizeof block);
    assert_int_equal(r.cap, 16384);
    assert_int_equal(ring_start(&r), 0);
    ring_consume(&r, 10001);
    ring_trim(&r, 16384);
    assert_int_equal(r.cap, 16384);
    ring_trim(&r, 16383);
    assert_int_equal(r.cap, 0);
    ring_write(&r, "x", 1);
    assert_text(&r, 0, "x");
    ring_fini(&r);
}

static void reserving_never_loses_anything(void **state)
{
    struct ring r;
    (void)state;

    ring_init(&r, 8);
    assert_true(ring_reserve(&r, 8));
    assert_false(ring_reserve(&r, 9));
    ring_write(&r, "abcde", 5);
    assert_false(ring_reserve(&r, 4));
    ring_consume(&r, 2);
    assert_true(ring_reserve(&r, 5));
    ring_write(&r, "fghij", 5); /* wraps */
    assert_text(&r, 0, "cdefghij");
    ring_fini(&r);
}

static void behaves_as_a_simple_model(void **state)
{
    char model[4000];
    struct ring r;
    uint32_t seed = 12345;
    size_t total = 0, start = 0;
    (void)state;

    ring_init(&r, 100);
    while (total < sizeof model - 300) {
        char piece[300];
        size_t n, take;

        seed = seed * 1103515245u + 12345u;
        n = (seed >> 16) % 250 / ((seed >> 8) % 2 ? 1 : 10);
        for (size_t i = 0; i < n; i++)
            model[total + i] = piece[i] = (char)('a' + (total + i) % 26);
        total += n;
        ring_write(&r, piece, n);
        start = MAX(start, total - MIN(total, 100));
        take = (seed >> 4) % 20;
        take = MIN(take, total - start);
        ring_consume(&r, take);
        start += take;

        assert_int_equal(ring_start(&r), start);
        assert_int_equal(ring_end(&r), total);
        model[total] = '\0';
        assert_text(&r, 0, model + start);
    }
    ring_fini(&r);
}

static void without_memory_the_oldest_goes(void **state)
{
    static uint8_t block[3 * RING_FIRST_BYTES];
    struct ring r;
    struct buf out = BUF_INIT;
    uint64_t offset = 0;
    (void)state;

    ring_init(&r, 1u << 20);
    fault_arm(0);
    ring_write(&r, "lost", 4);
    assert_true(fault_disarm());
    assert_int_equal(ring_start(&r), 4);
    assert_int_equal(ring_end(&r), 4);

    ring_write(&r, "kept", 4);
    fault_arm(0);
    ring_write(&r, block, sizeof block);
    assert_true(fault_disarm());
    assert_int_equal(ring_end(&r), 8 + sizeof block);
    assert_int_equal(r.len, RING_FIRST_BYTES);

    fault_arm(0);
    assert_int_equal(ring_read(&r, &offset, 10, &out), -1);
    assert_true(fault_disarm());
    assert_int_equal(offset, 0);
    ring_fini(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_newest_bytes),
        cmocka_unit_test(an_offset_is_moved_over_what_is_gone),
        cmocka_unit_test(storage_grows_with_what_is_in_it),
        cmocka_unit_test(reserving_never_loses_anything),
        cmocka_unit_test(behaves_as_a_simple_model),
        cmocka_unit_test(without_memory_the_oldest_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
