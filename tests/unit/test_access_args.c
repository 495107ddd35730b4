#include "kernel/access_args.h"

#include "kernel/access_glob.h"
#include "kernel/base/json.h"
#include "tests/support/check.h"

static void decrefp(json_t **json)
{
    json_decref(*json);
}

static json_t *parsed(const char *text)
{
    struct error err = ERROR_INIT;
    json_t *json = text ? json_parse(text, strlen(text), &err) : NULL;

    assert_ok(json || !text, err);
    return json;
}

static void stars_stand_for_anything(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool want;
    } rows[] = {
        { "a", "a", true },
        { "a", "ab", false },
        { "a", "", false },
        { "*", "", true },
        { "*", "anything\nat all", true },
        { "a*", "a", true },
        { "a*", "abc", true },
        { "a*", "ba", false },
        { "*a", "a", true },
        { "*a", "aab", false },
        { "*a", "bba", true },
        { "*a*", "xxaxx", true },
        { "*a*", "xxx", false },
        { "a*b", "ab", true },
        { "a*b", "a", false },
        { "aa*aa", "aaa", false },
        { "aa*aa", "aaaa", true },
        { "a*b*c", "a-b-b-c", true },
        { "a*b*c", "acb", false },
        { "*ab*ab*", "ab ab", true },
        { "*ab*ab*", "abab", true },
        { "*ab*ab*", "aab", false },
        { "**", "x", true },
        { "a**b", "axb", true },
        { "\\*", "*", true },
        { "\\*", "x", false },
        { "a\\**", "a*b", true },
        { "a\\**", "ab", false },
        { "\\\\*", "\\x", true },
        { "*rm -rf*", "sudo rm -rf /", true },
        { "*rm -rf*", "rm  -rf /", false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        CLEANUP(access_glob_freep)
        struct access_glob *g = access_glob_new(rows[i].pattern, &err);

        assert_ok(g, err);
        if (access_glob_matches(g, rows[i].text, strlen(rows[i].text)) != rows[i].want)
            fail_msg("\"%s\" on \"%s\"", rows[i].pattern, rows[i].text);
    }
}

static void texts_may_hold_any_byte(void **state)
{
    CLEANUP(access_glob_freep) struct access_glob *g = access_glob_new("a*c", NULL);
    (void)state;

    assert_true(access_glob_matches(g,
                                    "a\0\xff"
                                    "c",
                                    4));
    assert_false(access_glob_matches(g,
                                     "a\0\xff"
                                     "c\0",
                                     5));
}

static void refuses_patterns_that_mean_nothing(void **state)
{
    static const char *const rows[] = { "", "a\\", "\\n", "a\\b*" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        assert_null(access_glob_new(rows[i], &err));
        assert_code(err, ERR_INVALID);
    }
}

/* What would take another matcher until tomorrow. */
static void a_long_text_is_matched_in_proportion_to_its_length(void **state)
{
    enum { BYTES = 8 << 20 };
    CLEANUP(access_glob_freep)
    struct access_glob *g = access_glob_new("*aaaaaaaaab*aaaaaaaaab*aaaaaaaaab*c", NULL);
    char *text = malloc(BYTES);
    (void)state;

    assert_non_null(text);
    memset(text, 'a', BYTES);
    assert_false(access_glob_matches(g, text, BYTES));
    text[BYTES - 1] = 'c';
    assert_false(access_glob_matches(g, text, BYTES));
    free(text);
}

