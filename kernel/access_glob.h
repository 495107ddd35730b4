/*
 * access_glob - a pattern in which '*' stands for any text, of whatever length and with any
 * characters in it; "\*" is a star and "\\" a backslash.
 *
 * Matching takes time in proportion to the text, whatever is in it: patterns are an operator's,
 * texts a model's.
 * Ownership: access_glob_free().  Threads: any; constant once made.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/error.h"

struct access_glob;

/** ERR_INVALID for an empty one, or a backslash before anything but '*' and itself; ERR_NOMEM. */
NODISCARD struct access_glob *access_glob_new(const char *pattern, struct error *err);
void access_glob_free(struct access_glob *g);
DEFINE_CLEANUP(struct access_glob, access_glob_free)

bool access_glob_matches(const struct access_glob *g, const char *text, size_t len);
