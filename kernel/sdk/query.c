/* The four queries, each made into the arguments of a tool. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/sdk/sdk.h"

#define PAGES_MAX 1000

bool sdk_set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

bool sdk_set_text(json_t *object, const char *key, const char *text)
{
    return !text || sdk_set(object, key, json_string(text));
}

json_t *sdk_parse(const char *text, json_type type, const char *what, struct aios_error *err)
{
    json_error_t why;
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);

    if (value && json_typeof(value) == type)
        return value;
    if (value)
        sdk_fail(err, AIOS_INVALID, "%s must be a JSON %s", what,
                 type == JSON_ARRAY ? "array" : "object");
    else
        sdk_fail(err, AIOS_INVALID, "%s is no JSON: %s (line %d)", what, why.text, why.line);
    json_decref(value);
    return NULL;
}

/* Takes @arguments.  @ok: they are whole; otherwise memory ran out or a text was not UTF-8. */
static struct aios_reply *ask(struct aios *a, const char *tool, json_t *arguments, bool ok,
                              int64_t timeout_ms, struct aios_error *err)
{
    json_t *result;

    if (!ok) {
        json_decref(arguments);
        sdk_fail(err, AIOS_INVALID, "texts must be UTF-8, and memory must suffice");
        return NULL;
    }
    result = sdk_call_tool(a, tool, arguments, timeout_ms, err);
    return result ? sdk_reply(result, err) : NULL;
}

/* ---- tools ---- */

struct aios_reply *aios_tool(struct aios *a, const struct aios_tool_query *query,
                             struct aios_error *err)
{
    json_t *arguments;

    if (!query->tool) {
        sdk_fail(err, AIOS_INVALID, "name the tool");
        return NULL;
    }
    arguments =
        sdk_parse(query->arguments ? query->arguments : "{}", JSON_OBJECT, "arguments", err);
    return arguments ? ask(a, query->tool, arguments, true, query->timeout_ms, err) : NULL;
}

/* In the form in which models are given tools. */
static bool add_tools(json_t *list, const json_t *page, const char *prefix)
{
    json_t *tool;
    size_t i;

    json_array_foreach (json_object_get(page, "tools"), i, tool) {
        const char *name = json_string_value(json_object_get(tool, "name"));

        if (!name || (prefix && strncmp(name, prefix, strlen(prefix)) != 0))
            continue;
        if (json_array_append_new(list,
                                  json_pack("{s:s, s:O, s:O}", "name", name, "description",
                                            json_object_get(tool, "description"), "parameters",
                                            json_object_get(tool, "inputSchema"))) < 0)
            return false;
    }
    return true;
}

char *aios_tools(struct aios *a, const char *prefix, struct aios_error *err)
{
    json_t *list = json_array();
    char *cursor = NULL, *text = NULL;
    bool ok = list != NULL, more = ok;

    for (int pages = 0; ok && more && pages < PAGES_MAX; pages++) {
        json_t *params = json_object();
        json_t *page;
        const char *next;

        if (!params || !sdk_set_text(params, "cursor", cursor)) {
            json_decref(params);
            break;
        }
        page = sdk_request(a, "tools/list", params, 0, err);
        ok = page && add_tools(list, page, prefix);
        next = json_string_value(json_object_get(page, "nextCursor"));
        more = next != NULL;
        free(cursor);
        cursor = next ? strdup(next) : NULL;
        json_decref(page);
        if (!page) {
            json_decref(list);
            return NULL; /* sdk_request() has said why */
        }
    }
    free(cursor);
    if (ok)
        text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    if (!text)
        sdk_fail(err, AIOS_NOMEM, "out of memory for the list of tools");
    return text;
}

/* ---- models ---- */

/* object.@key = the JSON @text of @type. */
static bool set_json(json_t *object, const char *key, const char *text, json_type type,
                     struct aios_error *err)
{
    json_t *value = text ? sdk_parse(text, type, key, err) : NULL;

    if (!text)
        return true;
    return value && (sdk_set(object, key, value) ||
                     sdk_fail(err, AIOS_NOMEM, "out of memory for a question"));
}

struct aios_reply *aios_llm(struct aios *a, const struct aios_llm_query *query,
                            struct aios_error *err)
{
    json_t *args = json_object();
    bool ok;

    if (!query->prompt == !query->messages) {
        json_decref(args);
        sdk_fail(err, AIOS_INVALID, "give either a prompt or messages");
        return NULL;
    }
    if (args && (!set_json(args, "messages", query->messages, JSON_ARRAY, err) ||
                 !set_json(args, "tools", query->tools, JSON_ARRAY, err) ||
                 !set_json(args, "schema", query->schema, JSON_OBJECT, err))) {
        json_decref(args);
        return NULL;
    }
    ok = args && sdk_set_text(args, "prompt", query->prompt) &&
         sdk_set_text(args, "system", query->system) &&
         sdk_set_text(args, "provider", query->provider) &&
         sdk_set_text(args, "model", query->model) &&
         (query->max_tokens <= 0 || sdk_set(args, "max_tokens", json_integer(query->max_tokens))) &&
         (!query->temperature_set || sdk_set(args, "temperature", json_real(query->temperature))) &&
         sdk_set(args, "data", json_true());
    return ask(a, "llm_query", args, ok, query->timeout_ms, err);
}

/* ---- memory ---- */

