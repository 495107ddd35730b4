#include "tests/support/check.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "tests/support/folder.h"
#include "vmctl/template_store.h"

static struct wait patience(void)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + 60 * CLOCK_NS_PER_S };
}

static struct vm_spec spec_with(int base_fd)
{
    return (struct vm_spec){
        .program = "/bin/true",
        .argv = { .memory_mib = 64,
                  .cpus = 1,
                  .kernel_fd = -1,
                  .initrd_fd = -1,
                  .ram_fd = -1,
                  .disk_fd = -1,
                  .disk_frozen_fd = -1,
                  .disk_base_fd = base_fd },
    };
}

/* A file without a name of @len bytes that all are @fill. */
static int file_of(size_t len, int fill)
{
    int fd = open(folder_base, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char *bytes = malloc(len);

    assert_true(fd >= 0 && bytes);
    memset(bytes, fill, len);
    assert_int_equal(pwrite(fd, bytes, len, 0), (ssize_t)len);
    free(bytes);
    return fd;
}

static const char *version;
static int version_status;

/* What the real one does, with a program that only tells its version. */
static bool start_version(const struct process_plan *plan, struct process *ret, struct error *err)
{
    int words[2], pidfd = -1;
    long pid;

    (void)err;
    assert_string_equal(plan->argv[1], "--version");
    assert_int_equal(pipe2(words, O_CLOEXEC | O_NONBLOCK), 0);
    pid = fork();
    if (pid == 0) {
        if (!version)
            for (;;)
                (void)pause();
        (void)!write(words[1], version, strlen(version));
        _exit(version_status);
    }
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    fd_close(words[1]);
    *ret = (struct process){ .pid = (pid_t)pid, .pidfd = pidfd, .words_fd = words[0] };
    return true;
}

static void key_of(const struct vm_spec *spec, const char *image, char ret[SHA256_HEX])
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(template_key(spec, image, ret, &w, &err), err);
}

enum change {
    NOTHING,
    MEMORY_SIZE,
    APPEND,
    FIRMWARE,
    KERNEL,
    INITRD,
    DISK,
    IMAGE,
    VERSION,
    PROGRAM
};

static void a_key_is_of_everything_that_shapes_the_state(void **state)
{
    int kernels[2] = { file_of(1000, 'k'), file_of(1001, 'k') };
    int initrds[2] = { file_of(1000, 'i'), file_of(1000, 'j') };
    int bases[2] = { file_of(512, 'b'), file_of(512, 'b') };
    char keys[PROGRAM + 1][SHA256_HEX], again[SHA256_HEX];
    (void)state;

    version_status = 0;
    for (int i = NOTHING; i <= PROGRAM; i++) {
        struct vm_spec spec = spec_with(bases[i == DISK]);

        version = i == VERSION ? "QEMU emulator version 8.0.0" : "QEMU emulator version 7.2.0";
        spec.start = start_version;
        spec.program = i == PROGRAM ? "/bin/false" : "/bin/true";
        spec.argv.memory_mib += i == MEMORY_SIZE;
        spec.argv.append = i == APPEND ? "quiet" : NULL;
        spec.argv.firmware = i == FIRMWARE ? "/usr/share/other" : NULL;
        spec.argv.kernel_fd = kernels[i == KERNEL];
        spec.argv.initrd_fd = initrds[i == INITRD];
        key_of(&spec, i == IMAGE ? "b" : "a", keys[i]);
        key_of(&spec, i == IMAGE ? "b" : "a", again);
        assert_string_equal(keys[i], again);
        for (int k = 0; k < i; k++) {
            if (!strcmp(keys[k], keys[i]))
                fail_msg("changes %d and %d have one key", k, i);
        }
    }
    for (int i = 0; i < 2; i++) {
        fd_close(kernels[i]);
        fd_close(initrds[i]);
        fd_close(bases[i]);
    }
}

static void a_program_that_does_not_tell_its_version_has_no_key(void **state)
{
    static const struct {
        const char *version;
        int status;
        enum error_code want;
    } rows[] = { { "", 0, ERR_IO }, { "QEMU", 1, ERR_IO }, { NULL, 0, ERR_TIMEOUT } };
    int kernel = file_of(10, 'k');
    struct vm_spec spec = spec_with(-1);
    (void)state;

    spec.start = start_version;
    spec.argv.kernel_fd = spec.argv.initrd_fd = kernel;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct wait w = patience();
        struct error err = ERROR_INIT;
        char key[SHA256_HEX];

        if (rows[i].want == ERR_TIMEOUT)
            w.deadline_ns = clock_now_ns() + 50 * CLOCK_NS_PER_MS;
        version = rows[i].version;
        version_status = rows[i].status;
        assert_false(template_key(&spec, NULL, key, &w, &err));
        assert_code(err, rows[i].want);
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    fd_close(kernel);
}

static void survives_every_allocation_failure(void **state)
{
    int kernel = file_of(10, 'k');
    struct vm_spec spec = spec_with(-1);
    (void)state;

    version = "QEMU emulator version 7.2.0";
    version_status = 0;
    spec.start = start_version;
    spec.argv.kernel_fd = spec.argv.initrd_fd = kernel;
    FAULT_EACH(n)
    {
        struct wait w = patience();
        struct error err = ERROR_INIT;
        char key[SHA256_HEX];
        bool ok = template_key(&spec, NULL, key, &w, &err);

        FAULT_DONE(n);
        if (!ok)
            assert_code(err, ERR_NOMEM);
    }
    fd_close(kernel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_is_of_everything_that_shapes_the_state, folder_make,
                                        folder_remove),
        cmocka_unit_test_setup_teardown(a_program_that_does_not_tell_its_version_has_no_key,
                                        folder_make, folder_remove),
        cmocka_unit_test_setup_teardown(survives_every_allocation_failure, folder_make,
                                        folder_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
