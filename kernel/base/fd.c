#include "kernel/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/attr.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

#define FD_PASS_MAX 8

void fd_close(int fd)
{
    int saved = errno;

    if (fd >= 0)
        (void)close(fd);
    errno = saved;
}

void fd_closep(int *fd)
{
    fd_close(*fd);
}

bool fd_write_all(int fd, const void *data, size_t len, struct error *err)
{
    const char *at = data;

    while (len) {
        ssize_t n = write(fd, at, len);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            return error_set_errno(err, errno, "write");
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

ssize_t fd_read_full(int fd, void *data, size_t len, struct error *err)
{
    char *at = data;
    size_t got = 0;

    while (got < len) {
        ssize_t n = read(fd, at + got, len - got);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            error_set_errno(err, errno, "read");
            return -1;
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

bool fd_set_nonblock(int fd, bool on, struct error *err)
{
    int flags = fcntl(fd, F_GETFL), want;

    if (flags < 0)
        return error_set_errno(err, errno, "read the flags of descriptor %d", fd);
    want = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (want != flags && fcntl(fd, F_SETFL, want) < 0)
        return error_set_errno(err, errno, "set the flags of descriptor %d", fd);
    return true;
}

int fd_sealed_memfd(const char *name, const void *data, size_t len, struct error *err)
{
    CLEANUP(fd_closep) int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 every memory file could be executed */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        error_set_errno(err, errno, "memory file \"%s\"", name);
        return -1;
    }
    if (!fd_write_all(fd, data, len, err)) {
        error_prefix(err, "memory file \"%s\"", name);
        return -1;
    }
    if (lseek(fd, 0, SEEK_SET) < 0 || fchmod(fd, 0500) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0) {
        error_set_errno(err, errno, "seal memory file \"%s\"", name);
        return -1;
    }
    return fd_steal(&fd);
}

union fd_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
};

bool fd_send(int sock, const void *data, size_t len, const int *fds, size_t fd_count,
             struct error *err)
{
    union fd_control control;
    const char *at = data;

    if (fd_count > FD_PASS_MAX || (fd_count && !len))
        return error_set(err, ERR_INVALID, "%zu descriptors cannot go with %zu bytes", fd_count,
                         len);
    while (len) {
        struct iovec iov = { .iov_base = unconst(at), .iov_len = len };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (fd_count) {
            struct cmsghdr *cmsg;

            memset(&control, 0, sizeof control);
            msg.msg_control = control.bytes;
            msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
            cmsg = CMSG_FIRSTHDR(&msg);
            cmsg->cmsg_level = SOL_SOCKET;
            cmsg->cmsg_type = SCM_RIGHTS;
            cmsg->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
            memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * fd_count);
        }
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return error_set_errno(err, errno, "send");
        }
        fd_count = 0; /* they went with the first byte */
        at += n;
        len -= (size_t)n;
    }
    return true;
}

/* What the kernel could not fit in the control buffer it has dropped itself. */
static size_t take_fds(struct msghdr *msg, int *fds, size_t fd_max)
{
    size_t taken = 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        size_t count;

        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof fd);
            if (taken < fd_max)
                fds[taken++] = fd;
            else
                fd_close(fd);
        }
    }
    return taken;
}

ssize_t fd_recv(int sock, void *data, size_t len, int *fds, size_t fd_max, size_t *ret_fd_count,
                struct error *err)
{
    union fd_control control;
    struct iovec iov = { .iov_base = data, .iov_len = len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    size_t taken;
    ssize_t n;

    msg.msg_control = control.bytes;
    msg.msg_controllen = sizeof control.bytes;
    do {
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        error_set_errno(err, errno, "receive");
        return -1;
    }
    taken = take_fds(&msg, fds, fd_max);
    if (ret_fd_count)
        *ret_fd_count = taken;
    return n;
}
