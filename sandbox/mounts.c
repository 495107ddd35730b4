#include "sandbox/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/base/attr.h"
#include "sandbox/layer.h"

/* Files of /proc that speak of the whole machine.  Most are root's anyway; a mask is a mount, so
 * it holds in every spelling and for every kind of descriptor. */
static const char *const proc_masked_files[] = {
    "locks",      "kcore",      "keys",          "key-users", "kallsyms",
    "timer_list", "kmsg",       "sysrq-trigger", "modules",   "iomem",
    "ioports",    "interrupts", "config.gz",     "cmdline",   "sched_debug",
};
static const char *const proc_masked_dirs[] = { "acpi", "bus",      "driver", "fs",
                                                "irq",  "pressure", "scsi" };

static const struct {
    const char *host;
    const char *inside;
    unsigned minor;
    unsigned major;
} devices[] = {
    { "/dev/null", "new/dev/null", 3, 1 },       { "/dev/zero", "new/dev/zero", 5, 1 },
    { "/dev/full", "new/dev/full", 7, 1 },       { "/dev/random", "new/dev/random", 8, 1 },
    { "/dev/urandom", "new/dev/urandom", 9, 1 }, { "/dev/tty", "new/dev/tty", 0, 5 },
};

static bool fault(struct mounts_fault *ret, const char *what)
{
    ret->what = what;
    ret->os_errno = errno;
    return false;
}

/* ---- opening: no stdio, since that is no place for locks ---- */

struct text {
    char *data;
    size_t size;
    size_t len;
};

static void put(struct text *t, const char *word)
{
    while (*word && t->len + 1 < t->size)
        t->data[t->len++] = *word++;
    t->data[t->len] = '\0';
}

static void put_number(struct text *t, uint64_t n)
{
    char digits[24];
    size_t at = sizeof digits - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    put(t, digits + at);
}

/* A folder's name through this process's own descriptors; *ret_fd stays open until exec. */
static bool put_folder(struct text *t, const char *path, int *ret_fd)
{
    *ret_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*ret_fd < 0)
        return false;
    put(t, "/proc/self/fd/");
    put_number(t, (uint64_t)*ret_fd);
    return true;
}

static bool put_layers(struct text *t, const struct mounts_plan *plan, const char *skeleton,
                       struct mounts_fault *ret_fault)
{
    static const char failed[] = "open the layers of the file system";
    int fd;

    put(t, "lowerdir=");
    for (size_t i = 0; i < plan->lower_count; i++) {
        if (!put_folder(t, plan->lower[i], &fd))
            return fault(ret_fault, failed);
        put(t, ":");
    }
    if (!put_folder(t, skeleton, &fd))
        return fault(ret_fault, failed);
    put(t, ":");
    if (!put_folder(t, plan->usr, &fd))
        return fault(ret_fault, failed);
    if (faccessat(fd, MOUNTS_ROOT, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = EEXIST; /* it would be seen in / */
        return fault(ret_fault, "lay out / below /usr/" MOUNTS_ROOT "; give that another name");
    }
    return true;
}

/* A clone of the mounts at and below @path, detached, not yet visible. */
static int tree_of(const char *path)
{
    return open_tree(AT_FDCWD, path,
                     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | AT_RECURSIVE);
}

bool mounts_open(const struct mounts_plan *plan, const char *skeleton, struct mounts_ready *ret,
                 struct mounts_fault *ret_fault)
{
    struct text size = { .data = ret->size, .size = sizeof ret->size };
    struct text inodes = { .data = ret->inodes, .size = sizeof ret->inodes };
    struct text options = { .data = ret->options, .size = sizeof ret->options };

