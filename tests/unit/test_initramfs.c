#include "tests/support/check.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/folder.h"
#include "vmctl/cpio.h"
#include "vmctl/initramfs.h"

/* ---- the archive ---- */

static void an_archive_is_what_the_kernel_reads(void **state)
{
    CLEANUP(cpio_fini) struct cpio c = { .count = 0 };
    static const char want[] =
        "070701000000010000"
        "41ED000000000000000000000002000000000000000000000000000000000000000000"
        "0000000000000400000000"
        "dev\0\0\0"
        "070701000000020000"
        "81A4000000000000000000000001000000000000000500000000000000000000000000"
        "0000000000000200000000"
        "f\0"
        "hello\0\0\0"
        "070701000000030000"
        "A1FF000000000000000000000001000000000000000100000000000000000000000000"
        "0000000000000200000000"
        "l\0"
        "f\0\0\0";
    (void)state;

    cpio_dir(&c, "dev", 0755);
    cpio_file(&c, "f", 0644, "hello", 5);
    cpio_link(&c, "l", "f");
    assert_true(c.out.len == sizeof want - 1);
    assert_memory_equal(c.out.data, want, sizeof want - 1);
    assert_true(cpio_end(&c));
    assert_int_equal(c.out.len % 4, 0);
    assert_non_null(memmem(c.out.data, c.out.len, "TRAILER!!!", 11));
}

static void a_name_that_is_too_long_fails_the_archive(void **state)
{
    CLEANUP(cpio_fini) struct cpio c = { .count = 0 };
    char name[CPIO_NAME_MAX + 2];
    (void)state;

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    cpio_dir(&c, name, 0755);
    assert_false(cpio_end(&c));
}

/* ---- modules ---- */

static const char *const some[] = { "virtio_console", "virtio_blk", "ext4", NULL };

static void put_modules(void)
{
    folder_put("modules.dep", "drivers/virtio-console.ko: lib/virtio.ko lib/ring.ko\n"
                              "drivers/virtio_blk.ko: lib/virtio.ko lib/ring.ko\n"
                              "lib/virtio.ko: lib/ring.ko\n"
                              "lib/ring.ko:\n"
                              "drivers/packed.ko.xz:\n");
    folder_put("modules.builtin", "kernel/fs/ext4/ext4.ko\n");
    assert_int_equal(mkdirat(folder_fd, "drivers", 0755), 0);
    assert_int_equal(mkdirat(folder_fd, "lib", 0755), 0);
    folder_put("drivers/virtio-console.ko", "console");
    folder_put("drivers/virtio_blk.ko", "blk");
    folder_put("lib/virtio.ko", "virtio");
    folder_put("lib/ring.ko", "ring");
}

static struct initramfs_plan plan_of(const char *const *modules)
{
    static const struct initramfs_file files[] = {
        { .name = "bin/a/one", .data = "1", .len = 1, .permissions = 0755 },
        { .name = "bin/a/two", .target = "one" },
    };

    return (struct initramfs_plan){ .early = "early",
                                    .early_len = 5,
                                    .guest = "guest",
                                    .guest_len = 5,
                                    .modules_dir = folder_base,
                                    .modules = modules,
                                    .files = files,
                                    .file_count = ARRAY_LEN(files) };
}

static size_t count_of(const char *data, size_t len, const char *name)
{
    size_t n = 0, name_len = strlen(name) + 1; /* with its NUL */

    for (size_t at = 0; at + name_len <= len; at++)
        n += memcmp(data + at, name, name_len) == 0;
    return n;
}

static void holds_the_programs_the_modules_and_their_order(void **state)
{
    static const char *const names[] = { "init",          "aios-guest",      "modules",
                                         "modules/order", "modules/ring.ko", "bin",
                                         "bin/a",         "bin/a/one",       "bin/a/two" };
    struct initramfs_plan plan;
    struct error err = ERROR_INIT;
    char data[8192];
    ssize_t len;
    int fd, again;
    (void)state;

    put_modules();
    plan = plan_of(some);
    fd = initramfs_make(&plan, &err);
    assert_ok(fd >= 0, err);
    len = pread(fd, data, sizeof data, 0);
    assert_true(len > 0 && len < (ssize_t)sizeof data);
    assert_non_null(
        memmem(data, (size_t)len, "ring.ko\nvirtio.ko\nvirtio-console.ko\nvirtio_blk.ko\n", 49));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char found[64];

        (void)snprintf(found, sizeof found, "00000000%s", names[i]);
        if (count_of(data, (size_t)len, found) != 1)
            fail_msg("%s is there %zu times", names[i], count_of(data, (size_t)len, found));
    }

    /* The same again, sealed, and readable by whoever QEMU is. */
    again = initramfs_make(&plan, &err);
    assert_ok(again >= 0, err);
    {
        char other[sizeof data];
        struct stat st;

        assert_int_equal(pread(again, other, sizeof other, 0), len);
        assert_memory_equal(data, other, (size_t)len);
        assert_int_equal(fstat(again, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0444);
        assert_true(fcntl(again, F_GET_SEALS) & F_SEAL_WRITE);
    }
    fd_close(fd);
    fd_close(again);
}

static void refuses_what_is_not_there(void **state)
{
    static const char *const unknown[] = { "floppy", NULL };
    static const char *const packed[] = { "packed", NULL };
    static const struct {
        const char *const *modules;
        enum error_code code;
        const char *text;
    } rows[] = {
        { unknown, ERR_NOT_FOUND, "floppy" },
        { packed, ERR_UNSUPPORTED, "packed.ko.xz" },
    };
    (void)state;

    put_modules();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct initramfs_plan plan = plan_of(rows[i].modules);
        struct error err = ERROR_INIT;

        if (initramfs_make(&plan, &err) >= 0 || err.code != rows[i].code ||
            !strstr(err.text, rows[i].text))
            fail_msg("%s: %s", rows[i].text, err.text);
    }
    {
        struct initramfs_plan plan = plan_of(some);
        struct error err = ERROR_INIT;

        plan.modules_dir = "/nowhere";
        assert_int_equal(initramfs_make(&plan, &err), -1);
        assert_code(err, ERR_NOT_FOUND);
    }
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    put_modules();
    FAULT_EACH(n)
    {
        struct initramfs_plan plan = plan_of(some);
        struct error err = ERROR_INIT;
        int fd = initramfs_make(&plan, &err);

        FAULT_DONE(n);
        assert_int_equal(fd >= 0, n_last);
        if (fd < 0)
            assert_code(err, ERR_NOMEM);
        fd_close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_archive_is_what_the_kernel_reads),
        cmocka_unit_test(a_name_that_is_too_long_fails_the_archive),
        WITH_FOLDER(holds_the_programs_the_modules_and_their_order),
        WITH_FOLDER(refuses_what_is_not_there),
        WITH_FOLDER(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
