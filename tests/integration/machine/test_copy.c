/* Forks, checkpoints, and machines that go out to disk and come back. */
#include "tests/integration/machine/backend.h"

#define TRIES 5

static void save(struct computer *c, const char *id)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(computer_checkpoint(c, id, &w, &err), err);
}

static void swap_out(struct computer *c)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(computer_swap_out(c, &w, &err), err);
    assert_true(computer_is_swapped(c));
}

static void forget(const char *id)
{
    struct error err = ERROR_INIT;

    assert_ok(backend->checkpoint_remove(backend, id, &err), err);
}

static struct guest_run *start(struct computer *c, const char *script)
{
    const char *const argv[] = { "/bin/sh", "-c", script, NULL };
    const char *const env[] = { "PATH=/bin", NULL };
    struct guest_run_spec spec = {
        .argv = argv, .env = env, .cwd = "/workspace", .stdin_open = true
    };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct guest_run *run = guest_spawn(computer_guest(c), &spec, &w, &err);

    assert_ok(run, err);
    return run;
}

static void await_output(struct guest_run *run, const char *want)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    uint64_t offset = 0;

    while (!strstr(buf_str(&out), want)) {
        const uint64_t beyond[WIRE_STREAM_COUNT] = { [WIRE_STREAM_OUT] = offset };

        assert_ok(guest_run_wait(run, 1u << WIRE_STREAM_OUT, beyond, &w, &err), err);
        assert_true(guest_run_read(run, WIRE_STREAM_OUT, &offset, 65536, &out) >= 0);
    }
}

/* Says what it is told, for as long as it is told anything. */
#define ECHO "echo ready; while read x; do echo got $x; done"

static void tell(struct guest_run *run, const char *line, const char *answer)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(guest_run_write(run, WIRE_STREAM_MAIN, line, strlen(line), &w, &err), err);
    await_output(run, answer);
}

static void a_fork_has_the_files_and_not_the_programs(void **state)
{
    struct computer *c, *copy, *again;
    struct guest_run *run;
    char *programs;
    (void)state;

    c = create(NULL);
    store_expect(c,
                 "echo disk >d && echo memory >/tmp/m && dd if=/dev/urandom of=/tmp/big bs=1M "
                 "count=64 2>/dev/null",
                 "");
    run = start(c, ECHO);
    await_output(run, "ready\n");
    save(c, "tmp_one");
    copy = create("tmp_one");
    forget("tmp_one");
    store_expect(copy, "cat d /tmp/m", "disk\nmemory\n");
    programs = store_hear(copy, "ps");
    assert_contains(programs, "ps");
    assert_null(strstr(programs, "echo got"));
    free(programs);
    tell(run, "1\n", "got 1\n");
    store_expect(copy, "echo copy >d; rm /tmp/m; sync", "");
    store_expect(c, "cat d /tmp/m; echo source >d", "disk\nmemory\n");
    store_expect(copy, "cat d; hostname", "copy\ncomputer\n");
    swap_out(copy);
    store_expect(copy, "cat d", "copy\n");
    save(copy, "p_copy");
    save(copy, "tmp_two"); /* a copy of a copy */
    again = create("tmp_two");
    computer_unref(copy);
    store_expect(again, "cat d", "copy\n");
    copy = create("p_copy");
    forget("p_copy");
    store_expect(copy, "cat d", "copy\n");
    computer_unref(copy);
    tell(run, "2\n", "got 2\n");
    guest_run_unref(run);
    computer_unref(again);
    computer_unref(c);
}

static struct computer *create_limited(uint64_t disk_bytes, const char *checkpoint)
{
    const struct computer_spec spec = { .disk_bytes = disk_bytes };
    struct error err = ERROR_INIT;
    struct computer *c = try_create_as(&spec, checkpoint, &err);

    assert_ok(c, err);
    return c;
}

