#include "kernel/redact.h"

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"
#include "tests/support/check.h"

static void decrefp(json_t **json)
{
    json_decref(*json);
}

static void shows_what_was_asked_and_hides_what_it_carried(void **state)
{
    static const struct {
        const char *label, *json, *want;
    } rows[] = {
        { "nothing", NULL, "{}" },
        { "empty", "{}", "{}" },
        { "a command", "{\"command\":\"ls -l\",\"timeout_ms\":500,\"pty\":true}",
          "{\"command\":\"ls -l\",\"timeout_ms\":500,\"pty\":true}" },
        { "quotes and control characters", "{\"command\":\"a \\\"b\\\\ \\n\\t\\u0001\"}",
          "{\"command\":\"a \\\"b\\\\ \\n\\u0009\\u0001\"}" },
        { "stdin", "{\"stdin\":\"12345\"}", "{\"stdin\":\"<5 bytes>\"}" },
        { "an environment", "{\"env\":{\"KEY\":\"abc\",\"B\":\"\"},\"cwd\":\"/\"}",
          "{\"env\":\"<7 bytes>\",\"cwd\":\"/\"}" },
        { "content", "{\"path\":\"/x\",\"content\":\"secret\"}",
          "{\"path\":\"/x\",\"content\":\"<6 bytes>\"}" },
        { "deep inside", "{\"edits\":[{\"old_text\":\"abc\",\"line\":1}]}",
          "{\"edits\":[{\"old_text\":\"<3 bytes>\",\"line\":1}]}" },
        { "credentials", "{\"api_key\":\"k\",\"access_token\":\"ttt\",\"password\":\"p\"}",
          "{\"api_key\":\"<1 bytes>\",\"access_token\":\"<3 bytes>\",\"password\":\"<1 bytes>\"}" },
        { "a number hides nothing", "{\"data\":7}", "{\"data\":7}" },
        { "numbers", "{\"a\":-1.5,\"b\":null,\"c\":false}", "{\"a\":-1.5,\"b\":null,\"c\":false}" },
        { "characters", "{\"command\":\"\xe2\x82\xac\"}", "{\"command\":\"\xe2\x82\xac\"}" },
        { "a value to be stored", "{\"key\":\"k\",\"value\":\"secret\"}",
          "{\"key\":\"k\",\"value\":\"<6 bytes>\"}" },
        { "a question to a model",
          "{\"prompt\":\"abc\",\"system\":\"ab\",\"messages\":[{\"role\":\"user\",\"content\":"
          "\"x\"}]}",
          "{\"prompt\":\"<3 bytes>\",\"system\":\"<2 bytes>\",\"messages\":\"<16 bytes>\"}" },
        { "what is not seen",
          "{\"command\":\"a\xe2\x80\xae\x7f\xc2\x9b\xe2\x81\xa6\xef\xbb\xbf z\"}",
          "{\"command\":\"a\\u202e\\u007f\\u009b\\u2066\\ufeff z\"}" },
        { "its neighbours",
          "{\"command\":\"\xe2\x80\x90\xe2\x80\xaf\xc2\xa0\xef\xbb\xbe\xe2\x82\xac\"}",
          "{\"command\":\"\xe2\x80\x90\xe2\x80\xaf\xc2\xa0\xef\xbb\xbe\xe2\x82\xac\"}" },
        { "too deep", "{\"a\":[[[[[[[1]]]]]]]}", "{\"a\":[[[[[[\"…\"]]]]]]}" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        CLEANUP(decrefp)
        json_t *json = rows[i].json ? json_parse(rows[i].json, strlen(rows[i].json), &err) : NULL;
        char buf[1025];
        size_t len;

        if (rows[i].json)
            assert_ok(json, err);
        len = redact_json(json, buf, sizeof buf);
        if (len != strlen(buf) || strcmp(buf, rows[i].want))
            fail_msg("%s: %s", rows[i].label, buf);
    }
}

static void fits_any_buffer_and_stays_valid(void **state)
{
    char text[4000], buf[1025];
    (void)state;

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "\xe2\x82\xac\""[i % 4];
    for (size_t size = 1; size <= sizeof buf; size++) {
        CLEANUP(decrefp) json_t *json = NULL;
        size_t len;

        json = json_pack("{s:s%,s:[s%,s%,s%]}", "command", text, sizeof text, "argv", text,
                         sizeof text, text, sizeof text, text, sizeof text);
        assert_non_null(json);
        memset(buf, 'X', sizeof buf);
        len = redact_json(json, buf, size);
        assert_true(len < size && buf[len] == '\0');
        assert_true(utf8_valid(buf, len));
        if (size < sizeof buf)
            assert_int_equal(buf[size], 'X');
        assert_true(size < 900 || len > size - 20);
    }
}

static void shortens_long_strings_so_that_the_others_show(void **state)
{
    char text[3000], buf[1025];
    CLEANUP(decrefp) json_t *json = NULL;
    (void)state;

    memset(text, 'x', sizeof text);
    json = json_pack("{s:s%,s:s}", "command", text, sizeof text, "cwd", "/work");
    (void)redact_json(json, buf, sizeof buf);
    assert_contains(buf, "xxx…\",\"cwd\":\"/work\"}");
}

static void says_whether_anything_is_missing(void **state)
{
    static const struct {
        const char *json;
        size_t size, string_max;
        bool want;
    } rows[] = {
        { "{\"c\":\"12345\"}", 100, 5, false },      { "{\"c\":\"123456\"}", 100, 5, true },
        { "{\"c\":\"12345\"}", 14, 5, false },       { "{\"c\":\"12345\"}", 13, 5, true },
        { "{\"text\":\"1234567\"}", 100, 5, false }, { "{\"a\":[[[[[[[1]]]]]]]}", 100, 5, true },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(decrefp) json_t *json = json_parse(rows[i].json, strlen(rows[i].json), NULL);
        char buf[100];
        bool cut;

        (void)redact_shown(json, buf, rows[i].size, rows[i].string_max, &cut);
        if (cut != rows[i].want)
            fail_msg("%s: %s", rows[i].json, buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_what_was_asked_and_hides_what_it_carried),
        cmocka_unit_test(fits_any_buffer_and_stays_valid),
        cmocka_unit_test(says_whether_anything_is_missing),
        cmocka_unit_test(shortens_long_strings_so_that_the_others_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
