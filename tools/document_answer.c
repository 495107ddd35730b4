#include "tools/document_answer.h"

#include <string.h>

#include "kernel/base/json.h"

static const char *const image_types[] = { "image/png", "image/jpeg", "image/webp" };

bool document_answer_size(const char digits[8], size_t *ret, struct error *err)
{
    size_t size = 0;
    size_t i = 0;

    for (; i < 8 && digits[i] >= '0' && digits[i] <= '9'; i++)
        size = size * 10 + (size_t)(digits[i] - '0');
    if (i < 8 || size == 0 || size > DOCUMENT_ANSWER_MAX)
        return error_set(err, ERR_PROTOCOL,
                         "the program that works on documents in the computer answered with "
                         "something else than an answer");
    *ret = size;
    return true;
}

/* Cut @want bytes off the rest. */
static const char *take(const char **at, size_t *left, json_int_t want)
{
    const char *piece = *at;

    if (want < 0 || (uint64_t)want > *left)
        return NULL;
    *at += want;
    *left -= (size_t)want;
    return piece;
}

static bool take_image(const json_t *image, const char **at, size_t *left,
                       struct document_image *ret)
{
    const char *type = json_string_value(json_array_get(image, 0));
    const json_t *len = json_array_get(image, 1);

    for (size_t i = 0; type && json_is_integer(len) && i < ARRAY_LEN(image_types); i++) {
        if (strcmp(type, image_types[i]) != 0)
            continue;
        ret->mime_type = image_types[i];
        ret->data = take(at, left, json_integer_value(len));
        ret->len = (size_t)json_integer_value(len);
        return ret->data != NULL;
    }
    return false;
}

static enum error_code code_named(const char *name)
{
    for (int code = ERR_NONE + 1; name && code < ERR_CODE_COUNT; code++)
        if (strcmp(error_code_name((enum error_code)code), name) == 0)
            return (enum error_code)code;
    return ERR_NONE;
}

static bool take_body(const json_t *head, const char *at, size_t left, struct document_answer *a)
{
    const json_t *text = json_object_get(head, "text");
    const json_t *images = json_object_get(head, "images");

    a->ok = json_is_true(json_object_get(head, "ok"));
    a->code = code_named(json_string_value(json_object_get(head, "error")));
    if (a->ok == (a->code != ERR_NONE) || !json_is_integer(text))
        return false;
    a->text = take(&at, &left, json_integer_value(text));
    a->text_len = (size_t)json_integer_value(text);
    if (!a->text || json_array_size(images) > LIMIT_IMAGES)
        return false;
    for (size_t i = 0; i < json_array_size(images); i++)
        if (!take_image(json_array_get(images, i), &at, &left, &a->images[a->image_count++]))
            return false;
    return left == 0;
}

bool document_answer_read(const char *bytes, size_t len, struct document_answer *ret,
                          struct error *err)
{
    struct document_answer answer = { .ok = false };
    const char *end = len ? memchr(bytes, '\n', MIN(len, DOCUMENT_HEAD_MAX)) : NULL;
    json_t *head = NULL;
    bool ok;

    if (end)
        head = json_parse(bytes, (size_t)(end - bytes), NULL);
    ok = head && take_body(head, end + 1, len - (size_t)(end + 1 - bytes), &answer);
    json_decref(head);
    if (!ok)
        return error_set(err, ERR_PROTOCOL,
                         "the program that reads documents in the computer gave no whole answer");
    *ret = answer;
    return true;
}
