#include "vmctl/image_program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define GRACE_NS (10 * CLOCK_NS_PER_S) /* to unmount and to remove what it made */
#define LOOK_MS  60000

static const char *const folders[] = { "/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                       "/usr/bin",        "/sbin",          "/bin" };

static const char *find(const char *name, char *path, size_t size)
{
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        (void)snprintf(path, size, "%s/%s", folders[i], name);
        if (access(path, X_OK) == 0)
            return path;
    }
    return NULL;
}

bool image_program_need(const char *name, const char *package, struct error *err)
{
    char path[128];

    return find(name, path, sizeof path) ||
           error_set(err, ERR_UNSUPPORTED,
                     "building images needs %s, which is not installed: apt-get install %s", name,
                     package);
}

/* ---- its environment ---- */

static bool names_same(const char *a, const char *b)
{
    size_t len = strcspn(a, "=");

    return strncmp(a, b, len + 1) == 0;
}

/* Ours, without what @env says otherwise; for free(), the strings are borrowed. */
static const char **compose(const char *const *env)
{
    static const char *const none[] = { NULL };
    static const char *const fixed[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
        "TZ=UTC0", "DEBIAN_FRONTEND=noninteractive", NULL
    };
    const char *const *lists[] = { env ? env : none, fixed, (const char *const *)environ };
    size_t count = 0, used = 0;
    const char **all;

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (const char *const *e = lists[i]; *e; e++)
            count++;
    all = calloc(count + 1, sizeof *all);
    for (size_t i = 0; all && i < ARRAY_LEN(lists); i++)
        for (const char *const *e = lists[i]; *e; e++) {
            bool known = false;

            for (size_t j = 0; j < used && !known; j++)
                known = names_same(all[j], *e);
            if (!known)
                all[used++] = *e;
        }
    return all;
}

/* ---- its life ---- */

NORETURN static void become(const char *path, const char *const *argv, const char **env, int out,
                            int hold_fd, pid_t parent)
{
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigset_t none;

    /* Whoever is killed leaves no builder behind. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(126);
    (void)signal(SIGPIPE, SIG_DFL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
        _exit(126);
    if (hold_fd >= 0 && fcntl(hold_fd, F_SETFD, 0) != 0)
        _exit(126);
    (void)execve(path, unconst(argv), unconst(env));
    _exit(127);
}

/* Something to read or an end before the deadline. */
static bool await(int fd, int64_t deadline_ns)
{
    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int left_ms = clock_left_ms(deadline_ns, LOOK_MS);

        if (poll(&p, 1, left_ms) > 0)
            return true;
        if (left_ms == 0)
            return false;
    }
}

static bool listen_to(int fd, struct buf *out, int64_t deadline_ns)
{
    for (;;) {
        char piece[4096];
        ssize_t n;

        if (!await(fd, deadline_ns))
            return false;
        n = read(fd, piece, sizeof piece);
        if (n == 0 || (n < 0 && errno != EINTR))
            return true;
        if (n > 0)
            (void)buf_append(out, piece, (size_t)n);
    }
}

static int finish(pid_t pid, int pidfd, bool in_time)
{
    int status = 0;

    if (!in_time) {
        (void)kill(pid, SIGTERM);
        if (!await(pidfd, clock_add_ns(clock_now_ns(), GRACE_NS)))
            (void)kill(pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static bool judge(const char *name, int status, bool in_time, struct error *err)
{
    if (!in_time)
        return error_set(err, ERR_TIMEOUT, "%s did not end in time", name);
    if (WIFSIGNALED(status))
        return error_set(err, ERR_LOST, "%s was ended by signal %d", name, WTERMSIG(status));
    if (WEXITSTATUS(status) == 0)
        return true;
    return error_set(err, ERR_LOST, "%s failed with exit code %d", name, WEXITSTATUS(status));
}

bool image_program_run(const struct image_program *p, struct error *err)
{
    CLEANUP(fd_closep) int pidfd = -1;
    CLEANUP(fd_closep) int hear = -1;
    CLEANUP(fd_closep) int say = -1;
    pid_t pid, parent = getpid();
    char path[128];
    const char **env;
    int ends[2], status;
    bool in_time;

    if (!find(p->argv[0], path, sizeof path))
        return error_set(err, ERR_UNSUPPORTED, "%s is not installed", p->argv[0]);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set_errno(err, errno, "a pipe");
    hear = ends[0];
    say = ends[1];
    env = compose(p->env);
    if (!env)
        return error_set(err, ERR_NOMEM, "an environment");
    pid = fork();
    if (pid == 0)
        become(path, p->argv, env, p->out ? say : STDERR_FILENO, p->hold_fd, parent);
    free(env);
    if (pid < 0)
        return error_set_errno(err, errno, "start %s", p->argv[0]);
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    fd_close(fd_steal(&say));
    in_time = pidfd >= 0 && (!p->out || listen_to(hear, p->out, p->deadline_ns)) &&
              await(pidfd, p->deadline_ns);
    status = finish(pid, pidfd, in_time);
    return judge(p->argv[0], status, in_time, err);
}
