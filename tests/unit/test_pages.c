#include "kernel/base/pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernel/base/fd.h"
#include "tests/support/check.h"

/* Of all mappings that may be executed and not written to, in KiB; what this itself needs is
 * among them. */
static long code_in_memory(void)
{
    char *text = fd_read_file(AT_FDCWD, "/proc/self/smaps", 8 << 20, NULL, NULL);
    bool code = false;
    long sum = 0;

    assert_non_null(text);
    for (char *line = text, *end; *line; line = end + 1) {
        unsigned long from, to;
        char may[8];
        long kib;

        end = strchrnul(line, '\n');
        if (sscanf(line, "%lx-%lx %7s", &from, &to, may) == 3)
            code = strcmp(may, "r-xp") == 0;
        else if (code && sscanf(line, "Rss: %ld kB", &kib) == 1)
            sum += kib;
        if (!*end)
            break;
    }
    free(text);
    return sum;
}

static void a_program_goes_on_with_what_it_needs(void **state)
{
    long before = code_in_memory();
    (void)state;

    for (int i = 0; i < 10; i++)
        pages_let_go();
    assert_in_range(code_in_memory(), 1, before - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_goes_on_with_what_it_needs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
