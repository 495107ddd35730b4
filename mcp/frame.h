/*
 * frame - cuts newline-delimited messages out of a byte stream, bounded.
 *
 * A line longer than the limit is reported once as FRAME_TOO_LONG and skipped to its end, without
 * being kept.  CR before LF is dropped; empty lines are skipped.
 * Threads: one at a time.
 */
#pragma once

#include <stddef.h>

#include "kernel/base/buf.h"

struct frame {
    struct buf buf;
    size_t start;   /* consumed bytes at the front of buf */
    size_t scanned; /* bytes after start that hold no newline */
    size_t max_line;
    bool skipping;
};

enum frame_status { FRAME_LINE, FRAME_MORE, FRAME_TOO_LONG };

void frame_init(struct frame *f, size_t max_line);
void frame_fini(struct frame *f);

/** Room for @want bytes at the end, for read(2); NULL when out of memory. */
char *frame_space(struct frame *f, size_t want);
void frame_filled(struct frame *f, size_t n);

/** Give up what has come of the line at the end, and skip the rest of it; for want of memory. False
 *  when there is nothing to give up.  Only after FRAME_MORE. */
bool frame_skip(struct frame *f);

/** The next whole line, without its newline, borrowed until the next call. */
enum frame_status frame_next(struct frame *f, char **ret_line, size_t *ret_len);

/** At end of input: what is left without a newline counts as a line. */
enum frame_status frame_end(struct frame *f, char **ret_line, size_t *ret_len);
