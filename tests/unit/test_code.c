#include "tests/unit/code_place.h"

/* clang-format off */
static const char *const languages[] = { "python", "javascript", "bash", "c" };
/* clang-format on */

static struct place place;
static struct answer got;
static bool has[ARRAY_LEN(languages)]; /* in the computer */

static int make_place(void **state)
{
    (void)state;
    place_new(&place, 90000);
    for (size_t i = 0; i < ARRAY_LEN(languages); i++) {
        const char *text = cell(&place, &got, languages[i], "probe", ";");

        has[i] = !strstr(text, "is not in this computer");
        if (strstr(text, "sandbox") && got.is_error && has[i]) {
            print_message("%s\n", text);
            return -1;
        }
        if (!has[i])
            print_message("%s\n", text);
    }
    return 0;
}

static int drop_place(void **state)
{
    (void)state;
    place_free(&place);
    return 0;
}

/* Each test has a computer of its own. */
static int drop_computers(void **state)
{
    static struct answer list;
    const char *at = call(&place, &list, "computer_list", json_object());
    char id[64];
    (void)state;

    while ((at = strstr(at, "\"computer\":\"")) != NULL) {
        if (sscanf(at, "\"computer\":\"%63[^\"]", id) != 1)
            return -1;
        call(&place, &got, "computer_destroy", json_pack("{s:s}", "computer", id));
        at++;
    }
    return 0;
}

static bool missing(const char *language)
{
    for (size_t i = 0; i < ARRAY_LEN(languages); i++)
        if (strcmp(languages[i], language) == 0)
            return !has[i];
    return true;
}

struct row {
    const char *label, *language, *code;
    const char *want[4]; /* each is in the answer */
    const char * not ;   /* and this is not */
};

/* One cell after the other, all in one context for each language. */
static void check_rows(const struct row *rows, size_t count, const char *context)
{
    for (size_t i = 0; i < count; i++) {
        const struct row *row = &rows[i];
        const char *text;

        if (missing(row->language))
            continue;
        text = cell(&place, &got, row->language, context, row->code);
        for (size_t k = 0; k < ARRAY_LEN(row->want) && row->want[k]; k++)
            if (!strstr(text, row->want[k]))
                fail_msg("%s (%s): no \"%s\" in \"%s\"", row->label, row->language, row->want[k],
                         text);
        if (row->not &&strstr(text, row->not ))
            fail_msg("%s (%s): \"%s\" is in \"%s\"", row->label, row->language, row->not, text);
    }
}

static void keeps_state_and_shows_the_last_value(void **state)
{
    static const struct row rows[] = {
        { "makes", "python", "import os\nx = 41\nprint('hi')", { "hi", "[ok, " }, NULL },
        { "value", "python", "x + 1", { "42", "[ok, " }, NULL },
        { "no value for None", "python", "None", { "[ok, " }, "None" },
        { "quiet", "python", "x;", { "[ok, " }, "41" },
        { "await",
          "python",
          "import asyncio\nawait asyncio.sleep(0, 'slept')",
          { "'slept'" },
          NULL },
        { "main", "python", "__name__, os.getcwd()", { "('__main__', '/workspace')" }, NULL },
        { "makes", "javascript", "const x = 41; console.log('hi')", { "hi\n[ok, " }, "undefined" },
        { "value", "javascript", "x + 1", { "42" }, NULL },
        { "again", "javascript", "let x = { a: [1, 2] }; x", { "{ a: [ 1, 2 ] }" }, NULL },
        { "await",
          "javascript",
          "await new Promise((r) => setTimeout(() => r('later'), 1))",
          { "'later'" },
          NULL },
        { "import",
          "javascript",
          "import { join } from 'node:path';\nconst os = await import('os');\n"
          "join('a', typeof os.cpus)",
          { "'a/function'" },
          NULL },
        { "require", "javascript", "require('fs').existsSync('/workspace')", { "true" }, NULL },
        { "makes", "bash", "x=41; f() { echo \"f $1 it's\"; }; cd /usr", { "[ok, " }, NULL },
        { "value",
          "bash",
          "f $x; pwd; (exit 7)",
          { "f 41 it's", "/usr", "[exit status 7, " },
          NULL },
        { "status", "bash", "echo \"status $?\"", { "status 7" }, NULL },
        { "makes",
          "c",
          "#include <stdio.h>\nint x = 41;\nint twice(int a) { return 2 * a; }\n"
          "printf(\"hi\\n\");",
          { "hi\n[ok, " },
          NULL },
        { "value", "c", "x += 1; twice(x) / 2", { "42" }, NULL },
        { "types",
          "c",
          "struct p { int a; } s = { 7 };\nchar *names[] = { \"a\", \"b\" };",
          { "[ok" },
          NULL },
        { "later",
          "c",
          "for (int i = 0; i < 2; i++)\n    printf(\"%s%d\\n\", names[i], s.a);\n"
          "sizeof(names) / sizeof(*names)",
          { "a7\nb7\n2\n[ok" },
          NULL },
        { "defined anew", "c", "int twice(int a) { return 3 * a; }\ntwice(2)", { "6" }, NULL },
        { "a whole program",
          "c",
          "#include <stdio.h>\nint main(void) { puts(\"program\"); return 0; }",
          { "program\n[ok" },
          NULL },
    };
    (void)state;

    check_rows(rows, ARRAY_LEN(rows), "state");
}

