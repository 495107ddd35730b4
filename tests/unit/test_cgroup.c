#include "sandbox/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "sandbox/cgroup_kind.h"
#include "tests/support/check.h"

/*
 * A cgroup file system that is only files: making a folder in it makes the control files, and
 * removing one removes them, as the kernel does.  What is written stays to be looked at.
 */
static struct {
    char root[64];
    const char *const *files; /* in each group; NULL: the real thing is tested */
    int busy;                 /* so many removals answer EBUSY */
    bool read_only;
} fake;

int __real_mkdirat(int dirfd, const char *path, mode_t mode);
int __wrap_mkdirat(int dirfd, const char *path, mode_t mode);
int __real_unlinkat(int dirfd, const char *path, int flags);
int __wrap_unlinkat(int dirfd, const char *path, int flags);

static void put(int dirfd, const char *path, const char *text)
{
    int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    close(fd);
}

static void populate(int dirfd, const char *group)
{
    for (const char *const *file = fake.files; file && *file; file++) {
        char path[300];
        const char *equals = strchr(*file, '=');

        (void)snprintf(path, sizeof path, "%s/%.*s", group, (int)(equals - *file), *file);
        put(dirfd, path, equals + 1);
    }
}

int __wrap_mkdirat(int dirfd, const char *path, mode_t mode)
{
    int rc;

    if (fake.files && fake.read_only) {
        errno = EROFS;
        return -1;
    }
    rc = __real_mkdirat(dirfd, path, mode);
    if (rc == 0)
        populate(dirfd, path);
    return rc;
}

int __wrap_unlinkat(int dirfd, const char *path, int flags)
{
    if (fake.files && flags == AT_REMOVEDIR && fake.busy > 0) {
        fake.busy--;
        errno = EBUSY;
        return -1;
    }
    for (const char *const *file = fake.files; flags == AT_REMOVEDIR && file && *file; file++) {
        char name[300];

        (void)snprintf(name, sizeof name, "%s/%.*s", path, (int)(strchr(*file, '=') - *file),
                       *file);
        (void)__real_unlinkat(dirfd, name, 0);
    }
    return __real_unlinkat(dirfd, path, flags);
}

static const char *const v1_files[] = {
    "tasks=",
    "cgroup.procs=",
    "memory.limit_in_bytes=",
    "memory.memsw.limit_in_bytes=",
    "memory.usage_in_bytes=4096\n",
    "memory.max_usage_in_bytes=8192\n",
    "memory.oom_control=oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "pids.max=",
    "pids.current=7\n",
    "pids.events=max 2\n",
    "cpu.cfs_period_us=",
    "cpu.cfs_quota_us=",
    "cpuacct.usage=123456789\n",
    "freezer.state=",
    NULL,
};

static const char *const v2_files[] = {
    "cgroup.procs=",
    "cgroup.controllers=cpu memory pids\n",
    "cgroup.subtree_control=",
    "cgroup.events=populated 0\nfrozen 0\n",
    "cgroup.freeze=",
    "cgroup.kill=",
    "memory.max=",
    "memory.swap.max=",
    "memory.current=4096\n",
    "memory.peak=8192\n",
    "memory.events=low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\n",
    "pids.max=",
    "pids.current=7\n",
    "pids.events=max 2\n",
    "cpu.max=",
    "cpu.stat=usage_usec 5\nuser_usec 3\n",
    NULL,
};

static struct cgroup_roots roots;
static char mountinfo_path[128], self_path[128];

static void make_group(const char *path)
{
    char full[300];

    (void)snprintf(full, sizeof full, "%s/%s", fake.root, path);
    assert_int_equal(__real_mkdirat(AT_FDCWD, full, 0755), 0);
    populate(AT_FDCWD, full);
}

