/*
 * cgroup_kind - what cgroup.c asks of v1, v2 and none, and the state they keep.
 *
 * Private to sandbox/cgroup*.c and their test.  Threads: as in cgroup.h.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/base/list.h"
#include "sandbox/cgroup.h"
#include "sandbox/cgroup_guard.h"

#define CGROUP_SERVER_SIZE 64
#define CGROUP_NAME_SIZE   96
#define CGROUP_REMOVE_NS   (500 * CLOCK_NS_PER_MS)

/** Where to read what is mounted and where we are: a test's files instead of ours. */
struct cgroup_roots {
    const char *mountinfo;
    const char *self;
    const char *usual; /* see cgroup_usual_mounts(); NULL: not to be tried */
};

/** What was read there. */
struct cgroup_texts {
    char *mountinfo;
    char *self;
};

/** The controllers that count; an index into struct v1_host.of. */
enum cgroup_controller {
    CGROUP_MEMORY,
    CGROUP_PIDS,
    CGROUP_CPU,
    CGROUP_CPUACCT,
    CGROUP_FREEZER,
    CGROUP_CONTROLLER_COUNT
};

/** One mounted hierarchy of version 1; it may serve several controllers ("cpu,cpuacct"). */
struct v1_tree {
    int base_fd;          /* our groups are made below it */
    unsigned controllers; /* bit mask of 1 << enum cgroup_controller */
};

struct v1_host {
    struct v1_tree trees[CGROUP_CONTROLLER_COUNT];
    size_t count;
    int of[CGROUP_CONTROLLER_COUNT]; /* index of its tree, or -1 */
};

struct v2_host {
    int base_fd;
    bool cpu;
    char leaf[CGROUP_NAME_SIZE]; /* where we moved ourselves, or "" */
};

struct none_host {
    pthread_mutex_t lock; /* guards what follows, and the none part of every group */
    pthread_cond_t wake;
    struct list groups; /* of struct cgroup.none.link, those that have started */
    pthread_t watcher;
    bool watching;
    bool stopping;
};

struct cgroup_host {
    const struct cgroup_kind *kind;
    char server[CGROUP_SERVER_SIZE];
    char description[320];
    atomic_uint next;
    struct v1_host v1;
    struct v2_host v2;
    struct none_host none;
};

/** Counters whose descriptor is kept once it was needed. */
enum cgroup_counter { CGROUP_COUNT_OOM, CGROUP_COUNT_PIDS, CGROUP_COUNT_KEPT };

struct cgroup {
    struct cgroup_host *host;
    char name[CGROUP_NAME_SIZE];
    unsigned trees;            /* v1: bit mask of the trees that hold a group of ours, or shall */
    int dir_fd;                /* v2 */
    struct cgroup_guard guard; /* v1, while it is frozen */
    atomic_int counter_fds[CGROUP_COUNT_KEPT];
    struct {
        struct list link;
        struct cgroup_limits limits;
        pid_t init_pid;
        int64_t next_look_ns;
        int64_t cpu_ns; /* most ever seen, so that it never runs backwards */
        uint64_t peak_bytes;
        uint64_t kills;
    } none;
};

#define CGROUP_NO_DOOR (-2)

/** Is the group @name nobody's any more?  @dirfd: where the pids controller counts it. */
typedef bool cgroup_orphan_fn(void *arg, int dirfd, const char *name);

