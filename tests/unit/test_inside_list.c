/*
 * Listings through the guest: their order, their bounds, and that nobody waits for them.
 */
#include "tests/unit/test_inside_files.h"

static void lists_in_order_folders_before_their_contents(void **state)
{
    struct fixture *f = *state;
    char lines[4096];
    struct host_channel *ch;

    assert_int_equal(mkdir(at(f, "b"), 0700), 0);
    assert_int_equal(mkdir(at(f, "b/deep"), 0700), 0);
    put_file(f, "b/deep/x", "", 0600);
    put_file(f, "b/.hidden", "", 0600);
    put_file(f, "c", "", 0600);
    put_file(f, "a", "", 0600);
    assert_int_equal(symlink("b", at(f, "d")), 0);
    ch = list(f, "/", f->dir, 9, 100, false, lines, sizeof lines);
    assert_string_equal(lines, "a\nb/\nb/deep/\nb/deep/x\nc\nd -> b\n");
    assert_int_equal(ch->eof, 1);
    (void)list(f, "/", f->dir, 1, 100, false, lines, sizeof lines);
    assert_string_equal(lines, "a\nb/\nc\nd -> b\n");
    (void)list(f, f->dir, "b", 2, 100, true, lines, sizeof lines);
    assert_string_equal(lines, ".hidden\ndeep/\ndeep/x\n");
    (void)list(f, "/", f->dir, 9, 3, true, lines, sizeof lines);
    assert_string_equal(lines, "a\nb/\nb/.hidden\n");
    (void)list(f, "/", f->dir, 9, 0, true, lines, sizeof lines);
    assert_string_equal(lines, "");
    assert_int_equal(list(f, "/", at(f, "a"), 1, 9, true, lines, sizeof lines)->status, ENOTDIR);
    assert_int_equal(list(f, "/", at(f, "z"), 1, 9, true, lines, sizeof lines)->status, ENOENT);
}

static void lists_many_with_credit_and_only_the_first_of_too_many(void **state)
{
    struct fixture *f = *state;
    enum { FILES = 6000 };
    size_t size = FILES * 64;
    char *lines = malloc(size);
    const char *line;
    int count = 0;

    assert_non_null(lines);
    for (int i = 0; i < FILES; i++) {
        char name[64];

        (void)snprintf(name, sizeof name, "file-with-some-name-%06d", (i * 7919) % FILES);
        put_file(f, name, "", 0600);
    }
    (void)list(f, "/", f->dir, 1, 100000, true, lines, size);
    for (line = lines; *line; line = strchr(line, '\n') + 1) {
        char want[64];

        (void)snprintf(want, sizeof want, "file-with-some-name-%06d\n", count++);
        assert_memory_equal(line, want, strlen(want));
    }
    assert_int_equal(count, FILES);
    (void)list(f, "/", f->dir, 1, 2, true, lines, size);
    assert_string_equal(lines, "file-with-some-name-000000\nfile-with-some-name-000001\n");
    free(lines);
}

static void a_listing_nobody_takes_does_not_hold_up_others(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[1024];
    struct wire_out o = host_path(bytes, sizeof bytes, "/", "/");
    struct host_channel *ch;

    f->h.no_credit = true;
    wire_put_u32(&o, 1000);
    wire_put_u32(&o, UINT32_MAX);
    wire_put_u8(&o, 1);
    ch = host_ask(&f->h, WIRE_LIST, o.data, o.len);
    /* An entry is sent whole, so a few bytes may be left of the window. */
    HOST_UNTIL(&f->h, ch->out[0].len > WIRE_WINDOW - 8400 || ch->closed);
    for (int i = 0; i < 10; i++)
        host_sync(&f->h);
    assert_true(ch->out[0].len <= WIRE_WINDOW);
    host_close(&f->h, ch);
    HOST_UNTIL(&f->h, ch->closed);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(lists_in_order_folders_before_their_contents),
        T(lists_many_with_credit_and_only_the_first_of_too_many),
        T(a_listing_nobody_takes_does_not_hold_up_others),
    };
    int failed;

    program = GUEST_PROGRAM;
    failed = cmocka_run_group_tests_name("inside_list, static", tests, NULL, NULL);
#ifdef GUEST_NATIVE
    program = GUEST_NATIVE;
    failed += cmocka_run_group_tests_name("inside_list, native", tests, NULL, NULL);
#endif
    return failed;
}
