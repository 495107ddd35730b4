/* Which back end the configuration means. */
#include <string.h>

#include "kernel/config.h"
#include "kernel/storage_backend.h"

static const struct {
    const char *name;
    storage_backend_fn *make;
} backends[] = {
    { "sqlite", storage_sqlite_new },
    { "file", storage_file_new },
    { "postgres", storage_postgres_new },
    { "s3", storage_s3_new },
};

struct storage *storage_open(const struct config *config, struct event_bus *bus, struct error *err)
{
    const char *name = config->storage.backend;

    if (!name || name[0] == '\0')
        name = backends[0].name;
    for (size_t i = 0; i < ARRAY_LEN(backends); i++)
        if (strcmp(backends[i].name, name) == 0)
            return storage_open_with(backends[i].make, config, bus, err);
    error_set(err, ERR_INVALID,
              "storage.backend is \"%s\"; there are sqlite, file, postgres and s3", name);
    return NULL;
}
