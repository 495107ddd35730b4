#include "mcp/revision.h"

#include "kernel/base/json.h"
#include "tests/support/check.h"

#define VERSION      "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\""
#define CAPABILITIES "\"io.modelcontextprotocol/clientCapabilities\":{}"

static json_t *parse(const char *text, size_t len)
{
    struct error err = ERROR_INIT;
    json_t *value = json_parse(text, len, &err);

    if (!value)
        fail_msg("%s: %.*s", err.text, (int)len, text);
    return value;
}

static void json_freep(json_t **value)
{
    json_decref(*value);
}

static const struct {
    const char *label, *method, *params; /* params without the braces */
    int code;                            /* of the error; 0: none */
    enum revision_era era;
    enum revision_method want;
} rows[] = {
    { "legacy initialize", "initialize", "", 0, REVISION_LEGACY, REVISION_INITIALIZE },
    { "legacy ping", "ping", "", 0, REVISION_LEGACY, REVISION_PING },
    { "legacy level", "logging/setLevel", "", 0, REVISION_LEGACY, REVISION_SET_LEVEL },
    { "legacy list", "tools/list", "", 0, REVISION_LEGACY, REVISION_TOOLS_LIST },
    { "legacy call", "tools/call", "\"_meta\":{}", 0, REVISION_LEGACY, REVISION_TOOLS_CALL },
    { "a token makes no era", "tools/call", "\"_meta\":{\"progressToken\":1}", 0, REVISION_LEGACY,
      REVISION_TOOLS_CALL },
    { "unknown", "resources/list", "", 0, REVISION_LEGACY, REVISION_UNKNOWN },
    { "unknown, near", "tools/list2", "", 0, REVISION_LEGACY, REVISION_UNKNOWN },
    { "a client's own method", "roots/list", "", 0, REVISION_LEGACY, REVISION_UNKNOWN },
    { "modern list", "tools/list", "\"_meta\":{" VERSION "," CAPABILITIES "}", 0, REVISION_MODERN,
      REVISION_TOOLS_LIST },
    { "modern call", "tools/call", "\"_meta\":{" VERSION "," CAPABILITIES "}", 0, REVISION_MODERN,
      REVISION_TOOLS_CALL },
    { "modern discover", "server/discover", "\"_meta\":{" VERSION "," CAPABILITIES "}", 0,
      REVISION_MODERN, REVISION_DISCOVER },
    { "modern initialize", "initialize", "\"_meta\":{" VERSION "," CAPABILITIES "}", 0,
      REVISION_MODERN, REVISION_UNKNOWN },
    { "modern ping", "ping", "\"_meta\":{" VERSION "," CAPABILITIES "}", 0, REVISION_MODERN,
      REVISION_UNKNOWN },
    { "modern level", "logging/setLevel", "\"_meta\":{" VERSION "," CAPABILITIES "}", 0,
      REVISION_MODERN, REVISION_UNKNOWN },
    { "discover without meta", "server/discover", "", -32602, REVISION_LEGACY, REVISION_UNKNOWN },
    { "discover with half of it", "server/discover", "\"_meta\":{" VERSION "}", -32602,
      REVISION_LEGACY, REVISION_UNKNOWN },
    { "no capabilities", "tools/list", "\"_meta\":{" VERSION "}", -32602, REVISION_LEGACY,
      REVISION_UNKNOWN },
    { "no version", "tools/list", "\"_meta\":{" CAPABILITIES "}", -32602, REVISION_LEGACY,
      REVISION_UNKNOWN },
    { "a version that is none", "tools/list",
      "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":7," CAPABILITIES "}", -32602,
      REVISION_LEGACY, REVISION_UNKNOWN },
    { "another version", "tools/list",
      "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"v999.0.0\"," CAPABILITIES "}",
      -32022, REVISION_LEGACY, REVISION_UNKNOWN },
    { "a legacy version in modern dress", "tools/list",
      "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2025-11-25\"," CAPABILITIES "}",
      -32022, REVISION_LEGACY, REVISION_UNKNOWN },
    { "capabilities that are none", "tools/list",
      "\"_meta\":{" VERSION ",\"io.modelcontextprotocol/clientCapabilities\":[]}", -32602,
      REVISION_LEGACY, REVISION_UNKNOWN },
    { "a level that is none", "tools/list",
      "\"_meta\":{" VERSION "," CAPABILITIES ",\"io.modelcontextprotocol/logLevel\":\"loud\"}",
      -32602, REVISION_LEGACY, REVISION_UNKNOWN },
    { "a level of another kind", "tools/list",
      "\"_meta\":{" VERSION "," CAPABILITIES ",\"io.modelcontextprotocol/logLevel\":3}", -32602,
      REVISION_LEGACY, REVISION_UNKNOWN },
    { "meta of another kind", "ping", "\"_meta\":3", -32602, REVISION_LEGACY, REVISION_UNKNOWN },
};

