#include <stdlib.h>
#include <string.h>

#include "images/guest/image.h"
#include "kernel/base/paths.h"
#include "tools/cli/cli.h"

static enum sandbox_cgroup_mode cgroup_mode(const char *name)
{
    if (strcmp(name, "v1") == 0)
        return SANDBOX_CGROUP_V1;
    if (strcmp(name, "v2") == 0)
        return SANDBOX_CGROUP_V2;
    if (strcmp(name, "none") == 0)
        return SANDBOX_CGROUP_NONE;
    return SANDBOX_CGROUP_AUTO;
}

struct computer_backend *cli_sandbox(struct loop *loop, const struct config *config,
                                     uint32_t pool_size, sandbox_image_fn *image, struct error *err)
{
    struct computer_backend *backend = NULL;
    char *state = paths_get(PATHS_STATE, NULL, err);
    char *runtime = state ? paths_get(PATHS_RUNTIME, NULL, err) : NULL;
    char *cache = runtime ? paths_get(PATHS_CACHE, NULL, err) : NULL;

    if (cache) {
        struct sandbox_config sandbox = {
            .loop = loop,
            .image = image,
            .image_arg = (void *)unconst(config),
            .state_dir = state,
            .runtime_dir = runtime,
            .cache_dir = cache,
            .guest_image = guest_image,
            .guest_image_len = guest_image_len,
            .cgroup = cgroup_mode(config->sandbox.cgroup),
            .host_uid = (uint32_t)config->sandbox.host_uid,
            .pool_size = pool_size,
            .default_memory_bytes = (uint64_t)config->computer.memory_mb << 20,
            .default_disk_bytes = (uint64_t)config->computer.disk_mb << 20,
            .default_cpu_milli = (uint32_t)config->computer.cpus_milli,
            .default_pids = (uint32_t)config->computer.pids,
        };

        backend = sandbox_backend_new(&sandbox, err);
    }
    free(cache);
    free(runtime);
    free(state);
    return backend;
}
