/* The bytes of the protocol: messages that end with a NUL. */
#include "tools/cdp.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"

/* Strings of pages may hold halves of characters, which the browser passes on as "\ud83d" and which
 * are no JSON text: they become U+FFFD, in the same number of bytes. */
static unsigned hex4(const char *at)
{
    unsigned value = 0;

    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef";
        char c = (char)(at[i] >= 'A' && at[i] <= 'F' ? at[i] + ('a' - 'A') : at[i]);
        const char *digit = c ? strchr(digits, c) : NULL;

        if (!digit)
            return 0;
        value = value * 16 + (unsigned)(digit - digits);
    }
    return value;
}

static bool mend_halves(char *text, size_t len)
{
    bool mended = false;

    for (size_t i = 0; i + 1 < len; i++) {
        unsigned unit;

        if (text[i] != '\\')
            continue;
        if (text[i + 1] != 'u' || i + 6 > len) {
            i++;
            continue;
        }
        unit = hex4(text + i + 2);
        if (unit >= 0xd800 && unit < 0xdc00 && i + 12 <= len && text[i + 6] == '\\' &&
            text[i + 7] == 'u' && (hex4(text + i + 8) & 0xfc00) == 0xdc00) {
            i += 11;
            continue;
        }
        if (unit >= 0xd800 && unit < 0xe000) {
            for (size_t k = 0; k < 4; k++)
                text[i + 2 + k] = "fffd"[k];
            mended = true;
        }
        i += 5;
    }
    return mended;
}

static json_t *parse(const char *bytes, size_t len, struct error *err)
{
    json_t *whole = json_parse(bytes, len, err);
    char *copy;

    if (whole || !err || err->code != ERR_INVALID)
        return whole;
    copy = malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, bytes, len);
    copy[len] = '\0';
    if (mend_halves(copy, len)) {
        error_clear(err);
        whole = json_parse(copy, len, err);
    }
    free(copy);
    return whole;
}

/* Of an answer that cannot be read, so that nobody waits for it. */
static uint64_t id_of_unread(const char *bytes, size_t len)
{
    static const char head[] = "{\"id\":";
    uint64_t id = 0;

    if (len < sizeof head || memcmp(bytes, head, sizeof head - 1) != 0)
        return 0;
    for (size_t i = sizeof head - 1; i < len && bytes[i] >= '0' && bytes[i] <= '9'; i++) {
        if (id > UINT64_MAX / 10 - 1)
            return 0;
        id = id * 10 + (uint64_t)(bytes[i] - '0');
    }
    return id;
}

static const char *word(const json_t *value)
{
    const char *text = json_string_value(value);

    return text && json_string_length(value) <= CDP_WORD_MAX && strlen(text) <= CDP_WORD_MAX ? text
                                                                                             : "";
}

static void take_apart(struct cdp_message *m)
{
    const json_t *id = json_object_get(m->whole, "id");
    const json_t *error = json_object_get(m->whole, "error");

    m->session = word(json_object_get(m->whole, "sessionId"));
    m->id =
        json_is_integer(id) && json_integer_value(id) > 0 ? (uint64_t)json_integer_value(id) : 0;
    if (m->id == 0) {
        m->method = word(json_object_get(m->whole, "method"));
        m->params = json_object_get(m->whole, "params");
        if (!json_is_object(m->params))
            m->params = NULL;
        return;
    }
    m->result = json_object_get(m->whole, "result");
    if (json_is_object(m->result) && !error)
        return;
    m->result = NULL;
    m->error = json_string_value(json_object_get(error, "message"));
    if (!m->error)
        m->error = "an answer without a result";
    m->error_code = (int)json_integer_value(json_object_get(error, "code"));
}

enum cdp_read cdp_message_read(const char *bytes, size_t len, struct cdp_message *ret,
                               size_t *ret_used)
{
    const char *end = len ? memchr(bytes, '\0', len) : NULL;
    struct error err = ERROR_INIT;
    size_t n;

    if (!end)
        return len > CDP_MESSAGE_MAX ? CDP_BROKEN : CDP_MORE;
    n = (size_t)(end - bytes);
    if (n > CDP_MESSAGE_MAX)
        return CDP_BROKEN;
    *ret = (struct cdp_message){ .session = "", .method = "" };
    *ret_used = n + 1;
    ret->whole = parse(bytes, n, &err);
    if (json_is_object(ret->whole)) {
        take_apart(ret);
        return CDP_OK;
    }
    /* Pages decide what is in messages, so that one is no reason to give up the others. */
    json_decref(ret->whole);
    ret->whole = NULL;
    ret->id = id_of_unread(bytes, n);
    ret->error =
        err.code == ERR_LIMIT ? "the answer is nested too deeply" : "the answer is not valid JSON";
    return CDP_OK;
}