static void judges_each_request_by_itself(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct revision_legacy legacy = { .version = "2025-06-18",
                                                .level = REVISION_LEVEL_ERROR };
        CLEANUP(buf_fini) struct buf line = BUF_INIT;
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        CLEANUP(json_freep) json_t *answer = NULL;
        CLEANUP(jsonrpc_fini) struct jsonrpc m;
        enum revision_method method;
        struct revision r;
        bool ok;

        assert_true(buf_printf(&line,
                               "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"%s\",\"params\":{%s}}",
                               rows[i].method, rows[i].params));
        jsonrpc_read(line.data, line.len, &m);
        assert_int_equal(m.kind, JSONRPC_REQUEST);
        ok = revision_judge(&legacy, &m, &r, &method, &out);
        if (ok != (rows[i].code == 0))
            fail_msg("%s: %s", rows[i].label, buf_str(&out));
        if (ok) {
            if (method != rows[i].want || r.era != rows[i].era)
                fail_msg("%s: method %d era %d", rows[i].label, (int)method, (int)r.era);
            assert_int_equal(out.len, 0);
            assert_string_equal(r.version, r.era == REVISION_MODERN ? "2026-07-28" : "2025-06-18");
            assert_int_equal(r.level,
                             r.era == REVISION_MODERN ? REVISION_LEVEL_NONE : REVISION_LEVEL_ERROR);
            continue;
        }
        answer = parse(out.data, out.len);
        assert_int_equal(json_integer_value(json_object_get(answer, "id")), 5);
        if (json_integer_value(json_object_get(json_object_get(answer, "error"), "code")) !=
            rows[i].code)
            fail_msg("%s: %s", rows[i].label, buf_str(&out));
    }
}

static void reads_what_a_request_brings_along(void **state)
{
    static const struct {
        const char *meta;
        const char *token; /* as JSON, "" for none */
        enum revision_level level;
    } metas[] = {
        { VERSION "," CAPABILITIES, "", REVISION_LEVEL_NONE },
        { VERSION "," CAPABILITIES ",\"progressToken\":7", "7", REVISION_LEVEL_NONE },
        { VERSION "," CAPABILITIES ",\"progressToken\":\"a\"", "\"a\"", REVISION_LEVEL_NONE },
        { VERSION "," CAPABILITIES ",\"progressToken\":1.5", "", REVISION_LEVEL_NONE },
        { VERSION "," CAPABILITIES ",\"progressToken\":{}", "", REVISION_LEVEL_NONE },
        { VERSION "," CAPABILITIES ",\"io.modelcontextprotocol/logLevel\":\"warning\"", "",
          REVISION_LEVEL_WARNING },
        { VERSION "," CAPABILITIES ",\"io.modelcontextprotocol/clientInfo\":7", "",
          REVISION_LEVEL_NONE },
    };
    const struct revision_legacy legacy = { .version = REVISION_LEGACY_LATEST };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(metas); i++) {
        CLEANUP(buf_fini) struct buf line = BUF_INIT;
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        CLEANUP(buf_fini) struct buf token = BUF_INIT;
        CLEANUP(jsonrpc_fini) struct jsonrpc m;
        enum revision_method method;
        struct revision r;

        assert_true(buf_printf(&line,
                               "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"tools/call\",\"params\":"
                               "{\"_meta\":{%s}}}",
                               metas[i].meta));
        jsonrpc_read(line.data, line.len, &m);
        assert_true(revision_judge(&legacy, &m, &r, &method, &out));
        if (r.token)
            assert_true(json_write(r.token, &token));
        assert_string_equal(buf_str(&token), metas[i].token);
        assert_int_equal(r.level, metas[i].level);
    }
}

static void initialize_settles_the_version(void **state)
{
    static const struct {
        const char *asked, *got;
    } versions[] = {
        { "2025-11-25", "2025-11-25" }, { "2025-06-18", "2025-06-18" },
        { "2025-03-26", "2025-03-26" }, { "2024-11-05", "2024-11-05" },
        { "2024-10-07", "2025-11-25" }, { "2026-07-28", "2025-11-25" },
        { "", "2025-11-25" },           { "nonsense", "2025-11-25" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct revision_legacy legacy = { .version = "2024-11-05" };
        CLEANUP(json_freep)
        json_t *params = json_pack("{s:s,s:{s:{}}}", "protocolVersion", versions[i].asked,
                                   "capabilities", "roots");
        CLEANUP(json_freep) json_t *result = NULL;
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        const char *text = NULL;

        assert_true(revision_initialize(&legacy, params, "Say \"please\"\n", &out, &text));
        assert_string_equal(legacy.version, versions[i].got);
        assert_true(legacy.initialized && legacy.offers.roots);
        result = parse(out.data, out.len);
        assert_string_equal(json_string_value(json_object_get(result, "protocolVersion")),
                            versions[i].got);
        assert_string_equal(json_string_value(json_object_get(result, "instructions")),
                            "Say \"please\"\n");
        assert_non_null(json_object_get(json_object_get(result, "capabilities"), "tools"));
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(result, "serverInfo"), "version")),
            AIOS_VERSION);
    }
}

