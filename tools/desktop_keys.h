/*
 * desktop_keys - names and characters to keys of a keyboard with the layout "us".
 *
 * Names are those of X's keysyms, as xdotool takes them: "Return", "Page_Down", "ctrl", "F5", "a".
 * Threads: any; constant data.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/error.h"

#define DESKTOP_CHORD_MAX 8u

/** One key, and whether it means that only with shift. */
struct desktop_key {
    uint16_t code; /* KEY_* */
    bool shift;
};

/** Keys that are held together: "ctrl+shift+t", modifiers first. */
struct desktop_chord {
    struct desktop_key keys[DESKTOP_CHORD_MAX];
    size_t count;
};

/** ERR_INVALID names the part that is no key. */
NODISCARD bool desktop_chord(const char *text, struct desktop_chord *ret, struct error *err);

/** The key that types @c, a character of ASCII or a line end or tab; false: there is none. */
bool desktop_key_of(char c, struct desktop_key *ret);
