/*
 * The system call policy.  This table is its documentation: what is not in it does not exist for
 * a program in a sandbox (ENOSYS), so that a new kernel's calls are off until somebody decides.
 *
 * ALLOW     the kernel handles the call
 * FAIL      the kernel answers with the error; for calls that programs probe and do without
 * TELL      the notifier answers with the error, and the agent and the audit log learn of it
 */
#include "sandbox/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <netinet/in.h>

#include "kernel/base/attr.h"

#define WHOLE 0xffffffffu
#define EQ(arg_, value)               \
    {                                 \
        POLICY_EQ, arg_, WHOLE, value \
    }
#define NE(arg_, value)               \
    {                                 \
        POLICY_NE, arg_, WHOLE, value \
    }
#define MASKED_EQ(arg_, mask, value) \
    {                                \
        POLICY_EQ, arg_, mask, value \
    }
#define MASKED_NE(arg_, mask, value) \
    {                                \
        POLICY_NE, arg_, mask, value \
    }
#define ANY(arg_, bits)           \
    {                             \
        POLICY_ANY, arg_, bits, 0 \
    }
#define RANGE(arg_, low, high)        \
    {                                 \
        POLICY_RANGE, arg_, low, high \
    }

#define WHEN(...) .tests = { __VA_ARGS__ }
#define RULES(...)            \
    .rules = { __VA_ARGS__ }, \
    .rule_count = sizeof((struct policy_rule[]){ __VA_ARGS__ }) / sizeof(struct policy_rule)

#define ALLOW                   .action = POLICY_ALLOW
#define FAIL(errno_)            .action = POLICY_FAIL, .error = errno_
#define TELL(errno_)            .action = POLICY_TELL, .error = errno_
#define STRING(arg_)            .text = POLICY_TEXT_STRING, .arg = arg_
#define STRING_MODE(arg_, mode) .text = POLICY_TEXT_STRING_MODE, .arg = arg_, .arg2 = mode
#define TEXT(kind, arg_)        .text = POLICY_TEXT_##kind, .arg = arg_

/* Inside, a setuid program gains nothing: every mount is nosuid.  But a folder of the host that
 * the agent may write is not nosuid for the host, and what is left in it outlives the sandbox. */
#define SETID                  (S_ISUID | S_ISGID)
#define REFUSE_SETID(mode_arg) RULES({ WHEN(ANY(mode_arg, SETID)), TELL(EPERM) })
#define TMPFILE_BIT            (O_TMPFILE & ~O_DIRECTORY)

/* The low byte of clone()'s flags is the exit signal; to unshare() 0x80 is CLONE_NEWTIME. */
#define NAMESPACES                                                                                \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
     CLONE_NEWNET)
#define NEWTIME 0x80

#define SOCKET_TYPE     0xfu /* the rest are SOCK_CLOEXEC and SOCK_NONBLOCK */
#define PR_SCHED_CORE_  62
#define PR_SET_PTRACER_ 0x59616d61

