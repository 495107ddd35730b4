#include "tools/cli/run_order.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/clock.h"

static const struct cli_option options[] = {
    { "allow", "HOST:PORT", "let it connect there; *.NAME, addresses and networks too (repeat)" },
    { "rw", "DIR", "share a folder for reading and writing, at its own path (repeat)" },
    { "ro", "DIR", "share a folder for reading, at its own path (repeat)" },
    { "memory", "SIZE", "memory limit: 512M, 2G" },
    { "disk", "SIZE", "most that may be written outside shared folders" },
    { "pids", "N", "most processes and threads" },
    { "cpus", "N", "CPU limit, such as 0.5" },
    { "timeout", "SECONDS", "kill it and everything that it started after so long" },
    { "cwd", "DIR", "where it starts, inside" },
    { "env", "NAME=VALUE", "set an environment variable (repeat)" },
    { "config", "FILE", "use this configuration file instead of the user's own" },
    { "json", NULL, "at the end, reason, usage and refusals as a JSON line on standard error" },
    { NULL },
};

const struct cli_command run_command = {
    .name = "run",
    .synopsis = "[OPTIONS] -- COMMAND [ARGS]",
    .about = "Runs one command in a new sandbox of its own, and removes the sandbox when the\n"
             "command ends, with whatever it left running. The command sees this system's\n"
             "programs, an empty /workspace and the folders given with --rw and --ro; no network\n"
             "but what --allow names. It starts in the current folder when that is shared, else\n"
             "in /workspace.\n"
             "\n"
             "Standard input, output and error are the command's own; with a terminal at both\n"
             "ends it gets a terminal. Input is read ahead: give `< /dev/null` to a command that\n"
             "shall leave it alone. The first interrupt goes to the command, the second kills it.\n"
             "\n"
             "Exit codes: the command's own; 128+N when signal N ended it; 124 when its time was\n"
             "up; 125 when aios itself failed or was called wrongly (standard error says why);\n"
             "126 when the command cannot be executed; 127 when there is no such command.",
    .options = options,
};

/* ---- values ---- */

static bool bad(struct error *err, const char *name, const char *value, const char *wanted)
{
    return error_set(err, ERR_INVALID, "--%s %.200s: %s", name, value, wanted);
}

/* A decimal number above 0 with an end that the caller looks at. */
static bool read_number(const char *text, double *ret, char **ret_end)
{
    if (!strchr("0123456789.", text[0]) || !text[0])
        return false;
    errno = 0;
    *ret = strtod(text, ret_end);
    return errno == 0 && *ret_end != text && isfinite(*ret) && *ret > 0;
}

static bool read_size(const char *name, const char *value, uint64_t *ret, struct error *err)
{
    static const char units[] = "KMGT";
    const char *unit;
    double number;
    char *end;

    if (!read_number(value, &number, &end))
        return bad(err, name, value, "give a size such as 512M or 2G");
    if (*end) {
        unit = strchr(units, *end & ~0x20); /* in either case */
        if (!unit || !*unit)
            return bad(err, name, value, "give a size with K, M, G or T, such as 512M or 2G");
        for (const char *u = units; u <= unit; u++)
            number *= 1024;
        end++;
        end += *end == 'i';
        end += *end == 'B';
    }
    if (*end || number < 1 || number > 0x1p60)
        return bad(err, name, value, "give a size such as 512M or 2G");
    *ret = (uint64_t)number;
    return true;
}

static bool read_count(const char *name, const char *value, uint32_t *ret, struct error *err)
{
    double number;
    char *end;

    if (!read_number(value, &number, &end) || *end || number > INT_MAX || number < 1 ||
        number != (double)(uint32_t)number)
        return bad(err, name, value, "give a whole number");
    *ret = (uint32_t)number;
    return true;
}

static bool read_cpus(const char *value, uint32_t *ret, struct error *err)
{
    double number;
    char *end;

    if (!read_number(value, &number, &end) || *end || number > 1024 || number < 0.01)
        return bad(err, "cpus", value, "give a number of CPUs from 0.01 to 1024");
    *ret = (uint32_t)(number * 1000 + 0.5);
    return true;
}

static bool read_seconds(const char *value, int64_t *ret, struct error *err)
{
    double number;
    char *end;

    if (!read_number(value, &number, &end) || *end || number < 0.001 || number > 1e9)
        return bad(err, "timeout", value, "give a number of seconds, such as 10 or 0.5");
    *ret = (int64_t)(number * (double)CLOCK_NS_PER_S);
    return true;
}

