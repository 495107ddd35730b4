/* The compression by the processor's own instructions, ten times as fast as written out. */
#include "kernel/base/sha256_fast.h"

#include <stdatomic.h>

#ifdef __x86_64__

#include <cpuid.h>
#include <immintrin.h>

/* Asking the processor traps to the host inside a virtual machine, hence once. */
bool sha256_has_instructions(void)
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

__attribute__((target("sha,sse4.1,ssse3"))) void sha256_compress_fast(uint32_t state[8],
                                                                      const uint8_t *block,
                                                                      size_t blocks)
{
    const __m128i *k = (const __m128i *)(const void *)sha256_round_constants;
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

bool sha256_has_instructions(void)
{
    return false;
}

void sha256_compress_fast(uint32_t state[8], const uint8_t *block, size_t blocks)
{
    (void)state;
    (void)block;
    (void)blocks;
}

#endif