struct cgroup_kind {
    enum sandbox_cgroup_mode mode;
    /** Look for what is needed and fill @host's part and its description. */
    bool (*probe)(struct cgroup_host *host, const struct cgroup_texts *texts, struct error *err);
    void (*fini)(struct cgroup_host *host);
    bool (*check)(const struct cgroup_host *host, const struct cgroup_limits *limits,
                  struct error *err);
    bool (*begin)(struct cgroup *g, const struct cgroup_limits *limits, struct error *err);
    /** NULL: nothing to do. */
    bool (*complete)(struct cgroup *g, const struct cgroup_limits *limits, struct error *err);
    void (*remove)(struct cgroup *g);
    /** A descriptor to enter one hierarchy by, -1 when it could not be opened, or CGROUP_NO_DOOR.
     *  Async-signal-safe.  NULL: there are no doors. */
    int (*open_door)(const struct cgroup *g, size_t hierarchy);
    void (*started)(struct cgroup *g, pid_t init_pid);
    bool (*freeze)(struct cgroup *g, bool frozen, int64_t deadline_ns);
    void (*usage)(struct cgroup *g, pid_t init_pid, struct computer_usage *ret);
    void (*strikes)(struct cgroup *g, struct computer_strikes *ret);
    /** Kill and remove every group for which @orphan says so. */
    void (*sweep)(struct cgroup_host *host, cgroup_orphan_fn *orphan, void *arg);
};

extern const struct cgroup_kind cgroup_v1;
extern const struct cgroup_kind cgroup_v2;
extern const struct cgroup_kind cgroup_none;

/** cgroup_host_new() with other files to read. */
NODISCARD struct cgroup_host *cgroup_host_new_at(enum sandbox_cgroup_mode mode, const char *server,
                                                 const struct cgroup_roots *roots,
                                                 struct error *err);

/** One mount of a cgroup file system, as /proc/self/mountinfo tells it. */
struct cgroup_mount {
    char point[256];
    char root[256];    /* which part of the hierarchy is mounted */
    char options[128]; /* of the super block: "rw,memory" */
    bool v2;
};

/** Call @fn for each in the text of mountinfo until it returns false. */
void cgroup_mounts_each(const char *mountinfo,
                        bool (*fn)(void *arg, const struct cgroup_mount *mount), void *arg);

/** What mountinfo says of the hierarchies, found without it where they lie below @folder as on
 *  nearly every machine: listing all mounts takes the kernel longer than all else here.
 *  @self_text: ours in /proc/self/cgroup.  For free(); NULL when it is not so, or out of memory. */
char *cgroup_usual_mounts(const char *folder, const char *self_text);

/** Our path in the hierarchy whose controller list contains @controller ("" for v2), as seen
 *  below @mount: "/process/7" in @buf.  False when it is not inside that mount. */
bool cgroup_self_path(const char *self_text, const char *controller,
                      const struct cgroup_mount *mount, char *buf, size_t size);

/** True when @controller is one of the comma- or space-separated words of @list. */
bool cgroup_word_in(const char *list, const char *controller);

/** Write @text to @dirfd/@group/@file.  Tells a missing file apart by err->os_errno. */
bool cgroup_write(int dirfd, const char *group, const char *file, const char *text,
                  struct error *err);

/** A small file read whole into @buf, NUL-terminated; false when it cannot be read. */
bool cgroup_read(int dirfd, const char *group, const char *file, char *buf, size_t size);

/** The number after "@key " on a line of @text (@key NULL: the first number); 0 when missing. */
uint64_t cgroup_number(const char *text, const char *key);

/** A counter whose descriptor stays open from its first use on. */
uint64_t cgroup_count(struct cgroup *g, enum cgroup_counter which, int dirfd, const char *file,
                      const char *key);

/** Send SIGKILL to everything in the group; returns how many there were. */
unsigned cgroup_kill_all(int dirfd, const char *group);

/** Up to @max names of folders below @dirfd that begin with "aios-"; the count. */
size_t cgroup_names(int dirfd, char (*names)[CGROUP_NAME_SIZE], size_t max);

/** It is an hour old at least, and nobody is in it, of whatever pid namespace: @dirfd is where the
 *  pids controller counts. */
bool cgroup_abandoned(int dirfd, const char *group);

/** Wait a little, longer each time; false once the deadline has passed. */
bool cgroup_pause(int64_t deadline_ns, unsigned *attempt);
