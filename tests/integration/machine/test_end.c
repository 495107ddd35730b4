/* How machines end, what is said of it, and that nothing is left. */
#include "tests/integration/machine/backend.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>

#include "sandbox/cgroup.h"
#include "vmctl/machine.h"

static const char *self; /* this program, which is its own server to be killed */

static int open_groups_and_world(void **state)
{
    char server[32];
    struct error err = ERROR_INIT;

    (void)snprintf(server, sizeof server, "ending%d", (int)getpid());
    groups = cgroup_host_new(SANDBOX_CGROUP_AUTO, server, &err);
    assert_ok(groups, err);
    return open_world(state);
}

static int close_both(void **state)
{
    int rc = close_world(state);

    cgroup_host_free(groups);
    return rc;
}

static pid_t pid_of(struct computer *c)
{
    return vm_pid(machine_of(c)->vm);
}

static struct wait within_ms(int ms)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + ms * CLOCK_NS_PER_MS };
}

static void await_lost(void)
{
    struct wait w = patience();

    while (!atomic_load(&told.lost)) {
        assert_true(wait_check(&w, NULL));
        (void)poll(NULL, 0, 5);
    }
}

static void a_qemu_that_is_killed_is_a_lost_computer(void **state)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct computer *c;
    (void)state;

    c = create(NULL);
    assert_int_equal(kill(pid_of(c), SIGKILL), 0);
    await_lost();
    assert_contains(told.why, "QEMU was killed by signal 9");
    assert_false(computer_checkpoint(c, "p_x", &w, &err));
    assert_code(err, ERR_LOST);
    computer_unref(c);
}