static void tells_errors_by_the_cells_own_frames(void **state)
{
    static const struct row rows[] = {
        { "makes", "python", "def f(a):\n    return 1 / a", { "[ok" }, NULL },
        { "traceback",
          "python",
          "print('before')\nf(0)",
          { "before", "File \"<cell 2>\", line 2", "File \"<cell 1>\", line 2",
            "ZeroDivisionError" },
          "driver" },
        { "syntax", "python", "if 1\n", { "<cell 3>", "SyntaxError", "[error, " }, NULL },
        { "input", "python", "input('name?')", { "nobody to ask" }, NULL },
        { "exit", "python", "import sys; sys.exit(3)", { "SystemExit: 3", "[error" }, NULL },
        { "still there", "python", "f(1)", { "1.0" }, NULL },
        { "stack",
          "javascript",
          "function f() { throw new TypeError('boo'); }\nf()",
          { "TypeError: boo", "at f (cell-1:1:" },
          "node:" },
        { "syntax", "javascript", "let a = ;", { "SyntaxError", "cell-2:1" }, NULL },
        { "in the background",
          "javascript",
          "setTimeout(() => { throw new Error('late'); }, 1);\n"
          "await new Promise((r) => setTimeout(r, 20)); 'alive'",
          { "late", "'alive'" },
          NULL },
        { "syntax", "bash", "if ; then", { "syntax error", "[exit status 2, " }, NULL },
        { "unset",
          "bash",
          "set -u; y=1; echo $nope; echo not reached",
          { "nope: unbound variable", "[exit status 1" },
          "reached\n[" },
        { "still there", "bash", "set +u; echo y=$y", { "y=1" }, NULL },
        { "compiler", "c", "int a = 1;\nnope + 1", { "cell-1:2:", "nope", "[error" }, NULL },
        { "makes", "c", "int kept = 5;", { "[ok" }, NULL },
        { "crash",
          "c",
          "kept = 6;\n*(volatile int *)0 = 1;",
          { "SIGSEGV", "as it was before" },
          NULL },
        { "still there", "c", "kept", { "5\n[ok" }, NULL },
    };
    (void)state;

    check_rows(rows, ARRAY_LEN(rows), "errors");
}

