/* The field tables of json.h: reading, refusing, the schema, writing back. */
#include "kernel/base/json.h"

#include <math.h>

#include "kernel/base/utf8.h"
#include "tests/support/check.h"

struct network {
    json_t *allow;
    int64_t ports;
};

struct args {
    const char *command;
    struct json_text stdin_text;
    int64_t timeout_ms;
    double scale;
    bool pty;
    bool keep;
    int mode;
    int level;
    json_t *argv;
    json_t *env;
    struct network network;
    json_t *rules;
    json_t *extra;
};

static const char *const modes[] = { "shell", "direct", NULL };

static const struct json_field network_fields[] = {
    { "allow", "Hosts", JSON_KIND_STRINGS, false, offsetof(struct network, allow), 1, 3 },
    { "ports", "How many", JSON_KIND_INT, false, offsetof(struct network, ports), 0, 10,
      .fallback = 2 },
    { .name = NULL },
};

static const struct json_field rule_fields[] = {
    { "allow", "Hosts", JSON_KIND_STRINGS, true, offsetof(struct network, allow) },
    { "ports", NULL, JSON_KIND_INT, false, offsetof(struct network, ports) },
    { .name = NULL },
};

static const struct json_field fields[] = {
    { "command", "Shell command to run", JSON_KIND_STRING, true, offsetof(struct args, command), 1,
      20 },
    { "stdin", "Bytes for it", JSON_KIND_TEXT, false, offsetof(struct args, stdin_text), 0, 5 },
    { "timeout_ms", "Longest run", JSON_KIND_INT, false, offsetof(struct args, timeout_ms), 1,
      600000, .fallback = 45000 },
    { "scale", "Factor", JSON_KIND_NUMBER, false, offsetof(struct args, scale), -1, 2,
      .fallback = 1 },
    { "pty", "On a terminal", JSON_KIND_BOOL, false, offsetof(struct args, pty) },
    { "keep", "Keep it", JSON_KIND_BOOL, false, offsetof(struct args, keep), .fallback = 1 },
    { "mode", "How", JSON_KIND_ENUM, false, offsetof(struct args, mode), .fallback = 1,
      .choices = modes },
    { "level", "Which", JSON_KIND_ENUM, false, offsetof(struct args, level), .fallback = -1,
      .choices = modes },
    { "argv", "Words", JSON_KIND_STRINGS, false, offsetof(struct args, argv), 1, 3 },
    { "env", "Variables", JSON_KIND_MAP, false, offsetof(struct args, env), 0, 2 },
    { "network", "Where to", JSON_KIND_OBJECT, false, offsetof(struct args, network),
      .fields = network_fields },
    { "rules", "Rules", JSON_KIND_OBJECTS, false, offsetof(struct args, rules), 0, 3,
      .fields = rule_fields },
    { "extra", NULL, JSON_KIND_ANY, false, offsetof(struct args, extra) },
    { .name = NULL },
};

static json_t *parse(const char *text)
{
    struct error err = ERROR_INIT;
    json_t *value = json_parse(text, strlen(text), &err);

    assert_ok(value != NULL, err);
    return value;
}

static void reading_fills_everything(void **state)
{
    json_t *object = parse("{\"command\":\"ls\",\"stdin\":\"a\\u0000b\",\"timeout_ms\":5.0,"
                           "\"scale\":0.5,\"pty\":true,\"keep\":false,\"mode\":\"shell\","
                           "\"level\":\"direct\",\"argv\":[\"a\"],\"env\":{\"A\":\"b\"},"
                           "\"network\":{\"allow\":[\"x\"],\"ports\":0},"
                           "\"rules\":[{\"allow\":[]}],\"extra\":null}");
    struct error err = ERROR_INIT;
    struct args args;

    (void)state;
    memset(&args, 0x5a, sizeof args);
    assert_ok(json_fields_read(fields, object, &args, &err), err);
    assert_string_equal(args.command, "ls");
    assert_int_equal(args.stdin_text.len, 3);
    assert_memory_equal(args.stdin_text.data, "a\0b", 4);
    assert_int_equal(args.timeout_ms, 5);
    assert_true(fabs(args.scale - 0.5) < 1e-9);
    assert_true(args.pty);
    assert_false(args.keep);
    assert_int_equal(args.mode, 0);
    assert_int_equal(args.level, 1);
    assert_int_equal(json_array_size(args.argv), 1);
    assert_string_equal(json_string_value(json_object_get(args.env, "A")), "b");
    assert_int_equal(json_array_size(args.network.allow), 1);
    assert_int_equal(args.network.ports, 0);
    assert_int_equal(json_array_size(args.rules), 1);
    assert_true(json_is_null(args.extra));
    json_decref(object);
}