/* Every operation has its deadline, and the end does not wait for it. */
static void a_qemu_that_stands_still_costs_time_and_no_more(void **state)
{
    struct error err = ERROR_INIT;
    struct wait w;
    struct computer *c;
    (void)state;

    c = create(NULL);
    assert_int_equal(kill(pid_of(c), SIGSTOP), 0);
    w = within_ms(200);
    assert_false(computer_pause(c, &w, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    w = within_ms(200);
    assert_false(guest_ping(computer_guest(c), &w, &err));
    assert_code(err, ERR_TIMEOUT);
    computer_unref(c);
    assert_int_equal(atomic_load(&told.lost), 0);
}

/* A program is killed and not the guest. */
static void one_that_is_short_of_memory_goes_on_and_says_so(void **state)
{
    struct computer_strikes strikes;
    struct wait w = patience();
    struct computer *c;
    (void)state;

    c = create(NULL);
    computer_strikes(c, &strikes);
    assert_int_equal(strikes.oom, 0);
    /* Each holds what it has read until somebody takes it. */
    store_expect(c,
                 "for i in 1 2 3; do dd if=/dev/zero bs=100M count=1 2>/dev/null | sleep 4 & done; "
                 "wait; echo over",
                 "over\n");
    do { /* the console is another way than the guest's answer */
        computer_strikes(c, &strikes);
        assert_true(wait_check(&w, NULL));
        (void)poll(NULL, 0, 5);
    } while (strikes.oom == 0);
    store_expect(c, "echo alive", "alive\n");
    computer_unref(c);
}

/* The folder of a process's group that counts memory, or "". */
static void find_group(pid_t pid, char *buf, size_t size, bool *ret_v2)
{
    char path[40], *text, *line = NULL;

    (void)snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    text = fd_read_file(AT_FDCWD, path, 65536, NULL, NULL);
    *ret_v2 = cgroup_host_mode(groups) == SANDBOX_CGROUP_V2;
    if (text)
        line = strstr(text, *ret_v2 ? "0::/" : ":memory:/");
    buf[0] = '\0';
    if (line) {
        char *at = strchr(line, '/');

        at[strcspn(at, "\n")] = '\0';
        (void)snprintf(buf, size, "/sys/fs/cgroup%s%s", *ret_v2 ? "" : "/memory", at);
    }
    free(text);
}

static void a_qemu_that_grows_too_large_is_ended_and_that_is_said(void **state)
{
    char folder[300], path[340], limit[32];
    struct computer_usage usage;
    struct error err = ERROR_INIT;
    struct guest_run *run;
    struct wait w = patience();
    struct computer *c;
    bool v2;
    (void)state;

    c = create(NULL);
    assert_ok(computer_usage(c, &usage, &err), err);
    assert_true(usage.memory_bytes > 1u << 20 && usage.peak_memory_bytes >= usage.memory_bytes);
    find_group(pid_of(c), folder, sizeof folder, &v2);
    (void)snprintf(path, sizeof path, "%s/memory.%s", folder, v2 ? "max" : "limit_in_bytes");
    (void)snprintf(limit, sizeof limit, "%" PRIu64, usage.memory_bytes + (16u << 20));
    if (cgroup_host_mode(groups) == SANDBOX_CGROUP_NONE || access(path, W_OK) != 0) {
        print_message("no groups for memory here\n");
        computer_unref(c);
        return;
    }
    assert_true(fd_write_file(AT_FDCWD, path, limit, &err));
    run = machine_start(computer_guest(c), "dd if=/dev/zero of=/dev/null bs=100M count=1", false);
    UNCHECKED(guest_run_wait(run, 0, NULL, &w, &err));
    guest_run_unref(run);
    await_lost();
    assert_contains(told.why, "took more memory than the machine's limit");
    computer_unref(c);
    assert_int_not_equal(access(folder, F_OK), 0);
}

static void one_that_cannot_be_saved_goes_on(void **state)
{
    CLEANUP(fd_closep) int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct computer *c;
    struct vm *vm;
    (void)state;

    c = create(NULL);
    vm = machine_of(c)->vm;
    assert_true(full >= 0);
    assert_ok(vm_halt(vm, &w, &err), err);
    assert_false(machine_state_save(vm, full, &w, &err));
    assert_code(err, ERR_IO);
    error_clear(&err);
    assert_ok(vm_run(vm, &w, &err), err);
    store_expect(c, "echo alive", "alive\n");
    w = within_ms(0); /* no time at all */
    assert_false(computer_checkpoint(c, "p_never", &w, &err));
    assert_int_equal(access(kept, F_OK), 0);
    {
        CLEANUP(buf_fini) struct buf half = BUF_INIT;

        assert_true(buf_printf(&half, "%s/p_never.tmp-%d", kept, (int)getpid()));
        assert_int_not_equal(access(half.data, F_OK), 0);
    }
    store_expect(c, "echo alive", "alive\n");
    computer_unref(c);
}

/* ---- a server that is killed ---- */

/* Makes computers in every place, says where their QEMUs are, and waits for its end. */
static int serve(const char *folder)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct computer *one, *two;

    if (machine_open(&world))
        return 1;
    open_backend(folder);
    one = create(NULL);
    two = create(NULL);
    if (!computer_checkpoint(one, "tmp_left", &w, &err) || !computer_swap_out(two, &w, &err))
        return 2;
    (void)dprintf(1, "%d %d\n", (int)pid_of(one), (int)vm_pid(machine_backend(backend)->forks->vm));
    (void)poll(NULL, 0, PATIENCE_S * 1000);
    return 0;
}

static void await_gone(pid_t pid)
{
    struct wait w = patience();

    while (kill(pid, 0) == 0) {
        assert_true(wait_check(&w, NULL));
        (void)poll(NULL, 0, 5);
    }
}

static void a_killed_server_leaves_no_qemu_and_no_file(void **state)
{
    char *const argv[] = { (char *)unconst(self), (char *)unconst("serve"), folder_base, NULL };
    posix_spawn_file_actions_t actions;
    char text[64] = "";
    int out[2], count = 0;
    long one, fork_of_it;
    struct dirent *e;
    char *end;
    ssize_t n;
    pid_t pid;
    DIR *dir;
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    assert_int_equal(posix_spawn(&pid, self, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    fd_close(out[1]);
    n = read(out[0], text, sizeof text - 1);
    fd_close(out[0]);
    if (n <= 0)
        fail_msg("the server could not make its computers");
    one = strtol(text, &end, 10);
    fork_of_it = strtol(end, NULL, 10);
    assert_true(one > 1 && fork_of_it > 1);
    assert_int_equal(kill((pid_t)one, 0), 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    await_gone((pid_t)one);
    await_gone((pid_t)fork_of_it);
    dir = opendir(kept);
    assert_non_null(dir);
    while ((e = readdir(dir)))
        count += e->d_name[0] != '.';
    (void)closedir(dir);
    assert_int_equal(count, 0);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_qemu_that_is_killed_is_a_lost_computer),
        cmocka_unit_test(a_qemu_that_stands_still_costs_time_and_no_more),
        cmocka_unit_test(one_that_is_short_of_memory_goes_on_and_says_so),
        cmocka_unit_test(a_qemu_that_grows_too_large_is_ended_and_that_is_said),
        cmocka_unit_test(one_that_cannot_be_saved_goes_on),
        cmocka_unit_test(a_killed_server_leaves_no_qemu_and_no_file),
    };

    if (argc == 3 && !strcmp(argv[1], "serve"))
        return serve(argv[2]);
    self = "/proc/self/exe";
    return cmocka_run_group_tests(tests, open_groups_and_world, close_both);
}
