/*
 * A cold boot of an image's machine to its guest's answer, beside the same kernel with an initramfs
 * that has busybox and nothing else, to the end of its init.
 *
 *   bench_boot IMAGES_DIR [IMAGE [ROUNDS]]      prints {"ours_ms": […], "peer_ms": […]}
 */
#include "tests/integration/machine/machine.h"

#include <sys/mman.h>

#include "kernel/base/json.h"
#include "kernel/computer/computer.h"
#include "tests/support/folder.h"
#include "vmctl/accel.h"
#include "vmctl/cpio.h"
#include "vmctl/image.h"
#include "vmctl/vmctl.h"

#define ROUNDS_MAX  50
#define UNUSUAL_MIB 320u /* no template has this size, so that it boots */

static const char peer_init[] = "#!/bin/busybox sh\nexec /bin/busybox reboot -f\n";

struct ending {
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool ended;
};

static void on_ended(void *arg, struct vm *vm, const char *why)
{
    struct ending *e = arg;

    (void)vm;
    (void)why;
    pthread_mutex_lock(&e->lock);
    e->ended = true;
    pthread_cond_signal(&e->over);
    pthread_mutex_unlock(&e->lock);
}

static int memory_file(const void *data, size_t len)
{
    int fd = memfd_create("bench", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    return fd;
}

static int peer_initramfs(void)
{
    struct cpio c = { .count = 0 };
    struct error err = ERROR_INIT;
    size_t len;
    char *busybox = fd_read_file(AT_FDCWD, "/bin/busybox", 8u << 20, &len, &err);
    int fd;

    assert_ok(busybox, err);
    cpio_dir(&c, "bin", 0755);
    cpio_dir(&c, "dev", 0755);
    cpio_file(&c, "bin/busybox", 0755, busybox, len);
    cpio_file(&c, "init", 0755, peer_init, sizeof peer_init - 1);
    assert_true(cpio_end(&c));
    fd = memory_file(c.out.data, c.out.len);
    cpio_fini(&c);
    free(busybox);
    return fd;
}

static double peer_ms(const struct vm_spec *spec)
{
    struct ending e = { .lock = PTHREAD_MUTEX_INITIALIZER };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    int64_t begun_ns = clock_now_ns();
    struct vm *vm;

    cond_init(&e.over);
    vm = vm_start(spec, on_ended, &e, &w, &err);
    assert_ok(vm, err);
    pthread_mutex_lock(&e.lock);
    while (!e.ended)
        assert_true(wait_cond(&w, &e.over, &e.lock));
    pthread_mutex_unlock(&e.lock);
    begun_ns = clock_now_ns() - begun_ns;
    vm_free(vm);
    return (double)begun_ns / CLOCK_NS_PER_MS;
}

static double our_ms(struct computer_backend *b, struct loop *loop)
{
    const struct computer_spec spec = { .memory_bytes = (uint64_t)UNUSUAL_MIB << 20 };
    const struct computer_hooks hooks = { .loop = loop };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    int64_t begun_ns = clock_now_ns();
    struct computer *c = b->create(b, &spec, NULL, &hooks, &w, &err);

    assert_ok(c, err);
    assert_ok(guest_ping(computer_guest(c), &w, &err), err);
    begun_ns = clock_now_ns() - begun_ns;
    computer_destroy(c);
    computer_unref(c);
    return (double)begun_ns / CLOCK_NS_PER_MS;
}

static void print_list(const char *name, const double *ms, int count)
{
    printf("\"%s\": [", name);
    for (int i = 0; i < count; i++)
        printf("%s%.1f", i ? ", " : "", ms[i]);
    printf("]");
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "", *image = argc > 2 ? argv[2] : "base";
    int rounds = argc > 3 ? MIN(ROUNDS_MAX, MAX(1, (int)strtol(argv[3], NULL, 10))) : 7;
    double ours[ROUNDS_MAX], peer[ROUNDS_MAX];
    struct machine_world world;
    struct error err = ERROR_INIT;
    const char *missing = machine_open(&world);
    char *hash = missing ? NULL : image_find(dir, image, &err);
    struct computer_backend *b;
    struct vm_spec spec;
    char path[600];
    int failed;

    if (!hash) {
        fprintf(stderr, "bench_boot: %s is missing\n", missing ? missing : err.text);
        return 1;
    }
    assert_int_equal(folder_make(NULL), 0);
    b = vmctl_backend_new(&(struct vmctl_config){ .loop = world.loop,
                                                  .images_dir = dir,
                                                  .image = image,
                                                  .cache_dir = folder_base,
                                                  .early = early_image,
                                                  .early_len = early_image_len,
                                                  .guest = guest_image,
                                                  .guest_len = guest_image_len },
                          &err);
    assert_ok(b, err);
    (void)snprintf(path, sizeof path, "%s/%s/vmlinuz", dir, hash);
    spec = machine_spec(&world);
    spec.argv.kernel_fd = open(path, O_RDONLY | O_CLOEXEC);
    spec.argv.initrd_fd = peer_initramfs();
    spec.argv.memory_mib = UNUSUAL_MIB;
    spec.argv.tsc_khz = accel_tsc_khz();
    (void)our_ms(b, world.loop); /* the probe, and the files into memory */
    for (int i = 0; i < rounds; i++) {
        peer[i] = peer_ms(&spec);
        ours[i] = our_ms(b, world.loop);
    }
    printf("{");
    print_list("ours_ms", ours, rounds);
    printf(", ");
    print_list("peer_ms", peer, rounds);
    printf("}\n");
    b->free(b);
    fd_close(spec.argv.kernel_fd);
    fd_close(spec.argv.initrd_fd);
    free(hash);
    failed = folder_remove(NULL);
    machine_close(&world);
    return failed;
}
