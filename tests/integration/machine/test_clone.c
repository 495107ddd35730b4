/* Templates and their clones, with the real guest inside. */
#include "tests/integration/machine/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kernel/computer/pool.h"
#include "tests/support/folder.h"
#include "vmctl/accel.h"
#include "vmctl/template_store.h"

#define TRIES  7
#define ROUNDS 20

static struct machine_world world;
static const char *missing;
static struct template *templates[2]; /* by enum argv_machine */

static struct vm_spec spec_of(enum argv_machine kind)
{
    struct vm_spec spec = machine_spec(&world);

    spec.argv.machine = kind;
    spec.argv.tsc_khz = accel_tsc_khz();
    return spec;
}

static int open_world(void **state)
{
    (void)state;
    missing = machine_open(&world);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    template_unref(templates[0]);
    template_unref(templates[1]);
    machine_close(&world);
    return 0;
}

static struct template *template_of(enum argv_machine kind)
{
    if (missing)
        skip_because("no %s", missing);
    if (!templates[kind]) {
        struct vm_spec spec = spec_of(kind);
        struct wait w = patience();
        struct error err = ERROR_INIT;
        struct template_size size;
        int64_t t0 = clock_now_ns();

        templates[kind] = template_make(&spec, NULL, &w, &err);
        assert_ok(templates[kind], err);
        template_size(templates[kind], &size);
        print_message("a template: %.0f ms, memory %" PRIu64 " MiB, state %" PRIu64 " KiB\n",
                      (double)(clock_now_ns() - t0) / 1e6, size.memory_bytes >> 20,
                      size.state_bytes >> 10);
    }
    return templates[kind];
}

static int make_folder(void **state)
{
    (void)template_of(ARGV_Q35); /* its descriptors are not the test's */
    machine_pass(&world);
    return folder_make(state);
}

static int remove_folder(void **state)
{
    machine_pass(&world);
    return folder_remove(state);
}

struct clone {
    struct vm *vm;
    struct guest *g;
};

static struct clone clone_of(struct template *t, const char *name)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct clone c;

    c.vm = template_clone(t, NULL, NULL, &w, &err);
    assert_ok(c.vm, err);
    c.g = machine_meet(&world, c.vm);
    assert_ok(template_wake(c.g, name, &w, &err), err);
    return c;
}

static void clone_end(struct clone *c)
{
    guest_free(c->g);
    vm_free(c->vm);
}

/* ---- speed ---- */

/* The best of some tries: what else the machine does is no part of it. */
static void measure(enum argv_machine kind)
{
    struct template *t = template_of(kind);
    int64_t bare_ns = INT64_MAX, runs_ns = INT64_MAX, answers_ns = INT64_MAX, woken_ns = INT64_MAX;
    struct wait w = patience();
    struct error err = ERROR_INIT;

    for (int i = 0; i < TRIES; i++) {
        struct vm_spec bare = spec_of(kind);
        int64_t t0 = clock_now_ns();
        struct clone c;

        bare.argv.stopped = true;
        t0 = clock_now_ns();
        c.vm = vm_start(&bare, NULL, NULL, &w, &err);
        assert_ok(c.vm, err);
        bare_ns = MIN(bare_ns, clock_now_ns() - t0);
        vm_free(c.vm);

        t0 = clock_now_ns();
        c.vm = template_clone(t, NULL, NULL, &w, &err);
        assert_ok(c.vm, err);
        runs_ns = MIN(runs_ns, clock_now_ns() - t0);
        c.g = machine_meet(&world, c.vm);
        assert_ok(guest_ping(c.g, &w, &err), err);
        answers_ns = MIN(answers_ns, clock_now_ns() - t0);
        assert_ok(template_wake(c.g, "computer", &w, &err), err);
        woken_ns = MIN(woken_ns, clock_now_ns() - t0);
        clone_end(&c);
    }
    print_message("bare start %.1f ms; a clone runs after %.1f ms, answers after %.1f ms, is ready "
                  "for programs after %.1f ms\n",
                  (double)bare_ns / 1e6, (double)runs_ns / 1e6, (double)answers_ns / 1e6,
                  (double)woken_ns / 1e6);
    assert_true(answers_ns <= 3 * bare_ns);
}

static void a_clone_of_a_q35_answers_within_three_bare_starts(void **state)
{
    (void)state;
    measure(ARGV_Q35);
}

static void a_clone_of_a_microvm_answers_within_three_bare_starts(void **state)
{
    (void)state;
    measure(ARGV_MICROVM);
}

