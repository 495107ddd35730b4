#include "vmctl/template.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "vmctl/migrate.h"
#include "vmctl/overlay.h"
#include "vmctl/template_internal.h"

#define FIRST_PING_NS  (20 * CLOCK_NS_PER_MS)
#define LATER_PING_NS  (200 * CLOCK_NS_PER_MS)
#define ENTROPY_BYTES  64u
#define WARM_RUNS      2 /* the emulator remembers what it has seen twice */
#define MACHINE_ID_HEX 33u
#define SEALS          (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* ---- saving and restoring ---- */

static bool move_state(struct vm *vm, enum migrate_way way, int fd, const struct wait *w,
                       struct error *err)
{
    uint64_t mark;

    return migrate_begin(vm_qmp(vm), way, fd, false, &mark, w, err) &&
           migrate_finish(vm_qmp(vm), mark, w, err);
}

/* ---- making one ---- */

static bool await_idle(struct vm *vm, const struct vm_spec *spec, const struct wait *w,
                       struct error *err)
{
    static const struct guest_events no_events = { .on_lost = NULL };
    CLEANUP(guest_freep) struct guest *g = NULL;
    CLEANUP(fd_closep) int stream = vm_take_stream(vm);

    g = guest_new(spec->loop, stream, &no_events, NULL, err);
    if (!g)
        return false;
    (void)fd_steal(&stream);
    /* An answer shows that nothing of ours is still under way in either direction. */
    if (!guest_ready(g, w, err))
        return error_prefix(err, "boot the template");
    template_warm(g, w); /* what it reads of the disk is in the memory of every clone */
    if (!guest_sync(g, w, err) || !guest_ping(g, w, err))
        return error_prefix(err, "boot the template");
    return vm_halt(vm, w, err);
}

static bool boot(struct template *t, struct vm_spec *spec, const struct wait *w, struct error *err)
{
    CLEANUP(vm_freep) struct vm *vm = vm_start(spec, NULL, NULL, w, err);

    return vm && await_idle(vm, spec, w, err) && move_state(vm, MIGRATE_OUT, t->state_fd, w, err) &&
           vm_quit(vm, w, err);
}

static bool seal(int fd, struct error *err)
{
    return fcntl(fd, F_ADD_SEALS, SEALS) == 0 || error_set_errno(err, errno, "seal the template");
}

/* A descriptor that shares no offset with that of another clone, and cannot write. */
static int open_again(int fd, struct error *err)
{
    char path[40];
    int again;

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    again = open(path, O_RDONLY | O_CLOEXEC);
    if (again < 0)
        error_set_errno(err, errno, "open a file of the template");
    return again;
}

bool template_freeze(struct template *t, int overlay, struct error *err)
{
    if (!seal(t->memory_fd, err) || !seal(t->state_fd, err))
        return false;
    t->spec.argv.incoming = true;
    if (overlay < 0)
        return true;
    if (!t->overlay_dir && !seal(overlay, err))
        return false;
    if (fchmod(overlay, 0400) != 0)
        return error_set_errno(err, errno, "close the disk of the template");
    t->frozen_fd = open_again(overlay, err);
    t->spec.argv.disk_frozen_fd = t->frozen_fd;
    return t->frozen_fd >= 0;
}

