#include "vmctl/argv.h"

#include <stdlib.h>
#include <string.h>

#define MEMORY_MIB_MAX (1u << 20)
#define CPUS_MAX       64u
#define ARGS_MAX       128u

/* What a guest that escaped could do with system calls is cut down by QEMU itself, too. */
#define SECCOMP "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

/* The host reads a console that has nothing to tell as long as all is well.  A guest whose kernel
 * panics resets, and a reset is the end (-no-reboot). */
#define KERNEL_WORDS "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t random.trust_cpu=on"

/* The size is what the guest finds first; it may choose another.  The memory is what its pictures
 * may take of ours. */
#define SCREEN "virtio-gpu-pci,xres=1280,yres=800,max_hostmem=134217728"

/* What a saved state does not say: what it is, for people, and, with the other, which machine it is
 * of.  Devices that are saved alone come without the two, and whoever takes a state of one kind has
 * to be able to take the other. */
#define STATE_WORDS  ",suppress-vmdesc=on"
#define STATE_GLOBAL "migration.send-configuration=off"

struct line {
    char **args;
    size_t count;
    bool failed;
};

static void add_text(struct line *l, char *text)
{
    if (!text || l->count == ARGS_MAX) {
        free(text);
        l->failed = true;
        return;
    }
    l->args[l->count++] = text;
}

static void add(struct line *l, const char *text)
{
    add_text(l, strdup(text));
}

static void addf(struct line *l, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void addf(struct line *l, const char *fmt, ...)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    va_list ap;

    va_start(ap, fmt);
    (void)buf_vprintf(&text, fmt, ap);
    va_end(ap);
    add_text(l, buf_take(&text, NULL));
}

static const char *accel_args(const struct argv_spec *spec)
{
    if (spec->accel == ARGV_KVM)
        return "kvm";
    /* The buffer of translated code is memory of its own in every clone.  A browser does not fit
     * into a small one, and would be translated again and again. */
    return spec->screen ? "tcg,tb-size=256" : "tcg,tb-size=64";
}

/* Five-level page tables cost an emulated processor time for nothing.  Where a host is a guest
 * itself, the register of the capabilities may be told of and yet not be settable, and QEMU gives
 * up. */
static const char *cpu_args(enum argv_accel accel)
{
    return accel == ARGV_KVM ? "host,arch-capabilities=off" : "max,la57=off";
}

static const char *machine_args(const struct argv_spec *spec)
{
    if (spec->machine == ARGV_Q35)
        return "q35,usb=off,sata=off,smbus=off,vmport=off" STATE_WORDS;
    if (spec->accel == ARGV_KVM)
        return "microvm,acpi=on,pit=off,pic=off,rtc=on,usb=off" STATE_WORDS;
    return "microvm,acpi=on,pit=on,pic=on,rtc=on,usb=off" STATE_WORDS;
}

static void add_machine(struct line *l, const struct argv_spec *spec)
{
    add(l, "-nodefaults");
    add(l, "-no-user-config");
    add(l, "-no-reboot");
    if (spec->firmware) {
        add(l, "-L");
        add(l, spec->firmware);
    }
    add(l, "-display");
    add(l, "none");
    add(l, "-sandbox");
    add(l, SECCOMP);
    add(l, "-machine");
    addf(l, "%s,memory-backend=ram", machine_args(spec));
    add(l, "-global");
    add(l, STATE_GLOBAL);
    add(l, "-accel");
    add(l, accel_args(spec));
    add(l, "-cpu");
    add(l, cpu_args(spec->accel));
    add(l, "-smp");
    addf(l, "%u", spec->cpus);
    add(l, "-m");
    addf(l, "%uM", spec->memory_mib);
    add(l, "-object");
    if (spec->ram_fd < 0) /* by the same name, so that one can take over from the other */
        addf(l, "memory-backend-ram,id=ram,size=%uM", spec->memory_mib);
    else
        addf(l, "memory-backend-file,id=ram,size=%uM,mem-path=/proc/self/fd/%d,share=%s",
             spec->memory_mib, spec->ram_fd, spec->ram_shared ? "on" : "off");
}

static void add_kernel(struct line *l, const struct argv_spec *spec)
{
    bool measured = spec->machine == ARGV_MICROVM && spec->accel == ARGV_TCG;

    add(l, "-kernel");
    addf(l, "/proc/self/fd/%d", spec->kernel_fd);
    add(l, "-initrd");
    addf(l, "/proc/self/fd/%d", spec->initrd_fd);
    add(l, "-append");
    if (measured) /* it has no timer to measure the clock with, and would wait for ever */
        addf(l, KERNEL_WORDS " no_timer_check tsc_early_khz=%u%s%s", spec->tsc_khz,
             spec->append ? " " : "", spec->append ? spec->append : "");
    else
        addf(l, KERNEL_WORDS "%s%s", spec->append ? " " : "", spec->append ? spec->append : "");
}

