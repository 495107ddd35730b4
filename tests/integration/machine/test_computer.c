/* Virtual machines as computers: what the kernel and every tool see. */
#include "tests/integration/machine/store.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "kernel/computer/computer.h"

#define CLONES 3

static struct machine_world world;
static const char *missing;
static struct computer_backend *backend;

static struct told {
    atomic_uint lost;
    char why[600];
} told;

static void on_event(void *arg, struct computer *c, const struct computer_event *event)
{
    (void)c;
    if (event->kind != COMPUTER_EVENT_LOST)
        return;
    (void)snprintf(told.why, sizeof told.why, "%s", event->text);
    atomic_fetch_add(&((struct told *)arg)->lost, 1);
}

static int open_world(void **state)
{
    struct error err = ERROR_INIT;

    missing = machine_open(&world);
    if (missing)
        return 0;
    if (folder_make(state) != 0)
        return -1;
    backend = vmctl_backend_new(&(struct vmctl_config){ .loop = world.loop,
                                                        .cache_dir = folder_base,
                                                        .kernel_fd = world.kernel_fd,
                                                        .initrd_fd = world.initrd_fd,
                                                        .disk_fd = -1 },
                                &err);
    assert_ok(backend, err);
    return 0;
}

static int close_world(void **state)
{
    if (!missing) {
        backend->free(backend);
        (void)folder_remove(state);
    }
    machine_close(&world);
    return 0;
}

static struct computer *create(const struct computer_spec *spec)
{
    const struct computer_hooks hooks = { .loop = world.loop, .on_event = on_event, .arg = &told };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct computer *c;

    if (missing)
        skip_because("no %s", missing);
    c = backend->create(backend, spec, NULL, &hooks, &w, &err);
    assert_ok(c, err);
    return c;
}

static void is_a_computer_like_any_other(void **state)
{
    static const struct computer_spec spec;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct computer_usage usage;
    char accel[300];
    (void)state;

    c = create(&spec);
    vmctl_backend_accel(backend, accel, sizeof accel);
    print_message("%.100s\n", accel);
    assert_true(!strncmp(accel, "TCG: ", 5) || !strncmp(accel, "KVM: ", 5));
    assert_string_equal(computer_kind(c), "vm");
    assert_int_equal(computer_spec(c)->memory_bytes, 256u << 20);
    assert_int_equal(computer_spec(c)->cpu_milli, 1000);
    assert_says(computer_guest(c), "echo hello", false, "hello\n");
    assert_ok(computer_usage(c, &usage, &err), err);
    assert_true(usage.memory_bytes > 1u << 20 && usage.cpu_ns > 0);
    computer_destroy(c);
    assert_false(guest_ping(computer_guest(c), &w, &err));
    assert_code(err, ERR_LOST);
    assert_int_equal(atomic_load(&told.lost), 0);
}

static void several_live_beside_each_other(void **state)
{
    static const struct computer_spec spec;
    struct computer *all[CLONES];
    (void)state;

    for (int i = 0; i < CLONES; i++) {
        char script[64];

        all[i] = create(&spec);
        (void)snprintf(script, sizeof script, "echo %d >/tmp/me", i);
        assert_says(computer_guest(all[i]), script, false, "");
    }
    for (int i = 0; i < CLONES; i++) {
        char want[8];

        (void)snprintf(want, sizeof want, "%d\n", i);
        assert_says(computer_guest(all[i]), "cat /tmp/me", false, want);
        computer_unref(all[i]);
    }
}

