/*
 * jail_probe - started in QEMU's place, it tries what a QEMU that was taken over would, and prints
 * what it was not refused.
 *
 *   3  itself   4  a template's memory
 *   hog                       takes memory until it is killed
 *   FILE SOCKET PORT PID APART THREADS
 *       a file anybody may read and write, a socket anybody may connect to, a port of the loopback,
 *       the server, whether there are namespaces, and how many threads there may be (0: any number)
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define MEMORY_FD 4
#define HOG_BYTES (1ul << 30)
#define THREADS   300

static void allowed(const char *what)
{
    (void)printf("allowed: %s\n", what);
}

static void must_fail(long result, const char *what)
{
    if (result >= 0)
        allowed(what);
}

/* ---- files ---- */

static void try_files(const char *file, bool apart)
{
    static const char *const secrets[] = { "/etc/passwd", "/etc/shadow", "/root",    "/home",
                                           "/var/lib",    "/run",        "/sys",     "/boot",
                                           "/dev/mem",    "/dev/vda",    "/dev/fuse" };
    static const char *const places[] = { "/x",     "/tmp/x",     "/var/tmp/x", "/dev/shm/x",
                                          "/usr/x", "/usr/bin/x", "/dev/x",     "/proc/x",
                                          "/run/x", "/root/x" };
    struct stat st;

    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        must_fail(open(secrets[i], O_RDONLY), secrets[i]);
        if (apart)
            must_fail(stat(secrets[i], &st), secrets[i]);
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        must_fail(open(places[i], O_WRONLY | O_CREAT, 0600), places[i]);
        must_fail(mkdir(places[i], 0700), places[i]);
        must_fail(symlink("/", places[i]), places[i]);
        must_fail(mknod(places[i], S_IFCHR | 0600, makedev(1, 1)), places[i]);
    }
    must_fail(open(file, O_RDONLY), "reading a file of the host");
    must_fail(open(file, O_WRONLY), "writing a file of the host");
    must_fail(unlink(file), "removing a file of the host");
    must_fail(unlink("/usr/bin/env"), "removing a program");
    must_fail(rename("/usr/bin/env", "/usr/bin/env2"), "renaming a program");
    if (apart)
        must_fail(stat(file, &st), "seeing a file of the host");
    if (open("/usr/bin/env", O_RDONLY) < 0)
        (void)printf("refused: reading programs\n");
}

/* ---- the template ---- */

static void try_memory(void)
{
    int again = open("/proc/self/fd/4", O_RDWR); /* as QEMU does */
    const int fds[] = { MEMORY_FD, again };
    char byte;

    if (again < 0)
        (void)printf("refused: opening the memory\n");
    for (int i = 0; i < 2; i++) {
        struct iovec v = { .iov_base = &byte, .iov_len = 1 };

        must_fail(pwrite(fds[i], "x", 1, 0), "writing the template");
        must_fail(pwritev(fds[i], &v, 1, 0), "writing the template");
        must_fail(ftruncate(fds[i], 0), "cutting the template");
        must_fail(ftruncate(fds[i], 1 << 30), "growing the template");
        must_fail(fallocate(fds[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
                  "a hole in the template");
        must_fail(fcntl(fds[i], F_ADD_SEALS, 0), "other seals");
        if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0) != MAP_FAILED)
            allowed("mapping the template for writing");
        {
            void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fds[i], 0);

            if (at != MAP_FAILED)
                must_fail(mprotect(at, 4096, PROT_READ | PROT_WRITE), "writing a mapped template");
        }
    }
}

/* ---- others ---- */

static void try_sockets(const char *path, const char *port)
{
    static const int families[] = { AF_UNIX,   AF_INET,        AF_INET6, AF_NETLINK,
                                    AF_PACKET, 40 /* vsock */, 38 /* algorithms */ };
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int pair[2];

    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        must_fail(socket(families[i], i > 2 ? SOCK_RAW : SOCK_STREAM, 0), "a socket");
    /* What can be made without socket(). */
    (void)snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    in.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0) {
        allowed("a socket pair");
        must_fail(connect(pair[0], (struct sockaddr *)&un, sizeof un), "a Unix connection");
        must_fail(sendto(pair[0], "x", 1, 0, (struct sockaddr *)&un, sizeof un), "a Unix message");
        must_fail(bind(pair[0], (struct sockaddr *)&un, sizeof un), "a Unix name");
    }
    must_fail(connect(0, (struct sockaddr *)&in, sizeof in), "a connection");
}

