#include "kernel/base/json.h"

#include <errno.h>
#include <string.h>

#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"

/* Where nesting passes the limit, or @len.  Text that is not JSON may be counted wrongly, but the
 * parser refuses that anyway. */
static size_t too_deep_at(const char *text, size_t len)
{
    unsigned depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            if (++depth > LIMIT_JSON_DEPTH)
                return i;
        } else if ((c == ']' || c == '}') && depth) {
            depth--;
        }
    }
    return len;
}

json_t *json_parse(const char *text, size_t len, struct error *err)
{
    size_t deep = too_deep_at(text, len);
    json_error_t why;
    json_t *value;

    if (deep < len) {
        error_set(err, ERR_LIMIT, "byte %zu: nested deeper than %u levels", deep + 1,
                  LIMIT_JSON_DEPTH);
        return NULL;
    }
    errno = 0;
    value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (value)
        return value;
    /* When memory runs out within a token, jansson takes it for a syntax error; malloc() tells. */
    if (json_error_code(&why) == json_error_out_of_memory || errno == ENOMEM)
        error_set(err, ERR_NOMEM, "parse %zu bytes of JSON", len);
    else
        error_set(err, ERR_INVALID, "line %d, column %d: %s", why.line, why.column, why.text);
    return NULL;
}

json_t *json_string_lossy(const char *text, size_t len)
{
    CLEANUP(buf_fini) struct buf valid = BUF_INIT;

    if (utf8_valid(text, len))
        return json_stringn_nocheck(text, len);
    if (utf8_append_valid(&valid, text, len) < 0)
        return NULL;
    return json_stringn_nocheck(buf_str(&valid), valid.len);
}
