/* Version 2, and doing without. */
#include "sandbox/cgroup.h"

#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/fake_cgroup.h"

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

static const struct cgroup_limits limits = { .memory_bytes = 1 << 28,
                                             .pids = 64,
                                             .cpu_milli = 1500 };

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(v2_uses_a_folder_that_is_delegated_and_divided, tear_down),
        cmocka_unit_test_teardown(v2_moves_itself_into_a_leaf_when_it_is_alone, tear_down),
        cmocka_unit_test(v2_says_why_it_cannot_be_used),
        cmocka_unit_test(none_watches_a_tree_and_counts_what_it_uses),
        cmocka_unit_test(none_kills_the_largest_process_of_a_tree_that_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
