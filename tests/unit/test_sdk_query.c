/* What libaios asks for each query, and what it makes of the answer. */
#include <inttypes.h>

#include "tests/unit/sdk_fake.h"

static struct aios_error err;

/* The arguments that were heard in line @index. */
static const char *arguments(size_t index)
{
    static char out[FAKE_LINE];
    const char *from = strstr(fake.lines[index], "\"name\":"),
               *to = strstr(fake.lines[index], ",\"_meta\"");

    if (!from || !to)
        fail_msg("no call of a tool: %s", fake.lines[index]);
    snprintf(out, sizeof out, "%.*s", (int)(to - from), from);
    return out;
}

#define CALL(tool, args) "\"name\":\"" tool "\",\"arguments\":{" args "}"

/* ---- what is asked ---- */

static void memory_is_asked_in_its_tools_words(void **state)
{
    static const char *const tags[] = { "a b", "c", NULL };
    static const char *const none[] = { NULL };
    static const struct {
        struct aios_memory_query query;
        const char *say, *want, *json;
    } rows[] = {
        { { .op = AIOS_MEMORY_ADD, .text = "t", .tags = tags, .share = "group" },
          TEXT("saved note_1 v1"),
          CALL("memory_save", "\"text\":\"t\",\"tags\":[\"a b\",\"c\"],\"share\":\"group\""),
          "{\"id\":\"note_1\",\"version\":1}" },
        { { .op = AIOS_MEMORY_ADD, .text = "t", .tags = none },
          TEXT("saved note_1 v1"),
          CALL("memory_save", "\"text\":\"t\",\"tags\":[]"),
          "{\"id\":\"note_1\",\"version\":1}" },
        { { .op = AIOS_MEMORY_UPDATE, .id = "note_1", .text = "u" },
          TEXT("saved note_1 v12"),
          CALL("memory_save", "\"id\":\"note_1\",\"text\":\"u\""),
          "{\"id\":\"note_1\",\"version\":12}" },
        { { .op = AIOS_MEMORY_GET, .id = "note_1", .offset = 5 },
          TEXT("note_1 v3, 2026-01-01T00:00:00Z, by bob [x, y]\\nfirst\\n\\nlast\\n"),
          CALL("memory_get", "\"id\":\"note_1\",\"offset\":5"),
          "{\"id\":\"note_1\",\"version\":3,\"text\":\"first\\n\\nlast\"}" },
        { { .op = AIOS_MEMORY_REMOVE, .id = "note_1" },
          TEXT("deleted note_1"),
          CALL("memory_delete", "\"id\":\"note_1\""),
          NULL },
        { { .op = AIOS_MEMORY_SEARCH,
            .text = "w",
            .tags = tags,
            .since = "7d",
            .until = "2026-01-01",
            .semantic = true,
            .shared = true,
            .limit = 3,
            .offset = 6 },
          TEXT("no notes found\\n"),
          CALL("memory_search", "\"text\":\"w\",\"tags\":[\"a "
                                "b\",\"c\"],\"since\":\"7d\",\"until\":\"2026-01-01\",\"semantic\":"
                                "true,\"shared\":true,\"limit\":3,\"offset\":6"),
          NULL },
        { { .op = AIOS_MEMORY_SEARCH },
          TEXT("no notes found\\n"),
          CALL("memory_search", ""),
          NULL },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        struct aios *a = CONNECT({ rows[i].say });
        struct aios_reply *r = a ? aios_memory(a, &rows[i].query, &err) : NULL;

        if (!r)
            fail_msg("row %zu: code %d: %s", i, (int)err.code, err.text);
        if (rows[i].json)
            assert_string_equal(aios_reply_json(r), rows[i].json);
        else
            assert_null(aios_reply_json(r));
        aios_reply_free(r);
        DISCONNECT(a);
        assert_string_equal(arguments(1), rows[i].want);
    }
}

