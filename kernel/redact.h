/*
 * redact - what a call's arguments look like in the audit: what was asked, without what it carried.
 *
 * Compact JSON, cut to fit.  Values under keys that hold contents or may hold secrets (env, stdin,
 * content, text, data, value, base64, prompt, system, messages, answer, variables, keys that end in
 * _content, _text or _data, and names of credentials) are replaced by "<N bytes>"; other long
 * strings are cut.  Characters that are not seen, or turn the order of others around, are written
 * as \u escapes. Threads: any.  Nothing is allocated.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/** Writes @value (NULL is {}, never changed) into @buf, valid UTF-8 with a NUL; returns the length.
 */
size_t redact_json(json_t *value, char *buf, size_t size);

/** The same for somebody who decides by it: strings are cut at @string_max bytes, and *ret_cut says
 *  whether anything but hidden contents is missing. */
size_t redact_shown(json_t *value, char *buf, size_t size, size_t string_max, bool *ret_cut);
