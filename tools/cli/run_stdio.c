#include "tools/cli/run_stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "kernel/base/clock.h"

#define PIECE_BYTES (64u << 10)

/* ---- what we were started with ---- */

static bool is_null_device(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

/* In the background a terminal would stop us for reading from it. */
static bool is_our_terminal(int fd)
{
    return isatty(fd) && tcgetpgrp(fd) == getpgrp();
}

void run_stdio_look(struct run_stdio *io)
{
    bool terminal = isatty(STDIN_FILENO);

    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY);
    io->input = terminal ? is_our_terminal(STDIN_FILENO) : !is_null_device(STDIN_FILENO);
    io->pty = terminal && io->input && isatty(STDOUT_FILENO);
    io->out[0] =
        (struct run_output){ .stream = WIRE_STREAM_OUT, .fd = STDOUT_FILENO, .open = true };
    io->out[1] =
        (struct run_output){ .stream = WIRE_STREAM_ERR, .fd = STDERR_FILENO, .open = !io->pty };
}

/* ---- the terminal ---- */

static struct termios cooked;
static atomic_bool is_raw;

void run_stdio_size(uint16_t *ret_rows, uint16_t *ret_cols)
{
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;

    *ret_rows = known ? size.ws_row : 24;
    *ret_cols = known ? size.ws_col : 80;
}

void run_stdio_restore(void)
{
    if (atomic_exchange(&is_raw, false))
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &cooked);
}

/* Async-signal-safe calls only; SA_RESETHAND lets the second one kill. */
static void on_crash(int signum)
{
    run_stdio_restore();
    (void)raise(signum);
}

void run_stdio_raw(const struct run_stdio *io)
{
    static const int crashes[] = { SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE };
    struct sigaction sa = { .sa_handler = on_crash, .sa_flags = SA_RESETHAND | SA_NODEFER };
    struct termios raw;

    if (!io->pty || tcgetattr(STDIN_FILENO, &cooked) != 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
        (void)sigaction(crashes[i], &sa, NULL);
    raw = cooked;
    cfmakeraw(&raw);
    atomic_store(&is_raw, true);
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

/* ---- waiting where our own streams were made non-blocking by somebody ---- */

static void wait_for(int fd, short events)
{
    struct pollfd p = { .fd = fd, .events = events };

    (void)poll(&p, 1, -1);
}

/* ---- input ---- */

static void *input_main(void *arg)
{
    static char piece[PIECE_BYTES];
    const struct wait w = { .deadline_ns = CLOCK_NEVER };
    struct guest_run *run = run_guest(arg);

    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            wait_for(STDIN_FILENO, POLLIN);
            continue;
        }
        if (n <= 0)
            break;
        if (!guest_run_write(run, WIRE_STREAM_MAIN, piece, (size_t)n, &w, NULL))
            return NULL; /* the run has ended */
    }
    guest_run_close_stdin(run);
    return NULL;
}

bool run_stdio_forward(const struct run_stdio *io, struct run *run, struct error *err)
{
    pthread_t thread;
    int rc;

    if (!io->input)
        return true;
    rc = pthread_create(&thread, NULL, input_main, run);
    if (rc != 0)
        return error_set_errno(err, rc, "start a thread for the input");
    (void)pthread_detach(thread);
    return true;
}

/* ---- output ---- */

static enum run_stdio_end write_out(int fd, const char *data, size_t len, struct error *err)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            wait_for(fd, POLLOUT);
        } else if (errno == EPIPE || (errno == EIO && isatty(fd))) {
            return RUN_STDIO_CLOSED;
        } else if (errno != EINTR) {
            error_set_errno(err, errno, "write to standard %s",
                            fd == STDOUT_FILENO ? "output" : "error");
            return RUN_STDIO_FAILED;
        }
    }
    return RUN_STDIO_DONE;
}

/* A pipe that can be written to has room for PIPE_BUF bytes; a terminal promises nothing. */
static bool takes_at_once(int fd, uint64_t len)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };

    return len <= PIPE_BUF && !isatty(fd) && poll(&p, 1, 0) > 0;
}

/* One piece of the @len bytes that there are of one stream, so that no stream keeps the other
 * waiting; *ret_some when it was anything. */
static enum run_stdio_end pass(struct run_output *o, struct run *run, uint64_t len, bool may_block,
                               struct buf *piece, bool *ret_some, struct error *err)
{
    long n;

    if (len == 0)
        return RUN_STDIO_DONE;
    if (!may_block && !takes_at_once(o->fd, len))
        return RUN_STDIO_BLOCKS;
    buf_clear(piece);
    n = guest_run_read(run_guest(run), o->stream, &o->offset, MIN(len, PIECE_BYTES), piece);
    if (n < 0) {
        error_set(err, ERR_NOMEM, "output");
        return RUN_STDIO_FAILED;
    }
    *ret_some = true;
    return write_out(o->fd, buf_str(piece), piece->len, err);
}

/* Without anything new, what makes waiting for it return at once is its end. */
static void look_for_end(struct run_output *o, struct run *run)
{
    const struct wait now = { .deadline_ns = clock_now_ns() };
    uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
    struct guest_run_info info;

    if (!o->open)
        return;
    beyond[o->stream] = o->offset;
    if (!run_wait(run, 1u << o->stream, beyond, &now, NULL))
        return;
    guest_run_info(run_guest(run), &info);
    o->open = info.total[o->stream] > o->offset;
}

enum run_stdio_end run_stdio_pump(struct run_stdio *io, struct run *run, bool may_block,
                                  struct error *err)
{
    CLEANUP(buf_fini) struct buf piece = BUF_INIT;
    const struct wait w = { .deadline_ns = CLOCK_NEVER };

    for (;;) {
        uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
        struct guest_run_info info;
        unsigned streams = 0;
        bool some = false;

        for (size_t i = 0; i < ARRAY_LEN(io->out); i++) {
            beyond[io->out[i].stream] = io->out[i].offset;
            if (io->out[i].open)
                streams |= 1u << io->out[i].stream;
        }
        if (!run_wait(run, streams, beyond, &w, err))
            return RUN_STDIO_FAILED;
        /* Asked before the reading: what it had written by its end is then all there. */
        guest_run_info(run_guest(run), &info);
        for (size_t i = 0; i < ARRAY_LEN(io->out); i++) {
            struct run_output *o = &io->out[i];
            enum run_stdio_end end =
                pass(o, run, info.total[o->stream] - o->offset, may_block, &piece, &some, err);

            if (end != RUN_STDIO_DONE)
                return end;
        }
        if (!some && info.end != GUEST_RUN_LIVE)
            return RUN_STDIO_DONE;
        for (size_t i = 0; !some && i < ARRAY_LEN(io->out); i++)
            look_for_end(&io->out[i], run);
    }
}
