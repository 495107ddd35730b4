#include "sandbox/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/utf8.h"
#include "sandbox/seccomp.h"
#include "tests/support/check.h"
#include "tests/unit/notify_child.h"

/* ---- texts ---- */

#define UNREADABLE 16

static const struct {
    const char *label;
    int number;
    uint64_t args[6];
    int want_errno;
    const char *name, *text;
} calls[] = {
    { "path", SYS_chroot, { (uintptr_t) "/etc" }, EPERM, "chroot", "/etc" },
    { "unreadable", SYS_chroot, { UNREADABLE }, EPERM, "chroot", "" },
    { "mode", SYS_chmod, { (uintptr_t) "/x y", 04755 }, EPERM, "chmod", "/x y mode 4755" },
    { "family",
      SYS_socket,
      { AF_NETLINK, SOCK_RAW, 12 },
      EAFNOSUPPORT,
      "socket",
      "AF_NETLINK SOCK_RAW" },
    { "raw",
      SYS_socket,
      { AF_INET6, SOCK_RAW | SOCK_CLOEXEC, 58 },
      EPERM,
      "socket",
      "AF_INET6 SOCK_RAW" },
    { "namespaces",
      SYS_unshare,
      { CLONE_NEWUSER | CLONE_NEWNS | 0x80 },
      EPERM,
      "unshare",
      "CLONE_NEWTIME|CLONE_NEWNS|CLONE_NEWUSER" },
    { "nothing to say", SYS_userfaultfd, { 0 }, EPERM, "userfaultfd", "" },
};

static void make_calls(int sock, int *shared)
{
    char byte = 'd';

    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        const uint64_t *a = calls[i].args;

        errno = 0;
        shared[0] = syscall(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]) < 0 ? errno : 0;
        if (write(sock, &byte, 1) != 1 || read(sock, &byte, 1) != 1)
            _exit(4);
    }
}

static void tells_name_and_argument_and_answers_with_the_error(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    struct reports r = REPORTS_INIT;
    struct notify_watch *w;
    struct child c;

    (void)state;
    c = start_child(make_calls);
    w = watch(n, &c, keep, &r);
    go(&c);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        struct told now;

        wait_byte(&c);
        now = told(&r);
        if (c.shared[0] != calls[i].want_errno)
            fail_msg("%s: %s", calls[i].label, strerror(c.shared[0]));
        if (strcmp(now.name, calls[i].name) || strcmp(now.text, calls[i].text))
            fail_msg("%s: told %s \"%s\"", calls[i].label, now.name, now.text);
        assert_int_equal(now.count, i + 1);
        assert_int_equal(now.pid, c.pid);
        go(&c);
    }
    join_child(&c);
    notify_remove(w);
    assert_false(told(&r).invalid);
}

static void a_loop_can_do_the_work_instead_of_a_thread(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(loop_freep) struct loop *loop = loop_new(&err);
    struct reports r = REPORTS_INIT;
    struct notify_watch *w;
    struct notify *n;
    struct child c;

    (void)state;
    assert_ok(loop != NULL, err);
    n = notify_new(loop, &err);
    assert_ok(n != NULL, err);
    c = start_child(make_calls);
    w = watch(n, &c, keep, &r);
    go(&c);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        while (told(&r).count <= i)
            loop_turn(loop, 1000);
        wait_byte(&c);
        assert_int_equal(c.shared[0], calls[i].want_errno);
        assert_string_equal(told(&r).name, calls[i].name);
        go(&c);
    }
    join_child(&c);
    notify_remove(w);
    notify_free(n);
    loop_turn(loop, 0);
}

/* ---- limits ---- */

static void call_a_thousand_times(int sock, int *shared)
{
    char byte = 'd';

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 1000; i++)
            if (syscall(SYS_setns, -1, 0) == 0 || errno != EPERM)
                shared[0]++;
        if (write(sock, &byte, 1) != 1 || read(sock, &byte, 1) != 1)
            _exit(4);
    }
}