static void storage_is_asked_in_its_tools_words(void **state)
{
    static const struct {
        struct aios_storage_query query;
        const char *say, *want, *json;
    } rows[] = {
        { { .op = AIOS_STORAGE_PUT, .key = "a/b", .data = "v\n", .len = 2 },
          TEXT("kept \\\"a/b\\\" as version 3, 2 bytes"),
          CALL("storage_put", "\"key\":\"a/b\",\"value\":\"v\\n\""),
          "{\"version\":3,\"bytes\":2}" },
        { { .op = AIOS_STORAGE_PUT,
            .key = "\" as version 9",
            .data = "a\0b",
            .len = 3,
            .conditional = true,
            .if_version = 0 },
          TEXT("kept \\\"\\\" as version 9\\\" as version 1, 3 bytes"),
          CALL("storage_put", "\"key\":\"\\\" as version 9\",\"base64\":\"YQBi\",\"if_version\":0"),
          "{\"version\":1,\"bytes\":3}" },
        { { .op = AIOS_STORAGE_PUT,
            .key = "k",
            .data = "\xff",
            .len = 1,
            .conditional = true,
            .if_version = 4 },
          TEXT("kept \\\"k\\\" as version 5, 1 bytes"),
          CALL("storage_put", "\"key\":\"k\",\"base64\":\"/w==\",\"if_version\":4"),
          "{\"version\":5,\"bytes\":1}" },
        { { .op = AIOS_STORAGE_GET, .key = "k", .version = 2, .offset = 3, .max = 4 },
          RESULT("\"content\":[" BLOCK("wxyz") "," BLOCK(
              "[version 2, bytes 3 to 7 of 9, T; go on]") "]"),
          CALL("storage_get", "\"key\":\"k\",\"version\":2,\"offset\":3,\"max\":4"),
          "{\"version\":2,\"bytes\":9,\"offset\":3,\"end\":7}" },
        { { .op = AIOS_STORAGE_GET, .token = "tok" },
          TEXT("[version 2, 0 bytes, T]"),
          CALL("storage_get", "\"token\":\"tok\""),
          "{\"version\":2,\"bytes\":0,\"offset\":0,\"end\":0}" },
        { { .op = AIOS_STORAGE_LIST },
          TEXT("[0 keys here; in all 0 keys]"),
          CALL("storage_list", "\"limit\":50"),
          "{\"keys\":[]}" },
        { { .op = AIOS_STORAGE_LIST, .key = "[p", .cursor = "c" },
          TEXT("[p  version 1  version 3  5 bytes  T\\n[q  version 2  0 bytes  T\\n[2 keys "
               "here]\\n[more with \\\"cursor\\\":\\\"next\\\"]"),
          CALL("storage_list", "\"prefix\":\"[p\",\"cursor\":\"c\",\"limit\":50"),
          "{\"keys\":[{\"key\":\"[p  version "
          "1\",\"version\":3,\"bytes\":5,\"time\":\"T\"},{\"key\":\"[q\",\"version\":2,\"bytes\":0,"
          "\"time\":\"T\"}],\"cursor\":\"next\"}" },
        { { .op = AIOS_STORAGE_DELETE, .key = "k", .conditional = true, .if_version = 7 },
          TEXT("deleted \\\"k\\\" with version 8; how to get it back"),
          CALL("storage_delete", "\"key\":\"k\",\"if_version\":7"),
          "{\"version\":8}" },
        { { .op = AIOS_STORAGE_DELETE, .key = "k", .purge = true },
          TEXT("deleted \\\"k\\\" and all its versions"),
          CALL("storage_delete", "\"key\":\"k\",\"purge\":true"),
          "{}" },
        { { .op = AIOS_STORAGE_VERSIONS, .key = "k" },
          TEXT("version 2  deleted  T\\nversion 1  3 bytes  T\\n[2 versions are kept]"),
          CALL("storage_versions", "\"key\":\"k\",\"action\":\"list\""),
          "{\"versions\":[{\"version\":2,\"deleted\":true,\"time\":\"T\"},{\"version\":1,\"bytes\":"
          "3,\"time\":\"T\"}]}" },
        { { .op = AIOS_STORAGE_ROLLBACK, .key = "k", .version = 1 },
          TEXT("\\\"k\\\" is as it was, as version 4"),
          CALL("storage_versions", "\"key\":\"k\",\"action\":\"rollback\",\"version\":1"),
          "{\"version\":4}" },
        { { .op = AIOS_STORAGE_ROLLBACK, .key = "k", .time = "T" },
          TEXT("\\\"k\\\" is as it was, as version 4: deleted"),
          CALL("storage_versions", "\"key\":\"k\",\"action\":\"rollback\",\"time\":\"T\""),
          "{\"version\":4}" },
        { { .op = AIOS_STORAGE_SHARE, .key = "k", .version = 1, .seconds = 9 },
          TEXT("tok.en\\n[reads \\\"k\\\" until T]"),
          CALL("storage_versions",
               "\"key\":\"k\",\"action\":\"share\",\"version\":1,\"seconds\":9"),
          "{\"token\":\"tok.en\"}" },
        { { .op = AIOS_STORAGE_SHARE, .key = "k" },
          DATA("{\"token\":\"as data\"}"),
          CALL("storage_versions", "\"key\":\"k\",\"action\":\"share\""),
          "{\"token\":\"as data\"}" },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        struct aios *a = CONNECT({ rows[i].say });
        struct aios_reply *r = a ? aios_storage(a, &rows[i].query, &err) : NULL;

        if (!r)
            fail_msg("row %zu: code %d: %s", i, (int)err.code, err.text);
        assert_string_equal(aios_reply_json(r), rows[i].json);
        aios_reply_free(r);
        DISCONNECT(a);
        assert_string_equal(arguments(1), rows[i].want);
    }
}

