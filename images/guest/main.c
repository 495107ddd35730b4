/*
 * aios-guest - the first program in a computer: serves the host over descriptor 3.
 *
 *   aios-guest [--sandbox] [--port N] [--user N]
 *
 * --sandbox is how it is started in a sandbox, and the default.  --port chooses another proxy port
 * than 3128, 0 none.  --user, in a virtual machine, is whom programs run as and whose files the
 * host's requests are about, while the guest itself stays root.  It ends when the stream does, and
 * with it, since it is process 1, everything that runs beside it.  Started as any other process it
 * adopts what it starts, and kills that at its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/sys.h"

#define STREAM        3
#define LAST_WORDS_MS 1000
#define SIGNALS       65

static struct inside inside; /* zeroed, and no page of it is there before it is used */

/* Descriptors 0 to 2 are what programs find there when the host gives them nothing else. */
static bool prepare_descriptors(void)
{
    for (int fd = 0; fd < STREAM; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return false;
    }
    (void)sys_close_range(STREAM + 1, ~0u, false);
    return fcntl(STREAM, F_GETFD) >= 0;
}

static void prepare_process(void)
{
    const struct rlimit no_core = { 0, 0 };
    struct sigaction action;
    sigset_t all;

    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (getpid() != 1)
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    for (int s = 1; s < SIGNALS; s++)
        (void)sigaction(s, &action, NULL);
    action.sa_flags = SA_NOCLDSTOP;
    (void)sigaction(SIGCHLD, &action, NULL);
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)umask(022);
    (void)!chdir("/");
}

/* What is queued, if the host still takes it. */
static void say_last_words(void)
{
    int64_t deadline_ns = sys_now_ns() + (int64_t)LAST_WORDS_MS * 1000000;

    while (!inside.up.dead && !uplink_idle(&inside.up) && sys_now_ns() < deadline_ns) {
        struct pollfd p = { .fd = inside.up.source.fd, .events = POLLOUT };

        if (poll(&p, 1, 10) > 0)
            uplink_flush(&inside.up);
    }
}

static bool parse_number(const char *text, uint16_t *ret)
{
    unsigned long v = 0;

    for (; *text >= '0' && *text <= '9' && v <= UINT16_MAX; text++)
        v = v * 10 + (unsigned long)(*text - '0');
    *ret = (uint16_t)v;
    return *text == '\0' && v <= UINT16_MAX;
}

/* As far as files go the guest is the user; its other powers stay. */
static void become(uint16_t user)
{
    (void)setfsgid(user);
    (void)setfsuid(user);
}

int main(int argc, char **argv)
{
    struct inside_options opt = { .stream = STREAM, .listen_fd = -1, .root = "/" };
    uint16_t port = EGRESS_PORT, user = 0;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--port") && i + 1 < argc && parse_number(argv[i + 1], &port))
            i++;
        else if (!strcmp(argv[i], "--user") && i + 1 < argc && parse_number(argv[i + 1], &user))
            i++;
        else if (strcmp(argv[i], "--sandbox") != 0)
            return 2;
    }
    if (!prepare_descriptors())
        return 3;
    prepare_process();
    if (port != 0) /* without it programs are refused a connection, which is what they would get */
        opt.listen_fd = egress_listen(port);
    opt.user = user;
    if (!inside_init(&inside, &opt))
        return 4;
    if (user)
        become(user);
    while (inside_turn(&inside, -1))
        continue;
    if (inside.leaving)
        say_last_words();
    if (!inside.pid1)
        machine_kill_all(&inside);
    /* Not exit(): nothing is left to be done, and what is left running dies with us. */
    _exit(0);
}
