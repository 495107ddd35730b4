/*
 * box - one sandbox: made from all the parts, and what struct computer_ops wants of it.
 *
 * Private to sandbox.c and box.c, which share the back end.
 * Threads: any; calls on one box are serialised by kernel/computer.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/computer/computer.h"
#include "kernel/computer/pool.h"
#include "sandbox/cgroup.h"
#include "sandbox/checkpoint.h"
#include "sandbox/launch.h"
#include "sandbox/notify.h"
#include "sandbox/sandbox.h"
#include "sandbox/skeleton.h"
#include "sandbox/spec.h"
#include "sandbox/sweep.h"

#define BACKEND_ROOTS 16u

/* What is below the agent's files: the host's own system, or an image's. */
struct backend_root {
    char *path; /* "/" for the host's */
    struct skeleton *skeleton;
};

struct backend {
    struct computer_backend base; /* first: what callers hold */
    struct loop *loop;
    const void *guest_image;
    size_t guest_image_len;
    enum sandbox_cgroup_mode cgroup_mode;
    char *given_dirs[3]; /* state, runtime, cache: as configured */
    uint32_t host_uid, host_gid;
    sandbox_image_fn *image;
    void *image_arg;
    struct pool *pool; /* NULL without one */
    atomic_uint live;  /* sandboxes, those in the pool included */

    /* Made with the first sandbox, so that a server that is only asked for its tools starts fast.
     */
    pthread_mutex_t prepare_lock; /* guards the making of what follows, once */
    bool prepared;
    char *state_dir, *runtime_dir, *cache_dir;
    char *stage; /* an empty folder to mount on */
    struct spec_defaults defaults;
    struct launcher *launcher;
    /* From here on: only once a child is busy, where that is possible. */
    struct server_lock *lock;
    struct cgroup_host *groups;
    struct checkpoints *checkpoints;
    int guest_fd;
    struct notify *notify;
    struct backend_root roots[BACKEND_ROOTS];
    size_t root_count;
    bool swept;
};

/** The root file system's lowest layer, found or made, for the host's /usr or the image in the
 *  folder @root; NULL on failure. */
NODISCARD const char *backend_skeleton(struct backend *b, const char *root, struct error *err);

/** Make what only the groups and the checkpoints need: the server's place among others. */
NODISCARD bool backend_join(struct backend *b, struct error *err);

/** Make what a child needs only once it has mounted: the guest's memory file, the notifier. */
NODISCARD bool backend_complete(struct backend *b, struct error *err);

/** Clear away what servers that were killed have left behind, once. */
void backend_sweep(struct backend *b);

/** A running sandbox.  @spec is complete and checked, but for what computer_init() checks. */
NODISCARD struct computer *box_make(struct backend *b, const struct computer_spec *spec,
                                    const char *checkpoint, const struct computer_hooks *hooks,
                                    const struct wait *w, struct error *err);

/** Is its init still there, and the guest's stream? */
bool box_alive(struct computer *c);

/** Send SIGKILL to all of it; computer_destroy() waits. */
void box_kill(struct computer *c);
