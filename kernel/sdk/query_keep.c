/* Queries to what is kept: memory and storage. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/sdk/sdk.h"

#define LIST_KEYS 50 /* of the longest kind that fit one answer */

/* The reply, freed unless its words are understood. */
static struct aios_reply *understood(struct aios_reply *reply, bool ok)
{
    if (ok)
        return reply;
    aios_reply_free(reply);
    return NULL;
}

/* ---- memory ---- */

static bool set_strings(json_t *object, const char *key, const char *const *strings)
{
    json_t *list = strings ? json_array() : NULL;

    if (!strings)
        return true;
    for (size_t i = 0; list && strings[i]; i++) {
        errno = 0;
        if (json_array_append_new(list, json_string(strings[i])) < 0) {
            json_decref(list);
            return false;
        }
    }
    return sdk_set(object, key, list);
}

static bool set_note(json_t *args, const struct aios_memory_query *query)
{
    return sdk_set_text(args, "text", query->text) && set_strings(args, "tags", query->tags) &&
           sdk_set_text(args, "share", query->share);
}

static bool set_search(json_t *args, const struct aios_memory_query *query)
{
    return sdk_set_text(args, "text", query->text) && set_strings(args, "tags", query->tags) &&
           sdk_set_text(args, "since", query->since) && sdk_set_text(args, "until", query->until) &&
           sdk_set_flag(args, "semantic", query->semantic) &&
           sdk_set_flag(args, "shared", query->shared) &&
           sdk_set_number(args, "limit", query->limit) &&
           sdk_set_number(args, "offset", query->offset);
}

static bool set_memory(json_t *args, const struct aios_memory_query *query)
{
    switch (query->op) {
    case AIOS_MEMORY_ADD:
        return set_note(args, query);
    case AIOS_MEMORY_GET:
        return sdk_set_text(args, "id", query->id) && sdk_set_number(args, "offset", query->offset);
    case AIOS_MEMORY_UPDATE:
        return sdk_set_text(args, "id", query->id) && set_note(args, query);
    case AIOS_MEMORY_REMOVE:
        return sdk_set_text(args, "id", query->id);
    case AIOS_MEMORY_SEARCH:
        return set_search(args, query);
    }
    return false;
}

struct aios_reply *aios_memory(struct aios *a, const struct aios_memory_query *query,
                               struct aios_error *err)
{
    static const struct {
        const char *tool;
        bool id, text; /* what it needs */
    } rows[] = {
        [AIOS_MEMORY_ADD] = { "memory_save", false, true },
        [AIOS_MEMORY_GET] = { "memory_get", true, false },
        [AIOS_MEMORY_UPDATE] = { "memory_save", true, true },
        [AIOS_MEMORY_REMOVE] = { "memory_delete", true, false },
        [AIOS_MEMORY_SEARCH] = { "memory_search", false, false },
    };
    unsigned op = (unsigned)query->op;
    struct aios_reply *reply;
    json_t *args;

    if (op >= SDK_LEN(rows) || (rows[op].id && !query->id) || (rows[op].text && !query->text)) {
        sdk_fail(err, AIOS_INVALID,
                 op >= SDK_LEN(rows) ? "there is no such query of memory"
                 : rows[op].id       ? "the query of memory needs an id, and to update a text"
                                     : "the query of memory needs a text");
        return NULL;
    }
    args = json_object();
    reply =
        sdk_ask(a, rows[op].tool, args, args && set_memory(args, query), query->timeout_ms, err);
    return reply ? understood(reply, sdk_words_memory(reply, query, err)) : NULL;
}

/* ---- storage ---- */

/* As text where it is text, which is shorter and can be read in the audit. */
static bool set_value(json_t *args, const void *data, size_t len)
{
    json_t *text = NULL;
    char *base64;
    bool ok;

    errno = 0;
    if (len == 0 || !memchr(data, '\0', len))
        text = json_stringn(len ? data : "", len);
    if (text || errno == ENOMEM)
        return sdk_set(args, "value", text);
    base64 = sdk_base64_encode(data, len);
    ok = base64 && sdk_set_text(args, "base64", base64);
    free(base64);
    return ok;
}

