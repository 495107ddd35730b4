#include "kernel/toolmgr.h"

#include "tests/support/check.h"

static bool nothing(struct tool_call *call, const void *args, struct error *err)
{
    (void)call;
    (void)args;
    (void)err;
    return true;
}

struct nothing_args {
    const char *path;
};

static const struct json_field fields[] = {
    { "path", "Where", JSON_KIND_STRING, true, offsetof(struct nothing_args, path), 1, 100 },
    { .name = NULL },
};

#define GOOD(tool_name)                                                                     \
    {                                                                                       \
        .name = tool_name, .title = "Title", .description = "Does it.", .handler = nothing, \
        .fields = fields, .args_size = sizeof(struct nothing_args), .flags = TOOL_READS     \
    }

static const struct tool files[] = { GOOD("file_write"), GOOD("file_read"), GOOD("file_edit") };
static const struct tool terminals[] = { GOOD("terminal_run"), GOOD("terminal_kill") };
static const struct toolset file_set = { "file", files, ARRAY_LEN(files) };
static const struct toolset terminal_set = { "terminal", terminals, ARRAY_LEN(terminals) };

static void finds_by_name_and_lists_in_order(void **state)
{
    static const char *const order[] = { "terminal_run", "terminal_kill", "file_write", "file_read",
                                         "file_edit" };
    struct error err = ERROR_INIT;
    CLEANUP(toolmgr_freep) struct toolmgr *m = toolmgr_new(&err);
    (void)state;

    assert_ok(m, err);
    assert_null(toolmgr_find(m, "file_read"));
    assert_ok(toolmgr_add(m, &terminal_set, &err), err);
    assert_ok(toolmgr_add(m, &file_set, &err), err);
    assert_int_equal(toolmgr_count(m), ARRAY_LEN(order));
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        assert_string_equal(toolmgr_at(m, i)->name, order[i]);
        assert_ptr_equal(toolmgr_find(m, order[i]), toolmgr_at(m, i));
    }
    assert_null(toolmgr_at(m, ARRAY_LEN(order)));
    assert_null(toolmgr_find(m, "file"));
    assert_null(toolmgr_find(m, "file_readx"));
    assert_null(toolmgr_find(m, ""));
    assert_null(toolmgr_find(m, "zzz"));
}

static void takes_a_family_whole_or_not_at_all(void **state)
{
    static const struct tool again[] = { GOOD("a_tool"), GOOD("z_tool"), GOOD("file_read") };
    static const struct toolset set = { "again", again, ARRAY_LEN(again) };
    struct error err = ERROR_INIT;
    CLEANUP(toolmgr_freep) struct toolmgr *m = toolmgr_new(&err);
    (void)state;

    assert_ok(m, err);
    assert_ok(toolmgr_add(m, &file_set, &err), err);
    assert_false(toolmgr_add(m, &set, &err));
    assert_code(err, ERR_EXISTS);
    assert_int_equal(toolmgr_count(m), ARRAY_LEN(files));
    assert_null(toolmgr_find(m, "a_tool"));
    assert_null(toolmgr_find(m, "z_tool"));
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        assert_ptr_equal(toolmgr_find(m, files[i].name), &files[i]);
}

static void refuses_records_that_break_a_rule(void **state)
{
    static const struct json_field undescribed[] = {
        { "path", "", JSON_KIND_STRING, true, offsetof(struct nothing_args, path), 1, 100 },
        { .name = NULL },
    };
    static const struct json_field nested[] = {
        { "inner", "An object", JSON_KIND_OBJECT, false, 0, .fields = undescribed },
        { .name = NULL },
    };
    static const struct json_field badly_named[] = {
        { "Path", "Where", JSON_KIND_STRING, true, 0, 1, 100 },
        { .name = NULL },
    };
    static const struct json_field without_choices[] = {
        { "how", "Which way", JSON_KIND_ENUM, false, 0 },
        { .name = NULL },
    };
    char long_text[2049], most_text[2048];
    const struct {
        const char *label;
        struct tool tool;
        bool ok;
    } rows[] = {
        { "good",
          { "a_b", "T", "D", fields, sizeof(struct nothing_args), 0, NULL, nothing },
          true },
        { "no fields at all", { "a_b", "T", "D", NULL, 0, 0, NULL, nothing }, true },
        { "capitals", { "A_b", "T", "D", NULL, 0, 0, NULL, nothing }, false },
        { "a dash", { "a-b", "T", "D", NULL, 0, 0, NULL, nothing }, false },
        { "no name", { NULL, "T", "D", NULL, 0, 0, NULL, nothing }, false },
        { "empty name", { "", "T", "D", NULL, 0, 0, NULL, nothing }, false },
        { "no title", { "a_b", NULL, "D", NULL, 0, 0, NULL, nothing }, false },
        { "no description", { "a_b", "T", NULL, NULL, 0, 0, NULL, nothing }, false },
        { "the longest description", { "a_b", "T", most_text, NULL, 0, 0, NULL, nothing }, true },
        { "description too long", { "a_b", "T", long_text, NULL, 0, 0, NULL, nothing }, false },
        { "description not UTF-8", { "a_b", "T", "\xff", NULL, 0, 0, NULL, nothing }, false },
        { "no handler", { "a_b", "T", "D", NULL, 0, 0, NULL, NULL }, false },
        { "fields without a struct", { "a_b", "T", "D", fields, 0, 0, NULL, nothing }, false },
        { "reads and destroys",
          { "a_b", "T", "D", NULL, 0, TOOL_READS | TOOL_DESTROYS, NULL, nothing },
          false },
        { "empty field description", { "a_b", "T", "D", undescribed, 8, 0, NULL, nothing }, false },
        { "empty inner field description",
          { "a_b", "T", "D", nested, 8, 0, NULL, nothing },
          false },
        { "badly named field", { "a_b", "T", "D", badly_named, 8, 0, NULL, nothing }, false },
        { "enum without choices",
          { "a_b", "T", "D", without_choices, 8, 0, NULL, nothing },
          false },
        { "empty output description",
          { "a_b", "T", "D", NULL, 0, 0, undescribed, nothing },
          false },
    };
    (void)state;

    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    memset(most_text, 'x', sizeof most_text - 1);
    most_text[sizeof most_text - 1] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct toolset set = { "set", &rows[i].tool, 1 };
        struct error err = ERROR_INIT;
        CLEANUP(toolmgr_freep) struct toolmgr *m = toolmgr_new(&err);
        bool ok = toolmgr_add(m, &set, &err);

        if (ok != rows[i].ok || (!ok && err.code != ERR_INVALID))
            fail_msg("%s: %s", rows[i].label, err.text);
        assert_int_equal(toolmgr_count(m), ok);
    }
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        CLEANUP(toolmgr_freep) struct toolmgr *m = toolmgr_new(&err);
        bool ok = m && toolmgr_add(m, &terminal_set, &err) && toolmgr_add(m, &file_set, &err);

        FAULT_DONE(n);
        if (!ok)
            assert_code(err, ERR_NOMEM);
        else
            assert_int_equal(toolmgr_count(m), 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_by_name_and_lists_in_order),
        cmocka_unit_test(takes_a_family_whole_or_not_at_all),
        cmocka_unit_test(refuses_records_that_break_a_rule),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
