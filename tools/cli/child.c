#include "tools/cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define TERM_NS (1 * CLOCK_NS_PER_S)

struct ends {
    int in[2];
    int out[2];
};

static void close_ends(struct ends *e)
{
    for (int i = 0; i < 2; i++) {
        fd_close(e->in[i]);
        fd_close(e->out[i]);
    }
}

static int spawn(pid_t *ret_pid, const char *const *argv, const struct ends *e, bool quiet)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t all;
    int rc;

    if (posix_spawn_file_actions_init(&files) != 0)
        return ENOMEM;
    if (posix_spawnattr_init(&attr) != 0) {
        posix_spawn_file_actions_destroy(&files);
        return ENOMEM;
    }
    /* We ignore SIGPIPE, which it shall not inherit. */
    sigfillset(&all);
    (void)posix_spawnattr_setsigdefault(&attr, &all);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    rc = e->in[0] >= 0
             ? posix_spawn_file_actions_adddup2(&files, e->in[0], STDIN_FILENO)
             : posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&files, e->out[1], STDOUT_FILENO);
    if (rc == 0 && quiet)
        rc = posix_spawn_file_actions_adddup2(&files, e->out[1], STDERR_FILENO);
    if (rc == 0)
        rc = posix_spawnp(ret_pid, argv[0], &files, &attr, unconst(argv), environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

bool child_start(struct child *c, const char *const *argv, bool with_input, bool quiet,
                 struct error *err)
{
    struct ends e = { { -1, -1 }, { -1, -1 } };
    int rc;

    if ((with_input && pipe2(e.in, O_CLOEXEC) != 0) || pipe2(e.out, O_CLOEXEC) != 0) {
        error_set_errno(err, errno, "a pipe");
        close_ends(&e);
        return false;
    }
    if ((with_input && !fd_set_nonblock(e.in[1], true, err)) ||
        !fd_set_nonblock(e.out[0], true, err)) {
        close_ends(&e);
        return false;
    }
    rc = spawn(&c->pid, argv, &e, quiet);
    if (rc != 0) {
        close_ends(&e);
        return error_set_errno(err, rc, "start %.200s", argv[0]);
    }
    c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
    c->in = e.in[1];
    c->out = e.out[0];
    e.in[1] = e.out[0] = -1;
    close_ends(&e);
    return true;
}

/* Without a pidfd (no descriptor was left) nobody is waited for. */
static bool has_ended(const struct child *c, int64_t deadline_ns)
{
    for (;;) {
        struct pollfd p = { .fd = c->pidfd, .events = POLLIN };
        int left_ms = clock_left_ms(deadline_ns, 60000);
        int rc = c->pidfd < 0 ? 0 : poll(&p, 1, left_ms);

        if (rc > 0)
            return true;
        if (c->pidfd < 0 || left_ms == 0)
            return false;
    }
}

int child_stop(struct child *c, int64_t grace_ns)
{
    int status = 0;

    if (c->pid <= 0)
        return 0;
    fd_close(c->in);
    if (!has_ended(c, clock_add_ns(clock_now_ns(), grace_ns))) {
        (void)kill(c->pid, SIGTERM);
        if (!has_ended(c, clock_add_ns(clock_now_ns(), MIN(grace_ns, TERM_NS))))
            (void)kill(c->pid, SIGKILL);
    }
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    fd_close(c->out);
    fd_close(c->pidfd);
    *c = (struct child){ .pidfd = -1, .in = -1, .out = -1 };
    return status;
}

bool child_capture(const char *const *argv, int64_t deadline_ns, size_t max, struct buf *out,
                   int *ret_status, struct error *err)
{
    struct child c = { .pid = 0 };
    bool ended = false;

    if (!child_start(&c, argv, false, true, err))
        return false;
    while (!ended) {
        struct pollfd p = { .fd = c.out, .events = POLLIN };
        int left_ms = clock_left_ms(deadline_ns, 60000);
        char piece[4096];
        ssize_t n;

        if (left_ms == 0)
            break;
        if (poll(&p, 1, left_ms) <= 0)
            continue;
        n = read(c.out, piece, sizeof piece);
        ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
        if (n > 0 && out->len < max)
            (void)buf_append(out, piece, MIN((size_t)n, max - out->len));
    }
    *ret_status = child_stop(&c, ended ? TERM_NS : 0);
    return ended || error_set(err, ERR_TIMEOUT, "%s did not end in time", argv[0]);
}
