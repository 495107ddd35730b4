#include "kernel/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"

#define LOG_LINE_BYTES 4096 /* at most PIPE_BUF, so that lines of two processes do not mix */

static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"
};

static atomic_int current_level = LOG_WARN;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_level_get(void)
{
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (!strcmp(name, level_names[i])) {
            *ret_level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    char line[LOG_LINE_BYTES], when[32];
    int saved = errno;
    size_t len;
    va_list ap;
    int n;

    if (level > log_level_get())
        return;
    n = snprintf(line, sizeof line - 1, "time=%s level=%s event=%s ",
                 clock_iso8601(clock_wall_ns(), when, sizeof when), level_names[level], event);
    if (n > 0 && (size_t)n < sizeof line - 1) {
        va_start(ap, fmt);
        (void)vsnprintf(line + n, sizeof line - 1 - (size_t)n, fmt, ap);
        va_end(ap);
    }
    len = strlen(line);
    len = utf8_cut(line, len, len);
    while (len && line[len - 1] == ' ')
        len--;
    /* Escaping is the caller's duty; that one event stays one line is ours. */
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    line[len++] = '\n';
    while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
        continue;
    errno = saved;
}

/* One character of @text as JSON spells it into @out (12 bytes); its length in @text. */
static size_t spell(const char *text, size_t len, char out[12])
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    unsigned char c = (unsigned char)text[0];
    const char *at = c ? strchr(plain, (char)c) : NULL;
    size_t n = 1;

    if (at) {
        out[0] = '\\';
        out[1] = letters[at - plain];
        out[2] = '\0';
    } else if (c < 0x20 || c == 0x7f) {
        (void)snprintf(out, 12, "\\u%04x", c);
    } else if (c == 0xc2 && len >= 2 && (unsigned char)text[1] >= 0x80 &&
               (unsigned char)text[1] < 0xa0) {
        (void)snprintf(out, 12, "\\u%04x", (unsigned char)text[1]); /* terminals obey these too */
        n = 2;
    } else {
        while (n < 4 && n < len && !utf8_valid(text, n))
            n++;
        if (utf8_valid(text, n)) {
            memcpy(out, text, n);
            out[n] = '\0';
        } else {
            (void)snprintf(out, 12, "\\ufffd");
            n = 1;
        }
    }
    return n;
}

const char *log_escape(char *buf, unsigned long size, const char *text)
{
    static const char end[] = "...\"";
    size_t len = strlen(text), used = 0, safe = 0;

    if (size < sizeof end + 1) {
        if (size)
            buf[0] = '\0';
        return buf;
    }
    buf[used++] = '"';
    safe = used; /* where the mark of a cut text still fits behind */
    while (len) {
        char out[12];
        size_t n = spell(text, len, out), need = strlen(out);

        if (used + need + 2 > size) {
            memcpy(buf + safe, end, sizeof end);
            return buf;
        }
        memcpy(buf + used, out, need);
        used += need;
        if (used + sizeof end <= size)
            safe = used;
        text += n;
        len -= n;
    }
    buf[used++] = '"';
    buf[used] = '\0';
    return buf;
}
