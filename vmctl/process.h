/*
 * process - starts QEMU as a child: with the descriptors that its command line names, nothing else,
 * and no more privilege than it needs.
 *
 * The child gets a clean environment, the null device as its input, and a pipe for what it says on
 * the other two.  It can gain no privilege, sees nothing of the file system but programs and what
 * it was given, no other process and no network, makes no process and no connection (cage.h), and
 * is in a control group of its caller's.  Namespaces need root, or user namespaces; where a server
 * that is not root gets none, the child starts without, and `apart` says so.
 *
 * It is killed when the thread that started it ends, which must therefore be one that lives as long
 * as the server.  process_start() is a process_start_fn, as is whatever starts it in a test
 * instead. Blocking: until exec has happened, some milliseconds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "kernel/base/error.h"
#include "sandbox/cgroup.h"

#define PROCESS_FIRST_FD 3
#define PROCESS_FDS_MAX  16u

struct process_plan {
    const char *program; /* absolute */
    char *const *argv;
    const int *fds; /* they become 3, 4, 5 …; the caller's copies stay */
    size_t fd_count;
    uid_t uid; /* 0: stays who we are; otherwise only root can change */
    gid_t gid;
    gid_t extra_gid;      /* one more group, for a device; 0: none */
    struct cgroup *group; /* of process_group(), which must outlive the child; NULL: none */
};

struct process {
    pid_t pid;
    int pidfd;
    int words_fd; /* what it says on standard output and error; non-blocking */
    bool apart;   /* it has namespaces of its own */
};

typedef bool process_start_fn(const struct process_plan *plan, struct process *ret,
                              struct error *err);

NODISCARD bool process_start(const struct process_plan *plan, struct process *ret,
                             struct error *err);

/** What one machine may take of the host. */
struct process_limits {
    uint32_t memory_mib; /* the guest's; QEMU's own is added */
    uint64_t disk_bytes; /* of overlays that live in memory; 0: none do */
    uint32_t cpus;       /* the guest's; QEMU's own threads get one more, where that can be said */
};

/** A group for one child, for cgroup_free() once that has ended; *ret is NULL where this system
 *  has no control groups for us. */
NODISCARD bool process_group(struct cgroup_host *host, const struct process_limits *limits,
                             struct cgroup **ret, struct error *err);

/** Where @name is, for free(): itself when it has a slash, else looked for in the usual folders.
 *  ERR_UNSUPPORTED names it when it is nowhere. */
NODISCARD char *process_find(const char *name, struct error *err);
