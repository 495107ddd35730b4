#include "sandbox/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "sandbox/seccomp.h"
#include "tests/support/check.h"

#define GARBAGE   0xdead000000000000ull
#define ALLOWED   SECCOMP_RET_ALLOW
#define TOLD      SECCOMP_RET_USER_NOTIF
#define KILLED    SECCOMP_RET_KILL_PROCESS
#define FAILED(e) (SECCOMP_RET_ERRNO | (e))

/* ---- an interpreter for the program, independent of the kernel's ---- */

static uint32_t load(const struct seccomp_data *data, uint32_t offset)
{
    uint32_t word;

    if (offset + sizeof word > sizeof *data)
        fail_msg("load at %u", offset);
    memcpy(&word, (const char *)data + offset, sizeof word);
    return word;
}

static uint32_t evaluate(const struct seccomp_data *data)
{
    const struct sock_fprog *prog = seccomp_filter();
    uint32_t a = 0;

    for (size_t pc = 0; pc < prog->len; pc++) {
        const struct sock_filter *in = &prog->filter[pc];

        switch (in->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            a = load(data, in->k);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= in->k;
            break;
        case BPF_JMP | BPF_JA:
            pc += in->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == in->k ? in->jt : in->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            pc += a >= in->k ? in->jt : in->jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            pc += a > in->k ? in->jt : in->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            pc += (a & in->k) ? in->jt : in->jf;
            break;
        case BPF_RET | BPF_K:
            return in->k;
        default:
            fail_msg("instruction %zu has code %#x", pc, in->code);
        }
    }
    fail_msg("the program has no end");
    return 0;
}

static uint32_t evaluate_native(int number, const uint64_t *args)
{
    struct seccomp_data data = { .nr = number, .arch = AUDIT_ARCH_X86_64 };

    memcpy(data.args, args, sizeof data.args);
    return evaluate(&data);
}

static uint32_t meant(struct policy_verdict verdict)
{
    switch (verdict.action) {
    case POLICY_ALLOW:
        return ALLOWED;
    case POLICY_TELL:
        return TOLD;
    case POLICY_FAIL:
        break;
    }
    return FAILED((uint32_t)verdict.error);
}

static void compare(int number, const uint64_t *args)
{
    const struct policy_call *call = policy_find(number);
    uint32_t want = meant(policy_decide(call, args)), got = evaluate_native(number, args);

    if (got != want)
        fail_msg("%d %s(%#lx, %#lx, %#lx, %#lx): %#x, the table says %#x", number,
                 call ? call->name : "?", args[0], args[1], args[2], args[3], got, want);
}

static void every_unconditional_number_has_the_verdict_of_the_table(void **state)
{
    static const uint64_t vectors[][6] = {
        { 0 },
        { 1, 2, 3, 4, 5, 6 },
        { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX },
    };

    (void)state;
    for (int number = 0; number < 4096; number++)
        for (size_t v = 0; v < ARRAY_LEN(vectors); v++)
            compare(number, vectors[v]);
}

/** Every value near one that a rule looks at, alone and with the upper half set. */
static size_t interesting(const struct policy_call *call, uint32_t arg, uint64_t *values)
{
    size_t count = 0;

    values[count++] = 0;
    values[count++] = UINT64_MAX;
    for (size_t r = 0; r < call->rule_count; r++) {
        for (size_t t = 0; t < POLICY_TESTS_MAX; t++) {
            const struct policy_test *test = &call->rules[r].tests[t];

            if (test->op == POLICY_ALWAYS || test->arg != arg)
                continue;
            values[count++] = test->a;
            values[count++] = test->b;
            values[count++] = test->a + 1;
            values[count++] = test->a - 1;
            values[count++] = test->b + 1;
            values[count++] = test->b | 0x80000;
            values[count++] = GARBAGE | test->b;
            values[count++] = GARBAGE | test->a;
        }
    }
    return count;
}

