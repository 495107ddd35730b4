#include "kernel/llm_provider.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernel/base/json.h"
#include "tests/support/folder.h"

#define KEY "Zx9-secret-Q7w8e9r0t1"

static struct llm_provider provider;

static void make(const char *text)
{
    struct error err = ERROR_INIT;
    json_t *entry = json_parse(text, strlen(text), &err);

    assert_ok(entry, err);
    assert_ok(llm_provider_read(&provider, entry, &err), err);
    json_decref(entry);
}

static void comes_from_the_environment_or_a_file(void **state)
{
    char key[LLM_KEY_BYTES], entry[400];
    struct error err = ERROR_INIT;
    (void)state;

    setenv("AIOS_TEST_KEY", KEY, 1);
    make("{\"name\":\"a\",\"kind\":\"openai\",\"key_env\":\"AIOS_TEST_KEY\"}");
    assert_ok(llm_key_read(&provider, key, &err), err);
    assert_string_equal(key, KEY);
    unsetenv("AIOS_TEST_KEY");
    assert_false(llm_key_read(&provider, key, &err)); /* read when it is used */
    assert_code(err, ERR_DENIED);
    assert_contains(err.text, "AIOS_TEST_KEY");
    error_clear(&err);
    llm_provider_fini(&provider);

    folder_put("key", KEY "\n");
    (void)snprintf(entry, sizeof entry, "{\"name\":\"a\",\"kind\":\"openai\",\"key_file\":\"%s\"}",
                   folder_path("key"));
    make(entry);
    assert_ok(llm_key_read(&provider, key, &err), err);
    assert_string_equal(key, KEY);
    folder_put("key", "another\n"); /* a new key needs no new server */
    assert_ok(llm_key_read(&provider, key, &err), err);
    assert_string_equal(key, "another");
    folder_put("key", "two\nlines\n");
    assert_false(llm_key_read(&provider, key, &err));
    assert_null(strstr(err.text, "lines"));
    error_clear(&err);
    (void)unlink(folder_path("key"));
    assert_false(llm_key_read(&provider, key, &err));
    assert_code(err, ERR_NOT_FOUND);
    llm_provider_fini(&provider);
}

static void is_asked_for_only_where_one_belongs(void **state)
{
    static const struct {
        const char *entry, *env;
    } rows[] = {
        { "{\"name\":\"a\",\"kind\":\"openai\"}", "OPENAI_API_KEY" },
        { "{\"name\":\"a\",\"kind\":\"anthropic\"}", "ANTHROPIC_API_KEY" },
        /* nobody else gets the maker's key */
        { "{\"name\":\"a\",\"kind\":\"openai\",\"base_url\":\"https://other.example/v1\"}", NULL },
        { "{\"name\":\"a\",\"kind\":\"openai\",\"base_url\":\"http://127.0.0.1:8080/v1\","
          "\"key_env\":\"MINE\"}",
          "MINE" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        make(rows[i].entry);
        if (rows[i].env)
            assert_string_equal(provider.key_env, rows[i].env);
        else
            assert_null(provider.key_env);
        llm_provider_fini(&provider);
    }
}

static void goes_over_a_readable_line_only_at_home(void **state)
{
    static const struct {
        const char *url;
        bool plain, ok;
    } rows[] = {
        { "https://api.example/v1", false, true },
        { "http://127.0.0.1:11434/v1", false, true },
        { "http://127.1.2.3/v1", false, true },
        { "http://localhost:8000", false, true },
        { "http://[::1]:8000/v1", false, true },
        { "http://192.168.1.7/v1", false, false },
        { "http://192.168.1.7/v1", true, true },
        { "http://127.0.0.1.evil.example/v1", false, false },
        { "http://127.evil.example/v1", false, false },
        { "http://localhost.evil.example/", false, false },
        { "http://[::1].evil.example/", false, false },
        { "http://localhost@evil.example/", true, false },
        { "https://user:pass@api.example/v1", false, false },
        { "https://api.example/v1?x=1", false, false },
        { "https://api.example/v1#x", false, false },
        { "https://api.example/a b", false, false },
        { "ftp://api.example/", true, false },
        { "file:///etc/passwd", true, false },
        { "https://", false, false },
        { "api.example", false, false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char entry[300];

        (void)snprintf(entry, sizeof entry,
                       "{\"name\":\"a\",\"kind\":\"openai\",\"base_url\":\"%s\",\"plain_http\":%s}",
                       rows[i].url, rows[i].plain ? "true" : "false");
        make(entry);
        if ((provider.misconfigured.code == ERR_NONE) != rows[i].ok)
            fail_msg("%s: %s", rows[i].url, provider.misconfigured.text);
        llm_provider_fini(&provider);
    }
}

static void says_what_is_wrong_with_an_entry(void **state)
{
    static const struct {
        const char *entry, *words;
    } rows[] = {
        { "{}", "name" },
        { "{\"name\":\"sampling\",\"kind\":\"openai\"}", "host" },
        { "{\"name\":\"a\",\"kind\":\"other\"}", "kind" },
        { "{\"name\":\"a\",\"kind\":\"anthropic\",\"embed_model\":\"m\"}", "embed_model" },
        { "{\"name\":\"a\",\"kind\":\"openai\",\"continuation\":\"magic\"}", "continuation" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        make(rows[i].entry);
        assert_code(provider.misconfigured, ERR_INVALID);
        assert_contains(provider.misconfigured.text, rows[i].words);
        llm_provider_fini(&provider);
    }
}

static void stands_in_no_text(void **state)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "Incorrect API key provided: " KEY ".", "Incorrect API key provided: [key]." },
        { KEY, "[key]" },
        { KEY KEY, "[key][key]" },
        { "beginning Zx9-secre and no more", "beginning [key] and no more" },
        { "its end 7w8e9r0t1 alone", "its end [key] alone" },
        { "masked Zx9-****0t1", "masked [key]" },
        { "sk-proj-abc****xyz", "[key]" },
        { "an old sk-abcdefgh one", "an old [key] one" },
        { "{\"key\":\"" KEY "\"}", "{\"key\":\"[key]\"}" },
        { "the word secret alone stays", "the word secret alone stays" },
        { "a * b ** c", "a * b ** c" },
        { "", "" },
    };
    char text[200];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        (void)snprintf(text, sizeof text, "%s", rows[i].text);
        llm_key_redact(text, KEY);
        assert_string_equal(text, rows[i].want);
    }
    (void)snprintf(text, sizeof text, "pin 123 here");
    llm_key_redact(text, "123");
    assert_string_equal(text, "pin *** here");
    llm_key_redact(text, "");
    assert_string_equal(text, "pin *** here");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FOLDER(comes_from_the_environment_or_a_file),
        cmocka_unit_test(is_asked_for_only_where_one_belongs),
        cmocka_unit_test(goes_over_a_readable_line_only_at_home),
        cmocka_unit_test(says_what_is_wrong_with_an_entry),
        cmocka_unit_test(stands_in_no_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