static void words_that_are_not_understood_are_an_error(void **state)
{
    static const struct aios_memory_query save = { .op = AIOS_MEMORY_ADD, .text = "t" },
                                          note = { .op = AIOS_MEMORY_GET, .id = "n" };
    static const struct aios_storage_query put = { .op = AIOS_STORAGE_PUT, .key = "k" },
                                           get = { .op = AIOS_STORAGE_GET, .key = "k" },
                                           list = { .op = AIOS_STORAGE_LIST },
                                           versions = { .op = AIOS_STORAGE_VERSIONS, .key = "k" };
    static const struct {
        const struct aios_memory_query *memory;
        const struct aios_storage_query *storage;
        const char *say;
    } rows[] = {
        { &save, NULL, TEXT("") },
        { &save, NULL, TEXT("saved note_1") },
        { &save, NULL, TEXT("saved note_1 vx") },
        { &save, NULL, TEXT("saved note_1 v99999999999999999999") },
        { &note, NULL, TEXT("note_1 v1, no text") },
        { &note, NULL, TEXT("note_1 v1\\n") },
        { &note, NULL, RESULT("\"content\":[]") },
        { NULL, &put, TEXT("kept \\\"other\\\" as version 1, 2 bytes") },
        { NULL, &put, TEXT("kept \\\"k\\\" as version , 2 bytes") },
        { NULL, &get, RESULT("\"content\":[]") },
        { NULL, &get, TEXT("no foot") },
        { NULL, &get, TEXT("[version 1, 3 bytes, T]") },
        { NULL, &get,
          RESULT("\"content\":[" BLOCK("abcd") "," BLOCK("[version 1, 3 bytes, T]") "]") },
        { NULL, &get,
          RESULT("\"content\":[" BLOCK("YWJj") "," BLOCK("[base64; version 1, 4 bytes, T]") "]") },
        { NULL, &get,
          RESULT("\"content\":[" BLOCK("a") "," BLOCK("[version 1, bytes 2 to 1 of 3, T]") "]") },
        { NULL, &get,
          RESULT("\"content\":[" BLOCK("a") "," BLOCK("[version 1, bytes 9 to 10 of 3, T]") "]") },
        { NULL, &list, TEXT("k  version 1  5 bytes  T\\n") },
        { NULL, &list, TEXT("k  version 1  5 bytes\\n[1 keys]") },
        { NULL, &list,
          TEXT("k  version 1  5 bytes  T\\n[… 700 bytes left out]\\nz  version 1  5 bytes  T\\n[9 "
               "keys]") },
        { NULL, &list, TEXT("[1 keys]\\n[more with \\\"cursor\\\":\\\"") },
        { NULL, &versions, TEXT("version 1 and so on\\n[1 versions]") },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        struct aios *a = CONNECT({ rows[i].say });
        struct aios_reply *r;

        assert_sdk(a, err);
        err.code = AIOS_OK;
        r = rows[i].memory ? aios_memory(a, rows[i].memory, &err)
                           : aios_storage(a, rows[i].storage, &err);
        if (r || err.code != AIOS_PROTOCOL)
            fail_msg("%s: code %d: %s", rows[i].say, (int)err.code, err.text);
        DISCONNECT(a);
    }
}

