/*
 * aios-early - the first program of a virtual machine: from the initramfs to the guest.
 *
 * It loads the modules that /modules/order names, mounts what every computer has, makes the disk
 * that the kernel's command line names (aios.root=/dev/…) the root, runs its /etc/aios/start where
 * there is one, opens the port to the host as descriptor 3, and becomes aios-guest, which runs
 * programs as user 1000 where the system has one; theirs is /workspace.  Without a disk the
 * initramfs stays the root.
 *
 * When it cannot go on it says why on the console and ends, which ends the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT       "/dev/vport0p1"
#define STREAM     3
#define START      "/etc/aios/start"
#define WORKSPACE  "/workspace"
#define USER_ID    1000 /* as in a sandbox */
#define USER       "1000"
#define FIRST_FREE 10
#define WAIT_MS    10000
#define TEXT_MAX   4096u

static _Noreturn void fail(const char *what)
{
    int saved = errno;
    char line[256];
    int n = snprintf(line, sizeof line, "<2>aios-early: %s: %s\n", what, strerror(saved));
    int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && n > 0)
        (void)!write(fd, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    _exit(1);
}

static void mount_at(const char *type, const char *place, unsigned long flags, const char *data)
{
    (void)mkdir(place, 0755);
    if (mount(type, place, type, flags, data) != 0)
        fail(place);
}

/* A file that appears when a driver has found its device. */
static int open_when_there(const char *path, int flags)
{
    const struct timespec moment = { .tv_nsec = 1000000 };

    for (int ms = 0; ms < WAIT_MS; ms++) {
        int fd = open(path, flags | O_CLOEXEC);

        if (fd >= 0 || (errno != ENOENT && errno != ENXIO))
            return fd;
        (void)nanosleep(&moment, NULL);
    }
    return -1;
}

static size_t read_text(const char *path, char text[TEXT_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n;

    if (fd < 0)
        return 0;
    while (len < TEXT_MAX - 1 && (n = read(fd, text + len, TEXT_MAX - 1 - len)) > 0)
        len += (size_t)n;
    close(fd);
    text[len] = '\0';
    return len;
}

static void load_modules(void)
{
    char order[TEXT_MAX], *rest = NULL;

    (void)read_text("/modules/order", order);
    for (char *name = strtok_r(order, "\n", &rest); name; name = strtok_r(NULL, "\n", &rest)) {
        char path[128];
        int fd;

        (void)snprintf(path, sizeof path, "/modules/%s", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
            fail(path);
        close(fd);
        (void)unlink(path);
    }
}

/* "/dev/vda" of "… aios.root=/dev/vda …". */
static const char *asked_root(char line[TEXT_MAX])
{
    char *rest = NULL;

    (void)read_text("/proc/cmdline", line);
    for (char *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        if (!strncmp(word, "aios.root=", 10))
            return word + 10;
    }
    return NULL;
}

static void carry_mount(const char *from, const char *to)
{
    (void)mkdir(to, 0755);
    if (mount(from, to, NULL, MS_MOVE, NULL) != 0)
        fail(to);
}

static void enter_root(const char *disk)
{
    int fd = open_when_there(disk, O_RDONLY);

    if (fd < 0)
        fail(disk);
    close(fd);
    (void)mkdir("/root", 0755);
    if (mount(disk, "/root", "ext4", MS_NOATIME, NULL) != 0)
        fail("mount the disk");
    carry_mount("/dev", "/root/dev");
    carry_mount("/proc", "/root/proc");
    (void)unlink("/aios-guest"); /* open already; the rest goes with the next two */
    (void)unlink("/init");
    if (chdir("/root") != 0 || mount("/root", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
        chdir("/") != 0)
        fail("enter the disk");
}

/* Has the system the user that programs run as?  The third word of a line is the number. */
static bool has_user(void)
{
    char text[TEXT_MAX], *rest = NULL;

    (void)read_text("/etc/passwd", text);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *word = strchr(line, ':');

        word = word ? strchr(word + 1, ':') : NULL;
        if (word && !strncmp(word + 1, USER ":", sizeof USER))
            return true;
    }
    return false;
}

static void make_workspace(bool user)
{
    uid_t owner = user ? USER_ID : 0;

    (void)mkdir(WORKSPACE, 0755);
    if (chown(WORKSPACE, owner, owner) != 0)
        fail(WORKSPACE);
}

static void start_loopback(void)
{
    struct ifreq request;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, "lo", 3);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0)
        fail("start the loopback network");
    close(fd);
}

/* What an image wants done as root before anybody is let in, such as the start of a desktop.  What
 * it leaves running stays; how long it takes is its own affair. */
static void run_start(void)
{
    static char path[] = START, search[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    char *const argv[] = { path, NULL };
    char *const env[] = { search, NULL };
    pid_t pid, ended;

    if (access(START, X_OK) != 0)
        return;
    pid = fork();
    if (pid == 0) {
        int null_fd = open("/dev/null", O_RDWR); /* which may be one of the three */

        (void)setsid();
        for (int fd = 0; fd < STREAM; fd++)
            (void)dup2(null_fd, fd);
        (void)execve(path, argv, env);
        _exit(127);
    }
    do {
        ended = wait(NULL);
    } while (pid > 0 && ended != pid && (ended > 0 || errno == EINTR));
}

static void open_stream(void)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int port = open_when_there(PORT, O_RDWR);

    if (port < 0 || null_fd < 0)
        fail("open " PORT);
    if (dup2(null_fd, 0) < 0 || dup2(null_fd, 1) < 0 || dup2(null_fd, 2) < 0)
        fail("set up descriptors");
    if (port == STREAM ? fcntl(port, F_SETFD, 0) != 0 : dup2(port, STREAM) < 0)
        fail("set up descriptors");
}

int main(void)
{
    static const char *const as_root[] = { "aios-guest", NULL };
    static const char *const as_user[] = { "aios-guest", "--user", USER, NULL };
    static const char *const env[] = { NULL };
    char line[TEXT_MAX];
    const char *root;
    bool user;
    int guest;

    (void)umask(022);
    mount_at("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755");
    mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    guest = open("/aios-guest", O_RDONLY | O_CLOEXEC);
    if (guest >= 0) /* out of the way of the numbers that have a meaning */
        guest = fcntl(guest, F_DUPFD_CLOEXEC, FIRST_FREE);
    if (guest < 0)
        fail("open /aios-guest");
    load_modules();
    root = asked_root(line);
    if (root)
        enter_root(root);
    mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666");
    mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_at("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
    (void)!symlink("pts/ptmx", "/dev/ptmx");
    (void)!symlink("/proc/self/fd", "/dev/fd");
    (void)!symlink("/proc/self/fd/0", "/dev/stdin");
    (void)!symlink("/proc/self/fd/1", "/dev/stdout");
    (void)!symlink("/proc/self/fd/2", "/dev/stderr");
    (void)mkdir("/etc", 0755);
    (void)!sethostname("computer", 8);
    user = has_user();
    make_workspace(user);
    start_loopback();
    run_start();
    open_stream();
    (void)syscall(SYS_execveat, guest, "", user ? as_user : as_root, env, AT_EMPTY_PATH);
    fail("run aios-guest");
}