static void arguments_are_found_and_compared(void **state)
{
    static const struct {
        const char *args, *call;
        enum access_match want;
    } rows[] = {
        { "{}", NULL, ACCESS_MATCH_YES },
        { "{\"a\":\"*\"}", NULL, ACCESS_MATCH_NO },
        { "{\"a\":\"*\"}", "{\"a\":null}", ACCESS_MATCH_NO },
        { "{\"a\":\"*\"}", "{\"a\":\"\"}", ACCESS_MATCH_YES },
        { "{\"a\":\"x\"}", "{\"a\":\"x\",\"b\":\"y\"}", ACCESS_MATCH_YES },
        { "{\"a\":\"x\",\"b\":\"z\"}", "{\"a\":\"x\",\"b\":\"y\"}", ACCESS_MATCH_NO },
        { "{\"a\":\"x\",\"b\":\"y\"}", "{\"a\":\"x\",\"b\":\"y\"}", ACCESS_MATCH_YES },
        { "{\"n\":\"5\"}", "{\"n\":5}", ACCESS_MATCH_YES },
        { "{\"n\":\"true\"}", "{\"n\":true}", ACCESS_MATCH_YES },
        { "{\"n\":\"1*\"}", "{\"n\":1.5}", ACCESS_MATCH_YES },
        { "{\"o\":\"*\\\"k\\\":\\\"v\\\"*\"}", "{\"o\":{\"k\":\"v\"}}", ACCESS_MATCH_YES },
        { "{\"/o/k\":\"v\"}", "{\"o\":{\"k\":\"v\"}}", ACCESS_MATCH_YES },
        { "{\"/o/k\":\"v\"}", "{\"o\":\"k\"}", ACCESS_MATCH_NO },
        { "{\"/o/k\":\"v\"}", "{}", ACCESS_MATCH_NO },
        { "{\"/a~1b/~0\":\"v\"}", "{\"a/b\":{\"~\":\"v\"}}", ACCESS_MATCH_YES },
        { "{\"/l/1\":\"v\"}", "{\"l\":[\"u\",\"v\"]}", ACCESS_MATCH_YES },
        { "{\"/l/2\":\"v\"}", "{\"l\":[\"u\",\"v\"]}", ACCESS_MATCH_NO },
        { "{\"/l/x\":\"v\"}", "{\"l\":[\"u\",\"v\"]}", ACCESS_MATCH_NO },
        { "{\"/l/-1\":\"*\"}", "{\"l\":[\"u\",\"v\"]}", ACCESS_MATCH_NO },
        { "{\"l\":\"v\"}", "{\"l\":[\"u\",\"v\"]}", ACCESS_MATCH_YES },
        { "{\"l\":\"w\"}", "{\"l\":[\"u\",\"v\"]}", ACCESS_MATCH_NO },
        { "{\"l\":\"*\"}", "{\"l\":[]}", ACCESS_MATCH_NO },
        { "{\"argv\":\"*rm -rf*\"}", "{\"argv\":[\"sudo\",\"rm\",\"-rf\",\"/\"]}",
          ACCESS_MATCH_YES },
        { "{\"argv\":\"*rm -rf*\"}", "{\"argv\":[\"sh\",\"-c\",\"rm -rf /\"]}", ACCESS_MATCH_YES },
        { "{\"argv\":\"*rm -rf*\"}", "{\"argv\":[\"ls\"]}", ACCESS_MATCH_NO },
        { "{\"allow\":\"*.example.org*\"}", "{\"allow\":[\"a.b:1\",\"x.example.org:443\"]}",
          ACCESS_MATCH_YES },
        { "{\"l\":\"*\\\"x\\\":1*\"}", "{\"l\":[{\"x\":1}]}", ACCESS_MATCH_YES },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(decrefp) json_t *args = parsed(rows[i].args), *call = parsed(rows[i].call);
        struct error err = ERROR_INIT;
        CLEANUP(access_args_freep) struct access_args *a = access_args_new(args, &err);

        assert_ok(a, err);
        if (access_args_match(a, call) != rows[i].want)
            fail_msg("%s on %s", rows[i].args, rows[i].call);
    }
}