static void try_others(pid_t server, bool apart)
{
    char path[64], bytes[8];
    struct iovec here = { .iov_base = bytes, .iov_len = sizeof bytes };
    struct iovec there = { .iov_base = (void *)&here, .iov_len = sizeof bytes };
    DIR *dir = opendir("/proc");
    int others = 0;

    must_fail(kill(server, 0), "signalling the server");
    must_fail(kill(server, SIGCONT), "waking the server");
    must_fail(kill(-1, 0), "signalling everybody");
    must_fail(syscall(SYS_tgkill, server, server, 0), "signalling the server's thread");
    must_fail(syscall(SYS_tkill, server, 0), "signalling a thread");
    if (syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) != 0)
        (void)printf("refused: signalling itself\n");
    must_fail(ptrace(PTRACE_ATTACH, server, NULL, NULL), "tracing the server");
    must_fail(ptrace(PTRACE_TRACEME, 0, NULL, NULL), "being traced");
    must_fail(process_vm_readv(server, &here, 1, &there, 1, 0), "reading the server's memory");
    must_fail(process_vm_writev(server, &here, 1, &there, 1, 0), "writing the server's memory");
    must_fail(syscall(SYS_pidfd_open, server, 0), "holding the server");
    (void)snprintf(path, sizeof path, "/proc/%d/mem", (int)server);
    must_fail(open(path, O_RDONLY), path);
    (void)snprintf(path, sizeof path, "/proc/%d/environ", (int)server);
    must_fail(open(path, O_RDONLY), path);
    if (!apart)
        return;
    for (struct dirent *e; dir && (e = readdir(dir));)
        others += e->d_name[0] >= '0' && e->d_name[0] <= '9' && strcmp(e->d_name, "1") != 0;
    if (others)
        allowed("seeing other processes");
    if (getpid() != 1)
        allowed("being one of many");
}

static void try_kernel(void)
{
    must_fail(mount("none", "/tmp", "tmpfs", 0, NULL), "a mount");
    must_fail(umount2("/proc", MNT_DETACH), "taking away a mount");
    must_fail(chroot("/usr"), "another root");
    must_fail(unshare(CLONE_NEWUSER), "a user namespace");
    must_fail(unshare(CLONE_NEWNS), "a mount namespace");
    must_fail(setns(0, 0), "entering a namespace");
    must_fail(syscall(SYS_bpf, 0, NULL, 0), "bpf");
    must_fail(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0), "perf");
    must_fail(syscall(SYS_userfaultfd, 0), "userfaultfd");
    must_fail(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1), "keys");
    must_fail(syscall(SYS_io_uring_setup, 1, NULL), "io_uring");
    must_fail(setuid(0), "being root");
    must_fail(setgroups(0, NULL), "other groups");
}

/* ---- many ---- */

static void *hold(void *arg)
{
    for (;;)
        (void)pause();
    return arg;
}

static void try_many(int threads)
{
    pthread_attr_t attr;
    int made = 0;
    long pid;

    pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(0);
    must_fail(pid, "clone");
    pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(0);
    must_fail(pid, "clone with a namespace");
    must_fail(syscall(SYS_clone3, NULL, 0), "clone3");
    pid = fork();
    if (pid == 0)
        _exit(0);
    must_fail(pid, "fork");
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, 64 << 10);
    for (pthread_t t; made < THREADS && pthread_create(&t, &attr, hold, NULL) == 0;)
        made++;
    if (made < 8)
        (void)printf("refused: threads\n");
    if (threads && made >= threads)
        allowed("too many threads");
}

static void hog(void)
{
    char *bytes = mmap(NULL, HOG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (bytes == MAP_FAILED)
        return;
    for (size_t at = 0; at < HOG_BYTES; at += 4096)
        bytes[at] = 1;
    allowed("too much memory");
}

int main(int argc, char **argv)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 2) {
        hog();
        return 0;
    }
    if (argc != 7)
        return 2;
    try_files(argv[1], argv[5][0] == '1');
    try_memory();
    try_sockets(argv[2], argv[3]);
    try_others((pid_t)strtol(argv[4], NULL, 10), argv[5][0] == '1');
    try_kernel();
    try_many((int)strtol(argv[6], NULL, 10));
    (void)printf("done\n");
    return 0;
}
