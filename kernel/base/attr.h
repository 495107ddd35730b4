/*
 * attr - the few macros that every file uses: cleanup, ownership, checks by the compiler.
 */
#pragma once

#include <stddef.h>
#include <sys/param.h> /* MIN, MAX */

#define NODISCARD                       __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first)         __attribute__((format(printf, fmt, first)))
#define NORETURN                        __attribute__((noreturn))
#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/** For interfaces of others that take what they only read without a const. */
static inline void *unconst(const void *ptr)
{
    union {
        const void *in;
        void *out;
    } cast = { .in = ptr };

    return cast.out;
}

/** A variable that releases what it owns when it goes out of scope: CLEANUP(queue_freep). */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/** Defines the function that CLEANUP(FREEp) wants from a destructor that accepts NULL. */
#define DEFINE_CLEANUP(type, free_fn)         \
    static inline void free_fn##p(type **ptr) \
    {                                         \
        free_fn(*ptr);                        \
    }

/** Give up ownership: yields the pointer and leaves NULL behind. */
#ifdef __cppcheck__ /* it cannot read a statement within an initializer */
#define STEAL(ptr) (ptr)
#else
#define STEAL(ptr)                       \
    (__extension__({                     \
        __typeof__(ptr) stolen_ = (ptr); \
        (ptr) = NULL;                    \
        stolen_;                         \
    }))
#endif

/** Ignore the result of a NODISCARD function on purpose, which a cast to void does not do. */
#define UNCHECKED(expr)                       \
    do {                                      \
        __typeof__(expr) unchecked_ = (expr); \
        (void)unchecked_;                     \
    } while (0)
