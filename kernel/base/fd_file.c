#include "kernel/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/attr.h"
#include "kernel/base/buf.h"
#include "kernel/base/id.h"

#define READ_FIRST_BYTES 4096u

/* Files of /proc and /sys state no size, so this reads until the end and looks one byte further. */
static bool read_to_end(int fd, const char *path, struct buf *out, struct error *err)
{
    struct stat st;
    size_t more = READ_FIRST_BYTES;

    if (fstat(fd, &st) == 0 && st.st_size > 0 && (size_t)st.st_size < out->max)
        more = (size_t)st.st_size + 1;
    for (;;) {
        ssize_t n;

        if (out->len == out->max)
            return error_set(err, ERR_LIMIT, "%s is larger than %zu bytes", path, out->max - 1);
        if (!buf_reserve(out, MIN(more, out->max - out->len)))
            return error_set(err, ERR_NOMEM, "read %s", path);
        n = read(fd, out->data + out->len, out->cap - 1 - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "read %s", path);
        if (n == 0)
            return true;
        out->len += (size_t)n;
        out->data[out->len] = '\0';
    }
}

char *fd_read_file(int dirfd, const char *path, size_t max, size_t *ret_len, struct error *err)
{
    /* O_NONBLOCK: a FIFO somebody left there must not hold us up. */
    CLEANUP(fd_closep) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    char *text;

    if (fd < 0) {
        error_set_errno(err, errno, "open %s", path);
        return NULL;
    }
    buf_init(&out, max < SIZE_MAX / 8 ? max + 1 : SIZE_MAX / 8);
    if (!read_to_end(fd, path, &out, err))
        return NULL;
    text = buf_take(&out, ret_len);
    if (!text)
        error_set(err, ERR_NOMEM, "read %s", path);
    return text;
}

bool fd_write_file(int dirfd, const char *path, const char *text, struct error *err)
{
    CLEANUP(fd_closep) int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    size_t len = strlen(text);
    ssize_t n;

    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    do {
        n = write(fd, text, len);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_set_errno(err, errno, "write %s", path);
    if ((size_t)n != len)
        return error_set(err, ERR_IO, "write %s: %zd of %zu bytes were taken", path, n, len);
    return true;
}

/* A rename is only sure to survive a power cut once its folder has been synced. */
static void sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    CLEANUP(fd_closep) int fd = -1;
    char parent[PATH_MAX];

    if (!slash)
        (void)snprintf(parent, sizeof parent, ".");
    else if (snprintf(parent, sizeof parent, "%.*s", (int)(slash - path + 1), path) >=
             (int)sizeof parent)
        return;
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)fsync(fd);
}

bool fd_replace_file(const char *path, const void *data, size_t len, mode_t mode, struct error *err)
{
    struct id unique = id_make("new");
    CLEANUP(fd_closep) int fd = -1;
    char beside[PATH_MAX];

    if (snprintf(beside, sizeof beside, "%s.%s", path, unique.text) >= (int)sizeof beside)
        return error_set_errno(err, ENAMETOOLONG, "replace %s", path);
    fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777 & ~0077U);
    if (fd < 0)
        return error_set_errno(err, errno, "create %s", beside);
    if (!fd_write_all(fd, data, len, err)) {
        error_prefix(err, "replace %s", path);
        (void)unlink(beside);
        return false;
    }
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(beside, path) < 0) {
        error_set_errno(err, errno, "replace %s", path);
        (void)unlink(beside);
        return false;
    }
    sync_parent(path);
    return true;
}

bool fd_mkdirs(const char *path, mode_t mode, struct error *err)
{
    char part[PATH_MAX];
    size_t len = strlen(path);
    struct stat st;

    if (len == 0 || len >= sizeof part)
        return error_set_errno(err, len ? ENAMETOOLONG : ENOENT, "make folder \"%.64s\"", path);
    /* Nearly always it is there. */
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return true;
    memcpy(part, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        part[i] = '\0';
        /* A folder that exists may refuse mkdir() for another reason than EEXIST: read-only. */
        if (mkdir(part, mode) < 0 && (errno != EEXIST || i == len)) {
            int failed = errno;

            if (stat(part, &st) < 0)
                return error_set_errno(err, failed, "make folder %s", part);
            if (!S_ISDIR(st.st_mode))
                return error_set_errno(err, ENOTDIR, "make folder %s", part);
        }
        part[i] = i == len ? '\0' : '/';
    }
    return true;
}
