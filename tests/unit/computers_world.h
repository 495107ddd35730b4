/*
 * computers_world - a registry of computers with a back end that a test steers.
 *
 * Its computers have no machine: some have a puppet for a guest (fake_guest.h), the bare ones have
 * none.  What goes to the audit is kept here.
 */
#pragma once

#include "tests/unit/fake_guest.h"
#include "tests/unit/fake_puppet.h"

#include <fcntl.h>
#include <stdatomic.h>

#include "kernel/base/log.h"
#include "kernel/computer/egress.h"
#include "kernel/computers_internal.h"

#define WORLD_NOTES 2048u

struct world {
    struct computer_backend backend;
    struct loop_thread lt;
    struct config *config;
    struct event_bus *bus;
    struct computers *cs;
    struct agent *alice, *bob;

    bool bare;
    const char *kind;     /* what its computers say they are; NULL: "sandbox" */
    atomic_uint swapped;  /* so often one was put aside */
    atomic_int fail_swap; /* so many fail */
    atomic_uint created, destroyed, alive;
    atomic_int fail_creates; /* so many fail */
    bool gated;              /* create waits for `gate`, after it has hit `waiting` */
    struct mark waiting, gate;
    pthread_barrier_t *together; /* destroy waits for it */

    pthread_mutex_t lock; /* guards what follows */
    char spec[512];       /* what the last one was asked to be */
    char checkpoint[ID_SIZE];
    char saved[128][ID_SIZE]; /* checkpoints there are */
    unsigned saved_count;
    char notes[WORLD_NOTES][200]; /* "kind agent subject decision detail" */
    unsigned note_count;
    bool refuse_notes;
    char home[64];
};

static struct world world;

bool __wrap_audit_append(struct audit *a, const struct audit_entry *entry, struct error *err);

UNUSED static const char *or_none(const char *text)
{
    return text ? text : "";
}

bool __wrap_audit_append(struct audit *a, const struct audit_entry *entry, struct error *err)
{
    bool ok;

    (void)a;
    pthread_mutex_lock(&world.lock);
    ok = !world.refuse_notes;
    if (ok && world.note_count < WORLD_NOTES)
        (void)snprintf(world.notes[world.note_count++], sizeof world.notes[0], "%s %s %s %s %s",
                       audit_kind_name(entry->kind), or_none(entry->agent), or_none(entry->subject),
                       or_none(entry->decision), or_none(entry->detail));
    pthread_mutex_unlock(&world.lock);
    return ok || error_set(err, ERR_IO, "the audit is full");
}

/* How many notes have these parts in this order. */
UNUSED static unsigned noted(const char *first, const char *second)
{
    unsigned count = 0;

    pthread_mutex_lock(&world.lock);
    for (unsigned i = 0; i < world.note_count; i++) {
        const char *at = strstr(world.notes[i], first);

        count += at && strstr(at, second);
    }
    pthread_mutex_unlock(&world.lock);
    return count;
}

/* ---- the back end ---- */

struct toy {
    struct computer base;
    struct puppet puppet;
    bool has_puppet;
    int hand; /* the puppet's end once more: it closes its own when it is done */
};

static void toy_destroy(struct computer *c)
{
    struct toy *toy = (struct toy *)c;

    if (world.together)
        (void)pthread_barrier_wait(world.together);
    if (toy->has_puppet) {
        (void)shutdown(toy->hand, SHUT_RDWR);
        puppet_join(&toy->puppet);
        fd_close(toy->hand);
    }
    atomic_fetch_add(&world.destroyed, 1);
    atomic_fetch_sub(&world.alive, 1);
}

static bool toy_checkpoint(struct computer *c, const char *id, const struct wait *w,
                           struct error *err)
{
    bool ok;

    (void)c;
    (void)w;
    pthread_mutex_lock(&world.lock);
    ok = world.saved_count < ARRAY_LEN(world.saved);
    if (ok)
        (void)snprintf(world.saved[world.saved_count++], ID_SIZE, "%s", id);
    pthread_mutex_unlock(&world.lock);
    return ok || error_set(err, ERR_LIMIT, "too many");
}

static const struct computer_ops toy_ops = { .kind = "sandbox",
                                             .checkpoint = toy_checkpoint,
                                             .destroy = toy_destroy };

