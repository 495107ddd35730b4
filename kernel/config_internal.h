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

/** The keys of a class's queue within the table of its section. */
#define CONFIG_QUEUE_FIELDS(section, most_workers)                                                 \
    { .name = "policy",                                                                            \
      .description = "The order in which waiting calls are taken: by arrival; by priority, which " \
                     "grows with the wait; the shortest first; agents in turn, with a quantum; "   \
                     "the earliest deadline first.",                                               \
      .kind = JSON_KIND_STRING,                                                                    \
      .offset = CONFIG_AT(section, calls.policy) },                                                \
        { .name = "queue",                                                                         \
          .description = "Calls that may wait; one more is answered as busy.",                     \
          .kind = JSON_KIND_INT,                                                                   \
          .offset = CONFIG_AT(section, calls.queue),                                               \
          .min = 1,                                                                                \
          .max = LIMIT_QUEUE,                                                                      \
          .fallback = 1024 },                                                                      \
        { .name = "workers",                                                                       \
          .description = "Calls that may run at once.",                                            \
          .kind = JSON_KIND_INT,                                                                   \
          .offset = CONFIG_AT(section, calls.workers),                                             \
          .min = 1,                                                                                \
          .max = LIMIT_WORKERS,                                                                    \
          .fallback = (most_workers) },                                                            \
        { .name = "workers_min",                                                                   \
          .description = "Threads that stay for them when there is nothing to do.",                \
          .kind = JSON_KIND_INT,                                                                   \
          .offset = CONFIG_AT(section, calls.workers_min),                                         \
          .min = 0,                                                                                \
          .max = LIMIT_WORKERS },                                                                  \
        { .name = "cpus",                                                                          \
          .description = "Processors for these threads: empty for any, \"auto\" for one each in "  \
                         "turn, a list such as \"0-3,6\", or a NUMA node such as \"node0\".",      \
          .kind = JSON_KIND_STRING,                                                                \
          .offset = CONFIG_AT(section, calls.cpus),                                                \
          .max = CONFIG_CPUS_MAX },                                                                \
        { .name = "fair",                                                                          \
          .description = "Whether the agent that has used least is served first; the policy then " \
                         "orders the calls of each agent.",                                        \
          .kind = JSON_KIND_BOOL,                                                                  \
          .offset = CONFIG_AT(section, calls.fair) },                                              \
        { .name = "quantum_ms",                                                                    \
          .description = "Policy rr: milliseconds after which a call that can be put aside makes " \
                         "room for those that wait.",                                              \
          .kind = JSON_KIND_INT,                                                                   \
          .offset = CONFIG_AT(section, calls.quantum_ms),                                          \
          .min = 1,                                                                                \
          .max = 3600000,                                                                          \
          .fallback = 1000 },                                                                      \
    {                                                                                              \
        .name = "ageing_ms",                                                                       \
        .description = "Policy priority: milliseconds of waiting that count as one step of "       \
                       "priority.",                                                                \
        .kind = JSON_KIND_INT, .offset = CONFIG_AT(section, calls.ageing_ms), .min = 1,            \
        .max = 3600000, .fallback = 500                                                            \
    }

#define CONFIG_AT(section, member) \
    (offsetof(struct config, section.member) - offsetof(struct config, section))
#define CONFIG_CPUS_MAX 63

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
