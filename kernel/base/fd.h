/*
 * fd - descriptors: closing, whole reads and writes, passing them, small files.
 *
 * Every descriptor made here is close-on-exec.  Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/base/error.h"

/** close() that keeps errno and ignores -1. */
void fd_close(int fd);

/** For CLEANUP(fd_closep). */
void fd_closep(int *fd);

/** Yields the descriptor and leaves -1 behind. */
static inline int fd_steal(int *fd)
{
    int stolen = *fd;

    *fd = -1;
    return stolen;
}

/** All @len bytes, through EINTR and short writes; a blocking descriptor is assumed. */
NODISCARD bool fd_write_all(int fd, const void *data, size_t len, struct error *err);

/** Up to @len bytes until end of file; the count, or -1. */
NODISCARD ssize_t fd_read_full(int fd, void *data, size_t len, struct error *err);

NODISCARD bool fd_set_nonblock(int fd, bool on, struct error *err);

/** A whole small file (at most @max bytes) as NUL-terminated text for free(); dirfd may be
 *  AT_FDCWD.  ERR_LIMIT when it is larger. */
NODISCARD char *fd_read_file(int dirfd, const char *path, size_t max, size_t *ret_len,
                             struct error *err);

/** One write(2) of @text to an existing file, as cgroup and /proc files want it. */
NODISCARD bool fd_write_file(int dirfd, const char *path, const char *text, struct error *err);

/** Write beside, fsync and rename over @path: whole or not at all. */
NODISCARD bool fd_replace_file(const char *path, const void *data, size_t len, mode_t mode,
                               struct error *err);

/** The lock file @path below @dirfd (AT_FDCWD is fine; made, mode 0600), locked as long as the
 *  returned descriptor is open, with our process number in it.  -1 with ERR_BUSY when another
 * process holds it for more than half a second: *ret_holder is its number, 0 when it is not known.
 */
NODISCARD int fd_lock(int dirfd, const char *path, long *ret_holder, struct error *err);

/** mkdir -p; existing folders are fine. */
NODISCARD bool fd_mkdirs(const char *path, mode_t mode, struct error *err);

/** rm -rf below and including @name under @dirfd, never following a symbolic link, not crossing
 *  into another mount.  A missing @name is success.  After a failure the rest has been removed
 *  all the same, and the first failure is told. */
NODISCARD bool fd_remove_tree(int dirfd, const char *name, struct error *err);

/** A sealed memory file (no write, shrink, grow) with these bytes, mode 0500, or -1. */
NODISCARD int fd_sealed_memfd(const char *name, const void *data, size_t len, struct error *err);

/** Send @len bytes and up to 8 descriptors over a Unix socket. */
NODISCARD bool fd_send(int sock, const void *data, size_t len, const int *fds, size_t fd_count,
                       struct error *err);

/** Receive into @data; descriptors beyond @fd_max are closed.  Byte count, 0 at the end of the
 *  stream, -1 on error.  *ret_fd_count tells how many arrived. */
NODISCARD ssize_t fd_recv(int sock, void *data, size_t len, int *fds, size_t fd_max,
                          size_t *ret_fd_count, struct error *err);