static uint64_t private_kib(pid_t pid)
{
    char path[64];
    char *text;
    uint64_t kib = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    text = fd_read_file(AT_FDCWD, path, 1u << 16, NULL, NULL);
    for (const char *at = text; at && (at = strstr(at, "\nPrivate_")); at++)
        kib += strtoull(at + strcspn(at + 1, ":") + 2, NULL, 10);
    free(text);
    return kib;
}

static void a_clone_is_small(void **state)
{
    struct clone a = clone_of(template_of(ARGV_Q35), "a");
    struct clone b = clone_of(template_of(ARGV_Q35), "b");
    (void)state;

    assert_says(b.g, "true", false, "");
    print_message("private memory of a further clone after `true`: %" PRIu64 " KiB\n",
                  private_kib(vm_pid(b.vm)));
    clone_end(&a);
    clone_end(&b);
}

/* ---- what clones do not share ---- */

static void clones_are_not_alike(void **state)
{
    static const char *const asked[] = { "head -c 16 /dev/urandom | od -A n -t x1",
                                         "cat /etc/machine-id", "hostname" };
    char *said[3][ARRAY_LEN(asked)];
    struct template *t = template_of(ARGV_Q35);
    (void)state;

    for (int i = 0; i < 3; i++) {
        char name[16];
        struct clone c;

        (void)snprintf(name, sizeof name, "clone-%d", i);
        c = clone_of(t, name);
        for (size_t k = 0; k < ARRAY_LEN(asked); k++)
            said[i][k] = machine_hear(c.g, asked[k], false);
        assert_int_equal(strlen(said[i][1]), 33);
        assert_int_equal(strncmp(said[i][2], name, strlen(name)), 0);
        clone_end(&c);
    }
    for (size_t k = 0; k < ARRAY_LEN(asked); k++) {
        assert_true(strcmp(said[0][k], said[1][k]) && strcmp(said[0][k], said[2][k]) &&
                    strcmp(said[1][k], said[2][k]));
        for (int i = 0; i < 3; i++)
            free(said[i][k]);
    }
}

/* Taken from within, between two looks at the host's clock. */
static void a_clone_knows_the_time(void **state)
{
    static const enum argv_machine kinds[] = { ARGV_Q35, ARGV_MICROVM };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct clone c = clone_of(template_of(kinds[i]), "clock");
        struct wait w = patience();
        struct error err = ERROR_INIT;
        struct wire_stat st;
        int64_t before, after, early, late;

        before = clock_wall_ns();
        assert_ok(guest_write_file(c.g, "/", "/tmp/now", "x", 1, 0600, WIRE_WRITE_CREATE, &w, &err),
                  err);
        after = clock_wall_ns();
        assert_ok(guest_stat(c.g, "/", "/tmp/now", false, &st, &w, &err), err);
        early = before - (int64_t)st.mtime_ns;
        late = (int64_t)st.mtime_ns - after;
        print_message("the clock is outside of what it must be by %.1f ms\n",
                      (double)MAX(MAX(early, late), 0) / 1e6);
        assert_true(MAX(early, late) <= 50 * CLOCK_NS_PER_MS);
        clone_end(&c);
    }
}

static void a_clone_writes_to_itself_alone(void **state)
{
    struct template *t = template_of(ARGV_Q35);
    struct clone a = clone_of(t, "a"), b;
    (void)state;

    assert_says(a.g, "dd if=/dev/zero of=/tmp/big bs=1M count=64 2>/dev/null; echo x >/tmp/mark",
                false, "");
    b = clone_of(t, "b");
    assert_says(b.g, "test ! -e /tmp/mark", false, "");
    assert_says(a.g, "cat /tmp/mark", false, "x\n");
    clone_end(&a);
    clone_end(&b);
}

static void a_template_cannot_be_written(void **state)
{
    struct template *t = template_of(ARGV_Q35);
    const int fds[] = { template_memory_fd(t), template_state_fd(t) };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        char path[40];
        int fd;

        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fds[i]);
        fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0); /* which is what QEMU does */
        assert_int_equal(pwrite(fd, "x", 1, 0), -1);
        assert_int_equal(errno, EPERM);
        assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
        assert_int_equal(ftruncate(fd, 0), -1);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, 0), -1);
        fd_close(fd);
    }
}

/* ---- kept on disk ---- */