static bool set_strings(json_t *object, const char *key, const char *const *strings)
{
    json_t *list = strings ? json_array() : NULL;

    if (!strings)
        return true;
    for (size_t i = 0; list && strings[i]; i++) {
        if (json_array_append_new(list, json_string(strings[i])) < 0) {
            json_decref(list);
            return false;
        }
    }
    return sdk_set(object, key, list);
}

struct aios_reply *aios_memory(struct aios *a, const struct aios_memory_query *query,
                               struct aios_error *err)
{
    static const char *const names[] = {
        [AIOS_MEMORY_ADD] = "memory_save",      [AIOS_MEMORY_GET] = "memory_get",
        [AIOS_MEMORY_UPDATE] = "memory_save",   [AIOS_MEMORY_REMOVE] = "memory_delete",
        [AIOS_MEMORY_SEARCH] = "memory_search",
    };
    json_t *args;
    bool search, save, ok;

    if ((unsigned)query->op >= SDK_LEN(names)) {
        sdk_fail(err, AIOS_INVALID, "there is no such query of memory");
        return NULL;
    }
    search = query->op == AIOS_MEMORY_SEARCH;
    save = query->op == AIOS_MEMORY_ADD || query->op == AIOS_MEMORY_UPDATE;
    if ((!search && query->op != AIOS_MEMORY_ADD && !query->id) || (save && !query->text)) {
        sdk_fail(err, AIOS_INVALID, "the query needs %s",
                 query->text ? "an id" : "an id or a text");
        return NULL;
    }
    args = json_object();
    ok = args && (search || query->op == AIOS_MEMORY_ADD || sdk_set_text(args, "id", query->id)) &&
         (!(search || save) ||
          (sdk_set_text(args, "text", query->text) && set_strings(args, "tags", query->tags))) &&
         (!save || sdk_set_text(args, "share", query->share)) &&
         (!(search && query->semantic) || sdk_set(args, "semantic", json_true())) &&
         (!(search && query->shared) || sdk_set(args, "shared", json_true())) &&
         (!(search && query->limit > 0) || sdk_set(args, "limit", json_integer(query->limit)));
    return ask(a, names[query->op], args, ok, query->timeout_ms, err);
}

/* ---- storage ---- */

static char *encode(const unsigned char *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((len + 2) / 3 * 4 + 1), *at = text;

    for (size_t i = 0; text && i < len; i += 3) {
        size_t left = len - i;
        unsigned bits = (unsigned)data[i] << 16 | (left > 1 ? (unsigned)data[i + 1] << 8 : 0) |
                        (left > 2 ? data[i + 2] : 0);

        *at++ = digits[bits >> 18 & 63];
        *at++ = digits[bits >> 12 & 63];
        *at++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *at++ = left > 2 ? digits[bits & 63] : '=';
    }
    if (text)
        *at = '\0';
    return text;
}

/* As text where it is text, which is shorter and can be read in the audit. */
static bool set_value(json_t *args, const void *data, size_t len)
{
    json_t *text = json_stringn(data ? data : "", len);
    char *base64;
    bool ok;

    if (text && memchr(data ? data : "", '\0', len) == NULL)
        return sdk_set(args, "value", text);
    json_decref(text);
    base64 = encode(data, len);
    ok = base64 && sdk_set_text(args, "base64", base64);
    free(base64);
    return ok;
}

struct aios_reply *aios_storage(struct aios *a, const struct aios_storage_query *query,
                                struct aios_error *err)
{
    static const char *const names[] = {
        [AIOS_STORAGE_PUT] = "storage_put",           [AIOS_STORAGE_GET] = "storage_get",
        [AIOS_STORAGE_LIST] = "storage_list",         [AIOS_STORAGE_DELETE] = "storage_delete",
        [AIOS_STORAGE_VERSIONS] = "storage_versions", [AIOS_STORAGE_ROLLBACK] = "storage_versions",
        [AIOS_STORAGE_SHARE] = "storage_versions",
    };
    static const char *const actions[] = {
        [AIOS_STORAGE_VERSIONS] = "list",
        [AIOS_STORAGE_ROLLBACK] = "rollback",
        [AIOS_STORAGE_SHARE] = "share",
    };
    bool list = query->op == AIOS_STORAGE_LIST, put = query->op == AIOS_STORAGE_PUT;
    json_t *args;
    bool ok;

    if ((unsigned)query->op >= SDK_LEN(names) || (!list && !query->key && !query->token)) {
        sdk_fail(err, AIOS_INVALID, "the query of storage needs an operation and a key");
        return NULL;
    }
    args = json_object();
    ok = args && sdk_set_text(args, list ? "prefix" : "key", query->key) &&
         sdk_set_text(args, "cursor", query->cursor) && sdk_set_text(args, "token", query->token) &&
         (query->op < AIOS_STORAGE_VERSIONS || sdk_set_text(args, "action", actions[query->op])) &&
         (!put || set_value(args, query->data, query->len)) &&
         (!query->version || sdk_set(args, "version", json_integer((json_int_t)query->version))) &&
         (!(put || query->op == AIOS_STORAGE_DELETE) || query->if_version < 0 ||
          sdk_set(args, "if_version", json_integer(query->if_version))) &&
         (query->seconds <= 0 || sdk_set(args, "seconds", json_integer(query->seconds)));
    return ask(a, names[query->op], args, ok, query->timeout_ms, err);
}
