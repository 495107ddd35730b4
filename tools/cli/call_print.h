/*
 * call_print - what `aios call` shows: results, and tools from their schemas.
 *
 * Threads: one.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "kernel/base/error.h"

/** A tool's result: text to standard output (to standard error when it is an error); images and
 *  sounds become files TOOL-N.EXT in @folder, which are named.  @json: the whole result on one
 *  line instead. */
NODISCARD bool call_print_result(const char *tool, const json_t *result, const char *folder,
                                 bool json, struct error *err);

/** Name and first sentence of each. */
void call_print_list(const json_t *tools);

/** Description and arguments of one. */
void call_print_tool(const json_t *tool);
