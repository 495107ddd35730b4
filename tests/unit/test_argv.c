#include "tests/support/check.h"

#include <stdio.h>

#include "vmctl/argv.h"

static const struct argv_spec small = {
    .program = "qemu-system-x86_64",
    .machine = ARGV_MICROVM,
    .accel = ARGV_KVM,
    .memory_mib = 256,
    .cpus = 1,
    .kernel_fd = 10,
    .initrd_fd = 11,
    .qmp_fd = 3,
    .guest_fd = 4,
    .console_fd = 5,
    .ram_fd = -1,
    .disk_fd = -1,
    .disk_frozen_fd = -1,
    .disk_base_fd = -1,
};

#define SECCOMP "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
#define STATE   ",suppress-vmdesc=on,memory-backend=ram\n-global\nmigration.send-configuration=off\n"
#define WORDS   "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t random.trust_cpu=on"

/* One argument a line, so that a failing test shows which. */
static void assert_line(const struct argv_spec *spec, const char *want)
{
    CLEANUP(buf_fini) struct buf got = BUF_INIT;
    CLEANUP(argv_freep) char **argv = NULL;
    struct error err = ERROR_INIT;

    argv = argv_make(spec, &err);
    assert_ok(argv, err);
    for (char **at = argv; *at; at++)
        assert_true(buf_printf(&got, "%s\n", *at));
    assert_string_equal(buf_str(&got), want);
}

static void a_microvm_with_nothing_but_its_three_sockets(void **state)
{
    (void)state;
    assert_line(&small,
                "qemu-system-x86_64\n-nodefaults\n-no-user-config\n-no-reboot\n-display\nnone\n"
                "-sandbox\n" SECCOMP "\n"
                "-machine\nmicrovm,acpi=on,pit=off,pic=off,rtc=on,usb=off" STATE
                "-accel\nkvm\n-cpu\nhost,arch-capabilities=off\n-smp\n1\n-m\n256M\n"
                "-object\nmemory-backend-ram,id=ram,size=256M\n"
                "-kernel\n/proc/self/fd/10\n-initrd\n/proc/self/fd/11\n-append\n" WORDS "\n"
                "-chardev\nsocket,id=qmp,fd=3\n-mon\nchardev=qmp,mode=control\n"
                "-chardev\nsocket,id=console,fd=5\n-serial\nchardev:console\n"
                "-chardev\nsocket,id=guest,fd=4\n-device\nvirtio-serial-device,max_ports=2\n"
                "-device\nvirtserialport,nr=1,name=aios,chardev=guest\n");
}

static void a_clone_of_a_q35_with_a_disk(void **state)
{
    struct argv_spec spec = small;
    (void)state;

    spec.machine = ARGV_Q35;
    spec.accel = ARGV_TCG;
    spec.firmware = "/fw";
    spec.memory_mib = 512;
    spec.cpus = 2;
    spec.append = "aios.root=/dev/vda";
    spec.ram_fd = 12;
    spec.disk_fd = 13;
    spec.disk_frozen_fd = 14;
    spec.disk_base_fd = 15;
    spec.incoming = true;
    spec.stopped = true;
    assert_line(
        &spec, "qemu-system-x86_64\n-nodefaults\n-no-user-config\n-no-reboot\n-L\n/fw\n"
               "-display\nnone\n-sandbox\n" SECCOMP "\n"
               "-machine\nq35,usb=off,sata=off,smbus=off,vmport=off" STATE
               "-accel\ntcg,tb-size=64\n-cpu\nmax,la57=off\n-smp\n2\n-m\n512M\n"
               "-object\nmemory-backend-file,id=ram,size=512M,mem-path=/proc/self/fd/12,share=off\n"
               "-kernel\n/proc/self/fd/10\n-initrd\n/proc/self/fd/11\n"
               "-append\n" WORDS " aios.root=/dev/vda\n"
               "-chardev\nsocket,id=qmp,fd=3\n-mon\nchardev=qmp,mode=control\n"
               "-chardev\nsocket,id=console,fd=5\n-serial\nchardev:console\n"
               "-chardev\nsocket,id=guest,fd=4\n-device\nvirtio-serial-pci,max_ports=2\n"
               "-device\nvirtserialport,nr=1,name=aios,chardev=guest\n"
               "-add-fd\nfd=15,set=15\n-blockdev\ndriver=raw,node-name=base,read-only=on,"
               "file.driver=file,file.locking=off,file.filename=/dev/fdset/15\n"
               "-add-fd\nfd=14,set=14\n-blockdev\ndriver=qcow2,node-name=frozen,read-only=on,"
               "file.driver=file,file.locking=off,file.filename=/dev/fdset/14,backing=base\n"
               "-add-fd\nfd=13,set=13\n-blockdev\ndriver=qcow2,node-name=disk,read-only=off,"
               "file.driver=file,file.locking=off,file.filename=/dev/fdset/13,backing=frozen\n"
               "-device\nvirtio-blk-pci,drive=disk\n"
               "-incoming\ndefer\n-S\n");
}

