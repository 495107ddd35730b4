/*
 * browser_input - the events of a mouse and a keyboard, as a person's hands would make them.
 *
 * An event whose handler opens a dialog is done: `dialog` is then set, and what would follow is not
 * sent, since nothing is answered until the dialog is.
 * Threads: worker threads, one at a time for each struct browser_input.
 */
#pragma once

#include "tools/browser.h"
#include "tools/browser_keys.h"

struct browser_input {
    struct browser_tab *tab;
    const struct wait *w;
    bool dialog;
};

/** Points are in the page's viewport, in CSS pixels. */
NODISCARD bool browser_input_move(struct browser_input *in, double x, double y, bool pressed,
                                  struct error *err);
NODISCARD bool browser_input_button(struct browser_input *in, double x, double y, bool right,
                                    bool down, int count, struct error *err);
/** Press and release @count times, where the mouse is already. */
NODISCARD bool browser_input_click(struct browser_input *in, double x, double y, bool right,
                                   int count, struct error *err);
NODISCARD bool browser_input_wheel(struct browser_input *in, double x, double y, double dx,
                                   double dy, struct error *err);

/** Modifiers down, the key, modifiers up. */
NODISCARD bool browser_input_key(struct browser_input *in, const struct browser_key *key,
                                 struct error *err);
/** "Control+a Delete" */
NODISCARD bool browser_input_keys(struct browser_input *in, const char *keys, struct error *err);

/** As if typed: a key for each character of a short text, in pieces for a long one. */
NODISCARD bool browser_input_type(struct browser_input *in, const char *text, size_t len,
                                  struct error *err);
/** All at once, as if pasted. */
NODISCARD bool browser_input_insert(struct browser_input *in, const char *text, size_t len,
                                    struct error *err);
