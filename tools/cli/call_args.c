#include "tools/cli/call_args.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"

/* ---- one word ---- */

struct word {
    const char *key;
    size_t key_len;
    const char *value;
    bool forced; /* := */
};

static bool take_apart(const char *text, struct word *ret, struct error *err)
{
    const char *equals = strchr(text, '=');
    bool forced = equals && equals > text && equals[-1] == ':';
    size_t len = equals ? (size_t)(equals - text) - forced : 0;

    if (len == 0)
        return error_set(err, ERR_INVALID,
                         "\"%.100s\" is not of the form key=value, key:=JSON or key=@FILE", text);
    *ret = (struct word){ .key = text, .key_len = len, .value = equals + 1, .forced = forced };
    return true;
}

static json_t *text_value(const char *text, size_t len, const struct word *w, struct error *err)
{
    json_t *value = utf8_valid(text, len) ? json_stringn_nocheck(text, len) : NULL;

    if (!value)
        error_set(err, ERR_INVALID, "the value of %.*s is not UTF-8 text", (int)w->key_len, w->key);
    return value;
}

static json_t *file_value(const struct word *w, struct error *err)
{
    size_t len;
    char *text = fd_read_file(AT_FDCWD, w->value + 1, LIMIT_MCP_LINE_BYTES, &len, err);
    json_t *value;

    if (!text) {
        (void)error_prefix(err, "%.*s", (int)w->key_len, w->key);
        return NULL;
    }
    value = text_value(text, len, w, err);
    free(text);
    return value;
}

/* Is the argument a string, whatever its value looks like? */
static bool wants_string(const json_t *schema, const char *key)
{
    const json_t *property = json_object_get(json_object_get(schema, "properties"), key);
    const char *type = json_string_value(json_object_get(property, "type"));

    return type && strcmp(type, "string") == 0;
}

static json_t *word_value(const struct word *w, const char *key, const json_t *schema,
                          struct error *err)
{
    size_t len = strlen(w->value);
    json_t *value;

    if (w->forced) {
        value = json_parse(w->value, len, err);
        if (!value)
            (void)error_prefix(err, "%s:=", key);
        return value;
    }
    if (w->value[0] == '@')
        return file_value(w, err);
    value = wants_string(schema, key) ? NULL : json_parse(w->value, len, NULL);
    return value ? value : text_value(w->value, len, w, err);
}

bool call_args_ambiguous(char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct word w;
        json_t *value;

        if (!take_apart(words[i], &w, NULL) || w.forced)
            continue;
        value = json_parse(w.value, strlen(w.value), NULL);
        if (!value)
            continue;
        json_decref(value);
        return true;
    }
    return false;
}

json_t *call_args_read(char *const *words, size_t count, const json_t *schema, struct error *err)
{
    json_t *args = json_object();

    for (size_t i = 0; args && i < count; i++) {
        struct word w;
        json_t *value = NULL;
        char *key = NULL;
        bool ok = take_apart(words[i], &w, err);

        if (ok) {
            key = strndup(w.key, w.key_len);
            ok = key || error_set(err, ERR_NOMEM, "arguments");
        }
        if (ok && json_object_get(args, key))
            ok = error_set(err, ERR_INVALID, "%s is given twice", key);
        if (ok) {
            value = word_value(&w, key, schema, err);
            ok = value != NULL;
        }
        if (ok && json_object_set_new(args, key, value) != 0)
            ok = error_set(err, ERR_INVALID, "the name of an argument is not UTF-8 text");
        free(key);
        if (!ok) {
            json_decref(args);
            return NULL;
        }
    }
    if (!args)
        error_set(err, ERR_NOMEM, "arguments");
    return args;
}

/* ---- a line ---- */

/* Copies one word to *@to, without its quotes; where it ended, or NULL for a quote without end. */
static const char *copy_word(const char *from, char **to)
{
    char quote = '\0';

    for (; *from && (quote || !strchr(" \t\r\n", *from)); from++) {
        if (quote == '\'' ? *from == quote : quote == '"' && *from == quote) {
            quote = '\0';
        } else if (!quote && (*from == '\'' || *from == '"')) {
            quote = *from;
        } else if (*from == '\\' && quote != '\'' && from[1] &&
                   (!quote || strchr("\"\\$`", from[1]))) {
            *(*to)++ = *++from;
        } else {
            *(*to)++ = *from;
        }
    }
    *(*to)++ = '\0';
    return quote ? NULL : from;
}

bool call_args_split(const char *line, char ***ret_words, size_t *ret_count, struct error *err)
{
    size_t most = strlen(line) / 2 + 1;
    char **words = malloc(most * sizeof *words + strlen(line) + 1 + most);
    size_t count = 0;
    char *to;

    if (!words)
        return error_set(err, ERR_NOMEM, "a line");
    to = (char *)(words + most);
    for (;;) {
        line += strspn(line, " \t\r\n");
        if (!*line)
            break;
        words[count++] = to;
        line = copy_word(line, &to);
        if (!line) {
            free(words);
            return error_set(err, ERR_INVALID, "a quote is not closed");
        }
    }
    *ret_words = words;
    *ret_count = count;
    return true;
}
