/*
 * desktop - what the files of the family share: one call's work on one computer's screen.
 *
 * Coordinates from a model are those of the screenshot, whose long edge is at most DESKTOP_EDGE;
 * they are turned into pixels of the screen here and nowhere else.
 *
 * desktop.c has the record and chooses the action, desktop_screen.c looks, desktop_input.c moves,
 * clicks and types, desktop_record.c keeps what the screen looked like.
 * Threads: worker threads, within one struct tool_call; the state of a computer has a lock.
 */
#pragma once

#include "kernel/computer/display.h"
#include "tools/desktop_keys.h"
#include "tools/desktop_load.h"
#include "tools/toolkit.h"

#define DESKTOP_EDGE      1568u /* of an image that a model is shown */
#define DESKTOP_REACT_NS  (2 * CLOCK_NS_PER_S)
#define DESKTOP_SETTLE_NS (2 * CLOCK_NS_PER_S) /* for so long the screen may go on changing */
#define DESKTOP_BUSY_NS   (8 * CLOCK_NS_PER_S) /* for so long programs may work on an answer */

struct desktop_point {
    uint32_t x, y;
};

/* What is kept of a computer between calls. */
struct desktop_state;

struct desktop {
    struct tool_call *call;
    struct computer *computer;
    struct desktop_state *state;
    struct display_frame before;        /* what the screen showed when the call began */
    uint32_t image_width, image_height; /* of a screenshot of it */
    struct desktop_load load;           /* when desktop_busy() was asked last */
};

/** Looks at the screen.  ERR_UNSUPPORTED says how to get a computer that has one.  To be given to
 *  desktop_close() in any case. */
NODISCARD bool desktop_open(struct desktop *d, struct tool_call *call, struct computer *c,
                            struct error *err);
void desktop_close(struct desktop *d);

/** @pair: two numbers, image coordinates.  ERR_INVALID with the bounds. */
NODISCARD bool desktop_point(const struct desktop *d, const json_t *pair, const char *name,
                             struct desktop_point *ret, struct error *err);

/** Screen to image coordinates. */
struct desktop_point desktop_in_image(const struct desktop *d, struct desktop_point p);

/** Where the pointer is: as its server says, or, without a program that asks it, as far as it was
 *  moved by us. */
NODISCARD bool desktop_pointer(struct desktop *d, struct desktop_point *ret, struct error *err);
void desktop_set_pointer(struct desktop *d, struct desktop_point p);

/* ---- desktop_screen.c ---- */

/** What a look at the screen came to. */
struct desktop_look {
    struct display_frame frame; /* for display_frame_fini() in any case */
    bool changed;               /* it does not look as it did before the action */
    bool busy;                  /* programs are still at work */
};

/** Wait until the screen changes, for @react_ns at most, or for @busy_ns while programs are at
 * work; then until it is still (two equal frames in a row, and nothing at work), for
 * DESKTOP_SETTLE_NS at most. */
NODISCARD bool desktop_settle(struct desktop *d, int64_t react_ns, int64_t busy_ns,
                              struct desktop_look *ret, struct error *err);

/** Whether the computer's processors had something to do since the last time this was asked; true
 *  the first time, and false where that cannot be known. */
bool desktop_busy(struct desktop *d);

/** Wait until nothing is at work, for DESKTOP_BUSY_NS at most. */
NODISCARD bool desktop_calm(struct desktop *d, struct error *err);

/** The same if the action before was not over when it was answered: what is typed then comes to the
 *  window that it has opened. */
NODISCARD bool desktop_await_last(struct desktop *d, struct error *err);

/** @frame as an image of the answer, with a line that says its scale. */
NODISCARD bool desktop_show(struct desktop *d, const struct display_frame *frame,
                            struct error *err);

/** The part of the screen between two corners, as large as an image may be. */
NODISCARD bool desktop_zoom(struct desktop *d, struct desktop_point from, struct desktop_point to,
                            struct error *err);

/* ---- desktop_input.c ---- */

NODISCARD bool desktop_move(struct desktop *d, struct desktop_point to, struct error *err);

/** @chord: keys held meanwhile, or NULL. */
NODISCARD bool desktop_click(struct desktop *d, enum display_button button, unsigned times,
                             const struct desktop_chord *chord, struct error *err);
NODISCARD bool desktop_button(struct desktop *d, bool down, struct error *err);
NODISCARD bool desktop_drag(struct desktop *d, struct desktop_point from, struct desktop_point to,
                            const struct desktop_chord *chord, struct error *err);
NODISCARD bool desktop_press(struct desktop *d, const struct desktop_chord *chord, int64_t hold_ns,
                             struct error *err);
NODISCARD bool desktop_type(struct desktop *d, const char *text, size_t len, struct error *err);

/* ---- desktop_record.c ---- */

NODISCARD bool desktop_record_start(struct desktop *d, struct error *err);

/** Keep @frame if the session is being recorded. */
NODISCARD bool desktop_record_frame(struct desktop *d, const struct display_frame *frame,
                                    struct error *err);

/** Says in the answer where the pictures are, and the video where there is ffmpeg inside. */
NODISCARD bool desktop_record_stop(struct desktop *d, struct error *err);
