/* The back end whole: real namespaces, the real guest. */
#include "tests/unit/sandbox_world.h"

static void runs_programs_as_the_agent(void **state)
{
    struct computer *c = make(NULL, NULL);

    (void)state;
    assert_string_equal(computer_kind(c), "sandbox");
    assert_sh(c, "id -un; id -u; echo $HOME; hostname; pwd",
              "agent\n1000\n/home/agent\ncomputer\n/\n");
    assert_sh(c, "echo hello > /workspace/x && cat /workspace/x", "hello\n");
    assert_sh(c,
              "for d in ~ /tmp /var/tmp /opt /etc /usr/local/bin /dev/shm; do "
              "touch $d/t || echo $d; done",
              "");
    assert_sh(c, "ls /sys 2>/dev/null | wc -l", "0\n");
    computer_unref(c);
}

static void has_the_limits_that_were_asked_for(void **state)
{
    const struct computer_spec spec = { .memory_bytes = 128 << 20,
                                        .disk_bytes = 16 << 20,
                                        .pids = 40 };
    struct computer *c = make(&spec, NULL);
    struct computer_usage usage = { 0 };
    struct computer_strikes strikes;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(computer_spec(c)->memory_bytes, 128 << 20);
    assert_ok(computer_usage(c, &usage, &err), err);
    assert_true(usage.pids >= 1 && usage.pids < 5);
    assert_true(usage.memory_bytes > 0 && usage.memory_bytes < 64 << 20);
    assert_true(usage.disk_bytes < 1 << 20);
    computer_strikes(c, &strikes);
    assert_false(strikes.disk_full);
    assert_sh(c,
              "head -c 30000000 /dev/zero > /tmp/big 2>/dev/null; wc -c < /tmp/big | "
              "awk '{ print ($1 > 15000000 && $1 < 17000000) }'",
              "1\n");
    computer_strikes(c, &strikes);
    assert_true(strikes.disk_full);
    assert_ok(computer_usage(c, &usage, &err), err);
    assert_true(usage.disk_bytes > 15 << 20);
    assert_sh(c, "rm /tmp/big", "");
    computer_strikes(c, &strikes);
    assert_false(strikes.disk_full);
    computer_unref(c);
}

/* They are there before the first program is. */
static void the_limits_of_the_kernel_itself_are_lowered(void **state)
{
    static const struct computer_spec spec = { .memory_bytes = 128 << 20 };

    (void)state;
    for (int i = 0; i < 8; i++) {
        struct computer *c = make(&spec, NULL);

        assert_sh(c, "cd /proc/sys/user; cat max_inotify_instances max_inotify_watches",
                  "64\n65536\n");
        if (geteuid() == 0) /* who is nobody outside may not */
            assert_sh(c, "cat /proc/sys/kernel/shmall", "16384\n");
        computer_unref(c);
    }
}

static void programs_run_on_every_processor_that_is_ours(void **state)
{
    char *status = fd_read_file(AT_FDCWD, "/proc/thread-self/status", 65536, NULL, NULL);
    const char *ours = status ? strstr(status, "\nCpus_allowed:") : NULL;
    char want[1100];

    (void)state;
    assert_non_null(ours);
    (void)snprintf(want, sizeof want, "%.*s\n", (int)strcspn(ours + 1, "\n"), ours + 1);
    free(status);
    for (int i = 0; i < 8; i++) {
        struct computer *c = make(NULL, NULL);

        assert_sh(c, "grep Cpus_allowed: /proc/self/status", want);
        computer_unref(c);
    }
}

static void a_memory_bomb_ends_with_its_reason(void **state)
{
    const struct computer_spec spec = { .memory_bytes = 64 << 20, .disk_bytes = 4 << 20 };
    struct computer *c = make(&spec, NULL);
    struct outcome outcome = sh(c, "exec tail /dev/zero");
    struct computer_strikes strikes;

    (void)state;
    computer_strikes(c, &strikes);
    /* With cgroups it is killed for memory; with resource limits alone it cannot have more. */
    if (outcome.reason == RUN_EXIT)
        assert_int_not_equal(outcome.value, 0);
    else
        assert_int_equal(outcome.reason, RUN_OOM);
    if (geteuid() == 0) {
        assert_int_equal(outcome.reason, RUN_OOM);
        assert_true(strikes.oom >= 1);
    }
    assert_sh(c, "echo still here", "still here\n");
    computer_unref(c);
}

