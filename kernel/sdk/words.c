/* What the memory and storage tools say in words, as data.
 *
 * tools/memory.c and tools/storage.c are the ones who say it; tests/integration/sdk_c.test.mjs
 * holds the two together. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/sdk/sdk.h"

/* ---- reading ---- */

/* @text at *at; passes over it. */
static bool skip(const char **at, const char *text)
{
    size_t len = strlen(text);

    if (strncmp(*at, text, len) != 0)
        return false;
    *at += len;
    return true;
}

static bool number(const char **at, uint64_t *ret)
{
    uint64_t n = 0;
    const char *from = *at;

    for (; **at >= '0' && **at <= '9'; (*at)++)
        if (__builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, (uint64_t)(**at - '0'), &n) || n > INT64_MAX)
            return false;
    *ret = n;
    return *at > from;
}

/* The last @part of @text, which ends at @end. */
static const char *last(const char *text, const char *end, const char *part)
{
    size_t len = strlen(part);

    for (size_t i = (size_t)(end - text); i >= len; i--)
        if (memcmp(text + i - len, part, len) == 0)
            return text + i - len;
    return NULL;
}

static json_t *integer(uint64_t n)
{
    return json_integer((json_int_t)n);
}

/* Not understood; or, with errno, not kept. */
static bool strange(const char *text, struct aios_error *err)
{
    if (errno == ENOMEM)
        return sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
    return sdk_fail(err, AIOS_PROTOCOL, "the kernel's answer is not understood: %.200s", text);
}

/* ---- memory ---- */

/* "note_… v2" */
static bool read_id(const char **at, json_t *data)
{
    size_t len = strcspn(*at, " \n");
    const char *id = *at;
    uint64_t version;

    *at += len;
    return len > 0 && skip(at, " v") && number(at, &version) &&
           sdk_set(data, "id", json_stringn(id, len)) && sdk_set(data, "version", integer(version));
}

/* A line about the note, its text from @offset on, a newline, and where there is more "[bytes B to
 * E of N; more: offset E]".  A note may end like that itself; then B and E do not fit the text, or
 * going on at E gives what was taken for the foot. */
static bool read_note(const char *at, uint64_t offset, json_t *data)
{
    const char *text, *end, *foot, *from;
    uint64_t begin, next = 0;

    if (!read_id(&at, data) || !(text = strchr(at, '\n')))
        return false;
    text++;
    end = text + strlen(text);
    if (end == text || *--end != '\n')
        return false;
    foot = last(text, end, "\n[bytes ");
    if (foot) {
        from = foot;
        if (skip(&from, "\n[bytes ") && number(&from, &begin) && skip(&from, " to ") &&
            number(&from, &next) && begin <= offset && next == begin + (uint64_t)(foot - text) &&
            skip(&from, " of ") && number(&from, &begin) && skip(&from, "; more: offset ") &&
            number(&from, &begin) && strcmp(from, "]\n") == 0)
            end = foot;
        else
            next = 0;
    }
    return sdk_set(data, "text", json_stringn(text, (size_t)(end - text))) &&
           (!next || sdk_set(data, "next", integer(next)));
}

bool sdk_words_memory(struct aios_reply *r, const struct aios_memory_query *query,
                      struct aios_error *err)
{
    const char *at = aios_reply_text(r);
    json_t *data;
    bool ok;

    if (sdk_reply_data(r) || query->op == AIOS_MEMORY_SEARCH || query->op == AIOS_MEMORY_REMOVE)
        return true;
    errno = 0;
    data = json_object();
    if (query->op == AIOS_MEMORY_GET)
        ok = data && read_note(at, query->offset > 0 ? (uint64_t)query->offset : 0, data);
    else
        ok = data && skip(&at, "saved ") && read_id(&at, data);
    if (ok)
        return sdk_reply_set_data(r, data, err);
    json_decref(data);
    return strange(aios_reply_text(r), err);
}

/* ---- storage ---- */

/* "[base64; version 3, bytes 0 to 18432 of 40000, TIME …]" or "[version 3, 12 bytes, TIME]" */
static bool read_foot(const char *at, json_t *data, bool *ret_base64, uint64_t *ret_len)
{
    uint64_t version, bytes, begin = 0, end;

    if (!skip(&at, "["))
        return false;
    *ret_base64 = skip(&at, "base64; ");
    if (!skip(&at, "version ") || !number(&at, &version) || !skip(&at, ", "))
        return false;
    if (skip(&at, "bytes ")) {
        if (!number(&at, &begin) || !skip(&at, " to ") || !number(&at, &end) ||
            !skip(&at, " of ") || !number(&at, &bytes))
            return false;
    } else if (number(&at, &bytes) && skip(&at, " bytes")) {
        end = bytes;
    } else {
        return false;
    }
    *ret_len = end - begin;
    return begin <= end && end <= bytes && sdk_set(data, "version", integer(version)) &&
           sdk_set(data, "bytes", integer(bytes)) && sdk_set(data, "offset", integer(begin)) &&
           sdk_set(data, "end", integer(end));
}

