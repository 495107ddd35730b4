#include "tests/support/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "tests/support/folder.h"
#include "vmctl/image.h"
#include "vmctl/image_program.h"
#include "vmctl/image_recipe.h"

#define HASH_A "aaaa000000000000000000000000000000000000000000000000000000000000"
#define HASH_B "aaaa111111111111111111111111111111111111111111111111111111111111"
#define HASH_C "cccc000000000000000000000000000000000000000000000000000000000000"

static int64_t soon(void)
{
    return clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S);
}

static void put(const char *folder, const char *name, const char *text)
{
    char path[600];
    struct error err = ERROR_INIT;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(fd_replace_file(path, text, strlen(text), 0644, &err), err);
}

/* An image of two files, one of them in a folder. */
static void make(const char *hash, const char *name)
{
    struct error err = ERROR_INIT;
    CLEANUP(fd_closep) int lock = image_lock(folder_base, soon(), NULL, NULL, &err);
    CLEANUP(json_decrefp) json_t *about = json_pack("{s:s}", "name", name);
    char below[600];
    char *work;

    assert_ok(lock >= 0, err);
    work = image_begin(folder_base, hash, &err);
    assert_ok(work, err);
    put(work, IMAGE_KERNEL, "a kernel");
    (void)snprintf(below, sizeof below, "%s/modules/6.1", work);
    assert_ok(fd_mkdirs(below, 0755, &err), err);
    put(below, "modules.dep", "a.ko:\n");
    assert_ok(image_seal(folder_base, hash, work, about, &err), err);
    assert_int_equal(access(work, F_OK), -1);
    free(work);
}

/* ---- what is there ---- */

static void count_one(void *arg, const char *hash, const json_t *record)
{
    char *line = arg;

    (void)snprintf(line + strlen(line), 200 - strlen(line), "%.5s=%s ", hash,
                   record ? json_string_value(json_object_get(record, "name")) : "?");
}

static void a_store_that_is_not_there_is_empty(void **state)
{
    struct error err = ERROR_INIT;
    char line[200] = "";
    (void)state;

    assert_ok(image_list(folder_path("none"), count_one, line, &err), err);
    assert_string_equal(line, "");
    assert_null(image_find(folder_path("none"), "base", &err));
    assert_code(err, ERR_NOT_FOUND);
}

static void images_are_listed_and_found(void **state)
{
    static const struct {
        const char *which, *found;
        enum error_code code;
    } rows[] = {
        { HASH_A, HASH_A, ERR_NONE },       { "aaaa1", HASH_B, ERR_NONE },
        { "cccc", HASH_C, ERR_NONE },       { "other", HASH_C, ERR_NONE },
        { "aaaa", NULL, ERR_INVALID },      { "ccc", NULL, ERR_NOT_FOUND },
        { "", NULL, ERR_NOT_FOUND },        { "dddd", NULL, ERR_NOT_FOUND },
        { "../cccc", NULL, ERR_NOT_FOUND }, { "base", HASH_A, ERR_NONE },
    };
    struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
    char line[200] = "";
    struct error none = ERROR_INIT;
    (void)state;

    make(HASH_A, "base");
    make(HASH_B, "base");
    make(HASH_C, "other");
    assert_int_equal(mkdirat(folder_fd, "something", 0755), 0);
    assert_int_equal(utimensat(folder_fd, HASH_B, old, 0), 0);
    assert_ok(image_list(folder_base, count_one, line, &none), none);
    assert_string_equal(line, "aaaa0=base aaaa1=base cccc0=other ");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        char *found = image_find(folder_base, rows[i].which, &err);

        assert_code(err, rows[i].code);
        assert_int_equal(found != NULL, rows[i].found != NULL);
        if (found)
            assert_string_equal(found, rows[i].found);
        free(found);
    }
}

static void assert_found(const char *which, const char *hash)
{
    struct error err = ERROR_INIT;
    char *found = image_find(folder_base, which, &err);

    assert_ok(found != NULL, err);
    assert_string_equal(found, hash);
    free(found);
}

/* What was found is remembered, until an image comes or goes. */
static void an_image_that_comes_or_goes_is_seen(void **state)
{
    struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
    (void)state;

    make(HASH_A, "base");
    assert_int_equal(utimensat(folder_fd, HASH_A, old, 0), 0);
    assert_int_equal(utimensat(folder_fd, ".", old, 0), 0);
    assert_found("base", HASH_A);
    put(folder_path(HASH_A), IMAGE_RECORD, "{"); /* which nobody looks at again */
    assert_found("base", HASH_A);
    make(HASH_B, "base");
    assert_found("base", HASH_B);
    make(HASH_A, "base");
    assert_found("base", HASH_A);
}