static void paths_are_compared_as_what_they_lead_to(void **state)
{
    static const struct {
        const char *pattern, *path;
        bool want;
    } rows[] = {
        { "/etc/*", "/etc/passwd", true },
        { "/etc/*", "/etc", true },
        { "/etc/*", "/etc/", true },
        { "/etc/*", "/etcetera", false },
        { "/etc/*", "//etc//passwd", true },
        { "/etc/*", "/./etc/./passwd", true },
        { "/etc/*", "/tmp/../etc/passwd", true },
        { "/etc/*", "../etc/passwd", true },
        { "/etc/*", "../../../../etc/passwd", true },
        { "/etc/*", "a/b/../../../etc/passwd", true },
        { "/etc/*", "etc/passwd", false },
        { "/etc/passwd", "/etc/passwd/", true },
        { "/workspace/*", "notes.txt", true },
        { "/workspace/*", "", true },
        { "/workspace/*", ".", true },
        { "/workspace/*", "..", false },
        { "/workspace/*", "/workspace/../etc/passwd", false },
        { "/workspace/*", "/workspace/a/../../etc", false },
        { "/workspace/*", "/workspace/..a/b", true },
        { "secret/*", "secret/key", true },
        { "secret/*", "/workspace/secret", true },
        { "secret/*", "/secret/key", false },
        { "*.key", "a/b.key", true },
        { "*", "anything", true },
        { "/", "/", true },
        { "/*", "/", true },
        { "/", "/..", true },
    };
    static const char *const keys[] = { "path", "cwd", "host_path" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *key = keys[i % ARRAY_LEN(keys)];
        CLEANUP(decrefp) json_t *args = json_pack("{s:s}", key, rows[i].pattern);
        CLEANUP(decrefp) json_t *call = json_pack("{s:s}", key, rows[i].path);
        struct error err = ERROR_INIT;
        CLEANUP(access_args_freep) struct access_args *a = access_args_new(args, &err);

        assert_ok(a, err);
        if ((access_args_match(a, call) == ACCESS_MATCH_YES) != rows[i].want)
            fail_msg("\"%s\" on \"%s\"", rows[i].pattern, rows[i].path);
    }
}

static void a_path_that_is_too_long_is_not_judged(void **state)
{
    static char path[5000];
    CLEANUP(decrefp) json_t *args = parsed("{\"path\":\"/etc/*\"}");
    CLEANUP(decrefp) json_t *call = NULL;
    CLEANUP(access_args_freep) struct access_args *a = access_args_new(args, NULL);
    char buf[16];
    (void)state;

    memset(path, 'x', sizeof path - 1);
    call = json_pack("{s:s}", "path", path);
    assert_int_equal(access_args_match(a, call), ACCESS_MATCH_UNSURE);
    assert_true(access_args_normal("/0123456789abcd", 15, buf, sizeof buf));
    assert_string_equal(buf, "/0123456789abcd");
    assert_false(access_args_normal("/0123456789abcde", 16, buf, sizeof buf));
    assert_true(access_args_normal("/0123456789abcd/../x", 20, buf, sizeof buf));
    assert_string_equal(buf, "/x");
    assert_false(access_args_normal("a", 1, buf, 4));
}

static void refuses_arguments_by_name(void **state)
{
    static const struct {
        const char *text, *part;
    } rows[] = {
        { "[]", "args is not an object" },
        { "{\"command\":7}", "args.command is not a pattern" },
        { "{\"command\":\"\"}", "args.command" },
        { "{\"command\":\"\\\\n\"}", "args.command" },
        { "{\"\":\"x\"}", "a key of 0 bytes" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(decrefp) json_t *args = parsed(rows[i].text);
        struct error err = ERROR_INIT;

        assert_null(access_args_new(args, &err));
        assert_code(err, ERR_INVALID);
        assert_contains(err.text, rows[i].part);
    }
}

static void what_cannot_be_looked_at_for_want_of_memory_is_unsure(void **state)
{
    CLEANUP(decrefp)
    json_t *args = parsed("{\"path\":\"x/*\",\"argv\":\"*a b*\",\"o\":\"*k*\"}");
    CLEANUP(decrefp)
    json_t *call = parsed("{\"path\":\"x/y\",\"argv\":[\"a\",\"b\"],\"o\":{\"k\":1}}");
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(access_args_freep) struct access_args *a = access_args_new(args, &err);
        enum access_match match = a ? access_args_match(a, call) : ACCESS_MATCH_NO;

        FAULT_DONE(n);
        if (!a)
            assert_code(err, ERR_NOMEM);
        else
            assert_int_equal(match, n_last ? ACCESS_MATCH_YES : ACCESS_MATCH_UNSURE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stars_stand_for_anything),
        cmocka_unit_test(texts_may_hold_any_byte),
        cmocka_unit_test(refuses_patterns_that_mean_nothing),
        cmocka_unit_test(a_long_text_is_matched_in_proportion_to_its_length),
        cmocka_unit_test(arguments_are_found_and_compared),
        cmocka_unit_test(paths_are_compared_as_what_they_lead_to),
        cmocka_unit_test(a_path_that_is_too_long_is_not_judged),
        cmocka_unit_test(refuses_arguments_by_name),
        cmocka_unit_test(what_cannot_be_looked_at_for_want_of_memory_is_unsure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
