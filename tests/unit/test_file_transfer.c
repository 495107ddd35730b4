/* file_transfer: which of the host's folders are open, and what may go through. */
#include <dirent.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "tests/unit/code_place.h"

static struct place place;
static struct answer got;
static char host[64];   /* a folder of the host's, with "open" and "closed" in it */
static json_t *offered; /* what the client names as its roots; NULL: it has none */
static bool silent;     /* it does not answer */
static int64_t asked_until_ns;

static json_t *fake_roots(void *arg, const struct wait *w, struct error *err)
{
    (void)arg;
    asked_until_ns = w->deadline_ns;
    if (silent || !offered) {
        error_set(err, silent ? ERR_TIMEOUT : ERR_UNSUPPORTED, "no roots");
        return NULL;
    }
    return json_incref(offered);
}

static const struct tool_peer fake_peer = { .roots = fake_roots };

static int make_place(void **state)
{
    struct error err = ERROR_INIT;
    char path[128];
    (void)state;

    place_new(&place, 60000);
    (void)snprintf(host, sizeof host, "/tmp/aios-host-XXXXXX");
    assert_non_null(mkdtemp(host));
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", host, i ? "closed" : "open");
        assert_ok(fd_mkdirs(path, 0755, &err), err);
    }
    return 0;
}

static int drop_place(void **state)
{
    (void)state;
    place_free(&place);
    return fd_remove_tree(AT_FDCWD, host, NULL) ? 0 : -1;
}

static const char *in_host(const char *name)
{
    static char path[2][300];
    static int which;

    which = !which;
    (void)snprintf(path[which], sizeof path[which], "%s/%s", host, name);
    return path[which];
}

static void host_put(const char *name, const char *text)
{
    struct error err = ERROR_INIT;

    assert_ok(fd_replace_file(in_host(name), text, strlen(text), 0644, &err), err);
}

static void host_has(const char *name, const char *text)
{
    struct error err = ERROR_INIT;
    char *found = fd_read_file(AT_FDCWD, in_host(name), 1u << 20, NULL, &err);

    assert_ok(found, err);
    assert_string_equal(found, text);
    free(found);
}

static const char *transfer(const char *direction, const char *host_path, const char *path,
                            bool overwrite)
{
    json_t *args = json_pack("{s:s,s:s,s:s,s:b}", "direction", direction, "host_path", host_path,
                             "path", path, "overwrite", overwrite);
    struct error err = ERROR_INIT;

    memset(&got, 0, sizeof got);
    got.p = &place;
    got.sc = syscall_new(SYSCALL_TOOL, place.agent,
                         toolmgr_find(kernel_tools(place.k), "file_transfer"), args, &err);
    json_decref(args);
    assert_ok(got.sc, err);
    got.sc->done = on_answer;
    got.sc->done_arg = &got;
    got.sc->peer = &fake_peer;
    assert_ok(kernel_submit(place.k, got.sc, &err), err);
    call_end(&got);
    return got.text;
}

/* The client's roots: this URI. */
static void offer(const char *uri)
{
    json_decref(offered);
    offered = uri ? json_pack("[s]", uri) : NULL;
}

static void offer_folder(const char *name)
{
    char uri[400];

    (void)snprintf(uri, sizeof uri, "file://%s", in_host(name));
    offer(uri);
}

static void copies_both_ways_within_an_open_folder(void **state)
{
    (void)state;

    offer_folder("open");
    host_put("open/in.txt", "hello from the host\n");
    assert_contains(transfer("upload", in_host("open/in.txt"), "in/side.txt", false), "(20 bytes)");
    assert_contains(call(&place, &got, "file_read", json_pack("{s:s}", "path", "in/side.txt")),
                    "hello from the host\n");
    assert_contains(transfer("download", in_host("open/out.txt"), "in/side.txt", false),
                    "(20 bytes)");
    host_has("open/out.txt", "hello from the host\n");
    (void)transfer("download", in_host("open/out.txt"), "in/side.txt", false);
    assert_true(got.is_error);
    assert_contains(got.text, "send overwrite");
    host_put("open/out.txt", "other");
    (void)transfer("download", in_host("open/out.txt"), "in/side.txt", true);
    assert_false(got.is_error);
    host_has("open/out.txt", "hello from the host\n");
}

static void nothing_is_open_by_itself(void **state)
{
    (void)state;

    offer(NULL);
    host_put("open/in.txt", "x");
    (void)transfer("upload", in_host("open/in.txt"), "x", false);
    assert_true(got.is_error);
    assert_contains(got.text, "files.upload_from");
    (void)transfer("download", in_host("open/y"), "x", false);
    assert_contains(got.text, "files.download_to");
}