static void a_time_limit_ends_the_cell_and_keeps_the_state(void **state)
{
    static const struct {
        const char *language, *make, *endless, *look, *want;
    } rows[] = {
        { "python", "x = 5", "x = 6\nwhile True: pass", "x", "6" },
        { "python", "x = 7", "import time\ntime.sleep(1000)", "x", "7" },
        { "javascript", "let x = 5", "x = 6; while (true) {}", "x", "6" },
        { "javascript", "x = 7", "await new Promise(() => {})", "x", "7" },
        { "bash", "x=5", "x=6; while :; do :; done", "echo $x", "6" },
        { "bash", "x=7", "sleep 1000; x=8", "echo $x", "7" },
        { "bash", "x=9", "(trap '' INT; sleep 1000); sleep 1000; x=8", "echo $x", "9" },
        { "c", "int x = 5;", "x = 6; for (;;);", "x", "5" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char context[16];

        if (missing(rows[i].language))
            continue;
        (void)snprintf(context, sizeof context, "limit%zu", i);
        if (strcmp(rows[i].make, "x = 7") == 0)
            (void)cell(&place, &got, rows[i].language, context, "x = 0");
        assert_contains(cell(&place, &got, rows[i].language, context, rows[i].make), "[ok");
        assert_contains(cell_limited(&place, &got, rows[i].language, context, rows[i].endless, 200),
                        "[timeout: interrupted after ");
        assert_contains(cell(&place, &got, rows[i].language, context, rows[i].look), rows[i].want);
    }
}

static void an_end_of_the_interpreter_is_told_and_the_next_cell_begins_anew(void **state)
{
    static const struct row rows[] = {
        { "exit",
          "bash",
          "x=1; echo bye; exit 3",
          { "bye\n[the shell ended with exit status 3", "state is lost" },
          NULL },
        { "anew", "bash", "echo \"x=$x.\"", { "x=.", "[ok" }, NULL },
        { "exit",
          "python",
          "import os; x = 1; os._exit(4)",
          { "exit code 4", "state is lost" },
          NULL },
        { "anew", "python", "x", { "NameError" }, NULL },
        { "crash",
          "python",
          "import ctypes; ctypes.string_at(0)",
          { "signal 11", "state is lost" },
          NULL },
        { "exit",
          "javascript",
          "let x = 1; process.exit(5)",
          { "exit code 5", "state is lost" },
          NULL },
        { "anew", "javascript", "typeof x", { "'undefined'" }, NULL },
        { "exit", "c", "exit(6);", { "exit(6)", "[error" }, NULL },
    };
    (void)state;

    check_rows(rows, ARRAY_LEN(rows), "ends");
}

static void restart_begins_anew(void **state)
{
    (void)state;
    if (missing("bash"))
        skip_because("an interpreter that this test runs is not installed");
    (void)cell(&place, &got, "bash", "again", "x=1");
    call(&place, &got, "code_run",
         json_pack("{s:s,s:s,s:s,s:b}", "language", "bash", "context", "again", "code",
                   "echo \"x=$x.\"", "restart", 1));
    assert_contains(got.text, "x=.");
    (void)cell(&place, &got, "bash", "again", "x=2");
    call(&place, &got, "code_run",
         json_pack("{s:s,s:s,s:b}", "language", "bash", "context", "again", "restart", 1));
    assert_false(got.is_error);
    assert_contains(got.text, "is ended");
    assert_contains(cell(&place, &got, "bash", "again", "echo \"x=$x.\""), "x=.");
}

static void pictures_come_as_images(void **state)
{
    static const char python[] =
        "import struct, zlib, os\n"
        "class Picture:\n"
        "    def __init__(self, side): self.side = side\n"
        "    def _repr_png_(self):\n"
        "        def chunk(kind, data):\n"
        "            return struct.pack('>I', len(data)) + kind + data + "
        "struct.pack('>I', zlib.crc32(kind + data))\n"
        "        rows = b''.join(b'\\0' + os.urandom(self.side * 3) for _ in range(self.side))\n"
        "        return (b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', "
        "self.side, "
        "self.side, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(rows, 0)) + chunk(b'IEND', "
        "b''))\n";
    (void)state;

    if (missing("python"))
        skip_because("an interpreter that this test runs is not installed");
    assert_contains(cell(&place, &got, "python", "pictures", python), "[ok");
    (void)cell(&place, &got, "python", "pictures", "Picture(8)");
    assert_int_equal(got.images, 1);
    assert_memory_equal(got.image, "\x89PNG\r\n\x1a\n", 8);
    (void)cell(&place, &got, "python", "pictures", "Picture(800)"); /* several pieces */
    assert_int_equal(got.images, 1);
    (void)cell(&place, &got, "python", "pictures", "[display(Picture(4)) for _ in range(6)]; None");
    assert_int_equal(got.images, 4);
    assert_contains(got.text, "more than 4 pictures");
    (void)cell(&place, &got, "python", "pictures",
               "class Liar:\n    def _repr_png_(self): return b'no picture'\ndisplay(Liar()); 5");
    assert_int_equal(got.images, 0);
    assert_contains(got.text, "not a PNG");
    assert_contains(got.text, "5");
}

static void shows_figures_where_matplotlib_is_installed(void **state)
{
    (void)state;
    if (missing("python"))
        skip_because("an interpreter that this test runs is not installed");
    if (strstr(cell(&place, &got, "python", "plot",
                    "import matplotlib.pyplot as plt\nimport PIL.Image"),
               "ModuleNotFoundError"))
        skip_because("matplotlib or PIL is not installed");
    (void)cell(&place, &got, "python", "plot", "plt.plot([1, 2]); plt.show(); plt.plot([2, 1])");
    assert_int_equal(got.images, 2);
    (void)cell(&place, &got, "python", "plot", "PIL.Image.new('RGB', (4000, 10))");
    assert_int_equal(got.images, 1);
    assert_memory_equal(got.image + 16, "\0\0\x06\x20", 4);
}

static void long_output_and_values_leave_room_for_each_other(void **state)
{
    (void)state;
    if (missing("python"))
        skip_because("an interpreter that this test runs is not installed");
    (void)cell(&place, &got, "python", "long",
               "for i in range(20000): print('line', i)\n'v' * 200000");
    assert_contains(got.text, "line 0\n");
    assert_contains(got.text, "line 19999");
    assert_contains(got.text, "bytes left out");
    assert_contains(got.text, "vvvv'");
    assert_contains(got.text, "[ok, ");
    assert_true(strlen(got.text) <= 33000);
}

static void programs_of_a_cell_do_not_hold_the_way_back(void **state)
{
    static const struct row rows[] = {
        { "fork",
          "python",
          "import os\nif os.fork() == 0: print('child')\nelse: os.wait(); print('parent')",
          { "child\nparent\n[ok" },
          NULL },
        { "pool",
          "python",
          "import multiprocessing\ndef sq(v): return v * v\n"
          "with multiprocessing.Pool(2) as p: r = p.map(sq, range(4))\nr",
          { "[0, 1, 4, 9]" },
          NULL },
        { "subprocess",
          "python",
          "import subprocess\n"
          "subprocess.run('echo out; echo err >&2', shell=True, close_fds=False).returncode",
          { "out\nerr\n0\n[ok" },
          NULL },
        { "background", "bash", "sleep 1000 & echo started", { "started", "[ok" }, NULL },
        { "stdin", "bash", "read line; echo \"read $?\"", { "read 1" }, NULL },
        { "child",
          "javascript",
          "require('child_process').execSync('echo sub').toString()",
          { "'sub\\n'" },
          NULL },
    };
    (void)state;

    check_rows(rows, ARRAY_LEN(rows), "programs");
}

static void a_driver_that_lies_is_ended_and_nothing_else(void **state)
{
    static const char *const lies[] = {
        "import os\nos.write(FD, b'nonsense\\n')\nwhile True: pass",
        "import os\nos.write(FD, b'value 1 0 99999999\\n')\nwhile True: pass",
        "import os\nos.write(FD, b'x' * 100000)\nwhile True: pass",
        "import os\nos.close(FD)\nwhile True: pass",
        "import os\nwhile True: os.write(FD, b'note 999 0 3\\nabc' * 4000)",
        "import os\nos.write(FD, b'done 1 0 0\\n' * 50000 + b'images 1 4 0\\n')\nwhile True: pass",
    };
    (void)state;

    if (missing("python"))
        skip_because("an interpreter that this test runs is not installed");
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        char context[16], code[256];

        (void)snprintf(context, sizeof context, "lies%zu", i);
        (void)snprintf(
            code, sizeof code,
            "FD = max(int(f) for f in __import__('os').listdir('/proc/self/fd') "
            "if int(f) < 210 and __import__('os').path.exists('/proc/self/fd/' + f))\n%s",
            lies[i]);
        (void)cell_limited(&place, &got, "python", context, code, 3000);
        assert_contains(got.text, "[");
        call(&place, &got, "code_run",
             json_pack("{s:s,s:s,s:s,s:b}", "language", "python", "context", context, "code",
                       "6 * 7", "restart", 1));
        assert_contains(got.text, "42");
        call(&place, &got, "code_run",
             json_pack("{s:s,s:s,s:b}", "language", "python", "context", context, "restart", 1));
    }
}

