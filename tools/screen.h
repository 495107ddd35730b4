/*
 * screen - what a terminal would show: bytes of a pty in, lines of text out.
 *
 * Ownership: screen_free().  Threads: one at a time.  The bytes are hostile: whatever
 *   they say, every place lies within the screen, and memory and time are bounded by their number.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

#define SCREEN_ROWS_MAX 200
#define SCREEN_COLS_MIN 2 /* a wide character must have room */
#define SCREEN_COLS_MAX 400

struct screen;

/** Sizes are brought within the limits. */
NODISCARD struct screen *screen_new(int rows, int cols, struct error *err);
void screen_free(struct screen *s);
DEFINE_CLEANUP(struct screen, screen_free)

void screen_feed(struct screen *s, const char *data, size_t len);
void screen_resize(struct screen *s, int rows, int cols);

/** What the terminal wants to answer (cursor reports and the like), to be written to the program.
 *  The number of bytes put into @out. */
size_t screen_answers(struct screen *s, char *out, size_t size);

/** The rows without trailing blanks, without empty rows at the end, then a line that says where the
 *  cursor is.  False: out of memory. */
bool screen_text(struct screen *s, struct buf *out);