static void initialize_refuses_what_is_malformed(void **state)
{
    static const char *const params[] = {
        "{}", "{\"protocolVersion\":1}", "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":[]}"
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(params); i++) {
        struct revision_legacy legacy = { .version = "2024-11-05" };
        CLEANUP(json_freep) json_t *value = parse(params[i], strlen(params[i]));
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        const char *text = NULL;

        assert_false(revision_initialize(&legacy, value, NULL, &out, &text));
        assert_contains(text, "params.");
        assert_false(legacy.initialized);
        assert_string_equal(legacy.version, "2024-11-05");
    }
}

static void a_client_without_roots_offers_none(void **state)
{
    struct revision_legacy legacy = { .version = "2024-11-05", .offers = { .roots = true } };
    CLEANUP(json_freep) json_t *params = json_pack("{s:s}", "protocolVersion", "2025-11-25");
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    const char *text = NULL;
    (void)state;

    assert_true(revision_initialize(&legacy, params, NULL, &out, &text));
    assert_false(legacy.offers.roots);
    assert_null(strstr(out.data, "instructions"));
}

static void each_version_has_its_fields(void **state)
{
    static const struct {
        const char *version;
        bool annotations, title, structured;
    } versions[] = {
        { "2024-11-05", false, false, false }, { "2025-03-26", true, false, false },
        { "2025-06-18", true, true, true },    { "2025-11-25", true, true, true },
        { "2026-07-28", true, true, true },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        const struct revision r = { .version = versions[i].version };

        assert_int_equal(revision_has_annotations(&r), versions[i].annotations);
        assert_int_equal(revision_has_title(&r), versions[i].title);
        assert_int_equal(revision_has_structured(&r), versions[i].structured);
    }
}

static void results_are_dressed_as_their_era_wants(void **state)
{
    static const struct {
        enum revision_era era;
        bool cache, field;
        const char *want;
    } shapes[] = {
        { REVISION_LEGACY, false, false, "{}" },
        { REVISION_LEGACY, true, true, "{\"a\":1}" },
        { REVISION_MODERN, false, false,
          "{\"resultType\":\"complete\",\"_meta\":{\"io.modelcontextprotocol/"
          "serverInfo\":{\"name\":"
          "\"aios\",\"title\":\"AIOS\",\"version\":\"" AIOS_VERSION "\"}}}" },
        { REVISION_MODERN, true, true,
          "{\"resultType\":\"complete\",\"a\":1,\"ttlMs\":300000,\"cacheScope\":\"public\",\"_"
          "meta\":{"
          "\"io.modelcontextprotocol/"
          "serverInfo\":{\"name\":\"aios\",\"title\":\"AIOS\",\"version\":"
          "\"" AIOS_VERSION "\"}}}" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        const struct revision r = { .era = shapes[i].era, .version = "2026-07-28" };
        CLEANUP(buf_fini) struct buf out = BUF_INIT;

        assert_true(revision_open_result(&r, &out));
        if (shapes[i].field)
            assert_true(buf_append_str(&out, "\"a\":1,"));
        assert_true(revision_close_result(&r, shapes[i].cache, &out));
        assert_string_equal(out.data, shapes[i].want);
    }
}

static void levels_have_names_in_order_of_severity(void **state)
{
    static const char *const names[] = { "debug", "info",     "notice", "warning",
                                         "error", "critical", "alert",  "emergency" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(revision_level_parse(names[i]), i);
        assert_string_equal(revision_level_name((enum revision_level)i), names[i]);
    }
    assert_int_equal(revision_level_parse("loud"), REVISION_LEVEL_NONE);
    assert_int_equal(revision_level_parse(""), REVISION_LEVEL_NONE);
    assert_int_equal(revision_level_parse(NULL), REVISION_LEVEL_NONE);
    assert_string_equal(revision_level_name(REVISION_LEVEL_NONE), "info");
}

static void a_lack_of_memory_shows_in_the_buffer(void **state)
{
    static const char line[] =
        "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"tools/list\",\"params\":{"
        "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"v9\"}}}";
    const struct revision_legacy legacy = { .version = REVISION_LEGACY_LATEST };
    CLEANUP(jsonrpc_fini) struct jsonrpc m;
    (void)state;

    jsonrpc_read(line, sizeof line - 1, &m);
    FAULT_EACH(n)
    {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        enum revision_method method;
        struct revision r;
        bool ok = revision_judge(&legacy, &m, &r, &method, &out);

        FAULT_DONE(n);
        assert_false(ok);
        /* The answer may do without its data, but it is whole or known not to be. */
        if (!out.failed)
            json_decref(parse(out.data, out.len));
    }
    FAULT_EACH(n)
    {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        bool ok = revision_discover("instructions", &out) && !out.failed;

        FAULT_DONE(n);
        assert_int_equal(ok, n_last);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_each_request_by_itself),
        cmocka_unit_test(reads_what_a_request_brings_along),
        cmocka_unit_test(initialize_settles_the_version),
        cmocka_unit_test(initialize_refuses_what_is_malformed),
        cmocka_unit_test(a_client_without_roots_offers_none),
        cmocka_unit_test(each_version_has_its_fields),
        cmocka_unit_test(results_are_dressed_as_their_era_wants),
        cmocka_unit_test(levels_have_names_in_order_of_severity),
        cmocka_unit_test(a_lack_of_memory_shows_in_the_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
