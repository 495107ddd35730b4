/*
 * error - what went wrong: a plain value on the caller's stack.
 *
 * A function that can fail in more than one way takes a struct error * last and returns bool, a
 * pointer or a descriptor; the return value alone says whether it failed.  err may be NULL.
 * Threads: any; a struct error belongs to whoever declared it.
 */
#pragma once

#include <stdbool.h>
#include <stdarg.h>

#include "kernel/base/attr.h"

enum error_code {
    ERR_NONE = 0,
    ERR_INVALID,     /* the caller's argument is wrong; the text says what to send instead */
    ERR_NOMEM,       /* out of memory */
    ERR_LIMIT,       /* a stated limit was passed */
    ERR_BUSY,        /* a queue is full; try again */
    ERR_NOT_FOUND,   /* no such thing, or not this agent's */
    ERR_EXISTS,      /* it is there already */
    ERR_DENIED,      /* a rule or a permission says no */
    ERR_TIMEOUT,     /* the deadline passed */
    ERR_CANCELLED,   /* the caller asked to stop */
    ERR_IO,          /* the system said no; os_errno says how */
    ERR_PROTOCOL,    /* a peer broke the protocol */
    ERR_UNSUPPORTED, /* this machine or this build cannot do it */
    ERR_LOST,        /* the computer or a peer is gone */
    ERR_INTERNAL,    /* our own fault */
    ERR_CODE_COUNT
};

struct error {
    enum error_code code;
    int os_errno;   /* 0 where no system call was involved */
    char text[512]; /* valid UTF-8 whatever was put in, cut on a character boundary */
};

#define ERROR_INIT       \
    {                    \
        .code = ERR_NONE \
    }

/** Fill @err (NULL is allowed).  Always returns false, so that one line can return it.
 *  Setting an error twice is a lost error and asserts. */
bool error_set(struct error *err, enum error_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/** The same for a failed system call: ": strerror" is added, and the code follows from
 *  @os_errno (ENOMEM, ENOENT, EACCES, EPERM, EEXIST, ETIMEDOUT …; ERR_IO for the rest). */
bool error_set_errno(struct error *err, int os_errno, const char *fmt, ...) PRINTF_LIKE(3, 4);

/** Put "what was being attempted: " before the text of a set error.  Returns false. */
bool error_prefix(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#ifdef __clang_analyzer__
/* An analyser sees one source file at a time: this tells it what the three return. */
static inline bool error_is_false(bool result)
{
    (void)result;
    return false;
}
#define error_set(...)       error_is_false(error_set(__VA_ARGS__))
#define error_set_errno(...) error_is_false(error_set_errno(__VA_ARGS__))
#define error_prefix(...)    error_is_false(error_prefix(__VA_ARGS__))
#endif

/** Forget it, so that @err can be set again. */
void error_clear(struct error *err);

/** The stable lower-case name, "not_found"; "unknown" outside the table. */
const char *error_code_name(enum error_code code);
