#include "vmctl/vmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "vmctl/machine.h"
#include "vmctl/overlay.h"

#define DEFAULT_UID 1879048193u

/* ---- what is asked for ---- */

/* Nothing is promised that would not be kept. */
static bool check_spec(const struct computer_spec *spec, struct error *err)
{
    if (spec->dir_count)
        return error_set(err, ERR_UNSUPPORTED,
                         "a virtual machine shares no folders with the host; copy the files");
    return true;
}

/* The machine for @asked; *ret_usual when a clone will do. */
static bool fit_spec(const struct machine_image *image, const struct computer_spec *asked,
                     struct vm_spec *ret, bool *ret_usual, struct error *err)
{
    const struct argv_spec *usual = &image->spec.argv;
    uint64_t mib = (asked->memory_bytes + (1u << 20) - 1) >> 20;
    uint32_t cpus = (asked->cpu_milli + 999) / 1000;

    *ret = image->spec;
    if (mib > UINT32_MAX)
        return error_set(err, ERR_INVALID, "memory is %" PRIu64 " bytes", asked->memory_bytes);
    if (mib)
        ret->argv.memory_mib = (uint32_t)mib;
    if (cpus)
        ret->argv.cpus = cpus;
    *ret_usual = ret->argv.memory_mib == usual->memory_mib && ret->argv.cpus == usual->cpus;
    return true;
}

/* ---- making one ---- */

/* A machine of another size than the usual one boots. */
static struct vm *boot(struct machine *m, const struct vm_spec *spec, const struct wait *w,
                       struct error *err)
{
    CLEANUP(fd_closep) int overlay = -1;
    struct vm_spec own = *spec;
    struct stat st;

    if (own.argv.disk_base_fd >= 0) {
        if (fstat(own.argv.disk_base_fd, &st) != 0) {
            error_set_errno(err, errno, "look at the disk image");
            return NULL;
        }
        overlay = overlay_make(m->backend->overlay_dir, (uint64_t)st.st_size, err);
        if (overlay < 0)
            return NULL;
        own.argv.disk_fd = overlay;
    }
    return vm_start(&own, machine_on_ended, m, w, err);
}

bool machine_limit(struct machine *m, const struct wait *w, struct error *err)
{
    const struct computer_spec *spec = computer_spec(&m->base);
    struct guest *g = computer_guest(&m->base);

    return (!spec->pids || guest_limit(g, spec->pids, w, err)) &&
           (!spec->disk_bytes || guest_limit_disk(g, spec->disk_bytes, w, err));
}

/* @copied: its guest has served another before. */
bool machine_attach(struct machine *m, bool copied, const struct wait *w, struct error *err)
{
    CLEANUP(fd_closep) int stream = vm_take_stream(m->vm);

    if (!computer_attach(&m->base, stream, w, err))
        return false;
    (void)fd_steal(&stream);
    return (!copied || guest_reset(computer_guest(&m->base), w, err)) &&
           template_wake(computer_guest(&m->base), MACHINE_HOST_NAME, w, err) &&
           machine_limit(m, w, err);
}

struct computer_spec machine_fill(const struct vm_spec *spec, const struct computer_spec *asked)
{
    struct computer_spec filled = *asked;

    filled.memory_bytes = (uint64_t)spec->argv.memory_mib << 20;
    filled.cpu_milli = spec->argv.cpus * 1000;
    return filled;
}

struct machine *machine_new(struct backend *b, const struct machine_image *image,
                            const struct vm_spec *spec, const struct computer_spec *asked,
                            const struct computer_hooks *hooks, struct error *err)
{
    struct computer_spec filled = machine_fill(spec, asked);
    struct machine *m = calloc(1, sizeof *m);

    if (!m) {
        error_set(err, ERR_NOMEM, "a virtual machine");
        return NULL;
    }
    m->backend = b;
    m->image = image;
    m->spec = *spec;
    m->state = m->end = m->disk = m->frozen = -1;
    if (!computer_init(&m->base, &machine_ops, &filled, (const char *const *)image->env, hooks,
                       err)) {
        free(m);
        return NULL;
    }
    cancel_init(&m->cancel);
    pthread_mutex_init(&m->lock, NULL);
    cond_init(&m->moved);
    return m;
}