    ret->plan = plan;
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return fault(ret_fault, "separate the mounts from the host's");
    put_number(&size, plan->disk_bytes);
    put_number(&inodes, plan->inodes);
    ret->stage_fd = open(plan->stage, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (ret->stage_fd < 0)
        return fault(ret_fault, "open the server's run-time folder");
    if (!put_layers(&options, plan, skeleton, ret_fault))
        return false;
    put(&options, ",upperdir=" MOUNTS_LAYER ",workdir=work,userxattr");
    for (size_t i = 0; i < plan->dir_count; i++) {
        const struct mounts_dir *dir = &plan->dirs[i];

        ret->trees[i] = dir->idmap_fd >= 0 ? dir->idmap_fd : tree_of(dir->path);
        if (ret->trees[i] < 0)
            return fault(ret_fault, "open a folder of the host");
    }
    return true;
}

/* ---- applying: the current folder is the writable layer's tmpfs ---- */

/* The tmpfs, attached at the stage.  By descriptors, since the way there may be closed to this
 * user. */
static int mount_layer(const struct mounts_ready *ready)
{
    int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    int layer = -1;

    if (fs < 0)
        return -1;
    if (fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) == 0 &&
        fsconfig(fs, FSCONFIG_SET_STRING, "size", ready->size, 0) == 0 &&
        fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", ready->inodes, 0) == 0 &&
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        layer = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    close(fs);
    if (layer >= 0 && move_mount(layer, "", ready->stage_fd, "",
                                 MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        int saved = errno;

        close(layer);
        errno = saved;
        return -1;
    }
    return layer;
}

static bool apply_layer(const struct mounts_ready *ready, int *ret_layer_fd,
                        struct mounts_fault *ret)
{
    static const char *const tops[] = { MOUNTS_LAYER, "work", "overlay", "new", "empty", "shm" };
    int layer;

    layer = mount_layer(ready);
    if (layer < 0)
        return fault(ret, "mount the tmpfs of the writable layer");
    if (fchdir(layer) < 0)
        return fault(ret, "enter the writable layer");
    close(layer);
    for (size_t i = 0; i < ARRAY_LEN(tops); i++)
        if (mkdir(tops[i], 0755) < 0)
            return fault(ret, "make the folders of the writable layer");
    if (mkdir(MOUNTS_LAYER "/" MOUNTS_ROOT, 0755) < 0 || chmod("shm", 01777) < 0)
        return fault(ret, "make the folders of the writable layer");
    *ret_layer_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*ret_layer_fd < 0)
        return fault(ret, "open the writable layer");
    return true;
}

/* Before the overlay lies on them. */
static bool apply_own(const struct mounts_plan *plan, struct mounts_fault *ret)
{
    int layer = open(MOUNTS_LAYER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int root = open(MOUNTS_LAYER "/" MOUNTS_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok;

    if (layer < 0 || root < 0 || !mounts_make_own_folders(root))
        return fault(ret, "make the agent's folders");
    ok = !plan->saved || layer_copy_onto(plan->saved, layer) == 0;
    (void)umask(022); /* copying has changed it */
    if (!ok)
        errno = layer_copy_result(plan->saved)->os_errno;
    close(layer);
    close(root);
    return ok || fault(ret, "copy the saved files into the new computer");
}

static bool apply_overlay(const struct mounts_ready *ready, struct mounts_fault *ret)
{
    if (mount("overlay", "overlay", "overlay", MS_NOSUID | MS_NODEV, ready->options) < 0)
        return fault(ret, "mount the overlay");
    if (mount("overlay/" MOUNTS_ROOT, "new", NULL, MS_BIND, NULL) < 0)
        return fault(ret, "show the overlay as /");
    if (mount("overlay", "new/usr", NULL, MS_MOVE, NULL) < 0)
        return fault(ret, "show the overlay as /usr");
    return true;
}

/* Put the detached mount @tree (consumed) on @path. */
static bool attach(int tree, const char *path)
{
    int rc = move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
    int saved = errno;

    close(tree);
    errno = saved;
    return rc == 0;
}

/* A bind mount by name costs half of one by descriptor, and there are two dozen of these.  What is
 * shown is looked at once it is there, when nobody can exchange it any more. */
static bool bind_device(size_t i)
{
    struct stat st;

    if (mount(devices[i].host, devices[i].inside, NULL, MS_BIND, NULL) < 0 ||
        stat(devices[i].inside, &st) < 0)
        return false;
    if (S_ISCHR(st.st_mode) && major(st.st_rdev) == devices[i].major &&
        minor(st.st_rdev) == devices[i].minor)
        return true;
    errno = ENODEV;
    return false;
}

static bool apply_devices(struct mounts_fault *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(devices); i++)
        if (!bind_device(i))
            return fault(ret, "show a device (/dev/null and the like) that is what it should be");
    if (mount("devpts", "new/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,max=64,ptmxmode=0666,mode=0620") < 0)
        return fault(ret, "mount devpts");
    if (mount("shm", "new/dev/shm", NULL, MS_BIND, NULL) < 0)
        return fault(ret, "mount /dev/shm");
    return true;
}

/* Nobody but this process can see or change what is named. */
static bool cover(const char *with, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (mount(with, names[i], NULL, MS_BIND, NULL) < 0 && errno != ENOENT)
            return false;
    return true;
}

static bool apply_proc(struct mounts_fault *ret)
{
    const unsigned long read_only = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV;

    if (mount("proc", "new/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return fault(ret, "mount /proc");
    /* What is bound from a read-only mount is read-only too. */
    if (mount("empty", "empty", NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, "empty", NULL, read_only, NULL) < 0)
        return fault(ret, "make an empty folder read-only");
    if (mount("empty", "new/usr/" MOUNTS_ROOT, NULL, MS_BIND, NULL) < 0)
        return fault(ret, "cover where / lies");
    if (chdir("new/proc") < 0)
        return fault(ret, "enter /proc");
    if (!cover("../dev/null", proc_masked_files, ARRAY_LEN(proc_masked_files)))
        return fault(ret, "mask a file of /proc");
    if (!cover("../../empty", proc_masked_dirs, ARRAY_LEN(proc_masked_dirs)))
        return fault(ret, "mask a folder of /proc");
    if (mount("sys", "sys", NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, "sys", NULL, read_only | MS_NOEXEC, NULL) < 0)
        return fault(ret, "make /proc/sys read-only");
    if (chdir("../..") < 0)
        return fault(ret, "leave /proc");
    return true;
}

/* mkdir -p below new/, where @path is absolute. */
static bool make_point(const char *path)
{
    char buf[4096 + 8] = "new";
    size_t len = strlen(path);

    if (len + 4 > sizeof buf) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(buf + 3, path, len + 1);
    for (char *p = buf + 4; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(buf, 0755) < 0 && errno != EEXIST)
            return false;
        *p = '/';
    }
    return mkdir(buf, 0755) == 0 || errno == EEXIST;
}

static bool apply_dirs(const struct mounts_ready *ready, struct mounts_fault *ret)
{
    const struct mounts_plan *plan = ready->plan;

    for (size_t i = 0; i < plan->dir_count; i++) {
        const struct mounts_dir *dir = &plan->dirs[i];
        struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };
        char inside[4096 + 8] = "new";
        int tree = ready->trees[i];

        if (!dir->writable)
            attr.attr_set |= MOUNT_ATTR_RDONLY;
        if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) < 0)
            return fault(ret, "protect a folder of the host");
        if (!make_point(dir->path))
            return fault(ret, "make the mount point of a host folder");
        memcpy(inside + 3, dir->path, strlen(dir->path) + 1);
        if (!attach(tree, inside))
            return fault(ret, "mount a folder of the host");
    }
    return true;
}

static bool apply_pivot(struct mounts_fault *ret)
{
    if (chdir("new") < 0)
        return fault(ret, "enter the new root");
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return fault(ret, "pivot_root");
    if (chdir("/") < 0)
        return fault(ret, "enter /");
    return true;
}

bool mounts_apply(const struct mounts_ready *ready, int *ret_layer_fd, struct mounts_fault *ret)
{
    return apply_layer(ready, ret_layer_fd, ret) &&
           (!ready->plan->alone || apply_own(ready->plan, ret)) && apply_overlay(ready, ret) &&
           apply_devices(ret) && apply_proc(ret) && apply_dirs(ready, ret) && apply_pivot(ret);
}
