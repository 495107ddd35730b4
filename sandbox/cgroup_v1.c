#include "sandbox/cgroup_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define SWEEP_MAX 512 /* groups looked at in one hierarchy in one sweep */

static const char *const controllers[CGROUP_CONTROLLER_COUNT] = {
    [CGROUP_MEMORY] = "memory",   [CGROUP_PIDS] = "pids",       [CGROUP_CPU] = "cpu",
    [CGROUP_CPUACCT] = "cpuacct", [CGROUP_FREEZER] = "freezer",
};

static const struct v1_tree *tree_of(const struct cgroup_host *host, enum cgroup_controller which)
{
    int at = host->v1.of[which];

    return at < 0 ? NULL : &host->v1.trees[at];
}

/** The descriptor to find @which's files of @g below, or -1 when the group is not in there. */
static int base_of(const struct cgroup *g, enum cgroup_controller which)
{
    int at = g->host->v1.of[which];

    return at < 0 || !(g->trees & 1u << at) ? -1 : g->host->v1.trees[at].base_fd;
}

/* ---- what there is ---- */

struct v1_probe {
    struct cgroup_host *host;
    const char *self;
    int denied; /* errno of a hierarchy that is there and may not be written */
};

static int open_writable(const char *point, const char *below)
{
    char path[600];
    int fd;

    (void)snprintf(path, sizeof path, "%s%s", point, below);
    if (faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) != 0)
        return -1;
    fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd;
}

static bool take_mount(void *arg, const struct cgroup_mount *mount)
{
    struct v1_probe *p = arg;
    struct v1_host *v1 = &p->host->v1;
    struct v1_tree tree = { .base_fd = -1 };
    char below[256] = "/";
    const char *any = NULL;

    if (mount->v2)
        return true;
    for (size_t i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
        if (v1->of[i] < 0 && cgroup_word_in(mount->options, controllers[i])) {
            tree.controllers |= 1u << i;
            any = controllers[i];
        }
    }
    if (!any || v1->count == ARRAY_LEN(v1->trees))
        return true;
    if (!cgroup_self_path(p->self, any, mount, below, sizeof below))
        (void)snprintf(below, sizeof below, "/");
    /* Below our own group its limits hold for us too; where that cannot be, at the root. */
    tree.base_fd = open_writable(mount->point, below);
    if (tree.base_fd < 0)
        tree.base_fd = open_writable(mount->point, "/");
    if (tree.base_fd < 0) {
        p->denied = errno;
        return true;
    }
    for (size_t i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
        if (tree.controllers & 1u << i)
            v1->of[i] = (int)v1->count;
    }
    v1->trees[v1->count++] = tree;
    return true;
}

static void v1_fini(struct cgroup_host *host)
{
    for (size_t i = 0; i < host->v1.count; i++)
        fd_close(host->v1.trees[i].base_fd);
    host->v1.count = 0;
}

static bool v1_probe(struct cgroup_host *host, const struct cgroup_texts *texts, struct error *err)
{
    struct v1_probe p = { .host = host, .self = texts->self };
    size_t used;

    for (size_t i = 0; i < CGROUP_CONTROLLER_COUNT; i++)
        host->v1.of[i] = -1;
    cgroup_mounts_each(texts->mountinfo, take_mount, &p);
    if (!tree_of(host, CGROUP_MEMORY) || !tree_of(host, CGROUP_PIDS)) {
        bool memory = tree_of(host, CGROUP_MEMORY);

        v1_fini(host);
        if (p.denied)
            return error_set(err, ERR_UNSUPPORTED, "the hierarchies may not be written (%s)",
                             strerror(p.denied));
        return error_set(err, ERR_UNSUPPORTED, "no %s hierarchy is mounted",
                         memory ? "pids" : "memory");
    }
    used = (size_t)snprintf(host->description, sizeof host->description, "v1:");
    for (size_t i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
        if (host->v1.of[i] >= 0)
            used += (size_t)snprintf(host->description + used, sizeof host->description - used,
                                     " %s", controllers[i]);
    }
    return true;
}

/* ---- one group ---- */

static bool v1_check(const struct cgroup_host *host, const struct cgroup_limits *limits,
                     struct error *err)
{
    if (limits->cpu_milli && !tree_of(host, CGROUP_CPU))
        return error_set(err, ERR_UNSUPPORTED,
                         "a CPU limit needs the cpu cgroup hierarchy, which is not mounted or not "
                         "writable here; leave the CPU limit out");
    return true;
}

