/*
 * raw - system calls without the C library, for code that shares memory with somebody running.
 *
 * errno belongs to whoever runs the guest's loop; here errors come back as negative numbers.
 */
#pragma once

#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long raw4(long nr, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
static inline long raw4(long nr, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#endif

#define RAW0(nr)             raw4((nr), 0, 0, 0, 0)
#define RAW1(nr, a)          raw4((nr), (long)(a), 0, 0, 0)
#define RAW2(nr, a, b)       raw4((nr), (long)(a), (long)(b), 0, 0)
#define RAW3(nr, a, b, c)    raw4((nr), (long)(a), (long)(b), (long)(c), 0)
#define RAW4(nr, a, b, c, d) raw4((nr), (long)(a), (long)(b), (long)(c), (long)(d))
