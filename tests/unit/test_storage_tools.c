/* The family storage: its handlers, over storage in a folder of the test's own. */
#include <fcntl.h>
#include <stdio.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/storage_backend.h"
#include "tests/support/check.h"
#include "tools/toolkit.h"

static struct {
    char dir[64];
    struct config *config;
    struct storage *s;
    struct agent *alice, *bob;
} place;

struct storage *__wrap_kernel_storage(struct kernel *k, struct error *err);

struct storage *__wrap_kernel_storage(struct kernel *k, struct error *err)
{
    (void)k;
    if (!place.s)
        error_set(err, ERR_BUSY, "the storage folder is in use");
    return place.s;
}

static int make_place(void **state)
{
    json_t *over;
    struct error err = ERROR_INIT;

    (void)state;
    (void)snprintf(place.dir, sizeof place.dir, "/tmp/test_storage.XXXXXX");
    assert_non_null(mkdtemp(place.dir));
    over = json_pack("{s:{s:s,s:i}}", "storage", "dir", place.dir, "quota_mb", 1);
    place.config = config_parse(NULL, 0, "", over, &err);
    json_decref(over);
    assert_ok(place.config, err);
    place.s = storage_open_with(storage_sqlite_new, place.config, NULL, &err);
    assert_ok(place.s, err);
    place.alice = agent_new("alice", NULL, &err);
    place.bob = agent_new("bob", NULL, &err);
    assert_ok(place.alice && place.bob, err);
    return 0;
}

static int drop_place(void **state)
{
    (void)state;
    agent_unref(place.alice);
    agent_unref(place.bob);
    storage_close(place.s);
    place.s = NULL;
    config_free(place.config);
    return fd_remove_tree(AT_FDCWD, place.dir, NULL) ? 0 : -1;
}

/* ---- a call ---- */

struct answer {
    bool ok;
    enum error_code code;
    char text[40000];
};

static const struct tool *tool_of(const char *name)
{
    for (size_t i = 0; i < toolset_storage.count; i++)
        if (strcmp(toolset_storage.tools[i].name, name) == 0)
            return &toolset_storage.tools[i];
    fail_msg("no tool %s", name);
    return NULL;
}

static void take_text(struct answer *a, const struct result *result)
{
    size_t at = 0;

    a->text[0] = '\0';
    for (size_t i = 0; i < result->count; i++)
        at += (size_t)snprintf(a->text + at, sizeof a->text - at, "%s%s", i ? "\n" : "",
                               buf_str(&result->blocks[i].data));
    assert_true(at < sizeof a->text);
}

/* Takes @arguments. */
static const char *call_as(struct agent *agent, struct answer *a, const char *name,
                           json_t *arguments)
{
    const struct tool *tool = tool_of(name);
    union {
        char bytes[256];
        int64_t align;
    } args;
    struct result result;
    struct error err = ERROR_INIT;
    struct tool_call call = { .agent = agent, .tool = tool, .result = &result };

    assert_non_null(arguments);
    assert_true(tool->args_size <= sizeof args);
    call.wait.deadline_ns = clock_add_ns(clock_now_ns(), 100 * CLOCK_NS_PER_S);
    result_init(&result);
    a->ok =
        json_fields_read(tool->fields, arguments, &args, &err) && tool->handler(&call, &args, &err);
    a->code = err.code;
    if (a->ok)
        take_text(a, &result);
    else
        (void)snprintf(a->text, sizeof a->text, "%s", err.text);
    result_fini(&result);
    json_decref(arguments);
    return a->text;
}

static struct answer got;

static const char *call(const char *name, json_t *arguments)
{
    return call_as(place.alice, &got, name, arguments);
}

static const char *good(const char *name, json_t *arguments)
{
    (void)call(name, arguments);
    if (!got.ok)
        fail_msg("%s: %s: %s", name, error_code_name(got.code), got.text);
    return got.text;
}

static void put(const char *key, const char *value)
{
    (void)good("storage_put", json_pack("{s:s,s:s}", "key", key, "value", value));
}

/* ---- tests ---- */

static void fits_into_its_share_of_the_list(void **state)
{
    size_t bytes = 0;
    (void)state;

    for (size_t i = 0; i < toolset_storage.count; i++) {
        const struct tool *tool = &toolset_storage.tools[i];
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        json_t *schema = json_fields_schema(tool->fields);

        assert_true(json_write(schema, &out));
        bytes += out.len + strlen(tool->description) + strlen(tool->name) + strlen(tool->title);
        assert_int_equal(tool->class, SYSCALL_STORAGE);
        json_decref(schema);
    }
    assert_true(bytes < 2700);
    assert_true(toolset_storage.count <= 5);
}

