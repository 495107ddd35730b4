/*
 * mounts - the file system of a sandbox: what is visible, where writes go.
 *
 * One tmpfs (size = the disk limit) holds the writable layer: its folders `root` and `usr` are the
 * upper layers of two overlays, `root-work` and `usr-work` their work folders.  The overlay on /
 * has the skeleton (a small read-only tree made once: synthesised /etc, mount points, links like
 * bin -> usr/bin) as its lowest layer, the overlay on /usr the host's or an image's /usr.  Frozen
 * layers of a checkpoint lie between, newest first.  Folders in which the agent may add things are
 * the agent's in the skeleton, also those of /usr (its layer usr/).  /proc is private with
 * kernel-wide files masked; /dev holds null, zero, full, random, urandom and tty, a devpts of its
 * own and shm; there is no /sys.
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

/** Folders of the writable layer's tmpfs. */
#define MOUNTS_LAYER_ROOT "root"
#define MOUNTS_LAYER_USR  "usr"

struct layer_copy;

struct mounts_dir {
    const char *path; /* on the host and inside; absolute, no link in it, not / */
    bool writable;
    int idmap_fd; /* detached, id-mapped mount made by mounts_idmap(); -1: bind the path itself */
};

struct mounts_plan {
    const char *stage; /* an existing folder of the host to mount on; private to the child */
    const char *lower_root[MOUNTS_LOWERS_MAX]; /* frozen layers, newest first */
    const char *lower_usr[MOUNTS_LOWERS_MAX];
    size_t lower_count;
    bool alone;               /* not mounts_opaque(): the writable layer has the agent's folders */
    struct layer_copy *saved; /* then: what to lay into it first, or NULL; its trees have no `to` */
    const char *usr;          /* what is shown as /usr: the host's, or an image's */
    uint64_t disk_bytes;
    uint64_t inodes;
    struct mounts_dir dirs[MOUNTS_DIRS_MAX];
    size_t dir_count;
};

/** Where in the child something went wrong, for the message. */
struct mounts_fault {
    const char *what; /* a constant: "mount the overlay on /usr" */
    int os_errno;
};

/** A plan with its folders opened by the child. */
struct mounts_ready {
    const struct mounts_plan *plan; /* borrowed */
    int trees[MOUNTS_DIRS_MAX];     /* detached mounts of the host folders */
    int stage_fd;
    char size[24], inodes[24]; /* of the tmpfs */
    char root_options[MOUNTS_OPTIONS_MAX];
    char usr_options[MOUNTS_OPTIONS_MAX];
};

/** In the child, in fresh namespaces, while it still is the server's user on the host: open every
 *  folder, since the sandbox's user may have no right to pass through what is above them.
 *  @skeleton: the lowest layer of /. */
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
