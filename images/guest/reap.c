#include "images/guest/reap.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/run.h"

static void on_ready(struct evloop_source *s, uint32_t events)
{
    struct reaper *r = CONTAINER_OF(s, struct reaper, source);
    struct signalfd_siginfo info;

    (void)events;
    while (read(s->fd, &info, sizeof info) == (ssize_t)sizeof info)
        continue;
    for (;;) {
        struct rusage usage;
        int status;
        pid_t pid = wait4(-1, &status, WNOHANG, &usage);

        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return;
        run_reaped(r->in, pid, status, &usage);
        machine_reaped(r->in, pid, status);
    }
}

bool reap_init(struct reaper *r, struct inside *in)
{
    sigset_t set;
    int fd;

    r->in = in;
    r->source.fd = -1;
    r->source.ready = on_ready;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return false;
    if (!evloop_watch(&in->loop, &r->source, fd, EPOLLIN, false)) {
        close(fd);
        return false;
    }
    return true;
}

void reap_fini(struct reaper *r)
{
    int fd = r->source.fd;

    if (fd < 0)
        return;
    evloop_unwatch(&r->in->loop, &r->source);
    close(fd);
}
