#include "kernel/base/json.h"

#include <string.h>

#include "kernel/base/json_bounds.h"

/* jansson's _new functions consume the value even when they fail, and fail on NULL. */
static bool put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

/* Counts beyond this are never reached by accident: they are checked, not said. */
#define COUNT_SAID 200

static bool put_bounds(json_t *schema, const struct json_field *f, const char *min, const char *max,
                       bool count)
{
    if (json_has_min(f) && !(count && f->min <= 0) && !put(schema, min, json_integer(f->min)))
        return false;
    return !json_has_max(f) || (count && f->max > COUNT_SAID) ||
           put(schema, max, json_integer(f->max));
}

static bool put_choices(json_t *schema, const struct json_field *f)
{
    json_t *choices = json_array();
    int64_t count = 0;

    for (; f->choices[count]; count++) {
        if (json_array_append_new(choices, json_string(f->choices[count])) < 0) {
            json_decref(choices);
            return false;
        }
    }
    if (!put(schema, "enum", choices))
        return false;
    return f->required || f->fallback < 0 || f->fallback >= count ||
           put(schema, "default", json_string(f->choices[f->fallback]));
}

/* A fallback outside the bounds, or the largest number, only marks that nothing was given. */
static bool wants_default(const struct json_field *f)
{
    if (f->required)
        return false;
    if (f->kind == JSON_KIND_BOOL)
        return f->fallback != 0; /* false is what everybody expects */
    return f->fallback != 0 && f->fallback != INT64_MAX &&
           !(json_has_min(f) && f->fallback < f->min) && !(json_has_max(f) && f->fallback > f->max);
}

/* That a name or a path is not empty goes without saying: the list of tools is read by a model. */
static bool put_length(json_t *schema, const struct json_field *f)
{
    struct json_field said = *f;

    if (said.min == 1 && said.max)
        said.min = 0;
    return put_bounds(schema, &said, "minLength", "maxLength", true);
}

static bool put_object(json_t *schema, const struct json_field *fields);

/* @type: of each; an object's @fields may be NULL. */
static bool put_items(json_t *schema, const char *type, const struct json_field *fields)
{
    json_t *items = json_object();

    /* The parts are filled before they are handed over: jansson consumes them either way. */
    if (!items || (fields ? !put_object(items, fields) : !put(items, "type", json_string(type)))) {
        json_decref(items);
        return false;
    }
    return put(schema, "items", items);
}

static bool put_strings_map(json_t *schema)
{
    json_t *values = json_object();

    if (!values || !put(values, "type", json_string("string"))) {
        json_decref(values);
        return false;
    }
    return put(schema, "additionalProperties", values);
}

static bool describe_kind(json_t *schema, const struct json_field *f)
{
    switch (f->kind) {
    case JSON_KIND_STRING:
    case JSON_KIND_TEXT:
        return put(schema, "type", json_string("string")) && put_length(schema, f);
    case JSON_KIND_INT:
        return put(schema, "type", json_string("integer")) &&
               put_bounds(schema, f, "minimum", "maximum", false) &&
               (!wants_default(f) || put(schema, "default", json_integer(f->fallback)));
    case JSON_KIND_NUMBER:
        return put(schema, "type", json_string("number")) &&
               put_bounds(schema, f, "minimum", "maximum", false) &&
               (!wants_default(f) || put(schema, "default", json_integer(f->fallback)));
    case JSON_KIND_BOOL:
        return put(schema, "type", json_string("boolean")) &&
               (!wants_default(f) || put(schema, "default", json_boolean(f->fallback != 0)));
    case JSON_KIND_ENUM:
        return put(schema, "type", json_string("string")) && put_choices(schema, f);
    case JSON_KIND_STRINGS:
        return put(schema, "type", json_string("array")) && put_items(schema, "string", NULL) &&
               put_bounds(schema, f, "minItems", "maxItems", true);
    case JSON_KIND_INTS:
        return put(schema, "type", json_string("array")) && put_items(schema, "integer", NULL) &&
               put_bounds(schema, f, "minItems", "maxItems", true);
    case JSON_KIND_OBJECTS:
        return put(schema, "type", json_string("array")) &&
               put_items(schema, "object", f->fields) &&
               put_bounds(schema, f, "minItems", "maxItems", true);
    case JSON_KIND_MAP:
        return put(schema, "type", json_string("object")) && put_strings_map(schema) &&
               put_bounds(schema, f, "minProperties", "maxProperties", true);
    case JSON_KIND_OBJECT:
        return put_object(schema, f->fields);
    case JSON_KIND_FREE_OBJECT:
        return put(schema, "type", json_string("object"));
    case JSON_KIND_ANY:
        return true;
    }
    return true;
}

