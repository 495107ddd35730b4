/*
 * notify - hears of refused system calls, answers them, and says what was refused.
 *
 * One thread for all sandboxes, made with the first.  Reports are limited per sandbox; beyond the
 * limit a call is still refused, only not told.
 * Threads: any; the callback runs on the notifier thread and must not block.
 */
#pragma once

#include <stdint.h>

#include "kernel/base/error.h"

struct notify;
struct notify_watch;

/** @name: the system call; @text: its telling argument, valid UTF-8, may be ""; @pid: on the host.
 */
typedef void notify_fn(void *arg, const char *name, const char *text, uint32_t pid);

NODISCARD struct notify *notify_new(struct error *err);

/** Every watch has been removed. */
void notify_free(struct notify *n);
DEFINE_CLEANUP(struct notify, notify_free)

/** Takes @listener on success. */
NODISCARD struct notify_watch *notify_add(struct notify *n, int listener, notify_fn *fn, void *arg,
                                          struct error *err);

/** When it has returned, the callback does not run any more.  NULL is allowed. */
void notify_remove(struct notify_watch *w);
