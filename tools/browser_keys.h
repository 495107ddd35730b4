/*
 * browser_keys - key names as browsers and people write them: "Enter", "a", "Control+Shift+Tab".
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/error.h"

enum browser_modifier { /* as the DevTools protocol counts them */
                        BROWSER_ALT = 1,
                        BROWSER_CONTROL = 2,
                        BROWSER_META = 4,
                        BROWSER_SHIFT = 8,
};

struct browser_key {
    char key[16];  /* KeyboardEvent.key */
    char code[16]; /* KeyboardEvent.code; "" for a character that no key of a US keyboard has */
    char text[8];  /* what it types; "" for none */
    int number;    /* the "virtual key code" */
    unsigned modifiers;
};

/** Read one key with its modifiers, @len bytes.  ERR_INVALID lists the names that there are. */
NODISCARD bool browser_key(const char *name, size_t len, struct browser_key *ret,
                           struct error *err);

/** The key of a modifier, which must be one of the enumeration. */
void browser_key_modifier(enum browser_modifier modifier, struct browser_key *ret);