static void a_screen_comes_with_a_keyboard_and_a_pointer_and_nothing_else(void **state)
{
    CLEANUP(argv_freep) char **without = NULL;
    CLEANUP(argv_freep) char **with = NULL;
    static const char *const more[] = {
        "-device", "virtio-gpu-pci,xres=1280,yres=800,max_hostmem=134217728",
        "-device", "virtio-keyboard-pci",
        "-device", "virtio-tablet-pci"
    };
    struct argv_spec spec = small;
    struct error err = ERROR_INIT;
    size_t n = 0;
    (void)state;

    spec.machine = ARGV_Q35;
    spec.accel = ARGV_TCG;
    without = argv_make(&spec, &err);
    assert_ok(without, err);
    spec.screen = true;
    with = argv_make(&spec, &err);
    assert_ok(with, err);
    for (; without[n]; n++)
        assert_string_equal(with[n],
                            strstr(without[n], "tb-size") ? "tcg,tb-size=256" : without[n]);
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        assert_string_equal(with[n + i], more[i]);
    assert_null(with[n + ARRAY_LEN(more)]);
}

static void the_longest_line_fits(void **state)
{
    struct argv_spec spec = small;
    CLEANUP(argv_freep) char **argv = NULL;
    struct error err = ERROR_INIT;
    (void)state;

    spec.machine = ARGV_Q35;
    spec.accel = ARGV_TCG;
    spec.firmware = "/fw";
    spec.append = "more";
    spec.ram_fd = 12;
    spec.disk_fd = 13;
    spec.disk_frozen_fd = 14;
    spec.disk_base_fd = 15;
    spec.screen = spec.incoming = spec.stopped = true;
    argv = argv_make(&spec, &err);
    assert_ok(argv, err);
}

