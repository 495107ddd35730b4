/* Memory and storage for those who want the plain thing. */
#include <stdlib.h>
#include <string.h>

#include "kernel/sdk/sdk.h"

#define PIECE_BYTES ((size_t)20 << 10) /* asked for at once: fits an answer, as base64 too */

/* ---- memory ---- */

static char *copy(const char *text, struct aios_error *err)
{
    char *ret = text ? strdup(text) : NULL;

    if (!text)
        sdk_fail(err, AIOS_PROTOCOL, "the kernel's answer lacks what was asked for");
    else if (!ret)
        sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
    return ret;
}

char *aios_remember(struct aios *a, const char *text, const char *const *tags,
                    struct aios_error *err)
{
    struct aios_memory_query query = { .op = AIOS_MEMORY_ADD, .text = text, .tags = tags };
    struct aios_reply *reply = aios_memory(a, &query, err);
    char *id;

    if (!reply)
        return NULL;
    id = copy(json_string_value(json_object_get(sdk_reply_data(reply), "id")), err);
    aios_reply_free(reply);
    return id;
}

char *aios_recall(struct aios *a, const char *text, int limit, struct aios_error *err)
{
    struct aios_memory_query query = { .op = AIOS_MEMORY_SEARCH, .text = text, .limit = limit };
    struct aios_reply *reply = aios_memory(a, &query, err);
    const json_t *data = reply ? sdk_reply_data(reply) : NULL;
    char *found;

    if (!reply)
        return NULL;
    /* Nothing found is no text for a prompt. */
    found = copy(
        data && json_array_size(json_object_get(data, "notes")) == 0 ? "" : aios_reply_text(reply),
        err);
    aios_reply_free(reply);
    return found;
}

bool aios_forget(struct aios *a, const char *id, struct aios_error *err)
{
    struct aios_memory_query query = { .op = AIOS_MEMORY_REMOVE, .id = id };
    struct aios_reply *reply = aios_memory(a, &query, err);

    aios_reply_free(reply);
    return reply != NULL;
}

/* ---- storage ---- */

bool aios_put(struct aios *a, const char *key, const void *data, size_t len, uint64_t *ret_version,
              struct aios_error *err)
{
    struct aios_storage_query query = {
        .op = AIOS_STORAGE_PUT, .key = key, .data = data, .len = len, .if_version = -1
    };
    struct aios_reply *reply = aios_storage(a, &query, err);

    if (!reply)
        return false;
    if (ret_version)
        *ret_version =
            (uint64_t)json_integer_value(json_object_get(sdk_reply_data(reply), "version"));
    aios_reply_free(reply);
    return true;
}

bool aios_delete(struct aios *a, const char *key, struct aios_error *err)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_DELETE, .key = key, .if_version = -1 };
    struct aios_reply *reply = aios_storage(a, &query, err);

    aios_reply_free(reply);
    return reply != NULL;
}

bool aios_rollback(struct aios *a, const char *key, uint64_t version, struct aios_error *err)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_ROLLBACK,
                                        .key = key,
                                        .version = version };
    struct aios_reply *reply = aios_storage(a, &query, err);

    aios_reply_free(reply);
    return reply != NULL;
}
