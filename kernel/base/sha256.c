#include "kernel/base/sha256.h"

#include <string.h>

#include "kernel/base/attr.h"
#include "kernel/base/sha256_fast.h"

#define FAST_BLOCKS 4

const uint32_t sha256_round_constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, unsigned by)
{
    return x >> by | x << (32 - by);
}

static uint32_t load_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static void compress_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];

    for (unsigned i = 0; i < 16; i++)
        w[i] = load_be32(block + (size_t)i * 4);
    for (unsigned i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;

        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    for (unsigned i = 0; i < 64; i++) {
        uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + sha256_round_constants[i] + w[i];
        uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));

        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

static void compress(uint32_t state[8], const uint8_t *block, size_t blocks)
{
    /* For a few the question would cost more than the answer gains: inside a virtual machine it
     * traps to the host. */
    if (blocks >= FAST_BLOCKS && sha256_has_instructions()) {
        sha256_compress_fast(state, block, blocks);
        return;
    }
    for (; blocks > 0; blocks--, block += 64)
        compress_block(state, block);
}

void sha256_init(struct sha256 *h)
{
    static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

    memcpy(h->state, start, sizeof start);
    h->total = 0;
}

void sha256_add(struct sha256 *h, const void *data, size_t len)
{
    const uint8_t *in = data;
    size_t held = h->total % sizeof h->block;

    if (!len)
        return;
    h->total += len;
    if (held) {
        size_t n = MIN(sizeof h->block - held, len);

        memcpy(h->block + held, in, n);
        in += n;
        len -= n;
        if (held + n < sizeof h->block)
            return;
        compress(h->state, h->block, 1);
    }
    compress(h->state, in, len / sizeof h->block);
    memcpy(h->block, in + len / sizeof h->block * sizeof h->block, len % sizeof h->block);
}

void sha256_end(struct sha256 *h, uint8_t ret_digest[SHA256_BYTES])
{
    uint64_t bits = h->total * 8;
    size_t held = h->total % sizeof h->block;

    h->block[held++] = 0x80;
    if (held > sizeof h->block - 8) {
        memset(h->block + held, 0, sizeof h->block - held);
        compress(h->state, h->block, 1);
        held = 0;
    }
    memset(h->block + held, 0, sizeof h->block - 8 - held);
    store_be32(h->block + 56, (uint32_t)(bits >> 32));
    store_be32(h->block + 60, (uint32_t)bits);
    compress(h->state, h->block, 1);
    for (size_t i = 0; i < 8; i++)
        store_be32(ret_digest + i * 4, h->state[i]);
}

void sha256_of(const void *data, size_t len, uint8_t ret_digest[SHA256_BYTES])
{
    struct sha256 h;

    sha256_init(&h);
    sha256_add(&h, data, len);
    sha256_end(&h, ret_digest);
}

void sha256_hex(const uint8_t digest[SHA256_BYTES], char ret_hex[SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < SHA256_BYTES; i++) {
        ret_hex[i * 2] = digits[digest[i] >> 4];
        ret_hex[i * 2 + 1] = digits[digest[i] & 15];
    }
    ret_hex[SHA256_HEX - 1] = '\0';
}