static void roots_are_read_as_uris(void **state)
{
    static const struct {
        const char *form; /* of the URI; %s is the folder */
        bool opens;
    } rows[] = {
        { "file://%s", true },       { "file://%s/", true },        { "file://localhost%s", true },
        { "file://%s%%2f", true },   { "file://%s%%2F..", false },  { "file://%s/%%", false },
        { "file://%s/%%2", false },  { "file://%s/%%zz", false },   { "file://%s/%%+5", false },
        { "file://other%s", false }, { "http://%s", false },        { "%s", false },
        { "file:%s", false },        { "file://", false },          { "", false },
        { "file://%s/%%00", false }, { "file://%s/absent", false },
    };
    (void)state;

    host_put("open/in.txt", "x");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char uri[400];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(uri, sizeof uri, rows[i].form, in_host("open"));
#pragma GCC diagnostic pop
        offer(uri);
        (void)transfer("upload", in_host("open/in.txt"), "x", false);
        if (got.is_error == rows[i].opens)
            fail_msg("%s: %s", uri, got.text);
    }
    /* Percent signs stand for bytes of the path. */
    assert_int_equal(mkdir(in_host("open/a b%"), 0755), 0);
    host_put("open/a b%/in.txt", "x");
    {
        char uri[400];

        (void)snprintf(uri, sizeof uri, "file://%s/a%%20b%%25", in_host("open"));
        offer(uri);
    }
    assert_contains(transfer("upload", in_host("open/a b%/in.txt"), "x", false), "Uploaded");
}

static void nothing_leads_out_of_an_open_folder(void **state)
{
    static const char *const reads[] = { "closed/secret", "open/../closed/secret",
                                         "open/link",     "open/up/secret",
                                         "open",          "open/",
                                         "openly",        "open/fifo",
                                         "open/absent",   "open/magic" };
    static const char *const writes[] = { "closed/x",     "open/../closed/x", "open/up/x",
                                          "open/.bashrc", "open/.git/x",      "open/a/.ssh/x",
                                          "open/..",      "open/absent/x",    "open/sub",
                                          "open/" };
    (void)state;

    offer_folder("open");
    host_put("closed/secret", "secret");
    assert_int_equal(symlink(in_host("closed/secret"), in_host("open/link")), 0);
    assert_int_equal(symlink(in_host("closed"), in_host("open/up")), 0);
    assert_int_equal(symlink("/proc/self/root", in_host("open/magic")), 0);
    assert_int_equal(mkfifo(in_host("open/fifo"), 0644), 0);
    assert_int_equal(mkdir(in_host("open/sub"), 0755), 0);
    (void)call(&place, &got, "file_write",
               json_pack("{s:s,s:s}", "path", "mine", "content", "mine"));
    for (size_t i = 0; i < ARRAY_LEN(reads); i++) {
        (void)transfer("upload", in_host(reads[i]), "stolen", false);
        if (!got.is_error)
            fail_msg("%s: %s", reads[i], got.text);
    }
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        (void)transfer("download", in_host(writes[i]), "mine", true);
        if (!got.is_error)
            fail_msg("%s: %s", writes[i], got.text);
    }
    assert_int_equal(access(in_host("closed/x"), F_OK), -1);
    host_has("closed/secret", "secret");
    /* Nothing half written stays behind. */
    {
        DIR *dir = opendir(in_host("open"));
        assert_non_null(dir);
        for (struct dirent *entry; (entry = readdir(dir));)
            assert_int_not_equal(strncmp(entry->d_name, "part", 4), 0);
        (void)closedir(dir);
    }
}

static void a_client_that_does_not_answer_is_not_waited_for_long(void **state)
{
    int64_t before_ns = clock_now_ns();
    (void)state;

    silent = true;
    (void)transfer("upload", in_host("open/in.txt"), "x", false);
    assert_true(got.is_error);
    assert_true(asked_until_ns <= before_ns + 15 * CLOCK_NS_PER_S);
    silent = false;
}

static void says_what_it_cannot_copy(void **state)
{
    (void)state;

    offer_folder("open");
    (void)transfer("download", in_host("open/new"), "absent", false);
    assert_contains(got.text, "there is no /workspace/absent");
    (void)transfer("upload", "relative.txt", "x", false);
    assert_contains(got.text, "must be absolute");
    (void)transfer("upload", in_host("open/sub"), "x", false);
    assert_true(got.is_error);
}

static int forget_roots(void **state)
{
    (void)state;
    offer(NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(copies_both_ways_within_an_open_folder, forget_roots),
        cmocka_unit_test_teardown(nothing_is_open_by_itself, forget_roots),
        cmocka_unit_test_teardown(roots_are_read_as_uris, forget_roots),
        cmocka_unit_test_teardown(nothing_leads_out_of_an_open_folder, forget_roots),
        cmocka_unit_test_teardown(a_client_that_does_not_answer_is_not_waited_for_long,
                                  forget_roots),
        cmocka_unit_test_teardown(says_what_it_cannot_copy, forget_roots),
    };

    return cmocka_run_group_tests(tests, make_place, drop_place);
}
