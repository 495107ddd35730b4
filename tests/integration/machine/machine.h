/*
 * machine - what the tests of virtual machines share: a loop on its own thread, a kernel of this
 * system, and an initramfs with busybox, so that no image is needed.
 */
#pragma once

#include "tests/support/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/guest/image.h"
#include "images/initramfs/image.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/computer/guest.h"
#include "vmctl/initramfs.h"
#include "vmctl/vm.h"

#define PATIENCE_S 240 /* an emulated boot on a busy machine; an idle one takes three */
#define UNUSED     __attribute__((unused))

struct machine_world {
    struct loop *loop;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ready;
    struct loop_post stop;
    char *qemu;
    int kernel_fd, initrd_fd;
    char release[128];
};

static inline struct wait patience(void)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + PATIENCE_S * CLOCK_NS_PER_S };
}

static void *machine_loop(void *arg)
{
    struct machine_world *mw = arg;
    struct loop *loop = loop_new(NULL);

    pthread_mutex_lock(&mw->lock);
    mw->loop = loop;
    pthread_cond_signal(&mw->ready);
    pthread_mutex_unlock(&mw->lock);
    loop_run(loop);
    loop_free(loop);
    return NULL;
}

/* The newest kernel of /boot that can be read and whose modules are there. */
static inline bool machine_find_kernel(struct machine_world *mw)
{
    DIR *dir = opendir("/boot");

    mw->release[0] = '\0';
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[300];

        if (strncmp(e->d_name, "vmlinuz-", 8) != 0 || !strstr(e->d_name, "cloud"))
            continue;
        (void)snprintf(path, sizeof path, "/lib/modules/%.200s/modules.dep", e->d_name + 8);
        if (access(path, R_OK) == 0 && strcmp(e->d_name + 8, mw->release) > 0)
            (void)snprintf(mw->release, sizeof mw->release, "%.120s", e->d_name + 8);
    }
    if (dir)
        (void)closedir(dir);
    return mw->release[0];
}

/** @busybox: its bytes. */
static inline int machine_initramfs(const struct machine_world *mw, const char *busybox, size_t len)
{
    static const char *const modules[] = { "virtio_mmio", "virtio_pci", "virtio_console",
                                           "virtio_blk", NULL };
    static const char *const names[] = {
        "sh",       "true", "cat",  "echo", "date", "head", "od",
        "hostname", "ls",   "stty", "tty",  "dd",   "ps",   "kill"
    };
    struct initramfs_file files[ARRAY_LEN(names) + 2];
    char modules_dir[200], paths[ARRAY_LEN(names)][24];
    struct error err = ERROR_INIT;
    size_t n = 0;
    int fd;

    files[n++] = (struct initramfs_file){
        .name = "bin/busybox", .data = busybox, .len = len, .permissions = 0755
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(paths[i], sizeof paths[i], "bin/%s", names[i]);
        files[n++] = (struct initramfs_file){ .name = paths[i], .target = "busybox" };
    }
    (void)snprintf(modules_dir, sizeof modules_dir, "/lib/modules/%s", mw->release);
    fd = initramfs_make(&(struct initramfs_plan){ .early = early_image,
                                                  .early_len = early_image_len,
                                                  .guest = guest_image,
                                                  .guest_len = guest_image_len,
                                                  .modules_dir = modules_dir,
                                                  .modules = modules,
                                                  .files = files,
                                                  .file_count = n },
                        &err);
    assert_ok(fd >= 0, err);
    return fd;
}

/** NULL, or what is missing here. */
UNUSED static const char *machine_open(struct machine_world *mw)
{
    char path[200];
    char *busybox;
    size_t len;

    memset(mw, 0, sizeof *mw);
    mw->kernel_fd = mw->initrd_fd = -1;
    mw->qemu = process_find("qemu-system-x86_64", NULL);
    if (!mw->qemu)
        return "qemu-system-x86_64";
    if (!machine_find_kernel(mw))
        return "linux-image-cloud-amd64";
    (void)snprintf(path, sizeof path, "/boot/vmlinuz-%s", mw->release);
    mw->kernel_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (mw->kernel_fd < 0)
        return "a readable kernel";
    busybox = fd_read_file(AT_FDCWD, "/bin/busybox", 8u << 20, &len, NULL);
    if (!busybox)
        return "busybox";
    mw->initrd_fd = machine_initramfs(mw, busybox, len);
    free(busybox);
    pthread_mutex_init(&mw->lock, NULL);
    pthread_cond_init(&mw->ready, NULL);
    assert_int_equal(pthread_create(&mw->thread, NULL, machine_loop, mw), 0);
    pthread_mutex_lock(&mw->lock);
    while (!mw->loop)
        pthread_cond_wait(&mw->ready, &mw->lock);
    pthread_mutex_unlock(&mw->lock);
    return NULL;
}

