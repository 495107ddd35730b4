#include "tools/toolkit.h"

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "tests/support/check.h"

/* ---- cleaning ---- */

#define ROW(label, text, want)                                \
    {                                                         \
        label, text, sizeof(text) - 1, want, sizeof(want) - 1 \
    }

static const struct {
    const char *label, *text;
    size_t len;
    const char *want;
    size_t want_len;
} cleanings[] = {
    ROW("nothing", "", ""),
    ROW("plain text", "one\ntwo\tthree\n", "one\ntwo\tthree\n"),
    ROW("characters of many bytes", "Gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x99\x82\n",
        "Gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x99\x82\n"),
    ROW("colours", "\x1b[1;31merror:\x1b[0m no\n", "error: no\n"),
    ROW("colours written with colons", "\x1b[38:2::1:2:3mx\x1b[m\n", "x\n"),
    ROW("private modes", "\x1b[?25lx\x1b[?25h\n", "x\n"),
    ROW("intermediate bytes", "\x1b[2 qx\n", "x\n"),
    ROW("titles ended by BEL", "\x1b]0;title\ax\n", "x\n"),
    ROW("titles ended by ST", "\x1b]0;title\x1b\\x\n", "x\n"),
    ROW("links", "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\\n", "text\n"),
    ROW("device strings", "\x1bPq#0;1\x1b\\x\x1b_y\x1b\\z\x1b^y\x1b\\\n", "xz\n"),
    ROW("character sets", "\x1b(0x\x1b(B\x1b)Ay\x1b#8z\x1b%G\n", "xyz\n"),
    ROW("short ones",
        "\x1b"
        "7x\x1b"
        "8\x1b=y\x1b>\x1bMz\n",
        "xyz\n"),
    ROW("one cut at the end", "x\x1b[3", "x"),
    ROW("a title cut at the end", "x\x1b]0;ti", "x"),
    ROW("only its beginning", "x\x1b", "x"),
    ROW("a title that never ends takes its line alone", "x\x1b]0;ti\nmore\n", "x\nmore\n"),
    ROW("a new sequence within one", "x\x1b[3\x1b[31my\n", "xy\n"),
    ROW("a newline within one", "x\x1b[3\ny\n", "x\ny\n"),
    ROW("a character of many bytes within one", "x\x1b[3\xc3\xbc\n", "x\xc3\xbc\n"),
    ROW("an escape before one", "x\x1b\xc3\xbcy\x1b\ny\n", "x\xc3\xbcy\ny\n"),
    ROW("two escapes", "x\x1b\x1b[31my\n", "xy\n"),
    ROW("carriage returns before newlines", "one\r\ntwo\r\r\n", "one\ntwo\n"),
    ROW("a progress bar", " 10%\r 50%\r100%\n", "100%\n"),
    ROW("a progress bar that is not finished", " 10%\r 50%\r", " 50%"),
    ROW("one that erases its line", "downloading\r\x1b[Kdone\n", "done\n"),
    ROW("and leaves nothing", "downloading\r\x1b[K\nnext\n", "\nnext\n"),
    ROW("one that goes to the first column", "10%\x1b[1G50%\x1b[G\x1b[0Kdone\n", "done\n"),
    ROW("other columns do not begin it again", "ab\x1b[11Gc\n", "abc\n"),
    ROW("a colour after the return does not erase", "done\r\x1b[0m\nnext\n", "done\nnext\n"),
    ROW("erasing to the left does not erase", "done\r\x1b[1K\nnext\n", "done\nnext\n"),
    ROW("backspace", "abcd\b\bX\n", "abX\n"),
    ROW("backspace over characters of many bytes", "a\xe2\x82\xac\xf0\x9f\x99\x82\b\bX\n", "aX\n"),
    ROW("backspace stops at the line's beginning", "one\na\b\b\b\bX\n", "one\nX\n"),
    ROW("overstriking", "b\bbo\bol\bld\bd\n", "bold\n"),
    ROW("beeps and NUL bytes", "a\a\0b\x0e\x0f\x7f\n", "ab\n"),
    ROW("bytes that are no UTF-8 stay for later",
        "a\xff\xfe\x80"
        "b\n",
        "a\xff\xfe\x80"
        "b\n"),
    ROW("formfeed", "a\fb\vc\n", "abc\n"),
};

