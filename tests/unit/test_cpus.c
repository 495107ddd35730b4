#include "kernel/cpus.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "tests/support/check.h"

static void knows_a_good_text_from_a_bad_one(void **state)
{
    static const struct {
        const char *text;
        bool ok;
    } rows[] = {
        { "", true },        { "auto", true },   { "0", true },       { "0-3,6", true },
        { "1023", true },    { "node0", true },  { "node12", true },  { "0,0,0", true },
        { "1024", false },   { "3-1", false },   { "0-", false },     { "-1", false },
        { ",", false },      { "0,", false },    { "0 1", false },    { "any", false },
        { "node", false },   { "nodex", false }, { "node1x", false }, { "0x1", false },
        { "99999", false },  { "auto1", false }, { "1-2-3", false },  { "0\n", false },
        { "node-1", false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        if (cpus_check(rows[i].text, &err) != rows[i].ok ||
            err.code != (rows[i].ok ? ERR_NONE : ERR_INVALID))
            fail_msg("\"%s\": %s", rows[i].text, err.text);
    }
}

static void any_binds_nothing(void **state)
{
    cpu_set_t set;
    bool any;
    (void)state;

    assert_true(cpus_of_thread("", 0, "/sys", &set, &any, NULL));
    assert_true(any);
}

static void a_list_is_for_every_thread(void **state)
{
    cpu_set_t set;
    bool any;
    (void)state;

    for (size_t number = 0; number < 3; number++) {
        assert_true(cpus_of_thread("1-2,7", number, "/sys", &set, &any, NULL));
        assert_false(any);
        assert_int_equal(CPU_COUNT(&set), 3);
        assert_true(CPU_ISSET(1, &set) && CPU_ISSET(2, &set) && CPU_ISSET(7, &set));
    }
}

static void auto_spreads_over_what_is_allowed(void **state)
{
    cpu_set_t allowed, all, set;
    bool any;
    (void)state;

    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    CPU_ZERO(&all);
    for (size_t number = 0; number < (size_t)CPU_COUNT(&allowed); number++) {
        assert_true(cpus_of_thread("auto", number, "/sys", &set, &any, NULL));
        if (any) { /* there is but one */
            assert_int_equal(CPU_COUNT(&allowed), 1);
            return;
        }
        assert_int_equal(CPU_COUNT(&set), 1);
        CPU_OR(&all, &all, &set);
    }
    assert_true(CPU_EQUAL(&all, &allowed));
}

static void a_node_is_what_the_system_says(void **state)
{
    char dir[] = "/tmp/test_cpus.XXXXXX", path[256];
    struct error err = ERROR_INIT;
    cpu_set_t set;
    bool any;
    int fd;
    (void)state;

    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/devices/system/node/node1", dir);
    assert_ok(fd_mkdirs(path, 0700, &err), err);
    (void)snprintf(path, sizeof path, "%s/devices/system/node/node1/cpulist", dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "4-5,9\n", 6), 6);
    close(fd);
    assert_ok(cpus_of_thread("node1", 3, dir, &set, &any, &err), err);
    assert_false(any);
    assert_int_equal(CPU_COUNT(&set), 3);
    assert_true(CPU_ISSET(4, &set) && CPU_ISSET(5, &set) && CPU_ISSET(9, &set));
    assert_false(cpus_of_thread("node0", 0, dir, &set, &any, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_true(fd_remove_tree(AT_FDCWD, dir, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_a_good_text_from_a_bad_one),
        cmocka_unit_test(any_binds_nothing),
        cmocka_unit_test(a_list_is_for_every_thread),
        cmocka_unit_test(auto_spreads_over_what_is_allowed),
        cmocka_unit_test(a_node_is_what_the_system_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
