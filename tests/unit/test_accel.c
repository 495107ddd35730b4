#include "tests/support/check.h"

#include <stdio.h>

#include "kernel/base/clock.h"
#include "tests/support/folder.h"
#include "vmctl/accel.h"

struct trial {
    unsigned count;
    bool boots;
    enum error_code code;
};

static bool pretend(void *arg, const struct wait *w, struct error *err)
{
    struct trial *trial = arg;

    (void)w;
    trial->count++;
    return trial->boots || error_set(err, trial->code ? trial->code : ERR_TIMEOUT, "no\nHELLO");
}

static struct wait patience(void)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + 60 * CLOCK_NS_PER_S };
}

static struct accel_query query(struct trial *trial)
{
    return (struct accel_query){ .cache_dir = folder_path("cache"),
                                 .program = "/proc/self/exe",
                                 .kernel_fd = -1,
                                 .boot = pretend,
                                 .arg = trial };
}

static bool has_kvm(void)
{
    CLEANUP(fd_closep) int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    return fd >= 0;
}

static void without_a_device_nothing_is_tried(void **state)
{
    static const struct {
        const char *device;
        const char *why;
    } rows[] = {
        { "/nowhere/kvm", "No such file" },
        { "/dev/null", "does not speak" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct trial trial = { .boots = true };
        struct accel_query q = query(&trial);
        struct wait w = patience();
        struct accel_verdict v;

        q.device = rows[i].device;
        accel_choose(&q, &v, &w);
        assert_int_equal(v.accel, ARGV_TCG);
        assert_contains(v.why, rows[i].why);
        assert_int_equal(trial.count, 0);
        assert_false(folder_has("cache"));
    }
}

static void a_verdict_is_kept(void **state)
{
    (void)state;
    if (!has_kvm())
        skip_because("no /dev/kvm to try");
    for (int boots = 0; boots < 2; boots++) {
        struct trial trial = { .boots = boots };
        struct accel_query q = query(&trial);
        struct wait w = patience();
        struct accel_verdict v;

        q.cache_dir = folder_path(boots ? "a" : "b");
        accel_choose(&q, &v, &w);
        assert_false(v.cached);
        assert_int_equal(v.accel, boots ? ARGV_KVM : ARGV_TCG);
        accel_choose(&q, &v, &w);
        assert_true(v.cached);
        assert_int_equal(v.accel, boots ? ARGV_KVM : ARGV_TCG);
        assert_contains(v.why, boots ? "booted under KVM" : "no HELLO");
        assert_int_equal(trial.count, 1);
        q.program = "/bin/sh"; /* another QEMU is another question */
        accel_choose(&q, &v, &w);
        assert_int_equal(trial.count, 2);
    }
}

static void the_only_note(char path[256])
{
    DIR *dir = opendir(folder_path("cache"));

    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] != '.')
            (void)snprintf(path, 256, "%s/cache/%.64s", folder_base, e->d_name);
    }
    (void)closedir(dir);
}

static void a_note_that_is_old_or_broken_is_not_believed(void **state)
{
    static const struct {
        const char *note;
        unsigned tries; /* after the first one */
    } rows[] = {
        { "kvm 1 a guest booted\n", 0 },
        { "tcg 1 long ago\n", 1 },
        { "tcg 99999999999 in the future\n", 1 },
        { "kvm\n", 1 },
        { "kvm x y\n", 1 },
        { "kvm 1", 1 },
        { "kvm 1 \xff\n", 1 },
        { "", 1 },
    };
    (void)state;

    if (!has_kvm())
        skip_because("no /dev/kvm to try");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct trial trial = { .boots = false };
        struct accel_query q = query(&trial);
        struct wait w = patience();
        struct error err = ERROR_INIT;
        struct accel_verdict v;
        char path[256] = "";

        accel_choose(&q, &v, &w);
        the_only_note(path);
        trial.count = 0;
        assert_ok(fd_replace_file(path, rows[i].note, strlen(rows[i].note), 0600, &err), err);
        accel_choose(&q, &v, &w);
        if (trial.count != rows[i].tries)
            fail_msg("\"%s\": tried %u times", rows[i].note, trial.count);
        assert_ok(fd_remove_tree(folder_fd, "cache", &err), err);
    }
}

static void a_probe_that_was_cut_short_is_not_kept(void **state)
{
    struct trial trial = { .boots = false };
    struct accel_query q = query(&trial);
    struct wait w = { .deadline_ns = 0 };
    struct accel_verdict v;
    (void)state;

    if (!has_kvm())
        skip_because("no /dev/kvm to try");
    accel_choose(&q, &v, &w);
    assert_int_equal(v.accel, ARGV_TCG);
    assert_false(folder_has("cache"));
}

static void the_clock_rate_is_what_it_was_a_moment_ago(void **state)
{
    uint32_t a = accel_tsc_khz(), b = accel_tsc_khz();
    (void)state;

    assert_true(a > 100000 && a < 20000000);
    assert_true(MAX(a, b) - MIN(a, b) < a / 100);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    FAULT_EACH(n)
    {
        struct trial trial = { .boots = true };
        struct accel_query q = query(&trial);
        struct wait w = patience();
        struct accel_verdict v;

        accel_choose(&q, &v, &w);
        FAULT_DONE(n);
        assert_true(v.why[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(without_a_device_nothing_is_tried),
        WITH_FOLDER(a_verdict_is_kept),
        WITH_FOLDER(a_note_that_is_old_or_broken_is_not_believed),
        WITH_FOLDER(a_probe_that_was_cut_short_is_not_kept),
        cmocka_unit_test(the_clock_rate_is_what_it_was_a_moment_ago),
        WITH_FOLDER(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
