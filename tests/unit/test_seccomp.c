#include "sandbox/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "sandbox/notify.h"
#include "tests/support/check.h"

#define NO_USER       65534u
#define CHILD_SECONDS 60

struct attempt {
    const char *label;
    int number;
    long args[6];
    int want; /* errno, 0 for success */
};

static const char some_path[] = "/nowhere/at/all";

static const struct attempt attempts[] = {
    { "getpid", SYS_getpid, { 0 }, 0 },
    { "clone3", SYS_clone3, { 0 }, ENOSYS },
    { "unknown", 5000, { 0 }, ENOSYS },
    { "minus one", -1, { 0 }, ENOSYS },
    { "clone NEWUSER", SYS_clone, { CLONE_NEWUSER | SIGCHLD }, EPERM },
    { "unshare NEWNS", SYS_unshare, { CLONE_NEWNS }, EPERM },
    { "unshare CLONE_FS", SYS_unshare, { CLONE_FS }, 0 },
    { "setns", SYS_setns, { 0 }, EPERM },
    { "mount", SYS_mount, { (long)some_path, (long)some_path, 0, 0, 0 }, EPERM },
    { "umount2", SYS_umount2, { (long)some_path, 0 }, EPERM },
    { "fsopen", SYS_fsopen, { (long)some_path, 0 }, EPERM },
    { "bpf", SYS_bpf, { 0 }, EPERM },
    { "keyctl", SYS_keyctl, { 0 }, EPERM },
    { "ptrace", SYS_ptrace, { PTRACE_TRACEME }, EPERM },
    { "io_uring", SYS_io_uring_setup, { 1 }, ENOSYS },
    { "netlink", SYS_socket, { AF_NETLINK, SOCK_RAW, 0 }, EAFNOSUPPORT },
    { "alg", SYS_socket, { AF_ALG, SOCK_SEQPACKET, 0 }, EAFNOSUPPORT },
    { "raw", SYS_socket, { AF_INET, SOCK_RAW, 1 }, EPERM },
    { "SCTP", SYS_socket, { AF_INET, SOCK_STREAM, 132 }, EPROTONOSUPPORT },
    { "TCP", SYS_socket, { AF_INET, SOCK_STREAM, 0 }, 0 },
    { "TIPC pair", SYS_socketpair, { AF_TIPC, SOCK_STREAM, 0, 0 }, EAFNOSUPPORT },
    { "TIOCSTI", SYS_ioctl, { -1, 0x5412 }, EPERM },
    { "TIOCSTI under garbage", SYS_ioctl, { -1, 0x100005412 }, EPERM },
    { "TCGETS on nothing", SYS_ioctl, { -1, 0x5401 }, EBADF },
    { "chmod setuid", SYS_chmod, { (long)some_path, 04755 }, EPERM },
    { "chmod", SYS_chmod, { (long)some_path, 0755 }, ENOENT },
    { "fchmod setgid", SYS_fchmod, { -1, 02755 }, EPERM },
    { "openat setuid", SYS_openat, { AT_FDCWD, (long)some_path, O_CREAT, 04755 }, EPERM },
    { "openat", SYS_openat, { AT_FDCWD, (long)some_path, O_RDONLY, 04755 }, ENOENT },
    { "mknod device", SYS_mknod, { (long)some_path, S_IFCHR, 0 }, EPERM },
    { "mknod FIFO", SYS_mknod, { (long)some_path, S_IFIFO, 0 }, ENOENT },
    { "personality", SYS_personality, { 0x40000 }, EPERM },
    { "personality query", SYS_personality, { 0xffffffff }, 0 },
    { "lease", SYS_fcntl, { -1, F_SETLEASE, 0 }, EPERM },
    { "listener", SYS_seccomp, { 1, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0 }, EPERM },
};

struct outcome {
    int got[ARRAY_LEN(attempts)];
};