/** @mountinfo: lines with one %s for the root of the fake. */
static void set_up_fake(const char *const *files, const char *mountinfo, const char *self)
{
    char text[2048] = "";
    size_t used = 0;

    (void)snprintf(fake.root, sizeof fake.root, "/tmp/test_cgroup.XXXXXX");
    assert_non_null(mkdtemp(fake.root));
    fake.files = files;
    (void)snprintf(mountinfo_path, sizeof mountinfo_path, "%s/mountinfo", fake.root);
    (void)snprintf(self_path, sizeof self_path, "%s/self", fake.root);
    for (const char *at = mountinfo; *at;) {
        size_t line = strcspn(at, "\n");
        const char *mark = strstr(at, "@");

        if (mark && mark < at + line)
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%.*s%s%.*s\n", (int)(mark - at),
                                 at, fake.root, (int)(at + line - mark - 1), mark + 1);
        at += line + (at[line] == '\n');
    }
    put(AT_FDCWD, mountinfo_path, text);
    put(AT_FDCWD, self_path, self);
    roots = (struct cgroup_roots){ .mountinfo = mountinfo_path, .self = self_path };
}

static int tear_down(void **state)
{
    struct error err = ERROR_INIT;
    bool made = fake.root[0];

    (void)state;
    fake.files = NULL;
    fake.busy = 0;
    fake.read_only = false;
    if (made && !fd_remove_tree(AT_FDCWD, fake.root, &err))
        return 1;
    fake.root[0] = '\0';
    return 0;
}

static void assert_file(const char *path, const char *want)
{
    char full[400];
    char *text;

    (void)snprintf(full, sizeof full, "%s/%s", fake.root, path);
    text = fd_read_file(AT_FDCWD, full, 4096, NULL, NULL);
    if (!text)
        fail_msg("%s is not there", path);
    assert_string_equal(text, want);
    free(text);
}

static bool exists(const char *path)
{
    char full[400];

    (void)snprintf(full, sizeof full, "%s/%s", fake.root, path);
    return access(full, F_OK) == 0;
}

static const char v1_mounts[] = "22 1 0:21 / /proc rw - proc proc rw\n"
                                "32 31 0:29 / @/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
                                "35 31 0:32 / @/memory rw - cgroup cgroup rw,memory\n"
                                "37 31 0:34 / @/freezer rw - cgroup cgroup rw,freezer\n"
                                "39 31 0:36 /docker/7 @/pids rw shared:3 - cgroup cgroup rw,pids\n"
                                "41 31 0:38 / @/unified rw - cgroup2 cgroup2 rw\n";
static const char v1_self[] = "8:pids:/docker/7/inner\n6:freezer:/\n4:memory:/job/9\n"
                              "1:cpu,cpuacct:/\n0::/\n";

static void set_up_v1(void)
{
    set_up_fake(v1_files, v1_mounts, v1_self);
    make_group("cpu");
    make_group("memory");
    make_group("memory/job");
    make_group("memory/job/9");
    make_group("freezer");
    make_group("pids");
    make_group("pids/inner");
}

static const struct cgroup_limits limits = { .memory_bytes = 1 << 28,
                                             .pids = 64,
                                             .cpu_milli = 1500 };

static void v1_makes_limited_groups_below_our_own_and_removes_them(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    struct cgroup *g;

    (void)state;
    set_up_v1();
    host = cgroup_host_new_at(SANDBOX_CGROUP_AUTO, "srv", &roots, &err);
    assert_ok(host, err);
    assert_int_equal(cgroup_host_mode(host), SANDBOX_CGROUP_V1);
    assert_string_equal(cgroup_host_describe(host), "v1: memory pids cpu cpuacct freezer");
    g = cgroup_new(host, &limits, &err);
    assert_ok(g, err);
    assert_int_equal(cgroup_clone_fd(g), -1);
    assert_file("memory/job/9/aios-srv-1/memory.limit_in_bytes", "268435456");
    assert_file("memory/job/9/aios-srv-1/memory.memsw.limit_in_bytes", "268435456");
    assert_file("pids/inner/aios-srv-1/pids.max", "64");
    assert_file("cpu/aios-srv-1/cpu.cfs_quota_us", "150000");
    assert_ok(cgroup_enter(host, g, &err), err);
    assert_file("freezer/aios-srv-1/tasks", "0");
    assert_ok(cgroup_enter(host, NULL, &err), err);
    assert_file("memory/job/9/tasks", "0");
    cgroup_free(g);
    assert_false(exists("memory/job/9/aios-srv-1"));
    assert_false(exists("cpu/aios-srv-1"));
    assert_false(exists("freezer/aios-srv-1"));
    assert_false(exists("pids/inner/aios-srv-1"));
}

