#include "sandbox/cgroup_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define SWEEP_MAX 512 /* groups looked at in one sweep */

/* ---- a folder that is ours to divide ---- */

static bool take_v2(void *arg, const struct cgroup_mount *mount)
{
    if (!mount->v2)
        return true;
    *(struct cgroup_mount *)arg = *mount;
    return false;
}

static bool has_controllers(int dirfd, const char *file)
{
    char words[256];

    return cgroup_read(dirfd, ".", file, words, sizeof words) && cgroup_word_in(words, "memory") &&
           cgroup_word_in(words, "pids");
}

/** May we make groups there and clone into them? */
static bool writable(int dirfd)
{
    return faccessat(dirfd, ".", W_OK | X_OK, AT_EACCESS) == 0 &&
           faccessat(dirfd, "cgroup.procs", W_OK, AT_EACCESS) == 0;
}

/** Give the children of @dirfd the controllers; the cpu one where it can be had. */
static bool enable(int dirfd, struct error *err)
{
    if (!has_controllers(dirfd, "cgroup.subtree_control") &&
        !cgroup_write(dirfd, ".", "cgroup.subtree_control", "+memory +pids", err))
        return false;
    (void)cgroup_write(dirfd, ".", "cgroup.subtree_control", "+cpu", NULL);
    return true;
}

/** A group that has processes cannot have children with controllers.  Where we are the only one in
 *  there, we move into a leaf of our own first. */
static bool move_aside(struct cgroup_host *host, int dirfd, struct error *err)
{
    char procs[64], leaf[CGROUP_NAME_SIZE], pid[16];

    if (faccessat(dirfd, "cgroup.subtree_control", W_OK, AT_EACCESS) != 0)
        return error_set(err, ERR_UNSUPPORTED, "our own group is not delegated to us");
    if (!cgroup_read(dirfd, ".", "cgroup.procs", procs, sizeof procs))
        return error_set(err, ERR_UNSUPPORTED, "our own group cannot be read");
    (void)snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (strcmp(procs, pid) != 0)
        return error_set(err, ERR_UNSUPPORTED, "other processes share our group");
    (void)snprintf(leaf, sizeof leaf, "aios-%s-0", host->server);
    if (mkdirat(dirfd, leaf, 0755) != 0)
        return error_set_errno(err, errno, "mkdir %s", leaf);
    if (!cgroup_write(dirfd, leaf, "cgroup.procs", "0", err)) {
        (void)unlinkat(dirfd, leaf, AT_REMOVEDIR);
        return false;
    }
    if (!enable(dirfd, err)) {
        (void)cgroup_write(dirfd, ".", "cgroup.procs", "0", NULL);
        (void)unlinkat(dirfd, leaf, AT_REMOVEDIR);
        return false;
    }
    memcpy(host->v2.leaf, leaf, sizeof leaf);
    return true;
}

/** Our own group, or else the one above it: true when groups with limits can be made below
 *  *ret_fd. */
static bool find_base(struct cgroup_host *host, const char *point, char *below, int *ret_fd,
                      struct error *err)
{
    struct error own = ERROR_INIT;
    char path[600];
    char *slash;
    int fd;

    (void)snprintf(path, sizeof path, "%s%s", point, strcmp(below, "/") ? below : "");
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, ERR_UNSUPPORTED, "%s: %s", path, strerror(errno));
    if (!has_controllers(fd, "cgroup.controllers")) {
        error_set(&own, ERR_UNSUPPORTED, "%s lacks the memory and pids controllers", path);
    } else if (!writable(fd)) {
        error_set(&own, ERR_UNSUPPORTED, "%s is not delegated to us", path);
    } else if (has_controllers(fd, "cgroup.subtree_control") ||
               (!strcmp(below, "/") && enable(fd, NULL)) || move_aside(host, fd, &own)) {
        (void)enable(fd, NULL);
        *ret_fd = fd;
        return true;
    }
    fd_close(fd);
    slash = strrchr(below, '/');
    if (!slash || !strcmp(below, "/") || slash == below)
        return error_set(err, ERR_UNSUPPORTED, "%s", own.text);
    /* Beside us, where the folder above is ours and divided already (systemd's app.slice). */
    *slash = '\0';
    (void)snprintf(path, sizeof path, "%s%s", point, below);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && writable(fd) && has_controllers(fd, "cgroup.subtree_control")) {
        *ret_fd = fd;
        return true;
    }
    fd_close(fd);
    return error_set(err, ERR_UNSUPPORTED,
                     "%s; start with systemd-run --user --scope -p Delegate=yes", own.text);
}