static void bad_arguments_say_what_to_send(void **state)
{
    (void)state;
    if (missing("bash"))
        skip_because("an interpreter that this test runs is not installed");
    call(&place, &got, "code_run",
         json_pack("{s:s,s:s}", "language", "bash", "context", "nothing"));
    assert_true(got.is_error);
    assert_contains(got.text, "send \"code\"");
    call(&place, &got, "code_run",
         json_pack("{s:s,s:s,s:s}", "language", "bash", "context", "a/b", "code", "ls"));
    assert_true(got.is_error);
    assert_contains(got.text, "letters, digits");
}

static void too_many_contexts_are_refused_by_name(void **state)
{
    struct answer *a = &got;
    char id[64] = "";
    (void)state;

    if (missing("bash"))
        skip_because("an interpreter that this test runs is not installed");
    call(&place, a, "computer_create", json_object());
    assert_int_equal(sscanf(strstr(a->text, "\"computer\":\""), "\"computer\":\"%63[^\"]", id), 1);
    for (int i = 0; i <= 16; i++) {
        char context[16];

        (void)snprintf(context, sizeof context, "many%d", i);
        call(&place, a, "code_run",
             json_pack("{s:s,s:s,s:s,s:s}", "language", "bash", "context", context, "code", ":",
                       "computer", id));
        assert_int_equal(a->is_error, i == 16);
    }
    assert_contains(a->text, "bash \"many0\"");
    call(&place, a, "code_run",
         json_pack("{s:s,s:s,s:b,s:s}", "language", "bash", "context", "many3", "restart", 1,
                   "computer", id));
    call(&place, a, "code_run",
         json_pack("{s:s,s:s,s:s,s:s}", "language", "bash", "context", "new", "code", "echo in",
                   "computer", id));
    assert_contains(a->text, "in\n[ok");
    call(&place, a, "computer_destroy", json_pack("{s:s}", "computer", id));
    assert_false(a->is_error);
}

