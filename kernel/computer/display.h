/*
 * display - the screen of a computer that has one: what it shows, and pointer and keys for it.
 *
 * Coordinates are pixels of the screen from its upper left corner.  Keys are the kernel's event
 * codes (KEY_* of linux/input-event-codes.h), which say where a key is and not what it means.
 *
 * Threads: any; calls on one computer are serialised.
 * Blocking: all, bounded by their struct wait.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"

struct computer;

/** What the screen shows: rows without gaps between them, three bytes (red, green, blue) a pixel.
 */
struct display_frame {
    uint32_t width, height;
    uint8_t *rgb; /* malloc()ed */
};

void display_frame_fini(struct display_frame *frame);

enum display_button {
    DISPLAY_LEFT,
    DISPLAY_MIDDLE,
    DISPLAY_RIGHT,
    DISPLAY_WHEEL_UP, /* a press is one notch */
    DISPLAY_WHEEL_DOWN,
    DISPLAY_WHEEL_LEFT,
    DISPLAY_WHEEL_RIGHT,
    DISPLAY_BUTTON_COUNT
};

enum display_event_kind { DISPLAY_MOVE, DISPLAY_BUTTON, DISPLAY_KEY };

struct display_event {
    enum display_event_kind kind;
    uint32_t x, y; /* MOVE: within the screen, else ERR_INVALID */
    enum display_button button;
    uint16_t key;
    bool down; /* BUTTON, KEY */
};

/** What a back end does for a computer with a screen.  ERR_UNSUPPORTED where it has none, or none
 *  that can be of the size asked for. */
struct display_ops {
    /** Without @rgb the size alone: ret->rgb stays NULL. */
    bool (*frame)(struct computer *c, bool rgb, struct display_frame *ret, const struct wait *w,
                  struct error *err);
    /** All of them, in their order, as if at once. */
    bool (*input)(struct computer *c, const struct display_event *events, size_t count,
                  const struct wait *w, struct error *err);
    bool (*resize)(struct computer *c, uint32_t width, uint32_t height, const struct wait *w,
                   struct error *err);
};

/** display_frame_fini() in any case. */
NODISCARD bool display_frame(struct computer *c, struct display_frame *ret, const struct wait *w,
                             struct error *err);
NODISCARD bool display_size(struct computer *c, uint32_t *ret_width, uint32_t *ret_height,
                            const struct wait *w, struct error *err);
NODISCARD bool display_input(struct computer *c, const struct display_event *events, size_t count,
                             const struct wait *w, struct error *err);
NODISCARD bool display_resize(struct computer *c, uint32_t width, uint32_t height,
                              const struct wait *w, struct error *err);
