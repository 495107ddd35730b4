/*
 * call_args - arguments of a tool as people write them, and lines of them.
 *
 * A word is key=VALUE (JSON when it is valid JSON, else a string; always a string where the tool's
 * schema says so), key:=JSON, or key=@FILE (the file's text as a string).
 *
 * Threads: any.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/error.h"

/** True when some value could be meant as a string or as JSON, so that the schema is worth asking
 *  for. */
bool call_args_ambiguous(char *const *words, size_t count);

/** The arguments as an object, a new reference.  @schema: the tool's input schema, or NULL.
 *  ERR_INVALID names the word. */
NODISCARD json_t *call_args_read(char *const *words, size_t count, const json_t *schema,
                                 struct error *err);

/** Cut a line into words as a shell does: blanks, '…', "…" with \, and \ outside.  *ret_words
 *  is one allocation for free(). */
NODISCARD bool call_args_split(const char *line, char ***ret_words, size_t *ret_count,
                               struct error *err);
