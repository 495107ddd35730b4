/* aios call: one tool call or several, as an MCP client. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "tools/cli/call_args.h"
#include "tools/cli/call_client.h"
#include "tools/cli/call_print.h"
#include "tools/cli/cli.h"

#define ANSWER_NS (120 * CLOCK_NS_PER_S)
#define TOOL_HELP "--help"

struct call_command {
    const char *config_path;
    const char *socket, *agent; /* NULL: not given */
    const char *folder;
    bool json, list, tool_help;
    char *const *server; /* NULL-terminated, or NULL: our own */
    char **words;        /* the tool, then its arguments */
    size_t word_count;
    struct call_client *client;
    json_t *tools; /* once asked for */
};

static const struct cli_option options[] = {
    { "list", NULL, "list the tools, each with its first sentence" },
    { "out", "DIR", "where images and sounds are saved (default: the current folder)" },
    { "json", NULL, "print the whole result as one JSON line, saving nothing" },
    { "config", "FILE", "configuration file of the server, instead of the user's own" },
    { "connect", "SOCKET",
      "call the server that listens there (`aios serve`; \"\" for its usual place)" },
    { "agent", "NAME", "who calls, in access rules and the audit (default: default)" },
    { "server", "COMMAND …", "the server to start instead of `aios mcp`: all words that follow" },
    { NULL },
};

static const struct cli_command command = {
    .name = "call",
    .synopsis = "TOOL [key=value …] [OPTIONS]   or   aios call -   or   aios call --list",
    .about =
        "Starts an MCP server, or connects to one that runs, calls one tool and prints the\n"
        "text of its answer; images become files, which are named. `aios call TOOL --help`\n"
        "tells what the tool takes.\n"
        "\n"
        "  key=VALUE   JSON when it is valid JSON (5, true, [\"a\"]), else a string; always a\n"
        "              string where the tool wants one\n"
        "  key:=JSON   JSON\n"
        "  key=@FILE   the text of a file\n"
        "\n"
        "`aios call -` reads lines TOOL key=value … from standard input, quoted as for a\n"
        "shell. They share one server, so that a computer lives from one line to the next.\n"
        "Empty lines and those that begin with # are skipped.\n"
        "\n"
        "Exit codes: 0 the tool did it; 1 the tool or the server failed (standard error says\n"
        "how); 2 wrong usage, unknown tools and malformed arguments included. Of several\n"
        "lines the worst counts.",
    .options = options,
};

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    struct call_command *c = arg;

    (void)err;
    if (strcmp(name, "list") == 0)
        c->list = true;
    else if (strcmp(name, "json") == 0)
        c->json = true;
    else if (strcmp(name, "out") == 0)
        c->folder = value;
    else if (strcmp(name, "config") == 0)
        c->config_path = value;
    else if (strcmp(name, "connect") == 0)
        c->socket = value;
    else if (strcmp(name, "agent") == 0)
        c->agent = value;
    return true;
}

/* Everything behind --server is the server's. */
static bool cut_server(struct call_command *c, int *argc, char **argv, struct error *err)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--server") != 0)
            continue;
        if (i + 1 == *argc)
            return error_set(err, ERR_INVALID, "--server needs a command");
        c->server = argv + i + 1;
        *argc = i;
        break;
    }
    return true;
}

/* Options may stand before, between and behind the words. */
static bool read_words(struct call_command *c, int argc, char **argv, bool *ret_helped,
                       struct error *err)
{
    int at = 0;

    *ret_helped = false;
    while (at + 1 < argc) {
        int next;

        if (c->word_count > 0 && strcmp(argv[at + 1], TOOL_HELP) == 0) {
            c->tool_help = true;
            at++;
            continue;
        }
        if (!cli_parse(&command, argc - at, argv + at, on_option, c, &next, ret_helped, err))
            return false;
        if (*ret_helped)
            return true;
        at += next;
        if (at < argc)
            c->words[c->word_count++] = argv[at];
    }
    return true;
}

/* ---- the server ---- */

static bool start(struct call_command *c, int64_t deadline_ns, struct error *err)
{
    const char *own[9] = { "/proc/self/exe", "mcp" };
    size_t n = 2;

    if (c->socket) {
        own[n++] = "--connect";
        own[n++] = c->socket;
    } else {
        own[n++] = "--no-pool";
    }
    if (c->config_path) {
        own[n++] = "--config";
        own[n++] = c->config_path;
    }
    if (c->agent) {
        own[n++] = "--agent";
        own[n++] = c->agent;
    }
    c->client = call_client_new(c->server ? (const char *const *)c->server : own, deadline_ns, err);
    return c->client != NULL;
}

