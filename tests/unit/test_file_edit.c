/* The family file, in a real computer: editing, reading, writing, listing and searching. */
#include "tests/unit/code_place.h"

static struct place place;
static struct answer got;

static int make_place(void **state)
{
    (void)state;
    place_new(&place, 60000);
    return 0;
}

static int drop_place(void **state)
{
    (void)state;
    place_free(&place);
    return 0;
}

static void write_file(const char *path, const char *text)
{
    const char *said =
        call(&place, &got, "file_write", json_pack("{s:s,s:s}", "path", path, "content", text));

    if (got.is_error)
        fail_msg("%s: %s", path, said);
}

static void assert_file(const char *path, const char *text)
{
    char command[200];
    const char *said;

    (void)snprintf(command, sizeof command, "cat %s", path);
    said = call(&place, &got, "terminal_run", json_pack("{s:s}", "command", command));
    if (strncmp(said, text, strlen(text)) != 0 || strncmp(said + strlen(text), "\n[exit", 6) != 0)
        fail_msg("wanted %s, got %s", text, said);
}

static const char *edit(const char *path, const char *old, const char *new, const char *flag)
{
    json_t *args = json_pack("{s:s,s:s,s:s}", "path", path, "old_text", old, "new_text", new);

    if (flag)
        assert_int_equal(json_object_set_new(args, flag, json_true()), 0);
    return call(&place, &got, "file_edit", args);
}

/* ---- editing ---- */

static void replaces_one_place_and_shows_the_change(void **state)
{
    const char *said;
    (void)state;

    write_file("a.txt", "one\ntwo\nthree\n");
    said = edit("a.txt", "two", "2", NULL);
    assert_false(got.is_error);
    assert_contains(said,
                    "--- /workspace/a.txt\n+++ /workspace/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n"
                    "+2\n three\n");
    assert_contains(said, "[1 replacement written]");
    assert_file("a.txt", "one\n2\nthree\n");
}

static void shows_without_writing(void **state)
{
    const char *said;
    (void)state;

    write_file("dry.txt", "one\n");
    said = edit("dry.txt", "one", "two", "dry_run");
    assert_contains(said, "-one\n+two\n");
    assert_contains(said, "[dry run: 1 replacement, nothing written]");
    assert_file("dry.txt", "one\n");
}

static void replaces_every_place_when_asked_to(void **state)
{
    const char *said;
    (void)state;

    write_file("all.txt", "x x\nx\n");
    said = edit("all.txt", "x", "yy", NULL);
    assert_true(got.is_error);
    assert_contains(said, "occurs 3 times in /workspace/all.txt (lines 1, 1, …)");
    assert_contains(said, "replace_all");
    said = edit("all.txt", "x", "yy", "replace_all");
    assert_contains(said, "[3 replacements written]");
    assert_file("all.txt", "yy yy\nyy\n");
}

static void keeps_the_mode_of_the_file(void **state)
{
    const char *said;
    (void)state;

    call(&place, &got, "terminal_run",
         json_pack("{s:s}", "command", "printf '#!/bin/sh\\necho one\\n' > s.sh; chmod 751 s.sh"));
    (void)edit("s.sh", "one", "two", NULL);
    assert_false(got.is_error);
    said = call(&place, &got, "terminal_run",
                json_pack("{s:s}", "command", "stat -c %a s.sh; ./s.sh"));
    assert_contains(said, "751\ntwo\n");
}

static void names_the_place_when_only_white_space_differs(void **state)
{
    const char *said;
    (void)state;

    write_file("space.c", "int main(void)\n{\n\treturn 0;\n}\n");
    said = edit("space.c", "{\n    return 0;\n}", "{}", NULL);
    assert_true(got.is_error);
    assert_contains(said, "it stands at line 2 with other white space");
    assert_contains(said, "file_read {\"path\":\"space.c\",\"from_line\":2}");
    said = edit("space.c", "nowhere", "x", NULL);
    assert_contains(said, "is not in /workspace/space.c; read the file");
}

