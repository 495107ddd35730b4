/* Names, digests, cursors and tokens. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/base64.h"
#include "kernel/storage_internal.h"
#include "tests/support/folder.h"

static const uint8_t secret[STORAGE_SECRET_BYTES] = "0123456789abcdef0123456789abcde";

/* ---- names ---- */

static void checks_keys(void **state)
{
    static const struct {
        const char *key;
        bool good;
    } rows[] = {
        { "a", true },
        { "a/b/c.txt", true },
        { " ", true },
        { "...", true },
        { "a/..b", true },
        { "a/b..", true },
        { ".a", true },
        { "gr\xc3\xbc\xc3\x9f", true },
        { "gru\xcc\x88\xc3\x9f", true },
        { "\xe2\x80\xae"
          "evil",
          true },             /* odd, and kept as it is */
        { "\xc2\xa0", true }, /* no-break space: the first behind C1 */
        { "\xf4\x8f\xbf\xbf", true },
        { "", false },
        { "/", false },
        { "/a", false },
        { "a/", false },
        { "a//b", false },
        { ".", false },
        { "..", false },
        { "../a", false },
        { "a/..", false },
        { "a/../b", false },
        { "a/./b", false },
        { "./a", false },
        { "a\nb", false },
        { "a\tb", false },
        { "\x1b[31m", false },
        { "a\x7f", false },
        { "a\xc2\x85"
          "b",
          false }, /* C1: next line */
        { "a\xc2\x9f", false },
        { "a\xff", false },
        { "\xc0\xae\xc0\xae/a", false }, /* ".." written too long */
        { "\xed\xa0\x80", false },       /* half of a pair */
        { "\xf4\x90\x80\x80", false },
        { "a\xe2\x82", false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        if (storage_check_key(rows[i].key, &err) != rows[i].good)
            fail_msg("row %zu, %s: %s", i, rows[i].key, err.text);
        assert_code(err, rows[i].good ? ERR_NONE : ERR_INVALID);
    }
}

static void checks_lengths(void **state)
{
    char text[STORAGE_KEY_BYTES + 2];
    struct error err = ERROR_INIT;
    (void)state;

    memset(text, 'x', sizeof text);
    text[STORAGE_KEY_BYTES + 1] = '\0';
    assert_false(storage_check_key(text, &err));
    assert_contains(err.text, "512");
    error_clear(&err);
    assert_false(storage_check_prefix(text, &err));
    error_clear(&err);
    assert_false(storage_check_space(text, &err));
    error_clear(&err);
    text[STORAGE_KEY_BYTES] = '\0';
    assert_ok(storage_check_key(text, &err), err);
    assert_ok(storage_check_prefix(text, &err), err);
    text[STORAGE_SPACE_BYTES] = '\0';
    assert_ok(storage_check_space(text, &err), err);
}

static void checks_spaces_and_prefixes(void **state)
{
    static const char *const good[] = { "alice", "~memory.alice", "..", "A-b_c.9" };
    static const char *const bad[] = { "", "~", "a/b", "a b", "~~a", "a~", "\xc3\xbc", "a\n" };
    struct error err = ERROR_INIT;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_ok(storage_check_space(good[i], &err), err);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(storage_check_space(bad[i], NULL));
    assert_ok(storage_check_prefix("", &err), err);
    assert_ok(storage_check_prefix("a/", &err), err);
    assert_false(storage_check_prefix("a\n", NULL));
    assert_false(storage_check_prefix("\xc3", NULL));
}

/* ---- digests ---- */

static void parts_do_not_run_together(void **state)
{
    const struct storage_part one[] = { { "ab", 2 }, { "c", 1 } },
                              two[] = { { "a", 1 }, { "bc", 2 } };
    uint8_t a[SHA256_BYTES], b[SHA256_BYTES];
    (void)state;

    storage_mac(secret, one, 2, a);
    storage_mac(secret, two, 2, b);
    assert_memory_not_equal(a, b, sizeof a);
}

/* ---- cursors ---- */

static void cursors_belong_to_their_list(void **state)
{
    struct error err = ERROR_INIT;
    char position[STORAGE_KEY_BYTES + 1];
    uint8_t other[STORAGE_SECRET_BYTES] = { 1 };
    char *cursor =
        storage_cursor_make(secret, STORAGE_CURSOR_LIST, "alice", "n/", "n/\xc3\xbc 1", &err);
    (void)state;

    assert_ok(cursor, err);
    assert_ok(
        storage_cursor_read(secret, STORAGE_CURSOR_LIST, "alice", "n/", cursor, position, &err),
        err);
    assert_string_equal(position, "n/\xc3\xbc 1");
    assert_false(
        storage_cursor_read(secret, STORAGE_CURSOR_LIST, "bob", "n/", cursor, position, &err));
    assert_code(err, ERR_INVALID);
    assert_false(
        storage_cursor_read(secret, STORAGE_CURSOR_LIST, "alice", "n", cursor, position, NULL));
    assert_false(storage_cursor_read(secret, STORAGE_CURSOR_VERSIONS, "alice", "n/", cursor,
                                     position, NULL));
    assert_false(
        storage_cursor_read(other, STORAGE_CURSOR_LIST, "alice", "n/", cursor, position, NULL));
    for (size_t i = 0; cursor[i]; i++) {
        char kept = cursor[i];

        cursor[i] = kept == 'A' ? 'B' : 'A';
        if (storage_cursor_read(secret, STORAGE_CURSOR_LIST, "alice", "n/", cursor, position, NULL))
            fail_msg("a change of character %zu went unnoticed", i);
        cursor[i] = kept;
    }
    assert_false(
        storage_cursor_read(secret, STORAGE_CURSOR_LIST, "alice", "n/", "", position, NULL));
    free(cursor);
}

static void the_longest_cursor_comes_back(void **state)
{
    struct error err = ERROR_INIT;
    char key[STORAGE_KEY_BYTES + 1], position[STORAGE_KEY_BYTES + 1];
    char *cursor;
    (void)state;

    memset(key, 'k', STORAGE_KEY_BYTES);
    key[STORAGE_KEY_BYTES] = '\0';
    cursor = storage_cursor_make(secret, STORAGE_CURSOR_LIST, "a", "", key, &err);
    assert_ok(cursor, err);
    assert_true(strlen(cursor) < STORAGE_TOKEN_BYTES);
    assert_ok(storage_cursor_read(secret, STORAGE_CURSOR_LIST, "a", "", cursor, position, &err),
              err);
    assert_string_equal(position, key);
    free(cursor);
}

/* ---- tokens ---- */

static void tokens_carry_what_they_grant(void **state)
{
    struct storage_grant grant = { .version = 7, .expires_wall_ns = INT64_MAX - 1 }, back;
    char token[STORAGE_TOKEN_BYTES];
    struct error err = ERROR_INIT;
    (void)state;

    memset(grant.space, 's', STORAGE_SPACE_BYTES);
    memset(grant.key, 'k', STORAGE_KEY_BYTES);
    assert_ok(storage_token_make(secret, &grant, token, &err), err);
    assert_ok(storage_token_read(secret, token, &back, &err), err);
    assert_memory_equal(&back, &grant, sizeof grant);
}

static void tokens_of_others_are_denied(void **state)
{
    struct storage_grant grant = { .space = "alice", .key = "a", .expires_wall_ns = 5 }, back;
    uint8_t other[STORAGE_SECRET_BYTES] = { 1 };
    char token[STORAGE_TOKEN_BYTES], long_one[2 * STORAGE_TOKEN_BYTES];
    struct error err = ERROR_INIT;
    (void)state;

    assert_ok(storage_token_make(secret, &grant, token, &err), err);
    assert_false(storage_token_read(other, token, &back, &err));
    assert_code(err, ERR_DENIED);
    for (size_t i = 0; token[i]; i++) {
        char kept = token[i];

        token[i] = kept == 'A' ? 'B' : 'A';
        if (storage_token_read(secret, token, &back, NULL))
            fail_msg("a change of character %zu went unnoticed", i);
        token[i] = kept;
    }
    memset(long_one, 'A', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    error_clear(&err);
    assert_false(storage_token_read(secret, long_one, &back, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    assert_false(storage_token_read(secret, "", &back, &err));
    assert_code(err, ERR_INVALID);
}

/* ---- the secret ---- */

static void makes_its_secret_once(void **state)
{
    uint8_t one[STORAGE_SECRET_BYTES], two[STORAGE_SECRET_BYTES];
    struct error err = ERROR_INIT;
    struct stat st;
    (void)state;

    assert_ok(storage_secret_load(folder_path("key"), one, &err), err);
    assert_int_equal(stat(folder_path("key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_ok(storage_secret_load(folder_path("key"), two, &err), err);
    assert_memory_equal(one, two, sizeof one);
}

static void refuses_a_secret_that_is_none(void **state)
{
    uint8_t out[STORAGE_SECRET_BYTES];
    struct error err = ERROR_INIT;
    (void)state;

    folder_put("key", "short");
    assert_false(storage_secret_load(folder_path("key"), out, &err));
    assert_code(err, ERR_DENIED); /* 0644 */
    assert_int_equal(chmod(folder_path("key"), 0600), 0);
    error_clear(&err);
    assert_false(storage_secret_load(folder_path("key"), out, &err));
    assert_code(err, ERR_IO);
    assert_contains(err.text, "damaged");
    assert_int_equal(unlink(folder_path("key")), 0);
    assert_int_equal(symlink("/etc/passwd", folder_path("key")), 0);
    error_clear(&err);
    assert_false(storage_secret_load(folder_path("key"), out, &err));
}

static void tells_when_memory_runs_out(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct storage_grant grant = { .space = "alice", .key = "a" }, back;
        char token[STORAGE_TOKEN_BYTES], position[STORAGE_KEY_BYTES + 1];
        struct error err = ERROR_INIT;
        char *cursor = storage_cursor_make(secret, STORAGE_CURSOR_LIST, "a", "b", "c", &err);
        bool ok =
            cursor &&
            storage_cursor_read(secret, STORAGE_CURSOR_LIST, "a", "b", cursor, position, &err) &&
            storage_token_make(secret, &grant, token, &err) &&
            storage_token_read(secret, token, &back, &err);

        FAULT_DONE(n);
        assert_int_equal(ok, n_last);
        assert_code(err, ok ? ERR_NONE : ERR_NOMEM);
        free(cursor);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_keys),
        cmocka_unit_test(checks_lengths),
        cmocka_unit_test(checks_spaces_and_prefixes),
        cmocka_unit_test(parts_do_not_run_together),
        cmocka_unit_test(cursors_belong_to_their_list),
        cmocka_unit_test(the_longest_cursor_comes_back),
        cmocka_unit_test(tokens_carry_what_they_grant),
        cmocka_unit_test(tokens_of_others_are_denied),
        WITH_FOLDER(makes_its_secret_once),
        WITH_FOLDER(refuses_a_secret_that_is_none),
        cmocka_unit_test(tells_when_memory_runs_out),
    };

    return cmocka_run_group_tests_name("storage_token", tests, NULL, NULL);
}
