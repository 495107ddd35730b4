#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/base/attr.h"

/* Of the kernel's interface up to ABI 7, which is newer than the distribution's headers. */
#define CREATE_RULESET_VERSION (1u << 0)
#define RULE_PATH_BENEATH      1

#define FS_EXECUTE     (1ull << 0)
#define FS_WRITE_FILE  (1ull << 1)
#define FS_READ_FILE   (1ull << 2)
#define FS_READ_DIR    (1ull << 3)
#define FS_REMOVE_DIR  (1ull << 4)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_CHAR   (1ull << 6)
#define FS_MAKE_DIR    (1ull << 7)
#define FS_MAKE_REG    (1ull << 8)
#define FS_MAKE_SOCK   (1ull << 9)
#define FS_MAKE_FIFO   (1ull << 10)
#define FS_MAKE_BLOCK  (1ull << 11)
#define FS_MAKE_SYM    (1ull << 12)
#define FS_REFER       (1ull << 13) /* ABI 2; before, no file can change its folder */
#define FS_TRUNCATE    (1ull << 14) /* ABI 3 */
#define FS_IOCTL_DEV   (1ull << 15) /* ABI 5 */

#define SCOPE_ABSTRACT_UNIX_SOCKET (1ull << 0) /* both ABI 6 */
#define SCOPE_SIGNAL               (1ull << 1)

#define FS_ABI_1       (FS_REFER - 1)
#define FS_READ        (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)
#define FS_CHANGE_FILE (FS_WRITE_FILE | FS_TRUNCATE)
/* No device nodes, and device ioctls beneath /dev only. */
#define FS_CHANGE                                                                                 \
    (FS_CHANGE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | \
     FS_MAKE_FIFO | FS_MAKE_SYM | FS_REFER)
/* What a rule about something that is not a folder may speak of. */
#define FS_OF_FILE (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

struct ruleset_attr {
    uint64_t fs;
    uint64_t net;    /* ABI 4; programs use the loopback, so nothing is handled */
    uint64_t scoped; /* ABI 6 */
};

struct path_beneath_attr {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

int landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

    return abi > 0 ? (int)abi : 0;
}

static uint64_t handled_fs(int abi)
{
    uint64_t fs = FS_ABI_1;

    if (abi >= 2)
        fs |= FS_REFER;
    if (abi >= 3)
        fs |= FS_TRUNCATE;
    if (abi >= 5)
        fs |= FS_IOCTL_DEV;
    return fs;
}

static int make_ruleset(int abi)
{
    struct ruleset_attr attr = { .fs = handled_fs(abi) };
    size_t size = sizeof attr.fs;

    if (abi >= 6) {
        attr.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
        size = sizeof attr;
    }
    return (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
}

/** A @path that does not exist is skipped. */
static bool allow(int ruleset, const char *path, uint64_t fs)
{
    struct path_beneath_attr attr = { .allowed = fs };
    struct stat st;
    bool ok = false;
    int saved;

    attr.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (attr.parent_fd < 0)
        return errno == ENOENT;
    if (fstat(attr.parent_fd, &st) == 0) {
        if (!S_ISDIR(st.st_mode))
            attr.allowed &= FS_OF_FILE;
        ok = syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &attr, 0) == 0;
    }
    saved = errno;
    close(attr.parent_fd);
    errno = saved;
    return ok;
}

static bool add_rules(int ruleset, uint64_t handled, const char *const *writable, size_t count)
{
    static const struct {
        const char *path;
        uint64_t fs;
    } fixed[] = {
        { "/", FS_READ },
        /* The nodes there and the terminals of /dev/pts; nothing can be made or removed. */
        { "/dev", FS_CHANGE_FILE | FS_IOCTL_DEV },
        { "/dev/shm", FS_CHANGE },
        /* Where it is mounted, its rule is what lets mq_open() work: the kernel reaches the queues
         * through a mount of its own, above which there is no "/". */
        { "/dev/mqueue", FS_READ | FS_CHANGE },
        /* Whose files these are changes with each process, so no rule can name "its own": what
         * is dangerous there is masked by the mounts and closed by the missing capabilities. */
        { "/proc", FS_CHANGE_FILE },
    };

    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (!allow(ruleset, fixed[i].path, fixed[i].fs & handled))
            return false;
    for (size_t i = 0; i < count; i++)
        if (!allow(ruleset, writable[i], (FS_READ | FS_CHANGE) & handled))
            return false;
    return true;
}

bool landlock_apply(int abi, const char *const *writable, size_t count)
{
    bool ok;
    int ruleset, saved;

    if (abi <= 0)
        return true;
    ruleset = make_ruleset(abi);
    if (ruleset < 0)
        return false;
    ok = add_rules(ruleset, handled_fs(abi), writable, count) &&
         syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
    saved = errno;
    close(ruleset);
    errno = saved;
    return ok;
}
