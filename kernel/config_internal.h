/*
 * config_internal - the tables that config.c reads by and config_text.c prints from.
 *
 * Threads: any; constants.
 */
#pragma once

#include "kernel/base/json.h"
#include "kernel/config.h"

/** One JSON_KIND_OBJECT per section. */
extern const struct json_field config_fields[];

/* config_services.c */
extern const struct json_field config_storage_fields[], config_postgres_fields[],
    config_s3_fields[], config_memory_fields[], config_llm_fields[], config_serve_fields[];

/** What a field table cannot say about a string. */
struct config_string {
    const char *section, *key;
    size_t offset; /* in struct config */
    const char *fallback;
    const char *const *choices; /* NULL-terminated, or NULL for any text */
};

/** Ends with section NULL. */
extern const struct config_string config_strings[];

/** The row of @section and @key, or NULL. */
const struct config_string *config_string_find(const char *section, const char *key);
