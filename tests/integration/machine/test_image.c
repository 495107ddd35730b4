/* The base image, really built, boots and has what it says. */
#include "tests/integration/machine/store.h"

#include "vmctl/image.h"
#include "vmctl/image_build.h"
#include "vmctl/image_recipe.h"

#define BUILD_S 1500

static struct machine_world world;
static const char *missing;
static char why[600]; /* no image could be built here */
static char hash[SHA256_HEX];

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
    return 0;
}

static int close_world(void **state)
{
    machine_close(&world);
    return folder_remove(state);
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

static void boots_and_runs_what_agents_run(void **state)
{
    static const struct {
        const char *script, *says;
    } rows[] = {
        { "python3 -c 'print(6*7)'", "42\n" },
        { "python -c 'import ssl, sqlite3, json; print(\"yes\")'", "yes\n" },
        { "node -e 'console.log(6*7)'", "42\n" },
        { "git init -q x && test -d x/.git && id -un && pwd && echo x >~/y && cat ~/y",
          "user\n/workspace\nx\n" },
        { "python3 -m venv v && v/bin/python -c 'print(1)'", "1\n" },
    };
    static const struct computer_spec spec;
    const struct computer_hooks hooks = { .loop = world.loop };
    struct vmctl_config config = store_config(&world, folder_base);
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct computer_backend *backend;
    struct computer *c;
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    config.image = NULL; /* "base" is the usual one */
    backend = vmctl_backend_new(&config, &err);
    assert_ok(backend, err);
    c = backend->create(backend, &spec, NULL, &hooks, &w, &err);
    assert_ok(c, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        store_expect(c, rows[i].script, rows[i].says);
    computer_unref(c);
    backend->free(backend);
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
