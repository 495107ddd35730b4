#include "sandbox/cgroup_kind.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define LOOK_BUSY_NS (100 * CLOCK_NS_PER_MS) /* programs run in it */
#define LOOK_IDLE_NS (1000 * CLOCK_NS_PER_MS)
#define TREE_MAX     4096 /* processes looked at in one sandbox */

/* ---- what a tree of processes uses ---- */

struct tree_sum {
    uint64_t bytes;
    int64_t cpu_ns;
    uint32_t count;
    pid_t largest;
    uint64_t largest_bytes;
};

struct pid_list {
    pid_t *at;
    size_t count, cap;
};

static bool append_pid(struct pid_list *list, pid_t pid)
{
    if (list->count == TREE_MAX)
        return true;
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 32;
        pid_t *at = reallocarray(list->at, cap, sizeof *at);

        if (!at)
            return false;
        list->at = at;
        list->cap = cap;
    }
    list->at[list->count++] = pid;
    return true;
}

/** A process' threads have their own lists of children. */
static bool append_children(struct pid_list *list, pid_t pid)
{
    char path[64];
    DIR *dir;
    bool ok = true;

    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    dir = opendir(path);
    if (!dir)
        return true;
    for (struct dirent *e = readdir(dir); e && ok; e = readdir(dir)) {
        char name[300];
        char *text, *next;

        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(name, sizeof name, "%s/children", e->d_name);
        text = fd_read_file(dirfd(dir), name, 65536, NULL, NULL);
        for (char *at = text; at && *at && ok; at = next) {
            long child = strtol(at, &next, 10);

            if (next == at)
                break;
            ok = append_pid(list, (pid_t)child);
            while (*next == ' ')
                next++;
        }
        free(text);
    }
    closedir(dir);
    return ok;
}

/** User, system, and the same of children that ended: fields 14 to 17 of /proc/PID/stat. */
static int64_t parse_cpu(const char *stat)
{
    static const int64_t tick_ns = CLOCK_NS_PER_S / 100; /* USER_HZ is 100 on all we run on */
    const char *at = strrchr(stat, ')');                 /* the name before may contain anything */
    int64_t ticks = 0;

    for (int field = 3; at && field <= 17; field++) {
        at = strchr(at, ' ');
        if (!at)
            break;
        at++;
        if (field >= 14)
            ticks += strtoll(at, NULL, 10);
    }
    return ticks * tick_ns;
}

