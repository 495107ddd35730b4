#include "kernel/access_args.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/access_glob.h"
#include "kernel/base/buf.h"
#include "kernel/base/json.h"

#define KEY_MAX_BYTES 256u

struct arg {
    const char *key; /* borrowed */
    struct access_glob *glob;
    bool path;
};

struct access_args {
    size_t count;
    struct arg args[];
};

/* ---- making ---- */

/* "path", "cwd" and "host_path", also at the end of a pointer. */
static bool is_path(const char *key)
{
    const char *slash = strrchr(key, '/');
    size_t len;

    if (slash)
        key = slash + 1;
    len = strlen(key);
    return !strcmp(key, "path") || !strcmp(key, "cwd") ||
           (len > 5 && !strcmp(key + len - 5, "_path"));
}

static bool arg_read(struct arg *arg, const char *key, const json_t *pattern, struct error *err)
{
    const char *text = json_string_value(pattern);
    CLEANUP(buf_fini) struct buf below = BUF_INIT;

    if (!text)
        return error_set(err, ERR_INVALID, "args.%.64s is not a pattern", key);
    if (!*key || strlen(key) > KEY_MAX_BYTES)
        return error_set(err, ERR_INVALID, "args has a key of %zu bytes; 1 to %u are a name",
                         strlen(key), KEY_MAX_BYTES);
    arg->key = key;
    arg->path = is_path(key);
    /* A relative pattern is meant as a relative path is. */
    if (arg->path && *text && *text != '/' && *text != '*') {
        if (!buf_printf(&below, ACCESS_ARGS_HOME "/%s", text))
            return error_set(err, ERR_NOMEM, "a pattern");
        text = buf_str(&below);
    }
    arg->glob = access_glob_new(text, err);
    return arg->glob || error_prefix(err, "args.%.64s", key);
}

struct access_args *access_args_new(json_t *patterns, struct error *err)
{
    size_t count = json_object_size(patterns);
    CLEANUP(access_args_freep) struct access_args *a = NULL;
    const char *key;
    json_t *pattern;

    if (!json_is_object(patterns)) {
        error_set(err, ERR_INVALID, "args is not an object of patterns");
        return NULL;
    }
    a = calloc(1, sizeof *a + count * sizeof a->args[0]);
    if (!a) {
        error_set(err, ERR_NOMEM, "patterns of a rule");
        return NULL;
    }
    json_object_foreach (patterns, key, pattern) {
        if (!arg_read(&a->args[a->count], key, pattern, err))
            return NULL;
        a->count++;
    }
    return STEAL(a);
}

void access_args_free(struct access_args *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->count; i++)
        access_glob_free(a->args[i].glob);
    free(a);
}

/* ---- paths ---- */

bool access_args_normal(const char *path, size_t len, char *buf, size_t size)
{
    static const char home[] = ACCESS_ARGS_HOME;
    size_t at = 0;

    if (!len || path[0] != '/') {
        if (sizeof home > size)
            return false;
        memcpy(buf, home, sizeof home - 1);
        at = sizeof home - 1;
    }
    for (size_t i = 0, end; i < len; i = end + 1) {
        const char *slash = memchr(path + i, '/', len - i);

        end = slash ? (size_t)(slash - path) : len;
        if (end == i || (end == i + 1 && path[i] == '.'))
            continue;
        if (end == i + 2 && path[i] == '.' && path[i + 1] == '.') {
            while (at && buf[--at] != '/')
                continue;
            continue;
        }
        if (at + 1 + (end - i) >= size)
            return false;
        buf[at++] = '/';
        memcpy(buf + at, path + i, end - i);
        at += end - i;
    }
    if (!at) {
        if (size < 2)
            return false;
        buf[at++] = '/';
    }
    buf[at] = '\0';
    return true;
}

static enum access_match match_path(const struct access_glob *glob, const char *path, size_t len)
{
    char normal[PATH_MAX + 1];
    size_t normal_len;

    if (!access_args_normal(path, len, normal, PATH_MAX))
        return ACCESS_MATCH_UNSURE;
    normal_len = strlen(normal);
    if (access_glob_matches(glob, normal, normal_len))
        return ACCESS_MATCH_YES;
    normal[normal_len] = '/';
    return access_glob_matches(glob, normal, normal_len + 1) ? ACCESS_MATCH_YES : ACCESS_MATCH_NO;
}

/* ---- values ---- */

/* "/a/0/b~1c", or a name; NULL when there is no such thing. */
static const json_t *find(const json_t *value, const char *key)
{
    char part[KEY_MAX_BYTES + 1];

    if (*key != '/')
        return json_object_get(value, key);
    while (value && *key) {
        size_t len = 0;

        for (key++; *key && *key != '/'; key++) {
            char c = *key;

            if (c == '~' && (key[1] == '0' || key[1] == '1'))
                c = *++key == '0' ? '~' : '/';
            part[len++] = c;
        }
        part[len] = '\0';
        if (!json_is_array(value)) {
            value = json_object_get(value, part);
        } else {
            char *end;
            unsigned long index = strtoul(part, &end, 10);

            value = len && !*end && part[0] >= '0' && part[0] <= '9' ? json_array_get(value, index)
                                                                     : NULL;
        }
    }
    return value;
}

static enum access_match match_json(const struct access_glob *glob, const json_t *value)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;

    if (!json_write(value, &text))
        return ACCESS_MATCH_UNSURE;
    return access_glob_matches(glob, buf_str(&text), text.len) ? ACCESS_MATCH_YES : ACCESS_MATCH_NO;
}

static enum access_match match_one(const struct arg *arg, const json_t *value)
{
    if (!json_is_string(value))
        return match_json(arg->glob, value);
    if (arg->path)
        return match_path(arg->glob, json_string_value(value), json_string_length(value));
    return access_glob_matches(arg->glob, json_string_value(value), json_string_length(value))
               ? ACCESS_MATCH_YES
               : ACCESS_MATCH_NO;
}

/* ["rm", "-rf", "/"] as "rm -rf /". */
static enum access_match match_joined(const struct access_glob *glob, const json_t *list)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        if (!json_is_string(item))
            continue;
        if ((text.len && !buf_append_char(&text, ' ')) ||
            !buf_append(&text, json_string_value(item), json_string_length(item)))
            return ACCESS_MATCH_UNSURE;
    }
    return json_array_size(list) && access_glob_matches(glob, buf_str(&text), text.len)
               ? ACCESS_MATCH_YES
               : ACCESS_MATCH_NO;
}

static enum access_match match_list(const struct arg *arg, const json_t *list)
{
    enum access_match best = match_joined(arg->glob, list);
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        enum access_match one;

        if (best == ACCESS_MATCH_YES)
            break;
        one = match_one(arg, item);
        if (one != ACCESS_MATCH_NO)
            best = one;
    }
    return best;
}

enum access_match access_args_match(const struct access_args *a, const json_t *call)
{
    enum access_match all = ACCESS_MATCH_YES;

    for (size_t i = 0; i < a->count; i++) {
        const json_t *value = find(call, a->args[i].key);
        enum access_match one;

        if (!value || json_is_null(value))
            return ACCESS_MATCH_NO;
        one = json_is_array(value) ? match_list(&a->args[i], value) : match_one(&a->args[i], value);
        if (one == ACCESS_MATCH_NO)
            return ACCESS_MATCH_NO;
        if (one == ACCESS_MATCH_UNSURE)
            all = ACCESS_MATCH_UNSURE;
    }
    return all;
}
