/* Computers from the store of images, and who programs inside are. */
#include "tests/integration/machine/store.h"

#include <inttypes.h>

#include "kernel/computer/run.h"

static struct machine_world world;
static const char *missing;
static char images[256];
static struct computer_backend *backend;

static int open_world(void **state)
{
    struct error err = ERROR_INIT;
    struct vmctl_config config;

    missing = machine_open(&world);
    if (folder_make(state) != 0)
        return -1;
    if (!missing)
        missing = store_make(&world, ", \"memory_mib\": 192, \"env\": {\"LANG\": \"C\", "
                                     "\"COLOUR\": \"blue\"}");
    if (missing)
        return 0;
    (void)snprintf(images, sizeof images, "%s/images", folder_base);
    config = store_config(&world, images);
    backend = vmctl_backend_new(&config, &err);
    assert_ok(backend, err);
    return 0;
}

static int close_world(void **state)
{
    int rc;

    if (!missing) {
        backend->free(backend);
        machine_pass(&world); /* which closes what was theirs */
    }
    rc = folder_remove(state);
    machine_close(&world);
    return rc;
}

static struct computer *try_create(const struct computer_spec *spec, struct error *err)
{
    const struct computer_hooks hooks = { .loop = world.loop };
    struct wait w = patience();

    if (missing)
        skip_because("no %s", missing);
    return backend->create(backend, spec, NULL, &hooks, &w, err);
}

static struct computer *create(const struct computer_spec *spec)
{
    struct error err = ERROR_INIT;
    struct computer *c = try_create(spec, &err);

    assert_ok(c, err);
    return c;
}