/* What was written before counts, whoever made the copy: of 16 MiB 8 are left, of 4 none. */
static void the_limit_on_the_disk_goes_with_what_was_written(void **state)
{
    static const char *const left = "dd if=/dev/zero of=b bs=1M count=12 2>/dev/null && echo more; "
                                    "rm b; dd if=/dev/zero of=b bs=1M count=7 2>/dev/null && rm b";
    static const struct {
        uint64_t disk_bytes;
        const char *script, *says;
    } rows[] = {
        { 16u << 20, left, "" },
        { 4u << 20, "echo x 2>/dev/null >b || rm a && echo x >b && cat b", "x\n" },
        { 0, "dd if=/dev/zero of=b bs=1M count=20 2>/dev/null", "" },
    };
    struct computer *c, *copy;
    (void)state;

    c = create_limited(16u << 20, NULL);
    store_expect(c, "dd if=/dev/zero of=a bs=1M count=8 2>/dev/null", "");
    save(c, "p_limited");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        save(c, "tmp_limited");
        copy = create_limited(rows[i].disk_bytes, "tmp_limited");
        forget("tmp_limited");
        store_expect(copy, rows[i].script, rows[i].says);
        computer_unref(copy);
        copy = create_limited(rows[i].disk_bytes, "p_limited");
        store_expect(copy, rows[i].script, rows[i].says);
        computer_unref(copy);
    }
    forget("p_limited");
    swap_out(c);
    store_expect(c, left, "");
    computer_unref(c);
}

/* The best of some tries: what else the machine does is no part of it. */
static void a_fork_takes_little_more_than_what_it_copies(void **state)
{
    int64_t bare_ns = INT64_MAX, saved_ns = INT64_MAX, made_ns = INT64_MAX, both_ns = INT64_MAX;
    struct computer *c;
    (void)state;

    c = create(NULL);
    store_expect(c, "dd if=/dev/urandom of=/tmp/big bs=1M count=64 2>/dev/null; true", "");
    for (int i = 0; i < TRIES; i++) {
        struct vm_spec spec = machine_spec(&world);
        struct wait w = patience();
        struct error err = ERROR_INIT;
        int64_t before = clock_now_ns();
        struct computer *copy;
        struct vm *bare;

        spec.argv.stopped = true;
        bare = vm_start(&spec, NULL, NULL, &w, &err);
        assert_ok(bare, err);
        bare_ns = MIN(bare_ns, clock_now_ns() - before);
        vm_free(bare);
        before = clock_now_ns();
        save(c, "tmp_fast");
        saved_ns = MIN(saved_ns, clock_now_ns() - before);
        copy = create("tmp_fast");
        made_ns = MIN(made_ns, clock_now_ns() - before);
        store_expect(copy, "true", "");
        store_expect(c, "true", "");
        both_ns = MIN(both_ns, clock_now_ns() - before);
        computer_unref(copy);
    }
    print_message("a fork with 64 MiB: the source goes on after %.0f ms, the copy is made after "
                  "%.0f ms, both have run `true` after %.0f ms; bare start %.0f ms\n",
                  (double)saved_ns / 1e6, (double)made_ns / 1e6, (double)both_ns / 1e6,
                  (double)bare_ns / 1e6);
    computer_unref(c);
}

static void a_fork_that_nobody_takes_is_gone(void **state)
{
    struct error err = ERROR_INIT;
    struct computer *c;
    (void)state;

    c = create(NULL);
    save(c, "tmp_x");
    forget("tmp_x");
    assert_null(try_create("tmp_x", &err));
    assert_code(err, ERR_NOT_FOUND);
    save(c, "tmp_y"); /* goes with the back end at the latest */
    store_expect(c, "echo here", "here\n");
    computer_unref(c);
}

static void what_is_under_way_survives_a_save(void **state)
{
    struct computer *c;
    struct guest_run *flood, *echo;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct guest_run_info info;
    (void)state;

    c = create(NULL);
    echo = start(c, ECHO);
    flood = start(c, "i=0; while test $i -lt 20000; do echo $i; i=$((i+1)); done");
    save(c, "tmp_busy");
    tell(echo, "1\n", "got 1\n");
    assert_ok(guest_run_wait(flood, 0, NULL, &w, &err), err);
    guest_run_info(flood, &info);
    assert_int_equal(info.end, GUEST_RUN_EXIT);
    assert_int_equal(info.total[WIRE_STREAM_OUT], 10 * 2 + 90 * 3 + 900 * 4 + 9000 * 5 + 10000 * 6);
    {
        struct computer *copy = create("tmp_busy");

        store_expect(copy, "echo quiet", "quiet\n");
        computer_unref(copy);
    }
    guest_run_unref(flood);
    guest_run_unref(echo);
    computer_unref(c);
}

