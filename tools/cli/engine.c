/* Putting a kernel together: the one place that knows every folder. */
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/log.h"
#include "tools/cli/cli.h"
#include "tools/cli/machines.h"
#include "tools/cli/status.h"
#include "tools/toolkit.h"
#include "vmctl/image.h"

#define TREE_NS (120 * CLOCK_NS_PER_S) /* to unpack an image, on a slow disk */

/* The tree of an image that a sandbox is to have. */
static char *image_of(void *arg, const char *name, struct error *err)
{
    const struct config *config = arg;
    struct machines_places places;
    char *tree = NULL;

    if (machines_places(config, &places, err)) {
        tree = image_tree(places.images, name, clock_add_ns(clock_now_ns(), TREE_NS), err);
        machines_places_fini(&places);
    }
    return tree;
}

/* Takes @backend, NULL included. */
static bool add(struct cli_engine *e, struct computer_backend *backend, struct error *err)
{
    if (!backend)
        return false;
    if (computers_add_backend(kernel_computers(e->kernel), backend, err))
        return true;
    backend->free(backend);
    return false;
}

bool cli_engine_start(struct cli_engine *e, const char *config_path, json_t *overrides,
                      struct error *err)
{
    struct computer_backend *sandboxes;
    enum log_level level;

    memset(e, 0, sizeof *e);
    e->config = config_load(config_path, overrides, err);
    if (!e->config)
        return false;
    if (log_level_parse(e->config->log.level, &level))
        log_set_level(level);
    e->loop = loop_new(err);
    if (!e->loop)
        goto fail;
    e->kernel = kernel_new(e->loop, e->config, err);
    if (!e->kernel)
        goto fail;
    sandboxes =
        cli_sandbox(e->loop, e->config, (uint32_t)e->config->sandbox.pool_size, image_of, err);
    if (!add(e, sandboxes, err) ||
        !add(e, machines_backend(e->loop, e->config, sandboxes, err), err))
        goto fail;
    if (!toolset_register(kernel_tools(e->kernel), e->config->access.groups, err))
        goto fail;
    e->status = status_new(e->kernel, err);
    if (!e->status)
        goto fail;
    return true;
fail:
    cli_engine_stop(e);
    return false;
}

void cli_engine_stop(struct cli_engine *e)
{
    status_free(e->status);
    kernel_free(e->kernel);
    loop_free(e->loop);
    config_free(e->config);
    memset(e, 0, sizeof *e);
}
