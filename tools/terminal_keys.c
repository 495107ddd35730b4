#include "tools/terminal_keys.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *name, *bytes;
} keys[] = {
    { "Enter", "\r" },       { "Return", "\r" },      { "Tab", "\t" },        { "BTab", "\x1b[Z" },
    { "Escape", "\x1b" },    { "Esc", "\x1b" },       { "Space", " " },       { "BSpace", "\x7f" },
    { "Backspace", "\x7f" }, { "Up", "\x1b[A" },      { "Down", "\x1b[B" },   { "Right", "\x1b[C" },
    { "Left", "\x1b[D" },    { "Home", "\x1b[H" },    { "End", "\x1b[F" },    { "Insert", "\x1b[2~" },
    { "Delete", "\x1b[3~" }, { "PageUp", "\x1b[5~" }, { "PageDown", "\x1b[6~" }, { "F1", "\x1bOP" },
    { "F2", "\x1bOQ" },      { "F3", "\x1bOR" },      { "F4", "\x1bOS" },     { "F5", "\x1b[15~" },
    { "F6", "\x1b[17~" },    { "F7", "\x1b[18~" },    { "F8", "\x1b[19~" },   { "F9", "\x1b[20~" },
    { "F10", "\x1b[21~" },   { "F11", "\x1b[23~" },   { "F12", "\x1b[24~" },
};

static bool control_key(struct buf *out, char c)
{
    if (c >= 'a' && c <= 'z')
        return buf_append_char(out, (char)(c - 'a' + 1));
    if (c >= '@' && c <= '_')
        return buf_append_char(out, (char)(c - '@'));
    if (c == '?')
        return buf_append_char(out, '\x7f');
    return false;
}

bool terminal_key(struct buf *out, const char *key, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (strcasecmp(keys[i].name, key) == 0)
            return buf_append_str(out, keys[i].bytes) || error_set(err, ERR_NOMEM, "a key");
    if ((strncmp(key, "C-", 2) == 0 || strncasecmp(key, "Ctrl-", 5) == 0 ||
         strncasecmp(key, "Ctrl+", 5) == 0)) {
        const char *rest = key + (key[1] == '-' ? 2 : 5);

        if (strlen(rest) == 1 && control_key(out, rest[0]))
            return true;
    }
    if ((strncmp(key, "M-", 2) == 0 || strncasecmp(key, "Alt-", 4) == 0 ||
         strncasecmp(key, "Alt+", 4) == 0)) {
        const char *rest = key + (key[1] == '-' ? 2 : 4);

        if (*rest && buf_append_char(out, '\x1b'))
            return rest[1] ? terminal_key(out, rest, err) : buf_append_char(out, rest[0]);
    }
    if (strlen(key) == 1)
        return buf_append_char(out, key[0]) || error_set(err, ERR_NOMEM, "a key");
    return error_set(err, ERR_INVALID,
                     "\"%s\" is not a key; send Enter, Tab, Escape, Space, Backspace, Up, Down, "
                     "Left, Right, Home, End, Insert, Delete, PageUp, PageDown, F1 to F12, C-c "
                     "(Control), M-x (Alt) or a single character",
                     key);
}
