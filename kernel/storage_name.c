/* What spaces and keys may be called. */
#include <string.h>

#include "kernel/base/utf8.h"
#include "kernel/storage_internal.h"

bool storage_check_space(const char *space, struct error *err)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  "_.-";
    const char *name = space[0] == '~' ? space + 1 : space;
    size_t len = strnlen(space, STORAGE_SPACE_BYTES + 1);

    if (len > STORAGE_SPACE_BYTES || name[0] == '\0' || name[strspn(name, allowed)] != '\0')
        return error_set(err, ERR_INVALID,
                         "a space is named with 1 to %u letters, digits, '_', '.' and '-'",
                         STORAGE_SPACE_BYTES);
    return true;
}

/* C0, DEL and C1 (which UTF-8 writes as C2 80 to C2 9F).  @text is valid. */
static bool has_control(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c < 0x20 || c == 0x7f ||
            (c == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0))
            return true;
    }
    return false;
}

static bool check_text(const char *text, const char *what, struct error *err)
{
    size_t len = strnlen(text, STORAGE_KEY_BYTES + 1);

    if (len > STORAGE_KEY_BYTES)
        return error_set(err, ERR_INVALID, "the %s is longer than %u bytes", what,
                         STORAGE_KEY_BYTES);
    if (!utf8_valid(text, len))
        return error_set(err, ERR_INVALID, "the %s is not valid UTF-8", what);
    if (has_control(text, len))
        return error_set(err, ERR_INVALID, "the %s contains a control character", what);
    return true;
}

bool storage_check_prefix(const char *prefix, struct error *err)
{
    return check_text(prefix, "prefix", err);
}

bool storage_check_key(const char *key, struct error *err)
{
    if (key[0] == '\0')
        return error_set(err, ERR_INVALID, "the key is empty");
    if (!check_text(key, "key", err))
        return false;
    for (const char *part = key;;) {
        size_t len = strcspn(part, "/");

        if (len == 0)
            return error_set(err, ERR_INVALID,
                             "the key \"%s\" has an empty part: no '/' at its beginning, its end, "
                             "or twice in a row",
                             key);
        if (part[0] == '.' && (len == 1 || (len == 2 && part[1] == '.')))
            return error_set(err, ERR_INVALID, "no part of a key may be \".\" or \"..\": \"%s\"",
                             key);
        if (part[len] == '\0')
            return true;
        part += len + 1;
    }
}
