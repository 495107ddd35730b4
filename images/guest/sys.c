#include "images/guest/sys.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_RANGE_ON_EXEC 4u
#define RENAME_RACES        16

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

struct open_how {
    uint64_t flags;
    uint64_t mode;
    uint64_t resolve;
};

int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = { .flags = flags, .mode = mode, .resolve = resolve };
    long fd = -1;

    for (int tries = 0; tries < RENAME_RACES; tries++) {
        fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
        /* EAGAIN also says that somebody holds a lease; that does not pass by itself, so the
         * number of tries is what ends it. */
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return (int)fd;
}

int sys_close_range(unsigned first, unsigned last, bool only_on_exec)
{
    return (int)syscall(SYS_close_range, first, last, only_on_exec ? CLOSE_RANGE_ON_EXEC : 0u);
}

int sys_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

long sys_getdents(int dir, void *buf, size_t size)
{
    return syscall(SYS_getdents64, dir, buf, size);
}

bool sys_random(void *buf, size_t len)
{
    return syscall(SYS_getrandom, buf, len, 0u) == (long)len;
}

void *sys_pages(size_t bytes)
{
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return pages == MAP_FAILED ? NULL : pages;
}

void sys_pages_free(void *pages, size_t bytes)
{
    if (pages)
        (void)munmap(pages, bytes);
}

void sys_pages_drop(void *pages, size_t bytes)
{
    if (pages)
        (void)madvise(pages, bytes, MADV_DONTNEED);
}

int64_t sys_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}
