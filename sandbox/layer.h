/*
 * layer - copying the writable layer of an overlay, whiteouts and all, by a child that may do
 * little.
 *
 * Whiteouts (character devices 0:0), opaque folders (user.overlay.*), holes, hard links, modes and
 * times are kept; sockets, devices and set-id bits are not.  Several layers can be laid over one
 * another, which makes one layer that means the same.
 *
 * Threads: layer_copy_run() is async-signal-safe: for the child of launch_inside(), which has all
 *   capabilities over files of the sandbox's user.  Trees may be as deep as LAYER_DEPTH_MAX.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernel/base/error.h"
#include "sandbox/mounts.h"

#define LAYER_DEPTH_MAX 8192
#define LAYER_LINKS     128

/** What the child has to say; shared memory. */
struct layer_result {
    int os_errno;
    char what[64];
    uint64_t bytes;
    uint64_t entries;
};

struct layer_tree {
    int from[MOUNTS_LOWERS_MAX + 1]; /* folders, the oldest first */
    size_t from_count;
    int to; /* an empty folder */
};

struct layer_copy; /* all the memory that the child needs */

/** @max_bytes: more data than that is refused (EDQUOT): links that cannot be kept must not blow a
 *  small layer up. */
NODISCARD struct layer_copy *layer_copy_new(const struct layer_tree *tree, uint64_t max_bytes,
                                            struct error *err);
void layer_copy_free(struct layer_copy *copy);
DEFINE_CLEANUP(struct layer_copy, layer_copy_free)

/** @copy: a struct layer_copy.  0, or 1 with the reason in the result. */
int layer_copy_run(void *copy);

/** The same, over what is in the folder @to already instead of the tree's own. */
int layer_copy_onto(struct layer_copy *copy, int to);

const struct layer_result *layer_copy_result(const struct layer_copy *copy);
