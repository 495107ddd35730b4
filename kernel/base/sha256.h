/*
 * sha256 - FIPS 180-4, for the audit chain, values in storage, signatures and keys of cached
 * things.
 *
 * Here because a crypto library costs the program milliseconds at every start.
 * Threads: any.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_HEX   65

struct sha256 {
    uint32_t state[8];
    uint64_t total;
    uint8_t block[64];
};

void sha256_init(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *data, size_t len);
void sha256_end(struct sha256 *h, uint8_t ret_digest[SHA256_BYTES]);

/** All of it at once. */
void sha256_of(const void *data, size_t len, uint8_t ret_digest[SHA256_BYTES]);

/** Lower-case hexadecimal with a NUL. */
void sha256_hex(const uint8_t digest[SHA256_BYTES], char ret_hex[SHA256_HEX]);
