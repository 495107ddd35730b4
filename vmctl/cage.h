/*
 * cage - what QEMU, or what has taken it over, may still do: see its own programs and nothing else
 * of the file system, open the files it was given, and make the system calls that a machine needs.
 *
 * Three layers, each of which holds alone: a root of its own (where namespaces are to be had),
 * Landlock rules, and a filter of system calls beside QEMU's own.
 * Threads: any; all are async-signal-safe, for the child.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/** In mount and PID namespaces of one's own: make a root that holds the folders of programs, for
 *  reading, a few devices and this namespace's processes.  NULL, or what failed, with errno. */
const char *cage_root(void);

/** Restrict the calling thread for good (no_new_privs is set).  @fds: given files, which may be
 *  opened again as they are open; others than plain files are skipped.  @abi: of landlock_abi(),
 *  0 does nothing.  False with errno. */
bool cage_close(int abi, const int *fds, size_t count);

/** Refuse, from now on: new sockets and connections, new processes (threads are not), looking into
 *  others and signalling them, mounts, namespaces, keys, and what the kernel is ruled by.  False
 * with errno. */
bool cage_filter(void);