static void what_is_absent_or_null_gets_its_fallback(void **state)
{
    static const char *const rows[] = {
        "{\"command\":\"ls\"}",
        "{\"command\":\"ls\",\"stdin\":null,\"timeout_ms\":null,\"scale\":null,\"pty\":null,"
        "\"keep\":null,\"mode\":null,\"level\":null,\"argv\":null,\"env\":null,\"network\":null,"
        "\"rules\":null}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *object = parse(rows[i]);
        struct error err = ERROR_INIT;
        struct args args;

        memset(&args, 0x5a, sizeof args);
        assert_ok(json_fields_read(fields, object, &args, &err), err);
        assert_null(args.stdin_text.data);
        assert_int_equal(args.timeout_ms, 45000);
        assert_true(fabs(args.scale - 1) < 1e-9);
        assert_false(args.pty);
        assert_true(args.keep);
        assert_int_equal(args.mode, 1);
        assert_int_equal(args.level, -1);
        assert_null(args.argv);
        assert_null(args.env);
        assert_null(args.network.allow);
        assert_int_equal(args.network.ports, 2);
        assert_null(args.rules);
        assert_null(args.extra);
        json_decref(object);
    }
}

static void no_object_is_an_empty_one(void **state)
{
    struct error err = ERROR_INIT;
    struct network network;

    (void)state;
    assert_ok(json_fields_read(network_fields, NULL, &network, &err), err);
    assert_int_equal(network.ports, 2);
}

