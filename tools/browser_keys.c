#include "tools/browser_keys.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "kernel/base/utf8.h"

static const struct {
    const char *name, *key, *code, *text;
    int number;
} named[] = {
    { "Enter", "Enter", "Enter", "\r", 13 },
    { "Return", "Enter", "Enter", "\r", 13 },
    { "Tab", "Tab", "Tab", "", 9 },
    { "Escape", "Escape", "Escape", "", 27 },
    { "Esc", "Escape", "Escape", "", 27 },
    { "Backspace", "Backspace", "Backspace", "", 8 },
    { "Delete", "Delete", "Delete", "", 46 },
    { "Insert", "Insert", "Insert", "", 45 },
    { "Space", " ", "Space", " ", 32 },
    { "ArrowUp", "ArrowUp", "ArrowUp", "", 38 },
    { "ArrowDown", "ArrowDown", "ArrowDown", "", 40 },
    { "ArrowLeft", "ArrowLeft", "ArrowLeft", "", 37 },
    { "ArrowRight", "ArrowRight", "ArrowRight", "", 39 },
    { "Up", "ArrowUp", "ArrowUp", "", 38 },
    { "Down", "ArrowDown", "ArrowDown", "", 40 },
    { "Left", "ArrowLeft", "ArrowLeft", "", 37 },
    { "Right", "ArrowRight", "ArrowRight", "", 39 },
    { "Home", "Home", "Home", "", 36 },
    { "End", "End", "End", "", 35 },
    { "PageUp", "PageUp", "PageUp", "", 33 },
    { "PageDown", "PageDown", "PageDown", "", 34 },
    { "ContextMenu", "ContextMenu", "ContextMenu", "", 93 },
    { "Shift", "Shift", "ShiftLeft", "", 16 },
    { "Control", "Control", "ControlLeft", "", 17 },
    { "Alt", "Alt", "AltLeft", "", 18 },
    { "Meta", "Meta", "MetaLeft", "", 91 },
};

static const struct {
    const char *name;
    enum browser_modifier modifier;
} modifiers[] = {
    { "Control", BROWSER_CONTROL }, { "Ctrl", BROWSER_CONTROL }, { "Shift", BROWSER_SHIFT },
    { "Alt", BROWSER_ALT },         { "Meta", BROWSER_META },    { "Cmd", BROWSER_META },
};

/* The other keys of a US keyboard: what they type without and with Shift. */
static const struct {
    const char *code;
    int number;
    char plain, shifted;
} signs[] = {
    { "Space", 32, ' ', ' ' },        { "Backquote", 192, '`', '~' },
    { "Minus", 189, '-', '_' },       { "Equal", 187, '=', '+' },
    { "BracketLeft", 219, '[', '{' }, { "BracketRight", 221, ']', '}' },
    { "Backslash", 220, '\\', '|' },  { "Semicolon", 186, ';', ':' },
    { "Quote", 222, '\'', '"' },      { "Comma", 188, ',', '<' },
    { "Period", 190, '.', '>' },      { "Slash", 191, '/', '?' },
};

static void put(char *to, size_t size, const char *text)
{
    (void)snprintf(to, size, "%s", text);
}

static void set(struct browser_key *k, const char *key, const char *code, const char *text,
                int number)
{
    put(k->key, sizeof(k->key), key);
    put(k->code, sizeof(k->code), code);
    put(k->text, sizeof(k->text), text);
    k->number = number;
}

