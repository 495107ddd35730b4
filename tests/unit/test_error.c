#include "kernel/base/error.h"

#include <errno.h>

#include "kernel/base/utf8.h"
#include "tests/support/check.h"

static void setting_fills_code_and_text(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_false(error_set(&err, ERR_LIMIT, "at most %d", 5));
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(err.os_errno, 0);
    assert_string_equal(err.text, "at most 5");
}

static void null_is_allowed_everywhere(void **state)
{
    (void)state;
    assert_false(error_set(NULL, ERR_IO, "x"));
    assert_false(error_set_errno(NULL, EIO, "x"));
    assert_false(error_prefix(NULL, "x"));
    error_clear(NULL);
}

static void errno_decides_the_code(void **state)
{
    static const struct {
        int os_errno;
        enum error_code want;
    } rows[] = {
        { ENOMEM, ERR_NOMEM },
        { ENOENT, ERR_NOT_FOUND },
        { EACCES, ERR_DENIED },
        { EPERM, ERR_DENIED },
        { EEXIST, ERR_EXISTS },
        { ETIMEDOUT, ERR_TIMEOUT },
        { EIO, ERR_IO },
        { EMFILE, ERR_IO },
        { ENOSYS, ERR_UNSUPPORTED },
        { ECANCELED, ERR_CANCELLED },
        { EPIPE, ERR_LOST },
        { EBUSY, ERR_BUSY },
        { 100000, ERR_IO },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        assert_false(error_set_errno(&err, rows[i].os_errno, "row %zu", i));
        assert_code(err, rows[i].want);
        assert_int_equal(err.os_errno, rows[i].os_errno);
    }
}

static void errno_text_follows(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    error_set_errno(&err, ENOENT, "open %s", "/x");
    assert_string_equal(err.text, "open /x: No such file or directory");
}

static void prefix_tells_the_way(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    error_set_errno(&err, EACCES, "open");
    assert_false(error_prefix(&err, "load policy %s", "p"));
    assert_string_equal(err.text, "load policy p: open: Permission denied");
    assert_code(err, ERR_DENIED);
    assert_int_equal(err.os_errno, EACCES);
}

static void prefix_of_a_silent_failure_is_our_own_fault(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_false(error_prefix(&err, "step"));
    assert_code(err, ERR_INTERNAL);
    assert_contains(err.text, "step");
}

static void a_cleared_error_can_be_set_again(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    error_set(&err, ERR_BUSY, "a");
    error_clear(&err);
    assert_string_equal(err.text, "");
    error_set(&err, ERR_LOST, "b");
    assert_code(err, ERR_LOST);
}

/* Every place where a character can be cut, on all three ways to fill the text. */
static void is_cut_where_a_character_ends(void **state)
{
    char text[2048];

    (void)state;
    for (size_t shift = 0; shift < 5; shift++) {
        struct error err = ERROR_INIT;
        size_t len;

        memset(text, 'a', shift);
        text[shift] = '\0';
        for (int i = 0; i < 300; i++)
            memcpy(text + shift + i * 3, "\u20ac", 4);
        error_set(&err, ERR_IO, "%s", text);
        len = strlen(err.text);
        assert_in_range(len, sizeof err.text - 4, sizeof err.text - 1);
        assert_true(utf8_valid(err.text, len));
        error_prefix(&err, "p");
        assert_true(utf8_valid(err.text, strlen(err.text)));
        error_clear(&err);
        error_set_errno(&err, EIO, "%.*s", (int)(shift + 500 / 3 * 3), text);
        assert_true(utf8_valid(err.text, strlen(err.text)));
    }
}

static void bytes_that_are_not_utf8_become_question_marks(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "a\xff"
          "b",
          "a?b" },
        { "\xe2\x82", "??" },
        { "\xe2\x82\xac\x80", "\xe2\x82\xac?" },
        { "\xf0\x9f\x98\x80 ok", "\xf0\x9f\x98\x80 ok" },
        { "\xed\xa0\x80", "???" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        error_set(&err, ERR_IO, "%s", rows[i].in);
        assert_string_equal(err.text, rows[i].out);
    }
}

static void every_code_has_a_name(void **state)
{
    (void)state;
    for (unsigned code = 0; code < ERR_CODE_COUNT; code++) {
        assert_non_null(error_code_name((enum error_code)code));
        assert_string_not_equal(error_code_name((enum error_code)code), "unknown");
        for (unsigned other = 0; other < code; other++)
            assert_string_not_equal(error_code_name((enum error_code)code),
                                    error_code_name((enum error_code)other));
    }
    assert_string_equal(error_code_name(ERR_NOT_FOUND), "not_found");
    assert_string_equal(error_code_name(ERR_CODE_COUNT), "unknown");
    assert_string_equal(error_code_name((enum error_code) - 1), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(setting_fills_code_and_text),
        cmocka_unit_test(null_is_allowed_everywhere),
        cmocka_unit_test(errno_decides_the_code),
        cmocka_unit_test(errno_text_follows),
        cmocka_unit_test(prefix_tells_the_way),
        cmocka_unit_test(prefix_of_a_silent_failure_is_our_own_fault),
        cmocka_unit_test(a_cleared_error_can_be_set_again),
        cmocka_unit_test(is_cut_where_a_character_ends),
        cmocka_unit_test(bytes_that_are_not_utf8_become_question_marks),
        cmocka_unit_test(every_code_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