static void an_emulated_microvm_is_told_the_clock_rate(void **state)
{
    struct argv_spec spec = small;
    CLEANUP(argv_freep) char **argv = NULL;
    struct error err = ERROR_INIT;
    bool found = false;
    (void)state;

    spec.accel = ARGV_TCG;
    assert_null(argv_make(&spec, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    spec.tsc_khz = 2100000;
    argv = argv_make(&spec, &err);
    assert_ok(argv, err);
    for (char **at = argv; *at; at++)
        found = found || !strcmp(*at, WORDS " no_timer_check tsc_early_khz=2100000");
    assert_true(found);
}

/* The escape drill's first half: whatever is asked for, these hold. */
static void no_machine_has_a_network_card_or_a_way_to_the_file_system(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 64; n++) {
        struct argv_spec spec = small;
        CLEANUP(argv_freep) char **argv = NULL;
        struct error err = ERROR_INIT;
        unsigned held = 0;

        spec.machine = n & 1 ? ARGV_Q35 : ARGV_MICROVM;
        spec.accel = n & 2 ? ARGV_TCG : ARGV_KVM;
        spec.tsc_khz = 1;
        spec.ram_fd = n & 4 ? 9 : -1;
        spec.disk_fd = n & 8 ? 8 : -1;
        spec.incoming = n & 16;
        spec.screen = (n & 33) == 33; /* a q35 only */
        argv = argv_make(&spec, &err);
        assert_ok(argv, err);
        for (char **at = argv; *at; at++) {
            held += !strcmp(*at, "-nodefaults") || !strcmp(*at, "-no-user-config") ||
                    !strcmp(*at, SECCOMP);
            if (strstr(*at, "net") || strstr(*at, "server") ||
                (strstr(*at, "/") && !strstr(*at, "/proc/self/fd/") && !strstr(*at, "/dev/fdset/")))
                fail_msg("variant %u has %s", n, *at);
        }
        assert_int_equal(held, 3);
    }
}

static void refuses_what_cannot_be(void **state)
{
    static const struct {
        const char *label;
        size_t offset;
        int value;
    } rows[] = {
        { "no memory", offsetof(struct argv_spec, memory_mib), 0 },
        { "too little memory", offsetof(struct argv_spec, memory_mib), 63 },
        { "too much memory", offsetof(struct argv_spec, memory_mib), (1 << 20) + 1 },
        { "no processor", offsetof(struct argv_spec, cpus), 0 },
        { "too many processors", offsetof(struct argv_spec, cpus), 65 },
        { "no kernel", offsetof(struct argv_spec, kernel_fd), -1 },
        { "no initramfs", offsetof(struct argv_spec, initrd_fd), -1 },
        { "no QMP", offsetof(struct argv_spec, qmp_fd), -1 },
        { "no guest", offsetof(struct argv_spec, guest_fd), -1 },
        { "a screen on a microvm", offsetof(struct argv_spec, screen), 1 },
        { "no console", offsetof(struct argv_spec, console_fd), -1 },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct argv_spec spec = small;
        struct error err = ERROR_INIT;

        if (rows[i].offset == offsetof(struct argv_spec, screen))
            spec.screen = rows[i].value;
        else
            memcpy((char *)&spec + rows[i].offset, &rows[i].value, sizeof rows[i].value);
        if (argv_make(&spec, &err) || err.code != ERR_INVALID)
            fail_msg("%s: code %d", rows[i].label, err.code);
    }
}

static void the_shape_holds_what_a_saved_state_depends_on(void **state)
{
    CLEANUP(buf_fini) struct buf one = BUF_INIT;
    struct argv_spec spec = small;
    (void)state;

    assert_true(argv_shape(&spec, &one));
    for (int i = 0; i < 9; i++) {
        CLEANUP(buf_fini) struct buf other = BUF_INIT;

        spec = small;
        if (i == 0)
            spec.machine = ARGV_Q35;
        else if (i == 1)
            spec.accel = ARGV_TCG;
        else if (i == 2)
            spec.memory_mib++;
        else if (i == 3)
            spec.cpus++;
        else if (i == 4)
            spec.disk_fd = 7;
        else if (i == 5)
            spec.append = "x";
        else if (i == 6)
            spec.screen = true;
        else if (i == 7)
            spec.incoming = true; /* how it is started is no part of it */
        else
            spec.qmp_fd = 77;
        assert_true(argv_shape(&spec, &other));
        assert_int_equal(!strcmp(buf_str(&one), buf_str(&other)), i >= 7);
    }
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    FAULT_EACH(n)
    {
        CLEANUP(argv_freep) char **argv = NULL;
        struct error err = ERROR_INIT;

        argv = argv_make(&small, &err);
        FAULT_DONE(n);
        assert_int_equal(argv != NULL, n_last);
        if (!argv)
            assert_code(err, ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_microvm_with_nothing_but_its_three_sockets),
        cmocka_unit_test(a_clone_of_a_q35_with_a_disk),
        cmocka_unit_test(a_screen_comes_with_a_keyboard_and_a_pointer_and_nothing_else),
        cmocka_unit_test(the_longest_line_fits),
        cmocka_unit_test(an_emulated_microvm_is_told_the_clock_rate),
        cmocka_unit_test(no_machine_has_a_network_card_or_a_way_to_the_file_system),
        cmocka_unit_test(refuses_what_cannot_be),
        cmocka_unit_test(the_shape_holds_what_a_saved_state_depends_on),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
