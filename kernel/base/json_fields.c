#include "kernel/base/json.h"

#include <string.h>

#include "kernel/base/json_bounds.h"
#include "kernel/base/json_refuse.h"
#include "kernel/base/utf8.h"

static bool within(const struct json_field *f, int64_t n)
{
    return (!json_has_min(f) || n >= f->min) && (!json_has_max(f) || n <= f->max);
}

static bool check_count(const struct json_field *f, const struct json_place *at, size_t count,
                        struct error *err)
{
    return within(f, (int64_t)count) || json_refuse_count(f, at, count, err);
}

static bool has_nul(const json_t *string)
{
    return strlen(json_string_value(string)) != json_string_length(string);
}

static bool check_string(const struct json_field *f, const struct json_place *at,
                         const json_t *value, struct error *err)
{
    size_t length;

    if (!json_is_string(value))
        return json_refuse_value(f, at, value, err);
    if (f->kind == JSON_KIND_STRING && has_nul(value))
        return json_refuse_nul(at, err);
    if (!f->min && !f->max)
        return true;
    length = utf8_length(json_string_value(value), json_string_length(value));
    return check_count(f, at, length, err);
}

static bool integer_of(const json_t *value, int64_t *ret)
{
    double real;

    if (json_is_integer(value)) {
        *ret = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value))
        return false;
    real = json_real_value(value);
    if (!(real >= -9223372036854775808.0 && real < 9223372036854775808.0) ||
        (double)(int64_t)real != real)
        return false;
    *ret = (int64_t)real;
    return true;
}

static bool check_number(const struct json_field *f, const struct json_place *at,
                         const json_t *value, struct error *err)
{
    double number = json_number_value(value);

    if (!json_is_number(value) || (json_has_min(f) && number < (double)f->min) ||
        (json_has_max(f) && number > (double)f->max))
        return json_refuse_value(f, at, value, err);
    return true;
}

/* The index into choices, or -1. */
static int choice_of(const struct json_field *f, const json_t *value)
{
    if (json_is_string(value) && !has_nul(value))
        for (int i = 0; f->choices[i]; i++)
            if (!strcmp(f->choices[i], json_string_value(value)))
                return i;
    return -1;
}

static bool check_plain_string(const struct json_place *at, const json_t *value, struct error *err)
{
    static const struct json_field any_string = { .kind = JSON_KIND_STRING };

    return check_string(&any_string, at, value, err);
}

static bool check_strings(const struct json_field *f, const struct json_place *at,
                          const json_t *value, struct error *err)
{
    if (!json_is_array(value))
        return json_refuse_value(f, at, value, err);
    if (!check_count(f, at, json_array_size(value), err))
        return false;
    for (size_t i = 0; i < json_array_size(value); i++) {
        struct json_place here = { .up = at, .index = i };

        if (!check_plain_string(&here, json_array_get(value, i), err))
            return false;
    }
    return true;
}

static bool check_ints(const struct json_field *f, const struct json_place *at, const json_t *value,
                       struct error *err)
{
    static const struct json_field any_int = { .kind = JSON_KIND_INT };
    int64_t integer;

    if (!json_is_array(value))
        return json_refuse_value(f, at, value, err);
    if (!check_count(f, at, json_array_size(value), err))
        return false;
    for (size_t i = 0; i < json_array_size(value); i++) {
        struct json_place here = { .up = at, .index = i };
        json_t *each = json_array_get(value, i);

        if (!integer_of(each, &integer))
            return json_refuse_value(&any_int, &here, each, err);
    }
    return true;
}

static bool check_map(const struct json_field *f, const struct json_place *at, json_t *value,
                      struct error *err)
{
    const char *key;
    json_t *each;

    if (!json_is_object(value))
        return json_refuse_value(f, at, value, err);
    if (!check_count(f, at, json_object_size(value), err))
        return false;
    json_object_foreach (value, key, each) {
        struct json_place here = { .up = at, .key = key };

        if (!check_plain_string(&here, each, err))
            return false;
    }
    return true;
}

static bool check_object(const struct json_field *fields, const struct json_place *at,
                         json_t *object, struct error *err);

static bool check_objects(const struct json_field *f, const struct json_place *at,
                          const json_t *value, struct error *err)
{
    static const struct json_field an_object = { .kind = JSON_KIND_OBJECT };

    if (!json_is_array(value))
        return json_refuse_value(f, at, value, err);
    if (!check_count(f, at, json_array_size(value), err))
        return false;
    for (size_t i = 0; i < json_array_size(value); i++) {
        struct json_place here = { .up = at, .index = i };
        json_t *each = json_array_get(value, i);

        if (!json_is_object(each))
            return json_refuse_value(&an_object, &here, each, err);
        if (f->fields && !check_object(f->fields, &here, each, err))
            return false;
    }
    return true;
}

