/* aios config: what is in force, every key, where the file is, and is it right. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/paths.h"
#include "kernel/toolmgr.h"
#include "tools/cli/cli.h"
#include "tools/toolkit.h"

static const struct cli_option options[] = {
    { "config", "FILE", "this configuration file instead of the user's own" },
    { NULL },
};

static const struct cli_command command = {
    .name = "config",
    .synopsis = "show|keys|path|check [OPTIONS]",
    .about =
        "  show   every key with the value in force, as JSON that can be a configuration file\n"
        "  keys   every key with its type, default, range and meaning\n"
        "  path   where the configuration file is, or would be\n"
        "  check  is the file right? Says which key is wrong and what is expected\n"
        "\n"
        "Exit codes: 0 success; 1 the configuration is wrong or cannot be read; 2 wrong usage.",
    .options = options,
};

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    const char **config_path = arg;

    (void)name;
    (void)err;
    *config_path = value;
    return true;
}

/* Takes @text. */
static bool print(char *text)
{
    size_t len = text ? strlen(text) : 0;

    if (!text)
        return false;
    fputs(text, stdout);
    if (len > 0 && text[len - 1] != '\n')
        putchar('\n');
    free(text);
    return true;
}

static bool show(const char *path, struct error *err)
{
    CLEANUP(config_freep) struct config *config = config_load(path, NULL, err);

    return config && print(config_show(config, err));
}

static bool keys(const char *path, struct error *err)
{
    (void)path;
    return print(config_describe(err));
}

static bool where(const char *path, struct error *err)
{
    return print(path ? strdup(path) : paths_get(PATHS_CONFIG, "config.json", err)) ||
           (path && error_set(err, ERR_NOMEM, "a path"));
}

/* What only the tools know.  Registering is how a server finds out too. */
static bool check_groups(const struct config *config, struct error *err)
{
    CLEANUP(toolmgr_freep) struct toolmgr *tools = toolmgr_new(err);

    return tools && (toolset_register(tools, config->access.groups, err) ||
                     error_prefix(err, "%s: access.groups",
                                  *config->source ? config->source : "configuration"));
}

static bool check(const char *path, struct error *err)
{
    CLEANUP(config_freep) struct config *config = config_load(path, NULL, err);

    if (!config || !check_groups(config, err))
        return false;
    if (*config->source)
        printf("%s is right\n", config->source);
    else
        printf("there is no configuration file; the defaults are in force\n");
    return true;
}

static const struct {
    const char *name;
    bool (*fn)(const char *path, struct error *err);
} actions[] = {
    { "show", show },
    { "keys", keys },
    { "path", where },
    { "check", check },
};

int cli_config(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    const char *path = NULL;
    const char *action;
    bool helped;
    int next;
    int last;

    if (!cli_parse(&command, argc, argv, on_option, &path, &next, &helped, &err))
        return cli_fail("config", CLI_USAGE, &err);
    if (helped)
        return CLI_OK;
    action = next < argc ? argv[next] : "";
    /* Options may follow the action too. */
    if (next < argc &&
        !cli_parse(&command, argc - next, argv + next, on_option, &path, &last, &helped, &err))
        return cli_fail("config", CLI_USAGE, &err);
    if (helped)
        return CLI_OK;
    if (next < argc && next + last < argc) {
        error_set(&err, ERR_INVALID, "\"%s\" is not expected", argv[next + last]);
        return cli_fail("config", CLI_USAGE, &err);
    }
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (strcmp(actions[i].name, action) == 0)
            return actions[i].fn(path, &err) ? CLI_OK : cli_fail("config", CLI_FAILED, &err);
    error_set(&err, ERR_INVALID, "say show, keys, path or check%s%s", *action ? ", not " : "",
              action);
    return cli_fail("config", CLI_USAGE, &err);
}
