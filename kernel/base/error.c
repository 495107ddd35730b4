#include "kernel/base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/utf8.h"

/* What formatting leaves may hold bytes from anywhere; the text becomes JSON. */
static void tidy(char *text, size_t size, int wanted)
{
    size_t len = strlen(text);

    if (wanted >= 0 && (size_t)wanted >= size) {
        len = utf8_cut(text, len, len);
        text[len] = '\0';
    }
    if (utf8_valid(text, len))
        return;
    for (size_t i = 0; i < len; i++) {
        size_t run = 1;

        while (run < 4 && i + run <= len && !utf8_valid(text + i, run))
            run++;
        if (i + run <= len && utf8_valid(text + i, run))
            i += run - 1;
        else
            text[i] = '?';
    }
}

static void PRINTF_LIKE(2, 0) compose(struct error *err, const char *fmt, va_list ap)
{
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);

    if (n < 0)
        err->text[0] = '\0';
    tidy(err->text, sizeof err->text, n);
}

/* The brackets keep off the macro that analysers see. */
bool(error_set)(struct error *err, enum error_code code, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return false;
    assert(err->code == ERR_NONE);
    assert(code != ERR_NONE);
    err->code = code;
    err->os_errno = 0;
    va_start(ap, fmt);
    compose(err, fmt, ap);
    va_end(ap);
    return false;
}

static enum error_code code_of_errno(int os_errno)
{
    switch (os_errno) {
    case ENOMEM:
        return ERR_NOMEM;
    case ENOENT:
    case ESRCH:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_DENIED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECANCELED:
        return ERR_CANCELLED;
    case EBUSY:
        return ERR_BUSY;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    case EPIPE:
    case ECONNRESET:
        return ERR_LOST;
    default:
        return ERR_IO;
    }
}

bool(error_set_errno)(struct error *err, int os_errno, const char *fmt, ...)
{
    char reason[128];
    va_list ap;
    size_t len;

    if (!err)
        return false;
    assert(err->code == ERR_NONE);
    err->code = code_of_errno(os_errno);
    err->os_errno = os_errno;
    va_start(ap, fmt);
    compose(err, fmt, ap);
    va_end(ap);
    len = strlen(err->text);
    tidy(err->text, sizeof err->text,
         (int)len + snprintf(err->text + len, sizeof err->text - len, ": %s",
                             strerror_r(os_errno, reason, sizeof reason)));
    return false;
}

bool(error_prefix)(struct error *err, const char *fmt, ...)
{
    struct error whole = ERROR_INIT;
    va_list ap;
    size_t len;

    if (!err)
        return false;
    va_start(ap, fmt);
    compose(&whole, fmt, ap);
    va_end(ap);
    /* A callee that failed without a word is our own fault, and no reason to lose the trail. */
    if (err->code == ERR_NONE)
        return error_set(err, ERR_INTERNAL, "%s: failed without a reason", whole.text);
    len = strlen(whole.text);
    tidy(whole.text, sizeof whole.text,
         (int)len + snprintf(whole.text + len, sizeof whole.text - len, ": %s", err->text));
    memcpy(err->text, whole.text, sizeof err->text);
    return false;
}

void error_clear(struct error *err)
{
    if (!err)
        return;
    err->code = ERR_NONE;
    err->os_errno = 0;
    err->text[0] = '\0';
}

const char *error_code_name(enum error_code code)
{
    static const char *const names[ERR_CODE_COUNT] = {
        [ERR_NONE] = "none",
        [ERR_INVALID] = "invalid",
        [ERR_NOMEM] = "nomem",
        [ERR_LIMIT] = "limit",
        [ERR_BUSY] = "busy",
        [ERR_NOT_FOUND] = "not_found",
        [ERR_EXISTS] = "exists",
        [ERR_DENIED] = "denied",
        [ERR_TIMEOUT] = "timeout",
        [ERR_CANCELLED] = "cancelled",
        [ERR_IO] = "io",
        [ERR_PROTOCOL] = "protocol",
        [ERR_UNSUPPORTED] = "unsupported",
        [ERR_LOST] = "lost",
        [ERR_INTERNAL] = "internal",
    };

    if ((unsigned)code >= ERR_CODE_COUNT)
        return "unknown";
    return names[code];
}