static void keeps_and_reads(void **state)
{
    (void)state;

    assert_string_equal(good("storage_put", json_pack("{s:s,s:s}", "key", "notes/a", "value",
                                                      "gr\xc3\xbc\xc3\x9f")),
                        "kept \"notes/a\" as version 1, 6 bytes");
    assert_contains(good("storage_get", json_pack("{s:s}", "key", "notes/a")),
                    "gr\xc3\xbc\xc3\x9f\n[version 1, 6 bytes, 20");
    put("notes/a", "two");
    assert_contains(good("storage_get", json_pack("{s:s,s:i}", "key", "notes/a", "version", 1)),
                    "gr\xc3\xbc\xc3\x9f\n[version 1");
    put("empty", "");
    assert_contains(good("storage_get", json_pack("{s:s}", "key", "empty")),
                    "[version 1, 0 bytes, 20");
}

static void reads_in_parts_that_end_between_characters(void **state)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT, all = BUF_INIT;
    size_t offset = 0;
    (void)state;

    for (int i = 0; i < 20000; i++)
        assert_true(buf_append_str(&text, "\xe2\x82\xac"));
    put("euro", buf_str(&text));
    while (offset < text.len) {
        const char *said = good(
            "storage_get", json_pack("{s:s,s:I}", "key", "euro", "offset", (json_int_t)offset));
        size_t len = strcspn(said, "\n");

        assert_true(len > 0 && len % 3 == 0);
        assert_true(buf_append(&all, said, len));
        offset += len;
        if (offset < text.len)
            assert_contains(said, "; go on with \"offset\"");
    }
    assert_string_equal(buf_str(&all), buf_str(&text));
    assert_contains(
        good("storage_get", json_pack("{s:s,s:i,s:i}", "key", "euro", "offset", 3, "max", 7)),
        "\xe2\x82\xac\xe2\x82\xac\n[version 1, bytes 3 to 9 of 60000, ");
}

static void carries_bytes_as_base64(void **state)
{
    (void)state;

    (void)good("storage_put", json_pack("{s:s,s:s}", "key", "b", "base64", "AP+A/w=="));
    assert_contains(good("storage_get", json_pack("{s:s}", "key", "b")),
                    "AP+A/w==\n[base64; version 1, 4 bytes");
    (void)call("storage_put", json_pack("{s:s,s:s}", "key", "b", "base64", "AP+A/w="));
    assert_int_equal(got.code, ERR_INVALID);
    assert_contains(got.text, "base64");
}

static void wants_one_source(void **state)
{
    (void)state;

    (void)call("storage_put", json_pack("{s:s}", "key", "a"));
    assert_int_equal(got.code, ERR_INVALID);
    (void)call("storage_put",
               json_pack("{s:s,s:s,s:s}", "key", "a", "value", "x", "base64", "AA=="));
    assert_int_equal(got.code, ERR_INVALID);
    assert_contains(got.text, "\"from\"");
    put("a", "value of a");
    (void)good("storage_put", json_pack("{s:s,s:s}", "key", "b", "from", "a"));
    assert_contains(good("storage_get", json_pack("{s:s}", "key", "b")), "value of a\n");
    (void)call("storage_get", json_pack("{}"));
    assert_int_equal(got.code, ERR_INVALID);
}

static void refuses_bad_keys_and_conditions(void **state)
{
    static const char *const keys[] = { "/a", "a/", "a//b", "../x", "a/./b", "a\x01" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        (void)call("storage_put", json_pack("{s:s,s:s}", "key", keys[i], "value", "x"));
        if (got.code != ERR_INVALID)
            fail_msg("%s: %s", keys[i], got.text);
    }
    put("c", "one");
    (void)call("storage_put",
               json_pack("{s:s,s:s,s:i}", "key", "c", "value", "x", "if_version", 0));
    assert_int_equal(got.code, ERR_EXISTS);
    assert_contains(got.text, "version 1");
    (void)good("storage_put",
               json_pack("{s:s,s:s,s:i}", "key", "c", "value", "two", "if_version", 1));
}

