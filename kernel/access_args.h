/*
 * access_args - what a rule says about the arguments of a call: a pattern for each.
 *
 * An argument is named by its name or, with a '/' in front, by a JSON pointer (RFC 6901).  Texts
 * are compared as they are, numbers and truth values as JSON writes them, objects as compact JSON;
 * of a list it is enough that one item matches, or all its strings with spaces between.  One that
 * is left out, or null, matches nothing.
 *
 * Arguments called path, cwd or …_path are compared as absolute paths without "." and "..",
 * relative ones below ACCESS_ARGS_HOME, so that "notes/../../etc/passwd" is /etc/passwd to a rule.
 * A pattern that ends with a slash and a star covers the folder itself, too.  Symbolic links are
 * not followed: they are inside the computer, where the agent makes them.
 *
 * Ownership: access_args_free().  Threads: any; constant once made.
 */
#pragma once

#include <jansson.h>

#include "kernel/base/error.h"

#define ACCESS_ARGS_HOME "/workspace"

struct access_args;

enum access_match {
    ACCESS_MATCH_NO,
    ACCESS_MATCH_YES,
    ACCESS_MATCH_UNSURE, /* a path is too long, or memory has run out */
};

/** @patterns: an object of strings, borrowed as long as this lives.  ERR_INVALID names the
 *  argument. */
NODISCARD struct access_args *access_args_new(json_t *patterns, struct error *err);
void access_args_free(struct access_args *a);
DEFINE_CLEANUP(struct access_args, access_args_free)

/** Whether every pattern matches.  @call: the arguments of a call, or NULL for {}. */
enum access_match access_args_match(const struct access_args *a, const json_t *call);

/** @path as an absolute one without empty parts, "." and "..", into @buf of @size bytes with a NUL;
 *  false when it does not fit. */
NODISCARD bool access_args_normal(const char *path, size_t len, char *buf, size_t size);
