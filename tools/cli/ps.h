/*
 * ps - the table of computers that `aios ps` and `aios vm` print.
 *
 * Threads: the main thread.
 */
#pragma once

#include "kernel/base/error.h"

/** Of all running servers of this user; @vms: virtual machines alone.  A server that does not
 *  answer is told on standard error. */
NODISCARD bool ps_print(bool vms, bool as_json, struct error *err);
