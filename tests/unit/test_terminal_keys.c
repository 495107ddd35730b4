#include "tools/terminal_keys.h"

#include "tests/support/check.h"

static const struct {
    const char *key, *bytes;
    size_t len;
} rows[] = {
    { "Enter", "\r", 1 },
    { "enter", "\r", 1 },
    { "RETURN", "\r", 1 },
    { "Tab", "\t", 1 },
    { "BTab", "\x1b[Z", 3 },
    { "Escape", "\x1b", 1 },
    { "Esc", "\x1b", 1 },
    { "Space", " ", 1 },
    { "Backspace", "\x7f", 1 },
    { "Up", "\x1b[A", 3 },
    { "Down", "\x1b[B", 3 },
    { "Right", "\x1b[C", 3 },
    { "Left", "\x1b[D", 3 },
    { "Home", "\x1b[H", 3 },
    { "End", "\x1b[F", 3 },
    { "Insert", "\x1b[2~", 4 },
    { "Delete", "\x1b[3~", 4 },
    { "PageUp", "\x1b[5~", 4 },
    { "PageDown", "\x1b[6~", 4 },
    { "F1", "\x1bOP", 3 },
    { "F4", "\x1bOS", 3 },
    { "F5", "\x1b[15~", 5 },
    { "F12", "\x1b[24~", 5 },
    { "a", "a", 1 },
    { "Z", "Z", 1 },
    { ":", ":", 1 },
    { " ", " ", 1 },
    { "\xc3\xa9", "\xc3\xa9", 2 },
    { "\xf0\x9f\x99\x82", "\xf0\x9f\x99\x82", 4 },
    { "C-c", "\x03", 1 },
    { "C-C", "\x03", 1 },
    { "C-a", "\x01", 1 },
    { "C-z", "\x1a", 1 },
    { "C-[", "\x1b", 1 },
    { "C-\\", "\x1c", 1 },
    { "C-_", "\x1f", 1 },
    { "C-@", "\0", 1 },
    { "C-Space", "\0", 1 },
    { "C-?", "\x7f", 1 },
    { "Ctrl-d", "\x04", 1 },
    { "ctrl+D", "\x04", 1 },
    { "M-x", "\x1bx", 2 },
    { "Alt-x", "\x1bx", 2 },
    { "alt+X", "\x1bX", 2 },
    { "M-Enter", "\x1b\r", 2 },
    { "M-Up", "\x1b\x1b[A", 4 },
    { "M-C-c", "\x1b\x03", 2 },
    { "M-\xc3\xa9", "\x1b\xc3\xa9", 3 },
    { "-", "-", 1 },
};

static void sends_what_xterm_sends(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct error err = ERROR_INIT;

        if (!terminal_key(&out, rows[i].key, &err))
            fail_msg("%s: %s", rows[i].key, err.text);
        if (out.len != rows[i].len || memcmp(out.data, rows[i].bytes, out.len) != 0)
            fail_msg("%s is %zu bytes: %s", rows[i].key, out.len, out.data + 1);
    }
}

static void names_the_keys_when_one_is_unknown(void **state)
{
    static const char *const unknown[] = {
        "",     "Entr", "F13",   "F0", "C-",      "C-cc", "C-1",  "M-",   "M-M-x",
        "Ctrl", "ab",   "C-M-x", "^C", "C-Enter", "M-ab", "Alt-", "C--x", "\xc3\xa9\xc3\xa9"
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct error err = ERROR_INIT;

        assert_true(buf_append_str(&out, "before"));
        if (terminal_key(&out, unknown[i], &err))
            fail_msg("%s is a key", unknown[i]);
        assert_code(err, ERR_INVALID);
        assert_contains(err.text, "send Enter, Tab");
        assert_int_equal(out.len, 6); /* nothing of it is typed */
    }
}

static void a_name_may_be_as_long_as_a_client_likes(void **state)
{
    size_t len = 4u << 20;
    char *key = malloc(len + 1);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    (void)state;

    assert_non_null(key);
    for (size_t i = 0; i < len; i++)
        key[i] = i % 2 ? '-' : 'M';
    key[len] = '\0';
    assert_false(terminal_key(&out, key, &err));
    assert_code(err, ERR_INVALID);
    assert_contains(err.text, "send Enter");
    free(key);
}

static void tells_a_lack_of_memory_from_an_unknown_key(void **state)
{
    static const char *const known[] = { "Enter", "C-c", "M-x", "x", "M-F5" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        FAULT_EACH(n)
        {
            CLEANUP(buf_fini) struct buf out = BUF_INIT;
            struct error err = ERROR_INIT;
            bool ok = terminal_key(&out, known[i], &err);

            FAULT_DONE(n);
            assert_int_equal(ok, n_last);
            if (!ok)
                assert_code(err, ERR_NOMEM);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_what_xterm_sends),
        cmocka_unit_test(names_the_keys_when_one_is_unknown),
        cmocka_unit_test(a_name_may_be_as_long_as_a_client_likes),
        cmocka_unit_test(tells_a_lack_of_memory_from_an_unknown_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