/* The clock inside stands still meanwhile, and is right again afterwards. */
static void stands_still_and_goes_on(void **state)
{
    static const struct computer_spec spec;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    CLEANUP(guest_run_unrefp) struct guest_run *run = NULL;
    struct wait w = patience(), brief;
    struct error err = ERROR_INIT;
    struct guest_run_info info;
    struct wire_stat st;
    int64_t before;
    (void)state;

    c = create(&spec);
    assert_ok(computer_pause(c, &w, &err), err);
    brief = (struct wait){ .deadline_ns = clock_now_ns() + 200 * CLOCK_NS_PER_MS };
    assert_false(guest_ping(computer_guest(c), &brief, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    assert_ok(computer_resume(c, &w, &err), err);
    before = clock_wall_ns();
    assert_ok(guest_write_file(computer_guest(c), "/", "/tmp/now", "x", 1, 0600, WIRE_WRITE_CREATE,
                               &w, &err),
              err);
    assert_ok(guest_stat(computer_guest(c), "/", "/tmp/now", false, &st, &w, &err), err);
    assert_true(before - (int64_t)st.mtime_ns <= 50 * CLOCK_NS_PER_MS);
    run = machine_start(computer_guest(c), "true", false);
    assert_ok(guest_run_wait(run, 0, NULL, &w, &err), err);
    guest_run_info(run, &info);
    assert_int_equal(info.end, GUEST_RUN_EXIT);
}

static void another_size_is_a_machine_of_its_own(void **state)
{
    static const struct computer_spec spec = { .memory_bytes = 192u << 20, .cpu_milli = 1500 };
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    char *total;
    uint64_t kib;
    (void)state;

    c = create(&spec);
    assert_int_equal(computer_spec(c)->cpu_milli, 2000);
    total = machine_hear(computer_guest(c), "head -n 1 /proc/meminfo", false);
    kib = strtoull(total + strcspn(total, "0123456789"), NULL, 10);
    assert_true(kib > 100u << 10 && kib < 192u << 10);
    free(total);
    assert_says(computer_guest(c),
                "cat /proc/cpuinfo | while read a b; do case $a in processor) echo "
                "p;; esac; done",
                false, "p\np\n");
}

static void what_is_not_kept_is_refused(void **state)
{
    static const struct computer_dir dir = { .path = "/tmp" };
    static const struct {
        struct computer_spec spec;
        const char *checkpoint;
        const char *text;
        enum error_code code; /* 0: ERR_UNSUPPORTED */
    } rows[] = {
        { .spec = { .dirs = &dir, .dir_count = 1 }, .text = "no folders" },
        { .spec = { .disk_bytes = 1u << 20 },
          .text = "limit the computer's disk",
          .code = ERR_DENIED },
        { .checkpoint = "p_x", .text = "no checkpoint p_x", .code = ERR_NOT_FOUND },
    };
    const struct computer_hooks hooks = { .loop = world.loop, .on_event = on_event, .arg = &told };
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct wait w = patience();
        struct error err = ERROR_INIT;

        if (backend->create(backend, &rows[i].spec, rows[i].checkpoint, &hooks, &w, &err) ||
            err.code != (rows[i].code ? rows[i].code : ERR_UNSUPPORTED) ||
            !strstr(err.text, rows[i].text))
            fail_msg("%s: %s", rows[i].text, err.text);
    }
    machine_pass(&world); /* one that could not be made is nobody's to lose */
    assert_int_equal(atomic_load(&told.lost), 0);
}

static void await_lost(struct computer *c, const char *why)
{
    CLEANUP(guest_run_unrefp) struct guest_run *run = NULL;
    char reason[600];

    run = machine_start(computer_guest(c), "while :; do :; done", false);
    {
        struct wait w = patience();
        struct error err = ERROR_INIT;
        struct guest_run *doomed = machine_start(computer_guest(c), why, false);

        UNCHECKED(guest_run_wait(run, 0, NULL, &w, &err));
        guest_run_unref(doomed);
    }
    machine_pass(&world); /* the hook is called after those who wait */
    computer_lost_reason(c, reason, sizeof reason);
    assert_contains(reason, "reset or was switched off");
    assert_contains(reason, "console: ");
    assert_contains(reason, "Kernel panic");
    assert_int_equal(atomic_load(&told.lost), 1);
}

static void a_machine_that_panics_is_lost_with_its_last_lines(void **state)
{
    static const struct computer_spec spec;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    (void)state;

    c = create(&spec);
    await_lost(c, "echo c >/proc/sysrq-trigger");
}

/* ---- with a disk ---- */

static uint64_t sum_of(int fd)
{
    char block[65536];
    uint64_t sum = 14695981039346656037ull;
    ssize_t n;

    for (off_t at = 0; (n = pread(fd, block, sizeof block, at)) > 0; at += n) {
        for (ssize_t i = 0; i < n; i++)
            sum = (sum ^ (uint8_t)block[i]) * 1099511628211ull;
    }
    return sum;
}

static void each_has_a_disk_of_its_own_over_the_image(void **state)
{
    static const struct computer_spec usual, larger = { .memory_bytes = 320u << 20 };
    const struct computer_spec *const specs[] = { &usual, &usual, &larger };
    const char *const dirs[] = { NULL, folder_base };
    struct computer_backend *plain = backend;
    struct error err = ERROR_INIT;
    uint64_t before;
    int image;
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    image = store_make_disk("image", 64, false);
    if (image < 0)
        skip_because("no mke2fs");
    before = sum_of(image);
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++) {
        backend = vmctl_backend_new(&(struct vmctl_config){ .loop = world.loop,
                                                            .cache_dir = folder_base,
                                                            .overlay_dir = dirs[d],
                                                            .kernel_fd = world.kernel_fd,
                                                            .initrd_fd = world.initrd_fd,
                                                            .disk_fd = image },
                                    &err);
        assert_ok(backend, err);
        for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
            struct computer *c = create(specs[i]);
            char *mounts = machine_hear(computer_guest(c), "cat /proc/mounts", false);

            assert_contains(mounts, "/dev/vda / ext4 rw");
            free(mounts);
            assert_says(computer_guest(c),
                        "test ! -e /mark && echo mine >/mark && dd if=/dev/zero of=/big bs=1M "
                        "count=8 2>/dev/null && sync && cat /mark",
                        false, "mine\n");
            computer_unref(c);
        }
        backend->free(backend);
    }
    backend = plain;
    assert_true(sum_of(image) == before);
    fd_close(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_a_computer_like_any_other),
        cmocka_unit_test(several_live_beside_each_other),
        cmocka_unit_test(stands_still_and_goes_on),
        cmocka_unit_test(another_size_is_a_machine_of_its_own),
        cmocka_unit_test(what_is_not_kept_is_refused),
        cmocka_unit_test(each_has_a_disk_of_its_own_over_the_image),
        cmocka_unit_test(a_machine_that_panics_is_lost_with_its_last_lines),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
