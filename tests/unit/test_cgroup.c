#include "sandbox/cgroup.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "kernel/base/clock.h"
#include "tests/unit/fake_cgroup.h"

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
    assert_true(cgroup_enter(g));
    assert_file("freezer/aios-srv-1/tasks", "0");
    assert_file("memory/job/9/aios-srv-1/tasks", "0");
    cgroup_free(g);
    assert_false(exists("memory/job/9/aios-srv-1"));
    assert_false(exists("cpu/aios-srv-1"));
    assert_false(exists("freezer/aios-srv-1"));
    assert_false(exists("pids/inner/aios-srv-1"));
}

static void what_is_cloned_into_its_group_needs_it_first(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep)
    struct cgroup_host *host = cgroup_host_new(SANDBOX_CGROUP_AUTO, "srv", &err);

    (void)state;
    assert_ok(host, err);
    assert_false(cgroup_may_come_late(SANDBOX_CGROUP_V2));
    assert_true(cgroup_may_come_late(SANDBOX_CGROUP_V1));
    assert_true(cgroup_may_come_late(SANDBOX_CGROUP_NONE));
    if (cgroup_may_come_late(SANDBOX_CGROUP_AUTO))
        assert_int_not_equal(cgroup_host_mode(host), SANDBOX_CGROUP_V2);
    if (cgroup_host_mode(host) == SANDBOX_CGROUP_V1)
        assert_true(cgroup_may_come_late(SANDBOX_CGROUP_AUTO));
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

static void a_brief_group_is_neither_frozen_nor_counted(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    CLEANUP(cgroup_freep) struct cgroup *g = NULL;
    struct cgroup_limits brief = limits;
    struct computer_usage usage = { 0 };
    int doors[CGROUP_DOORS];
    size_t count = 0;

    (void)state;
    set_up_v1();
    brief.cpu_milli = 0;
    brief.brief = true;
    host = cgroup_host_new_at(SANDBOX_CGROUP_V1, "srv", &roots, &err);
    assert_ok(host, err);
    g = cgroup_new(host, &brief, &err);
    assert_ok(g, err);
    assert_true(exists("memory/job/9/aios-srv-1"));
    assert_true(exists("pids/inner/aios-srv-1"));
    assert_false(exists("cpu/aios-srv-1"));
    assert_false(exists("freezer/aios-srv-1"));
    assert_false(cgroup_freeze(g, true, 0));
    cgroup_usage(g, 1, &usage);
    assert_int_equal(usage.cpu_ns, 0);
    assert_ok(cgroup_open_doors(g, doors, &count, &err), err);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < count; i++)
        fd_close(doors[i]);
}

static void a_group_that_is_not_complete_has_no_doors(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep) struct cgroup_host *host = NULL;
    CLEANUP(cgroup_freep) struct cgroup *g = NULL;
    int doors[CGROUP_DOORS];
    size_t count = 0;

    (void)state;
    set_up_v1();
    host = cgroup_host_new_at(SANDBOX_CGROUP_V1, "srv", &roots, &err);
    assert_ok(host, err);
    g = cgroup_begin(host, &limits, &err);
    assert_ok(g, err);
    assert_false(cgroup_open_doors(g, doors, &count, &err));
    assert_int_equal(err.os_errno, ENOENT);
    assert_false(cgroup_enter(g));
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

/* ---- what servers leave ---- */

static bool only_dead_is_dead(void *arg, const char *server)
{
    (*(int *)arg)++;
    return strcmp(server, "dead") != 0;
}

static void age_group(const char *path)
{
    const struct timespec times[] = { { .tv_nsec = UTIME_OMIT },
                                      { .tv_sec = clock_wall_ns() / CLOCK_NS_PER_S - 3700 } };
    char full[400];

    (void)snprintf(full, sizeof full, "%s/%s", fake.root, path);
    assert_int_equal(utimensat(AT_FDCWD, full, times, 0), 0);
}

static void put_file(const char *path, const char *text)
{
    char full[400];

    (void)snprintf(full, sizeof full, "%s/%s", fake.root, path);
    put(AT_FDCWD, full, text);
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
    make_group("memory/job/9/aios-alive-2"); /* empty, and old */
    make_group("memory/job/9/aios-alive-3"); /* old, and somebody is in there */
    make_group("memory/job/9/aios-srv-1");
    make_group("memory/job/9/aios-dead-x");
    make_group("memory/job/9/other");
    make_group("pids/inner/aios-dead-1");
    make_group("freezer/aios-dead-22");
    make_group("pids/inner/aios-alive-1");
    make_group("pids/inner/aios-alive-2");
    make_group("pids/inner/aios-alive-3"); /* seven, as the files say */
    make_group("pids/inner/aios-srv-1");
    put_file("pids/inner/aios-alive-1/pids.current", "0\n"); /* but it is young */
    put_file("pids/inner/aios-alive-2/pids.current", "0\n");
    put_file("pids/inner/aios-srv-1/pids.current", "0\n");
    age_group("pids/inner/aios-alive-2");
    age_group("pids/inner/aios-alive-3");
    age_group("pids/inner/aios-srv-1");
    host = cgroup_host_new_at(SANDBOX_CGROUP_V1, "srv", &roots, &err);
    assert_ok(host, err);
    cgroup_sweep(host, only_dead_is_dead, &asked);
    assert_true(asked >= 2);
    assert_false(exists("memory/job/9/aios-dead-1"));
    assert_false(exists("memory/job/9/aios-dead-22"));
    assert_false(exists("pids/inner/aios-dead-1"));
    assert_false(exists("freezer/aios-dead-22"));
    assert_true(exists("memory/job/9/aios-alive-1"));
    assert_false(exists("memory/job/9/aios-alive-2"));
    assert_true(exists("memory/job/9/aios-alive-3"));
    assert_true(exists("memory/job/9/aios-srv-1"));
    assert_true(exists("memory/job/9/aios-dead-x"));
    assert_true(exists("memory/job/9/other"));
}