static void refusals_help_to_correct_them(void **state)
{
    static const struct {
        const char *json, *text;
    } rows[] = {
        { "{}", "\"command\" is required (string: Shell command to run)" },
        { "{\"command\":null}",
          "\"command\" is required (string: Shell command to run), but null was given" },
        { "[]", "the value must be an object, but an array was given" },
        { "{\"comand\":\"ls\"}",
          "unknown key \"comand\"; did you mean \"command\"? Known keys: command, stdin, "
          "timeout_ms, "
          "scale, pty, keep, mode, level, argv, env, network, rules, extra" },
        { "{\"command\":\"ls\",\"zzzzzz\":1}",
          "unknown key \"zzzzzz\". Known keys: command, stdin, timeout_ms, scale, pty, keep, mode, "
          "level, argv, env, network, rules, extra" },
        { "{\"command\":\"ls\",\"timeoutMs\":1}",
          "unknown key \"timeoutMs\"; did you mean \"timeout_ms\"? Known keys: command, stdin, "
          "timeout_ms, scale, pty, keep, mode, level, argv, env, network, rules, extra" },
        { "{\"command\":5}", "command must be a string of 1 to 20 characters, but 5 (an integer) "
                             "was given" },
        { "{\"command\":\"\"}", "command must be a string of 1 to 20 characters, but a string of 0 "
                                "characters was given" },
        { "{\"command\":\"a\\u0000b\"}", "command must not contain NUL characters" },
        { "{\"command\":\"ls\",\"stdin\":\"123456\"}",
          "stdin must be a string of at most 5 characters, but a string of 6 characters was "
          "given" },
        { "{\"command\":\"ls\",\"timeout_ms\":\"abc\"}",
          "timeout_ms must be an integer from 1 to 600000, but \"abc\" (a string) was given" },
        { "{\"command\":\"ls\",\"timeout_ms\":0}",
          "timeout_ms must be an integer from 1 to 600000, but 0 (an integer) was given" },
        { "{\"command\":\"ls\",\"timeout_ms\":1.5}",
          "timeout_ms must be an integer from 1 to 600000, but 1.5 (a number) was given" },
        { "{\"command\":\"ls\",\"timeout_ms\":1e30}",
          "timeout_ms must be an integer from 1 to 600000, but 1e+30 (a number) was given" },
        { "{\"command\":\"ls\",\"scale\":2.5}",
          "scale must be a number from -1 to 2, but 2.5 (a number) was given" },
        { "{\"command\":\"ls\",\"pty\":\"yes\"}",
          "pty must be true or false, but \"yes\" (a string) was given" },
        { "{\"command\":\"ls\",\"pty\":1}", "pty must be true or false, but 1 (an integer) was "
                                            "given" },
        { "{\"command\":\"ls\",\"mode\":\"shel\"}",
          "mode must be one of \"shell\", \"direct\", but \"shel\" (a string) was given; did you "
          "mean \"shell\"?" },
        { "{\"command\":\"ls\",\"mode\":true}",
          "mode must be one of \"shell\", \"direct\", but true (a boolean) was given" },
        { "{\"command\":\"ls\",\"argv\":\"a\"}",
          "argv must be an array of strings with 1 to 3 entries, but \"a\" (a string) was given" },
        { "{\"command\":\"ls\",\"argv\":[]}",
          "argv must be an array of strings with 1 to 3 entries, but one with 0 was given" },
        { "{\"command\":\"ls\",\"argv\":[\"a\",{}]}",
          "argv[1] must be a string, but an object was given" },
        { "{\"command\":\"ls\",\"argv\":[\"a\\u0000\"]}", "argv[0] must not contain NUL "
                                                          "characters" },
        { "{\"command\":\"ls\",\"env\":{\"A\":1}}",
          "env.A must be a string, but 1 (an integer) was given" },
        { "{\"command\":\"ls\",\"env\":{\"A\":\"\",\"B\":\"\",\"C\":\"\"}}",
          "env must be an object whose values are strings with at most 2 entries, but one with 3 "
          "was given" },
        { "{\"command\":\"ls\",\"network\":[]}",
          "network must be an object, but an array was given" },
        { "{\"command\":\"ls\",\"network\":{\"allow\":[\"a\",\"b\",3]}}",
          "network.allow[2] must be a string, but 3 (an integer) was given" },
        { "{\"command\":\"ls\",\"network\":{\"alow\":[]}}",
          "unknown key \"network.alow\"; did you mean \"network.allow\"? Known keys: allow, "
          "ports" },
        { "{\"command\":\"ls\",\"rules\":[{\"allow\":[]},{}]}",
          "\"rules[1].allow\" is required (array of strings: Hosts)" },
        { "{\"command\":\"ls\",\"rules\":[{\"allow\":[]},7]}",
          "rules[1] must be an object, but 7 (an integer) was given" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *object = parse(rows[i].json);
        struct error err = ERROR_INIT;
        struct args args, untouched;

        memset(&args, 0x5a, sizeof args);
        memset(&untouched, 0x5a, sizeof untouched);
        assert_false(json_fields_read(fields, object, &args, &err));
        assert_string_equal(err.text, rows[i].text);
        assert_code(err, ERR_INVALID);
        assert_memory_equal(&args, &untouched, sizeof args);
        error_clear(&err);
        assert_false(json_fields_read(fields, object, &args, NULL));
        json_decref(object);
    }
}

static void long_keys_and_values_are_shown_cut(void **state)
{
    json_t *object = parse("{\"command\":\"ls\"}");
    struct error err = ERROR_INIT;
    struct args args;
    char big[4000];

    (void)state;
    for (size_t i = 0; i + 3 < sizeof big; i += 3)
        memcpy(big + i, "\u20ac", 4);
    assert_int_equal(json_object_set_new(object, "pty", json_string(big)), 0);
    assert_false(json_fields_read(fields, object, &args, &err));
    assert_contains(err.text, "…\" (a string) was given");
    assert_true(utf8_valid(err.text, strlen(err.text)));
    error_clear(&err);
    assert_int_equal(json_object_set_new(object, big, json_null()), 0);
    assert_false(json_fields_read(fields, object, &args, &err));
    assert_contains(err.text, "…\". Known keys: command");
    json_decref(object);
}

static void a_minimum_can_stand_alone(void **state)
{
    static const struct json_field open_ended[] = {
        { "a", NULL, JSON_KIND_INT, false, 0, 3, 0 },
        { "b", NULL, JSON_KIND_INT, false, 0, 3, INT64_MAX },
        { "c", NULL, JSON_KIND_INT, false, 0, INT64_MIN, 3 },
        { .name = NULL },
    };
    static const struct {
        const char *json, *text;
    } rows[] = {
        { "{\"a\":2}", "a must be an integer of at least 3, but 2 (an integer) was given" },
        { "{\"b\":2}", "b must be an integer of at least 3, but 2 (an integer) was given" },
        { "{\"c\":4}", "c must be an integer of at most 3, but 4 (an integer) was given" },
        { "{\"a\":9223372036854775807,\"b\":3,\"c\":-9223372036854775808}", "" },
    };
    int64_t number;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *object = parse(rows[i].json);
        struct error err = ERROR_INIT;

        assert_int_equal(json_fields_read(open_ended, object, &number, &err), !*rows[i].text);
        assert_string_equal(err.text, rows[i].text);
        json_decref(object);
    }
}

