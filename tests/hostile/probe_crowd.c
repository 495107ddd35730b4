/* Processes in numbers, processes that do not want to end, signals, and output. */
#include "tests/hostile/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define STEP_MS     20

static long number(int argc, char **argv, int at, long fallback)
{
    return argc > at ? strtol(argv[at], NULL, 10) : fallback;
}

static _Noreturn void rest(void)
{
    for (;;)
        (void)pause();
}

/* ---- many ---- */

/* probe forks N: so many children that rest, or as many as there may be.  Ends them and fails. */
static int forks(int argc, char **argv)
{
    long most = number(argc, argv, 1, 100);
    long made = 0;
    int error = 0;

    while (made < most) {
        pid_t pid = fork();

        if (pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            rest();
        }
        if (pid < 0) {
            error = errno;
            break;
        }
        made++;
    }
    probe_detail("%ld", made);
    probe_say("forks", error);
    return error ? 1 : 0;
}

/* probe storm N: every process forks until it may not any more, at most N in all; none ends. */
static int storm(int argc, char **argv)
{
    long most = number(argc, argv, 1, 100);
    atomic_long *made =
        mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (made == MAP_FAILED)
        return 2;
    probe_say("storm", 0);
    while (atomic_fetch_add(made, 1) < most) {
        if (fork() < 0)
            break;
    }
    rest();
}

static void *rest_in_thread(void *arg)
{
    (void)arg;
    rest();
}

/* probe threads N */
static int threads(int argc, char **argv)
{
    long most = number(argc, argv, 1, 100);
    pthread_attr_t attr;
    long made = 0;
    int error = 0;

    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, 65536);
    for (; made < most && !error; made += !error) {
        pthread_t thread;

        error = pthread_create(&thread, &attr, rest_in_thread, NULL);
    }
    probe_detail("%ld", made);
    probe_say("threads", error);
    _exit(error ? 1 : 0);
}

static int zombies_now(void)
{
    DIR *dir = opendir("/proc");
    int count = 0;

    if (!dir)
        return -1;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[300], text[256];
        const char *state;
        ssize_t n;
        int fd;

        (void)snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            (void)close(fd);
        if (n <= 0)
            continue;
        text[n] = '\0';
        state = strrchr(text, ')');
        count += state && state[1] == ' ' && state[2] == 'Z';
    }
    (void)closedir(dir);
    return count;
}

/* probe zombies N: so many orphans that end at once; then none of them may be left. */
static int zombies(int argc, char **argv)
{
    long most = number(argc, argv, 1, 100);
    int left = -1;

    for (long i = 0; i < most; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            (void)fork();
            _exit(0);
        }
        if (pid > 0)
            (void)waitpid(pid, NULL, 0);
    }
    for (int waited = 0; waited < PATIENCE_MS; waited += STEP_MS) {
        left = zombies_now();
        if (left == 0)
            break;
        (void)poll(NULL, 0, STEP_MS); /* a reaped process sends no word */
    }
    probe_detail("%d", left);
    probe_say("zombies", 0);
    return left == 0 ? 0 : 1;
}

/* ---- stubborn ---- */

static void ignore_everything(void)
{
    for (int sig = 1; sig < NSIG; sig++)
        (void)signal(sig, SIG_IGN);
}

/* probe daemon: forks twice, in a session of its own, deaf, and stays. */
static int daemonize(int argc, char **argv)
{
    int ready[2];
    char byte;

    (void)argc;
    (void)argv;
    if (pipe2(ready, O_CLOEXEC) != 0)
        return 2;
    if (fork() == 0) {
        (void)setsid();
        if (fork() != 0)
            _exit(0);
        ignore_everything();
        (void)prctl(PR_SET_NAME, "probe-daemon");
        for (int fd = 0; fd < 3; fd++)
            (void)close(fd);
        if (write(ready[1], "r", 1) != 1)
            _exit(1);
        rest();
    }
    (void)close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        return 2;
    probe_say("daemon", 0);
    return 0;
}

/* probe stubborn: deaf, busy, with children in sessions and groups of their own. */
static int stubborn(int argc, char **argv)
{
    volatile unsigned long spin = 0;

    (void)argc;
    (void)argv;
    ignore_everything();
    if (fork() == 0) {
        (void)setsid();
        rest();
    }
    if (fork() == 0) {
        (void)setpgid(0, 0);
        if (fork() == 0)
            rest();
        rest();
    }
    probe_say("stubborn", 0);
    for (;;)
        spin++;
}

/* probe kill-all: everybody who can be reached but itself. */
static int kill_all(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    probe_say("kill-all", probe_result(kill(-1, SIGKILL)));
    return 0;
}

/* probe kill-init: every signal to process 1. */
static int kill_init(int argc, char **argv)
{
    int refused = 0;

    (void)argc;
    (void)argv;
    for (int sig = 1; sig < NSIG; sig++)
        refused += kill(1, sig) != 0;
    probe_detail("%d refused", refused);
    probe_say("kill-init", 0);
    return 0;
}

/* ---- output ---- */

static int write_all(const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, data, len);

        if (n <= 0)
            return errno ? errno : EIO;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int pour(long mib, int newlines)
{
    static char block[65536];
    int error = 0;

    memset(block, 'y', sizeof block);
    for (size_t i = 63; newlines && i < sizeof block; i += 64)
        block[i] = '\n';
    for (long i = 0; i < mib * 16 && !error; i++)
        error = write_all(block, sizeof block);
    return error ? 1 : 0;
}

/* probe flood MIB: lines */
static int flood(int argc, char **argv)
{
    return pour(number(argc, argv, 1, 1), 1);
}

/* probe line MIB: one line without an end */
static int endless_line(int argc, char **argv)
{
    return pour(number(argc, argv, 1, 1), 0);
}

/* probe late MIB: the output comes when the program has ended. */
static int late(int argc, char **argv)
{
    int life[2];
    char byte;

    if (pipe2(life, O_CLOEXEC) != 0)
        return 2;
    if (fork() == 0) {
        (void)close(life[1]);
        if (read(life[0], &byte, 1) != 0)
            _exit(2);
        _exit(pour(number(argc, argv, 1, 1), 1));
    }
    probe_say("late", 0);
    return 0;
}

/* probe refuse N: so many calls that the notifier is told of. */
static int refuse(int argc, char **argv)
{
    long most = number(argc, argv, 1, 1);
    long refused = 0;

    for (long i = 0; i < most; i++)
        refused += chroot("/") != 0 && errno == EPERM;
    probe_detail("%ld", refused);
    probe_say("refuse", 0);
    return 0;
}

const struct probe_deed probe_deeds_process[] = {
    { "refuse", refuse },
    { "forks", forks },
    { "storm", storm },
    { "threads", threads },
    { "zombies", zombies },
    { "daemon", daemonize },
    { "stubborn", stubborn },
    { "kill-all", kill_all },
    { "kill-init", kill_init },
    { "flood", flood },
    { "line", endless_line },
    { "late", late },
    { NULL },
};
