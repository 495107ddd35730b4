/* Memory and storage for those who want the plain thing. */
#include <stdlib.h>
#include <string.h>

#include "kernel/sdk/sdk.h"

char *sdk_copy(const char *text, struct aios_error *err)
{
    char *ret = text ? strdup(text) : NULL;

    if (!text)
        sdk_fail(err, AIOS_PROTOCOL, "the kernel's answer lacks what was asked for");
    else if (!ret)
        sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
    return ret;
}

/* The text @key of the reply's data (taken), for free(). */
static char *take_text(struct aios_reply *reply, const char *key, struct aios_error *err)
{
    char *text = NULL;

    if (reply)
        text = sdk_copy(json_string_value(json_object_get(sdk_reply_data(reply), key)), err);
    aios_reply_free(reply);
    return text;
}

static uint64_t number_of(const struct aios_reply *reply, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(sdk_reply_data(reply), key));

    return n > 0 ? (uint64_t)n : 0;
}

/* An answer of which nothing but its being there is wanted. */
static bool done(struct aios_reply *reply)
{
    aios_reply_free(reply);
    return reply != NULL;
}

/* Bytes that grow, always with a NUL behind them. */
struct bytes {
    char *data;
    size_t len;
};

static bool append(struct bytes *b, const void *more, size_t len, struct aios_error *err)
{
    char *data = realloc(b->data, b->len + len + 1);

    if (!data)
        return sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
    if (len)
        memcpy(data + b->len, more, len);
    b->data = data;
    b->len += len;
    data[b->len] = '\0';
    return true;
}

/* ---- memory ---- */

char *aios_remember(struct aios *a, const char *text, const char *const *tags,
                    struct aios_error *err)
{
    struct aios_memory_query query = { .op = AIOS_MEMORY_ADD, .text = text, .tags = tags };

    return take_text(aios_memory(a, &query, err), "id", err);
}

char *aios_recall(struct aios *a, const char *text, int limit, struct aios_error *err)
{
    struct aios_memory_query query = { .op = AIOS_MEMORY_SEARCH, .text = text, .limit = limit };
    struct aios_reply *reply = aios_memory(a, &query, err);
    char *found;

    if (!reply)
        return NULL;
    found = sdk_copy(aios_reply_text(reply), err);
    aios_reply_free(reply);
    /* That nothing was found is no text for a prompt. */
    if (found && strcmp(found, "no notes found\n") == 0)
        found[0] = '\0';
    return found;
}

char *aios_note(struct aios *a, const char *id, struct aios_error *err)
{
    struct aios_memory_query query = { .op = AIOS_MEMORY_GET, .id = id };
    struct bytes note = { .data = NULL };
    bool ok;

    do {
        struct aios_reply *reply = aios_memory(a, &query, err);
        const json_t *text = reply ? json_object_get(sdk_reply_data(reply), "text") : NULL;
        int64_t next = reply ? (int64_t)number_of(reply, "next") : 0;

        ok = reply && append(&note, json_string_value(text), json_string_length(text), err);
        if (ok && next && next <= query.offset)
            ok = sdk_fail(err, AIOS_PROTOCOL, "the kernel's answers do not get on");
        query.offset = next;
        aios_reply_free(reply);
    } while (ok && query.offset);
    if (ok)
        return note.data;
    free(note.data);
    return NULL;
}

bool aios_forget(struct aios *a, const char *id, struct aios_error *err)
{
    struct aios_memory_query query = { .op = AIOS_MEMORY_REMOVE, .id = id };

    return done(aios_memory(a, &query, err));
}

/* ---- storage ---- */

static bool put(struct aios *a, const struct aios_storage_query *query, uint64_t *ret_version,
                struct aios_error *err)
{
    struct aios_reply *reply = aios_storage(a, query, err);
    uint64_t version = reply ? number_of(reply, "version") : 0;

    if (reply && !version)
        sdk_fail(err, AIOS_PROTOCOL, "the kernel's answer names no version");
    else if (reply && ret_version)
        *ret_version = version;
    aios_reply_free(reply);
    return version > 0;
}

bool aios_put(struct aios *a, const char *key, const void *data, size_t len, uint64_t *ret_version,
              struct aios_error *err)
{
    struct aios_storage_query query = {
        .op = AIOS_STORAGE_PUT, .key = key, .data = data, .len = len
    };

    return put(a, &query, ret_version, err);
}

bool aios_put_if(struct aios *a, const char *key, const void *data, size_t len, uint64_t if_version,
                 uint64_t *ret_version, struct aios_error *err)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_PUT,
                                        .key = key,
                                        .data = data,
                                        .len = len,
                                        .conditional = true,
                                        .if_version = if_version };

    return put(a, &query, ret_version, err);
}

/* The part of the value that begins at value->len; *version, 0 before the first, must stay. */
static bool get_part(struct aios *a, struct aios_storage_query *query, struct bytes *value,
                     uint64_t *version, bool *ret_all, struct aios_error *err)
{
    struct aios_reply *reply;
    uint64_t is, total;
    const void *part;
    size_t len = 0;
    bool ok;

    query->offset = value->len;
    reply = aios_storage(a, query, err);
    if (!reply)
        return false;
    part = aios_reply_value(reply, &len);
    is = number_of(reply, "version");
    total = number_of(reply, "bytes");
    *ret_all = value->len + len >= total;
    if (!part || !is || number_of(reply, "offset") != value->len || (len == 0 && !*ret_all))
        ok = sdk_fail(err, AIOS_PROTOCOL, "the kernel's answers do not get on");
    else if (*version && is != *version)
        ok = sdk_fail(err, AIOS_REFUSED, "the value was changed while it was read: try again");
    else
        ok = append(value, part, len, err);
    *version = is;
    aios_reply_free(reply);
    return ok;
}

static void *get(struct aios *a, struct aios_storage_query *query, size_t *ret_len,
                 uint64_t *ret_version, struct aios_error *err)
{
    struct bytes value = { .data = NULL };
    uint64_t version = 0;
    bool all = false;

    while (!all) {
        if (!get_part(a, query, &value, &version, &all, err)) {
            free(value.data);
            return NULL;
        }
        /* The rest from the same, whatever is put meanwhile; a token cannot say so. */
        if (!query->token)
            query->version = version;
    }
    if (ret_len)
        *ret_len = value.len;
    if (ret_version)
        *ret_version = version;
    return value.data;
}

void *aios_get(struct aios *a, const char *key, size_t *ret_len, uint64_t *ret_version,
               struct aios_error *err)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_GET, .key = key };

    return get(a, &query, ret_len, ret_version, err);
}

void *aios_get_shared(struct aios *a, const char *token, size_t *ret_len, struct aios_error *err)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_GET, .token = token };

    return get(a, &query, ret_len, NULL, err);
}

bool aios_delete(struct aios *a, const char *key, struct aios_error *err)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_DELETE, .key = key };

    return done(aios_storage(a, &query, err));
}

bool aios_rollback(struct aios *a, const char *key, uint64_t version, struct aios_error *err)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_ROLLBACK,
                                        .key = key,
                                        .version = version };

    return done(aios_storage(a, &query, err));
}

char *aios_share(struct aios *a, const char *key, int64_t seconds, struct aios_error *err)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_SHARE, .key = key, .seconds = seconds };

    return take_text(aios_storage(a, &query, err), "token", err);
}
