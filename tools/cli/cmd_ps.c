/* aios ps: the computers of the user's running servers. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/json.h"
#include "tools/cli/cli.h"
#include "tools/cli/ps.h"
#include "tools/cli/status.h"

struct listing {
    bool vms;
    json_t *rows; /* NULL once memory ran out */
};

/* ---- what there is ---- */

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));

    return text ? text : "";
}

static void on_server(void *arg, long pid, const json_t *answer, const char *why)
{
    struct listing *l = arg;
    json_t *row;
    size_t i;

    if (!answer)
        fprintf(stderr, "aios: server %ld: %s\n", pid, why);
    json_array_foreach (json_object_get(answer, "computers"), i, row) {
        if (l->vms && strcmp(text_of(row, "kind"), "vm") != 0)
            continue;
        if (json_object_set_new(row, "server", json_integer(pid)) != 0 ||
            json_array_append(l->rows, row) != 0) {
            json_decref(l->rows);
            l->rows = NULL;
        }
    }
}

/* ---- the table ---- */

static void print_memory(const json_t *row)
{
    const json_t *bytes = json_object_get(row, "memory_bytes");
    json_int_t most = json_integer_value(json_object_get(row, "memory_mb"));

    if (bytes)
        printf("%5" JSON_INTEGER_FORMAT, json_integer_value(bytes) >> 20);
    else
        printf("%5s", "?");
    printf("/%-7" JSON_INTEGER_FORMAT, most);
}

static void print_row(const json_t *row)
{
    json_int_t idle_s = json_integer_value(json_object_get(row, "idle_ms")) / 1000;

    printf("%-30s %-8s %-12.12s %-8s", text_of(row, "computer"), text_of(row, "kind"),
           *text_of(row, "image") ? text_of(row, "image") : "-", text_of(row, "state"));
    print_memory(row);
    printf("%6" JSON_INTEGER_FORMAT " s  %-16s %" JSON_INTEGER_FORMAT "\n", idle_s,
           text_of(row, "agent"), json_integer_value(json_object_get(row, "server")));
}

static bool print_rows(const json_t *rows, bool as_json, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    json_t *row;
    size_t i;

    if (as_json) {
        if (!json_write(rows, &text))
            return error_set(err, ERR_NOMEM, "the list of computers");
        printf("%s\n", buf_str(&text));
        return true;
    }
    printf("%-30s %-8s %-12s %-8s%-13s%8s  %-16s %s\n", "COMPUTER", "KIND", "IMAGE", "STATE",
           "  MiB/LIMIT", "IDLE", "AGENT", "SERVER");
    json_array_foreach (rows, i, row) {
        print_row(row);
    }
    return true;
}

bool ps_print(bool vms, bool as_json, struct error *err)
{
    struct listing l = { .vms = vms, .rows = json_array() };
    bool ok = status_each(on_server, &l, err);

    if (ok)
        ok = l.rows ? print_rows(l.rows, as_json, err)
                    : error_set(err, ERR_NOMEM, "the list of computers");
    json_decref(l.rows);
    return ok;
}

/* ---- the command ---- */

static const struct cli_option options[] = {
    { "json", NULL, "one JSON array" },
    { NULL },
};

static const struct cli_command command = {
    .name = "ps",
    .synopsis = "[OPTIONS]",
    .about =
        "Lists the computers of this user's running servers (`aios mcp`, `aios serve`): what "
        "they\n"
        "are, whether programs run in them (running), nothing does (idle), or they are on disk "
        "until\n"
        "their next call (swapped), their memory in MiB, since when they are idle, whose they "
        "are,\n"
        "and the server's process.\n"
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

int cli_ps(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    bool as_json = false, helped;
    int next;

    if (!cli_parse(&command, argc, argv, on_option, &as_json, &next, &helped, &err))
        return cli_fail("ps", CLI_USAGE, &err);
    if (helped)
        return CLI_OK;
    if (next < argc) {
        error_set(&err, ERR_INVALID, "\"%.100s\" is not expected", argv[next]);
        return cli_fail("ps", CLI_USAGE, &err);
    }
    return ps_print(false, as_json, &err) ? CLI_OK : cli_fail("ps", CLI_FAILED, &err);
}
