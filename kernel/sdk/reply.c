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
    struct image images[IMAGES_MAX];
    size_t image_count;
};

void aios_reply_free(struct aios_reply *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->image_count; i++)
        free(r->images[i].data);
    free(r->text);
    free(r->json);
    json_decref(r->result);
    free(r);
}

/* ---- base64 ---- */

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Up to the padding or the first character that is none of base64's. */
static unsigned char *decode(const char *text, size_t *ret_len)
{
    unsigned char *data = malloc(strlen(text) / 4 * 3 + 3);
    unsigned bits = 0, have = 0;
    size_t len = 0;

    for (; data && *text && digit(*text) >= 0; text++) {
        bits = (bits << 6 | (unsigned)digit(*text)) & 0xffffffu;
        have += 6;
        if (have >= 8) {
            have -= 8;
            data[len++] = (unsigned char)(bits >> have);
        }
    }
    *ret_len = len;
    return data;
}

/* ---- making ---- */

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
    const char *data = json_string_value(json_object_get(block, "data"));
    struct image *image = &r->images[r->image_count];

    if (!data || r->image_count == IMAGES_MAX)
        return true;
    image->data = decode(data, &image->len);
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
        const char *type = json_string_value(json_object_get(block, "type"));
        const char *text = json_string_value(json_object_get(block, "text"));

        if (type && strcmp(type, "text") == 0 && text && !add_text(r, text))
            return false;
        if (type && strcmp(type, "image") == 0 && !add_image(r, block))
            return false;
    }
    return r->text || add_text(r, "");
}

struct aios_reply *sdk_reply(json_t *result, struct aios_error *err)
{
    struct aios_reply *r = calloc(1, sizeof *r);
    const json_t *data;

    if (!r) {
        json_decref(result);
        sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
        return NULL;
    }
    r->result = result;
    data = json_object_get(result, "structuredContent");
    if (data)
        r->json = json_dumps(data, JSON_COMPACT);
    if (!read_blocks(r) || (data && !r->json)) {
        aios_reply_free(r);
        sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
        return NULL;
    }
    if (json_is_true(json_object_get(result, "isError"))) {
        sdk_fail(err, AIOS_REFUSED, "%s", r->text);
        aios_reply_free(r);
        return NULL;
    }
    return r;
}

/* ---- looking ---- */

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
