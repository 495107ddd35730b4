/*
 * fault - makes one allocation of the test program fail, to drive every path of a failure.
 *
 * The linker's --wrap sends malloc, calloc, realloc, reallocarray, strdup and strndup of the
 * objects linked into the test here, and jansson's allocations are routed here too.  Allocations
 * inside the C library and other shared libraries are not seen.
 * Threads: any; allocations of all threads are counted together.
 * FAULT_EACH() of check.h is the loop that goes with it.
 */
#pragma once

#include <stdbool.h>

/** The @n-th allocation from now, counted from 0, fails; the ones before and after succeed. */
void fault_arm(unsigned n);

/** Back to normal; true when the fault was met. */
bool fault_disarm(void);

/** Allocations since fault_arm(), the failed one included. */
unsigned fault_count(void);
