#include "tools/cli/machines.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/image.h"
#include "images/initramfs/image.h"
#include "kernel/base/fd.h"
#include "kernel/base/log.h"
#include "kernel/base/paths.h"
#include "sandbox/sandbox.h"

#define PROGRAM "qemu-system-x86_64"

struct lazy {
    struct computer_backend base; /* first */
    struct loop *loop;            /* constant, like the next two */
    const struct config *config;
    struct computer_backend *sandboxes;

    pthread_mutex_t lock;
    struct computer_backend *real; /* NULL until it is needed; then constant */
};

/* ---- where things are ---- */

bool machines_places(const struct config *config, struct machines_places *ret, struct error *err)
{
    struct machines_places p = { .images = NULL };

    p.images = *config->vm.images_dir ? strdup(config->vm.images_dir)
                                      : paths_get(PATHS_CACHE, "images", err);
    p.cache = p.images ? paths_get(PATHS_CACHE, NULL, err) : NULL;
    p.state = p.cache ? paths_get(PATHS_STATE, "vm", err) : NULL;
    p.overlays = p.state ? paths_get(PATHS_STATE, "vm/disks", err) : NULL;
    if (!p.overlays) {
        if (*config->vm.images_dir && !p.images)
            error_set(err, ERR_NOMEM, "a path");
        machines_places_fini(&p);
        return false;
    }
    p.config = (struct vmctl_config){
        .program = *config->vm.program ? config->vm.program : NULL,
        .images_dir = p.images,
        .cache_dir = p.cache,
        .state_dir = p.state,
        .overlay_dir = p.overlays,
        .early = early_image,
        .early_len = early_image_len,
        .guest = guest_image,
        .guest_len = guest_image_len,
        .kernel_fd = -1,
        .initrd_fd = -1,
        .disk_fd = -1,
        .memory_mib = (uint32_t)config->vm.memory_mb,
        .pool_size = (uint32_t)config->vm.pool_size,
    };
    *ret = p;
    return true;
}

void machines_places_fini(struct machines_places *p)
{
    free(p->images);
    free(p->cache);
    free(p->state);
    free(p->overlays);
    *p = (struct machines_places){ .images = NULL };
}

char *machines_program(const struct config *config, struct error *err)
{
    const char *configured = config->vm.program;
    char *found = NULL;

    if (*configured && access(configured, X_OK) != 0) {
        error_set(err, ERR_UNSUPPORTED,
                  "%.200s cannot be run; the configuration key vm.program names it", configured);
        return NULL;
    }
    found = process_find(*configured ? configured : PROGRAM, NULL);
    if (!found)
        error_set(err, ERR_UNSUPPORTED,
                  PROGRAM " is not installed; virtual machines need it (`apt-get install "
                          "qemu-system-x86`), sandboxes do not");
    return found;
}

/* ---- the back end ---- */

static struct lazy *lazy_of(struct computer_backend *b)
{
    return CONTAINER_OF(b, struct lazy, base);
}

static struct computer_backend *make_real(struct lazy *l, struct error *err)
{
    struct computer_backend *real = NULL;
    char *program = machines_program(l->config, err);
    struct machines_places places;

    if (program && machines_places(l->config, &places, err)) {
        places.config.program = program;
        places.config.loop = l->loop;
        if (fd_mkdirs(places.overlays, 0700, err) &&
            sandbox_groups(l->sandboxes, &places.config.groups, err))
            real = vmctl_backend_new(&places.config, err);
        machines_places_fini(&places);
    }
    free(program);
    return real;
}

/* A failure is not remembered: what is missing may be installed meanwhile. */
static struct computer_backend *real_of(struct lazy *l, struct error *err)
{
    struct computer_backend *real;

    pthread_mutex_lock(&l->lock);
    if (!l->real)
        l->real = make_real(l, err);
    real = l->real;
    pthread_mutex_unlock(&l->lock);
    return real;
}

static struct computer *lazy_create(struct computer_backend *b, const struct computer_spec *spec,
                                    const char *checkpoint, const struct computer_hooks *hooks,
                                    const struct wait *w, struct error *err)
{
    struct computer_backend *real = real_of(lazy_of(b), err);

    return real ? real->create(real, spec, checkpoint, hooks, w, err) : NULL;
}

static bool lazy_checkpoint_remove(struct computer_backend *b, const char *id, struct error *err)
{
    struct computer_backend *real = real_of(lazy_of(b), err);

    return real && real->checkpoint_remove(real, id, err);
}

static void lazy_free(struct computer_backend *b)
{
    struct lazy *l = lazy_of(b);

    if (l->real)
        l->real->free(l->real);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

struct computer_backend *machines_backend(struct loop *loop, const struct config *config,
                                          struct computer_backend *sandboxes, struct error *err)
{
    struct lazy *l = calloc(1, sizeof *l);

    if (!l) {
        error_set(err, ERR_NOMEM, "the back end of virtual machines");
        return NULL;
    }
    l->loop = loop;
    l->config = config;
    l->sandboxes = sandboxes;
    pthread_mutex_init(&l->lock, NULL);
    l->base = (struct computer_backend){ .kind = "vm",
                                         .create = lazy_create,
                                         .checkpoint_remove = lazy_checkpoint_remove,
                                         .free = lazy_free };
    return &l->base;
}