static void a_kept_template_makes_clones_like_the_first(void **state)
{
    struct template *t = template_of(ARGV_Q35);
    struct vm_spec spec = spec_of(ARGV_Q35);
    CLEANUP(template_unrefp) struct template *again = NULL;
    int64_t key_ns, keep_ns, load_ns = INT64_MAX, t0;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct template_size size;
    char key[SHA256_HEX];
    struct clone c;
    (void)state;

    t0 = clock_now_ns();
    assert_ok(template_key(&spec, NULL, key, &w, &err), err);
    key_ns = clock_now_ns() - t0;
    t0 = clock_now_ns();
    assert_ok(template_keep(t, folder_base, key, &w, &err), err);
    keep_ns = clock_now_ns() - t0;
    for (int i = 0; i < TRIES; i++) {
        template_unref(again);
        t0 = clock_now_ns();
        again = template_load(folder_base, key, &spec, NULL, &w, &err);
        assert_ok(again, err);
        load_ns = MIN(load_ns, clock_now_ns() - t0);
    }
    template_size(again, &size);
    print_message("its key %.0f ms, kept in %.0f ms, loaded in %.0f ms: %" PRIu64 " MiB\n",
                  (double)key_ns / 1e6, (double)keep_ns / 1e6, (double)load_ns / 1e6,
                  size.memory_bytes >> 20);
    for (int i = 0; i < 2; i++) {
        c = clone_of(again, "again");
        assert_says(c.g, "hostname", false, "again\n");
        clone_end(&c);
    }
}

static int flip_a_bit(const char *key)
{
    char path[300], byte;
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s.template", folder_base, key);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 1 << 20), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 1 << 20), 1);
    fd_close(fd);
    return 0;
}

static void a_damaged_template_is_not_used(void **state)
{
    struct template *t = template_of(ARGV_Q35);
    struct vm_spec spec = spec_of(ARGV_Q35);
    struct wait w = patience();
    struct error err = ERROR_INIT;
    char key[SHA256_HEX];
    (void)state;

    assert_ok(template_key(&spec, NULL, key, &w, &err), err);
    assert_ok(template_keep(t, folder_base, key, &w, &err), err);
    flip_a_bit(key);
    assert_null(template_load(folder_base, key, &spec, NULL, &w, &err));
    assert_code(err, ERR_PROTOCOL);
    error_clear(&err);
    assert_null(template_load(folder_base, key, &spec, NULL, &w, &err));
    assert_code(err, ERR_NOT_FOUND);
}

/* ---- from a pool ---- */

/* As a back end makes them: woken, warmed, and then halted, so that they cost no time while they
 * wait. */
static void *pool_make(void *arg, const struct wait *w, struct error *err)
{
    static const struct guest_events no_events = { .on_lost = NULL };
    CLEANUP(vm_freep) struct vm *vm = template_clone(arg, NULL, NULL, w, err);
    CLEANUP(guest_freep) struct guest *g = NULL;
    struct clone *c;

    if (!vm)
        return NULL;
    g = guest_new(world.loop, vm_take_stream(vm), &no_events, NULL, err);
    if (!g || !template_wake(g, "pooled", w, err))
        return NULL;
    template_warm(g, w);
    if (!vm_halt(vm, w, err))
        return NULL;
    c = calloc(1, sizeof *c);
    assert_non_null(c);
    *c = (struct clone){ .vm = STEAL(vm), .g = STEAL(g) };
    return c;
}

static bool pool_alive(void *arg, void *item)
{
    (void)arg;
    return vm_state(((struct clone *)item)->vm) == VM_PREPARED;
}

static void pool_kill(void *arg, void *item)
{
    (void)arg;
    vm_kill(((struct clone *)item)->vm);
}

static void pool_destroy(void *arg, void *item)
{
    (void)arg;
    clone_end(item);
    free(item);
}

