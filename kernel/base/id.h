/*
 * id - unguessable handles: a prefix, an underscore and 128 random bits as 26 letters and digits.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ID_SIZE 40 /* room for a prefix of up to 12 characters, and the NUL */

struct id {
    char text[ID_SIZE];
};

/** "c_…" for @prefix "c".  Never fails: getrandom(2) is waited for. */
struct id id_make(const char *prefix);

/** True when @text has the shape of an id with this prefix (a cheap check before a lookup). */
bool id_is(const char *text, const char *prefix);

/** @len bytes from the kernel's generator. */
void id_random(void *bytes, size_t len);
