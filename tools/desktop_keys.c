#include "tools/desktop_keys.h"

#include <ctype.h>
#include <linux/input-event-codes.h>
#include <string.h>
#include <strings.h>

/* What each key types: alone, and with shift. */
static const struct {
    uint16_t code;
    char plain, shifted;
} printing[] = {
    { KEY_1, '1', '!' },           { KEY_2, '2', '@' },          { KEY_3, '3', '#' },
    { KEY_4, '4', '$' },           { KEY_5, '5', '%' },          { KEY_6, '6', '^' },
    { KEY_7, '7', '&' },           { KEY_8, '8', '*' },          { KEY_9, '9', '(' },
    { KEY_0, '0', ')' },           { KEY_MINUS, '-', '_' },      { KEY_EQUAL, '=', '+' },
    { KEY_LEFTBRACE, '[', '{' },   { KEY_RIGHTBRACE, ']', '}' }, { KEY_SEMICOLON, ';', ':' },
    { KEY_APOSTROPHE, '\'', '"' }, { KEY_GRAVE, '`', '~' },      { KEY_BACKSLASH, '\\', '|' },
    { KEY_COMMA, ',', '<' },       { KEY_DOT, '.', '>' },        { KEY_SLASH, '/', '?' },
    { KEY_SPACE, ' ', ' ' },       { KEY_ENTER, '\n', '\n' },    { KEY_TAB, '\t', '\t' },
    { KEY_A, 'a', 'A' },           { KEY_B, 'b', 'B' },          { KEY_C, 'c', 'C' },
    { KEY_D, 'd', 'D' },           { KEY_E, 'e', 'E' },          { KEY_F, 'f', 'F' },
    { KEY_G, 'g', 'G' },           { KEY_H, 'h', 'H' },          { KEY_I, 'i', 'I' },
    { KEY_J, 'j', 'J' },           { KEY_K, 'k', 'K' },          { KEY_L, 'l', 'L' },
    { KEY_M, 'm', 'M' },           { KEY_N, 'n', 'N' },          { KEY_O, 'o', 'O' },
    { KEY_P, 'p', 'P' },           { KEY_Q, 'q', 'Q' },          { KEY_R, 'r', 'R' },
    { KEY_S, 's', 'S' },           { KEY_T, 't', 'T' },          { KEY_U, 'u', 'U' },
    { KEY_V, 'v', 'V' },           { KEY_W, 'w', 'W' },          { KEY_X, 'x', 'X' },
    { KEY_Y, 'y', 'Y' },           { KEY_Z, 'z', 'Z' },
};

/* Compared without regard to case. */
static const struct {
    const char *name;
    uint16_t code;
} named[] = {
    { "Return", KEY_ENTER },
    { "Enter", KEY_ENTER },
    { "KP_Enter", KEY_KPENTER },
    { "Tab", KEY_TAB },
    { "Escape", KEY_ESC },
    { "Esc", KEY_ESC },
    { "BackSpace", KEY_BACKSPACE },
    { "Delete", KEY_DELETE },
    { "Del", KEY_DELETE },
    { "Insert", KEY_INSERT },
    { "Home", KEY_HOME },
    { "End", KEY_END },
    { "Page_Up", KEY_PAGEUP },
    { "Prior", KEY_PAGEUP },
    { "PageUp", KEY_PAGEUP },
    { "Page_Down", KEY_PAGEDOWN },
    { "Next", KEY_PAGEDOWN },
    { "PageDown", KEY_PAGEDOWN },
    { "Left", KEY_LEFT },
    { "Right", KEY_RIGHT },
    { "Up", KEY_UP },
    { "Down", KEY_DOWN },
    { "ctrl", KEY_LEFTCTRL },
    { "control", KEY_LEFTCTRL },
    { "Control_L", KEY_LEFTCTRL },
    { "Control_R", KEY_RIGHTCTRL },
    { "alt", KEY_LEFTALT },
    { "Alt_L", KEY_LEFTALT },
    { "Alt_R", KEY_RIGHTALT },
    { "ISO_Level3_Shift", KEY_RIGHTALT },
    { "shift", KEY_LEFTSHIFT },
    { "Shift_L", KEY_LEFTSHIFT },
    { "Shift_R", KEY_RIGHTSHIFT },
    { "super", KEY_LEFTMETA },
    { "meta", KEY_LEFTMETA },
    { "cmd", KEY_LEFTMETA },
    { "win", KEY_LEFTMETA },
    { "Super_L", KEY_LEFTMETA },
    { "Super_R", KEY_RIGHTMETA },
    { "Menu", KEY_COMPOSE },
    { "Caps_Lock", KEY_CAPSLOCK },
    { "Num_Lock", KEY_NUMLOCK },
    { "Scroll_Lock", KEY_SCROLLLOCK },
    { "Print", KEY_SYSRQ },
    { "Pause", KEY_PAUSE },
    { "F1", KEY_F1 },
    { "F2", KEY_F2 },
    { "F3", KEY_F3 },
    { "F4", KEY_F4 },
    { "F5", KEY_F5 },
    { "F6", KEY_F6 },
    { "F7", KEY_F7 },
    { "F8", KEY_F8 },
    { "F9", KEY_F9 },
    { "F10", KEY_F10 },
    { "F11", KEY_F11 },
    { "F12", KEY_F12 },
    { "KP_0", KEY_KP0 },
    { "KP_1", KEY_KP1 },
    { "KP_2", KEY_KP2 },
    { "KP_3", KEY_KP3 },
    { "KP_4", KEY_KP4 },
    { "KP_5", KEY_KP5 },
    { "KP_6", KEY_KP6 },
    { "KP_7", KEY_KP7 },
    { "KP_8", KEY_KP8 },
    { "KP_9", KEY_KP9 },
    { "KP_Add", KEY_KPPLUS },
    { "KP_Subtract", KEY_KPMINUS },
    { "KP_Multiply", KEY_KPASTERISK },
    { "KP_Divide", KEY_KPSLASH },
    { "KP_Decimal", KEY_KPDOT },
};