static void the_schema_says_what_the_checker_checks(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    json_t *schema = json_fields_schema(fields);

    (void)state;
    assert_non_null(schema);
    assert_true(json_write(schema, &out));
    assert_string_equal(
        buf_str(&out),
        "{\"type\":\"object\",\"properties\":{"
        "\"command\":{\"type\":\"string\",\"maxLength\":20,"
        "\"description\":\"Shell command to run\"},"
        "\"stdin\":{\"type\":\"string\",\"maxLength\":5,\"description\":\"Bytes for it\"},"
        "\"timeout_ms\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":600000,\"default\":45000,"
        "\"description\":\"Longest run\"},"
        "\"scale\":{\"type\":\"number\",\"minimum\":-1,\"maximum\":2,\"default\":1,"
        "\"description\":\"Factor\"},"
        "\"pty\":{\"type\":\"boolean\",\"description\":\"On a terminal\"},"
        "\"keep\":{\"type\":\"boolean\",\"default\":true,\"description\":\"Keep it\"},"
        "\"mode\":{\"type\":\"string\",\"enum\":[\"shell\",\"direct\"],\"default\":\"direct\","
        "\"description\":\"How\"},"
        "\"level\":{\"type\":\"string\",\"enum\":[\"shell\",\"direct\"],"
        "\"description\":\"Which\"},"
        "\"argv\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1,"
        "\"maxItems\":3,\"description\":\"Words\"},"
        "\"env\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"},"
        "\"maxProperties\":2,\"description\":\"Variables\"},"
        "\"network\":{\"type\":\"object\",\"properties\":{"
        "\"allow\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1,"
        "\"maxItems\":3,\"description\":\"Hosts\"},"
        "\"ports\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":10,\"default\":2,"
        "\"description\":\"How many\"}},\"additionalProperties\":false,"
        "\"description\":\"Where to\"},"
        "\"rules\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"
        "\"allow\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},"
        "\"description\":\"Hosts\"},\"ports\":{\"type\":\"integer\"}},"
        "\"required\":[\"allow\"],\"additionalProperties\":false},\"maxItems\":3,"
        "\"description\":\"Rules\"},"
        "\"extra\":{}},\"required\":[\"command\"],\"additionalProperties\":false}");
    json_decref(schema);
}

static void an_empty_table_takes_nothing(void **state)
{
    static const struct json_field none[] = { { .name = NULL } };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    json_t *schema = json_fields_schema(none), *object = parse("{\"a\":1}");
    struct error err = ERROR_INIT;
    char nothing = 'x';

    (void)state;
    assert_true(json_write(schema, &out));
    assert_string_equal(buf_str(&out), "{\"type\":\"object\",\"properties\":{},"
                                       "\"additionalProperties\":false}");
    assert_false(json_fields_read(none, object, &nothing, &err));
    assert_string_equal(err.text, "unknown key \"a\"; no keys are known here");
    error_clear(&err);
    assert_ok(json_fields_read(none, NULL, &nothing, &err), err);
    json_decref(schema);
    json_decref(object);
}

