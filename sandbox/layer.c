#include "sandbox/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "kernel/base/fd.h"

#define OPAQUE    "user.overlay.opaque"
#define KEPT_MODE 01777 /* no set-id bits: nothing in a sandbox obeys them */

struct dirent64 {
    uint64_t d_ino;
    int64_t d_off;
    uint16_t d_reclen;
    uint8_t d_type;
    char d_name[];
};

/** A file with several names whose copy is still open for the next of them. */
struct linked {
    uint64_t ino;
    uint64_t left; /* names not met yet; 0: free */
    int fd;
};

struct layer_copy {
    struct layer_tree tree;
    uint64_t max_bytes;
    struct layer_result *result; /* shared with the child */

    /* The child's own. */
    int64_t offsets[LAYER_DEPTH_MAX]; /* where the reading of each level goes on */
    char entries[4096];
    char names[4096];  /* of extended attributes */
    char value[65536]; /* of one of them, or the target of a link */
    struct linked linked[LAYER_LINKS];
    bool over; /* something may be there already: an older layer, or */
    bool onto; /* what the target had */
};

struct layer_copy *layer_copy_new(const struct layer_tree *tree, uint64_t max_bytes,
                                  struct error *err)
{
    struct layer_copy *copy = calloc(1, sizeof *copy);
    void *shared = MAP_FAILED;

    if (copy)
        shared = mmap(NULL, sizeof *copy->result, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        free(copy);
        error_set(err, ERR_NOMEM, "copy a layer");
        return NULL;
    }
    copy->tree = *tree;
    copy->max_bytes = max_bytes;
    copy->result = shared;
    return copy;
}

void layer_copy_free(struct layer_copy *copy)
{
    if (!copy)
        return;
    (void)munmap(copy->result, sizeof *copy->result);
    free(copy);
}

const struct layer_result *layer_copy_result(const struct layer_copy *copy)
{
    return copy->result;
}

/* ---- everything below runs in the child: no allocation, no library state ---- */

static bool fail(struct layer_copy *c, const char *what)
{
    size_t len = strnlen(what, sizeof c->result->what - 1);

    if (!c->result->os_errno) {
        c->result->os_errno = errno ? errno : EIO;
        memcpy(c->result->what, what, len);
    }
    return false;
}

static bool is_dot(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static int open_dir(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/** Replace *fd by a folder next to it. */
static bool move_to(int *fd, const char *name)
{
    int next = open_dir(*fd, name);

    if (next < 0)
        return false;
    close(*fd);
    *fd = next;
    return true;
}

/** Remove all that is in the folder @dirfd, however deep. */
static bool empty(struct layer_copy *c, int dirfd)
{
    char buf[1024];
    unsigned depth = 0;
    int fd = open_dir(dirfd, ".");

    while (fd >= 0) {
        bool descended = false, any = false;
        long n;

        if (lseek(fd, 0, SEEK_SET) < 0)
            break;
        n = syscall(SYS_getdents64, fd, buf, sizeof buf);
        if (n < 0)
            break;
        for (long at = 0; at < n && !descended;) {
            const struct dirent64 *e = (const void *)(buf + at);

            at += e->d_reclen;
            if (is_dot(e->d_name))
                continue;
            any = true;
            if (unlinkat(fd, e->d_name, 0) == 0 || unlinkat(fd, e->d_name, AT_REMOVEDIR) == 0)
                continue;
            if (errno != ENOTEMPTY || !move_to(&fd, e->d_name))
                goto failed;
            depth++;
            descended = true;
        }
        if (descended || any)
            continue;
        if (!depth) {
            close(fd);
            return true;
        }
        if (!move_to(&fd, ".."))
            break;
        depth--;
    }
failed:
    fail(c, "make room for a newer layer");
    if (fd >= 0)
        close(fd);
    return false;
}

/** What an older layer has put at this name goes. */
static bool remove_name(struct layer_copy *c, int to, const char *name)
{
    int fd;
    bool ok;

    if (unlinkat(to, name, 0) == 0 || errno == ENOENT)
        return true;
    fd = open_dir(to, name);
    if (fd < 0)
        return fail(c, "make room for a newer layer");
    ok = empty(c, fd);
    close(fd);
    if (ok && unlinkat(to, name, AT_REMOVEDIR) != 0)
        return fail(c, "make room for a newer layer");
    return ok;
}

/** Attributes of a file itself are a courtesy; those of the overlay decide what is visible. */
static bool copy_xattrs(struct layer_copy *c, int from, int to)
{
    static const char overlay[] = "user.overlay.";
    ssize_t len = flistxattr(from, c->names, sizeof c->names);

    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(c->names + at) + 1) {
        const char *name = c->names + at;
        bool matters = !strncmp(name, overlay, sizeof overlay - 1);
        ssize_t n;

        /* These describe the layer below at the time, and confuse as part of a lower layer. */
        if (!strcmp(name, "user.overlay.origin") || !strcmp(name, "user.overlay.impure") ||
            !strcmp(name, "user.overlay.nlink") || strncmp(name, "user.", 5) != 0)
            continue;
        n = fgetxattr(from, name, c->value, sizeof c->value);
        if (n >= 0 && fsetxattr(to, name, c->value, (size_t)n, 0) == 0)
            continue;
        /* On a tmpfs without them, a folder shows again what it had hidden. */
        if (matters && !(c->onto && errno == EOPNOTSUPP))
            return fail(c, "keep an overlay attribute (does the file system of the state folder "
                           "have them?)");
    }
    return true;
}

/** Files are made with their mode. */
static bool finish(struct layer_copy *c, int from, int to, bool is_dir)
{
    struct timespec times[2];
    struct stat st;

    if (fstat(from, &st) != 0 || (is_dir && fchmod(to, st.st_mode & KEPT_MODE) != 0))
        return fail(c, "set a mode");
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    if (futimens(to, times) != 0)
        return fail(c, "set a time");
    return true;
}

static bool copy_range(struct layer_copy *c, int from, int to, off_t start, off_t end)
{
    if (lseek(to, start, SEEK_SET) < 0)
        return fail(c, "copy a file");
    while (start < end) {
        ssize_t n = sendfile(to, from, &start, (size_t)MIN(end - start, (off_t)1 << 24));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(c, "copy a file");
        if (n == 0)
            break;
        c->result->bytes += (uint64_t)n;
        if (c->result->bytes > c->max_bytes) {
            errno = EDQUOT;
            return fail(c, "copy more than the disk limit");
        }
    }
    return true;
}

static bool copy_data(struct layer_copy *c, int from, int to, off_t size)
{
    off_t at = 0;

    if (size && ftruncate(to, size) != 0)
        return fail(c, "copy a file");
    while (at < size) {
        off_t data = lseek(from, at, SEEK_DATA);
        off_t hole;

        if (data < 0)
            return errno == ENXIO || fail(c, "copy a file"); /* a hole until the end */
        hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0 || !copy_range(c, from, to, data, hole))
            return fail(c, "copy a file");
        at = hole;
    }
    return true;
}

