/* Unit tests for tools/browser_keys. */
#include "tests/support/check.h"
#include "tools/browser_keys.h"

static void reads_keys_with_their_modifiers(void **state)
{
    static const struct {
        const char *name, *key, *code, *text;
        int number;
        unsigned modifiers;
    } rows[] = {
        { "Enter", "Enter", "Enter", "\r", 13, 0 },
        { "return", "Enter", "Enter", "\r", 13, 0 },
        { "Tab", "Tab", "Tab", "", 9, 0 },
        { "Up", "ArrowUp", "ArrowUp", "", 38, 0 },
        { "F1", "F1", "F1", "", 112, 0 },
        { "F12", "F12", "F12", "", 123, 0 },
        { "a", "a", "KeyA", "a", 65, 0 },
        { "A", "A", "KeyA", "A", 65, 0 },
        { "5", "5", "Digit5", "5", 53, 0 },
        { "%", "%", "Digit5", "%", 53, 0 },
        { "?", "?", "Slash", "?", 191, 0 },
        { "+", "+", "Equal", "+", 187, 0 },
        { "F", "F", "KeyF", "F", 70, 0 },
        { " ", " ", "Space", " ", 32, 0 },
        { "ü", "ü", "", "ü", 0, 0 },
        { "Control+a", "a", "KeyA", "", 65, BROWSER_CONTROL },
        { "ctrl+A", "A", "KeyA", "", 65, BROWSER_CONTROL },
        { "Shift+a", "A", "KeyA", "A", 65, BROWSER_SHIFT },
        { "Shift+1", "!", "Digit1", "!", 49, BROWSER_SHIFT },
        { "Control++", "+", "Equal", "", 187, BROWSER_CONTROL },
        { "Control+Shift+Tab", "Tab", "Tab", "", 9, BROWSER_CONTROL | BROWSER_SHIFT },
        { "Alt+Meta+F4", "F4", "F4", "", 115, BROWSER_ALT | BROWSER_META },
        { "Control", "Control", "ControlLeft", "", 17, 0 },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct browser_key k;

        if (!browser_key(rows[i].name, strlen(rows[i].name), &k, &err))
            fail_msg("%s: %s", rows[i].name, err.text);
        if (strcmp(k.key, rows[i].key) != 0 || strcmp(k.code, rows[i].code) != 0 ||
            strcmp(k.text, rows[i].text) != 0 || k.number != rows[i].number ||
            k.modifiers != rows[i].modifiers)
            fail_msg("%s: %s %s \"%s\" %d %u", rows[i].name, k.key, k.code, k.text, k.number,
                     k.modifiers);
    }
}

static void every_character_of_a_keyboard_types_itself(void **state)
{
    (void)state;
    for (char c = '!'; c < 0x7f; c++) {
        struct error err = ERROR_INIT;
        struct browser_key k;

        assert_ok(browser_key(&c, 1, &k, &err), err);
        assert_int_equal(k.text[0], c);
        assert_int_not_equal(k.number, 0);
        assert_true(k.code[0] != '\0');
    }
}

static void refuses_what_is_no_key(void **state)
{
    static const char *const rows[] = { "",
                                        "ab",
                                        "Control+",
                                        "Contrl+x",
                                        "F13",
                                        "F0",
                                        "F1x",
                                        "üü",
                                        "Shift+Control"
                                        "+"
                                        "nothing" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct browser_key k;

        if (browser_key(rows[i], strlen(rows[i]), &k, &err) || err.code != ERR_INVALID ||
            !strstr(err.text, "send Enter"))
            fail_msg("%s: %s", rows[i], err.text);
    }
}

static void names_the_keys_of_modifiers(void **state)
{
    struct browser_key k;
    (void)state;

    browser_key_modifier(BROWSER_SHIFT, &k);
    assert_string_equal(k.key, "Shift");
    assert_int_equal(k.number, 16);
    browser_key_modifier(BROWSER_META, &k);
    assert_string_equal(k.code, "MetaLeft");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_keys_with_their_modifiers),
        cmocka_unit_test(every_character_of_a_keyboard_types_itself),
        cmocka_unit_test(refuses_what_is_no_key),
        cmocka_unit_test(names_the_keys_of_modifiers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