static void what_was_read_can_be_written(void **state)
{
    json_t *object = parse("{\"command\":\"ls\",\"stdin\":\"a\\u0000\",\"argv\":[\"x\"],"
                           "\"network\":{\"allow\":[\"h\"]},\"extra\":{\"deep\":[1]}}");
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    struct args args;
    json_t *written;

    (void)state;
    assert_ok(json_fields_read(fields, object, &args, &err), err);
    written = json_fields_write(fields, &args);
    assert_non_null(written);
    assert_true(json_write(written, &out));
    assert_string_equal(buf_str(&out),
                        "{\"command\":\"ls\",\"stdin\":\"a\\u0000\",\"timeout_ms\":45000,"
                        "\"scale\":1.0,\"pty\":false,\"keep\":true,\"mode\":\"direct\","
                        "\"argv\":[\"x\"],\"network\":{\"allow\":[\"h\"],\"ports\":2},"
                        "\"extra\":{\"deep\":[1]}}");
    json_decref(written);
    json_decref(object);
}

static void survives_every_allocation_failure(void **state)
{
    static const char text[] = "{\"command\":\"ls\",\"argv\":[\"x\"],\"env\":{\"A\":\"b\"},"
                               "\"stdin\":\"\xe2\x82\xac\",\"scale\":0.5}";

    (void)state;
    FAULT_EACH(n)
    {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct error err = ERROR_INIT;
        json_t *object = json_parse(text, sizeof text - 1, &err);
        json_t *written = NULL, *schema = NULL, *lossy = NULL;
        struct args args;
        bool ok = object && json_fields_read(fields, object, &args, &err);

        if (ok)
            written = json_fields_write(fields, &args);
        if (written)
            schema = json_fields_schema(fields);
        if (schema)
            lossy = json_string_lossy("a\xff", 2);
        ok = lossy && json_write(schema, &out);
        FAULT_DONE(n);
        assert_int_equal(ok, n_last);
        if (!object)
            assert_code(err, ERR_NOMEM);
        json_decref(object);
        json_decref(written);
        json_decref(schema);
        json_decref(lossy);
    }
}

/* A point of a screen. */
static void whole_numbers_come_in_arrays(void **state)
{
    static const struct json_field point[] = {
        { "at", "Where", JSON_KIND_INTS, true, 0, 2, 2 },
        { .name = NULL },
    };
    static const struct {
        const char *text, *error;
    } rows[] = {
        { "{\"at\":[3,-4.0]}", NULL },
        { "{\"at\":[3]}",
          "at must be an array of integers with exactly 2 entries, but one with 1 was "
          "given" },
        { "{\"at\":[3,4.5]}", "at[1] must be an integer, but 4.5 (a number) was given" },
        { "{\"at\":\"3,4\"}",
          "at must be an array of integers with exactly 2 entries, but \"3,4\" (a "
          "string) was given" },
        { "{}", "\"at\" is required (array of integers: Where)" },
    };
    json_t *schema = json_fields_schema(point);
    char *text = json_dumps(schema, JSON_COMPACT);
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        json_t *object = parse(rows[i].text), *at = NULL;
        bool ok = json_fields_read(point, object, &at, &err);

        assert_int_equal(ok, !rows[i].error);
        if (ok)
            assert_int_equal(json_array_size(at), 2);
        else
            assert_string_equal(err.text, rows[i].error);
        json_decref(object);
    }
    assert_string_equal(text, "{\"type\":\"object\",\"properties\":{\"at\":{\"type\":\"array\","
                              "\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":2,"
                              "\"description\":\"Where\"}},\"required\":[\"at\"],"
                              "\"additionalProperties\":false}");
    free(text);
    json_decref(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_come_in_arrays),
        cmocka_unit_test(reading_fills_everything),
        cmocka_unit_test(what_is_absent_or_null_gets_its_fallback),
        cmocka_unit_test(no_object_is_an_empty_one),
        cmocka_unit_test(refusals_help_to_correct_them),
        cmocka_unit_test(long_keys_and_values_are_shown_cut),
        cmocka_unit_test(a_minimum_can_stand_alone),
        cmocka_unit_test(the_schema_says_what_the_checker_checks),
        cmocka_unit_test(an_empty_table_takes_nothing),
        cmocka_unit_test(what_was_read_can_be_written),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    json_object_seed(0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
