#include "sandbox/seccomp.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/base/attr.h"

/* filter[]: written by seccomp_gen from policy.c. */
#include "sandbox/seccomp_filter.inc"

/* Linux 5.19: once the notifier has taken a call, only a fatal signal ends the caller's wait, so
 * that a program with a busy timer does not start its call over and over. */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1ul << 5)
#endif

/* struct sock_fprog as it would be if the kernel, which does not write, had said const. */
static const struct {
    unsigned short len;
    const struct sock_filter *filter;
} program = { .len = ARRAY_LEN(filter), .filter = filter };

_Static_assert(sizeof program == sizeof(struct sock_fprog) &&
                   offsetof(struct sock_fprog, filter) == sizeof(void *),
               "the kernel's layout");

const struct sock_fprog *seccomp_filter(void)
{
    return (const struct sock_fprog *)(const void *)&program;
}

int seccomp_install(const struct sock_fprog *prog)
{
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    long fd;

    fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                 flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, prog);
    if (fd < 0 && errno == EINVAL)
        fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, prog);
    return (int)fd;
}