static void wrong_queries_are_not_asked(void **state)
{
    static const struct aios_memory_query memory[] = {
        { .op = (enum aios_memory_op)77 },
        { .op = AIOS_MEMORY_ADD },
        { .op = AIOS_MEMORY_GET },
        { .op = AIOS_MEMORY_REMOVE },
        { .op = AIOS_MEMORY_UPDATE, .id = "n" },
        { .op = AIOS_MEMORY_UPDATE, .text = "t" },
        { .op = AIOS_MEMORY_ADD, .text = "\xc3" },
    };
    static const struct aios_storage_query storage[] = {
        { .op = (enum aios_storage_op)77, .key = "k" },
        { .op = AIOS_STORAGE_PUT },
        { .op = AIOS_STORAGE_GET },
        { .op = AIOS_STORAGE_GET, .key = "k", .token = "t" },
        { .op = AIOS_STORAGE_SHARE, .token = "t" },
        { .op = AIOS_STORAGE_PUT, .key = "k", .len = 3 },
        { .op = AIOS_STORAGE_PUT, .key = "\xff" },
    };
    static const struct aios_llm_query llm[] = {
        { .prompt = NULL },
        { .prompt = "p", .messages = "[]" },
        { .messages = "{}" },
        { .messages = "[" },
        { .prompt = "p", .tools = "7" },
        { .prompt = "p", .schema = "[]" },
        { .prompt = "\xff" },
    };
    static const struct aios_tool_query tool[] = {
        { .tool = NULL },
        { .tool = "t", .arguments = "[]" },
        { .tool = "t", .arguments = "{\"a\":1,\"a\":2}" },
    };
    struct aios *a = CONNECT({ TEXT("x") });

    (void)state;
    assert_sdk(a, err);
    for (size_t i = 0; i < SDK_LEN(memory); i++)
        assert_failed(aios_memory(a, &memory[i], &err), err, AIOS_INVALID);
    for (size_t i = 0; i < SDK_LEN(storage); i++)
        assert_failed(aios_storage(a, &storage[i], &err), err, AIOS_INVALID);
    for (size_t i = 0; i < SDK_LEN(llm); i++)
        assert_failed(aios_llm(a, &llm[i], &err), err, AIOS_INVALID);
    for (size_t i = 0; i < SDK_LEN(tool); i++)
        assert_failed(aios_tool(a, &tool[i], &err), err, AIOS_INVALID);
    DISCONNECT(a);
    assert_int_equal(fake.heard, 1); /* the greeting */
}

/* ---- values ---- */

static void a_value_is_put_together_from_its_parts(void **state)
{
    struct aios *a = CONNECT(
        { RESULT("\"content\":[" BLOCK("text\\u0000") "," BLOCK(
            "[version 3, bytes 0 to 5 of 9, T; go on]") "]") },
        { RESULT("\"content\":[" BLOCK("/wD+") "," BLOCK(
            "[base64; version 3, bytes 5 to 8 of 9, T; go on]") "]") },
        { RESULT("\"content\":[" BLOCK("!") "," BLOCK("[version 3, bytes 8 to 9 of 9, T]") "]") });
    uint64_t version;
    size_t len;
    char *value;

    (void)state;
    assert_sdk(a, err);
    value = aios_get(a, "k", &len, &version, &err);
    assert_sdk(value, err);
    assert_int_equal(len, 9);
    assert_memory_equal(value, "text\0\xff\0\xfe!", 10);
    assert_int_equal(version, 3);
    free(value);
    DISCONNECT(a);
    /* The version stays what it was at first. */
    assert_string_equal(arguments(1), CALL("storage_get", "\"key\":\"k\""));
    assert_string_equal(arguments(2),
                        CALL("storage_get", "\"key\":\"k\",\"version\":3,\"offset\":5"));
    assert_string_equal(arguments(3),
                        CALL("storage_get", "\"key\":\"k\",\"version\":3,\"offset\":8"));
}

