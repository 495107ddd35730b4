#include "kernel/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES 32u

/* Which package has the library of which module, for whoever must install it. */
static const struct {
    const char *name;
    const char *package;
} packages[] = {
    { "http", "libcurl4" },
    { "picture", "libpng16-16" },
    { "postgres", "libpq5" },
};

static const char *package_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(packages); i++) {
        if (!strcmp(packages[i].name, name))
            return packages[i].package;
    }
    return NULL;
}

static bool name_is_plain(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

    return len > 0 && len < NAME_BYTES && name[len] == '\0';
}

/* The folder of the running program, without a slash at its end. */
static bool program_folder(char folder[PATH_MAX], struct error *err)
{
    ssize_t len = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    char *slash;

    if (len < 0)
        return error_set_errno(err, errno, "the program's own path");
    folder[len] = '\0';
    slash = strrchr(folder, '/');
    if (!slash)
        return error_set(err, ERR_INTERNAL, "the program's own path is not absolute");
    *slash = '\0';
    return true;
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Installed first: beside the program stand modules only where it was built or unpacked. */
static bool find(const char *name, char path[PATH_MAX], struct error *err)
{
    static const char *const places[] = { "/../lib/aios", "" };
    char folder[PATH_MAX];

    if (!program_folder(folder, err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        int len = snprintf(path, PATH_MAX, "%s%s/aios-%s.so", folder, places[i], name);

        if (len > 0 && len < PATH_MAX && is_there(path))
            return true;
    }
    return error_set(err, ERR_UNSUPPORTED, "aios-%s.so is neither in %s/../lib/aios nor in %s",
                     name, folder, folder);
}

/* dlerror() names the library that is missing: the package is what a person can install. */
static bool refuse(const char *name, const char *path, const char *why, struct error *err)
{
    const char *package = package_of(name);

    if (package && strstr(why, "cannot open shared object file"))
        return error_set(err, ERR_UNSUPPORTED, "%s cannot be opened: %s (install the package %s)",
                         path, why, package);
    return error_set(err, ERR_UNSUPPORTED, "%s cannot be opened: %s", path, why);
}

const void *plugin_open(const char *name, const char *symbol, size_t size, struct error *err)
{
    const struct plugin_head *head;
    char path[PATH_MAX];
    const char *why;
    void *module;

    if (!name_is_plain(name)) {
        error_set(err, ERR_INVALID, "a module's name is lower-case letters, digits and '_'");
        return NULL;
    }
    if (!find(name, path, err))
        return NULL;
    /* Never closed: libraries leave threads and exit handlers behind. */
    module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!module) {
        why = dlerror();
        refuse(name, path, why ? why : "no reason given", err);
        return NULL;
    }
    head = dlsym(module, symbol);
    if (!head) {
        error_set(err, ERR_UNSUPPORTED, "%s has no %s: it is not a module of this program", path,
                  symbol);
        return NULL;
    }
    if (head->abi != PLUGIN_ABI || head->size != size) {
        error_set(err, ERR_UNSUPPORTED,
                  "%s belongs to another version of this program (interface %u of %zu bytes, "
                  "wanted %u of %zu)",
                  path, head->abi, head->size, PLUGIN_ABI, size);
        return NULL;
    }
    return head;
}

bool plugin_check(const char *name, struct error *err)
{
    char path[PATH_MAX];
    const char *why;

    if (!name_is_plain(name))
        return error_set(err, ERR_INVALID, "a module's name is lower-case letters, digits and '_'");
    if (!find(name, path, err))
        return false;
    if (dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE))
        return true;
    why = dlerror();
    return refuse(name, path, why ? why : "no reason given", err);
}