/* Borrowed; NULL when there is none of this name, or @err when asking failed. */
static json_t *find_tool(struct call_command *c, const char *name, int64_t deadline_ns,
                         struct error *err)
{
    if (!c->tools)
        c->tools = call_client_tools(c->client, deadline_ns, err);
    for (size_t i = 0; i < json_array_size(c->tools); i++) {
        json_t *tool = json_array_get(c->tools, i);
        const char *its = json_string_value(json_object_get(tool, "name"));

        if (its && strcmp(its, name) == 0)
            return tool;
    }
    if (c->tools)
        error_set(err, ERR_INVALID, "there is no tool \"%.100s\"; `aios call --list` names them",
                  name);
    return NULL;
}

static int code_of(const struct error *err)
{
    return err->code == ERR_INVALID ? CLI_USAGE : CLI_FAILED;
}

static json_t *read_args(struct call_command *c, char *const *words, size_t count,
                         int64_t deadline_ns, struct error *err)
{
    const json_t *tool = NULL;

    if (call_args_ambiguous(words + 1, count - 1)) {
        tool = find_tool(c, words[0], deadline_ns, err);
        if (!tool)
            return NULL;
    }
    return call_args_read(words + 1, count - 1, json_object_get(tool, "inputSchema"), err);
}

/* One call: the exit code. */
static int call(struct call_command *c, char *const *words, size_t count, int64_t deadline_ns)
{
    struct error err = ERROR_INIT;
    json_t *args = read_args(c, words, count, deadline_ns, &err);
    json_t *result;
    bool ok, failed;

    if (!args)
        return cli_fail("call", code_of(&err), &err);
    result = call_client_request(c->client, "tools/call",
                                 json_pack("{s:s, s:o}", "name", words[0], "arguments", args),
                                 deadline_ns, &err);
    if (!result)
        return cli_fail("call", code_of(&err), &err);
    ok = call_print_result(words[0], result, c->folder, c->json, &err);
    failed = json_is_true(json_object_get(result, "isError"));
    json_decref(result);
    if (!ok)
        return cli_fail("call", CLI_FAILED, &err);
    return failed ? CLI_FAILED : CLI_OK;
}

static int call_line(struct call_command *c, const char *line)
{
    struct error err = ERROR_INIT;
    char **words;
    size_t count;
    int code = CLI_OK;

    if (line[strspn(line, " \t\r\n")] == '#')
        return CLI_OK;
    if (!call_args_split(line, &words, &count, &err))
        return cli_fail("call", CLI_USAGE, &err);
    if (count > 0)
        code = call(c, words, count, clock_add_ns(clock_now_ns(), ANSWER_NS));
    free(words);
    return code;
}

static int call_lines(struct call_command *c)
{
    char *line = NULL;
    size_t size = 0;
    int worst = CLI_OK;

    while (getline(&line, &size, stdin) >= 0) {
        int code = call_line(c, line);

        worst = MAX(worst, code);
    }
    free(line);
    return worst;
}

static int show_tools(struct call_command *c, int64_t deadline_ns)
{
    struct error err = ERROR_INIT;

    if (c->list) {
        c->tools = call_client_tools(c->client, deadline_ns, &err);
        call_print_list(c->tools);
        return c->tools ? CLI_OK : cli_fail("call", CLI_FAILED, &err);
    }
    if (!find_tool(c, c->words[0], deadline_ns, &err))
        return cli_fail("call", code_of(&err), &err);
    call_print_tool(find_tool(c, c->words[0], deadline_ns, &err));
    return CLI_OK;
}

static int perform(struct call_command *c)
{
    int64_t deadline_ns = clock_add_ns(clock_now_ns(), ANSWER_NS);
    struct error err = ERROR_INIT;
    int code;

    if (!start(c, deadline_ns, &err))
        return cli_fail("call", CLI_FAILED, &err);
    if (c->list || c->tool_help)
        code = show_tools(c, deadline_ns);
    else if (strcmp(c->words[0], "-") == 0)
        code = call_lines(c);
    else
        code = call(c, c->words, c->word_count, deadline_ns);
    call_client_free(c->client);
    json_decref(c->tools);
    return code;
}

int cli_call(int argc, char **argv)
{
    struct call_command c = { .folder = "." };
    struct error err = ERROR_INIT;
    bool helped = false;
    int code = CLI_OK;
    bool ok;

    c.words = calloc((size_t)argc + 1, sizeof *c.words);
    ok = c.words || error_set(&err, ERR_NOMEM, "arguments");
    ok = ok && cut_server(&c, &argc, argv, &err) && read_words(&c, argc, argv, &helped, &err);
    if (ok && !helped && (c.socket != NULL) + (c.config_path != NULL) + (c.server != NULL) > 1)
        ok = error_set(&err, ERR_INVALID, "of --connect, --config and --server only one is taken");
    if (ok && !helped && c.agent && c.server)
        ok =
            error_set(&err, ERR_INVALID, "--agent is given to `aios mcp`; --server starts another");
    if (ok && !helped && c.word_count == 0 && !c.list)
        ok = error_set(&err, ERR_INVALID, "which tool? `aios call --list` names them");
    if (!ok)
        code = cli_fail("call", CLI_USAGE, &err);
    else if (!helped)
        code = perform(&c);
    free(c.words);
    return code;
}
