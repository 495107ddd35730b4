#include "kernel/result.h"

#include "kernel/base/json.h"
#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "tests/support/check.h"

static char *filled(const char *unit, size_t bytes)
{
    size_t len = strlen(unit);
    char *text = malloc(bytes + 1);

    assert_non_null(text);
    for (size_t i = 0; i < bytes; i++)
        text[i] = unit[i % len];
    text[bytes] = '\0';
    return text;
}

static void freep(char **text)
{
    free(*text);
}

static const char *text_of(const struct result *r, size_t i)
{
    assert_true(i < r->count && r->blocks[i].kind == RESULT_TEXT);
    return buf_str(&r->blocks[i].data);
}

static void keeps_what_fits_as_it_is(void **state)
{
    static const size_t rows[] = { 0, 1, 5, 1000, LIMIT_RESULT_TEXT_BYTES };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(freep) char *text = filled("abcdefg\n", rows[i]);
        CLEANUP(result_fini) struct result r;
        struct error err = ERROR_INIT;

        result_init(&r);
        assert_ok(result_text(&r, text, rows[i], "unused", &err), err);
        assert_int_equal(r.count, 1);
        assert_int_equal(r.text_bytes, rows[i]);
        assert_string_equal(text_of(&r, 0), text);
    }
}

static void keeps_head_and_tail_of_what_is_too_long(void **state)
{
    static const struct {
        const char *label, *unit;
        size_t bytes;
    } rows[] = {
        { "one byte over", "0123456789", LIMIT_RESULT_TEXT_BYTES + 1 },
        { "a megabyte", "0123456789", 1u << 20 },
        { "two-byte characters", "\xc3\xa4", 100001 },
        { "three-byte characters", "\xe2\x82\xac", 100000 },
        { "four-byte characters", "\xf0\x9f\x99\x82", 100003 },
        { "not a character at all", "\xff\xfe", 100000 },
        { "continuation bytes alone", "\x80", 100000 },
        { "a bad byte here and there", "some words and \xff then more", 100000 },
        { "characters cut short", "\xe2\x82", 100000 },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(freep) char *text = filled(rows[i].unit, rows[i].bytes);
        CLEANUP(result_fini) struct result r;
        struct error err = ERROR_INIT;
        const char *got, *mark;
        size_t len, tail;

        result_init(&r);
        assert_ok(result_text(&r, text, rows[i].bytes, "read with terminal_read", &err), err);
        got = text_of(&r, 0);
        len = r.blocks[0].data.len;
        mark = strstr(got, "\n[… ");
        if (!mark || !strstr(mark, " bytes left out; read with terminal_read]\n"))
            fail_msg("%s: no mark in %.60s", rows[i].label, got);
        tail = len - (size_t)(strstr(mark, "]\n") + 2 - got);
        if (len > LIMIT_RESULT_TEXT_BYTES || len < LIMIT_RESULT_TEXT_BYTES * 9 / 10 ||
            r.text_bytes != len)
            fail_msg("%s: %zu bytes", rows[i].label, len);
        if (!utf8_valid(got, len))
            fail_msg("%s: not valid", rows[i].label);
        if ((size_t)(mark - got) < tail * 3 / 2 || tail < LIMIT_RESULT_TEXT_BYTES / 5)
            fail_msg("%s: head %zu, tail %zu", rows[i].label, (size_t)(mark - got), tail);
    }
}

static void says_how_much_is_missing(void **state)
{
    CLEANUP(freep) char *text = filled("0123456789", 1000000);
    CLEANUP(result_fini) struct result r;
    struct error err = ERROR_INIT;
    size_t left_out = 0, shown;
    const char *at;
    (void)state;

    result_init(&r);
    assert_ok(result_text(&r, text, 1000000, NULL, &err), err);
    at = strstr(text_of(&r, 0), "\n[… ") + strlen("\n[… ");
    shown = (size_t)(at - text_of(&r, 0)) - strlen("\n[… ");
    for (; *at != ' '; at++) {
        if (*at != ',')
            left_out = left_out * 10 + (size_t)(*at - '0');
    }
    at = strstr(at, "]\n") + 2;
    shown += strlen(at);
    assert_int_equal(shown + left_out, 1000000);
    /* the tail really is the end */
    assert_string_equal(at, text + 1000000 - strlen(at));
}

