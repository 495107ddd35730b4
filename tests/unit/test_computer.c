#include "tests/unit/fake_puppet.h"

#include <sched.h>
#include <stdatomic.h>

#include "kernel/base/limits.h"
#include "kernel/computer/computer.h"
#include "kernel/computer/egress.h"

/* ---- a back end of a puppet, and what it is told ---- */

struct fake_computer {
    struct computer base;
    struct world *w;
};

struct world {
    struct loop_thread lt;
    struct puppet puppet;
    struct computer *c;
    struct mark lost, denied, refused, destroyed, paused, go_on;
    char why[256];
    char host[64];
    uint32_t pid;
    atomic_int inside; /* the back end's functions that are going on */
    atomic_bool overlapped;
    struct computer_hooks hooks;
};

static void on_event(void *arg, struct computer *c, const struct computer_event *event)
{
    struct world *w = arg;

    (void)c;
    switch (event->kind) {
    case COMPUTER_EVENT_LOST:
        (void)snprintf(w->why, sizeof w->why, "%s", event->text);
        mark_hit(&w->lost);
        break;
    case COMPUTER_EVENT_REFUSED:
        (void)snprintf(w->host, sizeof w->host, "%s %s", event->name, event->text);
        w->pid = event->pid;
        mark_hit(&w->refused);
        break;
    case COMPUTER_EVENT_EGRESS:
        if (event->egress->what == EGRESS_DENIED) {
            (void)snprintf(w->host, sizeof w->host, "%s", event->egress->host);
            mark_hit(&w->denied);
        }
        break;
    }
}

static struct world *world_of(struct computer *c)
{
    return CONTAINER_OF(c, struct fake_computer, base)->w;
}

static void enter(struct world *w)
{
    if (atomic_fetch_add(&w->inside, 1) != 0)
        atomic_store(&w->overlapped, true);
}

/* Goes on until the test says so. */
static bool fake_pause(struct computer *c, const struct wait *wait, struct error *err)
{
    struct world *w = world_of(c);

    (void)wait;
    (void)err;
    enter(w);
    mark_hit(&w->paused);
    mark_wait(&w->go_on, 1);
    atomic_fetch_sub(&w->inside, 1);
    return true;
}

static bool fake_usage(struct computer *c, struct computer_usage *ret, struct error *err)
{
    (void)c;
    (void)err;
    *ret = (struct computer_usage){ .pids = 3 };
    return true;
}

static void fake_strikes(struct computer *c, struct computer_strikes *ret)
{
    (void)c;
    ret->oom = 5;
}

static void fake_destroy(struct computer *c)
{
    struct world *w = world_of(c);

    enter(w);
    mark_hit(&w->destroyed);
    atomic_fetch_sub(&w->inside, 1);
}

static const struct computer_ops fake_ops = {
    .kind = "fake",
    .pause = fake_pause,
    .usage = fake_usage,
    .strikes = fake_strikes,
    .destroy = fake_destroy,
};

static const char *const base_env[] = { "PATH=/bin", "HOME=/root", NULL };

static void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->lost = w->denied = w->refused = w->destroyed = w->paused = w->go_on = (struct mark)MARK_INIT;
    loop_thread_start(&w->lt);
    w->hooks = (struct computer_hooks){ .loop = w->lt.loop, .on_event = on_event, .arg = w };
}

static bool make(struct world *w, const struct computer_spec *spec, struct error *err)
{
    struct fake_computer *fc = calloc(1, sizeof *fc);
    const struct wait wait = patience(NULL);
    int fd = puppet_start(&w->puppet);

    if (!fc) {
        fd_close(fd);
        return error_set(err, ERR_NOMEM, "a fake computer");
    }
    fc->w = w;
    if (!computer_init(&fc->base, &fake_ops, spec, base_env, &w->hooks, err)) {
        free(fc);
        fd_close(fd);
        return false;
    }
    if (!computer_attach(&fc->base, fd, &wait, err)) {
        computer_fini(&fc->base);
        free(fc);
        fd_close(fd);
        return false;
    }
    w->c = &fc->base;
    return true;
}