static void an_image_that_is_not_there_is_told_how_to_build(void **state)
{
    static const struct computer_spec spec = { .image = "desktop" };
    struct error err = ERROR_INIT;
    (void)state;

    assert_null(try_create(&spec, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "`aios image build desktop`");
}

struct making {
    const struct computer_spec *spec;
    struct computer *made;
    struct error err;
};

static void *make(void *arg)
{
    struct making *m = arg;

    m->made = try_create(m->spec, &m->err);
    return NULL;
}

/* One prepares the image and the others wait for it; the name and the hash mean the same. */
static void several_who_need_an_image_first_all_get_it(void **state)
{
    static const struct computer_spec specs[] = { { .image = NULL },
                                                  { .image = "small" },
                                                  { .image = "5e0a1e" } };
    struct making all[ARRAY_LEN(specs)];
    pthread_t threads[ARRAY_LEN(specs)];
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        all[i] = (struct making){ .spec = &specs[i] };
        assert_int_equal(pthread_create(&threads[i], NULL, make, &all[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(specs); i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        assert_ok(all[i].made, all[i].err);
        assert_int_equal(computer_spec(all[i].made)->memory_bytes, 192u << 20);
        store_expect(all[i].made, "echo $COLOUR $LANG", "blue C\n");
        computer_unref(all[i].made);
    }
}

static void programs_are_the_user_and_own_their_workspace(void **state)
{
    static const struct {
        const char *script, *says;
    } rows[] = {
        { "id -u; id -g; id -G", "1000\n1000\n1000\n" },
        { "echo x >mine && stat -c '%u %g %n' mine", "1000 1000 mine\n" },
        { "stat -c '%u %a' .", "1000 755\n" },
        { "echo $HOME $USER", "/home/user user\n" },
        { "echo x 2>/dev/null >/etc/theirs || echo no", "no\n" },
        { "kill -9 1 2>/dev/null || echo no", "no\n" },
        { "cat /proc/1/environ 2>/dev/null || echo no", "no\n" },
        { "cat /proc/self/status | while read n v; do case $n in CapEff:) echo $v;; esac; done",
          "0000000000000000\n" },
    };
    static const struct computer_spec spec;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    (void)state;

    c = create(&spec);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        store_expect(c, rows[i].script, rows[i].says);
}

/* What tools write a program can change, and neither may write what is the system's. */
static void files_of_the_host_s_requests_are_the_user_s(void **state)
{
    static const struct computer_spec spec;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct wire_stat st;
    (void)state;

    c = create(&spec);
    assert_ok(guest_write_file(computer_guest(c), "/", "/workspace/a/b", "x", 1, 0644,
                               WIRE_WRITE_CREATE | WIRE_WRITE_PARENTS | WIRE_WRITE_ATOMIC, &w,
                               &err),
              err);
    assert_ok(guest_stat(computer_guest(c), "/", "/workspace/a/b", false, &st, &w, &err), err);
    assert_int_equal(st.uid, 1000);
    assert_int_equal(st.gid, 1000);
    store_expect(c, "echo y >>a/b && rm -r a && ls", "");
    assert_false(guest_write_file(computer_guest(c), "/", "/etc/theirs", "x", 1, 0644,
                                  WIRE_WRITE_CREATE, &w, &err));
    assert_code(err, ERR_DENIED);
    error_clear(&err);
    assert_false(guest_remove(computer_guest(c), "/", "/bin/sh", false, &w, &err));
}

static void a_terminal_belongs_to_the_user(void **state)
{
    static const struct computer_spec spec;
    const char *const argv[] = { "/bin/sh", "-c", "echo hello >$(ls -d /proc/self/fd/1) && id -u",
                                 NULL };
    const char *const env[] = { "PATH=/bin", NULL };
    struct guest_run_spec run_spec = { .argv = argv, .env = env, .cwd = "/workspace", .pty = true };
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct guest_run *run;
    uint64_t offset = 0;
    (void)state;

    c = create(&spec);
    run = guest_spawn(computer_guest(c), &run_spec, &w, &err);
    assert_ok(run, err);
    assert_ok(guest_run_wait(run, 0, NULL, &w, &err), err);
    assert_true(guest_run_read(run, WIRE_STREAM_OUT, &offset, 65536, &out) >= 0);
    assert_string_equal(buf_str(&out), "hello\r\n1000\r\n");
    guest_run_unref(run);
}

static void a_limit_on_processes_is_kept(void **state)
{
    static const struct computer_spec limited = { .pids = 12 }, usual;
    const char *script = "i=0; while test $i -lt 40; do sleep 100 & i=$((i+1)); done 2>&1; ls -d "
                         "/proc/[0-9]* >/dev/null; kill $(jobs -p) 2>/dev/null; echo all";
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    CLEANUP(computer_unrefp) struct computer *free_one = NULL;
    const char *const argv[] = { "/bin/sh", "-c", script, NULL };
    const char *const env[] = { "PATH=/bin", NULL };
    struct guest_run_spec run_spec = {
        .argv = argv, .env = env, .cwd = "/workspace", .merge = true
    };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct guest_run *run;
    uint64_t offset = 0;
    (void)state;

    c = create(&limited);
    assert_int_equal(computer_spec(c)->pids, 12);
    run = guest_spawn(computer_guest(c), &run_spec, &w, &err);
    assert_ok(run, err);
    assert_ok(guest_run_wait(run, 0, NULL, &w, &err), err);
    assert_true(guest_run_read(run, WIRE_STREAM_OUT, &offset, 65536, &out) >= 0);
    assert_contains(buf_str(&out), "fork");
    assert_null(strstr(buf_str(&out), "all\n"));
    guest_run_unref(run);
    free_one = create(&usual);
    store_expect(free_one, script, "all\n");
}

static struct run_info run_command(struct computer *c, const char *command)
{
    const struct run_spec spec = { .command = command, .merge = true };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct run_info info;
    struct run *run = run_start(c, &spec, &w, &err);

    assert_ok(run, err);
    assert_ok(run_wait(run, 0, NULL, &w, &err), err);
    run_info(run, &info);
    run_unref(run);
    return info;
}

/* Of 192 MiB. */
static void a_limit_on_the_disk_is_kept_and_told(void **state)
{
    static const struct computer_spec limited = { .disk_bytes = 16u << 20 },
                                      larger = { .disk_bytes = 1ull << 40 }, usual;
    static const struct computer_spec *const roomy[] = { &usual, &larger };
    struct run_info info;
    struct computer *c;
    uint64_t bytes;
    char *size;
    (void)state;

    c = create(&limited);
    assert_int_equal(computer_spec(c)->disk_bytes, 16u << 20);
    store_expect(c, "dd if=/dev/zero of=a bs=1M count=8 2>/dev/null", "");
    assert_int_equal(run_command(c, "false").reason, RUN_EXIT);
    info = run_command(c, "dd if=/dev/zero of=b bs=1M count=20");
    assert_int_equal(info.reason, RUN_DISK);
    assert_int_equal(info.value, 1);
    size = store_hear(c, "stat -c %s b");
    bytes = strtoull(size, NULL, 10);
    if (bytes < 15u << 19 || bytes > 8u << 20)
        fail_msg("%" PRIu64 " bytes after 8 MiB of 16", bytes);
    free(size);
    assert_int_equal(run_command(c, "true").reason, RUN_EXIT);
    store_expect(c, "rm b && dd if=/dev/zero of=b bs=1M count=7 2>/dev/null", "");
    assert_int_equal(run_command(c, "false").reason, RUN_EXIT);
    computer_unref(c);
    for (size_t i = 0; i < ARRAY_LEN(roomy); i++) {
        c = create(roomy[i]);
        store_expect(c, "dd if=/dev/zero of=a bs=1M count=40 2>/dev/null", "");
        computer_unref(c);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_that_is_not_there_is_told_how_to_build),
        cmocka_unit_test(several_who_need_an_image_first_all_get_it),
        cmocka_unit_test(programs_are_the_user_and_own_their_workspace),
        cmocka_unit_test(files_of_the_host_s_requests_are_the_user_s),
        cmocka_unit_test(a_terminal_belongs_to_the_user),
        cmocka_unit_test(a_limit_on_processes_is_kept),
        cmocka_unit_test(a_limit_on_the_disk_is_kept_and_told),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