static void ignore(void *arg, const char *name, const char *text, uint32_t pid)
{
    (void)arg;
    (void)name;
    (void)text;
    (void)pid;
}

static NORETURN void attempt_all(int sock, uid_t uid, struct outcome *out)
{
    char go;
    int listener;

    (void)alarm(CHILD_SECONDS);
    if ((uid && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid))) ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _exit(1);
    listener = seccomp_install(seccomp_filter());
    if (listener < 0 || !fd_send(sock, "L", 1, &listener, 1, NULL) || read(sock, &go, 1) != 1)
        _exit(2);
    close(listener);
    for (size_t i = 0; i < ARRAY_LEN(attempts); i++) {
        const long *a = attempts[i].args;

        errno = 0;
        out->got[i] =
            syscall(attempts[i].number, a[0], a[1], a[2], a[3], a[4], a[5]) < 0 ? errno : 0;
    }
    _exit(0);
}

static void check_in_child(uid_t uid)
{
    struct outcome *out =
        mmap(NULL, sizeof *out, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct error err = ERROR_INIT;
    CLEANUP(notify_freep) struct notify *n = notify_new(NULL, &err);
    struct notify_watch *watch;
    int pair[2], listener, status;
    size_t fd_count;
    pid_t pid;
    char byte;

    assert_ok(n != NULL, err);
    assert_true(out != MAP_FAILED);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        attempt_all(pair[1], uid, out);
    close(pair[1]);
    assert_ok(fd_recv(pair[0], &byte, 1, &listener, 1, &fd_count, &err) == 1, err);
    assert_int_equal(fd_count, 1);
    assert_int_equal(fcntl(listener, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    watch = notify_add(n, listener, ignore, NULL, &err);
    assert_ok(watch != NULL, err);
    assert_ok(fd_write_all(pair[0], "g", 1, &err), err);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    notify_remove(watch);
    close(pair[0]);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < ARRAY_LEN(attempts); i++)
        if (out->got[i] != attempts[i].want)
            fail_msg("%s: %s, not %s", attempts[i].label, strerror(out->got[i]),
                     strerror(attempts[i].want));
    (void)munmap(out, sizeof *out);
}

static void the_kernel_answers_as_intended(void **state)
{
    (void)state;
    check_in_child(0);
}

static void the_kernel_answers_an_ordinary_user_as_intended(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip_because("only root can become another user");
    check_in_child(NO_USER);
}

static int status_of(void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(CHILD_SECONDS);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || seccomp_install(seccomp_filter()) < 0)
            _exit(2);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void call_as_i386(void)
{
    long result = 20; /* getpid there */

    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
}

static void call_as_x32(void)
{
    (void)syscall(0x40000000 | SYS_getpid);
}

static void call_as_native(void)
{
    (void)syscall(SYS_getpid);
}

static void the_kernel_kills_foreign_calls(void **state)
{
    int i386 = status_of(call_as_i386), x32 = status_of(call_as_x32);

    (void)state;
    assert_true(WIFSIGNALED(i386) && WTERMSIG(i386) == SIGSYS);
    assert_true(WIFSIGNALED(x32) && WTERMSIG(x32) == SIGSYS);
    assert_int_equal(status_of(call_as_native), 0);
}

static void fails_without_no_new_privs_for_an_ordinary_user(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    if (geteuid() != 0)
        skip_because("only root can become another user");
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (setresgid(NO_USER, NO_USER, NO_USER) || setresuid(NO_USER, NO_USER, NO_USER))
            _exit(1);
        _exit(seccomp_install(seccomp_filter()) == -1 && errno == EACCES ? 0 : 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_answers_as_intended),
        cmocka_unit_test(the_kernel_answers_an_ordinary_user_as_intended),
        cmocka_unit_test(the_kernel_kills_foreign_calls),
        cmocka_unit_test(fails_without_no_new_privs_for_an_ordinary_user),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