static void lists_in_pages(void **state)
{
    char cursor[STORAGE_TOKEN_BYTES];
    const char *at;
    (void)state;

    put("n/1", "a");
    put("n/2", "bb");
    put("n/3", "ccc");
    put("other", "x");
    (void)good("storage_list", json_pack("{s:s,s:i}", "prefix", "n/", "limit", 2));
    assert_contains(got.text, "n/1  version 1  1 bytes  20");
    assert_contains(got.text, "n/2  version 1  2 bytes");
    assert_contains(got.text, "[2 keys here; in all 4 keys, 4 versions, 7 of 1048576 bytes]");
    at = strstr(got.text, "\"cursor\":\"");
    assert_non_null(at);
    (void)snprintf(cursor, sizeof cursor, "%.*s", (int)strcspn(at + 10, "\""), at + 10);
    (void)good("storage_list", json_pack("{s:s,s:s}", "prefix", "n/", "cursor", cursor));
    assert_contains(got.text, "n/3  version 1  3 bytes");
    assert_null(strstr(got.text, "cursor"));
    (void)call_as(place.bob, &got, "storage_list",
                  json_pack("{s:s,s:s}", "prefix", "n/", "cursor", cursor));
    assert_int_equal(got.code, ERR_INVALID);
}

static void keeps_agents_apart(void **state)
{
    (void)state;

    put("secret", "alice's");
    (void)call_as(place.bob, &got, "storage_get", json_pack("{s:s}", "key", "secret"));
    assert_int_equal(got.code, ERR_NOT_FOUND);
    (void)call_as(place.bob, &got, "storage_list", json_pack("{}"));
    assert_true(got.ok);
    assert_null(strstr(got.text, "secret"));
}

static void shares_by_token(void **state)
{
    char token[STORAGE_TOKEN_BYTES];
    (void)state;

    put("report", "for bob");
    (void)good("storage_versions", json_pack("{s:s,s:s}", "key", "report", "action", "share"));
    assert_contains(got.text, "\n[reads \"report\" until 20");
    (void)snprintf(token, sizeof token, "%.*s", (int)strcspn(got.text, "\n"), got.text);
    (void)call_as(place.bob, &got, "storage_get", json_pack("{s:s}", "token", token));
    assert_true(got.ok);
    assert_contains(got.text, "for bob\n");
    token[60] = token[60] == 'A' ? 'B' : 'A';
    (void)call_as(place.bob, &got, "storage_get", json_pack("{s:s}", "token", token));
    assert_int_equal(got.code, ERR_DENIED);
    (void)call_as(place.bob, &got, "storage_get", json_pack("{s:s}", "token", "nonsense"));
    assert_int_equal(got.code, ERR_INVALID);
}

static void deletes_and_brings_back(void **state)
{
    (void)state;

    put("d", "one");
    (void)good("storage_delete", json_pack("{s:s}", "key", "d"));
    assert_contains(got.text, "deleted \"d\" with version 2");
    assert_contains(got.text, "\"version\":1}");
    (void)call("storage_get", json_pack("{s:s}", "key", "d"));
    assert_int_equal(got.code, ERR_NOT_FOUND);
    (void)good("storage_versions", json_pack("{s:s}", "key", "d"));
    assert_contains(got.text, "version 2  deleted  20");
    assert_contains(got.text, "version 1  3 bytes  20");
    (void)good("storage_versions",
               json_pack("{s:s,s:s,s:i}", "key", "d", "action", "rollback", "version", 1));
    assert_contains(good("storage_get", json_pack("{s:s}", "key", "d")), "one\n[version 3");
    (void)good("storage_delete", json_pack("{s:s,s:b}", "key", "d", "purge", 1));
    assert_contains(got.text, "and all its versions");
    (void)call("storage_versions",
               json_pack("{s:s,s:s,s:i}", "key", "d", "action", "rollback", "version", 1));
    assert_int_equal(got.code, ERR_NOT_FOUND);
    (void)call("storage_versions", json_pack("{s:s}", "key", "never"));
    assert_int_equal(got.code, ERR_NOT_FOUND);
}

static void rolls_back_to_a_time_as_it_is_shown(void **state)
{
    static const struct {
        const char *time;
        enum error_code want;
    } rows[] = {
        { "yesterday", ERR_INVALID },
        { "2026-01-31", ERR_INVALID },
        { "2026-01-31T12:00:00", ERR_INVALID },
        { "2026-01-31T12:00:00Zulu", ERR_INVALID },
        { "2026-01-31T12:00:00+0", ERR_INVALID },
        { "2006-01-31T12:00:00Z", ERR_NOT_FOUND },
        { "2006-02-31T12:00:00Z", ERR_INVALID },
        { "2007-02-29T12:00:00Z", ERR_INVALID },
        { "2008-02-29T12:00:00Z", ERR_NOT_FOUND },
        { "2006-12-31T23:59:60Z", ERR_NOT_FOUND },
        { "2006-01-31T12:00:00+24:00", ERR_INVALID },
        { "2006-01-31T12:00:00+01:60", ERR_INVALID },
        { "2006-01-31T12:00:00.123456789123-01:30", ERR_NOT_FOUND },
        { "2106-01-31T12:00:00+0100", ERR_NONE },
    };
    char time[32];
    const char *at;
    (void)state;

    put("t", "one");
    (void)good("storage_versions", json_pack("{s:s}", "key", "t"));
    at = strstr(got.text, "  20");
    assert_non_null(at);
    (void)snprintf(time, sizeof time, "%.24s", at + 2);
    (void)good("storage_versions",
               json_pack("{s:s,s:s,s:s}", "key", "t", "action", "rollback", "time", time));
    assert_contains(got.text, "as version 2");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        (void)call("storage_versions", json_pack("{s:s,s:s,s:s}", "key", "t", "action", "rollback",
                                                 "time", rows[i].time));
        if (got.code != rows[i].want)
            fail_msg("%s: %s %s", rows[i].time, error_code_name(got.code), got.text);
    }
    (void)call("storage_versions", json_pack("{s:s,s:s}", "key", "t", "action", "rollback"));
    assert_int_equal(got.code, ERR_INVALID);
}