static bool check_value(const struct json_field *f, const struct json_place *at, json_t *value,
                        struct error *err)
{
    int64_t integer;

    switch (f->kind) {
    case JSON_KIND_STRING:
    case JSON_KIND_TEXT:
        return check_string(f, at, value, err);
    case JSON_KIND_INT:
        if (!integer_of(value, &integer) || !within(f, integer))
            return json_refuse_value(f, at, value, err);
        return true;
    case JSON_KIND_NUMBER:
        return check_number(f, at, value, err);
    case JSON_KIND_BOOL:
        return json_is_boolean(value) || json_refuse_value(f, at, value, err);
    case JSON_KIND_ENUM:
        return choice_of(f, value) >= 0 || json_refuse_choice(f, at, value, err);
    case JSON_KIND_STRINGS:
        return check_strings(f, at, value, err);
    case JSON_KIND_INTS:
        return check_ints(f, at, value, err);
    case JSON_KIND_MAP:
        return check_map(f, at, value, err);
    case JSON_KIND_OBJECT:
        if (!json_is_object(value))
            return json_refuse_value(f, at, value, err);
        return check_object(f->fields, at, value, err);
    case JSON_KIND_OBJECTS:
        return check_objects(f, at, value, err);
    case JSON_KIND_FREE_OBJECT:
        return json_is_object(value) || json_refuse_value(f, at, value, err);
    case JSON_KIND_ANY:
        return true;
    }
    return true;
}

/* The value for @f, or NULL.  Models like to send null for what they leave out. */
static json_t *member(const struct json_field *f, const json_t *object)
{
    json_t *value = json_object_get(object, f->name);

    return json_is_null(value) && f->kind != JSON_KIND_ANY ? NULL : value;
}

static bool check_known(const struct json_field *fields, const struct json_place *at,
                        json_t *object, struct error *err)
{
    size_t known = 0;
    const char *key;
    json_t *value;

    for (const struct json_field *f = fields; f->name; f++)
        known += json_object_get(object, f->name) != NULL;
    if (known == json_object_size(object))
        return true;
    json_object_foreach (object, key, value) {
        const struct json_field *f = fields;

        while (f->name && strcmp(f->name, key) != 0)
            f++;
        if (!f->name)
            return json_refuse_unknown(fields, at, key, err);
    }
    return true;
}

/* @object may be NULL for {}. */
static bool check_object(const struct json_field *fields, const struct json_place *at,
                         json_t *object, struct error *err)
{
    /* Unknown keys first: a misspelt key says more than the required one that is missing. */
    if (!check_known(fields, at, object, err))
        return false;
    for (const struct json_field *f = fields; f->name; f++) {
        struct json_place here = { .up = at, .key = f->name };
        json_t *value = member(f, object);

        if (value) {
            if (!check_value(f, &here, value, err))
                return false;
        } else if (f->required) {
            return json_refuse_missing(f, &here, json_object_get(object, f->name) != NULL, err);
        } else if (f->kind == JSON_KIND_OBJECT && !check_object(f->fields, &here, NULL, err)) {
            return false;
        }
    }
    return true;
}

/* Everything has been checked: this cannot fail. */
static void fill_object(const struct json_field *fields, const json_t *object, char *base)
{
    for (const struct json_field *f = fields; f->name; f++) {
        json_t *value = member(f, object);
        void *to = base + f->offset;

        switch (f->kind) {
        case JSON_KIND_STRING:
            *(const char **)to = json_string_value(value);
            break;
        case JSON_KIND_TEXT:
            *(struct json_text *)to =
                (struct json_text){ json_string_value(value), json_string_length(value) };
            break;
        case JSON_KIND_INT:
            if (!integer_of(value, to))
                *(int64_t *)to = f->fallback;
            break;
        case JSON_KIND_NUMBER:
            *(double *)to = value ? json_number_value(value) : (double)f->fallback;
            break;
        case JSON_KIND_BOOL:
            *(bool *)to = value ? json_is_true(value) : f->fallback != 0;
            break;
        case JSON_KIND_ENUM:
            *(int *)to = value ? choice_of(f, value) : (int)f->fallback;
            break;
        case JSON_KIND_OBJECT:
            fill_object(f->fields, value, to);
            break;
        case JSON_KIND_STRINGS:
        case JSON_KIND_INTS:
        case JSON_KIND_MAP:
        case JSON_KIND_OBJECTS:
        case JSON_KIND_FREE_OBJECT:
        case JSON_KIND_ANY:
            *(json_t **)to = value;
            break;
        }
    }
}

bool json_fields_read(const struct json_field *fields, json_t *object, void *ret, struct error *err)
{
    static const struct json_field an_object = { .kind = JSON_KIND_OBJECT };

    if (object && !json_is_object(object))
        return json_refuse_value(&an_object, NULL, object, err);
    if (!check_object(fields, NULL, object, err))
        return false;
    fill_object(fields, object, ret);
    return true;
}
