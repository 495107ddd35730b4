#include "kernel/base/paths.h"

#include <unistd.h>

#include "tests/support/check.h"

static const char *const variables[] = { "AIOS_HOME",       "XDG_CONFIG_HOME", "XDG_STATE_HOME",
                                         "XDG_RUNTIME_DIR", "XDG_CACHE_HOME",  "HOME" };

static int clean_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        unsetenv(variables[i]);
    return 0;
}

static void expect(enum paths_kind kind, const char *name, const char *want)
{
    struct error err = ERROR_INIT;
    char *path = paths_get(kind, name, &err);

    assert_ok(path != NULL, err);
    assert_string_equal(path, want);
    free(path);
}

static void aios_home_overrides_everything(void **state)
{
    (void)state;
    setenv("AIOS_HOME", "/a", 1);
    setenv("XDG_CONFIG_HOME", "/x", 1);
    expect(PATHS_CONFIG, "config.json", "/a/config/config.json");
    expect(PATHS_STATE, NULL, "/a/state");
    expect(PATHS_RUNTIME, NULL, "/a/run");
    expect(PATHS_CACHE, "images", "/a/cache/images");
}

static void xdg_variables_count_when_absolute(void **state)
{
    (void)state;
    setenv("XDG_CONFIG_HOME", "/xc", 1);
    setenv("XDG_STATE_HOME", "/xs", 1);
    setenv("XDG_RUNTIME_DIR", "/xr", 1);
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("HOME", "/h", 1);
    expect(PATHS_CONFIG, NULL, "/xc/aios");
    expect(PATHS_STATE, "audit.db", "/xs/aios/audit.db");
    expect(PATHS_RUNTIME, NULL, "/xr/aios");
    expect(PATHS_CACHE, NULL, geteuid() == 0 ? "/var/cache/aios" : "/h/.cache/aios");
}

static void without_variables_the_user_decides(void **state)
{
    bool root = geteuid() == 0;

    (void)state;
    setenv("HOME", "/h", 1);
    expect(PATHS_CONFIG, NULL, root ? "/etc/aios" : "/h/.config/aios");
    expect(PATHS_STATE, "x", root ? "/var/lib/aios/x" : "/h/.local/state/aios/x");
    expect(PATHS_RUNTIME, NULL, root ? "/run/aios" : "/h/.local/state/aios/run");
    expect(PATHS_CACHE, NULL, root ? "/var/cache/aios" : "/h/.cache/aios");
}

static void an_ordinary_user_without_home_is_told(void **state)
{
    struct error err = ERROR_INIT;
    char *path = paths_get(PATHS_STATE, NULL, &err);

    (void)state;
    if (geteuid() == 0) {
        assert_string_equal(path, "/var/lib/aios");
        free(path);
        return;
    }
    assert_null(path);
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "XDG_STATE_HOME");
}

static void a_relative_override_is_refused(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    setenv("AIOS_HOME", "a/b", 1);
    assert_null(paths_get(PATHS_STATE, NULL, &err));
    assert_code(err, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(aios_home_overrides_everything, clean_environment),
        cmocka_unit_test_setup(xdg_variables_count_when_absolute, clean_environment),
        cmocka_unit_test_setup(without_variables_the_user_decides, clean_environment),
        cmocka_unit_test_setup(an_ordinary_user_without_home_is_told, clean_environment),
        cmocka_unit_test_setup(a_relative_override_is_refused, clean_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
