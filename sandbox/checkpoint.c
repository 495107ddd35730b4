#include "sandbox/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/buf.h"
#include "kernel/base/fd.h"
#include "sandbox/launch.h"
#include "sandbox/layer.h"

struct checkpoints *checkpoints_new(const char *state_dir, const char *server, uid_t uid, gid_t gid,
                                    struct error *err)
{
    CLEANUP(checkpoints_freep) struct checkpoints *all = calloc(1, sizeof *all);
    size_t size = strlen(state_dir) + sizeof "/checkpoints";

    if (!all) {
        error_set(err, ERR_NOMEM, "checkpoints");
        return NULL;
    }
    all->dir_fd = all->removed_fd = -1;
    all->uid = uid;
    all->gid = gid;
    (void)snprintf(all->server, sizeof all->server, "%s", server);
    all->path = malloc(size);
    if (!all->path) {
        error_set(err, ERR_NOMEM, "checkpoints");
        return NULL;
    }
    (void)snprintf(all->path, size, "%s/checkpoints", state_dir);
    if (mkdir(all->path, 0700) != 0 && errno != EEXIST) {
        error_set_errno(err, errno, "make %s", all->path);
        return NULL;
    }
    all->dir_fd = open(all->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (all->dir_fd < 0 || (mkdirat(all->dir_fd, ".removed", 0700) != 0 && errno != EEXIST)) {
        error_set_errno(err, errno, "open %s", all->path);
        return NULL;
    }
    all->removed_fd = openat(all->dir_fd, ".removed", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (all->removed_fd < 0) {
        error_set_errno(err, errno, "prepare %s", all->path);
        return NULL;
    }
    all->janitor = checkpoint_janitor_new(all->dir_fd);
    if (!all->janitor) {
        error_set(err, ERR_NOMEM, "checkpoints");
        return NULL;
    }
    return STEAL(all);
}

void checkpoints_free(struct checkpoints *all)
{
    if (!all)
        return;
    checkpoint_janitor_free(all->janitor);
    fd_close(all->removed_fd);
    fd_close(all->dir_fd);
    free(all->path);
    free(all);
}

/* ---- saving ---- */

/** A folder that the child of launch_inside() may fill. */
static int make_tree(const struct checkpoints *all, int dirfd, const char *name, struct error *err)
{
    CLEANUP(fd_closep) int fd = -1;

    if (mkdirat(dirfd, name, 0700) == 0)
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || (geteuid() == 0 && fchown(fd, all->uid, all->gid) != 0)) {
        error_set_errno(err, errno, "make %s", name);
        return -1;
    }
    return fd_steal(&fd);
}

static int open_tree(int dirfd, const char *name, struct error *err)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        error_set_errno(err, errno, "open layer %s", name);
    return fd;
}

/** Where the new checkpoint can lie on what the computer lies on, only the newest layer is copied;
 *  otherwise all of them become one. */
static bool open_trees(const struct checkpoint_source *source, bool flat,
                       struct layer_tree trees[LAYER_TREES], struct error *err)
{
    static const char *const names[LAYER_TREES] = { "root", "usr" };

    for (size_t t = 0; t < LAYER_TREES; t++) {
        struct layer_tree *tree = &trees[t];

        for (size_t i = flat ? source->hold->count : 0; i > 0; i--) {
            const struct checkpoint_layer *layer = &source->hold->layers[i - 1];
            int fd = open_tree(AT_FDCWD, t ? layer->usr : layer->root, err);

            if (fd < 0)
                return false;
            tree->from[tree->from_count++] = fd;
        }
        if (source->layer_fd < 0)
            continue;
        tree->from[tree->from_count] = open_tree(source->layer_fd, names[t], err);
        if (tree->from[tree->from_count] < 0)
            return false;
        tree->from_count++;
    }
    return true;
}

static void close_trees(struct layer_tree trees[LAYER_TREES])
{
    for (size_t t = 0; t < LAYER_TREES; t++) {
        for (size_t i = 0; i < trees[t].from_count; i++)
            fd_close(trees[t].from[i]);
        fd_close(trees[t].to);
    }
}

static bool copy_trees(const struct checkpoint_source *source,
                       const struct layer_tree trees[LAYER_TREES], const struct wait *w,
                       struct error *err)
{
    CLEANUP(layer_copy_freep)
    struct layer_copy *copy = layer_copy_new(trees, source->max_bytes, err);
    const struct layer_result *result;
    int code = -1;

