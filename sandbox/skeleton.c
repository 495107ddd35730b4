#include "sandbox/skeleton.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "kernel/base/sha256.h"
#include "sandbox/mounts.h"

#define FORMAT  "skeleton 4" /* changes whenever skeleton_build() makes something else */
#define KEY_LEN 24
#define TRIES   4

struct skeleton {
    int fd; /* holds a shared lock */
    char *path;
};

/** What the tree would be made from, as a name. */
static void make_key(int host_fd, uid_t uid, gid_t gid, char key[KEY_LEN + 1])
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];
    bool opaque = mounts_opaque();
    struct sha256 h;

    sha256_init(&h);
    sha256_add(&h, FORMAT, sizeof FORMAT);
    sha256_add(&h, &uid, sizeof uid);
    sha256_add(&h, &gid, sizeof gid);
    sha256_add(&h, &opaque, sizeof opaque);
    for (const char *const *source = skeleton_sources; *source; source++) {
        struct stat st;

        if (fstatat(host_fd, *source, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        sha256_add(&h, *source, strlen(*source) + 1);
        sha256_add(&h, &st.st_mtim.tv_sec, sizeof st.st_mtim.tv_sec);
        sha256_add(&h, &st.st_mtim.tv_nsec, sizeof st.st_mtim.tv_nsec);
        sha256_add(&h, &st.st_size, sizeof st.st_size);
        sha256_add(&h, &st.st_ino, sizeof st.st_ino);
    }
    sha256_end(&h, digest);
    sha256_hex(digest, hex);
    (void)snprintf(key, KEY_LEN + 1, "%.*s", KEY_LEN, hex);
}

/** Hold @name, if it is there and was not removed at the same moment; -1 with errno otherwise. */
static int hold(int cache_fd, const char *name)
{
    struct stat held, named;
    int fd = openat(cache_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_SH | LOCK_NB) != 0 || fstat(fd, &held) != 0 ||
        fstatat(cache_fd, name, &named, AT_SYMLINK_NOFOLLOW) != 0 || held.st_ino != named.st_ino) {
        fd_close(fd);
        errno = ENOENT;
        return -1;
    }
    return fd;
}

/** Remove the trees that nobody holds, but for @keep.  Half-made ones are held by their maker. */
static void collect(int cache_fd, const char *keep)
{
    int fd = openat(cache_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (!dir) {
        fd_close(fd);
        return;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        int tree;

        if ((strncmp(e->d_name, "skeleton-", 9) != 0 &&
             strncmp(e->d_name, ".skeleton-", 10) != 0) ||
            !strcmp(e->d_name, keep))
            continue;
        tree = openat(cache_fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (tree >= 0 && flock(tree, LOCK_EX | LOCK_NB) == 0)
            (void)!fd_remove_tree(cache_fd, e->d_name, NULL);
        fd_close(tree);
    }
    closedir(dir);
}

/** Build beside and rename into place.  True also when another server was faster. */
static bool make(int cache_fd, int host_fd, const char *name, uid_t uid, gid_t gid,
                 struct error *err)
{
    struct id random = id_make("t");
    char fresh[sizeof ".skeleton-" + ID_SIZE];
    CLEANUP(fd_closep) int fd = -1;

    (void)snprintf(fresh, sizeof fresh, ".skeleton-%s", random.text);
    if (mkdirat(cache_fd, fresh, 0700) != 0)
        return error_set_errno(err, errno, "make a folder in the cache");
    fd = openat(cache_fd, fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0)
        return error_set_errno(err, errno, "hold a folder in the cache");
    if (!skeleton_build(fd, host_fd, uid, gid, err)) {
        (void)!fd_remove_tree(cache_fd, fresh, NULL);
        return false;
    }
    if (renameat(cache_fd, fresh, cache_fd, name) != 0) {
        int os_errno = errno;

        (void)!fd_remove_tree(cache_fd, fresh, NULL);
        if (os_errno != EEXIST && os_errno != ENOTEMPTY)
            return error_set_errno(err, os_errno, "rename a folder in the cache");
    }
    /* Closing would not do: a child that is being launched may have a copy of the descriptor. */
    (void)flock(fd, LOCK_UN);
    collect(cache_fd, name);
    return true;
}

static int find_or_make(int cache_fd, int host_fd, const char *name, uid_t uid, gid_t gid,
                        struct error *err)
{
    for (int i = 0; i < TRIES; i++) {
        int fd = hold(cache_fd, name);

        if (fd >= 0)
            return fd;
        if (errno != ENOENT) {
            error_set_errno(err, errno, "open %s", name);
            return -1;
        }
        if (!make(cache_fd, host_fd, name, uid, gid, err))
            return -1;
    }
    error_set(err, ERR_BUSY, "%s is removed as fast as it is made", name);
    return -1;
}

struct skeleton *skeleton_new(const char *cache_dir, const char *host, uid_t uid, gid_t gid,
                              struct error *err)
{
    CLEANUP(fd_closep) int cache_fd = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd_closep) int host_fd = open(host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(skeleton_freep) struct skeleton *s = NULL;
    char key[KEY_LEN + 1];
    char name[sizeof "skeleton-" + KEY_LEN];

    if (cache_fd < 0 || host_fd < 0) {
        error_set_errno(err, errno, "open %s", cache_fd < 0 ? cache_dir : host);
        return NULL;
    }
    make_key(host_fd, uid, gid, key);
    (void)snprintf(name, sizeof name, "skeleton-%s", key);
    s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NOMEM, "skeleton");
        return NULL;
    }
    s->fd = -1;
    s->path = malloc(strlen(cache_dir) + sizeof name + 1);
    if (!s->path) {
        error_set(err, ERR_NOMEM, "skeleton path");
        return NULL;
    }
    (void)snprintf(s->path, strlen(cache_dir) + sizeof name + 1, "%s/%s", cache_dir, name);
    s->fd = find_or_make(cache_fd, host_fd, name, uid, gid, err);
    return s->fd < 0 ? NULL : STEAL(s);
}

void skeleton_free(struct skeleton *s)
{
    if (!s)
        return;
    fd_close(s->fd);
    free(s->path);
    free(s);
}

const char *skeleton_path(const struct skeleton *s)
{
    return s->path;
}
