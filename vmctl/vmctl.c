#include "vmctl/vmctl.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "vmctl/accel.h"
#include "vmctl/overlay.h"
#include "vmctl/template.h"
#include "vmctl/vm.h"

#define DEFAULT_UID   1879048193u
#define DEFAULT_MIB   256u
#define HOST_NAME     "computer"
#define CONSOLE_LINES 80u /* are looked at */
#define STAT_MAX      4096u
#define PROXY         "http://127.0.0.1:3128"

struct backend {
    struct computer_backend base; /* first */
    struct vm_spec spec; /* of the usual size; constant but for what prepare_locked() sets */
    char *program;
    char *cache_dir, *overlay_dir;

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t made;
    bool preparing, prepared;
    struct accel_verdict verdict;
    struct template *template;
};

struct machine {
    struct computer base; /* first: computer.c frees it */
    struct vm *vm;
};

static struct backend *backend_of(struct computer_backend *b)
{
    return CONTAINER_OF(b, struct backend, base);
}

static struct machine *machine_of(struct computer *c)
{
    return CONTAINER_OF(c, struct machine, base);
}

/* ---- one computer ---- */

/* Of what the console said last, the line that tells why: a dying kernel says a lot after it. */
static const char *telling_line(char *text)
{
    static const char *const signs[] = { "aios-early: ", "Kernel panic", "Out of memory" };
    const char *found = NULL;
    char *last;

    for (size_t i = 0; i < ARRAY_LEN(signs) && !found; i++)
        found = strstr(text, signs[i]);
    if (found) {
        text[(size_t)(found - text) + strcspn(found, "\n")] = '\0';
        return found;
    }
    last = strrchr(text, '\n');
    return last ? last + 1 : text;
}

static void on_ended(void *arg, struct vm *vm, const char *why)
{
    CLEANUP(buf_fini) struct buf lines = BUF_INIT, text = BUF_INIT;
    struct machine *m = arg;

    if (vm_console(vm, CONSOLE_LINES, &lines) > 0 &&
        buf_printf(&text, "%s; console: %s", why, telling_line(lines.data)))
        why = text.data;
    computer_report_lost(&m->base, why);
}

static bool machine_pause(struct computer *c, const struct wait *w, struct error *err)
{
    return vm_halt(machine_of(c)->vm, w, err);
}

/* What runs inside must not see that the world has gone on by itself. */
static bool machine_resume(struct computer *c, const struct wait *w, struct error *err)
{
    return vm_run(machine_of(c)->vm, w, err) &&
           guest_set_time(computer_guest(c), clock_wall_ns(), w, err);
}

/* The n-th word after the name, which may hold anything. */
static uint64_t stat_number(const char *stat, unsigned n)
{
    const char *at = strrchr(stat, ')');

    for (; at && n; n--)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static bool machine_usage(struct computer *c, struct computer_usage *ret, struct error *err)
{
    long ticks = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
    struct computer_usage usage = { .pids = 0 };
    char path[40];
    char *stat;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)vm_pid(machine_of(c)->vm));
    stat = fd_read_file(AT_FDCWD, path, STAT_MAX, NULL, err);
    if (!stat)
        return error_prefix(err, "look at QEMU");
    usage.cpu_ns = (int64_t)((stat_number(stat, 12) + stat_number(stat, 13)) *
                             (uint64_t)(CLOCK_NS_PER_S / ticks));
    usage.memory_bytes = stat_number(stat, 22) * (uint64_t)page;
    usage.peak_memory_bytes = usage.memory_bytes;
    free(stat);
    *ret = usage;
    return true;
}

static void machine_destroy(struct computer *c)
{
    struct machine *m = machine_of(c);

    vm_free(m->vm);
    m->vm = NULL;
}

static const struct computer_ops ops = {
    .kind = "vm",
    .pause = machine_pause,
    .resume = machine_resume,
    .usage = machine_usage,
    .destroy = machine_destroy,
};

/* ---- what is asked for ---- */

static const char *const env[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "USER=root",
    "LOGNAME=root",
    "LANG=C.UTF-8",
    "TERM=xterm-256color",
    "SHELL=/bin/sh",
    "TMPDIR=/tmp",
    "http_proxy=" PROXY,
    "https_proxy=" PROXY,
    "all_proxy=" PROXY,
    "HTTP_PROXY=" PROXY,
    "HTTPS_PROXY=" PROXY,
    "ALL_PROXY=" PROXY,
    "no_proxy=localhost,127.0.0.1,::1",
    "NO_PROXY=localhost,127.0.0.1,::1",
    NULL,
};

