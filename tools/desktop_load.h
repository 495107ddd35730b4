/*
 * desktop_load - whether the processors of a computer have something to do.
 *
 * What an input sets off is done when they have not: on an emulated machine that takes seconds in
 * which the screen may stand still.
 * Threads: any; plain values.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/** What Linux counts, in ticks, of all processors together. */
struct desktop_load {
    uint64_t busy, all;
    uint64_t processors;
};

/** @text: the beginning of /proc/stat.  False when it is not that; *ret is left alone then. */
bool desktop_load_read(const char *text, struct desktop_load *ret);

/** More than a third of one processor's time from @from to @to.  True also while the time between
 *  them is too short to tell. */
bool desktop_load_busy(const struct desktop_load *from, const struct desktop_load *to);
