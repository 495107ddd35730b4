/*
 * backend - a back end on the small store, and computers of it, for tests that save, copy and end
 * them.
 */
#pragma once

#include "tests/integration/machine/store.h"

#include <stdatomic.h>

#include "sandbox/cgroup.h"

static struct machine_world world;
static const char *missing; /* here, for which all tests are skipped */
static char images[256], kept[256];
static struct computer_backend *backend;
static struct cgroup_host *groups; /* made and freed by the test that wants them */

static struct told {
    atomic_uint lost;
    char why[600];
} told;

static void on_event(void *arg, struct computer *c, const struct computer_event *event)
{
    (void)c;
    if (event->kind != COMPUTER_EVENT_LOST)
        return;
    (void)snprintf(told.why, sizeof told.why, "%s", event->text);
    atomic_fetch_add(&((struct told *)arg)->lost, 1);
}

/** @folder has the store. */
static void open_backend(const char *folder)
{
    struct vmctl_config config;
    struct error err = ERROR_INIT;

    (void)snprintf(images, sizeof images, "%s/images", folder);
    (void)snprintf(kept, sizeof kept, "%s/kept", folder);
    config = store_config(&world, images);
    config.state_dir = kept;
    config.cache_dir = folder;
    config.groups = groups;
    backend = vmctl_backend_new(&config, &err);
    assert_ok(backend, err);
}

static int open_world(void **state)
{
    missing = machine_open(&world);
    if (folder_make(state) != 0)
        return -1;
    if (!missing)
        missing = store_make(&world, "");
    if (!missing)
        open_backend(folder_base);
    return 0;
}

static int close_world(void **state)
{
    int rc;

    if (!missing) {
        backend->free(backend);
        machine_pass(&world); /* which closes what was theirs */
    }
    rc = folder_remove(state);
    machine_close(&world);
    return rc;
}

static struct computer *try_create_as(const struct computer_spec *spec, const char *checkpoint,
                                      struct error *err)
{
    const struct computer_hooks hooks = { .loop = world.loop, .on_event = on_event, .arg = &told };
    struct wait w = patience();

    if (missing)
        skip_because("no %s", missing);
    atomic_store(&told.lost, 0);
    return backend->create(backend, spec, checkpoint, &hooks, &w, err);
}

static struct computer *try_create(const char *checkpoint, struct error *err)
{
    static const struct computer_spec spec;

    return try_create_as(&spec, checkpoint, err);
}

/** @checkpoint: NULL for a new one. */
static struct computer *create(const char *checkpoint)
{
    struct error err = ERROR_INIT;
    struct computer *c = try_create(checkpoint, &err);

    assert_ok(c, err);
    return c;
}
