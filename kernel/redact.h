/*
 * redact - what a call's arguments look like in the audit: what was asked, without what it carried.
 *
 * Compact JSON, cut to fit.  Values under keys that hold contents or may hold secrets (env, stdin,
 * content, text, data, keys that end in _content, _text or _data, and names of credentials) are
 * replaced by "<N bytes>"; other long strings are cut.
 * Threads: any.  Nothing is allocated.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

/** Writes @value (NULL is {}, never changed) into @buf, valid UTF-8 with a NUL; returns the length.
 */
size_t redact_json(json_t *value, char *buf, size_t size);