static void add_process(struct tree_sum *sum, pid_t pid, pid_t init_pid)
{
    char path[64];
    char *statm, *stat;

    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    statm = fd_read_file(AT_FDCWD, path, 4096, NULL, NULL);
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    stat = fd_read_file(AT_FDCWD, path, 4096, NULL, NULL);
    if (statm && stat) {
        const char *resident = strchr(statm, ' ');
        uint64_t bytes =
            resident ? strtoull(resident + 1, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;

        sum->bytes += bytes;
        sum->cpu_ns += parse_cpu(stat);
        sum->count++;
        if (pid != init_pid && bytes > sum->largest_bytes) {
            sum->largest = pid;
            sum->largest_bytes = bytes;
        }
    }
    free(statm);
    free(stat);
}

/** Everything below @init_pid: orphans become its children, so that nothing gets out of sight. */
static struct tree_sum sum_tree(pid_t init_pid)
{
    struct tree_sum sum = { .count = 0 };
    struct pid_list list = { .at = NULL };
    bool ok = append_pid(&list, init_pid);

    for (size_t i = 0; ok && i < list.count; i++) {
        add_process(&sum, list.at[i], init_pid);
        ok = append_children(&list, list.at[i]);
    }
    free(list.at);
    return sum;
}

/* ---- the watcher ---- */

static void note_locked(struct cgroup *g, const struct tree_sum *sum)
{
    g->none.peak_bytes = MAX(g->none.peak_bytes, sum->bytes);
    g->none.cpu_ns = MAX(g->none.cpu_ns, sum->cpu_ns);
}

/** The number may belong to somebody else by now: pin it, then look whether it is still as large
 *  and still below @init_pid. */
static bool kill_largest(pid_t init_pid, pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    bool killed = false;

    if (pidfd < 0)
        return false;
    if (sum_tree(init_pid).largest == pid)
        killed = syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0;
    fd_close(pidfd);
    return killed;
}

static void look_locked(struct cgroup *g, int64_t now_ns)
{
    struct tree_sum sum = sum_tree(g->none.init_pid);

    note_locked(g, &sum);
    if (g->none.limits.memory_bytes && sum.bytes > g->none.limits.memory_bytes && sum.largest &&
        kill_largest(g->none.init_pid, sum.largest))
        g->none.kills++;
    g->none.next_look_ns = now_ns + (sum.count > 1 ? LOOK_BUSY_NS : LOOK_IDLE_NS);
}

/** The lock is held while /proc is read: that is bounded, and a group cannot go meanwhile. */
static void *watch(void *arg)
{
    struct none_host *none = arg;

    pthread_mutex_lock(&none->lock);
    while (!none->stopping) {
        int64_t now_ns = clock_now_ns();
        int64_t next_ns = now_ns + LOOK_IDLE_NS;
        struct timespec until;

        LIST_FOR_EACH (node, &none->groups) {
            struct cgroup *g = LIST_ENTRY(node, struct cgroup, none.link);

            if (g->none.next_look_ns <= now_ns)
                look_locked(g, now_ns);
            next_ns = MIN(next_ns, g->none.next_look_ns);
        }
        if (list_empty(&none->groups)) {
            pthread_cond_wait(&none->wake, &none->lock);
            continue;
        }
        until.tv_sec = next_ns / CLOCK_NS_PER_S;
        until.tv_nsec = next_ns % CLOCK_NS_PER_S;
        (void)pthread_cond_timedwait(&none->wake, &none->lock, &until);
    }
    pthread_mutex_unlock(&none->lock);
    return NULL;
}

/* ---- the kind ---- */

static bool none_probe(struct cgroup_host *host, const struct cgroup_texts *texts,
                       struct error *err)
{
    (void)texts;
    (void)err;
    pthread_mutex_init(&host->none.lock, NULL);
    cond_init(&host->none.wake);
    list_init(&host->none.groups);
    return true;
}

static void none_fini(struct cgroup_host *host)
{
    struct none_host *none = &host->none;

    pthread_mutex_lock(&none->lock);
    none->stopping = true;
    pthread_cond_signal(&none->wake);
    pthread_mutex_unlock(&none->lock);
    if (none->watching)
        (void)pthread_join(none->watcher, NULL);
    pthread_cond_destroy(&none->wake);
    pthread_mutex_destroy(&none->lock);
}

static bool none_check(const struct cgroup_host *host, const struct cgroup_limits *limits,
                       struct error *err)
{
    (void)host;
    if (limits->cpu_milli)
        return error_set(err, ERR_UNSUPPORTED,
                         "a CPU limit needs cgroups, which this machine does not give us (aios "
                         "doctor says why); leave the CPU limit out");
    return true;
}

static bool none_begin(struct cgroup *g, const struct cgroup_limits *limits, struct error *err)
{
    (void)err;
    list_init(&g->none.link);
    g->none.limits = *limits;
    return true;
}

static void none_remove(struct cgroup *g)
{
    if (!g->none.link.next)
        return;
    pthread_mutex_lock(&g->host->none.lock);
    list_remove(&g->none.link);
    pthread_mutex_unlock(&g->host->none.lock);
}

static void none_started(struct cgroup *g, pid_t init_pid)
{
    struct none_host *none = &g->host->none;

    pthread_mutex_lock(&none->lock);
    g->none.init_pid = init_pid;
    g->none.next_look_ns = clock_now_ns() + LOOK_BUSY_NS;
    list_append(&none->groups, &g->none.link);
    /* Without the thread the sandbox still has its resource limits. */
    if (!none->watching)
        none->watching = pthread_create(&none->watcher, NULL, watch, none) == 0;
    pthread_cond_signal(&none->wake);
    pthread_mutex_unlock(&none->lock);
}

static bool none_freeze(struct cgroup *g, bool frozen, int64_t deadline_ns)
{
    (void)g;
    (void)frozen;
    (void)deadline_ns;
    return false;
}

static void none_usage(struct cgroup *g, pid_t init_pid, struct computer_usage *ret)
{
    struct tree_sum sum = sum_tree(init_pid);

    pthread_mutex_lock(&g->host->none.lock);
    note_locked(g, &sum);
    ret->cpu_ns = g->none.cpu_ns;
    ret->peak_memory_bytes = g->none.peak_bytes;
    pthread_mutex_unlock(&g->host->none.lock);
    ret->memory_bytes = sum.bytes;
    ret->pids = sum.count;
}

static void none_strikes(struct cgroup *g, struct computer_strikes *ret)
{
    pthread_mutex_lock(&g->host->none.lock);
    ret->oom = g->none.kills;
    pthread_mutex_unlock(&g->host->none.lock);
}

const struct cgroup_kind cgroup_none = {
    .mode = SANDBOX_CGROUP_NONE,
    .probe = none_probe,
    .fini = none_fini,
    .check = none_check,
    .begin = none_begin,
    .remove = none_remove,
    .started = none_started,
    .freeze = none_freeze,
    .usage = none_usage,
    .strikes = none_strikes,
};
