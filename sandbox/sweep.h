/*
 * sweep - who is alive, and clearing away what servers that were killed have left behind.
 *
 * Each server holds a lock on a file with its name in the run-time folder for as long as its
 * process lives; the kernel lets go of it even after kill -9.  Names begin with a mark of that
 * folder, so that a server with other folders never takes a stranger for dead. Threads: any.
 */
#pragma once

#include <stdbool.h>

#include "kernel/base/error.h"

#define SERVER_NAME_SIZE 48

struct server_lock;

/** Make @runtime_dir/servers (mode 0700), and a name with its lock in there. */
NODISCARD struct server_lock *server_lock_new(const char *runtime_dir, struct error *err);

/** Gives the name up.  NULL is allowed. */
void server_lock_free(struct server_lock *lock);
DEFINE_CLEANUP(struct server_lock, server_lock_free)

/** Our own name: letters and digits only. */
const char *server_lock_name(const struct server_lock *lock);

/** @lock (a struct server_lock): is that server alive?  A name with another folder's mark counts
 *  as alive: it is not ours to judge.  The lock file of a dead one is removed.
 *  Fits cgroup_sweep(). */
bool server_alive(void *lock, const char *server);

/** Remove the lock files of dead servers. */
void server_sweep(struct server_lock *lock);