static void every_conditional_row_decides_as_the_table_says(void **state)
{
    static uint64_t values[4][2 + POLICY_RULES_MAX * POLICY_TESTS_MAX * 8];
    size_t call_count, conditional = 0, counts[4];
    const struct policy_call *calls = policy_calls(&call_count);

    (void)state;
    for (size_t c = 0; c < call_count; c++) {
        uint64_t args[6] = { 0 };

        if (!calls[c].rule_count)
            continue;
        conditional++;
        for (uint32_t arg = 0; arg < 4; arg++)
            counts[arg] = interesting(&calls[c], arg, values[arg]);
        for (size_t i = 0; i < counts[0]; i++) {
            args[0] = values[0][i];
            for (size_t j = 0; j < counts[1]; j++) {
                args[1] = values[1][j];
                for (size_t k = 0; k < counts[2]; k++) {
                    args[2] = values[2][k];
                    for (size_t l = 0; l < counts[3]; l++) {
                        args[3] = values[3][l];
                        compare(calls[c].number, args);
                    }
                }
            }
        }
    }
    assert_true(conditional >= 20);
}

static void every_number_of_today_is_in_the_table(void **state)
{
    (void)state;
    for (int number = 0; number <= 334; number++)
        if (!policy_find(number))
            fail_msg("%d is missing", number);
    for (int number = 424; number <= 469; number++)
        if (!policy_find(number))
            fail_msg("%d is missing", number);
    assert_null(policy_find(-1));
    assert_null(policy_find(335));
    assert_null(policy_find(470));
}

