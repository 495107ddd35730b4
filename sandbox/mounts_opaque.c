/* What an overlay can and cannot do on this kernel's tmpfs. */
#include "sandbox/mounts.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

const struct mounts_folder mounts_own_folders[MOUNTS_OWN_FOLDERS] = {
    { "home", 0755, false },     { "home/agent", 0755, false }, { "opt", 0755, false },
    { "run", 0755, false },      { "srv", 0755, false },        { "tmp", 01777, false },
    { "var", 0755, true },       { "var/cache", 0755, false },  { "var/log", 0755, false },
    { "var/tmp", 01777, false }, { "workspace", 0755, false },
};

/** A memory file lies on the same kind of file system. */
static bool probe(void)
{
    int fd = memfd_create("aios-probe", MFD_CLOEXEC);
    bool kept = true;

    if (fd < 0)
        return true;
    if (fsetxattr(fd, "user.overlay.opaque", "y", 1, 0) != 0)
        kept = errno != EOPNOTSUPP;
    close(fd);
    return kept;
}

bool mounts_opaque(void)
{
    static atomic_int known; /* 0: not yet looked at; else 1 + the answer */
    int answer = atomic_load(&known);

    if (!answer) {
        answer = 1 + probe();
        atomic_store(&known, answer);
    }
    return answer == 2;
}

bool mounts_own_folder(const char *path)
{
    for (size_t i = 0; i < MOUNTS_OWN_FOLDERS; i++)
        if (!strcmp(path, mounts_own_folders[i].path))
            return !mounts_own_folders[i].below;
    return false;
}

bool mounts_make_own_folders(int root_fd)
{
    for (size_t i = 0; i < MOUNTS_OWN_FOLDERS; i++) {
        const struct mounts_folder *folder = &mounts_own_folders[i];

        /* A sticky mode needs chmod: mkdir applies the umask. */
        if (mkdirat(root_fd, folder->path, folder->mode) != 0 ||
            fchmodat(root_fd, folder->path, folder->mode, 0) != 0)
            return false;
    }
    return true;
}
