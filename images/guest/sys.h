/*
 * sys - kernel interfaces that the C library does not wrap, and memory by the page.
 *
 * Results are as in the C library: -1 and errno.  Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYS_NO_MAGICLINKS 0x02u
#define SYS_NO_SYMLINKS   0x04u
#define SYS_BENEATH       0x08u
#define SYS_IN_ROOT       0x10u

#define SYS_RENAME_NOREPLACE 1u

/** openat2(2), repeated a few times when a rename elsewhere made the kernel say EAGAIN. */
int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);

int sys_close_range(unsigned first, unsigned last, bool only_on_exec);
int sys_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);

/** Raw entries of a folder, see struct sys_dirent; 0 at its end. */
long sys_getdents(int dir, void *buf, size_t size);

struct sys_dirent {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

/** Random bytes for names of temporary files; true on success. */
bool sys_random(void *buf, size_t len);

/** Zeroed pages that take memory only once they are touched; NULL when there is none. */
void *sys_pages(size_t bytes);
void sys_pages_free(void *pages, size_t bytes);

/** Give the memory back and keep the addresses; the contents are zero afterwards. */
void sys_pages_drop(void *pages, size_t bytes);

int64_t sys_now_ns(void); /* monotonic */
