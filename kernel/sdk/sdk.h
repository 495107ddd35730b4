/*
 * sdk - what the files of libaios share.  Not installed.
 *
 * Threads: the connection's one.
 */
#pragma once

#include <jansson.h>

#include "kernel/sdk/aios.h"

#define SDK_MESSAGE_MAX ((size_t)64 << 20) /* longest answer that is taken */
#define SDK_TIMEOUT_MS  60000

#define SDK_LEN(array) (sizeof(array) / sizeof((array)[0]))

/** Sets *err unless it is NULL; returns false. */
bool sdk_fail(struct aios_error *err, enum aios_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** The result of the tool @name with @arguments (taken; NULL: memory ran out while they were made);
 * a new reference.  @timeout_ms 0: the connection's. */
json_t *sdk_call_tool(struct aios *a, const char *name, json_t *arguments, int64_t timeout_ms,
                      struct aios_error *err);

/** Any request; @params (taken) gets the protocol's _meta. */
json_t *sdk_request(struct aios *a, const char *method, json_t *params, int64_t timeout_ms,
                    struct aios_error *err);

/** A reply made of a tool's result (taken). */
struct aios_reply *sdk_reply(json_t *result, struct aios_error *err);

/** The reply's data, borrowed; NULL when it has none. */
const json_t *sdk_reply_data(const struct aios_reply *r);

/** @text as JSON of @type; NULL with *err, which calls it @what. */
json_t *sdk_parse(const char *text, json_type type, const char *what, struct aios_error *err);

/** object.key = @value (taken).  False when memory ran out, or @value is NULL for that. */
bool sdk_set(json_t *object, const char *key, json_t *value);

/** object.key = @text, unless that is NULL. */
bool sdk_set_text(json_t *object, const char *key, const char *text);
