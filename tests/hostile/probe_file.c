/* Attempts at files: of /proc, of the kernel, and at bits of modes. */
#include "tests/hostile/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- /proc ---- */

/* Whatever can be read of an open file, at most a little.  /dev/null stands where a mask is. */
static int read_some(int fd)
{
    char buf[64];
    ssize_t n;

    if (fd < 0)
        return errno;
    n = read(fd, buf, sizeof buf);
    if (n < 0)
        return errno;
    probe_detail("%zd", n);
    return 0;
}

static int read_path(const char *path)
{
    return read_some(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

static int from_folder(const char *folder, const char *name)
{
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return dir < 0 ? errno : read_some(openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

/* A descriptor that only names it, opened through /proc/self/fd. */
static int through_descriptor(const char *path)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    char link[64];

    if (fd < 0)
        return errno;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return read_path(link);
}

static int by_openat2(const char *path)
{
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK };

    return read_some((int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how));
}

/* probe masked NAME: /proc/NAME in every spelling, a line for each. */
static int masked(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "keys";
    const char *const before[] = {
        "/proc/",
        "//proc/./",
        "/proc/self/root/proc/",
        "/proc/1/../",
        "/proc/sys/../",
        "/proc/self/cwd/../proc/",
        "/dev/../proc/",
        "/proc/thread-self/../../../",
    };
    char path[256], label[300], up[64];

    for (size_t i = 0; i < PROBE_LEN(before); i++) {
        (void)snprintf(path, sizeof path, "%s%s", before[i], name);
        (void)snprintf(label, sizeof label, "masked:%s", path);
        probe_say(label, read_path(path));
    }
    (void)snprintf(path, sizeof path, "/proc/%s", name);
    (void)snprintf(up, sizeof up, "../%s", name);
    probe_say("masked:dirfd", from_folder("/proc", name));
    probe_say("masked:dirfd-up", from_folder("/proc/self", up));
    probe_say("masked:descriptor", through_descriptor(path));
    probe_say("masked:openat2", by_openat2(path));
    return 0;
}

/* Never writes: it is enough to know whether a descriptor for writing would lead anywhere. */
static int open_to_write(const char *path)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st) != 0)
        return errno;
    probe_detail("%s", S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) ? "null" : "open");
    return 0;
}

/* probe write PATH: may it be opened for writing? */
static int write_deed(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    probe_say(argv[1], open_to_write(argv[1]));
    return 0;
}

/* probe read PATH */
static int read_deed(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    probe_say(argv[1], read_path(argv[1]));
    return 0;
}

static int init_environ(void)
{
    return read_path("/proc/1/environ");
}

static int init_mem(void)
{
    return probe_result(open("/proc/1/mem", O_RDWR | O_CLOEXEC));
}

static int init_maps(void)
{
    return read_path("/proc/1/maps");
}

static int init_descriptors(void)
{
    DIR *dir = opendir("/proc/1/fd");

    return dir ? 0 : errno;
}

static int init_link(const char *path)
{
    char target[256];
    ssize_t n = readlink(path, target, sizeof target - 1);

    if (n < 0)
        return errno;
    probe_detail("%.*s", (int)n, target);
    return 0;
}

static int init_root(void)
{
    return init_link("/proc/1/root");
}

static int init_exe(void)
{
    return init_link("/proc/1/exe");
}

static int init_exe_write(void)
{
    return probe_result(open("/proc/1/exe", O_WRONLY | O_CLOEXEC));
}

static int init_namespace(void)
{
    return init_link("/proc/1/ns/mnt");
}

static int own_exe_write(void)
{
    return probe_result(open("/proc/self/exe", O_WRONLY | O_CLOEXEC));
}

static int write_number(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 ? errno : probe_result(write(fd, text, strlen(text)));
}

static int init_oom_score(void)
{
    return write_number("/proc/1/oom_score_adj", "0");
}

static int own_oom_score(void)
{
    return write_number("/proc/self/oom_score_adj", "-1000");
}

static int sys_folder(void)
{
    struct stat st;

    return probe_result(stat("/sys", &st));
}

static int cgroup_folder(void)
{
    struct stat st;

    return probe_result(stat("/sys/fs/cgroup", &st));
}

/* ---- modes and marks ---- */

static int fchmod_setuid(void)
{
    int fd = open("/tmp/probe-fchmod", O_CREAT | O_WRONLY | O_CLOEXEC, 0700);

    return fd < 0 ? errno : probe_result(fchmod(fd, 04755));
}

/* Its mode lies in memory: the file may carry the bit, but is empty, and writing clears it. */
static int openat2_setuid(void)
{
    struct open_how how = { .flags = O_CREAT | O_WRONLY | O_CLOEXEC, .mode = 04755 };
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, "/tmp/probe-openat2", &how, sizeof how);
    struct stat st;

    if (fd < 0 || write(fd, "x", 1) != 1 || fstat(fd, &st) != 0)
        return errno;
    probe_detail("%04o", st.st_mode & 07777);
    return 0;
}

