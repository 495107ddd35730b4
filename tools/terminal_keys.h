/*
 * terminal_keys - key names as xterm sends them: "Enter", "C-c", "M-x", "Up", "F5".
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

/** Append what the terminal sends for @key.  ERR_INVALID lists the names that there are. */
NODISCARD bool terminal_key(struct buf *out, const char *key, struct error *err);
