#include "sandbox/notify_text.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/base/utf8.h"
#include "tests/support/check.h"

static char long_path[400], cut_path[170], bad_path[] = "/a\xff\xc3/b";
#define UNREADABLE 16

static void says_what_was_asked_for(void **state)
{
    const struct {
        const char *label;
        int number;
        uint64_t args[6];
        const char *text;
    } rows[] = {
        { "path", SYS_chroot, { (uintptr_t) "/etc" }, "/etc" },
        { "target of a mount", SYS_mount, { 0, (uintptr_t) "/mnt" }, "/mnt" },
        { "NULL", SYS_chroot, { 0 }, "" },
        { "unreadable", SYS_chroot, { UNREADABLE }, "" },
        { "kernel half", SYS_chroot, { UINT64_MAX - 4095 }, "" },
        { "not UTF-8", SYS_chroot, { (uintptr_t)bad_path }, "/a\xef\xbf\xbd\xef\xbf\xbd/b" },
        { "controls",
          SYS_chroot,
          { (uintptr_t) "/a\n\x1b[1m\x7f\xc2\x9b\xe2\x80\xae" },
          "/a??[1m??\xef\xbf\xbd?\xef\xbf\xbd\xef\xbf\xbd" },
        { "long", SYS_chroot, { (uintptr_t)long_path }, cut_path },
        { "mode", SYS_chmod, { (uintptr_t) "/x y", 04755 }, "/x y mode 4755" },
        { "mode of nothing", SYS_chmod, { UNREADABLE, 02755 }, "mode 2755" },
        { "mode alone", SYS_fchmod, { 3, 06711 }, "mode 6711" },
        { "creation", SYS_openat, { 3, (uintptr_t) "s", O_CREAT, 04700 }, "s mode 4700" },
        { "family", SYS_socket, { AF_NETLINK, SOCK_RAW, 12 }, "AF_NETLINK SOCK_RAW" },
        { "raw", SYS_socket, { AF_INET6, SOCK_RAW | SOCK_CLOEXEC, 58 }, "AF_INET6 SOCK_RAW" },
        { "nameless family", SYS_socket, { 77, 15, 0 }, "family 0x4d type 0xf" },
        { "namespaces",
          SYS_unshare,
          { CLONE_NEWUSER | CLONE_NEWNS | 0x80 },
          "CLONE_NEWTIME|CLONE_NEWNS|CLONE_NEWUSER" },
        { "the signal of clone", SYS_clone, { CLONE_NEWNET | 0x91 }, "CLONE_NEWNET" },
        { "setns", SYS_setns, { 3, CLONE_NEWPID }, "CLONE_NEWPID" },
        { "request", SYS_ioctl, { 0, 0xffffffff00005412 }, "TIOCSTI" },
        { "nameless request", SYS_ioctl, { 0, 0x56fe }, "0x56fe" },
        { "command", SYS_fcntl, { 0, F_SETLEASE }, "F_SETLEASE" },
        { "number", SYS_ptrace, { 16 }, "0x10" },
        { "nothing to say", SYS_userfaultfd, { 0 }, "" },
    };

    (void)state;
    memset(long_path, 'p', sizeof long_path - 1);
    (void)snprintf(cut_path, sizeof cut_path, "%.160s…", long_path);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT;

        notify_text(&out, policy_find(rows[i].number), rows[i].args, (uint32_t)getpid());
        if (strcmp(buf_str(&out), rows[i].text))
            fail_msg("%s: \"%s\"", rows[i].label, buf_str(&out));
        assert_true(utf8_valid(buf_str(&out), out.len));
        buf_fini(&out);
    }
}

static void reads_no_further_than_the_memory_goes(void **state)
{
    const long page = sysconf(_SC_PAGESIZE);
    char *two =
        mmap(NULL, 2 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *end = two + page;

    (void)state;
    assert_true(two != MAP_FAILED);
    assert_int_equal(munmap(end, (size_t)page), 0);
    memcpy(end - 4, "abcd", 4);
    for (int terminated = 0; terminated < 2; terminated++) {
        const uint64_t args[6] = { (uintptr_t)(end - 4) };
        struct buf out = BUF_INIT;

        if (terminated)
            end[-1] = '\0';
        notify_text(&out, policy_find(SYS_chroot), args, (uint32_t)getpid());
        assert_string_equal(buf_str(&out), terminated ? "abc" : "");
        buf_fini(&out);
    }
    (void)munmap(two, (size_t)page);
}

static void a_process_that_is_gone_says_nothing(void **state)
{
    const uint64_t args[6] = { (uintptr_t) "/etc" };
    struct buf out = BUF_INIT;

    (void)state;
    notify_text(&out, policy_find(SYS_chroot), args, UINT32_MAX);
    notify_text(&out, policy_find(SYS_chroot), args, 0);
    assert_int_equal(out.len, 0);
    buf_fini(&out);
}

static void no_arguments_of_any_call_are_trouble(void **state)
{
    const uint64_t vectors[][6] = { { 0 }, { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX } };
    size_t count;
    const struct policy_call *calls = policy_calls(&count);

    (void)state;
    for (size_t i = 0; i < count; i++) {
        for (size_t v = 0; v < ARRAY_LEN(vectors); v++) {
            struct buf out = BUF_INIT;

            notify_text(&out, &calls[i], vectors[v], (uint32_t)getpid());
            assert_false(out.failed);
            assert_true(utf8_valid(buf_str(&out), out.len));
            buf_fini(&out);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_was_asked_for),
        cmocka_unit_test(reads_no_further_than_the_memory_goes),
        cmocka_unit_test(a_process_that_is_gone_says_nothing),
        cmocka_unit_test(no_arguments_of_any_call_are_trouble),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
