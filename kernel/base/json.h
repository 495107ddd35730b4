/*
 * json - field tables: one table is at once a published schema, a checker, and the layout of a C
 * struct.
 *
 * Ownership: strings and json_t pointers in a filled struct are borrowed from the object that was
 *   read, and live as long as it does.
 * Threads: a json_t belongs to one thread at a time.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

enum json_kind {
    JSON_KIND_STRING,  /* const char *, no NUL inside; NULL when absent; min/max characters */
    JSON_KIND_TEXT,    /* struct json_text, any characters; data NULL when absent */
    JSON_KIND_INT,     /* int64_t; `fallback` when absent; min/max */
    JSON_KIND_NUMBER,  /* double; `fallback` when absent; min/max */
    JSON_KIND_BOOL,    /* bool; `fallback` != 0 when absent */
    JSON_KIND_ENUM,    /* int: index into `choices`; `fallback` when absent */
    JSON_KIND_STRINGS, /* json_t *: an array of strings; NULL when absent; min/max count */
    JSON_KIND_INTS,    /* json_t *: an array of whole numbers; NULL when absent; min/max count */
    JSON_KIND_MAP, /* json_t *: an object whose values are strings; NULL when absent; max count */
    JSON_KIND_OBJECT,  /* the struct of `fields`, embedded; absent is read as {} */
    JSON_KIND_OBJECTS, /* json_t *: an array of objects, each checked by `fields` unless it is NULL
                        */
    JSON_KIND_ANY,     /* json_t *: unchecked; NULL when absent */
    JSON_KIND_FREE_OBJECT, /* json_t *: an object, unchecked inside; NULL when absent */
};

struct json_text {
    const char *data;
    size_t len;
};

struct json_field {
    const char *name;        /* NULL ends the table */
    const char *description; /* for the schema and for `aios config show` */
    enum json_kind kind;
    bool required;
    size_t offset; /* offsetof() in the struct that the table fills */
    int64_t min;   /* both 0: no limits; a minimum alone is { min, 0 } or { min, INT64_MAX } */
    int64_t max;
    int64_t fallback;
    const char *const *choices;      /* JSON_KIND_ENUM: NULL-terminated */
    const struct json_field *fields; /* JSON_KIND_OBJECT and _OBJECTS */
};

/** Parse one JSON text: UTF-8 checked, at most LIMIT_JSON_DEPTH deep, NUL characters allowed,
 *  duplicate keys refused.  ERR_INVALID says where; ERR_LIMIT for the depth; ERR_NOMEM. */
NODISCARD json_t *json_parse(const char *text, size_t len, struct error *err);

/** One line, no spaces, keys in insertion order, invalid UTF-8 impossible by construction. */
NODISCARD bool json_write(const json_t *value, struct buf *out);

/** Check @object against @fields and fill @ret (all of it, absent ones with their fallback).
 *  @object may be NULL for {}.  The first error names the key by path ("network.allow[2]"), says
 *  what was expected and what came; an unknown key is refused with the known ones listed.
 *  A key that is not required may be null, which counts as absent (JSON_KIND_ANY keeps it), and
 *  an integer may be written as 5.0.  On failure @ret is left alone. */
NODISCARD bool json_fields_read(const struct json_field *fields, json_t *object, void *ret,
                                struct error *err);

/** The table as a JSON Schema object (type, properties, required, additionalProperties:false);
 *  a new reference, or NULL when memory ran out. */
NODISCARD json_t *json_fields_schema(const struct json_field *fields);

/** A filled struct back to JSON, defaults included; a new reference or NULL. */
NODISCARD json_t *json_fields_write(const struct json_field *fields, const void *from);

/** json_string() of bytes that may be invalid UTF-8: repaired as utf8_append_valid() does. */
NODISCARD json_t *json_string_lossy(const char *text, size_t len);