static void tells_when_storage_cannot_be_opened(void **state)
{
    struct storage *s = place.s;
    (void)state;

    place.s = NULL;
    for (size_t i = 0; i < toolset_storage.count; i++) {
        bool puts = strcmp(toolset_storage.tools[i].name, "storage_put") == 0;
        bool lists = strcmp(toolset_storage.tools[i].name, "storage_list") == 0;

        (void)call(toolset_storage.tools[i].name,
                   lists ? json_pack("{}")
                         : json_pack("{s:s,s:s*}", "key", "a", "value", puts ? "x" : NULL));
        assert_int_equal(got.code, ERR_BUSY);
    }
    place.s = s;
}

static void writes_what_waited_together_in_one_transaction(void **state)
{
    static const char *const keys[] = { "x", "y", "../bad", "y", "z", "gone" };
    const struct tool *put_tool = tool_of("storage_put"), *delete_tool = tool_of("storage_delete");
    struct tool_batched calls[ARRAY_LEN(keys)] = { { .ok = false } };
    struct result results[ARRAY_LEN(keys)];
    int64_t args[ARRAY_LEN(keys)][32];
    struct storage_stats before, after;
    (void)state;

    put("y", "old");
    storage_stats(place.s, &before);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        bool deletes = i == 1 || i == 5;
        json_t *json = deletes ? json_pack("{s:s}", "key", keys[i])
                               : json_pack("{s:s,s:s}", "key", keys[i], "value", "new");
        struct error err = ERROR_INIT;

        result_init(&results[i]);
        calls[i].call = (struct tool_call){ .agent = i == 4 ? place.bob : place.alice,
                                            .tool = deletes ? delete_tool : put_tool,
                                            .result = &results[i] };
        calls[i].call.wait.deadline_ns = clock_add_ns(clock_now_ns(), 100 * CLOCK_NS_PER_S);
        assert_ok(json_fields_read(calls[i].call.tool->fields, json, args[i], &err), err);
        calls[i].args = args[i];
        calls[i].call.peer_arg = json; /* what the arguments borrow from */
    }
    put_tool->batch(calls, ARRAY_LEN(keys));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        bool want = i != 2 && i != 5;

        if (calls[i].ok != want)
            fail_msg("%s: %s", keys[i], calls[i].err.text);
        assert_int_equal(results[i].count, want);
        result_fini(&results[i]);
        json_decref(calls[i].call.peer_arg);
    }
    assert_int_equal(calls[2].err.code, ERR_INVALID);
    assert_int_equal(calls[5].err.code, ERR_NOT_FOUND);
    storage_stats(place.s, &after);
    assert_int_equal(after.batches, before.batches + 1);
    assert_int_equal(after.batched_ops, before.batched_ops + 4);
    assert_contains(good("storage_get", json_pack("{s:s}", "key", "y")), "new\n[version 3");
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, make_place, drop_place)
    const struct CMUnitTest tests[] = {
        TEST(fits_into_its_share_of_the_list),
        TEST(keeps_and_reads),
        TEST(reads_in_parts_that_end_between_characters),
        TEST(carries_bytes_as_base64),
        TEST(wants_one_source),
        TEST(refuses_bad_keys_and_conditions),
        TEST(lists_in_pages),
        TEST(keeps_agents_apart),
        TEST(shares_by_token),
        TEST(deletes_and_brings_back),
        TEST(rolls_back_to_a_time_as_it_is_shown),
        TEST(tells_when_storage_cannot_be_opened),
        TEST(writes_what_waited_together_in_one_transaction),
    };

    return cmocka_run_group_tests_name("storage_tools", tests, NULL, NULL);
}