static void decides_as_intended(void **state)
{
    static const struct {
        const char *label;
        int number;
        uint64_t args[6];
        uint32_t want;
    } rows[] = {
        { "read", SYS_read, { 0 }, ALLOWED },
        { "clone3", SYS_clone3, { 0 }, FAILED(ENOSYS) },
        { "a number of the future", 600, { 0 }, FAILED(ENOSYS) },
        { "the largest number that is not x32", 0x3fffffff, { 0 }, FAILED(ENOSYS) },
        { "minus one", -1, { 0 }, FAILED(ENOSYS) },
        { "x32 read", 0x40000000, { 0 }, KILLED },
        { "x32 ptrace", 0x40000000 | 521, { 0 }, KILLED },
        { "minus two", -2, { 0 }, KILLED },
        { "fork", SYS_clone, { SIGCHLD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID }, ALLOWED },
        { "a thread", SYS_clone, { 0x3d0f00 }, ALLOWED },
        { "clone NEWUSER", SYS_clone, { SIGCHLD | CLONE_NEWUSER }, TOLD },
        { "clone NEWNS", SYS_clone, { CLONE_NEWNS | GARBAGE }, TOLD },
        { "clone NEWCGROUP", SYS_clone, { CLONE_NEWCGROUP }, TOLD },
        { "clone NEWUTS", SYS_clone, { CLONE_NEWUTS }, TOLD },
        { "clone NEWIPC", SYS_clone, { CLONE_NEWIPC }, TOLD },
        { "clone NEWPID", SYS_clone, { CLONE_NEWPID }, TOLD },
        { "clone NEWNET", SYS_clone, { CLONE_NEWNET }, TOLD },
        { "unshare NEWUSER", SYS_unshare, { CLONE_NEWUSER }, TOLD },
        { "unshare NEWTIME", SYS_unshare, { 0x80 }, TOLD },
        { "unshare of descriptors", SYS_unshare, { CLONE_FILES }, ALLOWED },
        { "setns", SYS_setns, { 3, 0 }, TOLD },
        { "Unix socket", SYS_socket, { AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0 }, ALLOWED },
        { "TCP", SYS_socket, { AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP }, ALLOWED },
        { "UDP", SYS_socket, { AF_INET6, SOCK_DGRAM, 0 }, ALLOWED },
        { "garbage above TCP",
          SYS_socket,
          { GARBAGE | AF_INET, GARBAGE | SOCK_STREAM, 0 },
          ALLOWED },
        { "SCTP", SYS_socket, { AF_INET, SOCK_STREAM, 132 }, FAILED(EPROTONOSUPPORT) },
        { "MPTCP", SYS_socket, { AF_INET, SOCK_STREAM, 262 }, FAILED(EPROTONOSUPPORT) },
        { "raw", SYS_socket, { AF_INET, SOCK_RAW, 1 }, TOLD },
        { "raw 6", SYS_socket, { AF_INET6, SOCK_RAW | SOCK_CLOEXEC, 58 }, TOLD },
        { "SOCK_PACKET", SYS_socket, { AF_INET, SOCK_PACKET, 0 }, TOLD },
        { "netfilter", SYS_socket, { AF_NETLINK, SOCK_RAW, 12 }, TOLD },
        { "interfaces", SYS_socket, { AF_NETLINK, SOCK_RAW, 0 }, FAILED(EAFNOSUPPORT) },
        { "packet", SYS_socket, { AF_PACKET, SOCK_RAW, 0 }, TOLD },
        { "alg", SYS_socket, { AF_ALG, SOCK_SEQPACKET, 0 }, TOLD },
        { "vsock", SYS_socket, { GARBAGE | AF_VSOCK, SOCK_STREAM, 0 }, TOLD },
        { "xdp", SYS_socket, { AF_XDP, SOCK_RAW, 0 }, TOLD },
        { "Unix pair", SYS_socketpair, { AF_UNIX, SOCK_STREAM, 0 }, ALLOWED },
        { "TIPC pair", SYS_socketpair, { AF_TIPC, SOCK_STREAM, 0 }, TOLD },
        { "TIOCSTI", SYS_ioctl, { 0, 0x5412 }, TOLD },
        { "TIOCSTI under garbage", SYS_ioctl, { 0, GARBAGE | 0x5412 }, TOLD },
        { "TIOCLINUX under garbage", SYS_ioctl, { 0, (1ull << 32) | 0x541c }, TOLD },
        { "TIOCCONS", SYS_ioctl, { 0, 0x541d }, TOLD },
        { "TIOCSETD", SYS_ioctl, { 0, 0x5423 }, TOLD },
        { "KDSKBENT", SYS_ioctl, { 0, 0x4b47 }, TOLD },
        { "VT_ACTIVATE", SYS_ioctl, { 0, 0x5606 }, TOLD },
        { "TCGETS", SYS_ioctl, { 0, 0x5401 }, ALLOWED },
        { "FIONREAD", SYS_ioctl, { 0, 0x541b }, ALLOWED },
        { "TIOCSWINSZ", SYS_ioctl, { 0, 0x5414 }, ALLOWED },
        { "TIOCSPTLCK", SYS_ioctl, { 0, 0xffffffff40045431 }, ALLOWED },
        { "chmod 755", SYS_chmod, { 0, 0755 }, ALLOWED },
        { "chmod sticky", SYS_chmod, { 0, 01777 }, ALLOWED },
        { "chmod setuid", SYS_chmod, { 0, 04755 }, TOLD },
        { "fchmod setgid", SYS_fchmod, { 3, 02755 | GARBAGE }, TOLD },
        { "fchmodat setuid", SYS_fchmodat, { 3, 0, 04000 }, TOLD },
        { "fchmodat2 setuid", 452, { 3, 0, 04000, 0 }, TOLD },
        { "fchmodat2", 452, { 3, 0, 0644, 0 }, ALLOWED },
        { "creat setuid", SYS_creat, { 0, 04755 }, TOLD },
        { "open setuid", SYS_open, { 0, O_CREAT | O_WRONLY, 06755 }, TOLD },
        { "open without creation", SYS_open, { 0, O_RDONLY, 06755 }, ALLOWED },
        { "openat setuid", SYS_openat, { 3, 0, O_CREAT, 04755 }, TOLD },
        { "openat nameless setuid", SYS_openat, { 3, 0, O_TMPFILE | O_RDWR, 04755 }, TOLD },
        { "openat folder", SYS_openat, { 3, 0, O_DIRECTORY, 07777 }, ALLOWED },
        { "openat", SYS_openat, { 3, 0, O_CREAT | O_EXCL, 0666 }, ALLOWED },
        { "mkdir setgid", SYS_mkdir, { 0, 02755 }, TOLD },
        { "mkdirat", SYS_mkdirat, { 3, 0, 0755 }, ALLOWED },
        { "a FIFO", SYS_mknod, { 0, S_IFIFO | 0644 }, ALLOWED },
        { "a regular file", SYS_mknodat, { 3, 0, 0644 }, ALLOWED },
        { "a socket", SYS_mknodat, { 3, 0, S_IFSOCK | 0600 }, ALLOWED },
        { "a character device", SYS_mknod, { 0, S_IFCHR | 0644 }, TOLD },
        { "a block device", SYS_mknodat, { 3, 0, S_IFBLK | 0644 }, TOLD },
        { "a setuid file", SYS_mknodat, { 3, 0, S_IFREG | 04755 }, TOLD },
        { "which personality", SYS_personality, { 0xffffffff }, ALLOWED },
        { "which personality, sign-extended", SYS_personality, { UINT64_MAX }, ALLOWED },
        { "the plain personality", SYS_personality, { 0 }, ALLOWED },
        { "no randomisation", SYS_personality, { 0x40000 }, TOLD },
        { "a lock", SYS_fcntl, { 3, F_SETLKW }, ALLOWED },
        { "seals", SYS_fcntl, { 3, F_ADD_SEALS }, ALLOWED },
        { "a lease", SYS_fcntl, { 3, F_SETLEASE }, TOLD },
        { "folder notification", SYS_fcntl, { 3, F_NOTIFY }, TOLD },
        { "a thread's name", SYS_prctl, { PR_SET_NAME }, ALLOWED },
        { "tightening", SYS_prctl, { PR_SET_SECCOMP, 2 }, ALLOWED },
        { "PR_SET_MM", SYS_prctl, { PR_SET_MM }, FAILED(EPERM) },
        { "PR_SET_PTRACER", SYS_prctl, { 0x59616d61, UINT64_MAX }, FAILED(EINVAL) },
        { "a filter", SYS_seccomp, { 1, 0 }, ALLOWED },
        { "a filter for all threads", SYS_seccomp, { 1, 1 }, ALLOWED },
        { "a listener", SYS_seccomp, { 1, SECCOMP_FILTER_FLAG_NEW_LISTENER }, TOLD },
        { "io_uring", SYS_io_uring_setup, { 0 }, FAILED(ENOSYS) },
        { "bpf", SYS_bpf, { 0 }, TOLD },
        { "a secret memory file", SYS_memfd_secret, { 0 }, FAILED(ENOSYS) },
        { "the mount table", 457, { 0 }, FAILED(ENOSYS) },
        { "open_tree_attr", 467, { 0 }, TOLD },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t got = evaluate_native(rows[i].number, rows[i].args);

        if (got != rows[i].want)
            fail_msg("%s: %#x, not %#x", rows[i].label, got, rows[i].want);
    }
}