void machine_give_up(struct machine *m)
{
    computer_silence(&m->base); /* that it ends is told by whoever could not make it */
    vm_free(m->vm);
    computer_fini(&m->base);
    cancel_fini(&m->cancel);
    pthread_cond_destroy(&m->moved);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static struct machine *make(struct backend *b, const struct machine_image *image,
                            const struct vm_spec *spec, bool usual,
                            const struct computer_spec *asked, const struct computer_hooks *hooks,
                            const struct wait *w, struct error *err)
{
    struct machine *m = machine_new(b, image, spec, asked, hooks, err);

    if (!m)
        return NULL;
    m->vm = usual ? template_clone(image->template, machine_on_ended, m, w, err)
                  : boot(m, spec, w, err);
    if (m->vm && machine_attach(m, false, w, err))
        return m;
    machine_give_up(m);
    return NULL;
}

static struct computer *create_new(struct backend *b, const struct computer_spec *asked,
                                   const struct computer_hooks *hooks, const struct wait *w,
                                   struct error *err)
{
    const struct machine_image *image = machine_image_get(b, asked->image, w, err);
    struct vm_spec spec;
    struct machine *m;
    bool usual = false;

    if (!image || !fit_spec(image, asked, &spec, &usual, err))
        return NULL;
    m = usual ? machine_pool_take(image, asked, hooks, w) : NULL;
    if (m)
        return &m->base;
    machine_pool_begin(image);
    m = make(b, image, &spec, usual, asked, hooks, w, err);
    machine_pool_end(image);
    return m ? &m->base : NULL;
}

/* A copy is as large as what it is a copy of. */
static bool check_copy(const struct machine_copy *copy, const struct computer_spec *asked,
                       struct error *err)
{
    uint64_t memory = (uint64_t)copy->spec.argv.memory_mib << 20;
    uint32_t cpus = (asked->cpu_milli + 999) / 1000;

    if ((asked->memory_bytes && asked->memory_bytes != memory) ||
        (cpus && cpus != copy->spec.argv.cpus))
        return error_set(err, ERR_INVALID,
                         "a virtual machine keeps its size: %u MiB and %u processors here",
                         copy->spec.argv.memory_mib, copy->spec.argv.cpus);
    return true;
}

static struct computer *create_copy(struct backend *b, const struct computer_spec *asked,
                                    const char *checkpoint, const struct computer_hooks *hooks,
                                    const struct wait *w, struct error *err)
{
    struct machine_copy copy;
    struct machine *m;

    if (!machine_copy_get(b, checkpoint, &copy, w, err))
        return NULL;
    m = check_copy(&copy, asked, err) ? machine_new(b, copy.image, &copy.spec, asked, hooks, err)
                                      : NULL;
    if (!m) {
        machine_copy_fini(&copy);
        return NULL;
    }
    m->vm = STEAL(copy.vm);
    machine_copy_fini(&copy);
    if (vm_adopt(m->vm, machine_on_ended, m, err) && vm_run(m->vm, w, err) &&
        machine_attach(m, true, w, err))
        return &m->base;
    machine_give_up(m);
    return NULL;
}

static struct computer *backend_create(struct computer_backend *base,
                                       const struct computer_spec *asked, const char *checkpoint,
                                       const struct computer_hooks *hooks, const struct wait *w,
                                       struct error *err)
{
    struct backend *b = machine_backend(base);

    if (!check_spec(asked, err))
        return NULL;
    return checkpoint ? create_copy(b, asked, checkpoint, hooks, w, err)
                      : create_new(b, asked, hooks, w, err);
}

static bool backend_checkpoint_remove(struct computer_backend *base, const char *id,
                                      struct error *err)
{
    return machine_copy_remove(machine_backend(base), id, err);
}

/* ---- the back end ---- */

static void backend_free(struct computer_backend *base)
{
    struct backend *b = base ? machine_backend(base) : NULL;

    if (!b)
        return;
    machine_image_end(b);
    machine_pool_free_all(b);
    machine_copy_free_all(b);
    machine_image_free_all(b);
    fd_close(b->spec.argv.kernel_fd);
    fd_close(b->spec.argv.initrd_fd);
    fd_close(b->spec.argv.disk_base_fd);
    pthread_cond_destroy(&b->made);
    pthread_mutex_destroy(&b->lock);
    cancel_fini(&b->ending);
    free(b->templates_dir);
    free(b->program);
    free(b->images_dir);
    free(b->image);
    free(b->cache_dir);
    free(b->state_dir);
    free(b->overlay_dir);
    free(b);
}

static bool copy_text(const char *text, char **ret, struct error *err)
{
    *ret = text ? strdup(text) : NULL;
    return *ret || !text || error_set(err, ERR_NOMEM, "the back end of virtual machines");
}

static bool copy_fd(int from, int *ret, struct error *err)
{
    *ret = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 3);
    return *ret >= 0 || from < 0 || error_set_errno(err, errno, "the files of virtual machines");
}

