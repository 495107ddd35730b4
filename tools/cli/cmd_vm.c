/* aios vm: virtual machines that run, and the templates that new ones start from. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/paths.h"
#include "tools/cli/cli.h"
#include "tools/cli/ps.h"

#define TEMPLATES "templates"
#define SUFFIX    ".template"

static const struct cli_option options[] = {
    { "json", NULL, "the machines alone, as one JSON array" },
    { NULL },
};

static const struct cli_command command = {
    .name = "vm",
    .synopsis = "[OPTIONS]",
    .about = "Lists the virtual machines of this user's running servers like `aios ps`, and the\n"
             "templates on disk that new ones start from. They may be removed at any time: the "
             "next\n"
             "machine of that image then boots once.\n"
             "\n"
             "Exit codes: 0 success; 1 failed; 2 wrong usage.",
    .options = options,
};

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    bool *as_json = arg;

    (void)name;
    (void)value;
    (void)err;
    *as_json = true;
    return true;
}

static bool is_template(const char *name)
{
    size_t len = strlen(name);

    return len > sizeof SUFFIX - 1 && strcmp(name + len - (sizeof SUFFIX - 1), SUFFIX) == 0;
}

static bool print_templates(struct error *err)
{
    char *path = paths_get(PATHS_CACHE, TEMPLATES, err);
    DIR *dir = path ? opendir(path) : NULL;
    unsigned count = 0;
    bool ok = path && (dir || errno == ENOENT || error_set_errno(err, errno, "read %s", path));

    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        struct stat st;

        if (!is_template(entry->d_name) ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (count++ == 0)
            printf("\nTemplates in %s:\n", path);
        printf("  %.12s  %6" PRIu64 " MiB\n", entry->d_name, (uint64_t)st.st_blocks * 512 >> 20);
    }
    if (ok && !count)
        printf("\nNo templates on disk.\n");
    if (dir)
        (void)closedir(dir);
    free(path);
    return ok;
}

int cli_vm(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    bool as_json = false, helped;
    int next;

    if (!cli_parse(&command, argc, argv, on_option, &as_json, &next, &helped, &err))
        return cli_fail("vm", CLI_USAGE, &err);
    if (helped)
        return CLI_OK;
    if (next < argc) {
        error_set(&err, ERR_INVALID, "\"%.100s\" is not expected", argv[next]);
        return cli_fail("vm", CLI_USAGE, &err);
    }
    return ps_print(true, as_json, &err) && (as_json || print_templates(&err))
               ? CLI_OK
               : cli_fail("vm", CLI_FAILED, &err);
}
