/* Machines that wait in the pool of their image, and whoever takes them. */
#include "tests/integration/machine/machine.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>

#include "sandbox/cgroup.h"
#include "tests/support/folder.h"
#include "vmctl/machine.h"

#define QEMUS_MAX 8
#define STOOD_S   5 /* so long one stands still, so that its clock would show it */

static struct machine_world world;
static const char *missing;
static struct computer_backend *backend;
static struct cgroup_host *groups;
static char server[32];
static atomic_uint lost;

static void on_event(void *arg, struct computer *c, const struct computer_event *event)
{
    (void)arg;
    (void)c;
    if (event->kind == COMPUTER_EVENT_LOST)
        atomic_fetch_add(&lost, 1);
}

static struct computer_backend *open_backend(void)
{
    struct error err = ERROR_INIT;
    struct computer_backend *b =
        vmctl_backend_new(&(struct vmctl_config){ .loop = world.loop,
                                                  .cache_dir = folder_base,
                                                  .groups = groups,
                                                  .pool_size = 1,
                                                  .kernel_fd = world.kernel_fd,
                                                  .initrd_fd = world.initrd_fd,
                                                  .disk_fd = -1 },
                          &err);

    assert_ok(b, err);
    return b;
}

static int open_world(void **state)
{
    struct error err = ERROR_INIT;

    missing = machine_open(&world);
    if (missing)
        return 0;
    if (folder_make(state) != 0)
        return -1;
    (void)snprintf(server, sizeof server, "waiting%d", (int)getpid());
    groups = cgroup_host_new(SANDBOX_CGROUP_AUTO, server, &err);
    assert_ok(groups, err);
    backend = open_backend();
    return 0;
}

static int close_world(void **state)
{
    if (!missing) {
        if (backend)
            backend->free(backend);
        cgroup_host_free(groups);
        (void)folder_remove(state);
    }
    machine_close(&world);
    return 0;
}

/* *ret_waited: it was made before it was asked for. */
static struct computer *create(const struct computer_spec *spec, bool *ret_waited)
{
    const struct computer_hooks hooks = { .loop = world.loop, .on_event = on_event };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    int64_t before_ns = clock_now_ns();
    struct computer *c;

    if (missing)
        skip_because("no %s", missing);
    c = backend->create(backend, spec, NULL, &hooks, &w, &err);
    assert_ok(c, err);
    if (ret_waited)
        *ret_waited = computer_created_ns(c) < before_ns;
    return c;
}

static bool is_full(void)
{
    return pool_ready(machine_backend(backend)->images->pool) > 0;
}

static void await_full(void)
{
    static const struct computer_spec usual;
    struct wait w = patience();

    if (!missing && !machine_backend(backend)->images)
        computer_unref(create(&usual, NULL)); /* from now on one is wanted */
    if (missing)
        skip_because("no %s", missing);
    while (!is_full()) {
        assert_true(wait_check(&w, NULL));
        (void)poll(NULL, 0, 5);
    }
}

/* Our children that are QEMU. */
static size_t find_qemus(pid_t pids[QEMUS_MAX])
{
    DIR *dir = opendir("/proc");
    size_t count = 0;

    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[280], *stat;
        const char *at;

        if (e->d_name[0] < '1' || e->d_name[0] > '9')
            continue;
        (void)snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        stat = fd_read_file(AT_FDCWD, path, 4096, NULL, NULL);
        at = stat ? strrchr(stat, ')') : NULL;
        if (at && strstr(stat, "(qemu") && at[2] != 'Z' && strtol(at + 3, NULL, 10) == getpid()) {
            assert_true(count < QEMUS_MAX);
            pids[count++] = (pid_t)strtol(e->d_name, NULL, 10);
        }
        free(stat);
    }
    (void)closedir(dir);
    return count;
}

static void await_qemus(size_t count, pid_t pids[QEMUS_MAX])
{
    struct wait w = patience();

    while (find_qemus(pids) != count) {
        assert_true(wait_check(&w, NULL));
        (void)poll(NULL, 0, 5);
    }
}

/* No computer lives just now. */
static pid_t waiting_pid(void)
{
    pid_t pids[QEMUS_MAX];

    do {
        await_full();
        await_qemus(1, pids);
    } while (!is_full()); /* it was one that is only being made */
    return pids[0];
}

static uint64_t cpu_ticks(pid_t pid)
{
    char path[40], *stat;
    const char *at;
    uint64_t ticks = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    stat = fd_read_file(AT_FDCWD, path, 4096, NULL, NULL);
    at = stat ? strrchr(stat, ')') : NULL;
    for (int i = 0; at && i < 13; i++) {
        at = strchr(at + 1, ' ');
        if (at && i >= 11)
            ticks += strtoull(at + 1, NULL, 10);
    }
    free(stat);
    return ticks;
}