    if (!copy ||
        !launch_inside(source->userns_fd, source->mntns_fd, layer_copy_run, copy, &code, w, err))
        return false;
    if (code == 0)
        return true;
    result = layer_copy_result(copy);
    if (result->os_errno == ENOSPC || result->os_errno == EDQUOT)
        return error_set(err, ERR_LIMIT, "no room on the host's disk for the checkpoint (%s: %s)",
                         result->what, strerror(result->os_errno));
    if (!result->os_errno)
        return error_set(err, ERR_INTERNAL, "copying the layer ended with code %d", code);
    return error_set_errno(err, result->os_errno, "copying the layer: %s", result->what);
}

static bool write_complete(const struct checkpoints *all, int dirfd,
                           const struct checkpoint_hold *hold, bool flat, struct error *err)
{
    CLEANUP(fd_closep)
    int fd = openat(dirfd, "complete", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    char text[128 + MOUNTS_LOWERS_MAX * (ID_SIZE + 8)];
    int n = snprintf(text, sizeof text, "checkpoint 1\nserver %s\n", all->server);

    for (size_t i = 0; !flat && i < hold->count; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "lower %s\n", hold->layers[i].id.text);
    if (fd < 0)
        return error_set_errno(err, errno, "make the completion mark");
    return fd_write_all(fd, text, (size_t)n, err);
}

static bool fill(struct checkpoints *all, int dirfd, const struct checkpoint_source *source,
                 const struct wait *w, struct error *err)
{
    bool flat = source->hold->count >= MOUNTS_LOWERS_MAX;
    struct layer_tree trees[LAYER_TREES] = { { .to = -1 }, { .to = -1 } };
    bool ok;

    trees[0].to = make_tree(all, dirfd, "root", err);
    trees[1].to = trees[0].to < 0 ? -1 : make_tree(all, dirfd, "usr", err);
    ok = trees[1].to >= 0 && open_trees(source, flat, trees, err) &&
         copy_trees(source, trees, w, err) && write_complete(all, dirfd, source->hold, flat, err);
    close_trees(trees);
    return ok;
}

static bool valid_id(const char *id)
{
    size_t len = strlen(id);

    return len > 0 && len < ID_SIZE &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == len;
}

bool checkpoint_save(struct checkpoints *all, const char *id,
                     const struct checkpoint_source *source, const struct wait *w,
                     struct error *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char fresh[16 + sizeof all->server + ID_SIZE];

    if (!valid_id(id))
        return error_set(err, ERR_INVALID, "\"%.64s\" is not a checkpoint id", id);
    if (faccessat(all->dir_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(err, ERR_EXISTS, "checkpoint %s is there already", id);
    (void)snprintf(fresh, sizeof fresh, ".new-%s-%s", all->server, id);
    if (mkdirat(all->dir_fd, fresh, 0700) != 0)
        return error_set_errno(err, errno, "make a checkpoint");
    fd = openat(all->dir_fd, fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        error_set_errno(err, errno, "make a checkpoint");
    } else if (fill(all, fd, source, w, err)) {
        if (renameat(all->dir_fd, fresh, all->dir_fd, id) == 0)
            return true;
        error_set_errno(err, errno, "name the checkpoint");
    }
    (void)!fd_remove_tree(all->dir_fd, fresh, NULL);
    return false;
}

/* ---- laying out ---- */

struct layer_copy *checkpoint_open(const struct checkpoint_hold *hold,
                                   struct layer_tree trees[LAYER_TREES], uint64_t max_bytes,
                                   struct error *err)
{
    const struct checkpoint_source source = { .layer_fd = -1, .hold = hold };
    struct layer_copy *copy = NULL;

    for (size_t t = 0; t < LAYER_TREES; t++)
        trees[t] = (struct layer_tree){ .to = -1 };
    if (open_trees(&source, true, trees, err))
        copy = layer_copy_new(trees, max_bytes, err);
    if (!copy)
        close_trees(trees);
    return copy;
}

void checkpoint_close(struct layer_copy *copy, struct layer_tree trees[LAYER_TREES])
{
    if (!copy)
        return;
    layer_copy_free(copy);
    close_trees(trees);
}
