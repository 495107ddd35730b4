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

static int open_layer(int dirfd, const char *name, struct error *err)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        error_set_errno(err, errno, "open layer %s", name);
    return fd;
}

/** Where the new checkpoint can lie on what the computer lies on, only the newest layer is copied;
 *  otherwise all of them become one. */
static bool open_tree(const struct checkpoint_source *source, bool flat, struct layer_tree *tree,
                      struct error *err)
{
    for (size_t i = flat ? source->hold->count : 0; i > 0; i--) {
        int fd = open_layer(AT_FDCWD, source->hold->layers[i - 1].path, err);

        if (fd < 0)
            return false;
        tree->from[tree->from_count++] = fd;
    }
    if (source->layer_fd < 0)
        return true;
    tree->from[tree->from_count] = open_layer(source->layer_fd, MOUNTS_LAYER, err);
    return tree->from[tree->from_count] >= 0 && ++tree->from_count;
}

static void close_tree(struct layer_tree *tree)
{
    for (size_t i = 0; i < tree->from_count; i++)
        fd_close(tree->from[i]);
    fd_close(tree->to);
}

static bool copy_tree(const struct checkpoint_source *source, const struct layer_tree *tree,
                      const struct wait *w, struct error *err)
{
    CLEANUP(layer_copy_freep)
    struct layer_copy *copy = layer_copy_new(tree, source->max_bytes, err);
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
    int n = snprintf(text, sizeof text, "checkpoint 2\nserver %s\n", all->server);

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
    struct layer_tree tree = { .to = make_tree(all, dirfd, MOUNTS_LAYER, err) };
    bool ok = tree.to >= 0 && open_tree(source, flat, &tree, err) &&
              copy_tree(source, &tree, w, err) &&
              write_complete(all, dirfd, source->hold, flat, err);

    close_tree(&tree);
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

struct layer_copy *checkpoint_open(const struct checkpoint_hold *hold, struct layer_tree *tree,
                                   uint64_t max_bytes, struct error *err)
{
    const struct checkpoint_source source = { .layer_fd = -1, .hold = hold };
    struct layer_copy *copy = NULL;

    *tree = (struct layer_tree){ .to = -1 };
    if (open_tree(&source, true, tree, err))
        copy = layer_copy_new(tree, max_bytes, err);
    if (!copy)
        close_tree(tree);
    return copy;
}

void checkpoint_close(struct layer_copy *copy, struct layer_tree *tree)
{
    if (!copy)
        return;
    layer_copy_free(copy);
    close_tree(tree);
}