static bool v2_probe(struct cgroup_host *host, const struct cgroup_texts *texts, struct error *err)
{
    struct cgroup_mount mount = { .v2 = false };
    char below[256];
    char words[256];

    cgroup_mounts_each(texts->mountinfo, take_v2, &mount);
    if (!mount.v2)
        return error_set(err, ERR_UNSUPPORTED, "not mounted");
    if (!cgroup_self_path(texts->self, "", &mount, below, sizeof below))
        return error_set(err, ERR_UNSUPPORTED, "our own group is outside what is mounted");
    if (!find_base(host, mount.point, below, &host->v2.base_fd, err))
        return false;
    host->v2.cpu =
        cgroup_read(host->v2.base_fd, ".", "cgroup.subtree_control", words, sizeof words) &&
        cgroup_word_in(words, "cpu");
    (void)snprintf(host->description, sizeof host->description, "v2 at %.140s%.140s%s", mount.point,
                   strcmp(below, "/") ? below : "", host->v2.cpu ? "" : " (without cpu)");
    return true;
}

static void v2_fini(struct cgroup_host *host)
{
    int base = host->v2.base_fd;

    /* Leave the folder as it was: it may not have children with controllers when we are back. */
    if (host->v2.leaf[0]) {
        (void)cgroup_write(base, ".", "cgroup.subtree_control", "-cpu", NULL);
        (void)cgroup_write(base, ".", "cgroup.subtree_control", "-memory -pids", NULL);
        (void)cgroup_write(base, ".", "cgroup.procs", "0", NULL);
        (void)unlinkat(base, host->v2.leaf, AT_REMOVEDIR);
    }
    fd_close(base);
}

/* ---- one group ---- */

static bool v2_check(const struct cgroup_host *host, const struct cgroup_limits *limits,
                     struct error *err)
{
    if (limits->cpu_milli && !host->v2.cpu)
        return error_set(err, ERR_UNSUPPORTED,
                         "a CPU limit needs the cpu controller, which is not delegated here; "
                         "leave the CPU limit out");
    return true;
}

/** A limit that the kernel may have been built without. */
static bool write_optional(int dirfd, const char *file, const char *text, struct error *err)
{
    struct error local = ERROR_INIT;

    if (cgroup_write(dirfd, ".", file, text, &local) || local.os_errno == ENOENT)
        return true;
    return error_set(err, local.code, "%s", local.text);
}

static bool set_limits(const struct cgroup *g, const struct cgroup_limits *limits,
                       struct error *err)
{
    char text[64];

    (void)snprintf(text, sizeof text, "%" PRIu64, limits->memory_bytes);
    if (limits->memory_bytes && (!cgroup_write(g->dir_fd, ".", "memory.max", text, err) ||
                                 !write_optional(g->dir_fd, "memory.swap.max", "0", err)))
        return false;
    (void)snprintf(text, sizeof text, "%" PRIu32, limits->pids);
    if (limits->pids && !cgroup_write(g->dir_fd, ".", "pids.max", text, err))
        return false;
    (void)snprintf(text, sizeof text, "%" PRIu64 " 100000",
                   MAX((uint64_t)limits->cpu_milli * 100, 1000)); /* the least it takes */
    return !limits->cpu_milli || cgroup_write(g->dir_fd, ".", "cpu.max", text, err);
}

static bool v2_begin(struct cgroup *g, const struct cgroup_limits *limits, struct error *err)
{
    if (mkdirat(g->host->v2.base_fd, g->name, 0755) != 0)
        return error_set_errno(err, errno, "mkdir");
    g->dir_fd = openat(g->host->v2.base_fd, g->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g->dir_fd < 0)
        return error_set_errno(err, errno, "open");
    return set_limits(g, limits, err);
}