static void repairs_what_is_not_utf8(void **state)
{
    CLEANUP(result_fini) struct result r;
    struct error err = ERROR_INIT;
    (void)state;

    result_init(&r);
    assert_ok(result_text(&r,
                          "a\xff"
                          "b",
                          3, NULL, &err),
              err);
    assert_string_equal(text_of(&r, 0), "a\xef\xbf\xbd"
                                        "b");
    assert_int_equal(r.text_bytes, 5);
}

static void keeps_text_without_a_mark_when_only_repair_makes_it_long(void **state)
{
    /* Fits whole, but not within a third: goes the way of what is cut, and nothing is missing. */
    CLEANUP(freep) char *text = filled("abcdefghij", 20000);
    CLEANUP(result_fini) struct result r;
    struct error err = ERROR_INIT;
    (void)state;

    text[9999] = '\xff';
    result_init(&r);
    assert_ok(result_text(&r, text, 20000, "more", &err), err);
    assert_int_equal(r.text_bytes, 20002);
    assert_null(strstr(text_of(&r, 0), "left out"));
}

static void leaves_room_for_the_status_after_a_flood(void **state)
{
    CLEANUP(freep) char *flood = filled("y\n", 1u << 20);
    CLEANUP(result_fini) struct result r;
    struct error err = ERROR_INIT;
    (void)state;

    result_init(&r);
    assert_ok(result_text(&r, flood, 1u << 20, "use terminal_read", &err), err);
    assert_ok(result_text(&r, flood, 1u << 20, NULL, &err), err);
    assert_ok(result_printf(&r, &err, "exit code %d", 0), err);
    assert_string_equal(text_of(&r, 2), "exit code 0");
    assert_true(r.text_bytes <= LIMIT_RESULT_TEXT_BYTES);
}

static void never_passes_its_limit_however_it_is_filled(void **state)
{
    CLEANUP(freep) char *text = filled("x", 40000);
    (void)state;

    for (size_t step = 1; step < 40000; step = step * 3 + 1) {
        CLEANUP(result_fini) struct result r;

        result_init(&r);
        for (int i = 0; i < RESULT_BLOCKS_MAX + 2; i++) {
            struct error err = ERROR_INIT;

            if (!result_text(&r, text, step, "m", &err))
                assert_code(err, ERR_LIMIT);
            assert_true(r.text_bytes <= LIMIT_RESULT_TEXT_BYTES);
        }
    }
}

static void prints_short_and_long_text(void **state)
{
    CLEANUP(freep) char *text = filled("x", 5000);
    CLEANUP(result_fini) struct result r;
    struct error err = ERROR_INIT;
    (void)state;

    result_init(&r);
    assert_ok(result_printf(&r, &err, "%d files", 3), err);
    assert_ok(result_printf(&r, &err, "%s", text), err);
    assert_string_equal(text_of(&r, 0), "3 files");
    assert_string_equal(text_of(&r, 1), text);
}

static void bounds_images(void **state)
{
    static const struct {
        const char *label, *type;
        size_t len;
        enum error_code want;
    } rows[] = {
        { "png", "image/png", 10, ERR_NONE },
        { "jpeg", "image/jpeg", 10, ERR_NONE },
        { "webp", "image/webp", 10, ERR_NONE },
        { "svg", "image/svg+xml", 10, ERR_INVALID },
        { "empty", "image/png", 0, ERR_LIMIT },
        { "the largest", "image/png", LIMIT_IMAGE_BYTES, ERR_NONE },
        { "too large", "image/png", LIMIT_IMAGE_BYTES + 1, ERR_LIMIT },
        { "one too many", "image/png", 10, ERR_LIMIT },
    };
    CLEANUP(freep) char *data = filled("\x89P", LIMIT_IMAGE_BYTES + 1);
    CLEANUP(result_fini) struct result r;
    (void)state;

    result_init(&r);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        bool ok = result_image(&r, data, rows[i].len, rows[i].type, &err);

        if (ok != (rows[i].want == ERR_NONE) || err.code != rows[i].want)
            fail_msg("%s: %s", rows[i].label, err.text);
    }
    assert_int_equal(r.count, LIMIT_IMAGES);
    assert_int_equal(r.text_bytes, 0);
    assert_string_equal(r.blocks[1].mime_type, "image/jpeg");
}