/* The value, if there is any, then the foot. */
static bool read_value(struct aios_reply *r, json_t *data)
{
    size_t len, foot_len, got;
    const char *value = sdk_reply_block(r, 0, &len), *foot = sdk_reply_block(r, 1, &foot_len);
    uint64_t want;
    bool base64;
    char *bytes;

    if (!foot) {
        foot = value;
        value = "";
        len = 0;
    }
    if (!foot || !read_foot(foot, data, &base64, &want))
        return false;
    if (base64) {
        bytes = (char *)sdk_base64_decode(value, len, &got);
    } else {
        bytes = malloc(len + 1);
        if (bytes)
            memcpy(bytes, value, len + 1);
        got = len;
    }
    if (!bytes)
        return false;
    sdk_reply_set_value(r, bytes, got);
    return got == want;
}

/* "KEY  version 3  12 bytes  TIME"; "deleted" in the place of the bytes.  A key may have spaces. */
static json_t *read_item(const char *line, size_t len, bool with_key)
{
    const char *end = line + len, *at = with_key ? last(line, end, "  version ") : line;
    const char *time = last(line, end, "  ");
    json_t *item = json_object();
    uint64_t n;
    bool ok = item && at && time;

    if (ok && with_key) {
        ok = sdk_set(item, "key", json_stringn(line, (size_t)(at - line)));
        at += 2;
    }
    ok = ok && skip(&at, "version ") && number(&at, &n) && sdk_set(item, "version", integer(n)) &&
         skip(&at, "  ");
    if (ok && !skip(&at, "deleted"))
        ok = number(&at, &n) && sdk_set(item, "bytes", integer(n)) && skip(&at, " bytes");
    else if (ok)
        ok = sdk_set(item, "deleted", json_true());
    if (ok && at == time &&
        sdk_set(item, "time", json_stringn(time + 2, len - (size_t)(time + 2 - line))))
        return item;
    json_decref(item);
    return NULL;
}

/* One line for each, then "[… in all …]", then "[more with "cursor":"…"]". */
static bool read_list(const char *at, bool with_key, json_t *data)
{
    json_t *list = json_array(), *item;
    const char *end;

    if (!sdk_set(data, with_key ? "keys" : "versions", list))
        return false;
    while ((end = strchr(at, '\n')) && (item = read_item(at, (size_t)(end - at), with_key))) {
        if (json_array_append_new(list, item) < 0)
            return false;
        at = end + 1;
    }
    if (*at != '[' || !end)
        return *at == '[';
    at = end + 1;
    return skip(&at, "[more with \"cursor\":\"") && (end = last(at, at + strlen(at), "\"]")) &&
           sdk_set(data, "cursor", json_stringn(at, (size_t)(end - at)));
}

/* @before, @key, @mark, and the version's number. */
static bool read_version(const char *text, const char *key, const char *before, const char *mark,
                         json_t *data, const char **ret_rest)
{
    const char *at = text;
    uint64_t version;

    if (!skip(&at, before) || !skip(&at, key) || !skip(&at, mark) || !number(&at, &version))
        return false;
    *ret_rest = at;
    return sdk_set(data, "version", integer(version));
}

static bool read_words(struct aios_reply *r, const struct aios_storage_query *query, json_t *data)
{
    const char *text = aios_reply_text(r), *rest;
    uint64_t bytes;

    switch (query->op) {
    case AIOS_STORAGE_PUT:
        return read_version(text, query->key, "kept \"", "\" as version ", data, &rest) &&
               skip(&rest, ", ") && number(&rest, &bytes) && sdk_set(data, "bytes", integer(bytes));
    case AIOS_STORAGE_GET:
        return read_value(r, data);
    case AIOS_STORAGE_LIST:
        return read_list(text, true, data);
    case AIOS_STORAGE_DELETE:
        return query->purge ||
               read_version(text, query->key, "deleted \"", "\" with version ", data, &rest);
    case AIOS_STORAGE_VERSIONS:
        return read_list(text, false, data);
    case AIOS_STORAGE_ROLLBACK:
        return read_version(text, query->key, "\"", "\" is as it was, as version ", data, &rest);
    case AIOS_STORAGE_SHARE:
        return sdk_set(data, "token", json_stringn(text, strcspn(text, "\n")));
    }
    return false;
}

bool sdk_words_storage(struct aios_reply *r, const struct aios_storage_query *query,
                       struct aios_error *err)
{
    json_t *data;

    if (sdk_reply_data(r))
        return true;
    errno = 0;
    data = json_object();
    if (data && read_words(r, query, data) && errno != ENOMEM)
        return sdk_reply_set_data(r, data, err);
    json_decref(data);
    return strange(aios_reply_text(r), err);
}