static void tells_so_many_and_refuses_all(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    struct reports r = REPORTS_INIT;
    struct child c = start_child(call_a_thousand_times);
    struct notify_watch *w = watch(n, &c, keep, &r);

    (void)state;
    clock_fake(5 * CLOCK_NS_PER_S);
    go(&c);
    wait_byte(&c);
    assert_int_equal(told(&r).count, 200);
    clock_fake(5 * CLOCK_NS_PER_S + CLOCK_NS_PER_S / 2);
    go(&c);
    wait_byte(&c);
    assert_int_equal(told(&r).count, 300);
    go(&c);
    clock_real();
    assert_int_equal(c.shared[0], 0);
    join_child(&c);
    notify_remove(w);
}

static void call_for_ever(int sock, int *shared)
{
    (void)sock;
    for (;;) {
        (void)syscall(SYS_setns, -1, 0);
        __atomic_add_fetch(&shared[0], 1, __ATOMIC_RELAXED);
    }
}

static void call_ten_times(int sock, int *shared)
{
    (void)sock;
    for (int i = 0; i < 10; i++)
        if (syscall(SYS_setns, -1, 0) == 0 || errno != EPERM)
            shared[0]++;
}

static void a_flooding_sandbox_does_not_keep_others_waiting(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    struct reports r = REPORTS_INIT, noise = REPORTS_INIT;
    struct child flood = start_child(call_for_ever), other = start_child(call_ten_times);
    struct notify_watch *flood_watch = watch(n, &flood, keep, &noise);
    struct notify_watch *other_watch = watch(n, &other, keep, &r);

    (void)state;
    go(&flood);
    go(&other);
    join_child(&other);
    assert_int_equal(told(&r).count, 10);
    kill_child(&flood);
    notify_remove(flood_watch);
    notify_remove(other_watch);
}

/* ---- ends ---- */

static void call_once(int sock, int *shared)
{
    char byte = 'd';

    (void)sock;
    errno = 0;
    (void)syscall(SYS_setns, -1, 0);
    shared[0] = errno;
    (void)!write(sock, &byte, 1);
}

static void call_after_removal(int sock, int *shared)
{
    char byte;

    call_once(sock, shared);
    if (read(sock, &byte, 1) != 1)
        _exit(4);
    errno = 0;
    (void)syscall(SYS_setns, -1, 0);
    shared[1] = errno;
}

static void calls_stay_refused_when_nobody_listens_any_more(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    struct reports r = REPORTS_INIT;
    struct child c = start_child(call_after_removal);
    struct notify_watch *w = watch(n, &c, keep, &r);

    (void)state;
    go(&c);
    wait_byte(&c);
    notify_remove(w);
    go(&c);
    assert_int_equal(waitid(P_PID, (id_t)c.pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
    assert_int_equal(c.shared[0], EPERM);
    assert_int_equal(c.shared[1], ENOSYS);
    assert_int_equal(told(&r).count, 1);
    join_child(&c);
}

static void hang_up_is_quiet_and_others_go_on(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    struct reports r = REPORTS_INIT;
    struct child first = start_child(call_once), second = start_child(call_once);
    struct notify_watch *first_watch = watch(n, &first, keep, &r);
    struct notify_watch *second_watch = watch(n, &second, keep, &r);

    (void)state;
    go(&first);
    join_child(&first);
    go(&second);
    join_child(&second);
    assert_int_equal(told(&r).count, 2);
    notify_remove(second_watch);
    notify_remove(first_watch);
    notify_remove(NULL);
}

static void a_caller_killed_while_it_waits_is_no_trouble(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    struct reports r = REPORTS_INIT;
    struct child c = start_child(call_once);
    struct notify_watch *last;
    size_t before;

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct child victim = start_child(call_for_ever);
        struct notify_watch *w = watch(n, &victim, keep, &r);

        go(&victim);
        kill_child(&victim);
        notify_remove(w);
    }
    before = told(&r).count;
    last = watch(n, &c, keep, &r);
    go(&c);
    join_child(&c);
    assert_int_equal(told(&r).count, before + 1);
    notify_remove(last);
}

struct slow {
    sem_t entered, leave;
    bool ended;
};

static void be_slow(void *arg, const char *name, const char *text, uint32_t pid)
{
    struct slow *s = arg;

    (void)name;
    (void)text;
    (void)pid;
    sem_post(&s->entered);
    while (sem_wait(&s->leave) != 0)
        continue;
    s->ended = true; /* not atomic: removal must order it */
}

static void *let_go(void *arg)
{
    sem_post(&((struct slow *)arg)->leave);
    return NULL;
}

static void removal_waits_for_a_running_callback(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    struct slow s = { .ended = false };
    struct child c = start_child(call_once);
    struct notify_watch *w;
    pthread_t helper;

    (void)state;
    sem_init(&s.entered, 0, 0);
    sem_init(&s.leave, 0, 0);
    w = watch(n, &c, be_slow, &s);
    go(&c);
    while (sem_wait(&s.entered) != 0)
        continue;
    assert_int_equal(pthread_create(&helper, NULL, let_go, &s), 0);
    notify_remove(w);
    assert_true(s.ended);
    pthread_join(helper, NULL);
    join_child(&c);
}

static void *add_and_remove(void *arg)
{
    struct notify *n = arg;
    struct reports r = REPORTS_INIT;
    long bad = 0;

    for (int i = 0; i < 200; i++) {
        int pair[2];
        struct notify_watch *w;

        if (pipe2(pair, O_CLOEXEC) != 0)
            return (void *)1;
        /* A pipe that hangs up is enough to wake the thread for it. */
        w = notify_add(n, pair[0], keep, &r, NULL);
        close(pair[1]);
        if (!w)
            bad++;
        notify_remove(w);
    }
    return (void *)bad;
}

static void watches_come_and_go_on_several_threads(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    pthread_t threads[4];
    void *bad;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_and_remove, n), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
}

