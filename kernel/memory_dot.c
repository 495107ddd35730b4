#include "kernel/memory_dot.h"

#include <stdatomic.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <sys/platform/x86.h>
#endif

/* One body, compiled once for each width: four sums run beside each other, since one addition
 * takes longer than a processor needs to begin the next. */
#define DOT_BODY(type)                                           \
    do {                                                         \
        const size_t lanes = sizeof(type) / sizeof(float);       \
        for (size_t i = 0; i < count; i++, rows += stride) {     \
            const type *a = (const type *)(const void *)query;   \
            const type *b = (const type *)(const void *)rows;    \
            type s0 = { 0 }, s1 = { 0 }, s2 = { 0 }, s3 = { 0 }; \
            size_t n = stride / lanes, k = 0;                    \
            float sum = 0;                                       \
            for (; k + 4 <= n; k += 4) {                         \
                s0 += a[k] * b[k];                               \
                s1 += a[k + 1] * b[k + 1];                       \
                s2 += a[k + 2] * b[k + 2];                       \
                s3 += a[k + 3] * b[k + 3];                       \
            }                                                    \
            for (; k < n; k++)                                   \
                s0 += a[k] * b[k];                               \
            s0 = (s0 + s1) + (s2 + s3);                          \
            for (k = 0; k < lanes; k++)                          \
                sum += s0[k];                                    \
            ret[i] = sum;                                        \
        }                                                        \
    } while (0)

typedef float float4 __attribute__((vector_size(16), may_alias));
typedef void dot_fn(const float *query, const float *rows, size_t stride, size_t count, float *ret);

static void dot4(const float *query, const float *rows, size_t stride, size_t count, float *ret)
{
    DOT_BODY(float4);
}

#if defined(__x86_64__)
typedef float float8 __attribute__((vector_size(32), may_alias));
typedef float float16 __attribute__((vector_size(64), may_alias));

__attribute__((target("avx2,fma"))) static void dot8(const float *query, const float *rows,
                                                     size_t stride, size_t count, float *ret)
{
    DOT_BODY(float8);
}

__attribute__((target("avx512f"))) static void dot16(const float *query, const float *rows,
                                                     size_t stride, size_t count, float *ret)
{
    DOT_BODY(float16);
}

/* As the C library found it at its start.  The compiler's own way would have every program ask the
 * processor again before main(), which takes 5 us a question where that is a virtual one. */
static bool has_width(unsigned width)
{
    if (width == 16)
        return CPU_FEATURE_ACTIVE(AVX512F);
    if (width == 8)
        return CPU_FEATURE_ACTIVE(AVX2) && CPU_FEATURE_ACTIVE(FMA);
    return width == 4;
}

static dot_fn *of_width(unsigned width)
{
    return width == 16 ? dot16 : width == 8 ? dot8 : dot4;
}
#else
static bool has_width(unsigned width)
{
    return width == 4;
}

static dot_fn *of_width(unsigned width)
{
    (void)width;
    return dot4;
}
#endif

static atomic_uint chosen; /* 0: not yet */

unsigned memory_dot_width(void)
{
    unsigned width = atomic_load_explicit(&chosen, memory_order_relaxed);

    for (unsigned w = 16; width == 0 && w >= 4; w /= 2)
        if (has_width(w))
            width = w;
    atomic_store_explicit(&chosen, width, memory_order_relaxed);
    return width;
}

bool memory_dot_set_width(unsigned width)
{
    if (!has_width(width))
        return false;
    atomic_store(&chosen, width);
    return true;
}

void memory_dot_rows(const float *query, const float *rows, size_t stride, size_t count, float *ret)
{
    of_width(memory_dot_width())(query, rows, stride, count, ret);
}

void memory_dot_scalar(const float *query, const float *rows, size_t stride, size_t count,
                       float *ret)
{
    for (size_t i = 0; i < count; i++, rows += stride) {
        float sum = 0;

        for (size_t k = 0; k < stride; k++)
            sum += query[k] * rows[k];
        ret[i] = sum;
    }
}
