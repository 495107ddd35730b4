#include "tools/terminal_keys.h"

#include <string.h>
#include <strings.h>

#include "kernel/base/utf8.h"

static const struct {
    const char *name, *bytes;
} keys[] = {
    { "Enter", "\r" },         { "Return", "\r" },      { "Tab", "\t" },
    { "BTab", "\x1b[Z" },      { "Escape", "\x1b" },    { "Esc", "\x1b" },
    { "Space", " " },          { "BSpace", "\x7f" },    { "Backspace", "\x7f" },
    { "Up", "\x1b[A" },        { "Down", "\x1b[B" },    { "Right", "\x1b[C" },
    { "Left", "\x1b[D" },      { "Home", "\x1b[H" },    { "End", "\x1b[F" },
    { "Insert", "\x1b[2~" },   { "Delete", "\x1b[3~" }, { "PageUp", "\x1b[5~" },
    { "PageDown", "\x1b[6~" }, { "F1", "\x1bOP" },      { "F2", "\x1bOQ" },
    { "F3", "\x1bOR" },        { "F4", "\x1bOS" },      { "F5", "\x1b[15~" },
    { "F6", "\x1b[17~" },      { "F7", "\x1b[18~" },    { "F8", "\x1b[19~" },
    { "F9", "\x1b[20~" },      { "F10", "\x1b[21~" },   { "F11", "\x1b[23~" },
    { "F12", "\x1b[24~" },
};

/* What Control makes of @c, or -1. */
static int control_code(char c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 1;
    if (c >= '@' && c <= '_')
        return c - '@';
    if (c == ' ')
        return 0;
    if (c == '?')
        return 0x7f;
    return -1;
}

/* What follows @letter and '-', or @word and '-' or '+'; NULL when @key does not begin so. */
static const char *after_prefix(const char *key, char letter, const char *word)
{
    size_t len = strlen(word);

    if (key[0] == letter && key[1] == '-')
        return key + 2;
    if (strncasecmp(key, word, len) == 0 && (key[len] == '-' || key[len] == '+'))
        return key + len + 1;
    return NULL;
}

/* A key without Alt: true when it was known, though memory may have run out. */
static bool plain_key(struct buf *out, const char *key)
{
    const char *held = after_prefix(key, 'C', "Ctrl");

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (strcasecmp(keys[i].name, key) == 0) {
            buf_append_str(out, keys[i].bytes);
            return true;
        }
    }
    if (held && strcasecmp(held, "Space") == 0)
        held = " ";
    if (held && held[0] && !held[1] && control_code(held[0]) >= 0) {
        buf_append_char(out, (char)control_code(held[0]));
        return true;
    }
    /* One character, of however many bytes. */
    if (strlen(key) > 4 || utf8_length(key, strlen(key)) != 1)
        return false;
    buf_append_str(out, key);
    return true;
}

bool terminal_key(struct buf *out, const char *key, struct error *err)
{
    const char *alt = after_prefix(key, 'M', "Alt");
    size_t before = out->len;

    if (alt)
        buf_append_char(out, '\x1b');
    if (!plain_key(out, alt ? alt : key)) {
        out->len = before;
        return error_set(
            err, ERR_INVALID,
            "\"%.40s\" is not a key; send Enter, Tab, Escape, Space, Backspace, Up, Down, "
            "Left, Right, Home, End, Insert, Delete, PageUp, PageDown, F1 to F12, C-c "
            "(Control), M-x (Alt) or a single character",
            key);
    }
    return !out->failed || error_set(err, ERR_NOMEM, "a key");
}
