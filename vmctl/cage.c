#include "vmctl/cage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/base/attr.h"

/* Of the kernel's interface up to ABI 6, which is newer than the distribution's headers. */
#define FS_ABI_1     ((1ull << 13) - 1)
#define FS_REFER     (1ull << 13)
#define FS_TRUNCATE  (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define NET_TCP      3ull /* bind and connect, ABI 4 */
#define SCOPED       3ull /* abstract Unix sockets and signals, ABI 6 */

#define READ_TREE \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define READ_FILE LANDLOCK_ACCESS_FS_READ_FILE
#define USE_FILE  (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)

struct ruleset_attr {
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
};

static bool allow_fd(int ruleset, int fd, uint64_t access)
{
    struct landlock_path_beneath_attr attr = { .allowed_access = access, .parent_fd = fd };

    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0) == 0;
}

/* What does not exist needs no rule. */
static bool allow_path(int ruleset, const char *path, uint64_t access)
{
    int fd = open(path, O_PATH | O_CLOEXEC), saved;
    bool ok;

    if (fd < 0)
        return errno == ENOENT;
    ok = allow_fd(ruleset, fd, access);
    saved = errno;
    (void)close(fd);
    errno = saved;
    return ok;
}

static bool allow_given(int ruleset, int fd)
{
    int flags = fcntl(fd, F_GETFL);
    struct stat st;

    if (flags < 0 || fstat(fd, &st) != 0)
        return false;
    if (!S_ISREG(st.st_mode))
        return true;
    /* Memory files are on no file system that a rule could speak of, and free to be opened. */
    return allow_fd(ruleset, fd, (flags & O_ACCMODE) == O_RDONLY ? READ_FILE : USE_FILE) ||
           errno == EBADFD;
}

static bool add_rules(int ruleset, int abi, const int *fds, size_t count)
{
    static const char *const programs[] = { "/usr",   "/bin", "/lib",
                                            "/lib64", "/opt", "/etc/ld.so.cache" };
    const uint64_t command = abi >= 5 ? FS_IOCTL_DEV : 0;

    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        if (!allow_path(ruleset, programs[i], i + 1 < ARRAY_LEN(programs) ? READ_TREE : READ_FILE))
            return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!allow_given(ruleset, fds[i]))
            return false;
    }
    /* The way to the given files leads through /proc/self/fd. */
    return allow_path(ruleset, "/proc", READ_TREE) && allow_path(ruleset, "/dev/null", USE_FILE) &&
           allow_path(ruleset, "/dev/urandom", READ_FILE) &&
           allow_path(ruleset, "/dev/kvm", USE_FILE | command);
}

bool cage_close(int abi, const int *fds, size_t count)
{
    struct ruleset_attr attr = { .fs = FS_ABI_1 };
    size_t size = sizeof attr.fs;
    int ruleset, saved;
    bool ok;

    if (abi <= 0)
        return true;
    attr.fs |= abi >= 2 ? FS_REFER : 0;
    attr.fs |= abi >= 3 ? FS_TRUNCATE : 0;
    attr.fs |= abi >= 5 ? FS_IOCTL_DEV : 0;
    if (abi >= 4) {
        attr.net = NET_TCP;
        size += sizeof attr.net;
    }
    if (abi >= 6) {
        attr.scoped = SCOPED;
        size += sizeof attr.scoped;
    }
    ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0)
        return false;
    ok =
        add_rules(ruleset, abi, fds, count) && syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
    saved = errno;
    (void)close(ruleset);
    errno = saved;
    return ok;
}
