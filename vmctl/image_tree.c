/* An image as a folder, for sandboxes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "vmctl/image.h"
#include "vmctl/image_program.h"

/* Devices are nobody's to make, and the caller's user owns all of it. */
static bool unpack(const char *archive, const char *into, int64_t deadline_ns, int lock,
                   struct error *err)
{
    const char *const argv[] = { "tar",         "--extract", "--file",          archive,
                                 "--directory", into,        "--no-same-owner", "--exclude=./dev",
                                 NULL };
    const struct image_program tar = { .argv = argv, .deadline_ns = deadline_ns, .hold_fd = lock };

    return image_program_need("tar", "tar", err) && image_program_run(&tar, err);
}

/* Under the lock.  A tree has its name once it is whole. */
static bool make_tree(const char *image, const char *tree, int64_t deadline_ns, int lock,
                      struct error *err)
{
    char *archive = NULL, *fresh = NULL;
    bool ok = false;

    if (asprintf(&archive, "%s/" IMAGE_ARCHIVE, image) < 0 ||
        asprintf(&fresh, "%s.unfinished", tree) < 0)
        error_set(err, ERR_NOMEM, "a path");
    else if (access(fresh, F_OK) == 0 && !fd_remove_tree(AT_FDCWD, fresh, err))
        error_prefix(err, "remove what an interrupted server left");
    else if (mkdir(fresh, 0755) != 0)
        error_set_errno(err, errno, "make %.300s", fresh);
    else
        ok = unpack(archive, fresh, deadline_ns, lock, err) &&
             (rename(fresh, tree) == 0 || error_set_errno(err, errno, "name %.300s", tree));
    if (!ok && fresh)
        (void)!fd_remove_tree(AT_FDCWD, fresh, NULL);
    free(archive);
    free(fresh);
    return ok;
}

char *image_tree(const char *dir, const char *which, int64_t deadline_ns, struct error *err)
{
    struct error why = ERROR_INIT;
    char *hash = image_find(dir, which, &why), *image = NULL, *tree = NULL;
    CLEANUP(fd_closep) int lock = -1;
    bool ok = false;

    if (!hash && why.code == ERR_NOT_FOUND) {
        error_set(err, ERR_NOT_FOUND,
                  "there is no image \"%.64s\"; the user has to run `aios image build %.64s` once",
                  which, which);
        return NULL;
    }
    if (!hash) {
        error_set(err, why.code, "%s", why.text);
        return NULL;
    }
    if (asprintf(&image, "%s/%s", dir, hash) < 0 || asprintf(&tree, "%s/" IMAGE_TREE, image) < 0) {
        error_set(err, ERR_NOMEM, "a path");
    } else if (access(tree, F_OK) == 0) {
        ok = true;
    } else {
        lock = image_lock(dir, deadline_ns, NULL, NULL, err);
        ok = lock >= 0 &&
             (access(tree, F_OK) == 0 || make_tree(image, tree, deadline_ns, lock, err));
    }
    free(hash);
    free(image);
    if (!ok) {
        free(tree);
        tree = NULL;
        error_prefix(err, "unpack the image");
    }
    return tree;
}