static void a_damaged_record_is_told(void **state)
{
    static const char *const records[] = { "", "{", "[]", "{\"name\":1}", "{\"name\":\"x\"}" };
    struct error none = ERROR_INIT;
    (void)state;

    make(HASH_A, "base");
    for (size_t i = 0; i < ARRAY_LEN(records); i++) {
        struct error err = ERROR_INIT;
        char line[200] = "";

        put(folder_path(HASH_A), IMAGE_RECORD, records[i]);
        assert_null(image_record(folder_base, HASH_A, &err));
        assert_code(err, ERR_PROTOCOL);
        assert_ok(image_list(folder_base, count_one, line, &none), none);
        assert_string_equal(line, "aaaa0=? ");
    }
}

/* ---- damage ---- */

static void note(void *arg, const char *path, const char *what)
{
    char *line = arg;

    (void)snprintf(line + strlen(line), 400 - strlen(line), "%s: %s; ", path, what);
}

static void assert_damage(const char *want, unsigned count)
{
    struct error err = ERROR_INIT;
    char line[400] = "";
    unsigned damaged = 99;

    assert_ok(image_verify(folder_base, HASH_A, note, line, &damaged, &err), err);
    assert_string_equal(line, want);
    assert_int_equal(damaged, count);
}

static void every_damage_is_found_and_named(void **state)
{
    (void)state;

    make(HASH_A, "base");
    assert_damage("", 0);
    put(folder_path(HASH_A), IMAGE_KERNEL, "A kernel");
    assert_damage("vmlinuz: other content than it had; ", 1);
    put(folder_path(HASH_A), IMAGE_KERNEL, "a ker");
    assert_damage("vmlinuz: cut short; ", 1);
    put(folder_path(HASH_A), IMAGE_KERNEL, "a kernel and more");
    assert_damage("vmlinuz: longer than it was; ", 1);
    assert_int_equal(unlinkat(folder_fd, HASH_A "/modules/6.1/modules.dep", 0), 0);
    assert_damage("modules/6.1/modules.dep: missing; vmlinuz: longer than it was; ", 2);
    assert_int_equal(unlinkat(folder_fd, HASH_A "/vmlinuz", 0), 0);
    assert_int_equal(symlinkat("/dev/zero", folder_fd, HASH_A "/vmlinuz"), 0);
    assert_damage("modules/6.1/modules.dep: missing; vmlinuz: not a file; ", 2);
}

/* The record itself could name anything. */
static void a_record_does_not_lead_out_of_its_image(void **state)
{
    (void)state;

    make(HASH_A, "base");
    put(folder_path(HASH_A), IMAGE_RECORD,
        "{\"name\":\"base\",\"files\":[{\"path\":\"../x\",\"bytes\":0,\"sha256\":\"\"},"
        "{\"path\":\"/etc/passwd\",\"bytes\":0,\"sha256\":\"\"},7]}");
    assert_damage("../x: the record does not say what it should be; "
                  "/etc/passwd: the record does not say what it should be; "
                  "?: the record does not say what it should be; ",
                  3);
}

/* ---- changing it ---- */

static void what_was_there_is_replaced_and_removed(void **state)
{
    CLEANUP(fd_closep) int lock = -1;
    struct error err = ERROR_INIT;
    json_t *record;
    (void)state;

    make(HASH_A, "base");
    make(HASH_A, "again");
    record = image_record(folder_base, HASH_A, &err);
    assert_ok(record, err);
    assert_string_equal(json_string_value(json_object_get(record, "name")), "again");
    assert_string_equal(json_string_value(json_object_get(record, "hash")), HASH_A);
    json_decref(record);
    lock = image_lock(folder_base, soon(), NULL, NULL, &err);
    assert_ok(image_remove(folder_base, HASH_A, &err), err);
    assert_false(folder_has(HASH_A));
    assert_false(image_remove(folder_base, HASH_A, &err));
    assert_code(err, ERR_NOT_FOUND);
}