/* It counts as swapped until the next is; none of these tests needs more. */
static bool toy_swap_out(struct computer *c, const struct wait *w, struct error *err)
{
    (void)c;
    (void)w;
    atomic_fetch_add(&world.swapped, 1);
    if (atomic_fetch_sub(&world.fail_swap, 1) > 0)
        return error_set(err, ERR_IO, "the disk is full");
    atomic_store(&world.fail_swap, 0);
    return true;
}

static bool toy_is_swapped(struct computer *c)
{
    (void)c;
    return atomic_load(&world.swapped) > 0;
}

static const struct computer_ops toy_vm_ops = { .kind = "vm",
                                                .checkpoint = toy_checkpoint,
                                                .swap_out = toy_swap_out,
                                                .is_swapped = toy_is_swapped,
                                                .destroy = toy_destroy };

static bool is_saved_locked(const char *id, bool remove)
{
    for (unsigned i = 0; i < world.saved_count; i++) {
        if (strcmp(world.saved[i], id) != 0)
            continue;
        if (remove)
            memcpy(world.saved[i], world.saved[--world.saved_count], ID_SIZE);
        return true;
    }
    return false;
}

static void note_spec_locked(const struct computer_spec *spec, const char *checkpoint)
{
    struct buf text = BUF_INIT;

    (void)buf_printf(&text, "%llu MiB, %llu MiB, %u, %u;",
                     (unsigned long long)spec->memory_bytes >> 20,
                     (unsigned long long)spec->disk_bytes >> 20, spec->cpu_milli, spec->pids);
    for (size_t i = 0; i < spec->allow_count; i++)
        (void)buf_printf(&text, " %s", spec->allow[i]);
    if (spec->image)
        (void)buf_printf(&text, " image=%s", spec->image);
    for (size_t i = 0; spec->env && spec->env[i]; i++)
        (void)buf_printf(&text, " %s", spec->env[i]);
    (void)snprintf(world.spec, sizeof world.spec, "%s", buf_str(&text));
    (void)snprintf(world.checkpoint, sizeof world.checkpoint, "%s", or_none(checkpoint));
    buf_fini(&text);
}

static struct computer *toy_make(const struct computer_spec *spec,
                                 const struct computer_hooks *hooks, const struct wait *w,
                                 struct error *err)
{
    struct toy *toy = calloc(1, sizeof *toy);
    int stream;

    if (!toy) {
        error_set(err, ERR_NOMEM, "toy");
        return NULL;
    }
    if (!computer_init(&toy->base, world.kind ? &toy_vm_ops : &toy_ops, spec, NULL, hooks, err)) {
        free(toy);
        return NULL;
    }
    if (!world.bare) {
        stream = puppet_start(&toy->puppet);
        toy->has_puppet = true;
        toy->hand = fcntl(toy->puppet.f.fd, F_DUPFD_CLOEXEC, 3);
        if (!computer_attach(&toy->base, stream, w, err))
            abort(); /* the puppet always says hello */
    }
    atomic_fetch_add(&world.created, 1);
    atomic_fetch_add(&world.alive, 1);
    return &toy->base;
}

static struct computer *toy_create(struct computer_backend *b, const struct computer_spec *spec,
                                   const char *checkpoint, const struct computer_hooks *hooks,
                                   const struct wait *w, struct error *err)
{
    bool known;

    (void)b;
    if (world.gated) {
        mark_hit(&world.waiting);
        mark_wait(&world.gate, 1);
    }
    if (atomic_fetch_sub(&world.fail_creates, 1) > 0) {
        error_set(err, ERR_IO, "no machine today");
        return NULL;
    }
    atomic_store(&world.fail_creates, 0);
    pthread_mutex_lock(&world.lock);
    note_spec_locked(spec, checkpoint);
    known = !checkpoint || is_saved_locked(checkpoint, false);
    pthread_mutex_unlock(&world.lock);
    if (!known) {
        error_set(err, ERR_NOT_FOUND, "there is no checkpoint %s", checkpoint);
        return NULL;
    }
    return toy_make(spec, hooks, w, err);
}

static bool toy_checkpoint_remove(struct computer_backend *b, const char *id, struct error *err)
{
    bool known;

    (void)b;
    pthread_mutex_lock(&world.lock);
    known = is_saved_locked(id, true);
    pthread_mutex_unlock(&world.lock);
    return known || error_set(err, ERR_NOT_FOUND, "there is no checkpoint %s", id);
}

