/*
 * notify_text - a refused call's telling argument, in words.
 *
 * Threads: any.  Blocking: reads at most 160 bytes of a stopped task's memory.
 */
#pragma once

#include <stdint.h>

#include "kernel/base/buf.h"
#include "sandbox/policy.h"

/** Append the text for @call to @out: valid UTF-8, control characters as they came.  What cannot
 *  be read (@pid is gone, a bad pointer) or allocated is left out. */
void notify_text(struct buf *out, const struct policy_call *call, const uint64_t *args,
                 uint32_t pid);
