/*
 * sandbox_world - the sandbox back end with its loop, for tests: real namespaces, the real guest.
 */
#pragma once

#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/guest/image.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/loop.h"
#include "kernel/computer/run.h"
#include "tests/support/check.h"

static char home[64], state_dir[100], runtime_dir[100], cache_dir[100];

static struct world {
    pthread_t thread;
    struct loop *loop;
    pthread_barrier_t made;
    struct loop_post stop;
    struct computer_backend *b;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned lost, refused;
    char refused_name[64];
} world;

static void *run_loop(void *arg)
{
    struct loop *loop = loop_new(NULL);

    (void)arg;
    world.loop = loop;
    (void)pthread_barrier_wait(&world.made);
    loop_run(loop);
    loop_free(loop);
    return NULL;
}

static void on_stop(struct loop_post *post)
{
    (void)post;
    loop_stop(world.loop);
}

static void on_event(void *arg, struct computer *c, const struct computer_event *event)
{
    (void)arg;
    (void)c;
    pthread_mutex_lock(&world.lock);
    if (event->kind == COMPUTER_EVENT_LOST)
        world.lost++;
    if (event->kind == COMPUTER_EVENT_REFUSED) {
        world.refused++;
        (void)snprintf(world.refused_name, sizeof world.refused_name, "%s", event->name);
    }
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
}

static struct wait in_seconds(int s)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + s * CLOCK_NS_PER_S };
}

static char *find_image(void *arg, const char *name, struct error *err)
{
    char *path = NULL;

    (void)arg;
    if (strcmp(name, "tiny") == 0 && asprintf(&path, "%s/tree", home) >= 0)
        return path;
    error_set(err, ERR_NOT_FOUND, "no image \"%s\"", name);
    return NULL;
}

static struct sandbox_config config(void)
{
    return (struct sandbox_config){
        .loop = world.loop,
        .image = find_image,
        .state_dir = state_dir,
        .runtime_dir = runtime_dir,
        .cache_dir = cache_dir,
        .guest_image = guest_image,
        .guest_image_len = guest_image_len,
        .default_memory_bytes = 256 << 20,
    };
}

/** Who may not make a user namespace at all cannot test any of this. */
static void on_check(void *arg, const struct sandbox_check *check)
{
    if (!strcmp(check->name, "user namespaces") && !check->ok)
        *(bool *)arg = false;
}

static int set_up(void **state)
{
    struct error err = ERROR_INIT;
    struct sandbox_config c;
    bool possible = true;

    (void)state;
    (void)snprintf(home, sizeof home, "/tmp/test_sandbox.XXXXXX");
    if (!mkdtemp(home) || chmod(home, 0755) != 0)
        return 1;
    (void)snprintf(state_dir, sizeof state_dir, "%s/state", home);
    (void)snprintf(runtime_dir, sizeof runtime_dir, "%s/run", home);
    (void)snprintf(cache_dir, sizeof cache_dir, "%s/cache", home);
    pthread_mutex_init(&world.lock, NULL);
    cond_init(&world.changed);
    (void)pthread_barrier_init(&world.made, NULL, 2);
    if (pthread_create(&world.thread, NULL, run_loop, NULL) != 0)
        return 1;
    (void)pthread_barrier_wait(&world.made);
    c = config();
    c.guest_image = NULL;
    sandbox_probe(&c, on_check, &possible);
    if (!possible && !getenv("AIOS_TEST_STRICT"))
        exit(77);
    c = config();
    world.b = sandbox_backend_new(&c, &err);
    if (!world.b)
        print_error("%s\n", err.text);
    return world.b ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    world.b->free(world.b);
    loop_post(world.loop, &world.stop, on_stop);
    (void)pthread_join(world.thread, NULL);
    return fd_remove_tree(AT_FDCWD, home, NULL) ? 0 : 1;
}

static struct computer *try_make(struct computer_backend *b, const struct computer_spec *spec,
                                 const char *checkpoint, struct error *err)
{
    const struct computer_hooks hooks = { .loop = world.loop, .on_event = on_event };
    const struct wait w = in_seconds(20);

    return b->create(b, spec, checkpoint, &hooks, &w, err);
}

static struct computer *make(const struct computer_spec *spec, const char *checkpoint)
{
    static const struct computer_spec plain = { .pids = 0 };
    struct error err = ERROR_INIT;
    struct computer *c = try_make(world.b, spec ? spec : &plain, checkpoint, &err);

    assert_ok(c, err);
    return c;
}

struct outcome {
    enum run_reason reason;
    int value;
    char text[8192];
};

/** Run a shell command to its end. */
static struct outcome sh(struct computer *c, const char *command)
{
    const struct run_spec spec = {
        .command = command, .merge = true, .cwd = "/", .timeout_ns = 20 * CLOCK_NS_PER_S
    };
    const struct wait w = in_seconds(30);
    struct error err = ERROR_INIT;
    struct outcome outcome = { .reason = RUN_LIVE };
    struct run *run = run_start(c, &spec, &w, &err);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    uint64_t offset = 0, beyond[WIRE_STREAM_COUNT] = { 0 };
    struct run_info info;

    assert_ok(run, err);
    assert_ok(run_wait(run, 0, beyond, &w, &err), err);
    for (;;) {
        run_info(run, &info);
        while (guest_run_read(run_guest(run), WIRE_STREAM_OUT, &offset, 1 << 16, &out) > 0)
            continue;
        if (info.guest.streams_ended)
            break;
        beyond[WIRE_STREAM_OUT] = offset;
        if (!guest_run_wait(run_guest(run), 1u << WIRE_STREAM_OUT, beyond, &w, NULL))
            break;
        if (info.guest.end == GUEST_RUN_LOST)
            break;
    }
    outcome.reason = info.reason;
    outcome.value = info.value;
    (void)snprintf(outcome.text, sizeof outcome.text, "%s", buf_str(&out));
    run_unref(run);
    return outcome;
}

static void assert_sh(struct computer *c, const char *command, const char *want)
{
    struct outcome outcome = sh(c, command);

    if (outcome.reason != RUN_EXIT || outcome.value != 0 || strcmp(outcome.text, want) != 0)
        fail_msg("%s: %s %d: %s", command, run_reason_name(outcome.reason), outcome.value,
                 outcome.text);
}
