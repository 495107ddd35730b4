#include "kernel/plugin.h"

#include "kernel/http_curl.h"
#include "tests/support/check.h"

static void opens_the_module_that_is_beside_the_program(void **state)
{
    struct error err = ERROR_INIT;
    const struct http_curl *curl =
        plugin_open("http", HTTP_CURL_SYMBOL, sizeof(struct http_curl), &err);

    (void)state;
    assert_ok(curl != NULL, err);
    assert_true(curl->head.abi == PLUGIN_ABI);
    assert_non_null(curl->easy_init);
    assert_ok(plugin_check("http", &err), err);
}

static void gives_the_same_struct_each_time(void **state)
{
    const void *first = plugin_open("http", HTTP_CURL_SYMBOL, sizeof(struct http_curl), NULL);

    (void)state;
    assert_non_null(first);
    assert_ptr_equal(first, plugin_open("http", HTTP_CURL_SYMBOL, sizeof(struct http_curl), NULL));
}

static void refuses_what_is_no_module(void **state)
{
    static const struct {
        const char *label, *name, *symbol;
        size_t size;
        enum error_code want;
        const char *text;
    } rows[] = {
        { "missing", "nothing", "x", 1, ERR_UNSUPPORTED, "aios-nothing.so is neither in " },
        { "no such symbol", "http", "nothing_here", 1, ERR_UNSUPPORTED, "has no nothing_here" },
        { "another size", "http", HTTP_CURL_SYMBOL, sizeof(struct http_curl) + 8, ERR_UNSUPPORTED,
          "belongs to another version" },
        { "a path", "../http", HTTP_CURL_SYMBOL, 1, ERR_INVALID, "letters" },
        { "a slash", "a/b", HTTP_CURL_SYMBOL, 1, ERR_INVALID, "letters" },
        { "empty", "", HTTP_CURL_SYMBOL, 1, ERR_INVALID, "letters" },
        { "too long", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", HTTP_CURL_SYMBOL, 1, ERR_INVALID,
          "letters" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        if (plugin_open(rows[i].name, rows[i].symbol, rows[i].size, &err) ||
            err.code != rows[i].want || !strstr(err.text, rows[i].text))
            fail_msg("%s: code %d (%s)", rows[i].label, err.code, err.text);
    }
}

static void the_check_says_what_is_missing(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_false(plugin_check("nothing", &err));
    assert_code(err, ERR_UNSUPPORTED);
    assert_contains(err.text, "../lib/aios");
    error_clear(&err);
    assert_false(plugin_check("/etc/passwd", &err));
    assert_code(err, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_the_module_that_is_beside_the_program),
        cmocka_unit_test(gives_the_same_struct_each_time),
        cmocka_unit_test(refuses_what_is_no_module),
        cmocka_unit_test(the_check_says_what_is_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
