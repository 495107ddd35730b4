/* aios mcp: an MCP server on standard input and output. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "kernel/base/fd.h"
#include "mcp/server.h"
#include "mcp/stdio.h"
#include "tools/cli/cli.h"
#include "tools/cli/relay.h"
#include "tools/cli/serve_socket.h"

const char cli_instructions[] =
    "AIOS gives you a Linux computer of your own, isolated from the "
    "user's machine. terminal_run runs "
    "shell commands, code_run keeps Python, JavaScript, bash or C "
    "state between calls, file_* read, "
    "write, edit, list and search files. A default computer is made "
    "on first use; its working folder is "
    "/workspace and it has no network. For network access call "
    "computer_create with \"allow\" and pass "
    "its handle as \"computer\". A call answers within 45 s; what "
    "takes longer goes on as a run to be "
    "read with terminal_read. computer_create with \"from\" copies a computer "
    "before something risky, with kind \"vm\" it makes a virtual machine. What the computer "
    "refuses is told in the answer. Nothing here changes the user's "
    "own files except file_transfer, "
    "where the user has allowed it. memory_save and "
    "memory_search keep and find notes over sessions, storage_* keep "
    "values with versions, agent_context puts your work aside and takes "
    "it up again, llm_query asks another model.";

struct mcp_command {
    const char *config_path;
    const char *socket; /* of a server to connect to; "" is the usual one, NULL none */
    const char *agent;
    bool own;          /* an option was given that is the server's business */
    json_t *overrides; /* owned */
    struct cli_engine engine;
};

static const struct cli_option options[] = {
    { "config", "FILE", "use this configuration file instead of the user's own" },
    { "connect", "SOCKET",
      "carry the conversation to the server that listens there (`aios serve`; \"\" for its usual "
      "place) instead of being one" },
    { "agent", "NAME", "who the calls are for, in access rules and the audit (default: default)" },
    { "tools", "GROUPS",
      "offer these groups alone, comma separated, such as computer,terminal,code,file; all: those "
      "of the kernel too (memory, storage, llm, agent), which are not listed to models else" },
    { "no-pool", NULL, "prepare no computers ahead" },
    { "log", "LEVEL", "error, warn, info or debug, on standard error" },
    { NULL },
};

static const struct cli_command command = {
    .name = "mcp",
    .synopsis = "[OPTIONS]",
    .about =
        "Serves the Model Context Protocol (2024-11-05 to 2026-07-28) on standard input and "
        "output.\n"
        "An LLM host starts it; tools/dev/demo prints the entry for the host's configuration.\n"
        "Ends with its input; nothing that it started outlives it.\n"
        "\n"
        "Exit codes: 0 its input has ended, or SIGTERM came; 1 it could not start, or lost the\n"
        "server that it was connected to (standard error says why); 2 wrong usage.",
    .options = options,
};

/* overrides.@section.@key = @value (taken). */
static bool override(json_t *overrides, const char *section, const char *key, json_t *value,
                     struct error *err)
{
    json_t *object = json_object_get(overrides, section);

    if (!object) {
        object = json_object();
        if (json_object_set_new(overrides, section, object) != 0)
            object = NULL;
    }
    if (!object || json_object_set_new(object, key, value) != 0)
        return error_set(err, ERR_NOMEM, "an option");
    return true;
}

static json_t *split(const char *list)
{
    json_t *array = json_array();

    while (array && *list) {
        size_t len = strcspn(list, ",");

        if (len > 0 && json_array_append_new(array, json_stringn(list, len)) != 0) {
            json_decref(array);
            return NULL;
        }
        list += len + (list[len] == ',');
    }
    return array;
}

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    struct mcp_command *c = arg;

    if (strcmp(name, "connect") == 0) {
        c->socket = value;
        return true;
    }
    if (strcmp(name, "agent") == 0)
        c->agent = value;
    else
        c->own = true;
    if (strcmp(name, "config") == 0)
        c->config_path = value;
    else if (strcmp(name, "agent") == 0)
        return override(c->overrides, "agent", "name", json_string(value), err);
    else if (strcmp(name, "tools") == 0)
        return override(c->overrides, "access", "groups", split(value), err);
    else if (strcmp(name, "no-pool") == 0)
        return override(c->overrides, "sandbox", "pool_size", json_integer(0), err) &&
               override(c->overrides, "vm", "pool_size", json_integer(0), err);
    else if (strcmp(name, "log") == 0)
        return override(c->overrides, "log", "level", json_string(value), err);
    return true;
}