static bool set_memory(const struct cgroup *g, uint64_t bytes, struct error *err)
{
    int base = base_of(g, CGROUP_MEMORY);
    struct error swap = ERROR_INIT;
    char text[32];

    (void)snprintf(text, sizeof text, "%" PRIu64, bytes);
    if (!cgroup_write(base, g->name, "memory.limit_in_bytes", text, err))
        return false;
    if (cgroup_write(base, g->name, "memory.memsw.limit_in_bytes", text, &swap))
        return true;
    if (swap.os_errno != ENOENT)
        return error_set(err, swap.code, "%s", swap.text);
    /* A kernel that does not count swap: keep the group out of it. */
    return cgroup_write(base, g->name, "memory.swappiness", "0", err);
}

static bool set_cpu(const struct cgroup *g, uint32_t cpu_milli, struct error *err)
{
    int base = base_of(g, CGROUP_CPU);
    char text[32];

    (void)snprintf(text, sizeof text, "%" PRIu64,
                   MAX((uint64_t)cpu_milli * 100, 1000)); /* the least it takes */
    return cgroup_write(base, g->name, "cpu.cfs_period_us", "100000", err) &&
           cgroup_write(base, g->name, "cpu.cfs_quota_us", text, err);
}

/* Only chooses: each hierarchy costs some 60 us per sandbox. */
static bool v1_begin(struct cgroup *g, const struct cgroup_limits *limits, struct error *err)
{
    const struct v1_host *v1 = &g->host->v1;
    unsigned wanted = 1u << CGROUP_MEMORY | 1u << CGROUP_PIDS;

    (void)err;
    if (limits->cpu_milli)
        wanted |= 1u << CGROUP_CPU;
    if (!limits->brief)
        wanted |= 1u << CGROUP_CPUACCT | 1u << CGROUP_FREEZER;
    for (size_t i = 0; i < v1->count; i++)
        if (v1->trees[i].controllers & wanted)
            g->trees |= 1u << i;
    return true;
}

static bool make_one(const struct cgroup *g, size_t at, struct error *err)
{
    return mkdirat(g->host->v1.trees[at].base_fd, g->name, 0755) == 0 ||
           error_set_errno(err, errno, "mkdir in the cgroup hierarchy %zu", at);
}

static bool v1_complete(struct cgroup *g, const struct cgroup_limits *limits, struct error *err)
{
    const struct v1_host *v1 = &g->host->v1;
    size_t memory = (size_t)v1->of[CGROUP_MEMORY];
    char text[32];

    if (!make_one(g, memory, err))
        return false;
    for (size_t i = 0; i < v1->count; i++)
        if (g->trees & 1u << i && i != memory && !make_one(g, i, err))
            return false;
    if (limits->memory_bytes && !set_memory(g, limits->memory_bytes, err))
        return false;
    (void)snprintf(text, sizeof text, "%" PRIu32, limits->pids);
    if (limits->pids && !cgroup_write(base_of(g, CGROUP_PIDS), g->name, "pids.max", text, err))
        return false;
    return !limits->cpu_milli || set_cpu(g, limits->cpu_milli, err);
}

static void thaw(int base, const char *group)
{
    (void)cgroup_write(base, group, "freezer.state", "THAWED", NULL);
}

/** rmdir, killing what is still inside; false when it has outlived the deadline. */
static bool remove_one(const struct cgroup_host *host, size_t at, const char *name,
                       int64_t deadline_ns)
{
    const struct v1_tree *tree = &host->v1.trees[at];
    unsigned attempt = 0;

    while (unlinkat(tree->base_fd, name, AT_REMOVEDIR) != 0) {
        if (errno != EBUSY)
            return errno == ENOENT;
        (void)cgroup_kill_all(tree->base_fd, name);
        /* What is frozen here does not even die. */
        if (tree_of(host, CGROUP_FREEZER))
            thaw(tree_of(host, CGROUP_FREEZER)->base_fd, name);
        if (!cgroup_pause(deadline_ns, &attempt))
            return false;
    }
    return true;
}

/** The group of that name in each of @trees, in that of memory last: it is made there first, so
 * that a sweep need look nowhere else. */
static void remove_all(const struct cgroup_host *host, unsigned trees, const char *name)
{
    int64_t deadline_ns = clock_add_ns(clock_now_ns(), CGROUP_REMOVE_NS);
    size_t memory = (size_t)host->v1.of[CGROUP_MEMORY];

    for (size_t i = 0; i < host->v1.count; i++)
        if (trees & 1u << i && i != memory)
            (void)remove_one(host, i, name, deadline_ns);
    (void)remove_one(host, memory, name, deadline_ns);
}

