#include "sandbox/spec.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/mounts.h"

#define PROXY "http://127.0.0.1:3128"

/* All variants stand here, so that nothing is built at run time. */
#define ENV_COMMON                                                                                \
    "PATH=/home/agent/.local/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",   \
        "HOME=/home/agent", "USER=agent", "LOGNAME=agent", "LANG=C.UTF-8", "TERM=xterm-256color", \
        "TMPDIR=/tmp", "http_proxy=" PROXY, "https_proxy=" PROXY, "all_proxy=" PROXY,             \
        "HTTP_PROXY=" PROXY, "HTTPS_PROXY=" PROXY, "ALL_PROXY=" PROXY,                            \
        "no_proxy=localhost,127.0.0.1,::1", "NO_PROXY=localhost,127.0.0.1,::1",                   \
        "NODE_USE_ENV_PROXY=1", "npm_config_prefix=/home/agent/.local",                           \
        "npm_config_cache=/home/agent/.cache/npm", "npm_config_update_notifier=false",            \
        "PIP_BREAK_SYSTEM_PACKAGES=1", "PIP_DISABLE_PIP_VERSION_CHECK=1",                         \
        "PYTHONUSERBASE=/home/agent/.local", "DEBIAN_FRONTEND=noninteractive"

/* Programs with a bundle of their own would not know a certificate that was added to the host. */
#define CA_FILE "/etc/ssl/certs/ca-certificates.crt"
#define ENV_CA  "REQUESTS_CA_BUNDLE=" CA_FILE, "npm_config_cafile=" CA_FILE

const char *const *spec_env(void)
{
    static const char *const env[2][2][32] = {
        { { ENV_COMMON, "SHELL=/bin/sh" }, { ENV_COMMON, "SHELL=/bin/sh", ENV_CA } },
        { { ENV_COMMON, "SHELL=/bin/bash" }, { ENV_COMMON, "SHELL=/bin/bash", ENV_CA } },
    };

    return env[access("/usr/bin/bash", X_OK) == 0][access(CA_FILE, R_OK) == 0];
}

static bool check_number(uint64_t value, uint64_t least, uint64_t most, const char *what,
                         struct error *err)
{
    return (value >= least && value <= most) ||
           error_set(err, ERR_INVALID, "%s is %" PRIu64 "; give %" PRIu64 " to %" PRIu64, what,
                     value, least, most);
}

/* ---- folders of the host ---- */

/** @path is @folder or below it. */
static bool is_below(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    return !strncmp(path, folder, len) && (!path[len] || path[len] == '/');
}

static bool check_place(const struct computer_dir *dir, const struct spec_defaults *defaults,
                        struct error *err)
{
    static const char *const forbidden[] = {
        "/bin",    "/boot", "/dev", "/etc",  "/lib", "/lib32", "/lib64",
        "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr",
    };

    if (!strcmp(dir->path, "/"))
        return error_set(err, ERR_INVALID, "the folder / cannot be shared; name one below it");
    for (size_t i = 0; i < ARRAY_LEN(forbidden); i++) {
        if (is_below(dir->path, forbidden[i]))
            return error_set(err, ERR_INVALID,
                             "the folder %s cannot be shared: %s belongs to the system", dir->path,
                             forbidden[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(defaults->own); i++) {
        const char *own = defaults->own[i];

        if (own && (is_below(dir->path, own) || (dir->writable && is_below(own, dir->path))))
            return error_set(err, ERR_INVALID,
                             "the folder %s cannot be shared%s: the server keeps its own files in "
                             "%s; name another folder",
                             dir->path, dir->writable ? " for writing" : "", own);
    }
    return true;
}

static bool check_dir(const struct computer_dir *dir, const struct spec_defaults *defaults,
                      struct error *err)
{
    char real[PATH_MAX];
    struct stat st;

    if (!dir->path || dir->path[0] != '/')
        return error_set(err, ERR_INVALID, "the folder \"%s\" is not an absolute path",
                         dir->path ? dir->path : "");
    if (!realpath(dir->path, real))
        return error_set(err, ERR_INVALID, "the folder %s cannot be shared: %s", dir->path,
                         strerror(errno));
    if (strcmp(real, dir->path) != 0)
        return error_set(err, ERR_INVALID, "the folder %s is really %s; give that", dir->path,
                         real);
    if (stat(real, &st) != 0 || !S_ISDIR(st.st_mode))
        return error_set(err, ERR_INVALID, "%s is not a folder", dir->path);
    return check_place(dir, defaults, err);
}

bool spec_complete(struct computer_spec *spec, const struct spec_defaults *defaults,
                   struct error *err)
{
    if (!spec->memory_bytes)
        spec->memory_bytes = defaults->memory_bytes;
    if (!spec->disk_bytes)
        spec->disk_bytes = MIN(defaults->disk_bytes, spec->memory_bytes / 2);
    if (!spec->cpu_milli)
        spec->cpu_milli = defaults->cpu_milli;
    if (!spec->pids)
        spec->pids = defaults->pids;
    if (!check_number(spec->memory_bytes, SPEC_MEMORY_MIN, 1ull << 50, "memory", err) ||
        !check_number(spec->disk_bytes, SPEC_DISK_MIN, 1ull << 50, "disk", err) ||
        !check_number(spec->pids, SPEC_PIDS_MIN, SPEC_PIDS_MAX, "the number of processes", err))
        return false;
    if (spec->cpu_milli &&
        !check_number(spec->cpu_milli, SPEC_CPU_MIN, SPEC_CPU_MAX, "CPU in thousandths", err))
        return false;
    if (spec->disk_bytes > spec->memory_bytes)
        return error_set(err, ERR_INVALID,
                         "disk is %" PRIu64 " and memory %" PRIu64
                         ": what is written lives in memory, so give memory at least as much",
                         spec->disk_bytes, spec->memory_bytes);
    if (spec->dir_count > MOUNTS_DIRS_MAX)
        return error_set(err, ERR_LIMIT, "%zu folders are more than %d", spec->dir_count,
                         MOUNTS_DIRS_MAX);
    for (size_t i = 0; i < spec->dir_count; i++) {
        if (!check_dir(&spec->dirs[i], defaults, err))
            return false;
    }
    return true;
}

bool spec_is_default(const struct computer_spec *spec, const struct spec_defaults *defaults)
{
    return !spec->dir_count && !spec->image && !spec->brief &&
           spec->memory_bytes == defaults->memory_bytes &&
           spec->disk_bytes == MIN(defaults->disk_bytes, defaults->memory_bytes / 2) &&
           spec->cpu_milli == defaults->cpu_milli && spec->pids == defaults->pids;
}
