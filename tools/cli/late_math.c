/*
 * The functions of libm that SQLite and the ranking of notes name, each bound at its first call.
 * Hardly any command calls one, and loading the library costs every one of them 60 us.
 */
#include <assert.h>
#include <dlfcn.h>
#include <math.h>
#include <stdatomic.h>
#include <stddef.h>

typedef void any_fn(void);

static any_fn *bind_late(_Atomic(any_fn *) *at, const char *name)
{
    any_fn *fn = atomic_load_explicit(at, memory_order_acquire);
    void *library;

    if (fn)
        return fn;
    library = dlopen("libm.so.6", RTLD_LAZY | RTLD_LOCAL); /* a part of the C library */
    assert(library);
    *(void **)(void *)&fn = dlsym(library, name);
    assert(fn);
    atomic_store_explicit(at, fn, memory_order_release);
    return fn;
}

#define LATE_1(name)                                           \
    double name(double x)                                      \
    {                                                          \
        static _Atomic(any_fn *) at;                           \
        return ((double (*)(double))bind_late(&at, #name))(x); \
    }
#define LATE_2(name)                                                      \
    double name(double x, double y)                                       \
    {                                                                     \
        static _Atomic(any_fn *) at;                                      \
        return ((double (*)(double, double))bind_late(&at, #name))(x, y); \
    }

LATE_1(acos)
LATE_1(acosh)
LATE_1(asin)
LATE_1(asinh)
LATE_1(atan)
LATE_1(atanh)
LATE_1(cos)
LATE_1(cosh)
LATE_1(exp)
LATE_1(log)
LATE_1(sin)
LATE_1(sinh)
LATE_1(sqrt)
LATE_1(tan)
LATE_1(tanh)
LATE_1(trunc)
LATE_2(atan2)
LATE_2(fmod)
LATE_2(pow)
