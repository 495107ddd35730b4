/* aios audit: show the audit log, and verify its chain. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/audit.h"
#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/base/paths.h"
#include "tools/cli/cli.h"

struct audit_command {
    const char *config_path;
    const char *dir;
    const char *match;
    uint64_t last;
    bool json;
    bool filtered; /* an option that only list has */
};

static const struct cli_option options[] = {
    { "last", "N", "list: only the last N rows (default: all)" },
    { "match", "TEXT", "list: only rows of this agent, subject or kind" },
    { "json", NULL, "one JSON object a line" },
    { "dir", "DIR", "the log in this folder instead of the configured one" },
    { "config", "FILE", "use this configuration file instead of the user's own" },
    { NULL },
};

static const struct cli_command command = {
    .name = "audit",
    .synopsis = "[list|verify] [OPTIONS]",
    .about =
        "  list    the rows in order: time, row, kind, agent, subject, decision, rule, detail\n"
        "  verify  go through the whole chain: a changed, removed, inserted or reordered row\n"
        "          is found; prints the number of rows and the hash of the last one, which\n"
        "          can be kept elsewhere\n"
        "\n"
        "Exit codes: 0 success, the chain is whole; 1 the chain is broken or the log cannot\n"
        "be read; 2 wrong usage.",
    .options = options,
};

static bool read_last(const char *value, uint64_t *ret, struct error *err)
{
    char *end;

    *ret = strtoull(value, &end, 10);
    if (*end || !strchr("0123456789", value[0]) || *ret == 0)
        return error_set(err, ERR_INVALID, "--last %.100s: give a number of rows", value);
    return true;
}

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    struct audit_command *c = arg;

    if (strcmp(name, "config") == 0) {
        c->config_path = value;
    } else if (strcmp(name, "dir") == 0) {
        c->dir = value;
    } else if (strcmp(name, "json") == 0) {
        c->json = true;
    } else if (strcmp(name, "match") == 0) {
        c->match = value;
        c->filtered = true;
    } else {
        c->filtered = true;
        return read_last(value, &c->last, err);
    }
    return true;
}

/* The folder, for free(). */
static char *find_dir(const struct audit_command *c, struct error *err)
{
    CLEANUP(config_freep) struct config *config = NULL;
    const char *dir = c->dir;
    char *copy;

    if (!dir) {
        config = config_load(c->config_path, NULL, err);
        if (!config)
            return NULL;
        dir = config->audit.dir;
    }
    if (!dir || !*dir)
        return paths_get(PATHS_STATE, "audit", err);
    copy = strdup(dir);
    if (!copy)
        error_set(err, ERR_NOMEM, "a path");
    return copy;
}

/* ---- list ---- */

static bool print_json(json_t *object)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;
    bool ok = object && json_write(object, &line);

    json_decref(object);
    if (ok)
        printf("%s\n", buf_str(&line));
    return ok;
}

static json_t *text(const char *value)
{
    return value && *value ? json_string_lossy(value, strlen(value)) : json_null();
}

static bool print_row_json(const struct audit_row *row, const char *time)
{
    return print_json(json_pack(
        "{s:I, s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "row", (json_int_t)row->seq, "time",
        time, "kind", audit_kind_name(row->kind), "syscall", (json_int_t)row->syscall, "server",
        text(row->server), "agent", text(row->agent), "subject", text(row->subject), "decision",
        text(row->decision), "rule", text(row->rule), "detail", text(row->detail)));
}

/* Text from outside cannot move the cursor of whoever reads the log. */
static void print_field(const char *label, const char *value)
{
    if (!value || !*value)
        return;
    printf(" %s", label);
    for (const char *p = value; *p; p++)
        putchar((unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p);
}

static bool print_row(void *arg, const struct audit_row *row)
{
    const struct audit_command *c = arg;
    char time[32];

    clock_iso8601(row->wall_ns, time, sizeof time);
    if (c->json)
        return print_row_json(row, time);
    printf("%s %6" PRIu64 " %-8s", time, row->seq, audit_kind_name(row->kind));
    print_field("agent=", row->agent);
    print_field("", row->subject);
    print_field("", row->decision);
    print_field("rule=", row->rule);
    print_field("- ", row->detail);
    putchar('\n');
    return true;
}

static bool list(const struct audit_command *c, const char *dir, struct error *err)
{
    if (!audit_list(dir, c->last, c->match, print_row, unconst(c), err))
        return false;
    return fflush(stdout) == 0 || error_set(err, ERR_IO, "standard output cannot be written");
}

/* ---- verify ---- */

static bool verify(const struct audit_command *c, const char *dir, struct error *err)
{
    struct audit_report report;

    if (!audit_verify(dir, &report, err))
        return false;
    if (c->json) {
        if (!print_json(json_pack("{s:b, s:I, s:s, s:I, s:s, s:I, s:I}", "whole",
                                  !report.problem[0], "rows", (json_int_t)report.rows, "head",
                                  report.head, "first_bad", (json_int_t)report.first_bad, "problem",
                                  report.problem, "files", (json_int_t)report.files, "removed",
                                  (json_int_t)report.removed)))
            return error_set(err, ERR_NOMEM, "a report");
    } else {
        printf("%" PRIu64 " rows in %u %s, head %s\n", report.rows, report.files,
               report.files == 1 ? "file" : "files", *report.head ? report.head : "none");
        if (report.removed)
            printf("%" PRIu64 " rows before those were removed with their files (audit.keep)\n",
                   report.removed);
    }
    return !report.problem[0] ||
           error_set(err, ERR_INVALID, "the chain is broken: %s", report.problem);
}

int cli_audit(int argc, char **argv)
{
    struct audit_command c = { .last = 0 };
    struct error err = ERROR_INIT;
    const char *action = "list";
    bool helped, verifying, ok;
    char *dir;
    int next, more = 0;

    if (!cli_parse(&command, argc, argv, on_option, &c, &next, &helped, &err))
        return cli_fail("audit", CLI_USAGE, &err);
    /* Options may follow the action too. */
    if (!helped && next < argc) {
        action = argv[next];
        if (!cli_parse(&command, argc - next, argv + next, on_option, &c, &more, &helped, &err))
            return cli_fail("audit", CLI_USAGE, &err);
    }
    if (helped)
        return CLI_OK;
    verifying = strcmp(action, "verify") == 0;
    if (!verifying && strcmp(action, "list") != 0)
        error_set(&err, ERR_INVALID, "say list or verify, not %.100s", action);
    else if (next + more < argc)
        error_set(&err, ERR_INVALID, "\"%.100s\" is not expected", argv[next + more]);
    else if (verifying && c.filtered)
        error_set(&err, ERR_INVALID, "verify looks at every row: --last and --match are for list");
    if (err.code)
        return cli_fail("audit", CLI_USAGE, &err);
    dir = find_dir(&c, &err);
    ok = dir && (verifying ? verify(&c, dir, &err) : list(&c, dir, &err));
    free(dir);
    return ok ? CLI_OK : cli_fail("audit", CLI_FAILED, &err);
}
