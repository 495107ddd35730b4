/*
 * utf8 - is it valid, make it valid, cut it where a character ends.
 *
 * Valid means RFC 3629: no surrogates, no overlong forms, at most U+10FFFF.  Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/buf.h"

bool utf8_valid(const char *text, size_t len);

/** The largest n <= @max, @max <= @len, so that text[0..n) does not end inside a character. */
size_t utf8_cut(const char *text, size_t len, size_t max);

/** Append @text with every byte that is not part of a valid character replaced by U+FFFD (one
 *  for each maximal invalid run of a sequence).  Returns how many replacements were made, or -1
 *  when memory ran out. */
long utf8_append_valid(struct buf *out, const char *text, size_t len);

/** Characters, not bytes; @text must be valid. */
size_t utf8_length(const char *text, size_t len);
