/*
 * plugin - parts that need a heavy library live in shared objects and are opened at first use.
 *
 * Looked for as aios-NAME.so in ../lib/aios beside the program's folder (installed), in the
 * program's own folder (built), and nowhere else: neither the environment nor the configuration can
 * name a path.  Each exports one constant struct, whose first member is a `struct plugin_head`.
 * Threads: any.  A module is never closed.
 */
#pragma once

#include <stddef.h>

#include "kernel/base/error.h"

#define PLUGIN_ABI 1u

struct plugin_head {
    unsigned abi; /* PLUGIN_ABI */
    size_t size;  /* of the whole struct */
};

/** The module's exported struct @symbol.  ERR_UNSUPPORTED names the file, where it was looked for,
 *  and what is missing. */
NODISCARD const void *plugin_open(const char *name, const char *symbol, size_t size,
                                  struct error *err);

/** Whether the module @name is there and can be opened, which opens it: for `aios doctor`. */
NODISCARD bool plugin_check(const char *name, struct error *err);