const struct policy_group policy_groups[] = {
    /* Reading, writing and the names of files: the mounts and Landlock decide what is there. */
    { "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close "
      "close_range stat fstat lstat newfstatat statx access faccessat faccessat2 readlink "
      "readlinkat getdents getdents64 getcwd chdir fchdir rename renameat renameat2 rmdir link "
      "linkat unlink unlinkat symlink symlinkat chown fchown lchown fchownat umask truncate "
      "ftruncate fallocate utime utimes futimesat utimensat statfs fstatfs flock fsync fdatasync "
      "sync syncfs sync_file_range readahead fadvise64 dup dup2 dup3 pipe pipe2 sendfile splice "
      "tee vmsplice copy_file_range setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr "
      "listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr setxattrat=463 "
      "getxattrat=464 listxattrat=465 removexattrat=466 inotify_init inotify_init1 "
      "inotify_add_watch inotify_rm_watch",
      ALLOW },
    /* Its flags and mode lie in memory, where no filter can see them, but the guest needs it to
     * stay beneath a root.  A setuid file made with it is empty, and writing clears the bit. */
    { "openat2", ALLOW },

    /* Modes: no setuid and no setgid bit, not on directories either, which keeps the rule simple.
     */
    { "open", ALLOW, STRING_MODE(0, 2),
      RULES({ WHEN(ANY(1, O_CREAT | TMPFILE_BIT), ANY(2, SETID)), TELL(EPERM) }) },
    { "openat", ALLOW, STRING_MODE(1, 3),
      RULES({ WHEN(ANY(2, O_CREAT | TMPFILE_BIT), ANY(3, SETID)), TELL(EPERM) }) },
    { "chmod creat mkdir", ALLOW, STRING_MODE(0, 1), REFUSE_SETID(1) },
    { "fchmod", ALLOW, TEXT(MODE, 1), REFUSE_SETID(1) },
    { "fchmodat fchmodat2=452 mkdirat", ALLOW, STRING_MODE(1, 2), REFUSE_SETID(2) },
    /* Regular files (type 0 is one too), FIFOs and sockets; no devices. */
    { "mknod", TELL(EPERM), STRING_MODE(0, 1),
      RULES({ WHEN(ANY(1, SETID)), TELL(EPERM) }, { WHEN(MASKED_EQ(1, S_IFMT, 0)), ALLOW },
            { WHEN(MASKED_EQ(1, S_IFMT, S_IFREG)), ALLOW },
            { WHEN(MASKED_EQ(1, S_IFMT, S_IFIFO)), ALLOW },
            { WHEN(MASKED_EQ(1, S_IFMT, S_IFSOCK)), ALLOW }) },
    { "mknodat", TELL(EPERM), STRING_MODE(1, 2),
      RULES({ WHEN(ANY(2, SETID)), TELL(EPERM) }, { WHEN(MASKED_EQ(2, S_IFMT, 0)), ALLOW },
            { WHEN(MASKED_EQ(2, S_IFMT, S_IFREG)), ALLOW },
            { WHEN(MASKED_EQ(2, S_IFMT, S_IFIFO)), ALLOW },
            { WHEN(MASKED_EQ(2, S_IFMT, S_IFSOCK)), ALLOW }) },

    /* Leases and directory notification on files that sandboxes share let one wait for another. */
    { "fcntl", ALLOW, TEXT(FCNTL, 1),
      RULES({ WHEN(EQ(1, F_SETLEASE)), TELL(EPERM) }, { WHEN(EQ(1, F_NOTIFY)), TELL(EPERM) }) },

    /* Requests that type into a terminal or change the machine's console (0x4bxx: keyboard and
     * fonts, 0x56xx: virtual terminals). */
    { "ioctl", ALLOW, TEXT(IOCTL, 1),
      RULES({ WHEN(EQ(1, 0x5412)), TELL(EPERM) },               /* TIOCSTI */
            { WHEN(RANGE(1, 0x541c, 0x541d)), TELL(EPERM) },    /* TIOCLINUX, TIOCCONS */
            { WHEN(EQ(1, 0x5423)), TELL(EPERM) },               /* TIOCSETD */
            { WHEN(RANGE(1, 0x4b00, 0x4bff)), TELL(EPERM) },    /* KD… */
            { WHEN(RANGE(1, 0x5600, 0x56ff)), TELL(EPERM) }) }, /* VT_… */

    /* Waiting, and events as descriptors. */
    { "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait "
      "epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime "
      "timerfd_gettime pause nanosleep clock_nanosleep alarm getitimer setitimer timer_create "
      "timer_settime timer_gettime timer_getoverrun timer_delete restart_syscall io_setup "
      "io_destroy io_getevents io_pgetevents io_submit io_cancel",
      ALLOW },

    /* Memory, and the locks in it.  memfd_create and execveat are allowed: whoever can write a
     * file and run it gains nothing from a file without a name. */
    { "mmap mprotect munmap brk mremap msync mincore madvise mlock mlock2 munlock mlockall "
      "munlockall remap_file_pages pkey_alloc pkey_free pkey_mprotect membarrier memfd_create "
      "get_mempolicy set_mempolicy mbind set_mempolicy_home_node=450 map_shadow_stack=453 "
      "mseal=462 futex futex_waitv=449 futex_wake=454 futex_wait=455 futex_requeue=456 "
      "set_robust_list get_robust_list",
      ALLOW },

    /* Processes and threads.  Signals and scheduling end at the pid namespace; the set*uid family
     * is harmless without capabilities and with one mapped user, and programs call it. */
    { "fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill rt_sigaction "
      "rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo "
      "rt_tgsigqueueinfo rt_sigsuspend sigaltstack pidfd_open pidfd_send_signal getpid getppid "
      "gettid set_tid_address getpgid setpgid getpgrp getsid setsid getuid geteuid getgid getegid "
      "getgroups getresuid getresgid setuid setgid setreuid setregid setresuid setresgid setfsuid "
      "setfsgid setgroups capget capset getrlimit setrlimit prlimit64 getrusage times "
      "getpriority setpriority ioprio_get ioprio_set sched_yield sched_getparam sched_setparam "
      "sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min "
      "sched_rr_get_interval sched_getaffinity sched_setaffinity sched_getattr sched_setattr "
      "arch_prctl rseq getcpu",
      ALLOW },

    /* clone3's flags lie in memory; without it the C library falls back to clone, whose flags a
     * filter can see. */
    { "clone3", FAIL(ENOSYS) },
    { "clone", ALLOW, TEXT(NAMESPACES, 0), RULES({ WHEN(ANY(0, NAMESPACES)), TELL(EPERM) }) },
    /* CLONE_FILES and CLONE_FS only undo sharing between threads. */
    { "unshare", ALLOW, TEXT(NAMESPACES, 0),
      RULES({ WHEN(ANY(0, NAMESPACES | NEWTIME)), TELL(EPERM) }) },
    { "setns", TELL(EPERM), TEXT(NAMESPACES, 1) },

    /* Only the plain personality, and the question which one it is: others switch off address
     * randomisation or change what old calls mean. */
    { "personality", TELL(EPERM), TEXT(NUMBER, 0),
      RULES({ WHEN(EQ(0, 0)), ALLOW }, { WHEN(EQ(0, WHOLE)), ALLOW }) },

    /* PR_SET_MM rewrites what /proc tells about a process; core scheduling cookies can idle the
     * host's processors; a tracer is of no use where there is no ptrace. */
    { "prctl", ALLOW,
      RULES({ WHEN(EQ(0, PR_SET_MM)), FAIL(EPERM) }, { WHEN(EQ(0, PR_SCHED_CORE_)), FAIL(EPERM) },
            { WHEN(EQ(0, PR_SET_PTRACER_)), FAIL(EINVAL) }) },

    /* A program may tighten itself further, but not answer calls in place of the kernel. */
    { "seccomp", ALLOW, RULES({ WHEN(ANY(1, SECCOMP_FILTER_FLAG_NEW_LISTENER)), TELL(EPERM) }) },
    { "landlock_create_ruleset landlock_add_rule landlock_restrict_self", ALLOW },

    /* Sockets: Unix, and TCP and UDP on the loopback that is all there is.  Every other family
     * or protocol is kernel code that an attacker would like to reach. */
    { "socket", FAIL(EPROTONOSUPPORT), TEXT(SOCKET, 0),
      RULES({ WHEN(EQ(0, AF_UNIX)), ALLOW },
            /* The C library asks for interfaces at each look-up of a name, and does without. */
            { WHEN(EQ(0, AF_NETLINK), EQ(2, NETLINK_ROUTE)), FAIL(EAFNOSUPPORT) },
            { WHEN(NE(0, AF_INET), NE(0, AF_INET6)), TELL(EAFNOSUPPORT) },
            { WHEN(MASKED_NE(1, SOCKET_TYPE, SOCK_STREAM), MASKED_NE(1, SOCKET_TYPE, SOCK_DGRAM)),
              TELL(EPERM) },
            { WHEN(EQ(2, 0)), ALLOW },
            { WHEN(MASKED_EQ(1, SOCKET_TYPE, SOCK_STREAM), EQ(2, IPPROTO_TCP)), ALLOW },
            { WHEN(MASKED_EQ(1, SOCKET_TYPE, SOCK_DGRAM), EQ(2, IPPROTO_UDP)), ALLOW }) },
    { "socketpair", TELL(EAFNOSUPPORT), TEXT(SOCKET, 0), RULES({ WHEN(EQ(0, AF_UNIX)), ALLOW }) },
    { "connect accept accept4 sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown bind "
      "listen getsockname getpeername setsockopt getsockopt",
      ALLOW },

    /* SysV and POSIX queues, semaphores and shared memory: the sandbox has its own. */
    { "shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl "
      "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
      ALLOW },

    /* The time, and facts about the machine. */
    { "time gettimeofday clock_gettime clock_getres uname sysinfo getrandom", ALLOW },

    /* Mounts, old way and new. */
    { "mount", TELL(EPERM), STRING(1) },
    { "umount2 pivot_root chroot fsopen", TELL(EPERM), STRING(0) },
    { "fspick open_tree mount_setattr open_tree_attr=467", TELL(EPERM), STRING(1) },
    { "move_mount", TELL(EPERM), STRING(3) },
    { "fsconfig fsmount", TELL(EPERM) },
    /* The mount table is in /proc for who wants to read it. */
    { "statmount=457 listmount=458", FAIL(ENOSYS) },

    /* The machine itself: power, modules, swap, quotas, accounting, names, clock, kernel log. */
    { "reboot", TELL(EPERM), TEXT(NUMBER, 2) },
    { "swapon swapoff acct delete_module", TELL(EPERM), STRING(0) },
    { "quotactl", TELL(EPERM), STRING(1) },
    { "quotactl_fd kexec_load kexec_file_load init_module finit_module sethostname setdomainname "
      "settimeofday clock_settime iopl ioperm modify_ldt vhangup",
      TELL(EPERM) },
    { "syslog", TELL(EPERM), TEXT(NUMBER, 0) },
    { "adjtimex clock_adjtime",
      FAIL(EPERM) }, /* asked for status by programs that can do without */

    /* Other processes' memory and descriptors. */
    { "ptrace", TELL(EPERM), TEXT(NUMBER, 0) },
    { "process_vm_readv process_vm_writev kcmp pidfd_getfd move_pages migrate_pages", TELL(EPERM) },
    { "process_madvise process_mrelease", FAIL(EPERM) },

    /* Large interfaces with a long history of kernel holes, and the kernel's keyrings, which are
     * not divided by namespaces. */
    { "bpf keyctl", TELL(EPERM), TEXT(NUMBER, 0) },
    { "add_key request_key", TELL(EPERM), STRING(0) },
    { "perf_event_open userfaultfd fanotify_init fanotify_mark open_by_handle_at", TELL(EPERM) },
    { "name_to_handle_at", FAIL(EPERM) },
    /* It reaches the calls above without passing the filter.  Node probes it at each start. */
    { "io_uring_setup io_uring_enter io_uring_register", FAIL(ENOSYS) },
    /* Memory that no checkpoint can see; the kernel's own answer where it is switched off. */
    { "memfd_secret", FAIL(ENOSYS) },
    /* The page cache of files that sandboxes share would tell one about another. */
    { "cachestat=451", FAIL(ENOSYS) },
    /* Young calls with an older way that programs fall back to. */
    { "lsm_get_self_attr=459 lsm_set_self_attr=460 lsm_list_modules=461 file_getattr=468 "
      "file_setattr=469",
      FAIL(ENOSYS) },
    /* Gone from Linux or never there. */
    { "_sysctl uselib ustat sysfs create_module get_kernel_syms query_module nfsservctl getpmsg "
      "putpmsg afs_syscall tuxcall security vserver set_thread_area get_thread_area "
      "lookup_dcookie epoll_ctl_old epoll_wait_old",
      FAIL(ENOSYS) },
};

const size_t policy_group_count = ARRAY_LEN(policy_groups);
