#include "tests/support/fault.h"

#include <errno.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define FAULT_OFF (-1l)

/* What --wrap calls the functions it hides.  Weak: a program may link this without --wrap. */
#define HIDDEN __attribute__((weak))
HIDDEN void *__real_malloc(size_t size);
HIDDEN void *__real_calloc(size_t count, size_t size);
HIDDEN void *__real_realloc(void *old, size_t size);
HIDDEN void *__real_reallocarray(void *old, size_t count, size_t size);
HIDDEN char *__real_strdup(const char *text);
HIDDEN char *__real_strndup(const char *text, size_t max);

/* The names under which it asks for ours. */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t max);

static atomic_long victim = FAULT_OFF; /* FAULT_OFF or the number of the one to fail */
static atomic_long counted;

/* Before main(), hence before the first thread that could be using them. */
static void __attribute__((constructor)) route_jansson(void)
{
    if (__real_malloc)
        json_set_alloc_funcs(__wrap_malloc, free);
}

static bool strikes(void)
{
    long chosen = atomic_load(&victim);

    if (chosen == FAULT_OFF || atomic_fetch_add(&counted, 1) != chosen)
        return false;
    errno = ENOMEM;
    return true;
}

void fault_arm(unsigned n)
{
    atomic_store(&counted, 0);
    atomic_store(&victim, (long)n);
}

bool fault_disarm(void)
{
    long chosen = atomic_exchange(&victim, FAULT_OFF);

    return chosen != FAULT_OFF && atomic_load(&counted) > chosen;
}

unsigned fault_count(void)
{
    return (unsigned)atomic_load(&counted);
}

void *__wrap_malloc(size_t size)
{
    return strikes() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return strikes() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return strikes() ? NULL : __real_realloc(old, size);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
    return strikes() ? NULL : __real_reallocarray(old, count, size);
}

char *__wrap_strdup(const char *text)
{
    return strikes() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t max)
{
    return strikes() ? NULL : __real_strndup(text, max);
}