/* A descriptor that QEMU uses as it is, rather than open the file anew. */
static void add_file(struct line *l, const char *driver, const char *node, int fd, bool frozen,
                     const char *under)
{
    add(l, "-add-fd");
    addf(l, "fd=%d,set=%d", fd, fd);
    add(l, "-blockdev");
    addf(l,
         "driver=%s,node-name=%s,read-only=%s,file.driver=file,file.locking=off,file.filename="
         "/dev/fdset/%d%s%s",
         driver, node, frozen ? "on" : "off", fd, under ? ",backing=" : "", under ? under : "");
}

static void add_disk(struct line *l, const struct argv_spec *spec, const char *bus)
{
    const char *under = NULL;

    if (spec->disk_base_fd >= 0) {
        add_file(l, "raw", "base", spec->disk_base_fd, true, NULL);
        under = "base";
    }
    if (spec->disk_frozen_fd >= 0) {
        add_file(l, "qcow2", "frozen", spec->disk_frozen_fd, true, under);
        under = "frozen";
    }
    add_file(l, "qcow2", "disk", spec->disk_fd, false, under);
    add(l, "-device");
    addf(l, "virtio-blk-%s,drive=disk", bus);
}

/* The pointer is one that knows where it is, so that nothing depends on where it was. */
static void add_screen(struct line *l)
{
    static const char *const devices[] = { SCREEN, "virtio-keyboard-pci", "virtio-tablet-pci" };

    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        add(l, "-device");
        add(l, devices[i]);
    }
}

static void add_devices(struct line *l, const struct argv_spec *spec)
{
    const char *bus = spec->machine == ARGV_Q35 ? "pci" : "device";

    add(l, "-chardev");
    addf(l, "socket,id=qmp,fd=%d", spec->qmp_fd);
    add(l, "-mon");
    add(l, "chardev=qmp,mode=control");
    add(l, "-chardev");
    addf(l, "socket,id=console,fd=%d", spec->console_fd);
    add(l, "-serial");
    add(l, "chardev:console");
    add(l, "-chardev");
    addf(l, "socket,id=guest,fd=%d", spec->guest_fd);
    add(l, "-device");
    addf(l, "virtio-serial-%s,max_ports=2", bus);
    add(l, "-device");
    add(l, "virtserialport,nr=1,name=aios,chardev=guest");
    if (spec->disk_fd >= 0)
        add_disk(l, spec, bus);
    if (spec->screen)
        add_screen(l);
}

static bool check(const struct argv_spec *spec, struct error *err)
{
    if (spec->memory_mib < 64 || spec->memory_mib > MEMORY_MIB_MAX)
        return error_set(err, ERR_INVALID, "memory is %u MiB; give 64 to %u", spec->memory_mib,
                         MEMORY_MIB_MAX);
    if (spec->cpus < 1 || spec->cpus > CPUS_MAX)
        return error_set(err, ERR_INVALID, "%u processors; give 1 to %u", spec->cpus, CPUS_MAX);
    if (spec->kernel_fd < 0 || spec->initrd_fd < 0)
        return error_set(err, ERR_INVALID, "a virtual machine needs a kernel and an initramfs");
    if (spec->qmp_fd < 0 || spec->guest_fd < 0 || spec->console_fd < 0)
        return error_set(err, ERR_INVALID, "a virtual machine needs its three sockets");
    if (spec->machine == ARGV_MICROVM && spec->accel == ARGV_TCG && spec->tsc_khz == 0)
        return error_set(err, ERR_INVALID, "an emulated microvm needs the host's clock rate");
    if (spec->screen && spec->machine != ARGV_Q35)
        return error_set(err, ERR_INVALID, "only a q35 can have a screen");
    return true;
}

char **argv_make(const struct argv_spec *spec, struct error *err)
{
    struct line l = { .count = 0 };

    if (!check(spec, err))
        return NULL;
    l.args = calloc(ARGS_MAX + 1, sizeof *l.args);
    if (l.args) {
        add(&l, spec->program);
        add_machine(&l, spec);
        add_kernel(&l, spec);
        add_devices(&l, spec);
        if (spec->incoming) {
            add(&l, "-incoming");
            add(&l, "defer");
        }
        if (spec->stopped)
            add(&l, "-S");
    }
    if (!l.args || l.failed) {
        argv_free(l.args);
        error_set(err, ERR_NOMEM, "QEMU's command line");
        return NULL;
    }
    return l.args;
}

void argv_free(char **argv)
{
    if (!argv)
        return;
    for (char **at = argv; *at; at++)
        free(*at);
    free(argv);
}

bool argv_shape(const struct argv_spec *spec, struct buf *out)
{
    return buf_printf(
        out, "machine=%s accel=%s cpu=%s cpus=%u memory=%uM disk=%d append=%s tsc=%u%s%s",
        machine_args(spec), accel_args(spec), cpu_args(spec->accel), spec->cpus, spec->memory_mib,
        spec->disk_fd >= 0 || spec->disk_base_fd >= 0, spec->append ? spec->append : "",
        spec->tsc_khz, spec->screen ? " screen=" : "", spec->screen ? SCREEN : "");
}