static void names_what_is_missing_and_what_is_there(void **state)
{
    char id[64] = "";
    (void)state;

    if (missing("bash"))
        skip_because("an interpreter that this test runs is not installed");
    call(&place, &got, "computer_create", json_pack("{s:{s:s}}", "env", "PATH", "/workspace/bin"));
    assert_int_equal(sscanf(strstr(got.text, "\"computer\":\""), "\"computer\":\"%63[^\"]", id), 1);
    call(&place, &got, "terminal_run",
         json_pack("{s:s,s:s}", "computer", id, "command",
                   "/bin/mkdir bin; /bin/ln -s /usr/bin/bash bin/bash; /bin/ln -s /bin/sh bin/sh"));
    for (size_t i = 0; i < ARRAY_LEN(languages); i++) {
        call(&place, &got, "code_run",
             json_pack("{s:s,s:s,s:s}", "language", languages[i], "code", "", "computer", id));
        call(
            &place, &got, "code_run",
            json_pack("{s:s,s:s,s:s}", "language", languages[i], "code", "echo 1", "computer", id));
        if (strcmp(languages[i], "bash") == 0)
            continue;
        assert_true(got.is_error);
        assert_contains(got.text, "is not in this computer");
        assert_contains(got.text, "languages that can be run: bash");
    }
    call(&place, &got, "computer_destroy", json_pack("{s:s}", "computer", id));
}

#define IN_A_COMPUTER(test) cmocka_unit_test_teardown(test, drop_computers)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_COMPUTER(keeps_state_and_shows_the_last_value),
        IN_A_COMPUTER(tells_errors_by_the_cells_own_frames),
        IN_A_COMPUTER(a_time_limit_ends_the_cell_and_keeps_the_state),
        IN_A_COMPUTER(an_end_of_the_interpreter_is_told_and_the_next_cell_begins_anew),
        IN_A_COMPUTER(restart_begins_anew),
        IN_A_COMPUTER(pictures_come_as_images),
        IN_A_COMPUTER(shows_figures_where_matplotlib_is_installed),
        IN_A_COMPUTER(long_output_and_values_leave_room_for_each_other),
        IN_A_COMPUTER(programs_of_a_cell_do_not_hold_the_way_back),
        IN_A_COMPUTER(a_driver_that_lies_is_ended_and_nothing_else),
        IN_A_COMPUTER(bad_arguments_say_what_to_send),
        IN_A_COMPUTER(too_many_contexts_are_refused_by_name),
        IN_A_COMPUTER(names_what_is_missing_and_what_is_there),
    };

    return cmocka_run_group_tests(tests, make_place, drop_place);
}
