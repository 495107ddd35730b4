/* What libaios promises about memory, storage and tools, against a real kernel.
 *
 * Prints each promise that is broken, and ends with how many there are.  Two connections: "alice"
 * and "bob".  The tools answer in words, which the library reads: this holds the two together. */
#include <aios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE 100000 /* more than four answers */

static int broken;
static struct aios_error err;

#define CHECK(cond)                                                             \
    do {                                                                        \
        err.text[0] = '\0';                                                     \
        if (!(cond)) {                                                          \
            printf("sdk_c.c:%d: not so: %s (%s)\n", __LINE__, #cond, err.text); \
            broken++;                                                           \
        }                                                                       \
    } while (0)

static int has(struct aios_reply *r, const char *part)
{
    int yes = r && aios_reply_json(r) && strstr(aios_reply_json(r), part) != NULL;

    if (!yes)
        snprintf(err.text, sizeof err.text, "%s",
                 r ? aios_reply_json(r) ? aios_reply_json(r) : aios_reply_text(r) : "nothing");
    aios_reply_free(r);
    return yes;
}

static struct aios_reply *stored(struct aios *a, struct aios_storage_query query)
{
    return aios_storage(a, &query, &err);
}

static struct aios_reply *noted(struct aios *a, struct aios_memory_query query)
{
    return aios_memory(a, &query, &err);
}

/* Kept and read again, it is the same. */
static int keeps(struct aios *a, const char *key, const void *data, size_t len)
{
    uint64_t put = 0, got = 0;
    size_t is = 0;
    char *value;
    int same;

    if (!aios_put(a, key, data, len, &put, &err))
        return 0;
    value = aios_get(a, key, &is, &got, &err);
    same = value && is == len && put && put == got && memcmp(value, data, len) == 0 &&
           value[len] == '\0';
    free(value);
    return same;
}

static void values(struct aios *a)
{
    unsigned char *bytes = malloc(LARGE);
    char *text = malloc(LARGE + 1);

    if (!bytes || !text)
        exit(99);
    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    for (size_t i = 0; i < LARGE; i += 2)
        memcpy(text + i, "\xc3\xa4", 2);
    text[0] = 'a';
    text[1] = '\n'; /* from here on no answer ends where a character does */
    CHECK(keeps(a, "empty", "", 0));
    CHECK(keeps(a, "text", "two\nlines", 9));
    CHECK(keeps(a, "with nul", "a\0b", 3));
    CHECK(keeps(a, "nul alone", "\0", 1));
    CHECK(keeps(a, "like a foot", "[base64; version 1, 3 bytes, x]", 31));
    CHECK(keeps(a, "not UTF-8", "abc\xff\xfe", 5));
    CHECK(keeps(a, "half a character", "abc\xc3", 4));
    CHECK(keeps(a, "large bytes", bytes, LARGE));
    CHECK(keeps(a, "large text", text, LARGE));
    CHECK(keeps(a, "odd text", text + 1, LARGE - 1));
    memcpy(bytes, text, LARGE / 2);
    CHECK(keeps(a, "text then bytes", bytes, LARGE));
    CHECK(keeps(a, "the same key", "1", 1) && keeps(a, "the same key", "22", 2));
    free(bytes);
    free(text);
}

static void versions(struct aios *a)
{
    uint64_t version = 0;
    char *text;

    CHECK(aios_put_if(a, "v", "one", 3, 0, &version, &err) && version == 1);
    CHECK(!aios_put_if(a, "v", "no", 2, 0, &version, &err) && err.code == AIOS_REFUSED);
    CHECK(strcmp(err.kind, "exists") == 0);
    CHECK(aios_put_if(a, "v", "two", 3, 1, &version, &err) && version == 2);
    CHECK(has(stored(a, (struct aios_storage_query){ .op = AIOS_STORAGE_VERSIONS, .key = "v" }),
              "{\"versions\":[{\"version\":2,\"bytes\":3,\"time\":\"20"));
    CHECK(has(
        stored(a, (struct aios_storage_query){ .op = AIOS_STORAGE_GET, .key = "v", .version = 1 }),
        "{\"version\":1,\"bytes\":3,\"offset\":0,\"end\":3}"));
    CHECK(has(stored(a,
                     (struct aios_storage_query){
                         .op = AIOS_STORAGE_GET, .key = "v", .offset = 1, .max = 1 }),
              "{\"version\":2,\"bytes\":3,\"offset\":1,\"end\":2}"));
    CHECK(has(stored(a,
                     (struct aios_storage_query){
                         .op = AIOS_STORAGE_PUT, .key = "v", .data = "three", .len = 5 }),
              "{\"version\":3,\"bytes\":5}"));
    CHECK(aios_rollback(a, "v", 1, &err));
    text = aios_get(a, "v", NULL, &version, &err);
    CHECK(text && strcmp(text, "one") == 0 && version == 4);
    free(text);
    CHECK(has(stored(a, (struct aios_storage_query){ .op = AIOS_STORAGE_DELETE,
                                                     .key = "v",
                                                     .conditional = true,
                                                     .if_version = 4 }),
              "{\"version\":5}"));
    CHECK(!aios_get(a, "v", NULL, NULL, &err) && err.code == AIOS_REFUSED);
    CHECK(strcmp(err.kind, "not_found") == 0);
    CHECK(has(stored(a, (struct aios_storage_query){ .op = AIOS_STORAGE_VERSIONS, .key = "v" }),
              "[{\"version\":5,\"deleted\":true,\"time\":\""));
    CHECK(has(stored(a, (struct aios_storage_query){ .op = AIOS_STORAGE_ROLLBACK,
                                                     .key = "v",
                                                     .version = 2 }),
              "{\"version\":6}"));
    CHECK(has(
        stored(a,
               (struct aios_storage_query){ .op = AIOS_STORAGE_DELETE, .key = "v", .purge = true }),
        "{}"));
    CHECK(!aios_rollback(a, "v", 2, &err) && err.code == AIOS_REFUSED);
    CHECK(!aios_delete(a, "v", &err) && err.code == AIOS_REFUSED);
}

/* How often @part stands in @text. */
static int times(const char *text, const char *part)
{
    int n = 0;

    for (; text && (text = strstr(text, part)); text++)
        n++;
    return n;
}

static void lists(struct aios *a)
{
    struct aios_storage_query query = { .op = AIOS_STORAGE_LIST, .key = "[list] /" };
    int keys = 0, pages = 0;
    char key[600], cursor[2048];

    for (int i = 0; i < 120; i++) {
        snprintf(key, sizeof key, "[list] /  version 7  %03d %0460d", i, 0);
        CHECK(aios_put(a, key, "x", 1, NULL, &err));
    }
    for (;;) {
        struct aios_reply *r = aios_storage(a, &query, &err);
        const char *json = r ? aios_reply_json(r) : "", *more = strstr(json, "\"cursor\":\"");

        keys += times(json, "{\"key\":\"[list] /  version 7  ");
        snprintf(cursor, sizeof cursor, "%.*s", more ? (int)strcspn(more + 10, "\"") : 0,
                 more ? more + 10 : "");
        aios_reply_free(r);
        pages++;
        if (!more)
            break;
        query.cursor = cursor;
    }
    CHECK(keys == 120);
    CHECK(pages == 3);
    CHECK(has(
        stored(a, (struct aios_storage_query){ .op = AIOS_STORAGE_LIST, .key = "none of these" }),
        "{\"keys\":[]}"));
    CHECK(has(stored(a, (struct aios_storage_query){ .op = AIOS_STORAGE_LIST }),
              "{\"keys\":[{\"key\":\""));
}

static void shares(struct aios *alice, struct aios *bob)
{
    char *bytes = calloc(1, LARGE), *token, *value;
    size_t len = 0;

    if (!bytes)
        exit(99);
    CHECK(aios_put(alice, "ours/large", bytes, LARGE, NULL, &err));
    token = aios_share(alice, "ours/large", 60, &err);
    CHECK(token);
    CHECK(!aios_get(bob, "ours/large", &len, NULL, &err) && err.code == AIOS_REFUSED);
    value = token ? aios_get_shared(bob, token, &len, &err) : NULL;
    CHECK(value && len == LARGE && memcmp(value, bytes, LARGE) == 0);
    CHECK(!aios_get_shared(bob, "nonsense", &len, &err) && err.code == AIOS_REFUSED);
    free(bytes);
    free(token);
    free(value);
}

static void notes(struct aios *alice, struct aios *bob)
{
    static const char *const tags[] = { "one tag", "other", NULL };
    static const char fake[] = "ends like a page\n[bytes 0 to 16 of 999; more: offset 16]";
    char *large = malloc(LARGE + 1), *id, *text;

    if (!large)
        exit(99);
    memset(large, 'z', LARGE);
    for (size_t i = 100; i + 10 < LARGE; i += 100)
        memcpy(large + i, "\n\xe2\x82\xac word\n", 9);
    large[LARGE] = '\0';
    id = aios_remember(alice, "The cat sleeps in the piano", tags, &err);
    CHECK(id && strncmp(id, "note_", 5) == 0);
    text = id ? aios_note(alice, id, &err) : NULL;
    CHECK(text && strcmp(text, "The cat sleeps in the piano") == 0);
    free(text);
    text = aios_recall(alice, "piano", 5, &err);
    CHECK(text && strstr(text, "The cat sleeps"));
    free(text);
    text = aios_recall(alice, "zebra", 5, &err);
    CHECK(text && !*text);
    free(text);
    text = aios_recall(bob, "piano", 5, &err);
    CHECK(text && !*text);
    free(text);
    CHECK(
        has(noted(alice,
                  (struct aios_memory_query){
                      .op = AIOS_MEMORY_UPDATE, .id = id, .text = "The dog does", .share = "all" }),
            "\"version\":2}"));
    CHECK(has(noted(alice, (struct aios_memory_query){ .op = AIOS_MEMORY_GET, .id = id }),
              "\"text\":\"The dog does\"}"));
    text = id ? aios_note(bob, id, &err) : NULL;
    CHECK(text && strcmp(text, "The dog does") == 0);
    free(text);
    CHECK(!aios_forget(bob, id, &err) && err.code == AIOS_REFUSED);
    CHECK(aios_forget(alice, id, &err));
    CHECK(!aios_note(alice, id, &err) && err.code == AIOS_REFUSED);
    free(id);
    id = aios_remember(alice, large, NULL, &err);
    text = id ? aios_note(alice, id, &err) : NULL;
    CHECK(text && strcmp(text, large) == 0);
    free(text);
    free(id);
    id = aios_remember(alice, fake, NULL, &err);
    text = id ? aios_note(alice, id, &err) : NULL;
    CHECK(text && strcmp(text, fake) == 0);
    free(text);
    free(id);
    CHECK(!aios_remember(alice, "bad \xff", NULL, &err) && err.code == AIOS_INVALID);
    free(large);
}

static void tools(struct aios *a)
{
    struct aios_tool_query none = { .tool = "no_such_tool" }, status = { .tool = "agent_status" };
    struct aios_llm_query question = { .prompt = "hello" };
    char *list = aios_tools(a, "terminal_", &err), *all = aios_tools(a, NULL, &err);

    CHECK(list && strncmp(list, "[{\"name\":\"terminal_", 19) == 0 &&
          strstr(list, "\"parameters\":{"));
    CHECK(all && strstr(all, "\"memory_save\"") && strstr(all, "\"storage_put\""));
    free(list);
    free(all);
    CHECK(!aios_tool(a, &none, &err) && err.code == AIOS_REFUSED);
    CHECK(has(aios_tool(a, &status, &err), "\"agent\":\"alice\""));
    CHECK(!aios_llm(a, &question, &err) && err.code == AIOS_REFUSED);
}

int main(void)
{
    struct aios *alice = aios_connect(&(struct aios_options){ .agent = "alice" }, &err);
    struct aios *bob = alice ? aios_connect(&(struct aios_options){ .agent = "bob" }, &err) : NULL;

    if (!bob) {
        printf("no connection: %s\n", err.text);
        return 98;
    }
    CHECK(strcmp(aios_agent(alice), "alice") == 0);
    CHECK(!aios_connect(&(struct aios_options){ .agent = "no good name" }, &err) &&
          err.code == AIOS_DENIED);
    values(alice);
    versions(alice);
    lists(alice);
    shares(alice, bob);
    notes(alice, bob);
    tools(alice);
    aios_close(alice);
    aios_close(bob);
    return broken;
}
