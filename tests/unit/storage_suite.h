/*
 * storage_suite - what every back end of storage must do, as tests over any of them.
 *
 * A program sets `suite`, links storage, and calls storage_suite_run(); add_unit_test(… WRAP
 * clock_wall_ns) unless the back end cannot see a wrapped clock (suite.no_clock).
 * Threads: the test's own, but for those that a test starts.
 */
#pragma once

#include "tests/unit/storage_place.h"
#include "tests/unit/storage_suite_threads.h"

/* ---- one value ---- */

static inline void keeps_what_is_put(void **state)
{
    static const char odd[] = "a\0b\xff\xfe\r\n\x80";
    struct storage_stat stat;
    char hex[SHA256_HEX];
    (void)state;

    assert_int_equal(try_get("a", 0), ERR_NOT_FOUND);
    stat = put_bytes("a", odd, sizeof odd);
    assert_string_equal(stat.key, "a");
    assert_int_equal(stat.version, 1);
    assert_int_equal(stat.bytes, sizeof odd);
    assert_false(stat.deleted);
    assert_true(stat.wall_ns > 0);
    digest_of(odd, sizeof odd, hex);
    assert_string_equal(stat.sha256, hex);
    assert_value_at("a", 0, odd, sizeof odd);
    assert_value_at("a", 1, odd, sizeof odd);
    assert_int_equal(try_get("a", 2), ERR_NOT_FOUND);
    (void)put("empty", "");
    assert_value("empty", "");
}

static inline void keeps_large_values(void **state)
{
    const size_t len = (3u << 20) + 17;
    unsigned char *data = malloc(len);
    (void)state;

    assert_non_null(data);
    for (size_t i = 0; i < len; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    (void)put_bytes("large", data, len);
    assert_value_at("large", 0, data, len);
    assert_value_at("large", 0, data, len); /* perhaps from the cache */
    suite_open(NULL);
    assert_value_at("large", 1, data, len);
    free(data);
}

static inline void takes_keys_as_they_are(void **state)
{
    static const char *const keys[] = {
        "a/b",
        "a%2Fb",
        "a%2fb",
        "A/B",
        "a b",
        "a'b\"c`",
        "a\\b",
        "a;DROP TABLE versions;--",
        "*",
        "%",
        "_",
        "[a-z]",
        "?",
        "-rf",
        "~",
        "...",
        "a/...",
        "a/.b",
        "COM1",
        "trailing.",
        "gr\xc3\xbc\xc3\x9f",            /* one character */
        "gru\xcc\x88\xc3\x9f",           /* the same to the eye, other bytes */
        "\xf0\x9f\x99\x82/\xe2\x80\x8f", /* beyond the first plane; a mark of direction */
        "lock",
        "key",
        "storage.db",
        "files",
    };
    char longest[STORAGE_KEY_BYTES + 1];
    (void)state;

    memset(longest, 'k', STORAGE_KEY_BYTES);
    longest[STORAGE_KEY_BYTES] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        (void)put(keys[i], keys[i]);
    (void)put(longest, "long");
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_value(keys[i], keys[i]);
    assert_value(longest, "long");
    assert_int_equal(usage_now().keys, ARRAY_LEN(keys) + 1);
    suite_open(NULL);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_value(keys[i], keys[i]);
}

static inline void gets_ranges(void **state)
{
    static const struct {
        uint64_t offset;
        size_t max;
        const char *want;
    } rows[] = {
        { 0, 10, "0123456789" },
        { 0, 3, "012" },
        { 4, 3, "456" },
        { 8, 3, "89" },
        { 10, 3, "" },
        { 11, 3, "" },
        { UINT64_MAX, SIZE_MAX, "" },
        { 9, SIZE_MAX, "9" },
        { 3, 0, "" },
    };
    (void)state;

    (void)put("digits", "0123456789");
    for (size_t i = 0; i < 3 * ARRAY_LEN(rows); i++) { /* later ones perhaps from the cache */
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        struct storage_stat stat;
        size_t r = i % ARRAY_LEN(rows);

        assert_true(buf_append_str(&out, ">"));
        assert_ok(storage_get(place.s, place.space, "digits", i & 1, rows[r].offset, rows[r].max,
                              &out, &w, &stat, &err),
                  err);
        if (strcmp(buf_str(&out) + 1, rows[r].want) != 0)
            fail_msg("row %zu: %s", r, buf_str(&out));
        assert_int_equal(stat.bytes, 10);
    }
}

static inline void puts_on_a_condition(void **state)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    (void)state;

    assert_int_equal(try_put("c", "x", 1), ERR_EXISTS);
    assert_int_equal(try_put("c", "one", 0), ERR_NONE);
    assert_int_equal(try_put("c", "x", 0), ERR_EXISTS);
    assert_int_equal(try_put("c", "x", 2), ERR_EXISTS);
    assert_int_equal(try_put("c", "two", 1), ERR_NONE);
    assert_int_equal(try_put("c", "x", 1), ERR_EXISTS);
    assert_value("c", "two");
    assert_false(storage_put(place.s, place.space, "c", "x", 1, 7, &w, NULL, &err));
    assert_code(err, ERR_EXISTS);
    assert_contains(err.text, "version 2 of \"c\" is there: read it again"); /* and what to do */
    error_clear(&err);
    assert_false(storage_delete(place.s, place.space, "c", 1, &w, NULL, &err));
    assert_code(err, ERR_EXISTS);
    assert_int_equal(drop("c").version, 3);
    assert_int_equal(try_put("c", "x", 2), ERR_EXISTS);
    assert_int_equal(try_put("c", "back", 0), ERR_NONE); /* a deleted key is not there */
    assert_value_at("c", 4, "back", 4);
}

