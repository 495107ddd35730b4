/*
 * notify_child - a child under the filter that does what it is told, and a record of what the
 * notifier told about it; for the tests of notify.c.
 *
 * Threads: the test's own, but for keep().
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/utf8.h"
#include "sandbox/seccomp.h"
#include "tests/support/check.h"

#define CHILD_SECONDS 60

/* ---- a child under the filter, which does what it is told byte by byte ---- */

struct child {
    pid_t pid;
    int sock;
    int listener; /* -1 once a watch has it */
    int *shared;  /* errno of the child's calls */
};

typedef void child_fn(int sock, int *shared);

static struct child start_child(child_fn *fn)
{
    struct child c = { .listener = -1 };
    struct error err = ERROR_INIT;
    size_t fd_count;
    int pair[2];
    char byte;

    c.shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(c.shared != MAP_FAILED);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    c.pid = fork();
    assert_true(c.pid >= 0);
    if (c.pid == 0) {
        int listener;

        (void)alarm(CHILD_SECONDS);
        close(pair[0]);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_PDEATHSIG, SIGKILL))
            _exit(1);
        listener = seccomp_install(seccomp_filter());
        if (listener < 0 || !fd_send(pair[1], "L", 1, &listener, 1, NULL))
            _exit(2);
        close(listener);
        if (read(pair[1], &byte, 1) != 1)
            _exit(3);
        fn(pair[1], c.shared);
        _exit(0);
    }
    close(pair[1]);
    c.sock = pair[0];
    assert_ok(fd_recv(c.sock, &byte, 1, &c.listener, 1, &fd_count, &err) == 1, err);
    assert_int_equal(fd_count, 1);
    return c;
}

static void go(struct child *c)
{
    assert_int_equal(write(c->sock, "g", 1), 1);
}

static void wait_byte(struct child *c)
{
    char byte;

    assert_int_equal(read(c->sock, &byte, 1), 1);
}

/** The child ends by itself with code 0. */
static void join_child(struct child *c)
{
    int status;

    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    assert_int_equal(status, 0);
    close(c->sock);
    (void)munmap(c->shared, 4096);
}

static void kill_child(struct child *c)
{
    assert_int_equal(kill(c->pid, SIGKILL), 0);
    assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
    close(c->sock);
    (void)munmap(c->shared, 4096);
}

/* ---- what was told ---- */

struct told {
    size_t count;
    char name[32], text[640]; /* of the last */
    uint32_t pid;
    bool invalid; /* some text was not UTF-8 */
};

struct reports {
    pthread_mutex_t lock;
    struct told told;
};

#define REPORTS_INIT                      \
    {                                     \
        .lock = PTHREAD_MUTEX_INITIALIZER \
    }

static void keep(void *arg, const char *name, const char *text, uint32_t pid)
{
    struct reports *r = arg;

    pthread_mutex_lock(&r->lock);
    r->told.count++;
    r->told.pid = pid;
    (void)snprintf(r->told.name, sizeof r->told.name, "%s", name);
    (void)snprintf(r->told.text, sizeof r->told.text, "%s", text);
    r->told.invalid |= !utf8_valid(text, strlen(text));
    pthread_mutex_unlock(&r->lock);
}

/** What was told so far; the program that caused it has gone on, so it is there. */
static struct told told(struct reports *r)
{
    struct told copy;

    pthread_mutex_lock(&r->lock);
    copy = r->told;
    pthread_mutex_unlock(&r->lock);
    return copy;
}

static struct notify_watch *watch(struct notify *n, struct child *c, notify_fn *fn, void *arg)
{
    struct error err = ERROR_INIT;
    struct notify_watch *w = notify_add(n, fd_steal(&c->listener), fn, arg, &err);

    assert_ok(w != NULL, err);
    return w;
}

static struct notify *new_notify(void)
{
    struct error err = ERROR_INIT;
    struct notify *n = notify_new(NULL, &err);

    assert_ok(n != NULL, err);
    return n;
}
