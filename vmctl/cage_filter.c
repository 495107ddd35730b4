#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/base/attr.h"
#include "vmctl/cage.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "name this processor's AUDIT_ARCH"
#endif

#define X32_BIT 0x40000000u

#define LOAD(field) \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define RETURN(what)   BPF_STMT(BPF_RET | BPF_K, what)
#define REFUSE(errno_) RETURN(SECCOMP_RET_ERRNO | (errno_))

/* The next instruction is run for this call alone. */
#define ON(call)     BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1)
#define DENY(call)   ON(call), REFUSE(EPERM)
#define ABSENT(call) ON(call), REFUSE(ENOSYS)

/* What QEMU does not need once it has its descriptors; a list of what it does need would be its
 * release's and its libraries'. */
static const struct sock_filter filter[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
#if defined(__x86_64__)
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
    REFUSE(ENOSYS),
    DENY(fork),
    DENY(vfork),
    DENY(ioperm),
    DENY(iopl),
#endif
    /* Everybody to talk to is there already. */
    DENY(socket),
    DENY(socketpair),
    DENY(connect),
    DENY(bind),
    DENY(listen),
    /* Others. */
    DENY(ptrace),
    DENY(process_vm_readv),
    DENY(process_vm_writev),
    DENY(pidfd_open),
    DENY(pidfd_getfd),
    DENY(kcmp),
    DENY(kill),
    DENY(tkill),
    DENY(pidfd_send_signal),
    DENY(rt_sigqueueinfo),
    DENY(rt_tgsigqueueinfo),
    /* Where it is. */
    DENY(mount),
    DENY(umount2),
    DENY(pivot_root),
    DENY(chroot),
    DENY(open_tree),
    DENY(move_mount),
    DENY(fsopen),
    DENY(fsmount),
    DENY(fspick),
    DENY(mount_setattr),
    DENY(unshare),
    DENY(setns),
    DENY(open_by_handle_at),
    /* Large parts of the kernel for which a machine has no use. */
    DENY(bpf),
    DENY(perf_event_open),
    DENY(userfaultfd),
    DENY(add_key),
    DENY(request_key),
    DENY(keyctl),
    DENY(init_module),
    DENY(finit_module),
    DENY(delete_module),
    DENY(kexec_load),
    DENY(reboot),
    DENY(swapon),
    DENY(swapoff),
    DENY(quotactl),
    DENY(acct),
    DENY(syslog),
    DENY(settimeofday),
    DENY(clock_settime),
    DENY(sethostname),
    ABSENT(io_uring_setup), /* which gets round filters; QEMU does without */
    ABSENT(clone3),         /* its flags cannot be looked at; the C library does without */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4),
    LOAD(args[0]), /* the lower half holds every flag */
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
    REFUSE(EPERM),
    RETURN(SECCOMP_RET_ALLOW),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 1, 0),
    RETURN(SECCOMP_RET_ALLOW),
};

/* Threads signal each other; whom is known when it starts. */
static const struct sock_filter signals[] = {
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
    REFUSE(EPERM),
    RETURN(SECCOMP_RET_ALLOW),
};

#define SIGNALS_PID (ARRAY_LEN(filter) + 1) /* the instruction that compares */

bool cage_filter(void)
{
    struct sock_filter all[ARRAY_LEN(filter) + ARRAY_LEN(signals)];
    const struct sock_fprog program = { .len = ARRAY_LEN(all), .filter = all };

    memcpy(all, filter, sizeof filter);
    memcpy(all + ARRAY_LEN(filter), signals, sizeof signals);
    all[SIGNALS_PID].k = (uint32_t)getpid();
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}