static void v1_reads_usage_and_strikes(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    CLEANUP(cgroup_freep) struct cgroup *g = NULL;
    struct computer_usage usage = { 0 };
    struct computer_strikes strikes = { 0 };

    (void)state;
    set_up_v1();
    host = cgroup_host_new_at(SANDBOX_CGROUP_V1, "srv", &roots, &err);
    assert_ok(host, err);
    g = cgroup_new(host, &limits, &err);
    assert_ok(g, err);
    cgroup_usage(g, 1, &usage);
    assert_int_equal(usage.memory_bytes, 4096);
    assert_int_equal(usage.peak_memory_bytes, 8192);
    assert_int_equal(usage.pids, 7);
    assert_int_equal(usage.cpu_ns, 123456789);
    for (int i = 0; i < 2; i++) {
        cgroup_strikes(g, &strikes);
        assert_int_equal(strikes.oom, 3);
        assert_int_equal(strikes.pids, 2);
    }
}

static void v1_leaves_the_cpu_hierarchy_alone_without_a_cpu_limit(void **state)
{
    static const char mounts[] = "1 1 0:1 / @/cpu rw - cgroup cgroup rw,cpu\n"
                                 "2 1 0:2 / @/memory rw - cgroup cgroup rw,memory\n"
                                 "3 1 0:3 / @/pids rw - cgroup cgroup rw,pids\n";
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    CLEANUP(cgroup_freep) struct cgroup *g = NULL;
    struct cgroup_limits no_cpu = limits;

    (void)state;
    set_up_fake(v1_files, mounts, "3:pids:/\n2:memory:/\n1:cpu:/\n");
    make_group("cpu");
    make_group("memory");
    make_group("pids");
    no_cpu.cpu_milli = 0;
    host = cgroup_host_new_at(SANDBOX_CGROUP_V1, "srv", &roots, &err);
    assert_ok(host, err);
    g = cgroup_new(host, &no_cpu, &err);
    assert_ok(g, err);
    assert_false(exists("cpu/aios-srv-1"));
    assert_true(exists("memory/aios-srv-1"));
    assert_false(cgroup_freeze(g, true, 0)); /* there is no freezer */
}

static void v1_retries_a_removal_that_is_busy(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    struct cgroup *g;

    (void)state;
    set_up_v1();
    host = cgroup_host_new_at(SANDBOX_CGROUP_V1, "srv", &roots, &err);
    assert_ok(host, err);
    g = cgroup_new(host, &limits, &err);
    assert_ok(g, err);
    fake.busy = 3;
    cgroup_free(g);
    assert_int_equal(fake.busy, 0);
    assert_false(exists("memory/job/9/aios-srv-1"));
}

static void a_failed_group_leaves_nothing(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    static const char *const without_pids[] = { "tasks=", "cgroup.procs=", "memory.limit_in_bytes=",
                                                "memory.swappiness=", NULL };

    (void)state;
    set_up_v1();
    host = cgroup_host_new_at(SANDBOX_CGROUP_V1, "srv", &roots, &err);
    assert_ok(host, err);
    fake.files = without_pids;
    assert_null(cgroup_new(host, &limits, &err));
    assert_contains(err.text, "make group aios-srv-1");
    assert_false(exists("memory/job/9/aios-srv-1"));
    assert_false(exists("pids/inner/aios-srv-1"));
    error_clear(&err);
    fake.read_only = true;
    assert_null(cgroup_new(host, &limits, &err));
    assert_int_equal(err.os_errno, EROFS);
}

/* ---- version 2 ---- */

