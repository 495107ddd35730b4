/*
 * process - starts QEMU as a child: with the descriptors that its command line names, nothing else,
 * and no more privilege than it needs.
 *
 * The child gets a clean environment, the null device as its input, and a pipe for what it says on
 * the other two.  It can gain no privilege, open no file by name but programs and what it was given
 * (cage.h, where the kernel has Landlock), and sees no network (where the server is root).  It is
 * killed when the thread that started it ends, which must therefore be one that lives as long as
 * the server.  process_start() is a process_start_fn, as is whatever starts it in a jail instead.
 * Blocking: until exec has happened, some milliseconds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "kernel/base/error.h"

#define PROCESS_FIRST_FD 3
#define PROCESS_FDS_MAX  16u

struct process_plan {
    const char *program; /* absolute */
    char *const *argv;
    const int *fds; /* they become 3, 4, 5 …; the caller's copies stay */
    size_t fd_count;
    uid_t uid; /* 0: stays who we are; otherwise only root can change */
    gid_t gid;
    gid_t extra_gid; /* one more group, for a device; 0: none */
};

struct process {
    pid_t pid;
    int pidfd;
    int words_fd; /* what it says on standard output and error; non-blocking */
};

typedef bool process_start_fn(const struct process_plan *plan, struct process *ret,
                              struct error *err);

NODISCARD bool process_start(const struct process_plan *plan, struct process *ret,
                             struct error *err);

/** Where @name is, for free(): itself when it has a slash, else looked for in the usual folders.
 *  ERR_UNSUPPORTED names it when it is nowhere. */
NODISCARD char *process_find(const char *name, struct error *err);