static void refuses_these_calls_whatever_their_arguments(void **state)
{
    static const char *const names[] = {
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "open_tree",
        "move_mount",
        "mount_setattr",
        "open_tree_attr",
        "setns",
        "reboot",
        "swapon",
        "swapoff",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "acct",
        "quotactl",
        "quotactl_fd",
        "syslog",
        "iopl",
        "ioperm",
        "modify_ldt",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "process_madvise",
        "kcmp",
        "pidfd_getfd",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "keyctl",
        "add_key",
        "request_key",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "open_by_handle_at",
        "name_to_handle_at",
        "fanotify_init",
        "fanotify_mark",
        "lookup_dcookie",
        "nfsservctl",
        "vhangup",
        "settimeofday",
        "clock_settime",
        "adjtimex",
        "clock_adjtime",
        "sethostname",
        "setdomainname",
        "move_pages",
        "migrate_pages",
        "memfd_secret",
        "clone3",
        "uselib",
        "create_module",
    };
    size_t count;
    const struct policy_call *calls = policy_calls(&count);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct policy_call *call = NULL;

        for (size_t c = 0; c < count && !call; c++)
            if (strcmp(calls[c].name, names[i]) == 0)
                call = &calls[c];
        if (!call || call->action == POLICY_ALLOW || call->rule_count)
            fail_msg("%s is not refused", names[i]);
        assert_true(call->error == EPERM || call->error == ENOSYS);
    }
}

static void kills_every_foreign_architecture(void **state)
{
    static const uint32_t foreign[] = { AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM, 0,
                                        UINT32_MAX };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        struct seccomp_data data = { .nr = SYS_read, .arch = foreign[i] };

        assert_int_equal(evaluate(&data), KILLED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unconditional_number_has_the_verdict_of_the_table),
        cmocka_unit_test(every_conditional_row_decides_as_the_table_says),
        cmocka_unit_test(every_number_of_today_is_in_the_table),
        cmocka_unit_test(decides_as_intended),
        cmocka_unit_test(refuses_these_calls_whatever_their_arguments),
        cmocka_unit_test(kills_every_foreign_architecture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