static void one_that_waited_is_like_any_other_and_knows_the_time(void **state)
{
    static const char *const env[] = { "TOLD=late", NULL };
    const struct computer_spec asked = { .env = env };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct computer_usage usage;
    struct computer *c;
    struct wire_stat st;
    int64_t before_ns;
    uint64_t spent;
    char **all;
    bool waited, told = false;
    pid_t pid;
    (void)state;

    pid = waiting_pid();
    spent = cpu_ticks(pid);
    (void)poll(NULL, 0, STOOD_S * 1000);
    /* Standing still is no work: a tenth of a second in five would be a clock that ticks. */
    assert_true(cpu_ticks(pid) - spent <= (uint64_t)sysconf(_SC_CLK_TCK) / 10);
    c = create(&asked, &waited);
    assert_true(waited);
    assert_int_equal(vm_pid(machine_of(c)->vm), pid);
    before_ns = clock_wall_ns();
    assert_ok(guest_write_file(computer_guest(c), "/", "/tmp/now", "x", 1, 0600, WIRE_WRITE_CREATE,
                               &w, &err),
              err);
    assert_ok(guest_stat(computer_guest(c), "/", "/tmp/now", false, &st, &w, &err), err);
    assert_true(before_ns - (int64_t)st.mtime_ns < (STOOD_S - 1) * CLOCK_NS_PER_S);
    assert_says(computer_guest(c), "echo hello; hostname", false, "hello\ncomputer\n");
    assert_int_equal(computer_spec(c)->memory_bytes, (uint64_t)MACHINE_USUAL_MIB << 20);
    assert_int_equal(computer_spec(c)->cpu_milli, 1000);
    all = computer_env(c, NULL, &err);
    assert_ok(all, err);
    for (char **at = all; *at; at++)
        told = told || !strcmp(*at, env[0]);
    free(all);
    assert_true(told);
    assert_ok(computer_usage(c, &usage, &err), err);
    assert_true(usage.memory_bytes > 1u << 20 && usage.cpu_ns > 0);
    computer_unref(c);
    assert_int_equal(atomic_load(&lost), 0);
}

static void no_two_are_alike(void **state)
{
    static const struct computer_spec usual;
    struct computer *all[2];
    char *said[2];
    (void)state;

    for (int i = 0; i < 2; i++) {
        bool waited;

        await_full();
        all[i] = create(&usual, &waited);
        assert_true(waited);
        said[i] =
            machine_hear(computer_guest(all[i]),
                         "cat /etc/machine-id; head -c 16 /dev/urandom | od -A n -t x1", false);
        assert_true(strlen(said[i]) > 33);
    }
    assert_int_not_equal(strncmp(said[0], said[1], 32), 0);
    assert_string_not_equal(said[0] + 33, said[1] + 33);
    for (int i = 0; i < 2; i++) {
        free(said[i]);
        computer_unref(all[i]);
    }
}

static void another_size_is_not_taken_from_it(void **state)
{
    static const struct computer_spec larger = { .memory_bytes = 320u << 20 };
    bool waited;
    (void)state;

    await_full();
    computer_unref(create(&larger, &waited));
    assert_false(waited);
}

static void one_that_dies_waiting_is_replaced(void **state)
{
    static const struct computer_spec usual;
    struct wait w = patience();
    struct computer *c;
    bool waited;
    pid_t dead;
    (void)state;

    dead = waiting_pid();
    assert_int_equal(kill(dead, SIGKILL), 0);
    while (kill(dead, 0) == 0) {
        assert_true(wait_check(&w, NULL));
        (void)poll(NULL, 0, 5);
    }
    assert_int_not_equal(waiting_pid(), dead);
    c = create(&usual, &waited);
    assert_true(waited);
    assert_says(computer_guest(c), "echo alive", false, "alive\n");
    computer_unref(c);
    assert_int_equal(atomic_load(&lost), 0); /* it was nobody's */
}

static void one_that_does_not_answer_is_not_handed_out(void **state)
{
    static const struct computer_spec usual;
    struct computer *c;
    bool waited;
    pid_t stopped;
    (void)state;

    stopped = waiting_pid();
    assert_int_equal(kill(stopped, SIGSTOP), 0);
    c = create(&usual, &waited);
    assert_false(waited);
    assert_says(computer_guest(c), "echo alive", false, "alive\n");
    computer_unref(c);
    assert_int_not_equal(waiting_pid(), stopped);
}

static void what_cannot_be_had_is_refused_all_the_same(void **state)
{
    static const char *const allow[] = { "no rule:at:all" };
    const struct computer_spec wrong = { .allow = allow, .allow_count = 1 };
    const struct computer_hooks hooks = { .loop = world.loop };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    (void)state;

    await_full();
    assert_null(backend->create(backend, &wrong, NULL, &hooks, &w, &err));
    assert_code(err, ERR_INVALID);
}

static bool is_grouped(pid_t pid)
{
    char path[40], want[48], *text;
    bool grouped;

    (void)snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    (void)snprintf(want, sizeof want, "aios-%s-", server);
    text = fd_read_file(AT_FDCWD, path, 65536, NULL, NULL);
    grouped = text && strstr(text, want);
    free(text);
    return grouped;
}

static void each_is_in_a_control_group_where_there_are_any(void **state)
{
    (void)state;
    assert_int_equal(is_grouped(waiting_pid()), cgroup_host_mode(groups) != SANDBOX_CGROUP_NONE);
}

/* Whatever it is just doing. */
static void it_ends_with_its_back_end(void **state)
{
    static const struct computer_spec usual;
    pid_t pids[QEMUS_MAX];
    (void)state;

    computer_unref(create(&usual, NULL));
    backend->free(STEAL(backend));
    await_qemus(0, pids);
    backend = open_backend();
    computer_unref(create(&usual, NULL));
    (void)poll(NULL, 0, 300); /* it has begun to make one */
    backend->free(STEAL(backend));
    await_qemus(0, pids);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_waited_is_like_any_other_and_knows_the_time),
        cmocka_unit_test(no_two_are_alike),
        cmocka_unit_test(another_size_is_not_taken_from_it),
        cmocka_unit_test(one_that_dies_waiting_is_replaced),
        cmocka_unit_test(one_that_does_not_answer_is_not_handed_out),
        cmocka_unit_test(what_cannot_be_had_is_refused_all_the_same),
        cmocka_unit_test(each_is_in_a_control_group_where_there_are_any),
        cmocka_unit_test(it_ends_with_its_back_end),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
