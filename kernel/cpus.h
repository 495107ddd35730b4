/*
 * cpus - a set of processors as the configuration names it.
 *
 *   ""         any: wherever the system likes
 *   "auto"     one for each thread, in turn over all that this process may use
 *   "0-3,6"    these
 *   "node0"    those of a NUMA node
 *
 * Threads: any; plain values.
 */
#pragma once

#include <sched.h>
#include <stddef.h>

#include "kernel/base/error.h"

/** Whether @text is one of these.  ERR_INVALID says what it may be. */
NODISCARD bool cpus_check(const char *text, struct error *err);

/**
 * The processors of the @number-th thread under @text, which cpus_check() passed.
 * *ret_any: the set is empty because there is nothing to bind.
 * False: ERR_NOT_FOUND, there is no such node here.
 * @sysfs: "/sys", or what a test puts in its place.
 */
NODISCARD bool cpus_of_thread(const char *text, size_t number, const char *sysfs, cpu_set_t *ret,
                              bool *ret_any, struct error *err);
