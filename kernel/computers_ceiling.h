/*
 * computers_ceiling - may somebody ask for this network rule, given the widest ones allowed?
 *
 * A rule is covered when one of the ceiling's allows every host and every port that it allows. What
 * only several of them together would cover is refused, but for the two ports of a rule without
 * one: the error is on the safe side.
 * Threads: any.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/error.h"

/** @ceiling: an array of rules that egress_rules_new() accepts, or NULL for no bound.  ERR_DENIED
 *  names the first rule that is not covered, ERR_INVALID one that is none. */
NODISCARD bool computers_ceiling_check(const json_t *ceiling, const char *const *rules,
                                       size_t count, struct error *err);
