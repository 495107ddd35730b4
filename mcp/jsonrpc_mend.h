/*
 * jsonrpc_mend - what can still be made of a line that does not parse.
 *
 * Threads: any.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/** Replaces each half of a surrogate pair that stands alone (\ud800), which JavaScript writes for
 * text that was cut, by \ufffd, in place.  False when there was none. */
bool jsonrpc_mend_surrogates(char *line, size_t len);

/** The "id" of the message that @line is or begins: a new reference, or NULL.  The rest may be
 * anything. */
json_t *jsonrpc_find_id(const char *line, size_t len);
