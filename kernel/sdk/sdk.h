/*
 * sdk - what the files of libaios share.  Not installed.
 *
 * Threads: the connection's one.
 */
#pragma once

#include <jansson.h>

#include "kernel/sdk/aios.h"

#define SDK_ANSWER_MAX   ((size_t)64 << 20) /* longest line that is taken */
#define SDK_QUESTION_MAX ((size_t)8 << 20)  /* longest that the kernel takes */
#define SDK_TIMEOUT_MS   60000

#define SDK_LEN(array) (sizeof(array) / sizeof((array)[0]))

/** Sets *err unless it is NULL; returns false. */
bool sdk_fail(struct aios_error *err, enum aios_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** strdup() that says so when it fails; @text NULL: the kernel's answer lacks it. */
char *sdk_copy(const char *text, struct aios_error *err);

/* ---- the connection ---- */

/** A connection on @fd (taken, also on failure), which has just been made. */
struct aios *sdk_attach(int fd, const struct aios_options *options, struct aios_error *err);

/** The result of the tool @name with @arguments (taken; NULL: memory ran out while they were made);
 * a new reference.  @timeout_ms 0: the connection's. */
json_t *sdk_call_tool(struct aios *a, const char *name, json_t *arguments, int64_t timeout_ms,
                      struct aios_error *err);

/** Any request; @params (taken) gets the protocol's _meta. */
json_t *sdk_request(struct aios *a, const char *method, json_t *params, int64_t timeout_ms,
                    struct aios_error *err);

/** When a question with @timeout_ms must be answered, for sdk_left_ms(). */
int64_t sdk_deadline_ms(const struct aios *a, int64_t timeout_ms);

int64_t sdk_left_ms(int64_t deadline_ms);

/* ---- answers ---- */

/** A reply made of a tool's result (taken). */
struct aios_reply *sdk_reply(json_t *result, struct aios_error *err);

/** The reply's data, borrowed; NULL when it has none. */
const json_t *sdk_reply_data(const struct aios_reply *r);

/** Gives it @data (taken; NULL: memory ran out). */
bool sdk_reply_set_data(struct aios_reply *r, json_t *data, struct aios_error *err);

/** Gives it @len bytes at @value (taken, for free()). */
void sdk_reply_set_value(struct aios_reply *r, void *value, size_t len);

/** Text block @index of the answer with its length, borrowed; NULL beyond the last. */
const char *sdk_reply_block(const struct aios_reply *r, size_t index, size_t *ret_len);

/* The memory and storage tools answer in words, for models.  These read them: the reply gets the
 * data that aios.h names, unless it has some.  AIOS_PROTOCOL when the words are not understood. */
bool sdk_words_memory(struct aios_reply *r, const struct aios_memory_query *query,
                      struct aios_error *err);
bool sdk_words_storage(struct aios_reply *r, const struct aios_storage_query *query,
                       struct aios_error *err);

/* ---- questions ---- */

/** Asks @tool with @arguments (taken).  @ok false: they could not be made, errno says why (ENOMEM,
 * or else a text is not UTF-8). */
struct aios_reply *sdk_ask(struct aios *a, const char *tool, json_t *arguments, bool ok,
                           int64_t timeout_ms, struct aios_error *err);

/** @text as JSON of @type; NULL with *err, which calls it @what. */
json_t *sdk_parse(const char *text, json_type type, const char *what, struct aios_error *err);

/** @value as compact text, for free().  NULL when memory ran out, of which jansson does not always
 * tell: it may leave out a key. */
char *sdk_dump(const json_t *value);

/** object.key = @value (taken).  False when memory ran out, or @value is NULL for that. */
bool sdk_set(json_t *object, const char *key, json_t *value);

/** object.key = @text, unless that is NULL.  False with errno ENOMEM, or 0 for bad UTF-8. */
bool sdk_set_text(json_t *object, const char *key, const char *text);

/** object.key = @number, unless that is not positive. */
bool sdk_set_number(json_t *object, const char *key, int64_t number);

/** object.key = true, if @yes. */
bool sdk_set_flag(json_t *object, const char *key, bool yes);

/* ---- base64 ---- */

/** For free(); NULL when memory ran out. */
char *sdk_base64_encode(const void *data, size_t len);

/** Up to the padding or the first character that is none of base64's.  A NUL follows the bytes. */
unsigned char *sdk_base64_decode(const char *text, size_t len, size_t *ret_len);
