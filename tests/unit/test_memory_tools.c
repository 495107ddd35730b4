#include "kernel/kernel.h"
#include "kernel/tool.h"
#include "tests/unit/memory_place.h"
#include "tools/toolkit.h"

static struct place place;
static bool is_down;

struct memory *__wrap_kernel_memory(struct kernel *k, struct error *err);
struct memory *__wrap_kernel_memory(struct kernel *k, struct error *err)
{
    assert_null(k);
    if (is_down)
        error_set(err, ERR_BUSY, "another kernel (process 1) uses the notes");
    return is_down ? NULL : place.m;
}

/* What a call put aside for its next turn. */
static void *aside;

bool __wrap_tool_call_yield(struct tool_call *call, void *state, void (*state_free)(void *state));
bool __wrap_tool_call_yield(struct tool_call *call, void *state, void (*state_free)(void *state))
{
    (void)call;
    (void)state_free;
    assert_null(aside);
    aside = state;
    return true;
}

void *__wrap_tool_call_resume(struct tool_call *call);
void *__wrap_tool_call_resume(struct tool_call *call)
{
    (void)call;
    return STEAL(aside);
}

static int make(void **state)
{
    if (folder_make(state))
        return -1;
    place_new(&place);
    is_down = false;
    return 0;
}

static int drop(void **state)
{
    place_free(&place);
    return folder_remove(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)

/* The answer of @agent's call, or "CODE: text" of its error. */
static const char *call_as(const char *agent, const char *name, const char *json)
{
    static char answer[64 << 10];
    static char args[256] __attribute__((aligned(16)));
    const struct tool *tool = NULL;
    struct error err = ERROR_INIT;
    struct result result;
    struct tool_call call = { .wait = soon(), .result = &result };
    json_t *object = json_parse(json, strlen(json), &err);

    assert_ok(object, err);
    for (size_t i = 0; i < toolset_memory.count; i++)
        if (!strcmp(toolset_memory.tools[i].name, name))
            tool = &toolset_memory.tools[i];
    assert_non_null(tool);
    assert_true(tool->args_size <= sizeof args);
    assert_int_equal(tool->class, SYSCALL_MEMORY);
    call.tool = tool;
    call.agent = agent_new(agent, strcmp(agent, "eve") ? "team" : NULL, &err);
    assert_ok(call.agent, err);
    result_init(&result);
    if (json_fields_read(tool->fields, object, args, &err) && tool->handler(&call, args, &err)) {
        assert_int_equal(result.count, 1);
        (void)snprintf(answer, sizeof answer, "%s", buf_str(&result.blocks[0].data));
    } else {
        assert_int_not_equal(err.code, ERR_NONE);
        (void)snprintf(answer, sizeof answer, "%s: %s", error_code_name(err.code), err.text);
    }
    result_fini(&result);
    agent_unref(call.agent);
    json_decref(object);
    return answer;
}

static const char *call(const char *name, const char *json)
{
    return call_as("alice", name, json);
}

static struct id_of saved(const char *json)
{
    struct id_of id = { "" };
    const char *answer = call("memory_save", json);

    if (sscanf(answer, "saved %39[a-zA-Z0-9_] v1", id.text) != 1)
        fail_msg("%s", answer);
    return id;
}

static const char *with_id(const char *format, const struct id_of *id)
{
    static char text[256];

    (void)snprintf(text, sizeof text, "{\"id\":\"%s\"%s}", id->text, format);
    return text;
}

static void saves_finds_shows_and_deletes(void **state)
{
    struct id_of id = saved("{\"text\":\"the gate code is 4711\",\"tags\":[\"door\",\"codes\"]}");
    char head[96];
    const char *answer;
    (void)state;

    (void)snprintf(head, sizeof head, "%s v1, 20", id.text);
    answer = call("memory_search", "{\"text\":\"what is the code of the gate?\"}");
    assert_int_equal(strncmp(answer, head, strlen(head)), 0);
    assert_contains(answer, "Z [door, codes]\nthe gate code is 4711\n");
    assert_contains(call("memory_get", with_id("", &id)), "\nthe gate code is 4711\n");
    assert_contains(call("memory_save", with_id(",\"text\":\"the gate code is 4712\"", &id)),
                    " v2");
    assert_contains(call("memory_search", "{\"tags\":[\"door\"]}"), "4712");
    assert_contains(call("memory_delete", with_id("", &id)), "deleted note_");
    assert_string_equal(call("memory_search", "{}"), "no notes found\n");
    assert_contains(call("memory_get", with_id("", &id)), "not_found: no note note_");
}

static void shows_who_shares_a_note(void **state)
{
    struct id_of id = saved("{\"text\":\"for the team\",\"share\":\"group\"}");
    (void)state;

    assert_string_equal(call_as("bob", "memory_search", "{\"text\":\"team\"}"), "no notes found\n");
    assert_contains(call_as("bob", "memory_search", "{\"text\":\"team\",\"shared\":true}"),
                    ", by alice\nfor the team");
    assert_contains(call("memory_search", "{\"text\":\"team\"}"), ", shared\n");
    assert_contains(call_as("bob", "memory_delete", with_id("", &id)), "denied: note");
    assert_contains(call_as("eve", "memory_get", with_id("", &id)), "not_found: ");
    assert_contains(call_as("eve", "memory_save", "{\"text\":\"x\",\"share\":\"group\"}"),
                    "is in no group");
    assert_contains(call("memory_save", with_id(",\"text\":\"for the team, too\"", &id)), " v2");
    assert_contains(call_as("bob", "memory_get", with_id("", &id)), "too"); /* still shared */
}

static void pages_and_cuts_long_notes(void **state)
{
    char *text = malloc(60001), *json = malloc(61000);
    struct id_of id;
    const char *answer;
    (void)state;

    assert_true(text && json);
    for (int i = 0; i < 60000; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3);
    text[60000] = '\0';
    (void)snprintf(json, 61000, "{\"text\":\"long %s\"}", text);
    id = saved(json);
    for (int i = 0; i < 12; i++)
        saved("{\"text\":\"short\"}");
    answer = call("memory_search", "{\"text\":\"long\"}");
    assert_contains(answer, "of 60005 bytes; memory_get shows all)");
    assert_contains(call("memory_search", "{}"), "[more: offset 10]");
    assert_null(strstr(call("memory_search", "{\"offset\":10}"), "[more"));
    assert_contains(call("memory_get", with_id("", &id)), "of 60005; more: offset 24575]");
    assert_contains(call("memory_get", with_id(",\"offset\":24575", &id)), "[bytes 24575 to ");
    assert_null(strstr(call("memory_get", with_id(",\"offset\":49000", &id)), "[bytes"));
    assert_contains(call("memory_get", with_id(",\"offset\":200000", &id)), "note_");
    free(text);
    free(json);
}

static void reads_times(void **state)
{
    static const struct {
        const char *since;
        bool finds, refused;
    } rows[] = {
        { "2020-01-01", true, false },
        { "2020-01-01T10:00", true, false },
        { "2020-01-01 10:00:30", true, false },
        { "2020-01-01T10:00:30.123Z", true, false },
        { "2020-01-01T10:00:30+02:00", true, false },
        { "1970-01-01", true, false },
        { "2200-01-01", false, false },
        { "1h", true, false },
        { "7d", true, false },
        { "999999w", true, false },
        { "", true, false },
        { "yesterday", false, true },
        { "2020-13-01", false, true },
        { "2026-02-31", false, true },
        { "2025-02-29T10:00Z", false, true },
        { "2024-02-29", true, false },
        { "2020-01-01T", false, true },
        { "2020-01-01T10:00+2", false, true },
        { "2020-01-01junk", false, true },
        { "7y", false, true },
        { "d", false, true },
        { "-1d", false, true },
    };
    (void)state;

    saved("{\"text\":\"now\",\"id\":\"\"}"); /* no id is none */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char json[128];
        const char *answer;

        (void)snprintf(json, sizeof json, "{\"since\":\"%s\"}", rows[i].since);
        answer = call("memory_search", json);
        if ((strstr(answer, "\nnow\n") != NULL) != rows[i].finds ||
            (strstr(answer, "invalid: ") != NULL) != rows[i].refused)
            fail_msg("%s: %s", rows[i].since, answer);
    }
    assert_string_equal(call("memory_search", "{\"until\":\"2020-01-01\"}"), "no notes found\n");
}