#define PART(foot) RESULT("\"content\":[" BLOCK("abc") "," BLOCK(foot) "]")

static void parts_that_do_not_fit_are_an_error(void **state)
{
    static const struct {
        const char *second;
        enum aios_code want;
    } rows[] = {
        { PART("[version 1, bytes 0 to 3 of 9, T]"), AIOS_PROTOCOL },
        { TEXT("[version 1, bytes 3 to 3 of 9, T]"), AIOS_PROTOCOL },
        { PART("[version 2, bytes 3 to 6 of 9, T]"), AIOS_REFUSED },
        { ERROR("version 1 is gone"), AIOS_REFUSED },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        struct aios *a =
            CONNECT({ PART("[version 1, bytes 0 to 3 of 9, T; go on]") }, { rows[i].second });
        size_t len;

        assert_sdk(a, err);
        assert_failed(aios_get_shared(a, "token", &len, &err), err, rows[i].want);
        DISCONNECT(a);
        assert_string_equal(arguments(2), CALL("storage_get", "\"token\":\"token\",\"offset\":3"));
    }
}

static void a_note_is_put_together_from_its_parts(void **state)
{
    struct aios *a =
        CONNECT({ TEXT("note_1 v1, T\\nabc\\n[bytes 0 to 3 of 8; more: offset 3]\\n") },
                /* The note itself ends like a page. */
                { TEXT("note_1 v1, T\\nde\\n[bytes 7 to 9 of 8; more: offset 9]\\n") });
    char *note;

    (void)state;
    assert_sdk(a, err);
    note = aios_note(a, "note_1", &err);
    assert_sdk(note, err);
    assert_string_equal(note, "abcde\n[bytes 7 to 9 of 8; more: offset 9]");
    free(note);
    DISCONNECT(a);
    assert_string_equal(arguments(2), CALL("memory_get", "\"id\":\"note_1\",\"offset\":3"));
}

static void the_plain_functions_give_what_they_say(void **state)
{
    struct aios *a =
        CONNECT({ TEXT("saved note_7 v1") }, { TEXT("no notes found\\n") },
                { TEXT("note_7 v1, T\\nfound\\n") }, { TEXT("deleted note_7") },
                { TEXT("kept \\\"k\\\" as version 2, 1 bytes") },
                { TEXT("kept \\\"k\\\" as version 3, 1 bytes") },
                { TEXT("\\\"k\\\" is as it was, as version 4") }, { TEXT("tok\\n[reads]") },
                { TEXT("deleted \\\"k\\\" with version 5; x") });
    uint64_t version = 0;
    char *text;

    (void)state;
    assert_sdk(a, err);
    text = aios_remember(a, "t", NULL, &err);
    assert_string_equal(text, "note_7");
    free(text);
    text = aios_recall(a, "t", 5, &err);
    assert_string_equal(text, "");
    free(text);
    text = aios_recall(a, "t", 0, &err);
    assert_string_equal(text, "note_7 v1, T\nfound\n");
    free(text);
    assert_true(aios_forget(a, "note_7", &err));
    assert_true(aios_put(a, "k", "1", 1, &version, &err));
    assert_int_equal(version, 2);
    assert_true(aios_put_if(a, "k", "2", 1, 2, NULL, &err));
    assert_true(aios_rollback(a, "k", 2, &err));
    text = aios_share(a, "k", 60, &err);
    assert_string_equal(text, "tok");
    free(text);
    assert_true(aios_delete(a, "k", &err));
    DISCONNECT(a);
}

