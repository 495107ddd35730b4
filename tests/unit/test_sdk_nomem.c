/* libaios without memory: every allocation fails once, and the caller is told. */
#include "tests/unit/sdk_fake.h"

static struct aios_error err;

static void *do_search(struct aios *a)
{
    static const char *const tags[] = { "x", "y", NULL };
    struct aios_memory_query query = {
        .op = AIOS_MEMORY_SEARCH, .text = "t", .tags = tags, .limit = 3, .shared = true
    };

    return aios_memory(a, &query, &err);
}

static void *do_list(struct aios *a)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_LIST, .key = "k", .cursor = "c" };

    return aios_storage(a, &query, &err);
}

static void *do_remember(struct aios *a)
{
    return aios_remember(a, "t", NULL, &err);
}

static void *do_recall(struct aios *a)
{
    return aios_recall(a, "t", 1, &err);
}

static void *do_note(struct aios *a)
{
    return aios_note(a, "note_1", &err);
}

static void *do_get(struct aios *a)
{
    return aios_get(a, "k", NULL, NULL, &err);
}

static void *do_put(struct aios *a)
{
    return aios_put_if(a, "k", "\xff\0", 2, 1, NULL, &err) ? &fake : NULL;
}

static void *do_share(struct aios *a)
{
    return aios_share(a, "k", 5, &err);
}

static void *do_tools(struct aios *a)
{
    return aios_tools(a, NULL, &err);
}

static void *do_llm(struct aios *a)
{
    struct aios_llm_query query = {
        .prompt = "p", .system = "s", .tools = "[{\"name\":\"t\"}]", .schema = "{}", .max_tokens = 3
    };

    return aios_llm(a, &query, &err);
}

static void drop_reply(void *reply)
{
    aios_reply_free(reply);
}

static void drop_nothing(void *yes)
{
    assert_true(!yes || yes == &fake);
}

/* No escapes in what comes: jansson asserts that memory does not run out while it reads one. */
static void every_allocation_may_fail(void **state)
{
    static const struct {
        const char *label;
        void *(*act)(struct aios *a);
        void (*drop)(void *);
        const char *says[2];
    } rows[] = {
        { "search", do_search, drop_reply, { TEXT("x") } },
        { "list", do_list, drop_reply, { TEXT("[0 keys here]") } },
        { "remember", do_remember, free, { TEXT("saved note_1 v1") } },
        { "recall", do_recall, free, { TEXT("x") } },
        { "note",
          do_note,
          free,
          { DATA("{\"text\":\"abc\",\"next\":3}"), DATA("{\"text\":\"d\"}") } },
        { "get",
          do_get,
          free,
          { RESULT("\"content\":[" BLOCK("/wA=") "," BLOCK(
                "[base64; version 3, bytes 0 to 2 of 3, T]") "]"),
            RESULT(
                "\"content\":[" BLOCK("x") "," BLOCK("[version 3, bytes 2 to 3 of 3, T]") "]") } },
        { "put", do_put, drop_nothing, { DATA("{\"version\":2}") } },
        { "share", do_share, free, { TEXT("tok") } },
        { "tools",
          do_tools,
          free,
          { RESULT("\"tools\":[{\"name\":\"a\"}],\"nextCursor\":\"p\""),
            RESULT("\"tools\":[{\"name\":\"b\"}]") } },
        { "llm", do_llm, drop_reply, { DATA("{\"answer\":\"x\"}"), DATA("{\"text\":\"t\"}") } },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        for (unsigned n = 0;; n++) {
            struct aios *a = CONNECT({ rows[i].says[0] }, { rows[i].says[1] });
            void *got;
            bool met;

            assert_sdk(a, err);
            err.code = AIOS_OK;
            fault_arm(n);
            got = rows[i].act(a);
            met = fault_disarm();
            DISCONNECT(a);
            if (met && (got || !is_nomem(&err)))
                fail_msg("%s, allocation %u: code %d: %s", rows[i].label, n, (int)err.code,
                         err.text);
            if (!met && !got)
                fail_msg("%s: code %d: %s", rows[i].label, (int)err.code, err.text);
            rows[i].drop(got);
            if (!met)
                break;
        }
    }
}

/* A reply made of texts, read before memory runs out. */
static struct aios_reply *made(const char *first, const char *second)
{
    json_t *list = json_pack("[{s:s, s:s}]", "type", "text", "text", first);

    if (second)
        json_array_append_new(list, json_pack("{s:s, s:s}", "type", "text", "text", second));
    return sdk_reply(json_pack("{s:o}", "content", list), &err);
}

static void words_may_be_read_without_memory(void **state)
{
    static const struct aios_memory_query note = { .op = AIOS_MEMORY_GET };
    static const struct aios_storage_query put = { .op = AIOS_STORAGE_PUT, .key = "k" },
                                           get = { .op = AIOS_STORAGE_GET, .key = "k" },
                                           list = { .op = AIOS_STORAGE_LIST },
                                           versions = { .op = AIOS_STORAGE_VERSIONS, .key = "k" };
    static const struct {
        const struct aios_memory_query *memory;
        const struct aios_storage_query *storage;
        const char *first, *second;
    } rows[] = {
        { &note, NULL, "note_1 v1, T\nabc\n[bytes 0 to 3 of 4; more: offset 3]\n", NULL },
        { NULL, &put, "kept \"k\" as version 1, 2 bytes", NULL },
        { NULL, &get, "/wA=", "[base64; version 3, 2 bytes, T]" },
        { NULL, &get, "text", "[version 3, 4 bytes, T]" },
        { NULL, &list,
          "k  version 1  5 bytes  T\nl  version 1  5 bytes  T\n[2 keys]\n[more with "
          "\"cursor\":\"d\"]",
          NULL },
        { NULL, &versions, "version 2  deleted  T\nversion 1  5 bytes  T\n[2 versions]", NULL },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        for (unsigned n = 0;; n++) {
            struct aios_reply *r = made(rows[i].first, rows[i].second);
            bool ok, met;

            assert_sdk(r, err);
            err.code = AIOS_OK;
            fault_arm(n);
            ok = rows[i].memory ? sdk_words_memory(r, rows[i].memory, &err)
                                : sdk_words_storage(r, rows[i].storage, &err);
            met = fault_disarm();
            aios_reply_free(r);
            if (ok == met || (met && err.code != AIOS_NOMEM))
                fail_msg("row %zu, allocation %u: code %d: %s", i, n, (int)err.code, err.text);
            if (!met)
                break;
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(words_may_be_read_without_memory),
    };

    return cmocka_run_group_tests_name("sdk_nomem", tests, NULL, NULL);
}
