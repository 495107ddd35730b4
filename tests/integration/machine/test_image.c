/* The base image, really built, boots and has what it says. */
#include "tests/integration/machine/machine.h"

#include "kernel/computer/computer.h"
#include "tests/support/folder.h"
#include "vmctl/image.h"
#include "vmctl/image_build.h"
#include "vmctl/image_recipe.h"
#include "vmctl/vmctl.h"

#define BUILD_S 1500

static struct machine_world world;
static const char *missing;
static char why[600]; /* no image could be built here */
static char hash[SHA256_HEX];
static char image[256]; /* its folder */

static bool build(bool again, struct error *err)
{
    char *folder = image_recipe_folder("base", NULL, err);
    bool ok =
        folder &&
        image_build(&(struct image_build){ .recipe = folder,
                                           .store = folder_base,
                                           .deadline_ns = clock_now_ns() + BUILD_S * CLOCK_NS_PER_S,
                                           .again = again },
                    hash, err);

    free(folder);
    return ok;
}

static int open_world(void **state)
{
    struct error err = ERROR_INIT;

    /* The first loop of a process opens what libuv keeps for all of them. */
    loop_free(loop_new(NULL));
    if (folder_make(state) != 0)
        return -1;
    missing = machine_open(&world);
    if (missing)
        return 0;
    if (!build(false, &err)) {
        if (err.code != ERR_UNSUPPORTED)
            fail_msg("%s", err.text);
        (void)snprintf(why, sizeof why, "%s", err.text);
        missing = why;
    }
    (void)snprintf(image, sizeof image, "%s/%s", folder_base, hash);
    return 0;
}

static int close_world(void **state)
{
    machine_close(&world);
    return folder_remove(state);
}

static int open_file(const char *name)
{
    char path[400];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", image, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void print_damage(void *arg, const char *path, const char *what)
{
    (void)arg;
    print_message("%s: %s\n", path, what);
}

static void is_whole_and_says_what_is_in_it(void **state)
{
    struct error err = ERROR_INIT;
    json_t *record, *packages;
    unsigned damaged;
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    assert_ok(image_verify(folder_base, hash, print_damage, NULL, &damaged, &err), err);
    assert_int_equal(damaged, 0);
    record = image_record(folder_base, hash, &err);
    assert_ok(record, err);
    packages = json_object_get(record, "packages");
    assert_true(json_is_string(json_object_get(packages, "python3")));
    assert_true(json_is_string(json_object_get(packages, "nodejs")));
    assert_null(json_object_get(packages, "linux-image-cloud-amd64"));
    assert_true(json_is_string(json_object_get(record, "kernel")));
    json_decref(record);
}

/* With the image's own kernel and modules. */
static int make_initramfs(void)
{
    static const char *const modules[] = { "virtio_mmio", "virtio_pci",     "virtio_console",
                                           "virtio_blk",  "crc32c_generic", "ext4",
                                           NULL };
    struct error err = ERROR_INIT;
    json_t *record = image_record(folder_base, hash, &err);
    char modules_dir[600];
    int fd;

    assert_ok(record, err);
    (void)snprintf(modules_dir, sizeof modules_dir, "%s/" IMAGE_MODULES "/%s", image,
                   json_string_value(json_object_get(record, "kernel")));
    json_decref(record);
    fd = initramfs_make(&(struct initramfs_plan){ .early = early_image,
                                                  .early_len = early_image_len,
                                                  .guest = guest_image,
                                                  .guest_len = guest_image_len,
                                                  .modules_dir = modules_dir,
                                                  .modules = modules },
                        &err);
    assert_ok(fd >= 0, err);
    return fd;
}

static void assert_runs(struct computer *c, const char *const *argv, const char *want)
{
    static const char *const env[] = { "PATH=/usr/bin:/bin", "HOME=/root", NULL };
    struct guest_run_spec spec = { .argv = argv, .env = env, .cwd = "/" };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    CLEANUP(guest_run_unrefp)
    struct guest_run *run = guest_spawn(computer_guest(c), &spec, &w, &err);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct guest_run_info info;
    uint64_t offset = 0;

    assert_ok(run, err);
    assert_ok(guest_run_wait(run, 0, NULL, &w, &err), err);
    guest_run_info(run, &info);
    assert_true(guest_run_read(run, WIRE_STREAM_OUT, &offset, 65536, &out) >= 0);
    assert_string_equal(buf_str(&out), want);
    assert_int_equal(info.end, GUEST_RUN_EXIT);
    assert_int_equal(info.value, 0);
}

static void boots_and_runs_what_agents_run(void **state)
{
    static const char *const rows[][5] = {
        { "/usr/bin/python3", "-c", "print(6*7)", NULL },
        { "/usr/bin/python", "-c", "import ssl, sqlite3, json; print('yes')", NULL },
        { "/usr/bin/node", "-e", "console.log(6*7)", NULL },
        { "/bin/bash", "-c", "cd /tmp && git init -q x && test -d x/.git && id -un 1000", NULL },
    };
    static const char *const wants[] = { "42\n", "yes\n", "42\n", "user\n" };
    static const struct computer_spec spec;
    const struct computer_hooks hooks = { .loop = world.loop };
    struct vmctl_config config = { .loop = world.loop, .cache_dir = folder_base };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct computer_backend *backend;
    struct computer *c;
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    config.kernel_fd = open_file(IMAGE_KERNEL);
    config.disk_fd = open_file(IMAGE_DISK);
    config.initrd_fd = make_initramfs();
    backend = vmctl_backend_new(&config, &err);
    assert_ok(backend, err);
    c = backend->create(backend, &spec, NULL, &hooks, &w, &err);
    assert_ok(c, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_runs(c, rows[i], wants[i]);
    computer_unref(c);
    backend->free(backend);
    fd_close(config.kernel_fd);
    fd_close(config.disk_fd);
    fd_close(config.initrd_fd);
}

/* The record names each file's sum; apt may have got newer packages between the two, which is not
 * what this is about. */
static void built_again_it_is_the_same(void **state)
{
    struct error err = ERROR_INIT;
    json_t *first, *second;
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    first = image_record(folder_base, hash, &err);
    assert_ok(first, err);
    assert_ok(build(true, &err), err);
    second = image_record(folder_base, hash, &err);
    assert_ok(second, err);
    if (json_equal(json_object_get(first, "packages"), json_object_get(second, "packages")))
        assert_true(json_equal(json_object_get(first, "files"), json_object_get(second, "files")));
    json_decref(first);
    json_decref(second);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_whole_and_says_what_is_in_it),
        cmocka_unit_test(boots_and_runs_what_agents_run),
        cmocka_unit_test(built_again_it_is_the_same),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
