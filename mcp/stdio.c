#include "mcp/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "kernel/base/fd.h"

bool stdio_take(int *ret_in, int *ret_out, struct error *err)
{
    CLEANUP(fd_closep) int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    CLEANUP(fd_closep) int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    CLEANUP(fd_closep) int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    /* A host may start us with standard error closed.  Number 2 must be somebody's, or the next
     * file that is opened, a database perhaps, becomes standard error. */
    if (null >= 0 && null <= STDERR_FILENO) {
        int low = null;

        null = fcntl(low, F_DUPFD_CLOEXEC, 3);
        if (low != STDERR_FILENO || null < 0 || fcntl(low, F_SETFD, 0) < 0)
            fd_close(low);
    }
    if (in < 0 || out < 0)
        return error_set_errno(err, errno,
                               "standard %s is not open; start `aios mcp` from an MCP host",
                               in < 0 ? "input" : "output");
    if (null < 0)
        return error_set_errno(err, errno, "open /dev/null");
    if (dup2(null, STDIN_FILENO) < 0)
        return error_set_errno(err, errno, "set standard input aside");
    if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return error_set_errno(err, errno, "set standard output aside");
    *ret_in = fd_steal(&in);
    *ret_out = fd_steal(&out);
    return true;
}