/* Names of characters, as X has them. */
static const struct {
    const char *name;
    char c;
} characters[] = {
    { "space", ' ' },      { "exclam", '!' },       { "quotedbl", '"' },    { "numbersign", '#' },
    { "dollar", '$' },     { "percent", '%' },      { "ampersand", '&' },   { "apostrophe", '\'' },
    { "parenleft", '(' },  { "parenright", ')' },   { "asterisk", '*' },    { "plus", '+' },
    { "comma", ',' },      { "minus", '-' },        { "period", '.' },      { "slash", '/' },
    { "colon", ':' },      { "semicolon", ';' },    { "less", '<' },        { "equal", '=' },
    { "greater", '>' },    { "question", '?' },     { "at", '@' },          { "bracketleft", '[' },
    { "backslash", '\\' }, { "bracketright", ']' }, { "asciicircum", '^' }, { "underscore", '_' },
    { "grave", '`' },      { "braceleft", '{' },    { "bar", '|' },         { "braceright", '}' },
    { "asciitilde", '~' },
};

bool desktop_key_of(char c, struct desktop_key *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(printing); i++) {
        if (printing[i].plain == c || printing[i].shifted == c) {
            *ret =
                (struct desktop_key){ .code = printing[i].code, .shift = printing[i].plain != c };
            return true;
        }
    }
    return false;
}

static bool key_by_name(const char *name, size_t len, struct desktop_key *ret)
{
    if (len == 1)
        return desktop_key_of(name[0], ret);
    for (size_t i = 0; i < ARRAY_LEN(named); i++) {
        if (strlen(named[i].name) == len && strncasecmp(named[i].name, name, len) == 0) {
            *ret = (struct desktop_key){ .code = named[i].code };
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(characters); i++)
        if (strlen(characters[i].name) == len && strncasecmp(characters[i].name, name, len) == 0)
            return desktop_key_of(characters[i].c, ret);
    return false;
}

bool desktop_chord(const char *text, struct desktop_chord *ret, struct error *err)
{
    ret->count = 0;
    while (*text) {
        /* A plus sign at the beginning of a part is the key. */
        size_t len = 1 + strcspn(text + 1, "+");

        if (ret->count == DESKTOP_CHORD_MAX)
            return error_set(err, ERR_INVALID, "more than %u keys at once", DESKTOP_CHORD_MAX);
        if (!key_by_name(text, len, &ret->keys[ret->count]))
            return error_set(err, ERR_INVALID,
                             "\"%.*s\" is no key; use names such as Return, Escape, Page_Down, F5, "
                             "a, ctrl+s, alt+Tab, or the action \"type\" for text",
                             (int)len, text);
        ret->count++;
        text += len;
        if (*text == '+' && !text[1])
            return error_set(err, ERR_INVALID, "a key is missing after the last \"+\"");
        text += *text == '+';
    }
    return ret->count > 0 || error_set(err, ERR_INVALID, "no key is named");
}