/* A builder that is killed holds the lock until then, and leaves its folder to the next. */
static void the_next_builder_sweeps_what_a_killed_one_left(void **state)
{
    CLEANUP(fd_closep) int lock = -1;
    struct error err = ERROR_INIT;
    int ready[2], status;
    char name[120], byte;
    pid_t pid;
    (void)state;

    make(HASH_A, "base");
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        int held = image_lock(folder_base, soon(), NULL, NULL, NULL);
        char *work = held >= 0 ? image_begin(folder_base, HASH_B, NULL) : NULL;

        if (!work || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    (void)snprintf(name, sizeof name, HASH_B ".tmp-%d", (int)pid);
    assert_true(folder_has(name));
    assert_int_equal(image_lock(folder_base, clock_now_ns(), NULL, NULL, &err), -1);
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    assert_true(folder_has(name));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    lock = image_lock(folder_base, soon(), NULL, NULL, &err);
    assert_ok(lock >= 0, err);
    assert_false(folder_has(name));
    assert_true(folder_has(HASH_A));
}

static void let_go(void *arg)
{
    int *held = arg;

    fd_close(fd_steal(held));
}

/* Whoever waits is told once, and goes on when the other is done. */
static void the_second_waits_for_the_first(void **state)
{
    struct error err = ERROR_INIT;
    int first = image_lock(folder_base, soon(), NULL, NULL, &err), second;
    (void)state;

    assert_ok(first >= 0, err);
    second = image_lock(folder_base, soon(), let_go, &first, &err);
    assert_ok(second >= 0, err);
    assert_int_equal(first, -1);
    fd_close(second);
}

static void memory_that_runs_out_is_an_error(void **state)
{
    (void)state;

    make(HASH_A, "base");
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        char line[400] = "";
        unsigned damaged = 0;
        char *found = image_find(folder_base, "aaaa", &err);
        bool ok = found && image_verify(folder_base, HASH_A, note, line, &damaged, &err);

        FAULT_DONE(n);
        free(found);
        assert_true(ok || err.code != ERR_NONE);
    }
}

/* ---- recipes ---- */

static bool load(const char *suite, struct image_recipe *r, struct error *err)
{
    return image_recipe_load(folder_path("mine"), "1", "amd64", suite, r, err);
}

static void a_recipe_is_a_folder(void **state)
{
    struct error err = ERROR_INIT;
    struct image_recipe r;
    char first[SHA256_HEX];
    (void)state;

    assert_int_equal(mkdirat(folder_fd, "mine", 0755), 0);
    folder_put("mine/packages", "# tools\nbash git # two\n\n\tlibc6\n");
    assert_ok(load("bookworm", &r, &err), err);
    assert_string_equal(r.name, "mine");
    assert_string_equal(r.packages, "bash,git,libc6");
    assert_string_equal(r.kernel, "linux-image-cloud-amd64");
    assert_string_equal(r.script, "");
    assert_int_equal(r.disk_mib, 4096);
    memcpy(first, r.hash, sizeof first);
    image_recipe_fini(&r);

    assert_ok(load("bookworm", &r, &err), err);
    assert_string_equal(r.hash, first);
    image_recipe_fini(&r);
    assert_ok(load("trixie", &r, &err), err);
    assert_string_not_equal(r.hash, first);
    image_recipe_fini(&r);

    folder_put("mine/script", "true\n");
    folder_put("mine/recipe.json", "{\"disk_mib\":512,\"kernel\":\"linux-image-amd64\","
                                   "\"memory_mib\":1024,\"env\":{\"DISPLAY\":\":0\"}}");
    assert_ok(load("bookworm", &r, &err), err);
    assert_string_not_equal(r.hash, first);
    assert_string_equal(r.script, "true\n");
    assert_string_equal(r.kernel, "linux-image-amd64");
    assert_int_equal(r.disk_mib, 512);
    /* What is said of machines goes into the record as it stands. */
    assert_int_equal(json_integer_value(json_object_get(r.machine, "memory_mib")), 1024);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(r.machine, "env"), "DISPLAY")), ":0");
    assert_null(json_object_get(r.machine, "screen"));
    image_recipe_fini(&r);
}

static void a_wrong_recipe_says_what_is_wrong(void **state)
{
    static const struct {
        const char *packages, *settings, *part;
    } rows[] = {
        { "# none\n", "{}", "packages: there is none" },
        { "bash\na;b\n", "{}", "packages:2: \"a;b\"" },
        { "-oX=y\n", "{}", "packages:1: \"-oX=y\"" },
        { "Bash\n", "{}", "packages:1" },
        { "bash\n", "{", "recipe.json" },
        { "bash\n", "{\"disk_mib\":1}", "disk_mib" },
        { "bash\n", "{\"size\":1}", "size" },
        { "bash\n", "{\"kernel\":\"$(x)\"}", "kernel" },
    };
    struct image_recipe r;
    (void)state;

    assert_int_equal(mkdirat(folder_fd, "mine", 0755), 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        folder_put("mine/packages", rows[i].packages);
        folder_put("mine/recipe.json", rows[i].settings);
        assert_false(load("bookworm", &r, &err));
        assert_code(err, ERR_INVALID);
        assert_contains(err.text, rows[i].part);
    }
}

