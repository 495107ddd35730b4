/*
 * memory_dot - dot products of one vector with many, as wide as the processor allows.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define MEMORY_DOT_LANES 16u /* a row's length is a multiple of it, filled up with zeros */

/** @ret[i] = @query · row i, for @count rows of @stride floats, each row and @query aligned to 64
 *  bytes. */
void memory_dot_rows(const float *query, const float *rows, size_t stride, size_t count,
                     float *ret);

/** The same in plain C, one number after the other: to test against. */
void memory_dot_scalar(const float *query, const float *rows, size_t stride, size_t count,
                       float *ret);

/** For tests: the width in floats that is used (4, 8, 16); another one where the processor has it.
 */
unsigned memory_dot_width(void);
bool memory_dot_set_width(unsigned width);
