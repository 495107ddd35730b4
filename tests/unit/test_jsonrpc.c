#include "mcp/jsonrpc.h"

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"
#include "tests/support/check.h"

/* ---- taking apart ---- */

static const struct {
    const char *line;
    enum jsonrpc_kind kind;
    int code;       /* BAD */
    const char *id; /* as JSON; NULL for none */
} rows[] = {
    /* requests */
    { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", JSONRPC_REQUEST, 0, "1" },
    { "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"ping\",\"params\":{}}", JSONRPC_REQUEST, 0, "0" },
    { "{\"jsonrpc\":\"2.0\",\"id\":-9007199254740993,\"method\":\"m\"}", JSONRPC_REQUEST, 0,
      "-9007199254740993" },
    { "{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"m\"}", JSONRPC_REQUEST, 0, "\"\"" },
    { "{\"jsonrpc\":\"2.0\",\"id\":\"a\\u0000b\",\"method\":\"m\"}", JSONRPC_REQUEST, 0,
      "\"a\\u0000b\"" },
    { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":null}", JSONRPC_REQUEST, 0, "1" },
    { " { \"method\" : \"m\" , \"id\" : 1 , \"jsonrpc\" : \"2.0\" } ", JSONRPC_REQUEST, 0, "1" },
    { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"more\":[1]}", JSONRPC_REQUEST, 0, "1" },
    { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"result\":1}", JSONRPC_REQUEST, 0, "1" },
    /* notifications */
    { "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", JSONRPC_NOTIFICATION, 0,
      NULL },
    { "{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{\"a\":1}}", JSONRPC_NOTIFICATION, 0,
      NULL },
    /* responses */
    { "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}", JSONRPC_RESPONSE, 0, "7" },
    { "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":null}", JSONRPC_RESPONSE, 0, "7" },
    { "{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":1,\"message\":\"x\"}}", JSONRPC_RESPONSE,
      0, "7" },
    { "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{}}", JSONRPC_RESPONSE, 0, NULL },
    { "{\"jsonrpc\":\"2.0\",\"error\":{}}", JSONRPC_RESPONSE, 0, NULL },
    /* no JSON */
    { "", JSONRPC_BAD, JSONRPC_PARSE_ERROR, NULL },
    { "nonsense", JSONRPC_BAD, JSONRPC_PARSE_ERROR, NULL },
    { "{\"jsonrpc\":\"2.0\",\"id\":1,", JSONRPC_BAD, JSONRPC_PARSE_ERROR, "1" },
    { "{\"id\":\"a\",\"params\":{\"id\":2,\"n\":1e999}}", JSONRPC_BAD, JSONRPC_PARSE_ERROR,
      "\"a\"" },
    { "{\"params\":{\"id\":2},\"n\":[}", JSONRPC_BAD, JSONRPC_PARSE_ERROR, NULL },
    { "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"m\",\"params\":{\"t\":\"\\ud83d\"}}",
      JSONRPC_REQUEST, 0, "3" },
    { "{\"jsonrpc\":\"2.0\"} {}", JSONRPC_BAD, JSONRPC_PARSE_ERROR, NULL },
    { "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"m\"}", JSONRPC_BAD, JSONRPC_PARSE_ERROR,
      "1" },
    { "{\"jsonrpc\":\"2.0\",\"method\":\"\xff\xfe\"}", JSONRPC_BAD, JSONRPC_PARSE_ERROR, NULL },
    { "{\"jsonrpc\":\"2.0\",\"method\":\"\\ud800\"}", JSONRPC_NOTIFICATION, 0, NULL },
    { "{\"id\":123456789012345678901234567890}", JSONRPC_BAD, JSONRPC_PARSE_ERROR, NULL },
    /* no message */
    { "null", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, NULL },
    { "17", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, NULL },
    { "\"text\"", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, NULL },
    { "[]", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, NULL },
    { "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}]", JSONRPC_BAD, JSONRPC_INVALID_REQUEST,
      NULL },
    { "{}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, NULL },
    { "{\"jsonrpc\":\"2.0\"}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, NULL },
    { "{\"jsonrpc\":\"2.0\",\"id\":4}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, "4" },
    { "{\"id\":3,\"method\":\"m\"}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, "3" },
    { "{\"jsonrpc\":\"1.0\",\"id\":3,\"method\":\"m\"}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST,
      "3" },
    { "{\"jsonrpc\":2.0,\"id\":3,\"method\":\"m\"}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, "3" },
    { "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":17}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, "5" },
    { "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":null}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST, "5" },
    { "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"a\\u0000b\"}", JSONRPC_BAD,
      JSONRPC_INVALID_REQUEST, "5" },
    { "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"a\\nb\"}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST,
      "5" },
    { "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"a\\u007f\"}", JSONRPC_BAD,
      JSONRPC_INVALID_REQUEST, "5" },
    { "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"m\"}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST,
      NULL },
    { "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"m\"}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST,
      NULL },
    { "{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"m\"}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST,
      NULL },
    { "{\"jsonrpc\":\"2.0\",\"id\":{\"a\":1},\"method\":\"m\"}", JSONRPC_BAD,
      JSONRPC_INVALID_REQUEST, NULL },
    { "{\"jsonrpc\":\"2.0\",\"id\":[1],\"method\":\"m\"}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST,
      NULL },
    { "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"m\",\"params\":[1]}", JSONRPC_BAD,
      JSONRPC_INVALID_PARAMS, "6" },
    { "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"m\",\"params\":\"x\"}", JSONRPC_BAD,
      JSONRPC_INVALID_PARAMS, "6" },
    { "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[1]}", JSONRPC_BAD, JSONRPC_INVALID_REQUEST,
      NULL },
};

static void tells_the_kind_of_each_message(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(jsonrpc_fini) struct jsonrpc m;
        CLEANUP(buf_fini) struct buf id = BUF_INIT;

        jsonrpc_read(rows[i].line, strlen(rows[i].line), &m);
        if (m.kind != rows[i].kind || m.code != rows[i].code)
            fail_msg("%s: kind %d code %d %s", rows[i].line, (int)m.kind, m.code, m.text);
        if (m.id)
            assert_true(json_write(m.id, &id));
        if (strcmp(buf_str(&id), rows[i].id ? rows[i].id : "") != 0)
            fail_msg("%s: id %s", rows[i].line, buf_str(&id));
        if (m.kind == JSONRPC_REQUEST || m.kind == JSONRPC_NOTIFICATION)
            assert_non_null(m.method);
        if (m.kind == JSONRPC_RESPONSE)
            assert_true(m.result || m.error);
        if (m.kind == JSONRPC_BAD)
            assert_true(strlen(m.text) > 10);
    }
}

static void only_half_a_character_is_replaced(void **state)
{
    static const struct {
        const char *escaped, *want;
    } halves[] = {
        { "\\ud83d\\ude00", "\xf0\x9f\x98\x80" },
        { "\\ud83d", "\xef\xbf\xbd" },
        { "\\ud83d\\ude00\\ud83d", "\xf0\x9f\x98\x80\xef\xbf\xbd" },
        { "\\ud83d\\ud83d\\ude00", "\xef\xbf\xbd\xf0\x9f\x98\x80" },
        { "\\ude00 \\uD83D\\uDE00", "\xef\xbf\xbd \xf0\x9f\x98\x80" },
        { "\\ud83d\\u0041\\ud83d\\ude00", "\xef\xbf\xbd"
                                          "A\xf0\x9f\x98\x80" },
        { "\\\\ud83d \\ud83d", "\\ud83d \xef\xbf\xbd" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(halves); i++) {
        CLEANUP(jsonrpc_fini) struct jsonrpc m;
        char line[200];
        const char *got;

        (void)snprintf(line, sizeof line,
                       "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"t\":\"%s\"}}",
                       halves[i].escaped);
        jsonrpc_read(line, strlen(line), &m);
        got = json_string_value(json_object_get(m.params, "t"));
        if (m.kind != JSONRPC_REQUEST || !got || strcmp(got, halves[i].want) != 0)
            fail_msg("%s became %s", halves[i].escaped, got ? got : m.text);
    }
}

static void takes_methods_up_to_a_length(void **state)
{
    (void)state;

    for (size_t len = 255; len <= 257; len++) {
        CLEANUP(jsonrpc_fini) struct jsonrpc m;
        CLEANUP(buf_fini) struct buf line = BUF_INIT;

        assert_true(
            buf_printf(&line, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%0*d\"}", (int)len, 0));
        jsonrpc_read(line.data, line.len, &m);
        assert_int_equal(m.kind, len <= 256 ? JSONRPC_REQUEST : JSONRPC_BAD);
    }
}

static void refuses_what_is_nested_too_deep(void **state)
{
    CLEANUP(jsonrpc_fini) struct jsonrpc m;
    CLEANUP(buf_fini) struct buf line = BUF_INIT;
    (void)state;

    for (int i = 0; i < 100000; i++)
        assert_true(buf_append_str(&line, "{\"a\":"));
    jsonrpc_read(line.data, line.len, &m);
    assert_int_equal(m.kind, JSONRPC_BAD);
    assert_int_equal(m.code, JSONRPC_PARSE_ERROR);
    assert_contains(m.text, "nested");
}

static void tells_a_lack_of_memory_from_a_mistake(void **state)
{
    const char *line =
        "{\"jsonrpc\":\"2.0\",\"id\":\"abc\",\"method\":\"tools/call\",\"params\":{}}";
    (void)state;

    FAULT_EACH(n)
    {
        CLEANUP(jsonrpc_fini) struct jsonrpc m;

        jsonrpc_read(line, strlen(line), &m);
        FAULT_DONE(n);
        assert_int_equal(m.kind, n_last ? JSONRPC_REQUEST : JSONRPC_BAD);
        assert_int_equal(m.code, n_last ? 0 : JSONRPC_INTERNAL_ERROR);
    }
}

/* ---- composing ---- */

static json_t *parse(const struct buf *b)
{
    struct error err = ERROR_INIT;
    json_t *value = json_parse(buf_str(b), b->len, &err);

    if (!value)
        fail_msg("%s: %s", err.text, buf_str(b));
    return value;
}

static void json_freep(json_t **value)
{
    json_decref(*value);
}

static void strings_parse_back_equal(void **state)
{
    static const struct {
        const char *text;
        size_t len;
    } texts[] = {
        { "", 0 },
        { "plain", 5 },
        { "\"", 1 },
        { "\\", 1 },
        { "\\\"\\\"", 4 },
        { "\0", 1 },
        { "a\0b\0", 4 },
        { "\x1b[31mred\x1b[0m\r\n", 14 },
        { "\x7f", 1 },
        { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82", 9 },
        { "\xe2\x80\xa8\xe2\x80\xa9", 6 },
        { "</script>", 9 },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        CLEANUP(json_freep) json_t *value = NULL;

        assert_true(jsonrpc_put_string(&out, texts[i].text, texts[i].len));
        assert_null(memchr(out.data, '\n', out.len));
        value = parse(&out);
        assert_int_equal(json_string_length(value), texts[i].len);
        assert_memory_equal(json_string_value(value), texts[i].text, texts[i].len);
    }
}

static void every_control_character_is_escaped(void **state)
{
    (void)state;

    for (int before = 0; before < 3; before++) {
        for (int c = 0; c < 0x80; c++) {
            const char text[] = { 'x', 'y', (char)c, 'z' };
            size_t len = (size_t)before + (c % 2 ? 1 : 2);
            CLEANUP(buf_fini) struct buf out = BUF_INIT;
            CLEANUP(json_freep) json_t *value = NULL;

            assert_true(jsonrpc_put_string(&out, text + 2 - before, len));
            for (size_t i = 0; i < out.len; i++)
                assert_true((unsigned char)out.data[i] >= 0x20);
            value = parse(&out);
            assert_int_equal(json_string_length(value), len);
            assert_memory_equal(json_string_value(value), text + 2 - before, len);
        }
    }
}

static void answers_carry_the_id_as_it_came(void **state)
{
    static const char *const ids[] = {
        "1", "0", "-5", "9223372036854775807", "\"\"", "\"a\\\"b\\\\c\\u0000\\n\"", "\"\xc3\xa4\""
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        CLEANUP(json_freep) json_t *id = json_loads(ids[i], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        CLEANUP(json_freep) json_t *answer = NULL;
        CLEANUP(buf_fini) struct buf out = BUF_INIT;

        assert_non_null(id);
        assert_true(jsonrpc_begin_result(&out, id) && buf_append_str(&out, "{}") &&
                    jsonrpc_end(&out));
        assert_int_equal(out.data[out.len - 1], '\n');
        answer = parse(&out);
        assert_true(json_equal(json_object_get(answer, "id"), id));
        assert_int_equal(json_object_size(answer), 3);
        buf_clear(&out);
        json_decref(answer);
        assert_true(jsonrpc_put_error(&out, id, -32601, "no", NULL));
        answer = parse(&out);
        assert_true(json_equal(json_object_get(answer, "id"), id));
        assert_int_equal(
            json_integer_value(json_object_get(json_object_get(answer, "error"), "code")), -32601);
    }
}

static void errors_have_data_and_id_only_when_there_are_such(void **state)
{
    CLEANUP(json_freep) json_t *data = json_pack("{s:s}", "a", "b\n");
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    (void)state;

    assert_true(jsonrpc_put_error(&out, NULL, -32700, "bad \"line\"", data));
    assert_string_equal(out.data, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":"
                                  "\"bad \\\"line\\\"\",\"data\":{\"a\":\"b\\n\"}}}\n");
    buf_clear(&out);
    assert_true(jsonrpc_put_notification(&out, "notifications/x", data));
    assert_string_equal(out.data, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":"
                                  "{\"a\":\"b\\n\"}}\n");
    buf_clear(&out);
    assert_true(jsonrpc_put_notification(&out, "n", NULL));
    assert_string_equal(out.data, "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n");
}

static void a_message_that_does_not_fit_says_so(void **state)
{
    CLEANUP(json_freep) json_t *id = json_string("an id of some length\n");
    CLEANUP(json_freep) json_t *data = json_pack("{s:[i,i,s]}", "list", 1, 2, "three\t");
    (void)state;

    for (size_t max = 1; max < 200; max++) {
        CLEANUP(buf_fini) struct buf out;
        CLEANUP(buf_fini) struct buf note;

        buf_init(&out, max);
        if (!jsonrpc_put_error(&out, id, -1, "text with a \"quote\"", data))
            assert_true(out.failed);
        else
            json_decref(parse(&out));
        buf_init(&note, max);
        if (!jsonrpc_put_notification(&note, "notifications/x", data))
            assert_true(note.failed);
        else
            json_decref(parse(&note));
    }
}

static void composing_survives_every_allocation_failure(void **state)
{
    CLEANUP(json_freep) json_t *id = json_string("an id");
    CLEANUP(json_freep) json_t *data = json_pack("{s:[i,i]}", "list", 1, 2);
    (void)state;

    FAULT_EACH(n)
    {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        bool ok =
            jsonrpc_put_error(&out, id, -1, "a text that is longer than the first room is", data);

        FAULT_DONE(n);
        assert_int_equal(ok, n_last);
        assert_int_equal(out.failed, !n_last);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_the_kind_of_each_message),
        cmocka_unit_test(only_half_a_character_is_replaced),
        cmocka_unit_test(takes_methods_up_to_a_length),
        cmocka_unit_test(refuses_what_is_nested_too_deep),
        cmocka_unit_test(tells_a_lack_of_memory_from_a_mistake),
        cmocka_unit_test(strings_parse_back_equal),
        cmocka_unit_test(every_control_character_is_escaped),
        cmocka_unit_test(answers_carry_the_id_as_it_came),
        cmocka_unit_test(errors_have_data_and_id_only_when_there_are_such),
        cmocka_unit_test(a_message_that_does_not_fit_says_so),
        cmocka_unit_test(composing_survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