/** A second name for something copied before; false when that is not possible. */
static bool link_again(struct layer_copy *c, const struct stat *st, int to, const char *name)
{
    for (size_t i = 0; i < LAYER_LINKS; i++) {
        struct linked *l = &c->linked[i];

        if (!l->left || l->ino != st->st_ino)
            continue;
        if (linkat(l->fd, "", to, name, AT_EMPTY_PATH) != 0)
            return false;
        if (!--l->left)
            close(l->fd);
        return true;
    }
    return false;
}

/** Keeps @fd for link_again(); false when it has not been taken. */
static bool remember(struct layer_copy *c, const struct stat *st, int fd)
{
    for (size_t i = 0; i < LAYER_LINKS; i++) {
        struct linked *l = &c->linked[i];

        if (l->left)
            continue;
        l->ino = st->st_ino;
        l->left = st->st_nlink - 1;
        l->fd = fd;
        return true;
    }
    return false;
}

static void forget_links(struct layer_copy *c)
{
    for (size_t i = 0; i < LAYER_LINKS; i++) {
        if (c->linked[i].left)
            close(c->linked[i].fd);
        c->linked[i].left = 0;
    }
}

static bool copy_regular(struct layer_copy *c, int from, const char *name, int to,
                         const struct stat *st)
{
    int source, target;
    bool ok;

    if (st->st_nlink > 1 && link_again(c, st, to, name))
        return true;
    source = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (source < 0)
        return fail(c, "open a file");
    target = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    st->st_mode & KEPT_MODE);
    if (target < 0) {
        close(source);
        return fail(c, "make a file");
    }
    ok = copy_data(c, source, target, st->st_size) && copy_xattrs(c, source, target) &&
         finish(c, source, target, false);
    close(source);
    if (!ok || st->st_nlink < 2 || !remember(c, st, target))
        close(target);
    return ok;
}

static bool copy_symlink(struct layer_copy *c, int from, const char *name, int to,
                         const struct stat *st)
{
    const struct timespec times[2] = { st->st_atim, st->st_mtim };
    ssize_t n = readlinkat(from, name, c->value, sizeof c->value - 1);

    if (n < 0)
        return fail(c, "read a symbolic link");
    c->value[n] = '\0';
    if (symlinkat(c->value, to, name) != 0)
        return fail(c, "make a symbolic link");
    (void)utimensat(to, name, times, AT_SYMLINK_NOFOLLOW);
    return true;
}