/** Wait until "@key @value" stands in cgroup.events, which the kernel signals as urgent data. */
static bool wait_event(int base, const char *group, const char *key, uint64_t value,
                       int64_t deadline_ns)
{
    char path[CGROUP_NAME_SIZE + 32], text[256];
    bool reached = false;
    int fd;

    (void)snprintf(path, sizeof path, "%s/cgroup.events", group);
    fd = openat(base, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    for (;;) {
        struct pollfd changed = { .fd = fd, .events = POLLPRI };
        ssize_t n = pread(fd, text, sizeof text - 1, 0);
        int left_ms = clock_left_ms(deadline_ns, 100);

        text[MAX(n, 0)] = '\0';
        reached = n > 0 && cgroup_number(text, key) == value;
        if (reached || n <= 0 || left_ms <= 0)
            break;
        (void)poll(&changed, 1, left_ms);
    }
    fd_close(fd);
    return reached;
}

static void remove_named(int base, const char *name, int64_t deadline_ns)
{
    unsigned attempt = 0;

    while (unlinkat(base, name, AT_REMOVEDIR) != 0 && errno == EBUSY) {
        if (!cgroup_write(base, name, "cgroup.kill", "1", NULL))
            (void)cgroup_kill_all(base, name);
        (void)wait_event(base, name, "populated", 0, clock_add_ns(clock_now_ns(), CLOCK_NS_PER_MS));
        if (!cgroup_pause(deadline_ns, &attempt))
            return;
    }
}

static void v2_remove(struct cgroup *g)
{
    remove_named(g->host->v2.base_fd, g->name, clock_add_ns(clock_now_ns(), CGROUP_REMOVE_NS));
}

static void v2_started(struct cgroup *g, pid_t init_pid)
{
    (void)g;
    (void)init_pid;
}

static bool v2_freeze(struct cgroup *g, bool frozen, int64_t deadline_ns)
{
    if (!cgroup_write(g->dir_fd, ".", "cgroup.freeze", frozen ? "1" : "0", NULL))
        return false;
    if (wait_event(g->dir_fd, ".", "frozen", frozen, deadline_ns))
        return true;
    if (frozen)
        (void)cgroup_write(g->dir_fd, ".", "cgroup.freeze", "0", NULL);
    return false;
}

static uint64_t read_number(const struct cgroup *g, const char *file, const char *key)
{
    char text[1024];

    return cgroup_read(g->dir_fd, ".", file, text, sizeof text) ? cgroup_number(text, key) : 0;
}

static void v2_usage(struct cgroup *g, pid_t init_pid, struct computer_usage *ret)
{
    (void)init_pid;
    ret->memory_bytes = read_number(g, "memory.current", NULL);
    ret->peak_memory_bytes = MAX(read_number(g, "memory.peak", NULL), ret->memory_bytes);
    ret->pids = (uint32_t)read_number(g, "pids.current", NULL);
    ret->cpu_ns = (int64_t)read_number(g, "cpu.stat", "usage_usec") * CLOCK_NS_PER_US;
}

static void v2_strikes(struct cgroup *g, struct computer_strikes *ret)
{
    int base = g->host->v2.base_fd;

    ret->oom = cgroup_count(g, CGROUP_COUNT_OOM, base, "memory.events", "oom_kill");
    ret->pids = cgroup_count(g, CGROUP_COUNT_PIDS, base, "pids.events", "max");
}

static void v2_sweep(struct cgroup_host *host, cgroup_orphan_fn *orphan, void *arg)
{
    int64_t deadline_ns = clock_add_ns(clock_now_ns(), CGROUP_REMOVE_NS);
    char(*names)[CGROUP_NAME_SIZE] = calloc(SWEEP_MAX, sizeof *names);
    size_t count = names ? cgroup_names(host->v2.base_fd, names, SWEEP_MAX) : 0;

    for (size_t i = 0; i < count; i++) {
        if (orphan(arg, host->v2.base_fd, names[i]))
            remove_named(host->v2.base_fd, names[i], deadline_ns);
    }
    free(names);
}

const struct cgroup_kind cgroup_v2 = {
    .mode = SANDBOX_CGROUP_V2,
    .probe = v2_probe,
    .fini = v2_fini,
    .check = v2_check,
    .begin = v2_begin,
    .remove = v2_remove,
    .started = v2_started,
    .freeze = v2_freeze,
    .usage = v2_usage,
    .strikes = v2_strikes,
    .sweep = v2_sweep,
};