static int file_capability(void)
{
    /* version 2, effective, CAP_SYS_ADMIN */
    static const unsigned char value[20] = { 1, 0, 0, 2, 0, 0, 0x20 };

    return probe_result(
        setxattr("/workspace/probe", "security.capability", value, sizeof value, 0));
}

static int trusted_mark(void)
{
    return probe_result(setxattr("/tmp", "trusted.overlay.opaque", "y", 1, 0));
}

static int chown_root(void)
{
    return probe_result(chown("/workspace/probe", 0, 0));
}

/* ---- what sandboxes share ---- */

static int lease(void)
{
    int fd = open("/usr/bin/true", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? errno : probe_result(fcntl(fd, F_SETLEASE, F_RDLCK));
}

static int dnotify(void)
{
    int fd = open("/usr/bin", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? errno : probe_result(fcntl(fd, F_NOTIFY, DN_ACCESS));
}

static int write_usr(void)
{
    return probe_result(open("/usr/bin/true", O_WRONLY | O_CLOEXEC));
}

static int write_passwd(void)
{
    return probe_result(open("/etc/passwd", O_WRONLY | O_CLOEXEC));
}

static int read_shadow(void)
{
    return read_path("/etc/shadow");
}

static int raw_disk(void)
{
    return probe_result(open("/dev/sda", O_RDONLY | O_CLOEXEC));
}

static int dev_mem(void)
{
    return probe_result(open("/dev/mem", O_RDONLY | O_CLOEXEC));
}

static int dev_kmsg(void)
{
    return probe_result(open("/dev/kmsg", O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

static int dev_fuse(void)
{
    return probe_result(open("/dev/fuse", O_RDWR | O_CLOEXEC));
}

static int dev_kvm(void)
{
    return probe_result(open("/dev/kvm", O_RDWR | O_CLOEXEC));
}

static int dev_console(void)
{
    return probe_result(open("/dev/console", O_WRONLY | O_CLOEXEC | O_NOCTTY));
}

/* ---- with an argument ---- */

/* probe abstract NAME: connect to an abstract socket. */
static int abstract_deed(int argc, char **argv)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t len;

    if (argc < 2 || fd < 0)
        return 2;
    len = strlen(argv[1]);
    if (len >= sizeof to.sun_path)
        return 2;
    memcpy(to.sun_path + 1, argv[1], len);
    probe_say("abstract",
              probe_result(connect(fd, (struct sockaddr *)&to,
                                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len))));
    return 0;
}

/* probe pathname PATH: connect to a socket by its path. */
static int pathname_deed(int argc, char **argv)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (argc < 2 || fd < 0 || strlen(argv[1]) >= sizeof to.sun_path)
        return 2;
    memcpy(to.sun_path, argv[1], strlen(argv[1]));
    probe_say("pathname", probe_result(connect(fd, (struct sockaddr *)&to, sizeof to)));
    return 0;
}

/* probe flock PATH sh|ex|hold: may it be locked now?  hold: until standard input ends. */
static int flock_deed(int argc, char **argv)
{
    char byte;
    int fd;

    if (argc < 3)
        return 2;
    fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        probe_say("flock", errno);
        return 0;
    }
    probe_say("flock", probe_result(flock(fd, LOCK_EX | LOCK_NB)));
    if (!strcmp(argv[2], "hold"))
        while (read(STDIN_FILENO, &byte, 1) > 0)
            ;
    return 0;
}

const struct probe_try probe_tries_file[] = {
    { "init-environ", init_environ },
    { "init-mem", init_mem },
    { "init-maps", init_maps },
    { "init-descriptors", init_descriptors },
    { "init-root", init_root },
    { "init-exe", init_exe },
    { "init-exe-write", init_exe_write },
    { "init-namespace", init_namespace },
    { "own-exe-write", own_exe_write },
    { "init-oom-score", init_oom_score },
    { "own-oom-score", own_oom_score },
    { "sys-folder", sys_folder },
    { "cgroup-folder", cgroup_folder },
    { "fchmod-setuid", fchmod_setuid },
    { "openat2-setuid", openat2_setuid },
    { "file-capability", file_capability },
    { "trusted-mark", trusted_mark },
    { "chown-root", chown_root },
    { "lease", lease },
    { "dnotify", dnotify },
    { "write-usr", write_usr },
    { "write-passwd", write_passwd },
    { "read-shadow", read_shadow },
    { "dev-disk", raw_disk },
    { "dev-mem", dev_mem },
    { "dev-kmsg", dev_kmsg },
    { "dev-fuse", dev_fuse },
    { "dev-kvm", dev_kvm },
    { "dev-console", dev_console },
    { NULL },
};

const struct probe_deed probe_deeds_file[] = {
    { "masked", masked },
    { "write", write_deed },
    { "read", read_deed },
    { "abstract", abstract_deed },
    { "pathname", pathname_deed },
    { "flock", flock_deed },
    { NULL },
};