static bool set_condition(json_t *args, const struct aios_storage_query *query)
{
    return !query->conditional ||
           sdk_set(args, "if_version", json_integer((json_int_t)query->if_version));
}

static bool set_version(json_t *args, const struct aios_storage_query *query)
{
    return sdk_set_number(args, "version", (int64_t)query->version);
}

static bool set_storage(json_t *args, const struct aios_storage_query *query)
{
    switch (query->op) {
    case AIOS_STORAGE_PUT:
        return set_value(args, query->data, query->len) && set_condition(args, query);
    case AIOS_STORAGE_GET:
        return sdk_set_text(args, "token", query->token) && set_version(args, query) &&
               sdk_set_number(args, "offset", (int64_t)query->offset) &&
               sdk_set_number(args, "max", (int64_t)query->max);
    case AIOS_STORAGE_LIST:
        return sdk_set_text(args, "cursor", query->cursor) &&
               sdk_set_number(args, "limit", LIST_KEYS);
    case AIOS_STORAGE_DELETE:
        return set_condition(args, query) && sdk_set_flag(args, "purge", query->purge);
    case AIOS_STORAGE_VERSIONS:
        return sdk_set_text(args, "action", "list");
    case AIOS_STORAGE_ROLLBACK:
        return sdk_set_text(args, "action", "rollback") && set_version(args, query) &&
               sdk_set_text(args, "time", query->time);
    case AIOS_STORAGE_SHARE:
        return sdk_set_text(args, "action", "share") && set_version(args, query) &&
               sdk_set_number(args, "seconds", query->seconds);
    }
    return false;
}

static bool check_storage(const struct aios_storage_query *query, struct aios_error *err)
{
    if (query->op == AIOS_STORAGE_GET && !query->key == !query->token)
        return sdk_fail(err, AIOS_INVALID, "to get a value, give either its key or a token");
    if (!query->key && query->op != AIOS_STORAGE_GET && query->op != AIOS_STORAGE_LIST)
        return sdk_fail(err, AIOS_INVALID, "the query of storage needs a key");
    if (query->op == AIOS_STORAGE_PUT && query->len && !query->data)
        return sdk_fail(err, AIOS_INVALID, "there is no data to put");
    if (query->op == AIOS_STORAGE_PUT && query->len > SDK_QUESTION_MAX)
        return sdk_fail(err, AIOS_INVALID,
                        "a value of %zu bytes is too long to put: with what JSON adds it must be "
                        "within %zu",
                        query->len, SDK_QUESTION_MAX);
    return true;
}

struct aios_reply *aios_storage(struct aios *a, const struct aios_storage_query *query,
                                struct aios_error *err)
{
    static const char *const tools[] = {
        [AIOS_STORAGE_PUT] = "storage_put",           [AIOS_STORAGE_GET] = "storage_get",
        [AIOS_STORAGE_LIST] = "storage_list",         [AIOS_STORAGE_DELETE] = "storage_delete",
        [AIOS_STORAGE_VERSIONS] = "storage_versions", [AIOS_STORAGE_ROLLBACK] = "storage_versions",
        [AIOS_STORAGE_SHARE] = "storage_versions",
    };
    struct aios_reply *reply;
    json_t *args;
    bool ok;

    if ((unsigned)query->op >= SDK_LEN(tools)) {
        sdk_fail(err, AIOS_INVALID, "there is no such query of storage");
        return NULL;
    }
    if (!check_storage(query, err))
        return NULL;
    args = json_object();
    ok = args &&
         sdk_set_text(args, query->op == AIOS_STORAGE_LIST ? "prefix" : "key", query->key) &&
         set_storage(args, query);
    reply = sdk_ask(a, tools[query->op], args, ok, query->timeout_ms, err);
    return reply ? understood(reply, sdk_words_storage(reply, query, err)) : NULL;
}
