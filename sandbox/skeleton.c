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

#define NAME_SIZE (sizeof "skeleton-" + KEY_LEN)

static void hash_begin(struct sha256 *h, uid_t uid, gid_t gid)
{
    sha256_init(h);
    sha256_add(h, FORMAT, sizeof FORMAT);
    sha256_add(h, &uid, sizeof uid);
    sha256_add(h, &gid, sizeof gid);
}

static void hash_end(struct sha256 *h, const char *kind, char name[NAME_SIZE])
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];

    sha256_end(h, digest);
    sha256_hex(digest, hex);
    (void)snprintf(name, NAME_SIZE, "%s-%.*s", kind, KEY_LEN, hex);
}

/** Names a tree by what it would be made from. */
static void name_tree(int host_fd, uid_t uid, gid_t gid, char name[NAME_SIZE])
{
    bool opaque = mounts_opaque();
    struct sha256 h;

    hash_begin(&h, uid, gid);
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
    hash_end(&h, "skeleton", name);
}

/** Names the link to the tree that @host had most recently. */
static void name_link(const char *host, uid_t uid, gid_t gid, char name[NAME_SIZE])
{
    struct sha256 h;

    hash_begin(&h, uid, gid);
    sha256_add(&h, host, strlen(host));
    hash_end(&h, "recent", name);
}

static bool follow_link(int cache_fd, const char *link, char name[NAME_SIZE])
{
    ssize_t n = readlinkat(cache_fd, link, name, NAME_SIZE);

    if (n != NAME_SIZE - 1)
        return false;
    name[n] = '\0';
    return strncmp(name, "skeleton-", 9) == 0 && !strchr(name, '/');
}

/** Best effort: without it, the next one that is in a hurry has to look first. */
static void set_link(int cache_fd, const char *link, const char *name)
{
    char old[NAME_SIZE];

    if (follow_link(cache_fd, link, old) && strcmp(old, name) == 0)
        return;
    (void)unlinkat(cache_fd, link, 0);
    (void)!symlinkat(name, cache_fd, link);
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

/** One that does not hold its tree yet. */
static struct skeleton *begin(const char *cache_dir, const char *name, struct error *err)
{
    struct skeleton *s = calloc(1, sizeof *s);

    if (!s || asprintf(&s->path, "%s/%s", cache_dir, name) < 0) {
        free(s);
        error_set(err, ERR_NOMEM, "skeleton");
        return NULL;
    }
    s->fd = -1;
    return s;
}

struct skeleton *skeleton_new(const char *cache_dir, const char *host, uid_t uid, gid_t gid,
                              struct error *err)
{
    CLEANUP(fd_closep) int cache_fd = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd_closep) int host_fd = open(host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(skeleton_freep) struct skeleton *s = NULL;
    char name[NAME_SIZE], link[NAME_SIZE];

    if (cache_fd < 0 || host_fd < 0) {
        error_set_errno(err, errno, "open %s", cache_fd < 0 ? cache_dir : host);
        return NULL;
    }
    name_tree(host_fd, uid, gid, name);
    s = begin(cache_dir, name, err);
    if (!s)
        return NULL;
    s->fd = find_or_make(cache_fd, host_fd, name, uid, gid, err);
    if (s->fd < 0)
        return NULL;
    name_link(host, uid, gid, link);
    set_link(cache_fd, link, name);
    return STEAL(s);
}

struct skeleton *skeleton_recall(const char *cache_dir, const char *host, uid_t uid, gid_t gid)
{
    CLEANUP(fd_closep) int cache_fd = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(skeleton_freep) struct skeleton *s = NULL;
    char name[NAME_SIZE], link[NAME_SIZE];

    name_link(host, uid, gid, link);
    if (cache_fd < 0 || !follow_link(cache_fd, link, name))
        return NULL;
    s = begin(cache_dir, name, NULL);
    if (!s)
        return NULL;
    s->fd = hold(cache_fd, name);
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
