/* SHA-256 at the speed of a disk.  Written out in C it takes longer than writing the value does. */
#include <stdatomic.h>
#include <string.h>

#include "kernel/storage_internal.h"

#ifdef __x86_64__

#include <cpuid.h>
#include <immintrin.h>

static const uint32_t round_constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Asking the processor traps to the host inside a virtual machine, hence once. */
static bool has_instructions(void)
{
    static atomic_int known; /* 0: not asked, 1: no, 2: yes */
    unsigned a, b, c, d;
    int answer = atomic_load_explicit(&known, memory_order_relaxed);

    if (answer == 0) {
        answer = 1;
        if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_1) && (c & bit_SSSE3) &&
            __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA))
            answer = 2;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 2;
}

__attribute__((target("sha,sse4.1,ssse3"))) static void compress(uint32_t state[8],
                                                                 const uint8_t *block,
                                                                 size_t blocks)
{
    const __m128i *k = (const __m128i *)(const void *)round_constants;
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i *out = (__m128i *)(void *)state;
    __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128(out), 0xb1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(out + 1), 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);

    for (; blocks > 0; blocks--, block += 64) {
        const __m128i *in = (const __m128i *)(const void *)block;
        __m128i abef_before = abef, cdgh_before = cdgh, w[4];

#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128(in + i), swap);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i sum = _mm_add_epi32(w[i & 3], _mm_load_si128(k + i));

            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            if (i < 12) {
                __m128i last = w[(i + 3) & 3];
                __m128i next = _mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]);

                next = _mm_add_epi32(next, _mm_alignr_epi8(last, w[(i + 2) & 3], 4));
                w[i & 3] = _mm_sha256msg2_epu32(next, last);
            }
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    abef = _mm_shuffle_epi32(abef, 0x1b);
    cdgh = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128(out, _mm_blend_epi16(abef, cdgh, 0xf0));
    _mm_storeu_si128(out + 1, _mm_alignr_epi8(cdgh, abef, 8));
}

#else

static bool has_instructions(void)
{
    return false;
}

static void compress(uint32_t state[8], const uint8_t *block, size_t blocks)
{
    (void)state;
    (void)block;
    (void)blocks;
}

#endif

void storage_digest(const void *data, size_t len, uint8_t ret[SHA256_BYTES])
{
    const uint8_t *bytes = data;
    struct sha256 h;

    sha256_init(&h);
    if (len >= sizeof h.block && has_instructions()) {
        size_t blocks = len / sizeof h.block;

        compress(h.state, bytes, blocks);
        h.total = blocks * sizeof h.block;
        bytes += h.total;
        len -= h.total;
    }
    sha256_add(&h, bytes, len);
    sha256_end(&h, ret);
}

static void *hash(void *arg)
{
    struct storage_hashing *h = arg;

    storage_digest(h->data, h->len, h->digest);
    return NULL;
}

bool storage_hashing_begin(struct storage_hashing *h, const void *data, size_t len)
{
    h->data = data;
    h->len = len;
    return pthread_create(&h->thread, NULL, hash, h) == 0;
}

void storage_hashing_end(struct storage_hashing *h, uint8_t ret[SHA256_BYTES])
{
    (void)pthread_join(h->thread, NULL);
    memcpy(ret, h->digest, SHA256_BYTES);
}