static void one_from_the_pool_is_ready_at_once(void **state)
{
    const struct pool_config config = { .size = 1,
                                        .make = pool_make,
                                        .alive = pool_alive,
                                        .kill = pool_kill,
                                        .destroy = pool_destroy,
                                        .arg = template_of(ARGV_Q35),
                                        .make_ns = PATIENCE_S * CLOCK_NS_PER_S,
                                        .memory_each = 64u << 20 };
    int64_t taken_ns = INT64_MAX, first_ns = INT64_MAX, live_ns = INT64_MAX;
    struct error err = ERROR_INIT;
    struct pool *p = pool_new(&config, &err);
    (void)state;

    assert_ok(p, err);
    assert_true(pool_start(p));
    for (int i = 0; i < TRIES; i++) {
        struct wait w = patience();
        int64_t t0, t1, t2, t3;
        struct clone *c;

        while (!pool_ready(p))
            (void)poll(NULL, 0, 5);
        t0 = clock_now_ns();
        c = pool_take(p);
        assert_non_null(c);
        assert_ok(vm_run(c->vm, &w, &err), err);
        assert_ok(guest_set_time(c->g, clock_wall_ns(), &w, &err), err);
        t1 = clock_now_ns();
        assert_says(c->g, "echo", false, "\n");
        t2 = clock_now_ns();
        assert_says(c->g, "echo", false, "\n");
        t3 = clock_now_ns();
        taken_ns = MIN(taken_ns, t1 - t0);
        first_ns = MIN(first_ns, t2 - t0);
        live_ns = MIN(live_ns, t3 - t2);
        pool_destroy(NULL, c);
    }
    print_message("from the pool: taken and going on after %.1f ms, a run has ended after %.1f ms, "
                  "the next run takes %.1f ms\n",
                  (double)taken_ns / 1e6, (double)first_ns / 1e6, (double)live_ns / 1e6);
    pool_free(p);
}

/* ---- the end ---- */

static int open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    while (dir && readdir(dir))
        count++;
    (void)closedir(dir);
    return count;
}

static void rounds_leave_nothing(void **state)
{
    struct template *t = template_of(ARGV_Q35);
    int before;
    (void)state;

    machine_pass(&world);
    before = open_fds();
    for (int i = 0; i < ROUNDS; i++) {
        struct clone c = clone_of(t, "round");

        assert_says(c.g, "true", false, "");
        clone_end(&c);
    }
    machine_pass(&world);
    assert_int_equal(open_fds(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child, dead or alive */
}

/* Nothing answers then, and yet nobody waits longer than he wants to, and it ends. */
static void a_qemu_that_stands_still_holds_nobody_up(void **state)
{
    struct clone c = clone_of(template_of(ARGV_Q35), "stopped");
    struct error err = ERROR_INIT;
    struct wait brief;
    int64_t t0;
    pid_t pid = vm_pid(c.vm);
    (void)state;

    assert_int_equal(kill(pid, SIGSTOP), 0);
    brief = (struct wait){ .deadline_ns = clock_now_ns() + 100 * CLOCK_NS_PER_MS };
    assert_false(guest_ping(c.g, &brief, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    brief.deadline_ns = clock_now_ns() + 100 * CLOCK_NS_PER_MS;
    assert_false(vm_halt(c.vm, &brief, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    brief.deadline_ns = clock_now_ns() + 100 * CLOCK_NS_PER_MS;
    assert_false(qmp_call_oob(vm_qmp(c.vm), "query-status", NULL, NULL, &brief, &err));
    t0 = clock_now_ns();
    clone_end(&c);
    print_message("a stopped QEMU is gone after %.1f ms\n", (double)(clock_now_ns() - t0) / 1e6);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void a_qemu_that_dies_is_a_lost_guest(void **state)
{
    struct clone c = clone_of(template_of(ARGV_Q35), "victim");
    struct wait w = patience();
    struct error err = ERROR_INIT;
    char why[200];
    (void)state;

    assert_int_equal(kill(vm_pid(c.vm), SIGKILL), 0);
    assert_ok(vm_await_end(c.vm, &w, &err), err);
    vm_why(c.vm, why, sizeof why);
    assert_string_equal(why, "QEMU was killed by signal 9");
    assert_false(guest_ping(c.g, &w, &err));
    assert_code(err, ERR_LOST);
    clone_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clone_of_a_q35_answers_within_three_bare_starts),
        cmocka_unit_test(a_clone_of_a_microvm_answers_within_three_bare_starts),
        cmocka_unit_test(a_clone_is_small),
        cmocka_unit_test(clones_are_not_alike),
        cmocka_unit_test(a_clone_knows_the_time),
        cmocka_unit_test(a_clone_writes_to_itself_alone),
        cmocka_unit_test(a_template_cannot_be_written),
        cmocka_unit_test_setup_teardown(a_kept_template_makes_clones_like_the_first, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_damaged_template_is_not_used, make_folder, remove_folder),
        cmocka_unit_test(one_from_the_pool_is_ready_at_once),
        cmocka_unit_test(rounds_leave_nothing),
        cmocka_unit_test(a_qemu_that_stands_still_holds_nobody_up),
        cmocka_unit_test(a_qemu_that_dies_is_a_lost_guest),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