static void says_which_part_of_a_spec_is_wrong(void **state)
{
    static const char *const bad_rule[] = { "not a rule:x:y" };
    static const struct computer_dir no_dir = { .path = "/nowhere" };
    const struct {
        struct computer_spec spec;
        enum error_code want;
    } rows[] = {
        { { .memory_bytes = 1 }, ERR_INVALID },
        { { .dirs = &no_dir, .dir_count = 1 }, ERR_INVALID },
        { { .allow = bad_rule, .allow_count = 1 }, ERR_INVALID },
    };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_null(try_make(world.b, &rows[i].spec, NULL, &err));
        assert_code(err, rows[i].want);
        error_clear(&err);
    }
    assert_null(try_make(world.b, &(struct computer_spec){ .pids = 0 }, "k_none", &err));
    assert_code(err, ERR_NOT_FOUND);
}

static void shares_folders_of_the_host(void **state)
{
    char ro[128], rw[128], path[400];
    struct computer_dir dirs[2] = { { ro, false }, { rw, true } };
    const struct computer_spec spec = { .dirs = dirs, .dir_count = 2 };
    struct computer *c;
    struct stat st;

    (void)state;
    (void)snprintf(ro, sizeof ro, "%s/shared-ro", home);
    (void)snprintf(rw, sizeof rw, "%s/shared-rw", home);
    assert_int_equal(mkdir(ro, 0755), 0);
    assert_int_equal(mkdir(rw, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/file", ro);
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    c = make(&spec, NULL);
    (void)snprintf(path, sizeof path, "ls %s; touch %s/new 2>/dev/null || echo no", ro, ro);
    assert_sh(c, path, "file\nno\n");
    (void)snprintf(path, sizeof path, "cd %s && echo made > it && cat it", rw);
    assert_sh(c, path, "made\n");
    computer_unref(c);
    (void)snprintf(path, sizeof path, "%s/it", rw);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, geteuid());
}

static void pauses_and_resumes(void **state)
{
    struct computer *c = make(NULL, NULL);
    const struct run_spec spec = { .command = "i=0; while :; do i=$((i+1)); echo $i; done",
                                   .merge = true,
                                   .cwd = "/" };
    const struct wait w = in_seconds(20);
    struct error err = ERROR_INIT;
    struct run *run = run_start(c, &spec, &w, &err);
    uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
    struct computer_usage before = { 0 }, after = { 0 };
    struct run_info info;

    (void)state;
    assert_ok(run, err);
    assert_ok(guest_run_wait(run_guest(run), 1u << WIRE_STREAM_OUT, beyond, &w, &err), err);
    assert_ok(computer_pause(c, &w, &err), err);
    assert_ok(computer_pause(c, &w, &err), err);
    assert_ok(computer_usage(c, &before, &err), err);
    assert_ok(computer_usage(c, &after, &err), err);
    assert_ok(computer_resume(c, &w, &err), err);
    run_info(run, &info);
    beyond[WIRE_STREAM_OUT] = info.guest.total[WIRE_STREAM_OUT];
    assert_ok(guest_run_wait(run_guest(run), 1u << WIRE_STREAM_OUT, beyond, &w, &err), err);
    assert_ok(computer_pause(c, &w, &err), err);
    computer_unref(c); /* ends though it stands still */
    run_unref(run);
}

static void a_checkpoint_starts_others_and_forks_differ(void **state)
{
    const struct wait w = in_seconds(20);
    struct error err = ERROR_INIT;
    struct computer *first = make(NULL, NULL), *second, *third;

    (void)state;
    assert_sh(first,
              "echo one > ~/note; mkdir -p /workspace/d/e; ln -s d /workspace/link; "
              "rm -f /etc/services; echo x > /usr/local/bin/tool; "
              "chmod 755 /usr/local/bin/tool",
              "");
    assert_ok(computer_checkpoint(first, "k_first", &w, &err), err);
    assert_sh(first, "echo two > ~/note", "");
    second = make(NULL, "k_first");
    assert_sh(second,
              "cat ~/note; ls -F /workspace; test -x /usr/local/bin/tool && echo tool; "
              "ls /etc/services 2>/dev/null | wc -l",
              "one\nd/\nlink@\ntool\n0\n");
    assert_sh(second, "echo three > ~/note; rm -r /workspace/d", "");
    assert_sh(first, "cat ~/note; ls /workspace", "two\nd\nlink\n");
    assert_ok(computer_checkpoint(second, "k_second", &w, &err), err);
    assert_ok(world.b->checkpoint_remove(world.b, "k_first", &err), err);
    third = make(NULL, "k_second");
    /* What was removed is gone, and a new folder of that name starts empty. */
    assert_sh(third, "cat ~/note; ls -F /workspace; mkdir /workspace/d && ls /workspace/d",
              "three\nlink@\n");
    assert_null(try_make(world.b, &(struct computer_spec){ .pids = 0 }, "k_first", &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    assert_ok(world.b->checkpoint_remove(world.b, "k_second", &err), err);
    assert_sh(third, "cat ~/note", "three\n");
    computer_unref(first);
    computer_unref(second);
    computer_unref(third);
    {
        char path[200];

        (void)snprintf(path, sizeof path, "%s/checkpoints/k_first", state_dir);
        assert_int_not_equal(access(path, F_OK), 0);
        (void)snprintf(path, sizeof path, "%s/checkpoints/k_second", state_dir);
        assert_int_not_equal(access(path, F_OK), 0);
    }
}

static void a_chain_of_checkpoints_has_no_end(void **state)
{
    const struct wait w = in_seconds(60);
    struct error err = ERROR_INIT;
    struct computer *c = make(NULL, NULL);
    char id[32], old[32] = "", command[100];

    (void)state;
    for (int i = 0; i < 20; i++) {
        (void)snprintf(command, sizeof command, "echo %d > ~/f%d; rm -f ~/f%d", i, i, i - 2);
        assert_sh(c, command, "");
        (void)snprintf(id, sizeof id, "k_chain%d", i);
        assert_ok(computer_checkpoint(c, id, &w, &err), err);
        computer_unref(c);
        c = make(NULL, id);
        if (*old)
            assert_ok(world.b->checkpoint_remove(world.b, old, &err), err);
        memcpy(old, id, sizeof old);
    }
    assert_sh(c, "cat ~/f*", "18\n19\n");
    assert_ok(world.b->checkpoint_remove(world.b, old, &err), err);
    computer_unref(c);
}

static void a_refused_call_is_reported(void **state)
{
    struct computer *c = make(NULL, NULL);
    const struct wait w = in_seconds(20);

    (void)state;
    (void)sh(c, "mount -t tmpfs none /mnt");
    pthread_mutex_lock(&world.lock);
    while (!world.refused && wait_cond(&w, &world.changed, &world.lock))
        continue;
    pthread_mutex_unlock(&world.lock);
    assert_true(world.refused > 0);
    assert_string_equal(world.refused_name, "mount");
    computer_unref(c);
}

static void a_killed_guest_is_reported_as_lost(void **state)
{
    struct computer *c = make(NULL, NULL);
    const struct wait w = in_seconds(20);
    struct computer_usage usage;
    char reason[256];

    (void)state;
    world.lost = 0;
    guest_shutdown(computer_guest(c));
    pthread_mutex_lock(&world.lock);
    while (!world.lost && wait_cond(&w, &world.changed, &world.lock))
        continue;
    pthread_mutex_unlock(&world.lock);
    assert_int_equal(world.lost, 1);
    computer_lost_reason(c, reason, sizeof reason);
    assert_true(reason[0] != '\0');
    (void)!computer_usage(c, &usage, NULL);
    computer_unref(c);
}

static void a_computer_may_end_with_its_last_run(void **state)
{
    const struct computer_spec brief = { .brief = true };
    const struct run_spec spec = { .command = "sleep 1000 > /dev/null 2>&1 & exit 3",
                                   .last = true };
    const uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
    const struct wait w = in_seconds(30);
    struct computer *c = make(&brief, NULL);
    struct error err = ERROR_INIT;
    struct run *run;
    struct run_info info;

    (void)state;
    world.lost = 0;
    run = run_start(c, &spec, &w, &err);
    assert_ok(run, err);
    assert_ok(run_wait(run, 0, beyond, &w, &err), err);
    run_info(run, &info);
    assert_int_equal(info.reason, RUN_EXIT);
    assert_int_equal(info.value, 3);
    pthread_mutex_lock(&world.lock);
    while (!world.lost && wait_cond(&w, &world.changed, &world.lock))
        continue;
    assert_int_equal(world.lost, 1);
    pthread_mutex_unlock(&world.lock);
    run_unref(run);
    computer_unref(c);
}

static void nothing_outlives_the_computer(void **state)
{
    struct computer *c = make(NULL, NULL);
    struct computer_usage usage = { 0 };
    struct error err = ERROR_INIT;

    (void)state;
    (void)sh(c, "for i in 1 2 3 4 5; do (setsid sleep 1000 < /dev/null > /dev/null 2>&1 &) ; done");
    assert_ok(computer_usage(c, &usage, &err), err);
    assert_true(usage.pids >= 6);
    computer_destroy(c);
    assert_false(computer_usage(c, &usage, &err));
    assert_code(err, ERR_LOST);
    computer_unref(c);
}

static void the_pool_gives_what_was_asked_for(void **state)
{
    static const char *const env[] = { "COLOUR=green", NULL };
    const struct computer_spec with_env = { .env = env };
    struct sandbox_config pooled = config();
    struct error err = ERROR_INIT;
    struct computer_backend *b;

    (void)state;
    pooled.pool_size = 2;
    b = sandbox_backend_new(&pooled, &err);
    assert_ok(b, err);
    b->warm(b);
    for (int i = 0; i < 6; i++) {
        struct computer *c = try_make(b, &with_env, NULL, &err);

        assert_ok(c, err);
        assert_sh(c, "echo $COLOUR; ls ~ | wc -l; touch ~/mine", "green\n0\n");
        computer_unref(c);
    }
    b->free(b);
}

static void many_at_once(void **state)
{
    struct computer *c[24];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        c[i] = make(NULL, NULL);
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        assert_sh(c[i], "echo $((6 * 7))", "42\n");
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        computer_unref(c[i]);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        const struct sandbox_config c = config();
        struct computer_backend *b = sandbox_backend_new(&c, &err);

        FAULT_DONE(n);
        if (b)
            b->free(b);
        else
            assert_code(err, ERR_NOMEM);
    }
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct computer *c = try_make(world.b, &(struct computer_spec){ .pids = 64 }, NULL, &err);

        FAULT_DONE(n);
        if (!c)
            assert_int_not_equal(err.code, ERR_NONE);
        computer_unref(c);
    }
}

static void tell_check(void *arg, const struct sandbox_check *check)
{
    unsigned *seen = arg;

    (*seen)++;
    if (check->required && !check->ok)
        fail_msg("%s: %s", check->name, check->detail);
    assert_true(check->ok == !check->remedy[0]);
    print_message("%s: %s\n", check->name, check->detail);
}

static void the_doctor_finds_all_that_is_needed(void **state)
{
    const struct sandbox_config c = config();
    unsigned seen = 0;

    (void)state;
    sandbox_probe(&c, tell_check, &seen);
    assert_int_equal(seen, 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_programs_as_the_agent),
        cmocka_unit_test(has_the_limits_that_were_asked_for),
        cmocka_unit_test(the_limits_of_the_kernel_itself_are_lowered),
        cmocka_unit_test(programs_run_on_every_processor_that_is_ours),
        cmocka_unit_test(a_memory_bomb_ends_with_its_reason),
        cmocka_unit_test(says_which_part_of_a_spec_is_wrong),
        cmocka_unit_test(shares_folders_of_the_host),
        cmocka_unit_test(pauses_and_resumes),
        cmocka_unit_test(a_checkpoint_starts_others_and_forks_differ),
        cmocka_unit_test(a_chain_of_checkpoints_has_no_end),
        cmocka_unit_test(a_refused_call_is_reported),
        cmocka_unit_test(a_killed_guest_is_reported_as_lost),
        cmocka_unit_test(a_computer_may_end_with_its_last_run),
        cmocka_unit_test(nothing_outlives_the_computer),
        cmocka_unit_test(the_pool_gives_what_was_asked_for),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(survives_every_allocation_failure),
        cmocka_unit_test(the_doctor_finds_all_that_is_needed),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