/* By another server, long after the first has gone. */
static void a_checkpoint_outlives_its_server(void **state)
{
    struct error err = ERROR_INIT;
    struct computer *c, *first, *second;
    int64_t before;
    (void)state;

    c = create(NULL);
    store_expect(c, "echo disk >d && echo memory >/tmp/m && sync", "");
    before = clock_now_ns();
    save(c, "p_one");
    print_message("checkpoint: %d ms\n", (int)((clock_now_ns() - before) / CLOCK_NS_PER_MS));
    assert_false(
        computer_checkpoint(c, "p_one", &(struct wait){ .deadline_ns = CLOCK_NEVER }, &err));
    assert_code(err, ERR_EXISTS);
    computer_unref(c);
    backend->free(backend);
    open_backend(folder_base);
    first = create("p_one");
    before = clock_now_ns();
    second = create("p_one");
    print_message("restore: %d ms\n", (int)((clock_now_ns() - before) / CLOCK_NS_PER_MS));
    store_expect(first, "cat d /tmp/m; echo first >d", "disk\nmemory\n");
    store_expect(second, "cat d /tmp/m; echo second >d", "disk\nmemory\n");
    forget("p_one");
    store_expect(first, "cat d", "first\n"); /* who started from it does not need it any more */
    computer_unref(first);
    computer_unref(second);
    error_clear(&err);
    assert_null(try_create("p_one", &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    assert_false(backend->checkpoint_remove(backend, "p_one", &err));
    assert_code(err, ERR_NOT_FOUND);
}

static void change(const char *name, off_t at, bool cut)
{
    char path[400];
    char byte;
    int fd;

    (void)snprintf(path, sizeof path, "%s/p_hurt/%s", kept, name);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(cut ? ftruncate(fd, at) : pwrite(fd, &byte, 1, at) - 1, 0);
    fd_close(fd);
}

static void what_was_cut_or_flipped_is_refused(void **state)
{
    static const struct {
        const char *name;
        off_t at;
        bool cut;
        const char *says;
    } rows[] = {
        { "header", 10, false, "its header is not" },
        { "header", 100, false, "its header is not" },
        { "header", 90, true, "its header is not" },
        { "state", 5000, false, "its state is not" },
        { "state", 5000, true, "its state is cut" },
        { "disk", 65536, false, "its disk is not" },
        { "frozen", 65536, false, "its frozen is not" },
    };
    struct computer *c;
    (void)state;

    c = create(NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        save(c, "p_hurt");
        change(rows[i].name, rows[i].at, rows[i].cut);
        assert_null(try_create("p_hurt", &err));
        if (err.code != ERR_PROTOCOL || !strstr(err.text, rows[i].says))
            fail_msg("%s: %s", rows[i].says, err.text);
        forget("p_hurt");
    }
    computer_unref(c);
}

static void a_half_checkpoint_is_swept(void **state)
{
    char half[400], theirs[400];
    struct error err = ERROR_INIT;
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    (void)snprintf(half, sizeof half, "%s/p_a.tmp-1", kept);
    (void)snprintf(theirs, sizeof theirs, "%s/p_b", kept);
    assert_ok(fd_mkdirs(half, 0700, &err), err);
    assert_ok(fd_mkdirs(theirs, 0700, &err), err);
    backend->free(backend);
    open_backend(folder_base);
    assert_int_not_equal(access(half, F_OK), 0);
    assert_int_equal(access(theirs, F_OK), 0);
    assert_ok(fd_remove_tree(AT_FDCWD, theirs, &err), err);
}

static void out_on_disk_it_comes_back_with_the_next_byte(void **state)
{
    struct computer_usage usage;
    struct error err = ERROR_INIT;
    struct guest_run *run;
    struct computer *c;
    int64_t before;
    (void)state;

    c = create(NULL);
    store_expect(c, "echo memory >/tmp/m", "");
    run = start(c, ECHO);
    tell(run, "1\n", "got 1\n");
    for (int i = 2; i < 4; i++) {
        char line[16], answer[24];

        before = clock_now_ns();
        swap_out(c);
        print_message("out: %d ms\n", (int)((clock_now_ns() - before) / CLOCK_NS_PER_MS));
        assert_ok(computer_usage(c, &usage, &err), err);
        assert_int_equal(usage.memory_bytes, 0);
        assert_true(usage.disk_bytes > 1u << 20 && usage.cpu_ns > 0);
        assert_true(computer_is_swapped(c));
        (void)snprintf(line, sizeof line, "%d\n", i);
        (void)snprintf(answer, sizeof answer, "got %d\n", i);
        before = clock_now_ns();
        tell(run, line, answer); /* to the program that was there before */
        print_message("in: %d ms\n", (int)((clock_now_ns() - before) / CLOCK_NS_PER_MS));
    }
    store_expect(c, "cat /tmp/m", "memory\n");
    assert_false(computer_is_swapped(c));
    guest_run_unref(run);
    computer_unref(c);
}

struct chatter {
    struct guest *g;
    atomic_bool stop;
    atomic_uint answers;
    bool ok;
    struct error err;
};

static void *chat(void *arg)
{
    struct chatter *c = arg;

    c->ok = true;
    while (c->ok && !atomic_load(&c->stop)) {
        struct wait w = patience();

        c->ok = guest_ping(c->g, &w, &c->err);
        atomic_fetch_add(&c->answers, c->ok);
    }
    return NULL;
}

/* Whatever moment of the going out a request falls into, it is answered. */
static void what_is_asked_while_it_goes_out_is_answered(void **state)
{
    struct computer *c = create(NULL);
    struct chatter chatter = { .g = computer_guest(c) };
    pthread_t thread;
    (void)state;

    assert_int_equal(pthread_create(&thread, NULL, chat, &chatter), 0);
    for (int i = 0; i < 8; i++) {
        struct wait w = patience();
        struct error err = ERROR_INIT;
        unsigned before = atomic_load(&chatter.answers);

        assert_ok(computer_swap_out(c, &w, &err), err);
        while (atomic_load(&chatter.answers) < before + 3 && wait_check(&w, NULL))
            assert_true(wait_pause(&w, CLOCK_NS_PER_MS, NULL));
    }
    atomic_store(&chatter.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_ok(chatter.ok, chatter.err);
    computer_destroy(c);
    computer_unref(c);
}

static void the_clock_is_right_again_after_each_way_back(void **state)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct wire_stat st;
    struct computer *c;
    int64_t before;
    (void)state;

    c = create(NULL);
    swap_out(c);
    assert_ok(computer_pause(c, &w, &err), err); /* an operation brings it back, too */
    assert_false(computer_is_swapped(c));
    swap_out(c);
    assert_ok(computer_resume(c, &w, &err), err);
    before = clock_wall_ns();
    assert_ok(guest_write_file(computer_guest(c), "/", "/tmp/now", "x", 1, 0600, WIRE_WRITE_CREATE,
                               &w, &err),
              err);
    assert_ok(guest_stat(computer_guest(c), "/", "/tmp/now", false, &st, &w, &err), err);
    assert_true(before - (int64_t)st.mtime_ns <= 50 * CLOCK_NS_PER_MS);
    swap_out(c);
    save(c, "tmp_out");
    computer_unref(c);
    c = create("tmp_out");
    store_expect(c, "cat /tmp/now; echo", "x\n");
    computer_unref(c);
}

static void destroyed_on_disk_it_leaves_nothing(void **state)
{
    struct computer *c;
    (void)state;

    c = create(NULL);
    swap_out(c);
    computer_unref(c);
    c = create(NULL);
    swap_out(c);
    guest_shutdown(computer_guest(c)); /* brings it back while it is being destroyed */
    computer_unref(c);
    machine_pass(&world);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_has_the_files_and_not_the_programs),
        cmocka_unit_test(the_limit_on_the_disk_goes_with_what_was_written),
        cmocka_unit_test(a_fork_takes_little_more_than_what_it_copies),
        cmocka_unit_test(a_fork_that_nobody_takes_is_gone),
        cmocka_unit_test(what_is_under_way_survives_a_save),
        cmocka_unit_test(a_checkpoint_outlives_its_server),
        cmocka_unit_test(what_was_cut_or_flipped_is_refused),
        cmocka_unit_test(a_half_checkpoint_is_swept),
        cmocka_unit_test(out_on_disk_it_comes_back_with_the_next_byte),
        cmocka_unit_test(what_is_asked_while_it_goes_out_is_answered),
        cmocka_unit_test(the_clock_is_right_again_after_each_way_back),
        cmocka_unit_test(destroyed_on_disk_it_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
