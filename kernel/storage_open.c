/* Opening: the folder, its lock, and the back end. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/paths.h"
#include "kernel/config.h"
#include "kernel/storage_core.h"

#define DEFAULT_VALUE_MB 64
#define DEFAULT_VERSIONS 16

static char *folder_of(const struct config *config, struct error *err)
{
    char *dir;

    if (!config->storage.dir || config->storage.dir[0] == '\0')
        return paths_get(PATHS_STATE, "storage", err);
    dir = strdup(config->storage.dir);
    if (!dir)
        error_set(err, ERR_NOMEM, "storage");
    return dir;
}

static bool lock_folder(struct storage *s, struct error *err)
{
    CLEANUP(fd_closep) int dirfd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct error why = ERROR_INIT;
    long holder;

    if (dirfd < 0)
        return error_set_errno(err, errno, "open %s", s->dir);
    s->lock_fd = fd_lock(dirfd, "lock", &holder, &why);
    if (s->lock_fd >= 0)
        return true;
    if (why.code == ERR_BUSY)
        return error_set(err, ERR_BUSY,
                         "the storage folder %s is in use by another kernel (process %ld): end it, "
                         "share it with `aios serve` and `aios mcp --connect`, or set storage.dir",
                         s->dir, holder);
    return error_set(err, why.code, "%s: %s", s->dir, why.text);
}

static bool open_all(struct storage *s, storage_backend_fn *make, const struct config *config,
                     struct error *err)
{
    if (!(s->dir = folder_of(config, err)) || !fd_mkdirs(s->dir, 0700, err) || !lock_folder(s, err))
        return false;
    if (config->storage.cache_mb > 0 &&
        !(s->cache = storage_cache_new((size_t)config->storage.cache_mb << 20, err)))
        return false;
    s->backend = make(config, s->dir, err);
    return s->backend != NULL;
}

struct storage *storage_open_with(storage_backend_fn *make, const struct config *config,
                                  struct event_bus *bus, struct error *err)
{
    int64_t value_mb = config->storage.max_value_mb, versions = config->storage.versions;
    struct storage *s = calloc(1, sizeof *s);

    if (!s) {
        error_set(err, ERR_NOMEM, "storage");
        return NULL;
    }
    s->lock_fd = -1;
    s->bus = bus;
    s->max_value = (size_t)(value_mb > 0 ? value_mb : DEFAULT_VALUE_MB) << 20;
    s->limits = (struct storage_limits){
        .quota_bytes = (uint64_t)config->storage.quota_mb << 20,
        .versions = versions > 0 ? (uint64_t)versions : DEFAULT_VERSIONS,
        .total = STORAGE_VERSIONS,
    };
    pthread_mutex_init(&s->secret_lock, NULL);
    if (open_all(s, make, config, err))
        return s;
    storage_close(s);
    error_prefix(err, "storage");
    return NULL;
}

void storage_close(struct storage *s)
{
    if (!s)
        return;
    if (s->backend)
        s->backend->free(s->backend);
    storage_cache_free(s->cache);
    pthread_mutex_destroy(&s->secret_lock);
    fd_close(s->lock_fd); /* the lock last */
    free(s->dir);
    free(s);
}
