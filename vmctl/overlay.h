/*
 * overlay - an empty disk image (qcow2) that takes what is written over another image.
 *
 * What it lies over is said on QEMU's command line, not in it, so it holds no name.
 * Threads: any.
 */
#pragma once

#include <stdint.h>

#include "kernel/base/error.h"

#define OVERLAY_BYTES_MAX (4ull << 40)

/** For a disk of @bytes (whole sectors).  A file without a name in the folder @dir, or a memory
 *  file when that is NULL; open for reading and writing.  -1 on failure. */
NODISCARD int overlay_make(const char *dir, uint64_t bytes, struct error *err);