static void cleans_what_programs_write_for_terminals(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cleanings); i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;

        assert_true(toolkit_clean(&out, cleanings[i].text, cleanings[i].len));
        if (out.len != cleanings[i].want_len ||
            memcmp(buf_str(&out), cleanings[i].want, out.len) != 0)
            fail_msg("%s: %s", cleanings[i].label, buf_str(&out));
    }
}

static void cleans_behind_what_is_there(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    (void)state;

    assert_true(buf_append_str(&out, "before"));
    assert_true(toolkit_clean(&out, "\b\b\b\rx\by", 8));
    assert_string_equal(out.data, "beforey");
}

static void cleaning_tells_when_memory_runs_out(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        bool ok = toolkit_clean(&out, "one\x1b[m two\n", 12);

        FAULT_DONE(n);
        assert_int_equal(ok, n_last);
    }
}

/* ---- the status line ---- */

static struct run_info info_of(enum run_reason reason, int value)
{
    struct run_info info = { .reason = reason, .value = value };

    info.guest.usage.wall_ns = 1234 * CLOCK_NS_PER_MS;
    info.guest.usage.cpu_ns = 900 * CLOCK_NS_PER_MS;
    info.guest.usage.peak_bytes = 34u << 20;
    return info;
}

static void says_how_a_run_ended(void **state)
{
    static const struct {
        enum run_reason reason;
        int value;
        const char *want;
    } rows[] = {
        { RUN_EXIT, 0, "[exit code 0, 1.2 s, CPU 900 ms, peak 34.0 MiB]" },
        { RUN_EXIT, 127, "[exit code 127, 1.2 s, CPU 900 ms, peak 34.0 MiB]" },
        { RUN_SIGNAL, 11, "[ended by signal 11, 1.2 s, CPU 900 ms, peak 34.0 MiB]" },
        { RUN_TIMEOUT, 9, "[timeout: killed with everything it had started, 1.2 s, CPU" },
        { RUN_OOM, 9, "[oom: killed because the computer's memory limit was reached, 1.2 s" },
        { RUN_PIDS, 2, "[pids: failed (2) after the computer's limit of processes was reached" },
        { RUN_OUTPUT, 9, "[output: killed because it wrote more than a run may" },
        { RUN_DISK, 1, "[disk: failed (1) with the computer's disk full" },
        { RUN_KILLED, 15, "[killed by signal 15 on request, 1.2 s" },
        { RUN_LOST, 0, "[computer_lost: the computer ended before the program did, 1.2 s]" },
        { RUN_LIVE, 0,
          "[still running after 1.2 s; run r_1 goes on. Call terminal_read "
          "{\"run\":\"r_1\",\"wait_ms\":30000} for more" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct run_info info = info_of(rows[i].reason, rows[i].value);
        CLEANUP(buf_fini) struct buf out = BUF_INIT;

        assert_true(toolkit_status(&info, "r_1", &out));
        if (strncmp(out.data, rows[i].want, strlen(rows[i].want)) != 0 ||
            out.data[out.len - 1] != ']')
            fail_msg("%s", out.data);
        FAULT_EACH(n)
        {
            CLEANUP(buf_fini) struct buf again = BUF_INIT;
            bool ok = toolkit_status(&info, "r_1", &again);

            FAULT_DONE(n);
            assert_int_equal(ok, n_last);
        }
    }
}

static void times_have_a_fitting_unit(void **state)
{
    static const struct {
        int64_t ns;
        const char *want;
    } rows[] = {
        { 0, ", 0.0 ms," },
        { 1234567, ", 1.2 ms," },
        { 10 * CLOCK_NS_PER_MS, ", 10 ms," },
        { CLOCK_NS_PER_S - 1, ", 999 ms," },
        { CLOCK_NS_PER_S, ", 1.0 s," },
        { 3600 * CLOCK_NS_PER_S, ", 3600.0 s," },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct run_info info = info_of(RUN_EXIT, 0);
        CLEANUP(buf_fini) struct buf out = BUF_INIT;

        info.guest.usage.wall_ns = rows[i].ns;
        assert_true(toolkit_status(&info, "r_1", &out));
        assert_contains(out.data, rows[i].want);
    }
}

/* ---- environments and lists ---- */

static void json_freep(json_t **value)
{
    json_decref(*value);
}

static void makes_an_environment_of_a_map(void **state)
{
    CLEANUP(json_freep)
    json_t *map =
        json_pack("{s:s,s:s,s:s,s:s}", "A", "1", "B", "", "C", "x=y\n\tz", "D-e.f", "\xc3\xbc");
    struct error err = ERROR_INIT;
    char **env = NULL;
    (void)state;

    assert_ok(toolkit_env(map, &env, &err), err);
    assert_string_equal(env[0], "A=1");
    assert_string_equal(env[1], "B=");
    assert_string_equal(env[2], "C=x=y\n\tz");
    assert_string_equal(env[3], "D-e.f=\xc3\xbc");
    assert_null(env[4]);
    free(env);
    env = (char **)&err;
    assert_ok(toolkit_env(NULL, &env, &err), err);
    assert_null(env);
}

static void an_empty_environment_is_one(void **state)
{
    CLEANUP(json_freep) json_t *map = json_object();
    struct error err = ERROR_INIT;
    char **env = NULL;
    (void)state;

    assert_ok(toolkit_env(map, &env, &err), err);
    assert_non_null(env);
    assert_null(env[0]);
    free(env);
}

static void refuses_what_no_environment_can_hold(void **state)
{
    static const struct {
        const char *name, *value;
        size_t len;
        const char *says;
    } rows[] = {
        { "", "x", 1, "not empty" },
        { "A=B", "x", 1, "A=B" },
        { "=", "x", 1, "\"=\"" },
        { "A\nB", "x", 1, "control character" },
        { "A\x7f", "x", 1, "control character" },
        { "A", "x\0y", 3, "byte 0" },
        { "A", "\x1b[0m", 4, "byte 27" },
        { "A", "\a", 1, "byte 7" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(json_freep) json_t *map = json_pack("{s:s}", "FINE", "yes");
        struct error err = ERROR_INIT;
        char **env = NULL;

        assert_int_equal(
            json_object_set_new(map, rows[i].name, json_stringn(rows[i].value, rows[i].len)), 0);
        assert_false(toolkit_env(map, &env, &err));
        assert_code(err, ERR_INVALID);
        assert_contains(err.text, rows[i].says);
        assert_null(env);
    }
}

static void an_environment_is_bounded(void **state)
{
    CLEANUP(json_freep) json_t *map = json_object();
    char *value = calloc(1, LIMIT_ARGV_BYTES);
    struct error err = ERROR_INIT;
    char **env = NULL;
    (void)state;

    assert_non_null(value);
    memset(value, 'x', LIMIT_ARGV_BYTES - 4);
    assert_int_equal(json_object_set_new(map, "AB", json_string(value)), 0);
    assert_ok(toolkit_env(map, &env, &err), err);
    free(env);
    env = NULL;
    assert_int_equal(json_object_set_new(map, "A", json_string("")), 0);
    assert_false(toolkit_env(map, &env, &err));
    assert_code(err, ERR_LIMIT);
    free(value);
}

static void lists_are_borrowed_strings(void **state)
{
    CLEANUP(json_freep) json_t *array = json_pack("[s,s]", "one", "two");
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        char **list = toolkit_strings(array, &err);
        char **env = NULL;
        bool ok;

        FAULT_DONE(n);
        assert_int_equal(list != NULL, n_last);
        if (!list) {
            assert_code(err, ERR_NOMEM);
            continue;
        }
        assert_ptr_equal(list[0], json_string_value(json_array_get(array, 0)));
        assert_string_equal(list[1], "two");
        assert_null(list[2]);
        free(list);
        ok = toolkit_env(NULL, &env, &err);
        assert_true(ok);
    }
}

/* ---- groups ---- */

static void registers_the_groups_that_are_wanted(void **state)
{
    static const struct {
        const char *groups; /* JSON; NULL for the usual ones */
        const char *has, *lacks;
    } rows[] = {
        { "[\"all\"]", "browser_navigate", "no_such_tool" },
        { "[\"all\"]", "agent_status", "no_such_tool" },
        { "[\"file\",\"all\"]", "memory_save", "no_such_tool" },
        { "[\"browser\"]", "browser_navigate", "code_run" },
        { "[\"browser\"]", "browser_act", "document_read" },
        { "[\"document\",\"desktop\"]", "desktop", "browser_act" },
        { "[\"computer\",\"file\"]", "file_edit", "terminal_run" },
        { "[\"terminal\"]", "terminal_run", "computer_create" },
        { "[]", NULL, "computer_create" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(json_freep)
        json_t *groups = rows[i].groups ? json_loads(rows[i].groups, 0, NULL) : NULL;
        struct error err = ERROR_INIT;
        CLEANUP(toolmgr_freep) struct toolmgr *tools = toolmgr_new(&err);

        assert_ok(tools, err);
        assert_ok(toolset_register(tools, groups, &err), err);
        assert_true(!rows[i].has || toolmgr_find(tools, rows[i].has));
        assert_null(toolmgr_find(tools, rows[i].lacks));
    }
}

static bool is_listed(const struct toolmgr *tools, const char *name)
{
    for (size_t i = 0; i < toolmgr_listed(tools); i++)
        if (!strcmp(toolmgr_at(tools, i)->name, name))
            return true;
    return false;
}

static void shows_models_what_they_use(void **state)
{
    static const struct {
        const char *groups; /* JSON; NULL for none named */
        const char *name;
        bool listed;
    } rows[] = {
        { NULL, "computer_create", true },
        { NULL, "browser_navigate", true },
        { NULL, "document_edit", true },
        { NULL, "desktop", true },
        { NULL, "memory_save", false },
        { NULL, "storage_put", false },
        { NULL, "llm_query", false },
        { NULL, "agent_status", false },
        { "[\"memory\"]", "memory_save", true },
        { "[\"all\"]", "llm_query", true },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(json_freep)
        json_t *groups = rows[i].groups ? json_loads(rows[i].groups, 0, NULL) : NULL;
        struct error err = ERROR_INIT;
        CLEANUP(toolmgr_freep) struct toolmgr *tools = toolmgr_new(&err);

        assert_ok(tools, err);
        assert_ok(toolset_register(tools, groups, &err), err);
        assert_true(toolmgr_find(tools, rows[i].name));
        assert_int_equal(is_listed(tools, rows[i].name), rows[i].listed);
    }
}

static void names_the_groups_when_one_is_unknown(void **state)
{
    static const char *const groups[] = { "[\"files\"]", "[\"computer\",\"\"]", "[7]", "[null]" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        CLEANUP(json_freep) json_t *value = json_loads(groups[i], 0, NULL);
        struct error err = ERROR_INIT;
        CLEANUP(toolmgr_freep) struct toolmgr *tools = toolmgr_new(&err);

        assert_ok(tools, err);
        assert_false(toolset_register(tools, value, &err));
        assert_code(err, ERR_INVALID);
        assert_contains(err.text,
                        "computer, terminal, code, file, browser, document, desktop, memory, "
                        "storage, llm, agent, or all");
        assert_int_equal(toolmgr_count(tools), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cleans_what_programs_write_for_terminals),
        cmocka_unit_test(cleans_behind_what_is_there),
        cmocka_unit_test(cleaning_tells_when_memory_runs_out),
        cmocka_unit_test(says_how_a_run_ended),
        cmocka_unit_test(times_have_a_fitting_unit),
        cmocka_unit_test(makes_an_environment_of_a_map),
        cmocka_unit_test(an_empty_environment_is_one),
        cmocka_unit_test(refuses_what_no_environment_can_hold),
        cmocka_unit_test(an_environment_is_bounded),
        cmocka_unit_test(lists_are_borrowed_strings),
        cmocka_unit_test(registers_the_groups_that_are_wanted),
        cmocka_unit_test(shows_models_what_they_use),
        cmocka_unit_test(names_the_groups_when_one_is_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
