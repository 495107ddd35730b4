#include "kernel/base/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct paths_row {
    const char *label;     /* below AIOS_HOME */
    const char *variable;  /* of the XDG specification */
    const char *of_home;   /* where the variable is not set */
    const char *of_system; /* as root */
};

static const struct paths_row rows[] = {
    [PATHS_CONFIG] = { "config", "XDG_CONFIG_HOME", ".config/aios", "/etc/aios" },
    [PATHS_STATE] = { "state", "XDG_STATE_HOME", ".local/state/aios", "/var/lib/aios" },
    [PATHS_RUNTIME] = { "run", "XDG_RUNTIME_DIR", ".local/state/aios/run", "/run/aios" },
    [PATHS_CACHE] = { "cache", "XDG_CACHE_HOME", ".cache/aios", "/var/cache/aios" },
};

static char *join(const char *base, const char *below, const char *name, struct error *err)
{
    char *path = NULL;

    if (asprintf(&path, "%s%s%s%s%s", base, *below ? "/" : "", below, name ? "/" : "",
                 name ? name : "") < 0) {
        error_set(err, ERR_NOMEM, "path below %s", base);
        return NULL;
    }
    return path;
}

/* The specification says that a relative path in a variable counts as not set. */
static const char *absolute(const char *variable)
{
    const char *value = getenv(variable);

    return value && value[0] == '/' ? value : NULL;
}

char *paths_get(enum paths_kind kind, const char *name, struct error *err)
{
    const struct paths_row *row = &rows[kind];
    const char *base = getenv("AIOS_HOME");

    if (base && *base) {
        if (*base != '/') {
            error_set(err, ERR_INVALID, "AIOS_HOME must be an absolute path, but is \"%s\"", base);
            return NULL;
        }
        return join(base, row->label, name, err);
    }
    base = absolute(row->variable);
    if (base)
        return join(base, "aios", name, err);
    if (geteuid() == 0)
        return join(row->of_system, "", name, err);
    base = absolute("HOME");
    if (base)
        return join(base, row->of_home, name, err);
    error_set(err, ERR_NOT_FOUND, "no folder for %s files: set HOME, %s or AIOS_HOME", row->label,
              row->variable);
    return NULL;
}