static void on_end(void *arg)
{
    struct mcp_command *c = arg;

    loop_stop(c->engine.loop);
}

static void on_first_answer(void *arg)
{
    struct mcp_command *c = arg;

    computers_warm(kernel_computers(c->engine.kernel));
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct mcp_command *c = handle->data;

    (void)signum;
    loop_stop(c->engine.loop);
}

static void watch_signal(struct mcp_command *c, uv_signal_t *handle, int signum)
{
    if (uv_signal_init(loop_uv(c->engine.loop), handle) != 0)
        return;
    handle->data = c;
    (void)uv_signal_start(handle, on_signal, signum);
}

static bool serve(struct mcp_command *c, struct error *err)
{
    const struct config *config = c->engine.config;
    CLEANUP(agent_unrefp)
    struct agent *agent = kernel_agent_known(c->engine.kernel, config->agent.name, err);
    struct mcp_options mcp = { .kernel = c->engine.kernel,
                               .agent = agent,
                               .instructions = cli_instructions,
                               .on_end = on_end,
                               .on_first_answer = on_first_answer,
                               .arg = c };
    uv_signal_t term, intr, hup;
    struct mcp_server *server;

    if (!agent || !stdio_take(&mcp.in_fd, &mcp.out_fd, err))
        return false;
    server = mcp_server_new(c->engine.loop, &mcp, err);
    if (!server) {
        fd_close(mcp.in_fd);
        fd_close(mcp.out_fd);
        return false;
    }
    watch_signal(c, &term, SIGTERM);
    watch_signal(c, &intr, SIGINT);
    watch_signal(c, &hup, SIGHUP);
    loop_run(c->engine.loop);
    mcp_server_free(server);
    /* Here, since the loop closes the signal handles above. */
    cli_engine_stop(&c->engine);
    return true;
}

static bool carry(struct mcp_command *c, struct error *err)
{
    CLEANUP(fd_closep) int sock = -1;
    CLEANUP(fd_closep) int in = -1;
    CLEANUP(fd_closep) int out = -1;

    if (c->own)
        return error_set(err, ERR_INVALID,
                         "with --connect only --agent has a meaning here; the rest is given to "
                         "`aios serve`");
    sock = serve_socket_connect(*c->socket ? c->socket : NULL, err);
    return sock >= 0 && stdio_take(&in, &out, err) && relay_run(in, out, sock, c->agent, err);
}

int cli_mcp(int argc, char **argv)
{
    struct mcp_command c = { .overrides = json_object() };
    struct error err = ERROR_INIT;
    bool helped;
    bool ok;
    int next;

    if (!c.overrides || !cli_parse(&command, argc, argv, on_option, &c, &next, &helped, &err)) {
        json_decref(c.overrides);
        return cli_fail("mcp", CLI_USAGE, &err);
    }
    if (helped || next < argc) {
        json_decref(c.overrides);
        if (helped)
            return CLI_OK;
        error_set(&err, ERR_INVALID, "\"%s\" is not expected; `aios mcp --help` lists the options",
                  argv[next]);
        return cli_fail("mcp", CLI_USAGE, &err);
    }
    if (c.socket) {
        ok = carry(&c, &err);
        json_decref(c.overrides);
        return ok ? CLI_OK : cli_fail("mcp", CLI_FAILED, &err);
    }
    ok = cli_engine_start(&c.engine, c.config_path, c.overrides, &err);
    if (ok) {
        ok = serve(&c, &err);
        cli_engine_stop(&c.engine);
    }
    json_decref(c.overrides);
    return ok ? CLI_OK : cli_fail("mcp", CLI_FAILED, &err);
}