/* Nothing is promised that would not be kept. */
static bool check_spec(const struct computer_spec *spec, const char *checkpoint, struct error *err)
{
    if (checkpoint)
        return error_set(err, ERR_UNSUPPORTED, "a virtual machine has no checkpoints yet");
    if (spec->dir_count)
        return error_set(err, ERR_UNSUPPORTED,
                         "a virtual machine shares no folders with the host; copy the files");
    if (spec->pids)
        return error_set(err, ERR_UNSUPPORTED,
                         "a virtual machine has no limit on processes but its memory");
    if (spec->disk_bytes)
        return error_set(err, ERR_UNSUPPORTED, "a virtual machine has no limit on its disk yet");
    return true;
}

/* The machine for @asked; *ret_usual when a clone will do. */
static bool fit_spec(const struct backend *b, const struct computer_spec *asked,
                     struct vm_spec *ret, bool *ret_usual, struct error *err)
{
    uint64_t mib = (asked->memory_bytes + (1u << 20) - 1) >> 20;
    uint32_t cpus = (asked->cpu_milli + 999) / 1000;

    *ret = b->spec;
    if (mib > UINT32_MAX)
        return error_set(err, ERR_INVALID, "memory is %" PRIu64 " bytes", asked->memory_bytes);
    if (mib)
        ret->argv.memory_mib = (uint32_t)mib;
    if (cpus)
        ret->argv.cpus = cpus;
    *ret_usual =
        ret->argv.memory_mib == b->spec.argv.memory_mib && ret->argv.cpus == b->spec.argv.cpus;
    return true;
}

/* ---- the template ---- */

/* By one caller alone, without the lock. */
static bool prepare_alone(struct backend *b, const struct wait *w, struct error *err)
{
    struct accel_query query = { .cache_dir = b->cache_dir,
                                 .program = b->program,
                                 .kernel_fd = b->spec.argv.kernel_fd,
                                 .boot = accel_boot,
                                 .arg = &b->spec };

    if (!b->verdict.why[0]) {
        struct accel_verdict verdict;

        accel_choose(&query, &verdict, w);
        if (!wait_check(w, err))
            return false;
        pthread_mutex_lock(&b->lock);
        b->verdict = verdict;
        pthread_mutex_unlock(&b->lock);
        /* An emulated processor's clock wants the timers of a PC. */
        b->spec.argv.accel = verdict.accel;
        b->spec.argv.machine = verdict.accel == ARGV_KVM ? ARGV_MICROVM : ARGV_Q35;
        b->spec.extra_gid = verdict.accel == ARGV_KVM ? accel_group() : 0;
    }
    b->template = template_make(&b->spec, b->overlay_dir, w, err);
    return b->template;
}

/* The first caller makes it, the others wait; should it fail, the next one tries. */
static bool prepare(struct backend *b, const struct wait *w, struct error *err)
{
    bool time = true, ok;

    pthread_mutex_lock(&b->lock);
    while (b->preparing && time)
        time = loop_wait_cond(b->spec.loop, w, &b->made, &b->lock);
    ok = b->prepared;
    if (ok || b->preparing) {
        pthread_mutex_unlock(&b->lock);
        if (!ok && wait_check(w, err))
            error_set(err, ERR_TIMEOUT, "the deadline passed");
        return ok || error_prefix(err, "wait for the first machine");
    }
    b->preparing = true;
    pthread_mutex_unlock(&b->lock);
    ok = prepare_alone(b, w, err);
    pthread_mutex_lock(&b->lock);
    b->preparing = false;
    b->prepared = ok;
    pthread_cond_broadcast(&b->made);
    pthread_mutex_unlock(&b->lock);
    return ok || error_prefix(err, "make the first machine");
}

/* ---- making one ---- */

static bool bring_up(struct backend *b, struct machine *m, const struct vm_spec *spec, bool usual,
                     const struct wait *w, struct error *err)
{
    CLEANUP(fd_closep) int stream = -1;
    CLEANUP(fd_closep) int overlay = -1;
    struct vm_spec own = *spec;

    if (!usual && own.argv.disk_base_fd >= 0) {
        struct stat st;

        if (fstat(own.argv.disk_base_fd, &st) != 0)
            return error_set_errno(err, errno, "look at the disk image");
        overlay = overlay_make(b->overlay_dir, (uint64_t)st.st_size, err);
        if (overlay < 0)
            return false;
        own.argv.disk_fd = overlay;
    }
    m->vm = usual ? template_clone(b->template, on_ended, m, w, err)
                  : vm_start(&own, on_ended, m, w, err);
    if (!m->vm)
        return false;
    stream = vm_take_stream(m->vm);
    if (!computer_attach(&m->base, stream, w, err))
        return false;
    (void)fd_steal(&stream);
    return template_wake(computer_guest(&m->base), HOST_NAME, w, err);
}

