/*
 * checkpoint - saved writable layers on disk: made, held by who builds on them, removed.
 *
 * state_dir/checkpoints/ID/ holds `layer` (see mounts.h) and `complete`, a text that names
 * its maker and the layers it lies on.  It is made under another name and renamed when whole.
 *
 * Whoever uses a layer (a live computer) holds a shared lock on its `complete`, which ends with the
 * process at the latest.  A checkpoint that is removed while others use it disappears from view at
 * once (a mark in .removed/) and from the disk with its last user.
 *
 * An id made by id_make(CHECKPOINT_TEMPORARY) is for a fork under way: it is swept when its server
 * is gone. Threads: any.  Blocking: saving copies data, as its struct wait allows.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"
#include "kernel/base/id.h"
#include "sandbox/layer.h"
#include "sandbox/mounts.h"

#define CHECKPOINT_TEMPORARY "tmp"

struct checkpoints; /* all of one state folder */

/** Layers in use, the newest first.  Zero-initialise. */
struct checkpoint_hold {
    size_t count;
    struct checkpoint_layer {
        struct id id;
        int lock_fd;
        char *path; /* absolute, for struct mounts_plan */
    } layers[MOUNTS_LOWERS_MAX];
};

/** What is to be saved, of a computer that stands still. */
struct checkpoint_source {
    int layer_fd; /* see struct launch_result */
    int userns_fd;
    int mntns_fd;
    const struct checkpoint_hold *hold; /* the layers it was started on */
    uint64_t max_bytes;
};

/** @state_dir exists.  @server: our name, for what is half made.  @uid, @gid: who may write layers;
 *  folders are given to them when we are root. */
NODISCARD struct checkpoints *checkpoints_new(const char *state_dir, const char *server, uid_t uid,
                                              gid_t gid, struct error *err);

/** Waits a second at most for deletions that are under way. */
void checkpoints_free(struct checkpoints *all);
DEFINE_CLEANUP(struct checkpoints, checkpoints_free)

/** Save as @id.  Nothing is left of a save that failed. */
NODISCARD bool checkpoint_save(struct checkpoints *all, const char *id,
                               const struct checkpoint_source *source, const struct wait *w,
                               struct error *err);

/** Take hold of @id and all it lies on.  ERR_NOT_FOUND. */
NODISCARD bool checkpoint_hold(struct checkpoints *all, const char *id, struct checkpoint_hold *ret,
                               struct error *err);

/** Let go, and delete what had waited for that.  Harmless on a zeroed one. */
void checkpoint_release(struct checkpoints *all, struct checkpoint_hold *hold);

/** All of @hold as one copy to be laid somewhere (see layer_copy_onto()), which reads from the open
 *  folders in @tree: give both back with checkpoint_close().  NULL with @err set. */
NODISCARD struct layer_copy *checkpoint_open(const struct checkpoint_hold *hold,
                                             struct layer_tree *tree, uint64_t max_bytes,
                                             struct error *err);
void checkpoint_close(struct layer_copy *copy, struct layer_tree *tree);

/** ERR_NOT_FOUND when there is none, or it was removed before. */
NODISCARD bool checkpoint_remove(struct checkpoints *all, const char *id, struct error *err);

/** Remove what servers that are not @alive left half made, half removed, or for a fork. */
void checkpoint_sweep(struct checkpoints *all, bool (*alive)(void *arg, const char *server),
                      void *arg);

/** Private, between checkpoint.c and checkpoint_keep.c: deletes trees while others go on.  It is
 *  counted, since at the end nobody waits for a large tree; the next sweep gets the rest. */
struct checkpoint_janitor;
struct checkpoint_janitor *checkpoint_janitor_new(int dir_fd);
void checkpoint_janitor_free(struct checkpoint_janitor *janitor);

struct checkpoints {
    struct checkpoint_janitor *janitor;
    atomic_uint deleted; /* numbers the names of what goes */
    int dir_fd;
    int removed_fd; /* .removed/ */
    char *path;
    char server[64];
    uid_t uid;
    gid_t gid;
};

/** The lower layers that @id's `complete` names; -1 when it cannot be read.  *ret_server may be
 *  NULL. */
int checkpoint_read(const struct checkpoints *all, const char *id,
                    struct id lowers[MOUNTS_LOWERS_MAX], char ret_server[64]);
