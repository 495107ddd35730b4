/*
 * Plain system calls, with arguments that have no effect where the call is let through: names that
 * do not exist, questions instead of orders, invalid magic numbers.
 */
#include "tests/hostile/probe.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/fs.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <linux/quota.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define NOWHERE                "/aios-probe-no-such-thing"
#define OPENAT_CWD             AT_FDCWD
#define NEWTIME                0x80
#define BAD_FLAGS              0xdead
#define GARBAGE                (1L << 32)
#define DEVICE(major_, minor_) ((major_) << 8 | (minor_))

static char space[512];
static const struct timespec never = { -1, -1 };
static const struct timeval never_tv = { -1, -1 };
static const struct clone_args plain_clone = { .exit_signal = 17 };
static struct perf_event_attr software = { .type = PERF_TYPE_SOFTWARE,
                                           .size = sizeof software,
                                           .config = PERF_COUNT_SW_DUMMY };
static union bpf_attr small_map = {
    .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1
};

const struct probe_call probe_calls[] = {
    /* mounts, the old way and the new */
    { "mount-tmpfs", SYS_mount, { PROBE_PTR("none"), PROBE_PTR("/tmp"), PROBE_PTR("tmpfs") } },
    { "mount-proc", SYS_mount, { PROBE_PTR("proc"), PROBE_PTR("/proc"), PROBE_PTR("proc") } },
    { "mount-bind", SYS_mount, { PROBE_PTR("/usr"), PROBE_PTR("/tmp"), 0, MS_BIND } },
    { "mount-remount", SYS_mount, { 0, PROBE_PTR("/proc/sys"), 0, MS_REMOUNT | MS_BIND } },
    { "umount", SYS_umount2, { PROBE_PTR("/proc/keys"), MNT_DETACH } },
    { "pivot_root", SYS_pivot_root, { PROBE_PTR("/tmp"), PROBE_PTR("/tmp") } },
    { "chroot", SYS_chroot, { PROBE_PTR("/") } },
    { "fsopen", SYS_fsopen, { PROBE_PTR("tmpfs"), 0 } },
    { "fsopen-legacy", SYS_fsopen, { PROBE_PTR("cgroup"), 0 } },
    { "fsconfig", SYS_fsconfig, { -1, FSCONFIG_SET_STRING, PROBE_PTR("a"), PROBE_PTR("b") } },
    { "fsmount", SYS_fsmount, { -1, 0, 0 } },
    { "fspick", SYS_fspick, { OPENAT_CWD, PROBE_PTR("/"), 0 } },
    { "open_tree", SYS_open_tree, { OPENAT_CWD, PROBE_PTR("/"), OPEN_TREE_CLONE } },
    { "open_tree_attr", 467, { OPENAT_CWD, PROBE_PTR("/"), OPEN_TREE_CLONE } },
    { "move_mount", SYS_move_mount, { -1, PROBE_PTR(""), OPENAT_CWD, PROBE_PTR("/tmp"), 4 } },
    { "mount_setattr", SYS_mount_setattr, { OPENAT_CWD, PROBE_PTR("/proc/sys"), 0, 0, 0 } },
    { "statmount", 457, { PROBE_PTR(space), PROBE_PTR(space), sizeof space, 0 } },
    { "listmount", 458, { PROBE_PTR(space), PROBE_PTR(space), 1, 0 } },

    /* namespaces */
    { "unshare-user", SYS_unshare, { CLONE_NEWUSER } },
    { "unshare-mount", SYS_unshare, { CLONE_NEWNS } },
    { "unshare-pid", SYS_unshare, { CLONE_NEWPID } },
    { "unshare-net", SYS_unshare, { CLONE_NEWNET } },
    { "unshare-ipc", SYS_unshare, { CLONE_NEWIPC } },
    { "unshare-uts", SYS_unshare, { CLONE_NEWUTS } },
    { "unshare-cgroup", SYS_unshare, { CLONE_NEWCGROUP } },
    { "unshare-time", SYS_unshare, { NEWTIME } },
    { "unshare-user-high", SYS_unshare, { CLONE_NEWUSER | GARBAGE } },
    { "clone3", SYS_clone3, { PROBE_PTR(&plain_clone), sizeof plain_clone } },
    { "setns", SYS_setns, { -1, CLONE_NEWNET } },

    /* other processes */
    { "ptrace-traceme", SYS_ptrace, { PTRACE_TRACEME } },
    { "process_madvise", SYS_process_madvise, { -1, PROBE_PTR(space), 0, 0, 0 } },
    { "process_mrelease", SYS_process_mrelease, { -1, 0 } },
    { "move_pages", SYS_move_pages, { 1, 0, 0, 0, 0, 0 } },
    { "migrate_pages", SYS_migrate_pages, { 1, 0, 0, 0 } },

    /* large interfaces of the kernel */
    { "io_uring_setup", SYS_io_uring_setup, { 1, PROBE_PTR(space) } },
    { "io_uring_enter", SYS_io_uring_enter, { -1, 0, 0, 0, 0, 0 } },
    { "io_uring_register", SYS_io_uring_register, { -1, 0, 0, 0 } },
    { "bpf-map", SYS_bpf, { BPF_MAP_CREATE, PROBE_PTR(&small_map), sizeof small_map } },
    { "bpf-map-high", SYS_bpf, { BPF_MAP_CREATE | GARBAGE, PROBE_PTR(&small_map), 16 } },
    { "perf_event_open", SYS_perf_event_open, { PROBE_PTR(&software), 0, -1, -1, 0 } },
    { "userfaultfd", SYS_userfaultfd, { 1 /* UFFD_USER_MODE_ONLY */ } },
    { "keyctl", SYS_keyctl, { KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0 } },
    { "add_key",
      SYS_add_key,
      { PROBE_PTR("user"), PROBE_PTR("aios-probe"), PROBE_PTR("x"), 1, KEY_SPEC_PROCESS_KEYRING } },
    { "request_key", SYS_request_key, { PROBE_PTR("user"), PROBE_PTR("aios-probe"), 0, 0 } },
    { "fanotify_init", SYS_fanotify_init, { 0, 0 } },
    { "name_to_handle_at",
      SYS_name_to_handle_at,
      { OPENAT_CWD, PROBE_PTR("/"), PROBE_PTR(space), PROBE_PTR(space + 256), 0 } },
    { "open_by_handle_at", SYS_open_by_handle_at, { OPENAT_CWD, PROBE_PTR(space), 0 } },
    { "memfd_secret", SYS_memfd_secret, { 0 } },
    { "cachestat", 451, { 0, PROBE_PTR(space), PROBE_PTR(space), 0 } },
    { "lookup_dcookie", SYS_lookup_dcookie, { 0, PROBE_PTR(space), sizeof space } },
    { "unknown-number", 600, { 0 } },

    /* the machine */
    { "kexec_load", SYS_kexec_load, { 0, 0, 0, BAD_FLAGS } },
    { "kexec_file_load", SYS_kexec_file_load, { -1, -1, 0, 0, BAD_FLAGS } },
    { "init_module", SYS_init_module, { 0, 0, PROBE_PTR("") } },
    { "finit_module", SYS_finit_module, { -1, PROBE_PTR(""), 0 } },
    { "delete_module", SYS_delete_module, { PROBE_PTR("aios_probe_none"), O_NONBLOCK } },
    { "reboot", SYS_reboot, { 0, 0, 0, 0 } },
    { "swapon", SYS_swapon, { PROBE_PTR(NOWHERE), 0 } },
    { "swapoff", SYS_swapoff, { PROBE_PTR(NOWHERE) } },
    { "acct", SYS_acct, { PROBE_PTR(NOWHERE) } },
    { "quotactl", SYS_quotactl, { QCMD(Q_GETFMT, 0), PROBE_PTR(NOWHERE), 0, PROBE_PTR(space) } },
    { "quotactl_fd", SYS_quotactl_fd, { -1, QCMD(Q_GETFMT, 0), 0, PROBE_PTR(space) } },
    { "syslog-size", SYS_syslog, { 10, 0, 0 } },
    { "syslog-read", SYS_syslog, { 3, PROBE_PTR(space), sizeof space } },
    { "personality", SYS_personality, { ADDR_NO_RANDOMIZE } },
    { "personality-query", SYS_personality, { 0xffffffff } },
    { "modify_ldt", SYS_modify_ldt, { 0, PROBE_PTR(space), sizeof space } },
    { "sethostname", SYS_sethostname, { PROBE_PTR("computer"), 8 } },
    { "setdomainname", SYS_setdomainname, { PROBE_PTR("(none)"), 6 } },
    { "settimeofday", SYS_settimeofday, { PROBE_PTR(&never_tv), 0 } },
    { "clock_settime", SYS_clock_settime, { CLOCK_REALTIME, PROBE_PTR(&never) } },
    { "iopl", SYS_iopl, { 0 } },
    { "ioperm", SYS_ioperm, { 0, 0, 0 } },
    { "vhangup", SYS_vhangup, { 0 } },

    /* files */
    { "mknod-char", SYS_mknod, { PROBE_PTR("/tmp/probe-c"), S_IFCHR | 0666, DEVICE(1, 3) } },
    { "mknod-block", SYS_mknod, { PROBE_PTR("/tmp/probe-b"), S_IFBLK | 0666, DEVICE(7, 0) } },
    { "mknodat-char",
      SYS_mknodat,
      { OPENAT_CWD, PROBE_PTR("/tmp/probe-d"), S_IFCHR | 0666, DEVICE(1, 1) } },
    { "mknod-setuid", SYS_mknod, { PROBE_PTR("/tmp/probe-e"), S_IFREG | 04755, 0 } },
    { "mknod-fifo", SYS_mknod, { PROBE_PTR("/tmp/probe-f"), S_IFIFO | 0600, 0 } },
    { "chmod-setuid", SYS_chmod, { PROBE_PTR("/workspace/probe"), 04755 } },
    { "chmod-setgid", SYS_chmod, { PROBE_PTR("/workspace/probe"), 02755 } },
    { "chmod-setuid-high", SYS_chmod, { PROBE_PTR("/workspace/probe"), 04755 | GARBAGE } },
    { "fchmodat-setuid", SYS_fchmodat, { OPENAT_CWD, PROBE_PTR("/workspace/probe"), 06755 } },
    { "fchmodat2-setuid", 452, { OPENAT_CWD, PROBE_PTR("/workspace/probe"), 06755, 0 } },
    { "mkdir-setgid", SYS_mkdir, { PROBE_PTR("/tmp/probe-g"), 02755 } },
    { "creat-setuid", SYS_creat, { PROBE_PTR("/tmp/probe-h"), 04755 } },
    { "openat-setuid",
      SYS_openat,
      { OPENAT_CWD, PROBE_PTR("/tmp/probe-i"), O_CREAT | O_WRONLY, 04755 } },
    { "tmpfile-setuid",
      SYS_openat,
      { OPENAT_CWD, PROBE_PTR("/tmp"), O_TMPFILE | O_WRONLY, 04755 } },
    { NULL },
};
