#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/base/attr.h"
#include "vmctl/cage.h"

/* A folder that every system has, to mount on: what is there does not matter, as nobody else sees
 * these mounts. */
#define STAGE "/tmp"

#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)

struct place {
    const char *from;
    bool folder;
};

static const struct place places[] = {
    { "/usr", true },          { "/bin", true },      { "/lib", true },
    { "/lib64", true },        { "/opt", true },      { "/dev/null", false },
    { "/dev/urandom", false }, { "/dev/kvm", false }, { "/etc/ld.so.cache", false },
};

/* In this folder, which becomes the root: "usr" for "/usr".  A link stays one. */
static bool take(const struct place *p)
{
    const char *to = p->from + 1;
    char target[256];
    struct stat st;
    ssize_t len;
    int fd;

    if (lstat(p->from, &st) != 0)
        return errno == ENOENT;
    if (S_ISLNK(st.st_mode)) {
        len = readlink(p->from, target, sizeof target - 1);
        if (len < 0)
            return false;
        target[len] = '\0';
        return symlink(target, to) == 0;
    }
    if (p->folder) {
        if (mkdir(to, 0755) != 0)
            return false;
    } else {
        fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
        if (fd < 0)
            return false;
        (void)close(fd);
    }
    return mount(p->from, to, NULL, MS_BIND | MS_REC, NULL) == 0;
}

static bool set_attr(const char *path, uint64_t attr, unsigned flags)
{
    struct mount_attr wanted = { .attr_set = attr };

    return syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &wanted, sizeof wanted) == 0;
}

/* Where a container hides parts of its own, no new one may be made: then that one has to do. */
static bool mount_proc(void)
{
    return mkdir("proc", 0555) == 0 &&
           (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid") == 0 ||
            mount("/proc", "proc", NULL, MS_BIND | MS_REC, NULL) == 0);
}

const char *cage_root(void)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return "keep its mounts to itself";
    if (mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=755") !=
            0 ||
        chdir(STAGE) != 0)
        return "mount a root of its own";
    if (mkdir("dev", 0755) != 0 || mkdir("etc", 0755) != 0)
        return "make folders in its root";
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (!take(&places[i]))
            return places[i].from;
    }
    if (!mount_proc())
        return "mount /proc";
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct stat st;

        if (places[i].folder && lstat(places[i].from + 1, &st) == 0 && S_ISDIR(st.st_mode) &&
            !set_attr(places[i].from + 1, READ_ONLY | MOUNT_ATTR_NODEV, AT_RECURSIVE))
            return "make programs read-only";
    }
    if (!set_attr(".", READ_ONLY, 0))
        return "make its root read-only";
    if (syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
        return "leave the host's root";
    return NULL;
}