static inline void deletes_and_numbers_on(void **state)
{
    struct storage_stat stat;
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    (void)state;

    assert_false(storage_delete(place.s, place.space, "d", STORAGE_ANY, &w, NULL, &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    (void)put("d", "one");
    stat = drop("d");
    assert_int_equal(stat.version, 2);
    assert_true(stat.deleted);
    assert_int_equal(stat.bytes, 0);
    assert_string_equal(stat.sha256, "");
    assert_int_equal(try_get("d", 0), ERR_NOT_FOUND);
    assert_int_equal(try_get("d", 2), ERR_NOT_FOUND);
    assert_value_at("d", 1, "one", 3);
    assert_false(storage_delete(place.s, place.space, "d", STORAGE_ANY, &w, NULL, &err));
    assert_code(err, ERR_NOT_FOUND);
    suite_open(NULL);
    assert_int_equal(try_get("d", 0), ERR_NOT_FOUND);
    assert_int_equal(put("d", "three").version, 3);
    assert_value("d", "three");
}

/* ---- versions ---- */

static inline void assert_versions(const char *key, size_t limit, const char *want)
{
    CLEANUP(buf_fini) struct buf seen = BUF_INIT;
    char *cursor = NULL;

    do {
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        struct storage_page page;

        assert_ok(storage_versions(place.s, place.space, key, cursor, limit, &w, &page, &err), err);
        assert_true(page.count <= limit);
        for (size_t i = 0; i < page.count; i++) {
            assert_string_equal(page.items[i].key, key);
            assert_true(buf_printf(&seen, "%llu%s,", (unsigned long long)page.items[i].version,
                                   page.items[i].deleted ? "d" : ""));
        }
        free(cursor);
        cursor = STEAL(page.cursor);
        storage_page_fini(&page);
    } while (cursor);
    assert_string_equal(buf_str(&seen), want);
}

static inline void keeps_so_many_versions(void **state)
{
    char text[16];
    (void)state;

    suite_open("{\"versions\":5}");
    for (int i = 1; i <= 8; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        (void)put("v", text);
    }
    (void)drop("v");
    (void)put("v", "10");
    assert_versions("v", 100, "10,9d,8,7,6,");
    assert_versions("v", 2, "10,9d,8,7,6,");
    assert_int_equal(try_get("v", 5), ERR_NOT_FOUND);
    assert_int_equal(try_get("v", 9), ERR_NOT_FOUND);
    assert_value_at("v", 6, "6", 1);
    assert_int_equal(usage_now().versions, 5);
    assert_int_equal(usage_now().bytes, 5); /* "6" "7" "8" "" "10" */
    suite_open("{\"versions\":2}");
    assert_versions("v", 100, "10,9d,8,7,6,");
    (void)put("v", "11");
    assert_versions("v", 100, "11,10,");
    suite_open(NULL);
    assert_versions("v", 100, "11,10,");
}

static inline void rolls_back_by_number(void **state)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_stat stat;
    (void)state;

    (void)put("r", "one");
    (void)put("r", "two");
    (void)drop("r");
    assert_ok(storage_rollback(place.s, place.space, "r", 1, 0, &w, &stat, &err), err);
    assert_int_equal(stat.version, 4);
    assert_int_equal(stat.bytes, 3);
    assert_value("r", "one");
    assert_ok(storage_rollback(place.s, place.space, "r", 3, 0, &w, &stat, &err), err);
    assert_true(stat.deleted);
    assert_int_equal(try_get("r", 0), ERR_NOT_FOUND);
    assert_versions("r", 10, "5d,4,3d,2,1,");
    assert_false(storage_rollback(place.s, place.space, "r", 9, 0, &w, &stat, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "storage_versions");
}

static inline void rolls_back_by_time(void **state)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_stat one, two, stat;
    (void)state;

    one = put("r", "one");
    if (!suite.no_clock)
        atomic_store(&suite_wall_ns, one.wall_ns + 1000);
    do /* without a clock of ours, until it has moved on */
        two = put("r", "two");
    while (two.wall_ns == one.wall_ns);
    assert_ok(storage_rollback(place.s, place.space, "r", 0, two.wall_ns - 1, &w, &stat, &err),
              err);
    assert_value("r", "one");
    assert_ok(storage_rollback(place.s, place.space, "r", 0, two.wall_ns, &w, &stat, &err), err);
    assert_true(stat.wall_ns >= two.wall_ns);
    assert_false(storage_rollback(place.s, place.space, "r", 0, one.wall_ns - 1, &w, &stat, &err));
    assert_code(err, ERR_NOT_FOUND);
}

static inline void time_never_goes_back(void **state)
{
    int64_t now = clock_wall_ns();
    struct storage_stat a, b, c;
    (void)state;

    if (suite.no_clock)
        return;
    atomic_store(&suite_wall_ns, now + 3600 * CLOCK_NS_PER_S);
    a = put("t", "a");
    atomic_store(&suite_wall_ns, now - 3600 * CLOCK_NS_PER_S);
    b = put("t", "b");
    suite_open(NULL);
    c = drop("t");
    assert_int_equal(a.wall_ns, now + 3600 * CLOCK_NS_PER_S);
    assert_true(b.wall_ns >= a.wall_ns);
    assert_true(c.wall_ns >= b.wall_ns);
    /* Others are not held up by it. */
    assert_int_equal(put("u", "a").wall_ns, now - 3600 * CLOCK_NS_PER_S);
}

static inline void copies(void **state)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_stat stat;
    (void)state;

    (void)put("from", "value");
    assert_ok(storage_copy(place.s, place.space, "from", "to", 0, &w, &stat, &err), err);
    assert_string_equal(stat.key, "to");
    assert_int_equal(stat.version, 1);
    assert_value("to", "value");
    assert_false(storage_copy(place.s, place.space, "from", "to", 0, &w, &stat, &err));
    assert_code(err, ERR_EXISTS);
    error_clear(&err);
    assert_ok(storage_copy(place.s, place.space, "from", "from", 1, &w, &stat, &err), err);
    assert_int_equal(stat.version, 2);
    assert_false(storage_copy(place.s, place.space, "gone", "to", STORAGE_ANY, &w, &stat, &err));
    assert_code(err, ERR_NOT_FOUND);
}