static void gives_data_twice(void **state)
{
    CLEANUP(result_fini) struct result r;
    struct error err = ERROR_INIT;
    (void)state;

    result_init(&r);
    assert_ok(result_data(&r, json_pack("{s:i,s:[s]}", "n", 1, "list", "a"), &err), err);
    assert_string_equal(text_of(&r, 0), "{\"n\":1,\"list\":[\"a\"]}");
    assert_int_equal(json_integer_value(json_object_get(r.structured, "n")), 1);
}

static void refuses_data_that_is_too_long(void **state)
{
    CLEANUP(freep) char *text = filled("x", LIMIT_RESULT_TEXT_BYTES);
    CLEANUP(result_fini) struct result r;
    struct error err = ERROR_INIT;
    (void)state;

    result_init(&r);
    assert_false(result_data(&r, json_string(text), &err));
    assert_code(err, ERR_LIMIT);
    assert_null(r.structured);
    assert_int_equal(r.count, 0);
    error_clear(&err);
    assert_false(result_data(&r, NULL, &err));
    assert_code(err, ERR_NOMEM);
}

static void failing_forgets_everything_else(void **state)
{
    CLEANUP(result_fini) struct result r;
    struct error err = ERROR_INIT, why = ERROR_INIT;
    (void)state;

    result_init(&r);
    assert_ok(result_text(&r, "partial", 7, NULL, &err), err);
    assert_ok(result_data(&r, json_object(), &err), err);
    error_set(&why, ERR_NOT_FOUND, "no such run; terminal_run makes one");
    result_fail(&r, &why);
    assert_true(r.is_error);
    assert_int_equal(r.count, 1);
    assert_null(r.structured);
    assert_string_equal(text_of(&r, 0), "no such run; terminal_run makes one");
}

static void failing_needs_no_memory(void **state)
{
    CLEANUP(result_fini) struct result r;
    struct error why = ERROR_INIT;
    (void)state;

    result_init(&r);
    error_set(&why, ERR_IO, "bad disk");
    fault_arm(0);
    result_fail(&r, &why);
    assert_true(fault_disarm());
    assert_true(r.is_error);
    assert_int_equal(r.count, 0);
}

static void survives_every_allocation_failure(void **state)
{
    CLEANUP(freep) char *text = filled("words \xff", 100000);
    (void)state;

    FAULT_EACH(n)
    {
        CLEANUP(result_fini) struct result r;
        struct error err = ERROR_INIT;
        json_t *value;
        bool ok;

        result_init(&r);
        value = json_pack("{s:i}", "n", 1);
        ok = result_text(&r, text, 100000, "more", &err) &&
             result_printf(&r, &err, "%s", "short") &&
             result_image(&r, text, 5000, "image/png", &err);
        if (ok)
            ok = result_data(&r, value, &err);
        else
            json_decref(value);
        FAULT_DONE(n);
        if (!ok)
            assert_code(err, ERR_NOMEM);
        else
            assert_int_equal(r.count, 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_fits_as_it_is),
        cmocka_unit_test(keeps_head_and_tail_of_what_is_too_long),
        cmocka_unit_test(says_how_much_is_missing),
        cmocka_unit_test(repairs_what_is_not_utf8),
        cmocka_unit_test(keeps_text_without_a_mark_when_only_repair_makes_it_long),
        cmocka_unit_test(leaves_room_for_the_status_after_a_flood),
        cmocka_unit_test(never_passes_its_limit_however_it_is_filled),
        cmocka_unit_test(prints_short_and_long_text),
        cmocka_unit_test(bounds_images),
        cmocka_unit_test(gives_data_twice),
        cmocka_unit_test(refuses_data_that_is_too_long),
        cmocka_unit_test(failing_forgets_everything_else),
        cmocka_unit_test(failing_needs_no_memory),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