static void tells_what_is_wrong(void **state)
{
    static const struct {
        const char *tool, *json, *want;
    } rows[] = {
        { "memory_save", "{}", "invalid: " },
        { "memory_save", "{\"text\":\"\"}", "must not be empty" },
        { "memory_save", "{\"text\":\"a\\u0000b\"}", "without NUL" },
        { "memory_save", "{\"text\":\"a\",\"share\":\"world\"}", "invalid: " },
        { "memory_save", "{\"text\":\"a\",\"id\":\"../x\"}", "not_found: no note ../x" },
        { "memory_search", "{\"limit\":0}", "invalid: " },
        { "memory_search", "{\"limit\":101}", "invalid: " },
        { "memory_search", "{\"text\":\"x\",\"semantic\":true}", "embed_model" },
        { "memory_search", "{\"semantic\":true}", "needs a text" },
        { "memory_get", "{\"id\":\"note_x\"}", "memory_search finds" },
        { "memory_delete", "{\"id\":\"\"}", "invalid: " },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_contains(call(rows[i].tool, rows[i].json), rows[i].want);
    is_down = true;
    for (size_t i = 0; i < toolset_memory.count; i++)
        assert_contains(call(toolset_memory.tools[i].name, i == 0   ? "{\"text\":\"a\"}"
                                                           : i == 1 ? "{}"
                                                                    : "{\"id\":\"x\"}"),
                        "busy: another kernel");
}

static void stays_small(void **state)
{
    size_t bytes = 0;
    (void)state;

    for (size_t i = 0; i < toolset_memory.count; i++) {
        const struct tool *t = &toolset_memory.tools[i];
        json_t *schema = json_fields_schema(t->fields);
        char *text = json_dumps(schema, JSON_COMPACT);

        bytes += strlen(t->name) + strlen(t->title) + strlen(t->description) + strlen(text);
        free(text);
        json_decref(schema);
    }
    print_message("%zu bytes\n", bytes);
    assert_true(bytes <= 2560);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(saves_finds_shows_and_deletes), TEST(shows_who_shares_a_note),
        TEST(pages_and_cuts_long_notes),     TEST(reads_times),
        TEST(tells_what_is_wrong),           cmocka_unit_test(stays_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