/* What one byte of ASCII is on a US keyboard. */
static void set_ascii(struct browser_key *k, char c)
{
    static const char shifted_digits[] = ")!@#$%^&*(";
    bool shift = k->modifiers & BROWSER_SHIFT;
    char text[2] = { c, '\0' };
    char code[8] = "";

    if (isalpha((unsigned char)c)) {
        if (shift)
            text[0] = (char)toupper((unsigned char)c);
        (void)snprintf(code, sizeof(code), "Key%c", toupper((unsigned char)c));
        set(k, text, code, text, toupper((unsigned char)c));
        return;
    }
    for (int i = 0; i < 10; i++) {
        if (c != '0' + i && c != shifted_digits[i])
            continue;
        if (shift)
            text[0] = shifted_digits[i];
        (void)snprintf(code, sizeof(code), "Digit%d", i);
        set(k, text, code, text, '0' + i);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(signs); i++) {
        if (c != signs[i].plain && c != signs[i].shifted)
            continue;
        if (shift)
            text[0] = signs[i].shifted;
        set(k, text, signs[i].code, text, signs[i].number);
        return;
    }
}

/* The key without its modifiers. */
static bool plain_key(struct browser_key *k, const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(named); i++) {
        if (strlen(named[i].name) == len && strncasecmp(named[i].name, name, len) == 0) {
            set(k, named[i].key, named[i].code, named[i].text, named[i].number);
            return true;
        }
    }
    if (len >= 2 && len <= 3 && (name[0] == 'F' || name[0] == 'f') &&
        isdigit((unsigned char)name[1])) {
        int n = name[1] - '0';
        char text[8];

        if (len == 3)
            n = isdigit((unsigned char)name[2]) ? n * 10 + name[2] - '0' : 0;
        if (n >= 1 && n <= 12) {
            (void)snprintf(text, sizeof(text), "F%d", n);
            set(k, text, text, "", 111 + n);
            return true;
        }
    }
    if (len == 1 && name[0] > ' ' && name[0] < 0x7f) {
        set_ascii(k, name[0]);
        return true;
    }
    if (len >= 1 && len <= 4 && utf8_length(name, len) == 1 &&
        ((unsigned char)name[0] >= 0x80 || name[0] == ' ')) {
        char text[8] = "";

        memcpy(text, name, len);
        if (name[0] == ' ')
            set(k, " ", "Space", " ", 32);
        else
            set(k, text, "", text, 0);
        return true;
    }
    return false;
}

/* The length of the modifier and '+' that @name begins with, or 0. */
static size_t modifier_at(const char *name, size_t len, unsigned *bits)
{
    for (size_t i = 0; i < ARRAY_LEN(modifiers); i++) {
        size_t n = strlen(modifiers[i].name);

        if (len > n + 1 && name[n] == '+' && strncasecmp(name, modifiers[i].name, n) == 0) {
            *bits |= modifiers[i].modifier;
            return n + 1;
        }
    }
    return 0;
}

bool browser_key(const char *name, size_t len, struct browser_key *ret, struct error *err)
{
    struct browser_key k = { .number = 0 };
    size_t at = 0;
    size_t step;

    while ((step = modifier_at(name + at, len - at, &k.modifiers)) > 0)
        at += step;
    if (!plain_key(&k, name + at, len - at))
        return error_set(err, ERR_INVALID,
                         "\"%.*s\" is not a key; send Enter, Tab, Escape, Backspace, Delete, "
                         "Space, ArrowUp, ArrowDown, ArrowLeft, ArrowRight, Home, End, PageUp, "
                         "PageDown, Insert, F1 to F12 or a single character, with Control+, "
                         "Shift+, Alt+ or Meta+ before it; several are separated by spaces",
                         (int)MIN(len, 40u), name);
    if (k.modifiers & (BROWSER_ALT | BROWSER_CONTROL | BROWSER_META))
        k.text[0] = '\0';
    *ret = k;
    return true;
}

void browser_key_modifier(enum browser_modifier modifier, struct browser_key *ret)
{
    const char *name = modifier == BROWSER_ALT       ? "Alt"
                       : modifier == BROWSER_CONTROL ? "Control"
                       : modifier == BROWSER_META    ? "Meta"
                                                     : "Shift";

    *ret = (struct browser_key){ .number = 0 };
    (void)plain_key(ret, name, strlen(name));
}
