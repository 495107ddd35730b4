#include "sandbox/spec.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "sandbox/mounts.h"
#include "tests/support/check.h"

static const struct spec_defaults defaults = {
    .memory_bytes = 1ull << 30,
    .disk_bytes = 512ull << 20,
    .pids = 512,
};

static void fills_in_what_is_zero(void **state)
{
    struct error err = ERROR_INIT;
    struct computer_spec spec = { .pids = 0 };
    struct computer_spec small = { .memory_bytes = 256ull << 20 };

    (void)state;
    assert_ok(spec_complete(&spec, &defaults, &err), err);
    assert_int_equal(spec.memory_bytes, 1ull << 30);
    assert_int_equal(spec.disk_bytes, 512ull << 20);
    assert_int_equal(spec.pids, 512);
    assert_int_equal(spec.cpu_milli, 0);
    assert_true(spec_is_default(&spec, &defaults));
    assert_ok(spec_complete(&small, &defaults, &err), err);
    assert_int_equal(small.disk_bytes, 128ull << 20);
    assert_false(spec_is_default(&small, &defaults));
}

static void names_the_number_that_is_wrong(void **state)
{
    static const struct {
        struct computer_spec spec;
        const char *want; /* NULL: all right */
    } rows[] = {
        { { .memory_bytes = SPEC_MEMORY_MIN }, NULL },
        { { .memory_bytes = SPEC_MEMORY_MIN - 1 }, "memory is" },
        { { .memory_bytes = UINT64_MAX }, "memory is" },
        { { .disk_bytes = SPEC_DISK_MIN - 1 }, "disk is" },
        { { .disk_bytes = 2ull << 30 }, "disk is 2147483648 and memory 1073741824" },
        { { .memory_bytes = 4ull << 30, .disk_bytes = 4ull << 30 }, NULL },
        { { .pids = 1 }, "the number of processes is 1" },
        { { .pids = SPEC_PIDS_MAX + 1 }, "the number of processes" },
        { { .cpu_milli = 1 }, "CPU in thousandths is 1" },
        { { .cpu_milli = 500 }, NULL },
        { { .dir_count = MOUNTS_DIRS_MAX + 1 }, "folders are more than" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct computer_spec spec = rows[i].spec;
        bool ok = spec_complete(&spec, &defaults, &err);

        if (ok != !rows[i].want || (!ok && !strstr(err.text, rows[i].want)))
            fail_msg("row %zu: %d (%s)", i, err.code, err.text);
    }
}

static void shares_only_what_can_be_shared(void **state)
{
    char dir[] = "/tmp/test_spec.XXXXXX";
    char file[64], link[64], own[64], slash[64];
    struct spec_defaults with_own = defaults;
    const struct {
        const char *path;
        bool writable;
        const char *want;
    } rows[] = {
        { dir, false, NULL },
        { dir, true, "the server keeps its own files" },
        { own, false, "the server keeps its own files" },
        { slash, false, "is really" },
        { link, false, "is really" },
        { file, false, "is not a folder" },
        { "relative", false, "not an absolute path" },
        { "", false, "not an absolute path" },
        { NULL, false, "not an absolute path" },
        { "/nowhere/at/all", false, "No such file" },
        { "/", false, "/ cannot be shared" },
        { "/proc", false, "belongs to the system" },
        { "/proc/self", false, "is really" },
        { "/dev", false, "belongs to the system" },
        { "/etc", false, "belongs to the system" },
        { "/usr/share", false, "belongs to the system" },
    };

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(file, sizeof file, "%s/file", dir);
    (void)snprintf(link, sizeof link, "%s/link", dir);
    (void)snprintf(own, sizeof own, "%s/own", dir);
    (void)snprintf(slash, sizeof slash, "%s/", dir);
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(symlink(dir, link), 0);
    assert_int_equal(mkdir(own, 0700), 0);
    with_own.own[1] = own;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        const struct computer_dir shared = { rows[i].path, rows[i].writable };
        struct computer_spec spec = { .dirs = &shared, .dir_count = 1 };
        bool ok = spec_complete(&spec, &with_own, &err);

        if (ok != !rows[i].want || (!ok && !strstr(err.text, rows[i].want)))
            fail_msg("%s: %d (%s)", rows[i].path, err.code, err.text);
        if (ok)
            assert_false(spec_is_default(&spec, &with_own));
    }
    assert_true(fd_remove_tree(AT_FDCWD, dir, NULL));
}

static const char *value_of(const char *name)
{
    size_t len = strlen(name);

    for (const char *const *env = spec_env(); *env; env++) {
        if (!strncmp(*env, name, len) && (*env)[len] == '=')
            return *env + len + 1;
    }
    return "";
}

static void gives_programs_a_home_and_the_proxy(void **state)
{
    (void)state;
    assert_string_equal(value_of("HOME"), "/home/agent");
    assert_contains(value_of("PATH"), "/home/agent/.local/bin:");
    assert_string_equal(value_of("https_proxy"), "http://127.0.0.1:3128");
    assert_string_equal(value_of("HTTPS_PROXY"), "http://127.0.0.1:3128");
    assert_contains(value_of("SHELL"), "/bin/");
    assert_contains(value_of("no_proxy"), "127.0.0.1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_in_what_is_zero),
        cmocka_unit_test(names_the_number_that_is_wrong),
        cmocka_unit_test(shares_only_what_can_be_shared),
        cmocka_unit_test(gives_programs_a_home_and_the_proxy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
