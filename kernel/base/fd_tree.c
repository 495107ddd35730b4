#include "kernel/base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/base/attr.h"
#include "kernel/base/id.h"

/*
 * The tree comes from programs we do not trust, so it may be as deep as the file system allows.
 * Levels are walked with one open folder each, up to TREE_LEVELS; a folder found below that is
 * moved up to the top, where the next pass meets it.  Descriptors and memory stay bounded, and
 * no path is ever composed.
 */
#define TREE_LEVELS 24
#define TREE_PASSES 16 /* over one folder that somebody keeps filling */

struct level {
    DIR *dir;
    unsigned passes;
    char name[NAME_MAX + 1]; /* in the level above */
};

struct tree {
    struct level levels[TREE_LEVELS];
    size_t depth; /* levels in use */
    dev_t dev;
    char prefix[ID_SIZE]; /* of the names that folders get when they are moved up */
    unsigned long moved;  /* folders moved up so far */
    unsigned long seen;   /* of these, before the current pass over the top */
    struct error *err;    /* the first failure; the rest is removed all the same */
    bool failed;
};

static void note_failure(struct tree *t, int os_errno, const char *what, const char *name)
{
    if (!t->failed)
        error_set_errno(t->err, os_errno, "%s \"%s\"", what, name);
    t->failed = true;
}

static int open_folder(int dirfd, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    long fd = syscall(SYS_openat2, dirfd, name, &how, sizeof how);

    /* Without openat2 the comparison of devices still stops at most mounts. */
    if (fd < 0 && errno == ENOSYS)
        return openat(dirfd, name, (int)how.flags);
    return (int)fd;
}

/* A folder without permission bits yields to its owner; /proc is the way not to follow a link. */
static bool make_accessible(int dirfd, const char *name)
{
    CLEANUP(fd_closep) int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    char path[64];

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
        return false;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return chmod(path, 0700) == 0;
}

static bool push(struct tree *t, int dirfd, const char *name)
{
    struct level *level = &t->levels[t->depth];
    CLEANUP(fd_closep) int fd = open_folder(dirfd, name);
    struct stat st;

    if (fd < 0 && errno == EACCES && make_accessible(dirfd, name))
        fd = open_folder(dirfd, name);
    if (fd < 0 || fstat(fd, &st) < 0) {
        note_failure(t, errno, errno == EXDEV ? "not removing the mount" : "open", name);
        return false;
    }
    if (t->depth && st.st_dev != t->dev) {
        note_failure(t, EXDEV, "not removing the mount", name);
        return false;
    }
    t->dev = st.st_dev;
    /* Entries can only be removed from a folder that may be written to and searched. */
    if ((st.st_mode & 0700) != 0700)
        (void)fchmod(fd, 0700);
    level->dir = fdopendir(fd);
    if (!level->dir) {
        note_failure(t, errno, "read", name);
        return false;
    }
    (void)fd_steal(&fd);
    level->passes = 0;
    (void)snprintf(level->name, sizeof level->name, "%s", name);
    t->depth++;
    return true;
}

static void move_up(struct tree *t, int from, const char *name)
{
    int top = dirfd(t->levels[0].dir);
    char to[ID_SIZE + 24];

    (void)snprintf(to, sizeof to, "%s-%lu", t->prefix, t->moved);
    /* Moving a folder rewrites its "..", which takes the permission to write to it. */
    if (renameat(from, name, top, to) < 0 &&
        (errno != EACCES || !make_accessible(from, name) || renameat(from, name, top, to) < 0)) {
        note_failure(t, errno, "move", name);
        return;
    }
    t->moved++;
}

static void remove_entry(struct tree *t, const struct dirent *entry)
{
    int at = dirfd(t->levels[t->depth - 1].dir);

    if (entry->d_type != DT_DIR) {
        if (unlinkat(at, entry->d_name, 0) == 0 || errno == ENOENT)
            return;
        if (errno != EISDIR) {
            note_failure(t, errno, "remove", entry->d_name);
            return;
        }
    }
    if (unlinkat(at, entry->d_name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return;
    if (t->depth == TREE_LEVELS)
        move_up(t, at, entry->d_name);
    else
        (void)push(t, at, entry->d_name);
}

/* The folder at hand has been read to its end. */
static void finish_level(struct tree *t, int top_dirfd)
{
    struct level *level = &t->levels[t->depth - 1];
    int above = t->depth == 1 ? top_dirfd : dirfd(t->levels[t->depth - 2].dir);

    if (t->depth == 1 && t->moved > t->seen) {
        t->seen = t->moved;
        rewinddir(level->dir);
        return;
    }
    if (unlinkat(above, level->name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        if (errno == ENOTEMPTY && !t->failed && ++level->passes < TREE_PASSES) {
            rewinddir(level->dir);
            return;
        }
        note_failure(t, errno, "remove", level->name);
    }
    (void)closedir(level->dir);
    t->depth--;
}

static bool remove_below(int dirfd, const char *name, struct error *err)
{
    struct tree t = { .err = err };
    struct id unique;

    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR)
        return error_set_errno(err, errno, "remove \"%s\"", name);
    unique = id_make("gone");
    memcpy(t.prefix, unique.text, sizeof t.prefix);
    if (!push(&t, dirfd, name))
        return false;
    while (t.depth) {
        struct dirent *entry;

        errno = 0;
        entry = readdir(t.levels[t.depth - 1].dir);
        if (!entry && errno)
            note_failure(&t, errno, "read", t.levels[t.depth - 1].name);
        if (!entry)
            finish_level(&t, dirfd);
        else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_entry(&t, entry);
    }
    return !t.failed;
}

bool fd_remove_tree(int dirfd, const char *name, struct error *err)
{
    CLEANUP(fd_closep) int parent = -1;
    const char *slash = strrchr(name, '/');
    const char *last = slash ? slash + 1 : name;
    char path[PATH_MAX];

    if (!*last || !strcmp(last, ".") || !strcmp(last, "..") || strlen(last) > NAME_MAX ||
        (size_t)(last - name) >= sizeof path)
        return error_set(err, ERR_INVALID, "\"%.200s\" is not the name of a tree to remove", name);
    if (!slash)
        return remove_below(dirfd, name, err);
    memcpy(path, name, (size_t)(last - name));
    path[last - name] = '\0';
    parent = openat(dirfd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return errno == ENOENT || error_set_errno(err, errno, "open %s", path);
    return remove_below(parent, last, err);
}
