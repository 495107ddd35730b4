#include "kernel/tool.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/utf8.h"
#include "kernel/syscall.h"

void tool_call_note(struct tool_call *call, const char *fmt, ...)
{
    struct syscall *sc = call->syscall;
    char note[sizeof sc->note];
    va_list ap;
    size_t len;
    int n;

    if (!sc)
        return;
    va_start(ap, fmt);
    n = vsnprintf(note, sizeof note, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    len = utf8_cut(note, strlen(note), strlen(note));
    note[len] = '\0';
    pthread_mutex_lock(&sc->note_lock);
    memcpy(sc->note, note, len + 1);
    pthread_mutex_unlock(&sc->note_lock);
}