static void toy_free(struct computer_backend *b)
{
    (void)b;
    if (atomic_load(&world.alive))
        abort(); /* it comes after the last computer */
}

/* ---- the registry ---- */

UNUSED static void world_registry(const char *config)
{
    struct error err = ERROR_INIT;

    world.config = config_parse(config, strlen(config), "test", NULL, &err);
    assert_ok(world.config != NULL, err);
    world.bus = event_bus_new(&err);
    assert_ok(world.bus != NULL, err);
    world.cs = computers_new(world.lt.loop, world.config, NULL, world.bus, &err);
    assert_ok(world.cs != NULL, err);
    assert_ok(computers_add_backend(world.cs, &world.backend, &err), err);
}

/* From now on a registry of virtual machines. */
UNUSED static void world_registry_vm(const char *config)
{
    world.backend.kind = world.kind = "vm";
    world_registry(config);
}

UNUSED static void world_registry_end(void)
{
    computers_free(world.cs);
    event_bus_free(world.bus);
    config_free(world.config);
    world.cs = NULL;
}

UNUSED static void world_start(const char *config)
{
    struct error err = ERROR_INIT;

    memset(&world, 0, sizeof world);
    pthread_mutex_init(&world.lock, NULL);
    world.waiting = world.gate = (struct mark)MARK_INIT;
    world.backend = (struct computer_backend){ .kind = "sandbox",
                                               .create = toy_create,
                                               .checkpoint_remove = toy_checkpoint_remove,
                                               .free = toy_free };
    (void)snprintf(world.home, sizeof world.home, "/tmp/aios-computers-XXXXXX");
    assert_non_null(mkdtemp(world.home));
    assert_int_equal(setenv("AIOS_HOME", world.home, 1), 0);
    loop_thread_start(&world.lt);
    world_registry(config);
    world.alice = agent_new("alice", NULL, &err);
    world.bob = agent_new("bob", NULL, &err);
    assert_true(world.alice && world.bob);
}

UNUSED static void world_end(void)
{
    world_registry_end();
    loop_thread_stop(&world.lt);
    agent_unref(world.alice);
    agent_unref(world.bob);
    assert_int_equal(atomic_load(&world.alive), 0);
    assert_int_equal(atomic_load(&world.created), atomic_load(&world.destroyed));
    assert_true(fd_remove_tree(AT_FDCWD, world.home, NULL));
    pthread_mutex_destroy(&world.lock);
}

/* ---- shorthands ---- */

UNUSED static struct computer *make_with(struct agent *agent,
                                         const struct computers_request *request)
{
    struct error err = ERROR_INIT;
    const struct wait w = patience(NULL);
    struct computer *c = computers_create(world.cs, agent, request, &w, &err);

    assert_ok(c != NULL, err);
    return c;
}

UNUSED static struct computer *make(struct agent *agent)
{
    static const struct computers_request usual = { .kind = NULL };

    return make_with(agent, &usual);
}

UNUSED static struct computer *get(struct agent *agent, const char *handle, struct error *err)
{
    const struct wait w = patience(NULL);

    return computers_get(world.cs, agent, handle, &w, err);
}

UNUSED static struct run *start(struct computer *c, const char *command)
{
    const struct run_spec spec = { .command = command };
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct run *run = run_start(c, &spec, &w, &err);

    assert_ok(run != NULL, err);
    return run;
}

/* A subscription that counts, and a wait until it has counted. */
struct ear {
    struct event_sub *sub;
    struct mark woken;
};

static void ear_wake(void *arg)
{
    mark_hit(&((struct ear *)arg)->woken);
}

UNUSED static void ear_open(struct ear *ear, const char *topic)
{
    struct error err = ERROR_INIT;

    ear->woken = (struct mark)MARK_INIT;
    ear->sub = event_subscribe(world.bus, topic, ear_wake, ear, &err);
    assert_ok(ear->sub != NULL, err);
}

/* The next event; waits for it. */
UNUSED static struct event ear_next(struct ear *ear)
{
    uint64_t dropped;
    struct event event;

    for (unsigned woken = 1; !event_next(ear->sub, &event, &dropped); woken++)
        mark_wait(&ear->woken, woken);
    return event;
}