static bool add(struct run_list *list, const char *item, struct error *err)
{
    const char **items = reallocarray(list->items, list->count + 2, sizeof *items);

    if (!items)
        return error_set(err, ERR_NOMEM, "an option");
    items[list->count++] = item;
    items[list->count] = NULL;
    list->items = items;
    return true;
}

static bool add_dir(struct run_order *o, const char *name, const char *value, struct error *err)
{
    char *path = realpath(value, NULL);
    struct computer_dir *dirs;

    if (!path)
        return error_set_errno(err, errno, "--%s %.200s", name, value);
    dirs = reallocarray(o->dirs, o->dir_count + 1, sizeof *dirs);
    if (!dirs) {
        free(path);
        return error_set(err, ERR_NOMEM, "a folder");
    }
    o->dirs = dirs;
    dirs[o->dir_count++] = (struct computer_dir){ .path = path, .writable = name[1] == 'w' };
    return true;
}

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    struct run_order *o = arg;

    if (strcmp(name, "allow") == 0)
        return add(&o->allow, value, err);
    if (strcmp(name, "rw") == 0 || strcmp(name, "ro") == 0)
        return add_dir(o, name, value, err);
    if (strcmp(name, "memory") == 0)
        return read_size(name, value, &o->memory_bytes, err);
    if (strcmp(name, "disk") == 0)
        return read_size(name, value, &o->disk_bytes, err);
    if (strcmp(name, "pids") == 0)
        return read_count(name, value, &o->pids, err);
    if (strcmp(name, "cpus") == 0)
        return read_cpus(value, &o->cpu_milli, err);
    if (strcmp(name, "timeout") == 0)
        return read_seconds(value, &o->timeout_ns, err);
    if (strcmp(name, "env") == 0) {
        if (value[0] == '=' || !strchr(value, '='))
            return bad(err, name, value, "give NAME=VALUE");
        return add(&o->env, value, err);
    }
    if (strcmp(name, "cwd") == 0) {
        if (value[0] != '/')
            return bad(err, name, value, "give an absolute path, as it is inside");
        o->cwd = value;
    } else if (strcmp(name, "config") == 0) {
        o->config_path = value;
    } else {
        o->json = true;
    }
    return true;
}

/* ---- the whole ---- */

static bool is_below(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* The folder that we were started in, when the command will find it too. */
static void find_here(struct run_order *o)
{
    char here[sizeof o->here];

    if (o->cwd || o->dir_count == 0 || !getcwd(here, sizeof here))
        return;
    for (size_t i = 0; i < o->dir_count; i++)
        if (is_below(here, o->dirs[i].path))
            memcpy(o->here, here, strlen(here) + 1);
}

bool run_order_read(struct run_order *o, int argc, char **argv, bool *ret_helped, struct error *err)
{
    int next;

    memset(o, 0, sizeof *o);
    if (!cli_parse(&run_command, argc, argv, on_option, o, &next, ret_helped, err))
        return false;
    if (*ret_helped)
        return true;
    if (next >= argc)
        return error_set(err, ERR_INVALID,
                         "there is no command; say `aios run -- COMMAND ARGS` (`aios run --help` "
                         "tells more)");
    o->argv = argv + next;
    find_here(o);
    return true;
}

void run_order_fini(struct run_order *o)
{
    for (size_t i = 0; i < o->dir_count; i++)
        free(unconst(o->dirs[i].path));
    free(o->dirs);
    free(o->allow.items);
    free(o->env.items);
}

bool run_order_spec(struct run_order *o, const struct config *config, struct computer_spec *ret,
                    struct error *err)
{
    size_t i;
    json_t *rule;

    if (o->allow.count == 0) {
        json_array_foreach (config->computer.allow, i, rule) {
            if (!add(&o->allow, json_string_value(rule), err))
                return false;
        }
    }
    *ret = (struct computer_spec){
        .allow = o->allow.items,
        .allow_count = o->allow.count,
        .env = o->env.items,
        .dirs = o->dirs,
        .dir_count = o->dir_count,
        .memory_bytes = o->memory_bytes,
        .disk_bytes = o->disk_bytes,
        .cpu_milli = o->cpu_milli,
        .pids = o->pids,
        .brief = true,
    };
    return true;
}

const char *run_order_cwd(const struct run_order *o)
{
    if (o->cwd)
        return o->cwd;
    return o->here[0] ? o->here : "/workspace";
}
