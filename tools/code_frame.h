/*
 * code_frame - what a driver inside a computer says about a cell: "NAME CELL NUMBER LENGTH\n" and
 * LENGTH bytes.
 *
 * The bytes come from programs that nobody trusts: whatever they are, the answer is a frame, "more
 * is needed" or "this is no frame".
 * Threads: any.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernel/base/attr.h"

#define CODE_FRAME_HEAD_MAX 80u          /* the first line, its newline included */
#define CODE_FRAME_DATA_MAX (640u << 10) /* what follows it */
#define CODE_IMAGE_PIECE    (512u << 10) /* a driver sends pictures in pieces of this size */

enum code_frame_kind {
    CODE_FRAME_VALUE,  /* data: the last expression's value as text */
    CODE_FRAME_ERROR,  /* data: the traceback */
    CODE_FRAME_NOTE,   /* data: what else there is to say */
    CODE_FRAME_STATUS, /* number: an exit status */
    CODE_FRAME_IMAGES, /* number: pictures that can be asked for */
    CODE_FRAME_IMAGE,  /* data: a piece of one; number: its place */
    CODE_FRAME_DONE,   /* number: microseconds that the cell took */
};

struct code_frame {
    enum code_frame_kind kind;
    uint64_t cell, number;
    const char *data; /* borrowed from the bytes that were read */
    size_t len;
};

enum code_frame_read { CODE_FRAME_MORE, CODE_FRAME_OK, CODE_FRAME_BROKEN };

/** The frame at the beginning of @bytes; *ret_used is its whole length. */
NODISCARD enum code_frame_read code_frame_read(const char *bytes, size_t len,
                                               struct code_frame *ret, size_t *ret_used);