/* The one image, where there is no store of them. */
static bool take_given(struct backend *b, const struct vmctl_config *config, struct error *err)
{
    b->spec.argv.append = config->disk_fd >= 0 ? "aios.root=" ARGV_DISK : NULL;
    return copy_fd(config->kernel_fd, &b->spec.argv.kernel_fd, err) &&
           copy_fd(config->initrd_fd, &b->spec.argv.initrd_fd, err) &&
           copy_fd(config->disk_fd, &b->spec.argv.disk_base_fd, err);
}

static bool copy_config(struct backend *b, const struct vmctl_config *config, struct error *err)
{
    bool root = geteuid() == 0;
    uint32_t uid = config->uid ? config->uid : DEFAULT_UID;

    b->spec = (struct vm_spec){
        .loop = config->loop,
        .argv = { .machine = ARGV_Q35,
                  .memory_mib = MACHINE_USUAL_MIB,
                  .cpus = 1,
                  .kernel_fd = -1,
                  .initrd_fd = -1,
                  .ram_fd = -1,
                  .disk_fd = -1,
                  .disk_frozen_fd = -1,
                  .disk_base_fd = -1 },
        .start = config->start,
        .groups = config->groups,
        .uid = root ? uid : 0,
        .gid = root ? uid : 0,
    };
    b->early = config->early;
    b->early_len = config->early_len;
    b->guest = config->guest;
    b->guest_len = config->guest_len;
    b->memory_mib = config->memory_mib;
    b->pool_size = config->pool_size;
    b->program = process_find(config->program ? config->program : "qemu-system-x86_64", err);
    b->spec.program = b->program;
    return b->program && copy_text(config->images_dir, &b->images_dir, err) &&
           copy_text(config->image, &b->image, err) &&
           copy_text(config->cache_dir, &b->cache_dir, err) &&
           copy_text(config->state_dir, &b->state_dir, err) &&
           copy_text(config->overlay_dir, &b->overlay_dir, err) &&
           (b->images_dir || take_given(b, config, err));
}

struct computer_backend *vmctl_backend_new(const struct vmctl_config *config, struct error *err)
{
    struct backend *b = calloc(1, sizeof *b);

    if (!b) {
        error_set(err, ERR_NOMEM, "the back end of virtual machines");
        return NULL;
    }
    pthread_mutex_init(&b->lock, NULL);
    cond_init(&b->made);
    cancel_init(&b->ending);
    b->spec.argv.kernel_fd = b->spec.argv.initrd_fd = b->spec.argv.disk_base_fd = -1;
    b->base = (struct computer_backend){
        .kind = "vm",
        .create = backend_create,
        .checkpoint_remove = backend_checkpoint_remove,
        .free = backend_free,
    };
    if (!copy_config(b, config, err)) {
        backend_free(&b->base);
        return NULL;
    }
    if (b->state_dir)
        machine_keep_sweep(b->state_dir);
    return &b->base;
}

void vmctl_backend_accel(struct computer_backend *base, char *buf, size_t size)
{
    struct backend *b = machine_backend(base);

    buf[0] = '\0';
    pthread_mutex_lock(&b->lock);
    if (b->verdict.why[0])
        (void)snprintf(buf, size, "%s: %s", b->verdict.accel == ARGV_KVM ? "KVM" : "TCG",
                       b->verdict.why);
    pthread_mutex_unlock(&b->lock);
}