static bool copy_plain(struct layer_copy *c, int from, const char *name, int to,
                       const struct stat *st)
{
    bool wanted =
        S_ISREG(st->st_mode) || S_ISLNK(st->st_mode) || S_ISFIFO(st->st_mode) || is_whiteout(st);

    if (!wanted)
        return true;
    if (c->over && !remove_name(c, to, name))
        return false;
    if (S_ISREG(st->st_mode))
        return copy_regular(c, from, name, to, st);
    if (S_ISLNK(st->st_mode))
        return copy_symlink(c, from, name, to, st);
    if (mknodat(to, name, is_whiteout(st) ? S_IFCHR : (S_IFIFO | (st->st_mode & 0777)),
                makedev(0, 0)) != 0)
        return fail(c, is_whiteout(st) ? "make a whiteout" : "make a FIFO");
    return true;
}

static bool is_opaque(int fd)
{
    char value[2];

    return fgetxattr(fd, OPAQUE, value, sizeof value) == 1 && value[0] == 'y';
}

/** Make the folder @name ready in *@to and step into it on both sides. */
static bool enter_folder(struct layer_copy *c, int *from, const char *name, int *to)
{
    bool hides = false;

    if (mkdirat(*to, name, 0700) != 0) {
        struct stat st;

        if (errno != EEXIST || !c->over || fstatat(*to, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            return fail(c, "make a folder");
        if (!S_ISDIR(st.st_mode)) {
            /* What hid everything below goes on hiding it. */
            hides = true;
            if (!remove_name(c, *to, name) || mkdirat(*to, name, 0700) != 0)
                return fail(c, "make a folder");
        }
    }
    if (!move_to(from, name) || !move_to(to, name))
        return fail(c, "open a folder");
    if (c->over && is_opaque(*from) && !empty(c, *to))
        return false;
    if (hides && fsetxattr(*to, OPAQUE, "y", 1, 0) != 0 && !(c->onto && errno == EOPNOTSUPP))
        return fail(c, "make a folder opaque");
    return true;
}

/** One folder's entries from where reading stopped.  1: done, 0: gone into a subfolder, -1: failed.
 */
static int copy_entries(struct layer_copy *c, int *from, int *to, unsigned depth)
{
    if (lseek(*from, c->offsets[depth], SEEK_SET) < 0) {
        fail(c, "read a folder");
        return -1;
    }
    for (;;) {
        long n = syscall(SYS_getdents64, *from, c->entries, sizeof c->entries);

        if (n <= 0)
            return n == 0 ? 1 : (fail(c, "read a folder"), -1);
        for (long at = 0; at < n;) {
            const struct dirent64 *e = (const void *)(c->entries + at);
            struct stat st;

            at += e->d_reclen;
            if (is_dot(e->d_name))
                continue;
            c->result->entries++;
            if (fstatat(*from, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
                fail(c, "look at a file");
                return -1;
            }
            if (S_ISDIR(st.st_mode)) {
                c->offsets[depth] = e->d_off;
                return enter_folder(c, from, e->d_name, to) ? 0 : -1;
            }
            if (!copy_plain(c, *from, e->d_name, *to, &st))
                return -1;
        }
    }
}

/** Two descriptors in all: the way back up is "..", and nobody moves folders meanwhile. */
static bool copy_tree(struct layer_copy *c, int source, int target)
{
    int from = open_dir(source, ".");
    int to = open_dir(target, ".");
    unsigned depth = 0;
    bool ok = from >= 0 && to >= 0;

    if (!ok)
        fail(c, "open a layer");
    c->offsets[0] = 0;
    while (ok) {
        int step = copy_entries(c, &from, &to, depth);

        if (step == 0) {
            if (++depth == LAYER_DEPTH_MAX) {
                errno = ELOOP;
                ok = fail(c, "copy folders nested so deep");
            } else {
                c->offsets[depth] = 0;
            }
            continue;
        }
        ok = step > 0 && copy_xattrs(c, from, to) && finish(c, from, to, true);
        if (!ok || depth == 0)
            break;
        depth--;
        ok = (move_to(&from, "..") && move_to(&to, "..")) || fail(c, "go back up");
    }
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return ok;
}

int layer_copy_run(void *arg)
{
    struct layer_copy *c = arg;

    (void)umask(0);
    for (size_t i = 0; i < c->tree.from_count; i++) {
        bool ok;

        c->over = c->onto || i > 0;
        ok = copy_tree(c, c->tree.from[i], c->tree.to);
        forget_links(c);
        if (!ok)
            return 1;
    }
    return 0;
}

int layer_copy_onto(struct layer_copy *copy, int to)
{
    copy->tree.to = to;
    copy->onto = true;
    return layer_copy_run(copy);
}