static void base64_is_exact(void **state)
{
    (void)state;
    for (size_t len = 0; len < 300; len++) {
        unsigned char bytes[300], *back;
        size_t is;
        char *text;

        for (size_t i = 0; i < len; i++)
            bytes[i] = (unsigned char)(i * 37 + len);
        text = sdk_base64_encode(bytes, len);
        assert_non_null(text);
        assert_int_equal(strlen(text), (len + 2) / 3 * 4);
        back = sdk_base64_decode(text, strlen(text), &is);
        assert_non_null(back);
        assert_int_equal(is, len);
        assert_memory_equal(back, bytes, len);
        free(back);
        free(text);
    }
}

/* ---- tools and models ---- */

static void an_answer_has_text_data_and_images(void **state)
{
    struct aios *a = CONNECT({ RESULT(
        "\"content\":[" BLOCK("one") ",{\"type\":\"image\",\"data\":\"AP8=\",\"mimeType\":\"image/"
                                     "webp\"}," BLOCK("two") ",{\"type\":\"image\",\"data\":\"\"},{"
                                                             "\"type\":\"new\",\"text\":\"?\"}],"
                                                             "\"structuredContent\":{\"n\":1}") });
    struct aios_tool_query query = { .tool = "t" };
    struct aios_reply *r;
    const char *type;
    const void *data;
    size_t len;

    (void)state;
    assert_sdk(a, err);
    r = aios_tool(a, &query, &err);
    assert_sdk(r, err);
    assert_string_equal(aios_reply_text(r), "one\ntwo");
    assert_string_equal(aios_reply_json(r), "{\"n\":1}");
    assert_int_equal(aios_reply_images(r), 2);
    data = aios_reply_image(r, 0, &len, &type);
    assert_int_equal(len, 2);
    assert_memory_equal(data, "\0\xff", 2);
    assert_string_equal(type, "image/webp");
    assert_non_null(aios_reply_image(r, 1, &len, &type));
    assert_int_equal(len, 0);
    assert_string_equal(type, "image/png");
    assert_null(aios_reply_image(r, 2, &len, &type));
    assert_null(aios_reply_value(r, &len));
    aios_reply_free(r);
    DISCONNECT(a);
}

static void tools_of_all_pages_are_listed(void **state)
{
    struct aios *a =
        CONNECT({ RESULT("\"tools\":[{\"name\":\"a_x\",\"description\":\"d\",\"inputSchema\":{"
                         "\"type\":\"object\"}},{\"name\":\"b_x\"}],\"nextCursor\":\"p2\"") },
                { RESULT("\"tools\":[{\"name\":\"a_y\"},{\"no\":1},7]") });
    char *list;

    (void)state;
    assert_sdk(a, err);
    list = aios_tools(a, "a_", &err);
    assert_sdk(list, err);
    assert_string_equal(list, "[{\"name\":\"a_x\",\"description\":\"d\",\"parameters\":{\"type\":"
                              "\"object\"}},{\"name\":\"a_y\"}]");
    free(list);
    DISCONNECT(a);
    assert_contains(fake.lines[1], "\"aios/all\":true");
    assert_contains(fake.lines[2], "\"aios/all\":true");
    assert_contains(fake.lines[2], "\"cursor\":\"p2\"}");
}

static void a_second_page_that_fails_fails_all(void **state)
{
    struct aios *a = CONNECT({ RESULT("\"tools\":[],\"nextCursor\":\"p2\"") }, { .hang_up = true });

    (void)state;
    assert_sdk(a, err);
    assert_failed(aios_tools(a, NULL, &err), err, AIOS_LOST);
    DISCONNECT(a);
}

