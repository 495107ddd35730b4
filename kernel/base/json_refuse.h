/*
 * json_refuse - the words with which a field table refuses a value.
 *
 * A language model reads them to correct itself, so each says where, what was expected and what
 * came instead.  Nothing is allocated.  Internal to json_fields.  Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/json.h"

/** Where in the object the reader is; a chain on the stack of the walk, NULL for the whole. */
struct json_place {
    const struct json_place *up;
    const char *key; /* NULL: an element of an array */
    size_t index;
};

/** Each fills @err with ERR_INVALID and returns false. */
bool json_refuse_value(const struct json_field *f, const struct json_place *at, const json_t *value,
                       struct error *err);

/** A string of @count characters or an array or object of @count entries: too few or too many. */
bool json_refuse_count(const struct json_field *f, const struct json_place *at, size_t count,
                       struct error *err);

/** Like json_refuse_value(), and names the choice that was probably meant. */
bool json_refuse_choice(const struct json_field *f, const struct json_place *at,
                        const json_t *value, struct error *err);

bool json_refuse_nul(const struct json_place *at, struct error *err);

/** @null: the key is there, but null. */
bool json_refuse_missing(const struct json_field *f, const struct json_place *at, bool null,
                         struct error *err);

bool json_refuse_unknown(const struct json_field *fields, const struct json_place *at,
                         const char *key, struct error *err);
