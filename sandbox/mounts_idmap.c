/* Id-mapped mounts of host folders, for a server run by root. */
#include "sandbox/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/fd.h"

/* A user namespace in which @disk_id on disk is @host_id on the host: made in a child that waits
 * only to be looked at. */
static int map_namespace(uint32_t disk_uid, uint32_t disk_gid, uint32_t host_uid, uint32_t host_gid,
                         struct error *err)
{
    int pidfd = -1;
    char path[64];
    char line[64];
    int ns = -1;
    long pid = syscall(SYS_clone, CLONE_NEWUSER | CLONE_PIDFD | SIGCHLD, NULL, &pidfd, NULL, NULL);

    if (pid < 0) {
        error_set_errno(err, errno, "make a user namespace for an id-mapped mount");
        return -1;
    }
    if (pid == 0) {
        for (;;)
            pause();
    }
    snprintf(path, sizeof path, "/proc/%ld/gid_map", pid);
    snprintf(line, sizeof line, "%u %u 1\n", disk_gid, host_gid);
    if (fd_write_file(AT_FDCWD, path, line, err)) {
        snprintf(path, sizeof path, "/proc/%ld/uid_map", pid);
        snprintf(line, sizeof line, "%u %u 1\n", disk_uid, host_uid);
        if (fd_write_file(AT_FDCWD, path, line, err)) {
            snprintf(path, sizeof path, "/proc/%ld/ns/user", pid);
            ns = open(path, O_RDONLY | O_CLOEXEC);
            if (ns < 0)
                error_set_errno(err, errno, "open %s", path);
        }
    }
    (void)kill((pid_t)pid, SIGKILL);
    while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
        ;
    fd_close(pidfd);
    return ns;
}

int mounts_idmap(const char *path, uint32_t host_uid, uint32_t host_gid, struct error *err)
{
    CLEANUP(fd_closep)
    int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    CLEANUP(fd_closep) int ns = -1;
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP };
    struct stat st;

    if (tree < 0 || fstat(tree, &st) < 0) {
        error_set_errno(err, errno, "open the folder %s", path);
        return -1;
    }
    ns = map_namespace(st.st_uid, st.st_gid, host_uid, host_gid, err);
    if (ns < 0)
        return -1;
    attr.userns_fd = (uint64_t)ns;
    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0) {
        error_set(
            err, ERR_UNSUPPORTED,
            "the file system of %s cannot be mapped to another user (mount_setattr: errno %d)",
            path, errno);
        return -1;
    }
    return fd_steal(&tree);
}
