/*
 * names - the names in one folder, sorted; of very many, the first ones only.
 *
 * Memory: bounded by what may still be sent, and by NAMES_BYTES_MAX.
 * Ownership: names_free().  Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAMES_BYTES_MAX (8u << 20)

struct names {
    char *text; /* NUL-terminated, one after the other */
    size_t text_len, text_cap;
    uint32_t *starts; /* in text */
    size_t count, cap;
    size_t most; /* how many of the first are wanted */
};

void names_init(struct names *n, size_t most);
void names_free(struct names *n);

/** False when there is no memory for it. */
bool names_add(struct names *n, const char *name);

/** Sort, and forget all but the first. */
bool names_finish(struct names *n);

const char *names_at(const struct names *n, size_t i);
