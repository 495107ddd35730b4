/*
 * notify - hears of refused system calls, answers them, and says what was refused.
 *
 * One thread for all sandboxes, made with the first; or a loop does it.  Reports are limited per
 * sandbox; beyond the limit a call is still refused, only not told.
 * Threads: any; with a loop, notify_new() and notify_free() on its own.  The callback runs on the
 *   notifier thread or the loop, and must not block.
 */
#pragma once

#include <stdint.h>

#include "kernel/base/error.h"
#include "kernel/base/loop.h"

struct notify;
struct notify_watch;

/** @name: the system call; @text: its telling argument, valid UTF-8, may be ""; @pid: on the host.
 */
typedef void notify_fn(void *arg, const char *name, const char *text, uint32_t pid);

/** @loop: who answers; NULL for a thread. */
NODISCARD struct notify *notify_new(struct loop *loop, struct error *err);

/** Every watch has been removed. */
void notify_free(struct notify *n);
DEFINE_CLEANUP(struct notify, notify_free)

/** Takes @listener on success. */
NODISCARD struct notify_watch *notify_add(struct notify *n, int listener, notify_fn *fn, void *arg,
                                          struct error *err);

/** When it has returned, the callback does not run any more.  NULL is allowed. */
void notify_remove(struct notify_watch *w);