static void machine_on_stop(struct loop_post *post)
{
    loop_stop(CONTAINER_OF(post, struct machine_world, stop)->loop);
}

UNUSED static void machine_close(struct machine_world *mw)
{
    if (mw->loop) {
        loop_post(mw->loop, &mw->stop, machine_on_stop);
        pthread_join(mw->thread, NULL);
        pthread_mutex_destroy(&mw->lock);
        pthread_cond_destroy(&mw->ready);
    }
    fd_close(mw->kernel_fd);
    fd_close(mw->initrd_fd);
    free(mw->qemu);
}

struct machine_passing {
    struct loop_post post;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool passed;
};

static void machine_on_pass(struct loop_post *post)
{
    struct machine_passing *p = CONTAINER_OF(post, struct machine_passing, post);

    pthread_mutex_lock(&p->lock);
    p->passed = true;
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->lock);
}

/** Let the loop finish what it was told to: what was posted before, and then the closing of it. */
UNUSED static void machine_pass(const struct machine_world *mw)
{
    for (int i = 0; i < 4; i++) {
        struct machine_passing p = { .passed = false };

        pthread_mutex_init(&p.lock, NULL);
        pthread_cond_init(&p.done, NULL);
        loop_post(mw->loop, &p.post, machine_on_pass);
        pthread_mutex_lock(&p.lock);
        while (!p.passed)
            pthread_cond_wait(&p.done, &p.lock);
        pthread_mutex_unlock(&p.lock);
        pthread_mutex_destroy(&p.lock);
        pthread_cond_destroy(&p.done);
    }
}

UNUSED static struct vm_spec machine_spec(const struct machine_world *mw)
{
    struct vm_spec spec = {
        .loop = mw->loop,
        .program = mw->qemu,
        .argv = { .machine = ARGV_Q35,
                  .accel = ARGV_TCG,
                  .memory_mib = 256,
                  .cpus = 1,
                  .kernel_fd = mw->kernel_fd,
                  .initrd_fd = mw->initrd_fd,
                  .ram_fd = -1,
                  .disk_fd = -1,
                  .disk_frozen_fd = -1,
                  .disk_base_fd = -1 },
    };

    if (geteuid() == 0)
        spec.uid = spec.gid = 1879048192u; /* nobody's */
    return spec;
}

/* ---- programs inside ---- */

UNUSED static struct guest_run *machine_start(struct guest *g, const char *script, bool pty)
{
    const char *const argv[] = { "/bin/sh", "-c", script, NULL };
    const char *const env[] = { "PATH=/bin", "HOME=/", NULL };
    struct guest_run_spec spec = { .argv = argv, .env = env, .cwd = "/", .pty = pty };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct guest_run *run = guest_spawn(g, &spec, &w, &err);

    assert_ok(run, err);
    return run;
}

/** What a script says, which must end well; for free(). */
UNUSED static char *machine_hear(struct guest *g, const char *script, bool pty)
{
    CLEANUP(guest_run_unrefp) struct guest_run *run = machine_start(g, script, pty);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct guest_run_info info;
    uint64_t offset = 0;

    assert_ok(guest_run_wait(run, 0, NULL, &w, &err), err);
    guest_run_info(run, &info);
    assert_true(guest_run_read(run, WIRE_STREAM_OUT, &offset, 65536, &out) >= 0);
    if (info.end != GUEST_RUN_EXIT || info.value != 0)
        fail_msg("%s: end %d, %d: %s", script, info.end, info.value, buf_str(&out));
    assert_true(buf_append_str(&out, ""));
    return out.data ? buf_take(&out, NULL) : strdup("");
}

UNUSED static void assert_says(struct guest *g, const char *script, bool pty, const char *want)
{
    char *got = machine_hear(g, script, pty);

    if (strcmp(got, want) != 0)
        fail_msg("%s: \"%s\"", script, got);
    free(got);
}

/** Wait for a guest's HELLO; the console tells why there was none. */
UNUSED static struct guest *machine_meet(const struct machine_world *mw, struct vm *vm)
{
    static const struct guest_events no_events = { .on_lost = NULL };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct guest *g = guest_new(mw->loop, vm_take_stream(vm), &no_events, NULL, &err);

    assert_ok(g, err);
    if (!guest_ready(g, &w, &err)) {
        CLEANUP(buf_fini) struct buf console = BUF_INIT;

        (void)vm_console(vm, 20, &console);
        fail_msg("%s; console: %s", err.text, buf_str(&console));
    }
    return g;
}
