#include "tools/code_drivers.h"

#include "tests/support/check.h"

static void a_command_carries_any_code(void **state)
{
    static const struct {
        const char *label, *code, *want;
        enum code_language language;
    } rows[] = {
        { "plain", "x = 1\n", "run 7 6\nx = 1\n", CODE_PYTHON },
        { "looks like a command", "run 1 1\nx", "run 7 9\nrun 1 1\nx", CODE_JAVASCRIPT },
        { "empty", "", "run 7 0\n", CODE_C },
        { "bash", "echo a\necho b",
          "__aios_begin; eval 'echo a\necho b' </dev/null >&198 2>&1\n__aios_done 7\n", CODE_BASH },
        { "quotes", "'a' '",
          "__aios_begin; eval ''\\''a'\\'' '\\''' </dev/null >&198 2>&1\n"
          "__aios_done 7\n",
          CODE_BASH },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;

        assert_true(
            code_driver_command(&out, rows[i].language, 7, rows[i].code, strlen(rows[i].code)));
        if (strcmp(buf_str(&out), rows[i].want) != 0)
            fail_msg("%s: \"%s\"", rows[i].label, buf_str(&out));
    }
}

static void a_command_is_whole_or_not_made(void **state)
{
    static const enum code_language languages[] = { CODE_PYTHON, CODE_BASH };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(languages); i++) {
        FAULT_EACH(n)
        {
            CLEANUP(buf_fini) struct buf out = BUF_INIT;
            char code[2000];
            bool ok;

            memset(code, '\'', sizeof code);
            ok = code_driver_command(&out, languages[i], 1, code, sizeof code);
            FAULT_DONE(n);
            assert_true(ok == n_last);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_carries_any_code),
        cmocka_unit_test(a_command_is_whole_or_not_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
