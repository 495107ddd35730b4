/*
 * Taking as much as there is: memory, disk, descriptors.  Each is bounded by an argument, so that
 * the machine survives a sandbox without limits.
 */
#include "tests/hostile/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB (1L << 20)

static long number(int argc, char **argv, int at, long fallback)
{
    return argc > at ? strtol(argv[at], NULL, 10) : fallback;
}

/* "NAME OK got", or "NAME ERRNO"; failing makes the run fail. */
static int told(const char *name, long got, int error)
{
    probe_detail("%ld", got);
    probe_say(name, error);
    return error ? 1 : 0;
}

/* ---- memory ---- */

/* probe heap MIB */
static int heap(int argc, char **argv)
{
    long most = number(argc, argv, 1, 1);
    long got = 0;

    for (; got < most; got++) {
        char *at =
            mmap(NULL, (size_t)MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (at == MAP_FAILED)
            return told("heap", got, errno);
        memset(at, 1, (size_t)MIB);
    }
    return told("heap", got, 0);
}

static int fill(const char *name, int fd, long most)
{
    static char block[MIB];
    long got = 0;

    memset(block, 1, sizeof block);
    if (fd < 0)
        return told(name, 0, errno);
    for (long left = most * MIB; left > 0;) {
        ssize_t n = write(fd, block, sizeof block); /* the last before the end is shorter */

        if (n <= 0)
            return told(name, got / MIB, errno);
        left -= n;
        got += n;
    }
    return told(name, got / MIB, 0);
}

/* probe file PATH MIB */
static int file(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    return fill("file", open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0600),
                number(argc, argv, 2, 1));
}

/* probe memfd MIB: written, never mapped */
static int memfd(int argc, char **argv)
{
    return fill("memfd", memfd_create("greed", MFD_CLOEXEC), number(argc, argv, 1, 1));
}

/* probe shm MIB: SysV segments, touched, detached, never removed */
static int shm(int argc, char **argv)
{
    long most = number(argc, argv, 1, 1);
    long got = 0;

    for (; got < most; got += 16) {
        int id = shmget(IPC_PRIVATE, (size_t)(16 * MIB), IPC_CREAT | 0600);
        char *at = id < 0 ? (char *)-1 : shmat(id, NULL, 0);

        if (at == (char *)-1)
            return told("shm", got, errno);
        memset(at, 1, (size_t)(16 * MIB));
        (void)shmdt(at);
    }
    return told("shm", got, 0);
}

/* ---- disk ---- */

/* probe inodes DIR N */
static int inodes(int argc, char **argv)
{
    long most = number(argc, argv, 2, 1);
    char path[512];

    if (argc < 3)
        return 2;
    for (long i = 0; i < most; i++) {
        int fd;

        (void)snprintf(path, sizeof path, "%s/%ld", argv[1], i);
        fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0)
            return told("inodes", i, errno);
        (void)close(fd);
    }
    return told("inodes", most, 0);
}

/* probe fallocate PATH MIB */
static int allocate(int argc, char **argv)
{
    int fd = argc < 3 ? -1 : open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    if (fd < 0)
        return 2;
    return told("fallocate", 0, probe_result(fallocate(fd, 0, 0, number(argc, argv, 2, 1) * MIB)));
}

/* probe sparse PATH MIB: a hole costs nothing and may be large */
static int sparse(int argc, char **argv)
{
    int fd = argc < 3 ? -1 : open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    if (fd < 0)
        return 2;
    return told("sparse", 0, probe_result(ftruncate(fd, number(argc, argv, 2, 1) * MIB)));
}

/* probe deep DIR N: folders in folders, deeper than any path can say */
static int deep(int argc, char **argv)
{
    long most = number(argc, argv, 2, 1);
    long i = 0;

    if (argc < 3 || chdir(argv[1]) != 0)
        return 2;
    for (; i < most; i++)
        if (mkdir("deeper", 0755) != 0 || chdir("deeper") != 0)
            return told("deep", i, errno);
    return told("deep", i, 0);
}

/* ---- descriptors ---- */

static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int open_null(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int open_terminal(void)
{
    return open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
}

static int open_inotify(void)
{
    return inotify_init1(IN_CLOEXEC);
}

static int open_eventfd(void)
{
    return eventfd(0, EFD_CLOEXEC);
}

static int open_epoll(void)
{
    static int watched = -1;
    struct epoll_event event = { .events = EPOLLIN };
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (watched < 0)
        watched = eventfd(0, EFD_CLOEXEC);
    return fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, watched, &event) != 0 ? -1 : fd;
}

/* probe exhaust KIND N [hold]: open N of a kind, or all there are, and with "hold" keep them until
 * standard input ends. */
static int exhaust(int argc, char **argv)
{
    static const struct {
        const char *kind;
        int (*open)(void);
    } kinds[] = { { "null", open_null },
                  { "terminal", open_terminal },
                  { "inotify", open_inotify },
                  { "eventfd", open_eventfd },
                  { "epoll", open_epoll } };
    long most = number(argc, argv, 2, 1);
    long got = 0;
    int error = 0;
    char byte;

    if (argc < 3)
        return 2;
    raise_limit();
    for (size_t k = 0; k < PROBE_LEN(kinds); k++)
        while (!strcmp(kinds[k].kind, argv[1]) && got < most && !error) {
            if (kinds[k].open() < 0)
                error = errno;
            else
                got++;
        }
    probe_detail("%ld", got);
    probe_say("exhaust", 0);
    probe_say(argv[1], error);
    if (argc > 3 && !strcmp(argv[3], "hold"))
        while (read(STDIN_FILENO, &byte, 1) > 0)
            ;
    return 0;
}

/* ---- a race ---- */

/* probe swap A B: exchange two names without a pause until standard input ends. */
static int swap(int argc, char **argv)
{
    char byte;

    if (argc < 3 || fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) != 0)
        return 2;
    probe_say("swap", 0);
    while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EAGAIN)
        for (int i = 0; i < 100; i++)
            if (renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE) != 0)
                return told("swap", 0, errno);
    return 0;
}

const struct probe_deed probe_deeds_memory[] = {
    { "heap", heap },
    { "file", file },
    { "memfd", memfd },
    { "shm", shm },
    { "inodes", inodes },
    { "fallocate", allocate },
    { "sparse", sparse },
    { "deep", deep },
    { "exhaust", exhaust },
    { "swap", swap },
    { NULL },
};