/* ---- lists ---- */

static inline void lists_in_order_of_bytes(void **state)
{
    (void)state;

    (void)put("b", "");
    (void)put("a/2", "");
    (void)put("a/10", "");
    (void)put("a", "");
    (void)put("a\xc3\xa4", "");
    (void)put("a.b", "");
    (void)put("A/1", "");
    (void)put("a/gone", "");
    (void)drop("a/gone");
    (void)put("a_b", "");
    (void)put("a%b", "");
    (void)put("\xf0\x9f\x99\x82", "");
    (void)put("\xef\xbd\x81", ""); /* UTF-16 would order it behind the one before */
    for (size_t limit = 1; limit < 20; limit += limit < 3 ? 1 : 8) {
        assert_keys("", limit,
                    "A/1,a,a%b,a.b,a/10,a/2,a_b,a\xc3\xa4,b,\xef\xbd\x81,\xf0\x9f\x99\x82,");
        assert_keys("a/", limit, "a/10,a/2,");
        assert_keys("a", limit, "a,a%b,a.b,a/10,a/2,a_b,a\xc3\xa4,");
        assert_keys("a_", limit, "a_b,");
        assert_keys("a%", limit, "a%b,");
        assert_keys("a/1", limit, "a/10,");
        assert_keys("c", limit, "");
    }
}

