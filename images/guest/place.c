#include "images/guest/place.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/sys.h"

#define PARENT_MODE 0755

static const char *skip_slashes(const char *path)
{
    while (*path == '/')
        path++;
    return path;
}

/* What of an absolute @path lies below @root, or NULL. */
static const char *below(const char *root, const char *path)
{
    size_t len = strlen(root);

    while (len > 0 && root[len - 1] == '/')
        len--;
    if (strncmp(path, root, len) != 0 || (path[len] != '\0' && path[len] != '/'))
        return NULL;
    return skip_slashes(path + len);
}

int place_init(struct place *p, int base, const char *root, const char *path)
{
    bool whole = *skip_slashes(root) == '\0' && *root == '/';

    if (*root != '/')
        return EINVAL;
    if (!whole && *path == '/') {
        path = below(root, path);
        if (!path)
            return EXDEV;
    }
    if (*path == '\0')
        path = ".";
    if (strlen(path) >= sizeof p->path)
        return ENAMETOOLONG;
    memcpy(p->path, path, strlen(path) + 1);
    p->resolve = SYS_NO_MAGICLINKS | (whole ? SYS_IN_ROOT : SYS_BENEATH);
    p->dir = base;
    p->dir_is_ours = !whole;
    if (whole)
        return 0;
    p->dir = sys_openat2(base, root, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                         SYS_NO_MAGICLINKS | SYS_IN_ROOT);
    return p->dir < 0 ? errno : 0;
}

void place_fini(struct place *p)
{
    if (p->dir_is_ours && p->dir >= 0)
        close(p->dir);
    p->dir = -1;
}

int place_get(struct place *p, int base, struct wire_in *args)
{
    char root[WIRE_PATH_MAX], path[WIRE_PATH_MAX];

    if (!wire_get_str_into(args, root, sizeof root) || !wire_get_str_into(args, path, sizeof path))
        return EBADMSG;
    return place_init(p, base, root, path);
}

static int open_path(const struct place *p, const char *path, int flags, mode_t mode)
{
    uint64_t all = (uint64_t)(unsigned)flags | O_CLOEXEC;

    if (!(flags & O_PATH))
        all |= O_NOCTTY | O_NONBLOCK;
    return sys_openat2(p->dir, path, all, flags & O_CREAT ? mode : 0, p->resolve);
}

int place_open(const struct place *p, int flags, mode_t mode)
{
    return open_path(p, p->path, flags, mode);
}

int place_check_regular(mode_t mode)
{
    if (S_ISREG(mode))
        return 0;
    if (S_ISDIR(mode))
        return EISDIR;
    return S_ISLNK(mode) ? ELOOP : ENOTSUP;
}

int place_open_regular(const struct place *p, int flags, struct stat *ret_stat)
{
    /* Looked at before it is opened, since opening alone is too much for some devices; and again
     * after, since it may be another one by then. */
    int fd = place_open(p, O_PATH, 0);

    for (int look = 0; fd >= 0; look++) {
        int error = fstat(fd, ret_stat) != 0 ? errno : place_check_regular(ret_stat->st_mode);

        if (!error && look == 1)
            return fd;
        close(fd);
        if (error) {
            errno = error;
            return -1;
        }
        fd = place_open(p, flags, 0);
    }
    if (errno == ENXIO)
        errno = ENOTSUP;
    return -1;
}

int place_open_parent(const struct place *p, char name[PLACE_NAME_MAX])
{
    char parent[WIRE_PATH_MAX];
    size_t end = strlen(p->path);
    size_t start, len;

    while (end > 0 && p->path[end - 1] == '/')
        end--;
    start = end;
    while (start > 0 && p->path[start - 1] != '/')
        start--;
    len = end - start;
    if (len == 0 || (start == 0 && len == 1 && p->path[0] == '.')) {
        errno = EBUSY;
        return -1;
    }
    if (p->path[start] == '.' && (len == 1 || (len == 2 && p->path[start + 1] == '.'))) {
        errno = EINVAL;
        return -1;
    }
    if (len >= PLACE_NAME_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(name, p->path + start, len);
    name[len] = '\0';
    if (start == 0) {
        memcpy(parent, ".", 2);
    } else {
        memcpy(parent, p->path, start);
        parent[start] = '\0';
    }
    return open_path(p, parent, O_PATH | O_DIRECTORY, 0);
}

/* Makes the part path[start..end) in the folder path[0..start) when it is missing. */
static int make_part(const struct place *p, const char *path, size_t start, size_t end)
{
    char buf[WIRE_PATH_MAX];
    int fd, error = 0;

    memcpy(buf, path, end);
    buf[end] = '\0';
    fd = open_path(p, buf, O_PATH | O_DIRECTORY, 0);
    if (fd >= 0) {
        close(fd);
        return 0;
    }
    if (errno != ENOENT)
        return errno;
    buf[start] = '\0';
    fd = open_path(p, start > 0 ? buf : ".", O_PATH | O_DIRECTORY, 0);
    if (fd < 0)
        return errno;
    memcpy(buf, path + start, end - start);
    buf[end - start] = '\0';
    if (mkdirat(fd, buf, PARENT_MODE) != 0 && errno != EEXIST)
        error = errno;
    close(fd);
    return error;
}

int place_make_parents(const struct place *p)
{
    size_t at = 0;

    for (;;) {
        size_t start, end;
        int error;

        while (p->path[at] == '/')
            at++;
        start = at;
        while (p->path[at] && p->path[at] != '/')
            at++;
        end = at;
        if (*skip_slashes(p->path + end) == '\0')
            return 0; /* the last part is not a parent */
        error = make_part(p, p->path, start, end);
        if (error)
            return error;
    }
}

void place_of_fd(int fd, char buf[PLACE_PROC_PATH])
{
    static const char prefix[] = "/proc/self/fd/";
    char digits[12];
    size_t at = sizeof prefix - 1, n = 0;

    memcpy(buf, prefix, sizeof prefix);
    do {
        digits[n++] = (char)('0' + fd % 10);
        fd /= 10;
    } while (fd > 0);
    while (n > 0)
        buf[at++] = digits[--n];
    buf[at] = '\0';
}

void place_fill_stat(const struct stat *st, struct wire_stat *ret)
{
    int64_t ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;

    ret->mode = st->st_mode;
    ret->uid = st->st_uid;
    ret->gid = st->st_gid;
    ret->size = (uint64_t)st->st_size;
    ret->mtime_ns = ns > 0 ? (uint64_t)ns : 0;
}