static struct computer *backend_create(struct computer_backend *base,
                                       const struct computer_spec *asked, const char *checkpoint,
                                       const struct computer_hooks *hooks, const struct wait *w,
                                       struct error *err)
{
    struct backend *b = backend_of(base);
    struct computer_spec filled = *asked;
    struct vm_spec spec;
    struct machine *m;
    bool usual = false;

    if (!check_spec(asked, checkpoint, err) || !prepare(b, w, err) ||
        !fit_spec(b, asked, &spec, &usual, err))
        return NULL;
    filled.memory_bytes = (uint64_t)spec.argv.memory_mib << 20;
    filled.cpu_milli = spec.argv.cpus * 1000;
    m = calloc(1, sizeof *m);
    if (!m) {
        error_set(err, ERR_NOMEM, "a virtual machine");
        return NULL;
    }
    if (!computer_init(&m->base, &ops, &filled, env, hooks, err)) {
        free(m);
        return NULL;
    }
    if (!bring_up(b, m, &spec, usual, w, err)) {
        vm_free(m->vm);
        computer_fini(&m->base);
        free(m);
        return NULL;
    }
    return &m->base;
}

static bool backend_checkpoint_remove(struct computer_backend *base, const char *id,
                                      struct error *err)
{
    (void)base;
    return error_set(err, ERR_NOT_FOUND, "there is no checkpoint %s", id);
}

static void backend_free(struct computer_backend *base)
{
    struct backend *b = base ? backend_of(base) : NULL;

    if (!b)
        return;
    assert(!b->preparing);
    template_unref(b->template);
    fd_close(b->spec.argv.kernel_fd);
    fd_close(b->spec.argv.initrd_fd);
    fd_close(b->spec.argv.disk_base_fd);
    pthread_cond_destroy(&b->made);
    pthread_mutex_destroy(&b->lock);
    free(b->program);
    free(b->cache_dir);
    free(b->overlay_dir);
    free(b);
}

static bool copy_config(struct backend *b, const struct vmctl_config *config, struct error *err)
{
    bool root = geteuid() == 0;
    uint32_t uid = config->uid ? config->uid : DEFAULT_UID;

    b->spec = (struct vm_spec){
        .loop = config->loop,
        .argv = { .machine = ARGV_Q35,
                  .memory_mib = config->memory_mib ? config->memory_mib : DEFAULT_MIB,
                  .cpus = 1,
                  .kernel_fd = -1,
                  .initrd_fd = -1,
                  .append = config->disk_fd >= 0 ? "aios.root=" ARGV_DISK : NULL,
                  .ram_fd = -1,
                  .disk_fd = -1,
                  .disk_frozen_fd = -1,
                  .disk_base_fd = -1 },
        .start = config->start,
        .uid = root ? uid : 0,
        .gid = root ? uid : 0,
    };
    b->program = process_find(config->program ? config->program : "qemu-system-x86_64", err);
    if (!b->program)
        return false;
    b->spec.program = b->program;
    b->cache_dir = config->cache_dir ? strdup(config->cache_dir) : NULL;
    b->overlay_dir = config->overlay_dir ? strdup(config->overlay_dir) : NULL;
    if ((config->cache_dir && !b->cache_dir) || (config->overlay_dir && !b->overlay_dir))
        return error_set(err, ERR_NOMEM, "the back end of virtual machines");
    b->spec.argv.kernel_fd = fcntl(config->kernel_fd, F_DUPFD_CLOEXEC, 3);
    b->spec.argv.initrd_fd = fcntl(config->initrd_fd, F_DUPFD_CLOEXEC, 3);
    if (config->disk_fd >= 0)
        b->spec.argv.disk_base_fd = fcntl(config->disk_fd, F_DUPFD_CLOEXEC, 3);
    if (b->spec.argv.kernel_fd < 0 || b->spec.argv.initrd_fd < 0 ||
        (config->disk_fd >= 0 && b->spec.argv.disk_base_fd < 0))
        return error_set_errno(err, errno, "the kernel of virtual machines");
    return true;
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
    return &b->base;
}

void vmctl_backend_accel(struct computer_backend *base, char *buf, size_t size)
{
    struct backend *b = backend_of(base);

    buf[0] = '\0';
    pthread_mutex_lock(&b->lock);
    if (b->verdict.why[0])
        (void)snprintf(buf, size, "%s: %s", b->verdict.accel == ARGV_KVM ? "KVM" : "TCG",
                       b->verdict.why);
    pthread_mutex_unlock(&b->lock);
}
