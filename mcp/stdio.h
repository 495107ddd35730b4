/*
 * stdio - keeps the protocol's standard output out of everybody's reach.
 *
 * Threads: before any other is started.
 */
#pragma once

#include "kernel/base/error.h"

/** Moves descriptors 0 and 1 to private, close-on-exec ones; number 0 becomes /dev/null and number
 *  1 standard error, so that a stray print cannot corrupt the protocol. */
NODISCARD bool stdio_take(int *ret_in, int *ret_out, struct error *err);
