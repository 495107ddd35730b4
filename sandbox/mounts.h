/*
 * mounts - the file system of a sandbox: what is visible, where writes go.
 *
 * One tmpfs (size = the disk limit) holds the writable layer, the upper one of an overlay.  Its
 * lowest is the host's or an image's /usr; above that lies the skeleton, a small read-only tree
 * made once, then the frozen layers of a checkpoint.  That overlay is /usr.  What else there is is
 * in its folder `.aios`, which is shown as / and, where it lies, covered: in the skeleton it has a
 * synthesised /etc, mount points, links like bin -> usr/bin.  (An overlay costs more than all other
 * mounts, above all when it goes, so there is one.)  Folders in which the agent may add things are
 * the agent's in the skeleton, also those of /usr.  /proc is private with kernel-wide files masked;
 * /dev holds null, zero, full, random, urandom and tty, a devpts of its own and shm; there is no
 * /sys.
 *
 * Before Linux 6.6 a tmpfs has no user attributes, and an overlay on it can neither rename nor
 * remove a folder that a lower layer has too.  There the agent's folders are not in the skeleton
 * but made in the writable layer, and the layers of a checkpoint are copied into it.
 *
 * Ownership: a plan's strings are the caller's and outlive its use.
 * Threads: mounts_open() and mounts_apply() in the child only, async-signal-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/base/error.h"

#define MOUNTS_DIRS_MAX    64
#define MOUNTS_LOWERS_MAX  8
#define MOUNTS_OPTIONS_MAX 512

#define MOUNTS_LAYER "layer" /* the writable layer's folder in its tmpfs */
#define MOUNTS_ROOT  ".aios" /* what is shown as /, below what is shown as /usr */

struct layer_copy;

struct mounts_dir {
    const char *path; /* on the host and inside; absolute, no link in it, not / */
    bool writable;
    int idmap_fd; /* detached, id-mapped mount made by mounts_idmap(); -1: bind the path itself */
};

struct mounts_plan {
    const char *stage; /* an existing folder of the host to mount on; private to the child */
    const char *lower[MOUNTS_LOWERS_MAX]; /* frozen layers, newest first */
    size_t lower_count;
    bool alone;               /* not mounts_opaque(): the writable layer has the agent's folders */
    struct layer_copy *saved; /* then: what to lay into it first, or NULL; its tree has no `to` */
    const char *usr;          /* what is shown as /usr: the host's, or an image's */
    uint64_t disk_bytes;
    uint64_t inodes;
    struct mounts_dir dirs[MOUNTS_DIRS_MAX];
    size_t dir_count;
};

/** Where in the child something went wrong, for the message. */
struct mounts_fault {
    const char *what; /* a constant: "mount the overlay" */
    int os_errno;
};

/** A plan with its folders opened by the child. */
struct mounts_ready {
    const struct mounts_plan *plan; /* borrowed */
    int trees[MOUNTS_DIRS_MAX];     /* detached mounts of the host folders */
    int stage_fd;
    char size[24], inodes[24];        /* of the tmpfs */
    char options[MOUNTS_OPTIONS_MAX]; /* of the overlay */
};

/** In the child, in fresh namespaces, while it still is the server's user on the host: open every
 *  folder, since the sandbox's user may have no right to pass through what is above them.
 *  @skeleton: see skeleton_path(). */
bool mounts_open(const struct mounts_plan *plan, const char *skeleton, struct mounts_ready *ret,
                 struct mounts_fault *ret_fault);

/** Then, as uid 1000 inside with all capabilities there.  Ends with the new root in place; the old
 *  one, on top of it, is to be let go of by umount2("/", MNT_DETACH), which may happen elsewhere in
 *  these namespaces meanwhile.  *ret_layer_fd is the tmpfs' root. */
bool mounts_apply(const struct mounts_ready *ready, int *ret_layer_fd, struct mounts_fault *ret);

/** For a server run by root: a detached mount of the folder @path in which files of the folder's
 *  owner belong to @host_uid and @host_gid, and the other way round.  The descriptor, or -1;
 *  ERR_UNSUPPORTED when its file system cannot do it.  Blocks for a fork. */
NODISCARD int mounts_idmap(const char *path, uint32_t host_uid, uint32_t host_gid,
                           struct error *err);

/** True where overlays on a tmpfs can hide folders of lower layers (Linux 6.6).  Any thread. */
bool mounts_opaque(void);

/** The agent's folders below /, parents first, for where they cannot be in the skeleton. */
#define MOUNTS_OWN_FOLDERS 11
extern const struct mounts_folder {
    const char *path;
    mode_t mode;
    bool below; /* in the skeleton all the same */
} mounts_own_folders[MOUNTS_OWN_FOLDERS];

/** True for those of them that the skeleton then lacks. */
bool mounts_own_folder(const char *path);

/** Make them in the folder @root_fd.  Async-signal-safe. */
bool mounts_make_own_folders(int root_fd);
