#include "tools/cli/run_order.h"

#include <unistd.h>

#include "tests/support/check.h"

/* "aios run" with these words, which end with NULL. */
static bool read_words(struct run_order *o, const char *const *words, struct error *err)
{
    static char *argv[32];
    int argc = 0;
    bool helped = false;
    bool ok;

    argv[argc++] = unconst("run");
    for (size_t i = 0; words[i]; i++)
        argv[argc++] = unconst(words[i]);
    argv[argc] = NULL;
    ok = run_order_read(o, argc, argv, &helped, err);
    assert_false(helped);
    return ok;
}

static void reads_every_option(void **state)
{
    static const char *const words[] = {
        "--allow",
        "example.org:443",
        "--allow=a.org",
        "--rw",
        "/tmp",
        "--ro",
        "/",
        "--memory",
        "2G",
        "--cwd",
        "/tmp",
        "--env",
        "A=b=c",
        "--timeout",
        "1.5",
        "--json",
        "--cpus=0.25",
        "--pids",
        "64",
        "--disk",
        "1MiB",
        "--",
        "ls",
        "-l",
        NULL,
    };
    struct error err = ERROR_INIT;
    struct computer_spec spec;
    struct run_order o;
    CLEANUP(config_freep) struct config *config = config_parse(NULL, 0, "", NULL, &err);
    (void)state;

    assert_ok(config, err);
    assert_ok(read_words(&o, words, &err), err);
    assert_string_equal(o.argv[0], "ls");
    assert_string_equal(o.argv[1], "-l");
    assert_null(o.argv[2]);
    assert_int_equal(o.timeout_ns, 1500000000);
    assert_true(o.json);
    assert_string_equal(run_order_cwd(&o), "/tmp");
    assert_ok(run_order_spec(&o, config, &spec, &err), err);
    assert_int_equal(spec.allow_count, 2);
    assert_string_equal(spec.allow[1], "a.org");
    assert_string_equal(spec.env[0], "A=b=c");
    assert_null(spec.env[1]);
    assert_int_equal(spec.dir_count, 2);
    assert_string_equal(spec.dirs[0].path, "/tmp");
    assert_true(spec.dirs[0].writable);
    assert_false(spec.dirs[1].writable);
    assert_int_equal(spec.memory_bytes, 2ull << 30);
    assert_int_equal(spec.disk_bytes, 1u << 20);
    assert_int_equal(spec.cpu_milli, 250);
    assert_int_equal(spec.pids, 64);
    run_order_fini(&o);
}

static void reads_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t want; /* 0: refused */
    } rows[] = {
        { "1", 1 },
        { "4096", 4096 },
        { "1K", 1024 },
        { "1k", 1024 },
        { "512M", 512 << 20 },
        { "1.5M", 1572864 },
        { "2G", 2ull << 30 },
        { "1T", 1ull << 40 },
        { "1MB", 1 << 20 },
        { "1MiB", 1 << 20 },
        { "", 0 },
        { "M", 0 },
        { "0", 0 },
        { "-1", 0 },
        { "+1", 0 },
        { " 1", 0 },
        { "1 M", 0 },
        { "1X", 0 },
        { "1MM", 0 },
        { "1Mx", 0 },
        { "inf", 0 },
        { "nan", 0 },
        { "1e400", 0 },
        { "9999999T", 0 },
        { "0.5", 0 },
        { "1 ", 0 },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *const words[] = { "--memory", rows[i].text, "true", NULL };
        struct error err = ERROR_INIT;
        struct run_order o;
        bool ok = read_words(&o, words, &err);

        if (ok != (rows[i].want != 0) || (ok && o.memory_bytes != rows[i].want))
            fail_msg("\"%s\": %llu %s", rows[i].text, (unsigned long long)o.memory_bytes, err.text);
        if (!ok)
            assert_code(err, ERR_INVALID);
        run_order_fini(&o);
    }
}

static void starts_where_we_are_only_when_that_is_shared(void **state)
{
    static const char *const shared[] = { "--ro", "/var", "true", NULL };
    static const char *const named[] = { "--ro", "/var", "--cwd", "/opt", "true", NULL };
    static const char *const other[] = { "--rw", "/tmp", "true", NULL };
    static const char *const alike[] = { "--rw", "/var/lib", "true", NULL };
    static const struct {
        const char *const *words;
        const char *want;
    } rows[] = {
        { shared, "/var" }, { named, "/opt" }, { other, "/workspace" }, { alike, "/workspace" }
    };
    char before[4096];
    (void)state;

    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir("/var"), 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct run_order o;

        assert_ok(read_words(&o, rows[i].words, &err), err);
        assert_string_equal(run_order_cwd(&o), rows[i].want);
        run_order_fini(&o);
    }
    assert_int_equal(chdir(before), 0);
}

static void takes_the_rules_of_the_configuration_when_none_are_given(void **state)
{
    static const char text[] = "{\"computer\":{\"allow\":[\"example.org:443\"]}}";
    static const char *const none[] = { "true", NULL };
    static const char *const own[] = { "--allow", "other.org", "true", NULL };
    struct error err = ERROR_INIT;
    CLEANUP(config_freep)
    struct config *config = config_parse(text, strlen(text), "test", NULL, &err);
    struct computer_spec spec;
    struct run_order o;
    (void)state;

    assert_ok(config, err);
    assert_ok(read_words(&o, none, &err), err);
    assert_ok(run_order_spec(&o, config, &spec, &err), err);
    assert_int_equal(spec.allow_count, 1);
    assert_string_equal(spec.allow[0], "example.org:443");
    run_order_fini(&o);
    assert_ok(read_words(&o, own, &err), err);
    assert_ok(run_order_spec(&o, config, &spec, &err), err);
    assert_int_equal(spec.allow_count, 1);
    assert_string_equal(spec.allow[0], "other.org");
    run_order_fini(&o);
}

static void survives_every_allocation_failure(void **state)
{
    static const char *const words[] = { "--allow", "a:1",  "--env", "A=b",  "--env",
                                         "B=c",     "--rw", "/tmp",  "true", NULL };
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct run_order o;
        bool ok = read_words(&o, words, &err);

        FAULT_DONE(n);
        assert_true(ok == n_last);
        if (!ok)
            assert_code(err, ERR_NOMEM);
        run_order_fini(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_option),
        cmocka_unit_test(reads_sizes),
        cmocka_unit_test(starts_where_we_are_only_when_that_is_shared),
        cmocka_unit_test(takes_the_rules_of_the_configuration_when_none_are_given),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
