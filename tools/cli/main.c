/* aios - one program, several commands. */
#include <stdio.h>
#include <string.h>

#include "tools/cli/cli.h"

static const struct {
    const char *name;
    cli_fn *fn;
    const char *about;
} commands[] = {
    { "mcp", cli_mcp, "serve the Model Context Protocol on standard input and output" },
    { "serve", cli_serve, "serve one kernel to many hosts and programs on a socket" },
    { "run", cli_run, "run one command in a sandbox of its own" },
    { "call", cli_call, "call one tool, as an MCP client" },
    { "ps", cli_ps, "list the computers of your running servers" },
    { "vm", cli_vm, "list virtual machines, their memory, and the templates on disk" },
    { "screen", cli_screen, "save what a computer's screen shows as PNG" },
    { "doctor", cli_doctor, "say what this machine offers, what is missing and how to get it" },
    { "audit", cli_audit, "show and verify the audit log" },
    { "config", cli_config, "show the configuration and every key" },
    { "image", cli_image, "build, list and check the disks of virtual machines" },
    { "version", cli_version, "print the version" },
};

static void usage(FILE *out)
{
    fprintf(
        out,
        "aios - a computer of its own for every LLM agent\n\nusage: aios COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].about);
    fprintf(
        out,
        "\n`aios COMMAND --help` tells more. Exit codes: 0 success, 1 failed, 2 wrong usage.\n");
}

int cli_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("aios %s\n", AIOS_VERSION);
    return CLI_OK;
}

/* This one can resolve them. */
void cli_need_names(void)
{
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    cli_begin();
    if (!name) {
        usage(stderr);
        return CLI_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return CLI_OK;
    }
    if (strcmp(name, "--version") == 0)
        return cli_version(argc - 1, argv + 1);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].fn(argc - 1, argv + 1);
    fprintf(stderr, "aios: there is no command \"%s\"; `aios help` lists them\n", name);
    return CLI_USAGE;
}
