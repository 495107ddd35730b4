/* What comes back from a tool: text, data, pictures. */
#include <stdlib.h>
#include <string.h>

#include "kernel/sdk/sdk.h"

#define IMAGES_MAX 16

struct image {
    unsigned char *data;
    size_t len;
    const char *type; /* borrowed from the result */
};

struct aios_reply {
    json_t *result;
    char *text, *json;
    void *value; /* NULL: not what a value was asked of */
    size_t value_len;
    struct image images[IMAGES_MAX];
    size_t image_count;
};

void aios_reply_free(struct aios_reply *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->image_count; i++)
        free(r->images[i].data);
    free(r->value);
    free(r->text);
    free(r->json);
    json_decref(r->result);
    free(r);
}

/* ---- making ---- */

static bool is_type(const json_t *block, const char *type)
{
    const char *is = json_string_value(json_object_get(block, "type"));

    return is && strcmp(is, type) == 0;
}

static bool add_text(struct aios_reply *r, const char *text)
{
    size_t before = r->text ? strlen(r->text) : 0, more = strlen(text);
    char *both = realloc(r->text, before + more + 2);

    if (!both)
        return false;
    r->text = both;
    if (before)
        both[before++] = '\n';
    memcpy(both + before, text, more + 1);
    return true;
}

static bool add_image(struct aios_reply *r, const json_t *block)
{
    const json_t *data = json_object_get(block, "data");
    struct image *image = &r->images[r->image_count];

    if (!json_is_string(data) || r->image_count == IMAGES_MAX)
        return true;
    image->data = sdk_base64_decode(json_string_value(data), json_string_length(data), &image->len);
    image->type = json_string_value(json_object_get(block, "mimeType"));
    if (!image->data)
        return false;
    r->image_count++;
    return true;
}

static bool read_blocks(struct aios_reply *r)
{
    json_t *block;
    size_t i;

    json_array_foreach (json_object_get(r->result, "content"), i, block) {
        const char *text = json_string_value(json_object_get(block, "text"));

        if (is_type(block, "text") && text && !add_text(r, text))
            return false;
        if (is_type(block, "image") && !add_image(r, block))
            return false;
    }
    return r->text || add_text(r, "");
}

static void refused(const struct aios_reply *r, struct aios_error *err)
{
    const char *kind =
        json_string_value(json_object_get(json_object_get(r->result, "_meta"), "aios/error"));

    sdk_fail(err, AIOS_REFUSED, "%s", *r->text ? r->text : "no reason is given");
    if (err && kind)
        (void)snprintf(err->kind, sizeof err->kind, "%s", kind);
}

struct aios_reply *sdk_reply(json_t *result, struct aios_error *err)
{
    struct aios_reply *r = calloc(1, sizeof *r);
    const json_t *data = json_object_get(result, "structuredContent");

    if (!r) {
        json_decref(result);
        sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
        return NULL;
    }
    r->result = result;
    if (data)
        r->json = sdk_dump(data);
    if (!read_blocks(r) || (data && !r->json)) {
        sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
    } else if (json_is_true(json_object_get(result, "isError"))) {
        refused(r, err);
    } else if (!json_is_array(json_object_get(result, "content"))) {
        sdk_fail(err, AIOS_PROTOCOL, "the kernel's answer has no content");
    } else {
        return r;
    }
    aios_reply_free(r);
    return NULL;
}

bool sdk_reply_set_data(struct aios_reply *r, json_t *data, struct aios_error *err)
{
    char *json = data ? sdk_dump(data) : NULL;

    if (!json || json_object_set(r->result, "structuredContent", data) < 0) {
        free(json);
        json_decref(data);
        return sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
    }
    json_decref(data);
    free(r->json);
    r->json = json;
    return true;
}

void sdk_reply_set_value(struct aios_reply *r, void *value, size_t len)
{
    free(r->value);
    r->value = value;
    r->value_len = len;
}

/* ---- looking ---- */

const char *sdk_reply_block(const struct aios_reply *r, size_t index, size_t *ret_len)
{
    json_t *block;
    size_t i;

    json_array_foreach (json_object_get(r->result, "content"), i, block) {
        json_t *text = json_object_get(block, "text");

        if (!is_type(block, "text") || !json_is_string(text))
            continue;
        if (index-- == 0) {
            *ret_len = json_string_length(text);
            return json_string_value(text);
        }
    }
    return NULL;
}

const char *aios_reply_text(const struct aios_reply *r)
{
    return r->text;
}

const char *aios_reply_json(const struct aios_reply *r)
{
    return r->json;
}

const json_t *sdk_reply_data(const struct aios_reply *r)
{
    return json_object_get(r->result, "structuredContent");
}

const void *aios_reply_value(const struct aios_reply *r, size_t *ret_len)
{
    if (r->value)
        *ret_len = r->value_len;
    return r->value;
}

size_t aios_reply_images(const struct aios_reply *r)
{
    return r->image_count;
}

const void *aios_reply_image(const struct aios_reply *r, size_t index, size_t *ret_len,
                             const char **ret_type)
{
    if (index >= r->image_count)
        return NULL;
    *ret_len = r->images[index].len;
    *ret_type = r->images[index].type ? r->images[index].type : "image/png";
    return r->images[index].data;
}
