#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "kernel/base/fd.h"

#define TRIES    25
#define PAUSE_MS 20

/* Half a second at most: what a killed process held, or a child of it that was just being made, is
 * free in less. */
static bool lock(int fd)
{
    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (errno != EINTR && (errno != EWOULDBLOCK || tries == TRIES))
            return false;
        (void)poll(NULL, 0, PAUSE_MS);
    }
    return true;
}

static long holder_of(int fd)
{
    char text[24] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);

    return n > 0 ? MAX(strtol(text, NULL, 10), 0) : 0;
}

int fd_lock(int dirfd, const char *path, long *ret_holder, struct error *err)
{
    CLEANUP(fd_closep)
    int fd = openat(dirfd, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    char text[24];
    int len;

    *ret_holder = 0;
    if (fd < 0) {
        error_set_errno(err, errno, "open %s", path);
        return -1;
    }
    if (!lock(fd)) {
        if (errno == EWOULDBLOCK) {
            *ret_holder = holder_of(fd);
            error_set(err, ERR_BUSY, "process %ld holds %s", *ret_holder, path);
        } else {
            error_set_errno(err, errno, "lock %s", path);
        }
        return -1;
    }
    len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    /* On a full disk the number is missing, not the lock. */
    if (ftruncate(fd, 0) == 0)
        (void)!pwrite(fd, text, (size_t)len, 0);
    return fd_steal(&fd);
}
