/*
 * place - a path of a request, confined: below a folder, without magic links.
 *
 * The root "/" is the whole computer (RESOLVE_IN_ROOT); any other root is a folder that the path
 * must not leave (RESOLVE_BENEATH), and the path may be given relative to it, or absolute when it
 * begins with it.
 * Ownership: place_fini() after a successful place_init().  Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "kernel/computer/wire.h"

#define PLACE_NAME_MAX  256 /* with its NUL */
#define PLACE_PROC_PATH 32

struct place {
    int dir;
    bool dir_is_ours;
    uint64_t resolve;
    char path[WIRE_PATH_MAX]; /* relative or absolute as openat2() wants it; never empty */
};

/** @base: what "/" is.  0 or an errno: ENAMETOOLONG, EXDEV for an absolute path elsewhere, or
 *  what opening the root says. */
int place_init(struct place *p, int base, const char *root, const char *path);
void place_fini(struct place *p);

/** The two strings root and path from a request, then place_init(); EBADMSG when they are not
 * there. */
int place_get(struct place *p, int base, struct wire_in *args);

/** Open close-on-exec, never blocking and never as a terminal; -1 and errno. */
int place_open(const struct place *p, int flags, mode_t mode);

/** Open a regular file: ENOTSUP for a FIFO, socket or device, which is not touched; EISDIR. */
int place_open_regular(const struct place *p, int flags, struct stat *ret_stat);

/** The folder that the last part of the path is in, opened with O_PATH, and that part's name.
 *  -1 and errno; EBUSY when the path is the root itself, EINVAL when it ends with "." or "..". */
int place_open_parent(const struct place *p, char name[PLACE_NAME_MAX]);

/** Make every missing folder above the last part of the path.  0 or an errno. */
int place_make_parents(const struct place *p);

/** "/proc/self/fd/N", for the calls that want a path. */
void place_of_fd(int fd, char buf[PLACE_PROC_PATH]);

/** 0, or ENOTSUP, EISDIR, ELOOP for what is not a regular file. */
int place_check_regular(mode_t mode);

void place_fill_stat(const struct stat *st, struct wire_stat *ret);