static inline void lists_on_while_keys_come_and_go(void **state)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_page page, next;
    (void)state;

    for (char key[] = "k0"; key[1] < '6'; key[1]++)
        (void)put(key, key);
    assert_ok(storage_list(place.s, place.space, "k", NULL, 2, &w, &page, &err), err);
    assert_int_equal(page.count, 2);
    assert_string_equal(page.items[1].key, "k1");
    assert_int_equal(page.items[1].version, 1);
    assert_int_equal(page.items[1].bytes, 2);
    assert_int_equal(strlen(page.items[1].sha256), 64);
    (void)drop("k1"); /* where the cursor stands */
    (void)drop("k2");
    (void)put("k11", "");
    assert_ok(storage_list(place.s, place.space, "k", page.cursor, 2, &w, &next, &err), err);
    assert_int_equal(next.count, 2);
    assert_string_equal(next.items[0].key, "k11");
    assert_string_equal(next.items[1].key, "k3");
    storage_page_fini(&page);
    storage_page_fini(&next);
    assert_ok(storage_list(place.s, place.space, "k4", NULL, 1, &w, &page, &err), err);
    assert_null(page.cursor);
    storage_page_fini(&page);
}

static inline void spaces_do_not_see_each_other(void **state)
{
    char mine[64], other[80];
    (void)state;

    (void)snprintf(mine, sizeof mine, "%s", place.space);
    (void)put("k", "mine");
    (void)snprintf(other, sizeof other, "%s.x", mine);
    (void)snprintf(place.space, sizeof place.space, "%.62s", other);
    assert_int_equal(try_get("k", 0), ERR_NOT_FOUND);
    assert_keys("", 10, "");
    assert_int_equal(usage_now().versions, 0);
    (void)put("k", "other");
    (void)put("k", "other");
    (void)snprintf(place.space, sizeof place.space, "~%.61s", mine);
    assert_int_equal(try_get("k", 0), ERR_NOT_FOUND);
    (void)snprintf(place.space, sizeof place.space, "%s", mine);
    assert_value("k", "mine");
    assert_int_equal(usage_now().versions, 1);
}

/* ---- batches and bounds ---- */

static inline void batches_all_or_none(void **state)
{
    struct storage_op ops[] = {
        { .kind = STORAGE_PUT, .key = "a", .data = "A", .len = 1, .if_version = 1 },
        { .kind = STORAGE_DELETE, .key = "b", .if_version = STORAGE_ANY },
        { .kind = STORAGE_PUT, .key = "c", .data = "CCC", .len = 3, .if_version = 0 },
    };
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    size_t failed = 99;
    (void)state;

    (void)put("a", "a");
    assert_false(storage_batch(place.s, place.space, ops, 3, &w, &failed, &err));
    assert_code(err, ERR_NOT_FOUND); /* b */
    assert_int_equal(failed, 1);
    error_clear(&err);
    assert_value("a", "a");
    assert_int_equal(try_get("c", 0), ERR_NOT_FOUND);
    (void)put("b", "b");
    (void)put("c", "c");
    assert_false(storage_batch(place.s, place.space, ops, 3, &w, &failed, &err));
    assert_code(err, ERR_EXISTS);
    assert_int_equal(failed, 2);
    error_clear(&err);
    assert_value("a", "a");
    assert_value("b", "b");
    ops[2].if_version = 1;
    assert_ok(storage_batch(place.s, place.space, ops, 3, &w, &failed, &err), err);
    assert_int_equal(ops[0].stat.version, 2);
    assert_string_equal(ops[0].stat.key, "a");
    assert_true(ops[1].stat.deleted);
    assert_int_equal(ops[2].stat.bytes, 3);
    assert_value("a", "A");
    assert_int_equal(try_get("b", 0), ERR_NOT_FOUND);
    suite_open(NULL);
    assert_value("c", "CCC");
    assert_value("a", "A");
    assert_int_equal(try_get("b", 0), ERR_NOT_FOUND);
}

