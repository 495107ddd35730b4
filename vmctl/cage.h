/*
 * cage - what QEMU may still do by name: read its own programs, and use the files it was given.
 *
 * Landlock rules, which hold for QEMU and whatever it could start.  They say nothing of files that
 * are open already.
 * Threads: any; cage_close() is async-signal-safe, for the child.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/** Restrict the calling thread for good (no_new_privs is set).  @fds: given files, which may be
 *  opened again as they are open; others than plain files are skipped.  @abi: of landlock_abi(),
 *  0 does nothing.  False with errno. */
bool cage_close(int abi, const int *fds, size_t count);
