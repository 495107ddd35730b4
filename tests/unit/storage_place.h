/*
 * storage_place - storage over one back end in a folder of the test's own, and short forms of its
 * calls that fail the test by themselves.
 *
 * The program sets `suite` before the first test.  Each test has a folder and a space of its own,
 * so a server's data need not be cleared between them.
 * Threads: the test's own.
 */
#pragma once

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "kernel/base/json.h"
#include "kernel/base/sha256.h"
#include "kernel/config.h"
#include "kernel/event.h"
#include "kernel/storage_backend.h"
#include "tests/support/check.h"

struct storage_suite {
    storage_backend_fn *make;
    const char *config;      /* JSON object: more of the configuration; NULL: none */
    bool no_clock;           /* clock_wall_ns() is not wrapped */
    unsigned threads, turns; /* of the tests with several threads; 0: 4 and 25 */
};

static struct storage_suite suite;

struct suite_place {
    char dir[64];
    struct config *config;
    struct storage *s;
    char space[64];
};

static struct suite_place place;

/* ---- the clock ---- */

int64_t __real_clock_wall_ns(void) __attribute__((weak));
int64_t __wrap_clock_wall_ns(void);

static _Atomic int64_t suite_wall_ns; /* 0: the real one */

int64_t __wrap_clock_wall_ns(void)
{
    int64_t fake = atomic_load(&suite_wall_ns);

    return fake ? fake : __real_clock_wall_ns();
}

static inline void digest_of(const void *data, size_t len, char ret[SHA256_HEX])
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;

    sha256_init(&h);
    sha256_add(&h, data, len);
    sha256_end(&h, digest);
    sha256_hex(digest, ret);
}

/* ---- a place ---- */

static inline struct wait suite_wait(void)
{
    return (struct wait){ .deadline_ns = clock_add_ns(clock_now_ns(), 100 * CLOCK_NS_PER_S) };
}

/** Opens the place's storage (again), with @more over the section "storage" (may be NULL). */
static inline void suite_open(const char *more)
{
    struct error err = ERROR_INIT;
    json_t *over = json_pack("{s:{s:s}}", "storage", "dir", place.dir);

    assert_non_null(over);
    if (suite.config) {
        json_t *own = json_parse(suite.config, strlen(suite.config), &err);

        assert_ok(own, err);
        assert_int_equal(json_object_update_recursive(over, own), 0);
        json_decref(own);
    }
    if (more) {
        json_t *own = json_parse(more, strlen(more), &err);

        assert_ok(own, err);
        assert_int_equal(json_object_update(json_object_get(over, "storage"), own), 0);
        json_decref(own);
    }
    storage_close(place.s);
    config_free(place.config);
    place.s = NULL;
    place.config = config_parse(NULL, 0, "", over, &err);
    json_decref(over);
    assert_ok(place.config, err);
    place.s = storage_open_with(suite.make, place.config, NULL, &err);
    assert_ok(place.s, err);
}

static inline int suite_setup(void **state)
{
    struct id id = id_make("space");

    (void)state;
    place = (struct suite_place){ .dir = "/tmp/test_storage.XXXXXX" };
    (void)snprintf(place.space, sizeof place.space, "%s", id.text);
    if (!mkdtemp(place.dir))
        return -1;
    suite_open(NULL);
    return 0;
}

static inline int suite_teardown(void **state)
{
    (void)state;
    atomic_store(&suite_wall_ns, 0);
    storage_close(place.s);
    config_free(place.config);
    return fd_remove_tree(AT_FDCWD, place.dir, NULL) ? 0 : -1;
}

/* ---- short forms; each fails the test by itself ---- */

static inline struct storage_stat put_bytes(const char *key, const void *data, size_t len)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_stat stat;

    if (!storage_put(place.s, place.space, key, data, len, STORAGE_ANY, &w, &stat, &err))
        fail_msg("put %s: %s: %s", key, error_code_name(err.code), err.text);
    return stat;
}

static inline struct storage_stat put(const char *key, const char *text)
{
    return put_bytes(key, text, strlen(text));
}

static inline enum error_code try_put(const char *key, const char *text, uint64_t if_version)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;

    return storage_put(place.s, place.space, key, text, strlen(text), if_version, &w, NULL, &err)
               ? ERR_NONE
               : err.code;
}

static inline struct storage_stat drop(const char *key)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_stat stat;

    if (!storage_delete(place.s, place.space, key, STORAGE_ANY, &w, &stat, &err))
        fail_msg("delete %s: %s: %s", key, error_code_name(err.code), err.text);
    return stat;
}

static inline enum error_code try_get(const char *key, uint64_t version)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    bool ok = storage_get(place.s, place.space, key, version, 0, SIZE_MAX, &out, &w, NULL, &err);

    if (!ok)
        assert_int_equal(out.len, 0);
    return ok ? ERR_NONE : err.code;
}

static inline void assert_value_at(const char *key, uint64_t version, const void *data, size_t len)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_stat stat = { .deleted = true };

    if (!storage_get(place.s, place.space, key, version, 0, SIZE_MAX, &out, &w, &stat, &err))
        fail_msg("get %s: %s: %s", key, error_code_name(err.code), err.text);
    if (out.len != len || memcmp(buf_str(&out), data, len) != 0)
        fail_msg("%s holds %zu bytes, %.60s", key, out.len, buf_str(&out));
    assert_string_equal(stat.key, key);
    assert_int_equal(stat.bytes, len);
    assert_false(stat.deleted);
    if (version)
        assert_int_equal(stat.version, version);
}

static inline void assert_value(const char *key, const char *text)
{
    assert_value_at(key, 0, text, strlen(text));
}

/** All keys that begin with @prefix, with a ',' after each, read in pages of @limit. */
static inline void assert_keys(const char *prefix, size_t limit, const char *want)
{
    CLEANUP(buf_fini) struct buf keys = BUF_INIT;
    char *cursor = NULL;

    do {
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        struct storage_page page;

        assert_ok(storage_list(place.s, place.space, prefix, cursor, limit, &w, &page, &err), err);
        assert_true(page.count <= limit);
        for (size_t i = 0; i < page.count; i++)
            assert_true(buf_printf(&keys, "%s,", page.items[i].key));
        free(cursor);
        cursor = STEAL(page.cursor);
        storage_page_fini(&page);
    } while (cursor);
    assert_string_equal(buf_str(&keys), want);
}

static inline struct storage_usage usage_now(void)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_usage usage;

    assert_ok(storage_usage(place.s, place.space, &w, &usage, &err), err);
    return usage;
}