static inline void refuses_over_the_quota(void **state)
{
    const size_t len = 300u << 10;
    char *data = calloc(1, len);
    struct storage_op ops[4];
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_stat stat;
    size_t failed = 99;
    (void)state;

    assert_non_null(data);
    suite_open("{\"quota_mb\":1}");
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        ops[i] = (struct storage_op){
            .kind = STORAGE_PUT, .data = data, .len = len, .if_version = STORAGE_ANY
        };
    ops[0].key = "a";
    ops[1].key = "b";
    ops[2].key = "c";
    ops[3].key = "d";
    assert_false(storage_batch(place.s, place.space, ops, 4, &w, &failed, &err));
    assert_code(err, ERR_LIMIT);
    assert_int_equal(failed, 3);
    error_clear(&err);
    assert_keys("", 10, "");
    assert_int_equal(usage_now().bytes, 0);
    assert_ok(storage_batch(place.s, place.space, ops, 3, &w, NULL, &err), err);
    assert_int_equal(usage_now().bytes, 3 * len);
    assert_int_equal(usage_now().quota_bytes, 1u << 20);
    assert_int_equal(usage_now().keys, 3);
    assert_false(storage_put(place.s, place.space, "a", data, len, STORAGE_ANY, &w, NULL, &err));
    assert_code(err, ERR_LIMIT);
    error_clear(&err);
    (void)drop("a"); /* what was deleted is kept, and counts */
    assert_int_equal(usage_now().bytes, 3 * len);
    assert_int_equal(usage_now().keys, 2);
    assert_ok(storage_purge(place.s, place.space, "a", &w, &stat, &err), err);
    assert_true(stat.deleted);
    assert_int_equal(usage_now().bytes, 2 * len);
    assert_ok(storage_purge(place.s, place.space, "b", &w, &stat, &err), err);
    assert_int_equal(usage_now().bytes, len);
    assert_int_equal(usage_now().versions, 3);
    assert_int_equal(try_get("b", 1), ERR_NOT_FOUND);
    assert_false(storage_purge(place.s, place.space, "nobody", &w, &stat, &err));
    assert_code(err, ERR_NOT_FOUND);
    error_clear(&err);
    assert_ok(storage_put(place.s, place.space, "a", data, len, STORAGE_ANY, &w, NULL, &err), err);
    suite_open("{\"quota_mb\":1}");
    assert_int_equal(usage_now().bytes, 2 * len);
    assert_int_equal(usage_now().keys, 2);
    free(data);
}

static inline void changes_nothing_when_there_is_no_time(void **state)
{
    struct cancel token;
    struct wait late = { .deadline_ns = 1 };
    struct wait cancelled = { .deadline_ns = clock_add_ns(clock_now_ns(), 100 * CLOCK_NS_PER_S),
                              .cancel = &token };
    struct error err = ERROR_INIT;
    (void)state;

    cancel_init(&token);
    cancel_raise(&token);
    assert_false(storage_put(place.s, place.space, "k", "x", 1, 0, &late, NULL, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    assert_false(storage_put(place.s, place.space, "k", "x", 1, 0, &cancelled, NULL, &err));
    assert_code(err, ERR_CANCELLED);
    cancel_fini(&token);
    assert_int_equal(try_get("k", 0), ERR_NOT_FOUND);
    assert_int_equal(try_put("k", "x", 0), ERR_NONE);
}

#define SUITE_TEST(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)

/** All of the above as one group called @name; what main() returns. */
static inline int storage_suite_run(const char *name)
{
    const struct CMUnitTest tests[] = {
        SUITE_TEST(keeps_what_is_put),
        SUITE_TEST(keeps_large_values),
        SUITE_TEST(takes_keys_as_they_are),
        SUITE_TEST(gets_ranges),
        SUITE_TEST(puts_on_a_condition),
        SUITE_TEST(deletes_and_numbers_on),
        SUITE_TEST(keeps_so_many_versions),
        SUITE_TEST(rolls_back_by_number),
        SUITE_TEST(rolls_back_by_time),
        SUITE_TEST(time_never_goes_back),
        SUITE_TEST(copies),
        SUITE_TEST(lists_in_order_of_bytes),
        SUITE_TEST(lists_on_while_keys_come_and_go),
        SUITE_TEST(spaces_do_not_see_each_other),
        SUITE_TEST(batches_all_or_none),
        SUITE_TEST(refuses_over_the_quota),
        SUITE_TEST(changes_nothing_when_there_is_no_time),
        SUITE_TEST(loses_no_step_between_threads),
        SUITE_TEST(writes_from_many_threads),
    };

    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}