static const char v2_mounts[] = "9 1 0:1 / @/v2 rw - cgroup2 cgroup2 rw,nsdelegate\n";

static void v2_uses_a_folder_that_is_delegated_and_divided(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    CLEANUP(cgroup_freep) struct cgroup *g = NULL;
    struct computer_usage usage = { 0 };
    struct computer_strikes strikes = { 0 };
    char path[128];

    (void)state;
    set_up_fake(v2_files, v2_mounts, "0::/user/me\n");
    make_group("v2");
    make_group("v2/user");
    make_group("v2/user/me");
    (void)snprintf(path, sizeof path, "%s/v2/user/me/cgroup.subtree_control", fake.root);
    put(AT_FDCWD, path, "cpu memory pids\n");
    host = cgroup_host_new_at(SANDBOX_CGROUP_AUTO, "srv", &roots, &err);
    assert_ok(host, err);
    assert_int_equal(cgroup_host_mode(host), SANDBOX_CGROUP_V2);
    assert_contains(cgroup_host_describe(host), "/v2/user/me");
    put(AT_FDCWD, path, "cpu memory pids\n");
    g = cgroup_new(host, &(struct cgroup_limits){ .memory_bytes = 1 << 28, .pids = 64 }, &err);
    assert_ok(g, err);
    assert_true(cgroup_clone_fd(g) >= 0);
    assert_file("v2/user/me/aios-srv-1/memory.max", "268435456");
    assert_file("v2/user/me/aios-srv-1/memory.swap.max", "0");
    assert_file("v2/user/me/aios-srv-1/pids.max", "64");
    cgroup_usage(g, 1, &usage);
    assert_int_equal(usage.memory_bytes, 4096);
    assert_int_equal(usage.peak_memory_bytes, 8192);
    assert_int_equal(usage.cpu_ns, 5000);
    cgroup_strikes(g, &strikes);
    assert_int_equal(strikes.oom, 3);
    assert_int_equal(strikes.pids, 2);
}

static void v2_moves_itself_into_a_leaf_when_it_is_alone(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    char path[128], pid[16];

    (void)state;
    set_up_fake(v2_files, v2_mounts, "0::/me\n");
    make_group("v2");
    make_group("v2/me");
    (void)snprintf(path, sizeof path, "%s/v2/me/cgroup.procs", fake.root);
    (void)snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    put(AT_FDCWD, path, pid);
    host = cgroup_host_new_at(SANDBOX_CGROUP_V2, "srv", &roots, &err);
    assert_ok(host, err);
    assert_file("v2/me/aios-srv-0/cgroup.procs", "0");
    assert_true(exists("v2/me/cgroup.subtree_control"));
}