static void world_start(struct world *w, const struct computer_spec *spec)
{
    struct error err = ERROR_INIT;

    world_init(w);
    assert_ok(make(w, spec, &err), err);
}

/* Its machine goes with the last reference, its object when the loop has let go of it. */
static void world_stop(struct world *w)
{
    computer_unref(w->c);
    puppet_join(&w->puppet);
    loop_thread_stop(&w->lt);
}

/* ---- what it is ---- */

static void keeps_what_was_asked_for(void **state)
{
    char rule[] = "pypi.org:443", path[] = "/src", entry[] = "A=1";
    const char *allow[] = { rule, "*.example.org" };
    const char *env[] = { entry, NULL };
    struct computer_dir dirs[] = { { path, true }, { "/data", false } };
    const struct computer_spec spec = {
        .allow = allow, .allow_count = 2, .env = env, .dirs = dirs, .dir_count = 2, .pids = 9
    };
    const struct computer_spec *kept;
    struct world w;
    (void)state;

    world_start(&w, &spec);
    rule[0] = path[0] = entry[0] = 'X';
    kept = computer_spec(w.c);
    assert_string_equal(kept->allow[0], "pypi.org:443");
    assert_int_equal(kept->allow_count, 2);
    assert_null(kept->allow[2]);
    assert_string_equal(kept->env[0], "A=1");
    assert_null(kept->env[1]);
    assert_string_equal(kept->dirs[0].path, "/src");
    assert_true(kept->dirs[0].writable);
    assert_false(kept->dirs[1].writable);
    assert_int_equal(kept->pids, 9);
    assert_true(id_is(computer_id(w.c), "c"));
    assert_string_equal(computer_kind(w.c), "fake");
    assert_true(computer_created_ns(w.c) <= clock_now_ns());
    assert_false(guest_lost(computer_guest(w.c)));
    world_stop(&w);
}

