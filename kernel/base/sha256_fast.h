/*
 * sha256_fast - SHA-256's compression by the processor's own instructions, where it has them.  For
 * sha256.c alone.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** FIPS 180-4, 4.2.2; aligned for vectors. */
extern const uint32_t sha256_round_constants[64];

bool sha256_has_instructions(void);

/** @blocks times 64 bytes at @block.  Only with sha256_has_instructions(). */
void sha256_compress_fast(uint32_t state[8], const uint8_t *block, size_t blocks);
