/* A virtual machine from its start to its end, with the real guest inside. */
#include "tests/integration/machine/machine.h"

#include "vmctl/accel.h"

static struct machine_world world;
static const char *missing;

static int open_world(void **state)
{
    (void)state;
    missing = machine_open(&world);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    machine_close(&world);
    return 0;
}

static void check_computer(struct guest *g)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct wire_stat st;

    assert_says(g, "true", false, "");
    assert_says(g, "echo $((6 * 7)); hostname", false, "42\ncomputer\n");
    assert_says(g, "test -t 0 && tty", true, "/dev/pts/0\r\n");
    assert_ok(guest_write_file(g, "/", "/tmp/file", "text", 4, 0644, WIRE_WRITE_CREATE, &w, &err),
              err);
    assert_says(g, "cat /tmp/file", false, "text");
    assert_ok(guest_read_file(g, "/", "/tmp/file", 0, 100, &out, &st, &w, &err), err);
    assert_string_equal(buf_str(&out), "text");
}

/* No network card, no disk of the host's, nothing to plug in: virtio, and what a PC cannot be
 * without. */
static void check_devices(struct guest *g, enum argv_machine kind)
{
    static const char *const forced[] = { "808629c0", "80862918" }; /* host bridge, ISA bridge */
    char *list = machine_hear(g, "cat /proc/bus/pci/devices 2>/dev/null || true", false);
    unsigned virtio = 0;

    for (char *line = list; *line;) {
        size_t len = strcspn(line, "\n");
        char id[9] = "";

        assert_true(len > 13);
        memcpy(id, line + 5, 8);
        if (!strncmp(id, "1af4", 4))
            virtio++;
        else if (strcmp(id, forced[0]) != 0 && strcmp(id, forced[1]) != 0)
            fail_msg("there is a device %s", id);
        line += len + (line[len] == '\n');
    }
    assert_int_equal(virtio, kind == ARGV_Q35 ? 1 : 0);
    free(list);
    assert_says(g, "cat /proc/net/dev | head -n 9 | while read a b; do echo $a; done", false,
                "Inter-|\nface\nlo:\n");
    assert_says(g,
                "ls /dev | cat | while read a; do case $a in vd*|sd*|hd*|fd[0-9]*|sr*) echo $a;; "
                "esac; done",
                false, "");
}

static struct vm *start(enum argv_machine kind, vm_ended_fn *on_ended, void *arg)
{
    struct vm_spec spec = machine_spec(&world);
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct vm *vm;

    if (missing)
        skip_because("no %s", missing);
    spec.argv.machine = kind;
    spec.argv.tsc_khz = accel_tsc_khz();
    vm = vm_start(&spec, on_ended, arg, &w, &err);
    assert_ok(vm, err);
    return vm;
}

static void boot(enum argv_machine kind)
{
    CLEANUP(vm_freep) struct vm *vm = NULL;
    CLEANUP(guest_freep) struct guest *g = NULL;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    int64_t begun_ns = clock_now_ns();

    vm = start(kind, NULL, NULL);
    assert_int_equal(vm_state(vm), VM_RUNNING);
    g = machine_meet(&world, vm);
    print_message("from the start to the guest's HELLO: %lld ms\n",
                  (long long)((clock_now_ns() - begun_ns) / CLOCK_NS_PER_MS));
    check_computer(g);
    check_devices(g, kind);
    assert_ok(vm_halt(vm, &w, &err), err);
    assert_int_equal(vm_state(vm), VM_PREPARED);
    assert_ok(vm_run(vm, &w, &err), err);
    assert_ok(guest_ping(g, &w, &err), err);
    assert_ok(vm_quit(vm, &w, &err), err);
    assert_int_equal(vm_state(vm), VM_ENDED);
}

static void a_q35_boots_to_the_guest_and_is_a_computer(void **state)
{
    (void)state;
    boot(ARGV_Q35);
}

static void a_microvm_boots_to_the_guest_and_is_a_computer(void **state)
{
    (void)state;
    boot(ARGV_MICROVM);
}

static void a_kernel_that_panics_ends_the_machine_and_is_heard(void **state)
{
    CLEANUP(vm_freep) struct vm *vm = NULL;
    CLEANUP(guest_freep) struct guest *g = NULL;
    CLEANUP(guest_run_unrefp) struct guest_run *run = NULL;
    CLEANUP(buf_fini) struct buf console = BUF_INIT;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct guest_run_info info;
    char why[300];
    (void)state;

    vm = start(ARGV_Q35, NULL, NULL);
    g = machine_meet(&world, vm);
    run = machine_start(g, "echo c >/proc/sysrq-trigger; echo no", false);
    assert_ok(vm_await_end(vm, &w, &err), err);
    vm_why(vm, why, sizeof why);
    assert_contains(why, "reset or was switched off");
    assert_true(vm_console(vm, 200, &console) > 0);
    assert_contains(buf_str(&console), "Kernel panic");
    UNCHECKED(guest_run_wait(run, 0, NULL, &w, &err));
    guest_run_info(run, &info);
    assert_int_equal(info.end, GUEST_RUN_LOST);
}

/* Whatever the verdict is, a machine boots with it. */
static void the_accelerator_that_is_chosen_boots(void **state)
{
    struct vm_spec spec = machine_spec(&world);
    struct accel_query query = {
        .program = world.qemu, .kernel_fd = world.kernel_fd, .boot = accel_boot, .arg = &spec
    };
    CLEANUP(vm_freep) struct vm *vm = NULL;
    CLEANUP(guest_freep) struct guest *g = NULL;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct accel_verdict v;
    int64_t begun_ns = clock_now_ns();
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    accel_choose(&query, &v, &w);
    print_message("%s after %lld ms: %s\n", v.accel == ARGV_KVM ? "KVM" : "TCG",
                  (long long)((clock_now_ns() - begun_ns) / CLOCK_NS_PER_MS), v.why);
    spec.argv.accel = v.accel;
    spec.extra_gid = v.accel == ARGV_KVM ? accel_group() : 0;
    vm = vm_start(&spec, NULL, NULL, &w, &err);
    assert_ok(vm, err);
    g = machine_meet(&world, vm);
    assert_says(g, "true", false, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_q35_boots_to_the_guest_and_is_a_computer),
        cmocka_unit_test(a_microvm_boots_to_the_guest_and_is_a_computer),
        cmocka_unit_test(a_kernel_that_panics_ends_the_machine_and_is_heard),
        cmocka_unit_test(the_accelerator_that_is_chosen_boots),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