static void v2_says_why_it_cannot_be_used(void **state)
{
    static const struct {
        const char *label, *mounts, *self, *procs, *controllers, *want;
    } rows[] = {
        { "not mounted", "9 1 0:1 / @/v1 rw - cgroup cgroup rw,memory\n", "0::/me\n", "", "",
          "not mounted" },
        { "no controllers", v2_mounts, "0::/me\n", "", "cpu io\n", "lacks the memory and pids" },
        { "in company", v2_mounts, "0::/me\n", "1\n2\n", "memory pids\n", "other processes" },
        { "elsewhere", "9 1 0:1 /other @/v2 rw - cgroup2 cgroup2 rw\n", "0::/me\n", "", "",
          "outside what is mounted" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct cgroup_host *host;
        char path[128];

        set_up_fake(v2_files, rows[i].mounts, rows[i].self);
        make_group("v2");
        make_group("v2/me");
        (void)snprintf(path, sizeof path, "%s/v2/me/cgroup.procs", fake.root);
        put(AT_FDCWD, path, rows[i].procs);
        (void)snprintf(path, sizeof path, "%s/v2/me/cgroup.controllers", fake.root);
        put(AT_FDCWD, path, rows[i].controllers);
        host = cgroup_host_new_at(SANDBOX_CGROUP_V2, "srv", &roots, &err);
        if (host || err.code != ERR_UNSUPPORTED || !strstr(err.text, rows[i].want))
            fail_msg("%s: code %d (%s)", rows[i].label, err.code, err.text);
        error_clear(&err);
        host = cgroup_host_new_at(SANDBOX_CGROUP_AUTO, "srv", &roots, &err);
        assert_ok(host, err);
        assert_int_equal(cgroup_host_mode(host), SANDBOX_CGROUP_NONE);
        assert_contains(cgroup_host_describe(host), rows[i].want);
        cgroup_host_free(host);
        assert_int_equal(tear_down(state), 0);
    }
}

/* ---- none ---- */

static void none_watches_a_tree_and_counts_what_it_uses(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep)
    struct cgroup_host *host = cgroup_host_new(SANDBOX_CGROUP_NONE, "srv", &err);
    CLEANUP(cgroup_freep) struct cgroup *g = NULL;
    struct cgroup_limits cpu = limits;
    struct computer_usage usage = { 0 };

    (void)state;
    assert_ok(host, err);
    assert_null(cgroup_new(host, &cpu, &err));
    assert_code(err, ERR_UNSUPPORTED);
    error_clear(&err);
    cpu.cpu_milli = 0;
    g = cgroup_new(host, &cpu, &err);
    assert_ok(g, err);
    cgroup_usage(g, getpid(), &usage);
    assert_true(usage.pids >= 1);
    assert_true(usage.memory_bytes > 0);
    assert_true(usage.peak_memory_bytes >= usage.memory_bytes);
    assert_false(cgroup_freeze(g, true, 0));
}

static void none_kills_the_largest_process_of_a_tree_that_is_over(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep)
    struct cgroup_host *host = cgroup_host_new(SANDBOX_CGROUP_NONE, "srv", &err);
    CLEANUP(cgroup_freep) struct cgroup *g = NULL;
    struct computer_strikes strikes = { 0 };
    int ready[2], status = 0;
    pid_t init;
    char byte;

    (void)state;
    assert_ok(host, err);
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    init = fork();
    if (init == 0) {
        pid_t large = fork();

        if (large == 0) {
            char *memory = malloc(64 << 20);

            memset(memory, 7, 64 << 20);
            (void)!write(ready[1], "r", 1);
            pause();
            _exit(memory[5]);
        }
        (void)waitpid(large, &status, 0);
        _exit(WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    g = cgroup_new(host, &(struct cgroup_limits){ .memory_bytes = 32 << 20 }, &err);
    assert_ok(g, err);
    cgroup_started(g, init);
    assert_int_equal(waitpid(init, &status, 0), init);
    assert_int_equal(WEXITSTATUS(status), SIGKILL);
    cgroup_strikes(g, &strikes);
    assert_int_equal(strikes.oom, 1);
    close(ready[0]);
    close(ready[1]);
}

/* ---- what servers leave ---- */

static bool only_dead_is_dead(void *arg, const char *server)
{
    (*(int *)arg)++;
    return strcmp(server, "dead") != 0;
}

static void sweeps_groups_of_dead_servers_only(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    int asked = 0;

    (void)state;
    set_up_v1();
    make_group("memory/job/9/aios-dead-1");
    make_group("memory/job/9/aios-dead-22");
    make_group("memory/job/9/aios-alive-1");
    make_group("memory/job/9/aios-srv-1");
    make_group("memory/job/9/aios-dead-x");
    make_group("memory/job/9/other");
    make_group("pids/inner/aios-dead-1");
    host = cgroup_host_new_at(SANDBOX_CGROUP_V1, "srv", &roots, &err);
    assert_ok(host, err);
    cgroup_sweep(host, only_dead_is_dead, &asked);
    assert_true(asked >= 2);
    assert_false(exists("memory/job/9/aios-dead-1"));
    assert_false(exists("memory/job/9/aios-dead-22"));
    assert_false(exists("pids/inner/aios-dead-1"));
    assert_true(exists("memory/job/9/aios-alive-1"));
    assert_true(exists("memory/job/9/aios-srv-1"));
    assert_true(exists("memory/job/9/aios-dead-x"));
    assert_true(exists("memory/job/9/other"));
}

static void refuses_names_that_would_not_parse(void **state)
{
    static const char *const names[] = {
        "", "a-b", "a/b",
        "0123456789012345678901234567890123456789012345678901234567"
        "890123456789"
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct error err = ERROR_INIT;

        assert_null(cgroup_host_new(SANDBOX_CGROUP_NONE, names[i], &err));
        assert_code(err, ERR_INVALID);
    }
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    set_up_v1();
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct cgroup_host *host = cgroup_host_new_at(SANDBOX_CGROUP_V1, "srv", &roots, &err);
        struct cgroup *g = host ? cgroup_new(host, &limits, &err) : NULL;

        FAULT_DONE(n);
        if (!g)
            assert_code(err, ERR_NOMEM);
        cgroup_free(g);
        cgroup_host_free(host);
    }
}

