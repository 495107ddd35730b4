/*
 * json_bounds - what `min` and `max` of a field mean, for the checker and the schema alike.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/json.h"

/** Both 0 is no limit at all; a minimum alone is { min, 0 } or { min, INT64_MAX }. */
static inline bool json_has_max(const struct json_field *f)
{
    return (f->min || f->max) && f->max != INT64_MAX && !(f->max == 0 && f->min > 0);
}

static inline bool json_has_min(const struct json_field *f)
{
    return (f->min || f->max) && f->min != INT64_MIN;
}