static void an_unlucky_search_does_not_take_for_ever(void **state)
{
    char *old = malloc(60001);
    struct timespec start, now;
    (void)state;

    /* Each of millions of places nearly matches, to the last character. */
    assert_non_null(old);
    memset(old, 'a', 60000);
    old[59999] = 'b';
    old[60000] = '\0';
    call(&place, &got, "terminal_run",
         json_pack("{s:s}", "command", "head -c 8000000 /dev/zero | tr '\\0' a > a.bin"));
    clock_gettime(CLOCK_MONOTONIC, &start);
    (void)edit("a.bin", old, "x", NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    assert_true(got.is_error);
    assert_true(now.tv_sec - start.tv_sec < 30);
    free(old);
}

static void refuses_what_cannot_be_edited(void **state)
{
    (void)state;

    assert_contains(edit("absent.txt", "a", "b", NULL), "there is no /workspace/absent.txt");
    assert_true(got.is_error);
    write_file("empty.txt", "");
    assert_contains(edit("empty.txt", "a", "b", NULL), "is not in /workspace/empty.txt");
    assert_contains(edit("empty.txt", "", "b", NULL), "old_text is empty");
    assert_contains(edit("/", "a", "b", NULL), "/");
    assert_true(got.is_error);
}

/* ---- reading ---- */

static const char *read_file(json_t *args)
{
    return call(&place, &got, "file_read", args);
}

static void reads_lines_and_says_which(void **state)
{
    static const struct {
        const char *label, *text;
        int from, to;
        const char *want;
    } rows[] = {
        { "whole", "1\n2\n3\n", 1, 99, "1\n2\n3\n\n[lines 1 to 3 of 3, 6 bytes in all]" },
        { "no newline at the end", "1\n2", 1, 99, "1\n2\n[lines 1 to 2 of 2, 3 bytes in all]" },
        { "a part", "1\n2\n3\n4\n", 2, 3, "2\n3\n\n[lines 2 to 3 of 4, 8 bytes in all]" },
        { "the last", "1\n2\n3\n", 3, 3, "3\n\n[lines 3 to 3 of 3, 6 bytes in all]" },
        { "beyond the end", "1\n2\n", 7, 9, "[the file has no line 7; it has 2, 4 bytes in all]" },
        { "empty", "", 1, 9, "[the file is empty, 0 bytes in all]" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *said;

        write_file("lines.txt", rows[i].text);
        said = read_file(json_pack("{s:s,s:i,s:i}", "path", "lines.txt", "from_line", rows[i].from,
                                   "to_line", rows[i].to));
        if (strcmp(said, rows[i].want) != 0)
            fail_msg("%s: %s", rows[i].label, said);
    }
}

static void long_files_are_read_page_by_page(void **state)
{
    unsigned next = 1;
    int pages = 0;
    (void)state;

    call(&place, &got, "terminal_run", json_pack("{s:s}", "command", "seq 1 20000 > seq.txt"));
    while (next <= 20000) {
        const char *said =
            read_file(json_pack("{s:s,s:i}", "path", "seq.txt", "from_line", (int)next));
        const char *on = strstr(said, "\"from_line\":");
        char first[16];

        (void)snprintf(first, sizeof first, "%u\n", next);
        assert_int_equal(strncmp(said, first, strlen(first)), 0);
        pages++;
        if (!on)
            break;
        assert_int_equal(sscanf(on, "\"from_line\":%u", &next), 1);
    }
    assert_true(pages >= 4 && pages < 10);
    assert_contains(got.text, "\n20000\n");
    assert_contains(got.text, " to 20000 of 20000");
}

static void a_line_that_does_not_fit_says_where_its_rest_is(void **state)
{
    const char *said;
    unsigned long offset;
    (void)state;

    call(&place, &got, "terminal_run",
         json_pack(
             "{s:s}", "command",
             "(echo first; head -c 50000 /dev/zero | tr '\\0' y; echo; echo last) > long.txt"));
    said = read_file(json_pack("{s:s,s:i}", "path", "long.txt", "from_line", 2));
    assert_contains(said, "[the beginning of line 2 of 3");
    said = strstr(said, "its rest: file_read {\"path\":\"/workspace/long.txt\",\"offset\":");
    assert_non_null(said);
    assert_int_equal(sscanf(strstr(said, "offset\":"), "offset\":%lu", &offset), 1);
    said = read_file(
        json_pack("{s:s,s:i,s:i}", "path", "long.txt", "offset", (int)offset, "bytes", 24000));
    assert_contains(said, "y\nlast\n");
}

static void reads_bytes_exactly(void **state)
{
    const char *said;
    (void)state;

    call(&place, &got, "terminal_run",
         json_pack("{s:s}", "command", "printf 'a\\377\\000b' > bytes.bin"));
    said = read_file(
        json_pack("{s:s,s:i,s:s}", "path", "bytes.bin", "offset", 0, "encoding", "base64"));
    assert_string_equal(said, "Yf8AYg==\n[bytes 0 to 4 of 4]");
    said = read_file(json_pack("{s:s,s:i,s:i}", "path", "bytes.bin", "offset", 1, "bytes", 1));
    assert_contains(said, "\xef\xbf\xbd\n[bytes 1 to 2 of 4; 1 pieces were not valid UTF-8");
}

/* ---- writing ---- */

static void writes_in_each_mode(void **state)
{
    (void)state;

    write_file("new/folder/a.txt", "one\n");
    call(&place, &got, "file_write",
         json_pack("{s:s,s:s,s:s}", "path", "new/folder/a.txt", "content", "two\n", "mode",
                   "append"));
    assert_file("new/folder/a.txt", "one\ntwo\n");
    call(&place, &got, "file_write",
         json_pack("{s:s,s:s,s:s}", "path", "new/folder/a.txt", "content", "x", "mode", "create"));
    assert_true(got.is_error);
    call(&place, &got, "file_write",
         json_pack("{s:s,s:s,s:s}", "path", "b64", "content", "aGkK", "encoding", "base64"));
    assert_file("b64", "hi\n");
    call(&place, &got, "file_write",
         json_pack("{s:s,s:s,s:s}", "path", "b64", "content", "!!", "encoding", "base64"));
    assert_true(got.is_error);
}

/* ---- listing and searching ---- */

static void lists_what_matches(void **state)
{
    const char *said;
    (void)state;

    call(&place, &got, "terminal_run",
         json_pack(
             "{s:s}", "command",
             "mkdir -p l/sub && cd l && touch a.py b.txt .hidden.py sub/c.py && ln -s a.py link "
             "&& mkfifo pipe && touch $'odd\\nname' 2>/dev/null || touch \"$(printf "
             "'odd\\nname')\""));
    said = call(&place, &got, "file_list", json_pack("{s:s}", "path", "l"));
    assert_contains(said, "  sub/\n");
    assert_contains(said, "  link -> a.py\n");
    assert_contains(said, "  pipe|\n");
    assert_null(strstr(said, ".hidden"));
    assert_null(strstr(said, "\nname")); /* a name stays on its line */
    said = call(&place, &got, "file_list",
                json_pack("{s:s,s:s,s:i}", "path", "l", "glob", "*.py", "depth", 3));
    assert_contains(said, "  a.py\n");
    assert_contains(said, "  sub/c.py\n");
    assert_null(strstr(said, "b.txt"));
    assert_contains(said, ": 2 entries]");
    said = call(&place, &got, "file_list",
                json_pack("{s:s,s:s,s:b}", "path", "l", "glob", "*.py", "hidden", 1));
    assert_contains(said, "  .hidden.py\n");
    said = call(&place, &got, "file_list", json_pack("{s:s,s:i}", "path", "l", "limit", 2));
    assert_contains(said, "there are more");
    (void)call(&place, &got, "file_list", json_pack("{s:s}", "path", "absent"));
    assert_true(got.is_error);
    said = call(&place, &got, "file_list", json_pack("{s:s}", "glob", "*********"));
    assert_contains(said, "9 stars");
}

static void finds_text_in_files(void **state)
{
    static const char many[] =
        "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4";
    char glob[600];
    const char *said;
    (void)state;

    write_file("f/a.c", "one\ntwo (2)\nthree\n");
    write_file("f/b.h", "TWO\n");
    said =
        call(&place, &got, "file_search", json_pack("{s:s,s:s}", "path", "f", "pattern", "tw[ox]"));
    assert_string_equal(said, "/workspace/f/a.c:2:two (2)\n");
    said = call(&place, &got, "file_search",
                json_pack("{s:s,s:s,s:b}", "path", "f", "pattern", "(2)", "literal", 1));
    assert_contains(said, "a.c:2:");
    said = call(&place, &got, "file_search",
                json_pack("{s:s,s:s,s:b,s:s}", "path", "f", "pattern", "two", "ignore_case", 1,
                          "glob", "*.h"));
    assert_string_equal(said, "/workspace/f/b.h:1:TWO\n");
    said = call(&place, &got, "file_search",
                json_pack("{s:s,s:s,s:i}", "path", "f", "pattern", "two", "context", 1));
    assert_contains(said, "a.c-1-one\n");
    said = call(&place, &got, "file_search",
                json_pack("{s:s,s:s,s:i}", "path", "f", "pattern", ".", "limit", 2));
    assert_contains(said, "[cut after 2 lines");
    said =
        call(&place, &got, "file_search", json_pack("{s:s,s:s}", "path", "f", "pattern", "absent"));
    assert_contains(said, "[nothing in /workspace/f matches]");
    (void)call(&place, &got, "file_search", json_pack("{s:s,s:s}", "path", "f", "pattern", "("));
    assert_true(got.is_error);
    said = call(&place, &got, "file_search", json_pack("{s:s,s:s}", "path", "f", "pattern", "-e"));
    assert_false(got.is_error);
    /* A glob's limit counts characters, of which one may have four bytes. */
    (void)snprintf(glob, sizeof glob, "%s%s%s%s%s*.c", many, many, many, many, many);
    said = call(&place, &got, "file_search",
                json_pack("{s:s,s:s,s:s}", "path", "f", "pattern", "one", "glob", glob));
    assert_contains(said, "matches]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaces_one_place_and_shows_the_change),
        cmocka_unit_test(shows_without_writing),
        cmocka_unit_test(replaces_every_place_when_asked_to),
        cmocka_unit_test(keeps_the_mode_of_the_file),
        cmocka_unit_test(names_the_place_when_only_white_space_differs),
        cmocka_unit_test(an_unlucky_search_does_not_take_for_ever),
        cmocka_unit_test(refuses_what_cannot_be_edited),
        cmocka_unit_test(reads_lines_and_says_which),
        cmocka_unit_test(long_files_are_read_page_by_page),
        cmocka_unit_test(a_line_that_does_not_fit_says_where_its_rest_is),
        cmocka_unit_test(reads_bytes_exactly),
        cmocka_unit_test(writes_in_each_mode),
        cmocka_unit_test(lists_what_matches),
        cmocka_unit_test(finds_text_in_files),
    };

    return cmocka_run_group_tests(tests, make_place, drop_place);
}
