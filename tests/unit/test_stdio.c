#include "mcp/stdio.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "tests/support/check.h"

/* What the child found out, as bits of its exit status. */
enum {
    REFUSED = 1,
    IN_IS_INPUT = 2,
    OUT_IS_OUTPUT = 4,
    PRIVATE = 8,           /* both above 2 and close-on-exec */
    PRINTS_ELSEWHERE = 16, /* what goes to number 1 does not come out of the output */
    TWO_IS_OPEN = 32,
};

static bool same(int a, int b)
{
    struct stat x, y;

    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* In a child, since the test needs its own three descriptors. */
static int child(const int in[2], const int out[2], const bool closed[3])
{
    struct error err = ERROR_INIT;
    int got_in, got_out, status = 0;

    if (dup2(in[0], 0) < 0 || dup2(out[1], 1) < 0)
        return 255;
    for (int i = 0; i < 3; i++)
        if (closed[i])
            (void)close(i);
    if (!stdio_take(&got_in, &got_out, &err))
        return REFUSED;
    if (same(got_in, in[0]))
        status |= IN_IS_INPUT;
    if (same(got_out, out[1]))
        status |= OUT_IS_OUTPUT;
    if (got_in > 2 && got_out > 2 && fcntl(got_in, F_GETFD) == FD_CLOEXEC &&
        fcntl(got_out, F_GETFD) == FD_CLOEXEC)
        status |= PRIVATE;
    if (fcntl(1, F_GETFD) == 0 && fcntl(0, F_GETFD) == 0 && !same(1, out[1]) && same(1, 2))
        status |= PRINTS_ELSEWHERE;
    if (fcntl(2, F_GETFD) == 0)
        status |= TWO_IS_OPEN;
    return status;
}

static void moves_the_protocol_out_of_reach(void **state)
{
    static const struct {
        const char *label;
        bool closed[3];
        int want;
    } rows[] = {
        { "as usual",
          { false, false, false },
          IN_IS_INPUT | OUT_IS_OUTPUT | PRIVATE | PRINTS_ELSEWHERE | TWO_IS_OPEN },
        { "without standard error",
          { false, false, true },
          IN_IS_INPUT | OUT_IS_OUTPUT | PRIVATE | PRINTS_ELSEWHERE | TWO_IS_OPEN },
        { "without input", { true, false, false }, REFUSED },
        { "without output", { false, true, false }, REFUSED },
        { "without anything", { true, true, true }, REFUSED },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int in[2], out[2], status;
        pid_t pid;

        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0)
            _exit(child(in, out, rows[i].closed));
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != rows[i].want)
            fail_msg("%s: status %x, wanted %x", rows[i].label, status, rows[i].want << 8);
        for (int end = 0; end < 2; end++) {
            fd_close(in[end]);
            fd_close(out[end]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_the_protocol_out_of_reach),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
