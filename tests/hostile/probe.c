/*
 * probe NAME [ARG…]   one attempt
 * probe all           every attempt that takes no argument, each in a process of its own
 *
 * It works only where the tests want it: with AIOS_PROBE=1, not as root, and beside an aios-guest
 * as process 1.
 */
#include "tests/hostile/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_S 20

static char detail[3072];

static const struct probe_try *const try_tables[] = { probe_tries_process, probe_tries_socket,
                                                      probe_tries_file, probe_facts };
static const struct probe_deed *const deed_tables[] = { probe_deeds_file, probe_deeds_socket,
                                                        probe_deeds_process, probe_deeds_memory };

void probe_detail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
}

int probe_result(long rc)
{
    return rc < 0 ? errno : 0;
}

void probe_say(const char *name, int error)
{
    char line[4096];
    const char *word = error ? strerrorname_np(error) : "OK";
    int len = snprintf(line, sizeof line, "%s %s%s%s\n", name, word ? word : "E?",
                       !error && detail[0] ? " " : "", error ? "" : detail);

    if (write(STDOUT_FILENO, line, (size_t)len) != len)
        _exit(3);
    detail[0] = '\0';
}

static void attempt_call(const struct probe_call *c)
{
    errno = 0;
    probe_say(c->name, probe_result(syscall(c->number, c->args[0], c->args[1], c->args[2],
                                            c->args[3], c->args[4], c->args[5])));
}

static void attempt_try(const struct probe_try *t)
{
    errno = 0;
    probe_say(t->name, t->fn());
}

/* ---- all of them, so that none can disturb the next ---- */

static void await(const char *name, pid_t pid)
{
    int status = 0;
    char word[32];

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFSIGNALED(status))
        return;
    (void)snprintf(word, sizeof word, "%s SIG%s\n", name, sigabbrev_np(WTERMSIG(status)));
    if (write(STDOUT_FILENO, word, strlen(word)) < 0)
        _exit(3);
}

#define ALONE(name, statement)       \
    do {                             \
        pid_t child_ = fork();       \
                                     \
        if (child_ == 0) {           \
            (void)alarm(PATIENCE_S); \
            statement;               \
            _exit(0);                \
        }                            \
        if (child_ < 0)              \
            probe_say(name, errno);  \
        else                         \
            await(name, child_);     \
    } while (0)

static int everything(void)
{
    for (const struct probe_call *c = probe_calls; c->name; c++)
        ALONE(c->name, attempt_call(c));
    for (size_t i = 0; i < PROBE_LEN(try_tables); i++)
        for (const struct probe_try *t = try_tables[i]; t->name; t++)
            ALONE(t->name, attempt_try(t));
    return 0;
}

static int one(int argc, char **argv)
{
    const char *name = argv[0];

    for (const struct probe_call *c = probe_calls; c->name; c++) {
        if (!strcmp(c->name, name)) {
            ALONE(name, attempt_call(c));
            return 0;
        }
    }
    for (size_t i = 0; i < PROBE_LEN(try_tables); i++) {
        for (const struct probe_try *t = try_tables[i]; t->name; t++) {
            if (!strcmp(t->name, name)) {
                ALONE(name, attempt_try(t));
                return 0;
            }
        }
    }
    for (size_t i = 0; i < PROBE_LEN(deed_tables); i++)
        for (const struct probe_deed *d = deed_tables[i]; d->name; d++)
            if (!strcmp(d->name, name))
                return d->fn(argc, argv);
    fprintf(stderr, "probe: there is no %s\n", name);
    return 2;
}

static int allowed_here(void)
{
    const char *word = getenv("AIOS_PROBE");
    char name[16] = "";
    int fd;

    if (!word || strcmp(word, "1") != 0 || getuid() == 0 || geteuid() == 0)
        return 0;
    fd = open("/proc/1/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (read(fd, name, sizeof name - 1) < 0)
        name[0] = '\0';
    (void)close(fd);
    return !strcmp(name, "aios-guest");
}

int main(int argc, char **argv)
{
    if (!allowed_here()) {
        fputs("probe: this runs in a computer of the tests only\n", stderr);
        return 2;
    }
    if (argc < 2) {
        fputs("probe: name an attempt, or all\n", stderr);
        return 2;
    }
    return !strcmp(argv[1], "all") ? everything() : one(argc - 1, argv + 1);
}
