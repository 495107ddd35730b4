#include "tools/cli/call_args.h"

#include <stdio.h>
#include <unistd.h>

#include "kernel/base/json.h"
#include "tests/support/check.h"

static const char schema_text[] =
    "{\"properties\":{\"text\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}}}";

static void decrefp(json_t **json)
{
    json_decref(*json);
}

static void freep(char ***words)
{
    free(*words);
}

static void cuts_lines_as_a_shell_does(void **state)
{
    static const struct {
        const char *line;
        const char *want; /* words between bars; NULL: refused */
    } rows[] = {
        { "", "" },
        { " \t\r\n", "" },
        { "tool", "|tool" },
        { "  tool  key=value\n", "|tool|key=value" },
        { "a 'b c' \"d e\"", "|a|b c|d e" },
        { "a='b c'd", "|a=b cd" },
        { "a\\ b \\'c", "|a b|'c" },
        { "'a\\b' \"a\\b\" \"a\\\"b\" \"a\\\\b\"", "|a\\b|a\\b|a\"b|a\\b" },
        { "'' \"\" x", "|||x" },
        { "a\\", "|a\\" },
        { "it\"'\"s", "|it's" },
        { "'", NULL },
        { "a \"b", NULL },
        { "a 'b\"", NULL },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        CLEANUP(freep) char **words = NULL;
        char got[200] = "";
        size_t count = 0, len = 0;
        bool ok = call_args_split(rows[i].line, &words, &count, &err);

        if (ok != (rows[i].want != NULL))
            fail_msg("line %zu: %s", i, err.text);
        for (size_t w = 0; ok && w < count; w++)
            len += (size_t)snprintf(got + len, sizeof got - len, "|%s", words[w]);
        if (ok && strcmp(got, rows[i].want) != 0)
            fail_msg("line %zu: %s instead of %s", i, got, rows[i].want);
    }
}

static void reads_values_as_json_where_the_schema_does_not_want_text(void **state)
{
    static const struct {
        const char *word;
        const char *want; /* the whole object; NULL: refused */
    } rows[] = {
        { "n=5", "{\"n\":5}" },
        { "n=true", "{\"n\":true}" },
        { "n=[\"a\",1]", "{\"n\":[\"a\",1]}" },
        { "n={\"a\":null}", "{\"n\":{\"a\":null}}" },
        { "n=\"5\"", "{\"n\":\"5\"}" },
        { "n=five", "{\"n\":\"five\"}" },
        { "n=[1,", "{\"n\":\"[1,\"}" },
        { "n=", "{\"n\":\"\"}" },
        { "n=a=b", "{\"n\":\"a=b\"}" },
        { "unknown=1", "{\"unknown\":1}" },
        { "text=5", "{\"text\":\"5\"}" },
        { "text=true", "{\"text\":\"true\"}" },
        { "text=\"5\"", "{\"text\":\"\\\"5\\\"\"}" },
        { "text:=5", "{\"text\":5}" },
        { "n:=[]", "{\"n\":[]}" },
        { "n:=five", NULL },
        { "n:=", NULL },
        { "n", NULL },
        { "=5", NULL },
        { ":=5", NULL },
        { "n=\xff", NULL },
        { "\xff=1", NULL },
        { "n=@/no/such/file", NULL },
    };
    CLEANUP(decrefp) json_t *schema = json_parse(schema_text, strlen(schema_text), NULL);
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        char *word = strdup(rows[i].word);
        CLEANUP(decrefp) json_t *args = call_args_read(&word, 1, schema, &err);
        CLEANUP(buf_fini) struct buf got = BUF_INIT;

        free(word);
        if ((args != NULL) != (rows[i].want != NULL))
            fail_msg("%s: %s", rows[i].word, err.text);
        if (args && (!json_write(args, &got) || strcmp(buf_str(&got), rows[i].want) != 0))
            fail_msg("%s: %s", rows[i].word, buf_str(&got));
    }
}

static void reads_a_file_as_text(void **state)
{
    char path[] = "/tmp/aios-test-XXXXXX";
    int fd = mkstemp(path);
    char word[64];
    char *words[] = { word };
    struct error err = ERROR_INIT;
    CLEANUP(decrefp) json_t *args = NULL;
    (void)state;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"a\": 5}\n", 9), 9);
    (void)snprintf(word, sizeof word, "n=@%s", path);
    args = call_args_read(words, 1, NULL, &err);
    close(fd);
    unlink(path);
    assert_ok(args, err);
    assert_string_equal(json_string_value(json_object_get(args, "n")), "{\"a\": 5}\n");
}

static void refuses_a_name_given_twice(void **state)
{
    char first[] = "n=1", second[] = "n=2";
    char *words[] = { first, second };
    struct error err = ERROR_INIT;
    (void)state;

    assert_null(call_args_read(words, 2, NULL, &err));
    assert_code(err, ERR_INVALID);
}

static void knows_what_could_be_meant_either_way(void **state)
{
    char plain[] = "a=text", forced[] = "b:=5", number[] = "c=5", odd[] = "odd";
    char *words[] = { plain, forced, odd, number };
    (void)state;

    assert_false(call_args_ambiguous(words, 3));
    assert_true(call_args_ambiguous(words, 4));
}

static void survives_every_allocation_failure(void **state)
{
    char a[] = "n=[1,{\"x\":\"y\"}]", b[] = "text=5", c[] = "m:={}";
    char *words[] = { a, b, c };
    CLEANUP(decrefp) json_t *schema = json_parse(schema_text, strlen(schema_text), NULL);
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        json_t *args = call_args_read(words, ARRAY_LEN(words), schema, &err);

        FAULT_DONE(n);
        /* What cannot be read as JSON for want of memory is still a string. */
        if (n_last)
            assert_ok(args, err);
        else if (!args)
            assert_int_not_equal(err.code, ERR_NONE);
        json_decref(args);
    }
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        char **split = NULL;
        size_t count;
        bool ok = call_args_split("a 'b c'", &split, &count, &err);

        FAULT_DONE(n);
        assert_true(ok == n_last);
        free(split);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_lines_as_a_shell_does),
        cmocka_unit_test(reads_values_as_json_where_the_schema_does_not_want_text),
        cmocka_unit_test(reads_a_file_as_text),
        cmocka_unit_test(refuses_a_name_given_twice),
        cmocka_unit_test(knows_what_could_be_meant_either_way),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
