#include "tools/desktop_keys.h"

#include <linux/input-event-codes.h>

#include "tests/support/check.h"

static void chords_are_named_as_xdotool_has_them(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        uint16_t last;
        bool shift;
    } rows[] = {
        { "Return", 1, KEY_ENTER, false },     { "return", 1, KEY_ENTER, false },
        { "ctrl+s", 2, KEY_S, false },         { "ctrl+shift+T", 3, KEY_T, true },
        { "alt+Tab", 2, KEY_TAB, false },      { "Page_Down", 1, KEY_PAGEDOWN, false },
        { "F12", 1, KEY_F12, false },          { "plus", 1, KEY_EQUAL, true },
        { "+", 1, KEY_EQUAL, true },           { "ctrl++", 2, KEY_EQUAL, true },
        { "ctrl+minus", 2, KEY_MINUS, false }, { "super", 1, KEY_LEFTMETA, false },
        { "KP_Enter", 1, KEY_KPENTER, false }, { "?", 1, KEY_SLASH, true },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct desktop_chord chord;

        assert_ok(desktop_chord(rows[i].text, &chord, &err), err);
        assert_int_equal(chord.count, rows[i].count);
        assert_int_equal(chord.keys[chord.count - 1].code, rows[i].last);
        assert_int_equal(chord.keys[chord.count - 1].shift, rows[i].shift);
    }
}

static void what_is_no_key_is_named(void **state)
{
    static const struct {
        const char *text, *part;
    } rows[] = {
        { "", "no key is named" },
        { "ctrl+", "missing after the last" },
        { "ctrl+strange", "\"strange\" is no key" },
        { "hello", "the action \"type\"" },
        { "\xc3\xa4", "is no key" },
        { "a+b+c+d+e+f+g+h+i", "more than 8 keys" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct desktop_chord chord;

        assert_false(desktop_chord(rows[i].text, &chord, &err));
        assert_code(err, ERR_INVALID);
        assert_contains(err.text, rows[i].part);
    }
}

static void every_printable_character_of_ascii_has_a_key(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        struct desktop_key key;
        bool has = (c >= ' ' && c < 0x7f) || c == '\n' || c == '\t';

        assert_int_equal(desktop_key_of((char)c, &key), has);
        assert_true(!has || (key.code > KEY_RESERVED && key.code < KEY_MAX));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chords_are_named_as_xdotool_has_them),
        cmocka_unit_test(what_is_no_key_is_named),
        cmocka_unit_test(every_printable_character_of_ascii_has_a_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
