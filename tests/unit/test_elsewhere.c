#include "tests/support/check.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/elsewhere.h"

static cpu_set_t cpus_of(pid_t pid)
{
    cpu_set_t cpus;

    assert_int_equal(sched_getaffinity(pid, sizeof cpus, &cpus), 0);
    return cpus;
}

static pid_t child;

static int start_child(void **state)
{
    (void)state;
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    return child < 0;
}

static int end_child(void **state)
{
    (void)state;
    (void)kill(child, SIGKILL);
    return waitpid(child, NULL, 0) != child;
}

static void knows_where_the_caller_may_run(void **state)
{
    cpu_set_t ours = cpus_of(0);
    struct elsewhere e;
    (void)state;

    elsewhere_look(&e);
    assert_true(CPU_EQUAL(&e.usual, &ours));
    assert_int_equal(e.cpus, CPU_COUNT(&ours));
    assert_true(e.others >= 0);
}

static void a_child_is_kept_off_one_processor_and_let_go(void **state)
{
    struct elsewhere e;
    cpu_set_t now;
    int all;
    (void)state;

    elsewhere_look(&e);
    all = e.cpus;
    e.others = 0;
    elsewhere_put(&e, child);
    now = cpus_of(child);
    assert_int_equal(CPU_COUNT(&now), all > 1 ? all - 1 : all);
    elsewhere_end(&e, child);
    now = cpus_of(child);
    assert_true(CPU_EQUAL(&now, &e.usual));
}

static void nothing_is_done_where_none_is_idle(void **state)
{
    struct elsewhere e;
    cpu_set_t now;
    (void)state;

    elsewhere_look(&e);
    e.others = e.cpus;
    elsewhere_put(&e, child);
    now = cpus_of(child);
    assert_true(CPU_EQUAL(&now, &e.usual));
    elsewhere_end(&e, child);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_where_the_caller_may_run),
        cmocka_unit_test_setup_teardown(a_child_is_kept_off_one_processor_and_let_go, start_child,
                                        end_child),
        cmocka_unit_test_setup_teardown(nothing_is_done_where_none_is_idle, start_child, end_child),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
