/*
 * launch_child - what the cloned child does until it becomes the guest.
 *
 * Threads: the child's only one.  Async-signal-safe: no memory, no locks, no stdio.
 */
#pragma once

#include <stdint.h>

#include "sandbox/elsewhere.h"
#include "sandbox/launch.h"

/** Everything the child needs, complete before the clone. */
struct launch_child {
    const struct launch_plan *plan;
    int control;        /* SOCK_SEQPACKET to the parent */
    int stream;         /* the guest's end of its stream */
    int parent_ends[2]; /* of both: closed first, so that an end of file can be seen */
    int life[2];        /* a pipe that only the server keeps open for writing */
    bool root_server;   /* the identity must be changed to the mapped one */
    int landlock_abi;
    struct elsewhere elsewhere; /* while the parent writes the maps */
};

/** What it waits for at `control`, before it mounts: the skeleton's path, with its NUL.  Then, with
 *  one byte each: descriptors to write "0" to, which takes it into its groups, or the word that
 *  resource limits are to do; and the guest's program. */
#define LAUNCH_PATH_MAX 4096
#define LAUNCH_GROUPED  'g'
#define LAUNCH_LIMITED  'l'

/** What the child tells over `control`: first this with the descriptors of enum launch_fd, then,
 * only if exec fails, this again with a fault.  After a successful exec: end of file. */
struct launch_message {
    const char *what; /* NULL: all is well.  A constant, at the same address in the parent */
    int os_errno;
};

enum launch_fd {
    LAUNCH_FD_LAYER,
    LAUNCH_FD_USERNS,
    LAUNCH_FD_MNTNS,
    LAUNCH_FD_NOTIFY,
    LAUNCH_FD_COUNT
};

_Noreturn void launch_child(const struct launch_child *child);
