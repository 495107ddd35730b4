/*
 * skeleton - what lies between the host's /usr and what an agent writes: a small read-only tree
 * made once per host.
 *
 * It is a layer of /usr, with the folders in which the agent may add things.  Its folder
 * MOUNTS_ROOT becomes /: a synthesised /etc (users, names, certificates, the parts of the host's
 * that programs in /usr need, and of these only what everybody may read), links such as bin ->
 * usr/bin, and the folders that are mounted on.  It is named by a hash of what it was made from, so
 * that a changed host gets a new one; it is complete or absent, and never written again.
 *
 * Ownership: a skeleton in use is held by a shared lock; those nobody holds are removed when a new
 * one is made. Threads: any; one object by one at a time.  Blocking: making one takes some 20 ms.
 */
#pragma once

#include <sys/types.h>

#include "kernel/base/error.h"

struct skeleton;

/** Find or make it below @cache_dir, an existing folder.  @host is "/", or a test's idea of it.
 *  @uid, @gid: who the agent is on the host; the folders it may write in are its. */
NODISCARD struct skeleton *skeleton_new(const char *cache_dir, const char *host, uid_t uid,
                                        gid_t gid, struct error *err);

/** The one that was right most recently, without a look at the host: for who looks later, by
 *  skeleton_new() and a comparison of the paths.  NULL when there is none. */
struct skeleton *skeleton_recall(const char *cache_dir, const char *host, uid_t uid, gid_t gid);

/** Let go of it; the tree stays.  NULL is allowed. */
void skeleton_free(struct skeleton *s);
DEFINE_CLEANUP(struct skeleton, skeleton_free)

/** Its absolute path if @cache_dir was one; lives as long as @s. */
const char *skeleton_path(const struct skeleton *s);

/** Private: fill the empty folder @dirfd from the host whose root is @host_fd. */
NODISCARD bool skeleton_build(int dirfd, int host_fd, uid_t uid, gid_t gid, struct error *err);

/** Private: what is taken from the host, NULL-terminated, relative to its root. */
extern const char *const skeleton_sources[];