static void texts_are_quoted(void **state)
{
    char *quoted = aios_quote("say \"hi\"\n\\", &err);

    (void)state;
    assert_sdk(quoted, err);
    assert_string_equal(quoted, "\"say \\\"hi\\\"\\n\\\\\"");
    free(quoted);
    assert_failed(aios_quote("\xff", &err), err, AIOS_INVALID);
    fault_arm(0);
    quoted = aios_quote("x", &err);
    assert_true(fault_disarm());
    assert_null(quoted);
    assert_int_equal(err.code, AIOS_NOMEM);
}

static void models_are_asked_with_everything_that_is_given(void **state)
{
    struct aios_llm_query query = { .messages = "[{\"role\":\"user\",\"content\":\"m\"}]",
                                    .system = "s",
                                    .provider = "p",
                                    .model = "o",
                                    .tools = "[{\"name\":\"t\"}]",
                                    .schema = "{\"type\":\"object\"}",
                                    .max_tokens = 5,
                                    .temperature_set = true };
    struct aios *a =
        CONNECT({ DATA("{\"text\":\"t\",\"finish\":\"stop\"}") }, { DATA("{\"text\":\"t\"}") });
    struct aios_llm_query plain = { .prompt = "q" };
    struct aios_reply *r;

    (void)state;
    assert_sdk(a, err);
    r = aios_llm(a, &query, &err);
    assert_sdk(r, err);
    assert_string_equal(aios_reply_json(r), "{\"text\":\"t\",\"finish\":\"stop\"}");
    aios_reply_free(r);
    r = aios_llm(a, &plain, &err);
    assert_sdk(r, err);
    aios_reply_free(r);
    DISCONNECT(a);
    assert_string_equal(arguments(1),
                        CALL("llm_query",
                             "\"messages\":[{\"role\":\"user\",\"content\":\"m\"}],\"tools\":[{"
                             "\"name\":\"t\"}],\"schema\":{\"type\":\"object\"},"
                             "\"system\":\"s\",\"provider\":\"p\",\"model\":\"o\",\"max_tokens\":5,"
                             "\"temperature\":0.0,\"data\":true"));
    assert_string_equal(arguments(2), CALL("llm_query", "\"prompt\":\"q\",\"data\":true"));
}

static void an_answer_that_is_not_finished_is_fetched(void **state)
{
    struct aios *a = CONNECT({ TEXT("The model is still working. Fetch its answer with llm_query "
                                    "{\\\"answer\\\": \\\"llm_1\\\"}.") },
                             { DATA("{\"answer\":\"llm_2\"}") }, { DATA("{\"text\":\"done\"}") });
    struct aios_llm_query query = { .prompt = "q" };
    struct aios_reply *r;

    (void)state;
    assert_sdk(a, err);
    r = aios_llm(a, &query, &err);
    assert_sdk(r, err);
    assert_string_equal(aios_reply_json(r), "{\"text\":\"done\"}");
    aios_reply_free(r);
    DISCONNECT(a);
    assert_string_equal(arguments(2), CALL("llm_query", "\"answer\":\"llm_1\",\"data\":true"));
    assert_string_equal(arguments(3), CALL("llm_query", "\"answer\":\"llm_2\",\"data\":true"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_asked_in_its_tools_words),
        cmocka_unit_test(storage_is_asked_in_its_tools_words),
        cmocka_unit_test(words_that_are_not_understood_are_an_error),
        cmocka_unit_test(wrong_queries_are_not_asked),
        cmocka_unit_test(a_value_is_put_together_from_its_parts),
        cmocka_unit_test(parts_that_do_not_fit_are_an_error),
        cmocka_unit_test(a_note_is_put_together_from_its_parts),
        cmocka_unit_test(the_plain_functions_give_what_they_say),
        cmocka_unit_test(base64_is_exact),
        cmocka_unit_test(an_answer_has_text_data_and_images),
        cmocka_unit_test(tools_of_all_pages_are_listed),
        cmocka_unit_test(a_second_page_that_fails_fails_all),
        cmocka_unit_test(texts_are_quoted),
        cmocka_unit_test(models_are_asked_with_everything_that_is_given),
        cmocka_unit_test(an_answer_that_is_not_finished_is_fetched),
    };

    return cmocka_run_group_tests_name("sdk_query", tests, NULL, NULL);
}