static void refuses_what_is_wrong_by_name(void **state)
{
    static const char *const bad_rule[] = { "pypi.org:99999" };
    static const char *const no_equals[] = { "A=1", "NONSENSE", NULL };
    static const char *const no_name[] = { "=x", NULL };
    static const struct {
        struct computer_spec spec;
        const char *text;
    } rows[] = {
        { { .allow = bad_rule, .allow_count = 1 }, "pypi.org:99999" },
        { { .env = no_equals }, "NONSENSE" },
        { { .env = no_name }, "=x" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct world w;

        world_init(&w);
        assert_false(make(&w, &rows[i].spec, &err));
        assert_code(err, ERR_INVALID);
        assert_contains(err.text, rows[i].text);
        puppet_join(&w.puppet);
        loop_thread_stop(&w.lt);
    }
}

static void later_variables_win(void **state)
{
    static const char *const spec_env[] = { "HOME=/home", "B=spec", NULL };
    static const char *const extra[] = { "B=run", "HOMES=x", "C=", NULL };
    static const char *const bad[] = { "oops", NULL };
    const struct computer_spec spec = { .env = spec_env };
    struct error err = ERROR_INIT;
    struct world w;
    char **env;
    (void)state;

    world_start(&w, &spec);
    env = computer_env(w.c, extra, &err);
    assert_ok(env != NULL, err);
    assert_string_equal(env[0], "PATH=/bin");
    assert_string_equal(env[1], "HOME=/home");
    assert_string_equal(env[2], "B=run");
    assert_string_equal(env[3], "HOMES=x");
    assert_string_equal(env[4], "C=");
    assert_null(env[5]);
    free(env);
    assert_null(computer_env(w.c, bad, &err));
    assert_code(err, ERR_INVALID);
    assert_contains(err.text, "oops");
    world_stop(&w);
}

/* ---- the end ---- */

static void a_lost_guest_is_told_once_with_the_reason(void **state)
{
    const struct computer_spec spec = { .pids = 1 };
    const struct wait wait = patience(NULL);
    struct error err = ERROR_INIT;
    struct computer_usage usage;
    struct world w;
    char why[128];
    (void)state;

    world_start(&w, &spec);
    shutdown(w.puppet.f.fd, SHUT_RDWR);
    mark_wait(&w.lost, 1);
    assert_string_equal(w.why, "the guest ended the connection");
    computer_lost_reason(w.c, why, sizeof why);
    assert_string_equal(why, w.why);
    computer_report_lost(w.c, "again");
    assert_false(guest_ping(computer_guest(w.c), &wait, &err));
    assert_code(err, ERR_LOST);
    error_clear(&err);
    assert_false(computer_pause(w.c, &wait, &err));
    assert_code(err, ERR_LOST);
    error_clear(&err);
    assert_ok(computer_usage(w.c, &usage, &err), err); /* figures are there to the end */
    computer_destroy(w.c);
    computer_lost_reason(w.c, why, sizeof why);
    assert_string_equal(why, w.why); /* the first reason stays */
    assert_false(computer_usage(w.c, &usage, NULL));
    world_stop(&w);
    assert_int_equal(w.lost.count, 1);
    assert_int_equal(w.destroyed.count, 1);
}

static void a_back_end_may_report_the_loss(void **state)
{
    const struct computer_spec spec = { .pids = 1 };
    struct world w;
    (void)state;

    world_start(&w, &spec);
    computer_report_lost(w.c, "its first process is gone");
    mark_wait(&w.lost, 1);
    assert_string_equal(w.why, "its first process is gone");
    assert_true(guest_lost(computer_guest(w.c)));
    world_stop(&w);
}

static bool do_destroy(void *arg, struct error *err)
{
    (void)err;
    computer_destroy(arg);
    return true;
}

static void destroying_is_done_once_by_whoever_comes_first(void **state)
{
    const struct computer_spec spec = { .pids = 1 };
    struct async threads[4];
    struct world w;
    char why[64];
    (void)state;

    world_start(&w, &spec);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        async_start(&threads[i], do_destroy, w.c);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_true(async_join(&threads[i]));
    computer_lost_reason(w.c, why, sizeof why);
    assert_string_equal(why, "destroyed");
    assert_true(guest_lost(computer_guest(w.c)));
    world_stop(&w);
    assert_int_equal(w.destroyed.count, 1);
    assert_int_equal(w.lost.count, 0); /* it was asked for */
}

static void the_last_reference_destroys(void **state)
{
    const struct computer_spec spec = { .pids = 1 };
    struct world w;
    (void)state;

    world_start(&w, &spec);
    computer_unref(computer_ref(w.c));
    assert_int_equal(w.destroyed.count, 0);
    world_stop(&w);
    assert_int_equal(w.destroyed.count, 1);
}

/* ---- the back end's functions ---- */

static bool do_pause(void *arg, struct error *err)
{
    const struct wait wait = patience(NULL);

    return computer_pause(arg, &wait, err);
}

static void operations_happen_one_at_a_time(void **state)
{
    const struct computer_spec spec = { .pids = 1 };
    const struct wait now = { .deadline_ns = clock_now_ns() + CLOCK_NS_PER_MS };
    struct computer_strikes strikes;
    struct error err = ERROR_INIT;
    struct computer_usage usage;
    struct async first, second;
    struct world w;
    (void)state;

    world_start(&w, &spec);
    async_start(&first, do_pause, w.c);
    mark_wait(&w.paused, 1);
    assert_false(computer_pause(w.c, &now, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_true(computer_usage(w.c, &usage, NULL)); /* asking disturbs nobody */
    assert_int_equal(usage.pids, 3);
    computer_strikes(w.c, &strikes);
    assert_int_equal(strikes.oom, 5);
    async_start(&second, do_pause, w.c);
    mark_hit(&w.go_on);
    assert_true(async_join(&first));
    assert_true(async_join(&second));
    assert_false(atomic_load(&w.overlapped));
    world_stop(&w);
}

static void destroying_waits_for_what_is_going_on(void **state)
{
    const struct computer_spec spec = { .pids = 1 };
    struct async pause, destroy;
    struct world w;
    (void)state;

    world_start(&w, &spec);
    async_start(&pause, do_pause, w.c);
    mark_wait(&w.paused, 1);
    async_start(&destroy, do_destroy, w.c);
    while (!guest_lost(computer_guest(w.c)))
        sched_yield();
    assert_int_equal(w.destroyed.count, 0);
    mark_hit(&w.go_on);
    assert_true(async_join(&pause));
    assert_true(async_join(&destroy));
    assert_false(atomic_load(&w.overlapped));
    world_stop(&w);
    assert_int_equal(w.destroyed.count, 1);
}

static void what_a_kind_cannot_do_is_unsupported(void **state)
{
    const struct computer_spec spec = { .pids = 1 };
    const struct wait wait = patience(NULL);
    struct error err = ERROR_INIT;
    struct world w;
    (void)state;

    world_start(&w, &spec);
    assert_false(computer_resume(w.c, &wait, &err));
    assert_code(err, ERR_UNSUPPORTED);
    error_clear(&err);
    assert_false(computer_checkpoint(w.c, "k", &wait, &err));
    assert_code(err, ERR_UNSUPPORTED);
    world_stop(&w);
}

/* ---- refusals ---- */

static void refusals_are_remembered_and_told(void **state)
{
    const struct computer_spec spec = { .pids = 1 };
    struct computer_refusal got[LIMIT_REFUSALS + 5];
    uint64_t missed;
    struct world w;
    char text[400];
    (void)state;

    world_start(&w, &spec);
    assert_int_equal(computer_refusal_seq(w.c), 0);
    assert_int_equal(computer_refusals(w.c, 0, got, 5, &missed), 0);
    computer_report_refusal(w.c, "mount", "/proc\xff", 42);
    mark_wait(&w.refused, 1);
    assert_string_equal(w.host, "mount /proc\xef\xbf\xbd");
    assert_int_equal(w.pid, 42);
    memset(text, 'x', sizeof text);
    memcpy(text, "\xc3\xa4", 2);
    for (size_t i = 2; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa4", 2);
    text[sizeof text - 1] = '\0';
    computer_report_refusal(w.c, text, text, 0);
    assert_int_equal(computer_refusals(w.c, 1, got, 5, &missed), 1);
    assert_int_equal(got[0].seq, 2);
    assert_int_equal(strlen(got[0].name), 30); /* whole characters */
    assert_int_equal(strlen(got[0].text), 158);
    for (unsigned i = 3; i <= LIMIT_REFUSALS + 10; i++)
        computer_report_refusal(w.c, "mount", NULL, 0);
    assert_int_equal(computer_refusal_seq(w.c), LIMIT_REFUSALS + 10);
    assert_int_equal(computer_refusals(w.c, 0, got, ARRAY_LEN(got), &missed), LIMIT_REFUSALS);
    assert_int_equal(missed, 10);
    assert_int_equal(got[0].seq, 11);
    assert_int_equal(computer_refusals(w.c, 20, got, 2, &missed), 2);
    assert_int_equal(missed, 0);
    assert_int_equal(got[0].seq, 21);
    world_stop(&w);
}

/* ---- the network ---- */

/* The puppet reads and drops what comes for channel 2, so the answer is seen through the event. */
static void ask_for(struct world *w, uint32_t channel, const char *host)
{
    char request[128];
    int n = snprintf(request, sizeof request, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\n\r\n",
                     host, host);

    (void)fake_send(&w->puppet.f, channel, WIRE_OPEN, 0, "\1", 1);
    (void)fake_send(&w->puppet.f, channel, WIRE_DATA, 0, request, (size_t)n);
}

static void without_rules_a_connection_is_denied_and_told(void **state)
{
    const struct computer_spec spec = { .pids = 1 };
    struct world w;
    (void)state;

    world_start(&w, &spec);
    ask_for(&w, 2, "pypi.org");
    mark_wait(&w.denied, 1);
    assert_string_equal(w.host, "pypi.org");
    world_stop(&w);
}

static void an_adopted_computer_has_new_rules_hooks_and_environment(void **state)
{
    static const char *const env[] = { "OWNER=new", NULL };
    static const char *const allow[] = { "nowhere.invalid" };
    const struct computer_spec old = { .pids = 1 };
    const struct computer_spec new = { .env = env, .allow = allow, .allow_count = 1 };
    static const char *const malformed[] = { "x", NULL };
    const struct computer_spec bad = { .env = malformed };
    struct error err = ERROR_INIT;
    struct world w, owner;
    struct computer_hooks hooks;
    char **merged;
    (void)state;

    world_start(&w, &old);
    memset(&owner, 0, sizeof owner);
    owner.denied = owner.lost = owner.refused = (struct mark)MARK_INIT;
    hooks = w.hooks;
    hooks.arg = &owner;
    assert_false(computer_adopt(w.c, &bad, &hooks, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    ask_for(&w, 2, "before.org"); /* a broker with the old rules is there */
    mark_wait(&w.denied, 1);
    assert_ok(computer_adopt(w.c, &new, &hooks, &err), err);
    assert_int_equal(computer_spec(w.c)->allow_count, 1);
    merged = computer_env(w.c, NULL, &err);
    assert_ok(merged != NULL, err);
    assert_string_equal(merged[2], "OWNER=new");
    free(merged);
    ask_for(&w, 4, "after.org");
    mark_wait(&owner.denied, 1);
    assert_string_equal(owner.host, "after.org");
    computer_report_refusal(w.c, "mount", "", 0);
    mark_wait(&owner.refused, 1);
    world_stop(&w);
    assert_int_equal(w.denied.count, 1);
    assert_int_equal(w.refused.count, 0);
}

/* ---- without memory, and when the guest says nothing ---- */

static void a_guest_that_does_not_report_leaves_the_stream_with_the_caller(void **state)
{
    const struct wait now = { .deadline_ns = clock_now_ns() + CLOCK_NS_PER_MS };
    struct fake_computer *fc = calloc(1, sizeof *fc);
    const struct computer_spec spec = { .pids = 1 };
    struct error err = ERROR_INIT;
    struct world w;
    int pair[2];
    (void)state;

    assert_non_null(fc);
    world_init(&w);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    assert_true(computer_init(&fc->base, &fake_ops, &spec, base_env, &w.hooks, &err));
    assert_false(computer_attach(&fc->base, pair[0], &now, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_contains(err.text, "waiting for the guest");
    assert_int_equal(send(pair[1], "x", 1, 0), 1);
    computer_fini(&fc->base);
    free(fc);
    loop_thread_stop(&w.lt);
    assert_int_equal(close(pair[0]), 0);
    (void)close(pair[1]);
    assert_int_equal(w.lost.count, 0);
}

static void survives_every_allocation_failure(void **state)
{
    static const char *const env[] = { "A=1", NULL };
    static const char *const allow[] = { "pypi.org" };
    const struct computer_spec spec = { .allow = allow, .allow_count = 1, .env = env };
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        char **merged = NULL;
        struct world w;
        bool ok;

        fault_disarm();
        world_init(&w);
        fault_arm(n);
        ok = make(&w, &spec, &err);
        ok = ok && computer_adopt(w.c, &spec, &w.hooks, &err);
        merged = ok ? computer_env(w.c, env, &err) : NULL;
        FAULT_DONE(n);
        if (!merged)
            assert_code(err, ERR_NOMEM);
        free(merged);
        world_stop(&w);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_was_asked_for),
        cmocka_unit_test(refuses_what_is_wrong_by_name),
        cmocka_unit_test(later_variables_win),
        cmocka_unit_test(a_lost_guest_is_told_once_with_the_reason),
        cmocka_unit_test(a_back_end_may_report_the_loss),
        cmocka_unit_test(destroying_is_done_once_by_whoever_comes_first),
        cmocka_unit_test(the_last_reference_destroys),
        cmocka_unit_test(operations_happen_one_at_a_time),
        cmocka_unit_test(destroying_waits_for_what_is_going_on),
        cmocka_unit_test(what_a_kind_cannot_do_is_unsupported),
        cmocka_unit_test(refusals_are_remembered_and_told),
        cmocka_unit_test(without_rules_a_connection_is_denied_and_told),
        cmocka_unit_test(an_adopted_computer_has_new_rules_hooks_and_environment),
        cmocka_unit_test(a_guest_that_does_not_report_leaves_the_stream_with_the_caller),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