static bool make_files(struct template *t, uint64_t memory_bytes, struct error *err)
{
    t->memory_fd = memfd_create("aios-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    t->state_fd = memfd_create("aios-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* QEMU opens the memory by its number, as somebody who may not be its owner. */
    if (t->memory_fd < 0 || t->state_fd < 0 || fchmod(t->memory_fd, 0666) != 0 ||
        ftruncate(t->memory_fd, (off_t)memory_bytes) != 0)
        return error_set_errno(err, errno, "memory files for a template");
    return true;
}

static bool copy_fd(int fd, int *ret, struct error *err)
{
    if (fd < 0)
        return true;
    *ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return *ret >= 0 || error_set_errno(err, errno, "copy a descriptor");
}

static bool keep_text(const char *text, char **ret, struct error *err)
{
    *ret = text ? strdup(text) : NULL;
    return *ret || !text || error_set(err, ERR_NOMEM, "a template");
}

static bool keep_spec(struct template *t, const struct vm_spec *spec, const char *overlay_dir,
                      struct error *err)
{
    const struct argv_spec *argv = &spec->argv;
    struct stat st;

    if (!keep_text(spec->program, &t->program, err) || !keep_text(argv->append, &t->append, err) ||
        !keep_text(overlay_dir, &t->overlay_dir, err) ||
        !copy_fd(argv->kernel_fd, &t->kernel_fd, err) ||
        !copy_fd(argv->initrd_fd, &t->initrd_fd, err) ||
        !copy_fd(argv->disk_base_fd, &t->base_fd, err))
        return false;
    if (t->base_fd >= 0) {
        if (fstat(t->base_fd, &st) != 0)
            return error_set_errno(err, errno, "look at the disk image");
        t->disk_bytes = (uint64_t)st.st_size;
    }
    t->spec = *spec;
    t->spec.program = t->program;
    t->spec.argv.append = t->append;
    t->spec.argv.kernel_fd = t->kernel_fd;
    t->spec.argv.initrd_fd = t->initrd_fd;
    t->spec.argv.disk_base_fd = t->base_fd;
    t->spec.argv.ram_fd = t->memory_fd;
    return true;
}

/* -1 in *ret for a machine without a disk. */
static bool make_overlay(const struct template *t, int *ret, struct error *err)
{
    if (!t->disk_bytes)
        return true;
    *ret = overlay_make(t->overlay_dir, t->disk_bytes, err);
    return *ret >= 0;
}

struct template *template_new(const struct vm_spec *spec, const char *overlay_dir,
                              struct error *err)
{
    CLEANUP(template_unrefp) struct template *t = calloc(1, sizeof *t);

    assert(spec->argv.ram_fd < 0 && !spec->argv.incoming && !spec->argv.stopped);
    assert(spec->argv.disk_fd < 0 && spec->argv.disk_frozen_fd < 0);
    if (!t) {
        error_set(err, ERR_NOMEM, "a template");
        return NULL;
    }
    atomic_init(&t->refs, 1);
    t->kernel_fd = t->initrd_fd = t->base_fd = t->memory_fd = t->state_fd = t->frozen_fd = -1;
    if (!make_files(t, (uint64_t)spec->argv.memory_mib << 20, err) ||
        !keep_spec(t, spec, overlay_dir, err))
        return NULL;
    return STEAL(t);
}

struct template *template_make(const struct vm_spec *spec, const char *overlay_dir,
                               const struct wait *w, struct error *err)
{
    CLEANUP(template_unrefp) struct template *t = template_new(spec, overlay_dir, err);
    CLEANUP(fd_closep) int overlay = -1;
    struct vm_spec first;

    if (!t || !make_overlay(t, &overlay, err))
        return NULL;
    first = t->spec;
    first.argv.ram_shared = true;
    first.argv.disk_fd = overlay;
    if (!boot(t, &first, w, err) || !template_freeze(t, overlay, err))
        return NULL;
    return STEAL(t);
}

struct template *template_ref(struct template *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

void template_unref(struct template *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    fd_close(t->kernel_fd);
    fd_close(t->initrd_fd);
    fd_close(t->base_fd);
    fd_close(t->frozen_fd);
    fd_close(t->memory_fd);
    fd_close(t->state_fd);
    free(t->program);
    free(t->append);
    free(t->overlay_dir);
    free(t);
}

/* ---- clones ---- */

/* What the guest of a clone has said before it was one. */
static size_t compose_hello(uint8_t *out, size_t size)
{
    struct wire_header h = { .length = 8, .type = WIRE_HELLO };
    struct wire_out o = { .data = out, .cap = size, .len = WIRE_HEADER_BYTES };

    wire_header_put(out, &h);
    wire_put_u32(&o, WIRE_MAGIC);
    wire_put_u32(&o, WIRE_VERSION);
    return o.len;
}

struct vm *template_clone(struct template *t, vm_ended_fn *on_ended, void *arg,
                          const struct wait *w, struct error *err)
{
    CLEANUP(vm_freep) struct vm *vm = NULL;
    CLEANUP(fd_closep) int state = open_again(t->state_fd, err);
    CLEANUP(fd_closep) int overlay = -1;
    struct vm_spec spec = t->spec;
    uint8_t hello[WIRE_HEADER_BYTES + 8];

    if (state < 0 || !make_overlay(t, &overlay, err))
        return NULL;
    spec.argv.disk_fd = overlay;
    spec.said = hello;
    spec.said_len = compose_hello(hello, sizeof hello);
    vm = vm_start(&spec, on_ended, arg, w, err);
    if (!vm || !move_state(vm, MIGRATE_IN, state, w, err) || !vm_run(vm, w, err))
        return NULL;
    return STEAL(vm);
}

static bool await_answer(struct guest *g, const struct wait *w, struct error *err)
{
    int64_t patience_ns = FIRST_PING_NS;

    if (!guest_ready(g, w, err))
        return false;
    for (;;) {
        struct wait brief = *w;
        struct error why = ERROR_INIT;

        brief.deadline_ns = MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), patience_ns));
        if (guest_ping(g, &brief, &why))
            return true;
        if (why.code != ERR_TIMEOUT || !wait_check(w, NULL))
            return error_set(err, why.code, "wait for the guest: %s", why.text);
        patience_ns = LATER_PING_NS;
    }
}

bool template_wake(struct guest *g, const char *host_name, const struct wait *w, struct error *err)
{
    uint8_t entropy[ENTROPY_BYTES], id[(MACHINE_ID_HEX - 1) / 2];
    char machine_id[MACHINE_ID_HEX];

    if (!await_answer(g, w, err))
        return false;
    id_random(entropy, sizeof entropy);
    id_random(id, sizeof id);
    for (size_t i = 0; i < sizeof id; i++)
        (void)snprintf(machine_id + 2 * i, 3, "%02x", id[i]);
    return guest_reseed(g, entropy, sizeof entropy, w, err) &&
           guest_set_time(g, clock_wall_ns(), w, err) &&
           guest_set_name(g, host_name, machine_id, w, err);
}

void template_warm(struct guest *g, const struct wait *w)
{
    static const char *const argv[] = { "sh", "-c", "/bin/true; :", NULL };
    static const char *const env[] = { "PATH=/usr/bin:/bin", NULL };
    const struct guest_run_spec spec = { .argv = argv, .env = env, .cwd = "/", .ring_bytes = 4096 };

    for (int i = 0; i < WARM_RUNS; i++) {
        struct guest_run *run = guest_spawn(g, &spec, w, NULL);

        if (!run)
            return;
        UNCHECKED(guest_run_wait(run, 0, NULL, w, NULL));
        guest_run_unref(run);
    }
}

/* ---- figures ---- */

void template_size(const struct template *t, struct template_size *ret)
{
    struct stat memory, state;

    *ret = (struct template_size){ .memory_bytes = 0 };
    if (fstat(t->memory_fd, &memory) == 0 && fstat(t->state_fd, &state) == 0) {
        ret->memory_bytes = (uint64_t)memory.st_blocks * 512;
        ret->state_bytes = (uint64_t)state.st_size;
    }
}

int template_memory_fd(const struct template *t)
{
    return t->memory_fd;
}

int template_state_fd(const struct template *t)
{
    return t->state_fd;
}
