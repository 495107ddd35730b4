/*
 * server - a program of the distribution or of npm that a test starts, and that ends with it.
 *
 * The program gets a pipe as standard output and error, from which the line that says it is ready
 * is waited for.  It dies with the test's thread whatever happens.  Included by test programs.
 * Threads: the one that started it.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"

struct server {
    pid_t pid; /* 0: not started */
    int out;
    char said[8192]; /* the first of what it wrote, NUL-terminated */
    size_t len;
};

/** @uid 0: as we are.  False: it could not be started (errno). */
static inline bool server_start(struct server *s, const char *const *argv, unsigned uid)
{
    int ends[2];

    *s = (struct server){ .out = -1 };
    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    s->pid = fork();
    if (s->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(ends[1], 1);
        (void)dup2(ends[1], 2);
        if (uid && (setgid(uid) < 0 || setuid(uid) < 0))
            _exit(126);
        if (uid)
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cleared by setuid() */
        execv(argv[0], (char *const *)unconst(argv));
        _exit(127);
    }
    (void)close(ends[1]);
    s->out = ends[0];
    if (s->pid < 0) {
        (void)close(s->out);
        s->pid = 0;
        return false;
    }
    return true;
}

/** Reads until @text has been said; where it stands, or NULL at its end or after a minute. */
static inline const char *server_said(struct server *s, const char *text)
{
    int64_t until_ns = clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S);
    const char *at;

    while (!(at = strstr(s->said, text))) {
        struct pollfd fd = { .fd = s->out, .events = POLLIN };
        ssize_t n;

        if (s->len == sizeof s->said - 1 || poll(&fd, 1, clock_left_ms(until_ns, 60000)) <= 0)
            return NULL;
        n = read(s->out, s->said + s->len, sizeof s->said - 1 - s->len);
        if (n <= 0)
            return NULL;
        s->len += (size_t)n;
        s->said[s->len] = '\0';
    }
    return at;
}

/** Its exit status as waitpid() gives it, after @signal (0: it ends by itself). */
static inline int server_end(struct server *s, int signal)
{
    int status = -1;

    if (s->pid <= 0)
        return status;
    if (signal)
        (void)kill(s->pid, signal);
    while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
        ;
    (void)close(s->out);
    s->pid = 0;
    return status;
}
