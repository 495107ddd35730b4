#include "kernel/base/json.h"

#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "tests/support/check.h"

static json_t *parse(const char *text)
{
    struct error err = ERROR_INIT;
    json_t *value = json_parse(text, strlen(text), &err);

    assert_ok(value != NULL, err);
    return value;
}

static void parses_every_kind_of_value(void **state)
{
    static const char *const rows[] = { "{}", "[]",     " [ 1 , 2 ] \n", "\"a\\u0000b\"",
                                        "5",  "-1.5e3", "true",          "null" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        json_decref(parse(rows[i]));
}

static void refuses_what_is_not_json_and_says_where(void **state)
{
    static const struct {
        const char *label, *text, *part;
    } rows[] = {
        { "nothing", "", "line 1" },
        { "cut", "{\"a\":", "line 1, column 5" },
        { "second line", "{\n  \"a\": x\n}", "line 2" },
        { "trailing", "{} {}", "end of file" },
        { "twice", "{\"a\":1,\"a\":2}", "duplicate" },
        { "bad utf-8", "\"\xff\"", "unable to decode byte 0xff" },
        { "lone surrogate", "\"\\ud800\"", "line 1" },
        { "control character", "\"a\nb\"", "line 1" },
        { "too large a number", "123456789012345678901234567890", "big" },
        { "comma", "[1,]", "line 1" },
        { "NUL in a key", "{\"a\\u0000\":1}", "NUL" },
        { "not a number", "NaN", "line 1" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        if (json_parse(rows[i].text, strlen(rows[i].text), &err))
            fail_msg("%s was accepted", rows[i].label);
        assert_code(err, ERR_INVALID);
        assert_contains(err.text, rows[i].part);
        assert_true(utf8_valid(err.text, strlen(err.text)));
    }
}

static json_t *parse_nested(unsigned depth, struct error *err)
{
    char text[4 * LIMIT_JSON_DEPTH];

    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    return json_parse(text, (size_t)depth * 2, err);
}

static void nesting_is_limited(void **state)
{
    struct error err = ERROR_INIT;
    json_t *value = parse_nested(LIMIT_JSON_DEPTH, &err);

    (void)state;
    assert_ok(value != NULL, err);
    json_decref(value);
    assert_null(parse_nested(LIMIT_JSON_DEPTH + 1, &err));
    assert_code(err, ERR_LIMIT);
    assert_contains(err.text, "byte 65");
    /* brackets within strings are no nesting, nor is a quote behind a backslash the end of one */
    value = parse("[\"\\\\\",\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
                  "[[[[[[[[[[[[[[[[[[[\"]");
    json_decref(value);
}

static void writing_gives_one_line_that_parses_back(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "{ \"b\" : 1, \"a\" : [ ] , \"c\":{}}", "{\"b\":1,\"a\":[],\"c\":{}}" },
        { "[true,false,null]", "[true,false,null]" },
        { "[0,-1,9223372036854775807,-9223372036854775808]",
          "[0,-1,9223372036854775807,-9223372036854775808]" },
        { "[0.1,1.0,-0.0,1e300,5e-324,123456789.125]",
          "[0.1,1.0,-0.0,1e+300,4.94065645841247e-324,123456789.125]" },
        { "\"\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\/\\u007f\"",
          "\"\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\/\x7f\"" },
        { "\"\\u20ac \\ud83d\\ude00\"", "\"\xe2\x82\xac \xf0\x9f\x98\x80\"" },
        { "\"eight by\\nte words, with\\\"each kind \\\\ at another place\\u0001\"",
          "\"eight by\\nte words, with\\\"each kind \\\\ at another place\\u0001\"" },
        { "{\"a\\n\":1}", "{\"a\\n\":1}" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        json_t *value = parse(rows[i].in), *again;

        assert_true(json_write(value, &out));
        assert_string_equal(buf_str(&out), rows[i].out);
        again = parse(buf_str(&out));
        assert_true(json_equal(value, again));
        json_decref(value);
        json_decref(again);
    }
}

/* Each byte value at each place of a word, which is how the writer looks for escapes. */
static void every_character_is_escaped_as_it_must_be(void **state)
{
    (void)state;
    for (int c = 0; c < 0x80; c++) {
        for (size_t place = 0; place < 17; place++) {
            CLEANUP(buf_fini) struct buf out = BUF_INIT;
            char text[17];
            json_t *value, *again;

            memset(text, 'x', sizeof text);
            text[place] = (char)c;
            value = json_stringn(text, sizeof text);
            assert_true(json_write(value, &out));
            again = json_parse(buf_str(&out), out.len, NULL);
            if (!again || !json_equal(value, again))
                fail_msg("character %d at %zu: %s", c, place, buf_str(&out));
            json_decref(value);
            json_decref(again);
        }
    }
}

static void writing_repairs_what_was_smuggled_in(void **state)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    json_t *value = json_stringn_nocheck("a\xff", 2);

    (void)state;
    assert_true(json_write(value, &out));
    assert_string_equal(buf_str(&out), "\"a\xef\xbf\xbd\"");
    json_decref(value);
}

static void writing_appends_whole_or_not_at_all(void **state)
{
    json_t *value = parse("{\"a\":[1,2,3,\"text\"]}"), *inner = json_array(), *outer;
    struct buf out;

    (void)state;
    buf_init(&out, 15);
    assert_true(buf_append_str(&out, "12"));
    assert_false(json_write(value, &out));
    assert_string_equal(buf_str(&out), "12");
    assert_true(out.failed);
    buf_clear(&out);
    assert_false(json_write(NULL, &out));
    buf_fini(&out);
    json_decref(value);
    /* a tree deeper than the writer follows ends in failure, not in the end of the stack */
    for (int i = 0; i < 600; i++) {
        outer = json_array();
        assert_int_equal(json_array_append_new(outer, inner), 0);
        inner = outer;
    }
    buf_init(&out, 0);
    assert_false(json_write(inner, &out));
    assert_int_equal(out.len, 0);
    buf_fini(&out);
    json_decref(inner);
}

static void lossy_strings_are_repaired(void **state)
{
    json_t *clean = json_string_lossy("a\0b", 3), *broken = json_string_lossy("a\xff", 2);

    (void)state;
    assert_int_equal(json_string_length(clean), 3);
    assert_string_equal(json_string_value(broken), "a\xef\xbf\xbd");
    json_decref(clean);
    json_decref(broken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_every_kind_of_value),
        cmocka_unit_test(refuses_what_is_not_json_and_says_where),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(writing_gives_one_line_that_parses_back),
        cmocka_unit_test(every_character_is_escaped_as_it_must_be),
        cmocka_unit_test(writing_repairs_what_was_smuggled_in),
        cmocka_unit_test(writing_appends_whole_or_not_at_all),
        cmocka_unit_test(lossy_strings_are_repaired),
    };

    json_object_seed(0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
