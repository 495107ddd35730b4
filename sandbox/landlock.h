/*
 * landlock - file and scope rules on top of the mounts: read and execute everywhere inside, write
 * only where the agent may, no abstract sockets or signals beyond the sandbox.
 *
 * Threads: any; landlock_apply() is async-signal-safe, for the child after pivot_root.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/** The kernel's ABI version, 0 when it has no Landlock. */
int landlock_abi(void);

/** Restrict the calling thread (no_new_privs is set).  @writable: paths inside below which
 *  writing is allowed; those that do not exist are skipped.  With @abi 0 nothing is done.  False
 * with errno. */
bool landlock_apply(int abi, const char *const *writable, size_t count);