static void v1_remove(struct cgroup *g)
{
    remove_all(g->host, g->trees, g->name);
    cgroup_guard_end(&g->guard);
}

/* Async-signal-safe: the child of a clone may run it. */
static int v1_open_door(const struct cgroup *g, size_t hierarchy)
{
    char path[sizeof g->name + sizeof "/tasks"];
    size_t len = strlen(g->name);

    if (hierarchy >= g->host->v1.count || !(g->trees & 1u << hierarchy))
        return CGROUP_NO_DOOR;
    memcpy(path, g->name, len);
    memcpy(path + len, "/tasks", sizeof "/tasks");
    return openat(g->host->v1.trees[hierarchy].base_fd, path, O_WRONLY | O_CLOEXEC);
}

static void v1_started(struct cgroup *g, pid_t init_pid)
{
    (void)g;
    (void)init_pid;
}

static bool set_frozen(const struct cgroup *g, int base, const char *want, int64_t deadline_ns)
{
    unsigned attempt = 0;
    char state[32];

    do {
        /* Written again each time: a process that was being made can hold up the first try. */
        if (!cgroup_write(base, g->name, "freezer.state", want, NULL))
            return false;
        if (cgroup_read(base, g->name, "freezer.state", state, sizeof state) &&
            !strncmp(state, want, strlen(want)))
            return true;
    } while (cgroup_pause(deadline_ns, &attempt));
    return false;
}

static bool v1_freeze(struct cgroup *g, bool frozen, int64_t deadline_ns)
{
    int base = base_of(g, CGROUP_FREEZER);
    bool ok;

    if (base < 0 || (frozen && !g->guard.pid && !cgroup_guard_start(&g->guard, base, g->name)))
        return false;
    ok = set_frozen(g, base, frozen ? "FROZEN" : "THAWED", deadline_ns);
    if (frozen && !ok)
        thaw(base, g->name);
    if (frozen != ok)
        cgroup_guard_end(&g->guard); /* it goes on, or never stood still */
    return ok;
}

static uint64_t read_number(const struct cgroup *g, enum cgroup_controller which, const char *file)
{
    int base = base_of(g, which);
    char text[64];

    return base >= 0 && cgroup_read(base, g->name, file, text, sizeof text)
               ? cgroup_number(text, NULL)
               : 0;
}

static void v1_usage(struct cgroup *g, pid_t init_pid, struct computer_usage *ret)
{
    (void)init_pid;
    ret->memory_bytes = read_number(g, CGROUP_MEMORY, "memory.usage_in_bytes");
    ret->peak_memory_bytes = read_number(g, CGROUP_MEMORY, "memory.max_usage_in_bytes");
    ret->pids = (uint32_t)read_number(g, CGROUP_PIDS, "pids.current");
    ret->cpu_ns = (int64_t)read_number(g, CGROUP_CPUACCT, "cpuacct.usage");
}

static void v1_strikes(struct cgroup *g, struct computer_strikes *ret)
{
    ret->oom = cgroup_count(g, CGROUP_COUNT_OOM, base_of(g, CGROUP_MEMORY), "memory.oom_control",
                            "oom_kill");
    ret->pids = cgroup_count(g, CGROUP_COUNT_PIDS, base_of(g, CGROUP_PIDS), "pids.events", "max");
}

static void v1_sweep(struct cgroup_host *host, cgroup_orphan_fn *orphan, void *arg)
{
    char(*names)[CGROUP_NAME_SIZE] = malloc(SWEEP_MAX * sizeof *names);
    int memory = tree_of(host, CGROUP_MEMORY)->base_fd, pids = tree_of(host, CGROUP_PIDS)->base_fd;
    size_t count = names ? cgroup_names(memory, names, SWEEP_MAX) : 0;

    for (size_t i = 0; i < count; i++)
        if (orphan(arg, pids, names[i]))
            remove_all(host, ~0u, names[i]);
    free(names);
}

const struct cgroup_kind cgroup_v1 = {
    .mode = SANDBOX_CGROUP_V1,
    .probe = v1_probe,
    .fini = v1_fini,
    .check = v1_check,
    .begin = v1_begin,
    .complete = v1_complete,
    .remove = v1_remove,
    .open_door = v1_open_door,
    .started = v1_started,
    .freeze = v1_freeze,
    .usage = v1_usage,
    .strikes = v1_strikes,
    .sweep = v1_sweep,
};
