/*
 * sandbox - a computer made of Linux namespaces, seccomp, Landlock and cgroups.
 *
 * Each computer is one process tree whose PID 1 is the guest, started from a sealed memory file by
 * the launcher thread.  A sandbox that cannot be set up whole is refused with ERR_UNSUPPORTED and
 * the name of what is missing; it never starts weaker than asked.
 *
 * Ownership: the back end owns its pool, launcher thread, notifier thread and caches.
 * Threads: any.  Blocking: create, checkpoint and the like, bounded by their struct wait.
 */
#pragma once

#include "kernel/computer/computer.h"

enum sandbox_cgroup_mode {
    SANDBOX_CGROUP_AUTO, /* v2 where delegated, else v1, else none */
    SANDBOX_CGROUP_V1,
    SANDBOX_CGROUP_V2,
    SANDBOX_CGROUP_NONE, /* resource limits and watching only */
};

/** Where the root file system of the image @name lies (its /usr, and what programs need of its
 *  /etc): an absolute path for free().  NULL with what to do. */
typedef char *sandbox_image_fn(void *arg, const char *name, struct error *err);

struct sandbox_config {
    struct loop *loop;
    sandbox_image_fn *image; /* NULL: there are no images, the host's /usr serves */
    void *image_arg;
    const char *state_dir;   /* checkpoints; made when missing, mode 0700 */
    const char *runtime_dir; /* stage mount point, server lock, cgroup notes; likewise */
    const char *cache_dir;   /* the skeleton root file system; likewise */
    const void *guest_image; /* the static guest program; borrowed */
    size_t guest_image_len;
    enum sandbox_cgroup_mode cgroup;
    uint32_t host_uid;  /* what the agent is on the host when the server is root; 0: 1879048192 */
    uint32_t pool_size; /* prepared sandboxes with the default limits; 0: no pool */
    uint64_t default_memory_bytes; /* 0: 1 GiB */
    uint64_t default_disk_bytes;   /* 0: 512 MiB */
    uint32_t default_cpu_milli;    /* 0: every CPU */
    uint32_t default_pids;         /* 0: 512 */
};

/** Cheap: folders, threads and the rest come with the first create or warm, which also sweeps what
 *  servers that were killed have left behind (cgroups, half-made checkpoints). */
NODISCARD struct computer_backend *sandbox_backend_new(const struct sandbox_config *config,
                                                       struct error *err);

/** The control groups of this server, for others that start programs; the first that asks waits
 *  while those of servers that were killed are swept.  *ret is good until @b is freed. */
struct cgroup_host;
NODISCARD bool sandbox_groups(struct computer_backend *b, struct cgroup_host **ret,
                              struct error *err);

/** One thing that `aios doctor` tells. */
struct sandbox_check {
    const char *name; /* "user namespaces" */
    bool ok;
    bool required;    /* without it no sandbox starts */
    char detail[160]; /* "Landlock ABI 7" */
    char remedy[256]; /* "" when ok, else what to do */
};

/** Probes the running kernel; calls @fn for each check in a fixed order.  Blocks for some
 *  milliseconds (it really makes a namespace). */
void sandbox_probe(const struct sandbox_config *config,
                   void (*fn)(void *arg, const struct sandbox_check *check), void *arg);