static json_t *field_schema(const struct json_field *f)
{
    json_t *schema = json_object();

    if (schema && describe_kind(schema, f) &&
        (!f->description || put(schema, "description", json_string(f->description))))
        return schema;
    json_decref(schema);
    return NULL;
}

static bool put_object(json_t *schema, const struct json_field *fields)
{
    json_t *properties = json_object(), *required = json_array();
    bool ok = properties && required;

    for (const struct json_field *f = fields; ok && f->name; f++)
        ok = put(properties, f->name, field_schema(f)) &&
             (!f->required || json_array_append_new(required, json_string(f->name)) == 0);
    ok = ok && put(schema, "type", json_string("object"));
    ok = ok && json_object_set(schema, "properties", properties) == 0;
    if (ok && json_array_size(required))
        ok = json_object_set(schema, "required", required) == 0;
    ok = ok && put(schema, "additionalProperties", json_false());
    json_decref(properties);
    json_decref(required);
    return ok;
}

json_t *json_fields_schema(const struct json_field *fields)
{
    json_t *schema = json_object();

    if (schema && put_object(schema, fields))
        return schema;
    json_decref(schema);
    return NULL;
}

static bool put_text(json_t *object, const char *name, const char *data, size_t len)
{
    return !data || put(object, name, json_string_lossy(data, len));
}

static bool write_field(json_t *object, const struct json_field *f, const void *from)
{
    const struct json_text *text;
    const char *string;
    json_t *value;
    int choice;

    switch (f->kind) {
    case JSON_KIND_STRING:
        string = *(const char *const *)from;
        return put_text(object, f->name, string, string ? strlen(string) : 0);
    case JSON_KIND_TEXT:
        text = from;
        return put_text(object, f->name, text->data, text->len);
    case JSON_KIND_INT:
        return put(object, f->name, json_integer(*(const int64_t *)from));
    case JSON_KIND_NUMBER:
        return put(object, f->name, json_real(*(const double *)from));
    case JSON_KIND_BOOL:
        return put(object, f->name, json_boolean(*(const bool *)from));
    case JSON_KIND_ENUM:
        choice = *(const int *)from;
        for (int i = 0; f->choices[i]; i++)
            if (i == choice)
                return put(object, f->name, json_string(f->choices[i]));
        return true; /* a fallback outside the choices says that none was made */
    case JSON_KIND_OBJECT:
        return put(object, f->name, json_fields_write(f->fields, from));
    case JSON_KIND_STRINGS:
    case JSON_KIND_INTS:
    case JSON_KIND_MAP:
    case JSON_KIND_OBJECTS:
    case JSON_KIND_FREE_OBJECT:
    case JSON_KIND_ANY:
        value = *(json_t *const *)from;
        return !value || json_object_set(object, f->name, value) == 0;
    }
    return true;
}

json_t *json_fields_write(const struct json_field *fields, const void *from)
{
    json_t *object = json_object();
    bool ok = object != NULL;

    for (const struct json_field *f = fields; ok && f->name; f++)
        ok = write_field(object, f, (const char *)from + f->offset);
    if (ok)
        return object;
    json_decref(object);
    return NULL;
}