/* ---- this machine's own hierarchies ---- */

static void *run_inside(void *arg)
{
    struct cgroup *g = arg;
    struct error err = ERROR_INIT;
    long pid = -1;

    if (!cgroup_enter(g->host, g, &err))
        return NULL;
    pid = fork();
    if (pid == 0) {
        for (;;)
            pause();
    }
    return cgroup_enter(g->host, NULL, &err) ? (void *)pid : NULL;
}

static void v1_of_this_machine_holds_freezes_and_kills(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep)
    struct cgroup_host *host = cgroup_host_new(SANDBOX_CGROUP_V1, "unittest", &err);
    struct cgroup *g;
    struct computer_usage usage = { 0 };
    pthread_t thread;
    void *pid = NULL;
    int status = 0;

    (void)state;
    if (!host)
        skip_because("%s", err.text);
    g = cgroup_new(host, &(struct cgroup_limits){ .memory_bytes = 64 << 20, .pids = 10 }, &err);
    assert_ok(g, err);
    assert_int_equal(pthread_create(&thread, NULL, run_inside, g), 0);
    assert_int_equal(pthread_join(thread, &pid), 0);
    assert_non_null(pid);
    cgroup_usage(g, (pid_t)(intptr_t)pid, &usage);
    assert_int_equal(usage.pids, 1);
    if (host->v1.of[CGROUP_FREEZER] >= 0) {
        int64_t deadline_ns = clock_add_ns(clock_now_ns(), 10 * CLOCK_NS_PER_S);

        assert_true(cgroup_freeze(g, true, deadline_ns));
    }
    /* Frozen as it is, it must end with its group. */
    cgroup_free(g);
    assert_int_equal(waitpid((pid_t)(intptr_t)pid, &status, 0), (pid_t)(intptr_t)pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(v1_makes_limited_groups_below_our_own_and_removes_them,
                                  tear_down),
        cmocka_unit_test_teardown(v1_reads_usage_and_strikes, tear_down),
        cmocka_unit_test_teardown(v1_leaves_the_cpu_hierarchy_alone_without_a_cpu_limit, tear_down),
        cmocka_unit_test_teardown(v1_retries_a_removal_that_is_busy, tear_down),
        cmocka_unit_test_teardown(a_failed_group_leaves_nothing, tear_down),
        cmocka_unit_test_teardown(v2_uses_a_folder_that_is_delegated_and_divided, tear_down),
        cmocka_unit_test_teardown(v2_moves_itself_into_a_leaf_when_it_is_alone, tear_down),
        cmocka_unit_test(v2_says_why_it_cannot_be_used),
        cmocka_unit_test(none_watches_a_tree_and_counts_what_it_uses),
        cmocka_unit_test(none_kills_the_largest_process_of_a_tree_that_is_over),
        cmocka_unit_test_teardown(sweeps_groups_of_dead_servers_only, tear_down),
        cmocka_unit_test(refuses_names_that_would_not_parse),
        cmocka_unit_test_teardown(survives_every_allocation_failure, tear_down),
        cmocka_unit_test(v1_of_this_machine_holds_freezes_and_kills),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