/* ---- failures ---- */

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    FAULT_EACH(k)
    {
        struct error err = ERROR_INIT;
        struct reports r = REPORTS_INIT;
        CLEANUP(notify_freep) struct notify *n = notify_new(NULL, &err);
        struct notify_watch *w = NULL;
        struct child c;

        if (!n) {
            FAULT_DONE(k);
            assert_code(err, ERR_NOMEM);
            continue;
        }
        c = start_child(call_once);
        w = notify_add(n, c.listener, keep, &r, &err);
        FAULT_DONE(k);
        if (!w) {
            assert_code(err, ERR_NOMEM);
            assert_true(fcntl(c.listener, F_GETFD) >= 0); /* still the caller's */
            close(c.listener);
        }
        kill_child(&c);
        notify_remove(w);
    }
}

static void call_with_a_path(int sock, int *shared)
{
    (void)sock;
    errno = 0;
    (void)syscall(SYS_chroot, "/etc");
    shared[0] = errno;
}

static void a_text_that_finds_no_memory_is_left_out(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    struct reports r = REPORTS_INIT;
    struct child c = start_child(call_with_a_path);
    struct notify_watch *w = watch(n, &c, keep, &r);

    (void)state;
    fault_arm(0);
    go(&c);
    assert_int_equal(waitid(P_PID, (id_t)c.pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
    assert_true(fault_disarm());
    assert_string_equal(told(&r).name, "chroot");
    assert_string_equal(told(&r).text, "");
    assert_int_equal(c.shared[0], EPERM);
    join_child(&c);
    notify_remove(w);
}

static void refuses_what_cannot_be_watched(void **state)
{
    CLEANUP(notify_freep) struct notify *n = new_notify();
    struct error err = ERROR_INIT;

    (void)state;
    assert_null(notify_add(n, -1, keep, NULL, &err));
    assert_code(err, ERR_IO);
    assert_int_equal(err.os_errno, EBADF);
    notify_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_name_and_argument_and_answers_with_the_error),
        cmocka_unit_test(a_loop_can_do_the_work_instead_of_a_thread),
        cmocka_unit_test(tells_so_many_and_refuses_all),
        cmocka_unit_test(a_flooding_sandbox_does_not_keep_others_waiting),
        cmocka_unit_test(calls_stay_refused_when_nobody_listens_any_more),
        cmocka_unit_test(hang_up_is_quiet_and_others_go_on),
        cmocka_unit_test(a_caller_killed_while_it_waits_is_no_trouble),
        cmocka_unit_test(removal_waits_for_a_running_callback),
        cmocka_unit_test(watches_come_and_go_on_several_threads),
        cmocka_unit_test(survives_every_allocation_failure),
        cmocka_unit_test(a_text_that_finds_no_memory_is_left_out),
        cmocka_unit_test(refuses_what_cannot_be_watched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