static void a_folder_that_is_no_recipe_is_refused(void **state)
{
    struct error err = ERROR_INIT;
    struct image_recipe r;
    (void)state;

    assert_false(load("bookworm", &r, &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    assert_int_equal(mkdirat(folder_fd, "mine", 0755), 0);
    assert_false(load("bookworm", &r, &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    folder_put("mine/packages", "bash\n");
    folder_put("mine/other", "x");
    assert_false(load("bookworm", &r, &err));
    assert_code(err, ERR_INVALID);
    assert_contains(err.text, "other");
}

static void recipes_are_found_by_name_and_path(void **state)
{
    struct error err = ERROR_INIT;
    char *path;
    (void)state;

    path = image_recipe_folder("base", folder_base, &err);
    assert_ok(path, err);
    assert_contains(path, "images/base");
    free(path);
    assert_int_equal(mkdirat(folder_fd, "base", 0755), 0);
    path = image_recipe_folder("base", folder_base, &err);
    assert_string_equal(path, folder_path("base"));
    free(path);
    path = image_recipe_folder("./base", folder_base, &err);
    assert_string_equal(path, "./base");
    free(path);
    assert_null(image_recipe_folder("nothing", folder_base, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "nothing");
}

/* ---- programs ---- */

static void programs_are_run_to_their_end(void **state)
{
    static const struct {
        const char *script, *says;
        enum error_code code;
        const char *part;
    } rows[] = {
        { "echo \"$A $PATH\"", "b /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
          ERR_NONE, "" },
        { "exit 3", "", ERR_LOST, "sh failed with exit code 3" },
        { "kill -9 $$", "", ERR_LOST, "sh was ended by signal 9" },
    };
    static const char *const env[] = { "A=b", NULL };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *const argv[] = { "sh", "-c", rows[i].script, NULL };
        CLEANUP(buf_fini) struct buf out = { .max = 4096 };
        struct error err = ERROR_INIT;
        bool ok = image_program_run(
            &(struct image_program){
                .argv = argv, .env = env, .out = &out, .deadline_ns = soon(), .hold_fd = -1 },
            &err);

        assert_int_equal(ok, rows[i].code == ERR_NONE);
        assert_code(err, rows[i].code);
        assert_contains(err.text, rows[i].part);
        assert_string_equal(buf_str(&out), rows[i].says);
    }
}

static void a_program_that_does_not_end_is_ended(void **state)
{
    static const char *const argv[] = { "tail", "-f", "/dev/null", NULL };
    struct error err = ERROR_INIT;
    (void)state;

    assert_false(image_program_run(
        &(struct image_program){ .argv = argv, .deadline_ns = clock_now_ns(), .hold_fd = -1 },
        &err));
    assert_code(err, ERR_TIMEOUT);
}

/* So that a lock is not let go while the programs of a killed builder still work. */
static void a_program_holds_what_it_is_given(void **state)
{
    char script[64];
    const char *const argv[] = { "sh", "-c", script, NULL };
    int pair[2], i = 0;
    (void)state;

    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    (void)snprintf(script, sizeof script, "test -e /proc/self/fd/%d", pair[0]);
    for (const int holds[] = { pair[0], -1 }; i < 2; i++) {
        struct error err = ERROR_INIT;
        bool ok = image_program_run(
            &(struct image_program){ .argv = argv, .deadline_ns = soon(), .hold_fd = holds[i] },
            &err);

        assert_int_equal(ok, holds[i] >= 0);
    }
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void a_missing_program_is_named_with_its_package(void **state)
{
    struct error err = ERROR_INIT;
    (void)state;

    assert_ok(image_program_need("sh", "dash", &err), err);
    assert_false(image_program_need("no-such-program", "its-package", &err));
    assert_code(err, ERR_UNSUPPORTED);
    assert_contains(err.text, "apt-get install its-package");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FOLDER(a_store_that_is_not_there_is_empty),
        WITH_FOLDER(images_are_listed_and_found),
        WITH_FOLDER(an_image_that_comes_or_goes_is_seen),
        WITH_FOLDER(a_damaged_record_is_told),
        WITH_FOLDER(every_damage_is_found_and_named),
        WITH_FOLDER(a_record_does_not_lead_out_of_its_image),
        WITH_FOLDER(what_was_there_is_replaced_and_removed),
        WITH_FOLDER(the_next_builder_sweeps_what_a_killed_one_left),
        WITH_FOLDER(the_second_waits_for_the_first),
        WITH_FOLDER(memory_that_runs_out_is_an_error),
        WITH_FOLDER(a_recipe_is_a_folder),
        WITH_FOLDER(a_wrong_recipe_says_what_is_wrong),
        WITH_FOLDER(a_folder_that_is_no_recipe_is_refused),
        WITH_FOLDER(recipes_are_found_by_name_and_path),
        WITH_FOLDER(programs_are_run_to_their_end),
        WITH_FOLDER(a_program_that_does_not_end_is_ended),
        WITH_FOLDER(a_program_holds_what_it_is_given),
        WITH_FOLDER(a_missing_program_is_named_with_its_package),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
