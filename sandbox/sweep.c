#include "sandbox/sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "kernel/base/sha256.h"

#define MARK_LEN 8

struct server_lock {
    int runtime_fd;
    int servers_fd;
    int file_fd; /* holds the lock */
    char name[SERVER_NAME_SIZE];
};

/** Eight digits that tell this run-time folder from every other on the machine. */
static bool make_mark(int runtime_fd, char mark[MARK_LEN + 1], struct error *err)
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];
    struct sha256 h;
    struct stat st;

    if (fstat(runtime_fd, &st) != 0)
        return error_set_errno(err, errno, "stat the run-time folder");
    sha256_init(&h);
    sha256_add(&h, &st.st_dev, sizeof st.st_dev);
    sha256_add(&h, &st.st_ino, sizeof st.st_ino);
    sha256_end(&h, digest);
    sha256_hex(digest, hex);
    (void)snprintf(mark, MARK_LEN + 1, "%.*s", MARK_LEN, hex);
    return true;
}

/** The file is locked before it gets the name under which others look for it. */
static bool take_name(struct server_lock *lock, struct error *err)
{
    char fresh[SERVER_NAME_SIZE + 8];

    (void)snprintf(fresh, sizeof fresh, ".new-%s", lock->name);
    lock->file_fd =
        openat(lock->servers_fd, fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock->file_fd < 0)
        return error_set_errno(err, errno, "make a lock file");
    if (flock(lock->file_fd, LOCK_EX | LOCK_NB) != 0 ||
        renameat(lock->servers_fd, fresh, lock->servers_fd, lock->name) != 0) {
        error_set_errno(err, errno, "lock a file in the run-time folder");
        (void)unlinkat(lock->servers_fd, fresh, 0);
        return false;
    }
    return true;
}

static bool open_folders(struct server_lock *lock, const char *runtime_dir, struct error *err)
{
    lock->runtime_fd = open(runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock->runtime_fd < 0 && errno == ENOENT) {
        if (!fd_mkdirs(runtime_dir, 0700, err))
            return false;
        lock->runtime_fd = open(runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (lock->runtime_fd < 0)
        return error_set_errno(err, errno, "open %s", runtime_dir);
    if (mkdirat(lock->runtime_fd, "servers", 0700) != 0 && errno != EEXIST)
        return error_set_errno(err, errno, "mkdir %s/servers", runtime_dir);
    lock->servers_fd = openat(lock->runtime_fd, "servers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock->servers_fd < 0)
        return error_set_errno(err, errno, "open %s/servers", runtime_dir);
    return true;
}

struct server_lock *server_lock_new(const char *runtime_dir, struct error *err)
{
    CLEANUP(server_lock_freep) struct server_lock *lock = calloc(1, sizeof *lock);
    struct id random = id_make("s");
    char mark[MARK_LEN + 1];

    if (!lock) {
        error_set(err, ERR_NOMEM, "server lock");
        return NULL;
    }
    lock->runtime_fd = lock->servers_fd = lock->file_fd = -1;
    if (!open_folders(lock, runtime_dir, err) || !make_mark(lock->runtime_fd, mark, err))
        return NULL;
    (void)snprintf(lock->name, sizeof lock->name, "%s%.32s", mark, random.text + strlen("s_"));
    if (!take_name(lock, err)) {
        lock->name[0] = '\0';
        return NULL;
    }
    return STEAL(lock);
}

void server_lock_free(struct server_lock *lock)
{
    if (!lock)
        return;
    if (lock->name[0])
        (void)unlinkat(lock->servers_fd, lock->name, 0);
    fd_close(lock->file_fd);
    fd_close(lock->servers_fd);
    fd_close(lock->runtime_fd);
    free(lock);
}

const char *server_lock_name(const struct server_lock *lock)
{
    return lock->name;
}

/** True when the lock of @file is free: nobody alive holds it. */
static bool is_free(int servers_fd, const char *file)
{
    int fd = openat(servers_fd, file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    bool unheld;

    if (fd < 0)
        return errno == ENOENT;
    unheld = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (unheld)
        (void)unlinkat(servers_fd, file, 0);
    fd_close(fd);
    return unheld;
}

bool server_alive(void *arg, const char *server)
{
    const struct server_lock *lock = arg;

    if (strncmp(server, lock->name, MARK_LEN) != 0 || strpbrk(server, "/."))
        return true;
    return !strcmp(server, lock->name) || !is_free(lock->servers_fd, server);
}

/** A file that is locked before it gets its name stays behind when its maker is killed in
 *  between; it takes microseconds, so that an hour tells. */
static bool is_stale(int dirfd, const char *file)
{
    struct stat st;

    return fstatat(dirfd, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
           clock_wall_ns() / CLOCK_NS_PER_S - st.st_mtim.tv_sec > 3600;
}

void server_sweep(struct server_lock *lock)
{
    /* A descriptor of its own, since the position belongs to the open folder. */
    int fd = openat(lock->servers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (!dir) {
        fd_close(fd);
        return;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] != '.')
            (void)server_alive(lock, e->d_name);
        else if (is_stale(lock->servers_fd, e->d_name))
            (void)unlinkat(lock->servers_fd, e->d_name, 0);
    }
    closedir(dir);
}