static void refuses_names_that_would_not_parse(void **state)
{
    char too_long[2 * CGROUP_SERVER_SIZE];
    const char *const names[] = { "", "a-b", "a/b", too_long };

    memset(too_long, 'x', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
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

static ino_t inode(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

static void the_usual_places_are_those_of_the_list_of_mounts(void **state)
{
    static const struct cgroup_roots listed = {
        .mountinfo = "/proc/self/mountinfo",
        .self = "/proc/self/cgroup",
    };
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep)
    struct cgroup_host *host = cgroup_host_new(SANDBOX_CGROUP_V1, "unittest", &err);
    CLEANUP(cgroup_host_freep)
    struct cgroup_host *same = cgroup_host_new_at(SANDBOX_CGROUP_V1, "unittest", &listed, NULL);
    char *self = fd_read_file(AT_FDCWD, listed.self, 65536, NULL, NULL);
    char *mounts = fd_read_file(AT_FDCWD, listed.mountinfo, 1 << 20, NULL, NULL), *usual;

    (void)state;
    assert_non_null(self);
    assert_non_null(mounts);
    usual = cgroup_usual_mounts("/sys/fs/cgroup", self);
    if (strstr(mounts, " / /sys/fs/cgroup/memory ") && strstr(mounts, " / /sys/fs/cgroup/pids ")) {
        assert_non_null(usual);
        assert_contains(usual, " / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    }
    free(usual);
    free(mounts);
    assert_int_equal(!host, !same);
    for (size_t i = 0; host && i < CGROUP_CONTROLLER_COUNT; i++) {
        const int a = host->v1.of[i], b = same->v1.of[i];

        assert_int_equal(a < 0, b < 0);
        if (a >= 0)
            assert_int_equal(inode(host->v1.trees[a].base_fd), inode(same->v1.trees[b].base_fd));
    }
    assert_null(cgroup_usual_mounts("/tmp", self)); /* no such file system is there */
    assert_null(cgroup_usual_mounts("/sys/fs/cgroup", "4:memory:/nowhere\n3:pids:/nowhere\n"));
    assert_null(cgroup_usual_mounts("/sys/fs/cgroup", ""));
    free(self);
}

/* A process that enters the groups of @g and waits there; it says through a pipe that it is in. */
static pid_t start_inside(const struct cgroup *g)
{
    char in = 0;
    int tell[2];
    pid_t pid;

    assert_int_equal(pipe(tell), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        in = cgroup_enter(g) ? 'y' : 'n';
        if (write(tell[1], &in, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(tell[1]);
    assert_int_equal(read(tell[0], &in, 1), 1);
    close(tell[0]);
    assert_int_equal(in, 'y');
    return pid;
}

static void v1_of_this_machine_holds_freezes_and_kills(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(cgroup_host_freep)
    struct cgroup_host *host = cgroup_host_new(SANDBOX_CGROUP_V1, "unittest", &err);
    struct cgroup *g;
    struct computer_usage usage = { 0 };
    pid_t pid;
    int status = 0;

    (void)state;
    if (!host)
        skip_because("%s", err.text);
    g = cgroup_new(host, &(struct cgroup_limits){ .memory_bytes = 64 << 20, .pids = 10 }, &err);
    assert_ok(g, err);
    pid = start_inside(g);
    cgroup_usage(g, pid, &usage);
    assert_int_equal(usage.pids, 1);
    if (host->v1.of[CGROUP_FREEZER] >= 0) {
        int64_t deadline_ns = clock_add_ns(clock_now_ns(), 10 * CLOCK_NS_PER_S);

        assert_true(cgroup_freeze(g, true, deadline_ns));
    }
    /* Frozen as it is, it must end with its group. */
    cgroup_free(g);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(v1_makes_limited_groups_below_our_own_and_removes_them,
                                  tear_down),
        cmocka_unit_test(what_is_cloned_into_its_group_needs_it_first),
        cmocka_unit_test_teardown(v1_reads_usage_and_strikes, tear_down),
        cmocka_unit_test_teardown(v1_leaves_the_cpu_hierarchy_alone_without_a_cpu_limit, tear_down),
        cmocka_unit_test_teardown(a_brief_group_is_neither_frozen_nor_counted, tear_down),
        cmocka_unit_test_teardown(a_group_that_is_not_complete_has_no_doors, tear_down),
        cmocka_unit_test_teardown(v1_retries_a_removal_that_is_busy, tear_down),
        cmocka_unit_test_teardown(a_failed_group_leaves_nothing, tear_down),
        cmocka_unit_test_teardown(sweeps_groups_of_dead_servers_only, tear_down),
        cmocka_unit_test(refuses_names_that_would_not_parse),
        cmocka_unit_test_teardown(survives_every_allocation_failure, tear_down),
        cmocka_unit_test(the_usual_places_are_those_of_the_list_of_mounts),
        cmocka_unit_test(v1_of_this_machine_holds_freezes_and_kills),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
